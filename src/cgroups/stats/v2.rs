//! Counters of v2, in v1's units and tables.

use super::{Blkio, BlkioEntry, Cpu, Files, Hugetlb, Memory, MemoryEntry, Psi, PsiData};
use crate::error::Result;

pub(super) fn cpu(files: &Files<'_>, cpu: &mut Cpu) -> Result<()> {
    let table = files.table("cpu.stat")?.unwrap_or_default();
    let value = |key| table.get(key).copied().unwrap_or(0);
    let nanoseconds = |key| value(key).saturating_mul(1000);
    cpu.usage.total = nanoseconds("usage_usec");
    cpu.usage.user = nanoseconds("user_usec");
    cpu.usage.kernel = nanoseconds("system_usec");
    cpu.throttling.periods = value("nr_periods");
    cpu.throttling.throttled_periods = value("nr_throttled");
    cpu.throttling.throttled_time = nanoseconds("throttled_usec");
    cpu.psi = psi(files, "cpu.pressure")?;
    Ok(())
}

pub(super) fn memory(files: &Files<'_>, memory: &mut Memory) -> Result<()> {
    memory.raw = files.table("memory.stat")?.unwrap_or_default();
    memory.cache = memory.raw.get("file").copied().unwrap_or(0);
    let entry = |prefix: &str| -> Result<MemoryEntry> {
        let number = |name: &str| files.number_or_zero(&format!("{prefix}.{name}"));
        let (limit, usage, max) = (number("max")?, number("current")?, number("peak")?);
        Ok(MemoryEntry { limit, usage, max, failcnt: 0 })
    };
    memory.usage = entry("memory")?;
    // v1 counts memory and swap together; how much both were at most is nowhere to be read.
    let swap = entry("memory.swap")?;
    if swap != MemoryEntry::default() {
        memory.swap = MemoryEntry {
            limit: swap.limit.saturating_add(memory.usage.limit),
            usage: swap.usage.saturating_add(memory.usage.usage),
            ..MemoryEntry::default()
        };
    }
    memory.psi = psi(files, "memory.pressure")?;
    Ok(())
}

pub(super) fn io(files: &Files<'_>, blkio: &mut Blkio) -> Result<()> {
    let file = "io.stat";
    for line in files.text(file)?.unwrap_or_default().lines() {
        let mut fields = line.split_whitespace();
        let Some((major, minor)) = fields.next().and_then(|d| d.split_once(':')) else { continue };
        for (key, value) in fields.filter_map(|field| field.split_once('=')) {
            let (table, op) = match key {
                "rbytes" => (&mut blkio.io_service_bytes_recursive, "Read"),
                "wbytes" => (&mut blkio.io_service_bytes_recursive, "Write"),
                "rios" => (&mut blkio.io_serviced_recursive, "Read"),
                "wios" => (&mut blkio.io_serviced_recursive, "Write"),
                _ => continue,
            };
            table.push(BlkioEntry {
                major: files.parse(file, major)?,
                minor: files.parse(file, minor)?,
                op: op.to_owned(),
                value: files.parse(file, value)?,
            });
        }
    }
    blkio.psi = psi(files, "io.pressure")?;
    Ok(())
}

pub(super) fn hugetlb(files: &Files<'_>, size: &str) -> Result<Option<Hugetlb>> {
    let reserved = files.number(&format!("hugetlb.{size}.rsvd.current"))?;
    let usage = match reserved {
        None => files.number(&format!("hugetlb.{size}.current"))?,
        some => some,
    };
    let Some(usage) = usage else { return Ok(None) };
    let events = files.table(&format!("hugetlb.{size}.events"))?.unwrap_or_default();
    Ok(Some(Hugetlb { usage, max: 0, failcnt: events.get("max").copied().unwrap_or(0) }))
}

/// "some avg10=0.00 avg60=0.00 avg300=0.00 total=0", and the same with "full".
fn psi(files: &Files<'_>, file: &str) -> Result<Option<Psi>> {
    let Some(text) = files.text(file)? else { return Ok(None) };
    let mut psi = Psi::default();
    for line in text.lines() {
        let mut fields = line.split_whitespace();
        let data: &mut PsiData = match fields.next() {
            Some("some") => &mut psi.some,
            Some("full") => &mut psi.full,
            _ => continue,
        };
        for (key, value) in fields.filter_map(|field| field.split_once('=')) {
            match key {
                "avg10" => data.avg10 = files.parse(file, value)?,
                "avg60" => data.avg60 = files.parse(file, value)?,
                "avg300" => data.avg300 = files.parse(file, value)?,
                "total" => data.total = files.parse(file, value)?,
                _ => {}
            }
        }
    }
    Ok(Some(psi))
}
