//! Shared limits are never exceeded by concurrent requests: several engines on one Redis, each with its own connection,
//! and many tasks on each. Counts are exact, not only below a limit.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::Barrier;
use tollgate::answer::{Answer, render};
use tollgate::clock::Clock;
use tollgate::engine::{Code, Engine, Request};

use crate::support::engine::{Bench, descriptor};
use crate::support::redis::Server;

const ENGINES: usize = 8;

/// Number of tasks on each engine.
const TASKS: usize = 25;

/// The hits of a task's requests: fewer after each refusal, until it stops. So the remaining hits at the end are fewer
/// than the last value.
const HITS: [u64; 3] = [3, 2, 1];

/// Engines on one Redis.
struct Fleet {
    _server: Server,
    benches: Vec<Bench>,
}

/// A request of a task, as the texts of its descriptors, and its answer.
struct Answered {
    ask: &'static [&'static str],
    hits: u64,
    answer: Answer,
}

impl Fleet {
    /// None without Redis.
    async fn launch(policy: &str, callers: &str) -> Option<Self> {
        let server = Server::start(&[])?;
        let _ = server.raw().await;
        let mut benches = Vec::new();
        for _ in 0..ENGINES {
            let bench = Bench::on_redis(&server, &Clock::system()).await;
            bench.put_in_force(policy).unwrap();
            bench.know(callers).unwrap();
            benches.push(bench);
        }
        Some(Self { _server: server, benches })
    }

    /// Runs many tasks, each of which sends `asks` in turn until they are refused; returns the admitted requests.
    async fn drain(&self, asks: &[&'static [&'static str]]) -> Vec<Answered> {
        let start = Arc::new(Barrier::new(ENGINES * TASKS));
        let mut tasks = Vec::new();
        for task in 0..ENGINES * TASKS {
            let engine = self.benches[task % ENGINES].engine.clone();
            let (ask, start) = (asks[task / ENGINES % asks.len()], start.clone());
            tasks.push(tokio::spawn(async move {
                start.wait().await;
                ask_until_refused(&engine, ask).await
            }));
        }
        let mut admitted = Vec::new();
        for task in tasks {
            admitted.extend(task.await.unwrap());
        }
        admitted
    }

    /// The remaining hits of the limits of each descriptor.
    async fn remaining(&self, ask: &[&str]) -> Vec<u32> {
        let answer = check(&self.benches[0].engine, ask, 0).await;
        answer.statuses.iter().map(|status| status.remaining).collect()
    }
}

async fn check(engine: &Engine, ask: &[&str], hits: u64) -> Answer {
    let descriptors = ask.iter().map(|text| descriptor(text, hits)).collect();
    let request = Request::try_new("races", descriptors).unwrap();
    let snapshot = engine.snapshot();
    let verdict = engine.check(&snapshot, &request).await;
    assert!(!verdict.fallback, "the store decides");
    render(&verdict)
}

async fn ask_until_refused(engine: &Engine, ask: &'static [&'static str]) -> Vec<Answered> {
    let mut admitted = Vec::new();
    for hits in HITS {
        loop {
            let answer = check(engine, ask, hits).await;
            if answer.code == Code::OverLimit {
                break;
            }
            admitted.push(Answered { ask, hits, answer });
        }
    }
    admitted
}

