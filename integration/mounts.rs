//! Mount options, one by one: links at both ends of a bind mount, and every word of the spec.

use crate::harness::{Context, Need, Test, contains};
use crate::test;
use std::os::unix::fs::symlink;

const CRUN: &[Need] = &[Need::CortenOnly("an option of crun")];

pub const TESTS: &[Test] = &[
    test!(copy_symlink_makes_the_link_again).needs(CRUN),
    test!(src_nofollow_mounts_the_link).needs(CRUN),
    test!(dest_nofollow_mounts_on_the_link).needs(CRUN),
    test!(links_in_a_user_namespace).needs(CRUN),
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
