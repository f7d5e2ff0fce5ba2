//! The contract of every store for limits: one suite, run on the embedded store and on a real Redis.

use std::sync::Arc;

use tollgate::clock::{Clock, Now, Timestamp};
use tollgate::limit::Hits::{GiveBack, Spend};
use tollgate::limit::{Algorithm, CalendarUnit, Fit};
use tollgate::policy::Mode::{Enforce, Quota, Shadow};
use tollgate::store::embedded::Memory;
use tollgate::store::{IdempotencyToken, Once, Store};

use crate::support::batch::{
    START_MS, after, batch, bucket, calendar, fixed, one, one_of_each, sliding, total,
};
use crate::support::claims::{charge, of_every_store, passes, remaining};

of_every_store! {
    a_refused_request_spends_nothing
    a_group_spends_together_or_not_at_all
    a_shadow_never_refuses_and_never_spends_what_it_lacks
    quotas_refuse_only_when_all_are_over
    an_enforced_limit_refuses_whatever_the_quotas_say
    giving_back_never_goes_below_zero
    hits_that_did_not_come_back_are_told
    giving_back_takes_the_oldest_first
    a_peek_always_fits_and_changes_nothing
    a_charge_that_is_made_once_is_made_once
    hits_that_come_back_late_come_back_as_far_as_they_count
    more_hits_than_any_limit_never_fit
    a_changed_amount_keeps_the_count
    a_changed_window_starts_anew
    limits_of_one_record_are_independent
    the_promised_wait_is_exact
    a_calendar_month_ends_with_the_month
    a_calendar_day_has_the_hours_it_has
    a_clock_that_goes_back_frees_nothing
    a_total_never_resets
    the_answer_tells_how_each_limit_stands
    many_tasks_together_never_exceed
}

async fn a_refused_request_spends_nothing(store: Arc<impl Store>) {
    for limit in one_of_each(10) {
        let name = limit.tag().to_string();
        let (plenty, scarce) = (format!("{name}-plenty"), format!("{name}-scarce"));
        assert!(passes(&*store, &one(&scarce, &limit, Spend(10)), 0).await);
        let both = batch(&[
            (&plenty, 0, Enforce, &limit, Spend(3)),
            (&scarce, 1, Enforce, &limit, Spend(3)),
        ]);
        let outcome = charge(&*store, &both, after(1)).await;
        assert!(!outcome.admitted, "{limit}");
        assert_eq!(outcome.decisions[0].fit, Fit::Now, "{limit}");
        assert_eq!(remaining(&*store, &plenty, &limit, 1).await, 10, "{limit}");
    }
}

async fn a_group_spends_together_or_not_at_all(store: Arc<impl Store>) {
    let (wide, narrow) = (sliding(10, 60_000), fixed(2, 60_000));
    let shadows = batch(&[("k", 0, Shadow, &wide, Spend(3)), ("k", 0, Shadow, &narrow, Spend(3))]);
    assert!(charge(&*store, &shadows, after(0)).await.admitted);
    assert_eq!(remaining(&*store, "k", &wide, 0).await, 10);
    assert_eq!(remaining(&*store, "k", &narrow, 0).await, 2);
}

async fn a_shadow_never_refuses_and_never_spends_what_it_lacks(store: Arc<impl Store>) {
    let (shadow, limit) = (sliding(2, 60_000), fixed(10, 60_000));
    let ask = batch(&[("s", 0, Shadow, &shadow, Spend(2)), ("e", 1, Enforce, &limit, Spend(2))]);
    assert!(charge(&*store, &ask, after(0)).await.admitted);
    let outcome = charge(&*store, &ask, after(1)).await;
    assert!(outcome.admitted);
    assert!(matches!(outcome.decisions[0].fit, Fit::AfterMs(_)));
    assert_eq!(remaining(&*store, "s", &shadow, 1).await, 0);
    assert_eq!(remaining(&*store, "e", &limit, 1).await, 6);
}

async fn quotas_refuse_only_when_all_are_over(store: Arc<impl Store>) {
    let (small, large) = (fixed(1, 60_000), fixed(2, 60_000));
    let ask = batch(&[("a", 0, Quota, &small, Spend(1)), ("b", 1, Quota, &large, Spend(1))]);
    for (expected, left) in [(true, 1), (true, 0), (false, 0)] {
        assert_eq!(charge(&*store, &ask, after(0)).await.admitted, expected);
        assert_eq!(remaining(&*store, "b", &large, 0).await, left);
    }
}

