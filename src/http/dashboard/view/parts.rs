//! Parts of several pages: numbers, bars, and lists.

use maud::{Markup, html};

use crate::http::dashboard::format;

/// From which part of a limit on a bar warns, and from which it is critical.
pub const WARNING: f64 = 80.0;
pub const CRITICAL: f64 = 95.0;

/// How far a limit is used up.
pub fn urgency(percent: f64) -> &'static str {
    if CRITICAL <= percent {
        "critical"
    } else if WARNING <= percent {
        "warning"
    } else {
        "fine"
    }
}

/// A bar of a limit that is used to so many percent.
pub fn bar(label: &str, percent: f64) -> Markup {
    let shown = percent.clamp(0.0, 100.0);
    html! {
        span.meter role="meter" aria-label=(label) aria-valuemin="0" aria-valuemax="100"
            aria-valuenow=(format!("{shown:.1}")) aria-valuetext=(format::percent(percent)) {
            svg viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true" {
                rect.track width="100" height="8" {}
                rect class=(urgency(percent)) width=(format!("{shown:.2}")) height="8" {}
            }
        }
    }
}

/// A number with its name and a note, which links to what it is made of.
pub fn tile(id: &str, (name, path): (&str, &str), value: &Markup, note: &Markup) -> Markup {
    html! {
        a.tile href=(path) id=(format!("tile-{id}")) {
            span.name { (name) }
            span.value id=(id) { (value) }
            span.note { (note) }
        }
    }
}

/// A time in RFC 3339, as people read it.
pub fn time(text: &str) -> Markup {
    html! { time datetime=(text) { (format::time(text)) } }
}

/// A time in RFC 3339, told from now.
pub fn distance(text: &str, now_ms: u64) -> Markup {
    html! { time datetime=(text) title=(format::time(text)) { (format::distance(text, now_ms)) } }
}

/// In place of an empty list.
pub fn none(text: &str) -> Markup {
    html! { p.muted { (text) } }
}
