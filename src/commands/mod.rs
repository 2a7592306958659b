//! The commands: each reads its arguments, asks the layers below, and prints.

pub mod create;
pub mod events;
pub mod exec;
pub mod features;
pub mod inspect;
pub mod lifecycle;
pub mod output;
pub mod spec;
pub mod update;

use std::io::Write;
use std::path::{Path, PathBuf};

use crate::cgroups::Cgroup;
use crate::cli::{Command, Global};
use crate::config::validate;
use crate::error::{Context, Error, Fault, Kind, Result};
use crate::security::seal;
use crate::state::{self, State, StateDir, Status};
use crate::sys::process::reset_signal;

/// Runs a command; gives the exit status.
pub fn run(global: &Global, command: &Command) -> Result<i32> {
    refuse_what_comes_later(global)?;
    // Where our caller ignores it, our children cannot be waited for (wait(2)).
    reset_signal(libc::SIGCHLD);
    let root = Root::of(global)?;
    let path = root.path.as_path();
    match command {
        Command::Create(_) | Command::Run(_) => root.keep().and_then(|()| seal::ensure())?,
        // The others run nothing in a container.
        Command::Exec(_) => seal::ensure()?,
        _ => {}
    }
    match command {
        Command::Create(args) => create::create(path, args)?,
        Command::Run(args) => return create::run(path, args),
        Command::Exec(args) => return exec::exec(path, args).context("exec failed"),
        Command::Start(args) => lifecycle::start(path, &args.id)?,
        Command::Kill(args) => lifecycle::kill(path, args)?,
        Command::Delete(args) => lifecycle::delete(path, &args.id, args.force)?,
        Command::Pause(args) => lifecycle::pause(path, &args.id)?,
        Command::Resume(args) => lifecycle::resume(path, &args.id)?,
        Command::Update(args) => update::update(path, args)?,
        Command::State(args) => inspect::state(path, &args.id)?,
        Command::List(args) => inspect::list(path, global.root.is_some(), args)?,
        Command::Ps(args) => inspect::ps(path, args)?,
        Command::Events(args) => events::events(path, args)?,
        Command::Spec(args) => spec::spec(args)?,
        Command::Features => features::features()?,
    }
    Ok(0)
}

/// The exit status when a command fails; runc's.
pub fn failure_status(command: &Command) -> i32 {
    match command {
        Command::Exec(_) => 255,
        _ => 1,
    }
}

/// Flags that the parser knows and this version cannot do.
fn refuse_what_comes_later(global: &Global) -> Result<()> {
    let flag = if global.systemd_cgroup || global.cgroup_manager == "systemd" {
        "--systemd-cgroup: systemd as manager of the control groups"
    } else if global.cgroup_manager == "disabled" {
        "--cgroup-manager disabled: a container without control groups"
    } else if global.rootless == "true" {
        "--rootless true: a container without privileges"
    } else {
        return Ok(());
    };
    let text = format!("{flag} is not supported by this version of Corten");
    Err(Fault::new(Kind::Unsupported, text).hint("leave the flag out").into())
}

/// Where the state directories are.
struct Root {
    path: PathBuf,
    /// Below `$XDG_RUNTIME_DIR`.
    is_users: bool,
}

impl Root {
    fn of(global: &Global) -> Result<Self> {
        let Some(given) = &global.root else {
            let (path, is_users) = state::default_root();
            return Ok(Root { path, is_users });
        };
        let path = std::path::absolute(given)
            .map_err(|_| Fault::bad_input("--root: the path is empty"))?;
        let is_top = path.components().try_fold(0u32, |depth, part| match part {
            std::path::Component::Normal(_) => Some(depth + 1),
            std::path::Component::ParentDir => Some(depth.saturating_sub(1)),
            _ => Some(depth),
        }) == Some(0);
        if is_top {
            return Err(Fault::bad_input("--root: must not be /").into());
        }
        Ok(Root { path, is_users: false })
    }

    fn keep(&self) -> Result<()> {
        if self.is_users { state::keep_root(&self.path) } else { Ok(()) }
    }
}

/// The directory and the record of an existing container.
fn open(root: &Path, id: &str) -> Result<(StateDir, State)> {
    validate::container_id(id)?;
    let dir = StateDir::open(root, id)?;
    let state = dir.read()?;
    Ok((dir, state))
}

/// Its status, with `paused` by the freezer.
fn status(dir: &StateDir, state: &State) -> Status {
    dir.status(state, || is_frozen(state))
}

/// False also when its groups are gone.
fn is_frozen(state: &State) -> bool {
    Cgroup::open(&state.cgroup).and_then(|cgroup| cgroup.is_frozen()).unwrap_or(false)
}

fn wrong_state(text: impl Into<String>) -> Error {
    Fault::new(Kind::WrongState, text).into()
}

/// Prints on standard output; a reader that went away (`corten list | head -1`) is no error.
fn print(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        written => written.context("cannot write to standard output"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn global(line: &str) -> Global {
        let words = ["corten"].into_iter().chain(line.split_whitespace()).chain(["list"]);
        match crate::cli::parse(words.map(Into::into)) {
            crate::cli::Parsed::Command(global, _) => *global,
            _ => panic!("{line}"),
        }
    }

    #[test]
    fn later_features_are_refused_by_name() {
        for line in ["--systemd-cgroup", "--cgroup-manager systemd", "--rootless true"] {
            let error = refuse_what_comes_later(&global(line)).unwrap_err();
            assert_eq!(crate::error::kind(&error), Kind::Unsupported, "{line}");
        }
        for line in ["", "--systemd-cgroup=false --rootless false", "--cgroup-manager cgroupfs"] {
            assert!(refuse_what_comes_later(&global(line)).is_ok(), "{line}");
        }
    }

    #[test]
    fn the_root_is_absolute_and_never_the_top() {
        let root = |path: &str| Root::of(&global(&format!("--root {path}"))).map(|r| r.path);
        assert_eq!(root("/a/b").unwrap(), Path::new("/a/b"));
        assert_eq!(root("x").unwrap(), std::env::current_dir().unwrap().join("x"));
        for top in ["/", "//", "/a/..", "/.."] {
            assert!(root(top).is_err(), "{top}");
        }
    }
}