async fn an_enforced_limit_refuses_whatever_the_quotas_say(store: Arc<impl Store>) {
    let (quota, none) = (fixed(5, 60_000), fixed(0, 60_000));
    let ask = batch(&[("a", 0, Quota, &quota, Spend(1)), ("b", 1, Enforce, &none, Spend(1))]);
    assert!(!charge(&*store, &ask, after(0)).await.admitted);
    assert_eq!(remaining(&*store, "a", &quota, 0).await, 5);
}

async fn giving_back_never_goes_below_zero(store: Arc<impl Store>) {
    for limit in one_of_each(10) {
        let name = limit.tag();
        assert!(passes(&*store, &one(name, &limit, GiveBack(5)), 0).await, "{limit}");
        assert_eq!(remaining(&*store, name, &limit, 0).await, 10, "{limit}");
        assert!(passes(&*store, &one(name, &limit, Spend(7)), 0).await, "{limit}");
        assert!(passes(&*store, &one(name, &limit, GiveBack(3)), 0).await, "{limit}");
        assert_eq!(remaining(&*store, name, &limit, 0).await, 6, "{limit}");
        assert!(passes(&*store, &one(name, &limit, GiveBack(u64::MAX)), 0).await, "{limit}");
        assert_eq!(remaining(&*store, name, &limit, 0).await, 10, "{limit}");
    }
}

/// Those that the limit had in use are gone; the others are told, of every algorithm.
async fn hits_that_did_not_come_back_are_told(store: Arc<impl Store>) {
    for limit in one_of_each(10) {
        let name = limit.tag();
        let kept = async |hits, at_ms| {
            let outcome = charge(&*store, &one(name, &limit, GiveBack(hits)), after(at_ms)).await;
            assert!(outcome.admitted, "{limit}");
            outcome.decisions[0].clipped
        };
        assert_eq!(kept(5, 0).await, 5, "nothing was spent: {limit}");
        assert!(passes(&*store, &one(name, &limit, Spend(7)), 0).await, "{limit}");
        assert_eq!(kept(3, 0).await, 0, "{limit}");
        assert_eq!(kept(9, 0).await, 5, "four were left: {limit}");
        assert_eq!(kept(1, 0).await, 1, "{limit}");
        assert!(passes(&*store, &one(name, &limit, Spend(3)), 1).await, "{limit}");
        let is_total = limit.algorithm() == &Algorithm::Total;
        assert_eq!(kept(3, 4_000_000_000).await, if is_total { 0 } else { 3 }, "time has: {limit}");
    }
    // Of a bucket that has refilled 1.5 of 3 hits, 1.5 are in use: two, as it says itself.
    let limit = bucket(10, 10_000, 10);
    assert!(passes(&*store, &one("refills", &limit, Spend(3)), 0).await);
    let back = charge(&*store, &one("refills", &limit, GiveBack(3)), after(1_500)).await;
    assert_eq!((back.decisions[0].clipped, back.decisions[0].standing.remaining), (1, 10));
    let (empty, full, other) = (total(10), total(1), total(9));
    let both = batch(&[
        ("empty", 0, Enforce, &empty, GiveBack(2)),
        ("other", 1, Enforce, &other, Spend(1)),
        ("full", 2, Enforce, &full, Spend(2)),
    ]);
    let refused = charge(&*store, &both, after(0)).await;
    assert_eq!((refused.admitted, refused.decisions[0].clipped), (false, 2));
}

async fn a_charge_that_is_made_once_is_made_once(store: Arc<impl Store>) {
    for limit in one_of_each(10) {
        let name = limit.tag();
        let once = |hits, by, number| {
            let mut batch = one(name, &limit, hits);
            batch.charges[0].once = Some(Once::Token(IdempotencyToken { by, number }));
            batch
        };
        let asks = [
            (Spend(2), 1, 5, 8),
            (Spend(2), 1, 5, 8),
            (Spend(2), 1, 4, 8),
            (Spend(2), 2, 4, 6),
            (GiveBack(3), 1, 6, 9),
            (GiveBack(3), 1, 6, 9),
            (Spend(8), 2, 4, 9),
        ];
        for (hits, by, number, left) in asks {
            let outcome = charge(&*store, &once(hits, by, number), after(0)).await;
            assert!(outcome.admitted, "{limit}");
            assert_eq!(outcome.decisions[0].standing.remaining, left, "{limit} {hits:?} {number}");
        }
        assert!(!passes(&*store, &once(Spend(10), 2, 5), 0).await, "{limit}");
        assert!(passes(&*store, &once(Spend(9), 2, 5), 0).await, "{limit}, which it had refused");
    }
}

