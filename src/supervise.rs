//! Foreground `run` and `exec`: signals go on to the container, its terminal is ours, its exit
//! status is ours.

mod relay;

use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl::set_child_subreaper;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::Pid;

use self::relay::Relay;
use crate::error::{Context, Result};
use crate::notify::Proxy;
use crate::sys::process::{pidfd_open, pidfd_send_signal};
use crate::sys::tty::{End, reap_any};

/// What must be in place before the container's process exists.
#[derive(Debug)]
pub struct Foreground {
    signals: SignalFd,
    relay: Option<Relay>,
    _held: HeldSignals,
}

impl Foreground {
    /// Blocks every signal, lest one be lost before [`Foreground::run`] forwards it. The child
    /// must set its own mask. With `subreaper` the container's orphans become our children.
    pub fn prepare(subreaper: bool) -> Result<Self> {
        if subreaper && let Err(errno) = set_child_subreaper(true) {
            log::warn!("cannot become a subreaper: {}", crate::error::errno_text(errno));
        }
        let (held, mask) = HeldSignals::hold()?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let signals = SignalFd::with_flags(&mask, flags).context("cannot make a signalfd")?;
        Ok(Foreground { signals, relay: None, _held: held })
    }

    /// Joins our terminal to the container's, whose master this is: before its program runs, which
    /// shall find the size and the modes as they stay.
    pub fn attach(&mut self, master: OwnedFd) -> Result<()> {
        self.relay = Some(Relay::new(master)?);
        Ok(())
    }

    /// Serves `pid`, our child, and its socket for sd_notify(3), until it ends. Gives its exit
    /// status, 128 + N when signal N ended it.
    pub fn run(mut self, pid: Pid, notify: Option<Proxy>) -> Result<i32> {
        let process = pidfd_open(pid).with_context(|| format!("cannot open process {pid}"))?;
        // It may have ended already, with its SIGCHLD taken by a hook's wait.
        let mut status = reap(pid)?;
        while status.is_none() {
            let mut fds = vec![PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
            if let Some(relay) = &self.relay {
                fds.extend(relay.interests());
            }
            fds.extend(notify.iter().map(|notify| PollFd::new(notify.as_fd(), PollFlags::POLLIN)));
            match poll(&mut fds, PollTimeout::NONE) {
                Err(Errno::EINTR) => continue,
                ready => ready.context("cannot wait for signals (poll)")?,
            };
            if let Some(relay) = &mut self.relay {
                relay.copy();
            }
            notify.iter().for_each(Proxy::relay);
            while let Some(info) = self.signals.read_signal().context("cannot read a signal")? {
                match info.ssi_signo as i32 {
                    libc::SIGCHLD => status = reap(pid)?.or(status),
                    libc::SIGWINCH if self.relay.is_some() => {
                        self.relay.iter().for_each(Relay::resize);
                    }
                    // It may be gone by now; its SIGCHLD is on the way.
                    signal => drop(pidfd_send_signal(process.as_fd(), signal)),
                }
            }
        }
        if let Some(relay) = &mut self.relay {
            relay.drain();
        }
        Ok(status.unwrap_or_default())
    }
}

/// While it lives, signals wait: `create` is not left half done by SIGINT or SIGTERM. The child
/// must set its own mask.
#[derive(Debug)]
pub struct HeldSignals {
    before: SigSet,
}

impl HeldSignals {
    /// Blocks every signal that others send; gives also which ones.
    pub fn hold() -> Result<(Self, SigSet)> {
        let mut mask = SigSet::all();
        // SIGPIPE and SIGURG come from our own reads and writes.
        mask.remove(Signal::SIGPIPE);
        mask.remove(Signal::SIGURG);
        let before = SigSet::thread_get_mask().context("cannot read the signal mask")?;
        mask.thread_block().context("cannot block signals")?;
        Ok((HeldSignals { before }, mask))
    }
}

impl Drop for HeldSignals {
    fn drop(&mut self) {
        // Fails for an invalid mask only, and this one came from the kernel.
        let _ = self.before.thread_set_mask();
    }
}

/// Reaps every child that has ended; the exit status of `pid` if it is among them.
fn reap(pid: Pid) -> Result<Option<i32>> {
    let mut status = None;
    loop {
        match reap_any() {
            Ok(Some((child, end))) if child == pid.as_raw() => status = Some(exit_status(end)),
            Ok(Some(_)) | Err(Errno::EINTR) => {}
            Ok(None) | Err(Errno::ECHILD) => return Ok(status),
            Err(errno) => return Err(errno).context("cannot wait for the container (waitpid)"),
        }
    }
}

/// As the shell counts it.
fn exit_status(end: End) -> i32 {
    match end {
        End::Exited(status) => status,
        End::Killed(signal) => 128 + signal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_statuses() {
        assert_eq!(exit_status(End::Exited(0)), 0);
        assert_eq!(exit_status(End::Exited(255)), 255);
        assert_eq!(exit_status(End::Killed(9)), 137);
        assert_eq!(exit_status(End::Killed(34)), 162);
    }
}
