//! The page of one caller.

use maud::{Markup, html};

use super::limit::limit;
use super::parts::{distance, none, time};
use crate::http::alerts::RiskBody;
use crate::http::dashboard::caller::{CallerPage, TierTable};
use crate::http::dashboard::{format, link};
use crate::http::usage::{DenialItem, UsageItem};

/// The page. The forms are for operators, and need the token of the session.
pub fn page(caller: &CallerPage, form_token: Option<&str>, changed: Option<&str>) -> Markup {
    html! {
        h1 {
            span.name { (caller.name) }
            @if let Some(tier) = caller.tier() { span.pill { (tier) } }
            @if caller.record.as_ref().is_some_and(|record| record.disabled) { span.pill.critical { "disabled" } }
        }
        @if let Some(changed) = changed { p.note-box role="status" { (changed) "." } }
        div.columns {
            div {
                (limits(caller))
                (history(caller))
                (refusals(&caller.denials, caller.now_ms))
            }
            div {
                (record(caller))
                @if let Some(risk) = &caller.risk { (self::risk(risk, caller.now_ms)) }
                (tiers(&caller.tiers, caller.tier()))
                @if let Some(form_token) = form_token { (forms(caller, form_token)) }
            }
        }
    }
}

fn limits(caller: &CallerPage) -> Markup {
    html! {
        section.card #limits aria-labelledby="limits-title" {
            h2 #limits-title { "Limits" span.muted { "of rules that need no more than the caller" } }
            @match &caller.limits {
                Err(reason) => (none(reason)),
                Ok(items) => { @for item in items { (limit(item, caller.forecast(item), caller.now_ms)) } },
            }
            @if let Err(reason) = &caller.forecasts { p.muted.small { "No forecast: " (reason) } }
        }
    }
}

fn history(caller: &CallerPage) -> Markup {
    html! {
        section.card aria-labelledby="history-title" {
            h2 #history-title { "Requests of 24 hours" }
            @match &caller.history {
                Err(reason) => (none(reason)),
                Ok(items) if items.is_empty() => (none("None.")),
                Ok(items) => (hours(items)),
            }
        }
    }
}

fn hours(items: &[UsageItem]) -> Markup {
    html! {
        div.scroll tabindex="0" role="group" aria-labelledby="history-title" {
            table {
                thead { tr { th { "Hour" } th.number { "Passed" } th.number { "Refused" } } }
                tbody {
                    @for item in items.iter().rev() {
                        tr {
                            td { @if let Some(start) = &item.start { (time(start)) } }
                            td.number { (format::whole(item.allowed)) }
                            td.number { (format::whole(item.refused)) }
                        }
                    }
                }
            }
        }
    }
}

