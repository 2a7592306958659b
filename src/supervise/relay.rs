//! Copies between our own standard input and output and the master of the container's terminal.

use std::fs::File;
use std::io::{stderr, stdin, stdout};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::termios::{
    LocalFlags, OutputFlags, SetArg, SpecialCharacterIndices, Termios, cfmakeraw, tcgetattr,
    tcsetattr,
};
use nix::unistd::{getpgrp, isatty, read, tcgetpgrp, write};

use crate::error::{Context, Result};
use crate::sys::tty;

/// PIPE_BUF: so much goes into a pipe that poll(2) calls writable, without blocking us.
const CHUNK: usize = 4096;
/// How long the last output may take after the end of the container's process, in milliseconds
/// from piece to piece. A terminal that hangs up ends it at once.
const LAST_OUTPUT: u16 = 500;

/// Bytes on their way in one direction.
#[derive(Debug, Default)]
struct Buffer {
    bytes: Vec<u8>,
}

impl Buffer {
    fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Reads once; `Ok(0)` is the end.
    fn fill(&mut self, from: BorrowedFd<'_>) -> nix::Result<usize> {
        let mut chunk = [0; CHUNK];
        let count = read(from, &mut chunk)?;
        self.bytes.extend(chunk.iter().take(count));
        Ok(count)
    }

    /// Writes once.
    fn pour(&mut self, to: BorrowedFd<'_>) -> nix::Result<()> {
        let count = write(to, &self.bytes)?;
        self.bytes.drain(..count.min(self.bytes.len()));
        Ok(())
    }
}

fn would_block(errno: Errno) -> bool {
    matches!(errno, Errno::EAGAIN | Errno::EINTR)
}

/// Our own terminal in raw mode, until dropped.
#[derive(Debug)]
struct RawMode {
    terminal: OwnedFd,
    before: Termios,
}

impl RawMode {
    /// `None` where standard input is no terminal, or not ours to change: the shell has us in the
    /// background.
    fn of_stdin() -> Option<Self> {
        let terminal = stdin().as_fd().try_clone_to_owned().ok()?;
        let before = tcgetattr(&terminal).ok()?;
        if tcgetpgrp(&terminal) != Ok(getpgrp()) {
            return None;
        }
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        tcsetattr(&terminal, SetArg::TCSANOW, &raw).ok()?;
        Some(RawMode { terminal, before })
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        // The terminal may have gone; then there is nothing to restore.
        let _ = tcsetattr(&self.terminal, SetArg::TCSANOW, &self.before);
    }
}

/// The first terminal that we have, for its size.
fn own_terminal() -> Option<OwnedFd> {
    let (input, output, errors) = (stdin(), stdout(), stderr());
    let standard = [input.as_fd(), output.as_fd(), errors.as_fd()];
    let found = standard.into_iter().find(|fd| isatty(fd) == Ok(true));
    match found {
        Some(fd) => fd.try_clone_to_owned().ok(),
        None => File::open("/dev/tty").ok().map(OwnedFd::from),
    }
}

/// See the module.
#[derive(Debug)]
pub struct Relay {
    master: OwnedFd,
    input: OwnedFd,
    output: OwnedFd,
    own: Option<OwnedFd>,
    _raw: Option<RawMode>,
    /// False once standard input has ended.
    input_open: bool,
    /// The last byte of input was a newline, or there was none.
    at_line_start: bool,
    /// False once the terminal has hung up.
    output_open: bool,
    /// False once nobody reads our output; the container must not block on that.
    heard: bool,
    inward: Buffer,
    outward: Buffer,
}

