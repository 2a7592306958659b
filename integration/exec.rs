//! exec: a second process in a running container.

use crate::harness::{Container, Context, Need, Test, contains, status_field, wait_for};
use crate::test;
use serde_json::json;

pub const TESTS: &[Test] = &[
    test!(exit_codes_and_output),
    test!(slow_joiner).needs(&[Need::CortenOnly("by its system calls"), Need::Program("strace")]),
    test!(same_namespaces_as_init),
    test!(flags_of_the_process),
    test!(additional_groups),
    test!(user_by_name_and_number),
    test!(user_specs_are_parsed_strictly).needs(&[Need::CortenOnly("another set of spellings")]),
    test!(process_file),
    test!(cap_is_not_inheritable),
    test!(no_new_privileges),
    test!(detach_and_pid_file),
    test!(stdin_is_passed),
    test!(preserved_descriptors),
    test!(only_three_descriptors),
    test!(signals_are_forwarded),
    test!(missing_program),
    test!(failed_exec_leaves_the_container),
    test!(container_must_run),
    test!(ignore_paused),
    test!(into_a_user_namespace),
    test!(into_a_shared_pid_namespace),
    test!(working_directory_of_the_init_by_default),
    test!(many_at_once),
    test!(environment_of_the_container_and_more),
    test!(oom_and_limits_are_inherited),
    test!(cwd_through_a_descriptor_is_refused),
    test!(host_paths_in_error_name_the_program),
    test!(missing_arguments),
    test!(personality_is_the_containers).needs(&[Need::CortenOnly("personality came with 1.2")]),
    test!(session_keyring_is_the_containers),
    test!(into_the_hosts_mount_namespace)
        .needs(&[Need::CortenOnly("1.1 leaves the mounts behind")]),
    test!(cwd_through_a_preserved_descriptor_is_refused),
    test!(listen_fds_are_passed).needs(&[Need::CortenOnly("1.1 gives them another LISTEN_PID")]),
    test!(labels_without_their_module_are_refused),
    test!(null_of_stdio_is_the_containers).needs(&[Need::CortenOnly("exec passes on the host's")]),
];

fn idle(t: &Context) -> Container<'_> {
    let mut bundle = t.bundle();
    bundle.idle();
    bundle.start()
}

fn exit_codes_and_output(t: &Context) {
    let container = idle(t);
    let output = container.exec(&["sh", "-c", "echo out; echo err >&2; exit 33"]).exits(33);
    assert_eq!(output.stdout, "out\n");
    assert_eq!(output.stderr, "err\n");
    container.exec(&["sh", "-c", "kill -9 $$"]).exits(137);
}

fn same_namespaces_as_init(t: &Context) {
    let mut bundle = t.bundle();
    bundle.namespace("cgroup", None);
    bundle.idle();
    let container = bundle.start();
    let links = container
        .sh("for n in mnt pid net ipc uts cgroup user; do readlink /proc/self/ns/$n; done");
    let init =
        container.sh("for n in mnt pid net ipc uts cgroup user; do readlink /proc/1/ns/$n; done");
    assert_eq!(links, init);
    assert_eq!(container.sh("pwd; ls -di /"), container.sh("cd /proc/1/root; echo /; ls -di /"));
    assert!(container.sh("ps").contains("sleep") || container.sh("ps").contains("trap"));
}

fn flags_of_the_process(t: &Context) {
    let container = idle(t);
    let flags = ["--user", "1000:2000", "--cwd", "/usr", "--env", "A=b c", "--env", "D="];
    let output = container
        .exec_command(&flags, &["sh", "-c", "id -u; id -g; pwd; echo \"[$A][${D-unset}]\""])
        .output();
    assert_eq!(output.ok(), "1000\n2000\n/usr\n[b c][]");
}

fn additional_groups(t: &Context) {
    let container = idle(t);
    let flags = ["--additional-gids", "30", "--additional-gids", "40"];
    let text = container.exec_command(&flags, &["cat", "/proc/self/status"]).output().ok();
    assert_eq!(status_field(&text, "Groups").unwrap(), "30 40");
}

