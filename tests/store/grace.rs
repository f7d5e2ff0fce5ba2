//! Grace: the limit may be exceeded for a limited time from the first breach on, and then not until the window ends.

use std::sync::Arc;

use futures_util::future::join_all;
use tollgate::limit::Hits::{GiveBack, Spend};
use tollgate::limit::{CalendarUnit, Fit, Limit};
use tollgate::store::{Batch, Store};

use crate::support::batch::{
    START_MS, after, bucket, calendar, fixed, on_schedule, one, opened, sliding, total,
    with_bonuses,
};
use crate::support::claims::{charge, exact_wait, of_every_store, passes, remaining};

const MINUTE_MS: u64 = 60_000;
const HOUR_MS: u64 = 3_600_000;

/// The duration of a grace here.
const GRACE_MS: u64 = 10_000;

/// The end of the first fixed window.
const WINDOW_END_MS: u64 = HOUR_MS - START_MS % HOUR_MS;

of_every_store! {
    a_tenth_more_passes_for_a_while_and_no_more_before_the_window_ends
    a_sliding_window_has_a_grace_again_a_window_after_it_ended
    a_total_has_a_grace_again_when_enough_came_back
    the_answer_tells_until_when
    what_does_not_fit_in_the_grace_is_refused_whole
    bonuses_are_spent_before_the_grace
    hits_that_come_back_do_not_prolong_it
    many_tasks_together_never_exceed_the_grace
    an_amount_that_falls_during_a_grace_leaves_less_beyond_it
    more_in_use_than_an_amount_that_fell_begins_a_grace_with_the_next_request
    a_promised_wait_sees_the_grace_of_an_amount_that_rises
    a_grace_of_less_than_a_hit_is_one_when_the_amount_is_larger
    a_look_tells_what_a_grace_would_let_pass
}

/// Milliseconds after the tests' beginning at which the minutes 15:07 and 15:08 begin.
const EDGE_MS: u64 = 19_877;
const END_MS: u64 = EDGE_MS + MINUTE_MS;

/// The same limit with a grace of a tenth.
fn graced(limit: &Arc<Limit>) -> Arc<Limit> {
    Arc::new(Limit::clone(limit).with_grace(10, GRACE_MS))
}

fn ask(name: &str, limit: &Arc<Limit>, hits: u64) -> Batch {
    one(name, limit, Spend(hits))
}

/// The same limit with a grace of a tenth, and so many percent of its amount from 15:07 to 15:08.
fn scheduled(limit: &Arc<Limit>, percent: u32) -> Arc<Limit> {
    on_schedule(&graced(limit), &[((907, 908), percent)])
}

/// What a grace would let pass beyond what remains.
async fn left(store: &impl Store, name: &str, limit: &Arc<Limit>, ms: u64) -> u64 {
    charge(store, &ask(name, limit, 0), after(ms)).await.grace_left(0)
}

/// The reported end of a grace, in milliseconds after the start.
async fn reported(store: &impl Store, batch: &Batch, ms: u64) -> Option<u64> {
    let outcome = charge(store, batch, after(ms)).await;
    let until = outcome.notices.first().and_then(|notice| notice.grace_until);
    until.map(|until| until.as_ms() - START_MS)
}

async fn a_tenth_more_passes_for_a_while_and_no_more_before_the_window_ends(
    store: Arc<impl Store>,
) {
    for limit in [fixed(100, HOUR_MS), calendar(100, CalendarUnit::Hour, "UTC")] {
        let (limit, name) = (graced(&limit), limit.tag().to_string());
        assert!(passes(&*store, &ask(&name, &limit, 100), 0).await);
        // The first breach begins it, not the last hit of the limit.
        assert!(passes(&*store, &ask(&name, &limit, 4), 5_000).await);
        assert!(passes(&*store, &ask(&name, &limit, 1), 5_000 + GRACE_MS - 1).await);
        assert!(!passes(&*store, &ask(&name, &limit, 6), 5_000 + GRACE_MS - 1).await);
        assert_eq!(remaining(&*store, &name, &limit, 5_000 + GRACE_MS - 1).await, 0);
        let ends = 5_000 + GRACE_MS;
        let wait = exact_wait(&*store, &ask(&name, &limit, 1), ends).await;
        assert_eq!(wait, WINDOW_END_MS - ends, "{limit}");
        // That was the first one of the next window, which has a grace of its own.
        assert!(passes(&*store, &ask(&name, &limit, 109), WINDOW_END_MS).await);
        assert!(!passes(&*store, &ask(&name, &limit, 1), WINDOW_END_MS).await);
    }
}

