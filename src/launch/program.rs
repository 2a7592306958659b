//! The last steps of every process that becomes a container's program: `create`, `run` and
//! `exec` meet here.

use std::ffi::{CStr, CString, OsStr};
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags};
use nix::sys::prctl;
use nix::sys::stat::{SFlag, fstat, stat};
use nix::unistd::{
    AccessFlags, Gid, Uid, access, dup2_stderr, dup2_stdin, dup2_stdout, faccessat, fchown,
};

use super::protocol::{Channel, Tag};
use crate::error::{Context, Error, Fault, Kind, Result};
use crate::hooks;
use crate::plan::hooks::HookPlan;
use crate::plan::mounts::InsidePath;
use crate::plan::process::ProcessPlan;
use crate::plan::seccomp::SeccompPlan;
use crate::rootfs::inside::RootDir;
use crate::rootfs::private_null;
use crate::security;
use crate::security::lsm;
use crate::security::procfs::Proc;
use crate::state::gate::Gate;
use crate::sys::process as sys;

/// /etc/passwd of an image may be anything: bounded (CVE-2026-47262).
const MAX_PASSWD: usize = 1 << 20;

/// What a waiting process waits for.
pub enum Go {
    /// `start`, through the state directory.
    Gate(Gate),
    /// The parent: `run` and `exec`.
    Parent,
}

/// What [`become_program`] needs.
pub struct Program<'a> {
    /// The program; `None` only waits.
    pub process: Option<&'a ProcessPlan>,
    /// Its filter.
    pub seccomp: Option<&'a SeccompPlan>,
    /// The host's procfs, for labels; `None` when they are set.
    pub proc: Option<Proc>,
    /// To the parent.
    pub channel: Channel,
    /// What to wait for.
    pub go: Go,
    /// Hooks to run when the wait is over, with the state they get.
    pub start_hooks: (&'a [HookPlan], String),
    /// How many descriptors from 3 on the program keeps.
    pub preserve_fds: u32,
}

/// Drops what must be dropped, says Ready, waits, and execs. Errors go to the parent, and after
/// Ready to whoever let us go.
pub fn become_program(root: &RootDir, program: Program<'_>) -> ! {
    let ready = match get_ready(root, &program) {
        Ok(ready) => ready,
        Err(error) => program.channel.fail(&error),
    };
    let error = match wait_and_exec(&program, ready) {
        Ok(never) => match never {},
        Err(error) => error,
    };
    match &program.go {
        Go::Gate(gate) => gate.report(&error),
        Go::Parent => program.channel.fail(&error),
    }
    sys::exit_now(1)
}

/// The program, its environment and the file to exec.
type Executable<'a> = (&'a ProcessPlan, Vec<CString>, CString);

fn get_ready<'a>(root: &RootDir, program: &Program<'a>) -> Result<Option<Executable<'a>>> {
    // The runtime may soon end without taking the container with it. From here the end of the
    // channel tells us of its death; later a filter could refuse this call.
    prctl::set_pdeathsig(None).context("cannot clear the parent-death signal")?;
    let executable = match program.process {
        None => {
            // It may wait for long, where other processes can look at it.
            close_what_is_not_needed(program)?;
            None
        }
        Some(process) => {
            give_stdio(root, process.user.uid);
            let env = environment(root, process)?;
            if let Some(proc) = &program.proc {
                // Before no_new_privs: under it AppArmor takes only profiles that narrow the
                // present one.
                lsm::apply(process, proc)?;
            }
            close_what_is_not_needed(program)?;
            let tell = |listener: OwnedFd| {
                // Only its number: see security::seccomp::load. It stays open until the exec.
                program.channel.send_text(Tag::Listener, &listener.into_raw_fd().to_string())
            };
            let path = security::apply(process, program.seccomp, tell, || find(process, &env))?;
            Some((process, env, path))
        }
    };
    program.channel.send(Tag::Ready)?;
    Ok(executable)
}

/// Closes every descriptor but those that the program keeps and those that the wait needs, which
/// all close on exec (CVE-2024-21626): no directory, for the paths of cwd and program may lead
/// through them. Their owners in this process never run again.
fn close_what_is_not_needed(program: &Program<'_>) -> Result<()> {
    crate::logging::forward(None);
    let mut keep = vec![program.channel.as_raw_fd()];
    if let Go::Gate(gate) = &program.go {
        keep.extend(gate.descriptors());
    }
    let first = 3 + program.preserve_fds;
    sys::close_all_but(first, &mut keep).context("cannot close descriptors")?;
    sys::cloexec_from(first).context("cannot close descriptors on exec")?;
    // A createContainer hook has set close-on-exec on everything.
    sys::keep_on_exec(3, program.preserve_fds).context("cannot keep descriptors open")
}

