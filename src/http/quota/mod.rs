//! `/v1/callers/{name}/quota`: what a caller has left, whether more would pass, and changes of what is spent.

mod body;
mod params;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;

use super::auth::{Authorized, Operator, Own, Principal};
use super::edge::Edge;
use super::extract::{JsonObject, UrlPath, UrlQuery};
use super::openapi::{self, Description, Operation, Output};
use super::problem::Problem;
use crate::engine::{Code, Request, Snapshot, Verdict};
use crate::limit::Hits;
use crate::observe::audit::{self, Entry};
use body::QuotaBody;
use params::{HitsForm, QuotaParams, ResetForm, Target};

pub fn operations() -> [Operation; 5] {
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
    ]
}

/// The quota, or a problem that names the limit without the hits.
struct Quota(Json<QuotaBody>);

impl axum::response::IntoResponse for Quota {
    fn into_response(self) -> axum::response::Response {
        self.0.into_response()
    }
}

impl Output for Quota {
    fn describe(description: &mut Description<'_>) {
        description.answer::<QuotaBody>(200);
        description.problem("404", "No limit applies to the caller (QUOTA_NOT_FOUND)");
        description.problem(
            "422",
            "No policy has the domain, or several have callers (INVALID_RESOURCE_TYPE)",
        );
        description.problem("429", "A limit does not have the hits (QUOTA_EXCEEDED)");
        description.problem("503", "Redis is unavailable, and a limit makes that an error");
    }
}

/// Shows a caller's limits.
async fn show(
    by: Authorized<Own>,
    State(edge): State<Edge>,
    UrlPath(name): UrlPath<String>,
    UrlQuery(params): UrlQuery<QuotaParams>,
) -> Result<Quota, Problem> {
    by.principal.may_read(Some(&name))?;
    let target = params.target(name)?;
    let snapshot = edge.engine.snapshot();
    let mut verdicts = Vec::new();
    for request in &target.requests(&snapshot, Hits::Spend(0))? {
        verdicts.push(edge.engine.preview(&snapshot, request).await);
    }
    told(&target, &verdicts)
}

/// Tells whether more would pass.
async fn validate(
    by: Authorized<Own>,
    State(edge): State<Edge>,
    UrlPath(name): UrlPath<String>,
    JsonObject(form): JsonObject<HitsForm>,
) -> Result<Quota, Problem> {
    by.principal.may_read(Some(&name))?;
    let target = form.target(name)?;
    let snapshot = edge.engine.snapshot();
    let request = target.request(&snapshot, Hits::Spend(form.hits))?;
    passed(&target, edge.engine.preview(&snapshot, &request).await)
}

/// Charges hits.
async fn consume(
    by: Authorized<Operator>,
    State(edge): State<Edge>,
    UrlPath(name): UrlPath<String>,
    JsonObject(form): JsonObject<HitsForm>,
) -> Result<Quota, Problem> {
    let target = form.target(name)?;
    let snapshot = edge.engine.snapshot();
    let request = target.request(&snapshot, Hits::Spend(form.hits))?;
    record(&edge, &by.principal, "consume quota", (&target, form.hits)).await?;
    passed(&target, edge.engine.check(&snapshot, &request).await)
}

/// Gives hits back.
async fn release(
    by: Authorized<Operator>,
    State(edge): State<Edge>,
    UrlPath(name): UrlPath<String>,
    JsonObject(form): JsonObject<HitsForm>,
) -> Result<Quota, Problem> {
    let target = form.target(name)?;
    let snapshot = edge.engine.snapshot();
    let request = target.request(&snapshot, Hits::GiveBack(form.hits))?;
    record(&edge, &by.principal, "release quota", (&target, form.hits)).await?;
    passed(&target, edge.engine.check(&snapshot, &request).await)
}

/// Gives all used hits back.
async fn reset(
    by: Authorized<Operator>,
    State(edge): State<Edge>,
    UrlPath(name): UrlPath<String>,
    JsonObject(form): JsonObject<ResetForm>,
) -> Result<Quota, Problem> {
    let target = form.target(name)?;
    let snapshot = edge.engine.snapshot();
    let used = used(&edge, &snapshot, &target).await?;
    record(&edge, &by.principal, "reset quota", (&target, used)).await?;
    let request = target.request(&snapshot, Hits::GiveBack(used))?;
    let verdict = match used {
        0 => edge.engine.preview(&snapshot, &request).await,
        _ => edge.engine.check(&snapshot, &request).await,
    };
    passed(&target, verdict)
}

/// The most hits in use of any limit.
async fn used(edge: &Edge, snapshot: &Snapshot, target: &Target) -> Result<u64, Problem> {
    let request: Request<'_> = target.request(snapshot, Hits::Spend(0))?;
    let verdict = edge.engine.preview(snapshot, &request).await;
    let used =
        verdict.charges().iter().map(|charge| charge.quota.saturating_sub(charge.remaining()));
    Ok(used.max().unwrap_or_default())
}

/// The quota after a request that passed, or why it did not.
fn passed(target: &Target, verdict: Verdict<'_>) -> Result<Quota, Problem> {
    match verdict.code() {
        Code::Ok => told(target, &[verdict]),
        Code::OverLimit => Err(exceeded(target, &verdict)),
        Code::Unavailable => {
            let detail = "the store is unavailable";
            Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail))
        }
    }
}

fn told(target: &Target, verdicts: &[Verdict<'_>]) -> Result<Quota, Problem> {
    let body = QuotaBody::new(target.caller(), verdicts);
    if body.items.is_empty() {
        return Err(target.without_limits());
    }
    Ok(Quota(Json(body)))
}

/// A problem: a limit does not have the hits, or the caller may not pass at all.
fn exceeded(target: &Target, verdict: &Verdict<'_>) -> Problem {
    let name = target.caller();
    let refusing = verdict.refusing().next();
    let detail = match refusing {
        None => format!("no request of `{name}` passes: {}", verdict.reason().name()),
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

/// Writes a change to the audit log, before it is made.
async fn record(
    edge: &Edge,
    principal: &Principal,
    what: &'static str,
    (target, hits): (&Target, u64),
) -> Result<(), Problem> {
    let entry = Entry {
        at: audit::instant(edge.engine.now()),
        who: principal.name.clone(),
        peer: principal.peer,
        what,
        caller: target.caller().to_owned(),
        before: None,
        after: None,
        hits: Some(hits),
        failed: None,
    };
    edge.api.audit.write(&entry).await.map_err(|error| {
        tracing::error!(%error, "writing the audit log failed; the change is rejected");
        let detail = "writing the audit log failed; nothing was changed";
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail)
    })
}
