//! `linux`, but for its mounts, sysctls and resources (spec config-linux.md).

use std::collections::HashMap;
use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Component, Path};

use nix::sched::CloneFlags;
use nix::sys::statfs::statfs;
use oci_spec::runtime::{
    LinuxDevice, LinuxDeviceType as DeviceType, LinuxIdMapping, LinuxNamespaceType as NamespaceType,
};

use super::{Facts, Origin, missing};
use crate::config::faults::Faults;
use crate::sys::process::namespace_type;

/// UID_GID_MAP_MAX_EXTENTS: lines of /proc/PID/uid_map (user_namespaces(7)).
const MAX_MAPPINGS: usize = 340;

/// Device numbers that mknod(2) takes: 12 bits of major, 20 of minor.
const MAX_MAJOR: i64 = (1 << 12) - 1;
const MAX_MINOR: i64 = (1 << 20) - 1;

/// The values of `linux.rootfsPropagation`: those of the spec, and the recursive forms that
/// engines write.
const PROPAGATIONS: [&str; 8] =
    ["shared", "slave", "private", "unbindable", "rshared", "rslave", "rprivate", "runbindable"];

/// Clocks of time_namespaces(7), as /proc/PID/timens_offsets names them.
const CLOCKS: [&str; 2] = ["monotonic", "boottime"];

pub(super) fn namespaces(facts: &Facts<'_>, faults: &mut Faults) {
    let mut seen = Vec::new();
    let all = facts.linux.and_then(|l| l.namespaces().as_ref()).into_iter().flatten();
    for (i, namespace) in all.enumerate() {
        let kind = namespace.typ();
        if seen.contains(&kind) {
            let name = format!("{kind:?}").to_lowercase();
            faults.bad(format!("linux.namespaces[{i}].type"), format!("{name} is there twice"));
        } else {
            seen.push(kind);
        }
        if let Some(path) = namespace.path().as_ref().filter(|p| !p.as_os_str().is_empty()) {
            namespace_file(format!("linux.namespaces[{i}].path"), kind, path, faults);
        }
    }
}

fn namespace_file(field: String, kind: NamespaceType, path: &Path, faults: &mut Faults) {
    faults.nul(&field, &path.to_string_lossy());
    let shown = path.display();
    if !path.is_absolute() {
        faults.bad(field, format!("must be an absolute path, not {shown}"));
    } else if missing(path) {
        faults.bad_hint(
            field,
            format!("no such file or directory: {shown}"),
            "a namespace to join must exist; without a path a new one is made",
        );
    } else if statfs(path).is_ok_and(|s| s.filesystem_type().0 != libc::NSFS_MAGIC) {
        faults.bad(field, format!("not a namespace: {shown}"));
    } else if File::open(path)
        .ok()
        .and_then(|file| namespace_type(file.as_fd()).ok())
        .is_some_and(|found| found != clone_flag(kind))
    {
        // Who may not open it is told when it is joined.
        let name = format!("{kind:?}").to_lowercase();
        faults.bad(field, format!("not a {name} namespace: {shown}"));
    }
}

fn clone_flag(kind: NamespaceType) -> CloneFlags {
    match kind {
        NamespaceType::Mount => CloneFlags::CLONE_NEWNS,
        NamespaceType::Cgroup => CloneFlags::CLONE_NEWCGROUP,
        NamespaceType::Uts => CloneFlags::CLONE_NEWUTS,
        NamespaceType::Ipc => CloneFlags::CLONE_NEWIPC,
        NamespaceType::User => CloneFlags::CLONE_NEWUSER,
        NamespaceType::Pid => CloneFlags::CLONE_NEWPID,
        NamespaceType::Network => CloneFlags::CLONE_NEWNET,
        NamespaceType::Time => CloneFlags::from_bits_retain(libc::CLONE_NEWTIME),
    }
}

fn mappings<'a>(facts: &Facts<'a>) -> [(&'static str, &'a [LinuxIdMapping]); 2] {
    let list = |list: Option<&'a Vec<LinuxIdMapping>>| list.map(Vec::as_slice).unwrap_or_default();
    [
        ("uidMappings", list(facts.linux.and_then(|l| l.uid_mappings().as_ref()))),
        ("gidMappings", list(facts.linux.and_then(|l| l.gid_mappings().as_ref()))),
    ]
}

