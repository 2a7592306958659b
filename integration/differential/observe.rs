//! What the kernel says of a container's process, as lines that can be compared: from outside by
//! /proc/PID, from inside by a shell script. Numbers that may differ are left out.

use crate::harness::{cgroup, status_field};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

/// One observation: what was looked at, and what was there.
pub type View = BTreeMap<String, String>;

/// Printed from inside: a line `@KEY` before the lines of each value. It becomes `sleep`, so that
/// what is seen from outside is a plain program and nothing of the shell.
pub const SCRIPT: &str = r#"
exec 2>&1
echo @umask; umask; echo @id; id; echo @cwd; pwd -P; echo @hostname; hostname; echo @tty; tty
echo @env; tr '\0' '|' </proc/$$/environ; echo
echo @proc-cgroup; cat /proc/self/cgroup
echo @keyrings; awk '$8 == "keyring" {print $9}' /proc/keys | sort -u
echo @links; ip -o link | sed 's/^[0-9]*: \([^:@]*\)[^<]*<\([^>]*\)>.*/\1 \2/'
cd /proc/sys
for f in kernel/domainname kernel/msgmax kernel/shmmax kernel/shm_rmid_forced fs/mqueue/msg_max \
  net/ipv4/ip_forward net/ipv4/ping_group_range net/ipv4/ip_unprivileged_port_start; do
  echo @sysctl/$f; read line <$f && echo "$line"
done
# Opened for writing, nothing written.
for f in /proc/sys/kernel/msgmax /proc/sysrq-trigger /proc/irq/default_smp_affinity /proc/kcore \
  /dev/null /dev/console /sys/kernel/uevent_seqnum; do
  echo @write$f; [ ! -e $f ] || (true >>$f)
done
for d in / /dev /dev/shm /etc /tmp /sys /sys/fs/cgroup /mnt; do
  echo @create$d; (true >$d/.probe) && rm $d/.probe
done
for d in /sys/fs/cgroup /proc/acpi /sys/firmware /dev/mqueue; do echo @ls$d; ls $d; done
cd /
echo @ready=yes
exec sleep 1000
"#;

/// What [`SCRIPT`] printed in the container `id`. Of an error only its reason is kept, of the
/// keyrings, which all of root's processes see, only the container's.
pub fn printed(view: &mut View, prefix: &str, text: &str, id: &str) {
    let mut key = None;
    for line in text.lines().map(str::trim_end) {
        if let Some(name) = line.strip_prefix('@') {
            key = Some(format!("{prefix}/inside/{name}"));
            view.insert(key.clone().unwrap(), String::new());
        } else if let Some(value) = key.as_ref().and_then(|key| view.get_mut(key)) {
            let line =
                if line.starts_with("sh: ") { line.rsplit(": ").next().unwrap() } else { line };
            *value = format!("{value} | {line}").trim_start_matches(" | ").to_string();
        }
    }
    if let Some(lines) = view.get_mut(&format!("{prefix}/inside/keyrings")) {
        let keep = |line: &&str| line.contains(id) || line.contains("awk");
        *lines = lines.split(" | ").filter(keep).collect::<Vec<_>>().join(" | ");
    }
    if let Some(lines) = view.get_mut(&format!("{prefix}/inside/proc-cgroup")) {
        *lines = cgroup_lines(lines);
    }
}

