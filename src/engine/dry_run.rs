//! A dry run for the candidates of a choice: the remaining capacity of each, without a charge.
//!
//! The plan of each candidate has other counters. All are read in one batch, so that one step of the store reports the
//! state of all candidates.

use smallvec::SmallVec;

use crate::limit::{Fit, Hits, Overdraft};
use crate::policy::{Key, Mode, OnOutage};
use crate::store::{
    Batch, Charge, Decision, Gauge, GroupFit, INLINE_CAP, Mark, Notice, Once, Open, Outcome,
    Pressed, Retry, Tally,
};

use super::credits::BonusStanding;
use super::plan::Plan;

/// The dry run of all candidates.
#[derive(Debug, Default)]
pub struct DryRun {
    pub batch: Batch,
    candidates: SmallVec<[DryRunCandidate; INLINE_CAP]>,
}

/// The plan of one candidate.
#[derive(Debug, Default)]
struct DryRunCandidate {
    denied: bool,
    charges: SmallVec<[DryRunCharge; INLINE_CAP]>,
}

/// One charge of a candidate's plan.
#[derive(Clone, Copy, Debug)]
struct DryRunCharge {
    /// The charge of the dry run's batch for the same counter.
    charge: usize,
    hits: Hits,
    /// As that of the charge; 0 if all hits are taken or none.
    part: u8,
    mode: Mode,
    group: usize,
}

/// The state of a candidate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum CandidateState {
    /// A request would pass. The value is the smallest free part of its limits, from 0 to 1, or none if the store is
    /// unavailable.
    Passes(Option<f64>),
    /// Unknown: the store is unavailable, and a limit has `on_outage: error`.
    Failed,
    /// A request would be refused now, and pass after at most this many milliseconds.
    Waits(u64),
    /// A request would be refused, regardless of time.
    Never,
    /// The caller has no access.
    Denied,
}

impl DryRun {
    /// Adds a candidate with its `plan`, for the descriptors with the numbers `descriptors`.
    pub fn add(&mut self, plan: &Plan<'_>, descriptors: &[usize]) {
        let charges = descriptors.iter().flat_map(|index| &plan.descriptors[*index].charges);
        let mut indexes: SmallVec<[usize; INLINE_CAP]> = charges.copied().collect();
        indexes.sort_unstable();
        indexes.dedup();
        let first = self.batch.charges.len();
        let mut candidate =
            DryRunCandidate { denied: plan.denial.is_some(), ..DryRunCandidate::default() };
        let mut places: SmallVec<[Option<usize>; INLINE_CAP]> = SmallVec::new();
        places.resize(plan.batch.charges.len(), None);
        for index in indexes {
            let charge = &plan.batch.charges[index];
            let place = self.place(&plan.batch.keys, charge);
            places[index] = Some(place);
            candidate.charges.push(DryRunCharge {
                charge: place,
                hits: charge.hits,
                part: if charge.is_partial() { charge.part } else { 0 },
                mode: plan.mode(index),
                group: charge.group,
            });
        }
        let gauges = plan.batch.gauges.iter().map(|gauge| self.gauge(plan, gauge, &places));
        let gauges: SmallVec<[Option<usize>; INLINE_CAP]> = gauges.collect();
        for (charge, place) in plan.batch.charges.iter().zip(&places) {
            let Some(place) = place.filter(|place| first <= *place) else { continue };
            let pressed = charge.open.pressed.iter().filter_map(|pressed| {
                Some(Pressed { gauge: gauges[pressed.gauge]?, hits: pressed.hits.clone() })
            });
            self.batch.charges[place].open.pressed.extend(pressed);
        }
        self.candidates.push(candidate);
    }

    /// The state of each candidate.
    pub fn states(&self, outcome: &Outcome) -> SmallVec<[CandidateState; INLINE_CAP]> {
        self.candidates.iter().map(|candidate| self.state(candidate, outcome)).collect()
    }

    /// Whether an earlier attempt at the request was charged as this candidate.
    pub fn is_retry(&self, candidate: usize, outcome: &Outcome) -> bool {
        let charges = self.candidates.get(candidate).into_iter().flat_map(|one| &one.charges);
        let mut own = charges.filter(|planned| !self.is_in_all(planned.charge));
        own.any(|planned| is_free(planned, outcome))
    }

