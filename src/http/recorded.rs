//! The line of the audit log that each change over the API has before it is made.

use axum::http::StatusCode;

use super::auth::Principal;
use super::edge::Edge;
use super::problem::Problem;
use crate::observe::audit::{Changed, Entry};

/// A change that has its line and is about to be made.
pub struct Recorded<'e> {
    edge: &'e Edge,
    entry: Entry,
}

impl<'e> Recorded<'e> {
    /// Writes the line of a change.
    ///
    /// # Errors
    /// When it can't be written: then the change is not to be made.
    pub async fn begin(
        edge: &'e Edge,
        by: &Principal,
        what: &'static str,
        change: Changed,
    ) -> Result<Self, Problem> {
        let entry = entry(edge, by, what, change);
        record(edge, &entry).await?;
        Ok(Self { edge, entry })
    }

    /// Writes the one line of a change that is refused before it is tried.
    ///
    /// # Errors
    /// When it can't be written.
    pub async fn refused(
        edge: &Edge,
        (by, what, change): (&Principal, &'static str, Changed),
        problem: &Problem,
    ) -> Result<(), Problem> {
        let failed = Some(problem.reason());
        record(edge, &Entry { failed, ..entry(edge, by, what, change) }).await
    }

    /// Passes the result of the change on. If it failed, a second line tells that.
    ///
    /// # Errors
    /// That of the change, or the line can't be written.
    pub async fn end<T>(&self, made: Result<T, Problem>) -> Result<T, Problem> {
        if let Err(problem) = &made {
            // The detail may have the name of the caller, which must stay erasable.
            let failed = Some(problem.reason());
            record(self.edge, &Entry { failed, ..self.entry.clone() }).await?;
        }
        made
    }
}

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
