//! `linux.resources` as data: plain numbers, checked, with what is not to be set left out. The
//! only reader of the spec's resource types; `create` and `update` meet here.

pub mod devices;

use std::collections::BTreeMap;

use oci_spec::runtime::{
    LinuxBlockIo, LinuxCpu, LinuxHugepageLimit, LinuxMemory, LinuxNetwork, LinuxRdma,
    LinuxResources, LinuxThrottleDevice,
};
use serde::{Deserialize, Serialize};

use crate::error::{Fault, Result};
use devices::DeviceRule;

/// `linux.resources.memory`, in bytes; -1 means without limit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MemoryPlan {
    /// Most memory.
    pub limit: Option<i64>,
    /// What reclaim leaves alone as long as it can.
    pub reservation: Option<i64>,
    /// Most memory and swap together.
    pub swap: Option<i64>,
    /// Most memory of the kernel's own: no kernel since 5.16 has such a limit, and none is set.
    pub kernel: Option<i64>,
    /// Most memory of TCP buffers (v1 only).
    pub kernel_tcp: Option<i64>,
    /// 0 to 100.
    pub swappiness: Option<u64>,
    /// True: who hits the limit waits instead of being killed (v1 only).
    pub disable_oom_killer: Option<bool>,
    /// Child groups count towards the parent.
    pub use_hierarchy: Option<bool>,
    /// An update below the present usage is refused.
    pub check_before_update: bool,
}

/// `linux.resources.cpu`; times in microseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CpuPlan {
    /// Relative weight, 2 to 262144, 1024 being usual.
    pub shares: Option<u64>,
    /// Time allowed in each period; negative means without limit.
    pub quota: Option<i64>,
    /// What may be saved up on top of the quota.
    pub burst: Option<u64>,
    /// Length of a period.
    pub period: Option<u64>,
    /// Real-time: time allowed in each period.
    pub realtime_runtime: Option<i64>,
    /// Real-time: length of a period.
    pub realtime_period: Option<u64>,
    /// CPUs, as cpuset(7) lists them.
    pub cpus: Option<String>,
    /// Memory nodes, likewise.
    pub mems: Option<String>,
    /// 1: SCHED_IDLE for the whole group.
    pub idle: Option<i64>,
}

/// A weight of one block device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WeightDevice {
    /// Major and minor number.
    pub device: (i64, i64),
    /// Weight, 10 to 1000.
    pub weight: Option<u16>,
    /// Against the group's children (CFQ).
    pub leaf_weight: Option<u16>,
}

/// A rate limit of one block device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThrottleDevice {
    /// Major and minor number.
    pub device: (i64, i64),
    /// Bytes or operations a second; 0 takes the limit away.
    pub rate: u64,
}

/// `linux.resources.blockIO`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BlockIoPlan {
    /// Relative weight, 10 to 1000.
    pub weight: Option<u16>,
    /// Against the group's children (CFQ).
    pub leaf_weight: Option<u16>,
    /// Weights by device.
    pub weight_device: Vec<WeightDevice>,
    /// Bytes read a second.
    pub read_bps: Vec<ThrottleDevice>,
    /// Bytes written a second.
    pub write_bps: Vec<ThrottleDevice>,
    /// Reads a second.
    pub read_iops: Vec<ThrottleDevice>,
    /// Writes a second.
    pub write_iops: Vec<ThrottleDevice>,
}

/// One of `linux.resources.hugepageLimits`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HugepageLimit {
    /// As the kernel's file names have it: "2MB".
    pub page_size: String,
    /// Bytes.
    pub limit: u64,
}

/// `linux.resources.network` (v1 only).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NetworkPlan {
    /// Class of the group's packets, for tc(8).
    pub class_id: Option<u32>,
    /// Priorities by interface name.
    pub priorities: Vec<(String, u32)>,
}

/// One of `linux.resources.rdma`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RdmaLimit {
    /// Most handles.
    pub hca_handles: Option<u32>,
    /// Most objects.
    pub hca_objects: Option<u32>,
}

/// All of `linux.resources`; absent and, where the spec has no meaning for it, zero is `None`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ResourcesPlan {
    /// See [`MemoryPlan`].
    pub memory: MemoryPlan,
    /// See [`CpuPlan`].
    pub cpu: CpuPlan,
    /// Most tasks; negative means without limit.
    pub pids: Option<i64>,
    /// See [`BlockIoPlan`].
    pub block_io: BlockIoPlan,
    /// See [`HugepageLimit`].
    pub hugepages: Vec<HugepageLimit>,
    /// See [`NetworkPlan`].
    pub network: NetworkPlan,
    /// Limits by RDMA device.
    pub rdma: BTreeMap<String, RdmaLimit>,
    /// In order; the last rule that matches decides. Never changed by an update.
    pub devices: Vec<DeviceRule>,
    /// Files of cgroup v2 and what to write there.
    pub unified: BTreeMap<String, String>,
}

