//! Reservations, gifts, bonuses and hits that are taken in part, in a race: several engines on one Redis, or on one Redis Cluster,
//! make the same requests at once, and each hit is held, settled, given or granted once.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::Barrier;
use tollgate::clock::{Clock, Timestamp};
use tollgate::engine::{Engine, Request};
use tollgate::store::{Gift, GiftState};

use super::race_answer::RaceAnswer;
use crate::support::batch::START_MS;
use crate::support::cluster::Cluster;
use crate::support::engine::{Bench, descriptor};
use crate::support::redis::Server;

const ENGINES: usize = 3;

/// Tasks of each engine.
const TASKS: usize = 6;

/// Operations of each kind.
const OPERATIONS: u64 = 60;

const AMOUNT: u64 = 400;
const BONUS: u64 = 700;

const POLICY: &str = "
domain: races
caller: { key: user }
idempotency: { key: request_id, for: 10m, retries: 100 }
answer: { metadata: always }
descriptors:
- key: user
  reservation: { key: id, action: act, ttl: 10m }
  limits: [{ name: tokens, rate: 400/total, partial: true, thresholds: [10%, 50%, 100%] }]";

const CALLERS: &str = "
callers:
  ann: { bonuses: [{ id: launch, limit: tokens, amount: 700, until: 2099-01-01 }] }
  bob: {}";

/// Three hits of the bonus that go to another caller.
async fn give(engine: &Engine, number: u64) {
    let gift = Gift {
        id: format!("gift-{number}"),
        from: "ann".to_owned(),
        to: "bob".to_owned(),
        limit: "tokens".to_owned(),
        hits: 3,
        bonus: "launch".to_owned(),
        until: Timestamp::MAX,
        domain: "races".to_owned(),
        entries: Vec::new(),
        at: Timestamp::from_ms(START_MS),
        state: GiftState::Pending,
    };
    // The directory is in files: the hits are taken, and nobody gets them.
    let _ = engine.carry_gift(gift).await;
}

/// Makes the same operations in every engine at once, each with its gift; returns their answers.
async fn race(
    benches: &[Bench],
    of_number: impl Fn(u64) -> Vec<(String, u64)>,
) -> Vec<(String, RaceAnswer)> {
    let start = Arc::new(Barrier::new(TASKS * benches.len()));
    let mut tasks = Vec::new();
    for bench in benches {
        for task in 0..TASKS as u64 {
            let (engine, start) = (bench.engine.clone(), start.clone());
            let own: Vec<(u64, Vec<(String, u64)>)> = (0..OPERATIONS)
                .filter(|number| number % TASKS as u64 == task)
                .map(|number| (number, of_number(number)))
                .collect();
            tasks.push(tokio::spawn(async move {
                start.wait().await;
                let mut all = Vec::new();
                for (number, asks) in own {
                    for (ask, hits) in asks {
                        all.push((ask.clone(), RaceAnswer::to(&engine, &ask, hits).await));
                    }
                    give(&engine, number).await;
                }
                all
            }));
        }
    }
    let mut all = Vec::new();
    for task in tasks {
        all.extend(task.await.unwrap());
    }
    all
}

async fn check(benches: &[Bench]) {
    for bench in benches {
        bench.put_in_force(POLICY).unwrap();
        bench.know(CALLERS).unwrap();
    }
    let of = |number: u64, action: &str| format!("user=ann,id={number},act={action}");
    let mut all = race(benches, |number| {
        vec![(of(number, "reserve"), 5), (format!("user=ann,request_id={number}"), 2)]
    })
    .await;
    all.extend(race(benches, |number| vec![(of(number, "settle"), number % 7)]).await);
    assert!(all.iter().all(|(_, told)| told.admitted), "there is enough for all");
    let mut charged: BTreeMap<&str, u64> = BTreeMap::new();
    for (ask, told) in all.iter().filter(|(_, told)| !told.is_retry) {
        *charged.entry(ask).or_default() += 1;
        let number: u64 = ask.split(['=', ',']).nth(3).unwrap().parse().unwrap();
        if ask.ends_with("settle") {
            assert_eq!(told.settled, number % 7, "{ask}");
        }
    }
    assert_eq!(charged.len() as u64, 3 * OPERATIONS, "each is made by one");
    assert!(charged.values().all(|times| *times == 1), "and by no other: {charged:?}");
    let settled: u64 = (0..OPERATIONS).map(|number| number % 7).sum();
    let spent = settled + 2 * OPERATIONS;
    let left = AMOUNT + BONUS - spent - 3 * OPERATIONS;
    let remaining = async || {
        let request = Request::try_new("races", vec![descriptor("user=ann", 0)]).unwrap();
        let snapshot = benches[0].engine.snapshot();
        let verdict = benches[0].engine.check(&snapshot, &request).await;
        (verdict.charges()[0].remaining(), verdict.held_of(0))
    };
    assert_eq!(remaining().await, (left, 0));

    // More than there is, in part: all of it is taken, no hit twice.
    let more =
        race(benches, |number| vec![(format!("user=ann,request_id=more-{number}"), 17)]).await;
    let granted = more.iter().filter(|(_, told)| told.admitted && !told.is_retry);
    assert_eq!(granted.map(|(_, told)| told.granted).sum::<u64>(), left);
    assert_eq!(remaining().await, (0, 0));
    let mut crossed: Vec<u64> =
        all.iter().chain(&more).flat_map(|(_, told)| told.crossed.clone()).collect();
    crossed.sort_unstable();
    assert_eq!(crossed, [10, 50, 100], "each is reported once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_is_held_settled_given_and_granted_counts_once() {
    let clock = Clock::manual(Timestamp::from_ms(START_MS));
    let Some(server) = Server::start(&[]) else { return };
    let _ = server.raw().await;
    let mut benches = Vec::new();
    for _ in 0..ENGINES {
        benches.push(Bench::on_redis(&server, &clock).await);
    }
    check(&benches).await;
    let Some(cluster) = Cluster::start(3, false).await else { return };
    let mut benches = Vec::new();
    for _ in 0..ENGINES {
        benches.push(Bench::on_cluster(&cluster, &clock).await);
    }
    check(&benches).await;
}
