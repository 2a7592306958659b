//! Control groups.
mod device_filter;
mod dir;
mod paths;
