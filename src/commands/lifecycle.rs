//! `start`, `kill`, `delete`, `pause`, `resume`: load the record, check the state, act.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::unistd::Pid;

use super::{is_frozen, open, status, wrong_state};
use crate::cgroups::Cgroup;
use crate::cli::KillArgs;
use crate::config::validate;
use crate::error::{Context, Error, Fault, Kind, Result, kind, render_line};
use crate::hooks;
use crate::notify::Proxy;
use crate::rootfs;
use crate::state::{Lock, Phase, State, StateDir, Status, gate};
use crate::sys::process::pidfd_send_signal;

/// How long a killed init may take to end.
const KILL_WAIT: Duration = Duration::from_secs(10);

/// `start`: opens the gate, runs the poststart hooks, and with $NOTIFY_SOCKET waits until the
/// container is ready.
pub fn start(root: &Path, id: &str) -> Result<()> {
    let (dir, _) = open(root, id)?;
    let lock = dir.lock()?;
    let state = dir.read()?;
    match status(&dir, &state) {
        Status::Created => {}
        Status::Stopped => return Err(wrong_state("cannot start a container that has stopped")),
        Status::Running => return Err(wrong_state("cannot start an already running container")),
        other => return Err(wrong_state(format!("cannot start a container in the {other} state"))),
    }
    if !state.has_process {
        return Err(nothing_to_start());
    }
    let init = state.init_pidfd()?;
    let proxy = Proxy::listen(&dir)?;
    let json = state.oci_json(Status::Running, state.init_process_pid);
    let started = gate::open(&dir).and_then(|()| hooks::run(&state.hooks.poststart, &json));
    if let Err(error) = started {
        if let Err(error) = after_failed_start(&dir, &state, lock, init.as_ref(), kind(&error)) {
            log::warn!("ignoring: {}", render_line(&error));
        }
        return Err(error.context(format!("while starting container {id:?}")));
    }
    // What the container takes its time for must not hold others up.
    drop(lock);
    match (proxy, init) {
        (Some(proxy), Some(init)) => {
            proxy.wait(init.as_fd(), Pid::from_raw(state.init_process_pid))
        }
        _ => Ok(()),
    }
}

/// The spec: a config without `process` can be created, and `start` is an error that changes
/// nothing.
pub fn nothing_to_start() -> Error {
    Fault::bad_input("config.json: process: missing, so there is nothing to start")
        .hint("a container without process can only be created and deleted")
        .into()
}

/// A container whose hook failed is destroyed (runtime.md "Lifecycle", steps 7, 9 and 12). One
/// whose program cannot be run stops: engines delete it at once, and keep for ever what has not
/// stopped by then.
fn after_failed_start(
    dir: &StateDir,
    state: &State,
    lock: Lock,
    init: Option<&OwnedFd>,
    kind: Kind,
) -> Result<()> {
    match init {
        _ if kind == Kind::Hook => {
            end(state)?;
            clean_up(dir, state, lock)
        }
        Some(init) if !gate::is_closed(dir) => wait_for_end(init, state.init_process_pid),
        _ => Ok(()),
    }
}

/// `kill`: sends a signal, with no lock, so that it also reaches a container whose start hangs.
pub fn kill(root: &Path, args: &KillArgs) -> Result<()> {
    let signal = signal_number(&args.signal)?;
    let (_, state) = open(root, &args.id)?;
    // The end of init ends the others only in a pid namespace of its own.
    let every = args.all || (signal == libc::SIGKILL && !state.has_private_pids());
    if !every {
        return signal_init(&state, signal);
    }
    match Cgroup::open(&state.cgroup) {
        Ok(cgroup) => {
            let gone = !args.all && cgroup.processes(true)?.is_empty();
            if gone { Err(not_running()) } else { cgroup.kill_all(signal) }
        }
        // Without its groups it has no processes: as good as signalled for --all.
        Err(error) if kind(&error) == Kind::NotFound => {
            if args.all {
                Ok(())
            } else {
                Err(not_running())
            }
        }
        Err(error) => Err(error),
    }
}

fn not_running() -> Error {
    // containerd looks for this text.
    wrong_state("container not running")
}

