//! The checks of one `process` object: of config.json, and of `exec` (spec config.md "Process").

use oci_spec::runtime::{Capabilities, LinuxSchedulerPolicy as Policy, Process, Scheduler};

use super::faults::Faults;
use super::idlist;

/// NGROUPS_MAX of limits.h: what setgroups(2) takes.
const MAX_GROUPS: usize = 65_536;

/// 1 << DL_SCALE of the kernel's sched.h, nanoseconds: the shortest runtime of SCHED_DEADLINE.
const MIN_DEADLINE_RUNTIME: u64 = 1 << 10;

type Check = fn(&Process, &str, &mut Faults);

const CHECKS: &[Check] = &[
    args_and_env,
    cwd,
    console,
    user,
    rlimits,
    labels,
    oom_score_adj,
    scheduler,
    io_priority,
    cpu_affinity,
];

/// Runs every check; `at` is where the process stands in its file, with the dot ("process.").
pub(super) fn check(process: &Process, at: &str, faults: &mut Faults) {
    for check in CHECKS {
        check(process, at, faults);
    }
}

fn args_and_env(process: &Process, at: &str, faults: &mut Faults) {
    let args = process.args().as_deref().unwrap_or_default();
    if args.is_empty() {
        faults.bad(format!("{at}args"), "must name the program to run");
    }
    for (i, arg) in args.iter().enumerate() {
        faults.nul(format!("{at}args[{i}]"), arg);
    }
    for (i, variable) in process.env().iter().flatten().enumerate() {
        let field = format!("{at}env[{i}]");
        faults.nul(&field, variable);
        match variable.split_once('=') {
            None => faults.bad(field, format!("{variable:?} is not of the form NAME=value")),
            Some(("", _)) => faults.bad(field, format!("{variable:?} has no name")),
            Some(_) => {}
        }
    }
}

fn cwd(process: &Process, at: &str, faults: &mut Faults) {
    let cwd = process.cwd();
    let field = format!("{at}cwd");
    faults.nul(&field, &cwd.to_string_lossy());
    if cwd.as_os_str().is_empty() {
        faults.bad(field, "required: an absolute path");
    } else if !cwd.is_absolute() {
        faults.bad(field, format!("must be an absolute path, not {}", cwd.display()));
    }
}

fn console(process: &Process, at: &str, faults: &mut Faults) {
    // Without a terminal the size must be ignored.
    if let Some(size) = process.console_size().filter(|_| process.terminal() == Some(true)) {
        for (name, value) in [("height", size.height()), ("width", size.width())] {
            if value > u64::from(u16::MAX) {
                faults.bad(format!("{at}consoleSize.{name}"), format!("{value} is above 65535"));
            }
        }
    }
}

fn user(process: &Process, at: &str, faults: &mut Faults) {
    let user = process.user();
    let mut id = |name: String, id: u32| {
        // To setresuid(2), setresgid(2) and chown(2), -1 means "as it is": root.
        if id == u32::MAX {
            faults.bad(format!("{at}user.{name}"), "4294967295 (-1) is not an id");
        }
    };
    id("uid".into(), user.uid());
    id("gid".into(), user.gid());
    let groups = user.additional_gids().as_deref().unwrap_or_default();
    for (i, gid) in groups.iter().enumerate() {
        id(format!("additionalGids[{i}]"), *gid);
    }
    if groups.len() > MAX_GROUPS {
        let what = format!("{} groups are more than the kernel's {MAX_GROUPS}", groups.len());
        faults.bad(format!("{at}user.additionalGids"), what);
    }
    if let Some(umask) = user.umask().filter(|umask| *umask > 0o777) {
        faults.bad_hint(
            format!("{at}user.umask"),
            format!("{umask} is above 511 (octal 777)"),
            "a umask in JSON is decimal: 18 is octal 022",
        );
    }
}

fn rlimits(process: &Process, at: &str, faults: &mut Faults) {
    let mut seen = Vec::new();
    for (i, limit) in process.rlimits().iter().flatten().enumerate() {
        let name = limit.typ();
        if seen.contains(&name) {
            faults.bad(format!("{at}rlimits[{i}].type"), format!("{name} is there twice"));
        } else {
            seen.push(name);
        }
        if limit.soft() > limit.hard() {
            faults.bad(
                format!("{at}rlimits[{i}].soft"),
                format!("{} is above the hard limit {}", limit.soft(), limit.hard()),
            );
        }
    }
}

fn labels(process: &Process, at: &str, faults: &mut Faults) {
    // They are written to one line of a file in /proc.
    let labels = [
        ("apparmorProfile", process.apparmor_profile()),
        ("selinuxLabel", process.selinux_label()),
    ];
    for (name, label) in labels {
        if label.as_ref().is_some_and(|l| l.contains(['\0', '\n'])) {
            faults.bad(format!("{at}{name}"), "holds a NUL byte or a line break");
        }
    }
}

fn oom_score_adj(process: &Process, at: &str, faults: &mut Faults) {
    if let Some(score) = process.oom_score_adj().filter(|s| !(-1000..=1000).contains(s)) {
        let what = format!("{score} is outside -1000 to 1000");
        faults.bad(format!("{at}oomScoreAdj"), what);
    }
}

