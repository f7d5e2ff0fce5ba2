//! `/v1/latencies`: how long those that a policy may choose take to answer, told by whoever measures it.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use schemars::JsonSchema;
use serde::Serialize;

use super::callers::Body;
use super::callers::json;
use super::edge::Edge;
use super::problem::Problem;

/// Latencies in milliseconds by name; null where nobody has told one lately.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(transparent)]
#[schemars(rename = "Latencies")]
pub struct LatenciesBody(BTreeMap<String, Option<f64>>);

/// Tells the latency of every name.
pub async fn list(State(edge): State<Edge>) -> Json<LatenciesBody> {
    Json(LatenciesBody(edge.engine.latencies()))
}

/// Notes latencies by name: `{"hotelbeds": 123.4, "amadeus": 80}`; all of them or none.
pub async fn note(State(edge): State<Edge>, body: Body) -> Result<StatusCode, Problem> {
    let told: BTreeMap<String, f64> = json(body)?;
    edge.engine
        .note_latencies(&told)
        .map_err(|error| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, error.to_string()))?;
    Ok(StatusCode::NO_CONTENT)
}
