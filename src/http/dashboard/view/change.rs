//! The question before a change.

use maud::{Markup, html};

/// A question.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    pub title: &'a str,
    /// Where the form is sent to.
    pub path: &'a str,
    /// The text of the button that makes the change.
    pub button: &'a str,
    /// Whether the change takes something away.
    pub is_danger: bool,
    /// Where to go on without the change.
    pub cancel: &'a str,
    /// What the change would do.
    pub effect: &'a [String],
}

/// What a change would do, and the form that makes it, with the fields that are sent again.
pub fn confirmation(question: &Question<'_>, form_token: &str, fields: &[(&str, &str)]) -> Markup {
    let effect = question.effect.iter().filter(|sentence| !sentence.is_empty());
    html! {
        section.card.narrow aria-labelledby="confirm-title" {
            h1 #confirm-title { (question.title) }
            ul #effect { @for sentence in effect { li { (sentence) } } }
            form method="post" action=(question.path) {
                input type="hidden" name="form_token" value=(form_token);
                input type="hidden" name="confirmed" value="yes";
                @for (name, value) in fields { input type="hidden" name=(name) value=(value); }
                button #confirm .danger[question.is_danger] type="submit" autofocus { (question.button) }
                a.button.plain href=(question.cancel) { "Cancel" }
            }
            p.muted.small { "The change has a line in the audit log." }
        }
    }
}
