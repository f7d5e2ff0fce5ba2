//! The types of a file of alerts.

use std::collections::BTreeMap;

use super::Named;
use super::map::{MapFile, Read, map};
use super::readers::{flag, free_text, named, names, number, one, text, texts, word};
use super::schedule::{ScheduleFile, TextsFile, one_or_many};
use super::words::{
    AlertSeverityFile, AlertSignalFile, AlertSplitFile, ChannelTypeFile, MailTlsFile,
};
use crate::policy::problem::Source;
use crate::policy::yaml::{Node, Reader, Shape, Spanned, Value};

/// The maps in which a misplaced key may be valid.
const ELSEWHERE: &[&Shape] = &[
    &AlertsFile::SHAPE,
    &AlertRuleFile::SHAPE,
    &AlertAnswerFile::SHAPE,
    &EscalationFile::SHAPE,
    &MaintenanceFile::SHAPE,
    &ChannelFile::SHAPE,
];

/// Maximum of a port.
const PORT_MAX: u64 = 65_535;

/// Maximum of `top`: the past of each caller is read with some queries an hour.
const TOP_MAX: u64 = 1_000;

/// Maximum of `risk`.
const RISK_MAX: u64 = 100;

/// Maximum of `least`.
const LEAST_MAX: u64 = 1_000_000_000_000;

map! {
    /// Alerts, and the channels that are notified of them.
    #[schemars(title = "Tollgate alerts")]
    pub struct AlertsFile in "a file of alerts";

    /// The channels of notifications, by name.
    #[schemars(with = "Option<BTreeMap<String, ChannelFile>>")]
    channels: Named<ChannelFile> = channels;
    /// Maintenance windows, by name: times in which notifications are held back.
    #[schemars(with = "Option<BTreeMap<String, MaintenanceFile>>")]
    maintenance: Named<MaintenanceFile> = maintenance;
    /// The time zone of maintenance windows, such as Europe/Madrid; UTC if absent.
    timezone: Spanned<String> = text;
    /// The rules, by name.
    #[schemars(with = "Option<BTreeMap<String, AlertRuleFile>>")]
    alerts: Named<AlertRuleFile> = alerts;
}

map! {
    /// A rule: the signal that it follows, and when it fires.
    pub struct AlertRuleFile in "an alert" requires ["when"] at span;

    /// The signal.
    #[schemars(required)]
    when: Spanned<AlertSignalFile> = word;
    /// It fires above this value: a number, a percentage such as 20%, or a duration such as 50ms, as the signal has it.
    above: Spanned<String> = text;
    /// It fires below this value.
    below: Spanned<String> = text;
    /// It resolves at this value, and not at once when it no longer fires.
    clear: Spanned<String> = text;
    /// How long the signal must hold before it fires, such as 2m; at once if absent.
    r#for: Spanned<String> = text;
    /// The time over which the signal is counted, such as 5m.
    over: Spanned<String> = text;
    /// The thresholds of `when: threshold`, such as [80%, 100%]; all if absent.
    percent: Spanned<Vec<Spanned<String>>> = names;
    /// Only this domain.
    domain: Spanned<String> = text;
    /// Only the limit with this name.
    limit: Spanned<String> = text;
    /// Only callers of this tier.
    tier: Spanned<String> = text;
    /// Only this provider.
    provider: Spanned<String> = text;
    /// An alert for each provider or each tier, and not for the whole domain.
    by: Spanned<AlertSplitFile> = word;
    /// How many of the busiest callers are followed; 50 if absent.
    top: Spanned<u64> = number::<TOP_MAX>;
    /// The least number of requests in an hour that is a spike; 100 if absent.
    least: Spanned<u64> = number::<LEAST_MAX>;
    /// Its share of the risk of the caller that its alert is about, from 0 to 100.
    risk: Spanned<u64> = number::<RISK_MAX>;
    /// What is done with the caller that its alert is about; nothing if absent.
    answer: AlertAnswerFile = one;
    /// The severity; warning if absent.
    severity: Spanned<AlertSeverityFile> = word;
    /// The names of the channels that are notified; all if absent, none if empty.
    notify: Spanned<Vec<Spanned<String>>> = names;
    /// How often an alert that stays open is told again, such as 4h; never if absent.
    repeat: Spanned<String> = text;
    /// Who is notified too if nobody has acknowledged it for a time.
    escalate: EscalationFile = one;
    /// A text for people, such as a link to the instructions.
    summary: Spanned<String> = text;
}

map! {
    /// An answer to an alert: its caller has the amounts of a tier for a time, where they are less than its own.
    pub struct AlertAnswerFile in "`answer`" requires ["tier", "for"] at span;

    /// The name of the tier, the lowest of a policy.
    #[schemars(required)]
    tier: Spanned<String> = text;
    /// For how long, from 1m to 7d.
    #[schemars(required)]
    r#for: Spanned<String> = text;
}

map! {
    /// An escalation of an alert that nobody acknowledges.
    pub struct EscalationFile in "`escalate`" requires ["after", "notify"];

    /// How long it is open and not acknowledged, such as 15m.
    #[schemars(required)]
    after: Spanned<String> = text;
    /// The names of the channels that are notified.
    #[schemars(required)]
    notify: Spanned<Vec<Spanned<String>>> = names;
}

