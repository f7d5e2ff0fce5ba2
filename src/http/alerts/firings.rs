//! `/v1/alerts/rules/{name}/firings`: when a rule would have fired in the past.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::alerts;
use crate::alerts::{NotReplayed, PastFiring, Replay, replay};
use crate::http::auth::{Authorized, Viewer};
use crate::http::edge::Edge;
use crate::http::extract::{UrlPath, UrlQuery};
use crate::http::openapi::{self, Description, Operation, Output};
use crate::http::problem::Problem;
use crate::http::usage::usage_is_off;
use crate::observe::audit::instant;
use crate::policy::AlertRule;
use crate::store::sums::SumsError;

/// Days of the past, if the query has none, and at most.
pub const DAYS: u32 = 30;
pub const DAYS_MAX: u32 = 90;

pub fn operation() -> Operation {
    openapi::get(
        "/v1/alerts/rules/{name}/firings",
        "replayAlert",
        "List when a rule would have fired in the past, from stored usage",
        list,
    )
}

/// The past in which a rule is replayed.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct FiringsParams {
    /// How many days, up to 90; 30 if absent.
    days: Option<u32>,
}

/// When a rule would have fired.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "AlertFirings")]
pub struct FiringsBody {
    pub rule: String,
    pub signal: String,
    /// The start of the usage that it was replayed on: later than asked for if older usage is not kept.
    #[schemars(extend("format" = "date-time"))]
    pub from: String,
    #[schemars(extend("format" = "date-time"))]
    pub to: String,
    /// What was taken of usage.
    pub how: &'static str,
    /// There are more than are listed.
    pub more: bool,
    /// Oldest first.
    pub items: Vec<FiringItem>,
}

/// A time for which a rule would have fired.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "AlertFiring")]
pub struct FiringItem {
    #[schemars(extend("format" = "date-time"))]
    pub from: String,
    /// Absent if it still fires.
    #[schemars(extend("format" = "date-time"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    pub labels: BTreeMap<String, String>,
    /// The value that was the furthest beyond the bound.
    pub value: f64,
    /// A line for people.
    pub title: String,
}

impl Output for FiringsBody {
    fn describe(description: &mut Description<'_>) {
        description.answer::<Self>(200);
        description
            .problem("404", "There are no alerts, no rule has this name, or usage is not counted");
        description
            .problem("422", "Usage does not hold what the rule follows, or has too much of it");
        description.problem("503", "The store of usage is unavailable");
    }
}

impl IntoResponse for FiringsBody {
    fn into_response(self) -> Response {
        Json(self).into_response()
    }
}

async fn list(
    _: Authorized<Viewer>,
    State(edge): State<Edge>,
    UrlPath(name): UrlPath<String>,
    UrlQuery(params): UrlQuery<FiringsParams>,
) -> Result<FiringsBody, Problem> {
    firings(&edge, &name, params.days).await
}

/// When a rule would have fired in so many days, 30 if there is no number.
///
/// # Errors
/// If there is no such rule, usage does not hold what it follows, or usage is unavailable.
pub async fn firings(edge: &Edge, name: &str, days: Option<u32>) -> Result<FiringsBody, Problem> {
    let policy = alerts(edge)?.policy.load_full();
    let unknown = || Problem::new(StatusCode::NOT_FOUND, format!("no rule has the name `{name}`"));
    let rule = policy.rule(name).ok_or_else(unknown)?;
    let days = days.unwrap_or(DAYS);
    if !(1..=DAYS_MAX).contains(&days) {
        let detail = format!("`days`: use a number from 1 to {DAYS_MAX}");
        return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail));
    }
    let sources = edge.api.usage.as_ref().ok_or_else(usage_is_off)?;
    let (policies, now) = (edge.engine.policies(), edge.engine.now());
    let replayed = replay(sources, &policies, rule, (days, now)).await;
    replayed.map(|replay| FiringsBody::new(rule, replay)).map_err(|error| problem(&error))
}

fn problem(error: &NotReplayed) -> Problem {
    match error {
        NotReplayed::Signal { .. } => {
            Problem::new(StatusCode::UNPROCESSABLE_ENTITY, error.to_string())
        }
        NotReplayed::Usage(SumsError::Store(_)) => {
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string())
        }
        NotReplayed::Usage(_) => {
            let detail = format!("{error}: choose fewer `days`");
            Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail)
        }
    }
}

impl FiringsBody {
    fn new(rule: &AlertRule, replay: Replay) -> Self {
        let Replay { from, to, how, firings, more } = replay;
        Self {
            rule: rule.name.to_string(),
            signal: rule.signal.as_str().to_owned(),
            from: instant(from),
            to: instant(to),
            how,
            more,
            items: firings.into_iter().map(FiringItem::from).collect(),
        }
    }
}

impl From<PastFiring> for FiringItem {
    fn from(firing: PastFiring) -> Self {
        let PastFiring { labels, from, until, value, title } = firing;
        let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        Self {
            from: instant(from),
            until: until.map(instant),
            labels: labels.iter().map(owned).collect(),
            value,
            title,
        }
    }
}
