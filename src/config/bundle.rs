//! Finds and reads a bundle, and parses its files (spec bundle.md). Nothing is checked here
//! beyond the shape of the file; [`super::validate`] does that.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use oci_spec::runtime::{LinuxResources, Process, Spec};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::faults::{Faults, printable};
use super::repair;
use crate::error::{Fault, Result, errno_text};

/// The file that a bundle must hold; it begins the messages about its content.
pub const CONFIG: &str = "config.json";

/// The largest config.json that is read, in bytes. Docker's are some 20 KiB.
pub const MAX_SIZE: u64 = 16 << 20;

/// A bundle as it was when it was read.
#[derive(Debug, Clone)]
pub struct Bundle {
    /// The directory: absolute, without symbolic links.
    pub dir: PathBuf,
    /// The parsed config.json; not yet checked.
    pub spec: Spec,
    /// The text it was parsed from, for the copy in the state directory (the spec forbids later
    /// changes of config.json to have any effect).
    pub raw: String,
}

/// Reads the bundle in `dir`. Does not validate.
pub fn load(dir: &Path) -> Result<Bundle> {
    let canonical = std::fs::canonicalize(dir)
        .map_err(|e| unreadable("open the bundle", dir, &e).hint("--bundle names it"))?;
    let path = canonical.join(CONFIG);
    let raw = read_bounded(&path)?;
    let spec = parse_spec(&raw)?;
    Ok(Bundle { dir: canonical, spec, raw })
}

/// Parses the text of a config.json, also that of the copy in the state directory.
pub fn parse_spec(text: &str) -> Result<Spec> {
    parse(text, CONFIG, repair::spec)
}

/// Parses the file of `exec --process`; messages begin with `process.json`.
pub fn parse_process(text: &str) -> Result<Process> {
    parse(text, "process.json", |value, faults| repair::process(value, "", "process.json", faults))
}

/// Parses the file of `update --resources`; messages begin with `resources`.
pub fn parse_resources(text: &str) -> Result<LinuxResources> {
    parse(text, "resources", |value, faults| repair::resources(value, "", faults))
}

fn unreadable(what: &str, path: &Path, error: &io::Error) -> Fault {
    let reason = match error.raw_os_error() {
        Some(number) => errno_text(Errno::from_raw(number)),
        None => error.to_string(),
    };
    Fault::bad_input(format!("cannot {what} {}: {reason}", path.display()))
}

fn read_bounded(path: &Path) -> Result<String> {
    let fault = |e: io::Error| unreadable("read", path, &e);
    let metadata = std::fs::metadata(path).map_err(|e| {
        let fault = fault(e);
        fault.hint("a bundle is a directory that holds config.json and the root filesystem")
    })?;
    // Opening a FIFO would wait for a writer.
    if !metadata.is_file() {
        let message = format!("cannot read {}: not a regular file", path.display());
        return Err(Fault::bad_input(message).into());
    }
    let mut bytes = Vec::with_capacity(metadata.len().min(MAX_SIZE) as usize);
    let file = File::open(path).map_err(fault)?;
    file.take(MAX_SIZE + 1).read_to_end(&mut bytes).map_err(fault)?;
    if bytes.len() as u64 > MAX_SIZE {
        let message = format!("cannot read {}: larger than {} MiB", path.display(), MAX_SIZE >> 20);
        return Err(Fault::bad_input(message).into());
    }
    String::from_utf8(bytes).map_err(|e| {
        let at = e.utf8_error().valid_up_to();
        Fault::bad_input(format!("{}: not UTF-8 at byte {at}", path.display())).into()
    })
}

fn parse<T: DeserializeOwned>(
    text: &str,
    file: &str,
    repair: impl FnOnce(&mut Value, &mut Faults),
) -> Result<T> {
    if text.starts_with('\u{feff}') {
        let message = format!("{file}: invalid JSON: begins with a byte order mark");
        return Err(Fault::bad_input(message).into());
    }
    // By way of a Value: the last of duplicate keys wins, as in Go.
    let mut value: Value = serde_json::from_str(text)
        .map_err(|e| Fault::bad_input(format!("{file}: invalid JSON: {e}")))?;
    if !value.is_object() {
        return Err(Fault::bad_input(format!("{file}: must be a JSON object")).into());
    }
    let mut faults = Faults::default();
    repair(&mut value, &mut faults);
    faults.into_result(file)?;
    serde_path_to_error::deserialize(value).map_err(|e| wrong_type(file, &e).into())
}

