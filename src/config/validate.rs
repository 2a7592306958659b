//! Every rule of the spec that can be checked before anything is done. A check is a function
//! that adds to the list of faults; what the spec only discourages is a warning.

mod linux;
mod memory_policy;
mod mounts;
mod network;
mod rdt;
mod resources;
mod sysctl;

use std::path::Path;

use oci_spec::runtime::{
    Hook, Linux, LinuxNamespaceType as NamespaceType, LinuxResources, Process, Spec,
};

use super::bundle::CONFIG;
use super::faults::Faults;
use crate::error::{Fault, Result};

pub use rdt::bad_mem_bw_schema;
pub use sysctl::path as sysctl_path;

/// The newest version of the runtime spec that is known here, and its major version the only
/// one: the spec promises compatibility within it.
pub const SPEC_VERSION: &str = "1.3.0";
const MAJOR: u64 = 1;
const MINOR: u64 = 3;

/// __NEW_UTS_LEN of linux/utsname.h, for host and domain name.
const MAX_UTS_NAME: usize = 64;

/// NAME_MAX: the id is the name of a directory.
const MAX_ID: usize = 255;

/// What the checks look at.
struct Facts<'a> {
    spec: &'a Spec,
    bundle: &'a Path,
    linux: Option<&'a Linux>,
}

/// Where a namespace of the container comes from.
#[derive(PartialEq)]
enum Origin<'a> {
    Host,
    New,
    Joined(&'a Path),
}

impl<'a> Facts<'a> {
    fn namespace(&self, kind: NamespaceType) -> Origin<'a> {
        let mut all = self.linux.and_then(|l| l.namespaces().as_ref()).into_iter().flatten();
        match all.find(|n| n.typ() == kind) {
            None => Origin::Host,
            Some(namespace) => match namespace.path() {
                Some(path) if !path.as_os_str().is_empty() => Origin::Joined(path),
                _ => Origin::New,
            },
        }
    }

    fn has(&self, kind: NamespaceType) -> bool {
        self.namespace(kind) != Origin::Host
    }
}

type Check = fn(&Facts<'_>, &mut Faults);

const CHECKS: &[Check] = &[
    oci_version,
    root,
    mounts::check,
    process_in_container,
    uts_names,
    hooks,
    annotations,
    linux::namespaces,
    linux::id_mappings,
    linux::user_is_mapped,
    linux::time_offsets,
    linux::devices,
    linux::cgroups_path,
    linux::resources,
    sysctl::check,
    linux::hidden_paths,
    linux::rootfs_propagation,
    linux::personality,
    network::devices,
    rdt::check,
    memory_policy::check,
];

type Warning = fn(&Facts<'_>) -> Vec<String>;

const WARNINGS: &[Warning] = &[
    newer_minor_version,
    mounts::warnings,
    capabilities,
    linux::device_warnings,
    linux::mapping_warnings,
    linux::resource_warnings,
    rdt::warnings,
];

/// Checks a whole config.json of the bundle in `bundle` (absolute). All faults come in one error;
/// when there is none, warnings are logged.
pub fn container(spec: &Spec, bundle: &Path) -> Result<()> {
    let facts = Facts { spec, bundle, linux: spec.linux().as_ref() };
    let mut faults = Faults::default();
    for check in CHECKS {
        check(&facts, &mut faults);
    }
    faults.into_result(CONFIG)?;
    for warning in warnings(spec, bundle) {
        log::warn!("{CONFIG}: {warning}");
    }
    Ok(())
}

/// What [`container`] logs.
pub fn warnings(spec: &Spec, bundle: &Path) -> Vec<String> {
    let facts = Facts { spec, bundle, linux: spec.linux().as_ref() };
    WARNINGS.iter().flat_map(|warning| warning(&facts)).collect()
}

/// Checks the process of an `exec`. `file` begins the messages: "process.json", or
/// "FILE: FIELD" for a process that stands in a field of a file.
pub fn process(process: &Process, file: &str) -> Result<()> {
    let (file, at) = match file.split_once(": ") {
        Some((file, field)) => (file, format!("{field}.")),
        None => (file, String::new()),
    };
    let mut faults = Faults::default();
    super::process::check(process, &at, &mut faults);
    faults.into_result(file)?;
    for warning in super::process::warnings(process, &at) {
        log::warn!("{file}: {warning}");
    }
    Ok(())
}

/// Checks the limits of an `update`, which need not be complete. `file` begins the messages;
/// `name` says what the user calls a field.
pub fn resources(
    resources: &LinuxResources,
    file: &str,
    name: &dyn Fn(&str) -> String,
) -> Result<()> {
    let mut faults = Faults::default();
    resources::check(resources, "", &mut faults);
    faults.rename(name);
    faults.into_result(file)?;
    for warning in resources::warnings(resources, "") {
        log::warn!("{file}: {warning}");
    }
    Ok(())
}

/// Checks a container id: one file name of letters, digits and `_ + - .`, as runc's.
pub fn container_id(id: &str) -> Result<()> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '+' | '-' | '.');
    let what = if id.is_empty() || id == "." || id == ".." || !id.chars().all(allowed) {
        "an id is made of letters, digits and _ + - . and is not . or .."
    } else if id.len() > MAX_ID {
        "an id has at most 255 characters"
    } else {
        return Ok(());
    };
    Err(Fault::bad_input(format!("invalid container ID format: {id:?}")).hint(what).into())
}

