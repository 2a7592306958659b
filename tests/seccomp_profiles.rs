//! The profiles that come with Corten: well formed, and doing in the kernel what their README
//! says. Each probe runs in a process of its own: this binary starts itself again, loads the
//! profile and then executes a program under it. No root is needed.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::os::unix::net::UnixListener;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, Output};

use corten::plan::seccomp::{SeccompPlan, builtin, compile};
use corten::security::seccomp::{load, process_state, send_listener};
use libseccomp::{ScmpArch, ScmpNotifReq, ScmpNotifResp, ScmpNotifRespFlags, ScmpSyscall};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use serde_json::{Value, json};

const PROFILES: [&str; 2] = ["default", "strict"];

/// Newer than libseccomp 2.5.4, which Debian 12 has: known to Linux 6.5 and later.
const NEWER: [&str; 14] = [
    "cachestat",
    "fchmodat2",
    "futex_requeue",
    "futex_wait",
    "futex_wake",
    "getxattrat",
    "listmount",
    "listxattrat",
    "map_shadow_stack",
    "mseal",
    "removexattrat",
    "setxattrat",
    "statmount",
    "uretprobe",
];

fn profile(name: &str) -> Value {
    serde_json::from_str(builtin(name).unwrap()).unwrap()
}

fn plan(profile: Value) -> SeccompPlan {
    compile(&serde_json::from_value(profile).unwrap()).unwrap()
}

fn entries(profile: &Value) -> &Vec<Value> {
    profile["syscalls"].as_array().unwrap()
}

fn names(entry: &Value) -> Vec<&str> {
    entry["names"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect()
}

#[test]
fn unknown_profiles_are_none() {
    assert_eq!(builtin("none"), None);
    assert_eq!(builtin(""), None);
}

#[test]
fn every_name_is_a_system_call() {
    for name in PROFILES {
        for call in entries(&profile(name)).iter().flat_map(names) {
            let known = ScmpSyscall::from_name(call).is_ok();
            assert!(known || NEWER.contains(&call), "{name}: no system call {call}");
        }
    }
}

#[test]
fn every_group_has_a_reason_and_a_sorted_list() {
    for name in PROFILES {
        let profile = profile(name);
        for entry in entries(&profile) {
            let reason = entry["comment"].as_str().unwrap();
            assert!(reason.len() > 10 && reason.ends_with('.'), "{name}: {entry}");
            let names = names(entry);
            assert!(names.is_sorted_by(|a, b| a < b), "{name}: not sorted: {names:?}");
        }
    }
}

#[test]
fn no_call_is_in_two_groups() {
    for name in PROFILES {
        let profile = profile(name);
        let mut seen = BTreeSet::new();
        for entry in entries(&profile) {
            // Groups that look at arguments name the same call once for each value.
            let args = entry.get("args").map(Value::to_string).unwrap_or_default();
            for call in names(entry) {
                assert!(seen.insert((call.to_owned(), args.clone())), "{name}: {call} twice");
                let unconditional = seen.contains(&(call.to_owned(), String::new()));
                assert!(args.is_empty() || !unconditional, "{name}: {call} with and without args");
            }
        }
    }
}

#[test]
fn the_readme_tells_of_every_profile_and_the_capabilities() {
    let readme = include_str!("../seccomp-profiles/README.md");
    for name in PROFILES {
        assert!(readme.contains(&format!("{name}.json")));
        let profile = profile(name);
        for entry in entries(&profile) {
            let reason = entry["comment"].as_str().unwrap();
            // One line for each group; groups of one call with many values share one.
            let first = names(entry)[0];
            assert!(readme.contains(&format!("`{first}`")), "{name}: {first} ({reason})");
        }
    }
    // What the text tells to add for a capability is not in the default profile already.
    let default = profile("default");
    let allowed: BTreeSet<&str> = entries(&default)
        .iter()
        .filter(|entry| entry["action"] == "SCMP_ACT_ALLOW" && entry.get("args").is_none())
        .flat_map(names)
        .collect();
    let rows: Vec<&str> = readme.lines().filter(|line| line.starts_with("| CAP_")).collect();
    assert!(rows.len() > 10);
    for row in rows {
        for call in row.split('`').skip(1).step_by(2) {
            assert!(ScmpSyscall::from_name(call).is_ok(), "{row}: no system call {call}");
            assert!(!allowed.contains(call), "{row}: {call} is allowed anyway");
        }
    }
}

/// Set in the second process: the profile's JSON, and the program with its arguments.
const PROFILE: &str = "CORTEN_TEST_PROFILE";
const PROGRAM: &str = "CORTEN_TEST_PROGRAM";

/// Not a test of its own: what the second process does.
#[test]
fn second_process() {
    let (Ok(profile), Ok(program)) = (std::env::var(PROFILE), std::env::var(PROGRAM)) else {
        return;
    };
    let plan = plan(serde_json::from_str(&profile).unwrap());
    let program: Vec<String> = serde_json::from_str(&program).unwrap();
    nix::sys::prctl::set_no_new_privs().unwrap();
    let listener = load(&plan).unwrap();
    if let (Some(to), Some(fd)) = (&plan.listener, listener) {
        let state = json!({"ociVersion": "1.3.0"});
        let pid = std::process::id() as i32;
        let message = process_state(pid, to.metadata.as_deref(), state);
        send_listener(to, fd.as_fd(), &message).unwrap();
    }
    let mut command = Command::new(&program[0]);
    let error = command.args(&program[1..]).env_remove(PROFILE).env_remove(PROGRAM).exec();
    panic!("cannot execute {}: {error}", program[0]);
}

fn command(profile: &Value, program: &[&str]) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "second_process", "--nocapture", "--quiet"])
        .env(PROFILE, profile.to_string())
        .env(PROGRAM, json!(program).to_string());
    command
}

