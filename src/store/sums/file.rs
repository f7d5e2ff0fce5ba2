//! Sums in a database file of one process, without Redis.
//!
//! The batches of a round are one transaction, which is synced to the disk. So a crash loses the data after the last
//! round, and never half of a round. Of a large round, callers are moved to their places after it, in parts; a crash
//! leaves the others to the next start. After an error the file is closed, and opened again with growing pauses. Meanwhile
//! the round waits in memory.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use redb::Database;
use tokio::task::spawn_blocking;

use super::answer::read;
use super::tables::{TABLES, add_waiting, erase};
use super::write::write;
use super::{
    SumsAdded, SumsBatch, SumsEntry, SumsError, SumsPeriod, SumsQuestion, SumsReader, SumsTable,
};
use crate::clock::{Backoff, Timestamp};
use crate::lock::lock;
use crate::metrics::DataFileMetrics;
use crate::store::StoreError;
use crate::store::database_file::{self, Failure, Preparation, close, guarded};

/// The pauses before the file is opened again.
const PAUSE_FIRST: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// Sums in a file.
#[derive(Clone, Debug)]
pub struct FileSums {
    path: Arc<Path>,
    metrics: DataFileMetrics,
    file: Arc<Mutex<OpenFile>>,
    /// Held during disk writes, so it is separate from `file`, which queries lock.
    writer: Arc<Mutex<Writer>>,
}

/// The database, if it is open.
#[derive(Debug)]
struct OpenFile {
    /// If it is closed, the reason.
    database: Result<Arc<Database>, String>,
    /// The last error may mean that the file is damaged.
    is_suspect: bool,
}

/// The data on its way to the file.
#[derive(Debug, Default)]
struct Writer {
    /// The batches of a round, except the last one.
    round: Vec<SumsBatch>,
    /// The last batch that is certainly in the file.
    committed: u64,
    /// The last batch whose transaction failed; it may be in the file.
    uncertain: Option<u64>,
    /// The file has no data of a day that began earlier.
    is_new: bool,
    /// The last day of this process's batches. Unused space is released at the start and on each later day.
    day: Option<u64>,
    /// Failures since the last success.
    failures: u32,
    retry_at: Option<Timestamp>,
}

impl FileSums {
    /// Opens or creates the file. A failure is logged, and [`FileSums::reopen`] retries.
    pub fn open(path: PathBuf, metrics: DataFileMetrics, now: Timestamp) -> Self {
        let file = OpenFile { database: Err("not opened yet".to_owned()), is_suspect: false };
        let sums = Self {
            path: path.into(),
            metrics,
            file: Arc::new(Mutex::new(file)),
            writer: Arc::default(),
        };
        sums.try_open(&mut lock(&sums.writer), Preparation::Compaction, now);
        sums
    }

    /// The reason that the file is unavailable.
    pub fn unavailable(&self) -> Option<String> {
        lock(&self.file).database.as_ref().err().cloned()
    }

    /// Opens the file again if it is closed and the pause is over. It blocks on the disk.
    pub fn reopen(&self, now: Timestamp) {
        let mut writer = lock(&self.writer);
        let is_suspect = match &*lock(&self.file) {
            OpenFile { database: Ok(_), .. } => return,
            OpenFile { is_suspect, .. } => *is_suspect,
        };
        // If the clock was set back, the pause does not become longer.
        let is_over = |at: Timestamp| at <= now || PAUSE_MAX < at.since(now);
        match writer.retry_at {
            None => writer.pause(now),
            Some(at) if is_over(at) => {
                let preparation =
                    if is_suspect { Preparation::Verification } else { Preparation::None };
                self.try_open(&mut writer, preparation, now);
            }
            Some(_) => {}
        }
    }

    /// Adds a batch, unless it was added before. It blocks on the disk, so call it where no request waits.
    ///
    /// # Errors
    /// If the file can't be written.
    pub fn add(&self, batch: &SumsBatch) -> Result<SumsAdded, StoreError> {
        let mut writer = lock(&self.writer);
        let waiting = writer.round.last().map_or(0, |last| last.number);
        if batch.number <= waiting.max(writer.committed) {
            return Ok(SumsAdded::Before);
        }
        if !batch.is_last {
            writer.round.push(batch.clone());
            return Ok(writer.added(batch));
        }
        let database = self.database()?;
        let is_uncertain = writer.uncertain == Some(batch.number);
        match guarded(|| write(&database, &writer.round, batch, is_uncertain)) {
            Ok(()) => {
                writer.committed = batch.number;
                let is_new_day = writer.begins_day(batch);
                writer.round.clear();
                writer.failures = 0;
                self.metrics.writes.inc();
                if is_new_day {
                    self.compact(database);
                }
                Ok(writer.added(batch))
            }
            Err(failure) => {
                writer.uncertain = Some(batch.number);
                Err(self.close(database, &failure))
            }
        }
    }

    /// Gives a reader the answer to a question, and returns it.
    ///
    /// # Errors
    /// If the file can't be read, or the answer is too large.
    pub async fn ask<R: SumsReader>(
        &self,
        question: &SumsQuestion,
        mut reader: R,
    ) -> Result<R, SumsError> {
        let (sums, question) = (self.clone(), question.clone());
        let answered = spawn_blocking(move || {
            let database = sums.database()?;
            let answered = guarded(|| read(&database, &question, &mut reader));
            answered.map_err(|failure| sums.close(database, &failure))?.map(|()| reader)
        });
        answered.await.map_err(|error| StoreError::Refused(error.to_string()))?
    }

