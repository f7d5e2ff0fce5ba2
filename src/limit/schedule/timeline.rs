//! Which condition holds from when on, around a time.

use std::ops::Range;

use crate::clock::Timestamp;

/// What holds from a time on, until the next span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// In milliseconds since the Unix epoch.
    pub from_ms: u64,
    /// The condition, by index.
    pub holding: Option<usize>,
}

/// Spans, one after the other.
#[derive(Debug)]
pub struct Timeline {
    /// Never empty.
    spans: Vec<Span>,
    /// For these times it tells enough before and after.
    holds_ms: Range<u64>,
}

impl Timeline {
    /// Of spans in order, at least one.
    pub(super) fn new(spans: Vec<Span>, holds_ms: Range<u64>) -> Self {
        Self { spans, holds_ms }
    }

    /// Whether it tells what holds at a time.
    pub fn covers(&self, now: Timestamp) -> bool {
        self.holds_ms.contains(&now.as_ms())
    }

    /// Until when it tells enough.
    pub fn holds_until_ms(&self) -> u64 {
        self.holds_ms.end
    }

    /// The span that holds a time.
    pub fn span(&self, now: Timestamp) -> Span {
        self.spans[self.index(now)]
    }

    /// The spans up to the one that holds a time, and those after it.
    pub fn split(&self, now: Timestamp) -> (&[Span], &[Span]) {
        self.spans.split_at(self.index(now) + 1)
    }

    fn index(&self, now: Timestamp) -> usize {
        let begun = self.spans.partition_point(|span| span.from_ms <= now.as_ms());
        begun.saturating_sub(1)
    }
}
