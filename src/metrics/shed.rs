//! Metrics of gRPC requests that are not answered at once, and of load shedding.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use super::Level;

/// Counters of gRPC requests that are not answered at once, and of load shedding.
#[derive(Debug, Default)]
pub struct ShedMetrics {
    /// Memory of the requests that are not answered at once, in bytes.
    pub held: Level,
    shed: Family<ReasonLabel, Counter>,
}

/// The reason that a request was shed: it was not decided. It spent nothing, unless it was already held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shed {
    /// Half of its deadline passed before its turn, or all of it before its message was complete.
    Late,
    /// Its client cancelled it before it was decided.
    TakenBack,
    /// Out of memory for requests; its client was the slowest.
    Slow,
    /// Out of memory for requests, and no client was slow.
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
    /// Counts one request.
    pub fn shed(&self, why: Shed) {
        self.shed.get_or_create(&ReasonLabel { reason: why.as_str() }).inc();
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        for why in [Shed::Late, Shed::TakenBack, Shed::Slow, Shed::Crowded] {
            self.shed.get_or_create_owned(&ReasonLabel { reason: why.as_str() });
        }
        registry.register(
            "shed_requests",
            "gRPC requests that were rejected without a decision, for lack of time or memory",
            self.shed.clone(),
        );
        registry.register(
            "held_requests_bytes",
            "Estimated memory of gRPC requests that are not answered at once",
            self.held.clone(),
        );
    }
}
