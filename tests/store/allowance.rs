//! The contract of every store for reserves, pressure, bonuses and overdraft.

use std::sync::Arc;

use tollgate::clock::Clock;
use tollgate::limit::Hits::{GiveBack, Spend};
use tollgate::limit::{CalendarUnit, Fit, Limit, Overdraft};
use tollgate::policy::Mode::Enforce;
use tollgate::store::{Gauge, IdempotencyToken, Mark, Once, Pressed, Store};

use crate::support::batch::{
    START_MS, after, batch, bucket, calendar, fixed, one, one_of_each, opened, overdrawn, pressed,
    sliding, total, with_bonuses,
};
use crate::support::claims::{charge, exact_wait, of_every_store, passes, remaining};

of_every_store! {
    a_reserve_is_closed_to_those_it_is_not_for
    more_than_is_open_never_fits
    bonuses_are_spent_after_the_base_the_soonest_to_end_first
    a_bonus_ends_at_its_time_whatever_it_has_left
    what_is_given_back_goes_to_the_last_bonus_first
    what_did_not_come_back_to_bonuses_is_told
    a_bonus_that_changes_keeps_its_count
    a_charge_that_was_made_before_prolongs_no_bonus
    limits_of_one_key_have_bonuses_of_one_name_each
    the_wait_is_exact_when_bonuses_end_first
    the_wait_is_exact_when_pressure_falls
    a_gauge_does_not_flap_between_its_points
    a_refused_request_moves_a_gauge_too
    a_level_goes_with_the_last_of_its_record
    a_gauge_reads_all_its_limits
    a_request_may_meet_many_gauges
    an_overdraft_counts_in_full_and_is_paid_back
    a_clipped_overdraft_forgives_the_rest
    the_wait_for_an_overdraft_is_exact
    no_number_of_hits_overflows_an_overdraft
    classes_and_bonuses_together_never_exceed
}

/// Limits of five hits, of which none come back during a test.
fn lasting(amount: u64) -> [Arc<Limit>; 5] {
    [
        sliding(amount, 600_000),
        fixed(amount, 600_000_000),
        bucket(amount, 1_000_000_000, amount),
        calendar(amount, CalendarUnit::Month, "Europe/Madrid"),
        total(amount),
    ]
}

async fn a_reserve_is_closed_to_those_it_is_not_for(store: Arc<impl Store>) {
    for limit in one_of_each(10) {
        let premium = one(limit.tag(), &limit, Spend(1));
        let free = opened(premium.clone(), 6);
        for used in 0..6 {
            let outcome = charge(&*store, &free, after(0)).await;
            assert!(outcome.admitted, "{limit}");
            assert_eq!(outcome.decisions[0].standing.remaining, 5 - used, "{limit}");
        }
        assert!(!passes(&*store, &free, 0).await, "{limit}");
        for _ in 6..10 {
            assert!(passes(&*store, &premium, 0).await, "{limit}");
        }
        assert!(!passes(&*store, &premium, 0).await, "{limit}");
        assert!(passes(&*store, &one(limit.tag(), &limit, GiveBack(4)), 0).await, "{limit}");
        assert!(!passes(&*store, &free, 0).await, "{limit}");
        assert!(passes(&*store, &one(limit.tag(), &limit, GiveBack(1)), 0).await, "{limit}");
        assert!(passes(&*store, &free, 0).await, "{limit}");
        assert!(!passes(&*store, &free, 0).await, "{limit}");
    }
}

async fn more_than_is_open_never_fits(store: Arc<impl Store>) {
    for limit in one_of_each(10) {
        for (open, hits) in [(6, 7), (0, 1)] {
            let ask = opened(one(limit.tag(), &limit, Spend(hits)), open);
            let outcome = charge(&*store, &ask, after(0)).await;
            assert_eq!(outcome.decisions[0].fit, Fit::Never, "{limit}");
            assert_eq!(outcome.decisions[0].standing.remaining, open, "{limit}");
        }
    }
}

