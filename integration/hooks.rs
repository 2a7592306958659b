//! All six kinds of hooks: where, when, with what, and what their failure does.

use crate::harness::{Bundle, Context, Need, Test, contains};
use crate::test;
use serde_json::{Value, json};
use std::path::PathBuf;

pub const TESTS: &[Test] = &[
    test!(order_of_all_hooks).needs(&[Need::CortenOnly("1.1 runs poststart too early")]),
    test!(state_on_stdin),
    test!(namespaces_of_the_hooks),
    test!(arguments_and_environment),
    test!(create_hooks_see_the_mounts_before_the_pivot),
    test!(start_container_hook_runs_inside),
    test!(failing_create_hooks_undo_everything),
    test!(failing_start_container_hook),
    test!(failing_poststart_kills).needs(&[Need::CortenOnly("fails `start` only since spec 1.3")]),
    test!(failing_poststop_is_a_warning),
    test!(timeout_ends_a_hook),
    test!(timeout_does_not_wait_for_its_children)
        .needs(&[Need::CortenOnly("Go waits for the children's pipes")]),
    test!(background_child_does_not_hold_us)
        .needs(&[Need::CortenOnly("Go waits for the children's pipes")]),
    test!(missing_hook_program),
    test!(hook_output_is_in_the_error),
    test!(later_hooks_do_not_run_after_a_failure),
    test!(no_descriptors_leak_into_hooks),
    test!(prestart_sets_up_a_network),
    test!(poststop_runs_at_forced_delete),
    test!(pid_and_time_namespace_of_runtime_hooks)
        .needs(&[Need::Kernel("/proc/self/ns/time"), Need::CortenOnly("time came with 1.2")]),
    test!(failing_poststart_ends_a_run).needs(&[Need::CortenOnly("fails only since spec 1.3")]),
    test!(timeout_ends_also_what_the_hook_started),
    test!(pid_in_the_state_of_container_hooks),
    test!(paths_resolve_where_the_spec_says),
    test!(arguments_and_environment_of_every_kind),
    test!(timeout_of_every_kind)
        .needs(&[Need::CortenOnly("it does not name the hook, and its start does not fail")]),
    test!(poststart_comes_after_the_exec)
        .needs(&[Need::CortenOnly("1.1 runs poststart too early")]),
    test!(poststop_comes_after_the_end),
];

/// A hook that runs a script; `$LOG` is a file of the host.
fn hook(script: &str) -> Value {
    json!({"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"]})
}

/// Adds a hook to the list of that kind.
fn add(bundle: &mut Bundle, kind: &str, hook: Value) {
    let list = &mut bundle.config["hooks"][kind];
    match list.as_array_mut() {
        Some(list) => list.push(hook),
        None => *list = json!([hook]),
    }
}

const RUNTIME_HOOKS: [&str; 4] = ["prestart", "createRuntime", "poststart", "poststop"];
const ALL_HOOKS: [&str; 6] =
    ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

/// A directory that hooks can write to from the host and from inside (as /log).
fn log_dir(t: &Context, bundle: &mut Bundle) -> PathBuf {
    let log = t.path("log");
    std::fs::create_dir(&log).unwrap();
    bundle.bind(&log, "/log", &[]);
    log
}

fn order_of_all_hooks(t: &Context) {
    let mut bundle = t.bundle();
    let log = log_dir(t, &mut bundle);
    let host = log.join("order");
    for kind in ALL_HOOKS {
        let file = if kind == "startContainer" { "/log/order".into() } else { host.clone() };
        for number in [1, 2] {
            add(&mut bundle, kind, hook(&format!("echo {kind}{number} >> {}", file.display())));
        }
    }
    bundle.script("echo program >> /log/order; sleep 1000");
    let container = bundle.create();
    let lines = || std::fs::read_to_string(&host).unwrap().replace('\n', " ");
    let created =
        "prestart1 prestart2 createRuntime1 createRuntime2 createContainer1 createContainer2 ";
    assert_eq!(lines(), created);
    container.command("start").exits(0);
    let all = lines();
    // The program and poststart race with each other.
    contains(&all, "startContainer1 startContainer2 ");
    contains(&all.replace("program ", ""), "poststart1 poststart2 ");
    crate::harness::wait_for("the program", 5, || lines().contains("program "));
    container.end();
    assert!(lines().ends_with("poststop1 poststop2 "), "{}", lines());
}

