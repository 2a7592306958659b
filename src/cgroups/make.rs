//! Making the container's groups.

use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sys::stat::Mode;
use nix::unistd::{Uid, fchownat, mkdir};

use super::dir::Dir;
use super::{Cgroup, CgroupPlan, Group, GroupPlan, Version};
use crate::error::{Context, Fault, Kind, Result};

pub(super) fn create(plan: &CgroupPlan) -> Result<Cgroup> {
    let mut made = Vec::new();
    let created = create_all(plan, &mut made);
    if created.is_err() {
        for path in made.iter().rev() {
            // Only what is empty goes; the error to tell is the one above.
            let _ = super::remove::rmdir(path);
        }
    }
    created
}

fn create_all(plan: &CgroupPlan, made: &mut Vec<PathBuf>) -> Result<Cgroup> {
    let pure_v2 = plan.groups.iter().all(|g| g.version == Version::V2);
    let mut groups = Vec::with_capacity(plan.groups.len());
    let mut some_were_there = false;
    for group in &plan.groups {
        let fresh = make(group, made)?;
        some_were_there |= !fresh;
        let dir = Dir::open(&group.path)
            .with_context(|| format!("cannot open cgroup {}", group.path.display()))?;
        if group.controllers.iter().any(|c| c == "cpuset") {
            fill_cpuset(&dir, &group.mountpoint, fresh)?;
        }
        if pure_v2 {
            pass_controllers_on(group, &dir, None)?;
        }
        groups.push(Group { plan: group.clone(), dir });
    }
    let cgroup = Cgroup::of(groups);
    if some_were_there {
        check_unused(&cgroup)?;
    }
    Ok(cgroup)
}

/// Makes the directory and its parents; true when it is new.
fn make(group: &GroupPlan, made: &mut Vec<PathBuf>) -> Result<bool> {
    let mut one = |path: &Path| match mkdir(path, Mode::from_bits_truncate(0o755)) {
        Ok(()) => {
            made.push(path.to_owned());
            Ok(true)
        }
        Err(Errno::EEXIST) => Ok(false),
        Err(errno) => Err(errno),
    };
    let fresh = match one(&group.path) {
        Err(Errno::ENOENT) => {
            let below = group.path.strip_prefix(&group.mountpoint).unwrap_or(Path::new(""));
            let mut path = group.mountpoint.clone();
            below.components().try_fold(false, |_, name| {
                path.push(name);
                one(&path)
            })
        }
        other => other,
    };
    fresh.with_context(|| format!("cannot make cgroup {}", group.path.display()))
}

/// Two containers in one group would kill and freeze each other.
fn check_unused(cgroup: &Cgroup) -> Result<()> {
    let path = |c: &Cgroup| c.groups.first().map_or(PathBuf::new(), |g| g.dir.path.clone());
    let processes = cgroup.processes(true)?;
    if let Some(first) = processes.first() {
        return Err(Fault::new(
            Kind::Exists,
            format!(
                "the container's cgroup {} is not empty: it holds {} process(es), {first} first",
                path(cgroup).display(),
                processes.len()
            ),
        )
        .hint("give each container a linux.cgroupsPath of its own")
        .into());
    }
    if cgroup.is_frozen()? {
        return Err(Fault::new(
            Kind::WrongState,
            format!("the container's cgroup {} is frozen", path(cgroup).display()),
        )
        .into());
    }
    Ok(())
}

/// A new v1 cpuset is empty and takes no process: fills it from the group above, which may need
/// the same first.
fn fill_cpuset(dir: &Dir, top: &Path, fresh: bool) -> Result<()> {
    let parent = dir
        .parent()
        .with_context(|| format!("cannot open the cgroup above {}", dir.path.display()))?;
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let read = |dir: &Dir| {
            let text = dir.read(file);
            text.with_context(|| format!("cannot read {}/{file}", dir.path.display()))
        };
        if !fresh && !read(dir)?.trim().is_empty() {
            continue;
        }
        let mut value = read(&parent)?;
        if value.trim().is_empty() && parent.path.starts_with(top) && parent.path != top {
            fill_cpuset(&parent, top, false)?;
            value = read(&parent)?;
        }
        match dir.write(file, value.trim()) {
            // Another group has CPUs of its own (cpu_exclusive): config.json must choose others.
            Err(Errno::EINVAL) => {
                log::debug!("{}/{file}: the parent's are not to be had", dir.path.display());
            }
            other => other.with_context(|| {
                format!("cannot write \"{}\" to {}/{file}", value.trim(), dir.path.display())
            })?,
        }
    }
    Ok(())
}

