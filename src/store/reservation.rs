//! What a charge does with the reservations of its limit: hits that are held for an operation until it is settled.

use crate::limit::AMOUNT_MAX;

/// Reservations that hold hits of one limit under one key. One more is refused until one of them ends.
pub const HELD_MAX: usize = 100;

/// What a charge does with the reservations of its limit. Those that have not ended count as used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reservation {
    /// Nothing besides.
    Count,
    /// Holds its hits under that id for so many milliseconds, instead of spending them.
    Hold { id: u64, life_ms: u32 },
    /// Ends what is held under that id, and spends its hits instead; hits to give back are those held that it does not spend.
    Settle { id: u64 },
    /// Has what is held under that id lapse so many milliseconds from now on, not sooner than before. It has no hits.
    Extend { id: u64, life_ms: u32 },
    /// Ends what is held under that id, because the request was refused elsewhere. It gives hits back.
    Release { id: u64 },
    /// Spends its hits, and holds so many more as estimates of what the operation will cost, of `each` so many. They lapse
    /// after so many milliseconds, or at most a sixtieth of them later.
    Estimate { hits: u64, each: u64, life_ms: u32 },
    /// Spends its hits, and ends so many held hits of the oldest estimates; 0 for the oldest estimate, whatever its size.
    SettleEstimate { hits: u64 },
    /// Ends that many estimates of so many hits, the youngest first, because their requests were refused elsewhere. It gives
    /// hits back.
    ReleaseEstimates { hits: u64, count: u64 },
}

impl Reservation {
    /// The id, if it is about one reservation.
    pub fn id(self) -> Option<u64> {
        match self {
            Self::Count
            | Self::Estimate { .. }
            | Self::SettleEstimate { .. }
            | Self::ReleaseEstimates { .. } => None,
            Self::Hold { id, .. }
            | Self::Settle { id }
            | Self::Extend { id, .. }
            | Self::Release { id } => Some(id),
        }
    }

    /// For how many milliseconds it holds hits from now on; 0 if it doesn't.
    pub fn life_ms(self) -> u32 {
        match self {
            Self::Hold { life_ms, .. }
            | Self::Extend { life_ms, .. }
            | Self::Estimate { life_ms, .. } => life_ms,
            Self::Count
            | Self::Settle { .. }
            | Self::Release { .. }
            | Self::SettleEstimate { .. }
            | Self::ReleaseEstimates { .. } => 0,
        }
    }

    /// The hits that it holds beside those that it spends.
    pub fn estimated(self) -> u64 {
        match self {
            Self::Estimate { hits, .. } => hits,
            _ => 0,
        }
    }

    /// Whether it makes, settles or releases an estimate.
    pub fn is_of_estimate(self) -> bool {
        matches!(
            self,
            Self::Estimate { .. } | Self::SettleEstimate { .. } | Self::ReleaseEstimates { .. }
        )
    }

    /// The same where hits count so many times.
    pub fn times(self, times: u64) -> Self {
        let of = |hits: u64| hits.saturating_mul(times).min(AMOUNT_MAX);
        match self {
            Self::Estimate { hits, each, life_ms } => {
                Self::Estimate { hits: of(hits), each: of(each), life_ms }
            }
            Self::SettleEstimate { hits } => Self::SettleEstimate { hits: of(hits) },
            Self::ReleaseEstimates { hits, count } => {
                Self::ReleaseEstimates { hits: of(hits), count }
            }
            other => other,
        }
    }

    /// What gives back what it did for a request that was refused elsewhere.
    pub fn undone(self) -> Self {
        match self {
            Self::Hold { id, .. } => Self::Release { id },
            Self::Estimate { hits, each, .. } => {
                Self::ReleaseEstimates { hits: each, count: hits.checked_div(each).unwrap_or(0) }
            }
            _ => Self::Count,
        }
    }

    /// Both, if they undo the same; else the first.
    pub fn joined(self, other: Self) -> Self {
        match (self, other) {
            (
                Self::ReleaseEstimates { hits, count },
                Self::ReleaseEstimates { hits: same, count: more },
            ) if hits == same => Self::ReleaseEstimates { hits, count: count.saturating_add(more) },
            (first, _) => first,
        }
    }
}
