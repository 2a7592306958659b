//! System calls that nix lacks, as safe functions: the only place with `unsafe`. Each function
//! does one call, is named after it, and returns the errno as it came.
#![allow(unsafe_code)]

pub mod bpf;
pub mod mount;
pub mod process;
pub mod seccomp;
pub mod tty;

use nix::errno::Errno;

/// What a call gave, or its errno.
pub type Sys<T> = std::result::Result<T, Errno>;

/// The result of a raw system call: -1 becomes the errno.
fn check(result: libc::c_long) -> Sys<libc::c_long> {
    if result < 0 { Err(Errno::last()) } else { Ok(result) }
}
