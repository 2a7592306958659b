//! The same bundles under Corten, runc and crun. What the kernel shows of the containers is
//! compared; each difference must be in docs/differences.md and in [`expected::EXPECTED`], and
//! what is there must show.

mod bundles;
mod expected;
mod observe;

use crate::harness::pty::Terminal;
use crate::harness::{Bundle, Container, Context, Need, Runtime, Test, cgroup, wait_for};
use crate::test;
use expected::{EXPECTED, Expected};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use observe::View;
use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

pub const NEEDS: &[Need] = &[
    Need::CortenOnly("it is what Corten is compared with"),
    Need::Program("runc"),
    Need::Program("crun"),
    // The table is that of a machine with cgroup v1.
    Need::V1("memory"),
];

pub fn tests() -> Vec<Test> {
    let mut tests = bundles::tests();
    tests.push(test!(documented));
    tests
}

/// How a bundle is tried.
#[derive(Clone, Copy, PartialEq)]
pub enum How {
    /// create, start, a look at init; exec, a look at that; state, kill, delete.
    Look,
    /// The same on a terminal, with `run` and `exec --tty`.
    Terminal,
    /// `run` to the end of the bundle's own program: exit code and output.
    Run,
}

/// Every row of the table of differences is in the document, and the other way round; each has a
/// bundle that shows it.
fn documented(_: &Context) {
    let document = include_str!("../../docs/differences.md");
    let rows: BTreeSet<&str> =
        document.lines().filter_map(|l| l.strip_prefix("| `")?.split('`').next()).collect();
    let expected: BTreeSet<&str> = EXPECTED.iter().map(|e| e.row).collect();
    assert_eq!(rows, expected, "docs/differences.md (left) and the table of the tests (right)");
    let bundles = bundles::tests();
    for e in EXPECTED {
        let known = bundles.iter().any(|bundle| bundle.function == e.shows);
        assert!(known, "{}: there is no bundle {}", e.row, e.shows);
    }
}

/// Tries the bundle that `edit` makes under all three and compares.
pub fn compare(t: &Context, name: &str, how: How, edit: fn(&mut Bundle)) {
    let hidden = Hidden::new(&t.dir);
    let peers = ["runc", "crun"].map(|name| Runtime { path: find(name), name: name.into() });
    let all = [&t.runtime, &peers[0], &peers[1]];
    let views = all.map(|runtime| {
        let dir = t.dir.join(&runtime.name);
        std::fs::create_dir(&dir).unwrap();
        std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o755)).unwrap();
        let context = Context::new(dir, t.base.clone(), t.cgroup.clone(), runtime.clone());
        let view = look(&context, how, edit);
        // crun leaves a group of its own in the devices hierarchy.
        for dir in cgroup::below(&t.cgroup).into_iter().rev().filter(|_| !runtime.is_corten()) {
            let _ = std::fs::remove_dir(dir);
        }
        view
    });
    drop(hidden);
    judge(name, &views);
}

fn find(program: &str) -> PathBuf {
    let dirs = ["/usr/sbin", "/usr/bin", "/usr/local/sbin", "/usr/local/bin"];
    let found = dirs.iter().map(|dir| Path::new(dir).join(program)).find(|path| path.exists());
    found.unwrap_or_else(|| panic!("{program} is not installed"))
}

/// A mount namespace without the v2 tree of a hybrid, which crun refuses, and with a /dev/null of
/// its own, for crun gives that of the host to the container's user; back when dropped.
struct Hidden(File);

