//! Reads and compiles a set of files; unchanged files are not compiled again.

use std::path::PathBuf;

use sha2::Digest;
use sha2::Sha256;

use super::source_files::Reading;
use super::source_files::SourceFiles;
use super::source_files::SourceFilesError;
use super::source_files::WatchTargets;
use super::subject::Subject;
use super::watch::Watch;
use crate::policy::Problem;
use crate::policy::Source;
use crate::printable;

/// Readings in a row that find new places to watch. Each but the first costs a change meanwhile.
const READINGS_MAX: usize = 3;

/// Reads and compiles the files of a subject.
#[derive(Debug)]
pub struct Loader<S> {
    files: SourceFiles,
    subject: S,
    watch: Watch,
    /// What was read last, in force or refused.
    seen: Option<Fingerprint>,
    /// Files that have been told of as passed over.
    skipped: Vec<PathBuf>,
}

/// The texts that were read, or why they couldn't be.
#[derive(Debug, PartialEq, Eq)]
enum Fingerprint {
    Texts([u8; 32]),
    Error(String),
}

/// What loading came to.
#[derive(Debug)]
pub enum Loaded<T> {
    /// What the files say, not in force yet.
    New(Box<T>),
    /// The files say what they said the last time.
    Unchanged,
}

/// Why nothing was made of the files.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("can't read the files")]
    Files(#[from] SourceFilesError),
    #[error("{} problems in the files", problems.len())]
    Problems { problems: Vec<Problem>, sources: Vec<Source> },
}

impl<S: Subject> Loader<S> {
    /// Loads `files`, and has their places watched.
    pub fn new(files: SourceFiles, subject: S, watch: Watch) -> Self {
        Self { files, subject, watch, seen: None, skipped: Vec::new() }
    }

    /// Loads what there is now, unless it is what was there the last time.
    ///
    /// # Errors
    /// When the files can't be read, or don't hold what they should.
    pub fn load(&mut self) -> Result<Loaded<S::Compiled>, LoadError> {
        let sources = self.read();
        let fingerprint = Fingerprint::of(&sources);
        if self.seen.as_ref() == Some(&fingerprint) {
            return Ok(Loaded::Unchanged);
        }
        self.seen = Some(fingerprint);
        let sources = sources?;
        match self.subject.compile(&sources) {
            Ok(compiled) => Ok(Loaded::New(Box::new(compiled))),
            Err(problems) => Err(LoadError::Problems { problems, sources }),
        }
    }

    /// What the files are about.
    pub fn subject(&self) -> &S {
        &self.subject
    }

    /// Whether every change of the files is noticed.
    pub fn notices_changes(&self) -> bool {
        self.watch.is_complete()
    }

    fn read(&mut self) -> Result<Vec<Source>, SourceFilesError> {
        self.watch.renew();
        let reading = settled(|| self.files.read(), |places| self.watch.arm(places));
        for path in reading.skipped.iter().filter(|path| !self.skipped.contains(path)) {
            let file = printable::path(path);
            tracing::warn!(%file, "a file is not read, because its name ends in neither .yaml nor .yml");
        }
        self.skipped = reading.skipped;
        reading.sources
    }
}

/// Reads, watches the places that were found, and reads again if they are others than before: a change
/// between the reading and the watching would go unnoticed.
fn settled(
    mut read: impl FnMut() -> Reading,
    mut arm: impl FnMut(&WatchTargets) -> bool,
) -> Reading {
    let mut reading = read();
    for _ in 1..READINGS_MAX {
        if !arm(&reading.places) {
            return reading;
        }
        reading = read();
    }
    arm(&reading.places);
    reading
}

impl Fingerprint {
    fn of(sources: &Result<Vec<Source>, SourceFilesError>) -> Self {
        let sources = match sources {
            Ok(sources) => sources,
            Err(error) => return Self::Error(error.to_string()),
        };
        let mut hash = Sha256::new();
        for part in sources.iter().flat_map(|source| [&source.path, &source.text]) {
            // With their lengths, so that no text can pass for the end of a path.
            hash.update(part.len().to_le_bytes());
            hash.update(part);
        }
        Self::Texts(hash.finalize().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How often the files are read and watched if so many readings in a row find new places.
    #[track_caller]
    fn check(moves: usize, expected: usize) {
        let (mut reads, mut arms) = (0, 0);
        let read = || {
            reads += 1;
            Reading {
                sources: Ok(Vec::new()),
                places: WatchTargets::default(),
                skipped: Vec::new(),
            }
        };
        let arm = |_: &WatchTargets| {
            arms += 1;
            arms <= moves
        };
        assert!(settled(read, arm).sources.is_ok());
        assert_eq!((reads, arms), (expected, expected), "{moves} moves");
    }

    #[test]
    fn new_places_are_read_again_once_they_are_watched() {
        check(0, 1);
        check(1, 2);
        check(2, 3);
        check(usize::MAX, READINGS_MAX);
    }
}
