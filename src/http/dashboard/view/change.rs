//! The question before a change.

use maud::{Markup, html};

use crate::http::dashboard::change_form::ChangeForm;
use crate::http::dashboard::link;

/// What a change would do, and the form that makes it.
pub fn confirmation(
    form_token: &str,
    action: &str,
    form: &ChangeForm,
    effect: &[String],
) -> Markup {
    html! {
        section.card.narrow aria-labelledby="confirm-title" {
            h1 #confirm-title { "Change " (form.name) "?" }
            ul #effect { @for sentence in effect.iter().filter(|sentence| !sentence.is_empty()) { li { (sentence) } } }
            form method="post" action=(format!("/dashboard/caller/{action}")) {
                input type="hidden" name="form_token" value=(form_token);
                input type="hidden" name="confirmed" value="yes";
                @for (name, value) in form.fields() { input type="hidden" name=(name) value=(value); }
                button #confirm type="submit" autofocus { "Change it" }
                a.button.plain href=(link::caller(&form.name)) { "Cancel" }
            }
            p.muted.small { "The change has a line in the audit log." }
        }
    }
}
