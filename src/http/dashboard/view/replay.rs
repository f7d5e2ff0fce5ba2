//! When a rule would have fired: the form and its answer, on the page of alerts.

use maud::{Markup, html};

use super::parts::{none, time};
use crate::http::alerts::{DAYS, DAYS_MAX, FiringItem, FiringsBody};
use crate::http::dashboard::alerts::AlertsPage;

/// The section of the page.
pub fn section(alerts: &AlertsPage) -> Markup {
    let AlertsPage { query, rules, replayed, .. } = alerts;
    html! {
        section.card #replay aria-labelledby="replay-title" {
            h2 #replay-title { "When would a rule have fired" span.muted { "replayed on usage by hours; nothing is sent" } }
            form.form method="get" action="/dashboard/alerts#replay" {
                div.field {
                    label for="replay-rule" { "Rule" }
                    select id="replay-rule" name="replay" required {
                        @for rule in rules {
                            option value=(rule) selected[query.replay == *rule] { (rule) }
                        }
                    }
                }
                div.field {
                    label for="replay-days" { "Days" }
                    input id="replay-days" type="number" name="days" min="1" max=(DAYS_MAX) placeholder=(DAYS) value=(query.days);
                }
                button type="submit" { "Replay" }
            }
            @match replayed {
                None => {}
                Some(Ok(body)) => (answer(body)),
                Some(Err(reason)) => p.pill.warning role="status" { (reason) },
            }
        }
    }
}

fn answer(body: &FiringsBody) -> Markup {
    let count = body.items.len();
    html! {
        p role="status" {
            (body.rule) " would have fired " (count) @if body.more { "+" } @if count == 1 { " time" } @else { " times" }
            " from " (time(&body.from)) " to " (time(&body.to)) " "
            span.muted { (body.how) }
        }
        @if body.items.is_empty() { (none("No alert.")) } @else {
            div.scroll tabindex="0" role="group" aria-labelledby="replay-title" {
                table #firings {
                    thead { tr { th { "From" } th { "Until" } th { "Alert" } } }
                    tbody { @for firing in &body.items { (row(firing)) } }
                }
            }
        }
    }
}

fn row(firing: &FiringItem) -> Markup {
    html! {
        tr {
            td { (time(&firing.from)) }
            td { @match &firing.until { Some(until) => (time(until)), None => "now" } }
            td { (firing.title) }
        }
    }
}
