//! Starting processes in containers.
