//! The process as config.json describes it, read back from /proc.

use crate::harness::{Bundle, Context, Need, Test, contains, status_field};
use crate::test;
use serde_json::{Value, json};

pub const TESTS: &[Test] = &[
    test!(ids_and_groups),
    test!(no_groups_are_inherited),
    test!(umask_default_and_given),
    test!(arguments_and_environment_are_exact),
    test!(home_comes_from_passwd),
    test!(path_of_the_container_finds_the_program),
    test!(cwd_is_set_and_made),
    test!(cwd_that_only_the_user_may_enter),
    test!(rlimits_are_set),
    test!(capabilities_of_root),
    test!(capabilities_of_a_user),
    test!(ambient_capabilities),
    test!(no_capabilities_at_all),
    test!(unknown_capability_is_a_warning),
    test!(no_new_privileges_on_and_off),
    test!(oom_score_adj),
    test!(oom_score_adj_is_inherited_when_absent),
    test!(signals_are_default_and_unblocked),
    test!(null_of_stdio_is_the_containers),
    test!(users_may_open_their_stdio_again),
    test!(only_three_descriptors),
    test!(numeric_user_is_not_a_name),
    test!(session_keyring).needs(&[Need::Kernel("/proc/keys")]),
    test!(no_controlling_terminal_or_session_of_ours),
    test!(personality_is_set).needs(&[Need::CortenOnly("personality came with 1.2")]),
    test!(many_and_long_arguments),
    test!(closed_stdio_of_the_caller),
    test!(scheduler_and_io_priority).needs(&[Need::CortenOnly("scheduler came with 1.2")]),
    test!(listen_fds_are_passed),
    test!(preserved_descriptors_outlive_hooks),
    test!(preserved_descriptors_must_be_open),
    test!(listen_fds_of_another_process_are_not_ours),
    test!(hard_limits_above_the_callers).needs(&[Need::Capability(24, "CAP_SYS_RESOURCE")]),
    test!(cwd_that_is_closed_to_the_user),
    test!(cwd_through_a_preserved_descriptor),
    test!(capability_sets_of_the_waiting_init),
    test!(ambient_capabilities_of_the_caller_go),
];

/// One field of /proc/self/status inside.
fn status(t: &Context, edit: impl FnOnce(&mut Value), field: &str) -> String {
    let mut bundle = t.bundle();
    bundle.args(["cat", "/proc/self/status"]);
    edit(&mut bundle.config["process"]);
    let text = bundle.run().ok();
    status_field(&text, field).unwrap()
}

fn ids_and_groups(t: &Context) {
    let mut bundle = t.bundle();
    bundle.config["process"]["user"] =
        json!({"uid": 1000, "gid": 2000, "additionalGids": [30, 40, 2147483647]});
    bundle.args(["cat", "/proc/self/status"]);
    let text = bundle.run().ok();
    assert_eq!(status_field(&text, "Uid").unwrap(), "1000\t1000\t1000\t1000");
    assert_eq!(status_field(&text, "Gid").unwrap(), "2000\t2000\t2000\t2000");
    assert_eq!(status_field(&text, "Groups").unwrap(), "30 40 2147483647");
}

fn no_groups_are_inherited(t: &Context) {
    let mut bundle = t.bundle();
    bundle.args(["cat", "/proc/self/status"]);
    bundle.write();
    let runtime = t.runtime.path.to_str().unwrap();
    let output = t
        .host("/usr/bin/setpriv")
        .args(["--groups", "7,8,9", runtime, "--root"])
        .arg(t.state_root())
        .args(["run", "--bundle"])
        .arg(&bundle.dir)
        .arg("groups")
        .output();
    let text = output.ok();
    assert_eq!(status_field(&text, "Groups").unwrap(), "");
}

fn umask_default_and_given(t: &Context) {
    // Whatever the caller's: the default is 0022.
    let mut bundle = t.bundle();
    bundle.script("umask");
    bundle.write();
    let container = bundle.named("mask");
    let dir = bundle.dir.display();
    let root = t.state_root();
    let script = format!(
        "umask 0077; exec {} --root {} run --bundle {dir} {}",
        t.runtime.path.display(),
        root.display(),
        container.id
    );
    if t.runtime.is_corten() {
        assert_eq!(t.sh(&script), "0022");
    }
    bundle.config["process"]["user"]["umask"] = json!(0o137);
    assert_eq!(bundle.run().ok(), "0137");
    bundle.config["process"]["user"]["umask"] = json!(0);
    assert_eq!(bundle.run().ok(), "0000");
}

