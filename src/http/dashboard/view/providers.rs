//! The page of providers.

use maud::{Markup, html};

use super::overview::status;
use super::parts::{bar, distance, none, time};
use super::provider_changes;
use crate::http::dashboard::format;
use crate::http::dashboard::providers::ProvidersPage;
use crate::http::provider_controls::ActionName;
use crate::http::providers::{LatencyFrom, ProviderBody, ProviderLimitBody, ProvidersBody};

/// The page, with the part that changes.
pub fn page(page: &ProvidersPage) -> Markup {
    html! {
        h1 { "Providers" span #live-state.pill role="status" { "connecting" } }
        @if let Some(done) = page.done { p.pill.fine #done role="status" { (done) } }
        @if !page.controls.is_empty() { (provider_changes::list(page)) }
        div #live data-live="providers" { (live(&page.providers, page.now_ms)) }
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
            @if let Some(queue) = &limit.queue {
                dl.queue {
                    dt { "Waiting" } dd { (format::whole(queue.waiting as u64)) }
                    dt { "by priority" }
                    dd { "urgent " (queue.urgent) ", high " (queue.high) ", medium " (queue.medium) ", low " (queue.low) }
                }
            }
        }
    }
}
