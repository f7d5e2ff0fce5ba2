//! What the page of alerts shows, and what its forms do.

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;

use super::failure::Failure;
use super::link::encoded;
use super::login::redirect;
use super::page::Page;
use super::view;
use super::view::layout::Section;
use super::visitor::{Submitted, Visitor};
use crate::api_token::Role;
use crate::http::alerts::{
    AlertState, AlertsBody, AlertsParams, DAYS, FiringsBody, MaintenanceBody, SilenceBody,
    SilenceForm, acknowledged, alerts, end_silence, firings, maintenance, read, resolved, silence,
    silences,
};
use crate::http::auth::{Operator, Viewer};
use crate::http::edge::Edge;

/// The filters; empty ones select all.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct AlertsQuery {
    pub severity: String,
    pub rule: String,
    pub caller: String,
    /// The rule that is replayed on usage.
    pub replay: String,
    /// The days of usage for that; empty for the usual number.
    pub days: String,
    /// What was just done.
    pub done: String,
}

/// The fields of all forms.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct AlertForm {
    pub id: String,
    pub rule: String,
    pub until: String,
    pub comment: String,
}

/// Open and closed alerts.
#[derive(Debug)]
pub struct AlertsPage {
    pub query: AlertsQuery,
    pub open: AlertsBody,
    pub closed: AlertsBody,
    pub silences: Vec<SilenceBody>,
    pub maintenance: Vec<MaintenanceBody>,
    /// The names of all rules.
    pub rules: Vec<String>,
    /// When the rule of the query would have fired, or why that is not known.
    pub replayed: Option<Result<FiringsBody, String>>,
    /// For forms; None: the visitor may not change anything.
    pub form_token: Option<String>,
    pub now_ms: u64,
}

/// Shows the page.
pub async fn show(
    visitor: Visitor,
    State(edge): State<Edge>,
    Query(query): Query<AlertsQuery>,
) -> Result<Page, Failure> {
    visitor.authorized::<Viewer>()?;
    let now_ms = edge.engine.now().as_ms();
    let form_token = visitor.may(Role::Operator).then(|| visitor.form_token.clone());
    if alerts(&edge).is_err() {
        return Ok(visitor.page(Section::Alerts, "Alerts", &view::alerts::none_configured()));
    }
    let params = |state| AlertsParams {
        state: Some(state),
        rule: some(&query.rule),
        severity: some(&query.severity),
        caller: some(&query.caller),
    };
    let open = read(&edge, &params(AlertState::Open)).await?;
    let closed = read(&edge, &params(AlertState::Closed)).await?;
    let (silences, maintenance) = (silences(&edge).await?, maintenance(&edge)?);
    let policy = alerts(&edge)?.policy.load_full();
    let rules = policy.rules.iter().map(|rule| rule.name.to_string()).collect();
    let replayed = match some(&query.replay) {
        Some(rule) => Some(replayed(&edge, &rule, &query.days).await),
        None => None,
    };
    let page = AlertsPage {
        query,
        open,
        closed,
        silences,
        maintenance,
        rules,
        replayed,
        form_token,
        now_ms,
    };
    Ok(visitor.page(Section::Alerts, "Alerts", &view::alerts::page(&page)))
}

/// When a rule would have fired; or why that is not known, for people.
async fn replayed(edge: &Edge, rule: &str, days: &str) -> Result<FiringsBody, String> {
    let days = match days.trim() {
        "" => DAYS,
        text => text.parse().map_err(|_| format!("`{text}` is no number of days"))?,
    };
    firings(edge, rule, Some(days)).await.map_err(|problem| problem.detail)
}

/// Does what a form asks, by the operation of the API, which writes it to the audit log first.
pub async fn act(
    State(edge): State<Edge>,
    Path(action): Path<String>,
    Submitted { visitor, form }: Submitted<AlertForm>,
) -> Result<Response, Failure> {
    let by = visitor.authorized::<Operator>()?.principal;
    match action.as_str() {
        "acknowledge" => acknowledged(&edge, &by, &form.id).await?,
        "resolve" => resolved(&edge, &by, &form.id).await?,
        "silence" => {
            let (rule, until, comment) = (some(&form.rule), form.until, form.comment);
            let form = SilenceForm { rule, until, comment, ..SilenceForm::default() };
            silence(&edge, &by, form).await.map(drop)?;
        }
        "end-silence" => end_silence(&edge, &by, &form.id).await?,
        _ => return Err(Failure::new(StatusCode::NOT_FOUND, "no such action")),
    }
    Ok(redirect(&format!("/dashboard/alerts?done={}", encoded(&action))).into_response())
}

/// What the page says of what was just done.
pub fn sentence(action: &str) -> Option<&'static str> {
    match action {
        "acknowledge" => Some("the alert is acknowledged"),
        "resolve" => Some("the alert is resolved"),
        "silence" => Some("the silence holds"),
        "end-silence" => Some("the silence has ended"),
        _ => None,
    }
}

fn some(text: &str) -> Option<String> {
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}
