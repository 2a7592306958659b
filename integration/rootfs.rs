//! Mounts, propagation, the root itself, masks.

use crate::harness::{Context, Need, Test, contains, leftovers};
use crate::test;
use serde_json::json;

pub const TESTS: &[Test] = &[
    test!(default_mounts_have_their_options),
    test!(root_is_the_bundles_and_nothing_else),
    test!(read_only_root),
    test!(writable_root),
    test!(no_pivot),
    test!(bind_mounts_of_files_and_directories),
    test!(files_do_not_fit_on_directories),
    test!(bind_options),
    test!(rbind_takes_the_mounts_below),
    test!(recursive_attributes),
    test!(recursive_nosymfollow).needs(&[Need::CortenOnly("rnosymfollow came with 1.2")]),
    test!(tmpfs_options_are_data),
    test!(tmpfs_shows_what_is_mounted_over),
    test!(overlay),
    test!(long_overlay_options),
    test!(mount_points_are_made),
    test!(mounts_come_in_order),
    test!(mounts_are_listed_in_order),
    test!(propagation_of_mounts),
    test!(rootfs_propagation).needs(&[Need::CortenOnly("it did not reach the root itself in 1.1")]),
    test!(host_mounts_arrive_as_slave),
    test!(masked_paths),
    test!(readonly_paths),
    test!(missing_masks_are_skipped),
    test!(cgroup_mount).needs(&[Need::V1("memory")]),
    test!(cgroup_mount_in_a_cgroup_namespace).needs(&[Need::V1("memory")]),
    test!(destinations_through_links_stay_inside),
    test!(relative_destination),
    test!(root_on_its_own_mount),
    test!(failure_in_the_host_mount_namespace).needs(&[Need::CortenOnly("runc leaves the mounts")]),
    test!(host_mount_namespace).needs(&[Need::CortenOnly("1.1 leaves the mounts behind")]),
    test!(same_mounts_as_runc)
        .needs(&[Need::CortenOnly("it would be compared with itself"), Need::Program("runc")]),
    test!(read_only_bind_of_a_nodev_nosuid_mount)
        .needs(&[Need::CortenOnly("1.1 clears the locked flags of the source")]),
    test!(pivots_unless_told_not_to).needs(&[Need::Program("strace")]),
    test!(tmpfs_over_a_directory_of_the_image),
];

/// The mountinfo line of a destination inside: `(options, type, super options)`.
fn mount_of(mountinfo: &str, destination: &str) -> (String, String, String) {
    let line = mountinfo.lines().rfind(|line| line.split(' ').nth(4) == Some(destination));
    let line = line.unwrap_or_else(|| panic!("no {destination} in:\n{mountinfo}"));
    let (front, back) = line.split_once(" - ").unwrap();
    let back: Vec<&str> = back.split(' ').collect();
    let options = front.split(' ').nth(5).unwrap();
    (options.to_string(), back[0].to_string(), back[2].to_string())
}

fn has_all(options: &str, wanted: &[&str]) {
    let options: Vec<&str> = options.split(',').collect();
    for option in wanted {
        assert!(options.contains(option), "{option} in {options:?}");
    }
}

/// Whoever reads mountinfo takes the last of two mounts at one place for the one that is seen.
fn mounts_are_listed_in_order(t: &Context) {
    let mut bundle = t.bundle();
    let dir = t.path("dir");
    std::fs::create_dir(&dir).unwrap();
    bundle.bind(&dir, "/mnt/first", &["ro"]);
    bundle.mount("/mnt/data", "tmpfs", "tmpfs", &["size=1m"]);
    bundle.bind(&dir, "/mnt/data", &[]);
    bundle.mount("/mnt/last", "tmpfs", "tmpfs", &[]);
    bundle.args(["cat", "/proc/self/mountinfo"]);
    let text = bundle.run().ok();
    let mounts = bundle.config["mounts"].as_array().unwrap().iter();
    let wanted: Vec<&str> = mounts.map(|m| m["destination"].as_str().unwrap()).collect();
    let listed = text.lines().filter_map(|line| line.split(' ').nth(4));
    // Read-only paths come last, and one of them is below /proc.
    let listed: Vec<&str> = listed.filter(|at| wanted.contains(at)).take(wanted.len()).collect();
    assert_eq!(listed, wanted, "{text}");
}

