//! The root filesystem for real, in the namespaces that unshare(1) makes: each test starts this
//! program again as the child and reads what the child saw. Needs root and busybox-static; says
//! so and passes over where it has them not.

use std::fs;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use corten::error::{Error, render_line};
use corten::plan::mounts::{CgroupMount, InsidePath, RootfsPlan};
use corten::rootfs;
use serde_json::{Value, json};

const BUNDLE: &str = "CORTEN_TEST_BUNDLE";
const NO_PIVOT: &str = "CORTEN_TEST_NO_PIVOT";
const ONLY_V2: &str = "CORTEN_TEST_ONLY_V2";
const CONSOLE: &str = "CORTEN_TEST_CONSOLE";
const PRIVILEGED: &[&str] = &["-m", "-p", "-f", "-i", "-n", "-u", "--propagation", "unchanged"];
const ROOTLESS: &[&str] = &["-U", "-r", "-m", "-p", "-f", "-i", "-n", "-u"];

/// A bundle with a root that has busybox and empty directories.
struct Bundle {
    dir: tempfile::TempDir,
    config: Value,
}

/// What the child saw.
#[derive(Debug)]
struct Seen {
    mounts: Vec<Mount>,
    host_mounts: Vec<PathBuf>,
    /// Of every `look` path: "dir", "file TEXT", "char 1:3 MODE", "link TARGET", "missing".
    looks: Value,
    /// The host's /proc is still mounted in the namespace.
    host_proc: bool,
}

/// A line of mountinfo without what differs from run to run.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Mount {
    point: String,
    root: String,
    options: String,
    /// "shared", "slave", "shared slave" or "".
    propagation: String,
    fs_type: String,
    source: String,
    superblock: String,
}

fn mountinfo(text: &str) -> Vec<Mount> {
    let line = |line: &str| {
        let (mount, fs) = line.split_once(" - ").unwrap();
        let mount: Vec<_> = mount.split(' ').collect();
        let fs: Vec<_> = fs.split(' ').collect();
        Mount {
            point: mount[4].into(),
            root: mount[3].into(),
            options: mount[5].into(),
            propagation: {
                let has = |tag: &str| mount[6..].iter().any(|field| field.starts_with(tag));
                let names = [("shared:", "shared"), ("master:", "slave")];
                let found: Vec<_> = names.iter().filter(|n| has(n.0)).map(|n| n.1).collect();
                found.join(" ")
            },
            fs_type: fs[0].into(),
            source: fs[1].into(),
            superblock: fs[2].into(),
        }
    };
    text.lines().filter(|l| l.contains(" - ")).map(line).collect()
}

impl Bundle {
    fn new(mounts: Value) -> Self {
        let dir = tempfile::Builder::new().prefix("corten-rootfs-").tempdir().unwrap();
        let root = dir.path().join("rootfs");
        for name in ["bin", "proc", "sys", "dev", "etc", "data"] {
            fs::create_dir_all(root.join(name)).unwrap();
        }
        fs::copy("/bin/busybox", root.join("bin/busybox")).unwrap();
        let config = json!({
            "ociVersion": "1.0.2",
            "root": {"path": "rootfs"},
            "process": {"user": {"uid": 0, "gid": 0}, "args": ["x"], "cwd": "/"},
            "mounts": mounts,
            "linux": {"namespaces": [{"type": "mount"}]},
        });
        Bundle { dir, config }
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("rootfs")
    }

    /// Runs prepare to finish in a child; `looks` are paths in the container to report on.
    fn run(&self, namespaces: &[&str], looks: &[&str]) -> Result<Seen, String> {
        self.run_with(namespaces, looks, "")
    }

