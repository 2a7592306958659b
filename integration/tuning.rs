//! How much of the machine the process gets, and how: limits, scheduling, CPUs, memory nodes.

use crate::harness::{Bundle, Container, Context, Need, Test, contains, proc_status, status_field};
use crate::test;
use serde_json::{Value, json};

const NEWER: &[Need] = &[Need::CortenOnly("came with 1.2 or later")];
const NUMA: &[Need] = &[Need::CortenOnly("came with 1.4"), Need::Kernel("/proc/self/numa_maps")];

pub const TESTS: &[Test] = &[
    test!(every_rlimit)
        .needs(&[Need::CortenOnly("1.1 gives the hard limit of open files as the soft one, too")]),
    test!(rlimits_of_a_process_file),
    test!(every_scheduling_policy).needs(NEWER),
    test!(every_scheduling_flag).needs(NEWER),
    test!(scheduling_of_exec).needs(NEWER),
    test!(every_class_of_io_priority).needs(NEWER),
    test!(affinity_of_the_runtime_stays_outside).needs(NEWER),
    test!(affinity_is_that_of_the_cpuset).needs(NEWER),
    test!(affinity_of_exec_from_config_json).needs(NEWER),
    test!(affinity_of_exec_from_process_json).needs(NEWER),
    test!(affinity_before_the_cgroup).needs(NEWER),
    test!(affinity_that_cannot_be).needs(NEWER),
    test!(memory_policy_of_every_mode).needs(NUMA),
    test!(memory_policy_of_exec).needs(NUMA),
    test!(memory_policy_that_the_kernel_refuses).needs(NUMA),
];

/// A running `sleep`, which never forks: a deadline task must not.
fn sleeping<'a>(bundle: &mut Bundle<'a>) -> Container<'a> {
    bundle.args(["sleep", "1000"]);
    bundle.start()
}

/// The lines of /proc/PID/limits by the names of config.json, and values that bear a shell.
const LIMITS: [(&str, &str, u64); 16] = [
    ("RLIMIT_AS", "Max address space", 1 << 33),
    ("RLIMIT_CORE", "Max core file size", 1 << 20),
    ("RLIMIT_CPU", "Max cpu time", 1000),
    ("RLIMIT_DATA", "Max data size", 1 << 32),
    ("RLIMIT_FSIZE", "Max file size", 1 << 30),
    ("RLIMIT_LOCKS", "Max file locks", 100),
    ("RLIMIT_MEMLOCK", "Max locked memory", 1 << 16),
    ("RLIMIT_MSGQUEUE", "Max msgqueue size", 1 << 17),
    ("RLIMIT_NICE", "Max nice priority", 7),
    ("RLIMIT_NOFILE", "Max open files", 300),
    ("RLIMIT_NPROC", "Max processes", 400),
    ("RLIMIT_RSS", "Max resident set", 1 << 31),
    ("RLIMIT_RTPRIO", "Max realtime priority", 5),
    ("RLIMIT_RTTIME", "Max realtime timeout", 2_000_000),
    ("RLIMIT_SIGPENDING", "Max pending signals", 500),
    ("RLIMIT_STACK", "Max stack size", 1 << 23),
];

/// Soft and hard limit of that line.
fn limits_in(text: &str, line: &str) -> [u64; 2] {
    let rest = text.lines().find_map(|l| l.strip_prefix(line)).unwrap();
    let mut words = rest.split_whitespace().map(|word| word.parse().unwrap_or(u64::MAX));
    [words.next().unwrap(), words.next().unwrap()]
}

/// What to ask for: soft below hard, and hard within our own, which needs no CAP_SYS_RESOURCE.
fn limits_to_ask() -> Vec<(&'static str, &'static str, [u64; 2])> {
    let own = std::fs::read_to_string("/proc/self/limits").unwrap();
    let asked = |(name, line, value): (&'static str, &'static str, u64)| {
        let hard = (value + 1).min(limits_in(&own, line)[1]);
        (name, line, [hard.saturating_sub(1), hard])
    };
    LIMITS.map(asked).to_vec()
}

fn limits_json() -> Value {
    let entry = |(name, _, [soft, hard]): &(&str, &str, [u64; 2])| json!({"type": name, "soft": soft, "hard": hard});
    limits_to_ask().iter().map(entry).collect()
}

