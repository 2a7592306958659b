//! Mount options, one by one: links at both ends of a bind mount, and every word of the spec.

use crate::harness::{Context, Need, Test, contains};
use crate::test;
use serde_json::json;
use std::os::unix::fs::symlink;

const CRUN: &[Need] = &[Need::CortenOnly("an option of crun")];

pub const TESTS: &[Test] = &[
    test!(copy_symlink_makes_the_link_again).needs(CRUN),
    test!(src_nofollow_mounts_the_link).needs(CRUN),
    test!(dest_nofollow_mounts_on_the_link).needs(CRUN),
    test!(links_in_a_user_namespace).needs(CRUN),
    test!(options_of_a_new_file_system),
    test!(options_of_a_bind_mount),
    test!(recursive_options),
    test!(nosymfollow).needs(&[Need::CortenOnly("nosymfollow came with 1.2")]),
    test!(remounts),
    test!(mounts_go_both_ways_as_shared),
    test!(sources_relative_to_the_bundle),
    test!(words_a_bind_mount_would_ignore).needs(&[Need::CortenOnly("refused since 1.2")]),
    test!(every_kind_of_recursion),
];

/// The mountinfo fields of a destination inside: `(root, options, super options)`.
fn mount_of(mountinfo: &str, destination: &str) -> Option<(String, String, String)> {
    let line = mountinfo.lines().rfind(|line| line.split(' ').nth(4) == Some(destination))?;
    let fields: Vec<&str> = line.split(' ').collect();
    let last = fields.last()?;
    Some((fields[3].to_string(), fields[5].to_string(), last.to_string()))
}

fn copy_symlink_makes_the_link_again(t: &Context) {
    let dir = t.path("source");
    std::fs::create_dir(&dir).unwrap();
    symlink("../etc/passwd", dir.join("good")).unwrap();
    symlink("/leads/nowhere", dir.join("dangling")).unwrap();
    std::fs::write(dir.join("plain"), "of the host").unwrap();
    let mut bundle = t.bundle();
    let options = &["copy-symlink", "ro"];
    bundle.bind(dir.join("good"), "/mnt/good", options);
    bundle.bind(dir.join("dangling"), "/new/dir/dangling", options);
    bundle.bind(dir.join("plain"), "/mnt/plain", options);
    bundle.script(
        "readlink /mnt/good; readlink /new/dir/dangling; head -n 1 /mnt/good; cat /mnt/plain; echo; \
         grep -c ' /mnt/' /proc/self/mountinfo",
    );
    // A second time the links are there already.
    for _ in 0..2 {
        assert_eq!(
            bundle.run().ok(),
            "../etc/passwd\n/leads/nowhere\nroot:x:0:0:root:/root:/bin/sh\nof the host\n1"
        );
    }
    bundle.bind(dir.join("good"), "/etc/group", options);
    contains(
        &bundle.create_fails(),
        "/etc/group exists and is not a symbolic link to ../etc/passwd",
    );
    bundle.without_mount("/etc/group");
    symlink("passwd", bundle.rootfs("etc/other")).unwrap();
    bundle.bind(dir.join("good"), "/etc/other", options);
    contains(&bundle.create_fails(), "/etc/other exists and is not a symbolic link to ");
    assert_eq!(std::fs::read_link(bundle.rootfs("etc/other")).unwrap().as_os_str(), "passwd");
    bundle.without_mount("/etc/other");
    bundle.bind(dir.join("good"), "/proc/link", options);
    contains(&bundle.create_fails(), "inside /proc");
    bundle.without_mount("/proc/link");
    bundle.bind(dir.join("good"), "/mnt/other", &["copy-symlink", "src-nofollow"]);
    contains(
        &bundle.create_fails(),
        "config.json: mounts[9].options: copy-symlink excludes src-nofollow",
    );
}

