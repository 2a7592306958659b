//! Mutated config.json given to the real binary: what is refused has had no effect at all, what
//! is not ends in a container or in a clear error, and nothing is left of either.
//!
//! `CORTEN_FUZZ_SECONDS` and `CORTEN_FUZZ_SEED` as for `tests/fuzz.rs`.

#[path = "../tests/mutate/mod.rs"]
mod mutate;

use crate::harness::{Bundle, Context, Need, Output, Test, leftovers};
use crate::test;
use mutate::{Corpus, Random, env_number};
use nix::mount::{MsFlags, mount, umount};
use nix::sched::{CloneFlags, unshare};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

const OWN: Need = Need::CortenOnly("it has other messages, and acts before it has read all");

pub const TESTS: &[Test] = &[
    test!(mutated_configs_end_well).needs(&[OWN]).timeout(2 * 3600),
    test!(refusals_make_no_change).needs(&[OWN, Need::Program("strace")]),
];

const SECONDS: u64 = 12;
const SEED: u64 = 0x00ba_0bab;

/// What begins the message of a refusal: nothing has been done then.
const REFUSED: [&str; 2] = ["error: config.json: ", "error: config.json has "];

fn documents(bundle: &Bundle) -> Vec<Value> {
    let rich = serde_json::from_str(include_str!("../tests/fixtures/rich.json")).unwrap();
    vec![bundle.config.clone(), rich]
}

/// The host's files, network, names and message queues out of reach: a changed configuration may
/// share any namespace with us and bind any directory.
fn shut_in(t: &Context) {
    let new = CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWUTS | CloneFlags::CLONE_NEWIPC;
    unshare(new).unwrap();
    remount(t, true);
}

fn remount(t: &Context, readonly: bool) {
    let none = None::<&str>;
    if readonly {
        mount(Some(&t.dir), &t.dir, none, MsFlags::MS_BIND, none).unwrap();
    }
    let mut flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT;
    flags.set(MsFlags::MS_RDONLY, readonly);
    mount(none, "/", none, flags, none).unwrap();
    if !readonly {
        umount(&t.dir).unwrap();
    }
}

fn mutated_configs_end_well(t: &Context) {
    let mut bundle = t.bundle();
    for file in ["hosts", "resolv.conf"] {
        std::fs::write(bundle.dir.join(file), "").unwrap();
    }
    // Its files are links to those of every other test.
    let rootfs = bundle.rootfs("");
    std::fs::remove_dir_all(&rootfs).unwrap();
    t.sh(&format!("cp -a {} {}", t.base.display(), rootfs.display()));
    let corpus = Corpus::new(documents(&bundle));
    let cgroup = bundle.cgroups_path();
    shut_in(t);
    let before = leftovers::before();
    let seconds = Duration::from_secs(env_number("CORTEN_FUZZ_SECONDS").unwrap_or(SECONDS));
    let first = env_number("CORTEN_FUZZ_SEED").unwrap_or(SEED);
    let start = Instant::now();
    let mut counts = BTreeMap::new();
    let mut complaints = Vec::new();
    for seed in first.. {
        let mut random = Random::new(seed);
        bundle.config = corpus.document(&mut random);
        for _ in 0..*random.pick(&[1, 1, 1, 2, 2, 3]) {
            corpus.mutate("", &mut bundle.config, &mut random);
        }
        // Where it may be is a matter for `tests/fuzz.rs`: a test stays in its own cgroup.
        if let Some(linux) = bundle.config.get_mut("linux").and_then(Value::as_object_mut) {
            linux.insert("cgroupsPath".to_owned(), json!(cgroup));
        }
        match one(t, &bundle, &before) {
            Ok(end) => *counts.entry(end).or_insert(0) += 1,
            Err(what) => complaints.push(format!("seed {seed}: {what}")),
        }
        if start.elapsed() > seconds || complaints.len() > 20 {
            break;
        }
    }
    remount(t, false);
    let total: i32 = counts.values().sum();
    println!("{total} cases in {} s from seed {first}: {counts:?}", start.elapsed().as_secs());
    assert!(complaints.is_empty(), "{} complaints:\n{}", complaints.len(), complaints.join("\n"));
    if !seconds.is_zero() {
        for end in ["refused", "failed", "started"] {
            assert!(counts.contains_key(end), "none {end}: {counts:?}");
        }
    }
}

