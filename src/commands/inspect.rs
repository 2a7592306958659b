//! `state`, `list` and `ps`: what is on record and what the kernel says.

use std::collections::{BTreeMap, HashMap};
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};

use serde::Serialize;

use super::{open, print, status};
use crate::cgroups::Cgroup;
use crate::cli::{ListArgs, PsArgs};
use crate::error::{Context, Error, Fault, Kind, Result, kind};
use crate::state::{self, State, StateDir, Status};

/// What `state` and `list` print, in runc's order and with runc's additions to the spec.
#[derive(Debug, Serialize)]
struct Report<'a> {
    #[serde(rename = "ociVersion")]
    oci_version: &'a str,
    id: &'a str,
    /// 0 when stopped.
    pid: i32,
    status: String,
    bundle: &'a Path,
    rootfs: &'a Path,
    created: &'a str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: &'a BTreeMap<String, String>,
    owner: String,
}

impl<'a> Report<'a> {
    fn of(dir: &StateDir, state: &'a State, owner: String) -> Self {
        let status = status(dir, state);
        Report {
            oci_version: &state.oci_version,
            id: &state.id,
            pid: if status == Status::Stopped { 0 } else { state.init_process_pid },
            status: status.to_string(),
            bundle: &state.bundle,
            rootfs: &state.rootfs,
            created: &state.created,
            annotations: &state.annotations,
            owner,
        }
    }
}

/// `state`.
pub fn state(root: &Path, id: &str) -> Result<()> {
    let (dir, state) = open(root, id)?;
    // runc leaves the owner empty here; so that both print the same, so do we.
    let report = Report::of(&dir, &state, String::new());
    let json = serde_json::to_string_pretty(&report).context("cannot write the state as JSON")?;
    print(&format!("{json}\n"))
}

/// `list`; a root directory that is not there is an error when it was `given`.
pub fn list(root: &Path, given: bool, args: &ListArgs) -> Result<()> {
    let entries = match state::list(root) {
        Err(error) if !given && is_not_found(&error) => Vec::new(),
        entries => entries?,
    };
    if args.quiet {
        let ids: String = entries.iter().map(|entry| format!("{}\n", entry.state.id)).collect();
        return print(&ids);
    }
    let users = if entries.is_empty() { HashMap::new() } else { user_names() };
    let reports: Vec<Report<'_>> = entries
        .iter()
        .map(|entry| {
            let owner = users.get(&entry.uid).cloned();
            Report::of(&entry.dir, &entry.state, owner.unwrap_or_else(|| format!("#{}", entry.uid)))
        })
        .collect();
    if args.format == "table" {
        return print(&table(&reports));
    }
    // As Go writes an empty list, which runc's readers know.
    let json = match reports.is_empty() {
        true => "null".to_owned(),
        false => serde_json::to_string(&reports).context("cannot write the list as JSON")?,
    };
    print(&format!("{json}\n"))
}

fn is_not_found(error: &Error) -> bool {
    let io = error.chain().find_map(|cause| cause.downcast_ref::<std::io::Error>());
    io.is_some_and(|error| error.kind() == std::io::ErrorKind::NotFound)
}

