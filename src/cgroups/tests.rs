//! Against the kernel: as root, on a v1 or hybrid machine, in groups of our own.

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
struct Fixture {
    plan: CgroupPlan,
    children: Vec<Child>,
}

impl Fixture {
    /// `None`, and a word about it, where these tests cannot run.
    fn new() -> Option<Fixture> {
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

    fn path(&self, controller: &str) -> PathBuf {
        self.plan.paths_by_controller()[controller].clone()
    }

    fn read(&self, controller: &str, file: &str) -> String {
        fs::read_to_string(self.path(controller).join(file)).unwrap().trim().to_owned()
    }

    fn has_v2(&self) -> bool {
        self.plan.groups.iter().any(|g| g.version == Version::V2)
    }

    fn run(&mut self, cgroup: &Cgroup, script: &str) -> i32 {
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

    fn status_of_last(&mut self) -> std::process::ExitStatus {
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

fn resources(json: &str) -> ResourcesPlan {
    let resources: oci_spec::runtime::LinuxResources = serde_json::from_str(json).unwrap();
    ResourcesPlan::build(Some(&resources)).unwrap()
}

fn gone(fixture: &Fixture) -> bool {
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
        (r#"{"cpu": {"cpus": "999"}}"#, "cpuset.cpus (config.json: linux.resources.cpu.cpus)"),
        (r#"{"cpu": {"quota": 1}}"#, "(config.json: linux.resources.cpu.quota)"),
        (r#"{"cpu": {"shares": 1}}"#, "linux.resources.cpu.shares: 1 is not in 2 to 262144"),
        (r#"{"cpu": {"idle": -1}}"#, "linux.resources.cpu.idle: -1 is neither"),
        (r#"{"memory": {"swap": 4096}}"#, "(config.json: linux.resources.memory.swap)"),
        (
            r#"{"blockIO": {"throttleReadBpsDevice": [{"major": 4095, "minor": 0, "rate": 1}]}}"#,
            "blkio.throttle.read_bps_device (config.json: linux.resources.blockIO",
        ),
    ] {
        let error = format!("{:#}", cgroup.apply(&resources(json)).unwrap_err());
        assert!(error.contains(want), "{error}");
    }
    if !hierarchies().unwrap().iter().any(|h| h.controllers == ["rdma"]) {
        let json = r#"{"rdma": {"mlx": {"hcaHandles": 1}}}"#;
        let error = cgroup.apply(&resources(json)).unwrap_err();
        let want = "config.json: linux.resources.rdma: the rdma controller is not mounted";
        assert_eq!(error.to_string(), want);
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
    let error = cgroup.apply(&memory(r#"{"disableOOMKiller": true}"#)).unwrap_err().to_string();
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
        let error = cgroup.apply(&depth).unwrap_err().to_string();
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
