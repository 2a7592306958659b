//! The state directory: what is on record about each container, as `<root>/<id>/`.
//!
//! `mkdir` claims the id, a lock on the directory serialises the commands that change one
//! container, and files are written under a temporary name and renamed: at any instant a reader
//! sees a whole record, and `delete` can undo what is on record. A process id counts only
//! together with its start time.

pub mod gate;

use std::collections::BTreeMap;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag, openat, renameat};
use nix::sys::stat::{Mode, fstat};
use nix::unistd::{Pid, Uid, UnlinkatFlags, unlinkat};
use serde::{Deserialize, Serialize};

use crate::cgroups::CgroupPlan;
use crate::error::{Context, Fault, Kind, Result};
use crate::plan::hooks::HooksPlan;
use crate::plan::resources::ResourcesPlan;
use crate::rdt::RdtGroup;
use crate::sys::process::pidfd_open;

/// The record itself.
const STATE: &str = "state.json";
/// config.json as it was at `create`.
pub const CONFIG: &str = "config.json";
/// The compiled seccomp filter, for `exec`.
pub const SECCOMP: &str = "seccomp.bpf";

/// How long a command waits for another one on the same container.
const LOCK_WAIT: Duration = Duration::from_secs(10);
/// No file of ours is larger; a larger one is not ours.
const MAX_FILE: u64 = 64 << 20;

/// What is recorded before and after the parts of a container are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// `create` is at work, or died at work.
    Creating,
    /// `create` is done.
    Created,
}

/// The status of a container (spec runtime.md "State"), with `paused` as runc has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // the names say it
pub enum Status {
    Creating,
    Created,
    Running,
    Paused,
    Stopped,
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Status::Creating => "creating",
            Status::Created => "created",
            Status::Running => "running",
            Status::Paused => "paused",
            Status::Stopped => "stopped",
        })
    }
}

/// `state.json`, with runc's names where it has them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// `ociVersion` of config.json.
    pub oci_version: String,
    /// The container's id.
    pub id: String,
    /// Absolute path of the bundle.
    pub bundle: PathBuf,
    /// Absolute path of the root filesystem.
    pub rootfs: PathBuf,
    /// `annotations` of config.json.
    pub annotations: BTreeMap<String, String>,
    /// Init's process id in the runtime's pid namespace; 0 until there is one.
    pub init_process_pid: i32,
    /// Init's start time, field 22 of /proc/PID/stat.
    pub init_process_start: u64,
    /// When `create` began, RFC 3339 with nanoseconds.
    pub created: String,
    /// User id that ran `create`.
    pub owner: u32,
    /// See [`Phase`].
    pub phase: Phase,
    /// Its control groups, as planned.
    pub cgroup: CgroupPlan,
    /// Its groups in resctrl, as planned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rdt: Option<RdtGroup>,
    /// The limits in force, with what `update` changed.
    pub resources: ResourcesPlan,
    /// Each namespace of its own by its name in config.json, with the path of a joined one.
    pub namespaces: BTreeMap<String, PathBuf>,
    /// Mounts made in the host's mount namespace, in the order in which they were made.
    pub host_mounts: Vec<PathBuf>,
    /// The hooks that `start` and `delete` run.
    pub hooks: HooksPlan,
    /// False with `--no-new-keyring`: `exec` makes none either.
    pub new_keyring: bool,
    /// False for a config without `process`, which cannot be started.
    pub has_process: bool,
}

impl State {
    /// True when the end of init ends every process of the container.
    pub fn has_private_pids(&self) -> bool {
        self.namespaces.get("pid").is_some_and(|path| path.as_os_str().is_empty())
    }

    /// The state of the OCI spec as one line of JSON, as hooks get it; `pid` 0 is left out.
    pub fn oci_json(&self, status: Status, pid: i32) -> String {
        let status = status.to_string();
        crate::plan::state_json(&self.id, &status, pid, &self.bundle, &self.annotations)
    }

