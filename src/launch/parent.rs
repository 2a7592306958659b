//! The parent of a container's init: `create` and `run`. The marks `#1 .. #8` are those of
//! [`super::init`].

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use nix::errno::Errno;
use nix::sched::CloneFlags;
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

use super::init::{self, Init};
use super::namespaces::{self, Join};
use super::program::Go;
use super::protocol::{Channel, Message, Order, Tag};
use crate::cgroups::{Cgroup, CgroupPlan};
use crate::error::{Context, Error, Fault, Kind, Result, unpack};
use crate::hooks;
use crate::network::Devices;
use crate::plan::ContainerPlan;
use crate::plan::mounts::CgroupMount;
use crate::plan::namespaces::{Namespace, Spawn};
use crate::plan::process::ProcessPlan;
use crate::plan::seccomp::SeccompPlan;
use crate::rdt::RdtGroup;
use crate::rootfs::{self, Prepared};
use crate::security::procfs::Proc;
use crate::security::seccomp;
use crate::sys::process::{self as sys, Cloned};

/// What to launch.
pub struct Launch<'a> {
    /// The container.
    pub plan: &'a ContainerPlan,
    /// Where its cgroups will be.
    pub cgroup: &'a CgroupPlan,
    /// Its groups in resctrl.
    pub rdt: Option<&'a RdtGroup>,
    /// For mounts of type cgroup.
    pub cgroup_mounts: &'a [CgroupMount],
    /// What init waits for when all is set.
    pub go: Go,
    /// How many descriptors from 3 on the program keeps.
    pub preserve_fds: u32,
    /// False with `--no-new-keyring`.
    pub new_keyring: bool,
    /// Puts init's pid on record as soon as it is known, and later the mounts that the host sees.
    pub record: &'a mut dyn FnMut(Pid, &[PathBuf]) -> Result<()>,
}

/// An init that is ready.
pub struct Launched {
    /// Its process id.
    pub pid: Pid,
    /// Its pidfd.
    pub pidfd: OwnedFd,
    /// To init; [`start`] sends Start on it.
    pub channel: Channel,
    /// The master of its terminal.
    pub console: Option<OwnedFd>,
    /// The network devices that it got; they go back unless they are kept.
    pub devices: Option<Devices>,
}

