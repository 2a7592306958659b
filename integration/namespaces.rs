//! Every namespace new, shared with the host, or joined by path.

use crate::harness::{Bundle, Context, Need, Test, contains, wait_for};
use crate::test;
use serde_json::json;
use std::path::PathBuf;

pub const TESTS: &[Test] = &[
    test!(new_namespaces_differ_from_the_host),
    test!(left_out_namespaces_are_the_hosts),
    test!(joined_namespaces_are_the_same),
    test!(joined_pid_namespace_has_another_init),
    test!(joined_mount_namespace),
    test!(mixed_new_shared_joined),
    test!(hostname_and_domainname),
    test!(domainname_is_set).needs(&[Need::CortenOnly("domainname came with 1.2")]),
    test!(sysctls_of_own_namespaces),
    test!(network_has_its_loopback_up_or_down_like_the_kernel),
    test!(ipc_objects_are_not_seen),
    test!(cgroup_namespace_hides_the_path),
    test!(time_namespace_has_offsets)
        .needs(&[Need::Kernel("/proc/self/ns/time"), Need::CortenOnly("time came with 1.2")]),
    test!(joined_time_namespace)
        .needs(&[Need::Kernel("/proc/self/ns/time"), Need::CortenOnly("time came with 1.2")]),
    test!(user_namespace_maps_ids),
    test!(user_namespace_owns_the_other_namespaces),
    test!(user_namespace_with_read_only_root_and_devices),
    test!(joined_user_namespace),
    test!(pid_namespace_shared_in_the_process_list),
    test!(init_is_pid_one_with_empty_children),
    test!(sysctl_under_a_mount_of_the_host_is_refused),
    test!(unmapped_user_names_the_mappings),
    test!(kill_in_a_shared_pid_namespace_ends_all),
    test!(cgroup2_without_a_cgroup_namespace)
        .needs(&[Need::V2("memory"), Need::CortenOnly("1.1 takes nsdelegate from the host")]),
    test!(cgroup2_in_a_cgroup_namespace).needs(&[Need::V2("memory")]),
    test!(user_cgroup_and_time_namespaces_left_out_are_the_hosts),
    test!(joined_path_of_another_type_is_refused)
        .needs(&[Need::CortenOnly("it names neither path nor field")]),
    test!(several_mappings_and_no_change_of_owners),
    test!(time_offsets_of_both_clocks_to_the_nanosecond)
        .needs(&[Need::Kernel("/proc/self/ns/time"), Need::CortenOnly("time came with 1.2")]),
];

const KINDS: [(&str, &str); 7] = [
    ("pid", "pid"),
    ("network", "net"),
    ("ipc", "ipc"),
    ("uts", "uts"),
    ("mount", "mnt"),
    ("cgroup", "cgroup"),
    ("user", "user"),
];

/// The link text of a process's namespace: equal texts are the same namespace.
fn link(pid: impl std::fmt::Display, file: &str) -> PathBuf {
    std::fs::read_link(format!("/proc/{pid}/ns/{file}")).unwrap()
}

fn new_namespaces_differ_from_the_host(t: &Context) {
    let mut bundle = t.bundle();
    bundle.namespace("cgroup", None);
    bundle.user_namespace();
    bundle.idle();
    let container = bundle.start();
    let pid = container.pid();
    for (kind, file) in KINDS {
        assert_ne!(link(pid, file), link("self", file), "{kind}");
    }
}

fn left_out_namespaces_are_the_hosts(t: &Context) {
    for (kind, file) in
        KINDS.into_iter().filter(|(kind, _)| !["mount", "cgroup", "user"].contains(kind))
    {
        let mut bundle = t.bundle();
        bundle.without_namespace(kind);
        if kind == "uts" {
            bundle.config.as_object_mut().unwrap().remove("hostname");
        }
        if kind == "network" || kind == "ipc" {
            without_sysfs_or_mqueue(&mut bundle, kind);
        }
        bundle.idle();
        let container = bundle.start();
        assert_eq!(link(container.pid(), file), link("self", file), "{kind}");
        container.end();
    }
}

