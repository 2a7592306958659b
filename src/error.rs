//! What went wrong, in words for the person at the shell.
//!
//! Errors travel as [`anyhow::Error`]. Where we know the kind or a hint, the root of the chain
//! is a [`Fault`]; callers add context with `.context()`. Only `main` prints, once, through
//! [`render`] (people) or [`render_line`] (log records, engines).

use std::fmt;

pub use anyhow::{Context, Error, Result};
use nix::errno::Errno;

/// What sort of fault it is; commands ask for it, people see only the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The command line, config.json or another file says something that cannot be.
    BadInput,
    /// There is no such container.
    NotFound,
    /// The container id is in use.
    Exists,
    /// The container is not in a state in which the command is allowed.
    WrongState,
    /// This kernel, machine or version of Corten cannot do it.
    Unsupported,
    /// A hook failed.
    Hook,
    /// The kernel refused.
    System,
}

/// A fault with a kind and, where we know what helps, a hint.
#[derive(Debug)]
pub struct Fault {
    /// See [`Kind`].
    pub kind: Kind,
    message: String,
    hint: Option<String>,
}

impl Fault {
    /// A fault of `kind`; `message` starts in lower case and has no full stop.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Fault { kind, message: message.into(), hint: None }
    }

    /// Shorthand for [`Kind::BadInput`].
    pub fn bad_input(message: impl Into<String>) -> Self {
        Self::new(Kind::BadInput, message)
    }

    /// Adds what the person can do about it.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Fault {}

/// The kind of the outermost [`Fault`], be it the cause or a context; [`Kind::System`] without.
pub fn kind(error: &Error) -> Kind {
    error.downcast_ref::<Fault>().map_or(Kind::System, |fault| fault.kind)
}

/// The text of an errno as engines match on it: lower case, no number ("no such file or directory").
/// The C library's words, which are also Go's: nix has its own for ENOMEM, ELOOP or ERANGE.
pub fn errno_text(errno: Errno) -> String {
    let text = std::io::Error::from_raw_os_error(errno as i32).to_string();
    let text = text.split_once(" (os error").map_or(text.as_str(), |(words, _)| words);
    let mut chars = text.chars();
    match chars.next() {
        Some(first) => first.to_lowercase().chain(chars).collect(),
        None => String::new(),
    }
}

fn cause_text(cause: &(dyn std::error::Error + 'static)) -> String {
    if let Some(errno) = cause.downcast_ref::<Errno>() {
        return errno_text(*errno);
    }
    if let Some(io) = cause.downcast_ref::<std::io::Error>()
        && let Some(number) = io.raw_os_error()
    {
        return errno_text(Errno::from_raw(number));
    }
    cause.to_string()
}

fn hint(error: &Error) -> Option<&str> {
    error.downcast_ref::<Fault>().and_then(|fault| fault.hint.as_deref())
}

/// Splits the chain: what failed and why, and the outer "while ..." contexts.
fn parts(error: &Error) -> (String, Vec<String>) {
    let texts: Vec<String> = error.chain().map(cause_text).collect();
    let (outer, inner): (Vec<_>, Vec<_>) = texts.into_iter().partition(|t| t.starts_with("while "));
    (inner.join(": "), outer)
}

/// An error as text for another process of ours; [`unpack`] raises it there.
pub fn pack(error: &Error) -> String {
    let hint = hint(error).unwrap_or_default();
    format!("{}\0{}\0{hint}", kind(error) as u8, parts(error).0)
}

/// The error that [`pack`] packed.
pub fn unpack(text: &str) -> Error {
    let mut fields = text.splitn(3, '\0');
    let kind = match fields.next().and_then(|kind| kind.parse::<u8>().ok()) {
        Some(number) if number == Kind::BadInput as u8 => Kind::BadInput,
        Some(number) if number == Kind::Unsupported as u8 => Kind::Unsupported,
        Some(number) if number == Kind::Hook as u8 => Kind::Hook,
        _ => Kind::System,
    };
    let fault = Fault::new(kind, fields.next().unwrap_or("no reason given"));
    match fields.next() {
        Some(hint) if !hint.is_empty() => fault.hint(hint).into(),
        _ => fault.into(),
    }
}

/// For people: the failure, the context on a line of its own, then the hint.
pub fn render(error: &Error) -> String {
    let (what, outer) = parts(error);
    let mut text = format!("error: {what}");
    for line in outer {
        text.push_str("\n  ");
        text.push_str(&line);
    }
    if let Some(hint) = hint(error) {
        text.push_str("\n  hint: ");
        text.push_str(hint);
    }
    text
}

/// The same on one line, as log records and engines want it.
pub fn render_line(error: &Error) -> String {
    let (what, outer) = parts(error);
    let mut text = what;
    for line in outer {
        text.push_str(" (");
        text.push_str(&line);
        text.push(')');
    }
    if let Some(hint) = hint(error) {
        text.push_str("; hint: ");
        text.push_str(hint);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_for_people_and_for_engines() {
        let error = Error::from(Fault::bad_input("no such directory: /srv/data").hint("create it"))
            .context("cannot mount /srv/data on /data")
            .context("while creating container \"web\"");
        assert_eq!(
            render(&error),
            "error: cannot mount /srv/data on /data: no such directory: /srv/data\n  \
             while creating container \"web\"\n  hint: create it"
        );
        assert_eq!(
            render_line(&error),
            "cannot mount /srv/data on /data: no such directory: /srv/data \
             (while creating container \"web\"); hint: create it"
        );
        assert_eq!(kind(&error), Kind::BadInput);
    }

    #[test]
    fn errno_reads_as_engines_match_it() {
        let error = Error::from(Errno::ENOENT).context("exec /nope");
        assert_eq!(render_line(&error), "exec /nope: no such file or directory");
        let io = Error::from(std::io::Error::from_raw_os_error(13)).context("open /x");
        assert_eq!(render_line(&io), "open /x: permission denied");
        assert_eq!(errno_text(Errno::ENOMEM), "cannot allocate memory");
        assert_eq!(errno_text(Errno::ERANGE), "numerical result out of range");
    }
}
