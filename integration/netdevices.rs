//! `linux.netDevices`: devices of the host in the container's network namespace. Each test has a
//! network namespace of its own, which is the host's to the runtime.

use crate::harness::{Bundle, Context, Need, Test, contains, wait_for};
use crate::test;
use nix::sched::{CloneFlags, unshare};
use serde_json::{Value, json};

const NEED: &[Need] = &[Need::CortenOnly("netDevices came with 1.3")];

pub const TESTS: &[Test] = &[
    test!(moved_renamed_and_up_with_addresses).needs(NEED),
    test!(a_device_keeps_its_name_without_a_new_one).needs(NEED),
    test!(the_kernel_completes_a_template).needs(NEED),
    test!(a_user_namespace_gets_its_device).needs(NEED),
    test!(a_joined_network_namespace_keeps_it).needs(NEED),
    test!(hooks_sysctls_and_exec_find_it).needs(NEED),
    test!(a_virtual_device_ends_with_its_namespace).needs(NEED),
    test!(what_cannot_be_moved_is_refused).needs(NEED),
    test!(an_alternative_name_is_refused).needs(NEED),
    test!(after_a_failed_create_it_is_back).needs(NEED),
    test!(after_a_failed_move_it_is_back).needs(NEED),
];

/// A network namespace with a veth pair: `out0`, to be moved, and `peer0`, the other end.
fn with_pair(t: &Context) {
    unshare(CloneFlags::CLONE_NEWNET).unwrap();
    t.sh("ip link set lo up
          ip link add out0 mtu 1400 type veth peer name peer0
          ip addr add 10.77.0.1/24 dev peer0
          ip addr add fd77::1/64 dev peer0 nodad
          ip link set peer0 up
          ip addr add 10.77.0.2/24 brd + dev out0
          ip addr add fd77::2/64 dev out0 nodad
          ip link set out0 up");
}

fn devices(bundle: &mut Bundle<'_>, devices: Value) {
    bundle.config["linux"]["netDevices"] = devices;
}

/// What `ip` of the host tells of a device; `None` without one. `enter` is a command before it.
fn device(t: &Context, enter: &str, name: &str) -> Option<Value> {
    let text = t.sh(&format!("{enter} ip -j addr"));
    let list: Vec<Value> = serde_json::from_str(&text).unwrap();
    list.into_iter().find(|device| device["ifname"] == name)
}

fn in_container(t: &Context, pid: i32, name: &str) -> Option<Value> {
    device(t, &format!("nsenter -t {pid} -n"), name)
}

/// Its permanent addresses of global scope, in a form to compare.
fn addresses(device: &Value) -> Vec<String> {
    let all = device["addr_info"].as_array().unwrap().iter();
    let lasting = all.filter(|a| a["scope"] == "global" && a["dynamic"] != true);
    let mut lasting: Vec<String> = lasting
        .map(|a| {
            let fields = ["local", "prefixlen", "address", "broadcast", "metric", "secondary"];
            let flags = ["nodad", "noprefixroute", "home", "mngtmpaddr", "autojoin"];
            let all = fields.iter().chain(&flags);
            all.map(|field| format!("{field}={} ", a[field])).collect()
        })
        .collect();
    lasting.sort();
    lasting
}

fn is_up(device: &Value) -> bool {
    device["flags"].as_array().unwrap().contains(&json!("UP"))
}

#[track_caller]
fn answers(t: &Context, address: &str) {
    wait_for(&format!("{address} to answer"), 10, || {
        t.host("/bin/busybox").args(["ping", "-c1", "-W1", address]).output().code() == 0
    });
}

fn moved_renamed_and_up_with_addresses(t: &Context) {
    with_pair(t);
    t.sh("ip addr add 10.77.0.3/24 metric 70 dev out0
          ip addr add fd79::1/64 dev out0 nodad noprefixroute home
          ip addr add 10.78.0.1 peer 10.78.0.2/32 dev out0
          ip addr add fd78::1 peer fd78::2/128 dev out0 nodad
          ip addr add 10.79.0.1/24 scope link dev out0
          ip addr add 10.80.0.1/24 valid_lft 1000 preferred_lft 900 dev out0");
    let before = device(t, "", "out0").unwrap();
    assert_eq!(addresses(&before).len(), 6);
    let mut bundle = t.bundle();
    devices(&mut bundle, json!({"out0": {"name": "eth0"}}));
    bundle.idle();
    let container = bundle.create();
    let inside = in_container(t, container.pid(), "eth0").expect("eth0 is not there");
    assert_eq!(device(t, "", "out0"), None, "still on the host");
    assert_eq!(addresses(&inside), addresses(&before));
    assert_eq!((&inside["address"], &inside["mtu"]), (&before["address"], &json!(1400)));
    let text = inside.to_string();
    assert!(!text.contains("10.79.0.1") && !text.contains("10.80.0.1"), "{text}");
    assert!(is_up(&inside), "{text}");
    // Labels of the old name would say nothing here.
    assert!(!text.contains("out0"), "{text}");
    answers(t, "10.77.0.2");
    answers(t, "fd77::2");
}

fn a_device_keeps_its_name_without_a_new_one(t: &Context) {
    with_pair(t);
    t.sh("ip addr add 10.81.0.1/24 label out0:web dev out0; ip link set out0 down");
    let mut bundle = t.bundle();
    devices(&mut bundle, json!({"out0": {}}));
    bundle.script("ip -o link show out0; ip -o -4 addr show out0");
    let text = bundle.run().ok();
    contains(&text, ",UP");
    contains(&text, "10.77.0.2/24");
    contains(&text, "out0:web");
}

fn the_kernel_completes_a_template(t: &Context) {
    with_pair(t);
    t.sh("ip link add out1 type veth peer name peer1; ip addr add 10.82.0.1/24 dev out1");
    let mut bundle = t.bundle();
    devices(&mut bundle, json!({"out0": {"name": "net%d"}, "out1": {"name": "net%d"}}));
    bundle.idle();
    let container = bundle.start();
    let named = |address: &str| {
        let text = container.sh("ip -o -4 addr");
        let line = text.lines().find(|line| line.contains(address)).unwrap_or_default();
        line.split_whitespace().nth(1).unwrap_or_default().to_owned()
    };
    let (first, second) = (named("10.77.0.2/24"), named("10.82.0.1/24"));
    let number = |name: &str| name.strip_prefix("net").unwrap_or("").parse::<u32>().is_ok();
    assert!(number(&first) && number(&second) && first != second, "{first:?} {second:?}");
}

fn a_user_namespace_gets_its_device(t: &Context) {
    with_pair(t);
    let mut bundle = t.bundle();
    bundle.user_namespace();
    devices(&mut bundle, json!({"out0": {"name": "eth0"}}));
    bundle.idle();
    let container = bundle.start();
    let inside = in_container(t, container.pid(), "eth0").unwrap();
    assert!(is_up(&inside) && addresses(&inside).len() == 2, "{inside}");
    answers(t, "10.77.0.2");
}

/// A process with a network namespace of its own, to join; gone when dropped.
struct Holder(crate::harness::command::Running);

impl Holder {
    fn new(t: &Context) -> Self {
        let process = t.host("/usr/bin/unshare").args(["-n", "sleep", "1000"]).spawn();
        let link = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/net")).ok();
        let pid = process.pid().to_string();
        wait_for("a network namespace", 10, || {
            link(&pid).is_some_and(|net| Some(net) != link("self"))
        });
        Holder(process)
    }

    fn enter(&self) -> String {
        format!("nsenter -t {} -n", self.0.pid())
    }

    fn path(&self) -> Option<String> {
        Some(format!("/proc/{}/ns/net", self.0.pid()))
    }
}

fn a_joined_network_namespace_keeps_it(t: &Context) {
    with_pair(t);
    let holder = Holder::new(t);
    // The number and the old name of the device are taken there.
    let number = device(t, "", "out0").unwrap()["ifindex"].to_string();
    let enter = holder.enter();
    t.sh(&format!("{enter} ip link add out0 index {number} type veth peer name other"));
    let mut bundle = t.bundle();
    bundle.namespace("network", holder.path());
    devices(&mut bundle, json!({"out0": {"name": "out0"}}));
    let error = bundle.create_fails();
    contains(&error, "linux.netDevices.out0");
    contains(&error, "has a device out0 already");
    assert!(is_up(&device(t, "", "out0").unwrap()), "touched on the host");

    devices(&mut bundle, json!({"out0": {"name": "eth0"}}));
    bundle.idle();
    let container = bundle.start();
    let inside = in_container(t, container.pid(), "eth0").unwrap();
    assert!(is_up(&inside) && addresses(&inside).len() == 2, "{inside}");
    assert!(device(t, &enter, "out0").is_some(), "the other out0 is gone");
    container.end();
    // The namespace is not the container's: what is in it stays.
    assert!(device(t, &enter, "eth0").is_some(), "taken out at delete");
    assert_eq!(device(t, "", "out0"), None);

    let mut bundle = t.bundle();
    bundle.namespace("network", Some("/proc/self/ns/net".into()));
    devices(&mut bundle, json!({"peer0": {"name": "eth0"}}));
    contains(&bundle.create_fails(), "the network namespace is the runtime's own");
    assert!(device(t, "", "peer0").is_some());
}

fn hooks_sysctls_and_exec_find_it(t: &Context) {
    with_pair(t);
    let (outside, inside) = (t.path("outside"), t.path("inside"));
    let hook = |script: String| json!([{"path": "/bin/sh", "args": ["sh", "-c", script]}]);
    let mut bundle = t.bundle();
    devices(&mut bundle, json!({"out0": {"name": "eth0"}}));
    let path = "PATH=/usr/sbin:/usr/bin:/sbin:/bin";
    bundle.config["hooks"] = json!({
        "createRuntime": hook(format!("{path} ip -o link > {}", outside.display())),
        "createContainer": hook(format!("{path} ip -o addr > {}", inside.display())),
    });
    bundle.config["linux"]["sysctl"] = json!({"net.ipv4.conf.eth0.log_martians": "1"});
    bundle.idle();
    let container = bundle.start();
    let outside = std::fs::read_to_string(outside).unwrap();
    assert!(outside.contains("peer0") && !outside.contains("out0:"), "{outside}");
    let inside = std::fs::read_to_string(inside).unwrap();
    contains(&inside, "eth0    inet 10.77.0.2/24");
    assert_eq!(container.sh("cat /proc/sys/net/ipv4/conf/eth0/log_martians"), "1");
    contains(&container.sh("ip -o link show eth0"), ",UP");
}

fn a_virtual_device_ends_with_its_namespace(t: &Context) {
    with_pair(t);
    let mut bundle = t.bundle();
    devices(&mut bundle, json!({"out0": {"name": "eth0"}}));
    bundle.idle();
    let container = bundle.start();
    assert!(device(t, "", "peer0").is_some());
    container.end();
    // The kernel takes the pair away, both ends.
    wait_for("the pair to go", 10, || device(t, "", "peer0").is_none());
    assert_eq!(device(t, "", "out0"), None);
}

fn what_cannot_be_moved_is_refused(t: &Context) {
    with_pair(t);
    t.sh("ip link add out1 type veth peer name peer1; ip link set lo name loop0
          ip link add br0 type bridge");
    let lasting = |device: &Value| !device.to_string().contains("tentative");
    wait_for("addresses to settle", 10, || device(t, "", "out0").is_some_and(|d| lasting(&d)));
    let before = device(t, "", "out0");
    let cases = [
        (json!({"nope": {}}), "linux.netDevices.nope: no such network device"),
        (json!({"lo": {"name": "eth0"}}), "linux.netDevices.lo: the loopback device"),
        (json!({"out0": {"name": "lo"}}), "linux.netDevices.out0.name: every network namespace"),
        (json!({"out0": {"name": "a/b"}}), "linux.netDevices.out0.name: a name"),
        (json!({"out0": {"name": "a b"}}), "linux.netDevices.out0.name: a name"),
        (json!({"out0": {"name": "a:b"}}), "linux.netDevices.out0.name: a name"),
        (json!({"out0": {"name": ".."}}), "linux.netDevices.out0.name: not a name"),
        (json!({"out0": {"name": "sixteen-bytes-00"}}), "at most 15 bytes"),
        (json!({"out0": {"name": "a%s"}}), "linux.netDevices.out0.name: a template"),
        (json!({"out0": {"name": "a%d%d"}}), "linux.netDevices.out0.name: a template"),
        (json!({"../out0": {}}), "linux.netDevices.../out0: a name"),
        (json!({"": {}}), "a network device has a name"),
        (
            json!({"out0": {"name": "eth0"}, "out1": {"name": "eth0"}}),
            "linux.netDevices.out1.name: linux.netDevices.out0 is to be named eth0, too",
        ),
        (json!({"out0": {"name": "out1"}, "out1": {}}), "is to be named out1, too"),
        // The first is fine, and stays where it is.
        (json!({"out0": {"name": "eth0"}, "zz": {}}), "linux.netDevices.zz: no such"),
        (json!({"loop0": {}}), "linux.netDevices.loop0: the kernel does not let this device move"),
        (json!({"br0": {"name": "eth0"}}), "linux.netDevices.br0: "),
    ];
    for (list, text) in cases {
        let mut bundle = t.bundle();
        devices(&mut bundle, list.clone());
        contains(&bundle.create_fails(), text);
        assert_eq!(device(t, "", "out0"), before, "{list}");
    }
    let mut bundle = t.bundle();
    bundle.without_namespace("network");
    bundle.without_mount("/sys");
    devices(&mut bundle, json!({"out0": {"name": "eth0"}}));
    contains(&bundle.create_fails(), "linux.netDevices: needs a network namespace");
    assert_eq!(device(t, "", "out0"), before);
}

/// The device is on the host as it was.
#[track_caller]
fn is_back(t: &Context, before: &Value) {
    let name = before["ifname"].as_str().unwrap();
    let after = device(t, "", name).unwrap_or_else(|| panic!("{name} is lost"));
    assert_eq!(addresses(&after), addresses(before));
    assert_eq!(after["address"], before["address"]);
    assert_eq!(is_up(&after), is_up(before), "{after}");
}

/// The kernel finds a device by such a name, too, and would move it and then refuse the name.
fn an_alternative_name_is_refused(t: &Context) {
    with_pair(t);
    t.sh("ip link property add dev out0 altname other0");
    let before = device(t, "", "out0");
    let mut bundle = t.bundle();
    devices(&mut bundle, json!({"other0": {}}));
    let output = bundle.named("alternative").new_command("create", &[]).output();
    contains(&output.fails(), "linux.netDevices.other0: an alternative name of out0");
    assert_eq!(device(t, "", "out0"), before);
}

fn after_a_failed_create_it_is_back(t: &Context) {
    with_pair(t);
    t.sh("ip link add out1 type veth peer name peer1; ip addr add 10.83.0.1/24 dev out1");
    let before = ["out0", "out1"].map(|name| device(t, "", name).unwrap());
    let list = json!({"out0": {"name": "eth0"}, "out1": {"name": "net%d"}});
    let hook = json!([{"path": "/bin/false"}]);
    let holder = Holder::new(t);
    for at in ["createRuntime", "createContainer", "program", "joined", "user", "pid-file"] {
        let mut bundle = t.bundle();
        devices(&mut bundle, list.clone());
        if at == "user" {
            bundle.user_namespace();
        }
        match at {
            "createRuntime" | "createContainer" => bundle.config["hooks"] = json!({at: hook}),
            "pid-file" => {}
            _ => drop(bundle.args(["/no/such/program"])),
        }
        if at == "joined" {
            bundle.namespace("network", holder.path());
        }
        let container = bundle.named(&format!("back-{at}"));
        let flags: &[&str] =
            if at == "pid-file" { &["--pid-file", "/no/such/dir/pid"] } else { &[] };
        let error = container.create(flags).fails();
        assert!(!error.contains("netDevices") && !error.contains("move"), "{at}: {error}");
        before.iter().for_each(|before| is_back(t, before));
        container.command("state").fails();
    }
    answers(t, "10.77.0.2");
}

fn after_a_failed_move_it_is_back(t: &Context) {
    with_pair(t);
    let before = device(t, "", "out0").unwrap();
    let holder = Holder::new(t);
    let enter = holder.enter();
    t.sh(&format!("{enter} sh -c 'echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6'"));
    let mut bundle = t.bundle();
    bundle.namespace("network", holder.path());
    devices(&mut bundle, json!({"out0": {"name": "eth0"}}));
    let error = bundle.create_fails();
    contains(&error, "linux.netDevices.out0: cannot give it its address fd77::2/64");
    is_back(t, &before);
}