fn default_mounts_have_their_options(t: &Context) {
    let mut bundle = t.bundle();
    bundle.args(["cat", "/proc/self/mountinfo"]);
    let text = bundle.run().ok();
    for (destination, kind, options) in [
        ("/proc", "proc", ["rw", "rw"].as_slice()),
        ("/dev", "tmpfs", &["rw", "nosuid"]),
        ("/dev/pts", "devpts", &["nosuid", "noexec"]),
        ("/dev/shm", "tmpfs", &["nosuid", "nodev", "noexec"]),
        ("/dev/mqueue", "mqueue", &["nosuid", "nodev", "noexec"]),
        ("/sys", "sysfs", &["ro", "nosuid", "nodev", "noexec"]),
        ("/proc/sys", "proc", &["ro"]),
    ] {
        let mount = mount_of(&text, destination);
        assert_eq!(mount.1, kind, "{destination}");
        has_all(&mount.0, options);
    }
    has_all(&mount_of(&text, "/dev").2, &["size=65536k", "mode=755"]);
    has_all(&mount_of(&text, "/dev/pts").2, &["gid=5", "mode=620", "ptmxmode=666"]);
    // strictatime: neither relatime nor noatime.
    assert!(!mount_of(&text, "/dev").0.contains("atime"), "{text}");
}

fn root_is_the_bundles_and_nothing_else(t: &Context) {
    let mut bundle = t.bundle();
    std::fs::write(bundle.rootfs("marker"), "of the bundle").unwrap();
    bundle.script(
        "cat /marker; cat /proc/self/mountinfo; ls -id / /.. | sed 's/ \\/.*//' | uniq | wc -l",
    );
    let output = bundle.run().ok();
    contains(&output, "of the bundle");
    // No mount of the host is left in the namespace.
    assert!(!output.contains(" /sys/fs/cgroup"), "{output}");
    let mounts = output.lines().filter(|line| line.contains(" - ")).count();
    assert!(mounts <= 20, "{mounts} mounts:\n{output}");
    assert_eq!(output.lines().last().unwrap().trim(), "1", "/ and /.. are the same");
}

fn read_only_root(t: &Context) {
    let mut bundle = t.bundle();
    bundle.config["root"]["readonly"] = json!(true);
    bundle.script("touch /new; touch /dev/new && echo dev; touch /dev/shm/new && echo shm");
    let output = bundle.run();
    contains(&output.stderr, "Read-only file system");
    assert_eq!(output.ok(), "dev\nshm");
    assert!(!bundle.rootfs("new").exists());
    // The bundle's own mount is left writable.
    std::fs::write(bundle.rootfs("after"), "").unwrap();
}

fn writable_root(t: &Context) {
    let mut bundle = t.bundle();
    bundle.script("echo text > /tmp/new");
    bundle.run().ok();
    assert_eq!(std::fs::read_to_string(bundle.rootfs("tmp/new")).unwrap(), "text\n");
}

fn no_pivot(t: &Context) {
    let mut bundle = t.bundle();
    bundle.script("ls /marker; ls /; cat /proc/1/cgroup | head -n 1; touch /proc/sys/x 2>&1; true");
    std::fs::write(bundle.rootfs("marker"), "").unwrap();
    let output = bundle.run_with(&["--no-pivot"]).ok();
    contains(&output, "/marker");
    assert!(!output.contains("lib64"), "the host's root: {output}");
}

fn bind_mounts_of_files_and_directories(t: &Context) {
    let source = t.path("source");
    std::fs::create_dir(&source).unwrap();
    std::fs::write(source.join("file"), "bound").unwrap();
    let mut bundle = t.bundle();
    bundle.bind(&source, "/mnt/dir", &[]);
    bundle.bind(source.join("file"), "/mnt/file", &["ro"]);
    bundle.bind(source.join("file"), "/etc/passwd", &[]);
    bundle.script(
        "cat /mnt/dir/file /mnt/file /etc/passwd; echo w > /mnt/dir/new; echo w > /mnt/file",
    );
    let output = bundle.run().exits(1);
    assert_eq!(output.stdout, "boundboundbound");
    contains(&output.stderr, "Read-only file system");
    assert!(source.join("new").exists());
}

