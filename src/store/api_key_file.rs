//! The file of API keys without Redis: a database in `data_dir`.
//!
//! Unlike the files of counters and usage, it is never left behind: a change that can't be written is not made, and a damaged
//! file ends the start, because API keys that come back after a restart are worse than none.

use std::path::Path;
use std::sync::Mutex;

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};

use super::database_file::{self, Failure, Preparation, Tables, guarded};
use crate::api_keys::{ApiKeyRecord, from_json, to_json};
use crate::clock::Timestamp;
use crate::lock::lock;

/// Records as JSON, by id.
const RECORDS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("api_keys");

const TABLES: Tables = Tables {
    create: |transaction| Ok(transaction.open_table(RECORDS).map(drop)?),
    open: |transaction| transaction.open_table(RECORDS).map(drop),
};

/// The file of API keys.
#[derive(Debug)]
pub struct ApiKeyFile(Mutex<Database>);

impl ApiKeyFile {
    /// Opens or creates the file, and reads its records.
    ///
    /// # Errors
    /// If it can't be read: a clause with the reason.
    pub fn open(path: &Path, now: Timestamp) -> Result<(Self, Vec<ApiKeyRecord>), String> {
        let opened = database_file::open(path, TABLES, Preparation::None, now);
        let opened = opened.map_err(|failure| failure.to_string())?;
        if let Some((renamed, reason)) = opened.set_aside {
            return Err(format!("{reason}; it was renamed to {}", renamed.display()));
        }
        let records = guarded(|| records(&opened.database));
        let records = records.map_err(|failure| failure.to_string())?;
        Ok((Self(Mutex::new(opened.database)), records))
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
                    None => table.remove(id).map(drop)?,
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

fn records(database: &Database) -> Result<Vec<ApiKeyRecord>, redb::Error> {
    let table = database.begin_read()?.open_table(RECORDS)?;
    let mut records = Vec::new();
    for entry in table.iter()? {
        let (_, bytes) = entry?;
        records.extend(from_json(bytes.value()));
    }
    Ok(records)
}