fn arguments_and_environment_are_exact(t: &Context) {
    let mut bundle = t.bundle();
    bundle.args([
        "sh",
        "-c",
        "cat /proc/$$/cmdline | tr '\\0' '\\n'; cat /proc/$$/environ | tr '\\0' '\\n'",
        "a b",
        "",
        "ü\"'\\",
    ]);
    bundle.config["process"]["env"] =
        json!(["PATH=/bin", "HOME=/x", "EMPTY=", "A=b=c", "SPACE= a\tb ", "UML=ü"]);
    let output = bundle.run().ok();
    contains(&output, "\na b\n\nü\"'\\\nPATH=/bin\nHOME=/x\nEMPTY=\nA=b=c\nSPACE= a\tb \nUML=ü");
}

fn home_comes_from_passwd(t: &Context) {
    for (uid, home) in [(0, "/root"), (1000, "/home"), (77, "/")] {
        let mut bundle = t.bundle();
        bundle.config["process"]["user"]["uid"] = json!(uid);
        bundle.script("echo $HOME");
        assert_eq!(bundle.run().ok(), home, "of user {uid}");
        // As Podman's exec writes it.
        bundle.config["process"]["env"].as_array_mut().unwrap().push(json!("HOME="));
        assert_eq!(bundle.run().ok(), home, "of user {uid}");
    }
}

fn path_of_the_container_finds_the_program(t: &Context) {
    let mut bundle = t.bundle();
    std::fs::create_dir(bundle.rootfs("odd")).unwrap();
    std::fs::write(bundle.rootfs("odd/tool"), "#!/bin/sh\necho found $0\n").unwrap();
    t.sh(&format!("chmod 755 {}", bundle.rootfs("odd/tool").display()));
    bundle.args(["tool"]);
    contains(&bundle.run().fails(), "not found");
    bundle.config["process"]["env"] = json!(["PATH=/nowhere:/odd:/bin"]);
    assert_eq!(bundle.run().ok(), "found /odd/tool");
    bundle.args(["./tool"]);
    bundle.config["process"]["cwd"] = json!("/odd");
    assert_eq!(bundle.run().ok(), "found ./tool");
    // Found, but not executable: permission, not absence.
    t.sh(&format!("chmod 644 {}", bundle.rootfs("odd/tool").display()));
    contains(&bundle.run().fails(), "permission denied");
}

fn cwd_is_set_and_made(t: &Context) {
    let mut bundle = t.bundle();
    bundle.script("pwd; stat -c %a .");
    bundle.config["process"]["cwd"] = json!("/made/by/runtime");
    assert_eq!(bundle.run().ok(), "/made/by/runtime\n755");
    std::os::unix::fs::symlink("/usr/bin", bundle.rootfs("link")).unwrap();
    bundle.config["process"]["cwd"] = json!("/link");
    bundle.script("pwd -P");
    assert_eq!(bundle.run().ok(), "/usr/bin");
}

fn cwd_that_only_the_user_may_enter(t: &Context) {
    let mut bundle = t.bundle();
    std::fs::create_dir(bundle.rootfs("private")).unwrap();
    t.sh(&format!("chmod 700 {0}; chown 1000 {0}", bundle.rootfs("private").display()));
    bundle.config["process"]["cwd"] = json!("/private");
    bundle.script("pwd");
    bundle.config["process"]["user"] = json!({"uid": 1000, "gid": 0});
    assert_eq!(bundle.run().ok(), "/private");
}

fn rlimits_are_set(t: &Context) {
    let mut bundle = t.bundle();
    bundle.config["process"]["rlimits"] = json!([
        {"type": "RLIMIT_NOFILE", "soft": 200, "hard": 300},
        {"type": "RLIMIT_CORE", "soft": 0, "hard": 4096},
        {"type": "RLIMIT_STACK", "soft": 1_048_576, "hard": 4_194_304},
        {"type": "RLIMIT_CPU", "soft": 100, "hard": 200},
    ]);
    bundle.args(["cat", "/proc/self/limits"]);
    let text = bundle.run().ok();
    let row = |name: &str| -> Vec<String> {
        let line = text.lines().find_map(|l| l.strip_prefix(name)).unwrap();
        line.split_whitespace().take(2).map(String::from).collect()
    };
    assert_eq!(row("Max open files"), ["200", "300"]);
    assert_eq!(row("Max core file size"), ["0", "4096"]);
    assert_eq!(row("Max stack size"), ["1048576", "4194304"]);
    assert_eq!(row("Max cpu time"), ["100", "200"]);
}

