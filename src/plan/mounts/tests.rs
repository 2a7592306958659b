use nix::sys::stat::SFlag;

use super::*;

fn plan(json: &str) -> Result<RootfsPlan> {
    let spec: Spec = serde_json::from_str(json).unwrap();
    RootfsPlan::build_labelled(&spec, Path::new("/bundle"), false, None)
}

fn config(mounts: &str, linux: &str) -> String {
    format!(
        r#"{{"ociVersion":"1.3.0","root":{{"path":"rootfs"}},"mounts":[{mounts}],
        "linux":{{"namespaces":[{{"type":"mount"}}]{linux}}}}}"#
    )
}

fn mounts(mounts: &str) -> Result<Vec<MountStep>> {
    plan(&config(mounts, "")).map(|plan| plan.mounts)
}

fn text(key: &str, value: &str) -> Setting {
    Setting::Text(CString::new(key).unwrap(), CString::new(value).unwrap())
}

#[test]
fn inside_paths_never_leave_the_root() {
    for (given, inside) in [
        ("/proc", "/proc"),
        ("proc/", "/proc"),
        ("/../../etc//./passwd", "/etc/passwd"),
        ("/a/../../b", "/b"),
        ("..", "/"),
        ("", "/"),
    ] {
        assert_eq!(InsidePath::new(given, "f").unwrap().to_string(), inside, "{given}");
    }
    let path = InsidePath::new("/a/b/c", "f").unwrap();
    let (parent, name) = path.split().unwrap();
    assert_eq!((parent.to_string().as_str(), name), ("/a/b", c"c"));
    let (root, name) =
        InsidePath::new("a", "f").unwrap().split().map(|(p, n)| (p, n.to_owned())).unwrap();
    assert!(root.is_root());
    assert_eq!(name.as_c_str(), c"a");
    assert!(root.split().is_none());
}

#[test]
fn a_bind_mount_of_a_relative_source() {
    let steps = mounts(
        r#"{"destination":"/data","type":"none","source":"data","options":["rbind","ro","rnodev","rslave"]}"#,
    )
    .unwrap();
    assert_eq!(
        steps[0],
        MountStep {
            index: 0,
            destination: InsidePath::new("data", "f").unwrap(),
            dest_nofollow: false,
            kind: MountKind::Bind {
                source: "/bundle/data".into(),
                recursive: true,
                links: Links::Follow,
                ids: None
            },
            attributes: Attributes { set: 0x1, clear: 0 },
            recursive: Attributes { set: 0x4, clear: 0 },
            propagation: vec![Propagation { kind: MsFlags::MS_SLAVE, recursive: true }],
            readonly_late: false,
        }
    );
}

