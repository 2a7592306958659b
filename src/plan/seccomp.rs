//! linux.seccomp as a BPF program, ready to load (spec config-linux.md "Seccomp", seccomp(2),
//! seccomp_rule_add(3)).

mod tables;

use std::fs::File;
use std::io::{Read, Seek};
use std::path::PathBuf;

use libseccomp::{
    ScmpAction, ScmpArch, ScmpArgCompare, ScmpCompareOp, ScmpFilterContext, ScmpSyscall,
    ScmpVersion,
};
use nix::sys::memfd::{MFdFlags, memfd_create};
use oci_spec::runtime::{
    LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompFilterFlag, LinuxSeccompOperator,
};

use self::tables::FAMILIES;
pub use self::tables::{ACTIONS, ARCHITECTURES, FLAGS, OPERATORS};
use crate::error::{Context, Fault, Kind, Result};

/// How messages name the object.
const FIELD: &str = "config.json: linux.seccomp";

/// A compiled filter, ready for seccomp(2): nothing is parsed after the clone.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct SeccompPlan {
    /// The program: struct sock_filter[] as bytes of this machine.
    pub program: Vec<u8>,
    /// SECCOMP_FILTER_FLAG_*.
    pub flags: u32,
    /// Present when a rule asks an agent.
    pub listener: Option<Listener>,
}

/// The agent that answers for SCMP_ACT_NOTIFY.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Listener {
    /// Its Unix stream socket, on the host.
    pub path: PathBuf,
    /// Passed on as it is.
    pub metadata: Option<String>,
}

/// System calls have at most this many arguments.
const ARGUMENTS: usize = 6;
/// MAX_ERRNO of the kernel; libseccomp takes less than this.
const MAX_ERRNO: u32 = 4095;
/// BPF_MAXINSNS of the kernel.
const MAX_INSTRUCTIONS: usize = 4096;
/// Size of struct sock_filter.
const INSTRUCTION: usize = size_of::<libc::sock_filter>();
/// __X32_SYSCALL_BIT: marks the numbers of x32 programs.
const X32_SYSCALL_BIT: u32 = 0x4000_0000;
/// runc's threshold: a binary search pays off for more rules than this.
const LINEAR_RULES: usize = 32;

/// A profile that comes with Corten, as the JSON text of `linux.seccomp`: "default" or "strict".
/// None for another name, and on s390, where clone(2) has its flags in another argument than
/// the profiles check.
pub fn builtin(name: &str) -> Option<&'static str> {
    match name {
        _ if cfg!(target_arch = "s390x") => None,
        "default" => Some(include_str!("../../seccomp-profiles/default.json")),
        "strict" => Some(include_str!("../../seccomp-profiles/strict.json")),
        _ => None,
    }
}

/// Compiles `linux.seccomp`. Fails on what the profile may not say, on what libseccomp or the
/// kernel cannot do, and on a program that is longer than the kernel takes.
pub fn compile(profile: &LinuxSeccomp) -> Result<SeccompPlan> {
    let default = library_action(profile.default_action(), profile.default_errno_ret(), || {
        format!("{FIELD}.defaultErrnoRet")
    })?;
    if default == ScmpAction::Notify {
        return Err(Fault::bad_input(format!(
            "{FIELD}.defaultAction: SCMP_ACT_NOTIFY cannot be the default, \
             because no agent listens before the filter is loaded"
        ))
        .into());
    }
    let listener = listener(profile)?;
    let flags = flags(profile, listener.is_some())?;
    let rules = rules(profile, default)?;
    // No rule takes less than one instruction, and libseccomp would work on them for minutes.
    if rules.len() > MAX_INSTRUCTIONS {
        let count = rules.len();
        return Err(Fault::new(
            Kind::Unsupported,
            format!(
                "{FIELD}.syscalls: {count} rules, the kernel takes {MAX_INSTRUCTIONS} instructions"
            ),
        )
        .hint("name fewer system calls or arguments")
        .into());
    }
    let mut parts = Vec::new();
    for arch in architectures(profile) {
        let mut part = Vec::new();
        if denies(default)
            && let Some(highest) = highest(profile, arch)
        {
            part.extend(enosys_for_newer(arch, highest).into_iter().flat_map(Instruction::bytes));
        }
        part.extend(export(&filter(default, arch, &rules)?)?);
        parts.push((arch, part));
    }
    let program = link(&parts);
    let instructions = program.len() / INSTRUCTION;
    if instructions > MAX_INSTRUCTIONS {
        return Err(Fault::new(
            Kind::Unsupported,
            format!(
                "{FIELD}: compiles to {instructions} instructions, \
                 the kernel takes {MAX_INSTRUCTIONS}"
            ),
        )
        .hint("name fewer system calls, arguments or architectures")
        .into());
    }
    // Engines' tests look for this line.
    log::debug!("seccomp filter flags: {flags}");
    Ok(SeccompPlan { program, flags, listener })
}

