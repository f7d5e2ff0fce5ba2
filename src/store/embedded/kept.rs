//! What the embedded store keeps in a record beside the states of limits: marks of retries, corrections, and what is spent of
//! bonuses.

use std::sync::Arc;

use smallvec::SmallVec;

use crate::limit::{BonusUse, Hits, is_lasting};
use crate::store::CORRECTION_LIFE_MS;

/// The mark of a charge on one limit under the idempotency key of a request.
#[derive(Debug)]
pub struct KeptMark {
    pub(super) limit_tag: Arc<str>,
    pub(super) hits: Hits,
    /// Those that were taken, where they may be taken in part.
    pub granted: u64,
    /// Hits among them that were taken of bonuses, by id; mostly none. Only a charge that several shards share is undone, so no
    /// file has them.
    pub bonuses: Box<[(Arc<str>, u64)]>,
    /// The attempts at the request that have met it, but for those that were refused elsewhere.
    pub attempts: SmallVec<[u64; 1]>,
    pub retries: u16,
    /// Its hits are of one bonus alone. What is spent of that outlives the process whatever the window is, and so does the mark.
    pub is_of_bonus: bool,
    /// The hits count, but all attempts were refused so far.
    pub is_refused: bool,
    pub until_ms: u64,
}

/// The last correction of the count of one limit.
#[derive(Debug)]
pub struct Correction {
    pub(super) limit_tag: Arc<str>,
    /// When it was made.
    pub at_ms: u64,
    /// What it added or took.
    pub hits: Hits,
}

/// What has been spent of one bonus on one limit.
#[derive(Debug)]
pub struct BonusSpent {
    pub(super) limit_tag: Arc<str>,
    pub(super) id: Arc<str>,
    pub spent: KeptBonus,
    /// When the count is forgotten: the latest end that the bonus has had.
    pub until_ms: u64,
}

/// What is kept of a bonus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeptBonus {
    /// How much is spent of one that comes once.
    Once(u64),
    /// Of one that recurs.
    Recurring(BonusUse),
}

impl KeptBonus {
    pub(super) fn is_empty(self) -> bool {
        self == Self::Once(0)
    }
}

impl KeptMark {
    /// Whether it outlives the process.
    pub fn is_lasting(&self) -> bool {
        self.is_of_bonus || is_lasting(&self.limit_tag)
    }

    /// Whether so many hits are others than those of the mark.
    pub fn differs(&self, hits: Hits) -> bool {
        are_different(self.hits, hits)
    }
}

impl Correction {
    /// Whether so many hits are others than those of the correction. None that come back are none that are spent.
    pub fn differs(&self, hits: Hits) -> bool {
        (self.hits.amount(), hits.amount()) != (0, 0) && are_different(self.hits, hits)
    }

    pub(super) fn until_ms(&self) -> u64 {
        self.at_ms.saturating_add(CORRECTION_LIFE_MS)
    }
}

fn are_different(one: Hits, other: Hits) -> bool {
    let spends = |hits| matches!(hits, Hits::Spend(_));
    (spends(one), one.amount()) != (spends(other), other.amount())
}
