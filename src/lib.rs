//! Corten, an OCI container runtime. The modules stand in the order in which data flows:
//!
//! config.json -> [`config`] (read, checked) -> [`plan`] (every default resolved)
//! -> [`launch`] (parent and child only execute) with [`rootfs`], [`cgroups`], [`network`],
//! [`rdt`], [`security`].
//!
//! `docs/architecture.md` tells the whole; `scripts/check-imports` holds the import rules.
#![deny(unsafe_code)]
#![warn(missing_docs)]

pub mod cli;
pub mod commands;

pub mod config;
pub mod plan;

pub mod cgroups;
pub mod console;
pub mod hooks;
pub mod launch;
pub mod network;
pub mod notify;
pub mod rdt;
pub mod rootfs;
pub mod security;
pub mod supervise;

pub mod state;

pub mod error;
pub mod logging;
pub mod sys;
