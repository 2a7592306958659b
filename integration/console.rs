//! Terminals: in the foreground, and handed over by the console socket.

use crate::harness::fds::Receiver;
use crate::harness::pty::Terminal;
use crate::harness::{Bundle, Context, Need, Test, contains, wait_for};
use crate::test;
use serde_json::json;

pub const TESTS: &[Test] = &[
    test!(console_socket_gets_the_master),
    test!(console_size_is_set),
    test!(console_is_the_controlling_terminal),
    test!(dev_console_is_the_terminal),
    test!(terminal_belongs_to_the_user),
    test!(foreground_terminal),
    test!(foreground_terminal_modes_come_back),
    test!(foreground_window_changes_are_passed_on),
    test!(foreground_output_is_complete),
    test!(terminal_in_a_user_namespace),
    test!(exec_with_a_terminal_in_the_foreground),
    test!(exec_with_a_console_socket),
    test!(terminal_without_socket_is_refused),
    test!(socket_without_terminal_is_refused),
    test!(control_c_reaches_the_program),
    test!(pidfd_socket).needs(&[Need::CortenOnly("--pidfd-socket came with 1.2")]),
    test!(run_with_closed_terminal_input),
    test!(lines_end_plainly_where_no_terminal_reads),
    test!(exec_of_a_process_file_with_a_terminal),
    test!(pidfd_socket_of_exec).needs(&[Need::CortenOnly("--pidfd-socket came with 1.2")]),
];

fn with_terminal<'a>(t: &'a Context, script: &str) -> Bundle<'a> {
    let mut bundle = t.bundle();
    bundle.config["process"]["terminal"] = json!(true);
    bundle.script(script);
    bundle
}

/// Creates with a console socket and starts: the container and its terminal.
fn started<'a>(t: &'a Context, bundle: &Bundle<'a>) -> (crate::harness::Container<'a>, Terminal) {
    let socket = t.path("sock");
    let receiver = Receiver::bind(&socket);
    let container = bundle.create_with(&["--console-socket", socket.to_str().unwrap()]);
    let (_, mut fds) = receiver.receive();
    assert_eq!(fds.len(), 1);
    let terminal = Terminal::of_master(fds.remove(0));
    container.command("start").exits(0);
    (container, terminal)
}

fn console_socket_gets_the_master(t: &Context) {
    let bundle = with_terminal(t, "tty; read line; echo got:$line; sleep 1000");
    let (_container, mut terminal) = started(t, &bundle);
    terminal.expect("/dev/pts/0");
    terminal.send("hello\n");
    terminal.expect("got:hello");
}

fn console_size_is_set(t: &Context) {
    let mut bundle = with_terminal(t, "stty size; sleep 1000");
    bundle.config["process"]["consoleSize"] = json!({"height": 33, "width": 111});
    let (_container, mut terminal) = started(t, &bundle);
    terminal.expect("33 111");
}

fn console_is_the_controlling_terminal(t: &Context) {
    // Fields of stat: pgrp 5, session 6, tty_nr 7, tpgid 8. Pty number 0 is 136:0 = 34816.
    let bundle =
        with_terminal(t, "cut -d' ' -f5-8 < /proc/$$/stat; echo via > /dev/tty; sleep 1000");
    let (_container, mut terminal) = started(t, &bundle);
    terminal.expect("1 1 34816 1");
    terminal.expect("via");
}

fn dev_console_is_the_terminal(t: &Context) {
    let bundle = with_terminal(
        t,
        "stat -c %t:%T /dev/console; echo through > /dev/console; for f in 0 1 2; do readlink /proc/self/fd/$f; done; sleep 1000",
    );
    let (_container, mut terminal) = started(t, &bundle);
    terminal.expect("88:0");
    terminal.expect("through");
    terminal.expect("/dev/pts/0");
    terminal.expect("/dev/pts/0");
}

fn terminal_belongs_to_the_user(t: &Context) {
    let mut bundle =
        with_terminal(t, "stat -c %u:%a /dev/pts/0; echo x > /dev/tty && echo can; sleep 1000");
    bundle.config["process"]["user"] = json!({"uid": 1000, "gid": 1000});
    let (_container, mut terminal) = started(t, &bundle);
    terminal.expect("1000:620");
    terminal.expect("can");
}

/// `RUNTIME --root DIR ARGS` on a terminal of its own.
fn foreground(t: &Context, args: &[&str]) -> Terminal {
    let mut terminal = Terminal::new();
    let root = t.state_root();
    let all = [&["--root", root.to_str().unwrap()], args].concat();
    terminal.spawn(&t.runtime.path, &all);
    terminal
}

/// runc gives a terminal its size a moment after the program has started.
fn patience(t: &Context) -> &'static str {
    if t.runtime.is_corten() { "" } else { "sleep 0.5; " }
}

