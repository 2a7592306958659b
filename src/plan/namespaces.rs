//! Which namespaces are new, which are joined, which stay the host's, and how many processes
//! that takes (spec config-linux.md "Namespaces", namespaces(7)).

use std::path::{Path, PathBuf};

use nix::sched::CloneFlags;
use oci_spec::runtime::{Linux, LinuxIdMapping, LinuxNamespaceType};

/// One of the eight kinds of namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Namespace {
    /// user_namespaces(7)
    User,
    /// pid_namespaces(7)
    Pid,
    /// mount_namespaces(7)
    Mount,
    /// network_namespaces(7)
    Network,
    /// ipc_namespaces(7)
    Ipc,
    /// uts_namespaces(7)
    Uts,
    /// cgroup_namespaces(7)
    Cgroup,
    /// time_namespaces(7)
    Time,
}

/// Every kind, with its name in config.json, its file in /proc/PID/ns and its clone flag. The
/// parser, the features document and `exec` all read this table.
pub const NAMESPACES: [(Namespace, &str, &str, CloneFlags); 8] = [
    (Namespace::User, "user", "user", CloneFlags::CLONE_NEWUSER),
    (Namespace::Pid, "pid", "pid", CloneFlags::CLONE_NEWPID),
    (Namespace::Mount, "mount", "mnt", CloneFlags::CLONE_NEWNS),
    (Namespace::Network, "network", "net", CloneFlags::CLONE_NEWNET),
    (Namespace::Ipc, "ipc", "ipc", CloneFlags::CLONE_NEWIPC),
    (Namespace::Uts, "uts", "uts", CloneFlags::CLONE_NEWUTS),
    (Namespace::Cgroup, "cgroup", "cgroup", CloneFlags::CLONE_NEWCGROUP),
    (Namespace::Time, "time", "time", CloneFlags::from_bits_retain(libc::CLONE_NEWTIME)),
];

impl Namespace {
    fn row(self) -> &'static (Namespace, &'static str, &'static str, CloneFlags) {
        // The table holds every kind; the first row is never the wrong answer for a miss.
        NAMESPACES.iter().find(|row| row.0 == self).unwrap_or(&NAMESPACES[0])
    }

    /// The name in config.json.
    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// The file name in /proc/PID/ns.
    pub fn file(self) -> &'static str {
        self.row().2
    }

    /// The flag for clone3(2), unshare(2) and setns(2).
    pub fn flag(self) -> CloneFlags {
        self.row().3
    }
}

impl From<LinuxNamespaceType> for Namespace {
    fn from(kind: LinuxNamespaceType) -> Self {
        match kind {
            LinuxNamespaceType::User => Namespace::User,
            LinuxNamespaceType::Pid => Namespace::Pid,
            LinuxNamespaceType::Mount => Namespace::Mount,
            LinuxNamespaceType::Network => Namespace::Network,
            LinuxNamespaceType::Ipc => Namespace::Ipc,
            LinuxNamespaceType::Uts => Namespace::Uts,
            LinuxNamespaceType::Cgroup => Namespace::Cgroup,
            LinuxNamespaceType::Time => Namespace::Time,
        }
    }
}

/// One line of /proc/PID/uid_map or gid_map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdMap {
    /// First id inside.
    pub container: u32,
    /// First id outside.
    pub host: u32,
    /// How many.
    pub size: u32,
}

impl IdMap {
    /// Reads a list of config.json.
    pub fn list(mappings: &[LinuxIdMapping]) -> Vec<IdMap> {
        let map = |m: &LinuxIdMapping| IdMap {
            container: m.container_id(),
            host: m.host_id(),
            size: m.size(),
        };
        mappings.iter().map(map).collect()
    }

    /// The text of a /proc/PID/uid_map or gid_map, which is to be written at once.
    pub fn lines(map: &[IdMap]) -> String {
        map.iter().map(|m| format!("{} {} {}\n", m.container, m.host, m.size)).collect()
    }
}

/// How the container's init comes to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spawn {
    /// One clone3(2); the child joins what is to be joined (the parent steps into a joined pid
    /// namespace for the clone, and back).
    Direct,
    /// A throw-away process joins first and clones init as its sibling: needed where a user
    /// namespace is joined, or made while others are joined.
    ViaJoiner,
}

/// The namespaces of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamespacesPlan {
    /// Those to make.
    pub new: CloneFlags,
    /// Those to join, with the file to open on the host.
    pub join: Vec<(Namespace, PathBuf)>,
    /// See [`Spawn`].
    pub spawn: Spawn,
    /// For a new user namespace; never empty then.
    pub uid_map: Vec<IdMap>,
    /// Likewise.
    pub gid_map: Vec<IdMap>,
    /// Lines for /proc/PID/timens_offsets: clock name, seconds, nanoseconds.
    pub time_offsets: Vec<(String, i64, u32)>,
}

impl NamespacesPlan {
    /// True when the container has its own (new or joined) namespace of this kind.
    pub fn has(&self, kind: Namespace) -> bool {
        self.makes(kind) || self.joins(kind)
    }

    /// True when one is made.
    pub fn makes(&self, kind: Namespace) -> bool {
        self.new.contains(kind.flag())
    }

    /// True when one is joined.
    pub fn joins(&self, kind: Namespace) -> bool {
        self.joined(kind).is_some()
    }

    /// The file of the one that is joined.
    pub fn joined(&self, kind: Namespace) -> Option<&Path> {
        self.join.iter().find(|(k, _)| *k == kind).map(|(_, path)| path.as_path())
    }

    /// Reads `linux.namespaces`, the id mappings and the time offsets.
    pub fn build(linux: Option<&Linux>) -> Self {
        let mut new = CloneFlags::empty();
        let mut join = Vec::new();
        for entry in linux.and_then(|l| l.namespaces().as_ref()).into_iter().flatten() {
            let kind = Namespace::from(entry.typ());
            match entry.path() {
                Some(path) if !path.as_os_str().is_empty() => join.push((kind, path.clone())),
                _ => new |= kind.flag(),
            }
        }
        join.sort();
        let new_user = new.contains(CloneFlags::CLONE_NEWUSER);
        let joins_user = join.iter().any(|(kind, _)| *kind == Namespace::User);
        let spawn = if joins_user || (new_user && !join.is_empty()) {
            Spawn::ViaJoiner
        } else {
            Spawn::Direct
        };
        let maps = |maps: Option<&Vec<LinuxIdMapping>>| {
            IdMap::list(maps.map(Vec::as_slice).unwrap_or_default())
        };
        let mut time_offsets: Vec<(String, i64, u32)> = linux
            .and_then(|l| l.time_offsets().as_ref())
            .into_iter()
            .flatten()
            .map(|(clock, o)| (clock.clone(), o.secs().unwrap_or(0), o.nanosecs().unwrap_or(0)))
            .collect();
        time_offsets.sort();
        NamespacesPlan {
            new,
            join,
            spawn,
            uid_map: maps(linux.and_then(|l| l.uid_mappings().as_ref())),
            gid_map: maps(linux.and_then(|l| l.gid_mappings().as_ref())),
            time_offsets,
        }
    }
}
