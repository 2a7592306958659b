//! bpf(2), as far as the device filter of cgroup v2 needs it.

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::{Sys, check};

// linux/bpf.h
const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_PROG_ATTACH: libc::c_int = 8;
const BPF_PROG_DETACH: libc::c_int = 9;
const BPF_PROG_GET_FD_BY_ID: libc::c_int = 13;
const BPF_PROG_QUERY: libc::c_int = 16;
const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const BPF_CGROUP_DEVICE: u32 = 6;
const BPF_F_ALLOW_MULTI: u32 = 2;
const BPF_F_REPLACE: u32 = 4;

/// One instruction, `struct bpf_insn`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instruction {
    /// Class, operation and source.
    pub code: u8,
    /// Destination register in the low four bits, source register in the high ones (as a C
    /// bit-field lies on little-endian machines, the only ones that Corten is built for).
    pub registers: u8,
    /// Offset of a load, or how many instructions a jump leaves out.
    pub offset: i16,
    /// Constant.
    pub immediate: i32,
}

/// The head of `union bpf_attr` for BPF_PROG_LOAD.
#[repr(C)]
#[derive(Default)]
struct Load {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
}

/// The head of `union bpf_attr` for BPF_PROG_ATTACH and BPF_PROG_DETACH.
#[repr(C)]
#[derive(Default)]
struct Attach {
    target_fd: u32,
    attach_bpf_fd: u32,
    attach_type: u32,
    attach_flags: u32,
    replace_bpf_fd: u32,
}

/// The head of `union bpf_attr` for BPF_PROG_QUERY.
#[repr(C)]
#[derive(Default)]
struct Query {
    target_fd: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    prog_ids: u64,
    prog_cnt: u32,
    padding: u32,
}

/// The head of `union bpf_attr` for BPF_PROG_GET_FD_BY_ID.
#[repr(C)]
#[derive(Default)]
struct ById {
    id: u32,
    next_id: u32,
    open_flags: u32,
}

/// bpf(2) with the head of the union that `command` reads.
fn bpf<T>(command: libc::c_int, attributes: &mut T) -> Sys<libc::c_long> {
    // SAFETY: the pointer and the size are those of a live, exclusively borrowed #[repr(C)]
    // struct; the kernel takes bytes beyond the size as zero. Addresses inside the struct are the
    // callers' affair: each points to memory that outlives the call.
    check(unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_mut(attributes),
            std::mem::size_of::<T>(),
        )
    })
}

fn number(fd: BorrowedFd<'_>) -> u32 {
    // A descriptor is never negative.
    fd.as_raw_fd() as u32
}

fn owned(fd: libc::c_long) -> OwnedFd {
    // SAFETY: the kernel has just returned this new descriptor (close-on-exec, as all of bpf(2)'s)
    // and nothing else knows it.
    unsafe { OwnedFd::from_raw_fd(fd as libc::c_int) }
}

/// BPF_PROG_LOAD of a BPF_PROG_TYPE_CGROUP_DEVICE program; `name` has 15 bytes at most.
pub fn load_device_program(
    program: &[Instruction],
    name: &[u8; 15],
    license: &CStr,
) -> Sys<OwnedFd> {
    let mut attributes = Load {
        prog_type: BPF_PROG_TYPE_CGROUP_DEVICE,
        insn_cnt: program.len() as u32,
        insns: program.as_ptr() as u64,
        license: license.as_ptr() as u64,
        ..Load::default()
    };
    attributes.prog_name[..15].copy_from_slice(name);
    bpf(BPF_PROG_LOAD, &mut attributes).map(owned)
}

/// BPF_PROG_ATTACH beside other device programs of the group (all of them must agree), or in
/// place of `old` in one step (Linux 5.6).
pub fn attach_device_program(
    cgroup: BorrowedFd<'_>,
    program: BorrowedFd<'_>,
    old: Option<BorrowedFd<'_>>,
) -> Sys<()> {
    let mut attributes = Attach {
        target_fd: number(cgroup),
        attach_bpf_fd: number(program),
        attach_type: BPF_CGROUP_DEVICE,
        attach_flags: BPF_F_ALLOW_MULTI | old.map_or(0, |_| BPF_F_REPLACE),
        replace_bpf_fd: old.map_or(0, number),
    };
    bpf(BPF_PROG_ATTACH, &mut attributes).map(drop)
}

/// BPF_PROG_DETACH.
pub fn detach_device_program(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>) -> Sys<()> {
    let mut attributes = Attach {
        target_fd: number(cgroup),
        attach_bpf_fd: number(program),
        attach_type: BPF_CGROUP_DEVICE,
        ..Attach::default()
    };
    bpf(BPF_PROG_DETACH, &mut attributes).map(drop)
}

/// BPF_PROG_QUERY: the ids of the device programs attached to this very group, 64 at most (the
/// kernel's own limit for one group).
pub fn device_programs(cgroup: BorrowedFd<'_>) -> Sys<Vec<u32>> {
    let mut ids = vec![0u32; 64];
    let mut attributes = Query {
        target_fd: number(cgroup),
        attach_type: BPF_CGROUP_DEVICE,
        prog_ids: ids.as_mut_ptr() as u64,
        prog_cnt: ids.len() as u32,
        ..Query::default()
    };
    bpf(BPF_PROG_QUERY, &mut attributes)?;
    ids.truncate(attributes.prog_cnt as usize);
    Ok(ids)
}

/// BPF_PROG_GET_FD_BY_ID.
pub fn program_by_id(id: u32) -> Sys<OwnedFd> {
    let mut attributes = ById { id, ..ById::default() };
    bpf(BPF_PROG_GET_FD_BY_ID, &mut attributes).map(owned)
}
