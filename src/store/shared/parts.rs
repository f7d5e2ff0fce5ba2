//! Hits that are taken in part by charges on several shards: all take as many as the shard has that has least.

use crate::policy::Mode;
use crate::store::{Batch, Outcome, PARTS_MAX};

/// Has the charges of each part get as many hits as the least of them, and returns how many each has taken too many; nothing if
/// none has.
pub fn settle_parts(batch: &Batch, joined: &mut Outcome) -> Vec<u64> {
    let mut grants = [u64::MAX; PARTS_MAX as usize + 1];
    let both = || batch.charges.iter().enumerate().filter(|(_, charge)| charge.is_partial());
    for (index, charge) in both().filter(|(_, charge)| charge.mode == Mode::Enforce) {
        let Some(decision) = joined.decisions.get(index) else { continue };
        let grant = &mut grants[usize::from(charge.part.min(PARTS_MAX))];
        *grant = charge.hits.amount().saturating_sub(decision.clipped).min(*grant);
    }
    let mut surplus = Vec::new();
    for (index, charge) in both() {
        let Some(decision) = joined.decisions.get_mut(index) else { continue };
        let taken = charge.hits.amount().saturating_sub(decision.clipped);
        let too_many = taken.saturating_sub(grants[usize::from(charge.part.min(PARTS_MAX))]);
        if too_many == 0 {
            continue;
        }
        surplus.resize(batch.charges.len(), 0);
        surplus[index] = too_many;
        decision.clipped += too_many;
    }
    surplus
}