fn src_nofollow_mounts_the_link(t: &Context) {
    let link = t.path("link");
    symlink("/etc/group", &link).unwrap();
    let dangling = t.path("dangling");
    symlink("/leads/nowhere", &dangling).unwrap();
    let mut bundle = t.bundle();
    bundle.bind(&link, "/mnt/link", &["src-nofollow"]);
    bundle.bind(&dangling, "/mnt/dangling", &["src-nofollow"]);
    bundle.script(
        "readlink /mnt/link; readlink /mnt/dangling; head -n 1 /mnt/link; cat /proc/self/mountinfo",
    );
    let text = bundle.run().ok();
    // Inside it leads to a file of the container.
    assert!(text.starts_with("/etc/group\n/leads/nowhere\nroot:x:0:\n"), "{text}");
    let name = link.file_name().unwrap().to_str().unwrap();
    let root = mount_of(&text, "/mnt/link").expect("a mount").0;
    assert!(root.ends_with(name), "{root} is not the link {name}");
}

fn dest_nofollow_mounts_on_the_link(t: &Context) {
    let (file, link) = (t.path("file"), t.path("link"));
    std::fs::write(&file, "bound").unwrap();
    symlink("/tmp", &link).unwrap();
    let mut bundle = t.bundle();
    for name in ["file", "link"] {
        symlink("/etc/passwd", bundle.rootfs("mnt").join(name)).unwrap();
    }
    // Links above the last name are followed inside.
    symlink("/mnt", bundle.rootfs("way")).unwrap();
    bundle.bind(&file, "/way/file", &["dest-nofollow"]);
    bundle.bind(&link, "/mnt/link", &["dest-nofollow", "src-nofollow"]);
    bundle.script(
        "cat /mnt/file; echo; readlink /mnt/link; head -n 1 /etc/passwd; cat /proc/self/mountinfo",
    );
    let text = bundle.run().ok();
    assert!(text.starts_with("bound\n/tmp\nroot:x:0:0:root:/root:/bin/sh\n"), "{text}");
    assert!(mount_of(&text, "/mnt/file").is_some() && mount_of(&text, "/mnt/link").is_some());
    assert!(mount_of(&text, "/etc/passwd").is_none(), "{text}");
}

fn links_in_a_user_namespace(t: &Context) {
    let link = t.path("link");
    symlink("/etc/group", &link).unwrap();
    let mut bundle = t.bundle();
    bundle.user_namespace();
    bundle.bind(&link, "/mnt/link", &["src-nofollow"]);
    bundle.bind(&link, "/mnt/copy", &["copy-symlink"]);
    bundle.script("readlink /mnt/link; readlink /mnt/copy; stat -c %u:%g /mnt/copy");
    assert_eq!(bundle.run().ok(), "/etc/group\n/etc/group\n0:0");
}

/// What mountinfo must and must not show for each list of options: `word` among those of the
/// mount, `/word` among those of the file system, `!` before what must be absent.
const MOUNT_OPTIONS: [(&[&str], &[&str]); 23] = [
    (&["defaults"], &["rw", "relatime", "!nosuid", "!nodev", "!noexec", "/rw"]),
    (&["ro"], &["ro"]),
    (&["ro", "rw"], &["rw", "/rw"]),
    (&["nosuid"], &["nosuid"]),
    (&["nosuid", "suid"], &["!nosuid"]),
    (&["nodev"], &["nodev"]),
    (&["nodev", "dev"], &["!nodev"]),
    (&["noexec"], &["noexec"]),
    (&["noexec", "exec"], &["!noexec"]),
    (&["noatime"], &["noatime", "!relatime"]),
    (&["noatime", "atime"], &["relatime", "!noatime"]),
    (&["nodiratime"], &["nodiratime", "relatime"]),
    (&["nodiratime", "diratime"], &["!nodiratime"]),
    (&["relatime"], &["relatime"]),
    (&["relatime", "norelatime"], &["!noatime"]),
    (&["strictatime"], &["!relatime", "!noatime"]),
    (&["strictatime", "nostrictatime"], &["relatime"]),
    (&["noatime", "nostrictatime"], &["noatime"]),
    (&["loud"], &["rw"]),
    (&["silent"], &["rw"]),
    (&["mand", "nomand"], &["rw"]),
    (&["iversion"], &["rw"]),
    (&["iversion", "noiversion"], &["rw"]),
];