/// Bits of /proc/PID/status for the three capabilities of the default configuration:
/// CAP_KILL 5, CAP_NET_BIND_SERVICE 10, CAP_AUDIT_WRITE 29.
const DEFAULT_CAPS: &str = "0000000020000420";
const NO_CAPS: &str = "0000000000000000";

fn sets(text: &str) -> [String; 5] {
    ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"].map(|f| status_field(text, f).unwrap())
}

fn capabilities_of_root(t: &Context) {
    let mut bundle = t.bundle();
    bundle.args(["cat", "/proc/self/status"]);
    let expected = [NO_CAPS, DEFAULT_CAPS, DEFAULT_CAPS, DEFAULT_CAPS, NO_CAPS];
    assert_eq!(sets(&bundle.run().ok()), expected);
    // CAP_CHOWN 0 in the bounding set only: the kernel gives root what is bounding at execve.
    bundle.config["process"]["capabilities"]["bounding"] =
        json!(["CAP_CHOWN", "CAP_KILL", "CAP_NET_BIND_SERVICE", "CAP_AUDIT_WRITE"]);
    bundle.config["process"]["noNewPrivileges"] = json!(false);
    assert_eq!(sets(&bundle.run().ok())[3], "0000000020000421");
}

fn capabilities_of_a_user(t: &Context) {
    let mut bundle = t.bundle();
    bundle.config["process"]["user"]["uid"] = json!(1000);
    bundle.args(["cat", "/proc/self/status"]);
    assert_eq!(sets(&bundle.run().ok()), [NO_CAPS, NO_CAPS, NO_CAPS, DEFAULT_CAPS, NO_CAPS]);
}

fn ambient_capabilities(t: &Context) {
    let mut bundle = t.bundle();
    bundle.config["process"]["user"]["uid"] = json!(1000);
    let one = json!(["CAP_NET_BIND_SERVICE"]);
    bundle.config["process"]["capabilities"]["inheritable"] = one.clone();
    bundle.config["process"]["capabilities"]["ambient"] = one;
    bundle.args(["cat", "/proc/self/status"]);
    let bind = "0000000000000400";
    assert_eq!(sets(&bundle.run().ok()), [bind, bind, bind, DEFAULT_CAPS, bind]);
}

fn no_capabilities_at_all(t: &Context) {
    let mut bundle = t.bundle();
    bundle.args(["cat", "/proc/self/status"]);
    bundle.config["process"]["capabilities"] = json!({});
    assert_eq!(sets(&bundle.run().ok()), [NO_CAPS; 5]);
    if t.runtime.is_corten() {
        bundle.config["process"].as_object_mut().unwrap().remove("capabilities");
        assert_eq!(sets(&bundle.run().ok()), [NO_CAPS; 5], "without the field");
    }
}

fn unknown_capability_is_a_warning(t: &Context) {
    let mut bundle = t.bundle();
    bundle.args(["cat", "/proc/self/status"]);
    bundle.config["process"]["capabilities"]["bounding"] = json!(["CAP_KILL", "CAP_OF_TOMORROW"]);
    bundle.config["process"]["capabilities"]["permitted"] = json!(["CAP_KILL"]);
    bundle.config["process"]["capabilities"]["effective"] = json!(["CAP_KILL"]);
    let output = bundle.run().exits(0);
    assert_eq!(status_field(&output.stdout, "CapEff").unwrap(), "0000000000000020");
    contains(&output.stderr, "CAP_OF_TOMORROW");
}

fn no_new_privileges_on_and_off(t: &Context) {
    assert_eq!(status(t, |_| (), "NoNewPrivs"), "1");
    assert_eq!(status(t, |p| p["noNewPrivileges"] = json!(false), "NoNewPrivs"), "0");
}

fn oom_score_adj(t: &Context) {
    let mut bundle = t.bundle();
    bundle.args(["cat", "/proc/self/oom_score_adj"]);
    for value in [0, 1, 777, 1000] {
        bundle.config["process"]["oomScoreAdj"] = json!(value);
        assert_eq!(bundle.run().ok(), value.to_string());
    }
}