fn signal_init(state: &State, signal: i32) -> Result<()> {
    let pidfd = state.init_pidfd()?.ok_or_else(not_running)?;
    match pidfd_send_signal(pidfd.as_fd(), signal) {
        Ok(()) => {}
        Err(Errno::ESRCH) => return Err(not_running()),
        Err(Errno::EINVAL) => {
            return Err(Fault::bad_input(format!("unknown signal {signal}")).into());
        }
        Err(errno) => {
            return Err(errno).with_context(|| {
                format!("cannot send signal {signal} to process {}", state.init_process_pid)
            });
        }
    }
    if signal == libc::SIGKILL && is_frozen(state) {
        // cgroup v1 keeps a frozen process from dying.
        Cgroup::open(&state.cgroup)?.thaw()?;
    }
    Ok(())
}

/// A signal by number or name, with or without SIG, in any case.
fn signal_number(text: &str) -> Result<i32> {
    let unknown = || {
        let hint = "a number, or a name of signal(7) with or without SIG";
        Fault::bad_input(format!("unknown signal {text:?}")).hint(hint)
    };
    if let Ok(number) = text.parse::<i32>() {
        return if (0..=libc::SIGRTMAX()).contains(&number) {
            Ok(number)
        } else {
            Err(unknown().into())
        };
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some(offset) = name.strip_prefix("RTMIN").or_else(|| name.strip_prefix("RTMAX")) {
        let base = if name.starts_with("RTMIN") { libc::SIGRTMIN() } else { libc::SIGRTMAX() };
        let offset = if offset.is_empty() { Some(0) } else { offset.parse::<i32>().ok() };
        let number = offset.and_then(|offset| base.checked_add(offset));
        let range = libc::SIGRTMIN()..=libc::SIGRTMAX();
        return Ok(number.filter(|number| range.contains(number)).ok_or_else(unknown)?);
    }
    let signal: Signal = format!("SIG{name}").parse().map_err(|_| unknown())?;
    Ok(signal as i32)
}

/// `delete`: with `force` also what runs, what is half made, and what does not exist.
pub fn delete(root: &Path, id: &str, force: bool) -> Result<()> {
    validate::container_id(id)?;
    match delete_existing(root, id, force) {
        Err(error) if force && kind(&error) == Kind::NotFound => Ok(()),
        result => result.with_context(|| format!("while deleting container {id:?}")),
    }
}

fn delete_existing(root: &Path, id: &str, force: bool) -> Result<()> {
    let dir = StateDir::open(root, id)?;
    let lock = dir.lock()?;
    let state = match dir.read() {
        Ok(state) => state,
        // Claimed by a `create` that died before it made anything.
        Err(error) if kind(&error) == Kind::NotFound => {
            dir.remove()?;
            return Err(error);
        }
        Err(error) if force => {
            log::warn!("removing without a record of what it made: {}", render_line(&error));
            return dir.remove();
        }
        Err(error) => return Err(error),
    };
    // We hold the lock, so a `create` that is not done is dead.
    let half_made = state.phase == Phase::Creating;
    let status = status(&dir, &state);
    // The spec would have a created one refused (runtime.md, "Delete"). runc and crun end it, and
    // containerd's shim and Podman count on that.
    if !force && !half_made && !matches!(status, Status::Created | Status::Stopped) {
        let text = format!("cannot delete container {id} that is not stopped: {status}");
        let hint = "stop it with `corten kill`, or use --force";
        return Err(Fault::new(Kind::WrongState, text).hint(hint).into());
    }
    end(&state)?;
    clean_up(&dir, &state, lock)
}

/// What `run` does when its container has ended or cannot be started: as `delete --force`.
pub fn destroy(dir: &StateDir) -> Result<()> {
    let lock = dir.lock()?;
    let state = dir.read()?;
    end(&state)?;
    clean_up(dir, &state, lock)
}

/// Ends every process of the container and waits for init's end. Also when that has ended: in a
/// shared pid namespace it does not take the others along.
fn end(state: &State) -> Result<()> {
    let init = state.init_pidfd()?;
    if init.is_none() && state.has_private_pids() {
        return Ok(());
    }
    if let Some(init) = &init {
        match pidfd_send_signal(init.as_fd(), libc::SIGKILL) {
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(errno) => return Err(errno).context("cannot kill the container's init"),
        }
    }
    match Cgroup::open(&state.cgroup) {
        // Before there was an init, the groups may be another's: it was not asked for yet.
        Ok(_) if state.init_process_pid == 0 => {}
        Ok(cgroup) => cgroup.kill_all(libc::SIGKILL)?,
        Err(error) if kind(&error) == Kind::NotFound => {}
        Err(error) => return Err(error),
    }
    match init {
        Some(init) => wait_for_end(&init, state.init_process_pid),
        None => Ok(()),
    }
}

fn wait_for_end(init: &OwnedFd, pid: i32) -> Result<()> {
    let start = Instant::now();
    loop {
        let left = KILL_WAIT.saturating_sub(start.elapsed()).as_millis();
        let limit = u16::try_from(left).unwrap_or(u16::MAX);
        let mut fds = [PollFd::new(init.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::from(limit)) {
            Ok(0) => return Err(wrong_state(format!("container init still running (pid {pid})"))),
            Err(Errno::EINTR) => {}
            ready => return ready.map(drop).context("cannot wait for the container's init"),
        }
    }
}

/// Undoes what is on record. The record goes last, so that a second `delete` can do what this one
/// could not.
fn clean_up(dir: &StateDir, state: &State, lock: Lock) -> Result<()> {
    Cgroup::remove(&state.cgroup)?;
    if let Some(group) = &state.rdt {
        group.remove()?;
    }
    rootfs::unmount(&state.host_mounts);
    run_poststop(state);
    dir.remove()?;
    drop(lock);
    Ok(())
}

/// Runs every poststop hook; the spec has their failures logged (config.md, "Poststop").
pub fn run_poststop(state: &State) {
    let json = state.oci_json(Status::Stopped, 0);
    for hook in &state.hooks.poststop {
        if let Err(error) = hooks::run(std::slice::from_ref(hook), &json) {
            log::warn!("ignoring: {}", render_line(&error));
        }
    }
}

/// `pause`.
pub fn pause(root: &Path, id: &str) -> Result<()> {
    let (dir, _) = open(root, id)?;
    let _lock = dir.lock()?;
    let state = dir.read()?;
    match status(&dir, &state) {
        Status::Created | Status::Running => Cgroup::open(&state.cgroup)?.freeze(),
        Status::Paused => Err(wrong_state("container already paused")),
        Status::Creating | Status::Stopped => Err(not_running()),
    }
}

/// `resume`.
pub fn resume(root: &Path, id: &str) -> Result<()> {
    let (dir, _) = open(root, id)?;
    let _lock = dir.lock()?;
    let state = dir.read()?;
    match status(&dir, &state) {
        Status::Paused => Cgroup::open(&state.cgroup)?.thaw(),
        _ => Err(wrong_state("container not paused")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_by_number_and_name() {
        for (text, number) in [
            ("9", 9),
            ("0", 0),
            ("KILL", 9),
            ("SIGKILL", 9),
            ("sigterm", 15),
            ("usr1", 10),
            ("RTMIN", 34),
            ("SIGRTMIN+3", 37),
            ("RTMAX-1", 63),
            ("64", 64),
        ] {
            assert_eq!(signal_number(text).unwrap(), number, "{text}");
        }
        for text in ["", "SIG", "NOPE", "65", "-1", "RTMIN+31", "RTMAX+1", "RTMINx", "9x"] {
            let error = signal_number(text).unwrap_err();
            assert!(render_line(&error).starts_with(&format!("unknown signal {text:?}")));
        }
    }

    #[test]
    fn what_does_not_exist() {
        let root = tempfile::tempdir().unwrap();
        assert!(delete(root.path(), "nope", true).is_ok());
        let error = delete(root.path(), "nope", false).unwrap_err();
        assert!(render_line(&error).starts_with("container does not exist"));
        for error in [
            start(root.path(), "nope").unwrap_err(),
            pause(root.path(), "nope").unwrap_err(),
            resume(root.path(), "nope").unwrap_err(),
        ] {
            assert_eq!(render_line(&error), "container does not exist: nope");
        }
    }

    #[test]
    fn a_claim_without_a_record_is_cleared_away() {
        let root = tempfile::tempdir().unwrap();
        drop(StateDir::claim(root.path(), "half").unwrap());
        assert_eq!(kind(&delete(root.path(), "half", false).unwrap_err()), Kind::NotFound);
        assert!(!root.path().join("half").exists());
        drop(StateDir::claim(root.path(), "half").unwrap());
        assert!(delete(root.path(), "half", true).is_ok());
        assert!(!root.path().join("half").exists());
        let (dir, lock) = StateDir::claim(root.path(), "bad").unwrap();
        dir.write_file("state.json", b"{").unwrap();
        drop(lock);
        assert!(delete(root.path(), "bad", false).is_err());
        assert!(delete(root.path(), "bad", true).is_ok());
        assert!(!root.path().join("bad").exists());
    }
}
