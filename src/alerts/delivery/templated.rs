//! Makes the texts of a notification by the templates of its channel.

use std::collections::BTreeMap;

use super::chat;
use super::event::{by_rule, shown, status, time};
use super::wording::Wording;
use crate::alerts::book::{Delivery, Notification, NotificationKind};
use crate::alerts::labels::Labels;
use crate::policy::{AlertTemplate, AlertTemplates, TemplateAlert, TemplateFields};
use crate::printable;

/// Maximum length of a title, and of a text for all channels.
const TITLE_LEN_MAX: usize = 500;
const TEXT_LEN_MAX: usize = 100_000;

/// The texts of a notification. If a template fails, or if it makes nothing, the standard text is sent.
pub fn wording(templates: &AlertTemplates, delivery: &Delivery) -> Wording {
    if *templates == AlertTemplates::default() {
        return Wording::default();
    }
    let fields = fields(delivery);
    let render = |key: &str, template: &Option<AlertTemplate>| {
        let (channel, notification) = (&delivery.channel, &delivery.id);
        match template.as_ref()?.render(&fields) {
            Ok(text) if !printable::is_blank(&text) => return Some(text),
            Ok(_) => tracing::warn!(
                channel,
                notification,
                template = key,
                "a template made nothing; the standard text is sent"
            ),
            Err(error) => tracing::warn!(
                channel,
                notification,
                template = key,
                %error,
                "a template failed; the standard text is sent"
            ),
        }
        None
    };
    let title = render("title", &templates.title).map(|title| {
        let words: Vec<&str> = title.split_whitespace().collect();
        chat::cut(&printable::line(&words.join(" ")), TITLE_LEN_MAX)
    });
    let text = render("text", &templates.text);
    let text = text.map(|text| chat::cut(&printable::lines(text.trim_end()), TEXT_LEN_MAX));
    Wording { title, text }
}

fn fields(delivery: &Delivery) -> TemplateFields {
    let alerts: Vec<TemplateAlert> = shown(delivery).into_iter().map(alert).collect();
    let (all, resolved) = (delivery.notifications.len(), delivery.notifications.iter());
    let resolved = resolved.filter(|one| one.kind == NotificationKind::Resolved).count();
    let (title, text) = chat::standard(delivery, TEXT_LEN_MAX);
    let first = &delivery.notifications[0];
    TemplateFields {
        title,
        text,
        channel: delivery.channel.clone(),
        status: match resolved == all {
            true => "resolved",
            false => status(first.kind),
        },
        firing: all - resolved,
        resolved,
        more: all - alerts.len(),
        rules: by_rule(delivery)
            .into_iter()
            .map(|(rule, count)| (rule.to_owned(), count))
            .collect(),
        group: delivery.group.as_ref().map(labels).unwrap_or_default(),
        alert: alerts[0].clone(),
        alerts,
    }
}

fn alert(Notification { kind, alert, .. }: &Notification) -> TemplateAlert {
    let line = |text: &str| printable::line(text).into_owned();
    TemplateAlert {
        id: alert.id.to_string(),
        rule: alert.rule.clone(),
        signal: alert.signal.clone(),
        severity: alert.severity.clone(),
        status: status(*kind),
        kind: kind.as_str(),
        title: line(&alert.title()),
        summary: alert.summary.clone().unwrap_or_default(),
        value: alert.value.clone().unwrap_or_default(),
        labels: labels(&alert.labels),
        opened_at: time(alert.opened_ms),
    }
}

/// Labels, of which none can add lines to a text.
fn labels(labels: &Labels) -> BTreeMap<String, String> {
    let line = |(name, value): (&str, &str)| (name.to_owned(), printable::line(value).into_owned());
    labels.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alerts::labels::AlertId;
    use crate::alerts::{Book, Firing};
    use crate::clock::Timestamp;
    use crate::policy::{AlertPolicy, Source, compile_alerts};

    /// The policy of a channel with templates, and a notification of it about a caller.
    fn delivery(channel: &str, caller: &str) -> (AlertPolicy, Delivery) {
        let text =
            format!("channels:\n  ops: {channel}\nalerts: {{ quota: {{ when: threshold }} }}");
        let source = Source { path: "alerts.yaml".to_owned(), text };
        let policy = compile_alerts(&[source]).unwrap();
        let mut book = Book::default();
        let labels = Labels::new().with("caller", Some(caller)).with("percent", Some("80"));
        let labels = labels.with("limit", Some("daily"));
        let (id, rule) = (AlertId::new("quota", &labels), &policy.rules[0]);
        let firing = Firing { id, rule, labels, value: None };
        book.event(&policy, &firing, Timestamp::from_ms(0));
        let delivery = book.take(&policy, &[("ops", 1)], Timestamp::from_ms(0)).remove(0);
        (policy, delivery)
    }

    fn worded((policy, delivery): &(AlertPolicy, Delivery)) -> Wording {
        wording(&policy.channels[0].templates, delivery)
    }

    const EVIL: &str = "ann\r\nBcc: all@example.com <!channel> @everyone";

    #[test]
    fn a_template_is_the_text_of_a_message() {
        let channel = "{ type: discord, url: 'https://a.example', title: '{{ alert.severity|upper }} {{ title }}', \
                       text: \"{{ alert.labels.caller }}:\\n{{ alert.labels.tier }}{{ text }}\" }";
        let of = delivery(channel, EVIL);
        let sent = chat::discord(&of.1, &worded(&of));
        let content = sent["content"].as_str().unwrap();
        let name = r"ann\r\nBcc: all@example.com <!channel> @everyone";
        assert!(content.starts_with(&format!("WARNING [FIRING] warning: {name} has used 80%")));
        assert!(
            content.contains(&format!("\n{name}:\nquota caller={name} limit=daily")),
            "{content}"
        );
        assert_eq!(sent["allowed_mentions"]["parse"], serde_json::json!([]));
    }

    #[test]
    fn callers_cannot_mention_people_in_slack_and_templates_can() {
        let channel = "{ type: slack, url: 'https://a.example', title: '<!here> {{ title }}' }";
        let of = delivery(channel, EVIL);
        let sent = chat::slack(&of.1, &worded(&of));
        let text = sent["text"].as_str().unwrap();
        assert!(text.starts_with("<!here> [FIRING] warning: ann"), "{text}");
        assert_eq!(text.matches('<').count(), 1, "{text}");
        assert_eq!(text.lines().count(), 3, "{text}");
    }

    #[test]
    fn a_subject_has_one_line() {
        let channel = "{ type: email, host: h, from: a@a.example, to: [b@a.example], title: \"a\\r\\nBcc: {{ alert.labels.caller }}\" }";
        let of = delivery(channel, EVIL);
        let subject = chat::subject(&of.1, &worded(&of));
        assert!(subject.starts_with("a Bcc: ann\\r\\nBcc:"), "{subject}");
        assert!(!subject.contains(['\r', '\n']), "{subject}");
        assert!(chat::mail(&of.1, &worded(&of)).starts_with("[FIRING] warning: "));
    }

    #[test]
    fn a_template_that_fails_or_is_empty_leaves_the_standard_text() {
        let channel = "{ type: slack, url: 'https://a.example', title: '{{ alert.labels.limit + 1 if alert.labels.limit == \"daily\" }}', \
                       text: '{{ alert.labels.tier }}' }";
        let of = delivery(channel, "ann");
        let text = chat::slack(&of.1, &worded(&of))["text"].as_str().unwrap().to_owned();
        assert!(text.starts_with("[FIRING] warning: ann has used 80% of daily\nquota "), "{text}");
    }
}
