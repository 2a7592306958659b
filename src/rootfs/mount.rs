//! One mount: a bind of a host path or a new file system, made complete while it is still
//! detached and then attached to the descriptor of its target.

use std::ffi::{CStr, CString, OsStr, OsString};
use std::fmt::Write as _;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, openat, readlinkat};
use nix::mount::{MntFlags, MsFlags, umount2};
use nix::sys::stat::{Mode, SFlag, fstat};
use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};

use super::copyup;
use super::idmap::{UserNamespaces, locked_copy};
use super::inside::{RootDir, file_type};
use crate::error::{Context, Error, Fault, Kind, Result};
use crate::plan::mounts::idmap::IdMapping;
use crate::plan::mounts::options::{Attributes, Links, Propagation};
use crate::plan::mounts::{Filesystem, MountKind, MountStep, RootfsPlan, Setting};
use crate::sys::Sys;
use crate::sys::mount::{self as sys, MountAttr, attr};

/// Names the call and, where the kernel is too old for it, says so.
pub fn call(name: &'static str) -> impl Fn(Errno) -> Error {
    move |errno| match errno {
        Errno::ENOSYS => Fault::new(
            Kind::Unsupported,
            format!("{name}: not in this kernel; Corten needs Linux 5.12 or newer"),
        )
        .into(),
        _ => Error::from(errno).context(name),
    }
}

/// The errno of a failure, if a system call was behind it.
pub fn errno(error: &Error) -> Option<Errno> {
    error.chain().find_map(|cause| cause.downcast_ref::<Errno>()).copied()
}

/// A host path for the kernel.
pub fn c_path(path: &Path) -> Result<CString> {
    let text = CString::new(path.as_os_str().as_bytes());
    text.map_err(|_| Fault::bad_input(format!("{}: holds a NUL byte", path.display())).into())
}

/// Where mounts are made.
#[derive(Debug)]
pub struct Site {
    /// The container's root.
    pub root: RootDir,
    /// Host paths of the mounts made, where they are made in the host's mount namespace.
    pub host_mounts: Option<Vec<PathBuf>>,
}

impl Site {
    /// Attaches a detached mount, and records it where it outlives the container.
    pub fn attach(&mut self, tree: BorrowedFd<'_>, target: BorrowedFd<'_>) -> Result<()> {
        sys::move_mount(tree, target).map_err(|errno| not_attached(errno, tree, target))?;
        self.record(tree)
    }

    fn record(&mut self, mounted: BorrowedFd<'_>) -> Result<()> {
        if let Some(list) = &mut self.host_mounts {
            // Still the host's own /proc: this is before chroot(2).
            let link = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&mounted));
            let path = nix::fcntl::readlink(link.as_str())
                .with_context(|| format!("cannot read {link}"))?;
            list.push(path.into());
        }
        Ok(())
    }
}

/// Undoes mounts in the host's mount namespace, the last one first.
pub fn unmount(mounts: &[PathBuf]) {
    for path in mounts.iter().rev() {
        match umount2(path.as_path(), MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
            // Not there any more, or not mounted any more.
            Ok(()) | Err(Errno::ENOENT | Errno::EINVAL) => {}
            Err(errno) => {
                let text = crate::error::errno_text(errno);
                log::warn!("ignoring: cannot unmount {}: {text}", path.display());
            }
        }
    }
}

/// Why move_mount(2) failed. A file on a directory, or the reverse, is EINVAL here and ENOTDIR for
/// mount(2), which people and engines know: Docker explains it, with exit code 126.
fn not_attached(errno: Errno, tree: BorrowedFd<'_>, target: BorrowedFd<'_>) -> Error {
    let is_directory = |file| file_type(file).map(|kind| kind == SFlag::S_IFDIR);
    let what = match (errno, is_directory(tree), is_directory(target)) {
        (Errno::EINVAL, Ok(false), Ok(true)) => "a file on a directory",
        (Errno::EINVAL, Ok(true), Ok(false)) => "a directory on a file",
        _ => return call("move_mount")(errno),
    };
    Error::from(Errno::ENOTDIR).context(what)
}

/// What mount_setattr(2) gets when a copy of a host mount is made, unless the container's
/// `rootfsPropagation` says otherwise: mounts come in, but never go out.
const DEFAULT_PROPAGATION: Propagation = Propagation { kind: MsFlags::MS_SLAVE, recursive: true };

