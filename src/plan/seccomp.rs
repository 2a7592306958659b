//! linux.seccomp as a BPF program, ready to load (spec config-linux.md "Seccomp", seccomp(2),
//! seccomp_rule_add(3)).

use std::fs::File;
use std::io::{Read, Seek};
use std::path::PathBuf;

use libseccomp::{
    ScmpAction, ScmpArch, ScmpArgCompare, ScmpCompareOp, ScmpFilterContext, ScmpSyscall,
    ScmpVersion,
};
use nix::sys::memfd::{MFdFlags, memfd_create};
use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompFilterFlag,
    LinuxSeccompOperator,
};

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

/// Actions: name in config.json, and SECCOMP_RET_* of the kernel.
pub const ACTIONS: [(&str, LinuxSeccompAction, u32); 9] = [
    ("SCMP_ACT_ALLOW", LinuxSeccompAction::ScmpActAllow, libc::SECCOMP_RET_ALLOW),
    ("SCMP_ACT_ERRNO", LinuxSeccompAction::ScmpActErrno, libc::SECCOMP_RET_ERRNO),
    ("SCMP_ACT_KILL", LinuxSeccompAction::ScmpActKill, libc::SECCOMP_RET_KILL_THREAD),
    (
        "SCMP_ACT_KILL_PROCESS",
        LinuxSeccompAction::ScmpActKillProcess,
        libc::SECCOMP_RET_KILL_PROCESS,
    ),
    ("SCMP_ACT_KILL_THREAD", LinuxSeccompAction::ScmpActKillThread, libc::SECCOMP_RET_KILL_THREAD),
    ("SCMP_ACT_LOG", LinuxSeccompAction::ScmpActLog, libc::SECCOMP_RET_LOG),
    ("SCMP_ACT_NOTIFY", LinuxSeccompAction::ScmpActNotify, libc::SECCOMP_RET_USER_NOTIF),
    ("SCMP_ACT_TRACE", LinuxSeccompAction::ScmpActTrace, libc::SECCOMP_RET_TRACE),
    ("SCMP_ACT_TRAP", LinuxSeccompAction::ScmpActTrap, libc::SECCOMP_RET_TRAP),
];

/// Comparisons of an argument, by the name of config.json.
pub const OPERATORS: [(&str, LinuxSeccompOperator); 7] = [
    ("SCMP_CMP_EQ", LinuxSeccompOperator::ScmpCmpEq),
    ("SCMP_CMP_GE", LinuxSeccompOperator::ScmpCmpGe),
    ("SCMP_CMP_GT", LinuxSeccompOperator::ScmpCmpGt),
    ("SCMP_CMP_LE", LinuxSeccompOperator::ScmpCmpLe),
    ("SCMP_CMP_LT", LinuxSeccompOperator::ScmpCmpLt),
    ("SCMP_CMP_MASKED_EQ", LinuxSeccompOperator::ScmpCmpMaskedEq),
    ("SCMP_CMP_NE", LinuxSeccompOperator::ScmpCmpNe),
];

/// Flags of seccomp(2), by the name of config.json.
pub const FLAGS: [(&str, LinuxSeccompFilterFlag, u32); 4] = [
    (
        "SECCOMP_FILTER_FLAG_LOG",
        LinuxSeccompFilterFlag::SeccompFilterFlagLog,
        libc::SECCOMP_FILTER_FLAG_LOG as u32,
    ),
    (
        "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
        LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow,
        libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW as u32,
    ),
    (
        "SECCOMP_FILTER_FLAG_TSYNC",
        LinuxSeccompFilterFlag::SeccompFilterFlagTsync,
        libc::SECCOMP_FILTER_FLAG_TSYNC as u32,
    ),
    (
        "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
        LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv,
        libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV as u32,
    ),
];

