//! Reads `--at`, the time for which a request is explained.

use std::str::FromStr;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use crate::clock::Timestamp;

/// A time in the form of `--at`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum At {
    /// With an offset from UTC.
    Instant(jiff::Timestamp),
    /// As local time in the policy's time zone.
    Civil(DateTime),
}

/// An invalid time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "use 2026-11-27T10:00:00Z, or 2026-11-27T10:00 or 2026-11-27 in the policy's time zone, from 1970 on"
)]
pub struct AtError;

impl FromStr for At {
    type Err = AtError;

    fn from_str(text: &str) -> Result<Self, AtError> {
        let instant = || text.parse().ok().map(Self::Instant);
        let civil = || text.parse().ok().map(Self::Civil);
        let at = instant().or_else(civil).ok_or(AtError)?;
        at.timestamp(&TimeZone::UTC).map(|_| at).ok_or(AtError)
    }
}

impl At {
    /// The instant, with local times in `zone`. None if it is before 1970.
    pub fn timestamp(self, zone: &TimeZone) -> Option<Timestamp> {
        let instant = match self {
            Self::Instant(instant) => instant,
            Self::Civil(civil) => civil.to_zoned(zone.clone()).ok()?.timestamp(),
        };
        u64::try_from(instant.as_millisecond()).ok().map(Timestamp::from_ms)
    }
}

/// An instant as local time in `zone`, in RFC 3339 format.
pub fn stamp(zone: &TimeZone, at: Timestamp) -> String {
    let ms = i64::try_from(at.as_ms()).unwrap_or(i64::MAX);
    match jiff::Timestamp::from_millisecond(ms) {
        Ok(instant) => {
            let zoned = instant.to_zoned(zone.clone());
            zoned.strftime("%Y-%m-%dT%H:%M:%S%.f%:z").to_string()
        }
        // The calendar ends in the year 9999.
        Err(_) => "9999-12-31T23:59:59Z".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_the_policys_zone_unless_they_say_another() {
        let madrid = TimeZone::get("Europe/Madrid").unwrap();
        let check = |text: &str, expected: &str| {
            let at = text.parse::<At>().unwrap().timestamp(&madrid).unwrap();
            assert_eq!(stamp(&madrid, at), expected, "{text}");
        };
        check("2026-11-27T10:00:00Z", "2026-11-27T11:00:00+01:00");
        check("2026-11-27T10:00:00-05:00", "2026-11-27T16:00:00+01:00");
        check("2026-07-01", "2026-07-01T00:00:00+02:00");
        check("2026-07-01T12:30", "2026-07-01T12:30:00+02:00");
        check("2026-07-01T12:30:15.25", "2026-07-01T12:30:15.25+02:00");
        for text in ["", "tomorrow", "1969-01-01", "2026-13-01", "10:00"] {
            assert!(text.parse::<At>().is_err(), "{text}");
        }
    }
}
