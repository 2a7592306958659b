//! `update`, and the counters of `events --stats`, beside the files of the kernel.

use crate::cgroups::{limited, read};
use crate::harness::{Container, Context, Need, Output, Test, cgroup, contains};
use crate::resources::shows;
use crate::test;
use serde_json::{Value, json};

pub const TESTS: &[Test] = &[
    test!(by_flags),
    test!(every_flag),
    test!(every_flag_of_v1).needs(&[Need::V1("memory"), Need::CortenOnly("ignores kernel memory")]),
    test!(burst_and_idle).needs(&[Need::CortenOnly("burst came with 1.2")]),
    test!(by_file_and_stdin),
    test!(memory_up_and_down),
    test!(check_before_update),
    test!(bad_values_are_blamed_on_their_flag).needs(&[Need::CortenOnly("names no flag")]),
    test!(failed_update_leaves_the_old_limits),
    test!(stats_are_the_kernels),
    test!(stats_of_v2).needs(&[Need::V2("memory")]),
];

fn try_update(t: &Context, container: &Container, flags: &[&str]) -> Output {
    t.runtime().arg("update").args(flags).arg(&container.id).output()
}

#[track_caller]
fn update(t: &Context, container: &Container, flags: &[&str]) {
    try_update(t, container, flags).exits(0);
}

fn by_flags(t: &Context) {
    let container = limited(t, json!({"memory": {"limit": 67_108_864}, "cpu": {"shares": 100}}));
    let flags = [
        "--memory=41943040",
        "--memory-reservation=20971520",
        "--cpu-share=1024",
        "--cpu-quota=30000",
        "--cpu-period=90000",
        "--pids-limit=33",
        "--cpuset-cpus=0",
    ];
    update(t, &container, &flags);
    let memory = ("memory", ["memory.limit_in_bytes", "41943040"], ["memory.max", "41943040"]);
    let quota = ("cpu", ["cpu.cfs_quota_us", "30000"], ["cpu.max", "30000 90000"]);
    shows(
        &container,
        &[
            memory,
            ("memory", ["memory.soft_limit_in_bytes", "20971520"], ["memory.low", "20971520"]),
            ("cpu", ["cpu.shares", "1024"], ["cpu.weight", "100"]),
            quota,
            ("cpu", ["cpu.cfs_period_us", "90000"], ["cpu.max", "30000 90000"]),
            ("pids", ["pids.max", "33"], ["pids.max", "33"]),
            ("cpuset", ["cpuset.cpus", "0"], ["cpuset.cpus", "0"]),
        ],
    );
    // What is not named stays.
    update(t, &container, &["--cpu-share=262144"]);
    shows(&container, &[("cpu", ["cpu.shares", "262144"], ["cpu.weight", "10000"]), memory, quota]);
    // And so do the device rules.
    container.exec(&["sh", "-c", "true < /dev/zero"]).exits(0);
    if cgroup::v1("devices").is_some() {
        let list = read(&container.cgroup("devices"), "devices.list");
        assert!(!list.contains("a *:*") && list.contains("c 1:3 rwm"), "{list}");
    }
}

/// One flag at a time, and the file that it changes.
fn every_flag(t: &Context) {
    let container = limited(t, json!({"cpu": {"quota": 40_000, "period": 100_000}}));
    let memory = "50331648";
    for (flag, shown) in [
        ("--memory=48M", ("memory", ["memory.limit_in_bytes", memory], ["memory.max", memory])),
        (
            "--memory-swap=67108864",
            (
                "memory",
                ["memory.memsw.limit_in_bytes", "67108864"],
                ["memory.swap.max", "16777216"],
            ),
        ),
        (
            "--memory-reservation=25165824",
            ("memory", ["memory.soft_limit_in_bytes", "25165824"], ["memory.low", "25165824"]),
        ),
        ("--cpu-share=2", ("cpu", ["cpu.shares", "2"], ["cpu.weight", "1"])),
        ("--cpu-period=80000", ("cpu", ["cpu.cfs_period_us", "80000"], ["cpu.max", "40000 80000"])),
        ("--cpu-quota=60000", ("cpu", ["cpu.cfs_quota_us", "60000"], ["cpu.max", "60000 80000"])),
        ("--cpuset-cpus=0", ("cpuset", ["cpuset.cpus", "0"], ["cpuset.cpus", "0"])),
        ("--cpuset-mems=0", ("cpuset", ["cpuset.mems", "0"], ["cpuset.mems", "0"])),
        ("--pids-limit=55", ("pids", ["pids.max", "55"], ["pids.max", "55"])),
    ] {
        update(t, &container, &[flag]);
        shows(&container, &[shown]);
    }
    let weights = ["blkio.weight", "blkio.bfq.weight", "io.bfq.weight", "io.weight"];
    let dir = container.cgroup("blkio");
    if let Some(file) = weights.into_iter().find(|file| dir.join(file).exists()) {
        update(t, &container, &["--blkio-weight=505"]);
        // 505 of 10 to 1000 is 5000 of 1 to 10000.
        let text = if file == "io.weight" { "5000" } else { "505" };
        assert!(read(&dir, file).split_whitespace().any(|word| word == text), "{file}");
    }
}

