//! Between `create` and `start`: init waits for one byte.
//!
//! ```text
//!   start                              init
//!     |                                  | read(2) of exec.fifo
//!     | ------ one byte, exec.fifo ----> | startContainer hooks, execve(2)
//!     | <----- error, exec.report ------ | only on failure
//!     | <--------- end of file --------- | execve(2) has closed init's side
//! ```
//!
//! `create` opens both FIFOs for reading and writing and init inherits them: it needs no path
//! after it lost sight of the host, and only read(2) under its seccomp filter. With no reader
//! left (ENXIO) init is dead. `exec.fifo` is there exactly as long as the container is
//! `created`.

use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::{FileStat, Mode, SFlag, fstatat, mknodat};
use nix::unistd::{read, write};

use super::StateDir;
use crate::error::{Context, Error, Fault, Kind, Result, pack, unpack};

const GATE: &str = "exec.fifo";
const REPORT: &str = "exec.report";

/// Init's side.
pub struct Gate {
    gate: OwnedFd,
    report: OwnedFd,
}

/// Makes both FIFOs and holds them open (close-on-exec).
pub fn close(dir: &StateDir) -> Result<Gate> {
    let fifo = |name: &str| -> Result<OwnedFd> {
        let mode = Mode::from_bits_truncate(0o600);
        mknodat(dir.fd(), name, SFlag::S_IFIFO, mode, 0)
            .with_context(|| format!("cannot make {}", dir.path().join(name).display()))?;
        // Reading and writing: neither blocks here, and both ends stay open with init.
        open_fifo(dir, name, OFlag::O_RDWR)
            .with_context(|| format!("cannot open {}", dir.path().join(name).display()))
    };
    Ok(Gate { gate: fifo(GATE)?, report: fifo(REPORT)? })
}

fn open_fifo(dir: &StateDir, name: &str, flags: OFlag) -> nix::Result<OwnedFd> {
    openat(dir.fd(), name, flags | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty())
}

/// True while nobody has opened it.
pub fn is_closed(dir: &StateDir) -> bool {
    let stat: nix::Result<FileStat> =
        fstatat(dir.fd(), GATE, nix::fcntl::AtFlags::AT_SYMLINK_NOFOLLOW);
    stat.is_ok_and(|stat| stat.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFIFO.bits())
}

impl Gate {
    /// The descriptors that init keeps while it waits.
    pub fn descriptors(&self) -> [RawFd; 2] {
        [self.gate.as_raw_fd(), self.report.as_raw_fd()]
    }

    /// Waits for `start`; read(2) and nothing else.
    pub fn wait(&self) -> Result<()> {
        let mut byte = [0u8];
        loop {
            match read(&self.gate, &mut byte) {
                Err(Errno::EINTR) => {}
                result => return result.map(drop).context("cannot wait for start"),
            }
        }
    }

    /// Tells `start` why the program does not run.
    pub fn report(&self, error: &Error) {
        // Nobody is left to tell if this fails; the exit status still says it.
        let _ = write(&self.report, pack(error).as_bytes());
    }
}

fn init_died() -> Error {
    let hint = "its init ended before the start; `corten delete` removes what is left";
    Fault::new(Kind::WrongState, "cannot start a container that has stopped").hint(hint).into()
}

/// Lets init go on, and returns when the container's program runs, or why it does not.
pub fn open(dir: &StateDir) -> Result<()> {
    let report = open_fifo(dir, REPORT, OFlag::O_RDONLY | OFlag::O_NONBLOCK)
        .context("cannot open the report of init")?;
    let gate = match open_fifo(dir, GATE, OFlag::O_WRONLY | OFlag::O_NONBLOCK) {
        Err(Errno::ENXIO) => return Err(init_died()),
        other => other.context("cannot open the start gate")?,
    };
    // From here on the container is not `created` any more, whatever happens to us.
    dir.remove_file(GATE)?;
    match write(&gate, b"0") {
        Err(Errno::EPIPE) => return Err(init_died()),
        other => other.context("cannot open the start gate")?,
    };
    let text = read_to_end(&report).context("cannot read the report of init")?;
    dir.remove_file(REPORT)?;
    if text.is_empty() { Ok(()) } else { Err(unpack(&String::from_utf8_lossy(&text))) }
}

/// Until init has closed its end, by execve(2) or by dying.
fn read_to_end(report: &OwnedFd) -> nix::Result<Vec<u8>> {
    let mut text = Vec::new();
    let mut buffer = [0u8; 4096];
    loop {
        let mut fds = [PollFd::new(report.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::NONE) {
            Err(Errno::EINTR) => continue,
            other => other?,
        };
        match read(report, &mut buffer) {
            Ok(0) => return Ok(text),
            Ok(length) => text.extend_from_slice(&buffer[..length]),
            Err(Errno::EINTR | Errno::EAGAIN) => {}
            Err(errno) => return Err(errno),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{kind, render, render_line};

    /// A gate whose init does `init` once it is open.
    fn gate(init: impl FnOnce(Gate) + Send + 'static) -> Result<()> {
        let root = tempfile::tempdir().unwrap();
        let (dir, _lock) = StateDir::claim(root.path(), "c").unwrap();
        let gate = close(&dir).unwrap();
        assert!(is_closed(&dir));
        let far = std::thread::spawn(move || {
            gate.wait().unwrap();
            init(gate);
        });
        let result = open(&dir);
        far.join().unwrap();
        assert!(!is_closed(&dir));
        result
    }

    #[test]
    fn end_of_file_means_that_the_program_runs() {
        assert!(gate(drop).is_ok());
    }

    #[test]
    fn the_error_of_init_is_ours() {
        let error = gate(|gate| {
            gate.report(&Fault::bad_input("no such program").hint("build it").into());
        })
        .unwrap_err();
        assert_eq!(render(&error), "error: no such program\n  hint: build it");
    }

    #[test]
    fn a_dead_init_is_told_from_one_that_runs() {
        let root = tempfile::tempdir().unwrap();
        let (dir, _lock) = StateDir::claim(root.path(), "c").unwrap();
        drop(close(&dir).unwrap());
        let error = open(&dir).unwrap_err();
        assert_eq!(kind(&error), Kind::WrongState);
        assert!(render_line(&error).starts_with("cannot start a container that has stopped"));
    }
}
