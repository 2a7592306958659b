//! seccomp, labels, the sealed binary, order of privileges.

use crate::harness::fds::Receiver;
use crate::harness::{Bundle, Context, Need, Test, contains, status_field};
use crate::test;
use serde_json::{Value, json};

pub const TESTS: &[Test] = &[
    test!(seccomp_is_on_and_off),
    test!(seccomp_errno),
    test!(seccomp_default_errno),
    test!(seccomp_kill_and_trap),
    test!(seccomp_log_and_trace),
    test!(seccomp_arguments),
    test!(seccomp_masked_argument),
    test!(seccomp_unknown_call_in_profile_is_skipped),
    test!(seccomp_new_calls_get_enosys),
    test!(seccomp_without_no_new_privileges),
    test!(seccomp_older_than_faccessat2),
    test!(seccomp_without_getcwd).needs(&[Need::CortenOnly("it asks after the filter is loaded")]),
    test!(seccomp_default_allow_list),
    test!(seccomp_flags).needs(&[Need::CortenOnly("1.1 takes no flags")]),
    test!(seccomp_notify_sends_the_listener),
    test!(seccomp_notify_without_receiver_fails),
    test!(seccomp_faults_are_refused),
    test!(seccomp_of_exec),
    test!(own_profiles_run).needs(&[Need::CortenOnly("`spec --seccomp` is Corten's")]),
    test!(strict_profile_denies).needs(&[Need::CortenOnly("`spec --seccomp` is Corten's")]),
    test!(apparmor_label_without_apparmor_fails)
        .needs(&[Need::CortenOnly("1.1 writes it blindly: the kernel's answer differs")]),
    test!(selinux_label_without_selinux),
    test!(binary_cannot_be_overwritten),
    test!(runtime_process_is_not_dumpable_for_the_container),
    test!(waiting_init_cannot_be_looked_into),
    test!(runtime_runs_from_a_binary_that_nobody_can_write),
    test!(waiting_init_holds_nothing_of_the_host)
        .needs(&[Need::CortenOnly("1.1 keeps a directory")]),
];

fn with_profile(bundle: &mut Bundle, profile: Value) {
    bundle.config["linux"]["seccomp"] = profile;
}

/// Allows all but what `rules` say.
fn allow_but(rules: Value) -> Value {
    json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules})
}

fn seccomp_is_on_and_off(t: &Context) {
    let mut bundle = t.bundle();
    bundle.args(["cat", "/proc/self/status"]);
    assert_eq!(status_field(&bundle.run().ok(), "Seccomp").unwrap(), "0");
    with_profile(&mut bundle, allow_but(json!([])));
    if t.runtime.is_corten() {
        let text = bundle.run().ok();
        assert!(["0", "2"].contains(&status_field(&text, "Seccomp").unwrap().as_str()));
    }
    let rule = json!([{"names": ["getcwd"], "action": "SCMP_ACT_ERRNO"}]);
    with_profile(&mut bundle, allow_but(rule));
    let text = bundle.run().ok();
    assert_eq!(status_field(&text, "Seccomp").unwrap(), "2");
    assert_eq!(status_field(&text, "Seccomp_filters").unwrap(), "1");
}

