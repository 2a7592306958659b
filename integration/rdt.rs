//! `linux.intelRdt` on a tree that looks like resctrl: this machine has none. The runtime finds it
//! in a /proc/self/mountinfo with one line more, which a bind mount puts over its own. What the
//! kernel does with the files of a group that is removed, the tests do.

use crate::harness::{Bundle, Container, Context, Need, Output, Run, Test, contains, wait_for};
use crate::test;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};

const NEED: &[Need] = &[Need::CortenOnly("it wants the magic number of resctrl, and schemata 1.3")];

pub const TESTS: &[Test] = &[
    test!(a_group_by_id_holds_every_process_and_goes).needs(NEED),
    test!(an_existing_class_is_entered_and_stays).needs(NEED),
    test!(a_new_class_by_name_stays).needs(NEED),
    test!(without_intel_rdt_nothing_is_touched).needs(NEED),
    test!(without_resctrl_it_is_refused),
    test!(faults_leave_nothing).needs(NEED),
    test!(a_failed_create_removes_its_group).needs(NEED),
    test!(after_a_sigkill_delete_removes_the_group).needs(NEED),
    test!(update_and_events).needs(NEED),
];

/// A tree with resctrl's names, and a runtime that finds it.
struct Resctrl<'a> {
    t: &'a Context,
    root: PathBuf,
}

impl<'a> Resctrl<'a> {
    fn new(t: &'a Context) -> Self {
        let root = t.path("resctrl");
        for dir in ["info/L3", "mon_groups", "gold/mon_groups"] {
            fs::create_dir_all(root.join(dir)).unwrap();
        }
        let all = "    MB:0=100\n    L3:0=7ff\n";
        for (file, text) in [
            ("schemata", all),
            ("tasks", "1\n"),
            ("gold/schemata", "    MB:0=100\n    L3:0=00f\n"),
            ("gold/tasks", ""),
            ("info/last_cmd_status", "ok\n"),
            ("info/L3/cbm_mask", "7ff\n"),
        ] {
            fs::write(root.join(file), text).unwrap();
        }
        Resctrl { t, root }
    }

    /// A command of the runtime, where resctrl is mounted.
    fn runtime(&self) -> Run<'a> {
        let line = format!("9999 1 0:9999 / {} rw - resctrl resctrl rw", self.root.display());
        let script = format!(
            "{{ cat /proc/self/mountinfo; echo '{line}'; }} > \"$0.$$\"
             mount --bind \"$0.$$\" /proc/$$/mountinfo; exec \"$@\""
        );
        let run = self.t.host("/bin/sh").args(["-euc", &script]).arg(self.t.path("mountinfo"));
        run.arg(&self.t.runtime.path).arg("--root").arg(self.t.state_root())
    }

    #[track_caller]
    fn create(&self, bundle: &Bundle<'_>, id: &str) -> Output {
        let out = self.t.path("out");
        bundle.write();
        let run = self.runtime().args(["create", "--bundle"]).arg(&bundle.dir).arg(id);
        run.out(out).output()
    }

    fn text(&self, path: impl AsRef<Path>) -> String {
        fs::read_to_string(self.root.join(path)).unwrap_or_else(|e| e.to_string())
    }

    fn has(&self, path: impl AsRef<Path>) -> bool {
        self.root.join(path).exists()
    }

    /// The files of a group go with it.
    fn forget_files(&self, group: &str) {
        for file in ["tasks", "schemata"] {
            let _ = fs::remove_file(self.root.join(group).join(file));
        }
    }

    /// Every path with its content.
    fn whole(&self) -> String {
        let root = self.root.display();
        self.t.sh(&format!("cd {root}; find . | sort; find . -type f | sort | xargs cat"))
    }
}

fn bundle<'a>(t: &'a Context, rdt: Value) -> Bundle<'a> {
    let mut bundle = t.bundle();
    bundle.config["linux"]["intelRdt"] = rdt;
    bundle.idle();
    bundle
}

