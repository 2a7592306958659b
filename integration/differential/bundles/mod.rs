//! The bundles: each is the default one (see `harness::bundle`) with an edit.

mod cgroups;
mod engines;
mod mounts;
mod namespaces;
mod process;

use crate::harness::Test;

/// `name, How, edit;` for each bundle: a test of that name.
#[macro_export]
macro_rules! bundles {
    ($($name:ident, $how:ident, $edit:expr;)*) => {
        $(fn $name(t: &$crate::harness::Context) {
            let how = $crate::differential::How::$how;
            $crate::differential::compare(t, stringify!($name), how, $edit);
        })*
        pub const TESTS: &[$crate::harness::Test] =
            &[$($crate::test!($name).needs($crate::differential::NEEDS)),*];
    };
}

pub fn tests() -> Vec<Test> {
    [engines::TESTS, process::TESTS, mounts::TESTS, namespaces::TESTS, cgroups::TESTS].concat()
}
