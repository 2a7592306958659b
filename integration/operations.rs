//! The operations of runtime.md on a container in every state: what they do, what they refuse,
//! and that a refusal changes nothing.

use crate::harness::{Container, Context, Need, Test, cgroup, contains, proc_status, wait_for};
use crate::test;
use serde_json::{Value, json};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

pub const TESTS: &[Test] = &[
    test!(state_is_that_of_the_schema),
    test!(state_while_creating).needs(&[Need::CortenOnly("1.1 has no record before the hooks")]),
    test!(everything_but_the_program_is_there_at_create),
    test!(config_may_change_or_go_after_create)
        .needs(&[Need::CortenOnly("its exec reads config.json again")]),
    test!(refused_operations_change_nothing),
    test!(kill_sends_the_very_signal),
    test!(delete_removes_what_create_made_and_nothing_else),
    test!(an_id_can_be_used_again),
    test!(unknown_properties_are_ignored),
    test!(root_path_may_be_absolute),
];

/// schema/state-schema.json, and the statuses of runtime.md against the kernel's facts.
fn state_is_that_of_the_schema(t: &Context) {
    let mut bundle = t.bundle();
    bundle.idle();
    bundle.config["annotations"] = json!({"org.example.key": "value"});
    bundle.write();
    let container = Container::new(t, bundle.dir.clone(), "shape");
    let name = bundle.dir.file_name().unwrap();
    let create = t.runtime().args(["create", "--bundle"]).arg(name).arg("shape").dir(&t.dir);
    create.out(container.out.clone()).output().exits(0);

    let check = |status: &str| -> Value {
        let state = container.state();
        assert_eq!(state["status"], status, "{state}");
        assert_eq!(state["id"], "shape");
        assert_eq!(state["bundle"], json!(bundle.dir), "an absolute path");
        assert_eq!(state["annotations"]["org.example.key"], "value");
        let version: Vec<&str> = state["ociVersion"].as_str().unwrap().split('.').collect();
        assert!(version.len() == 3 && version[0] == "1", "{version:?}");
        state["pid"].clone()
    };
    let pid = check("created");
    // The program of a created container has not been executed yet: it is still the runtime.
    let shell = |pid: &Value| {
        let exe = std::fs::metadata(format!("/proc/{pid}/exe")).unwrap();
        let busybox = std::fs::metadata(bundle.rootfs("bin/busybox")).unwrap();
        (exe.dev(), exe.ino()) == (busybox.dev(), busybox.ino())
    };
    assert!(!shell(&pid));
    let entered = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    contains(&entered, &bundle.cgroups_path());
    container.command("start").exits(0);
    assert_eq!(check("running"), pid);
    assert!(shell(&pid));
    container.kill("KILL");
    container.wait_status("stopped");
    // The schema takes 0, and needs none.
    assert!([json!(0), Value::Null].contains(&check("stopped")));
    container.command("delete").exits(0);
}

/// "creating" can be seen by who asks while `create` is at work: a hook.
fn state_while_creating(t: &Context) {
    let mut bundle = t.bundle();
    let out = t.path("state");
    let script = format!(
        "{} --root {} state making > {}",
        t.runtime.path.display(),
        t.state_root().display(),
        out.display()
    );
    let hook = json!({"path": "/bin/sh", "args": ["sh", "-c", script]});
    bundle.config["hooks"] = json!({"createRuntime": [hook]});
    let container = bundle.named("making");
    container.create(&[]).exits(0);
    let state: Value = serde_json::from_str(&std::fs::read_to_string(out).unwrap()).unwrap();
    assert_eq!(state["status"], "creating");
    assert_eq!(state["pid"], json!(container.pid()));
}