/// Columns as runc sets them: at least 12 wide, 3 apart.
fn table(reports: &[Report<'_>]) -> String {
    let head = ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(String::from);
    let mut rows = vec![head];
    rows.extend(reports.iter().map(|report| {
        [
            report.id.to_owned(),
            report.pid.to_string(),
            report.status.clone(),
            report.bundle.display().to_string(),
            report.created.to_owned(),
            report.owner.clone(),
        ]
    }));
    let mut widths = [12; 6];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count() + 3);
        }
    }
    let mut text = String::new();
    for row in &rows {
        let mut line = String::new();
        for (width, cell) in widths.iter().zip(row) {
            line.push_str(&format!("{cell:width$}"));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// User names by id, from /etc/passwd: a static binary has no other way.
fn user_names() -> HashMap<u32, String> {
    let mut text = String::new();
    let file = std::fs::File::open("/etc/passwd").map(|file| file.take(1 << 20));
    // Without it the owners are numbers.
    let _ = file.and_then(|mut file| file.read_to_string(&mut text));
    let mut names = HashMap::new();
    for line in text.lines() {
        let mut fields = line.split(':');
        if let (Some(name), Some(Ok(uid))) = (fields.next(), fields.nth(1).map(str::parse)) {
            // The first entry of an id is the one that counts, as in getpwuid(3).
            names.entry(uid).or_insert_with(|| name.to_owned());
        }
    }
    names
}

/// `ps`.
pub fn ps(root: &Path, args: &PsArgs) -> Result<()> {
    let (_, state) = open(root, args.id())?;
    let pids = match Cgroup::open(&state.cgroup) {
        Ok(cgroup) => cgroup.processes(true)?,
        // A stopped container whose groups are gone has none.
        Err(error) if kind(&error) == Kind::NotFound => Vec::new(),
        Err(error) => return Err(error),
    };
    if args.format == "json" {
        let json = serde_json::to_string(&pids).context("cannot write the list as JSON")?;
        return print(&format!("{json}\n"));
    }
    let mut options = args.options();
    let every = ["-ef".to_owned()];
    if options.is_empty() {
        options = &every;
    }
    print(&of_container(&host_ps(options)?, &pids)?)
}

/// What the host's ps(1) says of all processes.
fn host_ps(options: &[String]) -> Result<String> {
    let output = Command::new("ps").args(options).stdin(Stdio::null()).output();
    let output = output.context("cannot run ps")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let text = format!("ps {}: {}: {}", options.join(" "), output.status, said.trim());
        return Err(Fault::bad_input(text).into());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The head of a listing of ps(1), and its lines for `pids`.
fn of_container(listing: &str, pids: &[i32]) -> Result<String> {
    let mut lines = listing.lines();
    let head = lines.next().unwrap_or_default();
    let column =
        head.split_ascii_whitespace().position(|title| title == "PID").ok_or_else(|| {
            let hint = "leave out options that drop or rename that column";
            Fault::bad_input("cannot find the column PID in what ps prints").hint(hint)
        })?;
    let belongs = |line: &&str| {
        let pid = line.split_ascii_whitespace().nth(column).and_then(|pid| pid.parse().ok());
        pid.is_some_and(|pid: i32| pids.contains(&pid))
    };
    let mut text = format!("{head}\n");
    for line in lines.filter(belongs) {
        text.push_str(line);
        text.push('\n');
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report<'a>(id: &'a str, annotations: &'a BTreeMap<String, String>) -> Report<'a> {
        Report {
            oci_version: "1.2.0",
            id,
            pid: 42,
            status: "running".into(),
            bundle: Path::new("/b"),
            rootfs: Path::new("/b/rootfs"),
            created: "2026-11-21T00:00:00.5Z",
            annotations,
            owner: "root".into(),
        }
    }

    #[test]
    fn json_in_runcs_order() {
        let mut annotations = BTreeMap::new();
        assert_eq!(
            serde_json::to_string(&report("a", &annotations)).unwrap(),
            r#"{"ociVersion":"1.2.0","id":"a","pid":42,"status":"running","bundle":"/b","rootfs":"/b/rootfs","created":"2026-11-21T00:00:00.5Z","owner":"root"}"#
        );
        annotations.insert("k".into(), "v".into());
        let json = serde_json::to_string(&report("a", &annotations)).unwrap();
        assert!(json.contains(r#""annotations":{"k":"v"},"owner":"root"}"#));
    }

    #[test]
    fn table_as_runc_sets_it() {
        assert_eq!(
            table(&[]),
            "ID          PID         STATUS      BUNDLE      CREATED     OWNER\n"
        );
        let none = BTreeMap::new();
        assert_eq!(
            table(&[report("a-rather-long-name", &none)]),
            "ID                   PID         STATUS      BUNDLE      CREATED                  OWNER\n\
             a-rather-long-name   42          running     /b          2026-11-21T00:00:00.5Z   root\n"
        );
    }

    #[test]
    fn ps_lines_by_the_pid_column() {
        let listing = "UID          PID    PPID CMD\nroot           1       0 init 42\n\
                       root          42       1 sh 1\n";
        assert_eq!(
            of_container(listing, &[42]).unwrap(),
            "UID          PID    PPID CMD\nroot          42       1 sh 1\n"
        );
        assert_eq!(of_container(listing, &[]).unwrap(), "UID          PID    PPID CMD\n");
        assert!(of_container("A B\n", &[1]).is_err());
        let mine = std::process::id() as i32;
        let text = of_container(&host_ps(&["-e".into(), "-x".into()]).unwrap(), &[mine]).unwrap();
        assert_eq!(text.lines().count(), 2);
        assert!(host_ps(&["--no-such-option".into()]).is_err());
    }

    #[test]
    fn the_superuser_has_a_name() {
        assert_eq!(user_names().get(&0).map(String::as_str), Some("root"));
    }
}
