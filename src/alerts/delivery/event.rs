//! The body of a webhook: a CloudEvent in JSON.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use super::wording::Wording;
use crate::alerts::book::{Delivery, Notification, NotificationKind};
use crate::alerts::labels::Labels;
use crate::policy::AlertSeverity;
use crate::printable;

/// The media type of an event in JSON.
pub const CLOUD_EVENT: &str = "application/cloudevents+json; charset=utf-8";

/// Maximum number of alerts that a message shows.
const SHOWN_MAX: usize = 100;

/// A CloudEvent. Its type, time and data are also those that Standard Webhooks recommends.
#[derive(Debug, Serialize)]
struct CloudEvent<'a, T> {
    specversion: &'static str,
    id: &'a str,
    source: &'a str,
    r#type: &'static str,
    subject: &'a str,
    time: String,
    datacontenttype: &'static str,
    data: T,
}

/// The alerts of a group.
#[derive(Debug, Serialize)]
struct GroupData<'a> {
    title: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    summary: Option<&'a str>,
    /// What they have in common.
    group: &'a Labels,
    firing: usize,
    resolved: usize,
    /// How many there are of each rule.
    rules: BTreeMap<&'a str, usize>,
    /// How many are not in `alerts`.
    #[serde(skip_serializing_if = "is_none")]
    more: usize,
    alerts: Vec<AlertData<'a>>,
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

/// The event of a notification, or of those of a group. `source` names this installation.
pub fn event(delivery: &Delivery, wording: &Wording, source: &str) -> Value {
    let Delivery { id, channel, notifications, group } = delivery;
    let at_ms = notifications.iter().map(|one| one.at_ms).max().unwrap_or_default();
    let event = |r#type, subject| CloudEvent {
        specversion: "1.0",
        id,
        source,
        r#type,
        subject,
        time: time(at_ms),
        datacontenttype: "application/json",
        data: (),
    };
    let value = match (group, &notifications[..]) {
        (None, [one]) => {
            let subject = one.alert.labels.get("caller").unwrap_or(&one.alert.rule);
            let mut data = AlertData::new(one);
            data.title = wording.title.clone().unwrap_or(data.title);
            data.summary = wording.text.as_deref().or(data.summary);
            serde_json::to_value(event(kind(one), subject).of(data))
        }
        (group, all) => {
            let (no_labels, shown) = (Labels::new(), shown(delivery));
            let resolved = all.iter().filter(|one| one.kind == NotificationKind::Resolved).count();
            let data = GroupData {
                title: wording.title.clone().unwrap_or_else(|| group_title(delivery)),
                summary: wording.text.as_deref(),
                group: group.as_ref().unwrap_or(&no_labels),
                firing: all.len() - resolved,
                resolved,
                rules: by_rule(delivery),
                more: all.len() - shown.len(),
                alerts: shown.into_iter().map(AlertData::new).collect(),
            };
            serde_json::to_value(event("dev.tollgate.alert.group.v1", channel).of(data))
        }
    };
    value.unwrap_or_default()
}

impl<'a> CloudEvent<'a, ()> {
    /// The same event about this.
    fn of<T>(self, data: T) -> CloudEvent<'a, T> {
        let Self { specversion, id, source, r#type, subject, time, datacontenttype, data: () } =
            self;
        CloudEvent { specversion, id, source, r#type, subject, time, datacontenttype, data }
    }
}

impl<'a> AlertData<'a> {
    fn new(Notification { kind, alert, .. }: &'a Notification) -> Self {
        Self {
            alert: alert.id.as_str(),
            rule: &alert.rule,
            signal: &alert.signal,
            severity: &alert.severity,
            status: status(*kind),
            title: alert.title(),
            summary: alert.summary.as_deref(),
            value: alert.value.as_deref(),
            labels: &alert.labels,
            opened_at: time(alert.opened_ms),
        }
    }
}

/// What an alert does, as a word.
pub fn status(kind: NotificationKind) -> &'static str {
    match kind {
        NotificationKind::Firing | NotificationKind::Repeated | NotificationKind::Escalated => {
            "firing"
        }
        NotificationKind::Resolved => "resolved",
        NotificationKind::Test => "test",
    }
}

/// The type of the event of one notification.
fn kind(notification: &Notification) -> &'static str {
    match notification.kind {
        NotificationKind::Firing if notification.alert.signal == "threshold" => {
            "dev.tollgate.quota.threshold.v1"
        }
        NotificationKind::Firing => "dev.tollgate.alert.firing.v1",
        NotificationKind::Resolved => "dev.tollgate.alert.resolved.v1",
        NotificationKind::Repeated => "dev.tollgate.alert.repeated.v1",
        NotificationKind::Escalated => "dev.tollgate.alert.escalated.v1",
        NotificationKind::Test => "dev.tollgate.alert.test.v1",
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_none(count: &usize) -> bool {
    *count == 0
}

/// The alerts of a message that are shown: all, or the most severe ones, in the order in which they came.
pub fn shown(delivery: &Delivery) -> Vec<&Notification> {
    let mut shown: Vec<&Notification> = delivery.notifications.iter().collect();
    if SHOWN_MAX < shown.len() {
        shown.sort_by_key(|one| Reverse(AlertSeverity::parse(&one.alert.severity)));
        shown.truncate(SHOWN_MAX);
    }
    shown
}

/// How many alerts of each rule a message has.
pub fn by_rule(delivery: &Delivery) -> BTreeMap<&str, usize> {
    let mut counts = BTreeMap::new();
    for one in &delivery.notifications {
        *counts.entry(&*one.alert.rule).or_default() += 1;
    }
    counts
}

/// What a group has, for people and on one line, such as `3 firing, 1 resolved: domain=travel rule=quota`.
pub fn group_title(delivery: &Delivery) -> String {
    let all = &delivery.notifications;
    let resolved = all.iter().filter(|one| one.kind == NotificationKind::Resolved).count();
    let count = |count: usize, word: &str| (count != 0).then(|| format!("{count} {word}"));
    let counts = [count(all.len() - resolved, "firing"), count(resolved, "resolved")];
    let labels = delivery.group.iter().flat_map(Labels::iter);
    let shown = |(name, value): (&str, &str)| format!("{name}={}", printable::line(value));
    let labels: Vec<String> = labels.map(shown).collect();
    let counts = counts.into_iter().flatten().collect::<Vec<_>>().join(", ");
    [counts, labels.join(" ")]
        .into_iter()
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join(": ")
}

/// An instant in RFC 3339 format.
pub fn time(ms: u64) -> String {
    let ms = i64::try_from(ms).unwrap_or(i64::MAX);
    jiff::Timestamp::from_millisecond(ms).unwrap_or(jiff::Timestamp::MAX).to_string()
}
