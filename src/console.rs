//! Pseudo terminals: made in the container's own devpts by descriptor, and the master handed to
//! whoever listens on `--console-socket`.

use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use nix::fcntl::{OFlag, openat};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use nix::sys::stat::Mode;
use nix::sys::statfs::{DEVPTS_SUPER_MAGIC, fstatfs};
use nix::unistd::{dup2_stderr, dup2_stdin, dup2_stdout};

use crate::error::{Context, Fault, Kind, Result};
use crate::sys::tty;

/// Both ends of a pseudo terminal, with close-on-exec.
#[derive(Debug)]
pub struct Pty {
    /// The end of the one who looks at the screen.
    pub master: OwnedFd,
    /// The end of the programs.
    pub peer: OwnedFd,
    /// The N of /dev/pts/N.
    pub number: u32,
}

/// Makes a pseudo terminal in the devpts that `pts` is open on, the container's /dev/pts.
///
/// No path is used but `ptmx` in that directory, and the peer comes from the master itself
/// (CVE-2025-52565: /dev/pts/N can be swapped).
pub fn open_pty_in(pts: impl AsFd) -> Result<Pty> {
    let pts = pts.as_fd();
    let kind = fstatfs(pts).context("cannot inspect /dev/pts of the container")?;
    if kind.filesystem_type() != DEVPTS_SUPER_MAGIC {
        let text = "a terminal needs a devpts on /dev/pts of the container";
        let hint = "add the devpts mount that `corten spec` shows to config.json: mounts";
        return Err(Fault::new(Kind::BadInput, text).hint(hint).into());
    }
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
    let master = openat(pts, "ptmx", flags, Mode::empty())
        .context("cannot open /dev/pts/ptmx of the container")?;
    tty::unlock_peer(&master).context("cannot unlock the pseudo terminal (TIOCSPTLCK)")?;
    let number = tty::peer_number(&master).context("cannot number the terminal (TIOCGPTN)")?;
    let peer = tty::open_peer(&master).context("cannot open the terminal (TIOCGPTPEER)")?;
    Ok(Pty { master, peer, number })
}

/// Sets the size, in characters and rows.
pub fn set_size(terminal: impl AsFd, (columns, rows): (u16, u16)) -> Result<()> {
    tty::set_size(terminal, tty::Size { columns, rows })
        .context("cannot set the size of the terminal (TIOCSWINSZ)")
}

/// Makes it the controlling terminal of this session; setsid(2) comes before.
pub fn make_controlling(terminal: impl AsFd) -> Result<()> {
    tty::set_controlling(terminal).context("cannot take the terminal as controlling (TIOCSCTTY)")
}

/// Makes it standard input, output and error.
pub fn use_as_stdio(terminal: impl AsFd) -> Result<()> {
    let terminal = terminal.as_fd();
    dup2_stdin(terminal)
        .and_then(|()| dup2_stdout(terminal))
        .and_then(|()| dup2_stderr(terminal))
        .context("cannot use the terminal as standard input and output (dup2)")
}

/// Connects to `path`, of `--console-socket` or `--pidfd-socket` (`flag`, for the message); to be
/// done before anything is made.
pub fn connect(path: &Path, flag: &str) -> Result<OwnedFd> {
    let stream = UnixStream::connect(path)
        .with_context(|| format!("cannot connect to {} ({flag})", path.display()))?;
    Ok(stream.into())
}

/// Sends a descriptor as runc does: one SCM_RIGHTS message whose payload is its `name`.
pub fn send_fd(socket: BorrowedFd<'_>, fd: BorrowedFd<'_>, name: &str) -> Result<()> {
    let fds = [fd.as_raw_fd()];
    let payload = [IoSlice::new(name.as_bytes())];
    let rights = [ControlMessage::ScmRights(&fds)];
    sendmsg::<()>(socket.as_raw_fd(), &payload, &rights, MsgFlags::MSG_NOSIGNAL, None)
        .with_context(|| format!("cannot send {name} over the socket"))?;
    Ok(())
}

/// Sends the master of a terminal over the connected console socket.
pub fn send_master(socket: BorrowedFd<'_>, pty_number: u32, master: BorrowedFd<'_>) -> Result<()> {
    send_fd(socket, master, &format!("/dev/pts/{pty_number}"))
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{IoSliceMut, Read, Write};

    use nix::sys::socket::{ControlMessageOwned, recvmsg};

    use super::*;
    use crate::error::render_line;

    fn host_pty() -> Option<Pty> {
        let pts = File::open("/dev/pts").ok()?;
        open_pty_in(&pts).ok()
    }

    #[test]
    fn the_two_ends_are_one_terminal() {
        let Some(pty) = host_pty() else {
            eprintln!("skipped: no usable /dev/pts here");
            return;
        };
        set_size(&pty.master, (132, 43)).unwrap();
        assert_eq!(tty::size(&pty.peer).unwrap(), tty::Size { columns: 132, rows: 43 });
        let name = nix::unistd::ttyname(&pty.peer).unwrap();
        assert_eq!(name, Path::new(&format!("/dev/pts/{}", pty.number)));
        File::from(pty.master.try_clone().unwrap()).write_all(b"hello\n").unwrap();
        let mut line = [0; 6];
        File::from(pty.peer).read_exact(&mut line).unwrap();
        assert_eq!(&line, b"hello\n");
    }

    #[test]
    fn only_a_devpts_will_do() {
        let dir = tempfile::tempdir().unwrap();
        let error = open_pty_in(File::open(dir.path()).unwrap()).unwrap_err();
        assert!(render_line(&error).starts_with("a terminal needs a devpts on /dev/pts"));
    }

    #[test]
    fn the_master_arrives_with_its_name() {
        let (near, far) = UnixStream::pair().unwrap();
        let file = File::open("/dev/null").unwrap();
        send_master(near.as_fd(), 7, file.as_fd()).unwrap();
        let mut payload = [0u8; 64];
        let mut space = nix::cmsg_space!([i32; 1]);
        let mut parts = [IoSliceMut::new(&mut payload)];
        let message =
            recvmsg::<()>(far.as_raw_fd(), &mut parts, Some(&mut space), MsgFlags::empty())
                .unwrap();
        let received = message.cmsgs().unwrap().any(
            |c| matches!(c, ControlMessageOwned::ScmRights(fds) if fds.len() == 1 && fds[0] > 2),
        );
        let length = message.bytes;
        assert!(received);
        assert_eq!(&payload[..length], b"/dev/pts/7");
    }
}
