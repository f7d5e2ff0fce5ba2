//! The contract of every store for idempotency keys: retries are free, one after the other and concurrently, on one
//! slot and on several.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::task::JoinSet;
use tollgate::limit::Fit;
use tollgate::limit::Hits::{GiveBack, Spend};
use tollgate::policy::Mode::{Enforce, Shadow};
use tollgate::policy::Refused;
use tollgate::store::{Batch, Once, Outcome, Retry, Store};

use crate::support::batch::{
    MARK_LIFE_MS, after, batch, fixed, looking, one, one_of_each, sliding, total, with_bonuses,
    with_id,
};
use crate::support::claims::{charge, exact_wait, of_every_store, passes, remaining};

of_every_store! {
    a_retry_is_free_and_passes_although_nothing_is_left
    a_refused_attempt_costs_nothing_and_is_decided_anew
    other_hits_under_the_same_key_are_refused_and_cost_nothing
    a_conflict_with_a_shadow_refuses_nobody
    a_retry_is_free_until_the_mark_ends
    more_retries_than_allowed_are_charged_once_more
    one_key_is_of_one_counter
    hits_come_back_once
    a_peek_leaves_no_mark
    a_look_finds_what_was_charged_and_uses_up_no_retry
    a_limit_that_is_new_is_charged_by_the_retry
    the_promised_wait_is_exact_with_a_key
    a_request_on_many_slots_is_charged_once
    what_many_slots_refuse_leaves_no_mark_on_any
    attempts_that_are_refused_elsewhere_use_up_no_retries
    a_debit_that_was_refused_counts_once_and_is_refused_until_the_limit_is_not_overdrawn
    hits_of_the_last_attempt_go_back_to_where_the_first_took_them
    many_attempts_at_once_are_charged_once
    many_attempts_at_once_that_are_refused_cost_nothing
}

fn is_retry(outcome: &Outcome) -> bool {
    outcome.decisions.iter().all(|decision| decision.retry.is_some_and(Retry::is_free))
}

async fn a_retry_is_free_and_passes_although_nothing_is_left(store: Arc<impl Store>) {
    for limit in one_of_each(10) {
        let name = limit.tag();
        let ask = || with_id(one(name, &limit, Spend(3)), "id");
        let first = charge(&*store, &ask(), after(0)).await;
        assert!(first.admitted && !is_retry(&first), "{limit}");
        assert!(passes(&*store, &one(name, &limit, Spend(7)), 0).await, "{limit}");
        for _ in 2..5 {
            let again = charge(&*store, &ask(), after(0)).await;
            assert!(again.admitted && is_retry(&again), "{limit}");
            assert_eq!(again.decisions[0].standing.remaining, 0, "{limit}");
        }
        let other = with_id(one(name, &limit, Spend(3)), "other");
        assert!(!passes(&*store, &other, 0).await, "{limit}");
    }
}

async fn a_refused_attempt_costs_nothing_and_is_decided_anew(store: Arc<impl Store>) {
    let limit = sliding(10, 60_000);
    assert!(passes(&*store, &one("k", &limit, Spend(10)), 0).await);
    let ask = || with_id(one("k", &limit, Spend(1)), "id");
    assert!(!passes(&*store, &ask(), 1).await);
    assert!(!passes(&*store, &ask(), 1).await);
    assert!(passes(&*store, &ask(), 70_000).await);
    assert!(passes(&*store, &ask(), 70_000).await);
    assert_eq!(remaining(&*store, "k", &limit, 70_000).await, 9);
}

async fn other_hits_under_the_same_key_are_refused_and_cost_nothing(store: Arc<impl Store>) {
    let (limit, beside) = (sliding(10, 60_000), fixed(10, 60_000));
    assert!(passes(&*store, &with_id(one("k", &limit, Spend(2)), "id"), 0).await);
    for hits in [Spend(3), Spend(1)] {
        let ask =
            batch(&[("beside", 0, Enforce, &beside, Spend(1)), ("k", 1, Enforce, &limit, hits)]);
        let outcome = charge(&*store, &with_id(ask, "id"), after(1)).await;
        assert!(!outcome.admitted, "{hits:?}");
        assert_eq!(outcome.decisions[1].fit, Fit::Never, "{hits:?}");
        assert_eq!(outcome.decisions[1].retry, Some(Retry::Conflict), "{hits:?}");
    }
    let back = charge(&*store, &with_id(one("k", &limit, GiveBack(2)), "id"), after(1)).await;
    assert_eq!((back.admitted, back.decisions[0].retry), (false, Some(Retry::Conflict)));
    assert_eq!(remaining(&*store, "k", &limit, 1).await, 8);
    assert_eq!(remaining(&*store, "beside", &beside, 1).await, 10);
    assert!(passes(&*store, &with_id(one("k", &limit, Spend(2)), "id"), 1).await);
    assert_eq!(remaining(&*store, "k", &limit, 1).await, 8);
}

