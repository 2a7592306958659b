//! Device nodes, links and the device cgroup.

use crate::harness::{Context, Need, Test, contains};
use crate::test;
use serde_json::json;

pub const TESTS: &[Test] = &[
    test!(default_devices_and_links),
    test!(default_devices_work),
    test!(given_devices),
    test!(device_below_a_new_directory),
    test!(another_file_in_its_place_is_an_error)
        .needs(&[Need::CortenOnly("1.1 takes what is there")]),
    test!(device_cgroup_denies_by_default),
    test!(device_cgroup_allows_by_rule),
    test!(mknod_is_allowed_open_is_not).needs(&[Need::Capability(27, "CAP_MKNOD")]),
    test!(bound_dev_is_left_alone),
    test!(devices_in_a_user_namespace),
    test!(fifo_and_modes),
    test!(pty_can_be_opened_by_users),
];

fn default_devices_and_links(t: &Context) {
    let mut bundle = t.bundle();
    bundle.script(
        "cd /dev; for d in null zero full random urandom tty; do stat -c '%n %F %t:%T %a %u:%g' $d; done; \
         for l in fd stdin stdout stderr ptmx; do echo $l $(readlink $l); done",
    );
    let expected = "null character special file 1:3 666 0:0\n\
        zero character special file 1:5 666 0:0\n\
        full character special file 1:7 666 0:0\n\
        random character special file 1:8 666 0:0\n\
        urandom character special file 1:9 666 0:0\n\
        tty character special file 5:0 666 0:0\n\
        fd /proc/self/fd\nstdin /proc/self/fd/0\nstdout /proc/self/fd/1\n\
        stderr /proc/self/fd/2\nptmx pts/ptmx";
    assert_eq!(bundle.run().ok(), expected);
}

fn default_devices_work(t: &Context) {
    let mut bundle = t.bundle();
    bundle.script(
        "head -c 5 /dev/zero | wc -c; head -c 5 /dev/urandom | wc -c; echo x > /dev/null; \
         wc -c < /dev/null; echo x > /dev/full; echo via-fd >> /dev/stdout",
    );
    let output = bundle.run();
    contains(&output.stderr, "No space left on device");
    assert_eq!(output.ok(), "5\n5\n0\nvia-fd");
}

fn given_devices(t: &Context) {
    let mut bundle = t.bundle();
    bundle.config["linux"]["devices"] = json!([
        {"path": "/dev/mine", "type": "c", "major": 1, "minor": 5, "fileMode": 0o640, "uid": 7, "gid": 8},
        {"path": "/dev/blk", "type": "b", "major": 7, "minor": 77},
    ]);
    bundle.script("cd /dev; stat -c '%n %F %t:%T %a %u:%g' mine blk");
    // The mask of the caller does not take bits away.
    let output = bundle.run().ok();
    contains(&output, "mine character special file 1:5 640 7:8\n");
    contains(&output, "blk block special file 7:4d 666 0:0");
}

fn device_below_a_new_directory(t: &Context) {
    let mut bundle = t.bundle();
    bundle.config["linux"]["devices"] =
        json!([{"path": "/opt/deep/zero", "type": "c", "major": 1, "minor": 5, "fileMode": 0o666}]);
    bundle.script("head -c 4 /opt/deep/zero | wc -c");
    assert_eq!(bundle.run().ok(), "4");
}

fn another_file_in_its_place_is_an_error(t: &Context) {
    for user_namespace in [false, true] {
        let mut bundle = t.bundle();
        if user_namespace {
            bundle.user_namespace();
        }
        for destination in ["/dev", "/dev/pts", "/dev/shm", "/dev/mqueue"] {
            bundle.without_mount(destination);
        }
        let zero = bundle.rootfs("dev/zero");
        std::fs::write(&zero, "a file").unwrap();
        contains(&bundle.create_fails(), "/dev/zero exists and is not character device 1:5");
        assert_eq!(std::fs::read_to_string(&zero).unwrap(), "a file");
        // The device itself may be there already, as after an earlier container.
        std::fs::remove_file(&zero).unwrap();
        bundle.script("head -c 3 /dev/zero | wc -c");
        for _ in 0..2 {
            assert_eq!(bundle.run().ok(), "3");
        }
    }
}

