//! The contract of every store for limits with a schedule.

use std::sync::Arc;

use tollgate::clock::{Clock, Now, Timestamp};
use tollgate::engine::{Code, Request};
use tollgate::limit::Hits::{GiveBack, Spend};
use tollgate::limit::{Algorithm, CalendarUnit, DateRange, Fit, Limit, Overdraft};
use tollgate::store::{Batch, Store};

use crate::support::batch::{
    after, bucket, calendar, fixed, on_schedule, one, one_of_each, opened, overdrawn, sliding,
    total, with_bonuses,
};
use crate::support::claims::{charge, exact_wait, of_every_store, passes, remaining};
use crate::support::engine::{Bench, descriptor};
use crate::support::redis::{Connected, Server};

/// Milliseconds after the tests' beginning at which the minutes 15:07 and 15:08 begin.
const EDGE_MS: u64 = 19_877;
const END_MS: u64 = EDGE_MS + 60_000;

/// From 15:07 to 15:08.
const MINUTE: (u16, u16) = (907, 908);

of_every_store! {
    the_amount_changes_to_the_millisecond
    what_is_in_use_stays_in_use_when_the_amount_changes
    a_promised_wait_sees_an_amount_that_rises
    a_promised_wait_sees_an_amount_that_falls
    more_than_the_amount_fits_when_the_schedule_has_it
    a_bucket_refills_at_the_rate_of_each_time
    a_refusal_tells_what_a_bucket_owes_after_the_rates_of_each_time
    a_bucket_that_owes_is_not_forgotten_while_it_refills_slowly
    a_wait_sees_edges_bonuses_and_what_is_open
    hits_come_back_across_an_edge
    overdraft_is_paid_across_edges
    no_window_after_an_edge_sees_more_than_the_lowered_amount
}

/// A percentage of a limit in the minute from 15:07.
fn scaled(limit: &Limit, percent: u32) -> Arc<Limit> {
    on_schedule(limit, &[(MINUTE, percent)])
}

async fn the_amount_changes_to_the_millisecond(store: Arc<impl Store>) {
    for limit in one_of_each(100) {
        let limit = scaled(&limit, 75);
        let name = limit.tag();
        let expected =
            [(0, 100), (EDGE_MS - 1, 100), (EDGE_MS, 75), (END_MS - 1, 75), (END_MS, 100)];
        for (ms, left) in expected {
            assert_eq!(remaining(&*store, name, &limit, ms).await, left, "{limit} at {ms}");
        }
    }
}

async fn what_is_in_use_stays_in_use_when_the_amount_changes(store: Arc<impl Store>) {
    let hour = 3_600_000;
    let limits =
        [sliding(100, hour), fixed(100, hour), calendar(100, CalendarUnit::Day, "UTC"), total(100)];
    for limit in limits {
        let limit = scaled(&limit, 75);
        let name = limit.tag();
        assert!(passes(&*store, &one(name, &limit, Spend(70)), 0).await, "{limit}");
        assert_eq!(remaining(&*store, name, &limit, EDGE_MS).await, 5, "{limit}");
        assert!(passes(&*store, &one(name, &limit, Spend(5)), EDGE_MS).await, "{limit}");
        assert!(!passes(&*store, &one(name, &limit, Spend(1)), END_MS - 1).await, "{limit}");
        assert_eq!(remaining(&*store, name, &limit, END_MS).await, 25, "{limit}");
        // More may be in use than the current amount.
        assert!(passes(&*store, &one(name, &limit, Spend(25)), END_MS).await, "{limit}");
        let next_day_ms = 24 * 3_600_000 + EDGE_MS;
        let left = match limit.algorithm() {
            Algorithm::Total => 0,
            _ => 75,
        };
        assert_eq!(remaining(&*store, name, &limit, next_day_ms).await, left, "{limit}");
    }
}