    /// The outcome of the plan of a single candidate, from the state of its limits.
    pub fn plan_outcome(&self, outcome: Outcome) -> Outcome {
        let charges = || self.candidates.iter().flat_map(|candidate| &candidate.charges);
        let remaining = |planned: &DryRunCharge| {
            let left = outcome.decisions[planned.charge].standing.remaining;
            left.saturating_add(outcome.grace_left(planned.charge))
        };
        let decision = |planned: &DryRunCharge| {
            let fit = match (self.fits(planned, &outcome), self.wait_ms(planned, &outcome)) {
                (true, _) => Fit::Now,
                (false, Some(wait_ms)) => Fit::AfterMs(wait_ms),
                (false, None) => Fit::Never,
            };
            // As many as all limits of the part have.
            let same = charges().filter(|other| planned.part != 0 && other.part == planned.part);
            let granted = same.map(remaining).min().unwrap_or(u64::MAX);
            let clipped = planned.hits.amount().saturating_sub(granted);
            Decision { fit, clipped, ..outcome.decisions[planned.charge] }
        };
        let notices = charges().enumerate().flat_map(|(index, planned)| {
            let own = outcome.notices.iter().filter(|notice| notice.charge == planned.charge);
            own.map(move |notice| Notice { charge: index, ..notice.clone() })
        });
        let (decisions, notices) = (charges().map(decision).collect(), notices.collect());
        Outcome { decisions, notices, ..outcome }
    }

    /// Has the store report how bonuses stand.
    pub fn report_bonuses(&mut self) {
        self.batch.charges.iter_mut().for_each(|charge| charge.tells_bonuses = true);
    }

    /// How the bonuses stand of each charge of the plan of the only candidate.
    pub fn bonuses(&self, outcome: &Outcome) -> SmallVec<[Vec<BonusStanding>; INLINE_CAP]> {
        let charges = self.candidates.iter().flat_map(|candidate| &candidate.charges);
        let bonuses = charges.map(|planned| {
            let notice = outcome.notices.iter().find(|notice| notice.charge == planned.charge);
            BonusStanding::all(&self.batch.charges[planned.charge], notice, outcome.at)
        });
        bonuses.collect()
    }

    /// Whether all candidates have the counter of `charge` under `key`, so that it can't affect the choice.
    pub fn is_common(&self, key: &Key, charge: &Charge) -> bool {
        self.find(key, charge).is_some_and(|place| self.is_in_all(place))
    }

    fn is_in_all(&self, charge: usize) -> bool {
        let charges = |candidate: &DryRunCandidate| {
            candidate.charges.iter().any(|planned| planned.charge == charge)
        };
        self.candidates.iter().all(charges)
    }

    fn find(&self, key: &Key, charge: &Charge) -> Option<usize> {
        let key_index = self.batch.keys.iter().position(|known| known == key)?;
        let same = |known: &Charge| {
            known.key_index == key_index && known.limit.tag() == charge.limit.tag()
        };
        self.batch.charges.iter().position(same)
    }

    /// The position of the charge for the counter of `charge`, whose key is one of `keys`.
    fn place(&mut self, keys: &[Key], charge: &Charge) -> usize {
        let key = &keys[charge.key_index];
        if let Some(known) = self.find(key, charge) {
            return known;
        }
        let key_index = self.batch.key_index(key.clone());
        let once = match charge.once {
            Some(Once::Mark(mark)) if charge.hits.amount() != 0 => {
                let mark_index = self.batch.key_index(keys[usize::from(mark.key_index)].clone());
                Some(Once::Look(mark).under(mark_index))
            }
            _ => None,
        };
        self.batch.charges.push(Charge {
            group: self.batch.charges.len(),
            // No hits are requested, so nothing is refused.
            mode: Mode::Shadow,
            open: Open { hits: charge.open.hits, pressed: Vec::new() },
            bonuses: charge.bonuses.clone(),
            on_outage: charge.on_outage,
            once,
            reservation: charge.counting(),
            ..Charge::plain(key_index, charge.limit.clone(), Hits::Spend(0))
        });
        self.batch.charges.len() - 1
    }

    /// The position of a gauge whose charges already have positions.
    fn gauge(&mut self, plan: &Plan<'_>, gauge: &Gauge, places: &[Option<usize>]) -> Option<usize> {
        let key = &plan.batch.keys[gauge.key_index];
        let key_index = self.batch.keys.iter().position(|known| known == key)?;
        let known = self.batch.gauges.iter().position(|known| known.key_index == key_index);
        if known.is_some() {
            return known;
        }
        let mark = |mark: &Mark| Some(Mark { charge: places[mark.charge]?, ..*mark });
        let marks = gauge.marks.iter().map(mark).collect::<Option<_>>()?;
        self.batch.gauges.push(Gauge { key_index, marks });
        Some(self.batch.gauges.len() - 1)
    }

