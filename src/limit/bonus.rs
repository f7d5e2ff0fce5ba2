//! Hits on top of a limit, until a day: spent only when the limit has none left.

use std::sync::Arc;

use crate::clock::Timestamp;

/// So many hits more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bonus {
    /// Tells it apart from other bonuses on the same counter.
    pub id: Arc<str>,
    /// How many hits it has in all; at most [`super::AMOUNT_MAX`].
    pub amount: u64,
    /// When it ends: the first instant at which it doesn't count.
    pub until: Timestamp,
}
