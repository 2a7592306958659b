//! linux.seccomp, effect by effect (spec config-linux.md "Seccomp"): every action, comparison and
//! flag is seen in what the kernel does, and the agent's side of a listener.
#![allow(unsafe_code)]

use crate::harness::fds::Receiver;
use crate::harness::{Bundle, Context, Need, Test, contains, leftovers, proc_status, wait_for};
use crate::test;
use libseccomp::{ScmpArch, ScmpNotifReq, ScmpNotifResp, ScmpNotifRespFlags, notify_id_valid};
use serde_json::{Value, json};
use std::os::fd::{AsRawFd, OwnedFd};

pub const TESTS: &[Test] = &[
    test!(trap_is_a_signal_that_can_be_caught),
    test!(kill_of_a_thread_and_of_the_process).needs(&[Need::Program("python3")]),
    test!(trace_tells_the_tracer_the_number)
        .needs(&[Need::CortenOnly("its init has many threads, and the tracer one")]),
    test!(log_is_in_the_kernels_log),
    test!(every_comparison).needs(&[Need::Program("python3")]),
    test!(errno_is_for_errno_and_trace_only).needs(&[Need::CortenOnly("1.1 ignores it")]),
    test!(flags_reach_the_kernel)
        .needs(&[Need::Program("strace"), Need::CortenOnly("1.1 takes no flags")]),
    test!(agent_answers),
    test!(wait_killable_keeps_signals_from_the_call)
        .needs(&[Need::CortenOnly("1.1 takes no flags")]),
    test!(one_state_per_connection),
    test!(exec_has_a_listener_of_its_own),
    test!(listener_path_without_notify_is_ignored),
];

fn rule(names: &[&str], action: &str) -> Value {
    json!({"names": names, "action": action})
}

fn profile(rules: Value) -> Value {
    json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules})
}

fn with(bundle: &mut Bundle, profile: Value) {
    bundle.config["linux"]["seccomp"] = profile;
}

/// A bundle that runs a python script in the host's root file system, read-only.
fn python<'a>(t: &'a Context, script: &str) -> Bundle<'a> {
    let mut bundle = t.bundle();
    let root = t.path("root");
    std::fs::create_dir(&root).unwrap();
    t.sh(&format!("mount --bind / {}", root.display()));
    bundle.config["root"] = json!({"path": root, "readonly": true});
    bundle.args(["/usr/bin/python3", "-c", script]);
    bundle
}

fn trap_is_a_signal_that_can_be_caught(t: &Context) {
    let mut bundle = t.bundle();
    bundle.script("trap 'echo caught' SYS; umask 0; echo after");
    with(&mut bundle, profile(json!([rule(&["umask"], "SCMP_ACT_TRAP")])));
    assert_eq!(bundle.run().ok(), "caught\nafter");
}

fn kill_of_a_thread_and_of_the_process(t: &Context) {
    let script = "import threading,os,sys,time\n\
        threading.Thread(target=lambda: os.mkdir('/tmp/x'), daemon=True).start()\n\
        time.sleep(0.3)\n\
        print('alive', len(os.listdir('/proc/self/task')), flush=True)\n\
        os._exit(0)\n";
    for (action, code, out) in [
        ("SCMP_ACT_KILL_THREAD", 0, "alive 1\n"),
        ("SCMP_ACT_KILL", 0, "alive 1\n"),
        // SIGSYS is 31.
        ("SCMP_ACT_KILL_PROCESS", 128 + 31, ""),
    ] {
        let mut bundle = python(t, script);
        with(&mut bundle, profile(json!([rule(&["mkdir"], action)])));
        let output = bundle.run().exits(code);
        assert_eq!(output.stdout, out, "{action}");
        t.sh(&format!("umount {}", bundle.config["root"]["path"]));
        std::fs::remove_dir_all(&bundle.dir).unwrap();
    }
}

