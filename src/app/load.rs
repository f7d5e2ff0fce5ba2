//! Makes a policy set of the files, or tells why it can't.

use sha2::Digest;
use sha2::Sha256;

use super::policy_files::PolicyFiles;
use super::policy_files::PolicyFilesError;
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

    /// Reads, watches the places that were found, and reads again if they are others than before: a
    /// change between the reading and the watching would go unnoticed.
    fn read(&mut self) -> Result<Vec<Source>, PolicyFilesError> {
        self.watch.renew();
        let mut reading = self.files.read();
        for _ in 1..READINGS_MAX {
            if self.watch.arm(&reading.places) {
                break;
            }
            reading = self.files.read();
        }
        reading.sources
    }
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
