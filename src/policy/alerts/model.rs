//! Alerts: their rules, and the channels that are notified.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::template::AlertTemplates;
use crate::limit::Timetable;
use crate::policy::model::AbuseEntrySet;
use crate::policy::problem::Problem;
use crate::policy::schema::Word;

pub use crate::policy::schema::{
    AlertSeverityFile as AlertSeverity, AlertSignalFile as AlertSignal,
    AlertSplitFile as AlertSplit, MailTlsFile as MailTls,
};

/// The rules and channels in force.
#[derive(Clone, Debug, Default)]
pub struct AlertPolicy {
    pub rules: Vec<AlertRule>,
    pub channels: Vec<AlertChannel>,
    pub maintenance: Vec<MaintenanceWindow>,
    /// Parts of the files that have no effect, and what channels need and do not have.
    pub warnings: Vec<Problem>,
}

/// A rule: the signal that it follows, and when it fires.
#[derive(Clone, Debug, PartialEq)]
pub struct AlertRule {
    pub name: Arc<str>,
    pub signal: AlertSignal,
    /// The values at which it fires and resolves; None for signals without a value.
    pub bounds: Option<AlertBounds>,
    /// How long the signal must hold before it fires.
    pub hold: Duration,
    /// The time over which the signal is counted.
    pub over: Duration,
    /// The thresholds of `threshold`; all if empty.
    pub percents: Vec<u16>,
    pub filter: AlertFilter,
    /// Of rules about money: an alert for each of these.
    pub by: Option<AlertSplit>,
    /// Of `spike`, `caller_refused` and `forecast`: how many of the busiest callers are followed.
    pub top: usize,
    /// Of `spike` and `caller_refused`: the least number of requests in an hour.
    pub least: u64,
    /// Its share of the risk of the caller that its alert is about, from 0 to 100.
    pub risk: u8,
    /// What is done with the caller that its alert is about; None: nothing.
    pub answer: Option<AlertRestriction>,
    pub severity: AlertSeverity,
    /// The names of the channels that are notified.
    pub notify: Vec<Arc<str>>,
    pub summary: Option<Arc<str>>,
    /// How often it is told again while it is open.
    pub repeat: Option<Duration>,
    pub escalate: Option<AlertEscalation>,
}

/// A caller has the amounts of a tier for a time, where they are less than its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlertRestriction {
    pub tier: Arc<str>,
    pub length: Duration,
}

/// Who is notified too if nobody acknowledges an alert.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlertEscalation {
    pub after: Duration,
    pub notify: Vec<Arc<str>>,
}

/// When a value fires and resolves an alert. The unit is that of the signal: a number, percent, or seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AlertBounds {
    /// It fires above `fires`, and not below it.
    pub is_above: bool,
    pub fires: f64,
    /// The value at which it resolves.
    pub clears: f64,
}

/// What a rule is limited to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AlertFilter {
    pub domain: Option<Box<str>>,
    pub limit: Option<Box<str>>,
    pub tier: Option<Box<str>>,
    pub provider: Option<Box<str>>,
}

/// Recurring times in which the notifications of some alerts are held back.
#[derive(Clone, Debug)]
pub struct MaintenanceWindow {
    pub name: Box<str>,
    /// The names of the rules; all if empty.
    pub rules: Vec<Arc<str>>,
    /// Only alerts with all of these labels.
    pub labels: BTreeMap<String, String>,
    pub timezone: Box<str>,
    /// Of one condition.
    pub timetable: Arc<Timetable>,
}

/// A channel of notifications.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlertChannel {
    pub name: Arc<str>,
    pub receiver: AlertReceiver,
    /// The least severity that it is notified of.
    pub severity: AlertSeverity,
    /// Whether it is notified when an alert resolves.
    pub resolved: bool,
    /// How notifications are sent together; None: each for itself.
    pub grouping: Option<AlertGrouping>,
    /// The texts of its notifications; the standard ones if absent.
    pub templates: AlertTemplates,
}

/// How notifications of a channel are sent together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlertGrouping {
    /// `rule`, `signal`, `severity` and names of labels; alerts with the same values of these are a group.
    pub by: Vec<Box<str>>,
    /// How long the first notification of a group waits for others.
    pub wait: Duration,
    /// The least time between two messages of a group.
    pub interval: Duration,
}