/// "The resources requested in the config are created", before the program runs.
fn everything_but_the_program_is_there_at_create(t: &Context) {
    let mut bundle = t.bundle();
    bundle.idle();
    bundle.config["hostname"] = json!("early");
    bundle.config["root"]["readonly"] = json!(true);
    bundle.config["linux"]["sysctl"] = json!({"net.ipv4.ip_default_ttl": "77"});
    bundle.config["linux"]["resources"]["pids"] = json!({"limit": 33});
    let source = t.path("data");
    std::fs::create_dir(&source).unwrap();
    bundle.bind(&source, "/mnt", &["ro"]);
    let container = bundle.create();
    let pid = container.pid();
    let mounts = std::fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap();
    let options = |target: &str| {
        let line = mounts.lines().find(|line| line.split(' ').nth(4) == Some(target));
        line.unwrap_or_else(|| panic!("{target} in\n{mounts}")).split(' ').nth(5).unwrap()
    };
    assert!(options("/").starts_with("ro"));
    assert!(options("/mnt").starts_with("ro"));
    let inside = |script: &str| {
        let target = pid.to_string();
        let enter = t.host("nsenter").args(["-u", "-n", "-t", &target, "sh", "-c", script]);
        enter.output().ok()
    };
    assert_eq!(inside("hostname; cat /proc/sys/net/ipv4/ip_default_ttl"), "early\n77");
    let limit = std::fs::read_to_string(container.cgroup("pids").join("pids.max")).unwrap();
    assert_eq!(limit.trim(), "33");
}

/// What `start`, `exec` and `delete` do was decided at `create`.
fn config_may_change_or_go_after_create(t: &Context) {
    let (first, second) = (t.path("first"), t.path("second"));
    let poststop = |file: &PathBuf| {
        let script = format!("touch {}", file.display());
        json!({"poststop": [{"path": "/bin/sh", "args": ["sh", "-c", script]}]})
    };
    let mut bundle = t.bundle();
    bundle.config["hooks"] = poststop(&first);
    bundle.config["process"]["env"].as_array_mut().unwrap().push(json!("WHICH=first"));
    bundle.script("echo started as $WHICH; sleep 1000");
    let changed = bundle.create();
    bundle.config["hooks"] = poststop(&second);
    bundle.config["process"]["env"] = json!(["WHICH=second", "PATH=/bin"]);
    bundle.config["process"]["noNewPrivileges"] = json!(false);
    bundle.script("echo other; sleep 1000");
    bundle.write();
    changed.command("start").exits(0);
    changed.wait_printed("started as first");
    assert_eq!(
        changed.sh("echo $WHICH; grep NoNewPrivs /proc/self/status"),
        "first\nNoNewPrivs:\t1"
    );
    changed.end();
    assert!(first.exists() && !second.exists(), "the hook of the first config");

    let gone = bundle.create();
    std::fs::remove_file(bundle.dir.join("config.json")).unwrap();
    gone.command("start").exits(0);
    gone.wait_printed("other");
    assert_eq!(gone.sh("echo $WHICH"), "second");
    gone.end();
    assert!(second.exists());
}

/// All that a refused operation could have changed: init with its start and its pending signals,
/// what it has mounted, the freezer, the record. A running shell's children come and go.
fn facts(t: &Context, container: &Container, group: &str) -> String {
    let mut facts = container.state().to_string();
    for process in cgroup::processes(group) {
        let read = |file: &str| {
            std::fs::read_to_string(format!("/proc/{process}/{file}")).unwrap_or_default()
        };
        let start = read("stat").rsplit(')').next().unwrap().split(' ').nth(20).map(String::from);
        let pending = [proc_status(process, "SigPnd"), proc_status(process, "ShdPnd")];
        let (command, mounts) = (read("cmdline"), read("mountinfo"));
        facts += &format!("\n{process} {start:?} {pending:?} {command}\n{mounts}");
    }
    let mut files: Vec<String> = Vec::new();
    for entry in std::fs::read_dir(t.state_root().join(&container.id)).unwrap() {
        let entry = entry.unwrap();
        let text = match entry.file_type().unwrap().is_file() {
            true => std::fs::read_to_string(entry.path()).unwrap_or_default(),
            false => String::new(),
        };
        files.push(format!("{:?}: {text}", entry.file_name()));
    }
    files.sort();
    facts + &files.join("\n")
}

