//! Forecasts of the limits of a caller, from the sums of its usage and from how its limits stand.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::history::{Forecast, History, Season};
use super::outlook::{Comeback, Outlook, Standing as LimitStanding};
use crate::clock::Timestamp;
use crate::engine::{Preview, Standing, Verdict};
use crate::limit::Algorithm;
use crate::usage::{Dimension, Granularity, Group, GroupName, Page, Total, UsageQuery, View};

const HOUR_MS: u64 = 3_600_000;
/// A day of a calendar has up to 25 hours.
const DAY_MS_MAX: u64 = 25 * HOUR_MS;
/// How many steps of the past are read: 8 weeks of days, 8 days of hours.
const SEASONS_READ: u64 = 8;

/// What was asked for by domain and limit: by the number of the day or hour.
type Asked = HashMap<(String, String), Steps>;

/// By the number of the day or hour.
type Steps = BTreeMap<u64, Step>;

/// The hits of one day or hour.
#[derive(Clone, Copy, Debug, Default)]
struct Step {
    spent: f64,
    refused: f64,
}

/// What a caller has spent of its limits, by days and by hours.
#[derive(Debug, Default)]
pub struct SpentPast {
    days: Asked,
    hours: Asked,
}

/// When a limit will be used up.
#[derive(Debug)]
pub struct LimitForecast {
    pub domain: String,
    pub limit: String,
    pub quota: u64,
    pub used: u64,
    pub remaining: u64,
    /// How many whole steps of use the forecast is made from.
    pub known: usize,
    /// Whether steps are days or hours.
    pub season: Season,
    pub expected: Result<Expected, NoForecast>,
}

/// What is expected of a limit.
#[derive(Debug)]
pub struct Expected {
    pub forecast: Forecast,
    pub outlook: Outlook,
    /// The same of all hits that were asked for: those that were spent, and those that the limit refused. None if it refused none.
    pub demand: Option<Forecast>,
}

/// Why there is no forecast.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoForecast {
    #[error("its counter is shared with other callers")]
    Shared,
    #[error("its window is shorter than an hour")]
    ShortWindow,
    #[error("not enough data: {known} of {needed} whole {steps}")]
    TooLittle { known: usize, needed: usize, steps: &'static str },
}

impl SpentPast {
    /// What is to be read of a caller: its days, and its hours.
    pub fn queries(caller: &str, now: Timestamp) -> [UsageQuery; 2] {
        [Season::Week, Season::Day].map(|season| query(caller, season, now))
    }

    /// The past of the pages of both queries.
    pub fn new([days, hours]: [&Page; 2]) -> Self {
        Self { days: asked(days, Season::Week), hours: asked(hours, Season::Day) }
    }

    /// What is to be read of several callers at once.
    pub fn queries_of(callers: &BTreeSet<String>, now: Timestamp) -> [UsageQuery; 2] {
        [Season::Week, Season::Day].map(|season| UsageQuery {
            group_by: vec![Dimension::Domain, Dimension::Limit, Dimension::Caller],
            filters: Vec::new(),
            callers: Some(callers.clone()),
            ..query("", season, now)
        })
    }

    /// The pasts of the pages of both queries of several callers, by caller.
    pub fn by_caller([days, hours]: [&Page; 2]) -> BTreeMap<String, Self> {
        let mut pasts: BTreeMap<String, Self> = BTreeMap::new();
        for (page, season) in [(days, Season::Week), (hours, Season::Day)] {
            for (group, total) in &page.groups {
                let Some(caller) = group.names.get(2).and_then(GroupName::text) else { continue };
                let past = pasts.entry(caller.to_owned()).or_default();
                let asked = match season {
                    Season::Week => &mut past.days,
                    Season::Day => &mut past.hours,
                };
                add(asked, season, (group, total));
            }
        }
        pasts
    }

