//! `/v1/latencies`: latencies of the providers that a choice selects from, as reported from outside.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use schemars::JsonSchema;
use serde::Serialize;

use super::auth::{Authorized, Operator, Viewer};
use super::edge::Edge;
use super::extract::JsonObject;
use super::openapi::{self, Operation};
use super::problem::Problem;
use super::reply::NoContent;

const LATENCIES: &str = "/v1/latencies";

pub fn operations() -> [Operation; 2] {
    [
        openapi::get(LATENCIES, "listLatencies", "List the latencies of providers", list),
        openapi::post(
            LATENCIES,
            "noteLatencies",
            "Report latencies of providers in milliseconds: all are stored, or none",
            note,
        ),
    ]
}

/// Latencies in milliseconds by name; null where none was reported lately.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(transparent)]
#[schemars(rename = "Latencies")]
pub struct LatenciesBody(BTreeMap<String, Option<f64>>);

/// Lists the latency of every provider.
async fn list(_: Authorized<Viewer>, State(edge): State<Edge>) -> Json<LatenciesBody> {
    Json(LatenciesBody(edge.engine.latencies()))
}

/// Takes latencies by name: `{"hotelbeds": 123.4, "amadeus": 80}`; all of them or none.
async fn note(
    _: Authorized<Operator>,
    State(edge): State<Edge>,
    JsonObject(latencies): JsonObject<BTreeMap<String, f64>>,
) -> Result<NoContent, Problem> {
    edge.engine
        .note_latencies(&latencies)
        .map_err(|error| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, error.to_string()))?;
    Ok(NoContent)
}
