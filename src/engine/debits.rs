//! Notices lost debits: a gateway peeks, passes the request on, and charges what the response cost; but a
//! limit without overdraft refuses that charge, which then costs nothing. So does any limit that is overdrawn already.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::limit::Hits;
use crate::metrics::Counter;
use crate::policy::Refused;

use super::verdict::ChargeDecision;

/// Watches one limit.
#[derive(Debug, Default)]
pub struct DebitWatch {
    refused: Counter,
    peeked: AtomicBool,
    /// It was asked for a single hit.
    asked: AtomicBool,
    warned: AtomicBool,
}

/// What would keep such charges from being lost. A limit without any hits has none for charges either, whatever its overdraft,
/// and a peek with 0 hits passes all the same: there only asking for a hit before the response helps.
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
    /// One that has seen nothing, and counts there.
    pub fn new(refused: Counter) -> Self {
        Self { refused, ..Self::default() }
    }

    /// Sees a decision of the limit. The usual one costs a comparison.
    pub fn see(&self, domain: &str, charge: &ChargeDecision<'_>) {
        if charge.peeks {
            set(&self.peeked);
        } else if charge.hits == Hits::Spend(1) {
            set(&self.asked);
        }
        if !charge.is_over() || !self.loses(charge) {
            return;
        }
        self.refused.inc();
        // What an overdraft does not cover needs no other policy.
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

    /// Whether the refused hits were probably spent already, and don't count.
    fn loses(&self, charge: &ChargeDecision<'_>) -> bool {
        let peeked = self.peeked.load(Ordering::Relaxed);
        let is_lost = match charge.is_debit {
            true => !charge.decision.counted && (peeked || self.asked.load(Ordering::Relaxed)),
            false => charge.limit.refused == Refused::Free && peeked,
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
