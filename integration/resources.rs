//! Each field of `linux.resources`, in the files of the kernel: v1, hybrid, or v2 alone.

use crate::cgroups::{limited, read};
use crate::harness::{Container, Context, Need, Test, cgroup, contains, proc_status, wait_for};
use crate::test;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

pub const TESTS: &[Test] = &[
    test!(memory_limits),
    test!(memory_without_limit),
    test!(memory_of_v1).needs(&[Need::V1("memory")]),
    test!(kernel_memory_of_v1)
        .needs(&[Need::V1("memory"), Need::CortenOnly("ignores kernelTCP, with a warning")]),
    test!(memory_that_v2_has_not)
        .needs(&[Need::V2("memory"), Need::CortenOnly("ignores it silently")]),
    test!(cpu_limits),
    test!(cpu_shares_become_weights)
        .needs(&[Need::V2("cpu"), Need::CortenOnly("the formula is that of 1.3.2 and later")]),
    test!(cpu_burst_and_idle).needs(&[Need::CortenOnly("burst came with 1.2")]),
    test!(realtime_of_v1)
        .needs(&[Need::V1("cpu"), Need::Kernel("/sys/fs/cgroup/cpu/cpu.rt_runtime_us")]),
    test!(realtime_that_v2_has_not)
        .needs(&[Need::V2("cpu"), Need::CortenOnly("ignores it silently")]),
    test!(cpuset_limits),
    test!(pids_limit),
    test!(pids_limit_of_zero).needs(&[Need::CortenOnly("0 was no limit before 1.4")]),
    test!(block_io_throttles),
    test!(block_io_weights).needs(&[Need::Kernel("/sys/block/loop7/queue/scheduler")]),
    test!(leaf_weights_are_gone),
    test!(hugepage_limits).needs(&[Need::CortenOnly("looks for v1 alone on a hybrid")]),
    test!(hugepages_of_no_size).needs(&[Need::CortenOnly("looks for v1 alone on a hybrid")]),
    test!(network_class_and_priorities)
        .needs(&[Need::CortenOnly("looks only beside the first cgroup mount")]),
    test!(network_without_its_controllers),
    test!(rdma_without_its_controller_or_device),
    test!(unified_files).needs(&[Need::CortenOnly("refuses them unless v2 is alone")]),
    test!(unified_that_cannot_be).needs(&[Need::CortenOnly("refuses them unless v2 is alone")]),
    test!(unified_of_controllers).needs(&[Need::V2("memory")]),
];

/// Controller; file and text of v1; file and text of v2.
pub type Shown<'a> = (&'a str, [&'a str; 2], [&'a str; 2]);

/// The kernel shows these limits.
#[track_caller]
pub fn shows(container: &Container, all: &[Shown]) {
    for (controller, v1, v2) in all {
        let [file, text] = if cgroup::v1(controller).is_some() { v1 } else { v2 };
        assert_eq!(read(&container.cgroup(controller), file), *text, "{file}");
    }
}

/// `create` with these limits fails, leaves nothing, and (Corten) says each of `words`.
#[track_caller]
fn refused(t: &Context, resources: Value, words: &[&str]) {
    let mut bundle = t.bundle();
    let all = bundle.config["linux"]["resources"].as_object_mut().unwrap();
    all.extend(resources.as_object().unwrap().clone());
    let text = bundle.create_fails();
    assert_eq!(cgroup::below(&t.cgroup), Vec::<std::path::PathBuf>::new(), "left behind");
    for word in words.iter().filter(|_| t.runtime.is_corten()) {
        contains(&text, word);
    }
}

fn memory_limits(t: &Context) {
    let container = limited(
        t,
        json!({"memory": {
            "limit": 67_108_864, "reservation": 33_554_432, "swap": 100_663_296,
            "disableOOMKiller": false, "useHierarchy": true,
        }}),
    );
    shows(
        &container,
        &[
            ("memory", ["memory.limit_in_bytes", "67108864"], ["memory.max", "67108864"]),
            ("memory", ["memory.soft_limit_in_bytes", "33554432"], ["memory.low", "33554432"]),
            // Both together in v1, swap alone in v2.
            (
                "memory",
                ["memory.memsw.limit_in_bytes", "100663296"],
                ["memory.swap.max", "33554432"],
            ),
        ],
    );
}