const BONUSES: &[(&str, u64, u64)] = &[("soon", 3, 10_000), ("late", 4, 20_000)];

async fn bonuses_are_spent_after_the_base_the_soonest_to_end_first(store: Arc<impl Store>) {
    for limit in lasting(5) {
        let ask = |hits| with_bonuses(one(limit.tag(), &limit, Spend(hits)), BONUSES);
        let left = async |hits, ms| {
            let outcome = charge(&*store, &ask(hits), after(ms)).await;
            assert!(outcome.admitted, "{limit}");
            outcome.decisions[0].standing.remaining
        };
        assert_eq!(left(4, 0).await, 8, "{limit}");
        assert_eq!(remaining(&*store, limit.tag(), &limit, 0).await, 1, "{limit}");
        assert_eq!(left(2, 1).await, 6, "{limit}");
        assert_eq!(remaining(&*store, limit.tag(), &limit, 1).await, 0, "{limit}");
        assert!(!passes(&*store, &ask(7), 2).await, "{limit}");
        assert_eq!(left(3, 3).await, 3, "{limit}");
        // Two of the first and one of the second are gone; the first ends with nothing left.
        assert_eq!(left(0, 9_999).await, 3, "{limit}");
        assert_eq!(left(0, 10_000).await, 3, "{limit}");
        assert_eq!(left(1, 19_999).await, 2, "{limit}");
        assert_eq!(left(0, 20_000).await, 0, "{limit}");
        assert!(!passes(&*store, &ask(1), 20_000).await, "{limit}");
    }
}

async fn what_did_not_come_back_to_bonuses_is_told(store: Arc<impl Store>) {
    for limit in lasting(5) {
        let ask = |hits| with_bonuses(one(limit.tag(), &limit, hits), BONUSES);
        let clipped = async |hits| charge(&*store, &ask(hits), after(0)).await.decisions[0].clipped;
        assert_eq!(clipped(GiveBack(2)).await, 2, "{limit}");
        assert_eq!(clipped(Spend(9)).await, 0, "{limit}");
        assert_eq!(clipped(GiveBack(3)).await, 0, "{limit}");
        assert_eq!(clipped(GiveBack(10)).await, 4, "one was of a bonus, and five of it: {limit}");
        assert_eq!(clipped(GiveBack(1)).await, 1, "{limit}");
    }
}

async fn a_bonus_ends_at_its_time_whatever_it_has_left(store: Arc<impl Store>) {
    let limit = total(5);
    let ask = |hits| with_bonuses(one("k", &limit, Spend(hits)), BONUSES);
    assert!(passes(&*store, &ask(6), 0).await);
    for (ms, left) in [(9_999, 6), (10_000, 4), (19_999, 4), (20_000, 0)] {
        let outcome = charge(&*store, &ask(0), after(ms)).await;
        assert_eq!(outcome.decisions[0].standing.remaining, left, "{ms}");
    }
}

async fn what_is_given_back_goes_to_the_last_bonus_first(store: Arc<impl Store>) {
    for limit in lasting(5) {
        let ask = |hits| with_bonuses(one(limit.tag(), &limit, hits), BONUSES);
        let left = async |hits, ms| {
            charge(&*store, &ask(hits), after(ms)).await.decisions[0].standing.remaining
        };
        assert_eq!(left(Spend(12), 0).await, 0, "{limit}");
        assert_eq!(left(GiveBack(5), 0).await, 5, "{limit}");
        assert_eq!(remaining(&*store, limit.tag(), &limit, 0).await, 0, "{limit}");
        assert_eq!(left(Spend(0), 10_000).await, 4, "{limit}");
        assert_eq!(left(GiveBack(u64::MAX), 10_000).await, 9, "{limit}");
        assert_eq!(left(GiveBack(u64::MAX), 10_000).await, 9, "{limit}");
        assert_eq!(remaining(&*store, limit.tag(), &limit, 10_000).await, 5, "{limit}");
    }
}

