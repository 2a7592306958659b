//! The container's cgroups: where they are, who is in them, what they tell, when they go.

use crate::harness::{Container, Context, Need, Test, cgroup, contains, wait_for};
use crate::test;
use serde_json::{Value, json};
use std::path::Path;

pub const TESTS: &[Test] = &[
    test!(process_is_in_every_hierarchy),
    test!(relative_path_is_below_the_callers),
    test!(absent_path_is_named_after_the_id),
    test!(absolute_path_is_below_the_mount_point),
    test!(memory_limit_kills),
    test!(devices_files).needs(&[Need::V1("devices")]),
    test!(events_stream_ends_with_the_container),
    test!(events_tell_of_an_out_of_memory_kill),
    test!(groups_are_gone_after_delete),
    test!(groups_made_inside_are_removed),
    test!(parents_stay),
    test!(dotdot_in_the_path).needs(&[Need::CortenOnly("1.1 cleans the path silently")]),
    test!(limit_that_the_kernel_refuses),
    test!(frozen_container_is_removed),
    test!(frozen_group_is_refused),
    test!(owner_of_the_group),
    test!(exec_enters_the_cgroup),
    test!(exec_in_a_sub_group).needs(&[Need::V1("pids")]),
    test!(events_tell_of_memory_running_out)
        .needs(&[Need::CortenOnly("1.1 ends with the interval, an hour later")]),
    test!(cgroup_of_another_container_is_refused)
        .needs(&[Need::CortenOnly("1.1 shares it with a warning")]),
];

pub fn read(dir: &Path, file: &str) -> String {
    let path = dir.join(file);
    let text = std::fs::read_to_string(&path);
    text.unwrap_or_else(|e| panic!("{}: {e}", path.display())).trim().to_string()
}

/// An idle container with these `linux.resources`.
pub fn limited<'a>(t: &'a Context, resources: Value) -> Container<'a> {
    let mut bundle = t.bundle();
    let all = bundle.config["linux"]["resources"].as_object_mut().unwrap();
    all.extend(resources.as_object().unwrap().clone());
    bundle.idle();
    bundle.start()
}

fn process_is_in_every_hierarchy(t: &Context) {
    let mut bundle = t.bundle();
    bundle.idle();
    let container = bundle.start();
    let pid = container.pid();
    for hierarchy in cgroup::hierarchies() {
        let dir = hierarchy.dir(&bundle.cgroups_path());
        assert!(cgroup::procs(&dir).contains(&pid), "{}", dir.display());
        assert!(!cgroup::procs(&dir).contains(&1));
    }
}

fn relative_path_is_below_the_callers(t: &Context) {
    let mut bundle = t.bundle();
    bundle.config["linux"]["cgroupsPath"] = json!("some/where");
    bundle.idle();
    let container = bundle.start();
    // Each v1 hierarchy has its own idea of where the caller is: here the same.
    let wanted = format!("{}/some/where", t.cgroup);
    assert!(cgroup::of_process(container.pid(), "pids").ends_with(wanted.trim_start_matches('/')));
    container.end();
    for hierarchy in cgroup::hierarchies() {
        let _ = std::fs::remove_dir(hierarchy.dir(&format!("{}/some", t.cgroup)));
    }
}

fn absent_path_is_named_after_the_id(t: &Context) {
    let mut bundle = t.bundle();
    bundle.config["linux"].as_object_mut().unwrap().remove("cgroupsPath");
    bundle.idle();
    let container = bundle.start();
    let wanted = format!("{}/{}", t.cgroup, container.id);
    assert!(cgroup::of_process(container.pid(), "pids").ends_with(wanted.trim_start_matches('/')));
}

/// And the same value leads to the same place, again and whoever asks.
fn absolute_path_is_below_the_mount_point(t: &Context) {
    let mut bundle = t.bundle();
    bundle.config["linux"]["cgroupsPath"] = json!(format!("{}/twice/here", t.cgroup));
    bundle.idle();
    for _ in 0..2 {
        let container = bundle.start();
        let pid = container.pid();
        for hierarchy in cgroup::hierarchies() {
            let dir =
                hierarchy.mountpoint.join(t.cgroup.trim_start_matches('/')).join("twice/here");
            assert!(cgroup::procs(&dir).contains(&pid), "{}", dir.display());
        }
        container.end();
    }
    cgroup::remove(&format!("{}/twice", t.cgroup));
}

fn memory_limit_kills(t: &Context) {
    let mut bundle = t.bundle();
    bundle.config["linux"]["resources"]["memory"] = json!({"limit": 33_554_432});
    // tmpfs pages are charged to the group too, and cannot be swapped away here.
    bundle.script("dd if=/dev/zero of=/dev/shm/big bs=1M count=60 2>/dev/null; echo code $?");
    let output = bundle.run();
    // The kernel chooses `dd` or the shell.
    assert!(output.code() == 137 || output.stdout == "code 137\n", "{output}");
}

