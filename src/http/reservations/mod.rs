//! `/v1/callers/{name}/reservations`: hits that are held for a long operation, and settled for what it used.
//!
//! The counters hold the hits and know each id, so whatever is sent again is made once. The record of a reservation says which
//! limits it is for, and tells what became of it.

mod body;

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use super::auth::{Authorized, Operator, Own, Principal};
use super::edge::Edge;
use super::extract::{JsonObject, OptionalJsonObject, UrlPath};
use super::openapi::{self, Description, Operation, Output};
use super::problem::Problem;
use super::quota::limits::{LOOK, record};
use super::quota::params::{Target, check_hits, invalid, target, wrong_resource};
use super::quota::refusal;
use super::reply::NoContent;
use super::usage::last_tiers::with_last_tiers;
use crate::clock::Timestamp;
use crate::engine::{AskedReservation, Code, Verdict};
use crate::limit::Hits;
use crate::policy::ReservationAction;
use crate::store::{RecordKey, StoreError, Written};
use body::{
    End, ExtendForm, ReservationBody, ReservationsBody, ReserveForm, SettleForm, Stored, check_id,
    conflict, not_found,
};

/// Random bytes of a generated id.
const ID_LEN: usize = 16;

/// When to send an operation again that the store did not answer.
const RETRY_AFTER: Duration = Duration::from_secs(1);

pub fn operations() -> [Operation; 6] {
    [
        openapi::post(
            "/v1/callers/{name}/reservations",
            "reserve",
            "Hold hits of a caller's limits for an operation, until they are settled or lapse",
            reserve,
        ),
        openapi::get(
            "/v1/callers/{name}/reservations",
            "listReservations",
            "List the reservations of a caller, and those that ended within the last hour",
            list,
        ),
        openapi::get(
            "/v1/callers/{name}/reservations/{id}",
            "getReservation",
            "Show a reservation",
            show,
        ),
        openapi::post(
            "/v1/callers/{name}/reservations/{id}/settle",
            "settleReservation",
            "Charge the hits that an operation has used, and free the rest of those held",
            settle,
        ),
        openapi::post(
            "/v1/callers/{name}/reservations/{id}/extend",
            "extendReservation",
            "Hold the hits longer",
            extend,
        ),
        openapi::delete(
            "/v1/callers/{name}/reservations/{id}",
            "cancelReservation",
            "Free the hits that are held; nothing is charged",
            cancel,
        ),
    ]
}

/// A reservation with the status of what was done.
struct Answer<const STATUS: u16>(ReservationBody);

impl<const STATUS: u16> IntoResponse for Answer<STATUS> {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(STATUS).unwrap_or(StatusCode::OK);
        (status, Json(self.0)).into_response()
    }
}

impl<const STATUS: u16> Output for Answer<STATUS> {
    fn describe(description: &mut Description<'_>) {
        description.answer::<ReservationBody>(STATUS);
        let created = STATUS == 201;
        description.problem(
            "404",
            match created {
                true => "No limit applies to the caller (QUOTA_NOT_FOUND)",
                false => "There is no such reservation (RESERVATION_NOT_FOUND)",
            },
        );
        description.problem(
            "409",
            "The id was used for another reservation, or the reservation has ended (RESERVATION_CONFLICT)",
        );
        if created {
            description.problem(
                "422",
                "No policy has the domain, or none of the caller's limits has reservations (INVALID_RESOURCE_TYPE)",
            );
        }
        description.problem("429", "A limit does not have the hits (QUOTA_EXCEEDED)");
        description.problem("503", "Redis is unavailable; send it again: it is made once");
    }
}

/// The times that the limits of a request hold hits for.
struct Ttls {
    usual: Duration,
    max: Duration,
}

impl Ttls {
    /// Of the limits in a verdict; None if none of them has reservations.
    fn of(verdict: &Verdict<'_>) -> Option<Self> {
        let rules = verdict.charges().iter().filter_map(|charge| charge.rule);
        let all = rules.filter_map(|rule| rule.reservations.as_deref());
        all.map(|one| Self { usual: one.ttl, max: one.ttl_max }).reduce(|one, other| Self {
            usual: one.usual.min(other.usual),
            max: one.max.min(other.max),
        })
    }

    /// The time that a body asks for.
    fn asked(&self, ttl_ms: Option<u64>) -> Result<Duration, Problem> {
        match ttl_ms.map(Duration::from_millis) {
            None => Ok(self.usual),
            Some(ttl) if ttl.is_zero() || self.max < ttl => {
                let detail = format!("`ttl_ms` is from 1 to {}", self.max.as_millis());
                Err(invalid(detail))
            }
            Some(ttl) => Ok(ttl),
        }
    }
}

