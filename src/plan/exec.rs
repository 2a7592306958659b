//! The process of `exec`: from flags or a process.json, on top of the container's own.

use std::ffi::CString;
use std::path::Path;

use oci_spec::runtime::Process;

use super::process::{ProcessPlan, c_string, capability_bit};
use crate::error::{Context, Fault, Result};

/// What the flags of `exec` change.
#[derive(Debug, Default)]
pub struct ExecFlags<'a> {
    /// The command.
    pub args: &'a [String],
    /// `--cwd`
    pub cwd: Option<&'a Path>,
    /// `--env`, added to the container's.
    pub env: &'a [String],
    /// `--tty`
    pub tty: bool,
    /// `--user UID[:GID]`
    pub user: Option<&'a str>,
    /// `--additional-gids`, added to the container's.
    pub additional_gids: &'a [u32],
    /// `--process-label`
    pub process_label: Option<&'a str>,
    /// `--apparmor`
    pub apparmor: Option<&'a str>,
    /// `--no-new-privs`
    pub no_new_privs: Option<bool>,
    /// `--cap`, added to the container's.
    pub caps: &'a [String],
}

impl ProcessPlan {
    /// The container's process with what the flags change.
    pub fn from_flags(container: &ProcessPlan, flags: &ExecFlags<'_>) -> Result<Self> {
        let strings = |list: &[String], what: &str| -> Result<Vec<CString>> {
            list.iter().map(|text| c_string(text, what)).collect()
        };
        let mut plan = container.clone();
        plan.args = strings(flags.args, "the command")?;
        plan.terminal = flags.tty;
        // Of the container's first terminal; the caller of exec has one of its own.
        plan.console_size = None;
        if let Some(cwd) = flags.cwd {
            let cwd = cwd.to_str().context("--cwd: not UTF-8")?;
            if !cwd.starts_with('/') {
                return Err(Fault::bad_input(format!("--cwd {cwd:?}: must be absolute")).into());
            }
            plan.cwd = c_string(cwd, "--cwd")?;
        }
        for entry in flags.env {
            if entry.split_once('=').is_none_or(|(name, _)| name.is_empty()) {
                let text = format!("--env {entry:?}: not of the form NAME=value");
                return Err(Fault::bad_input(text).into());
            }
            plan.set_env(entry, "--env")?;
        }
        if let Some(user) = flags.user {
            let (uid, gid) = parse_user(user)?;
            plan.user.uid = uid;
            plan.user.gid = gid.unwrap_or(plan.user.gid);
        }
        if flags.additional_gids.contains(&u32::MAX) {
            let text = "--additional-gids: 4294967295 (-1) is not an id";
            return Err(Fault::bad_input(text).into());
        }
        plan.user.additional_gids.extend_from_slice(flags.additional_gids);
        if let Some(label) = flags.process_label {
            plan.selinux_label = Some(one_line(label, "--process-label")?);
        }
        if let Some(profile) = flags.apparmor {
            plan.apparmor_profile = Some(one_line(profile, "--apparmor")?);
        }
        plan.no_new_privileges = flags.no_new_privs.unwrap_or(plan.no_new_privileges);
        for name in flags.caps {
            let bit = capability_bit(name).ok_or_else(|| {
                Fault::bad_input(format!("--cap {name:?}: no such capability"))
                    .hint("names are those of capabilities(7), CAP_NET_ADMIN for one")
            })?;
            // Never inheritable or ambient (CVE-2022-29162).
            plan.caps.bounding |= bit;
            plan.caps.effective |= bit;
            plan.caps.permitted |= bit;
        }
        Ok(plan)
    }

    /// A process.json; what it leaves out is the container's.
    pub fn from_process_json(container: &ProcessPlan, process: &Process) -> Result<Self> {
        let given = ProcessPlan::build(process, "process.json")?;
        Ok(ProcessPlan {
            caps: match process.capabilities() {
                Some(_) => given.caps,
                None => container.caps,
            },
            rlimits: match given.rlimits.is_empty() {
                true => container.rlimits.clone(),
                false => given.rlimits,
            },
            oom_score_adj: given.oom_score_adj.or(container.oom_score_adj),
            apparmor_profile: given.apparmor_profile.or_else(|| container.apparmor_profile.clone()),
            selinux_label: given.selinux_label.or_else(|| container.selinux_label.clone()),
            scheduler: given.scheduler.or(container.scheduler),
            io_priority: given.io_priority.or(container.io_priority),
            exec_affinity: given.exec_affinity.or_else(|| container.exec_affinity.clone()),
            ..given
        })
    }
}

/// A label, which is written to one line of a file in /proc.
fn one_line(label: &str, flag: &str) -> Result<String> {
    match label.contains(['\0', '\n']) {
        false => Ok(label.to_owned()),
        true => Err(Fault::bad_input(format!("{flag}: holds a NUL byte or a line break")).into()),
    }
}