fn devices_files(t: &Context) {
    let devices = json!({"devices": [
        {"allow": false, "access": "rwm"},
        {"allow": true, "type": "c", "major": 10, "minor": 229, "access": "rw"},
    ]});
    let container = limited(t, devices);
    let list = read(&container.cgroup("devices"), "devices.list");
    let lines: Vec<&str> = list.lines().collect();
    assert!(!lines.contains(&"a *:* rwm"), "{list}");
    for line in ["c 10:229 rw", "c 1:3 rwm", "c 1:5 rwm", "c 5:2 rwm", "c 136:* rwm", "b *:* m"] {
        assert!(lines.contains(&line), "{line} in\n{list}");
    }
}

fn events_stream_ends_with_the_container(t: &Context) {
    let container = limited(t, json!({}));
    let stream = t.runtime().args(["events", "--interval", "100ms", &container.id]).spawn();
    let out = stream.out.clone();
    let lines = || std::fs::read_to_string(&out).unwrap().lines().count();
    wait_for("two records", 10, || lines() >= 2);
    container.kill("KILL");
    container.wait_status("stopped");
    t.runtime().args(["delete", "--force", &container.id]).output().exits(0);
    let output = stream.wait();
    for line in output.stdout.lines() {
        serde_json::from_str::<Value>(line).unwrap();
    }
}

fn events_tell_of_an_out_of_memory_kill(t: &Context) {
    let container = limited(t, json!({"memory": {"limit": 33_554_432}}));
    let stream = t.runtime().args(["events", "--interval", "1h", &container.id]).spawn();
    let out = stream.out.clone();
    // The watch stands when the process waits; nothing shows it from outside.
    std::thread::sleep(std::time::Duration::from_millis(500));
    container.exec(&["sh", "-c", "dd if=/dev/zero of=/dev/shm/big bs=1M count=60"]).fails();
    let oom = |line: &str| {
        let event: Value = serde_json::from_str(line).unwrap();
        event["type"] == "oom" && event["id"] == json!(container.id)
    };
    wait_for("an oom record", 10, || std::fs::read_to_string(&out).unwrap().lines().any(oom));
    stream.signal(nix::sys::signal::Signal::SIGKILL);
    stream.wait();
}

fn groups_are_gone_after_delete(t: &Context) {
    let container = limited(t, json!({"memory": {"limit": 67_108_864}}));
    assert!(!cgroup::below(&t.cgroup).is_empty());
    container.end();
    assert_eq!(cgroup::below(&t.cgroup), Vec::<std::path::PathBuf>::new());
}

fn groups_made_inside_are_removed(t: &Context) {
    let mut bundle = t.bundle();
    bundle.idle();
    let container = bundle.start();
    for controller in ["pids", "memory", "freezer"] {
        let dir = container.cgroup(controller);
        if cgroup::v1(controller).is_some() {
            std::fs::create_dir_all(dir.join("a/b")).unwrap();
        }
    }
    container.end();
}

fn parents_stay(t: &Context) {
    let parent = format!("{}/parent", t.cgroup);
    cgroup::make(&parent).unwrap();
    let mut bundle = t.bundle();
    bundle.config["linux"]["cgroupsPath"] = json!(format!("{parent}/leaf"));
    bundle.run().ok();
    for hierarchy in cgroup::hierarchies() {
        assert!(hierarchy.dir(&parent).exists(), "{}", hierarchy.dir(&parent).display());
    }
    cgroup::remove(&parent);
}

fn dotdot_in_the_path(t: &Context) {
    let mut bundle = t.bundle();
    bundle.config["linux"]["cgroupsPath"] = json!(format!("{}/../../escaped", t.cgroup));
    contains(&bundle.create_fails(), "cgroupsPath");
    for hierarchy in cgroup::hierarchies() {
        assert!(!hierarchy.mountpoint.join("escaped").exists());
    }
}

/// The kernel says no: an error that names the file or value, and nothing is left.
fn limit_that_the_kernel_refuses(t: &Context) {
    let mut bundle = t.bundle();
    bundle.config["linux"]["resources"]["cpu"] = json!({"cpus": "4000"});
    contains(&bundle.create_fails(), "cpuset.cpus");
}

fn frozen_container_is_removed(t: &Context) {
    let container = limited(t, json!({}));
    container.command("pause").exits(0);
    t.runtime().args(["delete", "--force", &container.id]).output().exits(0);
    assert_eq!(cgroup::below(&t.cgroup), Vec::<std::path::PathBuf>::new());
}

/// config-linux.md: such a group may be refused, and then with an error.
fn frozen_group_is_refused(t: &Context) {
    let bundle = t.bundle();
    let path = bundle.cgroups_path();
    cgroup::make(&path).unwrap();
    let (file, frozen, thawed) = match cgroup::v1("freezer") {
        Some(freezer) => (freezer.dir(&path).join("freezer.state"), "FROZEN", "THAWED"),
        None => (cgroup::hierarchies()[0].dir(&path).join("cgroup.freeze"), "1", "0"),
    };
    std::fs::write(&file, frozen).unwrap();
    contains(&bundle.create_fails(), "frozen");
    assert_eq!(std::fs::read_to_string(&file).unwrap().trim(), frozen, "left as it was");
    std::fs::write(&file, thawed).unwrap();
    bundle.run().ok();
    cgroup::remove(&path);
}

