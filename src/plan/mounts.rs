//! Mounts and devices of the root filesystem as data (spec config.md "Mounts", config-linux.md
//! "Devices", "Default Devices", "Masked Paths"). Paths inside the root are [`InsidePath`]s:
//! written down here, resolved at use.

mod devices;
pub mod idmap;
pub mod options;

use std::ffi::{CStr, CString};
use std::fmt;
use std::path::{Component, Path, PathBuf};

use nix::mount::MsFlags;
use oci_spec::runtime::{Linux, Mount, Spec};

use crate::error::{Fault, Kind, Result};
use crate::plan::namespaces::{Namespace, NamespacesPlan};
use crate::plan::process::c_string;
use crate::sys::mount::attr;
pub use devices::DeviceNode;
use devices::devices;
use idmap::IdMapping;
use options::{Attributes, Links, Options, Propagation};

/// A path inside the root filesystem: relative to the root, without `.`, `..` or double slashes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct InsidePath(CString);

impl InsidePath {
    /// Cleans `path` as text, so that `..` never leaves the root; `field` names it in messages.
    pub fn new(path: impl AsRef<Path>, field: &str) -> Result<Self> {
        let mut clean = PathBuf::new();
        for component in path.as_ref().components() {
            match component {
                Component::Normal(name) => clean.push(name),
                Component::ParentDir => {
                    clean.pop();
                }
                Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
            }
        }
        let text = clean
            .to_str()
            .ok_or_else(|| Fault::bad_input(format!("{field}: not a path in UTF-8")))?;
        Ok(InsidePath(c_string(if text.is_empty() { "." } else { text }, field)?))
    }

    /// For the kernel, relative to the root; the root itself is ".".
    pub fn as_c_str(&self) -> &CStr {
        &self.0
    }

    /// True for the root itself.
    pub fn is_root(&self) -> bool {
        self.0.as_c_str() == c"."
    }

    /// As text, without the leading slash.
    pub fn as_str(&self) -> &str {
        // Made from a str, never changed.
        self.0.to_str().unwrap_or_default()
    }

    /// Everything but the last name, and the last name; `None` for the root.
    pub fn split(&self) -> Option<(InsidePath, &CStr)> {
        if self.is_root() {
            return None;
        }
        let bytes = self.0.as_bytes_with_nul();
        let slash = bytes.iter().rposition(|b| *b == b'/');
        let (parent, name) = match slash {
            Some(at) => (bytes.get(..at)?, bytes.get(at + 1..)?),
            None => (&b"."[..], bytes),
        };
        Some((InsidePath(CString::new(parent).ok()?), CStr::from_bytes_with_nul(name).ok()?))
    }

    /// Where a symbolic link at this path leads, as text: beside it, or from the root. `None` for
    /// what is not a path in UTF-8.
    pub fn beside(&self, target: &Path) -> Option<InsidePath> {
        let parent = self.split().map_or(InsidePath(c".".into()), |(parent, _)| parent);
        // An absolute target replaces what stands before it.
        InsidePath::new(Path::new(parent.as_str()).join(target), "link").ok()
    }
}

impl fmt::Display for InsidePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_root() { f.write_str("/") } else { write!(f, "/{}", self.as_str()) }
    }
}

/// One cgroup hierarchy to show inside the container; the cgroup part finds them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CgroupMount {
    /// Last component of the host's mount point: "cpu,cpuacct", "systemd", "unified".
    pub name: PathBuf,
    /// Options of the file system: "cpu,cpuacct", "none,name=systemd", "" for v2.
    pub options: String,
    /// Where the host has it.
    pub mountpoint: PathBuf,
    /// The container's own directory on the host.
    pub host_dir: PathBuf,
    /// True for the v2 hierarchy.
    pub is_v2: bool,
}

/// One option of a new file system for fsconfig(2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Setting {
    /// Without a value.
    Flag(CString),
    /// With one.
    Text(CString, CString),
}

