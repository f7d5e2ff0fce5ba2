//! The bodies of messages to Slack, Discord and PagerDuty.

use serde_json::{Value, json};

use super::event::time;
use crate::alerts::book::{Notification, NotificationKind};

/// Maximum length of a message of Discord, and of a summary of PagerDuty.
const DISCORD_LEN_MAX: usize = 2_000;
const PAGERDUTY_LEN_MAX: usize = 1_024;

/// A message for Slack's incoming webhooks.
pub fn slack(notification: &Notification) -> Value {
    // Slack reads these three as markup, also to mention people.
    let escaped =
        text(notification).replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    json!({ "text": escaped, "unfurl_links": false })
}

/// A message for Discord's webhooks.
pub fn discord(notification: &Notification) -> Value {
    // Without `parse`, a caller named `@everyone` would call everyone.
    json!({ "content": cut(&text(notification), DISCORD_LEN_MAX), "allowed_mentions": { "parse": [] } })
}

/// An event of PagerDuty's Events API v2.
pub fn pagerduty(notification: &Notification, routing_key: &str) -> Value {
    let Notification { kind, alert, at_ms, .. } = notification;
    let action = match kind {
        NotificationKind::Resolved => "resolve",
        _ => "trigger",
    };
    json!({
        "routing_key": routing_key,
        "event_action": action,
        "dedup_key": alert.id.as_str(),
        "payload": {
            "summary": cut(&format!("{}: {}", alert.rule, alert.title()), PAGERDUTY_LEN_MAX),
            "source": "tollgate",
            "severity": alert.severity,
            "timestamp": time(*at_ms),
            "class": alert.signal,
            "custom_details": { "labels": alert.labels, "summary": alert.summary },
        },
    })
}

/// The line of a subject, such as `[FIRING] warning: alice has used 80% of daily`.
pub fn subject(notification: &Notification) -> String {
    let word = notification.kind.as_str().to_uppercase();
    format!("[{word}] {}: {}", notification.alert.severity, notification.alert.title())
}

/// The message as plain text.
pub fn text(notification: &Notification) -> String {
    let alert = &notification.alert;
    let mut lines = vec![subject(notification)];
    lines.extend(alert.summary.clone());
    let labels: Vec<String> =
        alert.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    lines.push(format!("{} {}", alert.rule, labels.join(" ")).trim_end().to_owned());
    lines.push(format!("since {}", time(alert.opened_ms)));
    lines.join("\n")
}

fn cut(text: &str, len_max: usize) -> String {
    text.chars().take(len_max).collect()
}