/// The errno of SCMP_ACT_TRACE is the tracer's message (ptrace(2) PTRACE_EVENT_SECCOMP).
fn trace_tells_the_tracer_the_number(t: &Context) {
    for (given, expected) in [(json!(77), 77), (Value::Null, libc::EPERM as libc::c_ulong)] {
        let mut bundle = t.bundle();
        bundle.script("umask 0; echo traced");
        let mut traced = rule(&["umask"], "SCMP_ACT_TRACE");
        if !given.is_null() {
            traced["errnoRet"] = given;
        }
        with(&mut bundle, profile(json!([traced])));
        let container = bundle.create();
        let pid = container.pid();
        // Its stops are ours to wait for.
        leftovers::awaited(pid);
        let null = std::ptr::null_mut::<libc::c_void>();
        let ptrace = |request: u32, data: *mut libc::c_void| {
            // SAFETY: no request but PTRACE_GETEVENTMSG writes, and that one to the number that
            // `data` then points to.
            let result = unsafe { libc::ptrace(request, pid, null, data) };
            assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
        };
        ptrace(libc::PTRACE_SEIZE, libc::PTRACE_O_TRACESECCOMP as *mut libc::c_void);
        container.command("start").exits(0);
        let mut status = 0;
        // SAFETY: `status` outlives the call.
        assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, libc::__WALL) }, pid);
        assert_eq!(status >> 8, libc::SIGTRAP | libc::PTRACE_EVENT_SECCOMP << 8);
        let mut message: libc::c_ulong = 0;
        ptrace(libc::PTRACE_GETEVENTMSG, (&raw mut message).cast());
        assert_eq!(message, expected);
        ptrace(libc::PTRACE_DETACH, null);
        leftovers::no_longer_awaited(pid);
        container.wait_printed("traced");
        container.wait_status("stopped");
        t.runtime().args(["delete", &container.id]).output().exits(0);
        std::fs::remove_dir_all(&bundle.dir).unwrap();
    }
}

/// Lines of the kernel's log that a filter caused in a program of that name.
fn log_lines(t: &Context, program: &str) -> usize {
    let text = t.sh("dmesg");
    let of_program = |line: &&str| line.contains("type=1326") && line.contains(program);
    text.lines().filter(of_program).count()
}

/// SCMP_ACT_LOG lets the call through and has it logged; SECCOMP_FILTER_FLAG_LOG has others
/// logged, too.
fn log_is_in_the_kernels_log(t: &Context) {
    for (number, action, flags, made, logged) in [
        (1, "SCMP_ACT_LOG", json!([]), true, true),
        (2, "SCMP_ACT_ERRNO", json!([]), false, false),
        (3, "SCMP_ACT_ERRNO", json!(["SECCOMP_FILTER_FLAG_LOG"]), false, true),
    ] {
        if !flags.as_array().unwrap().is_empty() && !t.runtime.is_corten() {
            continue;
        }
        // The name in the log; at most 15 bytes.
        let name = format!("lg{number}x{}", std::process::id());
        let mut bundle = t.bundle();
        t.sh(&format!(
            "printf '#!/bin/sh\\numask 0 && echo made\\n' > {0}; chmod 755 {0}",
            bundle.rootfs(&name).display()
        ));
        bundle.args([format!("/{name}")]);
        let mut profile = profile(json!([rule(&["umask"], action)]));
        if t.runtime.is_corten() {
            profile["flags"] = flags;
        }
        with(&mut bundle, profile);
        // The kernel logs ten lines in five seconds and drops the rest, and other tests make some.
        wait_for("a line in the kernel's log, or none", 30, || {
            let output = bundle.run().ok();
            assert!(output.contains("made") || !made, "{action}: {output}");
            std::thread::sleep(std::time::Duration::from_millis(500));
            (log_lines(t, &name) > 0) == logged
        });
        std::fs::remove_dir_all(&bundle.dir).unwrap();
    }
}

