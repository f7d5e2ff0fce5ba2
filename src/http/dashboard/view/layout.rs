//! The frame around each page: the head, the sections, and who has logged in.

use maud::{DOCTYPE, Markup, html};

use crate::http::auth::Principal;
use crate::http::dashboard::assets::{ICON, SCRIPT, STYLE};

/// The sections of the dashboard, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    Overview,
    Callers,
    ApiKeys,
    Providers,
    Policies,
    Usage,
    Alerts,
    Audit,
}

/// What is around a page.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    pub title: &'a str,
    /// None: a page of its own.
    pub section: Option<Section>,
    /// With the form token of the session.
    pub principal: Option<(&'a Principal, &'a str)>,
}

impl Section {
    const ALL: [(Self, &'static str, &'static str); 8] = [
        (Self::Overview, "Overview", "/dashboard"),
        (Self::Callers, "Callers", "/dashboard/callers"),
        (Self::ApiKeys, "API keys", "/dashboard/api-keys"),
        (Self::Providers, "Providers", "/dashboard/providers"),
        (Self::Policies, "Policies", "/dashboard/policies"),
        (Self::Usage, "Usage", "/dashboard/usage"),
        (Self::Alerts, "Alerts", "/dashboard/alerts"),
        (Self::Audit, "Audit", "/dashboard/audit"),
    ];
}

/// A whole page. Its style and script need the nonce.
pub fn page(frame: &Frame<'_>, nonce: &str, body: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (frame.title) " · Tollgate" }
                link rel="icon" type="image/svg+xml" href=(ICON.path());
                link rel="stylesheet" href=(STYLE.path()) nonce=(nonce);
                script src=(SCRIPT.path()) nonce=(nonce) defer {}
            }
            body {
                @if frame.section.is_some() {
                    a.skip href="#main" { "Skip to content" }
                    (header(frame))
                }
                main #main .alone[frame.section.is_none()] { (body) }
            }
        }
    }
}

fn header(frame: &Frame<'_>) -> Markup {
    html! {
        header.top {
            a.brand href="/dashboard" { (mark()) "Tollgate" }
            nav aria-label="Sections" {
                @for (section, name, path) in Section::ALL {
                    a href=(path) aria-current=[(frame.section == Some(section)).then_some("page")] { (name) }
                }
            }
            @if let Some((principal, form_token)) = frame.principal {
                form.account method="post" action="/dashboard/logout" {
                    input type="hidden" name="form_token" value=(form_token);
                    span.who { (principal.name) span.muted { " " (principal.role.to_string()) } }
                    @if principal.name != crate::api_token::LOOPBACK {
                        button.plain type="submit" { "Log out" }
                    }
                }
            }
        }
    }
}

/// The mark of the program.
pub fn mark() -> Markup {
    html! {
        svg.mark viewBox="0 0 24 24" aria-hidden="true" {
            rect x="3" y="4" width="4" height="17" rx="1.5" {}
            rect x="7" y="7" width="15" height="4" rx="2" {}
            circle cx="5" cy="5" r="2.5" {}
        }
    }
}

/// Why there is no page.
pub fn failure(title: &str, reason: &str) -> Markup {
    html! {
        section.card.narrow {
            h1 { (title) }
            p { (reason) }
            p { a href="/dashboard" { "To the overview" } }
        }
    }
}
