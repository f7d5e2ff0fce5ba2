//! Several sidecars on one store, with faults between them: late answers, lost calls and answers, calls that the store
//! executes long after their timeout, pauses and kills. Each run is determined by its seed. In every run no window has
//! more hits than its limit; without faults, no request is refused while more hits are unspent than the sidecars may
//! hold.

mod truth;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::refusals::HOLD_MS_MAX;
use super::{LocalCache, Store};
use crate::clock::{Now, Timestamp, monotonic_now};
use crate::limit::{Algorithm, Hits, Limit, Sliding};
use crate::policy::{Key, Lease};
use crate::store::embedded::Memory;
use crate::store::{Arrival, Batch, Charge, Outcome, StoreError, StoreWait};

use truth::{KEYS, SIDECARS, START_MS, Truth, event};

const RUN_MS: u64 = 5_000;
const TEND_MS: u64 = 200;
/// Number of seeds from 0 on.
const SEEDS: u64 = 6;
const DEADLINE_MS: u64 = 50;

/// Random numbers from a seed (splitmix64).
#[derive(Clone, Debug)]
struct Draw(u64);

impl Draw {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn of<T: Copy>(&mut self, values: &[T]) -> T {
        values[usize::try_from(self.below(values.len() as u64)).unwrap()]
    }

    fn one_in(&mut self, of: u64) -> bool {
        self.below(of) == 0
    }
}

/// The store, its clock, and the true counts.
struct World {
    memory: Memory,
    started: Instant,
    /// How far the store's milliseconds are ahead of the sidecars'.
    phase: Duration,
    is_faulty: bool,
    limits: Vec<Vec<Arc<Limit>>>,
    draw: Mutex<Draw>,
    truth: Mutex<Truth>,
    /// Calls whose callers have timed out.
    late: Mutex<JoinSet<()>>,
}

impl World {
    fn new(seed: u64, is_faulty: bool) -> Arc<Self> {
        let mut draw = Draw(seed);
        let sliding = |amount: u64, window_ms: u64| {
            Arc::new(Limit::new(amount, Algorithm::Sliding(Sliding::new(window_ms, amount))))
        };
        let mut limits = |_| {
            let burst = sliding(200 + draw.below(1_800), draw.of(&[100, 500, 1_000]));
            let long = sliding(1_000 + draw.below(5_000), 3_000);
            if draw.one_in(2) { vec![burst] } else { vec![burst, long] }
        };
        let limits = KEYS.iter().map(&mut limits).collect();
        Arc::new(Self {
            memory: Memory::new(1_000),
            started: monotonic_now(),
            phase: Duration::from_micros(draw.below(1_000)),
            is_faulty,
            limits,
            draw: Mutex::new(draw),
            truth: Mutex::default(),
            late: Mutex::default(),
        })
    }

    fn store_ms(&self) -> u64 {
        let elapsed = monotonic_now() - self.started + self.phase;
        START_MS + u64::try_from(elapsed.as_millis()).unwrap()
    }

    fn draw<T>(&self, draws: impl FnOnce(&mut Draw) -> T) -> T {
        draws(&mut self.draw.lock().unwrap())
    }

    /// A request for some hits of all limits of one key or two.
    fn batch(&self) -> Batch {
        let (first, both, hits) = self.draw(|draw| {
            let hits = if draw.one_in(10) { 1 + draw.below(5) } else { 1 };
            (draw.of(&[0, 1]), draw.one_in(3), hits)
        });
        let keys = if both { first..first + 2 } else { first..first + 1 };
        let mut batch = Batch::default();
        for index in keys {
            let mut key = Key::of_domain("d");
            key.push_value("key", KEYS[index]);
            let key_index = batch.key_index(key);
            for limit in &self.limits[index] {
                let charge = charge(limit.clone(), Hits::Spend(hits));
                batch.charges.push(Charge { key_index, group: index, ..charge });
            }
        }
        batch
    }

    /// The store decides.
    fn decide(&self, batch: &Batch) -> Outcome {
        let at_ms = self.store_ms();
        let outcome = self.memory.charge_at(batch, Timestamp::from_ms(at_ms));
        let mut truth = self.truth.lock().unwrap();
        for charge in &batch.charges {
            if let Hits::GiveBack(hits) = charge.hits {
                truth.returned.push(event(batch, charge, (at_ms, hits)));
            }
        }
        truth.refuse(batch, &outcome, 0);
        outcome
    }

    /// A sidecar has decided a request, with or without a call to the store.
    fn answered(&self, batch: &Batch, outcome: &Outcome, is_local: bool) {
        let at_ms = if is_local { self.store_ms() } else { outcome.at.as_ms() };
        let mut truth = self.truth.lock().unwrap();
        if outcome.admitted {
            truth.leased += usize::from(is_local);
            for charge in &batch.charges {
                let event = event(batch, charge, (at_ms, charge.hits.amount()));
                truth.admitted.push(event);
            }
        } else if is_local {
            truth.held += 1;
            let outcome = Outcome { at: Timestamp::from_ms(at_ms), ..outcome.clone() };
            truth.refuse(batch, &outcome, HOLD_MS_MAX);
        }
    }
}

fn charge(limit: Arc<Limit>, hits: Hits) -> Charge {
    Charge { lease: Lease::Auto, ..Charge::plain(0, limit, hits) }
}

/// The network of one sidecar.
struct Distant(Arc<World>);

/// The latency of one call, in milliseconds.
struct Passage {
    there_ms: u64,
    back_ms: u64,
    is_lost: bool,
}

