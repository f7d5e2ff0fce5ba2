//! Callers of whose requests a large part is refused in an hour, such as a client that ignores refusals: the rule
//! `caller_refused`.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::hour::of_hour;
use super::names::{CallerOf, caller_of, labels, top_callers};
use super::sources::UsageSources;
use crate::alerts::conditions::Seen;
use crate::clock::Timestamp;
use crate::policy::AlertRule;
use crate::store::sums::SumsError;
use crate::usage::{Granularity, Rank, Total};

/// The refused part of the requests, in percent, of the callers with the most refused requests: in this hour or in the one
/// before, whichever is more, so that an alert does not resolve because an hour begins.
///
/// # Errors
/// If usage can't be read.
pub async fn refused(
    sources: &UsageSources,
    rule: &AlertRule,
    now: Timestamp,
) -> Result<Vec<Seen>, SumsError> {
    let this = Granularity::Hour.number(now);
    let mut most: BTreeMap<CallerOf, f64> = BTreeMap::new();
    for hour in [this, this.saturating_sub(1)] {
        let query = top_callers(rule, Rank::Refused, of_hour(hour));
        let page = sources.read(&Arc::new(query), now).await?;
        for (group, total) in &page.groups {
            if let (Some(caller), Some(value)) = (caller_of(group), refused_percent(rule, total)) {
                let most = most.entry(caller).or_insert(value);
                *most = most.max(value);
            }
        }
    }
    let seen = |(caller, value)| Seen { labels: labels(&caller), value };
    Ok(most.into_iter().map(seen).collect())
}

/// The refused part of the requests of an hour; None if they are fewer than the rule asks for.
pub fn refused_percent(rule: &AlertRule, total: &Total) -> Option<f64> {
    let requests = total.counts.requests.max(1);
    (rule.least <= requests).then(|| total.refused as f64 * 100.0 / requests as f64)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::alerts::past::testing::{Counted, rule};

    #[tokio::test]
    async fn a_caller_whose_requests_are_refused_is_seen_for_this_hour_and_the_next() {
        let policy =
            "{domain: d, caller: {key: user}, descriptors: [{key: user, limits: [5/hour]}]}";
        let counted = Counted::new(policy);
        counted.ask(&["user=ann"], 20).await;
        counted.ask(&["user=bob"], 5).await;
        counted.ask(&["user=few"], 2).await;
        let check = async |text: &str, expected: &[(&str, f64)]| {
            let rule = rule(text);
            let seen = refused(&counted.sources, &rule, counted.now()).await.unwrap();
            let seen: Vec<_> =
                seen.iter().map(|seen| (seen.labels.get("caller").unwrap(), seen.value)).collect();
            assert_eq!(seen, expected, "{text}");
        };
        check("{ when: caller_refused, above: 50%, least: 5 }", &[("ann", 75.0), ("bob", 0.0)])
            .await;
        check("{ when: caller_refused, above: 50%, least: 5, top: 1 }", &[("ann", 75.0)]).await;
        check("{ when: caller_refused, above: 50% }", &[]).await;
        check("{ when: caller_refused, above: 50%, least: 5, domain: e }", &[]).await;
        counted.advance(Duration::from_secs(3_600));
        check("{ when: caller_refused, above: 50%, least: 20 }", &[("ann", 75.0)]).await;
        counted.advance(Duration::from_secs(3_600));
        check("{ when: caller_refused, above: 50%, least: 5 }", &[]).await;
    }
}
