//! Mutated input of every kind: no panic, no hang, no memory without bound, and whatever is
//! refused is refused in words that name the file and the field. Nothing is executed; what the
//! binary does with such input is in `integration/fuzz.rs`.
//!
//! `CORTEN_FUZZ_SECONDS` says how long (20), `CORTEN_FUZZ_SEED` which case is the first: a
//! failure names its seed, and with `CORTEN_FUZZ_SECONDS=0` that case runs alone.

mod mutate;

use corten::cgroups::{CgroupPlan, hierarchies};
use corten::cli::{self, Parsed, UpdateArgs};
use corten::commands::update;
use corten::config::{bundle, validate};
use corten::error::{Error, Kind, Result, kind, render, render_line};
use corten::plan::exec::ExecFlags;
use corten::plan::hooks::HooksPlan;
use corten::plan::process::ProcessPlan;
use corten::plan::resources::ResourcesPlan;
use corten::plan::seccomp::builtin;
use corten::plan::{ContainerPlan, seccomp::SeccompPlan};
use mutate::{Corpus, Random};
use nix::sys::resource::{Resource, setrlimit};
use nix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const SECONDS: u64 = 20;
const SEED: u64 = 0x00c0_ffee;
/// Also on a busy machine, unless a single case is asked for.
const AT_LEAST: u64 = 3_000;

/// What one case may take of the processor, in a debug build.
const CASE: Duration = Duration::from_secs(5);
/// What the whole process may take of the address space, in bytes.
const MEMORY: u64 = 4 << 30;

const FIXTURES: [&str; 7] = [
    include_str!("fixtures/minimal.json"),
    include_str!("fixtures/default.json"),
    include_str!("fixtures/docker.json"),
    include_str!("fixtures/podman.json"),
    include_str!("fixtures/pod.json"),
    include_str!("fixtures/every-field.json"),
    include_str!("fixtures/rich.json"),
];

/// Everything a case needs.
struct Fuzz {
    dir: tempfile::TempDir,
    configs: Corpus,
    /// Slow to compile: seldom used.
    profiles: Vec<Value>,
    container: ProcessPlan,
    random: Random,
}

/// How a case ended well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    Accepted,
    Refused,
}

type Case = fn(&mut Fuzz) -> Result<End, String>;

const CASES: [(&str, Case); 7] = [
    ("config.json", config),
    ("process.json", process),
    ("resources", resources),
    ("flags of exec", exec_flags),
    ("flags of update", update_flags),
    ("command line", command_line),
    ("ids and cgroup paths", names),
];

/// Of how many cases each kind gets its share.
const SHARES: [usize; 7] = [60, 10, 10, 6, 5, 4, 5];

#[test]
fn bad_input_is_refused_by_name_and_nothing_panics() {
    setrlimit(Resource::RLIMIT_AS, MEMORY, MEMORY).unwrap();
    let seconds = mutate::env_number("CORTEN_FUZZ_SECONDS").unwrap_or(SECONDS);
    let first = mutate::env_number("CORTEN_FUZZ_SEED").unwrap_or(SEED);
    let mut fuzz = Fuzz::new();
    let seed = watchdog();
    std::panic::set_hook(Box::new(|_| {}));
    let start = Instant::now();
    let mut counts = BTreeMap::new();
    let mut complaints: BTreeMap<String, String> = BTreeMap::new();
    for number in first.. {
        seed.store(number, Ordering::Relaxed);
        fuzz.random = Random::new(number);
        let (name, case) = fuzz.choose();
        let before = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap();
        let ended = catch_unwind(AssertUnwindSafe(|| case(&mut fuzz)));
        let took = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap() - before;
        let complaint = match ended {
            Ok(Ok(_)) if Duration::from(took) > CASE => Some(format!("took {took}")),
            Ok(Ok(end)) => {
                *counts.entry((name, end)).or_insert(0u64) += 1;
                None
            }
            Ok(Err(complaint)) => Some(complaint),
            Err(panic) => Some(format!("panic: {}", panic_text(panic.as_ref()))),
        };
        if let Some(complaint) = complaint {
            complaints
                .entry(shape(&complaint))
                .or_insert(format!("seed {number}: {name}: {complaint}"));
        }
        let enough = seconds == 0 || number - first >= AT_LEAST;
        if enough && start.elapsed().as_secs() >= seconds || complaints.len() > 20 {
            break;
        }
    }
    drop(std::panic::take_hook());
    let total: u64 = counts.values().sum();
    println!("{total} cases in {} s from seed {first}: {counts:#?}", start.elapsed().as_secs());
    let complaints: Vec<String> = complaints.into_values().collect();
    assert!(complaints.is_empty(), "{} complaints:\n{}", complaints.len(), complaints.join("\n"));
    // Neither so wild that nothing gets through the checks, nor so tame that everything does.
    if seconds > 0 {
        for (name, _) in CASES {
            for end in [End::Accepted, End::Refused] {
                assert!(
                    counts.get(&(name, end)).is_some_and(|n| *n > 3),
                    "{name}: hardly any {end:?}"
                );
            }
        }
    }
}

