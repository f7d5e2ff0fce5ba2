//! Hits at a provider that no decision explains: the rule `bypass`.
//!
//! The provider's own count of an hour is compared with the requests that passed and that usage counts for this provider. What the
//! provider counts more has reached it around Tollgate.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::hour::of_hour;
use super::names::filters;
use super::sources::UsageSources;
use crate::alerts::book::ProviderCount;
use crate::alerts::conditions::Seen;
use crate::alerts::labels::Labels;
use crate::clock::Timestamp;
use crate::policy::AlertRule;
use crate::store::sums::SumsError;
use crate::usage::{Dimension, Granularity, UsageQuery};

const HOUR: Duration = Duration::from_secs(3_600);

/// How long after the end of an hour usage has all of it.
const SETTLED: Duration = Duration::from_secs(120);

/// Older counts say nothing of now.
const KNOWN: Duration = Duration::from_secs(24 * 3_600);

/// The part of the hits of a provider that no decision explains, in percent, in the last hour that was reported.
///
/// # Errors
/// If usage can't be read.
pub async fn bypass(
    sources: &UsageSources,
    rule: &AlertRule,
    (counts, now): (&[ProviderCount], Timestamp),
) -> Result<Vec<Seen>, SumsError> {
    let mut last: BTreeMap<(&str, &str), &ProviderCount> = BTreeMap::new();
    for count in counts {
        let end = Timestamp::from_ms(count.start_ms).after(HOUR);
        let is_settled = SETTLED <= now.since(end) && now.since(end) <= KNOWN;
        let is_wanted = !rule.filter.excludes(Some(&count.domain), None)
            && !rule.filter.excludes_provider(&count.provider);
        if is_settled && is_wanted && rule.least <= count.hits {
            let known = last.entry((&count.domain, &count.provider)).or_insert(count);
            if known.start_ms < count.start_ms {
                *known = count;
            }
        }
    }
    let mut seen = Vec::new();
    for count in last.into_values() {
        let decided = decided(sources, rule, (count, now)).await?;
        let value = count.hits.saturating_sub(decided) as f64 * 100.0 / count.hits.max(1) as f64;
        let labels = Labels::new()
            .with("domain", Some(&count.domain))
            .with("provider", Some(&count.provider));
        seen.push(Seen { labels, value });
    }
    Ok(seen)
}

/// The requests of a provider that passed in the hour of a count.
async fn decided(
    sources: &UsageSources,
    rule: &AlertRule,
    (count, now): (&ProviderCount, Timestamp),
) -> Result<u64, SumsError> {
    let hour = Granularity::Hour.number(Timestamp::from_ms(count.start_ms));
    let mut named = filters(rule);
    named.retain(|(dimension, _)| *dimension == Dimension::Tier);
    named.push((Dimension::Domain, count.domain.clone()));
    named.push((Dimension::Provider, count.provider.clone()));
    let query = UsageQuery { filters: named, named_only: false, ..of_hour(hour) };
    let page = sources.read(&Arc::new(query), now).await?;
    Ok(page.groups.iter().map(|(_, total)| total.allowed).sum())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alerts::past::testing::{Counted, rule};

    const POLICY: &str = "
domain: d
prices: [{ when: { provider: near }, price: 1 EUR }]
descriptors: [{ key: provider, limits: [20/hour] }]";

    #[tokio::test]
    async fn what_no_decision_explains_is_a_part_of_what_the_provider_counts() {
        let counted = Counted::new(POLICY);
        let start = Granularity::Hour.start(counted.now());
        // 20 pass, and 10 are refused: they have not reached the provider.
        counted.ask(&["provider=near"], 30).await;
        let rule = rule("{ when: bypass, above: 10%, least: 10 }");
        let check = async |hits: u64, expected: &[f64]| {
            let (domain, provider) = ("d".to_owned(), "near".to_owned());
            let count = ProviderCount { domain, provider, start_ms: start.as_ms(), hits };
            let seen = bypass(&counted.sources, &rule, (&[count], counted.now())).await.unwrap();
            assert_eq!(seen.iter().map(|one| one.value).collect::<Vec<_>>(), expected, "{hits}");
        };
        check(25, &[]).await;
        counted.advance(HOUR + SETTLED);
        check(25, &[20.0]).await;
        check(20, &[0.0]).await;
        check(15, &[0.0]).await;
        check(9, &[]).await;
        // Of two hours, the last one says what is.
        let before = Timestamp::from_ms(start.as_ms() - 3_600_000);
        let counts = [(start, 25), (before, 100)].map(|(start, hits)| {
            let (domain, provider) = ("d".to_owned(), "near".to_owned());
            ProviderCount { domain, provider, start_ms: start.as_ms(), hits }
        });
        for counts in [[&counts[0], &counts[1]], [&counts[1], &counts[0]]] {
            let counts = counts.map(Clone::clone);
            let seen = bypass(&counted.sources, &rule, (&counts, counted.now())).await.unwrap();
            assert_eq!(seen.iter().map(|one| one.value).collect::<Vec<_>>(), [20.0]);
        }
        counted.advance(KNOWN);
        check(25, &[]).await;
    }
}
