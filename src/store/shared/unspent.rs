//! What comes back of the charges of one shard: all that they took for a request that another shard refuses, or what they took
//! too much where hits are taken in part. The joined outcome then tells the limits as if it had not been spent.

use std::time::Duration;

use smallvec::SmallVec;

use super::refunds::{Overcharge, Refunded, Undo};
use super::sharded_batch::ShardBatch;
use crate::clock::Timestamp;
use crate::limit::{Crossed, Hits, Overdraft, Standing};
use crate::policy::{Key, Lease, Refused};
use crate::store::{
    Amends, Batch, Charge, GroupFit, INLINE_CAP, Notice, Outcome, Reservation, Retry,
};

/// Charges of a shard by index, each with the hits that come back.
pub type Unspent = SmallVec<[(usize, u64); INLINE_CAP]>;

impl ShardBatch {
    /// The charges whose hits were spent although the request is refused. `joined` is the refusal.
    pub fn spent(&self, outcome: &Outcome, joined: &Outcome) -> Unspent {
        let passes = self.passing(outcome);
        let both = self.batch.charges.iter().zip(&outcome.decisions).enumerate();
        let spent = both.filter(|(index, (charge, decision))| {
            let whole = self.charges.get(*index);
            let whole = whole.and_then(|index| joined.decisions.get(*index));
            let stays = whole.is_some_and(|decision| decision.counted);
            // How many hits of the first attempt were clipped is unknown.
            let clips = charge.limit.overdraft() == Overdraft::Clip;
            let is_known = decision.retry.is_none() || !clips;
            (passes[*index] || decision.counted) && !decision.failed && !stays && is_known
        });
        let spent = spent.map(|(index, (charge, decision))| {
            (index, charge.hits.amount().saturating_sub(decision.clipped))
        });
        let estimates =
            |index: usize| self.batch.charges.get(index).is_some_and(|one| estimated(one) != 0);
        spent.filter(|(index, hits)| *hits != 0 || estimates(*index)).collect()
    }

    /// By charge, whether its group was charged here.
    fn passing(&self, outcome: &Outcome) -> SmallVec<[bool; INLINE_CAP]> {
        let mut all = SmallVec::new();
        for charges in self.batch.groups() {
            let decisions = &outcome.decisions[all.len()..all.len() + charges.len()];
            let passes = outcome.admitted && GroupFit::of(decisions) != GroupFit::Over;
            all.resize(all.len() + charges.len(), passes);
        }
        all
    }

    /// What charges took here that other shards have less of: so many hits of each of the request's charges. What an earlier
    /// attempt at the request took has been given back.
    pub fn surplus(&self, outcome: &Outcome, surplus: &[u64]) -> Unspent {
        let passes = self.passing(outcome);
        let own = self.charges.iter().zip(&outcome.decisions).enumerate();
        let own = own.filter(|(own, (_, decision))| {
            passes[*own] && decision.retry.is_none() && !decision.failed
        });
        let own = own.map(|(own, (index, _))| (own, surplus.get(*index).copied().unwrap_or(0)));
        own.filter(|(_, hits)| *hits != 0).collect()
    }

