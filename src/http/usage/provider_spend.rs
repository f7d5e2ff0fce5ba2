//! What is spent at each provider today and this month, for the page of providers.

use std::collections::{BTreeMap, BTreeSet};

use super::costs::{Span, start_of};
use super::reading::{Scope, read};
use crate::http::edge::Edge;
use crate::http::problem::Problem;
use crate::usage::{Dimension, Granularity, UsageQuery, View};

/// What is spent at each provider.
#[derive(Debug)]
pub struct ProviderSpend {
    pub scope: Scope,
    /// By domain, provider and currency: those with prices, and those where something was spent.
    pub items: Vec<ProviderSpendItem>,
}

/// What is spent at a provider, in millionths of the currency; what was given back is subtracted.
#[derive(Debug, PartialEq, Eq)]
pub struct ProviderSpendItem {
    pub domain: String,
    pub provider: String,
    pub currency: String,
    /// Since the start of the day, in UTC.
    pub day_micros: u64,
    /// Since the start of the month, in UTC.
    pub month_micros: u64,
}

/// What is spent at each provider; None if no policy has prices. While the store is unavailable, at this sidecar.
///
/// # Errors
/// If usage is not counted.
pub async fn spend_by_provider(edge: &Edge) -> Result<Option<ProviderSpend>, Problem> {
    let mut sums: BTreeMap<[String; 3], [u64; 2]> = BTreeMap::new();
    let mut currencies = BTreeSet::new();
    for domain in edge.engine.policies().domains() {
        let Some(prices) = &domain.prices else { continue };
        let currency = prices.currency.to_string();
        for provider in prices.lines.iter().filter_map(|line| line.provider.as_ref()) {
            let key = [domain.name.clone(), provider.to_string(), currency.clone()];
            sums.entry(key).or_default();
        }
        currencies.insert(currency);
    }
    let mut scope = None;
    let now = edge.engine.now();
    for currency in currencies {
        let spans = [(Granularity::Hour, Span::Day), (Granularity::Day, Span::Month)];
        for (index, (granularity, span)) in spans.into_iter().enumerate() {
            let query = UsageQuery {
                group_by: vec![Dimension::Domain, Dimension::Provider],
                named_only: true,
                currency: Some(currency.clone()),
                ..UsageQuery::since(View::Requests, granularity, start_of(now, span))
            };
            let reading = read(edge, query).await?;
            scope = Some(reading.scope);
            for (group, total) in &reading.page.groups {
                let names: Vec<&str> = group.names.iter().filter_map(|name| name.text()).collect();
                let [domain, provider] = names[..] else { continue };
                let key = [domain.to_owned(), provider.to_owned(), currency.clone()];
                let spent = total.spend.net();
                if spent != 0 {
                    let sum = &mut sums.entry(key).or_default()[index];
                    *sum = sum.saturating_add(spent);
                }
            }
        }
    }
    let items = sums.into_iter().map(|(key, [day_micros, month_micros])| {
        let [domain, provider, currency] = key;
        ProviderSpendItem { domain, provider, currency, day_micros, month_micros }
    });
    Ok(scope.map(|scope| ProviderSpend { scope, items: items.collect() }))
}
