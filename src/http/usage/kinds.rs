//! The kinds of requests with prices: the cheapest and the best provider of each, with the reason.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;

use crate::engine::ProviderState;
use crate::policy::{Domain, Prices};
use crate::usage::offers::{Offer, Score, best, cheapest, saving, scores};
use crate::usage::{Group, Total};

/// The groups of sums.
type Sums<'a> = &'a [(Group, Total)];

/// A kind of request, and the providers that can serve it.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "CostKind")]
pub struct KindBody {
    domain: String,
    /// The entries of its prices besides the provider's, such as `endpoint=search`.
    kind: String,
    /// The provider with the lowest price.
    #[serde(skip_serializing_if = "Option::is_none")]
    cheapest: Option<String>,
    /// The provider with the highest score.
    #[serde(skip_serializing_if = "Option::is_none")]
    best: Option<String>,
    /// The parts of the score in which no other provider is better than the best: `price`, `latency`, `success`, `capacity`.
    best_by: Vec<&'static str>,
    /// What the cheapest provider would have saved in the last 30 days, at the ratio of the present prices.
    saving_micros: u64,
    providers: Vec<OfferBody>,
}

/// A provider that can serve a kind of request.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "CostOffer")]
struct OfferBody {
    provider: String,
    price_micros: u64,
    /// The number of hits that the price is for; absent if it is for a request.
    #[serde(skip_serializing_if = "Option::is_none")]
    per: Option<u64>,
    /// Absent if it is unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    latency_ms: Option<f64>,
    /// The part of the requests of the last 60 minutes that its limits let pass, from 0 to 1: that of the limit with the
    /// lowest. Absent without limits or requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    success: Option<f64>,
    /// The free part of its fullest limit, from 0 to 1; absent without limits, and while Redis is unavailable.
    #[serde(skip_serializing_if = "Option::is_none")]
    free: Option<f64>,
    /// From 0 to 1; higher is better.
    score: f64,
    /// What was spent there on this kind of request in the last 30 days.
    spent_micros: u64,
    /// What the cheapest provider would have saved of it.
    saving_micros: u64,
}

/// The kinds of the prices of domains, from the state of providers, the sums of the last hour by domain, provider and limit, and
/// those of the last days by domain, provider and kind.
pub fn kinds(
    priced: &[(&Domain, &Prices)],
    states: &[ProviderState],
    (hour, days): (Sums<'_>, Sums<'_>),
) -> Vec<KindBody> {
    let mut kinds = Vec::new();
    for (domain, prices) in priced {
        // Prices of a request and of hits can't be compared.
        let mut by_kind: BTreeMap<(&str, bool), Vec<Offer>> = BTreeMap::new();
        for line in &prices.lines {
            let Some(provider) = line.provider.as_deref() else { continue };
            let state = states.iter().find(|one| one.domain == domain.name && one.name == provider);
            let spend = find(days, &[&domain.name, provider, &line.kind]).map(|total| total.spend);
            let offers = by_kind.entry((&line.kind, line.per.is_some())).or_default();
            if offers.iter().any(|known| known.provider == provider) {
                continue;
            }
            offers.push(Offer {
                provider: provider.to_owned(),
                micros: line.micros,
                per: line.per,
                latency_ms: state.and_then(|state| state.latency).map(|latency| latency.ms),
                success: state.and_then(|state| success(state, hour)),
                free: state.filter(|state| !state.fallback).and_then(free),
                spent: spend.map_or(0, |spend| spend.spent.saturating_sub(spend.given_back)),
            });
        }
        kinds.extend(by_kind.iter().map(|((kind, _), offers)| KindBody::new(domain, kind, offers)));
    }
    kinds
}

/// The sum with these names.
fn find(groups: Sums<'_>, names: &[&str]) -> Option<Total> {
    let has = |group: &Group| {
        group.names.iter().map(|name| name.text()).eq(names.iter().map(|name| Some(*name)))
    };
    groups.iter().find(|(group, _)| has(group)).map(|(_, total)| *total)
}

/// The part of its requests that each limit of a provider let pass: the lowest. What limits of callers refuse says nothing of
/// the provider.
fn success(state: &ProviderState, hour: Sums<'_>) -> Option<f64> {
    let passed = state.limits.iter().filter_map(|limit| {
        let total = find(hour, &[&state.domain, &state.name, &limit.label])?;
        let requests = total.counts.requests;
        part(requests.saturating_sub(total.refused), requests)
    });
    passed.reduce(f64::min)
}

/// The free part of the fullest enforced limit of a provider.
fn free(state: &ProviderState) -> Option<f64> {
    let limits = state.limits.iter().filter(|limit| limit.refuses);
    limits.map(|limit| part(limit.remaining(), limit.capacity).unwrap_or_default()).reduce(f64::min)
}

/// A part of a whole, from 0 to 1, to a millionth; None of nothing.
fn part(part: u64, whole: u64) -> Option<f64> {
    let millionths = (u128::from(part) * 1_000_000).checked_div(u128::from(whole))?;
    Some(f64::from(u32::try_from(millionths).ok()?) / 1_000_000.0)
}

/// To a thousandth.
fn rounded(score: f64) -> f64 {
    (score * 1_000.0).round() / 1_000.0
}

impl KindBody {
    fn new(domain: &Domain, kind: &str, offers: &[Offer]) -> Self {
        let scores = scores(offers);
        let cheapest = cheapest(offers).map(|index| &offers[index]);
        let (best, best_by) =
            best(&scores).map_or((None, Vec::new()), |(index, parts)| (offers.get(index), parts));
        let providers: Vec<OfferBody> = offers
            .iter()
            .zip(&scores)
            .map(|(offer, score)| OfferBody::new(offer, *score, cheapest))
            .collect();
        Self {
            domain: domain.name.clone(),
            kind: kind.to_owned(),
            cheapest: cheapest.map(|offer| offer.provider.clone()),
            best: best.map(|offer| offer.provider.clone()),
            best_by,
            saving_micros: providers
                .iter()
                .fold(0, |sum: u64, offer| sum.saturating_add(offer.saving_micros)),
            providers,
        }
    }
}

impl OfferBody {
    fn new(offer: &Offer, score: Score, cheapest: Option<&Offer>) -> Self {
        Self {
            provider: offer.provider.clone(),
            price_micros: offer.micros,
            per: offer.per,
            latency_ms: offer.latency_ms,
            success: offer.success,
            free: offer.free,
            score: rounded(score.total),
            spent_micros: offer.spent,
            saving_micros: cheapest.map_or(0, |cheapest| saving(offer, cheapest)),
        }
    }
}