    /// The refunds of charges, by key.
    pub fn overcharges<'a>(
        &'a self,
        outcome: &'a Outcome,
        unspent: &'a Unspent,
    ) -> impl Iterator<Item = (&'a Key, Vec<Overcharge>)> {
        self.batch.keys.iter().enumerate().filter_map(move |(key_index, key)| {
            let here = unspent.iter().filter_map(|(index, hits)| {
                let charge = self.batch.charges.get(*index)?;
                (charge.key_index == key_index).then_some((*index, charge, *hits))
            });
            let overcharges = here.map(|(index, charge, hits)| {
                let retry = outcome.decisions.get(index).and_then(|one| one.retry);
                let at = charged_at(outcome, retry);
                Overcharge {
                    undo: charge.once.and_then(|once| Undo::of(once, &self.batch.keys)),
                    limit: charge.limit.clone(),
                    hits,
                    at,
                    until: charge.limit.at(at).counts_until(hits, at),
                    open: charge.open.hits,
                    bonuses: charge.bonuses.clone(),
                    amends: self.amends(outcome, (index, hits)).map(Box::new),
                    on_outage: charge.on_outage,
                    reservation: charge.reservation.as_deref().map(|step| Box::new(step.undone())),
                }
            });
            let overcharges: Vec<Overcharge> = overcharges.collect();
            (!overcharges.is_empty()).then_some((key, overcharges))
        })
    }

    /// What is put right of a charge beside its hits. What an earlier attempt has taken from where is unknown.
    fn amends(&self, outcome: &Outcome, (index, hits): (usize, u64)) -> Option<Amends> {
        let (charge, decision) = (self.batch.charges.get(index)?, outcome.decisions.get(index)?);
        let taken = charge.hits.amount().saturating_sub(decision.clipped);
        let notice = outcome.notices.iter().find(|notice| notice.charge == index);
        let is_known = decision.retry.is_none();
        is_known.then(|| amends_of(charge, notice, outcome.at, (hits, taken))).flatten()
    }

    /// Sets the state of the limits of charges in the joined outcome, as if these hits had not been spent. `outcome` is the
    /// shard's own; `refunded` are the refunds that were answered in time.
    pub fn unspend(
        &self,
        (outcome, unspent): (&Outcome, &Unspent),
        refunded: &[Refunded],
        joined: &mut Outcome,
    ) {
        let is_refused = !joined.admitted;
        for &(index, hits) in unspent {
            let (Some(charge), Some(&whole)) =
                (self.batch.charges.get(index), self.charges.get(index))
            else {
                continue;
            };
            let Some(decision) = joined.decisions.get_mut(whole) else { continue };
            let key = &self.batch.keys[charge.key_index];
            let now = refunded.iter().rev().find_map(|back| state_of(back, key, charge));
            if is_refused {
                decision.clipped = 0;
            }
            let own = outcome.notices.iter().find(|notice| notice.charge == index);
            let is_within = own.is_none_or(|notice| notice.grace_until.is_none());
            let is_exact = charge.overdraft() == Overdraft::None && is_within;
            let standing = &mut decision.standing;
            // Beyond the limit, fewer hits were left than were spent. Only the store knows how many.
            standing.remaining = match now {
                // This request did not spend the hits of an earlier charge.
                _ if is_exact && decision.retry.is_some() => standing.remaining,
                _ if is_exact => standing.remaining.saturating_add(hits),
                Some((now, _)) => now.remaining,
                None => standing.remaining,
            };
            standing.reset_ms = now.map_or(standing.reset_ms, |(now, _)| now.reset_ms);
            if own.is_some() {
                let notice = Notice::of_charge(&mut joined.notices, whole);
                notice.crossed = Crossed::default();
                notice.settled = 0;
                match now {
                    Some((_, back)) => {
                        notice.grace_until = back.and_then(|back| back.grace_until);
                        let graced = back.filter(|back| back.grace_until.is_some());
                        notice.grace_left = graced.map_or(0, |back| back.grace_left);
                        notice.held = back.map_or(0, |back| back.held);
                    }
                    None if holds(charge) => {
                        notice.held = notice.held.saturating_sub(charge.hits.amount());
                    }
                    None => notice.held = notice.held.saturating_sub(estimated(charge)),
                }
            }
        }
        joined.notices.retain(|notice| *notice != Notice::of(notice.charge));
        joined.notices.sort_unstable_by_key(|notice| notice.charge);
    }

    /// The batch that reports thresholds which charges have crossed although a part of their hits came back; with the indexes
    /// of its charges in the request. None if none may have.
    pub fn crossings(&self, outcome: &Outcome, unspent: &Unspent) -> Option<(Batch, Vec<usize>)> {
        let (mut batch, mut indexes) = (Batch::default(), Vec::new());
        for &(index, hits) in unspent {
            let (Some(charge), Some(amends), Some(&whole)) = (
                self.batch.charges.get(index),
                self.amends(outcome, (index, hits)),
                self.charges.get(index),
            ) else {
                continue;
            };
            let notice = outcome.notices.iter().find(|notice| notice.charge == index);
            let taken = charge.hits.amount().saturating_sub(outcome.decisions[index].clipped);
            let stands = notice.iter().flat_map(|notice| &notice.bonuses);
            let of_bonuses: u64 = stands.map(|stand| stand.taken).sum();
            let back: u64 = amends.bonuses.iter().sum();
            let stays = (taken - hits).saturating_sub(of_bonuses.saturating_sub(back));
            if amends.crossed.is_empty() || stays == 0 {
                continue;
            }
            let again = Amends { crossed: amends.crossed, ..Amends::default() };
            let adopted = batch.adopt(&Charge { once: None, ..charge.clone() }, &self.batch.keys);
            batch.charges.push(Charge {
                group: batch.charges.len(),
                hits: Hits::Spend(0),
                refused: Refused::Free,
                lease: Lease::Off,
                bonuses: Vec::new(),
                amends: Some(Box::new(again)),
                part: 0,
                reservation: charge.counting(),
                ..adopted
            });
            indexes.push(whole);
        }
        (!indexes.is_empty()).then_some((batch, indexes))
    }
}

