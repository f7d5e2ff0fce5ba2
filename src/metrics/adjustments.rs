//! Metrics of limits that follow signals.

use std::collections::BTreeSet;
use std::sync::Mutex;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::lock::lock;

/// What is counted of limits that follow signals.
#[derive(Debug, Default)]
pub struct AdjustmentMetrics {
    scale: Family<LimitLabels, Gauge>,
    moves: Family<MoveLabels, Counter>,
    /// What the families hold now, as (domain, limit); they can't be asked.
    live: Mutex<BTreeSet<(String, String)>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LimitLabels {
    domain: String,
    limit: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct MoveLabels {
    domain: String,
    limit: String,
    reason: &'static str,
}

/// Of [`MoveLabels::reason`].
const REASONS: [&str; 4] = ["above", "below", "between", "stale"];

impl AdjustmentMetrics {
    /// How much of a limit is in force, in hundredths of a percent: the least, if several limits of the domain have this name.
    pub fn show(&self, (domain, limit): (&str, &str), hundredths: u32) {
        let labels = LimitLabels { domain: domain.to_owned(), limit: limit.to_owned() };
        self.scale.get_or_create(&labels).set(i64::from(hundredths / 100));
    }

    /// A limit has this scale now, in hundredths of a percent, and had that one before, for a reason of a few.
    pub fn count(
        &self,
        (domain, limit): (&str, &str),
        [before, now]: [u32; 2],
        reason: &'static str,
    ) {
        if lock(&self.live).insert((domain.to_owned(), limit.to_owned())) {
            for reason in REASONS {
                self.moves.get_or_create_owned(&move_labels(domain, limit, reason));
            }
        }
        if before != now {
            self.moves.get_or_create(&move_labels(domain, limit, reason)).inc();
        }
    }

    /// Forgets limits, as (domain, limit), that are not in `limits`.
    pub fn retain(&self, limits: &BTreeSet<(String, String)>) {
        lock(&self.live).retain(|(domain, limit)| {
            let keep = limits.contains(&(domain.clone(), limit.clone()));
            if !keep {
                let labels = LimitLabels { domain: domain.clone(), limit: limit.clone() };
                self.scale.remove(&labels);
                for reason in REASONS {
                    self.moves.remove(&move_labels(domain, limit, reason));
                }
            }
            keep
        });
    }

    /// Shows them under the names that the world sees.
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "adjusted_percent",
            "How much of a limit that follows a signal is in force, in percent; of several limits of one name, the least",
            self.scale.clone(),
        );
        registry.register(
            "adjustments",
            "Changes of how much of a limit is in force, by the reason: the signal is above its bound, below it, or stale",
            self.moves.clone(),
        );
    }
}

fn move_labels(domain: &str, limit: &str, reason: &'static str) -> MoveLabels {
    MoveLabels { domain: domain.to_owned(), limit: limit.to_owned(), reason }
}
