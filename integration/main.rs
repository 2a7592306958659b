//! Real containers, seen from inside and outside: `cargo test --test integration -- [--skip=PART] [PART]...`
//! runs the tests with that part in their names.
//!
//! Needs root. `CORTEN_RUNTIME` names another runtime to try instead (runc as the control);
//! `CORTEN_MUST_RUN=1` turns a skip that the machine does not excuse into a failure;
//! `CORTEN_ALL=1` runs also what the control is known to fail;
//! `CORTEN_TEST_JOBS` says how many tests run at once (default 2); `CORTEN_TEST_PATIENCE` multiplies
//! every time limit, for slow machines.

mod harness;

mod capabilities;
mod cgroups;
mod console;
mod crash;
mod devices;
mod differential;
mod engines;
mod errors;
mod exec;
mod fuzz;
mod handover;
mod hooks;
mod hostile;
mod idmap;
mod leaks;
mod lifecycle;
mod lsm;
mod mounts;
mod namespaces;
mod netdevices;
mod operations;
mod process;
mod rdt;
mod resources;
mod rootfs;
mod seccomp;
mod security;
mod tour;
mod tuning;
mod updates;

use harness::runner;
use std::process::ExitCode;

fn main() -> ExitCode {
    let groups = [
        lifecycle::TESTS,
        operations::TESTS,
        crash::TESTS,
        namespaces::TESTS,
        netdevices::TESTS,
        process::TESTS,
        rdt::TESTS,
        rootfs::TESTS,
        mounts::TESTS,
        idmap::TESTS,
        devices::TESTS,
        cgroups::TESTS,
        resources::TESTS,
        updates::TESTS,
        security::TESTS,
        lsm::TESTS,
        seccomp::TESTS,
        hooks::TESTS,
        console::TESTS,
        capabilities::TESTS,
        exec::TESTS,
        handover::TESTS,
        errors::TESTS,
        hostile::TESTS,
        leaks::TESTS,
        fuzz::TESTS,
        engines::containerd::TESTS,
        tour::TESTS,
        tuning::TESTS,
    ];
    runner::main(&[groups.concat(), differential::tests()].concat())
}
