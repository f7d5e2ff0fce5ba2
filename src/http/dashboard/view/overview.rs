//! The overview.

use maud::{Markup, html};

use super::parts::{bar, distance, none, tile, time};
use crate::http::dashboard::near::NearCaller;
use crate::http::dashboard::overview::{Denials, Overview};
use crate::http::dashboard::{format, link};
use crate::http::providers::{ProviderBody, Status};

const DASH: &str = "–";

/// The page, with the part that changes.
pub fn page(live: &Markup) -> Markup {
    html! {
        h1 { "Overview" span #live-state.pill role="status" { "connecting" } }
        div #live data-live="overview" { (live) }
    }
}

/// The part that changes.
pub fn live(overview: &Overview) -> Markup {
    html! {
        (tiles(overview))
        div.columns {
            (near(overview))
            (denials(&overview.denials))
        }
        (providers(overview))
    }
}

fn tiles(overview: &Overview) -> Markup {
    let rates = overview.rates.as_ref();
    let or_dash = |text: Option<String>| html! { (text.unwrap_or_else(|| DASH.to_owned())) };
    let store = &overview.store;
    let state = match store.is_available {
        true => html! { span.fine { "available" } },
        false => html! { span.critical { "unavailable" } },
    };
    html! {
        div.tiles {
            (tile("rate", ("Decisions a second", "/dashboard/usage"),
                &or_dash(rates.map(|rates| format::decimal(rates.decisions))),
                &html! { span #decisions { (format::whole(overview.decisions())) } " since the start" }))
            (tile("refused", ("Refused", "/dashboard/usage?by=reason"),
                &or_dash(rates.and_then(|rates| rates.refused_percent).map(format::percent)),
                &html! { "of a minute, " (format::whole(overview.answers.over_limit)) " since the start" }))
            (tile("waiting", ("Waiting", "/dashboard/providers"),
                &html! { (format::whole(overview.waiting)) },
                &html! { "held for capacity" }))
            (tile("p99", ("Time to decide", "/metrics"),
                &or_dash(rates.and_then(|rates| rates.p99).map(format::latency)),
                &html! { "99 % of a minute are faster" }))
            (tile("store", ("Store", "/metrics"), &state,
                &html! { (store.address.as_deref().unwrap_or("in this process")) }))
            @if let Some((count, is_grave)) = overview.alerts {
                (tile("alerts", ("Open alerts", "/dashboard/alerts"),
                    &html! { span.(if is_grave { "critical" } else { "fine" }) { (format::whole(count)) } },
                    &html! { "fire, or were told" }))
            }
            (tile("sidecars", ("Sidecars", "/metrics"),
                &html! { (format::whole(overview.sidecars)) },
                &html! { "share the store" }))
        }
    }
}

fn near(overview: &Overview) -> Markup {
    html! {
        section.card aria-labelledby="near-title" {
            h2 #near-title { "Near a limit" span.muted { "80 % and more, of the busiest callers" } }
            @match &overview.near {
                Err(reason) => (none(reason)),
                Ok(near) if near.is_empty() => (none("No caller is near a limit.")),
                Ok(near) => div.scroll tabindex="0" role="group" aria-labelledby="near-title" {
                    table {
                        thead { tr { th { "Caller" } th { "Limit" } th { "Used" } th.number { span.hidden { "Percent" } } th { "Free again" } } }
                        tbody { @for one in near { (near_row(one, overview.now_ms)) } }
                    }
                },
            }
        }
    }
}

fn near_row(one: &NearCaller, now_ms: u64) -> Markup {
    let NearCaller { name, limit } = one;
    html! {
        tr {
            td { a href=(link::caller(name)) { (name) } }
            td { (limit.limit) }
            td { (bar(&format!("{} of {name}", limit.limit), limit.percent)) }
            td.number { (format::percent(limit.percent)) }
            td { @if let Some(reset) = &limit.reset_at { (distance(reset, now_ms)) } }
        }
    }
}

fn denials(denials: &Denials) -> Markup {
    let most = denials.items.iter().map(|(_, count)| *count).max().unwrap_or_default();
    html! {
        section.card aria-labelledby="denials-title" {
            h2 #denials-title {
                "Refused by reason"
                span.muted {
                    @if let Some(from) = &denials.from { "since " (time(from)) } @else { "since the start" }
                    @if !denials.of_fleet { ", this sidecar" }
                }
            }
            @if denials.items.is_empty() { (none("Nothing was refused.")) }
            @else {
                table #denials {
                    thead { tr { th { "Reason" } th { span.hidden { "Part" } } th.number { "Requests" } } }
                    tbody {
                        @for (reason, count) in &denials.items {
                            tr {
                                td { a href=(format!("/dashboard/usage?by=reason&reason={}", link::encoded(reason))) { code { (reason) } } }
                                td { (share(*count, most)) }
                                td.number { (format::whole(*count)) }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// A bar of a number among others; the number stands beside it.
fn share(count: u64, most: u64) -> Markup {
    let width = count as f64 * 100.0 / most.max(1) as f64;
    html! {
        svg.share viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true" {
            rect width=(format!("{width:.2}")) height="8" {}
        }
    }
}

fn providers(overview: &Overview) -> Markup {
    html! {
        section.card aria-labelledby="providers-title" {
            h2 #providers-title { "Providers" span.muted { "capacity in use" } }
            @if overview.providers.items.is_empty() { (none("No policy has a provider.")) }
            @else {
                div.gauges { @for provider in &overview.providers.items { (gauge(provider)) } }
            }
        }
    }
}

fn gauge(provider: &ProviderBody) -> Markup {
    let fullest = provider.fullest.as_ref();
    let percent = fullest.map_or(0.0, |limit| limit.percent);
    html! {
        a.gauge href=(format!("/dashboard/providers#{}", link::encoded(&provider.provider))) {
            span.row {
                strong { (provider.provider) }
                (status(provider.status))
            }
            (bar(&format!("Capacity of {}", provider.provider), percent))
            span.row.muted {
                @match fullest {
                    Some(limit) => span { (limit.limit) ": " (format::whole(limit.used)) " of " (format::whole(limit.capacity)) },
                    None => span { "no limit" },
                }
                span {
                    @if 0 < provider.level { "level " (provider.level) }
                    @if 0 < provider.waiting { " · " (format::whole(provider.waiting as u64)) " waiting" }
                }
            }
        }
    }
}

/// Whether a provider has capacity.
pub fn status(status: Status) -> Markup {
    let (name, class) = match status {
        Status::Available => ("available", "fine"),
        Status::Pressure => ("pressure", "warning"),
        Status::Exhausted => ("exhausted", "critical"),
        Status::Unknown => ("unknown", "warning"),
    };
    html! { span.pill.(class) { (name) } }
}
