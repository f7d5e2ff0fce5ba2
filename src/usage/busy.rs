//! Which callers of an hour are sent to a store by name. A store keeps the busiest of an hour; to send it all of a million
//! callers would cost more than their decisions.

use std::hash::{BuildHasher, RandomState};

use crate::clock::Timestamp;

/// Callers of an hour that are sent by name: twice as many as a store is sure to keep.
const NAMED_MAX: u32 = 20_000;

/// Counters of a row, a power of two.
const WIDTH: usize = 1 << 18;

/// Counts the requests of each caller in an hour: too high for some if there are many callers, never too low. A caller has a
/// counter in each of two rows, which it shares with others, so the lower one is closer (a count-min sketch, 512 KiB).
#[derive(Debug)]
pub struct BusyCallers {
    hour: Timestamp,
    /// It can't be guessed who shares a counter with whom.
    hasher: RandomState,
    rows: [Box<[u8]>; 2],
    /// The number of callers that have so many requests, by number.
    reached: [u32; u8::MAX as usize + 1],
    /// The fewest requests of a caller that is sent by name.
    least: u8,
}

impl BusyCallers {
    /// No callers yet.
    pub fn new() -> Self {
        Self {
            hour: Timestamp::default(),
            hasher: RandomState::new(),
            rows: [(); 2].map(|()| vec![0; WIDTH].into()),
            reached: [0; u8::MAX as usize + 1],
            least: 1,
        }
    }

    /// Counts requests of a caller in an hour. Returns whether the caller is among the busiest of it so far. An earlier hour than the
    /// last one begins anew.
    pub fn admits(&mut self, hour: Timestamp, caller: &str, requests: u64) -> bool {
        if self.hour != hour {
            self.rows.iter_mut().for_each(|row| row.fill(0));
            (self.hour, self.reached, self.least) = (hour, [0; u8::MAX as usize + 1], 1);
        }
        let hash = self.hasher.hash_one(caller);
        let mask = WIDTH as u64 - 1;
        let [first, second] = &mut self.rows;
        let counters = [
            &mut first[usize::try_from(hash & mask).unwrap_or_default()],
            &mut second[usize::try_from(hash >> 32 & mask).unwrap_or_default()],
        ];
        let before = (*counters[0]).min(*counters[1]);
        let requests = u8::try_from(requests.max(1)).unwrap_or(u8::MAX);
        let after = before.saturating_add(requests);
        counters.into_iter().for_each(|counter| *counter = (*counter).max(after));
        for number in (before..after).map(|number| number + 1) {
            self.reached[usize::from(number)] += 1;
        }
        while self.least < u8::MAX && NAMED_MAX < self.reached[usize::from(self.least)] {
            self.least += 1;
        }
        self.least <= after
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Timestamp = Timestamp::from_ms(1_800_000 * 3_600_000);
    const NEXT: Timestamp = Timestamp::from_ms(1_800_001 * 3_600_000);

    fn admitted(busy: &mut BusyCallers, callers: std::ops::Range<u32>, requests: u64) -> usize {
        callers.filter(|number| busy.admits(HOUR, &format!("c{number}"), requests)).count()
    }

    #[test]
    fn all_callers_are_named_until_there_are_too_many() {
        let mut busy = BusyCallers::new();
        assert_eq!(admitted(&mut busy, 0..10_000, 0), 10_000);
        assert_eq!(admitted(&mut busy, 0..10_000, 1), 10_000);
        // Some share both counters with others, and seem to be busier.
        let late = admitted(&mut busy, 100_000..500_000, 1);
        assert!((10_000..60_000).contains(&late), "{late}");
    }

    #[test]
    fn busy_callers_are_named_among_a_million_others() {
        let mut busy = BusyCallers::new();
        let mut named = 0;
        for round in 0..20 {
            admitted(&mut busy, round * 50_000 + 1_000..(round + 1) * 50_000, 1);
            named += admitted(&mut busy, 0..1_000, 20);
        }
        assert!(19_000 <= named, "{named} of 20000");
        assert!(admitted(&mut busy, 2_000_000..2_010_000, 1) < 2_000);
        // The next hour begins anew.
        assert!(busy.admits(NEXT, "late", 1));
    }

    #[test]
    fn no_number_of_requests_is_too_large() {
        let mut busy = BusyCallers::new();
        for _ in 0..3 {
            assert!(busy.admits(HOUR, "one", u64::MAX));
        }
    }
}