    /// The forecasts of the limits of a request of the caller.
    pub fn forecasts(&self, preview: &Preview<'_>, caller: &str) -> Vec<LimitForecast> {
        let verdict = &preview.verdict;
        preview.standings().map(|standing| self.forecast(verdict, standing, caller)).collect()
    }

    fn forecast(
        &self,
        verdict: &Verdict<'_>,
        standing: Standing<'_, '_>,
        caller: &str,
    ) -> LimitForecast {
        let charge = standing.charge;
        let now = verdict.at;
        let (season, comeback) = comeback(standing.limit.at(now).algorithm(), now);
        let name = (verdict.domain.to_owned(), charge.limit.label.to_string());
        let all = match season {
            Season::Week => &self.days,
            Season::Day => &self.hours,
        };
        let present = now.as_ms() / season.step_ms();
        let steps = all.get(&name);
        let history = history(steps, (season, present), |step| step.spent);
        let spent_in_step = steps.and_then(|steps| steps.get(&present)).map(|step| step.spent);
        let is_shared = standing.account.is_some_and(|account| account != caller);
        let expected = match (history.forecast(), comeback) {
            _ if is_shared => Err(NoForecast::Shared),
            (_, None) => Err(NoForecast::ShortWindow),
            (None, _) => Err(too_little(&history)),
            (Some(forecast), Some(comeback)) => {
                let standing = LimitStanding {
                    now_ms: now.as_ms(),
                    quota: number(charge.quota),
                    used: number(standing.used),
                    spent_in_step: spent_in_step.unwrap_or_default(),
                    comeback,
                };
                let outlook = standing.outlook(&history, &forecast);
                Ok(Expected { forecast, outlook, demand: demand(steps, (season, present)) })
            }
        };
        LimitForecast {
            domain: name.0,
            limit: name.1,
            quota: charge.quota,
            used: standing.used,
            remaining: charge.remaining(),
            known: history.spent.len(),
            season,
            expected,
        }
    }
}

fn query(caller: &str, season: Season, now: Timestamp) -> UsageQuery {
    let steps = SEASONS_READ * u64::try_from(season.steps()).unwrap_or_default();
    UsageQuery {
        by_time: true,
        group_by: vec![Dimension::Domain, Dimension::Limit],
        named_only: true,
        filters: vec![(Dimension::Caller, caller.to_owned())],
        ..UsageQuery::since(
            View::Limits,
            granularity(season),
            Timestamp::from_ms(now.as_ms().saturating_sub(steps * season.step_ms())),
        )
    }
}

fn asked(page: &Page, season: Season) -> Asked {
    let mut asked = Asked::new();
    for one in &page.groups {
        add(&mut asked, season, (&one.0, &one.1));
    }
    asked
}

/// Adds what was asked for in one step of a limit, by domain and limit.
fn add(asked: &mut Asked, season: Season, (group, total): (&Group, &Total)) {
    let (Some(start), [domain, limit, ..]) = (group.start, &group.names[..]) else { return };
    let (Some(domain), Some(limit)) = (domain.text(), limit.text()) else { return };
    let spent = total.counts.hits_spent.saturating_sub(total.counts.hits_given_back);
    let step = Step { spent: number(spent), refused: number(total.counts.hits_refused) };
    let steps = asked.entry((domain.to_owned(), limit.to_owned())).or_default();
    steps.insert(granularity(season).number(start), step);
}

fn granularity(season: Season) -> Granularity {
    match season {
        Season::Week => Granularity::Day,
        Season::Day => Granularity::Hour,
    }
}

/// The forecast of all hits that are asked for; None if none was refused.
fn demand(steps: Option<&Steps>, (season, present): (Season, u64)) -> Option<Forecast> {
    let demand = history(steps, (season, present), |step| step.spent + step.refused);
    let is_refused = steps?.range(demand.first..present).any(|(_, step)| 0.0 < step.refused);
    if is_refused { demand.forecast() } else { None }
}

