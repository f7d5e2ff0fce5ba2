//! The active one of several conditions in a time zone, and its changes.
//!
//! Conditions follow local time. If clocks are set back, repeated hours occur twice; if they are set forward, skipped
//! hours do not occur. A change may be at the start of a day, at a minute in a condition, or when clocks are set.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use jiff::civil::Date;
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{ToSpan, Zoned};

use super::condition::{Condition, DateRange};
use super::timeline::{Span, Timeline};
use crate::clock::Timestamp;

/// Maximum distance of a searched change: every yearly date occurs within it, leap years included.
const SEARCH_DAYS: u64 = 1_500;

const DAY_MS: u64 = 86_400_000;

/// How far back changes are kept, and from when on a computed timeline is valid: clocks of stores may differ.
const LOOKBACK_MS: u64 = 33 * DAY_MS;
const MARGIN_MS: u64 = DAY_MS;

/// Number of computed spans after the current one.
const LATER_MAX: usize = 16;

/// Conditions by precedence, in one time zone.
#[derive(Debug)]
pub struct Timetable {
    conditions: Vec<Condition>,
    zone: TimeZone,
    /// The last computed timeline: no request computes a calendar before it has expired.
    known: ArcSwapOption<Timeline>,
}

impl PartialEq for Timetable {
    fn eq(&self, other: &Self) -> bool {
        (&self.conditions, &self.zone) == (&other.conditions, &other.zone)
    }
}

impl Eq for Timetable {}

impl Timetable {
    /// A timetable of conditions, of which the first active one applies, with the local time of `zone`.
    pub fn new(conditions: Vec<Condition>, zone: TimeZone) -> Self {
        Self { conditions, zone, known: ArcSwapOption::empty() }
    }

    /// By precedence.
    pub fn conditions(&self) -> &[Condition] {
        &self.conditions
    }

    /// Whether its conditions have dates of given years only, all of which are past.
    pub fn is_past(&self, now: Timestamp) -> bool {
        // Hours that cross midnight end on the day after.
        let yesterday = self.date(now.as_ms()).and_then(|today| today.yesterday().ok());
        let is_past = |range: &DateRange| match *range {
            DateRange::Once { last, .. } => yesterday.is_some_and(|yesterday| last < yesterday),
            DateRange::Yearly { .. } => false,
        };
        let is_over = |one: &Condition| !one.dates.is_empty() && one.dates.iter().all(is_past);
        self.conditions.iter().all(is_over)
    }

    /// The active condition at a time, by index.
    pub fn holding(&self, at: Timestamp) -> Option<usize> {
        let shown = self.zoned(at.as_ms())?;
        let minute =
            u16::from(shown.hour().unsigned_abs()) * 60 + u16::from(shown.minute().unsigned_abs());
        self.conditions.iter().position(|condition| condition.holds(shown.date(), minute))
    }

    /// The first time after `at` at which the active condition changes; None if there is none in the next four years.
    pub fn next_edge(&self, at: Timestamp) -> Option<Timestamp> {
        let holding = self.holding(at);
        let mut start_ms = at.as_ms();
        for _ in 0..SEARCH_DAYS {
            let end_ms = start_ms + DAY_MS;
            let (first, last) = (self.date(start_ms)?, self.date(end_ms)?);
            let (first, last) = (first.yesterday().ok()?, last.tomorrow().ok()?);
            if !self.is_all(holding, first, last) {
                let mut all = self.candidates(first, last, start_ms);
                all.retain(|ms| start_ms < *ms && *ms <= end_ms);
                all.sort_unstable();
                let differs = |ms: &u64| self.holding(Timestamp::from_ms(*ms)) != holding;
                if let Some(edge_ms) = all.into_iter().find(differs) {
                    return Some(Timestamp::from_ms(edge_ms));
                }
            }
            start_ms = end_ms;
        }
        None
    }

    /// The conditions around a time.
    pub fn timeline(&self, now: Timestamp) -> Arc<Timeline> {
        let known = self.known.load();
        if let Some(known) = known.as_ref().filter(|known| known.covers(now)) {
            return Arc::clone(known);
        }
        let timeline = Arc::new(self.work_out(now));
        self.known.store(Some(timeline.clone()));
        timeline
    }