async fn a_sliding_window_has_a_grace_again_a_window_after_it_ended(store: Arc<impl Store>) {
    // An exact log.
    let limit = graced(&sliding(50, MINUTE_MS));
    assert!(passes(&*store, &ask("slides", &limit, 54), 0).await);
    let hard = GRACE_MS;
    // It ends, and nothing passes until the hits have left the window.
    assert_eq!(exact_wait(&*store, &ask("slides", &limit, 1), hard).await, MINUTE_MS - hard);
    // 49 are left without a grace, which comes back when a window has passed since its end.
    assert!(!passes(&*store, &ask("slides", &limit, 50), MINUTE_MS).await);
    assert!(passes(&*store, &ask("slides", &limit, 49), MINUTE_MS).await);
    let wait = exact_wait(&*store, &ask("slides", &limit, 4), MINUTE_MS + 1).await;
    assert_eq!(MINUTE_MS + 1 + wait, GRACE_MS + MINUTE_MS);
    let until = reported(&*store, &ask("slides", &limit, 0), GRACE_MS + MINUTE_MS + 1).await;
    assert_eq!(until, Some(2 * GRACE_MS + MINUTE_MS));

    let limit = graced(&bucket(60, MINUTE_MS, 60));
    assert!(passes(&*store, &ask("fills", &limit, 66), 0).await);
    // Six and one more are refilled after seven seconds, in the grace or after it.
    assert_eq!(exact_wait(&*store, &ask("fills", &limit, 1), 0).await, 1_000);
    assert_eq!(exact_wait(&*store, &ask("fills", &limit, 7), 1_000).await, 7_000);
    assert_eq!(exact_wait(&*store, &ask("fills", &limit, 3), GRACE_MS).await, 7_000);
}

async fn a_total_has_a_grace_again_when_enough_came_back(store: Arc<impl Store>) {
    let limit = graced(&total(50));
    assert!(passes(&*store, &ask("total", &limit, 54), 0).await);
    assert!(passes(&*store, &ask("total", &limit, 1), GRACE_MS - 1).await);
    let back = |hits| one("total", &limit, GiveBack(hits));
    // At 46 it has no grace yet, at 45 it has.
    assert!(passes(&*store, &back(9), GRACE_MS).await);
    assert!(!passes(&*store, &ask("total", &limit, 5), GRACE_MS).await);
    assert!(passes(&*store, &back(1), GRACE_MS).await);
    assert!(passes(&*store, &ask("total", &limit, 10), GRACE_MS).await);
    assert_eq!(reported(&*store, &ask("total", &limit, 0), GRACE_MS).await, Some(2 * GRACE_MS));
    // All comes back: nothing of it is left.
    assert!(passes(&*store, &back(100), GRACE_MS).await);
    assert!(passes(&*store, &ask("total", &limit, 55), 10 * GRACE_MS).await);
}

async fn the_answer_tells_until_when(store: Arc<impl Store>) {
    let limit = graced(&fixed(100, HOUR_MS));
    assert_eq!(reported(&*store, &ask("told", &limit, 100), 0).await, None);
    let until = Some(1 + GRACE_MS);
    assert_eq!(reported(&*store, &ask("told", &limit, 3), 1).await, until);
    assert_eq!(reported(&*store, &ask("told", &limit, 0), 2).await, until, "a look");
    assert_eq!(reported(&*store, &ask("told", &limit, 50), 2).await, until, "a refusal");
    assert_eq!(reported(&*store, &ask("told", &limit, 1), GRACE_MS).await, until);
    assert_eq!(reported(&*store, &ask("told", &limit, 0), 1 + GRACE_MS).await, None);
}

