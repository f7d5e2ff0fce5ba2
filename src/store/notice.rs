//! What a store reports of a charge beside its decision: thresholds of its limit that it crossed.

use crate::limit::Crossed;

/// A report on one charge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Which of the batch's charges.
    pub charge: usize,
    /// Thresholds of its limit that it crossed, none of which was reported before in this window.
    pub crossed: Crossed,
}
