//! The features document against the spec (features.md, features-linux.md) and against the
//! parser: what is advertised is accepted, and of the spec's words nothing else is.

use std::path::Path;

use corten::config::{bundle, validate};
use corten::plan::ContainerPlan;
use serde_json::{Value, json};

fn document() -> Value {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_corten"));
    let output = command.arg("features").output().unwrap();
    assert!(output.status.success());
    serde_json::from_slice(&output.stdout).unwrap()
}

fn texts(document: &Value, pointer: &str) -> Vec<String> {
    let list = document.pointer(pointer).and_then(Value::as_array);
    let list = list.unwrap_or_else(|| panic!("no list at {pointer}"));
    list.iter().map(|text| text.as_str().unwrap().to_owned()).collect()
}

fn flag(document: &Value, pointer: &str) -> bool {
    let flag = document.pointer(pointer).and_then(Value::as_bool);
    flag.unwrap_or_else(|| panic!("no boolean at {pointer}"))
}

/// Reads, checks and plans the default config with one value set; the message on failure.
fn plan(pointer: &str, value: Value) -> Result<ContainerPlan, String> {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("rootfs")).unwrap();
    let mut config: Value = serde_json::from_str(include_str!("fixtures/default.json")).unwrap();
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    config.pointer_mut(parent).unwrap()[name] = value;
    plan_of(&config, dir.path()).map_err(|error| format!("{error:#}"))
}

fn plan_of(config: &Value, dir: &Path) -> corten::error::Result<ContainerPlan> {
    let spec = bundle::parse_spec(&config.to_string())?;
    validate::container(&spec, dir)?;
    ContainerPlan::build(&spec, "box", dir, false)
}

