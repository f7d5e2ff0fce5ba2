//! Splits a request whose keys lie in several places of a store into parts, and joins their outcomes.
//!
//! The request is divided into parts, one for each place. Each is decided there in one step, all at the same time, and
//! where one of them refuses, what the others have charged is given back: never over, at worst briefly under. So that no
//! part refuses for a reason that others may outweigh, quotas refuse nothing there; and hits come back only when
//! the whole request is known to pass, because somebody else might spend them meanwhile.
//!
//! A refused request is told how its limits stand without what it has spent for a moment.
//! Debits that count although the request is refused (`Refused::Counted`, `Refused::Booked`) stay charged.
//!
//! Where one part is known to be refused, the others are looked at and charge nothing.
//!
//! A charge that a gauge of another place presses is decided after it, by the level that it had then.

use std::mem;

use smallvec::SmallVec;

use super::returns::Back;
use super::returns::Returned;
use crate::limit::Fit;
use crate::limit::Hits;
use crate::limit::Overdraft;
use crate::limit::Standing;
use crate::policy::Key;
use crate::policy::Mode;
use crate::store::Batch;
use crate::store::Charge;
use crate::store::Gauge;
use crate::store::GroupFit;
use crate::store::INLINE_CAP;
use crate::store::Mark;
use crate::store::Outcome;
use crate::store::Pressed;
use crate::store::Tally;
use crate::store::batch::lacks_debits_only;

/// What of a request is decided in one place.
#[derive(Debug, Default)]
pub struct Part {
    /// As it is asked for.
    pub batch: Batch,
    /// Which of the request's charges and gauges these are.
    charges: SmallVec<[usize; INLINE_CAP]>,
    gauges: SmallVec<[usize; 1]>,
    /// Which of its charges are pressed by which of the request's gauges that are elsewhere.
    follows: Vec<(usize, Pressed)>,
    /// Whether charges elsewhere follow a gauge that is here.
    leads: bool,
    /// Its refusal, if one is known that holds.
    pub refusal: Option<Outcome>,
}

/// The parts of a request; None if there is but one.
pub fn parts_of(batch: &Batch, place: impl Fn(&Key) -> u32) -> Option<Vec<Part>> {
    let [first, others @ ..] = batch.keys.as_slice() else { return None };
    let first = place(first);
    if others.iter().all(|key| place(key) == first) {
        return None;
    }
    let mut places: SmallVec<[u32; INLINE_CAP]> = SmallVec::new();
    let part_of = batch.keys.iter().map(|key| {
        let place = place(key);
        places.iter().position(|known| *known == place).unwrap_or_else(|| {
            places.push(place);
            places.len() - 1
        })
    });
    let part_of: SmallVec<[usize; INLINE_CAP]> = part_of.collect();
    let mut parts: Vec<Part> = places.iter().map(|_| Part::default()).collect();
    for (index, gauge) in batch.gauges.iter().enumerate() {
        parts[part_of[gauge.key_index]].gauges.push(index);
    }
    let gives_back = |charge: &Charge| matches!(charge.hits, Hits::GiveBack(_));
    let comes_back_last = !batch.charges.iter().all(gives_back);
    for (index, charge) in batch.charges.iter().enumerate() {
        let part = &mut parts[part_of[charge.key_index]];
        let mut own = charge.clone();
        own.key_index = part.batch.key_index(batch.keys[charge.key_index].clone());
        own.mode = if charge.mode == Mode::Quota { Mode::Shadow } else { charge.mode };
        if comes_back_last && gives_back(charge) {
            own.hits = Hits::Spend(0);
        }
        for mut pressed in mem::take(&mut own.open.pressed) {
            match part.gauges.iter().position(|gauge| *gauge == pressed.gauge) {
                Some(gauge) => {
                    pressed.gauge = gauge;
                    own.open.pressed.push(pressed);
                }
                None => part.follows.push((part.charges.len(), pressed)),
            }
        }
        part.charges.push(index);
        part.batch.charges.push(own);
    }
    for part in &mut parts {
        part.batch.gauges =
            part.gauges.iter().map(|gauge| part.gauge(&batch.gauges[*gauge], batch)).collect();
    }
    let led: Vec<usize> = parts.iter().flat_map(Part::followed).collect();
    for part in &mut parts {
        part.leads = part.gauges.iter().any(|gauge| led.contains(gauge));
    }
    Some(parts)
}

