//! The page of the login.

use maud::{Markup, html};

use super::layout::mark;

/// The form, with the reason why the last attempt failed.
pub fn form(form_token: &str, next: &str, reason: Option<&str>) -> Markup {
    html! {
        section.card.narrow {
            h1.brand { (mark()) "Tollgate" }
            form method="post" action="/dashboard/login" {
                input type="hidden" name="form_token" value=(form_token);
                input type="hidden" name="next" value=(next);
                label for="token" { "Token of the API" }
                input #token type="password" name="token" required autofocus autocomplete="current-password"
                    aria-describedby="token-help" aria-invalid=[reason.map(|_| "true")];
                p #token-help.muted { code { "tollgate token NAME --role viewer" } " makes one." }
                @if let Some(reason) = reason { p.alarm role="alert" { (reason) } }
                button type="submit" { "Log in" }
            }
        }
    }
}