/// As `docker run -v FILE:/etc` asks for it; the words are those that Docker explains further.
fn files_do_not_fit_on_directories(t: &Context) {
    let file = t.path("file");
    std::fs::write(&file, "").unwrap();
    let file = file.to_str().unwrap();
    let mut bundle = t.bundle();
    for (kind, source, destination) in
        [("bind", file, "/etc"), ("bind", "/usr", "/etc/passwd"), ("tmpfs", "tmpfs", "/etc/passwd")]
    {
        let options: &[&str] = if kind == "bind" { &["rbind"] } else { &[] };
        bundle.mount(destination, kind, source, options);
        contains(&bundle.create_fails(), "not a directory");
        bundle.without_mount(destination);
    }
}

fn bind_options(t: &Context) {
    let source = t.path("source");
    std::fs::create_dir(&source).unwrap();
    let mut bundle = t.bundle();
    let wanted = ["ro", "nosuid", "nodev", "noexec", "noatime", "nodiratime"];
    bundle.bind(&source, "/mnt/a", &wanted);
    bundle.bind(&source, "/mnt/b", &["rw", "suid", "dev", "exec"]);
    bundle.args(["cat", "/proc/self/mountinfo"]);
    let text = bundle.run().ok();
    has_all(&mount_of(&text, "/mnt/a").0, &wanted);
    let b = mount_of(&text, "/mnt/b").0;
    assert!(b.starts_with("rw") && !b.contains("nosuid") && !b.contains("noexec"), "{b}");
}

/// A directory with a tmpfs mounted in `sub`.
fn nested(t: &Context) -> std::path::PathBuf {
    let source = t.path("nested");
    std::fs::create_dir_all(source.join("sub")).unwrap();
    t.sh(&format!("mount -t tmpfs inner {0}/sub; echo in > {0}/sub/file", source.display()));
    source
}

fn unnest(t: &Context, source: &std::path::Path) {
    t.sh(&format!("umount {}/sub", source.display()));
}

fn rbind_takes_the_mounts_below(t: &Context) {
    let source = nested(t);
    let mut bundle = t.bundle();
    bundle.bind(&source, "/mnt/plain", &[]);
    bundle.mount("/mnt/deep", "bind", &source, &["rbind"]);
    bundle.script("ls /mnt/plain/sub; echo -; cat /mnt/deep/sub/file");
    let output = bundle.run();
    unnest(t, &source);
    assert_eq!(output.ok(), "-\nin");
}

fn recursive_attributes(t: &Context) {
    let source = nested(t);
    let mut bundle = t.bundle();
    bundle.mount("/mnt/ro", "bind", &source, &["rbind", "ro"]);
    bundle.mount("/mnt/rro", "bind", &source, &["rbind", "rro", "rnosuid", "rnodev", "rnoexec"]);
    bundle.args(["cat", "/proc/self/mountinfo"]);
    let output = bundle.run();
    unnest(t, &source);
    let text = output.ok();
    has_all(&mount_of(&text, "/mnt/ro").0, &["ro"]);
    has_all(&mount_of(&text, "/mnt/ro/sub").0, &["rw"]);
    has_all(&mount_of(&text, "/mnt/rro/sub").0, &["ro", "nosuid", "nodev", "noexec"]);
}

fn recursive_nosymfollow(t: &Context) {
    let source = nested(t);
    let mut bundle = t.bundle();
    bundle.mount("/mnt/n", "bind", &source, &["rbind", "rnosymfollow"]);
    bundle.args(["cat", "/proc/self/mountinfo"]);
    let output = bundle.run();
    unnest(t, &source);
    has_all(&mount_of(&output.ok(), "/mnt/n/sub").0, &["nosymfollow"]);
}

fn tmpfs_options_are_data(t: &Context) {
    let mut bundle = t.bundle();
    bundle.mount("/mnt/t", "tmpfs", "tmpfs", &["size=1m", "mode=1711", "uid=5", "gid=6", "noexec"]);
    bundle.script("stat -c %a:%u:%g /mnt/t; cat /proc/self/mountinfo");
    let text = bundle.run().ok();
    assert_eq!(text.lines().next(), Some("1711:5:6"));
    let mount = mount_of(&text, "/mnt/t");
    has_all(&mount.0, &["noexec"]);
    has_all(&mount.2, &["size=1024k"]);
    bundle.mount("/mnt/bad", "tmpfs", "tmpfs", &["size=nonsense"]);
    let error = bundle.create_fails();
    contains(&error, "/mnt/bad");
}

