use super::*;
use crate::plan::resources::ResourcesPlan;

fn rules(json: &str) -> Vec<DeviceRule> {
    let text = format!("{{\"devices\":{json}}}");
    let resources: oci_spec::runtime::LinuxResources = serde_json::from_str(&text).unwrap();
    ResourcesPlan::build(Some(&resources)).unwrap().devices
}

fn v1_lines(rules: &[DeviceRule]) -> (bool, Vec<String>) {
    let policy = fold(rules).unwrap();
    (policy.default_allow, policy.exceptions.iter().map(v1_line).collect())
}

#[test]
fn v1_starts_from_nothing() {
    // runc's list for a config.json that names no device.
    let (default_allow, lines) = v1_lines(&rules("[]"));
    assert!(!default_allow);
    assert_eq!(
        lines,
        [
            "c *:* m",
            "b *:* m",
            "c 1:3 rwm",
            "c 1:8 rwm",
            "c 1:7 rwm",
            "c 5:0 rwm",
            "c 1:5 rwm",
            "c 1:9 rwm",
            "c 136:* rwm",
            "c 5:2 rwm",
            "c 10:200 rwm",
        ]
    );
}

#[test]
fn v1_all_allowed_as_in_privileged_containers() {
    let all = rules(r#"[{"allow":false,"access":"rwm"},{"allow":true,"access":"rwm"}]"#);
    assert_eq!(v1_lines(&all), (true, Vec::new()));
}

#[test]
fn v1_merges_and_takes_back() {
    let list = rules(
        r#"[{"allow":true,"type":"b","major":8,"minor":0,"access":"r"},
            {"allow":true,"type":"b","major":8,"minor":0,"access":"w"},
            {"allow":true,"type":"b","major":8,"minor":1,"access":"rw"},
            {"allow":false,"type":"b","major":8,"access":"w"}]"#,
    );
    let (_, lines) = v1_lines(&list);
    assert_eq!(lines[..2], ["b 8:0 r", "b 8:1 r"]);
}

#[test]
fn v1_rule_for_both_kinds_is_not_everything() {
    // The kernel reads "a" with any numbers as "all devices".
    let list = rules(r#"[{"allow":true,"type":"a","major":8,"minor":0,"access":"rw"}]"#);
    let (default_allow, lines) = v1_lines(&list);
    assert!(!default_allow);
    assert_eq!(lines[..2], ["b 8:0 rw", "c 8:0 rw"]);
}

#[test]
fn v1_refuses_what_the_kernel_would_silently_ignore() {
    let list = rules(
        r#"[{"allow":true,"type":"c","major":4,"access":"rw"},
            {"allow":false,"type":"c","major":4,"minor":1,"access":"w"}]"#,
    );
    let error = fold(&list).unwrap_err().to_string();
    assert!(error.contains("take \"c 4:1 w\" back from the wider rule \"c 4:* rw\""), "{error}");
}

/// Runs a program as the kernel would, for the instructions that we use.
fn run(program: &[Instruction], kind: u64, access: u64, major: u64, minor: u64) -> bool {
    let context = [access << 16 | kind, major, minor];
    let mut registers = [0u64; 11];
    let mut at = 0usize;
    for _ in 0..10_000 {
        let Instruction { code, registers: r, offset, immediate } = program[at];
        let (to, from) = (usize::from(r & 15), usize::from(r >> 4));
        let constant = i64::from(immediate) as u64;
        at += 1;
        let jump = match code {
            LOAD_WORD => {
                registers[to] = context[offset as usize / 4];
                false
            }
            MOVE => {
                registers[to] = constant;
                false
            }
            MOVE_REGISTER => {
                registers[to] = registers[from];
                false
            }
            AND => {
                registers[to] &= constant;
                false
            }
            SHIFT_RIGHT => {
                registers[to] >>= constant;
                false
            }
            JUMP_IF_EQUAL => registers[to] == constant,
            JUMP_IF_NOT_EQUAL => registers[to] != constant,
            EXIT => return registers[0] == 1,
            other => panic!("instruction {other:#x}"),
        };
        if jump {
            at = at.checked_add_signed(isize::from(offset)).unwrap();
        }
    }
    panic!("the program does not end");
}

const BLOCK: u64 = 1;
const CHAR: u64 = 2;

#[test]
fn v2_program_decides_as_the_last_rule_that_matches() {
    let program = assemble(&rules(
        r#"[{"allow":true,"type":"c","major":4,"access":"rw"},
            {"allow":false,"type":"c","major":4,"minor":1,"access":"w"},
            {"allow":true,"type":"b","major":8,"minor":0,"access":"r"},
            {"allow":true,"type":"b","major":8,"minor":0,"access":"w"},
            {"allow":true,"type":"a","major":9,"minor":9,"access":"r"}]"#,
    ));
    let (m, r, w) = (u64::from(MKNOD), u64::from(READ), u64::from(WRITE));
    for (kind, access, major, minor, want) in [
        (CHAR, r | w, 4, 0, true),
        (CHAR, r, 4, 1, true),
        (CHAR, w, 4, 1, false),        // taken back
        (CHAR, r | w, 4, 1, false),    // partly taken back
        (CHAR, r | w | m, 4, 0, true), // mknod is always allowed
        (BLOCK, r, 4, 0, false),       // other kind
        (BLOCK, r | w, 8, 0, true),    // by two rules together
        (BLOCK, r, 8, 1, false),       // other minor
        (BLOCK, m, 8, 1, true),
        (CHAR, r, 9, 9, true),
        (BLOCK, r, 9, 9, true),
        (BLOCK, w, 9, 9, false),
        (CHAR, r | w | m, 1, 3, true), // null
        (CHAR, r, 1, 1, false),        // mem
        (CHAR, r, 5, 1, false),        // the host's console
        (CHAR, w, 136, 77, true),      // pts
    ] {
        assert_eq!(
            run(&program, kind, access, major, minor),
            want,
            "{kind} {access} {major}:{minor}"
        );
    }
}

#[test]
fn v2_program_with_everything_allowed_but_one() {
    let program = assemble(&rules(
        r#"[{"allow":true,"access":"rwm"},
            {"allow":false,"type":"b","major":7,"access":"rw"}]"#,
    ));
    assert!(run(&program, CHAR, 7, 1, 1));
    assert!(run(&program, BLOCK, 7, 8, 0));
    assert!(!run(&program, BLOCK, 2, 7, 0));
    assert!(!run(&program, BLOCK, 6, 7, 3));
}

#[test]
fn v2_program_ends_at_a_rule_for_everything() {
    let program = assemble(&[
        DeviceRule { allow: false, kind: Some(DeviceKind::Char), ..DeviceRule::DENY_ALL },
        DeviceRule { allow: true, ..DeviceRule::DENY_ALL },
    ]);
    assert_eq!(program.len(), 8, "six to set up, two to end");
    assert!(run(&program, CHAR, 7, 1, 1));
}
