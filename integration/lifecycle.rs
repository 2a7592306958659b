//! create, start, state, kill, delete, list, ps, pause, resume, run, spec, features.

use crate::harness::{Context, Need, Test, cgroup, contains, proc_status, wait_for};
use crate::test;
use serde_json::{Value, json};

pub const TESTS: &[Test] = &[
    test!(create_start_kill_delete),
    test!(state_has_the_fields_of_the_spec),
    test!(created_container_does_not_run_the_program),
    test!(config_is_frozen_at_create),
    test!(program_that_ends_is_stopped),
    test!(run_passes_on_output_and_exit_code),
    test!(run_passes_on_a_signal_death),
    test!(run_deletes_and_keep_keeps),
    test!(run_detach_leaves_the_container),
    test!(no_subreaper_changes_nothing_else),
    test!(pid_file_holds_the_pid),
    test!(kill_takes_names_and_numbers),
    test!(kill_all_reaches_every_process),
    test!(killed_init_takes_the_others_along),
    test!(delete_refuses_running_and_force_does_not),
    test!(delete_force_of_nothing_succeeds),
    test!(delete_created_container),
    test!(list_shows_table_json_and_ids),
    test!(ps_shows_table_and_json),
    test!(pause_freezes_and_resume_thaws),
    test!(bundle_defaults_to_the_working_directory),
    test!(relative_rootfs_and_bundle),
    test!(log_file_in_json_and_text),
    test!(spec_writes_a_config_that_runs),
    test!(features_is_complete),
    test!(stdin_reaches_the_program),
    test!(run_forwards_signals),
    test!(start_twice_and_other_wrong_states),
    test!(process_may_be_absent)
        .needs(&[Need::CortenOnly("config without process panics or fails")]),
    test!(annotations_come_back_in_state),
    test!(ids_of_every_allowed_sign),
    test!(state_does_not_reexec).needs(&[Need::Program("strace")]),
    test!(preserved_descriptors_only),
    test!(orphans_come_to_run),
    test!(kill_ends_a_paused_container),
    test!(kill_all_sends_any_signal),
    test!(delete_ends_what_a_dead_init_left),
    test!(ps_takes_options),
];

fn create_start_kill_delete(t: &Context) {
    let mut bundle = t.bundle();
    bundle.idle();
    let container = bundle.create();
    assert_eq!(container.status(), "created");
    container.command("start").exits(0);
    assert_eq!(container.status(), "running");
    let pid = container.pid();
    container.kill("TERM");
    container.wait_status("stopped");
    container.command("delete").exits(0);
    contains(&container.command("state").fails(), "does not exist");
    assert!(proc_status(pid, "State").is_none_or(|s| s.starts_with('Z')), "still there");
}

fn state_has_the_fields_of_the_spec(t: &Context) {
    let mut bundle = t.bundle();
    bundle.idle();
    let container = bundle.create();
    let state = container.state();
    assert_eq!(state["id"], json!(container.id));
    assert_eq!(state["bundle"], json!(bundle.dir));
    assert!(state["ociVersion"].as_str().is_some_and(|v| v.starts_with("1.")), "{state}");
    let pid = container.pid();
    let name = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    contains(&name, &bundle.cgroups_path());
    container.end();
}

fn created_container_does_not_run_the_program(t: &Context) {
    let mut bundle = t.bundle();
    bundle.script("echo ran > /tmp/ran; echo said");
    let container = bundle.create();
    std::thread::sleep(std::time::Duration::from_millis(200));
    assert!(!bundle.rootfs("tmp/ran").exists(), "ran before start");
    container.command("start").exits(0);
    container.wait_printed("said");
    assert!(bundle.rootfs("tmp/ran").exists());
}

fn config_is_frozen_at_create(t: &Context) {
    let mut bundle = t.bundle();
    bundle.script("echo first");
    let container = bundle.create();
    bundle.script("echo second");
    bundle.write();
    container.command("start").exits(0);
    container.wait_printed("first");
}