fn tmpfs_shows_what_is_mounted_over(t: &Context) {
    let mut bundle = t.bundle();
    bundle.mount("/home", "tmpfs", "tmpfs", &[]);
    bundle.mount("/home/inner", "tmpfs", "tmpfs", &["size=2m"]);
    bundle.args(["cat", "/proc/self/mountinfo"]);
    let text = bundle.run().ok();
    has_all(&mount_of(&text, "/home/inner").2, &["size=2048k"]);
}

fn overlay(t: &Context) {
    let dir = t.path("overlay");
    for part in ["lower", "upper", "work"] {
        std::fs::create_dir_all(dir.join(part)).unwrap();
    }
    std::fs::write(dir.join("lower/file"), "low").unwrap();
    let option = |name: &str, part: &str| format!("{name}={}", dir.join(part).display());
    let options =
        [option("lowerdir", "lower"), option("upperdir", "upper"), option("workdir", "work")];
    let mut bundle = t.bundle();
    bundle.mount("/mnt/o", "overlay", "overlay", &options.each_ref().map(String::as_str));
    bundle.script("cat /mnt/o/file; echo new > /mnt/o/file");
    assert_eq!(bundle.run().ok(), "low");
    assert_eq!(std::fs::read_to_string(dir.join("upper/file")).unwrap(), "new\n");
    assert_eq!(std::fs::read_to_string(dir.join("lower/file")).unwrap(), "low");
}

/// Options longer than the 255 bytes that fsconfig(2) takes for one.
fn long_overlay_options(t: &Context) {
    let dir = t.path("layers");
    let mut lower = Vec::new();
    for layer in 0..12 {
        let path = dir.join(format!("layer-with-a-rather-long-name-{layer}"));
        std::fs::create_dir_all(&path).unwrap();
        std::fs::write(path.join(format!("f{layer}")), "").unwrap();
        lower.push(path.to_str().unwrap().to_string());
    }
    let mut bundle = t.bundle();
    bundle.mount("/mnt/o", "overlay", "overlay", &[&format!("lowerdir={}", lower.join(":"))]);
    bundle.script("ls /mnt/o | wc -l");
    assert_eq!(bundle.run().ok(), "12");
}

fn mount_points_are_made(t: &Context) {
    let file = t.path("file");
    std::fs::write(&file, "content").unwrap();
    let mut bundle = t.bundle();
    bundle.bind(&file, "/deep/er/file", &[]);
    bundle.mount("/deep/dir/tmp", "tmpfs", "tmpfs", &[]);
    bundle.script("cat /deep/er/file; stat -c %a /deep/dir");
    assert_eq!(bundle.run().ok(), "content755");
}

fn mounts_come_in_order(t: &Context) {
    let (one, two) = (t.path("one"), t.path("two"));
    std::fs::write(&one, "1").unwrap();
    std::fs::write(&two, "2").unwrap();
    let mut bundle = t.bundle();
    bundle.bind(&one, "/mnt/f", &[]);
    bundle.bind(&two, "/mnt/f", &[]);
    bundle.args(["cat", "/mnt/f"]);
    assert_eq!(bundle.run().ok(), "2");
}

/// The optional fields (`shared:`, `master:`) of a destination inside.
fn propagation(mountinfo: &str, destination: &str) -> String {
    let line = mountinfo.lines().rfind(|l| l.split(' ').nth(4) == Some(destination)).unwrap();
    let front = line.split(" - ").next().unwrap();
    let fields: Vec<&str> = front.split(' ').skip(6).collect();
    fields.iter().map(|f| f.split(':').next().unwrap()).collect::<Vec<_>>().join(" ")
}

fn propagation_of_mounts(t: &Context) {
    let source = t.path("source");
    std::fs::create_dir(&source).unwrap();
    let mut bundle = t.bundle();
    for kind in ["private", "shared", "slave", "unbindable"] {
        bundle.bind(&source, &format!("/mnt/{kind}"), &[kind]);
    }
    bundle.mount("/mnt/rshared", "bind", &source, &["rbind", "rshared"]);
    bundle.args(["cat", "/proc/self/mountinfo"]);
    let text = bundle.run().ok();
    assert_eq!(propagation(&text, "/mnt/private"), "");
    contains(&propagation(&text, "/mnt/shared"), "shared");
    contains(&propagation(&text, "/mnt/rshared"), "shared");
    assert_eq!(propagation(&text, "/mnt/slave"), "master");
    assert_eq!(propagation(&text, "/mnt/unbindable"), "unbindable");
}

