//! Hits that reservations hold of a limit: they count as used until they are settled, or each lapses at its own millisecond.
//! `store/redis/held.lua` mirrors this.

use super::{Limit, State};
use crate::clock::Timestamp;

/// Hits that one reservation holds of a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// Tells it from the others of the limit. Of estimates, which are anonymous, the hits of each: those that lapse together
    /// are one.
    pub id: u64,
    pub hits: u64,
    /// When it lapses, in milliseconds since the Unix epoch: from then on it counts nothing.
    pub until_ms: u64,
}

/// What reservations hold of one limit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holdings {
    /// The first to lapse first.
    all: Vec<Held>,
}

/// So many hits are held from a time on, if no more are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeldFrom {
    /// In milliseconds since the Unix epoch.
    pub from_ms: u64,
    pub hits: u64,
}

impl Holdings {
    /// Nothing is held.
    pub const NONE: &Self = &Self { all: Vec::new() };

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// How many reservations hold hits.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// How many hits they hold.
    pub fn hits(&self) -> u64 {
        self.all.iter().map(|held| held.hits).sum()
    }

    /// When the last of them lapses, in milliseconds since the Unix epoch; 0 if nothing is held.
    pub fn last_ms(&self) -> u64 {
        self.all.last().map_or(0, |held| held.until_ms)
    }

    /// What the reservation of that id holds.
    pub fn find(&self, id: u64) -> Option<Held> {
        self.all.iter().find(|held| held.id == id).copied()
    }

    /// Each of them, the first to lapse first.
    pub fn iter(&self) -> impl Iterator<Item = &Held> {
        self.all.iter()
    }

    /// Holds more. No other has the same id.
    pub fn add(&mut self, held: Held) {
        let place = self.all.partition_point(|known| known.until_ms <= held.until_ms);
        self.all.insert(place, held);
    }

    /// Ends what the reservation of that id holds.
    pub fn remove(&mut self, id: u64) -> Option<Held> {
        let place = self.all.iter().position(|held| held.id == id)?;
        Some(self.all.remove(place))
    }

    /// Holds so many hits more as estimates of so many hits each.
    pub fn add_estimates(&mut self, (hits, each): (u64, u64), until_ms: u64) {
        let same = |held: &&mut Held| held.until_ms == until_ms && held.id == each;
        match self.all.iter_mut().find(same) {
            Some(held) => held.hits += hits,
            None => self.add(Held { id: each, hits, until_ms }),
        }
    }

    /// The hits of the oldest estimate: the first to lapse.
    pub fn oldest_estimate(&self) -> Option<u64> {
        self.all.first().map(|held| held.id.min(held.hits))
    }

    /// Ends so many hits of the oldest estimates; 0 for the oldest one, whatever its size.
    pub fn end_oldest_estimates(&mut self, hits: u64) {
        let mut left = if hits == 0 { self.oldest_estimate().unwrap_or(0) } else { hits };
        while 0 < left
            && let Some(oldest) = self.all.first_mut()
        {
            let ended = oldest.hits.min(left);
            oldest.hits -= ended;
            left -= ended;
            if oldest.hits == 0 {
                self.all.remove(0);
            }
        }
    }

    /// Ends up to so many estimates of so many hits, the last to lapse first.
    pub fn end_youngest_estimates(&mut self, hits: u64, mut count: u64) {
        for place in (0..self.all.len()).rev() {
            if self.all[place].id == hits && 0 < count {
                let known = self.all[place].hits.checked_div(hits).unwrap_or(1);
                self.reduce(place, count);
                count = count.saturating_sub(known);
            }
        }
    }

    /// Ends so many of the estimates at a place.
    fn reduce(&mut self, place: usize, count: u64) {
        let Some(held) = self.all.get_mut(place) else { return };
        held.hits = held.hits.saturating_sub(held.id.saturating_mul(count));
        if held.hits == 0 {
            self.all.remove(place);
        }
    }

