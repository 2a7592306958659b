//! The mount calls of Linux 5.2 to 5.12: open_tree(2), move_mount(2), fsopen(2), fsconfig(2),
//! fsmount(2), mount_setattr(2), and the mount id of statx(2). Every descriptor is close-on-exec.

use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use super::{Sys, check};

// linux/mount.h; libc has these for no target yet.
const OPEN_TREE_CLONE: u32 = 1;
const OPEN_TREE_CLOEXEC: u32 = libc::O_CLOEXEC as u32;
const MOVE_MOUNT_F_EMPTY_PATH: u32 = 0x04;
const MOVE_MOUNT_T_SYMLINKS: u32 = 0x10;
const MOVE_MOUNT_T_EMPTY_PATH: u32 = 0x40;
const FSOPEN_CLOEXEC: u32 = 1;
const FSMOUNT_CLOEXEC: u32 = 1;
const FSCONFIG_SET_FLAG: u32 = 0;
const FSCONFIG_SET_STRING: u32 = 1;
const FSCONFIG_CMD_CREATE: u32 = 6;

/// linux/mount.h `MOUNT_ATTR_*`, what mount_setattr(2) sets and clears.
pub mod attr {
    /// Read-only.
    pub const RDONLY: u64 = 0x01;
    /// Set-user-id bits and file capabilities are ignored.
    pub const NOSUID: u64 = 0x02;
    /// Device nodes cannot be opened.
    pub const NODEV: u64 = 0x04;
    /// No program can be executed.
    pub const NOEXEC: u64 = 0x08;
    /// The field of the three access time values; one of them is set by clearing all of it.
    pub const ATIME: u64 = 0x70;
    /// Access times are updated now and then (the kernel's default).
    pub const RELATIME: u64 = 0x00;
    /// Access times are not updated.
    pub const NOATIME: u64 = 0x10;
    /// Access times are always updated.
    pub const STRICTATIME: u64 = 0x20;
    /// Access times of directories are not updated.
    pub const NODIRATIME: u64 = 0x80;
    /// The ids of the file system are mapped by a user namespace.
    pub const IDMAP: u64 = 0x10_0000;
    /// Symbolic links are not followed (Linux 5.14).
    pub const NOSYMFOLLOW: u64 = 0x20_0000;
}

/// The argument of mount_setattr(2); linux/mount.h `struct mount_attr`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MountAttr {
    /// `MOUNT_ATTR_*` to set.
    pub set: u64,
    /// `MOUNT_ATTR_*` to clear.
    pub clear: u64,
    /// One of MS_SHARED, MS_SLAVE, MS_PRIVATE, MS_UNBINDABLE; 0 leaves it.
    pub propagation: u64,
    /// For id-mapped mounts.
    pub userns_fd: u64,
}

/// A descriptor that the kernel just returned.
fn owned(result: libc::c_long) -> OwnedFd {
    // SAFETY: the callers pass the successful result of a call that returns a new descriptor
    // which nothing else owns.
    unsafe { OwnedFd::from_raw_fd(result as RawFd) }
}

/// open_tree(2) with OPEN_TREE_CLONE: a detached copy of the mount at `path` below `dir`, or of
/// what `dir` itself is open on when `path` is empty; with everything mounted below it when
/// `recursive`. It goes away with its descriptor unless it is attached.
pub fn open_tree_clone(dir: BorrowedFd<'_>, path: &CStr, recursive: bool) -> Sys<OwnedFd> {
    let mut flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC;
    if path.is_empty() {
        flags |= libc::AT_EMPTY_PATH as u32;
    }
    if recursive {
        flags |= libc::AT_RECURSIVE as u32;
    }
    // SAFETY: `path` is a valid string for the length of the call, the rest are numbers.
    check(unsafe { libc::syscall(libc::SYS_open_tree, dir.as_raw_fd(), path.as_ptr(), flags) })
        .map(owned)
}

/// move_mount(2): attaches the mount `tree` on the file or directory that `target` is open on.
pub fn move_mount(tree: BorrowedFd<'_>, target: BorrowedFd<'_>) -> Sys<()> {
    let flags = MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH;
    let empty = c"".as_ptr();
    // SAFETY: both strings are static, the rest are numbers.
    check(unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            tree.as_raw_fd(),
            empty,
            target.as_raw_fd(),
            empty,
            flags,
        )
    })
    .map(drop)
}

/// move_mount(2) onto a path of this process's own file system view, links followed.
pub fn move_mount_to_path(tree: BorrowedFd<'_>, target: &CStr) -> Sys<()> {
    let flags = MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_SYMLINKS;
    // SAFETY: both strings are valid for the length of the call, the rest are numbers.
    check(unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_FDCWD,
            target.as_ptr(),
            flags,
        )
    })
    .map(drop)
}

