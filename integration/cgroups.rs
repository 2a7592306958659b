//! cgroups v1 and hybrid: where the process is, limits set, changed, read back, removed.

use crate::harness::{Container, Context, Need, Test, cgroup, contains, wait_for};
use crate::test;
use serde_json::{Value, json};
use std::path::Path;

pub const TESTS: &[Test] = &[
    test!(process_is_in_every_hierarchy),
    test!(relative_path_is_below_the_callers),
    test!(absent_path_is_named_after_the_id),
    test!(memory_limits).needs(&[Need::V1("memory")]),
    test!(memory_limit_kills).needs(&[Need::V1("memory")]),
    test!(cpu_limits).needs(&[Need::V1("cpu")]),
    test!(cpu_burst_and_idle).needs(&[Need::V1("cpu"), Need::CortenOnly("burst came with 1.2")]),
    test!(cpuset_limits).needs(&[Need::V1("cpuset")]),
    test!(pids_limit).needs(&[Need::V1("pids")]),
    test!(blkio_throttle).needs(&[Need::V1("blkio")]),
    test!(hugetlb_limit).needs(&[Need::V1("hugetlb")]),
    test!(network_class).needs(&[Need::V1("net_cls")]),
    test!(devices_files).needs(&[Need::V1("devices")]),
    test!(update_by_flags).needs(&[Need::V1("memory")]),
    test!(update_by_file_and_stdin).needs(&[Need::V1("memory")]),
    test!(update_memory_up_and_down).needs(&[Need::V1("memory")]),
    test!(events_stats_hold_what_the_kernel_says).needs(&[Need::V1("memory")]),
    test!(events_stream_ends_with_the_container),
    test!(events_tell_of_an_out_of_memory_kill).needs(&[Need::V1("memory")]),
    test!(every_flag_of_update).needs(&[Need::V1("memory"), Need::V1("cpuset")]),
    test!(groups_are_gone_after_delete),
    test!(groups_made_inside_are_removed),
    test!(parents_stay),
    test!(dotdot_in_the_path).needs(&[Need::CortenOnly("1.1 cleans the path silently")]),
    test!(limit_that_the_kernel_refuses),
    test!(frozen_container_is_removed).needs(&[Need::V1("freezer")]),
    test!(exec_enters_the_cgroup),
    test!(exec_in_a_sub_group).needs(&[Need::V1("pids")]),
    test!(controller_that_is_not_mounted)
        .needs(&[Need::CortenOnly("1.1 writes nothing and says nothing")]),
];

fn read(dir: &Path, file: &str) -> String {
    let path = dir.join(file);
    let text = std::fs::read_to_string(&path);
    text.unwrap_or_else(|e| panic!("{}: {e}", path.display())).trim().to_string()
}

/// An idle container with these `linux.resources`.
fn limited<'a>(t: &'a Context, resources: Value) -> Container<'a> {
    let mut bundle = t.bundle();
    let all = bundle.config["linux"]["resources"].as_object_mut().unwrap();
    all.extend(resources.as_object().unwrap().clone());
    bundle.idle();
    bundle.start()
}

fn process_is_in_every_hierarchy(t: &Context) {
    let mut bundle = t.bundle();
    bundle.idle();
    let container = bundle.start();
    let pid = container.pid();
    for hierarchy in cgroup::hierarchies() {
        let dir = hierarchy.dir(&bundle.cgroups_path());
        assert!(cgroup::procs(&dir).contains(&pid), "{}", dir.display());
        assert!(!cgroup::procs(&dir).contains(&1));
    }
}

fn relative_path_is_below_the_callers(t: &Context) {
    let mut bundle = t.bundle();
    bundle.config["linux"]["cgroupsPath"] = json!("some/where");
    bundle.idle();
    let container = bundle.start();
    // Each v1 hierarchy has its own idea of where the caller is: here the same.
    let wanted = format!("{}/some/where", t.cgroup);
    assert!(cgroup::of_process(container.pid(), "pids").ends_with(wanted.trim_start_matches('/')));
    container.end();
    for hierarchy in cgroup::hierarchies() {
        let _ = std::fs::remove_dir(hierarchy.dir(&format!("{}/some", t.cgroup)));
    }
}

