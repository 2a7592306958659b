//! Where the cgroup hierarchies are mounted, and which directories in them a container gets.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use serde::{Deserialize, Serialize};

use super::dir::read_all;
use crate::error::{Context, Fault, Kind, Result};

/// cgroups(7): one of the many v1 hierarchies, or the one of v2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Version {
    /// With its own set of controllers.
    V1,
    /// "Unified".
    V2,
}

/// A mounted hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchy {
    /// Where it is mounted.
    pub mountpoint: PathBuf,
    /// "cpu" and "cpuacct", "name=systemd"; empty for v2.
    pub controllers: Vec<String>,
    /// See [`Version`].
    pub version: Version,
    /// This process's group, relative to the mount point; empty where the mount shows only
    /// another part of the tree.
    pub own_path: PathBuf,
}

/// A line of /proc/PID/mountinfo, as far as it concerns us (proc_pid_mountinfo(5)).
struct Mount {
    id: String,
    parent: String,
    root: PathBuf,
    mountpoint: PathBuf,
    version: Version,
    options: String,
}

/// The mounted hierarchies of this process, v1 in the order of /proc/self/cgroup, then v2. Those
/// that the kernel has but nobody mounted are not among them.
pub fn hierarchies() -> Result<Vec<Hierarchy>> {
    Ok(parse(&proc_file("/proc/self/mountinfo")?, &proc_file("/proc/self/cgroup")?))
}

/// Where process `pid` is below the mount point of the v2 hierarchy; `None` without one.
pub(super) fn v2_path_of(pid: i32) -> Result<Option<PathBuf>> {
    let cgroups = proc_file(&format!("/proc/{pid}/cgroup"))?;
    let hosts = parse(&proc_file("/proc/self/mountinfo")?, &cgroups);
    Ok(hosts.into_iter().find(|h| h.version == Version::V2).map(|h| h.own_path))
}

fn proc_file(path: &str) -> Result<String> {
    open(path, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())
        .and_then(read_all)
        .with_context(|| format!("cannot read {path}"))
}

fn parse(mountinfo: &str, cgroups: &str) -> Vec<Hierarchy> {
    let mounts = mounts(mountinfo);
    let mut found = Vec::new();
    // cgroups(7): hierarchy-ID:controller-list:path; the list is empty for v2.
    for line in cgroups.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(list), Some(path)) = (fields.next(), fields.next()) else { continue };
        let version = if list.is_empty() { Version::V2 } else { Version::V1 };
        let controllers: Vec<String> =
            list.split(',').filter(|c| !c.is_empty()).map(str::to_owned).collect();
        let same = |mount: &&Mount| {
            mount.version == version
                && controllers.iter().all(|c| mount.options.split(',').any(|o| o == c))
        };
        // Of several mounts the one that shows our own group; else the first.
        let own =
            |mount: &Mount| Path::new(path).strip_prefix(&mount.root).ok().map(Path::to_owned);
        let shown = mounts.iter().filter(same).find_map(|m| Some((m, own(m)?)));
        let chosen = shown.or_else(|| Some((mounts.iter().find(same)?, PathBuf::new())));
        if let Some((mount, own_path)) = chosen {
            let mountpoint = mount.mountpoint.clone();
            found.push(Hierarchy { mountpoint, controllers, version, own_path });
        }
    }
    found
}

/// The cgroup mounts that no other mount lies upon.
fn mounts(mountinfo: &str) -> Vec<Mount> {
    let mut mounts: Vec<Mount> = Vec::new();
    for line in mountinfo.lines() {
        let Some((left, right)) = line.split_once(" - ") else { continue };
        let left: Vec<&str> = left.split(' ').collect();
        let [id, parent, _, root, mountpoint, ..] = left.as_slice() else { continue };
        let mountpoint = unescape(mountpoint);
        mounts.retain(|m| m.id != *parent || m.mountpoint != mountpoint);
        let mut right = right.split(' ');
        let version = match right.next() {
            Some("cgroup") => Version::V1,
            Some("cgroup2") => Version::V2,
            _ => continue,
        };
        mounts.push(Mount {
            id: (*id).to_owned(),
            parent: (*parent).to_owned(),
            root: unescape(root),
            mountpoint,
            version,
            options: right.nth(1).unwrap_or_default().to_owned(),
        });
    }
    // A mount below need not come later in the list than the one upon it.
    let under: Vec<(String, PathBuf)> =
        mounts.iter().map(|m| (m.parent.clone(), m.mountpoint.clone())).collect();
    mounts.retain(|m| !under.iter().any(|(parent, at)| *parent == m.id && *at == m.mountpoint));
    mounts
}