fn seccomp_errno(t: &Context) {
    let mut bundle = t.bundle();
    bundle.script("mkdir /tmp/a; echo $?; touch /tmp/b && echo b");
    let rule = |errno: Value| {
        let mut rule =
            json!([{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": errno}]);
        if errno.is_null() {
            rule[0].as_object_mut().unwrap().remove("errnoRet");
        }
        allow_but(rule)
    };
    for (errno, text) in [
        (Value::Null, "Operation not permitted"),
        (json!(13), "Permission denied"),
        (json!(38), "Function not implemented"),
    ] {
        with_profile(&mut bundle, rule(errno));
        let output = bundle.run();
        contains(&output.stderr, text);
        assert_eq!(output.ok(), "1\nb");
    }
}

/// What busybox's sh and the start of a process need, by name.
const BASIC: [&str; 45] = [
    "access",
    "arch_prctl",
    "brk",
    "capget",
    "capset",
    "chdir",
    "clone",
    "clone3",
    "close",
    "close_range",
    "dup",
    "dup2",
    "dup3",
    "execve",
    "execveat",
    "exit",
    "exit_group",
    "faccessat",
    "fcntl",
    "fork",
    "fstat",
    "fstatfs",
    "futex",
    "getcwd",
    "getdents64",
    "getpid",
    "getppid",
    "getuid",
    "mmap",
    "mprotect",
    "munmap",
    "newfstatat",
    "openat",
    "prctl",
    "prlimit64",
    "read",
    "readlink",
    "rt_sigaction",
    "rt_sigprocmask",
    "rt_sigreturn",
    "set_tid_address",
    "stat",
    "vfork",
    "wait4",
    "write",
];

/// More that the runtimes do themselves after the filter is loaded.
const RUNTIME: [&str; 34] = [
    "set_robust_list",
    "rseq",
    "getrandom",
    "ioctl",
    "setgid",
    "setgroups",
    "setuid",
    "sigaltstack",
    "gettid",
    "tgkill",
    "nanosleep",
    "clock_nanosleep",
    "epoll_ctl",
    "epoll_pwait",
    "epoll_create1",
    "eventfd2",
    "pipe2",
    "sched_yield",
    "sched_getaffinity",
    "madvise",
    "statfs",
    "writev",
    "sendmsg",
    "recvmsg",
    "sendto",
    "recvfrom",
    "geteuid",
    "getgid",
    "getegid",
    "setresuid",
    "setresgid",
    "lseek",
    "open",
    "poll",
];

fn allow_only(calls: &[&str]) -> Value {
    json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "syscalls": [{"names": calls, "action": "SCMP_ACT_ALLOW"}],
    })
}

fn seccomp_default_allow_list(t: &Context) {
    let mut bundle = t.bundle();
    bundle.script("echo works; mkdir /tmp/a");
    with_profile(&mut bundle, allow_only(&[&BASIC[..], &RUNTIME[..]].concat()));
    let output = bundle.run().exits(1);
    assert_eq!(output.stdout, "works\n");
    contains(&output.stderr, "Operation not permitted");
}

fn seccomp_default_errno(t: &Context) {
    let mut bundle = t.bundle();
    bundle.script("mkdir /tmp/a");
    let mut profile = allow_only(&[&BASIC[..], &RUNTIME[..]].concat());
    profile["defaultErrnoRet"] = json!(22);
    with_profile(&mut bundle, profile);
    contains(&bundle.run().exits(1).stderr, "Invalid argument");
}

fn seccomp_kill_and_trap(t: &Context) {
    // SIGSYS is 31.
    for action in
        ["SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_KILL_THREAD", "SCMP_ACT_TRAP"]
    {
        let mut bundle = t.bundle();
        bundle.script("mkdir /tmp/a; echo $?");
        let rule = json!([{"names": ["mkdir", "mkdirat"], "action": action}]);
        with_profile(&mut bundle, allow_but(rule));
        assert_eq!(bundle.run().ok(), "159", "{action}");
    }
}

fn seccomp_log_and_trace(t: &Context) {
    let mut bundle = t.bundle();
    bundle.script("mkdir /tmp/$0 && echo made");
    let rule = |action: &str| json!([{"names": ["mkdir", "mkdirat"], "action": action}]);
    with_profile(&mut bundle, allow_but(rule("SCMP_ACT_LOG")));
    assert_eq!(bundle.run().ok(), "made");
    // Nobody traces: the kernel answers ENOSYS.
    with_profile(&mut bundle, allow_but(rule("SCMP_ACT_TRACE")));
    contains(&bundle.run().stderr, "Function not implemented");
}

fn seccomp_arguments(t: &Context) {
    let mut bundle = t.bundle();
    // kill(pid, SIGUSR1 = 10)
    bundle.script(
        "(trap '' USR1 USR2 TERM; exec sleep 9) & p=$!; sleep 0.2; for s in 0 10 12 15; do kill -$s $p 2>/dev/null; printf \"$? \"; done",
    );
    // Each is denied where the comparison with 10 or 12 holds, in the order 0, 10, 12, 15.
    for (op, value, expected) in [
        ("SCMP_CMP_EQ", 10, "0 1 0 0"),
        ("SCMP_CMP_NE", 0, "0 1 1 1"),
        ("SCMP_CMP_GE", 10, "0 1 1 1"),
        ("SCMP_CMP_LT", 12, "1 1 0 0"),
        ("SCMP_CMP_LE", 12, "1 1 1 0"),
    ] {
        let rule = json!([{
            "names": ["kill"], "action": "SCMP_ACT_ERRNO",
            "args": [{"index": 1, "value": value, "op": op}],
        }]);
        with_profile(&mut bundle, allow_but(rule));
        let printed = bundle.run().stdout;
        assert_eq!(printed.trim(), expected, "{op} {value}");
    }
}

fn seccomp_masked_argument(t: &Context) {
    let mut bundle = t.bundle();
    bundle.script(
        "(trap '' USR1 USR2 TERM; exec sleep 9) & p=$!; sleep 0.2; for s in 0 10 15; do kill -$s $p 2>/dev/null; printf \"$? \"; done",
    );
    // signal & 8 == 8: of 0, 10 (1010) and 15 (1111) the last two.
    let rule = json!([{
        "names": ["kill"], "action": "SCMP_ACT_ERRNO",
        "args": [{"index": 1, "value": 8, "valueTwo": 8, "op": "SCMP_CMP_MASKED_EQ"}],
    }]);
    with_profile(&mut bundle, allow_but(rule));
    assert_eq!(bundle.run().stdout.trim(), "0 1 1");
}

fn seccomp_unknown_call_in_profile_is_skipped(t: &Context) {
    let mut bundle = t.bundle();
    bundle.script("echo fine");
    let rule = json!([{"names": ["no_such_call_ever", "mkdir"], "action": "SCMP_ACT_ERRNO"}]);
    with_profile(&mut bundle, allow_but(rule));
    assert_eq!(bundle.run().ok(), "fine");
}

/// Programs fall back to older calls at ENOSYS, not at EPERM: an allow list that does not know a
/// call answers as a kernel that does not know it.
fn seccomp_new_calls_get_enosys(t: &Context) {
    let python = "import ctypes,os; l=ctypes.CDLL(None,use_errno=True); \
        r=[]\nfor n in (999,83):\n l.syscall(n,b'/tmp/x',0o700); r.append(ctypes.get_errno())\nprint(*r)";
    let mut bundle = t.bundle();
    // The host's python in the host's root, read-only: the question is the filter's.
    let root = t.path("root");
    std::fs::create_dir(&root).unwrap();
    t.sh(&format!("mount --bind / {}", root.display()));
    bundle.config["root"] = json!({"path": root, "readonly": true});
    bundle.args(["/usr/bin/python3", "-c", python]);
    let known = |skip: &str| {
        // Every call up to 334 but mkdir (83 on x86_64).
        let names = t.sh("sed -n 's/^#define __NR_\\([a-z0-9_]*\\) .*/\\1/p' /usr/include/x86_64-linux-gnu/asm/unistd_64.h");
        names.lines().filter(|n| *n != skip).map(String::from).collect::<Vec<_>>()
    };
    let names = known("mkdir");
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut profile = allow_only(&names);
    profile["architectures"] = json!(["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]);
    with_profile(&mut bundle, profile);
    let output = bundle.run();
    t.sh(&format!("umount {}", root.display()));
    // ENOSYS 38 for the unknown one; EPERM 1 for the one that is left out.
    assert_eq!(output.ok(), "38 1");
}

fn seccomp_without_no_new_privileges(t: &Context) {
    let mut bundle = t.bundle();
    bundle.config["process"]["noNewPrivileges"] = json!(false);
    bundle.config["process"]["user"]["uid"] = json!(1000);
    bundle.script("grep -E 'Seccomp:|NoNewPrivs|CapEff' /proc/self/status; mkdir /tmp/a");
    let rule = json!([{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}]);
    with_profile(&mut bundle, allow_but(rule));
    let output = bundle.run();
    contains(&output.stdout, "Seccomp:\t2");
    contains(&output.stdout, "NoNewPrivs:\t0");
    contains(&output.stdout, "CapEff:\t0000000000000000");
    contains(&output.stderr, "Operation not permitted");
}

/// Profiles from before Linux 5.8 refuse faccessat2(2), by which a program is found.
fn seccomp_older_than_faccessat2(t: &Context) {
    let mut bundle = t.bundle();
    bundle.config["process"]["noNewPrivileges"] = json!(false);
    let rule = json!([{"names": ["faccessat2"], "action": "SCMP_ACT_ERRNO"}]);
    with_profile(&mut bundle, allow_but(rule));
    for (uid, program) in [(0, "echo"), (0, "/bin/echo"), (1000, "echo"), (1000, "/bin/echo")] {
        bundle.config["process"]["user"]["uid"] = json!(uid);
        bundle.args([program, "found"]);
        assert_eq!(bundle.run().ok(), "found", "{program} as {uid}");
    }
    bundle.args(["/etc/passwd"]);
    contains(&bundle.create_fails(), "permission denied");
}

fn seccomp_without_getcwd(t: &Context) {
    for no_new_privileges in [false, true] {
        let mut bundle = t.bundle();
        bundle.config["process"]["noNewPrivileges"] = json!(no_new_privileges);
        let rule = json!([{"names": ["getcwd"], "action": "SCMP_ACT_ERRNO"}]);
        with_profile(&mut bundle, allow_but(rule));
        bundle.script("readlink /proc/self/cwd; exec busybox pwd");
        assert_eq!(bundle.run().exits(1).stdout, "/\n");
    }
}

fn seccomp_flags(t: &Context) {
    for flags in [
        json!(["SECCOMP_FILTER_FLAG_LOG"]),
        json!(["SECCOMP_FILTER_FLAG_SPEC_ALLOW", "SECCOMP_FILTER_FLAG_TSYNC"]),
        json!([]),
    ] {
        let mut bundle = t.bundle();
        bundle.script("mkdir /tmp/a 2>/dev/null; echo $?");
        let rule = json!([{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}]);
        let mut profile = allow_but(rule);
        profile["flags"] = flags.clone();
        with_profile(&mut bundle, profile);
        assert_eq!(bundle.run().ok(), "1", "{flags}");
    }
}

fn seccomp_notify_sends_the_listener(t: &Context) {
    let socket = t.path("notify");
    let receiver = Receiver::bind(&socket);
    let mut bundle = t.bundle();
    bundle.script("mkdir /tmp/a; echo done");
    let mut profile =
        allow_but(json!([{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_NOTIFY"}]));
    profile["listenerPath"] = json!(socket);
    profile["listenerMetadata"] = json!("some metadata");
    with_profile(&mut bundle, profile);
    bundle.config["annotations"] = json!({"key": "value"});
    let container = bundle.create();
    let (text, fds) = receiver.receive();
    let state: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(state["fds"], json!(["seccompFd"]));
    assert_eq!(state["metadata"], "some metadata");
    assert_eq!(state["pid"], json!(container.pid()));
    assert_eq!(state["state"]["id"], json!(container.id));
    assert_eq!(state["state"]["annotations"]["key"], "value");
    assert_eq!(state["state"]["bundle"], json!(bundle.dir));
    assert_eq!(fds.len(), 1);
    container.command("start").exits(0);
    std::thread::sleep(std::time::Duration::from_millis(200));
    assert!(!container.printed().contains("done"), "the call waits for the listener");
    drop(fds);
    // Without a listener the kernel answers ENOSYS.
    container.wait_printed("done");
}

fn seccomp_notify_without_receiver_fails(t: &Context) {
    let mut bundle = t.bundle();
    let mut profile = allow_but(json!([{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}]));
    profile["listenerPath"] = json!(t.path("nobody"));
    with_profile(&mut bundle, profile);
    contains(&bundle.create_fails(), "nobody");
}

fn seccomp_faults_are_refused(t: &Context) {
    let rule = |rule: Value| allow_but(json!([rule]));
    let notify = json!({"defaultAction": "SCMP_ACT_NOTIFY", "listenerPath": "/x"});
    for (profile, field) in [
        (json!({"defaultAction": "SCMP_ACT_NOSUCH"}), "defaultAction"),
        (notify, "NOTIFY"),
        (rule(json!({"names": ["mkdir"], "action": "SCMP_ACT_NOSUCH"})), "action"),
        (json!({"defaultAction": "SCMP_ACT_ALLOW", "flags": ["NOSUCH"]}), "flags"),
        (json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["NOSUCH"]}), "architectures"),
        (
            rule(json!({"names": ["mkdir"], "action": "SCMP_ACT_ERRNO",
                "args": [{"index": 9, "value": 1, "op": "SCMP_CMP_EQ"}]})),
            "index",
        ),
        (
            rule(json!({"names": ["mkdir"], "action": "SCMP_ACT_ERRNO",
                "args": [{"index": 0, "value": 1, "op": "NOSUCH"}]})),
            "op",
        ),
    ] {
        let mut bundle = t.bundle();
        with_profile(&mut bundle, profile.clone());
        if field == "flags" || field == "architectures" {
            let rule = json!([{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO"}]);
            bundle.config["linux"]["seccomp"]["syscalls"] = rule;
        }
        let error = bundle.create_fails();
        if t.runtime.is_corten() {
            contains(&error, "config.json");
            contains(&error, field);
        }
    }
}

fn seccomp_of_exec(t: &Context) {
    let mut bundle = t.bundle();
    bundle.idle();
    let rule = json!([{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}]);
    with_profile(&mut bundle, allow_but(rule));
    let container = bundle.start();
    let output = container.exec(&["mkdir", "/tmp/a"]);
    contains(&output.fails(), "Operation not permitted");
}

/// `spec --seccomp NAME` writes a profile of ours; edits the config as the tests' default.
fn own_profile<'a>(t: &'a Context, name: &str) -> Bundle<'a> {
    let mut bundle = t.bundle();
    let dir = t.path("spec");
    std::fs::create_dir(&dir).unwrap();
    t.runtime().args(["spec", "--seccomp", name]).dir(&dir).output().exits(0);
    let text = std::fs::read_to_string(dir.join("config.json")).unwrap();
    let config: Value = serde_json::from_str(&text).unwrap();
    with_profile(&mut bundle, config["linux"]["seccomp"].clone());
    bundle
}

fn own_profiles_run(t: &Context) {
    for name in ["default", "strict"] {
        let mut bundle = own_profile(t, name);
        bundle.script(
            "grep Seccomp: /proc/self/status; ls / > /dev/null && mkdir /tmp/x && echo ok | cat",
        );
        let output = bundle.run().ok();
        contains(&output, "Seccomp:\t2");
        contains(&output, "ok");
    }
    let dir = t.path("none");
    std::fs::create_dir(&dir).unwrap();
    t.runtime().args(["spec", "--seccomp", "none"]).dir(&dir).output().exits(0);
    let text = std::fs::read_to_string(dir.join("config.json")).unwrap();
    assert!(!text.contains("seccomp"), "{text}");
}

fn strict_profile_denies(t: &Context) {
    for name in ["default", "strict"] {
        let mut bundle = own_profile(t, name);
        bundle.all_capabilities();
        bundle.script("unshare -U true; echo $?; mount -t tmpfs t /mnt; echo $?");
        let output = bundle.run();
        assert!(!output.stdout.lines().any(|line| line == "0"), "{name}: {output}");
    }
    let mut bundle = own_profile(t, "strict");
    bundle.args(["nc", "-l", "-p", "80"]);
    assert_ne!(bundle.run().code(), 0);
}

fn apparmor_label_without_apparmor_fails(t: &Context) {
    if std::fs::read_to_string("/sys/module/apparmor/parameters/enabled")
        .is_ok_and(|v| v.starts_with('Y'))
    {
        return;
    }
    // As runc: a profile that cannot be applied is an error, not a container without it.
    let mut bundle = t.bundle();
    bundle.config["process"]["apparmorProfile"] = json!("some-profile");
    contains(&bundle.create_fails(), "apparmor");
}

fn selinux_label_without_selinux(t: &Context) {
    let mut bundle = t.bundle();
    bundle.config["process"]["selinuxLabel"] = json!("system_u:system_r:container_t:s0");
    // runc refuses it ("selinux is not enabled"); to run without the label would be wrong.
    contains(&bundle.create_fails().to_lowercase(), "selinux");
}

/// CVE-2019-5736: neither through /proc/PID/exe nor as the program itself.
fn binary_cannot_be_overwritten(t: &Context) {
    let copy = t.path("runtime");
    t.sh(&format!("cp {} {}", t.runtime.path.display(), copy.display()));
    let before = std::fs::read(&copy).unwrap();
    let mut bundle = t.bundle();
    bundle.all_capabilities();
    bundle.script(
        "i=0; while [ $i -lt 4000 ]; do i=$((i+1)); for p in /proc/[0-9]*; do \
         [ $p = /proc/1 ] || (echo overwritten > $p/exe) 2>/dev/null; done; done",
    );
    bundle.write();
    let run = |args: &[&str]| {
        t.host(&copy).arg("--root").arg(t.state_root()).args(args.iter().copied()).output()
    };
    let dir = bundle.dir.to_str().unwrap();
    run(&["run", "--detach", "--bundle", dir, "attacker"]).exits(0);
    for _ in 0..20 {
        run(&["exec", "attacker", "true"]);
        run(&["exec", "attacker", "/proc/self/exe"]);
    }
    // The entry point is the runtime itself: a script run by it would be handed the open binary.
    let mut second = t.bundle();
    std::fs::write(second.rootfs("go"), "#!/proc/self/exe\n").unwrap();
    t.sh(&format!("chmod 755 {}", second.rootfs("go").display()));
    second.args(["/go"]);
    second.write();
    run(&["run", "--bundle", second.dir.to_str().unwrap(), "second"]);
    run(&["delete", "--force", "second"]);
    run(&["delete", "--force", "attacker"]).exits(0);
    assert!(std::fs::read(&copy).unwrap() == before, "the binary on the host has changed");
}

/// CVE-2016-9962: what joins must show no descriptor of the host to who is already inside.
fn runtime_process_is_not_dumpable_for_the_container(t: &Context) {
    let mut bundle = t.bundle();
    bundle.all_capabilities();
    bundle.script(
        "while :; do for p in /proc/[0-9]*; do case $p in /proc/1) ;; *) \
         ls $p/fd/*/etc/debian_version $p/root/../etc/debian_version $p/cwd/etc/debian_version 2>/dev/null;; \
         esac; done; done",
    );
    let container = bundle.start();
    for _ in 0..30 {
        container.exec(&["true"]);
    }
    assert_eq!(container.printed(), "", "a directory of the host was reachable");
}

/// CVE-2016-9962: the same user with the same capabilities, in the same pid namespace.
fn waiting_init_cannot_be_looked_into(t: &Context) {
    let mut bundle = t.bundle();
    bundle.idle();
    let first = bundle.start();
    let mut bundle = t.bundle();
    bundle.namespace("pid", Some(format!("/proc/{}/ns/pid", first.pid())));
    let waiting = bundle.create();
    let numbers = crate::harness::proc_status(waiting.pid(), "NSpid").unwrap();
    let inside = numbers.split_whitespace().last().unwrap();
    contains(&first.exec(&["ls", &format!("/proc/{inside}/root/")]).fails(), "Permission denied");
}

/// CVE-2019-5736: init before its exec, and the runtime that waits for `run` and `exec`.
fn runtime_runs_from_a_binary_that_nobody_can_write(t: &Context) {
    use nix::sys::statvfs::{FsFlags, fstatvfs};
    let is_sealed = |pid: i32| {
        let Ok(exe) = std::fs::File::open(format!("/proc/{pid}/exe")) else { return false };
        let read_only = fstatvfs(&exe).unwrap().flags().contains(FsFlags::ST_RDONLY);
        let seals = nix::fcntl::fcntl(&exe, nix::fcntl::FcntlArg::F_GET_SEALS);
        read_only || seals.is_ok_and(|seals| seals != 0)
    };
    let container = t.bundle().create();
    assert!(is_sealed(container.pid()), "init");
    if !t.runtime.is_corten() {
        return;
    }
    let mut bundle = t.bundle();
    bundle.idle();
    let running = bundle.start();
    let exec = running.exec_command(&[], &["sh", "-c", "echo ready; sleep 1000"]).spawn();
    crate::harness::wait_for("the program", 10, || {
        std::fs::read_to_string(&exec.out).unwrap().contains("ready")
    });
    assert!(is_sealed(exec.pid()), "exec");
    running.kill("KILL");
    exec.wait().exits(137);
}

/// With CAP_SYS_PTRACE a neighbour could go through it: to the host's /proc, for one.
fn waiting_init_holds_nothing_of_the_host(t: &Context) {
    use std::os::unix::fs::FileTypeExt;
    let with_program = t.bundle().create();
    let mut bundle = t.bundle();
    bundle.config.as_object_mut().unwrap().remove("process");
    let without = bundle.create();
    for pid in [with_program.pid(), without.pid()] {
        for entry in std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap() {
            let path = entry.unwrap().path();
            let kind = std::fs::metadata(&path).unwrap().file_type();
            let standard = ["0", "1", "2"].iter().any(|fd| path.ends_with(fd));
            let link = std::fs::read_link(&path).unwrap();
            assert!(standard || kind.is_fifo() || kind.is_socket(), "{path:?}: {link:?}");
        }
    }
}
