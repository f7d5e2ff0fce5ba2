//! What the embedded store reports of charges beside their decisions, and keeps beside the states for that: the thresholds that
//! were told, and the graces that have begun. `redis/special.lua` mirrors this file.

use super::record::Record;
use super::{Batch, Charge, Notice};
use crate::clock::Timestamp;
use crate::limit::{Crossed, Limit};

/// The thresholds that a charge has crossed, if any, where `used` was in use before of its `limit`
/// as it is now; and keeps the grace that it has begun. The
/// counter is a record and the place of the state in it, after the charge.
pub fn report_charge(
    (record, place): (&mut Record, usize),
    (charge, limit, used): (&Charge, &Limit, u64),
    now: Timestamp,
) -> Option<Crossed> {
    let tag = limit.tag();
    if charge.grace().is_some() {
        let begun = limit.breach(record.grace(tag), &record.states[place].state, now);
        record.keep_grace(tag, begun);
    }
    charge.thresholds()?;
    let state = &record.states[place].state;
    let (crossed, told) = limit.tell((&record.told(tag), used), state, now);
    let expiry_ms = charge.limit.told_expiry_ms(&told, state);
    record.keep_told(tag, told, expiry_ms);
    (!crossed.is_none()).then_some(crossed)
}

/// Adds the graces by which more than a limit is in use. The counters are the records and the place of each charge's state.
pub fn report_graces(
    batch: &Batch,
    (records, places): (&[Record], &[usize]),
    notices: &mut Vec<Notice>,
    now: Timestamp,
) {
    for (index, (charge, place)) in batch.charges.iter().zip(places).enumerate() {
        let record = &records[charge.key_index];
        let Some(grace) = charge.grace() else { continue };
        let Some(begun) = record.grace(charge.limit.tag()) else { continue };
        let ends_ms = grace.ends_ms(begun);
        let used = charge.limit.used(&record.states[*place].state, now);
        if charge.limit.capacity() < used && now.as_ms() < ends_ms {
            let grace_until = Some(Timestamp::from_ms(ends_ms));
            match notices.iter_mut().find(|notice| notice.charge == index) {
                Some(notice) => notice.grace_until = grace_until,
                None => {
                    notices.push(Notice {
                        charge: index,
                        crossed: Crossed::default(),
                        grace_until,
                    });
                }
            }
        }
    }
    notices.sort_unstable_by_key(|notice| notice.charge);
}
