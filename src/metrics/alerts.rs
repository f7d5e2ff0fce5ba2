//! Metrics of alerts, and of their notifications.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Counters of alerts. There are no series while there is no file of alerts.
#[derive(Clone, Debug, Default)]
pub struct AlertMetrics {
    firing: Family<SeverityLabel, Gauge>,
    notifications: Family<ChannelLabels, Counter>,
    answers: Family<AnswerLabel, Gauge>,
    /// It has one series, without labels.
    rejected: Family<NoLabels, Gauge>,
}

type NoLabels = Vec<(&'static str, &'static str)>;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SeverityLabel {
    severity: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AnswerLabel {
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ChannelLabels {
    channel: String,
    result: &'static str,
}

const SENT: &str = "sent";
const FAILED: &str = "failed";
const DEAD: &str = "dead";

impl AlertMetrics {
    /// Counts the channels from now on, and forgets others.
    pub fn begin<'c>(&self, channels: impl Iterator<Item = &'c str>) {
        self.rejected.get_or_create(&NoLabels::new()).set(0);
        self.notifications.clear();
        for channel in channels {
            for result in [SENT, FAILED, DEAD] {
                self.notifications.get_or_create_owned(&labels(channel, result));
            }
        }
    }

    /// Notes whether the last reload of the files of alerts failed.
    pub fn reject(&self) {
        self.rejected.get_or_create(&NoLabels::new()).set(1);
    }

    /// Whether the last reload of the files of alerts failed.
    pub fn is_rejected(&self) -> bool {
        self.rejected.get(&NoLabels::new()).is_some_and(|rejected| rejected.get() == 1)
    }

    /// Sets the number of alerts of a severity that fire on this sidecar.
    pub fn fire(&self, severity: &'static str, count: usize) {
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        self.firing.get_or_create(&SeverityLabel { severity }).set(count);
    }

    /// Sets the numbers of answers that hold, and of those that wait for a place.
    pub fn answer(&self, (in_force, waiting): (usize, usize)) {
        for (state, count) in [("in_force", in_force), ("waiting", waiting)] {
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            self.answers.get_or_create(&AnswerLabel { state }).set(count);
        }
    }

    /// Counts a notification that was sent.
    pub fn sent(&self, channel: &str, count: u64) {
        self.count(channel, SENT, count);
    }

    /// Counts an attempt that failed.
    pub fn failed(&self, channel: &str) {
        self.count(channel, FAILED, 1);
    }

    /// Counts notifications that are not tried again.
    pub fn dead(&self, channel: &str, count: u64) {
        self.count(channel, DEAD, count);
    }

    fn count(&self, channel: &str, result: &'static str, count: u64) {
        self.notifications.get_or_create(&labels(channel, result)).inc_by(count);
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "alerts_firing",
            "Alerts that fire on this sidecar, by severity; events such as thresholds are not among them",
            self.firing.clone(),
        );
        registry.register(
            "alert_answers",
            "Callers that rules about abuse restrict, and those that are not restricted yet because too many are; of the whole fleet",
            self.answers.clone(),
        );
        registry.register(
            "alert_notifications",
            "Notifications by channel: sent, failed attempts, and dead ones, which are not tried again",
            self.notifications.clone(),
        );
        registry.register(
            "alerts_rejected",
            "1 if the last reload of the files of alerts failed, so that older ones are in force",
            self.rejected.clone(),
        );
    }
}

fn labels(channel: &str, result: &'static str) -> ChannelLabels {
    ChannelLabels { channel: channel.to_owned(), result }
}
