//! Reads sums from their database file.

use redb::{Database, ReadableDatabase, ReadableTable};

use super::packed::unpack;
use super::tables::{SUMS, key, key_in, number_of};
use super::{
    BytesRead, CallersAsked, SumsEntry, SumsError, SumsPeriod, SumsQuestion, SumsReader, SumsTable,
};

/// Gives a reader the answer to a question.
///
/// # Errors
/// Those of the file; inside, those of the answer.
pub fn read(
    database: &Database,
    question: &SumsQuestion,
    reader: &mut impl SumsReader,
) -> Result<Result<(), SumsError>, redb::Error> {
    let sums = database.begin_read()?.open_table(SUMS)?;
    let mut bytes = BytesRead::default();
    let tables: &[SumsTable] = match &question.callers {
        CallersAsked::Totals => &[SumsTable::Totals],
        CallersAsked::Each => &[SumsTable::Nameless, SumsTable::Others, SumsTable::Callers],
        CallersAsked::Named(_) => &[],
    };
    let named: &[String] = match &question.callers {
        CallersAsked::Named(names) => names,
        CallersAsked::Totals | CallersAsked::Each => &[],
    };
    for period in &question.names {
        let read = visit(&sums, *period, SumsTable::Names, |name, meaning| {
            reader.name(name, meaning);
            bytes.count(name, meaning)
        })?;
        if read.is_err() {
            return Ok(read);
        }
    }
    for period in &question.periods {
        let mut read = |table: SumsTable, field: &str, sums: &str| {
            bytes.count(field, sums)?;
            reader.sums((*period, table), field, sums)
        };
        for caller in named {
            if let Some(sums) = sums.get(key(*period, SumsTable::Callers, caller).as_slice())?
                && let full @ Err(_) = read(SumsTable::Callers, caller, &unpack(sums.value()))
            {
                return Ok(full);
            }
        }
        for table in tables {
            let read = visit(&sums, *period, *table, |field, sums| read(*table, field, sums))?;
            if read.is_err() {
                return Ok(read);
            }
        }
    }
    Ok(Ok(()))
}

/// The fields of a table.
pub fn fields(
    sums: &impl ReadableTable<&'static [u8], &'static [u8]>,
    period: SumsPeriod,
    table: SumsTable,
) -> Result<Vec<SumsEntry>, redb::Error> {
    let mut entries = Vec::new();
    let _: Result<(), SumsError> = visit(sums, period, table, |field, sums| {
        entries.push(SumsEntry { table, field: field.to_owned(), sums: sums.to_owned() });
        Ok(())
    })?;
    Ok(entries)
}

/// Visits the fields of a table until an error of the visitor.
fn visit(
    sums: &impl ReadableTable<&'static [u8], &'static [u8]>,
    period: SumsPeriod,
    table: SumsTable,
    mut visit: impl FnMut(&str, &str) -> Result<(), SumsError>,
) -> Result<Result<(), SumsError>, redb::Error> {
    let first = key(period, table, "");
    let end = key_in(period, number_of(table) + 1, "");
    for found in sums.range::<&[u8]>(first.as_slice()..end.as_slice())? {
        let (key, sums) = found?;
        let field = key.value().get(first.len()..).unwrap_or_default();
        let visited = visit(&String::from_utf8_lossy(field), &unpack(sums.value()));
        if visited.is_err() {
            return Ok(visited);
        }
    }
    Ok(Ok(()))
}
