//! Formats limits as in a policy, such as `10/minute`.

use std::fmt;

use super::{Algorithm, Limit, Overdraft};

impl fmt::Display for Limit {
    /// The text in a policy: `10/1m`, `500/month`, `3/total`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/", self.amount())?;
        match self.algorithm() {
            Algorithm::Sliding(sliding) => write_window(f, sliding.window_ms()),
            Algorithm::Fixed(fixed) => write_window(f, fixed.window_ms()),
            Algorithm::Bucket(bucket) => write_window(f, bucket.window_ms()),
            Algorithm::Calendar(calendar) => write!(f, "{}", calendar.unit()),
            Algorithm::Total => f.write_str("total"),
        }
    }
}

impl fmt::Display for Overdraft {
    /// The name in a policy.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Allow => "allow",
            Self::Clip => "clip",
            Self::Owed => "owed",
        })
    }
}

impl fmt::Display for Algorithm {
    /// The name in a policy.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sliding(_) => "sliding_window",
            Self::Fixed(_) => "fixed_window",
            Self::Bucket(_) => "token_bucket",
            Self::Calendar(_) => "calendar",
            Self::Total => "total",
        })
    }
}

/// Units of a window, longest first, with their names in the policy language.
const WINDOW_UNITS: [(u64, &str, &str); 6] = [
    (604_800_000, "week", "w"),
    (86_400_000, "day", "d"),
    (3_600_000, "hour", "h"),
    (60_000, "minute", "m"),
    (1_000, "second", "s"),
    (1, "millisecond", "ms"),
];

fn write_window(f: &mut fmt::Formatter<'_>, window_ms: u64) -> fmt::Result {
    for (unit_ms, word, short) in WINDOW_UNITS {
        match window_ms / unit_ms {
            1 if window_ms == unit_ms && 1 < unit_ms => return f.write_str(word),
            count if 0 < count && window_ms.is_multiple_of(unit_ms) => {
                return write!(f, "{count}{short}");
            }
            _ => {}
        }
    }
    write!(f, "{window_ms}ms")
}
