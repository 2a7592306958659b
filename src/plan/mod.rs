//! The plan: everything that will be done, as data, with every default resolved. The parent and
//! the child only execute it. A plan never resolves a path inside the root filesystem.

pub mod annotations;
pub mod exec;
pub mod hooks;
pub mod memory_policy;
pub mod mounts;
pub mod namespaces;
pub mod network;
pub mod process;
pub mod rdt;
pub mod resources;
pub mod seccomp;

use std::collections::BTreeMap;
use std::ffi::CString;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{Linux, LinuxPersonalityDomain, Spec};

use crate::config::validate::sysctl_path;
use crate::error::Result;
use crate::sys::mount::attr;
use hooks::HooksPlan;
use memory_policy::MemoryPolicy;
use mounts::{MountKind, RootfsPlan};
use namespaces::NamespacesPlan;
use network::NetDevice;
use process::{ProcessPlan, c_string};
use rdt::RdtPlan;
use resources::ResourcesPlan;
use seccomp::SeccompPlan;

/// The version of the runtime specification that Corten follows.
pub const OCI_VERSION: &str = "1.3.0";

/// personality(2) PER_LINUX and PER_LINUX32.
const PER_LINUX: u32 = 0;
const PER_LINUX32: u32 = 8;

/// A container, ready to be made.
#[derive(Debug)]
pub struct ContainerPlan {
    /// The id.
    pub id: String,
    /// Absolute path of the bundle.
    pub bundle: PathBuf,
    /// For the state that hooks get.
    pub annotations: BTreeMap<String, String>,
    /// See [`NamespacesPlan`].
    pub namespaces: NamespacesPlan,
    /// See [`RootfsPlan`].
    pub rootfs: RootfsPlan,
    /// See [`ResourcesPlan`].
    pub resources: ResourcesPlan,
    /// Devices of the host for its network namespace.
    pub net_devices: Vec<NetDevice>,
    /// See [`RdtPlan`].
    pub rdt: Option<RdtPlan>,
    /// `None` for a config without `process`: it can be created, not started.
    pub process: Option<ProcessPlan>,
    /// The compiled filter.
    pub seccomp: Option<SeccompPlan>,
    /// See [`HooksPlan`].
    pub hooks: HooksPlan,
    /// For sethostname(2).
    pub hostname: Option<CString>,
    /// For setdomainname(2).
    pub domainname: Option<CString>,
    /// Files below /proc, and what to write to them.
    pub sysctls: Vec<(String, String)>,
    /// For personality(2).
    pub personality: Option<u32>,
    /// For set_mempolicy(2).
    pub memory_policy: Option<MemoryPolicy>,
}

impl ContainerPlan {
    /// Resolves a checked spec. The only effect is that seccomp is compiled.
    pub fn build(spec: &Spec, id: &str, bundle: &Path, no_pivot: bool) -> Result<Self> {
        let linux = spec.linux().as_ref();
        let name = |text: &Option<String>, field: &str| -> Result<Option<CString>> {
            text.as_deref().filter(|t| !t.is_empty()).map(|t| c_string(t, field)).transpose()
        };
        let mut sysctls: Vec<(String, String)> = linux
            .and_then(|l| l.sysctl().clone())
            .into_iter()
            .flatten()
            .map(|(key, value)| (format!("sys/{}", sysctl_path(&key)), value))
            .collect();
        sysctls.sort();
        Ok(ContainerPlan {
            id: id.to_owned(),
            bundle: bundle.to_owned(),
            annotations: spec.annotations().clone().into_iter().flatten().collect(),
            namespaces: NamespacesPlan::build(linux),
            rootfs: RootfsPlan::build(spec, bundle, no_pivot)?,
            resources: ResourcesPlan::build(linux.and_then(|l| l.resources().as_ref()))?,
            net_devices: NetDevice::list(linux),
            rdt: RdtPlan::build(linux),
            process: match spec.process() {
                Some(process) => {
                    let mut process = ProcessPlan::build(process, "config.json: process")?;
                    annotations::apply(spec.annotations().as_ref(), &mut process);
                    Some(process)
                }
                None => None,
            },
            seccomp: match linux.and_then(|l| l.seccomp().as_ref()) {
                Some(profile) => Some(seccomp::compile(profile)?),
                None => None,
            },
            hooks: HooksPlan::build(
                spec.hooks().as_ref(),
                spec.process().as_ref().and_then(|p| p.env().as_deref()).unwrap_or_default(),
            ),
            hostname: name(spec.hostname(), "config.json: hostname")?,
            domainname: name(spec.domainname(), "config.json: domainname")?,
            sysctls,
            personality: personality(linux),
            memory_policy: MemoryPolicy::build(linux),
        })
    }

    /// Whether init stops after mounting: for hooks of the runtime's namespaces, for network
    /// devices, because the host sees its mounts, or because limits must be in force first: the
    /// cpuset bounds a memory policy, cpu.rt_runtime_us a scheduling policy.
    pub fn stops_when_mounted(&self) -> bool {
        !self.hooks.prestart.is_empty()
            || !self.hooks.create_runtime.is_empty()
            || !self.net_devices.is_empty()
            || !self.namespaces.has(namespaces::Namespace::Mount)
            || self.memory_policy.is_some()
            || self.process.as_ref().is_some_and(|process| process.scheduler.is_some())
    }

