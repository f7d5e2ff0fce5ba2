//! The store of a simulation, its faults, and the network of a sidecar.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::truth::Truth;
use crate::clock::{Now, Timestamp, monotonic_now};
use crate::limit::{Algorithm, Hits, Limit, Sliding};
use crate::policy::{Key, Lease, OnOutage};
use crate::store::embedded::Memory;
use crate::store::{Batch, Breaker, Charge, Outcome, Store, StoreError, StoreWait};

pub const SIDECARS: u32 = 3;
/// Duration of the faults, and of the time without faults after them.
pub const TROUBLE_MS: u64 = 4_000;
pub const HEALING_MS: u64 = 1_500;
pub const KEYS: [&str; 2] = ["a", "b"];
pub const START_MS: u64 = 1_750_000_000_123;
const DEADLINE_MS: u64 = 10;
pub const WINDOW_MS: u64 = 1_000;
const SHARDS_MAX: u32 = 3;

/// Random numbers from a seed (splitmix64).
#[derive(Clone, Debug)]
pub struct Draw(u64);

impl Draw {
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }

    pub fn one_in(&mut self, of: u64) -> bool {
        self.below(of) == 0
    }

    fn number(&mut self, end: u32) -> u32 {
        u32::try_from(self.below(u64::from(end))).unwrap()
    }

    fn span(&mut self, length_max: u64) -> Range<u64> {
        let start = self.below(TROUBLE_MS);
        start..(start + self.below(length_max)).min(TROUBLE_MS)
    }
}

/// The store, its faults, and the true counts.
pub struct World {
    pub memory: Memory,
    pub started: Instant,
    /// The number of shards.
    pub shards: u32,
    /// The times at which a shard is unreachable.
    pub outages: Vec<(u32, Range<u64>)>,
    /// The times at which a sidecar has no connection.
    pub partitions: Vec<(u32, u32, Range<u64>)>,
    /// Whether leases are used.
    pub lease: Lease,
    /// Answers are lost although their charges are made.
    pub loses_answers: bool,
    /// Sliding limits, each under its key; the ledger counts everything and never resets.
    pub limits: Vec<Arc<Limit>>,
    pub ledger: Arc<Limit>,
    /// Numbered calls, which may be duplicated.
    sent: Mutex<Vec<Batch>>,
    pub draw: Mutex<Draw>,
    pub truth: Mutex<Truth>,
    pub over: AtomicBool,
}

impl World {
    pub fn new(seed: u64) -> Arc<Self> {
        let mut draw = Draw(seed);
        let limits = KEYS.map(|_| {
            let amount = 1 + draw.below(120);
            Arc::new(Limit::new(amount, Algorithm::Sliding(Sliding::new(WINDOW_MS, amount))))
        });
        let shards = 1 + draw.number(SHARDS_MAX);
        let outages = (0..draw.below(3)).map(|_| (draw.number(shards), draw.span(2_000)));
        let outages = outages.collect();
        let partitions = (0..draw.below(4))
            .map(|_| (draw.number(SIDECARS), draw.number(shards), draw.span(2_000)));
        Arc::new(Self {
            shards,
            memory: Memory::new(1_000),
            started: monotonic_now(),
            outages,
            partitions: partitions.collect(),
            lease: if draw.one_in(2) { Lease::Auto } else { Lease::Off },
            loses_answers: draw.one_in(2),
            limits: limits.into(),
            ledger: Arc::new(Limit::new(1_000_000_000, Algorithm::Total)),
            sent: Mutex::default(),
            draw: Mutex::new(draw),
            truth: Mutex::default(),
            over: AtomicBool::new(false),
        })
    }

    pub fn ms(&self) -> u64 {
        u64::try_from((monotonic_now() - self.started).as_millis()).unwrap()
    }

    pub fn now(&self) -> Timestamp {
        Timestamp::from_ms(START_MS + self.ms())
    }

    pub fn draw<T>(&self, draws: impl FnOnce(&mut Draw) -> T) -> T {
        draws(&mut self.draw.lock().unwrap())
    }

    /// Whether the store always decides.
    pub fn is_calm(&self) -> bool {
        self.outages.is_empty() && self.partitions.is_empty() && !self.loses_answers
    }

    fn reaches(&self, sidecar: u32, shard: u32) -> bool {
        let now_ms = self.ms();
        let out = |(at, span): &(u32, Range<u64>)| *at == shard && span.contains(&now_ms);
        let cut_off = |(one, at, span): &(u32, u32, Range<u64>)| {
            (*one, *at) == (sidecar, shard) && span.contains(&now_ms)
        };
        !self.outages.iter().any(out) && !self.partitions.iter().any(cut_off)
    }

