//! What every store promises of estimates: they count as used until a debit settles the oldest or they lapse, debits count in
//! full, and the requests that are under way at once exceed a limit only by what exceeds their estimates.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::task::JoinSet;
use tollgate::clock::{Now, Timestamp};
use tollgate::limit::Hits::Spend;
use tollgate::limit::{Fit, Limit};
use tollgate::policy::Mode::Enforce;
use tollgate::policy::Refused;
use tollgate::store::{Batch, HELD_MAX, Outcome, Reservation, Store};

use crate::support::batch::{START_MS, batch, one, one_of_each, pressed, sliding, total};
use crate::support::claims::{charge, of_every_store};

of_every_store! {
    an_estimate_counts_as_used_until_a_debit_settles_it
    the_oldest_estimate_is_settled_first
    an_estimate_that_nobody_settles_lapses
    the_promised_wait_sees_estimates_lapse
    a_debit_counts_in_full_beyond_its_estimate
    a_debit_without_an_estimate_is_an_ordinary_one
    a_peek_holds_an_estimate
    any_number_of_estimates_has_a_place
    a_debit_of_nothing_settles_its_estimate
    stated_estimates_of_any_sizes_are_settled_by_their_hits
    a_stated_estimate_comes_back_if_another_limit_refuses
    a_gauge_sees_estimates
    an_estimate_comes_back_if_another_limit_refuses
    a_debit_settles_although_another_limit_refuses
    requests_at_once_never_exceed_a_limit_by_more_than_their_estimates
}

const LIFE_MS: u64 = 30_000;

/// A sixtieth of it.
const SLOT_MS: u64 = 500;

/// So many milliseconds after a time at which slots of estimates and of windows begin.
fn after(ms: u64) -> Now {
    Now::Given(Timestamp::from_ms(START_MS.next_multiple_of(1_000) + ms))
}

/// The same batch with these estimates.
fn estimating(mut batch: Batch, hits: u64) -> Batch {
    for charge in &mut batch.charges {
        let life_ms = u32::try_from(LIFE_MS).unwrap();
        charge.reservation = Some(Box::new(Reservation::Estimate { hits, each: hits, life_ms }));
    }
    batch
}

/// The same batch as a debit.
fn debiting(batch: Batch) -> Batch {
    settling(batch, 0)
}

/// The same batch as a debit that settles so many held hits.
fn settling(mut batch: Batch, hits: u64) -> Batch {
    for charge in &mut batch.charges {
        charge.refused = Refused::Booked;
        charge.reservation = Some(Box::new(Reservation::SettleEstimate { hits }));
    }
    batch
}

/// The same batch with estimates of the sizes that requests state.
fn stating(mut batch: Batch, hits: u64) -> Batch {
    for charge in &mut batch.charges {
        let life_ms = u32::try_from(LIFE_MS).unwrap();
        charge.reservation = Some(Box::new(Reservation::Estimate { hits, each: 1, life_ms }));
    }
    batch
}

fn counting(mut batch: Batch) -> Batch {
    for charge in &mut batch.charges {
        charge.reservation = Some(Box::new(Reservation::Count));
    }
    batch
}

async fn request(store: &impl Store, limit: &Arc<Limit>, (hits, ms): (u64, u64)) -> Outcome {
    charge(store, &estimating(one("k", limit, Spend(1)), hits), after(ms)).await
}

async fn debit(store: &impl Store, limit: &Arc<Limit>, (hits, ms): (u64, u64)) -> Outcome {
    charge(store, &debiting(one("k", limit, Spend(hits))), after(ms)).await
}

/// What is left of a limit, and what is held of it.
async fn stands(store: &impl Store, limit: &Arc<Limit>, ms: u64) -> (u64, u64) {
    stands_of(store, "k", limit, ms).await
}

async fn stands_of(store: &impl Store, name: &str, limit: &Arc<Limit>, ms: u64) -> (u64, u64) {
    let outcome = charge(store, &counting(one(name, limit, Spend(0))), after(ms)).await;
    let held = outcome.notices.first().map_or(0, |notice| notice.held);
    (outcome.decisions[0].standing.remaining, held)
}

