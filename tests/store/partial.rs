//! Hits that are taken in part: a request gets what is left, and all its limits take as many.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::task::JoinSet;
use tollgate::limit::Hits::{GiveBack, Spend};
use tollgate::limit::{Fit, Limit};
use tollgate::policy::Mode::{Enforce, Shadow};
use tollgate::store::{Batch, Outcome, Retry, Store};

use crate::support::batch::{
    after, batch, fixed, in_part, one, one_of_each, sliding, total, with_bonuses, with_id,
};
use crate::support::claims::{charge, exact_wait, of_every_store, passes, remaining};

of_every_store! {
    a_request_takes_what_is_left
    all_limits_of_a_part_take_as_many
    parts_of_one_request_have_nothing_to_do_with_each_other
    a_limit_that_wants_all_hits_refuses_the_request
    a_request_waits_for_one_hit_only
    a_retry_gets_what_the_first_attempt_got
    bonuses_and_grace_are_a_part_of_what_is_left
    a_shadow_limit_restricts_nobody
    many_tasks_together_get_exactly_what_there_is
}

fn ask(name: &str, limit: &Arc<Limit>, hits: u64) -> Batch {
    in_part(one(name, limit, Spend(hits)))
}

/// How many of its hits each charge of a batch got.
fn granted(batch: &Batch, outcome: &Outcome) -> Vec<u64> {
    assert!(outcome.admitted, "{outcome:?}");
    let both = batch.charges.iter().zip(&outcome.decisions);
    both.map(|(charge, decision)| charge.hits.amount() - decision.clipped).collect()
}

async fn gets(store: &impl Store, batch: &Batch, ms: u64) -> Vec<u64> {
    granted(batch, &charge(store, batch, after(ms)).await)
}

async fn a_request_takes_what_is_left(store: Arc<impl Store>) {
    for limit in one_of_each(50) {
        let name = limit.tag();
        assert_eq!(gets(&*store, &ask(name, &limit, 13), 0).await, [13], "{limit}");
        let outcome = charge(&*store, &ask(name, &limit, 50), after(0)).await;
        assert_eq!(granted(&ask(name, &limit, 50), &outcome), [37], "{limit}");
        assert_eq!(outcome.decisions[0].standing.remaining, 0, "{limit}");
        assert!(!passes(&*store, &ask(name, &limit, 50), 0).await, "{limit}");
        assert!(!passes(&*store, &ask(name, &limit, 1), 0).await, "{limit}");
        // Nothing always fits.
        assert_eq!(gets(&*store, &ask(name, &limit, 0), 0).await, [0], "{limit}");
    }
    let limit = total(50);
    assert_eq!(charge(&*store, &ask("t", &limit, 9), after(0)).await.decisions[0].fit, Fit::Never);
    assert!(passes(&*store, &in_part(one("t", &limit, GiveBack(2))), 0).await);
    assert_eq!(gets(&*store, &ask("t", &limit, 3), 0).await, [2]);
}

async fn all_limits_of_a_part_take_as_many(store: Arc<impl Store>) {
    let (users, seats, daily) = (total(100), total(40), fixed(45, 3_600_000));
    assert!(passes(&*store, &one("users", &users, Spend(63)), 0).await);
    let ask = in_part(batch(&[
        ("users", 0, Enforce, &users, Spend(50)),
        ("users", 0, Enforce, &daily, Spend(50)),
        ("seats", 1, Enforce, &seats, Spend(50)),
    ]));
    assert_eq!(gets(&*store, &ask, 0).await, [37, 37, 37]);
    assert_eq!(remaining(&*store, "users", &users, 1).await, 0);
    assert_eq!(remaining(&*store, "users", &daily, 1).await, 8);
    assert_eq!(remaining(&*store, "seats", &seats, 1).await, 3);
    assert!(!passes(&*store, &ask, 1).await, "no user is left");
    assert_eq!(remaining(&*store, "seats", &seats, 1).await, 3);
}

async fn parts_of_one_request_have_nothing_to_do_with_each_other(store: Arc<impl Store>) {
    let (users, segments) = (total(37), total(2));
    let mut ask = in_part(batch(&[
        ("users", 0, Enforce, &users, Spend(50)),
        ("segments", 1, Enforce, &segments, Spend(5)),
    ]));
    ask.charges[1].part = 2;
    assert_eq!(gets(&*store, &ask, 0).await, [37, 2]);
}

async fn a_limit_that_wants_all_hits_refuses_the_request(store: Arc<impl Store>) {
    let (users, calls) = (total(37), sliding(40, 60_000));
    let mut ask = in_part(batch(&[
        ("users", 0, Enforce, &users, Spend(50)),
        ("calls", 1, Enforce, &calls, Spend(50)),
    ]));
    ask.charges[1].part = 0;
    assert!(!passes(&*store, &ask, 0).await);
    assert_eq!(remaining(&*store, "users", &users, 0).await, 37);
    ask.charges[1].hits = Spend(40);
    assert_eq!(gets(&*store, &ask, 1).await, [37, 40]);
}

