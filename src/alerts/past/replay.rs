//! When a rule would have fired in the past, from stored usage.
//!
//! Usage of the past is in hours, so a rule is evaluated once for each hour: what happens within an hour is not seen.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::names::{caller_of, filters, labels};
use super::refused::refused_percent;
use super::sources::UsageSources;
use super::spend::{currencies, query, value};
use super::spike::{WEEKS, deviations, weeks_of};
use crate::alerts::book::{Firing, OpenAlert};
use crate::alerts::conditions::{Conditions, Seen};
use crate::alerts::labels::{AlertId, Labels};
use crate::clock::Timestamp;
use crate::policy::{AlertPolicy, AlertRule, AlertSignal, PolicySet};
use crate::store::sums::SumsError;
use crate::usage::{Dimension, Granularity, Group, GroupName, Page, Rank, Total, UsageQuery, View};

const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(24 * 3_600);
const WEEK: Duration = Duration::from_secs(7 * 24 * 3_600);

/// Maximum number of firings that are told.
const FIRINGS_MAX: usize = 1_000;

/// Maximum number of callers whose past is read for spikes, each with a query of its own.
const CALLERS_MAX: usize = 100;

/// Requests of an hour without which a share says nothing.
const REQUESTS_MIN: u64 = 10;

/// When a rule would have fired.
#[derive(Debug)]
pub struct Replay {
    pub from: Timestamp,
    pub to: Timestamp,
    /// What was taken of usage, for people.
    pub how: &'static str,
    /// Oldest first.
    pub firings: Vec<PastFiring>,
    /// There are more than are told.
    pub more: bool,
}

/// A time for which a rule would have fired.
#[derive(Debug)]
pub struct PastFiring {
    pub labels: Labels,
    pub from: Timestamp,
    /// None: it fires at the end of the replay.
    pub until: Option<Timestamp>,
    /// The value that was the furthest beyond the bound.
    pub value: f64,
    /// A line for people.
    pub title: String,
}

/// Why a rule can't be replayed.
#[derive(Debug, thiserror::Error)]
pub enum NotReplayed {
    #[error("usage does not hold what `when: {}` follows", signal.as_str())]
    Signal { signal: AlertSignal },
    #[error(transparent)]
    Usage(#[from] SumsError),
}

/// What a rule sees in each hour, by its start.
type Hours = BTreeMap<Timestamp, Vec<Seen>>;

/// When a rule would have fired in the last `days`.
///
/// # Errors
/// If usage does not hold what the rule follows, or can't be read.
pub async fn replay(
    sources: &UsageSources,
    policies: &PolicySet,
    rule: &AlertRule,
    (days, now): (u32, Timestamp),
) -> Result<Replay, NotReplayed> {
    let from = Granularity::Hour.start(now.before(DAY * days));
    let past = Past { sources, policies, rule, from, now };
    let (oldest, hours, how) = match rule.signal {
        AlertSignal::Refused | AlertSignal::Errors => past.shares().await?,
        AlertSignal::Denials => past.denials().await?,
        AlertSignal::CallerRefused => past.caller_shares().await?,
        AlertSignal::Spend | AlertSignal::Budget => past.spend().await?,
        AlertSignal::Spike => past.spikes().await?,
        signal => return Err(NotReplayed::Signal { signal }),
    };
    let (firings, more) = fire(rule, &hours, (from, now));
    Ok(Replay { from: oldest.max(from), to: now, how, firings, more })
}

/// The past that a rule is replayed on.
struct Past<'a> {
    sources: &'a UsageSources,
    policies: &'a PolicySet,
    rule: &'a AlertRule,
    from: Timestamp,
    now: Timestamp,
}