    /// As [`Bundle::run`], with one of the environment variables set that `child` knows.
    fn run_with(&self, flags: &[&str], looks: &[&str], variable: &str) -> Result<Seen, String> {
        let path = self.dir.path();
        fs::write(path.join("config.json"), self.config.to_string()).unwrap();
        fs::write(path.join("looks"), json!(looks).to_string()).unwrap();
        let mut command = Command::new("unshare");
        command.args(flags).arg("--").arg(std::env::current_exe().unwrap());
        command.args(["--exact", "child", "--nocapture"]).env(BUNDLE, path);
        if !variable.is_empty() {
            command.env(variable, "1");
        }
        let output = command.output().unwrap();
        let report = fs::read_to_string(path.join("report"))
            .unwrap_or_else(|e| panic!("no report ({e}): {output:?}"));
        fs::remove_file(path.join("report")).unwrap();
        let report: Value = serde_json::from_str(&report).unwrap();
        match report["error"].as_str() {
            Some(error) => Err(error.into()),
            None => Ok(Seen {
                mounts: mountinfo(report["mountinfo"].as_str().unwrap()),
                host_mounts: serde_json::from_value(report["hostMounts"].clone()).unwrap(),
                looks: report["looks"].clone(),
                host_proc: report["hostProc"] == true,
            }),
        }
    }
}

impl Seen {
    fn mount(&self, point: &str) -> &Mount {
        self.mounts
            .iter()
            .rfind(|m| m.point == point)
            .unwrap_or_else(|| panic!("{point}: {self:?}"))
    }
}

/// True where the tests of this file can run; says why not.
fn can_run() -> bool {
    let able = nix::unistd::geteuid().is_root() && Path::new("/bin/busybox").exists();
    if !able {
        eprintln!("skipped: needs root and /bin/busybox");
    }
    able
}

/// The other side of every test here.
#[test]
fn child() {
    let Some(bundle) = std::env::var_os(BUNDLE).map(PathBuf::from) else { return };
    let mut file = fs::File::create(bundle.join("report")).unwrap();
    let report = match act(&bundle) {
        Ok(report) => report,
        Err(error) => json!({"error": render_line(&error)}),
    };
    file.write_all(report.to_string().as_bytes()).unwrap();
}

fn act(bundle: &Path) -> Result<Value, Error> {
    let spec = serde_json::from_slice(&fs::read(bundle.join("config.json"))?)?;
    let looks: Vec<String> = serde_json::from_slice(&fs::read(bundle.join("looks"))?)?;
    let plan = RootfsPlan::build(&spec, bundle, std::env::var_os(NO_PIVOT).is_some())?;
    let cgroups = host_cgroups();
    let mut mounted = rootfs::prepare(&plan)?.mount_all(&plan, &cgroups)?;
    let host_mounts = mounted.host_mounts().to_vec();
    let host_proc = fs::OpenOptions::new().read(true).open("/proc")?;
    mounted.pivot(&plan)?;
    // A terminal of the container's own devpts.
    let tty = std::env::var_os(CONSOLE).map(|_| nix::pty::openpty(None, None)).transpose()?;
    if let Some(tty) = &tty {
        let path = InsidePath::new("/dev/console", "test")?;
        rootfs::bind_tty_over(mounted.root(), tty.slave.as_fd(), &path)?;
    }
    mounted.finish(&plan)?;
    let looks: serde_json::Map<_, _> =
        looks.into_iter().map(|path| (path.clone(), json!(look(Path::new(&path))))).collect();
    let mountinfo = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    // A mount can be copied as long as it is in this namespace, be it out of reach.
    let host_proc = corten::sys::mount::open_tree_clone(host_proc.as_fd(), c"", false).is_ok();
    Ok(
        json!({"hostProc": host_proc, "mountinfo": mountinfo, "hostMounts": host_mounts, "looks": looks}),
    )
}

/// The hierarchies of this machine, each with its top as the container's directory.
fn host_cgroups() -> Vec<CgroupMount> {
    mountinfo(&fs::read_to_string("/proc/self/mountinfo").unwrap())
        .into_iter()
        .filter(|mount| mount.fs_type.starts_with("cgroup"))
        .filter(|mount| mount.fs_type == "cgroup2" || std::env::var_os(ONLY_V2).is_none())
        .map(|mount| {
            let name = mount.point.rsplit('/').next().unwrap();
            CgroupMount {
                name: name.into(),
                options: if name == "systemd" { "none,name=systemd".into() } else { name.into() },
                mountpoint: mount.point.clone().into(),
                host_dir: mount.point.into(),
                is_v2: mount.fs_type == "cgroup2",
            }
        })
        .collect()
}

