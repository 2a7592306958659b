//! What a test may not leave behind: processes, mounts, cgroups, state.

use super::{Context, cgroup};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use std::collections::BTreeSet;
use std::fs;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// The machine as a test found it.
pub struct Before {
    mounts: BTreeSet<String>,
}

pub fn before() -> Before {
    Before { mounts: mounts() }
}

/// The mounts of this process's namespace, by mount point and source, without their numbers.
pub fn mounts() -> BTreeSet<String> {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap();
    text.lines().map(|line| line.split(' ').skip(2).collect::<Vec<_>>().join(" ")).collect()
}

/// Children that a [`super::Run`] or terminal waits for by itself.
static AWAITED: Mutex<Vec<i32>> = Mutex::new(Vec::new());

/// Keeps [`reap`] away from a child until [`no_longer_awaited`].
pub fn awaited(pid: i32) {
    AWAITED.lock().unwrap().push(pid);
}

pub fn no_longer_awaited(pid: i32) {
    AWAITED.lock().unwrap().retain(|p| *p != pid);
}

/// Every child of this process, ended or not: also the orphans, as it is a subreaper.
fn all_children() -> Vec<i32> {
    let tasks = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let texts = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    let text: String = texts.collect();
    text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

/// The children that have not ended.
pub fn children() -> Vec<i32> {
    reap();
    all_children()
}

/// Takes the status of every orphan that has ended. A zombie would keep the init of its pid
/// namespace from ending too.
pub fn reap() {
    let awaited = AWAITED.lock().unwrap();
    for pid in all_children().into_iter().filter(|pid| !awaited.contains(pid)) {
        let _ = waitpid(Pid::from_raw(pid), Some(WaitPidFlag::WNOHANG));
    }
}

impl Before {
    /// One line for each thing that is left; waits a moment for processes to end.
    pub fn left(&self, context: &Context) -> Vec<String> {
        let end = Instant::now() + Duration::from_secs(3);
        while !children().is_empty() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(5));
        }
        let mut left = Vec::new();
        for pid in children() {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            left.push(format!("process {pid}: {line}"));
        }
        left.extend(mounts().difference(&self.mounts).map(|mount| format!("mount {mount}")));
        left.extend(self.mounts.difference(&mounts()).map(|mount| format!("lost mount {mount}")));
        let groups = cgroup::below(&context.cgroup);
        left.extend(groups.iter().map(|dir| format!("cgroup {}", dir.display())));
        for entry in fs::read_dir(context.state_root()).into_iter().flatten().flatten() {
            // A cache of the runtime is not a container.
            if !entry.file_name().to_string_lossy().starts_with('.') {
                left.push(format!("state {}", entry.path().display()));
            }
        }
        left
    }
}
