//! `/v1/alerts/silences`: what holds back notifications for a time.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{AlertChange, AlertChanged, NO_ALERTS, alerts, listed};
use crate::alerts::{Labels, Silence};
use crate::clock::Timestamp;
use crate::http::auth::{Authorized, Operator, Principal, Viewer};
use crate::http::bonuses::random_id;
use crate::http::edge::Edge;
use crate::http::extract::{JsonObject, UrlPath};
use crate::http::openapi::{self, NO_RANDOMNESS, Operation};
use crate::http::problem::Problem;
use crate::http::reply::Created;
use crate::limit::Condition;
use crate::observe::audit::instant;
use crate::policy::{MaintenanceWindow, parse_until};

const SILENCES: &str = "/v1/alerts/silences";

/// The longest silence.
const LENGTH_MAX: Duration = Duration::from_secs(366 * 86_400);

/// Maximum length of a comment, and number of labels.
const COMMENT_LEN_MAX: usize = 500;
const LABELS_MAX: usize = 10;

pub fn operations() -> [Operation; 3] {
    [
        openapi::get(
            SILENCES,
            "listSilences",
            "List the silences that have not ended, and the maintenance windows",
            list,
        )
        .or([NO_ALERTS]),
        openapi::post(
            SILENCES,
            "addSilence",
            "Hold back the notifications of some alerts for a time, such as maintenance",
            add,
        )
        .or([
            NO_ALERTS,
            (409, "There are as many silences as are kept"),
            (422, "The silence is invalid: for example, it is over"),
            NO_RANDOMNESS,
        ]),
        openapi::delete("/v1/alerts/silences/{id}", "removeSilence", "End a silence", remove),
    ]
}

/// A silence that is asked for.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "NewSilence")]
pub struct SilenceForm {
    /// Only alerts of this rule; all if absent.
    pub rule: Option<String>,
    /// Only alerts with all of these labels, such as a caller.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// When it begins; now if absent.
    #[schemars(extend("format" = "date-time"))]
    pub from: Option<String>,
    /// When it ends: a date, at whose end it ends, or a time.
    pub until: String,
    /// Why, for people.
    #[serde(default)]
    pub comment: String,
}

/// A silence.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Silence")]
pub struct SilenceBody {
    pub id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    pub labels: BTreeMap<String, String>,
    #[schemars(extend("format" = "date-time"))]
    pub from: String,
    #[schemars(extend("format" = "date-time"))]
    pub until: String,
    pub by: String,
    pub comment: String,
    /// It holds back notifications now, and does not begin later.
    pub active: bool,
}

/// The silences that have not ended.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Silences")]
struct SilencesBody {
    items: Vec<SilenceBody>,
    /// The maintenance windows of the files of alerts.
    maintenance: Vec<MaintenanceBody>,
}

/// A maintenance window: recurring times in which notifications are held back.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "MaintenanceWindow")]
pub struct MaintenanceBody {
    pub name: String,
    /// The names of its rules; all if empty.
    pub rules: Vec<String>,
    pub labels: BTreeMap<String, String>,
    /// Its times, such as `weekdays sunday; hours 02:00-06:00`.
    pub times: String,
    pub timezone: String,
    /// It holds back notifications now.
    pub active: bool,
}

async fn list(
    _: Authorized<Viewer>,
    State(edge): State<Edge>,
) -> Result<Json<SilencesBody>, Problem> {
    let items = silences(&edge).await?;
    Ok(Json(SilencesBody { items, maintenance: maintenance(&edge)? }))
}

async fn add(
    by: Authorized<Operator>,
    State(edge): State<Edge>,
    JsonObject(form): JsonObject<SilenceForm>,
) -> Result<Created<SilenceBody>, Problem> {
    silence(&edge, &by.principal, form).await.map(Created)
}

async fn remove(
    by: Authorized<Operator>,
    State(edge): State<Edge>,
    UrlPath(id): UrlPath<String>,
) -> Result<AlertChanged, Problem> {
    end_silence(&edge, &by.principal, &id).await.map(|()| AlertChanged)
}

