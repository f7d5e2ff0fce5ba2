//! Sums in a database file of one process, where there is no Redis.
//!
//! A batch is one transaction. The last one of a round is synced to the disk, and the ones before it with it. So a crash
//! loses what came after the last round, and never half a batch.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::{Database, Durability, ReadableDatabase, ReadableTable, Table, TableDefinition};
use tokio::task::spawn_blocking;

use super::StoreError;
use super::sums::{
    ANSWER_BYTES_MAX, CallersAsked, CallersKept, SumsAdded, SumsAnswer, SumsBatch, SumsEntry,
    SumsError, SumsPeriod, SumsQuestion, SumsTable,
};
use super::sums_merge::{merge, rows_of, weight};

/// The owner may read and write the file.
const MODE: u32 = 0o600;

/// Pages of the file in memory.
const CACHE_BYTES: usize = 8 * 1024 * 1024;

/// Callers of a period in which the busiest alone are kept, and those that stay when more have come.
const CALLERS_MAX: u64 = 15_000;
const CALLERS_KEPT: usize = 10_000;

/// The kind and number of a period, a table of it, and a field.
type Field<'f> = (char, u64, u8, &'f str);

const SUMS: TableDefinition<'_, Field<'_>, &str> = TableDefinition::new("sums");

/// Numbers by name.
const NUMBERS: TableDefinition<'_, &str, u64> = TableDefinition::new("numbers");

/// The number of the last batch since the file was opened.
const LAST: &str = "last batch";

/// The table that counts the callers of a period.
const COUNT: u8 = u8::MAX;

/// Sums in a file.
#[derive(Clone, Debug)]
pub struct FileSums {
    database: Arc<Database>,
}

/// Why the file can't be used.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {reason}", path = path.display())]
pub struct FileSumsError {
    path: PathBuf,
    reason: String,
}

impl FileSums {
    /// Opens the file, or makes it, and gives space back that it no longer needs.
    ///
    /// # Errors
    /// When it can't be written, is no database, or another process has it open.
    pub fn open(path: &Path) -> Result<Self, FileSumsError> {
        let open = || -> Result<Database, redb::Error> {
            let mut options = OpenOptions::new();
            let file = options
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(MODE)
                .open(path)?;
            let mut database = Database::builder().set_cache_size(CACHE_BYTES).create_file(file)?;
            database.compact()?;
            let transaction = database.begin_write()?;
            transaction.open_table(SUMS)?;
            transaction.open_table(NUMBERS)?.insert(LAST, 0)?;
            transaction.commit()?;
            Ok(database)
        };
        let error =
            |error: redb::Error| FileSumsError { path: path.to_owned(), reason: error.to_string() };
        Ok(Self { database: Arc::new(open().map_err(error)?) })
    }

    /// Adds a batch, unless it was added before. It waits for the disk, so it is to be called where nobody else waits.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn add(&self, batch: &SumsBatch) -> Result<SumsAdded, StoreError> {
        self.write(batch).map_err(|error| StoreError::Refused(error.to_string()))
    }

    /// Answers a question.
    ///
    /// # Errors
    /// When the file can't be read, or the answer is too large.
    pub async fn ask(&self, question: &SumsQuestion) -> Result<SumsAnswer, SumsError> {
        let (file, question) = (self.clone(), question.clone());
        let failed = |reason: String| SumsError::Store(StoreError::Refused(reason));
        let answer = spawn_blocking(move || file.read(&question)).await;
        let answer = answer.map_err(|error| failed(error.to_string()))?;
        answer.map_err(|error| failed(error.to_string()))?.ok_or(SumsError::TooMany)
    }

    fn write(&self, batch: &SumsBatch) -> Result<SumsAdded, redb::Error> {
        let mut transaction = self.database.begin_write()?;
        if !batch.is_last {
            transaction.set_durability(Durability::None)?;
        }
        {
            let mut numbers = transaction.open_table(NUMBERS)?;
            if numbers.get(LAST)?.is_some_and(|last| batch.number <= last.value()) {
                return Ok(SumsAdded::Before);
            }
            numbers.insert(LAST, batch.number)?;
            let mut sums = transaction.open_table(SUMS)?;
            expire(&mut sums, batch)?;
            let mut callers = 0;
            for entry in &batch.entries {
                callers += add(&mut sums, batch.period, entry)?;
            }
            if batch.callers == CallersKept::Busiest && callers != 0 {
                count(&mut sums, batch.period, callers)?;
            }
        }
        transaction.commit()?;
        Ok(SumsAdded::Later)
    }

    /// None: there is too much to tell.
    fn read(&self, question: &SumsQuestion) -> Result<Option<SumsAnswer>, redb::Error> {
        let sums = self.database.begin_read()?.open_table(SUMS)?;
        let mut answer = SumsAnswer::default();
        let mut bytes = 0;
        for period in &question.names {
            for entry in fields(&sums, *period, SumsTable::Names)? {
                bytes += entry.field.len() + entry.sums.len();
                answer.names.push((entry.field, entry.sums));
            }
        }
        for period in &question.periods {
            let tables: &[SumsTable] = match &question.callers {
                CallersAsked::Totals => &[SumsTable::Totals],
                CallersAsked::Each => &[SumsTable::Nameless, SumsTable::Others, SumsTable::Callers],
                CallersAsked::One(_) => &[],
            };
            let mut entries = Vec::new();
            for table in tables {
                entries.extend(fields(&sums, *period, *table)?);
            }
            if let CallersAsked::One(caller) = &question.callers {
                let table = SumsTable::Callers;
                let found = sums.get(key(*period, table, caller))?;
                let entry =
                    |sums: &str| SumsEntry { table, field: caller.clone(), sums: sums.to_owned() };
                entries.extend(found.map(|sums| entry(sums.value())));
            }
            let lens = entries.iter().map(|entry| entry.field.len() + entry.sums.len());
            bytes += lens.sum::<usize>();
            if ANSWER_BYTES_MAX < bytes {
                return Ok(None);
            }
            if !entries.is_empty() {
                answer.periods.push((*period, entries));
            }
        }
        Ok(Some(answer))
    }
}