fn absent_path_is_named_after_the_id(t: &Context) {
    let mut bundle = t.bundle();
    bundle.config["linux"].as_object_mut().unwrap().remove("cgroupsPath");
    bundle.idle();
    let container = bundle.start();
    let wanted = format!("{}/{}", t.cgroup, container.id);
    assert!(cgroup::of_process(container.pid(), "pids").ends_with(wanted.trim_start_matches('/')));
}

fn memory_limits(t: &Context) {
    let resources = json!({"memory": {
        "limit": 67_108_864, "reservation": 33_554_432, "swappiness": 30, "disableOOMKiller": false,
    }});
    let container = limited(t, resources);
    let dir = container.cgroup("memory");
    assert_eq!(read(&dir, "memory.limit_in_bytes"), "67108864");
    assert_eq!(read(&dir, "memory.soft_limit_in_bytes"), "33554432");
    assert_eq!(read(&dir, "memory.swappiness"), "30");
    contains(&read(&dir, "memory.oom_control"), "oom_kill_disable 0");
}

fn memory_limit_kills(t: &Context) {
    let mut bundle = t.bundle();
    bundle.config["linux"]["resources"]["memory"] = json!({"limit": 33_554_432});
    // tmpfs pages are charged to the group too, and cannot be swapped away here.
    bundle.script("dd if=/dev/zero of=/dev/shm/big bs=1M count=60 2>/dev/null; echo code $?");
    let output = bundle.run();
    // The kernel chooses `dd` or the shell.
    assert!(output.code() == 137 || output.stdout == "code 137\n", "{output}");
}

fn cpu_limits(t: &Context) {
    let container = limited(t, json!({"cpu": {"shares": 512, "quota": 50_000, "period": 200_000}}));
    let dir = container.cgroup("cpu");
    assert_eq!(read(&dir, "cpu.shares"), "512");
    assert_eq!(read(&dir, "cpu.cfs_quota_us"), "50000");
    assert_eq!(read(&dir, "cpu.cfs_period_us"), "200000");
    container.end();
    // Unlimited quota.
    let container = limited(t, json!({"cpu": {"quota": -1}}));
    assert_eq!(read(&container.cgroup("cpu"), "cpu.cfs_quota_us"), "-1");
}

fn cpu_burst_and_idle(t: &Context) {
    let container =
        limited(t, json!({"cpu": {"quota": 50_000, "period": 100_000, "burst": 20_000}}));
    assert_eq!(read(&container.cgroup("cpu"), "cpu.cfs_burst_us"), "20000");
    container.end();
    let container = limited(t, json!({"cpu": {"idle": 1}}));
    assert_eq!(read(&container.cgroup("cpu"), "cpu.idle"), "1");
}

fn cpuset_limits(t: &Context) {
    let container = limited(t, json!({"cpu": {"cpus": "0", "mems": "0"}}));
    let dir = container.cgroup("cpuset");
    assert_eq!(read(&dir, "cpuset.cpus"), "0");
    assert_eq!(read(&dir, "cpuset.mems"), "0");
    let status = crate::harness::proc_status(container.pid(), "Cpus_allowed_list").unwrap();
    assert_eq!(status, "0");
}

fn pids_limit(t: &Context) {
    let container = limited(t, json!({"pids": {"limit": 20}}));
    assert_eq!(read(&container.cgroup("pids"), "pids.max"), "20");
    let output = container.exec(&["sh", "-c", "for i in $(seq 40); do sleep 1 & done; echo no"]);
    contains(&output.stderr, "Resource temporarily unavailable");
    container.end();
    let container = limited(t, json!({"pids": {"limit": -1}}));
    assert_eq!(read(&container.cgroup("pids"), "pids.max"), "max");
}

fn blkio_throttle(t: &Context) {
    let device = t.sh("lsblk -dno MAJ:MIN 2>/dev/null | head -n 1 | tr -d ' '");
    let (major, minor) = device.split_once(':').unwrap();
    let limit = |rate: u32| json!([{"major": major.parse::<u32>().unwrap(), "minor": minor.parse::<u32>().unwrap(), "rate": rate}]);
    let resources = json!({"blockIO": {
        "throttleReadBpsDevice": limit(1_000_000), "throttleWriteIOPSDevice": limit(300),
    }});
    let container = limited(t, resources);
    let dir = container.cgroup("blkio");
    assert_eq!(read(&dir, "blkio.throttle.read_bps_device"), format!("{device} 1000000"));
    assert_eq!(read(&dir, "blkio.throttle.write_iops_device"), format!("{device} 300"));
}