impl Hidden {
    fn new(dir: &Path) -> Hidden {
        let before = File::open("/proc/self/ns/mnt").unwrap();
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        for flags in [MsFlags::MS_PRIVATE, MsFlags::MS_SHARED] {
            mount(None::<&str>, "/", None::<&str>, flags | MsFlags::MS_REC, None::<&str>).unwrap();
        }
        let hierarchies = cgroup::hierarchies();
        if hierarchies.iter().any(|h| !h.v2) {
            for v2 in hierarchies.iter().filter(|h| h.v2) {
                umount2(&v2.mountpoint, MntFlags::MNT_DETACH).unwrap();
            }
        }
        let private = dir.join("dev");
        std::fs::create_dir(&private).unwrap();
        mount(Some("private"), &private, Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
        let (null, mode) = (private.join("null"), Mode::from_bits_truncate(0o666));
        mknod(&null, SFlag::S_IFCHR, mode, makedev(1, 3)).unwrap();
        std::fs::set_permissions(&null, std::fs::Permissions::from_mode(0o666)).unwrap();
        mount(Some(&null), "/dev/null", None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
        Hidden(before)
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        // A thread that read a terminal ends soon after it.
        wait_for("the way back to the mount namespace", 10, || {
            setns(&self.0, CloneFlags::CLONE_NEWNS).is_ok()
        });
    }
}

/// What is seen of the bundle under one runtime, without the names that differ.
fn look(t: &Context, how: How, edit: fn(&mut Bundle)) -> View {
    let mut bundle = t.bundle();
    edit(&mut bundle);
    let mut before = View::new();
    observe::nodes(&mut before, "rootfs", &bundle.rootfs(""), 4);
    let mut view = View::new();
    match how {
        How::Look => lifecycle(&mut view, &bundle),
        How::Terminal => terminal(&mut view, &bundle),
        How::Run => {
            let output = bundle.run();
            view.insert("run/exit".into(), output.code().to_string());
            view.insert("run/stdout".into(), output.stdout.trim().replace('\n', " | "));
        }
    }
    let mut after = View::new();
    observe::nodes(&mut after, "rootfs", &bundle.rootfs(""), 4);
    view.extend(after.into_iter().filter(|(key, value)| before.get(key) != Some(value)));
    let cgroup = bundle.config["linux"]["cgroupsPath"].as_str().unwrap_or("/-").to_string();
    let names = [
        (id(), "ID"),
        (bundle.dir.display().to_string(), "BUNDLE"),
        (t.dir.display().to_string(), "DIR"),
        (cgroup, "CGROUP"),
        (t.cgroup.clone(), "TEST"),
    ];
    let rename = |text: String| names.iter().fold(text, |text, (from, to)| text.replace(from, to));
    view.into_iter().map(|(key, value)| (rename(key), rename(value))).collect()
}

/// The name of the containers: no other test's on this machine.
fn id() -> String {
    format!("diff{}", std::process::id())
}

fn result(code: i32) -> String {
    if code == 0 { "done".into() } else { "refused".into() }
}

/// create, start, exec, state, kill, delete.
fn lifecycle(view: &mut View, bundle: &Bundle) {
    let mut bundle =
        Bundle { context: bundle.context, dir: bundle.dir.clone(), config: bundle.config.clone() };
    if bundle.config["process"]["args"] == serde_json::json!(["true"]) {
        bundle.script(observe::SCRIPT);
    }
    let container = bundle.named(&id());
    let said = |view: &mut View, key: &str, code: i32| {
        view.insert(format!("command/{key}"), result(code));
        code == 0
    };
    if !said(view, "create", container.create(&[]).code()) {
        return;
    }
    state(view, "created", &container);
    if !said(view, "start", container.command("start").code()) {
        return;
    }
    wait_for("init to be ready, or at its end", 10, || {
        container.printed().contains("ready=yes") || container.status() == "stopped"
    });
    if !container.printed().contains("ready=yes") {
        view.insert("command/start".into(), "done, but the program did not run".into());
        return;
    }
    look_at(view, "init", container.pid(), &container.printed(), &container.id);
    state(view, "running", &container);
    if let Some(cgroup) = bundle.config["linux"]["cgroupsPath"].as_str() {
        observe::cgroups(view, cgroup);
    }
    exec(view, &container, bundle.context);
    said(view, "start again", container.command("start").code());
    said(view, "delete running", container.command("delete").code());
    container.kill("KILL");
    container.wait_status("stopped");
    state(view, "stopped", &container);
    let run = bundle.context.runtime().args(["kill", &container.id, "TERM"]).output();
    said(view, "kill stopped", run.code());
    said(view, "delete", container.command("delete").code());
    said(view, "state deleted", container.command("state").code());
}

/// A second process in the container.
fn exec(view: &mut View, container: &Container, t: &Context) {
    let (file, out) = (t.path("pid"), t.dir.join("exec"));
    let flags = ["--detach", "--pid-file", file.to_str().unwrap()];
    let run = container.exec_command(&flags, &["sh", "-c", observe::SCRIPT]).out(out.clone());
    let code = run.output().code();
    view.insert("command/exec".into(), result(code));
    if code != 0 {
        return;
    }
    let printed = || std::fs::read_to_string(&out).unwrap_or_default();
    wait_for("the exec'd process to be ready", 10, || printed().contains("ready=yes"));
    let pid = std::fs::read_to_string(file).unwrap().trim().parse().unwrap();
    look_at(view, "exec", pid, &printed(), &container.id);
}

fn look_at(view: &mut View, prefix: &str, pid: i32, printed: &str, id: &str) {
    wait_for("the process to be sleep", 10, || {
        std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line == b"sleep\x001000\0")
    });
    observe::printed(view, prefix, printed, id);
    observe::process(view, prefix, pid);
}

/// The state document: what the spec knows, and the names of the rest.
fn state(view: &mut View, when: &str, container: &Container) {
    let state = container.state();
    for (key, value) in state.as_object().unwrap() {
        let value = match key.as_str() {
            "pid" if value.as_i64().unwrap_or(0) > 0 => "a number".to_string(),
            "ociVersion" | "created" | "owner" | "systemd-scope" | "rootfs" | "user" => {
                "there".into()
            }
            _ => value.to_string(),
        };
        view.insert(format!("state {when}/{key}"), value);
    }
}

/// `run` on a terminal of the test's, looked at from outside and inside.
fn terminal(view: &mut View, bundle: &Bundle) {
    let mut bundle =
        Bundle { context: bundle.context, dir: bundle.dir.clone(), config: bundle.config.clone() };
    bundle.config["process"]["terminal"] = serde_json::json!(true);
    bundle.script(observe::SCRIPT);
    let container = bundle.named(&id());
    let t = bundle.context;
    let (root, dir) = (t.state_root(), bundle.dir.display().to_string());
    let start = ["--root", root.to_str().unwrap()];
    let mut screen = Terminal::new();
    screen
        .spawn(&t.runtime.path, &[&start[..], &["run", "--bundle", &dir, &container.id]].concat());
    screen.expect("ready=yes");
    look_at(view, "init", container.pid(), &screen.seen(), &container.id);
    state(view, "running", &container);
    let mut second = Terminal::new();
    let pid_file = t.path("pid");
    let exec = [
        "exec",
        "--tty",
        "--pid-file",
        pid_file.to_str().unwrap(),
        &container.id,
        "sh",
        "-c",
        observe::SCRIPT,
    ];
    second.spawn(&t.runtime.path, &[&start[..], &exec].concat());
    second.expect("ready=yes");
    let pid = std::fs::read_to_string(pid_file).unwrap().trim().parse().unwrap();
    look_at(view, "exec", pid, &second.seen(), &container.id);
    container.kill("KILL");
    let mut code = |name: &str, screen: &mut Terminal| {
        use std::os::unix::process::ExitStatusExt;
        let status = screen.wait();
        let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
        view.insert(format!("exit/{name}"), code.to_string());
    };
    code("exec", &mut second);
    code("run", &mut screen);
}

/// Compares; every difference must be expected, and every expectation must come true.
fn judge(name: &str, views: &[View; 3]) {
    let keys: BTreeSet<&String> = views.iter().flat_map(|view| view.keys()).collect();
    let must_show = EXPECTED.iter().filter(|e| e.shows == name);
    let mut unused: Vec<(&Expected, &str)> =
        must_show.flat_map(|e| e.peers.split(' ').map(move |peer| (e, peer))).collect();
    let mut unexpected = Vec::new();
    for key in keys {
        let get = |view: &View| view.get(key).cloned().unwrap_or_else(|| "(none)".into());
        let corten = get(&views[0]);
        for (peer, view) in [("runc", &views[1]), ("crun", &views[2])] {
            let value = get(view);
            // Where a peer refused a command, that is the difference, not all that was not seen.
            if corten == value || !comparable(key, &views[0], view) {
                continue;
            }
            let about = EXPECTED.iter().filter(|e| e.is_about(name, key, peer));
            let explained = expected::explain(&about.collect::<Vec<_>>(), &corten, &value);
            unused.retain(|(e, of)| {
                *of != peer || !explained.iter().any(|used| std::ptr::eq(*e, *used))
            });
            if explained.is_empty() {
                unexpected
                    .push(format!("{name} {key}\n    corten: {corten}\n    {peer}:   {value}"));
            }
        }
    }
    let stale = |(e, peer): &(&Expected, &str)| {
        format!("{name}: the difference {:?} from {peer} no longer shows", e.row)
    };
    unexpected.extend(unused.iter().map(stale));
    assert!(!views[0].is_empty(), "nothing was observed");
    assert!(unexpected.is_empty(), "{}", unexpected.join("\n"));
}

/// False where the key is missing because one of the two refused a command.
fn comparable(key: &str, one: &View, other: &View) -> bool {
    let refused = |view: &View, command: &str| {
        view.get(&format!("command/{command}")).is_some_and(|result| result != "done")
    };
    let differ = |command| refused(one, command) != refused(other, command);
    if key.starts_with("command/create") || key.starts_with("command/start") {
        return one.contains_key(key) && other.contains_key(key);
    }
    let missing = !one.contains_key(key) || !other.contains_key(key);
    let whole = differ("create") || differ("start");
    !(whole && (missing || key.starts_with("rootfs/"))
        || key.starts_with("exec/") && differ("exec"))
}
