//! What counts, is reported and is forgiven once stays so in a race: several engines on one Redis, or on one Redis Cluster, each
//! with connections of its own, and many tasks on each.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Barrier;
use tollgate::clock::{Clock, Timestamp};

use super::race_answer::RaceAnswer;
use crate::support::batch::START_MS;
use crate::support::cluster::Cluster;
use crate::support::engine::Bench;
use crate::support::redis::Server;

const ENGINES: usize = 4;

/// Requests of each caller, each of which is sent more than once.
const REQUESTS: usize = 150;

const CALLERS: [&str; 3] = ["ann", "bob", "cat"];

/// Engines on the same counters, with one clock.
struct Fleet {
    benches: Vec<Bench>,
    clock: Clock,
}

impl Fleet {
    fn new() -> Self {
        Self { benches: Vec::new(), clock: Clock::manual(Timestamp::from_ms(START_MS)) }
    }

    async fn on_redis(server: &Server, policy: &str) -> Self {
        let mut fleet = Self::new();
        for _ in 0..ENGINES {
            fleet.join(Bench::on_redis(server, &fleet.clock).await, policy);
        }
        fleet
    }

    async fn on_cluster(cluster: &Cluster, policy: &str) -> Self {
        let mut fleet = Self::new();
        for _ in 0..ENGINES {
            fleet.join(Bench::on_cluster(cluster, &fleet.clock).await, policy);
        }
        fleet
    }

    fn join(&mut self, bench: Bench, policy: &str) {
        bench.put_in_force(policy).unwrap();
        self.benches.push(bench);
    }

    /// Lets every engine make all of these requests at once, each task some of them; what each was answered.
    async fn race(&self, asks: &[String]) -> Vec<(String, RaceAnswer)> {
        const TASKS: usize = 8;
        let start = Arc::new(Barrier::new(TASKS * self.benches.len()));
        let mut tasks = Vec::new();
        for bench in &self.benches {
            for task in 0..TASKS {
                let (engine, start) = (bench.engine.clone(), start.clone());
                let own: Vec<String> = asks.iter().skip(task).step_by(TASKS).cloned().collect();
                tasks.push(tokio::spawn(async move {
                    start.wait().await;
                    let mut all = Vec::new();
                    for ask in own {
                        let reported = RaceAnswer::to(&engine, &ask, 1).await;
                        all.push((ask, reported));
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
}

const ONCE: &str = "
domain: races
caller: { key: user }
idempotency: { key: request_id, for: 10m, retries: 100 }
answer: { metadata: always }
descriptors:
- key: user
  limits:
  - { name: daily, rate: 100/day, algorithm: fixed_window, grace: { over: 10%, for: 1h }, thresholds: [1%, 50%, 80%, 99%, 100%, 105%, 110%] }";

/// All engines send the same requests of all callers, whose ids are the same, at the same time.
async fn check_once(fleet: &Fleet) {
    let ask = |number: usize| CALLERS.map(|user| format!("user={user},request_id={number}"));
    let asks: Vec<String> = (0..REQUESTS).flat_map(ask).collect();
    let all = fleet.race(&asks).await;
    for user in CALLERS {
        let of_user = || all.iter().filter(|(ask, _)| ask.starts_with(&format!("user={user},")));
        let charged = of_user().filter(|(_, reported)| reported.admitted && !reported.is_retry);
        let mut charged: Vec<&str> = charged.map(|(ask, _)| ask.as_str()).collect();
        assert_eq!(charged.len(), 110, "{user} has the limit and its grace");
        charged.sort_unstable();
        charged.dedup();
        assert_eq!(charged.len(), 110, "no request of {user} is charged twice");
        for (ask, reported) in of_user().filter(|(_, reported)| reported.is_retry) {
            assert!(reported.admitted && charged.contains(&ask.as_str()), "{ask}");
        }
        let mut crossed: Vec<u64> =
            of_user().flat_map(|(_, reported)| reported.crossed.clone()).collect();
        crossed.sort_unstable();
        assert_eq!(crossed, [1, 50, 80, 99, 100, 105, 110], "each is reported once to {user}");
        let graces = of_user().filter_map(|(_, reported)| reported.grace_until_ms);
        let mut graces: Vec<u64> = graces.collect();
        graces.dedup();
        assert_eq!(graces, [START_MS + 3_600_000], "{user} has one grace");
    }
    // Nothing is left once it has ended, and what has passed still passes.
    fleet.clock.advance(Duration::from_secs(3_600));
    let all = fleet.race(&["user=ann,request_id=new".to_owned()]).await;
    assert!(all.iter().all(|(_, reported)| !reported.admitted && reported.crossed.is_empty()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_hit_counts_once_and_every_threshold_is_reported_once() {
    let Some(server) = Server::start(&[]) else { return };
    let _ = server.raw().await;
    check_once(&Fleet::on_redis(&server, ONCE).await).await;
    let Some(cluster) = Cluster::start(3, false).await else { return };
    check_once(&Fleet::on_cluster(&cluster, ONCE).await).await;
}

/// 200 from 15:15 on, and 600 from 15:30 on.
const EDGES: &str = "
domain: races
caller: { key: user }
answer: { metadata: always }
descriptors:
- key: user
  limits:
  - name: ever
    rate: 400/total
    thresholds: [25%, 50%, 75%, 100%]
    when: [{ hours: '15:15-15:30', scale: 50% }, { hours: '15:30-15:45', scale: 150% }]";

/// While tasks ask, the clock passes an edge.
async fn check_edge(fleet: &Fleet) {
    let ask = |_| CALLERS.map(|user| format!("user={user}"));
    let asks: Vec<String> = (0..100).flat_map(ask).collect();
    // From 15:06:40 to 15:29:59.
    fleet.clock.advance(Duration::from_secs(1_399));
    let past_edge = async || fleet.clock.advance(Duration::from_secs(2));
    let (mut all, ()) = tokio::join!(fleet.race(&asks), past_edge());
    all.extend(fleet.race(&asks).await);
    for user in asks.iter().take(CALLERS.len()) {
        let of_user = || all.iter().filter(|(ask, _)| ask == user);
        assert_eq!(of_user().filter(|(_, reported)| reported.admitted).count(), 600, "{user}");
        let mut crossed: Vec<u64> =
            of_user().flat_map(|(_, reported)| reported.crossed.clone()).collect();
        crossed.sort_unstable();
        assert_eq!(crossed, [25, 50, 75, 100], "each is reported once to {user}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_edge_of_a_schedule_loses_no_hit_and_repeats_no_threshold() {
    let Some(server) = Server::start(&[]) else { return };
    let _ = server.raw().await;
    check_edge(&Fleet::on_redis(&server, EDGES).await).await;
    let Some(cluster) = Cluster::start(3, false).await else { return };
    check_edge(&Fleet::on_cluster(&cluster, EDGES).await).await;
}
