//! The page of the audit log.

use maud::{Markup, html};

use super::parts::{distance, none};
use crate::http::dashboard::audit::{AuditPage, AuditRow};
use crate::http::dashboard::link;

/// The page.
pub fn page(audit: &AuditPage) -> Markup {
    let query = &audit.query;
    html! {
        h1 { "Audit" }
        section.card {
            form.form method="get" action="/dashboard/audit" role="search" {
                @for (name, label, value) in [("who", "Who", &query.who), ("what", "Action", &query.what), ("caller", "Caller", &query.caller)] {
                    div.field {
                        label for=(name) { (label) }
                        input id=(name) type="search" name=(name) value=(value);
                    }
                }
                button type="submit" { "Filter" }
            }
        }
        section.card aria-labelledby="lines-title" {
            h2 #lines-title { "Changes" span.muted { "the newest first" } }
            @match &audit.lines {
                None => (none("The audit log is in the log of the process, which is not read here. Set audit_log to a file or to redis.")),
                Some(rows) if rows.is_empty() => (none("No line.")),
                Some(rows) => div.scroll tabindex="0" role="group" aria-labelledby="lines-title" {
                    table #lines {
                        thead { tr { th.number { "Line" } th { "When" } th { "Who" } th { "Action" } th { "Caller" } th { "Change" } } }
                        tbody { @for row in rows { (line(row, audit.now_ms)) } }
                    }
                },
            }
        }
    }
}

fn line(row: &AuditRow, now_ms: u64) -> Markup {
    html! {
        tr {
            td.number { (row.number) }
            td { (distance(&row.at, now_ms)) }
            td { (row.who) }
            td { (row.what) @if let Some(failed) = &row.failed { " " span.pill.critical { "failed: " (failed) } } }
            td { @if !row.caller.is_empty() { a href=(link::caller(&row.caller)) { (row.caller) } } }
            td.rest { code { (row.rest) } }
        }
    }
}