async fn a_request_waits_for_one_hit_only(store: Arc<impl Store>) {
    let limit = sliding(10, 60_000);
    assert!(passes(&*store, &one("k", &limit, Spend(1)), 0).await);
    assert!(passes(&*store, &one("k", &limit, Spend(9)), 20_000).await);
    let wait_ms = exact_wait(&*store, &ask("k", &limit, 5), 30_000).await;
    assert_eq!(wait_ms, 30_000);
    let wait_ms = exact_wait(&*store, &ask("k", &limit, 500), 60_001).await;
    assert_eq!(60_001 + wait_ms, 80_000, "more than it ever has");
}

async fn a_retry_gets_what_the_first_attempt_got(store: Arc<impl Store>) {
    let (users, seats) = (total(37), total(100));
    let ask = |hits| {
        let ask = batch(&[
            ("users", 0, Enforce, &users, Spend(hits)),
            ("seats", 1, Enforce, &seats, Spend(hits)),
        ]);
        with_id(in_part(ask), "id")
    };
    assert_eq!(gets(&*store, &ask(50), 0).await, [37, 37]);
    for ms in 1..4 {
        let outcome = charge(&*store, &ask(50), after(ms)).await;
        assert_eq!(granted(&ask(50), &outcome), [37, 37]);
        let free =
            |decision: &tollgate::store::Decision| decision.retry.is_some_and(Retry::is_free);
        assert!(outcome.decisions.iter().all(free), "{outcome:?}");
        // What comes back meanwhile is for others.
        assert!(passes(&*store, &one("users", &users, GiveBack(1)), ms).await);
    }
    assert_eq!(remaining(&*store, "users", &users, 4).await, 3);
    assert_eq!(remaining(&*store, "seats", &seats, 4).await, 63);
    let other = charge(&*store, &ask(37), after(4)).await;
    assert_eq!((other.admitted, other.decisions[0].retry), (false, Some(Retry::Conflict)));
    // One that got all of it gets all of it again.
    let whole = with_id(in_part(one("users", &users, Spend(2))), "whole");
    assert_eq!(gets(&*store, &whole, 5).await, [2]);
    assert_eq!(gets(&*store, &whole, 5).await, [2]);
    assert_eq!(remaining(&*store, "users", &users, 5).await, 1);
}

async fn bonuses_and_grace_are_a_part_of_what_is_left(store: Arc<impl Store>) {
    let limit = Arc::new(Limit::clone(&total(100)).with_grace(10, 10_000));
    let ask = |hits| with_bonuses(ask("k", &limit, hits), &[("gift", 20, 3_600_000)]);
    assert_eq!(gets(&*store, &ask(90), 0).await, [90]);
    assert_eq!(gets(&*store, &ask(500), 0).await, [40]);
    assert!(!passes(&*store, &ask(500), 0).await);
    assert!(passes(&*store, &one("k", &limit, GiveBack(5)), 0).await);
    assert_eq!(gets(&*store, &ask(500), 9_999).await, [5]);
    assert!(passes(&*store, &one("k", &limit, GiveBack(5)), 10_000).await);
    assert!(!passes(&*store, &ask(500), 10_000).await, "the grace has ended");
}

async fn a_shadow_limit_restricts_nobody(store: Arc<impl Store>) {
    let (users, seen) = (total(37), total(10));
    let ask = in_part(batch(&[
        ("users", 0, Enforce, &users, Spend(30)),
        ("seen", 1, Shadow, &seen, Spend(30)),
    ]));
    assert_eq!(gets(&*store, &ask, 0).await, [30, 10]);
    assert_eq!(remaining(&*store, "seen", &seen, 0).await, 0);
}

async fn many_tasks_together_get_exactly_what_there_is<S: Store + 'static>(store: Arc<S>) {
    let limit = total(500);
    let got = Arc::new(AtomicU64::new(0));
    let mut tasks = JoinSet::new();
    for task in 0..20 {
        let (store, limit, got) = (store.clone(), limit.clone(), got.clone());
        tasks.spawn(async move {
            for step in 0..20 {
                let ask = ask("k", &limit, 1 + (task + step) % 7);
                let outcome = charge(&*store, &ask, after(0)).await;
                if outcome.admitted {
                    let granted = granted(&ask, &outcome)[0];
                    assert_ne!(granted, 0);
                    got.fetch_add(granted, Ordering::Relaxed);
                }
            }
        });
    }
    tasks.join_all().await;
    assert_eq!(got.load(Ordering::Relaxed), 500);
    assert_eq!(remaining(&*store, "k", &total(10_000), 0).await, 10_000 - 500);
}