/// Switches controllers on in every group above (`cgroup.subtree_control`): all that there are,
/// or only `wanted`. Those that the kernel refuses stay off; who needs one is told then.
pub(super) fn pass_controllers_on(
    group: &GroupPlan,
    dir: &Dir,
    wanted: Option<&str>,
) -> Result<()> {
    let cannot = |path: &Path, file: &str| format!("cannot read {}/{file}", path.display());
    let top = Dir::open(&group.mountpoint)
        .with_context(|| format!("cannot open {}", group.mountpoint.display()))?;
    let controllers = "cgroup.controllers";
    let all = top.read(controllers).with_context(|| cannot(&top.path, controllers))?;
    let have = dir.read(controllers).with_context(|| cannot(&dir.path, controllers))?;
    let missing: Vec<&str> = all
        .split_whitespace()
        .filter(|c| wanted.is_none_or(|w| w == *c) && !have.split_whitespace().any(|h| h == *c))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let below = group.path.strip_prefix(&group.mountpoint).unwrap_or(Path::new(""));
    let mut above = top;
    for name in below.components() {
        let plus = missing.iter().map(|c| format!("+{c}")).collect::<Vec<_>>();
        if pass_on(&above, &plus.join(" ")).is_err() {
            for one in plus {
                if let Err(errno) = pass_on(&above, &one) {
                    log::debug!("{one} in {}: {errno}", above.path.display());
                }
            }
        }
        above = above
            .child(name.as_os_str())
            .with_context(|| format!("cannot open a cgroup in {}", above.path.display()))?;
    }
    let kind = dir.read("cgroup.type").unwrap_or_default();
    if kind.trim() == "domain invalid" {
        return Err(Fault::new(
            Kind::Unsupported,
            format!(
                "cgroup {} cannot hold a container: a group above it is threaded (cgroups(7))",
                dir.path.display()
            ),
        )
        .into());
    }
    Ok(())
}

/// EBUSY for a group with processes, as the kernel has it for most controllers. It would switch
/// cpu and pids on, but with that take the groups below for ones of threads, for good
/// (cgroups(7), "Threaded cgroups"). The root, which has no type, is free of these rules.
fn pass_on(above: &Dir, controllers: &str) -> nix::Result<()> {
    let held = above.read("cgroup.procs").is_ok_and(|processes| !processes.trim().is_empty());
    if held && above.has("cgroup.type") {
        return Err(Errno::EBUSY);
    }
    above.write("cgroup.subtree_control", controllers)
}

/// Which group above does not give `controller` to those below it, and why; `None` where the
/// kernel has none for v2. Tries it once more, as only that tells the reason.
pub(super) fn refusal(group: &Group, controller: &str) -> Option<(PathBuf, Errno)> {
    let below = group.plan.path.strip_prefix(&group.plan.mountpoint).ok()?;
    let mut above = Dir::open(&group.plan.mountpoint).ok()?;
    for name in below.components() {
        let child = above.child(name.as_os_str()).ok()?;
        let has = |dir: &Dir| {
            let text = dir.read("cgroup.controllers").unwrap_or_default();
            text.split_whitespace().any(|c| c == controller)
        };
        if has(&above) && !has(&child) {
            let tried = pass_on(&above, &format!("+{controller}"));
            return tried.err().map(|errno| (above.path, errno));
        }
        above = child;
    }
    None
}

/// The spec's "Cgroup ownership": the directory and the files that the kernel calls delegatable.
pub(super) fn delegate(dir: &Dir, uid: u32) -> Result<()> {
    let listed = std::fs::read_to_string("/sys/kernel/cgroup/delegate")
        .unwrap_or_else(|_| "cgroup.procs\ncgroup.subtree_control\ncgroup.threads\n".to_owned());
    for file in std::iter::once(".").chain(listed.lines()) {
        match fchownat(dir, file, Some(Uid::from_raw(uid)), None, AtFlags::AT_SYMLINK_NOFOLLOW) {
            // Not every group has every file.
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(errno) => {
                return Err(errno).with_context(|| {
                    format!("cannot give {}/{file} to user {uid}", dir.path.display())
                });
            }
        }
    }
    Ok(())
}