    /// True while init, and no later process with its number, lives.
    pub fn init_is_alive(&self) -> bool {
        let process = Process::read(self.init_process_pid);
        process.is_some_and(|p| p.alive && p.start_time == self.init_process_start)
    }

    /// A descriptor of init that a reused number cannot mislead; `None` when init is gone.
    pub fn init_pidfd(&self) -> Result<Option<OwnedFd>> {
        if self.init_process_pid <= 0 {
            return Ok(None);
        }
        let pidfd = match pidfd_open(Pid::from_raw(self.init_process_pid)) {
            Ok(pidfd) => pidfd,
            Err(Errno::ESRCH | Errno::EINVAL) => return Ok(None),
            Err(errno) => {
                return Err(errno).with_context(|| {
                    format!("cannot open process {} (pidfd_open)", self.init_process_pid)
                });
            }
        };
        // Asked after the open: from here on the number cannot pass to another process unseen.
        Ok(self.init_is_alive().then_some(pidfd))
    }
}

/// What /proc/PID/stat says about a process (proc_pid_stat(5)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Process {
    /// Field 22, clock ticks after boot.
    pub start_time: u64,
    /// False for a zombie none of whose threads runs.
    pub alive: bool,
}

impl Process {
    /// `None` when there is no such process.
    pub fn read(pid: i32) -> Option<Self> {
        if pid <= 0 {
            return None;
        }
        Self::parse(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    fn parse(stat: &str) -> Option<Self> {
        // The name, field 2, may hold anything, also ")".
        let (_, rest) = stat.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        let field = |number: usize| fields.get(number.checked_sub(3)?).copied();
        let threads: u64 = field(20)?.parse().ok()?;
        let alive = match field(3)? {
            "X" | "x" => false,
            // The first thread may end before the others.
            "Z" => threads > 1,
            _ => true,
        };
        Some(Process { start_time: field(22)?.parse().ok()?, alive })
    }
}

/// Now, in UTC, as RFC 3339 with nanoseconds.
pub fn now() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let seconds = crate::logging::rfc3339(since.as_secs());
    format!("{}.{:09}Z", seconds.trim_end_matches('Z'), since.subsec_nanos())
}

/// The root directory when `--root` is not given: `/run/corten`, or one below
/// `$XDG_RUNTIME_DIR` for those who may not write there. True when it is the latter.
pub fn default_root() -> (PathBuf, bool) {
    let runtime_dir = std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty());
    match runtime_dir {
        Some(dir) if !Uid::effective().is_root() || is_mapped_root() => {
            (Path::new(&dir).join("corten"), true)
        }
        _ => (PathBuf::from("/run/corten"), false),
    }
}

/// Root of a user namespace that another user made, as Podman and `unshare -r` leave it.
fn is_mapped_root() -> bool {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let whole = ["0", "0", "4294967295"];
    !map.split_ascii_whitespace().eq(whole) && std::env::var_os("USER").is_none_or(|u| u != "root")
}

/// The directory of one container, opened.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    id: String,
    dir: OwnedFd,
}

