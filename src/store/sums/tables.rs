//! The tables of sums in their database file, and their keys.

use redb::{Database, TableDefinition};

use super::{SumsPeriod, SumsTable};
use crate::store::database_file::Tables;

/// The kind and number of a period, its table, and a field.
pub type Field<'f> = (char, u64, u8, &'f str);

pub const SUMS: TableDefinition<'_, Field<'_>, &str> = TableDefinition::new("sums");

/// Numbers by name.
pub const NUMBERS: TableDefinition<'_, &str, u64> = TableDefinition::new("numbers");

pub const TABLES: Tables = Tables {
    create: |transaction| {
        transaction.open_table(SUMS)?;
        transaction.open_table(NUMBERS)?;
        Ok(())
    },
    open: |transaction| transaction.open_table(SUMS).map(drop),
};

/// The key of a field of a period's table.
pub fn key(period: SumsPeriod, table: SumsTable, field: &str) -> Field<'_> {
    (period.kind, period.number, number_of(table), field)
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
        for period in periods {
            let removed = sums.remove(key(*period, SumsTable::Callers, caller))?;
            erased += u64::from(removed.is_some());
        }
    }
    transaction.commit()?;
    Ok(erased)
}
