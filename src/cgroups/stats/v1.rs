//! Counters of the v1 controllers.

use nix::unistd::{SysconfVar, sysconf};

use super::{Blkio, BlkioEntry, CpuSet, CpuUsage, Files, Hugetlb, Memory, MemoryEntry, Throttling};
use crate::error::Result;

pub(super) fn cpu_usage(files: &Files<'_>, usage: &mut CpuUsage) -> Result<()> {
    usage.total = files.number_or_zero("cpuacct.usage")?;
    if let Some(table) = files.table("cpuacct.stat")? {
        let ticks = sysconf(SysconfVar::CLK_TCK).ok().flatten().unwrap_or(100).max(1) as u64;
        let time = |key| table.get(key).map_or(0, |t| t.saturating_mul(1_000_000_000) / ticks);
        usage.user = time("user");
        usage.kernel = time("system");
    }
    let percpu = files.text("cpuacct.usage_percpu")?.unwrap_or_default();
    usage.percpu = percpu
        .split_whitespace()
        .map(|n| files.parse("cpuacct.usage_percpu", n))
        .collect::<Result<_>>()?;
    // "cpu user system", then a line for each CPU.
    let file = "cpuacct.usage_all";
    for line in files.text(file)?.unwrap_or_default().lines().skip(1) {
        let mut fields = line.split_whitespace().skip(1);
        if let (Some(user), Some(kernel)) = (fields.next(), fields.next()) {
            usage.percpu_user.push(files.parse(file, user)?);
            usage.percpu_kernel.push(files.parse(file, kernel)?);
        }
    }
    Ok(())
}

pub(super) fn throttling(files: &Files<'_>, throttling: &mut Throttling) -> Result<()> {
    let table = files.table("cpu.stat")?.unwrap_or_default();
    let value = |key| table.get(key).copied().unwrap_or(0);
    throttling.periods = value("nr_periods");
    throttling.throttled_periods = value("nr_throttled");
    throttling.throttled_time = value("throttled_time");
    Ok(())
}

pub(super) fn cpuset(files: &Files<'_>, set: &mut CpuSet) -> Result<()> {
    set.cpus = list(files, "cpuset.cpus")?;
    set.mems = list(files, "cpuset.mems")?;
    for (file, value) in [
        ("cpuset.cpu_exclusive", &mut set.cpu_exclusive),
        ("cpuset.mem_hardwall", &mut set.mem_hardwall),
        ("cpuset.mem_exclusive", &mut set.mem_exclusive),
        ("cpuset.memory_migrate", &mut set.memory_migrate),
        ("cpuset.memory_spread_page", &mut set.memory_spread_page),
        ("cpuset.memory_spread_slab", &mut set.memory_spread_slab),
        ("cpuset.memory_pressure", &mut set.memory_pressure),
        ("cpuset.sched_load_balance", &mut set.sched_load_balance),
    ] {
        *value = files.number_or_zero(file)?;
    }
    let file = "cpuset.sched_relax_domain_level";
    if let Some(text) = files.text(file)? {
        set.sched_relax_domain_level = files.parse(file, text.trim())?;
    }
    Ok(())
}

/// "0-2,7" as 0, 1, 2, 7.
fn list(files: &Files<'_>, file: &str) -> Result<Vec<u16>> {
    let mut numbers = Vec::new();
    let text = files.text(file)?.unwrap_or_default();
    for part in text.trim().split(',').filter(|p| !p.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        numbers.extend(files.parse::<u16>(file, first)?..=files.parse::<u16>(file, last)?);
    }
    Ok(numbers)
}

pub(super) fn memory(files: &Files<'_>, memory: &mut Memory) -> Result<()> {
    memory.raw = files.table("memory.stat")?.unwrap_or_default();
    memory.cache = memory.raw.get("cache").copied().unwrap_or(0);
    for (prefix, entry) in [
        ("memory", &mut memory.usage),
        ("memory.memsw", &mut memory.swap),
        ("memory.kmem", &mut memory.kernel),
        ("memory.kmem.tcp", &mut memory.kernel_tcp),
    ] {
        let number = |name: &str| files.number_or_zero(&format!("{prefix}.{name}"));
        *entry = MemoryEntry {
            limit: number("limit_in_bytes")?,
            usage: number("usage_in_bytes")?,
            max: number("max_usage_in_bytes")?,
            failcnt: number("failcnt")?,
        };
    }
    Ok(())
}

/// Which files there are depends on the scheduler: the first family that has its first file.
pub(super) fn blkio(files: &Files<'_>, blkio: &mut Blkio) -> Result<()> {
    for (prefix, suffix, first) in [
        ("blkio.bfq.", "_recursive", "io_serviced"),
        ("blkio.", "_recursive", "io_serviced"),
        ("blkio.throttle.", "_recursive", "io_serviced"),
        ("blkio.throttle.", "", "io_serviced"),
    ] {
        let table = |name: &str| entries(files, &format!("{prefix}{name}{suffix}"));
        // A family without any entry may be there and idle, while another counts.
        let serviced = table(first)?;
        if serviced.is_empty() {
            continue;
        }
        blkio.io_serviced_recursive = serviced;
        blkio.io_service_bytes_recursive = table("io_service_bytes")?;
        blkio.sectors_recursive = table("sectors")?;
        blkio.io_service_time_recursive = table("io_service_time")?;
        blkio.io_wait_time_recursive = table("io_wait_time")?;
        blkio.io_merged_recursive = table("io_merged")?;
        blkio.io_queued_recursive = table("io_queued")?;
        blkio.io_time_recursive = table("time")?;
        break;
    }
    Ok(())
}

/// Lines "8:0 Read 4096" or "8:0 4096"; the last one, "Total 4096", is of no device.
fn entries(files: &Files<'_>, file: &str) -> Result<Vec<BlkioEntry>> {
    let mut entries = Vec::new();
    for line in files.text(file)?.unwrap_or_default().lines() {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (device, op, value) = match fields.as_slice() {
            [device, op, value] => (device, *op, value),
            [device, value] => (device, "", value),
            _ => continue,
        };
        if let Some((major, minor)) = device.split_once(':') {
            entries.push(BlkioEntry {
                major: files.parse(file, major)?,
                minor: files.parse(file, minor)?,
                op: op.to_owned(),
                value: files.parse(file, value)?,
            });
        }
    }
    Ok(entries)
}

pub(super) fn hugetlb(files: &Files<'_>, size: &str) -> Result<Option<Hugetlb>> {
    // Accounting at reservation is Linux 5.7's.
    for prefix in [format!("hugetlb.{size}.rsvd"), format!("hugetlb.{size}")] {
        let number = |name: &str| files.number(&format!("{prefix}.{name}"));
        if let Some(usage) = number("usage_in_bytes")? {
            return Ok(Some(Hugetlb {
                usage,
                max: number("max_usage_in_bytes")?.unwrap_or(0),
                failcnt: number("failcnt")?.unwrap_or(0),
            }));
        }
    }
    Ok(None)
}
