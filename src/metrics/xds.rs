//! Metrics of policies by xDS. Without an xDS server there are no series.

use std::sync::Mutex;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::lock::lock;

/// Metrics of the connection to the xDS server, and of what it sent.
#[derive(Debug, Default)]
pub struct XdsMetrics {
    connected: Family<ServerLabel, Gauge>,
    failures: Family<ServerLabel, Counter>,
    updates: Family<UpdateLabel, Counter>,
    version: Family<VersionLabel, Gauge>,
    overlays: Family<StateLabel, Gauge>,
    /// Whether there is a connection; None without an xDS server.
    link: Mutex<Option<bool>>,
}

/// The state of overlays that can't be read.
const UNREADABLE: &str = "unreadable";

/// What became of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XdsUpdate {
    /// Its policies are in force (ACK).
    Accepted,
    /// It has problems (NACK).
    Rejected,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ServerLabel {
    server: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct UpdateLabel {
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct VersionLabel {
    source: &'static str,
    version: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabel {
    state: &'static str,
}

impl ServerLabel {
    fn of(server: &str) -> Self {
        Self { server: server.to_owned() }
    }
}

impl From<XdsUpdate> for UpdateLabel {
    fn from(update: XdsUpdate) -> Self {
        let result = match update {
            XdsUpdate::Accepted => "accepted",
            XdsUpdate::Rejected => "rejected",
        };
        Self { result }
    }
}

impl XdsMetrics {
    /// There is a connection, over which the server has sent policies.
    pub fn connected(&self, server: &str) {
        self.connected.get_or_create(&ServerLabel::of(server)).set(1);
        *lock(&self.link) = Some(true);
    }

    /// There is no connection yet. All series exist from now on.
    pub fn disconnected(&self, server: &str) {
        self.connected.get_or_create(&ServerLabel::of(server)).set(0);
        *lock(&self.link) = Some(false);
        self.failures.get_or_create_owned(&ServerLabel::of(server));
        for update in [XdsUpdate::Accepted, XdsUpdate::Rejected] {
            self.updates.get_or_create_owned(&update.into());
        }
    }

    /// Counts a connection that failed or ended.
    pub fn failed(&self, server: &str) {
        self.connected.get_or_create(&ServerLabel::of(server)).set(0);
        *lock(&self.link) = Some(false);
        self.failures.get_or_create(&ServerLabel::of(server)).inc();
    }

    /// Whether there is a connection; None without an xDS server.
    pub fn is_connected(&self) -> Option<bool> {
        *lock(&self.link)
    }

    /// Counts a response.
    pub fn updated(&self, update: XdsUpdate) {
        self.updates.get_or_create(&update.into()).inc();
    }

    /// Records the source of the policies in force and its version of them, if it has versions.
    pub fn in_force(&self, source: &'static str, version: Option<&str>) {
        self.version.clear();
        if let Some(version) = version {
            let label = VersionLabel { source, version: version.to_owned() };
            self.version.get_or_create(&label).set(1);
        }
    }

    /// Records the number of overlays in each state.
    pub fn overlays_in_states(&self, counts: impl Iterator<Item = (&'static str, usize)>) {
        for (state, count) in counts {
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            self.overlays.get_or_create(&StateLabel { state }).set(count);
        }
    }

    /// Records whether the files of overlays are unreadable.
    pub fn overlays_unreadable(&self, is_unreadable: bool) {
        self.overlays_in_states([(UNREADABLE, usize::from(is_unreadable))].into_iter());
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "policy_version_info",
            "The xDS server's version of the policy in force; none for files",
            self.version.clone(),
        );
        registry.register(
            "policy_overlays",
            "Files of policy_overlays by state: in_force, partial (without what conflicts with a resource), waiting (no \
             resource of their domain), kept (invalid; the text before is in force), rejected (invalid) or unreadable (1 if the files can't be read)",
            self.overlays.clone(),
        );
        registry.register(
            "xds_connected",
            "1 if there is a connection over which the xDS server has sent policies",
            self.connected.clone(),
        );
        registry.register(
            "xds_failures",
            "Connections to the xDS server that failed or ended",
            self.failures.clone(),
        );
        registry.register(
            "xds_updates",
            "Policies from the xDS server by result; rejected ones change nothing",
            self.updates.clone(),
        );
    }
}
