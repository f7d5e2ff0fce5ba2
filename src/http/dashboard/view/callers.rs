//! The list of callers.

use maud::{Markup, html};

use super::parts::{distance, none};
use crate::http::dashboard::callers::{CallerRow, Callers, Sort};
use crate::http::dashboard::{format, link};

/// The page.
pub fn page(callers: &Callers, now_ms: u64) -> Markup {
    let query = &callers.query;
    html! {
        h1 { "Callers" }
        section.card {
            form.form method="get" action="/dashboard/callers" role="search" {
                div.field {
                    label for="search" { "Name contains" }
                    input #search type="search" name="search" value=(query.search);
                }
                div.field {
                    label for="sort" { "Sort by" }
                    select #sort name="sort" {
                        @for (sort, value, name) in SORTS {
                            option value=(value) selected[sort == query.sort] { (name) }
                        }
                    }
                }
                button type="submit" { "Search" }
            }
        }
        section.card aria-labelledby="callers-title" {
            h2 #callers-title {
                @match query.sort {
                    Sort::Name => "Callers of the directory",
                    _ => { "Callers of 24 hours" span.muted { @if callers.of_fleet { "all sidecars" } @else { "this sidecar" } } },
                }
            }
            @match (&callers.reason, callers.items.is_empty()) {
                (Some(reason), _) => (none(reason)),
                (None, true) => (none("No caller.")),
                (None, false) => (table(callers, now_ms)),
            }
            @if let Some(next) = &callers.next {
                p { a href=(format!("/dashboard/callers?sort=name&search={}&after={}", link::encoded(&query.search), link::encoded(next))) { "More callers" } }
            } @else if callers.has_more {
                p.muted { "There are more; search for a name." }
            }
        }
        @if !query.search.is_empty() {
            p { "Open " a href=(link::caller(&query.search)) { (query.search) } " even if it is not listed." }
        }
    }
}

const SORTS: [(Sort, &str, &str); 3] = [
    (Sort::Requests, "requests", "requests"),
    (Sort::Refused, "refused", "refused requests"),
    (Sort::Name, "name", "name, in the directory"),
];

fn table(callers: &Callers, now_ms: u64) -> Markup {
    let has_usage = callers.items.iter().any(|row| row.requests.is_some());
    html! {
        div.scroll tabindex="0" role="group" aria-labelledby="callers-title" {
            table #callers {
                thead {
                    tr {
                        th { "Caller" } th { "Tier" }
                        @if has_usage { th.number { "Requests" } th.number { "Refused" } th { "Last" } }
                    }
                }
                tbody { @for row in &callers.items { (line(row, now_ms)) } }
            }
        }
    }
}

fn line(row: &CallerRow, now_ms: u64) -> Markup {
    html! {
        tr {
            td { a href=(link::caller(&row.name)) { (row.name) } }
            td { @if let Some(tier) = &row.tier { (tier) } }
            @if let Some((requests, refused)) = row.requests {
                td.number { (format::whole(requests)) }
                td.number { @if refused == 0 { "0" } @else { span.critical { (format::whole(refused)) } } }
                td { @if let Some(last) = &row.last_at { (distance(last, now_ms)) } }
            }
        }
    }
}
