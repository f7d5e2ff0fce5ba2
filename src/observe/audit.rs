//! The audit log: a line of JSON for each change of a caller, with its author, time, and the values before and after.
//!
//! The line is written before the change, so that every change has a line. If the change then fails, a second line has
//! the reason in `failed`. The file is opened for each line, so rotation needs no signal.

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

/// The target of audit lines in the process log, which are enabled at every level.
pub const TARGET: &str = "audit";

/// The owner may read and write the file; the group may read it.
const MODE: u32 = 0o640;

/// The destination of the lines.
#[derive(Clone, Debug, Default)]
pub enum Audit {
    /// The process log.
    #[default]
    Log,
    /// The end of a file.
    File(PathBuf),
}

/// A change of a caller.
#[derive(Clone, Debug, Serialize)]
pub struct Entry {
    /// RFC 3339.
    pub at: String,
    /// The name of a token, or a fixed name if no token is needed.
    pub who: String,
    pub peer: Option<IpAddr>,
    /// The operation, in one or two words.
    pub what: &'static str,
    pub caller: String,
    pub before: Option<CallerForm>,
    pub after: Option<CallerForm>,
    /// For changes of quotas: the hits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hits: Option<u64>,
    /// The reason that the change of the previous line failed, or may have failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
}

impl Audit {
    /// The audit log in the file at `path`, or in the process log.
    ///
    /// # Errors
    /// If the file can't be written.
    pub fn open(path: Option<&Path>) -> io::Result<Self> {
        let Some(path) = path else { return Ok(Self::Log) };
        open(path)?;
        Ok(Self::File(path.to_owned()))
    }

    /// Writes a line; it is written when this returns.
    ///
    /// # Errors
    /// If the write fails.
    pub async fn write(&self, entry: &Entry) -> io::Result<()> {
        let mut line = serde_json::to_string(entry)?;
        match self {
            Self::Log => tracing::info!(target: TARGET, "audit {line}"),
            Self::File(path) => {
                let path = path.clone();
                line.push('\n');
                // In one write, so that lines of several processes don't mix.
                let write = move || open(&path)?.write_all(line.as_bytes());
                spawn_blocking(write).await.map_err(io::Error::other)??;
            }
        }
        Ok(())
    }
}

/// An instant in RFC 3339 format.
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
