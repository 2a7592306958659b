//! `linux.resources`: the ranges of the kernel's files (cgroups(7), the kernel's cgroup-v1 and
//! cgroup-v2 documents), and what the values must be to each other.

use oci_spec::runtime::{
    LinuxBlockIo, LinuxCpu, LinuxDeviceCgroup, LinuxDeviceType as DeviceType, LinuxMemory,
    LinuxResources, LinuxThrottleDevice,
};

use crate::config::faults::Faults;
use crate::config::process::id_list;

/// Microseconds: the shortest quota and period of the CFS bandwidth control, and the longest
/// period (min_cfs_quota_period and max_cfs_quota_period of kernel/sched/core.c).
const MIN_CFS: u64 = 1_000;
const MAX_CFS_PERIOD: u64 = 1_000_000;

/// IFNAMSIZ without the final NUL.
const MAX_INTERFACE_NAME: usize = 15;

/// Files of cgroup v2 that move, stop or kill: a process of the host that came in here would end
/// with the container, and a frozen init never answers.
const PROCESS_FILES: [&str; 4] = ["cgroup.procs", "cgroup.threads", "cgroup.kill", "cgroup.freeze"];

type Check = fn(&LinuxResources, &str, &mut Faults);

const CHECKS: &[Check] = &[devices, memory, cpu, pids, block_io, hugepages, network, rdma, unified];

/// Runs every check; `at` is where the resources stand in their file, with the dot.
pub(super) fn check(resources: &LinuxResources, at: &str, faults: &mut Faults) {
    for check in CHECKS {
        check(resources, at, faults);
    }
}

/// What holds only where nothing else is set already, as it may be before an update.
pub(super) fn check_whole(resources: &LinuxResources, at: &str, faults: &mut Faults) {
    let Some(memory) = resources.memory() else { return };
    let (limit, swap) = (memory.limit().unwrap_or(0), memory.swap().unwrap_or(0));
    if swap > 0 && limit <= 0 {
        faults.bad_hint(
            format!("{at}memory.swap"),
            "needs a memory limit",
            "swap limits memory and swap together; set memory.limit too",
        );
    }
}

pub(super) fn warnings(resources: &LinuxResources, at: &str) -> Vec<String> {
    #[allow(deprecated)] // by the kernel; configurations still hold it
    let kernel = resources.memory().as_ref().and_then(|memory| memory.kernel());
    let limited = kernel.is_some_and(|limit| limit > 0);
    let text = format!("{at}memory.kernel: kernels since 5.16 have no such limit; not set");
    limited.then_some(text).into_iter().collect()
}

fn devices(resources: &LinuxResources, at: &str, faults: &mut Faults) {
    for (i, rule) in resources.devices().iter().flatten().enumerate() {
        device_rule(rule, &format!("{at}devices[{i}]"), faults);
    }
}

fn device_rule(rule: &LinuxDeviceCgroup, at: &str, faults: &mut Faults) {
    if matches!(rule.typ(), Some(DeviceType::U | DeviceType::P)) {
        faults.bad(format!("{at}.type"), "must be a, b or c");
    }
    let access = rule.access().as_deref().unwrap_or_default();
    let known = access.chars().all(|c| matches!(c, 'r' | 'w' | 'm'));
    if access.is_empty() || !known {
        let what = format!("{access:?} is not a combination of r, w and m");
        faults.bad(format!("{at}.access"), what);
    }
    for (name, number) in [("major", rule.major()), ("minor", rule.minor())] {
        // -1 is how some engines write "all".
        if let Some(number) = number.filter(|n| !(-1..=i64::from(u32::MAX)).contains(n)) {
            faults.bad(format!("{at}.{name}"), format!("{number} is not a device number"));
        }
    }
}

fn memory(resources: &LinuxResources, at: &str, faults: &mut Faults) {
    let Some(memory) = resources.memory() else { return };
    memory_sizes(memory, at, faults);
    if let Some(value) = memory.swappiness().filter(|value| *value > 100) {
        faults.bad(format!("{at}memory.swappiness"), format!("{value} is outside 0 to 100"));
    }
}

