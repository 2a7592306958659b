//! The names of config.json beside those of libseccomp and the kernel. The compiler and the
//! features document read these tables.

use libseccomp::ScmpArch;
use oci_spec::runtime::{Arch, LinuxSeccompAction, LinuxSeccompFilterFlag, LinuxSeccompOperator};

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
pub(super) const FAMILIES: [&[ScmpArch]; 7] = [
    &[ScmpArch::X86, ScmpArch::X8664, ScmpArch::X32],
    &[ScmpArch::Arm, ScmpArch::Aarch64],
    &[ScmpArch::Mips, ScmpArch::Mips64, ScmpArch::Mips64N32],
    &[ScmpArch::Mipsel, ScmpArch::Mipsel64, ScmpArch::Mipsel64N32],
    &[ScmpArch::Parisc, ScmpArch::Parisc64],
    &[ScmpArch::Ppc, ScmpArch::Ppc64, ScmpArch::Ppc64Le],
    &[ScmpArch::S390, ScmpArch::S390X],
];
