//! The container's root filesystem, made from a [`RootfsPlan`].
//!
//! ```text
//!   parent, host's namespaces        child, its own namespaces
//!   prepare()  sources opened   ──►  Prepared::mount_all()  root attached, mounts, devices
//!                                    (hooks that need the host's tree)
//!                                    Mounted::pivot()       "/" is the container's
//!                                    (console, sysctls)
//!                                    Mounted::finish()      read-only, masked
//! ```
//!
//! A mount is made complete while it is detached and attached by descriptor; no path of the
//! container is resolved but by [`inside`].

pub mod inside;

mod cgroup;
mod copyup;
mod devices;
mod idmap;
mod masks;
mod mount;
mod pivot;

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use nix::sys::stat::{Mode, umask};

use self::idmap::UserNamespaces;
pub use self::inside::RootDir;
pub use self::masks::{bind_tty_over, private_null};
pub use self::mount::unmount;
use self::mount::{HostPath, Site, Source, finish_bind, set_attributes, set_propagation};
use crate::error::{Context, Result};
use crate::plan::mounts::options::{Attributes, Links};
use crate::plan::mounts::{CgroupMount, MountKind, MountStep, RootfsPlan};
use crate::sys::mount::attr;

const READ_ONLY: Attributes = Attributes { set: attr::RDONLY, clear: 0 };

/// What the parent opened. Every descriptor is close-on-exec.
#[derive(Debug)]
pub struct Prepared {
    /// `None` in the host's mount namespace, which needs no copy.
    root: Option<Source>,
    /// Beside `plan.mounts`; `None` for what has no source on the host.
    sources: Vec<Option<Source>>,
}

/// A root filesystem with everything mounted.
#[derive(Debug)]
pub struct Mounted {
    site: Site,
    readonly_late: Vec<OwnedFd>,
}

/// "on /run (mounts[7])", with what is mounted before it.
fn describe(step: &MountStep) -> String {
    let what = match &step.kind {
        MountKind::Remount => {
            return format!("cannot remount {} (mounts[{}])", step.destination, step.index);
        }
        MountKind::Bind { source, .. } => source.display().to_string(),
        MountKind::Filesystem(fs) | MountKind::Cgroup(fs) => {
            fs.fs_type.to_string_lossy().into_owned()
        }
    };
    format!("cannot mount {what} on {} (mounts[{}])", step.destination, step.index)
}

/// In the parent, before the clone: opens the root and the sources of bind mounts, so that what
/// is missing or forbidden is found before there is a process. With privilege the mounts are
/// complete after this.
pub fn prepare(plan: &RootfsPlan) -> Result<Prepared> {
    let opening = || format!("cannot open the root filesystem {} (root.path)", plan.path.display());
    let root = if plan.private_mounts {
        Some(
            Source::prepare(root_path(plan), plan, |tree| {
                set_propagation(tree, pivot::root_mount_propagation(plan))
            })
            .with_context(opening)?,
        )
    } else {
        RootDir::open_at(&plan.path).with_context(opening)?;
        None
    };
    let mut namespaces = UserNamespaces::default();
    let source = |step: &MountStep| match &step.kind {
        MountKind::Bind { source, recursive, links, ids } => {
            let source = HostPath { path: source, recursive: *recursive, links: *links };
            Source::prepare_bind(step, source, ids.as_ref(), plan, &mut namespaces)
                .with_context(|| describe(step))
                .map(Some)
        }
        _ => Ok(None),
    };
    let sources = plan.mounts.iter().map(source).collect::<Result<Vec<_>>>()?;
    Ok(Prepared { root, sources })
}

fn root_path(plan: &RootfsPlan) -> HostPath<'_> {
    HostPath { path: &plan.path, recursive: true, links: Links::Follow }
}

impl Prepared {
    /// In the child, with its final user and mount namespaces and as their root: attaches the
    /// root, makes every mount in order, then the devices. `cgroups` are those of the container;
    /// with a cgroup namespace the child has entered both them and it. Leaves the umask at 0022.
    pub fn mount_all(self, plan: &RootfsPlan, cgroups: &[CgroupMount]) -> Result<Mounted> {
        umask(Mode::from_bits_truncate(0o022));
        let mut site = open_site(self.root, plan)
            .with_context(|| format!("cannot set up the root {}", plan.path.display()))?;
        match mount_each(&mut site, self.sources, plan, cgroups) {
            Ok(readonly_late) => Ok(Mounted { site, readonly_late }),
            Err(error) => {
                // Nobody else knows of them yet.
                unmount(site.host_mounts.as_deref().unwrap_or_default());
                Err(error)
            }
        }
    }
}

