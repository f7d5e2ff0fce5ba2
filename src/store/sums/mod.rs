//! Sums by period that several processes add to: numbers with names, each addition made once.
//!
//! A period is a minute, an hour or a day. It has a few tables. The fields of a table have sums as text, each a letter
//! and a number, such as `a12b3T54000`. Lower-case letters are added; for capitals the largest number is kept. The
//! meaning of letters and fields is defined by the caller.

mod answer;
mod file;
mod merge;
mod packed;
mod store;
mod tables;
mod write;

use std::fmt;
use std::time::Duration;

use crc::{CRC_32_ISCSI, Crc};

use crate::store::StoreError;

pub use file::FileSums;
pub use store::SumsStore;

/// Maximum number of bytes of fields and sums that are read for an answer. They are not kept, so the bound is one of time.
pub const READ_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Number of places of callers.
pub const PLACES: u32 = 4_096;

const CRC: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);

/// A period: its kind as a letter, and its number since the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SumsPeriod {
    pub kind: char,
    pub number: u64,
}

impl fmt::Display for SumsPeriod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.kind, self.number)
    }
}

/// A table of a period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SumsTable {
    /// The meanings of the names of sums. Not added: the last one is kept.
    Names,
    /// Sums over all callers.
    Totals,
    /// Sums without a caller.
    Nameless,
    /// Sums of callers beyond the busiest, if only those are kept.
    Others,
    /// By caller: several sums, each after its name and `=`, separated by spaces.
    Callers,
}

/// Sums in a field of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SumsEntry {
    pub table: SumsTable,
    pub field: String,
    pub sums: String,
}

/// The callers of a period that are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallersKept {
    All,
    /// The busiest by their sums `a`; the sums of the others are added to [`SumsTable::Others`] by name.
    Busiest,
}

/// Additions to one period, made in one step and once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SumsBatch {
    pub period: SumsPeriod,
    /// Higher than that of every earlier batch of this process for the period.
    pub number: u64,
    /// Retention of the period, from its first addition on.
    pub life: Duration,
    /// The number of the oldest period of this kind that is kept.
    pub oldest: u64,
    /// Whether no batch follows for now: then a file is synced.
    pub is_last: bool,
    pub callers: CallersKept,
    /// A field of a table is there once at most. A store adds callers faster if they are in the order of their [`place`].
    pub entries: Vec<SumsEntry>,
}

/// The place of a caller, below [`PLACES`]: a store may keep callers with the same or close places together.
pub fn place(caller: &str) -> u32 {
    let sum = CRC.checksum(caller.as_bytes());
    sum % 64 * 64 + sum / 64 % 64
}

/// The result of adding a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SumsAdded {
    /// It is the first one of this process for its period.
    First,
    Later,
    /// It was added before; its answer was lost.
    Before,
}

/// The callers of a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallersAsked {
    /// The totals of all callers.
    Totals,
    /// Each caller, those without a name and the others included.
    Each,
    /// Those with these names, each once: a few, such as a page of them.
    Named(Vec<String>),
}

/// A question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SumsQuestion {
    pub periods: Vec<SumsPeriod>,
    /// Periods whose names are returned.
    pub names: Vec<SumsPeriod>,
    pub callers: CallersAsked,
}

/// Reads the answer to a question while it arrives.
pub trait SumsReader: Send + 'static {
    /// Reads the meaning of a name. All names come before the first sums.
    fn name(&mut self, name: &str, meaning: &str);

    /// Reads the sums in a field of a period's table. Fields of a table come in any order.
    ///
    /// # Errors
    /// [`SumsError::Full`]: the reader can't keep more.
    fn sums(
        &mut self,
        of: (SumsPeriod, SumsTable),
        field: &str,
        sums: &str,
    ) -> Result<(), SumsError>;
}

/// The bytes that were read for an answer.
#[derive(Debug, Default)]
pub struct BytesRead(usize);

impl BytesRead {
    /// Counts a field and its sums.
    ///
    /// # Errors
    /// If there are too many.
    pub fn count(&mut self, field: &str, sums: &str) -> Result<(), SumsError> {
        self.0 += field.len() + sums.len();
        if READ_BYTES_MAX < self.0 { Err(SumsError::TooMany) } else { Ok(()) }
    }
}

/// The reason that a question failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SumsError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the answer would need more than {} MiB of sums", READ_BYTES_MAX / (1024 * 1024))]
    TooMany,
    #[error("the answer would have too many groups")]
    Full,
}