fn program_that_ends_is_stopped(t: &Context) {
    let mut bundle = t.bundle();
    bundle.script("exit 3");
    let container = bundle.start();
    container.wait_status("stopped");
    container.command("delete").exits(0);
}

fn run_passes_on_output_and_exit_code(t: &Context) {
    let mut bundle = t.bundle();
    bundle.script("echo out; echo err >&2; exit 42");
    let output = bundle.run().exits(42);
    assert_eq!(output.stdout, "out\n");
    assert_eq!(output.stderr, "err\n");
}

fn run_passes_on_a_signal_death(t: &Context) {
    // The init of a pid namespace ignores its own signals, so without one.
    let mut bundle = t.bundle();
    bundle.without_namespace("pid");
    bundle.script("kill -9 $$");
    bundle.run().exits(128 + 9);
}

fn run_deletes_and_keep_keeps(t: &Context) {
    let container = t.bundle().named("kept");
    container.run(&[]).exits(0);
    container.command("state").fails();
    if t.runtime.is_corten() {
        container.run(&["--keep"]).exits(0);
        assert_eq!(container.status(), "stopped");
        container.command("delete").exits(0);
    }
}

fn run_detach_leaves_the_container(t: &Context) {
    let mut bundle = t.bundle();
    bundle.idle();
    let container = bundle.named("back");
    container.run(&["--detach"]).exits(0);
    assert_eq!(container.status(), "running");
    container.end();
}

fn no_subreaper_changes_nothing_else(t: &Context) {
    let mut bundle = t.bundle();
    bundle.script("sleep 0.1 & exit 6");
    bundle.run_with(&["--no-subreaper"]).exits(6);
}

fn pid_file_holds_the_pid(t: &Context) {
    let mut bundle = t.bundle();
    bundle.idle();
    let file = t.path("pid");
    let container = bundle.create_with(&["--pid-file", file.to_str().unwrap()]);
    let pid = std::fs::read_to_string(file).unwrap();
    assert_eq!(pid, container.pid().to_string(), "the number alone, no newline");
}

fn kill_takes_names_and_numbers(t: &Context) {
    for signal in ["USR1", "SIGUSR1", "10", "usr1"] {
        let mut bundle = t.bundle();
        bundle.script("trap 'echo got; exit 0' USR1; echo ready; while :; do sleep 0.02; done");
        let container = bundle.start();
        container.wait_printed("ready");
        container.kill(signal);
        container.wait_printed("got");
        container.wait_status("stopped");
        t.runtime().args(["kill", &container.id, "TERM"]).output().fails();
    }
    let container = t.bundle().create();
    t.runtime().args(["kill", &container.id, "NOSUCH"]).output().fails();
    t.runtime().args(["kill", &container.id]).output().exits(0);
}

fn kill_all_reaches_every_process(t: &Context) {
    let mut bundle = t.bundle();
    bundle.without_namespace("pid");
    bundle.script("sleep 1000 & sleep 1000 & echo ready; wait");
    let container = bundle.start();
    container.wait_printed("ready");
    let group = container.cgroup("pids");
    assert!(cgroup::procs(&group).len() >= 3);
    t.runtime().args(["kill", "--all", &container.id, "KILL"]).output().exits(0);
    wait_for("an empty cgroup", 10, || {
        crate::harness::leftovers::reap();
        cgroup::procs(&group).is_empty()
    });
    container.wait_status("stopped");
}

fn killed_init_takes_the_others_along(t: &Context) {
    let mut bundle = t.bundle();
    bundle.script("sleep 1000 & echo ready; wait");
    let container = bundle.start();
    container.wait_printed("ready");
    container.end();
}

fn delete_refuses_running_and_force_does_not(t: &Context) {
    let mut bundle = t.bundle();
    bundle.idle();
    let container = bundle.start();
    contains(&container.command("delete").fails(), "not stopped");
    assert_eq!(container.status(), "running");
    t.runtime().args(["delete", "--force", &container.id]).output().exits(0);
    container.command("state").fails();
}

