//! Removing the container's groups.

use std::ffi::OsStr;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::dir::Dir;
use super::{Cgroup, CgroupPlan};
use crate::error::{Context, Result};

/// How long dying processes may hold a group.
const PATIENCE: Duration = Duration::from_secs(10);

/// rmdir(2).
pub(super) fn rmdir(path: &Path) -> nix::Result<()> {
    unlinkat(nix::fcntl::AT_FDCWD, path, UnlinkatFlags::RemoveDir)
}

pub(super) fn remove(plan: &CgroupPlan) -> Result<()> {
    remove_within(plan, PATIENCE)
}

pub(super) fn remove_within(plan: &CgroupPlan, patience: Duration) -> Result<()> {
    let deadline = Instant::now() + patience;
    let mut pause = Duration::from_millis(1);
    let mut left: Vec<&Path> = plan.groups.iter().map(|g| g.path.as_path()).collect();
    loop {
        let mut failed = None;
        left.retain(|path| match remove_one(path) {
            Ok(()) => false,
            Err(errno) => {
                failed.get_or_insert((path.to_path_buf(), errno));
                true
            }
        });
        let Some((path, errno)) = failed else { return Ok(()) };
        // Other errors do not pass with time.
        if errno != Errno::EBUSY || Instant::now() >= deadline {
            return Err(errno).with_context(|| describe(&path, plan));
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(64));
    }
}

/// A group and those below it, these first.
fn remove_one(path: &Path) -> nix::Result<()> {
    let refused = match rmdir(path) {
        Ok(()) | Err(Errno::ENOENT) => return Ok(()),
        Err(errno) => errno,
    };
    // A read-only mount says EROFS even of what is not there.
    let mut current = match Dir::open(path) {
        Ok(dir) => dir,
        Err(Errno::ENOENT) => return Ok(()),
        Err(_) => return Err(refused),
    };
    if refused != Errno::EBUSY {
        return Err(refused);
    }
    // Down to a group that has none below, remove it, one up, and again: a container with a
    // writable cgroup mount decides on the depth, so there is no recursion here.
    let mut names = Vec::new();
    loop {
        if let Some(name) = current.groups(1)?.pop() {
            current = current.child(&name)?;
            names.push(name);
        } else if let Some(name) = names.pop() {
            current = current.parent()?;
            remove_child(&current, &name)?;
        } else {
            break;
        }
    }
    match rmdir(path) {
        Err(Errno::ENOENT) => Ok(()),
        other => other,
    }
}

fn remove_child(parent: &Dir, name: &OsStr) -> nix::Result<()> {
    match unlinkat(parent, name, UnlinkatFlags::RemoveDir) {
        Err(Errno::ENOENT) => Ok(()),
        other => other,
    }
}

/// What failed, and which processes are in the way.
fn describe(path: &Path, plan: &CgroupPlan) -> String {
    let mut text = format!("cannot remove cgroup {}", path.display());
    let holders = Cgroup::open(plan).and_then(|c| c.processes(true)).unwrap_or_default();
    if !holders.is_empty() {
        let pids: Vec<String> = holders.iter().take(10).map(i32::to_string).collect();
        text.push_str(&format!(
            " (held by {} process(es): {}{})",
            holders.len(),
            pids.join(" "),
            if holders.len() > pids.len() { " ..." } else { "" }
        ));
    }
    text
}
