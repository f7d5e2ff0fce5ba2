//! The record of a reservation that was made over HTTP: what it is for, so that its id is enough to settle it.

use crate::clock::Timestamp;

/// Records of one caller.
pub const RECORDS_MAX: usize = 1_000;

/// What tells a record from others.
#[derive(Clone, Copy, Debug)]
pub struct RecordKey<'a> {
    pub caller: &'a str,
    pub id: &'a str,
}

/// The record of a reservation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReservationRecord {
    /// Whatever its writer says of it.
    pub text: String,
    /// Until when it is kept.
    pub until: Timestamp,
}

/// What came of writing a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Written {
    Done,
    /// It was to be new, and this one is there.
    Known(ReservationRecord),
    /// The caller has too many.
    Full,
}