fn memory_without_limit(t: &Context) {
    let unlimited = "9223372036854771712";
    let container = limited(t, json!({"memory": {"limit": -1, "reservation": -1, "swap": -1}}));
    shows(
        &container,
        &[
            ("memory", ["memory.limit_in_bytes", unlimited], ["memory.max", "max"]),
            ("memory", ["memory.soft_limit_in_bytes", unlimited], ["memory.low", "max"]),
            ("memory", ["memory.memsw.limit_in_bytes", unlimited], ["memory.swap.max", "max"]),
        ],
    );
}

fn memory_of_v1(t: &Context) {
    let container = limited(t, json!({"memory": {"swappiness": 30, "disableOOMKiller": true}}));
    let dir = container.cgroup("memory");
    assert_eq!(read(&dir, "memory.swappiness"), "30");
    contains(&read(&dir, "memory.oom_control"), "oom_kill_disable 1");
    assert_eq!(read(&dir, "memory.use_hierarchy"), "1");
}

fn kernel_memory_of_v1(t: &Context) {
    let mut bundle = t.bundle();
    bundle.idle();
    bundle.config["linux"]["resources"]["memory"] =
        json!({"kernelTCP": 8_388_608, "kernel": 16_777_216});
    bundle.write();
    let container = bundle.named("kernel-memory");
    let output = container.create(&[]);
    // The kernel has no such limit any more: one warning.
    assert_eq!(output.stderr.matches("memory.kernel").count(), 1, "{output}");
    contains(
        &output.stderr,
        "linux.resources.memory.kernel: kernels since 5.16 have no such limit",
    );
    output.exits(0);
    let dir = container.cgroup("memory");
    assert_eq!(read(&dir, "memory.kmem.tcp.limit_in_bytes"), "8388608");
}

fn memory_that_v2_has_not(t: &Context) {
    for (field, value) in [
        ("swappiness", json!(30)),
        ("disableOOMKiller", json!(true)),
        ("useHierarchy", json!(false)),
        ("kernel", json!(16_777_216)),
        ("kernelTCP", json!(16_777_216)),
    ] {
        let wanted =
            format!("config.json: linux.resources.memory.{field}: cgroup v2 has no such setting");
        refused(t, json!({"memory": {field: value}}), &[&wanted]);
    }
    // What it does anyway, or would not do.
    let same =
        json!({"disableOOMKiller": false, "useHierarchy": true, "kernel": -1, "kernelTCP": -1});
    limited(t, json!({"memory": same}));
}

fn cpu_limits(t: &Context) {
    let container =
        limited(t, json!({"cpu": {"shares": 1024, "quota": 50_000, "period": 200_000}}));
    shows(
        &container,
        &[
            ("cpu", ["cpu.shares", "1024"], ["cpu.weight", "100"]),
            ("cpu", ["cpu.cfs_quota_us", "50000"], ["cpu.max", "50000 200000"]),
            ("cpu", ["cpu.cfs_period_us", "200000"], ["cpu.max", "50000 200000"]),
        ],
    );
    container.end();
    let container = limited(t, json!({"cpu": {"quota": -1, "period": 50_000}}));
    shows(
        &container,
        &[
            ("cpu", ["cpu.cfs_quota_us", "-1"], ["cpu.max", "max 50000"]),
            ("cpu", ["cpu.cfs_period_us", "50000"], ["cpu.max", "max 50000"]),
        ],
    );
}

/// The ends, the default, and a quarter of a CPU as Kubernetes asks for it.
fn cpu_shares_become_weights(t: &Context) {
    for (shares, weight) in [(2, "1"), (256, "35"), (1024, "100"), (262_144, "10000")] {
        let container = limited(t, json!({"cpu": {"shares": shares}}));
        assert_eq!(read(&container.cgroup("cpu"), "cpu.weight"), weight, "{shares}");
        container.end();
    }
}