async fn a_bonus_that_changes_keeps_its_count(store: Arc<impl Store>) {
    let limit = total(0);
    let left = async |hits, amount, until, ms| {
        let ask = with_bonuses(one("k", &limit, Spend(hits)), &[("b", amount, until)]);
        charge(&*store, &ask, after(ms)).await.decisions[0].standing.remaining
    };
    assert_eq!(left(4, 6, 1_000, 0).await, 2);
    assert_eq!(left(0, 10, 1_000, 0).await, 6);
    assert_eq!(left(0, 3, 1_000, 0).await, 0);
    // It was prolonged, and starts with its remaining hits.
    assert_eq!(left(0, 6, 5_000, 999).await, 2);
    assert_eq!(left(0, 6, 5_000, 4_999).await, 2);
}

async fn a_charge_that_was_made_before_prolongs_no_bonus(store: Arc<impl Store>) {
    let limit = total(0);
    let ask = |hits, until| with_bonuses(one("k", &limit, Spend(hits)), &[("b", 6, until)]);
    for (until, ms) in [(1_000, 0), (5_000, 999)] {
        let mut ask = ask(4, until);
        ask.charges[0].once = Some(Once::Token(IdempotencyToken { by: 1, number: 1 }));
        assert!(passes(&*store, &ask, ms).await);
    }
    let left = charge(&*store, &ask(0, 5_000), after(1_000)).await.decisions[0].standing.remaining;
    assert_eq!(left, 6, "it has ended, and is given anew");
}

async fn limits_of_one_key_have_bonuses_of_one_name_each(store: Arc<impl Store>) {
    let (wide, narrow) = (sliding(3, 60_000), total(1));
    let charges = [("k", 0, Enforce, &wide, Spend(3)), ("k", 0, Enforce, &narrow, Spend(3))];
    let ask = with_bonuses(batch(&charges), &[("b", 2, 50_000)]);
    let outcome = charge(&*store, &ask, after(0)).await;
    assert!(outcome.admitted);
    assert_eq!(outcome.decisions[0].standing.remaining, 2);
    assert_eq!(outcome.decisions[1].standing.remaining, 0);
}

async fn the_wait_is_exact_when_bonuses_end_first(store: Arc<impl Store>) {
    let limit = sliding(4, 10_000);
    let ask = |name, hits, until| with_bonuses(one(name, &limit, Spend(hits)), &[("b", 2, until)]);
    // Two of the base free at 10,000 and two at 10,100; the bonus has one left.
    for (name, until, hits, expected) in [
        ("ends long before", 5_000, 2, 9_900),
        ("lasts to the first two", 10_001, 2, 9_900),
        ("lasts and is needed", 10_001, 3, 9_900),
        ("ends with the first two", 10_000, 3, 10_000),
        ("ends before the last two", 10_001, 4, 10_000),
        ("lasts to the last two", 15_000, 5, 10_000),
    ] {
        assert!(passes(&*store, &ask(name, 2, until), 0).await, "{name}");
        assert!(passes(&*store, &ask(name, 3, until), 100).await, "{name}");
        assert_eq!(exact_wait(&*store, &ask(name, hits, until), 100).await, expected, "{name}");
    }
    let never = ask("never", 5, 5_000);
    assert!(passes(&*store, &never, 0).await);
    assert_eq!(charge(&*store, &never, after(1)).await.decisions[0].fit, Fit::Never);
}

