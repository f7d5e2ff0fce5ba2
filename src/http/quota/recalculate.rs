//! `/v1/callers/{name}/quota/recalculate`: sets a count to the number that was counted elsewhere.

use axum::extract::State;
use axum::http::StatusCode;

use super::limits::{HitsChange, LOOK, Limits, limits, limits_before, record, unavailable};
use super::params::{AskedTarget, CountForm, not_found, wrong_resource};
use super::resolved::Target;
use crate::engine::{RecalculateError, Recount, Standing};
use crate::http::auth::{Authorized, Operator};
use crate::http::edge::Edge;
use crate::http::extract::{JsonObject, UrlPath};
use crate::http::openapi::{Description, Output};
use crate::http::problem::Problem;
use crate::policy::{Domain, Window};

/// The quota with the new count, or a problem if it was corrected meanwhile.
pub struct Recalculated(Limits);

impl axum::response::IntoResponse for Recalculated {
    fn into_response(self) -> axum::response::Response {
        self.0.into_response()
    }
}

impl Output for Recalculated {
    fn describe(description: &mut Description<'_>) {
        Limits::describe(description);
        description.problem(
            "409",
            "Another recalculation was made since the mark was read, or the mark is too old (QUOTA_CHANGED)",
        );
    }
}

/// Sets a count to the true number.
pub async fn recalculate(
    by: Authorized<Operator>,
    State(edge): State<Edge>,
    UrlPath(name): UrlPath<String>,
    JsonObject(form): JsonObject<CountForm>,
) -> Result<Recalculated, Problem> {
    let target = Target::resolve(&edge, form.target(name)?).await;
    let snapshot = edge.engine.snapshot();
    let request = target.request(&snapshot, LOOK)?;
    let recount =
        Recount { limit: form.limit.as_deref(), counted: form.counted, reading: form.reading()? };
    let is_of = |standing: &Standing<'_, '_>| {
        let limit = &standing.charge.limit;
        let is_named = form.limit.as_ref().is_none_or(|name| **name == *limit.label);
        limit.window == Window::Total && is_named
    };
    let before = limits_before(&edge.engine.preview(&snapshot, &request).await, is_of);
    let what = "recalculate quota";
    let change = HitsChange { what, hits: form.counted, limits: before, reservation: None };
    let recorded = record(&edge, &by.principal, &target, change).await?;
    let recalculated = edge.engine.recalculate(&snapshot, &request, recount).await;
    let domain = snapshot.policies().domain(request.domain());
    let recalculated = recalculated.map_err(|error| problem((&target, domain), &form, error));
    let preview = recorded.end(recalculated).await?;
    limits(&target, &[preview]).map(Recalculated)
}

fn problem(
    (target, domain): (&AskedTarget, Option<&Domain>),
    form: &CountForm,
    error: RecalculateError,
) -> Problem {
    let caller = target.caller();
    let changed = |detail: &str| Problem::new(StatusCode::CONFLICT, detail).coded("QUOTA_CHANGED");
    match error {
        RecalculateError::NoLimit => target.unmet(domain),
        RecalculateError::NoTotal => match &form.limit {
            Some(limit) => not_found(format!(
                "no limit `{limit}` that never resets applies to the caller `{caller}`"
            )),
            None => wrong_resource(format!(
                "no limit of the caller `{caller}` never resets: only `total` limits can be recalculated"
            )),
        },
        RecalculateError::Several(names) => {
            wrong_resource(format!("name the `limit`: one of {}", names.join(", ")))
        }
        RecalculateError::OfOther(owner) => wrong_resource(format!(
            "the limit of `{caller}` is counted with `{owner}`; recalculate that"
        )),
        RecalculateError::Old => {
            changed("the mark is more than 12 hours old; read the quota and count again")
        }
        RecalculateError::Corrected => changed(
            "the quota was recalculated to another number since the mark was read; read the quota and count again",
        ),
        RecalculateError::Unavailable => unavailable(),
    }
}