/// As sched_setattr(2) will check it.
fn scheduler(process: &Process, at: &str, faults: &mut Faults) {
    let Some(scheduler) = process.scheduler() else { return };
    let at = format!("{at}scheduler.");
    let policy = *scheduler.policy();
    if policy == Policy::SchedIso {
        faults.bad(format!("{at}policy"), "SCHED_ISO is not implemented by Linux");
        return;
    }
    let nice = scheduler.nice().unwrap_or(0);
    if !(-20..=19).contains(&nice) {
        faults.bad(format!("{at}nice"), format!("{nice} is outside -20 to 19"));
    }
    let priority = scheduler.priority().unwrap_or(0);
    if matches!(policy, Policy::SchedFifo | Policy::SchedRr) {
        if !(1..=99).contains(&priority) {
            let what = format!("{priority} is outside 1 to 99, as SCHED_FIFO and SCHED_RR need it");
            faults.bad(format!("{at}priority"), what);
        }
    } else if priority != 0 {
        faults.bad(format!("{at}priority"), "only SCHED_FIFO and SCHED_RR have one");
    }
    deadline(scheduler, policy == Policy::SchedDeadline, &at, faults);
}

fn deadline(scheduler: &Scheduler, wanted: bool, at: &str, faults: &mut Faults) {
    let runtime = scheduler.runtime().unwrap_or(0);
    let deadline = scheduler.deadline().unwrap_or(0);
    let period = scheduler.period().unwrap_or(0);
    if !wanted {
        for (name, value) in [("runtime", runtime), ("deadline", deadline), ("period", period)] {
            if value != 0 {
                faults.bad(format!("{at}{name}"), "only SCHED_DEADLINE has one");
            }
        }
        return;
    }
    if runtime < MIN_DEADLINE_RUNTIME {
        let what = format!("{runtime} is below the kernel's {MIN_DEADLINE_RUNTIME} ns");
        faults.bad(format!("{at}runtime"), what);
    }
    if deadline < runtime || deadline == 0 {
        let what = format!("{deadline} is below the runtime {runtime}");
        faults.bad(format!("{at}deadline"), what);
    }
    if period != 0 && period < deadline {
        let what = format!("{period} is below the deadline {deadline}");
        faults.bad(format!("{at}period"), what);
    }
}

fn io_priority(process: &Process, at: &str, faults: &mut Faults) {
    if let Some(priority) = process.io_priority().as_ref().map(|p| p.priority())
        && !(0..=7).contains(&priority)
    {
        faults.bad(format!("{at}ioPriority.priority"), format!("{priority} is outside 0 to 7"));
    }
}

fn cpu_affinity(process: &Process, at: &str, faults: &mut Faults) {
    let Some(affinity) = process.exec_cpu_affinity() else { return };
    let lists = [("initial", affinity.initial()), ("final", affinity.cpu_affinity_final())];
    for (name, list) in lists {
        if let Some(list) = list {
            id_list(&format!("{at}execCPUAffinity.{name}"), list, faults);
        }
    }
}

/// A list of CPUs or memory nodes.
pub(super) fn id_list(field: &str, list: &str, faults: &mut Faults) {
    if idlist::bits(list).is_none() {
        let hint = "numbers below 65536 and ranges of them, commas between";
        faults.bad_hint(field, format!("{list:?} is not a list as 0-3,7"), hint);
    }
}

/// What will not be granted (capabilities(7)): a warning, not an error, by the spec.
pub(super) fn warnings(process: &Process, at: &str) -> Vec<String> {
    let Some(caps) = process.capabilities() else { return Vec::new() };
    let mut warnings = Vec::new();
    let mut beyond = |name: &str, set: &Option<Capabilities>, limit: &str, in_set| {
        let limit_set: &Option<Capabilities> = in_set;
        let mut extra: Vec<String> = set
            .iter()
            .flatten()
            .filter(|c| !limit_set.as_ref().is_some_and(|l| l.contains(c)))
            .map(|c| format!("CAP_{c}"))
            .collect();
        if !extra.is_empty() {
            extra.sort();
            warnings.push(format!(
                "{at}capabilities.{name}: {} cannot be granted, not being {limit}",
                extra.join(", ")
            ));
        }
    };
    beyond("effective", caps.effective(), "permitted", caps.permitted());
    // capset(2) takes from the inheritable set what is not bounding.
    beyond("inheritable", caps.inheritable(), "bounding", caps.bounding());
    beyond("ambient", caps.ambient(), "permitted", caps.permitted());
    beyond("ambient", caps.ambient(), "inheritable", caps.inheritable());
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::bundle::parse_process;

    #[test]
    fn capabilities_beyond_their_limit_are_warned_of() {
        let process = parse_process(
            r#"{"cwd":"/","capabilities":{"permitted":["CAP_KILL"],"inheritable":["CAP_CHOWN"],
               "effective":["CAP_KILL","CAP_SYSLOG","CAP_BPF"],"ambient":["CAP_KILL"]}}"#,
        )
        .unwrap();
        assert_eq!(
            warnings(&process, "process."),
            [
                "process.capabilities.effective: CAP_BPF, CAP_SYSLOG cannot be granted, not \
                 being permitted",
                "process.capabilities.inheritable: CAP_CHOWN cannot be granted, not being bounding",
                "process.capabilities.ambient: CAP_KILL cannot be granted, not being inheritable"
            ]
        );
    }
}
