//! Against the kernel: as root on a machine with cgroup v2 alone (as in the test VM), in a group
//! of our own.

use std::fs;
use std::io::Write;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::*;

struct Fixture {
    plan: CgroupPlan,
    children: Vec<Child>,
}

impl Fixture {
    fn new(name: &str) -> Option<Fixture> {
        let hosts = hierarchies().unwrap();
        let pure = matches!(hosts.as_slice(), [only] if only.version == Version::V2);
        if !pure || !nix::unistd::geteuid().is_root() {
            eprintln!("skipped: needs root and cgroup v2 alone");
            return None;
        }
        let path = format!("/corten-unit-{}-{name}/container", std::process::id());
        let plan = CgroupPlan::build(&hosts, Some(Path::new(&path)), "unit").unwrap();
        Some(Fixture { plan, children: Vec::new() })
    }

    fn path(&self) -> &Path {
        &self.plan.groups[0].path
    }

    fn read(&self, file: &str) -> String {
        fs::read_to_string(self.path().join(file)).unwrap().trim().to_owned()
    }

    fn run(&mut self, cgroup: &Cgroup, script: &str) -> i32 {
        let mut child = Command::new("sh")
            .args(["-c", &format!("read go; {script}")])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let pid = child.id() as i32;
        let mut stdin = child.stdin.take().unwrap();
        self.children.push(child);
        cgroup.add_process(pid).unwrap();
        stdin.write_all(b"go\n").unwrap();
        pid
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = Cgroup::remove(&self.plan);
        if let Some(parent) = self.path().parent() {
            let _ = fs::remove_dir(parent);
        }
    }
}

fn resources(json: &str) -> ResourcesPlan {
    let resources: oci_spec::runtime::LinuxResources = serde_json::from_str(json).unwrap();
    ResourcesPlan::build(Some(&resources)).unwrap()
}