pub(super) fn id_mappings(facts: &Facts<'_>, faults: &mut Faults) {
    let origin = facts.namespace(NamespaceType::User);
    for (name, list) in mappings(facts) {
        let field = format!("linux.{name}");
        match origin {
            Origin::Host if !list.is_empty() => faults.bad_hint(
                field,
                "needs a user namespace",
                "add {\"type\": \"user\"} to linux.namespaces",
            ),
            Origin::New if list.is_empty() => faults.bad_hint(
                field,
                "required with a new user namespace",
                "as [{\"containerID\": 0, \"hostID\": 100000, \"size\": 65536}]",
            ),
            Origin::New => {
                mapping_list(&field, list, faults);
                if !is_mapped(list, 0) {
                    let what = "must map id 0 of the container: its files are set up as root";
                    faults.bad(field, what);
                }
            }
            Origin::Joined(path) if differs(path, name, list) => faults.bad_hint(
                field,
                format!("differs from that of the namespace {}", path.display()),
                "a joined user namespace brings its own mappings",
            ),
            _ => {}
        }
    }
}

/// The rules of user_namespaces(7), which the kernel would only name EINVAL.
pub(super) fn mapping_list(field: &str, list: &[LinuxIdMapping], faults: &mut Faults) {
    if list.len() > MAX_MAPPINGS {
        let what = format!("{} entries are more than the kernel's {MAX_MAPPINGS}", list.len());
        faults.bad(field, what);
        return;
    }
    for (i, mapping) in list.iter().enumerate() {
        let (inside, outside) = (mapping.container_id(), mapping.host_id());
        let at = format!("{field}[{i}]");
        if mapping.size() == 0 {
            faults.bad(format!("{at}.size"), "0 maps nothing");
        }
        // The last id, 4294967295, is no id.
        for (name, first) in [("containerID", inside), ("hostID", outside)] {
            if u64::from(first) + u64::from(mapping.size()) > u64::from(u32::MAX) {
                let what = format!("{first} plus the size {} is too much", mapping.size());
                faults.bad(format!("{at}.{name}"), what);
            }
        }
        for (j, earlier) in list.iter().enumerate().take(i) {
            let overlap = |first: u32, other: u32| {
                let end = |first: u32, m: &LinuxIdMapping| u64::from(first) + u64::from(m.size());
                u64::from(first) < end(other, earlier) && u64::from(other) < end(first, mapping)
            };
            if overlap(inside, earlier.container_id()) || overlap(outside, earlier.host_id()) {
                faults.bad(&at, format!("overlaps {field}[{j}]"));
            }
        }
    }
}

fn is_mapped(list: &[LinuxIdMapping], id: u32) -> bool {
    list.iter().any(|m| id.checked_sub(m.container_id()).is_some_and(|offset| offset < m.size()))
}

/// True when a joined user namespace certainly has other mappings than `list`. Some engines
/// write both, and runc takes it while they agree.
fn differs(path: &Path, name: &str, list: &[LinuxIdMapping]) -> bool {
    !list.is_empty() && joined_map(path, name).is_some_and(|real| real != sorted(list))
}

fn sorted(list: &[LinuxIdMapping]) -> Vec<[u32; 3]> {
    let mut all: Vec<[u32; 3]> =
        list.iter().map(|m| [m.container_id(), m.host_id(), m.size()]).collect();
    all.sort_unstable();
    all
}

/// The mappings of a user namespace whose file is /proc/PID/ns/user; of another file they
/// cannot be read without joining it.
fn joined_map(path: &Path, name: &str) -> Option<Vec<[u32; 3]>> {
    let process = path.strip_prefix("/proc").ok()?.to_str()?.strip_suffix("/ns/user")?;
    let pid: u32 = process.parse().ok()?;
    let file = if name == "uidMappings" { "uid_map" } else { "gid_map" };
    let text = std::fs::read_to_string(format!("/proc/{pid}/{file}")).ok()?;
    let mut all = Vec::new();
    for line in text.lines() {
        let numbers: Vec<u32> = line.split_whitespace().filter_map(|n| n.parse().ok()).collect();
        all.push(numbers.try_into().ok()?);
    }
    all.sort_unstable();
    Some(all)
}