fn wait_and_exec(
    program: &Program<'_>,
    executable: Option<Executable<'_>>,
) -> Result<std::convert::Infallible> {
    // No signal ends us with the runtime any more: its end of the channel does, until `create` has
    // us on record.
    if !program.channel.expect_byte(Tag::Start) {
        return Err(Error::msg("the runtime went away"));
    }
    if let Go::Gate(gate) = &program.go {
        gate.wait()?;
    }
    let (process, env, path) = executable.context("config.json: process: missing")?;
    let (hooks, state) = &program.start_hooks;
    hooks::run(hooks, state)?;
    if !hooks.is_empty() {
        // Running hooks sets close-on-exec on everything.
        sys::keep_on_exec(3, program.preserve_fds).context("cannot keep descriptors open")?;
    }
    let errno = match nix::unistd::execve(&path, &process.args, &env) {
        Ok(never) => match never {},
        Err(errno) => errno,
    };
    Err(explain_exec(&path, errno))
}

/// Passes stdin, stdout and stderr on to the user, who may have to open /dev/stdout again.
/// Best effort, as runc does: a pipe of another user, a read-only file stay as they are. The
/// host's /dev/null gives way to the container's: through it one could change the host's device.
/// Where that is not there (those inside may replace it before an `exec`), to one of its own; root
/// of a user namespace, who cannot have one, does not own the host's.
fn give_stdio(root: &RootDir, uid: u32) {
    let mut null = None;
    for number in 0..=2 {
        let fd = crate::sys::borrow_stdio(number);
        let Ok(stat) = fstat(fd) else { continue };
        let is_null = SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT == SFlag::S_IFCHR
            && stat.st_rdev == libc::makedev(1, 3);
        if is_null {
            let null =
                null.get_or_insert_with(|| root.open_dev_null().or_else(|_| private_null()).ok());
            let _ = null.as_ref().map(|null| match number {
                0 => dup2_stdin(null),
                1 => dup2_stdout(null),
                _ => dup2_stderr(null),
            });
        } else if stat.st_uid != uid {
            let _ = fchown(fd, Some(Uid::from_raw(uid)), None::<Gid>);
        }
    }
}

/// The plan's environment, with HOME from the container's passwd where it is missing or empty:
/// Podman's exec writes `HOME=` for a user whom passwd does not name.
fn environment(root: &RootDir, process: &ProcessPlan) -> Result<Vec<CString>> {
    let mut env = process.env.clone();
    if process.listens {
        env.retain(|entry| !entry.as_bytes().starts_with(b"LISTEN_PID="));
        env.push(CString::new(format!("LISTEN_PID={}", nix::unistd::getpid()))?);
    }
    env.retain(|entry| entry.as_bytes() != b"HOME=");
    if !env.iter().any(|entry| entry.as_bytes().starts_with(b"HOME=")) {
        let home = root
            .read_bounded(&InsidePath::new("/etc/passwd", "passwd")?, MAX_PASSWD)
            .ok()
            .and_then(|passwd| home_of(&passwd, process.user.uid))
            .unwrap_or_else(|| b"/".to_vec());
        let entry = CString::new([b"HOME=".as_slice(), &home].concat());
        env.push(entry.context("a home directory in /etc/passwd holds a NUL byte")?);
    }
    Ok(env)
}

/// The home directory of `uid`, see passwd(5).
fn home_of(passwd: &[u8], uid: u32) -> Option<Vec<u8>> {
    passwd.split(|byte| *byte == b'\n').find_map(|line| {
        let fields: Vec<&[u8]> = line.split(|byte| *byte == b':').collect();
        let number = std::str::from_utf8(fields.get(2)?).ok()?.parse::<u32>().ok()?;
        let home = fields.get(5).filter(|home| !home.is_empty())?;
        (number == uid).then(|| home.to_vec())
    })
}