fn rootfs_propagation(t: &Context) {
    for (kind, wanted) in [("shared", "shared"), ("private", ""), ("unbindable", "unbindable")] {
        let mut bundle = t.bundle();
        bundle.config["linux"]["rootfsPropagation"] = json!(kind);
        bundle.args(["cat", "/proc/self/mountinfo"]);
        contains(&propagation(&bundle.run().ok(), "/"), wanted);
    }
}

fn host_mounts_arrive_as_slave(t: &Context) {
    let source = t.path("source");
    std::fs::create_dir_all(source.join("late")).unwrap();
    t.sh(&format!("mount --bind {0} {0}; mount --make-shared {0}", source.display()));
    let mut bundle = t.bundle();
    bundle.mount("/mnt/s", "bind", &source, &["rbind", "rslave"]);
    bundle.config["linux"]["rootfsPropagation"] = json!("rslave");
    bundle.script("mkdir /mnt/s/own; mount -t tmpfs t /mnt/s/own; echo ready; sleep 1000");
    bundle.all_capabilities();
    let container = bundle.start();
    container.wait_printed("ready");
    t.sh(&format!("mount -t tmpfs late {0}/late; echo hi > {0}/late/file", source.display()));
    assert_eq!(container.sh("cat /mnt/s/late/file"), "hi", "the host's mount arrives");
    let own = source.join("own");
    assert!(!leftovers::mounts().iter().any(|m| m.contains(own.to_str().unwrap())), "went back");
    container.end();
    t.sh(&format!("umount {0}/late {0}", source.display()));
}

fn masked_paths(t: &Context) {
    let mut bundle = t.bundle();
    std::fs::create_dir(bundle.rootfs("secret")).unwrap();
    std::fs::write(bundle.rootfs("secret/file"), "x").unwrap();
    std::fs::write(bundle.rootfs("hidden"), "x").unwrap();
    bundle.config["linux"]["maskedPaths"] = json!(["/secret", "/hidden", "/proc/kcore"]);
    bundle.script(
        "ls /secret | wc -l; cat /hidden | wc -c; head -c 1 /proc/kcore | wc -c; \
         touch /secret/new 2>&1; stat -c %t:%T /hidden",
    );
    let output = bundle.run().ok();
    assert_eq!(output.lines().take(3).collect::<Vec<_>>(), ["0", "0", "0"]);
    contains(&output, "Read-only file system");
    contains(&output, "1:3");
}

fn readonly_paths(t: &Context) {
    let mut bundle = t.bundle();
    bundle.config["linux"]["readonlyPaths"] = json!(["/proc/sys", "/tmp", "/etc/group"]);
    bundle.script("echo 1 > /proc/sys/net/ipv4/ip_forward; touch /tmp/x; echo >> /etc/group; cat /proc/self/mountinfo");
    bundle.all_capabilities();
    let output = bundle.run().exits(0);
    assert_eq!(output.stderr.matches("ead-only file system").count(), 3, "{output}");
    // The flags of the mount below stay.
    bundle.config["linux"]["readonlyPaths"] = json!(["/dev/shm"]);
    let text = bundle.run().ok();
    has_all(&mount_of(&text, "/dev/shm").0, &["ro", "nosuid", "nodev", "noexec"]);
}

fn missing_masks_are_skipped(t: &Context) {
    let mut bundle = t.bundle();
    bundle.config["linux"]["maskedPaths"] = json!(["/no/such", "/nothing"]);
    bundle.config["linux"]["readonlyPaths"] = json!(["/none", "/proc/none"]);
    bundle.run().ok();
    assert!(!bundle.rootfs("no").exists() && !bundle.rootfs("none").exists());
}

fn cgroup_mount(t: &Context) {
    let mut bundle = t.bundle();
    bundle.mount(
        "/sys/fs/cgroup",
        "cgroup",
        "cgroup",
        &["nosuid", "noexec", "nodev", "relatime", "ro"],
    );
    bundle.script(
        "ls /sys/fs/cgroup; cat /sys/fs/cgroup/pids/cgroup.procs; \
         mkdir /sys/fs/cgroup/pids/x; cat /proc/self/mountinfo",
    );
    let output = bundle.run().exits(0);
    contains(&output.stderr, "Read-only file system");
    let text = output.ok();
    contains(&text, "memory\n");
    assert!(text.lines().any(|l| l == "1"), "its own cgroup: {text}");
    let mount = mount_of(&text, "/sys/fs/cgroup/memory");
    assert_eq!(mount.1, "cgroup");
    has_all(&mount.0, &["ro", "nosuid", "nodev", "noexec"]);
}