fn wrong_type(file: &str, error: &serde_path_to_error::Error<serde_json::Error>) -> Fault {
    let path = error.path().to_string();
    // serde_path_to_error writes `?` for an enum whose variant it does not know, `.` for the top.
    let field = path.trim_end_matches(".?").trim_matches('.');
    let what = error.inner().to_string().replace("path string", "a string");
    let what = repair::names_of_the_spec(what);
    let at = if field.is_empty() { String::new() } else { format!("{field}: ") };
    Fault::bad_input(printable(&format!("{file}: {at}{what}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Kind, kind, render};

    fn text_of<T: std::fmt::Debug>(result: Result<T>) -> String {
        let error = result.unwrap_err();
        assert_eq!(kind(&error), Kind::BadInput);
        render(&error)
    }

    #[test]
    fn a_bundle_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let text = r#"{"ociVersion":"1.0.2","root":{"path":"rootfs"}}"#;
        std::fs::write(dir.path().join(CONFIG), text).unwrap();
        std::os::unix::fs::symlink(dir.path(), dir.path().join("link")).unwrap();
        let bundle = load(&dir.path().join("link/.")).unwrap();
        assert_eq!(bundle.dir, dir.path().canonicalize().unwrap());
        assert_eq!(bundle.raw, text);
        assert_eq!(bundle.spec.version(), "1.0.2");
    }

    #[test]
    fn what_cannot_be_read() {
        let dir = tempfile::tempdir().unwrap();
        let shown = dir.path().canonicalize().unwrap();
        let shown = shown.display();
        let config = dir.path().join(CONFIG);
        assert_eq!(
            text_of(load(&dir.path().join("nope"))),
            format!(
                "error: cannot open the bundle {}/nope: no such file or directory\n  \
                 hint: --bundle names it",
                dir.path().display()
            )
        );
        assert_eq!(
            text_of(load(dir.path())),
            format!(
                "error: cannot read {shown}/config.json: no such file or directory\n  hint: a \
                 bundle is a directory that holds config.json and the root filesystem"
            )
        );
        std::fs::create_dir(&config).unwrap();
        assert_eq!(
            text_of(load(dir.path())),
            format!("error: cannot read {shown}/config.json: not a regular file")
        );
        std::fs::remove_dir(&config).unwrap();
        std::fs::write(&config, b"{\"a\": \"\xff\"}").unwrap();
        assert_eq!(
            text_of(load(dir.path())),
            format!("error: {shown}/config.json: not UTF-8 at byte 7")
        );
        File::create(&config).unwrap().set_len(MAX_SIZE + 1).unwrap();
        assert_eq!(
            text_of(load(dir.path())),
            format!("error: cannot read {shown}/config.json: larger than 16 MiB")
        );
    }

    #[test]
    fn what_is_not_json() {
        for (text, message) in [
            ("", "EOF while parsing a value at line 1 column 0"),
            ("{]", "key must be a string at line 1 column 2"),
            ("{\n  \"a\": 1,\n}", "trailing comma at line 3 column 1"),
            ("{} x", "trailing characters at line 1 column 4"),
            ("{\"a\": 1e999}", "number out of range at line 1 column 11"),
            ("\u{feff}{}", "begins with a byte order mark"),
        ] {
            assert_eq!(
                text_of(parse_spec(text)),
                format!("error: config.json: invalid JSON: {message}")
            );
        }
        for text in ["null", "[]", "5", "\"x\""] {
            assert_eq!(text_of(parse_spec(text)), "error: config.json: must be a JSON object");
        }
        let deep = format!("{}1{}", "{\"a\":".repeat(200), "}".repeat(200));
        assert!(text_of(parse_spec(&deep)).contains("recursion limit exceeded"));
    }

    #[test]
    fn what_has_the_wrong_type() {
        let spec = |text: &str| text_of(parse_spec(text));
        assert_eq!(
            spec(r#"{"mounts":[{"destination":"/a"},{"destination":"/b","source":5}]}"#),
            "error: config.json: mounts[1].source: invalid type: integer `5`, expected a string"
        );
        assert_eq!(
            spec(r#"{"linux":{"namespaces":[{"type":"pid"},{"type":"pod"}]}}"#),
            "error: config.json: linux.namespaces[1].type: unknown variant `pod`, expected one of \
             `mount`, `cgroup`, `uts`, `ipc`, `user`, `pid`, `network`, `time`"
        );
        // CVE-2024-40635: a user id that does not fit must not wrap to root.
        for id in ["-1", "4294967296", "18446744073709551616", "1.0", "\"0\""] {
            let text = spec(&format!(r#"{{"process":{{"user":{{"uid":{id}}}}}}}"#));
            assert!(text.starts_with("error: config.json: process.user.uid: invalid "), "{text}");
        }
        assert_eq!(
            text_of(parse_process(r#"{"args":"sh"}"#)),
            "error: process.json: args: invalid type: string \"sh\", expected a sequence"
        );
        assert_eq!(
            text_of(parse_resources(r#"{"memory":{"limit":"1g"}}"#)),
            "error: resources: memory.limit: invalid type: string \"1g\", expected i64"
        );
    }

    #[test]
    fn the_last_of_duplicate_keys_wins() {
        let spec = parse_spec(r#"{"hostname":"a","hostname":"b"}"#).unwrap();
        assert_eq!(spec.hostname().as_deref(), Some("b"));
    }
}
