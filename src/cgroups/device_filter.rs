//! The device rules in the form the kernel takes: exceptions in the files of the v1 devices
//! controller, or a BPF program on a v2 group.

use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};

use super::dir::{Dir, write_once};
use crate::error::{Context, Fault, Kind, Result};
use crate::plan::resources::devices::{ALL, DeviceKind, DeviceRule, MKNOD, READ, WRITE};
use crate::sys::bpf::{self, Instruction};

const FIELD: &str = "config.json: linux.resources.devices";

/// What the v1 controller can hold: a default and exceptions from it.
#[derive(Debug, PartialEq, Eq)]
struct Policy {
    default_allow: bool,
    exceptions: Vec<DeviceRule>,
}

/// Plays the rules through. The kernel would silently ignore a rule that takes back part of a
/// wider exception; that would allow what config.json denies, so it is refused here.
fn fold(rules: &[DeviceRule]) -> Result<Policy> {
    let mut policy = Policy { default_allow: false, exceptions: Vec::new() };
    for rule in rules {
        if rule.is_total() {
            policy = Policy { default_allow: rule.allow, exceptions: Vec::new() };
        } else if rule.allow != policy.default_allow {
            add(&mut policy.exceptions, rule);
        } else {
            take_back(&mut policy.exceptions, rule)?;
        }
    }
    Ok(policy)
}

/// The kernel merges exceptions for the same devices; rules for "both kinds" become two, since
/// the files know `a` only as "everything".
fn add(exceptions: &mut Vec<DeviceRule>, rule: &DeviceRule) {
    for kind in [DeviceKind::Block, DeviceKind::Char] {
        if rule.kind.is_some_and(|k| k != kind) {
            continue;
        }
        let rule = DeviceRule { kind: Some(kind), ..*rule };
        match exceptions.iter_mut().find(|old| old.is_within(&rule) && rule.is_within(old)) {
            Some(old) => old.access |= rule.access,
            None => exceptions.push(rule),
        }
    }
}

fn take_back(exceptions: &mut Vec<DeviceRule>, rule: &DeviceRule) -> Result<()> {
    for exception in exceptions.iter_mut().filter(|e| e.access & rule.access != 0) {
        if exception.is_within(rule) {
            exception.access &= !rule.access;
        } else if exception.meets(rule) {
            return Err(Fault::new(
                Kind::Unsupported,
                format!(
                    "{FIELD}: cgroup v1 cannot take \"{}\" back from the wider rule \"{}\"",
                    v1_line(rule),
                    v1_line(exception)
                ),
            )
            .hint("put the narrower rules where the wider one stands, or use cgroup v2")
            .into());
        }
    }
    exceptions.retain(|e| e.access != 0);
    Ok(())
}

/// A line for devices.allow or devices.deny.
fn v1_line(rule: &DeviceRule) -> String {
    let kind = match rule.kind {
        None => 'a',
        Some(DeviceKind::Block) => 'b',
        Some(DeviceKind::Char) => 'c',
    };
    let number = |n: Option<u32>| n.map_or("*".to_owned(), |n| n.to_string());
    let mut line = format!("{kind} {}:{} ", number(rule.major), number(rule.minor));
    for (bit, letter) in [(READ, 'r'), (WRITE, 'w'), (MKNOD, 'm')] {
        if rule.access & bit != 0 {
            line.push(letter);
        }
    }
    line
}

/// Sets the rules of a v1 group. Writing `a` first throws out what the group had.
pub(super) fn apply_v1(dir: &Dir, rules: &[DeviceRule]) -> Result<()> {
    let policy = fold(rules)?;
    let (reset, except) = if policy.default_allow {
        ("devices.allow", "devices.deny")
    } else {
        ("devices.deny", "devices.allow")
    };
    dir.write(reset, "a").with_context(|| message(dir, reset, "a"))?;
    if policy.exceptions.is_empty() {
        return Ok(());
    }
    let file = dir.file(except, OFlag::O_WRONLY).with_context(|| message(dir, except, ""))?;
    for rule in &policy.exceptions {
        let line = v1_line(rule);
        write_once(&file, &line).with_context(|| message(dir, except, &line))?;
    }
    Ok(())
}

fn message(dir: &Dir, file: &str, line: &str) -> String {
    format!("cannot write \"{line}\" to {}/{file} ({FIELD})", dir.path.display())
}

/// Sets the rules of a v2 group: the new program is there before the old one goes.
pub(super) fn apply_v2(dir: &Dir, rules: &[DeviceRule]) -> Result<()> {
    let cannot =
        |what: &str| format!("cannot {what} the device filter of {} ({FIELD})", dir.path.display());
    let program = load(&assemble(rules)).with_context(|| cannot("load"))?;
    let mut old = Vec::new();
    for id in bpf::device_programs(dir.as_fd()).with_context(|| cannot("look for"))? {
        old.push(bpf::program_by_id(id).with_context(|| cannot("open"))?);
    }
    // One is replaced in one step, so that at no moment the group has none, or two.
    if let [only] = old.as_slice() {
        match bpf::attach_device_program(dir.as_fd(), program.as_fd(), Some(only.as_fd())) {
            // Before Linux 5.6 there is no replacing.
            Err(Errno::EINVAL) => {}
            other => return other.with_context(|| cannot("replace")),
        }
    }
    bpf::attach_device_program(dir.as_fd(), program.as_fd(), None)
        .with_context(|| cannot("attach"))?;
    old.iter()
        .try_for_each(|old| bpf::detach_device_program(dir.as_fd(), old.as_fd()))
        .with_context(|| cannot("detach"))
}

