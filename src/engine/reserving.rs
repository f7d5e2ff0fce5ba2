//! What the charges of a request do with reservations of their limits.

use crate::store::{Charge, Reservation};

/// What a charge does with reservations of its limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reserving {
    /// Nothing besides counting them, or not even that.
    #[default]
    None,
    /// It holds hits.
    Holds,
    /// It has hits held longer.
    Extends,
    /// It spends hits instead of those that were held.
    Settles,
}

impl Reserving {
    /// Of a charge.
    pub fn of(charge: &Charge) -> Self {
        match charge.reservation.as_deref() {
            None
            | Some(
                Reservation::Count
                | Reservation::Release { .. }
                | Reservation::Estimate { .. }
                | Reservation::SettleEstimate { .. }
                | Reservation::ReleaseEstimates { .. },
            ) => Self::None,
            Some(Reservation::Hold { .. }) => Self::Holds,
            Some(Reservation::Extend { .. }) => Self::Extends,
            Some(Reservation::Settle { .. }) => Self::Settles,
        }
    }

    /// Whether it belongs to a request that was counted when it made its reservation.
    pub fn follows(self) -> bool {
        matches!(self, Self::Extends | Self::Settles)
    }
}
