//! A request whose counters lie in several places of a store, each of which decides by itself.
//!
//! The request is divided into parts, one for each place. Each is decided there in one step, all at the same time, and
//! where one of them refuses, what the others have charged is given back: never over, at worst briefly under. So that no
//! part refuses for a reason that others may outweigh, quotas refuse nothing there; and hits come back only when
//! the whole request is known to pass, because somebody else might spend them meanwhile.
//!
//! Where one part is known to be refused, the others are looked at and charge nothing.
//!
//! A charge that a gauge of another place presses is decided after it, by the level that it had then.

use std::mem;

use smallvec::SmallVec;

use super::returns::Back;
use crate::limit::Hits;
use crate::policy::Key;
use crate::policy::Mode;
use crate::store::Batch;
use crate::store::Charge;
use crate::store::FEW;
use crate::store::Gauge;
use crate::store::GroupFit;
use crate::store::Mark;
use crate::store::Outcome;
use crate::store::Pressed;
use crate::store::Tally;

/// What of a request is decided in one place.
#[derive(Debug, Default)]
pub struct Part {
    /// As it is asked for.
    pub batch: Batch,
    /// Which of the request's charges and gauges these are.
    charges: SmallVec<[usize; FEW]>,
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
    let mut places: SmallVec<[u32; FEW]> = SmallVec::new();
    let part_of = batch.keys.iter().map(|key| {
        let place = place(key);
        places.iter().position(|known| *known == place).unwrap_or_else(|| {
            places.push(place);
            places.len() - 1
        })
    });
    let part_of: SmallVec<[usize; FEW]> = part_of.collect();
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
        for index in &self.charges {
            let charge = &batch.charges[*index];
            if matches!(charge.hits, Hits::GiveBack(1..)) {
                let key_index = back.key_index(batch.keys[charge.key_index].clone());
                back.charges.push(Charge { key_index, ..charge.clone() });
            }
        }
        back
    }

    /// What was charged here in vain, by key.
    pub fn charged<'a>(
        &'a self,
        outcome: &'a Outcome,
    ) -> impl Iterator<Item = (&'a Key, Vec<Back>)> {
        self.batch.keys.iter().enumerate().filter_map(|(key_index, key)| {
            let mut backs = Vec::new();
            let mut first = 0;
            for charges in self.batch.groups() {
                let decisions = &outcome.decisions[first..first + charges.len()];
                first += charges.len();
                if !outcome.admitted || GroupFit::of(decisions) == GroupFit::Over {
                    continue;
                }
                let here = charges.iter().zip(decisions).filter(|(charge, decision)| {
                    charge.key_index == key_index
                        && !decision.failed
                        && decision.clipped < charge.hits.amount()
                });
                backs.extend(here.map(|(charge, decision)| {
                    let hits = charge.hits.amount() - decision.clipped;
                    Back {
                        limit: charge.limit.clone(),
                        hits,
                        until: charge.limit.counts_until(hits, outcome.at),
                        bonuses: charge.bonuses.clone(),
                        on_outage: charge.on_outage,
                    }
                }));
            }
            (!backs.is_empty()).then_some((key, backs))
        })
    }
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
    joined
}
