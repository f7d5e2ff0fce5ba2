//! `/v1/usage`, `/v1/denials` and `/v1/top`: what all sidecars have decided, or this one alone.

mod body;
mod params;

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use schemars::JsonSchema;
use serde::Serialize;
use tokio::task::{JoinError, spawn_blocking};
use tokio::time::timeout;

use super::auth::{Authorized, Viewer};
use super::edge::{Edge, UsageSources};
use super::extract::UrlQuery;
use super::openapi::{self, Operation};
use super::problem::Problem;
use crate::clock::Timestamp;
use crate::observe::audit::instant;
use crate::store::StoreError;
use crate::store::sums::SumsError;
use crate::usage::{Group, Page, Total, UsageQuery};
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

/// How long the store may take to tell sums.
const STORE_TIMEOUT: Duration = Duration::from_secs(5);

/// Whose requests are summed.
#[derive(Clone, Copy, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "UsageScope")]
enum Scope {
    Fleet,
    Sidecar,
}

/// Some groups of what was counted, with the scope of the counts.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "{T}Page")]
struct PageBody<T> {
    /// `fleet`: of all sidecars of the store. `sidecar`: of this one alone.
    scope: Scope,
    /// Why the store was not asked: the sums are those of this sidecar since its start.
    #[serde(skip_serializing_if = "Option::is_none")]
    unavailable: Option<String>,
    /// When this sidecar began to count: its start.
    since: String,
    /// The start of the first minute, hour or day in the sums; older ones are no longer kept.
    from: String,
    /// Requests of this sidecar that are in no sum, because more came than could be recorded.
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
    mut query: UsageQuery,
    item: fn(&UsageQuery, &Group, &Total) -> T,
) -> Result<Json<PageBody<T>>, Problem> {
    let sources = edge.api.usage.clone().ok_or_else(usage_is_off)?;
    let now = edge.engine.now();
    if query.from == Timestamp::default() {
        query.from = query.granularity.oldest(now);
    }
    let query = Arc::new(query);
    let (scope, page, unavailable) = match stored(&sources, &query, now).await {
        Ok(Some(page)) => {
            let is_shared = sources.sums.as_ref().is_some_and(|sums| sums.is_shared());
            (if is_shared { Scope::Fleet } else { Scope::Sidecar }, page, None)
        }
        Ok(None) => (Scope::Sidecar, counted(&sources, &query, now).await?, None),
        Err(error @ SumsError::TooMany) => {
            let detail = format!("{error}: choose a shorter time, or name a caller");
            return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail));
        }
        Err(SumsError::Store(error)) => {
            (Scope::Sidecar, counted(&sources, &query, now).await?, Some(error.to_string()))
        }
    };
    Ok(Json(PageBody {
        scope,
        unavailable,
        since: instant(sources.memory.since()),
        from: instant(page.from),
        dropped: edge.metrics.sink_dropped.get(),
        items: page.groups.iter().map(|(group, total)| item(&query, group, total)).collect(),
        next: page.more.then_some(query.range.end),
    }))
}

/// What this sidecar has counted.
async fn counted(
    sources: &UsageSources,
    query: &Arc<UsageQuery>,
    now: Timestamp,
) -> Result<Page, Problem> {
    let (memory, query) = (sources.memory.clone(), query.clone());
    // Off the threads that answer requests.
    spawn_blocking(move || memory.sum(&query, now)).await.map_err(|error| not_summed(&error))
}

/// What all sidecars have counted; None if nothing is stored.
async fn stored(
    sources: &UsageSources,
    query: &Arc<UsageQuery>,
    now: Timestamp,
) -> Result<Option<Page>, SumsError> {
    let Some(sums) = &sources.sums else { return Ok(None) };
    let question = query.question(sources.retention, now);
    let late = |_| StoreError::Late { deadline: STORE_TIMEOUT };
    let answer = timeout(STORE_TIMEOUT, sums.ask(&question)).await.map_err(late)??;
    let (query, from) = (query.clone(), query.stored_from(sources.retention, now));
    let page = spawn_blocking(move || query.sum_stored(&answer, from)).await;
    let garbled = |error: JoinError| StoreError::Garbled { reason: error.to_string() };
    Ok(Some(page.map_err(garbled)?))
}

fn not_summed(error: &JoinError) -> Problem {
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, format!("the usage was not summed: {error}"))
}

fn usage_is_off() -> Problem {
    let detail = "this sidecar does not count usage: its setting `usage` is false";
    Problem::new(StatusCode::NOT_FOUND, detail)
}
