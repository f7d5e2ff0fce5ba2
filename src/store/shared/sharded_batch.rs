//! Splits a request whose keys are on several shards of a store (masters of a cluster), and joins the outcomes.
//!
//! Each shard decides its charges in one step, all shards at the same time. If one of them refuses, the charges of the
//! others are given back: the limit is never exceeded, and briefly fewer hits are available. Quotas refuse nothing on a
//! shard, because another shard may have a quota with capacity. Hits are given back to limits only when it is known
//! that the whole request passes, because other requests might spend them meanwhile.
//!
//! A refused request reports its limits without its own charges.
//! Debits that count although the request is refused (`Refused::Counted`, `Refused::Booked`) stay charged, and settlements by hits
//! that come back are made then too.
//!
//! If one shard has a cached refusal, the others are only read.
//!
//! With an idempotency key, each shard knows its own part: an earlier charge on one shard is free there, and charged on
//! the others. Hits to give back are compared last: if they differ from those of the key, none are given back, and the
//! request passes.
//!
//! Where hits may be taken in part, each shard takes as many as it has, and gives back what another one has less of. Its mark
//! keeps how many it had: a retry gets the least of all, as the first attempt did, if it has the same charges.
//!
//! A charge that depends on the level of a gauge on another shard is decided after it, by its level at that time.

use std::mem;

use smallvec::SmallVec;

use crate::limit::{Fit, Hits};
use crate::policy::{Key, Mode, Refused};
use crate::store::batch::lacks_debits_only;
use crate::store::{
    Batch, Charge, Gauge, GroupFit, INLINE_CAP, Mark, Notice, Once, Outcome, Pressed, Tally,
};

/// The part of a request for one shard.
#[derive(Debug, Default)]
pub struct ShardBatch {
    /// The batch of the shard.
    pub batch: Batch,
    /// The indexes of its charges and gauges in the request.
    pub(super) charges: SmallVec<[usize; INLINE_CAP]>,
    gauges: SmallVec<[usize; 1]>,
    /// Its charges that depend on gauges on other shards, with those gauges.
    follows: Vec<(usize, Pressed)>,
    /// Whether charges on other shards depend on a gauge of this one.
    leads: bool,
    /// The cached refusal, if there is one.
    pub refusal: Option<Outcome>,
}

impl ShardBatch {
    /// The batches of a request by shard; None if all its keys are on one.
    pub fn split(batch: &Batch, shard_of: impl Fn(&Key) -> u32) -> Option<Vec<Self>> {
        let [first, others @ ..] = batch.keys.as_slice() else { return None };
        let first = shard_of(first);
        if others.iter().all(|key| shard_of(key) == first) {
            return None;
        }
        let mut ids: SmallVec<[u32; INLINE_CAP]> = SmallVec::new();
        let shard_index_of = batch.keys.iter().map(|key| {
            let id = shard_of(key);
            ids.iter().position(|known| *known == id).unwrap_or_else(|| {
                ids.push(id);
                ids.len() - 1
            })
        });
        let shard_index_of: SmallVec<[usize; INLINE_CAP]> = shard_index_of.collect();
        let mut shards: Vec<Self> = ids.iter().map(|_| Self::default()).collect();
        for (index, gauge) in batch.gauges.iter().enumerate() {
            shards[shard_index_of[gauge.key_index]].gauges.push(index);
        }
        let gives_back = |charge: &Charge| matches!(charge.hits, Hits::GiveBack(_));
        for (index, charge) in batch.charges.iter().enumerate() {
            let shard = &mut shards[shard_index_of[charge.key_index]];
            let mut own = shard.batch.adopt(charge, &batch.keys);
            own.mode = if charge.mode == Mode::Quota { Mode::Shadow } else { charge.mode };
            // They come back once, when the request passes; until then the limit is only read.
            if gives_back(charge) {
                (own.hits, own.refused) = (Hits::Spend(0), Refused::Free);
                own.reservation = own.counting();
            }
            for mut pressed in mem::take(&mut own.open.pressed) {
                match shard.gauges.iter().position(|gauge| *gauge == pressed.gauge) {
                    Some(gauge) => {
                        pressed.gauge = gauge;
                        own.open.pressed.push(pressed);
                    }
                    None => shard.follows.push((shard.charges.len(), pressed)),
                }
            }
            // What comes back goes to the bonuses that it came from.
            own.tells_bonuses = true;
            shard.charges.push(index);
            shard.batch.charges.push(own);
        }
        for shard in &mut shards {
            shard.batch.gauges = shard
                .gauges
                .iter()
                .map(|gauge| shard.gauge(&batch.gauges[*gauge], batch))
                .collect();
        }
        let led: Vec<usize> = shards.iter().flat_map(Self::followed).collect();
        for shard in &mut shards {
            shard.leads = shard.gauges.iter().any(|gauge| led.contains(gauge));
        }
        Some(shards)
    }