/// What cannot be mounted in the host's namespace of that kind is left out.
fn without_sysfs_or_mqueue(bundle: &mut Bundle, kind: &str) {
    bundle.without_mount(if kind == "ipc" { "/dev/mqueue" } else { "/sys" });
}

fn joined_namespaces_are_the_same(t: &Context) {
    let mut first = t.bundle();
    first.namespace("cgroup", None);
    first.idle();
    let first = first.start();
    let pid = first.pid();
    for (kind, file) in KINDS.into_iter().filter(|(kind, _)| !["mount", "user"].contains(kind)) {
        let mut second = t.bundle();
        second.namespace(kind, Some(format!("/proc/{}/ns/{file}", pid)));
        if kind == "uts" {
            second.config.as_object_mut().unwrap().remove("hostname");
        }
        second.idle();
        let container = second.start();
        assert_eq!(link(container.pid(), file), link(pid, file), "{kind}");
        for (other, file) in
            KINDS.into_iter().filter(|(o, _)| ![kind, "user", "cgroup"].contains(o))
        {
            assert_ne!(
                link(container.pid(), file),
                link(pid, file),
                "{other} when {kind} is joined"
            );
        }
        container.end();
    }
}

fn joined_pid_namespace_has_another_init(t: &Context) {
    let mut first = t.bundle();
    first.idle();
    let first = first.start();
    let mut second = t.bundle();
    second.namespace("pid", Some(format!("/proc/{}/ns/pid", first.pid())));
    second.script("echo $$; cat /proc/1/cmdline | tr '\\0' ' '");
    let output = second.run().ok();
    let (pid, init) = output.split_once('\n').unwrap();
    assert_ne!(pid, "1");
    contains(init, "trap");
    assert_eq!(first.status(), "running");
}

fn joined_mount_namespace(t: &Context) {
    let holder = t
        .host("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-c", "echo ready; exec sleep 1000"])
        .spawn();
    wait_for("the namespace", 5, || std::fs::read_to_string(&holder.out).unwrap() == "ready\n");
    let mut bundle = t.bundle();
    std::fs::write(bundle.rootfs("marker"), "own root").unwrap();
    bundle.namespace("mount", Some(format!("/proc/{}/ns/mnt", holder.pid())));
    bundle.script("cat /marker; sleep 1000");
    let container = bundle.start();
    assert_eq!(link(container.pid(), "mnt"), link(holder.pid(), "mnt"));
    assert_ne!(link(container.pid(), "mnt"), link("self", "mnt"));
    container.wait_printed("own root");
    container.end();
}

fn mixed_new_shared_joined(t: &Context) {
    let mut first = t.bundle();
    first.idle();
    let first = first.start();
    let mut second = t.bundle();
    second.namespace("network", Some(format!("/proc/{}/ns/net", first.pid())));
    second.namespace("ipc", Some(format!("/proc/{}/ns/ipc", first.pid())));
    second.without_namespace("uts");
    second.config.as_object_mut().unwrap().remove("hostname");
    second.idle();
    let second = second.start();
    assert_eq!(link(second.pid(), "net"), link(first.pid(), "net"));
    assert_eq!(link(second.pid(), "ipc"), link(first.pid(), "ipc"));
    assert_eq!(link(second.pid(), "uts"), link("self", "uts"));
    assert_ne!(link(second.pid(), "pid"), link(first.pid(), "pid"));
    assert_ne!(link(second.pid(), "mnt"), link(first.pid(), "mnt"));
}

fn hostname_and_domainname(t: &Context) {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let mut bundle = t.bundle();
    bundle.config["hostname"] = json!("a-name.example");
    bundle.args(["hostname"]);
    assert_eq!(bundle.run().ok(), "a-name.example");
    assert_eq!(std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap(), host);
}

fn domainname_is_set(t: &Context) {
    let host = std::fs::read_to_string("/proc/sys/kernel/domainname").unwrap();
    let mut bundle = t.bundle();
    bundle.config["domainname"] = json!("domain.example");
    bundle.args(["cat", "/proc/sys/kernel/domainname"]);
    assert_eq!(bundle.run().ok(), "domain.example");
    assert_eq!(std::fs::read_to_string("/proc/sys/kernel/domainname").unwrap(), host);
}

