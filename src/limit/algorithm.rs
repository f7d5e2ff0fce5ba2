//! The algorithms: how hits become available again.

use super::{Bucket, Calendar, Fixed, Sliding};

/// From this length on, a window is lasting, in milliseconds.
const LASTING_MS: u64 = 3_600_000;

/// How hits become available again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// In any interval of the window's length at most the amount.
    Sliding(Sliding),
    /// At most the amount in each window, aligned to the Unix epoch.
    Fixed(Fixed),
    /// A bucket that refills steadily.
    Bucket(Bucket),
    /// At most the amount in each calendar period of a time zone.
    Calendar(Calendar),
    /// At most the amount in total; hits are available again only when they are given back.
    Total,
}

impl Algorithm {
    /// The tag of its counter among those of a rule. It does not include the amount, nor the time zone of a calendar: a
    /// change of either keeps the count of the current period.
    pub(super) fn tag(&self) -> String {
        match self {
            Self::Sliding(sliding) => format!("s{}", sliding.window_ms()),
            Self::Fixed(fixed) => format!("f{}", fixed.window_ms()),
            Self::Bucket(bucket) => format!("b{}", bucket.window_ms()),
            Self::Calendar(calendar) => format!("c{}", calendar.unit()),
            Self::Total => "t".to_owned(),
        }
    }

    /// The same algorithm for a limit with another amount.
    pub(super) fn with_amount(&self, amount: u64) -> Self {
        match self {
            Self::Sliding(sliding) => Self::Sliding(Sliding::new(sliding.window_ms(), amount)),
            Self::Bucket(bucket) => Self::Bucket(bucket.with_amount(amount)),
            other => other.clone(),
        }
    }
}

/// Whether the limit with this tag has a window of an hour or more, or never resets.
pub fn is_lasting(tag: &str) -> bool {
    let Some((kind, rest)) = tag.split_at_checked(1) else { return false };
    match kind {
        "s" | "f" | "b" => {
            let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
            rest[..digits].parse().is_ok_and(|window_ms: u64| LASTING_MS <= window_ms)
        }
        "c" => !rest.starts_with("minute"),
        "t" => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;

    use super::*;
    use crate::limit::{CalendarUnit, Limit};

    #[test]
    fn windows_of_an_hour_and_more_are_lasting() {
        let check = |algorithm: Algorithm, expected: bool| {
            let limit = Limit::new(10, algorithm);
            for limit in [limit.clone(), limit.clone().marked("=m1"), limit.marked("@EUR$cost")] {
                assert_eq!(is_lasting(limit.tag()), expected, "{}", limit.tag());
            }
        };
        for (window_ms, expected) in [(60_000, false), (3_599_999, false), (3_600_000, true)] {
            check(Algorithm::Sliding(Sliding::new(window_ms, 10)), expected);
            check(Algorithm::Fixed(Fixed::new(window_ms)), expected);
            check(Algorithm::Bucket(Bucket::new(10, window_ms, 10).unwrap()), expected);
        }
        let calendar = |unit| Algorithm::Calendar(Calendar::new(unit, TimeZone::UTC));
        check(calendar(CalendarUnit::Minute), false);
        check(calendar(CalendarUnit::Hour), true);
        check(calendar(CalendarUnit::Month), true);
        check(Algorithm::Total, true);
    }
}