/// Undoes the octal escapes (`\040` for a space).
fn unescape(field: &str) -> PathBuf {
    let mut bytes = Vec::new();
    let mut rest = field.as_bytes();
    while let [first, tail @ ..] = rest {
        let escaped = match rest {
            [b'\\', code @ ..] => code
                .get(..3)
                .and_then(|c| std::str::from_utf8(c).ok())
                .and_then(|c| u8::from_str_radix(c, 8).ok()),
            _ => None,
        };
        match escaped {
            Some(byte) => {
                bytes.push(byte);
                rest = rest.get(4..).unwrap_or_default();
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    PathBuf::from(OsString::from_vec(bytes))
}

/// The container's directory in one hierarchy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupPlan {
    /// Absolute.
    pub path: PathBuf,
    /// Where the hierarchy is mounted; a proper prefix of `path`.
    pub mountpoint: PathBuf,
    /// See [`Hierarchy`].
    pub controllers: Vec<String>,
    /// See [`Version`].
    pub version: Version,
}

/// The container's directories, one in each hierarchy. Kept in the container's state from before
/// they are made, so that what a killed `create` leaves can be removed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CgroupPlan {
    /// In the order of [`hierarchies`].
    pub groups: Vec<GroupPlan>,
}

impl CgroupPlan {
    /// Reads `linux.cgroupsPath`: an absolute path counts from the mount point, a relative one
    /// from the group of this process, and without any it is the container's id there. In v2 it
    /// is the group above, since one with processes in it cannot give controllers to others
    /// (cgroups(7), "no internal processes"). All of it as runc's cgroupfs driver has it.
    pub fn build(hosts: &[Hierarchy], cgroups_path: Option<&Path>, id: &str) -> Result<Self> {
        if hosts.is_empty() {
            return Err(Fault::new(Kind::Unsupported, "no cgroup hierarchy is mounted")
                .hint("mount -t cgroup2 none /sys/fs/cgroup")
                .into());
        }
        let given = cgroups_path.filter(|path| !path.as_os_str().is_empty());
        let asked = given.unwrap_or(Path::new(id));
        let inner = inner(asked)?;
        let groups = hosts
            .iter()
            .map(|host| {
                let base = match host.version {
                    _ if asked.is_absolute() => Path::new(""),
                    Version::V1 => &host.own_path,
                    Version::V2 => host.own_path.parent().unwrap_or(Path::new("")),
                };
                GroupPlan {
                    path: host.mountpoint.join(base).join(&inner),
                    mountpoint: host.mountpoint.clone(),
                    controllers: host.controllers.clone(),
                    version: host.version,
                }
            })
            .collect();
        Ok(CgroupPlan { groups })
    }

    /// The directories by controller, as in `cgroup_paths` of runc's state: "" for v2.
    pub fn paths_by_controller(&self) -> BTreeMap<String, PathBuf> {
        let mut paths = BTreeMap::new();
        for group in &self.groups {
            if group.version == Version::V2 {
                paths.insert(String::new(), group.path.clone());
            }
            for controller in &group.controllers {
                paths.insert(controller.clone(), group.path.clone());
            }
        }
        paths
    }
}

/// The path without its leading and doubled slashes; never one that leads up or nowhere.
fn inner(path: &Path) -> Result<PathBuf> {
    let bad = |problem: &str| {
        Fault::bad_input(format!(
            "config.json: linux.cgroupsPath: \"{}\" {problem}",
            path.display().to_string().escape_debug()
        ))
    };
    let mut inner = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => inner.push(name),
            Component::ParentDir => return Err(bad("leads out of the hierarchy (\"..\")").into()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    if inner.as_os_str().is_empty() {
        return Err(bad("names the whole hierarchy").into());
    }
    if inner.as_os_str().as_bytes().iter().any(|b| matches!(b, b'\n' | 0)) {
        return Err(bad("holds a line break or a NUL byte").into());
    }
    Ok(inner)
}

#[cfg(test)]
mod tests;
