//! The page of alerts.

use std::collections::BTreeMap;

use maud::{Markup, html};

use super::parts::{distance, none, time};
use super::replay;
use crate::http::alerts::{AlertBody, AlertState, AlertsBody, MaintenanceBody, SilenceBody};
use crate::http::dashboard::alerts::{AlertsPage, sentence};
use crate::http::dashboard::{format, link};

/// The page.
pub fn page(alerts: &AlertsPage) -> Markup {
    let AlertsPage { query, open, closed, silences, maintenance, form_token, now_ms, .. } = alerts;
    let form_token = form_token.as_deref();
    html! {
        h1 { "Alerts" }
        @if let Some(done) = sentence(&query.done) { p.pill.fine role="status" { (done) } }
        section.card {
            form.form method="get" action="/dashboard/alerts" role="search" {
                div.field {
                    label for="severity" { "Severity" }
                    select id="severity" name="severity" {
                        option value="" { "all" }
                        @for severity in ["critical", "error", "warning", "info"] {
                            option value=(severity) selected[query.severity == severity] { (severity) }
                        }
                    }
                }
                @for (name, label, value) in [("rule", "Rule", &query.rule), ("caller", "Caller", &query.caller)] {
                    div.field {
                        label for=(name) { (label) }
                        input id=(name) type="search" name=(name) value=(value);
                    }
                }
                button type="submit" { "Filter" }
            }
        }
        section.card aria-labelledby="open-title" {
            h2 #open-title { "Open" span.muted { (scope(open)) } }
            (table("open", open, (form_token, *now_ms)))
            @if open.dead != 0 {
                p.pill.warning { (format::whole(open.dead as u64)) " notifications could not be sent: tollgate alerts dead" }
            }
        }
        @if !silences.is_empty() { (list(silences, form_token)) }
        @if !maintenance.is_empty() { (windows(maintenance)) }
        @if let Some(form_token) = form_token { (silence(form_token)) }
        (replay::section(alerts))
        section.card aria-labelledby="closed-title" {
            h2 #closed-title { "Closed" span.muted { "the newest first" } }
            (table("closed", closed, (None, *now_ms)))
        }
    }
}

/// In place of the page, if there are none.
pub fn none_configured() -> Markup {
    html! {
        h1 { "Alerts" }
        section.card { (none("There are no alerts: the setting alerts names no files. See config/alerts.md.")) }
    }
}

fn scope(body: &AlertsBody) -> &'static str {
    if body.of_fleet { "of all sidecars" } else { "of this sidecar" }
}

fn table(id: &str, body: &AlertsBody, (form_token, now_ms): (Option<&str>, u64)) -> Markup {
    if body.items.is_empty() {
        return none("No alert.");
    }
    html! {
        div.scroll tabindex="0" role="group" aria-labelledby=(format!("{id}-title")) {
            table id=(id) {
                thead { tr { th { "Severity" } th { "Alert" } th { "Rule" } th { "Since" } th { "State" } } }
                tbody { @for alert in &body.items { (row(alert, (form_token, now_ms))) } }
            }
        }
    }
}

fn row(alert: &AlertBody, (form_token, now_ms): (Option<&str>, u64)) -> Markup {
    html! {
        tr {
            td { (severity(&alert.severity)) }
            td {
                @match alert.labels.get("caller") {
                    Some(caller) => a href=(link::caller(caller)) { (alert.title) },
                    None => (alert.title),
                }
                @if let Some(summary) = &alert.summary { " " span.muted { (summary) } }
            }
            td { (alert.rule) }
            td { (distance(&alert.opened_at, now_ms)) }
            td {
                @if let Some(closed) = &alert.closed_at {
                    "closed " (time(closed)) " "
                    @if let Some(by) = &alert.resolved_by { "by " (by) }
                }
                @if let Some(answer) = &alert.answer { span.pill.warning { "restricted to " (answer.tier) " until " (time(&answer.until)) } " " }
                @if alert.answer_waits { span.pill { "waits to be restricted" } " " }
                @if alert.silenced { span.pill { "silenced" } " " }
                @if let Some(by) = &alert.acknowledged_by { span.pill.fine { "acknowledged by " (by) } " " }
                @if let (Some(form_token), AlertState::Open) = (form_token, alert.state) {
                    @if alert.acknowledged_by.is_none() { (button(form_token, ("acknowledge", "Acknowledge"), alert)) }
                    (button(form_token, ("resolve", "Resolve"), alert))
                }
            }
        }
    }
}

