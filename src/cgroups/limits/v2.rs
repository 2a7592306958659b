//! Limits in the files of v2 (cgroup-v2.rst in the kernel's documentation). config.json speaks in
//! v1's numbers; the conversions here are those of runc.

use nix::errno::Errno;

use super::super::dir::Dir;
use super::v1::idle_and_shares;
use super::{Field, Setting, set, set_related};
use crate::error::{Error, Fault, Kind, Result};
use crate::plan::resources::{BlockIoPlan, CpuPlan, MemoryPlan, ThrottleDevice};

pub(super) fn memory(dir: &Dir, plan: &MemoryPlan) -> Result<()> {
    if plan.check_before_update {
        check_usage(dir, plan)?;
    }
    // -1 and the values that are v2's own anyway ask for nothing.
    for (asked, field) in [
        (plan.swappiness.is_some(), "memory.swappiness"),
        (plan.disable_oom_killer == Some(true), "memory.disableOOMKiller"),
        (plan.use_hierarchy == Some(false), "memory.useHierarchy"),
        (plan.kernel.is_some_and(|limit| limit != -1), "memory.kernel"),
        (plan.kernel_tcp.is_some_and(|limit| limit != -1), "memory.kernelTCP"),
    ] {
        if asked {
            return Err(none(field));
        }
    }
    if let Some(swap) = swap(plan)? {
        let setting = Setting::new("memory.swap.max", number(swap), "memory.swap");
        match setting.write(dir) {
            // A kernel without swap accounting; what is asked for holds anyway.
            Err(Errno::ENOENT) if swap <= 0 => {}
            other => other.map_err(|errno| setting.refused(dir, errno))?,
        }
    }
    if let Some(limit) = plan.limit {
        set(dir, "memory.max", number(limit), "memory.limit")?;
    }
    if let Some(reservation) = plan.reservation {
        set(dir, "memory.low", number(reservation), "memory.reservation")?;
    }
    Ok(())
}

fn number(value: i64) -> String {
    if value == -1 { "max".to_owned() } else { value.to_string() }
}

/// `memory.swap` is memory and swap together; v2 counts swap alone. -1: without limit.
fn swap(plan: &MemoryPlan) -> Result<Option<i64>> {
    let bad =
        |problem: &str| Error::from(Fault::bad_input(problem)).context(Field::new("memory.swap"));
    match (plan.limit, plan.swap) {
        // As on v1: memory without limit is both without limit.
        (Some(-1), None) => Ok(Some(-1)),
        (_, None) => Ok(None),
        (_, Some(-1)) => Ok(Some(-1)),
        (Some(-1), Some(swap)) => Ok(Some(swap)),
        (None, Some(_)) => Err(bad("needs memory.limit, since it is the sum of both")),
        (Some(limit), Some(swap)) => match swap.checked_sub(limit) {
            Some(rest) if rest >= 0 && limit >= 0 => Ok(Some(rest)),
            _ => Err(bad(&format!("{swap} is less than memory.limit, {limit}"))),
        },
    }
}

/// v1's kernel refuses a limit below the usage; v2's would kill for it.
fn check_usage(dir: &Dir, plan: &MemoryPlan) -> Result<()> {
    let usage = dir.read("memory.current").ok().and_then(|text| text.trim().parse::<i64>().ok());
    let Some(usage) = usage else { return Ok(()) };
    for (limit, field) in [(plan.swap, "memory.swap"), (plan.limit, "memory.limit")] {
        if let Some(limit) = limit.filter(|l| (1..=usage).contains(l)) {
            let problem = format!("{limit} is not more than the {usage} bytes in use");
            return Err(Error::from(Fault::bad_input(problem)).context(Field::new(field)));
        }
    }
    Ok(())
}

pub(super) fn cpu(dir: &Dir, plan: &CpuPlan) -> Result<()> {
    for (asked, field) in [
        (plan.realtime_runtime.is_some(), "cpu.realtimeRuntime"),
        (plan.realtime_period.is_some(), "cpu.realtimePeriod"),
    ] {
        if asked {
            return Err(none(field));
        }
    }
    idle_and_shares(
        plan,
        |file, value, field| set(dir, file, value, field),
        |shares| Ok(("cpu.weight", weight(shares))),
    )?;
    let mut settings = Vec::new();
    if plan.quota.is_some() || plan.period.is_some() {
        let quota = plan.quota.filter(|q| *q > 0).map_or("max".to_owned(), |q| q.to_string());
        // Without a period the kernel keeps the one it has.
        let value = match plan.period {
            Some(period) => format!("{quota} {period}"),
            None => quota,
        };
        let field = if plan.quota.is_some() { "cpu.quota" } else { "cpu.period" };
        settings.push(Setting::new("cpu.max", value, field));
    }
    if let Some(burst) = plan.burst {
        settings.push(Setting::new("cpu.max.burst", burst, "cpu.burst"));
    }
    set_related(dir, settings)
}

