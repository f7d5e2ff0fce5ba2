//! `/livez`, `/readyz` and the reference's `/healthcheck`.

use axum::extract::State;
use axum::http::StatusCode;

use super::edge::Edge;
use super::problem::Problem;

/// The process runs, or it would not say so.
pub async fn live() -> &'static str {
    "OK"
}

/// Whether requests should come here; if not, why.
pub async fn ready(State(edge): State<Edge>) -> Result<&'static str, Problem> {
    match edge.readiness.phase().objection() {
        None => Ok("OK"),
        Some(reason) => Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, reason)),
    }
}
