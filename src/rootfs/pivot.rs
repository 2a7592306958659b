//! From the host's root to the container's: attach it, then pivot_root(2), or chroot(2) with
//! --no-pivot and in the host's mount namespace.

use std::os::fd::AsFd;
use std::path::Path;

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::unistd::{chdir, chroot, fchdir, pivot_root};

use super::inside::RootDir;
use super::mount::{c_path, call, set_propagation};
use crate::error::{Context, Error, Result};
use crate::plan::mounts::RootfsPlan;
use crate::plan::mounts::options::Propagation;
use crate::sys::mount as sys;

/// Cuts the mounts of this namespace off from the host's: nothing made here is seen there.
pub fn isolate() -> Result<()> {
    let flags = MsFlags::MS_SLAVE | MsFlags::MS_REC;
    mount(None::<&str>, c"/", None::<&str>, flags, None::<&str>)
        .context("cannot make the mounts of this namespace slaves of the host's")
}

/// The mount of the root itself never sends mounts anywhere; it receives them only on request.
pub fn root_mount_propagation(plan: &RootfsPlan) -> Propagation {
    let slave = plan.propagation.is_some_and(|p| p.kind == MsFlags::MS_SLAVE);
    let kind = if slave { MsFlags::MS_SLAVE } else { MsFlags::MS_PRIVATE };
    Propagation { kind, recursive: false }
}

/// Attaches the container's root at its host path, where hooks look for it. A user namespace
/// that may not search the way there, and a joined mount namespace that has no such path, have
/// it over "/" instead.
pub fn attach_root(root: &RootDir, path: &Path) -> Result<()> {
    match sys::move_mount_to_path(root.as_fd(), &c_path(path)?) {
        Err(Errno::EACCES | Errno::ENOENT | Errno::ENOTDIR) => over_slash(root),
        result => result.map_err(call("move_mount")),
    }
}

fn over_slash(root: &RootDir) -> Result<()> {
    sys::move_mount_to_path(root.as_fd(), c"/").map_err(call("move_mount"))
}

/// Makes the attached root "/" and the working directory; the host's tree is gone.
pub fn pivot(root: &RootDir) -> Result<()> {
    let old = RootDir::current().context("cannot open the old root")?;
    fchdir(root).context("cannot enter the new root")?;
    // The old root comes to lie over the new one; no directory is needed to put it.
    pivot_root(c".", c".").map_err(|errno| Error::from(errno).context("pivot_root"))?;
    fchdir(&old).context("cannot enter the old root")?;
    umount2(c".", MntFlags::MNT_DETACH).context("cannot unmount the old root")?;
    chdir(c"/").context("cannot enter the new root")
}

/// After the pivot: what `rootfsPropagation` asks for that could not hold before (pivot_root(2)
/// refuses shared mounts).
pub fn share_root(root: &RootDir, plan: &RootfsPlan) -> Result<()> {
    match plan.propagation {
        Some(change) if matches!(change.kind, MsFlags::MS_SHARED | MsFlags::MS_UNBINDABLE) => {
            set_propagation(root.as_fd(), change)
                .context("cannot change the root's propagation (linux.rootfsPropagation)")
        }
        _ => Ok(()),
    }
}

/// --no-pivot: the root is moved over "/" and entered. The host's tree stays below it, so its
/// proc and sysfs are taken away or covered first: the kernel lets a container mount new ones
/// only by the measure of those it sees.
pub fn move_root(root: &RootDir, path: &Path) -> Result<()> {
    hide_kernel_filesystems(path)?;
    over_slash(root)?;
    enter(root)
}

fn hide_kernel_filesystems(rootfs: &Path) -> Result<()> {
    let mounts = procfs::process::Process::myself()
        .and_then(|process| process.mountinfo())
        .context("cannot read /proc/self/mountinfo")?;
    for entry in mounts.0 {
        let kernel = matches!(entry.fs_type.as_str(), "proc" | "sysfs");
        if !kernel || entry.root != "/" || entry.mount_point.starts_with(rootfs) {
            continue;
        }
        let point = entry.mount_point.as_path();
        let hidden = match umount2(point, MntFlags::MNT_DETACH) {
            // Gone with the mount above it.
            Err(Errno::ENOENT) => Ok(()),
            // Not ours to unmount (locked by a user namespace): cover it.
            Err(Errno::EINVAL | Errno::EPERM) => {
                let tmpfs = Some("tmpfs");
                mount(tmpfs, point, tmpfs, MsFlags::empty(), None::<&str>)
            }
            result => result,
        };
        hidden.with_context(|| format!("cannot hide the host's {}", point.display()))?;
    }
    Ok(())
}

/// chroot(2) into the root.
pub fn enter(root: &RootDir) -> Result<()> {
    fchdir(root).context("cannot enter the new root")?;
    chroot(c".").context("chroot")?;
    chdir(c"/").context("cannot enter the new root")
}
