//! The container's init, from the clone to execve(2). It only executes the plan; the marks
//! `#1 .. #8` are those of [`super::parent`].

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sched::unshare;
use nix::sys::stat::{Mode, umask};
use nix::sys::{prctl, signal::Signal};
use nix::unistd::{setsid, write};

use super::namespaces::{self, Join};
use super::program::{Go, Program, become_program};
use super::protocol::{Channel, Tag};
use crate::console;
use crate::error::{Context, Error, Fault, Kind, Result};
use crate::hooks;
use crate::plan::ContainerPlan;
use crate::plan::memory_policy::MemoryPolicy;
use crate::plan::mounts::{CgroupMount, InsidePath};
use crate::plan::namespaces::Namespace;
use crate::rootfs::inside::RootDir;
use crate::rootfs::{self, Prepared};
use crate::security::lsm;
use crate::security::procfs::Proc;
use crate::sys::process as sys;

/// Everything that init was born with.
pub struct Init<'a> {
    /// What to execute.
    pub plan: &'a ContainerPlan,
    /// For mounts of type cgroup.
    pub cgroup_mounts: &'a [CgroupMount],
    /// To the parent.
    pub channel: Channel,
    /// The host's procfs.
    pub proc: Proc,
    /// Still to be joined; empty when a joiner did it.
    pub joins: &'a [Join],
    /// The `tasks` files of our v1 cgroups.
    pub task_files: Vec<OwnedFd>,
    /// What to wait for when all is set.
    pub go: Go,
    /// How many descriptors from 3 on the program keeps.
    pub preserve_fds: u32,
    /// False with `--no-new-keyring`.
    pub new_keyring: bool,
}

/// Never returns: execs the program, or reports the error and ends. `prepared` holds the root
/// tree and the sources of bind mounts, opened by the parent.
pub fn run(init: Init<'_>, prepared: Prepared) -> ! {
    let root = match set_up(&init, prepared) {
        Ok(root) => root,
        Err(error) => init.channel.fail(&error),
    };
    // #6 the seccomp listener, #7 Ready, #8 Start or the gate
    let plan = init.plan;
    become_program(
        &root,
        Program {
            process: plan.process.as_ref(),
            seccomp: plan.seccomp.as_ref(),
            proc: Some(init.proc),
            channel: init.channel,
            go: init.go,
            start_hooks: (&plan.hooks.start_container, plan.state_json("created", own_pid())),
            preserve_fds: init.preserve_fds,
        },
    )
}

/// Everything but what the process itself loses and becomes.
fn set_up(init: &Init<'_>, prepared: Prepared) -> Result<RootDir> {
    let plan = init.plan;
    start_afresh(&init.channel)?;

    // #2 the parent has written our id mappings
    if plan.namespaces.makes(Namespace::User) {
        init.channel.expect(Tag::Mapped)?;
    }
    if plan.namespaces.has(Namespace::User) {
        namespaces::become_root(&plan.namespaces)?;
        // The kernel cleared it with the change of ids.
        die_with_parent(&init.channel)?;
    }
    namespaces::join_all(init.joins)?;
    join_cgroups(&init.task_files)?;
    reset_affinity();
    let ours = namespaces::made_by_init(&plan.namespaces);
    if !ours.is_empty() {
        unshare(ours).with_context(|| format!("cannot make namespaces ({ours:?})"))?;
    }
    if plan.namespaces.makes(Namespace::Network) {
        sys::loopback_up().context("cannot bring the loopback interface up")?;
    }

    let mut mounted = prepared.mount_all(&plan.rootfs, init.cgroup_mounts)?;
    // #4 hooks in the runtime's namespaces; mounts that the host will see are put on record
    if plan.stops_when_mounted() {
        let made: Vec<_> =
            mounted.host_mounts().iter().map(|path| path.to_string_lossy()).collect();
        let sent = init.channel.send_text(Tag::Mounted, &made.join("\0"));
        if sent.is_err() {
            rootfs::unmount(mounted.host_mounts());
        }
        sent.context("cannot put the mounts on the host on record")?;
        init.channel.expect(Tag::Proceed)?;
    }
    hooks::run(&plan.hooks.create_container, &plan.state_json("creating", own_pid()))?;
    mounted.pivot(&plan.rootfs)?;

    if plan.process.as_ref().is_some_and(|process| process.terminal) {
        // #5 the master of our terminal goes to whoever looks at it
        let size = plan.process.as_ref().and_then(|process| process.console_size);
        let peer = open_terminal(mounted.root(), size, &init.channel)?;
        if plan.rootfs.setup_dev {
            let console = InsidePath::new("/dev/console", "the terminal")?;
            crate::rootfs::bind_tty_over(mounted.root(), peer.as_fd(), &console)?;
        }
    }
    name_host(plan)?;
    write_sysctls(plan, &init.proc)?;
    // After the sysctls: /proc/sys is about to become read-only.
    let root = mounted.finish(&plan.rootfs)?;
    if let Some(personality) = plan.personality {
        sys::set_personality(personality).context("cannot set config.json: linux.personality")?;
    }
    if let Some(policy) = &plan.memory_policy {
        set_memory_policy(policy)?;
    }
    if init.new_keyring {
        if let Some(process) = &plan.process {
            lsm::label_keys(process, &init.proc)?;
        }
        join_keyring(&plan.id)?;
    }

    Ok(root)
}

