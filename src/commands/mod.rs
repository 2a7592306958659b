//! One story per command.

pub mod create;
pub mod exec;
pub mod lifecycle;
pub mod output;