async fn a_conflict_with_a_shadow_refuses_nobody(store: Arc<impl Store>) {
    let limit = sliding(10, 60_000);
    let ask = |hits| with_id(batch(&[("k", 0, Shadow, &limit, Spend(hits))]), "id");
    assert!(passes(&*store, &ask(2), 0).await);
    let outcome = charge(&*store, &ask(3), after(0)).await;
    assert!(outcome.admitted);
    assert_eq!(outcome.decisions[0].retry, Some(Retry::Conflict));
    assert_eq!(remaining(&*store, "k", &limit, 0).await, 8);
}

async fn a_retry_is_free_until_the_mark_ends(store: Arc<impl Store>) {
    let limit = total(10);
    let ask = || with_id(one("k", &limit, Spend(1)), "id");
    for (ms, left) in [(0, 9), (1, 9), (MARK_LIFE_MS - 1, 9), (MARK_LIFE_MS, 8)] {
        assert!(passes(&*store, &ask(), ms).await, "{ms}");
        assert_eq!(remaining(&*store, "k", &limit, ms).await, left, "{ms}");
    }
}

async fn more_retries_than_allowed_are_charged_once_more(store: Arc<impl Store>) {
    let limit = total(10);
    for attempt in 0..12 {
        assert!(passes(&*store, &with_id(one("k", &limit, Spend(1)), "id"), 0).await);
        // Five retries of each are free.
        assert_eq!(remaining(&*store, "k", &limit, 0).await, 9 - attempt / 6, "{attempt}");
    }
}

async fn one_key_is_of_one_counter(store: Arc<impl Store>) {
    let limit = total(10);
    for name in ["a", "b"] {
        assert!(passes(&*store, &with_id(one(name, &limit, Spend(4)), "id"), 0).await);
        assert_eq!(remaining(&*store, name, &limit, 0).await, 6, "{name}");
    }
}

async fn hits_come_back_once(store: Arc<impl Store>) {
    for limit in one_of_each(10) {
        let name = limit.tag();
        assert!(passes(&*store, &one(name, &limit, Spend(8)), 0).await);
        for _ in 0..3 {
            let back = with_id(one(name, &limit, GiveBack(2)), "id");
            assert!(passes(&*store, &back, 0).await);
            assert_eq!(remaining(&*store, name, &limit, 0).await, 4, "{limit}");
        }
    }
}

async fn a_peek_leaves_no_mark(store: Arc<impl Store>) {
    let limit = total(10);
    let ask = |hits| with_id(one("k", &limit, Spend(hits)), "id");
    for (hits, left) in [(0, 10), (4, 6), (0, 6), (4, 6)] {
        let outcome = charge(&*store, &ask(hits), after(0)).await;
        assert_eq!((outcome.admitted, outcome.decisions[0].standing.remaining), (true, left));
    }
}

async fn a_look_finds_what_was_charged_and_uses_up_no_retry(store: Arc<impl Store>) {
    for limit in one_of_each(10) {
        let name = limit.tag();
        let ask = |hits| with_id(one(name, &limit, Spend(hits)), "id");
        let found = async || {
            let outcome = charge(&*store, &looking(ask(0)), after(0)).await;
            assert!(outcome.admitted, "{limit}");
            outcome.decisions[0].retry.is_some_and(Retry::is_free)
        };
        assert!(!found().await, "{limit}");
        assert!(passes(&*store, &ask(3), 0).await, "{limit}");
        for retry in 0..5 {
            assert!(found().await, "{limit}: {retry}");
            assert!(passes(&*store, &ask(3), 0).await, "{limit}: {retry}");
            assert_eq!(remaining(&*store, name, &limit, 0).await, 7, "{limit}: {retry}");
        }
        assert!(!found().await, "{limit}: no more retries are free");
    }
}

