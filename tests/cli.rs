//! What the command line says, without making a container: texts, exit codes, shapes that engines
//! parse. Needs no root.

use std::process::{Command, Output};

fn corten(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_corten"));
    command.env("XDG_RUNTIME_DIR", std::env::temp_dir()).args(args).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// dockerd reads `<name> version <version>` and `commit: <commit>` line by line.
#[test]
fn version_has_the_shape_that_dockerd_parses() {
    for flag in ["--version", "-v"] {
        let output = corten(&[flag]);
        assert!(output.status.success());
        let text = stdout(&output);
        let mut lines = text.lines();
        let expected = format!("corten version {}", env!("CARGO_PKG_VERSION"));
        assert_eq!(lines.next(), Some(expected.as_str()));
        assert!(lines.next().is_some_and(|line| line.starts_with("commit: ")), "{text}");
        assert!(text.lines().any(|line| line == "spec: 1.3.0"), "{text}");
        assert!(text.lines().any(|line| line.starts_with("libseccomp: ")), "{text}");
    }
}

#[test]
fn help_lists_every_command() {
    for args in [["--help"], ["-h"]] {
        let output = corten(&args);
        assert!(output.status.success(), "{args:?}: {}", stderr(&output));
        let text = stdout(&output);
        for command in [
            "create", "start", "run", "exec", "kill", "delete", "state", "list", "ps", "pause",
            "resume", "update", "events", "spec", "features",
        ] {
            let listed = |line: &str| line.split_whitespace().next() == Some(command);
            assert!(text.lines().any(listed), "{command} in\n{text}");
        }
    }
}

#[test]
fn every_command_has_help() {
    for (command, flags) in [
        ("create", ["--bundle", "--console-socket", "--pid-file", "--no-pivot"].as_slice()),
        ("run", &["--detach", "--keep", "--no-subreaper", "--preserve-fds", "--pidfd-socket"]),
        ("exec", &["--cwd", "--env", "--tty", "--user", "--additional-gids", "--process"]),
        ("exec", &["--process-label", "--apparmor", "--no-new-privs", "--cap", "--cgroup"]),
        ("exec", &["--ignore-paused", "--detach", "--pid-file", "--console-socket"]),
        ("kill", &["--all"]),
        ("delete", &["--force"]),
        ("list", &["--format", "--quiet"]),
        ("ps", &["--format"]),
        ("update", &["--resources", "--memory", "--memory-swap", "--pids-limit", "--cpu-share"]),
        ("update", &["--blkio-weight", "--cpu-period", "--cpu-quota", "--cpuset-cpus"]),
        ("events", &["--stats", "--interval"]),
        ("spec", &["--bundle", "--rootless", "--seccomp"]),
    ] {
        let output = corten(&[command, "--help"]);
        assert!(output.status.success(), "{command}: {}", stderr(&output));
        for flag in flags {
            assert!(stdout(&output).contains(flag), "{command} {flag}:\n{}", stdout(&output));
        }
    }
}

#[test]
fn usage_errors_exit_with_one() {
    for args in [
        ["nosuchcommand"].as_slice(),
        &["--nosuchflag"],
        &["create"],
        &["start"],
        &["kill"],
        &["state", "one", "two"],
        &["--log-format", "nosuch", "list"],
        &["list", "--format", "nosuch"],
    ] {
        let output = corten(args);
        assert_eq!(output.status.code(), Some(1), "{args:?}");
        let text = stderr(&output);
        assert!(!text.is_empty() && !text.contains("panicked"), "{args:?}: {text}");
        assert_eq!(stdout(&output), "", "{args:?}");
    }
}

#[test]
fn errors_are_json_when_asked() {
    let root = tempfile::tempdir().unwrap();
    let root_path = root.path().to_str().unwrap();
    let log = root.path().join("log");
    let output = corten(&[
        "--root",
        root_path,
        "--log",
        log.to_str().unwrap(),
        "--log-format",
        "json",
        "state",
        "none",
    ]);
    assert_eq!(output.status.code(), Some(1));
    let text = std::fs::read_to_string(&log).unwrap();
    let record: serde_json::Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    assert_eq!(record["level"], "error");
    assert!(record["msg"].as_str().unwrap().contains("container does not exist"), "{record}");
    assert!(record["time"].is_string());
}

#[test]
fn a_wrong_command_line_is_logged_too() {
    let dir = tempfile::tempdir().unwrap();
    for words in [&["frob"][..], &["create", "--frob", "id"], &["exec"], &["kill"]] {
        let log = dir.path().join("log");
        let mut args = vec!["--log", log.to_str().unwrap(), "--log-format", "json"];
        args.extend(words);
        assert_eq!(corten(&args).status.code(), Some(1), "{words:?}");
        let text = std::fs::read_to_string(&log).unwrap();
        let record: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(record["level"], "error", "{words:?}");
        assert!(!record["msg"].as_str().unwrap().contains("error:"), "{record}");
        std::fs::remove_file(&log).unwrap();
    }
}

#[test]
fn an_empty_root_lists_nothing() {
    let root = tempfile::tempdir().unwrap();
    let empty = root.path().to_str().unwrap();
    let output = corten(&["--root", empty, "list", "--quiet"]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(stdout(&output), "");
    let json = stdout(&corten(&["--root", empty, "list", "--format", "json"]));
    // Go's encoding of no containers, which callers already handle, or an empty list.
    assert!(["null", "[]"].contains(&json.trim()), "{json}");
    // A name given that is not there is more likely a mistake; runc says so since 1.2.
    let missing = root.path().join("not-there-yet");
    let output = corten(&["--root", missing.to_str().unwrap(), "list"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("no such file or directory"), "{}", stderr(&output));
}

#[test]
fn spec_writes_and_does_not_overwrite() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_str().unwrap();
    assert!(corten(&["spec", "--bundle", path]).status.success());
    let config = std::fs::read_to_string(dir.path().join("config.json")).unwrap();
    let config: serde_json::Value = serde_json::from_str(&config).unwrap();
    assert_eq!(config["process"]["args"], serde_json::json!(["sh"]));
    assert_eq!(config["root"]["path"], "rootfs");
    let again = corten(&["spec", "--bundle", path]);
    assert_eq!(again.status.code(), Some(1));
    assert!(stderr(&again).contains("config.json"), "{}", stderr(&again));
}

#[test]
fn features_is_json_of_spec_one_three() {
    let output = corten(&["features"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let features: serde_json::Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(features["ociVersionMin"], "1.0.0");
    assert!(features["ociVersionMax"].as_str().unwrap().starts_with("1.3."));
    assert_eq!(features["linux"]["seccomp"]["enabled"], true);
}

#[test]
fn the_binary_is_static() {
    // No PT_INTERP: nothing on the machine is needed to run it.
    let bytes = std::fs::read(env!("CARGO_BIN_EXE_corten")).unwrap();
    let number = |at: usize, size: usize| {
        bytes[at..at + size].iter().rev().fold(0usize, |sum, byte| sum << 8 | usize::from(*byte))
    };
    // ELF64, little endian: e_phoff at 32, e_phentsize at 54, e_phnum at 56; p_type first.
    let (offset, size, count) = (number(32, 8), number(54, 2), number(56, 2));
    let kinds: Vec<usize> = (0..count).map(|n| number(offset + n * size, 4)).collect();
    const PT_LOAD: usize = 1;
    const PT_INTERP: usize = 3;
    assert!(kinds.contains(&PT_LOAD) && !kinds.contains(&PT_INTERP), "{kinds:?}");
}
