//! Which devices the container may open or make: `linux.resources.devices` as an ordered list
//! in which the last rule that matches decides.

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType};
use serde::{Deserialize, Serialize};

use crate::error::{Fault, Result};

/// What a rule speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeviceKind {
    /// Block devices.
    Block,
    /// Character devices.
    Char,
}

/// mknod(2), as the kernel's `BPF_DEVCG_ACC_MKNOD` has it.
pub const MKNOD: u8 = 1;
/// Opening for reading (`BPF_DEVCG_ACC_READ`).
pub const READ: u8 = 2;
/// Opening for writing (`BPF_DEVCG_ACC_WRITE`).
pub const WRITE: u8 = 4;
/// All three.
pub const ALL: u8 = MKNOD | READ | WRITE;

/// One rule; `None` stands for "any".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRule {
    /// True to allow, false to deny.
    pub allow: bool,
    /// Block, character, or both.
    pub kind: Option<DeviceKind>,
    /// Major number.
    pub major: Option<u32>,
    /// Minor number.
    pub minor: Option<u32>,
    /// Bits of [`MKNOD`], [`READ`] and [`WRITE`]; never empty.
    pub access: u8,
}

impl DeviceRule {
    /// Denies everything: where each list starts, so that forgetting a rule denies (GHSA-g54h).
    pub const DENY_ALL: DeviceRule =
        DeviceRule { allow: false, kind: None, major: None, minor: None, access: ALL };

    const fn char(major: Option<u32>, minor: Option<u32>, access: u8) -> Self {
        DeviceRule { allow: true, kind: Some(DeviceKind::Char), major, minor, access }
    }

    /// True for a rule about every access to every device: it makes all earlier ones void.
    pub fn is_total(&self) -> bool {
        self.kind.is_none() && self.major.is_none() && self.minor.is_none() && self.access == ALL
    }

    /// True when every device this rule speaks of is one that `other` speaks of, too.
    pub fn is_within(&self, other: &DeviceRule) -> bool {
        fn within<T: PartialEq>(inner: &Option<T>, outer: &Option<T>) -> bool {
            outer.is_none() || inner == outer
        }
        within(&self.kind, &other.kind)
            && within(&self.major, &other.major)
            && within(&self.minor, &other.minor)
    }

    /// True when some device is spoken of by both.
    pub fn meets(&self, other: &DeviceRule) -> bool {
        fn meet<T: PartialEq>(a: &Option<T>, b: &Option<T>) -> bool {
            a.is_none() || b.is_none() || a == b
        }
        meet(&self.kind, &other.kind)
            && meet(&self.major, &other.major)
            && meet(&self.minor, &other.minor)
    }
}

/// What every container may use, whatever config.json says: the devices that the runtime itself
/// makes, and mknod(2) of anything (opening it is another matter). The list is runc's.
const ALWAYS: [DeviceRule; 11] = [
    DeviceRule::char(None, None, MKNOD),
    DeviceRule {
        allow: true,
        kind: Some(DeviceKind::Block),
        major: None,
        minor: None,
        access: MKNOD,
    },
    DeviceRule::char(Some(1), Some(3), ALL),    // null
    DeviceRule::char(Some(1), Some(8), ALL),    // random
    DeviceRule::char(Some(1), Some(7), ALL),    // full
    DeviceRule::char(Some(5), Some(0), ALL),    // tty
    DeviceRule::char(Some(1), Some(5), ALL),    // zero
    DeviceRule::char(Some(1), Some(9), ALL),    // urandom
    DeviceRule::char(Some(136), None, ALL),     // pts/*
    DeviceRule::char(Some(5), Some(2), ALL),    // ptmx
    DeviceRule::char(Some(10), Some(200), ALL), // net/tun, which engines count on
];

/// The whole list in order: deny all, the rules of config.json, what is always allowed.
pub(super) fn build(rules: Option<&Vec<LinuxDeviceCgroup>>) -> Result<Vec<DeviceRule>> {
    let mut list = vec![DeviceRule::DENY_ALL];
    for (i, rule) in rules.into_iter().flatten().enumerate() {
        list.push(one(rule, &format!("config.json: linux.resources.devices[{i}]"))?);
    }
    list.extend(ALWAYS);
    Ok(list)
}