async fn the_wait_is_exact_when_pressure_falls(store: Arc<impl Store>) {
    let limit = sliding(10, 10_000);
    let premium = one("k", &limit, Spend(3));
    for ms in [0, 1_000, 2_000] {
        assert!(passes(&*store, &premium, ms).await);
    }
    // Nine are in use. Under pressure five are open, and four free at 11,000; but at 10,000 six are in
    // use, the pressure is gone, and all are open.
    let free = pressed(one("k", &limit, Spend(2)), &[(1, 8, 6)], &[5]);
    let outcome = charge(&*store, &free, after(3_000)).await;
    assert_eq!(outcome.levels.as_slice(), [1]);
    assert_eq!(outcome.decisions[0].standing.remaining, 0);
    assert_eq!(exact_wait(&*store, &free, 3_000).await, 7_000);

    for limit in [sliding(100, 60_000), fixed(100, 60_000), bucket(100, 60_000, 100)] {
        let name = limit.tag();
        assert!(passes(&*store, &one(name, &limit, Spend(97)), 0).await, "{limit}");
        let marks = [(1, 70, 40), (2, 90, 80)];
        let ask = pressed(opened(one(name, &limit, Spend(3)), 60), &marks, &[30, 0]);
        assert_eq!(charge(&*store, &ask, after(0)).await.levels.as_slice(), [2], "{limit}");
        exact_wait(&*store, &ask, 10).await;
    }
}

async fn a_gauge_does_not_flap_between_its_points(store: Arc<impl Store>) {
    for limit in lasting(20) {
        let marks = [(1, 5, 3), (2, 8, 6)];
        // Each step finds the level that the steps before it left.
        for (step, (hits, level)) in [
            (Spend(5), 0),
            (Spend(1), 0),
            (Spend(0), 1),
            (Spend(3), 1),
            (GiveBack(2), 2),
            (Spend(0), 2),
            (GiveBack(1), 2),
            (GiveBack(2), 1),
            (GiveBack(1), 1),
            (Spend(2), 0),
            (Spend(4), 0),
            (GiveBack(9), 2),
            (Spend(0), 0),
        ]
        .into_iter()
        .enumerate()
        {
            let ask = pressed(one(limit.tag(), &limit, hits), &marks, &[20, 20]);
            let outcome = charge(&*store, &ask, after(0)).await;
            assert!(outcome.admitted);
            assert_eq!(outcome.levels.as_slice(), [level], "{limit}, step {step}");
        }
    }
}

async fn a_refused_request_moves_a_gauge_too(store: Arc<impl Store>) {
    let limit = total(10);
    let gauge = |hits| pressed(one("k", &limit, hits), &[(1, 8, 5)], &[10]);
    assert!(passes(&*store, &gauge(Spend(9)), 0).await);
    let refused = charge(&*store, &gauge(Spend(5)), after(1)).await;
    assert_eq!((refused.admitted, refused.levels.as_slice()), (false, [1].as_slice()));
    // A request without the gauge leaves it unchanged.
    assert!(passes(&*store, &one("k", &limit, GiveBack(2)), 2).await);
    assert_eq!(charge(&*store, &gauge(Spend(0)), after(3)).await.levels.as_slice(), [1]);
    assert!(passes(&*store, &one("k", &limit, GiveBack(2)), 4).await);
    assert_eq!(charge(&*store, &gauge(Spend(0)), after(5)).await.levels.as_slice(), [0]);
}

async fn a_level_goes_with_the_last_of_its_record(store: Arc<impl Store>) {
    for limit in lasting(10) {
        let ask = |hits| one(limit.tag(), &limit, hits);
        let gauge = |hits| pressed(ask(hits), &[(1, 8, 0)], &[10]);
        assert!(passes(&*store, &gauge(Spend(9)), 0).await);
        assert_eq!(charge(&*store, &gauge(Spend(0)), after(0)).await.levels.as_slice(), [1]);
        // In Redis these share a call.
        let (back, spend, peek) = (ask(GiveBack(9)), ask(Spend(1)), gauge(Spend(0)));
        let (back, spend, peek) = tokio::join!(
            charge(&*store, &back, after(0)),
            charge(&*store, &spend, after(0)),
            charge(&*store, &peek, after(0)),
        );
        assert!(back.admitted && spend.admitted);
        assert_eq!(peek.levels.as_slice(), [0], "{limit}");
    }
}