impl Passage {
    fn draw(draw: &mut Draw, is_faulty: bool) -> Self {
        let (mut there_ms, mut back_ms) = (draw.below(3), draw.below(3));
        if is_faulty {
            match draw.below(40) {
                0 => there_ms = draw.below(DEADLINE_MS),
                1 => back_ms = draw.below(2 * DEADLINE_MS),
                // A stalled store makes the call after its caller has timed out.
                2 => there_ms = draw.below(4_000),
                _ => {}
            }
        }
        Self { there_ms, back_ms, is_lost: is_faulty && draw.one_in(50) }
    }
}

impl Store for Distant {
    async fn charge_after(
        &self,
        batch: &Batch,
        _now: Now,
        _wait: StoreWait,
    ) -> Result<Outcome, StoreError> {
        let Self(world) = self;
        let deadline = Duration::from_millis(DEADLINE_MS);
        let passage = world.draw(|draw| Passage::draw(draw, world.is_faulty));
        let returning = batch.charges.iter().map(|charge| match charge.hits {
            Hits::GiveBack(hits) => hits,
            Hits::Spend(_) => 0,
        });
        let returning: u64 = returning.sum();
        world.truth.lock().unwrap().returning += returning;
        if passage.is_lost || DEADLINE_MS <= passage.there_ms {
            if !passage.is_lost {
                let (late, batch) = (world.clone(), batch.clone());
                world.late.lock().unwrap().spawn(async move {
                    // Like all sleeps here, in the runtime's paused time, which passes at once.
                    sleep(Duration::from_millis(passage.there_ms)).await;
                    late.decide(&batch);
                });
            }
            sleep(deadline).await;
            return Err(StoreError::Late { deadline });
        }
        sleep(Duration::from_millis(passage.there_ms)).await;
        let outcome = world.decide(batch);
        world.truth.lock().unwrap().returning -= returning;
        let left_ms = DEADLINE_MS - passage.there_ms;
        sleep(Duration::from_millis(passage.back_ms.min(left_ms))).await;
        if left_ms <= passage.back_ms { Err(StoreError::Late { deadline }) } else { Ok(outcome) }
    }

    fn is_healthy(&self) -> bool {
        true
    }

    fn sidecars(&self) -> u32 {
        0
    }
}

/// One request to a sidecar.
async fn request(cache: Arc<LocalCache<Distant>>) {
    let world = cache.store().0.clone();
    let batch = world.batch();
    // Their clocks are hours apart.
    let now = Now::Local(Timestamp::from_ms(START_MS + 10_000_000));
    match cache.answer(&batch, now) {
        Some(outcome) => world.answered(&batch, &outcome, true),
        None => {
            if let Ok(outcome) = cache.ask(&batch, Arrival::whole(now)).await {
                world.answered(&batch, &outcome, false);
            }
        }
    }
}

/// One sidecar that serves requests at changing rates, and with faults is killed from time to time.
async fn sidecar(world: Arc<World>) {
    let now = Now::Local(Timestamp::from_ms(START_MS));
    let mut cache = Arc::new(LocalCache::new(Distant(world.clone())));
    let mut requests = JoinSet::new();
    let (mut pause_ms, mut at_once, mut tended_ms) = (1, 1, 0);
    while world.store_ms() < START_MS + RUN_MS {
        let (changes, rests, crashes) =
            world.draw(|draw| (draw.one_in(100), draw.one_in(60), draw.one_in(600)));
        if changes {
            (pause_ms, at_once) = world.draw(|draw| (1 + draw.below(12), 1 + draw.below(6)));
        }
        if crashes && world.is_faulty {
            cache = Arc::new(LocalCache::new(Distant(world.clone())));
        }
        for _ in 0..at_once {
            requests.spawn(request(cache.clone()));
        }
        if tended_ms + TEND_MS <= world.store_ms() {
            tended_ms = world.store_ms();
            let cache = cache.clone();
            requests.spawn(async move { cache.maintain(now).await });
        }
        let rest_ms = match rests {
            false => pause_ms,
            true => {
                world.draw(|draw| if draw.one_in(10) { draw.below(1_500) } else { draw.below(150) })
            }
        };
        sleep(Duration::from_millis(rest_ms)).await;
        while let Some(ended) = requests.try_join_next() {
            ended.unwrap();
        }
    }
    cache.close(now).await;
    while let Some(ended) = requests.join_next().await {
        ended.unwrap();
    }
}

/// A run, and the requests that passed by leases and that were refused from the cache.
async fn run(seed: u64, is_faulty: bool) -> (usize, usize) {
    let world = World::new(seed, is_faulty);
    let mut sidecars = JoinSet::new();
    for _ in 0..SIDECARS {
        sidecars.spawn(sidecar(world.clone()));
    }
    while let Some(ended) = sidecars.join_next().await {
        ended.unwrap();
    }
    let truth = world.truth.lock().unwrap();
    let name = format!("seed {seed}");
    truth.check(&world.limits, world.is_faulty, &name);
    (truth.leased, truth.held)
}

#[tokio::test(start_paused = true)]
async fn with_any_fault_no_window_sees_more_than_its_limit() {
    let (mut leased, mut held) = (0, 0);
    for seed in 0..SEEDS {
        let (more_leased, more_held) = run(seed, true).await;
        (leased, held) = (leased + more_leased, held + more_held);
    }
    assert!(1_000 < leased && 1_000 < held, "{leased} by leases, {held} held");
}

#[tokio::test(start_paused = true)]
async fn no_request_is_refused_while_more_is_unspent_than_sidecars_may_hold() {
    for seed in 0..SEEDS {
        run(seed, false).await;
    }
}