/// Everything that /proc/PID tells of the process from outside.
pub fn process(view: &mut View, prefix: &str, pid: i32) {
    let proc = Path::new("/proc").join(pid.to_string());
    let read = |name: &str| match fs::read(proc.join(name)) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).replace('\0', " ").trim().replace('\n', " | "),
        Err(e) => e.kind().to_string(),
    };
    let mut put = |key: &str, value: String| view.insert(format!("{prefix}/{key}"), value);
    let status = fs::read_to_string(proc.join("status")).unwrap_or_default();
    let fields = "Umask Uid Gid Groups NoNewPrivs Seccomp Seccomp_filters SigPnd ShdPnd SigBlk SigIgn SigCgt \
        CapInh CapPrm CapEff CapBnd CapAmb Cpus_allowed_list Mems_allowed_list \
        Speculation_Store_Bypass SpeculationIndirectBranch CoreDumping THP_enabled Threads";
    for field in fields.split_whitespace() {
        put(&format!("status/{field}"), status_field(&status, field).unwrap_or_default());
    }
    let depth = status_field(&status, "NSpid").unwrap_or_default();
    put("status/NSpid", depth.split_whitespace().count().to_string());
    for file in [
        "oom_score_adj",
        "personality",
        "cgroup",
        "uid_map",
        "gid_map",
        "setgroups",
        "timens_offsets",
        "coredump_filter",
        "attr/current",
        "attr/exec",
        "attr/keycreate",
        "loginuid",
        "timerslack_ns",
        "autogroup",
    ] {
        let value = read(file);
        let value = match file {
            "autogroup" => autogroup(&value),
            "cgroup" => cgroup_lines(&value),
            _ => value,
        };
        put(file, value.split_whitespace().collect::<Vec<_>>().join(" "));
    }
    for line in fs::read_to_string(proc.join("limits")).unwrap_or_default().lines().skip(1) {
        let (name, limit) = line.split_at(26.min(line.len()));
        put(
            &format!("limits/{}", name.trim()),
            limit.split_whitespace().take(2).collect::<Vec<_>>().join(" "),
        );
    }
    let stat = read("stat");
    let stat: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    // Fields of proc_pid_stat(5) by number; the first two are before the parenthesis.
    for (name, number) in
        [("tty_nr", 7), ("priority", 18), ("nice", 19), ("rt_priority", 40), ("policy", 41)]
    {
        put(&format!("stat/{name}"), stat.get(number - 3).unwrap_or(&"").to_string());
    }
    let leader = |number: usize| stat.get(number - 3) == Some(&pid.to_string().as_str());
    put("stat/leads", format!("group {} session {}", leader(5), leader(6)));
    for kind in ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"] {
        let link = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/{kind}")).ok();
        let same = link(&pid.to_string()) == link("self");
        put(&format!("ns/{kind}"), if same { "host" } else { "other" }.into());
    }
    for link in ["cwd", "root", "exe"] {
        put(link, target(&proc.join(link)));
    }
    for entry in fs::read_dir(proc.join("fd")).into_iter().flatten().flatten() {
        let number = entry.file_name().to_string_lossy().into_owned();
        let flags = read(&format!("fdinfo/{number}"));
        let flags = flags.split('|').find_map(|l| l.trim().strip_prefix("flags:")).unwrap_or("");
        // Access mode, O_APPEND and O_NONBLOCK; not how it was opened.
        let flags = i32::from_str_radix(flags.trim(), 8).unwrap_or(0) & 0o6003;
        let owner = fs::metadata(entry.path()).map(|m| format!("{}:{}", m.uid(), m.gid()));
        let value = format!("{} {flags:o} {}", target(&entry.path()), owner.unwrap_or_default());
        put(&format!("fd/{number}"), value);
    }
    let own_mounts = view[&format!("{prefix}/ns/mnt")] == "other";
    mounts(view, prefix, &proc, own_mounts);
    nodes(view, &format!("{prefix}/dev"), &proc.join("root/dev"), 1);
}

fn autogroup(text: &str) -> String {
    text.rsplit("nice").next().unwrap_or_default().to_string()
}

/// /proc/PID/cgroup without hierarchies that are not mounted here: other tests make and end some.
fn cgroup_lines(text: &str) -> String {
    let hierarchies = cgroup::hierarchies();
    let known = |line: &&str| {
        let names = line.split(':').nth(1).unwrap_or_default();
        names.is_empty() || hierarchies.iter().any(|h| h.controllers.join(",") == names)
    };
    text.split(" | ").filter(known).collect::<Vec<_>>().join(" | ")
}

/// The target of a link, without the inode numbers of pipes and sockets.
fn target(link: &Path) -> String {
    let text =
        fs::read_link(link).map_or_else(|e| e.kind().to_string(), |p| p.display().to_string());
    text.split(":[").next().unwrap_or_default().to_string()
}