fn has_the_limits(text: &str) {
    for (name, line, expected) in limits_to_ask() {
        assert_eq!(limits_in(text, line), expected, "{name}");
    }
}

fn every_rlimit(t: &Context) {
    let mut bundle = t.bundle();
    bundle.config["process"]["rlimits"] = limits_json();
    let container = sleeping(&mut bundle);
    has_the_limits(&std::fs::read_to_string(format!("/proc/{}/limits", container.pid())).unwrap());
    // Without a process of its own, exec has the container's.
    has_the_limits(&container.exec(&["cat", "/proc/self/limits"]).ok());
}

/// `exec --process` with these fields beside the usual ones, read back by ARGS.
fn exec_process(t: &Context, container: &Container, fields: Value, args: &[&str]) -> String {
    let mut process = json!({"cwd": "/", "args": args, "env": ["PATH=/bin"]});
    process.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    let file = t.path("process.json");
    std::fs::write(&file, process.to_string()).unwrap();
    container.exec_command(&["--process", file.to_str().unwrap()], &[]).output().ok()
}

fn rlimits_of_a_process_file(t: &Context) {
    let container = sleeping(&mut t.bundle());
    let fields = json!({"rlimits": limits_json()});
    has_the_limits(&exec_process(t, &container, fields, &["cat", "/proc/self/limits"]));
}

/// sched_getattr(2) of a process: size policy flags(2) nice priority runtime deadline period.
fn scheduling(t: &Context, pid: i32) -> Vec<i64> {
    let number = if cfg!(target_arch = "x86_64") { 315 } else { 275 };
    let script = format!(
        "my $a = pack('x56'); syscall({number}, {pid}, $a, 56, 0) == 0 or die \"$!\"; \
         print join(' ', unpack('LLQlLQQQ', $a))"
    );
    let text = t.host("/usr/bin/perl").args(["-e", &script]).output().ok();
    text.split(' ').skip(1).map(|number| number.parse().unwrap()).collect()
}

/// cgroup v1 gives new groups no time for FIFO and RR; from the top down they get some.
fn allow_realtime(t: &Context, bundle: &mut Bundle) {
    let Some(cpu) = crate::harness::cgroup::v1("cpu") else { return };
    let mut dir = cpu.mountpoint;
    for part in t.cgroup.split('/').filter(|part| !part.is_empty()) {
        dir.push(part);
        if dir.join("cpu.rt_runtime_us").exists() {
            let own = std::fs::read_to_string(dir.join("cpu.rt_runtime_us")).unwrap();
            if own.trim() == "0" {
                std::fs::write(dir.join("cpu.rt_runtime_us"), "20000").unwrap();
            }
        }
    }
    if dir.join("cpu.rt_runtime_us").exists() {
        bundle.config["linux"]["resources"]["cpu"] =
            json!({"realtimeRuntime": 10_000, "realtimePeriod": 1_000_000});
    }
}

fn every_scheduling_policy(t: &Context) {
    // sched.h: OTHER 0, FIFO 1, RR 2, BATCH 3, IDLE 5, DEADLINE 6. Flags are 0.
    for (scheduler, expected) in [
        (json!({"policy": "SCHED_OTHER"}), [0, 0, 0, 0]),
        (json!({"policy": "SCHED_OTHER", "nice": 19}), [0, 0, 19, 0]),
        (json!({"policy": "SCHED_OTHER", "nice": -20}), [0, 0, -20, 0]),
        (json!({"policy": "SCHED_BATCH", "nice": 3}), [3, 0, 3, 0]),
        (json!({"policy": "SCHED_IDLE"}), [5, 0, 0, 0]),
        (json!({"policy": "SCHED_FIFO", "priority": 1}), [1, 0, 0, 1]),
        (json!({"policy": "SCHED_RR", "priority": 99}), [2, 0, 0, 99]),
    ] {
        let mut bundle = t.bundle();
        allow_realtime(t, &mut bundle);
        bundle.config["process"]["scheduler"] = scheduler.clone();
        let container = sleeping(&mut bundle);
        assert_eq!(scheduling(t, container.pid())[..4], expected, "{scheduler}");
        container.end();
    }
    let mut bundle = t.bundle();
    let times = [10_000_000, 20_000_000, 30_000_000];
    bundle.config["process"]["scheduler"] = json!({"policy": "SCHED_DEADLINE",
        "runtime": times[0], "deadline": times[1], "period": times[2]});
    let container = sleeping(&mut bundle);
    let got = scheduling(t, container.pid());
    assert_eq!((got[0], &got[4..]), (6, &times[..]));

    // Where the cgroup has no time for it.
    if !crate::harness::cgroup::v1("cpu")
        .is_some_and(|cpu| cpu.mountpoint.join("cpu.rt_runtime_us").exists())
    {
        return;
    }
    let mut bundle = t.bundle();
    bundle.config["process"]["scheduler"] = json!({"policy": "SCHED_FIFO", "priority": 1});
    bundle.args(["true"]);
    let refused = bundle.run().fails();
    contains(&refused, "cannot set process.scheduler: operation not permitted");
    contains(&refused, "linux.resources.cpu.realtimeRuntime");
}

