//! Control groups: where they are ([`paths`]), making and removing them, limits, freezing,
//! signals, counters. See cgroups(7).
//!
//! There is no switch between v1, hybrid and v2. A container has one directory in every mounted
//! hierarchy, and each limit goes to where its controller is: a v1 hierarchy, else the v2 tree.
//!
//! How a process gets in matters for the start time: the child is cloned into the v2 group
//! ([`Cgroup::clone_into`]) and writes "0" to the v1 `tasks` files ([`Cgroup::task_files`]);
//! both leave the kernel's global threadgroup lock alone. Any other way takes it.

mod device_filter;
mod dir;
mod freezer;
mod kill;
mod limits;
mod make;
mod oom;
mod paths;
mod remove;
mod stats;

use std::cell::OnceCell;
use std::collections::BTreeSet;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::OFlag;

use crate::error::{Context, Fault, Kind, Result};
use crate::plan::resources::ResourcesPlan;
use dir::{Dir, walk};
pub use limits::Field;
pub use oom::{OomEvent, OomWatch};
pub use paths::{CgroupPlan, GroupPlan, Hierarchy, Version, hierarchies};
pub use stats::Stats;

/// One directory of the container, open.
#[derive(Debug)]
struct Group {
    plan: GroupPlan,
    dir: Dir,
}

/// The container's directories, open.
#[derive(Debug)]
pub struct Cgroup {
    groups: Vec<Group>,
    /// What `cgroup.controllers` of the v2 group says, once it was read.
    v2_controllers: OnceCell<Vec<String>>,
}

impl Cgroup {
    /// Makes the container's groups, parents included, so that a process can enter them (v1
    /// cpusets get the CPUs and memory nodes of their parents; in pure v2 every controller is
    /// switched on along the path). A group that is there already must be empty and not frozen.
    /// On an error nothing is left behind that was not there before.
    pub fn create(plan: &CgroupPlan) -> Result<Cgroup> {
        make::create(plan)
    }

    /// Opens the groups of a container. Some may be gone; when all are, the error is of
    /// [`Kind::NotFound`].
    pub fn open(plan: &CgroupPlan) -> Result<Cgroup> {
        let mut groups = Vec::new();
        for group in &plan.groups {
            match Dir::open(&group.path) {
                Ok(dir) => groups.push(Group { plan: group.clone(), dir }),
                Err(Errno::ENOENT) => {}
                Err(errno) => {
                    return Err(errno)
                        .with_context(|| format!("cannot open cgroup {}", group.path.display()));
                }
            }
        }
        match plan.groups.first() {
            Some(first) if groups.is_empty() => Err(Fault::new(
                Kind::NotFound,
                format!("the container's cgroup {} is gone", first.path.display()),
            )
            .into()),
            _ => Ok(Cgroup::of(groups)),
        }
    }

    fn of(groups: Vec<Group>) -> Cgroup {
        Cgroup { groups, v2_controllers: OnceCell::new() }
    }

    /// The v1 group of a controller, where that one is mounted.
    fn v1(&self, controller: &str) -> Option<&Dir> {
        self.groups
            .iter()
            .find(|g| g.plan.controllers.iter().any(|c| c == controller))
            .map(|g| &g.dir)
    }

    /// The v2 group and its plan.
    fn v2_group(&self) -> Option<&Group> {
        self.groups.iter().find(|g| g.plan.version == Version::V2)
    }

    fn v2(&self) -> Option<&Dir> {
        self.v2_group().map(|g| &g.dir)
    }

