//! The times at which an API key may be used.

use jiff::ToSpan;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::list::{is_default, items};
use crate::clock::Timestamp;
use crate::limit::{Condition, DateRange, Timetable};
use crate::policy::{
    Flaws, NEVER_ACTIVE, holds_ever, parse_dates, parse_hours, parse_months, parse_weekdays,
    parse_zone,
};

/// The times at which an API key may be used, written as a schedule of a policy. All conditions must hold; one that is absent
/// always holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "ApiKeyTimes")]
pub struct TimesForm {
    /// The time zone, such as Europe/Madrid; UTC if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timezone: Option<String>,
    /// Months, such as may-september.
    #[serde(skip_serializing_if = "is_default")]
    pub months: Vec<String>,
    /// Days of the week, such as saturday or monday-friday.
    #[serde(skip_serializing_if = "is_default")]
    pub weekdays: Vec<String>,
    /// Hours, such as 09:00-18:00. Hours that cross midnight belong to the day on which they begin.
    #[serde(skip_serializing_if = "is_default")]
    pub hours: Vec<String>,
    /// Dates, such as 2026-12-24, 2026-12-24..2027-01-06, or each year 12-24..01-06.
    #[serde(skip_serializing_if = "is_default")]
    pub dates: Vec<String>,
    /// Dates on which it may not be used.
    #[serde(skip_serializing_if = "is_default")]
    pub except: Vec<String>,
}

/// The times at which an API key may be used.
#[derive(Debug, PartialEq, Eq)]
pub struct Times {
    /// As it was written.
    pub form: TimesForm,
    timetable: Timetable,
    /// The last of its dates; None if there are always more to come.
    last_day: Option<Date>,
}

impl Times {
    /// Whether the API key may be used at a time.
    pub fn contains(&self, now: Timestamp) -> bool {
        self.timetable.holding(now).is_some()
    }

    /// Whether the last of its dates is over everywhere on earth.
    pub fn are_over(&self, now: Timestamp) -> bool {
        let today = i64::try_from(now.as_ms()).ok().and_then(|ms| {
            let now = jiff::Timestamp::from_millisecond(ms).ok()?;
            Some(now.to_zoned(TimeZone::UTC).date())
        });
        let last = self.last_day.map(|day| day.saturating_add(2.days()));
        last.zip(today).is_some_and(|(last, today)| last < today)
    }
}

impl TimesForm {
    /// The times of the form; None, with problems below `when`, if it is invalid.
    pub fn check(&self, flaws: &mut Flaws) -> Option<Times> {
        let before = flaws.0.len();
        let zone = match &self.timezone {
            Some(name) => flaws.take(&["when", "timezone"], parse_zone(name)),
            None => Some(TimeZone::UTC),
        };
        let months = items(flaws, &["when", "months"], &self.months, parse_months);
        let weekdays = items(flaws, &["when", "weekdays"], &self.weekdays, parse_weekdays);
        let condition = Condition {
            months: months.into_iter().fold(0, |bits, more| bits | more),
            weekdays: weekdays.into_iter().fold(0, |bits, more| bits | more),
            hours: items(flaws, &["when", "hours"], &self.hours, parse_hours),
            dates: items(flaws, &["when", "dates"], &self.dates, parse_dates),
            except: items(flaws, &["when", "except"], &self.except, parse_dates),
            ..Condition::default()
        };
        if before < flaws.0.len() {
            return None;
        }
        let Self { timezone: _, months, weekdays, hours, dates, except } = self;
        let is_empty = [months, weekdays, hours, dates, except].iter().all(|said| said.is_empty());
        let empty = "it has no condition; add months, weekdays, hours or dates";
        flaws.note_if(is_empty, &["when"], || empty.to_owned());
        flaws.note_if(!holds_ever(&condition), &["when"], || NEVER_ACTIVE.to_owned());
        let last_day = last_day(&condition.dates);
        let timetable = Timetable::new(vec![condition], zone?);
        Some(Times { form: self.clone(), timetable, last_day })
    }
}

/// The last of some days; None if there are none, or some come each year.
fn last_day(dates: &[DateRange]) -> Option<Date> {
    let days = dates.iter().map(|range| match range {
        DateRange::Once { last, .. } => Some(*last),
        DateRange::Yearly { .. } => None,
    });
    days.collect::<Option<Vec<Date>>>()?.into_iter().max()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(json: serde_json::Value) -> TimesForm {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn times_begin_and_end_at_their_millisecond_in_their_zone() {
        let office = serde_json::json!({
            "timezone": "Europe/Madrid", "weekdays": ["monday-friday"], "hours": ["09:00-18:00"],
            "except": ["12-25"],
        });
        let mut flaws = Flaws::default();
        let times = form(office).check(&mut flaws).unwrap();
        for (at, is_in) in [
            ("2026-11-27T07:59:59.999Z", false),
            ("2026-11-27T08:00:00Z", true),
            ("2026-11-27T16:59:59.999Z", true),
            ("2026-11-27T17:00:00Z", false),
            // A Saturday, a holiday, and an hour earlier in summer.
            ("2026-11-28T12:00:00Z", false),
            ("2026-12-25T12:00:00Z", false),
            ("2026-07-01T07:00:00Z", true),
            ("2026-07-01T16:00:00Z", false),
        ] {
            let ms: jiff::Timestamp = at.parse().unwrap();
            let now = Timestamp::from_ms(ms.as_millisecond().try_into().unwrap());
            assert_eq!(times.contains(now), is_in, "{at}");
        }
        assert!(flaws.0.is_empty());
    }

    #[test]
    fn every_flaw_of_times_is_told_with_its_place() {
        for (json, place, message) in [
            (serde_json::json!({}), "when", "no condition"),
            (serde_json::json!({ "timezone": "Mars" }), "when.timezone", "Mars"),
            (serde_json::json!({ "weekdays": ["monday", "mon-fry"] }), "when.weekdays.1", "fry"),
            (serde_json::json!({ "hours": ["9-18"] }), "when.hours.0", "9-18"),
            (serde_json::json!({ "months": ["feb"], "dates": ["03-01"] }), "when", "never"),
        ] {
            let mut flaws = Flaws::default();
            form(json).check(&mut flaws);
            let [flaw] = &flaws.0[..] else { panic!("{:?}", flaws.0) };
            assert_eq!(flaw.path.join("."), place);
            assert!(flaw.message.contains(message), "{}", flaw.message);
        }
    }
}
