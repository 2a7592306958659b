//! Runs hooks: the state on standard input, a time limit, and a failure that quotes what the
//! hook said.
//!
//! All three of its stdio are memory files. So a hook cannot block on a pipe, and a process that
//! it leaves behind cannot hold us by one.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::AsFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::error::{Context, Error, Fault, Kind, Result};
use crate::plan::hooks::HookPlan;
use crate::sys::process::{cloexec_from, pidfd_open};

/// How much of what a failed hook wrote is quoted.
const MAX_QUOTE: u64 = 8 << 10;

/// Runs `hooks` one after another, up to the first that fails; each gets `state` (see
/// [`crate::state::State::oci_json`]) on standard input and no descriptor above 2: all of this
/// process's descriptors get close-on-exec.
pub fn run(hooks: &[HookPlan], state: &str) -> Result<()> {
    if hooks.is_empty() {
        return Ok(());
    }
    cloexec_from(3).context("cannot set close-on-exec (close_range)")?;
    hooks.iter().try_for_each(|hook| {
        // runc's words, which people and engines know, with our name for the place.
        run_one(hook, state).with_context(|| {
            let (kind, index) = (&hook.kind, hook.index);
            let path = hook.path.display();
            let text = format!("error running {kind} hook #{index}: hooks.{kind}[{index}] {path}");
            Fault::new(Kind::Hook, text)
        })
    })
}

fn run_one(hook: &HookPlan, state: &str) -> Result<()> {
    let stdin = memory_file(state)?;
    let (stdout, stderr) = (memory_file("")?, memory_file("")?);
    let mut command = Command::new(&hook.path);
    if let Some((name, args)) = hook.args.split_first() {
        command.arg0(name).args(args);
    }
    if let Some(env) = &hook.env {
        command.env_clear().envs(env.iter().filter_map(|entry| entry.split_once('=')));
    }
    // A group of its own, to end it with what it started when it takes too long.
    command.process_group(0);
    let copy = |file: &File| file.try_clone().context("cannot copy a descriptor");
    let child = command.stdin(stdin).stdout(copy(&stdout)?).stderr(copy(&stderr)?).spawn()?;
    let outcome = match wait(child, hook.timeout)? {
        Some(status) if status.success() => return Ok(()),
        Some(status) => exit_text(status),
        None => format!("timed out after {} s", hook.timeout.unwrap_or_default().as_secs()),
    };
    Err(Error::msg(format!("{outcome}{}{}", quote("stdout", stdout), quote("stderr", stderr))))
}

/// A file in memory with this content, at its beginning.
fn memory_file(content: &str) -> Result<File> {
    let fd = memfd_create(c"corten-hook", MFdFlags::MFD_CLOEXEC).context("memfd_create")?;
    let mut file = File::from(fd);
    file.write_all(content.as_bytes()).and_then(|()| file.rewind()).context("memory file")?;
    Ok(file)
}

/// Waits for the hook itself, never for what it started; `None` when the time was up.
fn wait(mut child: Child, timeout: Option<Duration>) -> Result<Option<ExitStatus>> {
    let Some(timeout) = timeout else {
        return Ok(Some(child.wait().context("cannot wait for it")?));
    };
    let pid = Pid::from_raw(child.id() as i32);
    let pidfd = pidfd_open(pid).context("cannot open it (pidfd_open)")?;
    let milliseconds = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
    let limit = PollTimeout::try_from(milliseconds).unwrap_or(PollTimeout::MAX);
    let mut fds = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
    let in_time = loop {
        match poll(&mut fds, limit) {
            Err(Errno::EINTR) => {}
            ready => break ready.context("cannot wait for it (poll)")? > 0,
        }
    };
    if in_time {
        return Ok(Some(child.wait().context("cannot wait for it")?));
    }
    // The group may be gone but for the hook; its own end is what matters.
    let _ = killpg(pid, Signal::SIGKILL);
    child.kill().and_then(|()| child.wait()).context("cannot end it")?;
    Ok(None)
}

