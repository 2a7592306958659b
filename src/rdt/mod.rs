//! Intel RDT (AMD QoS): the container's groups in resctrl (spec config-linux.md "IntelRdt",
//! the kernel's Documentation/filesystems/resctrl.rst).
//!
//! A class of service is a directory; a container gets an existing one, a new one by `closID`, or
//! one by its id that goes with it. A monitoring group below it is always the container's own.

mod stats;

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::unistd::{UnlinkatFlags, unlinkat};
use serde::{Deserialize, Serialize};

use crate::error::{Context, Error, Fault, Kind, Result};
use crate::plan::rdt::RdtPlan;

/// What is no class of service among the directories of resctrl.
const NO_GROUPS: [&str; 3] = ["info", "mon_data", "mon_groups"];

/// Where a container stands in resctrl: on record before it is made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RdtGroup {
    /// Where resctrl is mounted.
    root: PathBuf,
    /// The directory of its class of service.
    path: PathBuf,
    /// Made with the container: it was not there before.
    is_new: bool,
    /// Named by the container's id, not by `closID`: what is new of these goes with the container.
    is_own: bool,
    /// The directory of its monitoring group.
    monitor: Option<PathBuf>,
}

/// Where resctrl is mounted in the runtime's mount namespace.
pub fn mount_point() -> Result<PathBuf> {
    let mounts = procfs::process::Process::myself()
        .and_then(|process| process.mountinfo())
        .context("cannot read /proc/self/mountinfo")?;
    let found = mounts.into_iter().find(|mount| mount.fs_type == "resctrl");
    found.map(|mount| mount.mount_point).ok_or_else(|| {
        let text = "config.json: linux.intelRdt: no resctrl filesystem is mounted";
        let hint = "mount -t resctrl resctrl /sys/fs/resctrl, where the processor has RDT or QoS";
        Fault::new(Kind::Unsupported, text).hint(hint).into()
    })
}

impl RdtGroup {
    /// Which groups the container `id` gets in the resctrl that is mounted on `root`, checked
    /// against what is there; no effect.
    pub fn choose(plan: &RdtPlan, id: &str, root: &Path) -> Result<Self> {
        let name = plan.clos.as_deref().unwrap_or(id);
        if NO_GROUPS.contains(&name) {
            let text =
                format!("config.json: linux.intelRdt.closID: resctrl keeps {name} for itself");
            return Err(Fault::bad_input(text).hint("choose another closID").into());
        }
        // No component: join() would take "/" for a path of its own.
        let path = if name == "/" { root.to_owned() } else { root.join(name) };
        let exists = path.is_dir();
        if plan.clos.is_some() && plan.schemata.is_empty() && !exists {
            let text =
                format!("config.json: linux.intelRdt.closID: there is no {}", path.display());
            let hint = "make the group, or give its schemata to have it made";
            return Err(Fault::bad_input(text).hint(hint).into());
        }
        if plan.clos.is_some() && exists {
            same_schemata(&plan.schemata, root, &path)?;
        }
        let monitor = path.join("mon_groups").join(id);
        if plan.monitoring && !root.join("mon_groups").is_dir() {
            let text = "config.json: linux.intelRdt.enableMonitoring: this machine cannot monitor";
            return Err(Fault::new(Kind::Unsupported, text)
                .hint(format!("there is no {}/mon_groups", root.display()))
                .into());
        }
        if plan.monitoring && monitor.exists() {
            let text = format!(
                "config.json: linux.intelRdt.enableMonitoring: {} exists already",
                monitor.display()
            );
            return Err(Fault::bad_input(text).hint("remove it, or choose another id").into());
        }
        Ok(RdtGroup {
            root: root.to_owned(),
            path,
            is_new: !exists,
            is_own: plan.clos.is_none(),
            monitor: plan.monitoring.then_some(monitor),
        })
    }

    /// Makes the groups and writes the schemata; on an error they are gone again.
    pub fn make(&self, schemata: &[String]) -> Result<()> {
        if self.is_new {
            self.mkdir(&self.path)?;
        }
        let made = self.write_schemata(schemata, "config.json: linux.intelRdt");
        let made = made.and_then(|()| self.monitor.iter().try_for_each(|path| self.mkdir(path)));
        if made.is_err() && self.is_new {
            // The first error is the one to tell.
            let _ = rmdir(&self.path);
        }
        made
    }

    fn mkdir(&self, path: &Path) -> Result<()> {
        std::fs::create_dir(path)
            .map_err(|error| self.explain(error.into()))
            .with_context(|| format!("config.json: linux.intelRdt: cannot make {}", path.display()))
    }

    /// Writes lines to the group's `schemata`, all in one write: the kernel takes all or none.
    /// `origin` begins the message.
    pub fn write_schemata(&self, lines: &[String], origin: &str) -> Result<()> {
        if lines.is_empty() {
            return Ok(());
        }
        let path = self.path.join("schemata");
        std::fs::write(&path, lines.join("\n") + "\n")
            .map_err(|error| self.explain(error.into()))
            .with_context(|| format!("{origin}: cannot write {lines:?} to {}", path.display()))
    }

    /// Lets a process in, its first thread; later ones are born there.
    pub fn enter(&self, pid: i32) -> Result<()> {
        for group in [Some(&self.path), self.monitor.as_ref()].into_iter().flatten() {
            let path = group.join("tasks");
            std::fs::write(&path, pid.to_string())
                .map_err(|error| self.explain(error.into()))
                .with_context(|| format!("cannot write {pid} to {}", path.display()))?;
        }
        Ok(())
    }

