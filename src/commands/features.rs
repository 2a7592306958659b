//! `features`: the document of the spec's features.md, read off the tables that the parsers use.

use serde_json::{Value, json};

use super::print;
use crate::error::{Context, Result};
use crate::plan::{OCI_VERSION, annotations, hooks, memory_policy, mounts, namespaces, seccomp};
use crate::security::seccomp::supported_flags;

/// The oldest version of the spec whose configs are accepted.
const OCI_VERSION_MIN: &str = "1.0.0";

/// `features`.
pub fn features() -> Result<()> {
    let json = serde_json::to_string_pretty(&document()).context("cannot write JSON")?;
    print(&format!("{json}\n"))
}

fn document() -> Value {
    json!({
        "ociVersionMin": OCI_VERSION_MIN,
        "ociVersionMax": OCI_VERSION,
        "hooks": hooks::KINDS.map(|(name, ..)| name),
        "mountOptions": mounts::options::known().collect::<Vec<_>>(),
        "linux": {
            "namespaces": sorted(namespaces::NAMESPACES.iter().map(|row| row.1.to_owned())),
            "capabilities": sorted(caps::all().iter().map(ToString::to_string)),
            "cgroup": {
                "v1": true,
                "v2": true,
                "systemd": false,
                "systemdUser": false,
                "rdma": true,
            },
            "seccomp": {
                "enabled": true,
                "actions": seccomp::ACTIONS.map(|(name, ..)| name),
                "operators": seccomp::OPERATORS.map(|(name, _)| name),
                "archs": seccomp::ARCHITECTURES.map(|(name, ..)| name),
                "knownFlags": seccomp::FLAGS.map(|(name, ..)| name),
                "supportedFlags": supported_flags(),
            },
            "apparmor": { "enabled": true },
            "selinux": { "enabled": true },
            "intelRdt": { "enabled": true, "schemata": true, "monitoring": true },
            "mountExtensions": {
                "idmap": { "enabled": mounts::options::effect("idmap").is_some() },
            },
            "memoryPolicy": {
                "modes": memory_policy::MODES.map(|(name, _)| name),
                "flags": memory_policy::FLAGS.map(|(name, _)| name),
            },
            "netDevices": { "enabled": true },
        },
        "potentiallyUnsafeConfigAnnotations": annotations::ACTED_ON.map(|(name, _)| name),
        "annotations": {
            "io.github.seccomp.libseccomp.version": seccomp::library_version(),
            "org.opencontainers.runc.checkpoint.enabled": "false",
        },
    })
}

fn sorted(names: impl Iterator<Item = String>) -> Vec<String> {
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts<'a>(document: &'a Value, place: &str) -> Vec<&'a str> {
        let list = document.pointer(place).and_then(Value::as_array);
        list.unwrap_or_else(|| panic!("{place}")).iter().filter_map(Value::as_str).collect()
    }

    #[test]
    fn what_the_spec_has_a_flag_for() {
        let document = document();
        let rdt = json!({ "enabled": true, "schemata": true, "monitoring": true });
        assert_eq!(document["linux"]["intelRdt"], rdt);
        assert_eq!(document["linux"]["netDevices"], json!({ "enabled": true }));
    }

    #[test]
    fn every_list_of_the_spec_is_there() {
        let document = document();
        assert_eq!(
            texts(&document, "/hooks"),
            [
                "prestart",
                "createRuntime",
                "createContainer",
                "startContainer",
                "poststart",
                "poststop"
            ]
        );
        assert_eq!(
            texts(&document, "/linux/namespaces"),
            ["cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"]
        );
        assert!(texts(&document, "/mountOptions").contains(&"rnosuid"));
        assert!(texts(&document, "/mountOptions").contains(&"idmap"));
        assert_eq!(document["linux"]["mountExtensions"]["idmap"]["enabled"], true);
        // linux/capability.h: CAP_LAST_CAP is 40.
        assert_eq!(texts(&document, "/linux/capabilities").len(), 41);
        assert!(texts(&document, "/linux/capabilities").contains(&"CAP_SYS_ADMIN"));
        assert_eq!(texts(&document, "/linux/memoryPolicy/modes").len(), 7);
        assert_eq!(texts(&document, "/linux/memoryPolicy/flags").len(), 3);
        assert_eq!(
            texts(&document, "/potentiallyUnsafeConfigAnnotations"),
            ["run.oci.keep_original_groups"]
        );
        for place in ["actions", "operators", "archs", "knownFlags"] {
            let names = texts(&document, &format!("/linux/seccomp/{place}"));
            assert!(!names.is_empty() && names.is_sorted(), "{place}");
        }
    }
}