fn oom_score_adj_is_inherited_when_absent(t: &Context) {
    let mut bundle = t.bundle();
    bundle.args(["cat", "/proc/self/oom_score_adj"]);
    bundle.write();
    let script = format!(
        "echo 321 > /proc/self/oom_score_adj; exec {} --root {} run --bundle {} score",
        t.runtime.path.display(),
        t.state_root().display(),
        bundle.dir.display()
    );
    assert_eq!(t.sh(&script), "321");
}

fn signals_are_default_and_unblocked(t: &Context) {
    let mut bundle = t.bundle();
    bundle.args(["cat", "/proc/self/status"]);
    bundle.write();
    let runtime = t.runtime.path.display();
    let (root, dir) = (t.state_root(), bundle.dir.display());
    let run = format!("exec {runtime} --root {} run --bundle {dir} signals", root.display());
    let text = t.sh(&run);
    assert_eq!(status_field(&text, "SigBlk").unwrap(), NO_CAPS);
    // Signal 33, which posix_spawn(3) of this test left ignored; runc resets only that of the two.
    let bits = u64::from_str_radix(&status_field(&text, "SigIgn").unwrap(), 16).unwrap();
    assert_eq!(bits & (1 << 32), 0, "{text}");
    if t.runtime.is_corten() {
        assert_eq!(bits, 0, "{text}");
    }
}

fn null_of_stdio_is_the_containers(t: &Context) {
    let mut bundle = t.bundle();
    bundle.script("stat -L -c %d:%i /proc/self/fd/0 /dev/null; echo end; exec sleep 1000");
    let container = bundle.start();
    container.wait_printed("end");
    let text = container.printed();
    let [stdin, null, _] = text.lines().collect::<Vec<_>>()[..] else { panic!("{text}") };
    assert_eq!(stdin, null, "device and inode of stdin and of /dev/null");
}

/// Owned by root it could be written to, but not opened by /dev/stdout.
fn users_may_open_their_stdio_again(t: &Context) {
    let script = "exec >> /dev/stdout; stat -L -c %u /proc/self/fd/1 /proc/self/fd/2";
    let mut bundle = t.bundle();
    bundle.config["process"]["user"] = json!({"uid": 1000, "gid": 1000});
    bundle.script(script);
    assert_eq!(bundle.run().ok(), "1000\n1000");
    bundle.idle();
    let exec = ["sh", "-c", script];
    let output = bundle.start().exec_command(&["--user", "1001:1001"], &exec).output();
    assert_eq!(output.ok(), "1001\n1001");
}

fn only_three_descriptors(t: &Context) {
    let mut bundle = t.bundle();
    // `ls` has one more open: the directory that it reads.
    bundle.script("ls /proc/self/fd | tr '\\n' ' '");
    bundle.write();
    let script = format!(
        "exec 3</etc/passwd 4</ 8</etc 9</proc/self/exe 200</dev/null; \
         exec {} --root {} run --bundle {} fds",
        t.runtime.path.display(),
        t.state_root().display(),
        bundle.dir.display()
    );
    let output = t.host("/bin/bash").args(["-c", &script]).output().ok();
    assert_eq!(output.trim(), "0 1 2 3");
}

/// CVE-2016-3697: a user named "1000" in the image must not make uid 1000 root.
fn numeric_user_is_not_a_name(t: &Context) {
    let mut bundle = t.bundle();
    std::fs::remove_file(bundle.rootfs("etc/passwd")).unwrap();
    std::fs::write(bundle.rootfs("etc/passwd"), "1000:x:0:0::/evil:/bin/sh\n").unwrap();
    bundle.config["process"]["user"]["uid"] = json!(1000);
    bundle.script("id -u; echo ready; sleep 1000");
    let container = bundle.start();
    container.wait_printed("ready");
    assert_eq!(container.printed(), "1000\nready\n");
    let output = container.exec_command(&["--user", "1000"], &["id", "-u"]).output().ok();
    assert_eq!(output, "1000");
}

fn session_keyring(t: &Context) {
    let mut bundle = t.bundle();
    bundle.config["linux"]["maskedPaths"] = json!([]);
    bundle.args(["cat", "/proc/keys"]);
    let container = bundle.named("ring");
    // The kernel lists the keys that the reader possesses: the new session keyring, by name.
    contains(&container.run(&[]).ok(), "_ses.ring");
    let without = bundle.named("old").run(&["--no-new-keyring"]).ok();
    assert!(!without.contains("_ses.old"), "{without}");
}

