//! Processes: clone3(2), pidfds, capabilities, keyrings, scheduling.