/// A new file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filesystem {
    /// As in /proc/filesystems.
    pub fs_type: CString,
    /// Device, or what mountinfo shows in its place; `None` where config.json has none.
    pub source: Option<CString>,
    /// Options, in order.
    pub settings: Vec<Setting>,
    /// The mode of the directory it covers is taken over (tmpfs without a mode of its own).
    pub copies_mode: bool,
    /// It starts with what is in the directory it covers (tmpfs with tmpcopyup).
    pub copies_up: bool,
    /// mount(2) is to be used with these flags and data: fsconfig(2) takes strings of at most
    /// 255 bytes, and knows neither remount nor iversion.
    pub classic: Option<(MsFlags, CString)>,
    /// SELinux label set on the root of the file system after it is mounted (mqueue).
    pub label: Option<CString>,
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MountKind {
    /// What lies at a path of the host.
    Bind {
        /// Absolute host path.
        source: PathBuf,
        /// With everything mounted below it.
        recursive: bool,
        /// What becomes of a source that is a symbolic link.
        links: Links,
        /// How the ids are mapped.
        ids: Option<IdMapping>,
    },
    /// What is mounted there already gets other attributes (bind with remount).
    Remount,
    /// A new file system.
    Filesystem(Filesystem),
    /// The cgroup hierarchies, in the layout of the host.
    Cgroup(Filesystem),
}

/// One of `mounts`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountStep {
    /// Its index in config.json, for messages.
    pub index: usize,
    /// Where.
    pub destination: InsidePath,
    /// A destination that is a symbolic link is mounted on itself, not followed.
    pub dest_nofollow: bool,
    /// What.
    pub kind: MountKind,
    /// For the mount itself.
    pub attributes: Attributes,
    /// For the mount and all below it.
    pub recursive: Attributes,
    /// Changes of propagation, in order.
    pub propagation: Vec<Propagation>,
    /// Made read-only only at the end: files and mount points are still to be made in it.
    pub readonly_late: bool,
}

impl MountStep {
    /// True for proc and sysfs, which are mounted on ordinary directories only (CVE-2019-19921).
    pub fn refuses_links(&self) -> bool {
        match &self.kind {
            MountKind::Filesystem(fs) => matches!(fs.fs_type.as_bytes(), b"proc" | b"sysfs"),
            _ => false,
        }
    }
}

/// The root filesystem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootfsPlan {
    /// Absolute host path of the root.
    pub path: PathBuf,
    /// Made read-only at the end.
    pub readonly: bool,
    /// `linux.rootfsPropagation`; `None` is rslave.
    pub propagation: Option<Propagation>,
    /// --no-pivot.
    pub no_pivot: bool,
    /// The container has a mount namespace of its own, new or joined.
    pub private_mounts: bool,
    /// That one is joined: others live in it, whose root and propagation stay as they are.
    pub joined_mounts: bool,
    /// The container has a user namespace of its own.
    pub user_namespace: bool,
    /// The container has a cgroup namespace of its own.
    pub cgroup_namespace: bool,
    /// In order.
    pub mounts: Vec<MountStep>,
    /// Devices and links are made in /dev (not where /dev is a bind mount).
    pub setup_dev: bool,
    /// In order; the default ones first.
    pub devices: Vec<DeviceNode>,
    /// In order, each once.
    pub masked: Vec<InsidePath>,
    /// In order, each once.
    pub readonly_paths: Vec<InsidePath>,
    /// Made when missing.
    pub cwd: InsidePath,
    /// `context="..."` for new file systems, where the host has SELinux.
    pub mount_label: Option<String>,
}

/// fsconfig(2): longer strings are refused.
const LONGEST_SETTING: usize = 255;

impl RootfsPlan {
    /// Reads `root`, `mounts` and the parts of `linux` that are about files. `bundle` is absolute.
    pub fn build(spec: &Spec, bundle: &Path, no_pivot: bool) -> Result<Self> {
        let label = spec
            .linux()
            .as_ref()
            .and_then(|linux| linux.mount_label().clone())
            .filter(|label| !label.is_empty() && selinux_enabled());
        Self::build_labelled(spec, bundle, no_pivot, label)
    }

