//! Real containers, seen from inside and outside: `cargo test --test integration [FILTER]...`.
//!
//! Needs root. `CORTEN_RUNTIME` names another runtime to try instead (runc as the control);
//! `CORTEN_MUST_RUN=1` turns a skip that the machine does not excuse into a failure;
//! `CORTEN_ALL=1` runs also what the control is known to fail;
//! `CORTEN_TEST_JOBS` says how many tests run at once (default 2).

mod harness;

mod cgroups;
mod console;
mod crash;
mod devices;
mod differential;
mod engines;
mod errors;
mod exec;
mod hooks;
mod hostile;
mod leaks;
mod lifecycle;
mod namespaces;
mod process;
mod rootfs;
mod security;
mod tour;

use harness::runner;
use std::process::ExitCode;

fn main() -> ExitCode {
    let groups = [
        lifecycle::TESTS,
        crash::TESTS,
        namespaces::TESTS,
        process::TESTS,
        rootfs::TESTS,
        devices::TESTS,
        cgroups::TESTS,
        security::TESTS,
        hooks::TESTS,
        console::TESTS,
        exec::TESTS,
        errors::TESTS,
        hostile::TESTS,
        leaks::TESTS,
        engines::containerd::TESTS,
        tour::TESTS,
    ];
    runner::main(&[groups.concat(), differential::tests()].concat())
}
