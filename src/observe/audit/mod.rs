//! The audit log: a line of JSON for each change over the API and each reload of files, and for a share of the refused
//! requests.
//!
//! The line of a change over the API is written before the change, so that every change has a line. If the change then
//! fails, a second line has the reason in `failed`. Refusals are written behind the requests, and dropped if the destination is
//! too slow. Each line has a hash of the one before (`line.rs`), so a line that was
//! removed or changed shows.

mod entry;
mod erasure;
mod file;
mod line;
mod newest;
mod redaction;
mod stream;
mod verify;

use std::io::{self, Write};
use std::mem;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use tokio::sync::Notify;
use tokio::task::spawn_blocking;
use tokio::{pin, select};

use crate::engine::DecisionRecord;
use crate::lock::lock;
use crate::metrics::AuditMetrics;
use crate::store::redis::RedisAuditLog;

use entry::refusal;
use file::AuditFile;
use line::{ChainEnd, Content};
use newest::newest_lines;
use stream::AuditStream;

pub use super::instant::instant;
pub use entry::{Changed, ControlLine, Entry, GiftLine, HitsBefore, LimitBefore, LimitsBefore};
pub use file::Rotation;
pub use redaction::Redaction;
pub use verify::{Verified, verify};

/// The target of audit lines in the process log, which are enabled at every level.
pub const TARGET: &str = "audit";

/// Maximum number of refusals that wait to be written, some 600 bytes each.
const PENDING_MAX: usize = 10_000;

/// The destination of the lines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Destination {
    /// The process log.
    #[default]
    Log,
    /// The standard output.
    Stdout,
    File(PathBuf),
    /// A stream in the Redis that keeps the counters.
    Redis,
}

/// The settings of the log.
#[derive(Debug)]
pub struct AuditOptions {
    pub destination: Destination,
    pub rotation: Rotation,
    /// The stream of the log, if there is a Redis.
    pub stream: Option<RedisAuditLog>,
    /// None: callers are shown by name.
    pub redaction: Option<Redaction>,
    pub metrics: AuditMetrics,
}

/// The audit log.
#[derive(Clone, Debug, Default)]
pub struct Audit(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    output: Mutex<Output>,
    /// In place of `output`.
    stream: Option<AuditStream>,
    redaction: Option<Redaction>,
    metrics: AuditMetrics,
    /// Lines of refusals that wait to be written.
    pending: Mutex<Vec<Content>>,
    has_pending: Notify,
    is_failing: AtomicBool,
}

/// An open destination. All but a file begin a new chain with each process.
#[derive(Debug)]
enum Output {
    Log(Option<ChainEnd>),
    Stdout(Option<ChainEnd>),
    File(AuditFile),
}

impl Default for Output {
    fn default() -> Self {
        Self::Log(None)
    }
}

impl Audit {
    /// The audit log of these settings.
    ///
    /// # Errors
    /// If the file can't be written, or there is no Redis for the stream.
    pub fn open(options: AuditOptions) -> io::Result<Self> {
        let AuditOptions { destination, rotation, stream, redaction, metrics } = options;
        let (output, stream) = match destination {
            Destination::Log => (Output::Log(None), None),
            Destination::Stdout => (Output::Stdout(None), None),
            Destination::File(path) => (Output::File(AuditFile::open(&path, rotation)?), None),
            Destination::Redis => match stream {
                Some(log) => (Output::default(), Some(AuditStream::new(log))),
                None => return Err(io::Error::other("it is in Redis, but redis_url is not set")),
            },
        };
        let output = Mutex::new(output);
        Ok(Self(Arc::new(Shared { output, stream, redaction, metrics, ..Shared::default() })))
    }

    /// Whether its lines are in the process log.
    pub fn is_in_log(&self) -> bool {
        self.0.stream.is_none() && matches!(*lock(&self.0.output), Output::Log(_))
    }

    /// Writes the line of a change; it is written when this returns.
    ///
    /// # Errors
    /// If the write fails.
    pub async fn write(&self, entry: &Entry) -> io::Result<()> {
        self.write_all(vec![entry.content(self.0.redaction.as_ref())]).await
    }