    /// Sets the number of this attempt in the idempotency marks of its charges.
    pub fn attempt(&mut self, attempt: u64) {
        for charge in &mut self.batch.charges {
            if let Some(Once::Mark(mark)) = &mut charge.once {
                mark.attempt = attempt;
            }
        }
    }

    /// Whether it is decided before the others.
    pub fn is_first(&self) -> bool {
        self.leads || self.follows.is_empty()
    }

    /// The gauges on other shards on which its charges depend.
    fn followed(&self) -> impl Iterator<Item = usize> {
        self.follows.iter().map(|(_, pressed)| pressed.gauge)
    }

    /// A gauge of the request, with the marks of this shard's charges.
    fn gauge(&self, gauge: &Gauge, batch: &Batch) -> Gauge {
        let key = &batch.keys[gauge.key_index];
        let key_index = self.batch.keys.iter().position(|known| known == key);
        let marks = gauge.marks.iter().filter_map(|mark| {
            let charge = self.charges.iter().position(|index| *index == mark.charge)?;
            Some(Mark { charge, ..*mark })
        });
        // The marks of a gauge belong to charges under its key, so without the key there are none.
        Gauge { key_index: key_index.unwrap_or_default(), marks: marks.collect() }
    }

    /// Applies the levels of gauges on other shards to its charges.
    pub fn follow(&mut self, level: impl Fn(usize) -> u8) {
        for (charge, pressed) in &self.follows {
            let level = usize::from(level(pressed.gauge)).min(pressed.hits.len());
            if let Some(hits) = level.checked_sub(1).map(|index| pressed.hits[index]) {
                let open = &mut self.batch.charges[*charge].open;
                open.hits = open.hits.min(hits);
            }
        }
    }

    /// The level of one of the request's gauges, if this shard has it.
    pub fn level(&self, gauge: usize, outcome: &Outcome) -> Option<u8> {
        let index = self.gauges.iter().position(|known| *known == gauge)?;
        outcome.levels.get(index).copied()
    }

    /// The batch of the hits that the request gives back on this shard.
    pub fn give_backs(&self, batch: &Batch, joined: &Outcome) -> Batch {
        let mut back = Batch::default();
        for index in self.giving_back(batch, joined) {
            let charge = &batch.charges[index];
            let charge = back.adopt(charge, &batch.keys);
            back.charges.push(charge);
        }
        back
    }

    /// Sets the state of limits after [`ShardBatch::give_backs`] in the joined outcome.
    pub fn record_give_backs(&self, batch: &Batch, back: &Outcome, joined: &mut Outcome) {
        let indexes: SmallVec<[usize; INLINE_CAP]> = self.giving_back(batch, joined).collect();
        for (index, decision) in indexes.iter().zip(&back.decisions) {
            let Some(joined) = joined.decisions.get_mut(*index) else { continue };
            joined.counted &= !decision.failed && decision.retry.is_none();
            if !decision.failed {
                joined.standing = decision.standing;
                joined.retry = decision.retry;
                joined.clipped = decision.clipped;
            }
        }
        // What was to be reported before they came back is no more.
        for (place, index) in indexes.into_iter().enumerate() {
            if back.decisions.get(place).is_none_or(|decision| decision.failed) {
                continue;
            }
            joined.notices.retain(|notice| notice.charge != index);
            let own = back.notices.iter().find(|notice| notice.charge == place);
            joined.notices.extend(own.map(|own| Notice { charge: index, ..own.clone() }));
        }
        joined.notices.sort_unstable_by_key(|notice| notice.charge);
    }