impl Part {
    /// Whether it is to be decided before others.
    pub fn is_first(&self) -> bool {
        self.leads || self.follows.is_empty()
    }

    /// The gauges elsewhere that its charges follow.
    fn followed(&self) -> impl Iterator<Item = usize> {
        self.follows.iter().map(|(_, pressed)| pressed.gauge)
    }

    /// A gauge of the request as one of this part.
    fn gauge(&self, gauge: &Gauge, batch: &Batch) -> Gauge {
        let key = &batch.keys[gauge.key_index];
        let key_index = self.batch.keys.iter().position(|known| known == key);
        let marks = gauge.marks.iter().filter_map(|mark| {
            let charge = self.charges.iter().position(|index| *index == mark.charge)?;
            Some(Mark { charge, ..*mark })
        });
        // A gauge's marks are of charges under its key, so without the key there are none.
        Gauge { key_index: key_index.unwrap_or_default(), marks: marks.collect() }
    }

    /// Closes to its charges what gauges elsewhere do at these levels.
    pub fn follow(&mut self, level: impl Fn(usize) -> u8) {
        for (charge, pressed) in &self.follows {
            let level = usize::from(level(pressed.gauge)).min(pressed.hits.len());
            if let Some(hits) = level.checked_sub(1).map(|index| pressed.hits[index]) {
                let open = &mut self.batch.charges[*charge].open;
                open.hits = open.hits.min(hits);
            }
        }
    }

    /// The level of one of the request's gauges, if this part has it.
    pub fn level(&self, gauge: usize, outcome: &Outcome) -> Option<u8> {
        let place = self.gauges.iter().position(|known| *known == gauge)?;
        outcome.levels.get(place).copied()
    }

    /// What the request gives back here once it passes.
    pub fn comes_back(&self, batch: &Batch) -> Batch {
        let mut back = Batch::default();
        for index in self.giving_back(batch) {
            let charge = &batch.charges[index];
            let key_index = back.key_index(batch.keys[charge.key_index].clone());
            back.charges.push(Charge { key_index, ..charge.clone() });
        }
        back
    }

    /// Tells how the limits stand to which hits came back by [`Part::comes_back`], in what the request is told.
    pub fn came_back(&self, batch: &Batch, back: &Outcome, told: &mut Outcome) {
        for (index, decision) in self.giving_back(batch).zip(&back.decisions) {
            if !decision.failed
                && let Some(told) = told.decisions.get_mut(index)
            {
                told.standing = decision.standing;
            }
        }
    }

    /// The request's charges that give back here.
    fn giving_back(&self, batch: &Batch) -> impl Iterator<Item = usize> {
        let gives_back = |index: &usize| matches!(batch.charges[*index].hits, Hits::GiveBack(1..));
        self.charges.iter().copied().filter(gives_back)
    }

    /// Tells how the limits stand of which it charged in vain, in what the request is told, as if nothing had been spent:
    /// `outcome` is its own, and `returned` brought back what it has spent, as far as there was time.
    pub fn unspend(&self, outcome: &Outcome, returned: &[Returned], told: &mut Outcome) {
        for (place, spent) in self.spent(outcome, told) {
            let (Some(charge), Some(decision)) = (
                self.batch.charges.get(place),
                self.charges.get(place).and_then(|index| told.decisions.get_mut(*index)),
            ) else {
                continue;
            };
            let key = &self.batch.keys[charge.key_index];
            let now = returned.iter().rev().find_map(|back| standing_of(back, key, charge));
            let standing = &mut decision.standing;
            // Overdrawn, less was left than was spent. Only the store knows how much.
            standing.remaining = match (charge.overdraft(), now) {
                (Overdraft::None, _) => standing.remaining.saturating_add(spent),
                (_, Some(now)) => {
                    let closed = charge.limit.capacity().saturating_sub(charge.open.hits);
                    now.remaining.saturating_sub(closed)
                }
                (_, None) => standing.remaining,
            };
            standing.reset_ms = now.map_or(standing.reset_ms, |now| now.reset_ms);
        }
    }