/// Major and minor of a version by semver.org 2.0.0; `None` when it is not one.
fn semver(version: &str) -> Option<(u64, u64)> {
    let (version, build) = version.split_once('+').map_or((version, None), |(v, b)| (v, Some(b)));
    let (core, pre) = version.split_once('-').map_or((version, None), |(v, p)| (v, Some(p)));
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let good = digits && (text == "0" || !text.starts_with('0'));
        good.then(|| text.parse::<u64>().ok()).flatten()
    };
    let word = |w: &str| !w.is_empty() && w.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    let numeric = |w: &str| w.bytes().all(|b| b.is_ascii_digit());
    let mut numbers = core.split('.').map(number);
    let found = (numbers.next()??, numbers.next()??, numbers.next()??);
    let good = numbers.next().is_none()
        && build.is_none_or(|b| b.split('.').all(word))
        && pre
            .is_none_or(|p| p.split('.').all(|w| word(w) && (!numeric(w) || number(w).is_some())));
    good.then_some((found.0, found.1))
}

fn oci_version(facts: &Facts<'_>, faults: &mut Faults) {
    let version = facts.spec.version();
    match semver(version) {
        _ if version.is_empty() => faults.bad("ociVersion", "required"),
        None => faults.bad("ociVersion", format!("{version:?} is not a semantic version")),
        Some((MAJOR, _)) => {}
        Some(_) => faults.bad_hint(
            "ociVersion",
            format!("{version} is not supported"),
            format!("Corten reads versions 1.0.0 to {SPEC_VERSION} of the runtime spec"),
        ),
    }
}

fn newer_minor_version(facts: &Facts<'_>) -> Vec<String> {
    let version = facts.spec.version();
    let newer = semver(version).is_some_and(|(major, minor)| major == MAJOR && minor > MINOR);
    let text =
        format!("ociVersion: {version} is newer than {SPEC_VERSION}: what it adds is ignored");
    newer.then_some(text).into_iter().collect()
}

