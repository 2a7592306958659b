//! The differences that are known, each with the row of docs/differences.md that explains it.

/// One kind of difference.
pub struct Expected {
    /// Name of the row in docs/differences.md.
    pub row: &'static str,
    /// Who differs from Corten: `runc`, `crun` or `runc crun`.
    pub peers: &'static str,
    /// The bundle in which it must show.
    pub shows: &'static str,
    /// The bundles in which it may show, `*` stands for any text; `shows` is one of them.
    pub bundles: &'static [&'static str],
    /// What is observed differently, with `*`.
    pub keys: &'static [&'static str],
    /// Texts that make the whole difference: without them the values are equal. None: any.
    pub without: &'static [&'static str],
}

impl Expected {
    pub fn is_about(&self, bundle: &str, key: &str, peer: &str) -> bool {
        let any = |patterns: &[&str], text| patterns.iter().any(|pattern| matches(pattern, text));
        self.peers.split(' ').any(|p| p == peer) && any(self.bundles, bundle) && any(self.keys, key)
    }
}

/// The expectations by which the two values are explained; none where they are not.
pub fn explain<'a>(about: &[&'a Expected], corten: &str, peer: &str) -> Vec<&'a Expected> {
    if let Some(whole) = about.iter().find(|e| e.without.is_empty()) {
        return vec![whole];
    }
    let strip = |value: &str, e: &Expected| {
        e.without.iter().fold(value.to_string(), |value, text| value.replace(text, ""))
    };
    let (mut one, mut other, mut used) = (corten.to_string(), peer.to_string(), Vec::new());
    for e in about {
        let stripped = (strip(&one, e), strip(&other, e));
        if stripped != (one.clone(), other.clone()) {
            used.push(*e);
            (one, other) = stripped;
        }
    }
    if one == other { used } else { Vec::new() }
}

/// `*` in the pattern stands for any text.
fn matches(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((start, rest)) => text.strip_prefix(start).is_some_and(|left| {
            (0..=left.len()).any(|at| left.is_char_boundary(at) && matches(rest, &left[at..]))
        }),
    }
}