fn foreground_terminal(t: &Context) {
    let script = format!("{}tty; stty size; read line; echo got:$line; exit 5", patience(t));
    let bundle = with_terminal(t, &script);
    let container = bundle.named("fore");
    let mut terminal =
        foreground(t, &["run", "--bundle", bundle.dir.to_str().unwrap(), &container.id]);
    terminal.expect("/dev/pts/0");
    terminal.expect("24 80");
    terminal.send("typed\r");
    terminal.expect("typed");
    terminal.expect("got:typed");
    assert_eq!(terminal.wait().code(), Some(5));
}

fn foreground_terminal_modes_come_back(t: &Context) {
    let bundle = with_terminal(t, "echo ready; read line; exit 0");
    let container = bundle.named("modes");
    let mut terminal = Terminal::new();
    let before = terminal.modes();
    let (root, dir) = (t.state_root(), bundle.dir.to_str().unwrap());
    let args = ["--root", root.to_str().unwrap(), "run", "--bundle", dir, &container.id];
    terminal.spawn(&t.runtime.path, &args);
    terminal.expect("ready");
    assert_ne!(terminal.modes(), before, "raw while it runs");
    terminal.send("x\r");
    terminal.wait();
    assert_eq!(terminal.modes(), before);
    // Also when the start fails.
    let mut bad = with_terminal(t, "");
    bad.args(["/no/such/program"]);
    let container = bad.named("bad");
    let args = [
        "--root",
        root.to_str().unwrap(),
        "run",
        "--bundle",
        bad.dir.to_str().unwrap(),
        &container.id,
    ];
    terminal.spawn(&t.runtime.path, &args);
    assert_ne!(terminal.wait().code(), Some(0));
    assert_eq!(terminal.modes(), before);
}

fn foreground_window_changes_are_passed_on(t: &Context) {
    let bundle =
        with_terminal(t, "trap 'stty size' WINCH; echo ready; while :; do sleep 0.05; done");
    let container = bundle.named("winch");
    let mut terminal =
        foreground(t, &["run", "--bundle", bundle.dir.to_str().unwrap(), &container.id]);
    terminal.expect("ready");
    terminal.resize(40, 100);
    terminal.expect("40 100");
    container.kill("KILL");
    assert_eq!(terminal.wait().code(), Some(137));
}

fn foreground_output_is_complete(t: &Context) {
    let bundle = with_terminal(t, "seq 1 20000; echo last-line");
    let container = bundle.named("much");
    let mut terminal =
        foreground(t, &["run", "--bundle", bundle.dir.to_str().unwrap(), &container.id]);
    terminal.wait();
    terminal.expect("last-line");
    let seen = terminal.seen();
    let numbers = seen.split("\r\n").filter(|l| l.parse::<u32>().is_ok()).count();
    assert_eq!(numbers, 20000);
}

fn terminal_in_a_user_namespace(t: &Context) {
    let mut bundle = with_terminal(t, "tty; stat -c %u:%t /dev/console; sleep 1000");
    bundle.user_namespace();
    let (_container, mut terminal) = started(t, &bundle);
    terminal.expect("/dev/pts/0");
    terminal.expect("0:88");
}

fn exec_with_a_terminal_in_the_foreground(t: &Context) {
    let mut bundle = t.bundle();
    bundle.idle();
    let container = bundle.start();
    let script = format!("{}tty; stty size; read l; echo got:$l; exit 9", patience(t));
    let mut terminal = foreground(t, &["exec", "--tty", &container.id, "sh", "-c", &script]);
    terminal.expect("/dev/pts/0");
    terminal.expect("24 80");
    terminal.send("abc\r");
    terminal.expect("got:abc");
    assert_eq!(terminal.wait().code(), Some(9));
}

fn exec_with_a_console_socket(t: &Context) {
    let mut bundle = t.bundle();
    bundle.idle();
    let container = bundle.start();
    let socket = t.path("sock");
    let receiver = Receiver::bind(&socket);
    let pid_file = t.path("pid");
    let flags = [
        "--tty",
        "--detach",
        "--console-socket",
        socket.to_str().unwrap(),
        "--pid-file",
        pid_file.to_str().unwrap(),
    ];
    container.exec_command(&flags, &["sh", "-c", "tty; read l; echo got:$l"]).output().exits(0);
    let (_, mut fds) = receiver.receive();
    let mut terminal = Terminal::of_master(fds.remove(0));
    terminal.expect("/dev/pts/0");
    terminal.send("abc\n");
    terminal.expect("got:abc");
    let pid = std::fs::read_to_string(pid_file).unwrap();
    assert!(pid.parse::<i32>().unwrap() > 1);
}

fn terminal_without_socket_is_refused(t: &Context) {
    let bundle = with_terminal(t, "true");
    contains(&bundle.create_fails(), "console");
    let container = bundle.named("detached");
    contains(&container.run(&["--detach"]).fails(), "console");
}