fn a_group_by_id_holds_every_process_and_goes(t: &Context) {
    let resctrl = Resctrl::new(t);
    let rdt = json!({"memBwSchema": "MB:0=20", "l3CacheSchema": "L3:0=f", "schemata": ["L2:0=1"]});
    let bundle = bundle(t, rdt);
    let container = bundle.named("web");
    resctrl.create(&bundle, "web").exits(0);
    // In the order of the spec, and the process is there before its program runs.
    assert_eq!(resctrl.text("web/schemata"), "L3:0=f\nMB:0=20\nL2:0=1\n");
    assert_eq!(resctrl.text("web/tasks"), container.pid().to_string());
    assert_eq!(container.status(), "created");
    container.command("start").exits(0);
    let pid = t.path("pid");
    let flags = ["--detach", "--pid-file", pid.to_str().unwrap()];
    container.exec_command(&flags, &["sleep", "60"]).output().exits(0);
    assert_eq!(resctrl.text("web/tasks"), fs::read_to_string(pid).unwrap());
    resctrl.forget_files("web");
    container.end();
    assert!(!resctrl.has("web"));
    assert_eq!(resctrl.text("tasks"), "1\n");
}

fn an_existing_class_is_entered_and_stays(t: &Context) {
    let resctrl = Resctrl::new(t);
    let schemata = resctrl.text("gold/schemata");
    let bundle = bundle(t, json!({"closID": "gold", "enableMonitoring": true}));
    let container = bundle.named("web");
    resctrl.create(&bundle, "web").exits(0);
    assert_eq!(resctrl.text("gold/schemata"), schemata);
    let pid = container.pid().to_string();
    assert_eq!(resctrl.text("gold/tasks"), pid);
    assert_eq!(resctrl.text("gold/mon_groups/web/tasks"), pid);
    resctrl.forget_files("gold/mon_groups/web");
    container.end();
    assert!(resctrl.has("gold") && !resctrl.has("gold/mon_groups/web"));
}

fn a_new_class_by_name_stays(t: &Context) {
    let resctrl = Resctrl::new(t);
    let bundle = bundle(t, json!({"closID": "silver", "schemata": ["L3:0=3"]}));
    let container = bundle.named("web");
    resctrl.create(&bundle, "web").exits(0);
    assert_eq!(resctrl.text("silver/schemata"), "L3:0=3\n");
    // A second container finds it as it wants it.
    let bundle = self::bundle(t, json!({"closID": "silver", "schemata": ["L3:0=3"]}));
    let second = bundle.named("web2");
    resctrl.create(&bundle, "web2").exits(0);
    assert_eq!(resctrl.text("silver/tasks"), second.pid().to_string());
    container.end();
    second.end();
    assert!(resctrl.has("silver") && !resctrl.has("web"));

    let bundle = self::bundle(t, json!({"closID": "/"}));
    let container = bundle.named("web3");
    resctrl.create(&bundle, "web3").exits(0);
    assert_eq!(resctrl.text("tasks"), container.pid().to_string());
}

fn without_intel_rdt_nothing_is_touched(t: &Context) {
    let resctrl = Resctrl::new(t);
    let before = resctrl.whole();
    let mut bundle = t.bundle();
    bundle.idle();
    let container = bundle.named("web");
    resctrl.create(&bundle, "web").exits(0);
    container.command("start").exits(0);
    assert_eq!(resctrl.whole(), before);
    container.end();
    assert_eq!(resctrl.whole(), before);
}

fn without_resctrl_it_is_refused(t: &Context) {
    let mounted = fs::read_to_string("/proc/self/mountinfo").unwrap().contains(" - resctrl ");
    assert!(!mounted, "the test is for a machine without resctrl");
    let bundle = bundle(t, json!({"closID": "gold"}));
    let container: Container<'_> = bundle.named("web");
    let error = container.create(&[]).fails();
    assert!(error.contains("intelRdt"), "{error}");
    container.command("state").fails();
}

fn faults_leave_nothing(t: &Context) {
    let resctrl = Resctrl::new(t);
    let before = resctrl.whole();
    let long = "x".repeat(300);
    for (rdt, text) in [
        (json!({"closID": "nope"}), "linux.intelRdt.closID: there is no "),
        (json!({"closID": "../up", "schemata": ["L3:0=1"]}), "linux.intelRdt.closID: must be"),
        (json!({"closID": "..", "schemata": ["L3:0=1"]}), "linux.intelRdt.closID: must be"),
        (json!({"closID": "info", "schemata": ["L3:0=1"]}), "linux.intelRdt.closID: resctrl keeps"),
        (json!({"closID": "gold", "l3CacheSchema": "L3:0=ff"}), "differs from the schemata of"),
        (json!({"memBwSchema": "L3:0=1"}), "linux.intelRdt.memBwSchema: must start with MB:"),
        (json!({"memBwSchema": "MB:0=1\nL3:0=1"}), "linux.intelRdt.memBwSchema: holds a line"),
        (json!({"schemata": ["L2:0=1", "MB:0=1\n"]}), "linux.intelRdt.schemata[1]: holds a line"),
        (json!({"closID": long, "schemata": ["L3:0=1"]}), "file name too long"),
        (json!({"closID": "silver", "schemata": "L3:0=1"}), "linux.intelRdt.schemata"),
    ] {
        let bundle = bundle(t, rdt);
        let container = bundle.named("web");
        contains(&resctrl.create(&bundle, "web").fails(), text);
        assert_eq!(resctrl.whole(), before, "{text}");
        container.command("state").fails();
    }
}

