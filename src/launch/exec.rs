//! One more process in a running container: a joiner enters it with one setns(2) and clones the
//! process there.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::fcntl::{OFlag, open};
use nix::sched::{CloneFlags, setns};
use nix::sys::prctl;
use nix::sys::stat::Mode;
use nix::unistd::{Pid, chroot, fchdir};

use super::init::{self, join_cgroups, reset_affinity, set_memory_policy};
use super::namespaces;
use super::parent::{
    Launched, kill_and_reap, listen, raise_hard_limits, send_listener, set_oom_score, spawned,
};
use super::program::{Go, Program, become_program};
use super::protocol::{Channel, Message, Tag};
use crate::cgroups::Cgroup;
use crate::error::{Context, Error, Fault, Kind, Result};
use crate::plan::memory_policy::MemoryPolicy;
use crate::plan::namespaces::{NAMESPACES, Namespace, NamespacesPlan};
use crate::plan::process::{CpuAffinity, ProcessPlan};
use crate::plan::seccomp::SeccompPlan;
use crate::rdt::RdtGroup;
use crate::rootfs::inside::RootDir;
use crate::security::lsm;
use crate::security::procfs::Proc;
use crate::sys::process::{self as sys, Cloned};

/// What to start, and where.
pub struct Exec<'a> {
    /// The container's id.
    pub id: &'a str,
    /// Its init.
    pub init: Pid,
    /// A pidfd of init, checked to be the one that `create` made.
    pub init_pidfd: BorrowedFd<'a>,
    /// Its namespaces.
    pub namespaces: &'a NamespacesPlan,
    /// The program.
    pub process: &'a ProcessPlan,
    /// Its filter.
    pub seccomp: Option<&'a SeccompPlan>,
    /// personality(2) of the container.
    pub personality: Option<u32>,
    /// set_mempolicy(2) of the container.
    pub memory_policy: Option<&'a MemoryPolicy>,
    /// Its cgroups.
    pub cgroup: &'a Cgroup,
    /// Its groups in resctrl.
    pub rdt: Option<&'a RdtGroup>,
    /// How many descriptors from 3 on the program keeps.
    pub preserve_fds: u32,
    /// False when the container was made with `--no-new-keyring`.
    pub new_keyring: bool,
    /// The container's state, for a seccomp agent.
    pub state_json: &'a str,
}

/// Brings the process to its start line; [`super::parent::start`] lets it go. On error it is
/// dead and reaped.
pub fn launch(exec: &Exec<'_>) -> Result<Launched> {
    let proc = Proc::open()?;
    raise_hard_limits(exec.process)?;
    let affinity = exec.process.exec_affinity.as_ref();
    if let Some(cpus) = affinity.and_then(|affinity| affinity.initial.as_deref()) {
        // What we clone inherits it.
        set_affinity(cpus, "initial")?;
    }
    // Nobody in the container may look inside us (CVE-2016-9962).
    prctl::set_dumpable(false).context("cannot become undumpable")?;
    // In a mount namespace of the host or another container it has only a root of its own.
    let root = match exec.namespaces.makes(Namespace::Mount) {
        true => None,
        false => Some(open_root(exec.init, exec.init_pidfd)?),
    };
    let flags = namespaces_to_enter(exec)?;
    let task_files = exec.cgroup.task_files()?;
    let (channel, childs) = Channel::pair()?;
    let (from_joiner, report) = Channel::pair()?;

    let joiner = match sys::clone3(CloneFlags::empty(), exec.cgroup.clone_into()) {
        Ok(Cloned::Parent { pid, .. }) => pid,
        Ok(Cloned::Child) => {
            channel.close_copy();
            Joiner { exec, report, channel: childs, root, flags, task_files }.run(&proc)
        }
        Err(errno) => return Err(Error::from(errno).context("cannot clone a process")),
    };
    drop((childs, report, root, task_files, proc));
    let (pid, pidfd) = spawned(&from_joiner, joiner)?;

    let mut console = None;
    let expected = [
        (exec.process.terminal, Tag::Console),
        (exec.seccomp.is_some_and(|plan| plan.listener.is_some()), Tag::Listener),
        (true, Tag::Ready),
    ];
    let expected = expected.into_iter().filter_map(|(comes, tag)| comes.then_some(tag)).collect();
    let entered = exec.rdt.map_or(Ok(()), |group| group.enter_later(pid.as_raw()));
    let ready = entered.and_then(|()| set_oom_score(exec.process, pid)).and_then(|()| {
        listen(&channel, expected, pid, &mut |message| match message.kind {
            Tag::Console => {
                console = message.fd;
                Ok(())
            }
            _ => pass_listener(exec, pid, pidfd.as_fd(), &message),
        })
    });
    match ready {
        Ok(()) => Ok(Launched { pid, pidfd, channel, console, devices: None }),
        Err(error) => {
            kill_and_reap(pid, pidfd);
            Err(error)
        }
    }
}

fn set_affinity(cpus: &[u64], which: &str) -> Result<()> {
    sys::set_cpu_affinity(cpus).map_err(|errno| {
        let text = crate::error::errno_text(errno);
        Fault::new(Kind::System, format!("cannot set process.execCPUAffinity.{which}: {text}"))
            .hint("at least one of its CPUs must be online and in the cpuset")
            .into()
    })
}

