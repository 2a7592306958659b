//! The plan: everything that will be done, as data, with every default resolved. The parent and
//! the child only execute it. A plan never resolves a path inside the root filesystem.

pub mod hooks;
pub mod mounts;
pub mod namespaces;
pub mod process;
pub mod resources;
pub mod seccomp;