fn refused_operations_change_nothing(t: &Context) {
    for (status, refused) in [
        ("created", ["create", "resume"].as_slice()),
        ("running", &["start", "delete", "create", "resume"]),
        ("paused", &["start", "delete", "create", "pause"]),
        ("stopped", &["start", "kill", "create", "pause", "resume"]),
    ] {
        let mut bundle = t.bundle();
        // Were the signal of `kill` sent, it would be seen pending or by its handler.
        // No child comes and goes: the facts of a running one are the same for ever.
        bundle.script(
            "mkfifo /tmp/f; exec 3<>/tmp/f; trap 'echo signalled' TERM; echo ready; read x <&3",
        );
        let group = bundle.cgroups_path();
        let container = bundle.create();
        if status != "created" {
            container.command("start").exits(0);
            container.wait_printed("ready");
        }
        match status {
            "paused" => drop(container.command("pause").exits(0)),
            "stopped" => {
                container.kill("KILL");
                wait_for("no process", 10, || {
                    crate::harness::leftovers::reap();
                    cgroup::processes(&group).is_empty()
                });
            }
            _ => {}
        }
        assert_eq!(container.status(), status);
        let before = facts(t, &container, &group);
        for command in refused {
            let output = match *command {
                "create" => container.new_command("create", &[]).output(),
                "kill" => t.runtime().args(["kill", &container.id, "TERM"]).output(),
                _ => container.command(command),
            };
            assert!(!output.exits(1).stderr.is_empty(), "{command} when {status}");
            let after = facts(t, &container, &group);
            assert_eq!(after, before, "{command} when {status}");
        }
        assert!(!container.printed().contains("signalled"));
        t.runtime().args(["delete", "--force", &container.id]).output().exits(0);
        let _ = std::fs::remove_dir_all(&bundle.dir);
    }
}

/// Every signal that the shell can catch, and that one only.
fn kill_sends_the_very_signal(t: &Context) {
    let mut bundle = t.bundle();
    // 9 and 19 cannot be caught; 17 comes with every child; 32 and 33 are the C library's.
    let signals: Vec<i32> =
        (1..=64).filter(|n| ![9, 17, 18, 19, 20, 21, 22, 32, 33].contains(n)).collect();
    let traps: String = signals.iter().map(|n| format!("trap 'echo got {n}.' {n}; ")).collect();
    bundle.script(&format!("{traps} echo ready; while :; do sleep 0.01; done"));
    let container = bundle.start();
    container.wait_printed("ready");
    for (done, signal) in signals.iter().enumerate() {
        container.kill(&signal.to_string());
        container.wait_printed(&format!("got {signal}."));
        assert_eq!(container.printed().lines().count(), done + 2, "{}", container.printed());
    }
}