impl Relay {
    /// Puts our terminal, if we have one, into raw mode and gives its size to `master`.
    pub fn new(master: OwnedFd) -> Result<Self> {
        let flags = fcntl(&master, FcntlArg::F_GETFL).context("cannot inspect the terminal")?;
        let flags = OFlag::from_bits_retain(flags) | OFlag::O_NONBLOCK;
        fcntl(&master, FcntlArg::F_SETFL(flags)).context("cannot set up the terminal")?;
        let raw = RawMode::of_stdin();
        let on_screen = raw.is_some() && isatty(stdout()) == Ok(true);
        if !on_screen {
            // Nobody there takes "\r\n" for a new line; runc leaves it out too.
            clear_onlcr(&master).context("cannot set up the terminal")?;
        }
        let stdin_is_terminal = isatty(stdin()) == Ok(true);
        let copy = |fd: BorrowedFd<'_>| {
            fd.try_clone_to_owned().context("cannot copy a standard descriptor")
        };
        let relay = Relay {
            input: copy(stdin().as_fd())?,
            output: copy(stdout().as_fd())?,
            master,
            own: own_terminal(),
            // In the background, input is the shell's.
            input_open: raw.is_some() || !stdin_is_terminal,
            _raw: raw,
            at_line_start: true,
            output_open: true,
            heard: true,
            inward: Buffer::default(),
            outward: Buffer::default(),
        };
        relay.resize();
        Ok(relay)
    }

    /// Gives the size of our terminal to the container's.
    pub fn resize(&self) {
        let size = self.own.as_ref().and_then(|own| tty::size(own).ok());
        // A terminal that does not know its size says 0.
        if let Some(size) = size.filter(|size| size.columns > 0 && size.rows > 0) {
            // The other side may have gone.
            let _ = tty::set_size(&self.master, size);
        }
    }

    fn wants_input(&self) -> bool {
        self.input_open && self.output_open && self.inward.is_empty()
    }

    fn wants_output(&self) -> bool {
        self.output_open && self.outward.is_empty()
    }

    /// What to wait for.
    pub fn interests(&self) -> Vec<PollFd<'_>> {
        let mut master = PollFlags::empty();
        master.set(PollFlags::POLLIN, self.wants_output());
        master.set(PollFlags::POLLOUT, self.output_open && !self.inward.is_empty());
        let mut fds = Vec::with_capacity(3);
        if !master.is_empty() {
            fds.push(PollFd::new(self.master.as_fd(), master));
        }
        if self.wants_input() {
            fds.push(PollFd::new(self.input.as_fd(), PollFlags::POLLIN));
        }
        if !self.outward.is_empty() {
            fds.push(PollFd::new(self.output.as_fd(), PollFlags::POLLOUT));
        }
        fds
    }

    /// Copies what can be copied without waiting.
    pub fn copy(&mut self) {
        if self.wants_input() && is_ready(&self.input, PollFlags::POLLIN) {
            self.take_input();
        }
        if self.output_open && !self.inward.is_empty() {
            match self.inward.pour(self.master.as_fd()) {
                Err(errno) if !would_block(errno) => self.inward.bytes.clear(),
                _ => {}
            }
        }
        if self.wants_output() {
            match self.outward.fill(self.master.as_fd()) {
                Ok(0) => self.output_open = false,
                // EIO: the terminal hung up.
                Err(errno) if !would_block(errno) => self.output_open = false,
                _ => {}
            }
        }
        if !self.outward.is_empty() && is_ready(&self.output, PollFlags::POLLOUT) {
            self.give_output();
        }
    }

    fn take_input(&mut self) {
        match self.inward.fill(self.input.as_fd()) {
            Ok(0) => {
                self.input_open = false;
                self.end_input();
            }
            Ok(_) => self.at_line_start = self.inward.bytes.last() == Some(&b'\n'),
            Err(errno) if would_block(errno) => {}
            Err(_) => self.input_open = false,
        }
    }

    /// Passes on the end of our input, so that a shell reading a script ends with it: by the
    /// end-of-file character, while the terminal takes it for that.
    fn end_input(&mut self) {
        let Ok(settings) = tcgetattr(&self.master) else { return };
        let end = settings.control_chars.get(SpecialCharacterIndices::VEOF as usize);
        if let Some(end) = end.filter(|_| settings.local_flags.contains(LocalFlags::ICANON)) {
            // Within a line the first one only ends the line.
            let times = if self.at_line_start { 1 } else { 2 };
            self.inward.bytes.extend(std::iter::repeat_n(*end, times));
        }
    }

    fn give_output(&mut self) {
        let result = if self.heard { self.outward.pour(self.output.as_fd()) } else { Ok(()) };
        if result.is_err_and(|errno| !would_block(errno)) {
            self.heard = false;
        }
        if !self.heard {
            self.outward.bytes.clear();
        }
    }

    /// Copies the last output, after the end of the container's process.
    pub fn drain(&mut self) {
        self.input_open = false;
        self.inward.bytes.clear();
        while self.output_open || !self.outward.is_empty() {
            let mut fds = self.interests();
            match poll(&mut fds, PollTimeout::from(LAST_OUTPUT)) {
                Ok(0) => return,
                Ok(_) | Err(Errno::EINTR) => self.copy(),
                Err(_) => return,
            }
        }
    }
}

fn is_ready(fd: impl AsFd, what: PollFlags) -> bool {
    let mut fds = [PollFd::new(fd.as_fd(), what)];
    poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
}

/// Stops the terminal from turning "\n" into "\r\n".
fn clear_onlcr(master: impl AsFd) -> nix::Result<()> {
    let mut settings = tcgetattr(master.as_fd())?;
    settings.output_flags.remove(OutputFlags::ONLCR);
    tcsetattr(master.as_fd(), SetArg::TCSANOW, &settings)
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
