//! The settings of an `estimate`: hits that a request holds beside those that it spends, until its cost is debited.

use std::time::Duration;

/// The settings of a limit's `estimate`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Estimate {
    /// What the limit counts: hits, or hundredths of a currency. At least 1 without `stated`.
    pub hits: u64,
    /// What requests state in place of `hits`.
    pub stated: Option<StatedEstimate>,
    /// How long they are held if no debit settles them.
    pub life: Duration,
    pub at: EstimateAt,
}

/// An entry of requests that says how many hits they will probably cost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatedEstimate {
    /// The key of the entry.
    pub key: Box<str>,
    /// The most that is held, whatever it says.
    pub max: u64,
}

/// Which requests hold an estimate. Those that name other hits are debits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EstimateAt {
    /// Those that name no hits.
    #[default]
    Request,
    /// Peeks: those that name 0 hits.
    Peek,
}

impl Estimate {
    /// The most that one request holds.
    pub fn most(&self) -> u64 {
        self.stated.as_ref().map_or(self.hits, |stated| stated.max)
    }
}

impl EstimateAt {
    /// As policies name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Peek => "peek",
        }
    }
}