/// The hits of requests with this first descriptor; of all for an empty text.
fn hits_of(admitted: &[Answered], first: &str) -> u64 {
    let those = admitted.iter().filter(|one| first.is_empty() || one.ask[0] == first);
    those.map(|one| one.hits).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_reserve_stays_for_those_it_is_for() {
    let policy = "
domain: races
tiers: [free, premium, enterprise]
caller: { key: user, tier: { key: tier } }
descriptors:
- key: provider
  limits: [400/day]
  capacity: { reserve: { premium: 15%, enterprise: 10% } }";
    let Some(fleet) = Fleet::launch(policy, "callers: {}").await else { return };
    const FREE: &[&str] = &["provider=a,tier=free"];
    const PREMIUM: &[&str] = &["provider=a,tier=premium"];
    const ENTERPRISE: &[&str] = &["provider=a,tier=enterprise"];
    let admitted = fleet.drain(&[FREE]).await;
    assert_eq!(hits_of(&admitted, ""), 300);
    let admitted = fleet.drain(&[FREE, PREMIUM]).await;
    assert_eq!((hits_of(&admitted, FREE[0]), hits_of(&admitted, PREMIUM[0])), (0, 60));
    let admitted = fleet.drain(&[FREE, PREMIUM, ENTERPRISE]).await;
    assert_eq!((hits_of(&admitted, ENTERPRISE[0]), hits_of(&admitted, "")), (40, 40));

    // All from the beginning: whoever comes first, no tier passes where it ends.
    const MIXED: [&[&str]; 3] =
        [&["provider=b,tier=free"], &["provider=b,tier=premium"], &["provider=b,tier=enterprise"]];
    let admitted = fleet.drain(&MIXED).await;
    assert_eq!(hits_of(&admitted, ""), 400);
    assert!(hits_of(&admitted, MIXED[0][0]) <= 300);
    assert!(hits_of(&admitted, MIXED[0][0]) + hits_of(&admitted, MIXED[1][0]) <= 360);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn bonuses_are_spent_to_the_last_hit_and_not_beyond() {
    let policy = "
domain: races
caller: { key: user }
descriptors:
- { key: user, limits: [{ name: daily, rate: 100/day }, { name: ever, rate: 150/total }] }";
    let callers = "
callers:
  ann:
    bonuses:
    - { limit: daily, amount: 37, until: 2200-01-01 }
    - { limit: daily, amount: 21, until: 2201-01-01 }
    - { limit: ever, amount: 8, until: 2200-01-01 }";
    let Some(fleet) = Fleet::launch(policy, callers).await else { return };
    let admitted = fleet.drain(&[&["user=ann"], &["user=bob"]]).await;
    assert_eq!((hits_of(&admitted, "user=ann"), hits_of(&admitted, "user=bob")), (158, 100));
    assert_eq!(fleet.remaining(&["user=ann"]).await, [0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_pool_and_its_ceilings_are_spent_exactly() {
    let policy = "
domain: races
caller: { key: user }
descriptors: [{ key: user, limits: [{ name: daily, rate: 10/day }] }]";
    let callers = "
callers:
  team: { overrides: { daily: 200 } }
  ann: { parent: team, pool: true, share: 20% }
  bob: { parent: team, pool: true, overrides: { daily: 60 } }
  cat: { parent: team, pool: true }
  dan: { parent: cat, pool: true, bonuses: [{ limit: daily, amount: 9, until: 2200-01-01 }] }";
    let Some(fleet) = Fleet::launch(policy, callers).await else { return };
    let admitted = fleet.drain(&[&["user=ann"], &["user=bob"]]).await;
    assert_eq!((hits_of(&admitted, "user=ann"), hits_of(&admitted, "user=bob")), (40, 60));
    let admitted =
        fleet.drain(&[&["user=ann"], &["user=bob"], &["user=cat"], &["user=team"]]).await;
    assert_eq!((hits_of(&admitted, "user=ann"), hits_of(&admitted, "user=bob")), (0, 0));
    assert_eq!(hits_of(&admitted, ""), 100);
    // What is one's own beyond the pool, nobody else spends.
    let admitted = fleet.drain(&[&["user=cat"], &["user=dan"], &["user=team"]]).await;
    assert_eq!((hits_of(&admitted, "user=dan"), hits_of(&admitted, "")), (9, 9));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_caller_restricted_by_pressure_passes_above_it() {
    let policy = "
domain: races
tiers: [free, enterprise]
caller: { key: user, tier: { key: tier } }
descriptors:
- key: provider
  limits: [500/day]
  capacity: { pressure: [{ above: 60%, only: { tier: [enterprise] } }] }";
    let Some(fleet) = Fleet::launch(policy, "callers: {}").await else { return };
    const FREE: &[&str] = &["provider=a,tier=free"];
    const ENTERPRISE: &[&str] = &["provider=a,tier=enterprise"];
    let admitted = fleet.drain(&[FREE, ENTERPRISE]).await;
    assert_eq!(hits_of(&admitted, ""), 500);
    for one in admitted.iter().filter(|one| one.ask == FREE) {
        // It found at most 60 % in use.
        let used = 500 - u64::from(one.answer.statuses[0].remaining);
        assert!(used - one.hits <= 300, "{} hits went in at {used}", one.hits);
    }

    // With nobody else, the one that crosses the line is the last.
    const ALONE: &[&str] = &["provider=b,tier=free"];
    let admitted = fleet.drain(&[ALONE]).await;
    let most = 300 + HITS.iter().max().unwrap();
    assert!((301..=most).contains(&hits_of(&admitted, "")), "{}", hits_of(&admitted, ""));
    let admitted = fleet.drain(&[ALONE, &["provider=b,tier=enterprise"]]).await;
    assert_eq!(hits_of(&admitted, ALONE[0]), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_request_spends_both_its_counters_or_none() {
    let policy = "
domain: races
caller: { key: user }
descriptors:
- { key: user, limits: [60/day] }
- { key: provider, value: small, limits: [100/day, 400/week] }
- { key: provider, value: large, limits: [1000/day] }";
    let Some(fleet) = Fleet::launch(policy, "callers: {}").await else { return };
    const SMALL: [&[&str]; 3] = [
        &["user=ann", "provider=small"],
        &["provider=small", "user=bob"],
        &["user=cat", "provider=small"],
    ];
    let admitted = fleet.drain(&SMALL).await;
    let ann = hits_of(&admitted, "user=ann");
    let bob = hits_of(&admitted, "provider=small");
    let cat = hits_of(&admitted, "user=cat");
    assert_eq!(ann + bob + cat, 100);
    for (user, spent) in [("user=ann", ann), ("user=bob", bob), ("user=cat", cat)] {
        let left = fleet.remaining(&[user, "provider=small"]).await;
        assert_eq!(left, [u32::try_from(60 - spent).unwrap(), 0], "a refusal costs nothing");
    }
    const LARGE: [&[&str]; 3] = [
        &["user=ann", "provider=large"],
        &["user=bob", "provider=large"],
        &["user=cat", "provider=large"],
    ];
    let admitted = fleet.drain(&LARGE).await;
    let spent: BTreeMap<&str, u64> =
        LARGE.iter().map(|ask| (ask[0], hits_of(&admitted, ask[0]))).collect();
    let left = [("user=ann", 60 - ann), ("user=bob", 60 - bob), ("user=cat", 60 - cat)];
    assert_eq!(spent, BTreeMap::from(left));
    assert_eq!(fleet.remaining(&["provider=large"]).await, [1_000 - 80]);
}
