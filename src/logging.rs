//! `--log`, `--log-format` and `--debug`: records as containerd, Docker and Podman read them.
//!
//! Without `--log` records go to standard error. A record never repeats an error that is also
//! returned; `main` logs the final one.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::{Mutex, OnceLock};

use log::{Level, LevelFilter, Metadata, Record};

use crate::error::{Context, Result};

/// The form of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `time="..." level=warning msg="..."`
    Text,
    /// One JSON object a line: `{"level":"warning","msg":"...","time":"..."}`
    Json,
}

struct Logger {
    format: Format,
    file: Option<Mutex<File>>,
}

static LOGGER: OnceLock<Logger> = OnceLock::new();

/// In a container's init: where records go instead, see [`forward`].
static FORWARD: Mutex<Option<Forward>> = Mutex::new(None);

type Forward = Box<dyn Fn(&str) + Send>;

/// Hands the text of warnings to `to` from now on: init's standard error is the container's, so
/// its warnings go to the parent. `None` drops them.
pub fn forward(to: Option<Forward>) {
    let drop_all: Forward = Box::new(|_| {});
    if let Ok(mut forward) = FORWARD.lock() {
        *forward = Some(to.unwrap_or(drop_all));
    }
}

/// Installs the logger; `path` is opened for appending, with close-on-exec.
pub fn init(path: Option<&Path>, format: Format, debug: bool) -> Result<()> {
    let file =
        match path {
            None => None,
            Some(path) => Some(Mutex::new(
                OpenOptions::new().append(true).create(true).open(path).with_context(|| {
                    format!("cannot open the log file {} (--log)", path.display())
                })?,
            )),
        };
    let logger = LOGGER.get_or_init(|| Logger { format, file });
    log::set_max_level(if debug { LevelFilter::Debug } else { LevelFilter::Info });
    // A second call (in tests) keeps the first logger.
    let _ = log::set_logger(logger);
    Ok(())
}

/// True when records go to a file, so that `main` must also print the error.
pub fn to_file() -> bool {
    LOGGER.get().is_some_and(|l| l.file.is_some())
}

impl log::Log for Logger {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        if let Ok(forward) = FORWARD.lock()
            && let Some(forward) = &*forward
        {
            if record.level() <= Level::Warn {
                forward(&record.args().to_string());
            }
            return;
        }
        let line = line(self.format, record.level(), &record.args().to_string(), &now());
        // A log that cannot be written must not stop the container.
        let _ = match &self.file {
            Some(file) => match file.lock() {
                Ok(mut file) => file.write_all(line.as_bytes()),
                Err(_) => Ok(()),
            },
            None => std::io::stderr().write_all(line.as_bytes()),
        };
    }

    fn flush(&self) {}
}

/// logrus' names, which the engines know.
fn level_name(level: Level) -> &'static str {
    match level {
        Level::Error => "error",
        Level::Warn => "warning",
        Level::Info => "info",
        Level::Debug => "debug",
        Level::Trace => "trace",
    }
}

fn line(format: Format, level: Level, message: &str, time: &str) -> String {
    let level = level_name(level);
    let quoted = serde_json::Value::from(message).to_string();
    match format {
        Format::Json => format!("{{\"level\":\"{level}\",\"msg\":{quoted},\"time\":\"{time}\"}}\n"),
        Format::Text => format!("time=\"{time}\" level={level} msg={quoted}\n"),
    }
}

/// Now, in UTC, as RFC 3339 with seconds.
fn now() -> String {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    rfc3339(since.map_or(0, |d| d.as_secs()))
}

/// `seconds` since 1970 as RFC 3339 in UTC.
pub fn rfc3339(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Civil date from a day number: years start in March, eras have 400 years.
    let z = days + 719_468;
    let (era, day_of_era) = (z / 146_097, z % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (rest / 3_600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(rfc3339(1_795_219_199), "2026-11-20T23:59:59Z");
    }

    #[test]
    fn records_are_quoted() {
        assert_eq!(
            line(Format::Json, Level::Error, "a \"b\"\n", "T"),
            "{\"level\":\"error\",\"msg\":\"a \\\"b\\\"\\n\",\"time\":\"T\"}\n"
        );
        assert_eq!(
            line(Format::Text, Level::Warn, "x", "T"),
            "time=\"T\" level=warning msg=\"x\"\n"
        );
    }
}
