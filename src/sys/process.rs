//! Processes: clone3(2), pidfds, capabilities, keyrings, scheduling, and what a process tells
//! the kernel about itself before execve(2).

use std::ffi::{CStr, CString, c_int, c_void};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::sched::CloneFlags;
use nix::unistd::Pid;

use super::{Sys, check};

/// Which side of [`clone3`] we are on.
pub enum Cloned {
    /// The new process: a copy of this one, as after fork(2).
    Child,
    /// The old one.
    Parent {
        /// The child's process id in the caller's pid namespace.
        pid: Pid,
        /// Its pidfd, close-on-exec.
        pidfd: OwnedFd,
    },
}

/// linux/sched.h; wider than nix's flags.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// clone3(2) as fork(2) with namespaces: no shared memory, SIGCHLD at the end. `into` is a
/// cgroup v2 directory that the child starts in. Call it only while single-threaded.
pub fn clone3(flags: CloneFlags, into: Option<BorrowedFd<'_>>) -> Sys<Cloned> {
    let mut pidfd: RawFd = -1;
    // SAFETY: clone_args is plain old data; all zero is its documented default.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = flags.bits() as u32 as u64 | libc::CLONE_PIDFD as u64;
    args.pidfd = &raw mut pidfd as u64;
    // With CLONE_PARENT the kernel takes the signal of the caller, and demands none here.
    if !flags.contains(CloneFlags::CLONE_PARENT) {
        args.exit_signal = libc::SIGCHLD as u64;
    }
    if let Some(cgroup) = into {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: args lives through the call; without CLONE_VM the child works on a copy of our
    // memory, and we are single-threaded, so no lock is held by a thread that is not copied.
    let pid = check(unsafe {
        libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<libc::clone_args>())
    })?;
    if pid == 0 {
        return Ok(Cloned::Child);
    }
    // SAFETY: on success the kernel stored a new descriptor there, which nobody else owns.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok(Cloned::Parent { pid: Pid::from_raw(pid as i32), pidfd })
}

/// _exit(2): no destructors, no buffers flushed; for a child that did not exec.
pub fn exit_now(status: i32) -> ! {
    // SAFETY: ends the process; nothing after it runs.
    unsafe { libc::_exit(status) }
}

/// pidfd_open(2).
pub fn pidfd_open(pid: Pid) -> Sys<OwnedFd> {
    // SAFETY: plain numbers in, a new descriptor out.
    let fd = check(unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) })?;
    // SAFETY: the descriptor is new and ours.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// pidfd_send_signal(2); signal 0 only asks whether the process is there.
pub fn pidfd_send_signal(pidfd: BorrowedFd<'_>, signal: i32) -> Sys<()> {
    // SAFETY: a null siginfo is allowed and means the default one.
    let result = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal,
            std::ptr::null::<c_void>(),
            0,
        )
    };
    check(result).map(drop)
}

/// close_range(2) from `first` to the last possible descriptor, with CLOSE_RANGE_CLOEXEC.
pub fn cloexec_from(first: u32) -> Sys<()> {
    // SAFETY: only sets a flag on descriptors.
    let result =
        unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    check(result).map(drop)
}

/// close_range(2) of everything from `first` on but `keep`. The caller owns the process: no
/// value that holds one of the closed descriptors may be used or dropped afterwards.
pub fn close_all_but(first: u32, keep: &mut [RawFd]) -> Sys<()> {
    let close = |from: u32, to: u32| -> Sys<()> {
        if from > to {
            return Ok(());
        }
        // SAFETY: see above; the numbers are plain.
        check(unsafe { libc::syscall(libc::SYS_close_range, from, to, 0) }).map(drop)
    };
    keep.sort_unstable();
    let mut from = first;
    for fd in keep.iter().map(|fd| *fd as u32).filter(|fd| *fd >= first) {
        close(from, fd.saturating_sub(1))?;
        from = fd + 1;
    }
    close(from, u32::MAX)
}

/// Clears close-on-exec on `count` descriptors from `first` on.
pub fn keep_on_exec(first: u32, count: u32) -> Sys<()> {
    (first..first.saturating_add(count)).try_for_each(|fd| {
        // SAFETY: only clears a flag.
        check(unsafe { libc::fcntl(fd as RawFd, libc::F_SETFD, 0) }.into()).map(drop)
    })
}

/// execveat(2) of the file that `fd` is open on.
pub fn fexecve(fd: BorrowedFd<'_>, args: &[CString], env: &[CString]) -> Errno {
    let pointers = |list: &[CString]| -> Vec<*const libc::c_char> {
        list.iter().map(|s| s.as_ptr()).chain([std::ptr::null()]).collect()
    };
    let (args, env) = (pointers(args), pointers(env));
    // SAFETY: both lists end with a null pointer and live through the call, which returns only
    // on failure.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            fd.as_raw_fd(),
            c"".as_ptr(),
            args.as_ptr(),
            env.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    Errno::last()
}

