//! Resources and views of cgroups.

use crate::bundles;
use crate::harness::Bundle;
use serde_json::{Value, json};

bundles! {
    cgroup_mount, Look, |b| b.mount("/sys/fs/cgroup", "cgroup", "cgroup", &["ro", "nosuid", "noexec", "nodev", "relatime"]);
    cgroup_mount_writable, Look, |b| b.mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev"]);
    cgroup_mount_in_namespace, Look, |b| {
        b.namespace("cgroup", None);
        b.mount("/sys/fs/cgroup", "cgroup", "cgroup", &["ro", "nosuid", "noexec", "nodev"]);
    };
    memory, Look, |b| resources(b, "memory", json!({"limit": 67108864, "reservation": 33554432, "swap": 134217728}));
    memory_swappiness, Look, |b| resources(b, "memory", json!({"limit": 67108864, "swappiness": 10, "disableOOMKiller": true}));
    memory_unlimited, Look, |b| resources(b, "memory", json!({"limit": -1, "swap": -1}));
    memory_kernel, Look, |b| resources(b, "memory", json!({"kernel": 33554432, "kernelTCP": 16777216, "useHierarchy": true}));
    memory_swap_below_limit, Look, |b| resources(b, "memory", json!({"limit": 67108864, "swap": 33554432}));
    cpu, Look, |b| resources(b, "cpu", json!({"shares": 512, "quota": 25000, "period": 50000, "cpus": "0", "mems": "0"}));
    cpu_unlimited, Look, |b| resources(b, "cpu", json!({"shares": 0, "quota": -1}));
    cpu_bad_set, Look, |b| resources(b, "cpu", json!({"cpus": "0-999"}));
    pids, Look, |b| resources(b, "pids", json!({"limit": 50}));
    pids_unlimited, Look, |b| resources(b, "pids", json!({"limit": -1}));
    block_io, Look, |b| resources(b, "blockIO", json!({
        "throttleReadBpsDevice": [{"major": 254, "minor": 0, "rate": 10485760}],
        "throttleWriteBpsDevice": [{"major": 254, "minor": 0, "rate": 20971520}],
        "throttleReadIOPSDevice": [{"major": 254, "minor": 0, "rate": 1000}],
        "throttleWriteIOPSDevice": [{"major": 254, "minor": 0, "rate": 2000}],
    }));
    block_io_weight, Look, |b| resources(b, "blockIO", json!({"weight": 500}));
    hugepages, Look, |b| resources(b, "hugepageLimits", json!([{"pageSize": "2MB", "limit": 4194304}]));
    network_class, Look, |b| resources(b, "network", json!({"classID": 1048577}));
    device_rules, Look, |b| resources(b, "devices", json!([
        {"allow": false, "access": "rwm"},
        {"allow": true, "type": "c", "major": 10, "minor": 229, "access": "rw"},
        {"allow": true, "type": "b", "major": 7, "access": "r"},
        {"allow": true, "type": "c", "major": 10, "minor": 229, "access": "m"},
    ]));
    device_rules_absent, Look, |b| {
        b.config["linux"].as_object_mut().unwrap().remove("resources");
    };
    device_rules_allow_all, Look, |b| resources(b, "devices", json!([{"allow": true, "access": "rwm"}]));
    device_rules_allow_then_deny, Look, |b| resources(b, "devices", json!([
        {"allow": true, "access": "rwm"},
        {"allow": false, "type": "c", "major": 10, "minor": 229, "access": "rwm"},
    ]));
    cgroup_nested_path, Look, |b| {
        let path = format!("{}/a/b", b.cgroups_path());
        b.config["linux"]["cgroupsPath"] = json!(path);
    };
}

fn resources(b: &mut Bundle, field: &str, value: Value) {
    b.config["linux"]["resources"][field] = value;
}
