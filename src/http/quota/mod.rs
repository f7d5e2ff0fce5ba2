//! `/v1/callers/{name}/quota`: what a caller has left, whether more would pass, and changes of what is spent; `/v1/over`:
//! the callers that are over a limit.

mod body;
pub(super) mod limits;
mod mark;
mod over;
pub mod overrides;
pub(super) mod params;
mod recalculate;
mod resolved;

use axum::extract::State;
use axum::http::StatusCode;

use super::auth::{Authorized, Operator, Own};
use super::edge::Edge;
use super::extract::{OptionalJsonObject, UrlPath, UrlQuery};
use super::openapi::{self, Description, Operation, Output};
use super::problem::Problem;
use crate::engine::{Code, GiveBack, Preview, Reason, Taking, Verdict};
use crate::limit::Hits;
use crate::store::HELD_MAX;
use limits::{HitsChange, Limits, limits, limits_before, record, unavailable};
use params::{ConsumeForm, ConsumeMode, HitsForm};
use recalculate::recalculate;

pub use body::{QuotaItem, TierSourceName, percent, tier};
pub use limits::LOOK;
pub use params::{AskedTarget, QuotaParams, ResetForm, check_domain, target};
pub use resolved::Target;

pub fn operations() -> [Operation; 7] {
    [
        openapi::get(
            "/v1/callers/{name}/quota",
            "getQuota",
            "Show each limit that applies to a caller: what is used and what remains",
            show,
        ),
        openapi::post(
            "/v1/callers/{name}/quota/validate",
            "validateQuota",
            "Tell whether a request for more hits would pass; nothing is charged",
            validate,
        ),
        openapi::post(
            "/v1/callers/{name}/quota/consume",
            "consumeQuota",
            "Charge hits to a caller as a request does",
            consume,
        ),
        openapi::post(
            "/v1/callers/{name}/quota/release",
            "releaseQuota",
            "Give hits back to the limits of a caller",
            release,
        ),
        openapi::post(
            "/v1/callers/{name}/quota/reset",
            "resetQuota",
            "Give all used hits back to the limits of a caller",
            reset,
        ),
        openapi::post(
            "/v1/callers/{name}/quota/recalculate",
            "recalculateQuota",
            "Set the count of a limit that never resets to the true number",
            recalculate,
        ),
        openapi::get(
            "/v1/over",
            "listOver",
            "List callers that use more of a limit than they have, page by page",
            over::list,
        )
        .or([
            (404, "There is no directory of callers, or no limit applies to callers (QUOTA_NOT_FOUND)"),
            (422, "No policy has the domain or the entries (INVALID_RESOURCE_TYPE)"),
        ]),
    ]
}

/// The quota, or a problem that names the limit without the hits.
pub struct Quota(Limits);

impl axum::response::IntoResponse for Quota {
    fn into_response(self) -> axum::response::Response {
        self.0.into_response()
    }
}

impl Output for Quota {
    fn describe(description: &mut Description<'_>) {
        Limits::describe(description);
        description
            .problem("409", "The idempotency key was used with other hits (IDEMPOTENCY_CONFLICT)");
        description.problem("429", "A limit does not have the hits (QUOTA_EXCEEDED)");
    }
}

/// Shows a caller's limits.
async fn show(
    by: Authorized<Own>,
    State(edge): State<Edge>,
    UrlPath(name): UrlPath<String>,
    UrlQuery(params): UrlQuery<QuotaParams>,
) -> Result<Limits, Problem> {
    by.principal.may_read(Some(&name))?;
    standing(&edge, &Target::resolve(&edge, params.target(name)?).await).await
}

/// How the limits of a caller stand.
///
/// # Errors
/// If no limit applies to it, or the store is unavailable.
pub async fn standing(edge: &Edge, target: &Target) -> Result<Limits, Problem> {
    let snapshot = edge.engine.snapshot();
    let mut previews = Vec::new();
    for request in &target.requests(&snapshot, LOOK)? {
        previews.push(edge.engine.preview(&snapshot, request).await);
    }
    match previews.iter().any(|preview| preview.verdict.code() == Code::Unavailable) {
        true => Err(unavailable()),
        false => limits(target, &previews),
    }
}

/// Tells whether more would pass.
async fn validate(
    by: Authorized<Own>,
    State(edge): State<Edge>,
    UrlPath(name): UrlPath<String>,
    OptionalJsonObject(form): OptionalJsonObject<HitsForm>,
) -> Result<Quota, Problem> {
    by.principal.may_read(Some(&name))?;
    let target = Target::resolve(&edge, form.target(name)?).await;
    let snapshot = edge.engine.snapshot();
    let request = target.request(&snapshot, Hits::Spend(form.hits))?;
    passed(&target, edge.engine.preview(&snapshot, &request).await)
}

