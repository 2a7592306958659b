//! A bundle with busybox as its root file system and a configuration to edit.

use super::{Container, Context, Output};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// A bundle directory; `config` is written out when a command needs it.
pub struct Bundle<'a> {
    pub context: &'a Context,
    pub dir: PathBuf,
    /// Index it to edit: `bundle.config["process"]["cwd"] = json!("/tmp")`.
    pub config: Value,
}

/// Debian's busybox-static.
const BUSYBOX: &str = "/bin/busybox";

/// Makes the root file system that every bundle is a copy of.
pub fn make_base(base: &Path) {
    for dir in ["bin", "etc", "proc", "sys", "dev", "tmp", "root", "home", "mnt", "usr/bin", "run"]
    {
        std::fs::create_dir_all(base.join(dir)).unwrap();
    }
    std::fs::copy(BUSYBOX, base.join("bin/busybox")).unwrap();
    let list = std::process::Command::new(BUSYBOX).arg("--list").output().unwrap();
    for applet in String::from_utf8_lossy(&list.stdout).lines().filter(|a| *a != "busybox") {
        std::os::unix::fs::symlink("busybox", base.join("bin").join(applet)).unwrap();
    }
    let passwd = "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home:/bin/sh\n";
    std::fs::write(base.join("etc/passwd"), passwd).unwrap();
    std::fs::write(base.join("etc/group"), "root:x:0:\nuser:x:1000:\n").unwrap();
}

/// The capabilities of `runc spec`, which the tests start from.
pub const CAPABILITIES: [&str; 3] = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"];

