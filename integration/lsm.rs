//! AppArmor and SELinux, each on a kernel that has it: `scripts/vm lsm::` and
//! `scripts/vm --lsm selinux lsm::` boot them.

use crate::harness::{Bundle, Container, Context, Need, Test, contains};
use crate::test;
use serde_json::json;

const APPARMOR: Need = Need::Kernel("/sys/kernel/security/apparmor/profiles");
const SELINUX: Need = Need::Kernel("/sys/fs/selinux/enforce");

pub const TESTS: &[Test] = &[
    test!(apparmor_profile_confines).needs(&[APPARMOR]),
    test!(apparmor_profile_of_exec).needs(&[APPARMOR]),
    test!(apparmor_unconfined).needs(&[APPARMOR]),
    test!(apparmor_profile_that_is_not_loaded).needs(&[APPARMOR]),
    test!(selinux_label_confines).needs(&[SELINUX]),
    test!(selinux_label_of_exec).needs(&[SELINUX]),
    test!(selinux_label_that_the_policy_lacks).needs(&[SELINUX]),
    test!(selinux_mount_label).needs(&[SELINUX]),
    test!(selinux_label_of_the_keyring).needs(&[SELINUX]),
];

/// A profile that allows all but reading /tmp/secret; gone from the kernel when dropped.
struct Profile<'a> {
    context: &'a Context,
    name: &'static str,
}

impl<'a> Profile<'a> {
    fn load(context: &'a Context, name: &'static str) -> Profile<'a> {
        let profile = Profile { context, name };
        profile.parser("-Kr");
        profile
    }

    fn parser(&self, action: &str) {
        let text = format!(
            "profile {} flags=(attach_disconnected,mediate_deleted) {{\n file,\n capability,\n \
             network,\n mount,\n umount,\n pivot_root,\n signal,\n ptrace,\n unix,\n \
             deny /tmp/secret r,\n}}\n",
            self.name
        );
        self.context.host("apparmor_parser").arg(action).input(text).output().exits(0);
    }

    /// What the kernel calls a process under it.
    fn label(&self) -> String {
        format!("{} (enforce)", self.name)
    }
}

impl Drop for Profile<'_> {
    fn drop(&mut self) {
        self.parser("-R");
    }
}

fn idle_under<'a>(t: &'a Context, profile: &str) -> Bundle<'a> {
    let mut bundle = t.bundle();
    std::fs::write(bundle.rootfs("tmp/secret"), "secret").unwrap();
    std::fs::write(bundle.rootfs("tmp/other"), "other").unwrap();
    bundle.config["process"]["apparmorProfile"] = json!(profile);
    bundle.idle();
    bundle
}

/// The label of the container's process, as the host's kernel tells it.
fn label_of(container: &Container) -> String {
    let text = std::fs::read_to_string(format!("/proc/{}/attr/current", container.pid())).unwrap();
    text.trim_end_matches(['\n', '\0']).to_string()
}

fn apparmor_profile_confines(t: &Context) {
    let profile = Profile::load(t, "corten-test-confines");
    let bundle = idle_under(t, profile.name);
    let container = bundle.start();
    assert_eq!(label_of(&container), profile.label());
    assert_eq!(container.sh("cat /proc/self/attr/current"), profile.label());
    assert_eq!(container.sh("cat /tmp/other"), "other");
    contains(&container.exec(&["cat", "/tmp/secret"]).fails(), "Permission denied");
}

/// `exec` is under the container's profile, or under that of `--apparmor`.
fn apparmor_profile_of_exec(t: &Context) {
    let profile = Profile::load(t, "corten-test-exec");
    let mut bundle = idle_under(t, "");
    bundle.config["process"].as_object_mut().unwrap().remove("apparmorProfile");
    let container = bundle.start();
    assert_eq!(label_of(&container), "unconfined");
    assert_eq!(container.sh("cat /tmp/secret"), "secret");
    let flags = ["--apparmor", profile.name];
    let read = |file| container.exec_command(&flags, &["cat", file]).output();
    assert_eq!(read("/proc/self/attr/current").ok(), profile.label());
    contains(&read("/tmp/secret").fails(), "Permission denied");
}

fn apparmor_unconfined(t: &Context) {
    let bundle = idle_under(t, "unconfined");
    let container = bundle.start();
    assert_eq!(label_of(&container), "unconfined");
    assert_eq!(container.sh("cat /proc/self/attr/current /tmp/secret"), "unconfined\nsecret");
}

fn apparmor_profile_that_is_not_loaded(t: &Context) {
    let name = "corten-test-absent";
    contains(&idle_under(t, name).create_fails(), name);
}

const LABEL: &str = "system_u:system_r:container_t:s0:c1,c2";
const FILES: &str = "system_u:object_r:container_file_t:s0:c1,c2";

