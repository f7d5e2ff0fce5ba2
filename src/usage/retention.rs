//! Retention of usage in a store of sums.

use std::time::Duration;

use crate::clock::Timestamp;

use super::granularity::Granularity;

const DAY: Duration = Duration::from_secs(24 * 3_600);

/// Days for which usage is kept, by granularity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    pub minute_days: u32,
    pub hour_days: u32,
    pub day_days: u32,
}

impl Retention {
    /// How long sums are kept.
    pub fn of(&self, granularity: Granularity) -> Duration {
        DAY * match granularity {
            Granularity::Minute => self.minute_days,
            Granularity::Hour => self.hour_days,
            Granularity::Day => self.day_days,
        }
    }

    /// The start of the oldest minute, hour or day that is certainly kept.
    pub fn oldest(&self, granularity: Granularity, now: Timestamp) -> Timestamp {
        let kept = u64::try_from(self.of(granularity).as_millis()).unwrap_or(u64::MAX);
        granularity.end(Timestamp::from_ms(now.as_ms().saturating_sub(kept)))
    }
}