/// The action for libseccomp; `field` names the errno in messages.
fn library_action(
    action: LinuxSeccompAction,
    errno: Option<u32>,
    field: impl Fn() -> String,
) -> Result<ScmpAction> {
    use LinuxSeccompAction as Action;
    let takes_errno = matches!(action, Action::ScmpActErrno | Action::ScmpActTrace);
    if errno.is_some() && !takes_errno {
        return Err(Fault::bad_input(format!("{}: {action} takes no errno", field())).into());
    }
    let limit = if action == Action::ScmpActErrno { MAX_ERRNO - 1 } else { u16::MAX.into() };
    let errno = errno.unwrap_or(libc::EPERM as u32);
    if errno > limit {
        return Err(Fault::bad_input(format!("{}: {errno} is more than {limit}", field())).into());
    }
    Ok(match action {
        Action::ScmpActKill | Action::ScmpActKillThread => ScmpAction::KillThread,
        Action::ScmpActKillProcess => ScmpAction::KillProcess,
        Action::ScmpActTrap => ScmpAction::Trap,
        Action::ScmpActErrno => ScmpAction::Errno(errno as i32),
        Action::ScmpActTrace => ScmpAction::Trace(errno as u16),
        Action::ScmpActNotify => ScmpAction::Notify,
        Action::ScmpActLog => ScmpAction::Log,
        Action::ScmpActAllow => ScmpAction::Allow,
    })
}

/// The architectures to filter, without repetition, the native one first.
fn architectures(profile: &LinuxSeccomp) -> Vec<ScmpArch> {
    let native = ScmpArch::native();
    let mut list = vec![native];
    for wanted in profile.architectures().iter().flatten() {
        let row = ARCHITECTURES.iter().find(|(_, arch, _)| arch == wanted);
        let arch = row.map_or(native, |(_, _, arch)| *arch);
        if !FAMILIES.iter().any(|f| f.contains(&arch) && f.contains(&native)) && arch != native {
            log::debug!("seccomp: this machine never runs {wanted}, left out of the filter");
        } else if !list.contains(&arch) {
            list.push(arch);
        }
    }
    list
}

/// "2.5.4", for messages, `--version` and the features document.
pub fn library_version() -> String {
    ScmpVersion::current().map_or_else(|_| "unknown".to_owned(), |version| version.to_string())
}

/// The agent, when a rule needs one.
fn listener(profile: &LinuxSeccomp) -> Result<Option<Listener>> {
    let path = profile.listener_path().clone().filter(|path| !path.as_os_str().is_empty());
    let metadata = profile.listener_metadata().clone().filter(|text| !text.is_empty());
    if metadata.is_some() && path.is_none() {
        return Err(Fault::bad_input(format!(
            "{FIELD}.listenerMetadata: must not be set without listenerPath"
        ))
        .into());
    }
    let mut asks = None;
    for (i, call) in profile.syscalls().iter().flatten().enumerate() {
        if call.action() != LinuxSeccompAction::ScmpActNotify {
            continue;
        }
        asks = asks.or(Some(i));
        // The child says by write(2) which descriptor is the listener; see security::seccomp.
        if let Some(j) = call.names().iter().position(|name| name == "write") {
            return Err(Fault::bad_input(format!(
                "{FIELD}.syscalls[{i}].names[{j}]: SCMP_ACT_NOTIFY cannot be used for write, \
                 which the runtime itself needs before the agent listens"
            ))
            .into());
        }
    }
    match (asks, path) {
        (Some(i), None) => Err(Fault::bad_input(format!(
            "{FIELD}.listenerPath: missing, but syscalls[{i}].action is SCMP_ACT_NOTIFY"
        ))
        .into()),
        (Some(_), Some(path)) => Ok(Some(Listener { path, metadata })),
        // The spec: without such a rule the path is ignored.
        (None, _) => Ok(None),
    }
}

