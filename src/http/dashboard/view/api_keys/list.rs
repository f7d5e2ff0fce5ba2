//! The list of API keys.

use maud::{Markup, html};

use crate::http::dashboard::api_keys::{
    Action, Expires, KeyList, KeyRow, KeyState, KeysQuery, Used,
};
use crate::http::dashboard::link;
use crate::http::dashboard::view::parts::{distance, none};
use crate::observe::audit::instant;

const USED: [(Used, &str, &str); 4] = [
    (Used::Any, "any", "any"),
    (Used::Day, "day", "in 24 hours"),
    (Used::Unused, "unused", "not in 30 days"),
    (Used::Never, "never", "never"),
];

const EXPIRES: [(Expires, &str, &str); 3] = [
    (Expires::Any, "any", "any"),
    (Expires::Soon, "soon", "in 30 days"),
    (Expires::Never, "never", "never"),
];

/// The page. Administrators create API keys.
pub fn list(list: &KeyList, may_create: bool) -> Markup {
    let query = &list.query;
    let changed = Action::named(&query.changed).map(Action::sentence);
    html! {
        h1 { "API keys" }
        @if let Some(changed) = changed { p.note-box role="status" { (changed) "." } }
        (filters(query))
        section.card aria-labelledby="keys-title" {
            div.row {
                h2 #keys-title {
                    @if query.caller.is_empty() { "API keys" } @else { "API keys of " (query.caller) }
                    span.muted #count { (list.items.len()) @if list.next.is_some() { " of more" } }
                }
                @if may_create {
                    a #create.button href=(format!("/dashboard/api-keys/new?caller={}", link::encoded(&query.caller))) { "New API key" }
                }
            }
            @if list.items.is_empty() { (none("No API key.")) } @else { (table(list)) }
            @if let Some(next) = &list.next {
                p { a #more href=(more(query, next)) { "More API keys" } }
            }
        }
    }
}

fn filters(query: &KeysQuery) -> Markup {
    html! {
        section.card {
            form.form method="get" action="/dashboard/api-keys" role="search" {
                @for (name, label, value) in [("search", "Contains", &query.search), ("caller", "Caller", &query.caller)] {
                    div.field {
                        label for=(name) { (label) }
                        input id=(name) type="search" name=(name) value=(value);
                    }
                }
                div.field {
                    label for="state" { "State" }
                    select #state name="state" {
                        option value="" { "any" }
                        @for state in KeyState::ALL {
                            option value=(state.name()) selected[query.state == state.name()] { (state.name()) }
                        }
                    }
                }
                div.field {
                    label for="used" { "Last used" }
                    select #used name="used" {
                        @for (used, value, name) in USED { option value=(value) selected[used == query.used] { (name) } }
                    }
                }
                div.field {
                    label for="expires" { "Expires" }
                    select #expires name="expires" {
                        @for (expires, value, name) in EXPIRES { option value=(value) selected[expires == query.expires] { (name) } }
                    }
                }
                button type="submit" { "Filter" }
            }
        }
    }
}

fn table(list: &KeyList) -> Markup {
    html! {
        div.scroll tabindex="0" role="group" aria-labelledby="keys-title" {
            table #keys {
                thead {
                    tr {
                        th { "API key" } th { "Caller" } th { "Name" } th { "State" } th { "Tier" } th { "Scopes" }
                        th { "Last used" } th { "Expires" }
                    }
                }
                tbody { @for row in &list.items { (line(row, list.now_ms)) } }
            }
        }
    }
}

fn line(row: &KeyRow, now_ms: u64) -> Markup {
    let KeyRow { record, last_use, state } = row;
    let key = &record.key;
    html! {
        tr {
            td { a href=(link::api_key(&record.id)) { code { (hint(row)) "…" } } }
            td { a href=(link::caller(&key.caller)) { (key.caller) } }
            td { (key.name) }
            td { (pill(*state)) }
            td { @if let Some(tier) = &key.tier { (tier) } }
            td { (key.scopes.join(", ")) }
            td { @match last_use { Some(last) => (distance(&instant(last.at), now_ms)), None => span.muted { "never" } } }
            td { @match key.expires_at { Some(end) => (distance(&instant(end), now_ms)), None => span.muted { "never" } } }
        }
    }
}

fn hint(row: &KeyRow) -> &str {
    row.record.secrets.first().map_or("", |secret| &secret.hint)
}

/// The state in its color.
pub fn pill(state: KeyState) -> Markup {
    let class = match state {
        KeyState::Valid => "fine",
        KeyState::Disabled | KeyState::Lost => "critical",
        KeyState::Expired => "warning",
    };
    html! { span.pill.(class) { (state.name()) } }
}

/// The next page of the same list.
fn more(query: &KeysQuery, next: &str) -> String {
    let used = USED.iter().find(|(used, ..)| *used == query.used).map_or("", |(_, value, _)| value);
    let expires =
        EXPIRES.iter().find(|(one, ..)| *one == query.expires).map_or("", |(_, value, _)| value);
    let [caller, search, state, next] =
        [&query.caller, &query.search, &query.state, next].map(link::encoded);
    format!(
        "/dashboard/api-keys?caller={caller}&search={search}&state={state}&used={used}&expires={expires}&after={next}"
    )
}
