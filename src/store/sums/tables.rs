//! The tables of sums in their database file, and their keys.

use redb::{
    Database, ReadableDatabase, ReadableTable, ReadableTableMetadata, Table, TableDefinition,
    TableHandle, WriteTransaction,
};
use smallvec::SmallVec;

use super::merge::merge;
use super::packed::{pack, unpack};
use super::{SumsPeriod, SumsTable};
use crate::store::database_file::Tables;

/// A table whose keys are those of fields, with packed sums.
pub type Sums<'t> = Table<'t, &'static [u8], &'static [u8]>;

/// The key of a field.
pub type FieldKey = SmallVec<[u8; 48]>;

pub const SUMS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("packed sums");

/// Sums of a round that are yet to be added to [`SUMS`], with the same keys.
pub const WAITING: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("waiting sums");

/// Numbers by name.
pub const NUMBERS: TableDefinition<'_, &str, u64> = TableDefinition::new("numbers");

/// The sums as earlier versions kept them.
const EARLIER: TableDefinition<'_, (char, u64, u8, &str), &str> = TableDefinition::new("sums");

pub const TABLES: Tables = Tables {
    create: |transaction| {
        transaction.open_table(SUMS)?;
        transaction.open_table(WAITING)?;
        transaction.open_table(NUMBERS)?;
        adopt(transaction)
    },
    open: |transaction| transaction.open_table(SUMS).map(drop),
};

/// Sums of a round that are moved in one transaction. It writes each page that it changes to another place, and the next one
/// but one can use the old place. So the file has space for two times as many pages beside its own.
pub const PART_LEN: usize = 1_000;

/// The key of a field of a period's table. Keys are in the order of kinds, numbers, tables and fields, and those of a day take four
/// bytes besides the field.
pub fn key(period: SumsPeriod, table: SumsTable, field: &str) -> FieldKey {
    key_in(period, number_of(table), field)
}

/// The same, with the number of the table.
pub fn key_in(SumsPeriod { kind, number }: SumsPeriod, table: u8, field: &str) -> FieldKey {
    let bytes = number.to_be_bytes();
    let zeros = bytes.iter().take(7).take_while(|byte| **byte == 0).count();
    // The kind is a letter, so five bits of it are enough, and three for the length of the number.
    let kind = u8::try_from(kind).unwrap_or_default();
    let first = kind << 3 | u8::try_from(7 - zeros).unwrap_or_default();
    let mut key = FieldKey::new();
    key.push(first);
    key.extend_from_slice(&bytes[zeros..]);
    key.push(table);
    key.extend_from_slice(field.as_bytes());
    key
}

/// Numbers of tables in the file: they must never change.
pub fn number_of(table: SumsTable) -> u8 {
    match table {
        SumsTable::Names => 0,
        SumsTable::Totals => 1,
        SumsTable::Nameless => 2,
        SumsTable::Others => 3,
        SumsTable::Callers => 4,
    }
}

/// Adds sums to those with this key. Returns whether there were none.
pub fn add(table: &mut Sums<'_>, key: &[u8], sums: &str) -> Result<bool, redb::Error> {
    let old = table.get(key)?.map(|old| unpack(old.value()));
    let merged = old.as_ref().map(|old| merge(old, sums));
    let new = pack(merged.as_deref().unwrap_or(sums));
    table.insert(key, new.as_slice())?;
    Ok(old.is_none())
}

/// Adds the sums that are waiting, a part of them in each transaction. A crash between two of them loses nothing.
pub fn add_waiting(database: &Database) -> Result<(), redb::Error> {
    while !database.begin_read()?.open_table(WAITING)?.is_empty()? {
        let transaction = database.begin_write()?;
        {
            let mut waiting = transaction.open_table(WAITING)?;
            let mut sums = transaction.open_table(SUMS)?;
            for _ in 0..PART_LEN {
                let Some((key, value)) = waiting.pop_first()? else { break };
                add(&mut sums, key.value(), &unpack(value.value()))?;
            }
        }
        transaction.commit()?;
    }
    Ok(())
}

/// Removes a caller from periods, and returns the number of its sums there.
pub fn erase(
    database: &Database,
    periods: &[SumsPeriod],
    caller: &str,
) -> Result<u64, redb::Error> {
    let transaction = database.begin_write()?;
    let mut erased = 0;
    {
        let mut sums = transaction.open_table(SUMS)?;
        let mut waiting = transaction.open_table(WAITING)?;
        for period in periods {
            let key = key(*period, SumsTable::Callers, caller);
            let is_waiting = waiting.remove(key.as_slice())?.is_some();
            let is_known = sums.remove(key.as_slice())?.is_some();
            erased += u64::from(is_known || is_waiting);
        }
    }
    transaction.commit()?;
    Ok(erased)
}

