//! Root file systems made to break out: every advisory of runc, crun and youki that one machine
//! can show, over {read-only root, /dev mounted or not, terminal or not}.

use crate::harness::fds::Receiver;
use crate::harness::{Bundle, Context, Need, Test, contains, leftovers, wait_for};
use crate::test;
use serde_json::json;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

const OLD: Need = Need::CortenOnly("Debian's 1.1.5 is older than the fix");

pub const TESTS: &[Test] = &[
    test!(corpus).needs(&[OLD]).timeout(300),
    test!(proc_link_is_refused),
    test!(sys_link_is_refused),
    test!(parent_links_of_proc_are_refused_or_inside).needs(&[OLD]),
    test!(fake_proc_does_not_take_labels),
    test!(dev_null_link_does_not_unmask).needs(&[OLD]),
    test!(replaced_dev_null_does_not_give_the_hosts),
    test!(cwd_through_a_descriptor),
    test!(program_through_a_descriptor),
    test!(bind_target_link_makes_nothing_outside),
    test!(passwd_link_and_size).timeout(90),
    test!(sysctl_over_a_fake_proc_sys).needs(&[OLD]),
    test!(entry_point_proc_self_exe),
    test!(swapped_mount_target).needs(&[OLD]).timeout(120),
    test!(swapped_directories_make_nothing_outside).needs(&[OLD]).timeout(120),
    test!(shared_dev_pts_swap).needs(&[OLD]).timeout(120),
    test!(devices_through_links).needs(&[OLD]),
    test!(masks_through_links),
];

/// A directory of the host that the bundle aims at, and what it must still be afterwards.
struct Target {
    dir: PathBuf,
    before: Vec<String>,
}

impl Target {
    fn new(t: &Context) -> Target {
        let dir = t.path("target");
        std::fs::create_dir_all(dir.join("sub")).unwrap();
        for (name, text) in
            [("file", "precious"), ("ptmx", "host ptmx"), ("null", ""), ("console", "c")]
        {
            std::fs::write(dir.join(name), text).unwrap();
        }
        let before = listing(&dir);
        Target { dir, before }
    }

    #[track_caller]
    fn unchanged(&self, what: &str) {
        assert_eq!(listing(&self.dir), self.before, "{what} changed the host");
        let mounts = leftovers::mounts();
        let own = self.dir.to_str().unwrap();
        let on =
            mounts.iter().find(|mount| mount.split(' ').nth(2).is_some_and(|p| p.starts_with(own)));
        assert_eq!(on, None, "{what} mounted on the host");
    }
}

/// Name, kind, owner, mode and content of all that is below.
fn listing(dir: &Path) -> Vec<String> {
    let mut all = Vec::new();
    let mut names: Vec<_> = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    names.sort();
    for path in names {
        let meta = std::fs::symlink_metadata(&path).unwrap();
        let text = if meta.is_file() { std::fs::read(&path).unwrap() } else { Vec::new() };
        let text = String::from_utf8_lossy(&text).into_owned();
        all.push(format!(
            "{} {:o} {}:{} {text}",
            path.display(),
            meta.mode(),
            meta.uid(),
            meta.gid()
        ));
        if meta.is_dir() {
            all.extend(listing(&path));
        }
    }
    all
}

