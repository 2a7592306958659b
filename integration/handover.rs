//! What the caller of the runtime hands down to the program: descriptors by sd_listen_fds(3),
//! readiness by sd_notify(3), its groups.

use crate::harness::{Bundle, Container, Context, Need, Test, contains, proc_status, status_field};
use crate::harness::{Run, wait_for};
use crate::test;
use serde_json::json;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::time::Duration;

const NOTIFY: &[Need] = &[Need::CortenOnly("1.1 passes on more, in other pieces")];

pub const TESTS: &[Test] = &[
    test!(listening_descriptors_of_exec).needs(&[Need::CortenOnly("1.1 gives LISTEN_PID 1")]),
    test!(listening_descriptors_without_a_pid_namespace)
        .needs(&[Need::CortenOnly("1.1 gives LISTEN_PID 1")]),
    test!(names_of_listening_descriptors).needs(&[Need::CortenOnly("1.1 drops the names")]),
    test!(ready_of_a_foreground_run).needs(NOTIFY),
    test!(ready_of_a_detached_run).needs(NOTIFY),
    test!(ready_of_create_and_start).needs(NOTIFY),
    test!(ready_from_a_user_namespace).needs(NOTIFY),
    test!(ready_to_an_abstract_socket).needs(NOTIFY),
    test!(only_ready_is_passed_on).needs(NOTIFY),
    test!(start_ends_with_a_container_that_is_never_ready).needs(NOTIFY),
    test!(start_holds_nobody_up_while_it_waits).needs(NOTIFY),
    test!(a_flood_of_ready_does_not_hold_up_the_runtime).needs(NOTIFY),
    test!(a_killed_start_can_be_repeated)
        .needs(&[Need::CortenOnly("by its system calls"), Need::Program("strace")]),
    test!(notify_socket_of_config_json_is_left_alone).needs(NOTIFY),
    test!(a_notify_socket_that_is_none_is_one_warning).needs(NOTIFY),
    test!(notify_socket_cannot_be_replaced).needs(NOTIFY),
    test!(no_notify_socket_no_mount),
    test!(caller_that_ignores_sigchld),
    test!(groups_of_the_caller_are_kept).needs(&[Need::CortenOnly("crun's annotation")]),
];

/// The runtime, from a shell that has done `before`; `$$` there is the runtime's id.
fn from_shell<'a>(t: &'a Context, before: &str, args: &str) -> Run<'a> {
    let (runtime, root) = (t.runtime.path.display(), t.state_root());
    let script = format!("{before}; exec {runtime} --root {} {args}", root.display());
    t.host("/bin/sh").args(["-euc", &script])
}

/// Activation by a file on descriptor 3.
fn activated(t: &Context) -> String {
    let file = t.path("socket");
    std::fs::write(&file, "activated").unwrap();
    format!("exec 3<{}; export LISTEN_FDS=1 LISTEN_PID=$$ LISTEN_FDNAMES=web", file.display())
}

const READ: &str = "echo $LISTEN_FDS $((LISTEN_PID - $$)) $LISTEN_FDNAMES; cat <&3";

fn listening_descriptors_of_exec(t: &Context) {
    let mut bundle = t.bundle();
    bundle.idle();
    let container = bundle.start();
    let args = format!("exec {} sh -c '{READ}'", container.id);
    assert_eq!(from_shell(t, &activated(t), &args).output().ok(), "1 0 web\nactivated");
}

fn listening_descriptors_without_a_pid_namespace(t: &Context) {
    let mut bundle = t.bundle();
    bundle.without_namespace("pid");
    // Of config.json are older ones.
    let env = bundle.config["process"]["env"].as_array_mut().unwrap();
    env.extend(["LISTEN_PID=1", "LISTEN_FDS=7"].map(|text| json!(text)));
    bundle.script(READ).write();
    let args = format!("run --bundle {} shared", bundle.dir.display());
    assert_eq!(from_shell(t, &activated(t), &args).output().ok(), "1 0 web\nactivated");
}

fn names_of_listening_descriptors(t: &Context) {
    let mut bundle = t.bundle();
    // What config.json says of another activation does not count.
    let env = bundle.config["process"]["env"].as_array_mut().unwrap();
    env.extend(["LISTEN_PID=77", "LISTEN_FDS=5", "LISTEN_FDNAMES=old"].map(|entry| json!(entry)));
    let count = "tr '\\0' '\\n' < /proc/$$/environ | grep -c ^LISTEN_";
    bundle.script(&format!("{count}; {READ}")).write();
    let args = format!("run --bundle {} named", bundle.dir.display());
    assert_eq!(from_shell(t, &activated(t), &args).output().ok(), "3\n1 0 web\nactivated");
}