    /// Hits that a batch spends of the ledger, and those that it gives back, except those that are sent again until
    /// they arrive.
    fn of_ledger(&self, batch: &Batch) -> (u64, u64) {
        let charges = batch.charges.iter().filter(|charge| charge.once.is_none());
        let of_ledger = charges.filter(|charge| *charge.limit.tag() == *self.ledger.tag());
        of_ledger.fold((0, 0), |(spent, back), charge| match charge.hits {
            Hits::Spend(hits) => (spent + hits, back),
            Hits::GiveBack(hits) => (spent, back + hits),
        })
    }

    /// Makes a call, and duplicates numbered calls.
    fn make(&self, batch: &Batch) -> Outcome {
        let outcome = self.memory.charge_at(batch, self.now());
        let mut sent = self.sent.lock().unwrap();
        if batch.charges.iter().all(|charge| charge.once.is_some()) {
            sent.push(batch.clone());
        }
        if !sent.is_empty() && self.draw(|draw| draw.one_in(3)) {
            let again = self.draw(|draw| draw.below(sent.len() as u64));
            self.memory.charge_at(&sent[usize::try_from(again).unwrap()], self.now());
        }
        outcome
    }

    fn shard_of(&self, key: &Key) -> u32 {
        let last = key.as_str().bytes().last().unwrap();
        u32::from(last) % self.shards
    }
}

pub fn key(name: &str) -> Key {
    let mut key = Key::of_domain("d");
    key.push_value("key", name);
    key
}

pub fn charge(index: usize, limit: &Arc<Limit>, hits: Hits) -> Charge {
    Charge { group: index, on_outage: OnOutage::Local, ..Charge::plain(index, limit.clone(), hits) }
}

/// The network of one sidecar.
pub struct Distant {
    pub world: Arc<World>,
    pub sidecar: u32,
    /// One for each shard.
    pub breakers: Vec<Breaker>,
}

impl Distant {
    pub fn new(world: &Arc<World>, sidecar: u32) -> Self {
        let breakers = (0..world.shards).map(|_| Breaker::default());
        Self { world: world.clone(), sidecar, breakers: breakers.collect() }
    }

    async fn call(&self, batch: &Batch, shard: u32) -> Result<Outcome, StoreError> {
        let late = StoreError::Late { deadline: Duration::from_millis(DEADLINE_MS) };
        let world = &self.world;
        let (there_ms, back_ms, is_lost) =
            world.draw(|draw| (draw.below(3), draw.below(3), draw.one_in(50)));
        sleep(Duration::from_millis(there_ms)).await;
        if !world.reaches(self.sidecar, shard) {
            world.truth.lock().unwrap().stuck += world.of_ledger(batch).1;
            sleep(Duration::from_millis(DEADLINE_MS - there_ms)).await;
            return Err(late);
        }
        let outcome = world.make(batch);
        let is_lost = is_lost && world.ms() < TROUBLE_MS;
        if world.loses_answers && (is_lost || !world.reaches(self.sidecar, shard)) {
            if outcome.admitted {
                world.truth.lock().unwrap().unknown += world.of_ledger(batch).0;
            }
            sleep(Duration::from_millis(DEADLINE_MS - there_ms)).await;
            return Err(late);
        }
        sleep(Duration::from_millis(back_ms)).await;
        Ok(outcome)
    }

    /// Probes a shard of the store like the connection's task.
    pub async fn watch(&self, shard: u32) {
        let breaker = &self.breakers[shard as usize];
        while !self.world.over.load(Ordering::Relaxed) {
            sleep(breaker.pause()).await;
            breaker.probe();
            match self.world.reaches(self.sidecar, shard) {
                true => drop(breaker.probe_succeeded()),
                false => breaker.probe_failed(),
            }
        }
    }
}

impl Store for Distant {
    async fn charge_after(
        &self,
        batch: &Batch,
        _now: Now,
        _wait: StoreWait,
    ) -> Result<Outcome, StoreError> {
        let shard = self.shard_of(&batch.keys[0]);
        assert!(batch.keys.iter().all(|key| self.shard_of(key) == shard), "one shard at a time");
        let breaker = &self.breakers[shard as usize];
        if !breaker.is_healthy() {
            let (address, reason) = (String::new(), String::new());
            return Err(StoreError::Disconnected { address, reason });
        }
        let answer = self.call(batch, shard).await;
        match &answer {
            Ok(_) => breaker.answered(),
            Err(error) => drop(breaker.failed(error)),
        }
        answer
    }

    fn shard_of(&self, key: &Key) -> u32 {
        self.world.shard_of(key)
    }

    fn is_healthy(&self) -> bool {
        self.breakers.iter().any(Breaker::is_healthy)
    }

    fn sidecars(&self) -> u32 {
        SIDECARS
    }
}
