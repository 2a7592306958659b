//! The counters of a container in the shape of runc's `events --stats`: zero and empty fields
//! are left out where runc leaves them out, so that its readers can read ours.

mod v1;
mod v2;

use std::collections::BTreeMap;
use std::str::FromStr;

use nix::errno::Errno;
use serde::Serialize;

use super::Cgroup;
use super::dir::Dir;
use crate::error::{Context, Result};

fn is_zero(value: &u64) -> bool {
    *value == 0
}

/// All of them.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Stats {
    /// CPU time.
    pub cpu: Cpu,
    /// Where it runs (v1 only).
    pub cpuset: CpuSet,
    /// Memory.
    pub memory: Memory,
    /// Tasks.
    pub pids: Pids,
    /// Block devices.
    pub blkio: Blkio,
    /// Huge pages by size.
    pub hugetlb: BTreeMap<String, Hugetlb>,
    /// Intel RDT; not of cgroups, and filled in by others.
    pub intel_rdt: serde_json::Map<String, serde_json::Value>,
    /// Always null, as with runc.
    pub network_interfaces: Option<()>,
}

/// CPU time.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Cpu {
    /// Time used.
    pub usage: CpuUsage,
    /// Time withheld.
    pub throttling: Throttling,
    /// Pressure (v2 only).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Psi>,
}

/// Nanoseconds.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct CpuUsage {
    /// In all.
    #[serde(skip_serializing_if = "is_zero")]
    pub total: u64,
    /// By CPU (v1 only, as the next two).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub percpu: Vec<u64>,
    /// By CPU in the kernel.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub percpu_kernel: Vec<u64>,
    /// By CPU outside the kernel.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub percpu_user: Vec<u64>,
    /// In the kernel.
    pub kernel: u64,
    /// Outside the kernel.
    pub user: u64,
}

/// How often and how long the quota was used up.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Throttling {
    /// Periods that have passed.
    #[serde(skip_serializing_if = "is_zero")]
    pub periods: u64,
    /// Those in which the container was stopped.
    #[serde(skip_serializing_if = "is_zero")]
    pub throttled_periods: u64,
    /// For how many nanoseconds.
    #[serde(skip_serializing_if = "is_zero")]
    pub throttled_time: u64,
}

/// Pressure stall information, see accounting/psi.rst in the kernel's documentation.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Psi {
    /// Some tasks waited.
    pub some: PsiData,
    /// All of them did.
    pub full: PsiData,
}

/// One line of a pressure file.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct PsiData {
    /// Percent of the last 10 s.
    pub avg10: f64,
    /// Percent of the last minute.
    pub avg60: f64,
    /// Percent of the last 5 minutes.
    pub avg300: f64,
    /// Microseconds in all.
    pub total: u64,
}

/// The files of the v1 cpuset controller.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[allow(missing_docs)]
pub struct CpuSet {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cpus: Vec<u16>,
    pub cpu_exclusive: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mems: Vec<u16>,
    pub mem_hardwall: u64,
    pub mem_exclusive: u64,
    pub memory_migrate: u64,
    pub memory_spread_page: u64,
    pub memory_spread_slab: u64,
    pub memory_pressure: u64,
    pub sched_load_balance: u64,
    pub sched_relax_domain_level: i64,
}

/// Bytes.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Memory {
    /// Cached files.
    #[serde(skip_serializing_if = "is_zero")]
    pub cache: u64,
    /// In all.
    pub usage: MemoryEntry,
    /// With swap.
    pub swap: MemoryEntry,
    /// In the kernel (v1 only).
    pub kernel: MemoryEntry,
    /// TCP buffers (v1 only).
    #[serde(rename = "kernelTCP")]
    pub kernel_tcp: MemoryEntry,
    /// memory.stat
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub raw: BTreeMap<String, u64>,
    /// Pressure (v2 only).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Psi>,
}

/// One counter of bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct MemoryEntry {
    /// The most allowed.
    pub limit: u64,
    /// Now.
    #[serde(skip_serializing_if = "is_zero")]
    pub usage: u64,
    /// The most there was.
    #[serde(skip_serializing_if = "is_zero")]
    pub max: u64,
    /// How often the limit was hit.
    pub failcnt: u64,
}

/// Tasks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Pids {
    /// Now.
    #[serde(skip_serializing_if = "is_zero")]
    pub current: u64,
    /// The most allowed; 0 for no limit.
    #[serde(skip_serializing_if = "is_zero")]
    pub limit: u64,
}

/// Tables by device and operation.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs)]
pub struct Blkio {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_service_bytes_recursive: Vec<BlkioEntry>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_serviced_recursive: Vec<BlkioEntry>,
    #[serde(rename = "ioQueueRecursive", skip_serializing_if = "Vec::is_empty")]
    pub io_queued_recursive: Vec<BlkioEntry>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_service_time_recursive: Vec<BlkioEntry>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_wait_time_recursive: Vec<BlkioEntry>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_merged_recursive: Vec<BlkioEntry>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_time_recursive: Vec<BlkioEntry>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sectors_recursive: Vec<BlkioEntry>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Psi>,
}

/// One number of such a table.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct BlkioEntry {
    /// Of the device.
    #[serde(skip_serializing_if = "is_zero")]
    pub major: u64,
    /// Of the device.
    #[serde(skip_serializing_if = "is_zero")]
    pub minor: u64,
    /// "Read", "Write", ...
    #[serde(skip_serializing_if = "String::is_empty")]
    pub op: String,
    /// Bytes, operations or nanoseconds.
    #[serde(skip_serializing_if = "is_zero")]
    pub value: u64,
}

