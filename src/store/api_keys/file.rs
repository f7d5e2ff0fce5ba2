//! The file of API keys without Redis: a database in `data_dir`.
//!
//! Unlike the files of counters and usage, it is never left behind: a change that can't be written is not made, and a damaged
//! file ends each start until a person has replaced or removed it. Without it every caller would be refused, and an older copy
//! may have API keys that were revoked since.

use std::path::Path;
use std::sync::{Arc, Mutex};

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition, TableError};

use crate::api_keys::{ApiKeyRecord, LastUse, from_json, to_json};
use crate::lock::lock;
use crate::printable;
use crate::store::database_file::{self, Failure, Tables, guarded};

/// Records as JSON, by id.
const RECORDS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("api_keys");

/// What to do about a damaged file.
const REMEDY: &str =
    "restore a copy of the file of API keys, or remove the damaged file to begin without API keys";

/// Last uses as text, by id. A file of an earlier version does not have it.
const LAST_USES: TableDefinition<'_, &str, &str> = TableDefinition::new("last_uses");

const TABLES: Tables = Tables {
    create: |transaction| {
        transaction.open_table(RECORDS)?;
        transaction.open_table(LAST_USES)?;
        Ok(())
    },
    open: |transaction| transaction.open_table(RECORDS).map(drop),
};

/// The file of API keys.
#[derive(Debug)]
pub struct ApiKeyFile(Mutex<Database>);

/// The content of a file of API keys.
#[derive(Debug, Default)]
pub struct ApiKeyFileContent {
    pub records: Vec<ApiKeyRecord>,
    /// By id.
    pub last_uses: Vec<(Arc<str>, LastUse)>,
}

impl ApiKeyFile {
    /// Opens the file and reads it, or creates it if it was never there.
    ///
    /// # Errors
    /// If it can't be read: a clause with the reason, and what to do if it is damaged.
    pub fn open(path: &Path) -> Result<(Self, ApiKeyFileContent), String> {
        let (database, content) = database_file::open_irreplaceable(path, TABLES, content, REMEDY)?;
        Ok((Self(Mutex::new(database)), content))
    }

    /// Writes a record, or removes it, and waits until it is on the disk.
    ///
    /// # Errors
    /// If it may not be there: a clause with the reason.
    pub fn write(&self, id: &str, record: Option<&ApiKeyRecord>) -> Result<(), String> {
        let database = lock(&self.0);
        let written: Result<(), Failure> = guarded(|| {
            let transaction = database.begin_write()?;
            {
                let mut table = transaction.open_table(RECORDS)?;
                match record {
                    Some(record) => table.insert(id, stored(record).as_bytes()).map(drop)?,
                    None => {
                        table.remove(id)?;
                        transaction.open_table(LAST_USES)?.remove(id)?;
                    }
                }
            }
            Ok(transaction.commit()?)
        });
        written.map_err(|failure| failure.to_string())
    }

    /// Writes last uses of records.
    ///
    /// # Errors
    /// If they may not be on the disk: a clause with the reason.
    pub fn write_last_uses(&self, uses: &[(&str, LastUse)]) -> Result<(), String> {
        let database = lock(&self.0);
        let written: Result<(), Failure> = guarded(|| {
            let transaction = database.begin_write()?;
            {
                // A record may have been removed meanwhile, and its last use with it.
                let records = transaction.open_table(RECORDS)?;
                let mut table = transaction.open_table(LAST_USES)?;
                for (id, last) in uses {
                    if records.get(id)?.is_some() {
                        table.insert(*id, &*last.to_text())?;
                    }
                }
            }
            Ok(transaction.commit()?)
        });
        written.map_err(|failure| failure.to_string())
    }
}

/// The text of a record, as `api_key.lua` writes it.
fn stored(record: &ApiKeyRecord) -> String {
    let (revision, json) = (record.revision, to_json(record));
    format!("{{\"version\":1,\"revision\":{revision},\"api_key\":{json}}}")
}