    /// Adds a bind mount of the runtime's own after those of config.json, read-only.
    pub fn add_bind(&mut self, source: &Path, destination: &str) -> Result<()> {
        let mut mount = Mount::default();
        mount.set_destination(destination.into());
        mount.set_source(Some(source.into()));
        let options = ["bind", "ro", "nosuid", "nodev", "noexec"];
        mount.set_options(Some(options.map(String::from).to_vec()));
        let none = NamespacesPlan::build(None);
        self.mounts.push(step(self.mounts.len(), &mount, Path::new("/"), None, &none, None)?);
        Ok(())
    }

    fn build_labelled(
        spec: &Spec,
        bundle: &Path,
        no_pivot: bool,
        mount_label: Option<String>,
    ) -> Result<Self> {
        let linux = spec.linux().as_ref();
        let root =
            spec.root().as_ref().ok_or_else(|| Fault::bad_input("config.json: root: missing"))?;
        let namespaces = NamespacesPlan::build(linux);
        let steps = spec
            .mounts()
            .iter()
            .flatten()
            .enumerate()
            .map(|(index, mount)| {
                step(index, mount, bundle, linux, &namespaces, mount_label.as_deref())
            })
            .collect::<Result<Vec<_>>>()?;
        let private_mounts = namespaces.has(Namespace::Mount);
        let masked = inside_paths(linux.and_then(|l| l.masked_paths().as_ref()), "maskedPaths")?;
        let readonly_paths =
            inside_paths(linux.and_then(|l| l.readonly_paths().as_ref()), "readonlyPaths")?;
        let restricted = !masked.is_empty() || !readonly_paths.is_empty();
        if restricted && !private_mounts {
            return Err(Fault::bad_input(
                "config.json: linux.maskedPaths and linux.readonlyPaths need a mount namespace",
            )
            .hint("add {\"type\": \"mount\"} to linux.namespaces")
            .into());
        }
        let readonly = root.readonly().unwrap_or(false);
        if !private_mounts && readonly {
            let message = "config.json: root.readonly needs a mount namespace";
            return Err(Fault::bad_input(message)
                .hint("add {\"type\": \"mount\"} to linux.namespaces")
                .into());
        }
        let cwd = spec.process().as_ref().map_or(Path::new("/"), |process| process.cwd());
        Ok(RootfsPlan {
            path: bundle.join(root.path()),
            readonly,
            propagation: root_propagation(linux, no_pivot)?,
            no_pivot,
            private_mounts,
            joined_mounts: namespaces.joins(Namespace::Mount),
            user_namespace: namespaces.has(Namespace::User),
            cgroup_namespace: namespaces.has(Namespace::Cgroup),
            setup_dev: !steps.iter().any(binds_dev),
            mounts: steps,
            devices: devices(linux)?,
            masked,
            readonly_paths,
            cwd: InsidePath::new(cwd, "config.json: process.cwd")?,
            mount_label,
        })
    }
}

fn selinux_enabled() -> bool {
    // linux/magic.h SELINUX_MAGIC
    nix::sys::statfs::statfs("/sys/fs/selinux").is_ok_and(|s| s.filesystem_type().0 == 0xf97c_ff8c)
}

fn binds_dev(step: &MountStep) -> bool {
    matches!(step.kind, MountKind::Bind { .. }) && step.destination.as_str() == "dev"
}