async fn a_gauge_reads_all_its_limits(store: Arc<impl Store>) {
    let (second, hour) = (sliding(10, 1_000), sliding(100, 3_600_000));
    let charges = [("k", 0, Enforce, &second, Spend(9)), ("k", 0, Enforce, &hour, Spend(9))];
    let mut ask = batch(&charges);
    let marks = [
        Mark { charge: 0, level: 1, rise: 8, fall: 8 },
        Mark { charge: 1, level: 2, rise: 17, fall: 17 },
    ];
    ask.gauges.push(Gauge { key_index: 0, marks: marks.into_iter().collect() });
    for (ms, level) in [(0, 0), (500, 1), (1_000, 0), (2_000, 2)] {
        let outcome = charge(&*store, &ask, after(ms)).await;
        assert_eq!(outcome.levels.as_slice(), [level], "{ms}");
    }
}

async fn a_request_may_meet_many_gauges(store: Arc<impl Store>) {
    let limit = sliding(10, 60_000);
    for gauges in [254, 255, 256, 300] {
        let names: Vec<String> = (0..gauges).map(|n| format!("{gauges}-{n}")).collect();
        let charges = names.iter().map(|name| (name.as_str(), 0, Enforce, &limit, Spend(9)));
        let mut ask = batch(&charges.collect::<Vec<_>>());
        for index in 0..gauges {
            let mark = Mark { charge: index, level: 1, rise: 8, fall: 8 };
            ask.gauges.push(Gauge { key_index: index, marks: std::iter::once(mark).collect() });
        }
        // All of them restrict the last one, and leave less of it open than it has.
        let pressed = |gauge| Pressed { gauge, hits: std::iter::once(5).collect() };
        ask.charges[gauges - 1].open.pressed = (0..gauges).map(pressed).collect();
        let first = charge(&*store, &ask, after(0)).await;
        assert!(first.admitted && first.levels.iter().all(|level| *level == 0), "{gauges}");
        let second = charge(&*store, &ask, after(1)).await;
        assert!(!second.admitted && second.levels.iter().all(|level| *level == 1), "{gauges}");
        assert_eq!(second.decisions[gauges - 1].standing.remaining, 0, "{gauges}");
    }
}

async fn an_overdraft_counts_in_full_and_is_paid_back(store: Arc<impl Store>) {
    for plain in lasting(10) {
        let limit = overdrawn(&plain, Overdraft::Allow);
        let name = limit.tag();
        assert!(passes(&*store, &one(name, &limit, Spend(9)), 0).await, "{limit}");
        let outcome = charge(&*store, &one(name, &limit, Spend(50)), after(1)).await;
        assert!(outcome.admitted, "{limit}");
        assert_eq!(outcome.decisions[0].standing.remaining, 0, "{limit}");
        for hits in [1, 50] {
            assert!(!passes(&*store, &one(name, &limit, Spend(hits)), 2).await, "{limit}");
        }
        assert!(passes(&*store, &one(name, &limit, GiveBack(48)), 3).await, "{limit}");
        assert_eq!(remaining(&*store, name, &plain, 3).await, 0, "{limit}");
        assert!(passes(&*store, &one(name, &limit, GiveBack(2)), 3).await, "{limit}");
        assert_eq!(remaining(&*store, name, &plain, 3).await, 1, "{limit}");
        assert!(passes(&*store, &one(name, &limit, Spend(0)), 3).await, "{limit}");
    }
}