/// The file to exec: as given with a slash, else the first in PATH that can be executed. The
/// texts are those that engines turn into exit codes 126 and 127.
fn find(process: &ProcessPlan, env: &[CString]) -> Result<CString> {
    let name = process.args.first().context("config.json: process.args: empty")?;
    let quoted = format!("exec: {:?}", name.to_string_lossy());
    if name.as_bytes().contains(&b'/') {
        let path = Path::new(OsStr::from_bytes(name.as_bytes()));
        return match executable(path) {
            Ok(()) => Ok(name.clone()),
            Err(error) => Err(error.context(quoted)),
        };
    }
    let path = env.iter().rev().find_map(|entry| entry.as_bytes().strip_prefix(b"PATH="));
    let path: &[u8] = path.unwrap_or_default();
    let mut denied = None;
    for dir in path.split(|byte| *byte == b':').filter(|_| !name.is_empty()) {
        let dir: &[u8] = if dir.is_empty() { b"." } else { dir };
        let file = PathBuf::from(OsStr::from_bytes(dir)).join(OsStr::from_bytes(name.as_bytes()));
        match executable(&file) {
            Ok(()) => {
                return CString::new(file.into_os_string().into_vec()).context(quoted);
            }
            Err(error) if error.downcast_ref::<Errno>() == Some(&Errno::EACCES) => {
                denied = Some(error);
            }
            Err(_) => {}
        }
    }
    match denied {
        Some(error) => Err(error.context(quoted)),
        None => Err(Fault::bad_input(format!("{quoted}: executable file not found in $PATH"))
            .hint("check process.args[0], and PATH in process.env")
            .into()),
    }
}

/// Whether we, as the container's user, may execute it.
fn executable(path: &Path) -> Result<()> {
    let stat = stat(path)?;
    let kind = SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT;
    if kind == SFlag::S_IFDIR {
        return Err(Error::from(Errno::EACCES).context("is a directory"));
    }
    match faccessat(AT_FDCWD, path, AccessFlags::X_OK, AtFlags::AT_EACCESS) {
        // A seccomp filter from before faccessat2(2), Linux 5.8. Of access(2), which asks the same
        // for whoever is not root, only the kernel's own answer counts: execve(2) has the last word.
        Err(Errno::EPERM) => match access(path, AccessFlags::X_OK) {
            Err(Errno::EACCES) => Err(Errno::EACCES.into()),
            _ => Ok(()),
        },
        asked => Ok(asked?),
    }
}

fn explain_exec(path: &CStr, errno: Errno) -> Error {
    let text = format!("exec: {:?}: {}", path.to_string_lossy(), crate::error::errno_text(errno));
    let fault = Fault::new(Kind::System, text);
    match errno {
        Errno::ENOENT => fault
            .hint("the file is there, its interpreter (#! line or dynamic loader) is not")
            .into(),
        Errno::ENOEXEC => {
            fault.hint("it is for another architecture, or a script without a #! line").into()
        }
        _ => fault.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn home_comes_from_passwd_and_nothing_else() {
        let passwd = b"root:x:0:0:root:/root:/bin/sh\n1000:x:0:0::/evil:/bin/sh\nbroken\n\
            web:x:33:33:web:/srv/www:/bin/false\nempty:x:7:7:::/bin/sh\n";
        assert_eq!(home_of(passwd, 0).unwrap(), b"/root");
        assert_eq!(home_of(passwd, 33).unwrap(), b"/srv/www");
        // CVE-2016-3697: a number is never a name.
        assert_eq!(home_of(passwd, 1000), None);
        assert_eq!(home_of(passwd, 7), None);
    }

    fn process(args: &[&str], path: &str) -> (ProcessPlan, Vec<CString>) {
        let strings = |list: &[&str]| list.iter().map(|s| CString::new(*s).unwrap()).collect();
        let plan = ProcessPlan { args: strings(args), ..ProcessPlan::default() };
        (plan, strings(&[&format!("PATH={path}")]))
    }

    #[test]
    fn programs_are_found_or_refused_in_words_that_engines_know() {
        let (plan, env) = process(&["sh"], "/nowhere:/bin");
        assert_eq!(find(&plan, &env).unwrap().as_bytes(), b"/bin/sh");
        let text = |args: &[&str], path: &str| {
            let (plan, env) = process(args, path);
            crate::error::render_line(&find(&plan, &env).unwrap_err())
        };
        assert!(
            text(&["nope"], "/bin")
                .starts_with("exec: \"nope\": executable file not found in $PATH")
        );
        assert_eq!(text(&["/nope"], "/bin"), "exec: \"/nope\": no such file or directory");
        assert_eq!(text(&["/etc/passwd"], ""), "exec: \"/etc/passwd\": permission denied");
        assert_eq!(text(&["/etc"], ""), "exec: \"/etc\": is a directory: permission denied");
        assert_eq!(text(&["passwd"], "/etc"), "exec: \"passwd\": permission denied");
    }
}
