//! Erases callers from lines, and records that in a line of its own: so an erased caller is told apart from one that somebody
//! removed from a line.

use std::collections::BTreeSet;
use std::io;
use std::ops::RangeInclusive;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::task::spawn_blocking;

use super::entry::{is_subject_of, members};
use super::line::Content;
use super::{Audit, Output};
use crate::clock::Timestamp;
use crate::lock::lock;
use crate::observe::instant::instant;

/// Ranges of lines that one line names: some 15 KB.
const RANGES_MAX: usize = 1_000;

/// Tells whether the name of a caller is to be erased.
type IsErased = Arc<dyn Fn(&str) -> bool + Send + Sync>;

/// The line of an erasure.
#[derive(Serialize)]
struct ErasureHead {
    at: String,
    what: What,
    lines: String,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
enum What {
    #[serde(rename = "erased")]
    Erased,
}

/// The parts of such a line that a verification reads.
#[derive(Deserialize)]
struct ErasureRead {
    #[serde(rename = "what")]
    _what: What,
    lines: String,
}

impl Audit {
    /// Erases the data of callers from the lines of the file and of the rotated ones, or of the stream. The chain stays
    /// valid. Returns the number of lines. Lines in the process log and on the standard output stay.
    ///
    /// # Errors
    /// If a file can't be read or replaced, or the line of the erasure can't be written.
    pub async fn erase(&self, is_erased: IsErased, now: Timestamp) -> io::Result<u64> {
        self.flush().await;
        let numbers = self.find(is_erased.clone()).await?;
        if numbers.is_empty() {
            return Ok(0);
        }
        // Before the lines are changed: whatever fails after, the erasure is recorded.
        self.write_all(erasures(now, &numbers)).await?;
        self.strip(numbers, is_erased).await
    }

    /// The numbers of the lines with data of callers.
    async fn find(&self, is_erased: IsErased) -> io::Result<BTreeSet<u64>> {
        if let Some(stream) = &self.0.stream {
            return stream.find(|subject| is_subject_of(subject, &*is_erased)).await;
        }
        let shared = self.0.clone();
        let find = move || match &*lock(&shared.output) {
            Output::File(file) => file.find(&|subject| is_subject_of(subject, &*is_erased)),
            Output::Log(_) | Output::Stdout(_) => Ok(BTreeSet::new()),
        };
        spawn_blocking(find).await.map_err(io::Error::other)?
    }

    /// Removes the data of callers from the lines with these numbers.
    async fn strip(&self, numbers: BTreeSet<u64>, is_erased: IsErased) -> io::Result<u64> {
        if let Some(stream) = &self.0.stream {
            return stream.erase(&numbers, |subject| is_subject_of(subject, &*is_erased)).await;
        }
        let shared = self.0.clone();
        let strip = move || match &*lock(&shared.output) {
            Output::File(file) => {
                file.erase(&numbers, &|subject| is_subject_of(subject, &*is_erased))
            }
            Output::Log(_) | Output::Stdout(_) => Ok(0),
        };
        spawn_blocking(strip).await.map_err(io::Error::other)?
    }
}

/// The lines that record the erasure of a caller from the lines with these numbers.
pub fn erasures(at: Timestamp, numbers: &BTreeSet<u64>) -> Vec<Content> {
    let mut ranges: Vec<RangeInclusive<u64>> = Vec::new();
    for number in numbers {
        match ranges.last_mut().filter(|last| last.end() + 1 == *number) {
            Some(last) => *last = *last.start()..=*number,
            None => ranges.push(*number..=*number),
        }
    }
    let text = |range: &RangeInclusive<u64>| match (range.start(), range.end()) {
        (start, end) if start == end => start.to_string(),
        (start, end) => format!("{start}-{end}"),
    };
    let content = |ranges: &[RangeInclusive<u64>]| {
        let lines = ranges.iter().map(text).collect::<Vec<_>>().join(",");
        let head = ErasureHead { at: instant(at), what: What::Erased, lines };
        Content { head: members(&head), subject: None }
    };
    ranges.chunks(RANGES_MAX).map(content).collect()
}

/// The lines that a line records as erased, from its head; None if it records none.
pub fn erased_lines(head: &str) -> Option<Vec<RangeInclusive<u64>>> {
    if !head.contains("\"lines\":\"") {
        return None;
    }
    let ErasureRead { lines, .. } = serde_json::from_str(&format!("{{{head}}}")).ok()?;
    let range = |text: &str| {
        let (start, end) = text.split_once('-').unwrap_or((text, text));
        Some(start.parse().ok()?..=end.parse().ok()?)
    };
    lines.split(',').map(range).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_names_the_lines_that_were_erased() {
        let check = |numbers: &[u64], expected: &[&[RangeInclusive<u64>]]| {
            let contents = erasures(Timestamp::from_ms(0), &numbers.iter().copied().collect());
            let read = contents.iter().map(|content| erased_lines(&content.head).unwrap());
            assert_eq!(read.collect::<Vec<_>>(), expected, "{contents:?}");
        };
        check(&[], &[]);
        check(&[7], &[&[7..=7]]);
        check(&[1, 2, 3, 7, 9, 10], &[&[1..=3, 7..=7, 9..=10]]);
        let odd: Vec<u64> = (0..=2_000).map(|number| 2 * number).collect();
        let ranges: Vec<_> = odd.iter().map(|number| *number..=*number).collect();
        check(&odd, &[&ranges[..1_000], &ranges[1_000..2_000], &ranges[2_000..]]);
        for head in [
            r#""what":"put""#,
            r#""what":"put","lines":"1""#,
            r#""who":"\"lines\":\"1","what":"put""#,
        ] {
            assert_eq!(erased_lines(head), None, "{head}");
        }
    }
}