fn look(path: &Path) -> String {
    let Ok(meta) = fs::symlink_metadata(path) else { return "missing".into() };
    let kind = meta.file_type();
    if kind.is_symlink() {
        return format!("link {}", fs::read_link(path).unwrap().display());
    }
    if kind.is_dir() {
        let count = fs::read_dir(path).map_or(0, Iterator::count);
        return format!("dir of {count}, mode {:o}", meta.mode() & 0o7777);
    }
    if kind.is_char_device() || kind.is_block_device() {
        let (major, minor) = (libc_major(meta.rdev()), libc_minor(meta.rdev()));
        let (uid, gid) = (meta.uid(), meta.gid());
        return format!("device {major}:{minor}, mode {:o}, {uid}:{gid}", meta.mode() & 0o7777);
    }
    if kind.is_fifo() {
        return format!("fifo, mode {:o}", meta.mode() & 0o7777);
    }
    let writable = fs::OpenOptions::new().append(true).open(path).is_ok();
    let text = fs::read_to_string(path).unwrap_or_default();
    format!("file {text:?}, {}", if writable { "writable" } else { "read-only" })
}

fn libc_major(device: u64) -> u64 {
    nix::sys::stat::major(device)
}

fn libc_minor(device: u64) -> u64 {
    nix::sys::stat::minor(device)
}

/// `runc spec`, with what it takes to compare.
fn runc_spec(dir: &Path) -> Value {
    assert!(Command::new("runc").arg("spec").current_dir(dir).status().unwrap().success());
    let mut config: Value =
        serde_json::from_slice(&fs::read(dir.join("config.json")).unwrap()).unwrap();
    config["process"]["terminal"] = json!(false);
    config["process"]["args"] = json!(["/bin/busybox", "cat", "/proc/self/mountinfo"]);
    config
}