fn sysctls_of_own_namespaces(t: &Context) {
    let mut bundle = t.bundle();
    bundle.config["linux"]["sysctl"] = json!({
        "net.ipv4.ip_forward": "1",
        "net/ipv4/ip_default_ttl": "77",
        "kernel.shm_rmid_forced": "1",
        "kernel.msgmax": "9000",
        "fs.mqueue.msg_max": "12",
    });
    bundle.script(
        "cd /proc/sys; cat net/ipv4/ip_forward net/ipv4/ip_default_ttl \
         kernel/shm_rmid_forced kernel/msgmax fs/mqueue/msg_max",
    );
    let before = std::fs::read_to_string("/proc/sys/kernel/msgmax").unwrap();
    assert_eq!(bundle.run().ok(), "1\n77\n1\n9000\n12");
    assert_eq!(std::fs::read_to_string("/proc/sys/kernel/msgmax").unwrap(), before);
}

fn network_has_its_loopback_up_or_down_like_the_kernel(t: &Context) {
    let mut bundle = t.bundle();
    bundle.script("ls /sys/class/net; cat /sys/class/net/lo/flags");
    let output = bundle.run().ok();
    assert!(output.lines().any(|l| l == "lo") && !output.contains("eth0"), "{output}");
    // IFF_UP is 1: runc brings the loopback of a new network namespace up, as engines rely on.
    let flags = output.lines().last().unwrap().trim_start_matches("0x");
    assert_eq!(u32::from_str_radix(flags, 16).unwrap() & 1, 1, "{output}");
}

fn ipc_objects_are_not_seen(t: &Context) {
    let id = t.sh("ipcmk -Q | sed 's/.*: //'");
    let mut bundle = t.bundle();
    bundle.script("tail -n +2 /proc/sysvipc/msg");
    let inside = bundle.run();
    t.sh(&format!("ipcrm -q {id}"));
    assert_eq!(inside.ok(), "");
}

fn cgroup_namespace_hides_the_path(t: &Context) {
    let mut bundle = t.bundle();
    bundle.namespace("cgroup", None);
    bundle.args(["cat", "/proc/self/cgroup"]);
    let output = bundle.run().ok();
    let own = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    for line in output.lines() {
        let names = line.split(':').nth(1).unwrap();
        let mounted = names.is_empty() || own.contains(names.split(',').next().unwrap());
        assert!(!mounted || line.ends_with(":/"), "{line} in:\n{output}");
    }
}

fn time_namespace_has_offsets(t: &Context) {
    let mut bundle = t.bundle();
    bundle.namespace("time", None);
    bundle.config["linux"]["timeOffsets"] =
        json!({"boottime": {"secs": 1_000_000, "nanosecs": 0}, "monotonic": {"secs": 500}});
    bundle.script("cat /proc/uptime; cat /proc/self/timens_offsets; readlink /proc/self/ns/time");
    let output = bundle.run().ok();
    let uptime: f64 = output.split(' ').next().unwrap().parse().unwrap();
    let host = std::fs::read_to_string("/proc/uptime").unwrap();
    let host: f64 = host.split(' ').next().unwrap().parse().unwrap();
    assert!((uptime - host - 1_000_000.0).abs() < 60.0, "{uptime} against {host}");
    let offsets: Vec<Vec<&str>> =
        output.lines().skip(1).map(|l| l.split_whitespace().collect()).collect();
    assert!(offsets.contains(&vec!["monotonic", "500", "0"]), "{output}");
    assert!(offsets.contains(&vec!["boottime", "1000000", "0"]), "{output}");
    assert!(!output.ends_with(link("self", "time").to_str().unwrap()));
}

