//! What a store reports of a charge beside its decision: thresholds of its limit that it crossed, a grace that has begun,
//! hits that reservations hold, and how its bonuses stand.

use crate::clock::Timestamp;
use crate::limit::Crossed;

/// How a bonus that is valid stands after the request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BonusStand {
    /// Hits that were carried into its present period.
    pub carried: u64,
    /// Hits of it that are spent, with those.
    pub spent: u64,
    /// Hits that were left of the period before, and are gone.
    pub expired: u64,
    /// Hits of it that this charge has spent.
    pub taken: u64,
}

/// A report on one charge.
#[derive(Clone, Debug, PartialEq, Eq)]
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
    /// How its bonuses stand that are valid, in their order, if it was asked; mostly nothing.
    pub bonuses: Vec<BonusStand>,
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
            bonuses: Vec::new(),
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