    async fn write_all(&self, contents: Vec<Content>) -> io::Result<()> {
        let (shared, len) = (self.0.clone(), contents.len());
        match &self.0.stream {
            Some(stream) => stream.append(&contents).await?,
            None => {
                let write = move || lock(&shared.output).write(&contents);
                spawn_blocking(write).await.map_err(io::Error::other)??;
            }
        }
        self.0.metrics.lines.inc_by(count(len));
        Ok(())
    }

    /// The newest lines, the newest first; None if they are in the log of the process or on the standard output.
    ///
    /// # Errors
    /// If they can't be read.
    pub async fn newest(&self, max: usize) -> io::Result<Option<Vec<String>>> {
        if let Some(stream) = &self.0.stream {
            return stream.newest(max).await.map(Some);
        }
        let shared = self.0.clone();
        let read = move || {
            let path = match &*lock(&shared.output) {
                Output::File(file) => file.path().to_owned(),
                Output::Log(_) | Output::Stdout(_) => return Ok(None),
            };
            newest_lines(&path, max).map(Some)
        };
        spawn_blocking(read).await.map_err(io::Error::other)?
    }

    /// How callers are redacted in the log, if they are.
    pub fn redaction(&self) -> Option<&Redaction> {
        self.0.redaction.as_ref()
    }

    /// Whether lines that are written can be changed: those in the process log and on the standard output can't.
    pub fn is_erasable(&self) -> bool {
        self.0.stream.is_some() || matches!(*lock(&self.0.output), Output::File(_))
    }

    /// Takes the refusals in the sample, to be written soon. It never waits: refusals that find no room are dropped,
    /// which is counted.
    pub fn offer(&self, records: &[DecisionRecord]) {
        let redaction = self.0.redaction.as_ref();
        let contents: Vec<Content> =
            records.iter().filter_map(|record| refusal(record, redaction)).collect();
        if contents.is_empty() {
            return;
        }
        let mut pending = lock(&self.0.pending);
        let free = PENDING_MAX.saturating_sub(pending.len());
        self.0.metrics.dropped.inc_by(count(contents.len().saturating_sub(free)));
        pending.extend(contents.into_iter().take(free));
        drop(pending);
        self.0.has_pending.notify_one();
    }

    /// Writes the refusals until `shutdown`, and then the remaining ones.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        pin!(shutdown);
        loop {
            select! {
                biased;
                () = &mut shutdown => break,
                () = self.0.has_pending.notified() => self.flush().await,
            }
        }
        self.flush().await;
    }

    /// Writes what is pending. What can't be written is dropped.
    pub async fn flush(&self) {
        let contents = mem::take(&mut *lock(&self.0.pending));
        if contents.is_empty() {
            return;
        }
        let len = contents.len();
        let is_failing = &self.0.is_failing;
        match self.write_all(contents).await {
            Ok(()) if is_failing.swap(false, Ordering::Relaxed) => {
                tracing::info!("refusals are written to the audit log again");
            }
            Ok(()) => {}
            Err(error) => {
                self.0.metrics.dropped.inc_by(count(len));
                if !is_failing.swap(true, Ordering::Relaxed) {
                    tracing::error!(%error, "writing refusals to the audit log failed; they are dropped");
                }
            }
        }
    }
}

impl Output {
    /// It blocks on the disk.
    fn write(&mut self, contents: &[Content]) -> io::Result<()> {
        match self {
            Self::File(file) => file.append(contents),
            Self::Log(end) => {
                for line in lines(end, contents) {
                    tracing::info!(target: TARGET, "audit {}", line.trim_end());
                }
                Ok(())
            }
            Self::Stdout(end) => {
                let text: String = lines(end, contents).collect();
                let mut stdout = io::stdout().lock();
                stdout.write_all(text.as_bytes())?;
                stdout.flush()
            }
        }
    }
}

fn count(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}

/// The next lines of a chain.
fn lines<'c>(
    end: &'c mut Option<ChainEnd>,
    contents: &'c [Content],
) -> impl Iterator<Item = String> + use<'c> {
    contents.iter().map(|content| {
        let is_first = end.is_none();
        end.get_or_insert_default().push(content, is_first)
    })
}

