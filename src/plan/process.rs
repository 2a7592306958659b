//! The program to run and everything about it that the kernel must be told; shared by `create`
//! and `exec` (spec config.md "Process").

use std::ffi::CString;

use oci_spec::runtime::{Capabilities, LinuxCapabilities, Process};

use crate::config::idlist;
use crate::error::{Context, Fault, Result};
use crate::sys::process::SchedAttr;

/// Capability sets as bit masks; bit N is capability N of capabilities(7).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CapsPlan {
    /// What execve(2) may ever grant.
    pub bounding: u64,
    /// What is in force.
    pub effective: u64,
    /// What survives execve(2) of files that allow it.
    pub inheritable: u64,
    /// What may be raised into effective.
    pub permitted: u64,
    /// What survives execve(2) of plain files.
    pub ambient: u64,
}

/// Who the process is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UserPlan {
    /// User id inside the container.
    pub uid: u32,
    /// Group id inside the container.
    pub gid: u32,
    /// Supplementary groups; set even when empty (CVE-2022-36109).
    pub additional_gids: Vec<u32>,
    /// The caller's stay instead, by an annotation: an unprivileged one could not set them again.
    pub keep_groups: bool,
    /// File mode creation mask; `None` keeps 0022.
    pub umask: Option<u32>,
}

/// One resource limit, see setrlimit(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rlimit {
    /// RLIMIT_* number.
    pub resource: u32,
    /// Its name in config.json, for messages.
    pub name: &'static str,
    /// Soft limit.
    pub soft: u64,
    /// Hard limit.
    pub hard: u64,
}

/// ioprio_set(2): class and level.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IoPriority {
    /// IOPRIO_CLASS_*.
    pub class: u16,
    /// 0 (highest) to 7.
    pub level: u16,
}

/// `execCPUAffinity`: CPUs for sched_setaffinity(2), bit N for CPU N.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CpuAffinity {
    /// Those of the runtime, before the process enters the container's cgroups.
    pub initial: Option<Vec<u64>>,
    /// Those of the process, once it is there; `None` leaves it to the kernel.
    pub last: Option<Vec<u64>>,
}

/// Everything about one process in a container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProcessPlan {
    /// argv; never empty.
    pub args: Vec<CString>,
    /// The environment, as given (HOME is added from the container's passwd when missing).
    pub env: Vec<CString>,
    /// Absolute working directory inside the container.
    pub cwd: CString,
    /// True for a pseudo terminal as stdio.
    pub terminal: bool,
    /// Columns and rows of the terminal.
    pub console_size: Option<(u16, u16)>,
    /// See [`UserPlan`].
    pub user: UserPlan,
    /// See [`CapsPlan`].
    pub caps: CapsPlan,
    /// Set in this order.
    pub rlimits: Vec<Rlimit>,
    /// PR_SET_NO_NEW_PRIVS.
    pub no_new_privileges: bool,
    /// /proc/self/oom_score_adj.
    pub oom_score_adj: Option<i32>,
    /// AppArmor profile for the exec.
    pub apparmor_profile: Option<String>,
    /// SELinux label for the exec.
    pub selinux_label: Option<String>,
    /// For sched_setattr(2).
    pub scheduler: Option<SchedAttr>,
    /// See [`IoPriority`].
    pub io_priority: Option<IoPriority>,
    /// It gets descriptors by sd_listen_fds(3): LISTEN_PID is its own id, once it has one.
    pub listens: bool,
    /// See [`CpuAffinity`]; of `exec` only.
    pub exec_affinity: Option<CpuAffinity>,
}