fn root(facts: &Facts<'_>, faults: &mut Faults) {
    let Some(root) = facts.spec.root() else {
        faults.bad("root", "required");
        return;
    };
    let path = root.path();
    if path.as_os_str().is_empty() {
        faults.bad("root.path", "required");
        return;
    }
    faults.nul("root.path", &path.to_string_lossy());
    let path = facts.bundle.join(path);
    match std::fs::metadata(&path) {
        Ok(found) if !found.is_dir() => {
            faults.bad("root.path", format!("not a directory: {}", path.display()));
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => faults.bad_hint(
            "root.path",
            format!("no such file or directory: {}", path.display()),
            "unpack the container's root filesystem there",
        ),
        // Whatever else is wrong, the kernel says better when the root is opened.
        _ => {}
    }
}

fn process_in_container(facts: &Facts<'_>, faults: &mut Faults) {
    if let Some(process) = facts.spec.process() {
        super::process::check(process, "process.", faults);
    }
}

fn capabilities(facts: &Facts<'_>) -> Vec<String> {
    let process = facts.spec.process().as_ref();
    process.map(|p| super::process::warnings(p, "process.")).unwrap_or_default()
}

fn uts_names(facts: &Facts<'_>, faults: &mut Faults) {
    let names = [("hostname", facts.spec.hostname()), ("domainname", facts.spec.domainname())];
    for (field, name) in names {
        let Some(name) = name.as_ref().filter(|n| !n.is_empty()) else { continue };
        if !facts.has(NamespaceType::Uts) {
            faults.bad_hint(
                field,
                "needs a uts namespace: it would change the host's",
                "add {\"type\": \"uts\"} to linux.namespaces",
            );
        }
        if name.len() > MAX_UTS_NAME {
            let what = format!("{} bytes are more than the kernel's {MAX_UTS_NAME}", name.len());
            faults.bad(field, what);
        }
        faults.nul(field, name);
    }
}

fn hooks(facts: &Facts<'_>, faults: &mut Faults) {
    let Some(hooks) = facts.spec.hooks() else { return };
    // `create` runs the first three, and finds their programs on the host.
    let kinds = [
        ("prestart", hooks.prestart(), true),
        ("createRuntime", hooks.create_runtime(), true),
        ("createContainer", hooks.create_container(), true),
        ("startContainer", hooks.start_container(), false),
        ("poststart", hooks.poststart(), false),
        ("poststop", hooks.poststop(), false),
    ];
    for (kind, list, by_create) in kinds {
        for (i, entry) in list.iter().flatten().enumerate() {
            hook(entry, &format!("hooks.{kind}[{i}]"), by_create, faults);
        }
    }
}

fn hook(hook: &Hook, at: &str, by_create: bool, faults: &mut Faults) {
    let path = hook.path();
    let field = format!("{at}.path");
    faults.nul(&field, &path.to_string_lossy());
    if !path.is_absolute() {
        faults
            .bad(field, format!("must be an absolute path, not {:?}", path.display().to_string()));
    } else if by_create && missing(path) {
        faults.bad(field, format!("no such file or directory: {}", path.display()));
    }
    if let Some(timeout) = hook.timeout().filter(|t| *t <= 0) {
        faults.bad(format!("{at}.timeout"), format!("{timeout} is not above 0 seconds"));
    }
    for (name, list) in [("args", hook.args()), ("env", hook.env())] {
        for (i, text) in list.iter().flatten().enumerate() {
            faults.nul(format!("{at}.{name}[{i}]"), text);
        }
    }
}

fn annotations(facts: &Facts<'_>, faults: &mut Faults) {
    if facts.spec.annotations().iter().flatten().any(|(key, _)| key.is_empty()) {
        faults.bad("annotations", "a key is empty");
    }
}

/// True when there is certainly nothing at `path`; other errors are left to who opens it.
fn missing(path: &Path) -> bool {
    std::fs::metadata(path).is_err_and(|e| e.kind() == std::io::ErrorKind::NotFound)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::render;

    #[test]
    fn ids() {
        for id in ["a", "web-1", "A_b+c.d", "...", "..a", &"x".repeat(255)] {
            assert!(container_id(id).is_ok(), "{id}");
        }
        for id in ["", ".", "..", "a/b", "/", "a b", "ä", "a\0", "a\n", "a:b", &"x".repeat(256)] {
            assert!(container_id(id).is_err(), "{id:?}");
        }
        assert_eq!(
            render(&container_id("a/b").unwrap_err()),
            "error: invalid container ID format: \"a/b\"\n  hint: an id is made of letters, \
             digits and _ + - . and is not . or .."
        );
    }

    #[test]
    fn semantic_versions() {
        // From semver.org's own lists of valid and invalid versions.
        for good in [
            "0.0.4",
            "1.2.3",
            "10.20.30",
            "1.1.2-prerelease+meta",
            "1.1.2+meta-valid",
            "1.0.0-alpha.1",
            "1.0.0-alpha0.valid",
            "1.0.0-alpha.0valid",
            "1.0.0-0A.is.legal",
            "1.2.3----RC-SNAPSHOT.12.9.1--.12",
            "1.0.0+0.build.1-rc.10000aaa-kk-0.1",
        ] {
            assert!(semver(good).is_some(), "{good}");
        }
        for bad in [
            "1",
            "1.2",
            "1.2.3-0123",
            "1.2.3-0123.0123",
            "1.1.2+.123",
            "+invalid",
            "alpha",
            "1.0.0-alpha_beta",
            "1.0.0-alpha..",
            "01.1.1",
            "1.01.1",
            "1.1.01",
            "1.2.3.DEV",
            "1.2-SNAPSHOT",
            "1.2.31.2.3----RC",
            "v1.0.0",
            "1.0.0-",
            "1.0.0+",
            " 1.0.0",
            "-1.0.3",
        ] {
            assert_eq!(semver(bad), None, "{bad}");
        }
        assert_eq!(semver("1.0.2-dev"), Some((1, 0)));
    }
}
