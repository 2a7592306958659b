//! A /proc that can be trusted: opened by descriptor, verified to be the root of a procfs, and
//! written without following a mount or a magic link (CVE-2019-16884, CVE-2025-52881).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};

use crate::error::{Context, Fault, Kind, Result};

/// procfs gives its root this inode number.
const PROC_ROOT_INO: u64 = 1;

/// An O_PATH descriptor of a procfs root.
pub struct Proc(OwnedFd);

impl Proc {
    /// The /proc of this mount namespace, opened before anything of the container is in reach.
    pub fn open() -> Result<Self> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
        let fd = nix::fcntl::open("/proc", flags, nix::sys::stat::Mode::empty())
            .context("cannot open /proc")?;
        let is_procfs = fstatfs(&fd).is_ok_and(|fs| fs.filesystem_type() == PROC_SUPER_MAGIC);
        let is_root = nix::sys::stat::fstat(&fd).is_ok_and(|stat| stat.st_ino == PROC_ROOT_INO);
        if !is_procfs || !is_root {
            return Err(Fault::new(Kind::System, "/proc is not the root of a procfs")
                .hint("mount -t proc proc /proc")
                .into());
        }
        Ok(Proc(fd))
    }

    /// Opens a file below, for writing; a mount on the way is refused.
    fn open_for_write(&self, path: &str) -> nix::Result<OwnedFd> {
        let how = OpenHow::new().flags(OFlag::O_WRONLY | OFlag::O_CLOEXEC).resolve(
            ResolveFlag::RESOLVE_BENEATH
                | ResolveFlag::RESOLVE_NO_XDEV
                | ResolveFlag::RESOLVE_NO_MAGICLINKS,
        );
        // RESOLVE_BENEATH may answer EAGAIN when something is renamed meanwhile.
        (0..16)
            .map(|_| openat2(&self.0, path, how))
            .find(|result| !matches!(result, Err(Errno::EAGAIN)))
            .unwrap_or(Err(Errno::EAGAIN))
    }

    /// Writes `value` in one write(2), as the files of /proc want it.
    pub fn write(&self, path: &str, value: &str) -> Result<()> {
        let fd = self.open_for_write(path).map_err(|errno| match errno {
            Errno::EXDEV => anyhow::Error::from(
                Fault::new(Kind::System, format!("something is mounted over /proc/{path}"))
                    .hint("run Corten where /proc is not masked"),
            ),
            errno => anyhow::Error::from(errno).context(format!("cannot open /proc/{path}")),
        })?;
        let written = nix::unistd::write(&fd, value.as_bytes())
            .with_context(|| format!("cannot write {value:?} to /proc/{path}"))?;
        match written == value.len() {
            true => Ok(()),
            false => Err(anyhow::Error::msg(format!("short write to /proc/{path}"))),
        }
    }

    /// Whether a file is there.
    pub fn has(&self, path: &str) -> bool {
        let how = OpenHow::new()
            .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS);
        openat2(&self.0, path, how).is_ok()
    }
}

impl AsFd for Proc {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_only_inside_procfs() {
        let proc = Proc::open().unwrap();
        assert!(proc.has("self/status"));
        // A magic link would lead out.
        let error = proc.write("self/root/tmp/x", "y").unwrap_err();
        assert!(format!("{error:#}").contains("/proc/self/root/tmp/x"));
        proc.write("self/comm", "corten-test").unwrap();
        assert_eq!(std::fs::read_to_string("/proc/self/comm").unwrap().trim(), "corten-test");
    }
}
