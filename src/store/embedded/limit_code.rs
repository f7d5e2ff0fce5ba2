//! Limits as bytes, for records in a file: as much of a limit as its state needs until a charge brings the policy's own.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::tz::TimeZone;

use super::byte_code::{Reader, push_bytes, push_number};
use crate::limit::{
    Algorithm, Bucket, Calendar, CalendarUnit, Fixed, Limit, LimitName, Sliding, WINDOW_MS_MAX,
};

/// Limits that records share; more have one each.
const SHARED_MAX: usize = 10_000;

/// Codes of algorithms in the file: they must never change. A calendar's is that of its unit.
const SLIDING: u64 = 1;
const FIXED: u64 = 2;
const BUCKET: u64 = 3;
const TOTAL: u64 = 4;

/// Codes of calendar units.
const UNITS: [(u64, CalendarUnit); 6] = [
    (10, CalendarUnit::Minute),
    (11, CalendarUnit::Hour),
    (12, CalendarUnit::Day),
    (13, CalendarUnit::Week),
    (14, CalendarUnit::Month),
    (15, CalendarUnit::Year),
];

/// Adds a limit: algorithm, amount, tag, domain and label.
pub fn push_limit(bytes: &mut Vec<u8>, limit: &Limit) {
    match limit.algorithm() {
        Algorithm::Sliding(sliding) => {
            push_number(bytes, SLIDING);
            push_number(bytes, sliding.window_ms());
        }
        Algorithm::Fixed(fixed) => {
            push_number(bytes, FIXED);
            push_number(bytes, fixed.window_ms());
        }
        Algorithm::Bucket(bucket) => {
            push_number(bytes, BUCKET);
            push_number(bytes, bucket.window_ms());
            push_number(bytes, bucket.burst());
        }
        Algorithm::Calendar(calendar) => {
            let unit = calendar.unit();
            let code = UNITS.iter().find(|(_, known)| *known == unit).map_or(0, |(code, _)| *code);
            push_number(bytes, code);
            push_bytes(bytes, calendar.zone_name().as_bytes());
        }
        Algorithm::Total => push_number(bytes, TOTAL),
    }
    push_number(bytes, limit.amount());
    push_bytes(bytes, limit.tag().as_bytes());
    let (domain, label) = match limit.name() {
        Some(name) => (&*name.domain, &*name.label),
        None => ("", ""),
    };
    push_bytes(bytes, domain.as_bytes());
    push_bytes(bytes, label.as_bytes());
}

/// The limits of records that are being read, so that many records share one.
#[derive(Debug, Default)]
pub struct Limits(HashMap<Box<[u8]>, Arc<Limit>>);

impl Limits {
    /// The limit of these bytes.
    pub fn read(&mut self, bytes: &[u8]) -> Option<Arc<Limit>> {
        if let Some(known) = self.0.get(bytes) {
            return Some(known.clone());
        }
        let limit = Arc::new(read_limit(&mut Reader(bytes))?);
        if self.0.len() < SHARED_MAX {
            self.0.insert(bytes.into(), limit.clone());
        }
        Some(limit)
    }
}

fn read_limit(reader: &mut Reader<'_>) -> Option<Limit> {
    let code = reader.number()?;
    let mut window_ms = || reader.number().filter(|ms| (1..=WINDOW_MS_MAX).contains(ms));
    let limit = match code {
        SLIDING => {
            let window_ms = window_ms()?;
            let amount = reader.number()?;
            Limit::new(amount, Algorithm::Sliding(Sliding::new(window_ms, amount)))
        }
        FIXED => {
            let fixed = Fixed::new(window_ms()?);
            Limit::new(reader.number()?, Algorithm::Fixed(fixed))
        }
        BUCKET => {
            let window_ms = window_ms()?;
            let (burst, amount) = (reader.number()?, reader.number()?);
            Limit::new(amount, Algorithm::Bucket(Bucket::new(amount, window_ms, burst)?))
        }
        TOTAL => Limit::new(reader.number()?, Algorithm::Total),
        code => {
            let (_, unit) = UNITS.iter().find(|(known, _)| *known == code)?;
            // A time zone that this system does not know has the periods of the policy from the first charge on.
            let zone = TimeZone::get(reader.text()?).unwrap_or(TimeZone::UTC);
            Limit::new(reader.number()?, Algorithm::Calendar(Calendar::new(*unit, zone)))
        }
    };
    let limit = match reader.text()?.strip_prefix(&**limit.tag())? {
        "" => limit,
        mark => limit.marked(mark),
    };
    let (domain, label) = (reader.text()?, reader.text()?);
    if domain.is_empty() && label.is_empty() {
        return Some(limit);
    }
    Some(limit.named(Arc::new(LimitName { domain: domain.into(), label: label.into() })))
}
