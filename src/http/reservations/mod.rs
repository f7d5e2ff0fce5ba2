//! `/v1/callers/{name}/reservations`: hits that are held for a long operation, and settled for what it used.
//!
//! The counters hold the hits and know each id, so whatever is sent again is made once. The record of a reservation says which
//! limits it is for, and tells what became of it.

mod body;
mod change;

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use super::auth::{Authorized, Operator, Own};
use super::edge::Edge;
use super::extract::{JsonObject, OptionalJsonObject, UrlPath};
use super::openapi::{self, Description, NO_RANDOMNESS, Operation, Output, StatusText};
use super::problem::Problem;
use super::quota::Target;
use super::quota::limits::{HitsChange, LOOK, limits_before, record, record_refused};
use super::quota::params::{check_hits, invalid, target, wrong_resource};
use super::reply::NoContent;
use crate::engine::{AskedReservation, Code, Verdict};
use crate::limit::Hits;
use crate::observe::audit::LimitsBefore;
use crate::policy::ReservationAction;
use crate::store::{RecordKey, Written};
use body::{
    End, ExtendForm, ReservationBody, ReservationsBody, ReserveForm, SettleForm, Stored, check_id,
    conflict, not_found,
};
use change::{Change, holds, refused, store};

/// Random bytes of a generated id.
const ID_LEN: usize = 16;

pub fn operations() -> [Operation; 6] {
    [
        openapi::post(
            "/v1/callers/{name}/reservations",
            "reserve",
            "Hold hits of a caller's limits for an operation, until they are settled or lapse",
            reserve,
        )
        .or([NO_RANDOMNESS]),
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
        )
        .or([UNKNOWN]),
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
        )
        .or([UNKNOWN, CONFLICT, UNFIT, EXCEEDED]),
    ]
}

const UNKNOWN: StatusText = (404, "There is no such reservation (RESERVATION_NOT_FOUND)");
const CONFLICT: StatusText = (
    409,
    "The id was used for another reservation, or the reservation has ended (RESERVATION_CONFLICT)",
);
const UNFIT: StatusText = (
    422,
    "No policy has the domain or the entries, or none of the caller's limits has reservations (INVALID_RESOURCE_TYPE)",
);
const EXCEEDED: StatusText = (429, "A limit does not have the hits (QUOTA_EXCEEDED)");

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
        description.problem(
            "404",
            match STATUS {
                201 => "No limit applies to the caller (QUOTA_NOT_FOUND)",
                _ => UNKNOWN.1,
            },
        );
        for (status, text) in [CONFLICT, UNFIT, EXCEEDED] {
            description.problem(&status.to_string(), text);
        }
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
    let target = Target::resolve(&edge, target(name.clone(), form.domain, &form.entries)?).await;
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
    let mut stored = Stored::held(look.domain(), (form.entries, form.hits), now.after(ttl));
    let change = HitsChange {
        what: "reserve quota",
        hits: form.hits,
        limits: limits_before(&preview, holds),
        reservation: Some(&id),
    };
    let key = RecordKey { caller: &name, id: &id };
    let records = &edge.api.reservations;
    let is_taken = |known: &Stored| !known.can_be_retried_as(&stored, now);
    let known = records.read(key, now).await.map_err(store)?;
    if known.as_ref().and_then(Stored::parse).as_ref().is_some_and(is_taken) {
        return Err(record_refused(&edge, &by.principal, &target, (change, taken(&id))).await);
    }
    let recorded = record(&edge, &by.principal, &target, change).await?;
    let known = match records.write(key, &stored.record(now), (now, true)).await.map_err(store)? {
        Written::Done => None,
        Written::Known(known) => Some(Stored::parse(&known).ok_or_else(|| not_found(&name, &id))?),
        Written::Full => return recorded.end(Err(too_many(&name))).await,
    };
    if known.as_ref().is_some_and(is_taken) {
        return recorded.end(Err(taken(&id))).await;
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
) -> Result<Json<ReservationBody>, Problem> {
    by.principal.may_read(Some(&name))?;
    let stored = find(&edge, &name, &id).await?;
    Ok(Json(stored.body(&id, edge.engine.now())))
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
    let change = Change { edge: &edge, by: &by.principal, name: &name, id: &id };
    match stored.end {
        None => {
            let (action, hits) = (ReservationAction::Settle, Hits::Spend(form.hits));
            let made = change.make(&stored, ("settle reservation", action, hits), None).await?;
            stored.end = Some(End::Settled(form.hits));
            stored.charged = made.charged.filter(|charged| *charged != form.hits);
            change.keep(&stored).await?;
        }
        Some(End::Settled(used)) if used == form.hits => {}
        Some(_) => {
            let what = ("settle reservation", form.hits);
            return Err(change.refused(&stored, what, ended(&id)).await);
        }
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
    let change = Change { edge: &edge, by: &by.principal, name: &name, id: &id };
    if stored.end.is_some() {
        return Err(change.refused(&stored, ("extend reservation", 0), ended(&id)).await);
    }
    let target = Target::resolve(&edge, stored.target(&name)?).await;
    let snapshot = edge.engine.snapshot();
    let preview = edge.engine.preview(&snapshot, &target.request(&snapshot, LOOK)?).await;
    let ttls = Ttls::of(&preview.verdict).ok_or_else(|| target.unmet(preview.verdict.policy))?;
    let ttl = ttls.asked(form.ttl_ms)?;
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
    let change = Change { edge: &edge, by: &by.principal, name: &name, id: &id };
    let what = "cancel reservation";
    match stored.end {
        Some(End::Cancelled) => return Ok(NoContent),
        Some(End::Settled(_)) => return Err(change.refused(&stored, (what, 0), ended(&id)).await),
        None => {}
    }
    match stored.is_orphan(&edge.engine.policies()) {
        // No limit counts what it holds.
        true => {
            let target = stored.target(&name)?;
            let limits = LimitsBefore { domain: stored.domain.clone(), limits: Vec::new() };
            let change = HitsChange { what, hits: 0, limits, reservation: Some(&id) };
            record(&edge, &by.principal, &target, change).await?.end(Ok(())).await?;
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

/// The record of a reservation.
async fn find(edge: &Edge, name: &str, id: &str) -> Result<Stored, Problem> {
    let key = RecordKey { caller: name, id };
    let record = edge.api.reservations.read(key, edge.engine.now()).await.map_err(store)?;
    record.as_ref().and_then(Stored::parse).ok_or_else(|| not_found(name, id))
}

fn taken(id: &str) -> Problem {
    conflict(format!("the id `{id}` was used for another reservation, or for one that has ended"))
}

fn ended(id: &str) -> Problem {
    conflict(format!("the reservation `{id}` was settled with other hits, or cancelled"))
}

fn too_many(name: &str) -> Problem {
    let detail = format!("`{name}` has too many reservations");
    Problem::new(StatusCode::TOO_MANY_REQUESTS, detail).coded("QUOTA_EXCEEDED")
}

fn random_id() -> Result<String, Problem> {
    let mut bytes = [0; ID_LEN];
    getrandom::fill(&mut bytes).map_err(|error| {
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, format!("generating an id failed: {error}"))
    })?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