fn no_controlling_terminal_or_session_of_ours(t: &Context) {
    let mut bundle = t.bundle();
    bundle.args(["cat", "/proc/self/stat"]);
    let stat = bundle.run().ok();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    // state ppid pgrp session tty_nr: its own session in its own namespace, no terminal.
    assert_eq!(fields[1..5], ["0", "1", "1", "0"], "{stat}");
}

fn personality_is_set(t: &Context) {
    let mut bundle = t.bundle();
    bundle.config["linux"]["personality"] = json!({"domain": "LINUX32"});
    bundle.args(["uname", "-m"]);
    let machine = bundle.run().ok();
    let expected = if cfg!(target_arch = "x86_64") { "i686" } else { "armv8l" };
    assert_eq!(machine, expected);
}

fn many_and_long_arguments(t: &Context) {
    // CVE-2021-43784: lengths over 64 KiB in what goes to the child.
    let mut bundle = t.bundle();
    let long = "x".repeat(100_000);
    bundle.args(["sh", "-c", "echo ${#1} ${#LONG}; readlink /proc/self/ns/net", "sh", &long]);
    let long = format!("LONG={long}");
    bundle.config["process"]["env"].as_array_mut().unwrap().push(json!(long));
    bundle.config["annotations"] = json!({ "long": long });
    let output = bundle.run().ok();
    let host = std::fs::read_link("/proc/self/ns/net").unwrap();
    contains(&output, "100000 100000\n");
    assert!(!output.contains(host.to_str().unwrap()), "still in the host's network: {output}");
}

fn closed_stdio_of_the_caller(t: &Context) {
    let mut bundle = t.bundle();
    bundle.script("ls -l /proc/self/fd > /tmp/fds; echo x; true");
    bundle.write();
    let script = format!(
        "{} --root {} run --bundle {} closed 0<&- 1>&- 2>&- || true",
        t.runtime.path.display(),
        t.state_root().display(),
        bundle.dir.display()
    );
    t.sh(&script);
    if t.runtime.is_corten() {
        let fds = std::fs::read_to_string(bundle.rootfs("tmp/fds")).unwrap();
        assert!(!fds.contains(bundle.dir.to_str().unwrap()), "something of the host:\n{fds}");
    }
}

fn scheduler_and_io_priority(t: &Context) {
    let mut bundle = t.bundle();
    bundle.config["process"]["scheduler"] = json!({"policy": "SCHED_BATCH", "nice": 5});
    bundle.config["process"]["ioPriority"] = json!({"class": "IOPRIO_CLASS_BE", "priority": 6});
    // Fields of stat: nice 19, policy 41 (SCHED_BATCH is 3).
    bundle.script("ionice -p $$; cut -d' ' -f19,41 < /proc/$$/stat");
    assert_eq!(bundle.run().ok(), "best-effort: prio 6\n5 3");
}

fn listen_fds_are_passed(t: &Context) {
    let mut bundle = t.bundle();
    bundle.script("echo $LISTEN_FDS $LISTEN_PID $$; cat <&3");
    bundle.write();
    std::fs::write(t.dir.join("socket"), "activated").unwrap();
    let script = format!(
        "exec 3<socket; export LISTEN_FDS=1 LISTEN_PID=$$; exec {} --root {} run --bundle {} listen",
        t.runtime.path.display(),
        t.state_root().display(),
        bundle.dir.display()
    );
    let output = t.sh(&script);
    contains(&output, "1 1 1\nactivated");
}

/// `run FLAGS` from a shell that has done `before`; what it says, also when it fails.
fn run_from_shell(t: &Context, bundle: &Bundle, before: &str, flags: &str) -> String {
    bundle.write();
    let (runtime, root) = (t.runtime.path.display(), t.state_root());
    let run = format!(
        "{runtime} --root {} run {flags} --bundle {} shell{}",
        root.display(),
        bundle.dir.display(),
        t.next()
    );
    t.sh(&format!("{before}; {run} 2>&1 || echo status $?"))
}

/// Hooks run with close-on-exec set on everything: what is preserved must come back.
fn preserved_descriptors_outlive_hooks(t: &Context) {
    std::fs::write(t.dir.join("given"), "given text").unwrap();
    for kind in ["createContainer", "startContainer"] {
        let mut bundle = t.bundle();
        bundle.config["hooks"] = json!({kind: [{"path": "/bin/sh", "args": ["sh", "-c", ":"]}]});
        bundle.script("cat <&3");
        let output = run_from_shell(t, &bundle, "exec 3<given", "--preserve-fds 1");
        assert_eq!(output, "given text", "{kind}");
        let _ = std::fs::remove_dir_all(&bundle.dir);
    }
}