impl ResourcesPlan {
    /// Reads `linux.resources`; without it only the device rules of every container remain.
    pub fn build(resources: Option<&LinuxResources>) -> Result<Self> {
        let devices = devices::build(resources.and_then(|r| r.devices().as_ref()))?;
        let Some(resources) = resources else {
            return Ok(ResourcesPlan { devices, ..Self::default() });
        };
        Ok(ResourcesPlan {
            memory: resources.memory().as_ref().map(memory).transpose()?.unwrap_or_default(),
            cpu: resources.cpu().as_ref().map(cpu).unwrap_or_default(),
            pids: resources.pids().as_ref().map(|p| p.limit()),
            block_io: resources.block_io().as_ref().map(block_io).unwrap_or_default(),
            hugepages: resources
                .hugepage_limits()
                .iter()
                .flatten()
                .enumerate()
                .map(|(i, limit)| hugepage(i, limit))
                .collect::<Result<_>>()?,
            network: resources.network().as_ref().map(network).transpose()?.unwrap_or_default(),
            rdma: resources
                .rdma()
                .iter()
                .flatten()
                .map(|(device, limit)| rdma(device, limit))
                .collect::<Result<_>>()?,
            devices,
            unified: resources
                .unified()
                .iter()
                .flatten()
                .map(|(file, value)| unified(file, value))
                .collect::<Result<_>>()?,
        })
    }

    /// Takes over what `newer` sets and keeps the rest, as `update` does; devices stay as they
    /// are, since others may have changed them in the meantime (runc leaves them alone as well).
    pub fn merge_update(&mut self, newer: &ResourcesPlan) {
        let (memory, new) = (&mut self.memory, &newer.memory);
        // Unlimited memory with an old limit of both together would be no change at all.
        if new.limit == Some(-1) && new.swap.is_none() {
            memory.swap = None;
        }
        take(&mut memory.limit, &new.limit);
        take(&mut memory.reservation, &new.reservation);
        take(&mut memory.swap, &new.swap);
        take(&mut memory.kernel, &new.kernel);
        take(&mut memory.kernel_tcp, &new.kernel_tcp);
        take(&mut memory.swappiness, &new.swappiness);
        take(&mut memory.disable_oom_killer, &new.disable_oom_killer);
        take(&mut memory.use_hierarchy, &new.use_hierarchy);
        // About this one update, so it is not kept for the next.
        memory.check_before_update = new.check_before_update;

        let (cpu, new) = (&mut self.cpu, &newer.cpu);
        take(&mut cpu.shares, &new.shares);
        take(&mut cpu.quota, &new.quota);
        take(&mut cpu.burst, &new.burst);
        take(&mut cpu.period, &new.period);
        take(&mut cpu.realtime_runtime, &new.realtime_runtime);
        take(&mut cpu.realtime_period, &new.realtime_period);
        take(&mut cpu.cpus, &new.cpus);
        take(&mut cpu.mems, &new.mems);
        take(&mut cpu.idle, &new.idle);

        take(&mut self.pids, &newer.pids);

        let (block_io, new) = (&mut self.block_io, &newer.block_io);
        take(&mut block_io.weight, &new.weight);
        take(&mut block_io.leaf_weight, &new.leaf_weight);
        for device in &new.weight_device {
            match block_io.weight_device.iter_mut().rfind(|old| old.device == device.device) {
                Some(old) => {
                    take(&mut old.weight, &device.weight);
                    take(&mut old.leaf_weight, &device.leaf_weight);
                }
                None => block_io.weight_device.push(device.clone()),
            }
        }
        merge_throttle(&mut block_io.read_bps, &new.read_bps);
        merge_throttle(&mut block_io.write_bps, &new.write_bps);
        merge_throttle(&mut block_io.read_iops, &new.read_iops);
        merge_throttle(&mut block_io.write_iops, &new.write_iops);

        for limit in &newer.hugepages {
            match self.hugepages.iter_mut().rfind(|old| old.page_size == limit.page_size) {
                Some(old) => old.limit = limit.limit,
                None => self.hugepages.push(limit.clone()),
            }
        }
        take(&mut self.network.class_id, &newer.network.class_id);
        for (name, priority) in &newer.network.priorities {
            match self.network.priorities.iter_mut().rfind(|(old, _)| old == name) {
                Some((_, old)) => *old = *priority,
                None => self.network.priorities.push((name.clone(), *priority)),
            }
        }
        for (device, limit) in &newer.rdma {
            let old = self.rdma.entry(device.clone()).or_default();
            take(&mut old.hca_handles, &limit.hca_handles);
            take(&mut old.hca_objects, &limit.hca_objects);
        }
        self.unified.extend(newer.unified.clone());
    }
}

fn take<T: Clone>(old: &mut Option<T>, new: &Option<T>) {
    if new.is_some() {
        old.clone_from(new);
    }
}

fn merge_throttle(old: &mut Vec<ThrottleDevice>, new: &[ThrottleDevice]) {
    for limit in new {
        match old.iter_mut().rfind(|o| o.device == limit.device) {
            Some(o) => o.rate = limit.rate,
            None => old.push(limit.clone()),
        }
    }
}

fn bad(field: &str, problem: impl std::fmt::Display) -> crate::error::Error {
    Fault::bad_input(format!("config.json: linux.resources.{field}: {problem}")).into()
}

