//! Bad input: one message that names file and field or object, runc's exit code, nothing left.
//! (What is left is looked for by the runner, after every test.)

use crate::harness::{Context, Need, Test, contains};
use crate::test;
use serde_json::{Value, json};

pub const TESTS: &[Test] = &[
    test!(bad_configurations),
    test!(bad_configurations_that_runc_takes)
        .needs(&[Need::CortenOnly("1.1 does not check these")]),
    test!(bad_configurations_that_the_kernel_refuses)
        .needs(&[Need::CortenOnly("runc hangs where seccomp kills all")]),
    test!(longest_id),
    test!(all_faults_at_once).needs(&[Need::CortenOnly("runc stops at the first")]),
    test!(config_is_no_json),
    test!(missing_bundle_and_config),
    test!(bad_ids),
    test!(id_in_use),
    test!(missing_program_fails_create_or_start),
    test!(failed_start_leaves_a_stopped_container)
        .needs(&[Need::CortenOnly("runc's start does not see the error")]),
    test!(bad_command_lines),
    test!(missing_container),
    test!(later_options_are_refused_clearly).needs(&[Need::CortenOnly("runc can do these")]),
    test!(unwritable_state_root),
    test!(root_option_is_made_private),
    test!(failure_late_in_the_child_leaves_nothing),
    test!(pid_file_that_cannot_be_written),
    test!(mounts_inside_proc_are_refused),
];

/// What is wrong, how to make it so, and what the message must name.
struct Bad {
    edit: fn(&mut Value),
    /// Looked for in Corten's message.
    names: &'static str,
}

const BAD: &[Bad] = &[
    Bad { edit: |c| c["root"]["path"] = json!("nowhere"), names: "root.path" },
    Bad { edit: |c| drop(c.as_object_mut().unwrap().remove("root")), names: "root" },
    Bad { edit: |c| c["process"]["args"] = json!([]), names: "process.args" },
    Bad { edit: |c| c["process"]["args"] = json!("sh"), names: "process.args" },
    Bad { edit: |c| c["process"]["cwd"] = json!("relative"), names: "process.cwd" },
    Bad { edit: |c| c["process"]["cwd"] = json!(""), names: "process.cwd" },
    Bad {
        edit: |c| c["linux"]["namespaces"][0]["type"] = json!("nosuch"),
        names: "linux.namespaces[0]",
    },
    Bad {
        edit: |c| c["linux"]["namespaces"][1] = json!({"type": "pid"}),
        names: "linux.namespaces[1]",
    },
    Bad {
        edit: |c| c["linux"]["namespaces"][0]["path"] = json!("/no/such/namespace"),
        names: "linux.namespaces[0].path",
    },
    Bad {
        edit: |c| c["mounts"][5] = json!({"destination": "/mnt", "type": "bind", "source": "/no/such", "options": ["bind"]}),
        names: "mounts[5].source",
    },
    Bad {
        edit: |c| {
            c["mounts"][5] = json!({"destination": "/mnt", "type": "nosuchfs", "source": "x"})
        },
        names: "nosuchfs",
    },
    Bad { edit: |c| c["linux"]["sysctl"] = json!({"kernel.panic": "1"}), names: "kernel.panic" },
    Bad { edit: |c| c["linux"]["sysctl"] = json!({"vm.swappiness": "1"}), names: "vm.swappiness" },
    Bad {
        edit: |c| {
            c["process"]["rlimits"] = json!([{"type": "RLIMIT_NOSUCH", "soft": 1, "hard": 1}])
        },
        names: "process.rlimits[0]",
    },
    Bad {
        edit: |c| {
            c["process"]["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": 9, "hard": 1}])
        },
        names: "process.rlimits[0]",
    },
    Bad { edit: |c| c["process"]["user"]["uid"] = json!(-1), names: "process.user.uid" },
    Bad { edit: |c| c["process"]["oomScoreAdj"] = json!(2000), names: "oomScoreAdj" },
    Bad { edit: |c| c["mounts"] = json!({"a": 1}), names: "mounts" },
    Bad { edit: |c| c["mounts"][5]["options"] = json!([5]), names: "mounts[5].options[0]" },
    Bad {
        edit: |c| {
            c["linux"]["devices"] = json!([{"path": "/dev/x", "type": "z", "major": 1, "minor": 1}])
        },
        names: "linux.devices[0]",
    },
    Bad {
        edit: |c| c["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"})),
        names: "idMappings",
    },
    Bad {
        edit: |c| c["linux"]["rootfsPropagation"] = json!("sideways"),
        names: "rootfsPropagation",
    },
];