fn joined_time_namespace(t: &Context) {
    let mut first = t.bundle();
    first.namespace("time", None);
    first.config["linux"]["timeOffsets"] = json!({"boottime": {"secs": 7_000_000}});
    first.idle();
    let first = first.start();
    let mut second = t.bundle();
    second.namespace("time", Some(format!("/proc/{}/ns/time", first.pid())));
    second.args(["cat", "/proc/uptime"]);
    let output = second.run().ok();
    let uptime: f64 = output.split(' ').next().unwrap().parse().unwrap();
    assert!(uptime > 7_000_000.0, "{uptime}");
    // exec enters it too.
    let inside = first.sh("cut -d. -f1 /proc/uptime");
    assert!(inside.parse::<u64>().unwrap() > 7_000_000, "{inside}");
}

fn user_namespace_maps_ids(t: &Context) {
    let mut bundle = t.bundle();
    bundle.user_namespace();
    bundle.script(
        "id -u; cat /proc/self/uid_map /proc/self/gid_map; echo own > /tmp/file; echo done; \
         sleep 1000",
    );
    let container = bundle.start();
    container.wait_printed("done");
    let printed = container.printed();
    let lines: Vec<Vec<&str>> = printed.lines().map(|l| l.split_whitespace().collect()).collect();
    let map = vec!["0", "100000", "65536"];
    assert_eq!(lines, [vec!["0"], map.clone(), map, vec!["done"]]);
    let status = crate::harness::proc_status(container.pid(), "Uid").unwrap();
    assert_eq!(status, "100000\t100000\t100000\t100000");
    use std::os::unix::fs::MetadataExt;
    assert_eq!(std::fs::metadata(bundle.rootfs("tmp/file")).unwrap().uid(), 100_000);
}

fn user_namespace_owns_the_other_namespaces(t: &Context) {
    let mut bundle = t.bundle();
    bundle.user_namespace();
    bundle.all_capabilities();
    // CAP_SYS_ADMIN and CAP_NET_ADMIN over the new namespaces, not over the host's.
    bundle.script("hostname changed && hostname; ip link set lo down && echo down; mount -t tmpfs t /mnt && echo mounted");
    assert_eq!(bundle.run().ok(), "changed\ndown\nmounted");
}

fn user_namespace_with_read_only_root_and_devices(t: &Context) {
    let mut bundle = t.bundle();
    bundle.user_namespace();
    bundle.config["root"]["readonly"] = json!(true);
    bundle.script(
        "touch /file 2>&1; head -c 3 /dev/zero | wc -c; echo x > /dev/null; ls /dev/urandom; \
         echo secret > /proc/kcore && echo written; stat -c %t:%T /dev/null",
    );
    let output = bundle.run().stdout;
    contains(&output, "Read-only file system");
    contains(&output, "3\n/dev/urandom");
    contains(&output, "1:3");
}

fn joined_user_namespace(t: &Context) {
    let mut first = t.bundle();
    first.user_namespace();
    first.idle();
    let first = first.start();
    let mut second = t.bundle();
    second.user_namespace();
    second.namespace("user", Some(format!("/proc/{}/ns/user", first.pid())));
    if t.runtime.is_corten() {
        let linux = second.config["linux"].as_object_mut().unwrap();
        linux.remove("uidMappings");
        linux.remove("gidMappings");
    }
    second.idle();
    let second = second.start();
    assert_eq!(link(second.pid(), "user"), link(first.pid(), "user"));
    assert_ne!(link(second.pid(), "mnt"), link(first.pid(), "mnt"));
}

fn pid_namespace_shared_in_the_process_list(t: &Context) {
    let mut bundle = t.bundle();
    bundle.without_namespace("pid");
    bundle.script("echo $$");
    let pid: u32 = bundle.run().ok().parse().unwrap();
    assert!(pid > 1);
}

fn init_is_pid_one_with_empty_children(t: &Context) {
    let mut bundle = t.bundle();
    bundle.script("echo $$; ls -d /proc/[0-9]*; cat /proc/1/comm; true");
    let output = bundle.run().ok();
    let lines: Vec<&str> = output.lines().collect();
    assert_eq!(lines[0], "1");
    // The shell and its `ls`: nothing of the runtime stays in the namespace.
    let others = lines.iter().filter(|l| l.starts_with("/proc/")).count();
    assert!(others <= 2, "{output}");
    assert_eq!(*lines.last().unwrap(), "sh");
}