fn state_on_stdin(t: &Context) {
    let mut bundle = t.bundle();
    let log = log_dir(t, &mut bundle);
    for kind in ALL_HOOKS {
        let dir = if kind == "startContainer" { "/log".into() } else { log.clone() };
        add(&mut bundle, kind, hook(&format!("cat > {}/{kind}", dir.display())));
    }
    bundle.config["annotations"] = json!({"key": "a \"b\""});
    bundle.idle();
    let container = bundle.start();
    let (id, pid) = (container.id.clone(), container.pid());
    container.end();
    for kind in ALL_HOOKS {
        let text = std::fs::read_to_string(log.join(kind)).unwrap();
        let state: Value =
            serde_json::from_str(&text).unwrap_or_else(|e| panic!("{kind}: {e}: {text}"));
        assert_eq!(state["id"], json!(id), "{kind}");
        assert_eq!(state["bundle"], json!(bundle.dir), "{kind}");
        assert_eq!(state["annotations"]["key"], "a \"b\"", "{kind}");
        assert!(state["ociVersion"].is_string(), "{kind}");
        match kind {
            "prestart" | "createRuntime" => {
                assert_eq!(state["pid"], json!(pid), "{kind}");
                // runtime-tools' validation wants "created" for prestart; runc says "creating".
                let created = kind == "prestart" && t.runtime.is_corten();
                assert_eq!(state["status"], if created { "created" } else { "creating" });
            }
            "poststart" => {
                assert_eq!(state["pid"], json!(pid), "{kind}");
                // runc 1.1 runs it before the program and says so.
                let expected = if t.runtime.is_corten() { "running" } else { "created" };
                assert_eq!(state["status"], expected, "{kind}");
            }
            "poststop" => assert_eq!(state["status"], "stopped", "{kind}"),
            // Inside the pid namespace runc and crun differ about the number.
            _ => assert!(["creating", "created"].contains(&state["status"].as_str().unwrap())),
        }
    }
}

fn namespaces_of_the_hooks(t: &Context) {
    let mut bundle = t.bundle();
    let log = log_dir(t, &mut bundle);
    for kind in ALL_HOOKS {
        let dir = if kind == "startContainer" { "/log".into() } else { log.clone() };
        let script = format!(
            "cd {}; for n in mnt net uts; do readlink /proc/self/ns/$n; done > {kind}",
            dir.display()
        );
        add(&mut bundle, kind, hook(&script));
    }
    bundle.idle();
    let container = bundle.start();
    let links = |pid: &str| {
        let link = |n: &&str| std::fs::read_link(format!("/proc/{pid}/ns/{n}")).unwrap();
        ["mnt", "net", "uts"].iter().map(link).map(|l| l.display().to_string()).collect::<Vec<_>>()
    };
    let inside = links(&container.pid().to_string());
    container.end();
    for kind in ALL_HOOKS {
        let text = std::fs::read_to_string(log.join(kind)).unwrap();
        let found: Vec<&str> = text.lines().collect();
        let expected = if RUNTIME_HOOKS.contains(&kind) { links("self") } else { inside.clone() };
        assert_eq!(found, expected, "{kind}");
    }
}

fn arguments_and_environment(t: &Context) {
    let mut bundle = t.bundle();
    let out = t.path("out");
    let script = "cat /proc/$$/cmdline | tr '\\0' '|'; cat /proc/$$/environ | tr '\\0' '|'";
    let mut hook = hook(&format!("({script}) > {}", out.display()));
    hook["args"] = json!(["argv zero", "-c", hook["args"][2], "x y", ""]);
    hook["env"] = json!(["ONLY=this", "PATH=/bin:/usr/bin"]);
    add(&mut bundle, "createRuntime", hook);
    bundle.run().ok();
    let text = std::fs::read_to_string(out).unwrap();
    assert!(text.starts_with("argv zero|-c|"), "{text}");
    contains(&text, "|x y||ONLY=this|PATH=/bin:/usr/bin|");
}