/// What each comparison denies, of numbers on both sides of it, in all 64 bits; and each of the
/// six arguments is compared once.
fn every_comparison(t: &Context) {
    const BIG: u64 = 0x1_0000_0005;
    const TRIED: [u64; 5] = [4, 5, 6, BIG, u64::MAX];
    for (number, (op, value, two, denied)) in [
        ("SCMP_CMP_EQ", 5, 0, [false, true, false, false, false]),
        ("SCMP_CMP_NE", 5, 0, [true, false, true, true, true]),
        ("SCMP_CMP_LT", 5, 0, [true, false, false, false, false]),
        ("SCMP_CMP_LE", 5, 0, [true, true, false, false, false]),
        ("SCMP_CMP_GE", 5, 0, [false, true, true, true, true]),
        ("SCMP_CMP_GT", 5, 0, [false, false, true, true, true]),
        ("SCMP_CMP_EQ", BIG, 0, [false, false, false, true, false]),
        // value is the mask, valueTwo what must be left: bit 2 and not bit 0.
        ("SCMP_CMP_MASKED_EQ", 5, 4, [true, false, true, false, false]),
    ]
    .into_iter()
    .enumerate()
    {
        let index = number % 6;
        // nfsservctl (180 on x86_64) went long ago: ENOSYS says that the filter let it through.
        let script = format!(
            "import ctypes\n\
             call=ctypes.CDLL(None,use_errno=True).syscall\n\
             for n in {TRIED:?}:\n\
             \x20args=[ctypes.c_ulong(0)]*6; args[{index}]=ctypes.c_ulong(n)\n\
             \x20call(180,*args); print(ctypes.get_errno())\n"
        );
        let mut rule = rule(&["nfsservctl"], "SCMP_ACT_ERRNO");
        rule["errnoRet"] = json!(100);
        rule["args"] = json!([{"index": index, "value": value, "valueTwo": two, "op": op}]);
        let mut bundle = python(t, &script);
        with(&mut bundle, profile(json!([rule])));
        let errnos = bundle.run().ok();
        let expected = denied.map(|denied| if denied { "100" } else { "38" });
        assert_eq!(errnos.lines().collect::<Vec<_>>(), expected, "{op} {value} on {index}");
        t.sh(&format!("umount {}", bundle.config["root"]["path"]));
        std::fs::remove_dir_all(&bundle.dir).unwrap();
    }
}

/// An errno with an action that has none is refused, for the rules and for the default.
fn errno_is_for_errno_and_trace_only(t: &Context) {
    for action in [
        "SCMP_ACT_KILL",
        "SCMP_ACT_KILL_PROCESS",
        "SCMP_ACT_KILL_THREAD",
        "SCMP_ACT_TRAP",
        "SCMP_ACT_ALLOW",
        "SCMP_ACT_LOG",
    ] {
        let mut bundle = t.bundle();
        let mut wrong = rule(&["mkdir"], action);
        wrong["errnoRet"] = json!(1);
        let mut default = json!({"defaultAction": action, "defaultErrnoRet": 1});
        default["syscalls"] = json!([rule(&["mkdir"], "SCMP_ACT_ERRNO")]);
        for (profile, field) in
            [(profile(json!([wrong])), "syscalls[0].errnoRet"), (default, "defaultErrnoRet")]
        {
            with(&mut bundle, profile);
            let error = bundle.create_fails();
            if t.runtime.is_corten() {
                contains(&error, &format!("config.json: linux.seccomp.{field}: {action} takes"));
            }
        }
        std::fs::remove_dir_all(&bundle.dir).unwrap();
    }
}

