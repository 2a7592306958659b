use super::*;

const HYBRID_MOUNTS: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw,nsdelegate
";
const HYBRID_CGROUPS: &str = "\
12:perf_event:/
9:name=systemd:/user.slice/session-1.scope
4:memory:/jobs/a:b
2:cpu,cpuacct:/
0::/user.slice/session-1.scope
";

fn hierarchy(at: &str, controllers: &[&str], own: &str) -> Hierarchy {
    Hierarchy {
        mountpoint: at.into(),
        controllers: controllers.iter().map(|c| (*c).to_owned()).collect(),
        version: if controllers.is_empty() { Version::V2 } else { Version::V1 },
        own_path: own.into(),
    }
}

#[test]
fn hybrid_without_what_is_not_mounted() {
    assert_eq!(
        parse(HYBRID_MOUNTS, HYBRID_CGROUPS),
        [
            hierarchy("/sys/fs/cgroup/systemd", &["name=systemd"], "user.slice/session-1.scope"),
            hierarchy("/sys/fs/cgroup/memory", &["memory"], "jobs/a:b"),
            hierarchy("/sys/fs/cgroup/cpu,cpuacct", &["cpu", "cpuacct"], ""),
            hierarchy("/sys/fs/cgroup/unified", &[], "user.slice/session-1.scope"),
        ]
    );
}

#[test]
fn pure_v2() {
    let mounts = "30 23 0:26 / /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
    assert_eq!(
        parse(mounts, "0::/system.slice/x.service\n"),
        [hierarchy("/sys/fs/cgroup", &[], "system.slice/x.service")]
    );
}

#[test]
fn a_mount_that_shows_a_part_of_the_tree() {
    // In a container without a cgroup namespace: both files speak of the host's paths.
    let mounts = "\
700 600 0:32 /docker/4f /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory
701 600 0:33 /docker/4f /sys/fs/cgroup/pids ro - cgroup cgroup rw,pids
702 600 0:34 /docker/4f /sys/fs/cgroup/cpuset ro - cgroup cgroup rw,cpuset
";
    let cgroups = "5:memory:/docker/4f/sub\n4:pids:/docker/4f\n3:cpuset:/docker/other\n";
    assert_eq!(
        parse(mounts, cgroups),
        [
            hierarchy("/sys/fs/cgroup/memory", &["memory"], "sub"),
            hierarchy("/sys/fs/cgroup/pids", &["pids"], ""),
            hierarchy("/sys/fs/cgroup/cpuset", &["cpuset"], ""),
        ]
    );
}

#[test]
fn the_mount_that_shows_us_and_is_not_hidden_is_taken() {
    let mounts = "\
50 23 0:32 /other /mnt/a rw - cgroup cgroup rw,memory
51 23 0:32 / /mnt/b\\040c rw - cgroup cgroup rw,memory
60 23 0:33 / /mnt/d rw - cgroup cgroup rw,pids
61 60 0:99 / /mnt/d rw - tmpfs tmpfs rw
63 62 0:34 / /mnt/e rw - cgroup2 none rw
62 23 0:34 /x /mnt/e rw - cgroup2 none rw
";
    assert_eq!(
        parse(mounts, "4:memory:/jobs\n3:pids:/\n0::/x\n"),
        [hierarchy("/mnt/b c", &["memory"], "jobs"), hierarchy("/mnt/e", &[], "x")]
    );
}

fn paths(cgroups_path: Option<&str>) -> Vec<String> {
    let hosts = parse(HYBRID_MOUNTS, HYBRID_CGROUPS);
    let plan = CgroupPlan::build(&hosts, cgroups_path.map(Path::new), "web").unwrap();
    plan.groups.iter().map(|g| g.path.display().to_string()).collect()
}

#[test]
fn an_absolute_path_counts_from_the_mount_point() {
    assert_eq!(
        paths(Some("//pods/./web/")),
        [
            "/sys/fs/cgroup/systemd/pods/web",
            "/sys/fs/cgroup/memory/pods/web",
            "/sys/fs/cgroup/cpu,cpuacct/pods/web",
            "/sys/fs/cgroup/unified/pods/web",
        ]
    );
}

#[test]
fn a_relative_path_or_none_counts_from_our_own_group() {
    let want = [
        "/sys/fs/cgroup/systemd/user.slice/session-1.scope/web",
        "/sys/fs/cgroup/memory/jobs/a:b/web",
        "/sys/fs/cgroup/cpu,cpuacct/web",
        "/sys/fs/cgroup/unified/user.slice/web",
    ];
    assert_eq!(paths(None), want);
    assert_eq!(paths(Some("")), want);
    assert_eq!(paths(Some("web")), want);
}

#[test]
fn paths_that_lead_out_or_nowhere_are_refused() {
    let hosts = parse(HYBRID_MOUNTS, HYBRID_CGROUPS);
    for (path, want) in [
        ("/a/../b", "leads out"),
        ("..", "leads out"),
        ("/", "names the whole"),
        (".", "names the whole"),
        ("/a\nb", "line break"),
    ] {
        let error = CgroupPlan::build(&hosts, Some(Path::new(path)), "web").unwrap_err();
        assert!(error.to_string().contains(want), "{error}");
    }
    assert!(CgroupPlan::build(&[], None, "web").is_err());
}

#[test]
fn paths_by_controller_are_runcs() {
    let hosts = parse(HYBRID_MOUNTS, HYBRID_CGROUPS);
    let plan = CgroupPlan::build(&hosts, Some(Path::new("/x")), "web").unwrap();
    let paths: Vec<(String, String)> = plan
        .paths_by_controller()
        .into_iter()
        .map(|(controller, path)| (controller, path.display().to_string()))
        .collect();
    let pair = |a: &str, b: &str| (a.to_owned(), format!("/sys/fs/cgroup/{b}/x"));
    assert_eq!(
        paths,
        [
            pair("", "unified"),
            pair("cpu", "cpu,cpuacct"),
            pair("cpuacct", "cpu,cpuacct"),
            pair("memory", "memory"),
            pair("name=systemd", "systemd"),
        ]
    );
    let stored = serde_json::to_string(&plan).unwrap();
    assert_eq!(serde_json::from_str::<CgroupPlan>(&stored).unwrap(), plan);
}