const SUPERBLOCK_OPTIONS: [(&[&str], &[&str]); 7] = [
    (&["sync"], &["/sync"]),
    (&["sync", "async"], &["!/sync"]),
    (&["async"], &["!/sync"]),
    (&["dirsync"], &["/dirsync"]),
    (&["lazytime"], &["/lazytime"]),
    (&["lazytime", "nolazytime"], &["!/lazytime"]),
    (&["size=1m", "mode=700"], &["/size=1024k", "/mode=700"]),
];

fn check_options(text: &str, destination: &str, options: &[&str], wanted: &[&str]) {
    let found = mount_of(text, destination);
    let (_, mount, superblock) = found.unwrap_or_else(|| panic!("no {destination} in:\n{text}"));
    for word in wanted {
        let (absent, word) = word.strip_prefix('!').map_or((false, *word), |word| (true, word));
        let (list, word) = word.strip_prefix('/').map_or((&mount, word), |w| (&superblock, w));
        let there = list.split(',').any(|option| option == word);
        assert!(there != absent, "{options:?} {wanted:?}: {mount} - {superblock}");
    }
}

fn options_of_a_new_file_system(t: &Context) {
    let mut bundle = t.bundle();
    // runc 1.1 passes it on.
    let known = |row: &&(&[&str], _)| t.runtime.is_corten() || row.0 != ["defaults"];
    let table = || MOUNT_OPTIONS.iter().chain(&SUPERBLOCK_OPTIONS).filter(known).enumerate();
    for (n, (options, _)) in table() {
        bundle.mount(&format!("/mnt/{n}"), "tmpfs", "tmpfs", options);
    }
    bundle.args(["cat", "/proc/self/mountinfo"]);
    let text = bundle.run().ok();
    for (n, (options, wanted)) in table() {
        check_options(&text, &format!("/mnt/{n}"), options, wanted);
    }
}

fn options_of_a_bind_mount(t: &Context) {
    let source = t.path("source");
    std::fs::create_dir(&source).unwrap();
    // A bind mount keeps how its source handles times, which may be noatime on this machine.
    t.sh(&format!("mount -t tmpfs source {}", source.display()));
    let mut bundle = t.bundle();
    for (n, (options, _)) in MOUNT_OPTIONS.iter().enumerate() {
        bundle.bind(&source, &format!("/mnt/{n}"), options);
    }
    bundle.args(["cat", "/proc/self/mountinfo"]);
    let text = bundle.run().ok();
    for (n, (options, wanted)) in MOUNT_OPTIONS.iter().enumerate() {
        check_options(&text, &format!("/mnt/{n}"), options, wanted);
    }
    t.sh(&format!("umount {}", source.display()));
}