/// "Cgroup ownership" of config-linux.md: in v2, with a cgroup namespace and a writable mount, the
/// directory and the files of /sys/kernel/cgroup/delegate; else nothing.
fn owner_of_the_group(t: &Context) {
    use std::os::unix::fs::MetadataExt;
    let pure_v2 = matches!(cgroup::hierarchies().as_slice(), [only] if only.v2);
    let mut mounted = t.bundle();
    mounted.idle();
    mounted.config["process"]["user"] = json!({"uid": 1234, "gid": 0});
    mounted.namespace("cgroup", None);
    mounted.mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev"]);
    let last = mounted.config["mounts"].as_array().unwrap().len() - 1;
    let edit = |how: &dyn Fn(&mut Value)| {
        let mut bundle = t.bundle();
        let path = bundle.cgroups_path();
        bundle.config = mounted.config.clone();
        bundle.config["linux"]["cgroupsPath"] = json!(path);
        how(&mut bundle.config);
        bundle
    };
    type Edit<'a> = &'a dyn Fn(&mut Value);
    let cases: [(&str, bool, Edit); 5] = [
        ("as it must be", true, &|_| {}),
        ("read-only", false, &|c| c["mounts"][last]["options"] = json!(["ro"])),
        ("elsewhere", false, &|c| c["mounts"][last]["destination"] = json!("/mnt")),
        ("of another name", false, &|c| c["mounts"][last]["source"] = json!("none")),
        ("in the host's namespace", false, &|c| {
            let namespaces = c["linux"]["namespaces"].as_array_mut().unwrap();
            namespaces.retain(|n| n["type"] != "cgroup");
        }),
    ];
    let listed = std::fs::read_to_string("/sys/kernel/cgroup/delegate").unwrap();
    for (case, given, how) in cases {
        let container = edit(how).start();
        let pid = container.pid();
        for hierarchy in cgroup::hierarchies() {
            let controller = hierarchy.controllers.first().map_or("", String::as_str);
            let dir = cgroup::of_process(pid, controller);
            let owner = |path: &Path| std::fs::metadata(path).unwrap().uid();
            let expected = |mine: bool| if pure_v2 && given && mine { 1234 } else { 0 };
            assert_eq!(owner(&dir), expected(true), "{case}: {}", dir.display());
            for file in std::fs::read_dir(&dir).unwrap().flatten().filter(|f| f.path().is_file()) {
                let name = file.file_name();
                let mine = listed.lines().any(|l| *l == *name);
                assert_eq!(owner(&file.path()), expected(mine), "{case}: {}", name.display());
            }
        }
    }
    // The user of a user namespace is the one that it maps to.
    let mut bundle = edit(&|_| {});
    bundle.user_namespace();
    let container = bundle.start();
    let pids = container.cgroup("pids").join("cgroup.procs");
    let owner = std::fs::metadata(pids).unwrap().uid();
    assert_eq!(owner, if pure_v2 { 101_234 } else { 0 });
}

fn exec_enters_the_cgroup(t: &Context) {
    let container = limited(t, json!({}));
    // One read: another test may mount a hierarchy meanwhile.
    let both = container.sh("cat /proc/self/cgroup /proc/1/cgroup");
    let lines: Vec<&str> = both.lines().collect();
    let (inside, init) = lines.split_at(lines.len() / 2);
    assert_eq!(inside, init);
    contains(&both, &container.cgroup("pids").file_name().unwrap().to_string_lossy());
}

fn exec_in_a_sub_group(t: &Context) {
    let container = limited(t, json!({}));
    let sub = container.cgroup("pids").join("sub");
    std::fs::create_dir(&sub).unwrap();
    let output = container
        .exec_command(&["--cgroup", "pids:sub"], &["cat", "/proc/self/cgroup"])
        .output()
        .ok();
    let line = output.lines().find(|l| l.contains(":pids:")).unwrap();
    assert!(line.ends_with("/sub"), "{line}");
    container.exec_command(&["--cgroup", "pids:none"], &["true"]).output().fails();
    container.exec_command(&["--cgroup", "pids:../.."], &["true"]).output().fails();
}

fn events_tell_of_memory_running_out(t: &Context) {
    let container = limited(t, json!({"memory": {"limit": 33_554_432}}));
    let stream = t.runtime().args(["events", "--interval", "1h", &container.id]).spawn();
    let out = stream.out.clone();
    // It has to be listening before.
    std::thread::sleep(std::time::Duration::from_millis(500));
    container.exec(&["sh", "-c", "dd if=/dev/zero of=/dev/shm/big bs=1M count=60"]);
    wait_for("the event", 10, || std::fs::read_to_string(&out).unwrap().contains("\"oom\""));
    container.kill("KILL");
    stream.wait().exits(0);
}

fn cgroup_of_another_container_is_refused(t: &Context) {
    let mut first = t.bundle();
    first.idle();
    let container = first.start();
    let mut second = t.bundle();
    second.config["linux"]["cgroupsPath"] = json!(first.cgroups_path());
    contains(&second.create_fails(), "is not empty");
    assert_eq!(container.status(), "running");
}
