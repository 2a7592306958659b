//! netlink(7).

use std::os::fd::{AsRawFd, BorrowedFd};

use super::{Sys, check};

/// setsockopt(2) NETLINK_EXT_ACK: the kernel says in words why it refuses.
pub fn set_ext_ack(socket: BorrowedFd<'_>) -> Sys<()> {
    let on: libc::c_int = 1;
    let size = size_of::<libc::c_int>() as libc::socklen_t;
    let level = libc::SOL_NETLINK;
    // SAFETY: pointer and size describe `on`, which lives through the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            libc::NETLINK_EXT_ACK,
            (&raw const on).cast(),
            size,
        )
    };
    check(result.into()).map(drop)
}
