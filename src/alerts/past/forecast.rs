//! When limits of the busiest callers will be used up: the rule `forecast`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::names::{CallerOf, caller_of, labels, top_callers};
use super::sources::UsageSources;
use crate::alerts::conditions::Seen;
use crate::clock::Timestamp;
use crate::engine::{Code, Descriptor, Engine, HitsSource, Request, Snapshot};
use crate::limit::Hits;
use crate::policy::{AlertRule, Domain};
use crate::store::sums::SumsError;
use crate::usage::forecast::{LimitForecast, SpentPast};
use crate::usage::{Granularity, Page, Rank, UsageQuery, View, last_tiers, last_tiers_query};

/// Callers whose usage is read at once: the days and hours of each limit of each of them are in memory then.
const CALLERS_AT_ONCE: usize = 25;

const DAY: Duration = Duration::from_secs(24 * 3_600);

/// Descriptors of a caller whose limits are forecast: its own, and those of the rules below.
const PATHS_MAX: usize = 64;

/// Why limits were not forecast.
#[derive(Debug, thiserror::Error)]
pub enum ForecastError {
    #[error(transparent)]
    Usage(#[from] SumsError),
    #[error("the store of the counters is unavailable")]
    Counters,
}

/// What is known of some callers.
#[derive(Debug)]
struct Pasts {
    /// By caller.
    spent: BTreeMap<String, SpentPast>,
    tiers: Page,
}

/// The time until limits are used up, in seconds, of the callers with the most requests of yesterday and today. Limits that
/// last until they are whole again are left out.
///
/// # Errors
/// If usage or the store is unavailable.
pub async fn forecast(
    sources: &UsageSources,
    engine: &Engine,
    rule: &AlertRule,
    now: Timestamp,
) -> Result<Vec<Seen>, ForecastError> {
    let busiest = sources.read(&Arc::new(busiest(rule, now)), now).await?;
    let callers: Vec<CallerOf> =
        busiest.groups.iter().filter_map(|(group, _)| caller_of(group)).collect();
    let mut seen = Vec::new();
    for callers in callers.chunks(CALLERS_AT_ONCE) {
        let pasts = Pasts::read(sources, callers, now).await?;
        for caller in callers {
            for (limit, left) in limits_left(&pasts, engine, caller).await? {
                if !rule.filter.excludes_limit(&limit) {
                    let labels = labels(caller).with("limit", Some(&limit));
                    seen.push(Seen { labels, value: left.as_secs_f64() });
                }
            }
        }
    }
    Ok(seen)
}

impl Pasts {
    /// Reads what is known of callers: three reads, however many they are.
    async fn read(
        sources: &UsageSources,
        callers: &[CallerOf],
        now: Timestamp,
    ) -> Result<Self, SumsError> {
        let names: BTreeSet<String> = callers.iter().map(|(_, name)| name.clone()).collect();
        let read = async |query: UsageQuery| sources.read(&Arc::new(query), now).await;
        let [days, hours] = SpentPast::queries_of(&names, now);
        let spent = SpentPast::by_caller([&read(days).await?, &read(hours).await?]);
        let tiers = read(last_tiers_query(names, now)).await?;
        Ok(Self { spent, tiers })
    }
}

/// The callers with the most requests of yesterday and today.
fn busiest(rule: &AlertRule, now: Timestamp) -> UsageQuery {
    let from = Granularity::Day.start(now.before(DAY));
    let days = UsageQuery::since(View::Requests, Granularity::Day, from);
    top_callers(rule, Rank::Requests, UsageQuery { named_only: true, ..days })
}

/// The limits of a caller that will be used up, by name: the soonest, if several have the same name.
async fn limits_left(
    pasts: &Pasts,
    engine: &Engine,
    caller: &CallerOf,
) -> Result<BTreeMap<String, Duration>, ForecastError> {
    let (domain, name) = caller;
    let snapshot = engine.snapshot();
    // A domain that no policy has any more, or that names no callers, may still have sums.
    let Some(domain) = snapshot.policies().domain(domain) else { return Ok(BTreeMap::new()) };
    let Some(key) = domain.classes.caller_key.as_deref() else { return Ok(BTreeMap::new()) };
    let Some(past) = pasts.spent.get(name) else { return Ok(BTreeMap::new()) };
    let tier = domain.classes.tier_key.as_ref();
    let tier = tier.and_then(|_| last_tier(&pasts.tiers, (domain, name)));
    let mut soonest: BTreeMap<String, Duration> = BTreeMap::new();
    for entries in paths(domain, (key, name)) {
        let Some(request) = request(domain, entries, tier.as_deref()) else { continue };
        for (limit, left) in left(engine, &snapshot, (&request, past, name)).await? {
            let soonest = soonest.entry(limit).or_insert(left);
            *soonest = left.min(*soonest);
        }
    }
    Ok(soonest)
}

fn last_tier(page: &Page, (domain, caller): (&Domain, &str)) -> Option<String> {
    let is_known = |_: &str, name: &str, tier: &str| {
        domain.name == name && domain.classes.tier(tier).is_some()
    };
    last_tiers(page, is_known).remove(caller)?.remove(&domain.name)
}

/// The entries of the caller alone, and those that lead on to the rules below.
fn paths<'a>(domain: &'a Domain, caller: (&'a str, &'a str)) -> Vec<Vec<(&'a str, &'a str)>> {
    let own = vec![caller];
    let below = domain.paths_below(&own);
    [own].into_iter().chain(below).take(PATHS_MAX).collect()
}