/// A bundle whose files, and whose output, a process under [`LABEL`] can use.
fn labelled(t: &Context) -> Bundle<'_> {
    // What is made in a directory gets its type; other types would be taken from the process.
    t.sh(&format!("chcon -t container_file_t {}", t.dir.display()));
    let mut bundle = t.bundle();
    let rootfs = bundle.rootfs("");
    // Not the links to the files of all tests.
    let (old, new) = (t.base.display(), rootfs.display());
    t.sh(&format!("rm -r {new}; cp -r --preserve=mode,links {old} {new}; chcon -R {FILES} {new}"));
    bundle.config["process"]["selinuxLabel"] = json!(LABEL);
    bundle.config["linux"]["mountLabel"] = json!(FILES);
    bundle.idle();
    bundle
}

/// A file in the root file system, with that label.
fn file_labelled(t: &Context, bundle: &Bundle, name: &str, label: &str) {
    let path = bundle.rootfs(name);
    std::fs::write(&path, name).unwrap();
    t.sh(&format!("chcon {label} {}", path.display()));
}

fn selinux_label_confines(t: &Context) {
    let bundle = labelled(t);
    file_labelled(t, &bundle, "tmp/own", FILES);
    file_labelled(t, &bundle, "tmp/others", "system_u:object_r:container_file_t:s0:c3,c4");
    file_labelled(t, &bundle, "tmp/hosts", "system_u:object_r:shadow_t:s0");
    let container = bundle.start();
    assert_eq!(label_of(&container), LABEL);
    assert_eq!(container.sh("cat /tmp/own"), "tmp/own");
    for denied in ["/tmp/others", "/tmp/hosts"] {
        contains(&container.exec(&["cat", denied]).fails(), "Permission denied");
    }
}

/// `exec` has the container's label, or that of `--process-label`.
fn selinux_label_of_exec(t: &Context) {
    let bundle = labelled(t);
    let container = bundle.start();
    let of_exec = |flags: &[&str]| {
        let run = container.exec_command(flags, &["cat", "/proc/self/attr/current"]);
        run.output().ok().trim_end_matches('\0').to_string()
    };
    assert_eq!(of_exec(&[]), LABEL);
    let other = "system_u:system_r:container_t:s0:c1,c2,c7";
    assert_eq!(of_exec(&["--process-label", other]), other);
}

fn selinux_label_that_the_policy_lacks(t: &Context) {
    let mut bundle = labelled(t);
    let label = "system_u:system_r:no_such_type_t:s0";
    bundle.config["process"]["selinuxLabel"] = json!(label);
    contains(&bundle.create_fails(), label);
}

/// linux.mountLabel is on what the runtime mounts anew, but not on what has labels of its own.
fn selinux_mount_label(t: &Context) {
    let mut bundle = labelled(t);
    bundle.mount("/mnt", "tmpfs", "tmpfs", &["nosuid", "size=64k"]);
    bundle.mount("/sys/fs/cgroup", "cgroup", "cgroup", &["ro"]);
    let bound = t.path("bound");
    std::fs::create_dir(&bound).unwrap();
    t.sh(&format!("chcon system_u:object_r:etc_t:s0 {}", bound.display()));
    bundle.bind(&bound, "/srv", &[]);
    let container = bundle.start();
    let label = |path: &str| t.sh(&format!("stat -c %C /proc/{}/root{path}", container.pid()));
    for path in ["/dev", "/dev/null", "/dev/pts", "/dev/shm", "/dev/mqueue", "/mnt"] {
        assert_eq!(label(path), FILES, "{path}");
    }
    for (path, kind) in [("/proc", ":proc_t:"), ("/sys", ":sysfs_t:"), ("/srv", ":etc_t:")] {
        contains(&label(path), kind);
    }
    contains(&label("/sys/fs/cgroup"), ":cgroup_t:");
    // Made by the container itself: the label is the mount's.
    container.sh("echo x > /mnt/new");
    assert_eq!(label("/mnt/new"), FILES);
}

/// The session keyring has the container's label, not the runtime's, which would close it to the
/// program.
fn selinux_label_of_the_keyring(t: &Context) {
    let bundle = labelled(t);
    let container = bundle.start();
    let name = format!("_ses.{}", container.id);
    let label = || {
        let keys = std::fs::read_to_string("/proc/keys").unwrap();
        let ring = keys.lines().find(|line| line.contains(&name)).expect(&keys);
        let serial = i64::from_str_radix(ring.split_whitespace().next().unwrap(), 16).unwrap();
        let mut label = [0_u8; 256];
        let (to, room) = (label.as_mut_ptr(), label.len());
        // SAFETY: keyctl(2) KEYCTL_GET_SECURITY writes no more than that many bytes.
        let length =
            unsafe { libc::syscall(libc::SYS_keyctl, libc::KEYCTL_GET_SECURITY, serial, to, room) };
        assert!(length > 0, "{}", std::io::Error::last_os_error());
        String::from_utf8_lossy(&label).trim_end_matches('\0').to_string()
    };
    assert_eq!(label(), LABEL);
    // Who joins it by name leaves it as it is.
    let other = "system_u:system_r:container_t:s0:c1,c2,c7";
    container.exec_command(&["--process-label", other], &["true"]).output().exits(0);
    assert_eq!(label(), LABEL);
}
