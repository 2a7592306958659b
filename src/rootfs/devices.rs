//! The nodes and links of /dev (spec config-linux.md "Devices", "Default Devices";
//! runtime-linux.md "Dev symbolic links"). All of it is made on the descriptor of a directory
//! inside the root, so that a link in place of /dev leads nowhere else (CVE-2026-41579).

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, openat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, major, minor, mknodat, umask};
use nix::unistd::{Gid, Uid, UnlinkatFlags, faccessat, fchownat, symlinkat, unlinkat};

use super::inside::{create_file_in, kind_of};
use super::mount::{Site, clone_host};
use crate::error::{Context, Fault, Result};
use crate::plan::mounts::{DeviceNode, InsidePath, RootfsPlan};

/// Target and name of each link in /dev.
const LINKS: [(&CStr, &CStr); 4] = [
    (c"/proc/self/fd", c"fd"),
    (c"/proc/self/fd/0", c"stdin"),
    (c"/proc/self/fd/1", c"stdout"),
    (c"/proc/self/fd/2", c"stderr"),
];

/// Makes the devices of the plan and the usual links.
pub fn setup(site: &mut Site, plan: &RootfsPlan) -> Result<()> {
    let path = InsidePath::new("dev", "/dev")?;
    let dev = site
        .root
        .create_dir_all(&path, Mode::from_bits_truncate(0o755))
        .context("cannot open /dev in the container")?;
    // The modes are to be as written; there is no fchmod(2) for a node that is not opened.
    let mask = umask(Mode::empty());
    let made = plan.devices.iter().try_for_each(|node| {
        make(site, plan, dev.as_fd(), node)
            .with_context(|| format!("cannot make the device {}", node.path))
    });
    umask(mask);
    made?;
    links(dev.as_fd())
}

fn make(site: &mut Site, plan: &RootfsPlan, dev: BorrowedFd<'_>, node: &DeviceNode) -> Result<()> {
    let (parent, name) = node.path.split().ok_or(Errno::EISDIR)?;
    let parent_fd;
    let dir = if parent.as_str() == "dev" {
        dev
    } else {
        parent_fd = site.root.create_dir_all(&parent, Mode::from_bits_truncate(0o755))?;
        parent_fd.as_fd()
    };
    let fifo = node.kind == SFlag::S_IFIFO;
    if plan.user_namespace && !fifo {
        return bind(site, plan, dir, name, node);
    }
    let mode = Mode::from_bits_truncate(node.mode);
    match mknodat(dir, name, node.kind, mode, node.number) {
        Ok(()) => {
            let (file, stat) = open(dir, name)?;
            check(node, &stat)?;
            if (stat.st_uid, stat.st_gid) != (node.uid, node.gid) {
                let (uid, gid) = (Uid::from_raw(node.uid), Gid::from_raw(node.gid));
                fchownat(&file, c"", Some(uid), Some(gid), AtFlags::AT_EMPTY_PATH)
                    .context("cannot change its owner")?;
            }
            Ok(())
        }
        // The spec: what is there and is not the device is an error.
        Err(Errno::EEXIST) => check(node, &open(dir, name)?.1),
        // We run in somebody else's user namespace.
        Err(Errno::EPERM) if !fifo => bind(site, plan, dir, name, node),
        Err(errno) => Err(errno).context("mknod"),
    }
}

fn open(dir: BorrowedFd<'_>, name: &CStr) -> Result<(OwnedFd, FileStat)> {
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let file = openat(dir, name, flags, Mode::empty())?;
    let stat = fstat(&file)?;
    Ok((file, stat))
}

fn check(node: &DeviceNode, stat: &FileStat) -> Result<()> {
    if is(node, stat) {
        return Ok(());
    }
    let message = format!("{} exists and is not {}", node.path, name_of(node));
    Err(Fault::bad_input(message).into())
}

fn is(node: &DeviceNode, stat: &FileStat) -> bool {
    kind_of(stat.st_mode) == node.kind
        && (node.kind == SFlag::S_IFIFO || stat.st_rdev == node.number)
}

fn name_of(node: &DeviceNode) -> String {
    let (major, minor) = (major(node.number), minor(node.number));
    match node.kind {
        SFlag::S_IFIFO => "a FIFO".into(),
        SFlag::S_IFBLK => format!("block device {major}:{minor}"),
        _ => format!("character device {major}:{minor}"),
    }
}

/// Where nodes cannot be made: the host's node of the same path, if it is the device.
fn bind(
    site: &mut Site,
    plan: &RootfsPlan,
    dir: BorrowedFd<'_>,
    name: &CStr,
    node: &DeviceNode,
) -> Result<()> {
    let target = match create_file_in(dir, name, Mode::empty()) {
        Err(Errno::EEXIST) => {
            let (file, stat) = open(dir, name)?;
            if is(node, &stat) {
                return Ok(());
            }
            // Empty ones are the mount points of an earlier container on this root.
            if kind_of(stat.st_mode) != SFlag::S_IFREG || stat.st_size != 0 {
                return check(node, &stat);
            }
            file
        }
        made => made.context("cannot make its mount point")?,
    };
    let tree = clone_host(&node.host_path, false, plan.propagation)
        .with_context(|| format!("cannot bind the host's {}", node.path))?;
    check(node, &fstat(&tree)?).context("on the host")?;
    site.attach(tree.as_fd(), target.as_fd())
}

fn links(dev: BorrowedFd<'_>) -> Result<()> {
    let kcore =
        faccessat(AT_FDCWD, c"/proc/kcore", nix::unistd::AccessFlags::F_OK, AtFlags::empty());
    let core = kcore.is_ok().then_some((c"/proc/kcore", c"core"));
    for (target, name) in LINKS.into_iter().chain(core) {
        match symlinkat(target, dev, name) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(errno) => return Err(errno).with_context(|| format!("cannot link /dev/{name:?}")),
        }
    }
    // Whatever the image has there, it is not this container's devpts.
    match unlinkat(dev, c"ptmx", UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => {}
        Err(errno) => return Err(errno).context("cannot remove /dev/ptmx"),
    }
    symlinkat(c"pts/ptmx", dev, c"ptmx").context("cannot link /dev/ptmx")
}
