//! The limits of `linux.resources`, written to the files of the controllers.

mod v1;
mod v2;

use std::fmt;

use nix::errno::Errno;

use super::dir::Dir;
use super::{Cgroup, device_filter, make};
use crate::error::{Context, Error, Fault, Kind, Result, errno_text};
use crate::plan::resources::{BlockIoPlan, CpuPlan, MemoryPlan, NetworkPlan, ResourcesPlan};

/// When limits are set.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Moment {
    /// The groups are new and hold nobody.
    Create,
    /// The container runs.
    Update,
}

/// Sets everything that is given, and nothing else.
pub(super) fn apply(cgroup: &Cgroup, plan: &ResourcesPlan, moment: Moment) -> Result<()> {
    memory(cgroup, &plan.memory, moment)?;
    // cpu and cpuset are two controllers with one object in config.json.
    let cpuset =
        CpuPlan { cpus: plan.cpu.cpus.clone(), mems: plan.cpu.mems.clone(), ..CpuPlan::default() };
    if (CpuPlan { cpus: None, mems: None, ..plan.cpu.clone() }) != CpuPlan::default() {
        match home(cgroup, "cpu", "cpu")? {
            Home::V1(dir) => v1::cpu(dir, &plan.cpu)?,
            Home::V2(dir) => v2::cpu(dir, &plan.cpu)?,
        }
    }
    if cpuset != CpuPlan::default() {
        let field = if cpuset.cpus.is_some() { "cpu.cpus" } else { "cpu.mems" };
        let dir = home(cgroup, "cpuset", field)?.dir();
        for (file, value, field) in
            [("cpuset.cpus", cpuset.cpus, "cpu.cpus"), ("cpuset.mems", cpuset.mems, "cpu.mems")]
        {
            if let Some(value) = value {
                set(dir, file, value, field)?;
            }
        }
    }
    if let Some(limit) = plan.pids {
        let value = match limit {
            // The kernel's 0 would not let the container's first process in. As for forks, 1 says
            // the same: there is one process, so there can be no other.
            0 => "1".to_owned(),
            1.. => limit.to_string(),
            _ => "max".to_owned(),
        };
        set(home(cgroup, "pids", "pids.limit")?.dir(), "pids.max", value, "pids.limit")?;
    }
    if plan.block_io != BlockIoPlan::default() {
        match home(cgroup, "blkio", "blockIO")? {
            Home::V1(dir) => v1::block_io(dir, &plan.block_io)?,
            Home::V2(dir) => v2::block_io(dir, &plan.block_io)?,
        }
    }
    if !plan.hugepages.is_empty() {
        let (dir, suffix) = match home(cgroup, "hugetlb", "hugepageLimits")? {
            Home::V1(dir) => (dir, "limit_in_bytes"),
            Home::V2(dir) => (dir, "max"),
        };
        hugepages(dir, suffix, plan)?;
    }
    network(cgroup, &plan.network)?;
    if !plan.rdma.is_empty() {
        rdma(home(cgroup, "rdma", "rdma")?.dir(), plan)?;
    }
    unified(cgroup, plan)
}

/// Engines write `"disableOOMKiller": false` into every config.json: what is so without doing
/// anything needs no controller.
fn memory(cgroup: &Cgroup, plan: &MemoryPlan, moment: Moment) -> Result<()> {
    if *plan == MemoryPlan::default() {
        return Ok(());
    }
    let needed = MemoryPlan {
        disable_oom_killer: plan.disable_oom_killer.filter(|d| *d),
        check_before_update: false,
        ..plan.clone()
    };
    match home(cgroup, "memory", "memory") {
        Ok(Home::V1(dir)) => v1::memory(dir, plan, moment),
        Ok(Home::V2(dir)) => v2::memory(dir, plan),
        Err(_) if needed == MemoryPlan::default() => Ok(()),
        Err(error) => Err(error),
    }
}

/// Where a controller is.
enum Home<'a> {
    V1(&'a Dir),
    V2(&'a Dir),
}

impl<'a> Home<'a> {
    fn dir(self) -> &'a Dir {
        match self {
            Home::V1(dir) | Home::V2(dir) => dir,
        }
    }
}