/// The whole steps before the present one, from the first with any use on.
fn history(
    steps: Option<&Steps>,
    (season, present): (Season, u64),
    hits: impl Fn(&Step) -> f64,
) -> History {
    let first = steps.and_then(|steps| steps.keys().next().copied()).unwrap_or(present);
    // The first step may have begun before the usage was counted.
    let first = (first + 1).min(present);
    let at = |step: u64| steps.and_then(|steps| steps.get(&step)).map(&hits).unwrap_or_default();
    History { season, first, spent: (first..present).map(at).collect() }
}

/// Whether hours or days are looked at, and how hits come back; None for windows of less than an hour.
fn comeback(algorithm: &Algorithm, now: Timestamp) -> (Season, Option<Comeback>) {
    let (window_ms, comeback) = match algorithm {
        Algorithm::Total => return (Season::Week, Some(Comeback::Never)),
        Algorithm::Sliding(sliding) => {
            let window_ms = sliding.window_ms();
            (window_ms, Comeback::Sliding { window_ms })
        }
        Algorithm::Bucket(bucket) => {
            let per_ms = number(bucket.amount()) / number(bucket.window_ms());
            // It is whole again after the time that its burst takes.
            let whole_ms = bucket.window_ms() * bucket.burst().div_ceil(bucket.amount().max(1));
            (whole_ms, Comeback::Steady { per_ms })
        }
        Algorithm::Fixed(_) | Algorithm::Calendar(_) => {
            let Some(period) = algorithm.period(now) else { return (Season::Week, None) };
            let len = period.end.as_ms().saturating_sub(period.start.as_ms());
            (len, Comeback::AtOnce { at_ms: period.end.as_ms() })
        }
    };
    let season = if window_ms <= DAY_MS_MAX { Season::Day } else { Season::Week };
    (season, (HOUR_MS <= window_ms).then_some(comeback))
}

fn too_little(history: &History) -> NoForecast {
    let steps = match history.season {
        Season::Week => "days",
        Season::Day => "hours",
    };
    NoForecast::TooLittle { known: history.spent.len(), needed: history.season.steps(), steps }
}

/// Exact for amounts and times: below 2^53.
fn number(value: u64) -> f64 {
    value as f64
}

#[cfg(test)]
mod tests {
    use super::super::Trend;
    use super::*;

    const TODAY: u64 = 20_000;

    /// The forecasts of what is spent, and of what is asked for, after 29 days of that many hits of a limit of 100 a day.
    fn of(asked: impl Fn(u64) -> f64) -> (Forecast, Option<Forecast>) {
        let step = |hits: f64| Step { spent: hits.min(100.0), refused: (hits - 100.0).max(0.0) };
        let steps: Steps = (0..29).map(|day| (TODAY - 29 + day, step(asked(day)))).collect();
        let when = (Season::Week, TODAY);
        let spent = history(Some(&steps), when, |step| step.spent).forecast().unwrap();
        (spent, demand(Some(&steps), when))
    }

    #[test]
    fn demand_is_known_beyond_the_limit() {
        let (spent, demand) = of(|day| 200.0 + 10.0 * number(day));
        assert_eq!((spent.level, spent.trend), (100.0, Trend::Steady), "at the limit every day");
        let demand = demand.unwrap();
        // The last seven days are those from the 22nd on.
        assert_eq!((demand.level, demand.trend), (200.0 + 10.0 * 25.0, Trend::Rising));
        // A part of it is taken for the pattern of the week.
        assert!((8.0..=10.5).contains(&demand.change), "{}", demand.change);
    }

    #[test]
    fn demand_that_was_met_is_what_was_spent() {
        assert!(of(|_| 80.0).1.is_none());
        let (spent, demand) = of(|day| if day == 20 { 800.0 } else { 80.0 });
        let demand = demand.unwrap();
        assert_eq!((spent.level, demand.level), (80.0, 80.0), "a day before the last week");
        assert_eq!(demand.trend, Trend::Steady);
    }
}