/// fsopen(2): a new file system of this type, to be configured.
pub fn fsopen(fs_type: &CStr) -> Sys<OwnedFd> {
    // SAFETY: `fs_type` is a valid string for the length of the call.
    check(unsafe { libc::syscall(libc::SYS_fsopen, fs_type.as_ptr(), FSOPEN_CLOEXEC) }).map(owned)
}

fn fsconfig(
    context: BorrowedFd<'_>,
    command: u32,
    key: *const libc::c_char,
    value: *const libc::c_char,
) -> Sys<()> {
    // SAFETY: the three callers pass null or strings that are valid for the length of the call.
    check(unsafe { libc::syscall(libc::SYS_fsconfig, context.as_raw_fd(), command, key, value, 0) })
        .map(drop)
}

/// fsconfig(2) FSCONFIG_SET_FLAG: an option without a value. At most 255 bytes.
pub fn fsconfig_set_flag(context: BorrowedFd<'_>, key: &CStr) -> Sys<()> {
    fsconfig(context, FSCONFIG_SET_FLAG, key.as_ptr(), std::ptr::null())
}

/// fsconfig(2) FSCONFIG_SET_STRING: an option with a value. At most 255 bytes each.
pub fn fsconfig_set_string(context: BorrowedFd<'_>, key: &CStr, value: &CStr) -> Sys<()> {
    fsconfig(context, FSCONFIG_SET_STRING, key.as_ptr(), value.as_ptr())
}

/// fsconfig(2) FSCONFIG_CMD_CREATE: makes the superblock.
pub fn fsconfig_create(context: BorrowedFd<'_>) -> Sys<()> {
    fsconfig(context, FSCONFIG_CMD_CREATE, std::ptr::null(), std::ptr::null())
}

/// fsmount(2): a detached mount of a created file system, with `MOUNT_ATTR_*` set.
pub fn fsmount(context: BorrowedFd<'_>, attributes: u64) -> Sys<OwnedFd> {
    // SAFETY: only numbers are passed.
    check(unsafe {
        libc::syscall(libc::SYS_fsmount, context.as_raw_fd(), FSMOUNT_CLOEXEC, attributes as u32)
    })
    .map(owned)
}

/// mount_setattr(2) on the mount that `tree` is the root of, and on all below it if `recursive`.
pub fn mount_setattr(tree: BorrowedFd<'_>, attributes: &MountAttr, recursive: bool) -> Sys<()> {
    let mut flags = libc::AT_EMPTY_PATH;
    if recursive {
        flags |= libc::AT_RECURSIVE;
    }
    // SAFETY: the structure has the kernel's layout, its size is passed, and it is only read.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            flags,
            std::ptr::from_ref(attributes),
            size_of::<MountAttr>(),
        )
    })
    .map(drop)
}

/// What tells one place from all others: two descriptors with equal identities are open on the
/// same file through the same mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// The mount, as in the first column of mountinfo.
    pub mount: u64,
    /// The file's inode number.
    pub inode: u64,
    /// True where the file is the root of its mount.
    pub mount_root: bool,
}

/// statx(2): see [`Identity`].
pub fn identity(fd: BorrowedFd<'_>) -> Sys<Identity> {
    let mut buffer = MaybeUninit::<libc::statx>::zeroed();
    // SAFETY: the empty path is static; the kernel fills the buffer, whose size is part of its ABI.
    check(libc::c_long::from(unsafe {
        libc::statx(
            fd.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            libc::STATX_MNT_ID | libc::STATX_INO,
            buffer.as_mut_ptr(),
        )
    }))?;
    // SAFETY: zeroed before the call and every bit pattern is valid for this structure of numbers.
    let stat = unsafe { buffer.assume_init() };
    Ok(Identity {
        mount: stat.stx_mnt_id,
        inode: stat.stx_ino,
        mount_root: stat.stx_attributes & libc::STATX_ATTR_MOUNT_ROOT as u64 != 0,
    })
}

/// fsetxattr(2) of `name` on an open file.
pub fn fsetxattr(file: BorrowedFd<'_>, name: &CStr, value: &[u8]) -> Sys<()> {
    // SAFETY: name and value are valid for the length of the call, and the length is passed.
    check(libc::c_long::from(unsafe {
        libc::fsetxattr(file.as_raw_fd(), name.as_ptr(), value.as_ptr().cast(), value.len(), 0)
    }))
    .map(drop)
}
