//! Mounts of the root filesystem as data.