/// CVE-2025-52881: the value must not go to what somebody has mounted over the kernel's file.
fn sysctl_under_a_mount_of_the_host_is_refused(t: &Context) {
    let fake = t.path("fake");
    std::fs::create_dir(&fake).unwrap();
    std::fs::write(fake.join("msgmax"), "fake").unwrap();
    let mut bundle = t.bundle();
    bundle.config["linux"]["sysctl"] = json!({"kernel.msgmax": "9000"});
    bundle.write();
    let (runtime, root) = (t.runtime.path.display(), t.state_root());
    let run =
        format!("{runtime} --root {} run --bundle {} x", root.display(), bundle.dir.display());
    let mount = format!("mount --bind {} /proc/sys/kernel", fake.display());
    let output = t.sh(&format!("unshare -m sh -c '{mount}; {run} 2>&1 || echo status $?'"));
    contains(&output, "status 1");
    assert_eq!(std::fs::read_to_string(fake.join("msgmax")).unwrap(), "fake");
}

fn unmapped_user_names_the_mappings(t: &Context) {
    let mut bundle = t.bundle();
    bundle.user_namespace();
    bundle.config["process"]["user"]["uid"] = json!(70_000);
    let error = bundle.create_fails();
    if t.runtime.is_corten() {
        contains(&error, "linux.uidMappings");
    }
}

fn kill_in_a_shared_pid_namespace_ends_all(t: &Context) {
    let mut bundle = t.bundle();
    bundle.without_namespace("pid");
    bundle.script("sleep 1000 & echo ready; wait");
    let container = bundle.start();
    container.wait_printed("ready");
    container.kill("KILL");
    wait_for("an empty cgroup", 10, || {
        crate::harness::leftovers::reap();
        crate::harness::cgroup::processes(&bundle.cgroups_path()).is_empty()
    });
}

/// The options of the host's cgroup2, which all its mounts share.
fn cgroup2_options() -> String {
    let text = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let found = text.lines().find_map(|line| Some(line.split_once(" - cgroup2 ")?.1.to_string()));
    found.expect("no cgroup2 in mountinfo")
}

fn with_cgroup2(t: &Context) -> Bundle<'_> {
    let mut bundle = t.bundle();
    bundle.mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev", "ro"]);
    bundle.idle();
    bundle
}

/// The whole tree is shown, read-only, and the host's options stay.
fn cgroup2_without_a_cgroup_namespace(t: &Context) {
    let before = cgroup2_options();
    let bundle = with_cgroup2(t);
    let container = bundle.start();
    assert_eq!(cgroup2_options(), before);
    let own = format!("/sys/fs/cgroup{}", bundle.cgroups_path());
    let pids = container.sh(&format!("cat {own}/cgroup.procs"));
    assert!(pids.lines().any(|pid| pid == "1"), "{pids}");
    contains(&container.exec(&["mkdir", &format!("{own}/new")]).fails(), "Read-only");
}

/// Only the container's part of the tree is shown.
fn cgroup2_in_a_cgroup_namespace(t: &Context) {
    let before = cgroup2_options();
    let mut bundle = with_cgroup2(t);
    bundle.namespace("cgroup", None);
    let container = bundle.start();
    assert_eq!(cgroup2_options(), before);
    // The root of the whole tree has no type.
    assert_eq!(container.sh("cat /sys/fs/cgroup/cgroup.type"), "domain");
    let pids = container.sh("cat /sys/fs/cgroup/cgroup.procs");
    assert!(pids.lines().any(|pid| pid == "1"), "{pids}");
    contains(&container.exec(&["mkdir", "/sys/fs/cgroup/new"]).fails(), "Read-only");
}

fn user_cgroup_and_time_namespaces_left_out_are_the_hosts(t: &Context) {
    let container = t.bundle().create();
    for file in ["user", "cgroup", "time"] {
        assert_eq!(link(container.pid(), file), link("self", file), "{file}");
    }
}

