//! The bodies of messages to Slack, Discord and PagerDuty.

use serde_json::{Value, json};

use super::event::{by_rule, group_title, shown, time};
use super::wording::Wording;
use crate::alerts::book::{Delivery, Notification, NotificationKind};
use crate::policy::escape_slack;
use crate::printable;

/// Maximum length of a message of Discord, of one of Slack before it is escaped, of a mail, and of a summary of PagerDuty.
const DISCORD_LEN_MAX: usize = 2_000;
const SLACK_LEN_MAX: usize = 8_000;
const SLACK_ESCAPED_LEN_MAX: usize = 5 * SLACK_LEN_MAX;
const MAIL_LEN_MAX: usize = 100_000;
const PAGERDUTY_LEN_MAX: usize = 1_024;

/// A message for Slack's incoming webhooks.
pub fn slack(delivery: &Delivery, wording: &Wording) -> Value {
    let (title, text) = standard(delivery, SLACK_LEN_MAX);
    // Templates escape the values in them.
    let title = wording.title.clone().unwrap_or_else(|| escape_slack(&title));
    let text = wording.text.clone().unwrap_or_else(|| escape_slack(&text));
    json!({ "text": cut(&joined(&title, &text), SLACK_ESCAPED_LEN_MAX), "unfurl_links": false })
}

/// A message for Discord's webhooks.
pub fn discord(delivery: &Delivery, wording: &Wording) -> Value {
    let (title, text) = standard(delivery, DISCORD_LEN_MAX);
    let title = wording.title.as_ref().unwrap_or(&title);
    let text = joined(title, wording.text.as_ref().unwrap_or(&text));
    // Without `parse`, a caller named `@everyone` would call everyone.
    json!({ "content": cut(&text, DISCORD_LEN_MAX), "allowed_mentions": { "parse": [] } })
}

/// An event of PagerDuty's Events API v2.
pub fn pagerduty(notification: &Notification, wording: &Wording, routing_key: &str) -> Value {
    let Notification { kind, alert, at_ms, .. } = notification;
    let action = match kind {
        NotificationKind::Resolved => "resolve",
        _ => "trigger",
    };
    let title = format!("{}: {}", alert.rule, printable::line(&alert.title()));
    let title = wording.title.as_ref().unwrap_or(&title);
    let mut details = json!({ "labels": alert.labels, "summary": alert.summary });
    if let Some(text) = &wording.text {
        details["text"] = text.as_str().into();
    }
    json!({
        "routing_key": routing_key,
        "event_action": action,
        "dedup_key": alert.id.as_str(),
        "payload": {
            "summary": cut(title, PAGERDUTY_LEN_MAX),
            "source": "tollgate",
            "severity": alert.severity,
            "timestamp": time(*at_ms),
            "class": alert.signal,
            "custom_details": details,
        },
    })
}

/// The text of a mail.
pub fn mail(delivery: &Delivery, wording: &Wording) -> String {
    let (title, text) = standard(delivery, MAIL_LEN_MAX);
    wording.text.clone().unwrap_or_else(|| joined(&title, &text))
}

/// The line of a subject, such as `[FIRING] warning: alice has used 80% of daily`, or `[GROUP] 3 firing: rule=quota`.
pub fn subject(delivery: &Delivery, wording: &Wording) -> String {
    wording.title.clone().unwrap_or_else(|| title(delivery))
}

fn title(delivery: &Delivery) -> String {
    match &delivery.notifications[..] {
        [one] => line(one),
        _ => format!("[GROUP] {}", group_title(delivery)),
    }
}

fn joined(title: &str, text: &str) -> String {
    format!("{title}\n{text}").trim_end().to_owned()
}

/// The title and the text without templates, together of a maximum length: one alert with its details, or a line for each.
pub fn standard(delivery: &Delivery, len_max: usize) -> (String, String) {
    let title = cut(&title(delivery), len_max);
    let left = len_max.saturating_sub(title.chars().count() + 1);
    let text = match &delivery.notifications[..] {
        [one] => cut(&details(one), left),
        _ => lines(delivery, left),
    };
    (title, text)
}

/// What a message says of an alert after its title.
fn details(one: &Notification) -> String {
    let alert = &one.alert;
    let mut lines: Vec<String> = alert.summary.iter().cloned().collect();
    let labels: Vec<String> =
        alert.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let labels = labels.join(" ");
    lines.push(format!("{} {}", alert.rule, printable::line(&labels)).trim_end().to_owned());
    lines.push(format!("since {}", time(alert.opened_ms)));
    lines.join("\n")
}

