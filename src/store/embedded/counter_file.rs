//! The embedded store's counters in a database file: those of lasting limits, and what is spent of bonuses, come back after a
//! restart.
//!
//! Changed records are written in one transaction, which is synced to the disk, so a crash loses what was decided since the
//! last one, and never half of a record. After an error the file is closed, and opened again with growing pauses; then all
//! records are written, and those that the process had before count on in memory meanwhile.

use std::path::PathBuf;
use std::time::Duration;

use redb::{
    Database, ReadableDatabase, ReadableTable, Table, TableDefinition, TableError, WriteTransaction,
};

use super::limit_code::Limits;
use super::memory::Memory;
use super::persistence::RecordSink;
use super::record_code::decode;
use crate::clock::{Backoff, Timestamp};
use crate::metrics::DataFileMetrics;
use crate::policy::Key;
use crate::store::database_file::{self, Failure, Opened, Preparation, Tables, close, guarded};

/// Records by key.
const RECORDS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("records");

/// Changes of providers for a while, by field. Files of earlier versions don't have it.
const CONTROLS: TableDefinition<'_, &str, &str> = TableDefinition::new("controls");

const TABLES: Tables = Tables {
    create: |transaction| Ok(transaction.open_table(RECORDS).map(drop)?),
    open: |transaction| transaction.open_table(RECORDS).map(drop),
};

/// The pauses before the file is opened again.
const PAUSE_FIRST: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// The file of one process's counters.
#[derive(Debug)]
pub struct CounterFile {
    path: PathBuf,
    metrics: DataFileMetrics,
    database: Option<Database>,
    /// The records of earlier processes are in memory.
    is_loaded: bool,
    /// The file may have other records than memory.
    is_stale: bool,
    /// The last error may mean that the file is damaged.
    is_suspect: bool,
    /// The last error, until the file is open again.
    error: Option<String>,
    /// Failures since the last success.
    failures: u32,
    retry_at: Option<Timestamp>,
}

/// What was found in a file.
#[derive(Debug, Default)]
struct Found {
    restored: u64,
    expired: u64,
    damaged: u64,
}

impl CounterFile {
    /// Opens or creates the file, and takes its records into `memory`. A failure is logged, and [`CounterFile::write`] retries.
    pub fn open(path: PathBuf, metrics: DataFileMetrics, memory: &Memory, now: Timestamp) -> Self {
        let mut file = Self {
            path,
            metrics,
            database: None,
            is_loaded: false,
            is_stale: false,
            is_suspect: false,
            error: None,
            failures: 0,
            retry_at: None,
        };
        file.try_open(memory, now);
        file
    }

    /// Writes what has changed in `memory`. It blocks on the disk, so call it where no request waits. False: the file can't be
    /// used now, and changes wait in memory.
    pub fn write(&mut self, memory: &Memory, now: Timestamp) -> bool {
        let Some(durability) = memory.durability() else { return true };
        let number = durability.begin();
        let is_written = self.try_write(memory, now);
        durability.end(number, is_written);
        is_written
    }

    fn try_write(&mut self, memory: &Memory, now: Timestamp) -> bool {
        self.reopen(memory, now);
        let Some(database) = &self.database else { return false };
        if !self.is_stale && !memory.has_changed() {
            return true;
        }
        match guarded(|| write(database, memory, self.is_stale)) {
            Ok(()) => {
                (self.is_stale, self.failures) = (false, 0);
                self.metrics.writes.inc();
                true
            }
            Err(failure) => {
                self.is_suspect |= matches!(failure, Failure::Damaged(_));
                self.fail(&failure, now);
                false
            }
        }
    }

    /// Opens the file again if it is closed and the pause is over.
    fn reopen(&mut self, memory: &Memory, now: Timestamp) {
        // If the clock was set back, the pause does not become longer.
        let is_over = |at: Timestamp| at <= now || PAUSE_MAX < at.since(now);
        if self.database.is_none() && self.retry_at.is_none_or(is_over) {
            self.try_open(memory, now);
        }
    }

    fn try_open(&mut self, memory: &Memory, now: Timestamp) {
        let preparation =
            if self.is_suspect { Preparation::Verification } else { Preparation::None };
        let opened = database_file::open(&self.path, TABLES, preparation, now);
        match opened.and_then(|opened| self.load(opened, memory, now)) {
            Ok(opened) => {
                if let Some((renamed, reason)) = &opened.set_aside {
                    self.metrics.damaged.inc();
                    let (path, renamed) = (self.path.display(), renamed.display());
                    tracing::error!(%path, %renamed, reason, "the file of counters is damaged; it was renamed, and a new one begins with the counters that could be read");
                }
                if let Some(error) = self.error.take() {
                    tracing::info!(error, "the file of counters is open again");
                }
                self.database = Some(opened.database);
                (self.is_suspect, self.retry_at) = (false, None);
                self.metrics.unavailable.set(0);
            }
            Err(failure) => self.fail(&failure, now),
        }
    }

