//! Signals to all processes of a container.

use std::collections::BTreeSet;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::Cgroup;
use crate::error::{Context, Result};

/// Against a container that forks faster than it is killed and cannot be frozen.
const ROUNDS: usize = 100;

pub(super) fn kill_all(cgroup: &Cgroup, signal: i32) -> Result<()> {
    let end = signal == libc::SIGKILL;
    // Linux 5.14: the kernel does it at once, and forks cannot get away.
    let by_kernel = end && cgroup.v2().is_some_and(|dir| dir.write("cgroup.kill", "1").is_ok());
    let was_frozen = cgroup.is_frozen()?;
    // In a frozen group nobody forks, ends, or gets the number of one who has ended.
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
        for pid in new {
            match send_one(pid, signal) {
                Ok(()) | Err(Errno::ESRCH) => {}
                Err(errno) => {
                    return Err(errno)
                        .with_context(|| format!("cannot send signal {signal} to process {pid}"));
                }
            }
        }
    }
    Ok(())
}

fn send_one(pid: i32, signal: i32) -> nix::Result<()> {
    kill(Pid::from_raw(pid), Signal::try_from(signal)?)
}