#[test]
fn every_controller_is_there_and_takes_limits() {
    let Some(fixture) = Fixture::new("limits") else { return };
    let cgroup = Cgroup::create(&fixture.plan).unwrap();
    let all = fs::read_to_string(fixture.plan.groups[0].mountpoint.join("cgroup.controllers"));
    assert_eq!(fixture.read("cgroup.controllers"), all.unwrap().trim());
    cgroup
        .apply(&resources(
            r#"{"memory": {"limit": 67108864, "swap": 134217728, "reservation": 33554432},
                "cpu": {"shares": 1024, "quota": 20000, "period": 50000, "burst": 1000,
                        "cpus": "0", "mems": "0"},
                "pids": {"limit": 33}, "unified": {"memory.high": "60000000"},
                "hugepageLimits": [{"pageSize": "2MB", "limit": 4194304}]}"#,
        ))
        .unwrap();
    for (file, want) in [
        ("memory.max", "67108864"),
        ("memory.swap.max", "67108864"),
        ("memory.low", "33554432"),
        ("memory.high", "59998208"),
        ("cpu.weight", "100"),
        ("cpu.max", "20000 50000"),
        ("cpu.max.burst", "1000"),
        ("cpuset.cpus", "0"),
        ("pids.max", "33"),
        ("hugetlb.2MB.max", "4194304"),
        ("hugetlb.2MB.rsvd.max", "4194304"),
    ] {
        assert_eq!(fixture.read(file), want, "{file}");
    }
    for (quota, period, burst) in
        [(5_000, 10_000, 1_000), (90_000, 100_000, 90_000), (4_000, 5_000, 0)]
    {
        let json =
            format!(r#"{{"cpu": {{"quota": {quota}, "period": {period}, "burst": {burst}}}}}"#);
        cgroup.update(&resources(&json)).unwrap();
        assert_eq!(fixture.read("cpu.max"), format!("{quota} {period}"));
        assert_eq!(fixture.read("cpu.max.burst"), burst.to_string());
    }
    let error = cgroup.apply(&resources(r#"{"network": {"classID": 1}}"#)).unwrap_err();
    assert!(format!("{error:#}").contains("network.classID: the net_cls controller is not in"));
    let error = cgroup.apply(&resources(r#"{"unified": {"nothing.max": "1"}}"#)).unwrap_err();
    assert!(format!("{error:#}").contains("the nothing controller is not in"), "{error:#}");
    let stats = serde_json::to_value(cgroup.stats().unwrap()).unwrap();
    assert_eq!(stats["memory"]["usage"]["limit"], 67_108_864);
    assert_eq!(stats["pids"], serde_json::json!({"limit": 33}));
    assert_eq!(stats["hugetlb"]["2MB"], serde_json::json!({"failcnt": 0}));
}

#[test]
fn devices_freezer_and_kill() {
    let Some(mut fixture) = Fixture::new("life") else { return };
    let cgroup = Cgroup::create(&fixture.plan).unwrap();
    cgroup.restrict_devices(&resources("{}")).unwrap();
    fixture.run(&cgroup, "true < /dev/zero || exit 3; true < /dev/kmsg || exit 1");
    assert_eq!(fixture.children[0].wait().unwrap().code(), Some(1));
    let init = fixture.run(&cgroup, "sleep 600 & wait");
    cgroup.freeze().unwrap();
    assert!(cgroup.is_frozen().unwrap());
    assert!(fixture.read("cgroup.events").contains("frozen 1"));
    cgroup.kill_all(libc::SIGKILL).unwrap();
    fixture.children[1].wait().unwrap();
    Cgroup::remove(&fixture.plan).unwrap();
    assert!(!fixture.path().exists(), "init was {init}");
}

#[test]
fn exec_goes_to_init_where_the_container_delegates() {
    let Some(mut fixture) = Fixture::new("nested") else { return };
    let cgroup = Cgroup::create(&fixture.plan).unwrap();
    fs::create_dir(fixture.path().join("init.scope")).unwrap();
    let sub = Cgroup::open(&fixture.plan).unwrap().for_exec(&["init.scope".to_owned()], 0).unwrap();
    let init = fixture.run(&sub, "exec sleep 600");
    fs::write(fixture.path().join("cgroup.subtree_control"), "+memory").unwrap();
    let exec = Cgroup::open(&fixture.plan).unwrap().for_exec(&[], init).unwrap();
    let pid = fixture.run(&exec, "exec sleep 600");
    assert_eq!(sub.processes(true).unwrap().len(), 2);
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    assert!(groups.trim().ends_with("/container/init.scope"), "{groups}");
    cgroup.kill_all(libc::SIGTERM).unwrap();
    for child in &mut fixture.children {
        child.wait().unwrap();
    }
}

#[test]
fn running_out_of_memory_is_told_and_so_is_the_end() {
    let Some(mut fixture) = Fixture::new("oom") else { return };
    let cgroup = Cgroup::create(&fixture.plan).unwrap();
    cgroup.apply(&resources(r#"{"memory": {"limit": 16777216, "swap": 16777216}}"#)).unwrap();
    let mut watch = cgroup.oom_events().unwrap().unwrap();
    fixture.run(&cgroup, "head -c 64M /dev/zero | tail");
    let start = Instant::now();
    let mut seen = Vec::new();
    while seen.last() != Some(&OomEvent::End) {
        assert!(start.elapsed() < Duration::from_secs(60), "{seen:?}");
        let mut fds = [nix::poll::PollFd::new(watch.fd(), nix::poll::PollFlags::POLLIN)];
        nix::poll::poll(&mut fds, 1000u16).unwrap();
        seen.push(watch.next_event().unwrap());
    }
    assert!(seen.contains(&OomEvent::Oom), "{seen:?}");
}

#[test]
fn given_to_a_user() {
    use std::os::unix::fs::MetadataExt;
    let Some(fixture) = Fixture::new("owner") else { return };
    Cgroup::create(&fixture.plan).unwrap().delegate(1234).unwrap();
    let owner = |file: &str| fs::metadata(fixture.path().join(file)).unwrap().uid();
    assert_eq!(owner("."), 1234);
    assert_eq!(owner("cgroup.procs"), 1234);
    assert_eq!(owner("cgroup.subtree_control"), 1234);
    assert_eq!(owner("memory.max"), 0);
    assert_eq!(owner("pids.max"), 0);
}

#[test]
fn a_group_below_threads_is_refused() {
    let Some(mut fixture) = Fixture::new("threaded") else { return };
    let outer = fixture.path().parent().unwrap().to_owned();
    fs::create_dir(&outer).unwrap();
    fs::write(outer.join("cgroup.type"), "threaded").unwrap();
    let error = Cgroup::create(&fixture.plan).unwrap_err().to_string();
    assert!(error.contains("a group above it is threaded"), "{error}");
    assert!(!fixture.path().exists());
    fixture.children.clear();
}

#[test]
fn a_group_with_processes_stays_what_it_is() {
    let Some(mut fixture) = Fixture::new("held") else { return };
    let outer = fixture.path().parent().unwrap().to_owned();
    fs::create_dir(&outer).unwrap();
    let holder = Command::new("sleep").arg("600").spawn().unwrap();
    fs::write(outer.join("cgroup.procs"), holder.id().to_string()).unwrap();
    fixture.children.push(holder);
    let cgroup = Cgroup::create(&fixture.plan).unwrap();
    assert_eq!(fs::read_to_string(outer.join("cgroup.type")).unwrap(), "domain\n");
    assert_eq!(fixture.read("cgroup.type"), "domain");
    cgroup.apply(&resources("{}")).unwrap();
    let error = cgroup.apply(&resources(r#"{"pids": {"limit": 5}}"#)).unwrap_err();
    let want = format!(
        "linux.resources.pids.limit: the pids controller cannot be switched on in {}: device or \
         resource busy",
        outer.display()
    );
    assert!(format!("{error:#}").ends_with(&want), "{error:#}");
}
