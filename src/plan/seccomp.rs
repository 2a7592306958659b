//! linux.seccomp as a BPF program.