async fn a_clipped_overdraft_forgives_the_rest(store: Arc<impl Store>) {
    for plain in lasting(10) {
        let limit = overdrawn(&plain, Overdraft::Clip);
        let name = limit.tag();
        assert!(passes(&*store, &one(name, &limit, Spend(9)), 0).await, "{limit}");
        assert!(passes(&*store, &one(name, &limit, Spend(50)), 1).await, "{limit}");
        assert!(!passes(&*store, &one(name, &limit, Spend(50)), 1).await, "{limit}");
        assert!(passes(&*store, &one(name, &limit, GiveBack(1)), 2).await, "{limit}");
        assert_eq!(remaining(&*store, name, &plain, 2).await, 1, "{limit}");
    }
}

async fn the_wait_for_an_overdraft_is_exact(store: Arc<impl Store>) {
    let debt = overdrawn(&bucket(10, 1_000, 10), Overdraft::Allow);
    assert!(passes(&*store, &one("b", &debt, Spend(3)), 0).await);
    assert!(passes(&*store, &one("b", &debt, Spend(17)), 0).await);
    assert_eq!(exact_wait(&*store, &one("b", &debt, Spend(17)), 50).await, 1_050);
    let window = overdrawn(&sliding(10, 10_000), Overdraft::Clip);
    assert!(passes(&*store, &one("s", &window, Spend(4)), 0).await);
    assert!(passes(&*store, &one("s", &window, Spend(7)), 3_000).await);
    assert_eq!(exact_wait(&*store, &one("s", &window, Spend(90)), 4_000).await, 6_000);
}

async fn no_number_of_hits_overflows_an_overdraft(store: Arc<impl Store>) {
    let most = tollgate::limit::AMOUNT_MAX;
    for limit in [sliding(most, 600_000), total(most), bucket(1_000_000, 600_000, 1_000_000)] {
        let limit = overdrawn(&limit, Overdraft::Allow);
        let mut higher = one(limit.tag(), &limit, Spend(u64::MAX));
        assert!(passes(&*store, &higher, 0).await, "{limit}");
        assert!(!passes(&*store, &higher, 0).await, "{limit}");
        // Bonuses let it go on.
        for id in ["a", "b", "c", "d", "e"] {
            higher = with_bonuses(higher, &[(id, 1, 600_000)]);
            assert!(passes(&*store, &higher, 1).await, "{limit}");
        }
        for _ in 0..20 {
            let back = one(limit.tag(), &limit, GiveBack(u64::MAX));
            assert!(passes(&*store, &back, 2).await, "{limit}");
        }
        let left = remaining(&*store, limit.tag(), &limit, 2).await;
        assert_eq!(left, limit.capacity(), "{limit}");
    }
}

async fn classes_and_bonuses_together_never_exceed(store: Arc<impl Store + 'static>) {
    const TASKS: usize = 16;
    const REQUESTS: usize = 50;
    let now = Clock::system().now().timestamp();
    let until_ms = now.as_ms() - START_MS + 3_600_000;
    let (shared, own) = (total(300), sliding(5_000, 600_000));
    let premium =
        batch(&[("shared", 0, Enforce, &shared, Spend(1)), ("own", 1, Enforce, &own, Spend(1))]);
    let mut free = premium.clone();
    free.charges[0].open.hits = 200;
    let premium = with_bonuses(premium, &[("a", 15, until_ms), ("b", 25, until_ms + 1)]);
    let tasks: Vec<_> = (0..TASKS)
        .map(|task| {
            let store = store.clone();
            let ask = if task % 2 == 0 { premium.clone() } else { free.clone() };
            tokio::spawn(async move {
                let mut admitted = [0, 0];
                for _ in 0..REQUESTS {
                    let now = Clock::system().now();
                    let passed = charge(&*store, &ask, now).await.admitted;
                    admitted[task % 2] += u64::from(passed);
                }
                admitted
            })
        })
        .collect();
    let (mut premium, mut free) = (0, 0);
    for task in tasks {
        let admitted = task.await.unwrap();
        premium += admitted[0];
        free += admitted[1];
    }
    assert_eq!(premium + free, 340);
    assert!(free <= 200, "{free}");
}
