//! Calendar periods of a time zone: true months and years, days of 23 and 25 hours included.

use std::fmt;

use jiff::ToSpan;
use jiff::Unit;
use jiff::Zoned;
use jiff::ZonedRound;
use jiff::tz::TimeZone;

use crate::clock::Timestamp;

/// The length of a calendar period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CalendarUnit {
    /// From :00 to :00.
    Minute,
    /// From the full hour on.
    Hour,
    /// From midnight on.
    Day,
    /// From Monday's midnight on (ISO 8601).
    Week,
    /// From the first of the month on.
    Month,
    /// From the first of January on.
    Year,
}

impl fmt::Display for CalendarUnit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Minute => "minute",
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
            Self::Year => "year",
        })
    }
}

/// Periods of one unit in one time zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Calendar {
    unit: CalendarUnit,
    zone: TimeZone,
}

impl Calendar {
    /// Periods of `unit` as clocks and calendars of `zone` show them.
    pub fn new(unit: CalendarUnit, zone: TimeZone) -> Self {
        Self { unit, zone }
    }

    /// The length of a period.
    pub fn unit(&self) -> CalendarUnit {
        self.unit
    }

    /// The end of the period that holds `now`: the first instant after it.
    pub fn end_after(&self, now: Timestamp) -> Timestamp {
        let ms = i64::try_from(now.as_ms()).unwrap_or(i64::MAX);
        let end = jiff::Timestamp::from_millisecond(ms)
            .and_then(|at| self.end_of(&at.to_zoned(self.zone.clone())));
        match end {
            Ok(end) => {
                let ms = u64::try_from(end.timestamp().as_millisecond()).unwrap_or(0);
                // A period ends after its instants, whatever a time zone's history holds.
                Timestamp::from_ms(ms.max(now.as_ms() + 1))
            }
            // The calendar ends in the year 9999.
            Err(_) => Timestamp::MAX,
        }
    }

    fn end_of(&self, at: &Zoned) -> Result<Zoned, jiff::Error> {
        match self.unit {
            // Rounding goes by elapsed time, as a clock's minutes and hours do on a day of 25 hours.
            CalendarUnit::Minute => self.floor(at, Unit::Minute)?.checked_add(1.minute()),
            CalendarUnit::Hour => self.floor(at, Unit::Hour)?.checked_add(1.hour()),
            CalendarUnit::Day => at.start_of_day()?.checked_add(1.day())?.start_of_day(),
            CalendarUnit::Week => {
                let to_monday = 7 - i64::from(at.weekday().to_monday_zero_offset());
                at.start_of_day()?.checked_add(to_monday.days())?.start_of_day()
            }
            CalendarUnit::Month => at.first_of_month()?.checked_add(1.month())?.start_of_day(),
            CalendarUnit::Year => at.first_of_year()?.checked_add(1.year())?.start_of_day(),
        }
    }

    fn floor(&self, at: &Zoned, unit: Unit) -> Result<Zoned, jiff::Error> {
        at.round(ZonedRound::new().smallest(unit).mode(jiff::RoundMode::Trunc))
    }
}

impl fmt::Display for Calendar {
    /// The unit and the zone, such as `month@Europe/Madrid`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.unit, self.zone.iana_name().unwrap_or("UTC"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The end of the period that holds `at`, both as text in the zone's own time.
    fn check(unit: CalendarUnit, at: &str, end: &str) {
        let at: Zoned = at.parse().unwrap();
        let calendar = Calendar::new(unit, at.time_zone().clone());
        let now = Timestamp::from_ms(at.timestamp().as_millisecond().try_into().unwrap());
        let expected: Zoned = end.parse().unwrap();
        let end_ms = calendar.end_after(now).as_ms();
        let end = jiff::Timestamp::from_millisecond(end_ms.try_into().unwrap()).unwrap();
        assert_eq!(end.to_zoned(at.time_zone().clone()), expected, "{unit} after {at}");
    }

    #[test]
    fn periods_follow_the_calendar() {
        use CalendarUnit::*;
        check(Minute, "2026-02-03T04:05:06[UTC]", "2026-02-03T04:06:00[UTC]");
        check(Hour, "2026-02-03T04:05:06[UTC]", "2026-02-03T05:00:00[UTC]");
        check(Day, "2026-02-03T04:05:06[UTC]", "2026-02-04T00:00:00[UTC]");
        check(Week, "2026-02-03T04:05:06[UTC]", "2026-02-09T00:00:00[UTC]");
        check(Week, "2026-02-09T00:00:00[UTC]", "2026-02-16T00:00:00[UTC]");
        check(Month, "2026-02-03T04:05:06[UTC]", "2026-03-01T00:00:00[UTC]");
        check(Month, "2028-02-29T23:59:59[UTC]", "2028-03-01T00:00:00[UTC]");
        check(Month, "2026-12-31T23:59:59[UTC]", "2027-01-01T00:00:00[UTC]");
        check(Year, "2026-12-31T23:59:59[UTC]", "2027-01-01T00:00:00[UTC]");
    }

    #[test]
    fn periods_follow_daylight_saving() {
        use CalendarUnit::*;
        // 29 March 2026 has 23 hours in Madrid, 25 October 2026 has 25.
        let madrid = "[Europe/Madrid]";
        let check = |unit, at: &str, end: &str| {
            check(unit, &format!("{at}{madrid}"), &format!("{end}{madrid}"));
        };
        check(Day, "2026-03-29T01:30:00+01:00", "2026-03-30T00:00:00+02:00");
        check(Hour, "2026-03-29T01:30:00+01:00", "2026-03-29T03:00:00+02:00");
        check(Day, "2026-10-25T00:30:00+02:00", "2026-10-26T00:00:00+01:00");
        check(Hour, "2026-10-25T02:30:00+02:00", "2026-10-25T02:00:00+01:00");
        check(Hour, "2026-10-25T02:30:00+01:00", "2026-10-25T03:00:00+01:00");
        check(Month, "2026-03-15T12:00:00+01:00", "2026-04-01T00:00:00+02:00");
    }

    #[test]
    fn a_zone_without_midnight_still_ends_its_day() {
        // São Paulo skipped midnight of 4 November 2018.
        check(
            CalendarUnit::Day,
            "2018-11-03T12:00:00-03:00[America/Sao_Paulo]",
            "2018-11-04T01:00:00-02:00[America/Sao_Paulo]",
        );
    }
}
