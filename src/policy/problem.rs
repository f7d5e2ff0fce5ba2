//! What is wrong with a policy: the place, the value, and how to show both.

use std::ops::Range;

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