/// What is put right for `hits` of those that a charge has taken at a time, for which the store has reported this. What was taken last
/// comes back first: by a grace, of the bonuses that end last, of the limit itself.
fn amends_of(
    charge: &Charge,
    notice: Option<&Notice>,
    at: Timestamp,
    (hits, taken): (u64, u64),
) -> Option<Amends> {
    let limit = charge.limit.at(at);
    let grace = charge.grace_of(limit);
    let crossed = notice.zip(limit.thresholds());
    let crossed: SmallVec<[u16; 4]> = crossed
        .map(|(notice, thresholds)| thresholds.crossed(notice.crossed).collect())
        .unwrap_or_default();
    if charge.bonuses.is_empty() && crossed.is_empty() && grace.is_none() {
        return None;
    }
    let stands = notice.map_or(&[][..], |notice| notice.bonuses.as_slice());
    let begun = notice.and_then(|notice| notice.grace_until).zip(grace);
    let grace_since = begun.map(|(until, grace)| until.as_ms().saturating_sub(grace.for_ms()));
    let is_whole =
        charge.open.pressed.is_empty() && limit.capacity() <= charge.part(charge.open.hits, limit);
    let by_grace = begun.filter(|_| is_whole).map_or(0, |(_, grace)| {
        let left = notice.map_or(0, |notice| notice.grace_left);
        let of_limit = taken.saturating_sub(stands.iter().map(|stand| stand.taken).sum());
        grace.over().saturating_sub(left).min(of_limit)
    });
    let mut rest = hits.saturating_sub(by_grace);
    let mut bonuses: SmallVec<[u64; 1]> = SmallVec::from_elem(0, charge.bonuses.len());
    let live = charge.bonuses.iter().zip(&mut bonuses).filter(|(bonus, _)| at < bonus.until);
    let live: SmallVec<[_; 1]> = live.zip(stands).collect();
    for ((_, back), stand) in live.into_iter().rev() {
        *back = rest.min(stand.taken);
        rest -= *back;
    }
    let grace_since = grace_since.map(Timestamp::from_ms).filter(|since| *since == at);
    Some(Amends { at, bonuses, crossed, grace_since, is_whole: hits == taken })
}

fn estimated(charge: &Charge) -> u64 {
    charge.step().map_or(0, Reservation::estimated)
}

fn holds(charge: &Charge) -> bool {
    matches!(charge.reservation.as_deref(), Some(Reservation::Hold { .. }))
}

/// The time at which the hits of a charge were spent: for a retry, by the first attempt.
fn charged_at(outcome: &Outcome, retry: Option<Retry>) -> Timestamp {
    let age = retry.map_or(Duration::ZERO, Retry::age).as_millis();
    let at_ms = outcome.at.as_ms().saturating_sub(u64::try_from(age).unwrap_or(u64::MAX));
    Timestamp::from_ms(at_ms)
}

/// The state of a charge's limit after its refund, and the report on it.
fn state_of<'r>(
    (batch, outcome): &'r Refunded,
    key: &Key,
    charge: &Charge,
) -> Option<(Standing, Option<&'r Notice>)> {
    let both = batch.charges.iter().zip(&outcome.decisions).enumerate();
    let same = |known: &Charge| {
        known.limit.tag() == charge.limit.tag() && batch.keys[known.key_index] == *key
    };
    let (index, (_, decision)) = both.into_iter().find(|(_, (known, _))| same(known))?;
    let notice = outcome.notices.iter().find(|notice| notice.charge == index);
    Some((decision.standing, notice))
}