fn create_hooks_see_the_mounts_before_the_pivot(t: &Context) {
    let mut bundle = t.bundle();
    let out = t.path("out");
    // createContainer runs in the container's mount namespace, but with the host's root: it sees
    // the mounts below the root file system's path.
    let rootfs = bundle.rootfs("");
    let script = format!(
        "grep -c '{}' /proc/self/mountinfo > {}",
        rootfs.display().to_string().trim_end_matches('/'),
        out.display()
    );
    add(&mut bundle, "createContainer", hook(&script));
    bundle.run().ok();
    let count: u32 = std::fs::read_to_string(out).unwrap().trim().parse().unwrap();
    assert!(count >= 5, "{count} mounts");
}

fn start_container_hook_runs_inside(t: &Context) {
    let mut bundle = t.bundle();
    let mut inside = hook("hostname > /tmp/hook; cat /marker >> /tmp/hook");
    inside["env"] = json!(["PATH=/bin"]);
    add(&mut bundle, "startContainer", inside);
    std::fs::write(bundle.rootfs("marker"), "inside\n").unwrap();
    bundle.args(["cat", "/tmp/hook"]);
    let container = bundle.create();
    assert!(!bundle.rootfs("tmp/hook").exists(), "ran before start");
    container.command("start").exits(0);
    container.wait_printed("box\ninside");
}

fn failing_create_hooks_undo_everything(t: &Context) {
    for kind in ["prestart", "createRuntime", "createContainer"] {
        let mut bundle = t.bundle();
        let stopped = t.path("stopped");
        add(&mut bundle, kind, hook("exit 5"));
        add(&mut bundle, "poststop", hook(&format!("touch {}", stopped.display())));
        let container = bundle.named("failed");
        let error = container.create(&[]).fails();
        if t.runtime.is_corten() {
            contains(&error, &format!("{kind}[0]"));
            assert!(stopped.exists(), "poststop runs also when {kind} fails");
        }
        contains(&container.command("state").fails(), "does not exist");
    }
}

/// The spec has it stopped, destroyed, and its poststop hooks run (runtime.md "Lifecycle").
fn is_destroyed(
    container: &crate::harness::Container,
    cgroup: &std::path::Path,
    stopped: &std::path::Path,
) {
    contains(&container.command("state").fails(), "does not exist");
    assert!(!cgroup.exists() && stopped.exists());
    // As engines do it all the same.
    contains(&container.command("delete").fails(), "does not exist");
}

fn failing_start_container_hook(t: &Context) {
    let mut bundle = t.bundle();
    let stopped = t.path("stopped");
    add(&mut bundle, "startContainer", hook("exit 6"));
    add(&mut bundle, "poststop", hook(&format!("touch {}", stopped.display())));
    bundle.script("echo ran");
    let container = bundle.create();
    let cgroup = container.cgroup("pids");
    let start = container.command("start");
    if t.runtime.is_corten() {
        contains(&start.fails(), "startContainer[0]");
        is_destroyed(&container, &cgroup, &stopped);
    } else {
        container.wait_status("stopped");
        container.command("delete").exits(0);
    }
    assert!(!container.printed().contains("ran"));
}

fn failing_poststart_kills(t: &Context) {
    let mut bundle = t.bundle();
    let stopped = t.path("stopped");
    add(&mut bundle, "poststart", hook("exit 7"));
    add(&mut bundle, "poststop", hook(&format!("touch {}", stopped.display())));
    bundle.idle();
    let container = bundle.create();
    let (pid, cgroup) = (container.pid(), container.cgroup("pids"));
    contains(&container.command("start").fails(), "poststart[0]");
    is_destroyed(&container, &cgroup, &stopped);
    assert!(crate::harness::proc_status(pid, "State").is_none_or(|state| state.starts_with('Z')));
}

fn failing_poststop_is_a_warning(t: &Context) {
    let mut bundle = t.bundle();
    let ran = t.path("ran");
    add(&mut bundle, "poststop", hook("exit 8"));
    add(&mut bundle, "poststop", hook(&format!("touch {}", ran.display())));
    bundle.idle();
    let container = bundle.start();
    container.kill("KILL");
    container.wait_status("stopped");
    container.command("delete").exits(0);
    if t.runtime.is_corten() {
        assert!(ran.exists(), "the others run all the same");
    }
    container.command("state").fails();
}

fn timeout_ends_a_hook(t: &Context) {
    let mut bundle = t.bundle();
    let mut slow = hook("exec sleep 1000");
    slow["timeout"] = json!(1);
    add(&mut bundle, "createRuntime", slow);
    let started = std::time::Instant::now();
    bundle.create_fails();
    let seconds = started.elapsed().as_secs_f64();
    assert!((1.0..6.0).contains(&seconds), "{seconds} s");
}

