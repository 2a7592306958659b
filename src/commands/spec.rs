//! `spec`: a config.json to begin with, for the same container as runc's.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::path::Path;

use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};
use nix::unistd::{getegid, geteuid};
use serde::Serialize;
use serde_json::{Value, json};

use crate::cli::SpecArgs;
use crate::config::bundle::CONFIG;
use crate::error::{Context, Fault, Kind, Result};
use crate::plan::{OCI_VERSION, seccomp};

/// In the order in which people read it.
#[derive(Debug, Serialize)]
struct Config {
    #[serde(rename = "ociVersion")]
    oci_version: &'static str,
    process: Value,
    root: Value,
    hostname: &'static str,
    mounts: Vec<Mount>,
    linux: Value,
}

#[derive(Debug, Serialize)]
struct Mount {
    destination: &'static str,
    #[serde(rename = "type")]
    kind: &'static str,
    source: &'static str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    options: Vec<&'static str>,
}

/// `spec`: writes config.json, and never over one that is there.
pub fn spec(args: &SpecArgs) -> Result<()> {
    let profile = match args.seccomp.as_str() {
        "none" => None,
        name => Some(profile(name)?),
    };
    let mut text = Vec::new();
    let indented = serde_json::ser::PrettyFormatter::with_indent(b"\t");
    let mut writer = serde_json::Serializer::with_formatter(&mut text, indented);
    let config = config(args.rootless, is_v2_only(), profile);
    config.serialize(&mut writer).context("cannot write the config as JSON")?;
    text.push(b'\n');
    let path = args.bundle.join(CONFIG);
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&path)
        .and_then(|mut file| file.write_all(&text));
    match written {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            let text = format!("{} is there already", path.display());
            Err(Fault::new(Kind::Exists, text).hint("remove it first").into())
        }
        written => written.with_context(|| format!("cannot write {}", path.display())),
    }
}

fn profile(name: &str) -> Result<Value> {
    let text = seccomp::builtin(name).ok_or_else(|| {
        let text = format!("--seccomp {name}: there is no such profile for this architecture");
        Fault::new(Kind::Unsupported, text)
    })?;
    serde_json::from_str(text).context("damaged seccomp profile")
}

fn is_v2_only() -> bool {
    let kind = statfs(Path::new("/sys/fs/cgroup")).map(|fs| fs.filesystem_type());
    kind == Ok(CGROUP2_SUPER_MAGIC)
}