/// Changes the propagation of the mount `tree`.
pub fn set_propagation(tree: BorrowedFd<'_>, propagation: Propagation) -> Result<()> {
    let change = MountAttr { propagation: propagation.kind.bits(), ..MountAttr::default() };
    sys::mount_setattr(tree, &change, propagation.recursive).map_err(call("mount_setattr"))
}

/// Sets and clears flags of the mount `tree`.
pub fn set_attributes(tree: BorrowedFd<'_>, attributes: Attributes, recursive: bool) -> Result<()> {
    if attributes.is_empty() {
        return Ok(());
    }
    let change = MountAttr { set: attributes.set, clear: attributes.clear, ..MountAttr::default() };
    sys::mount_setattr(tree, &change, recursive).map_err(call("mount_setattr"))
}

/// A detached copy of the mount at a host path, with the propagation of the plan.
pub fn clone_host(
    path: &CStr,
    recursive: bool,
    propagation: Option<Propagation>,
) -> Result<OwnedFd> {
    clone_below(AT_FDCWD, path, recursive, propagation)
}

/// The same for a path below `dir`, or for what `dir` itself is open on.
fn clone_below(
    dir: BorrowedFd<'_>,
    path: &CStr,
    recursive: bool,
    propagation: Option<Propagation>,
) -> Result<OwnedFd> {
    let tree = sys::open_tree_clone(dir, path, recursive).map_err(call("open_tree"))?;
    set_propagation(tree.as_fd(), propagation.unwrap_or(DEFAULT_PROPAGATION))?;
    Ok(tree)
}

/// A host path to be mounted.
#[derive(Debug, Clone, Copy)]
pub struct HostPath<'a> {
    /// Absolute.
    pub path: &'a Path,
    /// With everything mounted below it.
    pub recursive: bool,
    /// What becomes of it when it is a symbolic link.
    pub links: Links,
}

impl HostPath<'_> {
    fn clone(self, propagation: Option<Propagation>) -> Result<OwnedFd> {
        match self.links {
            Links::Follow => clone_host(&c_path(self.path)?, self.recursive, propagation),
            Links::Mount | Links::Copy => {
                clone_below(self.open()?.as_fd(), c"", self.recursive, propagation)
            }
        }
    }

    fn open(self) -> Result<OwnedFd> {
        let mut flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
        flags.set(OFlag::O_NOFOLLOW, self.links != Links::Follow);
        Ok(openat(AT_FDCWD, c_path(self.path)?.as_c_str(), flags, Mode::empty())?)
    }
}

/// Whether the child copies the host's mounts where it can. The kernel lists mounts in the order in
/// which they were made, not attached, and readers of mountinfo take the last one at a path for the
/// uppermost. A joined mount namespace need not have the path, and only the parent's copies still
/// share mounts with the host.
fn child_copies(plan: &RootfsPlan) -> bool {
    let shared = plan.propagation.is_some_and(|p| p.kind == MsFlags::MS_SHARED);
    plan.private_mounts && !plan.joined_mounts && !shared
}

/// What is mounted from the host, as far as the parent could prepare it.
#[derive(Debug)]
pub enum Source {
    /// A finished mount.
    Mount(OwnedFd),
    /// A finished mount whose like no user namespace can make: its ids are mapped.
    IdMapped(OwnedFd),
    /// Only looked at: the child makes the copy, in the order of the mounts or because it alone
    /// has the right to (rootless).
    ForChild,
    /// What a symbolic link holds that is to be made again inside.
    Link(OsString),
}

