//! Values of the subjects that matter most, such as callers, within a bound.
//!
//! If a new subject has no place, a quarter of the subjects gives way: those with the lowest rank, and of these the ones that were
//! seen longest ago. So a flood of subjects that are seen once replaces each other, costs little each, and does not push out a
//! subject about which something is known.

use std::collections::HashMap;
use std::hash::Hash;

use foldhash::fast::RandomState;

/// The part of the subjects that gives way at once.
const QUARTER: usize = 4;

/// A value whose importance can be compared.
pub trait Ranked {
    /// How much it matters, and the time at which it was last seen.
    fn rank(&self) -> (u64, u64);
}

/// Values by subject.
#[derive(Debug)]
pub struct Places<K, V> {
    values: HashMap<K, V, RandomState>,
    places_max: usize,
}

impl<K: Clone + Eq + Hash, V: Default + Ranked> Places<K, V> {
    /// No subjects yet, and at most so many.
    pub fn new(places_max: usize) -> Self {
        Self { values: HashMap::default(), places_max }
    }

    /// The value of a subject.
    pub fn value(&mut self, subject: K) -> &mut V {
        if !self.values.contains_key(&subject) && self.places_max <= self.values.len() {
            self.make_place();
        }
        self.values.entry(subject).or_default()
    }

    /// All subjects with their values.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.values.iter()
    }

    /// Removes subjects.
    pub fn retain(&mut self, is_kept: impl FnMut(&K, &mut V) -> bool) {
        self.values.retain(is_kept);
    }

    /// Has a quarter of the subjects give way.
    pub fn make_place(&mut self) {
        let mut ranks: Vec<(u64, u64)> = self.values.values().map(Ranked::rank).collect();
        let mut removed = ranks.len().div_ceil(QUARTER);
        if ranks.is_empty() {
            return;
        }
        let (_, last, _) = ranks.select_nth_unstable(removed - 1);
        let last = *last;
        // Several may have the last rank.
        self.values.retain(|_, value| {
            let gives_way = 0 < removed && value.rank() <= last;
            removed -= usize::from(gives_way);
            !gives_way
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default)]
    struct Count(u64, u64);

    impl Ranked for Count {
        fn rank(&self) -> (u64, u64) {
            (self.0, self.1)
        }
    }

    #[test]
    fn a_flood_replaces_itself_and_not_what_is_known() {
        let mut places: Places<u64, Count> = Places::new(1_000);
        for subject in 0..100_000 {
            if subject % 50 == 0 {
                places.value(1_000_000).0 += 1;
            }
            let value = places.value(subject);
            (value.0, value.1) = (1, subject);
            assert!(places.values.len() <= 1_000);
        }
        assert_eq!(places.values.get(&1_000_000).map(|value| value.0), Some(2_000));
        assert!(750 <= places.values.len());
    }

    #[test]
    fn equal_ranks_give_way_in_part() {
        let mut places: Places<u64, Count> = Places::new(8);
        for subject in 0..8 {
            places.value(subject);
        }
        places.value(8);
        assert_eq!(places.values.len(), 7);
    }
}