fn delete_force_of_nothing_succeeds(t: &Context) {
    t.runtime().args(["delete", "--force", "never-was"]).output().exits(0);
    contains(&t.runtime().args(["delete", "never-was"]).output().fails(), "does not exist");
}

fn delete_created_container(t: &Context) {
    // The spec allows `delete` when stopped only; runc also takes a created one with --force.
    let container = t.bundle().create();
    t.runtime().args(["delete", "--force", &container.id]).output().exits(0);
    container.command("state").fails();
}

fn list_shows_table_json_and_ids(t: &Context) {
    let mut bundle = t.bundle();
    bundle.idle();
    let (one, two) = (bundle.start(), t.bundle().create());
    let table = t.runtime().arg("list").output().ok();
    let columns: Vec<&str> = table.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(columns, ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]);
    let line = table.lines().find(|line| line.starts_with(&one.id)).unwrap();
    contains(line, "running");
    contains(line, bundle.dir.to_str().unwrap());
    let json = t.runtime().args(["list", "--format", "json"]).output().ok();
    let json: Value = serde_json::from_str(&json).unwrap();
    let entry = json.as_array().unwrap().iter().find(|c| c["id"] == json!(two.id)).unwrap();
    assert_eq!(entry["status"], "created");
    assert_eq!(entry["pid"], json!(two.pid()));
    for field in ["ociVersion", "bundle", "rootfs", "created", "owner"] {
        assert!(entry[field].is_string(), "{field} in {entry}");
    }
    let quiet = t.runtime().args(["list", "-q"]).output().ok();
    let mut ids: Vec<&str> = quiet.lines().collect();
    ids.sort_unstable();
    let mut expected = [one.id.as_str(), two.id.as_str()];
    expected.sort_unstable();
    assert_eq!(ids, expected);
}

fn ps_shows_table_and_json(t: &Context) {
    let mut bundle = t.bundle();
    bundle.script("sleep 1000 & echo ready; wait");
    let container = bundle.start();
    container.wait_printed("ready");
    let table = t.runtime().args(["ps", &container.id]).output().ok();
    contains(table.lines().next().unwrap(), "PID");
    contains(&table, "sleep 1000");
    let json = t.runtime().args(["ps", "--format", "json", &container.id]).output().ok();
    let pids: Vec<i32> = serde_json::from_str(&json).unwrap();
    assert!(pids.contains(&container.pid()) && pids.len() == 2, "{pids:?}");
}

fn pause_freezes_and_resume_thaws(t: &Context) {
    let mut bundle = t.bundle();
    bundle.script("while :; do echo x; sleep 0.02; done");
    let container = bundle.start();
    container.wait_printed("x");
    container.command("pause").exits(0);
    assert_eq!(container.status(), "paused");
    assert!(cgroup::is_frozen(&container.cgroup("freezer")));
    let length = container.printed().len();
    std::thread::sleep(std::time::Duration::from_millis(200));
    assert_eq!(container.printed().len(), length, "still printing");
    contains(&container.exec(&["true"]).fails(), "paused");
    container.command("resume").exits(0);
    assert_eq!(container.status(), "running");
    wait_for("more output", 5, || container.printed().len() > length);
    container.command("resume").fails();
    container.command("pause").exits(0);
    // A frozen process takes its SIGKILL when it thaws: delete --force has to see to that.
    t.runtime().args(["delete", "--force", &container.id]).output().exits(0);
}

fn bundle_defaults_to_the_working_directory(t: &Context) {
    let mut bundle = t.bundle();
    bundle.script("echo here");
    bundle.write();
    let output = t.runtime().args(["run", "cwd"]).dir(&bundle.dir).output();
    assert_eq!(output.ok(), "here");
}