/// Architectures: name in config.json, and libseccomp's. SCMP_ARCH_NATIVE stands for one of them.
pub const ARCHITECTURES: [(&str, Arch, ScmpArch); 23] = [
    ("SCMP_ARCH_AARCH64", Arch::ScmpArchAarch64, ScmpArch::Aarch64),
    ("SCMP_ARCH_ARM", Arch::ScmpArchArm, ScmpArch::Arm),
    ("SCMP_ARCH_LOONGARCH64", Arch::ScmpArchLoongarch64, ScmpArch::Loongarch64),
    ("SCMP_ARCH_M68K", Arch::ScmpArchM68k, ScmpArch::M68k),
    ("SCMP_ARCH_MIPS", Arch::ScmpArchMips, ScmpArch::Mips),
    ("SCMP_ARCH_MIPS64", Arch::ScmpArchMips64, ScmpArch::Mips64),
    ("SCMP_ARCH_MIPS64N32", Arch::ScmpArchMips64n32, ScmpArch::Mips64N32),
    ("SCMP_ARCH_MIPSEL", Arch::ScmpArchMipsel, ScmpArch::Mipsel),
    ("SCMP_ARCH_MIPSEL64", Arch::ScmpArchMipsel64, ScmpArch::Mipsel64),
    ("SCMP_ARCH_MIPSEL64N32", Arch::ScmpArchMipsel64n32, ScmpArch::Mipsel64N32),
    ("SCMP_ARCH_PARISC", Arch::ScmpArchParisc, ScmpArch::Parisc),
    ("SCMP_ARCH_PARISC64", Arch::ScmpArchParisc64, ScmpArch::Parisc64),
    ("SCMP_ARCH_PPC", Arch::ScmpArchPpc, ScmpArch::Ppc),
    ("SCMP_ARCH_PPC64", Arch::ScmpArchPpc64, ScmpArch::Ppc64),
    ("SCMP_ARCH_PPC64LE", Arch::ScmpArchPpc64le, ScmpArch::Ppc64Le),
    ("SCMP_ARCH_RISCV64", Arch::ScmpArchRiscv64, ScmpArch::Riscv64),
    ("SCMP_ARCH_S390", Arch::ScmpArchS390, ScmpArch::S390),
    ("SCMP_ARCH_S390X", Arch::ScmpArchS390x, ScmpArch::S390X),
    ("SCMP_ARCH_SH", Arch::ScmpArchSh, ScmpArch::Sh),
    ("SCMP_ARCH_SHEB", Arch::ScmpArchSheb, ScmpArch::Sheb),
    ("SCMP_ARCH_X32", Arch::ScmpArchX32, ScmpArch::X32),
    ("SCMP_ARCH_X86", Arch::ScmpArchX86, ScmpArch::X86),
    ("SCMP_ARCH_X86_64", Arch::ScmpArchX86_64, ScmpArch::X8664),
];

