//! `/v1/usage`, `/v1/denials` and `/v1/top`: what this sidecar has decided since its start.

mod body;
mod params;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use schemars::JsonSchema;
use serde::Serialize;
use tokio::task::spawn_blocking;

use super::auth::{Authorized, Viewer};
use super::edge::Edge;
use super::extract::UrlQuery;
use super::openapi::{self, Operation};
use super::problem::Problem;
use crate::observe::audit::instant;
use crate::usage::{Group, Total, UsageQuery};
use body::{DenialItem, UsageItem};
use params::{DenialsParams, TopParams, UsageParams};

pub fn operations() -> [Operation; 3] {
    [
        openapi::get(
            "/v1/usage",
            "getUsage",
            "Sum requests, and hits of limits, by minute, hour or day and by other dimensions",
            usage,
        ),
        openapi::get(
            "/v1/denials",
            "listDenials",
            "List refusals by caller, limit and reason, the most frequent first",
            denials,
        ),
        openapi::get(
            "/v1/top",
            "listTop",
            "List the callers, limits or providers with the most requests, refusals or hits",
            top,
        ),
    ]
}

/// Some groups of what was counted, with the scope of the counts.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "{T}Page")]
struct PageBody<T> {
    /// Always `sidecar`: requests that other sidecars decided are not in it.
    scope: &'static str,
    /// When this sidecar began to count: its start.
    since: String,
    /// The start of the first minute, hour or day in the sums; older ones are no longer kept.
    from: String,
    /// Requests since the start that are in no sum, because more came than could be recorded.
    dropped: u64,
    items: Vec<T>,
    /// The `after` of the next page; absent at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<usize>,
}

/// Sums usage over time.
async fn usage(
    _: Authorized<Viewer>,
    State(edge): State<Edge>,
    UrlQuery(params): UrlQuery<UsageParams>,
) -> Result<Json<PageBody<UsageItem>>, Problem> {
    answer(&edge, params.query()?, UsageItem::new).await
}

/// Lists refusals.
async fn denials(
    _: Authorized<Viewer>,
    State(edge): State<Edge>,
    UrlQuery(params): UrlQuery<DenialsParams>,
) -> Result<Json<PageBody<DenialItem>>, Problem> {
    answer(&edge, params.query()?, DenialItem::new).await
}

/// Lists what has the most.
async fn top(
    _: Authorized<Viewer>,
    State(edge): State<Edge>,
    UrlQuery(params): UrlQuery<TopParams>,
) -> Result<Json<PageBody<UsageItem>>, Problem> {
    answer(&edge, params.query()?, UsageItem::new).await
}

async fn answer<T>(
    edge: &Edge,
    query: UsageQuery,
    item: fn(&UsageQuery, &Group, &Total) -> T,
) -> Result<Json<PageBody<T>>, Problem> {
    let usage = edge.api.usage.clone().ok_or_else(usage_is_off)?;
    let (since, now) = (usage.since(), edge.engine.now());
    // Off the threads that answer requests.
    let sum = spawn_blocking(move || (usage.sum(&query, now), query)).await;
    let (page, query) = sum.map_err(|error| {
        let detail = format!("the usage was not summed: {error}");
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, detail)
    })?;
    Ok(Json(PageBody {
        scope: "sidecar",
        since: instant(since),
        from: instant(page.from),
        dropped: edge.metrics.sink_dropped.get(),
        items: page.groups.iter().map(|(group, total)| item(&query, group, total)).collect(),
        next: page.more.then_some(query.range.end),
    }))
}

fn usage_is_off() -> Problem {
    let detail = "this sidecar does not count usage: its setting `usage` is false";
    Problem::new(StatusCode::NOT_FOUND, detail)
}
