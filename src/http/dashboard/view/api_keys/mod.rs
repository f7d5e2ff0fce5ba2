//! The pages of API keys.

mod form;
mod list;
mod one;

use maud::{Markup, html};

use super::parts::none;
use crate::http::dashboard::link;

pub use form::{Forms, changed, new};
pub use list::list;
pub use one::one;

/// In place of the list, if none are kept.
pub fn none_configured() -> Markup {
    html! {
        h1 { "API keys" }
        section.card { (none("No API keys are kept here: set api_key_pepper_file. See config/api-keys.md.")) }
    }
}

/// An API key that was just made, and what was done. It is shown by this page alone.
pub fn created(api_key: &str, id: &str, done: &str) -> Markup {
    html! {
        section.card.narrow aria-labelledby="created-title" {
            h1 #created-title { "Copy it now" }
            p role="status" { (done) ". It is shown this once, and nobody can look it up later." }
            p { code #new-api-key.secret { (api_key) } }
            p.muted.small { "Send it to its owner in a way that others can't read." }
            p { a #to-key href=(link::api_key(id)) { "To the API key" } }
        }
    }
}
