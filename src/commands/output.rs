//! What the caller of create, run and exec gets beside the container: its terminal, a pidfd, a
//! pid file; and what it hands down: descriptors.

use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::unistd::Pid;

use super::create::refuse;
use crate::console;
use crate::error::{Context, Result};
use crate::launch::parent::Launched;
use crate::plan::process::ProcessPlan;
use crate::supervise::Foreground;
use crate::sys::process::is_open;

/// Sockets of the caller, connected before anything is made.
pub struct Sockets {
    /// `--console-socket`
    console: Option<OwnedFd>,
    pidfd: Option<OwnedFd>,
}

impl Sockets {
    /// Connects what is named, and refuses combinations that leave a terminal without a reader.
    pub fn connect(
        console: Option<&Path>,
        pidfd: Option<&Path>,
        terminal: bool,
        detached: bool,
    ) -> Result<Self> {
        match (terminal, detached, console.is_some()) {
            (true, true, false) => {
                return Err(refuse(
                    "cannot allocate a terminal for a detached container without --console-socket",
                    "give --console-socket, or set process.terminal to false",
                ));
            }
            (false, _, true) => {
                return Err(refuse(
                    "--console-socket: the process has no terminal",
                    "set process.terminal to true, or drop --console-socket",
                ));
            }
            _ => {}
        }
        let connect = |path: Option<&Path>, flag: &str| -> Result<Option<OwnedFd>> {
            path.map(|path| console::connect(path, flag)).transpose()
        };
        Ok(Sockets {
            console: connect(console, "--console-socket")?,
            pidfd: connect(pidfd, "--pidfd-socket")?,
        })
    }

    /// Gives the terminal's master to the foreground, unless a console socket got it.
    pub fn attach(
        &self,
        launched: &mut Launched,
        foreground: Option<&mut Foreground>,
    ) -> Result<()> {
        match (foreground, launched.console.take()) {
            (Some(foreground), Some(master)) if self.console.is_none() => foreground.attach(master),
            _ => Ok(()),
        }
    }

    /// Sends the terminal's master and the pidfd to those who asked for them.
    pub fn send(&self, launched: &Launched) -> Result<()> {
        if let (Some(socket), Some(master)) = (&self.console, &launched.console) {
            let number = crate::sys::tty::peer_number(master)
                .context("cannot number the terminal (TIOCGPTN)")?;
            console::send_master(socket.as_fd(), number, master.as_fd())?;
        }
        if let Some(socket) = &self.pidfd {
            console::send_fd(socket.as_fd(), launched.pidfd.as_fd(), "pidfd")?;
        }
        Ok(())
    }
}

/// Writes `--pid-file`: a reader sees nothing or the whole number.
pub fn write_pid(path: &Path, pid: Pid) -> Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = path.with_file_name(format!(".{name}.new"));
    let write = || -> std::io::Result<()> {
        // Ours alone: not a file that somebody has put there.
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o644)
            .custom_flags(libc::O_NOFOLLOW)
            .open(&temporary)?;
        write!(file, "{pid}")?;
        std::fs::rename(&temporary, path)
    };
    // Of a runtime that was killed between the two.
    let _ = std::fs::remove_file(&temporary);
    write().with_context(|| format!("cannot write --pid-file {}", path.display()))
}

/// Refuses `--preserve-fds` for descriptors that are not there.
pub fn check_preserved(count: u32) -> Result<()> {
    match (3..3 + i64::from(count)).find(|fd| !is_open(*fd as i32)) {
        None => Ok(()),
        Some(fd) => Err(refuse(
            &format!("--preserve-fds {count}: descriptor {fd} is not open"),
            "it counts the descriptors from 3 on, $LISTEN_FDS included",
        )),
    }
}

/// Socket activation (sd_listen_fds(3)): descriptors meant for us go on to the program, with
/// their names. Gives their number.
pub fn pass_listen_fds(process: &mut ProcessPlan) -> Result<u32> {
    let number = |name: &str| std::env::var(name).ok()?.parse::<u32>().ok();
    let count = match (number("LISTEN_PID"), number("LISTEN_FDS")) {
        (Some(pid), Some(count)) if pid == std::process::id() => count.min(1024),
        _ => return Ok(0),
    };
    process.set_env(&format!("LISTEN_FDS={count}"), "LISTEN_FDS")?;
    if let Ok(names) = std::env::var("LISTEN_FDNAMES") {
        process.set_env(&format!("LISTEN_FDNAMES={names}"), "LISTEN_FDNAMES")?;
    }
    process.listens = true;
    Ok(count)
}

/// For messages.
impl std::fmt::Debug for Sockets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "console: {:?}", self.console.as_ref().map(AsRawFd::as_raw_fd))
    }
}
