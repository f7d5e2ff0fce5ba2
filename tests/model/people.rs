//! A directory in plain words: what is known of callers, and of their bonuses.

use std::collections::BTreeMap;

use jiff::ToSpan;
use jiff::civil::Date;
use jiff::tz::TimeZone;

/// What never comes.
pub const NEVER_MS: u64 = u64::MAX;

const HOUR_MS: u64 = 3_600_000;
const DAY_MS: u64 = 24 * HOUR_MS;

/// A directory: what is known of callers, by name.
pub type People = BTreeMap<String, Person>;

#[derive(Clone, Debug, Default)]
pub struct Person {
    pub tier: Option<String>,
    pub parent: Option<String>,
    pub share: Option<u64>,
    pub pool: bool,
    pub roles: Vec<String>,
    pub overrides: BTreeMap<String, u64>,
    pub bonuses: Vec<Bonus>,
    pub disabled: bool,
}

#[derive(Clone, Debug)]
pub struct Bonus {
    pub id: String,
    pub limit: String,
    /// In each period, if it recurs.
    pub amount: u64,
    pub until_ms: u64,
    pub priority: u64,
    pub recurs: Option<Recurs>,
}

/// A bonus comes anew in each period.
#[derive(Clone, Copy, Debug)]
pub struct Recurs {
    pub every: Every,
    pub from_ms: u64,
    /// The most that is carried into the next period.
    pub rollover: u64,
}

#[derive(Clone, Copy, Debug)]
pub enum Every {
    Hour,
    Day,
    Week,
    Month,
    Year,
}

impl Every {
    pub fn text(self) -> &'static str {
        match self {
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
            Self::Year => "year",
        }
    }

    /// The first millisecond after the period of a time, by the calendar of UTC.
    pub fn end(self, at: u64) -> u64 {
        let date = jiff::Timestamp::from_millisecond(i64::try_from(at).unwrap()).unwrap();
        let date = TimeZone::UTC.to_datetime(date).date();
        let next = match self {
            Self::Hour => return at - at % HOUR_MS + HOUR_MS,
            Self::Day => return at - at % DAY_MS + DAY_MS,
            Self::Week => date.checked_add((7 - days_since_monday(date)).days()),
            Self::Month => date.first_of_month().checked_add(1.month()),
            Self::Year => date.first_of_year().checked_add(1.year()),
        };
        let next = next.unwrap().to_zoned(TimeZone::UTC).unwrap();
        u64::try_from(next.timestamp().as_millisecond()).unwrap()
    }
}

fn days_since_monday(date: Date) -> i64 {
    i64::from(date.weekday().to_monday_zero_offset())
}
