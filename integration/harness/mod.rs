//! What the tests share: a bundle, a container, a terminal, the cgroup trees, and the runner.
//!
//! A test is a function that panics when something is not as it should be. It runs in a process
//! of its own, so that whatever it leaves behind can be found, blamed and removed.

pub mod bundle;
pub mod cgroup;
pub mod command;
pub mod container;
pub mod fds;
pub mod leftovers;
pub mod pty;
pub mod runner;

pub use bundle::Bundle;
pub use command::{Output, Run};
pub use container::Container;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// One test: what the runner lists, runs and counts.
#[derive(Clone, Copy)]
pub struct Test {
    /// `module::function`.
    pub module: &'static str,
    pub function: &'static str,
    pub run: fn(&Context),
    /// What must be so for the test to say anything.
    pub needs: &'static [Need],
    /// Seconds after which it counts as hung.
    pub timeout: u64,
}

impl Test {
    pub const fn needs(mut self, needs: &'static [Need]) -> Test {
        self.needs = needs;
        self
    }

    pub const fn timeout(mut self, seconds: u64) -> Test {
        self.timeout = seconds;
        self
    }

    pub fn name(&self) -> String {
        let module = self.module.trim_start_matches("integration::");
        format!("{module}::{}", self.function)
    }
}

/// Puts a function into a module's list of tests.
#[macro_export]
macro_rules! test {
    ($function:ident) => {
        $crate::harness::Test {
            module: module_path!(),
            function: stringify!($function),
            run: $function,
            needs: &[],
            timeout: 60,
        }
    };
}

/// What a test needs from the runtime or the machine.
#[derive(Clone, Copy)]
pub enum Need {
    /// The control runtime cannot pass it, for this reason; Corten must.
    CortenOnly(&'static str),
    /// A cgroup v1 hierarchy with this controller.
    V1(&'static str),
    /// Pure cgroup v2 with this controller.
    V2(&'static str),
    /// A program that `scripts/setup --tests` installs.
    Program(&'static str),
    /// A capability by number that this machine may withhold even from root.
    Capability(u8, &'static str),
    /// A file that the kernel shows only with the feature.
    Kernel(&'static str),
}

impl Need {
    /// Why the test cannot run here, and whether the machine excuses that.
    pub fn missing(&self, runtime: &Runtime) -> Option<(String, bool)> {
        match *self {
            Need::CortenOnly(why) => {
                let excused = !runtime.is_corten() && std::env::var_os("CORTEN_ALL").is_none();
                excused.then(|| (format!("{} cannot: {why}", runtime.name), true))
            }
            Need::V1(controller) => cgroup::v1(controller)
                .is_none()
                .then(|| (format!("no cgroup v1 hierarchy with {controller}"), true)),
            Need::V2(controller) => (!cgroup::pure_v2_has(controller))
                .then(|| (format!("no pure cgroup v2 with {controller}"), true)),
            Need::Program(program) => {
                (!has_program(program)).then(|| (format!("{program} is not installed"), false))
            }
            Need::Capability(number, name) => {
                (!has_capability(number)).then(|| (format!("this machine withholds {name}"), true))
            }
            Need::Kernel(path) => {
                (!Path::new(path).exists()).then(|| (format!("this kernel has no {path}"), true))
            }
        }
    }
}

fn has_program(program: &str) -> bool {
    ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"]
        .iter()
        .any(|dir| Path::new(dir).join(program).exists())
}

fn has_capability(number: u8) -> bool {
    let effective = proc_status("self", "CapEff").unwrap_or_default();
    u64::from_str_radix(&effective, 16).is_ok_and(|set| set & (1 << number) != 0)
}

/// The binary under test.
#[derive(Debug, Clone)]
pub struct Runtime {
    pub path: PathBuf,
    /// First word of `--version`: corten, runc, crun.
    pub name: String,
}

impl Runtime {
    /// `CORTEN_RUNTIME`, else the release build, else the one that cargo built for this test.
    pub fn find() -> Runtime {
        let built = PathBuf::from(env!("CARGO_BIN_EXE_corten"));
        let release = built.ancestors().nth(2).map(|target| target.join("release/corten"));
        let path = std::env::var_os("CORTEN_RUNTIME")
            .map(PathBuf::from)
            .or(release.filter(|path| path.exists()))
            .unwrap_or(built);
        let version = std::process::Command::new(&path).arg("--version").output();
        let version = version.unwrap_or_else(|e| panic!("cannot run {}: {e}", path.display()));
        let text = String::from_utf8_lossy(&version.stdout).into_owned();
        let name = text.split_whitespace().next().unwrap_or("corten").to_string();
        Runtime { path, name }
    }

    pub fn is_corten(&self) -> bool {
        self.name == "corten"
    }
}

/// What a test is given: its directory, its cgroup, the runtime.
pub struct Context {
    /// Empty at the start, removed at the end.
    pub dir: PathBuf,
    /// The root file system that bundles copy.
    pub base: PathBuf,
    /// The cgroup of the test in every hierarchy, as an absolute path in it.
    pub cgroup: String,
    pub runtime: Runtime,
    counter: AtomicUsize,
}

impl Context {
    pub fn new(dir: PathBuf, base: PathBuf, cgroup: String, runtime: Runtime) -> Context {
        Context { dir, base, cgroup, runtime, counter: AtomicUsize::new(0) }
    }

    /// A number that no other call in this test got.
    pub fn next(&self) -> usize {
        self.counter.fetch_add(1, Ordering::Relaxed)
    }

    /// The state directory (`--root`).
    pub fn state_root(&self) -> PathBuf {
        self.dir.join("state")
    }

    /// A command on the runtime, with the private `--root`.
    pub fn runtime(&self) -> Run<'_> {
        Run::new(self, &self.runtime.path).arg("--root").arg(self.state_root())
    }

    /// A program of the host.
    pub fn host(&self, program: impl AsRef<Path>) -> Run<'_> {
        Run::new(self, program.as_ref())
    }

    /// A shell script on the host; must succeed; its trimmed output.
    #[track_caller]
    pub fn sh(&self, script: &str) -> String {
        self.host("/bin/sh").args(["-euc", script]).output().ok()
    }

    /// A bundle with the default configuration, writable root, no terminal.
    pub fn bundle(&self) -> Bundle<'_> {
        Bundle::new(self)
    }

    /// A path in the test's directory, not yet used.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{}-{name}", self.next()))
    }
}

/// One field of /proc/PID/status, trimmed; `pid` may be `self`.
pub fn proc_status(pid: impl std::fmt::Display, field: &str) -> Option<String> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status_field(&text, field)
}

/// One field of a status file's text.
pub fn status_field(text: &str, field: &str) -> Option<String> {
    text.lines().find_map(|line| Some(line.strip_prefix(field)?.strip_prefix(':')?.trim().into()))
}

/// A time limit of so many seconds, longer where `CORTEN_TEST_PATIENCE` says that all is slow.
pub fn limit(seconds: u64) -> Duration {
    let patience = std::env::var("CORTEN_TEST_PATIENCE").ok().and_then(|n| n.parse().ok());
    Duration::from_secs(seconds * patience.unwrap_or(1))
}

/// Asks again until it is so; panics with `what` after `seconds`.
#[track_caller]
pub fn wait_for(what: &str, seconds: u64, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + limit(seconds);
    while !is_so() {
        assert!(Instant::now() < end, "waited {seconds} s in vain for: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// `needle` must be in `text`; shows both when it is not.
#[track_caller]
pub fn contains(text: &str, needle: &str) {
    assert!(text.contains(needle), "expected {needle:?} in:\n{text}");
}