/// The silences that have not ended.
///
/// # Errors
/// If there are no alerts.
pub async fn silences(edge: &Edge) -> Result<Vec<SilenceBody>, Problem> {
    let list = listed(edge).await?;
    Ok(list.book.silences().map(|silence| SilenceBody::new(silence, list.now)).collect())
}

/// The maintenance windows.
///
/// # Errors
/// If there are no alerts.
pub fn maintenance(edge: &Edge) -> Result<Vec<MaintenanceBody>, Problem> {
    let (policy, now) = (alerts(edge)?.policy.load_full(), edge.engine.now());
    Ok(policy.maintenance.iter().map(|window| MaintenanceBody::new(window, now)).collect())
}

/// Ends a silence.
///
/// # Errors
/// If there is none of that id.
pub async fn end_silence(edge: &Edge, by: &Principal, id: &str) -> Result<(), Problem> {
    let change = AlertChange { edge, by, what: "end silence", id };
    let unknown = (StatusCode::NOT_FOUND, format!("no silence has the id `{id}`"));
    change.make(|book, _| book.end_silence(id), unknown).await
}

/// Adds a silence.
///
/// # Errors
/// If it is invalid, if no rule has its name, or if there are too many.
pub async fn silence(
    edge: &Edge,
    by: &Principal,
    form: SilenceForm,
) -> Result<SilenceBody, Problem> {
    let policy = alerts(edge)?.policy.load_full();
    if let Some(rule) = form.rule.as_ref().filter(|rule| policy.rule(rule).is_none()) {
        let detail = format!("no rule has the name `{rule}`");
        return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail));
    }
    let silence = form.silence(random_id()?, &by.name, edge.engine.now())?;
    let change = AlertChange { edge, by, what: "silence alerts", id: &silence.id };
    let many = "there are too many silences; end some of them".to_owned();
    change
        .make(|book, now| book.silence(silence.clone(), now), (StatusCode::CONFLICT, many))
        .await?;
    Ok(SilenceBody::new(&silence, edge.engine.now()))
}

impl SilenceForm {
    fn silence(self, id: String, by: &str, now: Timestamp) -> Result<Silence, Problem> {
        let invalid = |detail: String| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail);
        let time = |name: &str, text: &str| {
            parse_until(text).map_err(|error| invalid(format!("`{name}`: {error}")))
        };
        let from = self.from.as_deref().map_or(Ok(now), |from| time("from", from))?;
        let until = time("until", &self.until)?;
        if until <= from.max(now) {
            return Err(invalid(format!("`until`: {} is over", self.until)));
        }
        if LENGTH_MAX < until.since(from) {
            return Err(invalid("a silence lasts for at most 366 days".to_owned()));
        }
        if COMMENT_LEN_MAX < self.comment.len() || LABELS_MAX < self.labels.len() {
            let detail =
                format!("at most {LABELS_MAX} labels, and a comment of {COMMENT_LEN_MAX} bytes");
            return Err(invalid(detail));
        }
        let labels = self.labels.iter();
        let labels = labels.fold(Labels::new(), |all, (name, value)| all.with(name, Some(value)));
        let (from_ms, until_ms) = (from.as_ms(), until.as_ms());
        let (by, comment) = (by.to_owned(), self.comment);
        Ok(Silence { id, rule: self.rule, labels, from_ms, until_ms, by, comment })
    }
}

impl MaintenanceBody {
    fn new(window: &MaintenanceWindow, now: Timestamp) -> Self {
        let times = window.timetable.conditions().iter().map(Condition::text);
        Self {
            name: window.name.to_string(),
            rules: window.rules.iter().map(|rule| rule.to_string()).collect(),
            labels: window.labels.clone(),
            times: times.collect(),
            timezone: window.timezone.to_string(),
            active: window.is_active(now),
        }
    }
}

impl SilenceBody {
    fn new(silence: &Silence, now: Timestamp) -> Self {
        let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        Self {
            id: silence.id.clone(),
            rule: silence.rule.clone(),
            labels: silence.labels.iter().map(owned).collect(),
            from: instant(Timestamp::from_ms(silence.from_ms)),
            until: instant(Timestamp::from_ms(silence.until_ms)),
            by: silence.by.clone(),
            comment: silence.comment.clone(),
            active: (silence.from_ms..silence.until_ms).contains(&now.as_ms()),
        }
    }
}