fn every_flag_of_v1(t: &Context) {
    let container = limited(t, json!({}));
    update(t, &container, &["--kernel-memory-tcp=8388608"]);
    assert_eq!(read(&container.cgroup("memory"), "memory.kmem.tcp.limit_in_bytes"), "8388608");
    let output = try_update(t, &container, &["--kernel-memory=8388608"]);
    contains(&output.stderr, "kernels since 5.16 have no such limit");
    output.exits(0);
    if !container.cgroup("cpu").join("cpu.rt_runtime_us").exists() {
        return;
    }
    // The groups above must have it first, the outermost first.
    for dir in container.cgroup("cpu").ancestors().skip(1).take(2).collect::<Vec<_>>().iter().rev()
    {
        std::fs::write(dir.join("cpu.rt_runtime_us"), "20000").unwrap();
    }
    update(t, &container, &["--cpu-rt-period=500000", "--cpu-rt-runtime=10000"]);
    assert_eq!(read(&container.cgroup("cpu"), "cpu.rt_period_us"), "500000");
    assert_eq!(read(&container.cgroup("cpu"), "cpu.rt_runtime_us"), "10000");
}

fn burst_and_idle(t: &Context) {
    let container = limited(t, json!({"cpu": {"quota": 40_000, "period": 100_000}}));
    update(t, &container, &["--cpu-burst=10000"]);
    shows(&container, &[("cpu", ["cpu.cfs_burst_us", "10000"], ["cpu.max.burst", "10000"])]);
    for idle in ["1", "0"] {
        update(t, &container, &["--cpu-idle", idle]);
        shows(&container, &[("cpu", ["cpu.idle", idle], ["cpu.idle", idle])]);
    }
}