/// Adds an entry. 1 if it is a caller that is new.
fn add(
    sums: &mut Table<'_, Field<'static>, &'static str>,
    period: SumsPeriod,
    entry: &SumsEntry,
) -> Result<u64, redb::Error> {
    let key = key(period, entry.table, &entry.field);
    let old = sums.get(key)?.map(|old| old.value().to_owned());
    let new = match &old {
        Some(old) if entry.table != SumsTable::Names => &merge(old, &entry.sums),
        _ => &entry.sums,
    };
    sums.insert(key, new.as_str())?;
    Ok(u64::from(entry.table == SumsTable::Callers && old.is_none()))
}

/// Notes new callers of a period, and sums all but the busiest if there are too many.
fn count(
    sums: &mut Table<'_, Field<'static>, &'static str>,
    period: SumsPeriod,
    new: u64,
) -> Result<(), redb::Error> {
    let count = (period.kind, period.number, COUNT, "");
    let known = sums.get(count)?.and_then(|text| text.value().parse::<u64>().ok()).unwrap_or(0);
    let mut callers = known + new;
    if CALLERS_MAX < callers {
        let mut all = fields(sums, period, SumsTable::Callers)?;
        all.sort_by_cached_key(|entry| std::cmp::Reverse(weight(&entry.sums)));
        callers = 0;
        for (rank, entry) in all.into_iter().enumerate() {
            if rank < CALLERS_KEPT {
                callers += 1;
                continue;
            }
            sums.remove(key(period, SumsTable::Callers, &entry.field))?;
            for (name, row) in rows_of(&entry.sums) {
                let (table, field) = (SumsTable::Others, name.to_owned());
                add(sums, period, &SumsEntry { table, field, sums: format!("={row}") })?;
            }
        }
    }
    sums.insert(count, callers.to_string().as_str())?;
    Ok(())
}

/// Forgets the periods that are too old, when a new one begins.
fn expire(
    sums: &mut Table<'_, Field<'static>, &'static str>,
    batch: &SumsBatch,
) -> Result<(), redb::Error> {
    let SumsPeriod { kind, .. } = batch.period;
    let old = (kind, 0, 0, "")..(kind, batch.oldest, 0, "");
    if sums.range::<Field<'_>>(old.clone())?.next().is_some() {
        sums.retain_in::<Field<'_>, _>(old, |_, _| false)?;
    }
    Ok(())
}

/// The fields of a table.
fn fields(
    sums: &impl ReadableTable<Field<'static>, &'static str>,
    period: SumsPeriod,
    table: SumsTable,
) -> Result<Vec<SumsEntry>, redb::Error> {
    let SumsPeriod { kind, number } = period;
    let number_of = number_of(table);
    let range = (kind, number, number_of, "")..(kind, number, number_of + 1, "");
    let mut entries = Vec::new();
    for found in sums.range::<Field<'_>>(range)? {
        let (field, sums) = found?;
        let (field, sums) = (field.value().3.to_owned(), sums.value().to_owned());
        entries.push(SumsEntry { table, field, sums });
    }
    Ok(entries)
}

fn key(period: SumsPeriod, table: SumsTable, field: &str) -> Field<'_> {
    (period.kind, period.number, number_of(table), field)
}

/// Stored numbers of tables: they never change.
fn number_of(table: SumsTable) -> u8 {
    match table {
        SumsTable::Names => 0,
        SumsTable::Totals => 1,
        SumsTable::Nameless => 2,
        SumsTable::Others => 3,
        SumsTable::Callers => 4,
    }
}
