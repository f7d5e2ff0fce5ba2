//! Verifies the chain of audit lines over one or more files.
//!
//! Files may be given in any order: the first line of each has the hash of the line before it, which orders them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use super::erasure::erased_lines;
use super::line::{AuditLine, ChainEnd};
use crate::printable;

/// Maximum number of problems of one file.
const PROBLEMS_MAX: usize = 20;

/// The result of a verification.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Lines of the chain.
    pub lines: u64,
    /// Lines of older versions before the chain, which have no hash.
    pub unchained: u64,
    /// Lines whose subject was erased.
    pub erased: u64,
    /// The number of the first line; more than 1 if older files are missing.
    pub first: u64,
    /// The last line.
    pub end: ChainEnd,
    /// Each with its file and line.
    pub problems: Vec<String>,
}

/// The chain in one file.
#[derive(Debug, Default)]
struct Segment {
    path: String,
    lines: u64,
    unchained: u64,
    /// Lines whose subject was removed: their numbers, and where they are in the file.
    erased: Vec<(u64, u64)>,
    /// Lines that others record as erased.
    recorded: Vec<RangeInclusive<u64>>,
    first: u64,
    /// The hash before its first line.
    previous: String,
    end: ChainEnd,
    /// It has the line that the caller knows.
    has_known: bool,
    problems: Vec<String>,
}

/// Verifies files; also that the line with a `known` number has this hash.
///
/// # Errors
/// If a file can't be read.
pub fn verify(paths: &[PathBuf], known: Option<(u64, &str)>) -> io::Result<Verified> {
    let mut verified = Verified::default();
    let mut segments = Vec::new();
    for path in paths {
        let segment = Segment::read(path, known).map_err(|error| {
            io::Error::new(error.kind(), format!("{}: {error}", printable::path(path)))
        })?;
        segments.push(segment);
    }
    let recorded = merged(segments.iter().flat_map(|segment| segment.recorded.iter().cloned()));
    for segment in &mut segments {
        segment.find_removed(&recorded);
        verified.lines += segment.lines;
        verified.unchained += segment.unchained;
        verified.erased += segment.erased.len() as u64;
        verified.problems.extend_from_slice(&segment.problems);
    }
    segments.retain(|segment| segment.lines != 0);
    if let Some((number, _)) = known
        && !segments.iter().any(|segment| segment.has_known)
    {
        verified.problems.push(format!("no line {number} has the hash that was given"));
    }
    verified.join(&mut segments);
    Ok(verified)
}

impl Verified {
    /// Orders the files, and checks that each follows another one.
    fn join(&mut self, segments: &mut Vec<Segment>) {
        segments.sort_by_key(|segment| segment.first);
        let mut known = BTreeSet::new();
        segments.retain(|segment| {
            let is_new = known.insert((segment.previous.clone(), segment.end.hash.clone()));
            if !is_new {
                self.problems.push(format!("{}: another file has the same lines", segment.path));
            }
            is_new
        });
        let ends: BTreeSet<&str> = segments.iter().map(|segment| &*segment.end.hash).collect();
        let (followers, heads): (Vec<_>, Vec<_>) =
            segments.iter().partition(|segment| ends.contains(&*segment.previous));
        let mut next_of: BTreeMap<&str, &Segment> = BTreeMap::new();
        for segment in followers {
            if next_of.insert(&segment.previous, segment).is_some() {
                self.problems.push(format!("{}: another file follows the same line", segment.path));
            }
        }
        self.first = heads.first().map_or(0, |segment| segment.first);
        for (index, head) in heads.into_iter().enumerate() {
            if index != 0 {
                self.problems.push(format!(
                    "{}: line {} does not follow line {}: lines between them are missing, or a new chain begins",
                    head.path, head.first, self.end.number
                ));
            }
            let mut next = Some(head);
            while let Some(segment) = next {
                self.end = segment.end.clone();
                next = next_of.remove(&*segment.end.hash);
            }
        }
        for segment in next_of.into_values() {
            self.problems
                .push(format!("{}: its lines follow each other in a circle", segment.path));
        }
    }
}

