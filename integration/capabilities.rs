//! Capabilities as engines ask for them: all of them, unknown ones, ones that cannot be granted.

use crate::harness::bundle::CAPABILITIES;
use crate::harness::{Context, Need, Test, contains, proc_status, status_field};
use crate::test;
use serde_json::{Value, json};

const LENIENT: &[Need] = &[Need::CortenOnly("1.1 fails with what it cannot grant")];

pub const TESTS: &[Test] = &[
    test!(every_capability_that_the_machine_has).needs(LENIENT),
    test!(every_capability_in_a_user_namespace).needs(LENIENT),
    test!(every_capability_of_exec).needs(LENIENT),
    test!(what_the_machine_withholds_is_a_warning).needs(LENIENT),
    test!(inheritable_beyond_the_bounding_set_is_a_warning).needs(LENIENT),
    test!(effective_beyond_the_permitted_set_is_one_warning).needs(LENIENT),
    test!(unknown_names_of_a_process_file_are_warnings).needs(LENIENT),
    test!(sets_of_a_process_file),
    test!(cap_flag_of_exec_adds_to_the_containers),
];

const SETS: [&str; 5] = ["bounding", "effective", "permitted", "inheritable", "ambient"];
const LINES: [&str; 5] = ["CapBnd", "CapEff", "CapPrm", "CapInh", "CapAmb"];

/// What Docker's --privileged and --cap-add ALL write: every name that there is.
fn everything() -> Value {
    let names: Vec<String> = caps::all().iter().map(ToString::to_string).collect();
    SETS.iter().map(|set| (set.to_string(), json!(names))).collect::<serde_json::Map<_, _>>().into()
}

fn masks(status: &str) -> [u64; 5] {
    LINES.map(|line| u64::from_str_radix(&status_field(status, line).unwrap(), 16).unwrap())
}

fn own_bounding() -> u64 {
    u64::from_str_radix(&proc_status("self", "CapBnd").unwrap(), 16).unwrap()
}

fn bit(name: &str) -> u64 {
    1 << u64::from(name.parse::<caps::Capability>().unwrap().index())
}

const READ: [&str; 2] = ["cat", "/proc/self/status"];

fn every_capability_that_the_machine_has(t: &Context) {
    for uid in [0, 1000] {
        let mut bundle = t.bundle();
        bundle.config["process"]["capabilities"] = everything();
        bundle.config["process"]["user"]["uid"] = json!(uid);
        bundle.args(READ);
        assert_eq!(masks(&bundle.run().ok()), [own_bounding(); 5], "of user {uid}");
    }
}

/// There the kernel grants all, also what the host withholds.
fn every_capability_in_a_user_namespace(t: &Context) {
    let last: u32 =
        std::fs::read_to_string("/proc/sys/kernel/cap_last_cap").unwrap().trim().parse().unwrap();
    let all = [(1u64 << (last + 1)) - 1; 5];
    let mut bundle = t.bundle();
    bundle.user_namespace();
    bundle.config["process"]["capabilities"] = everything();
    bundle.args(READ);
    let output = bundle.run().exits(0);
    assert_eq!(masks(&output.stdout), all);
    assert!(!output.stderr.contains("ignoring capabilities"), "{}", output.stderr);
    // The same in one that is joined.
    let mut first = t.bundle();
    first.user_namespace();
    first.idle();
    let first = first.start();
    bundle.config["linux"]["uidMappings"] = json!([]);
    bundle.config["linux"]["gidMappings"] = json!([]);
    bundle.namespace("user", Some(format!("/proc/{}/ns/user", first.pid())));
    let output = bundle.run().exits(0);
    assert_eq!(masks(&output.stdout), all);
    assert!(!output.stderr.contains("ignoring capabilities"), "{}", output.stderr);
}

fn every_capability_of_exec(t: &Context) {
    let mut bundle = t.bundle();
    bundle.idle();
    let container = bundle.start();
    let mut flags = Vec::new();
    let names: Vec<String> = caps::all().iter().map(ToString::to_string).collect();
    names.iter().for_each(|name| flags.extend(["--cap", name]));
    let all = own_bounding();
    let text = container.exec_command(&flags, &READ).output().ok();
    // Never inheritable or ambient (CVE-2022-29162).
    assert_eq!(masks(&text), [all, all, all, 0, 0]);
    let process =
        json!({"cwd": "/", "args": READ, "env": ["PATH=/bin"], "capabilities": everything()});
    let file = t.path("process.json");
    std::fs::write(&file, process.to_string()).unwrap();
    let text = container.exec_command(&["--process", file.to_str().unwrap()], &[]).output().ok();
    assert_eq!(masks(&text), [all; 5]);
}

