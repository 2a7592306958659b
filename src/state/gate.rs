//! The start gate: where the init of a created container waits for `start`.
//!
//! ```text
//!   start                              init
//!     |                                  | accept(2) on gate.sock
//!     | ---------- connects -----------> |
//!     | ---------- one byte -----------> | startContainer hooks, last steps, execve(2)
//!     | <------- {"error": "..."} ------ | only on failure
//!     | <--------- end of file --------- | execve(2) has closed init's side
//! ```
//!
//! The socket's name is there exactly as long as the container is `created`.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;

use super::StateDir;
use crate::error::{Context, Error, Fault, Kind, Result};

/// A stream socket in the state directory.
const NAME: &str = "gate.sock";
/// An error text is never longer.
const MAX_REPLY: u64 = 64 << 10;

/// The address by way of the open directory: a socket's path may have 107 bytes only.
fn address(dir: &StateDir) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}/{NAME}", dir.fd().as_raw_fd()))
}

/// Makes the gate; init gets the listening socket (which has close-on-exec).
pub fn close(dir: &StateDir) -> Result<OwnedFd> {
    let listener = UnixListener::bind(address(dir))
        .with_context(|| format!("cannot bind {}", dir.path().join(NAME).display()))?;
    Ok(listener.into())
}

/// True while nobody has opened it.
pub fn is_closed(dir: &StateDir) -> bool {
    let kind = std::fs::symlink_metadata(address(dir)).map(|meta| meta.file_type());
    kind.is_ok_and(|kind| kind.is_socket())
}

fn init_died() -> Error {
    let hint = "its init ended before the start; `corten delete` removes what is left";
    Fault::new(Kind::WrongState, "cannot start a container that has stopped").hint(hint).into()
}

/// Lets init go on, and returns when the container's program runs, or why it does not.
pub fn open(dir: &StateDir) -> Result<()> {
    let path = || dir.path().join(NAME).display().to_string();
    let mut stream = match UnixStream::connect(address(dir)) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => return Err(init_died()),
        stream => stream.with_context(|| format!("cannot connect to {}", path()))?,
    };
    // From here on the container is not `created` any more, whatever happens to us.
    dir.remove_file(NAME)?;
    let gone = |kind| matches!(kind, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe);
    let mut reply = Vec::new();
    let exchange =
        stream.write_all(b"!").and_then(|()| stream.take(MAX_REPLY).read_to_end(&mut reply));
    match exchange {
        Err(error) if gone(error.kind()) && reply.is_empty() => return Err(init_died()),
        Err(error) if !gone(error.kind()) => {
            return Err(error).with_context(|| format!("cannot talk to init through {}", path()));
        }
        _ => {}
    }
    if reply.is_empty() {
        return Ok(());
    }
    let json: Option<serde_json::Value> = serde_json::from_slice(&reply).ok();
    let text = json.as_ref().and_then(|json| json.get("error")).and_then(|text| text.as_str());
    match text {
        Some(text) => Err(Error::msg(text.to_owned())),
        None => Err(Error::msg(String::from_utf8_lossy(&reply).into_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{kind, render_line};

    /// A gate whose far side does `init` with the accepted connection.
    fn gate(init: impl FnOnce(UnixStream) + Send + 'static) -> Result<()> {
        // Longer than a socket's address may be.
        let root = tempfile::tempdir().unwrap();
        let id = "x".repeat(120);
        let (dir, _lock) = StateDir::claim(root.path(), &id).unwrap();
        let listener = UnixListener::from(close(&dir).unwrap());
        assert!(is_closed(&dir));
        let far = std::thread::spawn(move || init(listener.accept().unwrap().0));
        let result = open(&dir);
        far.join().unwrap();
        assert!(!is_closed(&dir));
        result
    }

    #[test]
    fn end_of_file_means_that_the_program_runs() {
        let result = gate(|mut stream| {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
        });
        assert!(result.is_ok());
    }

    #[test]
    fn the_error_of_init_is_ours() {
        let error = gate(|mut stream| {
            stream.read_exact(&mut [0]).unwrap();
            stream.write_all(br#"{"error":"exec /nope: no such file or directory"}"#).unwrap();
        })
        .unwrap_err();
        assert_eq!(render_line(&error), "exec /nope: no such file or directory");
    }

    #[test]
    fn a_dead_init_is_told_from_one_that_runs() {
        // It died with our byte unread.
        let error = gate(drop).unwrap_err();
        assert_eq!(kind(&error), Kind::WrongState);
        // Nobody listens any more.
        let root = tempfile::tempdir().unwrap();
        let (dir, _lock) = StateDir::claim(root.path(), "c").unwrap();
        drop(close(&dir).unwrap());
        let error = open(&dir).unwrap_err();
        assert!(render_line(&error).starts_with("cannot start a container that has stopped"));
    }
}