impl Source {
    /// In the parent: finds the source, and makes its mount with `finish`.
    pub fn prepare(
        source: HostPath<'_>,
        plan: &RootfsPlan,
        finish: impl Fn(BorrowedFd<'_>) -> Result<()>,
    ) -> Result<Self> {
        if !plan.user_namespace && child_copies(plan) {
            source.open()?;
            return Ok(Source::ForChild);
        }
        match source.clone(plan.propagation) {
            Ok(tree) => {
                finish(tree.as_fd())?;
                Ok(Source::Mount(tree))
            }
            // Without privilege the child's user namespace will have it; only look.
            Err(error) if plan.user_namespace && errno(&error) == Some(Errno::EPERM) => {
                source.open()?;
                Ok(Source::ForChild)
            }
            Err(error) => Err(error),
        }
    }

    /// In the parent: the source of a bind mount.
    pub fn prepare_bind(
        step: &MountStep,
        source: HostPath<'_>,
        ids: Option<&IdMapping>,
        plan: &RootfsPlan,
        namespaces: &mut UserNamespaces,
    ) -> Result<Self> {
        if source.links == Links::Copy {
            let file = source.open()?;
            if file_type(file.as_fd())? == SFlag::S_IFLNK {
                return Ok(Source::Link(readlinkat(&file, c"")?));
            }
        }
        let Some(ids) = ids else { return Source::prepare(source, plan, finish_bind(step)) };
        let clone = || source.clone(plan.propagation);
        let locked = if plan.user_namespace { locked_copy(clone)? } else { None };
        let tree = match locked {
            Some(tree) => tree,
            None => clone()?,
        };
        namespaces.map(tree.as_fd(), ids)?;
        finish_bind(step)(tree.as_fd())?;
        Ok(Source::IdMapped(tree))
    }

    /// In the child: the finished mount. A user namespace makes its own copy where it can see
    /// the path, because only that one has the host's flags (read-only, nosuid) locked against
    /// the container's root.
    pub fn take(
        self,
        source: HostPath<'_>,
        plan: &RootfsPlan,
        finish: impl Fn(BorrowedFd<'_>) -> Result<()>,
    ) -> Result<OwnedFd> {
        let prepared = match self {
            Source::IdMapped(tree) => return Ok(tree),
            Source::Mount(tree) if !plan.user_namespace => return Ok(tree),
            Source::Mount(tree) => Some(tree),
            Source::ForChild | Source::Link(_) => None,
        };
        match (source.clone(plan.propagation), prepared) {
            (Ok(tree), _) => {
                finish(tree.as_fd())?;
                Ok(tree)
            }
            (Err(_), Some(tree)) => Ok(tree),
            (Err(error), None) => Err(error),
        }
    }
}

/// What a bind mount asks for beyond the copy.
pub fn finish_bind(step: &MountStep) -> impl Fn(BorrowedFd<'_>) -> Result<()> {
    |tree| {
        set_attributes(tree, step.attributes, false)?;
        set_attributes(tree, step.recursive, true)?;
        step.propagation.iter().try_for_each(|change| set_propagation(tree, *change))
    }
}

/// Makes a detached mount of a new file system with `MOUNT_ATTR_*` set. `mode` becomes an option
/// before those of the plan.
pub fn new_filesystem(fs: &Filesystem, attributes: u64, mode: Option<u32>) -> Result<OwnedFd> {
    let context = sys::fsopen(&fs.fs_type).map_err(|errno| {
        let error = Error::from(errno);
        match errno {
            Errno::ENODEV => error.context("this kernel has no such type of file system"),
            _ => call("fsopen")(errno),
        }
    })?;
    let configure = || -> Sys<()> {
        if let Some(source) = &fs.source {
            sys::fsconfig_set_string(context.as_fd(), c"source", source)?;
        }
        if let Some(mode) = mode {
            // Never fails: digits only.
            let text = CString::new(format!("{mode:o}")).unwrap_or_default();
            sys::fsconfig_set_string(context.as_fd(), c"mode", &text)?;
        }
        for setting in &fs.settings {
            match setting {
                Setting::Flag(key) => sys::fsconfig_set_flag(context.as_fd(), key)?,
                Setting::Text(key, value) => {
                    sys::fsconfig_set_string(context.as_fd(), key, value)?;
                }
            }
        }
        sys::fsconfig_create(context.as_fd())
    };
    configure().map_err(|errno| match messages(&context) {
        text if text.is_empty() => call("fsconfig")(errno),
        text => Error::from(errno).context(text),
    })?;
    sys::fsmount(context.as_fd(), attributes).map_err(call("fsmount"))
}

/// What the kernel has to say about a failed fsconfig(2): lines of "e text".
fn messages(context: &OwnedFd) -> String {
    let mut text = String::new();
    let mut line = [0u8; 512];
    while let Ok(length @ 1..) = nix::unistd::read(context, &mut line) {
        let message = String::from_utf8_lossy(line.get(..length).unwrap_or_default());
        let message = message.trim_end();
        let message = message.strip_prefix("e ").unwrap_or(message);
        let separator = if text.is_empty() { "" } else { "; " };
        let _ = write!(text, "{separator}{message}");
    }
    text
}

/// A place to mount on.
pub struct Target {
    /// O_PATH.
    pub fd: OwnedFd,
    /// It was there before.
    pub existed: bool,
}

/// Finds or makes the place for `step`: a directory or, for files, an empty file.
pub fn target(root: &RootDir, step: &MountStep, file: bool, on_procfs: bool) -> Result<Target> {
    let path = &step.destination;
    let mode = Mode::from_bits_truncate(0o755);
    check_proc(step, on_procfs)?;
    if step.refuses_links() {
        return match root.create_dir_all_without_links(path, mode) {
            Ok(fd) => Ok(Target { fd, existed: true }),
            Err(Errno::ELOOP | Errno::ENOTDIR) => {
                let fs_type = match &step.kind {
                    MountKind::Filesystem(fs) => fs.fs_type.to_string_lossy().into_owned(),
                    _ => String::new(),
                };
                let text = format!("filesystem {fs_type:?} must be mounted on ordinary directory");
                Err(Fault::bad_input(text)
                    .hint("the root filesystem has a link or a file there; it may be hostile")
                    .into())
            }
            Err(errno) => Err(errno).with_context(|| format!("cannot make {path}")),
        };
    }
    // Nearly always the path is free of links, and then it leads where its name says.
    let mut links = false;
    let mut flags = OFlag::O_PATH;
    flags.set(OFlag::O_NOFOLLOW, step.dest_nofollow);
    let mut found = root.open_without_links(path, flags);
    if matches!(found, Err(Errno::ELOOP)) {
        links = true;
        found = root.open(path, flags);
    }
    let (fd, existed) = match found {
        Ok(fd) => (fd, true),
        Err(Errno::ENOENT) => {
            let made = root.create_mount_point(path, file, links);
            (made.with_context(|| format!("cannot make the mount point {path}"))?, false)
        }
        Err(errno) => {
            return Err(errno).with_context(|| format!("cannot open the mount point {path}"));
        }
    };
    if links {
        check_resolved(root, step, fd.as_fd())?;
    }
    Ok(Target { fd, existed })
}

/// Files of /proc that lxcfs stands in for; nothing else may be mounted there.
const MOUNTABLE_IN_PROC: [&str; 10] = [
    "proc/cpuinfo",
    "proc/diskstats",
    "proc/meminfo",
    "proc/stat",
    "proc/swaps",
    "proc/uptime",
    "proc/loadavg",
    "proc/slabinfo",
    "proc/sys/kernel/ns_last_pid",
    "proc/sys/crypto/fips_enabled",
];

/// A faked /proc would get what the runtime writes to the real one (CVE-2019-16884).
fn check_proc(step: &MountStep, on_procfs: bool) -> Result<()> {
    let path = step.destination.as_str();
    if path == "proc" {
        let fresh = matches!(&step.kind,
            MountKind::Filesystem(fs) if fs.fs_type.as_c_str() == c"proc");
        if !fresh && !on_procfs {
            let message = "\"/proc\" cannot be mounted because it is not of type proc";
            return Err(Fault::bad_input(message).into());
        }
    } else if path.starts_with("proc/") && !MOUNTABLE_IN_PROC.contains(&path) {
        let message = format!("\"/{path}\" cannot be mounted because it is inside /proc");
        return Err(Fault::bad_input(message).into());
    }
    Ok(())
}

/// The same for a target that links led to, and which therefore is not where its name says.
fn check_resolved(root: &RootDir, step: &MountStep, target: BorrowedFd<'_>) -> Result<()> {
    let path = &step.destination;
    let place = sys::identity(target).map_err(call("statx"))?;
    if place == sys::identity(root.as_fd()).map_err(call("statx"))? {
        return Err(Fault::bad_input(format!("{path} leads to the root itself")).into());
    }
    let proc = crate::plan::mounts::InsidePath::new("proc", "/proc")?;
    let is_proc = root
        .open(&proc, OFlag::O_PATH)
        .and_then(|fd| sys::identity(fd.as_fd()))
        .is_ok_and(|proc| proc == place);
    let on_procfs = fstatfs(target).is_ok_and(|fs| fs.filesystem_type() == PROC_SUPER_MAGIC);
    let by_name = MOUNTABLE_IN_PROC.contains(&path.as_str());
    if is_proc || (on_procfs && !by_name) {
        return Err(Fault::bad_input(format!("{path} leads into /proc")).into());
    }
    Ok(())
}

/// Attaches a bind mount.
pub fn mount_bind(site: &mut Site, step: &MountStep, tree: OwnedFd) -> Result<()> {
    let file = file_type(tree.as_fd()).context("cannot stat the source")? != SFlag::S_IFDIR;
    // Only asked where the answer matters.
    let on_procfs = step.destination.as_str() == "proc"
        && fstatfs(&tree).is_ok_and(|fs| fs.filesystem_type() == PROC_SUPER_MAGIC);
    let target = target(&site.root, step, file, on_procfs)?;
    site.attach(tree.as_fd(), target.fd.as_fd())
}

/// Changes the mount at the destination.
pub fn remount(root: &RootDir, step: &MountStep) -> Result<()> {
    let mounted = root.open(&step.destination, OFlag::O_PATH)?;
    if !sys::identity(mounted.as_fd()).map_err(call("statx"))?.mount_root {
        return Err(Error::from(Errno::EINVAL).context("nothing is mounted there"));
    }
    finish_bind(step)(mounted.as_fd())
}

/// Makes the symbolic link of a bind mount with copy-symlink.
pub fn copy_link(root: &RootDir, step: &MountStep, link: &OsStr) -> Result<()> {
    let path = &step.destination;
    check_proc(step, false)?;
    let (parent, name) = path.split().ok_or(Errno::EEXIST)?;
    let dir = root.create_dir_all(&parent, Mode::from_bits_truncate(0o755));
    let dir = dir.with_context(|| format!("cannot make {parent}"))?;
    match nix::unistd::symlinkat(link, &dir, name) {
        Err(Errno::EEXIST) if readlinkat(&dir, name).is_ok_and(|held| held == link) => Ok(()),
        Err(Errno::EEXIST) => {
            let text = format!("{path} exists and is not a symbolic link to {}", link.display());
            Err(Fault::bad_input(text).into())
        }
        made => made.with_context(|| format!("cannot make the symbolic link {path}")),
    }
}

/// Makes and attaches a new file system; returns its mount where it is to become read-only late.
pub fn mount_filesystem(
    site: &mut Site,
    step: &MountStep,
    fs: &Filesystem,
) -> Result<Option<OwnedFd>> {
    let target = target(&site.root, step, false, false)?;
    let mounted = match &fs.classic {
        Some((flags, data)) => {
            let mounted = mount_classic(site, step, fs, &target, *flags, data)?;
            finish_filesystem(mounted.as_fd(), step)?;
            mounted
        }
        None => {
            let mode = if fs.copies_mode && target.existed {
                let stat = fstat(&target.fd).context("cannot stat the mount point")?;
                Some(stat.st_mode & 0o7777)
            } else {
                None
            };
            let late = if step.readonly_late { attr::RDONLY } else { 0 };
            let mounted = new_filesystem(fs, step.attributes.set & !late, mode)?;
            finish_filesystem(mounted.as_fd(), step)?;
            if fs.copies_up && target.existed {
                copyup::copy(target.fd.as_fd(), mounted.as_fd()).context("tmpcopyup")?;
            }
            site.attach(mounted.as_fd(), target.fd.as_fd())?;
            mounted
        }
    };
    if let Some(label) = &fs.label {
        set_label(mounted.as_fd(), label)?;
    }
    Ok(step.readonly_late.then_some(mounted))
}

fn finish_filesystem(tree: BorrowedFd<'_>, step: &MountStep) -> Result<()> {
    set_attributes(tree, step.recursive, true)?;
    step.propagation.iter().try_for_each(|change| set_propagation(tree, *change))
}

/// mount(2), which wants a path: that of the working directory. The new mount is found again by
/// name, so what was found is checked.
fn mount_classic(
    site: &mut Site,
    step: &MountStep,
    fs: &Filesystem,
    target: &Target,
    flags: MsFlags,
    data: &CStr,
) -> Result<OwnedFd> {
    let before = sys::identity(target.fd.as_fd()).map_err(call("statx"))?;
    nix::unistd::fchdir(&target.fd).context("cannot enter the mount point")?;
    nix::mount::mount(fs.source.as_deref(), c".", Some(fs.fs_type.as_c_str()), flags, Some(data))
        .map_err(call("mount"))?;
    let mounted = site.root.open(&step.destination, OFlag::O_PATH);
    let mounted = mounted.context("cannot open what was mounted")?;
    let after = sys::identity(mounted.as_fd()).map_err(call("statx"))?;
    let is_new = after.mount != before.mount || flags.contains(MsFlags::MS_REMOUNT);
    if !after.mount_root || !is_new {
        let message = "the mount point was moved while it was mounted on";
        return Err(Fault::new(Kind::System, message).into());
    }
    if !flags.contains(MsFlags::MS_REMOUNT) {
        site.record(mounted.as_fd())?;
    }
    Ok(mounted)
}

/// The label of the file system's root; for those that take no context= option.
fn set_label(tree: BorrowedFd<'_>, label: &CStr) -> Result<()> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let root = openat(tree, c".", flags, Mode::empty()).context("cannot open what was mounted")?;
    sys::fsetxattr(root.as_fd(), c"security.selinux", label.to_bytes_with_nul())
        .context("cannot set its SELinux label (linux.mountLabel)")
}
