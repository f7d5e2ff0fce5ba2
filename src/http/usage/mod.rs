//! `/v1/usage`, `/v1/denials`, `/v1/top`, `/v1/report`, `/v1/forecast` and `/v1/costs`: what all sidecars have decided, or this one alone.

mod body;
mod costs;
mod forecast;
mod kinds;
mod params;
mod provider_spend;
mod reading;
mod report;

use axum::Json;
use axum::extract::State;
use schemars::JsonSchema;
use serde::Serialize;

use super::auth::{Authorized, Own, Viewer};
use super::edge::Edge;
use super::extract::UrlQuery;
use super::openapi::{self, Operation, StatusText};
use super::problem::Problem;
use crate::observe::audit::instant;
use crate::usage::{Group, Total, UsageQuery};
pub use body::{DenialItem, NamesBody, UsageItem};
pub use costs::{BudgetStatus, CostsBody, CostsParams, costs};
use forecast::forecast;
pub use forecast::{ForecastItem, forecasts};
use params::{DenialsParams, TopParams, UsageParams};
pub use provider_spend::{ProviderSpend, spend_by_provider};
use reading::Reading;
pub use reading::{Scope, read, usage_is_off};
pub use report::{Report, ReportParams, report};

/// Problems of operations that read sums.
const PROBLEMS: [StatusText; 3] = [
    (404, "Usage is not counted"),
    (422, "No policy has the domain (INVALID_RESOURCE_TYPE), or the sums are too many"),
    (500, "The sums were not made"),
];

pub fn operations() -> [Operation; 6] {
    [
        openapi::get(
            "/v1/usage",
            "getUsage",
            "Sum requests, and hits of limits, by minute, hour or day and by other dimensions",
            usage,
        )
        .or(PROBLEMS),
        openapi::get(
            "/v1/denials",
            "listDenials",
            "List refusals by caller, limit and reason, the most frequent first",
            denials,
        )
        .or(PROBLEMS),
        openapi::get(
            "/v1/top",
            "listTop",
            "List the callers, limits or providers with the most requests, refusals or hits",
            top,
        )
        .or(PROBLEMS),
        openapi::get(
            "/v1/report",
            "getReport",
            "Report the usage of a day, a week or a month by caller and limit, as JSON or CSV",
            report,
        )
        .or(PROBLEMS),
        openapi::get(
            "/v1/forecast",
            "getForecast",
            "Forecast when the limits of a caller will be used up",
            forecast,
        )
        .or([
            (404, "Usage is not counted, or no limit applies to the caller (QUOTA_NOT_FOUND)"),
            (422, "No policy has the domain or the entries (INVALID_RESOURCE_TYPE)"),
        ]),
        openapi::get(
            "/v1/costs",
            "getCosts",
            "Show what is spent, projected budgets, and the cheapest and best providers",
            costs::show,
        )
        .or(PROBLEMS),
    ]
}

/// Some groups of what was counted, with the scope of the counts.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "{T}Page")]
pub struct PageBody<T> {
    /// `fleet`: of all sidecars of the store. `sidecar`: of this one alone.
    pub scope: Scope,
    /// When this sidecar began to count: its start.
    pub since: String,
    /// The start of the first minute, hour or day in the sums; older ones are no longer kept.
    pub from: String,
    /// The currency of `cost`: that of the policies' prices; absent if they have none, or several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub currency: Option<String>,
    /// Requests of this sidecar that are in no sum, because more came than could be recorded.
    pub dropped: u64,
    pub items: Vec<T>,
    /// The `after` of the next page; absent at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<usize>,
}

/// Sums usage over time.
async fn usage(
    by: Authorized<Own>,
    State(edge): State<Edge>,
    UrlQuery(params): UrlQuery<UsageParams>,
) -> Result<Json<PageBody<UsageItem>>, Problem> {
    by.principal.may_read(params.caller())?;
    stored(&edge, params.query(edge.engine.now())?, UsageItem::new).await.map(Json)
}

/// Lists refusals.
async fn denials(
    by: Authorized<Own>,
    State(edge): State<Edge>,
    UrlQuery(params): UrlQuery<DenialsParams>,
) -> Result<Json<PageBody<DenialItem>>, Problem> {
    by.principal.may_read(params.caller())?;
    stored(&edge, params.query(edge.engine.now())?, DenialItem::new).await.map(Json)
}

/// Lists what has the most.
async fn top(
    _: Authorized<Viewer>,
    State(edge): State<Edge>,
    UrlQuery(params): UrlQuery<TopParams>,
) -> Result<Json<PageBody<UsageItem>>, Problem> {
    stored(&edge, params.query(edge.engine.now())?, UsageItem::new).await.map(Json)
}

/// The groups of a query of the store, as `item` shows them.
async fn stored<T>(
    edge: &Edge,
    query: UsageQuery,
    item: fn(&UsageQuery, &Group, &Total) -> T,
) -> Result<PageBody<T>, Problem> {
    Ok(page(edge, read(edge, query).await?.stored()?, item))
}

/// The groups of a query, as `item` shows them; while the store is unavailable, those of this sidecar.
///
/// # Errors
/// If usage is not counted, or the query has too many groups.
pub async fn answer<T>(
    edge: &Edge,
    query: UsageQuery,
    item: fn(&UsageQuery, &Group, &Total) -> T,
) -> Result<PageBody<T>, Problem> {
    Ok(page(edge, read(edge, query).await?, item))
}

/// What was read, as `item` shows each group.
fn page<T>(
    edge: &Edge,
    reading: Reading,
    item: fn(&UsageQuery, &Group, &Total) -> T,
) -> PageBody<T> {
    let Reading { scope, query, page, since, .. } = reading;
    PageBody {
        scope,
        since: instant(since),
        from: instant(page.from),
        currency: query.currency.clone().filter(|_| query.has_money()),
        dropped: dropped(edge),
        items: page.groups.iter().map(|(group, total)| item(&query, group, total)).collect(),
        next: page.more.then_some(query.range.end),
    }
}

/// Requests of this sidecar that are in no sum.
fn dropped(edge: &Edge) -> u64 {
    edge.metrics.sink_dropped.get()
}
