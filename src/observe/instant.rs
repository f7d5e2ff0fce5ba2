//! Points in time as text.

use crate::clock::Timestamp;

/// An instant in RFC 3339 format.
pub fn instant(at: Timestamp) -> String {
    let ms = i64::try_from(at.as_ms()).unwrap_or(i64::MAX);
    jiff::Timestamp::from_millisecond(ms).unwrap_or(jiff::Timestamp::MAX).to_string()
}