    /// Removes a caller from periods, and returns the number of its sums there.
    ///
    /// # Errors
    /// If the file can't be written.
    pub async fn erase(&self, periods: &[SumsPeriod], caller: &str) -> Result<u64, StoreError> {
        let (sums, periods, caller) = (self.clone(), periods.to_vec(), caller.to_owned());
        let erased = spawn_blocking(move || {
            let mut writer = lock(&sums.writer);
            for batch in &mut writer.round {
                let is_of =
                    |one: &SumsEntry| one.table == SumsTable::Callers && one.field == caller;
                batch.entries.retain(|entry| !is_of(entry));
            }
            let database = sums.database()?;
            guarded(|| erase(&database, &periods, &caller))
                .map_err(|failure| sums.close(database, &failure))
        });
        erased.await.map_err(|error| StoreError::Refused(error.to_string()))?
    }

    /// Releases unused space, which takes seconds, unless a query reads the database now. Meanwhile queries are told why they
    /// have to wait.
    fn compact(&self, ours: Arc<Database>) {
        drop(ours);
        let closed = Err(format!("{}: unused space is being released", self.path.display()));
        let mut file = lock(&self.file);
        let mut database = match std::mem::replace(&mut file.database, closed).map(Arc::try_unwrap)
        {
            Ok(Ok(database)) => database,
            Ok(Err(shared)) => {
                file.database = Ok(shared);
                return;
            }
            // A query has closed it since the round was written.
            Err(reason) => {
                file.database = Err(reason);
                return;
            }
        };
        drop(file);
        let compacted = guarded(|| Ok(database.compact()?));
        let database = Arc::new(database);
        lock(&self.file).database = Ok(database.clone());
        if let Err(failure) = compacted {
            // There may be no space for it, which is no damage.
            match failure {
                Failure::Damaged(_) => drop(self.close(database, &failure)),
                other => {
                    let reason = other.to_string();
                    tracing::warn!(reason, "unused space of the usage file can't be released");
                }
            }
        }
    }

    fn database(&self) -> Result<Arc<Database>, StoreError> {
        lock(&self.file).database.clone().map_err(StoreError::Refused)
    }

    /// Closes the database after a failure, unless it was closed before.
    fn close(&self, failed: Arc<Database>, failure: &Failure) -> StoreError {
        let reason = format!("{}: {failure}", self.path.display());
        let mut file = lock(&self.file);
        if let Ok(database) = &file.database
            && Arc::ptr_eq(database, &failed)
        {
            close(std::mem::replace(&mut file.database, Err(reason.clone())));
            file.is_suspect |= matches!(failure, Failure::Damaged(_));
            self.metrics.unavailable.set(1);
        }
        drop(file);
        close(failed);
        StoreError::Refused(reason)
    }

    fn try_open(&self, writer: &mut Writer, preparation: Preparation, now: Timestamp) {
        let path = self.path.display();
        let opened = database_file::open(&self.path, TABLES, preparation, now);
        // A crash may have left sums that wait.
        let opened = opened.and_then(|opened| match guarded(|| add_waiting(&opened.database)) {
            Ok(()) => Ok(opened),
            Err(failure) => {
                close(opened);
                Err(failure)
            }
        });
        match opened {
            Ok(opened) => {
                if let Some((renamed, reason)) = &opened.set_aside {
                    self.metrics.damaged.inc();
                    let renamed = renamed.display();
                    tracing::error!(%path, %renamed, reason, "the usage file is damaged; it was renamed, and a new one begins");
                }
                if writer.failures != 0 {
                    tracing::info!(%path, "the usage file is open again");
                }
                writer.is_new |= opened.is_new;
                writer.retry_at = None;
                let database = Ok(Arc::new(opened.database));
                *lock(&self.file) = OpenFile { database, is_suspect: false };
                self.metrics.unavailable.set(0);
            }
            Err(failure) => {
                let reason = format!("{path}: {failure}");
                if self.unavailable().as_ref() != Some(&reason) {
                    tracing::error!(
                        reason,
                        "the usage file can't be opened; usage is kept in memory until it can"
                    );
                }
                let mut file = lock(&self.file);
                file.database = Err(reason);
                file.is_suspect |= matches!(failure, Failure::Damaged(_));
                drop(file);
                self.metrics.unavailable.set(1);
                writer.pause(now);
            }
        }
    }
}

impl Writer {
    /// Starts the pause before the next attempt.
    fn pause(&mut self, now: Timestamp) {
        let pause = Backoff::new(PAUSE_FIRST, PAUSE_MAX).pause(self.failures);
        self.failures = self.failures.saturating_add(1);
        self.retry_at = Some(now.after(pause));
    }

    /// Whether the round with this last batch is the first one of a day, except the first day of the process.
    fn begins_day(&mut self, last: &SumsBatch) -> bool {
        let days = self.round.iter().chain([last]).filter(|batch| batch.period.kind == 'd');
        let before = self.day;
        self.day = self.day.max(days.map(|batch| batch.period.number).max());
        before.is_some() && before < self.day
    }

    /// The result of a batch. If the file was lost, its days start again, which the first batch of a day detects.
    fn added(&mut self, batch: &SumsBatch) -> SumsAdded {
        let is_new = self.is_new;
        self.is_new &= batch.period.kind != 'd';
        if is_new { SumsAdded::First } else { SumsAdded::Later }
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    #[test]
    fn a_file_that_a_query_closed_before_its_space_is_released_keeps_the_reason() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("usage.redb");
        let sums = FileSums::open(path, DataFileMetrics::default(), Timestamp::default());
        let (written, asked) = (sums.database().unwrap(), sums.database().unwrap());
        drop(sums.close(asked, &Failure::Unavailable("no such device".to_owned())));
        sums.compact(written);
        let reason = sums.unavailable().unwrap();
        assert!(reason.ends_with("usage.redb: no such device"), "{reason}");
    }
}
