//! Nobody in a container may reach our binary to write to it (CVE-2019-5736): before anything of
//! ours runs in a container, we run from a copy that cannot be written.

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, SealFlag, fcntl, open};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::stat::Mode;
use nix::sys::statvfs::{FsFlags, fstatvfs};

use crate::error::{Context, Error, Result};
use crate::sys::{mount, process};

const SEALS: SealFlag = SealFlag::F_SEAL_SEAL
    .union(SealFlag::F_SEAL_SHRINK)
    .union(SealFlag::F_SEAL_GROW)
    .union(SealFlag::F_SEAL_WRITE);

/// Starts this program again from a sealed copy; returns when it already runs from one. Only
/// create, run and exec need it.
pub fn ensure() -> Result<()> {
    let exe = open("/proc/self/exe", OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())
        .context("cannot open /proc/self/exe")?;
    if is_sealed(&exe) {
        return Ok(());
    }
    let copy = match read_only_mount(&exe) {
        Ok(fd) => fd,
        // Without CAP_SYS_ADMIN, or on a kernel without mount_setattr(2).
        Err(_) => memory_copy(&exe).context("cannot make a sealed copy of our own binary")?,
    };
    let strings = |items: Vec<Vec<u8>>| -> Vec<CString> {
        items.into_iter().filter_map(|item| CString::new(item).ok()).collect()
    };
    let args = strings(std::env::args_os().map(OsStringExt::into_vec).collect());
    let env = strings(
        std::env::vars_os()
            .map(|(key, value)| [key.into_vec(), value.into_vec()].join(&b'='))
            .collect(),
    );
    let errno = process::fexecve(copy.as_fd(), &args, &env);
    Err(Error::from(errno).context("cannot execute the sealed copy of our own binary"))
}

/// True on a read-only mount of the file alone, and for a memfd with all seals. A read-only mount
/// of the host's, /usr for one, will not do: an update makes it writable.
fn is_sealed(exe: &OwnedFd) -> bool {
    fstatvfs(exe).is_ok_and(|fs| fs.flags().contains(FsFlags::ST_RDONLY))
        && mount::identity(exe.as_fd()).is_ok_and(|file| file.mount_root)
        || fcntl(exe, FcntlArg::F_GET_SEALS)
            .is_ok_and(|seals| SealFlag::from_bits_retain(seals).contains(SEALS))
}

/// A read-only bind of the binary that is mounted nowhere: nothing is copied, and once the
/// descriptor is closed nobody can make it writable again.
fn read_only_mount(exe: &OwnedFd) -> Result<OwnedFd, Errno> {
    // The clone must be of the file in our own mount namespace, by its path.
    let path = nix::fcntl::readlink("/proc/self/exe")?;
    let path = CString::new(path.into_vec()).map_err(|_| Errno::EINVAL)?;
    let tree = mount::open_tree_clone(nix::fcntl::AT_FDCWD, &path, false)?;
    let read_only = mount::MountAttr { set: mount::attr::RDONLY, ..mount::MountAttr::default() };
    mount::mount_setattr(tree.as_fd(), &read_only, false)?;
    let (ours, clone) = (nix::sys::stat::fstat(exe)?, nix::sys::stat::fstat(&tree)?);
    if (ours.st_dev, ours.st_ino) != (clone.st_dev, clone.st_ino) {
        return Err(Errno::ESTALE);
    }
    Ok(tree)
}

/// A copy in memory, sealed against every change.
fn memory_copy(exe: &OwnedFd) -> Result<OwnedFd> {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let copy = memfd_create(c"corten", flags).context("memfd_create")?;
    let size = nix::sys::stat::fstat(exe).context("fstat")?.st_size as usize;
    let mut left = size;
    while left > 0 {
        match nix::sys::sendfile::sendfile(copy.as_fd(), exe.as_fd(), None, left) {
            Ok(0) => break,
            Ok(sent) => left -= sent,
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno).context("sendfile"),
        }
    }
    fcntl(&copy, FcntlArg::F_ADD_SEALS(SEALS)).context("cannot seal it")?;
    log::debug!("running from a sealed copy in memory, descriptor {}", copy.as_raw_fd());
    Ok(copy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_copy_can_be_written() {
        let own = || open("/proc/self/exe", OFlag::O_RDONLY, Mode::empty()).unwrap();
        let copy = memory_copy(&own()).unwrap();
        assert!(is_sealed(&copy) && !is_sealed(&own()));
        assert_eq!(nix::unistd::write(&copy, b"x"), Err(Errno::EPERM));
        let path = format!("/proc/self/fd/{}", copy.as_raw_fd());
        assert_eq!(std::fs::read(path).unwrap(), std::fs::read("/proc/self/exe").unwrap());
        if nix::unistd::geteuid().is_root() {
            let mounted = read_only_mount(&own()).unwrap();
            assert!(is_sealed(&mounted));
            let path = format!("/proc/self/fd/{}", mounted.as_raw_fd());
            let error = open(path.as_str(), OFlag::O_WRONLY, Mode::empty()).unwrap_err();
            assert!(matches!(error, Errno::EROFS | Errno::ETXTBSY), "{error}");
        }
    }
}