fn root_propagation(linux: Option<&Linux>, no_pivot: bool) -> Result<Option<Propagation>> {
    let Some(word) = linux.and_then(|l| l.rootfs_propagation().as_ref()).filter(|w| !w.is_empty())
    else {
        return Ok(None);
    };
    match options::propagation(word) {
        // The host's tree stays reachable below the root, and would keep its mounts busy.
        Some(propagation) if no_pivot && propagation.kind == MsFlags::MS_PRIVATE => {
            Err(Fault::bad_input(format!(
                "config.json: linux.rootfsPropagation: {word:?} is not safe with --no-pivot"
            ))
            .hint("use slave or rslave")
            .into())
        }
        Some(propagation) => Ok(Some(propagation)),
        None => Err(Fault::bad_input(format!(
            "config.json: linux.rootfsPropagation: {word:?} is not a kind of propagation"
        ))
        .hint("use shared, slave, private or unbindable, or one of these with an r in front")
        .into()),
    }
}

fn inside_paths(paths: Option<&Vec<String>>, name: &str) -> Result<Vec<InsidePath>> {
    let mut list = Vec::new();
    for (i, path) in paths.into_iter().flatten().enumerate() {
        let path = InsidePath::new(path, &format!("config.json: linux.{name}[{i}]"))?;
        if !list.contains(&path) {
            list.push(path);
        }
    }
    Ok(list)
}

fn step(
    index: usize,
    mount: &Mount,
    bundle: &Path,
    linux: Option<&Linux>,
    namespaces: &NamespacesPlan,
    label: Option<&str>,
) -> Result<MountStep> {
    let field = |name: &str| format!("config.json: mounts[{index}].{name}");
    let destination = InsidePath::new(mount.destination(), &field("destination"))?;
    if destination.is_root() {
        return Err(Fault::bad_input(format!(
            "{}: {} is the root itself",
            field("destination"),
            mount.destination().display()
        ))
        .into());
    }
    let mut options = Options::parse(mount.options().as_deref().unwrap_or_default());
    let fs_type = mount.typ().as_deref().unwrap_or_default();
    if fs_type == "bind" && options.bind.is_none() {
        options.bind = Some(false);
    }
    let readonly_late = options.bind.is_none()
        && !options.remount
        && options.attributes.set & attr::RDONLY != 0
        && (fs_type == "tmpfs" || destination.as_str() == "dev");
    if options.bind.is_some() && !options.data.is_empty() {
        return Err(Fault::bad_input(format!(
            "{}: {} is for a file system, and would have no effect on a bind mount",
            field("options"),
            options.data.join(",").escape_debug()
        ))
        .into());
    }
    let new = |fs_type| filesystem(fs_type, mount, &options, readonly_late, label, &field);
    let kind = match (options.bind, fs_type) {
        (Some(_), _) if options.remount => MountKind::Remount,
        (Some(recursive), _) => {
            let source = mount.source().as_ref().filter(|s| !s.as_os_str().is_empty());
            let source = source.ok_or_else(|| {
                Fault::bad_input(format!("{}: missing for a bind mount", field("source")))
            })?;
            let ids = IdMapping::build(mount, linux, namespaces, &field)?;
            MountKind::Bind { source: bundle.join(source), recursive, links: options.links, ids }
        }
        // mount(2) does not look at it.
        (None, "") if options.remount => MountKind::Filesystem(new("none")?),
        (None, "") => {
            return Err(Fault::bad_input(format!("{}: missing", field("type")))
                .hint("name a file system, or add bind or rbind to the options")
                .into());
        }
        (None, "cgroup") => MountKind::Cgroup(new("cgroup")?),
        (None, fs_type) => MountKind::Filesystem(new(fs_type)?),
    };
    Ok(MountStep {
        index,
        destination,
        dest_nofollow: options.dest_nofollow,
        kind,
        attributes: options.attributes,
        recursive: options.recursive,
        propagation: options.propagation,
        readonly_late,
    })
}

