//! The cgroup trees of this machine, as mountinfo shows them, and a cgroup for each test.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A mounted hierarchy.
#[derive(Debug, Clone)]
pub struct Hierarchy {
    pub mountpoint: PathBuf,
    /// Controllers or `name=...`; empty for v2.
    pub controllers: Vec<String>,
    pub v2: bool,
}

impl Hierarchy {
    /// The directory of the cgroup with this absolute path.
    pub fn dir(&self, cgroup: &str) -> PathBuf {
        self.mountpoint.join(cgroup.trim_start_matches('/'))
    }
}

/// Every mounted hierarchy, each once.
pub fn hierarchies() -> Vec<Hierarchy> {
    let mut found: Vec<Hierarchy> = Vec::new();
    for line in fs::read_to_string("/proc/self/mountinfo").unwrap().lines() {
        let Some((front, back)) = line.split_once(" - ") else { continue };
        let mountpoint = PathBuf::from(front.split(' ').nth(4).unwrap());
        let mut back = back.split(' ');
        let v2 = match back.next() {
            Some("cgroup") => false,
            Some("cgroup2") => true,
            _ => continue,
        };
        let known = ["rw", "ro", "xattr", "clone_children", "release_agent", "noprefix"];
        let controllers = match back.nth(1) {
            Some(options) if !v2 => options
                .split(',')
                .filter(|o| !known.contains(o) && !o.starts_with("release_agent="))
                .map(String::from)
                .collect(),
            _ => Vec::new(),
        };
        if !found.iter().any(|h| h.v2 == v2 && h.controllers == controllers) {
            found.push(Hierarchy { mountpoint, controllers, v2 });
        }
    }
    found
}

/// The v1 hierarchy with that controller.
pub fn v1(controller: &str) -> Option<Hierarchy> {
    hierarchies().into_iter().find(|h| h.controllers.iter().any(|c| c == controller))
}

/// Whether v2 is all there is, and has that controller.
pub fn pure_v2_has(controller: &str) -> bool {
    match hierarchies().as_slice() {
        [only] if only.v2 => fs::read_to_string(only.mountpoint.join("cgroup.controllers"))
            .is_ok_and(|all| all.split_whitespace().any(|c| c == controller)),
        _ => false,
    }
}

/// The directory of a process's cgroup in the hierarchy of `controller`; in v2 where v1 lacks it.
#[track_caller]
pub fn of_process(pid: i32, controller: &str) -> PathBuf {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let v1 = v1(controller);
    let path = text.lines().find_map(|line| {
        let (_, rest) = line.split_once(':')?;
        let (names, path) = rest.split_once(':')?;
        let wanted = match &v1 {
            Some(_) => names.split(',').any(|name| name == controller),
            None => names.is_empty(),
        };
        wanted.then(|| path.to_string())
    });
    let hierarchy = v1.or_else(|| hierarchies().into_iter().find(|h| h.v2));
    let path = path.unwrap_or_else(|| panic!("no {controller} in /proc/{pid}/cgroup:\n{text}"));
    hierarchy.unwrap().dir(&path)
}

/// Whether everything in that v1 freezer or v2 group stands still.
pub fn is_frozen(dir: &Path) -> bool {
    let says = |file: &str, line: &str| {
        fs::read_to_string(dir.join(file)).is_ok_and(|text| text.lines().any(|l| l == line))
    };
    says("freezer.state", "FROZEN") || says("cgroup.events", "frozen 1")
}

/// Makes the cgroup in every hierarchy.
pub fn make(cgroup: &str) -> io::Result<()> {
    for hierarchy in hierarchies() {
        let mut dir = hierarchy.mountpoint.clone();
        for part in cgroup.split('/').filter(|p| !p.is_empty()) {
            let parent = dir.clone();
            dir.push(part);
            match fs::create_dir(&dir) {
                Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
                _ => {}
            }
            // A v1 cpuset starts empty, and then takes no process.
            for file in ["cpuset.cpus", "cpuset.mems"] {
                if !hierarchy.v2 && dir.join(file).exists() {
                    fs::write(dir.join(file), fs::read(parent.join(file))?)?;
                }
            }
        }
    }
    Ok(())
}

/// Moves this process into the cgroup of every v1 hierarchy, and in v2 into a leaf of its own: a
/// v2 group that holds processes can have no groups with controllers below it.
pub fn enter(cgroup: &str) -> io::Result<()> {
    for hierarchy in hierarchies() {
        let dir = if hierarchy.v2 { leaf(&hierarchy, cgroup) } else { hierarchy.dir(cgroup) };
        fs::create_dir_all(&dir)?;
        fs::write(dir.join("cgroup.procs"), "0")?;
    }
    Ok(())
}

/// The group of the test's own process in v2.
fn leaf(hierarchy: &Hierarchy, cgroup: &str) -> PathBuf {
    hierarchy.dir(cgroup).join("test")
}

/// The cgroup directories below `cgroup`, in all hierarchies, parents first; but not the one of
/// the test's own process.
pub fn below(cgroup: &str) -> Vec<PathBuf> {
    let own: Vec<_> = hierarchies().iter().filter(|h| h.v2).map(|h| leaf(h, cgroup)).collect();
    all_below(cgroup).into_iter().filter(|dir| !own.contains(dir)).collect()
}

fn all_below(cgroup: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for hierarchy in hierarchies() {
        walk(&hierarchy.dir(cgroup), &mut found);
    }
    found
}

fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten().filter(|e| e.file_type().is_ok_and(|t| t.is_dir())) {
        found.push(entry.path());
        walk(&entry.path(), found);
    }
}

/// The processes in the cgroup and below, over all hierarchies.
pub fn processes(cgroup: &str) -> Vec<i32> {
    let own = hierarchies().into_iter().map(|h| h.dir(cgroup));
    let mut pids: Vec<i32> = own.chain(all_below(cgroup)).flat_map(|dir| procs(&dir)).collect();
    pids.sort_unstable();
    pids.dedup();
    pids
}

/// The processes of one cgroup directory.
pub fn procs(dir: &Path) -> Vec<i32> {
    let text = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).collect()
}

/// Kills what is in the cgroup, then removes it everywhere. False when something stays.
pub fn remove(cgroup: &str) -> bool {
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        for dir in all_below(cgroup) {
            for (file, thawed) in [("freezer.state", "THAWED"), ("cgroup.freeze", "0")] {
                if dir.join(file).exists() {
                    let _ = fs::write(dir.join(file), thawed);
                }
            }
        }
        for pid in processes(cgroup).into_iter().filter(|pid| *pid > 1) {
            let pid = nix::unistd::Pid::from_raw(pid);
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
            let _ = nix::sys::wait::waitpid(pid, Some(nix::sys::wait::WaitPidFlag::WNOHANG));
        }
        for dir in all_below(cgroup).into_iter().rev() {
            let _ = fs::remove_dir(dir);
        }
        let left: Vec<_> = hierarchies()
            .into_iter()
            .map(|h| h.dir(cgroup))
            .filter(|dir| dir.exists() && fs::remove_dir(dir).is_err())
            .collect();
        if left.is_empty() {
            return true;
        }
        if Instant::now() > end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}
