//! What the parent and the container's init tell each other, over one SOCK_SEQPACKET pair.
//!
//! ```text
//!   parent                                     init (or a joiner before it)
//!     | <----------------- Spawned ------------------ | only from a joiner, on a pair of its own
//!     | ------------------ Mapped ------------------> | only with a new user namespace
//!     | <----------------- Mounted ------------------ | with hooks, network devices, or mounts
//!     | ------------------ Proceed -----------------> | devices moved, hooks run
//!     | <----------------- Console ------------------ | only with a terminal: the master
//!     | <----------------- Listener ----------------- | only with seccomp notify: its fd
//!     | <----------------- Ready -------------------- | all is set, the program is found
//!     | ------------------ Start -------------------> | create: it is on record, wait at the gate
//!     |               (end of file)                   | the program runs
//!
//!     | <----------------- Warning ------------------ | any time before Ready
//!     | <----------------- Failed ------------------- | any time; nothing follows
//! ```
//!
//! [`Order`] is that picture as a type.

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, recvmsg,
    sendmsg, socketpair,
};

use crate::error::{Context, Error, Result, pack};

/// See the picture above. The number is the first byte on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // the picture tells
#[repr(u8)]
pub enum Tag {
    Spawned = 1,
    Mapped,
    Mounted,
    Proceed,
    Console,
    Listener,
    Ready,
    Start,
    Warning,
    Failed,
}

const TAGS: [Tag; 10] = [
    Tag::Spawned,
    Tag::Mapped,
    Tag::Mounted,
    Tag::Proceed,
    Tag::Console,
    Tag::Listener,
    Tag::Ready,
    Tag::Start,
    Tag::Warning,
    Tag::Failed,
];

/// One received message.
#[derive(Debug)]
pub struct Message {
    /// What it is.
    pub kind: Tag,
    /// Its text: the pid of Spawned, the mount points of Mounted, the text of Warning and Failed.
    pub text: String,
    /// The descriptor that came with it (Spawned, Console, Listener).
    pub fd: Option<OwnedFd>,
}

/// Longer texts are cut or refused; an error is never that long.
const MAX_TEXT: usize = 16 * 1024;

/// One end of the pair.
pub struct Channel(OwnedFd);

impl Channel {
    /// Both ends, close-on-exec.
    pub fn pair() -> Result<(Channel, Channel)> {
        let (a, b) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
                .context("cannot make a socket pair")?;
        Ok((Channel(a), Channel(b)))
    }

    /// A second descriptor of this end.
    pub fn try_clone(&self) -> Result<Channel> {
        Ok(Channel(self.0.try_clone().context("cannot duplicate a descriptor")?))
    }

    /// In a new process: closes its copy of an end that is not its own, lest nobody see the end of
    /// file. `self` is not used again there.
    pub fn close_copy(&self) {
        // It is open, and nothing is to be done where it were not.
        let _ = nix::unistd::close(self.0.as_raw_fd());
    }

    /// False when the other side has closed.
    pub fn is_connected(&self) -> bool {
        let mut fds = [PollFd::new(self.0.as_fd(), PollFlags::empty())];
        // POLLHUP and POLLERR need not be asked for.
        poll(&mut fds, PollTimeout::ZERO) == Ok(0)
    }

    /// Sends a message without text or descriptor. Plain write(2): the last ones go out under the
    /// container's own seccomp filter.
    pub fn send(&self, kind: Tag) -> Result<()> {
        nix::unistd::write(&self.0, &[kind as u8]).context("cannot write to the other process")?;
        Ok(())
    }

    /// Sends a message with a text. What only people read may be cut.
    pub fn send_text(&self, kind: Tag, text: &str) -> Result<()> {
        if text.len() > MAX_TEXT && !matches!(kind, Tag::Warning | Tag::Failed) {
            return Err(Error::msg(format!("{kind:?}: {} bytes are too many", text.len())));
        }
        let bytes = &text.as_bytes()[..text.len().min(MAX_TEXT)];
        let packet = [&[kind as u8], bytes].concat();
        nix::unistd::write(&self.0, &packet).context("cannot write to the other process")?;
        Ok(())
    }

    /// Sends a message with a descriptor.
    pub fn send_fd(&self, kind: Tag, text: &str, fd: RawFd) -> Result<()> {
        let head = [kind as u8];
        let parts = [IoSlice::new(&head), IoSlice::new(text.as_bytes())];
        let fds = [fd];
        let rights = [ControlMessage::ScmRights(&fds)];
        sendmsg::<()>(self.0.as_raw_fd(), &parts, &rights, MsgFlags::MSG_NOSIGNAL, None)
            .context("cannot send a descriptor to the other process")?;
        Ok(())
    }

    /// Sends an error with its kind and hint, so that the other side can raise it as its own.
    pub fn send_error(&self, error: &Error) -> Result<()> {
        self.send_text(Tag::Failed, &pack(error))
    }

    /// Child side: sends the error and ends the process.
    pub fn fail(&self, error: &Error) -> ! {
        // If the parent is gone nobody can be told; the exit status still says it.
        let _ = self.send_error(error);
        crate::sys::process::exit_now(1)
    }