/// Runs `program` under a profile.
fn run(profile: &Value, program: &[&str]) -> Output {
    command(profile, program).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Perl, which every Debian has, makes any system call by number: prints its errno, 0 for none.
fn perl(number: i64, args: &[i64]) -> String {
    let args: Vec<String> = args.iter().map(i64::to_string).collect();
    format!("syscall({number}, {}) == -1 and $e = $!+0; print \"errno \", $e+0, \"\\n\"", {
        if args.is_empty() { "0".to_owned() } else { args.join(", ") }
    })
}

/// The errno of one system call under a profile, `Err` with the signal that ended the process.
fn errno(profile: &Value, number: i64, args: &[i64]) -> Result<i32, i32> {
    let output = run(profile, &["perl", "-e", &perl(number, args)]);
    if let Some(signal) = output.status.signal() {
        return Err(signal);
    }
    let text = stdout(&output);
    let line = text.lines().find_map(|line| line.split_once("errno ")).map(|(_, number)| number);
    Ok(line.unwrap_or_else(|| panic!("{output:?}")).parse().unwrap())
}

const ALLOWED: Result<i32, i32> = Ok(0);
const DENIED: Result<i32, i32> = Ok(libc::EPERM);
const KILLED: Result<i32, i32> = Err(libc::SIGSYS);

#[test]
fn default_denies_what_reaches_the_host() {
    let default = profile("default");
    // The arguments are such that without the filter root would get 0 or another errno.
    for (name, number, args) in [
        ("unshare", libc::SYS_unshare, vec![0]),
        ("mount", libc::SYS_mount, vec![0, 0, 0, 0, 0]),
        ("umount2", libc::SYS_umount2, vec![0, 0]),
        ("setns", libc::SYS_setns, vec![-1, 0]),
        // KEYCTL_GET_KEYRING_ID of the session keyring.
        ("keyctl", libc::SYS_keyctl, vec![0, -3, 0]),
        ("add_key", libc::SYS_add_key, vec![0, 0, 0, 0, 0]),
        ("bpf", libc::SYS_bpf, vec![-1, 0, 0]),
        ("perf_event_open", libc::SYS_perf_event_open, vec![0, 0, -1, -1, 0]),
        ("io_uring_setup", libc::SYS_io_uring_setup, vec![0, 0]),
        ("userfaultfd", libc::SYS_userfaultfd, vec![-1]),
        ("open_by_handle_at", libc::SYS_open_by_handle_at, vec![-1, 0, 0]),
        ("kexec_load", libc::SYS_kexec_load, vec![0, 0, 0, -1]),
        ("fsopen", libc::SYS_fsopen, vec![0, 0]),
        ("swapoff", libc::SYS_swapoff, vec![0]),
        // A new user namespace by clone: CLONE_NEWUSER | SIGCHLD.
        ("clone", libc::SYS_clone, vec![0x1000_0000 | 17, 0, 0, 0, 0]),
        ("AF_ALG", libc::SYS_socket, vec![38, 5, 0]),
        ("AF_VSOCK", libc::SYS_socket, vec![40, 1, 0]),
        // ADDR_NO_RANDOMIZE.
        ("personality", libc::SYS_personality, vec![0x004_0000]),
    ] {
        assert_eq!(errno(&default, number, &args), DENIED, "{name}");
    }
}

#[test]
fn default_allows_what_programs_need() {
    let default = profile("default");
    for (name, number, args) in [
        ("getpid", libc::SYS_getpid, vec![]),
        ("socket AF_UNIX", libc::SYS_socket, vec![1, 1, 0]),
        ("socket AF_INET", libc::SYS_socket, vec![2, 1, 0]),
        ("socket AF_NETLINK", libc::SYS_socket, vec![16, 3, 0]),
        ("personality, asked", libc::SYS_personality, vec![0xffff_ffff]),
        ("personality PER_LINUX", libc::SYS_personality, vec![0]),
        ("membarrier", libc::SYS_membarrier, vec![0, 0, 0]),
    ] {
        assert_eq!(errno(&default, number, &args), ALLOWED, "{name}");
    }
}

#[test]
fn unknown_and_new_calls_get_enosys() {
    for name in PROFILES {
        let profile = profile(name);
        assert_eq!(errno(&profile, 1000, &[]), Ok(libc::ENOSYS), "{name}");
        assert_eq!(errno(&profile, libc::SYS_clone3, &[0, 0]), Ok(libc::ENOSYS), "{name}");
    }
}

#[test]
fn strict_kills_what_is_dangerous_and_denies_the_rest() {
    let strict = profile("strict");
    for (name, number) in [
        ("unshare", libc::SYS_unshare),
        ("setns", libc::SYS_setns),
        ("mount", libc::SYS_mount),
        ("ptrace", libc::SYS_ptrace),
        ("keyctl", libc::SYS_keyctl),
        ("perf_event_open", libc::SYS_perf_event_open),
        ("bpf", libc::SYS_bpf),
        ("io_uring_setup", libc::SYS_io_uring_setup),
        ("chroot", libc::SYS_chroot),
        ("reboot", libc::SYS_reboot),
    ] {
        assert_eq!(errno(&strict, number, &[0, 0, 0, 0, 0]), KILLED, "{name}");
    }
    for (name, number, args) in [
        ("socket AF_INET", libc::SYS_socket, vec![2, 1, 0]),
        ("socket AF_NETLINK", libc::SYS_socket, vec![16, 3, 0]),
        ("clone with a new network", libc::SYS_clone, vec![0x4000_0000 | 17, 0, 0, 0, 0]),
        ("setuid", libc::SYS_setuid, vec![0]),
        ("personality", libc::SYS_personality, vec![0]),
        // TIOCSTI on standard input, which is no terminal here: ENOTTY without the filter.
        ("ioctl TIOCSTI", libc::SYS_ioctl, vec![0, 0x5412, 0]),
    ] {
        assert_eq!(errno(&strict, number, &args), DENIED, "{name}");
    }
    assert_eq!(errno(&strict, libc::SYS_socket, &[1, 1, 0]), ALLOWED);
}

/// Runs `program` under every profile and wants `expected` among what it prints.
fn works_everywhere(program: &[&str], expected: &str) {
    for name in PROFILES {
        let output = run(&profile(name), program);
        assert!(output.status.success(), "{name}: {output:?}");
        assert!(stdout(&output).contains(expected), "{name}: {output:?}");
    }
}

#[test]
fn a_shell_works() {
    let script = "set -e; d=$(mktemp -d); cd $d; echo one > a; cp a b; ln -s a c; ls -l | wc -l; \
        (sleep 0.01; echo background >> a) & wait; cat a | sort | tr a-z A-Z; rm -r $d; echo done";
    match ["/bin/busybox", "/usr/bin/busybox"].iter().find(|path| Path::new(path).exists()) {
        Some(busybox) => works_everywhere(&[busybox, "sh", "-c", script], "BACKGROUND\nONE\ndone"),
        None => println!("skipped: no busybox"),
    }
    works_everywhere(&["sh", "-c", script], "BACKGROUND\nONE\ndone");
}

#[test]
fn python_works() {
    let script = "import os, socket, subprocess, tempfile, threading, time\n\
        t = threading.Thread(target=lambda: time.sleep(0.001)); t.start(); t.join()\n\
        a, b = socket.socketpair(); a.send(b'x'); assert b.recv(1) == b'x'\n\
        with tempfile.TemporaryFile() as f: f.write(b'y'); f.flush(); os.fsync(f.fileno())\n\
        print(subprocess.check_output(['echo', 'from a child']).decode())";
    if Path::new("/usr/bin/python3").exists() {
        works_everywhere(&["/usr/bin/python3", "-c", script], "from a child");
    } else {
        println!("skipped: no /usr/bin/python3");
    }
}

/// Not a test of its own: what [`a_static_rust_program_works`] runs.
#[test]
fn threads_and_files() {
    let threads: Vec<_> = (0..4).map(|n| std::thread::spawn(move || n * n)).collect();
    let sum: i32 = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
    let (mut read, write) = std::io::pipe().unwrap();
    let status = Command::new("echo").arg("piped").stdout(write).status().unwrap();
    let mut text = String::new();
    std::io::Read::read_to_string(&mut read, &mut text).unwrap();
    assert!(status.success() && std::fs::metadata("/").unwrap().is_dir());
    println!("threads {sum}, {text}");
}

#[test]
fn a_static_rust_program_works() {
    let this = std::env::current_exe().unwrap();
    let program = [this.to_str().unwrap(), "--exact", "threads_and_files", "--nocapture"];
    works_everywhere(&program, "threads 14, piped");
}

#[test]
fn errno_and_argument_are_the_kernels_too() {
    let mut profile = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        {"names": ["getpid"], "action": "SCMP_ACT_ERRNO", "errnoRet": 77},
        {"names": ["getpriority"], "action": "SCMP_ACT_ERRNO", "errnoRet": 78,
         "args": [{"index": 1, "value": 0xff, "valueTwo": 5, "op": "SCMP_CMP_MASKED_EQ"}]}]});
    for flags in [Value::Null, json!([]), json!(["SECCOMP_FILTER_FLAG_TSYNC"])] {
        profile["flags"] = flags;
        assert_eq!(errno(&profile, libc::SYS_getpid, &[]), Ok(77));
        assert_eq!(errno(&profile, libc::SYS_getpriority, &[0, 0x105]), Ok(78));
        assert_ne!(errno(&profile, libc::SYS_getpriority, &[0, 0x106]), Ok(78));
    }
}