map! {
    /// A maintenance window: while all of its conditions hold, the notifications of its alerts are held back.
    pub struct MaintenanceFile in "a maintenance window" at span;

    /// Months, such as may-september, or a list of them.
    months: TextsFile = one_or_many;
    /// Days of the week, such as saturday or monday-friday, or a list of them.
    weekdays: TextsFile = one_or_many;
    /// Hours, such as 02:00-06:00, or a list of them. Hours that cross midnight belong to the day on which they begin.
    hours: TextsFile = one_or_many;
    /// Dates, such as 2026-12-24, 2026-12-24..2027-01-06, or each year 12-24..01-06, or a list of them.
    dates: TextsFile = one_or_many;
    /// Dates on which it is not active.
    except: TextsFile = one_or_many;
    /// The names of the alerts; all if absent.
    alerts: Spanned<Vec<Spanned<String>>> = names;
    /// Only alerts with all of these labels, such as a provider.
    #[schemars(with = "Option<BTreeMap<String, String>>")]
    labels: Named<Spanned<String>> = texts;
}

map! {
    /// A channel of notifications.
    pub struct ChannelFile in "a channel" requires ["type"] at span;

    /// Its type.
    #[schemars(required)]
    r#type: Spanned<ChannelTypeFile> = word;
    /// The address of the receiver.
    url: Spanned<String> = text;
    /// A file with the address of the receiver, if it is a secret.
    url_file: Spanned<String> = text;
    /// A file with secrets: of a webhook, one on each line, all of which sign; of PagerDuty, the routing key; of e-mail, the
    /// password.
    secret_file: Spanned<String> = text;
    /// A file with the authorities of the receiver's certificate, in PEM; the well-known ones if absent.
    ca_file: Spanned<String> = text;
    /// Whether the receiver may be at an address of the local network; false if absent.
    allow_private_addresses: Spanned<bool> = flag;
    /// The least severity that it is notified of; info if absent.
    severity: Spanned<AlertSeverityFile> = word;
    /// Whether it is notified when an alert resolves; true if absent.
    resolved: Spanned<bool> = flag;
    /// The labels by which notifications are sent together, such as `rule` and `domain`; `[]`: all of them together. If absent,
    /// each notification is sent for itself.
    group_by: Spanned<Vec<Spanned<String>>> = names;
    /// How long the first notification of a group waits for others; 30s if absent.
    group_wait: Spanned<String> = text;
    /// The least time between two messages of a group; 5m if absent.
    group_interval: Spanned<String> = text;
    /// A template of the title, such as `{{ alert.severity|upper }}: {{ alert.title }}`: the first line of a message, the subject of
    /// a mail.
    title: Spanned<String> = free_text;
    /// A template of the text that follows the title.
    text: Spanned<String> = free_text;
    /// The host of the mail server.
    host: Spanned<String> = text;
    /// The port of the mail server; 587 if absent, 465 with `tls: always`, and 25 with `tls: never`.
    port: Spanned<u64> = number::<PORT_MAX>;
    /// The encryption to the mail server; starttls if absent.
    tls: Spanned<MailTlsFile> = word;
    /// The user at the mail server, with the password in `secret_file`; none if absent.
    user: Spanned<String> = text;
    /// The sender of mails, such as `Tollgate <tollgate@example.com>`.
    from: Spanned<String> = text;
    /// The receivers of mails.
    to: Spanned<Vec<Spanned<String>>> = names;
}

impl MaintenanceFile {
    /// The schedule of its times.
    pub fn condition(&self) -> ScheduleFile {
        let Self { months, weekdays, hours, dates, except, span, .. } = self.clone();
        ScheduleFile { months, weekdays, hours, dates, except, span }
    }
}

/// Reads a file of alerts; invalid parts are omitted.
pub fn read_alerts(source: &Source) -> (AlertsFile, Reader<'_>) {
    let mut reader = Reader::of_language(source, ELSEWHERE);
    let file = match Node::parse(&source.text) {
        Ok(node) => alerts_file(&mut reader, &node),
        Err(error) => {
            reader.error(error.span, error.message);
            AlertsFile::default()
        }
    };
    (file, reader)
}

fn alerts_file(reader: &mut Reader<'_>, node: &Node) -> AlertsFile {
    if matches!(node.value, Value::Null) {
        reader.error(node.span.clone(), "the file is empty; write `alerts: {}` for no alerts");
        return AlertsFile::default();
    }
    if let (Some(domain), None) = (node.key("domain"), node.key("alerts")) {
        let message = "this is a policy, not a file of alerts: check it without `--alerts`, and serve it with the \
                       setting `policies`";
        reader.error(domain.span.clone(), message);
        return AlertsFile::default();
    }
    AlertsFile::read(reader, node)
}

fn channels(reader: &mut Reader<'_>, node: &Node, what: &str) -> Option<Named<ChannelFile>> {
    Some(named(reader, node, what, |reader, node| Some(ChannelFile::read(reader, node))))
}

fn maintenance(reader: &mut Reader<'_>, node: &Node, what: &str) -> Option<Named<MaintenanceFile>> {
    Some(named(reader, node, what, |reader, node| Some(MaintenanceFile::read(reader, node))))
}

fn alerts(reader: &mut Reader<'_>, node: &Node, what: &str) -> Option<Named<AlertRuleFile>> {
    Some(named(reader, node, what, |reader, node| Some(AlertRuleFile::read(reader, node))))
}

/// The JSON Schema of a file of alerts, for editors.
pub fn alerts_schema() -> serde_json::Value {
    schemars::schema_for!(AlertsFile).to_value()
}
