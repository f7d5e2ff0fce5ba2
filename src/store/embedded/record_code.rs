//! Records as bytes, for a file from which the embedded store's counters come back after a restart.
//!
//! A record is a byte VERSION, then parts, and a checksum of the key and all of it. A part is the number of its kind, its
//! length, and a body that begins with its limit or the limit's tag. A part of an unknown kind is skipped, so a kind may be
//! added without a new VERSION. Only parts of lasting limits are written ([`is_lasting`]), and what is spent of bonuses.

use std::sync::Arc;

use smallvec::SmallVec;

use super::byte_code::{Reader, push_bytes, push_number, push_optional};
use super::kept::{BonusSpent, Correction, KeptBonus, KeptMark};
use super::limit_code::{Limits, push_limit};
use super::record::{Entry, Extra, GraceOf, HoldingsOf, Record, ReportedOf, Seen};
use crate::limit::{
    BonusUse, GraceBegun, Held, Hits, Holdings, ReportedThreshold, State, is_lasting,
};
use crate::store::IdempotencyToken;

const VERSION: u8 = 1;

/// Bytes of the checksum.
const CHECKSUM_LEN: usize = 4;

/// Kinds of parts in the file: they must never change.
const STATE: u64 = 1;
const LEVEL: u64 = 2;
const BONUS: u64 = 3;
const SEEN: u64 = 4;
const TOLD: u64 = 5;
const MARK: u64 = 6;
const GRACE: u64 = 7;
const CORRECTION: u64 = 8;
const HELD: u64 = 9;
const RECURRING: u64 = 10;

impl Record {
    /// Whether any part of it is written.
    pub fn is_lasting(&self) -> bool {
        let states = self.states.iter().map(|entry| entry.limit.tag());
        let mut tags = states.chain(self.extra.iter().flat_map(|extra| extra.tags()));
        let has_spent = |extra: &Extra| {
            !extra.bonuses.is_empty() || extra.marks.iter().any(KeptMark::is_lasting)
        };
        self.extra.as_deref().is_some_and(has_spent) || tags.any(|tag| is_lasting(tag))
    }
}

/// Writes the parts of a record that belong to lasting limits, and what is spent of bonuses. False: there is none, and nothing to write.
pub fn encode(key: &str, record: &Record, bytes: &mut Vec<u8>) -> bool {
    bytes.clear();
    bytes.push(VERSION);
    let mut body = Vec::new();
    for entry in record.states.iter().filter(|entry| is_lasting(entry.limit.tag())) {
        let mut limit = Vec::new();
        push_limit(&mut limit, &entry.limit);
        push_bytes(&mut body, &limit);
        push_optional(&mut body, entry.expiry_ms);
        entry.state.numbers().into_iter().for_each(|number| push_number(&mut body, number));
        push_part(bytes, STATE, &mut body);
    }
    if let Some(extra) = &record.extra {
        extra.push_parts(bytes, &mut body);
    }
    if bytes.len() == 1 {
        return false;
    }
    if 0 < record.level() {
        push_number(&mut body, record.level().into());
        push_part(bytes, LEVEL, &mut body);
    }
    bytes.extend(checksum(key, bytes).to_le_bytes());
    true
}

/// Reads a record. None if it is damaged, or of a later VERSION.
pub fn decode(key: &str, bytes: &[u8], limits: &mut Limits) -> Option<Record> {
    let (bytes, sum) = bytes.split_last_chunk::<CHECKSUM_LEN>()?;
    if u32::from_le_bytes(*sum) != checksum(key, bytes) {
        return None;
    }
    let (&VERSION, parts) = bytes.split_first()? else { return None };
    let mut record = Record::default();
    let mut reader = Reader(parts);
    while !reader.0.is_empty() {
        let kind = reader.number()?;
        read_part(kind, &mut Reader(reader.bytes()?), (&mut record, limits))?;
    }
    Some(record)
}

fn push_part(bytes: &mut Vec<u8>, kind: u64, body: &mut Vec<u8>) {
    push_number(bytes, kind);
    push_bytes(bytes, body);
    body.clear();
}

impl Extra {
    fn tags(&self) -> impl Iterator<Item = &Arc<str>> {
        let corrections = self.corrections.iter().map(|correction| &correction.limit_tag);
        let reported = self.reported.iter().map(|reported| &reported.limit_tag);
        let graces = self.graces.iter().map(|grace| &grace.limit_tag);
        let seen = self.seen.iter().map(|seen| &seen.limit_tag);
        let holdings = self.holdings.iter().map(|of| &of.limit_tag);
        let seen = seen.chain(holdings);
        corrections.chain(reported).chain(graces).chain(seen)
    }