fn timeout_does_not_wait_for_its_children(t: &Context) {
    let mut bundle = t.bundle();
    let mut slow = hook("sleep 8 & sleep 8; wait");
    slow["timeout"] = json!(1);
    add(&mut bundle, "createRuntime", slow);
    let started = std::time::Instant::now();
    bundle.create_fails();
    assert!(started.elapsed().as_secs_f64() < 5.0);
    t.sh("sleep 8");
}

fn background_child_does_not_hold_us(t: &Context) {
    let mut bundle = t.bundle();
    add(&mut bundle, "createRuntime", hook("sleep 4 & exit 0"));
    let started = std::time::Instant::now();
    bundle.create();
    assert!(started.elapsed().as_secs_f64() < 3.0);
    t.sh("sleep 5");
}

fn missing_hook_program(t: &Context) {
    for kind in ["createRuntime", "createContainer"] {
        let mut bundle = t.bundle();
        add(&mut bundle, kind, json!({"path": "/no/such/hook"}));
        contains(&bundle.create_fails(), "/no/such/hook");
    }
}

fn hook_output_is_in_the_error(t: &Context) {
    let mut bundle = t.bundle();
    add(&mut bundle, "createRuntime", hook("echo the reason >&2; exit 9"));
    let error = bundle.create_fails();
    contains(&error, "the reason");
    contains(&error, "9");
}

fn later_hooks_do_not_run_after_a_failure(t: &Context) {
    let mut bundle = t.bundle();
    let ran = t.path("ran");
    add(&mut bundle, "createRuntime", hook("exit 1"));
    add(&mut bundle, "createRuntime", hook(&format!("touch {}", ran.display())));
    add(&mut bundle, "createContainer", hook(&format!("touch {}", ran.display())));
    bundle.create_fails();
    assert!(!ran.exists());
}

fn no_descriptors_leak_into_hooks(t: &Context) {
    let mut bundle = t.bundle();
    let log = log_dir(t, &mut bundle);
    for kind in ALL_HOOKS {
        let dir = if kind == "startContainer" { "/log".into() } else { log.clone() };
        // The shell keeps 10 and up for itself while it redirects.
        let script = format!(
            "cd {}; : > {kind}; for n in 3 4 5 6 7 8 9; do [ ! -e /proc/$$/fd/$n ] || \
             echo $n $(readlink /proc/$$/fd/$n) >> {kind}; done",
            dir.display()
        );
        add(&mut bundle, kind, hook(&script));
    }
    bundle.run().ok();
    for kind in ALL_HOOKS {
        assert_eq!(std::fs::read_to_string(log.join(kind)).unwrap(), "", "{kind}");
    }
}

/// What a container network does: find the namespace by the pid on stdin, put a device into it.
fn prestart_sets_up_a_network(t: &Context) {
    let mut bundle = t.bundle();
    let name = format!("ct{}", std::process::id());
    let script = format!(
        "pid=$(sed 's/.*\"pid\": *\\([0-9]*\\).*/\\1/'); ip link add {name} type veth peer name eth0 netns $pid; \
         ip link set {name} up"
    );
    add(&mut bundle, "prestart", hook(&script));
    add(&mut bundle, "poststop", hook(&format!("ip link del {name} 2>/dev/null; true")));
    bundle.script("ls /sys/class/net");
    contains(&bundle.run().ok(), "eth0");
}

fn poststop_runs_at_forced_delete(t: &Context) {
    let mut bundle = t.bundle();
    let ran = t.path("ran");
    add(&mut bundle, "poststop", hook(&format!("touch {}", ran.display())));
    bundle.idle();
    let container = bundle.start();
    t.runtime().args(["delete", "--force", &container.id]).output().exits(0);
    assert!(ran.exists());
}

/// The runtime steps into these two for the clone, and back before it runs hooks.
fn pid_and_time_namespace_of_runtime_hooks(t: &Context) {
    let mut first = t.bundle();
    first.idle();
    let first = first.start();
    let mut bundle = t.bundle();
    bundle.namespace("pid", Some(format!("/proc/{}/ns/pid", first.pid())));
    bundle.namespace("time", None);
    let out = t.path("out");
    let script = format!("readlink /proc/$$/ns/pid /proc/$$/ns/time > {}", out.display());
    add(&mut bundle, "createRuntime", hook(&script.replace("$$", "self")));
    let container = bundle.create();
    let links = |pid: &str| {
        let link = |n: &str| std::fs::read_link(format!("/proc/{pid}/ns/{n}")).unwrap();
        format!("{}\n{}\n", link("pid").display(), link("time").display())
    };
    assert_eq!(std::fs::read_to_string(out).unwrap(), links("self"));
    assert_ne!(links(&container.pid().to_string()), links("self"));
}