impl Segment {
    fn read(path: &Path, known: Option<(u64, &str)>) -> io::Result<Self> {
        let mut segment = Self { path: printable::path(path), ..Self::default() };
        let mut reader = BufReader::new(File::open(path)?);
        let mut bytes = Vec::new();
        for number in 1_u64.. {
            bytes.clear();
            if reader.read_until(b'\n', &mut bytes)? == 0 {
                break;
            }
            let text = str::from_utf8(&bytes).unwrap_or_default();
            if let Err(reason) = segment.add(text, number) {
                segment.note(number, reason);
            }
            segment.has_known |= known == Some((segment.end.number, &segment.end.hash));
        }
        Ok(segment)
    }

    fn add(&mut self, text: &str, place: u64) -> Result<(), &'static str> {
        let Some(text) = text.strip_suffix('\n') else {
            return Err("the line is incomplete");
        };
        let Some(line) = AuditLine::parse(text) else {
            if self.lines == 0 {
                self.unchained += 1;
                return Ok(());
            }
            return Err("the line has no hash");
        };
        if line.is_erased() {
            self.erased.push((line.number, place));
        }
        self.recorded.extend(erased_lines(line.head).unwrap_or_default());
        let is_first = self.lines == 0;
        if is_first {
            let Some(previous) = line.previous else {
                self.begin(&line);
                return Err("the first line of the file is missing");
            };
            previous.clone_into(&mut self.previous);
            previous.clone_into(&mut self.end.hash);
            self.first = line.number;
            self.end.number = line.number.saturating_sub(1);
        }
        let follows = line.follows(&self.end.hash) && line.number == self.end.number + 1;
        self.lines += 1;
        self.end = line.end();
        if follows { Ok(()) } else { Err("the line was changed, or lines before it were removed") }
    }

    /// Goes on from a line whose predecessor is unknown.
    fn begin(&mut self, line: &AuditLine<'_>) {
        self.lines += 1;
        self.first = line.number;
        self.end = line.end();
    }

    /// Reports the lines whose subject was removed without a record of it.
    fn find_removed(&mut self, recorded: &[RangeInclusive<u64>]) {
        let is_recorded = |number: u64| {
            let after = recorded.partition_point(|range| *range.start() <= number);
            after.checked_sub(1).is_some_and(|last| recorded[last].contains(&number))
        };
        let removed = self.erased.iter().filter(|(number, _)| !is_recorded(*number));
        for place in removed.map(|(_, place)| *place).collect::<Vec<_>>() {
            self.note(place, "its caller was removed, and no line records its erasure");
        }
    }

    fn note(&mut self, line: u64, reason: &str) {
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(format!("{}:{line}: {reason}", self.path));
        }
    }
}