fn every_scheduling_flag(t: &Context) {
    let deadline = json!({"policy": "SCHED_DEADLINE", "runtime": 10_000_000,
        "deadline": 20_000_000, "period": 20_000_000});
    let batch = json!({"policy": "SCHED_BATCH", "nice": 4});
    // Policy, flags, nice. KEEP_* are of the call, not of the process: what they keep shows.
    for (scheduler, flag, expected) in [
        (&batch, "SCHED_FLAG_RESET_ON_FORK", [3, 1, 4]),
        (&deadline, "SCHED_FLAG_RECLAIM", [6, 2, 0]),
        (&deadline, "SCHED_FLAG_DL_OVERRUN", [6, 4, 0]),
        (&batch, "SCHED_FLAG_KEEP_POLICY", [0, 0, 4]),
        (&batch, "SCHED_FLAG_KEEP_PARAMS", [0, 0, 0]),
    ] {
        let mut bundle = t.bundle();
        bundle.config["process"]["scheduler"] = scheduler.clone();
        bundle.config["process"]["scheduler"]["flags"] = json!([flag]);
        let container = sleeping(&mut bundle);
        assert_eq!(scheduling(t, container.pid())[..3], expected, "{flag}");
        container.end();
    }
    for (flag, bit) in [("SCHED_FLAG_UTIL_CLAMP_MIN", 0x20), ("SCHED_FLAG_UTIL_CLAMP_MAX", 0x40)] {
        let mut bundle = t.bundle();
        bundle.args(["sleep", "1000"]);
        bundle.config["process"]["scheduler"] = json!({"policy": "SCHED_OTHER", "flags": [flag]});
        let container = bundle.named(&format!("clamp{bit}"));
        let created = container.create(&[]);
        if std::path::Path::new("/proc/sys/kernel/sched_util_clamp_min").exists() {
            created.exits(0);
            assert_eq!(scheduling(t, container.pid())[1] & bit, bit, "{flag}");
        } else {
            contains(&created.fails(), "process.scheduler: operation not supported");
        }
    }
}