#[test]
fn type_bind_alone_is_a_bind_mount() {
    let steps = mounts(r#"{"destination":"/data","type":"bind","source":"/srv"}"#).unwrap();
    let MountKind::Bind { source, recursive: false, .. } = &steps[0].kind else {
        panic!("{:?}", steps[0].kind)
    };
    assert_eq!(source, Path::new("/srv"));
}

#[test]
fn a_read_only_tmpfs_becomes_so_late() {
    let steps = mounts(
        r#"{"destination":"/run","type":"tmpfs","source":"tmpfs","options":["ro","nosuid","size=64k"]}"#,
    )
    .unwrap();
    assert!(steps[0].readonly_late);
    let MountKind::Filesystem(fs) = &steps[0].kind else { panic!("{:?}", steps[0].kind) };
    assert_eq!(fs.settings, [text("size", "64k")]);
    assert!(fs.copies_mode);
    assert_eq!(fs.classic, None);
}

#[test]
fn other_read_only_file_systems_are_so_from_the_start() {
    let steps = mounts(
        r#"{"destination":"/sys","type":"sysfs","source":"sysfs","options":["nosuid","ro","sync"]}"#,
    )
    .unwrap();
    let MountKind::Filesystem(fs) = &steps[0].kind else { panic!("{:?}", steps[0].kind) };
    assert_eq!(fs.settings, [Setting::Flag(c"ro".into()), Setting::Flag(c"sync".into())]);
    assert!(steps[0].refuses_links());
}

#[test]
fn long_options_go_through_mount_2() {
    let lower = format!("lowerdir=/{}", "x".repeat(300));
    let steps = mounts(&format!(
        r#"{{"destination":"/o","type":"overlay","source":"overlay","options":["{lower}","ro","noatime"]}}"#
    ))
    .unwrap();
    let MountKind::Filesystem(fs) = &steps[0].kind else { panic!("{:?}", steps[0].kind) };
    let (flags, data) = fs.classic.clone().unwrap();
    assert_eq!(flags, MsFlags::MS_RDONLY | MsFlags::MS_NOATIME);
    assert_eq!(data.to_str().unwrap(), lower);
}

#[test]
fn labels_go_to_file_systems_that_take_them() {
    let json = config(
        r#"{"destination":"/proc","type":"proc","source":"proc"},
           {"destination":"/dev","type":"tmpfs","source":"tmpfs"},
           {"destination":"/dev/mqueue","type":"mqueue","source":"mqueue"},
           {"destination":"/sys/fs/cgroup","type":"cgroup","source":"cgroup"}"#,
        "",
    );
    let spec: Spec = serde_json::from_str(&json).unwrap();
    let label = Some("system_u:object_r:container_file_t:s0:c1,c2".to_string());
    let plan = RootfsPlan::build_labelled(&spec, Path::new("/b"), false, label).unwrap();
    let settings = |i: usize| match &plan.mounts[i].kind {
        MountKind::Filesystem(fs) | MountKind::Cgroup(fs) => {
            (fs.settings.clone(), fs.label.is_some())
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(settings(0), (vec![], false));
    let context = text("context", "system_u:object_r:container_file_t:s0:c1,c2");
    assert_eq!(settings(1), (vec![context], false));
    assert_eq!(settings(2), (vec![], true));
    assert_eq!(settings(3), (vec![], false));
}

#[test]
fn bad_mounts_are_named() {
    for (json, message) in [
        (
            r#"{"destination":"/x/..","type":"tmpfs"}"#,
            "config.json: mounts[0].destination: /x/.. is the root itself",
        ),
        (r#"{"destination":"/x"}"#, "config.json: mounts[0].type: missing"),
        (
            r#"{"destination":"/x","options":["bind"]}"#,
            "config.json: mounts[0].source: missing for a bind mount",
        ),
        (
            r#"{"destination":"/x","source":"/s","options":["bind","readonly","m\u001b=1"]}"#,
            "config.json: mounts[0].options: readonly,m\\u{1b}=1 is for a file system, and would \
             have no effect on a bind mount",
        ),
        (
            r#"{"destination":"/x","type":"tmpfs","options":["a\u0000b"]}"#,
            "config.json: mounts[0].options: holds a NUL byte",
        ),
    ] {
        assert_eq!(mounts(json).unwrap_err().to_string(), message);
    }
}

#[test]
fn devices_of_the_spec_replace_default_ones() {
    let plan = plan(&config(
        "",
        r#","devices":[{"path":"/dev/null","type":"c","major":1,"minor":3,"fileMode":384,"uid":5,"gid":6},
            {"path":"/dev/pipe","type":"p"},{"path":"/dev/ptmx","type":"c","major":5,"minor":2}]"#,
    ))
    .unwrap();
    let names: Vec<_> = plan.devices.iter().map(|d| d.path.to_string()).collect();
    assert_eq!(
        names,
        [
            "/dev/zero",
            "/dev/full",
            "/dev/random",
            "/dev/urandom",
            "/dev/tty",
            "/dev/null",
            "/dev/pipe"
        ]
    );
    let null = &plan.devices[5];
    assert_eq!((null.number, null.mode, null.uid, null.gid), (0x103, 0o600, 5, 6));
    assert_eq!(plan.devices[6].kind, SFlag::S_IFIFO);
}

#[test]
fn bad_devices_are_named() {
    for (device, message) in [
        (
            r#"{"path":"/dev/x","type":"c","major":-1,"minor":0}"#,
            "config.json: linux.devices[0].major: -1 is not a device number",
        ),
        (
            r#"{"path":"/dev/x","type":"a"}"#,
            "config.json: linux.devices[0].type: \"a\" is not a type of device node",
        ),
        (
            r#"{"path":"/","type":"p"}"#,
            "config.json: linux.devices[0].path: not the path of a file",
        ),
    ] {
        let error = plan(&config("", &format!(r#","devices":[{device}]"#))).unwrap_err();
        assert_eq!(error.to_string(), message);
    }
}

#[test]
fn dev_is_left_alone_where_it_is_bound() {
    let bound = plan(&config(r#"{"destination":"/dev/","type":"bind","source":"/dev"}"#, ""));
    assert!(!bound.unwrap().setup_dev);
    let tmpfs = plan(&config(r#"{"destination":"/dev","type":"tmpfs","source":"tmpfs"}"#, ""));
    assert!(tmpfs.unwrap().setup_dev);
}

#[test]
fn propagation_of_the_root() {
    let of = |word: &str| plan(&config("", &format!(r#","rootfsPropagation":"{word}""#)));
    assert_eq!(
        of("rshared").unwrap().propagation,
        Some(Propagation { kind: MsFlags::MS_SHARED, recursive: true })
    );
    assert_eq!(of("").unwrap().propagation, None);
    assert_eq!(
        of("ro").unwrap_err().to_string(),
        "config.json: linux.rootfsPropagation: \"ro\" is not a kind of propagation"
    );
}

#[test]
fn private_propagation_needs_pivot_root() {
    let json = config("", r#","rootfsPropagation":"rprivate""#);
    let spec: Spec = serde_json::from_str(&json).unwrap();
    let of = |no_pivot| RootfsPlan::build_labelled(&spec, Path::new("/b"), no_pivot, None);
    assert!(of(false).is_ok());
    assert!(of(true).unwrap_err().to_string().contains("not safe with --no-pivot"));
}

#[test]
fn masks_need_a_mount_namespace() {
    let json =
        r#"{"ociVersion":"1.3.0","root":{"path":"/r"},"linux":{"maskedPaths":["/proc/keys"]}}"#;
    assert!(plan(json).unwrap_err().to_string().contains("need a mount namespace"));
}

#[test]
fn paths_are_listed_once() {
    let plan = plan(&config("", r#","maskedPaths":["/proc/keys","/proc//keys","/sys"]"#)).unwrap();
    let masked: Vec<_> = plan.masked.iter().map(ToString::to_string).collect();
    assert_eq!(masked, ["/proc/keys", "/sys"]);
}
