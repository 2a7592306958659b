//! Receiving descriptors over a Unix socket: console, seccomp listener, pidfd.
#![allow(unsafe_code)]

use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use std::io::IoSliceMut;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::Duration;

/// A listening socket for the runtime to send a descriptor to.
pub struct Receiver {
    listener: UnixListener,
}

impl Receiver {
    pub fn bind(path: &Path) -> Receiver {
        let listener = UnixListener::bind(path).unwrap();
        listener.set_nonblocking(true).unwrap();
        Receiver { listener }
    }

    /// The text and the descriptors of the one message that comes within ten seconds.
    #[track_caller]
    pub fn receive(&self) -> (String, Vec<OwnedFd>) {
        let mut stream = None;
        super::wait_for("a connection with a descriptor", 10, || {
            stream = self.listener.accept().ok().map(|(stream, _)| stream);
            stream.is_some()
        });
        let stream = stream.unwrap();
        stream.set_nonblocking(false).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut bytes = vec![0; 16384];
        let mut control = nix::cmsg_space!([i32; 8]);
        let mut buffers = [IoSliceMut::new(&mut bytes)];
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        let message =
            recvmsg::<()>(stream.as_raw_fd(), &mut buffers, Some(&mut control), flags).unwrap();
        let length = message.bytes;
        let mut fds = Vec::new();
        for part in message.cmsgs().unwrap() {
            if let ControlMessageOwned::ScmRights(raw) = part {
                // SAFETY: the kernel has just made these descriptors for us; nobody else has them.
                fds.extend(raw.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
            }
        }
        (String::from_utf8_lossy(&bytes[..length]).into_owned(), fds)
    }
}
