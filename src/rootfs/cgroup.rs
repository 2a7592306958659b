//! Mounts of `type: cgroup`: the hierarchies in the layout of the host.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, mkdirat};

use super::masks::{empty_dir, label_setting};
use super::mount::{
    Site, c_path, clone_host, errno, new_filesystem, set_attributes, set_propagation, target,
};
use crate::error::{Context, Result};
use crate::plan::mounts::options::Attributes;
use crate::plan::mounts::{CgroupMount, Filesystem, MountStep, RootfsPlan, Setting, setting};
use crate::sys::mount::attr;

/// Every runtime shows the hierarchies of v1 with these.
const FLAGS: u64 = attr::NOSUID | attr::NODEV | attr::NOEXEC;

fn plain(fs_type: &str, source: &str, settings: Vec<Setting>) -> Result<Filesystem> {
    Ok(Filesystem {
        fs_type: CString::new(fs_type)?,
        source: Some(CString::new(source)?),
        settings,
        copies_mode: false,
        copies_up: false,
        classic: None,
        label: None,
    })
}

/// Mounts v1 hierarchies where the host has any (the v2 one beside them is not shown, as in
/// runc), the v2 one otherwise.
pub fn mount(
    site: &mut Site,
    step: &MountStep,
    fs: &Filesystem,
    plan: &RootfsPlan,
    cgroups: &[CgroupMount],
) -> Result<()> {
    let target = target(&site.root, step, false, false)?;
    let target = target.fd.as_fd();
    match cgroups.iter().find(|cgroup| cgroup.is_v2) {
        Some(v2) if cgroups.iter().all(|cgroup| cgroup.is_v2) => {
            mount_v2(site, step, fs, plan, v2, target)
        }
        _ => mount_v1(site, step, plan, cgroups, target),
    }
}

fn mount_v1(
    site: &mut Site,
    step: &MountStep,
    plan: &RootfsPlan,
    cgroups: &[CgroupMount],
    target: BorrowedFd<'_>,
) -> Result<()> {
    let mut settings = vec![setting("mode=755", "cgroup")?];
    settings.extend(label_setting(plan.mount_label.as_deref())?);
    let base = new_filesystem(&plain("tmpfs", "tmpfs", settings)?, FLAGS, None)?;
    propagate(base.as_fd(), step)?;
    site.attach(base.as_fd(), target)?;
    for cgroup in cgroups.iter().filter(|cgroup| !cgroup.is_v2) {
        let tree = v1_hierarchy(step, plan, cgroup)
            .with_context(|| format!("cannot mount cgroup {}", cgroup.name.display()))?;
        propagate(tree.as_fd(), step)?;
        // The tmpfs is new and nobody else has it: no links to look out for.
        let name = c_path(Path::new(cgroup.name.file_name().unwrap_or_default()))?;
        mkdirat(&base, name.as_c_str(), Mode::from_bits_truncate(0o755))
            .with_context(|| format!("cannot make {}", cgroup.name.display()))?;
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let dir = openat(&base, name.as_c_str(), flags, Mode::empty())?;
        site.attach(tree.as_fd(), dir.as_fd())?;
        link_controllers(base.as_fd(), name.as_bytes())?;
    }
    Ok(())
}

/// cpu and cpuacct lead to cpu,cpuacct.
fn link_controllers(base: BorrowedFd<'_>, name: &[u8]) -> Result<()> {
    if !name.contains(&b',') {
        return Ok(());
    }
    for controller in name.split(|b| *b == b',').filter(|c| !c.is_empty()) {
        match nix::unistd::symlinkat(name, base, controller) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(errno) => return Err(errno).context("cannot make the link of a cgroup"),
        }
    }
    Ok(())
}

fn v1_hierarchy(step: &MountStep, plan: &RootfsPlan, cgroup: &CgroupMount) -> Result<OwnedFd> {
    let set = FLAGS | step.attributes.set;
    if !plan.cgroup_namespace {
        let tree = clone_host(&c_path(&cgroup.host_dir)?, true, plan.propagation)?;
        set_attributes(tree.as_fd(), Attributes { set, clear: step.attributes.clear }, false)?;
        return Ok(tree);
    }
    let source = if cgroup.name.ends_with("systemd") { "systemd" } else { "cgroup" };
    let options = cgroup.options.split(',').filter(|option| !option.is_empty());
    let settings = options.map(|option| setting(option, "cgroup")).collect::<Result<Vec<_>>>()?;
    new_filesystem(&plain("cgroup", source, settings)?, set, None)
}

fn mount_v2(
    site: &mut Site,
    step: &MountStep,
    fs: &Filesystem,
    plan: &RootfsPlan,
    v2: &CgroupMount,
    target: BorrowedFd<'_>,
) -> Result<()> {
    let fs = Filesystem { fs_type: CString::from(c"cgroup2"), ..fs.clone() };
    // There is one v2 file system: mounted anew outside of a cgroup namespace, it would lose the
    // host's options (nsdelegate, memory_recursiveprot) for the host as well.
    let made = plan.cgroup_namespace.then(|| new_filesystem(&fs, step.attributes.set, None));
    let tree = match made {
        Some(Ok(tree)) => tree,
        Some(Err(error)) if !matches!(errno(&error), Some(Errno::EPERM | Errno::EBUSY)) => {
            return Err(error);
        }
        // What may not be mounted may be shown.
        Some(Err(_)) | None => bound_v2(step, plan, v2)?,
    };
    propagate(tree.as_fd(), step)?;
    site.attach(tree.as_fd(), target)
}

fn bound_v2(step: &MountStep, plan: &RootfsPlan, v2: &CgroupMount) -> Result<OwnedFd> {
    // Without a cgroup namespace /proc/self/cgroup names paths from the top.
    let source = if plan.cgroup_namespace { &v2.host_dir } else { &v2.mountpoint };
    match clone_host(&c_path(source)?, true, plan.propagation) {
        Ok(tree) => {
            set_attributes(tree.as_fd(), step.attributes, false)?;
            Ok(tree)
        }
        // Rootless without a cgroup of its own: nothing to see (CVE-2023-25809).
        Err(error) if plan.user_namespace && errno(&error) == Some(Errno::ENOENT) => {
            empty_dir(plan.mount_label.as_deref())
        }
        Err(error) => Err(error),
    }
    .with_context(|| format!("cannot bind {}", source.display()))
}

fn propagate(tree: BorrowedFd<'_>, step: &MountStep) -> Result<()> {
    set_attributes(tree, step.recursive, true)?;
    step.propagation.iter().try_for_each(|change| set_propagation(tree, *change))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn co_mounted_controllers_have_links() {
        let dir = tempfile::tempdir().unwrap();
        let fd = std::fs::File::open(dir.path()).unwrap();
        for name in ["cpu,cpuacct", "memory", "cpu,cpuacct"] {
            link_controllers(fd.as_fd(), name.as_bytes()).unwrap();
        }
        let mut links: Vec<_> = std::fs::read_dir(dir.path())
            .unwrap()
            .map(|entry| entry.unwrap())
            .map(|entry| (entry.file_name(), std::fs::read_link(entry.path()).unwrap()))
            .collect();
        links.sort();
        assert_eq!(
            links,
            ["cpu", "cpuacct"].map(|name| (name.into(), Path::new("cpu,cpuacct").to_owned()))
        );
    }
}