/// What systemd would hear.
struct Listener {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Listener {
    fn new(t: &Context) -> Self {
        let path = t.path("systemd");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        Listener { socket, path }
    }

    fn export(&self) -> String {
        format!("export NOTIFY_SOCKET={}", self.path.display())
    }

    /// The next message; what came with it is closed, as a barrier needs it.
    #[track_caller]
    fn hears(&self) -> String {
        let mut buffer = [0; 4096];
        let length = self.socket.recv(&mut buffer).expect("a message");
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    }

    fn hears_nothing_more(&self) {
        self.socket.set_nonblocking(true).unwrap();
        assert!(self.socket.recv(&mut [0; 64]).is_err());
        self.socket.set_nonblocking(false).unwrap();
    }
}

/// A program that sends these datagrams by perl of the host, then stays; busybox cannot.
fn notifying<'a>(t: &'a Context, messages: &[&str]) -> Bundle<'a> {
    let mut bundle = t.bundle();
    for dir in ["/usr", "/lib", "/lib64"] {
        std::fs::create_dir_all(bundle.rootfs(dir)).unwrap();
        bundle.bind(dir, dir, &["rbind", "ro"]);
    }
    let script = "$SIG{TERM} = sub { exit 0 }; use Socket; my $path = $ENV{NOTIFY_SOCKET}; print \"$path\\n\"; $| = 1; \
        socket(my $s, PF_UNIX, SOCK_DGRAM, 0); \
        for (@ARGV) { send($s, $_, 0, pack_sockaddr_un($path)) // print \"$!\\n\" } \
        print \"sent\\n\"; sleep 1000";
    bundle.args([&["/usr/bin/perl", "-e", script][..], messages].concat());
    bundle
}

fn ready_of_a_foreground_run(t: &Context) {
    let systemd = Listener::new(t);
    let bundle = notifying(t, &["READY=1", "STATUS=up\nREADY=1\n"]);
    let container = bundle.named("foreground");
    let args = format!("run --bundle {} {}", bundle.dir.display(), container.id);
    let running = from_shell(t, &systemd.export(), &args).spawn();
    // The runtime stays, and is what systemd watches.
    assert_eq!(systemd.hears(), "READY=1");
    container.kill("TERM");
    running.wait().exits(0);
}

fn ready_of_a_detached_run(t: &Context) {
    let systemd = Listener::new(t);
    let bundle = notifying(t, &["READY=1"]);
    let container = bundle.named("detached");
    let args = format!("run --detach --bundle {} {}", bundle.dir.display(), container.id);
    let running = from_shell(t, &systemd.export(), &args).spawn();
    let text = systemd.hears();
    assert_eq!(text, format!("MAINPID={}\nREADY=1", container.pid()));
    // The runtime waits until we have read this.
    assert_eq!(systemd.hears(), "BARRIER=1");
    running.wait().exits(0);
    assert_eq!(container.status(), "running");
}

fn created<'a>(t: &'a Context, systemd: &Listener, bundle: &Bundle<'a>, id: &str) -> Container<'a> {
    let container = bundle.named(id);
    let args = format!("create --bundle {} {id}", bundle.dir.display());
    from_shell(t, &systemd.export(), &args).out(container.out.clone()).output().exits(0);
    container
}

fn ready_of_create_and_start(t: &Context) {
    let systemd = Listener::new(t);
    let container = created(t, &systemd, &notifying(t, &["READY=1"]), "made");
    systemd.hears_nothing_more();
    let start = from_shell(t, &systemd.export(), &format!("start {}", container.id)).spawn();
    assert_eq!(systemd.hears(), format!("MAINPID={}\nREADY=1", container.pid()));
    assert_eq!(systemd.hears(), "BARRIER=1");
    start.wait().exits(0);
    contains(&container.printed(), "/run/notify/notify.sock\nsent");
    // Of what start has not: nobody listens, and the program is not held up.
    let second = notifying(t, &["READY=1"]);
    let container = created(t, &systemd, &second, "alone");
    container.command("start").exits(0);
    container.wait_printed("sent");
}

fn ready_from_a_user_namespace(t: &Context) {
    let systemd = Listener::new(t);
    let mut bundle = notifying(t, &["READY=1"]);
    bundle.user_namespace();
    bundle.config["process"]["user"] = json!({"uid": 1000, "gid": 1000});
    for dir in ["/usr", "/lib", "/lib64"] {
        std::fs::create_dir_all(bundle.rootfs(dir)).unwrap();
    }
    let container = bundle.named("mapped");
    let args = format!("run --bundle {} {}", bundle.dir.display(), container.id);
    let running = from_shell(t, &systemd.export(), &args).spawn();
    assert_eq!(systemd.hears(), "READY=1");
    container.kill("TERM");
    running.wait().exits(0);
}