fn by_file_and_stdin(t: &Context) {
    let container = limited(t, json!({}));
    let file = t.path("resources.json");
    std::fs::write(&file, r#"{"memory": {"limit": 50331648}, "pids": {"limit": 44}}"#).unwrap();
    update(t, &container, &["--resources", file.to_str().unwrap()]);
    let memory = "50331648";
    shows(
        &container,
        &[
            ("memory", ["memory.limit_in_bytes", memory], ["memory.max", memory]),
            ("pids", ["pids.max", "44"], ["pids.max", "44"]),
        ],
    );
    let stdin = t.runtime().args(["update", "--resources", "-", &container.id]);
    stdin.input(r#"{"cpu": {"shares": 2}}"#).output().exits(0);
    shows(&container, &[("cpu", ["cpu.shares", "2"], ["cpu.weight", "1"])]);
    try_update(t, &container, &["--resources", "/none"]).fails();
}

/// Limit and limit-with-swap have to be written in the right order, up and down.
fn memory_up_and_down(t: &Context) {
    let container = limited(t, json!({"memory": {"limit": 33_554_432}}));
    for limit in ["134217728", "67108864", "268435456"] {
        update(t, &container, &[&format!("--memory={limit}"), &format!("--memory-swap={limit}")]);
        shows(
            &container,
            &[
                ("memory", ["memory.limit_in_bytes", limit], ["memory.max", limit]),
                ("memory", ["memory.memsw.limit_in_bytes", limit], ["memory.swap.max", "0"]),
            ],
        );
    }
}

/// v1's kernel refuses less than is used; v2's would kill for it.
fn check_before_update(t: &Context) {
    let container = limited(t, json!({"memory": {"limit": 134_217_728, "swap": 134_217_728}}));
    // Pages of a tmpfs stay.
    container.sh("dd if=/dev/zero of=/dev/shm/big bs=1M count=32 2>/dev/null");
    let stdin = t.runtime().args(["update", "--resources", "-", &container.id]);
    let less = r#"{"memory": {"limit": 8388608, "swap": 8388608, "checkBeforeUpdate": true}}"#;
    let text = stdin.input(less).output().fails();
    if t.runtime.is_corten() {
        contains(&text, "--resources: linux.resources.memory.");
        // As much as the tmpfs holds, and more.
        let used = text.split(" bytes ").next().and_then(|text| text.split(' ').next_back());
        let used: u64 = used.unwrap().parse().unwrap_or_else(|_| panic!("{text}"));
        assert!(text.contains("in use") && used >= 32 << 20, "{text}");
    }
    let limit = "134217728";
    shows(&container, &[("memory", ["memory.limit_in_bytes", limit], ["memory.max", limit])]);
    assert_eq!(container.status(), "running");
    container.sh("test -s /dev/shm/big");
}

fn bad_values_are_blamed_on_their_flag(t: &Context) {
    let container = limited(t, json!({"memory": {"limit": 50_331_648}}));
    for (flag, wanted) in [
        ("--memory=lots", "--memory lots: not an amount of memory"),
        ("--cpu-share=-5", "--cpu-share -5: not a whole number"),
        ("--pids-limit=x", "--pids-limit x: not a whole number"),
        // Found by the rules of config.json, and by the kernel.
        ("--cpu-period=5", "--cpu-period: 5 is outside 1000 to 1000000 microseconds"),
        (
            "--cpuset-cpus=4000",
            "--cpuset-cpus: linux.resources.cpu.cpus: cannot write \"4000\" to ",
        ),
    ] {
        let text = try_update(t, &container, &[flag]).fails();
        contains(&text, wanted);
        assert!(!text.contains("config.json"), "{text}");
    }
    let limit = "50331648";
    shows(&container, &[("memory", ["memory.limit_in_bytes", limit], ["memory.max", limit])]);
    let stdin = t.runtime().args(["update", "--resources", "-", &container.id]);
    let text = stdin.input(r#"{"cpu": {"cpus": "4000"}}"#).output().fails();
    contains(&text, "--resources: linux.resources.cpu.cpus: cannot write \"4000\" to ");
}

fn failed_update_leaves_the_old_limits(t: &Context) {
    let container = limited(t, json!({"memory": {"limit": 67_108_864}, "pids": {"limit": 50}}));
    try_update(t, &container, &["--memory=41943040", "--pids-limit=40", "--cpuset-cpus=4000"])
        .fails();
    let limit = "67108864";
    shows(
        &container,
        &[
            ("memory", ["memory.limit_in_bytes", limit], ["memory.max", limit]),
            ("pids", ["pids.max", "50"], ["pids.max", "50"]),
        ],
    );
}

fn stats(t: &Context, container: &Container) -> Value {
    let text = t.runtime().args(["events", "--stats", &container.id]).output().ok();
    let event: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&event["type"], &event["id"]), (&json!("stats"), &json!(container.id)));
    event["data"].clone()
}

/// A number in a file of one, or in the line of that name.
fn number(container: &Container, controller: &str, file: &str, line: &str) -> u64 {
    let text = read(&container.cgroup(controller), file);
    let found = match line {
        "" => Some(text.as_str()),
        _ => text.lines().find_map(|l| l.strip_prefix(line)?.strip_prefix(' ')),
    };
    found.unwrap_or_else(|| panic!("{line} in {file}:\n{text}")).parse().unwrap()
}

/// A counter that grows: what was told is between what the kernel said before and after.
#[track_caller]
fn between(told: &Value, before: u64, after: u64) {
    let told = told.as_u64().unwrap();
    assert!((before..=after).contains(&told), "{told} is not in {before} to {after}");
}

fn stats_are_the_kernels(t: &Context) {
    let container = limited(
        t,
        json!({
            "memory": {"limit": 67_108_864},
            "pids": {"limit": 50},
            "cpu": {"quota": 5_000, "period": 100_000},
        }),
    );
    let v1 = cgroup::v1("cpuacct").is_some();
    let total = || match v1 {
        true => number(&container, "cpuacct", "cpuacct.usage", ""),
        false => number(&container, "cpu", "cpu.stat", "usage_usec") * 1000,
    };
    let throttled = || number(&container, "cpu", "cpu.stat", "nr_throttled");
    // Until the quota was used up.
    while throttled() == 0 {
        container.exec(&["sh", "-c", "i=0; while [ $i -lt 5000 ]; do i=$((i+1)); done"]).exits(0);
    }
    let before = (total(), throttled(), number(&container, "cpu", "cpu.stat", "nr_periods"));
    let data = stats(t, &container);
    assert!(before.1 > 0 && before.0 > 0);
    between(&data["cpu"]["usage"]["total"], before.0, total());
    between(&data["cpu"]["throttling"]["throttledPeriods"], before.1, throttled());
    between(
        &data["cpu"]["throttling"]["periods"],
        before.2,
        number(&container, "cpu", "cpu.stat", "nr_periods"),
    );
    assert_eq!(data["memory"]["usage"]["limit"], 67_108_864);
    assert!(data["memory"]["usage"]["usage"].as_u64().unwrap() > 0);
    // memory.stat is told whole.
    let lines = read(&container.cgroup("memory"), "memory.stat");
    let keys: Vec<&str> = lines.lines().filter_map(|l| l.split(' ').next()).collect();
    let mut told: Vec<_> = data["memory"]["raw"].as_object().unwrap().keys().collect();
    told.sort();
    let mut keys: Vec<String> = keys.into_iter().map(String::from).collect();
    keys.sort();
    assert_eq!(told, keys.iter().collect::<Vec<_>>());
    assert_eq!(data["pids"]["limit"], 50);
    assert!((1..=2).contains(&data["pids"]["current"].as_u64().unwrap()), "{}", data["pids"]);
    if v1 {
        let percpu = data["cpu"]["usage"]["percpu"].as_array().unwrap();
        let kernel = read(&container.cgroup("cpuacct"), "cpuacct.usage_percpu");
        assert_eq!(percpu.len(), kernel.split_whitespace().count());
        assert_eq!(data["cpuset"]["sched_load_balance"], 1);
        let cpus = read(&container.cgroup("cpuset"), "cpuset.cpus");
        let first: u64 = cpus.split(['-', ',']).next().unwrap().parse().unwrap();
        assert_eq!(data["cpuset"]["cpus"][0], first);
        let limit = number(&container, "memory", "memory.memsw.limit_in_bytes", "");
        assert_eq!(data["memory"]["swap"]["limit"], limit);
    }
    container.kill("KILL");
    container.wait_status("stopped");
    t.runtime().args(["events", "--stats", &container.id]).output().fails();
}

fn stats_of_v2(t: &Context) {
    let container = limited(
        t,
        json!({
            "memory": {"limit": 67_108_864, "swap": 100_663_296},
            "hugepageLimits": [{"pageSize": "2MB", "limit": 4_194_304}],
        }),
    );
    container.sh("dd if=/dev/zero of=/root/file bs=1M count=4 conv=fsync 2>/dev/null");
    let data = stats(t, &container);
    // Memory and swap together, as v1 has it.
    assert_eq!(data["memory"]["swap"]["limit"], 100_663_296);
    between(&data["memory"]["usage"]["max"], 0, number(&container, "memory", "memory.peak", ""));
    assert_eq!(data["hugetlb"]["2MB"], json!({"failcnt": 0}));
    if container.cgroup("cpu").join("cpu.pressure").exists() {
        for part in ["cpu", "memory", "blkio"] {
            assert!(data[part]["psi"]["some"]["total"].is_u64(), "{part}: {}", data[part]);
        }
    }
    let io = read(&container.cgroup("blkio"), "io.stat");
    for line in io.lines().filter(|line| line.contains("wbytes=")) {
        let (device, fields) = line.split_once(' ').unwrap();
        let value = fields.split(' ').find_map(|f| f.strip_prefix("wbytes=")).unwrap();
        let (major, minor) = device.split_once(':').unwrap();
        let found = data["blkio"]["ioServiceBytesRecursive"].as_array().unwrap().iter().any(|e| {
            e["op"] == "Write"
                && e["major"].as_u64().unwrap_or(0).to_string() == major
                && e["minor"].as_u64().unwrap_or(0).to_string() == minor
                && e["value"].as_u64().unwrap_or(0).to_string() == value
        });
        assert!(found, "{line} in {}", data["blkio"]);
    }
}
