//! What was spent, and its part of the budgets: the rules `spend` and `budget`.
//!
//! Spend is that of `/v1/costs`: what was given back is subtracted. Over an hour it is that of the last 60 minutes; over a
//! day, that since midnight in UTC.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::names::filters;
use super::sources::UsageSources;
use crate::alerts::conditions::Seen;
use crate::alerts::labels::Labels;
use crate::clock::Timestamp;
use crate::policy::{AlertRule, AlertSignal, AlertSplit, PolicySet};
use crate::store::sums::SumsError;
use crate::usage::{Dimension, Granularity, Group, Total, UsageQuery, View};

const HOUR: Duration = Duration::from_secs(3_600);

/// Hours of a day, for the projection of an hour.
const HOURS_OF_DAY: f64 = 24.0;

/// Micro-units of a unit of money.
const MICROS: f64 = 1e6;

/// What is spent now, of each subject of the rule.
///
/// # Errors
/// If usage can't be read.
pub async fn spend(
    sources: &UsageSources,
    policies: &PolicySet,
    rule: &AlertRule,
    now: Timestamp,
) -> Result<Vec<Seen>, SumsError> {
    let mut seen = Vec::new();
    for currency in currencies(policies, rule) {
        let is_hour = rule.over <= HOUR;
        let (granularity, from) = match is_hour {
            true => (Granularity::Minute, now.before(HOUR)),
            false => (Granularity::Hour, Granularity::Day.start(now)),
        };
        let query = query(rule, &currency, granularity, from);
        let page = sources.read(&Arc::new(query), now).await?;
        let one = |(group, total): &(Group, Total)| {
            value(policies, rule, &currency, (group, total.spend.net()))
        };
        seen.extend(page.groups.iter().filter_map(one));
    }
    Ok(seen)
}

/// The currencies of the prices of the rule's domains.
pub fn currencies(policies: &PolicySet, rule: &AlertRule) -> BTreeSet<String> {
    let domains = policies.domains().into_iter();
    let wanted = domains.filter(|domain| !rule.filter.excludes_domain(&domain.name));
    wanted.filter_map(|domain| Some(domain.prices.as_ref()?.currency.to_string())).collect()
}

/// The query of what the rule's subjects have spent.
pub fn query(
    rule: &AlertRule,
    currency: &str,
    granularity: Granularity,
    from: Timestamp,
) -> UsageQuery {
    let split = match rule.by {
        Some(AlertSplit::Provider) => Some(Dimension::Provider),
        Some(AlertSplit::Tier) => Some(Dimension::Tier),
        None => None,
    };
    UsageQuery {
        group_by: [Dimension::Domain].into_iter().chain(split).collect(),
        named_only: true,
        currency: Some(currency.to_owned()),
        filters: filters(rule),
        ..UsageQuery::since(View::Requests, granularity, from)
    }
}

/// The value of what a group has spent, in micro-units; None if the rule says nothing about it.
pub fn value(
    policies: &PolicySet,
    rule: &AlertRule,
    currency: &str,
    (group, micros): (&Group, u64),
) -> Option<Seen> {
    let mut names = group.names.iter().map(|name| name.text());
    let domain = names.next()??;
    let part = names.next().flatten();
    let is_hour = rule.over <= HOUR;
    let filter = &rule.filter;
    let labels = Labels::new()
        .with("domain", Some(domain))
        .with("provider", filter.provider.as_deref())
        .with("tier", filter.tier.as_deref())
        .with("period", Some(if is_hour { "hour" } else { "day" }));
    let labels = match rule.by {
        Some(AlertSplit::Provider) => labels.with("provider", part),
        Some(AlertSplit::Tier) => labels.with("tier", part),
        None => labels,
    };
    if rule.signal == AlertSignal::Spend {
        let labels = labels.with("currency", Some(currency));
        return Some(Seen { labels, value: micros as f64 / MICROS });
    }
    let prices = policies.domain(domain)?.prices.as_deref()?;
    let budget = prices.budget.day.filter(|_| &*prices.currency == currency)?;
    let projected = micros as f64 * if is_hour { HOURS_OF_DAY } else { 1.0 };
    Some(Seen { labels, value: projected * 100.0 / budget.max(1) as f64 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alerts::past::testing::{Counted, rule};

    const POLICY: &str = "
domain: d
tiers: [free, paid]
caller: { key: user, tier: { key: tier } }
budget: { day: 24 EUR }
prices:
- { when: { provider: near }, price: 0.50 EUR }
- { when: { provider: far }, price: 0.25 EUR }
descriptors: [{ key: provider, limits: [100000/day] }]";

    async fn seen(counted: &Counted, text: &str) -> Vec<String> {
        let (policies, rule) = (counted.policies(), rule(text));
        let seen = spend(&counted.sources, &policies, &rule, counted.now()).await.unwrap();
        let labels = |seen: &Seen| {
            let labels = seen.labels.iter().filter(|(name, _)| *name != "period");
            labels.map(|(_, value)| value).collect::<Vec<_>>().join(" ")
        };
        seen.iter().map(|seen| format!("{}: {}", labels(seen), seen.value)).collect()
    }

    #[tokio::test]
    async fn money_is_that_of_the_hour_or_of_the_day_by_provider_or_tier() {
        let counted = Counted::new(POLICY);
        // At 22:13:20 UTC.
        counted.ask(&["provider=near", "tier=paid"], 2).await;
        counted.ask(&["provider=far", "tier=free"], 4).await;
        assert_eq!(seen(&counted, "{ when: spend, above: 1 }").await, ["EUR d: 2"]);
        let by = |by: &str| format!("{{ when: spend, above: 1, by: {by} }}");
        assert_eq!(seen(&counted, &by("provider")).await, ["EUR d far: 1", "EUR d near: 1"]);
        assert_eq!(seen(&counted, &by("tier")).await, ["EUR d free: 1", "EUR d paid: 1"]);
        let one = "{ when: spend, above: 1, provider: near }";
        assert_eq!(seen(&counted, one).await, ["EUR d near: 1"]);
        assert_eq!(seen(&counted, "{ when: spend, above: 1, domain: e }").await, [""; 0]);
        // 24 times 2 EUR is twice the budget, and 2 EUR a twelfth of it.
        assert_eq!(seen(&counted, "{ when: budget, above: 100% }").await, ["d: 200"]);
        let day = "{ when: budget, above: 80%, over: 1d }";
        assert!(seen(&counted, day).await[0].starts_with("d: 8.33"));
        counted.advance(Duration::from_secs(5_400));
        assert_eq!(seen(&counted, "{ when: spend, above: 1 }").await, [""; 0]);
        assert_eq!(seen(&counted, "{ when: spend, above: 1, over: 1d }").await, ["EUR d: 2"]);
        counted.advance(Duration::from_secs(3_600));
        assert_eq!(seen(&counted, "{ when: spend, above: 1, over: 1d }").await, [""; 0]);
    }
}