/// seccomp(2) as strace sees it.
fn flags_reach_the_kernel(t: &Context) {
    let receiver = Receiver::bind(&t.dir.join("agent"));
    for (flags, action, expected) in [
        (Value::Null, "SCMP_ACT_ERRNO", "SECCOMP_FILTER_FLAG_SPEC_ALLOW"),
        (json!([]), "SCMP_ACT_ERRNO", "0"),
        (json!(["SECCOMP_FILTER_FLAG_LOG"]), "SCMP_ACT_ERRNO", "SECCOMP_FILTER_FLAG_LOG"),
        (
            json!(["SECCOMP_FILTER_FLAG_SPEC_ALLOW"]),
            "SCMP_ACT_ERRNO",
            "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
        ),
        // A process of one thread has nothing to synchronise.
        (json!(["SECCOMP_FILTER_FLAG_TSYNC"]), "SCMP_ACT_ERRNO", "0"),
        (
            json!(["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]),
            "SCMP_ACT_NOTIFY",
            "SECCOMP_FILTER_FLAG_NEW_LISTENER|0x20",
        ),
    ] {
        let mut bundle = t.bundle();
        let mut profile = profile(json!([rule(&["mkdir"], action)]));
        if !flags.is_null() {
            profile["flags"] = flags.clone();
        }
        profile["listenerPath"] = json!(t.dir.join("agent"));
        with(&mut bundle, profile);
        bundle.write();
        let trace = t.path("trace");
        let run = t.host("/usr/bin/strace").args(["-f", "-e", "trace=seccomp", "-o"]).arg(&trace);
        let run = run.arg(&t.runtime.path).arg("--root").arg(t.state_root());
        run.args(["run", "--bundle"]).arg(&bundle.dir).arg("traced").output().exits(0);
        if action == "SCMP_ACT_NOTIFY" {
            assert_eq!(receiver.receive().1.len(), 1);
        }
        let text = std::fs::read_to_string(trace).unwrap();
        // libseccomp asks what the kernel knows by calls without a filter.
        let loads = |line: &&str| line.contains("SET_MODE_FILTER") && !line.contains("NULL");
        let calls: Vec<&str> = text.lines().filter(loads).collect();
        let [call] = calls.as_slice() else { panic!("one filter, not {calls:?}") };
        // strace 6.1 knows the last flag by its number only.
        let call = call.replace("SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV", "0x20");
        let passed = call.split(", ").nth(1).unwrap().split(" /*").next().unwrap();
        assert_eq!(passed, expected, "{flags}: {call}");
        std::fs::remove_dir_all(&bundle.dir).unwrap();
    }
}

/// A container whose program makes `umask(2)` an agent's affair, and its listener.
fn with_agent<'a>(
    t: &'a Context,
    bundle: &'a Bundle<'a>,
    receiver: &Receiver,
) -> (crate::harness::Container<'a>, OwnedFd) {
    let container = bundle.create();
    let (_, mut fds) = receiver.receive();
    assert_eq!(fds.len(), 1, "{}", t.dir.display());
    (container, fds.remove(0))
}

fn notify_profile(socket: &std::path::Path) -> Value {
    let mut profile = profile(json!([rule(&["umask"], "SCMP_ACT_NOTIFY")]));
    profile["listenerPath"] = json!(socket);
    profile
}

/// The call's result is what the agent says.
fn agent_answers(t: &Context) {
    let socket = t.path("agent");
    let receiver = Receiver::bind(&socket);
    let mut bundle = t.bundle();
    bundle.script("umask; echo asked");
    with(&mut bundle, notify_profile(&socket));
    let (container, listener) = with_agent(t, &bundle, &receiver);
    container.command("start").exits(0);
    // The shell asks for the old mask, and sets it again.
    for old in [0o123, 0] {
        let request = ScmpNotifReq::receive(listener.as_raw_fd()).unwrap();
        let call = request.data.syscall.get_name_by_arch(ScmpArch::Native).unwrap();
        assert_eq!(call, "umask");
        assert_eq!(request.pid, container.pid() as u32);
        let answer = ScmpNotifResp::new_val(request.id, old, ScmpNotifRespFlags::empty());
        answer.respond(listener.as_raw_fd()).unwrap();
    }
    container.wait_printed("asked");
    contains(&container.printed(), "0123");
}

/// A signal with a handler interrupts a call that waits for its agent, which gets it again; not
/// so with the flag, once the agent has it.
fn wait_killable_keeps_signals_from_the_call(t: &Context) {
    for killable in [false, true] {
        let socket = t.path("agent");
        let receiver = Receiver::bind(&socket);
        let mut bundle = t.bundle();
        bundle.script("trap 'echo signalled' USR1; umask; echo asked");
        let mut profile = notify_profile(&socket);
        if killable {
            profile["flags"] = json!(["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]);
        }
        with(&mut bundle, profile);
        let (container, listener) = with_agent(t, &bundle, &receiver);
        container.command("start").exits(0);
        let listener = listener.as_raw_fd();
        let request = ScmpNotifReq::receive(listener).unwrap();
        container.kill("USR1");
        let valid = || notify_id_valid(listener, request.id).is_ok();
        if killable {
            std::thread::sleep(std::time::Duration::from_millis(300));
            assert!(valid(), "interrupted");
            let pending = proc_status(container.pid(), "ShdPnd").unwrap();
            // SIGUSR1 is 10: bit 9.
            assert_eq!(u64::from_str_radix(&pending, 16).unwrap() & 0x200, 0x200, "{pending}");
        } else {
            wait_for("the interruption", 5, || !valid());
        }
        container.kill("KILL");
        container.wait_status("stopped");
        container.command("delete").exits(0);
        std::fs::remove_dir_all(&bundle.dir).unwrap();
    }
}

/// The state, and then the end: the connection carries nothing else and is closed.
fn one_state_per_connection(t: &Context) {
    use std::io::Read;
    let socket = t.path("agent");
    let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let reader = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(std::time::Duration::from_secs(10))).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        listener.set_nonblocking(true).unwrap();
        (text, listener.accept().is_err())
    });
    let mut bundle = t.bundle();
    bundle.script("sleep 1000");
    let mut profile = notify_profile(&socket);
    profile["listenerMetadata"] = json!("opaque \"text\"");
    with(&mut bundle, profile);
    let container = bundle.create();
    let (text, alone) = reader.join().unwrap();
    assert!(alone, "a second connection");
    let state: Value = serde_json::from_str(&text).unwrap();
    let keys: Vec<&String> = state.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["fds", "metadata", "ociVersion", "pid", "state"]);
    assert_eq!(state["fds"], json!(["seccompFd"]));
    assert_eq!(state["metadata"], "opaque \"text\"");
    assert_eq!(state["pid"], json!(container.pid()));
    let of_container = &state["state"];
    assert_eq!(of_container["status"], "creating");
    assert_eq!(of_container["id"], json!(container.id));
    assert_eq!(of_container["pid"], json!(container.pid()));
    assert_eq!(of_container["bundle"], json!(bundle.dir));
    assert_eq!(of_container["ociVersion"], state["ociVersion"]);
}

