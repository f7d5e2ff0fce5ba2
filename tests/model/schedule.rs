//! When conditions hold, by the documentation: clocks and calendars are looked at every quarter of an hour.
//!
//! Nothing that a world says of times is finer than that, and no clock is set by less. So whatever changes, changes at one of
//! these instants.

use std::collections::HashMap;

use jiff::ToSpan;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::world::{Condition, Dates};

/// How finely times are looked at.
const STEP_MS: u64 = 900_000;

/// Days after an edge in which the next one is looked for.
const SEARCH_DAYS: u64 = 1_500;

const DAY_MS: u64 = 86_400_000;

/// Edges ahead that a promised wait sees, and edges and time back for which a bucket's rates are remembered.
const EDGES: usize = 8;
const BACK_MS: u64 = 32 * DAY_MS;

/// From when on which of some conditions holds, if one does.
pub type Span = (u64, Option<usize>);

/// Which of several conditions hold when, in one time zone.
#[derive(Clone, Debug)]
pub struct Schedules {
    zone: TimeZone,
    /// By list of conditions.
    known: HashMap<Vec<Condition>, Timeline>,
}

/// What was found out so far of a list of conditions.
#[derive(Clone, Debug)]
struct Timeline {
    spans: Vec<Span>,
    /// All before this was looked at.
    until: u64,
    /// By day: whether each condition is for it, hours aside.
    days: HashMap<i64, Vec<bool>>,
}

impl Schedules {
    pub fn new(zone: &str) -> Self {
        Self { zone: TimeZone::get(zone).unwrap(), known: HashMap::new() }
    }

    /// The spans that matter at a time, in order: the one that holds it, those before it that a bucket remembers, and those after it
    /// that a wait sees.
    pub fn around(&mut self, conditions: &[Condition], now: u64) -> Vec<Span> {
        self.look(conditions, now);
        let spans = &self.known[conditions].spans;
        let present = spans.iter().rposition(|(from, _)| *from <= now).unwrap();
        let mut first = present;
        while 0 < first && present - first < EDGES && now - BACK_MS < spans[first].0 {
            first -= 1;
        }
        spans[first..].iter().take(present - first + 1 + EDGES).copied().collect()
    }

    /// The next edge of each list of conditions that was asked for.
    pub fn moments(&self, now: u64) -> Vec<u64> {
        let next = |timeline: &Timeline| {
            timeline.spans.iter().map(|(from, _)| *from).find(|from| now < *from)
        };
        self.known.values().filter_map(next).collect()
    }

    /// Looks from well before a time on, until enough edges after it are known or there seem to be no more.
    fn look(&mut self, conditions: &[Condition], now: u64) {
        let timeline = self.known.remove(conditions);
        let mut timeline = timeline.unwrap_or_else(|| {
            let from = now - now % DAY_MS - BACK_MS - 2 * DAY_MS;
            let mut days = HashMap::new();
            let holding = holding(conditions, &mut days, self.shown(from));
            Timeline { spans: vec![(from, holding)], until: from, days }
        });
        let is_enough = |timeline: &Timeline| {
            let later = timeline.spans.iter().rev().take_while(|(from, _)| now < *from).count();
            let last = timeline.spans.last().unwrap().0.max(now);
            EDGES < later || last + SEARCH_DAYS * DAY_MS < timeline.until
        };
        while !is_enough(&timeline) {
            self.look_at_day(conditions, &mut timeline);
        }
        self.known.insert(conditions.to_vec(), timeline);
    }

    /// Looks at one more day.
    fn look_at_day(&self, conditions: &[Condition], timeline: &mut Timeline) {
        let from = timeline.until;
        timeline.until += DAY_MS;
        let Timeline { spans, until, days } = timeline;
        let ((first, _), (last, _)) = (self.shown(from), self.shown(*until));
        let mut all = (first - 1..=last).map(|day| is_for(conditions, days, day));
        let one = all.next().unwrap();
        let has_hours = one.iter().zip(conditions).any(|(is, one)| *is && !one.hours.is_empty());
        if !has_hours && all.all(|other| other == one) {
            return;
        }
        for at in (from..*until).step_by(usize::try_from(STEP_MS).unwrap()) {
            let holding = holding(conditions, days, self.shown(at));
            if spans.last().unwrap().1 != holding {
                spans.push((at, holding));
            }
        }
    }

    /// The day, counted from that of the epoch, and the minute of it that clocks show at a time.
    fn shown(&self, at: u64) -> (i64, u64) {
        let at = i64::try_from(at).unwrap();
        let offset = self.zone.to_offset(jiff::Timestamp::from_millisecond(at).unwrap());
        let minutes = (at / 1_000 + i64::from(offset.seconds())) / 60;
        (minutes / 1_440, u64::try_from(minutes % 1_440).unwrap())
    }
}

/// The first of some conditions that holds at a minute of a day.
fn holding(
    conditions: &[Condition],
    days: &mut HashMap<i64, Vec<bool>>,
    (day, minute): (i64, u64),
) -> Option<usize> {
    let before = is_for(conditions, days, day - 1);
    let today = is_for(conditions, days, day);
    (0..conditions.len()).find(|index| {
        let in_hours = |(start, end): &(u64, u64)| {
            if start < end {
                today[*index] && (*start..*end).contains(&minute)
            } else {
                today[*index] && *start <= minute || before[*index] && minute < *end
            }
        };
        let hours = &conditions[*index].hours;
        hours.iter().any(in_hours) || hours.is_empty() && today[*index]
    })
}

/// Which conditions are for a day, hours aside.
fn is_for(conditions: &[Condition], days: &mut HashMap<i64, Vec<bool>>, day: i64) -> Vec<bool> {
    let known = days.entry(day).or_insert_with(|| {
        let date = jiff::civil::date(1970, 1, 1).checked_add(day.days()).unwrap();
        conditions.iter().map(|condition| is_of(condition, date)).collect()
    });
    known.clone()
}

fn is_of(condition: &Condition, date: Date) -> bool {
    let weekday = date.weekday().to_monday_one_offset();
    let is_in = |dates: &Dates| match dates {
        Dates::Once(first, last) => {
            is_between((date.year(), date.month(), date.day()), (*first, *last))
        }
        Dates::Yearly(first, last) => is_between((date.month(), date.day()), (*first, *last)),
    };
    let Condition { months, weekdays, dates, except, .. } = condition;
    let month = months.iter().any(|range| is_between(date.month(), *range));
    let weekday = weekdays.iter().any(|range| is_between(weekday, *range));
    (month || months.is_empty())
        && (weekday || weekdays.is_empty())
        && (dates.iter().any(is_in) || dates.is_empty())
        && !except.iter().any(is_in)
}

/// Whether something is in a range, which may go over the end and begin anew.
fn is_between<T: PartialOrd + Copy>(one: T, (first, last): (T, T)) -> bool {
    if first <= last { first <= one && one <= last } else { first <= one || one <= last }
}
