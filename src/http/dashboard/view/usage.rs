//! The page of usage.

use maud::{Markup, PreEscaped, html};

use super::limit::expected;
use super::parts::{distance, none, time};
use crate::http::dashboard::usage::{By, Period, UsagePage};
use crate::http::dashboard::{chart, format, link};
use crate::http::usage::{BudgetStatus, CostsBody, ForecastItem, NamesBody, UsageItem};

/// The page.
pub fn page(usage: &UsagePage) -> Markup {
    html! {
        h1 { "Usage" @if !usage.params.value.is_empty() { span.muted { (usage.params.by.name()) " " (usage.params.value) } } }
        (controls(usage))
        @if let Some(reason) = &usage.reason { section.card { (none(reason)) } }
        @else {
            (trend(usage))
            @if usage.params.by != By::Reason { (made_of(usage)) }
            @if let Some(forecasts) = &usage.forecasts { (forecast(forecasts)) }
            (denials(usage))
            @if let Some(costs) = &usage.costs { (spend(costs)) }
        }
    }
}

fn controls(usage: &UsagePage) -> Markup {
    let params = &usage.params;
    html! {
        section.card {
            form.form method="get" action="/dashboard/usage" {
                div.field {
                    label for="period" { "Time" }
                    select #period name="period" {
                        @for (period, value, name) in Period::ALL { option value=(value) selected[period == params.period] { (name) } }
                    }
                }
                div.field {
                    label for="by" { "By" }
                    select #by name="by" {
                        @for (by, value, name) in By::ALL { option value=(value) selected[by == params.by] { (name) } }
                    }
                }
                div.field {
                    label for="value" { "Only" }
                    input #value name="value" value=(params.value) placeholder="all";
                }
                button type="submit" { "Show" }
                a.button.plain href=(format!("/dashboard/usage.csv?by={}", params.by.name())) download { "CSV of the month" }
            }
        }
    }
}

fn trend(usage: &UsagePage) -> Markup {
    let passed: u64 = usage.columns.iter().map(|column| column.passed).sum();
    let refused: u64 = usage.columns.iter().map(|column| column.refused).sum();
    let label = format!("Requests over time: {passed} passed, {refused} refused");
    html! {
        section.card aria-labelledby="trend-title" {
            h2 #trend-title { "Requests" span.muted { "since " (time(&usage.from)) @if usage.of_fleet { ", all sidecars" } @else { ", this sidecar" } } }
            div.chart role="img" aria-label=(label) { (PreEscaped(chart::columns(&usage.columns))) }
            p.legend {
                span { i {} "passed " b #passed { (format::whole(passed)) } }
                span { i.critical {} "refused " b #refused { (format::whole(refused)) } }
            }
        }
    }
}

fn made_of(usage: &UsagePage) -> Markup {
    let has_hits = usage.items.iter().any(|item| item.hits.is_some());
    html! {
        section.card aria-labelledby="rows-title" {
            h2 #rows-title { "By " (usage.params.by.name()) }
            @if usage.items.is_empty() { (none("No requests.")) }
            @else {
                div.scroll tabindex="0" role="group" aria-labelledby="rows-title" {
                    table #rows {
                        thead {
                            tr {
                                th { "Name" } th.number { "Requests" } th.number { "Passed" } th.number { "Refused" }
                                @if has_hits { th.number { "Hits spent" } }
                                th { "Last" }
                            }
                        }
                        tbody { @for item in &usage.items { (row(usage, item, has_hits)) } }
                    }
                }
            }
        }
    }
}

fn row(usage: &UsagePage, item: &UsageItem, has_hits: bool) -> Markup {
    let by = usage.params.by;
    let name = name(&item.names, by);
    html! {
        tr {
            td {
                @match name {
                    _ if item.names.other => span.muted { "all others" },
                    None => span.muted { "none" },
                    Some(name) if by == By::Caller => a href=(link::caller(name)) { (name) },
                    Some(name) => a href=(format!("/dashboard/usage?by={}&value={}", by.name(), link::encoded(name))) { (name) },
                }
            }
            td.number { (format::whole(item.requests)) }
            td.number { (format::whole(item.allowed)) }
            td.number { (format::whole(item.refused)) }
            @if has_hits { td.number { @if let Some(hits) = &item.hits { (format::whole(hits.spent)) } } }
            td { (distance(&item.last_at, usage.now_ms)) }
        }
    }
}

fn name(names: &NamesBody, by: By) -> Option<&str> {
    let name = match by {
        By::Caller => &names.caller,
        By::Limit => &names.limit,
        By::Tier => &names.tier,
        By::Provider => &names.provider,
        By::Domain => &names.domain,
        By::Code => &names.code,
        By::Reason => &names.reason,
    };
    name.as_ref()?.as_deref()
}

/// When the limits of a caller will be used up.
fn forecast(forecasts: &Result<Vec<ForecastItem>, String>) -> Markup {
    html! {
        section.card #forecast aria-labelledby="forecast-title" {
            h2 #forecast-title { "Forecast" span.muted { "of the limits of this caller" } }
            @match forecasts {
                Err(reason) => (none(reason)),
                Ok(items) => dl {
                    @for item in items {
                        dt { (item.limit) }
                        dd {
                            @match (expected(item), &item.unknown) {
                                (Some(text), _) => (text),
                                (None, reason) => { "unknown: " (reason.as_deref().unwrap_or_default()) },
                            }
                        }
                    }
                },
            }
        }
    }
}