pub(super) fn mapping_warnings(facts: &Facts<'_>) -> Vec<String> {
    if !matches!(facts.namespace(NamespaceType::User), Origin::Joined(_)) {
        return Vec::new();
    }
    let given = mappings(facts).into_iter().filter(|(_, list)| !list.is_empty());
    given
        .map(|(name, _)| format!("linux.{name}: the joined user namespace brings its own; ignored"))
        .collect()
}

/// The process must be able to become its user.
pub(super) fn user_is_mapped(facts: &Facts<'_>, faults: &mut Faults) {
    let Some(user) = facts.spec.process().as_ref().map(|p| p.user()) else { return };
    if facts.namespace(NamespaceType::User) != Origin::New {
        return;
    }
    let [(_, uids), (_, gids)] = mappings(facts);
    let mut check = |field: String, id: u32, list: &[LinuxIdMapping], name: &str| {
        if !list.is_empty() && id != u32::MAX && !is_mapped(list, id) {
            faults.bad_hint(
                field,
                format!("{id} is not mapped into the user namespace"),
                format!("extend linux.{name}"),
            );
        }
    };
    check("process.user.uid".into(), user.uid(), uids, "uidMappings");
    check("process.user.gid".into(), user.gid(), gids, "gidMappings");
    for (i, gid) in user.additional_gids().iter().flatten().enumerate() {
        check(format!("process.user.additionalGids[{i}]"), *gid, gids, "gidMappings");
    }
}

pub(super) fn time_offsets(facts: &Facts<'_>, faults: &mut Faults) {
    let Some(offsets) = facts.linux.and_then(|l| l.time_offsets().as_ref()) else { return };
    if offsets.is_empty() {
        return;
    }
    if facts.namespace(NamespaceType::Time) != Origin::New {
        faults.bad_hint(
            "linux.timeOffsets",
            "needs a new time namespace",
            "add {\"type\": \"time\"} without a path to linux.namespaces",
        );
    }
    let mut offsets: Vec<_> = offsets.iter().collect();
    offsets.sort_by_key(|(clock, _)| clock.as_str());
    for (clock, offset) in offsets {
        if !CLOCKS.contains(&clock.as_str()) {
            let what = format!("unknown clock {clock:?}: there are monotonic and boottime");
            faults.bad("linux.timeOffsets", what);
        }
        if let Some(nanoseconds) = offset.nanosecs().filter(|n| *n >= 1_000_000_000) {
            let what = format!("{nanoseconds} is not below a second");
            faults.bad(format!("linux.timeOffsets.{clock}.nanosecs"), what);
        }
    }
}

fn device_list<'a>(facts: &Facts<'a>) -> &'a [LinuxDevice] {
    facts.linux.and_then(|l| l.devices().as_deref()).unwrap_or_default()
}

pub(super) fn devices(facts: &Facts<'_>, faults: &mut Faults) {
    let mut at_path = HashMap::new();
    for (i, device) in device_list(facts).iter().enumerate() {
        let at = format!("linux.devices[{i}]");
        device_node(device, &at, faults);
        // Engines may name one device twice, but not two devices for one path.
        let (j, first) = *at_path.entry(device.path()).or_insert((i, device));
        if first != device {
            faults.bad(format!("{at}.path"), format!("linux.devices[{j}] is another device there"));
        }
    }
}

fn device_node(device: &LinuxDevice, at: &str, faults: &mut Faults) {
    let path = device.path();
    faults.nul(format!("{at}.path"), &path.to_string_lossy());
    if !path.is_absolute() {
        let what = format!("must be an absolute path, not {:?}", path.display().to_string());
        faults.bad(format!("{at}.path"), what);
    } else if path.file_name().is_none() {
        faults.bad(format!("{at}.path"), format!("{} does not name a file", path.display()));
    }
    match device.typ() {
        DeviceType::A => faults.bad(format!("{at}.type"), "must be c, b, u or p, not a"),
        DeviceType::P => {}
        DeviceType::B | DeviceType::C | DeviceType::U => {
            let numbers =
                [("major", device.major(), MAX_MAJOR), ("minor", device.minor(), MAX_MINOR)];
            for (name, number, max) in numbers {
                if !(0..=max).contains(&number) {
                    faults.bad(format!("{at}.{name}"), format!("{number} is outside 0 to {max}"));
                }
            }
        }
    }
    if let Some(mode) = device.file_mode().filter(|mode| *mode > 0o7777) {
        let what = format!("{mode} is above 4095 (octal 7777)");
        faults.bad_hint(format!("{at}.fileMode"), what, "a mode in JSON is decimal: 438 is 0666");
    }
    for (name, id) in [("uid", device.uid()), ("gid", device.gid())] {
        if id == Some(u32::MAX) {
            faults.bad(format!("{at}.{name}"), "4294967295 (-1) is not an id");
        }
    }
}