async fn hits_that_come_back_late_come_back_as_far_as_they_count(store: Arc<impl Store>) {
    for limit in one_of_each(10) {
        let name = limit.tag();
        assert!(passes(&*store, &one(name, &limit, Spend(3)), 0).await, "{limit}");
        let mut back = one(name, &limit, GiveBack(3));
        let until = limit.counts_until(3, after(0).timestamp());
        back.charges[0].until = Some(until);
        let at_ms = until.as_ms().min(START_MS + 7_200_000) - START_MS;
        let is_total = limit.algorithm() == &Algorithm::Total;
        assert!(passes(&*store, &one(name, &limit, Spend(4)), at_ms).await, "{limit}");
        assert!(passes(&*store, &back, at_ms).await, "{limit}");
        assert_eq!(remaining(&*store, name, &limit, at_ms).await, 6, "{limit}");
        if !is_total {
            let until = limit.counts_until(4, after(at_ms).timestamp());
            back.charges[0].until = Some(until);
            assert!(passes(&*store, &back, at_ms).await, "{limit}");
            assert_eq!(remaining(&*store, name, &limit, at_ms).await, 9, "{limit}");
        }
    }
}

async fn giving_back_takes_the_oldest_first(store: Arc<impl Store>) {
    let limit = sliding(10, 1_000);
    assert!(passes(&*store, &one("k", &limit, Spend(4)), 0).await);
    assert!(passes(&*store, &one("k", &limit, Spend(4)), 500).await);
    assert!(passes(&*store, &one("k", &limit, GiveBack(5)), 600).await);
    assert_eq!(remaining(&*store, "k", &limit, 1_100).await, 7);
    assert_eq!(remaining(&*store, "k", &limit, 1_501).await, 10);
}

async fn a_peek_always_fits_and_changes_nothing(store: Arc<impl Store>) {
    for limit in one_of_each(1) {
        let name = limit.tag();
        assert!(passes(&*store, &one(name, &limit, Spend(0)), 0).await, "{limit}");
        assert!(passes(&*store, &one(name, &limit, Spend(1)), 0).await, "{limit}");
        assert!(passes(&*store, &one(name, &limit, Spend(0)), 0).await, "{limit}");
        assert!(!passes(&*store, &one(name, &limit, Spend(1)), 0).await, "{limit}");
    }
}

async fn more_hits_than_any_limit_never_fit(store: Arc<impl Store>) {
    for limit in one_of_each(tollgate::limit::AMOUNT_MAX.min(50_000_000_000)) {
        let outcome = charge(&*store, &one(limit.tag(), &limit, Spend(u64::MAX)), after(0)).await;
        assert!(!outcome.admitted, "{limit}");
        assert_eq!(outcome.decisions[0].fit, Fit::Never, "{limit}");
        assert!(
            passes(&*store, &one(limit.tag(), &limit, Spend(limit.amount())), 0).await,
            "{limit}"
        );
        assert_eq!(remaining(&*store, limit.tag(), &limit, 0).await, 0, "{limit}");
    }
}

async fn a_changed_amount_keeps_the_count(store: Arc<impl Store>) {
    for (before, now) in one_of_each(100).iter().zip(one_of_each(10)) {
        let name = before.tag();
        assert!(passes(&*store, &one(name, before, Spend(8)), 0).await, "{before}");
        assert_eq!(remaining(&*store, name, &now, 0).await, 2, "{now}");
        assert!(passes(&*store, &one(name, before, Spend(8)), 0).await, "{before}");
        assert_eq!(remaining(&*store, name, &now, 0).await, 0, "{now}");
        assert_eq!(remaining(&*store, name, before, 0).await, 84, "{before}");
    }
}