/// From `create` to `delete --force`; how it ended, or what is wrong with that.
fn one(t: &Context, bundle: &Bundle, before: &leftovers::Before) -> Result<&'static str, String> {
    let _ = std::fs::remove_dir_all(t.state_root());
    bundle.write();
    let id = format!("box{}", t.next());
    let create = t.runtime().args(["create", "--bundle"]).arg(&bundle.dir).arg(&id).output();
    let end = match create.code() {
        0 => {
            let start = t.runtime().args(["start", &id]).output();
            if start.code() == 0 {
                "started"
            } else {
                clear(&start)?;
                "created"
            }
        }
        _ if is_refusal(&create) => {
            clear(&create)?;
            if t.state_root().exists() {
                return Err(format!("refused, but there is a state directory: {create}"));
            }
            "refused"
        }
        _ => {
            clear(&create)?;
            "failed"
        }
    };
    if end == "started" || end == "created" {
        let delete = t.runtime().args(["delete", "--force", &id]).output();
        if delete.code() != 0 {
            return Err(format!("cannot be deleted: {delete}"));
        }
    }
    let left = before.left(t);
    match left.is_empty() {
        true => Ok(end),
        false => Err(format!("{end}, leaving\n{}\n{create}", left.join("\n"))),
    }
}

/// Refused for what the file says, not after something was begun.
fn is_refusal(output: &Output) -> bool {
    let stderr = &output.stderr;
    REFUSED.iter().any(|words| stderr.contains(words)) && !stderr.contains("while creating")
}

/// A failure must exit by itself and say what failed and why.
fn clear(output: &Output) -> Result<(), String> {
    let stderr = &output.stderr;
    let what = match stderr.lines().find_map(|line| line.strip_prefix("error: ")) {
        _ if output.code() != 1 => "the exit code",
        _ if stderr.contains("panicked") => "a panic",
        None => "no error line",
        Some(line) if !line.contains(' ') || line.ends_with(": ") => "no reason",
        Some(line) if line.contains("nknown error") || line.contains("os error") => "vague",
        _ if stderr.chars().any(|c| c.is_control() && c != '\n') => "a control character",
        _ => return Ok(()),
    };
    Err(format!("{what}: {output}"))
}

/// System calls by which something would come to be.
const CHANGES: &str = "mkdir,mkdirat,mknod,mknodat,symlink,symlinkat,link,linkat,unlink,unlinkat,\
    rename,renameat,renameat2,mount,umount2,move_mount,fork,vfork,clone,clone3,unshare,setns,chmod,\
    fchmod,fchmodat,chown,fchown,fchownat,bind,connect,kill,prlimit64,setrlimit,sethostname,creat,\
    openat,open";

fn refusals_make_no_change(t: &Context) {
    for (pointer, value) in [
        ("/process/cwd", json!("tmp")),
        ("/process/user/uid", json!(-1)),
        ("/mounts/0/options", json!(["size=\u{0}"])),
        ("/linux/seccomp", json!({"defaultAction": "SCMP_ACT_NOTIFY"})),
        ("/linux/cgroupsPath", json!("../..")),
        ("/linux/resources/pids", json!({"limit": "many"})),
    ] {
        let mut bundle = t.bundle();
        bundle.config["linux"]["resources"]["pids"] = json!({"limit": 5});
        bundle.config["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW"});
        *bundle.config.pointer_mut(pointer).unwrap() = value;
        bundle.write();
        let trace = t.path("trace");
        let strace = t.host("strace").args(["-f", "-e", CHANGES, "-o"]).arg(&trace);
        let create = strace.arg(&t.runtime.path).arg("--root").arg(t.state_root());
        let output = create.args(["create", "--bundle"]).arg(&bundle.dir).arg("box").output();
        assert!(is_refusal(&output), "{pointer}: {output}");
        let calls = std::fs::read_to_string(trace).unwrap();
        assert!(calls.contains("config.json"), "{pointer}: not traced:\n{calls}");
        // Reading is no change; nor is asking for the own limits (prlimit64 with NULL).
        let harmless = |line: &&str| {
            (line.contains("open") && !line.contains("O_CREAT") && !line.contains("O_WRONLY"))
                || (line.contains("prlimit64(") && line.contains(", NULL, "))
                || line.contains("exited with")
        };
        let changes: Vec<&str> = calls.lines().filter(|line| !harmless(line)).collect();
        assert!(changes.is_empty(), "{pointer}:\n{}", changes.join("\n"));
    }
}