fn refusals(denials: &[DenialItem], now_ms: u64) -> Markup {
    html! {
        section.card #refusals aria-labelledby="refusals-title" {
            h2 #refusals-title { "Refusals of 24 hours" }
            @if denials.is_empty() { (none("None.")) }
            @else {
                div.scroll tabindex="0" role="group" aria-labelledby="refusals-title" {
                    table {
                        thead { tr { th { "Limit" } th { "Reason" } th.number { "Requests" } th { "Last" } } }
                        tbody {
                            @for item in denials {
                                tr {
                                    td { (item.names.limit.clone().flatten().unwrap_or_default()) }
                                    td { code { (item.names.reason.clone().flatten().unwrap_or_default()) } }
                                    td.number { (format::whole(item.count)) }
                                    td { (distance(&item.last_at, now_ms)) }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn risk(risk: &RiskBody, now_ms: u64) -> Markup {
    html! {
        section.card #risk aria-labelledby="risk-title" {
            h2 #risk-title { "Risk" span.muted { (format::decimal(risk.risk)) " of 100" } }
            @if risk.reasons.is_empty() { (none("No alert about abuse names this caller.")) }
            @else {
                ul {
                    @for reason in &risk.reasons {
                        li {
                            (reason.title) ": " (format::decimal(reason.share)) ", "
                            @match &reason.until {
                                None => { "open since " (distance(&reason.since, now_ms)) },
                                Some(until) => { "closed " (distance(until, now_ms)) },
                            }
                        }
                    }
                }
                p.muted.small {
                    "100 x (1 - the product of 1 - share / 100). The share of a closed alert halves with each hour."
                }
            }
        }
    }
}

fn record(caller: &CallerPage) -> Markup {
    html! {
        section.card aria-labelledby="record-title" {
            h2 #record-title { "Record" }
            @match &caller.record {
                None => (none("The directory has no record of this caller.")),
                Some(record) => dl {
                    @if let Some(tier) = &record.tier { dt { "Tier" } dd { (tier) } }
                    @if let Some(parent) = &record.parent { dt { "Parent" } dd { a href=(link::caller(parent)) { (parent) } } }
                    @if let Some(share) = &record.share { dt { "Share" } dd { (share) } }
                    @if !record.roles.is_empty() { dt { "Roles" } dd { (record.roles.join(", ")) } }
                    @if !record.overrides.is_empty() { dt { "Overrides" } dd { (record.overrides.keys().cloned().collect::<Vec<_>>().join(", ")) } }
                    @if !record.bonuses.is_empty() { dt { "Bonuses" } dd { (record.bonuses.len()) } }
                    @if !record.notes.is_empty() { dt { "Notes" } dd { (record.notes) } }
                },
            }
            @if caller.has_api_keys { p { a #api-keys href=(link::api_keys_of(&caller.name)) { "API keys of the caller" } } }
        }
    }
}

/// The amounts of each tier side by side.
pub fn tiers(table: &TierTable, own: Option<&str>) -> Markup {
    html! {
        @if !table.tiers.is_empty() {
            section.card #tiers aria-labelledby="tiers-title" {
                h2 #tiers-title { "Tiers" }
                div.scroll tabindex="0" role="group" aria-labelledby="tiers-title" {
                    table {
                        thead {
                            tr {
                                th { "Limit" }
                                @for tier in &table.tiers {
                                    th { (tier) @if Some(tier.as_str()) == own { " " span.pill.fine { "now" } } }
                                }
                            }
                        }
                        tbody {
                            @for (_, limit, amounts) in &table.rows {
                                tr { td { (limit) } @for amount in amounts { td { (amount) } } }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn forms(caller: &CallerPage, form_token: &str) -> Markup {
    let limits = caller.limit_names();
    html! {
        section.card aria-labelledby="change-title" {
            h2 #change-title { "Change" }
            div.forms {
                @if let Some(reason) = &caller.unwritable { p.muted.small { "The record can't be changed here: " (reason) } }
                @else {
                    @if !caller.tiers.tiers.is_empty() {
                        (form(caller, form_token, ("tier", "Change tier"), &html! {
                            div.field {
                                label for="tier" { "Tier" }
                                select #tier name="tier" {
                                    @for tier in &caller.tiers.tiers { option value=(tier) selected[Some(tier.as_str()) == caller.tier()] { (tier) } }
                                }
                            }
                        }))
                    }
                    @if !limits.is_empty() {
                        (form(caller, form_token, ("override", "Override"), &amounts("override", &limits)))
                        @if caller.record.is_some() { (form(caller, form_token, ("bonus", "Give a bonus"), &amounts("bonus", &limits))) }
                    }
                    (removals(caller, form_token))
                }
                (form(caller, form_token, ("link", "Make a link"), &html! {
                    div.field { span.muted.small { "To the page of the caller for itself, valid for a week" } }
                }))
                @for domain in caller.domains() {
                    (form(caller, form_token, ("reset", "Reset what is used"), &html! {
                        input type="hidden" name="domain" value=(domain);
                        div.field { span.muted.small { "All limits of the caller in " (domain) } }
                    }))
                }
            }
        }
    }
}

fn amounts(id: &str, limits: &[&str]) -> Markup {
    html! {
        div.field {
            label for=(format!("{id}-limit")) { "Limit" }
            select id=(format!("{id}-limit")) name="limit" { @for limit in limits { option value=(limit) { (limit) } } }
        }
        div.field {
            label for=(format!("{id}-amount")) { "Amount" }
            input id=(format!("{id}-amount")) name="amount" inputmode="numeric" pattern="[0-9]+" required;
        }
        div.field {
            label for=(format!("{id}-until")) { "Until" }
            input id=(format!("{id}-until")) type="date" name="until";
        }
    }
}

fn removals(caller: &CallerPage, form_token: &str) -> Markup {
    html! {
        @if let Some(record) = &caller.record {
            @for limit in record.overrides.keys() {
                (form(caller, form_token, ("remove-override", "Remove the override"), &html! {
                    input type="hidden" name="limit" value=(limit);
                    div.field { span.small { "Override of " (limit) } }
                }))
            }
            @for bonus in &record.bonuses {
                @let id = bonus.id.clone().unwrap_or_default();
                (form(caller, form_token, ("remove-bonus", "Remove the bonus"), &html! {
                    input type="hidden" name="id" value=(id);
                    div.field { span.small { "Bonus of " (format::whole(bonus.amount)) " on " (bonus.limit) } }
                }))
            }
        }
    }
}

fn form(
    caller: &CallerPage,
    form_token: &str,
    (action, button): (&str, &str),
    fields: &Markup,
) -> Markup {
    html! {
        form.form id=(format!("form-{action}")) method="post" action=(format!("/dashboard/caller/{action}")) {
            input type="hidden" name="form_token" value=(form_token);
            input type="hidden" name="name" value=(caller.name);
            (fields)
            button.plain type="submit" { (button) }
        }
    }
}
