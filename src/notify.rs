//! sd_notify(3) for a container whose runtime systemd or an engine started with $NOTIFY_SOCKET:
//! a socket in the state directory is mounted into the container, and `READY=1` goes on from
//! there to the caller's, once the program says it. Nothing else does: what a container sends is
//! not to be trusted, and systemd would take `MAINPID=` or `FDSTORE=1` from us.

use std::cell::Cell;
use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, bind, recv, sendmsg,
    setsockopt, socket, sockopt::SendTimeout,
};
use nix::sys::time::{TimeVal, TimeValLike};
use nix::unistd::Pid;

use crate::error::{Context, Result, errno_text};
use crate::state::StateDir;

/// The variable of sd_notify(3).
pub const VARIABLE: &str = "NOTIFY_SOCKET";
/// The directory of the socket: in the state directory, and where the container sees it.
const DIRECTORY: &str = "notify";
/// Where the container sees [`directory`].
pub const INSIDE: &str = "/run/notify";
const SOCKET: &str = "notify.sock";

/// How long the caller may take to see our messages (milliseconds).
const CALLER_WAIT: u16 = 5000;

/// Messages taken at once: a container that floods us must not keep us from its end or from
/// signals. No queue is longer (net.unix.max_dgram_qlen is 10, or 512).
const BATCH: usize = 512;

/// The environment of the container's process for it.
pub fn environment() -> String {
    format!("{VARIABLE}={INSIDE}/{SOCKET}")
}

/// The directory of the socket of container `id` on the host.
pub fn directory(root: &Path, id: &str) -> PathBuf {
    root.join(id).join(DIRECTORY)
}

/// $NOTIFY_SOCKET: a path, or @ and an abstract name (unix(7)).
pub fn caller() -> Option<UnixAddr> {
    let text = std::env::var(VARIABLE).ok().filter(|text| !text.is_empty())?;
    let address = match text.strip_prefix('@') {
        Some(name) => UnixAddr::new_abstract(name.as_bytes()),
        None if text.starts_with('/') => UnixAddr::new(text.as_str()),
        None => Err(Errno::EAFNOSUPPORT),
    };
    let warn = |errno| log::warn!("ignoring {VARIABLE}={text}: {}", errno_text(errno));
    address.map_err(warn).ok()
}

/// Makes the directory, the source of a bind mount; the socket comes with [`Proxy::listen`].
pub fn prepare(dir: &StateDir) -> Result<()> {
    let path = dir.path().join(DIRECTORY);
    std::fs::create_dir(&path)
        .and_then(|()| std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)))
        .with_context(|| format!("cannot make {}", path.display()))
}

/// The container's socket, and the caller's.
#[derive(Debug)]
pub struct Proxy {
    socket: OwnedFd,
    caller: UnixAddr,
    /// The caller has heard of it.
    is_ready: Cell<bool>,
}

impl AsFd for Proxy {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Proxy {
    /// Opens the socket, before the program can look for it; `None` when nobody asked for it, now
    /// or at `create`.
    pub fn listen(dir: &StateDir) -> Result<Option<Proxy>> {
        if std::env::var_os(VARIABLE).is_none() || !dir.path().join(DIRECTORY).is_dir() {
            return Ok(None);
        }
        let Some(caller) = caller() else { return Ok(None) };
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(AddressFamily::Unix, SockType::Datagram, flags, None)
            .context("cannot make a socket")?;
        // The address of a socket has at most 108 bytes, the path of the state may have more.
        let path = format!("/proc/self/fd/{}/{DIRECTORY}/{SOCKET}", dir.fd().as_raw_fd());
        let make = || format!("cannot make {}", dir.path().join(DIRECTORY).join(SOCKET).display());
        // That of a `start` that was killed.
        let _ = std::fs::remove_file(&path);
        bind(socket.as_raw_fd(), &UnixAddr::new(path.as_str())?).with_context(make)?;
        // Whoever the program runs as.
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o666)).with_context(make)?;
        Ok(Some(Proxy { socket, caller, is_ready: Cell::new(false) }))
    }

    /// Takes what the container has sent; true if it is ready. Descriptors that came along close.
    fn take(&self) -> bool {
        let mut buffer = [0u8; 4096];
        let mut ready = false;
        for _ in 0..BATCH {
            match recv(self.socket.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
                Ok(length) => {
                    ready |= buffer[..length].split(|byte| *byte == b'\n').any(|l| l == b"READY=1");
                }
                Err(Errno::EINTR) => {}
                // EAGAIN: no more.
                Err(_) => break,
            }
        }
        ready
    }

    /// Passes on what has come, once: the container must not fill the caller's queue. We are still
    /// there, and the process that systemd watches.
    pub fn relay(&self) {
        if self.take() && !self.is_ready.replace(true) {
            self.tell("READY=1");
        }
    }

    /// Waits until the container is ready, or `init`, its process `pid`, ends; then says who is
    /// to be watched, as we go away.
    pub fn wait(&self, init: BorrowedFd<'_>, pid: Pid) -> Result<()> {
        loop {
            let interests = [self.socket.as_fd(), init];
            let mut fds = interests.map(|fd| PollFd::new(fd, PollFlags::POLLIN));
            match poll(&mut fds, PollTimeout::NONE) {
                Err(Errno::EINTR) => continue,
                ready => ready.context("cannot wait for READY=1 (poll)")?,
            };
            let ended = fds[1].any().unwrap_or(false);
            if self.take() {
                self.tell(&format!("MAINPID={pid}\nREADY=1"));
                return self.barrier();
            }
            if ended {
                return Ok(());
            }
        }
    }

    fn tell(&self, text: &str) {
        if let Err(errno) = self.send(text, &[]) {
            log::warn!("cannot write to ${VARIABLE}: {}", errno_text(errno));
        }
    }

    fn send(&self, text: &str, rights: &[ControlMessage<'_>]) -> nix::Result<()> {
        let text = [IoSlice::new(text.as_bytes())];
        // A socket of its own: what is sent from the container's would bear its address.
        let socket = socket(AddressFamily::Unix, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
        // A caller that does not read must not hold up signals and the container's end.
        let patience = TimeVal::milliseconds(CALLER_WAIT.into());
        setsockopt(&socket, SendTimeout, &patience)?;
        let flags = MsgFlags::MSG_NOSIGNAL;
        sendmsg(socket.as_raw_fd(), &text, rights, flags, Some(&self.caller)).map(drop)
    }

    /// Waits until the caller has read it (sd_notify_barrier(3)): systemd looks the sender up by
    /// its pid.
    fn barrier(&self) -> Result<()> {
        let (ours, theirs) =
            nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).context("cannot make a pipe")?;
        if self.send("BARRIER=1", &[ControlMessage::ScmRights(&[theirs.as_raw_fd()])]).is_err() {
            // It was told of above.
            return Ok(());
        }
        drop(theirs);
        let mut fds = [PollFd::new(ours.as_fd(), PollFlags::POLLIN)];
        while poll(&mut fds, PollTimeout::from(CALLER_WAIT)) == Err(Errno::EINTR) {}
        Ok(())
    }
}
