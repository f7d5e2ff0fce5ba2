//! The form of a bonus in files, over HTTP and in Redis, and its conversion to a [`Bonus`] and back.

use std::sync::Arc;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::flaw::{Flaws, too_much};
use crate::clock::Timestamp;
use crate::limit::{
    AMOUNT_MAX, BONUS_PRIORITY_DEFAULT, BONUS_PRIORITY_MAX, Bonus, CalendarUnit, Recurrence,
};
use crate::policy::model::CallerBonus;

/// Maximum bytes of a bonus's id, which is part of a counter's record.
const ID_LEN_MAX: usize = 32;

/// Bytes of SHA-256 in a derived id.
const ID_HASH_LEN: usize = 6;

/// Extra hits on a limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Bonus")]
pub struct BonusForm {
    /// Distinguishes it from other bonuses of the caller: letters, digits, - and _. If absent, it is derived from the other
    /// fields.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The name of the limit.
    pub limit: String,
    /// The number of extra hits; of a bonus that recurs, in each period.
    pub amount: u64,
    /// A date (until its end in UTC) or a time: 2026-12-31 or 2026-12-31T12:00:00Z. If absent, it never ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// Of bonuses that end at the same time, the one with the lowest priority is spent first: 0 to 100, 50 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = BONUS_PRIORITY_MAX))]
    pub priority: Option<u8>,
    /// Its hits come anew in each hour, day, week, month or year of UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every: Option<EveryForm>,
    /// When a bonus that recurs begins: a date or a time. Required with `rollover`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// How much of what is left of a period is carried into the next one; if absent, nothing is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollover: Option<RolloverForm>,
}

/// How often a bonus comes anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum EveryForm {
    Hour,
    Day,
    Week,
    Month,
    Year,
}

/// What is carried from a period of a bonus into the next one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Rollover")]
pub struct RolloverForm {
    /// At most so many hits.
    pub max: u64,
}

impl From<&CallerBonus> for BonusForm {
    fn from(CallerBonus { limit, bonus }: &CallerBonus) -> Self {
        Self {
            id: Some(bonus.id.to_string()),
            limit: limit.clone(),
            amount: bonus.amount,
            until: (bonus.until != Timestamp::MAX).then(|| show_time(bonus.until)),
            priority: Some(bonus.priority).filter(|priority| *priority != BONUS_PRIORITY_DEFAULT),
            every: bonus.recurs.as_ref().and_then(|recurs| EveryForm::of(recurs.every())),
            from: bonus
                .recurs
                .as_ref()
                .filter(|recurs| recurs.from() != Timestamp::default())
                .map(|recurs| show_time(recurs.from())),
            rollover: bonus
                .recurs
                .as_ref()
                .filter(|recurs| recurs.rollover_max() != 0)
                .map(|recurs| RolloverForm { max: recurs.rollover_max() }),
        }
    }
}

impl BonusForm {
    /// When it ends; None if never, and if that is invalid.
    pub fn end(&self) -> Option<Timestamp> {
        parse_until(self.until.as_deref()?).ok()
    }

    /// The bonus of the form, which has that index in the caller's form, and that id.
    pub fn bonus(&self, (index, id): (&str, String), flaws: &mut Flaws) -> Option<Bonus> {
        let path = |field| ["bonuses", index, field];
        let until = self.until.as_deref().map_or(Ok(Timestamp::MAX), parse_until);
        let until = flaws.take(&path("until"), until);
        let from = self.from.as_deref().map_or(Ok(Timestamp::default()), parse_from);
        let from = flaws.take(&path("from"), from);
        let priority = self.priority.unwrap_or(BONUS_PRIORITY_DEFAULT);
        flaws.note_if(BONUS_PRIORITY_MAX < priority, &path("priority"), || {
            format!("{priority} is more than {BONUS_PRIORITY_MAX}")
        });
        let rollover_max = self.rollover.as_ref().map_or(0, |rollover| rollover.max);
        let is_much = AMOUNT_MAX < rollover_max;
        flaws.note_if(is_much, &path("rollover"), || too_much(rollover_max));
        let is_missing = self.rollover.is_some() && self.from.is_none();
        flaws.note_if(is_missing, &path("rollover"), || {
            "`rollover` requires a `from`, which tells since when hits are carried over".to_owned()
        });
        if self.every.is_none() {
            for (name, given) in
                [("from", self.from.is_some()), ("rollover", self.rollover.is_some())]
            {
                flaws.note_if(given, &path(name), || format!("`{name}` requires `every`"));
            }
        }
        let (until, from) = (until?, from?);
        let recurs = self.every.map(|every| Recurrence::new(every.unit(), from, rollover_max));
        let bonus = Bonus::new(id, self.amount, until);
        Some(Bonus { priority, recurs: recurs.map(Arc::new), ..bonus })
    }