fn denials(usage: &UsagePage) -> Markup {
    html! {
        section.card #denials aria-labelledby="denials-title" {
            h2 #denials-title {
                "Refusals"
                @if !usage.params.reason.is_empty() { span.pill { (usage.params.reason) } }
            }
            @if usage.denials.is_empty() { (none("Nothing was refused.")) }
            @else {
                div.scroll tabindex="0" role="group" aria-labelledby="denials-title" {
                    table {
                        thead { tr { th { "Caller" } th { "Limit" } th { "Reason" } th.number { "Requests" } th { "Last" } } }
                        tbody {
                            @for item in &usage.denials {
                                tr {
                                    td {
                                        @match item.names.caller.as_ref().and_then(|name| name.as_deref()) {
                                            Some(name) => a href=(link::caller(name)) { (name) },
                                            None => span.muted { @if item.names.other { "all others" } @else { "none" } },
                                        }
                                    }
                                    td { (item.names.limit.clone().flatten().unwrap_or_default()) }
                                    td { code { (item.names.reason.clone().flatten().unwrap_or_default()) } }
                                    td.number { (format::whole(item.count)) }
                                    td { (distance(&item.last_at, usage.now_ms)) }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn spend(costs: &CostsBody) -> Markup {
    let currency = costs.currency.as_deref().unwrap_or_default();
    let money = |micros: u64| format::money(micros, currency);
    html! {
        section.card aria-labelledby="costs-title" {
            h2 #costs-title { "Costs" }
            div.scroll tabindex="0" role="group" aria-labelledby="costs-title" {
                table #costs {
                    thead { tr { th { "Domain" } th.number { "Today" } th.number { "This month" } th.number { "Expected" } th.number { "Budget" } th { "State" } } }
                    tbody {
                        @for item in &costs.items {
                            tr {
                                td { (item.domain) }
                                td.number { (money(item.day_micros)) }
                                td.number { (money(item.month_micros)) }
                                td.number { (money(item.projected_month_micros)) }
                                td.number { @if let Some(budget) = item.month_budget_micros { (money(budget)) } @else { "none" } }
                                td {
                                    @match item.month {
                                        BudgetStatus::None => "",
                                        BudgetStatus::Within => span.pill.fine { "within" },
                                        BudgetStatus::ProjectedOver => span.pill.warning { "will be exceeded" },
                                        BudgetStatus::Over => span.pill.critical { "exceeded" },
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}