/// The flags for seccomp(2).
fn flags(profile: &LinuxSeccomp, has_listener: bool) -> Result<u32> {
    let mut flags = 0;
    match profile.flags() {
        // As runc: the program's speculation is its own affair unless somebody says otherwise.
        None => flags |= libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW,
        Some(list) => {
            for (i, wanted) in list.iter().enumerate() {
                let row = FLAGS.iter().find(|(_, flag, _)| flag == wanted);
                flags |= row.map_or(0, |(_, _, flag)| libc::c_ulong::from(*flag));
                if *wanted == LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv
                    && !has_listener
                {
                    return Err(Fault::bad_input(format!(
                        "{FIELD}.flags[{i}]: {wanted} needs a rule with SCMP_ACT_NOTIFY"
                    ))
                    .into());
                }
            }
        }
    }
    // The filter is loaded by a process with one thread, where TSYNC has nothing to do; and with
    // a listener the kernel would refuse it, as the result cannot be both a descriptor and a
    // thread id.
    flags &= !libc::SECCOMP_FILTER_FLAG_TSYNC;
    if has_listener {
        flags |= libc::SECCOMP_FILTER_FLAG_NEW_LISTENER;
    }
    Ok(flags as u32)
}

/// One rule for libseccomp.
struct Rule<'a> {
    /// Index in `syscalls`, for messages.
    entry: usize,
    name: &'a str,
    syscall: ScmpSyscall,
    action: ScmpAction,
    comparisons: Vec<ScmpArgCompare>,
}

/// The rules in the order of the profile, without those that change nothing.
fn rules(profile: &LinuxSeccomp, default: ScmpAction) -> Result<Vec<Rule<'_>>> {
    let mut rules = Vec::new();
    for (entry, call) in profile.syscalls().iter().flatten().enumerate() {
        let action = library_action(call.action(), call.errno_ret(), || {
            format!("{FIELD}.syscalls[{entry}].errnoRet")
        })?;
        if call.names().is_empty() {
            return Err(Fault::bad_input(format!("{FIELD}.syscalls[{entry}].names: empty")).into());
        }
        let alternatives = comparisons(call.args().as_deref().unwrap_or_default(), entry)?;
        for (j, name) in call.names().iter().enumerate() {
            if name.is_empty() {
                return Err(Fault::bad_input(format!(
                    "{FIELD}.syscalls[{entry}].names[{j}]: empty"
                ))
                .into());
            }
            let Ok(syscall) = ScmpSyscall::from_name(name) else {
                log::debug!("seccomp: libseccomp does not know the system call {name}, ignored");
                continue;
            };
            // libseccomp refuses rules that say what the default says anyway.
            if action != default {
                rules.extend(alternatives.iter().map(|comparisons| Rule {
                    entry,
                    name,
                    syscall,
                    action,
                    comparisons: comparisons.clone(),
                }));
            }
        }
    }
    Ok(rules)
}

/// The comparisons of one entry: each inner list is a rule, within which all must hold. An
/// argument that is compared twice makes every comparison a rule of its own, as in runc, since
/// libseccomp takes one comparison for each argument.
fn comparisons(args: &[LinuxSeccompArg], entry: usize) -> Result<Vec<Vec<ScmpArgCompare>>> {
    let mut list = Vec::new();
    let mut compared = [false; ARGUMENTS];
    let mut twice = false;
    for (i, arg) in args.iter().enumerate() {
        let Some(seen) = compared.get_mut(arg.index()) else {
            return Err(Fault::bad_input(format!(
                "{FIELD}.syscalls[{entry}].args[{i}].index: {} is more than {}",
                arg.index(),
                ARGUMENTS - 1
            ))
            .into());
        };
        twice |= *seen;
        *seen = true;
        list.push(comparison(arg));
    }
    Ok(if twice { list.into_iter().map(|one| vec![one]).collect() } else { vec![list] })
}

fn comparison(arg: &LinuxSeccompArg) -> ScmpArgCompare {
    use LinuxSeccompOperator as Operator;
    let index = arg.index() as u32;
    let operator = match arg.op() {
        Operator::ScmpCmpNe => ScmpCompareOp::NotEqual,
        Operator::ScmpCmpLt => ScmpCompareOp::Less,
        Operator::ScmpCmpLe => ScmpCompareOp::LessOrEqual,
        Operator::ScmpCmpEq => ScmpCompareOp::Equal,
        Operator::ScmpCmpGe => ScmpCompareOp::GreaterEqual,
        Operator::ScmpCmpGt => ScmpCompareOp::Greater,
        // Here `value` is the mask and `valueTwo` what remains under it (seccomp_rule_add(3)).
        Operator::ScmpCmpMaskedEq => {
            let (mask, datum) = (arg.value(), arg.value_two().unwrap_or(0));
            return ScmpArgCompare::new(index, ScmpCompareOp::MaskedEqual(mask), datum);
        }
    };
    ScmpArgCompare::new(index, operator, arg.value())
}