fn exec_has_a_listener_of_its_own(t: &Context) {
    let socket = t.path("agent");
    let receiver = Receiver::bind(&socket);
    let mut bundle = t.bundle();
    bundle.args(["sleep", "1000"]);
    with(&mut bundle, notify_profile(&socket));
    let (container, first) = with_agent(t, &bundle, &receiver);
    container.command("start").exits(0);
    let exec = container.exec_command(&[], &["sh", "-c", "umask"]).spawn();
    let (text, fds) = receiver.receive();
    let state: Value = serde_json::from_str(&text).unwrap();
    assert_ne!(state["pid"], json!(container.pid()));
    assert_eq!(state["state"]["id"], json!(container.id));
    assert_eq!(state["state"]["status"], "running");
    let own = fds[0].as_raw_fd();
    for old in [0o77, 0] {
        let request = ScmpNotifReq::receive(own).unwrap();
        assert_eq!(json!(request.pid), state["pid"]);
        ScmpNotifResp::new_val(request.id, old, ScmpNotifRespFlags::empty()).respond(own).unwrap();
    }
    contains(&exec.wait().ok(), "0077");
    drop(first);
}

fn listener_path_without_notify_is_ignored(t: &Context) {
    let mut bundle = t.bundle();
    bundle.args(["echo", "fine"]);
    let mut profile = profile(json!([rule(&["mkdir"], "SCMP_ACT_ERRNO")]));
    profile["listenerPath"] = json!("/no/such/agent");
    with(&mut bundle, profile);
    assert_eq!(bundle.run().ok(), "fine");
}
