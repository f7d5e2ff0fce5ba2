//! What a store reports of a charge beside its decision: thresholds of its limit that it crossed, a grace that has begun, and
//! hits that reservations hold.

use crate::clock::Timestamp;
use crate::limit::Crossed;

/// A report on one charge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Which of the batch's charges.
    pub charge: usize,
    /// Thresholds of its limit that it crossed, none of which was reported before in this window.
    pub crossed: Crossed,
    /// More than its limit is in use, by a grace that ends then.
    pub grace_until: Option<Timestamp>,
    /// Hits that a grace would let pass beyond what remains: told during it, and to charges that spend nothing.
    pub grace_left: u64,
    /// Hits that reservations hold of its limit, for charges that count them.
    pub held: u64,
    /// Hits that it has spent by settling a reservation.
    pub settled: u64,
}

impl Notice {
    /// Nothing to report on a charge yet.
    pub fn of(charge: usize) -> Self {
        Self {
            charge,
            crossed: Crossed::default(),
            grace_until: None,
            grace_left: 0,
            held: 0,
            settled: 0,
        }
    }

    /// The report on a charge among these, which it joins if there is none.
    pub fn of_charge(notices: &mut Vec<Self>, charge: usize) -> &mut Self {
        let place = notices.iter().position(|notice| notice.charge == charge);
        let place = place.unwrap_or_else(|| {
            notices.push(Self::of(charge));
            notices.len() - 1
        });
        &mut notices[place]
    }
}
