//! Against the kernel: as root, on a v1 or hybrid machine, in groups of our own. Making them, and
//! their limits.

use std::fs;
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::*;
use crate::error::kind;

static COUNT: AtomicU32 = AtomicU32::new(0);

/// A container's groups and processes; gone when dropped, whatever the test did.
pub(super) struct Fixture {
    pub plan: CgroupPlan,
    pub children: Vec<Child>,
}

impl Fixture {
    /// `None`, and a word about it, where these tests cannot run.
    pub fn new() -> Option<Fixture> {
        let hosts = hierarchies().unwrap();
        let usable = nix::unistd::geteuid().is_root()
            && ["memory", "cpu", "cpuset", "devices", "freezer", "pids"]
                .iter()
                .all(|c| hosts.iter().any(|h| h.controllers.iter().any(|have| have == c)));
        if !usable {
            eprintln!("skipped: needs root and cgroup v1, or v1 and v2");
            return None;
        }
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = format!("/corten-unit-{}-{number}", std::process::id());
        let plan = CgroupPlan::build(&hosts, Some(Path::new(&path)), "unit").unwrap();
        Some(Fixture { plan, children: Vec::new() })
    }

    pub fn path(&self, controller: &str) -> PathBuf {
        self.plan.paths_by_controller()[controller].clone()
    }

    pub fn read(&self, controller: &str, file: &str) -> String {
        fs::read_to_string(self.path(controller).join(file)).unwrap().trim().to_owned()
    }

    pub fn has_v2(&self) -> bool {
        self.plan.groups.iter().any(|g| g.version == Version::V2)
    }

    pub fn run(&mut self, cgroup: &Cgroup, script: &str) -> i32 {
        let child = Command::new("sh")
            .args(["-c", &format!("read go; {script}")])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let pid = child.id() as i32;
        self.children.push(child);
        cgroup.add_process(pid).unwrap();
        let mut stdin = self.children.last_mut().unwrap().stdin.take().unwrap();
        stdin.write_all(b"go\n").unwrap();
        pid
    }

    pub fn status_of_last(&mut self) -> std::process::ExitStatus {
        self.children.last_mut().unwrap().wait().unwrap()
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
        }
        if let Ok(cgroup) = Cgroup::open(&self.plan) {
            let _ = cgroup.kill_all(libc::SIGKILL);
            let _ = cgroup.thaw();
        }
        for child in &mut self.children {
            let _ = child.wait();
        }
        if let Err(error) = Cgroup::remove(&self.plan) {
            eprintln!("{error:#}");
        }
    }
}

pub(super) fn resources(json: &str) -> ResourcesPlan {
    let resources: oci_spec::runtime::LinuxResources = serde_json::from_str(json).unwrap();
    ResourcesPlan::build(Some(&resources)).unwrap()
}

pub(super) fn gone(fixture: &Fixture) -> bool {
    fixture.plan.groups.iter().all(|g| !g.path.exists())
}

#[test]
fn made_with_limits_and_removed() {
    let Some(fixture) = Fixture::new() else { return };
    let cgroup = Cgroup::create(&fixture.plan).unwrap();
    assert!(fixture.plan.groups.iter().all(|g| g.path.is_dir()));
    let parent = |file: &str| {
        let top = fixture.path("cpuset").parent().unwrap().join(file);
        fs::read_to_string(top).unwrap().trim().to_owned()
    };
    assert_eq!(fixture.read("cpuset", "cpuset.cpus"), parent("cpuset.cpus"));
    assert_eq!(fixture.read("cpuset", "cpuset.mems"), parent("cpuset.mems"));
    cgroup
        .apply(&resources(
            r#"{"memory": {"limit": 67108864, "swap": 134217728, "reservation": 33554432,
                           "swappiness": 7, "disableOOMKiller": true, "useHierarchy": true},
                "cpu": {"shares": 512, "quota": 20000, "period": 50000, "burst": 1000,
                        "cpus": "0", "mems": "0"},
                "pids": {"limit": 33}}"#,
        ))
        .unwrap();
    for (controller, file, want) in [
        ("memory", "memory.limit_in_bytes", "67108864"),
        ("memory", "memory.memsw.limit_in_bytes", "134217728"),
        ("memory", "memory.soft_limit_in_bytes", "33554432"),
        ("memory", "memory.swappiness", "7"),
        ("cpu", "cpu.shares", "512"),
        ("cpu", "cpu.cfs_quota_us", "20000"),
        ("cpu", "cpu.cfs_period_us", "50000"),
        ("cpu", "cpu.cfs_burst_us", "1000"),
        ("cpuset", "cpuset.cpus", "0"),
        ("pids", "pids.max", "33"),
    ] {
        assert_eq!(fixture.read(controller, file), want, "{file}");
    }
    assert!(fixture.read("memory", "memory.oom_control").contains("oom_kill_disable 1"));
    Cgroup::remove(&fixture.plan).unwrap();
    assert!(gone(&fixture));
    Cgroup::remove(&fixture.plan).unwrap();
    assert_eq!(kind(&Cgroup::open(&fixture.plan).unwrap_err()), Kind::NotFound);
}

