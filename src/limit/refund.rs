//! Hits that are given back some time after they were spent: only those that still count.
//!
//! Spent hits leave a window with their slot or with its end, and a bucket refills them steadily. If more were given
//! back later, those would be hits of other requests, and too many would pass.

use crate::clock::Timestamp;

/// Hits that are given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refund {
    pub hits: u64,
    /// Until when they count, as [`super::Limit::counts_until`] says, or for those that [`super::Limit::charge_ahead`] added when
    /// their slot leaves the window.
    pub until: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::super::{
        Algorithm, Bucket, Calendar, CalendarUnit, Fixed, Hits, Limit, Sliding, State,
    };
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

    /// The hits in use after 3 hits of this request and 4 of others just after it, if those 3 are given back `ms`
    /// later, and others spend 2 more before.
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
    fn hits_in_a_wider_slot_come_back() {
        let [few, ..] = of_each_algorithm();
        let many = Limit::new(1_000, Algorithm::Sliding(Sliding::new(MINUTE_MS, 1_000)));
        for (ms, expected) in [(100, 5), (60_099, 5), (60_100, 7)] {
            let mut state = State::Empty;
            many.charge(&mut state, Hits::Spend(5), at(0));
            // The amount is lowered, so slots of a millisecond follow; these hits are added to the slot of a second.
            few.charge(&mut state, Hits::Spend(2), at(100));
            let until = few.counts_until(2, at(100));
            few.settle(&mut state, at(ms));
            few.take_back(&mut state, Refund { hits: 2, until }, at(ms));
            assert_eq!(few.used(&state, at(ms)), expected, "{ms}");
        }
    }

    #[test]
    fn of_a_bucket_as_much_comes_back_as_was_not_paid() {
        let [.., bucket, _] = of_each_algorithm();
        // A hit refills in six seconds: two of the nine by then, one of which may be of the three.
        assert_eq!(used(&bucket, 6_000), 9 - 1 - 2);
        assert_eq!(used(&bucket, 17_999), 9 - 2 - 1, "less than a hit is left of them");
        assert_eq!(used(&bucket, 18_000), 9 - 3);
    }
}