async fn an_estimate_counts_as_used_until_a_debit_settles_it(store: Arc<impl Store>) {
    for limit in one_of_each(100) {
        let ask = |hits| one(limit.tag(), &limit, Spend(hits));
        let first = charge(&*store, &estimating(ask(1), 60), after(0)).await;
        assert!(first.admitted, "{limit}");
        assert_eq!(first.decisions[0].standing.remaining, 39, "{limit}");
        let at = |ms| stands_of(&*store, limit.tag(), &limit, ms);
        assert_eq!(at(0).await, (39, 60), "{limit}");
        // It needs 1 + 39.
        assert!(!charge(&*store, &estimating(ask(1), 39), after(0)).await.admitted, "{limit}");
        assert!(!charge(&*store, &counting(ask(40)), after(0)).await.admitted, "{limit}");
        assert_eq!(at(0).await, (39, 60), "{limit}");
        let settled = charge(&*store, &debiting(ask(31)), after(0)).await;
        assert!(settled.admitted, "{limit}");
        assert_eq!(settled.decisions[0].standing.remaining, 68, "{limit}");
        assert_eq!(at(0).await, (68, 0), "{limit}");
    }
}

async fn the_oldest_estimate_is_settled_first(store: Arc<impl Store>) {
    let limit = sliding(1_000, 600_000);
    for (hits, ms) in [(10, 0), (20, 1_000), (20, 1_001), (40, 1_002), (80, 5_000)] {
        assert!(request(&*store, &limit, (hits, ms)).await.admitted);
    }
    for held in [160, 140, 120, 80, 0] {
        assert!(debit(&*store, &limit, (1, 6_000)).await.admitted);
        assert_eq!(stands(&*store, &limit, 6_000).await.1, held);
    }
}

async fn an_estimate_that_nobody_settles_lapses(store: Arc<impl Store>) {
    let limit = sliding(100, 600_000);
    for (ms, count) in [(0, 1), (1, 2), (SLOT_MS, 3)] {
        assert!(request(&*store, &limit, (20, ms)).await.admitted);
        assert_eq!(stands(&*store, &limit, ms).await, (100 - 21 * count, 20 * count));
    }
    // What was made within a slot lapses when all of it has lived so long, and is given back.
    assert_eq!(stands(&*store, &limit, LIFE_MS - 1).await, (37, 60));
    assert_eq!(stands(&*store, &limit, LIFE_MS).await, (57, 40));
    assert_eq!(stands(&*store, &limit, LIFE_MS + SLOT_MS - 1).await, (57, 40));
    assert_eq!(stands(&*store, &limit, LIFE_MS + SLOT_MS).await, (97, 0));
}

async fn the_promised_wait_sees_estimates_lapse(store: Arc<impl Store>) {
    let limit = total(100);
    assert!(request(&*store, &limit, (60, 0)).await.admitted);
    assert!(request(&*store, &limit, (30, 1)).await.admitted);
    let refused = request(&*store, &limit, (60, 10)).await;
    assert_eq!(refused.decisions[0].fit, Fit::AfterMs(LIFE_MS - 10));
    assert!(!request(&*store, &limit, (60, LIFE_MS - 1)).await.admitted);
    assert!(request(&*store, &limit, (60, LIFE_MS)).await.admitted);
    assert_eq!(request(&*store, &limit, (99, LIFE_MS)).await.decisions[0].fit, Fit::Never);
}

async fn a_debit_counts_in_full_beyond_its_estimate(store: Arc<impl Store>) {
    let limit = sliding(100, 60_000);
    assert!(request(&*store, &limit, (20, 0)).await.admitted);
    assert!(request(&*store, &limit, (70, 0)).await.admitted);
    assert_eq!(stands(&*store, &limit, 0).await, (8, 90));
    // What it used beyond its estimate counts, although others hold the rest.
    assert!(debit(&*store, &limit, (150, 1_000)).await.admitted);
    assert_eq!(stands(&*store, &limit, 1_000).await, (0, 70));
    // So does what was held by the other.
    assert!(debit(&*store, &limit, (7, 2_000)).await.admitted);
    let refused = charge(&*store, &counting(one("k", &limit, Spend(90))), after(2_000)).await;
    assert_eq!(refused.decisions[0].fit, Fit::AfterMs(59_999), "159 until the 150 are gone");
}

async fn a_debit_without_an_estimate_is_an_ordinary_one(store: Arc<impl Store>) {
    let limit = sliding(100, 60_000);
    assert!(request(&*store, &limit, (20, 0)).await.admitted);
    let lapsed = LIFE_MS + SLOT_MS;
    assert!(debit(&*store, &limit, (90, lapsed)).await.admitted);
    let over = debit(&*store, &limit, (20, lapsed)).await;
    assert!(!over.admitted && over.decisions[0].counted);
    // Now it is overdrawn.
    let lost = debit(&*store, &limit, (20, lapsed)).await;
    assert!(!lost.admitted && !lost.decisions[0].counted);
    assert_eq!(stands(&*store, &limit, lapsed).await, (0, 0));
}