fn ready_to_an_abstract_socket(t: &Context) {
    use std::os::linux::net::SocketAddrExt;
    let name = format!("corten-test-{}", std::process::id());
    let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap();
    let socket = UnixDatagram::bind_addr(&address).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let bundle = notifying(t, &["READY=1"]);
    let container = bundle.named("abstract");
    let args = format!("run --bundle {} {}", bundle.dir.display(), container.id);
    let running = from_shell(t, &format!("export NOTIFY_SOCKET=@{name}"), &args).spawn();
    let mut buffer = [0; 64];
    let length = socket.recv(&mut buffer).unwrap();
    assert_eq!(&buffer[..length], b"READY=1");
    container.kill("TERM");
    running.wait().exits(0);
}

fn only_ready_is_passed_on(t: &Context) {
    let systemd = Listener::new(t);
    let long = format!("{}\nREADY=1", "x".repeat(5000));
    let hostile = [
        "MAINPID=1",
        "STOPPING=1",
        "FDSTORE=1",
        "READY=10",
        "xREADY=1",
        "READY=0",
        "",
        "BUSERROR=x\nERRNO=5",
        &long,
    ];
    // Without READY=1 none says anything. The runtime reads them all before it takes note of the end.
    let bundle = notifying(t, &hostile);
    let container = bundle.named("hostile");
    let args = format!("run --bundle {} {}", bundle.dir.display(), container.id);
    let command = from_shell(t, &systemd.export(), &args);
    let running = command.out(container.out.clone()).spawn();
    container.wait_printed("sent");
    container.kill("TERM");
    running.wait().exits(0);
    systemd.hears_nothing_more();

    let bundle = notifying(t, &[&hostile[..], &["MAINPID=1\nREADY=1\nNOTIFYACCESS=all"]].concat());
    let container = bundle.named("ready");
    let args = format!("run --bundle {} {}", bundle.dir.display(), container.id);
    let running = from_shell(t, &systemd.export(), &args).spawn();
    assert_eq!(systemd.hears(), "READY=1");
    container.kill("TERM");
    running.wait().exits(0);
    systemd.hears_nothing_more();
}

fn start_ends_with_a_container_that_is_never_ready(t: &Context) {
    let systemd = Listener::new(t);
    let mut bundle = t.bundle();
    bundle.script("sleep 0.3");
    let container = created(t, &systemd, &bundle, "made");
    let start = from_shell(t, &systemd.export(), &format!("start {}", container.id));
    start.output().exits(0);
    container.wait_status("stopped");
    systemd.hears_nothing_more();
    container.command("delete").exits(0);
}

fn start_holds_nobody_up_while_it_waits(t: &Context) {
    let systemd = Listener::new(t);
    let mut bundle = t.bundle();
    bundle.idle();
    let container = created(t, &systemd, &bundle, "made");
    let start = from_shell(t, &systemd.export(), &format!("start {}", container.id)).spawn();
    container.wait_status("running");
    t.runtime().args(["delete", "--force", &container.id]).seconds(5).output().exits(0);
    start.wait().exits(0);
}

/// More than a queue holds (net.unix.max_dgram_qlen), and a caller that reads none of it.
fn a_flood_of_ready_does_not_hold_up_the_runtime(t: &Context) {
    let systemd = Listener::new(t);
    let bundle = notifying(t, &["READY=1"; 1500]);
    let container = bundle.named("flood");
    let args = format!("run --bundle {} {}", bundle.dir.display(), container.id);
    let running = from_shell(t, &systemd.export(), &args).seconds(20).spawn();
    assert_eq!(systemd.hears(), "READY=1");
    std::thread::sleep(Duration::from_secs(1));
    container.kill("TERM");
    running.wait().exits(0);
    systemd.hears_nothing_more();
}

fn a_killed_start_can_be_repeated(t: &Context) {
    let systemd = Listener::new(t);
    let container = created(t, &systemd, &notifying(t, &["READY=1"]), "again");
    // The socket is there, and the gate is closed.
    let before =
        "exec /usr/bin/strace -f -qq -e trace=chmod,fchmodat -e inject=chmod,fchmodat:signal=KILL";
    let (runtime, root) = (t.runtime.path.display(), t.state_root());
    let start = format!("{before} {runtime} --root {} start {}", root.display(), container.id);
    let script = format!("{}; {start}", systemd.export());
    t.host("/bin/sh").args(["-euc", &script]).output().fails();
    assert!(root.join(&container.id).join("notify/notify.sock").exists());
    assert_eq!(container.status(), "created");
    let start = from_shell(t, &systemd.export(), &format!("start {}", container.id)).spawn();
    assert_eq!(systemd.hears(), format!("MAINPID={}\nREADY=1", container.pid()));
    assert_eq!(systemd.hears(), "BARRIER=1");
    start.wait().exits(0);
}