/// The kernel or old runc would take these; the spec, or the host's safety, does not.
const BAD_FOR_CORTEN: &[Bad] = &[
    Bad { edit: |c| c["ociVersion"] = json!("2.0.0"), names: "ociVersion" },
    Bad { edit: |c| c["ociVersion"] = json!("banana"), names: "ociVersion" },
    Bad { edit: |c| drop(c.as_object_mut().unwrap().remove("ociVersion")), names: "ociVersion" },
    Bad {
        edit: |c| c["linux"]["namespaces"].as_array_mut().unwrap().retain(|n| n["type"] != "uts"),
        names: "hostname",
    },
    Bad {
        edit: |c| {
            c["linux"]["sysctl"] = json!({"net.ipv4.ip_forward": "1", "kernel.hostname": "x"})
        },
        names: "kernel.hostname",
    },
    Bad {
        edit: |c| c["linux"]["sysctl"] = json!({"net/../kernel/panic": "1"}),
        names: "linux.sysctl",
    },
    Bad { edit: |c| c["linux"]["sysctl"] = json!({"kernel.shm+x": "1"}), names: "linux.sysctl" },
    Bad {
        edit: |c| c["process"]["user"]["uid"] = json!(4_294_967_295u64),
        names: "process.user.uid",
    },
    Bad {
        edit: |c| c["process"]["user"]["uid"] = json!(4_294_967_296u64),
        names: "process.user.uid",
    },
    Bad {
        edit: |c| c["linux"]["maskedPaths"] = json!(["relative"]),
        names: "linux.maskedPaths[0]",
    },
    Bad {
        edit: |c| c["hooks"] = json!({"poststart": [{"path": "relative"}]}),
        names: "hooks.poststart[0].path",
    },
    Bad {
        edit: |c| c["hooks"] = json!({"prestart": [{"path": "/bin/true", "timeout": 0}]}),
        names: "hooks.prestart[0].timeout",
    },
    Bad {
        edit: |c| c["linux"]["timeOffsets"] = json!({"monotonic": {"secs": 1}}),
        names: "linux.timeOffsets",
    },
    Bad {
        edit: |c| {
            let limit = json!([
                {"type": "RLIMIT_CORE", "soft": 1, "hard": 1},
                {"type": "RLIMIT_CORE", "soft": 1, "hard": 1},
            ]);
            c["process"]["rlimits"] = limit;
        },
        names: "process.rlimits[1]",
    },
    Bad { edit: |c| c["process"]["env"] = json!(["NUL=\u{0}"]), names: "process.env[0]" },
    Bad { edit: |c| c["process"]["args"] = json!(["sh", "a\u{0}b"]), names: "process.args[1]" },
    Bad {
        edit: |c| c["mounts"][5]["destination"] = json!("/a\u{0}b"),
        names: "mounts[5].destination",
    },
    Bad {
        edit: |c| c["linux"]["uidMappings"] = json!([{"containerID": 0, "hostID": 0, "size": 1}]),
        names: "linux.uidMappings",
    },
];

/// Only the kernel refuses these; the message names the field all the same.
const LATE: &[Bad] = &[
    Bad {
        edit: |c| c["linux"]["sysctl"] = json!({"net.ipv4.nosuch": "1"}),
        names: "config.json: linux.sysctl: cannot open /proc/sys/net/ipv4/nosuch: no such file",
    },
    // dockerd looks for "not a directory".
    Bad {
        edit: |c| {
            c["mounts"][5] = json!({"destination": "/etc/passwd", "type": "tmpfs", "source": "x"})
        },
        names: "(mounts[5]): a directory on a file: not a directory",
    },
    Bad {
        edit: |c| c["mounts"][5] = json!({"destination": "/etc", "type": "bind", "source": "/etc/passwd", "options": ["bind"]}),
        names: "(mounts[5]): a file on a directory: not a directory",
    },
    Bad {
        edit: |c| {
            let space = c["linux"]["namespaces"].as_array_mut().unwrap();
            space.retain(|n| n["type"] != "network");
            space.push(json!({"type": "network", "path": "/proc/self/ns/pid"}));
        },
        names: "linux.namespaces[4].path: not a network namespace: /proc/self/ns/pid",
    },
    Bad {
        edit: |c| c["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_KILL_PROCESS"}),
        names: "linux.seccomp may refuse",
    },
];

fn try_all(t: &Context, table: &[Bad]) {
    for bad in table {
        let mut bundle = t.bundle();
        (bad.edit)(&mut bundle.config);
        let container = bundle.named("bad");
        for command in ["create", "run"] {
            let output = container.new_command(command, &[]).output();
            assert_eq!(output.code(), 1, "{}: {output}", bad.names);
            if t.runtime.is_corten() {
                contains(&output.stderr, bad.names);
            }
        }
        contains(&container.command("state").fails(), "does not exist");
        assert!(!t.state_root().join("bad").exists(), "{}", bad.names);
    }
}