fn socket_without_terminal_is_refused(t: &Context) {
    let socket = t.path("sock");
    let _receiver = Receiver::bind(&socket);
    let container = t.bundle().named("none");
    contains(&container.create(&["--console-socket", socket.to_str().unwrap()]).fails(), "console");
    let bundle = with_terminal(t, "true");
    let missing = t.path("missing");
    bundle.named("missing").create(&["--console-socket", missing.to_str().unwrap()]).fails();
}

fn control_c_reaches_the_program(t: &Context) {
    let bundle = with_terminal(
        t,
        "trap 'echo interrupted; exit 3' INT; echo ready; while :; do sleep 0.05; done",
    );
    let container = bundle.named("intr");
    let mut terminal =
        foreground(t, &["run", "--bundle", bundle.dir.to_str().unwrap(), &container.id]);
    terminal.expect("ready");
    terminal.send("\x03");
    terminal.expect("interrupted");
    assert_eq!(terminal.wait().code(), Some(3));
}

fn pidfd_socket(t: &Context) {
    let socket = t.path("pidfd");
    let receiver = Receiver::bind(&socket);
    let mut bundle = t.bundle();
    bundle.idle();
    let container = bundle.create_with(&["--pidfd-socket", socket.to_str().unwrap()]);
    let (_, fds) = receiver.receive();
    assert_eq!(fds.len(), 1);
    use std::os::fd::AsRawFd;
    let info =
        std::fs::read_to_string(format!("/proc/self/fdinfo/{}", fds[0].as_raw_fd())).unwrap();
    let pid = info.lines().find_map(|l| l.strip_prefix("Pid:")).unwrap().trim().to_string();
    assert_eq!(pid, container.pid().to_string());
    // exec hands over that of its own process.
    container.command("start").exits(0);
    let socket = t.path("pidfd");
    let receiver = Receiver::bind(&socket);
    let pid_file = t.path("pid");
    let flags = ["--detach", "--pidfd-socket", socket.to_str().unwrap(), "--pid-file"];
    let flags = [&flags[..], &[pid_file.to_str().unwrap()]].concat();
    container.exec_command(&flags, &["sleep", "1000"]).output().exits(0);
    let (_, fds) = receiver.receive();
    let info =
        std::fs::read_to_string(format!("/proc/self/fdinfo/{}", fds[0].as_raw_fd())).unwrap();
    let pid = info.lines().find_map(|l| l.strip_prefix("Pid:")).unwrap().trim().to_string();
    assert_eq!(pid, std::fs::read_to_string(pid_file).unwrap());
}

fn run_with_closed_terminal_input(t: &Context) {
    // The person hangs up: the runtime and the container must both go.
    let bundle = with_terminal(t, "echo ready; cat; echo end");
    let container = bundle.named("hangup");
    let mut terminal =
        foreground(t, &["run", "--bundle", bundle.dir.to_str().unwrap(), &container.id]);
    terminal.expect("ready");
    terminal.send("\x04");
    terminal.expect("end");
    terminal.wait();
    wait_for("the container to be gone", 5, || container.command("state").code() != 0);
}

fn lines_end_plainly_where_no_terminal_reads(t: &Context) {
    // Set by the waiting `run`, a moment after the start.
    let bundle = with_terminal(t, "sleep 0.5; echo a; echo b");
    assert_eq!(bundle.run().exits(0).stdout, "a\nb\n");
}

fn exec_of_a_process_file_with_a_terminal(t: &Context) {
    let mut bundle = t.bundle();
    bundle.idle();
    let container = bundle.start();
    let file = t.path("process.json");
    let process = json!({"args": ["tty"], "cwd": "/", "env": ["PATH=/bin"]});
    std::fs::write(&file, process.to_string()).unwrap();
    let flags = ["exec", "--tty", "--process", file.to_str().unwrap(), &container.id];
    let mut terminal = foreground(t, &flags);
    terminal.expect("/dev/pts/0");
    assert_eq!(terminal.wait().code(), Some(0));
}

fn pidfd_socket_of_exec(t: &Context) {
    use std::os::fd::AsRawFd;
    let mut bundle = t.bundle();
    bundle.idle();
    let container = bundle.start();
    let (socket, file) = (t.path("pidfd"), t.path("pid"));
    let receiver = Receiver::bind(&socket);
    let (to, pid_file) = (socket.to_str().unwrap(), file.to_str().unwrap());
    let flags = ["--detach", "--pidfd-socket", to, "--pid-file", pid_file];
    container.exec_command(&flags, &["sleep", "1000"]).output().exits(0);
    let (_, fds) = receiver.receive();
    let info = format!("/proc/self/fdinfo/{}", fds[0].as_raw_fd());
    let info = std::fs::read_to_string(info).unwrap();
    let pid = info.lines().find_map(|l| l.strip_prefix("Pid:")).unwrap().trim().to_string();
    assert_eq!(pid, std::fs::read_to_string(file).unwrap());
}