impl Past<'_> {
    /// The refused or failed part of the requests.
    async fn shares(&self) -> Result<(Timestamp, Hours, &'static str), SumsError> {
        let page = self.read(self.query(Vec::new(), self.from)).await?;
        let is_refused = self.rule.signal == AlertSignal::Refused;
        let seen = |(group, total): &(Group, Total)| {
            let part = if is_refused { total.refused } else { total.errors };
            let requests = total.counts.requests;
            let value = part as f64 * 100.0 / requests.max(1) as f64;
            let seen = (REQUESTS_MIN <= requests).then(|| Seen { labels: Labels::new(), value });
            Some((group.start?, seen?))
        };
        Ok((page.from, by_hour(page.groups.iter().filter_map(seen)), "the share of each hour"))
    }

    /// The refused requests of each caller.
    async fn denials(&self) -> Result<(Timestamp, Hours, &'static str), SumsError> {
        let dimensions = vec![Dimension::Domain, Dimension::Caller];
        let page = self.read(self.query(dimensions, self.from)).await?;
        let part = self.rule.over.as_secs_f64() / HOUR.as_secs_f64();
        let seen = |(group, total): &(Group, Total)| {
            let value = total.refused as f64 * part;
            Some((group.start?, Seen { labels: labels(&caller_of(group)?), value }))
        };
        let how = "the average of each hour; bursts within an hour are not seen";
        Ok((page.from, by_hour(page.groups.iter().filter_map(seen)), how))
    }

    /// The refused part of the requests of each caller.
    async fn caller_shares(&self) -> Result<(Timestamp, Hours, &'static str), SumsError> {
        let dimensions = vec![Dimension::Domain, Dimension::Caller];
        let page = self.read(self.query(dimensions, self.from)).await?;
        let seen = |(group, total): &(Group, Total)| {
            let value = refused_percent(self.rule, total)?;
            Some((group.start?, Seen { labels: labels(&caller_of(group)?), value }))
        };
        Ok((page.from, by_hour(page.groups.iter().filter_map(seen)), "the share of each hour"))
    }

    /// What was spent in each hour, or since midnight.
    async fn spend(&self) -> Result<(Timestamp, Hours, &'static str), SumsError> {
        // From midnight on, for the sum of the first day.
        let midnight = Granularity::Day.start(self.from);
        let (mut oldest, mut hours) = (midnight, Hours::new());
        for currency in currencies(self.policies, self.rule) {
            let query = query(self.rule, &currency, Granularity::Hour, midnight);
            let page = self.read(UsageQuery { by_time: true, ..query }).await?;
            oldest = oldest.max(page.from);
            let mut of_day: BTreeMap<Vec<GroupName>, (u64, u64)> = BTreeMap::new();
            for (group, total) in &page.groups {
                let Some(start) = group.start else { continue };
                let day = Granularity::Day.number(start);
                let sum = of_day.entry(group.names.clone()).or_insert((day, 0));
                if sum.0 != day || self.rule.over <= HOUR {
                    *sum = (day, 0);
                }
                sum.1 = sum.1.saturating_add(total.spend.net());
                let seen = value(self.policies, self.rule, &currency, (group, sum.1));
                hours.entry(start).or_default().extend(seen);
            }
        }
        if HOUR < self.rule.over {
            self.keep_until_midnight(&mut hours);
        }
        Ok((oldest, hours, "the sum of each hour, or since midnight in UTC"))
    }

    /// Adds what was spent on a day to its later hours without requests.
    fn keep_until_midnight(&self, hours: &mut Hours) {
        let mut known: BTreeMap<AlertId, Seen> = BTreeMap::new();
        let mut start = Granularity::Day.start(self.from);
        let mut day = Granularity::Day.number(start);
        while start <= self.now {
            if Granularity::Day.number(start) != day {
                day = Granularity::Day.number(start);
                known.clear();
            }
            let id = |seen: &Seen| AlertId::new(&self.rule.name, &seen.labels);
            let seen = hours.entry(start).or_default();
            known.extend(seen.iter().map(|seen| (id(seen), seen.clone())));
            *seen = known.values().cloned().collect();
            start = start.after(HOUR);
        }
    }

    /// The deviations of the busiest callers.
    async fn spikes(&self) -> Result<(Timestamp, Hours, &'static str), SumsError> {
        let dimensions = vec![Dimension::Domain, Dimension::Caller];
        let busiest = UsageQuery {
            granularity: Granularity::Day,
            by_time: false,
            rank: Rank::Requests,
            range: 0..self.rule.top.min(CALLERS_MAX),
            ..self.query(dimensions, self.from)
        };
        let busiest = self.read(busiest).await?;
        let (mut oldest, mut hours) = (self.from, Hours::new());
        let weeks = u32::try_from(WEEKS).unwrap_or(u32::MAX);
        let begin = self.from.before(WEEK * weeks);
        for caller in busiest.groups.iter().filter_map(|(group, _)| caller_of(group)) {
            let (domain, name) = caller.clone();
            let filters = vec![(Dimension::Domain, domain), (Dimension::Caller, name)];
            let page = self.read(UsageQuery { filters, ..self.query(Vec::new(), begin) }).await?;
            oldest = oldest.max(page.from);
            let count = |(group, total): &(Group, Total)| {
                Some((Granularity::Hour.number(group.start?), total.counts.requests))
            };
            let counts: BTreeMap<u64, u64> = page.groups.iter().filter_map(count).collect();
            let first = Granularity::Hour.number(self.from);
            for (hour, count) in
                counts.range(first..).filter(|(_, count)| self.rule.least <= **count)
            {
                if let Some(value) = deviations(*count, &weeks_of(&counts, *hour)) {
                    let start = Granularity::Hour.start_of(*hour);
                    hours.entry(start).or_default().push(Seen { labels: labels(&caller), value });
                }
            }
        }
        Ok((oldest, hours, "the requests of each hour, of the busiest callers"))
    }

    fn query(&self, group_by: Vec<Dimension>, from: Timestamp) -> UsageQuery {
        UsageQuery {
            by_time: true,
            group_by,
            named_only: true,
            filters: filters(self.rule),
            ..UsageQuery::since(View::Requests, Granularity::Hour, from)
        }
    }

    async fn read(&self, query: UsageQuery) -> Result<Page, SumsError> {
        self.sources.read(&Arc::new(query), self.now).await
    }
}

