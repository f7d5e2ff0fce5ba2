//! `/v1/providers/{name}/counts`: what a provider has counted itself, to be compared with what was decided.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::Deserialize;

use super::alerts::alerts;
use super::auth::{Authorized, Operator};
use super::edge::Edge;
use super::extract::{JsonObject, UrlPath};
use super::openapi::{self, Description, Operation, Output};
use super::problem::Problem;
use super::recorded::Recorded;
use super::reply::NoContent;
use crate::alerts::ProviderCount;
use crate::limit::AMOUNT_MAX;
use crate::observe::audit::Changed;
use crate::policy::parse_until;

const HOUR_MS: u64 = 3_600_000;

/// How old an hour may be.
const AGE_MAX_MS: u64 = 48 * HOUR_MS;

pub fn operation() -> Operation {
    openapi::post(
        "/v1/providers/{name}/counts",
        "noteProviderCount",
        "Report what a provider counted in an hour, to find hits that no decision explains",
        note,
    )
    .or([(
        422,
        "The hour has not begun, is older than two days or no hour, or the hits are too many",
    )])
}

/// The hits that a provider counted in an hour. A count of the same hour replaces the earlier one.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "ProviderCount")]
struct CountForm {
    /// The domain of the provider.
    domain: String,
    /// The start of the hour in UTC, such as 2026-12-05T06:00:00Z.
    #[schemars(extend("format" = "date-time"))]
    start: String,
    hits: u64,
}

/// A count was taken.
struct Noted;

impl IntoResponse for Noted {
    fn into_response(self) -> Response {
        NoContent.into_response()
    }
}

impl Output for Noted {
    fn describe(description: &mut Description<'_>) {
        NoContent::describe(description);
        description
            .problem("404", "There are no files of alerts, or the domain has no such provider");
    }
}

/// Takes a count: `{"domain": "travel", "start": "2026-12-05T06:00:00Z", "hits": 5400}`.
async fn note(
    by: Authorized<Operator>,
    State(edge): State<Edge>,
    UrlPath(name): UrlPath<String>,
    JsonObject(form): JsonObject<CountForm>,
) -> Result<Noted, Problem> {
    let keeper = alerts(&edge)?.keeper.clone();
    let invalid = |detail: String| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail);
    let CountForm { domain, start, hits } = form;
    let now_ms = edge.engine.now().as_ms();
    let start_ms =
        parse_until(&start).map_err(|reason| invalid(format!("start: {reason}")))?.as_ms();
    if !start_ms.is_multiple_of(HOUR_MS) {
        return Err(invalid(format!("start: {start} is not the start of an hour in UTC")));
    }
    if now_ms < start_ms || AGE_MAX_MS < now_ms - start_ms {
        return Err(invalid(format!("start: {start} is not within the last two days")));
    }
    if AMOUNT_MAX < hits {
        return Err(invalid(format!("hits: at most {AMOUNT_MAX}")));
    }
    let is_asked = |of: &str, provider: &str| of == domain && provider == name;
    if edge.engine.providers(is_asked).await.is_empty() {
        let detail = format!("domain `{domain}` has no provider `{name}`; see /v1/providers");
        return Err(Problem::new(StatusCode::NOT_FOUND, detail));
    }
    let signal = format!("{domain}/{name} {start}");
    let change = Changed::Signal { name: signal, value: hits as f64 };
    let recorded = Recorded::begin(&edge, &by.principal, "report provider count", change).await?;
    let count = ProviderCount { domain, provider: name, start_ms, hits };
    keeper.change(|book, _| book.note_count(&count)).await;
    recorded.end(Ok(Noted)).await
}