/// capget(2)/capset(2) version 3: two 32-bit halves.
const CAPABILITY_VERSION_3: u32 = 0x2008_0522;

#[repr(C)]
struct CapHeader {
    version: u32,
    pid: c_int,
}

#[repr(C)]
#[derive(Default, Clone, Copy)]
struct CapData {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// capget(2) of this thread: the permitted set.
pub fn permitted_capabilities() -> Sys<u64> {
    let mut header = CapHeader { version: CAPABILITY_VERSION_3, pid: 0 };
    let mut data = [CapData::default(); 2];
    // SAFETY: version 3 takes exactly two data elements.
    check(unsafe { libc::syscall(libc::SYS_capget, &raw mut header, data.as_mut_ptr()) })?;
    Ok(u64::from(data[0].permitted) | u64::from(data[1].permitted) << 32)
}

/// capset(2) of this thread.
pub fn set_capabilities(effective: u64, permitted: u64, inheritable: u64) -> Sys<()> {
    let mut header = CapHeader { version: CAPABILITY_VERSION_3, pid: 0 };
    let half = |shift: u32| CapData {
        effective: (effective >> shift) as u32,
        permitted: (permitted >> shift) as u32,
        inheritable: (inheritable >> shift) as u32,
    };
    let data = [half(0), half(32)];
    // SAFETY: version 3 takes exactly two data elements.
    check(unsafe { libc::syscall(libc::SYS_capset, &raw mut header, data.as_ptr()) }).map(drop)
}

fn prctl(option: c_int, arg2: u64, arg3: u64) -> Sys<i64> {
    // SAFETY: only called below with options that take plain numbers; unused arguments are 0,
    // as prctl(2) demands.
    check(unsafe { libc::prctl(option, arg2, arg3, 0u64, 0u64) }.into())
}

/// PR_CAPBSET_READ: whether the bounding set holds it; `None` for a capability that this kernel
/// does not know.
pub fn bounding_has(capability: u32) -> Option<bool> {
    prctl(libc::PR_CAPBSET_READ, capability.into(), 0).ok().map(|has| has == 1)
}

/// PR_CAPBSET_DROP.
pub fn bounding_drop(capability: u32) -> Sys<()> {
    prctl(libc::PR_CAPBSET_DROP, capability.into(), 0).map(drop)
}

/// PR_CAP_AMBIENT_CLEAR_ALL.
pub fn ambient_clear() -> Sys<()> {
    prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL as u64, 0).map(drop)
}

/// PR_CAP_AMBIENT_RAISE.
pub fn ambient_raise(capability: u32) -> Sys<()> {
    prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE as u64, capability.into()).map(drop)
}

/// setrlimit(2) by the number of the resource.
pub fn set_rlimit(resource: u32, soft: u64, hard: u64) -> Sys<()> {
    let limit = libc::rlimit { rlim_cur: soft, rlim_max: hard };
    // SAFETY: limit lives through the call.
    check(unsafe { libc::setrlimit(resource, &raw const limit) }.into()).map(drop)
}

/// getrlimit(2): soft and hard.
pub fn get_rlimit(resource: u32) -> Sys<(u64, u64)> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel fills limit.
    check(unsafe { libc::getrlimit(resource, &raw mut limit) }.into())?;
    Ok((limit.rlim_cur, limit.rlim_max))
}

/// setdomainname(2).
pub fn set_domainname(name: &CStr) -> Sys<()> {
    // SAFETY: pointer and length describe the string.
    check(unsafe { libc::setdomainname(name.as_ptr(), name.to_bytes().len()) }.into()).map(drop)
}

/// keyctl(2) KEYCTL_JOIN_SESSION_KEYRING; gives the keyring's serial number.
pub fn join_session_keyring(name: &CStr) -> Sys<i32> {
    // SAFETY: name is a C string.
    let result = unsafe {
        libc::syscall(libc::SYS_keyctl, libc::KEYCTL_JOIN_SESSION_KEYRING, name.as_ptr())
    };
    check(result).map(|serial| serial as i32)
}

/// keyctl(2) KEYCTL_DESCRIBE: the permission mask of a key, from its description.
pub fn key_permissions(serial: i32) -> Sys<u32> {
    // The longest container id, and the rest of the description.
    let mut buffer = [0u8; 512];
    // SAFETY: pointer and length describe the buffer.
    let length = check(unsafe {
        libc::syscall(
            libc::SYS_keyctl,
            libc::KEYCTL_DESCRIBE,
            serial,
            buffer.as_mut_ptr(),
            buffer.len(),
        )
    })?;
    // "type;uid;gid;permissions;description", the third in hexadecimal.
    let text = String::from_utf8_lossy(&buffer[..(length as usize).min(buffer.len())]);
    let field = text.split(';').nth(3).unwrap_or("");
    u32::from_str_radix(field, 16).map_err(|_| Errno::EINVAL)
}

