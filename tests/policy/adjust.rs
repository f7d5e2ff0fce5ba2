//! Limits that follow signals, on both stores, and on several sidecars of one Redis.

use std::time::Duration;

use tollgate::clock::{Clock, Timestamp};
use tollgate::engine::{Code, Request};

use crate::support::engine::{Bench, descriptor};
use crate::support::redis::Server;

const POLICY: &str = "
domain: d
caller: { key: user }
descriptors:
- key: provider
  value: hotelbeds
  limits:
  - name: search
    rate: 100/minute
    adjust: { signal: errors, above: 5%, below: 2%, least: 20%, step: 20%, every: 10s, stale_after: 1m }
- key: user
  limits:
  - name: hourly
    rate: 10/hour
    adjust: { utilization: { provider: hotelbeds }, above: 60%, below: 30%, least: 50%, step: 25%, every: 10s }
";

const START: Timestamp = Timestamp::from_ms(1_700_000_000_000);

/// Sidecars that share a store.
struct Sidecars {
    benches: Vec<Bench>,
    clock: Clock,
}

impl Sidecars {
    /// One in memory, and three on one Redis, with the policy in force.
    async fn on_every_store() -> (Vec<Self>, Option<Server>) {
        let clock = Clock::manual(START);
        let server = Server::start(&[]);
        let mut all = vec![Self { benches: vec![Bench::in_memory(&clock)], clock: clock.clone() }];
        if let Some(server) = &server {
            let mut benches = Vec::new();
            for _ in 0..3 {
                benches.push(Bench::on_redis(server, &clock).await);
            }
            all.push(Self { benches, clock });
        }
        for bench in all.iter().flat_map(|sidecars| &sidecars.benches) {
            bench.put_in_force(POLICY).unwrap();
        }
        (all, server)
    }

    /// Has all of them follow the signals.
    async fn adjust(&self) {
        for bench in &self.benches {
            bench.engine.adjust().await;
        }
    }

    /// The percentage of a limit that is in force, on each.
    fn percents(&self, label: &str) -> Vec<u32> {
        let percent = |bench: &Bench| {
            let limits = bench.engine.adjusted_limits();
            let limit = limits.iter().find(|limit| &*limit.label == label).unwrap();
            limit.adjust.scale().hundredths() / 100
        };
        self.benches.iter().map(percent).collect()
    }

    /// What the sidecar of that number answers to a request.
    async fn ask(&self, number: usize, entries: &str, hits: u64) -> Code {
        let bench = &self.benches[number % self.benches.len()];
        let request = Request::try_new("d", vec![descriptor(entries, hits)]).unwrap();
        let snapshot = bench.engine.snapshot();
        bench.engine.check(&snapshot, &request).await.code()
    }

