//! Several sidecars on one store, which they lose and find again: outages for all, partitions for one, answers that are lost
//! though the charge was made, clocks that jump. Each run follows from its seed. Whatever happens: what was admitted is
//! counted in the store in the end, no sidecar lets more pass by itself than its share, a refusal costs nothing,
//! and once all is well again nothing is owed.
//!
//! `TOLLGATE_SEED=17 cargo test --lib shared::simulation` runs one seed, `TOLLGATE_SEEDS=5000` more of them.

use std::env;
use std::ops::Range;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio::time::sleep;

use super::Shared;
use crate::clock::Now;
use crate::clock::Timestamp;
use crate::clock::monotonic_now;
use crate::limit::Algorithm;
use crate::limit::Hits;
use crate::limit::Limit;
use crate::limit::Sliding;
use crate::policy::Key;
use crate::policy::Lease;
use crate::policy::Mode;
use crate::policy::OnOutage;
use crate::store::Batch;
use crate::store::Breaker;
use crate::store::Charge;
use crate::store::Fallback;
use crate::store::Open;
use crate::store::Outcome;
use crate::store::StoreError;
use crate::store::memory::Memory;
use crate::store::near::SharedStore;

const START_MS: u64 = 1_750_000_000_123;
const SIDECARS: u32 = 3;
/// How long things go wrong, and how long they are well then.
const TROUBLE_MS: u64 = 4_000;
const HEALING_MS: u64 = 1_500;
const TEND_MS: u64 = 200;
const DEADLINE_MS: u64 = 10;
const WINDOW_MS: u64 = 1_000;
const KEYS: [&str; 2] = ["a", "b"];
/// Runs from seed 0 on, unless the environment says otherwise.
const SEEDS: u64 = 100;

/// Numbers that follow from a seed (splitmix64).
#[derive(Clone, Debug)]
struct Draw(u64);

impl Draw {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }

    fn one_in(&mut self, of: u64) -> bool {
        self.below(of) == 0
    }

    fn span(&mut self, length_max: u64) -> Range<u64> {
        let start = self.below(TROUBLE_MS);
        start..(start + self.below(length_max)).min(TROUBLE_MS)
    }
}

/// The store, what goes wrong with it, and what truly happened.
struct World {
    memory: Memory,
    started: Instant,
    /// When nobody reaches the store.
    outages: Vec<Range<u64>>,
    /// When one sidecar doesn't.
    partitions: Vec<(u32, Range<u64>)>,
    /// Answers get lost whose charges are made.
    loses_answers: bool,
    /// Limits slide, each under its key; the ledger counts everything and never resets.
    limits: Vec<Arc<Limit>>,
    ledger: Arc<Limit>,
    draw: Mutex<Draw>,
    truth: Mutex<Truth>,
    over: AtomicBool,
}

/// What truly happened.
#[derive(Default)]
struct Truth {
    admitted: Vec<Admitted>,
    /// Hits of requests that were admitted, less those that came back.
    ledger: u64,
    /// Hits of charges whose answer was lost.
    unknown: u64,
    /// Hits that were to come back, in calls that were lost: whether they were made nobody knows, so they aren't made
    /// again.
    stuck: u64,
    decided: usize,
    fallback: usize,
}

struct Admitted {
    key: usize,
    at_ms: u64,
    hits: u64,
    /// The sidecar, if it decided by itself, and how often it had heard of the store before.
    by: Option<(u32, u64)>,
}

impl World {
    fn new(seed: u64) -> Arc<Self> {
        let mut draw = Draw(seed);
        let limits = KEYS.map(|_| {
            let amount = 1 + draw.below(120);
            Arc::new(Limit::new(amount, Algorithm::Sliding(Sliding::new(WINDOW_MS, amount))))
        });
        let outages = (0..draw.below(3)).map(|_| draw.span(2_000)).collect();
        let partitions = (0..draw.below(4))
            .map(|_| (u32::try_from(draw.below(u64::from(SIDECARS))).unwrap(), draw.span(2_000)));
        Arc::new(Self {
            memory: Memory::new(1_000),
            started: monotonic_now(),
            outages,
            partitions: partitions.collect(),
            loses_answers: draw.one_in(2),
            limits: limits.into(),
            ledger: Arc::new(Limit::new(1_000_000_000, Algorithm::Total)),
            draw: Mutex::new(draw),
            truth: Mutex::default(),
            over: AtomicBool::new(false),
        })
    }

    fn ms(&self) -> u64 {
        u64::try_from((monotonic_now() - self.started).as_millis()).unwrap()
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_ms(START_MS + self.ms())
    }

    fn draw<T>(&self, draws: impl FnOnce(&mut Draw) -> T) -> T {
        draws(&mut self.draw.lock().unwrap())
    }