fn cgroup_mount_in_a_cgroup_namespace(t: &Context) {
    let mut bundle = t.bundle();
    bundle.namespace("cgroup", None);
    bundle.all_capabilities();
    bundle.mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev"]);
    bundle.script("cat /sys/fs/cgroup/pids/cgroup.procs; mkdir /sys/fs/cgroup/pids/x && echo made; grep pids /proc/self/cgroup");
    let text = bundle.run().ok();
    assert!(text.lines().any(|l| l == "1"), "{text}");
    contains(&text, "made");
    contains(&text, "pids:/");
}

fn destinations_through_links_stay_inside(t: &Context) {
    let host = t.path("host");
    std::fs::create_dir(&host).unwrap();
    let mut bundle = t.bundle();
    std::os::unix::fs::symlink(&host, bundle.rootfs("out")).unwrap();
    std::os::unix::fs::symlink("../../../../../../..", bundle.rootfs("up")).unwrap();
    bundle.mount("/out/dir", "tmpfs", "tmpfs", &["size=3m"]);
    bundle.mount("/up/mnt/up", "tmpfs", "tmpfs", &["size=4m"]);
    bundle.args(["cat", "/proc/self/mountinfo"]);
    let text = bundle.run().ok();
    assert_eq!(std::fs::read_dir(&host).unwrap().count(), 0, "made something on the host");
    has_all(&mount_of(&text, "/mnt/up").2, &["size=4096k"]);
    let inside = format!("{}/dir", host.display());
    has_all(&mount_of(&text, &inside).2, &["size=3072k"]);
}

fn relative_destination(t: &Context) {
    // The spec wants it absolute since 1.2, but old bundles have it: taken from the root.
    let mut bundle = t.bundle();
    bundle.mount("mnt/relative", "tmpfs", "tmpfs", &[]);
    bundle.script("grep -c ' /mnt/relative ' /proc/self/mountinfo");
    assert_eq!(bundle.run().ok(), "1");
}

fn root_on_its_own_mount(t: &Context) {
    let mut bundle = t.bundle();
    let rootfs = bundle.rootfs("");
    t.sh(&format!(
        "mount -t tmpfs own {0}; cp -a {1}/. {0}; mkdir {0}/sub; mount -t tmpfs sub {0}/sub; touch {0}/sub/seen",
        rootfs.display(),
        t.base.display()
    ));
    bundle.script("ls /sub; mkdir /mnt/late; echo ok");
    let output = bundle.run();
    t.sh(&format!("umount {0}/sub {0}", rootfs.display()));
    assert_eq!(output.ok(), "seen\nok");
}

fn host_mount_namespace(t: &Context) {
    let mut bundle = t.bundle();
    bundle.without_namespace("mount");
    bundle.config["linux"]["maskedPaths"] = json!([]);
    bundle.config["linux"]["readonlyPaths"] = json!([]);
    bundle.script("ls /; readlink /proc/1/ns/mnt; sleep 1000");
    let container = bundle.start();
    container.wait_printed("mnt:");
    let own = std::fs::read_link("/proc/self/ns/mnt").unwrap();
    contains(&container.printed(), own.to_str().unwrap());
    assert!(!container.printed().contains("lib64"), "the host's root: {}", container.printed());
    container.end();
}

/// What was mounted on the host before the failure must not stay.
fn failure_in_the_host_mount_namespace(t: &Context) {
    let mut bundle = t.bundle();
    bundle.without_namespace("mount");
    bundle.config["linux"]["maskedPaths"] = json!([]);
    bundle.config["linux"]["readonlyPaths"] = json!([]);
    bundle.config["mounts"] = json!([]);
    bundle.mount("/mnt", "tmpfs", "tmpfs", &[]);
    bundle.mount("/tmp", "tmpfs", "tmpfs", &["size=bogus"]);
    let before = leftovers::mounts();
    bundle.run().fails();
    assert_eq!(leftovers::mounts(), before);
}