fn failing_poststart_ends_a_run(t: &Context) {
    let mut bundle = t.bundle();
    add(&mut bundle, "poststart", hook("exit 7"));
    bundle.idle();
    for flags in [&[][..], &["--detach"]] {
        let container = bundle.named("doomed");
        contains(&container.run(flags).exits(1).stderr, "poststart[0]");
        contains(&container.command("state").fails(), "does not exist");
    }
}

fn timeout_ends_also_what_the_hook_started(t: &Context) {
    let mut bundle = t.bundle();
    let file = t.path("pid");
    let mut slow = hook(&format!("sleep 1000 & echo $! > {}; wait", file.display()));
    slow["timeout"] = json!(1);
    add(&mut bundle, "createRuntime", slow);
    bundle.create_fails();
    let child = std::fs::read_to_string(file).unwrap();
    let state = crate::harness::proc_status(child.trim(), "State");
    if t.runtime.is_corten() {
        assert!(state.is_none_or(|state| state.starts_with('Z')), "still there");
    }
}

/// The pid as seen by the container: its own number of init.
fn pid_in_the_state_of_container_hooks(t: &Context) {
    for own in [true, false] {
        let mut bundle = t.bundle();
        if !own {
            bundle.without_namespace("pid");
        }
        let log = log_dir(t, &mut bundle);
        add(&mut bundle, "createContainer", hook(&format!("cat > {}/create", log.display())));
        add(&mut bundle, "startContainer", hook("cat > /log/start"));
        bundle.idle();
        let container = bundle.start();
        let expected = if own { 1 } else { container.pid() };
        for (file, status) in [("create", "creating"), ("start", "created")] {
            let text = std::fs::read_to_string(log.join(file)).unwrap();
            let state: Value = serde_json::from_str(&text).unwrap();
            assert_eq!(state["pid"], json!(expected), "{file}, own namespace: {own}");
            if t.runtime.is_corten() {
                assert_eq!(state["status"], status);
            }
        }
        container.end();
        let _ = std::fs::remove_dir_all(&bundle.dir);
    }
}

/// A program that is only on the host, and one that is only in the container.
fn paths_resolve_where_the_spec_says(t: &Context) {
    let mut bundle = t.bundle();
    let log = log_dir(t, &mut bundle);
    let script = |path: PathBuf, log: &str| {
        std::fs::write(&path, format!("#!/bin/sh\necho $1 >> {log}/ran\n")).unwrap();
        t.sh(&format!("chmod 755 {}", path.display()));
    };
    let outside = t.path("outside");
    script(outside.clone(), log.to_str().unwrap());
    script(bundle.rootfs("inside"), "/log");
    for kind in ALL_HOOKS {
        let path = if kind == "startContainer" { "/inside" } else { outside.to_str().unwrap() };
        add(&mut bundle, kind, json!({"path": path, "args": ["hook", kind]}));
    }
    bundle.idle();
    bundle.start().end();
    let ran = std::fs::read_to_string(log.join("ran")).unwrap();
    let mut kinds: Vec<&str> = ran.lines().collect();
    kinds.sort_unstable();
    let mut all = ALL_HOOKS;
    all.sort_unstable();
    assert_eq!(kinds, all);
}