/// mountinfo, one key for each mount point; stacked mounts are joined from the lowest up. The
/// parent's mount point says what covers what, so that order counts where it matters.
fn mounts(view: &mut View, prefix: &str, proc: &Path, own: bool) {
    let text = fs::read_to_string(proc.join("mountinfo")).unwrap_or_default();
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split(' ').collect()).collect();
    let points: BTreeMap<&str, &str> = lines.iter().map(|f| (f[0], f[4])).collect();
    for f in &lines {
        // In the host's mount namespace only what belongs to the bundle is the container's.
        if !own && !f[4].contains("-bundle/") {
            continue;
        }
        let dash = f.iter().position(|part| *part == "-").unwrap();
        let propagation: Vec<&str> =
            f[6..dash].iter().map(|p| p.split(':').next().unwrap_or(p)).collect();
        let value = format!(
            "{} of {} [{}] root {} options {} super {} on {}",
            f[dash + 1],
            f[dash + 2],
            propagation.join(","),
            f[3],
            sorted(f[5]),
            sorted(f[dash + 3]),
            points.get(f[1]).unwrap_or(&"nothing")
        );
        let mounts = view.entry(format!("{prefix}/mount{}", f[4])).or_default();
        let above = if mounts.is_empty() { "" } else { " ++ " };
        mounts.push_str(above);
        mounts.push_str(&value);
    }
}

fn sorted(options: &str) -> String {
    options.split(',').collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>().join(",")
}

/// The entries of a directory with kind, mode, owner, device number and link target.
pub fn nodes(view: &mut View, prefix: &str, dir: &Path, depth: usize) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let Ok(meta) = entry.path().symlink_metadata() else { continue };
        let kind = meta.file_type();
        let mut value = match kind {
            _ if kind.is_symlink() => format!("link to {}", target(&entry.path())),
            _ if kind.is_dir() => format!("dir {:o}", meta.mode() & 0o7777),
            _ if kind.is_char_device() || kind.is_block_device() => {
                let (major, minor) =
                    (nix::sys::stat::major(meta.rdev()), nix::sys::stat::minor(meta.rdev()));
                let letter = if kind.is_block_device() { 'b' } else { 'c' };
                format!("{letter} {major}:{minor} {:o}", meta.mode() & 0o7777)
            }
            _ if kind.is_fifo() => format!("fifo {:o}", meta.mode() & 0o7777),
            _ => format!("file {:o}", meta.mode() & 0o7777),
        };
        value.push_str(&format!(" {}:{}", meta.uid(), meta.gid()));
        let name = String::from_utf8_lossy(entry.file_name().as_bytes()).into_owned();
        let key = format!("{prefix}/{name}");
        view.insert(key.clone(), value);
        if depth > 1 && kind.is_dir() {
            nodes(view, &key, &entry.path(), depth - 1);
        }
    }
}

/// Counters and lists of processes, which differ from run to run.
const COUNTERS: [&str; 13] = [
    "cgroup.procs",
    "cgroup.threads",
    "tasks",
    "cpuacct.usage",
    "memory.max_usage_in_bytes",
    "memory.memsw.max_usage_in_bytes",
    "memory.kmem.max_usage_in_bytes",
    "memory.peak",
    "memory.swap.peak",
    "memory.pressure_level",
    "release_agent",
    "cpu.pressure",
    "io.pressure",
];

/// What is set in the files of the container's cgroups: those that can be written, and the list
/// of devices.
pub fn cgroups(view: &mut View, cgroup: &str) {
    for hierarchy in cgroup::hierarchies() {
        let name = if hierarchy.v2 { "v2".into() } else { hierarchy.controllers.join(",") };
        let dir = hierarchy.dir(cgroup);
        let meta =
            fs::metadata(&dir).map(|m| format!("{}:{} {:o}", m.uid(), m.gid(), m.mode() & 0o7777));
        view.insert(format!("cgroup/{name}"), meta.unwrap_or_else(|e| e.kind().to_string()));
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            let file = entry.file_name().to_string_lossy().into_owned();
            let Ok(meta) = entry.metadata() else { continue };
            let key = format!("cgroup/{name}/{file}");
            if meta.is_dir() {
                view.insert(key, "dir".into());
                continue;
            }
            let set = meta.mode() & 0o600 == 0o600 || file == "devices.list";
            if !set || COUNTERS.contains(&file.as_str()) || file.ends_with(".pressure") {
                continue;
            }
            if let Ok(text) = fs::read_to_string(entry.path()) {
                // The rules of a list count, not the order in which they were made.
                let lines: BTreeSet<&str> = text.trim().lines().collect();
                view.insert(key, lines.into_iter().collect::<Vec<_>>().join(" | "));
            }
        }
    }
}
