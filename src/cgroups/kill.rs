//! Signals to all processes of a container.

use std::collections::BTreeSet;
use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::unistd::Pid;

use super::Cgroup;
use crate::error::{Context, Result};
use crate::sys::process::{pidfd_open, pidfd_send_signal};

/// Against a container that forks faster than it is killed and cannot be frozen.
const ROUNDS: usize = 100;

/// How many pidfds are open at once.
const BATCH: usize = 128;

pub(super) fn kill_all(cgroup: &Cgroup, signal: i32) -> Result<()> {
    let end = signal == libc::SIGKILL;
    // Linux 5.14: the kernel does it at once, and forks cannot get away.
    let by_kernel = end && cgroup.v2().is_some_and(|dir| dir.write("cgroup.kill", "1").is_ok());
    let was_frozen = cgroup.is_frozen()?;
    // In a frozen group nobody forks and gets away.
    let held = by_kernel || was_frozen || cgroup.freeze().is_ok();
    let sent = send(cgroup, signal, if held { 1 } else { ROUNDS });
    // v1 processes act on SIGKILL only when thawed.
    if end || (held && !was_frozen) {
        let thawed = cgroup.thaw();
        // Without any freezer there was nothing to thaw.
        if held && !by_kernel {
            thawed?;
        }
    }
    sent
}

/// Signals each process once, in rounds until there is no new one.
fn send(cgroup: &Cgroup, signal: i32, rounds: usize) -> Result<()> {
    let mut seen = BTreeSet::new();
    for _ in 0..rounds {
        let new: Vec<i32> =
            cgroup.processes(true)?.into_iter().filter(|pid| seen.insert(*pid)).collect();
        if new.is_empty() {
            break;
        }
        for batch in new.chunks(BATCH) {
            send_batch(cgroup, signal, batch)?;
        }
    }
    Ok(())
}

/// A number can have gone to a stranger since it was listed. Whoever is listed still when the
/// pidfd is open is the one that the pidfd means.
fn send_batch(cgroup: &Cgroup, signal: i32, pids: &[i32]) -> Result<()> {
    let mut open = Vec::with_capacity(pids.len());
    for &pid in pids {
        match pidfd_open(Pid::from_raw(pid)) {
            Ok(fd) => open.push((pid, fd)),
            // Gone; or a thread, of which the process is listed as well.
            Err(Errno::ESRCH | Errno::EINVAL | Errno::ENOENT) => {}
            Err(errno) => return Err(errno).with_context(|| format!("cannot open process {pid}")),
        }
    }
    let listed = cgroup.processes(true)?;
    for (pid, fd) in open.iter().filter(|(pid, _)| listed.binary_search(pid).is_ok()) {
        match pidfd_send_signal(fd.as_fd(), signal) {
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(errno) => {
                return Err(errno)
                    .with_context(|| format!("cannot send signal {signal} to process {pid}"));
            }
        }
    }
    Ok(())
}
