//! Notices lost debits: a gateway peeks, passes the request on, and charges what the response cost; but a
//! limit without overdraft refuses that charge, which then costs nothing.

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

use crate::limit::Hits;
use crate::metrics::Counter;
use crate::policy::Refused;

use super::verdict::ChargeDecision;

/// Watches one limit.
#[derive(Debug, Default)]
pub struct DebitWatch {
    refused: Counter,
    peeked: AtomicBool,
    warned: AtomicBool,
}

impl DebitWatch {
    /// One that has seen nothing, and counts there.
    pub fn new(refused: Counter) -> Self {
        Self { refused, ..Self::default() }
    }

    /// Sees a decision of the limit. The usual one costs a comparison.
    pub fn see(&self, domain: &str, charge: &ChargeDecision<'_>) {
        if charge.peeks && !self.peeked.load(Ordering::Relaxed) {
            self.peeked.store(true, Ordering::Relaxed);
        }
        if !charge.is_over() || !self.loses(charge) {
            return;
        }
        self.refused.inc();
        if !self.warned.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                domain,
                limit = &*charge.limit.label,
                hits = charge.hits.amount(),
                "a charge after a peek was refused and cost nothing; for charges after the response set `overdraft: allow` \
                 on the limit"
            );
        }
    }

    /// Whether the refused hits were probably spent already. Those of a limit that counts what it refuses are not lost.
    fn loses(&self, charge: &ChargeDecision<'_>) -> bool {
        matches!(charge.hits, Hits::Spend(2..))
            && !charge.is_shadow()
            && charge.limit.refused == Refused::Free
            && self.peeked.load(Ordering::Relaxed)
    }
}
