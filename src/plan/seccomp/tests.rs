use oci_spec::runtime::Arch;

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
        assert_eq!(serde_json::from_value::<LinuxSeccompOperator>(json!(name)).unwrap(), operator);
    }
    for (name, flag, _) in FLAGS {
        assert_eq!(serde_json::from_value::<LinuxSeccompFilterFlag>(json!(name)).unwrap(), flag);
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
            let expected =
                format!("config.json: linux.seccomp.syscalls[0].errnoRet: {name} takes no errno");
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

    let either = plan(rule(json!(["dup2"]), "SCMP_ACT_ERRNO", json!([equal(0, 1), equal(0, 2)])));
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
    // Also one that this libseccomp is too old to know.
    assert_eq!(plan(profile(json!(["SCMP_ARCH_NATIVE", "SCMP_ARCH_LOONGARCH64"]))), native);
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
    let args: Vec<Value> =
        (0..4096).map(|value| json!({"index": 0, "value": value, "op": "SCMP_CMP_EQ"})).collect();
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

#[test]
fn more_rules_than_the_kernel_takes_are_refused_at_once() {
    let rule = |value| {
        json!({"names": ["read"], "action": "SCMP_ACT_ERRNO",
               "args": [{"index": 1, "value": value, "op": "SCMP_CMP_EQ"}]})
    };
    let rules: Vec<Value> = (0..20_000).map(rule).collect();
    assert_eq!(
        message(json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules})),
        "config.json: linux.seccomp.syscalls: 20000 rules, the kernel takes 4096 instructions; \
         hint: name fewer system calls or arguments"
    );
}
