//! The file of callers and gifts without Redis: a database in `data_dir`.
//!
//! Like the file of API keys, it is never left behind: a change that can't be written is not made, and a damaged file ends
//! each start until a person has replaced or removed it. Without it a disabled caller would pass, and limits would have
//! other amounts.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};

use super::edit::{Edit, KeptGift};
use super::gift::GiftEvent;
use super::stored::{event_json, gift_json, read_event, read_gift, read_record, record_json};
use crate::clock::Timestamp;
use crate::printable;
use crate::store::database_file::{self, Failure, Tables, guarded};

/// Records as JSON, by name.
const CALLERS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("callers");

/// Gifts as JSON, by id, each with the time at which it is due or forgotten, in milliseconds.
const GIFTS: TableDefinition<'_, &str, (u64, &[u8])> = TableDefinition::new("gifts");

/// Lines about gifts, the youngest first, by caller.
const LOGS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("gift_logs");

/// The revision of the last change of a caller.
const REVISION: TableDefinition<'_, (), u64> = TableDefinition::new("revision");

/// What to do about a damaged file.
const REMEDY: &str =
    "restore a copy of the file of callers, or remove the damaged file to begin without callers";

const TABLES: Tables = Tables {
    create: |transaction| {
        transaction.open_table(CALLERS)?;
        transaction.open_table(GIFTS)?;
        transaction.open_table(LOGS)?;
        transaction.open_table(REVISION)?;
        Ok(())
    },
    open: |transaction| transaction.open_table(CALLERS).map(drop),
};

/// The file of callers and gifts.
#[derive(Debug)]
pub struct DirectoryFile {
    path: PathBuf,
    /// None until there is something to keep, so that processes that keep nothing can share a folder. None after a failure:
    /// whether the last edit is in the file is unknown until it is read again.
    database: Option<Database>,
}

impl DirectoryFile {
    /// Opens the file and reads it. If it was never there, it is created for the first edit.
    ///
    /// # Errors
    /// If it can't be read: a clause with the reason, and what to do if it is damaged.
    pub fn open(path: &Path) -> Result<(Self, Edit), String> {
        if database_file::was_never_there(path) {
            return Ok((Self { path: path.to_owned(), database: None }, Edit::default()));
        }
        Self::open_or_create(path)
    }

    fn open_or_create(path: &Path) -> Result<(Self, Edit), String> {
        let (database, content) = database_file::open_irreplaceable(path, TABLES, content, REMEDY)?;
        Ok((Self { path: path.to_owned(), database: Some(database) }, content))
    }

    /// Opens, or creates, and reads the file if it is closed. None: it is open.
    ///
    /// # Errors
    /// If it can't be read: a clause with the reason.
    pub fn reopened(&mut self) -> Result<Option<Edit>, String> {
        if self.database.is_some() {
            return Ok(None);
        }
        let (file, content) = Self::open_or_create(&self.path)?;
        *self = file;
        Ok(Some(content))
    }

    /// Makes an edit as a whole, and waits until it is on the disk.
    ///
    /// # Errors
    /// If it may not be there: a clause with the reason. Then the file is closed.
    pub fn write(&mut self, edit: &Edit) -> Result<(), String> {
        let Some(database) = &self.database else { return Err("the file is closed".to_owned()) };
        let written: Result<(), Failure> = guarded(|| {
            let transaction = database.begin_write()?;
            {
                transaction.open_table(REVISION)?.insert((), edit.revision)?;
                let mut callers = transaction.open_table(CALLERS)?;
                for (name, record) in &edit.callers {
                    match record {
                        Some(record) => {
                            callers.insert(&**name, record_json(record).as_bytes())?;
                        }
                        None => drop(callers.remove(&**name)?),
                    }
                }
                let mut gifts = transaction.open_table(GIFTS)?;
                for (id, kept) in &edit.gifts {
                    match kept {
                        Some(KeptGift { gift, at }) => {
                            let json = gift_json(gift);
                            gifts.insert(&**id, (at.as_ms(), json.as_bytes()))?;
                        }
                        None => drop(gifts.remove(&**id)?),
                    }
                }
                let mut logs = transaction.open_table(LOGS)?;
                for (caller, log) in &edit.logs {
                    match log {
                        Some(log) => drop(logs.insert(&**caller, lines(log).as_bytes())?),
                        None => drop(logs.remove(&**caller)?),
                    }
                }
            }
            Ok(transaction.commit()?)
        });
        written.map_err(|failure| {
            database_file::close(self.database.take());
            failure.to_string()
        })
    }
}

fn lines(log: &[GiftEvent]) -> String {
    log.iter().map(event_json).collect::<Vec<_>>().join("\n")
}

