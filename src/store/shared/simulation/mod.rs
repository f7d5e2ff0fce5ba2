//! Several sidecars on one store of up to three shards, which they lose and find again: outages for all, partitions for one,
//! answers that are lost though the charge was made, calls that arrive again, clocks that jump. Each run follows from its
//! seed. Whatever happens: what was admitted is counted in the store in the end, no sidecar lets more pass by itself than
//! its share, a refusal costs nothing, and once all is well again nothing is owed, and what is refused passes to the
//! millisecond when it is told to.
//!
//! `TOLLGATE_SEED=17 cargo test --lib shared::simulation` runs one seed, `TOLLGATE_SEEDS=5000` more of them.

mod truth;
mod world;

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::sleep;

use super::Shared;
use crate::clock::Now;
use crate::clock::Timestamp;
use crate::limit::Hits;
use crate::store::Batch;
use crate::store::Charge;
use crate::store::Fallback;
use crate::store::Outcome;

use truth::Admitted;
use truth::check;
use truth::check_promises;
use world::Distant;
use world::START_MS;
use world::World;
use world::charge;
use world::key;

const SIDECARS: u32 = 3;
/// How long things go wrong, and how long they are well then.
const TROUBLE_MS: u64 = 4_000;
const HEALING_MS: u64 = 1_500;
const TEND_MS: u64 = 200;
const KEYS: [&str; 2] = ["a", "b"];
/// Runs from seed 0 on, unless the environment says otherwise.
const SEEDS: u64 = 100;

/// A sidecar, and how its clock is ahead.
struct Sidecar {
    shared: Shared<Distant>,
    ahead_ms: Mutex<u64>,
    /// Requests that the store decided.
    heard: AtomicU64,
    /// Hits that were admitted here and have not come back.
    open: AtomicU64,
}

impl Sidecar {
    fn now(&self) -> Now {
        let world = &self.shared.store().world;
        Now::Local(Timestamp::from_ms(world.now().as_ms() + *self.ahead_ms.lock().unwrap()))
    }

    /// Decides a batch as a process does.
    async fn decide(&self, batch: &Batch) -> Outcome {
        match self.shared.answer(batch, self.now()) {
            Some(outcome) => outcome,
            None => self.shared.ask(batch, self.now(), Duration::ZERO).await.outcome,
        }
    }

    /// One request: hits of a key's limit and of the ledger, or some of the ledger's back.
    async fn request(&self) {
        let store = self.shared.store();
        let world = &store.world;
        let (index, hits, gives_back) = world.draw(|draw| {
            let index = usize::from(draw.one_in(2));
            (index, 1 + draw.below(2), draw.one_in(10))
        });
        let keys = [key(KEYS[index]), key("ledger")];
        let spends = [
            Charge { lease: world.lease, ..charge(0, &world.limits[index], Hits::Spend(hits)) },
            charge(1, &world.ledger, Hits::Spend(hits)),
        ];
        let batch = Batch {
            keys: keys.into_iter().collect(),
            charges: spends.into_iter().collect(),
            gauges: Vec::new(),
        };
        let outcome = self.decide(&batch).await;
        {
            let mut truth = world.truth.lock().unwrap();
            truth.decided += 1;
            truth.fallback += usize::from(outcome.fallback);
            self.heard.fetch_add(u64::from(!outcome.fallback), Ordering::Relaxed);
            if !outcome.admitted {
                return;
            }
            truth.ledger += hits;
            let heard = self.heard.load(Ordering::Relaxed) + self.shared.fallback().paid();
            let by = outcome.fallback.then_some((store.sidecar, heard));
            let at_ms = if outcome.fallback { world.ms() } else { outcome.at.as_ms() - START_MS };
            truth.admitted.push(Admitted { key: index, at_ms, hits, by });
        }
        let open = self.open.fetch_add(hits, Ordering::Relaxed) + hits;
        if gives_back {
            let hits = open.min(1 + world.draw(|draw| draw.below(20)));
            self.open.fetch_sub(hits, Ordering::Relaxed);
            let back = charge(0, &world.ledger, Hits::GiveBack(hits));
            let back = Batch {
                keys: std::iter::once(key("ledger")).collect(),
                charges: std::iter::once(back).collect(),
                gauges: Vec::new(),
            };
            let told = self.shared.ask(&back, self.now(), Duration::ZERO).await;
            assert!(told.outcome.admitted, "what comes back is always taken");
            world.truth.lock().unwrap().ledger -= hits;
        }
    }

    async fn serve(self: Arc<Self>) {
        let world = self.shared.store().world.clone();
        let mut requests = JoinSet::new();
        let mut tended_ms = 0;
        while world.ms() < TROUBLE_MS + HEALING_MS {
            let (pause_ms, jumps) = world.draw(|draw| (1 + draw.below(30), draw.one_in(100)));
            if jumps {
                *self.ahead_ms.lock().unwrap() = world.draw(|draw| draw.below(7_200_000));
            }
            let sidecar = self.clone();
            requests.spawn(async move { sidecar.request().await });
            if tended_ms + TEND_MS <= world.ms() {
                tended_ms = world.ms();
                self.shared.tend(self.now()).await;
            }
            sleep(Duration::from_millis(pause_ms)).await;
        }
        requests.join_all().await;
        self.shared.close(self.now()).await;
    }
}

/// A run; how many requests were decided, and how many of them by the sidecars themselves.
async fn run(seed: u64) -> (usize, usize) {
    let world = World::new(seed);
    let mut sidecars = Vec::new();
    let mut tasks = JoinSet::new();
    let mut watches = JoinSet::new();
    for sidecar in 0..SIDECARS {
        let store = Distant::new(&world, sidecar);
        let shared = Shared::new(store, Fallback::new(1_000, Some(SIDECARS)));
        let sidecar = Arc::new(Sidecar {
            shared,
            ahead_ms: Mutex::new(0),
            heard: AtomicU64::new(0),
            open: AtomicU64::new(0),
        });
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
    // Read when the test is built: only the settings read the environment of a process.
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
