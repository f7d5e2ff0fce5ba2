//! The file of API keys without Redis: a database in `data_dir`.
//!
//! Unlike the files of counters and usage, it is never left behind: a change that can't be written is not made, and a damaged
//! file ends the start, because API keys that come back after a restart are worse than none.

use std::path::Path;
use std::sync::{Arc, Mutex};

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition, TableError};

use crate::api_keys::{ApiKeyRecord, LastUse, from_json, to_json};
use crate::clock::Timestamp;
use crate::lock::lock;
use crate::store::database_file::{self, Failure, Preparation, Tables, guarded};

/// Records as JSON, by id.
const RECORDS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("api_keys");

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
    /// Opens or creates the file, and reads it.
    ///
    /// # Errors
    /// If it can't be read: a clause with the reason.
    pub fn open(path: &Path, now: Timestamp) -> Result<(Self, ApiKeyFileContent), String> {
        let opened = database_file::open(path, TABLES, Preparation::None, now);
        let opened = opened.map_err(|failure| failure.to_string())?;
        if let Some((renamed, reason)) = opened.set_aside {
            return Err(format!("{reason}; it was renamed to {}", renamed.display()));
        }
        let content = guarded(|| content(&opened.database));
        let content = content.map_err(|failure| failure.to_string())?;
        Ok((Self(Mutex::new(opened.database)), content))
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

fn content(database: &Database) -> Result<ApiKeyFileContent, redb::Error> {
    let transaction = database.begin_read()?;
    let mut content = ApiKeyFileContent::default();
    for entry in transaction.open_table(RECORDS)?.iter()? {
        let (_, bytes) = entry?;
        content.records.extend(from_json(bytes.value()));
    }
    let last_uses = match transaction.open_table(LAST_USES) {
        Err(TableError::TableDoesNotExist(_)) => return Ok(content),
        opened => opened?,
    };
    for entry in last_uses.iter()? {
        let (id, text) = entry?;
        let last = LastUse::parse(text.value());
        content.last_uses.extend(last.map(|last| (id.value().into(), last)));
    }
    Ok(content)
}
