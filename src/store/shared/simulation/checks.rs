//! The checks at the end of a simulation.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use super::sidecar::Sidecar;
use super::truth::Admitted;
use super::world::{KEYS, SIDECARS, WINDOW_MS, World, charge, key};
use crate::limit::{Fit, Hits};
use crate::store::local_cache::HOLD_MS_MAX;
use crate::store::{Batch, Breaker};

/// Maximum time until every sidecar has detected the store.
const FOUND_MS: u64 = 500;

/// Maximum difference between the time of a decision and the reported one: of several shards, it is the latest.
const TOLD_MS: u64 = 20;

/// Spends all remaining hits after a run, and checks that refused requests pass after their wait, and not a millisecond
/// earlier.
pub async fn check_promises(world: &World, sidecar: &Sidecar, name: &str) {
    // A cached refusal may not include what others have spent since. Time is paused, and passes at once.
    sleep(Duration::from_millis(HOLD_MS_MAX)).await;
    for (index, limit) in world.limits.iter().enumerate() {
        let hits = 1 + world.draw(|draw| draw.below(limit.amount()));
        let batch = Batch {
            keys: std::iter::once(key(KEYS[index])).collect(),
            charges: std::iter::once(charge(0, limit, Hits::Spend(hits))).collect(),
            gauges: Vec::new(),
        };
        let refused = loop {
            let outcome = sidecar.decide(&batch).await;
            assert!(!outcome.fallback, "{name}: the store decides");
            if !outcome.admitted {
                break outcome;
            }
        };
        let Fit::AfterMs(wait_ms) = refused.decisions[0].fit else {
            panic!("{name}: {:?}", refused.decisions)
        };
        for (later_ms, passes) in [(wait_ms - 1, false), (wait_ms, true)] {
            let at = refused.at.after(Duration::from_millis(later_ms));
            let outcome = world.memory.charge_at(&batch, at);
            assert_eq!(outcome.admitted, passes, "{name}: {hits} of {limit} after {later_ms} ms");
        }
    }
}

/// Checks a run.
pub fn check(world: &World, sidecars: &[Arc<Sidecar>], name: &str) {
    let truth = world.truth.lock().unwrap();
    for sidecar in sidecars {
        let breakers = &sidecar.shared.store().breakers;
        assert!(breakers.iter().all(Breaker::is_healthy), "{name}: the store is used again");
        assert!(sidecar.shared.refunds.is_empty(), "{name}: nothing is on its way back");
        assert!(!sidecar.shared.fallback().owes(), "{name}: all debts are paid");
    }
    let now = world.now();
    let used = world.memory.used(&key("ledger"), &world.ledger, now);
    assert!(truth.ledger <= used, "{name}: {used} counted, {} admitted", truth.ledger);
    // A charge whose answer was lost may be made twice, or remain although the request was refused elsewhere; no other
    // may.
    let (ledger, slack) = (truth.ledger + truth.stuck, truth.unknown);
    assert!(used <= ledger + slack, "{name}: {used} counted, {ledger} and {slack} unknown");
    if !world.loses_answers {
        assert_eq!(used, ledger, "{name}: every hit is counted once");
    }
    for (index, limit) in world.limits.iter().enumerate() {
        let share = (limit.amount() / u64::from(SIDECARS)).max(1);
        // Without an answer of the store, a sidecar has one share.
        // With several shards, the outcome does not say for which of them a sidecar decided.
        let alone = truth
            .admitted
            .iter()
            .filter(|one| one.key == index && one.by.is_some() && world.shards == 1);
        let alone: Vec<&Admitted> = alone.collect();
        for last in &alone {
            let window = alone.iter().filter(|one| {
                one.by == last.by && one.at_ms <= last.at_ms && last.at_ms < one.at_ms + WINDOW_MS
            });
            let hits: u64 = window.map(|one| one.hits).sum();
            assert!(hits <= share, "{name}: {hits} by itself, of a share of {share}");
        }
        if world.is_calm() {
            let settled = truth.admitted.iter().filter(|one| FOUND_MS <= one.at_ms);
            let of_key = || settled.clone().filter(|one| one.key == index);
            for last in of_key() {
                let window = of_key().filter(|one| {
                    one.at_ms <= last.at_ms && last.at_ms + TOLD_MS < one.at_ms + WINDOW_MS
                });
                let hits: u64 = window.map(|one| one.hits).sum();
                assert!(hits <= limit.amount(), "{name}: {hits} of {limit} in a window");
            }
        }
        let lately =
            |one: &&Admitted| one.key == index && world.ms() + TOLD_MS < one.at_ms + WINDOW_MS;
        let lately: u64 = truth.admitted.iter().filter(lately).map(|one| one.hits).sum();
        let used = world.memory.used(&key(KEYS[index]), limit, now);
        assert!(lately <= used, "{name}: {used} counted of {lately} in the window");
    }
}
