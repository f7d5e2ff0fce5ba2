//! The page of providers.

use std::time::Duration;

use maud::{Markup, html};

use super::overview::status;
use super::parts::{bar, distance, none, time};
use super::provider_changes;
use crate::http::dashboard::providers::ProvidersPage;
use crate::http::dashboard::{format, link};
use crate::http::provider_controls::ActionName;
use crate::http::providers::{
    LatencyFrom, ProviderBody, ProviderLimitBody, ProvidersBody, QueueBody, ReserveBody,
};
use crate::http::usage::{ProviderSpend, Scope};

/// The page, with the part that changes.
pub fn page(page: &ProvidersPage) -> Markup {
    html! {
        h1 { "Providers" span #live-state.pill role="status" { "connecting" } }
        @if let Some(done) = page.done { p.pill.fine #done role="status" { (done) } }
        @if !page.controls.is_empty() { (provider_changes::list(page)) }
        div #live data-live="providers" { (live(&page.providers, page.now_ms)) }
        (spend(page.spend.as_ref()))
        @if let Some(form_token) = &page.form_token { (provider_changes::forms(page, form_token)) }
    }
}

/// The part that changes.
pub fn live(providers: &ProvidersBody, now_ms: u64) -> Markup {
    html! {
        @if providers.fallback {
            p.note-box.warning { "Redis is unavailable: the hits in use are those that this sidecar counts alone." }
        }
        @if providers.items.is_empty() { section.card { (none("No policy has a provider.")) } }
        @for provider in &providers.items { (one(provider, now_ms)) }
    }
}

fn one(provider: &ProviderBody, now_ms: u64) -> Markup {
    html! {
        section.card id=(provider.provider) aria-label=(format!("{} of {}", provider.provider, provider.domain)) {
            h2 {
                (provider.provider) (status(provider.status))
                span.muted { (provider.key) " in " (provider.domain) }
                @if 0 < provider.level { span.pill.warning { "level " (provider.level) } }
                @for control in &provider.controls {
                    " " span.pill.warning {
                        @match control.action {
                            ActionName::Pause => "queue paused",
                            ActionName::Priority => "priority changed",
                            ActionName::Cap => "capped",
                        }
                        " until " (time(&control.until))
                    }
                }
                @if let Some(ms) = provider.latency_ms {
                    span.muted {
                        (format::decimal(ms)) " ms"
                        @match provider.latency_from { Some(LatencyFrom::Reported) => ", reported", _ => ", of the policy" }
                    }
                }
            }
            @if provider.limits.is_empty() { (none("It has no limit with a single counter.")) }
            @for limit in &provider.limits { (capacity(limit, now_ms)) }
        }
    }
}

fn capacity(limit: &ProviderLimitBody, now_ms: u64) -> Markup {
    html! {
        div.limit {
            div.row {
                span { strong { (limit.limit) } " " span.muted { (limit.rule) } @if !limit.enforced { " " span.pill { "not enforced" } } }
                span { (format::whole(limit.used)) " of " (format::whole(limit.capacity)) " " span.muted { (format::percent(limit.percent)) } }
            }
            (bar(&limit.limit, limit.percent))
            div.row.muted.small {
                span {
                    (format::whole(limit.remaining)) " left"
                    @if let Some(adjusted) = limit.adjusted_percent { ", a signal leaves " (format::percent(adjusted)) }
                    @if let Some(level) = limit.level { ", level " (level) " of pressure" }
                }
                span { @if let Some(reset) = &limit.reset_at { "free again " (distance(reset, now_ms)) } }
            }
            @if !limit.reserve.is_empty() { (reserve(&limit.reserve)) }
            @if let Some(queue) = &limit.queue { (self::queue(queue, &limit.limit)) }
        }
    }
}

/// What is reserved, and what it leaves to each tier.
fn reserve(tiers: &[ReserveBody]) -> Markup {
    let list = |hits: fn(&ReserveBody) -> u64, least: u64| {
        let tiers = tiers.iter().map(|one| (hits(one), &one.tier));
        let texts = tiers.filter(|(hits, _)| least <= *hits);
        texts.map(|(hits, tier)| format!("{tier} {}", format::whole(hits))).collect::<Vec<_>>()
    };
    html! {
        dl.reserve {
            dt { "Reserved" } dd { (list(|one| one.reserved, 1).join(", ")) }
            dt { "Left for" } dd { (list(|one| one.remaining, 0).join(", ")) }
        }
    }
}

/// The requests that wait, in the order in which they are served.
fn queue(queue: &QueueBody, limit: &str) -> Markup {
    let longest = &queue.longest_wait_ms;
    let rows = [
        ("urgent", queue.urgent, longest.urgent),
        ("high", queue.high, longest.high),
        ("medium", queue.medium, longest.medium),
        ("low", queue.low, longest.low),
    ];
    let rows = rows.into_iter().scan(0, |before, (priority, waiting, longest)| {
        let first = *before + 1;
        *before += waiting;
        Some((priority, waiting, longest.map(|ms| (first, *before, ms))))
    });
    html! {
        table.queue aria-label=(format!("Queue of {limit}, {} waiting", queue.waiting)) {
            thead { tr { th { "Priority" } th.number { "Waiting" } th.number { "Positions" } th.number { "Longest wait" } } }
            tbody {
                @for (priority, waiting, places) in rows {
                    tr {
                        td { (priority) }
                        td.number { (format::whole(waiting as u64)) }
                        td.number { @if let Some((first, last, _)) = places { (first) @if first != last { "–" (last) } } }
                        td.number { @if let Some((_, _, ms)) = places { (format::latency(Duration::from_millis(ms))) } }
                    }
                }
            }
        }
    }
}

/// What is spent at each provider.
fn spend(spend: Option<&Result<ProviderSpend, String>>) -> Markup {
    html! {
        section.card aria-labelledby="spend-title" {
            h2 #spend-title {
                "Cost"
                @if let Some(Ok(spend)) = spend {
                    span.muted { @match spend.scope { Scope::Fleet => "all sidecars", Scope::Sidecar => "this sidecar" } ", in UTC, when this page was opened" }
                }
            }
            @match spend {
                None => (none("No policy has prices.")),
                Some(Err(reason)) => p.muted #spend-unknown { "Unknown: " (reason) },
                Some(Ok(spend)) => div.scroll tabindex="0" role="group" aria-labelledby="spend-title" {
                    table #spend {
                        thead { tr { th { "Provider" } th { "Domain" } th.number { "Today" } th.number { "This month" } } }
                        tbody {
                            @for item in &spend.items {
                                tr {
                                    td { a href=(format!("/dashboard/usage?by=provider&value={}", link::encoded(&item.provider))) { (item.provider) } }
                                    td { (item.domain) }
                                    td.number { (format::money(item.day_micros, &item.currency)) }
                                    td.number { (format::money(item.month_micros, &item.currency)) }
                                }
                            }
                        }
                    }
                },
            }
        }
    }
}
