//! Compiles the conditions of schedules: months, weekdays, hours and dates.

use jiff::ToSpan;
use jiff::civil::{Date, date};

use crate::limit::{Condition, DAY_MINUTES, DateRange, HourRange};
use crate::policy::schema::{ScheduleFile, TextsFile};
use crate::policy::yaml::{Reader, Spanned, nearest};

const MONTHS: [&str; 12] = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];

const WEEKDAYS: [&str; 7] =
    ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];

/// Maximum number of ranges of one kind in one schedule: each change of the amount evaluates all of them.
const RANGES_MAX: usize = 64;

/// Days after which dates fall on the same days of the week again, in the Gregorian calendar.
const CYCLE_DAYS: usize = 28 * 366;

/// The problem of a condition that [never holds](holds_ever).
pub const NEVER_ACTIVE: &str =
    "this schedule is never active: no day has all of its months, weekdays and dates";

/// The condition in the file, with this name; None, with problems, if it is invalid.
pub fn compile(reader: &mut Reader<'_>, name: &str, file: &ScheduleFile) -> Option<Condition> {
    let mut is_whole = true;
    let mut read = |reader: &mut Reader<'_>, said: &Option<TextsFile>| {
        let items = said.iter().flat_map(|said| said.value.0.clone()).collect::<Vec<_>>();
        is_whole &= said.is_none() || !items.is_empty();
        if let Some(said) = said.as_ref().filter(|_| RANGES_MAX < items.len()) {
            reader.error(said.span.clone(), format!("too many ranges; at most {RANGES_MAX}"));
        }
        items
    };
    let months = read(reader, &file.months);
    let weekdays = read(reader, &file.weekdays);
    let hours = read(reader, &file.hours);
    let dates = read(reader, &file.dates);
    let except = read(reader, &file.except);
    let months = all(reader, &months, parse_months);
    let weekdays = all(reader, &weekdays, parse_weekdays);
    let hours = all(reader, &hours, parse_hours);
    let dates = all(reader, &dates, parse_dates);
    let except = all(reader, &except, parse_dates);
    let condition = Condition {
        name: name.into(),
        months: months?.into_iter().fold(0, |bits, more| bits | more),
        weekdays: weekdays?.into_iter().fold(0, |bits, more| bits | more),
        hours: hours?,
        dates: dates?,
        except: except?,
    };
    if is_whole && !holds_ever(&condition) {
        reader.error(file.span.clone(), NEVER_ACTIVE);
    }
    is_whole.then_some(condition)
}

/// The values of all texts; None, with problems, if one is invalid.
fn all<T>(
    reader: &mut Reader<'_>,
    texts: &[Spanned<String>],
    parse: impl Fn(&str) -> Result<T, String>,
) -> Option<Vec<T>> {
    let mut values = Vec::new();
    for text in texts {
        match parse(text.value.trim()) {
            Ok(value) => values.push(value),
            Err(message) => reader.error(text.span.clone(), message),
        }
    }
    (values.len() == texts.len()).then_some(values)
}

/// Months such as `may-september`, as the bits of [`Condition::months`].
///
/// # Errors
/// A clause that names the unknown month.
pub fn parse_months(text: &str) -> Result<u16, String> {
    Ok(names(text, &MONTHS, "month")?.into_iter().fold(0, |bits, month| bits | 2 << month))
}

/// Weekdays such as `monday-friday`, as the bits of [`Condition::weekdays`].
///
/// # Errors
/// A clause that names the unknown weekday.
pub fn parse_weekdays(text: &str) -> Result<u8, String> {
    Ok(names(text, &WEEKDAYS, "weekday")?.into_iter().fold(0, |bits, day| bits | 1 << day))
}

/// A name or a range of names, such as `monday-friday`, as indexes; a range may wrap around.
fn names(text: &str, known: &[&str], what: &str) -> Result<Vec<usize>, String> {
    let index = |name: &str| {
        let lower = name.trim().to_ascii_lowercase();
        let is = |full: &&str| *full == lower || lower.len() == 3 && full.starts_with(&lower);
        known.iter().position(is).ok_or_else(|| match nearest(&lower, known) {
            Some(meant) => format!("unknown {what} `{}`; did you mean `{meant}`?", name.trim()),
            None => format!("unknown {what} `{}`; use names such as {}", name.trim(), known[0]),
        })
    };
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (index(first)?, index(last)?);
    let count = (last + known.len() - first) % known.len();
    Ok((0..=count).map(|step| (first + step) % known.len()).collect())
}

/// Hours such as `09:00-18:00`.
///
/// # Errors
/// A clause with the form that hours have.
pub fn parse_hours(text: &str) -> Result<HourRange, String> {
    let minute = |text: &str| {
        let (hour, minute) = text.trim().split_once(':')?;
        let is_plain = hour.len() <= 2 && minute.len() == 2;
        let (hour, minute): (u16, u16) = (hour.parse().ok()?, minute.parse().ok()?);
        let of_day = hour * 60 + minute;
        (is_plain && hour <= 24 && minute < 60 && of_day <= DAY_MINUTES).then_some(of_day)
    };
    let range = text.split_once('-').and_then(|(start, end)| {
        let (start, end) = (minute(start)?, minute(end)?);
        (start < DAY_MINUTES).then_some(HourRange { start, end })
    });
    let range = range.ok_or_else(|| {
        format!("invalid hours `{text}`; use START-END, such as 09:00-18:00 or 22:00-06:00")
    })?;
    match range.start == range.end {
        true => Err(format!("invalid hours `{text}`: they end when they start")),
        false => Ok(range),
    }
}

/// A date or a range of dates; of every year if they have none.
///
/// # Errors
/// A clause with the forms that dates have.
pub fn parse_dates(text: &str) -> Result<DateRange, String> {
    let problem = || {
        format!(
            "invalid date `{text}`; use 2026-12-24, 2026-12-24..2027-01-06, or each year 12-24..01-06"
        )
    };
    let (first, last) = text.split_once("..").unwrap_or((text, text));
    let (first, last) = (first.trim(), last.trim());
    if let (Ok(first), Ok(last)) = (first.parse::<Date>(), last.parse::<Date>()) {
        return match first <= last {
            true => Ok(DateRange::Once { first, last }),
            false => Err(format!("invalid dates `{text}`: they end before they start")),
        };
    }
    // A leap year has all days.
    let yearly = |text: &str| {
        let day = format!("2024-{text}").parse::<Date>().ok().filter(|_| text.len() == 5)?;
        Some((day.month(), day.day()))
    };
    let (Some(first), Some(last)) = (yearly(first), yearly(last)) else { return Err(problem()) };
    Ok(DateRange::Yearly { first, last })
}

/// Whether it is active on any day.
pub fn holds_ever(condition: &Condition) -> bool {
    let mut all = Vec::new();
    for range in &condition.dates {
        match *range {
            DateRange::Once { first, last } => all.push((first, last)),
            DateRange::Yearly { .. } => all.push((date(2024, 1, 1), Date::MAX)),
        }
    }
    if all.is_empty() {
        all.push((date(2024, 1, 1), Date::MAX));
    }
    all.into_iter().any(|(first, last)| {
        let days = first.series(1.day()).take_while(|day| *day <= last).take(CYCLE_DAYS);
        days.into_iter().any(|day| condition.holds_on(day))
    })
}