    fn reaches(&self, sidecar: u32) -> bool {
        let now_ms = self.ms();
        let cut_off = |(one, span): &(u32, Range<u64>)| *one == sidecar && span.contains(&now_ms);
        !self.outages.iter().any(|span| span.contains(&now_ms))
            && !self.partitions.iter().any(cut_off)
    }
}

fn key(name: &str) -> Key {
    let mut key = Key::of_domain("d");
    key.push_value("key", name);
    key
}

fn charge(index: usize, limit: &Arc<Limit>, hits: Hits) -> Charge {
    Charge {
        key_index: index,
        group: index,
        mode: Mode::Enforce,
        limit: limit.clone(),
        hits,
        open: Open::all(),
        bonuses: Vec::new(),
        lease: Lease::Off,
        on_outage: OnOutage::Local,
        ahead: 0,
        until: None,
    }
}

/// One sidecar's way to the store.
struct Distant {
    world: Arc<World>,
    sidecar: u32,
    breaker: Breaker,
}

impl Distant {
    async fn call(&self, batch: &Batch) -> Result<Outcome, StoreError> {
        let late = StoreError::Late { deadline: Duration::from_millis(DEADLINE_MS) };
        let world = &self.world;
        let (there_ms, back_ms, is_lost) =
            world.draw(|draw| (draw.below(3), draw.below(3), draw.one_in(50)));
        sleep(Duration::from_millis(there_ms)).await;
        if !world.reaches(self.sidecar) {
            let hits = batch.charges.iter().map(|charge| match charge.hits {
                Hits::GiveBack(hits) => hits,
                Hits::Spend(_) => 0,
            });
            world.truth.lock().unwrap().stuck += hits.sum::<u64>();
            sleep(Duration::from_millis(DEADLINE_MS - there_ms)).await;
            return Err(late);
        }
        let outcome = world.memory.charge_at(batch, world.now());
        let is_lost = is_lost && world.ms() < TROUBLE_MS;
        if world.loses_answers && (is_lost || !world.reaches(self.sidecar)) {
            if outcome.admitted {
                let spends = batch.charges.iter().filter(|one| matches!(one.hits, Hits::Spend(_)));
                let ledger = spends.filter(|one| *one.limit.tag() == *world.ledger.tag());
                let hits: u64 = ledger.map(|charge| charge.hits.amount()).sum();
                world.truth.lock().unwrap().unknown += hits;
            }
            sleep(Duration::from_millis(DEADLINE_MS - there_ms)).await;
            return Err(late);
        }
        sleep(Duration::from_millis(back_ms)).await;
        Ok(outcome)
    }

    /// Looks at the store as the connection's task does.
    async fn watch(&self) {
        while !self.world.over.load(Ordering::Relaxed) {
            sleep(self.breaker.pause()).await;
            self.breaker.probe();
            match self.world.reaches(self.sidecar) {
                true => drop(self.breaker.found_well()),
                false => self.breaker.found_broken(),
            }
        }
    }
}

impl SharedStore for Distant {
    async fn charge_after(
        &self,
        batch: &Batch,
        _now: Now,
        _waited: Duration,
    ) -> Result<Outcome, StoreError> {
        if !self.breaker.is_healthy() {
            let (address, reason) = (String::new(), String::new());
            return Err(StoreError::Disconnected { address, reason });
        }
        let answer = self.call(batch).await;
        match &answer {
            Ok(_) => self.breaker.answered(),
            Err(error) => drop(self.breaker.failed(error)),
        }
        answer
    }

    fn is_healthy(&self) -> bool {
        self.breaker.is_healthy()
    }

    fn sidecars(&self) -> u32 {
        SIDECARS
    }
}

/// A sidecar, and how its clock is ahead.
struct Sidecar {
    shared: Shared<Distant>,
    ahead_ms: Mutex<u64>,
    /// Requests that the store decided.
    heard: AtomicU64,
}

impl Sidecar {
    fn now(&self) -> Now {
        let world = &self.shared.near.store().world;
        Now::Local(Timestamp::from_ms(world.now().as_ms() + *self.ahead_ms.lock().unwrap()))
    }

