//! The active conditions around a time.

use std::ops::Range;

use crate::clock::Timestamp;

/// The active condition from a time on, until the next span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// In milliseconds since the Unix epoch.
    pub from_ms: u64,
    /// The condition, by index.
    pub holding: Option<usize>,
}

/// Consecutive spans.
#[derive(Debug)]
pub struct Timeline {
    /// Never empty.
    spans: Vec<Span>,
    /// The times for which there are enough spans before and after.
    holds_ms: Range<u64>,
}

impl Timeline {
    /// A timeline of ordered spans, at least one.
    pub(super) fn new(spans: Vec<Span>, holds_ms: Range<u64>) -> Self {
        Self { spans, holds_ms }
    }

    /// Whether it covers a time.
    pub fn covers(&self, now: Timestamp) -> bool {
        self.holds_ms.contains(&now.as_ms())
    }

    /// The end of its coverage.
    pub fn holds_until_ms(&self) -> u64 {
        self.holds_ms.end
    }

    /// The span that contains a time.
    pub fn span(&self, now: Timestamp) -> Span {
        self.spans[self.index(now)]
    }

    /// The spans up to the one that contains a time, and those after it.
    pub fn split(&self, now: Timestamp) -> (&[Span], &[Span]) {
        self.spans.split_at(self.index(now) + 1)
    }

    fn index(&self, now: Timestamp) -> usize {
        let begun = self.spans.partition_point(|span| span.from_ms <= now.as_ms());
        begun.saturating_sub(1)
    }
}
