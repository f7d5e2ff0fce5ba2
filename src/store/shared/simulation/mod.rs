//! Several sidecars on one store of up to three shards, which becomes unavailable and available: outages for all,
//! partitions for one, answers that are lost although the charge was made, duplicated calls, clock steps. Each run is
//! determined by its seed. In every run: admitted hits are counted in the store in the end, no sidecar admits more by
//! itself than its share, a refusal costs nothing, and after the faults no debts remain, and refused requests pass
//! exactly after their wait.
//!
//! `TOLLGATE_SEED=17 cargo test --lib shared::simulation` runs one seed, `TOLLGATE_SEEDS=5000` more of them.

mod checks;
mod sidecar;
mod truth;
mod world;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::task::JoinSet;

use super::Shared;
use crate::store::Fallback;

use checks::{check, check_promises};
use sidecar::Sidecar;
use world::{Distant, SIDECARS, World};

/// Number of runs from seed 0 on, unless the environment sets it.
const SEEDS: u64 = 100;

/// A run; the number of decided requests, and of those that sidecars decided by themselves.
async fn run(seed: u64) -> (usize, usize) {
    let world = World::new(seed);
    let mut sidecars = Vec::new();
    let mut tasks = JoinSet::new();
    let mut watches = JoinSet::new();
    for sidecar in 0..SIDECARS {
        let store = Distant::new(&world, sidecar);
        let shared = Shared::new(store, Fallback::new(1_000, Some(SIDECARS)));
        let sidecar = Arc::new(Sidecar::new(shared));
        for shard in 0..world.shards {
            let watched = sidecar.clone();
            watches.spawn(async move { watched.shared.store().watch(shard).await });
        }
        tasks.spawn(sidecar.clone().serve());
        sidecars.push(sidecar);
    }
    tasks.join_all().await;
    let name = format!("seed {seed}");
    check(&world, &sidecars, &name);
    check_promises(&world, &sidecars[0], &name).await;
    world.over.store(true, Ordering::Relaxed);
    watches.join_all().await;
    let truth = world.truth.lock().unwrap();
    (truth.decided, truth.fallback)
}

#[tokio::test(start_paused = true)]
async fn an_outage_loses_no_hit_and_ends() {
    // Read at compile time: only the settings read the environment of a process.
    let number = |text: Option<&str>| text.and_then(|text| text.parse().ok());
    let seeds = match number(option_env!("TOLLGATE_SEED")) {
        Some(seed) => seed..seed + 1,
        None => 0..number(option_env!("TOLLGATE_SEEDS")).unwrap_or(SEEDS),
    };
    let (mut decided, mut fallback) = (0, 0);
    for seed in seeds {
        let (more, more_fallback) = run(seed).await;
        (decided, fallback) = (decided + more, fallback + more_fallback);
    }
    assert!(0 < fallback && fallback < decided, "{fallback} of {decided} without the store");
}
