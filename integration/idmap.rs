//! Id-mapped mounts: whose a file is inside, and whose a file written inside is on disk.

use crate::harness::{Bundle, Context, Need, Test, contains, leftovers};
use crate::test;
use serde_json::{Value, json};
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};

const NO_RUNC: Need = Need::CortenOnly("id-mapped mounts came with 1.2");
const NOT_RUNC: &[Need] = &[NO_RUNC];

pub const TESTS: &[Test] = &[
    test!(mapped_without_a_user_namespace).needs(NOT_RUNC),
    test!(mapped_in_a_user_namespace).needs(NOT_RUNC),
    test!(mappings_of_the_container).needs(NOT_RUNC),
    test!(mappings_of_a_joined_user_namespace).needs(NOT_RUNC),
    test!(many_lines_and_a_file).needs(NOT_RUNC),
    test!(mappings_in_the_option).needs(NOT_RUNC),
    test!(mounts_below_only_with_ridmap).needs(NOT_RUNC),
    test!(attributes_and_propagation_are_kept).needs(NOT_RUNC),
    test!(flags_of_the_host_stay_locked).needs(NOT_RUNC),
    test!(mounts_with_one_mapping_share_a_namespace).needs(&[NO_RUNC, Need::Program("strace")]),
    test!(host_mounts_are_left_alone).needs(NOT_RUNC),
    test!(what_cannot_be_mapped_is_refused).needs(NOT_RUNC),
    test!(file_systems_without_it_are_named).needs(NOT_RUNC),
];

/// First id on disk, first id on the host, how many.
fn map(ranges: &[[u32; 3]]) -> Value {
    let range = |r: &[u32; 3]| json!({"containerID": r[0], "hostID": r[1], "size": r[2]});
    ranges.iter().map(range).collect()
}

/// A bind mount with mappings.
fn bind_mapped(
    bundle: &mut Bundle<'_>,
    source: &Path,
    destination: &str,
    options: &[&str],
    ids: [&[[u32; 3]]; 2],
) {
    bundle.mount(destination, "bind", source, options);
    let mount = bundle.config["mounts"].as_array_mut().unwrap().last_mut().unwrap();
    mount["uidMappings"] = map(ids[0]);
    mount["gidMappings"] = map(ids[1]);
}

/// A directory that all may write to, with the files f0, f3 and f1000, owned by these.
fn source(t: &Context) -> PathBuf {
    let dir = t.path("source");
    std::fs::create_dir(&dir).unwrap();
    fill(t, &dir);
    dir
}

fn fill(t: &Context, dir: &Path) {
    for id in [0, 3, 1000] {
        let file = dir.join(format!("f{id}"));
        std::fs::write(&file, "x").unwrap();
        chown(&file, Some(id), Some(id)).unwrap();
    }
    t.sh(&format!("chmod 0777 {}", dir.display()));
}