/// All records and last uses. A record that can't be read is damage: its caller would be refused without a reason.
fn content(database: &Database) -> Result<Result<ApiKeyFileContent, Failure>, redb::Error> {
    let transaction = database.begin_read()?;
    let mut content = ApiKeyFileContent::default();
    for entry in transaction.open_table(RECORDS)?.iter()? {
        let (id, bytes) = entry?;
        match from_json(bytes.value()) {
            Some(record) => content.records.push(record),
            None => {
                let id = printable::line(id.value());
                return Ok(Err(Failure::Damaged(format!("the API key {id} can't be read"))));
            }
        }
    }
    let last_uses = match transaction.open_table(LAST_USES) {
        Err(TableError::TableDoesNotExist(_)) => return Ok(Ok(content)),
        opened => opened?,
    };
    for entry in last_uses.iter()? {
        let (id, text) = entry?;
        let last = LastUse::parse(text.value());
        content.last_uses.extend(last.map(|last| (id.value().into(), last)));
    }
    Ok(Ok(content))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// Both the first start and each later one name the remedy, and rename and create nothing.
    fn check_refused(path: &Path, reason: &str) {
        let names = || fs::read_dir(path.parent().unwrap()).unwrap().map(|one| one.unwrap().path());
        let before: Vec<_> = names().collect();
        for _ in 0..2 {
            let error = ApiKeyFile::open(path).unwrap_err();
            assert!(error.contains(reason) && error.ends_with(REMEDY), "{error}");
            assert_eq!(names().collect::<Vec<_>>(), before);
        }
    }

    #[test]
    fn a_damaged_file_ends_each_start() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("api_keys.redb");
        drop(ApiKeyFile::open(&path).unwrap());
        drop(ApiKeyFile::open(&path).unwrap());
        let whole = fs::read(&path).unwrap();
        for (bytes, reason) in [
            (&b""[..], ""),
            (&whole[..9], ""),
            (&whole[..whole.len() / 2], ""),
            (b"not a database at all", "not a database of Tollgate"),
        ] {
            fs::write(&path, bytes).unwrap();
            check_refused(&path, reason);
        }
        // The same with any page overwritten, on which redb may panic. It may also be one that is not in use.
        for at in (512..whole.len()).step_by(1_024) {
            let mut bytes = whole.clone();
            let end = bytes.len().min(at + 1_024);
            bytes[at..end].fill(0xa5);
            fs::write(&path, bytes).unwrap();
            let first = ApiKeyFile::open(&path).map(drop);
            assert_eq!(ApiKeyFile::open(&path).is_ok(), first.is_ok(), "{at}: {first:?}");
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing was renamed");
        // A person begins without API keys.
        fs::remove_file(&path).unwrap();
        ApiKeyFile::open(&path).unwrap();
    }

    #[test]
    fn no_file_is_created_beside_one_that_was_renamed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("api_keys.redb");
        let damaged = folder.path().join("api_keys.redb.damaged-1764000000000");
        fs::write(&damaged, "x").unwrap();
        check_refused(&path, "api_keys.redb.damaged-1764000000000");
        fs::remove_file(&damaged).unwrap();
        ApiKeyFile::open(&path).unwrap();
        // A restored copy is in use whatever is beside it.
        fs::write(&damaged, "x").unwrap();
        ApiKeyFile::open(&path).unwrap();
    }

    #[test]
    fn a_record_that_can_not_be_read_ends_the_start() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("api_keys.redb");
        let (file, _) = ApiKeyFile::open(&path).unwrap();
        let database = file.0.into_inner().unwrap();
        let transaction = database.begin_write().unwrap();
        transaction.open_table(RECORDS).unwrap().insert("key_1", &b"{"[..]).unwrap();
        transaction.commit().unwrap();
        drop(database);
        check_refused(&path, "the API key key_1 can't be read");
    }
}
