use super::*;
use crate::error::{kind, render_line};
use tempfile::TempDir;

/// A tree with resctrl's names; a group `shared` has schemata and can be monitored.
fn tree() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    for path in ["info/L3", "info/MB", "info/L3_MON", "mon_groups", "mon_data", "shared/mon_groups"]
    {
        std::fs::create_dir_all(root.join(path)).unwrap();
    }
    for (path, text) in [
        ("schemata", "    MB:0=100;1=100\n    L3:0=7ff;1=7ff\n"),
        ("tasks", "1\n"),
        ("shared/schemata", "    MB:0= 30;1=100\n    L3:0=00f;1=7ff\n"),
        ("shared/tasks", ""),
        ("info/last_cmd_status", "ok\n"),
        ("info/MB/bandwidth_gran", "10\n"),
    ] {
        std::fs::write(root.join(path), text).unwrap();
    }
    dir
}

fn plan(clos: Option<&str>, schemata: &[&str], monitoring: bool) -> RdtPlan {
    let schemata = schemata.iter().map(|line| (*line).to_owned()).collect();
    RdtPlan { clos: clos.map(str::to_owned), schemata, monitoring }
}

fn refused(plan: &RdtPlan, root: &Path) -> String {
    render_line(&RdtGroup::choose(plan, "web", root).unwrap_err())
}

#[test]
fn a_group_by_the_containers_id_comes_and_goes() {
    let dir = tree();
    let plan = plan(None, &["L3:0=f", "MB:0=20", "L3:0=3"], false);
    let group = RdtGroup::choose(&plan, "web", dir.path()).unwrap();
    let path = dir.path().join("web");
    assert!(!path.exists());
    group.make(&plan.schemata).unwrap();
    let text = std::fs::read_to_string(path.join("schemata")).unwrap();
    assert_eq!(text, "L3:0=f\nMB:0=20\nL3:0=3\n");
    group.enter(1234).unwrap();
    assert_eq!(std::fs::read_to_string(path.join("tasks")).unwrap(), "1234");
    // As the kernel does with the files of a group.
    for file in ["schemata", "tasks"] {
        std::fs::remove_file(path.join(file)).unwrap();
    }
    group.remove().unwrap();
    assert!(!path.exists());
    group.remove().unwrap();
}

#[test]
fn a_group_that_was_there_stays() {
    let dir = tree();
    for plan in [plan(Some("shared"), &[], true), plan(None, &[], false)] {
        std::fs::create_dir_all(dir.path().join("web")).unwrap();
        let group = RdtGroup::choose(&plan, "web", dir.path()).unwrap();
        group.make(&plan.schemata).unwrap();
        let monitor = dir.path().join("shared/mon_groups/web");
        assert_eq!(monitor.exists(), plan.monitoring);
        group.remove().unwrap();
        group.undo().unwrap();
        assert!(!monitor.exists() && dir.path().join("shared").exists());
        assert!(dir.path().join("web").exists());
    }
    // Nothing was written to it.
    let text = std::fs::read_to_string(dir.path().join("shared/schemata")).unwrap();
    assert!(text.starts_with("    MB:0= 30"));
}

#[test]
fn a_new_group_by_clos_id_stays_after_delete_and_goes_after_a_failure() {
    let dir = tree();
    let plan = plan(Some("gold"), &["L3:0=f"], false);
    let group = RdtGroup::choose(&plan, "web", dir.path()).unwrap();
    let path = dir.path().join("gold");
    group.make(&plan.schemata).unwrap();
    std::fs::remove_file(path.join("schemata")).unwrap();
    group.remove().unwrap();
    assert!(path.exists());
    // Another container is in it.
    std::fs::write(path.join("tasks"), "77\n").unwrap();
    group.undo().unwrap();
    assert!(path.exists());
    std::fs::remove_file(path.join("tasks")).unwrap();
    group.undo().unwrap();
    assert!(!path.exists());
}

#[test]
fn the_default_group() {
    let dir = tree();
    let plan = plan(Some("/"), &[], true);
    let group = RdtGroup::choose(&plan, "web", dir.path()).unwrap();
    group.make(&plan.schemata).unwrap();
    group.enter(9).unwrap();
    assert_eq!(std::fs::read_to_string(dir.path().join("tasks")).unwrap(), "9");
    assert_eq!(std::fs::read_to_string(dir.path().join("mon_groups/web/tasks")).unwrap(), "9");
}