/// Ends the process when one case takes far too long; the case is told by its seed.
fn watchdog() -> &'static AtomicU64 {
    static NOW: AtomicU64 = AtomicU64::new(0);
    std::thread::spawn(|| {
        let (mut last, mut since) = (0, Instant::now());
        loop {
            std::thread::sleep(Duration::from_secs(1));
            let now = NOW.load(Ordering::Relaxed);
            if now != last {
                (last, since) = (now, Instant::now());
            } else if now != 0 && since.elapsed() > 20 * CASE {
                let _ = writeln!(std::io::stderr(), "seed {now}: hangs");
                std::process::abort();
            }
        }
    });
    &NOW
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
}

/// A complaint without what differs from case to case.
fn shape(complaint: &str) -> String {
    let words = complaint.split_inclusive([' ', ':', '.', '[']);
    words
        .filter(|w| w.chars().all(|c| c.is_ascii_alphabetic() || " :.[(".contains(c)))
        .take(12)
        .collect()
}

impl Fuzz {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("rootfs/etc")).unwrap();
        for file in ["hosts", "resolv.conf"] {
            std::fs::write(dir.path().join(file), "").unwrap();
        }
        let documents: Vec<Value> = FIXTURES.map(|text| serde_json::from_str(text).unwrap()).into();
        let container = documents[6]["process"].to_string();
        let container = bundle::parse_process(&container).unwrap();
        let profile = |name| serde_json::from_str(builtin(name)?).unwrap();
        Fuzz {
            dir,
            configs: Corpus::new(documents),
            profiles: ["default", "strict"].into_iter().filter_map(profile).collect(),
            container: ProcessPlan::build(&container, "config.json: process").unwrap(),
            random: Random::new(0),
        }
    }

    fn choose(&mut self) -> (&'static str, Case) {
        let mut at = self.random.below(SHARES.iter().sum());
        for (case, share) in CASES.into_iter().zip(SHARES) {
            match at.checked_sub(share) {
                None => return case,
                Some(rest) => at = rest,
            }
        }
        unreachable!("below the sum");
    }

    /// A changed document; or the part of one that `pointer` names.
    fn document(&mut self, pointer: &str) -> Value {
        let Fuzz { configs, random, .. } = self;
        let mut document = loop {
            match configs.document(random).pointer(pointer) {
                Some(part) => break part.clone(),
                None => continue,
            }
        };
        if pointer.is_empty() && random.one_in(40) && !self.profiles.is_empty() {
            document["linux"]["seccomp"] = random.pick(&self.profiles).clone();
        }
        // One change shows what a check is for, many get around it.
        for _ in 0..*random.pick(&[1, 1, 1, 2, 2, 3, 5, 12]) {
            configs.mutate("", &mut document, random);
        }
        document
    }

    /// Its text, now and then damaged. Not always UTF-8.
    fn text(&mut self, pointer: &str) -> Vec<u8> {
        let mut text = self.document(pointer).to_string().into_bytes();
        if self.random.one_in(6) {
            for _ in 0..=self.random.below(3) {
                mutate_bytes(&mut text, &mut self.random);
            }
        }
        text
    }

    fn flag(&mut self) -> Option<String> {
        self.random.one_in(3).then(|| self.configs.text(&mut self.random))
    }

    fn flags(&mut self) -> Vec<String> {
        (0..self.random.below(3)).map(|_| self.configs.text(&mut self.random)).collect()
    }
}