fn scheduling_of_exec(t: &Context) {
    let mut bundle = t.bundle();
    bundle.config["process"]["scheduler"] = json!({"policy": "SCHED_BATCH", "nice": 5});
    bundle.config["process"]["ioPriority"] = json!({"class": "IOPRIO_CLASS_BE", "priority": 6});
    let container = sleeping(&mut bundle);
    // Fields of stat: nice 19, policy 41.
    let read = "cut -d' ' -f19,41 < /proc/$$/stat; ionice -p $$";
    assert_eq!(container.sh(read), "5 3\nbest-effort: prio 6");
    let fields = json!({"scheduler": {"policy": "SCHED_IDLE"},
        "ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 2}});
    let got = exec_process(t, &container, fields, &["sh", "-c", read]);
    assert_eq!(got, "0 5\nbest-effort: prio 2");
}

fn every_class_of_io_priority(t: &Context) {
    for (class, priority, expected) in [
        ("IOPRIO_CLASS_RT", 0, "realtime: prio 0"),
        ("IOPRIO_CLASS_RT", 7, "realtime: prio 7"),
        ("IOPRIO_CLASS_BE", 0, "best-effort: prio 0"),
        ("IOPRIO_CLASS_IDLE", 4, "idle"),
    ] {
        let mut bundle = t.bundle();
        bundle.config["process"]["ioPriority"] = json!({"class": class, "priority": priority});
        let container = sleeping(&mut bundle);
        let read = t.host("/usr/bin/ionice").args(["-p", &container.pid().to_string()]);
        assert_eq!(read.output().ok(), expected, "{class} {priority}");
        container.end();
    }
}

/// Our own CPUs: the first, the last, and all as the kernel lists them.
fn cpus() -> (String, String, String) {
    let all = proc_status("self", "Cpus_allowed_list").unwrap();
    let ends: Vec<&str> = all.split([',', '-']).collect();
    (ends.first().unwrap().to_string(), ends.last().unwrap().to_string(), all.clone())
}

const READ_CPUS: [&str; 3] = ["grep", "Cpus_allowed_list", "/proc/self/status"];

fn cpus_in(text: &str) -> String {
    status_field(text, "Cpus_allowed_list").unwrap()
}

/// A command of the runtime that may itself run on that CPU only.
fn confined(t: &Context, cpu: &str, args: &[&str]) -> String {
    let run = t.host("/usr/bin/taskset").args(["-c", cpu]).arg(&t.runtime.path);
    cpus_in(&run.arg("--root").arg(t.state_root()).args(args).output().ok())
}

fn affinity_of_the_runtime_stays_outside(t: &Context) {
    let (first, last, all) = cpus();
    let mut bundle = t.bundle();
    bundle.args(READ_CPUS);
    // Of exec only.
    bundle.config["process"]["execCPUAffinity"] = json!({"initial": last, "final": last});
    bundle.write();
    let dir = bundle.dir.to_str().unwrap().to_owned();
    assert_eq!(confined(t, &first, &["run", "--bundle", &dir, "confined"]), all);
    let mut bundle = t.bundle();
    let container = sleeping(&mut bundle);
    let exec = [&["exec", &container.id][..], &READ_CPUS].concat();
    assert_eq!(confined(t, &first, &exec), all);
}

fn affinity_is_that_of_the_cpuset(t: &Context) {
    let (first, last, _) = cpus();
    let mut bundle = t.bundle();
    bundle.config["linux"]["resources"]["cpu"] = json!({"cpus": last, "mems": "0"});
    bundle.args(READ_CPUS).write();
    let dir = bundle.dir.to_str().unwrap().to_owned();
    assert_eq!(confined(t, &first, &["run", "--bundle", &dir, "set"]), last);
    let container = sleeping(&mut bundle);
    let exec = [&["exec", &container.id][..], &READ_CPUS].concat();
    assert_eq!(confined(t, &first, &exec), last);
}

fn affinity_of_exec_from_config_json(t: &Context) {
    let (first, last, all) = cpus();
    let mut bundle = t.bundle();
    bundle.config["process"]["execCPUAffinity"] =
        json!({"initial": first, "final": format!("{last}, {last}-{last}")});
    let container = sleeping(&mut bundle);
    assert_eq!(cpus_in(&container.exec(&READ_CPUS).ok()), last);
    assert_eq!(proc_status(container.pid(), "Cpus_allowed_list").unwrap(), all, "init's");
    // A process.json without one has the container's.
    assert_eq!(cpus_in(&exec_process(t, &container, json!({}), &READ_CPUS)), last);
}

fn affinity_of_exec_from_process_json(t: &Context) {
    let (first, last, all) = cpus();
    let container = sleeping(&mut t.bundle());
    for (given, expected) in [
        (json!({"final": first}), &first),
        (json!({"initial": first, "final": last}), &last),
        (json!({"initial": "", "final": ""}), &all),
        // Longer than the 1024 CPUs of cpu_set_t; the kernel takes what it has.
        (json!({"final": format!("{last},1030-1040,65535")}), &last),
    ] {
        let fields = json!({ "execCPUAffinity": given });
        assert_eq!(&cpus_in(&exec_process(t, &container, fields, &READ_CPUS)), expected, "{given}");
    }
}

/// The order of the calls is what `initial` is about: only a trace shows it.
fn affinity_before_the_cgroup(t: &Context) {
    let (first, last, _) = cpus();
    let mut bundle = t.bundle();
    bundle.config["process"]["execCPUAffinity"] = json!({"initial": first});
    let container = sleeping(&mut bundle);
    // Without `final` it stays as the kernel leaves it.
    assert_eq!(cpus_in(&container.exec(&READ_CPUS).ok()), first);
    container.end();
    bundle.config["process"]["execCPUAffinity"] = json!({"initial": first, "final": last});
    let container = sleeping(&mut bundle);
    let trace = t.path("trace");
    let calls = "trace=sched_setaffinity,clone3,execve";
    let strace = t.host("/usr/bin/strace").args(["-f", "-e", calls, "-o"]).arg(&trace);
    let run = strace.arg(&t.runtime.path).arg("--root").arg(t.state_root());
    run.args(["exec", &container.id, "true"]).output().exits(0);
    let trace = std::fs::read_to_string(trace).unwrap();
    let at = |what: &str| trace.find(what).unwrap_or_else(|| panic!("no {what} in\n{trace}"));
    let sets = |cpu: &str| at(&format!("[{cpu}])"));
    assert!(sets(&first) < at("clone3(") && at("clone3(") < sets(&last), "{trace}");
}

fn affinity_that_cannot_be(t: &Context) {
    let container = sleeping(&mut t.bundle());
    let file = t.path("process.json");
    for (affinity, reason) in [
        (json!({"initial": "4000"}), "process.execCPUAffinity.initial: invalid argument"),
        (json!({"final": "4000"}), "process.execCPUAffinity.final: invalid argument"),
        (json!({"final": "3-1"}), "execCPUAffinity.final: \"3-1\" is not a list"),
        (json!({"final": "65536"}), "execCPUAffinity.final: \"65536\" is not a list"),
    ] {
        let process = json!({"cwd": "/", "args": ["true"], "execCPUAffinity": affinity});
        std::fs::write(&file, process.to_string()).unwrap();
        let exec = container.exec_command(&["--process", file.to_str().unwrap()], &[]);
        contains(&exec.output().fails(), reason);
    }
    assert_eq!(container.status(), "running");
}

/// The policy of the first mapping, which has none of its own: numa(7).
const READ_POLICY: &str = "head -n 1 /proc/self/numa_maps | cut -d ' ' -f 2";

fn with_policy<'a>(t: &'a Context, policy: &Value) -> Bundle<'a> {
    let mut bundle = t.bundle();
    bundle.config["linux"]["memoryPolicy"] = policy.clone();
    bundle
}

