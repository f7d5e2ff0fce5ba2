//! The audit log in a Redis stream: lines of all processes in one chain.
//!
//! Each line has the hash of the one before, because the oldest lines are removed at any time.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::{io, mem};

use super::line::{AuditLine, ChainEnd, Content};
use crate::lock::lock;
use crate::store::StoreError;
use crate::store::redis::RedisAuditLog;

/// Lines that one command adds: some 100 KB.
const LINES_AT_ONCE: usize = 128;

/// Maximum number of attempts while other processes add lines.
const ATTEMPTS_MAX: u32 = 32;

/// Maximum number of attempts that fail.
const FAILURES_MAX: u32 = 2;

/// A stream with a chain of lines.
#[derive(Debug)]
pub struct AuditStream {
    log: RedisAuditLog,
    ends: Mutex<Ends>,
}

/// The end of the chain.
#[derive(Clone, Debug, Default)]
struct Ends {
    /// In Redis, when this process asked last; empty without one.
    stored: String,
    /// After the last lines of this process.
    own: ChainEnd,
}

impl Ends {
    /// The end to continue. If Redis has lost the last lines of this process, the gap must show.
    fn next(&self) -> ChainEnd {
        let stored = ChainEnd::parse(&self.stored).unwrap_or_default();
        if stored.number < self.own.number { self.own.clone() } else { stored }
    }
}

impl AuditStream {
    /// The stream of a log.
    pub fn new(log: RedisAuditLog) -> Self {
        Self { log, ends: Mutex::default() }
    }

    /// The newest lines, the newest first.
    ///
    /// # Errors
    /// If Redis does not answer as expected.
    pub async fn newest(&self, max: usize) -> io::Result<Vec<String>> {
        self.log.newest(max).await.map_err(io::Error::other)
    }

    /// Adds lines in batches.
    ///
    /// # Errors
    /// If Redis does not answer as expected; some may be added.
    pub async fn append(&self, contents: &[Content]) -> io::Result<()> {
        for contents in contents.chunks(LINES_AT_ONCE) {
            self.append_batch(contents).await?;
        }
        Ok(())
    }

    /// The numbers of the lines for whose subjects `is_erased` holds.
    ///
    /// # Errors
    /// If Redis does not answer as expected.
    pub async fn find(&self, is_erased: impl Fn(&str) -> bool) -> io::Result<BTreeSet<u64>> {
        let numbers = Mutex::new(BTreeSet::new());
        let note = |text: &str| {
            let line = AuditLine::parse(text)?;
            if line.subject.is_some_and(&is_erased) {
                lock(&numbers).insert(line.number);
            }
            None
        };
        self.log.replace(note).await.map_err(io::Error::other)?;
        Ok(mem::take(&mut *lock(&numbers)))
    }

    /// Removes the subjects for which `is_erased` holds from the lines with these numbers. Returns the number of lines.
    ///
    /// # Errors
    /// If Redis does not answer as expected; some may be removed.
    pub async fn erase(
        &self,
        numbers: &BTreeSet<u64>,
        is_erased: impl Fn(&str) -> bool,
    ) -> io::Result<u64> {
        let replace = |text: &str| {
            let line = AuditLine::parse(text).filter(|line| numbers.contains(&line.number))?;
            line.subject.is_some_and(&is_erased).then(|| line.erased())
        };
        self.log.replace(replace).await.map_err(io::Error::other)
    }

    async fn append_batch(&self, contents: &[Content]) -> io::Result<()> {
        let mut failures = 0;
        for _ in 0..ATTEMPTS_MAX {
            let ends = lock(&self.ends).clone();
            let mut end = ends.next();
            let lines: Vec<String> = contents
                .iter()
                .map(|content| end.push(content, true).trim_end().to_owned())
                .collect();
            let stored = end.to_string();
            let found = match self.log.append(&ends.stored, &stored, &lines).await {
                Ok(found) => found,
                Err(StoreError::Lost { .. } | StoreError::Late { .. })
                    if failures + 1 < FAILURES_MAX =>
                {
                    // If the lines were added, the next attempt finds their end.
                    failures += 1;
                    continue;
                }
                Err(error) => return Err(io::Error::other(error)),
            };
            let is_added = found == ends.stored || found == stored;
            let mut known = lock(&self.ends);
            match is_added {
                true => *known = Ends { stored, own: end },
                false => known.stored = found,
            }
            drop(known);
            if is_added {
                return Ok(());
            }
        }
        Err(io::Error::other("other processes add lines again and again"))
    }
}