fn owner(path: PathBuf) -> (u32, u32) {
    let found = std::fs::metadata(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    (found.uid(), found.gid())
}

/// Prints the owners of the files of [`source`] at /mnt, and makes one there.
const LOOK_AND_WRITE: &str = "cd /mnt; stat -c %n:%u:%g f*; touch new; stat -c %u:%g new";

fn mapped_without_a_user_namespace(t: &Context) {
    let source = source(t);
    let mut bundle = t.bundle();
    // Neither idmap nor ridmap: the mappings alone mean idmap.
    for options in [["bind"].as_slice(), &["bind", "idmap"], &["rbind", "ridmap"]] {
        bundle.without_mount("/mnt");
        bind_mapped(&mut bundle, &source, "/mnt", options, [&[[0, 500, 10]], &[[0, 700, 10]]]);
        bundle.config["process"]["user"] = json!({"uid": 505, "gid": 706});
        bundle.script(LOOK_AND_WRITE);
        // What is not mapped belongs to the overflow id, proc_sys_kernel(5).
        let expected = "f0:500:700\nf1000:65534:65534\nf3:503:703\n505:706";
        assert_eq!(bundle.run().ok(), expected, "{options:?}");
        assert_eq!(owner(source.join("new")), (5, 6));
        std::fs::remove_file(source.join("new")).unwrap();
    }
    // Nobody on disk would own it.
    bundle.config["process"]["user"] = json!({"uid": 0, "gid": 0});
    contains(&bundle.run().stderr, "Value too large");
}

fn mapped_in_a_user_namespace(t: &Context) {
    let source = source(t);
    let mut bundle = t.bundle();
    bundle.user_namespace();
    // 100000 is the container's 0. Users and groups differ.
    let ids: [&[[u32; 3]]; 2] = [&[[0, 100_000, 10]], &[[0, 100_020, 10]]];
    bind_mapped(&mut bundle, &source, "/mnt", &["bind", "idmap"], ids);
    bundle.config["process"]["user"] = json!({"uid": 4, "gid": 25});
    bundle.script(LOOK_AND_WRITE);
    assert_eq!(bundle.run().ok(), "f0:0:20\nf1000:65534:65534\nf3:3:23\n4:25");
    assert_eq!(owner(source.join("new")), (4, 5));
}

fn mappings_of_the_container(t: &Context) {
    let source = source(t);
    let mut bundle = t.bundle();
    bundle.user_namespace();
    bundle.mount("/mnt", "none", &source, &["rbind", "idmap"]);
    bundle.bind(&source, "/home", &[]);
    bundle.script(&format!("{LOOK_AND_WRITE}; stat -c %u /home/f3"));
    // Without the mapping the file belongs to nobody inside.
    assert_eq!(bundle.run().ok(), "f0:0:0\nf1000:1000:1000\nf3:3:3\n0:0\n65534");
    assert_eq!(owner(source.join("new")), (0, 0));
}

fn mappings_of_a_joined_user_namespace(t: &Context) {
    let source = source(t);
    let mut first = t.bundle();
    first.user_namespace();
    first.idle();
    let first = first.start();
    let mut bundle = t.bundle();
    bundle.user_namespace();
    for field in ["uidMappings", "gidMappings"] {
        bundle.config["linux"].as_object_mut().unwrap().remove(field);
    }
    bundle.namespace("user", Some(format!("/proc/{}/ns/user", first.pid())));
    bundle.mount("/mnt", "bind", &source, &["bind", "ridmap"]);
    bind_mapped(&mut bundle, &source, "/home", &["bind"], [&[[3, 100_009, 1]], &[[3, 100_008, 1]]]);
    bundle.script(&format!("{LOOK_AND_WRITE}; stat -c %u:%g /home/f3"));
    assert_eq!(bundle.run().ok(), "f0:0:0\nf1000:1000:1000\nf3:3:3\n0:0\n9:8");
    assert_eq!(owner(source.join("new")), (0, 0));
    first.end();
}

fn many_lines_and_a_file(t: &Context) {
    let source = source(t);
    let mut bundle = t.bundle();
    let uids = [[0, 40, 1], [3, 10, 2], [999, 2000, 100]];
    let gids = [[3, 5, 1], [1000, 1000, 1], [0, 77, 1]];
    bind_mapped(&mut bundle, &source, "/mnt", &["bind", "idmap"], [&uids, &gids]);
    let file = source.join("f1000");
    bind_mapped(&mut bundle, &file, "/etc/group", &["bind", "idmap", "ro"], [&uids, &gids]);
    bundle.all_capabilities();
    bundle.script("cd /mnt; stat -c %n:%u:%g f* /etc/group; echo >> /etc/group");
    let output = bundle.run().exits(1);
    assert_eq!(output.stdout, "f0:40:77\nf1000:2001:1000\nf3:10:5\n/etc/group:2001:1000\n");
    contains(&output.stderr, "Read-only file system");
}

/// As crun and Podman write it.
fn mappings_in_the_option(t: &Context) {
    let source = source(t);
    let mut bundle = t.bundle();
    let option = "idmap=uids=0-40-1#3-10-2#1000-2001-1;gids=0-77-1#3-5-1#1000-1000-1";
    bundle.bind(&source, "/mnt", &[option]);
    bundle.script("cd /mnt; stat -c %n:%u:%g f*");
    assert_eq!(bundle.run().ok(), "f0:40:77\nf1000:2001:1000\nf3:10:5");
    // Relative to the container's user namespace.
    bundle.user_namespace();
    bundle.without_mount("/mnt");
    bundle.bind(&source, "/mnt", &["idmap=uids=@0-40-1#@3-10-2;gids=@0-77-5"]);
    assert_eq!(bundle.run().ok(), "f0:40:77\nf1000:65534:65534\nf3:10:80");
    // The fields win.
    bundle.without_mount("/mnt");
    let options = ["bind", "idmap=uids=0-1-1;gids=0-1-1"];
    let ids: [&[[u32; 3]]; 2] = [&[[0, 100_009, 9]], &[[0, 100_008, 9]]];
    bind_mapped(&mut bundle, &source, "/mnt", &options, ids);
    assert_eq!(bundle.run().ok(), "f0:9:8\nf1000:65534:65534\nf3:12:11");
}

fn mounts_below_only_with_ridmap(t: &Context) {
    let source = source(t);
    let sub = source.join("sub");
    std::fs::create_dir(&sub).unwrap();
    t.sh(&format!("mount -t tmpfs inner {}", sub.display()));
    fill(t, &sub);
    let mut bundle = t.bundle();
    let ids: [&[[u32; 3]]; 2] = [&[[0, 500, 10]], &[[0, 700, 10]]];
    bind_mapped(&mut bundle, &source, "/mnt", &["rbind", "idmap"], ids);
    bind_mapped(&mut bundle, &source, "/home", &["rbind", "ridmap"], ids);
    bundle.script("stat -c %u:%g /mnt/f3 /mnt/sub/f3 /home/f3 /home/sub/f3");
    let output = bundle.run();
    t.sh(&format!("umount {}", sub.display()));
    assert_eq!(output.ok(), "503:703\n3:3\n503:703\n503:703");
}

fn attributes_and_propagation_are_kept(t: &Context) {
    let source = source(t);
    t.sh(&format!("mount -t tmpfs -o nosuid,nodev inner {}", source.display()));
    let mut bundle = t.bundle();
    bundle.user_namespace();
    bundle.mount("/mnt", "bind", &source, &["rbind", "ridmap", "ro", "rnoexec", "rshared"]);
    bundle.args(["grep", " /mnt ", "/proc/self/mountinfo"]);
    let output = bundle.run();
    t.sh(&format!("umount {}", source.display()));
    let line = output.ok();
    let fields: Vec<&str> = line.split(' ').collect();
    for option in ["ro", "nosuid", "nodev", "noexec", "idmapped"] {
        assert!(fields[5].split(',').any(|o| o == option), "{option} in {line}");
    }
    contains(&line, "shared:");
}

/// What the host forbids on a mount the container's root cannot allow itself.
fn flags_of_the_host_stay_locked(t: &Context) {
    let source = source(t);
    t.sh(&format!(
        "mount -t tmpfs inner {0}; mount -o remount,bind,ro,nosuid {0}",
        source.display()
    ));
    let mut bundle = t.bundle();
    bundle.user_namespace();
    bundle.all_capabilities();
    bundle.bind(&source, "/mnt/plain", &[]);
    bundle.bind(&source, "/mnt/mapped", &["idmap"]);
    bundle.script(
        "for m in plain mapped; do mount -o remount,bind,rw,suid m /mnt/$m; done; \
         grep ' /mnt/' /proc/self/mountinfo",
    );
    let output = bundle.run();
    t.sh(&format!("umount {}", source.display()));
    assert_eq!(output.stderr.matches("ermission denied").count(), 2, "{output}");
    assert_eq!(output.ok().matches(" ro,nosuid").count(), 2);
}

fn mounts_with_one_mapping_share_a_namespace(t: &Context) {
    let source = source(t);
    let mut bundle = t.bundle();
    let ids: [&[[u32; 3]]; 2] = [&[[0, 500, 10]], &[[0, 700, 10]]];
    let other: [&[[u32; 3]]; 2] = [&[[0, 501, 10]], &[[0, 700, 10]]];
    for (n, ids) in [ids, ids, other, ids].into_iter().enumerate() {
        bind_mapped(&mut bundle, &source, &format!("/mnt/{n}"), &["bind"], ids);
    }
    bundle.script("stat -c %u /mnt/?/f0");
    bundle.write();
    let trace = t.path("trace");
    let strace = t.host("strace").args(["-f", "-e", "trace=clone3", "-o"]).arg(&trace);
    let run = strace.arg(&t.runtime.path).arg("--root").arg(t.state_root()).arg("run");
    let output = run.arg("--bundle").arg(&bundle.dir).arg("traced").output();
    assert_eq!(output.ok(), "500\n500\n501\n500");
    let trace = std::fs::read_to_string(trace).unwrap();
    assert_eq!(trace.matches("CLONE_NEWUSER").count(), 2, "{trace}");
}

fn host_mounts_are_left_alone(t: &Context) {
    let source = source(t);
    t.sh(&format!("mount -t tmpfs inner {}", source.display()));
    fill(t, &source);
    let before = leftovers::mounts();
    let mut bundle = t.bundle();
    let ids: [&[[u32; 3]]; 2] = [&[[0, 500, 10]], &[[0, 700, 10]]];
    bind_mapped(&mut bundle, &source, "/mnt", &["rbind", "ridmap"], ids);
    bundle.script("stat -c %u /mnt/f3; echo ready; sleep 1000");
    let container = bundle.start();
    container.wait_printed("ready");
    contains(&container.printed(), "503");
    assert_eq!(owner(source.join("f3")), (3, 3));
    assert_eq!(leftovers::mounts(), before);
    // Who enters sees it as the container does.
    assert_eq!(container.sh("stat -c %u:%g /mnt/f3"), "503:703");
    container.end();
    t.sh(&format!("umount {}", source.display()));
}

fn what_cannot_be_mapped_is_refused(t: &Context) {
    let source = source(t);
    let refused = |mount: Value, wanted: &str| {
        let mut bundle = t.bundle();
        bundle.config["mounts"].as_array_mut().unwrap().push(mount);
        let error = bundle.create_fails();
        contains(&error, wanted);
    };
    let source = source.to_str().unwrap();
    let bind =
        |options: Value| json!({"destination": "/mnt", "source": source, "options": options});
    let one = map(&[[0, 1, 1]]);
    refused(
        bind(json!(["bind", "idmap"])),
        "config.json: mounts[6].options[1]: there is nothing to map by",
    );
    let mut half = bind(json!(["bind", "idmap"]));
    half["uidMappings"] = one.clone();
    refused(half, "config.json: mounts[6].uidMappings: needs gidMappings beside it");
    let mut tmpfs = json!({"destination": "/mnt", "type": "tmpfs"});
    tmpfs["uidMappings"] = one.clone();
    tmpfs["gidMappings"] = one.clone();
    refused(tmpfs, "config.json: mounts[6].uidMappings: only a bind mount can be id-mapped");
    let mut overlap = bind(json!(["bind"]));
    overlap["uidMappings"] = one;
    overlap["gidMappings"] = map(&[[0, 1, 5], [3, 100, 1]]);
    refused(overlap, "mounts[6].gidMappings[1]: overlaps mounts[6].gidMappings[0]");
    refused(
        bind(json!(["bind", "idmap=uids=5;gids=0-0-1"])),
        "config.json: mounts[6].options[1]: \"5\" is not of the form ID-ID-SIZE",
    );
}

fn file_systems_without_it_are_named(t: &Context) {
    let mut bundle = t.bundle();
    let ids: [&[[u32; 3]]; 2] = [&[[0, 500, 10]], &[[0, 700, 10]]];
    bind_mapped(&mut bundle, Path::new("/proc/sys"), "/mnt", &["bind"], ids);
    let error = bundle.create_fails();
    contains(&error, "cannot mount /proc/sys on /mnt (mounts[6]): cannot map its ids");
    contains(&error, "hint: the file system of the source");
    // A namespace that is the host's maps nothing.
    bundle.without_mount("/mnt");
    bundle.user_namespace();
    bundle.namespace("user", Some("/proc/self/ns/user".into()));
    for field in ["uidMappings", "gidMappings"] {
        bundle.config["linux"].as_object_mut().unwrap().remove(field);
    }
    bundle.mount("/mnt", "bind", t.path("").parent().unwrap(), &["bind", "idmap"]);
    contains(&bundle.create_fails(), "a user namespace other than the host's");
}
