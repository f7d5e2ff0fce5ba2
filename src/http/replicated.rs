//! The answer to a change that a failover may still undo: who has ended something must be able to rely on it.

use axum::http::StatusCode;

use super::problem::Problem;

/// Whether a replica has what was done, which is said as a clause such as `the caller is disabled`.
///
/// # Errors
/// If none has: then it is to be done again.
pub fn confirmed(is_replicated: bool, done: &str) -> Result<(), Problem> {
    if is_replicated {
        return Ok(());
    }
    tracing::warn!(done, "no replica of Redis has confirmed a change; a failover may undo it");
    let detail = format!(
        "{done}, but no replica of Redis has confirmed it, so a failover may undo it; repeat the request"
    );
    Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail))
}
