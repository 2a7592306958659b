//! Tests of the relay, with pipes as our standard input and output.

use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use super::*;
use crate::console::{Pty, open_pty_in};

/// A relay between two pipes and a fresh terminal: what goes in, what comes out.
fn relay() -> Option<(Relay, Pty, File, File)> {
    let pty = open_pty_in(File::open("/dev/pts").ok()?).ok()?;
    let (input, feed) = nix::unistd::pipe().unwrap();
    let (result, output) = nix::unistd::pipe().unwrap();
    let mut relay = Relay::new(pty.master.try_clone().unwrap()).unwrap();
    // The test's own standard input may be anything.
    drop(relay._raw.take());
    clear_onlcr(&pty.master).unwrap();
    relay.input = input;
    relay.input_open = true;
    relay.output = output;
    Some((relay, pty, feed.into(), result.into()))
}

fn program(pty: &Pty, script: &str) -> std::process::Child {
    let copy = || Stdio::from(pty.peer.try_clone().unwrap());
    let mut command = Command::new("/usr/bin/setsid");
    command.args(["--ctty", "sh", "-c", script]).stdin(copy()).stdout(copy()).stderr(copy());
    command.arg0("setsid").spawn().unwrap()
}

/// Serves until the program ends; all that it wrote.
fn serve(mut relay: Relay, pty: Pty, script: &str, mut result: File) -> String {
    let mut child = program(&pty, script);
    drop(pty);
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        result.read_to_string(&mut text).unwrap();
        text
    });
    let start = std::time::Instant::now();
    while child.try_wait().unwrap().is_none() {
        if start.elapsed().as_secs() > 20 {
            child.kill().unwrap();
        }
        let mut fds = relay.interests();
        poll(&mut fds, PollTimeout::from(10u16)).unwrap();
        relay.copy();
    }
    relay.drain();
    drop(relay);
    reader.join().unwrap()
}

#[test]
fn nothing_is_lost_at_the_end() {
    let Some((relay, pty, _feed, result)) = relay() else { return };
    // More than a terminal holds; the program is gone before the last of it is read.
    let text =
        serve(relay, pty, "i=0; while [ $i -lt 20000 ]; do echo $i; i=$((i+1)); done", result);
    let expected: String = (0..20000).map(|i| format!("{i}\n")).collect();
    assert!(text == expected, "{} bytes of {}", text.len(), expected.len());
}

#[test]
fn input_and_its_end_arrive() {
    let Some((relay, pty, mut feed, result)) = relay() else { return };
    feed.write_all(b"one\ntwo").unwrap();
    drop(feed);
    let text = serve(relay, pty, "stty -echo; sed 's/.*/<&>/'", result);
    assert!(text.ends_with("<one>\n<two>"), "{text:?}");
}

#[test]
fn a_reader_that_went_away_does_not_stop_the_program() {
    let Some((relay, pty, _feed, result)) = relay() else { return };
    drop(result);
    let text = serve(relay, pty, "head -c 200000 /dev/zero", File::open("/dev/null").unwrap());
    assert_eq!(text, "");
}

#[test]
fn the_size_follows() {
    let Some((mut relay, pty, _feed, _result)) = relay() else { return };
    let own = open_pty_in(File::open("/dev/pts").unwrap()).unwrap();
    tty::set_size(&own.master, tty::Size { columns: 99, rows: 11 }).unwrap();
    relay.own = Some(own.peer);
    relay.resize();
    assert_eq!(tty::size(&pty.peer).unwrap(), tty::Size { columns: 99, rows: 11 });
    // One that knows no size leaves it as it is.
    tty::set_size(&own.master, tty::Size { columns: 0, rows: 0 }).unwrap();
    relay.resize();
    assert_eq!(tty::size(&pty.peer).unwrap(), tty::Size { columns: 99, rows: 11 });
}