/// config-linux.md "Unified": what cannot be converted is an error.
fn none(field: &str) -> Error {
    Error::from(Fault::new(Kind::Unsupported, "cgroup v2 has no such setting"))
        .context(Field::new(field))
}

/// Shares (2 to 262144) to weight (1 to 10000): runc's curve since 1.3.2, through both ends and
/// the default (1024 to 100).
fn weight(shares: u64) -> u64 {
    if !(2..=262_144).contains(&shares) {
        log::warn!("linux.resources.cpu.shares: {shares} is brought into 2 to 262144");
    }
    match shares {
        0..=2 => 1,
        262_144.. => 10_000,
        _ => {
            let log = (shares as f64).log2();
            let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
            10f64.powf(exponent).ceil() as u64
        }
    }
}

/// blkio's weight (10 to 1000) to io's (1 to 10000), in a straight line.
fn io_weight(weight: u16) -> u64 {
    1 + u64::from(weight).saturating_sub(10) * 9999 / 990
}

pub(super) fn block_io(dir: &Dir, plan: &BlockIoPlan) -> Result<()> {
    if plan.leaf_weight.is_some() || plan.weight_device.iter().any(|d| d.leaf_weight.is_some()) {
        return Err(none("blockIO.leafWeight"));
    }
    let weighted = plan.weight.is_some() || !plan.weight_device.is_empty();
    // BFQ has v1's scale; the other schedulers that know weights have v2's.
    let bfq = weighted && dir.has("io.bfq.weight");
    let (file, scale): (_, fn(u16) -> u64) =
        if bfq { ("io.bfq.weight", u64::from) } else { ("io.weight", io_weight) };
    if let Some(weight) = plan.weight {
        set(dir, file, scale(weight), "blockIO.weight")?;
    }
    for entry in &plan.weight_device {
        if let Some(weight) = entry.weight {
            let line = format!("{}:{} {}", entry.device.0, entry.device.1, scale(weight));
            set(dir, file, line, "blockIO.weightDevice")?;
        }
    }
    let throttle = |list: &[ThrottleDevice], key: &str, field: &'static str| {
        list.iter().try_for_each(|ThrottleDevice { device: (major, minor), rate }| {
            let rate = if *rate == 0 { "max".to_owned() } else { rate.to_string() };
            set(dir, "io.max", format!("{major}:{minor} {key}={rate}"), field)
        })
    };
    throttle(&plan.read_bps, "rbps", "blockIO.throttleReadBpsDevice")?;
    throttle(&plan.write_bps, "wbps", "blockIO.throttleWriteBpsDevice")?;
    throttle(&plan.read_iops, "riops", "blockIO.throttleReadIOPSDevice")?;
    throttle(&plan.write_iops, "wiops", "blockIO.throttleWriteIOPSDevice")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_to_weight() {
        // The ends and the middle as in the runtime's documentation, the rest from the formula
        // 10^((log2(x)^2 + 125 log2(x)) / 612 - 7/34), by hand.
        for (shares, want) in
            [(0, 1), (1, 1), (2, 1), (1024, 100), (512, 59), (262_144, 10_000), (u64::MAX, 10_000)]
        {
            assert_eq!(weight(shares), want, "{shares}");
        }
    }

    #[test]
    fn block_weight() {
        for (weight, want) in [(10, 1), (1000, 10_000), (500, 4950), (5, 1)] {
            assert_eq!(io_weight(weight), want, "{weight}");
        }
    }

    #[test]
    fn swap_alone() {
        let plan = |limit, swap| MemoryPlan { limit, swap, ..MemoryPlan::default() };
        for (limit, swap_in, want) in [
            (None, None, None),
            (Some(100), None, None),
            (Some(-1), None, Some(-1)),
            (Some(100), Some(-1), Some(-1)),
            (Some(100), Some(100), Some(0)),
            (Some(100), Some(300), Some(200)),
            (Some(-1), Some(300), Some(300)),
        ] {
            assert_eq!(swap(&plan(limit, swap_in)).unwrap(), want, "{limit:?} {swap_in:?}");
        }
        let error = |limit, swap_in| format!("{:#}", swap(&plan(limit, swap_in)).unwrap_err());
        assert!(error(None, Some(100)).contains("memory.swap: needs"));
        assert!(error(Some(100), Some(99)).contains("memory.swap: 99 is less than"));
    }
}