fn relative_rootfs_and_bundle(t: &Context) {
    let mut bundle = t.bundle();
    bundle.script("echo here");
    std::fs::rename(bundle.rootfs(""), bundle.dir.join("other")).unwrap();
    bundle.config["root"]["path"] = json!("./other");
    bundle.write();
    let name = bundle.dir.file_name().unwrap().to_str().unwrap();
    let output = t.runtime().args(["run", "--bundle", name, "relative"]).dir(&t.dir).output();
    assert_eq!(output.ok(), "here");
}

fn log_file_in_json_and_text(t: &Context) {
    let mut bundle = t.bundle();
    bundle.args(["/no/such/program"]);
    bundle.write();
    let (json, text) = (t.path("log.json"), t.path("log.txt"));
    for (file, format) in [(&json, "json"), (&text, "text")] {
        let output = t
            .host(&t.runtime.path)
            .arg("--root")
            .arg(t.state_root())
            .arg("--log")
            .arg(file)
            .arg(format!("--log-format={format}"))
            .args(["run", "--bundle"])
            .arg(&bundle.dir)
            .arg("logged")
            .output();
        contains(&output.fails(), "no such file or directory");
    }
    let json = std::fs::read_to_string(json).unwrap();
    let entries: Vec<Value> = json.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let error = entries.iter().find(|e| e["level"] == "error").expect("an error record");
    contains(error["msg"].as_str().unwrap(), "no such file or directory");
    assert!(error["time"].is_string());
    contains(&std::fs::read_to_string(text).unwrap(), "no such file or directory");
}

fn spec_writes_a_config_that_runs(t: &Context) {
    let bundle = t.bundle();
    t.runtime().arg("spec").dir(&bundle.dir).output().exits(0);
    let path = bundle.dir.join("config.json");
    let mut config: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    assert_eq!(config["process"]["args"], json!(["sh"]));
    t.runtime().arg("spec").dir(&bundle.dir).output().fails();
    config["process"]["terminal"] = json!(false);
    config["process"]["args"] = json!(["hostname"]);
    config["linux"]["cgroupsPath"] = json!(bundle.cgroups_path());
    std::fs::write(&path, config.to_string()).unwrap();
    let output = t.runtime().args(["run", "spec"]).dir(&bundle.dir).output();
    assert_eq!(output.ok(), config["hostname"].as_str().unwrap());
    t.runtime().args(["spec", "--bundle"]).arg(t.path("none")).output().fails();
}

fn features_is_complete(t: &Context) {
    let text = t.runtime().arg("features").output().ok();
    let features: Value = serde_json::from_str(&text).unwrap();
    let has = |list: &Value, name: &str| {
        assert!(list.as_array().unwrap().iter().any(|v| v == name), "{name} in {list}");
    };
    for hook in
        ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"]
    {
        has(&features["hooks"], hook);
    }
    for option in ["bind", "rbind", "ro", "nosuid", "rslave", "noexec"] {
        has(&features["mountOptions"], option);
    }
    let linux = &features["linux"];
    for kind in ["cgroup", "ipc", "mount", "network", "pid", "user", "uts"] {
        has(&linux["namespaces"], kind);
    }
    has(&linux["capabilities"], "CAP_SYS_ADMIN");
    assert_eq!(linux["cgroup"]["v1"], true);
    assert_eq!(linux["seccomp"]["enabled"], true);
    has(&linux["seccomp"]["actions"], "SCMP_ACT_ERRNO");
    has(&linux["seccomp"]["operators"], "SCMP_CMP_MASKED_EQ");
    if t.runtime.is_corten() {
        has(&linux["namespaces"], "time");
        has(&features["mountOptions"], "rro");
        has(&linux["seccomp"]["archs"], "SCMP_ARCH_X86_64");
        has(&linux["seccomp"]["supportedFlags"], "SECCOMP_FILTER_FLAG_LOG");
        assert!(features["ociVersionMax"].as_str().unwrap().starts_with("1.3"), "{features}");
    }
}

