//! Rust and Lua agree: the embedded store and Redis answer the same to the same history.

use std::sync::Arc;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::Config;
use proptest::test_runner::RngSeed;
use proptest::test_runner::TestRunner;
use tollgate::clock::Now;
use tollgate::clock::Timestamp;
use tollgate::limit::CalendarUnit;
use tollgate::limit::Hits;
use tollgate::limit::Limit;
use tollgate::policy::Mode;
use tollgate::store::Batch;
use tollgate::store::Charge;
use tollgate::store::Open;
use tollgate::store::Store;
use tollgate::store::memory::Memory;

use crate::support::batch::START_MS;
use crate::support::batch::bucket;
use crate::support::batch::calendar;
use crate::support::batch::fixed;
use crate::support::batch::key;
use crate::support::batch::sliding;
use crate::support::batch::total;
use crate::support::redis::Connected;
use crate::support::redis::Server;

const HISTORIES: usize = 200;
const REQUESTS: usize = 60;
const LIMITS: usize = 6;
const KEYS: usize = 3;

/// A request of a history: milliseconds since the one before, and its charges: key, group step, mode,
/// limit, hits.
type Request = (i64, Vec<(usize, bool, Mode, usize, Hits)>);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_stores_answer_the_same_to_any_history() {
    let steps = prop_oneof![
        4 => 0_i64..3,
        4 => 0_i64..2_000,
        2 => 0_i64..200_000,
        1 => 0_i64..100_000_000_000,
    ];
    replay("forward", &limit().boxed(), &steps.boxed()).await;
}

/// What has expired at one time may be forgotten at once or later, which a clock that goes back would
/// show; so here nothing expires.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_stores_answer_the_same_when_the_clock_goes_back() {
    let lasting = prop_oneof![
        amount().prop_map(|amount| sliding(amount, 10_000_000)),
        (10_000_u64..20_000).prop_map(|amount| bucket(amount, 1_000_000_000, amount)),
        amount().prop_map(total),
    ];
    replay("back and forth", &lasting.boxed(), &(-2_000_i64..2_100).boxed()).await;
}

async fn replay(name: &str, limit: &BoxedStrategy<Arc<Limit>>, steps: &BoxedStrategy<i64>) {
    let Some(server) = Server::start(&[]) else {
        return;
    };
    let _ = server.raw().await;
    let redis = Connected::open(&server.url()).await;
    let seed = seed_of_run();
    println!("{name}: TOLLGATE_TEST_SEED={seed}");
    let mut runner =
        TestRunner::new(Config { rng_seed: RngSeed::Fixed(seed), ..Config::default() });
    let limits = prop::collection::vec(limit.clone(), LIMITS);
    let history = prop::collection::vec((steps.clone(), charges()), REQUESTS);
    for round in 0..HISTORIES {
        let limits = limits.new_tree(&mut runner).unwrap().current();
        let history = history.new_tree(&mut runner).unwrap().current();
        run(&redis, &format!("{name} {round}"), limits, history).await;
    }
}

async fn run(redis: &Connected, name: &str, limits: Vec<Arc<Limit>>, history: Vec<Request>) {
    let limits = one_rate_a_bucket(&limits);
    let memory = Memory::new(1_000);
    let mut now_ms = START_MS;
    for (index, (step, charges)) in history.into_iter().enumerate() {
        now_ms = now_ms.saturating_add_signed(step);
        let now = Now::Given(Timestamp::from_ms(now_ms));
        let batch = batch(name, &limits, charges);
        let expected = memory.charge_at(&batch, now.timestamp());
        let outcome = redis.store.charge(&batch, now).await.unwrap();
        assert_eq!(outcome, expected, "{name}, request {index} at {now_ms}: {batch:#?}");
    }
}