#[test]
fn schemata_of_an_existing_group_must_match() {
    let dir = tree();
    let root = dir.path();
    for lines in [
        &["L3:0=f;1=7ff", "MB:0=30"][..],
        &["L3:1=7FF"],
        &["L3:0=0x0f"],
        // Rounded up to steps of ten.
        &["MB:0=25"],
        // The last line counts.
        &["L3:0=1", "L3:0=f"],
        &["L3:00=f"],
    ] {
        let choice = RdtGroup::choose(&plan(Some("shared"), lines, false), "web", root);
        assert!(choice.is_ok(), "{lines:?}: {choice:?}");
    }
    for lines in [&["L3:0=ff"][..], &["L3:0=f", "L3:0=1"], &["MB:0=35"], &["L3:5=f"], &["L2:0=f"]] {
        let text = refused(&plan(Some("shared"), lines, false), root);
        assert!(text.contains("differs from the schemata of"), "{lines:?}: {text}");
    }
    assert_eq!(
        refused(&plan(Some("shared"), &["L3:0=ff"], false), Path::new(root)),
        format!(
            "config.json: linux.intelRdt: L3:0=ff differs from the schemata of {}/shared, which \
             has 0=f; hint: a group that exists is not changed: give its schemata, none, or \
             another closID",
            root.display()
        )
    );
}

#[test]
fn what_cannot_be_is_refused_before_anything_is_made() {
    let dir = tree();
    let root = dir.path();
    let text = refused(&plan(Some("nope"), &[], false), root);
    assert!(text.starts_with("config.json: linux.intelRdt.closID: there is no "), "{text}");
    let text = refused(&plan(Some("info"), &[], false), root);
    assert!(text.contains("resctrl keeps info for itself"), "{text}");
    std::fs::create_dir(root.join("shared/mon_groups/web")).unwrap();
    let text = refused(&plan(Some("shared"), &[], true), root);
    assert!(text.contains("enableMonitoring") && text.contains("exists already"), "{text}");
    std::fs::remove_dir(root.join("mon_groups")).unwrap();
    let error = RdtGroup::choose(&plan(None, &[], true), "web", root).unwrap_err();
    assert_eq!(kind(&error), Kind::Unsupported);
    assert!(!root.join("web").exists());
}

#[test]
fn a_failure_is_explained_by_the_kernel_and_undone() {
    let dir = tree();
    let root = dir.path();
    let plan = plan(Some("gold"), &["L3:0=f"], true);
    let group = RdtGroup::choose(&plan, "web", root).unwrap();
    // The tree makes no mon_groups in a new group, as if the machine had no more of them.
    std::fs::write(root.join("info/last_cmd_status"), "Out of RMIDs\n").unwrap();
    let text = render_line(&group.make(&[]).unwrap_err());
    assert!(text.contains("cannot make ") && text.contains("Out of RMIDs: no such file"), "{text}");
    assert!(!root.join("gold").exists());
}

#[test]
fn a_process_of_exec_enters_what_is_left() {
    let dir = tree();
    let group = RdtGroup::choose(&plan(Some("shared"), &[], false), "web", dir.path()).unwrap();
    group.enter_later(5).unwrap();
    assert_eq!(std::fs::read_to_string(dir.path().join("shared/tasks")).unwrap(), "5");
    std::fs::remove_dir_all(dir.path().join("shared")).unwrap();
    group.enter_later(6).unwrap();
    assert!(!dir.path().join("shared").exists());
}

#[test]
fn stats_have_the_shape_of_runc() {
    let dir = tree();
    let root = dir.path();
    let monitor = root.join("shared/mon_groups/web");
    for (path, text) in [
        ("info/L3/cbm_mask", "7ff\n"),
        ("info/L3/min_cbm_bits", "1\n"),
        ("info/L3/num_closids", "16\n"),
        ("info/MB/delay_linear", "1\n"),
        ("info/MB/min_bandwidth", "10\n"),
        ("info/MB/num_closids", "8\n"),
        ("info/L3_MON/mon_features", "llc_occupancy\nmbm_total_bytes\nmbm_local_bytes\n"),
    ] {
        std::fs::write(root.join(path), text).unwrap();
    }
    let plan = plan(Some("shared"), &[], true);
    let group = RdtGroup::choose(&plan, "web", root).unwrap();
    group.make(&[]).unwrap();
    for (domain, count) in [("mon_L3_00", "5"), ("mon_L3_01", "Unavailable")] {
        let data = monitor.join("mon_data").join(domain);
        std::fs::create_dir_all(&data).unwrap();
        for counter in ["llc_occupancy", "mbm_total_bytes", "mbm_local_bytes"] {
            std::fs::write(data.join(counter), count).unwrap();
        }
    }
    assert_eq!(
        serde_json::Value::from(group.stats().unwrap()),
        serde_json::json!({
            "l3_cache_info": {"cbm_mask": "7ff", "min_cbm_bits": 1, "num_closids": 16},
            "l3_cache_schema_root": "L3:0=7ff;1=7ff",
            "l3_cache_schema": "L3:0=00f;1=7ff",
            "mem_bw_info": {
                "bandwidth_gran": 10, "delay_linear": 1, "min_bandwidth": 10, "num_closids": 8,
            },
            "mem_bw_schema_root": "MB:0=100;1=100",
            "mem_bw_schema": "MB:0= 30;1=100",
            "schemata": ["MB:0= 30;1=100", "L3:0=00f;1=7ff"],
            "mbm_stats": [{"mbm_total_bytes": 5, "mbm_local_bytes": 5}, {}],
            "cmt_stats": [{"llc_occupancy": 5}, {}],
        })
    );
}