fn config(rootless: bool, v2_only: bool, profile: Option<Value>) -> Config {
    let capabilities = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"];
    Config {
        oci_version: OCI_VERSION,
        process: json!({
            "terminal": true,
            "user": { "uid": 0, "gid": 0 },
            "args": ["sh"],
            "env": [
                "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                "TERM=xterm",
            ],
            "cwd": "/",
            "capabilities": {
                "bounding": capabilities,
                "effective": capabilities,
                "permitted": capabilities,
            },
            "rlimits": [{ "type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024 }],
            "noNewPrivileges": true,
        }),
        root: json!({ "path": "rootfs", "readonly": true }),
        hostname: "corten",
        mounts: mounts(rootless),
        linux: linux(rootless, v2_only, profile),
    }
}

fn mounts(rootless: bool) -> Vec<Mount> {
    let mount = |destination, kind, source, options: &[&'static str]| Mount {
        destination,
        kind,
        source,
        options: options.to_vec(),
    };
    let mut pts = vec!["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"];
    if !rootless {
        // The group tty, which the map of a single user does not have.
        pts.push("gid=5");
    }
    let sys = match rootless {
        // A sysfs belongs to the owner of the network namespace, here the host's.
        true => mount("/sys", "none", "/sys", &["rbind", "nosuid", "noexec", "nodev", "ro"]),
        false => mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
    };
    vec![
        mount("/proc", "proc", "proc", &[]),
        mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount("/dev/pts", "devpts", "devpts", &pts),
        mount(
            "/dev/shm",
            "tmpfs",
            "shm",
            &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"],
        ),
        mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        sys,
        mount(
            "/sys/fs/cgroup",
            "cgroup",
            "cgroup",
            &["nosuid", "noexec", "nodev", "relatime", "ro"],
        ),
    ]
}

fn linux(rootless: bool, v2_only: bool, profile: Option<Value>) -> Value {
    let mut kinds = vec!["pid", "ipc", "uts", "mount"];
    kinds.push(if rootless { "user" } else { "network" });
    if v2_only {
        kinds.push("cgroup");
    }
    let namespaces: Vec<Value> = kinds.iter().map(|kind| json!({ "type": kind })).collect();
    let mut linux = json!({
        "namespaces": namespaces,
        // What tells of the host or changes it.
        "maskedPaths": [
            "/proc/acpi",
            "/proc/asound",
            "/proc/interrupts",
            "/proc/kcore",
            "/proc/keys",
            "/proc/latency_stats",
            "/proc/sched_debug",
            "/proc/scsi",
            "/proc/timer_list",
            "/proc/timer_stats",
            "/sys/devices/virtual/powercap",
            "/sys/firmware",
        ],
        "readonlyPaths": [
            "/proc/bus",
            "/proc/fs",
            "/proc/irq",
            "/proc/sys",
            "/proc/sysrq-trigger",
        ],
    });
    let Some(fields) = linux.as_object_mut() else { return linux };
    if rootless {
        let map = |id: u32| json!([{ "containerID": 0, "hostID": id, "size": 1 }]);
        fields.insert("uidMappings".into(), map(geteuid().as_raw()));
        fields.insert("gidMappings".into(), map(getegid().as_raw()));
    } else {
        let devices = json!([{ "allow": false, "access": "rwm" }]);
        fields.insert("resources".into(), json!({ "devices": devices }));
    }
    if let Some(profile) = profile {
        fields.insert("seccomp".into(), profile);
    }
    linux
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{bundle, validate};
    use crate::error::{kind, render_line};

    fn args(dir: &Path, rootless: bool, seccomp: &str) -> SpecArgs {
        SpecArgs { bundle: dir.to_owned(), rootless, seccomp: seccomp.to_owned() }
    }

    #[test]
    fn what_is_written_is_a_good_bundle() {
        for (rootless, profile) in
            [(false, "none"), (false, "default"), (false, "strict"), (true, "none")]
        {
            let dir = tempfile::tempdir().unwrap();
            std::fs::create_dir(dir.path().join("rootfs")).unwrap();
            spec(&args(dir.path(), rootless, profile)).unwrap();
            let bundle = bundle::load(dir.path()).unwrap();
            validate::container(&bundle.spec, &bundle.dir).unwrap();
            let json: Value = serde_json::from_str(&bundle.raw).unwrap();
            let has = |place: &str| json.pointer(place).is_some();
            assert_eq!(has("/linux/seccomp"), profile != "none");
            assert_eq!(has("/linux/uidMappings/0/hostID"), rootless);
            assert_eq!(has("/linux/resources"), !rootless);
            assert!(bundle.raw.starts_with("{\n\t\"ociVersion\": \"1.3.0\",\n\t\"process\": {"));
        }
    }

    #[test]
    fn nothing_is_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(CONFIG), "mine").unwrap();
        let error = spec(&args(dir.path(), false, "none")).unwrap_err();
        assert_eq!(kind(&error), Kind::Exists);
        assert_eq!(std::fs::read_to_string(dir.path().join(CONFIG)).unwrap(), "mine");
        let error = spec(&args(&dir.path().join("no"), false, "none")).unwrap_err();
        assert!(render_line(&error).ends_with("config.json: no such file or directory"));
    }

    #[test]
    fn a_cgroup_namespace_only_where_v2_is_all() {
        let kinds = |v2| linux(false, v2, None)["namespaces"].to_string();
        assert!(kinds(true).contains("cgroup") && !kinds(false).contains("cgroup"));
    }
}