fn hugetlb_limit(t: &Context) {
    let container =
        limited(t, json!({"hugepageLimits": [{"pageSize": "2MB", "limit": 4_194_304}]}));
    assert_eq!(read(&container.cgroup("hugetlb"), "hugetlb.2MB.limit_in_bytes"), "4194304");
}

fn network_class(t: &Context) {
    let container = limited(t, json!({"network": {"classID": 1_048_577}}));
    assert_eq!(read(&container.cgroup("net_cls"), "net_cls.classid"), "1048577");
}

fn devices_files(t: &Context) {
    let devices = json!({"devices": [
        {"allow": false, "access": "rwm"},
        {"allow": true, "type": "c", "major": 10, "minor": 229, "access": "rw"},
    ]});
    let container = limited(t, devices);
    let list = read(&container.cgroup("devices"), "devices.list");
    let lines: Vec<&str> = list.lines().collect();
    assert!(!lines.contains(&"a *:* rwm"), "{list}");
    for line in ["c 10:229 rw", "c 1:3 rwm", "c 1:5 rwm", "c 5:2 rwm", "c 136:* rwm", "b *:* m"] {
        assert!(lines.contains(&line), "{line} in\n{list}");
    }
}

#[track_caller]
fn update(t: &Context, container: &Container, flags: &[&str]) {
    t.runtime().arg("update").args(flags).arg(&container.id).output().exits(0);
}

fn update_by_flags(t: &Context) {
    let container = limited(t, json!({"memory": {"limit": 67_108_864}, "cpu": {"shares": 100}}));
    let flags = [
        "--memory=41943040",
        "--memory-reservation=20971520",
        "--cpu-share=200",
        "--cpu-quota=30000",
        "--cpu-period=90000",
        "--pids-limit=33",
        "--cpuset-cpus=0",
    ];
    update(t, &container, &flags);
    assert_eq!(read(&container.cgroup("memory"), "memory.limit_in_bytes"), "41943040");
    assert_eq!(read(&container.cgroup("memory"), "memory.soft_limit_in_bytes"), "20971520");
    let cpu = container.cgroup("cpu");
    assert_eq!(read(&cpu, "cpu.shares"), "200");
    assert_eq!(read(&cpu, "cpu.cfs_quota_us"), "30000");
    assert_eq!(read(&cpu, "cpu.cfs_period_us"), "90000");
    assert_eq!(read(&container.cgroup("pids"), "pids.max"), "33");
    assert_eq!(read(&container.cgroup("cpuset"), "cpuset.cpus"), "0");
    // What is not named stays.
    update(t, &container, &["--cpu-share=300"]);
    assert_eq!(read(&cpu, "cpu.shares"), "300");
    assert_eq!(read(&cpu, "cpu.cfs_quota_us"), "30000");
    assert_eq!(read(&container.cgroup("memory"), "memory.limit_in_bytes"), "41943040");
    // The device rules stay as they were.
    contains(&read(&container.cgroup("devices"), "devices.list"), "c 1:3 rwm");
    assert!(!read(&container.cgroup("devices"), "devices.list").contains("a *:*"));
}

