//! `linux.sysctl`: only what the container's own namespaces hold may be set (CVE-2022-0811).

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use oci_spec::runtime::LinuxNamespaceType as NamespaceType;

use super::{Facts, Origin};
use crate::config::faults::Faults;

/// The settings of ipc_namespaces(7) below `kernel.`; all of `fs.mqueue.` is of it too.
const IPC: [&str; 8] = [
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_rmid_forced",
];

/// The path below /proc/sys of a checked key. Whichever of `.` and `/` comes first separates;
/// the other one is then the other character (sysctl.d(5)): both `net.ipv4.conf.eth0/1.x` and
/// `net/ipv4/conf/eth0.1/x` are the path `net/ipv4/conf/eth0.1/x`.
pub fn path(key: &str) -> String {
    if key.find(['.', '/']).is_some_and(|at| key[at..].starts_with('.')) {
        key.chars().map(swap).collect()
    } else {
        key.to_owned()
    }
}

fn swap(c: char) -> char {
    match c {
        '.' => '/',
        '/' => '.',
        c => c,
    }
}

pub(super) fn check(facts: &Facts<'_>, faults: &mut Faults) {
    let Some(all) = facts.linux.and_then(|l| l.sysctl().as_ref()) else { return };
    let mut all: Vec<_> = all.iter().collect();
    all.sort();
    for (key, value) in all {
        let field = format!("linux.sysctl[{key:?}]");
        if !well_formed(key) {
            faults.bad(field, "not the name of a kernel parameter");
            continue;
        }
        if value.contains('\0') || value.trim_end().contains('\n') {
            faults.bad(&field, "the value holds a NUL byte or a line break");
        }
        let dotted: String = path(key).chars().map(swap).collect();
        allowed(facts, &field, &dotted, faults);
    }
}

fn well_formed(key: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/');
    key.contains(['.', '/'])
        && key.chars().all(allowed)
        && path(key).split('/').all(|part| !matches!(part, "" | "." | ".."))
}

/// `key` in the form with dots.
fn allowed(facts: &Facts<'_>, field: &str, key: &str, faults: &mut Faults) {
    let (kind, name, file) = if IPC.contains(&key) || key.starts_with("fs.mqueue.") {
        (NamespaceType::Ipc, "an ipc", "ipc")
    } else if key.starts_with("net.") {
        (NamespaceType::Network, "a network", "net")
    } else if key == "kernel.domainname" {
        (NamespaceType::Uts, "a uts", "uts")
    } else if key.starts_with("user.") {
        (NamespaceType::User, "a user", "user")
    } else if key == "kernel.hostname" {
        return faults.bad(field, "not allowed: the field hostname sets it");
    } else {
        return faults.bad(field, "not in any namespace: it would change the host's");
    };
    let what = match facts.namespace(kind) {
        Origin::Host => format!("needs {name} namespace: it would change the host's"),
        Origin::Joined(path) if is_ours(path, file) => {
            format!("{} is the host's: it would change the host's", path.display())
        }
        _ => return,
    };
    let hint = "add that namespace to linux.namespaces, or set it on the host with sysctl(8)";
    faults.bad_hint(field, what, hint);
}

/// True when `path` is the namespace of this process that `file` names in /proc/PID/ns.
fn is_ours(path: &Path, file: &str) -> bool {
    let identity = |p: &Path| std::fs::metadata(p).map(|m| (m.dev(), m.ino())).ok();
    let ours = identity(&Path::new("/proc/self/ns").join(file));
    ours.is_some() && identity(path) == ours
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_name_one_path() {
        for (key, expected) in [
            ("kernel.sem", "kernel/sem"),
            ("kernel/sem", "kernel/sem"),
            ("net.ipv4.conf.eno2/100.rp_filter", "net/ipv4/conf/eno2.100/rp_filter"),
            ("net/ipv4/conf/eno2.100/rp_filter", "net/ipv4/conf/eno2.100/rp_filter"),
            ("plain", "plain"),
        ] {
            assert_eq!(path(key), expected);
        }
    }

    #[test]
    fn names() {
        for good in ["kernel.sem", "net/ipv4/ip_forward", "net.ipv4.conf.eth-0.x", "a.b/c.d"] {
            assert!(well_formed(good), "{good}");
        }
        for bad in [
            "",
            ".",
            "/",
            "kernel",
            "kernel..sem",
            "kernel.",
            ".kernel",
            "/kernel/sem",
            "net/../kernel/core_pattern",
            "net.//.kernel.core_pattern",
            "net//ipv4",
            "a.b c",
            "kernel.sem\n",
            "kernel.shm_rmid_forced+kernel.core_pattern=x",
            "net.\u{e4}",
        ] {
            assert!(!well_formed(bad), "{bad:?}");
        }
    }
}
