//! `/v1/alerts`: open alerts and their history, what people do with them, silences, and notifications.

mod body;
mod firings;
mod notifications;
mod risk;
mod silences;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::alerts::{AlertId, AlertList, Alerts, Book};
use crate::clock::Timestamp;
use crate::http::auth::{Authorized, Operator, Principal, Viewer};
use crate::http::edge::Edge;
use crate::http::extract::{UrlPath, UrlQuery};
use crate::http::openapi::{self, Description, Operation, Output, StatusText};
use crate::http::problem::Problem;
use crate::http::recorded::Recorded;
use crate::http::reply::NoContent;
use crate::observe::audit::Changed;

pub use body::{AlertBody, AlertState, AlertsBody};
pub use firings::{DAYS, DAYS_MAX, FiringItem, FiringsBody, firings};
pub use risk::{RiskBody, risk_of};
pub use silences::{
    MaintenanceBody, SilenceBody, SilenceForm, end_silence, maintenance, silence, silences,
};

/// Alerts of one page of the history.
const CLOSED_DEFAULT: usize = 100;

const NO_ALERTS: StatusText = (404, "There are no files of alerts");

pub fn operations() -> Vec<Operation> {
    let own = [
        openapi::get("/v1/alerts", "listAlerts", "List open and closed alerts, newest first", list),
        openapi::post(
            "/v1/alerts/{id}/acknowledge",
            "acknowledgeAlert",
            "Acknowledge an open alert: it is not repeated or escalated",
            acknowledge,
        ),
        openapi::post(
            "/v1/alerts/{id}/resolve",
            "resolveAlert",
            "Resolve an open alert; it opens again only after it has ceased to fire",
            resolve,
        ),
    ];
    let own = own.into_iter().chain([firings::operation()]);
    let own = own.chain(risk::operations());
    own.chain(silences::operations()).chain(notifications::operations()).collect()
}

/// Which alerts are listed.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AlertsParams {
    /// Only alerts in this state.
    pub state: Option<AlertState>,
    /// Only alerts of this rule.
    pub rule: Option<String>,
    /// Only alerts of this severity.
    pub severity: Option<String>,
    /// Only alerts about this caller.
    pub caller: Option<String>,
}

/// An alert was changed.
struct AlertChanged;

impl IntoResponse for AlertChanged {
    fn into_response(self) -> Response {
        NoContent.into_response()
    }
}

impl Output for AlertChanged {
    fn describe(description: &mut Description<'_>) {
        NoContent::describe(description);
        description.problem("404", "There are no alerts, or none that is open has this id");
    }
}

impl Output for AlertsBody {
    fn describe(description: &mut Description<'_>) {
        description.answer::<Self>(200);
        let (_, none) = NO_ALERTS;
        description.problem("404", none);
    }
}

impl IntoResponse for AlertsBody {
    fn into_response(self) -> Response {
        Json(self).into_response()
    }
}

/// The alerts of the process.
///
/// # Errors
/// If it has no files of alerts.
pub fn alerts(edge: &Edge) -> Result<&Alerts, Problem> {
    let none = "there are no alerts: the setting `alerts` names no files";
    edge.api.alerts.as_ref().ok_or_else(|| Problem::new(StatusCode::NOT_FOUND, none))
}

/// The book of alerts of the fleet, or of this process.
///
/// # Errors
/// If the process has no files of alerts.
async fn listed(edge: &Edge) -> Result<AlertList, Problem> {
    Ok(alerts(edge)?.keeper.list().await)
}

/// A change of the book by a person, which has a line in the audit log.
struct AlertChange<'c> {
    edge: &'c Edge,
    by: &'c Principal,
    what: &'static str,
    id: &'c str,
}

impl AlertChange<'_> {
    /// Makes the change; or the problem, if it changes nothing.
    async fn make(
        self,
        change: impl Fn(&mut Book, Timestamp) -> bool,
        problem: (StatusCode, String),
    ) -> Result<(), Problem> {
        let alerts = alerts(self.edge)?;
        let changed = Changed::Alert { id: self.id.to_owned() };
        let recorded = Recorded::begin(self.edge, self.by, self.what, changed).await?;
        let made = alerts.keeper.change(change).await;
        let problem = || Problem::new(problem.0, problem.1);
        recorded.end(made.then_some(()).ok_or_else(problem)).await
    }
}

/// Lists alerts.
async fn list(
    _: Authorized<Viewer>,
    State(edge): State<Edge>,
    UrlQuery(params): UrlQuery<AlertsParams>,
) -> Result<AlertsBody, Problem> {
    read(&edge, &params).await
}

/// The alerts that the parameters select.
///
/// # Errors
/// If the process has no files of alerts.
pub async fn read(edge: &Edge, params: &AlertsParams) -> Result<AlertsBody, Problem> {
    let policy = alerts(edge)?.policy.load_full();
    Ok(AlertsBody::new((&policy, &listed(edge).await?), params, CLOSED_DEFAULT))
}

async fn acknowledge(
    by: Authorized<Operator>,
    State(edge): State<Edge>,
    UrlPath(id): UrlPath<String>,
) -> Result<AlertChanged, Problem> {
    acknowledged(&edge, &by.principal, &id).await.map(|()| AlertChanged)
}

async fn resolve(
    by: Authorized<Operator>,
    State(edge): State<Edge>,
    UrlPath(id): UrlPath<String>,
) -> Result<AlertChanged, Problem> {
    resolved(&edge, &by.principal, &id).await.map(|()| AlertChanged)
}

/// Acknowledges an alert.
///
/// # Errors
/// If it is not open.
pub async fn acknowledged(edge: &Edge, by: &Principal, id: &str) -> Result<(), Problem> {
    let change = AlertChange { edge, by, what: "acknowledge alert", id };
    let alert = AlertId::from(id.to_owned());
    change.make(|book, now| book.acknowledge(&alert, (&by.name, now)), not_open(id)).await
}

/// Resolves an alert.
///
/// # Errors
/// If it is not open.
pub async fn resolved(edge: &Edge, by: &Principal, id: &str) -> Result<(), Problem> {
    let policy = alerts(edge)?.policy.load_full();
    let change = AlertChange { edge, by, what: "resolve alert", id };
    let alert = AlertId::from(id.to_owned());
    let resolve = |book: &mut Book, now| book.resolve(&policy, &alert, (&by.name, now));
    change.make(resolve, not_open(id)).await
}

fn not_open(id: &str) -> (StatusCode, String) {
    (StatusCode::NOT_FOUND, format!("no open alert has the id `{id}`"))
}
