//! Stopping all processes of a container, and letting them go on.

use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::Cgroup;
use super::dir::Dir;
use crate::error::{Context, Error, Fault, Kind, Result};

/// How long the kernel gets to stop everything.
const PATIENCE: Duration = Duration::from_secs(10);

const V1: &str = "freezer.state";
const V2: &str = "cgroup.freeze";

/// The group that freezes: v1 where mounted, since that is where others look.
enum Freezer<'a> {
    V1(&'a Dir),
    V2(&'a Dir),
}

fn find(cgroup: &Cgroup) -> Option<Freezer<'_>> {
    match cgroup.v1("freezer") {
        Some(dir) => Some(Freezer::V1(dir)),
        None => cgroup.v2().filter(|dir| dir.has(V2)).map(Freezer::V2),
    }
}

fn none() -> Error {
    Fault::new(Kind::Unsupported, "cannot freeze: neither a v1 freezer nor cgroup v2 is mounted")
        .into()
}

pub(super) fn freeze(cgroup: &Cgroup) -> Result<()> {
    let (frozen, dir, file, thaw) = match find(cgroup).ok_or_else(none)? {
        Freezer::V1(dir) => (freeze_v1(dir), dir, V1, "THAWED"),
        Freezer::V2(dir) => (freeze_v2(dir), dir, V2, "0"),
    };
    let problem = match frozen {
        Ok(true) => return Ok(()),
        Ok(false) => Err(Errno::ETIMEDOUT),
        Err(errno) => Err(errno),
    };
    // Half frozen is worse than not at all. The error to tell is the first.
    let _ = dir.write(file, thaw);
    problem.with_context(|| format!("cannot freeze cgroup {}", dir.path.display()))
}

/// False when time ran out. While processes keep appearing, the v1 freezer can stay in FREEZING
/// for ever; writing again helps, and now and then thawing and a rest.
fn freeze_v1(dir: &Dir) -> nix::Result<bool> {
    let deadline = Instant::now() + PATIENCE;
    for attempt in 1u32.. {
        dir.write(V1, "FROZEN")?;
        if dir.read(V1)?.trim() == "FROZEN" {
            return Ok(true);
        }
        if Instant::now() >= deadline {
            break;
        }
        if attempt % 50 == 0 {
            dir.write(V1, "THAWED")?;
            std::thread::sleep(Duration::from_millis(10));
        } else if attempt % 10 == 0 {
            std::thread::sleep(Duration::from_micros(100));
        }
    }
    Ok(false)
}

fn freeze_v2(dir: &Dir) -> nix::Result<bool> {
    let deadline = Instant::now() + PATIENCE;
    let mut pause = Duration::from_micros(100);
    dir.write(V2, "1")?;
    while !dir.read("cgroup.events")?.lines().any(|line| line == "frozen 1") {
        if Instant::now() >= deadline {
            return Ok(false);
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(10));
    }
    Ok(true)
}

pub(super) fn thaw(cgroup: &Cgroup) -> Result<()> {
    let (dir, file, value) = match find(cgroup).ok_or_else(none)? {
        Freezer::V1(dir) => (dir, V1, "THAWED"),
        Freezer::V2(dir) => (dir, V2, "0"),
    };
    dir.write(file, value).with_context(|| format!("cannot thaw cgroup {}", dir.path.display()))
}

pub(super) fn is_frozen(cgroup: &Cgroup) -> Result<bool> {
    // Both tell what was asked of this group, whatever groups above are doing.
    let (dir, file) = match find(cgroup) {
        Some(Freezer::V1(dir)) => (dir, "freezer.self_freezing"),
        Some(Freezer::V2(dir)) => (dir, V2),
        None => return Ok(false),
    };
    match dir.read(file) {
        Ok(text) => Ok(text.trim() == "1"),
        Err(Errno::ENOENT | Errno::ENODEV) => Ok(false),
        Err(errno) => {
            Err(errno).with_context(|| format!("cannot read {}/{file}", dir.path.display()))
        }
    }
}
