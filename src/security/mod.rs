//! What the program may do, in the one order that works: [`apply`].

pub mod caps;
pub mod lsm;
pub mod procfs;
pub mod seal;
pub mod seccomp;

use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Gid, Uid, chdir, setgroups, setresgid, setresuid};

use crate::error::{Context, Error, Fault, Kind, Result, errno_text};
use crate::plan::process::{ProcessPlan, UserPlan};
use crate::plan::seccomp::SeccompPlan;
use crate::sys::process as sys;

/// umask(2) where the config says nothing: what runc and crun give.
const DEFAULT_UMASK: u32 = 0o022;

/// Turns the calling process, root in its user namespace, into what the plan says. The caller
/// execs next; only read(2), write(2) and execve(2) follow. `listener` gets the notify
/// descriptor of the seccomp filter; `find` looks the program up as the user. The labels (see
/// [`lsm::apply`]) have been set already.
pub fn apply<T>(
    process: &ProcessPlan,
    seccomp: Option<&SeccompPlan>,
    listener: impl FnOnce(OwnedFd) -> Result<()>,
    find: impl FnOnce() -> Result<T>,
) -> Result<T> {
    // These need CAP_SYS_NICE, CAP_SYS_ADMIN or CAP_SYS_RESOURCE, which may go below.
    if let Some(scheduler) = &process.scheduler {
        sys::sched_setattr(*scheduler).map_err(no_scheduler)?;
    }
    if let Some(io) = &process.io_priority {
        sys::set_io_priority(io.class, io.level).context("cannot set process.ioPriority")?;
    }
    for limit in &process.rlimits {
        sys::set_rlimit(limit.resource, limit.soft, limit.hard)
            .with_context(|| format!("cannot set {}", limit.name))?;
    }

    // As root: a directory may be closed to the user and still be asked for. Before any filter,
    // which may refuse getcwd(2).
    let entered = change_directory(process).is_ok();

    if process.no_new_privileges {
        become_user(process, entered)?;
        let found = find()?;
        // No exec lies between, so its place matters only to seccomp(2), which demands it or
        // CAP_SYS_ADMIN.
        prctl::set_no_new_privs().context("cannot set no_new_privs")?;
        // Last of all, so that the filter need not allow what was done above.
        load_filter(seccomp, listener)?;
        Ok(found)
    } else {
        // Without no_new_privs the filter needs CAP_SYS_ADMIN: before the capabilities go. It
        // must therefore allow what follows.
        load_filter(seccomp, listener)?;
        become_user(process, entered)?;
        find()
    }
}

/// From root with all capabilities to the plan's user with the plan's; `entered` says whether the
/// working directory has been.
fn become_user(process: &ProcessPlan, entered: bool) -> Result<()> {
    // Needs CAP_SETPCAP, and must not wait until after setuid(2) took it.
    caps::limit_bounding(&process.caps)?;
    // Otherwise setresuid(2) to another than 0 would clear the permitted set, too.
    prctl::set_keepcaps(true).context("cannot keep capabilities over setuid")?;
    set_user(&process.user)?;
    prctl::set_keepcaps(false).context("cannot reset keepcaps")?;
    // As the user: network file systems may let only the owner in.
    if !entered {
        change_directory(process)?;
    }
    umask(Mode::from_bits_truncate(process.user.umask.unwrap_or(DEFAULT_UMASK)));
    // Last: it takes the capabilities that all of the above needed.
    caps::apply(&process.caps)
}

/// Groups before the user, while CAP_SETGID is there; supplementary ones even when none are
/// given, or the caller's would stay (CVE-2022-36109).
fn set_user(user: &UserPlan) -> Result<()> {
    if !user.keep_groups {
        let groups: Vec<Gid> = user.additional_gids.iter().map(|gid| Gid::from_raw(*gid)).collect();
        setgroups(&groups).map_err(|errno| unmapped(errno, "additional gids"))?;
    }
    let gid = Gid::from_raw(user.gid);
    setresgid(gid, gid, gid).map_err(|errno| unmapped(errno, &format!("gid {gid}")))?;
    let uid = Uid::from_raw(user.uid);
    setresuid(uid, uid, uid).map_err(|errno| unmapped(errno, &format!("uid {uid}")))
}

fn no_scheduler(errno: Errno) -> Error {
    let what = format!("cannot set process.scheduler: {}", errno_text(errno));
    let fault = Fault::new(Kind::System, what);
    match errno {
        Errno::EPERM => fault.hint(
            "it needs CAP_SYS_NICE, and with cgroup v1 SCHED_FIFO and SCHED_RR need \
             linux.resources.cpu.realtimeRuntime in every cgroup on the way",
        ),
        _ => fault,
    }
    .into()
}

fn unmapped(errno: Errno, what: &str) -> anyhow::Error {
    let error = anyhow::Error::from(errno).context(format!("cannot become {what}"));
    match errno {
        Errno::EINVAL => Fault::new(Kind::BadInput, format!("{error:#}"))
            .hint("it is not in linux.uidMappings or linux.gidMappings")
            .into(),
        _ => error,
    }
}

fn change_directory(process: &ProcessPlan) -> Result<()> {
    chdir(process.cwd.as_c_str())
        .with_context(|| format!("cannot change to process.cwd {:?}", process.cwd))?;
    verify_directory(process)
}

/// The kernel itself says whether the directory is inside the root (CVE-2024-21626): outside, a
/// path cannot be given or begins with "(unreachable)".
fn verify_directory(process: &ProcessPlan) -> Result<()> {
    let inside = nix::unistd::getcwd().is_ok_and(|cwd| cwd.is_absolute());
    match inside {
        true => Ok(()),
        false => Err(Fault::bad_input(format!(
            "process.cwd {:?} leads out of the container",
            process.cwd
        ))
        .into()),
    }
}

fn load_filter(
    seccomp: Option<&SeccompPlan>,
    listener: impl FnOnce(OwnedFd) -> Result<()>,
) -> Result<()> {
    let Some(plan) = seccomp else { return Ok(()) };
    match seccomp::load(plan)? {
        Some(fd) => listener(fd),
        None => Ok(()),
    }
}
