//! Corrections: a count is set to what was counted elsewhere, and no change meanwhile is lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::task::JoinSet;
use tollgate::clock::Timestamp;
use tollgate::limit::Hits::{GiveBack, Spend};
use tollgate::limit::{Hits, Limit, Overdraft};
use tollgate::store::{Batch, CORRECTION_LIFE_MS, Once, Outcome, Retry, Store};

use crate::support::batch::{START_MS, after, one, overdrawn, total};
use crate::support::claims::{charge, of_every_store, passes, remaining};

of_every_store! {
    a_count_moves_by_what_was_wrong
    a_correction_counts_more_than_the_limit_has_and_is_never_below_zero
    a_correction_is_made_once_for_each_reading
    a_correction_of_an_older_reading_is_refused_unless_it_is_the_same
    a_correction_is_remembered_for_a_day_and_gone_then
    no_take_and_no_give_is_lost_beside_corrections
}

/// The correction of what was read so many milliseconds after the beginning.
fn correction(name: &str, limit: &Arc<Limit>, hits: Hits, read_ms: u64) -> Batch {
    let overdraft = if matches!(hits, Spend(_)) { Overdraft::Owed } else { Overdraft::None };
    let mut batch = one(name, &overdrawn(limit, overdraft), hits);
    let read_at = Timestamp::from_ms(START_MS + read_ms);
    batch.charges[0].once = Some(Once::Correction { read_at });
    batch
}

fn retry(outcome: &Outcome) -> Option<Retry> {
    outcome.decisions[0].retry
}

async fn a_count_moves_by_what_was_wrong(store: Arc<impl Store>) {
    let limit = total(100);
    assert!(passes(&*store, &one("k", &limit, Spend(60)), 0).await);
    let outcome = charge(&*store, &correction("k", &limit, GiveBack(7), 1), after(2)).await;
    assert_eq!((outcome.admitted, retry(&outcome)), (true, None));
    assert_eq!(outcome.decisions[0].standing.remaining, 47);
    let outcome = charge(&*store, &correction("k", &limit, Spend(11), 3), after(4)).await;
    assert_eq!((outcome.admitted, retry(&outcome)), (true, None));
    assert_eq!(remaining(&*store, "k", &limit, 5).await, 36);
}

async fn a_correction_counts_more_than_the_limit_has_and_is_never_below_zero(
    store: Arc<impl Store>,
) {
    let limit = total(10);
    assert!(passes(&*store, &correction("k", &limit, Spend(25), 0), 1).await);
    assert!(!passes(&*store, &one("k", &limit, Spend(1)), 2).await);
    assert_eq!(remaining(&*store, "k", &total(100), 2).await, 75);
    assert!(passes(&*store, &correction("k", &limit, GiveBack(40), 2), 3).await);
    assert_eq!(remaining(&*store, "k", &limit, 4).await, 10);
    assert!(passes(&*store, &one("k", &limit, Spend(10)), 4).await);
}

async fn a_correction_is_made_once_for_each_reading(store: Arc<impl Store>) {
    let limit = total(100);
    assert!(passes(&*store, &one("k", &limit, Spend(60)), 0).await);
    for ms in 2..5 {
        let outcome = charge(&*store, &correction("k", &limit, GiveBack(7), 1), after(ms)).await;
        let expected = (2 < ms).then_some(Retry::Free { age_ms: u32::try_from(ms - 2).unwrap() });
        assert_eq!((outcome.admitted, retry(&outcome)), (true, expected), "{ms}");
        assert_eq!(outcome.decisions[0].standing.remaining, 47, "{ms}");
    }
    // One of the same millisecond may have been read before it.
    let outcome = charge(&*store, &correction("k", &limit, GiveBack(7), 2), after(5)).await;
    assert_eq!(retry(&outcome), Some(Retry::Free { age_ms: 3 }));
    let outcome = charge(&*store, &correction("k", &limit, GiveBack(7), 3), after(5)).await;
    assert_eq!((outcome.admitted, retry(&outcome)), (true, None));
    assert_eq!(remaining(&*store, "k", &limit, 5).await, 54);
    // The count may be right, which has no sign.
    let right = async |hits| {
        charge(&*store, &correction("right", &limit, hits, 5), after(6)).await.decisions[0].retry
    };
    assert_eq!(right(Spend(0)).await, None);
    assert_eq!(right(GiveBack(0)).await, Some(Retry::Free { age_ms: 0 }));
    assert_eq!(right(GiveBack(1)).await, Some(Retry::Conflict));
}