/// RLIMIT_* by the name of config.json.
pub const RLIMITS: [(&str, u32); 16] = [
    ("RLIMIT_AS", libc::RLIMIT_AS),
    ("RLIMIT_CORE", libc::RLIMIT_CORE),
    ("RLIMIT_CPU", libc::RLIMIT_CPU),
    ("RLIMIT_DATA", libc::RLIMIT_DATA),
    ("RLIMIT_FSIZE", libc::RLIMIT_FSIZE),
    ("RLIMIT_LOCKS", libc::RLIMIT_LOCKS),
    ("RLIMIT_MEMLOCK", libc::RLIMIT_MEMLOCK),
    ("RLIMIT_MSGQUEUE", libc::RLIMIT_MSGQUEUE),
    ("RLIMIT_NICE", libc::RLIMIT_NICE),
    ("RLIMIT_NOFILE", libc::RLIMIT_NOFILE),
    ("RLIMIT_NPROC", libc::RLIMIT_NPROC),
    ("RLIMIT_RSS", libc::RLIMIT_RSS),
    ("RLIMIT_RTPRIO", libc::RLIMIT_RTPRIO),
    ("RLIMIT_RTTIME", libc::RLIMIT_RTTIME),
    ("RLIMIT_SIGPENDING", libc::RLIMIT_SIGPENDING),
    ("RLIMIT_STACK", libc::RLIMIT_STACK),
];

/// A string for the kernel; `field` names it in the message.
pub fn c_string(text: &str, field: &str) -> Result<CString> {
    CString::new(text).map_err(|_| Fault::bad_input(format!("{field}: holds a NUL byte")).into())
}

/// The bit of a capability by its name (`CAP_CHOWN` or `chown`).
pub fn capability_bit(name: &str) -> Option<u64> {
    let canonical = caps::to_canonical(name);
    canonical.parse::<caps::Capability>().ok().map(|c| c.bitmask())
}

fn mask(set: &Option<Capabilities>) -> u64 {
    set.iter().flatten().filter_map(|c| capability_bit(&c.to_string())).fold(0, |m, bit| m | bit)
}

impl CapsPlan {
    /// Reads `process.capabilities`; absent means none at all.
    pub fn build(capabilities: Option<&LinuxCapabilities>) -> Self {
        let Some(caps) = capabilities else { return Self::default() };
        CapsPlan {
            bounding: mask(caps.bounding()),
            effective: mask(caps.effective()),
            inheritable: mask(caps.inheritable()),
            permitted: mask(caps.permitted()),
            ambient: mask(caps.ambient()),
        }
    }
}

impl ProcessPlan {
    /// Sets a variable, NAME=value, in place of one of the same name: getenv(3) finds the first.
    /// `from` begins the message where it cannot be one.
    pub fn set_env(&mut self, entry: &str, from: &str) -> Result<()> {
        let name = entry.split('=').next().unwrap_or_default();
        self.env.retain(|old| !is_variable(old, name));
        self.env.push(c_string(entry, from)?);
        Ok(())
    }

    /// Whether the environment has it.
    pub fn has_env(&self, name: &str) -> bool {
        self.env.iter().any(|entry| is_variable(entry, name))
    }

    /// Reads a checked `process`; `file` ("config.json: process") begins the messages.
    pub fn build(process: &Process, file: &str) -> Result<Self> {
        let strings = |list: &Option<Vec<String>>, name: &str| -> Result<Vec<CString>> {
            list.iter()
                .flatten()
                .enumerate()
                .map(|(i, text)| c_string(text, &format!("{file}.{name}[{i}]")))
                .collect()
        };
        let user = process.user();
        let cwd = process.cwd().to_str().with_context(|| format!("{file}.cwd: not UTF-8"))?;
        Ok(ProcessPlan {
            args: strings(process.args(), "args")?,
            env: strings(process.env(), "env")?,
            cwd: c_string(cwd, &format!("{file}.cwd"))?,
            terminal: process.terminal().unwrap_or(false),
            console_size: process
                .console_size()
                .map(|size| (size.width() as u16, size.height() as u16))
                .filter(|size| *size != (0, 0)),
            user: UserPlan {
                uid: user.uid(),
                gid: user.gid(),
                additional_gids: user.additional_gids().clone().unwrap_or_default(),
                keep_groups: false,
                umask: user.umask(),
            },
            caps: CapsPlan::build(process.capabilities().as_ref()),
            rlimits: rlimits(process),
            no_new_privileges: process.no_new_privileges().unwrap_or(false),
            oom_score_adj: process.oom_score_adj(),
            apparmor_profile: process.apparmor_profile().clone().filter(|p| !p.is_empty()),
            selinux_label: process.selinux_label().clone().filter(|l| !l.is_empty()),
            scheduler: process.scheduler().as_ref().map(scheduler),
            io_priority: process.io_priority().as_ref().map(io_priority),
            listens: false,
            exec_affinity: exec_affinity(process),
        })
    }
}

