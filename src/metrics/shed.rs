//! Metrics of gRPC requests that are not answered at once, and of load shedding.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use super::Level;

/// What is counted of gRPC requests that are not answered at once, and of those that are shed.
#[derive(Debug, Default)]
pub struct ShedMetrics {
    /// Bytes that those hold which are under way.
    pub held: Level,
    shed: Family<ReasonLabel, Counter>,
}

/// Why a request was shed: it was not decided, and spent nothing unless it was held by then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shed {
    /// Half of its caller's time was up before its turn came, or all of it before its message was whole.
    Late,
    /// Its caller took it back before anybody looked at it.
    TakenBack,
    /// There was no room left, and its client kept us waiting for longest.
    Slow,
    /// There was no room left, and no client that kept us waiting.
    Crowded,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

impl Shed {
    fn as_str(self) -> &'static str {
        match self {
            Self::Late => "late",
            Self::TakenBack => "taken_back",
            Self::Slow => "slow",
            Self::Crowded => "crowded",
        }
    }
}

impl ShedMetrics {
    /// Counts one.
    pub fn shed(&self, why: Shed) {
        self.shed.get_or_create(&ReasonLabel { reason: why.as_str() }).inc();
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        for why in [Shed::Late, Shed::TakenBack, Shed::Slow, Shed::Crowded] {
            self.shed.get_or_create_owned(&ReasonLabel { reason: why.as_str() });
        }
        registry.register(
            "shed_requests",
            "gRPC requests that nobody decided, because there was no time or no room for them",
            self.shed.clone(),
        );
        registry.register(
            "held_requests_bytes",
            "Estimated memory of gRPC requests that are not answered at once",
            self.held.clone(),
        );
    }
}
