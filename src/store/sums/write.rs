//! Writes rounds of batches to the database file of sums.

use redb::{Database, ReadableTable};

use super::answer::fields;
use super::merge::{rows_of, weight};
use super::packed::{pack, unpack};
use super::tables::{
    FieldKey, NUMBERS, PART_LEN, SUMS, Sums, WAITING, add, add_waiting, key, key_in,
};
use super::{CallersKept, SumsBatch, SumsEntry, SumsPeriod, SumsTable};

/// For periods with the busiest callers only: maximum number of callers, and the number that is kept.
const CALLERS_MAX: u64 = 15_000;
const CALLERS_KEPT: usize = 10_000;

/// The name of the number of the last batch, with the process that wrote it.
const LAST: &str = "last batch";

/// The number of the table with the number of a period's callers.
const COUNT: u8 = u8::MAX;

/// Adds the batches of a round in one transaction, unless its last one is already in the file after an uncertain write.
/// Callers are all over the file, so many of them would change each of its pages at once, which takes its size a second
/// time. So many of them wait in a table of their own, and are moved in parts.
pub fn write(
    database: &Database,
    round: &[SumsBatch],
    last: &SumsBatch,
    is_uncertain: bool,
) -> Result<(), redb::Error> {
    let batches = || round.iter().chain([last]);
    let entries = batches().flat_map(|batch| &batch.entries);
    let callers = entries.filter(|entry| entry.table == SumsTable::Callers).count();
    let are_many = PART_LEN < callers;
    let transaction = database.begin_write()?;
    let is_known = {
        let mut numbers = transaction.open_table(NUMBERS)?;
        let known = numbers.insert(LAST, last.number)?.map(|known| known.value());
        is_uncertain && known == Some(last.number)
    };
    if is_known {
        transaction.abort()?;
        return add_waiting(database);
    }
    {
        let mut sums = transaction.open_table(SUMS)?;
        let mut waiting = transaction.open_table(WAITING)?;
        for batch in batches() {
            expire(&mut sums, batch)?;
            let mut callers = 0;
            for entry in &batch.entries {
                let key = key(batch.period, entry.table, &entry.field);
                match (entry.table, batch.callers) {
                    (SumsTable::Names, _) => {
                        sums.insert(key.as_slice(), pack(&entry.sums).as_slice())?;
                    }
                    (SumsTable::Callers, CallersKept::All) => {
                        let table = if are_many { &mut waiting } else { &mut sums };
                        add(table, &key, &entry.sums)?;
                    }
                    (SumsTable::Callers, CallersKept::Busiest) => {
                        callers += u64::from(add(&mut sums, &key, &entry.sums)?);
                    }
                    (SumsTable::Totals | SumsTable::Nameless | SumsTable::Others, _) => {
                        add(&mut sums, &key, &entry.sums)?;
                    }
                }
            }
            if callers != 0 {
                count(&mut sums, batch.period, callers)?;
            }
        }
    }
    transaction.commit()?;
    add_waiting(database)
}

/// Counts new callers of a period, and sums all except the busiest if there are too many.
fn count(sums: &mut Sums<'_>, period: SumsPeriod, new: u64) -> Result<(), redb::Error> {
    let count = key_in(period, COUNT, "");
    let known = sums.get(count.as_slice())?.map(|known| unpack(known.value()));
    let known = known.and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    let mut callers = known + new;
    if CALLERS_MAX < callers {
        let mut all = fields(sums, period, SumsTable::Callers)?;
        all.sort_by_cached_key(|entry| std::cmp::Reverse(weight(&entry.sums)));
        callers = 0;
        for (rank, SumsEntry { field, sums: text, .. }) in all.into_iter().enumerate() {
            if rank < CALLERS_KEPT {
                callers += 1;
                continue;
            }
            sums.remove(key(period, SumsTable::Callers, &field).as_slice())?;
            for (name, row) in rows_of(&text) {
                let key = key(period, SumsTable::Others, name);
                add(sums, &key, &format!("={row}"))?;
            }
        }
    }
    sums.insert(count.as_slice(), pack(&callers.to_string()).as_slice())?;
    Ok(())
}

/// Deletes expired periods when a new one begins.
fn expire(sums: &mut Sums<'_>, batch: &SumsBatch) -> Result<(), redb::Error> {
    let from = |number: u64| -> FieldKey { key_in(SumsPeriod { number, ..batch.period }, 0, "") };
    let (first, oldest) = (from(0), from(batch.oldest));
    let old = first.as_slice()..oldest.as_slice();
    if sums.range::<&[u8]>(old.clone())?.next().is_some() {
        sums.retain_in::<&[u8], _>(old, |_, _| false)?;
    }
    Ok(())
}
