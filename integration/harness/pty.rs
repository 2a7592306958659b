//! A terminal with a person at it: types, and waits for what it wants to see.

use nix::pty::{Winsize, openpty};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

pub struct Terminal {
    master: File,
    seen: Arc<Mutex<Vec<u8>>>,
    /// Everything before this was already expected.
    position: usize,
    child: Option<Child>,
    pub slave: Option<OwnedFd>,
}

impl Terminal {
    /// A new terminal of 80x24 with nothing on it.
    pub fn new() -> Terminal {
        let size = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
        let pair = openpty(&size, None).unwrap();
        let mut terminal = Terminal::of_master(pair.master);
        terminal.slave = Some(pair.slave);
        terminal
    }

    /// The far end of a console that the runtime made.
    pub fn of_master(master: OwnedFd) -> Terminal {
        let master = File::from(master);
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (mut reader, sink) = (master.try_clone().unwrap(), seen.clone());
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            // EIO says that the last process on the other side has closed it.
            while let Ok(length @ 1..) = reader.read(&mut buffer) {
                sink.lock().unwrap().extend_from_slice(&buffer[..length]);
            }
        });
        Terminal { master, seen, position: 0, child: None, slave: None }
    }

    /// Runs the program as leader of a session on this terminal.
    pub fn spawn(&mut self, program: &std::path::Path, args: &[&str]) {
        let slave = || self.slave.as_ref().unwrap().try_clone().unwrap();
        let mut command = Command::new("setsid");
        command.arg("--ctty").arg("--wait").arg(program).args(args).env("TERM", "xterm");
        let child = command.stdin(slave()).stdout(slave()).stderr(slave()).spawn().unwrap();
        super::leftovers::awaited(child.id() as i32);
        self.child = Some(child);
    }

    pub fn send(&mut self, text: &str) {
        self.master.write_all(text.as_bytes()).unwrap();
    }

    /// Everything seen so far.
    pub fn seen(&self) -> String {
        String::from_utf8_lossy(&self.seen.lock().unwrap()).into_owned()
    }

    /// Waits for `text` behind what was expected before.
    #[track_caller]
    pub fn expect(&mut self, text: &str) {
        self.expect_within(text, 15);
    }

    #[track_caller]
    pub fn expect_within(&mut self, text: &str, seconds: u64) {
        let end = Instant::now() + super::limit(seconds);
        loop {
            let seen = self.seen.lock().unwrap().clone();
            let new = &seen[self.position..];
            if let Some(at) = new.windows(text.len()).position(|w| w == text.as_bytes()) {
                self.position += at + text.len();
                return;
            }
            let shown = String::from_utf8_lossy(&seen).into_owned();
            assert!(Instant::now() < end, "{text:?} did not come; the terminal shows:\n{shown}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Changes the window; the kernel sends SIGWINCH.
    pub fn resize(&self, rows: u16, columns: u16) {
        let slave = self.slave.as_ref().unwrap().try_clone().unwrap();
        let mut command = Command::new("stty");
        command.args(["rows", &rows.to_string(), "cols", &columns.to_string()]).stdin(slave);
        assert!(command.status().unwrap().success());
    }

    /// `stty -g` of the terminal: equal texts are equal modes.
    pub fn modes(&self) -> String {
        let slave = self.slave.as_ref().unwrap().try_clone().unwrap();
        let output = Command::new("stty").arg("-g").stdin(slave).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Waits for the program to end.
    #[track_caller]
    pub fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        let shown = self.seen();
        super::wait_for(&format!("the end of the program; terminal:\n{shown}"), 15, || {
            status = self.child.as_mut().unwrap().try_wait().unwrap();
            status.is_some()
        });
        self.child = None;
        status.unwrap()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