fn button(form_token: &str, (action, name): (&str, &str), alert: &AlertBody) -> Markup {
    html! {
        form.inline method="post" action=(format!("/dashboard/alerts/{action}")) {
            input type="hidden" name="form_token" value=(form_token);
            input type="hidden" name="id" value=(alert.id);
            button.plain type="submit" aria-label=(format!("{name}: {}", alert.title)) { (name) }
        }
    }
}

/// The silences, which an operator may end.
fn list(silences: &[SilenceBody], form_token: Option<&str>) -> Markup {
    html! {
        section.card aria-labelledby="silences-title" {
            h2 #silences-title { "Silences" span.muted { "that have not ended" } }
            div.scroll tabindex="0" role="group" aria-labelledby="silences-title" {
                table #silences {
                    thead { tr { th { "Rule" } th { "State" } th { "About" } th { "From" } th { "Until" } th { "Why" } th { "By" } } }
                    tbody { @for silence in silences { (row_of_silence(silence, form_token)) } }
                }
            }
        }
    }
}

/// The maintenance windows.
fn windows(maintenance: &[MaintenanceBody]) -> Markup {
    html! {
        section.card aria-labelledby="maintenance-title" {
            h2 #maintenance-title { "Maintenance windows" span.muted { "of the files of alerts" } }
            div.scroll tabindex="0" role="group" aria-labelledby="maintenance-title" {
                table #maintenance {
                    thead { tr { th { "Window" } th { "State" } th { "Rules" } th { "About" } th { "Times" } } }
                    tbody {
                        @for window in maintenance {
                            tr {
                                td { (window.name) }
                                td { (state(window.active)) }
                                td { @if window.rules.is_empty() { "all" } @else { (window.rules.join(", ")) } }
                                td { (labels(&window.labels)) }
                                td { (window.times) " " span.muted { (window.timezone) } }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Whether a silence or window holds back notifications now.
fn state(is_active: bool) -> Markup {
    html! { @if is_active { span.pill.warning { "active" } } @else { span.pill { "not now" } } }
}

/// Labels, such as `caller=ann`.
pub fn labels(labels: &BTreeMap<String, String>) -> Markup {
    html! { @for (name, value) in labels { (name) "=" (value) " " } }
}

fn row_of_silence(silence: &SilenceBody, form_token: Option<&str>) -> Markup {
    let rule = silence.rule.as_deref().unwrap_or("all");
    html! {
        tr data-silence=(silence.id) {
            td { (rule) }
            td { (state(silence.active)) }
            td { (labels(&silence.labels)) }
            td { (time(&silence.from)) }
            td { (time(&silence.until)) }
            td { (silence.comment) }
            td {
                (silence.by) " "
                @if let Some(form_token) = form_token {
                    form.inline method="post" action="/dashboard/alerts/end-silence" {
                        input type="hidden" name="form_token" value=(form_token);
                        input type="hidden" name="id" value=(silence.id);
                        button.plain type="submit" aria-label=(format!("End the silence of {rule}")) { "End" }
                    }
                }
            }
        }
    }
}

fn silence(form_token: &str) -> Markup {
    html! {
        section.card aria-labelledby="silence-title" {
            h2 #silence-title { "Silence" span.muted { "holds back notifications, such as during maintenance" } }
            form.form #silence method="post" action="/dashboard/alerts/silence" {
                input type="hidden" name="form_token" value=(form_token);
                @for (name, label, value) in [
                    ("rule", "Rule, all if empty", ""),
                    ("until", "Until, such as 2026-12-31T12:00:00Z", ""),
                    ("comment", "Why", ""),
                ] {
                    div.field {
                        label for=(format!("silence-{name}")) { (label) }
                        input id=(format!("silence-{name}")) name=(name) value=(value) required[name == "until"];
                    }
                }
                button type="submit" { "Silence" }
            }
        }
    }
}

/// A severity.
pub fn severity(severity: &str) -> Markup {
    let class = match severity {
        "critical" | "error" => "critical",
        "warning" => "warning",
        _ => "fine",
    };
    html! { span.pill.(class) { (severity) } }
}