/// For a bind mount of a directory with a file system below it, which begins nosuid, nodev,
/// noexec, nodiratime and strictatime.
fn recursive_options(t: &Context) {
    let table: [(&str, &[&str]); 17] = [
        ("rro", &["ro"]),
        ("rrw", &["rw"]),
        ("rnosuid", &["nosuid"]),
        ("rsuid", &["!nosuid"]),
        ("rnodev", &["nodev"]),
        ("rdev", &["!nodev"]),
        ("rnoexec", &["noexec"]),
        ("rexec", &["!noexec"]),
        ("rnodiratime", &["nodiratime"]),
        ("rdiratime", &["!nodiratime"]),
        ("rnoatime", &["noatime"]),
        ("ratime", &["!noatime"]),
        ("rrelatime", &["relatime"]),
        ("rnorelatime", &["!noatime"]),
        ("rstrictatime", &["!relatime", "!noatime"]),
        ("rnostrictatime", &["!noatime"]),
        ("private", &["nosuid", "nodev", "noexec", "nodiratime"]),
    ];
    let source = t.path("source");
    std::fs::create_dir_all(source.join("sub")).unwrap();
    t.sh(&format!(
        "mount -t tmpfs -o nosuid,nodev,noexec,nodiratime,strictatime t {}/sub",
        source.display()
    ));
    let mut bundle = t.bundle();
    // runc 1.1 hands the kernel what it refuses.
    let known = |row: &&(&str, _)| t.runtime.is_corten() || !row.0.ends_with("atime");
    for (option, _) in table.iter().filter(known) {
        bundle.mount(&format!("/mnt/{option}"), "none", &source, &["rbind", option]);
    }
    bundle.args(["cat", "/proc/self/mountinfo"]);
    let output = bundle.run();
    t.sh(&format!("umount {}/sub", source.display()));
    let text = output.ok();
    for (option, wanted) in table.iter().filter(known) {
        check_options(&text, &format!("/mnt/{option}/sub"), &[option], wanted);
    }
}

fn nosymfollow(t: &Context) {
    let source = t.path("source");
    std::fs::create_dir(&source).unwrap();
    symlink("/etc/passwd", source.join("link")).unwrap();
    let mut bundle = t.bundle();
    bundle.bind(&source, "/mnt/not", &["nosymfollow"]);
    bundle.bind(&source, "/mnt/yes", &["nosymfollow", "symfollow"]);
    bundle.mount("/mnt/deep", "bind", &source, &["rbind", "nosymfollow", "rsymfollow"]);
    bundle.script("head -n 1 /mnt/yes/link /mnt/deep/link; cat /mnt/not/link");
    let output = bundle.run().exits(1);
    assert_eq!(output.stdout.matches("root:x:0:0").count(), 2, "{output}");
    contains(&output.stderr, "Too many levels of symbolic links");
}

/// mount(8) "remount": of one mount with bind, of its file system without.
fn remounts(t: &Context) {
    let source = t.path("source");
    std::fs::create_dir(&source).unwrap();
    let mut bundle = t.bundle();
    bundle.bind(&source, "/mnt/a", &["nosuid", "nodev"]);
    bundle.mount("/mnt/a", "bind", &source, &["bind", "remount", "ro", "nosuid", "nodev"]);
    bundle.mount("/mnt/t", "tmpfs", "tmpfs", &["size=1m", "nosuid"]);
    bundle.mount("/mnt/t", "tmpfs", "tmpfs", &["remount", "size=2m", "noexec"]);
    bundle.args(["cat", "/proc/self/mountinfo"]);
    let text = bundle.run().ok();
    check_options(&text, "/mnt/a", &[], &["ro", "nosuid", "nodev", "/rw"]);
    check_options(&text, "/mnt/t", &[], &["noexec", "/size=2048k", "/rw"]);
    for destination in ["/mnt/a", "/mnt/t"] {
        assert_eq!(text.matches(&format!(" {destination} ")).count(), 1, "{text}");
    }
    bundle.mount("/mnt/t", "tmpfs", "tmpfs", &["remount", "size=3m"]);
    bundle.config["mounts"].as_array_mut().unwrap().last_mut().unwrap()["type"] = json!("");
    check_options(&bundle.run().ok(), "/mnt/t", &[], &["!noexec", "/size=3072k"]);
    // There is no mount to change.
    bundle.mount("/home", "bind", &source, &["bind", "remount", "ro"]);
    let error = bundle.create_fails();
    contains(&error, "/home");
    contains(&error, "invalid argument");
    if t.runtime.is_corten() {
        contains(&error, "nothing is mounted there");
    }
}

