//! Problems of a caller's form, each with its place, and the checks that all forms share.

use std::fmt;

use crate::limit::AMOUNT_MAX;
use crate::printable;

/// Maximum bytes of a role or a tier.
pub const LABEL_LEN_MAX: usize = 64;

/// A problem of a caller, with its place in the form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flaw {
    /// Names of fields and indexes of items, from the outside in.
    pub path: Vec<String>,
    /// A clause in lower case that names the value.
    pub message: String,
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.path.is_empty() {
            true => f.write_str(&self.message),
            false => write!(f, "{}: {}", self.path.join("."), self.message),
        }
    }
}

/// Problems as they are found.
#[derive(Default)]
pub struct Flaws(pub Vec<Flaw>);

impl Flaws {
    /// Notes a problem, if something is wrong.
    pub fn note_if(&mut self, is_wrong: bool, path: &[&str], message: impl FnOnce() -> String) {
        if is_wrong {
            let path = path.iter().map(ToString::to_string).collect();
            self.0.push(Flaw { path, message: message() });
        }
    }

    /// The value of a result, whose problem is noted.
    pub fn take<T>(&mut self, path: &[&str], result: Result<T, String>) -> Option<T> {
        result.map_err(|message| self.note_if(true, path, || message)).ok()
    }
}

/// Checks a text of at most so many bytes.
///
/// # Errors
/// A clause that says why.
pub fn check_text(text: &str, what: &str, len_max: usize) -> Result<(), String> {
    match text.len() {
        0 => Err(format!("{what} is empty")),
        len if len_max < len => Err(format!("{what} is longer than {len_max} bytes")),
        _ if text.contains(printable::is_control) => {
            Err(format!("{what} contains a control character"))
        }
        _ => Ok(()),
    }
}

/// A clause for an amount beyond all.
pub fn too_much(amount: u64) -> String {
    format!("{amount} is more than {AMOUNT_MAX}")
}