async fn a_limit_that_is_new_is_charged_by_the_retry(store: Arc<impl Store>) {
    let (known, new) = (sliding(10, 60_000), sliding(10, 10_000));
    assert!(passes(&*store, &with_id(one("k", &known, Spend(1)), "id"), 0).await);
    let both = [("k", 0, Enforce, &known, Spend(1)), ("k", 0, Enforce, &new, Spend(1))];
    for _ in 2..4 {
        assert!(passes(&*store, &with_id(batch(&both), "id"), 0).await);
        assert_eq!(remaining(&*store, "k", &known, 0).await, 9);
        assert_eq!(remaining(&*store, "k", &new, 0).await, 9);
    }
}

async fn the_promised_wait_is_exact_with_a_key(store: Arc<impl Store>) {
    for limit in [sliding(10, 60_000), fixed(10, 60_000)] {
        let name = limit.tag();
        assert!(passes(&*store, &with_id(one(name, &limit, Spend(8)), "id"), 0).await);
        let wait_ms = exact_wait(&*store, &with_id(one(name, &limit, Spend(3)), "other"), 10).await;
        assert!(wait_ms <= 60_000, "{limit}");
    }
}

/// Counters on several slots of a cluster.
fn names() -> Vec<String> {
    (0..8).map(|number| format!("slot {number}")).collect()
}

/// A request that spends a hit of each of these counters, and of one more that may have none left.
fn of_many(scarce: u64) -> Batch {
    of_many_and("scarce", scarce)
}

fn of_many_and(name: &str, scarce: u64) -> Batch {
    let (wide, narrow) = (sliding(1_000, 60_000), total(scarce));
    let names = names();
    let wides = names.iter().enumerate();
    let mut charges: Vec<_> =
        wides.map(|(group, name)| (name.as_str(), group, Enforce, &wide, Spend(1))).collect();
    charges.push((name, 8, Enforce, &narrow, Spend(1)));
    with_id(batch(&charges), "id")
}

/// The hits in use of each counter of [`of_many`].
async fn used_of_many(store: &impl Store) -> Vec<u64> {
    let mut used = Vec::new();
    for name in names() {
        used.push(1_000 - remaining(store, &name, &sliding(1_000, 60_000), 1).await);
    }
    used
}

async fn a_request_on_many_slots_is_charged_once(store: Arc<impl Store>) {
    for attempt in 0..4 {
        let outcome = charge(&*store, &of_many(1), after(0)).await;
        assert_eq!((outcome.admitted, is_retry(&outcome)), (true, 0 < attempt));
        assert_eq!(used_of_many(&*store).await, [1; 8]);
    }
}

async fn what_many_slots_refuse_leaves_no_mark_on_any(store: Arc<impl Store>) {
    assert!(!passes(&*store, &of_many(0), 0).await);
    assert!(!passes(&*store, &of_many(0), 0).await);
    assert_eq!(used_of_many(&*store).await, [0; 8]);
    let outcome = charge(&*store, &of_many(1), after(0)).await;
    assert!(outcome.admitted && !is_retry(&outcome));
    assert_eq!(used_of_many(&*store).await, [1; 8]);
}

async fn attempts_that_are_refused_elsewhere_use_up_no_retries(store: Arc<impl Store>) {
    assert!(passes(&*store, &of_many(1), 0).await);
    // Five retries are free.
    for _ in 0..8 {
        assert!(!passes(&*store, &of_many_and("empty", 0), 0).await);
    }
    let outcome = charge(&*store, &of_many(1), after(0)).await;
    assert!(outcome.admitted && is_retry(&outcome), "{outcome:?}");
    assert_eq!(used_of_many(&*store).await, [1; 8]);
}