    /// The directory to give to clone3(2) with CLONE_INTO_CGROUP: the v2 group, on hybrid
    /// machines as well.
    pub fn clone_into(&self) -> Option<BorrowedFd<'_>> {
        self.v2().map(AsFd::as_fd)
    }

    /// The v1 `tasks` files, open for writing. The child, having one thread, writes "0" to each.
    pub fn task_files(&self) -> Result<Vec<OwnedFd>> {
        self.groups
            .iter()
            .filter(|g| g.plan.version == Version::V1)
            .map(|g| {
                g.dir
                    .file("tasks", OFlag::O_WRONLY)
                    .with_context(|| format!("cannot open {}/tasks", g.dir.path.display()))
            })
            .collect()
    }

    /// Moves a process (all its threads) into every group: the slow way, for kernels without
    /// CLONE_INTO_CGROUP (before Linux 5.7) and for processes that others have started.
    pub fn add_process(&self, pid: i32) -> Result<()> {
        for Group { dir, .. } in &self.groups {
            dir.write("cgroup.procs", &pid.to_string()).with_context(|| {
                format!("cannot move process {pid} into cgroup {}", dir.path.display())
            })?;
        }
        Ok(())
    }

    /// Makes host user `uid` the owner of the v2 group, so that the container can divide it up.
    /// For containers with a new cgroup namespace and a writable mount of /sys/fs/cgroup only
    /// (spec config-linux.md "Cgroup ownership"). Nothing happens where v1 is mounted: v1 groups
    /// cannot be given away safely.
    pub fn delegate(&self, uid: u32) -> Result<()> {
        match self.groups.as_slice() {
            [only] if only.plan.version == Version::V2 => make::delegate(&only.dir, uid),
            _ => Ok(()),
        }
    }

    /// Sets the device rules. Before a process is in the group: v1 takes them one by one, and in
    /// between everything is denied.
    pub fn restrict_devices(&self, resources: &ResourcesPlan) -> Result<()> {
        limits::devices(self, resources)
    }

    /// Sets every limit of a new container but the device rules. Errors name the field, the file
    /// and the value.
    pub fn apply(&self, resources: &ResourcesPlan) -> Result<()> {
        limits::apply(self, resources, limits::Moment::Create).context("config.json")
    }

    /// Sets the limits of a running container; `resources` are the old ones with the changes
    /// merged in. Device rules are left as they are. Errors have a [`Field`] as context; the
    /// caller knows where its value is from.
    pub fn update(&self, resources: &ResourcesPlan) -> Result<()> {
        limits::apply(self, resources, limits::Moment::Update)
    }

    /// Stops every process of the container, and returns when all have stopped; 10 s at most.
    pub fn freeze(&self) -> Result<()> {
        freezer::freeze(self)
    }

    /// Lets them go on.
    pub fn thaw(&self) -> Result<()> {
        freezer::thaw(self)
    }

    /// True when the container itself (not a group above it) was frozen. False without a freezer.
    pub fn is_frozen(&self) -> Result<bool> {
        freezer::is_frozen(self)
    }

    /// Sends `signal` to every process of the container, those in groups below included. SIGKILL
    /// also ends what is frozen, and what is forked meanwhile.
    pub fn kill_all(&self, signal: i32) -> Result<()> {
        kill::kill_all(self, signal)
    }

    /// The processes of the container, ascending; `recursive` takes those in groups below, too.
    /// Processes that this pid namespace cannot name are left out.
    pub fn processes(&self, recursive: bool) -> Result<Vec<i32>> {
        let mut found = BTreeSet::new();
        for dir in self.listed() {
            let listed = if recursive {
                walk(dir, &mut |group| processes_of(group, &mut found))
            } else {
                processes_of(dir, &mut found)
            };
            match listed {
                Ok(()) | Err(Errno::ENOENT | Errno::ENODEV) => {}
                Err(errno) => {
                    return Err(errno).with_context(|| {
                        format!("cannot list the processes of cgroup {}", dir.path.display())
                    });
                }
            }
        }
        Ok(found.into_iter().collect())
    }

    /// The groups in which every process of the container is listed: the v2 one, and on v1 and
    /// hybrid machines also the one that the container would be confined by at least.
    fn listed(&self) -> impl Iterator<Item = &Dir> {
        let v1 = self
            .v1("devices")
            .or_else(|| self.groups.iter().find(|g| g.plan.version == Version::V1).map(|g| &g.dir));
        self.v2().into_iter().chain(v1)
    }

    /// Tells when the memory limit makes the kernel kill. `None` without a memory controller.
    pub fn oom_events(&self) -> Result<Option<OomWatch>> {
        oom::watch(self)
    }

    /// The counters, as `events --stats` prints them.
    pub fn stats(&self) -> Result<Stats> {
        stats::read(self)
    }

    /// Removes the container's groups and what the container made below them; not their parents.
    /// What is gone is no error. Waits up to 10 s for dying processes; then the error names those
    /// that are left.
    pub fn remove(plan: &CgroupPlan) -> Result<()> {
        remove::remove(plan)
    }

    /// The groups that an additional process enters. `subs` are the arguments of `--cgroup`, a
    /// path below the container's own groups, or `CONTROLLER[,CONTROLLER...]:PATH` for v1 (the
    /// other hierarchies keep the container's own). Without any, and where the v2 group cannot
    /// hold processes since it gives controllers to groups below, the v2 group of `init`.
    pub fn for_exec(self, subs: &[String], init: i32) -> Result<Cgroup> {
        if subs.is_empty() {
            return self.beside(init);
        }
        let mut wanted: Vec<Option<&Path>> = vec![None; self.groups.len()];
        for sub in subs {
            let (controllers, path) = match sub.split_once(':') {
                Some((controllers, path)) => (Some(controllers), path),
                None => (None, sub.as_str()),
            };
            let bad = |problem: &str| Fault::bad_input(format!("--cgroup {sub}: {problem}"));
            let path = Path::new(path.trim_start_matches('/'));
            if path.components().any(|c| c == std::path::Component::ParentDir) {
                return Err(bad("leads out of the container's cgroup (\"..\")").into());
            }
            let Some(controllers) = controllers else {
                if subs.len() > 1 {
                    return Err(bad("of several, each needs its CONTROLLER:").into());
                }
                wanted.fill(Some(path));
                break;
            };
            for controller in controllers.split(',') {
                let at = self.groups.iter().position(|g| {
                    g.plan.controllers.iter().any(|c| !controller.is_empty() && c == controller)
                });
                let slot = at.and_then(|at| wanted.get_mut(at));
                let Some(slot) = slot else {
                    return Err(
                        bad(&format!("no \"{controller}\" controller is mounted as v1")).into()
                    );
                };
                if slot.is_some_and(|other| other != path) {
                    return Err(bad(&format!("two paths for the hierarchy of {controller}")).into());
                }
                *slot = Some(path);
            }
        }
        self.groups
            .into_iter()
            .zip(wanted)
            .map(|(group, sub)| match sub {
                Some(sub) if !sub.as_os_str().is_empty() => group.below(sub),
                _ => Ok(group),
            })
            .collect::<Result<Vec<_>>>()
            .map(Cgroup::of)
    }

    fn beside(mut self, init: i32) -> Result<Cgroup> {
        let Some(v2) = self.groups.iter_mut().find(|g| g.plan.version == Version::V2) else {
            return Ok(self);
        };
        // cgroups(7), "no internal processes": systemd and nested engines do this.
        let passed_on = v2.dir.read("cgroup.subtree_control").unwrap_or_default();
        if passed_on.trim().is_empty() {
            return Ok(self);
        }
        let Some(path) = paths::v2_path_of(init)? else { return Ok(self) };
        let path = v2.plan.mountpoint.join(path);
        // Only groups below the container's own are its business.
        if let Ok(sub) = path.strip_prefix(&v2.plan.path)
            && !sub.as_os_str().is_empty()
        {
            v2.dir = v2
                .dir
                .child(sub.as_os_str())
                .with_context(|| format!("cannot open cgroup {}", path.display()))?;
        }
        Ok(self)
    }
}

impl Group {
    fn below(self, sub: &Path) -> Result<Group> {
        let dir = self.dir.child(sub.as_os_str()).with_context(|| {
            format!("--cgroup: cannot open cgroup {}/{}", self.dir.path.display(), sub.display())
        })?;
        Ok(Group { plan: self.plan, dir })
    }
}

fn processes_of(dir: &Dir, found: &mut BTreeSet<i32>) -> nix::Result<()> {
    let text = match dir.read("cgroup.procs") {
        // In a threaded v2 group.
        Err(Errno::EOPNOTSUPP) => dir.read("cgroup.threads")?,
        other => other?,
    };
    // 0 stands for a process of another pid namespace; as an argument of kill(2) it is fatal.
    found.extend(text.lines().filter_map(|l| l.parse::<i32>().ok()).filter(|pid| *pid > 0));
    Ok(())
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_running;
#[cfg(test)]
mod tests_v2;
