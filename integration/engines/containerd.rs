//! containerd drives the runtime: `ctr run --runc-binary`, with a daemon of the test's own.

use crate::harness::pty::Terminal;
use crate::harness::{Context, Need, Output, Run, Test, contains, leftovers, wait_for};
use crate::test;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

const NEEDS: &[Need] = &[Need::Program("containerd"), Need::Program("ctr")];

pub const TESTS: &[Test] = &[
    test!(run_to_the_end).needs(NEEDS).timeout(120),
    test!(exec_kill_and_delete).needs(NEEDS).timeout(120),
    test!(terminals).needs(NEEDS).timeout(120),
    test!(pause_resume_metrics).needs(NEEDS).timeout(120),
    test!(ten_at_once).needs(NEEDS).timeout(180),
    test!(errors_reach_the_user).needs(NEEDS).timeout(120),
    test!(unusual_moments).needs(NEEDS).timeout(120),
];

const IMAGE: &str = "corten.test/busybox:1";

/// A running containerd; `stop` ends it.
struct Daemon<'a> {
    context: &'a Context,
    socket: PathBuf,
    running: Option<crate::harness::command::Running>,
}

/// The shims put their sockets here whatever the configuration says: a private one is mounted.
const RUN_DIR: &str = "/run/containerd";

impl<'a> Daemon<'a> {
    fn start(t: &'a Context) -> Daemon<'a> {
        t.sh(&format!("mkdir -p {RUN_DIR}; mount -t tmpfs private {RUN_DIR}"));
        let dir = t.path("containerd");
        std::fs::create_dir(&dir).unwrap();
        let socket = dir.join("sock");
        let config = format!(
            "version = 2\nroot = \"{0}/root\"\nstate = \"{0}/state\"\noom_score = 0\n\
             disabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n[grpc]\naddress = \"{1}\"\n",
            dir.display(),
            socket.display()
        );
        std::fs::write(dir.join("config.toml"), config).unwrap();
        let running = t
            .host("unshare")
            .args(["--net", "--", "containerd", "--config"])
            .arg(dir.join("config.toml"))
            .spawn();
        let daemon = Daemon { context: t, socket, running: Some(running) };
        wait_for("containerd", 20, || daemon.ctr(&["version"]).code() == 0);
        let image = image(t);
        daemon.ctr(&["image", "import", image.to_str().unwrap()]).exits(0);
        daemon
    }

    fn command(&self, args: &[&str]) -> Run<'a> {
        let run = self.context.host("ctr").arg("--address").arg(&self.socket);
        run.args(["--namespace", "test"]).args(args).seconds(60)
    }

    #[track_caller]
    fn ctr(&self, args: &[&str]) -> Output {
        self.command(args).output()
    }

    /// The arguments of `ctr run`, up to the image.
    fn run_args(&self, flags: &[&str], id: &str, program: &[&str]) -> Vec<String> {
        let runtime = self.context.runtime.path.to_str().unwrap();
        let group = format!("{}/{id}", self.context.cgroup);
        let start = ["run", "--runc-binary", runtime, "--cgroup", &group];
        let all = [&start, flags, &[IMAGE, id], program].concat();
        all.into_iter().map(String::from).collect()
    }

    #[track_caller]
    fn run(&self, flags: &[&str], id: &str, program: &[&str]) -> Output {
        let args = self.run_args(flags, id, program);
        self.ctr(&args.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// `ctr ARGS` on a terminal.
    fn terminal(&self, args: &[&str]) -> Terminal {
        let mut terminal = Terminal::new();
        let socket = self.socket.to_str().unwrap();
        let args = [&["--address", socket, "--namespace", "test"], args].concat();
        terminal.spawn(Path::new("ctr"), &args);
        terminal
    }

    fn task_status(&self, id: &str) -> String {
        let list = self.ctr(&["task", "list"]).ok();
        let line = list.lines().find(|line| line.split_whitespace().next() == Some(id));
        line.and_then(|l| l.split_whitespace().nth(2)).unwrap_or("none").to_string()
    }

    #[track_caller]
    fn wait_task(&self, id: &str, status: &str) {
        wait_for(&format!("{id} to be {status}"), 20, || self.task_status(id) == status);
    }

    /// SIGKILL, then task and container deleted.
    #[track_caller]
    fn end(&self, id: &str) {
        self.ctr(&["task", "kill", "--signal", "KILL", id]).exits(0);
        self.wait_task(id, "STOPPED");
        contains(&self.ctr(&["task", "delete", id]).exits(0).stderr, "exit code 137");
        self.ctr(&["container", "delete", id]).exits(0);
    }

    /// Nothing may run any more; then the daemon goes.
    fn stop(mut self) {
        let list = self.ctr(&["task", "list", "--quiet"]).ok();
        assert_eq!(list, "", "tasks are left");
        let runc_root = Path::new(RUN_DIR).join("runc/test");
        assert_eq!(std::fs::read_dir(runc_root).map_or(0, |d| d.count()), 0, "state is left");
        if let Some(running) = self.running.take() {
            running.signal(nix::sys::signal::Signal::SIGTERM);
            running.wait();
        }
    }
}

impl Drop for Daemon<'_> {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            // Not stopped in order: the test has failed, the runner cleans up the rest.
            drop(running);
        }
        wait_for("shims to end", 10, || leftovers::children().is_empty());
        self.context.sh(&format!("umount -R {RUN_DIR}"));
    }
}