/// What `runc spec` writes, without terminal, with a writable root.
fn default_config(cgroups_path: &str) -> Value {
    let mount = |destination: &str, kind: &str, options: &[&str]| json!({"destination": destination, "type": kind, "source": kind, "options": options});
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": false,
            "user": {"uid": 0, "gid": 0},
            "args": ["true"],
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
            "cwd": "/",
            "capabilities": {
                "bounding": CAPABILITIES, "effective": CAPABILITIES, "permitted": CAPABILITIES,
            },
            "noNewPrivileges": true,
        },
        "root": {"path": "rootfs", "readonly": false},
        "hostname": "box",
        "mounts": [
            mount("/proc", "proc", &[]),
            mount("/dev", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
            mount("/dev/pts", "devpts",
                &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
            mount("/dev/shm", "tmpfs", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
            mount("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
            mount("/sys", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
        ],
        "linux": {
            "cgroupsPath": cgroups_path,
            "resources": {"devices": [{"allow": false, "access": "rwm"}]},
            "namespaces": [
                {"type": "pid"}, {"type": "network"}, {"type": "ipc"}, {"type": "uts"},
                {"type": "mount"},
            ],
            "maskedPaths": ["/proc/kcore", "/proc/keys", "/sys/firmware"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys"],
        },
    })
}

impl<'a> Bundle<'a> {
    pub fn new(context: &'a Context) -> Self {
        let dir = context.path("bundle");
        std::fs::create_dir(&dir).unwrap();
        copy("-al", &context.base, &dir.join("rootfs"));
        let cgroup = format!("{}/box{}", context.cgroup, context.next());
        Bundle { context, dir, config: default_config(&cgroup) }
    }

    /// A path in the root file system, seen from the host.
    pub fn rootfs(&self, path: &str) -> PathBuf {
        self.dir.join("rootfs").join(path.trim_start_matches('/'))
    }

    pub fn args<S: Into<String>>(&mut self, args: impl IntoIterator<Item = S>) -> &mut Self {
        self.config["process"]["args"] = args.into_iter().map(Into::into).collect();
        self
    }

    /// `sh -c SCRIPT` as the container's process.
    pub fn script(&mut self, script: &str) -> &mut Self {
        self.args(["sh", "-c", script])
    }

    /// A process that stays until it is told to go, and goes at SIGTERM.
    pub fn idle(&mut self) -> &mut Self {
        self.script("trap 'exit 0' TERM; while :; do sleep 0.05; done")
    }

    pub fn mount(
        &mut self,
        destination: &str,
        kind: &str,
        source: impl AsRef<Path>,
        options: &[&str],
    ) {
        let source = source.as_ref().to_str().unwrap();
        let mount =
            json!({"destination": destination, "type": kind, "source": source, "options": options});
        self.config["mounts"].as_array_mut().unwrap().push(mount);
    }

    pub fn bind(&mut self, source: impl AsRef<Path>, destination: &str, options: &[&str]) {
        self.mount(destination, "bind", source, &[&["bind"], options].concat());
    }

    /// Removes the mount on `destination`.
    pub fn without_mount(&mut self, destination: &str) {
        self.config["mounts"].as_array_mut().unwrap().retain(|m| m["destination"] != destination);
    }

    /// Removes the namespace of that type: the container shares the host's.
    pub fn without_namespace(&mut self, kind: &str) {
        self.namespaces().retain(|n| n["type"] != kind);
    }

    /// Adds a namespace, new or joined by path.
    pub fn namespace(&mut self, kind: &str, path: Option<String>) {
        self.without_namespace(kind);
        self.namespaces().push(match path {
            Some(path) => json!({"type": kind, "path": path}),
            None => json!({"type": kind}),
        });
    }

    fn namespaces(&mut self) -> &mut Vec<Value> {
        self.config["linux"]["namespaces"].as_array_mut().unwrap()
    }

    /// A user namespace whose root is host user 100000, with a root file system that it owns.
    pub fn user_namespace(&mut self) {
        self.namespace("user", None);
        let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
        self.config["linux"]["uidMappings"] = map.clone();
        self.config["linux"]["gidMappings"] = map;
        // The links to the base must not change their owner for the other tests.
        let rootfs = self.rootfs("");
        std::fs::remove_dir_all(&rootfs).unwrap();
        copy("-a", &self.context.base, &rootfs);
        self.context.sh(&format!("chown -hR 100000:100000 {}", rootfs.display()));
        self.open_path();
    }

    /// Lets other users reach the bundle: search permission on every directory above it.
    fn open_path(&self) {
        self.context.sh(&format!(
            "chmod 0755 {} {}",
            self.dir.display(),
            self.context.dir.display()
        ));
    }

    /// All capabilities that this machine has, in all the usual sets.
    pub fn all_capabilities(&mut self) {
        let own = caps::read(None, caps::CapSet::Effective).unwrap();
        let names: Vec<String> = own.iter().map(|cap| cap.to_string()).collect();
        for set in ["bounding", "effective", "permitted"] {
            self.config["process"]["capabilities"][set] = json!(names);
        }
    }

    /// The absolute path of the container's cgroup.
    pub fn cgroups_path(&self) -> String {
        self.config["linux"]["cgroupsPath"].as_str().unwrap().to_string()
    }

    /// Writes config.json.
    pub fn write(&self) {
        std::fs::write(self.dir.join("config.json"), self.config.to_string()).unwrap();
    }

    fn new_container(&self) -> Container<'a> {
        self.write();
        Container::new(self.context, self.dir.clone(), &format!("box{}", self.context.next()))
    }

    /// `run` in the foreground to the end.
    #[track_caller]
    pub fn run(&self) -> Output {
        self.run_with(&[])
    }

    #[track_caller]
    pub fn run_with(&self, flags: &[&str]) -> Output {
        self.new_container().run(flags)
    }

    /// `create`, which must succeed.
    #[track_caller]
    pub fn create(&self) -> Container<'a> {
        self.create_with(&[])
    }

    #[track_caller]
    pub fn create_with(&self, flags: &[&str]) -> Container<'a> {
        let container = self.new_container();
        container.create(flags).exits(0);
        container
    }

    /// `create`, which must fail; its stderr.
    #[track_caller]
    pub fn create_fails(&self) -> String {
        self.new_container().create(&[]).fails()
    }

    /// `create` and `start`, which must succeed.
    #[track_caller]
    pub fn start(&self) -> Container<'a> {
        let container = self.create();
        container.command("start").exits(0);
        container
    }

    /// A container of the bundle's name, for tests that give every command themselves.
    pub fn named(&self, id: &str) -> Container<'a> {
        self.write();
        Container::new(self.context, self.dir.clone(), id)
    }
}

/// Copies the root file system: `-al` shares the files (quick), `-a` makes new ones.
fn copy(how: &str, from: &Path, to: &Path) {
    let status = std::process::Command::new("cp").arg(how).arg(from).arg(to).status().unwrap();
    assert!(status.success(), "cp {how} to {}", to.display());
}