fn delete_removes_what_create_made_and_nothing_else(t: &Context) {
    let holder =
        t.host("unshare").args(["--net", "sh", "-c", "echo ready; exec sleep 1000"]).spawn();
    wait_for("the namespace", 5, || std::fs::read_to_string(&holder.out).unwrap() == "ready\n");
    let mut bundle = t.bundle();
    bundle.namespace("network", Some(format!("/proc/{}/ns/net", holder.pid())));
    let volume = t.path("volume");
    std::fs::create_dir(&volume).unwrap();
    std::fs::write(volume.join("file"), "kept").unwrap();
    bundle.bind(&volume, "/mnt", &[]);
    bundle.script("echo written > /mnt/by-container; sleep 1000");
    // The group above is somebody else's, and so is the one beside.
    let parent = format!("{}/parent", t.cgroup);
    cgroup::make(&parent).unwrap();
    cgroup::make(&format!("{parent}/beside")).unwrap();
    bundle.config["linux"]["cgroupsPath"] = json!(format!("{parent}/own"));
    let there = |path: &str| {
        let all = cgroup::below(&t.cgroup);
        all.iter().any(|dir| dir.to_str().unwrap().ends_with(path))
    };

    let container = bundle.start();
    wait_for("the program", 5, || volume.join("by-container").exists());
    assert!(there("/parent/own"));
    let pid = container.pid();
    container.end();
    assert!(proc_status(pid, "State").is_none_or(|state| state.starts_with('Z')));
    assert!(!there("/parent/own"), "its cgroup");
    assert!(!t.state_root().join(&container.id).exists(), "its record");
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(bundle.dir.to_str().unwrap()), "its mounts:\n{mounts}");

    assert!(there("/parent") && there("/parent/beside"), "groups of others");
    assert!(proc_status(holder.pid(), "State").is_some_and(|state| !state.starts_with('Z')));
    assert_eq!(std::fs::read_to_string(volume.join("file")).unwrap(), "kept");
    assert_eq!(std::fs::read_to_string(volume.join("by-container")).unwrap(), "written\n");
    assert!(bundle.rootfs("bin/sh").exists() && bundle.dir.join("config.json").exists());
    assert!(cgroup::remove(&parent));
}

fn an_id_can_be_used_again(t: &Context) {
    let mut bundle = t.bundle();
    bundle.idle();
    let container = bundle.named("again");
    for _ in 0..2 {
        container.create(&[]).exits(0);
        container.command("start").exits(0);
        assert_eq!(container.status(), "running");
        container.kill("KILL");
        container.wait_status("stopped");
        container.command("delete").exits(0);
        container.command("state").fails();
    }
}

/// In every object that has fields, not in maps: there it would be a name.
fn add_unknown(value: &mut Value, at: &str) {
    const MAPS: [&str; 4] = ["annotations", "sysctl", "unified", "hooks"];
    match value {
        Value::Object(map) if !MAPS.contains(&at) => {
            map.iter_mut().for_each(|(key, value)| add_unknown(value, key));
            map.insert("x-unknown".into(), json!({"deep": [1, "two", null]}));
        }
        Value::Array(list) => list.iter_mut().for_each(|value| add_unknown(value, at)),
        _ => {}
    }
}

/// Unknown fields, annotations and the parts of other platforms neither fail nor act.
fn unknown_properties_are_ignored(t: &Context) {
    let mut bundle = t.bundle();
    bundle.script("echo fine; hostname");
    let rule = json!([{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO"}]);
    bundle.config["linux"]["seccomp"] =
        json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rule});
    bundle.config["linux"]["resources"]["pids"] = json!({"limit": 100});
    bundle.config["hooks"] = json!({"poststart": [{"path": "/bin/true"}]});
    bundle.config["annotations"] =
        json!({"org.opencontainers.image.stopSignal": "SIGQUIT", "com.example.unknown": ""});
    add_unknown(&mut bundle.config, "");
    bundle.config["windows"] = json!({"layerFolders": ["x"]});
    bundle.config["solaris"] = json!({"milestone": "x"});
    bundle.config["vm"] = json!({"kernel": {"path": "/x"}});
    bundle.config["zos"] = json!({"namespaces": []});
    bundle.config["freebsd"] = json!({"devices": []});
    assert!(bundle.config.to_string().matches("x-unknown").count() > 20);
    assert_eq!(bundle.run().ok(), "fine\nbox");
}

fn root_path_may_be_absolute(t: &Context) {
    let mut bundle = t.bundle();
    let elsewhere = t.path("elsewhere");
    std::fs::rename(bundle.rootfs(""), &elsewhere).unwrap();
    std::fs::write(elsewhere.join("marker"), "there").unwrap();
    bundle.config["root"]["path"] = json!(elsewhere);
    bundle.args(["cat", "/marker"]);
    assert_eq!(bundle.run().ok(), "there");
}