    fn push_parts(&self, bytes: &mut Vec<u8>, body: &mut Vec<u8>) {
        for bonus in &self.bonuses {
            push_bytes(body, bonus.limit_tag.as_bytes());
            push_bytes(body, bonus.id.as_bytes());
            push_number(body, bonus.until_ms);
            let kind = match bonus.spent {
                KeptBonus::Once(spent) => {
                    push_number(body, spent);
                    BONUS
                }
                KeptBonus::Recurring(BonusUse { period, carried, spent, expired }) => {
                    [period, carried, spent, expired]
                        .into_iter()
                        .for_each(|number| push_number(body, number));
                    RECURRING
                }
            };
            push_part(bytes, kind, body);
        }
        for reported in self.reported.iter().filter(|reported| is_lasting(&reported.limit_tag)) {
            push_bytes(body, reported.limit_tag.as_bytes());
            push_optional(body, reported.expiry_ms);
            for threshold in &reported.reported {
                push_number(body, threshold.percent.into());
                push_number(body, threshold.until_ms);
                push_number(body, threshold.fell.into());
            }
            push_part(bytes, TOLD, body);
        }
        for grace in self.graces.iter().filter(|grace| is_lasting(&grace.limit_tag)) {
            push_bytes(body, grace.limit_tag.as_bytes());
            push_number(body, grace.begun.since_ms);
            push_optional(body, grace.begun.again_ms);
            push_part(bytes, GRACE, body);
        }
        for of in self.holdings.iter().filter(|of| is_lasting(&of.limit_tag)) {
            push_bytes(body, of.limit_tag.as_bytes());
            for held in of.holdings.iter() {
                push_number(body, held.id);
                push_number(body, held.hits);
                push_number(body, held.until_ms);
            }
            push_part(bytes, HELD, body);
        }
        self.push_once_parts(bytes, body);
    }

    /// What makes charges count once.
    fn push_once_parts(&self, bytes: &mut Vec<u8>, body: &mut Vec<u8>) {
        for seen in self.seen.iter().filter(|seen| is_lasting(&seen.limit_tag)) {
            push_bytes(body, seen.limit_tag.as_bytes());
            push_number(body, seen.token.by);
            push_number(body, seen.token.number);
            push_number(body, seen.until_ms);
            push_part(bytes, SEEN, body);
        }
        for mark in self.marks.iter().filter(|mark| mark.is_lasting()) {
            push_bytes(body, mark.limit_tag.as_bytes());
            push_hits(body, mark.hits);
            push_number(body, mark.granted);
            push_number(body, mark.retries.into());
            push_number(body, mark.is_refused.into());
            push_number(body, mark.until_ms);
            mark.attempts.iter().for_each(|attempt| push_number(body, *attempt));
            push_part(bytes, MARK, body);
        }
        for correction in self.corrections.iter().filter(|known| is_lasting(&known.limit_tag)) {
            push_bytes(body, correction.limit_tag.as_bytes());
            push_number(body, correction.at_ms);
            push_hits(body, correction.hits);
            push_part(bytes, CORRECTION, body);
        }
    }
}

/// Adds a part to a record. None: it is invalid.
fn read_part(
    kind: u64,
    reader: &mut Reader<'_>,
    (record, limits): (&mut Record, &mut Limits),
) -> Option<()> {
    match kind {
        STATE => {
            let limit = limits.read(reader.bytes()?)?;
            let expiry_ms = reader.optional()?;
            let state = State::of_numbers(limit.algorithm(), &read_all(reader)?)?;
            record.states.push(Entry { limit, state, expiry_ms });
        }
        LEVEL => record.set_level(reader.small()?),
        BONUS | RECURRING | TOLD | GRACE | HELD => {
            read_extra(kind, reader, record.extra.get_or_insert_default())?;
        }
        SEEN | MARK | CORRECTION => {
            read_once(kind, reader, record.extra.get_or_insert_default())?;
        }
        _ => {}
    }
    Some(())
}