/// A bucket that a faster rate finds full is forgotten at once or later, which a slower rate on the same
/// state would show; so here all buckets of one tag are the same. Other limits may differ in amount.
fn one_rate_a_bucket(limits: &[Arc<Limit>]) -> Vec<Arc<Limit>> {
    let first_of = |limit: &Arc<Limit>| {
        limits.iter().find(|first| first.tag().starts_with('b') && first.tag() == limit.tag())
    };
    limits.iter().map(|limit| Arc::clone(first_of(limit).unwrap_or(limit))).collect()
}

/// No two charges of a batch share key and tag, as the store's contract says.
fn batch(
    name: &str,
    limits: &[Arc<Limit>],
    charges: Vec<(usize, bool, Mode, usize, Hits)>,
) -> Batch {
    let mut batch = Batch::default();
    let (mut group, mut group_mode) = (0, None);
    for (key_number, new_group, mode, limit, hits) in charges {
        let key_index = batch.key_index(key(&format!("{name}:{key_number}")));
        let limit = limits[limit].clone();
        let taken =
            |charge: &Charge| charge.key_index == key_index && charge.limit.tag() == limit.tag();
        if batch.charges.iter().any(taken) {
            continue;
        }
        if new_group || group_mode.is_none() {
            group += 1;
            group_mode = Some(mode);
        }
        let mode = group_mode.unwrap_or_default();
        batch.charges.push(Charge {
            key_index,
            group,
            mode,
            limit,
            hits,
            open: Open::all(),
            bonuses: Vec::new(),
        });
    }
    batch
}

fn charges() -> impl Strategy<Value = Vec<(usize, bool, Mode, usize, Hits)>> {
    let mode =
        prop_oneof![4 => Just(Mode::Enforce), 1 => Just(Mode::Quota), 1 => Just(Mode::Shadow)];
    let charge = (0..KEYS, any::<bool>(), mode, 0..LIMITS, hits());
    prop::collection::vec(charge, 1..5)
}

fn hits() -> impl Strategy<Value = Hits> {
    prop_oneof![
        12 => (0_u64..4).prop_map(Hits::Spend),
        4 => (0_u64..200).prop_map(Hits::Spend),
        1 => any::<u64>().prop_map(Hits::Spend),
        3 => (0_u64..50).prop_map(Hits::GiveBack),
        1 => any::<u64>().prop_map(Hits::GiveBack),
    ]
}

fn amount() -> impl Strategy<Value = u64> {
    prop_oneof![0_u64..5, 1_u64..70, 62_u64..1_000, Just(tollgate::limit::AMOUNT_MAX)]
}

fn window_ms() -> impl Strategy<Value = u64> {
    prop_oneof![1_u64..50, Just(1_000), Just(60_000), 1_u64..100_000_000]
}

fn limit() -> impl Strategy<Value = Arc<Limit>> {
    let unit = prop::sample::select(vec![
        CalendarUnit::Minute,
        CalendarUnit::Hour,
        CalendarUnit::Day,
        CalendarUnit::Week,
        CalendarUnit::Month,
        CalendarUnit::Year,
    ]);
    let zone =
        prop::sample::select(vec!["UTC", "Europe/Madrid", "Asia/Kolkata", "America/St_Johns"]);
    prop_oneof![
        (amount(), window_ms()).prop_map(|(amount, window_ms)| sliding(amount, window_ms)),
        (amount(), window_ms()).prop_map(|(amount, window_ms)| fixed(amount, window_ms)),
        (1_u64..1_000, window_ms(), 0_u64..1_000)
            .prop_map(|(amount, window_ms, burst)| bucket(amount, window_ms, burst)),
        (amount(), unit, zone).prop_map(|(amount, unit, zone)| calendar(amount, unit, zone)),
        amount().prop_map(total),
    ]
}

/// The seed that `TOLLGATE_TEST_SEED` says, or a new one.
fn seed_of_run() -> u64 {
    use std::hash::BuildHasher;
    let given = std::env::var("TOLLGATE_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
    given.unwrap_or_else(|| std::hash::RandomState::new().hash_one("seed"))
}