/// Makes a terminal in the container's devpts, sends its master to the parent, and takes the
/// other end as stdio and controlling terminal; gives that end.
pub(super) fn open_terminal(
    root: &RootDir,
    size: Option<(u16, u16)>,
    channel: &Channel,
) -> Result<OwnedFd> {
    let pts = root
        .open_dir(&InsidePath::new("/dev/pts", "the terminal")?)
        .context("a terminal needs /dev/pts")?;
    let pty = console::open_pty_in(&pts)?;
    if let Some(size) = size {
        console::set_size(&pty.master, size)?;
    }
    channel.send_fd(Tag::Console, "", pty.master.as_raw_fd())?;
    console::make_controlling(&pty.peer)?;
    console::use_as_stdio(&pty.peer)?;
    Ok(pty.peer)
}

fn own_pid() -> i32 {
    nix::unistd::getpid().as_raw()
}

/// Nothing of the caller's signals or session reaches the program; if the runtime dies before
/// we are ready, so do we.
pub(super) fn start_afresh(channel: &Channel) -> Result<()> {
    die_with_parent(channel)?;
    sys::reset_signals();
    let warnings = channel.try_clone()?;
    crate::logging::forward(Some(Box::new(move |text| {
        // A warning that nobody can be given is dropped.
        let _ = warnings.send_text(Tag::Warning, text);
    })));
    // The caller's must not decide the modes of what is made in the root.
    umask(Mode::from_bits_truncate(0o022));
    setsid().context("cannot start a session")?;
    Ok(())
}

pub(super) fn die_with_parent(channel: &Channel) -> Result<()> {
    prctl::set_pdeathsig(Signal::SIGKILL).context("cannot set the parent-death signal")?;
    // It may have died before; its end of the channel is closed by then.
    match channel.is_connected() {
        true => Ok(()),
        false => Err(Error::msg("the runtime went away")),
    }
}

/// A single-threaded process that writes 0 to `tasks` does not wait for the kernel's global
/// lock (see docs/architecture.md, "How a process enters a cgroup").
pub(super) fn join_cgroups(task_files: &[OwnedFd]) -> Result<()> {
    for file in task_files {
        write(file, b"0").with_context(|| {
            let path = std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()));
            format!("cannot join cgroup {}", path.unwrap_or_default().display())
        })?;
    }
    Ok(())
}

/// Every CPU of the cpuset: where the runtime itself was confined (taskset(1), CPUAffinity= of
/// systemd) says nothing about the container. Linux before 6.2 did so with the change of cgroup.
pub(super) fn reset_affinity() {
    // More than CONFIG_NR_CPUS can be.
    const EVERY_CPU: [u64; 128] = [u64::MAX; 128];
    if let Err(errno) = sys::set_cpu_affinity(&EVERY_CPU) {
        let text = crate::error::errno_text(errno);
        log::warn!("the container keeps the runtime's CPU affinity: {text}");
    }
}

/// Once the cpuset is set, which bounds the nodes; inherited over execve(2).
pub(super) fn set_memory_policy(policy: &MemoryPolicy) -> Result<()> {
    sys::set_memory_policy(policy.mode, &policy.nodes).map_err(|errno| {
        let text = crate::error::errno_text(errno);
        let what = format!("cannot set config.json: linux.memoryPolicy (set_mempolicy): {text}");
        let hint = match errno {
            Errno::ENOSYS => "this kernel has no NUMA (CONFIG_NUMA)",
            _ => {
                "its nodes must have memory and be in the cpuset; MPOL_PREFERRED_MANY needs Linux \
                 5.15, MPOL_WEIGHTED_INTERLEAVE 6.9"
            }
        };
        Fault::new(Kind::System, what).hint(hint).into()
    })
}

fn name_host(plan: &ContainerPlan) -> Result<()> {
    if let Some(name) = &plan.hostname {
        nix::unistd::sethostname(std::ffi::OsStr::new(&*name.to_string_lossy()))
            .context("cannot set config.json: hostname")?;
    }
    if let Some(name) = &plan.domainname {
        sys::set_domainname(name).context("cannot set config.json: domainname")?;
    }
    Ok(())
}

fn write_sysctls(plan: &ContainerPlan, proc: &Proc) -> Result<()> {
    for (path, value) in &plan.sysctls {
        proc.write(path, value).context("cannot set config.json: linux.sysctl")?;
    }
    Ok(())
}

/// A session keyring of the container's own, so that it does not share the caller's; its search
/// permission lets a user inside use it. Shared by `exec`, which joins it by name.
pub(super) fn join_keyring(id: &str) -> Result<()> {
    const USER_SEARCH: u32 = 0x0008_0000;
    let name = crate::plan::process::c_string(&format!("_ses.{id}"), "container id")?;
    let result = sys::join_session_keyring(&name).and_then(|serial| {
        let permissions = sys::key_permissions(serial)?;
        sys::set_key_permissions(serial, permissions | USER_SEARCH)
    });
    match result {
        // A kernel without keyrings has none to leak; a filter of an outer container may also
        // refuse them.
        Ok(()) | Err(Errno::ENOSYS) => Ok(()),
        Err(errno) => Err(Error::from(errno)
            .context("cannot make a session keyring (--no-new-keyring does without)")),
    }
}
