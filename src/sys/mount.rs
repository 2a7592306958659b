//! The new mount API: open_tree(2), fsopen(2), move_mount(2), mount_setattr(2), openat2(2).
