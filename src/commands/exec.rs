//! `exec`: one more process in a running container.

use std::os::fd::AsFd;
use std::path::Path;

use nix::sys::wait::waitpid;

use super::output::{self, Sockets};
use crate::cgroups::Cgroup;
use crate::cli::ExecArgs;
use crate::config::{bundle, validate};
use crate::error::{Context, Error, Fault, Kind, Result};
use crate::launch::exec::{Exec, launch};
use crate::launch::parent::{Launched, start};
use crate::plan::exec::ExecFlags;
use crate::plan::memory_policy::MemoryPolicy;
use crate::plan::namespaces::{Namespace, NamespacesPlan};
use crate::plan::process::ProcessPlan;
use crate::plan::{annotations, personality, seccomp::SeccompPlan};
use crate::security::{caps, lsm};
use crate::state::{self, State, StateDir, Status};
use crate::supervise::Foreground;

/// Runs the program; gives its exit status, or 0 when detached.
pub fn exec(root: &Path, args: &ExecArgs) -> Result<i32> {
    let id = args.id();
    validate::container_id(id)?;
    let dir = StateDir::open(root, id)?;
    let state = dir.read()?;
    let cgroup = Cgroup::open(&state.cgroup)?;
    let init_pidfd = match status(&dir, &state, &cgroup, args.ignore_paused)? {
        Some(pidfd) => pidfd,
        None => return Err(stopped()),
    };

    let frozen = dir.read_file(state::CONFIG)?.context("the container's config.json is gone")?;
    let spec = bundle::parse_spec(&String::from_utf8_lossy(&frozen))?;
    let linux = spec.linux().as_ref();
    let namespaces = NamespacesPlan::build(linux);
    let container = match spec.process() {
        Some(process) => ProcessPlan::build(process, "config.json: process")?,
        None => ProcessPlan::default(),
    };
    let mut process = process(args, &container)?;
    annotations::apply(spec.annotations().as_ref(), &mut process);
    lsm::check(&process, "process")?;
    process.caps = caps::narrow(&process.caps, namespaces.has(Namespace::User))?;
    let preserve_fds = args.preserve_fds + output::pass_listen_fds(&mut process)?;
    output::check_preserved(preserve_fds)?;
    let seccomp: Option<SeccompPlan> = match dir.read_file(state::SECCOMP)? {
        Some(json) => Some(serde_json::from_slice(&json).context("damaged seccomp filter")?),
        None => None,
    };
    let sockets = Sockets::connect(
        args.console_socket.as_deref(),
        args.pidfd_socket.as_deref(),
        process.terminal,
        args.detach,
    )?;
    let cgroup = cgroup.for_exec(&args.cgroup, state.init_process_pid)?;
    let mut foreground = match args.detach {
        true => None,
        false => Some(Foreground::prepare(false)?),
    };

    let mut launched = launch(&Exec {
        id,
        init: nix::unistd::Pid::from_raw(state.init_process_pid),
        init_pidfd: init_pidfd.as_fd(),
        namespaces: &namespaces,
        process: &process,
        seccomp: seccomp.as_ref(),
        personality: personality(linux),
        memory_policy: MemoryPolicy::build(linux).as_ref(),
        cgroup: &cgroup,
        rdt: state.rdt.as_ref(),
        preserve_fds,
        new_keyring: state.new_keyring,
        state_json: &state.oci_json(Status::Running, state.init_process_pid),
    })
    .with_context(|| format!("while executing in container {id:?}"))?;
    if let Err(error) = hand_over_and_start(args, &sockets, &mut launched, foreground.as_mut()) {
        // It may have ended by itself: then there is only the reaping.
        let _ = crate::sys::process::pidfd_send_signal(launched.pidfd.as_fd(), libc::SIGKILL);
        let _ = waitpid(launched.pid, None);
        return Err(error.context(format!("while executing in container {id:?}")));
    }
    match foreground {
        None => Ok(0),
        Some(foreground) => foreground.run(launched.pid, None),
    }
}

fn hand_over_and_start(
    args: &ExecArgs,
    sockets: &Sockets,
    launched: &mut Launched,
    foreground: Option<&mut Foreground>,
) -> Result<()> {
    sockets.send(launched)?;
    if let Some(file) = &args.pid_file {
        output::write_pid(file, launched.pid)?;
    }
    sockets.attach(launched, foreground)?;
    start(&launched.channel)
}

fn stopped() -> Error {
    Fault::new(Kind::WrongState, "cannot exec in a stopped container").into()
}

/// Refuses states in which nothing can be run; else init, checked to be the one on record.
fn status(
    dir: &StateDir,
    state: &State,
    cgroup: &Cgroup,
    ignore_paused: bool,
) -> Result<Option<std::os::fd::OwnedFd>> {
    match dir.status(state, || cgroup.is_frozen().unwrap_or(false)) {
        Status::Created | Status::Running => {}
        Status::Paused if ignore_paused => {}
        Status::Paused => {
            return Err(Fault::new(Kind::WrongState, "cannot exec in a paused container")
                .hint("resume it first, or use --ignore-paused")
                .into());
        }
        Status::Creating | Status::Stopped => return Err(stopped()),
    }
    state.init_pidfd()
}

fn process(args: &ExecArgs, container: &ProcessPlan) -> Result<ProcessPlan> {
    if let Some(file) = &args.process {
        let text = std::fs::read_to_string(file)
            .with_context(|| format!("cannot read --process {}", file.display()))?;
        let process = bundle::parse_process(&text)?;
        validate::process(&process, "process.json")?;
        let mut plan = ProcessPlan::from_process_json(container, &process)?;
        plan.terminal |= args.tty;
        return Ok(plan);
    }
    if args.args().is_empty() {
        return Err(Fault::bad_input("exec needs a program to run, or --process")
            .hint("corten exec ID PROGRAM [ARGS]")
            .into());
    }
    ProcessPlan::from_flags(
        container,
        &ExecFlags {
            args: args.args(),
            cwd: args.cwd.as_deref().map(Path::new),
            env: &args.env,
            tty: args.tty,
            user: args.user.as_deref(),
            additional_gids: &args.additional_gids,
            process_label: args.process_label.as_deref(),
            apparmor: args.apparmor.as_deref(),
            no_new_privs: args.no_new_privs,
            caps: &args.cap,
        },
    )
}