async fn a_peek_holds_an_estimate(store: Arc<impl Store>) {
    let limit = total(100);
    let peek = || estimating(one("k", &limit, Spend(0)), 40);
    for held in [40, 80] {
        assert!(charge(&*store, &peek(), after(0)).await.admitted);
        assert_eq!(stands(&*store, &limit, 0).await, (100 - held, held));
    }
    assert!(!charge(&*store, &peek(), after(0)).await.admitted);
    assert!(debit(&*store, &limit, (5, 1)).await.admitted);
    assert!(charge(&*store, &peek(), after(1)).await.admitted);
    assert_eq!(stands(&*store, &limit, 1).await, (15, 80));
}

async fn any_number_of_estimates_has_a_place(store: Arc<impl Store>) {
    let limit = total(1_000_000);
    let count = 10 * HELD_MAX as u64;
    for number in 0..count {
        // Longer than their life: the first have lapsed at the end.
        let ms = number * 40;
        assert!(request(&*store, &limit, (7, ms)).await.admitted, "{number}");
    }
    let last_ms = (count - 1) * 40;
    let kept = (0..count).filter(|number| last_ms < (number * 40 + LIFE_MS).next_multiple_of(500));
    let kept = kept.count() as u64;
    assert_eq!(stands(&*store, &limit, last_ms).await, (1_000_000 - count - 7 * kept, 7 * kept));
    for left in (kept - 5..kept).rev() {
        assert!(debit(&*store, &limit, (1, last_ms)).await.admitted);
        assert_eq!(stands(&*store, &limit, last_ms).await.1, 7 * left);
    }
}

/// An answer without tokens: nothing was spent, so what was held for it is free again.
async fn a_debit_of_nothing_settles_its_estimate(store: Arc<impl Store>) {
    for limit in one_of_each(100) {
        let name = limit.tag();
        let ask = |hits| one(name, &limit, Spend(hits));
        for _ in 0..2 {
            assert!(charge(&*store, &estimating(ask(1), 40), after(0)).await.admitted);
        }
        for held in [40, 0, 0] {
            assert!(charge(&*store, &debiting(ask(0)), after(1)).await.admitted, "{limit}");
            let left = (100 - 2 - held, held);
            assert_eq!(stands_of(&*store, name, &limit, 1).await, left, "{limit}");
        }
    }
    // Others' limits do not keep it from being settled.
    assert!(charge(&*store, &estimating(of_many(1, 9), 5), after(0)).await.admitted);
    let mut ask = debiting(of_many(0, 9));
    let scarce = ask.charges.last_mut().unwrap();
    (scarce.hits, scarce.refused) = (Spend(100), Refused::Free);
    scarce.reservation = Some(Box::new(Reservation::Count));
    assert!(!charge(&*store, &ask, after(1)).await.admitted);
    assert_eq!(stands_of_many(&*store, 1).await, [(1, 0); 8]);
}

async fn stated_estimates_of_any_sizes_are_settled_by_their_hits(store: Arc<impl Store>) {
    let limit = total(1_000_000_000);
    let ask = |hits| one("k", &limit, Spend(hits));
    // Many more sizes at once than there are places.
    let sizes: Vec<u64> = (1..=3 * HELD_MAX as u64).map(|number| number * 37 % 4_001 + 1).collect();
    for (size, ms) in sizes.iter().zip(0..) {
        let batch = stating(ask(0), *size);
        assert!(charge(&*store, &batch, after(ms * 60)).await.admitted, "{size}");
    }
    let now = sizes.len() as u64 * 60;
    let mut held: u64 = sizes.iter().sum();
    assert_eq!(stands(&*store, &limit, now).await.1, held);
    // The last one ends first: only its own hits are settled.
    for size in sizes.iter().rev() {
        assert!(charge(&*store, &settling(ask(2), *size), after(now)).await.admitted);
        held -= size;
        assert_eq!(stands(&*store, &limit, now).await.1, held);
    }
    assert_eq!(held, 0);
    // More than is held settles that.
    assert!(charge(&*store, &stating(ask(0), 9), after(now)).await.admitted);
    assert!(charge(&*store, &settling(ask(1), 50), after(now)).await.admitted);
    assert_eq!(stands(&*store, &limit, now).await.1, 0);
}

async fn a_stated_estimate_comes_back_if_another_limit_refuses(store: Arc<impl Store>) {
    assert!(charge(&*store, &stating(of_many(1, 9), 5), after(0)).await.admitted);
    assert!(!charge(&*store, &stating(of_many(1, 9), 8), after(1)).await.admitted);
    assert_eq!(stands_of_many(&*store, 1).await, [(6, 5); 8]);
}

