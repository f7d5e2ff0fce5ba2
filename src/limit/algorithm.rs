//! The algorithms: how an allowance comes back.

use super::{Bucket, Calendar, Fixed, Sliding};

/// How an allowance comes back.
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
    /// At most the amount, ever, but for what is given back.
    Total,
}

impl Algorithm {
    /// Names its counter among those of a rule. Without the amount, and without the time zone of a calendar: another one
    /// keeps the count of the period that is under way.
    pub(super) fn tag(&self) -> String {
        match self {
            Self::Sliding(sliding) => format!("s{}", sliding.window_ms()),
            Self::Fixed(fixed) => format!("f{}", fixed.window_ms()),
            Self::Bucket(bucket) => format!("b{}", bucket.window_ms()),
            Self::Calendar(calendar) => format!("c{}", calendar.unit()),
            Self::Total => "t".to_owned(),
        }
    }

    /// The same algorithm for a limit of another amount.
    pub(super) fn with_amount(&self, amount: u64) -> Self {
        match self {
            Self::Sliding(sliding) => Self::Sliding(Sliding::new(sliding.window_ms(), amount)),
            Self::Bucket(bucket) => Self::Bucket(bucket.with_amount(amount)),
            other => other.clone(),
        }
    }
}
