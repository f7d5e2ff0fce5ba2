//! The audit log: a line of JSON for each change of a caller, with its author, time, and values before and after.
//!
//! The line is written before the change is made, so that no change goes without one; a change that then
//! fails gets a second line, with the reason in `failed`. The file is opened for each line: whoever
//! rotates it need not tell us.

use std::fs::{File, OpenOptions};
use std::io;
use std::io::Write;
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::Serialize;
use tokio::task::spawn_blocking;

use crate::clock::Timestamp;
use crate::policy::CallerForm;

/// The target of lines in the process's log, which are there at every level.
pub const TARGET: &str = "audit";

/// The owner may read and write the file, the group read it.
const MODE: u32 = 0o640;

/// Where the lines go.
#[derive(Clone, Debug, Default)]
pub enum Audit {
    /// To the process's log.
    #[default]
    Log,
    /// To the end of a file.
    File(PathBuf),
}

/// A change of a caller.
#[derive(Clone, Debug, Serialize)]
pub struct Entry {
    /// RFC 3339.
    pub at: String,
    /// A token's name, or what stands for the lack of tokens.
    pub who: String,
    pub peer: Option<IpAddr>,
    /// A word for the operation.
    pub what: &'static str,
    pub caller: String,
    pub before: Option<CallerForm>,
    pub after: Option<CallerForm>,
    /// Of a change of quotas: the hits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hits: Option<u64>,
    /// Why the change that the line before tells of was not made, or is not known to be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
}

impl Audit {
    /// The audit log at `path`, or in the process's log.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn open(path: Option<&Path>) -> io::Result<Self> {
        let Some(path) = path else { return Ok(Self::Log) };
        open(path)?;
        Ok(Self::File(path.to_owned()))
    }

    /// Writes a line; when this is done it is written.
    ///
    /// # Errors
    /// When it can't be.
    pub async fn write(&self, entry: &Entry) -> io::Result<()> {
        let mut line = serde_json::to_string(entry)?;
        match self {
            Self::Log => tracing::info!(target: TARGET, "audit {line}"),
            Self::File(path) => {
                let path = path.clone();
                line.push('\n');
                // In one piece, so that lines of several processes don't mix.
                let write = move || open(&path)?.write_all(line.as_bytes());
                spawn_blocking(write).await.map_err(io::Error::other)??;
            }
        }
        Ok(())
    }
}

/// An instant as RFC 3339 has it.
pub fn instant(at: Timestamp) -> String {
    let ms = i64::try_from(at.as_ms()).unwrap_or(i64::MAX);
    jiff::Timestamp::from_millisecond(ms).unwrap_or(jiff::Timestamp::MAX).to_string()
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(MODE).open(path)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn entry(caller: &str) -> Entry {
        Entry {
            at: instant(Timestamp::from_ms(1_500)),
            who: "ops".to_owned(),
            peer: Some(IpAddr::from([127, 0, 0, 1])),
            what: "put",
            caller: caller.to_owned(),
            before: None,
            after: Some(CallerForm { tier: Some("premium".to_owned()), ..CallerForm::default() }),
            hits: None,
            failed: None,
        }
    }

    #[tokio::test]
    async fn each_change_is_a_line_at_the_end_of_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        let audit = Audit::open(Some(&path)).unwrap();
        audit.write(&entry("a")).await.unwrap();
        fs::rename(&path, folder.path().join("rotated")).unwrap();
        audit.write(&entry("b\n")).await.unwrap();
        let line = fs::read_to_string(path).unwrap();
        let expected = r#"{"at":"1970-01-01T00:00:01.5Z","who":"ops","peer":"127.0.0.1","what":"put","caller":"b\n","before":null,"after":{"tier":"premium"}}"#;
        assert_eq!(line, format!("{expected}\n"));
    }

    #[tokio::test]
    async fn a_file_that_can_not_be_written_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let below = folder.path().join("gone");
        assert!(Audit::open(Some(&below.join("audit"))).is_err());
        fs::create_dir(&below).unwrap();
        let audit = Audit::open(Some(&below.join("audit"))).unwrap();
        fs::remove_dir_all(&below).unwrap();
        assert!(audit.write(&entry("a")).await.is_err());
    }
}