/// Hands everything to libseccomp, for one architecture: its effort grows with the square of
/// the program, and three architectures in one filter take it ten times as long as one.
fn filter(default: ScmpAction, arch: ScmpArch, rules: &[Rule<'_>]) -> Result<ScmpFilterContext> {
    let mut filter = ScmpFilterContext::new(default)
        .with_context(|| format!("{FIELD}.defaultAction: libseccomp refuses {default:?}"))?;
    let native = ScmpArch::native();
    if arch != native {
        filter
            .add_arch(arch)
            .and_then(|filter| filter.remove_arch(native))
            .with_context(|| format!("{FIELD}.architectures: libseccomp refuses {arch:?}"))?;
    }
    // libseccomp up to 2.5.4 goes wrong with a binary tree where an architecture has no rule.
    if rules.len() > LINEAR_RULES
        && rules.iter().any(|rule| number(rule.name, arch).is_some())
        && let Err(error) = filter.set_ctl_optimize(2)
    {
        log::debug!("seccomp: no binary tree, libseccomp is too old: {error}");
    }
    for rule in rules {
        let Rule { entry, name, syscall, action, comparisons } = rule;
        filter.add_rule_conditional(*action, *syscall, comparisons).with_context(|| {
            format!("{FIELD}.syscalls[{entry}]: libseccomp refuses the rule for {name}")
        })?;
    }
    Ok(filter)
}

/// libseccomp's program as bytes.
fn export(filter: &ScmpFilterContext) -> Result<Vec<u8>> {
    let memory = memfd_create(c"seccomp", MFdFlags::MFD_CLOEXEC)
        .context("memfd_create(2) for the seccomp filter")?;
    let mut file = File::from(memory);
    filter.export_bpf(&file).with_context(|| format!("{FIELD}: libseccomp cannot compile it"))?;
    let mut program = Vec::new();
    file.rewind().and_then(|()| file.read_to_end(&mut program)).context("cannot read a memfd")?;
    Ok(program)
}

/// True when the default action keeps system calls from happening, other than by ENOSYS itself.
/// A tracer can answer for new calls, so TRACE counts as permission, as in runc.
fn denies(default: ScmpAction) -> bool {
    !matches!(
        default,
        ScmpAction::Allow
            | ScmpAction::Log
            | ScmpAction::Trace(_)
            | ScmpAction::Errno(libc::ENOSYS)
    )
}

/// The last number of the contiguous table of `arch`; above it lie the numbers of another mode.
fn last_number(arch: ScmpArch) -> u32 {
    match arch {
        ScmpArch::X8664 => X32_SYSCALL_BIT - 1,
        // __ARM_NR_BASE: the private calls (cacheflush, set_tls) that have always been there.
        ScmpArch::Arm => 0x000e_ffff,
        _ => u32::MAX,
    }
}

/// The number of a system call, where the architecture has it and libseccomp knows it.
fn number(name: &str, arch: ScmpArch) -> Option<u32> {
    let syscall = ScmpSyscall::from_name_by_arch(name, arch).ok()?;
    // Negative numbers are libseccomp's own, for calls that this architecture lacks.
    u32::try_from(syscall.as_raw_syscall()).ok()
}

/// The highest number among the system calls that the profile names.
fn highest(profile: &LinuxSeccomp, arch: ScmpArch) -> Option<u32> {
    let names = profile.syscalls().iter().flatten().flat_map(|call| call.names());
    names.filter_map(|name| number(name, arch)).filter(|n| *n <= last_number(arch)).max()
}

/// struct sock_filter of linux/filter.h.
#[derive(Debug, Clone, Copy)]
struct Instruction {
    code: u32,
    jt: u8,
    jf: u8,
    k: u32,
}

impl Instruction {
    fn new(code: u32, k: u32) -> Self {
        Instruction { code, jt: 0, jf: 0, k }
    }

    /// Skips `jt` instructions when the comparison with `k` holds, else `jf`.
    fn jump(comparison: u32, k: u32, jt: u8, jf: u8) -> Self {
        Instruction { code: libc::BPF_JMP | comparison | libc::BPF_K, jt, jf, k }
    }

    fn bytes(self) -> [u8; 8] {
        let [code0, code1] = (self.code as u16).to_ne_bytes();
        let [k0, k1, k2, k3] = self.k.to_ne_bytes();
        [code0, code1, self.jt, self.jf, k0, k1, k2, k3]
    }
}

/// Offsets in struct seccomp_data.
const SECCOMP_DATA_NR: u32 = 0;
const SECCOMP_DATA_ARCH: u32 = 4;

/// Loads a word of struct seccomp_data.
fn load(offset: u32) -> Instruction {
    Instruction::new(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset)
}

/// Instructions to run before libseccomp's program for `arch`: ENOSYS for system calls newer than
/// every one that the profile names, so that a C library which tries a new call first falls back
/// to the old one instead of failing with the profile's error.
fn enosys_for_newer(arch: ScmpArch, highest: u32) -> Vec<Instruction> {
    let enosys = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;
    let mut instructions = vec![load(SECCOMP_DATA_NR)];
    for (first, last) in unknown_ranges(arch, highest) {
        instructions.push(Instruction::jump(libc::BPF_JGE, first, 0, 2));
        instructions.push(Instruction::jump(libc::BPF_JGT, last, 1, 0));
        instructions.push(Instruction::new(libc::BPF_RET | libc::BPF_K, enosys));
    }
    instructions
}

/// One step of the head that [`link`] writes.
enum Step {
    Do(Instruction),
    /// Go to the part with this index.
    Goto(usize),
}

/// One program of several: a head that goes to the part for the caller's architecture, and kills
/// the thread where there is none, as libseccomp does.
fn link(parts: &[(ScmpArch, Vec<u8>)]) -> Vec<u8> {
    let x32 = parts.iter().position(|(arch, _)| *arch == ScmpArch::X32);
    let mut head = vec![Step::Do(load(SECCOMP_DATA_ARCH))];
    for (i, (arch, _)) in parts.iter().enumerate() {
        let is = |skip| Step::Do(Instruction::jump(libc::BPF_JEQ, audit_arch(*arch), 0, skip));
        match x32 {
            // For the kernel x32 is x86_64 with a bit set in the number.
            Some(x32) if *arch == ScmpArch::X8664 => head.extend([
                is(4),
                Step::Do(load(SECCOMP_DATA_NR)),
                Step::Do(Instruction::jump(libc::BPF_JSET, X32_SYSCALL_BIT, 0, 1)),
                Step::Goto(x32),
                Step::Goto(i),
            ]),
            Some(x32) if i == x32 => {}
            _ => head.extend([is(1), Step::Goto(i)]),
        }
    }
    let kill = Instruction::new(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_KILL_THREAD);
    head.push(Step::Do(kill));

    let mut program = Vec::new();
    for (at, step) in head.iter().enumerate() {
        let instruction = match step {
            Step::Do(instruction) => *instruction,
            Step::Goto(part) => {
                let before: usize = parts.iter().take(*part).map(|(_, part)| part.len()).sum();
                let skip = head.len() - at - 1 + before / INSTRUCTION;
                Instruction::new(libc::BPF_JMP | libc::BPF_JA, skip as u32)
            }
        };
        program.extend(instruction.bytes());
    }
    program.extend(parts.iter().flat_map(|(_, part)| part));
    program
}

/// AUDIT_ARCH_* as the kernel reports it; libseccomp's numbers are the same but for x32.
fn audit_arch(arch: ScmpArch) -> u32 {
    let row = ARCHITECTURES.iter().find(|(_, _, known)| *known == arch);
    // The table holds every architecture; no machine has the number 0.
    row.map_or(0, |(_, arch, _)| *arch as u32)
}

/// First and last of each range of numbers to answer with ENOSYS.
fn unknown_ranges(arch: ScmpArch, highest: u32) -> Vec<(u32, u32)> {
    let mut ranges = Vec::new();
    if matches!(arch, ScmpArch::S390 | ScmpArch::S390X) {
        // Number 0 carries those calls there whose own number the kernel does not know.
        ranges.push((0, 0));
    }
    if let Some(first) = highest.checked_add(1) {
        ranges.push((first, last_number(arch)));
    }
    ranges
}

#[cfg(test)]
mod tests;
