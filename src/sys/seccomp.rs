//! seccomp(2), and pidfd_getfd(2) to take a listener out of the process that made it.

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;

use super::{Sys, check};

/// Size of struct sock_filter.
const INSTRUCTION: usize = size_of::<libc::sock_filter>();

/// SECCOMP_SET_MODE_FILTER: puts the calling thread under `program` (struct sock_filter[] as
/// bytes) with `flags` (SECCOMP_FILTER_FLAG_*). Gives the listener with
/// SECCOMP_FILTER_FLAG_NEW_LISTENER. EACCES without no_new_privs and without CAP_SYS_ADMIN,
/// EINVAL for a program or flags that the kernel refuses, ESRCH for a thread that TSYNC could
/// not reach.
pub fn set_mode_filter(program: &[u8], flags: u32) -> Sys<Option<OwnedFd>> {
    if !program.len().is_multiple_of(INSTRUCTION) {
        return Err(Errno::EINVAL);
    }
    let fprog = libc::sock_fprog {
        len: u16::try_from(program.len() / INSTRUCTION).map_err(|_| Errno::EINVAL)?,
        // The kernel copies the program from any address and does not write to it.
        filter: program.as_ptr().cast_mut().cast(),
    };
    // SAFETY: `fprog` and the bytes it points to outlive the call, and its length is theirs.
    let result = check(unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const fprog)
    })?;
    if flags & libc::SECCOMP_FILTER_FLAG_NEW_LISTENER as u32 != 0 {
        // SAFETY: with this flag the result is a new descriptor that nobody else owns.
        return Ok(Some(unsafe { OwnedFd::from_raw_fd(result as RawFd) }));
    }
    // A positive result is the id of a thread that could not be synchronised.
    if result > 0 { Err(Errno::ESRCH) } else { Ok(None) }
}

/// SECCOMP_GET_ACTION_AVAIL: true when the kernel knows `action` (SECCOMP_RET_*).
pub fn get_action_avail(action: u32) -> bool {
    // SAFETY: the kernel only reads the u32 that it is given the address of.
    let result = unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_GET_ACTION_AVAIL, 0, &raw const action)
    };
    result == 0
}

/// True when the kernel accepts `flags` (SECCOMP_FILTER_FLAG_*) together; no filter is loaded.
pub fn filter_flags_avail(flags: u32) -> bool {
    // SAFETY: the null program makes the call fail: EFAULT after the flags were accepted,
    // EINVAL when they were not.
    let result = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            flags,
            std::ptr::null::<libc::sock_fprog>(),
        )
    };
    check(result) == Err(Errno::EFAULT)
}

/// pidfd_getfd(2): a copy, with close-on-exec, of descriptor `number` of the process behind
/// `pidfd`. EPERM without ptrace access to it, EBADF when it has no such descriptor.
pub fn pidfd_getfd(pidfd: BorrowedFd<'_>, number: RawFd) -> Sys<OwnedFd> {
    // SAFETY: the call takes integers only.
    let fd = check(unsafe { libc::syscall(libc::SYS_pidfd_getfd, pidfd.as_raw_fd(), number, 0) })?;
    // SAFETY: the result is a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::{Read, Write};

    #[test]
    fn a_program_of_half_an_instruction_is_refused() {
        assert_eq!(set_mode_filter(&[0; 12], 0).unwrap_err(), Errno::EINVAL);
        assert_eq!(set_mode_filter(&vec![0; 8 * 65_536], 0).unwrap_err(), Errno::EINVAL);
    }

    #[test]
    fn the_kernel_says_what_it_knows() {
        assert!(get_action_avail(libc::SECCOMP_RET_ALLOW));
        assert!(!get_action_avail(0x1234_0000));
        assert!(filter_flags_avail(libc::SECCOMP_FILTER_FLAG_LOG as u32));
        assert!(!filter_flags_avail(1 << 31));
    }

    #[test]
    fn a_descriptor_is_copied_out_of_a_process() {
        let (read, write) = nix::unistd::pipe().unwrap();
        // SAFETY: the call takes integers only.
        let pidfd = check(unsafe { libc::syscall(libc::SYS_pidfd_open, std::process::id(), 0) });
        // SAFETY: the result is a new descriptor that nobody else owns.
        let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd.unwrap() as RawFd) };
        let copy = pidfd_getfd(std::os::fd::AsFd::as_fd(&pidfd), write.as_raw_fd()).unwrap();
        drop(write);
        File::from(copy).write_all(b"through the copy").unwrap();
        let mut text = String::new();
        File::from(read).read_to_string(&mut text).unwrap();
        assert_eq!(text, "through the copy");
    }
}
