//! config.json from text to verdict: good ones pass, each rule refuses its own bad one with a
//! message that names the field.

use std::path::Path;

use corten::config::{bundle, validate};
use corten::error::{Kind, Result, kind};
use serde_json::{Value, json};

const FIXTURES: [(&str, &str); 6] = [
    ("minimal", include_str!("fixtures/minimal.json")),
    ("default", include_str!("fixtures/default.json")),
    ("docker", include_str!("fixtures/docker.json")),
    ("podman", include_str!("fixtures/podman.json")),
    ("pod", include_str!("fixtures/pod.json")),
    ("every-field", include_str!("fixtures/every-field.json")),
];

fn fixture(name: &str) -> Value {
    let text = FIXTURES.iter().find(|(n, _)| *n == name).unwrap().1;
    serde_json::from_str(text).unwrap()
}

/// A bundle directory with what the fixtures refer to.
fn bundle_dir() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("rootfs")).unwrap();
    for file in ["hosts", "resolv.conf"] {
        std::fs::write(dir.path().join(file), "").unwrap();
    }
    dir
}

fn check(config: &Value, dir: &Path) -> Result<()> {
    let spec = bundle::parse_spec(&config.to_string())?;
    validate::container(&spec, dir)
}

fn warnings(config: &Value, dir: &Path) -> Vec<String> {
    validate::warnings(&bundle::parse_spec(&config.to_string()).unwrap(), dir)
}

/// Sets the value at `pointer`, making objects on the way.
fn set(config: &mut Value, pointer: &str, value: Value) {
    let mut here = config;
    for step in pointer.split('/').skip(1) {
        here = match here {
            Value::Array(list) => &mut list[step.parse::<usize>().unwrap()],
            Value::Object(map) => map.entry(step.replace("~1", "/")).or_insert(json!({})),
            other => panic!("{pointer}: {other} is in the way"),
        };
    }
    *here = value;
}

/// Each row: what to set in the default config (null removes), and the message that follows
/// "config.json: "; `ROOT` stands for the bundle.
fn refused(rows: &[(&[(&str, Value)], &str)]) {
    let dir = bundle_dir();
    for (changes, expected) in rows {
        let mut config = fixture("default");
        for (pointer, value) in *changes {
            set(&mut config, pointer, value.clone());
        }
        let expected = expected.replace("ROOT", dir.path().to_str().unwrap());
        match check(&config, dir.path()) {
            Ok(()) => panic!("accepted: {changes:?}, expected {expected}"),
            Err(e) => assert_eq!(e.to_string(), format!("config.json: {expected}")),
        }
    }
}

fn accepted(rows: &[&[(&str, Value)]]) {
    let dir = bundle_dir();
    for changes in rows {
        let mut config = fixture("default");
        for (pointer, value) in *changes {
            set(&mut config, pointer, value.clone());
        }
        if let Err(e) = check(&config, dir.path()) {
            panic!("{changes:?}: {e:#}");
        }
    }
}

#[test]
fn what_engines_write_is_accepted() {
    let dir = bundle_dir();
    for (name, text) in FIXTURES.iter().filter(|(name, _)| *name != "every-field") {
        std::fs::write(dir.path().join("config.json"), text).unwrap();
        let bundle = bundle::load(dir.path()).unwrap_or_else(|e| panic!("{name}: {e:#}"));
        validate::container(&bundle.spec, &bundle.dir).unwrap_or_else(|e| panic!("{name}: {e:#}"));
        // The copy in the state directory is read by the same parser.
        assert_eq!(bundle::parse_spec(&bundle.raw).unwrap(), bundle.spec);
    }
}

/// What the crate does not know it drops without a word: nothing of the spec may be among it.
#[test]
fn no_field_of_the_spec_is_lost() {
    let config = fixture("every-field");
    let spec = bundle::parse_spec(&config.to_string()).unwrap();
    assert_eq!(serde_json::to_value(&spec).unwrap(), config);
    let process = bundle::parse_process(&config["process"].to_string()).unwrap();
    assert_eq!(serde_json::to_value(&process).unwrap(), config["process"]);
    let resources = bundle::parse_resources(&config["linux"]["resources"].to_string()).unwrap();
    assert_eq!(serde_json::to_value(&resources).unwrap(), config["linux"]["resources"]);
}

/// The crate would take an array for an object, by the order of its fields.
#[test]
fn an_array_is_not_an_object() {
    fn objects(value: &Value, at: String, found: &mut Vec<String>) {
        let children: Vec<(String, &Value)> = match value {
            Value::Object(map) => {
                found.push(at.clone());
                map.iter().map(|(key, v)| (key.replace('/', "~1"), v)).collect()
            }
            Value::Array(list) => {
                list.iter().enumerate().map(|(i, v)| (i.to_string(), v)).collect()
            }
            _ => return,
        };
        for (step, child) in children {
            objects(child, format!("{at}/{step}"), found);
        }
    }
    let config = fixture("every-field");
    let mut all = Vec::new();
    objects(&config, String::new(), &mut all);
    assert!(all.len() > 40, "{all:?}");
    for pointer in all {
        let mut changed = config.clone();
        let values = changed.pointer(&pointer).unwrap().as_object().unwrap().values().cloned();
        let values: Vec<Value> = values.collect();
        *changed.pointer_mut(&pointer).unwrap() = json!(values);
        let error = bundle::parse_spec(&changed.to_string()).unwrap_err().to_string();
        // Of maps the crate says so itself.
        let named = ["must be an object, not an array", "must be a JSON object", "expected a map"];
        assert!(named.iter().any(|text| error.contains(text)), "{pointer}: {error}");
    }
}

#[test]
fn all_faults_come_at_once() {
    let dir = bundle_dir();
    let mut config = fixture("default");
    set(&mut config, "/ociVersion", json!("2.0.0"));
    set(&mut config, "/process/cwd", json!("tmp"));
    set(&mut config, "/linux/intelRdt", json!({"closID": ".."}));
    let error = check(&config, dir.path()).unwrap_err();
    assert_eq!(
        corten::error::render(&error),
        "error: config.json has 3 faults:\n  ociVersion: 2.0.0 is not supported\n  \
         process.cwd: must be an absolute path, not tmp\n  linux.intelRdt.closID: must be the \
         name of one directory, or /, not \"..\"\n  \
         hint: Corten reads versions 1.0.0 to 1.3.0 of the runtime spec"
    );
    assert_eq!(kind(&error), Kind::BadInput);
}

