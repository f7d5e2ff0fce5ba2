//! A problem of a policy: its place, its message, and its severity.

use std::ops::Range;

use crate::printable;

/// The text of a policy file and its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    pub path: String,
    pub text: String,
}

/// The severity of a problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The policy is valid; a part of it has no effect.
    Warning,
    /// The policy is invalid.
    Error,
}

/// One problem and its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub severity: Severity,
    /// The path of the source.
    pub path: String,
    /// The line and column of the span's start, from 1.
    pub line: usize,
    pub column: usize,
    /// The bytes in the source's text.
    pub span: Range<usize>,
    /// A lower-case clause that names the value.
    pub message: String,
}

impl Problem {
    /// A problem at `span` of a source.
    pub fn at(source: &Source, severity: Severity, span: Range<usize>, message: String) -> Self {
        let mut start = span.start.min(source.text.len());
        while !source.text.is_char_boundary(start) {
            start -= 1;
        }
        let before = &source.text[..start];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Self {
            severity,
            path: source.path.clone(),
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            span: start..span.end.max(start),
            message: match message.contains(printable::is_escaped) {
                true => printable::line(&message).into_owned(),
                false => message,
            },
        }
    }
}