/// Changes the text of a document without a thought of what it means.
fn mutate_bytes(bytes: &mut Vec<u8>, random: &mut Random) {
    let at = random.below(bytes.len() + 1);
    let end = (at + 1 + random.below(40)).min(bytes.len());
    match random.below(10) {
        0 => bytes.truncate(at),
        1 => bytes.splice(0..0, *b"\xef\xbb\xbf").for_each(drop),
        2 => bytes
            .insert(at, *random.pick(&[0, 0xff, 0xc3, 0x80, b'"', b'{', b']', b',', b'\\', b'\n'])),
        3 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
        4 => bytes.drain(at..end.max(at)).for_each(drop),
        5 => {
            let copy = bytes[at..end.max(at)].to_vec();
            bytes.splice(at..at, copy).for_each(drop);
        }
        6 => bytes
            .splice(
                at..at,
                random
                    .pick(&["1e999", "-0", "\\ud800", "\\u0000", "NaN", "//", "'", "01", "\"a\":"])
                    .bytes(),
            )
            .for_each(drop),
        7 => bytes
            .splice(
                at..at,
                random.pick(&["[", "{\"a\":", "("]).repeat(random.below(400)).into_bytes(),
            )
            .for_each(drop),
        8 => bytes.extend_from_slice(random.pick(&["\0", "{}", " x", "}", "\n\n"]).as_bytes()),
        _ => bytes.splice(at..at, *b"\"process\":{},\"linux\":{\"namespaces\":[]},").for_each(drop),
    }
}

/// A refusal, judged: one clear message that begins with one of `files`.
fn refused(error: &Error, files: &[&str], fields: &[&str]) -> Result<End, String> {
    let text = render(error);
    let complain =
        |what: &str| Err(format!("{what}: {}", text.chars().take(600).collect::<String>()));
    if let Some(c) = text.chars().find(|c| c.is_control() && *c != '\n') {
        return complain(&format!("control character {c:?}"));
    }
    if text.len() > 256 << 10 {
        return complain("a message of more than 256 KiB");
    }
    if !matches!(kind(error), Kind::BadInput | Kind::Unsupported) {
        return complain(&format!("kind {:?}", kind(error)));
    }
    if text.ends_with(": ") {
        return complain("a message without a reason");
    }
    let line = render_line(error);
    let Some(rest) = files.iter().find_map(|file| line.strip_prefix(file)) else {
        return complain("no file named");
    };
    if fields.is_empty() {
        return Ok(End::Refused);
    }
    let whole =
        [": invalid JSON: ", ": must be a JSON object", ": not UTF-8 at byte ", ": larger than "];
    if whole.iter().any(|words| rest.starts_with(words)) {
        return Ok(End::Refused);
    }
    // One fault on the line of the file, or several on lines of their own.
    let faults: Vec<&str> = match rest.strip_prefix(": ") {
        Some(fault) => vec![fault],
        None if rest.starts_with(" has ") => text
            .lines()
            .skip(1)
            .filter_map(|l| l.strip_prefix("  "))
            .filter(|l| !l.starts_with("hint: ") && !l.starts_with("and "))
            .collect(),
        None => return complain("no field named"),
    };
    let named = |fault: &&str| {
        fields.iter().any(|field| {
            fault.strip_prefix(field).is_some_and(|rest| rest.starts_with([':', '.', '[', ' ']))
        })
    };
    match faults.iter().find(|fault| !named(fault)) {
        Some(fault) => complain(&format!(
            "no field named in {:?}",
            fault.chars().take(200).collect::<String>()
        )),
        None => Ok(End::Refused),
    }
}

