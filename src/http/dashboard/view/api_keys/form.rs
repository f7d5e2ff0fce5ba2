//! The forms of API keys.

use maud::{Markup, html};

use crate::http::dashboard::api_keys::{Choices, KeyFields, KeyPage};
use crate::http::dashboard::link;

/// What the forms of one API key need.
#[derive(Debug)]
pub struct Forms<'a> {
    pub form_token: &'a str,
    /// The API key as it is.
    pub fields: &'a KeyFields,
    pub choices: Choices,
    /// Whether the visitor may rotate and delete it.
    pub is_admin: bool,
}

/// How long the earlier text may stay valid, in seconds.
const OVERLAPS: [(&str, &str); 5] = [
    ("0", "refused at once"),
    ("3600", "valid for an hour"),
    ("86400", "valid for a day"),
    ("604800", "valid for a week"),
    ("2592000", "valid for 30 days"),
];

/// The page for a new API key, with what is wrong with the fields.
pub fn new(form_token: &str, fields: &KeyFields, choices: &Choices, wrong: Option<&str>) -> Markup {
    html! {
        h1 { "New API key" }
        section.card aria-label="New API key" {
            (wrong_fields(wrong))
            form #form-create.stack method="post" action="/dashboard/api-key/create" {
                input type="hidden" name="form_token" value=(form_token);
                (text("caller", "Caller", &fields.caller, "In whose name it makes requests; it can't be changed"))
                @if 1 < choices.domains.len() {
                    div.field {
                        label for="domain" { "Domain" }
                        select #domain name="domain" {
                            @for domain in &choices.domains { option value=(domain) selected[*domain == fields.domain] { (domain) } }
                        }
                    }
                }
                (inputs(fields, choices))
                button type="submit" { "Create" }
            }
        }
    }
}

/// The form that changes an API key, alone on its page, with what is wrong with the fields.
pub fn changed(
    form_token: &str,
    fields: &KeyFields,
    choices: &Choices,
    wrong: Option<&str>,
) -> Markup {
    html! {
        h1 { "Change the API key of " (fields.caller) }
        section.card aria-label="API key" { (change_form(form_token, fields, choices, wrong)) }
        p { a href=(link::api_key(&fields.id)) { "Back to the API key" } }
    }
}

/// All forms of an API key.
pub fn forms(key: &KeyPage, forms: &Forms<'_>) -> Markup {
    let Forms { form_token, fields, choices, is_admin } = forms;
    let (switch, switched) =
        if key.form.disabled { ("enable", "Enable") } else { ("disable", "Disable") };
    html! {
        section.card aria-labelledby="change-title" {
            h2 #change-title { "Change" }
            (change_form(form_token, fields, choices, None))
        }
        section.card aria-labelledby="state-title" {
            h2 #state-title { "Use" }
            div.forms {
                (button(form_token, fields, (switch, switched), &html! {
                    div.field { span.muted.small {
                        @if key.form.disabled { "It is refused until it is enabled." } @else { "It is refused until it is enabled again." }
                    } }
                }))
                @if *is_admin {
                    (button(form_token, fields, ("rotate", "Rotate"), &html! {
                        div.field {
                            label for="overlap" { "The earlier text is" }
                            select #overlap name="overlap" { @for (seconds, name) in OVERLAPS { option value=(seconds) { (name) } } }
                        }
                    }))
                    (button(form_token, fields, ("delete", "Delete"), &html! {
                        div.field { span.muted.small { "It can't be restored." } }
                    }))
                }
            }
            p.small { a href=(format!("/dashboard/audit?what=api+key&caller={}", link::encoded(&fields.caller))) { "Changes of the caller's API keys" } }
        }
    }
}

fn change_form(
    form_token: &str,
    fields: &KeyFields,
    choices: &Choices,
    wrong: Option<&str>,
) -> Markup {
    html! {
        (wrong_fields(wrong))
        form #form-change.stack method="post" action="/dashboard/api-key/change" {
            (hidden(form_token, fields))
            (inputs(fields, choices))
            button.plain type="submit" { "Change" }
        }
    }
}

fn button(
    form_token: &str,
    fields: &KeyFields,
    (action, name): (&str, &str),
    inside: &Markup,
) -> Markup {
    html! {
        form.form id=(format!("form-{action}")) method="post" action=(format!("/dashboard/api-key/{action}")) {
            (hidden(form_token, fields))
            (inside)
            button.plain type="submit" { (name) }
        }
    }
}

fn hidden(form_token: &str, fields: &KeyFields) -> Markup {
    html! {
        input type="hidden" name="form_token" value=(form_token);
        input type="hidden" name="id" value=(fields.id);
        input type="hidden" name="revision" value=(fields.revision);
    }
}

fn wrong_fields(wrong: Option<&str>) -> Markup {
    html! { @if let Some(wrong) = wrong { p #wrong.note-box.critical role="alert" { (wrong) } } }
}

fn inputs(fields: &KeyFields, choices: &Choices) -> Markup {
    let known = choices.scopes.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
    let scopes = match known.is_empty() {
        true => "Separated by commas".to_owned(),
        false => format!("Separated by commas; the policies know {known}"),
    };
    html! {
        (text("name", "Name", &fields.name, "For people"))
        (text("scopes", "Scopes", &fields.scopes, &scopes))
        div.field {
            label for="tier" { "Tier" }
            select #tier name="tier" {
                option value="" { "the caller's" }
                @for tier in &choices.tiers { option value=(tier) selected[*tier == fields.tier] { (tier) } }
                @if !fields.tier.is_empty() && !choices.tiers.contains(&fields.tier) { option value=(fields.tier) selected { (fields.tier) } }
            }
        }
        (text("expires_at", "Expires", &fields.expires_at, "A date, at whose end it expires, such as 2027-12-31, or a time; never if empty"))
        (text("addresses", "Addresses", &fields.addresses, "Addresses and networks, such as 192.0.2.0/24; all if empty"))
        (text("origins", "Origins", &fields.origins, "Of pages that may use it, such as https://app.example.com; all if empty"))
        (text("limits", "Limits", &fields.limits, "Of all its requests, such as 100/minute, 10000/month, 5000/total; none of its own if empty"))
        details open[has_times(fields)] {
            summary { "Times" }
            div.stack {
                (text("timezone", "Time zone", &fields.timezone, "Such as Europe/Madrid; UTC if empty"))
                (text("weekdays", "Weekdays", &fields.weekdays, "Such as monday-friday"))
                (text("hours", "Hours", &fields.hours, "Such as 09:00-18:00"))
                (text("months", "Months", &fields.months, "Such as may-september"))
                (text("dates", "Dates", &fields.dates, "Such as 2026-12-24..2027-01-06"))
                (text("except", "Except", &fields.except, "Dates on which it may not be used"))
            }
        }
    }
}

fn has_times(fields: &KeyFields) -> bool {
    let times = [&fields.timezone, &fields.weekdays, &fields.hours, &fields.months, &fields.dates];
    times.into_iter().chain([&fields.except]).any(|text| !text.is_empty())
}

fn text(name: &str, label: &str, value: &str, help: &str) -> Markup {
    let help_id = format!("{name}-help");
    html! {
        div.field {
            label for=(name) { (label) }
            input id=(name) name=(name) value=(value) autocomplete="off" aria-describedby=(help_id) required[name == "caller"];
            span.muted.small id=(help_id) { (help) }
        }
    }
}
