//! Changes of a reservation that exists: in the audit log, in the counters, and in its record.

use std::time::Duration;

use axum::http::StatusCode;

use super::body::Stored;
use crate::clock::Timestamp;
use crate::engine::{AskedReservation, Standing, Verdict};
use crate::http::auth::Principal;
use crate::http::edge::Edge;
use crate::http::problem::Problem;
use crate::http::quota::limits::{HitsChange, LOOK, limits_before, record, record_refused};
use crate::http::quota::params::AskedTarget;
use crate::http::quota::{Target, refusal};
use crate::limit::Hits;
use crate::observe::audit::LimitsBefore;
use crate::policy::ReservationAction;
use crate::store::{RecordKey, StoreError};

/// When to send an operation again that the store did not answer.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// What the counters made of a change.
pub struct Made {
    pub at: Timestamp,
    /// Hits that a settlement has charged: the most of all limits. None if an earlier attempt has charged them.
    pub charged: Option<u64>,
}

/// A change of a reservation.
pub struct Change<'a> {
    pub edge: &'a Edge,
    pub by: &'a Principal,
    pub name: &'a str,
    pub id: &'a str,
}

impl Change<'_> {
    /// Makes it in the counters.
    pub async fn make(
        &self,
        stored: &Stored,
        (what, action, hits): (&'static str, ReservationAction, Hits),
        ttl: Option<Duration>,
    ) -> Result<Made, Problem> {
        let target = Target::resolve(self.edge, stored.target(self.name)?).await;
        let snapshot = self.edge.engine.snapshot();
        if stored.is_orphan(snapshot.policies()) {
            return Err(stored.orphaned(self.id));
        }
        let asked = AskedReservation { action, id: self.id, ttl };
        let request = target.request(&snapshot, hits)?.reserving(asked);
        let look = target.request(&snapshot, LOOK)?;
        let limits = limits_before(&self.edge.engine.preview(&snapshot, &look).await, holds);
        let reservation = Some(self.id);
        let change = HitsChange { what, hits: hits.amount(), limits, reservation };
        let recorded = record(self.edge, self.by, &target, change).await?;
        let verdict = self.edge.engine.check(&snapshot, &request).await;
        recorded.end(refused(&target, &verdict)).await?;
        let charged = verdict.reserved().map(|(_, _, settled)| settled).max().unwrap_or(0);
        Ok(Made { at: verdict.at, charged: (!verdict.is_retry()).then_some(charged) })
    }

    /// Tells the audit log of a change that what became of the reservation does not allow, and returns the problem.
    pub async fn refused(
        &self,
        stored: &Stored,
        (what, hits): (&'static str, u64),
        problem: Problem,
    ) -> Problem {
        let target = match stored.target(self.name) {
            Ok(target) => Target::resolve(self.edge, target).await,
            Err(problem) => return problem,
        };
        let snapshot = self.edge.engine.snapshot();
        let limits = match target.request(&snapshot, LOOK) {
            Ok(look) => limits_before(&self.edge.engine.preview(&snapshot, &look).await, holds),
            // An orphan.
            Err(_) => LimitsBefore { domain: stored.domain.clone(), limits: Vec::new() },
        };
        let change = HitsChange { what, hits, limits, reservation: Some(self.id) };
        record_refused(self.edge, self.by, &target, (change, problem)).await
    }

    /// Writes down what became of the reservation.
    pub async fn keep(&self, stored: &Stored) -> Result<(), Problem> {
        let now = self.edge.engine.now();
        let key = RecordKey { caller: self.name, id: self.id };
        let records = &self.edge.api.reservations;
        let written = records.write(key, &stored.record(now), (now, false)).await;
        written.map(|_| ()).map_err(store)
    }
}

/// Whether reservations hold hits of a limit.
pub fn holds(standing: &Standing<'_, '_>) -> bool {
    standing.charge.rule.is_some_and(|rule| rule.reservations.is_some())
}

/// A problem, unless a request passes. After an outage it may be sent again: it is made once.
pub fn refused(target: &AskedTarget, verdict: &Verdict<'_>) -> Result<(), Problem> {
    refusal(target, verdict).map_err(|problem| match problem.status {
        StatusCode::SERVICE_UNAVAILABLE => Problem { retry_after: Some(RETRY_AFTER), ..problem },
        _ => problem,
    })
}

/// By value, for `map_err`.
#[expect(clippy::needless_pass_by_value, reason = "it is what map_err passes")]
pub fn store(error: StoreError) -> Problem {
    let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string());
    Problem { retry_after: Some(RETRY_AFTER), ..problem }
}