fn notify_socket_of_config_json_is_left_alone(t: &Context) {
    let systemd = Listener::new(t);
    let mut bundle = t.bundle();
    let env = bundle.config["process"]["env"].as_array_mut().unwrap();
    env.push(json!("NOTIFY_SOCKET=/its/own"));
    bundle.script("echo $NOTIFY_SOCKET; grep /run/notify /proc/self/mountinfo").write();
    let args = format!("run --bundle {} own", bundle.dir.display());
    assert_eq!(from_shell(t, &systemd.export(), &args).output().stdout, "/its/own\n");
}

fn a_notify_socket_that_is_none_is_one_warning(t: &Context) {
    let mut bundle = t.bundle();
    bundle.script("echo [$NOTIFY_SOCKET]").write();
    let args = format!("run --bundle {} bad", bundle.dir.display());
    let output = from_shell(t, "export NOTIFY_SOCKET=relative/path", &args).output().exits(0);
    assert_eq!(output.stdout, "[]\n");
    assert_eq!(
        output.stderr.matches("NOTIFY_SOCKET=relative/path").count(),
        1,
        "{}",
        output.stderr
    );
}

/// The directory is the host's: the container writes to the socket and to nothing else there.
fn notify_socket_cannot_be_replaced(t: &Context) {
    let systemd = Listener::new(t);
    let mut bundle = t.bundle();
    bundle.all_capabilities();
    bundle.script(
        "rm $NOTIFY_SOCKET || touch /run/notify/new || echo kept; \
         grep ' /run/notify ' /proc/self/mountinfo",
    );
    let container = bundle.named("kept");
    let args = format!("run --bundle {} {}", bundle.dir.display(), container.id);
    let output = from_shell(t, &systemd.export(), &args).output().ok();
    let (kept, mount) = output.split_once('\n').unwrap();
    assert_eq!(kept, "kept");
    contains(mount, " ro,nosuid,nodev,noexec");
}

fn no_notify_socket_no_mount(t: &Context) {
    let mut bundle = t.bundle();
    bundle.script("echo [$NOTIFY_SOCKET]; grep -c /run/notify /proc/self/mountinfo").write();
    for before in ["unset NOTIFY_SOCKET", "export NOTIFY_SOCKET="] {
        let args = format!("run --bundle {} none", bundle.dir.display());
        assert_eq!(from_shell(t, before, &args).output().stdout, "[]\n0\n");
    }
    if t.runtime.is_corten() {
        // It would be the host's /run/notify.
        bundle.without_namespace("mount");
        bundle.config["linux"]["maskedPaths"] = json!([]);
        bundle.config["linux"]["readonlyPaths"] = json!([]);
        bundle.write();
        let args = format!("run --bundle {} shared", bundle.dir.display());
        let output = from_shell(t, &Listener::new(t).export(), &args).output();
        assert_eq!(output.stdout, "[]\n0\n", "{output}");
    }
}

/// An ignored SIGCHLD stays so over execve(2), and there are no zombies to wait for then.
fn caller_that_ignores_sigchld(t: &Context) {
    let mut bundle = t.bundle();
    bundle.script("exit 7");
    bundle.config["hooks"]["createRuntime"] = json!([{"path": "/bin/true"}]);
    bundle.write();
    let args = format!("run --bundle {} ignoring", bundle.dir.display());
    from_shell(t, "trap '' CHLD", &args).seconds(20).output().exits(7);
}

fn groups_of_the_caller_are_kept(t: &Context) {
    let mut bundle = t.bundle();
    bundle.config["process"]["user"]["additionalGids"] = json!([30]);
    bundle.idle();
    let name = "run.oci.keep_original_groups";
    for (value, expected) in [("1", "7 8 9"), ("0", "30")] {
        bundle.config["annotations"] = json!({ name: value });
        let container = bundle.named(&format!("groups{value}"));
        bundle.write();
        let with_groups = |args: &[&str]| {
            let caller = t.host("/usr/bin/setpriv").args(["--groups", "7,8,9"]);
            let run = caller.arg(&t.runtime.path).arg("--root").arg(t.state_root());
            run.args(args).out(t.path("groups")).output().ok()
        };
        with_groups(&["create", "--bundle", bundle.dir.to_str().unwrap(), &container.id]);
        assert_eq!(proc_status(container.pid(), "Groups").unwrap(), expected);
        container.command("start").exits(0);
        let status = with_groups(&["exec", &container.id, "cat", "/proc/self/status"]);
        assert_eq!(status_field(&status, "Groups").unwrap(), expected);
        wait_for("its end", 10, || {
            t.runtime().args(["delete", "--force", &container.id]).output().code() == 0
        });
    }
}
