//! Id-mapped mounts (mount_setattr(2) MOUNT_ATTR_IDMAP, user_namespaces(7)). All of it is done in
//! the parent, on detached copies: the host's own mounts stay as they are, and the container's
//! user namespace has no right over the file systems of the host.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sched::CloneFlags;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{Pid, dup3};

use super::mount::call;
use crate::error::{Context, Error, Fault, Kind, Result, render_line};
use crate::plan::mounts::idmap::{IdMapping, MappedBy};
use crate::plan::namespaces::IdMap;
use crate::sys::mount::{self as sys, MountAttr, attr};
use crate::sys::process::{Cloned, clone3, exit_now};

/// The user namespaces that mounts are mapped by; mounts with the same mapping share one.
#[derive(Default)]
pub struct UserNamespaces(Vec<(MappedBy, OwnedFd)>);

impl UserNamespaces {
    fn get(&mut self, by: &MappedBy) -> Result<BorrowedFd<'_>> {
        let at = match self.0.iter().position(|(known, _)| known == by) {
            Some(at) => at,
            None => {
                self.0.push((by.clone(), open(by)?));
                self.0.len() - 1
            }
        };
        self.0.get(at).map(|(_, namespace)| namespace.as_fd()).context("no user namespace")
    }

    /// Maps the ids of the detached mount `tree`.
    pub fn map(&mut self, tree: BorrowedFd<'_>, mapping: &IdMapping) -> Result<()> {
        let namespace = self.get(&mapping.by)?;
        let change = MountAttr {
            set: attr::IDMAP,
            userns_fd: namespace.as_raw_fd() as u64,
            ..MountAttr::default()
        };
        sys::mount_setattr(tree, &change, mapping.recursive).map_err(refused)
    }
}

fn open(by: &MappedBy) -> Result<OwnedFd> {
    match by {
        MappedBy::New { uids, gids } => make(uids, gids),
        MappedBy::Joined(path) => File::open(path)
            .map(OwnedFd::from)
            .with_context(|| format!("cannot open the user namespace {}", path.display())),
    }
}

/// Makes a user namespace with these mappings. The process that it is made for ends at once: as
/// long as it is not reaped it keeps its credentials, and with them the namespace.
fn make(uids: &[IdMap], gids: &[IdMap]) -> Result<OwnedFd> {
    match clone3(CloneFlags::CLONE_NEWUSER, None) {
        Ok(Cloned::Child) => exit_now(0),
        Ok(Cloned::Parent { pid, .. }) => {
            let namespace = fill(pid, uids, gids);
            wait(pid)?;
            namespace
        }
        Err(errno) => Err(errno).context("cannot make a user namespace for its ids"),
    }
}

fn fill(pid: Pid, uids: &[IdMap], gids: &[IdMap]) -> Result<OwnedFd> {
    for (file, map) in [("uid_map", uids), ("gid_map", gids)] {
        let lines = IdMap::lines(map);
        std::fs::write(format!("/proc/{pid}/{file}"), &lines)
            .with_context(|| format!("cannot write the {file} {lines:?}"))?;
    }
    let path = format!("/proc/{pid}/ns/user");
    File::open(&path).map(OwnedFd::from).with_context(|| format!("cannot open {path}"))
}

/// A detached copy with the host's flags (read-only, nosuid) locked against the root of a user
/// namespace, as the kernel locks them where a mount namespace belongs to another one: made by a
/// process that stands in such a pair, and shares our descriptors. `None` where it cannot.
pub fn locked_copy(clone: impl Fn() -> Result<OwnedFd>) -> Result<Option<OwnedFd>> {
    // A number for the child to put its copy at.
    let mut copy = OwnedFd::from(File::open("/").context("cannot open /")?);
    let flags = CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_FILES;
    match clone3(flags, None) {
        Ok(Cloned::Child) => {
            let made = clone().and_then(|tree| Ok(dup3(tree, &mut copy, OFlag::O_CLOEXEC)?));
            exit_now(i32::from(made.is_err()))
        }
        Ok(Cloned::Parent { pid, .. }) => {
            Ok((wait(pid)? == WaitStatus::Exited(pid, 0)).then_some(copy))
        }
        Err(errno) => Err(errno).context("cannot make a user and a mount namespace"),
    }
}

fn wait(pid: Pid) -> Result<WaitStatus> {
    loop {
        match waitpid(pid, None) {
            Err(Errno::EINTR) => {}
            status => return status.context("cannot wait for a child"),
        }
    }
}

/// Why mount_setattr(2) would not map the ids.
fn refused(errno: Errno) -> Error {
    let hint = match errno {
        Errno::EINVAL => {
            "the file system of the source, or of a mount below it with ridmap, cannot be \
             id-mapped in this kernel"
        }
        Errno::EPERM => {
            "that needs CAP_SYS_ADMIN on the host, a source that is not id-mapped already, and a \
             user namespace other than the host's"
        }
        _ => return call("mount_setattr")(errno),
    };
    let error = Error::from(errno).context("cannot map its ids: mount_setattr");
    Fault::new(Kind::System, render_line(&error)).hint(hint).into()
}