#[test]
fn programs_of_other_architectures_are_killed_unless_named() {
    // An i386 program, assembled by hand: int 0x80 with eax = 20 (getpid), then eax = 1 (exit)
    // with ebx = 7.
    if !cfg!(target_arch = "x86_64") {
        return println!("skipped: the program is for x86");
    }
    let code: &[u8] =
        &[0xb8, 20, 0, 0, 0, 0xcd, 0x80, 0xbb, 7, 0, 0, 0, 0xb8, 1, 0, 0, 0, 0xcd, 0x80];
    let mut elf = Vec::new();
    elf.extend(b"\x7fELF\x01\x01\x01\0\0\0\0\0\0\0\0\0");
    // e_type EXEC, e_machine 386, e_version, e_entry, e_phoff, e_shoff, e_flags, sizes.
    for half in [2u16, 3] {
        elf.extend(half.to_le_bytes());
    }
    for word in [1u32, 0x0804_8054, 52, 0, 0] {
        elf.extend(word.to_le_bytes());
    }
    for half in [52u16, 32, 1, 0, 0, 0] {
        elf.extend(half.to_le_bytes());
    }
    // PT_LOAD of the whole file, readable and executable.
    let size = 84 + code.len() as u32;
    for word in [1u32, 0, 0x0804_8000, 0x0804_8000, size, size, 5, 0x1000] {
        elf.extend(word.to_le_bytes());
    }
    elf.extend(code);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("i386");
    std::fs::write(&path, elf).unwrap();
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    if !Command::new(&path).status().is_ok_and(|status| status.code() == Some(7)) {
        return println!("skipped: this kernel runs no i386 programs");
    }
    let program = [path.to_str().unwrap()];
    assert_eq!(run(&profile("default"), &program).status.code(), Some(7));
    assert_eq!(run(&profile("strict"), &program).status.signal(), Some(libc::SIGSYS));
}

