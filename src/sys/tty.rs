//! What supervising a program takes: its terminal (ioctl_tty(2)) and its end (waitpid(2)).

use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use super::{Sys, check};

/// Columns and rows of a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Characters a row.
    pub columns: u16,
    /// Rows.
    pub rows: u16,
}

/// TIOCSPTLCK with 0: lets the other end of a pseudo terminal be opened.
pub fn unlock_peer(master: impl AsFd) -> Sys<()> {
    let locked: libc::c_int = 0;
    // SAFETY: the kernel reads one int through the pointer, which lives until the call returns.
    let result = unsafe { libc::ioctl(master.as_fd().as_raw_fd(), libc::TIOCSPTLCK, &locked) };
    check(result.into()).map(drop)
}

/// TIOCGPTPEER: opens the other end of a pseudo terminal without a path, with close-on-exec and
/// without making it the controlling terminal.
pub fn open_peer(master: impl AsFd) -> Sys<OwnedFd> {
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: the argument is a plain integer; no memory is passed.
    let result = unsafe { libc::ioctl(master.as_fd().as_raw_fd(), libc::TIOCGPTPEER, flags) };
    let fd = check(result.into())?;
    // SAFETY: the kernel has just made this descriptor for us; nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as libc::c_int) })
}

/// TIOCGPTN: the N of /dev/pts/N.
pub fn peer_number(master: impl AsFd) -> Sys<u32> {
    let mut number: libc::c_uint = 0;
    // SAFETY: the kernel writes one unsigned int through the pointer, which outlives the call.
    let result = unsafe { libc::ioctl(master.as_fd().as_raw_fd(), libc::TIOCGPTN, &mut number) };
    check(result.into())?;
    Ok(number)
}

/// TIOCGWINSZ.
pub fn size(tty: impl AsFd) -> Sys<Size> {
    let mut raw = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the kernel writes one winsize through the pointer, which outlives the call.
    let result = unsafe { libc::ioctl(tty.as_fd().as_raw_fd(), libc::TIOCGWINSZ, &mut raw) };
    check(result.into())?;
    Ok(Size { columns: raw.ws_col, rows: raw.ws_row })
}

/// TIOCSWINSZ: the processes in front get SIGWINCH when it changes.
pub fn set_size(tty: impl AsFd, size: Size) -> Sys<()> {
    let raw = libc::winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the kernel reads one winsize through the pointer, which outlives the call.
    let result = unsafe { libc::ioctl(tty.as_fd().as_raw_fd(), libc::TIOCSWINSZ, &raw) };
    check(result.into()).map(drop)
}

/// TIOCSCTTY: makes `tty` the controlling terminal of this session, whose leader we must be.
pub fn set_controlling(tty: impl AsFd) -> Sys<()> {
    // SAFETY: the argument is a plain integer; no memory is passed.
    let result = unsafe { libc::ioctl(tty.as_fd().as_raw_fd(), libc::TIOCSCTTY, 0) };
    check(result.into()).map(drop)
}

/// How a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It called exit(3) with this status.
    Exited(i32),
    /// This signal ended it; real-time ones too, which nix's `waitpid` loses.
    Killed(i32),
}

/// waitpid(2) for any child that has ended, without waiting: its process id and how it ended.
/// ECHILD when there are no children at all.
pub fn reap_any() -> Sys<Option<(i32, End)>> {
    let mut status: libc::c_int = 0;
    // SAFETY: the kernel writes one int through the pointer, which outlives the call.
    let pid = check(unsafe { libc::waitpid(-1, &mut status, libc::WNOHANG) }.into())?;
    let end = match libc::WIFSIGNALED(status) {
        true => End::Killed(libc::WTERMSIG(status)),
        false => End::Exited(libc::WEXITSTATUS(status)),
    };
    Ok((pid > 0).then_some((pid as i32, end)))
}
