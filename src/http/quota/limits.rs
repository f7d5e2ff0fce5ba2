//! The answer to operations on quotas: how the limits of a caller stand; and the line of the audit log that each has.

use axum::Json;
use axum::http::StatusCode;

use super::body::QuotaBody;
use super::params::AskedTarget;
use crate::engine::{Preview, Standing};
use crate::http::auth::Principal;
use crate::http::edge::Edge;
use crate::http::openapi::{Description, Output};
use crate::http::problem::Problem;
use crate::http::recorded::Recorded;
use crate::limit::Hits;
use crate::observe::audit::{Changed, HitsBefore, LimitBefore, LimitsBefore};

/// Gives nothing back: what meets the limits also of a caller that may not spend.
pub const LOOK: Hits = Hits::GiveBack(0);

/// How the limits of a caller stand.
pub struct Limits(Json<QuotaBody>);

impl Limits {
    /// The limits.
    pub fn into_body(self) -> QuotaBody {
        self.0.0
    }

    /// The same with the hits that were taken of those that were asked for.
    pub fn granting(mut self, granted: Option<u64>) -> Self {
        self.0.0.granted = granted;
        self
    }
}

impl axum::response::IntoResponse for Limits {
    fn into_response(self) -> axum::response::Response {
        self.0.into_response()
    }
}

impl Output for Limits {
    fn describe(description: &mut Description<'_>) {
        description.answer::<QuotaBody>(200);
        description.problem("404", "No limit applies to the caller (QUOTA_NOT_FOUND)");
        description.problem(
            "422",
            "No policy has the domain or the entries, or it has no callers, or several have (INVALID_RESOURCE_TYPE)",
        );
        description.problem("503", "Redis is unavailable, and a limit makes that an error");
    }
}

/// The store was asked and did not answer.
pub fn unavailable() -> Problem {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the store is unavailable")
}

/// The limits of previews.
///
/// # Errors
/// When there is none.
pub fn limits(target: &AskedTarget, previews: &[Preview<'_>]) -> Result<Limits, Problem> {
    let body = QuotaBody::new(target.caller(), previews);
    if body.items.is_empty() {
        let domains = previews.iter().filter_map(|preview| preview.verdict.policy);
        return Err(target.unmet(domains));
    }
    Ok(Limits(Json(body)))
}

/// A change of hits, for the audit log.
pub struct HitsChange<'a> {
    pub what: &'static str,
    pub hits: u64,
    /// The limits before it.
    pub limits: LimitsBefore,
    /// The id of the reservation that it is of.
    pub reservation: Option<&'a str>,
}

/// The limits of a preview that a change is of, for the audit log.
pub fn limits_before(
    preview: &Preview<'_>,
    is_of: impl Fn(&Standing<'_, '_>) -> bool,
) -> LimitsBefore {
    let is_known = !preview.verdict.fallback;
    let limits = preview.standings().filter(is_of).map(|standing| LimitBefore {
        limit: standing.charge.limit.label.to_string(),
        hits: is_known.then(|| HitsBefore {
            quota: standing.quota(),
            used: standing.used,
            remaining: standing.charge.remaining(),
        }),
    });
    LimitsBefore { domain: preview.verdict.domain.to_owned(), limits: limits.collect() }
}

/// Writes a change to the audit log, before it is made.
///
/// # Errors
/// When it can't be written: then the change is not to be made.
pub async fn record<'e>(
    edge: &'e Edge,
    principal: &Principal,
    target: &AskedTarget,
    change: HitsChange<'_>,
) -> Result<Recorded<'e>, Problem> {
    let (what, changed) = change.of(target);
    Recorded::begin(edge, principal, what, changed).await
}

/// Writes a change to the audit log that is refused for that problem before it is tried, and returns the problem; or that of
/// the log, if it can't be written.
pub async fn record_refused(
    edge: &Edge,
    principal: &Principal,
    target: &AskedTarget,
    (change, problem): (HitsChange<'_>, Problem),
) -> Problem {
    let (what, changed) = change.of(target);
    match Recorded::refused(edge, (principal, what, changed), &problem).await {
        Ok(()) => problem,
        Err(unwritten) => unwritten,
    }
}

impl HitsChange<'_> {
    /// What is changed, and how, for a caller.
    fn of(self, target: &AskedTarget) -> (&'static str, Changed) {
        let Self { what, hits, limits, reservation } = self;
        let reservation = reservation.map(str::to_owned);
        let caller = target.caller().to_owned();
        (what, Changed::Quota { caller, hits, limits, reservation })
    }
}
