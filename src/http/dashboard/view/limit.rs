//! A limit of a caller, as the page of an operator and that of the caller show it.

use maud::{Markup, html};

use super::parts::{CRITICAL, WARNING, bar, distance, time};
use crate::http::dashboard::format;
use crate::http::quota::QuotaItem;
use crate::http::usage::ForecastItem;

/// A limit with its bar.
pub fn limit(item: &QuotaItem, forecast: Option<&ForecastItem>, now_ms: u64) -> Markup {
    html! {
        div.limit data-limit=(item.limit) {
            div.row {
                span { strong { (item.limit) } " " span.muted.small { (item.domain) } }
                span {
                    span.used { (format::whole(item.used)) " of " (format::whole(item.quota)) }
                    " " (mark(item.percent))
                }
            }
            (bar(&item.limit, item.percent))
            div.row.muted.small {
                span {
                    (format::whole(item.remaining)) " left"
                    @if item.held != 0 { ", " (format::whole(item.held)) " held by reservations" }
                    @if item.bonuses != 0 { ", " (format::whole(item.bonuses)) " of bonuses" }
                    @if let Some(grace) = &item.grace {
                        ", grace: " (format::whole(grace.left)) " more"
                        @if let Some(until) = &grace.until { " until " (time(until)) }
                    }
                    @if let Some(account) = &item.account { ", counter of " (account) }
                    @if item.overridden.is_some() { ", override" }
                }
                span { @if let Some(reset) = &item.reset_at { "free again " (distance(reset, now_ms)) } }
            }
            @if let Some(text) = forecast.and_then(expected) { p.small.forecast { (text) } }
        }
    }
}

/// A word for a limit that is nearly used up.
fn mark(percent: f64) -> Markup {
    html! {
        @if CRITICAL <= percent { span.pill.critical { (format::percent(percent)) } }
        @else if WARNING <= percent { span.pill.warning { (format::percent(percent)) } }
        @else { span.pill { (format::percent(percent)) } }
    }
}

/// When it will be used up.
pub fn expected(forecast: &ForecastItem) -> Option<Markup> {
    let expected = forecast.expected.as_ref()?;
    Some(html! {
        @match &expected.reached_at {
            Some(at) => {
                "Reaches " (forecast.limit) " at about " (time(at))
                @if let Some(earliest) = &expected.earliest_at {
                    " (between " (time(earliest)) " and "
                    @match &expected.latest_at { Some(latest) => (time(latest)), None => "never" }
                    ", 80 %)"
                }
            },
            None => { "Lasts until " (time(&expected.until)) ", as expected" },
        }
        "."
    })
}
