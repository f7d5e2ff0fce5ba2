//! What a person or a scraper may see of the process: its paths, its metrics and its policies.

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::StatusCode;
use axum::http::header;
use axum::response::IntoResponse;
use axum::response::Response;

use serde_json::json;

use super::edge::Edge;
use crate::engine::Pressure;
use crate::metrics;

/// What `/` answers.
const INDEX: &str = "\
Tollgate, a rate-limit and quota sidecar for Envoy

POST /json         ask as over gRPC: {\"domain\": ..., \"descriptors\": [{\"entries\": [...]}]}
GET  /policy       the policies in force
GET  /v1           what the API does; GET /v1/openapi.json tells all of it
/v1/callers        what is known of callers
/v1/latencies      how long those take that a choice may choose
GET  /metrics      metrics, for Prometheus
GET  /livez        200 while the process runs
GET  /readyz       200 while requests should come here
GET  /healthcheck  the same, under the name that envoyproxy/ratelimit gives it
";

/// Tells the paths.
pub async fn index() -> &'static str {
    INDEX
}

/// Tells the metrics.
pub async fn metrics(State(edge): State<Edge>) -> Response {
    ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], edge.metrics.encode()).into_response()
}

/// Tells what is in force and under which pressure, or that it is what the asker has already.
pub async fn policy(State(edge): State<Edge>, headers: HeaderMap) -> Response {
    let policies = edge.engine.policies();
    let pressure = edge.engine.pressure();
    let levels: String = pressure.iter().map(|one| format!("-{}", one.level)).collect();
    let tag = format!("\"{}{levels}\"", policies.hash());
    let known =
        headers.get(header::IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == tag.as_bytes());
    let etag = [(header::ETAG, tag)];
    if known {
        return (StatusCode::NOT_MODIFIED, etag).into_response();
    }
    let told =
        |one: &Pressure| json!({ "domain": one.domain, "rule": one.rule, "level": one.level });
    let mut body = policies.describe();
    body["pressure"] = pressure.iter().map(told).collect();
    (etag, Json(body)).into_response()
}