/// GHSA-g54h-m393-cpwq: what is not allowed is denied.
fn device_cgroup_denies_by_default(t: &Context) {
    let mut bundle = t.bundle();
    bundle.config["linux"]["devices"] = json!([
        {"path": "/dev/kmsg", "type": "c", "major": 1, "minor": 11, "fileMode": 0o666},
        {"path": "/dev/disk", "type": "b", "major": 254, "minor": 0, "fileMode": 0o666},
    ]);
    bundle.all_capabilities();
    bundle.script("head -c 1 /dev/kmsg; head -c 1 /dev/disk; true");
    for devices in [json!([{"allow": false, "access": "rwm"}]), json!([])] {
        bundle.config["linux"]["resources"]["devices"] = devices;
        let output = bundle.run();
        assert_eq!(output.stderr.matches("Operation not permitted").count(), 2, "{output}");
    }
    if t.runtime.is_corten() {
        bundle.config["linux"].as_object_mut().unwrap().remove("resources");
        let output = bundle.run();
        assert_eq!(output.stderr.matches("Operation not permitted").count(), 2, "{output}");
    }
}

fn device_cgroup_allows_by_rule(t: &Context) {
    let mut bundle = t.bundle();
    bundle.config["linux"]["devices"] =
        json!([{"path": "/dev/kmsg", "type": "c", "major": 1, "minor": 11, "fileMode": 0o666}]);
    bundle.all_capabilities();
    bundle.script("(exec 3</dev/kmsg) && echo read; (exec 4>/dev/kmsg) && echo write; true");
    let deny = json!({"allow": false, "access": "rwm"});
    let allow = |access: &str| json!({"allow": true, "type": "c", "major": 1, "minor": 11, "access": access});
    bundle.config["linux"]["resources"]["devices"] = json!([deny, allow("r")]);
    assert_eq!(bundle.run().stdout, "read\n");
    bundle.config["linux"]["resources"]["devices"] = json!([deny, allow("rw")]);
    assert_eq!(bundle.run().stdout, "read\nwrite\n");
    bundle.config["linux"]["resources"]["devices"] = json!([{"allow": true, "access": "rwm"}]);
    assert_eq!(bundle.run().stdout, "read\nwrite\n");
}

fn mknod_is_allowed_open_is_not(t: &Context) {
    let mut bundle = t.bundle();
    bundle.all_capabilities();
    bundle.script("mknod /tmp/disk b 254 0 && echo made; head -c 1 /tmp/disk | wc -c");
    let output = bundle.run();
    contains(&output.stderr, "Operation not permitted");
    assert_eq!(output.ok(), "made\n0");
}

fn bound_dev_is_left_alone(t: &Context) {
    let dev = t.path("dev");
    std::fs::create_dir(&dev).unwrap();
    t.sh(&format!("mknod -m 666 {}/null c 1 3", dev.display()));
    let mut bundle = t.bundle();
    for destination in ["/dev", "/dev/pts", "/dev/shm", "/dev/mqueue"] {
        bundle.without_mount(destination);
    }
    bundle.bind(&dev, "/dev", &[]);
    bundle.config["linux"]["maskedPaths"] = json!([]);
    bundle.script("ls /dev");
    assert_eq!(bundle.run().ok(), "null");
    assert_eq!(std::fs::read_dir(&dev).unwrap().count(), 1);
}

fn devices_in_a_user_namespace(t: &Context) {
    let mut bundle = t.bundle();
    bundle.user_namespace();
    bundle.config["linux"]["devices"] =
        json!([{"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229}]);
    bundle.script("cd /dev; stat -c '%n %t:%T' null fuse; head -c 3 zero | wc -c");
    assert_eq!(bundle.run().ok(), "null 1:3\nfuse a:e5\n3");
}

fn fifo_and_modes(t: &Context) {
    let mut bundle = t.bundle();
    bundle.config["linux"]["devices"] =
        json!([{"path": "/dev/pipe", "type": "p", "fileMode": 0o622, "uid": 3, "gid": 4}]);
    bundle.script("stat -c '%F %a %u:%g' /dev/pipe");
    assert_eq!(bundle.run().ok(), "fifo 622 3:4");
}

fn pty_can_be_opened_by_users(t: &Context) {
    let mut bundle = t.bundle();
    bundle.config["process"]["user"] = json!({"uid": 1000, "gid": 1000});
    bundle.script("exec 3<>/dev/ptmx && ls /dev/pts");
    contains(&bundle.run().ok(), "0");
}