/// A request that charges nothing; None if it would be invalid.
fn request<'a>(
    domain: &'a Domain,
    entries: Vec<(&'a str, &'a str)>,
    tier: Option<&'a str>,
) -> Option<Request<'a>> {
    let (hits, hits_source) = (Hits::GiveBack(0), HitsSource::Request);
    let descriptor = Descriptor { entries, hits, hits_source, limit: None };
    Some(Request::try_new(&domain.name, vec![descriptor]).ok()?.of_last_tier(tier))
}

/// The limits of a request that will be used up, and the time until then.
async fn left(
    engine: &Engine,
    snapshot: &Snapshot,
    (request, past, caller): (&Request<'_>, &SpentPast, &str),
) -> Result<Vec<(String, Duration)>, ForecastError> {
    let preview = engine.preview(snapshot, request).await;
    if preview.verdict.code() == Code::Unavailable || preview.verdict.fallback {
        return Err(ForecastError::Counters);
    }
    let now = preview.verdict.at;
    let left = |one: LimitForecast| {
        let reached = Timestamp::from_ms(one.expected.ok()?.outlook.reached_ms?);
        Some((one.limit, reached.since(now)))
    };
    Ok(past.forecasts(&preview, caller).into_iter().filter_map(left).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alerts::past::testing::{Counted, rule};

    const POLICY: &str = "
domain: d
tiers: [free, big]
caller: { key: user, tier: { key: tier } }
descriptors:
  - key: user
    limits: [{ name: daily, rate: 20/day }]
    descriptors:
      - { key: kind, value: plan, limits: [{ name: plan, by_tier: { free: 1000/total, big: 9000/total } }] }
";

    #[tokio::test]
    async fn the_limits_of_the_busiest_callers_that_will_be_used_up_are_seen() {
        let counted = Counted::new(POLICY);
        for _ in 0..9 {
            counted.ask(&["user=ann,kind=plan", "tier=free"], 20).await;
            counted.ask(&["user=bob,kind=plan", "tier=big"], 19).await;
            counted.advance(DAY);
        }
        let check = async |text: &str, expected: &[(&str, f64)]| {
            let (rule, now) = (rule(text), counted.now());
            let seen = forecast(&counted.sources, counted.engine(), &rule, now).await.unwrap();
            let seen: Vec<(String, f64)> = seen
                .iter()
                .map(|seen| {
                    let label = |name: &str| seen.labels.get(name).unwrap();
                    let days = (seen.value / DAY.as_secs_f64()).round();
                    (format!("{} {} {}", label("domain"), label("caller"), label("limit")), days)
                })
                .collect();
            let expected: Vec<_> =
                expected.iter().map(|(labels, days)| ((*labels).to_owned(), *days)).collect();
            assert_eq!(seen, expected, "{text}");
        };
        // 820 hits of 1,000 at 20 a day, and 8,829 of 9,000 at 19 a day: more than is looked ahead.
        check("{ when: forecast, below: 3d, limit: plan }", &[("d ann plan", 41.0)]).await;
        check(
            "{ when: forecast, below: 3d, top: 1, domain: d, limit: plan }",
            &[("d ann plan", 41.0)],
        )
        .await;
        check("{ when: forecast, below: 3d, tier: big, limit: plan }", &[]).await;
        check("{ when: forecast, below: 3d, domain: e }", &[]).await;
        counted.advance(2 * DAY);
        check("{ when: forecast, below: 3d }", &[]).await;
        counted.put_in_force("domain: e");
        check("{ when: forecast, below: 3d }", &[]).await;
    }

    #[tokio::test]
    async fn more_callers_than_are_read_at_once_are_all_seen() {
        let counted = Counted::new(POLICY);
        let callers = CALLERS_AT_ONCE + 5;
        for _ in 0..9 {
            for caller in 0..callers {
                let user = format!("user={caller},kind=plan");
                counted.ask(&[&user, "tier=free"], 20).await;
            }
            counted.advance(DAY);
        }
        let rule = rule("{ when: forecast, below: 3d, limit: plan }");
        let seen = forecast(&counted.sources, counted.engine(), &rule, counted.now()).await;
        let seen = seen.unwrap();
        let names: BTreeSet<&str> =
            seen.iter().filter_map(|one| one.labels.get("caller")).collect();
        assert_eq!((seen.len(), names.len()), (callers, callers));
    }
}
