//! `maskedPaths` and `readonlyPaths`, and the container's terminal over /dev/console. All by
//! descriptor on the container's root: its /proc is not to be trusted with our paths.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, SFlag, fchmod, makedev, mknodat};

use super::inside::{RootDir, check_dev_null, create_file_in, file_type};
use super::mount::{Site, call, new_filesystem, set_attributes};
use crate::error::{Context, Fault, Result};
use crate::plan::mounts::options::Attributes;
use crate::plan::mounts::{Filesystem, InsidePath, RootfsPlan, Setting, setting};
use crate::sys::mount::{self as sys, attr};

const READ_ONLY: Attributes = Attributes { set: attr::RDONLY, clear: 0 };

/// An empty directory that stays so: a detached read-only tmpfs of one inode.
pub fn empty_dir(mount_label: Option<&str>) -> Result<OwnedFd> {
    let mut settings = vec![Setting::Flag(c"ro".into())];
    for option in ["nr_blocks=1", "nr_inodes=1"] {
        settings.push(setting(option, "tmpfs")?);
    }
    settings.extend(label_setting(mount_label)?);
    tmpfs(settings, attr::RDONLY)
}

fn tmpfs(settings: Vec<Setting>, attributes: u64) -> Result<OwnedFd> {
    let fs = Filesystem {
        fs_type: CString::from(c"tmpfs"),
        source: Some(CString::from(c"tmpfs")),
        settings,
        copies_mode: false,
        copies_up: false,
        classic: None,
        label: None,
    };
    new_filesystem(&fs, attributes, None)
}

/// A null device that nobody else has, open for reading and writing; not in a user namespace,
/// which makes no devices.
pub fn private_null() -> Result<OwnedFd> {
    let dir = tmpfs(Vec::new(), 0)?;
    let mode = Mode::from_bits_truncate(0o666);
    mknodat(&dir, c"null", SFlag::S_IFCHR, mode, makedev(1, 3)).context("mknod")?;
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let null = openat(&dir, c"null", flags, Mode::empty()).context("cannot open a null device")?;
    // The umask took some of it.
    fchmod(&null, mode).context("fchmod")?;
    Ok(null)
}

/// The option that gives all files of a new mount the label.
pub fn label_setting(mount_label: Option<&str>) -> Result<Option<Setting>> {
    let option = mount_label.map(|label| format!("context={label}"));
    option.map(|option| setting(&option, "config.json: linux.mountLabel")).transpose()
}

fn open(root: &RootDir, path: &InsidePath) -> Result<Option<OwnedFd>> {
    match root.open(path, OFlag::O_PATH) {
        Ok(fd) => Ok(Some(fd)),
        Err(Errno::ENOENT) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

/// Makes each path read-only by a mount of its own; those that are missing are passed over.
pub fn make_readonly(site: &mut Site, plan: &RootfsPlan) -> Result<()> {
    for path in &plan.readonly_paths {
        let mut make = || -> Result<()> {
            let Some(target) = open(&site.root, path)? else { return Ok(()) };
            let tree =
                sys::open_tree_clone(target.as_fd(), c"", true).map_err(call("open_tree"))?;
            set_attributes(tree.as_fd(), READ_ONLY, false)?;
            site.attach(tree.as_fd(), target.as_fd())
        };
        make().with_context(|| format!("cannot make {path} read-only (linux.readonlyPaths)"))?;
    }
    Ok(())
}

/// A mount that is attached many times: the first time itself, then copies of it (a copy of a
/// detached mount is refused before Linux 6.15).
struct Stamp {
    mount: OwnedFd,
    attached: bool,
}

impl Stamp {
    fn press(&mut self, site: &mut Site, target: BorrowedFd<'_>) -> Result<()> {
        if self.attached {
            let copy =
                sys::open_tree_clone(self.mount.as_fd(), c"", false).map_err(call("open_tree"))?;
            return site.attach(copy.as_fd(), target);
        }
        site.attach(self.mount.as_fd(), target)?;
        self.attached = true;
        Ok(())
    }
}

/// Hides each path: a directory behind an empty one, a file behind the container's /dev/null;
/// those that are missing are passed over.
pub fn mask(site: &mut Site, plan: &RootfsPlan) -> Result<()> {
    let (mut dirs, mut files) = (None, None);
    for path in &plan.masked {
        let mut hide = || -> Result<()> {
            let Some(target) = open(&site.root, path)? else { return Ok(()) };
            let stamp = if file_type(target.as_fd())? == SFlag::S_IFDIR {
                stored(&mut dirs, || empty_dir(plan.mount_label.as_deref()))?
            } else {
                stored(&mut files, || null_mount(&site.root))?
            };
            stamp.press(site, target.as_fd())
        };
        hide().with_context(|| format!("cannot mask {path} (linux.maskedPaths)"))?;
    }
    Ok(())
}

fn stored(stamp: &mut Option<Stamp>, make: impl FnOnce() -> Result<OwnedFd>) -> Result<&mut Stamp> {
    match stamp {
        Some(stamp) => Ok(stamp),
        None => Ok(stamp.insert(Stamp { mount: make()?, attached: false })),
    }
}

/// A detached mount of the container's /dev/null, which must be the real one (CVE-2025-31133).
fn null_mount(root: &RootDir) -> Result<OwnedFd> {
    let path = InsidePath::new("dev/null", "/dev/null")?;
    let null = root
        .open(&path, OFlag::O_PATH | OFlag::O_NOFOLLOW)
        .context("cannot open /dev/null in the container")?;
    check_dev_null(null.as_fd())?;
    sys::open_tree_clone(null.as_fd(), c"", false).map_err(call("open_tree"))
}

/// Mounts the terminal `tty` over `path` (/dev/console), an empty file that is made if it is
/// missing. Never through a link (CVE-2025-52565, CVE-2026-88264).
pub fn bind_tty_over(root: &RootDir, tty: BorrowedFd<'_>, path: &InsidePath) -> Result<()> {
    let bind = || -> Result<()> {
        let (parent, name) = path.split().ok_or(Errno::EISDIR)?;
        let dir = root.open_dir(&parent).with_context(|| format!("cannot open {parent}"))?;
        let target = match create_file_in(dir.as_fd(), name, Mode::from_bits_truncate(0o600)) {
            // A read-only directory may hold the file already.
            Err(Errno::EEXIST | Errno::EROFS) => {
                let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
                openat(&dir, name, flags, Mode::empty())
            }
            made => made,
        }
        .with_context(|| format!("cannot make {path}"))?;
        if matches!(file_type(target.as_fd())?, SFlag::S_IFLNK | SFlag::S_IFDIR) {
            let message = format!("{path} in the container is a link or a directory");
            return Err(Fault::bad_input(message).into());
        }
        let tree = sys::open_tree_clone(tty, c"", false).map_err(call("open_tree"))?;
        sys::move_mount(tree.as_fd(), target.as_fd()).map_err(call("move_mount"))
    };
    bind().with_context(|| format!("cannot mount the terminal on {path}"))
}