/// The group of a controller, by its v1 name; `field` is what asks for it.
fn home<'a>(cgroup: &'a Cgroup, controller: &str, field: &str) -> Result<Home<'a>> {
    if let Some(dir) = cgroup.v1(controller) {
        return Ok(Home::V1(dir));
    }
    let v2_name = if controller == "blkio" { "io" } else { controller };
    if let Some(dir) = cgroup.v2()
        && v2_has(cgroup, v2_name)?
    {
        return Ok(Home::V2(dir));
    }
    Err(missing(cgroup, v2_name, field))
}

fn missing(cgroup: &Cgroup, controller: &str, field: &str) -> Error {
    let refusal = cgroup.v2_group().and_then(|g| make::refusal(g, controller));
    let (why, hint) = match (refusal, cgroup.v2()) {
        (Some((above, errno)), _) => (
            format!("cannot be switched on in {}: {}", above.display(), errno_text(errno)),
            (errno == Errno::EBUSY).then_some(
                "a cgroup that holds processes gives no controllers to those below (cgroups(7)): \
                 choose another linux.cgroupsPath",
            ),
        ),
        (None, Some(dir)) if cgroup.groups.len() == 1 => {
            (format!("is not in {}/cgroup.controllers", dir.path.display()), None)
        }
        _ => ("is not mounted".to_owned(), None),
    };
    let fault = Fault::new(Kind::Unsupported, format!("the {controller} controller {why}"));
    let fault = hint.into_iter().fold(fault, Fault::hint);
    Error::from(fault).context(Field::new(field))
}

/// True when the v2 group has the controller. On hybrid machines controllers of the v2 tree are
/// passed down only when asked for, as here: it costs time, and most are with v1.
fn v2_has(cgroup: &Cgroup, controller: &str) -> Result<bool> {
    let Some(group) = cgroup.v2_group() else { return Ok(false) };
    let read = || -> Result<Vec<String>> {
        let file = "cgroup.controllers";
        let text = group
            .dir
            .read(file)
            .with_context(|| format!("cannot read {}/{file}", group.dir.path.display()))?;
        Ok(text.split_whitespace().map(str::to_owned).collect())
    };
    let has = |list: &[String]| list.iter().any(|c| c == controller);
    if cgroup.v2_controllers.get().is_none() {
        // Only this thread is here, so the cell is still empty.
        let _ = cgroup.v2_controllers.set(read()?);
    }
    if cgroup.v2_controllers.get().is_some_and(|list| has(list)) {
        return Ok(true);
    }
    if cgroup.groups.len() == 1 {
        return Ok(false);
    }
    make::pass_controllers_on(&group.plan, &group.dir, Some(controller))?;
    Ok(has(&read()?))
}

/// The field of a limit that could not be set: the context of every error of [`apply`].
#[derive(Debug)]
pub struct Field(pub String);

impl Field {
    fn new(name: &str) -> Self {
        Field(name.to_owned())
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "linux.resources.{}", self.0)
    }
}

/// A value for a file, and the field of `linux.resources` that it comes from.
struct Setting<'a> {
    file: String,
    value: String,
    field: &'a str,
}

impl<'a> Setting<'a> {
    fn new(file: impl Into<String>, value: impl ToString, field: &'a str) -> Self {
        Setting { file: file.into(), value: value.to_string(), field }
    }

    fn write(&self, dir: &Dir) -> nix::Result<()> {
        dir.write(&self.file, &self.value)
    }

    /// The error for what [`write`](Setting::write) said.
    fn refused(&self, dir: &Dir, errno: Errno) -> Error {
        let file = format!("{}/{}", dir.path.display(), self.file);
        let error = match errno {
            Errno::ENOENT => {
                let text = format!("this kernel has no {file}");
                Fault::new(Kind::Unsupported, text).into()
            }
            _ => {
                let mut text = format!("cannot write \"{}\" to {file}", self.value.escape_debug());
                // v1's memory, which cannot shrink that far.
                if errno == Errno::EBUSY
                    && let Ok(used) = dir.read("memory.usage_in_bytes")
                {
                    text.push_str(&format!(": {} bytes are in use", used.trim()));
                }
                Error::from(errno).context(text)
            }
        };
        error.context(Field::new(self.field))
    }
}

fn set(dir: &Dir, file: impl Into<String>, value: impl ToString, field: &str) -> Result<()> {
    let setting = Setting::new(file, value, field);
    setting.write(dir).map_err(|errno| setting.refused(dir, errno))
}