/// Where a channel sends notifications.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AlertReceiver {
    /// The log of the process.
    Log,
    /// A CloudEvent, signed as in Standard Webhooks if there is a file of secrets.
    Webhook {
        http: HttpReceiver,
        secret_file: Option<Box<str>>,
    },
    /// A message by an incoming webhook.
    Slack(HttpReceiver),
    Discord(HttpReceiver),
    /// An event of the Events API v2; the file has the routing key.
    PagerDuty {
        http: HttpReceiver,
        key_file: Box<str>,
    },
    Email(MailReceiver),
}

/// A mail server, and who sends and receives mails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MailReceiver {
    pub host: Box<str>,
    pub port: u16,
    pub tls: MailTls,
    pub user: Option<Box<str>>,
    /// A file with the password of the user.
    pub password_file: Option<Box<str>>,
    pub from: Box<str>,
    pub to: Vec<Box<str>>,
    pub ca_file: Option<Box<str>>,
    /// Whether the server may be at an address of the local network.
    pub allow_private: bool,
}

/// A receiver over HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpReceiver {
    pub url: AlertUrl,
    /// A file with the authorities of its certificate; None: the well-known ones.
    pub ca_file: Option<Box<str>>,
    /// Whether it may be at an address of the local network.
    pub allow_private: bool,
}

/// The address of a receiver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AlertUrl {
    Text(Box<str>),
    /// A file with the address.
    File(Box<str>),
}

impl AlertPolicy {
    /// The rule with this name.
    pub fn rule(&self, name: &str) -> Option<&AlertRule> {
        self.rules.iter().find(|rule| &*rule.name == name)
    }

    /// The channel with this name.
    pub fn channel(&self, name: &str) -> Option<&AlertChannel> {
        self.channels.iter().find(|channel| &*channel.name == name)
    }

    /// The entries of requests that its rules read.
    pub fn entries(&self) -> AbuseEntrySet {
        AbuseEntrySet::of(self.rules.iter().flat_map(|rule| rule.signal.entries()).copied())
    }

    /// Whether a rule follows the signal.
    pub fn follows(&self, signal: AlertSignal) -> bool {
        self.rules.iter().any(|rule| rule.signal == signal)
    }
}

impl AlertRule {
    /// Whether a value may fire, or keep firing what fires.
    pub fn may_fire(&self, value: f64) -> bool {
        let above = self.bounds.filter(|bounds| bounds.is_above);
        above.is_none_or(|bounds| bounds.clears < value)
    }

    /// Whether a value fires.
    pub fn fires(&self, value: f64) -> bool {
        self.bounds.is_some_and(|bounds| match bounds.is_above {
            true => bounds.fires < value,
            false => value < bounds.fires,
        })
    }
}

impl AlertFilter {
    /// Whether a rule is limited to something else than these names.
    pub fn excludes(&self, domain: Option<&str>, tier: Option<&str>) -> bool {
        is_other(self.domain.as_deref(), domain) || is_other(self.tier.as_deref(), tier)
    }

    /// Whether a rule is limited to another domain.
    pub fn excludes_domain(&self, domain: &str) -> bool {
        is_other(self.domain.as_deref(), Some(domain))
    }

    /// Whether a rule is limited to another limit.
    pub fn excludes_limit(&self, limit: &str) -> bool {
        is_other(self.limit.as_deref(), Some(limit))
    }

    /// Whether a rule is limited to another provider.
    pub fn excludes_provider(&self, provider: &str) -> bool {
        is_other(self.provider.as_deref(), Some(provider))
    }
}

fn is_other(wanted: Option<&str>, found: Option<&str>) -> bool {
    wanted.is_some_and(|wanted| found != Some(wanted))
}

impl AlertSeverity {
    /// All severities, lowest first.
    pub const ALL: [Self; 4] = [Self::Info, Self::Warning, Self::Error, Self::Critical];

    /// Its word.
    pub fn as_str(self) -> &'static str {
        Self::WORDS.iter().find(|(_, severity)| *severity == self).map_or("", |(word, _)| word)
    }

    /// The severity of a word.
    pub fn parse(text: &str) -> Option<Self> {
        Self::WORDS.iter().find(|(word, _)| *word == text).map(|(_, severity)| *severity)
    }
}

impl AlertSignal {
    /// Whether it is read from stored usage.
    pub fn is_of_usage(self) -> bool {
        matches!(
            self,
            Self::Spend
                | Self::Budget
                | Self::Spike
                | Self::CallerRefused
                | Self::Bypass
                | Self::Forecast
        )
    }

    /// Its word.
    pub fn as_str(self) -> &'static str {
        Self::WORDS.iter().find(|(_, signal)| *signal == self).map_or("", |(word, _)| word)
    }
}