/// An OCI image of the base root file system, as a tar archive.
fn image(t: &Context) -> PathBuf {
    let dir = t.path("image");
    let blobs = dir.join("blobs/sha256");
    std::fs::create_dir_all(&blobs).unwrap();
    let layer = dir.join("layer.tar");
    t.sh(&format!("tar -C {} -cf {} .", t.base.display(), layer.display()));
    let add = |path: &Path, media_type: &str| -> Value {
        let digest = t.sh(&format!("sha256sum < {}", path.display()));
        let digest = digest.split(' ').next().unwrap().to_string();
        let size = std::fs::metadata(path).unwrap().len();
        std::fs::rename(path, blobs.join(&digest)).unwrap();
        json!({"mediaType": media_type, "digest": format!("sha256:{digest}"), "size": size})
    };
    let add_json = |value: Value, media_type: &str| {
        let path = dir.join("blob.json");
        std::fs::write(&path, value.to_string()).unwrap();
        add(&path, media_type)
    };
    let oci = |name: &str| format!("application/vnd.oci.image.{name}");
    let layer = add(&layer, &oci("layer.v1.tar"));
    let arch = if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" };
    let config = add_json(
        json!({
            "architecture": arch, "os": "linux",
            "config": {"Env": ["PATH=/bin"], "Cmd": ["sh"]},
            "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]},
        }),
        &oci("config.v1+json"),
    );
    let manifest_type = oci("manifest.v1+json");
    let mut manifest = add_json(
        json!({"schemaVersion": 2, "mediaType": manifest_type, "config": config, "layers": [layer]}),
        &manifest_type,
    );
    manifest["annotations"] = json!({"io.containerd.image.name": IMAGE});
    let index = json!({"schemaVersion": 2, "manifests": [manifest]});
    std::fs::write(dir.join("index.json"), index.to_string()).unwrap();
    std::fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    let tar = t.path("image.tar");
    t.sh(&format!("tar -C {} -cf {} oci-layout index.json blobs", dir.display(), tar.display()));
    tar
}

fn run_to_the_end(t: &Context) {
    let daemon = Daemon::start(t);
    let output = daemon.run(&["--rm"], "one", &["sh", "-c", "echo out; hostname; exit 7"]);
    contains(&output.stdout, "out\n");
    output.exits(7);
    let output = daemon.run(
        &["--rm", "--env", "A=b", "--cwd", "/tmp"],
        "two",
        &["sh", "-c", "echo $A; pwd"],
    );
    assert_eq!(output.ok(), "b\n/tmp");
    let read_only = daemon.run(&["--rm", "--read-only"], "three", &["touch", "/x"]);
    contains(&read_only.exits(1).stderr, "Read-only file system");
    daemon.stop();
}

fn exec_kill_and_delete(t: &Context) {
    let daemon = Daemon::start(t);
    daemon
        .run(
            &["--detach"],
            "box",
            &["sh", "-c", "trap 'exit 3' TERM; while :; do sleep 0.05; done"],
        )
        .exits(0);
    daemon.wait_task("box", "RUNNING");
    let exec = |id: &str, script: &str| {
        daemon.ctr(&["task", "exec", "--exec-id", id, "box", "sh", "-c", script])
    };
    assert_eq!(
        exec("e1", "echo from exec; cat /proc/1/cmdline | grep -c trap").ok(),
        "from exec\n1"
    );
    exec("e2", "exit 5").exits(5);
    let input = daemon.command(&["task", "exec", "--exec-id", "e3", "box", "cat"]).input("typed");
    assert_eq!(input.output().ok(), "typed");
    contains(&daemon.ctr(&["task", "ps", "box"]).ok(), "PID");
    daemon.ctr(&["task", "kill", "--signal", "TERM", "box"]).exits(0);
    daemon.wait_task("box", "STOPPED");
    contains(&daemon.ctr(&["task", "delete", "box"]).exits(0).stderr, "exit code 3");
    daemon.ctr(&["container", "delete", "box"]).exits(0);
    daemon.stop();
}