/// Engines send 0 for "not set" in fields for which the spec knows no zero; runc reads it so, too.
fn set<T: PartialEq + Default>(value: Option<T>) -> Option<T> {
    value.filter(|v| *v != T::default())
}

#[allow(deprecated)] // by the kernel; configurations still hold them
fn memory(memory: &LinuxMemory) -> Result<MemoryPlan> {
    if let Some(swappiness) = memory.swappiness().filter(|s| *s > 100) {
        return Err(bad("memory.swappiness", format_args!("{swappiness} is not in 0 to 100")));
    }
    Ok(MemoryPlan {
        limit: set(memory.limit()),
        reservation: set(memory.reservation()),
        swap: set(memory.swap()),
        kernel: set(memory.kernel()),
        kernel_tcp: set(memory.kernel_tcp()),
        swappiness: memory.swappiness(),
        disable_oom_killer: memory.disable_oom_killer(),
        use_hierarchy: memory.use_hierarchy(),
        check_before_update: memory.check_before_update().unwrap_or(false),
    })
}

fn cpu(cpu: &LinuxCpu) -> CpuPlan {
    CpuPlan {
        shares: set(cpu.shares()),
        quota: set(cpu.quota()),
        burst: cpu.burst(),
        period: set(cpu.period()),
        realtime_runtime: set(cpu.realtime_runtime()),
        realtime_period: set(cpu.realtime_period()),
        cpus: set(cpu.cpus().clone()),
        mems: set(cpu.mems().clone()),
        idle: cpu.idle(),
    }
}

fn block_io(block_io: &LinuxBlockIo) -> BlockIoPlan {
    fn throttle(list: &Option<Vec<LinuxThrottleDevice>>) -> Vec<ThrottleDevice> {
        list.iter()
            .flatten()
            .map(|d| ThrottleDevice { device: (d.major(), d.minor()), rate: d.rate() })
            .collect()
    }
    BlockIoPlan {
        weight: set(block_io.weight()),
        leaf_weight: set(block_io.leaf_weight()),
        weight_device: block_io
            .weight_device()
            .iter()
            .flatten()
            .map(|d| WeightDevice {
                device: (d.major(), d.minor()),
                weight: set(d.weight()),
                leaf_weight: set(d.leaf_weight()),
            })
            .collect(),
        read_bps: throttle(block_io.throttle_read_bps_device()),
        write_bps: throttle(block_io.throttle_write_bps_device()),
        read_iops: throttle(block_io.throttle_read_iops_device()),
        write_iops: throttle(block_io.throttle_write_iops_device()),
    }
}

/// The size becomes part of a file name, so it must look like one of the kernel's.
fn hugepage(i: usize, limit: &LinuxHugepageLimit) -> Result<HugepageLimit> {
    let size = limit.page_size();
    let digits = size.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit = &size[digits.len()..];
    let number = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    if !number || !["KB", "MB", "GB"].contains(&unit) {
        return Err(bad(
            &format!("hugepageLimits[{i}].pageSize"),
            format_args!("\"{size}\" is not a size such as 64KB, 2MB or 1GB"),
        ));
    }
    let bytes = u64::try_from(limit.limit()).map_err(|_| {
        bad(&format!("hugepageLimits[{i}].limit"), format_args!("{} is negative", limit.limit()))
    })?;
    Ok(HugepageLimit { page_size: size.clone(), limit: bytes })
}

/// A name that becomes the first word of a line for the kernel.
fn is_word(name: &str) -> bool {
    !name.is_empty() && !name.contains(|c: char| c.is_whitespace() || c.is_control())
}

fn network(network: &LinuxNetwork) -> Result<NetworkPlan> {
    let mut priorities = Vec::new();
    for (i, entry) in network.priorities().iter().flatten().enumerate() {
        if !is_word(entry.name()) {
            return Err(bad(
                &format!("network.priorities[{i}].name"),
                format_args!("\"{}\" is no interface name", entry.name().escape_debug()),
            ));
        }
        priorities.push((entry.name().clone(), entry.priority()));
    }
    Ok(NetworkPlan { class_id: set(network.class_id()), priorities })
}

fn rdma(device: &str, limit: &LinuxRdma) -> Result<(String, RdmaLimit)> {
    if !is_word(device) {
        return Err(bad("rdma", format_args!("\"{}\" is no device name", device.escape_debug())));
    }
    let limit = RdmaLimit { hca_handles: limit.hca_handles(), hca_objects: limit.hca_objects() };
    Ok((device.to_owned(), limit))
}

/// A key is the name of a file in the container's own group, and never the way out of it.
fn unified(file: &str, value: &str) -> Result<(String, String)> {
    let form = file.split_once('.').is_some_and(|(controller, name)| {
        !controller.is_empty() && !name.is_empty() && !file.contains(['/', '\0'])
    });
    if !form {
        return Err(bad(
            "unified",
            format_args!("\"{}\" is not CONTROLLER.PARAMETER", file.escape_debug()),
        ));
    }
    Ok((file.to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests;