async fn a_changed_window_starts_anew(store: Arc<impl Store>) {
    for (before, now) in [
        (sliding(5, 60_000), sliding(5, 61_000)),
        (fixed(5, 60_000), fixed(5, 61_000)),
        (bucket(5, 60_000, 5), bucket(5, 61_000, 5)),
        (sliding(5, 90_000), fixed(5, 90_000)),
    ] {
        let name = now.to_string();
        assert!(passes(&*store, &one(&name, &before, Spend(5)), 0).await, "{before}");
        assert_eq!(remaining(&*store, &name, &now, 0).await, 5, "{now}");
        // After a return to the old window, as in a rollback, the old count is found.
        assert_eq!(remaining(&*store, &name, &before, 0).await, 0, "{before}");
    }
}

async fn limits_of_one_record_are_independent(store: Arc<impl Store>) {
    let limits = [sliding(5, 1_000), sliding(8, 60_000), fixed(9, 60_000), total(20)];
    let charges: Vec<_> = limits.iter().map(|limit| ("k", 0, Enforce, limit, Spend(1))).collect();
    for ms in 0..5 {
        assert!(charge(&*store, &batch(&charges), after(ms)).await.admitted);
    }
    let mut left = Vec::new();
    for limit in &limits {
        left.push(remaining(&*store, "k", limit, 5).await);
    }
    assert_eq!(left, [0, 3, 4, 15]);
    assert!(passes(&*store, &one("k", &limits[3], GiveBack(5)), 2_000).await);
    assert_eq!(remaining(&*store, "k", &limits[0], 2_000).await, 5);
    assert_eq!(remaining(&*store, "k", &limits[1], 2_000).await, 3);
    assert_eq!(remaining(&*store, "k", &limits[3], 2_000).await, 20);
}

async fn the_promised_wait_is_exact(store: Arc<impl Store>) {
    let coarse = [sliding(1_000, 60_000), sliding(100, 700), bucket(7, 1_000, 3)];
    for limit in one_of_each(10).iter().chain(&coarse) {
        let name = limit.to_string();
        let burst = limit.capacity();
        assert!(passes(&*store, &one(&name, limit, Spend(burst - 1)), 0).await, "{limit}");
        assert!(passes(&*store, &one(&name, limit, Spend(1)), 77).await, "{limit}");
        let ask = one(&name, limit, Spend(burst));
        let wait_ms = match charge(&*store, &ask, after(80)).await.decisions[0].fit {
            Fit::AfterMs(wait_ms) => wait_ms,
            Fit::Never if limit.tag().starts_with('t') => continue,
            fit => panic!("{limit}: {fit:?}"),
        };
        assert!(!charge(&*store, &ask, after(80 + wait_ms - 1)).await.admitted, "{limit}");
        assert!(charge(&*store, &ask, after(80 + wait_ms)).await.admitted, "{limit}");
    }
}

/// The instant of a text such as `2026-03-29T00:30[Europe/Madrid]`.
fn at(text: &str) -> Now {
    let at: jiff::Zoned = text.parse().unwrap();
    Now::Given(Timestamp::from_ms(at.timestamp().as_millisecond().try_into().unwrap()))
}

async fn a_calendar_month_ends_with_the_month(store: Arc<impl Store>) {
    let limit = calendar(1, CalendarUnit::Month, "Europe/Madrid");
    let ask = one("k", &limit, Spend(1));
    let admitted = |text| charge(&*store, &ask, at(text));
    assert!(admitted("2026-02-01T00:00[Europe/Madrid]").await.admitted);
    assert!(!admitted("2026-02-28T23:59:59.999[Europe/Madrid]").await.admitted);
    assert!(admitted("2026-03-01T00:00[Europe/Madrid]").await.admitted);
    assert!(!admitted("2026-03-31T23:59:59[Europe/Madrid]").await.admitted);
}

async fn a_calendar_day_has_the_hours_it_has(store: Arc<impl Store>) {
    let limit = calendar(1, CalendarUnit::Day, "Europe/Madrid");
    for (day, hours) in [("2026-03-29", 23), ("2026-10-25", 25), ("2026-06-01", 24)] {
        let ask = one(day, &limit, Spend(1));
        let midnight = at(&format!("{day}T00:00[Europe/Madrid]"));
        assert!(charge(&*store, &ask, midnight).await.admitted);
        let refused = charge(&*store, &ask, midnight).await;
        assert_eq!(refused.decisions[0].fit, Fit::AfterMs(hours * 3_600_000), "{day}");
    }
}

