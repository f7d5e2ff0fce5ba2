//! The algorithms: how hits become available again.

use super::{Bucket, Calendar, Fixed, Sliding};

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
