//! Against the kernel, as [`super::tests`]: devices, freezing, killing, removing, exec, counters.

use std::fs;
use std::time::{Duration, Instant};

use super::tests::{Fixture, gone, resources};
use super::*;

#[test]
fn v1_devices_are_as_the_kernel_lists_them() {
    let Some(fixture) = Fixture::new() else { return };
    let cgroup = Cgroup::create(&fixture.plan).unwrap();
    cgroup
        .restrict_devices(&resources(
            r#"{"devices": [{"allow": false, "access": "rwm"},
                            {"allow": true, "type": "b", "major": 8, "minor": 0, "access": "r"}]}"#,
        ))
        .unwrap();
    let list = fixture.read("devices", "devices.list");
    let mut lines: Vec<&str> = list.lines().collect();
    lines.sort_unstable();
    assert_eq!(
        lines,
        [
            "b *:* m",
            "b 8:0 r",
            "c *:* m",
            "c 10:200 rwm",
            "c 136:* rwm",
            "c 1:3 rwm",
            "c 1:5 rwm",
            "c 1:7 rwm",
            "c 1:8 rwm",
            "c 1:9 rwm",
            "c 5:0 rwm",
            "c 5:2 rwm",
        ]
    );
    cgroup
        .restrict_devices(&resources(r#"{"devices": [{"allow": true, "access": "rwm"}]}"#))
        .unwrap();
    assert_eq!(fixture.read("devices", "devices.list"), "a *:* rwm");
}

#[test]
fn v2_device_filter_bites_and_is_replaced() {
    let Some(mut fixture) = Fixture::new() else { return };
    // Only the v2 tree, so that v1's devices controller has no part in it.
    fixture.plan.groups.retain(|g| g.version == Version::V2);
    let Some(group) = fixture.plan.groups.first().cloned() else { return };
    fs::create_dir(&group.path).unwrap();
    let cgroup = Cgroup::open(&fixture.plan).unwrap();
    // 1:11 is /dev/kmsg.
    let script = "true < /dev/zero && true > /dev/null || exit 3; true < /dev/kmsg || exit 1";
    for (rules, want) in [
        ("[]", 1),
        (r#"[{"allow": true, "type": "c", "major": 1, "minor": 11, "access": "r"}]"#, 0),
        (r#"[{"allow": true, "type": "c", "major": 1, "minor": 11, "access": "w"}]"#, 1),
        (r#"[{"allow": true, "access": "rwm"}]"#, 0),
        (
            r#"[{"allow": true, "access": "rwm"},
                {"allow": false, "type": "c", "major": 1, "minor": 11, "access": "rw"}]"#,
            1,
        ),
    ] {
        cgroup.restrict_devices(&resources(&format!(r#"{{"devices": {rules}}}"#))).unwrap();
        assert_eq!(
            crate::sys::bpf::device_programs(cgroup.clone_into().unwrap()).unwrap().len(),
            1
        );
        fixture.run(&cgroup, script);
        assert_eq!(fixture.status_of_last().code(), Some(want), "{rules}");
    }
}

#[test]
fn frozen_and_thawed() {
    let Some(mut fixture) = Fixture::new() else { return };
    let cgroup = Cgroup::create(&fixture.plan).unwrap();
    fixture.run(&cgroup, "while :; do :; done");
    assert!(!cgroup.is_frozen().unwrap());
    cgroup.freeze().unwrap();
    assert!(cgroup.is_frozen().unwrap());
    assert_eq!(fixture.read("freezer", "freezer.state"), "FROZEN");
    let used = fixture.read("cpuacct", "cpuacct.usage");
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!(fixture.read("cpuacct", "cpuacct.usage"), used);
    cgroup.thaw().unwrap();
    assert_eq!(fixture.read("freezer", "freezer.state"), "THAWED");
    if !fixture.has_v2() {
        return;
    }
    // The freezer of the v2 tree alone, as on a pure v2 machine.
    let v2 = Cgroup::of(
        Cgroup::open(&fixture.plan)
            .unwrap()
            .groups
            .into_iter()
            .filter(|g| g.plan.version == Version::V2)
            .collect(),
    );
    v2.freeze().unwrap();
    assert!(v2.is_frozen().unwrap());
    assert!(fixture.read("", "cgroup.events").contains("frozen 1"));
    v2.thaw().unwrap();
    assert!(!v2.is_frozen().unwrap());
}

#[test]
fn killed_with_all_below_even_when_frozen() {
    for (signal, frozen, v2) in [
        (libc::SIGKILL, false, true),
        (libc::SIGKILL, true, true),
        (libc::SIGKILL, false, false),
        (libc::SIGKILL, true, false),
        (libc::SIGTERM, false, true),
        (libc::SIGRTMIN(), false, true),
    ] {
        let Some(mut fixture) = Fixture::new() else { return };
        if !v2 {
            fixture.plan.groups.retain(|g| g.version == Version::V1);
        }
        let cgroup = Cgroup::create(&fixture.plan).unwrap();
        fixture.run(&cgroup, "sleep 60 & sleep 60 & wait");
        for group in &fixture.plan.groups {
            fs::create_dir(group.path.join("sub")).unwrap();
        }
        for file in ["cpuset.cpus", "cpuset.mems"] {
            fs::write(fixture.path("cpuset").join("sub").join(file), "0").unwrap();
        }
        let sub = Cgroup::open(&fixture.plan).unwrap().for_exec(&["sub".to_owned()], 0).unwrap();
        fixture.run(&sub, "exec sleep 60");
        let start = Instant::now();
        while cgroup.processes(true).unwrap().len() != 4 {
            assert!(start.elapsed() < Duration::from_secs(5));
        }
        assert_eq!(cgroup.processes(false).unwrap().len(), 3);
        if frozen {
            cgroup.freeze().unwrap();
        }
        cgroup.kill_all(signal).unwrap();
        for child in &mut fixture.children {
            use std::os::unix::process::ExitStatusExt;
            let start = Instant::now();
            let status = loop {
                if let Some(status) = child.try_wait().unwrap() {
                    break status;
                }
                assert!(start.elapsed() < Duration::from_secs(5), "signal {signal} did not end it");
                std::thread::sleep(Duration::from_millis(1));
            };
            assert_eq!(status.signal(), Some(signal));
        }
        Cgroup::remove(&fixture.plan).unwrap();
        assert!(gone(&fixture));
    }
}

#[test]
fn removal_takes_what_the_container_made() {
    let Some(fixture) = Fixture::new() else { return };
    Cgroup::create(&fixture.plan).unwrap();
    let mut deep = fixture.path("pids");
    for _ in 0..300 {
        deep.push("deeper-and-deeper");
        if fs::create_dir(&deep).is_err() {
            break;
        }
    }
    for name in ["a", "b", "c"] {
        fs::create_dir_all(fixture.path("freezer").join(name).join("x")).unwrap();
    }
    Cgroup::remove(&fixture.plan).unwrap();
    assert!(gone(&fixture));
}

#[test]
fn removal_says_who_is_in_the_way() {
    let Some(mut fixture) = Fixture::new() else { return };
    let cgroup = Cgroup::create(&fixture.plan).unwrap();
    let pid = fixture.run(&cgroup, "exec sleep 60");
    let start = Instant::now();
    let error = remove::remove_within(&fixture.plan, Duration::from_millis(30)).unwrap_err();
    assert!(start.elapsed() < Duration::from_secs(3));
    let text = crate::error::render_line(&error);
    assert!(text.contains(&format!("held by 1 process(es): {pid}")), "{text}");
    assert!(text.ends_with("device or resource busy"), "{text}");
}

#[test]
fn exec_into_groups_below() {
    let Some(mut fixture) = Fixture::new() else { return };
    let cgroup = Cgroup::create(&fixture.plan).unwrap();
    fs::create_dir(fixture.path("pids").join("sub")).unwrap();
    let init = fixture.run(&cgroup, "exec sleep 60");
    let sub = Cgroup::open(&fixture.plan).unwrap().for_exec(&["pids,memory:/sub".to_owned()], init);
    assert!(format!("{:#}", sub.unwrap_err()).contains("cannot open cgroup"), "memory has none");
    let sub =
        Cgroup::open(&fixture.plan).unwrap().for_exec(&["pids:sub".to_owned()], init).unwrap();
    let pid = fixture.run(&sub, "exec sleep 60");
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let own = format!("/{}", fixture.path("pids").file_name().unwrap().display());
    assert!(groups.contains(&format!(":pids:{own}/sub\n")), "{groups}");
    assert!(groups.contains(&format!(":memory:{own}\n")), "{groups}");
    for (subs, want) in [
        (vec!["../x"], "leads out"),
        (vec!["a", "b"], "each needs its CONTROLLER"),
        (vec!["none:a"], "no \"none\" controller"),
        (vec![":a"], "no \"\" controller"),
        (vec!["pids:a", "pids:b"], "two paths for the hierarchy of pids"),
        (vec!["gone"], "cannot open cgroup"),
    ] {
        let subs: Vec<String> = subs.into_iter().map(str::to_owned).collect();
        let error =
            Cgroup::open(&fixture.plan).unwrap().for_exec(&subs, init).unwrap_err().to_string();
        assert!(error.contains(want), "{error}");
    }
    Cgroup::open(&fixture.plan).unwrap().for_exec(&[], init).unwrap();
}

#[test]
fn running_out_of_memory_is_told() {
    let Some(mut fixture) = Fixture::new() else { return };
    let cgroup = Cgroup::create(&fixture.plan).unwrap();
    cgroup.apply(&resources(r#"{"memory": {"limit": 8388608, "swap": 8388608}}"#)).unwrap();
    let mut watch = cgroup.oom_events().unwrap().unwrap();
    assert_eq!(watch.next_event().unwrap(), OomEvent::Nothing);
    // tail keeps the line, which is as long as the input.
    fixture.run(&cgroup, "head -c 64M /dev/zero | tail");
    fixture.status_of_last();
    let wait = |watch: &OomWatch| {
        let mut fds = [nix::poll::PollFd::new(watch.fd(), nix::poll::PollFlags::POLLIN)];
        nix::poll::poll(&mut fds, 5000u16).unwrap()
    };
    assert_eq!(wait(&watch), 1);
    assert_eq!(watch.next_event().unwrap(), OomEvent::Oom);
    Cgroup::remove(&fixture.plan).unwrap();
    assert_eq!(wait(&watch), 1);
    assert_eq!(watch.next_event().unwrap(), OomEvent::End);
}

#[test]
fn counters_have_runcs_keys() {
    let Some(mut fixture) = Fixture::new() else { return };
    let cgroup = Cgroup::create(&fixture.plan).unwrap();
    cgroup.apply(&resources(r#"{"pids": {"limit": 9}}"#)).unwrap();
    fixture.run(&cgroup, "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done; exec sleep 60");
    std::thread::sleep(Duration::from_millis(50));
    let stats = serde_json::to_value(cgroup.stats().unwrap()).unwrap();
    let keys = |path: &str| {
        let object = stats.pointer(path).unwrap().as_object().unwrap();
        object.keys().cloned().collect::<BTreeSet<_>>()
    };
    // As `runc events --stats` (1.1.5) prints them on such a machine.
    for (path, want) in [
        ("", "blkio cpu cpuset hugetlb intel_rdt memory network_interfaces pids"),
        ("/cpu", "throttling usage"),
        ("/cpu/usage", "kernel percpu percpu_kernel percpu_user total user"),
        (
            "/cpuset",
            "cpu_exclusive cpus mem_exclusive mem_hardwall memory_migrate memory_pressure \
             memory_spread_page memory_spread_slab mems sched_load_balance \
             sched_relax_domain_level",
        ),
        ("/memory/usage", "failcnt limit max usage"),
        ("/memory/swap", "failcnt limit max usage"),
        ("/memory/kernelTCP", "failcnt limit"),
        ("/pids", "current limit"),
    ] {
        let want: BTreeSet<String> = want.split_whitespace().map(str::to_owned).collect();
        assert_eq!(keys(path), want, "{path}");
    }
    assert_eq!(stats["pids"], serde_json::json!({"current": 1, "limit": 9}));
    assert!(keys("/memory/raw").contains("total_rss"));
    assert_ne!(stats["cpu"]["usage"]["total"], 0);
}