fn preserved_descriptors_must_be_open(t: &Context) {
    let mut bundle = t.bundle();
    bundle.script("echo started");
    let output = run_from_shell(t, &bundle, "exec 3</etc/passwd", "--preserve-fds 2");
    contains(&output, "status 1");
    assert!(!output.contains("started"), "{output}");
}

fn listen_fds_of_another_process_are_not_ours(t: &Context) {
    let mut bundle = t.bundle();
    bundle.script("echo [$LISTEN_FDS]; ls /proc/self/fd | tr '\\n' ' '");
    let before = "exec 3</etc/passwd; export LISTEN_FDS=1 LISTEN_PID=1";
    assert_eq!(run_from_shell(t, &bundle, before, ""), "[]\n0 1 2 3", "the last is of `ls`");
}

/// Only the parent may raise them: root of a user namespace may not.
fn hard_limits_above_the_callers(t: &Context) {
    let mut bundle = t.bundle();
    bundle.user_namespace();
    bundle.config["process"]["rlimits"] =
        json!([{"type": "RLIMIT_NOFILE", "soft": 2000, "hard": 3000}]);
    bundle.script("ulimit -Sn; ulimit -Hn");
    assert_eq!(run_from_shell(t, &bundle, "ulimit -n 500", ""), "2000\n3000");
}

fn cwd_that_is_closed_to_the_user(t: &Context) {
    let mut bundle = t.bundle();
    std::fs::create_dir(bundle.rootfs("closed")).unwrap();
    t.sh(&format!("chmod 700 {}", bundle.rootfs("closed").display()));
    bundle.config["process"]["cwd"] = json!("/closed");
    bundle.script("readlink /proc/self/cwd");
    bundle.config["process"]["user"] = json!({"uid": 1000, "gid": 1000});
    assert_eq!(bundle.run().ok(), "/closed");
}

/// CVE-2024-21626, by a descriptor that the caller itself hands down.
fn cwd_through_a_preserved_descriptor(t: &Context) {
    let mut bundle = t.bundle();
    bundle.config["process"]["cwd"] = json!("/proc/self/fd/3");
    bundle.script("echo started; ls debian_version");
    let output = run_from_shell(t, &bundle, "exec 3</etc", "--preserve-fds 1");
    contains(&output, "status 1");
    assert!(!output.contains("started"), "{output}");
}

/// execve(2) makes effective and permitted anew: only before it are they as configured.
fn capability_sets_of_the_waiting_init(t: &Context) {
    let mut bundle = t.bundle();
    // CAP_KILL 5, CAP_NET_BIND_SERVICE 10, CAP_AUDIT_WRITE 29.
    let (kill, bind, write) = ("CAP_KILL", "CAP_NET_BIND_SERVICE", "CAP_AUDIT_WRITE");
    bundle.config["process"]["capabilities"] = json!({
        "bounding": [kill, bind, write], "permitted": [kill, bind], "effective": [bind],
        "inheritable": [kill],
    });
    let container = bundle.create();
    let text = std::fs::read_to_string(format!("/proc/{}/status", container.pid())).unwrap();
    let expected =
        ["0000000000000020", "0000000000000420", "0000000000000400", DEFAULT_CAPS, NO_CAPS];
    assert_eq!(sets(&text), expected);
}

fn ambient_capabilities_of_the_caller_go(t: &Context) {
    let mut bundle = t.bundle();
    bundle.config["process"]["capabilities"]["inheritable"] = json!(["CAP_KILL"]);
    bundle.args(["cat", "/proc/self/status"]);
    bundle.write();
    let runtime = t.runtime.path.to_str().unwrap();
    let caller = t.host("/usr/bin/setpriv").args(["--inh-caps=+kill", "--ambient-caps=+kill"]);
    let run = caller.args([runtime, "--root"]).arg(t.state_root()).args(["run", "--bundle"]);
    let text = run.arg(&bundle.dir).arg("ambient").output().ok();
    assert_eq!(status_field(&text, "CapInh").unwrap(), "0000000000000020");
    assert_eq!(status_field(&text, "CapAmb").unwrap(), NO_CAPS);
}