async fn a_clock_that_goes_back_frees_nothing(store: Arc<impl Store>) {
    for limit in one_of_each(2) {
        let name = limit.tag();
        assert!(passes(&*store, &one(name, &limit, Spend(1)), 5_000).await, "{limit}");
        assert!(passes(&*store, &one(name, &limit, Spend(1)), 4_000).await, "{limit}");
        assert!(!passes(&*store, &one(name, &limit, Spend(1)), 0).await, "{limit}");
        assert_eq!(remaining(&*store, name, &limit, 5_000).await, 0, "{limit}");
    }
}

async fn a_total_never_resets(store: Arc<impl Store>) {
    let limit = total(3);
    assert!(passes(&*store, &one("k", &limit, Spend(3)), 0).await);
    let century_ms = 100 * 366 * 86_400_000;
    assert!(!passes(&*store, &one("k", &limit, Spend(1)), century_ms).await);
    assert!(passes(&*store, &one("k", &limit, GiveBack(1)), century_ms).await);
    assert!(passes(&*store, &one("k", &limit, Spend(1)), century_ms).await);
}

async fn the_answer_tells_how_each_limit_stands(store: Arc<impl Store>) {
    let (window, bucket, total) = (fixed(5, 60_000), bucket(10, 1_000, 5), total(7));
    let ask = batch(&[
        ("k", 0, Enforce, &window, Spend(2)),
        ("k", 0, Enforce, &bucket, Spend(2)),
        ("k", 0, Enforce, &total, Spend(2)),
    ]);
    let outcome = charge(&*store, &ask, after(0)).await;
    let standings: Vec<_> = outcome
        .decisions
        .iter()
        .map(|one| (one.standing.remaining, one.standing.reset_ms))
        .collect();
    let to_edge_ms = 60_000 - START_MS % 60_000;
    assert_eq!(standings, [(3, Some(to_edge_ms)), (3, Some(200)), (5, None)]);
    assert_eq!(outcome.at, Timestamp::from_ms(START_MS));
}

async fn many_tasks_together_never_exceed(store: Arc<impl Store + 'static>) {
    const TASKS: usize = 16;
    const REQUESTS: usize = 50;
    // Both limits last longer than the test; the second is the tighter one.
    let ask = batch(&[
        ("wide", 0, Enforce, &sliding(1_000, 600_000), Spend(1)),
        ("narrow", 1, Enforce, &total(321), Spend(1)),
    ]);
    let tasks: Vec<_> = (0..TASKS)
        .map(|_| {
            let (store, ask) = (store.clone(), ask.clone());
            tokio::spawn(async move {
                let mut admitted = 0;
                for _ in 0..REQUESTS {
                    let now = Clock::system().now();
                    admitted += usize::from(charge(&*store, &ask, now).await.admitted);
                }
                admitted
            })
        })
        .collect();
    let mut admitted = 0;
    for task in tasks {
        admitted += task.await.unwrap();
    }
    assert_eq!(admitted, 321);
}

#[test]
fn the_embedded_store_forgets_what_has_expired() {
    let store = Memory::new(1_000);
    for name in ["a", "b", "c"] {
        store.charge_at(&one(name, &sliding(5, 1_000), Spend(1)), after(0).timestamp());
    }
    store.charge_at(&one("kept", &total(5), Spend(1)), after(0).timestamp());
    assert_eq!(store.keys(), 4);
    store.sweep(after(999).timestamp(), 100);
    assert_eq!(store.keys(), 4, "each is still in its window");
    store.sweep(after(1_000).timestamp(), 100);
    assert_eq!(store.keys(), 1);
    assert_eq!(store.evicted(), 0);
}

#[test]
fn the_embedded_store_stays_within_its_bound() {
    let store = Memory::new(64);
    for number in 0..10_000 {
        let ask = one(&number.to_string(), &total(5), Spend(1));
        assert!(store.charge_at(&ask, after(0).timestamp()).admitted);
        assert!(store.keys() <= 64);
    }
    assert_eq!(store.evicted(), 10_000 - u64::try_from(store.keys()).unwrap());
}
