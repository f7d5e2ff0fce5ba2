//! Detects lost debits: a gateway peeks, forwards the request, and then charges the cost of the response. A limit
//! without overdraft refuses that charge, which then costs nothing. The same happens with any limit that is already
//! overdrawn.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::limit::Hits;
use crate::metrics::Counter;
use crate::policy::Refused;

use super::verdict::ChargeDecision;

/// The detector of one limit.
#[derive(Debug, Default)]
pub struct DebitWatch {
    refused: Counter,
    peeked: AtomicBool,
    /// A request of a single hit was seen.
    asked: AtomicBool,
    warned: AtomicBool,
}

/// How to prevent lost debits, for the log. A limit of zero refuses charges with any overdraft, and a peek with 0 hits
/// always passes: then only a request of 1 hit before the response helps.
fn advice(charge: &ChargeDecision<'_>) -> &'static str {
    match charge.capacity {
        0 => {
            "; a peek with 0 hits passes even if nothing is left: use 1 hit instead of 0 before the response"
        }
        _ => {
            "; for charges after the response set `overdraft: allow` on the limit, and use 1 hit instead of 0 before it"
        }
    }
}

impl DebitWatch {
    /// A detector that has seen nothing, with its counter.
    pub fn new(refused: Counter) -> Self {
        Self { refused, ..Self::default() }
    }

    /// Checks a decision of the limit. The usual decision costs a comparison.
    pub fn check(&self, domain: &str, charge: &ChargeDecision<'_>) {
        if charge.peeks {
            set(&self.peeked);
        } else if charge.hits == Hits::Spend(1) {
            set(&self.asked);
        }
        if !charge.is_over() || !self.is_lost(charge) {
            return;
        }
        self.refused.inc();
        // If an overdraft does not cover it, no change of the policy is needed.
        if !charge.is_debit && !self.warned.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                domain,
                limit = &*charge.limit.label,
                hits = charge.hits.amount(),
                "a charge after a peek was refused and cost nothing{}",
                advice(charge)
            );
        }
    }

    /// Whether the refused hits were probably already spent, and don't count.
    fn is_lost(&self, charge: &ChargeDecision<'_>) -> bool {
        let peeked = self.peeked.load(Ordering::Relaxed);
        let is_lost = match charge.is_debit {
            true => !charge.decision.counted && (peeked || self.asked.load(Ordering::Relaxed)),
            // What the request itself asks for is refused before anything is spent.
            false => charge.limit.refused == Refused::Free && charge.sets_hits && peeked,
        };
        is_lost && matches!(charge.hits, Hits::Spend(2..)) && !charge.is_shadow()
    }
}

/// Sets a flag that is usually set.
fn set(flag: &AtomicBool) {
    if !flag.load(Ordering::Relaxed) {
        flag.store(true, Ordering::Relaxed);
    }
}