fn filesystem(
    fs_type: &str,
    mount: &Mount,
    options: &Options,
    readonly_late: bool,
    label: Option<&str>,
    field: &dyn Fn(&str) -> String,
) -> Result<Filesystem> {
    let mut data = options.data.clone();
    // These have labels of their own, and one superblock for all mounts, which takes no other.
    let own_labels = ["proc", "sysfs", "mqueue", "cgroup", "cgroup2"];
    if let Some(label) = label.filter(|_| !own_labels.contains(&fs_type)) {
        data.push(format!("context=\"{label}\""));
    }
    let readonly = options.attributes.set & attr::RDONLY != 0 && !readonly_late;
    let superblock = options.superblock.0;
    let source = mount.source().as_ref().and_then(|s| s.to_str()).filter(|s| !s.is_empty());
    let classic = options.remount
        || superblock.contains(MsFlags::MS_I_VERSION)
        || source.is_some_and(|s| s.len() > LONGEST_SETTING)
        || data.iter().any(|option| option.len() > LONGEST_SETTING);
    let classic = if classic {
        let mut flags = superblock | classic_flags(options.attributes.set);
        flags.set(MsFlags::MS_RDONLY, readonly);
        flags.set(MsFlags::MS_REMOUNT, options.remount);
        Some((flags, c_string(&data.join(","), &field("options"))?))
    } else {
        None
    };
    let copies_up = fs_type == "tmpfs" && options.copy_up;
    if copies_up && classic.is_some() {
        let message = format!(
            "{}: tmpcopyup with remount, iversion or an option of more than \
            {LONGEST_SETTING} bytes is not supported",
            field("options")
        );
        return Err(Fault::new(Kind::Unsupported, message).into());
    }
    let mut settings = Vec::new();
    let flags = [
        (readonly, c"ro"),
        (superblock.contains(MsFlags::MS_SYNCHRONOUS), c"sync"),
        (superblock.contains(MsFlags::MS_DIRSYNC), c"dirsync"),
        (superblock.contains(MsFlags::MS_LAZYTIME), c"lazytime"),
        (superblock.contains(MsFlags::MS_MANDLOCK), c"mand"),
    ];
    settings.extend(flags.iter().filter(|f| f.0).map(|f| Setting::Flag(f.1.into())));
    for option in &data {
        settings.push(setting(option, &field("options"))?);
    }
    Ok(Filesystem {
        fs_type: c_string(fs_type, &field("type"))?,
        source: source.map(|s| c_string(s, &field("source"))).transpose()?,
        settings,
        copies_mode: fs_type == "tmpfs" && !data.iter().any(|o| o.starts_with("mode=")),
        copies_up,
        classic,
        label: match label.filter(|_| fs_type == "mqueue") {
            Some(label) => Some(c_string(label, "config.json: linux.mountLabel")?),
            None => None,
        },
    })
}

/// One option for fsconfig(2); quotes are of mount(2)'s notation only.
pub fn setting(option: &str, field: &str) -> Result<Setting> {
    Ok(match option.split_once('=') {
        Some((key, value)) => {
            let value = value.strip_prefix('"').and_then(|v| v.strip_suffix('"')).unwrap_or(value);
            Setting::Text(c_string(key, field)?, c_string(value, field)?)
        }
        None => Setting::Flag(c_string(option, field)?),
    })
}

/// `MOUNT_ATTR_*` as flags of mount(2); read-only is the caller's matter.
fn classic_flags(attributes: u64) -> MsFlags {
    let table = [
        (attr::NOSUID, MsFlags::MS_NOSUID),
        (attr::NODEV, MsFlags::MS_NODEV),
        (attr::NOEXEC, MsFlags::MS_NOEXEC),
        (attr::NOATIME, MsFlags::MS_NOATIME),
        (attr::STRICTATIME, MsFlags::MS_STRICTATIME),
        (attr::NODIRATIME, MsFlags::MS_NODIRATIME),
        (attr::NOSYMFOLLOW, MsFlags::from_bits_retain(libc::MS_NOSYMFOLLOW)),
    ];
    table
        .into_iter()
        .filter(|(attribute, _)| attributes & attribute != 0)
        .fold(MsFlags::empty(), |flags, (_, flag)| flags | flag)
}

#[cfg(test)]
mod tests;