/// keyctl(2) KEYCTL_SETPERM.
pub fn set_key_permissions(serial: i32, permissions: u32) -> Sys<()> {
    // SAFETY: plain numbers.
    let result =
        unsafe { libc::syscall(libc::SYS_keyctl, libc::KEYCTL_SETPERM, serial, permissions) };
    check(result).map(drop)
}

/// ioprio_set(2) of this process.
pub fn set_io_priority(class: u16, level: u16) -> Sys<()> {
    const IOPRIO_WHO_PROCESS: c_int = 1;
    let value = c_int::from(class) << 13 | c_int::from(level);
    // SAFETY: plain numbers.
    check(unsafe { libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, value) }).map(drop)
}

/// What sched_setattr(2) takes, in its order.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(missing_docs)] // the fields are those of the man page
pub struct SchedAttr {
    pub size: u32,
    pub policy: u32,
    pub flags: u64,
    pub nice: i32,
    pub priority: u32,
    pub runtime: u64,
    pub deadline: u64,
    pub period: u64,
    /// Read with SCHED_FLAG_UTIL_CLAMP_MIN, which needs this larger structure.
    pub util_min: u32,
    pub util_max: u32,
}

/// sched_setattr(2) of this process; `size` is filled in.
pub fn sched_setattr(mut attr: SchedAttr) -> Sys<()> {
    attr.size = size_of::<SchedAttr>() as u32;
    // SAFETY: attr says its own size.
    check(unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attr, 0) }).map(drop)
}

/// sched_setaffinity(2) of this process; bit N of `cpus` is CPU N. The kernel leaves out what it
/// does not have.
pub fn set_cpu_affinity(cpus: &[u64]) -> Sys<()> {
    // SAFETY: pointer and length describe the mask.
    check(unsafe {
        libc::syscall(libc::SYS_sched_setaffinity, 0, size_of_val(cpus), cpus.as_ptr())
    })
    .map(drop)
}

/// set_mempolicy(2) of this process; bit N of `nodes` is node N.
pub fn set_memory_policy(mode: u32, nodes: &[u64]) -> Sys<()> {
    // The kernel subtracts one from the number of bits.
    let bits = size_of_val(nodes) * 8 + 1;
    // SAFETY: pointer and number of bits describe the mask.
    check(unsafe { libc::syscall(libc::SYS_set_mempolicy, mode, nodes.as_ptr(), bits) }).map(drop)
}

/// Default dispositions for every signal and an empty mask: what a program may expect.
pub fn reset_signals() {
    (1..=libc::SIGRTMAX()).for_each(reset_signal);
    // Setting an empty mask cannot fail.
    let _ = nix::sys::signal::SigSet::empty().thread_set_mask();
}

/// The default disposition for one signal.
pub fn reset_signal(signal: libc::c_int) {
    // A kernel_sigaction of all zeros: SIG_DFL, no flags. The call itself, for glibc's refuses the
    // two signals that it keeps to itself, and posix_spawn(3) of our caller leaves them ignored.
    let default = [0u64; 4];
    let (action, old) = (default.as_ptr(), std::ptr::null_mut::<u64>());
    // SAFETY: SIG_DFL is always valid; SIGKILL and SIGSTOP fail harmlessly.
    unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, action, old, size_of::<u64>()) };
}

/// NS_GET_NSTYPE: which kind of namespace `file` is (CLONE_NEW*), see ioctl_nsfs(2).
pub fn namespace_type(file: BorrowedFd<'_>) -> Sys<CloneFlags> {
    const NS_GET_NSTYPE: u32 = 0xb703;
    // SAFETY: the call takes no argument.
    let kind = check(unsafe { libc::ioctl(file.as_raw_fd(), NS_GET_NSTYPE as _) }.into())?;
    Ok(CloneFlags::from_bits_retain(kind as i32))
}

/// Brings the loopback interface of this network namespace up, see netdevice(7).
pub fn loopback_up() -> Sys<()> {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
    let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    // SAFETY: ifreq is plain old data.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[0] = b'l' as libc::c_char;
    request.ifr_name[1] = b'o' as libc::c_char;
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: SIOCSIFFLAGS reads an ifreq.
    let result =
        unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw const request) };
    check(result.into()).map(drop)
}

/// Turns a raw descriptor number that the caller handed down (`--preserve-fds`) into a check
/// that it is open.
pub fn is_open(fd: RawFd) -> bool {
    // SAFETY: F_GETFD has no effect.
    unsafe { libc::fcntl(fd, libc::F_GETFD) >= 0 }
}

/// personality(2).
pub fn set_personality(persona: u32) -> Sys<()> {
    // SAFETY: a plain number.
    check(unsafe { libc::personality(persona.into()) }.into()).map(drop)
}