/// The destination in a setting: `stdout`, `redis`, or the path of a file.
pub fn destination(text: &str) -> Option<Destination> {
    match text {
        "" => None,
        "stdout" => Some(Destination::Stdout),
        "redis" => Some(Destination::Redis),
        path => Some(Destination::File(Path::new(path).to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::net::IpAddr;

    use super::*;
    use crate::clock::Timestamp;
    use crate::policy::CallerForm;

    fn entry(caller: &str) -> Entry {
        Entry {
            at: Timestamp::from_ms(1_500),
            who: "ops".to_owned(),
            peer: Some(IpAddr::from([127, 0, 0, 1])),
            what: "put",
            change: Changed::Record {
                caller: caller.to_owned(),
                before: None,
                after: Some(Box::new(CallerForm {
                    tier: Some("premium".to_owned()),
                    ..CallerForm::default()
                })),
            },
            failed: None,
        }
    }

    fn open(path: &Path) -> io::Result<Audit> {
        Audit::open(AuditOptions {
            destination: Destination::File(path.to_owned()),
            rotation: Rotation { size_max: None, files_max: 1 },
            stream: None,
            redaction: None,
            metrics: AuditMetrics::default(),
        })
    }

    #[tokio::test]
    async fn each_change_is_a_line_at_the_end_of_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        let audit = open(&path).unwrap();
        audit.write(&entry("a")).await.unwrap();
        fs::rename(&path, folder.path().join("rotated")).unwrap();
        audit.write(&entry("b\n")).await.unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        let reported = ["seq", "at", "who", "peer", "what", "caller", "before", "after"]
            .map(|name| line[name].to_string());
        let after = r#"{"tier":"premium"}"#;
        let at = r#""1970-01-01T00:00:01.5Z""#;
        let expected =
            ["2", at, r#""ops""#, r#""127.0.0.1""#, r#""put""#, r#""b\n""#, "null", after];
        assert_eq!(reported, expected);
        assert_eq!(text.lines().count(), 1);
        let verified = verify(&[path, folder.path().join("rotated")], None).unwrap();
        assert_eq!((verified.lines, verified.problems.len()), (2, 0));
    }

    #[tokio::test]
    async fn a_file_that_can_not_be_written_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let below = folder.path().join("gone");
        assert!(open(&below.join("audit")).is_err());
        fs::create_dir(&below).unwrap();
        let audit = open(&below.join("audit")).unwrap();
        fs::remove_dir_all(&below).unwrap();
        assert!(audit.write(&entry("a")).await.is_err());
    }

    #[tokio::test]
    async fn with_a_salt_no_name_is_in_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let (path, salt) = (folder.path().join("audit.jsonl"), folder.path().join("salt"));
        fs::write(&salt, "short").unwrap();
        assert!(Redaction::read(&salt).is_err());
        fs::write(&salt, "a salt that is long enough\n").unwrap();
        let redaction = Some(Redaction::read(&salt).unwrap());
        let audit = Audit::open(AuditOptions {
            destination: Destination::File(path.clone()),
            rotation: Rotation { size_max: None, files_max: 1 },
            stream: None,
            redaction,
            metrics: AuditMetrics::default(),
        });
        let audit = audit.unwrap();
        for name in ["alice", "alice", "bob"] {
            audit.write(&entry(name)).await.unwrap();
        }
        let limits = LimitsBefore { domain: "shop".to_owned(), limits: Vec::new() };
        let (caller, reservation) = ("bob".to_owned(), Some("alice-7".to_owned()));
        let change = Changed::Quota { caller, hits: 1, limits, reservation };
        audit.write(&Entry { change, ..entry("") }).await.unwrap();
        let text = fs::read_to_string(path).unwrap();
        assert!(!text.contains("alice") && !text.contains("bob"), "{text}");
        let callers: Vec<String> = text
            .lines()
            .map(|line| {
                serde_json::from_str::<serde_json::Value>(line).unwrap()["caller"].to_string()
            })
            .collect();
        assert!(callers[0] == callers[1] && callers[1] != callers[2], "{callers:?}");
    }
}
