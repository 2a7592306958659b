use super::*;

fn plan(json: &str) -> Result<ResourcesPlan> {
    let resources: LinuxResources = serde_json::from_str(json).unwrap();
    ResourcesPlan::build(Some(&resources))
}

#[test]
fn every_field_arrives() {
    let plan = plan(
        r#"{
        "memory": {"limit": 100, "reservation": 50, "swap": -1, "kernel": -1, "kernelTCP": 70,
                   "swappiness": 0,
                   "disableOOMKiller": true, "useHierarchy": true, "checkBeforeUpdate": true},
        "cpu": {"shares": 512, "quota": -1, "burst": 0, "period": 1000, "realtimeRuntime": 5,
                "realtimePeriod": 6, "cpus": "0-1", "mems": "0", "idle": 1},
        "pids": {"limit": 0},
        "blockIO": {"weight": 10, "leafWeight": 20,
                    "weightDevice": [{"major": 8, "minor": 1, "weight": 30, "leafWeight": 40}],
                    "throttleReadBpsDevice": [{"major": 8, "minor": 2, "rate": 1}],
                    "throttleWriteBpsDevice": [{"major": 8, "minor": 3, "rate": 2}],
                    "throttleReadIOPSDevice": [{"major": 8, "minor": 4, "rate": 3}],
                    "throttleWriteIOPSDevice": [{"major": 8, "minor": 5, "rate": 4}]},
        "hugepageLimits": [{"pageSize": "2MB", "limit": 4194304}],
        "network": {"classID": 1048577, "priorities": [{"name": "eth0", "priority": 7}]},
        "rdma": {"mlx5_1": {"hcaHandles": 3, "hcaObjects": 10000}},
        "unified": {"memory.high": "1000"}}"#,
    )
    .unwrap();
    let throttle = |minor, rate| vec![ThrottleDevice { device: (8, minor), rate }];
    let want = ResourcesPlan {
        memory: MemoryPlan {
            limit: Some(100),
            reservation: Some(50),
            swap: Some(-1),
            kernel: Some(-1),
            kernel_tcp: Some(70),
            swappiness: Some(0),
            disable_oom_killer: Some(true),
            use_hierarchy: Some(true),
            check_before_update: true,
        },
        cpu: CpuPlan {
            shares: Some(512),
            quota: Some(-1),
            burst: Some(0),
            period: Some(1000),
            realtime_runtime: Some(5),
            realtime_period: Some(6),
            cpus: Some("0-1".into()),
            mems: Some("0".into()),
            idle: Some(1),
        },
        pids: Some(0),
        block_io: BlockIoPlan {
            weight: Some(10),
            leaf_weight: Some(20),
            weight_device: vec![WeightDevice {
                device: (8, 1),
                weight: Some(30),
                leaf_weight: Some(40),
            }],
            read_bps: throttle(2, 1),
            write_bps: throttle(3, 2),
            read_iops: throttle(4, 3),
            write_iops: throttle(5, 4),
        },
        hugepages: vec![HugepageLimit { page_size: "2MB".into(), limit: 4_194_304 }],
        network: NetworkPlan { class_id: Some(1_048_577), priorities: vec![("eth0".into(), 7)] },
        rdma: BTreeMap::from([(
            "mlx5_1".into(),
            RdmaLimit { hca_handles: Some(3), hca_objects: Some(10_000) },
        )]),
        devices: devices::build(None).unwrap(),
        unified: BTreeMap::from([("memory.high".into(), "1000".into())]),
    };
    assert_eq!(plan, want);
    let stored = serde_json::to_string(&plan).unwrap();
    assert_eq!(serde_json::from_str::<ResourcesPlan>(&stored).unwrap(), want);
}

#[test]
fn zero_is_not_set_where_the_spec_has_no_zero() {
    let plan = plan(
        r#"{"memory": {"limit": 0, "swap": 0, "reservation": 0},
            "cpu": {"shares": 0, "quota": 0, "period": 0, "cpus": "", "mems": ""},
            "blockIO": {"weight": 0}, "network": {"classID": 0}}"#,
    )
    .unwrap();
    assert_eq!(plan, ResourcesPlan::build(None).unwrap());
}

#[test]
fn refuses_and_names_the_field() {
    for (json, want) in [
        (r#"{"memory":{"swappiness":101}}"#, "memory.swappiness: 101 is not in 0 to 100"),
        (r#"{"hugepageLimits":[{"pageSize":"../x","limit":1}]}"#, "hugepageLimits[0].pageSize"),
        (r#"{"hugepageLimits":[{"pageSize":"2M","limit":1}]}"#, "hugepageLimits[0].pageSize"),
        (r#"{"hugepageLimits":[{"pageSize":"é2MB","limit":1}]}"#, "hugepageLimits[0].pageSize"),
        (r#"{"hugepageLimits":[{"pageSize":"2MB","limit":-1}]}"#, "hugepageLimits[0].limit"),
        (r#"{"network":{"priorities":[{"name":"a b","priority":1}]}}"#, "priorities[0].name"),
        (r#"{"rdma":{"a\nb":{"hcaHandles":1}}}"#, "rdma: \"a\\nb\" is no device name"),
        (r#"{"unified":{"../memory.max":"1"}}"#, "unified: \"../memory.max\" is not CONTROLLER"),
        (r#"{"unified":{"..":"1"}}"#, "unified: \"..\" is not CONTROLLER"),
        (r#"{"unified":{"memory":"1"}}"#, "unified: \"memory\" is not CONTROLLER"),
    ] {
        let text = plan(json).unwrap_err().to_string();
        assert!(text.starts_with("config.json: linux.resources."), "{text}");
        assert!(text.contains(want), "{text}");
    }
}

#[test]
fn an_update_changes_only_what_it_gives() {
    let mut old = plan(
        r#"{"memory": {"limit": 100, "swap": 200, "checkBeforeUpdate": true},
            "cpu": {"shares": 512, "quota": 10, "period": 1000}, "pids": {"limit": 5},
            "blockIO": {"throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 1}]},
            "devices": [{"allow": true, "access": "rwm"}]}"#,
    )
    .unwrap();
    let newer = plan(
        r#"{"memory": {"limit": 150}, "cpu": {"quota": 20},
            "blockIO": {"throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 9},
                                                  {"major": 8, "minor": 16, "rate": 3}]}}"#,
    )
    .unwrap();
    let mut want = old.clone();
    want.memory.limit = Some(150);
    want.memory.check_before_update = false;
    want.cpu.quota = Some(20);
    want.block_io.read_bps = vec![
        ThrottleDevice { device: (8, 0), rate: 9 },
        ThrottleDevice { device: (8, 16), rate: 3 },
    ];
    old.merge_update(&newer);
    assert_eq!(old, want);
}

#[test]
fn unlimited_memory_drops_the_old_limit_of_both() {
    let mut old = plan(r#"{"memory": {"limit": 100, "swap": 200}}"#).unwrap();
    old.merge_update(&plan(r#"{"memory": {"limit": -1}}"#).unwrap());
    assert_eq!((old.memory.limit, old.memory.swap), (Some(-1), None));
}