    /// The charges that spent hits here in vain, by place, and how many: the request is refused as `told`.
    fn spent(&self, outcome: &Outcome, told: &Outcome) -> SmallVec<[(usize, u64); INLINE_CAP]> {
        let mut all = SmallVec::new();
        let mut first = 0;
        for charges in self.batch.groups() {
            let decisions = &outcome.decisions[first..first + charges.len()];
            let passes = outcome.admitted && GroupFit::of(decisions) != GroupFit::Over;
            let both = charges.iter().zip(decisions).enumerate();
            let spent = both.filter(|(index, (_, decision))| {
                let whole = self.charges.get(first + index);
                let stays = whole.and_then(|index| told.decisions.get(*index));
                let stays = stays.is_some_and(|told| told.counted);
                (passes || decision.counted) && !decision.failed && !stays
            });
            let spent = spent.map(|(index, (charge, decision))| {
                (first + index, charge.hits.amount().saturating_sub(decision.clipped))
            });
            all.extend(spent.filter(|(_, hits)| *hits != 0));
            first += charges.len();
        }
        all
    }

    /// What was charged here in vain, by key: the request is refused as `told`.
    pub fn charged<'a>(
        &'a self,
        outcome: &'a Outcome,
        told: &Outcome,
    ) -> impl Iterator<Item = (&'a Key, Vec<Back>)> {
        let spent = self.spent(outcome, told);
        self.batch.keys.iter().enumerate().filter_map(move |(key_index, key)| {
            let spent = spent.iter().map(|(place, hits)| (&self.batch.charges[*place], *hits));
            let here = spent.filter(|(charge, _)| charge.key_index == key_index);
            let backs = here.map(|(charge, hits)| Back {
                limit: charge.limit.clone(),
                hits,
                until: charge.limit.counts_until(hits, outcome.at),
                bonuses: charge.bonuses.clone(),
                on_outage: charge.on_outage,
            });
            let backs: Vec<Back> = backs.collect();
            (!backs.is_empty()).then_some((key, backs))
        })
    }
}

/// How the limit of a charge stood when hits had come back to it.
fn standing_of((batch, outcome): &Returned, key: &Key, charge: &Charge) -> Option<Standing> {
    let mut both = batch.charges.iter().zip(&outcome.decisions);
    let same = |known: &Charge| {
        known.limit.tag() == charge.limit.tag() && batch.keys[known.key_index] == *key
    };
    both.find(|(known, _)| same(known)).map(|(_, decision)| decision.standing)
}

/// The outcome of a request whose parts were decided so.
pub fn join(batch: &Batch, parts: &[Part], outcomes: &[Outcome]) -> Outcome {
    let at = outcomes.iter().map(|outcome| outcome.at).max().unwrap_or_default();
    let mut joined = Outcome::nothing(at);
    joined.fallback = outcomes.iter().any(|outcome| outcome.fallback);
    let all = || parts.iter().zip(outcomes);
    let decision = |index: usize| {
        all().find_map(|(part, outcome)| {
            let place = part.charges.iter().position(|known| *known == index)?;
            outcome.decisions.get(place).copied()
        })
    };
    joined.decisions = (0..batch.charges.len()).filter_map(decision).collect();
    let level = |gauge| all().find_map(|(part, outcome)| part.level(gauge, outcome));
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
            let mut parts = all().filter(|(part, _)| part.charges.contains(&index));
            parts.next().is_some_and(|(_, outcome)| outcome.admitted)
        };
        settle_debits(batch, &mut joined, counts, passed);
    }
    joined
}

/// Says which debits count of a request that doesn't pass: all if `counts`, else those that are booked. Those count too that
/// a part charged because it `passed`.
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
            let charged = decision.counted || (passed(index) && decision.fit == Fit::Now);
            let counts = own && (counts || charge.is_booked());
            decision.counted = counts && charged && !decision.failed && charge.is_debit();
        }
        first += charges.len();
    }
}
