//! The forms that change a provider for a while, and the changes that hold.

use maud::{Markup, html};

use super::parts::time;
use crate::http::dashboard::providers::{ProvidersPage, effect};
use crate::http::provider_controls::ControlBody;
use crate::http::providers::ProviderBody;

const PRIORITIES: [(&str, &str); 4] =
    [("1", "1, low"), ("2", "2, medium"), ("3", "3, high"), ("4", "4, urgent")];

/// The changes that hold, which an operator may end.
pub fn list(page: &ProvidersPage) -> Markup {
    html! {
        section.card aria-labelledby="controls-title" {
            h2 #controls-title { "Changes that hold" span.muted { "on all sidecars" } }
            div.scroll tabindex="0" role="group" aria-labelledby="controls-title" {
                table #controls {
                    thead { tr { th { "Provider" } th { "Effect" } th { "Until" } th { "By" } } }
                    tbody { @for control in &page.controls { (row(control, page.form_token.as_deref())) } }
                }
            }
        }
    }
}

fn row(control: &ControlBody, form_token: Option<&str>) -> Markup {
    html! {
        tr {
            td { (control.provider) " " span.muted { (control.domain) } }
            td { (effect(control)) }
            td { (time(&control.until)) }
            td {
                (control.by) " "
                @if let Some(form_token) = form_token {
                    form.inline method="post" action="/dashboard/providers/end" {
                        (hidden(form_token, (&control.domain, &control.provider)))
                        input type="hidden" name="id" value=(control.id);
                        button.plain type="submit" aria-label=(format!("End {} of {}", control.id, control.provider)) {
                            @if control.id == "pause" { "Resume" } @else { "End" }
                        }
                    }
                }
            }
        }
    }
}

/// The forms of each provider.
pub fn forms(page: &ProvidersPage, form_token: &str) -> Markup {
    html! {
        section.card aria-labelledby="change-title" {
            h2 #change-title { "Change for a while" span.muted { "at most 7 days" } }
            @for (index, provider) in page.providers.items.iter().enumerate() {
                details id=(format!("change-{index}")) data-provider=(provider.provider) {
                    summary { (provider.provider) " in " (provider.domain) }
                    (pause(provider, (index, form_token, &page.until)))
                    (priority(provider, (index, form_token, &page.until)))
                    (cap(provider, (index, form_token, &page.until)))
                }
            }
        }
    }
}

fn pause(provider: &ProviderBody, (index, form_token, until): (usize, &str, &str)) -> Markup {
    html! {
        form.form method="post" action="/dashboard/providers/pause" {
            (hidden(form_token, (&provider.domain, &provider.provider)))
            (field(&format!("pause-until-{index}"), ("until", "Until"), until))
            button type="submit" { "Pause the queue" }
        }
    }
}

fn priority(provider: &ProviderBody, (index, form_token, until): (usize, &str, &str)) -> Markup {
    html! {
        form.form method="post" action="/dashboard/providers/priority" {
            (hidden(form_token, (&provider.domain, &provider.provider)))
            div.field {
                label for=(format!("priority-{index}")) { "Priority" }
                select id=(format!("priority-{index}")) name="priority" {
                    @for (value, name) in PRIORITIES { option value=(value) { (name) } }
                }
            }
            (field(&format!("priority-tier-{index}"), ("tier", "Tier, all if empty"), ""))
            (field(&format!("priority-entry-{index}"), ("entry", "With an entry, such as op=search"), ""))
            (field(&format!("priority-until-{index}"), ("until", "Until"), until))
            button type="submit" { "Set the priority" }
        }
    }
}

fn cap(provider: &ProviderBody, (index, form_token, until): (usize, &str, &str)) -> Markup {
    html! {
        form.form method="post" action="/dashboard/providers/cap" {
            (hidden(form_token, (&provider.domain, &provider.provider)))
            (field(&format!("cap-percent-{index}"), ("percent", "Percent, from 0 to 99"), "50"))
            div.field {
                label for=(format!("cap-limit-{index}")) { "Limit" }
                select id=(format!("cap-limit-{index}")) name="limit" {
                    option value="" { "all" }
                    @for limit in &provider.limits { option value=(limit.limit) { (limit.limit) } }
                }
            }
            (field(&format!("cap-tier-{index}"), ("tier", "Tier, all if empty"), ""))
            (field(&format!("cap-until-{index}"), ("until", "Until"), until))
            button type="submit" { "Cap" }
        }
    }
}

fn hidden(form_token: &str, (domain, provider): (&str, &str)) -> Markup {
    html! {
        input type="hidden" name="form_token" value=(form_token);
        input type="hidden" name="domain" value=(domain);
        input type="hidden" name="provider" value=(provider);
    }
}

fn field(id: &str, (name, label): (&str, &str), value: &str) -> Markup {
    html! {
        div.field {
            label for=(id) { (label) }
            input id=(id) name=(name) value=(value) required[name == "until" || name == "percent"];
        }
    }
}