/// A line for each alert that is shown; at the end how many are not. If they are of several rules, first how many each has.
fn lines(delivery: &Delivery, len_max: usize) -> String {
    let mut lines: Vec<String> = Vec::new();
    let (mut len, mut left) = (0, delivery.notifications.len());
    let more = |left: usize| format!("... and {left} more");
    let (rules, shown) = (by_rule(delivery), shown(delivery));
    if 1 < rules.len() {
        let counts: Vec<String> =
            rules.iter().map(|(rule, count)| format!("{rule} {count}")).collect();
        let line = cut(&format!("by rule: {}", counts.join(", ")), len_max / 2);
        len += line.chars().count() + 1;
        lines.push(line);
    }
    for one in shown {
        let line = format!("{}, since {}", line(one), time(one.alert.opened_ms));
        len += line.chars().count() + 1;
        if len_max < len + more(left).len() {
            break;
        }
        lines.push(line);
        left -= 1;
    }
    if left != 0 {
        lines.push(more(left));
    }
    lines.join("\n")
}

/// A line about one alert.
fn line(one: &Notification) -> String {
    let word = one.kind.as_str().to_uppercase();
    let title = one.alert.title();
    format!("[{word}] {}: {}", one.alert.severity, printable::line(&title))
}

/// The begin of a text.
pub fn cut(text: &str, len_max: usize) -> String {
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
        let none = Wording::default();
        let mut delivery = book.take(&policy, &[("ops", 1)], Timestamp::from_ms(1_000)).remove(0);
        assert_eq!(subject(&delivery, &none).lines().count(), 1, "{}", subject(&delivery, &none));
        assert_eq!(mail(&delivery, &none).lines().count(), 3, "{}", mail(&delivery, &none));
        let title = group_title(&delivery);
        assert_eq!(title, r"2 firing: caller=ann\r\n[RESOLVED] all is well");
        delivery.notifications.pop();
        assert_eq!(mail(&delivery, &none).lines().count(), 3, "{}", mail(&delivery, &none));
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
        let text = discord(&delivery, &Wording::default())["content"].as_str().unwrap().to_owned();
        assert!(text.starts_with("[GROUP] 90 firing: rule=quota\n[FIRING] warning: "), "{text}");
        let shown = text.lines().count() - 2;
        assert!(text.ends_with(&format!("\n... and {} more", 90 - shown)), "{text}");
        assert!((1_800..=DISCORD_LEN_MAX).contains(&text.chars().count()), "{}", text.len());
    }

    #[test]
    fn a_digest_counts_all_by_rule_and_shows_the_most_severe() {
        let text = "channels: { ops: { type: email, host: h, from: a@a.example, to: [b@a.example], group_by: [], group_wait: 1s } }\n\
                    alerts: { quota: { when: threshold }, down: { when: store_down, severity: critical } }";
        let source = Source { path: "alerts.yaml".to_owned(), text: text.to_owned() };
        let policy = compile_alerts(&[source]).unwrap();
        let (mut book, now) = (Book::default(), Timestamp::from_ms(0));
        for number in 0..300 {
            let labels = Labels::new().with("caller", Some(&number.to_string()));
            let rule = &policy.rules[usize::from(number == 250)];
            let id = AlertId::new(&rule.name, &labels);
            book.event(&policy, &Firing { id, rule, labels, value: None }, now);
        }
        let delivery = book.take(&policy, &[("ops", 1)], Timestamp::from_ms(1_000)).remove(0);
        let none = Wording::default();
        let text = mail(&delivery, &none);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[..2], ["[GROUP] 300 firing", "by rule: down 1, quota 299"]);
        assert!(lines[2].starts_with("[FIRING] critical: "), "{}", lines[2]);
        assert_eq!((lines.len(), lines[102]), (103, "... and 200 more"));
        let event = crate::alerts::delivery::event::event(&delivery, &none, "/tollgate");
        let data = &event["data"];
        assert_eq!((&data["firing"], &data["more"]), (&300.into(), &200.into()));
        assert_eq!(data["rules"], serde_json::json!({ "down": 1, "quota": 299 }));
        assert_eq!(data["alerts"].as_array().unwrap().len(), 100);
    }
}
