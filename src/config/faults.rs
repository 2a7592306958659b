//! Everything that is wrong with a file, collected and then reported at once.

use crate::error::{Fault, Result};

/// More than this many faults are counted, not listed: a person reads no further.
const LISTED: usize = 100;

struct Entry {
    field: String,
    what: String,
    hint: Option<String>,
}

/// The faults found so far. A field is named by its path in the file (`mounts[3].source`).
#[derive(Default)]
pub(super) struct Faults {
    entries: Vec<Entry>,
}

impl Faults {
    /// `field` says something that cannot be.
    pub fn bad(&mut self, field: impl Into<String>, what: impl Into<String>) {
        self.entries.push(Entry { field: field.into(), what: what.into(), hint: None });
    }

    /// The same, with what the person can do about it.
    pub fn bad_hint(
        &mut self,
        field: impl Into<String>,
        what: impl Into<String>,
        hint: impl Into<String>,
    ) {
        let hint = Some(hint.into());
        self.entries.push(Entry { field: field.into(), what: what.into(), hint });
    }

    /// A fault when `text` holds a NUL byte, which no system call can take.
    pub fn nul(&mut self, field: impl Into<String>, text: &str) {
        if text.contains('\0') {
            self.bad(field, "holds a NUL byte");
        }
    }

    /// Calls each field what `name` says.
    pub fn rename(&mut self, name: &dyn Fn(&str) -> String) {
        for entry in &mut self.entries {
            entry.field = name(&entry.field);
        }
    }

    /// One error that lists them all; `file` begins it.
    pub fn into_result(self, file: &str) -> Result<()> {
        let Some(first) = self.entries.first() else { return Ok(()) };
        let message = if self.entries.len() == 1 {
            format!("{file}: {}", line(first))
        } else {
            let listed = self.entries.iter().take(LISTED);
            let lines: String = listed.map(|e| format!("\n  {}", line(e))).collect();
            let more = match self.entries.len().saturating_sub(LISTED) {
                0 => String::new(),
                more => format!("\n  and {more} more"),
            };
            format!("{file} has {} faults:{lines}{more}", self.entries.len())
        };
        let mut hints: Vec<&str> = Vec::new();
        for hint in self.entries.iter().filter_map(|e| e.hint.as_deref()) {
            if !hints.contains(&hint) {
                hints.push(hint);
            }
        }
        let fault = Fault::bad_input(message);
        Err(if hints.is_empty() { fault } else { fault.hint(hints.join("; ")) }.into())
    }
}

fn line(entry: &Entry) -> String {
    let at = if entry.field.is_empty() { String::new() } else { format!("{}: ", entry.field) };
    printable(&format!("{at}{}", entry.what))
}

/// `text` with its control characters escaped: what a file says must not move the cursor of the
/// person who reads the message.
pub(super) fn printable(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            safe.extend(c.escape_default());
        } else {
            safe.push(c);
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::render;

    #[test]
    fn one_and_several() {
        assert!(Faults::default().into_result("config.json").is_ok());
        assert_eq!(printable("\u{1b}[2J\r\n\u{e4}"), "\\u{1b}[2J\\r\\n\u{e4}");

        let mut one = Faults::default();
        one.bad("linux.intelRdt", "wrong");
        let error = one.into_result("config.json").unwrap_err();
        assert_eq!(error.to_string(), "config.json: linux.intelRdt: wrong");

        let mut many = Faults::default();
        (0..5_000).for_each(|i| many.bad(format!("f[{i}]"), "wrong"));
        let text = many.into_result("x").unwrap_err().to_string();
        assert!(text.starts_with("x has 5000 faults:\n  f[0]: wrong\n  f[1]"), "{text}");
        assert!(text.ends_with("f[99]: wrong\n  and 4900 more"), "{text}");

        let mut three = Faults::default();
        three.bad_hint("a", "wrong", "do this");
        three.bad("b", "too long");
        three.bad_hint("c", "wrong too", "do this");
        let error = three.into_result("config.json").unwrap_err();
        assert_eq!(
            render(&error),
            "error: config.json has 3 faults:\n  a: wrong\n  b: too long\n  c: wrong too\n  \
             hint: do this"
        );
    }
}