    /// Drops what has lapsed.
    pub fn lapse(&mut self, now: Timestamp) {
        let lapsed = self.all.partition_point(|held| held.until_ms <= now.as_ms());
        self.all.drain(..lapsed);
    }

    /// What is held from now on, and from each lapse on, but for the reservation of that id.
    pub fn steps(&self, without: Option<u64>) -> impl Iterator<Item = HeldFrom> {
        let counted = self.all.iter().filter(move |held| Some(held.id) != without);
        let all = counted.clone().map(|held| held.hits).sum();
        let lapses = counted.scan(all, |left, held| {
            *left -= held.hits;
            Some(HeldFrom { from_ms: held.until_ms, hits: *left })
        });
        std::iter::once(HeldFrom { from_ms: 0, hits: all }).chain(lapses)
    }
}

impl Limit {
    /// When at most `used_max` of a settled state and of what is held besides will be in use if nobody spends, in milliseconds
    /// since the Unix epoch. None if time alone doesn't bring it there.
    pub fn falls_with_held_to_ms(
        &self,
        (state, held): (&State, &Holdings),
        used_max: u64,
        now: Timestamp,
    ) -> Option<u64> {
        let steps = held.steps(None);
        let falls = steps.filter_map(|step| {
            let at_ms = self.falls_to_ms(state, used_max.checked_sub(step.hits)?, now)?;
            Some(at_ms.max(step.from_ms))
        });
        falls.min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limit::{Algorithm, Hits, Sliding};

    const START_MS: u64 = 1_700_000_040_000;

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_ms(START_MS + ms)
    }

    fn holdings(all: &[(u64, u64, u64)]) -> Holdings {
        let mut holdings = Holdings::default();
        for &(id, hits, until) in all {
            holdings.add(Held { id, hits, until_ms: START_MS + until });
        }
        holdings
    }

    #[test]
    fn what_is_held_lapses_at_its_own_millisecond() {
        let mut holdings = holdings(&[(1, 5, 300), (2, 7, 100), (3, 2, 100)]);
        assert_eq!((holdings.hits(), holdings.last_ms()), (14, START_MS + 300));
        let steps: Vec<(u64, u64)> =
            holdings.steps(None).map(|step| (step.from_ms, step.hits)).collect();
        let ms = |ms| START_MS + ms;
        assert_eq!(steps, [(0, 14), (ms(100), 7), (ms(100), 5), (ms(300), 0)]);
        let others: Vec<u64> = holdings.steps(Some(2)).map(|step| step.hits).collect();
        assert_eq!(others, [7, 5, 0]);
        holdings.lapse(at(99));
        assert_eq!(holdings.hits(), 14);
        holdings.lapse(at(100));
        assert_eq!((holdings.hits(), holdings.find(2)), (5, None));
        assert_eq!(holdings.remove(1).map(|held| held.hits), Some(5));
        assert!(holdings.is_empty());
    }

    #[test]
    fn use_falls_when_hits_leave_the_window_and_when_holds_lapse() {
        let limit = Limit::new(10, Algorithm::Sliding(Sliding::new(1_000, 10)));
        let mut state = State::default();
        limit.charge(&mut state, Hits::Spend(4), at(0));
        let held = holdings(&[(1, 3, 500), (2, 2, 2_000)]);
        let falls = |used_max| limit.falls_with_held_to_ms((&state, &held), used_max, at(10));
        assert_eq!(falls(9), Some(at(10).as_ms()));
        assert_eq!(falls(8), Some(START_MS + 500));
        assert_eq!(falls(6), Some(START_MS + 500));
        assert_eq!(falls(5), Some(START_MS + 1_000));
        assert_eq!(falls(2), Some(START_MS + 1_000));
        assert_eq!(falls(1), Some(START_MS + 2_000));
        assert_eq!(falls(0), Some(START_MS + 2_000));
    }
}
