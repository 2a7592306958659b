//! The v2 files, and the rules that need no kernel, in a plain directory with the files' names.

use std::fs;
use std::path::Path;

use super::super::dir::Dir;
use super::*;
use crate::plan::resources::{ThrottleDevice, WeightDevice};

fn fake(files: &[&str]) -> (tempfile::TempDir, Dir) {
    let temp = tempfile::tempdir().unwrap();
    for file in files {
        fs::write(temp.path().join(file), "").unwrap();
    }
    let dir = Dir::open(temp.path()).unwrap();
    (temp, dir)
}

fn read(temp: &tempfile::TempDir, file: &str) -> String {
    fs::read_to_string(temp.path().join(file)).unwrap()
}

#[test]
fn v2_memory() {
    let (temp, dir) = fake(&["memory.max", "memory.swap.max", "memory.low", "memory.current"]);
    let plan = MemoryPlan {
        limit: Some(200),
        swap: Some(300),
        reservation: Some(-1),
        ..MemoryPlan::default()
    };
    v2::memory(&dir, &plan).unwrap();
    assert_eq!(read(&temp, "memory.max"), "200");
    assert_eq!(read(&temp, "memory.swap.max"), "100");
    assert_eq!(read(&temp, "memory.low"), "max");
}

#[test]
fn v2_memory_without_swap_accounting() {
    let (temp, dir) = fake(&["memory.max"]);
    let plan = |swap| MemoryPlan { limit: Some(200), swap, ..MemoryPlan::default() };
    v2::memory(&dir, &plan(Some(200))).unwrap();
    v2::memory(&dir, &plan(Some(-1))).unwrap();
    assert_eq!(read(&temp, "memory.max"), "200");
    let error = format!("{:#}", v2::memory(&dir, &plan(Some(300))).unwrap_err());
    let want = format!(
        "linux.resources.memory.swap: this kernel has no {}/memory.swap.max",
        temp.path().display()
    );
    assert_eq!(error, want);
}

#[test]
fn v2_refuses_less_than_is_used_when_asked_to_check() {
    let (temp, dir) = fake(&["memory.max"]);
    fs::write(temp.path().join("memory.current"), "500\n").unwrap();
    let plan = |limit| MemoryPlan {
        limit: Some(limit),
        check_before_update: true,
        ..MemoryPlan::default()
    };
    let error = format!("{:#}", v2::memory(&dir, &plan(500)).unwrap_err());
    assert!(error.contains("memory.limit: 500 is not more than the 500 bytes in use"), "{error}");
    assert_eq!(read(&temp, "memory.max"), "");
    v2::memory(&dir, &plan(501)).unwrap();
    assert_eq!(read(&temp, "memory.max"), "501");
}