/// Each advertised word is accepted where `config` puts it, and no other of `words` or an
/// invented one is.
fn agrees(pointer: &str, words: &[&str], config: impl Fn(&str) -> (&'static str, Value)) {
    let advertised = texts(&document(), pointer);
    for word in &advertised {
        let (place, value) = config(word);
        plan(place, value).unwrap_or_else(|error| panic!("{pointer}: {word}: {error}"));
        assert!(words.contains(&word.as_str()), "{pointer}: {word} is not of the spec");
    }
    let others = words.iter().filter(|word| !advertised.iter().any(|a| a == **word));
    for word in others.chain([&"NO_SUCH_WORD"]) {
        let (place, value) = config(word);
        assert!(plan(place, value).is_err(), "{pointer}: {word} is accepted, not advertised");
    }
}

/// The model of the document that oci-spec has: what it does not know would be lost.
#[test]
fn nothing_but_properties_of_the_spec() {
    let document = document();
    let features: oci_spec::runtime::Features = serde_json::from_value(document.clone()).unwrap();
    let again = serde_json::to_value(&features).unwrap();
    for (key, value) in document.as_object().unwrap() {
        if key != "linux" {
            assert_eq!(again[key], *value, "{key}");
        }
    }
    for (key, value) in document["linux"].as_object().unwrap() {
        assert_eq!(again["linux"][key], *value, "linux.{key}");
    }
}

#[test]
fn every_property_of_the_spec_is_there() {
    let document = document();
    for list in [
        "/hooks",
        "/mountOptions",
        "/potentiallyUnsafeConfigAnnotations",
        "/linux/namespaces",
        "/linux/capabilities",
        "/linux/seccomp/actions",
        "/linux/seccomp/operators",
        "/linux/seccomp/archs",
        "/linux/seccomp/knownFlags",
        "/linux/seccomp/supportedFlags",
        "/linux/memoryPolicy/modes",
        "/linux/memoryPolicy/flags",
    ] {
        let words = texts(&document, list);
        let mut unique = words.clone();
        unique.sort();
        unique.dedup();
        assert_eq!(unique.len(), words.len(), "{list} repeats itself");
        assert!(!words.is_empty(), "{list}");
    }
    for place in [
        "/linux/cgroup/v1",
        "/linux/cgroup/v2",
        "/linux/cgroup/rdma",
        "/linux/seccomp/enabled",
        "/linux/apparmor/enabled",
        "/linux/selinux/enabled",
        "/linux/intelRdt/enabled",
        "/linux/intelRdt/schemata",
        "/linux/intelRdt/monitoring",
        "/linux/mountExtensions/idmap/enabled",
        "/linux/netDevices/enabled",
    ] {
        assert!(flag(&document, place), "{place}");
    }
    // Their flag, --systemd-cgroup, is refused.
    for place in ["/linux/cgroup/systemd", "/linux/cgroup/systemdUser"] {
        assert!(!flag(&document, place), "{place}");
    }
    let annotations = document["annotations"].as_object().unwrap();
    assert!(annotations.iter().all(|(key, value)| !key.is_empty() && value.is_string()));
    let library = annotations["io.github.seccomp.libseccomp.version"].as_str().unwrap();
    assert!(library.split('.').count() == 3, "{library}");
}

#[test]
fn versions() {
    let document = document();
    let number = |field: &str| -> Vec<u32> {
        let text = document[field].as_str().unwrap();
        text.split('.').map(|part| part.parse().unwrap()).collect()
    };
    assert!(number("ociVersionMin") <= number("ociVersionMax"));
    for field in ["ociVersionMin", "ociVersionMax"] {
        plan("/ociVersion", document[field].clone()).unwrap();
    }
    assert!(plan("/ociVersion", json!("0.9.9")).is_err());
    assert!(plan("/ociVersion", json!("2.0.0")).is_err());
}

#[test]
fn hooks() {
    let names = texts(&document(), "/hooks");
    assert_eq!(
        names,
        ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"]
    );
    for name in names {
        let plan = plan("/hooks", json!({&name: [{"path": "/bin/true"}]})).unwrap().hooks;
        let planned = serde_json::to_value(&plan).unwrap();
        let lists = planned.as_object().unwrap().values();
        let all: Vec<&Value> = lists.flat_map(|list| list.as_array().unwrap()).collect();
        assert_eq!(all.len(), 1);
        assert_eq!(all[0]["kind"], json!(name));
    }
}

/// The table of config.md "Linux mount options", MUST and SHOULD and MAY.
const MOUNT_OPTIONS: &str = "async atime bind defaults dev diratime dirsync exec iversion lazytime \
    loud mand noatime nodev nodiratime noexec noiversion nolazytime nomand norelatime \
    nostrictatime nosuid nosymfollow private ratime rbind rdev rdiratime relatime remount rexec \
    rnoatime rnodiratime rnoexec rnorelatime rnostrictatime rnosuid rnosymfollow ro rprivate \
    rrelatime rro rrw rshared rslave rstrictatime rsuid rsymfollow runbindable rw shared silent \
    slave strictatime suid symfollow sync tmpcopyup unbindable idmap ridmap";

#[test]
fn mount_options() {
    let advertised = texts(&document(), "/mountOptions");
    for option in MOUNT_OPTIONS.split_whitespace() {
        assert!(advertised.iter().any(|a| a == option), "{option} of the spec");
    }
    // An option that is not recognised goes on to the file system as it is.
    let planned = |option: &str| {
        let mut mount = json!({"destination": "/a", "type": "tmpfs", "source": "/",
            "options": ["bind", option]});
        if ["idmap", "ridmap"].contains(&option) {
            let map = json!([{"containerID": 0, "hostID": 1000, "size": 10}]);
            mount["uidMappings"] = map.clone();
            mount["gidMappings"] = map;
        } else if ["tmpcopyup", "copy-symlink"].contains(&option) || option.starts_with("no_") {
            mount["options"] = json!([option]);
        }
        let plan = plan("/mounts", json!([mount]));
        let plan = plan.unwrap_or_else(|error| panic!("{option}: {error}"));
        format!("{:?}", plan.rootfs.mounts)
    };
    for option in &advertised {
        let plan = planned(option);
        assert!(!plan.contains(&format!("{option:?}")), "{option} is not recognised: {plan}");
    }
    assert!(planned("no_such_option").contains("no_such_option"));
}

#[test]
fn namespaces() {
    let words = ["cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"];
    agrees("/linux/namespaces", &words, |word| {
        let mut all = json!([{"type": "mount"}, {"type": "uts"}]);
        if !["mount", "uts", "user"].contains(&word) {
            all.as_array_mut().unwrap().push(json!({"type": word}));
        }
        if word != "user" {
            return ("/linux/namespaces", all);
        }
        all.as_array_mut().unwrap().push(json!({"type": "user"}));
        let map = json!([{"containerID": 0, "hostID": 1, "size": 9}]);
        let linux = json!({"namespaces": all, "uidMappings": map, "gidMappings": map});
        ("/linux", linux)
    });
    assert_eq!(texts(&document(), "/linux/namespaces").len(), words.len());
}

#[test]
fn capabilities() {
    // linux/capability.h has 41 of them since Linux 5.9.
    let names = texts(&document(), "/linux/capabilities");
    assert_eq!(names.len(), 41);
    for name in names {
        assert!(name.starts_with("CAP_"), "{name}");
        let sets = json!({"bounding": [name], "permitted": [name]});
        plan("/process/capabilities", sets).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

fn seccomp_with(action: &str) -> Value {
    json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/run/agent",
        "syscalls": [{"names": ["mkdir"], "action": action}]})
}

#[test]
fn seccomp() {
    const PLACE: &str = "/linux/seccomp";
    agrees(
        "/linux/seccomp/actions",
        &[
            "SCMP_ACT_KILL",
            "SCMP_ACT_KILL_PROCESS",
            "SCMP_ACT_KILL_THREAD",
            "SCMP_ACT_TRAP",
            "SCMP_ACT_ERRNO",
            "SCMP_ACT_TRACE",
            "SCMP_ACT_ALLOW",
            "SCMP_ACT_LOG",
            "SCMP_ACT_NOTIFY",
        ],
        |word| (PLACE, seccomp_with(word)),
    );
    agrees(
        "/linux/seccomp/operators",
        &[
            "SCMP_CMP_NE",
            "SCMP_CMP_LT",
            "SCMP_CMP_LE",
            "SCMP_CMP_EQ",
            "SCMP_CMP_GE",
            "SCMP_CMP_GT",
            "SCMP_CMP_MASKED_EQ",
        ],
        |word| {
            let mut profile = seccomp_with("SCMP_ACT_ERRNO");
            profile["syscalls"][0]["args"] = json!([{"index": 0, "value": 1, "op": word}]);
            (PLACE, profile)
        },
    );
    let flags = [
        "SECCOMP_FILTER_FLAG_TSYNC",
        "SECCOMP_FILTER_FLAG_LOG",
        "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
        "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
    ];
    let with_flag = |word: &str| {
        let mut profile = seccomp_with("SCMP_ACT_NOTIFY");
        profile["flags"] = json!([word]);
        (PLACE, profile)
    };
    agrees("/linux/seccomp/knownFlags", &flags, with_flag);
    let known = texts(&document(), "/linux/seccomp/knownFlags");
    let supported = texts(&document(), "/linux/seccomp/supportedFlags");
    assert!(supported.iter().all(|flag| known.contains(flag)), "{supported:?} of {known:?}");
    let archs = "X86 X86_64 X32 ARM AARCH64 MIPS MIPS64 MIPS64N32 MIPSEL MIPSEL64 MIPSEL64N32 \
        PPC PPC64 PPC64LE S390 S390X PARISC PARISC64 RISCV64 LOONGARCH64 M68K SH SHEB";
    let archs: Vec<String> =
        archs.split_whitespace().map(|name| format!("SCMP_ARCH_{name}")).collect();
    let archs: Vec<&str> = archs.iter().map(String::as_str).collect();
    agrees("/linux/seccomp/archs", &archs, |word| {
        let mut profile = seccomp_with("SCMP_ACT_ERRNO");
        profile["architectures"] = json!([word]);
        (PLACE, profile)
    });
    assert_eq!(texts(&document(), "/linux/seccomp/archs").len(), archs.len());
}

#[test]
fn memory_policy() {
    const PLACE: &str = "/linux/memoryPolicy";
    let modes = [
        "MPOL_DEFAULT",
        "MPOL_BIND",
        "MPOL_INTERLEAVE",
        "MPOL_WEIGHTED_INTERLEAVE",
        "MPOL_PREFERRED",
        "MPOL_PREFERRED_MANY",
        "MPOL_LOCAL",
    ];
    agrees("/linux/memoryPolicy/modes", &modes, |word| {
        let nodes = if ["MPOL_DEFAULT", "MPOL_LOCAL"].contains(&word) { "" } else { "0" };
        (PLACE, json!({"mode": word, "nodes": nodes}))
    });
    let flags = ["MPOL_F_NUMA_BALANCING", "MPOL_F_RELATIVE_NODES", "MPOL_F_STATIC_NODES"];
    agrees("/linux/memoryPolicy/flags", &flags, |word| {
        (PLACE, json!({"mode": "MPOL_BIND", "nodes": "0", "flags": [word]}))
    });
}