/// Makes the container and brings its init to the start line. On error nothing is left but what
/// the caller made: init is dead and reaped, its groups are gone, network devices are back.
pub fn launch(launch: Launch<'_>) -> Result<Launched> {
    let Launch { plan, cgroup_mounts, record, .. } = launch;
    // #1 all that can fail without a process
    let proc = Proc::open()?;
    let joins = namespaces::open_joins(&plan.namespaces)?;
    let prepared = rootfs::prepare(&plan.rootfs)?;
    let mut devices = Devices::find(&plan.net_devices, namespaces::network(&joins))?;
    if let Some(process) = &plan.process {
        raise_hard_limits(process)?;
    }
    // A container process may see ours in a shared pid namespace: let it not look inside
    // (CVE-2016-9962).
    prctl::set_dumpable(false).context("cannot become undumpable")?;
    let (channel, childs) = Channel::pair()?;
    let cgroup = Cgroup::create(launch.cgroup)?;
    let mut undo = Undo { child: None, cgroup: Some(launch.cgroup), rdt: None };
    cgroup.restrict_devices(&plan.resources)?;
    if let (Some(group), Some(rdt)) = (launch.rdt, &plan.rdt) {
        group.make(&rdt.schemata)?;
        undo.rdt = Some(group);
    }

    let direct = plan.namespaces.spawn == Spawn::Direct;
    let init = Init {
        plan,
        cgroup_mounts,
        channel: childs,
        proc,
        joins: if direct { &joins } else { &[] },
        task_files: cgroup.task_files()?,
        go: launch.go,
        preserve_fds: launch.preserve_fds,
        new_keyring: launch.new_keyring,
    };
    let stepped = namespaces::step_in(&plan.namespaces, if direct { &joins } else { &[] })?;
    let spawned = match plan.namespaces.spawn {
        Spawn::Direct => spawn(init, prepared, CloneFlags::empty(), &channel, &cgroup),
        Spawn::ViaJoiner => spawn_by_joiner(init, prepared, &joins, &channel, &cgroup),
    };
    stepped.back()?;
    let (pid, pidfd) = spawned?;
    undo.child = Some((pid, pidfd));
    record(pid, &[])?;

    // #2 init waits for its id mappings
    if plan.namespaces.makes(Namespace::User) {
        namespaces::write_id_maps(pid, &plan.namespaces)?;
        channel.send(Tag::Mapped)?;
    }
    // #3 while init mounts
    cgroup.apply(&plan.resources)?;
    if let Some(group) = launch.rdt {
        group.enter(pid.as_raw())?;
    }
    if let Some(uid) = plan.cgroup_owner() {
        cgroup.delegate(uid)?;
    }
    if let Some(process) = &plan.process {
        set_oom_score(process, pid)?;
    }

    let taken = undo.child.as_ref().map(|(_, pidfd)| pidfd.as_fd());
    let taken = taken.context("init is gone")?;
    let mut console = None;
    listen(&channel, expected(plan), pid, &mut |message| {
        match message.kind {
            // #4
            Tag::Mounted => {
                let mounts: Vec<PathBuf> =
                    message.text.split('\0').filter(|l| !l.is_empty()).map(PathBuf::from).collect();
                record(pid, &mounts)?;
                if let Some(devices) = &mut devices {
                    devices.move_into(namespaces::open_network(pid, &joins)?.as_fd())?;
                }
                // The deprecated hooks are told what they always were: before version 1.1 of the
                // spec they ran with `start`.
                let state = |status| plan.state_json(status, pid.as_raw());
                hooks::run(&plan.hooks.prestart, &state("created"))?;
                hooks::run(&plan.hooks.create_runtime, &state("creating"))?;
                channel.send(Tag::Proceed)
            }
            // #5
            Tag::Console => {
                console = message.fd;
                Ok(())
            }
            // #6
            _ => pass_listener(plan, pid, taken, &message),
        }
    })?;
    // #7 Ready
    let pidfd = undo.keep().context("init is gone")?;
    Ok(Launched { pid, pidfd, channel, console, devices })
}

/// Lets a `run` or `exec` process go, and returns when its program runs.
pub fn start(channel: &Channel) -> Result<()> {
    // #8
    channel.send(Tag::Start)?;
    match channel.receive()? {
        None => Ok(()),
        Some(message) if message.kind == Tag::Failed => Err(unpack(&message.text)),
        Some(message) => Err(Error::msg(format!("init sent {:?} after Start", message.kind))),
    }
}

/// Hands messages to `handle`, in their order, until Ready.
pub(super) fn listen(
    channel: &Channel,
    expected: Vec<Tag>,
    pid: Pid,
    handle: &mut dyn FnMut(Message) -> Result<()>,
) -> Result<()> {
    let mut order = Order::new(expected);
    loop {
        let Some(message) = channel.receive()? else { return Err(explain_death(pid)) };
        order.accept(message.kind)?;
        match message.kind {
            Tag::Warning => log::warn!("{}", message.text),
            Tag::Failed => return Err(unpack(&message.text)),
            Tag::Ready => return Ok(()),
            _ => handle(message)?,
        }
    }
}

