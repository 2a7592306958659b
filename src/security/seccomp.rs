//! Loading the filter in the child, and passing its listener to the agent in the parent
//! (spec config-linux.md "Seccomp", seccomp_unotify(2)).

use std::io::{IoSlice, Write};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use serde_json::{Value, json};

use crate::error::{Context, Result};
use crate::plan::seccomp::{FLAGS, Listener, SeccompPlan};
use crate::sys::seccomp;

/// Puts the calling thread, which must be the only one, under the filter. With a listener in
/// the plan its descriptor (close-on-exec) is returned.
///
/// From here on the filter judges the caller too. The one call that a profile may never send
/// to the agent is write(2), because nobody listens before the agent has the descriptor. So the
/// child tells its parent the descriptor's number by write(2), as runc does, and the parent
/// takes a copy with [`take_listener`]; sendmsg(2) could wait for an agent that never comes.
pub fn load(plan: &SeccompPlan) -> Result<Option<OwnedFd>> {
    seccomp::set_mode_filter(&plan.program, plan.flags)
        .with_context(|| format!("seccomp(2) cannot load the filter (flags {:#x})", plan.flags))
}

/// In the parent: copies descriptor `number`, which [`load`] gave to the child, out of the
/// process behind `pidfd`.
pub fn take_listener(pidfd: BorrowedFd<'_>, number: RawFd) -> Result<OwnedFd> {
    seccomp::pidfd_getfd(pidfd, number)
        .with_context(|| format!("pidfd_getfd(2) cannot take seccomp listener {number}"))
}

/// The container process state as JSON, for one descriptor: `pid` is the process under the
/// filter as this process sees it, `state` the container's state as `state` prints it.
pub fn process_state(pid: i32, metadata: Option<&str>, state: Value) -> String {
    let mut message = json!({
        "ociVersion": state.get("ociVersion"),
        "fds": ["seccompFd"],
        "pid": pid,
        "state": state,
    });
    if let Some(metadata) = metadata {
        message["metadata"] = Value::from(metadata);
    }
    message.to_string()
}

/// In the parent: gives the agent at `listener.path` the descriptor together with the text of
/// [`process_state`], over a connection of its own that is closed afterwards.
pub fn send_listener(listener: &Listener, fd: BorrowedFd<'_>, state_json: &str) -> Result<()> {
    let path = listener.path.display();
    let mut stream = UnixStream::connect(&listener.path)
        .with_context(|| format!("cannot connect to {path} (linux.seccomp.listenerPath)"))?;
    let bytes = state_json.as_bytes();
    let sent = sendmsg::<()>(
        stream.as_raw_fd(),
        &[IoSlice::new(bytes)],
        &[ControlMessage::ScmRights(&[fd.as_raw_fd()])],
        MsgFlags::MSG_NOSIGNAL,
        None,
    )
    .with_context(|| format!("cannot send the seccomp listener to {path}"))?;
    // A stream may take less than all; the descriptor went with the first byte.
    let rest = bytes.get(sent..).unwrap_or_default();
    stream
        .write_all(rest)
        .with_context(|| format!("cannot send the container process state to {path}"))
}

/// The flags of config.json that this kernel knows, for the features document.
pub fn supported_flags() -> Vec<&'static str> {
    let new_listener = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER as u32;
    let wait_killable = libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV as u32;
    FLAGS
        .iter()
        .filter(|(_, _, flag)| {
            // This one is valid only together with a listener.
            let with = if *flag == wait_killable { new_listener } else { 0 };
            seccomp::filter_flags_avail(flag | with)
        })
        .map(|(name, _, _)| *name)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::socket::{ControlMessageOwned, recvmsg};
    use std::fs::{File, OpenOptions};
    use std::io::{IoSliceMut, Read};
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixListener;

    #[test]
    fn the_process_state_is_that_of_the_spec() {
        let state = json!({"ociVersion": "1.0.2", "id": "oci-container1", "status": "creating",
            "pid": 4422, "bundle": "/containers/redis", "annotations": {"myKey": "myValue"}});
        let message: Value =
            serde_json::from_str(&process_state(4422, Some("MKNOD=/dev/null"), state)).unwrap();
        // The example of config-linux.md, "The Container Process State".
        let expected: Value = serde_json::from_str(
            r#"{"ociVersion": "1.0.2", "fds": ["seccompFd"], "pid": 4422,
                "metadata": "MKNOD=/dev/null",
                "state": {"ociVersion": "1.0.2", "id": "oci-container1", "status": "creating",
                    "pid": 4422, "bundle": "/containers/redis",
                    "annotations": {"myKey": "myValue"}}}"#,
        )
        .unwrap();
        assert_eq!(message, expected);
    }

    #[test]
    fn without_metadata_there_is_no_such_key() {
        let message: Value =
            serde_json::from_str(&process_state(1, None, json!({"ociVersion": "1.3.0"}))).unwrap();
        assert!(message.get("metadata").is_none());
    }

    #[test]
    fn the_agent_gets_the_descriptor_and_the_whole_text() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent");
        let agent = UnixListener::bind(&path).unwrap();
        let (read, write) = nix::unistd::pipe().unwrap();
        // Longer than a socket buffer: it takes the agent's reading to get it across.
        let text = "x".repeat(4 << 20);
        let sender = {
            let (listener, text) = (Listener { path, metadata: None }, text.clone());
            std::thread::spawn(move || send_listener(&listener, write.as_fd(), &text).unwrap())
        };

        let (mut stream, _) = agent.accept().unwrap();
        let mut first = [0; 1024];
        let mut space = nix::cmsg_space!([RawFd; 1]);
        let mut buffers = [IoSliceMut::new(&mut first)];
        let fd = stream.as_raw_fd();
        let message =
            recvmsg::<()>(fd, &mut buffers, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC).unwrap();
        let fds = message
            .cmsgs()
            .unwrap()
            .find_map(|c| if let ControlMessageOwned::ScmRights(f) = c { Some(f) } else { None })
            .unwrap();
        let mut length = message.bytes;
        let mut rest = Vec::new();
        length += stream.read_to_end(&mut rest).unwrap();
        sender.join().unwrap();
        assert_eq!(length, text.len());

        assert_eq!(fds.len(), 1);
        let copy = format!("/proc/self/fd/{}", fds[0]);
        OpenOptions::new().write(true).open(copy).unwrap().write_all(b"same pipe").unwrap();
        nix::unistd::close(fds[0]).unwrap();
        let mut piped = String::new();
        File::from(read).read_to_string(&mut piped).unwrap();
        assert_eq!(piped, "same pipe");
    }

    #[test]
    fn a_missing_agent_is_named() {
        let listener = Listener { path: "/nonexistent/agent".into(), metadata: None };
        let error = send_listener(&listener, std::io::stdin().as_fd(), "{}").unwrap_err();
        assert_eq!(
            crate::error::render_line(&error),
            "cannot connect to /nonexistent/agent (linux.seccomp.listenerPath): \
             no such file or directory"
        );
    }

    #[test]
    fn flags_of_this_kernel() {
        // Linux 4.14 and later know this one.
        assert!(supported_flags().contains(&"SECCOMP_FILTER_FLAG_LOG"));
    }
}