/// All of the file. What can't be read is damage: a caller would have other limits, or hits would be lost, without a
/// reason.
fn content(database: &Database) -> Result<Result<Edit, Failure>, redb::Error> {
    let transaction = database.begin_read()?;
    let mut content = Edit::default();
    let damaged = |what: &str, name: &str| {
        Ok(Err(Failure::Damaged(format!("the {what} {} can't be read", printable::line(name)))))
    };
    if let Some(revision) = transaction.open_table(REVISION)?.get(())? {
        content.revision = revision.value();
    }
    for entry in transaction.open_table(CALLERS)?.iter()? {
        let (name, bytes) = entry?;
        match read_record(bytes.value()) {
            Some(record) => content.callers.push((name.value().into(), Some(record))),
            None => return damaged("caller", name.value()),
        }
    }
    for entry in transaction.open_table(GIFTS)?.iter()? {
        let (id, kept) = entry?;
        let (at, bytes) = kept.value();
        match read_gift(bytes) {
            Ok(gift) => {
                let kept = KeptGift { gift, at: Timestamp::from_ms(at) };
                content.gifts.push((id.value().to_owned(), Some(kept)));
            }
            Err(_) => return damaged("gift", id.value()),
        }
    }
    for entry in transaction.open_table(LOGS)?.iter()? {
        let (caller, bytes) = entry?;
        let lines = bytes.value().split(|byte| *byte == b'\n');
        let events = lines.map(|line| read_event(caller.value(), line)).collect::<Option<_>>();
        match events {
            Some(events) => content.logs.push((Arc::from(caller.value()), Some(events))),
            None => return damaged("log of gifts of", caller.value()),
        }
    }
    Ok(Ok(content))
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    #[test]
    fn a_file_is_opened_once_another_process_has_closed_it() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("callers.redb");
        let (file, _) = DirectoryFile::open_or_create(&path).unwrap();
        let error = DirectoryFile::open(&path).unwrap_err();
        assert_eq!(error, "another process has it open");
        let opened = std::thread::scope(|scope| {
            let opening = scope.spawn(|| DirectoryFile::open(&path).map(drop));
            drop(file);
            opening.join().unwrap()
        });
        assert_eq!(opened, Ok(()));
    }

    #[test]
    fn a_closed_file_takes_no_edit_until_it_is_read_again() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("callers.redb");
        let (mut file, content) = DirectoryFile::open(&path).unwrap();
        assert!(content.is_empty() && !path.exists());
        file.reopened().unwrap();
        let edit = Edit { revision: 3, callers: vec![("ann".into(), None)], ..Edit::default() };
        file.write(&edit).unwrap();
        assert!(file.reopened().unwrap().is_none());
        drop(file.database.take());
        assert_eq!(file.write(&edit), Err("the file is closed".to_owned()));
        assert_eq!(file.reopened().unwrap().map(|content| content.revision), Some(3));
        file.write(&edit).unwrap();
    }

    #[test]
    fn without_its_folder_it_was_never_there() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("data").join("callers.redb");
        let (mut file, content) = DirectoryFile::open(&path).unwrap();
        assert!(content.is_empty() && !folder.path().join("data").exists());
        assert!(file.reopened().unwrap().is_some_and(|content| content.is_empty()));
        assert!(path.exists());
    }

    #[test]
    fn a_link_to_nothing_and_another_database_are_no_file_without_callers() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("callers.redb");
        std::os::unix::fs::symlink(folder.path().join("gone.redb"), &path).unwrap();
        let error = DirectoryFile::open(&path).unwrap_err();
        assert_eq!(error, format!("it is a symbolic link to a missing file; {REMEDY}"));
        assert!(path.is_symlink() && !path.exists());

        let other = folder.path().join("gone.redb");
        let table: TableDefinition<'_, &str, &str> = TableDefinition::new("others");
        let transaction = Database::create(&other).unwrap().begin_write().unwrap();
        transaction.open_table(table).unwrap().insert("a", "b").unwrap();
        transaction.commit().unwrap();
        for _ in 0..2 {
            let error = DirectoryFile::open(&path).unwrap_err();
            assert_eq!(error, format!("Table 'callers' does not exist; {REMEDY}"));
        }
    }

    #[test]
    fn what_can_not_be_read_ends_the_start_and_stays() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("callers.redb");
        let (file, _) = DirectoryFile::open_or_create(&path).unwrap();
        let transaction = file.database.as_ref().unwrap().begin_write().unwrap();
        let record: &[u8] = br#"{"version":1,"revision":7,"caller":{"tier":5}}"#;
        transaction.open_table(CALLERS).unwrap().insert("a\tb", record).unwrap();
        transaction.commit().unwrap();
        drop(file);
        for _ in 0..2 {
            let error = DirectoryFile::open(&path).unwrap_err();
            assert_eq!(error, format!("the caller a\\tb can't be read; {REMEDY}"));
        }
    }
}
