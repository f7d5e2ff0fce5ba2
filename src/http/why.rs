//! `/v1/why/{id}`: explains a refusal by its id.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use schemars::JsonSchema;
use serde::Serialize;

use super::auth::{Authorized, Own};
use super::edge::{Edge, RefusalSources};
use super::extract::UrlPath;
use super::openapi::{self, Description, Operation, Output};
use super::problem::Problem;
use crate::engine::RefusalId;
use crate::observe::refusal::{RefusalForm, RefusalLimit};
use crate::store::StoreError;

/// Time until a refusal is surely kept: the sink is drained more often.
const DELAY: Duration = Duration::from_millis(150);

pub fn operations() -> [Operation; 1] {
    [openapi::get(
        "/v1/why/{id}",
        "explainRefusal",
        "Explain a refusal: the limits at that time, and what would have passed",
        why,
    )]
}

/// An explained refusal.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Why")]
struct WhyBody {
    refusal: RefusalForm,
    would_have_passed: WouldHavePassed,
    /// The same for people.
    text: String,
}

/// Requests that would have passed in place of the refused one.
#[derive(Debug, PartialEq, Eq, Serialize, JsonSchema)]
struct WouldHavePassed {
    /// The same request for so many hits at that time; absent if none or an unknown number.
    #[serde(skip_serializing_if = "Option::is_none")]
    hits: Option<u64>,
    /// The same request after so many milliseconds, if nothing else was spent; absent if it never would.
    #[serde(skip_serializing_if = "Option::is_none")]
    after_ms: Option<u64>,
}

struct Why(Json<WhyBody>);

impl axum::response::IntoResponse for Why {
    fn into_response(self) -> axum::response::Response {
        self.0.into_response()
    }
}

impl Output for Why {
    fn describe(description: &mut Description<'_>) {
        description.answer::<WhyBody>(200);
        description.problem("404", "No refusal with this id is kept");
        description
            .problem("503", "This process does not have the refusal, and Redis is unavailable");
    }
}

/// Explains a refusal.
async fn why(
    by: Authorized<Own>,
    State(edge): State<Edge>,
    UrlPath(id): UrlPath<String>,
) -> Result<Why, Problem> {
    let Some(id) = RefusalId::parse(&id) else {
        let detail = "the id of a refusal has 13 letters and digits";
        return Err(Problem::new(StatusCode::BAD_REQUEST, detail));
    };
    let refusal = find(&edge, id).await?;
    by.principal.may_read(refusal.caller.as_deref())?;
    let would_have_passed = WouldHavePassed::of(&refusal);
    let text = text(&refusal, &would_have_passed);
    Ok(Why(Json(WhyBody { refusal: (*refusal).clone(), would_have_passed, text })))
}

/// The refusal with an id: of this process, or in Redis.
async fn find(edge: &Edge, id: RefusalId) -> Result<Arc<RefusalForm>, Problem> {
    let RefusalSources { recent, stored } = &edge.api.refusals;
    for is_last in [false, true] {
        if let Some(refusal) = recent.get(id) {
            return Ok(refusal);
        }
        if let Some(stored) = stored {
            let text = stored.get(id.number()).await.map_err(|error| unavailable(&error))?;
            let refusal = text.and_then(|text| RefusalForm::from_json(&text));
            let is_it = |refusal: &RefusalForm| refusal.id == Some(id.to_string());
            if let Some(refusal) = refusal.filter(is_it) {
                return Ok(Arc::new(refusal));
            }
        }
        if !is_last {
            // The record of a refusal that was just answered may not have been taken from the sink yet.
            tokio::time::sleep(DELAY).await;
        }
    }
    let detail = format!(
        "no refusal with the id {id} is kept: it is unknown, too old, or of a caller that was erased"
    );
    Err(Problem::new(StatusCode::NOT_FOUND, detail))
}

fn unavailable(error: &StoreError) -> Problem {
    let detail =
        format!("this process does not have the refusal, and Redis is unavailable: {error}");
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail)
}

impl WouldHavePassed {
    fn of(refusal: &RefusalForm) -> Self {
        let mut attempted = refusal.limits.iter().map(|limit| limit.attempted);
        let first = attempted.next();
        // If limits count different hits, for example costs, the hits of one say nothing about the others.
        let is_uniform = attempted.all(|hits| Some(hits) == first);
        let enforced = refusal.limits.iter().filter(|limit| limit.reason.is_some());
        let least = enforced.map(|limit| limit.remaining).min();
        let hits = least.filter(|hits| is_uniform && *hits != 0);
        Self { hits, after_ms: refusal.wait_ms }
    }
}

/// A refusal in sentences.
fn text(refusal: &RefusalForm, passes: &WouldHavePassed) -> String {
    let who =
        refusal.caller.as_deref().map_or_else(String::new, |caller| format!(" of `{caller}`"));
    let mut text = format!("A request{who} was refused at {}: {}.", refusal.at, refusal.reason);
    for limit in refusal.limits.iter().filter(|limit| limit.reason.is_some()) {
        text += &format!(" {}", sentence(limit));
    }
    if refusal.fallback {
        text += " The store was unavailable, and on_outage decided.";
    }
    match passes.after_ms {
        Some(ms) => text += &format!(" The same request would have passed {} later.", span(ms)),
        None if refusal.fallback => {}
        None => text += " Time alone does not change that.",
    }
    if let Some(hits) = passes.hits {
        text += &format!(" A request for at most {hits} hits would have passed at once.");
    }
    text
}

fn sentence(limit: &RefusalLimit) -> String {
    let RefusalLimit { limit, quota, used, remaining, attempted, .. } = limit;
    match used {
        Some(used) => format!(
            "`{limit}`: {used} of {quota} hits were in use, {remaining} remained, {attempted} were requested."
        ),
        None => format!(
            "`{limit}`: {remaining} of {quota} hits were open to the caller, {attempted} were requested."
        ),
    }
}

/// A time in the largest unit that shows it exactly to the second.
fn span(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms} ms"),
        _ => {
            let seconds = ms.div_ceil(1_000);
            let parts = [(86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")];
            let mut left = seconds;
            let parts = parts.into_iter().filter_map(|(unit, name)| {
                let count = left / unit;
                left %= unit;
                (count != 0).then(|| format!("{count} {name}"))
            });
            parts.collect::<Vec<_>>().join(" ")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_short() {
        let check = |ms, expected: &str| assert_eq!(span(ms), expected);
        check(0, "0 ms");
        check(999, "999 ms");
        check(1_001, "2 s");
        check(90_061_000, "1 d 1 h 1 min 1 s");
        check(86_400_000, "1 d");
    }
}
