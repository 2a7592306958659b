use std::fs;

use serde_json::{Value, json};

use super::super::dir::Dir;
use super::*;

fn fake(files: &[(&str, &str)]) -> (tempfile::TempDir, Dir) {
    let temp = tempfile::tempdir().unwrap();
    for (file, text) in files {
        fs::write(temp.path().join(file), text).unwrap();
    }
    let dir = Dir::open(temp.path()).unwrap();
    (temp, dir)
}

fn json_of<T: Serialize>(value: &T) -> Value {
    serde_json::to_value(value).unwrap()
}

#[test]
fn empty_counters_look_like_runcs() {
    // What `runc events --stats` prints for a value of each type that was never set.
    let stats = json_of(&Stats::default());
    assert_eq!(stats["cpu"], json!({"usage": {"kernel": 0, "user": 0}, "throttling": {}}));
    assert_eq!(
        stats["memory"],
        json!({
            "usage": {"limit": 0, "failcnt": 0}, "swap": {"limit": 0, "failcnt": 0},
            "kernel": {"limit": 0, "failcnt": 0}, "kernelTCP": {"limit": 0, "failcnt": 0}
        })
    );
    assert_eq!(stats["pids"], json!({}));
    assert_eq!(stats["blkio"], json!({}));
    assert_eq!(stats["hugetlb"], json!({}));
    assert_eq!(stats["intel_rdt"], json!({}));
    assert_eq!(stats["network_interfaces"], Value::Null);
    assert_eq!(stats.as_object().unwrap().len(), 8);
}

#[test]
fn v2_in_v1_units() {
    let (_temp, dir) = fake(&[
        (
            "cpu.stat",
            "usage_usec 10\nuser_usec 6\nsystem_usec 4\nnr_periods 3\nnr_throttled 2\nthrottled_usec 5\n",
        ),
        (
            "cpu.pressure",
            "some avg10=1.50 avg60=0.20 avg300=0.03 total=99\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=7\n",
        ),
        ("memory.stat", "anon 1\nfile 2\n"),
        ("memory.current", "100\n"),
        ("memory.max", "max\n"),
        ("memory.peak", "150\n"),
        ("memory.swap.current", "20\n"),
        ("memory.swap.max", "30\n"),
        ("io.stat", "8:16 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6\n"),
        ("hugetlb.2MB.current", "9\n"),
        ("hugetlb.2MB.events", "max 4\n"),
        ("pids.current", "2\n"),
        ("pids.max", "max\n"),
    ]);
    let files = Files(&dir);
    let mut stats = Stats::default();
    v2::cpu(&files, &mut stats.cpu).unwrap();
    v2::memory(&files, &mut stats.memory).unwrap();
    v2::io(&files, &mut stats.blkio).unwrap();
    pids(&files, &mut stats.pids).unwrap();
    assert_eq!(
        json_of(&stats.cpu),
        json!({
            "usage": {"total": 10_000, "user": 6_000, "kernel": 4_000},
            "throttling": {"periods": 3, "throttledPeriods": 2, "throttledTime": 5_000},
            "psi": {"some": {"avg10": 1.5, "avg60": 0.2, "avg300": 0.03, "total": 99},
                    "full": {"avg10": 0.0, "avg60": 0.0, "avg300": 0.0, "total": 7}}
        })
    );
    let memory = json_of(&stats.memory);
    assert_eq!(memory["cache"], 2);
    assert_eq!(memory["usage"], json!({"limit": u64::MAX, "usage": 100, "max": 150, "failcnt": 0}));
    assert_eq!(memory["swap"], json!({"limit": u64::MAX, "usage": 120, "failcnt": 0}));
    assert_eq!(
        json_of(&stats.blkio),
        json!({
            "ioServiceBytesRecursive": [{"major": 8, "minor": 16, "op": "Read", "value": 1},
                                        {"major": 8, "minor": 16, "op": "Write", "value": 2}],
            "ioServicedRecursive": [{"major": 8, "minor": 16, "op": "Read", "value": 3},
                                    {"major": 8, "minor": 16, "op": "Write", "value": 4}]
        })
    );
    assert_eq!(json_of(&stats.pids), json!({"current": 2}));
    let hugetlb = v2::hugetlb(&files, "2MB").unwrap().unwrap();
    assert_eq!(json_of(&hugetlb), json!({"usage": 9, "failcnt": 4}));
    assert_eq!(v2::hugetlb(&files, "1GB").unwrap(), None);
}

#[test]
fn v1_tables() {
    let (_temp, dir) = fake(&[
        ("cpuacct.usage", "30\n"),
        ("cpuacct.stat", "user 3\nsystem 2\n"),
        ("cpuacct.usage_percpu", "10 20 \n"),
        ("cpuacct.usage_all", "cpu user system\n0 4 6\n1 9 11\n"),
        ("cpuset.cpus", "0-2,7\n"),
        ("cpuset.sched_relax_domain_level", "-1\n"),
        ("blkio.bfq.io_serviced_recursive", "Total 0\n"),
        ("blkio.throttle.io_serviced_recursive", "254:0 Read 5\n254:0 Total 5\nTotal 5\n"),
        ("blkio.throttle.io_service_bytes_recursive", "254:0 Read 4096\nTotal 4096\n"),
    ]);
    let files = Files(&dir);
    let mut stats = Stats::default();
    v1::cpu_usage(&files, &mut stats.cpu.usage).unwrap();
    v1::cpuset(&files, &mut stats.cpuset).unwrap();
    v1::blkio(&files, &mut stats.blkio).unwrap();
    // The clock of cpuacct.stat ticks 100 times a second (sysconf(3), _SC_CLK_TCK).
    assert_eq!(
        json_of(&stats.cpu.usage),
        json!({
            "total": 30, "percpu": [10, 20], "percpu_user": [4, 9], "percpu_kernel": [6, 11],
            "user": 30_000_000, "kernel": 20_000_000
        })
    );
    assert_eq!(stats.cpuset.cpus, [0, 1, 2, 7]);
    assert_eq!(stats.cpuset.sched_relax_domain_level, -1);
    assert_eq!(
        json_of(&stats.blkio),
        json!({
            "ioServicedRecursive": [{"major": 254, "op": "Read", "value": 5},
                                    {"major": 254, "op": "Total", "value": 5}],
            "ioServiceBytesRecursive": [{"major": 254, "op": "Read", "value": 4096}]
        })
    );
}

#[test]
fn sizes_as_in_file_names() {
    for (kib, want) in [(64, "64KB"), (2048, "2MB"), (1 << 20, "1GB")] {
        assert_eq!(size_name(kib), want);
    }
}

#[test]
fn what_is_no_number_is_an_error_that_names_the_file() {
    let (_temp, dir) = fake(&[("pids.current", "many\n")]);
    let error = Files(&dir).number("pids.current").unwrap_err().to_string();
    assert!(error.contains("\"many\"") && error.contains("/pids.current"), "{error}");
}