/// Moves the sums of an earlier version.
fn adopt(transaction: &WriteTransaction) -> Result<(), redb::Error> {
    if !transaction.list_tables()?.any(|table| table.name() == EARLIER.name()) {
        return Ok(());
    }
    {
        let earlier = transaction.open_table(EARLIER)?;
        let mut sums = transaction.open_table(SUMS)?;
        for row in earlier.iter()? {
            let (key, value) = row?;
            let (kind, number, table, field) = key.value();
            let key = key_in(SumsPeriod { kind, number }, table, field);
            sums.insert(key.as_slice(), pack(value.value()).as_slice())?;
        }
    }
    transaction.delete_table(EARLIER)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use tempfile::TempDir;

    use super::*;
    use crate::clock::Timestamp;
    use crate::store::database_file::{self, Preparation};

    const DAY: SumsPeriod = SumsPeriod { kind: 'd', number: 20_000 };

    fn open(path: &Path) -> Database {
        let now = Timestamp::default();
        database_file::open(path, TABLES, Preparation::None, now).unwrap().database
    }

    /// The sums of a caller.
    fn sums_of(database: &Database, caller: &str) -> Option<String> {
        let sums = database.begin_read().unwrap().open_table(SUMS).unwrap();
        let found = sums.get(key(DAY, SumsTable::Callers, caller).as_slice()).unwrap();
        found.map(|sums| unpack(sums.value()))
    }

    #[test]
    fn the_sums_of_an_earlier_version_are_adopted_once() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("usage.redb");
        let database = Database::create(&path).unwrap();
        let transaction = database.begin_write().unwrap();
        {
            let mut earlier = transaction.open_table(EARLIER).unwrap();
            earlier.insert(('d', 20_000, 4, "acme"), "AbC-_9=a2e1T54000").unwrap();
            earlier.insert(('d', 20_001, 4, "acme"), "AbC-_9=a1").unwrap();
            transaction.open_table(NUMBERS).unwrap().insert("last batch", 7).unwrap();
        }
        transaction.commit().unwrap();
        drop(database);
        for _ in 0..2 {
            let database = open(&path);
            assert_eq!(sums_of(&database, "acme").as_deref(), Some("AbC-_9=a2e1T54000"));
            let transaction = database.begin_read().unwrap();
            assert_eq!(transaction.open_table(SUMS).unwrap().len().unwrap(), 2);
            let numbers = transaction.open_table(NUMBERS).unwrap();
            assert_eq!(numbers.get("last batch").unwrap().unwrap().value(), 7);
            assert!(transaction.open_table(EARLIER).is_err());
        }
    }

    #[test]
    fn sums_that_a_crash_left_waiting_are_added_once_unless_they_were_erased() {
        let folder = TempDir::new().unwrap();
        let database = open(&folder.path().join("usage.redb"));
        let caller = |number: usize| format!("caller-{number}");
        let transaction = database.begin_write().unwrap();
        {
            let mut waiting = transaction.open_table(WAITING).unwrap();
            for number in 0..2 * PART_LEN + 1 {
                let key = key(DAY, SumsTable::Callers, &caller(number));
                add(&mut waiting, &key, "r=a2").unwrap();
            }
            let mut sums = transaction.open_table(SUMS).unwrap();
            add(&mut sums, &key(DAY, SumsTable::Callers, &caller(5)), "r=a1").unwrap();
        }
        transaction.commit().unwrap();
        assert_eq!(erase(&database, &[DAY], &caller(6)).unwrap(), 1);
        for _ in 0..2 {
            add_waiting(&database).unwrap();
            assert_eq!(sums_of(&database, &caller(5)).as_deref(), Some("r=a3"));
            assert_eq!(sums_of(&database, &caller(6)), None);
            let sums = database.begin_read().unwrap().open_table(SUMS).unwrap();
            assert_eq!(sums.len().unwrap(), 2 * PART_LEN as u64);
        }
    }

    #[test]
    fn keys_are_in_the_order_of_kinds_numbers_tables_and_fields() {
        let mut keys = Vec::new();
        for kind in ['d', 'h', 'm'] {
            for number in [0, 1, 255, 256, 20_000, 65_536, 30_000_000, u64::MAX >> 8, u64::MAX] {
                for table in [0, 4, u8::MAX] {
                    for field in ["", "a", "b"] {
                        keys.push(key_in(SumsPeriod { kind, number }, table, field));
                    }
                }
            }
        }
        assert!(keys.is_sorted_by(|a, b| a < b));
        assert_eq!(key(DAY, SumsTable::Callers, "acme").len(), 8);
    }
}