/// What a container of runc sees; `wrapper` goes before its command line.
fn runc_mounts(bundle: &Bundle, wrapper: &[&str]) -> Vec<Mount> {
    fs::write(bundle.dir.path().join("config.json"), bundle.config.to_string()).unwrap();
    let id = bundle.dir.path().file_name().unwrap().to_str().unwrap();
    let mut words = wrapper.iter().copied().chain(["runc", "run", id]);
    let mut command = Command::new(words.next().unwrap());
    let output = command.args(words).current_dir(bundle.dir.path()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    mountinfo(&String::from_utf8(output.stdout).unwrap())
}

#[test]
fn propagation_is_that_of_runc() {
    if !can_run() {
        return;
    }
    let mut bundle = Bundle::new(json!([]));
    bundle.config = runc_spec(bundle.dir.path());
    bundle.config["mounts"] = json!([
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/default", "source": "/proc", "options": ["rbind"]},
        {"destination": "/slave", "source": "/proc", "options": ["rbind", "rslave"]},
        {"destination": "/shared", "source": "/proc", "options": ["rbind", "rshared"]},
        {"destination": "/private", "source": "/proc", "options": ["rbind", "rprivate"]},
        {"destination": "/tmpfs", "type": "tmpfs", "source": "x", "options": ["shared"]},
    ]);
    bundle.config["linux"].as_object_mut().unwrap().remove("maskedPaths");
    bundle.config["linux"].as_object_mut().unwrap().remove("readonlyPaths");
    // A namespace with shared mounts, which the shell keeps alive, stands in for the host.
    let mut flags = vec!["-m", "--propagation", "shared", "--", "sh", "-c", "\"$@\"; exit $?"];
    flags.extend(["sh", "unshare"]);
    flags.extend(PRIVILEGED);
    // The root's own mount as since runc 1.2: private unless slave or shared is asked for.
    let roots = [("", ""), ("rslave", "slave"), ("rprivate", "")];
    for (word, root) in roots {
        bundle.config["linux"]["rootfsPropagation"] = json!(word);
        let runc = runc_mounts(&bundle, &["unshare", "-m", "--propagation", "shared"]);
        let seen = bundle.run(&flags, &[]).unwrap();
        assert_eq!(seen.mount("/").propagation, root, "rootfsPropagation {word:?}");
        let points = |mounts: Vec<Mount>| -> Vec<_> {
            let below = mounts.into_iter().filter(|m| m.point != "/");
            let mut points: Vec<_> = below.map(|m| (m.point, m.propagation)).collect();
            points.sort();
            points
        };
        assert_eq!(points(seen.mounts), points(runc), "rootfsPropagation {word:?}");
    }
    // Since runc 1.2 this is for all that is mounted by the time of the pivot.
    bundle.config["linux"]["rootfsPropagation"] = json!("rshared");
    let seen = bundle.run(&flags, &[]).unwrap();
    assert!(seen.mounts.iter().all(|m| m.propagation.starts_with("shared")), "{seen:?}");
}

#[test]
fn the_default_mounts_are_those_of_runc() {
    if !can_run() {
        return;
    }
    let mut bundle = Bundle::new(json!([]));
    bundle.config = runc_spec(bundle.dir.path());
    let runc = runc_mounts(&bundle, &[]);
    let seen = bundle.run(PRIVILEGED, &["/dev", "/dev/ptmx", "/dev/fd", "/dev/full"]).unwrap();
    // runc has made cgroups of its own; here the container's are the top ones.
    let comparable = |mut mounts: Vec<Mount>| {
        for mount in mounts.iter_mut().filter(|m| m.fs_type == "cgroup") {
            mount.root.clear();
        }
        // runc 1.1 covers each masked directory with a new tmpfs, later ones share one; its
        // limits are not in 1.1.
        for mount in
            mounts.iter_mut().filter(|m| m.fs_type == "tmpfs" && m.options.starts_with("ro"))
        {
            mount.superblock = mount.superblock.split(',').next().unwrap().into();
        }
        mounts
    };
    assert!(runc.len() > 10, "{runc:?}");
    assert_eq!(comparable(seen.mounts), comparable(runc));
    assert_eq!(seen.looks["/dev/ptmx"], "link pts/ptmx");
    assert_eq!(seen.looks["/dev/fd"], "link /proc/self/fd");
    assert_eq!(seen.looks["/dev/full"], "device 1:7, mode 666, 0:0");
}

#[test]
fn a_user_namespace_binds_the_devices() {
    if !can_run() {
        return;
    }
    let mut bundle = Bundle::new(json!([
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
        {"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["newinstance", "ptmxmode=0666"]},
        {"destination": "/sys", "type": "none", "source": "/sys", "options": ["rbind", "nosuid", "ro"]},
        {"destination": "/data", "source": "rootfs/etc", "options": ["bind", "ro"]},
    ]));
    bundle.config["linux"]["namespaces"] = json!([{"type": "mount"}, {"type": "user"}]);
    bundle.config["linux"]["maskedPaths"] = json!(["/proc/keys", "/proc/acpi", "/nothing"]);
    bundle.config["linux"]["readonlyPaths"] = json!(["/proc/sys"]);
    let looks = ["/dev/null", "/dev/tty", "/proc/acpi", "/dev/pts/ptmx"];
    let seen = bundle.run(ROOTLESS, &looks).unwrap();
    assert_eq!(seen.mount("/dev/null").root, "/null");
    assert!(seen.looks["/dev/null"].as_str().unwrap().starts_with("device 1:3"));
    assert!(seen.looks["/dev/tty"].as_str().unwrap().starts_with("device 5:0"));
    assert!(seen.mount("/sys").options.starts_with("ro,nosuid"));
    assert!(seen.mount("/data").options.starts_with("ro,"));
    assert!(seen.mount("/proc/sys").options.starts_with("ro,"));
    assert_eq!(seen.mount("/proc/keys").root, "/null");
}

#[test]
fn binds_of_files_directories_and_trees() {
    if !can_run() {
        return;
    }
    let mut bundle = Bundle::new(json!([
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/run", "type": "tmpfs", "source": "tmpfs", "options": ["ro", "size=64k"]},
        {"destination": "/run/file", "source": "file", "options": ["bind", "ro"]},
        {"destination": "/tree", "source": "tree", "options": ["rbind", "rro"]},
        {"destination": "/alone", "source": "tree", "options": ["bind", "noatime", "nodev"]},
        {"destination": "/link", "source": "tree", "options": ["bind"]},
    ]));
    let dir = bundle.dir.path().to_owned();
    fs::write(dir.join("file"), "text").unwrap();
    fs::create_dir_all(dir.join("tree/below")).unwrap();
    fs::write(dir.join("tree/top"), "top").unwrap();
    // Inside, this is /data: a link of the image must not lead to the host's.
    symlink("/data/made", bundle.root().join("link")).unwrap();
    fs::create_dir(bundle.root().join("data/made")).unwrap();
    bundle.config["root"]["readonly"] = json!(true);
    bundle.config["process"]["cwd"] = json!("/work/dir");
    let looks =
        ["/run/file", "/tree/top", "/alone/top", "/data/made/top", "/work/dir", "/run", "/etc"];
    let seen = bundle.run(PRIVILEGED, &looks).unwrap();
    assert_eq!(seen.looks["/run/file"], "file \"text\", read-only");
    assert_eq!(seen.looks["/tree/top"], "file \"top\", read-only");
    assert_eq!(seen.looks["/alone/top"], "file \"top\", writable");
    assert_eq!(seen.looks["/data/made/top"], "file \"top\", writable");
    assert_eq!(seen.looks["/work/dir"], "dir of 0, mode 755");
    assert_eq!(seen.mount("/alone").options, "rw,nodev,noatime");
    assert!(seen.mount("/").options.starts_with("ro,"));
    // Read-only as a mount, not as a file system: runc remounts it.
    assert_eq!(seen.mount("/run").options, "ro,relatime");
    assert_eq!(seen.mount("/run").superblock, "rw,size=64k");
}

#[test]
fn options_longer_than_fsconfig_takes() {
    if !can_run() {
        return;
    }
    let long = "x".repeat(200);
    let mut bundle = Bundle::new(json!([
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/data", "type": "overlay", "source": "overlay",
         "options": ["nosuid", "rshared"]},
    ]));
    let dir = bundle.dir.path().join(&long);
    fs::create_dir_all(dir.join("a")).unwrap();
    fs::create_dir_all(dir.join("b")).unwrap();
    fs::write(dir.join("a/one"), "1").unwrap();
    let lower = format!("lowerdir={0}/a:{0}/b", dir.display());
    bundle.config["mounts"][1]["options"].as_array_mut().unwrap().push(json!(lower));
    let seen = bundle.run(PRIVILEGED, &["/data/one"]).unwrap();
    assert_eq!(seen.looks["/data/one"], "file \"1\", read-only");
    assert_eq!(seen.mount("/data").options, "rw,nosuid,relatime");
}

#[test]
fn devices_are_as_asked() {
    if !can_run() {
        return;
    }
    let mut bundle = Bundle::new(json!([]));
    bundle.config["linux"]["devices"] = json!([
        {"path": "/dev/sub/zero", "type": "c", "major": 1, "minor": 5, "fileMode": 0o622, "uid": 3, "gid": 4},
        {"path": "/dev/pipe", "type": "p", "fileMode": 0o600},
    ]);
    let looks = ["/dev/sub/zero", "/dev/pipe", "/dev/null"];
    // Twice: what exists and is the device is left.
    for _ in 0..2 {
        let seen = bundle.run(PRIVILEGED, &looks).unwrap();
        assert_eq!(seen.looks["/dev/sub/zero"], "device 1:5, mode 622, 3:4");
        assert_eq!(seen.looks["/dev/pipe"], "fifo, mode 600");
        assert_eq!(seen.looks["/dev/null"], "device 1:3, mode 666, 0:0");
    }
    fs::remove_file(bundle.root().join("dev/pipe")).unwrap();
    fs::write(bundle.root().join("dev/pipe"), "").unwrap();
    let error = bundle.run(PRIVILEGED, &[]).unwrap_err();
    assert_eq!(error, "cannot make the device /dev/pipe: /dev/pipe exists and is not a FIFO");
}

#[test]
fn hostile_roots() {
    if !can_run() {
        return;
    }
    // CVE-2019-19921: /proc is a link.
    let bundle = Bundle::new(json!([{"destination": "/proc", "type": "proc", "source": "proc"}]));
    fs::remove_dir(bundle.root().join("proc")).unwrap();
    symlink("/data", bundle.root().join("proc")).unwrap();
    let error = bundle.run(PRIVILEGED, &[]).unwrap_err();
    assert!(error.contains("filesystem \"proc\" must be mounted on ordinary directory"), "{error}");
    assert!(error.contains("cannot mount proc on /proc (mounts[0])"), "{error}");

    // CVE-2026-41579: /dev is a link to a directory of the host.
    let bundle = Bundle::new(json!([]));
    let victim = bundle.dir.path().join("victim");
    fs::create_dir(&victim).unwrap();
    fs::write(victim.join("ptmx"), "host").unwrap();
    fs::remove_dir(bundle.root().join("dev")).unwrap();
    symlink(&victim, bundle.root().join("dev")).unwrap();
    // Its target is made inside the root, as where any link dangles.
    bundle.run(PRIVILEGED, &[]).unwrap();
    let inside = bundle.root().join(victim.strip_prefix("/").unwrap());
    assert!(fs::symlink_metadata(inside.join("ptmx")).unwrap().is_symlink());
    assert_eq!(fs::read_to_string(victim.join("ptmx")).unwrap(), "host");
    assert_eq!(fs::read_dir(&victim).unwrap().count(), 1);

    // CVE-2025-31133: /dev/null is something else.
    let mut bundle = Bundle::new(json!([]));
    fs::write(bundle.root().join("etc/decoy"), "decoy").unwrap();
    symlink("/etc/decoy", bundle.root().join("dev/null")).unwrap();
    let error = bundle.run(PRIVILEGED, &[]).unwrap_err();
    assert!(error.contains("/dev/null exists and is not character device 1:3"), "{error}");
    // The same where /dev is not ours to fill.
    fs::create_dir(bundle.root().join("ours")).unwrap();
    symlink("/etc/decoy", bundle.root().join("ours/null")).unwrap();
    bundle.config["mounts"] =
        json!([{"destination": "/dev", "source": "rootfs/ours", "options": ["bind"]}]);
    bundle.config["linux"]["maskedPaths"] = json!(["/bin/busybox"]);
    let error = bundle.run(PRIVILEGED, &[]).unwrap_err();
    assert!(error.contains("cannot mask /bin/busybox"), "{error}");
    assert!(error.contains("not the null device"), "{error}");

    // CVE-2019-18837: the mount point is a link to the host.
    let bundle = Bundle::new(
        json!([{"destination": "/etc/x", "source": "rootfs/bin", "options": ["bind"]}]),
    );
    let outside = bundle.dir.path().join("outside");
    symlink(&outside, bundle.root().join("etc/x")).unwrap();
    bundle.run(PRIVILEGED, &[]).unwrap();
    assert!(bundle.root().join(outside.strip_prefix("/").unwrap()).is_dir());
    assert!(!outside.exists());

    // CVE-2019-16884: a faked /proc, by name and through a link.
    for destination in ["/proc", "/proc/self", "/data/to-proc"] {
        let bundle = Bundle::new(json!([
            {"destination": destination, "type": "tmpfs", "source": "tmpfs"}]));
        symlink("/proc", bundle.root().join("data/to-proc")).unwrap();
        let error = bundle.run(PRIVILEGED, &[]).unwrap_err();
        assert!(error.contains("/proc"), "{destination}: {error}");
    }
}

#[test]
fn failures_name_the_mount_and_the_reason() {
    if !can_run() {
        return;
    }
    let bundle = Bundle::new(json!([
        {"destination": "/run", "type": "tmpfs", "source": "tmpfs", "options": ["size=lots"]}]));
    assert_eq!(
        bundle.run(PRIVILEGED, &[]).unwrap_err(),
        "cannot mount tmpfs on /run (mounts[0]): tmpfs: Bad value for 'size': invalid argument"
    );
    let bundle = Bundle::new(json!([
        {"destination": "/x", "source": "/no/such", "options": ["bind"]}]));
    assert_eq!(
        bundle.run(PRIVILEGED, &[]).unwrap_err(),
        "cannot mount /no/such on /x (mounts[0]): no such file or directory"
    );
    assert!(!bundle.root().join("x").exists());
    let bundle = Bundle::new(json!([{"destination": "/x", "type": "nosuchfs"}]));
    assert_eq!(
        bundle.run(PRIVILEGED, &[]).unwrap_err(),
        "cannot mount nosuchfs on /x (mounts[0]): this kernel has no such type of file \
         system: no such device"
    );
}

#[test]
fn without_pivot_root() {
    if !can_run() {
        return;
    }
    let bundle = Bundle::new(json!([{"destination": "/proc", "type": "proc", "source": "proc"}]));
    let seen = bundle.run_with(PRIVILEGED, &["/bin/busybox", "/work"], NO_PIVOT).unwrap();
    assert_eq!(seen.looks["/work"], "missing");
    // What is left of the host below has no proc.
    assert!(!seen.host_proc);
    assert!(!bundle.run(PRIVILEGED, &[]).unwrap().host_proc);
    let mut bundle = bundle;
    bundle.config["linux"]["namespaces"] = json!([]);
    assert!(bundle.run(PRIVILEGED, &[]).unwrap().host_proc);
}

#[test]
fn in_the_mount_namespace_of_the_host() {
    if !can_run() {
        return;
    }
    let mut bundle = Bundle::new(json!([
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/data/new", "source": "rootfs/bin", "options": ["bind"]},
    ]));
    bundle.config["linux"]["namespaces"] = json!([]);
    // Its own all the same, so that nothing is left behind here.
    let seen = bundle.run(PRIVILEGED, &["/data/new/busybox"]).unwrap();
    assert_eq!(seen.host_mounts, [bundle.root().join("proc"), bundle.root().join("data/new")]);
    assert_ne!(seen.looks["/data/new/busybox"], "missing");
    bundle.config["root"]["readonly"] = json!(true);
    let error = bundle.run(PRIVILEGED, &[]).unwrap_err();
    assert!(error.contains("root.readonly needs a mount namespace"), "{error}");
}

#[test]
fn cgroups_of_a_cgroup_namespace() {
    if !can_run() {
        return;
    }
    if !host_cgroups().iter().any(|cgroup| !cgroup.is_v2) {
        eprintln!("skipped: needs cgroup v1");
        return;
    }
    let mut bundle = Bundle::new(json!([
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/cgroup", "type": "cgroup", "source": "cgroup", "options": ["ro"]},
    ]));
    bundle.config["linux"]["namespaces"] = json!([{"type": "mount"}, {"type": "cgroup"}]);
    let flags: Vec<_> = PRIVILEGED.iter().copied().chain(["-C"]).collect();
    let seen = bundle.run(&flags, &[]).unwrap();
    for cgroup in host_cgroups().iter().filter(|cgroup| !cgroup.is_v2) {
        let mount = seen.mount(&format!("/cgroup/{}", cgroup.name.display()));
        assert_eq!((mount.root.as_str(), mount.fs_type.as_str()), ("/", "cgroup"));
        assert_eq!(mount.options, "ro,nosuid,nodev,noexec,relatime");
    }
}

#[test]
fn the_terminal_is_mounted_on_nothing_but_the_console() {
    if !can_run() {
        return;
    }
    let bundle = Bundle::new(json!([
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
         "options": ["newinstance", "ptmxmode=0666"]},
    ]));
    let seen = bundle.run_with(PRIVILEGED, &["/dev/console"], CONSOLE).unwrap();
    assert_eq!(seen.mount("/dev/console").fs_type, "devpts");
    assert!(seen.looks["/dev/console"].as_str().unwrap().starts_with("device 136:"));
    // CVE-2026-88264: /dev/console of the image is a link, with and without its target.
    let console = bundle.root().join("dev/console");
    for target in ["/etc/decoy", "/etc/missing"] {
        fs::write(bundle.root().join("etc/decoy"), "decoy").unwrap();
        fs::remove_file(&console).unwrap();
        symlink(target, &console).unwrap();
        let error = bundle.run_with(PRIVILEGED, &[], CONSOLE).unwrap_err();
        assert!(error.contains("is a link or a directory"), "{error}");
        assert!(!bundle.root().join("etc/missing").exists());
    }
}

