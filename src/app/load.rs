//! Makes a policy set of the files, or tells why it can't.

use sha2::Digest;
use sha2::Sha256;

use super::policy_files::Places;
use super::policy_files::PolicyFiles;
use super::policy_files::PolicyFilesError;
use super::policy_files::Reading;
use super::watch::Watch;
use crate::policy::CompileOptions;
use crate::policy::PolicySet;
use crate::policy::Problem;
use crate::policy::Source;
use crate::policy::compile;

/// Readings in a row that find new places to watch. Each but the first costs a change meanwhile.
const READINGS_MAX: usize = 3;

/// Reads and compiles the policy files.
#[derive(Debug)]
pub struct Loader {
    files: PolicyFiles,
    options: CompileOptions,
    watch: Watch,
    /// What was read last, in force or refused.
    seen: Option<Fingerprint>,
}

/// The texts that were read, or why they couldn't be.
#[derive(Debug, PartialEq, Eq)]
enum Fingerprint {
    Texts([u8; 32]),
    Error(String),
}

/// What loading came to.
#[derive(Debug)]
pub enum Loaded {
    /// A policy set that isn't in force yet.
    Policies(Box<PolicySet>),
    /// The files say what they said the last time.
    Unchanged,
}

/// Why there is no policy set.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("can't read the policies")]
    Files(#[from] PolicyFilesError),
    #[error("{} problems in the policies", problems.len())]
    Policies { problems: Vec<Problem>, sources: Vec<Source> },
}

impl Loader {
    /// Loads `files`, and has their places watched.
    pub fn new(files: PolicyFiles, options: CompileOptions, watch: Watch) -> Self {
        Self { files, options, watch, seen: None }
    }

    /// Loads what there is now, unless it is what was there the last time.
    ///
    /// # Errors
    /// When the files can't be read, or are no policies.
    pub fn load(&mut self) -> Result<Loaded, LoadError> {
        let sources = self.read();
        let fingerprint = Fingerprint::of(&sources);
        if self.seen.as_ref() == Some(&fingerprint) {
            return Ok(Loaded::Unchanged);
        }
        self.seen = Some(fingerprint);
        let sources = sources?;
        match compile(&sources, self.options) {
            Ok(policies) => Ok(Loaded::Policies(Box::new(policies))),
            Err(problems) => Err(LoadError::Policies { problems, sources }),
        }
    }

    /// Whether every change of the files is noticed.
    pub fn notices_changes(&self) -> bool {
        self.watch.is_complete()
    }

    fn read(&mut self) -> Result<Vec<Source>, PolicyFilesError> {
        self.watch.renew();
        settled(|| self.files.read(), |places| self.watch.arm(places)).sources
    }
}

/// Reads, watches the places that were found, and reads again if they are others than before: a change
/// between the reading and the watching would go unnoticed.
fn settled(mut read: impl FnMut() -> Reading, mut arm: impl FnMut(&Places) -> bool) -> Reading {
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
    fn of(sources: &Result<Vec<Source>, PolicyFilesError>) -> Self {
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
            Reading { sources: Ok(Vec::new()), places: Places::default() }
        };
        let arm = |_: &Places| {
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