fn memory_sizes(memory: &LinuxMemory, at: &str, faults: &mut Faults) {
    #[allow(deprecated)] // by the kernel; configurations still hold two of them
    let sizes = [
        ("limit", memory.limit()),
        ("reservation", memory.reservation()),
        ("swap", memory.swap()),
        ("kernel", memory.kernel()),
        ("kernelTCP", memory.kernel_tcp()),
    ];
    for (name, size) in sizes {
        if let Some(size) = size.filter(|size| *size < -1) {
            let what = format!("{size} is neither a size nor -1 (unlimited)");
            faults.bad(format!("{at}memory.{name}"), what);
        }
    }
    let (limit, swap) = (memory.limit().unwrap_or(0), memory.swap().unwrap_or(0));
    if swap > 0 && limit > swap {
        faults.bad_hint(
            format!("{at}memory.swap"),
            format!("{swap} is below the memory limit {limit}"),
            "swap limits memory and swap together",
        );
    }
}

fn cpu(resources: &LinuxResources, at: &str, faults: &mut Faults) {
    let Some(cpu) = resources.cpu() else { return };
    bandwidth(cpu, at, faults);
    realtime(cpu, at, faults);
    if let Some(idle) = cpu.idle().filter(|idle| !(0..=1).contains(idle)) {
        faults.bad(format!("{at}cpu.idle"), format!("{idle} is neither 0 nor 1"));
    }
    for (name, list) in [("cpus", cpu.cpus()), ("mems", cpu.mems())] {
        if let Some(list) = list.as_ref().filter(|l| !l.is_empty()) {
            id_list(&format!("{at}cpu.{name}"), list, faults);
        }
    }
}

/// 0 is "not set" for quota and period, as in runc.
fn bandwidth(cpu: &LinuxCpu, at: &str, faults: &mut Faults) {
    let quota = cpu.quota().unwrap_or(0);
    if quota < -1 {
        let what = format!("{quota} is neither a time nor -1 (unlimited)");
        faults.bad(format!("{at}cpu.quota"), what);
    } else if quota > 0 && quota < MIN_CFS as i64 {
        let what = format!("{quota} is below the kernel's {MIN_CFS} microseconds");
        faults.bad(format!("{at}cpu.quota"), what);
    }
    let period = cpu.period().unwrap_or(0);
    if period != 0 && !(MIN_CFS..=MAX_CFS_PERIOD).contains(&period) {
        let what = format!("{period} is outside {MIN_CFS} to {MAX_CFS_PERIOD} microseconds");
        faults.bad(format!("{at}cpu.period"), what);
    }
    if let Some(burst) = cpu.burst().filter(|burst| quota > 0 && *burst > quota as u64) {
        faults.bad(format!("{at}cpu.burst"), format!("{burst} is above the quota {quota}"));
    }
}

fn realtime(cpu: &LinuxCpu, at: &str, faults: &mut Faults) {
    let runtime = cpu.realtime_runtime().unwrap_or(0);
    let period = cpu.realtime_period().unwrap_or(0);
    if runtime < -1 {
        let what = format!("{runtime} is neither a time nor -1 (unlimited)");
        faults.bad(format!("{at}cpu.realtimeRuntime"), what);
    } else if runtime > 0 && period != 0 && runtime as u64 > period {
        let what = format!("{runtime} is above the realtimePeriod {period}");
        faults.bad(format!("{at}cpu.realtimeRuntime"), what);
    }
}

fn pids(resources: &LinuxResources, at: &str, faults: &mut Faults) {
    if let Some(limit) = resources.pids().map(|pids| pids.limit()).filter(|limit| *limit < -1) {
        let what = format!("{limit} is neither a number of tasks nor -1 (unlimited)");
        faults.bad(format!("{at}pids.limit"), what);
    }
}

fn block_io(resources: &LinuxResources, at: &str, faults: &mut Faults) {
    let Some(io) = resources.block_io() else { return };
    let at = format!("{at}blockIO.");
    weights(io, &at, faults);
    throttles(&at, "throttleReadBpsDevice", io.throttle_read_bps_device(), faults);
    throttles(&at, "throttleWriteBpsDevice", io.throttle_write_bps_device(), faults);
    throttles(&at, "throttleReadIOPSDevice", io.throttle_read_iops_device(), faults);
    throttles(&at, "throttleWriteIOPSDevice", io.throttle_write_iops_device(), faults);
}