const CONFIG_FIELDS: [&str; 9] = [
    "ociVersion",
    "process",
    "root",
    "hostname",
    "domainname",
    "mounts",
    "hooks",
    "annotations",
    "linux",
];
const PROCESS_FIELDS: [&str; 16] = [
    "terminal",
    "consoleSize",
    "user",
    "args",
    "env",
    "cwd",
    "capabilities",
    "rlimits",
    "noNewPrivileges",
    "apparmorProfile",
    "selinuxLabel",
    "oomScoreAdj",
    "ioPriority",
    "scheduler",
    "execCPUAffinity",
    "commandLine",
];
const RESOURCE_FIELDS: [&str; 9] =
    ["devices", "memory", "cpu", "pids", "blockIO", "hugepageLimits", "network", "rdma", "unified"];

const UPDATE_FLAGS: [&str; 12] = [
    "--blkio-weight",
    "--cpu-burst",
    "--cpu-idle",
    "--cpu-period",
    "--cpu-quota",
    "--cpu-share",
    "--cpuset-cpus",
    "--cpuset-mems",
    "--memory",
    "--memory-reservation",
    "--memory-swap",
    "--pids-limit",
];

/// Reading the text of a file as [`bundle::load`] does.
fn utf8(text: Vec<u8>) -> Result<String, End> {
    String::from_utf8(text).map_err(|_| End::Refused)
}

fn config(fuzz: &mut Fuzz) -> Result<End, String> {
    let text = fuzz.text("");
    let path = fuzz.dir.path().join("config.json");
    std::fs::write(&path, &text).unwrap();
    let build = || -> Result<()> {
        let bundle = bundle::load(fuzz.dir.path())?;
        validate::container(&bundle.spec, &bundle.dir)?;
        let plan = ContainerPlan::build(&bundle.spec, "id", &bundle.dir, false)?;
        let cgroups_path = bundle.spec.linux().as_ref().and_then(|l| l.cgroups_path().as_deref());
        CgroupPlan::build(&hierarchies()?, cgroups_path, "id")?;
        // What goes into the state directory comes back as it was.
        again(&plan.resources);
        again(&plan.hooks);
        if let Some(filter) = &plan.seccomp {
            again::<SeccompPlan>(filter);
        }
        plan.state_json("created", 1);
        Ok(())
    };
    match build() {
        Ok(()) => Ok(End::Accepted),
        Err(error) => {
            let path = path.to_str().unwrap();
            let unread = format!("cannot read {path}");
            refused(&error, &["config.json", path, &unread], &CONFIG_FIELDS)
        }
    }
}

fn again<T: serde::Serialize + serde::de::DeserializeOwned + PartialEq + std::fmt::Debug>(
    plan: &T,
) {
    let text = serde_json::to_string(plan).unwrap();
    assert_eq!(&serde_json::from_str::<T>(&text).unwrap(), plan);
}

fn process(fuzz: &mut Fuzz) -> Result<End, String> {
    let Ok(text) = utf8(fuzz.text("/process")) else { return Ok(End::Refused) };
    let build = || {
        let process = bundle::parse_process(&text)?;
        validate::process(&process, "process.json")?;
        ProcessPlan::from_process_json(&fuzz.container, &process)
    };
    match build() {
        Ok(_) => Ok(End::Accepted),
        Err(error) => refused(&error, &["process.json"], &PROCESS_FIELDS),
    }
}