fn cpu_burst_and_idle(t: &Context) {
    let container =
        limited(t, json!({"cpu": {"quota": 50_000, "period": 100_000, "burst": 20_000}}));
    shows(&container, &[("cpu", ["cpu.cfs_burst_us", "20000"], ["cpu.max.burst", "20000"])]);
    container.end();
    let container = limited(t, json!({"cpu": {"idle": 1}}));
    shows(&container, &[("cpu", ["cpu.idle", "1"], ["cpu.idle", "1"])]);
}

fn realtime_of_v1(t: &Context) {
    // A group can give only what it has, and a new one has nothing.
    let top = cgroup::v1("cpu").unwrap().mountpoint;
    let mut dir = top;
    for name in t.cgroup.trim_start_matches('/').split('/') {
        dir.push(name);
        fs::write(dir.join("cpu.rt_runtime_us"), "20000").unwrap();
    }
    let container =
        limited(t, json!({"cpu": {"realtimeRuntime": 10_000, "realtimePeriod": 500_000}}));
    let group = container.cgroup("cpu");
    assert_eq!(read(&group, "cpu.rt_runtime_us"), "10000");
    assert_eq!(read(&group, "cpu.rt_period_us"), "500000");
}

fn realtime_that_v2_has_not(t: &Context) {
    for field in ["realtimeRuntime", "realtimePeriod"] {
        let wanted = format!("linux.resources.cpu.{field}: cgroup v2 has no such setting");
        refused(t, json!({"cpu": {field: 10_000}}), &[&wanted]);
    }
}

fn cpuset_limits(t: &Context) {
    let container = limited(t, json!({"cpu": {"cpus": "0", "mems": "0"}}));
    shows(
        &container,
        &[
            ("cpuset", ["cpuset.cpus", "0"], ["cpuset.cpus", "0"]),
            ("cpuset", ["cpuset.mems", "0"], ["cpuset.mems", "0"]),
        ],
    );
    assert_eq!(proc_status(container.pid(), "Cpus_allowed_list").unwrap(), "0");
    assert_eq!(proc_status(container.pid(), "Mems_allowed_list").unwrap(), "0");
}

fn pids_limit(t: &Context) {
    let container = limited(t, json!({"pids": {"limit": 20}}));
    shows(&container, &[("pids", ["pids.max", "20"], ["pids.max", "20"])]);
    let output = container.exec(&["sh", "-c", "for i in $(seq 40); do sleep 60 & done; echo no"]);
    contains(&output.stderr, "Resource temporarily unavailable");
    container.end();
    let container = limited(t, json!({"pids": {"limit": -1}}));
    shows(&container, &[("pids", ["pids.max", "max"], ["pids.max", "max"])]);
}

/// The container's own process and not one more.
fn pids_limit_of_zero(t: &Context) {
    let mut bundle = t.bundle();
    bundle.config["linux"]["resources"]["pids"] = json!({"limit": 0});
    bundle.script("cat /proc/self/status; echo not reached");
    let output = bundle.run();
    contains(&output.stderr, "Resource temporarily unavailable");
    assert!(!output.stdout.contains("Pid:"), "{output}");
    bundle.args(["sleep", "60"]);
    let container = bundle.start();
    // So it is with 0 in the file, in which systemd could not write it.
    shows(&container, &[("pids", ["pids.max", "1"], ["pids.max", "1"])]);
    container.exec(&["true"]).fails();
}

/// A disk of this machine, as "8:0".
fn disk() -> String {
    let mut disks: Vec<_> = fs::read_dir("/sys/block").unwrap().flatten().collect();
    disks.retain(|disk| disk.path().join("device").exists());
    fs::read_to_string(disks[0].path().join("dev")).unwrap().trim().to_string()
}

fn numbers(device: &str) -> (u32, u32) {
    let (major, minor) = device.split_once(':').unwrap();
    (major.parse().unwrap(), minor.parse().unwrap())
}