fn one(rule: &LinuxDeviceCgroup, field: &str) -> Result<DeviceRule> {
    let kind = match rule.typ().unwrap_or_default() {
        LinuxDeviceType::A => None,
        LinuxDeviceType::B => Some(DeviceKind::Block),
        LinuxDeviceType::C | LinuxDeviceType::U => Some(DeviceKind::Char),
        LinuxDeviceType::P => {
            return Err(Fault::bad_input(format!("{field}.type: must be a, b or c, not p")).into());
        }
    };
    Ok(DeviceRule {
        allow: rule.allow(),
        kind,
        major: number(rule.major(), 0xfff, &format!("{field}.major"))?,
        minor: number(rule.minor(), 0xf_ffff, &format!("{field}.minor"))?,
        access: access(rule.access().as_deref().unwrap_or(""), field)?,
    })
}

/// A device number of the kernel (12 bits major, 20 bits minor); -1 is an older way to say "any".
fn number(value: Option<i64>, max: u32, field: &str) -> Result<Option<u32>> {
    match value {
        None | Some(-1) => Ok(None),
        Some(value) => match u32::try_from(value) {
            Ok(number) if number <= max => Ok(Some(number)),
            _ => Err(Fault::bad_input(format!(
                "{field}: {value} is no device number (0 to {max}, or -1 for any)"
            ))
            .into()),
        },
    }
}

fn access(text: &str, field: &str) -> Result<u8> {
    let mut bits = 0;
    for letter in text.chars() {
        bits |= match letter {
            'r' => READ,
            'w' => WRITE,
            'm' => MKNOD,
            _ => {
                return Err(Fault::bad_input(format!(
                    "{field}.access: \"{text}\" holds other letters than r, w and m"
                ))
                .into());
            }
        };
    }
    if bits == 0 {
        return Err(Fault::bad_input(format!("{field}.access: must not be empty")).into());
    }
    Ok(bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Result<Vec<DeviceRule>> {
        build(Some(&serde_json::from_str(json).unwrap()))
    }

    #[test]
    fn denies_first_and_always_allows_last() {
        let list = build(None).unwrap();
        assert_eq!(list[0], DeviceRule::DENY_ALL);
        assert_eq!(list.len(), 12);
        let null = DeviceRule::char(Some(1), Some(3), ALL);
        assert!(list.contains(&null));
        let given = parse(r#"[{"allow":true,"type":"b","major":8,"access":"r"}]"#).unwrap();
        assert_eq!(
            given[1],
            DeviceRule {
                allow: true,
                kind: Some(DeviceKind::Block),
                major: Some(8),
                minor: None,
                access: READ
            }
        );
        assert_eq!(given[2..], list[1..]);
    }

    #[test]
    fn minus_one_means_any_and_u_means_char() {
        let list =
            parse(r#"[{"allow":true,"type":"u","major":-1,"minor":-1,"access":"rwm"}]"#).unwrap();
        assert_eq!(list[1], DeviceRule::char(None, None, ALL));
    }

    #[test]
    fn refuses_and_names_the_field() {
        for (json, want) in [
            (r#"[{"allow":true}]"#, "devices[0].access: must not be empty"),
            (r#"[{"allow":true,"access":"x"}]"#, "devices[0].access: \"x\" holds"),
            (r#"[{"allow":true,"type":"p","access":"r"}]"#, "devices[0].type: must be"),
            (r#"[{"allow":true,"major":4096,"access":"r"}]"#, "devices[0].major: 4096 is no"),
            (r#"[{"allow":true,"minor":-2,"access":"r"}]"#, "devices[0].minor: -2 is no"),
        ] {
            let text = parse(json).unwrap_err().to_string();
            assert!(text.contains(want), "{text}");
            assert!(text.starts_with("config.json: linux.resources."), "{text}");
        }
    }
}