async fn a_debit_that_was_refused_counts_once_and_is_refused_until_the_limit_is_not_overdrawn(
    store: Arc<impl Store>,
) {
    let limit = sliding(10, 60_000);
    let wide = Arc::new(limit.with_amount(1_000));
    let debit = || {
        let mut debit = with_id(one("k", &limit, Spend(4)), "id");
        debit.charges[0].refused = Refused::Counted;
        debit
    };
    assert!(passes(&*store, &one("k", &limit, Spend(9)), 0).await);
    // Five retries are free.
    for attempt in 0..8 {
        let outcome = charge(&*store, &debit(), after(30_000)).await;
        let reported = (outcome.admitted, outcome.decisions[0].counted, is_retry(&outcome));
        assert_eq!(reported, (false, attempt == 0, attempt != 0));
        assert_eq!(remaining(&*store, "k", &wide, 30_000).await, 1_000 - 13);
    }
    // The 9 have left by then.
    let wait_ms = exact_wait(&*store, &debit(), 30_001).await;
    assert!((29_999..=31_000).contains(&wait_ms), "{wait_ms}");
    for _ in 0..3 {
        let outcome = charge(&*store, &debit(), after(70_000)).await;
        assert!(outcome.admitted && is_retry(&outcome), "{outcome:?}");
        assert_eq!(remaining(&*store, "k", &limit, 70_000).await, 6);
    }
}

/// Two attempts, both of which another shard has refused: the second one knows nothing of the first.
async fn hits_of_the_last_attempt_go_back_to_where_the_first_took_them(store: Arc<impl Store>) {
    let limit = fixed(5, 60_000);
    let asked = |hits| with_bonuses(one("k", &limit, hits), &[("b", 9, 600_000)]);
    let attempt = |hits, id, number| {
        let mut batch = with_id(asked(Spend(hits)), id);
        if let Some(Once::Mark(mark)) = &mut batch.charges[0].once {
            mark.attempt = number;
        }
        batch
    };
    let undo = |hits, id, number, ms| {
        let mut batch = attempt(hits, id, number);
        let one = &mut batch.charges[0];
        one.hits = GiveBack(hits);
        one.until = Some(limit.counts_until(hits, after(ms).timestamp()));
        one.once = one.once.and_then(|once| Some(Once::Undo(*once.mark()?)));
        batch
    };
    let left = async |ms| {
        charge(&*store, &asked(Spend(0)), after(ms)).await.decisions[0].standing.remaining
    };
    // Three of the bonus are spent; then three of the limit, in vain.
    assert!(passes(&*store, &asked(Spend(8)), 0).await);
    let spends = [(60_000, 0, "limit", 3), (60_000, 4, "both", 3)];
    for (ms, spent, id, hits) in spends {
        assert!(passes(&*store, &asked(Spend(spent)), ms).await, "{id}");
        let before = left(ms).await;
        for number in [1, 2] {
            assert!(passes(&*store, &attempt(hits, id, number), ms).await, "{id}");
        }
        assert_eq!(left(ms).await, before - hits, "{id}");
        for number in [1, 2] {
            charge(&*store, &undo(hits, id, number, ms), after(ms)).await;
        }
        assert_eq!(left(ms).await, before, "{id}");
    }
    // Of the bonus is left what was, in the next window too.
    assert_eq!(left(60_000).await, 5 - 4 + 6);
    assert_eq!(left(120_000).await, 5 + 6);
}

/// Makes many concurrent attempts at a request; returns how many passed.
async fn attempts<S: Store + 'static>(store: &Arc<S>, scarce: u64) -> usize {
    let passed = Arc::new(AtomicUsize::new(0));
    let mut tasks = JoinSet::new();
    for _ in 0..6 {
        let (store, passed) = (store.clone(), passed.clone());
        tasks.spawn(async move {
            let admitted = charge(&*store, &of_many(scarce), after(0)).await.admitted;
            passed.fetch_add(usize::from(admitted), Ordering::Relaxed);
        });
    }
    tasks.join_all().await;
    passed.load(Ordering::Relaxed)
}

async fn many_attempts_at_once_are_charged_once<S: Store + 'static>(store: Arc<S>) {
    assert_eq!(attempts(&store, 1).await, 6);
    assert_eq!(used_of_many(&*store).await, [1; 8]);
    assert_eq!(remaining(&*store, "scarce", &total(1), 1).await, 0);
}

async fn many_attempts_at_once_that_are_refused_cost_nothing<S: Store + 'static>(store: Arc<S>) {
    for _ in 0..20 {
        assert_eq!(attempts(&store, 0).await, 0);
    }
    assert_eq!(used_of_many(&*store).await, [0; 8]);
}