/// Holds hits.
async fn reserve(
    by: Authorized<Operator>,
    State(edge): State<Edge>,
    UrlPath(name): UrlPath<String>,
    OptionalJsonObject(form): OptionalJsonObject<ReserveForm>,
) -> Result<Answer<201>, Problem> {
    check_hits(form.hits)?;
    let id = form.id.map_or_else(random_id, Ok)?;
    check_id(&id)?;
    let target = with_last_tiers(&edge, &target(name.clone(), form.domain, &form.entries)?).await;
    let snapshot = edge.engine.snapshot();
    let look = target.request(&snapshot, LOOK)?;
    let preview = edge.engine.preview(&snapshot, &look).await;
    let Some(ttls) = Ttls::of(&preview.verdict) else {
        return Err(match preview.verdict.charges() {
            [] => target.unmet(preview.verdict.policy),
            _ => wrong_resource("none of the caller's limits has a `reservation`".to_owned()),
        });
    };
    let ttl = ttls.asked(form.ttl_ms)?;
    let now = edge.engine.now();
    let mut stored = Stored {
        domain: look.domain().to_owned(),
        entries: form.entries,
        hits: form.hits,
        until_ms: now.after(ttl).as_ms(),
        end: None,
        charged: None,
    };
    let recorded = record(&edge, &by.principal, "reserve quota", (&target, form.hits)).await?;
    let key = RecordKey { caller: &name, id: &id };
    let records = &edge.api.reservations;
    let known = match records.write(key, &stored.record(now), (now, true)).await.map_err(store)? {
        Written::Done => None,
        Written::Known(known) => Some(Stored::parse(&known).ok_or_else(|| not_found(&name, &id))?),
        Written::Full => return recorded.end(Err(too_many(&name))).await,
    };
    if let Some(known) = &known
        && (!known.is_same(&stored) || known.end.is_some() || known.is_lapsed(now))
    {
        let detail =
            format!("the id `{id}` was used for another reservation, or for one that has ended");
        return recorded.end(Err(conflict(detail))).await;
    }
    let asked = AskedReservation { action: ReservationAction::Reserve, id: &id, ttl: Some(ttl) };
    let request = target.request(&snapshot, Hits::Spend(form.hits))?.reserving(asked);
    let verdict = edge.engine.check(&snapshot, &request).await;
    if let Err(problem) = refused(&target, &verdict) {
        if known.is_none() && verdict.code() == Code::OverLimit {
            records.remove(key).await.map_err(store)?;
        }
        return recorded.end(Err(problem)).await;
    }
    match known {
        Some(known) if verdict.is_retry() => stored = known,
        _ => {
            stored.until_ms = verdict.at.after(ttl).as_ms();
            records.write(key, &stored.record(now), (now, false)).await.map_err(store)?;
        }
    }
    Ok(Answer(stored.body(&id, now)))
}

/// Lists reservations.
async fn list(
    by: Authorized<Own>,
    State(edge): State<Edge>,
    UrlPath(name): UrlPath<String>,
) -> Result<Json<ReservationsBody>, Problem> {
    by.principal.may_read(Some(&name))?;
    let now = edge.engine.now();
    let records = edge.api.reservations.list(&name, now).await.map_err(store)?;
    let items =
        records.iter().filter_map(|(id, record)| Some(Stored::parse(record)?.body(id, now)));
    Ok(Json(ReservationsBody { items: items.collect() }))
}

/// Shows a reservation.
async fn show(
    by: Authorized<Own>,
    State(edge): State<Edge>,
    UrlPath((name, id)): UrlPath<(String, String)>,
) -> Result<Answer<200>, Problem> {
    by.principal.may_read(Some(&name))?;
    let stored = find(&edge, &name, &id).await?;
    Ok(Answer(stored.body(&id, edge.engine.now())))
}

/// Charges what was used.
async fn settle(
    by: Authorized<Operator>,
    State(edge): State<Edge>,
    UrlPath((name, id)): UrlPath<(String, String)>,
    JsonObject(form): JsonObject<SettleForm>,
) -> Result<Answer<200>, Problem> {
    // An operation may have used nothing.
    check_hits(form.hits.max(1))?;
    let mut stored = find(&edge, &name, &id).await?;
    match stored.end {
        None => {
            let change = Change { edge: &edge, by: &by.principal, name: &name, id: &id };
            let (action, hits) = (ReservationAction::Settle, Hits::Spend(form.hits));
            let made = change.make(&stored, ("settle reservation", action, hits), None).await?;
            stored.end = Some(End::Settled(form.hits));
            stored.charged = made.charged.filter(|charged| *charged != form.hits);
            change.keep(&stored).await?;
        }
        Some(End::Settled(used)) if used == form.hits => {}
        Some(_) => return Err(ended(&id)),
    }
    Ok(Answer(stored.body(&id, edge.engine.now())))
}