/// Before Linux 5.11 programs count as locked memory; then the limit is lifted for the moment.
fn load(program: &[Instruction]) -> nix::Result<std::os::fd::OwnedFd> {
    let load = || bpf::load_device_program(program, b"corten_devices\0", c"Apache-2.0");
    match load() {
        Err(Errno::EPERM) => {
            let (soft, hard) = getrlimit(Resource::RLIMIT_MEMLOCK)?;
            setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY)?;
            let loaded = load();
            setrlimit(Resource::RLIMIT_MEMLOCK, soft, hard)?;
            loaded
        }
        other => other,
    }
}

// Registers: what the program returns and scratch, and the parts of `struct bpf_cgroup_dev_ctx`.
const RESULT: u8 = 0;
const CONTEXT: u8 = 1;
const KIND: u8 = 2;
const ACCESS: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;

// linux/bpf_common.h and linux/bpf.h: class | operation | source.
const LOAD_WORD: u8 = 0x61;
const MOVE: u8 = 0xb7;
const MOVE_REGISTER: u8 = 0xbf;
const AND: u8 = 0x57;
const SHIFT_RIGHT: u8 = 0x77;
const JUMP_IF_EQUAL: u8 = 0x15;
const JUMP_IF_NOT_EQUAL: u8 = 0x55;
const EXIT: u8 = 0x95;

fn instruction(code: u8, to: u8, from: u8, offset: i16, immediate: i32) -> Instruction {
    Instruction { code, registers: to | from << 4, offset, immediate }
}

/// The program goes through the rules from the last to the first. `ACCESS` holds what is still
/// undecided: a rule that allows takes its bits away, a rule that denies any of the rest ends in
/// refusal. What no rule decides is refused.
fn assemble(rules: &[DeviceRule]) -> Vec<Instruction> {
    let mut program = vec![
        instruction(LOAD_WORD, KIND, CONTEXT, 0, 0),
        instruction(MOVE_REGISTER, ACCESS, KIND, 0, 0),
        instruction(AND, KIND, 0, 0, 0xffff),
        instruction(SHIFT_RIGHT, ACCESS, 0, 0, 16),
        instruction(LOAD_WORD, MAJOR, CONTEXT, 4, 0),
        instruction(LOAD_WORD, MINOR, CONTEXT, 8, 0),
    ];
    for rule in rules.iter().rev() {
        let action = action(rule);
        if rule.is_total() {
            // The verifier does not take what cannot be reached, so no rule may follow.
            program.extend(action);
            return program;
        }
        let mut tests = Vec::new();
        if let Some(kind) = rule.kind {
            // BPF_DEVCG_DEV_BLOCK and BPF_DEVCG_DEV_CHAR
            let number = if kind == DeviceKind::Block { 1 } else { 2 };
            tests.push((KIND, number));
        }
        tests.extend(rule.major.map(|major| (MAJOR, major as i32)));
        tests.extend(rule.minor.map(|minor| (MINOR, minor as i32)));
        for (i, (register, value)) in tests.iter().enumerate() {
            let to_next_rule = tests.len() - 1 - i + action.len();
            let jump = instruction(JUMP_IF_NOT_EQUAL, *register, 0, to_next_rule as i16, *value);
            program.push(jump);
        }
        program.extend(action);
    }
    program.extend(end(false));
    program
}

fn end(allow: bool) -> [Instruction; 2] {
    [instruction(MOVE, RESULT, 0, 0, i32::from(allow)), instruction(EXIT, 0, 0, 0, 0)]
}

/// What a rule does with an access to a device that it matches.
fn action(rule: &DeviceRule) -> Vec<Instruction> {
    let bits = i32::from(rule.access);
    let mut action = match (rule.allow, rule.access == ALL) {
        (_, true) => Vec::new(),
        (true, false) => vec![
            instruction(AND, ACCESS, 0, 0, !bits & i32::from(ALL)),
            instruction(JUMP_IF_NOT_EQUAL, ACCESS, 0, 2, 0),
        ],
        (false, false) => vec![
            instruction(MOVE_REGISTER, RESULT, ACCESS, 0, 0),
            instruction(AND, RESULT, 0, 0, bits),
            instruction(JUMP_IF_EQUAL, RESULT, 0, 2, 0),
        ],
    };
    action.extend(end(rule.allow));
    action
}

#[cfg(test)]
mod tests;
