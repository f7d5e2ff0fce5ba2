//! A dry run for the candidates of a choice: the remaining capacity of each, without a charge.
//!
//! The plan of each candidate has other counters. All are read in one batch, so that one step of the store reports the
//! state of all candidates.

use smallvec::SmallVec;

use crate::limit::{Fit, Hits, Overdraft};
use crate::policy::{Key, Mode};
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
    wants: SmallVec<[DryRunCharge; INLINE_CAP]>,
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
pub enum Stand {
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
            candidate.wants.push(DryRunCharge {
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
    pub fn stands(&self, outcome: &Outcome) -> SmallVec<[Stand; INLINE_CAP]> {
        self.candidates.iter().map(|candidate| self.stand(candidate, outcome)).collect()
    }

    /// Whether an earlier attempt at the request was charged as this candidate.
    pub fn is_retry(&self, candidate: usize, outcome: &Outcome) -> bool {
        let wants = self.candidates.get(candidate).into_iter().flat_map(|one| &one.wants);
        let mut own = wants.filter(|want| !self.all_want(want.charge));
        own.any(|want| is_free(want, outcome))
    }

    /// The outcome of the plan of a single candidate, from the state of its limits.
    pub fn foreseen(&self, outcome: Outcome) -> Outcome {
        let wants = || self.candidates.iter().flat_map(|candidate| &candidate.wants);
        let remaining = |want: &DryRunCharge| {
            let left = outcome.decisions[want.charge].standing.remaining;
            left.saturating_add(outcome.grace_left(want.charge))
        };
        let decision = |want: &DryRunCharge| {
            let fit = match (self.fits(want, &outcome), self.wait_ms(want, &outcome)) {
                (true, _) => Fit::Now,
                (false, Some(wait_ms)) => Fit::AfterMs(wait_ms),
                (false, None) => Fit::Never,
            };
            // As many as all limits of the part have.
            let same = wants().filter(|other| want.part != 0 && other.part == want.part);
            let granted = same.map(remaining).min().unwrap_or(u64::MAX);
            let clipped = want.hits.amount().saturating_sub(granted);
            Decision { fit, clipped, ..outcome.decisions[want.charge] }
        };
        let notices = wants().enumerate().flat_map(|(index, want)| {
            let own = outcome.notices.iter().filter(|notice| notice.charge == want.charge);
            own.map(move |notice| Notice { charge: index, ..notice.clone() })
        });
        let (decisions, notices) = (wants().map(decision).collect(), notices.collect());
        Outcome { decisions, notices, ..outcome }
    }

    /// Has the store report how bonuses stand.
    pub fn tell_bonuses(&mut self) {
        self.batch.charges.iter_mut().for_each(|charge| charge.tells_bonuses = true);
    }

    /// How the bonuses stand of each charge of the plan of the only candidate.
    pub fn bonuses(&self, outcome: &Outcome) -> SmallVec<[Vec<BonusStanding>; INLINE_CAP]> {
        let wants = self.candidates.iter().flat_map(|candidate| &candidate.wants);
        let bonuses = wants.map(|want| {
            let notice = outcome.notices.iter().find(|notice| notice.charge == want.charge);
            BonusStanding::all(&self.batch.charges[want.charge], notice, outcome.at)
        });
        bonuses.collect()
    }

    /// Whether all candidates have the counter of `charge` under `key`, so that it can't affect the choice.
    pub fn is_common(&self, key: &Key, charge: &Charge) -> bool {
        self.find(key, charge).is_some_and(|place| self.all_want(place))
    }

    fn all_want(&self, charge: usize) -> bool {
        let wants =
            |candidate: &DryRunCandidate| candidate.wants.iter().any(|want| want.charge == charge);
        self.candidates.iter().all(wants)
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

    fn stand(&self, candidate: &DryRunCandidate, outcome: &Outcome) -> Stand {
        if candidate.denied {
            return Stand::Denied;
        }
        let own: SmallVec<[&DryRunCharge; INLINE_CAP]> = candidate
            .wants
            .iter()
            .filter(|want| want.mode.refuses() && !self.all_want(want.charge))
            .collect();
        let mut tally = Tally::default();
        for group in own.chunk_by(|one, next| one.group == next.group) {
            let group_fit = match group {
                group if !group.iter().all(|want| self.fits(want, outcome)) => GroupFit::Over,
                group if group.iter().any(|want| outcome.decisions[want.charge].failed) => {
                    GroupFit::Failed
                }
                _ => GroupFit::Fits,
            };
            tally.count(group[0].mode, group_fit);
        }
        if tally.failed() {
            return Stand::Failed;
        }
        if tally.admitted() {
            let free = own.iter().map(|want| self.free(want, outcome));
            let free = free.fold(1.0, f64::min);
            return Stand::Passes(Some(free).filter(|_| !outcome.fallback));
        }
        let lacking = own.iter().filter(|want| !self.fits(want, outcome));
        let waits = lacking.map(|want| self.wait_ms(want, outcome));
        let wait_ms = waits.reduce(|one, other| Some(one?.max(other?))).flatten();
        wait_ms.map_or(Stand::Never, Stand::Waits)
    }

    fn fits(&self, want: &DryRunCharge, outcome: &Outcome) -> bool {
        if is_free(want, outcome) {
            return true;
        }
        let remaining = outcome.decisions[want.charge].standing.remaining;
        match (want.hits, self.batch.charges[want.charge].limit.overdraft()) {
            (Hits::Spend(0) | Hits::GiveBack(_), _) => true,
            _ if want.part != 0 => 0 < remaining.saturating_add(outcome.grace_left(want.charge)),
            (hits, Overdraft::None) => {
                hits.amount() <= remaining.saturating_add(outcome.grace_left(want.charge))
            }
            (_, Overdraft::Allow | Overdraft::Clip | Overdraft::Owed) => 0 < remaining,
        }
    }

    /// The free part of a limit.
    fn free(&self, want: &DryRunCharge, outcome: &Outcome) -> f64 {
        let capacity = self.batch.charges[want.charge].limit.at(outcome.at).capacity();
        let remaining = outcome.decisions[want.charge].standing.remaining.min(capacity);
        if capacity == 0 { 0.0 } else { part(remaining, capacity) }
    }

    /// The time until the limit is unused and, if the hits need one, another grace may begin. The limit then has the hits; None if it
    /// never does.
    fn wait_ms(&self, want: &DryRunCharge, outcome: &Outcome) -> Option<u64> {
        let charge = &self.batch.charges[want.charge];
        let limit = charge.limit.at(outcome.at);
        let open = charge.part(charge.open.hits, limit);
        let reset_ms = outcome.decisions[want.charge].standing.reset_ms?;
        let hits = if want.part == 0 { want.hits.amount() } else { 1 };
        if hits <= open {
            return Some(reset_ms);
        }
        let grace = charge.grace_of(limit).filter(|_| limit.capacity() <= open)?;
        let again_ms = limit.grace_pause_ms().map_or(0, |pause_ms| grace.for_ms() + pause_ms);
        (hits <= open + grace.over()).then_some(reset_ms.max(again_ms))
    }
}

/// Whether an earlier attempt at the request has made a charge, so that it is free.
fn is_free(want: &DryRunCharge, outcome: &Outcome) -> bool {
    let decision = outcome.decisions[want.charge];
    decision.fit == Fit::Now && decision.retry.is_some_and(Retry::is_free)
}

/// `part` of `whole`, from 0 to 1, to a millionth.
fn part(part: u64, whole: u64) -> f64 {
    const MILLION: u32 = 1_000_000;
    let millionths = u128::from(part) * u128::from(MILLION) / u128::from(whole);
    f64::from(u32::try_from(millionths).unwrap_or(MILLION)) / f64::from(MILLION)
}
