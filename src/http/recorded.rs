//! The line of the audit log that each change over the API has before it is made.

use axum::http::StatusCode;

use super::auth::Principal;
use super::edge::Edge;
use super::problem::Problem;
use crate::observe::audit::{Changed, Entry};

/// The entry of a change that a principal is about to make.
pub fn entry(edge: &Edge, by: &Principal, what: &'static str, change: Changed) -> Entry {
    let (at, who, peer) = (edge.engine.now(), by.name.clone(), by.peer);
    Entry { at, who, peer, what, change, failed: None }
}

/// Writes an entry to the audit log.
///
/// # Errors
/// When it can't be written: then the change is not to be made.
pub async fn record(edge: &Edge, entry: &Entry) -> Result<(), Problem> {
    edge.api.audit.write(entry).await.map_err(|error| {
        tracing::error!(%error, "writing the audit log failed; the change is rejected");
        let detail = "writing the audit log failed; nothing was changed";
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail)
    })
}
