//! The current window or calendar period of a limit, if the limit has one.

use super::Algorithm;
use super::window::Periods;
use crate::clock::Timestamp;

/// From its start to just before its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Period {
    pub start: Timestamp,
    pub end: Timestamp,
}

impl Algorithm {
    /// The period that contains `now`; None if hits become available one by one, or never.
    pub fn period(&self, now: Timestamp) -> Option<Period> {
        match self {
            Self::Fixed(fixed) => {
                let end_ms = fixed.end_ms(now.as_ms());
                let start = Timestamp::from_ms(end_ms - fixed.window_ms());
                Some(Period { start, end: Timestamp::from_ms(end_ms) })
            }
            Self::Calendar(calendar) => {
                Some(Period { start: calendar.start_of(now), end: calendar.end_after(now) })
            }
            Self::Sliding(_) | Self::Bucket(_) | Self::Total => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;

    use super::super::{Calendar, CalendarUnit, Fixed, Sliding};
    use super::*;

    #[test]
    fn fixed_windows_and_calendars_have_periods() {
        let check = |algorithm: Algorithm, now_ms: u64, expected: Option<(u64, u64)>| {
            let period = algorithm.period(Timestamp::from_ms(now_ms));
            let bounds = period.map(|period| (period.start.as_ms(), period.end.as_ms()));
            assert_eq!(bounds, expected, "{algorithm:?} at {now_ms}");
        };
        check(Algorithm::Fixed(Fixed::new(60_000)), 59_999, Some((0, 60_000)));
        check(Algorithm::Fixed(Fixed::new(60_000)), 60_000, Some((60_000, 120_000)));
        let day = Calendar::new(CalendarUnit::Day, TimeZone::UTC);
        check(Algorithm::Calendar(day), 86_400_001, Some((86_400_000, 172_800_000)));
        check(Algorithm::Sliding(Sliding::new(60_000, 5)), 1, None);
        check(Algorithm::Total, 1, None);
    }
}
