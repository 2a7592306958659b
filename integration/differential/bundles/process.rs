//! What `process` says, programs that cannot run, and how they end.

use crate::bundles;
use crate::harness::Bundle;
use serde_json::{Value, json};

bundles! {
    exit_0, Run, |b| _ = b.script("echo out; echo err >&2");
    exit_3, Run, |b| _ = b.script("exit 3");
    exit_by_signal, Run, |b| _ = b.script("ulimit -c 0; trap - TERM; sh -c 'kill -TERM 1'; kill -KILL $$; exit 9");
    killed_child, Run, |b| _ = b.script("sh -c 'kill -SEGV $$'; exit $?");
    missing_program, Run, |b| _ = b.args(["/no/such/program"]);
    missing_in_path, Run, |b| _ = b.args(["no-such-program"]);
    not_executable, Run, |b| _ = b.args(["/etc/passwd"]);
    directory_as_program, Run, |b| _ = b.args(["/etc"]);
    script_without_interpreter, Run, |b| {
        script(b, "#!/no/such/interpreter\n");
    };
    script_without_header, Run, |b| script(b, "echo hello\n");
    relative_program, Run, |b| {
        b.args(["./bin/busybox", "echo", "found"]);
    };
    path_of_the_container, Run, |b| {
        b.args(["only-here"]);
        std::fs::create_dir_all(b.rootfs("/opt")).unwrap();
        std::os::unix::fs::symlink("/bin/busybox", b.rootfs("/opt/only-here")).unwrap();
        b.config["process"]["env"] = json!(["PATH=/nowhere:/opt"]);
    };
    no_path, Run, |b| {
        b.args(["sh", "-c", "echo found"]);
        b.config["process"]["env"] = json!(["A=b"]);
    };
    home_from_passwd, Run, |b| {
        b.script("echo $HOME");
        user(b, json!({"uid": 1000, "gid": 1000}));
    };
    home_of_nobody, Run, |b| {
        b.script("echo $HOME");
        user(b, json!({"uid": 4711, "gid": 4711}));
    };
    home_given, Run, |b| {
        b.script("echo $HOME");
        b.config["process"]["env"] = json!(["PATH=/bin", "HOME=/given"]);
    };
    home_empty, Run, |b| {
        b.script("echo \"${HOME-unset}\"");
        b.config["process"]["env"] = json!(["PATH=/bin", "HOME="]);
    };
    home_without_passwd, Run, |b| {
        b.script("echo $HOME");
        std::fs::remove_file(b.rootfs("/etc/passwd")).unwrap();
    };
    environment_twice, Run, |b| {
        b.script("tr '\\0' '|' </proc/$$/environ");
        b.config["process"]["env"] = json!(["PATH=/bin", "A=1", "A=2", "PATH=/usr/bin:/bin"]);
    };
    environment_without_value, Run, |b| {
        b.script("tr '\\0' '|' </proc/$$/environ");
        b.config["process"]["env"] = json!(["PATH=/bin", "NOVALUE", "B="]);
    };
    arguments, Run, |b| _ = b.args(["printf", "<%s>", "", "a b", "ü", "*", "--", "-x"]);
    no_process_args, Run, |b| b.config["process"]["args"] = json!([]);
    user_and_groups, Look, |b| {
        user(b, json!({"uid": 1000, "gid": 1001, "additionalGids": [5, 1000, 65534, 5]}));
    };
    umask_given, Look, |b| user(b, json!({"uid": 0, "gid": 0, "umask": 0o27}));
    cwd_given, Look, |b| b.config["process"]["cwd"] = json!("/home");
    cwd_missing, Look, |b| b.config["process"]["cwd"] = json!("/new/directory");
    cwd_missing_for_user, Look, |b| {
        b.config["process"]["cwd"] = json!("/new/directory");
        user(b, json!({"uid": 1000, "gid": 1000}));
    };
    cwd_by_link, Look, |b| {
        std::os::unix::fs::symlink("/home", b.rootfs("/link")).unwrap();
        b.config["process"]["cwd"] = json!("/link");
    };
    cwd_relative, Run, |b| b.config["process"]["cwd"] = json!("home");
    rlimits, Look, |b| b.config["process"]["rlimits"] = json!([
        {"type": "RLIMIT_NOFILE", "soft": 1024, "hard": 1024},
        {"type": "RLIMIT_CORE", "soft": 0, "hard": 0},
        {"type": "RLIMIT_NPROC", "soft": 100, "hard": 200},
        {"type": "RLIMIT_AS", "soft": 4294967296u64, "hard": 18446744073709551615u64},
        {"type": "RLIMIT_NICE", "soft": 0, "hard": 0},
    ]);
    rlimit_soft_above_hard, Run, |b| {
        b.config["process"]["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": 20, "hard": 10}]);
    };
    rlimit_twice, Run, |b| {
        b.script("ulimit -n");
        b.config["process"]["rlimits"] = json!([
            {"type": "RLIMIT_NOFILE", "soft": 100, "hard": 100},
            {"type": "RLIMIT_NOFILE", "soft": 50, "hard": 50},
        ]);
    };
    capabilities_absent, Look, |b| {
        b.config["process"].as_object_mut().unwrap().remove("capabilities");
    };
    capabilities_empty, Look, |b| b.config["process"]["capabilities"] = json!({});
    capabilities_each_set, Look, |b| b.config["process"]["capabilities"] = json!({
        "bounding": ["CAP_CHOWN", "CAP_KILL", "CAP_NET_RAW", "CAP_SETUID"],
        "permitted": ["CAP_CHOWN", "CAP_KILL", "CAP_NET_RAW"],
        "effective": ["CAP_CHOWN", "CAP_KILL"],
        "inheritable": ["CAP_CHOWN", "CAP_NET_RAW"],
        "ambient": ["CAP_CHOWN"],
    });
    capabilities_ambient_for_user, Look, |b| {
        user(b, json!({"uid": 1000, "gid": 1000}));
        let some = json!(["CAP_NET_BIND_SERVICE", "CAP_KILL"]);
        b.config["process"]["capabilities"] = json!({
            "bounding": some, "permitted": some, "effective": some, "inheritable": some, "ambient": some,
        });
    };
    capabilities_of_user, Look, |b| user(b, json!({"uid": 1000, "gid": 1000}));
    capability_all, Look, |b| b.all_capabilities();
    capability_unknown, Look, |b| {
        b.config["process"]["capabilities"]["bounding"] = json!(["CAP_KILL", "CAP_OF_TOMORROW"]);
    };
    no_new_privileges_off, Look, |b| b.config["process"]["noNewPrivileges"] = json!(false);
    oom_score, Look, |b| b.config["process"]["oomScoreAdj"] = json!(321);
    seccomp_errno, Run, |b| {
        b.script("mkdir /tmp/x; chmod 0700 /tmp; echo $?");
        seccomp(b, json!([{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38}]));
    };
    seccomp_kill, Run, |b| {
        b.script("sync; mkdir /tmp/x; echo $?");
        seccomp(b, json!([{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_KILL"}]));
    };
    seccomp_flags, Look, |b| {
        seccomp(b, json!([{"names": ["syncfs"], "action": "SCMP_ACT_ERRNO"}]));
        b.config["linux"]["seccomp"]["flags"] =
            json!(["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW"]);
        b.config["process"]["noNewPrivileges"] = json!(false);
    };
    seccomp_allow_all, Look, |b| seccomp(b, json!([]));
    personality_32, Look, |b| b.config["linux"]["personality"] = json!({"domain": "LINUX32"});
    terminal, Terminal, |_| ();
    terminal_for_user, Terminal, |b| user(b, json!({"uid": 1000, "gid": 1000}));
}

fn user(b: &mut Bundle, user: Value) {
    b.config["process"]["user"] = user;
}

fn seccomp(b: &mut Bundle, calls: Value) {
    b.config["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": calls});
}

/// An executable file with that text as the program.
fn script(b: &mut Bundle, text: &str) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::write(b.rootfs("/script"), text).unwrap();
    std::fs::set_permissions(b.rootfs("/script"), PermissionsExt::from_mode(0o755)).unwrap();
    b.args(["/script"]);
}