#[test]
fn an_agent_answers_for_the_container() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("agent");
    let agent = UnixListener::bind(&socket).unwrap();
    let wait_killable = json!(["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]);
    let profile = json!({"defaultAction": "SCMP_ACT_ALLOW", "flags": wait_killable,
        "listenerPath": socket, "listenerMetadata": "for the agent",
        "syscalls": [{"names": ["getpriority"], "action": "SCMP_ACT_NOTIFY"}]});
    let program = perl(libc::SYS_getpriority, &[0, 0]);
    let child = command(&profile, &["perl", "-e", &program])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();

    // A child that died would otherwise leave us waiting for ever.
    let mut wait = [PollFd::new(agent.as_fd(), PollFlags::POLLIN)];
    assert_eq!(poll(&mut wait, PollTimeout::from(10_000u16)), Ok(1), "nobody called the agent");
    let (stream, _) = agent.accept().unwrap();
    let mut text = [0; 4096];
    let mut space = nix::cmsg_space!([RawFd; 1]);
    let (length, listener) = {
        let mut buffers = [std::io::IoSliceMut::new(&mut text)];
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        let message =
            recvmsg::<()>(stream.as_raw_fd(), &mut buffers, Some(&mut space), flags).unwrap();
        let fd = message.cmsgs().unwrap().find_map(|c| match c {
            ControlMessageOwned::ScmRights(fds) => fds.first().copied(),
            _ => None,
        });
        (message.bytes, fd.unwrap())
    };
    let state: Value = serde_json::from_slice(&text[..length]).unwrap();
    let pid = child.id();
    assert_eq!(
        state,
        json!({"ociVersion": "1.3.0", "fds": ["seccompFd"], "pid": pid,
            "metadata": "for the agent", "state": {"ociVersion": "1.3.0"}})
    );

    let request = ScmpNotifReq::receive(listener).unwrap();
    assert_eq!(request.pid, pid);
    let call = request.data.syscall.get_name_by_arch(ScmpArch::Native).unwrap();
    assert_eq!(call, "getpriority");
    let answer = ScmpNotifResp::new_error(request.id, -libc::EXDEV, ScmpNotifRespFlags::empty());
    answer.respond(listener).unwrap();
    nix::unistd::close(listener).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(stdout(&output).contains(&format!("errno {}", Errno::EXDEV as i32)), "{output:?}");
}