fn without_numbers(mountinfo: &str) -> Vec<String> {
    let field = |line: &str| {
        let (front, back) = line.split_once(" - ").unwrap();
        let front: Vec<&str> = front.split(' ').collect();
        let optional: Vec<&str> = front[6..].iter().map(|f| f.split(':').next().unwrap()).collect();
        // runc 1.1 leaves the root a slave of the host's mounts; newer ones make it private.
        let optional = if front[4] == "/" { String::new() } else { optional.join(" ") };
        format!("{} {} {optional} - {back}", front[4], front[5])
    };
    let mut lines: Vec<String> = mountinfo.lines().map(field).collect();
    // The order is that of the mount numbers: of creation, not of attachment.
    lines.sort_unstable();
    lines
}

/// The differential test: what the kernel shows after the default mounts must be as runc leaves it.
fn same_mounts_as_runc(t: &Context) {
    let mut bundle = t.bundle();
    let source = t.path("source");
    std::fs::create_dir(&source).unwrap();
    bundle.bind(&source, "/mnt/bound", &["ro", "nosuid"]);
    bundle.mount("/mnt/rprivate", "bind", &source, &["rbind", "rprivate", "noexec"]);
    bundle.mount("/mnt/tmp", "tmpfs", "tmpfs", &["size=1m", "noatime", "mode=700"]);
    // Masked directories are Corten's own matter: an empty tmpfs of its own size.
    bundle.config["linux"]["maskedPaths"] = json!(["/proc/kcore", "/proc/keys"]);
    bundle.args(["cat", "/proc/self/mountinfo"]);
    for propagation in ["", "private", "rslave"] {
        if !propagation.is_empty() {
            bundle.config["linux"]["rootfsPropagation"] = json!(propagation);
        }
        let ours = bundle.run().ok();
        let theirs = t
            .host("runc")
            .arg("--root")
            .arg(t.path("runc"))
            .args(["run", "--bundle"])
            .arg(&bundle.dir)
            .arg("compared")
            .output()
            .ok();
        assert_eq!(
            without_numbers(&ours),
            without_numbers(&theirs),
            "rootfsPropagation {propagation:?}"
        );
    }
}

fn read_only_bind_of_a_nodev_nosuid_mount(t: &Context) {
    let source = t.path("source");
    std::fs::create_dir(&source).unwrap();
    t.sh(&format!("mount -t tmpfs -o nosuid,nodev,noexec t {}", source.display()));
    let mut bundle = t.bundle();
    bundle.user_namespace();
    bundle.bind(&source, "/mnt/ro", &["ro"]);
    bundle.args(["cat", "/proc/self/mountinfo"]);
    let output = bundle.run();
    t.sh(&format!("umount {}", source.display()));
    has_all(&mount_of(&output.ok(), "/mnt/ro").0, &["ro", "nosuid", "nodev", "noexec"]);
}

fn pivots_unless_told_not_to(t: &Context) {
    let bundle = t.bundle();
    bundle.write();
    for (flags, count) in [([].as_slice(), 1), (&["--no-pivot"], 0)] {
        let trace = t.path("trace");
        let strace = t.host("strace").args(["-f", "-e", "trace=pivot_root", "-o"]).arg(&trace);
        let run = strace.arg(&t.runtime.path).arg("--root").arg(t.state_root()).arg("run");
        run.args(flags).arg("--bundle").arg(&bundle.dir).arg("traced").output().exits(0);
        let trace = std::fs::read_to_string(trace).unwrap();
        assert_eq!(trace.matches("pivot_root(").count(), count, "{flags:?}:\n{trace}");
    }
}

fn tmpfs_over_a_directory_of_the_image(t: &Context) {
    let mut bundle = t.bundle();
    std::fs::create_dir(bundle.rootfs("kept")).unwrap();
    t.sh(&format!("echo x > {0}/file; chmod 1750 {0}", bundle.rootfs("kept").display()));
    bundle.mount("/kept", "tmpfs", "tmpfs", &["tmpcopyup", "shared"]);
    // A mount point is made in it, so it becomes read-only only after that.
    bundle.mount("/mnt", "tmpfs", "tmpfs", &["ro"]);
    bundle.mount("/mnt/below", "tmpfs", "tmpfs", &[]);
    bundle.script("stat -c %a /kept; cat /kept/file; touch /mnt/x; cat /proc/self/mountinfo");
    let output = bundle.run().exits(0);
    contains(&output.stderr, "Read-only file system");
    assert!(output.stdout.starts_with("1750\nx\n"), "{output}");
    contains(&propagation(&output.stdout, "/kept"), "shared");
}
