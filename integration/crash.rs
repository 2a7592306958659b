//! A runtime that is killed, and commands that meet on one container.

use crate::harness::{Context, Need, Test, wait_for};
use crate::test;
use serde_json::json;

pub const TESTS: &[Test] = &[
    test!(killed_runtime_takes_an_unrecorded_init_along)
        .needs(&[Need::CortenOnly("by its system calls"), Need::Program("strace")]),
    test!(killed_runtime_leaves_something_deletable)
        .needs(&[Need::CortenOnly("runc 1.1 forgets what a killed create made")]),
    test!(commands_on_one_container_queue)
        .needs(&[Need::CortenOnly("runc 1.1 does not lock a container")]),
    test!(killed_runtime_takes_a_half_made_init_along)
        .needs(&[Need::CortenOnly("1.1 leaves it running")]),
];

/// SIGKILL at many instants of `create`: `delete --force` must remove whatever is there.
fn killed_runtime_leaves_something_deletable(t: &Context) {
    let mut bundle = t.bundle();
    bundle.idle();
    for step in 0..25 {
        let container = bundle.named(&format!("crash{step}"));
        let running = container.new_command("create", &[]).spawn();
        std::thread::sleep(std::time::Duration::from_micros(400 * step));
        running.signal(nix::sys::signal::Signal::SIGKILL);
        running.wait();
        t.runtime().args(["delete", "--force", &container.id]).output().exits(0);
        container.command("state").fails();
        assert!(!t.state_root().join(&container.id).exists());
    }
}

/// The same at the worst instant: init is ready before the runtime has written down its pid.
fn killed_runtime_takes_an_unrecorded_init_along(t: &Context) {
    let mut bundle = t.bundle();
    bundle.idle();
    let container = bundle.named("unrecorded");
    let create = t
        .host("/usr/bin/strace")
        // state.json, config.json, and then state.json with the pid.
        .args(["-qq", "-e", "trace=renameat", "-e", "inject=renameat:delay_enter=1500000:when=3"])
        .arg(&t.runtime.path)
        .arg("--root")
        .arg(t.state_root())
        .args(["create", "--bundle"])
        .arg(&container.bundle)
        .arg(&container.id)
        .spawn();
    let child = |pid: i32| -> Option<i32> {
        std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))
            .ok()?
            .trim()
            .parse()
            .ok()
    };
    let pids = || child(create.pid()).and_then(|runtime| Some((runtime, child(runtime)?)));
    wait_for("an init", 5, || pids().is_some());
    let (runtime, init) = pids().unwrap();
    // It waits, in read(2) of its gate or of the channel.
    let waits = || {
        std::fs::read_to_string(format!("/proc/{init}/syscall")).is_ok_and(|s| s.starts_with("0 "))
    };
    wait_for("init to be ready", 5, waits);
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(runtime), nix::sys::signal::Signal::SIGKILL)
        .unwrap();
    create.wait();
    t.runtime().args(["delete", "--force", &container.id]).output().exits(0);
    assert!(!t.state_root().join(&container.id).exists());
}

fn commands_on_one_container_queue(t: &Context) {
    let mut bundle = t.bundle();
    bundle.idle();
    let container = bundle.create();
    let starts: Vec<_> =
        (0..4).map(|_| t.runtime().args(["start", &container.id]).spawn()).collect();
    let codes: Vec<i32> = starts.into_iter().map(|start| start.wait().code()).collect();
    assert_eq!(codes.iter().filter(|code| **code == 0).count(), 1, "one of {codes:?} wins");
    assert_eq!(container.status(), "running");
    let deletes: Vec<_> =
        (0..4).map(|_| t.runtime().args(["delete", "--force", &container.id]).spawn()).collect();
    deletes.into_iter().for_each(|delete| drop(delete.wait().exits(0)));
}

/// While init is busy, no end of file tells it that the runtime is gone.
fn killed_runtime_takes_a_half_made_init_along(t: &Context) {
    for user_namespace in [false, true] {
        let mut bundle = t.bundle();
        if user_namespace {
            bundle.user_namespace();
        }
        let sign = t.path("sign");
        // In a user namespace it may write nowhere but there.
        std::fs::write(&sign, "").unwrap();
        t.sh(&format!("chmod 666 {}", sign.display()));
        let script = format!("echo x > {}; exec sleep 20", sign.display());
        bundle.config["hooks"]["createContainer"] =
            json!([{"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin"]}]);
        let container = bundle.named(&format!("half{user_namespace}"));
        let running = container.new_command("create", &[]).spawn();
        wait_for("the hook", 10, || std::fs::read_to_string(&sign).unwrap() == "x\n");
        running.signal(nix::sys::signal::Signal::SIGKILL);
        running.wait();
        wait_for("the end of init and its hook", 5, || {
            crate::harness::leftovers::reap();
            crate::harness::cgroup::processes(&bundle.cgroups_path()).is_empty()
        });
        t.runtime().args(["delete", "--force", &container.id]).output().exits(0);
        let _ = std::fs::remove_dir_all(&bundle.dir);
    }
}