    /// An id that depends only on the other fields, so it is the same in every process.
    pub fn digest(&self) -> String {
        let until = self.until.as_deref().unwrap_or_default();
        let mut text = format!("{} {until} {}", self.amount, self.limit);
        if let Some(every) = self.every {
            text.push_str(&format!(" {every:?}"));
        }
        let hash = Sha256::digest(text.as_bytes());
        hash[..ID_HASH_LEN].iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// Checks the id of a bonus.
///
/// # Errors
/// A clause that says why.
pub fn check_id(id: &str) -> Result<(), String> {
    let is_fine = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    if (1..=ID_LEN_MAX).contains(&id.len()) && id.bytes().all(is_fine) {
        return Ok(());
    }
    Err(format!("invalid id; use 1 to {ID_LEN_MAX} letters, digits, `-` and `_`"))
}

impl EveryForm {
    fn unit(self) -> CalendarUnit {
        match self {
            Self::Hour => CalendarUnit::Hour,
            Self::Day => CalendarUnit::Day,
            Self::Week => CalendarUnit::Week,
            Self::Month => CalendarUnit::Month,
            Self::Year => CalendarUnit::Year,
        }
    }

    /// None for minutes, in which nothing recurs.
    fn of(unit: CalendarUnit) -> Option<Self> {
        match unit {
            CalendarUnit::Minute => None,
            CalendarUnit::Hour => Some(Self::Hour),
            CalendarUnit::Day => Some(Self::Day),
            CalendarUnit::Week => Some(Self::Week),
            CalendarUnit::Month => Some(Self::Month),
            CalendarUnit::Year => Some(Self::Year),
        }
    }
}

/// Parses a date, which means its end, or an instant.
pub fn parse_until(text: &str) -> Result<Timestamp, String> {
    parse_time(text, Date::tomorrow)
}

/// Parses a date, which means its beginning, or an instant. That of the Unix epoch stands for none, so it is no beginning.
fn parse_from(text: &str) -> Result<Timestamp, String> {
    match parse_time(text, Ok)? {
        at if at == Timestamp::default() => {
            Err(format!("invalid date `{text}`; it must be after 1970-01-01T00:00:00Z"))
        }
        at => Ok(at),
    }
}

fn parse_time(
    text: &str,
    day: impl Fn(Date) -> Result<Date, jiff::Error>,
) -> Result<Timestamp, String> {
    const DAY_LEN: usize = 10;
    let problem = || {
        format!(
            "invalid date `{text}`; use a date or a time, such as 2026-12-31 or 2026-12-31T12:00:00Z"
        )
    };
    let range = || format!("invalid date `{text}`; use one from 1970-01-01 to 9999-12-29");
    let instant = match text.len() {
        DAY_LEN => {
            let date = text.parse::<Date>().map_err(|_| problem())?;
            let midnight = day(date).and_then(|day| day.to_zoned(TimeZone::UTC));
            midnight.map_err(|_| range())?.timestamp()
        }
        _ => text.parse::<jiff::Timestamp>().map_err(|_| problem())?,
    };
    let ms = u64::try_from(instant.as_millisecond()).map_err(|_| range())?;
    Ok(Timestamp::from_ms(ms))
}

/// An instant in RFC 3339 format.
pub fn show_time(at: Timestamp) -> String {
    let ms = i64::try_from(at.as_ms()).unwrap_or(i64::MAX);
    jiff::Timestamp::from_millisecond(ms).unwrap_or(jiff::Timestamp::MAX).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bonus_ends_with_its_day_or_at_its_instant() {
        let check = |text: &str, shown: &str| {
            let until = parse_until(text);
            assert_eq!(
                until.as_ref().map(|until| show_time(*until)),
                Ok(shown.to_owned()),
                "{text}"
            );
        };
        check("2026-12-31", "2027-01-01T00:00:00Z");
        check("2026-12-31T12:00:00+01:00", "2026-12-31T11:00:00Z");
        check("2026-12-31T12:00:00.5Z", "2026-12-31T12:00:00.5Z");
        for wrong in ["", "tomorrow", "2026-13-01", "2026-12-31T12", "1969-01-01", "9999-12-31"] {
            assert!(parse_until(wrong).unwrap_err().contains(wrong), "{wrong}");
        }
        for beyond in ["9999-12-31", "9999-12-30", "1969-01-01"] {
            let message = parse_until(beyond).unwrap_err();
            assert!(message.contains("from 1970-01-01 to 9999-12-29"), "{message}");
        }
        check("9999-12-29", "9999-12-30T00:00:00Z");
    }
}
