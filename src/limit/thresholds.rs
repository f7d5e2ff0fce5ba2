//! Thresholds of a limit: parts of it at whose use an event is due, once in each window.
//!
//! What was told is kept beside the state, so that of several sidecars one tells it. A threshold is told by the first charge
//! that leaves so much in use, with those below it that were not told. Each is armed again when the window ends; where
//! there is no window that ends, once a window's length has passed since it was told and less was in use meanwhile.

use std::sync::Arc;

use smallvec::SmallVec;

use super::{Algorithm, Limit, State};
use crate::clock::Timestamp;

/// Thresholds of one limit, at most.
pub const THRESHOLDS_MAX: usize = 8;

/// How long a threshold of a total stays told at least: a total has no window.
const TOTAL_REARM_MS: u64 = 86_400_000;

/// The thresholds of one limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thresholds {
    /// In percent, the lowest first; shared by the limits of all tiers.
    percents: Arc<[u16]>,
    /// From so many hits on; none for a limit without capacity.
    hits: SmallVec<[u64; 4]>,
}

/// What was told of a limit's thresholds: each that was told and is not armed again.
pub type Reported = SmallVec<[ReportedThreshold; 2]>;

/// A threshold that was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReportedThreshold {
    pub percent: u16,
    /// Until when it stays told whatever is in use, in milliseconds since the Unix epoch.
    pub until_ms: u64,
    /// Whether less was in use since.
    pub fell: bool,
}

/// Thresholds that one charge has crossed: a bit for each, the lowest first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Crossed(pub u8);

impl Crossed {
    /// Whether it is none.
    pub fn is_none(self) -> bool {
        self.0 == 0
    }
}

impl Thresholds {
    fn new(percents: Arc<[u16]>, capacity: u64) -> Self {
        let hits = |percent: &u16| {
            let hits = (u128::from(capacity) * u128::from(*percent)).div_ceil(100);
            u64::try_from(hits).unwrap_or(u64::MAX).max(1)
        };
        let hits =
            if capacity == 0 { SmallVec::new() } else { percents.iter().map(hits).collect() };
        Self { percents, hits }
    }

    /// In percent, the lowest first.
    pub fn percents(&self) -> &Arc<[u16]> {
        &self.percents
    }

    /// Each in percent, and the hits in use from which on it is crossed.
    pub fn points(&self) -> impl Iterator<Item = (u16, u64)> + '_ {
        self.percents.iter().copied().zip(self.hits.iter().copied())
    }

    /// The thresholds that were crossed, in percent.
    pub fn crossed(&self, crossed: Crossed) -> impl Iterator<Item = u16> + '_ {
        let all = self.percents.iter().enumerate();
        all.filter(move |(index, _)| crossed.0 >> index & 1 == 1).map(|(_, percent)| *percent)
    }
}

impl Limit {
    /// The same limit with thresholds, in percent of its capacity, the lowest first; at most [`THRESHOLDS_MAX`].
    pub fn with_thresholds(self, percents: Arc<[u16]>) -> Self {
        self.edited(|limit| {
            let thresholds = Thresholds::new(percents, limit.capacity());
            Self { thresholds: Some(Box::new(thresholds)), ..limit }
        })
    }

    /// The thresholds for another capacity.
    pub(super) fn thresholds_at(&self, capacity: u64) -> Option<Box<Thresholds>> {
        let percents = self.thresholds.as_ref().map(|thresholds| thresholds.percents.clone())?;
        Some(Box::new(Thresholds::new(percents, capacity)))
    }

    /// Its thresholds, if it has any.
    pub fn thresholds(&self) -> Option<&Thresholds> {
        self.thresholds.as_deref()
    }

    /// How long a threshold stays told, in milliseconds; None where its window's end arms it again.
    pub fn rearm_ms(&self) -> Option<u64> {
        match self.algorithm() {
            Algorithm::Sliding(sliding) => Some(sliding.window_ms()),
            Algorithm::Bucket(bucket) => Some(bucket.window_ms()),
            Algorithm::Total => Some(TOTAL_REARM_MS),
            Algorithm::Fixed(_) | Algorithm::Calendar(_) => None,
        }
    }

    /// What a charge crosses that spends hits of a limit, or gives them back, and what is told of it from then on. `state` is
    /// the one after the charge, `used` is what was in use before.
    pub fn tell(
        &self,
        (reported, used): (&Reported, u64),
        state: &State,
        now: Timestamp,
    ) -> (Crossed, Reported) {
        let Some(thresholds) = self.thresholds() else { return Default::default() };
        let (used_before, used) = (used, self.used(state, now));
        let now_ms = now.as_ms();
        let (mut crossed, mut after) = (Crossed::default(), Reported::new());
        for (index, (percent, hits)) in thresholds.points().enumerate() {
            let known = reported.iter().find(|known| known.percent == percent);
            let stays = |known: &&ReportedThreshold| {
                now_ms < known.until_ms || (!known.fell && hits <= used_before)
            };
            if let Some(known) = known.filter(stays) {
                let fell = known.fell || used_before.min(used) < hits;
                after.push(ReportedThreshold { fell, ..*known });
            } else if hits <= used && used_before < used {
                crossed.0 |= 1 << index;
                let until_ms = self.told_until_ms(state, now);
                after.push(ReportedThreshold { percent, until_ms, fell: false });
            }
        }
        // What another edit of the policy has told, which may still be in force elsewhere.
        let is_other = |known: &&ReportedThreshold| {
            let is_known = thresholds.points().any(|(percent, _)| percent == known.percent);
            now_ms < known.until_ms && !is_known
        };
        after.extend(reported.iter().filter(is_other).take(THRESHOLDS_MAX).copied());
        (crossed, after)
    }

