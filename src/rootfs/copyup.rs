//! The mount option tmpcopyup: a tmpfs that starts with what it covers. Both sides are walked by
//! descriptor, the source is the container's and may change meanwhile.

use std::ffi::CStr;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, readlinkat};
use nix::sys::stat::{
    FchmodatFlags, FileStat, Mode, SFlag, fchmod, fchmodat, fstat, fstatat, futimens, mkdirat,
    mknodat,
};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, fchown, fchownat, symlinkat};

use super::inside::kind_of;
use crate::error::{Context, Result};

const READ: OFlag = OFlag::O_RDONLY.union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

/// Copies what is in the directory `from` into the directory `to`, with owners, modes and times.
/// Sockets are passed over.
pub fn copy(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<()> {
    let flags = READ | OFlag::O_DIRECTORY;
    let mut dir = Dir::openat(from, c".", flags, Mode::empty())?;
    let source = openat(from, c".", flags, Mode::empty())?;
    for entry in dir.iter() {
        let entry = entry?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            entry_copy(source.as_fd(), to, name)
                .with_context(|| format!("cannot copy {name:?}"))?;
        }
    }
    Ok(())
}

fn entry_copy(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &CStr) -> Result<()> {
    let stat = fstatat(from, name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
    let owner = (Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)));
    match kind_of(stat.st_mode) {
        SFlag::S_IFDIR => {
            mkdirat(to, name, Mode::S_IRWXU)?;
            let flags = READ | OFlag::O_DIRECTORY;
            let source = openat(from, name, flags, Mode::empty())?;
            let target = openat(to, name, flags, Mode::empty())?;
            copy(source.as_fd(), target.as_fd())?;
            take_over(target.as_fd(), &stat)
        }
        SFlag::S_IFREG => {
            let source = openat(from, name, READ | OFlag::O_NONBLOCK, Mode::empty())?;
            let stat = fstat(&source)?;
            if kind_of(stat.st_mode) != SFlag::S_IFREG {
                return Err(Errno::EAGAIN).context("replaced meanwhile");
            }
            let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
            let target = openat(to, name, flags, Mode::S_IRUSR | Mode::S_IWUSR)?;
            let mut target = File::from(target);
            std::io::copy(&mut File::from(source), &mut target)?;
            take_over(target.as_fd(), &stat)
        }
        SFlag::S_IFLNK => {
            symlinkat(readlinkat(from, name)?.as_os_str(), to, name)?;
            Ok(fchownat(to, name, owner.0, owner.1, AtFlags::AT_SYMLINK_NOFOLLOW)?)
        }
        SFlag::S_IFSOCK => Ok(()),
        kind => {
            mknodat(to, name, kind, Mode::empty(), stat.st_rdev)?;
            fchownat(to, name, owner.0, owner.1, AtFlags::AT_SYMLINK_NOFOLLOW)?;
            // Nobody else has this tmpfs yet: the name is still what was made.
            let mode = Mode::from_bits_truncate(stat.st_mode & 0o7777);
            Ok(fchmodat(to, name, mode, FchmodatFlags::FollowSymlink)?)
        }
    }
}

fn take_over(target: BorrowedFd<'_>, stat: &FileStat) -> Result<()> {
    fchown(target, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))?;
    // After the owner, whose change takes the set-user-id bit away.
    fchmod(target, Mode::from_bits_truncate(stat.st_mode & 0o7777))?;
    let accessed = TimeSpec::new(stat.st_atime, stat.st_atime_nsec);
    let modified = TimeSpec::new(stat.st_mtime, stat.st_mtime_nsec);
    Ok(futimens(target, &accessed, &modified)?)
}
