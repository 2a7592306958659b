//! When a container runs out of memory.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use super::Cgroup;
use super::dir::Dir;
use crate::error::{Context, Result};

/// What a wake-up of an [`OomWatch`] meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OomEvent {
    /// Nothing of interest.
    Nothing,
    /// The memory limit was hit: v1 reports that, v2 that a process was killed for it.
    Oom,
    /// The group is gone or (v2) has no process any more; there will be no other event.
    End,
}

/// Waits for [`OomEvent`]s: poll(2) the descriptor for reading, then ask [`OomWatch::next`].
#[derive(Debug)]
pub struct OomWatch {
    dir: Dir,
    source: Source,
}

#[derive(Debug)]
enum Source {
    V1(EventFd),
    V2 { inotify: Inotify, kills: u64 },
}

pub(super) fn watch(cgroup: &Cgroup) -> Result<Option<OomWatch>> {
    let (dir, v1) = match (cgroup.v1("memory"), cgroup.v2()) {
        (Some(dir), _) => (dir, true),
        (None, Some(dir)) if dir.has("memory.events") => (dir, false),
        _ => return Ok(None),
    };
    let cannot = || format!("cannot watch the memory of cgroup {}", dir.path.display());
    let source = if v1 { watch_v1(dir) } else { watch_v2(dir) }.with_context(cannot)?;
    let dir = dir.again().with_context(cannot)?;
    Ok(Some(OomWatch { dir, source }))
}

/// cgroup-v1/memory.rst, "OOM Control".
fn watch_v1(dir: &Dir) -> nix::Result<Source> {
    let event = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
    let control = dir.file("memory.oom_control", OFlag::O_RDONLY)?;
    let line = format!("{} {}", event.as_fd().as_raw_fd(), control.as_raw_fd());
    dir.write("cgroup.event_control", &line)?;
    Ok(Source::V1(event))
}

fn watch_v2(dir: &Dir) -> nix::Result<Source> {
    let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
    for file in ["memory.events", "cgroup.events"] {
        inotify.add_watch(&dir.path.join(file), AddWatchFlags::IN_MODIFY)?;
    }
    Ok(Source::V2 { inotify, kills: count(dir, "memory.events", "oom_kill")? })
}

fn count(dir: &Dir, file: &str, key: &str) -> nix::Result<u64> {
    let text = dir.read(file)?;
    let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
    Ok(value.and_then(|v| v.trim().parse().ok()).unwrap_or(0))
}

impl OomWatch {
    /// To poll for reading.
    pub fn fd(&self) -> BorrowedFd<'_> {
        match &self.source {
            Source::V1(event) => event.as_fd(),
            Source::V2 { inotify, .. } => inotify.as_fd(),
        }
    }

    /// What has happened since the last call; does not block.
    pub fn next_event(&mut self) -> Result<OomEvent> {
        let event = match &mut self.source {
            Source::V1(event) => match event.read() {
                // Removing the group wakes up as well.
                Ok(_) if !self.dir.has("cgroup.event_control") => Ok(OomEvent::End),
                Ok(_) => Ok(OomEvent::Oom),
                Err(errno) => Err(errno),
            },
            Source::V2 { inotify, kills } => next_v2(&self.dir, inotify, kills),
        };
        match event {
            Err(Errno::EAGAIN) => Ok(OomEvent::Nothing),
            Err(Errno::ENOENT | Errno::ENODEV) => Ok(OomEvent::End),
            other => other.with_context(|| {
                format!("cannot watch the memory of cgroup {}", self.dir.path.display())
            }),
        }
    }
}

fn next_v2(dir: &Dir, inotify: &Inotify, kills: &mut u64) -> nix::Result<OomEvent> {
    inotify.read_events()?;
    let now = count(dir, "memory.events", "oom_kill")?;
    if now > *kills {
        *kills = now;
        return Ok(OomEvent::Oom);
    }
    Ok(match count(dir, "cgroup.events", "populated")? {
        0 => OomEvent::End,
        _ => OomEvent::Nothing,
    })
}
