//! Host commands with a time limit. Output goes to files, not pipes: a container that keeps the
//! stdout of its runtime must not hold the test.

use super::{Context, leftovers};
use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// A command being put together.
pub struct Run<'a> {
    context: &'a Context,
    command: Command,
    seconds: u64,
    out: Option<PathBuf>,
}

impl<'a> Run<'a> {
    pub fn new(context: &'a Context, program: &Path) -> Self {
        let mut command = Command::new(program);
        command.stdin(Stdio::null()).current_dir(&context.dir);
        Run { context, command, seconds: 30, out: None }
    }

    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    pub fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.command.args(args);
        self
    }

    pub fn stdin(mut self, stdin: impl Into<Stdio>) -> Self {
        self.command.stdin(stdin);
        self
    }

    /// Text for the command's stdin, from a file.
    pub fn input(self, text: impl AsRef<[u8]>) -> Self {
        let path = self.context.path("stdin");
        std::fs::write(&path, text).unwrap();
        self.stdin(File::open(path).unwrap())
    }

    pub fn dir(mut self, dir: impl AsRef<Path>) -> Self {
        self.command.current_dir(dir);
        self
    }

    /// Where stdout and stderr (the name with `.err`) go, when a test wants to look at them later.
    pub fn out(mut self, path: PathBuf) -> Self {
        self.out = Some(path);
        self
    }

    pub fn seconds(mut self, seconds: u64) -> Self {
        self.seconds = seconds;
        self
    }

    /// Starts it and does not wait.
    #[track_caller]
    pub fn spawn(mut self) -> Running {
        let out = self.out.take().unwrap_or_else(|| self.context.path("out"));
        let err = with_suffix(&out, ".err");
        self.command.stdout(File::create(&out).unwrap()).stderr(File::create(&err).unwrap());
        let text = format!("{:?}", self.command);
        let child = self.command.spawn().unwrap_or_else(|e| panic!("cannot run {text}: {e}"));
        leftovers::awaited(child.id() as i32);
        Running { child, text, out, err, seconds: self.seconds, done: false }
    }

    /// Runs it to the end.
    #[track_caller]
    pub fn output(self) -> Output {
        self.spawn().wait()
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// A started command; killed when dropped unfinished.
pub struct Running {
    pub child: Child,
    text: String,
    pub out: PathBuf,
    err: PathBuf,
    seconds: u64,
    done: bool,
}

impl Running {
    pub fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    pub fn signal(&self, signal: nix::sys::signal::Signal) {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.pid()), signal).unwrap();
    }

    /// Waits within the time limit.
    #[track_caller]
    pub fn wait(mut self) -> Output {
        let end = Instant::now() + super::limit(self.seconds);
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                self.done = true;
                return Output {
                    text: std::mem::take(&mut self.text),
                    status,
                    stdout: read_lossy(&self.out),
                    stderr: read_lossy(&self.err),
                };
            }
            assert!(Instant::now() < end, "hung for {} s: {}", self.seconds, self.text);
            leftovers::reap();
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.done {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        leftovers::no_longer_awaited(self.pid());
    }
}

fn read_lossy(path: &Path) -> String {
    let mut bytes = Vec::new();
    File::open(path).and_then(|mut file| file.read_to_end(&mut bytes)).unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// What a command left: its status and texts.
pub struct Output {
    text: String,
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

impl Output {
    /// The exit code; 128 + signal where one killed it.
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or_else(|| 128 + self.status.signal().unwrap_or(0))
    }

    /// Must have exited with 0; the trimmed stdout.
    #[track_caller]
    pub fn ok(self) -> String {
        self.exits(0).stdout.trim_end().to_string()
    }

    /// Must have exited with `code`.
    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(self.code(), code, "exit code of {self}");
        self
    }

    /// Must have failed; its stderr.
    #[track_caller]
    pub fn fails(self) -> String {
        assert_ne!(self.code(), 0, "should have failed: {self}");
        self.stderr
    }
}

impl std::fmt::Display for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Output { text, stdout, stderr, .. } = self;
        write!(f, "{text}\n({})\n--- stdout\n{stdout}\n--- stderr\n{stderr}", self.code())
    }
}