fn block_io_throttles(t: &Context) {
    let disk = disk();
    let (major, minor) = numbers(&disk);
    let limit = |rate: u32| json!([{"major": major, "minor": minor, "rate": rate}]);
    let container = limited(
        t,
        json!({"blockIO": {
            "throttleReadBpsDevice": limit(1_000_000), "throttleWriteBpsDevice": limit(2_000_000),
            "throttleReadIOPSDevice": limit(300), "throttleWriteIOPSDevice": limit(400),
        }}),
    );
    let all = format!("{disk} rbps=1000000 wbps=2000000 riops=300 wiops=400");
    for (file, rate) in
        [("read_bps", 1_000_000), ("write_bps", 2_000_000), ("read_iops", 300), ("write_iops", 400)]
    {
        let v1 = [&format!("blkio.throttle.{file}_device"), &format!("{disk} {rate}")];
        shows(&container, &[("blkio", v1.map(String::as_str), ["io.max", &all])]);
    }
}

/// A loop device that nobody uses, with the scheduler that knows weights.
struct Bfq(String);

const SCHEDULER: &str = "/sys/block/loop7/queue/scheduler";

impl Bfq {
    fn switch() -> Bfq {
        let before = fs::read_to_string(SCHEDULER).unwrap();
        let (_, rest) = before.split_once('[').unwrap();
        fs::write(SCHEDULER, "bfq").unwrap();
        Bfq(rest.split_once(']').unwrap().0.to_string())
    }
}

impl Drop for Bfq {
    fn drop(&mut self) {
        fs::write(SCHEDULER, &self.0).unwrap();
    }
}

fn block_io_weights(t: &Context) {
    let _bfq = Bfq::switch();
    let device = fs::read_to_string("/sys/block/loop7/dev").unwrap().trim().to_string();
    let (major, minor) = numbers(&device);
    let each = json!([{"major": major, "minor": minor, "weight": 700}]);
    let container = limited(t, json!({"blockIO": {"weight": 300, "weightDevice": each}}));
    let dir = container.cgroup("blkio");
    let files = ["blkio.weight_device", "blkio.bfq.weight_device", "io.bfq.weight"];
    let file = files.into_iter().find(|file| dir.join(file).exists()).unwrap();
    let text = read(&dir, file);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines, ["default 300", &format!("{device} 700")]);
}

/// CFQ's, which no kernel since 5.0 has.
fn leaf_weights_are_gone(t: &Context) {
    let at = "config.json: linux.resources.blockIO.";
    refused(t, json!({"blockIO": {"leafWeight": 500}}), &[at, "leafWeight: "]);
    let each = json!([{"major": 8, "minor": 0, "leafWeight": 500}]);
    refused(t, json!({"blockIO": {"weightDevice": each}}), &[at]);
}

fn hugepage_limits(t: &Context) {
    let container =
        limited(t, json!({"hugepageLimits": [{"pageSize": "2MB", "limit": 4_194_304}]}));
    let bytes = "4194304";
    shows(
        &container,
        &[
            ("hugetlb", ["hugetlb.2MB.limit_in_bytes", bytes], ["hugetlb.2MB.max", bytes]),
            (
                "hugetlb",
                ["hugetlb.2MB.rsvd.limit_in_bytes", bytes],
                ["hugetlb.2MB.rsvd.max", bytes],
            ),
        ],
    );
}

fn hugepages_of_no_size(t: &Context) {
    refused(
        t,
        json!({"hugepageLimits": [{"pageSize": "3MB", "limit": 4_194_304}]}),
        &["config.json: linux.resources.hugepageLimits: this kernel has no ", "hugetlb.3MB."],
    );
}