    /// The host's user id that shall own the container's cgroup: with a cgroup namespace of its
    /// own and a writable mount of it at the usual place (spec config-linux.md "Cgroup
    /// ownership"). Nobody's where a joined user namespace has the mapping.
    pub fn cgroup_owner(&self) -> Option<u32> {
        use namespaces::Namespace;
        let writable = self.rootfs.mounts.iter().any(|mount| match &mount.kind {
            MountKind::Cgroup(system) | MountKind::Filesystem(system) => {
                system.source.as_deref() == Some(c"cgroup")
                    && mount.destination.as_str() == "sys/fs/cgroup"
                    && mount.attributes.set & attr::RDONLY == 0
            }
            MountKind::Bind { .. } | MountKind::Remount => false,
        });
        let known = writable && self.namespaces.makes(Namespace::Cgroup);
        if !known || self.namespaces.joins(Namespace::User) {
            return None;
        }
        let uid = self.process.as_ref().map_or(0, |process| process.user.uid);
        if !self.namespaces.makes(Namespace::User) {
            return Some(uid);
        }
        let map = self.namespaces.uid_map.iter();
        map.filter_map(|m| {
            uid.checked_sub(m.container).filter(|at| *at < m.size).map(|at| m.host + at)
        })
        .next()
    }

    /// The state of the spec ("State", runtime.md) as hooks and seccomp agents get it: one line
    /// of JSON.
    pub fn state_json(&self, status: &str, pid: i32) -> String {
        state_json(&self.id, status, pid, &self.bundle, &self.annotations)
    }
}

/// `linux.personality` for personality(2).
pub fn personality(linux: Option<&Linux>) -> Option<u32> {
    linux.and_then(|linux| linux.personality().as_ref()).map(|p| match p.domain() {
        LinuxPersonalityDomain::PerLinux => PER_LINUX,
        LinuxPersonalityDomain::PerLinux32 => PER_LINUX32,
    })
}

/// See [`ContainerPlan::state_json`].
pub fn state_json(
    id: &str,
    status: &str,
    pid: i32,
    bundle: &Path,
    annotations: &BTreeMap<String, String>,
) -> String {
    let mut state = serde_json::json!({
        "ociVersion": OCI_VERSION,
        "id": id,
        "status": status,
        "bundle": bundle,
    });
    if pid > 0 {
        state["pid"] = pid.into();
    }
    if !annotations.is_empty() {
        state["annotations"] = serde_json::json!(annotations);
    }
    state.to_string()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::config::bundle;

    /// The plan of the default config with these values in place of its own.
    fn plan(values: &[(&str, Value)]) -> ContainerPlan {
        let mut config: Value =
            serde_json::from_str(include_str!("../../tests/fixtures/default.json")).unwrap();
        for (place, value) in values {
            let (parent, name) = place.rsplit_once('/').unwrap();
            config.pointer_mut(parent).unwrap()[name] = value.clone();
        }
        let spec = bundle::parse_spec(&config.to_string()).unwrap();
        ContainerPlan::build(&spec, "box", Path::new("/bundle"), false).unwrap()
    }

    #[test]
    fn init_waits_for_what_must_come_before_its_next_steps_and_else_not() {
        let waits = |place: &str, value: Value| plan(&[(place, value)]).stops_when_mounted();
        assert!(!waits("/hostname", json!("box")));
        assert!(!waits("/hooks", json!({"startContainer": [{"path": "/x"}]})));
        assert!(waits("/hooks", json!({"createRuntime": [{"path": "/x"}]})));
        assert!(waits("/linux/netDevices", json!({"eth1": {}})));
        assert!(waits("/linux/memoryPolicy", json!({"mode": "MPOL_LOCAL"})));
        assert!(waits("/process/scheduler", json!({"policy": "SCHED_BATCH"})));
    }

    /// The three conditions of config-linux.md "Cgroup ownership".
    #[test]
    fn who_owns_the_cgroup() {
        let owner = |namespaces: &[&str], destination: &str, options: &[&str]| {
            let namespaces = namespaces.iter().map(|kind| match kind.split_once('=') {
                Some((kind, path)) => json!({"type": kind, "path": path}),
                None => json!({ "type": kind }),
            });
            let mount = json!({"destination": destination, "type": "cgroup", "source": "cgroup",
                "options": options});
            let ids = json!([{"containerID": 0, "hostID": 5000, "size": 10}]);
            plan(&[
                ("/linux/namespaces", namespaces.collect()),
                ("/linux/uidMappings", ids.clone()),
                ("/linux/gidMappings", ids),
                ("/mounts", json!([mount])),
                ("/process/user", json!({"uid": 7, "gid": 7})),
            ])
            .cgroup_owner()
        };
        let at = "/sys/fs/cgroup";
        assert_eq!(owner(&["mount", "cgroup"], at, &["rw"]), Some(7));
        assert_eq!(owner(&["mount", "cgroup", "user"], at, &[]), Some(5007));
        assert_eq!(owner(&["mount", "cgroup"], at, &["ro"]), None);
        assert_eq!(owner(&["mount"], at, &[]), None);
        assert_eq!(owner(&["mount", "cgroup=/proc/1/ns/cgroup"], at, &[]), None);
        assert_eq!(owner(&["mount", "cgroup"], "/mnt/cgroup", &[]), None);
        assert_eq!(owner(&["mount", "cgroup", "user=/proc/1/ns/user"], at, &[]), None);
    }
}