/// Charges hits.
async fn consume(
    by: Authorized<Operator>,
    State(edge): State<Edge>,
    UrlPath(name): UrlPath<String>,
    OptionalJsonObject(form): OptionalJsonObject<ConsumeForm>,
) -> Result<Quota, Problem> {
    let target = Target::resolve(&edge, form.target(name)?).await;
    let snapshot = edge.engine.snapshot();
    let look = target.request(&snapshot, LOOK)?;
    // A request without limits is not charged, and should not be counted.
    let before = edge.engine.preview(&snapshot, &look).await;
    let before = (limits_before(&before, |_| true), limits(&target, &[before])?).0;
    let request = target.request(&snapshot, Hits::Spend(form.hits))?;
    let request = request.takes(match form.mode {
        None => Taking::AsLimitsSay,
        Some(ConsumeMode::BestEffort) => Taking::InPart,
        Some(ConsumeMode::AllOrNone | ConsumeMode::CheckOnly | ConsumeMode::AdjustOnly) => {
            Taking::Whole
        }
    });
    let what = match form.mode {
        Some(ConsumeMode::CheckOnly) => {
            return passed(&target, edge.engine.preview(&snapshot, &request).await);
        }
        Some(ConsumeMode::AdjustOnly) => "adjust quota",
        _ => "consume quota",
    };
    let change = HitsChange { what, hits: form.hits, limits: before, reservation: None };
    let recorded = record(&edge, &by.principal, &target, change).await?;
    let verdict = match form.mode {
        Some(ConsumeMode::AdjustOnly) => edge.engine.take_all(&snapshot, &request).await.verdict,
        _ => edge.engine.check(&snapshot, &request).await,
    };
    let charged = match form.mode {
        // Nothing was taken then.
        Some(ConsumeMode::AdjustOnly) if verdict.fallback => Err(unavailable()),
        _ => refusal(&target, &verdict),
    };
    recorded.end(charged).await?;
    let limits = limits(&target, &[edge.engine.preview(&snapshot, &look).await])?;
    Ok(Quota(limits.granting(granted(&verdict))))
}

/// Gives hits back.
async fn release(
    by: Authorized<Operator>,
    State(edge): State<Edge>,
    UrlPath(name): UrlPath<String>,
    OptionalJsonObject(form): OptionalJsonObject<HitsForm>,
) -> Result<Quota, Problem> {
    let target = Target::resolve(&edge, form.target(name)?).await;
    let snapshot = edge.engine.snapshot();
    let request = target.request(&snapshot, Hits::GiveBack(form.hits))?;
    let look = target.request(&snapshot, LOOK)?;
    let before = limits_before(&edge.engine.preview(&snapshot, &look).await, |_| true);
    let what = "release quota";
    let change = HitsChange { what, hits: form.hits, limits: before, reservation: None };
    let recorded = record(&edge, &by.principal, &target, change).await?;
    let preview = edge.engine.give_back(&snapshot, &request, GiveBack::Asked).await;
    recorded.end(passed(&target, preview)).await
}

/// Gives all used hits back.
pub async fn reset(
    by: Authorized<Operator>,
    State(edge): State<Edge>,
    UrlPath(name): UrlPath<String>,
    OptionalJsonObject(form): OptionalJsonObject<ResetForm>,
) -> Result<Quota, Problem> {
    let target = Target::resolve(&edge, form.target(name)?).await;
    let snapshot = edge.engine.snapshot();
    let request = target.request(&snapshot, LOOK)?;
    let preview = edge.engine.preview(&snapshot, &request).await;
    if preview.verdict.fallback {
        return Err(unavailable());
    }
    let used = preview.standings().map(|standing| standing.used).max().unwrap_or_default();
    let before = limits_before(&preview, |_| true);
    let change = HitsChange { what: "reset quota", hits: used, limits: before, reservation: None };
    let recorded = record(&edge, &by.principal, &target, change).await?;
    let preview = edge.engine.give_back(&snapshot, &request, GiveBack::All).await;
    recorded.end(passed(&target, preview)).await
}

/// The quota after a request that passed, or why it did not.
fn passed(target: &AskedTarget, preview: Preview<'_>) -> Result<Quota, Problem> {
    refusal(target, &preview.verdict)?;
    let granted = granted(&preview.verdict);
    Ok(Quota(limits(target, &[preview])?.granting(granted)))
}

/// The hits that a request got, if its limits may be taken in part: as many as all of them had.
fn granted(verdict: &Verdict<'_>) -> Option<u64> {
    verdict.granted().map(|(_, granted)| granted).min()
}

/// A problem, unless a request passes.
pub(super) fn refusal(target: &AskedTarget, verdict: &Verdict<'_>) -> Result<(), Problem> {
    match verdict.code() {
        Code::Ok => Ok(()),
        Code::OverLimit if verdict.reason() == Reason::IdempotencyConflict => {
            let detail = "the idempotency key was used for a request with other hits";
            Err(Problem::new(StatusCode::CONFLICT, detail).coded("IDEMPOTENCY_CONFLICT"))
        }
        Code::OverLimit if verdict.reason() == Reason::ReservationConflict => {
            let detail = "the reservation was made or settled with other hits, or has ended";
            Err(Problem::new(StatusCode::CONFLICT, detail).coded("RESERVATION_CONFLICT"))
        }
        Code::OverLimit => Err(exceeded(target, verdict)),
        Code::Unavailable => Err(unavailable()),
    }
}

/// A problem: a limit does not have the hits, or the caller may not pass at all.
fn exceeded(target: &AskedTarget, verdict: &Verdict<'_>) -> Problem {
    let name = target.caller();
    let refusing = verdict.refusing().next();
    let detail = match refusing {
        None => format!("no request of `{name}` passes: {}", verdict.reason().name()),
        Some(charge) if charge.lacks_place() => {
            format!("`{}` has {HELD_MAX} reservations, the most at a time", charge.limit.label)
        }
        Some(charge) => format!(
            "`{}` has {} of the {} hits",
            charge.limit.label,
            charge.remaining(),
            charge.hits.amount()
        ),
    };
    Problem {
        limit: refusing.map(|charge| charge.limit.label.to_string()),
        retry_after: verdict.wait(),
        ..Problem::new(StatusCode::TOO_MANY_REQUESTS, detail).coded("QUOTA_EXCEEDED")
    }
}