fn read_extra(kind: u64, reader: &mut Reader<'_>, extra: &mut Extra) -> Option<()> {
    let limit_tag = reader.text()?.into();
    match kind {
        BONUS => {
            let (id, until_ms) = (reader.text()?.into(), reader.number()?);
            let spent = KeptBonus::Once(reader.number()?);
            extra.bonuses.push(BonusSpent { limit_tag, id, spent, until_ms });
        }
        RECURRING => {
            let (id, until_ms) = (reader.text()?.into(), reader.number()?);
            let spent = KeptBonus::Recurring(BonusUse {
                period: reader.number()?,
                carried: reader.number()?,
                spent: reader.number()?,
                expired: reader.number()?,
            });
            extra.bonuses.push(BonusSpent { limit_tag, id, spent, until_ms });
        }
        TOLD => {
            let expiry_ms = reader.optional()?;
            let mut reported = SmallVec::new();
            while !reader.0.is_empty() {
                let (percent, until_ms) = (reader.small()?, reader.number()?);
                let fell = reader.number()? != 0;
                reported.push(ReportedThreshold { percent, until_ms, fell });
            }
            extra.reported.push(ReportedOf { limit_tag, reported, expiry_ms });
        }
        GRACE => {
            let begun = GraceBegun { since_ms: reader.number()?, again_ms: reader.optional()? };
            extra.graces.push(GraceOf { limit_tag, begun });
        }
        _ => {
            let mut holdings = Holdings::default();
            while !reader.0.is_empty() {
                let (id, hits) = (reader.number()?, reader.number()?);
                holdings.add(Held { id, hits, until_ms: reader.number()? });
            }
            extra.holdings.push(HoldingsOf { limit_tag, holdings });
        }
    }
    Some(())
}

fn read_once(kind: u64, reader: &mut Reader<'_>, extra: &mut Extra) -> Option<()> {
    let limit_tag = reader.text()?.into();
    match kind {
        SEEN => {
            let token = IdempotencyToken { by: reader.number()?, number: reader.number()? };
            extra.seen.push(Seen { limit_tag, token, until_ms: reader.number()? });
        }
        MARK => extra.marks.push(KeptMark {
            // Marks of other limits are not written.
            is_of_bonus: !is_lasting(&limit_tag),
            limit_tag,
            hits: read_hits(reader)?,
            granted: reader.number()?,
            bonuses: Box::default(),
            retries: reader.small()?,
            is_refused: reader.number()? != 0,
            until_ms: reader.number()?,
            attempts: read_all(reader)?.into(),
        }),
        _ => {
            let (at_ms, hits) = (reader.number()?, read_hits(reader)?);
            extra.corrections.push(Correction { limit_tag, at_ms, hits });
        }
    }
    Some(())
}

fn push_hits(bytes: &mut Vec<u8>, hits: Hits) {
    let (sign, amount) = match hits {
        Hits::Spend(amount) => (0, amount),
        Hits::GiveBack(amount) => (1, amount),
    };
    push_number(bytes, sign);
    push_number(bytes, amount);
}

fn read_hits(reader: &mut Reader<'_>) -> Option<Hits> {
    let sign = reader.number()?;
    let amount = reader.number()?;
    Some(if sign == 0 { Hits::Spend(amount) } else { Hits::GiveBack(amount) })
}

/// All numbers that are left.
fn read_all(reader: &mut Reader<'_>) -> Option<Vec<u64>> {
    let mut numbers = Vec::new();
    while !reader.0.is_empty() {
        numbers.push(reader.number()?);
    }
    Some(numbers)
}

/// FNV-1a of the key and the bytes: any change of one byte is found.
fn checksum(key: &str, bytes: &[u8]) -> u32 {
    let all = key.bytes().chain(bytes.iter().copied());
    all.fold(0x811c_9dc5, |sum: u32, byte| (sum ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limit::{Algorithm, Fixed, Limit};

    #[test]
    fn a_part_of_a_later_version_is_skipped_and_a_damaged_record_is_none() {
        let limit = Arc::new(Limit::new(10, Algorithm::Fixed(Fixed::new(86_400_000))));
        let mut record = Record::default();
        let place = record.place(&limit);
        let now = crate::clock::Timestamp::from_ms(1_750_000_000_000);
        limit.charge(&mut record.states[place].state, Hits::Spend(3), now);
        let mut bytes = Vec::new();
        assert!(encode("key", &record, &mut bytes));
        let used = |bytes: &[u8]| {
            let record = decode("key", bytes, &mut Limits::default())?;
            Some(limit.used(&record.states[0].state, now))
        };
        assert_eq!(used(&bytes), Some(3));
        let mut later = bytes[..bytes.len() - CHECKSUM_LEN].to_vec();
        push_part(&mut later, 1_000, &mut b"anything".to_vec());
        later.extend(checksum("key", &later).to_le_bytes());
        assert_eq!(used(&later), Some(3));
        assert!(decode("kez", &bytes, &mut Limits::default()).is_none());
        for index in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[index] ^= 4;
            assert_eq!(used(&damaged), None, "{index}");
            assert_eq!(used(&bytes[..index]), None, "{index}");
        }
    }

    /// Also what has a valid checksum is read without trust.
    #[test]
    fn no_bytes_are_trusted() {
        let mut random = 7_u64;
        for len in 0..2_000 {
            let mut bytes = vec![VERSION];
            for _ in 0..len % 60 {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                bytes.push((random >> 59) as u8);
            }
            bytes.extend(checksum("key", &bytes).to_le_bytes());
            decode("key", &bytes, &mut Limits::default());
        }
    }
}