    /// Which of these thresholds, in percent, are crossed and not told; from then on they are.
    pub fn tell_again(
        &self,
        (reported, percents): (&mut Reported, &[u16]),
        state: &State,
        now: Timestamp,
    ) -> Crossed {
        let Some(thresholds) = self.thresholds() else { return Crossed::default() };
        let used = self.used(state, now);
        let mut crossed = Crossed::default();
        for (index, (percent, hits)) in thresholds.points().enumerate() {
            let is_told = reported.iter().any(|known| known.percent == percent);
            if hits <= used && !is_told && percents.contains(&percent) {
                crossed.0 |= 1 << index;
                let until_ms = self.told_until_ms(state, now);
                reported.push(ReportedThreshold { percent, until_ms, fell: false });
            }
        }
        crossed
    }

    /// Until when a threshold that is told now stays told whatever is in use, in milliseconds since the Unix epoch.
    fn told_until_ms(&self, state: &State, now: Timestamp) -> u64 {
        match self.rearm_ms() {
            Some(rearm_ms) => now.as_ms() + rearm_ms,
            None => self.expiry_ms(state).unwrap_or(0),
        }
    }

    /// When what was told is to be forgotten: it stays as long as the state after the charge may, whatever a schedule does. None
    /// for never.
    pub fn reported_expiry_ms(&self, reported: &Reported, state: &State) -> Option<u64> {
        let until_ms = reported.iter().map(|reported| reported.until_ms).max().unwrap_or(0);
        match state {
            State::Empty => Some(until_ms),
            State::Total(_) => None,
            _ => self.latest_expiry_ms(state).map(|end_ms| end_ms.max(until_ms)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Bucket, Fixed, Hits, Sliding};
    use super::*;

    const MINUTE_MS: u64 = 60_000;

    /// What charges of a limit of 100 tell, each of hits at a time in seconds; below zero they are given back.
    fn check(algorithm: Algorithm, charges: &[(i64, u64)], expected: &[&[u16]]) {
        let limit = Limit::new(100, algorithm).with_thresholds([80, 90, 100].into());
        let (mut state, mut reported) = (State::Empty, Reported::default());
        let mut all = Vec::new();
        for (hits, at_s) in charges {
            let now = Timestamp::from_ms(1_700_000_040_000 + at_s * 1_000);
            limit.settle(&mut state, now);
            let used = limit.used(&state, now);
            let amount = hits.unsigned_abs();
            let hits = if *hits < 0 { Hits::GiveBack(amount) } else { Hits::Spend(amount) };
            limit.charge(&mut state, hits, now);
            let crossed;
            (crossed, reported) = limit.tell((&reported, used), &state, now);
            all.push(limit.thresholds().unwrap().crossed(crossed).collect::<Vec<_>>());
        }
        assert_eq!(all, expected, "{limit} {charges:?}");
    }

    fn fixed() -> Algorithm {
        Algorithm::Fixed(Fixed::new(MINUTE_MS))
    }

    fn sliding() -> Algorithm {
        Algorithm::Sliding(Sliding::new(MINUTE_MS, 100))
    }

    #[test]
    fn a_jump_over_several_tells_each() {
        for algorithm in [fixed(), sliding(), Algorithm::Total] {
            check(algorithm, &[(79, 0), (12, 1), (8, 2), (1, 3)], &[&[], &[80, 90], &[], &[100]]);
        }
    }

    #[test]
    fn a_window_tells_each_once_and_the_next_one_again() {
        check(fixed(), &[(85, 0), (-10, 1), (10, 2), (85, 60)], &[&[80], &[], &[], &[80]]);
    }

    #[test]
    fn use_that_goes_up_and_down_tells_nothing_again_within_a_window() {
        check(sliding(), &[(85, 0), (-85, 1), (85, 59)], &[&[80], &[], &[]]);
        check(sliding(), &[(85, 0), (-85, 1), (85, 60)], &[&[80], &[], &[80]]);
        check(Algorithm::Total, &[(85, 0), (-85, 1), (85, 86_399)], &[&[80], &[], &[]]);
        check(Algorithm::Total, &[(85, 0), (-85, 1), (85, 86_400)], &[&[80], &[], &[80]]);
    }

    #[test]
    fn use_that_stays_tells_nothing_again() {
        check(Algorithm::Total, &[(85, 0), (1, 90_000), (4, 180_000)], &[&[80], &[], &[90]]);
    }

    #[test]
    fn a_higher_threshold_does_not_prolong_a_lower_one() {
        let charges = [(80, 0), (10, 50), (70, 61), (9, 62), (1, 105), (10, 111)];
        check(sliding(), &charges, &[&[80], &[90], &[80], &[], &[], &[90]]);
        let charges = [(80, 0), (10, 86_399), (-50, 86_400), (50, 86_401)];
        check(Algorithm::Total, &charges, &[&[80], &[90], &[], &[80]]);
    }

    #[test]
    fn a_bucket_tells_again_when_it_was_refilled_meanwhile() {
        let bucket = || Algorithm::Bucket(Bucket::new(30, MINUTE_MS, 100).unwrap());
        check(bucket(), &[(85, 0), (29, 59), (4, 60)], &[&[80], &[], &[80]]);
        check(bucket(), &[(85, 0), (26, 60), (31, 120)], &[&[80], &[80], &[80]]);
    }
}
