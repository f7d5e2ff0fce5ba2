//! The index, the metrics and the policies in force.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::edge::Edge;
use crate::engine::Pressure;
use crate::metrics::{CONTENT_TYPE, Metrics};

/// The answer of `/`.
const INDEX: &str = "\
Tollgate, a rate-limit and quota sidecar for Envoy

POST /json         the rate limit service as JSON: {\"domain\": ..., \"descriptors\": [{\"entries\": [...]}]}
GET  /policy       the policies in force
GET  /v1           the operations of the API; GET /v1/openapi.json describes them
/v1/callers        callers: tiers, parents, overrides and bonuses
/v1/api-keys       API keys, checked by Envoy's ext_authz
/v1/over           callers that use more of a limit than they have
/v1/latencies      latencies of the providers that choices select from
/v1/signals        signals that limits follow
/v1/usage          usage by minute, hour and day; also /v1/denials and /v1/top
/v1/alerts         open and closed alerts, silences, notifications
/v1/why/ID         explains a refusal by its id
GET  /dashboard    pages for people
GET  /metrics      metrics, for Prometheus
GET  /livez        200 while the process runs
GET  /readyz       200 while the process accepts requests
GET  /healthcheck  the same, under envoyproxy/ratelimit's name
";

/// Lists the paths.
pub async fn index() -> &'static str {
    INDEX
}

/// Shows the metrics.
pub async fn metrics(State(edge): State<Edge>) -> Response {
    metrics_text(&edge.metrics)
}

/// The metrics as a response.
pub fn metrics_text(metrics: &Metrics) -> Response {
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], metrics.encode()).into_response()
}

/// Shows the policies in force and their levels of pressure, unless the client has them already (`If-None-Match`).
pub async fn policy(State(edge): State<Edge>, headers: HeaderMap) -> Response {
    let policies = edge.engine.policies();
    let pressure = edge.engine.pressure();
    let levels: String = pressure.iter().map(|one| format!("-{}", one.level)).collect();
    let version = policies.origin().and_then(|origin| origin.version.as_deref());
    let version =
        version.map_or_else(String::new, |version| format!("-{version:?}").replace('"', "'"));
    let tag = format!("\"{}{levels}{version}\"", policies.hash());
    let known =
        headers.get(header::IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == tag.as_bytes());
    let etag = [(header::ETAG, tag)];
    if known {
        return (StatusCode::NOT_MODIFIED, etag).into_response();
    }
    let level =
        |one: &Pressure| json!({ "domain": one.domain, "rule": one.rule, "level": one.level });
    let mut body = policies.describe();
    body["pressure"] = pressure.iter().map(level).collect();
    (etag, Json(body)).into_response()
}
