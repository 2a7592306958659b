//! Namespaces, hostnames, sysctls, hooks.

use crate::bundles;
use crate::harness::Bundle;
use serde_json::{Value, json};

bundles! {
    namespaces_all, Look, |b| b.namespace("cgroup", None);
    namespaces_only_mount, Look, |b| {
        for kind in ["pid", "network", "ipc", "uts"] {
            b.without_namespace(kind);
        }
        b.config["hostname"] = json!(null);
        // A sysfs of its own needs its own network namespace.
    };
    host_network, Look, |b| b.without_namespace("network");
    host_pid, Look, |b| b.without_namespace("pid");
    host_ipc, Look, |b| b.without_namespace("ipc");
    host_uts, Look, |b| {
        b.without_namespace("uts");
        b.config["hostname"] = json!(null);
    };
    hostname_without_uts, Look, |b| b.without_namespace("uts");
    hostname_absent, Look, |b| b.config["hostname"] = json!(null);
    hostname_long, Look, |b| b.config["hostname"] = json!("x".repeat(64));
    hostname_too_long, Look, |b| b.config["hostname"] = json!("x".repeat(65));
    domain_name, Look, |b| b.config["domainname"] = json!("example.org");
    joined_net_ipc_uts, Look, |b| {
        join(b, &["network", "ipc", "uts"]);
        b.config["hostname"] = json!(null);
    };
    joined_uts_with_hostname, Look, |b| join(b, &["uts"]);
    joined_missing_path, Look, |b| b.namespace("network", Some("/no/such/namespace".into()));
    joined_wrong_kind, Look, |b| b.namespace("network", Some("/proc/self/ns/uts".into()));
    namespace_twice, Look, |b| {
        b.config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "pid"}));
    };
    user_namespace, Look, |b| b.user_namespace();
    user_namespace_engine, Look, |b| {
        b.user_namespace();
        b.namespace("cgroup", None);
        b.mount("/sys/fs/cgroup", "cgroup", "cgroup", &["ro", "nosuid", "noexec", "nodev"]);
        b.all_capabilities();
    };
    user_namespace_two_maps, Look, |b| {
        b.user_namespace();
        let maps = json!([
            {"containerID": 0, "hostID": 100_000, "size": 1},
            {"containerID": 1, "hostID": 200_000, "size": 999},
            {"containerID": 1000, "hostID": 300_000, "size": 65000},
        ]);
        b.config["linux"]["uidMappings"] = maps.clone();
        b.config["linux"]["gidMappings"] = maps;
        b.config["process"]["user"] = json!({"uid": 1000, "gid": 1000, "additionalGids": [2]});
    };
    user_namespace_identity, Look, |b| {
        b.user_namespace();
        let map = json!([{"containerID": 0, "hostID": 0, "size": 4294967295u32}]);
        b.config["linux"]["uidMappings"] = map.clone();
        b.config["linux"]["gidMappings"] = map;
    };
    user_namespace_bind, Look, |b| {
        b.user_namespace();
        let dir = b.dir.join("volume");
        std::fs::create_dir(&dir).unwrap();
        b.bind(&dir, "/data", &["ro"]);
        b.bind(&dir, "/nosuid", &["nosuid", "nodev"]);
    };
    user_namespace_without_maps, Look, |b| b.namespace("user", None);
    sysctls, Look, |b| b.config["linux"]["sysctl"] = json!({
        "net.ipv4.ip_forward": "1", "kernel.msgmax": "4096", "kernel.shm_rmid_forced": "1",
        "fs.mqueue.msg_max": "7", "net.ipv4.ping_group_range": "0 5",
    });
    sysctl_of_the_host, Look, |b| b.config["linux"]["sysctl"] = json!({"vm.swappiness": "60"});
    sysctl_without_namespace, Look, |b| {
        b.without_namespace("ipc");
        b.config["linux"]["sysctl"] = json!({"kernel.msgmax": "8192"});
    };
    hooks_in_order, Look, |b| {
        let log = b.rootfs("/log").display().to_string();
        let hook = |name: &str, log: &str| json!([{"path": "/bin/sh",
            "args": ["sh", "-c", format!("echo {name} ${{A-unset}} >> {log}; mkdir -p $(dirname {log})/hook-{name}")],
            "env": ["A=1", "PATH=/bin"]}]);
        b.config["hooks"] = json!({
            "prestart": hook("prestart", &log), "createRuntime": hook("createRuntime", &log),
            "createContainer": hook("createContainer", &log), "startContainer": hook("startContainer", "/log"),
            "poststart": hook("poststart", &log), "poststop": hook("poststop", &log),
        });
        b.script(&format!("while ! grep -q poststart /log; do sleep 0.01; done; cat /log | sort ; {}", crate::differential::observe::SCRIPT));
    };
    hook_fails, Look, |b| b.config["hooks"] = json!({"createRuntime": [{"path": "/bin/false"}]});
    hook_missing, Look, |b| b.config["hooks"] = json!({"prestart": [{"path": "/no/such/hook"}]});
    start_hook_fails, Look, |b| b.config["hooks"] = json!({"startContainer": [{"path": "/bin/false"}]});
    annotations, Look, |b| b.config["annotations"] = json!({"org.example.key": "a value", "empty": ""});
}

/// Joins new namespaces of these kinds that nobody else is in. They are held by files in the
/// bundle, in the test's own mount namespace.
pub fn join(b: &mut Bundle, kinds: &[&str]) {
    let hold = b.dir.join("namespaces");
    let dir = hold.display().to_string();
    let option = |kind: &&str| match *kind {
        "network" => format!("--net={dir}/network"),
        kind => format!("--{kind}={dir}/{kind}"),
    };
    let files: Vec<String> = kinds.iter().map(|kind| format!("{dir}/{kind}")).collect();
    let options: Vec<String> = kinds.iter().map(option).collect();
    // A namespace cannot be bound on a shared mount.
    b.context.sh(&format!(
        "mkdir {dir}; mount -t tmpfs none {dir}; mount --make-private {dir}; touch {}; unshare {} hostname joined || true",
        files.join(" "),
        options.join(" ")
    ));
    for (kind, file) in kinds.iter().zip(files) {
        b.namespace(kind, Some(Value::from(file).as_str().unwrap().to_string()));
    }
}
