//! `/livez`, `/readyz` and the reference's `/healthcheck`.

use axum::extract::State;
use axum::http::StatusCode;

use super::edge::Edge;
use super::problem::Problem;

/// OK: the process runs.
pub async fn live() -> &'static str {
    "OK"
}

/// OK while the process accepts requests; otherwise a problem with the reason.
pub async fn ready(State(edge): State<Edge>) -> Result<&'static str, Problem> {
    match edge.readiness.phase().objection() {
        None => Ok("OK"),
        Some(reason) => Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, reason)),
    }
}