/// Numbers that name more than one node, which the spec discourages.
pub(super) fn device_warnings(facts: &Facts<'_>) -> Vec<String> {
    let mut by_number = HashMap::new();
    let mut warnings = Vec::new();
    for (i, device) in device_list(facts).iter().enumerate() {
        let number = (device.typ().as_str().to_owned(), device.major(), device.minor());
        let j = *by_number.entry(number).or_insert(i);
        if j != i && device.typ() != DeviceType::P {
            warnings.push(format!("linux.devices[{i}]: the same device as linux.devices[{j}]"));
        }
    }
    warnings
}

/// The path of the cgroupfs driver; "slice:prefix:name" is that of the systemd driver.
pub(super) fn cgroups_path(facts: &Facts<'_>, faults: &mut Faults) {
    let Some(path) = facts.linux.and_then(|l| l.cgroups_path().as_ref()) else { return };
    let text = path.to_string_lossy();
    faults.nul("linux.cgroupsPath", &text);
    if path.components().any(|c| c == Component::ParentDir) {
        faults.bad("linux.cgroupsPath", format!("{text} must not hold .."));
    }
    if text.contains('\n') {
        faults.bad("linux.cgroupsPath", "holds a line break");
    }
    if !text.contains('/') && text.split(':').count() == 3 {
        faults.bad_hint(
            "linux.cgroupsPath",
            format!("{text} is a path for systemd (slice:prefix:name)"),
            "set the engine's cgroup driver to cgroupfs",
        );
    }
}

pub(super) fn resources(facts: &Facts<'_>, faults: &mut Faults) {
    if let Some(resources) = facts.linux.and_then(|l| l.resources().as_ref()) {
        super::resources::check(resources, "linux.resources.", faults);
        super::resources::check_whole(resources, "linux.resources.", faults);
    }
}

pub(super) fn resource_warnings(facts: &Facts<'_>) -> Vec<String> {
    let resources = facts.linux.and_then(|l| l.resources().as_ref());
    resources.map(|r| super::resources::warnings(r, "linux.resources.")).unwrap_or_default()
}

pub(super) fn hidden_paths(facts: &Facts<'_>, faults: &mut Faults) {
    let lists = [
        ("maskedPaths", facts.linux.and_then(|l| l.masked_paths().as_ref())),
        ("readonlyPaths", facts.linux.and_then(|l| l.readonly_paths().as_ref())),
    ];
    for (name, list) in lists {
        for (i, path) in list.into_iter().flatten().enumerate() {
            let field = format!("linux.{name}[{i}]");
            faults.nul(&field, path);
            if !path.starts_with('/') {
                faults.bad(field, format!("must be an absolute path, not {path:?}"));
            }
        }
        if list.is_some_and(|l| !l.is_empty()) && !facts.has(NamespaceType::Mount) {
            faults.bad_hint(
                format!("linux.{name}"),
                "needs a mount namespace: it would change the host's mounts",
                "add {\"type\": \"mount\"} to linux.namespaces",
            );
        }
    }
}

pub(super) fn rootfs_propagation(facts: &Facts<'_>, faults: &mut Faults) {
    if let Some(value) = facts.linux.and_then(|l| l.rootfs_propagation().as_ref())
        && !value.is_empty()
        && !PROPAGATIONS.contains(&value.as_str())
    {
        let what = format!("{value:?} is not one of {}", PROPAGATIONS.join(", "));
        faults.bad("linux.rootfsPropagation", what);
    }
}

pub(super) fn personality(facts: &Facts<'_>, faults: &mut Faults) {
    let flags = facts.linux.and_then(|l| l.personality().as_ref()).and_then(|p| p.flags().as_ref());
    if flags.is_some_and(|f| !f.is_empty()) {
        faults.bad("linux.personality.flags", "must be empty: the spec knows no flags");
    }
}
