//! Runs the tests, each in a process of its own with its own cgroup, mount namespace and
//! directory, and counts. The runner itself never leaves its cgroup.

use super::bundle::make_base;
use super::{Context, Runtime, Test, cgroup, leftovers};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use std::collections::VecDeque;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// What came of a test.
enum Outcome {
    Passed,
    Failed(String),
    Skipped(String),
}

/// First argument of the process that runs one test.
const ONE: &str = "--run-one-test";

pub fn main(tests: &[Test]) -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [first, name, dir, base, group] = args.as_slice()
        && first == ONE
        && let Some(test) = tests.iter().find(|t| t.name() == *name)
    {
        return run_here(test, Path::new(dir), Path::new(base), group);
    }
    // As with cargo's own test runner, of whose options this knows only --list and --skip=NAME.
    let list = args.iter().any(|a| a == "--list");
    let filters: Vec<&String> = args.iter().filter(|a| !a.starts_with("--")).collect();
    let left_out: Vec<&str> = args.iter().filter_map(|a| a.strip_prefix("--skip=")).collect();
    let chosen = |test: &&Test| {
        let name = test.name();
        (filters.is_empty() || filters.iter().any(|f| name.contains(f.as_str())))
            && !left_out.iter().any(|part| name.contains(part))
    };
    let tests: Vec<Test> = tests.iter().filter(chosen).copied().collect();
    if list {
        tests.iter().for_each(|test| println!("{}: test", test.name()));
        return ExitCode::SUCCESS;
    }
    if !nix::unistd::geteuid().is_root() {
        eprintln!("the integration tests make real containers: they need root");
        return ExitCode::FAILURE;
    }
    run_all(tests)
}

fn run_all(tests: Vec<Test>) -> ExitCode {
    let _ = nix::sys::prctl::set_child_subreaper(true);
    let runtime = Runtime::find();
    println!("{} tests of {}", tests.len(), runtime.path.display());
    let work = std::env::temp_dir().join(format!("corten-test-{}", std::process::id()));
    fs::create_dir_all(&work).unwrap();
    make_base(&work.join("base"));
    let jobs = std::env::var("CORTEN_TEST_JOBS").ok().and_then(|n| n.parse().ok()).unwrap_or(2);
    let queue: Mutex<VecDeque<Test>> = Mutex::new(tests.into());
    let results = Mutex::new([0, 0, 0]);
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                while let Some(test) = { queue.lock().unwrap().pop_front() } {
                    let started = Instant::now();
                    let outcome = run_one(&test, &work, &runtime);
                    let seconds = started.elapsed().as_secs_f64();
                    let (line, column) = match outcome {
                        Outcome::Passed => (format!("ok      {} ({seconds:.2} s)", test.name()), 0),
                        Outcome::Failed(why) => {
                            failures.lock().unwrap().push(test.name());
                            let why = why.trim_end().replace('\n', "\n        ");
                            (format!("FAILED  {} ({seconds:.2} s)\n        {why}", test.name()), 1)
                        }
                        Outcome::Skipped(why) => (format!("skipped {}: {why}", test.name()), 2),
                    };
                    println!("{line}");
                    results.lock().unwrap()[column] += 1;
                }
            });
        }
    });
    let _ = cgroup::remove(&run_cgroup());
    let _ = fs::remove_dir_all(&work);
    for name in failures.lock().unwrap().iter() {
        println!("failed: {name}");
    }
    let [passed, failed, skipped] = *results.lock().unwrap();
    println!("{passed} passed, {failed} failed, {skipped} skipped");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn run_cgroup() -> String {
    format!("/corten-test-{}", std::process::id())
}

/// Runs one test in a process of its own, and cleans up after it whatever it did.
fn run_one(test: &Test, work: &Path, runtime: &Runtime) -> Outcome {
    let must_run = std::env::var_os("CORTEN_MUST_RUN").is_some_and(|v| v == "1");
    for need in test.needs {
        match need.missing(runtime) {
            Some((why, excused)) if excused || !must_run => return Outcome::Skipped(why),
            Some((why, _)) => return Outcome::Failed(format!("must run, but {why}")),
            None => {}
        }
    }
    let name = test.name().replace("::", "-");
    let group = format!("{}/{name}", run_cgroup());
    let dir = work.join(&name);
    let log = work.join(format!("{name}.log"));
    fs::create_dir_all(&dir).unwrap();
    if let Err(e) = cgroup::make(&group) {
        return Outcome::Failed(format!("cannot make the cgroup {group}: {e}"));
    }
    let output = File::create(&log).unwrap();
    let child = Command::new(std::env::current_exe().unwrap())
        .args([ONE, &test.name()])
        .args([&dir, &work.join("base"), &PathBuf::from(&group)])
        .env("CORTEN_RUNTIME", &runtime.path)
        .env("RUST_BACKTRACE", "0")
        .stdin(Stdio::null())
        .stdout(output.try_clone().unwrap())
        .stderr(output)
        .spawn()
        .unwrap();
    let outcome = wait(child, test.timeout, &log);
    let removed = cgroup::remove(&group);
    let _ = fs::remove_dir_all(&dir);
    match outcome {
        Outcome::Passed if !removed => Outcome::Failed(format!("cannot remove {group}")),
        other => other,
    }
}

fn wait(mut child: Child, seconds: u64, log: &Path) -> Outcome {
    let text = || String::from_utf8_lossy(&fs::read(log).unwrap_or_default()).into_owned();
    let end = Instant::now() + super::limit(seconds);
    loop {
        match child.try_wait().unwrap() {
            Some(status) if status.success() => return Outcome::Passed,
            Some(status) => return Outcome::Failed(format!("{status}\n{}", text())),
            None if Instant::now() > end => {
                let _ = child.kill();
                let _ = child.wait();
                return Outcome::Failed(format!("hung for {seconds} s\n{}", text()));
            }
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    }
}

/// The process of one test. Still single-threaded, so it may leave the mount namespace.
fn run_here(test: &Test, dir: &Path, base: &Path, group: &str) -> ExitCode {
    cgroup::enter(group).unwrap();
    nix::sys::prctl::set_child_subreaper(true).unwrap();
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
    // As on a host with systemd: all shared, so that a mount that escapes is seen; but only here.
    for flags in [MsFlags::MS_PRIVATE, MsFlags::MS_SHARED] {
        mount(None::<&str>, "/", None::<&str>, flags | MsFlags::MS_REC, None::<&str>).unwrap();
    }
    let context = Context::new(dir.into(), base.into(), group.into(), Runtime::find());
    let before = leftovers::before();
    (test.run)(&context);
    let left = before.left(&context);
    if left.is_empty() {
        return ExitCode::SUCCESS;
    }
    println!("left behind:\n{}", left.join("\n"));
    ExitCode::FAILURE
}