fn by_hour(seen: impl Iterator<Item = (Timestamp, Seen)>) -> Hours {
    let mut hours = Hours::new();
    seen.for_each(|(start, seen)| hours.entry(start).or_default().push(seen));
    hours
}

/// When a rule fires, given what it sees in each hour.
fn fire(
    rule: &AlertRule,
    hours: &Hours,
    (from, to): (Timestamp, Timestamp),
) -> (Vec<PastFiring>, bool) {
    // An hour of usage stands for the whole hour.
    let rule = AlertRule { hold: rule.hold.saturating_sub(HOUR), ..rule.clone() };
    let policy = AlertPolicy { rules: vec![rule], ..AlertPolicy::default() };
    let rule = &policy.rules[0];
    let is_above = rule.bounds.is_none_or(|bounds| bounds.is_above);
    let mut conditions = Conditions::default();
    let (mut firings, mut more): (Vec<PastFiring>, bool) = (Vec::new(), false);
    let mut open: BTreeMap<AlertId, usize> = BTreeMap::new();
    let mut start = from;
    while start <= to {
        conditions.see(rule, hours.get(&start).cloned().unwrap_or_default(), start);
        let now = conditions.firing(&policy);
        let ids: BTreeSet<&AlertId> = now.iter().map(|one| &one.id).collect();
        open.retain(|id, index| {
            let fires = ids.contains(id);
            if !fires {
                firings[*index].until = Some(start);
            }
            fires
        });
        for one in &now {
            let value = one.value.unwrap_or_default();
            if let Some(index) = open.get(&one.id) {
                let peak = &mut firings[*index].value;
                *peak = if is_above { peak.max(value) } else { peak.min(value) };
            } else if firings.len() < FIRINGS_MAX {
                open.insert(one.id.clone(), firings.len());
                let labels = one.labels.clone();
                let title = String::new();
                firings.push(PastFiring { labels, from: start, until: None, value, title });
            } else {
                more = true;
            }
        }
        start = start.after(HOUR);
    }
    for firing in &mut firings {
        firing.title = title(rule, firing);
    }
    (firings, more)
}

/// The title of the alert, with the value of its peak.
fn title(rule: &AlertRule, firing: &PastFiring) -> String {
    let labels = firing.labels.clone();
    let id = AlertId::new(&rule.name, &labels);
    let alert = Firing { id, rule, labels, value: Some(firing.value) };
    OpenAlert::new(&alert, firing.from.as_ms()).title()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alerts::past::testing::{Counted, rule};

    const POLICY: &str = "
domain: d
caller: { key: user }
budget: { day: 12 EUR }
prices: [{ when: { provider: near }, price: 1 EUR }]
descriptors:
- { key: user, limits: [{ rate: 10/hour, algorithm: fixed_window }] }
- { key: provider, limits: [100000/day] }";

    /// The starts and ends in hours since the first, and the titles.
    async fn check(counted: &Counted, text: &str, expected: &[(u64, Option<u64>, &str)]) {
        let (policies, rule) = (counted.policies(), rule(text));
        let replayed =
            replay(&counted.sources, &policies, &rule, (1, counted.now())).await.unwrap();
        let hour = |at: Timestamp| at.since(replayed.from).as_secs() / 3_600;
        let found: Vec<_> = replayed
            .firings
            .iter()
            .map(|one| (hour(one.from), one.until.map(hour), one.title.as_str()))
            .collect();
        assert_eq!(found, expected, "{text}");
    }

    #[tokio::test]
    async fn a_rule_is_replayed_hour_by_hour() {
        let counted = Counted::new(POLICY);
        // At 22:13 UTC, and at each hour after it.
        for times in [0, 5, 12, 30, 3, 0] {
            counted.ask(&["user=ann"], times).await;
            counted.ask(&["provider=near"], times / 5).await;
            counted.advance(HOUR);
        }
        counted.advance(20 * HOUR);
        // 26 hours later, at 00:13: the replay begins at the midnight before, with the 12 requests.
        check(
            &counted,
            "{ when: refused, above: 50% }",
            &[(1, Some(2), "55.6% of the requests are refused")],
        )
        .await;
        check(
            &counted,
            "{ when: denials, above: 1, over: 1h }",
            &[(0, Some(2), "20 requests of ann were refused")],
        )
        .await;
        check(
            &counted,
            "{ when: spend, above: 5, over: 1h }",
            &[(1, Some(2), "6 EUR were spent in the last hour in d")],
        )
        .await;
        check(
            &counted,
            "{ when: budget, above: 60%, over: 1d }",
            &[(1, Some(24), "66.7% of the daily budget is spent in d")],
        )
        .await;
    }

    #[tokio::test]
    async fn what_usage_does_not_hold_is_said() {
        let counted = Counted::new(POLICY);
        let rule = rule("{ when: latency, above: 5ms }");
        let replayed =
            replay(&counted.sources, &counted.policies(), &rule, (30, counted.now())).await;
        let said = replayed.unwrap_err().to_string();
        assert_eq!(said, "usage does not hold what `when: latency` follows");
    }
}