    fn state(&self, candidate: &DryRunCandidate, outcome: &Outcome) -> CandidateState {
        if candidate.denied {
            return CandidateState::Denied;
        }
        let own: SmallVec<[&DryRunCharge; INLINE_CAP]> = candidate
            .charges
            .iter()
            .filter(|planned| planned.mode.refuses() && !self.is_in_all(planned.charge))
            .collect();
        let mut tally = Tally::default();
        for group in own.chunk_by(|one, next| one.group == next.group) {
            let group_fit = match group {
                group if !group.iter().all(|planned| self.fits(planned, outcome)) => GroupFit::Over,
                group if group.iter().any(|planned| outcome.decisions[planned.charge].failed) => {
                    GroupFit::Failed
                }
                _ => GroupFit::Fits,
            };
            tally.count(group[0].mode, group_fit);
        }
        if tally.failed() {
            return CandidateState::Failed;
        }
        if tally.admitted() {
            let free = own.iter().map(|planned| self.free(planned, outcome));
            let free = free.fold(1.0, f64::min);
            return CandidateState::Passes(Some(free).filter(|_| !outcome.fallback));
        }
        let lacking = own.iter().filter(|planned| !self.fits(planned, outcome));
        let waits = lacking.map(|planned| self.wait_ms(planned, outcome));
        let wait_ms = waits.reduce(|one, other| Some(one?.max(other?))).flatten();
        wait_ms.map_or(CandidateState::Never, CandidateState::Waits)
    }

    fn fits(&self, planned: &DryRunCharge, outcome: &Outcome) -> bool {
        if is_free(planned, outcome) {
            return true;
        }
        let remaining = outcome.decisions[planned.charge].standing.remaining;
        let charge = &self.batch.charges[planned.charge];
        match (planned.hits, charge.limit.overdraft()) {
            (Hits::Spend(0) | Hits::GiveBack(_), _) => true,
            // The dry run asks for no hits, and only hits are denied.
            _ if outcome.fallback && charge.on_outage == OnOutage::Deny => false,
            _ if planned.part != 0 => {
                0 < remaining.saturating_add(outcome.grace_left(planned.charge))
            }
            (hits, Overdraft::None) => {
                hits.amount() <= remaining.saturating_add(outcome.grace_left(planned.charge))
            }
            (_, Overdraft::Allow | Overdraft::Clip | Overdraft::Owed) => 0 < remaining,
        }
    }

    /// The free part of a limit.
    fn free(&self, planned: &DryRunCharge, outcome: &Outcome) -> f64 {
        let capacity = self.batch.charges[planned.charge].limit.at(outcome.at).capacity();
        let remaining = outcome.decisions[planned.charge].standing.remaining.min(capacity);
        if capacity == 0 { 0.0 } else { part(remaining, capacity) }
    }

    /// The time until the limit is unused and, if the hits need one, another grace may begin. The limit then has the hits; None if it
    /// never does.
    fn wait_ms(&self, planned: &DryRunCharge, outcome: &Outcome) -> Option<u64> {
        let charge = &self.batch.charges[planned.charge];
        let limit = charge.limit.at(outcome.at);
        let open = charge.part(charge.open.hits, limit);
        let reset_ms = outcome.decisions[planned.charge].standing.reset_ms?;
        let hits = if planned.part == 0 { planned.hits.amount() } else { 1 };
        if hits <= open {
            return Some(reset_ms);
        }
        let grace = charge.grace_of(limit).filter(|_| limit.capacity() <= open)?;
        let again_ms = limit.grace_pause_ms().map_or(0, |pause_ms| grace.for_ms() + pause_ms);
        (hits <= open + grace.over()).then_some(reset_ms.max(again_ms))
    }
}

/// Whether an earlier attempt at the request has made a charge, so that it is free.
fn is_free(planned: &DryRunCharge, outcome: &Outcome) -> bool {
    let decision = outcome.decisions[planned.charge];
    decision.fit == Fit::Now && decision.retry.is_some_and(Retry::is_free)
}

/// `part` of `whole`, from 0 to 1, to a millionth.
fn part(part: u64, whole: u64) -> f64 {
    const MILLION: u32 = 1_000_000;
    let millionths = u128::from(part) * u128::from(MILLION) / u128::from(whole);
    f64::from(u32::try_from(millionths).unwrap_or(MILLION)) / f64::from(MILLION)
}