#[test]
fn v2_refuses_what_it_has_not() {
    let (_temp, dir) = fake(&["memory.max"]);
    for (json, field) in [
        (r#"{"swappiness": 0}"#, "swappiness"),
        (r#"{"disable_oom_killer": true}"#, "disableOOMKiller"),
        (r#"{"use_hierarchy": false}"#, "useHierarchy"),
        (r#"{"kernel": 4096}"#, "kernel"),
        (r#"{"kernel_tcp": 4096}"#, "kernelTCP"),
    ] {
        let error = v2::memory(&dir, &serde_json::from_str(json).unwrap()).unwrap_err();
        let want = format!("linux.resources.memory.{field}: cgroup v2 has no such setting");
        assert_eq!(format!("{error:#}"), want);
        assert_eq!(crate::error::kind(&error), Kind::Unsupported);
    }
    let nothing =
        r#"{"disable_oom_killer": false, "use_hierarchy": true, "kernel": -1, "kernel_tcp": -1}"#;
    v2::memory(&dir, &serde_json::from_str(nothing).unwrap()).unwrap();
}

#[test]
fn v2_cpu() {
    for (quota, period, want) in [
        (Some(5000), Some(10_000), "5000 10000"),
        (Some(5000), None, "5000"),
        (None, Some(10_000), "max 10000"),
        (Some(-1), Some(10_000), "max 10000"),
    ] {
        let (temp, dir) = fake(&["cpu.max", "cpu.max.burst", "cpu.weight", "cpu.idle"]);
        let plan = CpuPlan {
            quota,
            period,
            burst: Some(7),
            shares: Some(1024),
            idle: Some(0),
            ..CpuPlan::default()
        };
        v2::cpu(&dir, &plan).unwrap();
        assert_eq!(read(&temp, "cpu.max"), want);
        assert_eq!(read(&temp, "cpu.max.burst"), "7");
        assert_eq!(read(&temp, "cpu.weight"), "100");
        assert_eq!(read(&temp, "cpu.idle"), "0");
    }
    let (_temp, dir) = fake(&[]);
    let plan = CpuPlan { realtime_period: Some(1), ..CpuPlan::default() };
    let error = format!("{:#}", v2::cpu(&dir, &plan).unwrap_err());
    assert!(error.contains("cpu.realtimePeriod: cgroup v2 has no such"), "{error}");
}

#[test]
fn an_idle_group_takes_no_weight() {
    let (temp, dir) = fake(&["cpu.weight", "cpu.idle"]);
    let plan = CpuPlan { shares: Some(512), idle: Some(1), ..CpuPlan::default() };
    v2::cpu(&dir, &plan).unwrap();
    assert_eq!((read(&temp, "cpu.weight"), read(&temp, "cpu.idle")), (String::new(), "1".into()));
}

#[test]
fn v2_block_io() {
    let throttle = |rate| vec![ThrottleDevice { device: (8, 16), rate }];
    let weight_device =
        vec![WeightDevice { device: (8, 0), weight: Some(1000), leaf_weight: None }];
    let plan = BlockIoPlan { weight: Some(10), ..BlockIoPlan::default() };
    let (temp, dir) = fake(&["io.weight"]);
    v2::block_io(&dir, &plan).unwrap();
    assert_eq!(read(&temp, "io.weight"), "1");

    let (temp, dir) = fake(&["io.weight", "io.bfq.weight"]);
    v2::block_io(&dir, &BlockIoPlan { weight_device, ..BlockIoPlan::default() }).unwrap();
    assert_eq!(read(&temp, "io.bfq.weight"), "8:0 1000");
    assert_eq!(read(&temp, "io.weight"), "");

    for (plan, want) in [
        (BlockIoPlan { read_bps: throttle(5), ..BlockIoPlan::default() }, "8:16 rbps=5"),
        (BlockIoPlan { write_bps: throttle(0), ..BlockIoPlan::default() }, "8:16 wbps=max"),
        (BlockIoPlan { read_iops: throttle(6), ..BlockIoPlan::default() }, "8:16 riops=6"),
        (BlockIoPlan { write_iops: throttle(7), ..BlockIoPlan::default() }, "8:16 wiops=7"),
    ] {
        let (temp, dir) = fake(&["io.max"]);
        v2::block_io(&dir, &plan).unwrap();
        assert_eq!(read(&temp, "io.max"), want);
    }
}

#[test]
fn hugepages_with_and_without_reservations() {
    let plan: ResourcesPlan =
        serde_json::from_str(r#"{"hugepages": [{"page_size": "2MB", "limit": 4096}]}"#).unwrap();
    let (temp, dir) = fake(&["hugetlb.2MB.max", "hugetlb.2MB.rsvd.max"]);
    hugepages(&dir, "max", &plan).unwrap();
    assert_eq!(read(&temp, "hugetlb.2MB.max"), "4096");
    assert_eq!(read(&temp, "hugetlb.2MB.rsvd.max"), "4096");
    let (temp, dir) = fake(&["hugetlb.2MB.limit_in_bytes"]);
    hugepages(&dir, "limit_in_bytes", &plan).unwrap();
    assert_eq!(read(&temp, "hugetlb.2MB.limit_in_bytes"), "4096");
}

#[test]
fn rdma_line() {
    let plan: ResourcesPlan =
        serde_json::from_str(r#"{"rdma": {"mlx5_1": {"hca_handles": 3, "hca_objects": 10000}}}"#)
            .unwrap();
    let (temp, dir) = fake(&["rdma.max"]);
    rdma(&dir, &plan).unwrap();
    assert_eq!(read(&temp, "rdma.max"), "mlx5_1 hca_handle=3 hca_object=10000");
}

#[test]
fn a_link_in_place_of_a_file_is_not_followed() {
    let (temp, dir) = fake(&[]);
    let victim = temp.path().join("victim");
    fs::write(&victim, "").unwrap();
    std::os::unix::fs::symlink(&victim, temp.path().join("pids.max")).unwrap();
    assert!(set(&dir, "pids.max", 1, "pids.limit").is_err());
    assert_eq!(fs::read_to_string(Path::new(&victim)).unwrap(), "");
}