    /// The active condition at a time, by index, from the last timeline if it covers the time.
    pub fn holding_now(&self, now: Timestamp) -> Option<usize> {
        let known = self.known.load();
        match known.as_ref().filter(|known| known.covers(now)) {
            Some(known) => known.span(now).holding,
            None => self.timeline(now).span(now).holding,
        }
    }

    /// The first edge after a time, from what is known if it can be; None if none is.
    pub fn known_edge(&self, now: Timestamp) -> Option<Timestamp> {
        let timeline = self.timeline(now);
        let (_, later) = timeline.split(now);
        later.first().map(|span| Timestamp::from_ms(span.from_ms))
    }

    fn work_out(&self, now: Timestamp) -> Timeline {
        let mut at = Timestamp::from_ms(now.as_ms().saturating_sub(LOOKBACK_MS));
        let mut spans = vec![Span { from_ms: at.as_ms(), holding: self.holding(at) }];
        let mut later = 0;
        while later < LATER_MAX {
            let Some(edge) = self.next_edge(at) else { break };
            at = edge;
            later += usize::from(now < at);
            spans.push(Span { from_ms: at.as_ms(), holding: self.holding(at) });
        }
        // After the last change, the searched time is covered.
        let end_ms = at.as_ms() + (SEARCH_DAYS / 2) * DAY_MS;
        let refresh_ms = match later {
            LATER_MAX => spans[spans.len() - LATER_MAX / 2].from_ms,
            _ => end_ms,
        };
        Timeline::new(spans, now.as_ms().saturating_sub(MARGIN_MS)..refresh_ms)
    }

    /// Whether no condition changes on any of some days.
    fn is_all(&self, holding: Option<usize>, first: Date, last: Date) -> bool {
        let days = first.series(1.day()).take_while(|date| *date <= last);
        days.into_iter().all(|date| {
            for (index, condition) in self.conditions.iter().enumerate() {
                match condition.holds_all_day(date) {
                    Some(true) => return holding == Some(index),
                    Some(false) => {}
                    None => return false,
                }
            }
            holding.is_none()
        })
    }

    /// The times on some days at which a condition may change, in milliseconds since the Unix epoch, and those after
    /// `start_ms` at which clocks are set.
    fn candidates(&self, first: Date, last: Date, start_ms: u64) -> Vec<u64> {
        let mut all = Vec::new();
        for date in first.series(1.day()).take_while(|date| *date <= last) {
            let minutes = self.conditions.iter().flat_map(Condition::minutes);
            for minute in std::iter::once(0).chain(minutes) {
                let (hour, minute) = (minute / 60, minute % 60);
                let [hour, minute] = [hour, minute].map(|part| i8::try_from(part).unwrap_or(0));
                let shown = date.at(hour, minute, 0, 0);
                let ambiguous = self.zone.to_ambiguous_timestamp(shown);
                let offsets = match ambiguous.offset() {
                    AmbiguousOffset::Unambiguous { offset } => [Some(offset), None],
                    AmbiguousOffset::Gap { .. } => [None, None],
                    AmbiguousOffset::Fold { before, after } => [Some(before), Some(after)],
                };
                let times = offsets.into_iter().flatten();
                all.extend(times.filter_map(|offset| as_ms(offset.to_timestamp(shown).ok()?)));
            }
        }
        if let Some(from) = self.zoned(start_ms) {
            let settings = self.zone.following(from.timestamp());
            let settings = settings.map_while(|setting| as_ms(setting.timestamp()));
            all.extend(settings.take_while(|ms| *ms <= start_ms + DAY_MS));
        }
        all
    }

    fn date(&self, ms: u64) -> Option<Date> {
        self.zoned(ms).map(|shown| shown.date())
    }

    fn zoned(&self, ms: u64) -> Option<Zoned> {
        let at = jiff::Timestamp::from_millisecond(i64::try_from(ms).ok()?).ok()?;
        Some(at.to_zoned(self.zone.clone()))
    }
}

fn as_ms(at: jiff::Timestamp) -> Option<u64> {
    u64::try_from(at.as_millisecond()).ok()
}
