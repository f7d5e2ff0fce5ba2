//! The bodies of messages to Slack, Discord and PagerDuty.

use serde_json::{Value, json};

use super::event::{group_title, time};
use crate::alerts::book::{Delivery, Notification, NotificationKind};
use crate::printable;

/// Maximum length of a message of Discord, of one of Slack before it is escaped, of a mail, and of a summary of PagerDuty.
const DISCORD_LEN_MAX: usize = 2_000;
const SLACK_LEN_MAX: usize = 8_000;
const MAIL_LEN_MAX: usize = 100_000;
const PAGERDUTY_LEN_MAX: usize = 1_024;

/// A message for Slack's incoming webhooks.
pub fn slack(delivery: &Delivery) -> Value {
    // Slack reads these three as markup, also to mention people.
    let escaped = text(delivery, SLACK_LEN_MAX)
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;");
    json!({ "text": escaped, "unfurl_links": false })
}

/// A message for Discord's webhooks.
pub fn discord(delivery: &Delivery) -> Value {
    // Without `parse`, a caller named `@everyone` would call everyone.
    json!({ "content": text(delivery, DISCORD_LEN_MAX), "allowed_mentions": { "parse": [] } })
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
            "summary": cut(
                &format!("{}: {}", alert.rule, printable::line(&alert.title())),
                PAGERDUTY_LEN_MAX,
            ),
            "source": "tollgate",
            "severity": alert.severity,
            "timestamp": time(*at_ms),
            "class": alert.signal,
            "custom_details": { "labels": alert.labels, "summary": alert.summary },
        },
    })
}

/// The text of a mail.
pub fn mail(delivery: &Delivery) -> String {
    text(delivery, MAIL_LEN_MAX)
}

/// The line of a subject, such as `[FIRING] warning: alice has used 80% of daily`, or `[GROUP] 3 firing: rule=quota`.
pub fn subject(delivery: &Delivery) -> String {
    match &delivery.notifications[..] {
        [one] => line(one),
        _ => format!("[GROUP] {}", group_title(delivery)),
    }
}

/// The message as plain text, of a maximum length: one alert with its details, or a line for each.
fn text(delivery: &Delivery, len_max: usize) -> String {
    let [one] = &delivery.notifications[..] else { return lines(delivery, len_max) };
    let alert = &one.alert;
    let mut lines = vec![line(one)];
    lines.extend(alert.summary.clone());
    let labels: Vec<String> =
        alert.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let labels = labels.join(" ");
    lines.push(format!("{} {}", alert.rule, printable::line(&labels)).trim_end().to_owned());
    lines.push(format!("since {}", time(alert.opened_ms)));
    cut(&lines.join("\n"), len_max)
}

/// The subject, and a line for each alert; at the end how many have no place.
fn lines(delivery: &Delivery, len_max: usize) -> String {
    let mut text = cut(&subject(delivery), len_max);
    let mut left = delivery.notifications.len();
    let more = |left: usize| format!("\n... and {left} more");
    for one in &delivery.notifications {
        let line = format!("\n{}, since {}", line(one), time(one.alert.opened_ms));
        if len_max < text.chars().count() + line.chars().count() + more(left).len() {
            text.push_str(&more(left));
            break;
        }
        text.push_str(&line);
        left -= 1;
    }
    text
}

/// A line about one alert.
fn line(one: &Notification) -> String {
    let word = one.kind.as_str().to_uppercase();
    let title = one.alert.title();
    format!("[{word}] {}: {}", one.alert.severity, printable::line(&title))
}

fn cut(text: &str, len_max: usize) -> String {
    text.chars().take(len_max).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alerts::labels::{AlertId, Labels};
    use crate::alerts::{Book, Firing};
    use crate::clock::Timestamp;
    use crate::policy::{Source, compile_alerts};

    #[test]
    fn a_caller_cannot_add_lines_to_a_message() {
        let text = "channels: { ops: { type: slack, url: 'https://a.example', group_by: [caller], group_wait: 1s } }\n\
                    alerts: { quota: { when: threshold } }";
        let source = Source { path: "alerts.yaml".to_owned(), text: text.to_owned() };
        let policy = compile_alerts(&[source]).unwrap();
        let mut book = Book::default();
        for percent in ["80", "90"] {
            let labels = Labels::new().with("caller", Some("ann\r\n[RESOLVED] all is well"));
            let labels = labels.with("percent", Some(percent));
            let (id, rule) = (AlertId::new("quota", &labels), &policy.rules[0]);
            let firing = Firing { id, rule, labels, value: None };
            book.event(&policy, &firing, Timestamp::from_ms(0));
        }
        let mut delivery = book.take(&policy, &[("ops", 1)], Timestamp::from_ms(1_000)).remove(0);
        assert_eq!(subject(&delivery).lines().count(), 1, "{}", subject(&delivery));
        assert_eq!(mail(&delivery).lines().count(), 3, "{}", mail(&delivery));
        let title = group_title(&delivery);
        assert_eq!(title, r"2 firing: caller=ann\r\n[RESOLVED] all is well");
        delivery.notifications.pop();
        assert_eq!(mail(&delivery).lines().count(), 3, "{}", mail(&delivery));
    }

    #[test]
    fn a_long_message_ends_with_the_number_of_alerts_that_have_no_place() {
        let text = "channels: { ops: { type: discord, url: 'https://a.example', group_by: [rule], group_wait: 1s } }\n\
                    alerts: { quota: { when: threshold } }";
        let source = Source { path: "alerts.yaml".to_owned(), text: text.to_owned() };
        let policy = compile_alerts(&[source]).unwrap();
        let (mut book, now) = (Book::default(), Timestamp::from_ms(0));
        for number in 0..90 {
            let caller = format!("{number}\n{}", "x".repeat(40));
            let labels = Labels::new().with("caller", Some(&caller));
            let (id, rule) = (AlertId::new("quota", &labels), &policy.rules[0]);
            book.event(&policy, &Firing { id, rule, labels, value: None }, now);
        }
        let delivery = book.take(&policy, &[("ops", 1)], Timestamp::from_ms(1_000)).remove(0);
        let text = discord(&delivery)["content"].as_str().unwrap().to_owned();
        assert!(text.starts_with("[GROUP] 90 firing: rule=quota\n[FIRING] warning: "), "{text}");
        let shown = text.lines().count() - 2;
        assert!(text.ends_with(&format!("\n... and {} more", 90 - shown)), "{text}");
        assert!((1_800..=DISCORD_LEN_MAX).contains(&text.chars().count()), "{}", text.len());
    }
}