    /// The same for one more process. A group that was removed meanwhile has left its processes to
    /// the default one, where this one is, too.
    pub fn enter_later(&self, pid: i32) -> Result<()> {
        if self.path.is_dir() { self.enter(pid) } else { Ok(()) }
    }

    /// After the end of the container: removes what is its own.
    pub fn remove(&self) -> Result<()> {
        let own = (self.is_own && self.is_new).then_some(&self.path);
        // Of a class of service the kernel would remove it along.
        for path in [self.monitor.as_ref(), own].into_iter().flatten() {
            rmdir(path).with_context(|| format!("cannot remove {}", path.display()))?;
        }
        Ok(())
    }

    /// After a `create` that failed: removes what it made. A new class of service by `closID` may
    /// have other processes by now, and then stays.
    pub fn undo(&self) -> Result<()> {
        self.remove()?;
        let tasks = std::fs::read_to_string(self.path.join("tasks")).unwrap_or_default();
        if self.is_new && !self.is_own && tasks.trim().is_empty() {
            rmdir(&self.path).with_context(|| format!("cannot remove {}", self.path.display()))?;
        }
        Ok(())
    }

    /// Adds what the kernel says about the failure of the last call.
    fn explain(&self, error: Error) -> Error {
        let status = std::fs::read_to_string(self.root.join("info/last_cmd_status"));
        match status.as_deref().map(str::trim) {
            Ok(said) if !said.is_empty() && said != "ok" => {
                // It may repeat what config.json says.
                error.context(said.replace(char::is_control, " "))
            }
            _ => error,
        }
    }
}

/// rmdir(2); what is not there is no error.
fn rmdir(path: &Path) -> nix::Result<()> {
    match unlinkat(nix::fcntl::AT_FDCWD, path, UnlinkatFlags::RemoveDir) {
        Err(Errno::ENOENT) => Ok(()),
        result => result,
    }
}

/// A group that exists has what `lines` ask for, or there is an error: others use it.
fn same_schemata(lines: &[String], root: &Path, group: &Path) -> Result<()> {
    if lines.is_empty() {
        return Ok(());
    }
    let file = group.join("schemata");
    let text = std::fs::read_to_string(&file);
    let text = text.with_context(|| format!("cannot read {}", file.display()))?;
    let present: Vec<Entry> = text.lines().flat_map(entries).collect();
    let mut asked: Vec<Entry> = Vec::new();
    for entry in lines.iter().flat_map(|line| line.lines()).flat_map(entries) {
        // The kernel takes lines in their order: the last one counts.
        asked.retain(|earlier| {
            (&earlier.resource, &earlier.domain) != (&entry.resource, &entry.domain)
        });
        asked.push(entry);
    }
    let step = bandwidth_step(root);
    for entry in asked {
        let Entry { resource, domain, value } = &entry;
        let found = present.iter().find(|e| (&e.resource, &e.domain) == (resource, domain));
        if found.is_some_and(|found| found.value == *value || entry.is_rounded_to(found, step)) {
            continue;
        }
        let found = found.map_or("nothing".to_owned(), |found| format!("{domain}={}", found.value));
        let asked = format!("{resource}:{domain}={value}");
        let text = format!(
            "config.json: linux.intelRdt: {} differs from the schemata of {}, which has {found}",
            asked.escape_debug(),
            group.display()
        );
        let hint = "a group that exists is not changed: give its schemata, none, or another closID";
        return Err(Fault::bad_input(text).hint(hint).into());
    }
    Ok(())
}

/// One `DOMAIN=VALUE` of a line `RESOURCE:0=VALUE;1=VALUE` of a schemata file.
#[derive(Debug, PartialEq, Eq)]
struct Entry {
    resource: String,
    domain: String,
    /// Without leading zeros, which the kernel writes to align columns.
    value: String,
}

fn entries(line: &str) -> Vec<Entry> {
    let Some((resource, list)) = line.split_once(':') else { return Vec::new() };
    let plain = |number: &str| {
        let lower = number.trim().to_ascii_lowercase();
        let digits = lower.strip_prefix("0x").unwrap_or(&lower).trim_start_matches('0');
        if digits.is_empty() { "0".to_owned() } else { digits.to_owned() }
    };
    let pairs = list.split(';').filter_map(|pair| pair.split_once('='));
    pairs
        .map(|(domain, value)| Entry {
            resource: resource.trim().to_owned(),
            domain: plain(domain),
            value: plain(value),
        })
        .collect()
}

impl Entry {
    /// Memory bandwidth is rounded up to the steps of the machine.
    fn is_rounded_to(&self, found: &Entry, step: Option<u64>) -> bool {
        let asked = self.value.parse::<u64>().ok().filter(|_| self.resource == "MB");
        let (Some(asked), Some(step)) = (asked, step.filter(|step| *step > 0)) else {
            return false;
        };
        asked.checked_next_multiple_of(step).map(|rounded| rounded.to_string())
            == Some(found.value.clone())
    }
}

fn bandwidth_step(root: &Path) -> Option<u64> {
    std::fs::read_to_string(root.join("info/MB/bandwidth_gran")).ok()?.trim().parse().ok()
}

/// A file of resctrl, trimmed; `None` where the machine has none.
fn read(path: PathBuf) -> Result<Option<String>> {
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(Some(text.trim().to_owned())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

#[cfg(test)]
mod tests;
