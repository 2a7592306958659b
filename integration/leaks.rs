//! Many containers leave the process table, the mounts, the cgroups and the state as before.

use crate::harness::{Context, Need, Test, cgroup, leftovers, wait_for};
use crate::test;

pub const TESTS: &[Test] = &[
    test!(two_hundred_one_after_another).timeout(240),
    test!(fifty_at_once).timeout(180),
    test!(fifty_failures),
    test!(delete_races_with_the_end_of_the_program)
        .needs(&[Need::CortenOnly("1.1 gives up on cgroups that are busy for a moment")]),
];

/// What must be the same before and after.
fn machine(t: &Context) -> (usize, usize, usize, usize) {
    let entries = |dir: &std::path::Path| std::fs::read_dir(dir).map_or(0, |dir| dir.count());
    (
        leftovers::children().len(),
        leftovers::mounts().len(),
        cgroup::below(&t.cgroup).len(),
        entries(&t.state_root()),
    )
}

fn two_hundred_one_after_another(t: &Context) {
    let mut bundle = t.bundle();
    bundle.idle();
    let before = machine(t);
    let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let open = descriptors();
    for _ in 0..200 {
        let container = bundle.create();
        container.command("start").exits(0);
        container.end();
    }
    wait_for("processes to end", 5, || machine(t) == before);
    assert_eq!(descriptors(), open);
}

fn fifty_at_once(t: &Context) {
    let before = machine(t);
    let bundles: Vec<_> = (0..50)
        .map(|n| {
            let mut bundle = t.bundle();
            bundle.idle();
            bundle.named(&format!("many{n}"))
        })
        .collect();
    let all = |command: &str| {
        let running: Vec<_> = bundles
            .iter()
            .map(|container| match command {
                "create" => container
                    .new_command("create", &[])
                    .out(container.out.clone())
                    .seconds(60)
                    .spawn(),
                "kill" => t.runtime().args(["kill", &container.id, "KILL"]).seconds(60).spawn(),
                _ => t.runtime().args([command, &container.id]).seconds(60).spawn(),
            })
            .collect();
        running.into_iter().for_each(|running| drop(running.wait().exits(0)));
    };
    all("create");
    all("start");
    let list = t.runtime().args(["list", "-q"]).output().ok();
    assert_eq!(list.lines().count(), 50);
    all("kill");
    for container in &bundles {
        container.wait_status("stopped");
    }
    all("delete");
    drop(bundles);
    wait_for("processes to end", 5, || machine(t) == before || machine(t).3 <= before.3 + 1);
}

fn fifty_failures(t: &Context) {
    let mut bundle = t.bundle();
    bundle.args(["/no/such/program"]);
    let before = machine(t);
    for _ in 0..50 {
        bundle.run().exits(1);
    }
    wait_for("processes to end", 5, || {
        let after = machine(t);
        (after.0, after.1, after.2) == (before.0, before.1, before.2)
    });
}

fn delete_races_with_the_end_of_the_program(t: &Context) {
    let mut bundle = t.bundle();
    bundle.script("sleep 0.01");
    for _ in 0..40 {
        let container = bundle.start();
        t.runtime().args(["delete", "--force", &container.id]).output().exits(0);
        assert_eq!(cgroup::below(&t.cgroup).len(), 0);
    }
}