    /// Takes the records of an opened file into memory, once in a process. A file that can't be read to its end is replaced.
    fn load(
        &mut self,
        mut opened: Opened,
        memory: &Memory,
        now: Timestamp,
    ) -> Result<Opened, Failure> {
        // What has been counted so far is not in the file.
        self.is_stale |= opened.is_new || self.error.is_some();
        if self.is_loaded || opened.is_new {
            self.is_loaded = true;
            return Ok(opened);
        }
        let mut found = Found::default();
        let read = guarded(|| read(&opened.database, memory, (&mut found, now)));
        let read = read.and_then(|()| match found.damaged {
            0 => compact(&mut opened.database),
            records => Err(Failure::Damaged(format!("{records} records are damaged"))),
        });
        self.is_stale |= found.expired != 0;
        let Found { restored, expired, damaged } = found;
        tracing::info!(restored, expired, damaged, "counters were restored");
        match read {
            Ok(()) => {}
            Err(Failure::Damaged(reason)) => {
                close(opened.database);
                self.is_stale = true;
                opened = database_file::replace(&self.path, TABLES, reason, now)?;
            }
            // What was restored would be restored again.
            Err(failure) => {
                close(opened.database);
                self.is_loaded = restored != 0;
                return Err(failure);
            }
        }
        self.is_loaded = true;
        Ok(opened)
    }

    /// Closes the file after a failure, and starts the pause before the next attempt.
    fn fail(&mut self, failure: &Failure, now: Timestamp) {
        close(self.database.take());
        self.is_stale = true;
        self.metrics.unavailable.set(1);
        let error = format!("{}: {failure}", self.path.display());
        if self.error.as_ref() != Some(&error) {
            tracing::error!(
                error,
                "the file of counters can't be used; counters are kept in memory until it can"
            );
        }
        self.error = Some(error);
        let pause = Backoff::new(PAUSE_FIRST, PAUSE_MAX).pause(self.failures);
        self.failures = self.failures.saturating_add(1);
        self.retry_at = Some(now.after(pause));
    }
}

/// Writes the changes of `memory` in one transaction, or all of it.
fn write(database: &Database, memory: &Memory, all: bool) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    let mut records = Records::open(&transaction)?;
    memory.write_changes(all, &mut records)?;
    drop(records);
    if let Some(controls) = memory.take_controls(all) {
        transaction.delete_table(CONTROLS)?;
        let mut table = transaction.open_table(CONTROLS)?;
        for (field, text) in &controls {
            table.insert(field.as_str(), text.as_str())?;
        }
    }
    Ok(transaction.commit()?)
}

/// Takes all records into memory.
fn read(
    database: &Database,
    memory: &Memory,
    (found, now): (&mut Found, Timestamp),
) -> Result<(), redb::Error> {
    let transaction = database.begin_read()?;
    match transaction.open_table(CONTROLS) {
        Ok(controls) => {
            for control in controls.iter()? {
                let (field, text) = control?;
                memory.restore_control(field.value(), text.value());
            }
        }
        Err(TableError::TableDoesNotExist(_)) => {}
        Err(error) => return Err(error.into()),
    }
    let records = transaction.open_table(RECORDS)?;
    let mut limits = Limits::default();
    for record in records.iter()? {
        let (key, bytes) = record?;
        let Some(record) = decode(key.value(), bytes.value(), &mut limits) else {
            found.damaged += 1;
            continue;
        };
        let is_restored = memory.restore(&Key::of_text(key.value()), record, now);
        *(if is_restored { &mut found.restored } else { &mut found.expired }) += 1;
    }
    Ok(())
}

/// Releases unused space. There may be none for that.
fn compact(database: &mut Database) -> Result<(), Failure> {
    match guarded(|| Ok(database.compact().map(drop)?)) {
        Err(failure @ Failure::Damaged(_)) => Err(failure),
        Err(_) | Ok(()) => Ok(()),
    }
}

/// The table of records in a transaction.
struct Records<'t> {
    transaction: &'t WriteTransaction,
    table: Option<Table<'t, &'static str, &'static [u8]>>,
}

impl<'t> Records<'t> {
    fn open(transaction: &'t WriteTransaction) -> Result<Self, redb::Error> {
        Ok(Self { transaction, table: Some(transaction.open_table(RECORDS)?) })
    }
}

impl RecordSink for Records<'_> {
    type Error = redb::Error;

    fn clear(&mut self) -> Result<(), redb::Error> {
        self.table = None;
        self.transaction.delete_table(RECORDS)?;
        self.table = Some(self.transaction.open_table(RECORDS)?);
        Ok(())
    }

    fn write(&mut self, key: &Key, bytes: Option<&[u8]>) -> Result<(), redb::Error> {
        let Some(table) = &mut self.table else { return Ok(()) };
        match bytes {
            Some(bytes) => table.insert(key.as_str(), bytes)?,
            None => table.remove(key.as_str())?,
        };
        Ok(())
    }
}