fn stdin_reaches_the_program(t: &Context) {
    let mut bundle = t.bundle();
    bundle.args(["cat"]);
    let container = bundle.named("cat");
    assert_eq!(container.new_command("run", &[]).input("line\n").output().ok(), "line");
}

fn run_forwards_signals(t: &Context) {
    let mut bundle = t.bundle();
    bundle.script(
        "trap 'echo hup' HUP; trap 'exit 7' TERM; echo ready; while :; do sleep 0.02; done",
    );
    // Kept: dropped at once, it would delete the container while it is made.
    let container = bundle.named("fore");
    let running = container.new_command("run", &[]).spawn();
    let out = running.out.clone();
    let printed = || std::fs::read_to_string(&out).unwrap();
    wait_for("ready", 10, || printed().contains("ready"));
    running.signal(nix::sys::signal::Signal::SIGHUP);
    wait_for("hup", 10, || printed().contains("hup"));
    running.signal(nix::sys::signal::Signal::SIGTERM);
    running.wait().exits(7);
}

fn start_twice_and_other_wrong_states(t: &Context) {
    let mut bundle = t.bundle();
    bundle.idle();
    let container = bundle.start();
    container.command("start").fails();
    container.create(&[]).fails();
    assert_eq!(container.status(), "running", "the second create left the first alone");
    container.kill("KILL");
    container.wait_status("stopped");
    contains(&container.exec(&["true"]).fails(), "stopped");
    let kill = t.runtime().args(["kill", &container.id, "TERM"]).output();
    contains(&kill.fails(), "container not running");
    container.command("start").fails();
    container.command("pause").fails();
    container.command("delete").exits(0);
    for command in ["start", "state", "pause", "resume", "delete", "ps"] {
        contains(&container.command(command).exits(1).fails(), "does not exist");
    }
}

fn process_may_be_absent(t: &Context) {
    let mut bundle = t.bundle();
    bundle.config.as_object_mut().unwrap().remove("process");
    let container = bundle.create();
    // It waits where processes of a shared pid namespace may look: nothing of the host's is open.
    for fd in std::fs::read_dir(format!("/proc/{}/fd", container.pid())).unwrap() {
        let target = std::fs::metadata(fd.unwrap().path()).unwrap();
        assert!(!target.is_dir(), "a directory is open");
    }
    let pid = container.pid();
    contains(&container.command("start").fails(), "process: missing, so there is nothing to start");
    // An error leaves all as it was.
    assert_eq!((container.status().as_str(), container.pid()), ("created", pid));
    container.command("delete").exits(0);
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists(), "init is gone");
    let container = bundle.named("run");
    contains(&container.run(&[]).fails(), "process: missing, so there is nothing to start");
    contains(&container.command("state").fails(), "does not exist");
}

fn annotations_come_back_in_state(t: &Context) {
    let mut bundle = t.bundle();
    bundle.config["annotations"] = json!({"org.example.key": "a \"quoted\" value", "empty": ""});
    let annotations = bundle.create().state()["annotations"].clone();
    assert_eq!(annotations["org.example.key"], "a \"quoted\" value");
    assert_eq!(annotations["empty"], "");
}

fn ids_of_every_allowed_sign(t: &Context) {
    let bundle = t.bundle();
    for id in ["a", "A-z_0.9+", "..a"] {
        bundle.named(id).run(&[]).exits(0);
    }
}

fn state_does_not_reexec(t: &Context) {
    let container = t.bundle().create();
    for command in ["state", "list", "kill", "delete"] {
        let trace = t.path("trace");
        let mut run = t.host("/usr/bin/strace").args(["-f", "-e", "trace=execve,execveat", "-o"]);
        run = run.arg(&trace).arg(&t.runtime.path).arg("--root").arg(t.state_root()).arg(command);
        run = match command {
            "list" => run,
            "kill" => run.args([&container.id, "KILL"]),
            _ => run.arg(&container.id),
        };
        run.output().exits(0);
        if command == "kill" {
            container.wait_status("stopped");
        }
        let trace = std::fs::read_to_string(trace).unwrap();
        let count = trace.lines().filter(|line| line.contains("execve")).count();
        assert_eq!(count, 1, "{command} executes once:\n{trace}");
    }
}