fn is_variable(entry: &CString, name: &str) -> bool {
    entry.as_bytes().split(|byte| *byte == b'=').next() == Some(name.as_bytes())
}

fn rlimits(process: &Process) -> Vec<Rlimit> {
    process
        .rlimits()
        .iter()
        .flatten()
        .filter_map(|limit| {
            let name = limit.typ().to_string();
            let (name, resource) = RLIMITS.iter().find(|(known, _)| *known == name)?;
            Some(Rlimit { resource: *resource, name, soft: limit.soft(), hard: limit.hard() })
        })
        .collect()
}

fn exec_affinity(process: &Process) -> Option<CpuAffinity> {
    let given = process.exec_cpu_affinity().as_ref()?;
    let cpus = |list: &Option<String>| list.as_deref().and_then(idlist::bits);
    let affinity =
        CpuAffinity { initial: cpus(given.initial()), last: cpus(given.cpu_affinity_final()) };
    (affinity.initial.is_some() || affinity.last.is_some()).then_some(affinity)
}

fn io_priority(priority: &oci_spec::runtime::LinuxIOPriority) -> IoPriority {
    use oci_spec::runtime::IOPriorityClass as Class;
    let class = match priority.class() {
        Class::IoprioClassRt => 1,
        Class::IoprioClassBe => 2,
        Class::IoprioClassIdle => 3,
    };
    IoPriority { class, level: priority.priority() as u16 }
}

fn scheduler(scheduler: &oci_spec::runtime::Scheduler) -> SchedAttr {
    use oci_spec::runtime::{LinuxSchedulerFlag as Flag, LinuxSchedulerPolicy as Policy};
    let policy = match scheduler.policy() {
        Policy::SchedOther => libc::SCHED_OTHER,
        Policy::SchedFifo => libc::SCHED_FIFO,
        Policy::SchedRr => libc::SCHED_RR,
        Policy::SchedBatch => libc::SCHED_BATCH,
        Policy::SchedIso => 4,
        Policy::SchedIdle => libc::SCHED_IDLE,
        Policy::SchedDeadline => libc::SCHED_DEADLINE,
    };
    // sched.h SCHED_FLAG_*
    let flags = scheduler.flags().iter().flatten().fold(0u64, |flags, flag| {
        flags
            | match flag {
                Flag::SchedResetOnFork => 0x01,
                Flag::SchedFlagReclaim => 0x02,
                Flag::SchedFlagDLOverrun => 0x04,
                Flag::SchedFlagKeepPolicy => 0x08,
                Flag::SchedFlagKeepParams => 0x10,
                Flag::SchedFlagUtilClampMin => 0x20,
                Flag::SchedFlagUtilClampMax => 0x40,
            }
    });
    SchedAttr {
        size: 0,
        policy: policy as u32,
        flags,
        nice: scheduler.nice().unwrap_or(0),
        priority: scheduler.priority().unwrap_or(0) as u32,
        runtime: scheduler.runtime().unwrap_or(0),
        deadline: scheduler.deadline().unwrap_or(0),
        period: scheduler.period().unwrap_or(0),
        // The spec has no values for these.
        util_min: 0,
        util_max: 0,
    }
}
