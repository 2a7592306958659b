//! A cgroup directory, held open, and its files. Everything below a group goes through the
//! descriptor, so a group that is renamed or replaced meanwhile is never mistaken for ours.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::dir::Type;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::Mode;
use nix::unistd::{read, write};

/// More than any file of a cgroup or of /proc that we read; a larger one is an error.
const LIMIT: usize = 16 << 20;

/// A directory of cgroupfs, opened with O_PATH.
#[derive(Debug)]
pub(super) struct Dir {
    fd: OwnedFd,
    /// For messages, and for `state`.
    pub path: PathBuf,
}

impl Dir {
    /// Opens a directory by its absolute path.
    pub fn open(path: &Path) -> nix::Result<Dir> {
        Ok(Dir { fd: open(path, Self::FLAGS, Mode::empty())?, path: path.to_owned() })
    }

    const FLAGS: OFlag =
        OFlag::O_PATH.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

    /// Opens a directory below this one; `name` may have several components, none of them "..".
    pub fn child(&self, name: &OsStr) -> nix::Result<Dir> {
        let fd = openat(&self.fd, name, Self::FLAGS, Mode::empty())?;
        Ok(Dir { fd, path: self.path.join(name) })
    }

    /// The same directory once more.
    pub fn again(&self) -> nix::Result<Dir> {
        let fd = openat(&self.fd, ".", Self::FLAGS, Mode::empty())?;
        Ok(Dir { fd, path: self.path.clone() })
    }

    /// The directory above. Groups never move to another parent, so this is where we came from.
    pub fn parent(&self) -> nix::Result<Dir> {
        let fd = openat(&self.fd, "..", Self::FLAGS, Mode::empty())?;
        Ok(Dir { fd, path: self.path.parent().unwrap_or(Path::new("/")).to_owned() })
    }

    /// Opens one of the files.
    pub fn file(&self, name: &str, mode: OFlag) -> nix::Result<OwnedFd> {
        openat(&self.fd, name, mode | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty())
    }

    /// True when there is such a file.
    pub fn has(&self, name: &str) -> bool {
        let flags = nix::fcntl::AtFlags::AT_SYMLINK_NOFOLLOW;
        nix::sys::stat::fstatat(&self.fd, name, flags).is_ok()
    }

    /// A file's whole text.
    pub fn read(&self, name: &str) -> nix::Result<String> {
        read_all(self.file(name, OFlag::O_RDONLY)?)
    }

    /// Writes `value` with one write(2), as the files of a cgroup want it.
    pub fn write(&self, name: &str, value: &str) -> nix::Result<()> {
        write_once(&self.file(name, OFlag::O_WRONLY)?, value)
    }

    /// The names of the groups below this one, in no order; `most` of them at most.
    pub fn groups(&self, most: usize) -> nix::Result<Vec<OsString>> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let mut dir = nix::dir::Dir::openat(&self.fd, ".", flags, Mode::empty())?;
        let mut names = Vec::new();
        for entry in dir.iter() {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            let is_group = entry.file_type() == Some(Type::Directory);
            if is_group && name != b"." && name != b".." {
                names.push(OsStr::from_bytes(name).to_owned());
                if names.len() == most {
                    break;
                }
            }
        }
        Ok(names)
    }
}

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Reads to the end, [`LIMIT`] bytes at most (EFBIG).
pub(super) fn read_all(fd: OwnedFd) -> nix::Result<String> {
    let mut text = Vec::new();
    let mut buffer = [0u8; 4096];
    loop {
        let count = match read(&fd, &mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(Errno::EINTR) => continue,
            Err(errno) => return Err(errno),
        };
        text.extend_from_slice(buffer.get(..count).unwrap_or_default());
        if text.len() > LIMIT {
            return Err(Errno::EFBIG);
        }
    }
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// One write(2), again when a signal came in between.
pub(super) fn write_once(fd: &OwnedFd, value: &str) -> nix::Result<()> {
    loop {
        match write(fd, value.as_bytes()) {
            Err(Errno::EINTR) => continue,
            other => return other.map(drop),
        }
    }
}

/// Calls `visit` for `top` and every group below, parents first. A group that vanishes meanwhile
/// is left out. Takes one descriptor however deep the tree is: a container with a writable
/// cgroup mount decides on the depth.
pub(super) fn walk(top: &Dir, visit: &mut dyn FnMut(&Dir) -> nix::Result<()>) -> nix::Result<()> {
    let mut current = top.again()?;
    visit(&current)?;
    let mut waiting = vec![current.groups(usize::MAX)?];
    while let Some(names) = waiting.last_mut() {
        let Some(name) = names.pop() else {
            waiting.pop();
            if !waiting.is_empty() {
                current = current.parent()?;
            }
            continue;
        };
        let below = current.child(&name).and_then(|child| {
            visit(&child)?;
            let groups = child.groups(usize::MAX)?;
            Ok((child, groups))
        });
        match below {
            Ok((child, groups)) => {
                current = child;
                waiting.push(groups);
            }
            Err(Errno::ENOENT | Errno::ENODEV) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}