#[test]
fn pids_zero_and_without_limit() {
    let Some(fixture) = Fixture::new() else { return };
    let cgroup = Cgroup::create(&fixture.plan).unwrap();
    for (limit, want) in [("0", "1"), ("-1", "max"), ("5", "5")] {
        cgroup.apply(&resources(&format!(r#"{{"pids": {{"limit": {limit}}}}}"#))).unwrap();
        assert_eq!(fixture.read("pids", "pids.max"), want);
    }
}

#[test]
fn nested_cpusets_are_filled_from_the_top() {
    let Some(mut fixture) = Fixture::new() else { return };
    let outer = fixture.plan.clone();
    for group in &mut fixture.plan.groups {
        group.path.push("a/b");
    }
    Cgroup::create(&fixture.plan).unwrap();
    assert_ne!(fixture.read("cpuset", "cpuset.cpus"), "");
    // Only the container's own directory goes.
    Cgroup::remove(&fixture.plan).unwrap();
    assert!(gone(&fixture));
    assert!(outer.groups.iter().all(|g| g.path.join("a").is_dir()));
    Cgroup::remove(&outer).unwrap();
}

#[test]
fn nothing_stays_after_an_error() {
    let Some(mut fixture) = Fixture::new() else { return };
    let good = fixture.plan.clone();
    let last = fixture.plan.groups.last_mut().unwrap();
    last.path = last.mountpoint.join("cgroup.procs/x");
    let error = format!("{:#}", Cgroup::create(&fixture.plan).unwrap_err());
    assert!(error.contains("cannot make cgroup") && error.contains("cgroup.procs/x"), "{error}");
    fixture.plan = good;
    assert!(gone(&fixture));
}

#[test]
fn a_group_in_use_is_refused() {
    let Some(mut fixture) = Fixture::new() else { return };
    let cgroup = Cgroup::create(&fixture.plan).unwrap();
    Cgroup::create(&fixture.plan).expect("an empty one is fine");
    let pid = fixture.run(&cgroup, "sleep 60");
    let error = Cgroup::create(&fixture.plan).unwrap_err().to_string();
    assert!(error.contains("is not empty") && error.contains(&pid.to_string()), "{error}");
    cgroup.kill_all(libc::SIGKILL).unwrap();
    fixture.status_of_last();
    let start = Instant::now();
    // What the killed shell had started dies by itself, and could not once it is frozen.
    while !cgroup.processes(true).unwrap().is_empty() && start.elapsed() < Duration::from_secs(5) {}
    cgroup.freeze().unwrap();
    // A dying process may still be listed for a moment.
    let error = loop {
        let error = Cgroup::create(&fixture.plan).unwrap_err().to_string();
        if !error.contains("not empty") || start.elapsed() > Duration::from_secs(5) {
            break error;
        }
    };
    assert!(error.contains("is frozen"), "{error}");
    cgroup.thaw().unwrap();
}

#[test]
fn a_child_enters_by_itself() {
    let Some(mut fixture) = Fixture::new() else { return };
    let cgroup = Cgroup::create(&fixture.plan).unwrap();
    assert_eq!(cgroup.clone_into().is_some(), fixture.has_v2());
    let files = cgroup.task_files().unwrap();
    let v1 = fixture.plan.groups.iter().filter(|g| g.version == Version::V1).count();
    assert_eq!(files.len(), v1);
    let at = fixture.plan.groups.iter().position(|g| g.controllers == ["devices"]).unwrap();
    let tasks = File::from(files.into_iter().nth(at).unwrap());
    let child = Command::new("sh")
        .args(["-c", "printf 0; exec sleep 60"])
        .stdout(tasks)
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let pid = child.id() as i32;
    fixture.children.push(child);
    let start = Instant::now();
    while cgroup.processes(true).unwrap() != [pid] {
        assert!(start.elapsed() < Duration::from_secs(5), "not in its group");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn related_limits_in_every_order() {
    let Some(fixture) = Fixture::new() else { return };
    let cgroup = Cgroup::create(&fixture.plan).unwrap();
    for (limit, swap) in [(100, 200), (300, 400), (50, 60), (500, -1), (10, 10), (-1, 0)] {
        let bytes = |mib: i64| if mib > 0 { mib << 20 } else { mib };
        let json =
            format!(r#"{{"memory": {{"limit": {}, "swap": {}}}}}"#, bytes(limit), bytes(swap));
        cgroup.update(&resources(&json)).unwrap();
        let file = fixture.read("memory", "memory.limit_in_bytes");
        let unlimited = "9223372036854771712";
        let want = |mib: i64| if mib > 0 { bytes(mib).to_string() } else { unlimited.to_owned() };
        assert_eq!(file, want(limit));
        assert_eq!(fixture.read("memory", "memory.memsw.limit_in_bytes"), want(swap));
    }
    for (quota, period, burst) in [
        (50_000, 100_000, 50_000),
        (5_000, 10_000, 1_000),
        (90_000, 100_000, 90_000),
        (-1, 5_000, 0),
    ] {
        let json =
            format!(r#"{{"cpu": {{"quota": {quota}, "period": {period}, "burst": {burst}}}}}"#);
        cgroup.update(&resources(&json)).unwrap();
        assert_eq!(fixture.read("cpu", "cpu.cfs_quota_us"), quota.to_string());
        assert_eq!(fixture.read("cpu", "cpu.cfs_period_us"), period.to_string());
        assert_eq!(fixture.read("cpu", "cpu.cfs_burst_us"), burst.to_string());
    }
}

#[test]
fn idle_and_back() {
    let Some(fixture) = Fixture::new() else { return };
    let cgroup = Cgroup::create(&fixture.plan).unwrap();
    let mut plan = resources(r#"{"cpu": {"shares": 2048}}"#);
    cgroup.apply(&plan).unwrap();
    for (idle, shares) in [(1, 3), (0, 2048)] {
        plan.merge_update(&resources(&format!(r#"{{"cpu": {{"idle": {idle}}}}}"#)));
        cgroup.update(&plan).unwrap();
        assert_eq!(fixture.read("cpu", "cpu.idle"), idle.to_string());
        // 3: WEIGHT_IDLEPRIO of kernel/sched/sched.h
        assert_eq!(fixture.read("cpu", "cpu.shares"), shares.to_string());
    }
}

#[test]
fn refusals_name_controller_value_and_field() {
    let Some(fixture) = Fixture::new() else { return };
    let cgroup = Cgroup::create(&fixture.plan).unwrap();
    for (json, want) in [
        (r#"{"cpu": {"cpus": "999"}}"#, "\"999\" to"),
        (r#"{"cpu": {"cpus": "999"}}"#, "config.json: linux.resources.cpu.cpus: cannot write"),
        (r#"{"cpu": {"quota": 1}}"#, "linux.resources.cpu.quota: cannot write \"1\" to"),
        (r#"{"cpu": {"shares": 1}}"#, "linux.resources.cpu.shares: 1 is not in 2 to 262144"),
        (r#"{"cpu": {"idle": -1}}"#, "linux.resources.cpu.idle: -1 is neither"),
        (r#"{"memory": {"swap": 4096}}"#, "linux.resources.memory.swap: cannot write"),
        (
            r#"{"blockIO": {"throttleReadBpsDevice": [{"major": 4095, "minor": 0, "rate": 1}]}}"#,
            "linux.resources.blockIO.throttleReadBpsDevice: cannot write \"4095:0 1\" to",
        ),
    ] {
        let error = format!("{:#}", cgroup.apply(&resources(json)).unwrap_err());
        assert!(error.contains(want), "{error}");
    }
    if !hierarchies().unwrap().iter().any(|h| h.controllers == ["rdma"]) {
        let json = r#"{"rdma": {"mlx": {"hcaHandles": 1}}}"#;
        let error = cgroup.apply(&resources(json)).unwrap_err();
        let want = "config.json: linux.resources.rdma: the rdma controller is not mounted";
        assert_eq!(format!("{error:#}"), want);
        assert_eq!(kind(&error), Kind::Unsupported);
    }
}

#[test]
fn a_controller_is_needed_only_for_what_it_must_do() {
    let Some(mut fixture) = Fixture::new() else { return };
    fixture.plan.groups.retain(|g| g.controllers != ["memory"]);
    let cgroup = Cgroup::create(&fixture.plan).unwrap();
    let memory = |json: &str| resources(&format!(r#"{{"memory": {json}}}"#));
    cgroup.apply(&memory(r#"{"limit": 0, "disableOOMKiller": false}"#)).unwrap();
    let error = cgroup.apply(&memory(r#"{"disableOOMKiller": true}"#)).unwrap_err();
    let error = format!("{error:#}");
    assert!(
        error.contains("linux.resources.memory: the memory controller is not mounted"),
        "{error}"
    );
}

#[test]
fn unified_files_are_those_of_the_v2_tree() {
    let Some(fixture) = Fixture::new() else { return };
    let cgroup = Cgroup::create(&fixture.plan).unwrap();
    let depth = resources(r#"{"unified": {"cgroup.max.depth": "5"}}"#);
    if !fixture.has_v2() {
        let error = format!("{:#}", cgroup.apply(&depth).unwrap_err());
        assert!(
            error.ends_with("unified[\"cgroup.max.depth\"]: cgroup v2 is not mounted"),
            "{error}"
        );
        return;
    }
    cgroup.apply(&depth).unwrap();
    assert_eq!(fixture.read("", "cgroup.max.depth"), "5");
    for (json, want) in [
        (r#"{"unified": {"memory.max": "1"}}"#, "the memory controller is mounted as v1 here"),
        (r#"{"unified": {"none.max": "1"}}"#, "unified[\"none.max\"]: the none controller is not"),
        (r#"{"unified": {"cgroup.max.depth": "x"}}"#, "\"x\" to"),
    ] {
        let error = format!("{:#}", cgroup.apply(&resources(json)).unwrap_err());
        assert!(error.contains(want), "{error}");
    }
}
