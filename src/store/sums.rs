//! Sums by period that several processes add to: numbers under names, each addition made once.
//!
//! A period is a minute, an hour or a day. It has a few tables, and a table fields, each with sums as text: a letter and a
//! number for each, such as `a12b3T54000`. Small letters are added up; of capitals the greatest number stays. What the
//! letters and fields mean is the caller's business.

use std::fmt;
use std::time::Duration;

use super::StoreError;

/// The largest answer to a question, in bytes of its fields and sums.
pub const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// A length of time: its kind as a letter, and its number since the epoch.
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
    /// What the names of sums stand for. Not added up: the last one stays.
    Names,
    /// Sums over all callers.
    Totals,
    /// Sums of what has no caller.
    Nameless,
    /// Sums of the callers beyond the busiest, where those alone are kept.
    Others,
    /// By caller: several sums each, each behind its name and `=`, with spaces between them.
    Callers,
}

/// Sums under a field of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SumsEntry {
    pub table: SumsTable,
    pub field: String,
    pub sums: String,
}

/// Which callers of a period are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallersKept {
    All,
    /// The busiest by their sums `a`; those of the rest are added to [`SumsTable::Others`] by their names.
    Busiest,
}

/// Additions to one period, made all together and once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SumsBatch {
    pub period: SumsPeriod,
    /// Greater than that of each batch of this process for the period before.
    pub number: u64,
    /// How long the period is kept from its first addition on.
    pub life: Duration,
    /// The number of the oldest period of the kind that is kept.
    pub oldest: u64,
    /// Whether no batch follows for now: a file is synced then.
    pub is_last: bool,
    pub callers: CallersKept,
    pub entries: Vec<SumsEntry>,
}

/// What became of a batch that is in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SumsAdded {
    /// It is the first one of this process for its period.
    First,
    Later,
    /// It was made before; its answer was lost.
    Before,
}

/// Which callers a question is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallersAsked {
    /// None in particular: the totals are asked for.
    Totals,
    /// Each of them, those without a name and the others included.
    Each,
    One(String),
}

/// A question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SumsQuestion {
    pub periods: Vec<SumsPeriod>,
    /// Periods whose names are told.
    pub names: Vec<SumsPeriod>,
    pub callers: CallersAsked,
}

/// Its answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SumsAnswer {
    /// Only of periods that have any.
    pub periods: Vec<(SumsPeriod, Vec<SumsEntry>)>,
    /// Names, and what they stand for.
    pub names: Vec<(String, String)>,
}

/// Why sums were not told.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SumsError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the sums asked for have more than {} MiB", ANSWER_BYTES_MAX / (1024 * 1024))]
    TooMany,
}