fn resources(fuzz: &mut Fuzz) -> Result<End, String> {
    let Ok(text) = utf8(fuzz.text("/linux/resources")) else { return Ok(End::Refused) };
    let build = || {
        let resources = bundle::parse_resources(&text)?;
        validate::resources(&resources, "resources", &str::to_owned)?;
        let newer = ResourcesPlan::build(Some(&resources))?;
        let mut merged = newer.clone();
        merged.merge_update(&newer);
        again(&merged);
        Ok(())
    };
    match build() {
        Ok(()) => Ok(End::Accepted),
        Err(error) => refused(&error, &["resources"], &RESOURCE_FIELDS),
    }
}

fn exec_flags(fuzz: &mut Fuzz) -> Result<End, String> {
    let args = fuzz.flags();
    let (mut env, mut caps) = (fuzz.flags(), fuzz.flags());
    if fuzz.random.one_in(2) {
        env.iter_mut().for_each(|text| text.insert_str(0, "A="));
        caps = vec!["CAP_CHOWN".to_owned(), "kill".to_owned()];
    }
    let user = match fuzz.random.below(4) {
        0 => Some("1000:1000".to_owned()),
        1 => Some(format!("{}:{}", fuzz.random.below(9), fuzz.configs.text(&mut fuzz.random))),
        _ => fuzz.flag(),
    };
    let (cwd, process_label, apparmor) = (fuzz.flag(), fuzz.flag(), fuzz.flag());
    let flags = ExecFlags {
        args: &args,
        cwd: cwd.as_deref().map(Path::new),
        env: &env,
        user: user.as_deref(),
        additional_gids: &[5, u32::MAX - fuzz.random.below(2) as u32],
        process_label: process_label.as_deref(),
        apparmor: apparmor.as_deref(),
        caps: &caps,
        ..ExecFlags::default()
    };
    match ProcessPlan::from_flags(&fuzz.container, &flags) {
        Ok(plan) if plan.user.uid == u32::MAX || plan.user.gid == u32::MAX => {
            Err("-1 is an id".into())
        }
        Ok(plan) if plan.user.additional_gids.contains(&u32::MAX) => Err("-1 is a group".into()),
        Ok(plan)
            if plan
                .selinux_label
                .iter()
                .chain(&plan.apparmor_profile)
                .any(|l| l.contains(['\0', '\n'])) =>
        {
            Err("a label of two lines".into())
        }
        Ok(_) => Ok(End::Accepted),
        Err(error) => refused(
            &error,
            &[
                "the command: ",
                "--cwd",
                "--env",
                "--user",
                "--cap",
                "--process-label",
                "--apparmor",
                "--additional-gids",
            ],
            &[],
        ),
    }
}

fn update_flags(fuzz: &mut Fuzz) -> Result<End, String> {
    let mut flag = || {
        let number = fuzz.random.one_in(2).then(|| fuzz.random.below(1 << 20).to_string());
        fuzz.random.one_in(4).then(|| number.unwrap_or_else(|| fuzz.configs.text(&mut fuzz.random)))
    };
    let args = UpdateArgs {
        id: "nosuch".to_owned(),
        blkio_weight: flag(),
        cpu_period: flag(),
        cpu_quota: flag(),
        cpu_burst: flag(),
        cpu_share: flag(),
        cpu_idle: flag(),
        cpuset_cpus: flag(),
        cpuset_mems: flag(),
        memory: flag(),
        memory_reservation: flag(),
        memory_swap: flag(),
        pids_limit: flag(),
        ..UpdateArgs::default()
    };
    // Everything is read before the container is looked for.
    match update::update(fuzz.dir.path(), &args) {
        Ok(()) => Err("a container that is not there was updated".into()),
        Err(error) if kind(&error) == Kind::NotFound => Ok(End::Accepted),
        Err(error) if render(&error).starts_with("error: --") => refused(&error, &["--"], &[]),
        // A field goes by its flag.
        Err(error) => refused(&error, &["update: resources", "update"], &UPDATE_FLAGS),
    }
}

