//! The page of a caller for itself.

use maud::{Markup, html};

use super::caller::tiers;
use super::limit::limit;
use super::parts::{CRITICAL, WARNING, none, time};
use crate::http::dashboard::caller::CallerPage;
use crate::http::dashboard::link::caller as to_caller;
use crate::http::dashboard::recommendation::Advice;

/// The page, with the address of an upgrade.
pub fn page(caller: &CallerPage, upgrade: Option<&str>, advice: Option<&Advice>) -> Markup {
    html! {
        div.own {
            h1 { "Your limits" @if let Some(tier) = caller.tier() { span.pill { (tier) } } }
            p.muted { (caller.name) }
            (warnings(caller, upgrade))
            section.card aria-label="Limits" {
                @match &caller.limits {
                    Err(reason) => (none(reason)),
                    Ok(items) => { @for item in items { (limit(item, caller.forecast(item), caller.now_ms)) } },
                }
            }
            @if let Some(advice) = advice { (recommended(advice, upgrade)) }
            (tiers(&caller.tiers, caller.tier()))
        }
    }
}

fn warnings(caller: &CallerPage, upgrade: Option<&str>) -> Markup {
    let items = caller.limits.iter().flatten();
    let items = items.filter(|item| WARNING <= item.percent);
    html! {
        @for item in items {
            @let (class, word) = if CRITICAL <= item.percent { ("critical", "nearly all") } else { ("warning", "much") };
            p.note-box.(class) role="status" {
                "You have used " (word) " of " strong { (item.limit) } ": " (item.used) " of " (item.quota) ". "
                @if let Some(upgrade) = upgrade { a href=(upgrade) target="_blank" rel="noopener noreferrer" { "Upgrade" } }
            }
        }
    }
}

fn recommended(advice: &Advice, upgrade: Option<&str>) -> Markup {
    html! {
        section.card #recommendation aria-labelledby="recommendation-title" {
            h2 #recommendation-title { "Recommendation" }
            @match advice {
                Advice::Keep => p { "Your tier fits what you use." },
                Advice::Higher { tier, limit, percent, amount } => {
                    p { "You use " (percent) " % of " (limit) ". The tier " strong { (tier) } " has " (amount) "." }
                    @if let Some(upgrade) = upgrade {
                        p { a.button href=(upgrade) target="_blank" rel="noopener noreferrer" { "Upgrade to " (tier) } }
                    }
                },
            }
        }
    }
}

/// A link to the page of a caller.
pub fn link(name: &str, path: &str, expires: &str) -> Markup {
    html! {
        section.card.narrow {
            h1 { "Link for " (name) }
            p { "It shows the limits of the caller, and nothing else, until " (time(expires)) "." }
            p { a #own-link href=(path) { (path) } }
            p { a href=(to_caller(name)) { "Back to the caller" } }
        }
    }
}