/// While it lives, no other command changes the container.
#[derive(Debug)]
pub struct Lock(#[allow(dead_code)] Flock<OwnedFd>);

fn does_not_exist(id: &str) -> crate::error::Error {
    // containerd looks for the text before the colon.
    Fault::new(Kind::NotFound, format!("container does not exist: {id}")).into()
}

/// Ids are checked by the commands; here one must be a plain name, lest it leave the root.
fn container_path(root: &Path, id: &str) -> Result<PathBuf> {
    let plain = !matches!(id, "" | "." | "..") && !id.contains(['/', '\0']);
    if plain {
        Ok(root.join(id))
    } else {
        Err(Fault::bad_input(format!("invalid container ID format: {id:?}")).into())
    }
}

impl StateDir {
    /// Makes the directory, which claims the id, and locks it.
    pub fn claim(root: &Path, id: &str) -> Result<(Self, Lock)> {
        let path = container_path(root, id)?;
        make_root(root)?;
        let made = std::fs::DirBuilder::new().mode(0o700).create(&path);
        if made.as_ref().is_err_and(|e| e.kind() == std::io::ErrorKind::AlreadyExists) {
            let text = format!("container with given ID already exists: {id}");
            let hint = format!("choose another id, or remove it with `corten delete {id}`");
            return Err(Fault::new(Kind::Exists, text).hint(hint).into());
        }
        made.with_context(|| format!("cannot make the directory {}", path.display()))?;
        let dir = Self::open(root, id)?;
        let lock = dir.lock()?;
        Ok((dir, lock))
    }

    /// Opens the directory of an existing container.
    pub fn open(root: &Path, id: &str) -> Result<Self> {
        let path = container_path(root, id)?;
        let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_RDONLY;
        match nix::fcntl::open(&path, flags, Mode::empty()) {
            Ok(dir) => Ok(StateDir { path, id: id.to_owned(), dir }),
            Err(Errno::ENOENT | Errno::ENOTDIR) => Err(does_not_exist(id)),
            Err(errno) => Err(errno).with_context(|| format!("cannot open {}", path.display())),
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The container's id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The open directory.
    pub fn fd(&self) -> &OwnedFd {
        &self.dir
    }

    fn try_lock(&self) -> Result<Option<Lock>> {
        // A descriptor of its own: flock(2) locks belong to the open file, and a second lock
        // through the same one would not wait.
        let flags = OFlag::O_DIRECTORY | OFlag::O_CLOEXEC | OFlag::O_RDONLY;
        let own = match openat(&self.dir, ".", flags, Mode::empty()) {
            Err(Errno::ENOENT) => return Err(does_not_exist(&self.id)),
            own => own.with_context(|| format!("cannot open {}", self.path.display()))?,
        };
        match Flock::lock(own, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => Ok(Some(Lock(lock))),
            Err((_, Errno::EWOULDBLOCK | Errno::EINTR)) => Ok(None),
            Err((_, errno)) => {
                Err(errno).with_context(|| format!("cannot lock {}", self.path.display()))
            }
        }
    }

    /// Waits until no other command changes this container, at most some ten seconds.
    pub fn lock(&self) -> Result<Lock> {
        let start = Instant::now();
        let mut pause = Duration::from_millis(1);
        loop {
            if let Some(lock) = self.try_lock()? {
                // A delete may have removed it while we waited.
                let stat = fstat(&self.dir).context("cannot inspect the state directory")?;
                return if stat.st_nlink == 0 { Err(does_not_exist(&self.id)) } else { Ok(lock) };
            }
            if start.elapsed() > LOCK_WAIT {
                let text = format!("container {} is busy: another command works on it", self.id);
                return Err(Fault::new(Kind::WrongState, text).into());
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(50));
        }
    }

    /// Writes a file whole: a reader sees the old one or the new one.
    pub fn write_file(&self, name: &str, content: &[u8]) -> Result<()> {
        let temporary = format!("{name}.new");
        let written = (|| -> Result<()> {
            let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_TRUNC | OFlag::O_CLOEXEC;
            let fd = openat(&self.dir, temporary.as_str(), flags, Mode::from_bits_retain(0o600))?;
            std::io::Write::write_all(&mut std::fs::File::from(fd), content)?;
            renameat(&self.dir, temporary.as_str(), &self.dir, name)?;
            Ok(())
        })();
        written.with_context(|| format!("cannot write {}", self.path.join(name).display()))
    }

    /// Reads a file; `None` when there is none.
    pub fn read_file(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let what = || format!("cannot read {}", self.path.join(name).display());
        let fd = match openat(&self.dir, name, flags, Mode::empty()) {
            Ok(fd) => fd,
            Err(Errno::ENOENT) => return Ok(None),
            Err(errno) => return Err(errno).with_context(what),
        };
        let mut content = Vec::new();
        std::fs::File::from(fd).take(MAX_FILE).read_to_end(&mut content).with_context(what)?;
        Ok(Some(content))
    }

    /// Records the state.
    pub fn write(&self, state: &State) -> Result<()> {
        let json = serde_json::to_vec(state).context("cannot write the state as JSON")?;
        self.write_file(STATE, &json)
    }

    /// Reads the record; [`Kind::NotFound`] while there is none yet.
    pub fn read(&self) -> Result<State> {
        let content = self.read_file(STATE)?.ok_or_else(|| does_not_exist(&self.id))?;
        serde_json::from_slice(&content)
            .with_context(|| format!("damaged: {}", self.path.join(STATE).display()))
    }

    /// The status, computed from the kernel's facts; `is_frozen` is asked only when it matters.
    pub fn status(&self, state: &State, is_frozen: impl FnOnce() -> bool) -> Status {
        if state.phase == Phase::Creating {
            // Without its lock the creator is dead, and what it left is for delete.
            let at_work = matches!(self.try_lock(), Ok(None));
            return if at_work { Status::Creating } else { Status::Stopped };
        }
        if !state.init_is_alive() {
            Status::Stopped
        } else if is_frozen() {
            Status::Paused
        } else if gate::is_closed(self) {
            Status::Created
        } else {
            Status::Running
        }
    }

    /// Removes the directory and what is in it: the last step of `delete`.
    pub fn remove(&self) -> Result<()> {
        let removed = std::fs::remove_dir_all(&self.path);
        match removed {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot remove {}", self.path.display()))
            }
            _ => Ok(()),
        }
    }

    /// Removes one file; one that is not there is no error.
    fn remove_file(&self, name: &str) -> Result<()> {
        match unlinkat(&self.dir, name, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            Err(errno) => Err(errno)
                .with_context(|| format!("cannot remove {}", self.path.join(name).display())),
        }
    }
}

/// Makes the root directory with what is above it; only its owner may look into it.
fn make_root(root: &Path) -> Result<()> {
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(root);
    made.with_context(|| format!("cannot make the root directory {} (--root)", root.display()))
}

/// Sets the sticky bit that keeps a directory below `$XDG_RUNTIME_DIR` from being cleaned up.
pub fn keep_root(root: &Path) -> Result<()> {
    make_root(root)?;
    std::fs::set_permissions(root, std::fs::Permissions::from_mode(0o1700))
        .with_context(|| format!("cannot set the mode of {}", root.display()))
}

/// One container of a listing.
#[derive(Debug)]
pub struct Entry {
    /// Its directory.
    pub dir: StateDir,
    /// Its record.
    pub state: State,
    /// User id that owns the directory.
    pub uid: u32,
}

/// Every container below `root` by id; those without a whole record are skipped with a warning.
/// [`std::io::Error`] of kind NotFound is in the chain when there is no such directory.
pub fn list(root: &Path) -> Result<Vec<Entry>> {
    let entries = std::fs::read_dir(root);
    let entries = entries.with_context(|| format!("cannot read {}", root.display()))?;
    let mut names: Vec<String> = entries
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .filter_map(|entry| entry.file_name().into_string().ok())
        // Not containers: what Corten keeps for itself begins with a dot.
        .filter(|name| !name.starts_with('.'))
        .collect();
    names.sort();
    let read = |id: &String| -> Result<Entry> {
        let dir = StateDir::open(root, id)?;
        let state = dir.read()?;
        let uid = fstat(dir.fd()).map_or(0, |stat| stat.st_uid);
        Ok(Entry { dir, state, uid })
    };
    let keep = |id: &String| match read(id) {
        Ok(entry) => Some(entry),
        Err(error) => {
            log::warn!("skipping container {id}: {}", crate::error::render_line(&error));
            None
        }
    };
    Ok(names.iter().filter_map(keep).collect())
}

#[cfg(test)]
#[path = "state/tests.rs"]
mod tests;