fn bad_configurations(t: &Context) {
    try_all(t, BAD);
}

fn bad_configurations_that_runc_takes(t: &Context) {
    try_all(t, BAD_FOR_CORTEN);
}

fn bad_configurations_that_the_kernel_refuses(t: &Context) {
    try_all(t, LATE);
}

fn longest_id(t: &Context) {
    let id = "a".repeat(255);
    let mut bundle = t.bundle();
    bundle.args(["true"]);
    bundle.named(&id).run(&[]).ok();
}

fn all_faults_at_once(t: &Context) {
    let mut bundle = t.bundle();
    bundle.config["process"]["cwd"] = json!("relative");
    bundle.config["process"]["args"] = json!([]);
    bundle.config["linux"]["sysctl"] = json!({"kernel.panic": "1"});
    let error = bundle.create_fails();
    for name in ["process.cwd", "process.args", "kernel.panic"] {
        contains(&error, name);
    }
}

fn config_is_no_json(t: &Context) {
    let bundle = t.bundle();
    for text in ["", "{", "[]", "null", "{\"ociVersion\": 1}", "{}x", "\u{feff}{}", "{\"root\": {]"]
    {
        bundle.write();
        std::fs::write(bundle.dir.join("config.json"), text).unwrap();
        let container = crate::harness::Container::new(t, bundle.dir.clone(), "bad");
        let output = container.create(&[]);
        // Debian's runc panics at `null`, with 2.
        assert!(output.code() == 1 || !t.runtime.is_corten() && output.code() == 2, "{output}");
        if t.runtime.is_corten() {
            contains(&output.stderr, "config.json");
        }
    }
}

fn missing_bundle_and_config(t: &Context) {
    let nowhere = t.path("nowhere");
    let container = crate::harness::Container::new(t, nowhere.clone(), "bad");
    contains(&container.create(&[]).exits(1).stderr, "no such file or directory");
    std::fs::create_dir(&nowhere).unwrap();
    contains(&container.create(&[]).exits(1).stderr, "config.json");
    std::fs::write(nowhere.join("config.json"), "{}").unwrap();
    container.create(&[]).exits(1);
    // The configuration is a directory.
    std::fs::remove_file(nowhere.join("config.json")).unwrap();
    std::fs::create_dir(nowhere.join("config.json")).unwrap();
    container.create(&[]).exits(1);
}

fn bad_ids(t: &Context) {
    let bundle = t.bundle();
    for id in ["", ".", "..", "a/b", "/a", "../../up", "a b", "ü", "a\nb", "a:b"] {
        let container = bundle.named(id);
        let stderr = container.create(&[]).exits(1).stderr;
        if t.runtime.is_corten() && !id.is_empty() {
            contains(&stderr, "container ID");
        }
        for command in ["state", "start", "delete", "pause"] {
            t.runtime().args([command, id]).output().fails();
        }
    }
    assert!(!t.dir.join("up").exists() && t.dir.exists());
}

fn id_in_use(t: &Context) {
    let mut bundle = t.bundle();
    bundle.idle();
    let container = bundle.start();
    for command in ["create", "run"] {
        let stderr = container.new_command(command, &[]).output().exits(1).stderr;
        contains(&stderr, "exist");
    }
    assert_eq!(container.status(), "running");
}

fn missing_program_fails_create_or_start(t: &Context) {
    for (program, text) in [
        ("/no/such", "no such file or directory"),
        ("nosuch", "executable file not found in $PATH"),
        ("/etc/passwd", "permission denied"),
        ("/etc", "permission denied"),
    ] {
        let mut bundle = t.bundle();
        bundle.args([program]);
        let output = bundle.run();
        let code = output.code();
        let stderr = output.fails();
        contains(&stderr, text);
        contains(&stderr, program);
        assert_eq!(code, 1, "{program}");
    }
}

/// As soon as `start` has failed, for dockerd deletes the task at once.
fn failed_start_leaves_a_stopped_container(t: &Context) {
    let mut bundle = t.bundle();
    std::fs::write(bundle.rootfs("bin/odd"), "#!/no/such/interpreter\n").unwrap();
    t.sh(&format!("chmod 755 {}", bundle.rootfs("bin/odd").display()));
    bundle.args(["odd"]);
    for _ in 0..20 {
        let container = bundle.create();
        let stat = format!("/proc/{}/stat", container.pid());
        contains(&container.command("start").fails(), "no such file or directory");
        let stat = std::fs::read_to_string(stat).unwrap_or_default();
        assert!(stat.is_empty() || stat.contains(") Z "), "still there: {stat}");
        container.command("delete").exits(0);
    }
}