async fn a_promised_wait_sees_an_amount_that_rises(store: Arc<impl Store>) {
    for limit in one_of_each(10) {
        // All of it comes back in more than the time to the edge.
        let limit = match limit.algorithm() {
            Algorithm::Sliding(sliding) if sliding.window_ms() < EDGE_MS => continue,
            Algorithm::Bucket(_) => bucket(10, 600_000, 10),
            _ => limit,
        };
        let limit = scaled(&limit, 200);
        let name = limit.tag();
        assert!(passes(&*store, &one(name, &limit, Spend(10)), 5).await, "{limit}");
        let wait_ms = exact_wait(&*store, &one(name, &limit, Spend(3)), 10).await;
        assert_eq!(wait_ms, EDGE_MS - 10, "{limit}");
    }
}

async fn a_promised_wait_sees_an_amount_that_falls(store: Arc<impl Store>) {
    for limit in one_of_each(10) {
        let limit = scaled(&limit, 50);
        let name = limit.tag();
        assert!(passes(&*store, &one(name, &limit, Spend(10)), EDGE_MS - 500).await, "{limit}");
        let ask = one(name, &limit, Spend(4));
        // Bits of a bucket come back before the edge, but too few; after it the burst is smaller.
        let wait_ms = match limit.algorithm() {
            Algorithm::Total => {
                let outcome = charge(&*store, &ask, after(EDGE_MS - 400)).await;
                assert_eq!(outcome.decisions[0].fit, Fit::Never, "{limit}");
                continue;
            }
            _ => exact_wait(&*store, &ask, EDGE_MS - 400).await,
        };
        let expected = match limit.algorithm() {
            Algorithm::Sliding(sliding) => sliding.window_ms() - 100,
            // The window ends with the minute; the hour with the end of the schedule, when 10 are in use of 10.
            Algorithm::Fixed(_) => 400,
            Algorithm::Calendar(_) => 53 * 60_000 + 400,
            // 10 - 0.083 are owed at the edge, of which 5 - 4 may be: 8.917 at one in twelve seconds are too slow. At
            // the end of the schedule 4.917 are owed.
            Algorithm::Bucket(_) => 60_400,
            Algorithm::Total => 0,
        };
        assert_eq!(wait_ms, expected, "{limit}");
    }
}

async fn more_than_the_amount_fits_when_the_schedule_has_it(store: Arc<impl Store>) {
    for limit in one_of_each(10) {
        let limit = scaled(&limit, 150);
        let name = limit.tag();
        assert_eq!(exact_wait(&*store, &one(name, &limit, Spend(15)), 0).await, EDGE_MS, "{limit}");
        let outcome = charge(&*store, &one(name, &limit, Spend(16)), after(0)).await;
        assert_eq!(outcome.decisions[0].fit, Fit::Never, "{limit}");
    }
}

async fn a_bucket_refills_at_the_rate_of_each_time(store: Arc<impl Store>) {
    // One hit a second, and one in two seconds for a minute.
    let limit = scaled(&bucket(60, 60_000, 60), 50);
    let name = limit.tag();
    assert!(passes(&*store, &one(name, &limit, Spend(60)), EDGE_MS - 10_000).await);
    assert_eq!(remaining(&*store, name, &limit, EDGE_MS - 1).await, 9);
    // Ten have come back; half of the burst is open, and far more is owed.
    assert_eq!(remaining(&*store, name, &limit, EDGE_MS).await, 0);
    let ask = one(name, &limit, Spend(1));
    // 50 are owed of 29: 21 times two seconds.
    assert_eq!(exact_wait(&*store, &ask, EDGE_MS).await, 42_000);
    // 30 were owed then, and 9 less at the end.
    assert_eq!(remaining(&*store, name, &limit, END_MS).await, 60 - 21);
    assert_eq!(remaining(&*store, name, &limit, END_MS + 21_000).await, 60);
}

