//! linux.resources as data.
