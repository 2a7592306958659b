//! config.json on its way in: found, read, repaired where the model of `oci-spec` is narrower
//! than the spec, and checked. What leaves this module is a [`Spec`](oci_spec::runtime::Spec)
//! of which every rule of the spec that can be checked without doing anything holds.

pub mod bundle;
mod faults;
pub mod idlist;
pub mod idmap;
pub mod process;
mod repair;
pub mod validate;
