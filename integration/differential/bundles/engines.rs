//! What `runc spec`, `crun spec`, Docker and containerd write.

use crate::bundles;
use crate::harness::Bundle;
use serde_json::{Value, json};

bundles! {
    plain, Look, |_| ();
    spec_of_runc, Look, |b| spec_of(b, "/usr/sbin/runc");
    spec_of_crun, Look, |b| spec_of(b, "/usr/bin/crun");
    docker, Look, as_docker;
    docker_privileged, Look, |b| { as_docker(b); privileged(b); };
    docker_read_only, Look, |b| { as_docker(b); b.config["root"]["readonly"] = json!(true); };
    docker_user, Look, |b| {
        as_docker(b);
        b.config["process"]["user"] = json!({"uid": 1000, "gid": 1000, "additionalGids": [10, 20]});
    };
    containerd, Look, as_containerd;
    kubernetes_container, Look, kubernetes;
}

/// The document that the program writes, without terminal and with the test's cgroup.
fn spec_of(b: &mut Bundle, program: &str) {
    let config = b.dir.join("config.json");
    b.context.host(program).arg("spec").dir(&b.dir).output().exits(0);
    let mut spec: Value = serde_json::from_slice(&std::fs::read(&config).unwrap()).unwrap();
    std::fs::remove_file(config).unwrap();
    spec["process"]["terminal"] = json!(false);
    spec["process"]["args"] = json!(["true"]);
    spec["linux"]["cgroupsPath"] = b.config["linux"]["cgroupsPath"].clone();
    b.config = spec;
}

/// The 14 capabilities that engines give by default.
const DEFAULT: [&str; 14] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

fn engine(b: &mut Bundle) {
    for set in ["bounding", "effective", "permitted"] {
        b.config["process"]["capabilities"][set] = json!(DEFAULT);
    }
    b.config["process"]["noNewPrivileges"] = json!(false);
    b.config["process"]["oomScoreAdj"] = json!(0);
    b.namespace("cgroup", None);
    b.config["linux"]["maskedPaths"] = json!([
        "/proc/asound",
        "/proc/acpi",
        "/proc/kcore",
        "/proc/keys",
        "/proc/latency_stats",
        "/proc/timer_list",
        "/proc/timer_stats",
        "/proc/sched_debug",
        "/proc/scsi",
        "/sys/firmware",
    ]);
    b.config["linux"]["readonlyPaths"] =
        json!(["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]);
    let rule = |kind: &str, major: i64, minor: i64| {
        let mut rule = json!({"allow": true, "type": kind, "access": "rwm"});
        if major >= 0 {
            rule["major"] = json!(major);
        }
        if minor >= 0 {
            rule["minor"] = json!(minor);
        }
        rule
    };
    let mut rules = vec![json!({"allow": false, "access": "rwm"})];
    for (major, minor) in [(1, 5), (1, 3), (1, 9), (1, 8), (5, 0), (5, 1)] {
        rules.push(rule("c", major, minor));
    }
    rules.push(json!({"allow": false, "type": "c", "major": 10, "minor": 229, "access": "rwm"}));
    b.config["linux"]["resources"] = json!({"devices": rules});
    // A small filter of the usual shape: all allowed but a few.
    b.config["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "syscalls": [
            {"names": ["keyctl", "add_key", "no_such_call"], "action": "SCMP_ACT_ERRNO"},
            {"names": ["personality"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1,
             "args": [{"index": 0, "value": 8, "valueTwo": 0, "op": "SCMP_CMP_EQ"}]},
        ],
    });
}

fn files(b: &mut Bundle, names: &[&str]) {
    for name in names {
        let file = b.dir.join(name);
        std::fs::write(&file, format!("{name}\n")).unwrap();
        b.bind(file, &format!("/etc/{name}"), &["rbind", "rprivate"]);
    }
}

fn as_docker(b: &mut Bundle) {
    engine(b);
    b.config["mounts"] = json!([
        {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
         "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
        {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
         "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
        {"destination": "/sys", "type": "sysfs", "source": "sysfs",
         "options": ["nosuid", "noexec", "nodev", "ro"]},
        {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
         "options": ["ro", "nosuid", "noexec", "nodev"]},
        {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue",
         "options": ["nosuid", "noexec", "nodev"]},
        {"destination": "/dev/shm", "type": "tmpfs", "source": "shm",
         "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=67108864"]},
    ]);
    files(b, &["resolv.conf", "hostname", "hosts"]);
    b.config["linux"]["sysctl"] = json!({
        "net.ipv4.ip_unprivileged_port_start": "0", "net.ipv4.ping_group_range": "0 2147483647",
    });
    b.config["process"]["env"] =
        json!(["PATH=/usr/local/bin:/usr/bin:/bin", "HOSTNAME=4f2d3c1b0a99", "EMPTY="]);
}

fn privileged(b: &mut Bundle) {
    b.all_capabilities();
    b.config["linux"]["maskedPaths"] = json!(null);
    b.config["linux"]["readonlyPaths"] = json!(null);
    b.config["linux"]["seccomp"] = json!(null);
    b.config["linux"]["resources"]["devices"] = json!([{"allow": true, "access": "rwm"}]);
    for mount in b.config["mounts"].as_array_mut().unwrap() {
        let options = mount["options"].as_array_mut().unwrap();
        options.retain(|o| o != "ro");
    }
    b.config["linux"]["devices"] = json!([
        {"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 0o666, "uid": 0, "gid": 0},
        {"path": "/dev/loop-control", "type": "c", "major": 10, "minor": 237, "fileMode": 0o660},
    ]);
}

fn as_containerd(b: &mut Bundle) {
    engine(b);
    b.config["hostname"] = json!(null);
    b.config["mounts"]
        .as_array_mut()
        .unwrap()
        .extend([json!({"destination": "/run", "type": "tmpfs", "source": "tmpfs",
               "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]})]);
    b.config["process"]["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}]);
    b.config["process"]["noNewPrivileges"] = json!(true);
}

/// A container of a pod: its namespaces are those of the pause container, /dev/shm too.
fn kubernetes(b: &mut Bundle) {
    as_docker(b);
    super::namespaces::join(b, &["network", "ipc", "uts"]);
    b.config["hostname"] = json!(null);
    b.config["linux"]["sysctl"] = json!(null);
    b.without_mount("/dev/shm");
    let shm = b.dir.join("shm");
    std::fs::create_dir(&shm).unwrap();
    b.bind(shm, "/dev/shm", &["rbind", "rprivate", "rw"]);
    let volume = b.dir.join("volume");
    std::fs::create_dir(&volume).unwrap();
    b.bind(volume, "/var/run/secrets/token", &["rbind", "rprivate", "ro"]);
    b.config["process"]["oomScoreAdj"] = json!(1000);
    b.config["linux"]["resources"]["cpu"] = json!({"shares": 2, "quota": 50000, "period": 100000});
    b.config["linux"]["resources"]["memory"] = json!({"limit": 134217728});
    b.config["linux"]["resources"]["pids"] = json!({"limit": 100});
    b.config["annotations"] = json!({"io.kubernetes.cri.container-type": "container", "a.b": "c"});
}