/// Replaces an entry of the root file system by a link.
fn link(bundle: &Bundle, path: &str, to: impl AsRef<Path>) {
    let path = bundle.rootfs(path);
    let _ = std::fs::remove_file(&path);
    let _ = std::fs::remove_dir_all(&path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    symlink(to, path).unwrap();
}

type Trap = (&'static str, fn(&mut Bundle, &Path));

const TRAPS: &[Trap] = &[
    // CVE-2026-41579, CVE-2026-47766
    ("/dev -> host", |b, host| link(b, "dev", host)),
    ("/dev -> ../..host", |b, host| link(b, "dev", format!("../../../../../..{}", host.display()))),
    // CVE-2026-88264
    ("/dev/console -> host file", |b, host| link(b, "dev/console", host.join("console"))),
    // CVE-2026-88265, CVE-2025-31133
    ("/dev/null -> host file", |b, host| link(b, "dev/null", host.join("file"))),
    ("/dev/null is a file", |b, _| {
        let _ = std::fs::write(b.rootfs("dev/null"), "fake");
    }),
    ("/dev/pts -> host", |b, host| link(b, "dev/pts", host)),
    ("/dev/ptmx -> host file", |b, host| link(b, "dev/ptmx", host.join("ptmx"))),
    ("/dev/shm -> host", |b, host| link(b, "dev/shm", host)),
    ("/dev/fd -> host", |b, host| link(b, "dev/fd", host)),
    ("/etc -> host", |b, host| link(b, "etc", host)),
    ("/etc/passwd -> host file", |b, host| link(b, "etc/passwd", host.join("file"))),
    // CVE-2019-18837
    ("mount point -> new host file", |b, host| {
        link(b, "mnt/point", host.join("new"));
        let source = host.join("file");
        b.bind(source, "/mnt/point", &["ro"]);
    }),
    ("mount point below a link", |b, host| {
        link(b, "mnt/way", host);
        b.mount("/mnt/way/new/dir", "tmpfs", "tmpfs", &[]);
    }),
    ("cwd -> host", |b, host| {
        link(b, "work", host);
        b.config["process"]["cwd"] = json!("/work/new");
    }),
    ("masked path -> host", |b, host| {
        link(b, "mask", host.join("file"));
        b.config["linux"]["maskedPaths"] = json!(["/mask"]);
    }),
    ("read-only path -> host", |b, host| {
        link(b, "fixed", host.join("sub"));
        b.config["linux"]["readonlyPaths"] = json!(["/fixed"]);
    }),
    ("device -> host", |b, host| {
        link(b, "opt", host);
        b.config["linux"]["devices"] =
            json!([{"path": "/opt/zero", "type": "c", "major": 1, "minor": 5, "fileMode": 0o666}]);
    }),
    ("/sys/fs -> host", |b, host| {
        link(b, "sys/fs/cgroup", host);
        b.mount("/sys/fs/cgroup", "cgroup", "cgroup", &["ro"]);
    }),
];

/// Whether it starts or is refused does not matter: the host must be as before.
fn corpus(t: &Context) {
    for (name, trap) in TRAPS {
        for combination in 0..8 {
            let (readonly, no_dev, terminal) =
                (combination & 1 != 0, combination & 2 != 0, combination & 4 != 0);
            let target = Target::new(t);
            let mut bundle = t.bundle();
            bundle.script("echo inside > /dev/console; echo x > /dev/null; touch /work/x /etc/x; ls /proc/self/fd; true");
            bundle.config["root"]["readonly"] = json!(readonly);
            bundle.config["process"]["terminal"] = json!(terminal);
            if no_dev {
                for destination in ["/dev", "/dev/pts", "/dev/shm", "/dev/mqueue"] {
                    bundle.without_mount(destination);
                }
            }
            trap(&mut bundle, &target.dir);
            let what =
                format!("{name}, readonly {readonly}, no /dev {no_dev}, terminal {terminal}");
            attempt(t, &bundle, terminal);
            target.unchanged(&what);
            let _ = std::fs::remove_dir_all(&bundle.dir);
        }
    }
}

/// Runs the bundle as far as it goes.
fn attempt(t: &Context, bundle: &Bundle, terminal: bool) {
    let container = bundle.named(&format!("trap{}", t.next()));
    if terminal {
        let socket = t.path("sock");
        let _receiver = Receiver::bind(&socket);
        if container.create(&["--console-socket", socket.to_str().unwrap()]).code() == 0 {
            container.command("start");
        }
    } else if container.create(&[]).code() == 0 {
        container.command("start");
    }
    // The program writes to what it was led to: give it the time.
    if container.command("state").code() == 0 && container.status() != "created" {
        wait_for("the end of the program", 10, || container.status() == "stopped");
    }
}

/// CVE-2019-19921, CVE-2023-27561, CVE-2025-54867.
fn proc_link_is_refused(t: &Context) {
    let mut bundle = t.bundle();
    std::fs::create_dir_all(bundle.rootfs("evil/self/attr")).unwrap();
    link(&bundle, "proc", "/evil");
    bundle.script("echo started");
    contains(&bundle.run().fails(), "/proc");
}

fn sys_link_is_refused(t: &Context) {
    let bundle = t.bundle();
    std::fs::create_dir(bundle.rootfs("evil")).unwrap();
    link(&bundle, "sys", "evil");
    contains(&bundle.run().fails(), "/sys");
}

fn parent_links_of_proc_are_refused_or_inside(t: &Context) {
    let target = Target::new(t);
    let mut bundle = t.bundle();
    link(&bundle, "way", &target.dir);
    bundle.without_mount("/proc");
    let mounts = bundle.config["mounts"].as_array_mut().unwrap();
    mounts.insert(0, json!({"destination": "/way/../proc", "type": "proc", "source": "proc"}));
    bundle.run();
    target.unchanged("proc below a link");
}

/// CVE-2019-16884: a label written to a fake file is no label. Without AppArmor any label must be
/// refused all the same.
fn fake_proc_does_not_take_labels(t: &Context) {
    let fake = t.path("fake");
    std::fs::create_dir_all(fake.join("self/attr")).unwrap();
    std::fs::create_dir_all(fake.join("thread-self/attr")).unwrap();
    for file in ["self/attr/exec", "thread-self/attr/exec", "self/attr/current"] {
        std::fs::write(fake.join(file), "").unwrap();
    }
    let mut bundle = t.bundle();
    bundle.without_mount("/proc");
    bundle.bind(&fake, "/proc", &[]);
    bundle.config["linux"]["maskedPaths"] = json!([]);
    bundle.config["linux"]["readonlyPaths"] = json!([]);
    bundle.config["process"]["apparmorProfile"] = json!("some-profile");
    bundle.script("echo started without its label");
    let output = bundle.run();
    assert_ne!(output.code(), 0, "{output}");
    assert!(!output.stdout.contains("started"), "{output}");
}

/// CVE-2025-31133: masking binds /dev/null; when that is a link, what it leads to would be writable
/// under another name. The file here is the container's own host name: harmless where it works.
fn dev_null_link_does_not_unmask(t: &Context) {
    let mut bundle = t.bundle();
    for destination in ["/dev", "/dev/pts", "/dev/shm", "/dev/mqueue"] {
        bundle.without_mount(destination);
    }
    link(&bundle, "dev/null", "/proc/sys/kernel/hostname");
    bundle.config["linux"]["maskedPaths"] = json!(["/proc/kcore"]);
    bundle.script("cat /proc/kcore; echo overwritten > /proc/kcore; hostname");
    let output = bundle.run();
    // Refused, or masked by the real /dev/null.
    assert!(output.code() != 0 && output.stdout.is_empty() || output.stdout == "box\n", "{output}");
}

/// CVE-2024-21626.
/// Root inside could change the mode of the host's /dev/null through a descriptor.
fn replaced_dev_null_does_not_give_the_hosts(t: &Context) {
    let mut bundle = t.bundle();
    bundle.script("rm /dev/null; echo fake > /dev/null; echo done; sleep 100");
    let container = bundle.start();
    container.wait_printed("done");
    let script = "stat -L -c '%t:%T %d' /proc/self/fd/0; cat";
    let printed = t.runtime().args(["exec", &container.id, "sh", "-c", script]).output().ok();
    let host = std::fs::metadata("/dev/null").unwrap().dev();
    let (device, filesystem) = printed.trim().split_once(' ').expect(&printed);
    assert_ne!(filesystem, host.to_string(), "the host's /dev/null");
    // A pipe will do, too.
    assert!(["1:3", "0:0"].contains(&device), "{printed}");
}

fn cwd_through_a_descriptor(t: &Context) {
    for fd in 3..33 {
        let mut bundle = t.bundle();
        bundle.config["process"]["cwd"] = json!(format!("/proc/self/fd/{fd}"));
        bundle.script("ls ../../../../../../../etc/debian_version && echo escaped");
        bundle.write();
        let script = format!(
            "exec 3</ 4</etc 5</ 6</ 7</ 8</ 9</; {} --root {} run --bundle {} cwd{fd} 2>/dev/null || true",
            t.runtime.path.display(),
            t.state_root().display(),
            bundle.dir.display()
        );
        let output = t.sh(&script);
        assert!(!output.contains("escaped"), "through descriptor {fd}");
        let _ = std::fs::remove_dir_all(&bundle.dir);
    }
}

/// CVE-2024-21626 by the program's path: with CAP_SYS_PTRACE the runtime's own /proc would lead to
/// the root of every process of the host.
fn program_through_a_descriptor(t: &Context) {
    let mut bundle = t.bundle();
    bundle.all_capabilities();
    std::fs::create_dir(bundle.rootfs("/escape")).unwrap();
    let host = std::process::id();
    for fd in 3..32 {
        let _ = std::fs::remove_file(bundle.rootfs("/escape/echo"));
        let path = format!("proc/self/fd/{fd}/{host}/root/bin/busybox");
        link(&bundle, "escape/echo", Path::new("/").join(path));
        bundle.args(["/escape/echo", "from", "outside"]);
        let output = bundle.run();
        assert!(!output.stdout.contains("from outside"), "descriptor {fd}: {output}");
    }
}

fn bind_target_link_makes_nothing_outside(t: &Context) {
    let target = Target::new(t);
    let mut bundle = t.bundle();
    link(&bundle, "etc/resolv.conf", target.dir.join("made"));
    bundle.bind("/etc/hostname", "/etc/resolv.conf", &["ro"]);
    bundle.script("cat /etc/resolv.conf");
    bundle.run();
    target.unchanged("a bind target");
}

/// CVE-2026-47262: the files of the image are as long as the image likes.
fn passwd_link_and_size(t: &Context) {
    let mut bundle = t.bundle();
    std::fs::remove_file(bundle.rootfs("etc/passwd")).unwrap();
    let file = std::fs::File::create(bundle.rootfs("etc/passwd")).unwrap();
    file.set_len(64 << 30).unwrap();
    bundle.script("echo started");
    let started = std::time::Instant::now();
    if t.runtime.is_corten() {
        assert_eq!(bundle.run().ok(), "started");
        assert!(started.elapsed().as_secs() < 10, "read all of it");
        std::fs::remove_file(bundle.rootfs("etc/passwd")).unwrap();
        t.sh(&format!("mkfifo {}", bundle.rootfs("etc/passwd").display()));
        assert_eq!(bundle.run().ok(), "started", "a FIFO must not hold it");
    }
}

/// CVE-2025-52881: what the runtime writes must go to the real /proc.
fn sysctl_over_a_fake_proc_sys(t: &Context) {
    let fake = t.path("fake");
    std::fs::create_dir_all(fake.join("net/ipv4")).unwrap();
    std::fs::write(fake.join("net/ipv4/ip_forward"), "fake").unwrap();
    let mut bundle = t.bundle();
    bundle.bind(&fake, "/proc/sys", &[]);
    bundle.config["linux"]["sysctl"] = json!({"net.ipv4.ip_forward": "1"});
    bundle.config["linux"]["readonlyPaths"] = json!([]);
    bundle.script("umount /proc/sys 2>/dev/null; cat /proc/sys/net/ipv4/ip_forward");
    bundle.run();
    assert_eq!(std::fs::read_to_string(fake.join("net/ipv4/ip_forward")).unwrap(), "fake");
}

fn entry_point_proc_self_exe(t: &Context) {
    let copy = t.path("runtime");
    t.sh(&format!("cp {} {}", t.runtime.path.display(), copy.display()));
    let before = std::fs::read(&copy).unwrap();
    let mut bundle = t.bundle();
    bundle.all_capabilities();
    bundle.args(["/proc/self/exe", "--version"]);
    bundle.write();
    let dir = bundle.dir.to_str().unwrap();
    t.host(&copy).arg("--root").arg(t.state_root()).args(["run", "--bundle", dir, "self"]).output();
    t.host(&copy).arg("--root").arg(t.state_root()).args(["delete", "--force", "self"]).output();
    assert!(std::fs::read(&copy).unwrap() == before);
}

/// Exchanges two paths as fast as it can until told to stop.
fn racer(a: PathBuf, b: PathBuf, stop: &AtomicBool) {
    use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
    while !stop.load(Ordering::Relaxed) {
        let _ = renameat2(AT_FDCWD, &a, AT_FDCWD, &b, RenameFlags::RENAME_EXCHANGE);
    }
}

/// Runs the bundle a hundred times while `a` and `b` change places.
fn race(bundle: &Bundle, a: PathBuf, b: PathBuf, mut check: impl FnMut()) {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let stop = &stop;
        scope.spawn(move || racer(a, b, stop));
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for _ in 0..100 {
                bundle.run();
                check();
            }
        }));
        stop.store(true, Ordering::Relaxed);
        if let Err(panic) = result {
            std::panic::resume_unwind(panic);
        }
    });
}