async fn what_does_not_fit_in_the_grace_is_refused_whole(store: Arc<impl Store>) {
    let limit = graced(&fixed(100, HOUR_MS));
    assert!(!passes(&*store, &ask("whole", &limit, 111), 0).await);
    assert_eq!(remaining(&*store, "whole", &limit, 0).await, 100);
    assert!(passes(&*store, &ask("whole", &limit, 110), 0).await);
    // A tenth of nothing is no grace.
    let none = graced(&fixed(9, HOUR_MS));
    assert!(!passes(&*store, &ask("small", &none, 10), 0).await);
    assert!(passes(&*store, &ask("small", &none, 9), 0).await);
}

async fn bonuses_are_spent_before_the_grace(store: Arc<impl Store>) {
    let limit = graced(&fixed(100, HOUR_MS));
    let ask = |hits| with_bonuses(ask("bonus", &limit, hits), &[("gift", 20, HOUR_MS)]);
    assert_eq!(reported(&*store, &ask(115), 0).await, None);
    assert_eq!(reported(&*store, &ask(10), 1).await, Some(1 + GRACE_MS));
    assert!(!passes(&*store, &ask(6), 2).await);
    assert!(passes(&*store, &ask(5), 2).await);
}

async fn hits_that_come_back_do_not_prolong_it(store: Arc<impl Store>) {
    let limit = graced(&fixed(100, HOUR_MS));
    assert!(passes(&*store, &ask("back", &limit, 105), 0).await);
    assert!(passes(&*store, &one("back", &limit, GiveBack(105)), 1).await);
    assert!(passes(&*store, &ask("back", &limit, 104), GRACE_MS - 1).await);
    assert!(passes(&*store, &one("back", &limit, GiveBack(104)), GRACE_MS).await);
    assert!(!passes(&*store, &ask("back", &limit, 101), GRACE_MS).await);
    assert!(passes(&*store, &ask("back", &limit, 100), GRACE_MS).await);
}

async fn many_tasks_together_never_exceed_the_grace(store: Arc<impl Store + 'static>) {
    for limit in [fixed(100, HOUR_MS), sliding(100, MINUTE_MS), bucket(100, HOUR_MS, 100)] {
        let limit = graced(&limit);
        let name = format!("many {}", limit.tag());
        let tasks = (0..20).map(|task| {
            let (store, ask) = (store.clone(), ask(&name, &limit, 1));
            tokio::spawn(async move {
                let mut passed = 0;
                for step in 0..10 {
                    passed += u64::from(passes(&*store, &ask, (task + step) % 3).await);
                }
                passed
            })
        });
        let passed: u64 = join_all(tasks).await.into_iter().map(Result::unwrap).sum();
        assert_eq!(passed, 110, "{limit}");
    }
}

async fn an_amount_that_falls_during_a_grace_leaves_less_beyond_it(store: Arc<impl Store>) {
    for limit in [fixed(100, HOUR_MS), calendar(100, CalendarUnit::Hour, "UTC")] {
        let limit = scheduled(&limit, 80);
        let name = limit.tag();
        let begun = EDGE_MS - 1_000;
        assert!(passes(&*store, &ask(name, &limit, 84), 0).await, "{limit}");
        assert!(passes(&*store, &ask(name, &limit, 17), begun).await, "{limit}");
        assert_eq!(left(&*store, name, &limit, EDGE_MS - 1).await, 9, "{limit}");
        // 80 and 8 are fewer than are in use. The grace has begun, and goes on.
        assert_eq!(left(&*store, name, &limit, EDGE_MS).await, 0, "{limit}");
        assert!(!passes(&*store, &ask(name, &limit, 1), EDGE_MS).await, "{limit}");
        let until = Some(begun + GRACE_MS);
        assert_eq!(reported(&*store, &ask(name, &limit, 0), EDGE_MS).await, until, "{limit}");
        assert!(passes(&*store, &one(name, &limit, GiveBack(15)), EDGE_MS).await, "{limit}");
        assert!(passes(&*store, &ask(name, &limit, 2), EDGE_MS).await, "{limit}");
        assert!(!passes(&*store, &ask(name, &limit, 1), EDGE_MS).await, "{limit}");
        // It has ended when the amount rises again, and there is one in a window.
        let wait = exact_wait(&*store, &ask(name, &limit, 12), EDGE_MS).await;
        assert_eq!(EDGE_MS + wait, END_MS, "{limit}");
        let wait = exact_wait(&*store, &ask(name, &limit, 1), END_MS).await;
        assert_eq!(END_MS + wait, WINDOW_END_MS, "{limit}");
    }
}