    async fn signal(&self, number: usize, value: f64) {
        let bench = &self.benches[number % self.benches.len()];
        bench.engine.note_signal("errors", value).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_sidecars_follow_a_signal_that_one_was_told() {
    let (all, _server) = Sidecars::on_every_store().await;
    for sidecars in &all {
        sidecars.adjust().await;
        assert!(sidecars.percents("search").iter().all(|percent| *percent == 100));
        sidecars.signal(1, 0.2).await;
        sidecars.adjust().await;
        assert_eq!(sidecars.ask(0, "provider=hotelbeds", 0).await, Code::Ok);
    }
    all[0].clock.advance(Duration::from_secs(20));
    for sidecars in &all {
        sidecars.adjust().await;
        assert!(sidecars.percents("search").iter().all(|percent| *percent == 60));
        assert_eq!(sidecars.ask(2, "provider=hotelbeds", 61).await, Code::OverLimit);
        assert_eq!(sidecars.ask(0, "provider=hotelbeds", 60).await, Code::Ok);
        assert_eq!(sidecars.ask(1, "provider=hotelbeds", 1).await, Code::OverLimit);
        // An edit of the policy keeps it.
        for bench in &sidecars.benches {
            bench.put_in_force(&format!("{POLICY}\n- {{ key: other, limits: [1/day] }}")).unwrap();
        }
        assert!(sidecars.percents("search").iter().all(|percent| *percent == 60));
        sidecars.signal(2, 0.0).await;
        sidecars.adjust().await;
    }
    all[0].clock.advance(Duration::from_secs(10));
    for sidecars in &all {
        sidecars.adjust().await;
        assert!(sidecars.percents("search").iter().all(|percent| *percent == 80));
        assert_eq!(sidecars.ask(1, "provider=hotelbeds", 20).await, Code::Ok);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_follows_the_utilization_of_another_one() {
    let (all, _server) = Sidecars::on_every_store().await;
    for sidecars in &all {
        assert_eq!(sidecars.ask(0, "provider=hotelbeds", 70).await, Code::Ok);
        sidecars.adjust().await;
    }
    for _ in 0..30 {
        all[0].clock.advance(Duration::from_secs(1));
        for sidecars in &all {
            sidecars.adjust().await;
        }
    }
    for sidecars in &all {
        assert!(sidecars.percents("hourly").iter().all(|percent| *percent == 50));
        assert_eq!(sidecars.ask(1, "user=ann", 6).await, Code::OverLimit);
        assert_eq!(sidecars.ask(2, "user=ann", 5).await, Code::Ok);
    }
    // What was spent has left the minute.
    for _ in 0..60 {
        all[0].clock.advance(Duration::from_secs(1));
        for sidecars in &all {
            sidecars.adjust().await;
        }
    }
    for sidecars in &all {
        assert!(sidecars.percents("hourly").iter().all(|percent| *percent == 100));
        assert_eq!(sidecars.ask(0, "user=ann", 5).await, Code::Ok);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signal_that_ends_lets_the_limit_return_also_while_the_store_is_out() {
    let (all, server) = Sidecars::on_every_store().await;
    for sidecars in &all {
        sidecars.signal(0, 0.5).await;
        sidecars.adjust().await;
    }
    all[0].clock.advance(Duration::from_secs(59));
    for sidecars in &all {
        sidecars.adjust().await;
        assert!(sidecars.percents("search").iter().all(|percent| *percent == 20));
    }
    drop(server);
    for (seconds, expected) in [(1, 20), (10, 40), (20, 80), (10, 100), (1_000, 100)] {
        all[0].clock.advance(Duration::from_secs(seconds));
        for sidecars in &all {
            sidecars.adjust().await;
            let percents = sidecars.percents("search");
            assert!(percents.iter().all(|percent| *percent == expected), "{percents:?} {expected}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn signals_that_make_no_sense_are_refused() {
    let (all, _server) = Sidecars::on_every_store().await;
    for sidecars in &all {
        let engine = &sidecars.benches[0].engine;
        for value in [-1.0, f64::NAN, f64::INFINITY, 2e15] {
            assert!(engine.note_signal("errors", value).await.is_err(), "{value}");
        }
        assert!(engine.note_signal("error", 0.5).await.is_err());
        assert_eq!(engine.signals().into_iter().collect::<Vec<_>>(), [("errors".to_owned(), None)]);
    }
}

/// Told and looked at in any order, sidecars never leave the bounds, and agree once they have looked at the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sidecars_agree_within_bounds_whoever_is_told_and_looks() {
    let (all, _server) = Sidecars::on_every_store().await;
    let mut random = 17_u64;
    let mut draw = |below: usize| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        usize::try_from(random >> 33).unwrap() % below
    };
    for _ in 0..60 {
        all[0].clock.advance(Duration::from_millis(u64::try_from(draw(15_000)).unwrap()));
        let (teller, value) = (draw(3), [0.0, 0.03, 0.2][draw(3)]);
        let (tells, lookers) = (draw(2) == 0, [draw(3), draw(3)]);
        for sidecars in &all {
            if tells {
                sidecars.signal(teller, value).await;
            }
            for number in lookers {
                let number = number % sidecars.benches.len();
                sidecars.benches[number].engine.adjust().await;
            }
            let percents = sidecars.percents("search");
            assert!(percents.iter().all(|percent| (20..=100).contains(percent)), "{percents:?}");
        }
        let mut ends = Vec::new();
        for sidecars in &all {
            sidecars.adjust().await;
            let percents = sidecars.percents("search");
            assert!(percents.iter().all(|percent| *percent == percents[0]), "{percents:?}");
            ends.push(percents[0]);
        }
        assert!(ends.iter().all(|percent| *percent == ends[0]), "both stores: {ends:?}");
    }
}
