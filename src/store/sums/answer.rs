//! Reads sums from their database file.

use redb::{Database, ReadableDatabase, ReadableTable};

use super::tables::{Field, SUMS, key, number_of};
use super::{
    ANSWER_BYTES_MAX, CallersAsked, SumsAnswer, SumsEntry, SumsPeriod, SumsQuestion, SumsTable,
};

/// The answer to a question; None if it is too large.
pub fn read(
    database: &Database,
    question: &SumsQuestion,
) -> Result<Option<SumsAnswer>, redb::Error> {
    let sums = database.begin_read()?.open_table(SUMS)?;
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

/// The fields of a table.
pub fn fields(
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