fn weights(io: &LinuxBlockIo, at: &str, faults: &mut Faults) {
    // 0 is "not set", as in runc.
    let weight = |field: String, weight: Option<u16>, faults: &mut Faults| {
        if let Some(weight) = weight.filter(|w| *w != 0 && !(10..=1000).contains(w)) {
            faults.bad(field, format!("{weight} is outside 10 to 1000"));
        }
    };
    weight(format!("{at}weight"), io.weight(), faults);
    weight(format!("{at}leafWeight"), io.leaf_weight(), faults);
    for (i, device) in io.weight_device().iter().flatten().enumerate() {
        let at = format!("{at}weightDevice[{i}]");
        device_numbers(&at, device.major(), device.minor(), faults);
        weight(format!("{at}.weight"), device.weight(), faults);
        weight(format!("{at}.leafWeight"), device.leaf_weight(), faults);
        if device.weight().is_none() && device.leaf_weight().is_none() {
            faults.bad(at, "must have a weight or a leafWeight");
        }
    }
}

fn throttles(at: &str, name: &str, list: &Option<Vec<LinuxThrottleDevice>>, faults: &mut Faults) {
    for (i, device) in list.iter().flatten().enumerate() {
        device_numbers(&format!("{at}{name}[{i}]"), device.major(), device.minor(), faults);
    }
}

fn device_numbers(at: &str, major: i64, minor: i64, faults: &mut Faults) {
    for (name, number) in [("major", major), ("minor", minor)] {
        if !(0..=i64::from(u32::MAX)).contains(&number) {
            faults.bad(format!("{at}.{name}"), format!("{number} is not a device number"));
        }
    }
}

fn hugepages(resources: &LinuxResources, at: &str, faults: &mut Faults) {
    for (i, limit) in resources.hugepage_limits().iter().flatten().enumerate() {
        let size = limit.page_size();
        if !is_page_size(size) {
            let what = format!("{size:?} is not a size as 64KB, 2MB or 1GB");
            faults.bad(format!("{at}hugepageLimits[{i}].pageSize"), what);
        }
        if limit.limit() < 0 {
            let what = format!("{} is below 0", limit.limit());
            faults.bad(format!("{at}hugepageLimits[{i}].limit"), what);
        }
    }
}

fn is_page_size(text: &str) -> bool {
    let number = ["KB", "MB", "GB"].iter().find_map(|unit| text.strip_suffix(unit));
    number.is_some_and(|n| {
        !n.starts_with('0') && !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit())
    })
}

fn network(resources: &LinuxResources, at: &str, faults: &mut Faults) {
    let priorities = resources.network().as_ref().and_then(|n| n.priorities().as_ref());
    for (i, priority) in priorities.into_iter().flatten().enumerate() {
        let name = priority.name();
        let bad = |c: char| c == '/' || c == ':' || c.is_control() || c.is_whitespace();
        if name.is_empty() || name.len() > MAX_INTERFACE_NAME || name.contains(bad) {
            let what = format!("{name:?} is not the name of a network interface");
            faults.bad(format!("{at}network.priorities[{i}].name"), what);
        }
    }
}

fn rdma(resources: &LinuxResources, at: &str, faults: &mut Faults) {
    let mut devices: Vec<_> = resources.rdma().iter().flatten().collect();
    devices.sort_by_key(|(name, _)| name.as_str());
    for (name, limits) in devices {
        if name.is_empty() || name.contains(|c: char| c.is_whitespace() || c.is_control()) {
            faults.bad(format!("{at}rdma"), format!("{name:?} is not the name of a device"));
        }
        if limits.hca_handles().is_none() && limits.hca_objects().is_none() {
            faults.bad(format!("{at}rdma.{name}"), "must have hcaHandles or hcaObjects");
        }
    }
}

fn unified(resources: &LinuxResources, at: &str, faults: &mut Faults) {
    let mut files: Vec<_> = resources.unified().iter().flatten().collect();
    files.sort();
    for (name, value) in files {
        // The key becomes the name of a file.
        if name.contains(['/', '\0']) || matches!(name.as_str(), "" | "." | "..") {
            faults.bad(format!("{at}unified"), format!("{name:?} is not the name of a file"));
        } else if name.starts_with('.') || !name.trim_end_matches('.').contains('.') {
            faults.bad(format!("{at}unified"), format!("{name:?} is not CONTROLLER.PARAMETER"));
        } else if PROCESS_FILES.contains(&name.as_str()) {
            let what = format!("{name} acts on processes and is no limit");
            faults.bad(format!("{at}unified"), what);
        }
        faults.nul(format!("{at}unified[{name:?}]"), value);
    }
}