    /// The next message; `None` when the other side has closed.
    pub fn receive(&self) -> Result<Option<Message>> {
        let mut buffer = vec![0u8; 1 + MAX_TEXT];
        let mut space = nix::cmsg_space!([RawFd; 1]);
        loop {
            let mut parts = [IoSliceMut::new(&mut buffer)];
            let received = recvmsg::<()>(
                self.0.as_raw_fd(),
                &mut parts,
                Some(&mut space),
                MsgFlags::MSG_CMSG_CLOEXEC,
            );
            let (length, fd) = match received {
                Err(Errno::EINTR) => continue,
                // The other side died with a message of ours unread.
                Err(Errno::ECONNRESET) => return Ok(None),
                Err(errno) => return Err(errno).context("cannot read from the other process"),
                Ok(message) => (message.bytes, message.cmsgs().ok().and_then(first_fd)),
            };
            let Some((&tag, text)) = buffer[..length].split_first() else { return Ok(None) };
            let kind = TAGS.into_iter().find(|k| *k as u8 == tag);
            let kind = kind.context("an unknown message from the other process")?;
            let text = String::from_utf8_lossy(text).into_owned();
            return Ok(Some(Message { kind, text, fd }));
        }
    }

    /// Child side: waits for exactly this message. The parent's end means that it died: the
    /// child has nobody to work for.
    pub fn expect(&self, kind: Tag) -> Result<()> {
        match self.receive()? {
            Some(message) if message.kind == kind => Ok(()),
            Some(message) => Err(Error::msg(format!("expected {kind:?}, got {:?}", message.kind))),
            None => Err(Error::msg("the runtime went away")),
        }
    }

    /// Child side, under a seccomp filter: one byte by read(2).
    pub fn expect_byte(&self, kind: Tag) -> bool {
        let mut byte = [0u8];
        loop {
            match nix::unistd::read(&self.0, &mut byte) {
                Err(Errno::EINTR) => {}
                result => return result == Ok(1) && byte[0] == kind as u8,
            }
        }
    }
}

impl AsRawFd for Channel {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

fn first_fd(messages: nix::sys::socket::CmsgIterator<'_>) -> Option<OwnedFd> {
    messages.into_iter().find_map(|message| match message {
        ControlMessageOwned::ScmRights(fds) => {
            fds.first().map(|fd| crate::sys::own_received_fd(*fd))
        }
        _ => None,
    })
}

/// Which messages init may still send; each comes at most once and in this order.
#[derive(Debug)]
pub struct Order {
    expected: Vec<Tag>,
}

impl Order {
    /// `expected` in the order of the picture, [`Tag::Ready`] last.
    pub fn new(expected: Vec<Tag>) -> Self {
        Order { expected }
    }

    /// Whether `kind` is what must come now. Warning and Failed may come at any time.
    pub fn accept(&mut self, kind: Tag) -> Result<()> {
        if matches!(kind, Tag::Warning | Tag::Failed) {
            return Ok(());
        }
        match self.expected.first() {
            Some(next) if *next == kind => {
                self.expected.remove(0);
                Ok(())
            }
            next => Err(Error::msg(format!("init sent {kind:?} where {next:?} was due"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{self, Fault, Kind};

    #[test]
    fn messages_arrive_as_sent() {
        let (a, b) = Channel::pair().unwrap();
        a.send_text(Tag::Warning, "héllo").unwrap();
        let message = b.receive().unwrap().unwrap();
        assert_eq!((message.kind, message.text.as_str()), (Tag::Warning, "héllo"));
        assert!(message.fd.is_none());

        let (reader, writer) = nix::unistd::pipe().unwrap();
        a.send_fd(Tag::Console, "", reader.as_raw_fd()).unwrap();
        let received = b.receive().unwrap().unwrap().fd.unwrap();
        nix::unistd::write(&writer, b"x").unwrap();
        let mut byte = [0];
        nix::unistd::read(&received, &mut byte).unwrap();
        assert_eq!(&byte, b"x");

        drop(a);
        assert!(b.receive().unwrap().is_none());
    }

    #[test]
    fn errors_keep_kind_and_hint() {
        let (a, b) = Channel::pair().unwrap();
        let error = Error::from(Fault::bad_input("no such file").hint("make it"));
        a.send_error(&error.context("cannot open /x")).unwrap();
        let error = error::unpack(&b.receive().unwrap().unwrap().text);
        assert_eq!(error::render(&error), "error: cannot open /x: no such file\n  hint: make it");
        assert_eq!(error::kind(&error), Kind::BadInput);
    }

    #[test]
    fn a_long_text_is_cut_not_lost() {
        let (a, b) = Channel::pair().unwrap();
        a.send_text(Tag::Warning, &"x".repeat(100_000)).unwrap();
        assert_eq!(b.receive().unwrap().unwrap().text.len(), MAX_TEXT);
        // A list of mounts is not to be cut: what is missing would stay on the host.
        assert!(a.send_text(Tag::Mounted, &"x".repeat(100_000)).is_err());
    }

    #[test]
    fn the_other_side_is_seen_to_close() {
        let (a, b) = Channel::pair().unwrap();
        assert!(a.is_connected());
        drop(b);
        assert!(!a.is_connected());
    }

    #[test]
    fn order_is_kept() {
        let mut order = Order::new(vec![Tag::Mounted, Tag::Console, Tag::Ready]);
        order.accept(Tag::Warning).unwrap();
        assert!(order.accept(Tag::Console).is_err());
        order.accept(Tag::Mounted).unwrap();
        assert!(order.accept(Tag::Mounted).is_err());
        order.accept(Tag::Console).unwrap();
        order.accept(Tag::Ready).unwrap();
        assert!(order.accept(Tag::Ready).is_err());
        order.accept(Tag::Failed).unwrap();
    }
}