#[test]
fn general() {
    refused(&[
        (&[("/ociVersion", json!(null))], "ociVersion: required"),
        (&[("/ociVersion", json!("1.0"))], "ociVersion: \"1.0\" is not a semantic version"),
        (&[("/ociVersion", json!("0.5.0-dev"))], "ociVersion: 0.5.0-dev is not supported"),
        (&[("/root", json!(null))], "root: required"),
        (&[("/root", json!({}))], "root.path: required"),
        (&[("/root", json!(["rootfs"]))], "root: must be an object, not an array"),
        (&[("/linux", json!([]))], "linux: must be an object, not an array"),
        (
            &[("/linux/namespaces/0/type", json!("\u{1b}[2J"))],
            "linux.namespaces[0].type: unknown variant `\\u{1b}[2J`, expected one of `mount`, \
             `cgroup`, `uts`, `ipc`, `user`, `pid`, `network`, `time`",
        ),
        (&[("/root/path", json!("x"))], "root.path: no such file or directory: ROOT/x"),
        (&[("/root/path", json!("hosts"))], "root.path: not a directory: ROOT/hosts"),
        (&[("/root/path", json!("rootfs\u{0}"))], "root.path: holds a NUL byte"),
        (
            &[("/hostname", json!("x".repeat(65)))],
            "hostname: 65 bytes are more than the kernel's 64",
        ),
        (
            &[("/linux/namespaces", json!([{"type": "mount"}]))],
            "hostname: needs a uts namespace: it would change the host's",
        ),
        (
            &[
                ("/hostname", json!(null)),
                ("/domainname", json!("d")),
                ("/linux/namespaces", json!([{"type": "mount"}])),
            ],
            "domainname: needs a uts namespace: it would change the host's",
        ),
        (&[("/annotations", json!({"": "x"}))], "annotations: a key is empty"),
        (
            &[("/annotations", json!({"a": 5}))],
            "annotations.a: invalid type: integer `5`, expected a string",
        ),
        (
            &[("/hooks", json!({"poststop": [{"path": "bin/x"}]}))],
            "hooks.poststop[0].path: must be an absolute path, not \"bin/x\"",
        ),
        (
            &[("/hooks", json!({"prestart": [{"path": "/nope/x"}]}))],
            "hooks.prestart[0].path: no such file or directory: /nope/x",
        ),
        (
            &[("/hooks", json!({"startContainer": [{}]}))],
            "hooks.startContainer[0].path: must be an absolute path, not \"\"",
        ),
        (
            &[("/hooks", json!({"poststart": [{"path": "/x", "timeout": 0}]}))],
            "hooks.poststart[0].timeout: 0 is not above 0 seconds",
        ),
    ]);
    accepted(&[
        &[("/ociVersion", json!("1.0.0-rc5"))],
        &[("/ociVersion", json!("1.9.0"))],
        &[("/process", json!(null))],
        &[("/hooks", json!({"startContainer": [{"path": "/only/inside"}]}))],
        &[("/linux", json!(null)), ("/hostname", json!(null))],
    ]);
}

