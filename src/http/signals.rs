//! `/v1/signals`: numbers that limits follow, as reported from outside, and the limits that follow them.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::auth::{Authorized, Operator, Viewer};
use super::edge::Edge;
use super::extract::{AlwaysAvailable, JsonObject, UrlPath};
use super::openapi::{self, Description, Operation, Output};
use super::problem::Problem;
use super::recorded::Recorded;
use super::reply::NoContent;
use crate::engine::{AdjustedLimit, SignalError};
use crate::limit::Signal;
use crate::observe::audit::{Changed, instant};

pub fn operations() -> [Operation; 2] {
    [
        openapi::get(
            "/v1/signals",
            "listSignals",
            "List the signals that limits follow, and how much of these limits is in force",
            list,
        ),
        openapi::post("/v1/signals/{name}", "noteSignal", "Report the value of a signal", note)
            .or([(422, "The value is out of range")]),
    ]
}

/// The value of a signal.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "SignalValue")]
struct SignalForm {
    #[schemars(range(min = 0.0, max = 1e15))]
    value: f64,
}

/// The signals, and the limits that follow them.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Signals")]
struct SignalsBody {
    signals: Vec<SignalItem>,
    limits: Vec<AdjustedItem>,
}

/// A signal that is reported.
#[derive(Debug, Serialize, JsonSchema)]
struct SignalItem {
    name: String,
    /// Absent if it was never reported.
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<f64>,
    #[schemars(extend("format" = "date-time"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    at: Option<String>,
}

/// A limit that follows a signal.
#[derive(Debug, Serialize, JsonSchema)]
struct AdjustedItem {
    domain: String,
    /// As metrics and usage name it.
    limit: String,
    /// The name of the signal, or the utilization that it follows.
    signal: String,
    /// How much of the limit is in force, from 0 to 100.
    percent: f64,
    /// `above` or `below` its bound, `between` both, `stale`, or `no_signal`.
    reason: &'static str,
    /// The last value of the signal; absent if there was none.
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<f64>,
    #[schemars(extend("format" = "date-time"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    at: Option<String>,
}

/// A signal was taken.
struct Noted;

impl axum::response::IntoResponse for Noted {
    fn into_response(self) -> axum::response::Response {
        NoContent.into_response()
    }
}

impl Output for Noted {
    fn describe(description: &mut Description<'_>) {
        NoContent::describe(description);
        description.problem("404", "No limit follows the signal");
        description.problem("503", "The store is unavailable");
    }
}

/// Lists signals, and the limits that follow them.
async fn list(_: Authorized<Viewer>, AlwaysAvailable(edge): AlwaysAvailable) -> Json<SignalsBody> {
    let signal = |(name, reported): (String, Option<Signal>)| SignalItem {
        name,
        value: reported.map(|signal| signal.value),
        at: reported.map(|signal| instant(signal.at)),
    };
    let signals = edge.engine.signals().into_iter().map(signal).collect();
    let limits = edge.engine.adjusted_limits().iter().map(AdjustedItem::from).collect();
    Json(SignalsBody { signals, limits })
}

/// Takes the value of a signal: `{"value": 0.07}`.
async fn note(
    by: Authorized<Operator>,
    State(edge): State<Edge>,
    UrlPath(name): UrlPath<String>,
    JsonObject(form): JsonObject<SignalForm>,
) -> Result<Noted, Problem> {
    let value = form.value;
    edge.engine.check_signal(&name, value)?;
    let change = Changed::Signal { name: name.clone(), value };
    let recorded = Recorded::begin(&edge, &by.principal, "report signal", change).await?;
    let noted = edge.engine.note_signal(&name, value).await.map_err(Problem::from);
    recorded.end(noted).await.map(|()| Noted)
}

impl From<SignalError> for Problem {
    fn from(error: SignalError) -> Self {
        let status = match error {
            SignalError::UnknownName { .. } => StatusCode::NOT_FOUND,
            SignalError::OutOfRange { .. } => StatusCode::UNPROCESSABLE_ENTITY,
            SignalError::Store(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self::new(status, error.to_string())
    }
}

impl From<&AdjustedLimit> for AdjustedItem {
    fn from(limit: &AdjustedLimit) -> Self {
        let AdjustedLimit { domain, label, adjust } = limit;
        let in_force = adjust.in_force();
        let reported = in_force.and_then(|in_force| in_force.state).map(|state| state.signal);
        Self {
            domain: domain.clone(),
            limit: label.to_string(),
            signal: adjust.signal.to_string(),
            percent: f64::from(adjust.scale().hundredths()) / 100.0,
            reason: in_force.map_or("no_signal", |in_force| in_force.adjusted.reason.name()),
            value: reported.map(|signal| signal.value),
            at: reported.map(|signal| instant(signal.at)),
        }
    }
}
