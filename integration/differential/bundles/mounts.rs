//! Mounts, devices, masks and the root.

use crate::bundles;
use crate::harness::Bundle;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

bundles! {
    bind_directory_and_file, Look, |b| {
        let dir = volume(b);
        b.bind(&dir, "/data", &[]);
        b.bind(dir.join("file"), "/etc/new/file", &["ro"]);
        b.bind(dir.join("file"), "/etc/passwd", &["rbind", "ro", "nosuid"]);
    };
    bind_options, Look, |b| {
        let dir = volume(b);
        for options in [
            &["ro"][..], &["nosuid", "nodev", "noexec"], &["noatime"], &["nodiratime"],
            &["strictatime"], &["relatime"], &["ro", "rw"], &["nosuid", "suid"], &["rw", "noexec", "exec"],
        ] {
            b.bind(&dir, &format!("/bind/{}", options.join("-")), options);
        }
    };
    bind_recursive, Look, |b| {
        let dir = tree(b);
        b.bind(&dir, "/plain", &[]);
        b.mount("/all", "bind", &dir, &["rbind"]);
        b.mount("/all-ro", "bind", &dir, &["rbind", "ro"]);
        b.mount("/all-rro", "bind", &dir, &["rbind", "rro"]);
        b.mount("/all-rnosuid", "bind", &dir, &["rbind", "rnosuid", "rnodev", "rnoexec", "rnoatime"]);
    };
    bind_of_locked_flags, Look, |b| {
        let dir = tree(b);
        b.bind(dir.join("below"), "/kept", &[]);
        b.bind(dir.join("below"), "/kept-ro", &["ro"]);
        b.bind(dir.join("below"), "/dropped", &["suid", "dev", "exec"]);
    };
    bind_propagation, Look, |b| {
        let dir = tree(b);
        for word in ["private", "rprivate", "shared", "rshared", "slave", "rslave", "unbindable", "runbindable"] {
            b.mount(&format!("/p/{word}"), "bind", &dir, &["rbind", word]);
        }
    };
    bind_without_type, Look, |b| {
        let dir = volume(b);
        b.config["mounts"].as_array_mut().unwrap().push(
            json!({"destination": "/data", "source": dir, "options": ["bind"]}));
    };
    bind_with_type_none, Look, |b| {
        let dir = volume(b);
        b.mount("/data", "none", dir, &["rbind", "ro"]);
    };
    bind_source_relative, Look, |b| {
        volume(b);
        b.bind("volume", "/data", &[]);
    };
    bind_source_missing, Look, |b| b.bind("/no/such/source", "/data", &[]);
    bind_source_link, Look, |b| {
        let dir = volume(b);
        symlink(&dir, b.dir.join("link")).unwrap();
        b.bind(b.dir.join("link"), "/data", &[]);
    };
    destination_relative, Look, |b| {
        let dir = volume(b);
        b.bind(dir, "data/below", &[]);
    };
    destination_by_link, Look, |b| {
        let dir = volume(b);
        fs::create_dir(b.rootfs("/real")).unwrap();
        symlink("/real", b.rootfs("/absolute")).unwrap();
        symlink("../../../../real", b.rootfs("/escape")).unwrap();
        symlink("/new/place", b.rootfs("/dangling")).unwrap();
        b.bind(&dir, "/absolute/a", &[]);
        b.bind(&dir, "/escape/b", &[]);
        b.bind(&dir, "/dangling", &[]);
    };
    destination_file_by_link, Look, |b| {
        let dir = volume(b);
        fs::write(b.rootfs("/etc/target"), "").unwrap();
        symlink("target", b.rootfs("/etc/link")).unwrap();
        b.bind(dir.join("file"), "/etc/link", &["ro"]);
    };
    destination_twice, Look, |b| {
        let dir = volume(b);
        b.bind(&dir, "/data", &[]);
        b.mount("/data", "tmpfs", "tmpfs", &["ro"]);
        b.mount("/data/inner", "tmpfs", "tmpfs", &[]);
    };
    destination_with_dots, Look, |b| {
        let dir = volume(b);
        b.bind(dir, "/mnt/../data/./here/", &[]);
    };
    tmpfs_options, Look, |b| {
        for options in [
            &[][..], &["size=1m", "mode=700"], &["size=50%"], &["nr_inodes=100"], &["ro"], &["uid=1000", "gid=1000"],
            &["noexec", "nosuid", "nodev"], &["noatime"], &["mode=1777", "shared"], &["nodiratime", "strictatime"],
            &["sync"], &["dirsync"],
        ] {
            b.mount(&format!("/t/{}", options.join("-")), "tmpfs", "tmpfs", options);
        }
    };
    tmpfs_over_directory, Look, |b| {
        fs::create_dir(b.rootfs("/full")).unwrap();
        fs::write(b.rootfs("/full/file"), "").unwrap();
        fs::set_permissions(b.rootfs("/full"), std::os::unix::fs::PermissionsExt::from_mode(0o1770)).unwrap();
        b.mount("/full", "tmpfs", "tmpfs", &["size=1m"]);
    };
    tmpcopyup, Run, |b| {
        b.script("ls /etc; stat -c %a /etc; grep ' /etc ' /proc/self/mountinfo | cut -d' ' -f6-");
        b.mount("/etc", "tmpfs", "tmpfs", &["tmpcopyup", "size=1m"]);
    };
    overlay, Look, |b| {
        for dir in ["lower", "upper", "work"] {
            fs::create_dir(b.dir.join(dir)).unwrap();
        }
        let dir = b.dir.display().to_string();
        let options = [format!("lowerdir={dir}/lower"), format!("upperdir={dir}/upper"), format!("workdir={dir}/work")];
        b.mount("/overlay", "overlay", "overlay", &options.each_ref().map(String::as_str));
    };
    unknown_type, Look, |b| b.mount("/x", "nosuchfs", "none", &[]);
    unknown_option, Look, |b| b.mount("/x", "tmpfs", "tmpfs", &["no_such_option"]);
    readonly_root, Look, |b| b.config["root"]["readonly"] = json!(true);
    readonly_root_new_mount_points, Look, |b| {
        b.config["root"]["readonly"] = json!(true);
        let dir = volume(b);
        b.bind(dir, "/new/point", &[]);
    };
    root_absolute, Look, |b| b.config["root"]["path"] = json!(b.rootfs("").to_str().unwrap().trim_end_matches('/'));
    root_propagation_shared, Look, |b| propagation(b, "shared");
    root_propagation_slave, Look, |b| propagation(b, "slave");
    root_propagation_private, Look, |b| propagation(b, "private");
    root_propagation_unbindable, Look, |b| propagation(b, "unbindable");
    no_mounts, Run, |b| {
        b.config["mounts"] = json!([]);
        b.config["linux"]["maskedPaths"] = json!([]);
        b.config["linux"]["readonlyPaths"] = json!([]);
        b.script("ls -l /dev /proc | awk '{print $1, $3, $4, $NF}'");
    };
    no_dev_mount, Look, |b| {
        b.without_mount("/dev");
        b.without_mount("/dev/pts");
        b.without_mount("/dev/shm");
        b.without_mount("/dev/mqueue");
    };
    dev_bound_from_host, Look, |b| {
        for mount in ["/dev", "/dev/pts", "/dev/shm", "/dev/mqueue"] {
            b.without_mount(mount);
        }
        b.mount("/dev", "bind", "/dev", &["rbind", "rprivate", "nosuid"]);
    };
    dev_read_only, Look, |b| {
        b.config["mounts"][1]["options"] = json!(["nosuid", "mode=755", "ro"]);
    };
    devices, Look, |b| b.config["linux"]["devices"] = json!([
        {"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 0o666, "uid": 1, "gid": 2},
        {"path": "/dev/sub/disk", "type": "b", "major": 7, "minor": 3},
        {"path": "/dev/pipe", "type": "p", "fileMode": 0o600},
        {"path": "/opt/null", "type": "c", "major": 1, "minor": 3, "fileMode": 0o604},
        {"path": "/dev/unbuffered", "type": "u", "major": 1, "minor": 5},
    ]);
    devices_default_changed, Look, |b| b.config["linux"]["devices"] = json!([
        {"path": "/dev/null", "type": "c", "major": 1, "minor": 3, "fileMode": 0o600, "uid": 7, "gid": 8},
    ]);
    masked_paths, Look, |b| {
        fs::create_dir(b.rootfs("/secret")).unwrap();
        fs::write(b.rootfs("/secret/file"), "secret").unwrap();
        fs::write(b.rootfs("/secret-file"), "secret").unwrap();
        symlink("/secret", b.rootfs("/secret-link")).unwrap();
        b.config["linux"]["maskedPaths"] =
            json!(["/secret", "/secret-file", "/no/such/path", "/proc/kcore", "/proc/bus", "/proc/keys"]);
    };
    readonly_paths, Look, |b| b.config["linux"]["readonlyPaths"] =
        json!(["/proc/sys", "/etc", "/no/such/path", "/proc/sysrq-trigger", "/dev/shm", "/etc/passwd"]);
    nothing_masked, Look, |b| {
        b.config["linux"]["maskedPaths"] = json!([]);
        b.config["linux"]["readonlyPaths"] = json!([]);
    };
    proc_and_sys_options, Look, |b| {
        b.config["mounts"][0]["options"] = json!(["ro", "nosuid", "hidepid=2"]);
        b.config["mounts"][5]["options"] = json!(["rw", "noatime"]);
    };
    mqueue_and_shm_bare, Look, |b| {
        b.config["mounts"][3]["options"] = json!([]);
        b.config["mounts"][4]["options"] = json!(null);
    };
}

fn propagation(b: &mut Bundle, word: &str) {
    b.config["linux"]["rootfsPropagation"] = Value::from(word);
}

/// A directory of the host with a file in it.
fn volume(b: &Bundle) -> PathBuf {
    let dir = b.dir.join("volume");
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("file"), "").unwrap();
    dir
}

/// A directory with a mount below it that has flags.
fn tree(b: &Bundle) -> PathBuf {
    let dir = volume(b);
    b.context.sh(&format!(
        "mkdir {0}/below; mount -t tmpfs -o nosuid,nodev,noexec,noatime,size=1m below {0}/below",
        dir.display()
    ));
    dir
}