fn pass_listener(
    exec: &Exec<'_>,
    pid: Pid,
    pidfd: BorrowedFd<'_>,
    message: &Message,
) -> Result<()> {
    send_listener(exec.seccomp, pid, pidfd, message, exec.state_json)
}

fn open_root(init: Pid, pidfd: BorrowedFd<'_>) -> Result<OwnedFd> {
    let path = format!("/proc/{init}/root");
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let root =
        open(path.as_str(), flags, Mode::empty()).with_context(|| format!("cannot open {path}"))?;
    // While init is there, its number was nobody else's; another's root may be the host's.
    sys::pidfd_send_signal(pidfd, 0).context("the container's init ended meanwhile")?;
    Ok(root)
}

/// The container's own namespaces (of pid, children enter it). A user namespace that is ours
/// already would be refused.
fn namespaces_to_enter(exec: &Exec<'_>) -> Result<CloneFlags> {
    let mut flags = CloneFlags::empty();
    for (kind, _, file, flag) in NAMESPACES {
        if !exec.namespaces.has(kind) {
            continue;
        }
        if kind == Namespace::User {
            let of = |process: String| {
                nix::sys::stat::stat(format!("/proc/{process}/ns/{file}").as_str())
                    .map(|stat| (stat.st_dev, stat.st_ino))
                    .context("cannot compare user namespaces")
            };
            if of(exec.init.to_string())? == of("self".to_owned())? {
                continue;
            }
        }
        flags |= flag;
    }
    Ok(flags)
}

/// Enters the container and clones the process there. A process that were born in the
/// container's pid namespace first, and entered the rest then, would show those inside with
/// CAP_SYS_PTRACE the host's root and our descriptors in /proc/PID (CVE-2016-9962).
struct Joiner<'a> {
    exec: &'a Exec<'a>,
    /// For Spawned. Not the process's own: that one may be the first to say something.
    report: Channel,
    channel: Channel,
    root: Option<OwnedFd>,
    flags: CloneFlags,
    task_files: Vec<OwnedFd>,
}

impl Joiner<'_> {
    fn run(self, proc: &Proc) -> ! {
        if let Err(error) = self.enter(proc) {
            self.report.fail(&error);
        }
        match sys::clone3(CloneFlags::CLONE_PARENT, None) {
            Ok(Cloned::Child) => {
                self.report.close_copy();
                become_process(self.exec, self.channel)
            }
            Ok(Cloned::Parent { pid, pidfd }) => {
                let text = pid.to_string();
                let sent = self.report.send_fd(Tag::Spawned, &text, pidfd.as_raw_fd());
                sys::exit_now(i32::from(sent.is_err()))
            }
            Err(errno) => self.report.fail(&Error::from(errno).context("cannot clone the process")),
        }
    }

    fn enter(&self, proc: &Proc) -> Result<()> {
        let exec = self.exec;
        init::start_afresh(&self.channel)?;
        join_cgroups(&self.task_files)?;
        match &exec.process.exec_affinity {
            None => reset_affinity(),
            Some(CpuAffinity { last: Some(cpus), .. }) => set_affinity(cpus, "final")?,
            // The spec: left as the kernel made it with the change of the cgroup.
            Some(_) => {}
        }
        // It counts for the next execve(2), also of a child.
        lsm::apply(exec.process, proc)?;
        if !self.flags.is_empty() {
            setns(exec.init_pidfd, self.flags)
                .context("cannot enter the container's namespaces")?;
        }
        if let Some(root) = &self.root {
            fchdir(root).context("cannot enter the container's root")?;
            chroot(".").context("cannot change the root")?;
        }
        let first = 3 + exec.preserve_fds;
        crate::logging::forward(None);
        sys::close_all_but(first, &mut [self.channel.as_raw_fd(), self.report.as_raw_fd()])
            .context("cannot close descriptors")
    }
}

fn become_process(exec: &Exec<'_>, channel: Channel) -> ! {
    let root = match set_up(exec, &channel) {
        Ok(root) => root,
        Err(error) => channel.fail(&error),
    };
    become_program(
        &root,
        Program {
            process: Some(exec.process),
            seccomp: exec.seccomp,
            proc: None,
            channel,
            go: Go::Parent,
            start_hooks: (&[], String::new()),
            preserve_fds: exec.preserve_fds,
        },
    )
}

fn set_up(exec: &Exec<'_>, channel: &Channel) -> Result<RootDir> {
    init::start_afresh(channel)?;
    if exec.namespaces.has(Namespace::User) {
        namespaces::become_root(exec.namespaces)?;
        // The kernel cleared it with the change of ids.
        init::die_with_parent(channel)?;
    }
    let root = RootDir::current().context("cannot open the container's root")?;
    if exec.process.terminal {
        init::open_terminal(&root, exec.process.console_size, channel)?;
    }
    if let Some(personality) = exec.personality {
        sys::set_personality(personality).context("cannot set the personality")?;
    }
    if let Some(policy) = exec.memory_policy {
        set_memory_policy(policy)?;
    }
    if exec.new_keyring {
        init::join_keyring(exec.id)?;
    }
    Ok(root)
}
