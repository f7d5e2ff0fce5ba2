//! Open and closed alerts, and notifications, as the book keeps them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::alerts::labels::{AlertId, Labels};
use crate::clock::Timestamp;
use crate::policy::{AlertRule, AlertSignal};

/// The time until something that has come.
const NOW: &str = "now";

/// Times below this one are now, in seconds.
const NOW_MAX_S: f64 = 0.001;

/// The label of what is sent to test a rule.
pub(super) const TEST: &str = "test";

/// An alert that fires on this sidecar now.
#[derive(Clone, Debug)]
pub struct Firing<'p> {
    pub id: AlertId,
    pub rule: &'p AlertRule,
    pub labels: Labels,
    /// In the unit of the rule's signal; None if it has none.
    pub value: Option<f64>,
}

/// An open alert.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OpenAlert {
    pub id: AlertId,
    /// The name of its rule.
    pub rule: String,
    /// The signal of its rule.
    pub signal: String,
    pub severity: String,
    pub labels: Labels,
    /// The value when it was opened, for people.
    pub value: Option<String>,
    pub summary: Option<String>,
    pub opened_ms: u64,
    /// The sidecars on which it fires, and until when that is known. None for an event, which is open until it expires.
    pub holders: Option<BTreeMap<String, u64>>,
    /// The end of an event.
    pub expires_ms: Option<u64>,
    /// The person who has acknowledged it.
    pub acknowledged_by: Option<String>,
    #[serde(default)]
    pub acknowledged_ms: u64,
    /// The person who has resolved it, while it still fires.
    #[serde(default)]
    pub resolved_by: Option<String>,
    /// The channels that are notified of it.
    pub notify: Vec<String>,
    /// Whether they were notified, and not held back by a silence.
    #[serde(default)]
    pub told: bool,
    /// When it was last told, for repetitions.
    #[serde(default)]
    pub told_ms: u64,
    /// The channels to which it was escalated.
    #[serde(default)]
    pub escalated_to: Vec<String>,
    /// Its answer waits, because too many callers are restricted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub answer_waits: bool,
}

/// An alert that is no longer open.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClosedAlert {
    pub alert: OpenAlert,
    pub closed_ms: u64,
    /// The person who has resolved it; None: it resolved by itself.
    pub resolved_by: Option<String>,
}

/// What a notification tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NotificationKind {
    Firing,
    /// It still fires.
    Repeated,
    /// It still fires, and nobody has acknowledged it.
    Escalated,
    Resolved,
    /// A test of the channel.
    Test,
}

impl NotificationKind {
    /// Its word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Firing => "firing",
            Self::Repeated => "repeated",
            Self::Escalated => "escalated",
            Self::Resolved => "resolved",
            Self::Test => "test",
        }
    }
}

/// A notification of one channel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Notification {
    /// The same for every attempt, so that a receiver can recognize a repetition.
    pub id: String,
    pub kind: NotificationKind,
    pub channel: String,
    pub alert: OpenAlert,
    pub at_ms: u64,
    /// Attempts that have failed.
    pub attempts: u32,
    /// The time of the next attempt. While an attempt is under way, the time after which it counts as lost.
    pub due_ms: u64,
    /// Why the last attempt failed.
    pub error: Option<String>,
    /// A sidecar has it, until `due_ms`.
    #[serde(default)]
    pub taken: bool,
    /// The message of its group that it is part of, from the first attempt on.
    #[serde(default)]
    pub message: Option<String>,
    /// A person has it sent again: at once and for itself.
    #[serde(default)]
    pub again: bool,
}

/// What is sent to a channel at once.
#[derive(Clone, Debug, PartialEq)]
pub struct Delivery {
    /// The same for every attempt.
    pub id: String,
    pub channel: String,
    /// At least one.
    pub notifications: Vec<Notification>,
    /// What its alerts have in common, if the channel groups them.
    pub group: Option<Labels>,
}

impl Notification {
    /// Whether an attempt may be under way.
    pub fn is_under_way(&self, now: Timestamp) -> bool {
        self.taken && now.as_ms() < self.due_ms
    }

    /// Whether it tells of an alert, and is no test.
    pub fn is_of_alert(&self) -> bool {
        self.kind != NotificationKind::Test
    }

    /// Whether it is sent with others, if its channel has groups: no person waits for it.
    pub fn is_grouped(&self) -> bool {
        self.is_of_alert() && !self.again
    }

    /// Whether its receiver may know of it.
    pub fn may_be_known(&self) -> bool {
        self.taken || self.error.is_some()
    }
}

impl Delivery {
    /// Attempts that have failed.
    pub fn attempts(&self) -> u32 {
        self.notifications.iter().map(|one| one.attempts).max().unwrap_or_default()
    }
}

impl ClosedAlert {
    /// The alert as a text.
    pub fn encode(&self) -> String {
        serde_json::to_string(self).expect("texts and numbers can be written as JSON")
    }

    /// The alert of a text; None if it is none.
    pub fn decode(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }
}