/// The spec: relative to the bundle, not to where the runtime was started.
fn mounts_go_both_ways_as_shared(t: &Context) {
    let source = t.path("source");
    std::fs::create_dir_all(source.join("late")).unwrap();
    std::fs::create_dir_all(source.join("own")).unwrap();
    let source = source.display();
    t.sh(&format!("mount --bind {source} {source}; mount --make-shared {source}"));
    let mut bundle = t.bundle();
    bundle.bind(source.to_string(), "/mnt/s", &["rshared"]);
    bundle.config["linux"]["rootfsPropagation"] = json!("shared");
    bundle
        .script("mount -t tmpfs t /mnt/s/own; echo mine > /mnt/s/own/file; echo ready; sleep 1000");
    bundle.all_capabilities();
    let container = bundle.start();
    container.wait_printed("ready");
    assert_eq!(t.sh(&format!("cat {source}/own/file")), "mine", "the container's mount goes back");
    t.sh(&format!("mount -t tmpfs late {source}/late; echo hi > {source}/late/file"));
    assert_eq!(container.sh("cat /mnt/s/late/file"), "hi", "the host's mount arrives");
    container.end();
    t.sh(&format!("umount {source}/late {source}/own {source}"));
}

fn sources_relative_to_the_bundle(t: &Context) {
    let mut bundle = t.bundle();
    std::fs::create_dir(bundle.dir.join("data")).unwrap();
    std::fs::write(bundle.dir.join("data/file"), "of the bundle").unwrap();
    bundle.bind("data/../data", "/mnt", &[]);
    bundle.bind("data/file", "/etc/group", &[]);
    bundle.script("cat /mnt/file /etc/group");
    assert_eq!(bundle.run().ok(), "of the bundleof the bundle");
}

fn words_a_bind_mount_would_ignore(t: &Context) {
    let mut bundle = t.bundle();
    bundle.bind("/usr", "/mnt", &["read-only"]);
    contains(
        &bundle.create_fails(),
        "config.json: mounts[6].options: read-only is for a file system, and would have no effect",
    );
}

/// Propagation with and without an r in front, for a mount and the one below it.
fn every_kind_of_recursion(t: &Context) {
    let source = t.path("source");
    std::fs::create_dir_all(source.join("sub")).unwrap();
    t.sh(&format!("mount -t tmpfs t {}/sub", source.display()));
    let mut bundle = t.bundle();
    // What mountinfo shows of the mount, and of the one below it, which starts as a slave.
    let table = [
        ("shared", "shared", "master"),
        ("rshared", "shared", "shared"),
        ("slave", "master", "master"),
        ("rslave", "master", "master"),
        ("private", "", "master"),
        ("rprivate", "", ""),
        ("unbindable", "unbindable", "master"),
        ("runbindable", "unbindable", "unbindable"),
    ];
    for (word, ..) in table {
        bundle.mount(&format!("/mnt/{word}"), "none", &source, &["rbind", word]);
    }
    bundle.args(["cat", "/proc/self/mountinfo"]);
    let output = bundle.run();
    t.sh(&format!("umount {}/sub", source.display()));
    let text = output.ok();
    let fields = |destination: String| -> Vec<String> {
        let line = text.lines().rfind(|l| l.split(' ').nth(4) == Some(&destination)).unwrap();
        let optional = line.split(" - ").next().unwrap().split(' ').skip(6);
        optional.map(|field| field.split(':').next().unwrap().to_string()).collect()
    };
    for (word, top, below) in table {
        for (destination, wanted) in
            [(format!("/mnt/{word}"), top), (format!("/mnt/{word}/sub"), below)]
        {
            let found = fields(destination.clone());
            let same = if wanted.is_empty() {
                found.is_empty()
            } else {
                found.iter().any(|f| f == wanted)
            };
            assert!(same, "{destination}: {found:?}, not {wanted:?}");
        }
    }
}