fn update_by_file_and_stdin(t: &Context) {
    let container = limited(t, json!({}));
    let file = t.path("resources.json");
    std::fs::write(&file, r#"{"memory": {"limit": 50331648}, "pids": {"limit": 44}}"#).unwrap();
    update(t, &container, &["--resources", file.to_str().unwrap()]);
    assert_eq!(read(&container.cgroup("memory"), "memory.limit_in_bytes"), "50331648");
    assert_eq!(read(&container.cgroup("pids"), "pids.max"), "44");
    let stdin = t.runtime().args(["update", "--resources", "-", &container.id]);
    stdin.input(r#"{"cpu": {"shares": 77}}"#).output().exits(0);
    assert_eq!(read(&container.cgroup("cpu"), "cpu.shares"), "77");
    t.runtime().args(["update", "--resources", "/none", &container.id]).output().fails();
}

/// Limit and limit-with-swap have to be written in the right order, up and down.
fn update_memory_up_and_down(t: &Context) {
    let container = limited(t, json!({"memory": {"limit": 33_554_432}}));
    let dir = container.cgroup("memory");
    let swap = dir.join("memory.memsw.limit_in_bytes").exists();
    for limit in ["134217728", "67108864", "268435456"] {
        let both = [format!("--memory={limit}"), format!("--memory-swap={limit}")];
        let flags: Vec<&str> =
            both.iter().map(String::as_str).take(1 + usize::from(swap)).collect();
        update(t, &container, &flags);
        assert_eq!(read(&dir, "memory.limit_in_bytes"), limit);
        if swap {
            assert_eq!(read(&dir, "memory.memsw.limit_in_bytes"), limit);
        }
    }
}

fn events_stats_hold_what_the_kernel_says(t: &Context) {
    let container = limited(t, json!({"memory": {"limit": 67_108_864}, "pids": {"limit": 50}}));
    let text = t.runtime().args(["events", "--stats", &container.id]).output().ok();
    let event: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(event["type"], "stats");
    assert_eq!(event["id"], json!(container.id));
    let data = &event["data"];
    assert_eq!(data["memory"]["usage"]["limit"], 67_108_864);
    assert_eq!(data["pids"]["limit"], 50);
    assert!(data["pids"]["current"].as_u64().unwrap() >= 1);
    assert!(data["memory"]["usage"]["usage"].as_u64().unwrap() > 0);
    assert!(data["memory"]["raw"]["rss"].is_u64() || data["memory"]["raw"]["anon"].is_u64());
    let total = data["cpu"]["usage"]["total"].as_u64().unwrap();
    let kernel: u64 = read(&container.cgroup("cpuacct"), "cpuacct.usage").parse().unwrap();
    assert!(total > 0 && total <= kernel, "{total} of {kernel}");
    assert!(data["cpu"]["throttling"].is_object() && data["blkio"].is_object(), "{data}");
    container.kill("KILL");
    container.wait_status("stopped");
    t.runtime().args(["events", "--stats", &container.id]).output().fails();
}

fn events_stream_ends_with_the_container(t: &Context) {
    let container = limited(t, json!({}));
    let stream = t.runtime().args(["events", "--interval", "100ms", &container.id]).spawn();
    let out = stream.out.clone();
    let lines = || std::fs::read_to_string(&out).unwrap().lines().count();
    wait_for("two records", 10, || lines() >= 2);
    container.kill("KILL");
    container.wait_status("stopped");
    t.runtime().args(["delete", "--force", &container.id]).output().exits(0);
    let output = stream.wait();
    for line in output.stdout.lines() {
        serde_json::from_str::<Value>(line).unwrap();
    }
}

fn events_tell_of_an_out_of_memory_kill(t: &Context) {
    let container = limited(t, json!({"memory": {"limit": 33_554_432}}));
    let stream = t.runtime().args(["events", "--interval", "1h", &container.id]).spawn();
    let out = stream.out.clone();
    // The watch stands when the process waits; nothing shows it from outside.
    std::thread::sleep(std::time::Duration::from_millis(500));
    container.exec(&["sh", "-c", "dd if=/dev/zero of=/dev/shm/big bs=1M count=60"]).fails();
    let oom = |line: &str| {
        let event: Value = serde_json::from_str(line).unwrap();
        event["type"] == "oom" && event["id"] == json!(container.id)
    };
    wait_for("an oom record", 10, || std::fs::read_to_string(&out).unwrap().lines().any(oom));
    stream.signal(nix::sys::signal::Signal::SIGKILL);
    stream.wait();
}

/// One flag at a time, and the file that it changes.
fn every_flag_of_update(t: &Context) {
    let container = limited(t, json!({"cpu": {"quota": 40_000, "period": 100_000}}));
    for (flag, controller, file, expected) in [
        ("--memory=50331648", "memory", "memory.limit_in_bytes", "50331648"),
        ("--memory-reservation=25165824", "memory", "memory.soft_limit_in_bytes", "25165824"),
        ("--cpu-share=333", "cpu", "cpu.shares", "333"),
        ("--cpu-period=80000", "cpu", "cpu.cfs_period_us", "80000"),
        ("--cpu-quota=60000", "cpu", "cpu.cfs_quota_us", "60000"),
        ("--cpuset-cpus=0", "cpuset", "cpuset.cpus", "0"),
        ("--cpuset-mems=0", "cpuset", "cpuset.mems", "0"),
        ("--pids-limit=55", "pids", "pids.max", "55"),
    ] {
        update(t, &container, &[flag]);
        assert_eq!(read(&container.cgroup(controller), file), expected, "{flag}");
    }
    if t.runtime.is_corten() {
        update(t, &container, &["--cpu-burst=10000"]);
        assert_eq!(read(&container.cgroup("cpu"), "cpu.cfs_burst_us"), "10000");
    }
    for bad in ["--memory=lots", "--cpu-share=-5", "--cpuset-cpus=4000", "--pids-limit=x"] {
        t.runtime().args(["update", bad, &container.id]).output().fails();
    }
    assert_eq!(read(&container.cgroup("memory"), "memory.limit_in_bytes"), "50331648");
}

fn groups_are_gone_after_delete(t: &Context) {
    let container = limited(t, json!({"memory": {"limit": 67_108_864}}));
    assert!(!cgroup::below(&t.cgroup).is_empty());
    container.end();
    assert_eq!(cgroup::below(&t.cgroup), Vec::<std::path::PathBuf>::new());
}

fn groups_made_inside_are_removed(t: &Context) {
    let mut bundle = t.bundle();
    bundle.idle();
    let container = bundle.start();
    for controller in ["pids", "memory", "freezer"] {
        let dir = container.cgroup(controller);
        if cgroup::v1(controller).is_some() {
            std::fs::create_dir_all(dir.join("a/b")).unwrap();
        }
    }
    container.end();
}

fn parents_stay(t: &Context) {
    let parent = format!("{}/parent", t.cgroup);
    cgroup::make(&parent).unwrap();
    let mut bundle = t.bundle();
    bundle.config["linux"]["cgroupsPath"] = json!(format!("{parent}/leaf"));
    bundle.run().ok();
    for hierarchy in cgroup::hierarchies() {
        assert!(hierarchy.dir(&parent).exists(), "{}", hierarchy.dir(&parent).display());
    }
    cgroup::remove(&parent);
}

fn dotdot_in_the_path(t: &Context) {
    let mut bundle = t.bundle();
    bundle.config["linux"]["cgroupsPath"] = json!(format!("{}/../../escaped", t.cgroup));
    contains(&bundle.create_fails(), "cgroupsPath");
    for hierarchy in cgroup::hierarchies() {
        assert!(!hierarchy.mountpoint.join("escaped").exists());
    }
}

/// The kernel says no: an error that names the file or value, and nothing is left.
fn limit_that_the_kernel_refuses(t: &Context) {
    let mut bundle = t.bundle();
    bundle.config["linux"]["resources"]["cpu"] = json!({"cpus": "4000"});
    contains(&bundle.create_fails(), "cpuset.cpus");
}

fn frozen_container_is_removed(t: &Context) {
    let container = limited(t, json!({}));
    container.command("pause").exits(0);
    t.runtime().args(["delete", "--force", &container.id]).output().exits(0);
    assert_eq!(cgroup::below(&t.cgroup), Vec::<std::path::PathBuf>::new());
}

fn exec_enters_the_cgroup(t: &Context) {
    let container = limited(t, json!({}));
    let inside = container.sh("cat /proc/self/cgroup");
    let init = container.sh("cat /proc/1/cgroup");
    assert_eq!(inside, init);
}

fn exec_in_a_sub_group(t: &Context) {
    let container = limited(t, json!({}));
    let sub = container.cgroup("pids").join("sub");
    std::fs::create_dir(&sub).unwrap();
    let output = container
        .exec_command(&["--cgroup", "pids:sub"], &["cat", "/proc/self/cgroup"])
        .output()
        .ok();
    let line = output.lines().find(|l| l.contains(":pids:")).unwrap();
    assert!(line.ends_with("/sub"), "{line}");
    container.exec_command(&["--cgroup", "pids:none"], &["true"]).output().fails();
    container.exec_command(&["--cgroup", "pids:../.."], &["true"]).output().fails();
}

fn controller_that_is_not_mounted(t: &Context) {
    if cgroup::v1("rdma").is_some() {
        return;
    }
    let mut bundle = t.bundle();
    bundle.config["linux"]["resources"]["rdma"] = json!({"mlx5_1": {"hcaHandles": 3}});
    contains(&bundle.create_fails(), "rdma");
}