/// Ranges in order, none of which overlaps another.
fn merged(ranges: impl Iterator<Item = RangeInclusive<u64>>) -> Vec<RangeInclusive<u64>> {
    let mut sorted: Vec<_> = ranges.collect();
    sorted.sort_by_key(|range| *range.start());
    let mut merged: Vec<RangeInclusive<u64>> = Vec::new();
    for range in sorted {
        match merged.last_mut().filter(|last| range.start() <= last.end()) {
            Some(last) => *last = *last.start()..=*last.end().max(range.end()),
            None => merged.push(range),
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::clock::Timestamp;
    use crate::observe::audit::erasure::erasures;
    use crate::observe::audit::line::Content;

    /// Three files of three lines each.
    fn files() -> Vec<String> {
        let mut end = ChainEnd::default();
        let content = Content {
            head: "\"what\":\"put\"".to_owned(),
            subject: Some("\"caller\":\"a\"".to_owned()),
        };
        let mut file = || (0..3).map(|line| end.push(&content, line == 0)).collect();
        [file(), file(), file()].into()
    }

    fn verified(files: &[String]) -> Verified {
        let folder = tempfile::tempdir().unwrap();
        let path = |(index, text): (usize, &String)| {
            let path = folder.path().join(index.to_string());
            fs::write(&path, text).unwrap();
            path
        };
        let paths: Vec<PathBuf> = files.iter().enumerate().map(path).collect();
        verify(&paths, None).unwrap()
    }

    #[test]
    fn files_in_any_order_are_one_chain() {
        let [one, two, three] = files().try_into().unwrap();
        for files in [[&one, &two, &three], [&three, &two, &one], [&two, &three, &one]] {
            let verified = verified(&files.map(String::clone));
            assert_eq!(verified.problems, [""; 0]);
            assert_eq!((verified.lines, verified.first, verified.end.number), (9, 1, 9));
        }
        let later = verified(&[three, two]);
        assert_eq!((later.problems.len(), later.first, later.end.number), (0, 4, 9));
    }

    #[test]
    fn what_is_missing_or_changed_is_told() {
        let [one, two, three] = files().try_into().unwrap();
        let check = |files: &[&String], reported: &[&str]| {
            let files: Vec<String> = files.iter().map(|file| (*file).clone()).collect();
            let problems = verified(&files).problems;
            assert_eq!(problems.len(), reported.len(), "{problems:?}");
            for (problem, reported) in problems.iter().zip(reported) {
                assert!(problem.contains(reported), "{problem}: {reported}");
            }
        };
        check(&[&one, &three], &["line 7 does not follow line 3"]);
        let changed = two.replacen("put", "get", 1);
        check(&[&one, &changed, &three], &[":1: the line was changed"]);
        let lines: Vec<&str> = two.split_inclusive('\n').collect();
        let without = |index: usize| [&lines[..index], &lines[index + 1..]].concat().concat();
        check(&[&one, &without(1), &three], &[":2: the line was changed, or lines before it were"]);
        check(
            &[&one, &without(0), &three],
            &[":1: the first line of the file is missing", "does not follow"],
        );
        check(&[&one, &without(2), &three], &["line 7 does not follow line 5"]);
        check(
            &[&one, &two.trim_end().to_owned(), &three],
            &[":3: the line is incomplete", "does not follow"],
        );
        check(&[&one, &format!("{two}{{}}\n"), &three], &[":4: the line has no hash"]);
        check(&[&one, &one], &["another file has the same lines"]);
        check(&[&one, &two, &one, &three], &["another file has the same lines"]);
        let new = files()[0].clone();
        assert_eq!(new, one, "without time and nonce, two chains begin in the same way");
        check(&[&"{}\n".to_owned(), &one], &[]);
    }

    #[test]
    fn a_caller_that_was_removed_is_told_apart_from_one_that_was_erased() {
        let [one, two, _] = files().try_into().unwrap();
        let stripped = |file: &str, index: usize| {
            let mut lines: Vec<String> = file.lines().map(str::to_owned).collect();
            lines[index] = AuditLine::parse(&lines[index]).unwrap().erased();
            lines.iter().map(|line| format!("{line}\n")).collect::<String>()
        };
        let end = AuditLine::parse(two.lines().last().unwrap()).unwrap().end();
        let record = |numbers: &[u64]| {
            let numbers = numbers.iter().copied().collect();
            let contents = erasures(Timestamp::from_ms(0), &numbers);
            let mut end = end.clone();
            contents.iter().map(|content| end.push(content, true)).collect::<String>()
        };
        let check = |numbers: &[u64], expected: &[&str]| {
            let found = verified(&[record(numbers), stripped(&two, 1), stripped(&one, 0)]);
            assert_eq!(found.erased, 2);
            let problems: Vec<&str> =
                found.problems.iter().map(|problem| problem.rsplit_once('/').unwrap().1).collect();
            assert_eq!(problems, expected, "{numbers:?}");
        };
        let removed = "its caller was removed, and no line records its erasure";
        check(&[1, 2, 3, 5], &[]);
        check(&[5, 1], &[]);
        check(&[1], &[&format!("1:2: {removed}")]);
        check(&[2, 3, 4], &[&format!("1:2: {removed}"), &format!("2:1: {removed}")]);
    }
}
