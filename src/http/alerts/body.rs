//! Alerts as the API shows them.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::AlertsParams;
use crate::alerts::{AlertAnswer, AlertList, OpenAlert};
use crate::clock::Timestamp;
use crate::observe::audit::instant;
use crate::policy::AlertPolicy;

/// The state of an alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AlertState {
    Open,
    Closed,
}

/// Open and closed alerts.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Alerts")]
pub struct AlertsBody {
    /// The alerts are those of all sidecars, and not of this one alone.
    pub of_fleet: bool,
    /// Notifications that are to be sent.
    pub pending: usize,
    /// Notifications that could not be sent.
    pub dead: usize,
    /// The open alerts first, newest first.
    pub items: Vec<AlertBody>,
}

/// An alert.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Alert")]
pub struct AlertBody {
    pub id: String,
    pub state: AlertState,
    pub rule: String,
    pub signal: String,
    pub severity: String,
    /// A line for people.
    pub title: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
    /// The value of the signal when it was opened.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// What it is about, such as a caller and a limit.
    pub labels: BTreeMap<String, String>,
    #[schemars(extend("format" = "date-time"))]
    pub opened_at: String,
    #[schemars(extend("format" = "date-time"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub closed_at: Option<String>,
    /// The person who has acknowledged it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub acknowledged_by: Option<String>,
    /// The person who has resolved it; absent if it resolved by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resolved_by: Option<String>,
    /// What was done with the caller that it is about, while it holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer: Option<AlertAnswerBody>,
    /// The answer of its rule is not given yet, because too many callers are restricted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub answer_waits: bool,
    /// A silence or a maintenance window holds back its notifications.
    pub silenced: bool,
}

/// The answer to an alert: its caller has the amounts of a tier, where they are less than its own.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "AlertAnswer")]
pub struct AlertAnswerBody {
    pub tier: String,
    #[schemars(extend("format" = "date-time"))]
    pub until: String,
}

impl From<&AlertAnswer> for AlertAnswerBody {
    fn from(answer: &AlertAnswer) -> Self {
        let until = instant(Timestamp::from_ms(answer.until_ms));
        Self { tier: answer.tier.clone(), until }
    }
}

impl AlertsBody {
    /// The alerts that the parameters select, of the closed ones at most so many.
    pub fn new(
        (policy, list): (&AlertPolicy, &AlertList),
        params: &AlertsParams,
        closed_max: usize,
    ) -> Self {
        let answer =
            |alert: &OpenAlert| list.book.answer_to(&alert.id, list.now).map(AlertAnswerBody::from);
        let mut open: Vec<AlertBody> = list
            .book
            .open_alerts()
            .map(|alert| {
                let is_silenced = list.book.is_silenced(policy, alert, list.now);
                AlertBody { answer: answer(alert), ..AlertBody::open(alert, is_silenced) }
            })
            .collect();
        open.sort_by(|one, other| other.opened_at.cmp(&one.opened_at));
        let closed = list.closed.iter().map(|closed| AlertBody {
            state: AlertState::Closed,
            closed_at: Some(instant(Timestamp::from_ms(closed.closed_ms))),
            resolved_by: closed.resolved_by.clone(),
            answer: answer(&closed.alert),
            answer_waits: false,
            ..AlertBody::open(&closed.alert, false)
        });
        let closed = closed.filter(|one| params.selects(one)).take(closed_max);
        open.retain(|one| params.selects(one));
        Self {
            of_fleet: list.of_fleet,
            pending: list.book.pending(),
            dead: list.book.dead().count(),
            items: open.into_iter().chain(closed).collect(),
        }
    }
}

impl AlertBody {
    fn open(alert: &OpenAlert, silenced: bool) -> Self {
        let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        Self {
            id: alert.id.to_string(),
            state: AlertState::Open,
            rule: alert.rule.clone(),
            signal: alert.signal.clone(),
            severity: alert.severity.clone(),
            title: alert.title(),
            summary: alert.summary.clone(),
            value: alert.value.clone(),
            labels: alert.labels.iter().map(owned).collect(),
            opened_at: instant(Timestamp::from_ms(alert.opened_ms)),
            closed_at: None,
            acknowledged_by: alert.acknowledged_by.clone(),
            resolved_by: None,
            answer: None,
            answer_waits: alert.answer_waits,
            silenced,
        }
    }
}

impl AlertsParams {
    fn selects(&self, alert: &AlertBody) -> bool {
        let is = |wanted: &Option<String>, found: Option<&String>| {
            wanted.as_ref().is_none_or(|wanted| found == Some(wanted))
        };
        self.state.is_none_or(|state| state == alert.state)
            && is(&self.rule, Some(&alert.rule))
            && is(&self.severity, Some(&alert.severity))
            && is(&self.caller, alert.labels.get("caller"))
    }
}