/// Architectures whose programs one kernel runs side by side.
const FAMILIES: [&[ScmpArch]; 7] = [
    &[ScmpArch::X86, ScmpArch::X8664, ScmpArch::X32],
    &[ScmpArch::Arm, ScmpArch::Aarch64],
    &[ScmpArch::Mips, ScmpArch::Mips64, ScmpArch::Mips64N32],
    &[ScmpArch::Mipsel, ScmpArch::Mipsel64, ScmpArch::Mipsel64N32],
    &[ScmpArch::Parisc, ScmpArch::Parisc64],
    &[ScmpArch::Ppc, ScmpArch::Ppc64, ScmpArch::Ppc64Le],
    &[ScmpArch::S390, ScmpArch::S390X],
];

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
    let architectures = architectures(profile)?;
    let listener = listener(profile)?;
    let flags = flags(profile, listener.is_some())?;
    let rules = rules(profile, default)?;
    let mut parts = Vec::new();
    for arch in architectures {
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
fn architectures(profile: &LinuxSeccomp) -> Result<Vec<ScmpArch>> {
    let native = ScmpArch::native();
    let mut list = vec![native];
    for (i, wanted) in profile.architectures().iter().flatten().enumerate() {
        let row = ARCHITECTURES.iter().find(|(_, arch, _)| arch == wanted);
        let arch = row.map_or(native, |(_, _, arch)| *arch);
        // Every architecture has this call: no number means that libseccomp lacks the table.
        if ScmpSyscall::from_name_by_arch("read", arch).is_err() {
            return Err(Fault::new(
                Kind::Unsupported,
                format!(
                    "{FIELD}.architectures[{i}]: {wanted} is not known to libseccomp {}",
                    library_version()
                ),
            )
            .into());
        }
        if !FAMILIES.iter().any(|f| f.contains(&arch) && f.contains(&native)) && arch != native {
            log::debug!("seccomp: this machine never runs {wanted}, left out of the filter");
        } else if !list.contains(&arch) {
            list.push(arch);
        }
    }
    Ok(list)
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
mod tests {
    use super::*;
    use crate::error::render_line;
    use serde_json::{Value, json};

    // AUDIT_ARCH_* of linux/audit.h, x32's bit of asm/unistd.h, SECCOMP_RET_* of linux/seccomp.h.
    const X86_64: u32 = 0xc000_003e;
    const I386: u32 = 0x4000_0003;
    const X32: u32 = 0x4000_0000;
    const ALLOW: u32 = 0x7fff_0000;
    const KILL_THREAD: u32 = 0;
    const EPERM: u32 = 0x0005_0001;
    const ENOSYS: u32 = 0x0005_0026;

    fn parse(profile: Value) -> LinuxSeccomp {
        serde_json::from_value(profile).unwrap()
    }

    fn plan(profile: Value) -> SeccompPlan {
        compile(&parse(profile)).unwrap()
    }

    fn message(profile: Value) -> String {
        render_line(&compile(&parse(profile)).unwrap_err())
    }

    /// What the kernel would do: an interpreter of the classic BPF that seccomp(2) allows.
    fn run(plan: &SeccompPlan, arch: u32, nr: u32, args: [u64; 6]) -> u32 {
        interpret(&plan.program, arch, nr, args)
    }

    fn interpret(program: &[u8], arch: u32, nr: u32, args: [u64; 6]) -> u32 {
        let mut data = [0u8; 64];
        data[0..4].copy_from_slice(&nr.to_ne_bytes());
        data[4..8].copy_from_slice(&arch.to_ne_bytes());
        for (i, arg) in args.iter().enumerate() {
            data[16 + 8 * i..24 + 8 * i].copy_from_slice(&arg.to_ne_bytes());
        }
        let (mut a, mut at) = (0u32, 0);
        loop {
            let word: &[u8; 8] = program[8 * at..8 * at + 8].try_into().unwrap();
            let code = u16::from_ne_bytes([word[0], word[1]]);
            let k = u32::from_ne_bytes(word[4..8].try_into().unwrap());
            at += 1;
            let holds = match code {
                0x20 => {
                    a = u32::from_ne_bytes(data[k as usize..k as usize + 4].try_into().unwrap());
                    continue;
                }
                0x54 => {
                    a &= k;
                    continue;
                }
                0x05 => {
                    at += k as usize;
                    continue;
                }
                0x06 => return k,
                0x15 => a == k,
                0x25 => a > k,
                0x35 => a >= k,
                0x45 => a & k != 0,
                _ => panic!("instruction {code:#x} is none that seccomp takes"),
            };
            at += usize::from(if holds { word[2] } else { word[3] });
        }
    }

    /// The verdict on a call without arguments of interest.
    fn verdict(plan: &SeccompPlan, arch: u32, nr: u32) -> u32 {
        run(plan, arch, nr, [0; 6])
    }

    fn rule(names: Value, action: &str, args: Value) -> Value {
        json!({"defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{"names": names, "action": action, "args": args}]})
    }

    #[test]
    fn tables_have_the_names_of_the_spec() {
        for (name, action, ret) in ACTIONS {
            assert_eq!(name, action.to_string());
            assert_eq!(serde_json::from_value::<LinuxSeccompAction>(json!(name)).unwrap(), action);
            // seccomp_init(3) stands for the action as the kernel spells it.
            assert_eq!(u32::from(action) & libc::SECCOMP_RET_ACTION_FULL, ret, "{name}");
        }
        for (name, operator) in OPERATORS {
            assert_eq!(
                serde_json::from_value::<LinuxSeccompOperator>(json!(name)).unwrap(),
                operator
            );
        }
        for (name, flag, _) in FLAGS {
            assert_eq!(
                serde_json::from_value::<LinuxSeccompFilterFlag>(json!(name)).unwrap(),
                flag
            );
        }
        for (name, arch, library) in ARCHITECTURES {
            assert_eq!(serde_json::from_value::<Arch>(json!(name)).unwrap(), arch);
            assert_eq!(name.parse::<ScmpArch>().unwrap(), library);
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn every_action_reaches_the_kernel_as_it_is() {
        for (name, _, ret) in ACTIONS {
            if name == "SCMP_ACT_ALLOW" {
                continue;
            }
            let mut profile = rule(json!(["getpid"]), name, json!([]));
            profile["listenerPath"] = json!("/run/agent");
            let errno = ["SCMP_ACT_ERRNO", "SCMP_ACT_TRACE"].contains(&name);
            let plan = plan(profile.clone());
            // Without errnoRet it is EPERM.
            assert_eq!(verdict(&plan, X86_64, 39), ret | u32::from(errno), "{name}");
            assert_eq!(verdict(&plan, X86_64, 40), ALLOW, "{name}");

            profile["syscalls"][0]["errnoRet"] = json!(11);
            if errno {
                assert_eq!(verdict(&super::tests::plan(profile), X86_64, 39), ret | 11);
            } else {
                let expected = format!(
                    "config.json: linux.seccomp.syscalls[0].errnoRet: {name} takes no errno"
                );
                assert_eq!(message(profile), expected);
            }
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn every_operator_compares_64_bits() {
        const BIG: u64 = 1 << 40;
        type Case = (&'static str, u64, Option<u64>, &'static [u64], &'static [u64]);
        // dup2 is 33; holds for these, fails for those.
        let cases: [Case; 7] = [
            ("SCMP_CMP_EQ", BIG, None, &[BIG], &[0, BIG + 1]),
            ("SCMP_CMP_NE", BIG, None, &[0, BIG + 1], &[BIG]),
            ("SCMP_CMP_LT", BIG, None, &[0, BIG - 1], &[BIG, BIG + 1]),
            ("SCMP_CMP_LE", BIG, None, &[BIG - 1, BIG], &[BIG + 1, 2 * BIG]),
            ("SCMP_CMP_GE", BIG, None, &[BIG, BIG + 1], &[1, BIG - 1]),
            ("SCMP_CMP_GT", BIG, None, &[BIG + 1, 2 * BIG], &[BIG]),
            ("SCMP_CMP_MASKED_EQ", 0xf0, Some(0x30), &[0x30, 0x3f, BIG | 0x31], &[0, 0x40, 0x70]),
        ];
        for (op, value, two, hold, fail) in cases {
            let args = json!([{"index": 1, "value": value, "valueTwo": two, "op": op}]);
            let plan = plan(rule(json!(["dup2"]), "SCMP_ACT_ERRNO", args));
            for arg in hold {
                assert_eq!(run(&plan, X86_64, 33, [0, *arg, 0, 0, 0, 0]), EPERM, "{op} {arg:#x}");
            }
            for arg in fail {
                assert_eq!(run(&plan, X86_64, 33, [0, *arg, 0, 0, 0, 0]), ALLOW, "{op} {arg:#x}");
            }
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn several_arguments_must_all_hold_but_one_argument_twice_is_two_rules() {
        let equal =
            |index: usize, value: u64| json!({"index": index, "value": value, "op": "SCMP_CMP_EQ"});
        let both = plan(rule(json!(["dup2"]), "SCMP_ACT_ERRNO", json!([equal(0, 1), equal(1, 2)])));
        assert_eq!(run(&both, X86_64, 33, [1, 2, 0, 0, 0, 0]), EPERM);
        assert_eq!(run(&both, X86_64, 33, [1, 3, 0, 0, 0, 0]), ALLOW);

        let either =
            plan(rule(json!(["dup2"]), "SCMP_ACT_ERRNO", json!([equal(0, 1), equal(0, 2)])));
        for (arg, expected) in [(1, EPERM), (2, EPERM), (3, ALLOW)] {
            assert_eq!(run(&either, X86_64, 33, [arg, 0, 0, 0, 0, 0]), expected);
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn calls_newer_than_the_profile_get_enosys_on_each_architecture() {
        // close_range is 436 everywhere, read is 0 on x86_64 and x32, 3 on i386.
        let mut profile = json!({
            "defaultAction": "SCMP_ACT_ERRNO",
            "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
            "syscalls": [{"names": ["read", "close_range"], "action": "SCMP_ACT_ALLOW"}]
        });
        let three = plan(profile.clone());
        for (arch, read, bit) in [(X86_64, 0, 0), (I386, 3, 0), (X86_64, 0, X32)] {
            assert_eq!(verdict(&three, arch, read | bit), ALLOW);
            assert_eq!(verdict(&three, arch, 100 | bit), EPERM);
            assert_eq!(verdict(&three, arch, 436 | bit), ALLOW);
            assert_eq!(verdict(&three, arch, 437 | bit), ENOSYS);
            assert_eq!(verdict(&three, arch, 0x3fff_ffff | bit), ENOSYS);
        }
        // An architecture that is not in the filter is killed, whatever the number: aarch64.
        assert_eq!(verdict(&three, 0xc000_00b7, 1000), KILL_THREAD);

        // x32 is no newer x86_64: without it in the profile it stays what libseccomp makes of it.
        profile["architectures"] = json!([]);
        let native = plan(profile);
        assert_eq!(verdict(&native, X86_64, 437), ENOSYS);
        assert_eq!(verdict(&native, X86_64, 0x3fff_ffff), ENOSYS);
        assert_eq!(verdict(&native, X86_64, X32), KILL_THREAD);
        assert_eq!(verdict(&native, X86_64, X32 | 437), KILL_THREAD);
        assert_eq!(verdict(&native, I386, 437), KILL_THREAD);
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn enosys_only_where_the_default_denies() {
        let default = |action: &str| {
            plan(json!({"defaultAction": action,
                "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ERRNO", "errnoRet": 2}]}))
        };
        for action in ["SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_TRACE"] {
            assert_ne!(verdict(&default(action), X86_64, 1000), ENOSYS, "{action}");
        }
        for action in ["SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_TRAP"] {
            assert_eq!(verdict(&default(action), X86_64, 1000), ENOSYS, "{action}");
        }
    }

    #[test]
    fn on_s390_number_zero_stands_for_unknown_calls() {
        assert_eq!(unknown_ranges(ScmpArch::S390X, 449), [(0, 0), (450, u32::MAX)]);
        // ARM's private calls begin at 0xf0000.
        assert_eq!(unknown_ranges(ScmpArch::Arm, 449), [(450, 0xe_ffff)]);
        assert_eq!(number("set_tls", ScmpArch::Arm), Some(0xf_0005));
        let arm = parse(rule(json!(["set_tls", "openat2"]), "SCMP_ACT_ERRNO", json!([])));
        assert_eq!(highest(&arm, ScmpArch::Arm), Some(437));
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn a_long_profile_decides_like_a_short_one() {
        // The first 60 numbers of x86_64: enough for the binary tree.
        let names: Vec<String> = (0..60)
            .map(|n| ScmpSyscall::from_raw_syscall(n).get_name_by_arch(ScmpArch::X8664).unwrap())
            .collect();
        let profile = |archs: Value| {
            json!({"defaultAction": "SCMP_ACT_ERRNO", "architectures": archs,
                "syscalls": [{"names": &names, "action": "SCMP_ACT_ALLOW"}]})
        };
        let tree = plan(profile(json!([])));
        for nr in 0..60 {
            assert_eq!(verdict(&tree, X86_64, nr), ALLOW, "{nr}");
        }
        assert_eq!(verdict(&tree, X86_64, 60), ENOSYS);

        // i386 has no newfstatat: no rule, and no tree, in its part.
        let args: Vec<Value> =
            (0..40).map(|value| json!({"index": 0, "value": value, "op": "SCMP_CMP_EQ"})).collect();
        let plan = plan(json!({"defaultAction": "SCMP_ACT_ERRNO",
            "architectures": ["SCMP_ARCH_X86"],
            "syscalls": [{"names": ["newfstatat"], "action": "SCMP_ACT_ALLOW", "args": args}]}));
        assert_eq!(run(&plan, X86_64, 262, [39, 0, 0, 0, 0, 0]), ALLOW);
        assert_eq!(run(&plan, X86_64, 262, [40, 0, 0, 0, 0, 0]), EPERM);
        assert_eq!(verdict(&plan, I386, 20), EPERM);
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn the_linked_parts_decide_like_libseccomps_one_filter() {
        for name in ["default", "strict"] {
            let profile: Value = serde_json::from_str(builtin(name).unwrap()).unwrap();
            let ours = plan(profile.clone());
            let mut one = ScmpFilterContext::new(ScmpAction::Errno(libc::EPERM)).unwrap();
            if name == "default" {
                one.add_arch(ScmpArch::X86).unwrap().add_arch(ScmpArch::X32).unwrap();
            }
            let profile = parse(profile);
            for rule in rules(&profile, ScmpAction::Errno(libc::EPERM)).unwrap() {
                one.add_rule_conditional(rule.action, rule.syscall, &rule.comparisons).unwrap();
            }
            let one = export(&one).unwrap();
            // Up to futex_waitv, the newest call in the profiles that libseccomp 2.5.4 knows.
            for nr in 0..=449 {
                for arch in [X86_64, I386, 0xc000_00b7] {
                    for (nr, arg) in [0, X32].into_iter().flat_map(|bit| {
                        [0, 1, 15, 16, 38, 40, 0x5401, 0x1000_0011].map(|arg| (nr | bit, arg))
                    }) {
                        if arch == I386 && nr >= X32 {
                            continue;
                        }
                        assert_eq!(
                            interpret(&ours.program, arch, nr, [arg; 6]),
                            interpret(&one, arch, nr, [arg; 6]),
                            "{name}: {arch:#x} {nr} {arg}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn unknown_names_and_redundant_rules_are_skipped() {
        let profile = |names: Value| {
            json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [
                {"names": names, "action": "SCMP_ACT_ALLOW"},
                {"names": ["mount"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}]})
        };
        assert_eq!(plan(profile(json!(["read", "no_such_call"]))), plan(profile(json!(["read"]))));
    }

    #[test]
    fn architectures_of_other_machines_are_left_out() {
        let profile = |archs: Value| {
            json!({"defaultAction": "SCMP_ACT_ERRNO", "architectures": archs,
                "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ALLOW"}]})
        };
        let native = plan(profile(json!([])));
        assert_eq!(plan(profile(json!(["SCMP_ARCH_NATIVE"]))), native);
        assert_eq!(plan(profile(json!(["SCMP_ARCH_S390X", "SCMP_ARCH_RISCV64"]))), native);
        if library_version() == "2.5.4" {
            assert_eq!(
                message(profile(json!(["SCMP_ARCH_NATIVE", "SCMP_ARCH_LOONGARCH64"]))),
                "config.json: linux.seccomp.architectures[1]: SCMP_ARCH_LOONGARCH64 is not known \
                 to libseccomp 2.5.4"
            );
        }
    }

    #[test]
    fn flags_as_runc_passes_them() {
        let flags = |list: Option<Value>| {
            let mut profile = json!({"defaultAction": "SCMP_ACT_ALLOW"});
            if let Some(list) = list {
                profile["flags"] = list;
            }
            plan(profile).flags
        };
        // Expected values of runc's tests/integration/seccomp.bats.
        assert_eq!(flags(None), 4);
        assert_eq!(flags(Some(json!([]))), 0);
        assert_eq!(flags(Some(json!(["SECCOMP_FILTER_FLAG_TSYNC"]))), 0);
        assert_eq!(flags(Some(json!(["SECCOMP_FILTER_FLAG_LOG"]))), 2);
        let both = json!(["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW"]);
        assert_eq!(flags(Some(both)), 6);
    }

    #[test]
    fn a_listener_comes_with_its_rule_only() {
        let mut profile = rule(json!(["mkdir"]), "SCMP_ACT_NOTIFY", json!([]));
        assert_eq!(
            message(profile.clone()),
            "config.json: linux.seccomp.listenerPath: missing, but syscalls[0].action is \
             SCMP_ACT_NOTIFY"
        );
        profile["listenerPath"] = json!("/run/agent");
        profile["listenerMetadata"] = json!("foo");
        profile["flags"] =
            json!(["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV", "SECCOMP_FILTER_FLAG_TSYNC"]);
        let with = plan(profile.clone());
        let listener = Listener { path: "/run/agent".into(), metadata: Some("foo".into()) };
        assert_eq!(with.listener, Some(listener));
        // NEW_LISTENER and WAIT_KILLABLE_RECV of linux/seccomp.h.
        assert_eq!(with.flags, 1 << 3 | 1 << 5);

        profile["syscalls"][0]["action"] = json!("SCMP_ACT_ERRNO");
        assert_eq!(
            message(profile.clone()),
            "config.json: linux.seccomp.flags[0]: SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV needs a \
             rule with SCMP_ACT_NOTIFY"
        );
        profile["flags"] = json!([]);
        let without = plan(profile.clone());
        assert_eq!((without.listener, without.flags), (None, 0));

        profile.as_object_mut().unwrap().remove("listenerPath");
        assert_eq!(
            message(profile),
            "config.json: linux.seccomp.listenerMetadata: must not be set without listenerPath"
        );
    }

    #[test]
    fn what_cannot_be_is_named() {
        let with_args = |args: Value| rule(json!(["dup2"]), "SCMP_ACT_ERRNO", args);
        let cases = [
            (
                json!({"defaultAction": "SCMP_ACT_NOTIFY", "listenerPath": "/a"}),
                "defaultAction: SCMP_ACT_NOTIFY cannot be the default",
            ),
            (
                json!({"defaultAction": "SCMP_ACT_ALLOW", "defaultErrnoRet": 1}),
                "defaultErrnoRet: SCMP_ACT_ALLOW takes no errno",
            ),
            (
                json!({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 4095}),
                "defaultErrnoRet: 4095 is more than 4094",
            ),
            (
                with_args(json!([{"index": 6, "value": 0, "op": "SCMP_CMP_EQ"}])),
                "syscalls[0].args[0].index: 6 is more than 5",
            ),
            (rule(json!([]), "SCMP_ACT_ERRNO", json!([])), "syscalls[0].names: empty"),
            (rule(json!(["read", ""]), "SCMP_ACT_ERRNO", json!([])), "syscalls[0].names[1]: empty"),
            (
                rule(json!(["read", "write"]), "SCMP_ACT_NOTIFY", json!([])),
                "syscalls[0].names[1]: SCMP_ACT_NOTIFY cannot be used for write",
            ),
        ];
        for (profile, expected) in cases {
            let message = message(profile);
            let expected = format!("config.json: linux.seccomp.{expected}");
            assert!(message.starts_with(&expected), "{message}");
        }
    }

    #[test]
    fn a_program_that_the_kernel_would_refuse_is_refused_before() {
        let args: Vec<Value> = (0..4200)
            .map(|value| json!({"index": 0, "value": value, "op": "SCMP_CMP_EQ"}))
            .collect();
        let profile = rule(json!(["dup2"]), "SCMP_ACT_ERRNO", json!(args));
        let message = message(profile);
        assert!(message.contains("instructions, the kernel takes 4096"), "{message}");
    }

    #[test]
    fn a_plan_survives_its_file() {
        let mut profile = rule(json!(["mkdir"]), "SCMP_ACT_NOTIFY", json!([]));
        profile["listenerPath"] = json!("/run/agent");
        let plan = plan(profile);
        let text = serde_json::to_string(&plan).unwrap();
        assert_eq!(serde_json::from_str::<SeccompPlan>(&text).unwrap(), plan);
    }
}
