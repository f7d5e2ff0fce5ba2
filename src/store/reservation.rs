//! What a charge does with the reservations of its limit: hits that are held for an operation until it is settled.

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
}

impl Reservation {
    /// The id, if it is about one reservation.
    pub fn id(self) -> Option<u64> {
        match self {
            Self::Count => None,
            Self::Hold { id, .. }
            | Self::Settle { id }
            | Self::Extend { id, .. }
            | Self::Release { id } => Some(id),
        }
    }

    /// For how many milliseconds it holds hits from now on; 0 if it doesn't.
    pub fn life_ms(self) -> u32 {
        match self {
            Self::Hold { life_ms, .. } | Self::Extend { life_ms, .. } => life_ms,
            Self::Count | Self::Settle { .. } | Self::Release { .. } => 0,
        }
    }
}