/// CVE-2021-30465: a directory of a shared volume is exchanged for a link while it is mounted on.
fn swapped_mount_target(t: &Context) {
    let target = Target::new(t);
    let volume = t.path("volume");
    std::fs::create_dir_all(volume.join("point")).unwrap();
    symlink(&target.dir, volume.join("trap")).unwrap();
    let mut bundle = t.bundle();
    bundle.bind(&volume, "/mnt", &[]);
    bundle.mount("/mnt/point", "tmpfs", "tmpfs", &[]);
    bundle.bind("/etc", "/mnt/point", &["ro"]);
    race(&bundle, volume.join("point"), volume.join("trap"), || target.unchanged("the race"));
}

/// CVE-2024-45310.
fn swapped_directories_make_nothing_outside(t: &Context) {
    let target = Target::new(t);
    let volume = t.path("volume");
    std::fs::create_dir_all(volume.join("dir")).unwrap();
    symlink(&target.dir, volume.join("trap")).unwrap();
    let mut bundle = t.bundle();
    bundle.bind(&volume, "/mnt", &[]);
    bundle.mount("/mnt/dir/a/b/c", "tmpfs", "tmpfs", &[]);
    bundle.bind("/etc/hostname", "/mnt/dir/x/y/file", &[]);
    bundle.config["linux"]["devices"] =
        json!([{"path": "/mnt/dir/d/zero", "type": "c", "major": 1, "minor": 5}]);
    race(&bundle, volume.join("dir"), volume.join("trap"), || target.unchanged("the race"));
}

