//! A condition on local time: months, weekdays, hours, dates and exceptions.

use std::fmt;
use std::sync::Arc;

use jiff::civil::{Date, Weekday};

/// Minutes of a day.
pub const DAY_MINUTES: u16 = 1_440;

/// A condition on local time. All parts must hold; an empty part always holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Condition {
    /// The name in the policy; empty if it is defined where it is used.
    pub name: Arc<str>,
    /// Bit `n` for month `n`, from 1 to 12.
    pub months: u16,
    /// Bit `n` for the day `n` days after Monday.
    pub weekdays: u8,
    pub hours: Vec<HourRange>,
    pub dates: Vec<DateRange>,
    /// Days on which it is not active.
    pub except: Vec<DateRange>,
}

/// From a minute of the day to just before another. If it ends at or before its start, it ends on the next day; all of
/// it belongs to the day on which it starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HourRange {
    /// Below [`DAY_MINUTES`].
    pub start: u16,
    /// At most [`DAY_MINUTES`].
    pub end: u16,
}

/// Days from one to another, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DateRange {
    Once {
        first: Date,
        last: Date,
    },
    /// Each year, from a day of a month to another; over the new year if the second is earlier.
    Yearly {
        first: (i8, i8),
        last: (i8, i8),
    },
}

impl DateRange {
    fn contains(self, date: Date) -> bool {
        match self {
            Self::Once { first, last } => (first..=last).contains(&date),
            Self::Yearly { first, last } => {
                let day = (date.month(), date.day());
                match first <= last {
                    true => first <= day && day <= last,
                    false => first <= day || day <= last,
                }
            }
        }
    }
}

impl fmt::Display for DateRange {
    /// The text in a policy.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Once { first, last } if first == last => write!(f, "{first}"),
            Self::Once { first, last } => write!(f, "{first}..{last}"),
            Self::Yearly { first, last } if first == last => {
                write!(f, "{:02}-{:02}", first.0, first.1)
            }
            Self::Yearly { first, last } => {
                write!(f, "{:02}-{:02}..{:02}-{:02}", first.0, first.1, last.0, last.1)
            }
        }
    }
}

impl fmt::Display for HourRange {
    /// The text in a policy.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [(from, past), (to, after)] = [self.start, self.end].map(|at| (at / 60, at % 60));
        write!(f, "{from:02}:{past:02}-{to:02}:{after:02}")
    }
}

impl fmt::Display for Condition {
    /// Its name, or else its text.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.name.is_empty() { f.write_str(&self.text()) } else { f.write_str(&self.name) }
    }
}

impl Condition {
    /// Its text on one line.
    pub fn text(&self) -> String {
        let bits = |bits: u16, name: &dyn Fn(i8) -> String| -> Vec<String> {
            (0..16).filter(|bit| bits >> bit & 1 == 1).map(name).collect()
        };
        let weekday = |day: i8| {
            let day = Weekday::from_monday_zero_offset(day).map(|day| format!("{day:?}"));
            day.unwrap_or_default().to_ascii_lowercase()
        };
        let list = |ranges: &[DateRange]| ranges.iter().map(DateRange::to_string).collect();
        let parts: [(&str, Vec<String>); 5] = [
            ("months", bits(self.months, &|month| month.to_string())),
            ("weekdays", bits(self.weekdays.into(), &weekday)),
            ("hours", self.hours.iter().map(HourRange::to_string).collect()),
            ("dates", list(&self.dates)),
            ("except", list(&self.except)),
        ];
        let texts = parts.iter().filter(|(_, values)| !values.is_empty());
        let texts = texts.map(|(what, values)| format!("{what} {}", values.join(", ")));
        texts.collect::<Vec<_>>().join("; ")
    }

    /// Whether it is active at this minute of that day.
    pub fn holds(&self, date: Date, minute: u16) -> bool {
        if self.hours.is_empty() {
            return self.holds_on(date);
        }
        self.hours.iter().any(|hours| {
            let from_start = hours.start <= minute;
            let to_end = minute < hours.end;
            match hours.start < hours.end {
                true => from_start && to_end && self.holds_on(date),
                false => from_start && self.holds_on(date) || to_end && self.held_before(date),
            }
        })
    }

    /// Whether it is active all day, or not at all; None if that changes during the day.
    pub fn holds_all_day(&self, date: Date) -> Option<bool> {
        if self.hours.is_empty() {
            return Some(self.holds_on(date));
        }
        (!self.holds_on(date) && !self.held_before(date)).then_some(false)
    }

    /// The minutes of a day at which it may start or end, except midnight.
    pub fn minutes(&self) -> impl Iterator<Item = u16> {
        self.hours.iter().flat_map(|hours| [hours.start, hours.end % DAY_MINUTES])
    }

    /// Whether it is active on a day, apart from its hours.
    pub fn holds_on(&self, date: Date) -> bool {
        let is_in = |ranges: &[DateRange]| ranges.iter().any(|range| range.contains(date));
        (self.months == 0 || self.months >> date.month() & 1 == 1)
            && (self.weekdays == 0
                || self.weekdays >> date.weekday().to_monday_zero_offset() & 1 == 1)
            && (self.dates.is_empty() || is_in(&self.dates))
            && !is_in(&self.except)
    }

    fn held_before(&self, date: Date) -> bool {
        date.yesterday().is_ok_and(|before| self.holds_on(before))
    }
}
