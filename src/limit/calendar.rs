//! Calendar periods of a time zone: true months and years, days of 23 and 25 hours included.

use std::fmt;

use jiff::tz::TimeZone;
use jiff::{ToSpan, Zoned};

use super::window::Periods;
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

    /// The name of the time zone.
    pub fn zone_name(&self) -> &str {
        self.zone.iana_name().unwrap_or("UTC")
    }

    /// The end of the period that holds `now`: the first instant after it.
    pub fn end_after(&self, now: Timestamp) -> Timestamp {
        match self.zoned(now).and_then(|at| self.next_start(&at)) {
            // A period ends after its instants, whatever a time zone's history holds.
            Ok(end) => Timestamp::from_ms(as_ms(&end).max(now.as_ms() + 1)),
            // The calendar ends in the year 9999.
            Err(_) => Timestamp::MAX,
        }
    }

    /// The start of the period that holds `now`.
    pub fn start_of(&self, now: Timestamp) -> Timestamp {
        match self.zoned(now).and_then(|at| self.start(&at)) {
            Ok(start) => Timestamp::from_ms(as_ms(&start).min(now.as_ms())),
            Err(_) => now,
        }
    }

    /// The number of the period that holds `now`: that of the period before, and one. In UTC alone, because days elsewhere may
    /// have other lengths.
    pub fn number_of(&self, now: Timestamp) -> u64 {
        const MINUTE_MS: u64 = 60_000;
        const DAY_MS: u64 = 24 * 60 * MINUTE_MS;
        // The Unix epoch was on a Thursday.
        const MONDAY: u64 = 3;
        let year = |at: &Zoned| u64::try_from(at.year()).unwrap_or(0);
        let month = |at: &Zoned| u64::try_from(at.month()).unwrap_or(0);
        match (self.unit, self.zoned(now)) {
            (CalendarUnit::Minute, _) => now.as_ms() / MINUTE_MS,
            (CalendarUnit::Hour, _) => now.as_ms() / (60 * MINUTE_MS),
            (CalendarUnit::Day, _) => now.as_ms() / DAY_MS,
            (CalendarUnit::Week, _) => (now.as_ms() / DAY_MS + MONDAY) / 7,
            (CalendarUnit::Month, Ok(at)) => year(&at) * 12 + month(&at),
            (CalendarUnit::Year, Ok(at)) => year(&at),
            // The calendar ends in the year 9999.
            (CalendarUnit::Month | CalendarUnit::Year, Err(_)) => u64::from(u32::MAX),
        }
    }

    fn zoned(&self, now: Timestamp) -> Result<Zoned, jiff::Error> {
        let ms = i64::try_from(now.as_ms()).unwrap_or(i64::MAX);
        Ok(jiff::Timestamp::from_millisecond(ms)?.to_zoned(self.zone.clone()))
    }

    fn start(&self, at: &Zoned) -> Result<Zoned, jiff::Error> {
        match self.unit {
            CalendarUnit::Minute => at.checked_sub(since_full(at, 60).seconds()),
            CalendarUnit::Hour => at.checked_sub(since_full(at, 3_600).seconds()),
            CalendarUnit::Day => at.start_of_day(),
            CalendarUnit::Week => {
                let since_monday = i64::from(at.weekday().to_monday_zero_offset());
                at.start_of_day()?.checked_sub(since_monday.days())?.start_of_day()
            }
            CalendarUnit::Month => at.first_of_month()?.start_of_day(),
            CalendarUnit::Year => at.first_of_year()?.start_of_day(),
        }
    }

    fn next_start(&self, at: &Zoned) -> Result<Zoned, jiff::Error> {
        match self.unit {
            CalendarUnit::Minute => at.checked_add((60 - since_full(at, 60)).seconds()),
            CalendarUnit::Hour => at.checked_add((3_600 - since_full(at, 3_600)).seconds()),
            CalendarUnit::Day => at.start_of_day()?.checked_add(1.day())?.start_of_day(),
            CalendarUnit::Week => {
                let to_monday = 7 - i64::from(at.weekday().to_monday_zero_offset());
                at.start_of_day()?.checked_add(to_monday.days())?.start_of_day()
            }
            CalendarUnit::Month => at.first_of_month()?.checked_add(1.month())?.start_of_day(),
            CalendarUnit::Year => at.first_of_year()?.checked_add(1.year())?.start_of_day(),
        }
    }
}

impl Periods for Calendar {
    fn end_ms(&self, now_ms: u64) -> u64 {
        self.end_after(Timestamp::from_ms(now_ms)).as_ms()
    }
}

/// Seconds since the clock of the zone showed a full minute or hour. It goes by the offset that holds
/// now, so that an hour that the clock shows twice is two periods.
fn since_full(at: &Zoned, unit_seconds: i64) -> i64 {
    let shown = at.timestamp().as_second() + i64::from(at.offset().seconds());
    shown.rem_euclid(unit_seconds)
}

/// Milliseconds since the Unix epoch, cut to whole seconds: every period begins on one.
fn as_ms(at: &Zoned) -> u64 {
    u64::try_from(at.timestamp().as_second()).unwrap_or(0) * 1_000
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
        // The start lies in the same period, and it is its first instant.
        let start = calendar.start_of(now);
        assert_eq!(calendar.end_after(start).as_ms(), end_ms, "{unit} of {at}");
        let before = Timestamp::from_ms(start.as_ms() - 1);
        assert_eq!(calendar.end_after(before), start, "{unit} of {at}");
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
    fn a_shift_of_half_an_hour_makes_no_period_without_length() {
        // On 5 April 2026 Lord Howe's clocks went from 02:00 back to 01:30.
        let lord_howe = TimeZone::get("Australia/Lord_Howe").unwrap();
        let at: Zoned = "2026-04-05T01:45:00+10:30[Australia/Lord_Howe]".parse().unwrap();
        let calendar = Calendar::new(CalendarUnit::Hour, lord_howe);
        let now = Timestamp::from_ms(at.timestamp().as_millisecond().try_into().unwrap());
        assert_eq!(calendar.end_after(now).since(now).as_secs(), 900);
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