/// `UID[:GID]` in plain decimal; never a name, never -1 (CVE-2016-3697, CVE-2026-30892).
fn parse_user(text: &str) -> Result<(u32, Option<u32>)> {
    let id = |part: &str, what: &str| -> Result<u32> {
        let digits = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        match part.parse::<u32>() {
            Ok(id) if digits && id != u32::MAX => Ok(id),
            _ => Err(Fault::bad_input(format!(
                "--user {text:?}: {what} {part:?} is not a number from 0 to 4294967294"
            ))
            .hint("UID or UID:GID; names are not looked up")
            .into()),
        }
    };
    match text.split_once(':') {
        Some((uid, gid)) => Ok((id(uid, "uid")?, Some(id(gid, "gid")?))),
        None => Ok((id(text, "uid")?, None)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_specs() {
        assert_eq!(parse_user("1").unwrap(), (1, None));
        assert_eq!(parse_user("1:2").unwrap(), (1, Some(2)));
        assert_eq!(parse_user("4294967294:0").unwrap(), (4_294_967_294, Some(0)));
        for bad in [
            "",
            "1:",
            ":1",
            "-1",
            "+1",
            "4294967295",
            "4294967296",
            "0x1",
            "root",
            "1:2:3",
            " 1",
            "1 ",
        ] {
            assert!(parse_user(bad).is_err(), "{bad:?}");
        }
    }

    fn plan(json: &str) -> ProcessPlan {
        ProcessPlan::build(&serde_json::from_str(json).unwrap(), "process.json").unwrap()
    }

    #[test]
    fn caps_are_never_inheritable() {
        let container = plan(r#"{"user":{},"cwd":"/","args":["x"]}"#);
        let caps = ["CAP_NET_ADMIN".to_owned()];
        let flags = ExecFlags { caps: &caps, ..ExecFlags::default() };
        let plan = ProcessPlan::from_flags(&container, &flags).unwrap();
        let bit = 1 << 12;
        assert_eq!((plan.caps.effective, plan.caps.permitted, plan.caps.bounding), (bit, bit, bit));
        assert_eq!((plan.caps.inheritable, plan.caps.ambient), (0, 0));
    }

    #[test]
    fn what_a_process_json_leaves_out_is_the_containers() {
        let container = plan(
            r#"{"user":{},"cwd":"/","args":["x"],"apparmorProfile":"p","oomScoreAdj":7,
                "capabilities":{"bounding":["CAP_CHOWN"]},"noNewPrivileges":true,
                "rlimits":[{"type":"RLIMIT_NOFILE","soft":5,"hard":6}]}"#,
        );
        let json = r#"{"user":{"uid":3},"cwd":"/tmp","args":["y"]}"#;
        let given = serde_json::from_str(json).unwrap();
        let plan = ProcessPlan::from_process_json(&container, &given).unwrap();
        assert_eq!(plan.caps, container.caps);
        assert_eq!(plan.rlimits, container.rlimits);
        assert_eq!(plan.apparmor_profile.as_deref(), Some("p"));
        assert_eq!(plan.oom_score_adj, Some(7));
        assert_eq!(plan.user.uid, 3);
        // A plain boolean in the spec: absent is false.
        assert!(!plan.no_new_privileges);
    }

    #[test]
    fn flags_that_no_kernel_takes() {
        let container = plan(r#"{"user":{},"cwd":"/","args":["x"]}"#);
        let text = |flags: ExecFlags<'_>| {
            ProcessPlan::from_flags(&container, &flags).unwrap_err().to_string()
        };
        assert_eq!(
            text(ExecFlags { additional_gids: &[5, u32::MAX], ..ExecFlags::default() }),
            "--additional-gids: 4294967295 (-1) is not an id"
        );
        for label in ["a\nb", "a\0"] {
            assert_eq!(
                text(ExecFlags { process_label: Some(label), ..ExecFlags::default() }),
                "--process-label: holds a NUL byte or a line break"
            );
            assert_eq!(
                text(ExecFlags { apparmor: Some(label), ..ExecFlags::default() }),
                "--apparmor: holds a NUL byte or a line break"
            );
        }
    }

    #[test]
    fn env_of_exec_replaces_the_containers() {
        let container =
            plan(r#"{"user":{},"cwd":"/","args":["x"],"env":["A=1","HOME=/root","AB=2"]}"#);
        let env = ["A=3".to_owned()];
        let flags = ExecFlags { env: &env, ..ExecFlags::default() };
        let plan = ProcessPlan::from_flags(&container, &flags).unwrap();
        let env: Vec<_> = plan.env.iter().map(|e| e.to_str().unwrap()).collect();
        assert_eq!(env, ["HOME=/root", "AB=2", "A=3"]);
        for bad in ["", "A", "=1"] {
            let env = [bad.to_owned()];
            let flags = ExecFlags { env: &env, ..ExecFlags::default() };
            assert!(ProcessPlan::from_flags(&container, &flags).is_err(), "{bad:?}");
        }
    }
}
