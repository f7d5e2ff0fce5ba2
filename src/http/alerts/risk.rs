//! `/v1/risks` and `/v1/callers/{name}/risk`: how risky callers are, and why.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{NO_ALERTS, alerts, listed};
use crate::alerts::{Risk, RiskReason, risks};
use crate::http::auth::{Authorized, Viewer};
use crate::http::change::check_name;
use crate::http::edge::Edge;
use crate::http::extract::{UrlPath, UrlQuery};
use crate::http::openapi::{self, Description, Operation, Output};
use crate::http::problem::Problem;
use crate::observe::audit::instant;

/// Callers of a list, if the query does not say it, and at most.
const LIMIT: usize = 50;
const LIMIT_MAX: usize = 1_000;

pub fn operations() -> [Operation; 2] {
    [
        openapi::get("/v1/risks", "listRisks", "List the callers with the highest risk", list),
        openapi::get(
            "/v1/callers/{name}/risk",
            "getRisk",
            "Show the risk of a caller, from 0 to 100, and its reasons",
            show,
        ),
    ]
}

/// The query of risks.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RisksParams {
    /// How many callers.
    #[serde(default = "limit")]
    #[schemars(range(min = 1, max = LIMIT_MAX))]
    limit: usize,
}

fn limit() -> usize {
    LIMIT
}

/// The callers with the highest risk, highest first.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Risks")]
struct RisksBody {
    /// The risks are those of all sidecars, and not of this one alone.
    of_fleet: bool,
    items: Vec<RiskBody>,
}

/// The risk of a caller: 100 x (1 - product of (1 - share / 100)) over its reasons.
#[derive(Debug, Default, Serialize, JsonSchema)]
#[schemars(rename = "Risk")]
pub struct RiskBody {
    pub caller: String,
    /// From 0 to 100.
    pub risk: f64,
    /// The highest share first; none if the risk is 0.
    pub reasons: Vec<RiskReasonBody>,
}

/// What an alert adds to the risk of its caller.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "RiskReason")]
pub struct RiskReasonBody {
    /// The id of the alert.
    pub alert: String,
    pub rule: String,
    /// A line for people.
    pub title: String,
    /// From 0 to 100: that of the rule, halved with each hour since the alert was closed.
    pub share: f64,
    /// When the alert was opened.
    #[schemars(extend("format" = "date-time"))]
    pub since: String,
    /// When the alert was closed; absent if it is open.
    #[schemars(extend("format" = "date-time"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
}

impl From<Risk> for RiskBody {
    fn from(Risk { caller, value, reasons }: Risk) -> Self {
        let rounded = |number: f64| (number * 10.0).round() / 10.0;
        let reason = |RiskReason { alert, rule, title, share, since, until }| RiskReasonBody {
            alert: alert.to_string(),
            rule,
            title,
            share: rounded(share),
            since: instant(since),
            until: until.map(instant),
        };
        let reasons = reasons.into_iter().map(reason).collect();
        Self { caller, risk: rounded(value), reasons }
    }
}

impl Output for RisksBody {
    fn describe(description: &mut Description<'_>) {
        description.answer::<Self>(200);
        let (_, none) = NO_ALERTS;
        description.problem("404", none);
    }
}

impl IntoResponse for RisksBody {
    fn into_response(self) -> Response {
        Json(self).into_response()
    }
}

impl Output for RiskBody {
    fn describe(description: &mut Description<'_>) {
        description.answer::<Self>(200);
        let (_, none) = NO_ALERTS;
        description.problem("404", none);
    }
}

impl IntoResponse for RiskBody {
    fn into_response(self) -> Response {
        Json(self).into_response()
    }
}

/// Lists the callers with the highest risk.
async fn list(
    _: Authorized<Viewer>,
    State(edge): State<Edge>,
    UrlQuery(RisksParams { limit }): UrlQuery<RisksParams>,
) -> Result<RisksBody, Problem> {
    if !(1..=LIMIT_MAX).contains(&limit) {
        let detail = format!("`limit` must be a number from 1 to {LIMIT_MAX}");
        return Err(Problem::new(StatusCode::BAD_REQUEST, detail));
    }
    let policy = alerts(&edge)?.policy.load_full();
    let known = listed(&edge).await?;
    let items = risks(&policy, &known).into_iter().take(limit).map(RiskBody::from).collect();
    Ok(RisksBody { of_fleet: known.of_fleet, items })
}

async fn show(
    _: Authorized<Viewer>,
    State(edge): State<Edge>,
    UrlPath(name): UrlPath<String>,
) -> Result<RiskBody, Problem> {
    check_name(&name)?;
    risk_of(&edge, name).await
}

/// The risk of a caller.
///
/// # Errors
/// If the process has no files of alerts.
pub async fn risk_of(edge: &Edge, caller: String) -> Result<RiskBody, Problem> {
    let policy = alerts(edge)?.policy.load_full();
    let known = risks(&policy, &listed(edge).await?);
    let known = known.into_iter().find(|risk| risk.caller == caller);
    Ok(known.map_or_else(|| RiskBody { caller, ..RiskBody::default() }, RiskBody::from))
}