async fn more_in_use_than_an_amount_that_fell_begins_a_grace_with_the_next_request(
    store: Arc<impl Store>,
) {
    let limit = scheduled(&fixed(100, HOUR_MS), 80);
    assert!(passes(&*store, &ask("fell", &limit, 85), 0).await);
    assert_eq!(reported(&*store, &ask("fell", &limit, 0), EDGE_MS).await, None);
    assert!(!passes(&*store, &ask("fell", &limit, 4), EDGE_MS).await);
    let until = Some(EDGE_MS + 5 + GRACE_MS);
    assert_eq!(reported(&*store, &ask("fell", &limit, 1), EDGE_MS + 5).await, until);
    let ends = EDGE_MS + 5 + GRACE_MS;
    let wait = exact_wait(&*store, &ask("fell", &limit, 1), ends).await;
    assert_eq!(ends + wait, END_MS);

    // A total has one again when a request leaves few enough in use of its amount then.
    let limit = scheduled(&total(100), 200);
    assert!(passes(&*store, &ask("rose", &limit, 105), 0).await);
    assert!(!passes(&*store, &ask("rose", &limit, 1), GRACE_MS).await);
    assert!(passes(&*store, &ask("rose", &limit, 75), EDGE_MS).await);
    assert!(passes(&*store, &ask("rose", &limit, 40), EDGE_MS + 1).await);
    assert!(!passes(&*store, &ask("rose", &limit, 1), EDGE_MS + 1).await);
}

async fn a_promised_wait_sees_the_grace_of_an_amount_that_rises(store: Arc<impl Store>) {
    let limits = [
        fixed(100, HOUR_MS),
        sliding(100, HOUR_MS),
        bucket(100, HOUR_MS, 100),
        calendar(100, CalendarUnit::Hour, "UTC"),
        total(100),
    ];
    for limit in limits {
        let limit = scheduled(&limit, 150);
        let name = limit.tag();
        let outcome = charge(&*store, &ask(name, &limit, 166), after(0)).await;
        assert_eq!(outcome.decisions[0].fit, Fit::Never, "{limit}");
        let part = opened(ask(name, &limit, 151), 90);
        let outcome = charge(&*store, &part, after(0)).await;
        assert_eq!(outcome.decisions[0].fit, Fit::Never, "{limit}: not all of it is open");
        assert_eq!(exact_wait(&*store, &ask(name, &limit, 165), 0).await, EDGE_MS, "{limit}");
        // What that spent is more than a grace of 100 has, and the grace ends.
        assert!(!passes(&*store, &ask(name, &limit, 1), END_MS).await, "{limit}");
    }
}

async fn a_grace_of_less_than_a_hit_is_one_when_the_amount_is_larger(store: Arc<impl Store>) {
    let limit = scheduled(&fixed(9, HOUR_MS), 200);
    assert!(!passes(&*store, &ask("small", &limit, 10), EDGE_MS - 1).await);
    assert!(passes(&*store, &ask("small", &limit, 19), EDGE_MS).await);
    assert_eq!(
        reported(&*store, &ask("small", &limit, 0), EDGE_MS).await,
        Some(EDGE_MS + GRACE_MS)
    );
    assert!(!passes(&*store, &ask("small", &limit, 1), EDGE_MS).await);
}

async fn a_look_tells_what_a_grace_would_let_pass(store: Arc<impl Store>) {
    let limit = graced(&fixed(100, HOUR_MS));
    assert_eq!(left(&*store, "look", &limit, 0).await, 10);
    assert!(passes(&*store, &ask("look", &limit, 103), 0).await);
    assert_eq!(left(&*store, "look", &limit, GRACE_MS - 1).await, 7);
    assert_eq!(left(&*store, "look", &limit, GRACE_MS).await, 0);
    assert_eq!(left(&*store, "look", &limit, WINDOW_END_MS).await, 10);
    let part = opened(ask("look", &limit, 0), 90);
    assert_eq!(charge(&*store, &part, after(WINDOW_END_MS)).await.grace_left(0), 0);
}