fn terminals(t: &Context) {
    let daemon = Daemon::start(t);
    let args = daemon.run_args(&["--rm", "--tty"], "tty", &["sh"]);
    let mut terminal = daemon.terminal(&args.iter().map(String::as_str).collect::<Vec<_>>());
    terminal.expect("# ");
    terminal.send("tty; echo answer-$((6*7))\r");
    terminal.expect("/dev/pts/0");
    terminal.expect("answer-42");
    let mut second = daemon.terminal(&[
        "task",
        "exec",
        "--tty",
        "--exec-id",
        "e1",
        "tty",
        "sh",
        "-c",
        "tty; read l; echo got:$l",
    ]);
    second.expect("/dev/pts/1");
    second.send("line\r");
    second.expect("got:line");
    assert_eq!(second.wait().code(), Some(0));
    terminal.send("exit 4\r");
    assert_eq!(terminal.wait().code(), Some(4));
    daemon.stop();
}

fn pause_resume_metrics(t: &Context) {
    let daemon = Daemon::start(t);
    daemon.run(&["--detach", "--memory-limit", "67108864"], "box", &["sleep", "1000"]).exits(0);
    daemon.wait_task("box", "RUNNING");
    daemon.ctr(&["task", "pause", "box"]).exits(0);
    assert_eq!(daemon.task_status("box"), "PAUSED");
    daemon.ctr(&["task", "resume", "box"]).exits(0);
    assert_eq!(daemon.task_status("box"), "RUNNING");
    // containerd gives the shim two seconds, and a busy machine may take longer.
    let mut metrics = String::new();
    wait_for("metrics", 30, || {
        let output = daemon.ctr(&["task", "metrics", "box"]);
        metrics = output.stdout;
        output.status.success()
    });
    // In v1 memory.usage_in_bytes.
    contains(&metrics, "memory.usage");
    contains(&metrics, "67108864");
    daemon.end("box");
    daemon.stop();
}

fn ten_at_once(t: &Context) {
    let daemon = Daemon::start(t);
    let ids: Vec<String> = (0..10).map(|n| format!("many{n}")).collect();
    let running: Vec<_> = ids
        .iter()
        .map(|id| {
            let args =
                daemon.run_args(&["--rm"], id, &["sh", "-c", "echo $0 $(hostname); sleep 1", id]);
            daemon.command(&args.iter().map(String::as_str).collect::<Vec<_>>()).spawn()
        })
        .collect();
    for (id, running) in ids.iter().zip(running) {
        contains(&running.wait().ok(), id);
    }
    daemon.stop();
}

fn errors_reach_the_user(t: &Context) {
    let daemon = Daemon::start(t);
    let output = daemon.run(&["--rm"], "bad", &["/no/such/program"]);
    contains(&output.fails(), "no such file or directory");
    daemon.ctr(&["container", "delete", "bad"]);
    daemon.stop();
}

fn unusual_moments(t: &Context) {
    let daemon = Daemon::start(t);
    daemon.run(&["--detach"], "box", &["sleep", "1000"]).exits(0);
    daemon.wait_task("box", "RUNNING");
    let exec = |id: &str, program: &[&str]| {
        daemon.command(&[&["task", "exec", "--exec-id", id, "box"], program].concat())
    };
    contains(&exec("e1", &["nosuch"]).output().fails(), "executable file not found in $PATH");
    contains(&exec("e2", &["/no/such"]).output().fails(), "no such file or directory");
    contains(&exec("e3", &["/tmp"]).output().fails(), "permission denied");

    // A window that changes while exec runs.
    let mut resized = daemon.terminal(&[
        "task",
        "exec",
        "--tty",
        "--exec-id",
        "e4",
        "box",
        "sh",
        "-c",
        "echo ready; read l; stty size",
    ]);
    resized.expect("ready");
    resized.resize(33, 77);
    std::thread::sleep(std::time::Duration::from_millis(300));
    resized.send("\r");
    resized.expect("33 77");
    assert_eq!(resized.wait().code(), Some(0));

    // One of two execs is killed alone, the other with the container.
    let first = exec("e5", &["sleep", "1000"]).spawn();
    let second = exec("e6", &["sleep", "1000"]).spawn();
    wait_for("both to run", 20, || daemon.ctr(&["task", "ps", "box"]).ok().lines().count() == 4);
    daemon.ctr(&["task", "kill", "--signal", "KILL", "--exec-id", "e5", "box"]).exits(0);
    first.wait().exits(137);
    daemon.ctr(&["task", "kill", "--signal", "KILL", "box"]).exits(0);
    second.wait().exits(137);
    daemon.wait_task("box", "STOPPED");
    // Its end is known: containerd calls it not found.
    contains(&daemon.ctr(&["task", "kill", "box"]).fails(), "not found");
    daemon.ctr(&["task", "delete", "box"]).exits(0);
    daemon.ctr(&["container", "delete", "box"]).exits(0);
    daemon.stop();
}
