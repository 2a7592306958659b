//! `corten`: reads the command line, runs the command, prints the error once.

use std::io::Write;
use std::process::ExitCode;

use corten::cli::{self, Parsed};
use corten::error::{self, Error};
use corten::logging::{self, Format};
use corten::{commands, plan};

fn main() -> ExitCode {
    let (global, command) = match cli::parse(std::env::args_os()) {
        Parsed::Command(global, command) => (global, command),
        Parsed::Version => return print(&version()),
        Parsed::Help(text) => return print(&text),
        Parsed::Wrong(text, log) => {
            // Nobody is left to tell when this fails.
            let _ = std::io::stderr().write_all(text.as_bytes());
            if let Some((path, format)) = log
                && logging::init(Some(&path), format_named(&format), false).is_ok()
            {
                log::error!("{}", cli::first_line(&text));
            }
            return ExitCode::from(1);
        }
    };
    let format = format_named(&global.log_format);
    if let Err(error) = logging::init(global.log.as_deref(), format, global.debug) {
        return fail(&error, Format::Text, 1);
    }
    match commands::run(&global, &command) {
        Ok(status) => exit(status),
        Err(error) => fail(&error, format, commands::failure_status(&command)),
    }
}

fn format_named(name: &str) -> Format {
    if name == "json" { Format::Json } else { Format::Text }
}

/// The error, once for each reader: people at standard error, engines in the log.
fn fail(error: &Error, format: Format, status: i32) -> ExitCode {
    let to_file = logging::to_file();
    if to_file || format == Format::Json {
        log::error!("{}", error::render_line(error));
    }
    if to_file || format == Format::Text {
        let _ = writeln!(std::io::stderr(), "{}", error::render(error));
    }
    exit(status)
}

fn exit(status: i32) -> ExitCode {
    ExitCode::from(u8::try_from(status).unwrap_or(1))
}

fn print(text: &str) -> ExitCode {
    // A reader that went away is no error.
    let _ = std::io::stdout().write_all(text.as_bytes());
    ExitCode::SUCCESS
}

/// In runc's form, which dockerd and Podman read.
fn version() -> String {
    format!(
        "corten version {}\ncommit: {}\nspec: {}\nlibseccomp: {}\n",
        env!("CARGO_PKG_VERSION"),
        option_env!("CORTEN_COMMIT").unwrap_or("unknown"),
        plan::OCI_VERSION,
        plan::seccomp::library_version(),
    )
}