/// Huge pages of one size.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Hugetlb {
    /// Bytes now.
    #[serde(skip_serializing_if = "is_zero")]
    pub usage: u64,
    /// The most there was (v1 only).
    #[serde(skip_serializing_if = "is_zero")]
    pub max: u64,
    /// How often the limit was hit.
    pub failcnt: u64,
}

/// Reads every counter; each controller where it is. What a kernel does not have stays zero.
pub(super) fn read(cgroup: &Cgroup) -> Result<Stats> {
    let mut stats = Stats::default();
    let v1 = |controller: &str| cgroup.v1(controller).map(Files);
    let v2 = |controller: &str| match cgroup.v1(controller) {
        Some(_) => None,
        None => cgroup.v2().map(Files),
    };
    if let Some(files) = v1("cpuacct") {
        v1::cpu_usage(&files, &mut stats.cpu.usage)?;
    }
    if let Some(files) = v1("cpu") {
        v1::throttling(&files, &mut stats.cpu.throttling)?;
    }
    if let Some(files) = v1("cpuset") {
        v1::cpuset(&files, &mut stats.cpuset)?;
    }
    if let Some(files) = v1("memory") {
        v1::memory(&files, &mut stats.memory)?;
    }
    if let Some(files) = v1("blkio") {
        v1::blkio(&files, &mut stats.blkio)?;
    }
    if let Some(files) = v2("cpu") {
        v2::cpu(&files, &mut stats.cpu)?;
    }
    if let Some(files) = v2("memory") {
        v2::memory(&files, &mut stats.memory)?;
    }
    if let Some(files) = v2("blkio") {
        v2::io(&files, &mut stats.blkio)?;
    }
    if let Some(files) = v1("pids").or(v2("pids")) {
        pids(&files, &mut stats.pids)?;
    }
    for size in huge_page_sizes() {
        let found = match (v1("hugetlb"), v2("hugetlb")) {
            (Some(files), _) => v1::hugetlb(&files, &size)?,
            (None, Some(files)) => v2::hugetlb(&files, &size)?,
            (None, None) => None,
        };
        stats.hugetlb.extend(found.map(|found| (size, found)));
    }
    Ok(stats)
}

/// The same file names in v1 and v2.
fn pids(files: &Files<'_>, pids: &mut Pids) -> Result<()> {
    match files.number("pids.current")? {
        Some(current) => {
            pids.current = current;
            pids.limit = files.number("pids.max")?.filter(|max| *max != u64::MAX).unwrap_or(0);
        }
        // v2 without the controller.
        None => {
            let text = files.text("cgroup.procs")?.unwrap_or_default();
            pids.current = text.lines().count() as u64;
        }
    }
    Ok(())
}

/// The sizes as hugetlb's file names have them, from the names in sysfs ("hugepages-2048kB").
fn huge_page_sizes() -> Vec<String> {
    let entries = std::fs::read_dir("/sys/kernel/mm/hugepages").into_iter().flatten().flatten();
    let mut sizes: Vec<u64> = entries
        .filter_map(|e| {
            let name = e.file_name();
            name.to_str()?.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()
        })
        .collect();
    sizes.sort_unstable();
    sizes.into_iter().map(size_name).collect()
}

fn size_name(kib: u64) -> String {
    match kib {
        _ if kib >= 1 << 20 => format!("{}GB", kib >> 20),
        _ if kib >= 1 << 10 => format!("{}MB", kib >> 10),
        _ => format!("{kib}KB"),
    }
}

/// Files of numbers in a cgroup directory; `None` for those that this kernel does not have.
struct Files<'a>(&'a Dir);

impl Files<'_> {
    fn text(&self, file: &str) -> Result<Option<String>> {
        match self.0.read(file) {
            Ok(text) => Ok(Some(text)),
            // ENODEV: removed meanwhile; EOPNOTSUPP: switched off (pressure).
            Err(Errno::ENOENT | Errno::ENODEV | Errno::EOPNOTSUPP) => Ok(None),
            Err(errno) => {
                Err(errno).with_context(|| format!("cannot read {}/{file}", self.0.path.display()))
            }
        }
    }

    /// A file with one number; "max" is the largest there is.
    fn number(&self, file: &str) -> Result<Option<u64>> {
        match self.text(file)? {
            Some(text) if text.trim() == "max" => Ok(Some(u64::MAX)),
            Some(text) => self.parse(file, text.trim()).map(Some),
            None => Ok(None),
        }
    }

    fn number_or_zero(&self, file: &str) -> Result<u64> {
        Ok(self.number(file)?.unwrap_or(0))
    }

    /// A file of lines with a name and a number.
    fn table(&self, file: &str) -> Result<Option<BTreeMap<String, u64>>> {
        let Some(text) = self.text(file)? else { return Ok(None) };
        let pairs = text.lines().filter_map(|line| line.split_once(' '));
        pairs
            .map(|(key, value)| Ok((key.to_owned(), self.parse(file, value.trim())?)))
            .collect::<Result<_>>()
            .map(Some)
    }

    fn parse<T: FromStr<Err: std::error::Error + Send + Sync + 'static>>(
        &self,
        file: &str,
        text: &str,
    ) -> Result<T> {
        text.parse().with_context(|| {
            format!("cannot read \"{}\" in {}/{file}", text.escape_debug(), self.0.path.display())
        })
    }
}

#[cfg(test)]
mod tests;