fn memory_policy_of_every_mode(t: &Context) {
    let (fixed, relative, balanced) =
        ("MPOL_F_STATIC_NODES", "MPOL_F_RELATIVE_NODES", "MPOL_F_NUMA_BALANCING");
    for (mode, nodes, flags, expected) in [
        ("MPOL_DEFAULT", "", &[][..], "default"),
        ("MPOL_LOCAL", "", &[], "local"),
        ("MPOL_BIND", "0", &[], "bind:0"),
        ("MPOL_BIND", "0", &[fixed], "bind=static:0"),
        ("MPOL_BIND", "0", &[balanced], "bind=balancing:0"),
        ("MPOL_INTERLEAVE", "0", &[relative], "interleave=relative:0"),
        ("MPOL_WEIGHTED_INTERLEAVE", "0", &[], "weighted interleave:0"),
        ("MPOL_PREFERRED", "0", &[], "prefer:0"),
        ("MPOL_PREFERRED", "", &[], "local"),
        ("MPOL_PREFERRED_MANY", "0-0,0", &[], "prefer (many):0"),
    ] {
        let policy = json!({"mode": mode, "nodes": nodes, "flags": flags});
        let mut bundle = with_policy(t, &policy);
        // Names may hold blanks; what follows the policy is file= or another key.
        bundle.script("sed -n '1s/^[^ ]* \\(.*\\) file=.*/\\1/p' /proc/self/numa_maps");
        let got = bundle.run().ok();
        // Newer kernels show balancing beside other flags.
        assert_eq!(got, expected, "{policy}");
    }
}

fn memory_policy_of_exec(t: &Context) {
    let mut bundle = with_policy(t, &json!({"mode": "MPOL_BIND", "nodes": "0"}));
    bundle.config["linux"]["resources"]["cpu"] = json!({"mems": "0"});
    let container = sleeping(&mut bundle);
    assert_eq!(container.sh(READ_POLICY), "bind:0");
}

fn memory_policy_that_the_kernel_refuses(t: &Context) {
    let policy = json!({"mode": "MPOL_BIND", "nodes": "1000"});
    let error = with_policy(t, &policy).create_fails();
    contains(&error, "linux.memoryPolicy (set_mempolicy): invalid argument");
    contains(&error, "hint: its nodes must have memory");
}