fn user_by_name_and_number(t: &Context) {
    let container = idle(t);
    let whoami = |user: &str| {
        container.exec_command(&["--user", user], &["sh", "-c", "id -u; id -g"]).output()
    };
    assert_eq!(whoami("1000").ok(), "1000\n0");
    assert_eq!(whoami("0:5").ok(), "0\n5");
    assert_eq!(whoami("77:88").ok(), "77\n88");
}

/// CVE-2026-30892: what is no number must never become 0.
fn user_specs_are_parsed_strictly(t: &Context) {
    let container = idle(t);
    for spec in [
        "",
        ":",
        "1:",
        ":1",
        "-1",
        "4294967295",
        "4294967296",
        "0x1",
        "1:-1",
        "1:2:3",
        " 1",
        "1 ",
        "nobody-here",
    ] {
        let output = container.exec_command(&["--user", spec], &["id", "-u"]).output();
        assert_ne!(output.code(), 0, "--user {spec:?} became {}", output.stdout);
    }
}

fn process_file(t: &Context) {
    let container = idle(t);
    let file = t.path("process.json");
    let process = json!({
        "user": {"uid": 5, "gid": 6, "additionalGids": [7]},
        "args": ["sh", "-c", "id -u; pwd; echo $X; ulimit -n; grep CapEff /proc/self/status"],
        "env": ["PATH=/bin", "X=y"],
        "cwd": "/tmp",
        "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 99, "hard": 100}],
        "capabilities": {"bounding": ["CAP_KILL"]},
    });
    std::fs::write(&file, process.to_string()).unwrap();
    let output = t.runtime().args(["exec", "--process"]).arg(&file).arg(&container.id).output();
    assert_eq!(output.ok(), "5\n/tmp\ny\n99\nCapEff:\t0000000000000000");
    std::fs::write(&file, r#"{"args": [], "cwd": "/"}"#).unwrap();
    t.runtime().args(["exec", "--process"]).arg(&file).arg(&container.id).output().fails();
}

/// CVE-2022-29162, CVE-2025-27612.
fn cap_is_not_inheritable(t: &Context) {
    let container = idle(t);
    let flags = ["--cap", "CAP_NET_ADMIN", "--user", "0"];
    let text = container.exec_command(&flags, &["cat", "/proc/self/status"]).output().ok();
    // CAP_NET_ADMIN is 12 (0x1000), added to the three of the configuration.
    assert_eq!(status_field(&text, "CapEff").unwrap(), "0000000020001420");
    assert_eq!(status_field(&text, "CapInh").unwrap(), "0000000000000000");
    assert_eq!(status_field(&text, "CapAmb").unwrap(), "0000000000000000");
    let text = container
        .exec_command(&["--cap", "CAP_NET_ADMIN", "--user", "1000"], &["cat", "/proc/self/status"])
        .output()
        .ok();
    assert_eq!(status_field(&text, "CapInh").unwrap(), "0000000000000000");
    assert_eq!(status_field(&text, "CapAmb").unwrap(), "0000000000000000");
}

fn no_new_privileges(t: &Context) {
    let mut bundle = t.bundle();
    bundle.config["process"]["noNewPrivileges"] = json!(false);
    bundle.idle();
    let container = bundle.start();
    let value = |flags: &[&str]| {
        let text = container.exec_command(flags, &["cat", "/proc/self/status"]).output().ok();
        status_field(&text, "NoNewPrivs").unwrap()
    };
    assert_eq!(value(&[]), "0");
    assert_eq!(value(&["--no-new-privs"]), "1");
}

fn detach_and_pid_file(t: &Context) {
    let container = idle(t);
    let file = t.path("pid");
    let out = t.path("out");
    let flags = ["--detach", "--pid-file", file.to_str().unwrap()];
    let command = container.exec_command(&flags, &["sh", "-c", "echo $$; sleep 0.3; echo end"]);
    command.out(out.clone()).output().exits(0);
    let pid: i32 = std::fs::read_to_string(file).unwrap().parse().unwrap();
    let status = crate::harness::proc_status(pid, "NSpid").unwrap();
    let inside = status.split_whitespace().last().unwrap().to_string();
    wait_for("the end", 5, || std::fs::read_to_string(&out).unwrap().contains("end"));
    assert_eq!(std::fs::read_to_string(&out).unwrap().lines().next().unwrap(), inside);
}

fn stdin_is_passed(t: &Context) {
    let container = idle(t);
    assert_eq!(container.exec_command(&[], &["cat"]).input("text").output().ok(), "text");
}

/// `exec ARGS` from a shell that has opened what `before` says.
fn shell(t: &Context, before: &str, args: &str) -> String {
    let (runtime, root) = (t.runtime.path.display(), t.state_root());
    t.sh(&format!("{before}; exec {runtime} --root {} exec {args}", root.display()))
}

fn preserved_descriptors(t: &Context) {
    let container = idle(t);
    std::fs::write(t.dir.join("given"), "given text").unwrap();
    let args = format!(
        "--preserve-fds 1 {} sh -c 'cat <&3; ls /proc/self/fd | tr \"\\n\" \" \"'",
        container.id
    );
    let output = shell(t, "exec 3<given 4</etc/passwd 7</etc", &args);
    assert_eq!(output.trim(), "given text0 1 2 3 4", "the last is of `ls`");
}

fn only_three_descriptors(t: &Context) {
    let container = idle(t);
    let args = format!("{} ls /proc/self/fd", container.id);
    let output = shell(t, "exec 3</etc/passwd 4</ 7</etc", &args);
    assert_eq!(output.replace('\n', " "), "0 1 2 3");
}

fn signals_are_forwarded(t: &Context) {
    let container = idle(t);
    let script = "trap 'echo term; exit 12' TERM; echo ready; while :; do sleep 0.02; done";
    let running = container.exec_command(&[], &["sh", "-c", script]).spawn();
    let out = running.out.clone();
    wait_for("ready", 10, || std::fs::read_to_string(&out).unwrap().contains("ready"));
    running.signal(nix::sys::signal::Signal::SIGTERM);
    contains(&running.wait().exits(12).stdout, "term");
}

fn missing_program(t: &Context) {
    let container = idle(t);
    let output = container.exec(&["/no/such/program"]).exits(255);
    contains(&output.stderr, "no such file or directory");
    let output = container.exec(&["nosuchprogram"]).exits(255);
    contains(&output.stderr, "executable file not found in $PATH");
    contains(&container.exec(&["/etc"]).exits(255).stderr, "permission denied");
}

fn failed_exec_leaves_the_container(t: &Context) {
    let container = idle(t);
    for args in [vec!["/none"], vec!["/etc/passwd"]] {
        container.exec(&args).fails();
        assert_eq!(container.status(), "running");
    }
    container.exec_command(&["--cwd", "relative"], &["true"]).output().fails();
    container.exec_command(&["--process", "/none"], &[]).output().fails();
    let ps = t.runtime().args(["ps", "--format", "json", &container.id]).output().ok();
    let pids: Vec<i32> = serde_json::from_str(&ps).unwrap();
    assert!(pids.len() <= 2, "left processes inside: {pids:?}");
    container.exec(&["true"]).exits(0);
}

fn container_must_run(t: &Context) {
    contains(&t.runtime().args(["exec", "never-was", "true"]).output().fails(), "does not exist");
    let mut bundle = t.bundle();
    bundle.script("exit 0");
    let container = bundle.start();
    container.wait_status("stopped");
    contains(&container.exec(&["true"]).fails(), "stopped");
}

fn ignore_paused(t: &Context) {
    let container = idle(t);
    container.command("pause").exits(0);
    contains(&container.exec(&["true"]).fails(), "paused");
    let waiting = container.exec_command(&["--ignore-paused"], &["echo", "thawed"]).spawn();
    std::thread::sleep(std::time::Duration::from_millis(300));
    container.command("resume").exits(0);
    assert_eq!(waiting.wait().ok(), "thawed");
}

fn into_a_user_namespace(t: &Context) {
    let mut bundle = t.bundle();
    bundle.user_namespace();
    bundle.idle();
    let container = bundle.start();
    assert_eq!(container.sh("id -u; cat /proc/self/uid_map | tr -s ' '"), "0\n 0 100000 65536");
    let flags = ["--user", "1000:1000"];
    let text = container.exec_command(&flags, &["cat", "/proc/self/status"]).output().ok();
    assert_eq!(status_field(&text, "Uid").unwrap(), "1000\t1000\t1000\t1000");
}

fn into_a_shared_pid_namespace(t: &Context) {
    let mut bundle = t.bundle();
    bundle.without_namespace("pid");
    bundle.idle();
    let container = bundle.start();
    let pid: i32 = container.sh("echo $$").parse().unwrap();
    assert!(pid > 2);
}

fn working_directory_of_the_init_by_default(t: &Context) {
    let mut bundle = t.bundle();
    bundle.config["process"]["cwd"] = json!("/usr");
    bundle.idle();
    let container = bundle.start();
    assert_eq!(container.sh("pwd"), "/usr");
}

fn many_at_once(t: &Context) {
    let container = idle(t);
    let running: Vec<_> = (0..20)
        .map(|n| container.exec_command(&[], &["sh", "-c", &format!("echo {n}; exit {n}")]).spawn())
        .collect();
    for (n, running) in running.into_iter().enumerate() {
        assert_eq!(running.wait().exits(n as i32).stdout.trim(), n.to_string());
    }
}

fn environment_of_the_container_and_more(t: &Context) {
    let mut bundle = t.bundle();
    bundle.config["process"]["env"] = json!(["PATH=/bin", "FROM=config", "KEEP=it"]);
    bundle.idle();
    let container = bundle.start();
    let output = container.exec_command(&["--env", "FROM=flag"], &["env"]).output().ok();
    let lines: Vec<&str> = output.lines().collect();
    assert!(lines.contains(&"FROM=flag") && lines.contains(&"KEEP=it"), "{output}");
    assert!(!lines.iter().any(|l| l.starts_with("CARGO")), "of the caller: {output}");
}

fn oom_and_limits_are_inherited(t: &Context) {
    let mut bundle = t.bundle();
    bundle.config["process"]["oomScoreAdj"] = json!(500);
    bundle.config["process"]["rlimits"] =
        json!([{"type": "RLIMIT_NOFILE", "soft": 123, "hard": 123}]);
    bundle.idle();
    let container = bundle.start();
    assert_eq!(container.sh("cat /proc/self/oom_score_adj; ulimit -n"), "500\n123");
}

/// The joiner tells the runtime whom it cloned. That one may have said something before.
fn slow_joiner(t: &Context) {
    let mut bundle = t.bundle();
    bundle.idle();
    let container = bundle.start();
    let output = t
        .host("/usr/bin/strace")
        .args(["-f", "-qq", "-e", "trace=sendmsg", "-e", "inject=sendmsg:delay_enter=300000"])
        .arg(&t.runtime.path)
        .arg("--root")
        .arg(t.state_root())
        .args(["exec", &container.id, "echo", "there"])
        .output();
    contains(&output.exits(0).stdout, "there");
}

/// CVE-2024-21626: no descriptor of the host may serve as the working directory.
fn cwd_through_a_descriptor_is_refused(t: &Context) {
    let container = idle(t);
    for fd in 3..33 {
        let cwd = format!("/proc/self/fd/{fd}");
        let output = container
            .exec_command(&["--cwd", &cwd], &["ls", "../../../../etc/debian_version"])
            .output();
        assert_ne!(output.code(), 0, "{cwd} led to {}", output.stdout);
        let args =
            format!("--cwd {cwd} {} ls ../../../../etc/debian_version || true", container.id);
        let (runtime, root) = (t.runtime.path.display(), t.state_root());
        let leaked = format!(
            "exec 3</ 4</etc 5</ 6</ 7</ 8</ 9</; {runtime} --root {} exec {args} 2>/dev/null",
            root.display()
        );
        assert_eq!(t.sh(&leaked), "", "{cwd}");
    }
}

fn host_paths_in_error_name_the_program(t: &Context) {
    let mut bundle = t.bundle();
    std::fs::write(bundle.rootfs("script"), "#!/no/interpreter\n").unwrap();
    t.sh(&format!("chmod 755 {}", bundle.rootfs("script").display()));
    bundle.idle();
    let container = bundle.start();
    contains(&container.exec(&["/script"]).fails(), "/script");
}

fn missing_arguments(t: &Context) {
    let container = idle(t);
    t.runtime().args(["exec", &container.id]).output().fails();
    t.runtime().args(["exec"]).output().fails();
}

fn personality_is_the_containers(t: &Context) {
    let mut bundle = t.bundle();
    bundle.config["linux"]["personality"] = json!({"domain": "LINUX32"});
    bundle.idle();
    let expected = if cfg!(target_arch = "x86_64") { "i686" } else { "armv8l" };
    assert_eq!(bundle.start().sh("uname -m"), expected);
}

fn session_keyring_is_the_containers(t: &Context) {
    let mut bundle = t.bundle();
    bundle.config["linux"]["maskedPaths"] = json!([]);
    // Not the owner of the keyring, so that it sees only what it possesses.
    bundle.config["process"]["user"] = json!({"uid": 1000, "gid": 1000});
    bundle.script("cat /proc/keys; echo ready; sleep 1000");
    let container = bundle.start();
    container.wait_printed("ready");
    let serial = |keys: &str, id: &str| {
        let line = keys.lines().find(|line| line.contains(&format!(" _ses.{id}:")))?;
        line.split(' ').next().map(String::from)
    };
    let of_init = serial(&container.printed(), &container.id);
    assert!(of_init.is_some(), "{}", container.printed());
    assert_eq!(serial(&container.sh("cat /proc/keys"), &container.id), of_init);
    let mut bundle = t.bundle();
    bundle.config["linux"]["maskedPaths"] = json!([]);
    bundle.idle();
    let container = bundle.create_with(&["--no-new-keyring"]);
    container.command("start").exits(0);
    assert_eq!(serial(&container.sh("cat /proc/keys"), &container.id), None);
}

fn into_the_hosts_mount_namespace(t: &Context) {
    let mut bundle = t.bundle();
    bundle.without_namespace("mount");
    bundle.config["linux"]["maskedPaths"] = json!([]);
    bundle.config["linux"]["readonlyPaths"] = json!([]);
    std::fs::write(bundle.rootfs("marker"), "own root").unwrap();
    bundle.idle();
    let container = bundle.start();
    assert_eq!(container.exec(&["cat", "/marker"]).ok(), "own root");
    container.end();
}

/// CVE-2024-21626, by a descriptor that the caller itself hands down.
fn cwd_through_a_preserved_descriptor_is_refused(t: &Context) {
    let container = idle(t);
    let args = format!("--preserve-fds 1 --cwd /proc/self/fd/3 {} echo started", container.id);
    let (runtime, root) = (t.runtime.path.display(), t.state_root());
    let script = format!("exec 3</etc; {runtime} --root {} exec {args} || echo $?", root.display());
    assert_eq!(t.sh(&script), "255");
}

fn listen_fds_are_passed(t: &Context) {
    let container = idle(t);
    std::fs::write(t.dir.join("socket"), "activated").unwrap();
    let before = "exec 3<socket; export LISTEN_FDS=1 LISTEN_PID=$$";
    let args = format!("{} sh -c 'echo $LISTEN_FDS; cat <&3'", container.id);
    assert_eq!(shell(t, before, &args), "1\nactivated");
}

fn labels_without_their_module_are_refused(t: &Context) {
    let container = idle(t);
    for (flag, module, sign) in [
        ("--apparmor", "apparmor", "/sys/module/apparmor"),
        ("--process-label", "selinux", "/sys/fs/selinux/enforce"),
    ] {
        if std::path::Path::new(sign).exists() {
            continue;
        }
        let output = container.exec_command(&[flag, "a:b:c:d"], &["true"]).output();
        contains(&output.fails().to_lowercase(), module);
    }
}

fn null_of_stdio_is_the_containers(t: &Context) {
    let container = idle(t);
    let text = container.sh("stat -L -c %d:%i /proc/self/fd/0 /dev/null");
    let [stdin, null] = text.lines().collect::<Vec<_>>()[..] else { panic!("{text}") };
    assert_eq!(stdin, null, "device and inode of stdin and of /dev/null");
}