fn a_failed_create_removes_its_group(t: &Context) {
    let resctrl = Resctrl::new(t);
    for (rdt, group) in
        [(json!({}), "web"), (json!({"closID": "silver", "schemata": ["L3:0=1"]}), "silver")]
    {
        let mut bundle = bundle(t, rdt);
        let seen = t.path("seen");
        let script = format!(
            "cd {}/{group}; cat tasks > {}; rm -f tasks schemata; exit 7",
            resctrl.root.display(),
            seen.display()
        );
        let path = "PATH=/usr/bin:/bin";
        bundle.config["hooks"] = json!({"createRuntime": [
            {"path": "/bin/sh", "args": ["sh", "-c", script], "env": [path]},
        ]});
        let container = bundle.named("web");
        resctrl.create(&bundle, "web").fails();
        assert!(fs::read_to_string(seen).unwrap().parse::<i32>().unwrap() > 0);
        assert!(!resctrl.has(group));
        container.command("state").fails();
    }
}

fn after_a_sigkill_delete_removes_the_group(t: &Context) {
    let resctrl = Resctrl::new(t);
    let flag = t.path("flag");
    fs::write(&flag, "").unwrap();
    let mut bundle = bundle(t, json!({}));
    let script = format!("while [ -e {} ]; do sleep 0.05; done", flag.display());
    bundle.config["hooks"] = json!({"createRuntime": [
        {"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin"]},
    ]});
    let container = bundle.named("web");
    let running =
        resctrl.runtime().args(["create", "--bundle"]).arg(&bundle.dir).arg("web").spawn();
    wait_for("the group to hold init", 10, || resctrl.text("web/tasks").parse::<i32>().is_ok());
    running.signal(nix::sys::signal::Signal::SIGKILL);
    running.wait().fails();
    fs::remove_file(&flag).unwrap();
    assert!(resctrl.has("web"));
    resctrl.forget_files("web");
    t.runtime().args(["delete", "--force", "web"]).output().exits(0);
    assert!(!resctrl.has("web"));
    drop(container);
}

fn update_and_events(t: &Context) {
    let resctrl = Resctrl::new(t);
    let bundle = bundle(t, json!({"closID": "silver", "l3CacheSchema": "L3:0=3"}));
    let container = bundle.named("web");
    resctrl.create(&bundle, "web").exits(0);
    let update = |flags: &[&str]| t.runtime().arg("update").args(flags).arg("web").output();
    update(&["--mem-bw-schema", "MB:0=50", "--l3-cache-schema", "L3:0=1"]).exits(0);
    assert_eq!(resctrl.text("silver/schemata"), "L3:0=1\nMB:0=50\n");
    contains(&update(&["--mem-bw-schema", "50"]).fails(), "must start with MB:");
    assert_eq!(resctrl.text("silver/schemata"), "L3:0=1\nMB:0=50\n");
    container.command("start").exits(0);
    let text = t.runtime().args(["events", "--stats", "web"]).output().ok();
    let event: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        event["data"]["intel_rdt"],
        json!({
            "l3_cache_info": {"cbm_mask": "7ff"},
            "l3_cache_schema": "L3:0=1", "l3_cache_schema_root": "L3:0=7ff",
            "schemata": ["L3:0=1", "MB:0=50"],
        })
    );

    let mut bundle = t.bundle();
    bundle.idle();
    let plain = bundle.create();
    let update = ["update", "--l3-cache-schema", "L3:0=1", &plain.id];
    contains(&t.runtime().args(update).output().fails(), "no linux.intelRdt");
}
