//! The lengths of time over which usage is summed, and the retention of sums in memory.

use std::time::Duration;

use crate::clock::Timestamp;

const MINUTE_MS: u64 = 60_000;
const HOUR_MS: u64 = 60 * MINUTE_MS;
const DAY_MS: u64 = 24 * HOUR_MS;

/// A length of time, aligned to UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Granularity {
    Minute,
    Hour,
    Day,
}

impl Granularity {
    /// All granularities, the shortest first.
    pub const ALL: [Self; 3] = [Self::Minute, Self::Hour, Self::Day];

    /// The start of the minute, hour or day that contains `at`.
    pub fn start(self, at: Timestamp) -> Timestamp {
        Timestamp::from_ms(at.as_ms() - at.as_ms() % self.length_ms())
    }

    /// The end of the minute, hour or day that contains `at`: the start of the next one.
    pub fn end(self, at: Timestamp) -> Timestamp {
        self.start(at).after(Duration::from_millis(self.length_ms()))
    }

    /// The start of the oldest one in memory: 2 hours of minutes, 2 days of hours, 31 days.
    pub fn oldest(self, now: Timestamp) -> Timestamp {
        let before = (self.kept() - 1) * self.length_ms();
        Timestamp::from_ms(self.start(now).as_ms().saturating_sub(before))
    }

    /// The number since the epoch of the minute, hour or day that contains `at`.
    pub fn number(self, at: Timestamp) -> u64 {
        at.as_ms() / self.length_ms()
    }

    /// The start of the one with this number.
    pub fn start_of(self, number: u64) -> Timestamp {
        Timestamp::from_ms(number.saturating_mul(self.length_ms()))
    }

    /// Whether sums have callers.
    pub fn has_callers(self) -> bool {
        self != Self::Minute
    }

    fn kept(self) -> u64 {
        match self {
            Self::Minute => 120,
            Self::Hour => 48,
            Self::Day => 31,
        }
    }

    fn length_ms(self) -> u64 {
        match self {
            Self::Minute => MINUTE_MS,
            Self::Hour => HOUR_MS,
            Self::Day => DAY_MS,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        let ms = text.parse::<jiff::Timestamp>().unwrap().as_millisecond();
        Timestamp::from_ms(u64::try_from(ms).unwrap())
    }

    #[test]
    fn starts_and_ends_are_those_of_utc() {
        let check = |granularity: Granularity, time: &str, expected: [&str; 3]| {
            let time = at(time);
            let reported =
                [granularity.start(time), granularity.end(time), granularity.oldest(time)];
            assert_eq!(reported, expected.map(at), "{granularity:?} {time}");
        };
        check(
            Granularity::Minute,
            "2026-11-27T23:59:59.999Z",
            ["2026-11-27T23:59:00Z", "2026-11-28T00:00:00Z", "2026-11-27T22:00:00Z"],
        );
        check(
            Granularity::Hour,
            "2026-11-27T23:59:59.999Z",
            ["2026-11-27T23:00:00Z", "2026-11-28T00:00:00Z", "2026-11-26T00:00:00Z"],
        );
        check(
            Granularity::Day,
            "2026-11-28T00:00:00Z",
            ["2026-11-28T00:00:00Z", "2026-11-29T00:00:00Z", "2026-10-29T00:00:00Z"],
        );
        check(
            Granularity::Day,
            "1970-01-02T12:00:00Z",
            ["1970-01-02T00:00:00Z", "1970-01-03T00:00:00Z", "1970-01-01T00:00:00Z"],
        );
    }
}