impl OpenAlert {
    /// A new alert.
    pub fn new(firing: &Firing<'_>, now_ms: u64) -> Self {
        let Firing { id, rule, labels, value } = firing;
        let unit = rule.signal.unit();
        Self {
            id: id.clone(),
            rule: rule.name.to_string(),
            signal: rule.signal.as_str().to_owned(),
            severity: rule.severity.as_str().to_owned(),
            labels: labels.clone(),
            value: value.zip(unit).map(|(value, unit)| match rule.signal {
                AlertSignal::Forecast | AlertSignal::Certificate if value < NOW_MAX_S => {
                    NOW.to_owned()
                }
                _ => unit.show(value),
            }),
            summary: rule.summary.as_deref().map(str::to_owned),
            opened_ms: now_ms,
            holders: None,
            expires_ms: None,
            acknowledged_by: None,
            acknowledged_ms: 0,
            resolved_by: None,
            told: false,
            told_ms: 0,
            escalated_to: Vec::new(),
            answer_waits: false,
            notify: rule.notify.iter().map(|name| name.to_string()).collect(),
        }
    }

    /// A line for people, such as `quota: ann has used 80 % of daily`.
    pub fn title(&self) -> String {
        if self.labels.get(TEST).is_some() {
            return format!("a test of the rule `{}`", self.rule);
        }
        let about = |name: &str| self.labels.get(name).unwrap_or("?").to_owned();
        let value = self.value.as_deref().unwrap_or_default();
        let until = if value == NOW { NOW.to_owned() } else { format!("in {value}") };
        match self.signal.as_str() {
            "threshold" => {
                let caller = self.labels.get("caller").unwrap_or("a caller");
                format!("{caller} has used {}% of {}", about("percent"), about("limit"))
            }
            "denials" => format!("{value} requests of {} were refused", about("caller")),
            "refused" => format!("{value} of the requests are refused"),
            "errors" => format!("{value} of the requests fail"),
            "store_errors" => format!("{value} errors of the store"),
            "store_down" => "the store is unavailable".to_owned(),
            "latency" => format!("99 % of the decisions take up to {value}"),
            "queue" => format!("{value} requests wait for capacity"),
            "queue_delay" => format!("requests wait up to {value} for capacity"),
            "capacity" => {
                format!("{value} of {} of {} is used", about("limit"), about("provider"))
            }
            "config_invalid" => format!("the files of {} are invalid", about("files")),
            "certificate" => {
                format!("the certificate of the {} port expires {until}", about("port"))
            }
            "xds_silent" => format!("no connection to the xDS server for {value}"),
            "spend" => {
                let when = if self.is_of_hour() { "in the last hour" } else { "today" };
                format!("{value} {} were spent {when} {}", about("currency"), self.spender())
            }
            "budget" if self.is_of_hour() => {
                let rate = "will be spent at the rate of the last hour";
                format!("{value} of the daily budget {rate} {}", self.spender())
            }
            "budget" => format!("{value} of the daily budget is spent {}", self.spender()),
            "spike" => {
                let caller = about("caller");
                format!("{caller} sends more than usual: {value} deviations above its median")
            }
            "caller_refused" => {
                format!("{value} of the requests of {} are refused", about("caller"))
            }
            "forecast" => {
                format!("{} of {} will be used up {until}", about("limit"), about("caller"))
            }
            other => self.abuse(value).unwrap_or_else(|| other.to_owned()),
        }
    }

    /// The title of an alert about what requests show, or about the risk of a caller.
    fn abuse(&self, value: &str) -> Option<String> {
        let about = |name: &str| self.labels.get(name).unwrap_or("?").to_owned();
        let title = match self.signal.as_str() {
            "address_callers" => format!("{value} callers came from {}", about("address")),
            "address_api_keys" => format!("{value} API keys came from {}", about("address")),
            "caller_addresses" => format!("{} came from {value} addresses", about("caller")),
            "api_key_addresses" => {
                format!("the API key {} came from {value} addresses", about("api_key"))
            }
            "burst" => format!("{value} requests of {} arrived together", about("caller")),
            "probing" => {
                format!("{} tries identifiers one after the other: {value}", about("caller"))
            }
            "bypass" => {
                format!("no decision explains {value} of the hits of {}", about("provider"))
            }
            "risk" => format!("the risk of {} is {value} of 100", about("caller")),
            _ => return None,
        };
        Some(title)
    }

    /// Whether its value is that of an hour, and not of a day.
    fn is_of_hour(&self) -> bool {
        self.labels.get("period") == Some("hour")
    }

    /// Where money was spent, for people.
    fn spender(&self) -> String {
        let label = |name: &str| self.labels.get(name);
        let part = |name: &str| Some(format!(", {name} {}", label(name)?));
        let parts: String = ["provider", "tier"].into_iter().filter_map(part).collect();
        format!("in {}{parts}", label("domain").unwrap_or("?"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Source, compile_alerts};

    #[test]
    fn the_title_of_a_forecast_says_when() {
        let text = "alerts: { soon: { when: forecast, below: 3d } }".to_owned();
        let policy = compile_alerts(&[Source { path: "alerts.yaml".to_owned(), text }]).unwrap();
        let title = |seconds| {
            let labels = Labels::new().with("caller", Some("ann")).with("limit", Some("plan"));
            let (id, rule) = (AlertId::new("soon", &labels), &policy.rules[0]);
            OpenAlert::new(&Firing { id, rule, labels, value: Some(seconds) }, 0).title()
        };
        assert_eq!(title(0.0), "plan of ann will be used up now");
        assert_eq!(title(43_200.0), "plan of ann will be used up in 12.0 hours");
    }
}
