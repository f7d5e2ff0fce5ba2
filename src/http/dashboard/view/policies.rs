//! The page of policies.

use maud::{Markup, html};

use super::parts::{distance, none};
use crate::engine::{ExplainedDescriptor, Explanation};
use crate::http::dashboard::format;
use crate::http::dashboard::policies::{DomainRules, PoliciesPage, RuleRow};
use crate::observe::audit::instant;
use crate::policy::{Edit, EditedPart};

/// The page.
pub fn page(page: &PoliciesPage, form_token: &str) -> Markup {
    html! {
        h1 { "Policies" span.muted { "in force: " code #hash { (page.hash) } } }
        @if page.is_rejected { p.note-box.warning role="status" { "The last reload failed: earlier policies are in force. The log has the reason." } }
        div.columns.even {
            (explain(page))
            (check(page, form_token))
        }
        @if page.domains.is_empty() { section.card { (none("No policy is loaded.")) } }
        @for domain in &page.domains { (rules(domain)) }
        (reloads(page))
        p { a href="/policy" { "All of it as JSON" } }
    }
}

fn explain(page: &PoliciesPage) -> Markup {
    html! {
        section.card #explain aria-labelledby="explain-title" {
            h2 #explain-title { "Explain a request" span.muted { "nothing is charged" } }
            form.stack method="get" action="/dashboard/policies" {
                div.field {
                    label for="domain" { "Domain" }
                    input #domain name="domain" list="domains" required value=(page.query.domain);
                    datalist #domains { @for domain in &page.domains { option value=(domain.name) {} } }
                }
                div.field {
                    label for="descriptors" { "Descriptors, one a line" }
                    textarea #descriptors name="descriptors" rows="3" placeholder="user_id=alice,request_type=search" { (page.query.descriptors) }
                }
                button type="submit" { "Explain" }
            }
            @match &page.explanation {
                None => {},
                Some(Err(reason)) => p.alarm role="alert" { (reason) },
                Some(Ok(explanation)) => (explained(explanation)),
            }
        }
    }
}

fn explained(explanation: &Explanation) -> Markup {
    html! {
        div #explanation {
            @if let Some(name) = &explanation.caller.name { p { "Caller " strong { (name) } } }
            @for descriptor in &explanation.descriptors { (walk(descriptor)) }
            @if explanation.limits.is_empty() { p { "No limit applies." } }
            @else {
                div.scroll tabindex="0" role="group" aria-label="Limits that apply" {
                    table {
                        thead { tr { th { "Limit" } th { "Amount" } th { "Mode" } th { "Counter" } th { "Rule" } } }
                        tbody {
                            @for limit in &explanation.limits {
                                tr {
                                    td { (limit.limit.label) }
                                    td { (limit.charge.limit) }
                                    td { (format!("{:?}", limit.limit.mode).to_lowercase()) }
                                    td { code { (limit.key) } }
                                    td { @if let Some(rule) = &limit.rule { (rule.location) } }
                                }
                            }
                        }
                    }
                }
            }
            @match explanation.refusal {
                Some(reason) => p.alarm { "Refused although nothing has been spent: " code { (reason.name()) } },
                None => p.fine { "It passes if nothing has been spent." },
            }
        }
    }
}

fn walk(descriptor: &ExplainedDescriptor) -> Markup {
    html! {
        ol.walk {
            @for step in &descriptor.trace.steps {
                li {
                    code { (step.key) "=" (step.value) }
                    @match &step.rule {
                        Some((path, location)) => { " matches " strong { (path) } span.muted { " " (location) } },
                        None => {
                            " matches no rule"
                            ul.muted.small { @for (path, reason) in step.others.iter().take(8) { li { (path) ": " (reason) } } }
                        },
                    }
                }
            }
        }
    }
}

fn check(page: &PoliciesPage, form_token: &str) -> Markup {
    let text = page.checked.as_ref().map_or("", |(text, _)| text.as_str());
    html! {
        section.card #check aria-labelledby="check-title" {
            h2 #check-title { "Check a policy" span.muted { "nothing is loaded" } }
            form.stack method="post" action="/dashboard/policies/check" {
                input type="hidden" name="form_token" value=(form_token);
                div.field {
                    label for="text" { "Policy in YAML" }
                    textarea #text name="text" rows="8" spellcheck="false" required { (text) }
                }
                button type="submit" { "Check" }
            }
            @match &page.checked {
                None => {},
                Some((_, problems)) if problems.is_empty() => p.fine #problems role="status" { "It is valid." },
                Some((_, problems)) => pre #problems tabindex="0" { (problems) },
            }
        }
    }
}

/// What the last reloads have changed.
fn reloads(page: &PoliciesPage) -> Markup {
    html! {
        section.card #reloads aria-labelledby="reloads-title" {
            h2 #reloads-title { "Last reloads" span.muted { "of this process, the newest first" } }
            @if page.reloads.is_empty() { (none("No reload has changed what is decided since the start.")) }
            @for reload in &page.reloads {
                @let [before, since] = &reload.hashes;
                details open[page.reloads.len() == 1] {
                    summary {
                        (distance(&instant(reload.at), page.now_ms)) " from " (reload.source) ": "
                        code { (before) } " became " code { (since) }
                    }
                    ul { @for part in &reload.edits.parts { li { (edited(part)) } } }
                    @if reload.edits.more != 0 { p.muted { "and " (format::whole(reload.edits.more as u64)) " more" } }
                }
            }
        }
    }
}

fn edited(part: &EditedPart) -> Markup {
    html! {
        strong { (part.domain) } " "
        @if let Some(rule) = &part.rule { code { (rule) } " " }
        @match &part.edit {
            Edit::Added => "is added",
            Edit::Removed => "is removed",
            Edit::Changed(fields) => ul.small { @for field in fields { li { (field) } } },
        }
    }
}

fn rules(domain: &DomainRules) -> Markup {
    let id = format!("domain-{}", domain.name);
    html! {
        section.card aria-label=(domain.name) {
            h2 { (domain.name) @if !domain.tiers.is_empty() { span.muted { "tiers " (domain.tiers.join(", ")) } } }
            div.scroll tabindex="0" role="group" aria-label=(id) {
                table.rules {
                    thead { tr { th { "Rule" } th { "Limits" } th { "From" } } }
                    tbody { @for rule in &domain.rules { (row(rule)) } }
                }
            }
            @if domain.more != 0 { p.muted { (format::whole(domain.more as u64)) " more rules are not shown." } }
        }
    }
}

fn row(rule: &RuleRow) -> Markup {
    html! {
        tr {
            td { code { (rule.path) } }
            td {
                @if rule.unlimited { "unlimited" }
                @for (name, amount) in &rule.limits { div { (name) ": " (amount) } }
            }
            td.muted { (rule.location) }
        }
    }
}
