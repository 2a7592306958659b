//! One more process in a running container: one clone3(2), one setns(2).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::fcntl::{OFlag, open};
use nix::sched::{CloneFlags, setns};
use nix::sys::prctl;
use nix::sys::stat::Mode;
use nix::unistd::{Pid, chroot, fchdir};

use super::init::{self, join_cgroups};
use super::namespaces;
use super::parent::{Launched, kill_and_reap, listen, raise_hard_limits, send_listener};
use super::program::{Go, Program, become_program};
use super::protocol::{Channel, Message, Tag};
use crate::cgroups::Cgroup;
use crate::error::{Context, Error, Result};
use crate::plan::namespaces::{NAMESPACES, Namespace, NamespacesPlan};
use crate::plan::process::ProcessPlan;
use crate::plan::seccomp::SeccompPlan;
use crate::rootfs::inside::RootDir;
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
    /// Its cgroups.
    pub cgroup: &'a Cgroup,
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
    // Nobody in the container may look inside us (CVE-2016-9962).
    prctl::set_dumpable(false).context("cannot become undumpable")?;
    // A container that shares the host's mount namespace has only a root directory of its own.
    let root = match exec.namespaces.has(Namespace::Mount) {
        true => None,
        false => Some(open_root(exec.init)?),
    };
    let flags = namespaces_to_enter(exec)?;
    let task_files = exec.cgroup.task_files()?;
    let (channel, childs) = Channel::pair()?;

    let joins_pid = exec.namespaces.has(Namespace::Pid);
    let own_pid_namespace = match joins_pid {
        true => Some(step_into_pid_namespace(exec.init_pidfd)?),
        false => None,
    };
    let cloned = sys::clone3(CloneFlags::empty(), exec.cgroup.clone_into());
    if let Ok(Cloned::Child) = cloned {
        let child = Child { exec, proc, channel: childs, root, flags, task_files };
        child.run();
    }
    if let Some(own) = own_pid_namespace {
        setns(own, CloneFlags::CLONE_NEWPID).context("cannot step back from the pid namespace")?;
    }
    let Cloned::Parent { pid, pidfd } = cloned.context("cannot clone a process")? else {
        return Err(Error::msg("the child came back"));
    };
    drop((childs, root, task_files));

    let mut console = None;
    let expected = [
        (exec.process.terminal, Tag::Console),
        (exec.seccomp.is_some_and(|plan| plan.listener.is_some()), Tag::Listener),
        (true, Tag::Ready),
    ];
    let expected = expected.into_iter().filter_map(|(comes, tag)| comes.then_some(tag)).collect();
    let ready = set_oom_score(exec.process, pid).and_then(|()| {
        listen(&channel, expected, pid, &mut |message| match message.kind {
            Tag::Console => {
                console = message.fd;
                Ok(())
            }
            _ => pass_listener(exec, pid, pidfd.as_fd(), &message),
        })
    });
    match ready {
        Ok(()) => Ok(Launched { pid, pidfd, channel, console }),
        Err(error) => {
            kill_and_reap(pid, pidfd);
            Err(error)
        }
    }
}

fn set_oom_score(process: &ProcessPlan, pid: Pid) -> Result<()> {
    let Some(score) = process.oom_score_adj else { return Ok(()) };
    std::fs::write(format!("/proc/{pid}/oom_score_adj"), score.to_string())
        .with_context(|| format!("cannot set process.oomScoreAdj to {score}"))
}

fn pass_listener(
    exec: &Exec<'_>,
    pid: Pid,
    pidfd: BorrowedFd<'_>,
    message: &Message,
) -> Result<()> {
    send_listener(exec.seccomp, pid, pidfd, message, exec.state_json)
}

fn open_root(init: Pid) -> Result<OwnedFd> {
    let path = format!("/proc/{init}/root");
    open(path.as_str(), OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
        .with_context(|| format!("cannot open {path}"))
}

/// The container's own namespaces but pid, which only children enter. A user namespace that is
/// ours already would be refused.
fn namespaces_to_enter(exec: &Exec<'_>) -> Result<CloneFlags> {
    let mut flags = CloneFlags::empty();
    for (kind, _, file, flag) in NAMESPACES {
        if kind == Namespace::Pid || !exec.namespaces.has(kind) {
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

/// Children are born in the container's pid namespace from here on; gives the way back.
fn step_into_pid_namespace(init: BorrowedFd<'_>) -> Result<OwnedFd> {
    let own = open("/proc/self/ns/pid", OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())
        .context("cannot open our own pid namespace")?;
    setns(init, CloneFlags::CLONE_NEWPID).context("cannot enter the container's pid namespace")?;
    Ok(own)
}

struct Child<'a> {
    exec: &'a Exec<'a>,
    proc: Proc,
    channel: Channel,
    root: Option<OwnedFd>,
    flags: CloneFlags,
    task_files: Vec<OwnedFd>,
}

impl Child<'_> {
    fn run(self) -> ! {
        let exec = self.exec;
        let root = match self.set_up() {
            Ok(root) => root,
            Err(error) => self.channel.fail(&error),
        };
        become_program(
            &root,
            Program {
                process: Some(exec.process),
                seccomp: exec.seccomp,
                proc: self.proc,
                channel: self.channel,
                go: Go::Parent,
                start_hooks: (&[], String::new()),
                preserve_fds: exec.preserve_fds,
            },
        )
    }

    fn set_up(&self) -> Result<RootDir> {
        let exec = self.exec;
        init::start_afresh(&self.channel)?;
        join_cgroups(&self.task_files)?;
        if !self.flags.is_empty() {
            setns(exec.init_pidfd, self.flags)
                .context("cannot enter the container's namespaces")?;
        }
        if self.flags.contains(Namespace::User.flag()) {
            namespaces::become_root(exec.namespaces)?;
            init::die_with_parent()?;
        }
        if let Some(root) = &self.root {
            fchdir(root).context("cannot enter the container's root")?;
            chroot(".").context("cannot change the root")?;
        }
        let root = RootDir::current()?;

        if exec.process.terminal {
            init::open_terminal(&root, exec.process.console_size, &self.channel)?;
        }
        if let Some(personality) = exec.personality {
            sys::set_personality(personality).context("cannot set the personality")?;
        }
        if exec.new_keyring {
            init::join_keyring(exec.id)?;
        }
        Ok(root)
    }
}
