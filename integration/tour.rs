//! The promise to users, once through: a Debian root file system with an interactive shell, a web
//! server in its own network, a second container beside it, exec, limits, SIGTERM, delete.

use crate::harness::pty::Terminal;
use crate::harness::{Bundle, Context, Need, Test, cgroup, contains, wait_for};
use crate::test;
use serde_json::json;
use std::path::{Path, PathBuf};

pub const TESTS: &[Test] = &[
    test!(debian_shell_and_server)
        .needs(&[Need::Program("mmdebstrap"), Need::V1("memory")])
        .timeout(900),
    test!(python_as_the_program_itself).needs(&[Need::Program("mmdebstrap")]).timeout(900),
];

/// The archive that mmdebstrap made, once for many runs.
fn archive(t: &Context) -> PathBuf {
    let home = std::env::var_os("HOME").map_or(PathBuf::from("/root"), PathBuf::from);
    let cache = std::env::var_os("XDG_CACHE_HOME").map_or(home.join(".cache"), PathBuf::from);
    let dir = cache.join("corten-test");
    let tar = dir.join("debian-bookworm-python3.tar");
    std::fs::create_dir_all(&dir).unwrap();
    // Two tests may want it at the same time.
    let script = format!(
        "exec 9>{0}.lock; flock 9; [ -s {0} ] || \
         {{ mmdebstrap --variant=apt --include=python3 bookworm {0}.new.tar && mv {0}.new.tar {0}; }}",
        tar.display()
    );
    t.host("/bin/sh").args(["-euc", &script]).seconds(600).output().exits(0);
    tar
}

fn debian<'a>(t: &'a Context) -> Bundle<'a> {
    let tar = archive(t);
    let mut bundle = t.bundle();
    let root = t.path("debian");
    std::fs::create_dir(&root).unwrap();
    let script = format!("tar -C {} -xf {} --exclude=./dev/*", root.display(), tar.display());
    t.host("/bin/sh").args(["-euc", &script]).seconds(120).output().exits(0);
    bundle.config["root"]["path"] = json!(root);
    bundle
}

fn debian_shell_and_server(t: &Context) {
    let mut bundle = debian(t);
    interactive_shell(t, &mut bundle);
    apt(&mut bundle);
    server_and_neighbour(t, &mut bundle);
}

/// bash at a terminal: job control, line editing, exit code.
fn interactive_shell(t: &Context, bundle: &mut Bundle) {
    bundle.config["process"]["terminal"] = json!(true);
    bundle.config["process"]["env"].as_array_mut().unwrap().push(json!("TERM=xterm"));
    bundle.args(["bash", "--norc", "-i"]);
    let container = bundle.named("shell");
    let mut terminal = Terminal::new();
    let (root, dir) = (t.state_root(), bundle.dir.to_str().unwrap().to_string());
    terminal.spawn(
        &t.runtime.path,
        &["--root", root.to_str().unwrap(), "run", "--bundle", &dir, &container.id],
    );
    terminal.expect("# ");
    terminal.send("echo answer-$((6*7))\r");
    terminal.expect("answer-42");
    terminal.send("tty; . /etc/os-release; echo $ID-$VERSION_ID\r");
    terminal.expect("/dev/pts/0");
    terminal.expect("debian-12");
    terminal.send("sleep 1000\r");
    std::thread::sleep(std::time::Duration::from_millis(300));
    terminal.send("\x03");
    terminal.expect("# ");
    terminal.send("echo code-$?\r");
    terminal.expect("code-130");
    terminal.resize(50, 132);
    terminal.send("sleep 0.2; stty size\r");
    terminal.expect("50 132");
    assert!(!terminal.seen().contains("no job control"), "{}", terminal.seen());
    terminal.send("exit 4\r");
    assert_eq!(terminal.wait().code(), Some(4));
    bundle.config["process"]["terminal"] = json!(false);
}

fn apt(bundle: &mut Bundle) {
    bundle.args(["apt-get", "--version"]);
    contains(&bundle.run().ok(), "apt 2.6");
}

fn server_and_neighbour(t: &Context, bundle: &mut Bundle) {
    std::fs::write(root_of(bundle).join("srv/page"), "served from the container\n").unwrap();
    bundle.config["process"]["cwd"] = json!("/srv");
    bundle.config["linux"]["resources"]["memory"] = json!({"limit": 268_435_456});
    bundle.args([
        "bash",
        "-c",
        "trap 'kill $server; echo stopping; exit 0' TERM; \
         python3 -u -m http.server 8000 & server=$!; wait $server",
    ]);
    let server = bundle.start();
    let net = format!("/proc/{}/ns/net", server.pid());

    // The pod pattern: another root file system, the same network.
    let mut neighbour = t.bundle();
    neighbour.namespace("network", Some(net));
    neighbour.script(
        "for i in $(seq 50); do wget -q -O - http://127.0.0.1:8000/page && exit 0; sleep 0.1; done; exit 1",
    );
    contains(&neighbour.run().ok(), "served from the container");
    // Nobody hears it outside.
    assert!(std::net::TcpStream::connect("127.0.0.1:8000").is_err());

    assert_eq!(server.sh("cat /srv/page"), "served from the container");
    let flags = ["--user", "33:33", "--env", "WHO=me"];
    let python = "import os; print(os.getuid(), os.environ['WHO'])";
    let output = server.exec_command(&flags, &["python3", "-c", python]).output();
    assert_eq!(output.ok(), "33 me");

    let update = ["update", "--memory", "134217728", "--pids-limit", "64", &server.id];
    t.runtime().args(update).output().exits(0);
    let read = |controller: &str, file: &str| {
        std::fs::read_to_string(server.cgroup(controller).join(file)).unwrap().trim().to_string()
    };
    assert_eq!(read("memory", "memory.limit_in_bytes"), "134217728");
    assert_eq!(read("pids", "pids.max"), "64");
    contains(&neighbour.run().ok(), "served from the container");

    server.kill("TERM");
    server.wait_status("stopped");
    contains(&server.printed(), "stopping");
    server.command("delete").exits(0);
    server.command("state").fails();
    wait_for("the cgroups to be gone", 5, || cgroup::below(&t.cgroup).is_empty());
}

fn root_of(bundle: &Bundle) -> PathBuf {
    Path::new(bundle.config["root"]["path"].as_str().unwrap()).to_path_buf()
}

/// A dynamic program with threads and child processes as pid 1, on a read-only root, as a user.
fn python_as_the_program_itself(t: &Context) {
    let mut bundle = debian(t);
    let python = "import os, subprocess, threading, tempfile, socket\n\
        seen = []\n\
        threads = [threading.Thread(target=lambda n=n: seen.append(n)) for n in range(8)]\n\
        [x.start() for x in threads]; [x.join() for x in threads]\n\
        a, b = socket.socketpair(); a.send(b'x'); b.recv(1)\n\
        tempfile.TemporaryFile(dir='/dev/shm').write(b'x')\n\
        print(os.getpid(), os.getuid(), sorted(seen), subprocess.check_output(['id', '-u']).strip())";
    bundle.args(["python3", "-c", python]);
    bundle.config["root"]["readonly"] = json!(true);
    bundle.config["process"]["user"] = json!({"uid": 1000, "gid": 1000});
    assert_eq!(bundle.run().ok(), "1 1000 [0, 1, 2, 3, 4, 5, 6, 7] b'1000'");
}
