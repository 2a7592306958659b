//! Foreground containers.