/// CVE-2021-30465 and CVE-2024-45310: the directory of a mount point is exchanged with a link to
/// the outside, over and over.
#[test]
fn a_mount_point_that_is_exchanged() {
    if !can_run() {
        return;
    }
    let bundle = Bundle::new(json!([
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/data/swap/a/b", "type": "tmpfs", "source": "race"},
        {"destination": "/data/swap/file", "source": "rootfs/bin/busybox", "options": ["bind"]},
    ]));
    let (data, outside) = (bundle.root().join("data"), bundle.dir.path().join("outside"));
    fs::create_dir(&outside).unwrap();
    fs::create_dir(data.join("swap")).unwrap();
    symlink("../../outside", data.join("other")).unwrap();
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let (a, b) = (data.join("swap"), data.join("other"));
                let at = nix::fcntl::AT_FDCWD;
                let exchange = nix::fcntl::RenameFlags::RENAME_EXCHANGE;
                nix::fcntl::renameat2(at, &a, at, &b, exchange).unwrap();
            }
        });
        for _ in 0..60 {
            // It may well fail; but what is mounted is in the container (mountinfo shows nothing
            // else), and nothing is made outside.
            if let Ok(seen) = bundle.run(PRIVILEGED, &[]) {
                assert!(seen.mounts.iter().any(|m| m.source == "race"), "{seen:?}");
            }
            assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

#[test]
fn the_v2_hierarchy_alone() {
    if !can_run() {
        return;
    }
    if !host_cgroups().iter().any(|cgroup| cgroup.is_v2) {
        eprintln!("skipped: needs cgroup v2");
        return;
    }
    let mut bundle = Bundle::new(json!([
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/cgroup", "type": "cgroup", "source": "cgroup", "options": ["ro", "nosuid"]},
    ]));
    bundle.config["linux"]["namespaces"] = json!([{"type": "mount"}, {"type": "cgroup"}]);
    let flags: Vec<_> = PRIVILEGED.iter().copied().chain(["-C"]).collect();
    let seen = bundle.run_with(&flags, &[], ONLY_V2).unwrap();
    assert_eq!(seen.mount("/cgroup").fs_type, "cgroup2");
    assert_eq!(seen.mount("/cgroup").options, "ro,nosuid,relatime");
    assert_eq!(seen.mounts.len(), 3, "{seen:?}");
}

#[test]
fn a_tmpfs_with_what_it_covers() {
    if !can_run() {
        return;
    }
    let bundle = Bundle::new(json!([
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/data", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup"]},
    ]));
    let data = bundle.root().join("data");
    fs::create_dir(data.join("dir")).unwrap();
    fs::set_permissions(data.join("dir"), PermissionsExt::from_mode(0o1711)).unwrap();
    fs::write(data.join("dir/file"), "text").unwrap();
    symlink("/outside", data.join("link")).unwrap();
    nix::unistd::mkfifo(&data.join("fifo"), nix::sys::stat::Mode::S_IRUSR).unwrap();
    fs::set_permissions(data.join("fifo"), PermissionsExt::from_mode(0o622)).unwrap();
    std::os::unix::fs::chown(data.join("fifo"), Some(7), Some(8)).unwrap();
    let looks = ["/data/dir", "/data/dir/file", "/data/link", "/data/fifo"];
    let seen = bundle.run(PRIVILEGED, &looks).unwrap();
    assert_eq!(seen.mount("/data").fs_type, "tmpfs");
    assert_eq!(
        looks.map(|path| seen.looks[path].as_str().unwrap()),
        ["dir of 1, mode 1711", "file \"text\", writable", "link /outside", "fifo, mode 622"]
    );
}