/// For each type the file of another: refused with the field, nothing made.
fn joined_path_of_another_type_is_refused(t: &Context) {
    for (kind, _) in KINDS.into_iter().chain([("time", "time")]) {
        let other = if kind == "uts" { "ipc" } else { "uts" };
        let mut bundle = t.bundle();
        bundle.namespace(kind, Some(format!("/proc/self/ns/{other}")));
        let at = bundle.config["linux"]["namespaces"].as_array().unwrap().len() - 1;
        let error = bundle.create_fails();
        contains(&error, &format!("linux.namespaces[{at}].path"));
        contains(&error, &format!("/proc/self/ns/{other}"));
        std::fs::remove_dir_all(&bundle.dir).unwrap();
    }
}

/// Every entry of the maps is the kernel's, and no file of the root file system changes hands.
fn several_mappings_and_no_change_of_owners(t: &Context) {
    use std::os::unix::fs::MetadataExt;
    let mut bundle = t.bundle();
    bundle.user_namespace();
    bundle.config["linux"]["uidMappings"] = json!([
        {"containerID": 0, "hostID": 100_000, "size": 10},
        {"containerID": 1000, "hostID": 200_000, "size": 5},
        {"containerID": 2000, "hostID": 100_010, "size": 1},
    ]);
    bundle.config["linux"]["gidMappings"] = json!([
        {"containerID": 0, "hostID": 100_000, "size": 2000},
        {"containerID": 3000, "hostID": 300_000, "size": 7},
    ]);
    bundle.config["process"]["user"] = json!({"uid": 1004, "gid": 3006});
    bundle.script("sleep 1000");
    let container = bundle.start();
    let map = |file: &str| -> Vec<String> {
        let text = std::fs::read_to_string(format!("/proc/{}/{file}", container.pid())).unwrap();
        text.lines().map(|l| l.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
    };
    assert_eq!(map("uid_map"), ["0 100000 10", "1000 200000 5", "2000 100010 1"]);
    assert_eq!(map("gid_map"), ["0 100000 2000", "3000 300000 7"]);
    let id = |field: &str| crate::harness::proc_status(container.pid(), field).unwrap();
    assert_eq!(id("Uid"), ["200004"; 4].join("\t"));
    assert_eq!(id("Gid"), ["300006"; 4].join("\t"));
    for file in ["", "bin/busybox", "etc/passwd", "tmp"] {
        let owner = std::fs::metadata(bundle.rootfs(file)).unwrap();
        assert_eq!((owner.uid(), owner.gid()), (100_000, 100_000), "{file:?}");
    }
}

/// One ahead and one behind the host's.
fn time_offsets_of_both_clocks_to_the_nanosecond(t: &Context) {
    let mut bundle = t.bundle();
    bundle.namespace("time", None);
    bundle.config["linux"]["timeOffsets"] = json!({
        "monotonic": {"secs": 86_400, "nanosecs": 999_999_999},
        "boottime": {"secs": -7, "nanosecs": 5},
    });
    bundle.idle();
    let container = bundle.start();
    let text = std::fs::read_to_string(format!("/proc/{}/timens_offsets", container.pid()));
    let lines: Vec<String> = text
        .unwrap()
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    assert_eq!(lines, ["monotonic 86400 999999999", "boottime -7 5"]);
    let host = std::fs::read_to_string("/proc/uptime").unwrap();
    let host: f64 = host.split(' ').next().unwrap().parse().unwrap();
    let inside: f64 = container.sh("cut -d' ' -f1 /proc/uptime").parse().unwrap();
    assert!((inside - host + 7.0).abs() < 5.0, "{inside} against {host}");

    container.end();

    // No clock may stand before the host's start.
    bundle.config["linux"]["timeOffsets"] = json!({"boottime": {"secs": -2_000_000_000}});
    let refused = bundle.run().fails();
    let line = "config.json: cannot set linux.timeOffsets to boottime -2000000000 0: numerical";
    contains(&refused, line);
}
