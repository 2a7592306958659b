//! Limits in the files of the v1 controllers (cgroup-v1/ in the kernel's documentation).

use super::super::dir::Dir;
use super::{Field, Moment, Setting, set, set_related};
use crate::error::{Error, Fault, Result};
use crate::plan::resources::{BlockIoPlan, CpuPlan, MemoryPlan, ThrottleDevice};

const SWAP: &str = "memory.memsw.limit_in_bytes";

pub(super) fn memory(dir: &Dir, plan: &MemoryPlan, moment: Moment) -> Result<()> {
    if let Some(yes) = plan.use_hierarchy {
        set(dir, "memory.use_hierarchy", u8::from(yes), "memory.useHierarchy")?;
    }
    let mut limits: Vec<Setting<'_>> = plan
        .limit
        .map(|limit| Setting::new("memory.limit_in_bytes", limit, "memory.limit"))
        .into_iter()
        .collect();
    match plan.swap {
        Some(swap) => limits.push(Setting::new(SWAP, swap, "memory.swap")),
        // Without limit is meant for both together, and the old one for both may be in the way.
        None if plan.limit == Some(-1) && dir.has(SWAP) => {
            limits.push(Setting::new(SWAP, -1, "memory.limit"));
        }
        None => {}
    }
    set_related(dir, limits)?;
    if let Some(limit) = plan.kernel_tcp {
        set(dir, "memory.kmem.tcp.limit_in_bytes", limit, "memory.kernelTCP")?;
    }
    if let Some(reservation) = plan.reservation {
        set(dir, "memory.soft_limit_in_bytes", reservation, "memory.reservation")?;
    }
    // In a new group the killer is on.
    if let Some(disable) = plan.disable_oom_killer.filter(|d| *d || moment == Moment::Update) {
        set(dir, "memory.oom_control", u8::from(disable), "memory.disableOOMKiller")?;
    }
    if let Some(swappiness) = plan.swappiness {
        set(dir, "memory.swappiness", swappiness, "memory.swappiness")?;
    }
    Ok(())
}

pub(super) fn cpu(dir: &Dir, plan: &CpuPlan) -> Result<()> {
    idle_and_shares(
        plan,
        |file, value, field| set(dir, file, value, field),
        |shares| {
            // The kernel would take the nearest value that it knows, and say nothing.
            if !(2..=262_144).contains(&shares) {
                let fault = Fault::bad_input(format!("{shares} is not in 2 to 262144"));
                return Err(Error::from(fault).context(Field::new("cpu.shares")));
            }
            Ok(("cpu.shares", shares))
        },
    )?;
    let mut settings = Vec::new();
    if let Some(period) = plan.period {
        settings.push(Setting::new("cpu.cfs_period_us", period, "cpu.period"));
    }
    if let Some(quota) = plan.quota {
        settings.push(Setting::new("cpu.cfs_quota_us", quota, "cpu.quota"));
    }
    if let Some(burst) = plan.burst {
        settings.push(Setting::new("cpu.cfs_burst_us", burst, "cpu.burst"));
    }
    set_related(dir, settings)?;
    let mut settings = Vec::new();
    if let Some(period) = plan.realtime_period {
        settings.push(Setting::new("cpu.rt_period_us", period, "cpu.realtimePeriod"));
    }
    if let Some(runtime) = plan.realtime_runtime {
        settings.push(Setting::new("cpu.rt_runtime_us", runtime, "cpu.realtimeRuntime"));
    }
    set_related(dir, settings)
}

/// An idle group has the least weight there is and takes no other; so idle goes first, and the
/// weight only where it counts. Shared with v2, which has another scale of weights.
pub(super) fn idle_and_shares(
    plan: &CpuPlan,
    set: impl Fn(&str, u64, &'static str) -> Result<()>,
    weight: impl Fn(u64) -> Result<(&'static str, u64)>,
) -> Result<()> {
    if let Some(idle) = plan.idle {
        let Ok(idle) = u64::try_from(idle) else {
            let fault = Fault::bad_input(format!("{idle} is neither 0 nor 1"));
            return Err(Error::from(fault).context(Field::new("cpu.idle")));
        };
        set("cpu.idle", idle, "cpu.idle")?;
    }
    let Some(shares) = plan.shares else { return Ok(()) };
    let (file, weight) = weight(shares)?;
    if plan.idle == Some(1) {
        log::warn!("linux.resources.cpu.shares: no effect in an idle group");
        return Ok(());
    }
    set(file, weight, "cpu.shares")
}

pub(super) fn block_io(dir: &Dir, plan: &BlockIoPlan) -> Result<()> {
    // BFQ has files of its own, where it is built without the common names.
    let prefix = if dir.has("blkio.weight") { "blkio" } else { "blkio.bfq" };
    if let Some(weight) = plan.weight {
        set(dir, format!("{prefix}.weight"), weight, "blockIO.weight")?;
    }
    if let Some(weight) = plan.leaf_weight {
        set(dir, "blkio.leaf_weight", weight, "blockIO.leafWeight")?;
    }
    for entry in &plan.weight_device {
        let (major, minor) = entry.device;
        if let Some(weight) = entry.weight {
            let line = format!("{major}:{minor} {weight}");
            set(dir, format!("{prefix}.weight_device"), line, "blockIO.weightDevice")?;
        }
        if let Some(weight) = entry.leaf_weight {
            let line = format!("{major}:{minor} {weight}");
            set(dir, "blkio.leaf_weight_device", line, "blockIO.weightDevice")?;
        }
    }
    let throttle = |list: &[ThrottleDevice], name: &str, field: &'static str| {
        list.iter().try_for_each(|ThrottleDevice { device: (major, minor), rate }| {
            let line = format!("{major}:{minor} {rate}");
            set(dir, format!("blkio.throttle.{name}_device"), line, field)
        })
    };
    throttle(&plan.read_bps, "read_bps", "blockIO.throttleReadBpsDevice")?;
    throttle(&plan.write_bps, "write_bps", "blockIO.throttleWriteBpsDevice")?;
    throttle(&plan.read_iops, "read_iops", "blockIO.throttleReadIOPSDevice")?;
    throttle(&plan.write_iops, "write_iops", "blockIO.throttleWriteIOPSDevice")
}
