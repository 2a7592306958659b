//! `linux.netDevices` (spec config-linux.md "Network Devices").

use std::collections::BTreeMap;

use oci_spec::runtime::LinuxNamespaceType as NamespaceType;

use super::Facts;
use crate::config::faults::Faults;

/// IFNAMSIZ of linux/if.h without the NUL.
const MAX_NAME: usize = 15;

/// Every network namespace is born with it, and none gives it away.
const LOOPBACK: &str = "lo";

pub(super) fn devices(facts: &Facts<'_>, faults: &mut Faults) {
    let devices = facts.linux.and_then(|l| l.net_devices().as_ref()).into_iter().flatten();
    let devices: BTreeMap<_, _> = devices.collect();
    if devices.is_empty() {
        return;
    }
    if !facts.has(NamespaceType::Network) {
        faults.bad_hint(
            "linux.netDevices",
            "needs a network namespace to move the devices to",
            "add {\"type\": \"network\"} to linux.namespaces",
        );
    }
    let mut taken = BTreeMap::new();
    for (key, device) in devices {
        let at = format!("linux.netDevices.{key}");
        match bad_name(key) {
            Some(why) => faults.bad(&at, why),
            None if key == LOOPBACK => faults.bad(&at, "the loopback device cannot be moved"),
            None => {}
        }
        let given = device.name().as_ref().filter(|name| !name.is_empty());
        let name_at = format!("{at}.name");
        if let Some(name) = given {
            if let Some(why) = bad_name(name).or_else(|| bad_template(name)) {
                faults.bad(&name_at, why);
            } else if name == LOOPBACK {
                faults.bad(&name_at, "every network namespace has a device lo already");
            }
        }
        let name = given.unwrap_or(key);
        if name.contains('%') {
            continue;
        }
        if let Some(other) = taken.insert(name, key) {
            let what = format!("linux.netDevices.{other} is to be named {name}, too");
            faults.bad(if given.is_some() { name_at } else { at }, what);
        }
    }
}

/// The rules of the kernel's dev_valid_name(), which would take control characters.
fn bad_name(name: &str) -> Option<String> {
    let what = if name.is_empty() {
        "a network device has a name"
    } else if name.len() > MAX_NAME {
        "a name of a network device has at most 15 bytes"
    } else if name == "." || name == ".." {
        "not a name of a network device"
    } else if name.bytes().any(|b| matches!(b, b'/' | b':' | b' ' | 0xa0)) {
        // The kernel reads Latin-1, where 0xa0 is a blank.
        "a name of a network device holds no slash, colon or blank"
    } else if name.contains(char::is_control) {
        "a name of a network device holds no control character"
    } else {
        return None;
    };
    Some(format!("{what}: {name:?}"))
}

/// The kernel puts a number in the place of one `%d`.
fn bad_template(name: &str) -> Option<String> {
    let rest = name.split_once('%').map(|(_, rest)| rest)?;
    let good = rest.starts_with('d') && !rest.contains('%');
    (!good).then(|| format!("a template has one %d and no other %: {name:?}"))
}