const LINES: &[&str] = &[
    "create --bundle b --pid-file p c",
    "run -d --no-pivot c",
    "exec -t -u 0:0 -e A=b c sh -c x",
    "exec --process p.json -d c",
    "kill c KILL",
    "kill --all c 9",
    "delete --force c",
    "state c",
    "list -q",
    "ps c -ef",
    "update --memory 5 c",
    "events --stats --interval 1s c",
    "spec --bundle x",
    "features",
    "--root r --log l --log-format json --debug start c",
    "--version",
    "--help",
    "",
];

fn command_line(fuzz: &mut Fuzz) -> Result<End, String> {
    let mut words: Vec<String> = fuzz.random.pick(LINES).split(' ').map(str::to_owned).collect();
    words.insert(0, "corten".to_owned());
    for _ in 0..fuzz.random.below(3) {
        let at = fuzz.random.below(words.len());
        let word = match fuzz.random.below(3) {
            0 => fuzz.configs.text(&mut fuzz.random),
            1 => format!("--{}", fuzz.configs.text(&mut fuzz.random)),
            _ => fuzz.random.pick(LINES).split(' ').next().unwrap().to_owned(),
        };
        match fuzz.random.below(3) {
            0 => words[at] = word,
            1 => words.insert(at, word),
            _ => drop(words.remove(at)),
        }
        if words.is_empty() {
            break;
        }
    }
    match cli::parse(words.iter().map(Into::into)) {
        Parsed::Wrong(text, _) if text.trim().is_empty() => Err("no reason given".into()),
        Parsed::Wrong(..) => Ok(End::Refused),
        _ => Ok(End::Accepted),
    }
}

fn names(fuzz: &mut Fuzz) -> Result<End, String> {
    let text = fuzz.configs.text(&mut fuzz.random);
    if fuzz.random.one_in(2) {
        return match validate::container_id(&text) {
            Ok(()) if text.contains(['/', '\0']) || text.len() > 255 || text == ".." => {
                Err(format!("{text:?} is no id"))
            }
            Ok(()) => Ok(End::Accepted),
            Err(error) => refused(&error, &["invalid container ID format: "], &[]),
        };
    }
    let hosts = hierarchies().map_err(|e| render(&e))?;
    match CgroupPlan::build(&hosts, Some(Path::new(&text)), "id") {
        Ok(plan) => {
            let out = plan.groups.iter().find(|group| {
                !group.path.starts_with(&group.mountpoint)
                    || group.path == group.mountpoint
                    || group.path.components().any(|c| c.as_os_str() == "..")
            });
            out.map_or(Ok(End::Accepted), |group| {
                Err(format!("{text:?} leads to {}", group.path.display()))
            })
        }
        Err(error) => refused(&error, &["config.json"], &CONFIG_FIELDS),
    }
}

/// The judge itself: what it is there to find it does find.
#[test]
fn unclear_errors_are_seen() {
    use corten::error::Fault;
    let judge = |text: &str| {
        let error = Error::from(Fault::bad_input(text));
        refused(&error, &["config.json"], &CONFIG_FIELDS).is_ok()
    };
    for good in [
        "config.json: process.cwd: required",
        "config.json: invalid JSON: x",
        "config.json: mounts[3].source: no",
        "config.json has 2 faults:\n  root: required\n  linux.sysctl.a b: no",
    ] {
        assert!(judge(good), "{good}");
    }
    for bad in [
        "process.cwd: required",
        "config.json: required",
        "config.json: cwd: x",
        "config.json: process.cwd: ",
        "config.json: process: \u{1b}",
        "config.json has 2 faults:\n  root: required\n  no: 5",
    ] {
        assert!(!judge(bad), "{bad}");
    }
    let plain = Error::msg("config.json: process.cwd: x");
    assert!(refused(&plain, &["config.json"], &CONFIG_FIELDS).is_err(), "no kind");
    assert_eq!(json!(HooksPlan::default()).as_object().map(|o| o.len()), Some(6));
}