pub const EXPECTED: &[Expected] = &[
    Expected {
        row: "ignored-signals",
        peers: "runc",
        shows: "plain",
        bundles: &["*"],
        keys: &["*/status/SigIgn"],
        without: &[],
    },
    Expected {
        row: "ignored-signals",
        peers: "crun",
        shows: "plain",
        bundles: &["*"],
        keys: &["*/status/SigIgn"],
        without: &[],
    },
    Expected {
        row: "null-of-exec",
        peers: "runc crun",
        shows: "plain",
        bundles: &["*"],
        keys: &["exec/fd/*"],
        without: &[],
    },
    Expected {
        row: "mask-options",
        peers: "runc crun",
        shows: "plain",
        bundles: &["*"],
        keys: &[
            "*/mount/sys/firmware",
            "*/mount/proc/acpi",
            "*/mount/proc/asound",
            "*/mount/proc/scsi",
            "*/mount/proc/bus",
            "*/mount/secret",
        ],
        without: &["nr_inodes=1,", ",size=4k", ",size=0k", "rw", "ro"],
    },
    Expected {
        row: "root-slave",
        peers: "runc",
        shows: "plain",
        bundles: &["*"],
        keys: &["*/mount/*"],
        without: &["[master]", "[]"],
    },
    Expected {
        row: "created-files",
        peers: "runc crun",
        shows: "bind_directory_and_file",
        bundles: &["*"],
        keys: &["rootfs/etc/*"],
        without: &[],
    },
    Expected {
        row: "mqueue-owner",
        peers: "runc",
        shows: "user_namespace",
        bundles: &["user_namespace*"],
        keys: &["*/dev/mqueue"],
        without: &[],
    },
    Expected {
        row: "cgroup-tmpfs-mode",
        peers: "runc",
        shows: "cgroup_mount",
        bundles: &["cgroup_mount*", "spec_of_*"],
        keys: &["*/inside/create/sys/fs/cgroup"],
        without: &[],
    },
    Expected {
        row: "hidden-devices",
        peers: "runc",
        shows: "devices_default_changed",
        bundles: &["devices_default_changed"],
        keys: &["command/create"],
        without: &[],
    },
    Expected {
        row: "devices-owner",
        peers: "crun",
        shows: "devices_default_changed",
        bundles: &["devices_default_changed"],
        keys: &["*/dev/null", "*/inside/*"],
        without: &[],
    },
    Expected {
        row: "unbindable-root",
        peers: "runc",
        shows: "root_propagation_unbindable",
        bundles: &["root_propagation_unbindable"],
        keys: &["command/create"],
        without: &[],
    },
    Expected {
        row: "seccomp-spec-allow",
        peers: "runc",
        shows: "seccomp_flags",
        bundles: &["seccomp_flags"],
        keys: &["command/create"],
        without: &[],
    },
    Expected {
        row: "shared-root",
        peers: "runc",
        shows: "root_propagation_shared",
        bundles: &["root_propagation_shared"],
        keys: &["*/mount/*"],
        without: &[],
    },
    Expected {
        row: "tmpfs-mode",
        peers: "runc crun",
        shows: "tmpfs_over_directory",
        bundles: &["tmpfs_over_directory", "destination_twice"],
        keys: &["*/mount/*"],
        without: &["mode=1770,", "mode=755,"],
    },
    Expected {
        row: "locked-flags",
        peers: "runc",
        shows: "bind_of_locked_flags",
        bundles: &["bind_of_locked_flags"],
        keys: &["*/mount/dropped", "*/mount/kept-ro"],
        without: &[],
    },
    Expected {
        row: "locked-flags",
        peers: "crun",
        shows: "bind_of_locked_flags",
        bundles: &["bind_of_locked_flags"],
        keys: &["*/mount/kept*"],
        without: &[],
    },
    Expected {
        row: "start-hook",
        peers: "runc crun",
        shows: "start_hook_fails",
        bundles: &["start_hook_fails"],
        keys: &["command/start"],
        without: &[],
    },
    Expected {
        row: "groups-twice",
        peers: "runc",
        shows: "user_and_groups",
        bundles: &["user_and_groups"],
        keys: &["*/inside/id", "*/status/Groups"],
        without: &[],
    },
    Expected {
        row: "domainname",
        peers: "runc",
        shows: "domain_name",
        bundles: &["domain_name"],
        keys: &["*/inside/sysctl/kernel/domainname"],
        without: &[],
    },
    Expected {
        row: "umask-of-exec",
        peers: "runc",
        shows: "umask_given",
        bundles: &["umask_given"],
        keys: &["exec/inside/umask", "exec/status/Umask"],
        without: &[],
    },
    Expected {
        row: "personality",
        peers: "runc",
        shows: "personality_32",
        bundles: &["personality_32"],
        keys: &["*/personality"],
        without: &[],
    },
    Expected {
        row: "bare-root",
        peers: "runc",
        shows: "no_mounts",
        bundles: &["no_mounts"],
        keys: &["run/*"],
        without: &[],
    },
    Expected {
        row: "rlimit-twice",
        peers: "runc crun",
        shows: "rlimit_twice",
        bundles: &["rlimit_twice"],
        keys: &["run/*"],
        without: &[],
    },
    Expected {
        row: "tmpcopyup-mode",
        peers: "runc crun",
        shows: "tmpcopyup",
        bundles: &["tmpcopyup"],
        keys: &["run/stdout"],
        without: &[],
    },
    Expected {
        row: "state-keys",
        peers: "crun",
        shows: "plain",
        bundles: &["*"],
        keys: &["state */systemd-scope"],
        without: &[],
    },
    Expected {
        row: "exec-process",
        peers: "crun",
        shows: "user_and_groups",
        bundles: &["*"],
        keys: &[
            "exec/status/*",
            "exec/inside/*",
            "exec/limits/*",
            "exec/oom_score_adj",
            "exec/cwd",
        ],
        without: &[],
    },
    Expected {
        row: "exec-session",
        peers: "crun",
        shows: "plain",
        bundles: &["*"],
        keys: &["exec/stat/leads"],
        without: &[],
    },
    Expected {
        row: "sysfs-superblock",
        peers: "crun",
        shows: "plain",
        bundles: &["*"],
        keys: &["*/mount/sys", "*/inside/write/sys/kernel/uevent_seqnum"],
        without: &[],
    },
    Expected {
        row: "dev-core",
        peers: "crun",
        shows: "plain",
        bundles: &["*"],
        keys: &["*/dev/core", "rootfs/dev/core"],
        without: &[],
    },
    Expected {
        row: "mask-null",
        peers: "crun",
        shows: "plain",
        bundles: &["*"],
        keys: &[
            "*/mount/proc/keys",
            "*/mount/proc/kcore",
            "*/mount/proc/timer_list",
            "*/mount/proc/latency_stats",
            "*/mount/proc/sched_debug",
            "*/mount/secret-file",
        ],
        without: &[],
    },
    Expected {
        row: "default-devices",
        peers: "crun",
        shows: "plain",
        bundles: &["*"],
        keys: &["cgroup/devices/devices.list"],
        without: &[],
    },
    Expected {
        row: "private-binds",
        peers: "crun",
        shows: "bind_directory_and_file",
        bundles: &["*"],
        keys: &["*/mount/*"],
        without: &["[master]", "[]"],
    },
    Expected {
        row: "bind-propagation",
        peers: "crun",
        shows: "bind_propagation",
        bundles: &["bind_propagation"],
        keys: &["*/mount/p/*"],
        without: &[],
    },
    Expected {
        row: "mount-sources",
        peers: "crun",
        shows: "docker",
        bundles: &["*"],
        keys: &["*/mount/sys/fs/cgroup*", "*/inside/ls/sys/fs/cgroup"],
        without: &[],
    },
    Expected {
        row: "created-directories",
        peers: "crun",
        shows: "bind_options",
        bundles: &["*"],
        keys: &["rootfs/*"],
        without: &[],
    },
    Expected {
        row: "last-option",
        peers: "crun",
        shows: "bind_options",
        bundles: &["bind_options"],
        keys: &["*/mount/bind/*-*"],
        without: &[],
    },
    Expected {
        row: "userns-flags",
        peers: "crun",
        shows: "user_namespace_bind",
        bundles: &["user_namespace_bind"],
        keys: &["*/mount/nosuid"],
        without: &[],
    },
    Expected {
        row: "userns-devices",
        peers: "crun",
        shows: "user_namespace",
        bundles: &["user_namespace*"],
        keys: &["*/mount/dev/*", "*/dev/null", "*/fd/*"],
        without: &[],
    },
    Expected {
        row: "stdio-owner",
        peers: "crun",
        shows: "user_and_groups",
        bundles: &["*"],
        keys: &["init/fd/*", "*/dev/null"],
        without: &[],
    },
    Expected {
        row: "refused-by-crun",
        peers: "crun",
        shows: "bind_recursive",
        bundles: &[
            "bind_recursive",
            "block_io_weight",
            "cpu_unlimited",
            "destination_by_link",
            "pids_unlimited",
        ],
        keys: &["command/create"],
        without: &[],
    },
    Expected {
        row: "cwd-relative",
        peers: "crun",
        shows: "cwd_relative",
        bundles: &["cwd_relative"],
        keys: &["run/exit"],
        without: &[],
    },
    Expected {
        row: "environment-form",
        peers: "crun",
        shows: "environment_without_value",
        bundles: &["environment_without_value"],
        keys: &["run/*"],
        without: &[],
    },
    Expected {
        row: "home",
        peers: "crun",
        shows: "home_empty",
        bundles: &["home_*"],
        keys: &["run/stdout"],
        without: &[],
    },
    Expected {
        row: "home",
        peers: "crun",
        shows: "bind_directory_and_file",
        bundles: &["bind_directory_and_file"],
        keys: &["init/inside/env"],
        without: &[],
    },
    Expected {
        row: "readonly-flags",
        peers: "crun",
        shows: "docker",
        bundles: &["*"],
        keys: &["*/mount/proc/*"],
        without: &["nodev,", "noexec,", "nosuid,"],
    },
    Expected {
        row: "readonly-flags",
        peers: "crun",
        shows: "readonly_paths",
        bundles: &["readonly_paths"],
        keys: &["*/mount/dev/shm"],
        without: &["nodev,", "noexec,", "nosuid,"],
    },
    Expected {
        row: "mqueue-options",
        peers: "crun",
        shows: "mqueue_and_shm_bare",
        bundles: &["mqueue_and_shm_bare"],
        keys: &["*/mount/dev/mqueue"],
        without: &[],
    },
    Expected {
        row: "console-flags",
        peers: "crun",
        shows: "terminal",
        bundles: &["terminal*"],
        keys: &["*/mount/dev/console"],
        without: &[],
    },
    Expected {
        row: "tmpfs-shared",
        peers: "crun",
        shows: "tmpfs_options",
        bundles: &["tmpfs_options"],
        keys: &["*/mount/t/mode=1777-shared"],
        without: &[],
    },
    Expected {
        row: "kernel-tcp",
        peers: "runc",
        shows: "memory_kernel",
        bundles: &["memory_kernel"],
        keys: &["cgroup/memory/memory.kmem.tcp.limit_in_bytes"],
        without: &[],
    },
    Expected {
        row: "null-of-exec",
        peers: "runc",
        shows: "dev_bound_from_host",
        bundles: &["dev_bound_from_host"],
        keys: &["init/fd/*"],
        without: &[],
    },
    Expected {
        row: "default-devices",
        peers: "crun",
        shows: "dev_bound_from_host",
        bundles: &["dev_bound_from_host"],
        keys: &["*/inside/write/dev/console"],
        without: &[],
    },
    Expected {
        row: "cgroup-tmpfs-mode",
        peers: "crun",
        shows: "docker_user",
        bundles: &["docker_user"],
        keys: &["*/inside/create/sys/fs/cgroup"],
        without: &[],
    },
    Expected {
        row: "masked-and-readonly",
        peers: "crun",
        shows: "masked_paths",
        bundles: &["masked_paths"],
        keys: &["*/mount/proc/bus"],
        without: &[],
    },
    Expected {
        row: "dev-core",
        peers: "crun",
        shows: "no_mounts",
        bundles: &["no_mounts"],
        keys: &["run/stdout"],
        without: &[],
    },
    Expected {
        row: "namespace-twice",
        peers: "crun",
        shows: "namespace_twice",
        bundles: &["namespace_twice"],
        keys: &["command/create"],
        without: &[],
    },
    Expected {
        row: "keyring",
        peers: "crun",
        shows: "nothing_masked",
        bundles: &["nothing_masked", "docker_privileged"],
        keys: &["*/inside/keyrings"],
        without: &[],
    },
];