async fn a_refusal_tells_what_a_bucket_owes_after_the_rates_of_each_time(store: Arc<impl Store>) {
    let limit = scaled(&bucket(60, 60_000, 60), 50);
    let name = limit.tag();
    assert!(passes(&*store, &one(name, &limit, Spend(60)), EDGE_MS - 10_000).await);
    let outcome = charge(&*store, &one(name, &limit, Spend(41)), after(END_MS)).await;
    assert!(!outcome.admitted);
    let standing = outcome.decisions[0].standing;
    assert_eq!((standing.remaining, standing.reset_ms), (60 - 20, Some(20_000)));
}

async fn a_bucket_that_owes_is_not_forgotten_while_it_refills_slowly(store: Arc<impl Store>) {
    let limit = scaled(&bucket(1_000, 60_000, 1_000), 1);
    let name = limit.tag();
    assert!(passes(&*store, &one(name, &limit, Spend(1_000)), EDGE_MS - 6_000).await);
    // A hundred have come back before the edge, and ten in the minute after it.
    assert_eq!(remaining(&*store, name, &limit, END_MS - 1).await, 0);
    assert_eq!(remaining(&*store, name, &limit, END_MS).await, 110);
}

async fn a_wait_sees_edges_bonuses_and_what_is_open(store: Arc<impl Store>) {
    for limit in one_of_each(10) {
        let limit = match limit.algorithm() {
            Algorithm::Sliding(sliding) if sliding.window_ms() < EDGE_MS => continue,
            Algorithm::Bucket(_) => bucket(10, 600_000, 10),
            _ => limit,
        };
        let limit = scaled(&limit, 200);
        let name = limit.tag();
        // Half of it is open: 5, and 10 from the edge on. A bonus of 2 ends before that, and one of 1 long after.
        let ask = |hits| {
            let bonuses = [("a", 2, EDGE_MS - 50), ("b", 1, END_MS + 50)];
            with_bonuses(opened(one(name, &limit, hits), 5), &bonuses)
        };
        assert!(passes(&*store, &ask(Spend(5)), 0).await, "{limit}");
        assert_eq!(exact_wait(&*store, &ask(Spend(6)), 0).await, EDGE_MS, "{limit}");
    }
}

async fn hits_come_back_across_an_edge(store: Arc<impl Store>) {
    for limit in one_of_each(10) {
        let limit = match limit.algorithm() {
            Algorithm::Sliding(sliding) if sliding.window_ms() < EDGE_MS => continue,
            _ => scaled(&limit, 50),
        };
        let name = limit.tag();
        let spent_ms = EDGE_MS - 100;
        assert!(passes(&*store, &one(name, &limit, Spend(6)), spent_ms).await, "{limit}");
        let until =
            limit.at(after(spent_ms).timestamp()).counts_until(6, after(spent_ms).timestamp());
        let mut back = one(name, &limit, GiveBack(4));
        back.charges[0].until = Some(until);
        assert!(passes(&*store, &back, EDGE_MS + 100).await, "{limit}");
        let left = remaining(&*store, name, &limit, EDGE_MS + 100).await;
        let expected = match limit.algorithm() {
            // The window has ended, and with it what was spent.
            Algorithm::Fixed(_) => 5,
            // Less than a hit is paid in the tenths of a second before the edge and after it.
            Algorithm::Bucket(_) => 2,
            _ => 3,
        };
        assert_eq!(left, expected, "{limit}");
    }
}

async fn overdraft_is_paid_across_edges(store: Arc<impl Store>) {
    for limit in one_of_each(10) {
        let limit = scaled(&overdrawn(&limit, Overdraft::Allow), 50);
        let name = limit.tag();
        assert!(passes(&*store, &one(name, &limit, Spend(14)), EDGE_MS - 700).await, "{limit}");
        if *limit.algorithm() != Algorithm::Total {
            exact_wait(&*store, &one(name, &limit, Spend(1)), EDGE_MS - 600).await;
        }
    }
}

