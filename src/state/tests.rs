//! Tests of the state directory.

use super::*;
use crate::error::{kind, render_line};

pub(crate) fn sample(id: &str) -> State {
    State {
        oci_version: "1.3.0".into(),
        id: id.into(),
        bundle: "/bundle".into(),
        rootfs: "/bundle/rootfs".into(),
        annotations: BTreeMap::new(),
        init_process_pid: 0,
        init_process_start: 0,
        created: now(),
        owner: 0,
        phase: Phase::Created,
        cgroup: Default::default(),
        rdt: None,
        resources: Default::default(),
        namespaces: BTreeMap::from([("pid".to_owned(), PathBuf::new())]),
        host_mounts: Vec::new(),
        hooks: HooksPlan::default(),
        new_keyring: true,
        has_process: true,
    }
}

#[test]
fn an_id_is_claimed_once() {
    let root = tempfile::tempdir().unwrap();
    let (_dir, _lock) = StateDir::claim(&root.path().join("deep/er"), "web").unwrap();
    let error = StateDir::claim(&root.path().join("deep/er"), "web").unwrap_err();
    assert_eq!(kind(&error), Kind::Exists);
    assert!(render_line(&error).starts_with("container with given ID already exists: web"));
    let mode = std::fs::metadata(root.path().join("deep/er/web")).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o700);
}

#[test]
fn ids_cannot_leave_the_root() {
    let root = tempfile::tempdir().unwrap();
    for id in ["", ".", "..", "a/b", "../x", "/x"] {
        assert_eq!(kind(&StateDir::open(root.path(), id).unwrap_err()), Kind::BadInput, "{id}");
        assert_eq!(kind(&StateDir::claim(root.path(), id).unwrap_err()), Kind::BadInput, "{id}");
    }
    assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 0);
}

#[test]
fn the_record_comes_back_and_leaves_no_other_file() {
    let root = tempfile::tempdir().unwrap();
    let (dir, _lock) = StateDir::claim(root.path(), "web").unwrap();
    assert_eq!(kind(&dir.read().unwrap_err()), Kind::NotFound);
    let state = sample("web");
    dir.write(&state).unwrap();
    dir.write(&state).unwrap();
    assert_eq!(dir.read().unwrap(), state);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    dir.remove().unwrap();
    assert_eq!(kind(&StateDir::open(root.path(), "web").unwrap_err()), Kind::NotFound);
}

#[test]
fn the_lock_is_exclusive_and_sees_a_removal() {
    let root = tempfile::tempdir().unwrap();
    let (dir, lock) = StateDir::claim(root.path(), "web").unwrap();
    let other = StateDir::open(root.path(), "web").unwrap();
    assert!(other.try_lock().unwrap().is_none());
    drop(lock);
    assert!(other.try_lock().unwrap().is_some());
    dir.remove().unwrap();
    assert_eq!(kind(&other.lock().unwrap_err()), Kind::NotFound);
}

#[test]
fn status_by_the_facts() {
    let root = tempfile::tempdir().unwrap();
    let (dir, lock) = StateDir::claim(root.path(), "web").unwrap();
    let mut state = sample("web");
    state.phase = Phase::Creating;
    let other = StateDir::open(root.path(), "web").unwrap();
    assert_eq!(other.status(&state, || false), Status::Creating);
    drop(lock);
    assert_eq!(other.status(&state, || false), Status::Stopped);

    state.phase = Phase::Created;
    assert_eq!(dir.status(&state, || false), Status::Stopped);
    state.init_process_pid = std::process::id() as i32;
    state.init_process_start = Process::read(state.init_process_pid).unwrap().start_time;
    let gate = gate::close(&dir).unwrap();
    assert_eq!(dir.status(&state, || false), Status::Created);
    std::fs::remove_file(dir.path().join("exec.fifo")).unwrap();
    drop(gate);
    assert_eq!(dir.status(&state, || false), Status::Running);
    assert_eq!(dir.status(&state, || true), Status::Paused);
    assert!(state.init_pidfd().unwrap().is_some());

    // The same number at another time is another process.
    state.init_process_start += 1;
    assert_eq!(dir.status(&state, || true), Status::Stopped);
    assert!(state.init_pidfd().unwrap().is_none());
}

#[test]
fn stat_lines() {
    // proc_pid_stat(5): 1 pid, 2 (comm), 3 state, ..., 20 num_threads, 21 itrealvalue, 22 starttime.
    let line = |state: &str, threads: u32| {
        format!("12 (a) b) (c) {state} 1 1 1 0 -1 0 0 0 0 0 1 2 3 4 20 0 {threads} 0 777 4096 1\n")
    };
    let process = |alive| Some(Process { start_time: 777, alive });
    assert_eq!(Process::parse(&line("S", 1)), process(true));
    assert_eq!(Process::parse(&line("Z", 1)), process(false));
    assert_eq!(Process::parse(&line("Z", 3)), process(true));
    assert_eq!(Process::parse(&line("X", 1)), process(false));
    assert_eq!(Process::parse("12 (a) S 1"), None);
    assert_eq!(Process::read(0), None);
    assert_eq!(Process::read(-1), None);
}

#[test]
fn a_listing_skips_what_is_not_whole() {
    let root = tempfile::tempdir().unwrap();
    for id in ["b", "a"] {
        let (dir, _lock) = StateDir::claim(root.path(), id).unwrap();
        dir.write(&sample(id)).unwrap();
    }
    drop(StateDir::claim(root.path(), "half").unwrap());
    let (dir, _lock) = StateDir::claim(root.path(), "damaged").unwrap();
    dir.write_file(STATE, b"{").unwrap();
    std::fs::create_dir(root.path().join(".cache")).unwrap();
    std::fs::write(root.path().join("file"), "").unwrap();
    let ids: Vec<String> = list(root.path()).unwrap().into_iter().map(|e| e.state.id).collect();
    assert_eq!(ids, ["a", "b"]);
    assert!(list(&root.path().join("none")).is_err());
}

#[test]
fn state_of_the_spec() {
    let mut state = sample("web");
    state.annotations.insert("k".into(), "v".into());
    assert_eq!(
        state.oci_json(Status::Running, 7),
        r#"{"annotations":{"k":"v"},"bundle":"/bundle","id":"web","ociVersion":"1.3.0","pid":7,"status":"running"}"#
    );
    state.annotations.clear();
    assert_eq!(
        state.oci_json(Status::Stopped, 0),
        r#"{"bundle":"/bundle","id":"web","ociVersion":"1.3.0","status":"stopped"}"#
    );
    assert!(state.has_private_pids());
    state.namespaces.insert("pid".into(), "/proc/1/ns/pid".into());
    assert!(!state.has_private_pids());
}