fn arguments_and_environment_of_every_kind(t: &Context) {
    let mut bundle = t.bundle();
    let log = log_dir(t, &mut bundle);
    // For `$$` to be a name in the /proc that is there.
    bundle.without_namespace("pid");
    for kind in ALL_HOOKS {
        let dir = if kind == "startContainer" { "/log".into() } else { log.clone() };
        // Not the last command, which the shell would become.
        let show = |file: &str| format!("/usr/bin/tr '\\0' '|' < /proc/$$/{file}");
        let script =
            format!("cd {}; ({}; {}) > {kind}; :", dir.display(), show("cmdline"), show("environ"));
        let env = ["A=b=c", "EMPTY=", "PATH=/bin:/usr/bin"];
        let args = ["sh", "-c", &script, "x y", ""];
        add(&mut bundle, kind, json!({"path": "/bin/sh", "args": args, "env": env}));
        // Without its own, as runc has it: the runtime's, and inside the container's.
        let script = format!("{} > {}/{kind}0; :", show("environ"), dir.display());
        add(&mut bundle, kind, json!({"path": "/bin/sh", "args": ["sh", "-c", script]}));
    }
    t.sh(&format!("ln -s /bin/tr {}", bundle.rootfs("usr/bin/tr").display()));
    bundle.config["process"]["env"] = json!(["PATH=/bin", "OF=container"]);
    bundle.idle();
    bundle.start().end();
    for kind in ALL_HOOKS {
        let text = std::fs::read_to_string(log.join(kind)).unwrap();
        assert!(text.starts_with("sh|-c|cd "), "{kind}: {text}");
        assert!(text.ends_with("|x y||A=b=c|EMPTY=|PATH=/bin:/usr/bin|"), "{kind}: {text}");
        let bare = std::fs::read_to_string(log.join(format!("{kind}0"))).unwrap();
        match kind {
            "createContainer" | "startContainer" => {
                // runc adds HOME.
                let own = |entry: &&str| !entry.starts_with("HOME=");
                let mut entries: Vec<&str> = bare.split_terminator('|').filter(own).collect();
                entries.sort_unstable();
                assert_eq!(entries, ["OF=container", "PATH=/bin"], "{kind}");
            }
            _ => {
                contains(&format!("|{bare}"), &format!("|PATH={}|", std::env::var("PATH").unwrap()))
            }
        }
    }
}

/// Each kind has its limit, and passing it is a failure of that kind.
fn timeout_of_every_kind(t: &Context) {
    for kind in ALL_HOOKS {
        let mut bundle = t.bundle();
        let mut slow = hook("exec sleep 1000");
        slow["timeout"] = json!(1);
        add(&mut bundle, kind, slow);
        bundle.idle();
        let container = bundle.named(&format!("slow-{kind}"));
        let started = std::time::Instant::now();
        let create = container.create(&[]);
        let stderr = match kind {
            "prestart" | "createRuntime" | "createContainer" => create.fails(),
            "startContainer" | "poststart" => container.command("start").fails(),
            _ => {
                container.kill("KILL");
                container.wait_status("stopped");
                container.command("delete").exits(0).stderr
            }
        };
        let seconds = started.elapsed().as_secs_f64();
        assert!((1.0..6.0).contains(&seconds), "{kind}: {seconds} s");
        contains(&stderr, &format!("{kind}[0]"));
        contains(&stderr, "timed out after 1 s");
    }
}

/// The program is what the process executes by then, and `start` has not returned.
fn poststart_comes_after_the_exec(t: &Context) {
    let mut bundle = t.bundle();
    let out = t.path("out");
    let script = format!(
        "pid=$(sed 's/.*\"pid\": *\\([0-9]*\\).*/\\1/'); tr '\\0' ' ' < /proc/$pid/cmdline > {0}; \
         sleep 0.3; echo done >> {0}",
        out.display()
    );
    add(&mut bundle, "poststart", hook(&script));
    bundle.args(["sleep", "1234"]);
    let container = bundle.start();
    assert_eq!(std::fs::read_to_string(out).unwrap(), "sleep 1234 done\n");
    container.end();
}

/// By then the container is destroyed; and `delete` has not returned.
fn poststop_comes_after_the_end(t: &Context) {
    let mut bundle = t.bundle();
    let out = t.path("out");
    bundle.script("echo ready; sleep 1000");
    let container = bundle.create();
    let (pid, group) = (container.pid(), container.cgroup("pids"));
    container.end();
    let script = |pid: i32| {
        format!(
            "[ -d /proc/{pid}/ns ] && echo process; [ -d {} ] && echo cgroup; sleep 0.3; echo done",
            group.display()
        )
    };
    // The same group again, so that the hook can be told of it.
    add(&mut bundle, "poststop", hook(&format!("({}) > {}", script(pid), out.display())));
    let container = bundle.start();
    assert_eq!(container.cgroup("pids"), group);
    container.end();
    assert_eq!(std::fs::read_to_string(out).unwrap(), "done\n");
}
