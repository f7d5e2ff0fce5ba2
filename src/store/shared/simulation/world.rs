//! The store of a simulation, what goes wrong with it, and a sidecar's way to it.

use std::ops::Range;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;
use tokio::time::sleep;

use super::KEYS;
use super::SIDECARS;
use super::TROUBLE_MS;
use super::truth::Truth;
use crate::clock::Now;
use crate::clock::Timestamp;
use crate::clock::monotonic_now;
use crate::limit::Algorithm;
use crate::limit::Hits;
use crate::limit::Limit;
use crate::limit::Sliding;
use crate::policy::Key;
use crate::policy::OnOutage;
use crate::store::Batch;
use crate::store::Breaker;
use crate::store::Charge;
use crate::store::Outcome;
use crate::store::StoreError;
use crate::store::memory::Memory;
use crate::store::near::SharedStore;

pub const START_MS: u64 = 1_750_000_000_123;
const DEADLINE_MS: u64 = 10;
pub const WINDOW_MS: u64 = 1_000;

/// Numbers that follow from a seed (splitmix64).
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

    fn span(&mut self, length_max: u64) -> Range<u64> {
        let start = self.below(TROUBLE_MS);
        start..(start + self.below(length_max)).min(TROUBLE_MS)
    }
}

/// The store, what goes wrong with it, and what truly happened.
pub struct World {
    pub memory: Memory,
    pub started: Instant,
    /// When nobody reaches the store.
    pub outages: Vec<Range<u64>>,
    /// When one sidecar doesn't.
    pub partitions: Vec<(u32, Range<u64>)>,
    /// Answers get lost whose charges are made.
    pub loses_answers: bool,
    /// Limits slide, each under its key; the ledger counts everything and never resets.
    pub limits: Vec<Arc<Limit>>,
    pub ledger: Arc<Limit>,
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

    pub fn ms(&self) -> u64 {
        u64::try_from((monotonic_now() - self.started).as_millis()).unwrap()
    }

    pub fn now(&self) -> Timestamp {
        Timestamp::from_ms(START_MS + self.ms())
    }

    pub fn draw<T>(&self, draws: impl FnOnce(&mut Draw) -> T) -> T {
        draws(&mut self.draw.lock().unwrap())
    }

    fn reaches(&self, sidecar: u32) -> bool {
        let now_ms = self.ms();
        let cut_off = |(one, span): &(u32, Range<u64>)| *one == sidecar && span.contains(&now_ms);
        !self.outages.iter().any(|span| span.contains(&now_ms))
            && !self.partitions.iter().any(cut_off)
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

/// One sidecar's way to the store.
pub struct Distant {
    pub world: Arc<World>,
    pub sidecar: u32,
    pub breaker: Breaker,
}

impl Distant {
    async fn call(&self, batch: &Batch) -> Result<Outcome, StoreError> {
        let late = StoreError::Late { deadline: Duration::from_millis(DEADLINE_MS) };
        let world = &self.world;
        let (there_ms, back_ms, is_lost) =
            world.draw(|draw| (draw.below(3), draw.below(3), draw.one_in(50)));
        sleep(Duration::from_millis(there_ms)).await;
        if !world.reaches(self.sidecar) {
            // What is made once is sent again.
            let hits = batch.charges.iter().map(|charge| match (charge.hits, charge.once) {
                (Hits::GiveBack(hits), None) => hits,
                _ => 0,
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
                let ledger = spends.filter(|one| one.once.is_none());
                let ledger = ledger.filter(|one| *one.limit.tag() == *world.ledger.tag());
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
    pub async fn watch(&self) {
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
