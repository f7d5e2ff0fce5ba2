//! The body of a webhook: a CloudEvent in JSON.

use serde::Serialize;
use serde_json::Value;

use crate::alerts::book::{Notification, NotificationKind};
use crate::alerts::labels::Labels;

/// The media type of an event in JSON.
pub const CLOUD_EVENT: &str = "application/cloudevents+json; charset=utf-8";

/// A CloudEvent. Its type, time and data are also those that Standard Webhooks recommends.
#[derive(Debug, Serialize)]
struct CloudEvent<'a> {
    specversion: &'static str,
    id: &'a str,
    source: &'a str,
    r#type: &'static str,
    subject: &'a str,
    time: String,
    datacontenttype: &'static str,
    data: AlertData<'a>,
}

/// The alert of an event.
#[derive(Debug, Serialize)]
struct AlertData<'a> {
    alert: &'a str,
    rule: &'a str,
    signal: &'a str,
    severity: &'a str,
    status: &'static str,
    title: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    summary: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<&'a str>,
    labels: &'a Labels,
    opened_at: String,
}

/// The event of a notification. `source` names this installation.
pub fn event(notification: &Notification, source: &str) -> Value {
    let Notification { id, kind, alert, at_ms, .. } = notification;
    let (r#type, status) = match kind {
        NotificationKind::Firing if alert.signal == "threshold" => {
            ("dev.tollgate.quota.threshold.v1", "firing")
        }
        NotificationKind::Firing => ("dev.tollgate.alert.firing.v1", "firing"),
        NotificationKind::Resolved => ("dev.tollgate.alert.resolved.v1", "resolved"),
        NotificationKind::Repeated => ("dev.tollgate.alert.repeated.v1", "firing"),
        NotificationKind::Escalated => ("dev.tollgate.alert.escalated.v1", "firing"),
        NotificationKind::Test => ("dev.tollgate.alert.test.v1", "test"),
    };
    let event = CloudEvent {
        specversion: "1.0",
        id,
        source,
        r#type,
        subject: alert.labels.get("caller").unwrap_or(&alert.rule),
        time: time(*at_ms),
        datacontenttype: "application/json",
        data: AlertData {
            alert: alert.id.as_str(),
            rule: &alert.rule,
            signal: &alert.signal,
            severity: &alert.severity,
            status,
            title: alert.title(),
            summary: alert.summary.as_deref(),
            value: alert.value.as_deref(),
            labels: &alert.labels,
            opened_at: time(alert.opened_ms),
        },
    };
    serde_json::to_value(event).unwrap_or_default()
}

/// An instant in RFC 3339 format.
pub fn time(ms: u64) -> String {
    let ms = i64::try_from(ms).unwrap_or(i64::MAX);
    jiff::Timestamp::from_millisecond(ms).unwrap_or(jiff::Timestamp::MAX).to_string()
}