    /// One request: hits of a key's limit and of the ledger, or some of the ledger's back.
    async fn request(&self) {
        let store = self.shared.near.store();
        let world = &store.world;
        let (index, hits, gives_back) = world.draw(|draw| {
            let index = usize::from(draw.one_in(2));
            (index, 1 + draw.below(2), draw.one_in(10))
        });
        let keys = [key(KEYS[index]), key("ledger")];
        let spends = [
            charge(0, &world.limits[index], Hits::Spend(hits)),
            charge(1, &world.ledger, Hits::Spend(hits)),
        ];
        let batch = Batch {
            keys: keys.into_iter().collect(),
            charges: spends.into_iter().collect(),
            gauges: Vec::new(),
        };
        let outcome = match self.shared.answer(&batch, self.now()) {
            Some(outcome) => outcome,
            None => self.shared.ask(&batch, self.now(), Duration::ZERO).await.outcome,
        };
        {
            let mut truth = world.truth.lock().unwrap();
            truth.decided += 1;
            truth.fallback += usize::from(outcome.fallback);
            self.heard.fetch_add(u64::from(!outcome.fallback), Ordering::Relaxed);
            if !outcome.admitted {
                return;
            }
            truth.ledger += hits;
            let heard = self.heard.load(Ordering::Relaxed) + self.shared.fallback.paid();
            let by = outcome.fallback.then_some((store.sidecar, heard));
            let at_ms = if outcome.fallback { world.ms() } else { outcome.at.as_ms() - START_MS };
            truth.admitted.push(Admitted { key: index, at_ms, hits, by });
        }
        if gives_back {
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
        let world = self.shared.near.store().world.clone();
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

/// Checks what must hold of a run.
fn check(world: &World, sidecars: &[Arc<Sidecar>], name: &str) {
    let truth = world.truth.lock().unwrap();
    for sidecar in sidecars {
        assert!(sidecar.shared.near.store().is_healthy(), "{name}: the store is used again");
        assert!(!sidecar.shared.fallback.owes(), "{name}: all debts are paid");
    }
    let now = world.now();
    let used = world.memory.used(&key("ledger"), &world.ledger, now);
    assert!(truth.ledger <= used, "{name}: {used} counted, {} admitted", truth.ledger);
    // A charge whose answer was lost may be made twice; a refused one never.
    let (ledger, slack) = (truth.ledger + truth.stuck, truth.unknown);
    assert!(used <= ledger + slack, "{name}: {used} counted, {ledger} and {slack} unknown");
    if !world.loses_answers {
        assert_eq!(used, ledger, "{name}: every hit is counted once");
    }
    for (index, limit) in world.limits.iter().enumerate() {
        let share = (limit.amount() / u64::from(SIDECARS)).max(1);
        // As long as it hears nothing of the store, a sidecar has one share.
        let alone = truth.admitted.iter().filter(|one| one.key == index && one.by.is_some());
        let alone: Vec<&Admitted> = alone.collect();
        for last in &alone {
            let window = alone.iter().filter(|one| {
                one.by == last.by && one.at_ms <= last.at_ms && last.at_ms < one.at_ms + WINDOW_MS
            });
            let hits: u64 = window.map(|one| one.hits).sum();
            assert!(hits <= share, "{name}: {hits} by itself, of a share of {share}");
        }
        let lately = |one: &&Admitted| one.key == index && world.ms() < one.at_ms + WINDOW_MS;
        let lately: u64 = truth.admitted.iter().filter(lately).map(|one| one.hits).sum();
        let used = world.memory.used(&key(KEYS[index]), limit, now);
        assert!(lately <= used, "{name}: {used} counted of {lately} in the window");
    }
}

/// A run; how many requests were decided, and how many of them by the sidecars themselves.
async fn run(seed: u64) -> (usize, usize) {
    let world = World::new(seed);
    let mut sidecars = Vec::new();
    let mut tasks = JoinSet::new();
    let mut watches = JoinSet::new();
    for sidecar in 0..SIDECARS {
        let store = Distant { world: world.clone(), sidecar, breaker: Breaker::default() };
        let shared = Shared::new(store, Fallback::new(1_000, Some(SIDECARS)));
        let sidecar =
            Arc::new(Sidecar { shared, ahead_ms: Mutex::new(0), heard: AtomicU64::new(0) });
        let watched = sidecar.clone();
        watches.spawn(async move { watched.shared.near.store().watch().await });
        tasks.spawn(sidecar.clone().serve());
        sidecars.push(sidecar);
    }
    tasks.join_all().await;
    check(&world, &sidecars, &format!("seed {seed}"));
    world.over.store(true, Ordering::Relaxed);
    watches.join_all().await;
    let truth = world.truth.lock().unwrap();
    (truth.decided, truth.fallback)
}

fn from_environment(name: &str) -> Option<u64> {
    env::var(name).ok()?.parse().ok()
}

#[tokio::test(start_paused = true)]
async fn an_outage_loses_no_hit_and_ends() {
    let seeds = match from_environment("TOLLGATE_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..from_environment("TOLLGATE_SEEDS").unwrap_or(SEEDS),
    };
    let (mut decided, mut fallback) = (0, 0);
    for seed in seeds {
        let (more, more_fallback) = run(seed).await;
        (decided, fallback) = (decided + more, fallback + more_fallback);
    }
    assert!(0 < fallback && fallback < decided, "{fallback} of {decided} without the store");
}