#[test]
fn mounts() {
    let mount = |mount: Value| -> [(&'static str, Value); 1] { [("/mounts", json!([mount]))] };
    refused(&[
        (&mount(json!({"type": "proc"})), "mounts[0].destination: required"),
        (
            &mount(json!({"destination": "/x/..", "type": "tmpfs"})),
            "mounts[0].destination: /x/.. would cover the root filesystem",
        ),
        (
            &mount(json!({"destination": "/a\u{0}", "type": "tmpfs"})),
            "mounts[0].destination: holds a NUL byte",
        ),
        (&mount(json!({"destination": "/a"})), "mounts[0].type: required for all but bind mounts"),
        (
            &mount(json!({"destination": "/a", "options": ["rbind"]})),
            "mounts[0].source: required: what a bind mount shows",
        ),
        (
            &mount(json!({"destination": "/a", "source": "/srv/nope", "type": "bind"})),
            "mounts[0].source: no such file or directory: /srv/nope",
        ),
        (
            &mount(json!({"destination": "/a", "source": "nope", "options": ["bind"]})),
            "mounts[0].source: no such file or directory: ROOT/nope",
        ),
        (
            &mount(json!({"destination": "/a", "type": "tmpfs", "options": ["mode=1\u{0}"]})),
            "mounts[0].options[0]: holds a NUL byte",
        ),
        (
            &mount(json!({"destination": "/a", "source": "hosts", "options": ["bind", "idmap"]})),
            "mounts[0].options[1]: there is nothing to map by: neither mappings nor a user \
             namespace",
        ),
        (
            &mount(json!({"destination": "/a", "source": "hosts", "options": ["bind"],
                "uidMappings": [{"containerID": 0, "hostID": 1, "size": 1}]})),
            "mounts[0].uidMappings: needs gidMappings beside it",
        ),
        (
            &mount(json!({"destination": "/a", "source": "hosts", "options": ["bind"],
                "uidMappings": [{"containerID": 0, "hostID": 1}], "gidMappings": []})),
            "mounts[0].uidMappings[0].size: required",
        ),
        (
            &mount(json!({"destination": "/a", "source": "hosts", "options": ["bind"],
                "uidMappings": [{"containerID": 0, "hostID": 1, "size": 0}],
                "gidMappings": [{"containerID": 0, "hostID": 1, "size": 1}]})),
            "mounts[0].uidMappings[0].size: 0 maps nothing",
        ),
        (
            &mount(json!({"destination": "/a", "type": "tmpfs", "options": ["ridmap"],
                "uidMappings": [{"containerID": 0, "hostID": 1, "size": 1}],
                "gidMappings": [{"containerID": 0, "hostID": 1, "size": 1}]})),
            "mounts[0].uidMappings: only a bind mount can be id-mapped",
        ),
        (
            &mount(json!({"destination": "/a", "source": "hosts",
                "options": ["bind", "copy-symlink", "dest-nofollow"]})),
            "mounts[0].options: copy-symlink excludes src-nofollow and dest-nofollow",
        ),
    ]);
    accepted(&[
        &mount(json!({"destination": "/a", "type": "tmpfs", "options": ["unknown=5"]})),
        &mount(json!({"destination": "data", "type": "tmpfs"})),
        &mount(json!({"destination": "/", "options": ["remount", "ro"]})).map(|(p, mut v)| {
            v[0]["destination"] = json!("/a");
            (p, v)
        }),
    ]);
}

#[test]
fn processes() {
    refused(&[
        (&[("/process/args", json!([]))], "process.args: must name the program to run"),
        (&[("/process/args", json!(null))], "process.args: must name the program to run"),
        (&[("/process/args/0", json!("a\u{0}"))], "process.args[0]: holds a NUL byte"),
        (
            &[("/process/env", json!(["A=1", "B"]))],
            "process.env[1]: \"B\" is not of the form NAME=value",
        ),
        (&[("/process/env", json!(["=x"]))], "process.env[0]: \"=x\" has no name"),
        (&[("/process/cwd", json!(null))], "process.cwd: required: an absolute path"),
        (&[("/process/cwd", json!(""))], "process.cwd: required: an absolute path"),
        (&[("/process/cwd", json!("a/b"))], "process.cwd: must be an absolute path, not a/b"),
        (
            &[("/process/consoleSize", json!({"width": 65536, "height": 1}))],
            "process.consoleSize.width: 65536 is above 65535",
        ),
        (&[("/process/consoleSize", json!({"width": 1}))], "process.consoleSize.height: required"),
        // setresuid(2) takes it for "unchanged": the process would stay root.
        (
            &[("/process/user/uid", json!(4294967295u32))],
            "process.user.uid: 4294967295 (-1) is not an id",
        ),
        (
            &[("/process/user/gid", json!(4294967295u32))],
            "process.user.gid: 4294967295 (-1) is not an id",
        ),
        (
            &[("/process/user/additionalGids", json!([1, 4294967295u32]))],
            "process.user.additionalGids[1]: 4294967295 (-1) is not an id",
        ),
        (
            &[("/process/user/additionalGids", json!(vec![1; 65537]))],
            "process.user.additionalGids: 65537 groups are more than the kernel's 65536",
        ),
        (
            &[("/process/user/umask", json!(512))],
            "process.user.umask: 512 is above 511 (octal 777)",
        ),
        (
            &[("/process/rlimits/0/type", json!("RLIMIT_FOO"))],
            "process.rlimits[0].type: unknown variant `RLIMIT_FOO`, expected one of \
             `RLIMIT_CPU`, `RLIMIT_FSIZE`, `RLIMIT_DATA`, `RLIMIT_STACK`, `RLIMIT_CORE`, \
             `RLIMIT_RSS`, `RLIMIT_NPROC`, `RLIMIT_NOFILE`, `RLIMIT_MEMLOCK`, `RLIMIT_AS`, \
             `RLIMIT_LOCKS`, `RLIMIT_SIGPENDING`, `RLIMIT_MSGQUEUE`, `RLIMIT_NICE`, \
             `RLIMIT_RTPRIO`, `RLIMIT_RTTIME`",
        ),
        (
            &[("/process/rlimits/0/soft", json!(1025))],
            "process.rlimits[0].soft: 1025 is above the hard limit 1024",
        ),
        (
            &[(
                "/process/rlimits",
                json!([{"type": "RLIMIT_CPU", "soft": 1, "hard": 1},
                {"type": "RLIMIT_CPU", "soft": 1, "hard": 1}]),
            )],
            "process.rlimits[1].type: RLIMIT_CPU is there twice",
        ),
        (
            &[("/process/apparmorProfile", json!("a\nexec unconfined"))],
            "process.apparmorProfile: holds a NUL byte or a line break",
        ),
        (
            &[("/process/selinuxLabel", json!("a\u{0}"))],
            "process.selinuxLabel: holds a NUL byte or a line break",
        ),
        (
            &[("/process/oomScoreAdj", json!(1001))],
            "process.oomScoreAdj: 1001 is outside -1000 to 1000",
        ),
        (
            &[("/process/ioPriority", json!({"class": "IOPRIO_CLASS_BE", "priority": 8}))],
            "process.ioPriority.priority: 8 is outside 0 to 7",
        ),
        (&[("/process/ioPriority", json!({"priority": 1}))], "process.ioPriority.class: required"),
        (
            &[("/process/execCPUAffinity", json!({"final": "3-1"}))],
            "process.execCPUAffinity.final: \"3-1\" is not a list as 0-3,7",
        ),
        (
            &[("/process/execCPUAffinity", json!({"initial": "0 1"}))],
            "process.execCPUAffinity.initial: Invalid execCPUAffinity format: 0 1",
        ),
    ]);
    accepted(&[
        &[("/process/execCPUAffinity", json!({"initial": "", "final": "1-3, 65535"}))],
        &[("/process/user/uid", json!(4294967294u32))],
        &[("/process/oomScoreAdj", json!(-1000))],
        &[("/process/user", json!(null))],
        &[
            ("/process/terminal", json!(false)),
            ("/process/consoleSize", json!({"width": 1 << 20, "height": 0})),
        ],
    ]);
}

#[test]
fn schedulers() {
    let scheduler = |s: Value| -> [(&'static str, Value); 1] { [("/process/scheduler", s)] };
    refused(&[
        (&scheduler(json!({})), "process.scheduler.policy: required"),
        (
            &scheduler(json!({"policy": "SCHED_ISO"})),
            "process.scheduler.policy: SCHED_ISO is not implemented by Linux",
        ),
        (
            &scheduler(json!({"policy": "SCHED_OTHER", "nice": 20})),
            "process.scheduler.nice: 20 is outside -20 to 19",
        ),
        (
            &scheduler(json!({"policy": "SCHED_FIFO"})),
            "process.scheduler.priority: 0 is outside 1 to 99, as SCHED_FIFO and SCHED_RR need it",
        ),
        (
            &scheduler(json!({"policy": "SCHED_BATCH", "priority": 1})),
            "process.scheduler.priority: only SCHED_FIFO and SCHED_RR have one",
        ),
        (
            &scheduler(json!({"policy": "SCHED_OTHER", "period": 5})),
            "process.scheduler.period: only SCHED_DEADLINE has one",
        ),
        (
            &scheduler(json!({"policy": "SCHED_DEADLINE", "runtime": 1023, "deadline": 2000})),
            "process.scheduler.runtime: 1023 is below the kernel's 1024 ns",
        ),
        (
            &scheduler(json!({"policy": "SCHED_DEADLINE", "runtime": 3000, "deadline": 2000})),
            "process.scheduler.deadline: 2000 is below the runtime 3000",
        ),
        (
            &scheduler(json!({"policy": "SCHED_DEADLINE", "runtime": 1024, "deadline": 2000,
                "period": 1999})),
            "process.scheduler.period: 1999 is below the deadline 2000",
        ),
    ]);
    accepted(&[
        &scheduler(json!({"policy": "SCHED_RR", "priority": 99,
            "flags": ["SCHED_FLAG_RESET_ON_FORK"]})),
        &scheduler(json!({"policy": "SCHED_DEADLINE", "runtime": 1024, "deadline": 1024})),
    ]);
}

#[test]
fn namespaces() {
    let with = |entry: Value| -> [(&'static str, Value); 1] {
        let mut all = fixture("default")["linux"]["namespaces"].clone();
        all.as_array_mut().unwrap().push(entry);
        [("/linux/namespaces", all)]
    };
    refused(&[
        (&with(json!({"type": "pid"})), "linux.namespaces[6].type: pid is there twice"),
        (&with(json!({"path": "/x"})), "linux.namespaces[6].type: required"),
        (
            &with(json!({"type": "time", "path": "ns/time"})),
            "linux.namespaces[6].path: must be an absolute path, not ns/time",
        ),
        (
            &with(json!({"type": "time", "path": "/run/nope"})),
            "linux.namespaces[6].path: no such file or directory: /run/nope",
        ),
        (
            &with(json!({"type": "time", "path": "/proc/self/exe"})),
            "linux.namespaces[6].path: not a namespace: /proc/self/exe",
        ),
        (
            &with(json!({"type": "time", "path": "/proc/self/ns/uts"})),
            "linux.namespaces[6].path: not a time namespace: /proc/self/ns/uts",
        ),
        (
            &[("/linux/timeOffsets", json!({"boottime": {"secs": 1}}))],
            "linux.timeOffsets: needs a new time namespace",
        ),
        (
            &[
                with(json!({"type": "time"}))[0].clone(),
                ("/linux/timeOffsets", json!({"realtime": {"secs": 1}})),
            ],
            "linux.timeOffsets: unknown clock \"realtime\": there are monotonic and boottime",
        ),
        (
            &[
                with(json!({"type": "time"}))[0].clone(),
                ("/linux/timeOffsets", json!({"monotonic": {"nanosecs": 1000000000}})),
            ],
            "linux.timeOffsets.monotonic.nanosecs: 1000000000 is not below a second",
        ),
    ]);
}

#[test]
fn user_namespaces() {
    let whole = json!([{"containerID": 0, "hostID": 100000, "size": 65536}]);
    let with = |path: Option<&str>, uids: Value| -> Vec<(&'static str, Value)> {
        let mut all = fixture("default")["linux"]["namespaces"].clone();
        all.as_array_mut().unwrap().push(json!({"type": "user", "path": path}));
        vec![
            ("/linux/namespaces", all),
            ("/linux/uidMappings", uids),
            ("/linux/gidMappings", whole.clone()),
        ]
    };
    let map = |container: u32, host: u32, size: u32| {
        json!([{"containerID": 0, "hostID": 0, "size": 10},
               {"containerID": container, "hostID": host, "size": size}])
    };
    let and = |mut rows: Vec<(&'static str, Value)>, pointer, value| {
        rows.push((pointer, value));
        rows
    };
    refused(&[
        (&[("/linux/uidMappings", whole.clone())], "linux.uidMappings: needs a user namespace"),
        (&with(None, json!([])), "linux.uidMappings: required with a new user namespace"),
        (&with(None, map(10, 10, 0)), "linux.uidMappings[1].size: 0 maps nothing"),
        (
            &with(None, map(4294967295, 10, 1)),
            "linux.uidMappings[1].containerID: 4294967295 plus the size 1 is too much",
        ),
        (
            &with(None, map(10, 4294967000, 1000)),
            "linux.uidMappings[1].hostID: 4294967000 plus the size 1000 is too much",
        ),
        (&with(None, map(9, 100, 1)), "linux.uidMappings[1]: overlaps linux.uidMappings[0]"),
        (&with(None, map(100, 5, 1)), "linux.uidMappings[1]: overlaps linux.uidMappings[0]"),
        (
            &with(None, json!([{"containerID": 0, "hostID": 5}])),
            "linux.uidMappings[0].size: required",
        ),
        (
            &with(None, json!(vec![json!({"containerID": 0, "hostID": 0, "size": 1}); 341])),
            "linux.uidMappings: 341 entries are more than the kernel's 340",
        ),
        (
            &and(
                with(None, json!([{"containerID": 1, "hostID": 1, "size": 9}])),
                "/process/user/uid",
                json!(1),
            ),
            "linux.uidMappings: must map id 0 of the container: its files are set up as root",
        ),
        (
            &and(with(None, whole.clone()), "/process/user/uid", json!(65536)),
            "process.user.uid: 65536 is not mapped into the user namespace",
        ),
        (
            &and(with(None, whole.clone()), "/process/user/additionalGids", json!([7, 70000])),
            "process.user.additionalGids[1]: 70000 is not mapped into the user namespace",
        ),
    ]);
    accepted(&[&with(None, whole.clone()), &with(None, map(10, 10, 4294967285))]);

    // Both a path and mappings: right only where they agree.
    let dir = bundle_dir();
    let path = format!("/proc/{}/ns/user", std::process::id());
    let mut config = fixture("default");
    for (pointer, value) in with(Some(&path), json!([])) {
        set(&mut config, pointer, value);
    }
    let error = check(&config, dir.path()).unwrap_err().to_string();
    assert_eq!(
        error,
        format!("config.json: linux.gidMappings: differs from that of the namespace {path}")
    );
    let map = std::fs::read_to_string("/proc/self/gid_map").unwrap();
    let real: Vec<Value> = map
        .lines()
        .map(|line| {
            let n: Vec<u32> = line.split_whitespace().map(|n| n.parse().unwrap()).collect();
            json!({"containerID": n[0], "hostID": n[1], "size": n[2]})
        })
        .collect();
    set(&mut config, "/linux/gidMappings", json!(real));
    check(&config, dir.path()).unwrap();
    assert_eq!(
        warnings(&config, dir.path()),
        ["linux.gidMappings: the joined user namespace brings its own; ignored"]
    );
}

#[test]
fn sysctls() {
    let only = |key: &str, namespaces: Value| -> Vec<(&'static str, Value)> {
        vec![
            ("/linux/sysctl", json!({key: "1"})),
            ("/linux/namespaces", namespaces),
            ("/hostname", json!(null)),
        ]
    };
    let own = || json!([{"type": "mount"}, {"type": "uts"}, {"type": "ipc"}, {"type": "network"}]);
    let joined = |kind: &str, file: &str| json!([{"type": "mount"}, {"type": kind, "path": format!("/proc/self/ns/{file}")}]);
    let host = || json!([{"type": "mount"}]);
    refused(&[
        (
            &only("kernel.core_pattern", own()),
            "linux.sysctl[\"kernel.core_pattern\"]: not in any namespace: it would change the \
             host's",
        ),
        (
            &only("net/../kernel/core_pattern", own()),
            "linux.sysctl[\"net/../kernel/core_pattern\"]: not the name of a kernel parameter",
        ),
        // CVE-2022-0811
        (
            &only("kernel.shm_rmid_forced+kernel.core_pattern", own()),
            "linux.sysctl[\"kernel.shm_rmid_forced+kernel.core_pattern\"]: not the name of a \
             kernel parameter",
        ),
        (
            &only("kernel.hostname", own()),
            "linux.sysctl[\"kernel.hostname\"]: not allowed: the field hostname sets it",
        ),
        (
            &only("kernel/sem", host()),
            "linux.sysctl[\"kernel/sem\"]: needs an ipc namespace: it would change the host's",
        ),
        (
            &only("fs.mqueue.msg_max", host()),
            "linux.sysctl[\"fs.mqueue.msg_max\"]: needs an ipc namespace: it would change the \
             host's",
        ),
        (
            &only("net.core.somaxconn", host()),
            "linux.sysctl[\"net.core.somaxconn\"]: needs a network namespace: it would change \
             the host's",
        ),
        (
            &only("net.core.somaxconn", joined("network", "net")),
            "linux.sysctl[\"net.core.somaxconn\"]: /proc/self/ns/net is the host's: it would \
             change the host's",
        ),
        (
            &only("kernel.msgmax", joined("ipc", "ipc")),
            "linux.sysctl[\"kernel.msgmax\"]: /proc/self/ns/ipc is the host's: it would change \
             the host's",
        ),
        (
            &only("kernel.domainname", host()),
            "linux.sysctl[\"kernel.domainname\"]: needs a uts namespace: it would change the \
             host's",
        ),
        (
            &only("user.max_user_namespaces", own()),
            "linux.sysctl[\"user.max_user_namespaces\"]: needs a user namespace: it would change \
             the host's",
        ),
        (
            &[("/linux/sysctl", json!({"kernel.sem": "1\n2"}))],
            "linux.sysctl[\"kernel.sem\"]: the value holds a NUL byte or a line break",
        ),
    ]);
    for key in [
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.sem",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
        "kernel.shm_rmid_forced",
        "fs.mqueue.queues_max",
        "net.ipv4.ip_forward",
        "net/ipv4/conf/eth0.100/rp_filter",
        "kernel.domainname",
    ] {
        accepted(&[&only(key, own())]);
    }
}

#[test]
fn devices() {
    let device = |d: Value| -> [(&'static str, Value); 1] { [("/linux/devices", json!([d]))] };
    let node = json!({"path": "/dev/n", "type": "c", "major": 1, "minor": 3});
    let but = |key: &str, value: Value| {
        let mut changed = node.clone();
        changed[key] = value;
        device(changed)
    };
    refused(&[
        (
            &but("path", json!("dev/n")),
            "linux.devices[0].path: must be an absolute path, not \"dev/n\"",
        ),
        (&but("path", json!("/")), "linux.devices[0].path: / does not name a file"),
        (&but("type", json!("a")), "linux.devices[0].type: must be c, b, u or p, not a"),
        (
            &but("type", json!("x")),
            "linux.devices[0].type: unknown variant `x`, expected one of `a`, `b`, `c`, `u`, `p`",
        ),
        (&but("major", json!(null)), "linux.devices[0].major: required"),
        (&but("minor", json!(-1)), "linux.devices[0].minor: -1 is outside 0 to 1048575"),
        (&but("major", json!(4096)), "linux.devices[0].major: 4096 is outside 0 to 4095"),
        (
            &but("fileMode", json!(0o200666)),
            "linux.devices[0].fileMode: 65974 is above 4095 (octal 7777)",
        ),
        (&but("uid", json!(4294967295u32)), "linux.devices[0].uid: 4294967295 (-1) is not an id"),
        (
            &[("/linux/devices", json!([node, {"path": "/dev/n", "type": "p"}]))],
            "linux.devices[1].path: linux.devices[0] is another device there",
        ),
    ]);
    accepted(&[
        &device(json!({"path": "/dev/fifo", "type": "p"})),
        &[("/linux/devices", json!([node, node]))],
    ]);
    let dir = bundle_dir();
    let mut config = fixture("default");
    set(&mut config, "/linux/devices", json!([node, but("path", json!("/dev/m"))[0].1[0]]));
    assert_eq!(
        warnings(&config, dir.path()),
        ["linux.devices[1]: the same device as linux.devices[0]"]
    );
}

#[test]
fn the_rest_of_linux() {
    refused(&[
        (
            &[("/linux/cgroupsPath", json!("/a/../b"))],
            "linux.cgroupsPath: /a/../b must not hold ..",
        ),
        (&[("/linux/cgroupsPath", json!("a\u{0}"))], "linux.cgroupsPath: holds a NUL byte"),
        (&[("/linux/cgroupsPath", json!("/a\nb"))], "linux.cgroupsPath: holds a line break"),
        (
            &[("/linux/cgroupsPath", json!("system.slice:docker:4f2d"))],
            "linux.cgroupsPath: system.slice:docker:4f2d is a path for systemd \
             (slice:prefix:name)",
        ),
        (
            &[("/linux/maskedPaths", json!(["proc/kcore"]))],
            "linux.maskedPaths[0]: must be an absolute path, not \"proc/kcore\"",
        ),
        (
            &[("/linux/namespaces", json!([{"type": "uts"}])), ("/linux/maskedPaths", json!([]))],
            "linux.readonlyPaths: needs a mount namespace: it would change the host's mounts",
        ),
        (
            &[("/linux/rootfsPropagation", json!("public"))],
            "linux.rootfsPropagation: \"public\" is not one of shared, slave, private, \
             unbindable, rshared, rslave, rprivate, runbindable",
        ),
        (
            &[("/linux/personality", json!({"domain": "LINUX", "flags": ["x"]}))],
            "linux.personality.flags: must be empty: the spec knows no flags",
        ),
        (
            &[("/linux/personality", json!({"domain": "BSD"}))],
            "linux.personality.domain: unknown variant `BSD`, expected `LINUX` or `LINUX32`",
        ),
    ]);
}

#[test]
fn network_devices() {
    let one = |key: &str, device: Value| [("/linux/netDevices", json!({ key: device }))];
    refused(&[
        (&one("eth0", json!([])), "linux.netDevices.eth0: must be an object, not an array"),
        (&one("lo", json!({})), "linux.netDevices.lo: the loopback device cannot be moved"),
        (
            &one("eth0", json!({"name": "lo"})),
            "linux.netDevices.eth0.name: every network namespace has a device lo already",
        ),
        (
            &one("a:b", json!({})),
            "linux.netDevices.a:b: a name of a network device holds no slash, colon or blank: \"a:b\"",
        ),
        (
            &one("eth0", json!({"name": "0123456789abcdef"})),
            "linux.netDevices.eth0.name: a name of a network device has at most 15 bytes: \
             \"0123456789abcdef\"",
        ),
        (
            &one("eth\u{1b}[2J", json!({})),
            "linux.netDevices.eth\\u{1b}[2J: a name of a network device holds no control \
             character: \"eth\\u{1b}[2J\"",
        ),
        (
            &one("eth0", json!({"name": "."})),
            "linux.netDevices.eth0.name: not a name of a network device: \".\"",
        ),
        (
            &one("eth0", json!({"name": "%d%d"})),
            "linux.netDevices.eth0.name: a template has one %d and no other %: \"%d%d\"",
        ),
        (
            &[("/linux/netDevices", json!({"a": {"name": "b"}, "b": null}))],
            "linux.netDevices.b: linux.netDevices.a is to be named b, too",
        ),
    ]);
    let dir = bundle_dir();
    let mut config = fixture("default");
    for good in [json!({"a": {"name": "x%d"}, "b": {"name": "x%d"}}), json!({"a": {"name": ""}})] {
        set(&mut config, "/linux/netDevices", good);
        check(&config, dir.path()).unwrap();
    }
    set(&mut config, "/linux/namespaces", json!([{"type": "mount"}]));
    set(&mut config, "/hostname", json!(null));
    assert!(
        check(&config, dir.path())
            .unwrap_err()
            .to_string()
            .contains("linux.netDevices: needs a network namespace to move the devices to")
    );
    let list = |devices: Value| {
        let mut config = fixture("default");
        set(&mut config, "/linux/netDevices", devices);
        let spec = bundle::parse_spec(&config.to_string()).unwrap();
        let list = corten::plan::network::NetDevice::list(spec.linux().as_ref());
        list.into_iter().map(|d| (d.name, d.new_name)).collect::<Vec<_>>()
    };
    // A key alone asks for the device, whatever its value leaves out.
    let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
    assert_eq!(
        list(json!({"c": null, "b": {}, "a": {"name": "x"}, "d": {"name": ""}})),
        [pair("a", "x"), pair("b", "b"), pair("c", "c"), pair("d", "d")]
    );
}

#[test]
fn intel_rdt() {
    let rdt = |value: Value| [("/linux/intelRdt", value)];
    refused(&[
        (
            &rdt(json!({"closID": "a/b"})),
            "linux.intelRdt.closID: must be the name of one directory, or /, not \"a/b\"",
        ),
        (
            &rdt(json!({"memBwSchema": "L3:0=1"})),
            "linux.intelRdt.memBwSchema: must start with MB:, not \"L3:0=1\"",
        ),
        (
            &rdt(json!({"memBwSchema": "MB:0=1\nL3:0=1"})),
            "linux.intelRdt.memBwSchema: holds a line break",
        ),
        (
            &rdt(json!({"schemata": ["L3:0=1", "\n"]})),
            "linux.intelRdt.schemata[1]: holds a line break",
        ),
        (&rdt(json!([])), "linux.intelRdt: must be an object, not an array"),
    ]);
    let dir = bundle_dir();
    let mut config = fixture("default");
    set(&mut config, "/linux/intelRdt", json!({"closID": "/", "l3CacheSchema": "L2:0=1"}));
    check(&config, dir.path()).unwrap();
    assert!(
        warnings(&config, dir.path()).contains(
            &"linux.intelRdt.l3CacheSchema: should be one line that starts with L3:".into()
        )
    );
    let plan = |value: Value| {
        let mut config = fixture("default");
        set(&mut config, "/linux/intelRdt", value);
        let spec = bundle::parse_spec(&config.to_string()).unwrap();
        corten::plan::rdt::RdtPlan::build(spec.linux().as_ref())
    };
    assert_eq!(plan(json!(null)), None);
    let empty = plan(json!({"closID": "", "l3CacheSchema": "", "schemata": [""]})).unwrap();
    assert_eq!(empty, corten::plan::rdt::RdtPlan::default());
    let full = plan(json!({
        "closID": "gold", "schemata": ["L2:0=1", "L3:0=3"], "memBwSchema": "MB:0=20",
        "l3CacheSchema": "L3:0=f", "enableMonitoring": true,
    }));
    let full = full.unwrap();
    assert_eq!((full.clos.as_deref(), full.monitoring), (Some("gold"), true));
    assert_eq!(full.schemata, ["L3:0=f", "MB:0=20", "L2:0=1", "L3:0=3"]);
}

#[test]
fn resources() {
    let cases: &[(&str, Value, &str)] = &[
        ("memory", json!({"limit": -2}), "memory.limit: -2 is neither a size nor -1 (unlimited)"),
        ("memory", json!({"swappiness": 101}), "memory.swappiness: 101 is outside 0 to 100"),
        ("memory", json!({"swap": 5}), "memory.swap: needs a memory limit"),
        ("memory", json!({"limit": 6, "swap": 5}), "memory.swap: 5 is below the memory limit 6"),
        ("cpu", json!({"quota": -2}), "cpu.quota: -2 is neither a time nor -1 (unlimited)"),
        ("cpu", json!({"quota": 999}), "cpu.quota: 999 is below the kernel's 1000 microseconds"),
        ("cpu", json!({"period": 999}), "cpu.period: 999 is outside 1000 to 1000000 microseconds"),
        (
            "cpu",
            json!({"period": 1000001}),
            "cpu.period: 1000001 is outside 1000 to 1000000 microseconds",
        ),
        ("cpu", json!({"quota": 2000, "burst": 2001}), "cpu.burst: 2001 is above the quota 2000"),
        ("cpu", json!({"idle": 2}), "cpu.idle: 2 is neither 0 nor 1"),
        (
            "cpu",
            json!({"realtimeRuntime": 5, "realtimePeriod": 4}),
            "cpu.realtimeRuntime: 5 is above the realtimePeriod 4",
        ),
        (
            "cpu",
            json!({"realtimeRuntime": -2}),
            "cpu.realtimeRuntime: -2 is neither a time nor -1 (unlimited)",
        ),
        ("cpu", json!({"cpus": "1;2"}), "cpu.cpus: \"1;2\" is not a list as 0-3,7"),
        ("cpu", json!({"mems": "a"}), "cpu.mems: \"a\" is not a list as 0-3,7"),
        (
            "pids",
            json!({"limit": -2}),
            "pids.limit: -2 is neither a number of tasks nor -1 (unlimited)",
        ),
        ("blockIO", json!({"weight": 9}), "blockIO.weight: 9 is outside 10 to 1000"),
        ("blockIO", json!({"leafWeight": 1001}), "blockIO.leafWeight: 1001 is outside 10 to 1000"),
        (
            "blockIO",
            json!({"weightDevice": [{"major": 8, "minor": 0}]}),
            "blockIO.weightDevice[0]: must have a weight or a leafWeight",
        ),
        (
            "blockIO",
            json!({"throttleReadBpsDevice": [{"major": 8, "minor": -1, "rate": 1}]}),
            "blockIO.throttleReadBpsDevice[0].minor: -1 is not a device number",
        ),
        (
            "blockIO",
            json!({"throttleWriteIOPSDevice": [{"major": 8, "minor": 1}]}),
            "blockIO.throttleWriteIOPSDevice[0].rate: required",
        ),
        (
            "hugepageLimits",
            json!([{"pageSize": "64kB", "limit": 5}]),
            "hugepageLimits[0].pageSize: \"64kB\" is not a size as 64KB, 2MB or 1GB",
        ),
        (
            "hugepageLimits",
            json!([{"pageSize": "2MB", "limit": -1}]),
            "hugepageLimits[0].limit: -1 is below 0",
        ),
        (
            "network",
            json!({"priorities": [{"name": "eth0 5", "priority": 1}]}),
            "network.priorities[0].name: \"eth0 5\" is not the name of a network interface",
        ),
        ("rdma", json!({"mlx5_1": {}}), "rdma.mlx5_1: must have hcaHandles or hcaObjects"),
        ("rdma", json!({"a b": {"hcaHandles": 1}}), "rdma: \"a b\" is not the name of a device"),
        ("unified", json!({"../x": "1"}), "unified: \"../x\" is not the name of a file"),
        ("unified", json!({"..": "1"}), "unified: \"..\" is not the name of a file"),
        (
            "rdma",
            json!({"\u{1b}": {"hcaObjects": 1}}),
            "rdma: \"\\u{1b}\" is not the name of a device",
        ),
        (
            "network",
            json!({"priorities": [{"name": "et\u{1b}0", "priority": 1}]}),
            "network.priorities[0].name: \"et\\u{1b}0\" is not the name of a network interface",
        ),
        ("unified", json!({"2-3": "1"}), "unified: \"2-3\" is not CONTROLLER.PARAMETER"),
        (
            "unified",
            json!({"cgroup.procs": "1"}),
            "unified: cgroup.procs acts on processes and is no limit",
        ),
        (
            "unified",
            json!({"cgroup.threads": "1"}),
            "unified: cgroup.threads acts on processes and is no limit",
        ),
        (
            "unified",
            json!({"cgroup.kill": "1"}),
            "unified: cgroup.kill acts on processes and is no limit",
        ),
        (
            "unified",
            json!({"cgroup.freeze": "1"}),
            "unified: cgroup.freeze acts on processes and is no limit",
        ),
        ("unified", json!({"cpu.": "1"}), "unified: \"cpu.\" is not CONTROLLER.PARAMETER"),
        (
            "devices",
            json!([{"allow": true, "type": "p", "access": "r"}]),
            "devices[0].type: must be a, b or c",
        ),
        (
            "devices",
            json!([{"allow": true, "access": "rx"}]),
            "devices[0].access: \"rx\" is not a combination of r, w and m",
        ),
        (
            "devices",
            json!([{"allow": true}]),
            "devices[0].access: \"\" is not a combination of r, w and m",
        ),
        (
            "devices",
            json!([{"allow": true, "access": "r", "major": -2}]),
            "devices[0].major: -2 is not a device number",
        ),
        ("devices", json!([{"access": "r"}]), "devices[0].allow: required"),
    ];
    for (section, value, expected) in cases {
        let pointer = format!("/linux/resources/{section}");
        refused(&[(&[(pointer.as_str(), value.clone())], &format!("linux.resources.{expected}"))]);
        // `update` finds the same, but for what may be set already.
        let update = bundle::parse_resources(&json!({ *section: value }).to_string())
            .and_then(|r| validate::resources(&r, "resources", &str::to_owned));
        if *expected == "memory.swap: needs a memory limit" {
            update.unwrap();
        } else {
            assert_eq!(update.unwrap_err().to_string(), format!("resources: {expected}"));
        }
    }
    let section = |name, value: Value| -> [(&str, Value); 1] { [(name, value)] };
    accepted(&[
        &section("/linux/resources/memory", json!({"limit": -1, "swap": -1, "reservation": 0})),
        &section("/linux/resources/pids", json!({"limit": -1})),
        &section("/linux/resources/cpu", json!({"quota": 0, "period": 0, "shares": 0})),
        &section(
            "/linux/resources/devices",
            json!([{"allow": true, "type": "c", "major": 5,
            "minor": -1, "access": "rwm"}]),
        ),
        &section("/linux/resources/unified", json!({"memory.high": "1"})),
    ]);
}

/// No system call can take a NUL: what stands after it would be lost without a word.
#[test]
fn no_text_holds_a_nul() {
    let hook = |key: &str, value: Value| {
        let mut hook = json!({"path": "/x"});
        hook[key] = value;
        json!({"poststop": [hook]})
    };
    let tmpfs = |source: &str| json!([{"destination": "/a", "type": "tmpfs", "source": source}]);
    let cases = [
        ("/process/env", json!(["A=\u{0}"]), "process.env[0]"),
        ("/process/cwd", json!("/a\u{0}"), "process.cwd"),
        ("/hostname", json!("a\u{0}"), "hostname"),
        ("/domainname", json!("a\u{0}"), "domainname"),
        ("/hooks", hook("path", json!("/x\u{0}")), "hooks.poststop[0].path"),
        ("/hooks", hook("args", json!(["x", "\u{0}"])), "hooks.poststop[0].args[1]"),
        ("/hooks", hook("env", json!(["x\u{0}"])), "hooks.poststop[0].env[0]"),
        ("/mounts", tmpfs("a\u{0}"), "mounts[0].source"),
        ("/mounts", json!([{"destination": "/a", "type": "a\u{0}"}]), "mounts[0].type"),
        ("/linux/namespaces/0/path", json!("/proc/self/ns/pid\u{0}"), "linux.namespaces[0].path"),
        ("/linux/devices", json!([{"path": "/dev/\u{0}", "type": "p"}]), "linux.devices[0].path"),
        ("/linux/maskedPaths", json!(["/\u{0}"]), "linux.maskedPaths[0]"),
        ("/linux/readonlyPaths", json!(["/\u{0}"]), "linux.readonlyPaths[0]"),
        ("/linux/resources/unified", json!({"a.b": "\u{0}"}), "linux.resources.unified[\"a.b\"]"),
    ];
    for (pointer, value, field) in cases {
        refused(&[(&[(pointer, value)], &format!("{field}: holds a NUL byte"))]);
    }
}

#[test]
fn what_is_only_warned_of() {
    let dir = bundle_dir();
    let warned = |pointer: &str, value: Value| {
        let mut config = fixture("default");
        set(&mut config, pointer, value);
        check(&config, dir.path()).unwrap();
        warnings(&config, dir.path())
    };
    assert_eq!(warned("/hostname", json!("x")), Vec::<String>::new());
    assert_eq!(
        warned("/ociVersion", json!("1.4.0")),
        ["ociVersion: 1.4.0 is newer than 1.3.0: what it adds is ignored"]
    );
    assert_eq!(
        warned("/mounts/0/destination", json!("proc")),
        ["mounts[0].destination: proc is relative, which is deprecated; taken as relative to /"]
    );
    assert_eq!(
        warned("/process/capabilities/ambient", json!(["CAP_KILL"])),
        ["process.capabilities.ambient: CAP_KILL cannot be granted, not being inheritable"]
    );
    assert_eq!(
        warned("/linux/resources/memory", json!({"kernel": 5, "kernelTCP": 0})),
        ["linux.resources.memory.kernel: kernels since 5.16 have no such limit; not set"]
    );
}

#[test]
fn a_process_by_itself() {
    let process = bundle::parse_process(r#"{"args":["sh"],"cwd":"x"}"#).unwrap();
    let text = |file| validate::process(&process, file).unwrap_err().to_string();
    assert_eq!(text("process.json"), "process.json: cwd: must be an absolute path, not x");
    assert_eq!(
        text("config.json: process"),
        "config.json: process.cwd: must be an absolute path, not x"
    );
}

#[test]
fn memory_policies() {
    let field = "/linux/memoryPolicy";
    let with = |mode: &str, nodes: &str, flags: &[&str]| json!({"mode": mode, "nodes": nodes, "flags": flags});
    let (fixed, relative, balanced) =
        ("MPOL_F_STATIC_NODES", "MPOL_F_RELATIVE_NODES", "MPOL_F_NUMA_BALANCING");
    refused(&[
        (&[(field, json!({"nodes": "0"}))], "linux.memoryPolicy.mode: required"),
        (&[(field, json!([]))], "linux.memoryPolicy: must be an object, not an array"),
        (
            &[(field, with("BIND", "0", &[]))],
            "linux.memoryPolicy.mode: unknown variant `BIND`, expected one of `MPOL_DEFAULT`, \
             `MPOL_BIND`, `MPOL_INTERLEAVE`, `MPOL_WEIGHTED_INTERLEAVE`, `MPOL_PREFERRED`, \
             `MPOL_PREFERRED_MANY`, `MPOL_LOCAL`",
        ),
        (
            &[(field, with("MPOL_BIND", "0", &["MPOL_F_X"]))],
            "linux.memoryPolicy.flags[0]: unknown variant `MPOL_F_X`, expected one of \
             `MPOL_F_NUMA_BALANCING`, `MPOL_F_RELATIVE_NODES`, `MPOL_F_STATIC_NODES`",
        ),
        (
            &[(field, with("MPOL_DEFAULT", "0", &[]))],
            "linux.memoryPolicy.nodes: MPOL_DEFAULT takes none",
        ),
        (
            &[(field, with("MPOL_LOCAL", "0", &[]))],
            "linux.memoryPolicy.nodes: MPOL_LOCAL takes none",
        ),
        (
            &[(field, with("MPOL_INTERLEAVE", "", &[]))],
            "linux.memoryPolicy.nodes: MPOL_INTERLEAVE needs at least one",
        ),
        (
            &[(field, with("MPOL_BIND", "0-9876543210", &[]))],
            "linux.memoryPolicy.nodes: \"0-9876543210\" is not a list as 0-3,7",
        ),
        (
            &[(field, with("MPOL_BIND", "0", &[fixed, relative]))],
            "linux.memoryPolicy.flags: MPOL_F_STATIC_NODES and MPOL_F_RELATIVE_NODES exclude each \
             other",
        ),
        (
            &[(field, with("MPOL_PREFERRED", "", &[relative]))],
            "linux.memoryPolicy.flags: MPOL_F_STATIC_NODES and MPOL_F_RELATIVE_NODES need nodes",
        ),
        (
            &[(field, with("MPOL_PREFERRED", "0", &[balanced]))],
            "linux.memoryPolicy.flags: MPOL_F_NUMA_BALANCING does not go with MPOL_PREFERRED",
        ),
    ]);
    accepted(&[
        &[(field, with("MPOL_DEFAULT", "", &[]))],
        &[(field, with("MPOL_PREFERRED", "", &[]))],
        &[(field, with("MPOL_WEIGHTED_INTERLEAVE", "2-3, 5", &[fixed]))],
        &[(field, with("MPOL_BIND", "0", &[fixed, balanced]))],
        &[(field, with("MPOL_PREFERRED_MANY", "0", &[balanced]))],
    ]);
}

#[test]
fn unknown_properties_are_ignored() {
    let unknown = json!({"of": ["tomorrow"]});
    accepted(&[&[
        ("/new", unknown.clone()),
        ("/process/new", unknown.clone()),
        ("/process/user/new", unknown.clone()),
        ("/process/capabilities/new", json!(["CAP_KILL"])),
        ("/root/new", unknown.clone()),
        ("/linux/new", unknown.clone()),
        ("/linux/resources/new", unknown.clone()),
        ("/annotations", json!({"org.opencontainers.new": "", "com.example": "x"})),
    ]]);
}
