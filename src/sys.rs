//! System calls that nix lacks, as safe functions: the only place with `unsafe`. Each function
//! does one call, is named after it, and returns the errno as it came.
#![allow(unsafe_code)]

pub mod bpf;
pub mod mount;
pub mod netlink;
pub mod process;
pub mod seccomp;
pub mod tty;

use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;

/// What a call gave, or its errno.
pub type Sys<T> = std::result::Result<T, Errno>;

/// The result of a raw system call: -1 becomes the errno.
fn check(result: libc::c_long) -> Sys<libc::c_long> {
    if result < 0 { Err(Errno::last()) } else { Ok(result) }
}

/// Takes ownership of a descriptor that recvmsg(2) has just put into this process.
pub fn own_received_fd(fd: RawFd) -> OwnedFd {
    // SAFETY: called only on SCM_RIGHTS results, which are new and belong to nobody else.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// Borrows descriptor 0, 1 or 2, which Rust's start-up code guarantees to be open.
pub fn borrow_stdio(fd: RawFd) -> std::os::fd::BorrowedFd<'static> {
    debug_assert!((0..=2).contains(&fd));
    // SAFETY: std opens /dev/null on whichever of the three is closed at start, and we never
    // close them.
    unsafe { std::os::fd::BorrowedFd::borrow_raw(fd) }
}