/// v1's alone, and nobody mounts them any more: here for this test.
fn network_class_and_priorities(t: &Context) {
    let at = t.path("net");
    let mounted = cgroup::v1("net_cls").is_some();
    let mount = format!("mount -t cgroup -o net_cls,net_prio net_cls,net_prio {}", at.display());
    if !mounted {
        fs::create_dir(&at).unwrap();
        t.sh(&mount);
    }
    let mut bundle = t.bundle();
    let group = format!("/corten-net-{}", std::process::id());
    bundle.config["linux"]["cgroupsPath"] = json!(group);
    bundle.config["linux"]["resources"]["network"] = json!({
        "classID": 1_048_577, "priorities": [{"name": "lo", "priority": 7}],
    });
    bundle.idle();
    let container = bundle.start();
    let dir = container.cgroup("net_cls");
    assert_eq!(read(&dir, "net_cls.classid"), "1048577");
    let priorities = read(&container.cgroup("net_prio"), "net_prio.ifpriomap");
    assert!(priorities.lines().any(|line| line == "lo 7"), "{priorities}");
    container.end();
    assert!(!dir.exists());
    // A hierarchy outlives its last mount while a removed group is not freed yet, and containerd
    // fails where there is one that is mounted nowhere.
    let goes = || {
        t.sh(&format!("umount {}; sleep 0.2", at.display()));
        let gone = !fs::read_to_string("/proc/self/cgroup").unwrap().contains("net_cls");
        if !gone {
            t.sh(&mount);
        }
        gone
    };
    if !mounted {
        wait_for("the hierarchy to go", 30, goes);
    }
}

fn network_without_its_controllers(t: &Context) {
    for (controller, network) in [
        ("net_cls", json!({"classID": 1})),
        ("net_prio", json!({"priorities": [{"name": "lo", "priority": 7}]})),
    ] {
        if cgroup::v1(controller).is_none() {
            let wanted = format!("the {controller} controller is not ");
            refused(
                t,
                json!({"network": network}),
                &["config.json: linux.resources.network.", &wanted],
            );
        }
    }
}

fn rdma_without_its_controller_or_device(t: &Context) {
    refused(
        t,
        json!({"rdma": {"mlx5_1": {"hcaHandles": 3}}}),
        &["config.json: linux.resources.rdma: "],
    );
}

fn unified_files(t: &Context) {
    // Of no controller; more than one; and what the runtime has never heard of.
    let container = limited(
        t,
        json!({"unified": {
            "cgroup.max.depth": "5", "cgroup.max.descendants": "7", "hugetlb.2MB.max": "2097152",
        }}),
    );
    let dir = container.cgroup("hugetlb");
    assert_eq!(read(&dir, "cgroup.max.depth"), "5");
    assert_eq!(read(&dir, "cgroup.max.descendants"), "7");
    assert_eq!(read(&dir, "hugetlb.2MB.max"), "2097152");
}

fn unified_that_cannot_be(t: &Context) {
    for (file, value, why) in [
        ("none.max", "1", "the none controller is not "),
        ("cgroup.max.depth", "deep", "cannot write \"deep\" to "),
        ("hugetlb.none", "1", "this kernel has no "),
    ] {
        let wanted = format!("config.json: linux.resources.unified[\"{file}\"]: {why}");
        refused(t, json!({"unified": {file: value}}), &[&wanted]);
    }
    if cgroup::v1("memory").is_some() {
        let wanted = "unified[\"memory.high\"]: the memory controller is mounted as v1 here";
        refused(t, json!({"unified": {"memory.high": "1000000"}}), &[wanted]);
    }
    assert!(!Path::new("/sys/fs/cgroup/none.max").exists());
}

/// On top of the fields of v1, and several lines for one file.
fn unified_of_controllers(t: &Context) {
    let disk = disk();
    let container = limited(
        t,
        json!({
            "memory": {"limit": 67_108_864},
            "unified": {
                "memory.high": "50331648", "memory.oom.group": "1", "pids.max": "44",
                "cpu.weight": "77", "io.max": format!("{disk} rbps=2097152\n{disk} wiops=120"),
            },
        }),
    );
    let dir = container.cgroup("memory");
    for (file, text) in [
        ("memory.max", "67108864"),
        ("memory.high", "50331648"),
        ("memory.oom.group", "1"),
        ("pids.max", "44"),
        ("cpu.weight", "77"),
        ("io.max", &format!("{disk} rbps=2097152 wbps=max riops=max wiops=120")),
    ] {
        assert_eq!(read(&dir, file), text, "{file}");
    }
}
