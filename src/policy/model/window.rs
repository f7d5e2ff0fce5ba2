//! The window of a limit.

use crate::limit::CalendarUnit;

use super::unit::Unit;

/// The window of a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Window {
    /// A length in milliseconds.
    Length(u64),
    /// A calendar period, which has no fixed length.
    Calendar(CalendarUnit),
    /// Without end.
    Total,
}

impl Window {
    /// The calendar period with the same name, if there is one.
    pub fn calendar_unit(self) -> Option<CalendarUnit> {
        match self {
            Self::Calendar(unit) => Some(unit),
            Self::Length(60_000) => Some(CalendarUnit::Minute),
            Self::Length(3_600_000) => Some(CalendarUnit::Hour),
            Self::Length(86_400_000) => Some(CalendarUnit::Day),
            Self::Length(604_800_000) => Some(CalendarUnit::Week),
            Self::Length(_) | Self::Total => None,
        }
    }

    /// The protocol's unit for this window, if there is one.
    pub fn unit(self) -> Option<Unit> {
        let named = |unit: &CalendarUnit| Unit::parse(&unit.to_string());
        let long = |ms: u64| Unit::ALL.into_iter().find(|unit| unit.nominal_ms() == ms);
        match self {
            Self::Length(window_ms) => long(window_ms),
            Self::Calendar(unit) => named(&unit),
            Self::Total => None,
        }
    }

    /// The length of the window; nominally 30 days for a month and 365 for a year; None for a total.
    pub fn nominal_ms(self) -> Option<u64> {
        match self {
            Self::Length(window_ms) => Some(window_ms),
            Self::Calendar(_) => self.unit().map(Unit::nominal_ms),
            Self::Total => None,
        }
    }
}

impl From<Unit> for Window {
    /// Months and years follow the calendar; shorter units have a fixed length.
    fn from(unit: Unit) -> Self {
        match unit {
            Unit::Month => Self::Calendar(CalendarUnit::Month),
            Unit::Year => Self::Calendar(CalendarUnit::Year),
            _ => Self::Length(unit.nominal_ms()),
        }
    }
}