/// Settings that the kernel checks against each other (quota and period, memory with and without
/// swap): whether the first or the second must go first depends on the old values. What is
/// refused as invalid is tried again once another of them was accepted.
fn set_related(dir: &Dir, settings: Vec<Setting<'_>>) -> Result<()> {
    let mut left = settings;
    loop {
        let before = left.len();
        let mut refused = Vec::new();
        for setting in left {
            match setting.write(dir) {
                Ok(()) => {}
                Err(Errno::EINVAL) => refused.push(setting),
                Err(errno) => return Err(setting.refused(dir, errno)),
            }
        }
        match refused.first() {
            None => return Ok(()),
            Some(first) if refused.len() == before => {
                return Err(first.refused(dir, Errno::EINVAL));
            }
            Some(_) => left = refused,
        }
    }
}

pub(super) fn devices(cgroup: &Cgroup, plan: &ResourcesPlan) -> Result<()> {
    match (cgroup.v1("devices"), cgroup.v2()) {
        (Some(dir), _) => device_filter::apply_v1(dir, &plan.devices),
        (None, Some(dir)) => device_filter::apply_v2(dir, &plan.devices),
        (None, None) => Err(missing(cgroup, "devices", "devices").context("config.json")),
    }
}

/// Both kinds of accounting are limited, where the kernel has both (Linux 5.7).
fn hugepages(dir: &Dir, suffix: &str, plan: &ResourcesPlan) -> Result<()> {
    let field = "hugepageLimits";
    for limit in &plan.hugepages {
        set(dir, format!("hugetlb.{}.{suffix}", limit.page_size), limit.limit, field)?;
        let reserved = format!("hugetlb.{}.rsvd.{suffix}", limit.page_size);
        let setting = Setting::new(reserved, limit.limit, field);
        match setting.write(dir) {
            Err(Errno::ENOENT) => {}
            other => other.map_err(|errno| setting.refused(dir, errno))?,
        }
    }
    Ok(())
}

/// These controllers never came to v2.
fn network(cgroup: &Cgroup, plan: &NetworkPlan) -> Result<()> {
    if let Some(id) = plan.class_id {
        let field = "network.classID";
        let dir = cgroup.v1("net_cls").ok_or_else(|| missing(cgroup, "net_cls", field))?;
        set(dir, "net_cls.classid", id, field)?;
    }
    for (name, priority) in &plan.priorities {
        let field = "network.priorities";
        let dir = cgroup.v1("net_prio").ok_or_else(|| missing(cgroup, "net_prio", field))?;
        set(dir, "net_prio.ifpriomap", format!("{name} {priority}"), field)?;
    }
    Ok(())
}

fn rdma(dir: &Dir, plan: &ResourcesPlan) -> Result<()> {
    for (device, limit) in &plan.rdma {
        let mut line = device.clone();
        for (key, value) in [("hca_handle", limit.hca_handles), ("hca_object", limit.hca_objects)] {
            if let Some(value) = value {
                line.push_str(&format!(" {key}={value}"));
            }
        }
        set(dir, "rdma.max", line, "rdma")?;
    }
    Ok(())
}

/// Files of the v2 group, as they are. On hybrid machines those of controllers that live there.
fn unified(cgroup: &Cgroup, plan: &ResourcesPlan) -> Result<()> {
    for (file, value) in &plan.unified {
        let field = format!("unified[\"{file}\"]");
        let bad = |problem: &str, hint| {
            let fault = Fault::new(Kind::Unsupported, problem).hint(hint);
            Error::from(fault).context(Field::new(&field))
        };
        let hint = "use the fields of linux.resources, or a machine with cgroup v2 alone";
        let Some(dir) = cgroup.v2() else {
            return Err(bad("cgroup v2 is not mounted", hint));
        };
        let controller = file.split('.').next().unwrap_or_default();
        if cgroup.v1(controller).is_some() {
            return Err(bad(&format!("the {controller} controller is mounted as v1 here"), hint));
        }
        if controller != "cgroup" && !dir.has(file) && !v2_has(cgroup, controller)? {
            return Err(missing(cgroup, controller, &field));
        }
        // Several devices are several lines; the kernel takes one with each write.
        for line in value.lines() {
            set(dir, file, line, &field)?;
        }
        if value.is_empty() {
            set(dir, file, "", &field)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
