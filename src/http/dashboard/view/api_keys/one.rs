//! The page of one API key.

use maud::{Markup, html};

use super::form::{Forms, forms};
use super::list::pill;
use crate::http::dashboard::api_keys::{DomainRoutes, KeyPage, RouteRow};
use crate::http::dashboard::link;
use crate::http::dashboard::view::parts::{distance, none, time};
use crate::observe::audit::instant;

/// The page. The forms are for operators.
pub fn one(key: &KeyPage, for_operators: Option<&Forms<'_>>, changed: Option<&str>) -> Markup {
    let form = &key.form;
    html! {
        h1 {
            span.name { @if form.name.is_empty() { (key.record.id) } @else { (form.name) } }
            (pill(key.state))
        }
        @if let Some(changed) = changed { p.note-box role="status" { (changed) "." } }
        div.columns {
            div {
                (record(key))
                (limits(key))
                (routes(key))
                (texts(key))
            }
            @if let Some(for_operators) = for_operators { div { (forms(key, for_operators)) } }
        }
    }
}

fn record(key: &KeyPage) -> Markup {
    let form = &key.form;
    let when = form.when.clone().unwrap_or_default();
    let zone = when.timezone.clone().unwrap_or_else(|| "UTC".to_owned());
    let times = [&when.months, &when.weekdays, &when.hours, &when.dates];
    let times: Vec<String> =
        times.into_iter().filter(|items| !items.is_empty()).map(|items| items.join(", ")).collect();
    html! {
        section.card aria-labelledby="key-title" {
            h2 #key-title { "API key" }
            dl #key {
                dt { "Id" } dd { code { (key.record.id) } }
                dt { "Caller" } dd { a href=(link::caller(&form.caller)) { (form.caller) } " " a.small href=(link::api_keys_of(&form.caller)) { "all its API keys" } }
                dt { "Scopes" } dd { (or(&form.scopes.join(", "), "none")) }
                dt { "Tier" } dd { (or(form.tier.as_deref().unwrap_or_default(), "the caller's")) }
                dt { "Addresses" } dd { (or(&form.addresses.join(", "), "all")) }
                dt { "Origins" } dd { (or(&form.origins.join(", "), "all")) }
                dt { "Times" } dd {
                    @if form.when.is_none() { span.muted { "always" } }
                    @else { (times.join("; ")) @if !when.except.is_empty() { ", except " (when.except.join(", ")) } " (" (zone) ")" }
                }
                dt { "Created" } dd { (time(&instant(key.record.created_at))) }
                dt { "Expires" } dd { @match key.record.key.expires_at { Some(end) => { (time(&instant(end))) ", " (distance(&instant(end), key.now_ms)) }, None => span.muted { "never" } } }
                dt { "Last used" } dd #last-used {
                    @match key.last_use {
                        Some(last) => { (distance(&instant(last.at), key.now_ms)) @if let Some(address) = last.address { ", from " (address.to_string()) } },
                        None => span.muted { "never" },
                    }
                }
            }
        }
    }
}

fn limits(key: &KeyPage) -> Markup {
    html! {
        @if !key.limits.is_empty() {
            section.card #own-limits aria-labelledby="own-limits-title" {
                h2 #own-limits-title { "Limits of its own" }
                div.scroll tabindex="0" role="group" aria-labelledby="own-limits-title" {
                    table {
                        thead { tr { th { "Limit" } th { "Used" } th { "Remaining" } } }
                        tbody {
                            @for (text, limit) in key.form.limits.iter().zip(&key.limits) {
                                tr { td { (text) } td { (limit.used) } td { (limit.remaining) } }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn or(text: &str, otherwise: &str) -> Markup {
    html! { @if text.is_empty() { span.muted { (otherwise) } } @else { (text) } }
}

fn routes(key: &KeyPage) -> Markup {
    html! {
        section.card #routes aria-labelledby="routes-title" {
            h2 #routes-title { "What it may do" }
            @if key.domains.is_empty() { (none("No policy in force has its prefix: it is refused.")) }
            @for domain in &key.domains { (routes_of(domain)) }
        }
    }
}

fn routes_of(domain: &DomainRoutes) -> Markup {
    html! {
        p { "In " (domain.domain) @if let Some(tier) = &domain.tier { ", with the tier " strong { (tier) } } }
        @if !domain.routes.is_empty() {
            div.scroll tabindex="0" role="group" aria-labelledby="routes-title" {
                table {
                    thead { tr { th { "Methods" } th { "Path" } th { "Scopes" } th { "Tiers" } th { "May" } } }
                    tbody { @for route in &domain.routes { (route_row(route)) } }
                }
            }
        }
        p.muted.small {
            @if domain.routes.is_empty() { "Every request." }
            @else if domain.allows_others { "Requests without a route pass." }
            @else { "Requests without a route are refused." }
        }
    }
}

fn route_row(route: &RouteRow) -> Markup {
    html! {
        tr {
            td { (or(&route.methods, "all")) }
            td { code { (route.path) } }
            td { (or(&route.scopes, "none")) }
            td { (or(&route.tiers, "all")) }
            td {
                @match route.refusal {
                    None => span.pill.fine { "yes" },
                    Some(refusal) => span.pill.critical { "no: " (refusal.name()) },
                }
            }
        }
    }
}

fn texts(key: &KeyPage) -> Markup {
    html! {
        section.card aria-labelledby="texts-title" {
            h2 #texts-title { "Texts" span.muted { "of which only the beginning is kept" } }
            div.scroll tabindex="0" role="group" aria-labelledby="texts-title" {
                table #texts {
                    thead { tr { th { "Begins with" } th { "Made" } th { "Valid until" } th { "Pepper" } } }
                    tbody {
                        @for (secret, pepper) in key.record.secrets.iter().zip(&key.peppers) {
                            tr {
                                td { code { (secret.hint) "…" } }
                                td { (time(&instant(secret.created_at))) }
                                td { @match secret.until { Some(until) => (distance(&instant(until), key.now_ms)), None => span.muted { "it is rotated" } } }
                                td { (pepper) }
                            }
                        }
                    }
                }
            }
        }
    }
}