    /// The request's charges that give back on this shard: all if it passes, else those that count all the same.
    fn giving_back(&self, batch: &Batch, joined: &Outcome) -> impl Iterator<Item = usize> {
        let gives_back = move |index: &usize| {
            let charge = &batch.charges[*index];
            let comes_back = match charge.hits {
                Hits::GiveBack(0) => charge.settles(),
                Hits::GiveBack(_) => true,
                Hits::Spend(_) => false,
            };
            comes_back && (joined.admitted || joined.decisions[*index].counted)
        };
        self.charges.iter().copied().filter(gives_back)
    }
}

/// The joined outcome of a request.
pub fn join(batch: &Batch, shards: &[ShardBatch], outcomes: &[Outcome]) -> Outcome {
    let at = outcomes.iter().map(|outcome| outcome.at).max().unwrap_or_default();
    let mut joined = Outcome::nothing(at);
    joined.fallback = outcomes.iter().any(|outcome| outcome.fallback);
    let all = || shards.iter().zip(outcomes);
    let decision = |index: usize| {
        all().find_map(|(shard, outcome)| {
            let own_index = shard.charges.iter().position(|known| *known == index)?;
            outcome.decisions.get(own_index).copied()
        })
    };
    joined.decisions = (0..batch.charges.len()).filter_map(decision).collect();
    for (charge, decision) in batch.charges.iter().zip(&mut joined.decisions) {
        // Until they come back.
        decision.clipped += if charge.comes_back() { charge.hits.amount() } else { 0 };
    }
    let level = |gauge| all().find_map(|(shard, outcome)| shard.level(gauge, outcome));
    let notices = all().flat_map(|(shard, outcome)| {
        let own = |notice: &Notice| {
            let charge = *shard.charges.get(notice.charge)?;
            let tells = batch.charges.get(charge)?.tells_bonuses;
            let bonuses = if tells { notice.bonuses.clone() } else { Vec::new() };
            Some(Notice { charge, bonuses, ..notice.clone() })
        };
        outcome.notices.iter().filter_map(own)
    });
    joined.notices = notices.filter(|notice| *notice != Notice::of(notice.charge)).collect();
    joined.notices.sort_unstable_by_key(|notice| notice.charge);
    joined.levels = (0..batch.gauges.len()).map(|gauge| level(gauge).unwrap_or(0)).collect();
    let mut tally = Tally::default();
    let mut first = 0;
    for charges in batch.groups() {
        let decisions = &joined.decisions[first..first + charges.len()];
        tally.count(charges[0].mode, GroupFit::of(decisions));
        first += charges.len();
    }
    joined.admitted = tally.admitted();
    if !joined.admitted {
        let counts = tally.refused() && batch.counts_refused(&joined.decisions);
        let passed = |index| {
            let mut shards = all().filter(|(shard, _)| shard.charges.contains(&index));
            shards.next().is_some_and(|(_, outcome)| outcome.admitted)
        };
        settle_debits(batch, &mut joined, counts, passed);
    }
    joined
}

/// Marks the debits of a refused request that count: all if `counts`, else booked ones. Debits also count if a shard
/// charged them because its own part `passed`. Settlements by hits that come back are still to be made.
fn settle_debits(
    batch: &Batch,
    joined: &mut Outcome,
    counts: bool,
    passed: impl Fn(usize) -> bool,
) {
    let mut first = 0;
    for charges in batch.groups() {
        let group = first..first + charges.len();
        let own = lacks_debits_only(charges, &joined.decisions[group.clone()]);
        for (index, charge) in group.zip(charges) {
            let decision = &mut joined.decisions[index];
            let comes_back = matches!(charge.hits, Hits::GiveBack(_));
            let passed = comes_back || passed(index);
            let charged = decision.counted || (passed && decision.fit == Fit::Now);
            let counts = own && (counts && charge.is_debit() || charge.is_booked());
            decision.counted = counts && charged && !decision.failed;
        }
        first += charges.len();
    }
}