async fn a_correction_of_an_older_reading_is_refused_unless_it_is_the_same(store: Arc<impl Store>) {
    let limit = total(100);
    assert!(passes(&*store, &one("k", &limit, Spend(60)), 0).await);
    assert!(passes(&*store, &correction("k", &limit, GiveBack(7), 1), 2).await);
    for hits in [GiveBack(8), Spend(7), Spend(1), Spend(0)] {
        let outcome = charge(&*store, &correction("k", &limit, hits, 1), after(3)).await;
        let reported = (outcome.admitted, retry(&outcome));
        assert_eq!(reported, (false, Some(Retry::Conflict)), "{hits:?}");
    }
    assert_eq!(remaining(&*store, "k", &limit, 3).await, 47);
    // One that finds the count right is a correction, too.
    assert!(passes(&*store, &correction("k", &limit, Spend(0), 3), 4).await);
    let outcome = charge(&*store, &correction("k", &limit, Spend(0), 3), after(5)).await;
    assert_eq!((outcome.admitted, retry(&outcome)), (true, Some(Retry::Free { age_ms: 1 })));
    let outcome = charge(&*store, &correction("k", &limit, Spend(5), 3), after(5)).await;
    assert_eq!((outcome.admitted, retry(&outcome)), (false, Some(Retry::Conflict)));
    assert_eq!(remaining(&*store, "k", &limit, 5).await, 47);
    // It is of one counter.
    assert!(passes(&*store, &correction("other", &limit, Spend(8), 1), 3).await);
}

async fn a_correction_is_remembered_for_a_day_and_gone_then(store: Arc<impl Store>) {
    let limit = total(100);
    assert!(passes(&*store, &correction("k", &limit, Spend(7), 0), 1).await);
    // Even if nothing is in use.
    assert!(passes(&*store, &one("k", &limit, GiveBack(7)), 2).await);
    let last = CORRECTION_LIFE_MS;
    let outcome = charge(&*store, &correction("k", &limit, Spend(9), 0), after(last)).await;
    assert_eq!((outcome.admitted, retry(&outcome)), (false, Some(Retry::Conflict)));
    let ended = charge(&*store, &correction("k", &limit, Spend(9), 0), after(1 + last)).await;
    assert_eq!((ended.admitted, retry(&ended)), (true, None));
    assert_eq!(remaining(&*store, "k", &limit, 1 + last).await, 91);
}

/// Tasks take and give back one by one; meanwhile others read and correct by what they know to be wrong.
async fn no_take_and_no_give_is_lost_beside_corrections<S: Store + 'static>(store: Arc<S>) {
    const TASKS: u64 = 6;
    const STEPS: u64 = 40;
    let limit = total(50);
    let (taken, given) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let mut tasks = JoinSet::new();
    for task in 0..TASKS {
        let (store, limit) = (store.clone(), limit.clone());
        let (taken, given) = (taken.clone(), given.clone());
        tasks.spawn(async move {
            for step in 0..STEPS {
                if passes(&*store, &one("k", &limit, Spend(1)), 0).await {
                    taken.fetch_add(1, Ordering::SeqCst);
                    // It is in use, so it can be given back.
                    if (task + step) % 3 != 0 {
                        assert!(passes(&*store, &one("k", &limit, GiveBack(1)), 0).await);
                        given.fetch_add(1, Ordering::SeqCst);
                    }
                }
            }
        });
    }
    // Each of these is made once, whoever sends it.
    for _ in 0..2 {
        let (store, limit) = (store.clone(), limit.clone());
        tasks.spawn(async move {
            for step in 0..STEPS {
                let ms = 10 * step;
                let outcome =
                    charge(&*store, &correction("k", &limit, Spend(2), ms), after(ms + 1)).await;
                assert!(outcome.admitted, "{outcome:?}");
            }
        });
    }
    tasks.join_all().await;
    let (taken, given) = (taken.load(Ordering::SeqCst), given.load(Ordering::SeqCst));
    let wide = total(10_000);
    let used = 10_000 - remaining(&*store, "k", &wide, 1_000).await;
    assert_eq!(used, taken - given + 2 * STEPS);
}
