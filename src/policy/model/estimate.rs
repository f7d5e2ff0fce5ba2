//! The settings of an `estimate`: hits that a request holds beside those that it spends, until its cost is debited.

use std::time::Duration;

/// The settings of a limit's `estimate`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Estimate {
    /// What the limit counts: hits, or hundredths of a currency. At least 1.
    pub hits: u64,
    /// How long they are held if no debit settles them.
    pub life: Duration,
    pub at: EstimateAt,
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

impl EstimateAt {
    /// As policies name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Peek => "peek",
        }
    }
}