/// Holds hits longer.
async fn extend(
    by: Authorized<Operator>,
    State(edge): State<Edge>,
    UrlPath((name, id)): UrlPath<(String, String)>,
    OptionalJsonObject(form): OptionalJsonObject<ExtendForm>,
) -> Result<Answer<200>, Problem> {
    let mut stored = find(&edge, &name, &id).await?;
    if stored.end.is_some() {
        return Err(ended(&id));
    }
    let target = with_last_tiers(&edge, &stored.target(&name)?).await;
    let snapshot = edge.engine.snapshot();
    let preview = edge.engine.preview(&snapshot, &target.request(&snapshot, LOOK)?).await;
    let ttls = Ttls::of(&preview.verdict).ok_or_else(|| target.unmet(preview.verdict.policy))?;
    let ttl = ttls.asked(form.ttl_ms)?;
    let change = Change { edge: &edge, by: &by.principal, name: &name, id: &id };
    let what = ("extend reservation", ReservationAction::Extend, Hits::Spend(0));
    let made = change.make(&stored, what, Some(ttl)).await?;
    stored.until_ms = stored.until_ms.max(made.at.after(ttl).as_ms());
    change.keep(&stored).await?;
    Ok(Answer(stored.body(&id, edge.engine.now())))
}

/// Frees what is held.
async fn cancel(
    by: Authorized<Operator>,
    State(edge): State<Edge>,
    UrlPath((name, id)): UrlPath<(String, String)>,
) -> Result<NoContent, Problem> {
    let mut stored = find(&edge, &name, &id).await?;
    match stored.end {
        Some(End::Cancelled) => return Ok(NoContent),
        Some(End::Settled(_)) => return Err(ended(&id)),
        None => {}
    }
    let change = Change { edge: &edge, by: &by.principal, name: &name, id: &id };
    let what = "cancel reservation";
    match stored.is_orphan(&edge.engine.policies()) {
        // No limit counts what it holds.
        true => {
            let target = stored.target(&name)?;
            record(&edge, &by.principal, what, (&target, 0)).await?.end(Ok(())).await?;
        }
        false => {
            let what = (what, ReservationAction::Cancel, Hits::Spend(0));
            change.make(&stored, what, None).await?;
        }
    }
    stored.end = Some(End::Cancelled);
    change.keep(&stored).await?;
    Ok(NoContent)
}

/// What the counters made of a change.
struct Made {
    at: Timestamp,
    /// Hits that a settlement has charged: the most of all limits. None if an earlier attempt has charged them.
    charged: Option<u64>,
}

/// A change of a reservation.
struct Change<'a> {
    edge: &'a Edge,
    by: &'a Principal,
    name: &'a str,
    id: &'a str,
}

impl Change<'_> {
    /// Makes it in the counters.
    async fn make(
        &self,
        stored: &Stored,
        (what, action, hits): (&'static str, ReservationAction, Hits),
        ttl: Option<Duration>,
    ) -> Result<Made, Problem> {
        let target = with_last_tiers(self.edge, &stored.target(self.name)?).await;
        let snapshot = self.edge.engine.snapshot();
        if stored.is_orphan(snapshot.policies()) {
            return Err(stored.orphaned(self.id));
        }
        let asked = AskedReservation { action, id: self.id, ttl };
        let request = target.request(&snapshot, hits)?.reserving(asked);
        let recorded = record(self.edge, self.by, what, (&target, hits.amount())).await?;
        let verdict = self.edge.engine.check(&snapshot, &request).await;
        recorded.end(refused(&target, &verdict)).await?;
        let charged = verdict.reserved().map(|(_, _, settled)| settled).max().unwrap_or(0);
        Ok(Made { at: verdict.at, charged: (!verdict.is_retry()).then_some(charged) })
    }

    /// Writes down what became of the reservation.
    async fn keep(&self, stored: &Stored) -> Result<(), Problem> {
        let now = self.edge.engine.now();
        let key = RecordKey { caller: self.name, id: self.id };
        let records = &self.edge.api.reservations;
        let written = records.write(key, &stored.record(now), (now, false)).await;
        written.map(|_| ()).map_err(store)
    }
}

/// The record of a reservation.
async fn find(edge: &Edge, name: &str, id: &str) -> Result<Stored, Problem> {
    let key = RecordKey { caller: name, id };
    let record = edge.api.reservations.read(key, edge.engine.now()).await.map_err(store)?;
    record.as_ref().and_then(Stored::parse).ok_or_else(|| not_found(name, id))
}

fn ended(id: &str) -> Problem {
    conflict(format!("the reservation `{id}` was settled with other hits, or cancelled"))
}

fn too_many(name: &str) -> Problem {
    let detail = format!("`{name}` has too many reservations");
    Problem::new(StatusCode::TOO_MANY_REQUESTS, detail).coded("QUOTA_EXCEEDED")
}

/// A problem, unless a request passes. After an outage it may be sent again: it is made once.
fn refused(target: &Target, verdict: &Verdict<'_>) -> Result<(), Problem> {
    refusal(target, verdict).map_err(|problem| match problem.status {
        StatusCode::SERVICE_UNAVAILABLE => Problem { retry_after: Some(RETRY_AFTER), ..problem },
        _ => problem,
    })
}

/// By value, for `map_err`.
#[expect(clippy::needless_pass_by_value, reason = "it is what map_err passes")]
fn store(error: StoreError) -> Problem {
    let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string());
    Problem { retry_after: Some(RETRY_AFTER), ..problem }
}

fn random_id() -> Result<String, Problem> {
    let mut bytes = [0; ID_LEN];
    getrandom::fill(&mut bytes).map_err(|error| {
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, format!("generating an id failed: {error}"))
    })?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
