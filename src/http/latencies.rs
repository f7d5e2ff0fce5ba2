//! `/v1/latencies`: reported latencies of the providers of choices.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use schemars::JsonSchema;
use serde::Serialize;

use super::auth::{Authorized, Operator, Viewer};
use super::edge::Edge;
use super::extract::{AlwaysAvailable, JsonObject};
use super::openapi::{self, Operation};
use super::problem::Problem;
use super::recorded::Recorded;
use super::reply::NoContent;
use crate::engine::LatencyError;
use crate::observe::audit::Changed;

const LATENCIES: &str = "/v1/latencies";

pub fn operations() -> [Operation; 2] {
    [
        openapi::get(LATENCIES, "listLatencies", "List the latencies of providers", list),
        openapi::post(
            LATENCIES,
            "noteLatencies",
            "Report latencies of providers in milliseconds: all are stored, or none",
            note,
        )
        .or([(422, "No policy has a provider, or a latency is out of range")]),
    ]
}

/// Latencies in milliseconds by name; null without a recent report.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(transparent)]
#[schemars(rename = "Latencies")]
pub struct LatenciesBody(BTreeMap<String, Option<f64>>);

/// Lists the latencies of all providers.
async fn list(
    _: Authorized<Viewer>,
    AlwaysAvailable(edge): AlwaysAvailable,
) -> Json<LatenciesBody> {
    Json(LatenciesBody(edge.engine.latencies()))
}

/// Stores latencies by name, such as `{"hotelbeds": 123.4, "amadeus": 80}`; all of them or none.
async fn note(
    by: Authorized<Operator>,
    State(edge): State<Edge>,
    JsonObject(latencies): JsonObject<BTreeMap<String, f64>>,
) -> Result<NoContent, Problem> {
    edge.engine.check_latencies(&latencies)?;
    let change = Changed::Latencies(latencies.clone());
    let recorded = Recorded::begin(&edge, &by.principal, "report latencies", change).await?;
    let noted = edge.engine.note_latencies(&latencies).map_err(Problem::from);
    recorded.end(noted).await.map(|()| NoContent)
}

impl From<LatencyError> for Problem {
    fn from(error: LatencyError) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, error.to_string())
    }
}