fn preserved_descriptors_only(t: &Context) {
    let mut bundle = t.bundle();
    bundle.script("ls -l /proc/self/fd; cat <&3");
    bundle.write();
    std::fs::write(t.dir.join("given"), "given text").unwrap();
    let runtime = t.runtime.path.display();
    let (root, dir) = (t.state_root(), bundle.dir.display());
    let script = format!(
        "exec 3<given 4</etc/passwd 5</etc; \
         exec {runtime} --root {} run --preserve-fds 1 --bundle {dir} fds",
        root.display()
    );
    let output = t.sh(&script);
    contains(&output, "given text");
    assert!(!output.contains("passwd"), "descriptor 4 leaked:\n{output}");
    assert!(!output.contains(" 5 ->"), "descriptor 5 leaked:\n{output}");
}

fn orphans_come_to_run(t: &Context) {
    for (flags, adopted) in [([].as_slice(), true), (&["--no-subreaper"], false)] {
        let mut bundle = t.bundle();
        bundle.without_namespace("pid");
        bundle.script("(sleep 1000 & echo $!); echo ready; sleep 1000");
        let container = bundle.named(&format!("orphan{adopted}"));
        let running = container.new_command("run", flags).spawn();
        let out = running.out.clone();
        let printed = || std::fs::read_to_string(&out).unwrap();
        wait_for("ready", 10, || printed().contains("ready"));
        let orphan = printed().lines().next().unwrap().to_string();
        let parent = proc_status(&orphan, "PPid").unwrap();
        assert_eq!(parent == running.pid().to_string(), adopted, "{flags:?}: {parent}");
        container.kill("KILL");
        running.wait().exits(137);
        let _ = std::fs::remove_dir_all(&bundle.dir);
    }
}

/// cgroup v1 keeps a frozen process from dying until it is thawed.
fn kill_ends_a_paused_container(t: &Context) {
    let mut bundle = t.bundle();
    bundle.idle();
    let container = bundle.start();
    container.command("pause").exits(0);
    container.kill("KILL");
    container.wait_status("stopped");
}

fn kill_all_sends_any_signal(t: &Context) {
    let mut bundle = t.bundle();
    bundle.script("trap '' USR1; sleep 1000 & echo ready; wait; echo alone; exec sleep 1000");
    let container = bundle.start();
    container.wait_printed("ready");
    t.runtime().args(["kill", "--all", &container.id, "TERM"]).output().exits(0);
    container.wait_printed("alone");
}

/// In a shared pid namespace the others live on.
fn delete_ends_what_a_dead_init_left(t: &Context) {
    let mut bundle = t.bundle();
    bundle.without_namespace("pid");
    bundle.script("sleep 1000 & echo $!");
    let container = bundle.start();
    container.wait_status("stopped");
    assert_eq!(container.state()["pid"], 0);
    let orphan = container.printed().trim().to_string();
    assert!(proc_status(&orphan, "State").is_some_and(|state| !state.starts_with('Z')));
    container.command("delete").exits(0);
    assert!(proc_status(&orphan, "State").is_none_or(|state| state.starts_with('Z')));
}

fn ps_takes_options(t: &Context) {
    let container = t.bundle().create();
    let table = t.runtime().args(["ps", &container.id, "-o", "pid,ppid", "-e"]).output().ok();
    let head: Vec<&str> = table.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(head, ["PID", "PPID"]);
    let pid = container.pid().to_string();
    assert_eq!(table.lines().nth(1).unwrap().split_whitespace().next(), Some(pid.as_str()));
}
