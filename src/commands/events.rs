//! `events`: statistics and out-of-memory events, one JSON object a line, in runc's shape.

use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::Serialize;

use super::{open, print, status};
use crate::cgroups::{Cgroup, OomEvent, OomWatch, Stats};
use crate::cli::EventsArgs;
use crate::error::{Context, Error, Fault, Kind, Result};
use crate::state::{State, Status};

#[derive(Debug, Serialize)]
struct Event<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Stats>,
}

fn print_event(kind: &str, id: &str, data: Option<Stats>) -> Result<()> {
    let json = serde_json::to_string(&Event { kind, id, data });
    print(&format!("{}\n", json.context("cannot write the event as JSON")?))
}

/// `events`: once with `--stats`, else until the container stops.
pub fn events(root: &Path, args: &EventsArgs) -> Result<()> {
    let interval = duration(&args.interval)?;
    let (dir, state) = open(root, &args.id)?;
    let not_running = || -> Error {
        let text = format!("container with id {} is not running", args.id);
        Fault::new(Kind::WrongState, text).into()
    };
    if matches!(status(&dir, &state), Status::Stopped | Status::Creating) {
        return Err(not_running());
    }
    let cgroup = Cgroup::open(&state.cgroup)?;
    if args.stats {
        return print_event("stats", &args.id, Some(stats(&cgroup, &state)?));
    }
    let init = state.init_pidfd()?.ok_or_else(not_running)?;
    let mut oom = cgroup.oom_events()?;
    let mut next = Instant::now() + interval;
    loop {
        let woken = wait(init.as_fd(), oom.as_ref(), next)?;
        if woken.oom
            && let Some(watch) = &mut oom
        {
            match watch.next_event()? {
                OomEvent::Oom => print_event("oom", &args.id, None)?,
                OomEvent::Nothing => {}
                OomEvent::End => return Ok(()),
            }
        }
        // Asked after the event: what killed init is told before its end.
        if woken.ended {
            return Ok(());
        }
        if Instant::now() >= next {
            print_event("stats", &args.id, Some(stats(&cgroup, &state)?))?;
            next = Instant::now() + interval;
        }
    }
}

fn stats(cgroup: &Cgroup, state: &State) -> Result<Stats> {
    let mut stats = cgroup.stats()?;
    if let Some(group) = &state.rdt {
        stats.intel_rdt = group.stats()?;
    }
    Ok(stats)
}

struct Woken {
    ended: bool,
    oom: bool,
}

/// Until init ends, memory runs out, or it is time for the next statistics.
fn wait(init: std::os::fd::BorrowedFd<'_>, oom: Option<&OomWatch>, next: Instant) -> Result<Woken> {
    let mut fds = vec![PollFd::new(init, PollFlags::POLLIN)];
    fds.extend(oom.map(|watch| PollFd::new(watch.fd(), PollFlags::POLLIN)));
    // Rounded up, so that it is time after it; a long wait is made of several.
    let left = next.saturating_duration_since(Instant::now()).as_micros().div_ceil(1000);
    let limit = PollTimeout::from(u16::try_from(left).unwrap_or(u16::MAX));
    match poll(&mut fds, limit) {
        Ok(_) | Err(Errno::EINTR) => {}
        Err(errno) => return Err(errno).context("cannot wait for events (poll)"),
    }
    let ready = |fd: Option<&PollFd<'_>>| fd.and_then(PollFd::any).unwrap_or(false);
    Ok(Woken { ended: ready(fds.first()), oom: ready(fds.get(1)) })
}

/// A duration as Go writes it: numbers with units, as `1m30s`, `0.5s` or `100ms`.
fn duration(text: &str) -> Result<Duration> {
    let seconds = parse(text).filter(|seconds| *seconds > 0.0);
    seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()).ok_or_else(|| {
        Fault::bad_input(format!("--interval {text}: not a duration greater than 0"))
            .hint("a number with a unit (ms, s, m, h), as 5s or 1m30s")
            .into()
    })
}

fn parse(text: &str) -> Option<f64> {
    let mut rest = text;
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at_checked(digits)?;
        let end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at_checked(end)?;
        let factor = match unit {
            "ns" => 1e-9,
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        seconds += number.parse::<f64>().ok()? * factor;
        rest = tail;
    }
    Some(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_as_go_writes_them() {
        for (text, milliseconds) in
            [("5s", 5000), ("100ms", 100), ("1m30s", 90_000), ("0.5s", 500), ("1h", 3_600_000)]
        {
            assert_eq!(duration(text).unwrap(), Duration::from_millis(milliseconds), "{text}");
        }
        for text in ["", "5", "0s", "-1s", "s", "1x", "1..2s", "1s2"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_event_without_data_has_no_such_field() {
        let event = Event { kind: "oom", id: "c", data: None };
        assert_eq!(serde_json::to_string(&event).unwrap(), r#"{"type":"oom","id":"c"}"#);
    }
}