/// Spends one hit whenever there is one, for two minutes.
async fn no_window_after_an_edge_sees_more_than_the_lowered_amount(store: Arc<impl Store>) {
    let window_ms = 10_000;
    let limit = scaled(&sliding(80, window_ms), 50);
    let mut passed = Vec::new();
    let ask = one("w", &limit, Spend(1));
    let mut ms = EDGE_MS - 15_000;
    while ms < END_MS {
        if passes(&*store, &ask, ms).await {
            passed.push(ms);
            ms += 20;
        } else {
            ms += 250;
        }
    }
    for start in &passed {
        let within = passed.iter().filter(|ms| (*start..start + window_ms).contains(*ms)).count();
        let most = if *start < EDGE_MS { 80 } else { 40 };
        assert!(within <= most, "{within} from {start}");
    }
    assert!(passed.iter().any(|ms| EDGE_MS <= *ms));
}

/// Redis decides by its own clock, whatever this process's clock shows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_clock_of_redis_says_what_holds() {
    let Some(server) = Server::start(&[]) else {
        return;
    };
    let redis = Connected::open(&server.url()).await;
    let condition = tollgate::limit::Condition {
        dates: vec![DateRange::Once {
            first: jiff::civil::date(2000, 1, 1),
            last: jiff::civil::date(2024, 12, 31),
        }],
        ..Default::default()
    };
    let limit = crate::support::batch::while_holding(&sliding(100, 60_000), vec![condition], &[50]);
    // This process's clock is in 2020.
    let wrong = Now::Local(Timestamp::from_ms(1_600_000_000_000));
    let ask: Batch = one("k", &limit, Spend(60));
    assert!(charge(&*redis.store, &ask, wrong).await.admitted);
}

/// Closed but in an hour, and of little but in that hour; of both a part is reserved, and a level keeps free callers out.
const RESERVED: &str = "
domain: reserved
tiers: [free, premium]
caller: { key: user, tier: { key: tier } }
schedules: { open: { hours: '15:00-16:00' } }
descriptors:
- key: closed
  limits: [{ rate: 0/day, when: [{ during: open, rate: 50/day }] }]
  capacity: { reserve: { premium: 10% }, pressure: [{ above: 60%, only: { tier: [premium] } }] }
- key: small
  limits: [{ rate: 3/day, when: [{ during: open, scale: 1000% }] }]
  capacity: { reserve: { premium: 20% } }";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reserve_and_pressure_are_parts_of_the_amount_at_the_time() {
    let clock = Clock::manual(after(0).timestamp());
    let server = Server::start(&[]);
    let mut benches = vec![Bench::in_memory(&clock)];
    if let Some(server) = &server {
        benches.push(Bench::on_redis(server, &clock).await);
    }
    for bench in &benches {
        bench.put_in_force(RESERVED).unwrap();
        for (ask, hits, expected) in [
            // 45 of 50 are open to free callers, and 24 of 30.
            ("closed=x,tier=free", 46, (Code::OverLimit, 45)),
            ("closed=x,tier=free", 30, (Code::Ok, 15)),
            ("closed=x,tier=free", 1, (Code::Ok, 14)),
            ("closed=x,tier=free", 1, (Code::OverLimit, 0)),
            ("closed=x,tier=premium", 19, (Code::Ok, 0)),
            ("small=x,tier=free", 25, (Code::OverLimit, 24)),
            ("small=x,tier=free", 24, (Code::Ok, 0)),
            ("small=x,tier=premium", 6, (Code::Ok, 0)),
        ] {
            let request = Request::try_new("reserved", vec![descriptor(ask, hits)]).unwrap();
            let snapshot = bench.engine.snapshot();
            let verdict = bench.engine.check(&snapshot, &request).await;
            let left = verdict.charges()[0].remaining();
            assert_eq!((verdict.code(), left), expected, "{hits} of {ask}");
        }
    }
}