async fn a_gauge_sees_estimates(store: Arc<impl Store>) {
    let limit = total(100);
    let level = async |batch: Batch, ms| {
        charge(&*store, &pressed(batch, &[(1, 50, 40)], &[100]), after(ms)).await.levels[0]
    };
    let ask = || one("k", &limit, Spend(1));
    assert_eq!(level(estimating(ask(), 50), 0).await, 0);
    assert_eq!(level(counting(ask()), 1).await, 1);
    assert_eq!(level(debiting(ask()), 2).await, 1);
    assert_eq!(level(counting(ask()), 3).await, 0);
}

/// A request of many keys, of which one has little.
fn of_many(hits: u64, scarce: u64) -> Batch {
    let (wide, narrow) = (sliding(1_000, 60_000), sliding(scarce, 60_000));
    let names: Vec<String> = (0..8).map(|number| format!("many-{number}")).collect();
    let charges =
        names.iter().enumerate().map(|(group, name)| (&**name, group, Enforce, &wide, Spend(hits)));
    let mut charges: Vec<_> = charges.collect();
    charges.push(("scarce", 8, Enforce, &narrow, Spend(hits)));
    batch(&charges)
}

async fn stands_of_many(store: &impl Store, ms: u64) -> Vec<(u64, u64)> {
    let mut all = Vec::new();
    for number in 0..8 {
        let limit = sliding(1_000, 60_000);
        let (left, held) = stands_of(store, &format!("many-{number}"), &limit, ms).await;
        all.push((1_000 - left, held));
    }
    all
}

async fn an_estimate_comes_back_if_another_limit_refuses(store: Arc<impl Store>) {
    for hits in [0, 1] {
        let refused = charge(&*store, &estimating(of_many(hits, 4), 5), after(0)).await;
        assert!(!refused.admitted);
        assert_eq!(stands_of_many(&*store, 0).await, [(0, 0); 8], "{hits}");
    }
    assert!(charge(&*store, &estimating(of_many(1, 9), 5), after(0)).await.admitted);
    assert_eq!(stands_of_many(&*store, 0).await, [(6, 5); 8]);
    // Only the estimate of the refused one comes back.
    assert!(!charge(&*store, &estimating(of_many(1, 9), 5), after(1)).await.admitted);
    assert_eq!(stands_of_many(&*store, 1).await, [(6, 5); 8]);
}

async fn a_debit_settles_although_another_limit_refuses(store: Arc<impl Store>) {
    assert!(charge(&*store, &estimating(of_many(1, 9), 5), after(0)).await.admitted);
    let mut ask = debiting(of_many(3, 9));
    let scarce = ask.charges.last_mut().unwrap();
    (scarce.hits, scarce.refused) = (Spend(100), Refused::Free);
    scarce.reservation = Some(Box::new(Reservation::Count));
    assert!(!charge(&*store, &ask, after(1)).await.admitted);
    assert_eq!(stands_of_many(&*store, 1).await, [(4, 0); 8]);
}

/// `SPENT <= AMOUNT + sum of what exceeded its estimate`, at any time, although all ask at once.
async fn requests_at_once_never_exceed_a_limit_by_more_than_their_estimates<S: Store + 'static>(
    store: Arc<S>,
) {
    const AMOUNT: u64 = 400;
    const ESTIMATE: u64 = 7;
    for excess in [0, 5] {
        let limit = total(AMOUNT);
        let name = format!("race-{excess}");
        let (spent, beyond) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let mut tasks = JoinSet::new();
        for _ in 0..12 {
            let (store, limit, name) = (store.clone(), limit.clone(), name.clone());
            let (spent, beyond) = (spent.clone(), beyond.clone());
            tasks.spawn(async move {
                for number in 0..20 {
                    let ask = estimating(one(&name, &limit, Spend(1)), ESTIMATE);
                    if !charge(&*store, &ask, after(number)).await.admitted {
                        continue;
                    }
                    // The answer is on its way; nobody can take it back.
                    let used = 1 + number % (ESTIMATE + excess);
                    spent.fetch_add(1 + used, Ordering::Relaxed);
                    beyond.fetch_add(used.saturating_sub(ESTIMATE), Ordering::Relaxed);
                    tokio::task::yield_now().await;
                    let ask = debiting(one(&name, &limit, Spend(used)));
                    assert!(charge(&*store, &ask, after(number)).await.admitted);
                }
            });
        }
        tasks.join_all().await;
        let spent = spent.load(Ordering::Relaxed);
        let most = AMOUNT + beyond.load(Ordering::Relaxed);
        assert!((AMOUNT - ESTIMATE - 1..=most).contains(&spent), "{spent} of {most}");
        let left = AMOUNT.saturating_sub(spent);
        assert_eq!(stands_of(&*store, &name, &limit, 20).await, (left, 0), "all is counted");
    }
}
