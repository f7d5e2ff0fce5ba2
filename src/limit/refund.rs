//! Hits that come back a while after they were spent: no more than still count of them then.
//!
//! What was spent of a window is gone with its slot or its end, and of a bucket it is paid steadily. Hits that came
//! back later than that would be those of others, and as many would pass too much.

use super::{Algorithm, Limit, State};
use crate::clock::Timestamp;

/// Hits that come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refund {
    pub hits: u64,
    /// Until when they count, as [`Limit::counts_until`] says, or for those that [`Limit::charge_ahead`] added when
    /// their slot leaves the window.
    pub until: Timestamp,
}

impl Limit {
    /// Until when `hits` that are spent at `at` count, at least in part; the latest time there is for those that
    /// time alone doesn't bring back.
    pub fn counts_until(&self, hits: u64, at: Timestamp) -> Timestamp {
        let at_ms = at.as_ms();
        match &self.algorithm {
            Algorithm::Sliding(sliding) => {
                Timestamp::from_ms(sliding.slot_last_ms(at_ms) + sliding.window_ms())
            }
            Algorithm::Fixed(_) | Algorithm::Calendar(_) => {
                Timestamp::from_ms(self.window_end_ms(at))
            }
            Algorithm::Bucket(bucket) => {
                Timestamp::from_ms(at_ms.saturating_add(bucket.drained_ms(bucket.units(hits))))
            }
            Algorithm::Total => Timestamp::MAX,
        }
    }

    /// Takes back hits on a settled state. Of a sliding window they come out of the slot in which they count or those
    /// before it, the youngest first.
    pub fn take_back(&self, state: &mut State, refund: Refund, now: Timestamp) {
        let Refund { hits, until } = refund;
        let (until_ms, now_ms) = (until.as_ms(), now.as_ms());
        match (&self.algorithm, &mut *state) {
            (Algorithm::Sliding(sliding), State::Sliding(slots)) => {
                slots.take_back(until_ms.saturating_sub(sliding.window_ms()), hits);
            }
            (_, State::Window { end_ms, count }) if *end_ms == until_ms => {
                *count = count.saturating_sub(hits);
            }
            (Algorithm::Bucket(bucket), State::Bucket { at_ms, debt }) => {
                // What was paid of them since they were spent was theirs, or would be somebody else's now.
                let left = until_ms.saturating_sub(now_ms).saturating_mul(bucket.paid_per_ms());
                let owed = bucket.debt(*at_ms, *debt, now_ms);
                *debt = owed.saturating_sub(bucket.units(hits).min(left));
                *at_ms = now_ms.max(*at_ms);
            }
            (Algorithm::Total, State::Total { count }) => *count = count.saturating_sub(hits),
            _ => {}
        }
        if self.spent(state) == 0 {
            *state = State::Empty;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Bucket, Calendar, CalendarUnit, Fixed, Hits, Sliding};
    use super::*;

    const AMOUNT: u64 = 10;
    const MINUTE_MS: u64 = 60_000;

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_ms(1_700_000_040_000 + ms)
    }

    fn of_each_algorithm() -> [Limit; 5] {
        let calendar = Calendar::new(CalendarUnit::Minute, jiff::tz::TimeZone::UTC);
        [
            Limit::new(AMOUNT, Algorithm::Sliding(Sliding::new(MINUTE_MS, AMOUNT))),
            Limit::new(AMOUNT, Algorithm::Fixed(Fixed::new(MINUTE_MS))),
            Limit::new(AMOUNT, Algorithm::Calendar(calendar)),
            Limit::new(AMOUNT, Algorithm::Bucket(Bucket::new(AMOUNT, MINUTE_MS, AMOUNT).unwrap())),
            Limit::new(AMOUNT, Algorithm::Total),
        ]
    }

    /// What is in use after 3 hits of this request and 4 of others in the next moment, when those 3 come back `ms` later,
    /// and 2 more of others are spent before.
    fn used(limit: &Limit, ms: u64) -> u64 {
        let mut state = State::Empty;
        limit.charge(&mut state, Hits::Spend(3), at(0));
        limit.charge(&mut state, Hits::Spend(4), at(0));
        let until = limit.counts_until(3, at(0));
        limit.settle(&mut state, at(ms));
        limit.charge(&mut state, Hits::Spend(2), at(ms));
        limit.take_back(&mut state, Refund { hits: 3, until }, at(ms));
        limit.used(&state, at(ms))
    }

    #[test]
    fn hits_come_back_at_once() {
        for limit in of_each_algorithm() {
            assert_eq!(used(&limit, 0), 6, "{limit}");
        }
    }

    #[test]
    fn hits_that_time_has_brought_back_dont_come_back_again() {
        for limit in of_each_algorithm() {
            let expected = if limit.algorithm() == &Algorithm::Total { 6 } else { 2 };
            assert_eq!(used(&limit, 2 * MINUTE_MS), expected, "{limit}");
        }
    }

    #[test]
    fn of_a_bucket_as_much_comes_back_as_was_not_paid() {
        let [.., bucket, _] = of_each_algorithm();
        // A hit is paid in six seconds: two of the nine by then, of which one may be of the three.
        assert_eq!(used(&bucket, 6_000), 9 - 1 - 2);
        assert_eq!(used(&bucket, 17_999), 9 - 2 - 1, "less than a hit is left of them");
        assert_eq!(used(&bucket, 18_000), 9 - 3);
    }
}