/// As runc and the shell say it.
fn exit_text(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => match Signal::try_from(signal) {
            Ok(signal) => format!("killed by {signal}"),
            Err(_) => format!("killed by signal {signal}"),
        },
        (None, None) => status.to_string(),
    }
}

/// `, NAME: TEXT` for what it wrote, or nothing.
fn quote(name: &str, mut file: File) -> String {
    let mut bytes = Vec::new();
    // What cannot be read back is not quoted; the exit status says enough.
    if file.seek(SeekFrom::Start(0)).is_ok() {
        let _ = file.take(MAX_QUOTE).read_to_end(&mut bytes);
    }
    match String::from_utf8_lossy(&bytes).trim() {
        "" => String::new(),
        text => format!(", {name}: {text}"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::error::render_line;

    fn hook(script: &str, timeout: Option<u64>) -> HookPlan {
        HookPlan {
            kind: "prestart".into(),
            index: 2,
            path: "/bin/sh".into(),
            args: ["sh", "-c", script].map(String::from).to_vec(),
            env: Some(vec!["A=b=c".into()]),
            timeout: timeout.map(Duration::from_secs),
        }
    }

    fn failure(script: &str, timeout: Option<u64>) -> String {
        render_line(&run(&[hook(script, timeout)], "{\"id\":\"x\"}").unwrap_err())
    }

    #[test]
    fn gets_the_state_its_own_environment_and_its_name() {
        let text = failure(r#"cat; echo; /usr/bin/env | grep -v PWD; echo "$0" >&2; exit 3"#, None);
        // `_` and SHLVL are the shell's own.
        assert!(text.starts_with(
            "error running prestart hook #2: hooks.prestart[2] /bin/sh: exit status 3, \
             stdout: {\"id\":\"x\"}\nA=b=c"
        ));
        assert!(!text.contains("PATH="), "{text}");
        assert!(text.ends_with(", stderr: sh"), "{text}");
    }

    #[test]
    fn the_first_failure_ends_the_list() {
        let dir = tempfile::tempdir().unwrap();
        let script = format!("echo x >> {}/ran", dir.path().display());
        let hooks = [hook(&script, None), hook("exit 1", None), hook(&script, None)];
        assert!(run(&hooks, "").is_err());
        assert_eq!(std::fs::read_to_string(dir.path().join("ran")).unwrap(), "x\n");
        assert!(run(&[], "").is_ok());
    }

    #[test]
    fn a_missing_program_is_an_errno() {
        let mut missing = hook("", None);
        missing.path = "/no/such/hook".into();
        assert_eq!(
            render_line(&run(&[missing], "").unwrap_err()),
            "error running prestart hook #2: hooks.prestart[2] /no/such/hook: \
             no such file or directory"
        );
    }

    #[test]
    fn time_is_limited_and_children_do_not_hold_us() {
        let start = Instant::now();
        assert!(failure("echo a; sleep 60", Some(1)).contains(": timed out after 1 s, stdout: a"));
        // The sleep is in the background of a hook that ends at once.
        assert!(run(&[hook("sleep 3 & exit 0", Some(60))], "").is_ok());
        assert!(run(&[hook("sleep 3 & exit 0", None)], "").is_ok());
        assert!(start.elapsed() < Duration::from_secs(3));
    }

    #[test]
    fn quotes_are_bounded_and_signals_named() {
        let text = failure("head -c 100000 /dev/zero | tr '\\0' x; kill -TERM $$", None);
        assert!(text.contains("killed by SIGTERM"), "{text}");
        assert!(text.len() < 9000);
    }

    #[test]
    fn inherits_no_descriptor() {
        let file = File::open("/dev/null").unwrap();
        nix::fcntl::fcntl(&file, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty()))
            .unwrap();
        // The shell's own `ls` opens one descriptor, the directory.
        let text = failure("ls /proc/self/fd; exit 1", None);
        assert!(text.ends_with("stdout: 0\n1\n2\n3"), "{text}");
    }
}
