//! Brings a parsed file into the shape that `oci-spec` 0.10 can hold without losing or refusing
//! what the spec allows, and finds what is missing where the crate would silently say zero.

use std::collections::BTreeSet;

use oci_spec::runtime::Capability;
use serde_json::{Map, Value};

use super::bundle::CONFIG;
use super::faults::Faults;

/// Fields of objects; the first string is the way to the objects, where `*` stands for every
/// element of an array and every value of a map.
type Fields = [(&'static str, &'static [&'static str])];

/// Where Go programs write "" they mean that the field is not set.
const PROCESS_UNSET: &Fields =
    &[("", &["apparmorProfile", "selinuxLabel"]), ("execCPUAffinity", &["initial", "final"])];
const RESOURCES_UNSET: &Fields = &[("cpu", &["cpus", "mems"]), ("devices.*", &["type"])];
const SPEC_UNSET: &Fields = &[
    ("", &["hostname", "domainname"]),
    ("mounts.*", &["type", "source"]),
    ("linux", &["cgroupsPath", "mountLabel", "rootfsPropagation"]),
    ("linux.namespaces.*", &["path"]),
    ("linux.netDevices.*", &["name"]),
    ("linux.intelRdt", &["closID", "l3CacheSchema", "memBwSchema"]),
    ("linux.memoryPolicy", &["nodes"]),
    ("linux.seccomp", &["listenerPath", "listenerMetadata"]),
];

/// Required strings without which the crate stops at the first: filled with "", which the
/// checks report together with everything else.
const PROCESS_FILLED: &Fields = &[("", &["cwd"])];
const SPEC_FILLED: &Fields = &[("mounts.*", &["destination"]), ("hooks.*.*", &["path"])];

/// Required fields of which the crate makes a zero, or at which it stops.
const PROCESS_REQUIRED: &Fields = &[
    ("consoleSize", &["height", "width"]),
    ("rlimits.*", &["type", "soft", "hard"]),
    ("scheduler", &["policy"]),
    ("ioPriority", &["class", "priority"]),
];
const RESOURCES_REQUIRED: &Fields = &[
    ("devices.*", &["allow"]),
    ("blockIO.weightDevice.*", &["major", "minor"]),
    ("blockIO.throttleReadBpsDevice.*", &["major", "minor", "rate"]),
    ("blockIO.throttleWriteBpsDevice.*", &["major", "minor", "rate"]),
    ("blockIO.throttleReadIOPSDevice.*", &["major", "minor", "rate"]),
    ("blockIO.throttleWriteIOPSDevice.*", &["major", "minor", "rate"]),
    ("hugepageLimits.*", &["pageSize", "limit"]),
    ("network.priorities.*", &["name", "priority"]),
];
const SPEC_REQUIRED: &Fields = &[
    ("mounts.*.uidMappings.*", &["containerID", "hostID", "size"]),
    ("mounts.*.gidMappings.*", &["containerID", "hostID", "size"]),
    ("linux.namespaces.*", &["type"]),
    ("linux.uidMappings.*", &["containerID", "hostID", "size"]),
    ("linux.gidMappings.*", &["containerID", "hostID", "size"]),
    ("linux.devices.*", &["type", "path"]),
    ("linux.seccomp", &["defaultAction"]),
    ("linux.seccomp.syscalls.*", &["names", "action"]),
    ("linux.seccomp.syscalls.*.args.*", &["index", "value", "op"]),
    ("linux.memoryPolicy", &["mode"]),
    ("linux.personality", &["domain"]),
];

/// Scheduler flags whose names the crate derives wrongly: the spec's, the crate's.
const FLAGS: [(&str, &str); 2] = [
    ("SCHED_FLAG_RESET_ON_FORK", "SCHED_RESET_ON_FORK"),
    ("SCHED_FLAG_DL_OVERRUN", "SCHED_FLAG_D_L_OVERRUN"),
];

/// Where objects stand. The crate would also take an array there, its elements in the order of
/// the crate's fields.
const PROCESS_OBJECTS: &[&str] = &[
    "user",
    "consoleSize",
    "capabilities",
    "rlimits.*",
    "scheduler",
    "ioPriority",
    "execCPUAffinity",
];
const RESOURCES_OBJECTS: &[&str] = &[
    "devices.*",
    "memory",
    "cpu",
    "pids",
    "blockIO",
    "blockIO.weightDevice.*",
    "blockIO.throttleReadBpsDevice.*",
    "blockIO.throttleWriteBpsDevice.*",
    "blockIO.throttleReadIOPSDevice.*",
    "blockIO.throttleWriteIOPSDevice.*",
    "hugepageLimits.*",
    "network",
    "network.priorities.*",
    "rdma.*",
];
const SPEC_OBJECTS: &[&str] = &[
    "process",
    "root",
    "mounts.*",
    "mounts.*.uidMappings.*",
    "mounts.*.gidMappings.*",
    "hooks",
    "hooks.*.*",
    "linux",
    "linux.namespaces.*",
    "linux.uidMappings.*",
    "linux.gidMappings.*",
    "linux.timeOffsets.*",
    "linux.devices.*",
    "linux.netDevices.*",
    "linux.resources",
    "linux.seccomp",
    "linux.seccomp.syscalls.*",
    "linux.seccomp.syscalls.*.args.*",
    "linux.intelRdt",
    "linux.memoryPolicy",
    "linux.personality",
];

/// Sections for other systems, which say nothing to a runtime on Linux, and what only the crate
/// has at the top: the spec wants unknown properties ignored.
const IGNORED: [&str; 7] =
    ["freebsd", "solaris", "vm", "windows", "zos", "uidMappings", "gidMappings"];

/// A whole config.json.
pub(super) fn spec(value: &mut Value, faults: &mut Faults) {
    // Here the key alone asks for something; Go reads null as a device without a new name.
    each(value, "", "linux.netDevices.*", &mut |device, _| {
        if device.is_null() {
            *device = Map::new().into();
        }
    });
    drop_nulls(value);
    if let Value::Object(spec) = value {
        spec.retain(|section, _| !IGNORED.contains(&section.as_str()));
    }
    objects(value, "", SPEC_OBJECTS, faults);
    unset(value, SPEC_UNSET);
    fill(value, SPEC_FILLED);
    require(value, "", SPEC_REQUIRED, faults);
    each(value, "", "linux.devices.*", &mut |device, at| repair_device(device, at, faults));
    if let Some(part) = value.get_mut("process") {
        process(part, "process", CONFIG, faults);
    }
    if let Some(part) = value.pointer_mut("/linux/resources") {
        resources(part, "linux.resources", faults);
    }
}

/// A `process` object that stands at `at` of `file`.
pub(super) fn process(value: &mut Value, at: &str, file: &str, faults: &mut Faults) {
    drop_nulls(value);
    objects(value, at, PROCESS_OBJECTS, faults);
    // The spec's schema allows blanks, the crate's pattern does not.
    each(value, "", "execCPUAffinity.*", &mut |list, _| {
        if let Some(text) = list.as_str() {
            *list = text.split(',').map(str::trim).collect::<Vec<_>>().join(",").into();
        }
    });
    unset(value, PROCESS_UNSET);
    fill(value, PROCESS_FILLED);
    require(value, at, PROCESS_REQUIRED, faults);
    if let Value::Object(process) = value {
        process.entry("user").or_insert_with(|| Map::new().into());
    }
    drop_unknown_capabilities(value, at, file);
    each(value, "", "scheduler.flags.*", &mut |flag, _| {
        if let Some((_, theirs)) = FLAGS.iter().find(|(name, _)| flag == name) {
            *flag = (*theirs).into();
        }
    });
}

/// A message of the crate, with the names of the spec.
pub(super) fn names_of_the_spec(message: String) -> String {
    let back = |text: String, (name, theirs): &(&str, &str)| {
        text.replace(&format!("`{theirs}`"), &format!("`{name}`"))
    };
    FLAGS.iter().fold(message, back)
}

/// A `resources` object that stands at `at`.
pub(super) fn resources(value: &mut Value, at: &str, faults: &mut Faults) {
    drop_nulls(value);
    objects(value, at, RESOURCES_OBJECTS, faults);
    unset(value, RESOURCES_UNSET);
    require(value, at, RESOURCES_REQUIRED, faults);
    // The crate reads `pids: {}` as a limit of 0, which is a real limit. Dropped: where there
    // is a `pids`, its limit was given.
    if let Value::Object(resources) = value
        && resources
            .get("pids")
            .and_then(Value::as_object)
            .is_some_and(|p| !p.contains_key("limit"))
    {
        resources.remove("pids");
    }
    // A limit is unsigned in the spec and signed in the crate.
    each(value, "", "hugepageLimits.*.limit", &mut |limit, _| {
        if limit.as_u64().is_some_and(|l| l > i64::MAX as u64) {
            *limit = i64::MAX.into();
        }
    });
}

/// Go reads null as "not set", for every type. In a list it would be an element, and stays one
/// to be refused.
fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, v| !v.is_null());
            map.values_mut().for_each(drop_nulls);
        }
        Value::Array(list) => list.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

fn objects(value: &mut Value, at: &str, ways: &[&str], faults: &mut Faults) {
    for way in ways {
        each(value, at, way, &mut |value, at| {
            if value.is_array() {
                faults.bad(at, "must be an object, not an array");
            }
        });
    }
}

fn unset(value: &mut Value, fields: &Fields) {
    for (way, names) in fields {
        each(value, "", way, &mut |object, _| {
            if let Value::Object(object) = object {
                object.retain(|key, v| v.as_str() != Some("") || !names.contains(&key.as_str()));
            }
        });
    }
}

fn fill(value: &mut Value, fields: &Fields) {
    for (way, names) in fields {
        each(value, "", way, &mut |object, _| {
            if let Value::Object(object) = object {
                for name in *names {
                    object.entry(*name).or_insert_with(|| "".into());
                }
            }
        });
    }
}

fn require(value: &mut Value, at: &str, fields: &Fields, faults: &mut Faults) {
    for (way, names) in fields {
        each(value, at, way, &mut |object, at| {
            for name in *names {
                if object.as_object().is_some_and(|o| !o.contains_key(*name)) {
                    faults.bad(join(at, name), "required");
                }
            }
        });
    }
}

fn repair_device(device: &mut Value, at: &str, faults: &mut Faults) {
    let Value::Object(device) = device else { return };
    if device.get("type").is_some_and(|t| t.as_str() != Some("p")) {
        for number in ["major", "minor"] {
            if !device.contains_key(number) {
                faults.bad(join(at, number), "required");
            }
        }
    }
    // Engines pass the whole st_mode; only the permission bits mean anything (as in runc).
    if let Some(mode) = device.get("fileMode").and_then(Value::as_u64) {
        device.insert("fileMode".into(), (mode & !u64::from(libc::S_IFMT)).into());
    }
}

/// The spec wants a warning for a capability that cannot be granted, not an error.
fn drop_unknown_capabilities(process: &mut Value, at: &str, file: &str) {
    let mut unknown = BTreeSet::new();
    each(process, "", "capabilities.*", &mut |set, _| {
        if let Value::Array(set) = set {
            set.retain(|name| match name.as_str() {
                Some(name) if !is_capability(name) => {
                    unknown.insert(name.to_owned());
                    false
                }
                _ => true,
            });
        }
    });
    for name in unknown {
        log::warn!("{file}: {}: ignoring unknown {name:?}", join(at, "capabilities"));
    }
}

/// True for the names of capabilities(7) as they stand there; the crate also takes others, and
/// would grant what runc does not.
fn is_capability(name: &str) -> bool {
    name.strip_prefix("CAP_").is_some_and(|short| short.parse::<Capability>().is_ok())
}

/// Calls `visit` with every value at the end of `way`, and where it stands.
fn each(value: &mut Value, at: &str, way: &str, visit: &mut dyn FnMut(&mut Value, &str)) {
    if way.is_empty() {
        return visit(value, at);
    }
    let (step, rest) = way.split_once('.').unwrap_or((way, ""));
    match value {
        Value::Array(list) if step == "*" => {
            for (i, element) in list.iter_mut().enumerate() {
                each(element, &format!("{at}[{i}]"), rest, visit);
            }
        }
        Value::Object(map) if step == "*" => {
            for (key, element) in map {
                each(element, &join(at, key), rest, visit);
            }
        }
        Value::Object(map) => {
            if let Some(element) = map.get_mut(step) {
                each(element, &join(at, step), rest, visit);
            }
        }
        _ => {}
    }
}

fn join(at: &str, name: &str) -> String {
    if at.is_empty() { name.to_owned() } else { format!("{at}.{name}") }
}

#[cfg(test)]
mod tests {
    use super::super::bundle::{parse_process, parse_resources, parse_spec};
    use super::*;
    use oci_spec::runtime::LinuxSchedulerFlag as Flag;

    #[test]
    fn null_means_absent() {
        let spec = parse_spec(
            r#"{"hostname":null,"process":{"cwd":"/","user":null,"args":["a"],"env":null},
                "mounts":null,"linux":{"resources":{"pids":{"limit":null},"cpu":null}}}"#,
        )
        .unwrap();
        assert_eq!(spec.hostname(), &None);
        let process = spec.process().as_ref().unwrap();
        assert_eq!((process.user().uid(), process.user().gid()), (0, 0));
        assert_eq!(process.env(), &None);
        let resources = spec.linux().as_ref().unwrap().resources().as_ref().unwrap();
        assert_eq!((resources.pids(), resources.cpu()), (&None, &None));
        let error = parse_process(r#"{"cwd":"/","args":["a",null]}"#).unwrap_err();
        assert_eq!(
            error.to_string(),
            "process.json: args[1]: invalid type: null, expected a string"
        );
    }

    #[test]
    fn every_capability_is_known_and_others_are_dropped() {
        for capability in caps::all() {
            assert!(is_capability(&capability.to_string()), "{capability}");
        }
        // A list with a type error is still a type error.
        let process = parse_process(
            r#"{"cwd":"/","capabilities":{"bounding":
               ["CAP_CHOWN","CAP_NEW","chown","CAP_CAP_KILL","CAP_chown",""]}}"#,
        )
        .unwrap();
        let caps = process.capabilities().as_ref().unwrap().bounding().as_ref().unwrap();
        assert_eq!(caps.iter().collect::<Vec<_>>(), [&Capability::Chown]);
        assert!(parse_process(r#"{"cwd":"/","capabilities":{"bounding":[5]}}"#).is_err());
    }

    #[test]
    fn scheduler_flags_have_the_names_of_the_spec() {
        let process = parse_process(
            r#"{"cwd":"/","scheduler":{"policy":"SCHED_OTHER","flags":[
               "SCHED_FLAG_RESET_ON_FORK","SCHED_FLAG_RECLAIM","SCHED_FLAG_DL_OVERRUN",
               "SCHED_FLAG_KEEP_POLICY","SCHED_FLAG_KEEP_PARAMS","SCHED_FLAG_UTIL_CLAMP_MIN",
               "SCHED_FLAG_UTIL_CLAMP_MAX"]}}"#,
        )
        .unwrap();
        assert_eq!(
            process.scheduler().as_ref().unwrap().flags().as_ref().unwrap(),
            &[
                Flag::SchedResetOnFork,
                Flag::SchedFlagReclaim,
                Flag::SchedFlagDLOverrun,
                Flag::SchedFlagKeepPolicy,
                Flag::SchedFlagKeepParams,
                Flag::SchedFlagUtilClampMin,
                Flag::SchedFlagUtilClampMax
            ]
        );
    }

    #[test]
    fn an_unknown_scheduler_flag_is_answered_with_the_names_of_the_spec() {
        let text = r#"{"cwd":"/","scheduler":{"policy":"SCHED_OTHER","flags":["RESET"]}}"#;
        let text = parse_process(text).unwrap_err().to_string();
        for name in ["`SCHED_FLAG_RESET_ON_FORK`", "`SCHED_FLAG_DL_OVERRUN`"] {
            assert!(text.contains(name), "{text}");
        }
    }

    #[test]
    fn an_affinity_may_be_empty_or_spaced() {
        let process =
            parse_process(r#"{"cwd":"/","execCPUAffinity":{"initial":" ","final":"0-3, 7"}}"#)
                .unwrap();
        let affinity = process.exec_cpu_affinity().as_ref().unwrap();
        assert_eq!(affinity.initial(), &None);
        assert_eq!(affinity.cpu_affinity_final().as_deref(), Some("0-3,7"));
    }

    #[test]
    fn a_pids_limit_of_zero_is_not_an_absent_one() {
        let limit = |text| parse_resources(text).unwrap().pids().map(|p| p.limit());
        assert_eq!(limit(r#"{"pids":{}}"#), None);
        assert_eq!(limit(r#"{}"#), None);
        assert_eq!(limit(r#"{"pids":{"limit":0}}"#), Some(0));
        assert_eq!(limit(r#"{"pids":{"limit":-1}}"#), Some(-1));
    }

    #[test]
    fn a_hugepage_limit_may_fill_64_bits() {
        let resources = parse_resources(
            r#"{"hugepageLimits":[{"pageSize":"2MB","limit":18446744073709551615},
                                  {"pageSize":"1GB","limit":5}]}"#,
        )
        .unwrap();
        let limits: Vec<i64> =
            resources.hugepage_limits().iter().flatten().map(|l| l.limit()).collect();
        assert_eq!(limits, [i64::MAX, 5]);
    }

    #[test]
    fn other_platforms_do_not_disturb() {
        for section in IGNORED {
            assert!(parse_spec(&format!(r#"{{"{section}":5}}"#)).is_ok());
        }
    }

    #[test]
    fn empty_strings_mean_unset() {
        let spec = parse_spec(
            r#"{"hostname":"","mounts":[{"destination":"/a","source":"","type":""}],
                "process":{"cwd":"/","apparmorProfile":"","selinuxLabel":""},
                "linux":{"cgroupsPath":"","rootfsPropagation":"","mountLabel":"",
                "namespaces":[{"type":"pid","path":""}],
                "resources":{"devices":[{"allow":false,"type":"","access":"rwm"}],
                "cpu":{"cpus":"","mems":""}}}}"#,
        )
        .unwrap();
        assert_eq!(spec.hostname(), &None);
        let mount = &spec.mounts().as_ref().unwrap()[0];
        assert_eq!((mount.source(), mount.typ()), (&None, &None));
        let linux = spec.linux().as_ref().unwrap();
        assert_eq!(linux.cgroups_path(), &None);
        assert_eq!(linux.namespaces().as_ref().unwrap()[0].path(), &None);
        let resources = linux.resources().as_ref().unwrap();
        assert_eq!(resources.devices().as_ref().unwrap()[0].typ(), None);
        assert_eq!(resources.cpu().as_ref().unwrap().cpus(), &None);
    }

    #[test]
    fn only_the_permission_bits_of_a_device_mode_count() {
        let spec = parse_spec(
            r#"{"linux":{"devices":[{"path":"/dev/x","type":"c","major":1,"minor":3,
                "fileMode":8630},{"path":"/dev/p","type":"p"}]}}"#,
        )
        .unwrap();
        let linux = spec.linux().as_ref().unwrap();
        assert_eq!(linux.devices().as_ref().unwrap()[0].file_mode(), Some(0o666));
    }

    #[test]
    fn all_missing_fields_are_named() {
        let error = parse_spec(
            r#"{"process":{"rlimits":[{"type":"RLIMIT_CPU","soft":1}]},
                "linux":{"namespaces":[{"path":"/x"}],"devices":[{"path":"/a","type":"b"}],
                "resources":{"hugepageLimits":[{"limit":1}]}}}"#,
        )
        .unwrap_err();
        assert_eq!(
            error.to_string(),
            "config.json has 5 faults:\n  linux.namespaces[0].type: required\n  \
             linux.devices[0].major: required\n  linux.devices[0].minor: required\n  \
             process.rlimits[0].hard: required\n  \
             linux.resources.hugepageLimits[0].pageSize: required"
        );
    }
}