/// Init closed the channel without a word: only a signal does that.
fn explain_death(pid: Pid) -> Error {
    use nix::sys::wait::{Id, WaitPidFlag, waitid};
    // Left to be reaped by whoever undoes the rest.
    match waitid(Id::Pid(pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT) {
        Ok(WaitStatus::Signaled(_, signal, _)) => {
            let hint = match signal {
                Signal::SIGKILL => {
                    "linux.resources.memory.limit may be too small, or the host out of memory"
                }
                _ => "linux.seccomp may refuse what every program needs to run at all",
            };
            let text = format!("the container's init was killed by {signal} before it was ready");
            Fault::new(Kind::System, text).hint(hint).into()
        }
        other => Error::msg(format!("the container's init ended before it was ready: {other:?}")),
    }
}

/// What init will send, in this order.
fn expected(plan: &ContainerPlan) -> Vec<Tag> {
    let terminal = plan.process.as_ref().is_some_and(|process| process.terminal);
    let listener = plan.process.is_some()
        && plan.seccomp.as_ref().is_some_and(|seccomp| seccomp.listener.is_some());
    [
        (plan.stops_when_mounted(), Tag::Mounted),
        (terminal, Tag::Console),
        (listener, Tag::Listener),
        (true, Tag::Ready),
    ]
    .into_iter()
    .filter_map(|(comes, tag)| comes.then_some(tag))
    .collect()
}

fn pass_listener(
    plan: &ContainerPlan,
    pid: Pid,
    pidfd: BorrowedFd<'_>,
    message: &Message,
) -> Result<()> {
    let state = plan.state_json("creating", pid.as_raw());
    send_listener(plan.seccomp.as_ref(), pid, pidfd, message, &state)
}

/// Takes the listener that the message names out of the process and gives it to the agent.
pub(super) fn send_listener(
    seccomp: Option<&SeccompPlan>,
    pid: Pid,
    pidfd: BorrowedFd<'_>,
    message: &Message,
    state: &str,
) -> Result<()> {
    let listener = seccomp.and_then(|seccomp| seccomp.listener.as_ref());
    let (Some(listener), Ok(number)) = (listener, message.text.parse()) else {
        return Err(Error::msg("init sent no seccomp descriptor"));
    };
    let fd = seccomp::take_listener(pidfd, number)?;
    let state = serde_json::from_str(state).context("cannot read our own state")?;
    let text = seccomp::process_state(pid.as_raw(), listener.metadata.as_deref(), state);
    seccomp::send_listener(listener, fd.as_fd(), &text)
}

/// Clones init; with `extra` CLONE_PARENT it becomes a sibling. `not_its` is the end of a channel
/// that init must not hold.
fn spawn(
    init: Init<'_>,
    prepared: Prepared,
    extra: CloneFlags,
    not_its: &Channel,
    cgroup: &Cgroup,
) -> Result<(Pid, OwnedFd)> {
    let flags = namespaces::clone_flags(&init.plan.namespaces) | extra;
    match sys::clone3(flags, cgroup.clone_into()) {
        Ok(Cloned::Parent { pid, pidfd }) => Ok((pid, pidfd)),
        Ok(Cloned::Child) => {
            not_its.close_copy();
            init::run(init, prepared)
        }
        Err(errno) => Err(explain_clone(errno, flags)),
    }
}

fn explain_clone(errno: Errno, flags: CloneFlags) -> Error {
    let error =
        Error::from(errno).context(format!("cannot clone the container's init ({flags:?})"));
    let hint = match errno {
        Errno::ENOSYS => "Corten needs Linux 5.12 or newer (clone3)",
        Errno::ENOSPC => "a limit below /proc/sys/user/max_*_namespaces is reached",
        Errno::EAGAIN => "the pids limit of a cgroup above, or RLIMIT_NPROC, is reached",
        Errno::EPERM => {
            "making namespaces needs CAP_SYS_ADMIN, a user namespace no chroot(2) around it"
        }
        _ => return error,
    };
    Fault::new(Kind::System, format!("{error:#}")).hint(hint).into()
}

/// A throw-away process joins namespaces, a user namespace among them, and clones init as our
/// child: see [`Spawn::ViaJoiner`].
fn spawn_by_joiner(
    init: Init<'_>,
    prepared: Prepared,
    joins: &[Join],
    channel: &Channel,
    cgroup: &Cgroup,
) -> Result<(Pid, OwnedFd)> {
    let (from_joiner, report) = Channel::pair()?;
    let joiner = match sys::clone3(CloneFlags::empty(), None) {
        Ok(Cloned::Child) => {
            channel.close_copy();
            joiner(init, prepared, joins, &report, cgroup)
        }
        Ok(Cloned::Parent { pid, .. }) => pid,
        Err(errno) => return Err(explain_clone(errno, CloneFlags::empty())),
    };
    drop(report);
    spawned(&from_joiner, joiner)
}

/// Waits for the joiner to say whom it cloned, and reaps it. The channel is its own, and our copy
/// of its end is closed by now: end of file means that it died.
pub(super) fn spawned(channel: &Channel, joiner: Pid) -> Result<(Pid, OwnedFd)> {
    let message = channel.receive();
    waitpid(joiner, None).context("cannot wait for the joining process")?;
    match message? {
        Some(Message { kind: Tag::Spawned, text, fd: Some(pidfd) }) => {
            let pid = text.parse().context("the joining process sent no pid")?;
            Ok((Pid::from_raw(pid), pidfd))
        }
        Some(message) if message.kind == Tag::Failed => Err(unpack(&message.text)),
        _ => Err(Error::msg("the joining process died")),
    }
}

fn joiner(
    init: Init<'_>,
    prepared: Prepared,
    joins: &[Join],
    report: &Channel,
    cgroup: &Cgroup,
) -> ! {
    use std::os::fd::AsRawFd;
    let spawned = init::die_with_parent(&init.channel)
        .and_then(|()| namespaces::join_pid(joins))
        .and_then(|()| namespaces::join_all(joins))
        .and_then(|()| spawn(init, prepared, CloneFlags::CLONE_PARENT, report, cgroup));
    let sent = match spawned {
        Ok((pid, pidfd)) => report.send_fd(Tag::Spawned, &pid.to_string(), pidfd.as_raw_fd()),
        Err(error) => report.send_error(&error),
    };
    sys::exit_now(i32::from(sent.is_err()))
}

/// Raises our own hard limits to what the program shall have: init inherits them and can then
/// lower them to the exact values without privileges, in a user namespace too.
pub(super) fn raise_hard_limits(process: &ProcessPlan) -> Result<()> {
    for limit in &process.rlimits {
        let (soft, hard) = sys::get_rlimit(limit.resource)
            .with_context(|| format!("cannot read {}", limit.name))?;
        if limit.hard > hard {
            sys::set_rlimit(limit.resource, soft, limit.hard).map_err(|errno| {
                Fault::new(
                    Kind::System,
                    format!(
                        "config.json: process.rlimits: cannot raise the hard limit of {} from {hard} to {}: {}",
                        limit.name,
                        limit.hard,
                        crate::error::errno_text(errno)
                    ),
                )
                .hint("that needs CAP_SYS_RESOURCE")
            })?;
        }
    }
    Ok(())
}

/// By us: in a user namespace the process itself may not lower it.
pub(super) fn set_oom_score(process: &ProcessPlan, pid: Pid) -> Result<()> {
    let Some(score) = process.oom_score_adj else { return Ok(()) };
    std::fs::write(format!("/proc/{pid}/oom_score_adj"), score.to_string())
        .with_context(|| format!("cannot set process.oomScoreAdj to {score}"))
}

/// Kills init and removes its groups unless the launch succeeded.
struct Undo<'a> {
    child: Option<(Pid, OwnedFd)>,
    cgroup: Option<&'a CgroupPlan>,
    rdt: Option<&'a RdtGroup>,
}

impl Undo<'_> {
    /// All went well: only the pidfd is wanted.
    fn keep(&mut self) -> Option<OwnedFd> {
        self.cgroup = None;
        self.rdt = None;
        self.child.take().map(|(_, pidfd)| pidfd)
    }
}

impl Drop for Undo<'_> {
    fn drop(&mut self) {
        if let Some((pid, pidfd)) = self.child.take() {
            kill_and_reap(pid, pidfd);
        }
        let cgroup = self.cgroup.map_or(Ok(()), Cgroup::remove);
        let rdt = self.rdt.map_or(Ok(()), RdtGroup::undo);
        for error in [cgroup, rdt].into_iter().filter_map(Result::err) {
            log::warn!("ignoring: {}", crate::error::render_line(&error));
        }
    }
}

/// Ends a process that did not make it.
pub(super) fn kill_and_reap(pid: Pid, pidfd: OwnedFd) {
    // It may have ended by itself: then there is only the reaping.
    let _ = sys::pidfd_send_signal(pidfd.as_fd(), libc::SIGKILL);
    while waitpid(pid, None) == Err(Errno::EINTR) {}
}