fn bad_command_lines(t: &Context) {
    let bundle = t.bundle();
    bundle.write();
    let dir = bundle.dir.to_str().unwrap();
    for args in [
        vec!["create"],
        vec!["create", "--nosuch", "id"],
        vec!["create", "--bundle"],
        vec!["create", "--bundle", dir, "one", "two"],
        vec!["start"],
        vec!["start", "one", "two"],
        vec!["kill"],
        vec!["state"],
        vec!["delete"],
        vec!["list", "surplus"],
        vec!["list", "--format", "nosuch"],
        vec!["ps"],
        vec!["update"],
        vec!["events"],
        vec!["pause"],
        vec!["resume"],
        vec!["spec", "surplus"],
        vec!["run", "--preserve-fds", "x", "--bundle", dir, "id"],
    ] {
        let output = t.runtime().args(&args).output();
        assert_eq!(output.code(), 1, "{args:?}: {output}");
        assert!(!output.stderr.contains("panicked"), "{output}");
    }
}

fn missing_container(t: &Context) {
    for command in ["start", "state", "delete", "pause", "resume", "ps", "events", "update"] {
        let output = t.runtime().args([command, "nobody"]).output();
        contains(&output.exits(1).stderr, "container does not exist");
    }
    contains(&t.runtime().args(["kill", "nobody", "9"]).output().exits(1).stderr, "does not exist");
}

fn later_options_are_refused_clearly(t: &Context) {
    let container = t.bundle().named("later");
    let dir = container.bundle.to_str().unwrap();
    for flags in [["--systemd-cgroup"].as_slice(), &["--rootless", "true"]] {
        let run = t.host(&t.runtime.path).args(flags).arg("--root").arg(t.state_root());
        let output = run.args(["create", "--bundle", dir, "later"]).output().exits(1);
        contains(&output.stderr, flags[0].trim_start_matches('-'));
    }
}

fn unwritable_state_root(t: &Context) {
    let file = t.path("file");
    std::fs::write(&file, "").unwrap();
    let bundle = t.bundle();
    bundle.write();
    let dir = bundle.dir.to_str().unwrap();
    for command in [vec!["create", "--bundle", dir, "x"], vec!["run", "--bundle", dir, "x"]] {
        let output = t.host(&t.runtime.path).arg("--root").arg(file.join("below")).args(&command);
        contains(&output.output().exits(1).stderr, file.to_str().unwrap());
    }
}

fn root_option_is_made_private(t: &Context) {
    use std::os::unix::fs::PermissionsExt;
    let mut bundle = t.bundle();
    bundle.idle();
    let container = bundle.start();
    let mode = std::fs::metadata(t.state_root().join(&container.id)).unwrap().permissions().mode();
    let root = std::fs::metadata(t.state_root()).unwrap().permissions().mode();
    // Another user can read neither.
    assert!(mode & 0o007 == 0 || root & 0o007 == 0 || root & 0o1001 == 0o1000, "{mode:o} {root:o}");
}

fn failure_late_in_the_child_leaves_nothing(t: &Context) {
    type Edit = fn(&mut Value);
    let edits: [Edit; 4] = [
        // Each is found only by the kernel, each at another step of the child.
        |c| c["mounts"][1]["options"] = json!(["size=nonsense"]),
        |c| c["linux"]["sysctl"] = json!({"net.ipv4.no_such_key": "1"}),
        |c| {
            c["mounts"]
                .as_array_mut()
                .unwrap()
                .push(json!({"destination": "/proc/nowhere", "type": "tmpfs", "source": "t"}))
        },
        |c| c["linux"]["resources"]["cpu"] = json!({"mems": "77"}),
    ];
    for edit in edits {
        let mut bundle = t.bundle();
        edit(&mut bundle.config);
        let container = bundle.named("late");
        container.create(&[]).exits(1);
        contains(&container.command("state").fails(), "does not exist");
        assert_eq!(crate::harness::cgroup::below(&t.cgroup), Vec::<std::path::PathBuf>::new());
    }
}

/// The last step of `create`, when init is ready already.
fn pid_file_that_cannot_be_written(t: &Context) {
    let container = t.bundle().named("late");
    for command in ["create", "run"] {
        let output = container.new_command(command, &["--pid-file", "/no/such/dir/pid"]).output();
        contains(&output.exits(1).stderr, "/no/such/dir");
        contains(&container.command("state").fails(), "does not exist");
        assert_eq!(crate::harness::cgroup::below(&t.cgroup), Vec::<std::path::PathBuf>::new());
    }
}

/// CVE-2019-16884: what the runtime or the program trusts in /proc must not be faked.
fn mounts_inside_proc_are_refused(t: &Context) {
    for destination in ["/proc/self", "/proc/sys/kernel"] {
        let mut bundle = t.bundle();
        bundle.bind("/etc", destination, &[]);
        contains(&bundle.create_fails(), "inside /proc");
    }
}