/// CVE-2025-52565: /dev/console must be the terminal, whatever /dev/pts/0 has become.
fn shared_dev_pts_swap(t: &Context) {
    let target = Target::new(t);
    let dev = t.path("dev");
    std::fs::create_dir_all(dev.join("pts")).unwrap();
    std::fs::write(dev.join("console"), "").unwrap();
    symlink(target.dir.join("file"), dev.join("trap")).unwrap();
    t.sh(&format!("mknod -m 666 {}/null c 1 3", dev.display()));
    let mut bundle = t.bundle();
    for destination in ["/dev/shm", "/dev/mqueue"] {
        bundle.without_mount(destination);
    }
    bundle.config["mounts"][1] =
        json!({"destination": "/dev", "type": "bind", "source": dev, "options": ["bind"]});
    bundle.config["process"]["terminal"] = json!(true);
    bundle.script("echo overwritten > /dev/console");
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (stop, console, trap) = (&stop, dev.join("console"), dev.join("trap"));
        scope.spawn(move || racer(console, trap, stop));
        for _ in 0..40 {
            attempt(t, &bundle, true);
        }
        stop.store(true, Ordering::Relaxed);
    });
    target.unchanged("the race for /dev/console");
}

fn devices_through_links(t: &Context) {
    let target = Target::new(t);
    let mut bundle = t.bundle();
    for destination in ["/dev", "/dev/pts", "/dev/shm", "/dev/mqueue"] {
        bundle.without_mount(destination);
    }
    link(&bundle, "dev", &target.dir);
    bundle.config["linux"]["devices"] =
        json!([{"path": "/dev/sub/new", "type": "c", "major": 1, "minor": 5}]);
    bundle.run();
    target.unchanged("a device");
}

fn masks_through_links(t: &Context) {
    let target = Target::new(t);
    let mut bundle = t.bundle();
    link(&bundle, "a", &target.dir);
    link(&bundle, "b", target.dir.join("file"));
    bundle.config["linux"]["maskedPaths"] = json!(["/a", "/b", "/a/sub"]);
    bundle.config["linux"]["readonlyPaths"] = json!(["/a/sub", "/b"]);
    bundle.run();
    target.unchanged("a mask");
}