/// Returns the mounts that are to become read-only at the end.
fn mount_each(
    site: &mut Site,
    sources: Vec<Option<Source>>,
    plan: &RootfsPlan,
    cgroups: &[CgroupMount],
) -> Result<Vec<OwnedFd>> {
    let mut readonly_late = Vec::new();
    for (step, source) in plan.mounts.iter().zip(sources) {
        let late = make(site, step, source, plan, cgroups);
        readonly_late.extend(late.with_context(|| describe(step))?);
    }
    if plan.setup_dev {
        devices::setup(site, plan)?;
    }
    Ok(readonly_late)
}

fn open_site(root: Option<Source>, plan: &RootfsPlan) -> Result<Site> {
    let Some(source) = root else {
        return Ok(Site { root: RootDir::open_at(&plan.path)?, host_mounts: Some(Vec::new()) });
    };
    if !plan.joined_mounts {
        pivot::isolate()?;
    }
    let tree = source.take(root_path(plan), plan, |tree| {
        set_propagation(tree, pivot::root_mount_propagation(plan))
    })?;
    let root = RootDir::from_fd(tree);
    pivot::attach_root(&root, &plan.path)?;
    Ok(Site { root, host_mounts: None })
}

/// One mount; returns it where it is to become read-only at the end.
fn make(
    site: &mut Site,
    step: &MountStep,
    source: Option<Source>,
    plan: &RootfsPlan,
    cgroups: &[CgroupMount],
) -> Result<Option<OwnedFd>> {
    match (&step.kind, source) {
        (MountKind::Bind { .. }, Some(Source::Link(link))) => {
            mount::copy_link(&site.root, step, &link).map(|()| None)
        }
        (MountKind::Bind { source: path, recursive, links, .. }, Some(source)) => {
            let path = HostPath { path, recursive: *recursive, links: *links };
            let tree = source.take(path, plan, finish_bind(step))?;
            mount::mount_bind(site, step, tree).map(|()| None)
        }
        // prepare() opens a source for every bind mount.
        (MountKind::Bind { .. }, None) => Err(nix::errno::Errno::ENOENT.into()),
        (MountKind::Remount, _) => mount::remount(&site.root, step).map(|()| None),
        (MountKind::Filesystem(fs), _) => mount::mount_filesystem(site, step, fs),
        (MountKind::Cgroup(fs), _) => cgroup::mount(site, step, fs, plan, cgroups).map(|()| None),
    }
}

impl Mounted {
    /// The container's root, before and after [`Mounted::pivot`].
    pub fn root(&self) -> &RootDir {
        &self.site.root
    }

    /// Host paths of the mounts made so far, in order, where the container shares the host's
    /// mount namespace: whoever deletes it unmounts them in reverse. Empty otherwise.
    pub fn host_mounts(&self) -> &[PathBuf] {
        self.site.host_mounts.as_deref().unwrap_or_default()
    }

    /// Makes the container's root "/", and its working directory if that is missing.
    pub fn pivot(&mut self, plan: &RootfsPlan) -> Result<()> {
        let root = &self.site.root;
        if !plan.private_mounts || plan.joined_mounts {
            pivot::enter(root)?;
        } else if plan.no_pivot {
            pivot::move_root(root, &plan.path)?;
        } else {
            pivot::pivot(root)?;
        }
        if plan.private_mounts {
            pivot::share_root(root, plan)?;
        }
        root.create_dir_all(&plan.cwd, Mode::from_bits_truncate(0o755))
            .with_context(|| format!("cannot make the working directory {}", plan.cwd))?;
        Ok(())
    }

    /// The last step, after everything that writes to the root or to /proc/sys: read-only
    /// mounts, read-only root, read-only paths, masks. Gives the finished root.
    pub fn finish(mut self, plan: &RootfsPlan) -> Result<RootDir> {
        for mounted in &self.readonly_late {
            set_attributes(mounted.as_fd(), READ_ONLY, false)
                .context("cannot make a mount read-only")?;
        }
        if plan.readonly {
            set_attributes(self.site.root.as_fd(), READ_ONLY, false)
                .context("cannot make the root read-only (root.readonly)")?;
        }
        masks::make_readonly(&mut self.site, plan)?;
        masks::mask(&mut self.site, plan)?;
        Ok(self.site.root)
    }
}
