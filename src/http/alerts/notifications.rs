//! `/v1/alerts/notifications`: those that could not be sent, and tests.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use schemars::JsonSchema;
use serde::Serialize;

use super::{AlertChange, AlertChanged, NO_ALERTS, alerts, listed};
use crate::alerts::Notification;
use crate::clock::Timestamp;
use crate::http::auth::{Authorized, Operator, Viewer};
use crate::http::edge::Edge;
use crate::http::extract::UrlPath;
use crate::http::openapi::{self, Operation};
use crate::http::problem::Problem;
use crate::http::recorded::Recorded;
use crate::observe::audit::{Changed, instant};

pub fn operations() -> [Operation; 3] {
    [
        openapi::get(
            "/v1/alerts/notifications",
            "listDeadNotifications",
            "List the notifications that could not be sent, oldest first",
            list,
        )
        .or([NO_ALERTS]),
        openapi::post(
            "/v1/alerts/notifications/{id}/resend",
            "resendNotification",
            "Send a notification again that could not be sent",
            resend,
        ),
        openapi::post(
            "/v1/alerts/rules/{name}/test",
            "testAlert",
            "Send a test notification to each channel of a rule",
            test,
        ),
    ]
}

/// Notifications that could not be sent.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "DeadNotifications")]
struct NotificationsBody {
    items: Vec<NotificationItem>,
}

/// A notification that could not be sent.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "DeadNotification")]
struct NotificationItem {
    id: String,
    channel: String,
    /// firing, resolved, repeated, escalated or test.
    kind: &'static str,
    alert: String,
    rule: String,
    title: String,
    attempts: u32,
    /// Why the last attempt failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[schemars(extend("format" = "date-time"))]
    at: String,
}

async fn list(
    _: Authorized<Viewer>,
    State(edge): State<Edge>,
) -> Result<Json<NotificationsBody>, Problem> {
    let list = listed(&edge).await?;
    Ok(Json(NotificationsBody { items: list.book.dead().map(NotificationItem::from).collect() }))
}

async fn resend(
    by: Authorized<Operator>,
    State(edge): State<Edge>,
    UrlPath(id): UrlPath<String>,
) -> Result<AlertChanged, Problem> {
    let (what, by) = ("resend notification", &by.principal);
    let change = AlertChange { edge: &edge, by, what, id: &id };
    let unknown = (StatusCode::NOT_FOUND, format!("no unsent notification has the id `{id}`"));
    change.make(|book, now| book.resend(&id, now), unknown).await.map(|()| AlertChanged)
}

async fn test(
    by: Authorized<Operator>,
    State(edge): State<Edge>,
    UrlPath(name): UrlPath<String>,
) -> Result<AlertChanged, Problem> {
    let alerts = alerts(&edge)?;
    let policy = alerts.policy.load_full();
    let unknown = || Problem::new(StatusCode::NOT_FOUND, format!("no rule has the name `{name}`"));
    let rule = policy.rule(&name).ok_or_else(unknown)?;
    let change = Changed::Alert { id: name.clone() };
    let recorded = Recorded::begin(&edge, &by.principal, "test alert", change).await?;
    alerts.keeper.change(|book, now| book.test(&policy, rule, now)).await;
    recorded.end(Ok(AlertChanged)).await
}

impl From<&Notification> for NotificationItem {
    fn from(notification: &Notification) -> Self {
        let Notification { id, kind, channel, alert, at_ms, attempts, error, .. } = notification;
        Self {
            id: id.clone(),
            channel: channel.clone(),
            kind: kind.as_str(),
            alert: alert.id.to_string(),
            rule: alert.rule.clone(),
            title: alert.title(),
            attempts: *attempts,
            error: error.clone(),
            at: instant(Timestamp::from_ms(*at_ms)),
        }
    }
}