/// Here by the caller's own bounding set, on any machine.
fn what_the_machine_withholds_is_a_warning(t: &Context) {
    let mut bundle = t.bundle();
    bundle.config["process"]["capabilities"] = everything();
    bundle.args(READ).write();
    let caller = t.host("/usr/bin/setpriv").args(["--bounding-set", "-sys_time,-syslog"]);
    let run =
        caller.arg(&t.runtime.path).arg("--root").arg(t.state_root()).args(["run", "--bundle"]);
    let output = run.arg(&bundle.dir).arg("narrow").output().exits(0);
    let withheld = bit("CAP_SYS_TIME") | bit("CAP_SYSLOG");
    assert_eq!(masks(&output.stdout), [own_bounding() & !withheld; 5]);
    let warning = output.stderr.lines().find(|line| line.contains("cannot be granted")).unwrap();
    for name in ["CAP_SYS_TIME", "CAP_SYSLOG"] {
        contains(warning, name);
    }
    assert!(!warning.contains("CAP_KILL"), "{warning}");
}

/// capset(2) would refuse the whole call.
fn inheritable_beyond_the_bounding_set_is_a_warning(t: &Context) {
    let mut bundle = t.bundle();
    bundle.config["process"]["capabilities"] = json!({
        "bounding": ["CAP_KILL"], "permitted": ["CAP_KILL"], "effective": ["CAP_KILL"],
        "inheritable": ["CAP_KILL", "CAP_CHOWN"],
    });
    bundle.args(READ);
    let output = bundle.run().exits(0);
    let kill = bit("CAP_KILL");
    assert_eq!(masks(&output.stdout), [kill, kill, kill, kill, 0]);
    contains(&output.stderr, "capabilities.inheritable: CAP_CHOWN cannot be granted");
}

fn effective_beyond_the_permitted_set_is_one_warning(t: &Context) {
    let mut bundle = t.bundle();
    bundle.config["process"]["capabilities"] = json!({
        "bounding": ["CAP_KILL", "CAP_CHOWN"], "permitted": ["CAP_KILL"],
        "effective": ["CAP_KILL", "CAP_CHOWN"],
    });
    bundle.args(READ);
    let output = bundle.run().exits(0);
    let kill = bit("CAP_KILL");
    assert_eq!(masks(&output.stdout)[1..3], [kill, kill]);
    assert_eq!(output.stderr.matches("CAP_CHOWN").count(), 1, "{}", output.stderr);
}

fn unknown_names_of_a_process_file_are_warnings(t: &Context) {
    let mut bundle = t.bundle();
    bundle.idle();
    let container = bundle.start();
    let names = json!(["CAP_KILL", "CAP_OF_TOMORROW"]);
    let process = json!({"cwd": "/", "args": READ, "env": ["PATH=/bin"],
        "capabilities": {"bounding": names, "effective": names, "permitted": names}});
    let file = t.path("process.json");
    std::fs::write(&file, process.to_string()).unwrap();
    let exec = container.exec_command(&["--process", file.to_str().unwrap()], &[]);
    let output = exec.output().exits(0);
    let kill = bit("CAP_KILL");
    assert_eq!(masks(&output.stdout), [kill, kill, kill, 0, 0]);
    contains(&output.stderr, "CAP_OF_TOMORROW");
}

/// Every set by itself. execve(2) makes those of a user from inheritable and ambient alone.
fn sets_of_a_process_file(t: &Context) {
    let mut bundle = t.bundle();
    bundle.idle();
    let container = bundle.start();
    let (kill, bind) = (bit("CAP_KILL"), bit("CAP_NET_BIND_SERVICE"));
    let process = json!({"cwd": "/", "args": READ, "env": ["PATH=/bin"], "user": {"uid": 1000, "gid": 0},
        "capabilities": {"bounding": CAPABILITIES, "permitted": CAPABILITIES,
            "effective": ["CAP_KILL"], "inheritable": ["CAP_KILL", "CAP_NET_BIND_SERVICE"],
            "ambient": ["CAP_NET_BIND_SERVICE"]}});
    let file = t.path("process.json");
    std::fs::write(&file, process.to_string()).unwrap();
    let text = container.exec_command(&["--process", file.to_str().unwrap()], &[]).output().ok();
    let bounding = CAPABILITIES.iter().fold(0, |mask, name| mask | bit(name));
    assert_eq!(masks(&text), [bounding, bind, bind, kill | bind, bind]);
}

fn cap_flag_of_exec_adds_to_the_containers(t: &Context) {
    let mut bundle = t.bundle();
    bundle.idle();
    let container = bundle.start();
    let own = CAPABILITIES.iter().fold(0, |mask, name| mask | bit(name));
    let all = own | bit("CAP_CHOWN");
    let text = container.exec_command(&["--cap", "CAP_CHOWN"], &READ).output().ok();
    assert_eq!(masks(&text), [all, all, all, 0, 0]);
    // The container itself is as it was.
    assert_eq!(masks(&container.exec(&READ).ok()), [own, own, own, 0, 0]);
}
