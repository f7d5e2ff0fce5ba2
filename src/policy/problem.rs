//! A problem of a policy: its place, its message, and its severity.

use std::ops::Range;

use crate::printable;

/// A policy file's text and the name to call it by.
#[derive(Clone, Debug)]
pub struct Source {
    pub path: String,
    pub text: String,
}

/// How much a problem matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The policy works; a part of it has no effect.
    Warning,
    /// The policy can't be used.
    Error,
}

/// One thing that is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub severity: Severity,
    /// The path of the source.
    pub path: String,
    /// From 1; the line and column of the span's start.
    pub line: usize,
    pub column: usize,
    /// Bytes of the source's text.
    pub span: Range<usize>,
    /// A clause in lower case that names the value.
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
