//! Starting processes in containers: parent and child only execute a plan.
//!
//! | process | user ns | pid ns | mount ns | others | lives until |
//! |---|---|---|---|---|---|
//! | parent (`create`, `run`, `exec`) | caller's | caller's | caller's | caller's | its command ends |
//! | joiner (only [`Spawn::ViaJoiner`]) | joined | caller's | joined | joined | init is cloned |
//! | init | the container's | the container's | the container's | the container's | it execs the program |
//!
//! [`parent`] and [`init`] carry the same `#1 .. #8` marks where they meet; [`protocol`] draws
//! the messages. Both are single-threaded.
//!
//! [`Spawn::ViaJoiner`]: crate::plan::namespaces::Spawn::ViaJoiner

pub mod exec;
pub mod init;
pub mod namespaces;
pub mod parent;
pub mod program;
pub mod protocol;
