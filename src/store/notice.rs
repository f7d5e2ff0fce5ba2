//! What a store reports of a charge beside its decision: thresholds of its limit that it crossed, and a grace that has begun.

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
}
