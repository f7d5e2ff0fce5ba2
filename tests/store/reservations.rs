//! What every store promises of reservations: what is held counts as used until it is settled or lapses, once and at the same
//! time, on one slot and on several.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::task::JoinSet;
use tollgate::limit::Hits::{GiveBack, Spend};
use tollgate::limit::{Fit, Hits, Limit, Overdraft};
use tollgate::policy::Mode::Enforce;
use tollgate::policy::{Refused, RetryId};
use tollgate::store::{
    Batch, FINAL, HELD_MAX, IdempotencyMark, Once, Outcome, Reservation, Retry, Store,
};

use crate::support::batch::{
    after, batch, fixed, one, one_of_each, overdrawn, pressed, sliding, total, with_bonuses,
};
use crate::support::claims::{charge, of_every_store};

of_every_store! {
    what_is_held_counts_as_used_in_every_algorithm
    a_lapse_is_exact_and_seen_by_the_promised_wait
    what_was_used_is_spent_and_the_rest_is_free_again
    more_than_was_held_counts_as_the_overdraft_says
    hits_that_come_back_settle_for_the_rest
    a_reservation_is_made_once_by_its_id
    a_reservation_is_settled_once
    an_id_is_not_used_again_after_it_was_settled
    a_late_settlement_is_an_ordinary_charge
    a_cancelled_reservation_is_neither_settled_nor_made_again
    a_settlement_for_all_that_was_held_is_no_cancellation
    an_extension_is_for_what_is_held_alone
    there_are_so_many_reservations_of_a_counter_and_no_more
    what_is_held_takes_from_bonuses_what_the_limit_does_not_have
    a_grace_holds_nothing_and_settles
    a_gauge_sees_what_is_held
    what_was_held_settles_although_the_amount_is_lower_and_another_limit_refuses
    whatever_was_used_is_settled_although_another_limit_refuses
    all_limits_hold_or_none_on_many_slots
    many_attempts_at_once_hold_once
    many_reservations_at_once_never_exceed_the_limit
}

/// How long a reservation of these tests holds.
const LIFE_MS: u64 = 30_000;

const MARK_LIFE_MS: u32 = 600_000;

/// The same batch, as a request with a reservation.
fn reserving(mut batch: Batch, name: &str, step: Reservation) -> Batch {
    for index in 0..batch.charges.len() {
        let key = &batch.keys[batch.charges[index].key_index];
        let id = match step {
            Reservation::Hold { .. } => format!("hold {name}"),
            _ => format!("settle {name}"),
        };
        let key_index = batch.key_index(key.mark(None, RetryId::Entry(&id)));
        let (retries_max, attempt) = (100, FINAL);
        let mark = IdempotencyMark { key_index: 0, retries_max, life_ms: MARK_LIFE_MS, attempt };
        let charge = &mut batch.charges[index];
        charge.reservation = Some(Box::new(step));
        charge.refused = Refused::Free;
        if let Reservation::Settle { .. } = step {
            charge.refused = Refused::Booked;
        }
        if let Reservation::Hold { .. } | Reservation::Settle { .. } = step {
            charge.once = Some(Once::Mark(mark).under(key_index));
        }
    }
    batch
}

fn id(name: &str) -> u64 {
    name.bytes().fold(7, |id, byte| id * 31 + u64::from(byte))
}

fn hold(batch: Batch, name: &str) -> Batch {
    let life_ms = u32::try_from(LIFE_MS).unwrap();
    reserving(batch, name, Reservation::Hold { id: id(name), life_ms })
}

fn settle(batch: Batch, name: &str) -> Batch {
    reserving(batch, name, Reservation::Settle { id: id(name) })
}

fn extend(batch: Batch, name: &str) -> Batch {
    let life_ms = u32::try_from(LIFE_MS).unwrap();
    reserving(batch, name, Reservation::Extend { id: id(name), life_ms })
}

/// A request without a reservation, for which those of others count.
fn counting(mut batch: Batch) -> Batch {
    for charge in &mut batch.charges {
        charge.reservation = Some(Box::new(Reservation::Count));
    }
    batch
}

async fn passes(store: &impl Store, batch: &Batch, ms: u64) -> bool {
    charge(store, batch, after(ms)).await.admitted
}

/// What is left of a limit under a key, and what reservations hold of it.
async fn stands(store: &impl Store, name: &str, limit: &Arc<Limit>, ms: u64) -> (u64, u64) {
    let outcome = charge(store, &counting(one(name, limit, Spend(0))), after(ms)).await;
    let held = outcome.notices.first().map_or(0, |notice| notice.held);
    (outcome.decisions[0].standing.remaining, held)
}

/// How many hits a settlement has spent.
fn settled(outcome: &Outcome) -> u64 {
    outcome.notices.first().map_or(0, |notice| notice.settled)
}

async fn what_is_held_counts_as_used_in_every_algorithm(store: Arc<impl Store>) {
    for limit in one_of_each(100) {
        let name = limit.tag();
        let ask = |hits| one(name, &limit, Spend(hits));
        assert!(passes(&*store, &counting(ask(10)), 0).await, "{limit}");
        assert!(passes(&*store, &hold(ask(60), "a"), 0).await, "{limit}");
        assert_eq!(stands(&*store, name, &limit, 0).await, (30, 60), "{limit}");
        let refused = charge(&*store, &counting(ask(31)), after(0)).await;
        assert!(!refused.admitted, "{limit}");
        assert_eq!(refused.decisions[0].standing.remaining, 30, "{limit}");
        assert!(!passes(&*store, &hold(ask(31), "b"), 0).await, "{limit}");
        assert!(passes(&*store, &counting(ask(30)), 0).await, "{limit}");
        assert_eq!(stands(&*store, name, &limit, 0).await, (0, 60), "{limit}");
    }
}

async fn a_lapse_is_exact_and_seen_by_the_promised_wait(store: Arc<impl Store>) {
    for limit in one_of_each(100) {
        let name = limit.tag();
        assert!(passes(&*store, &hold(one(name, &limit, Spend(100)), "a"), 5).await, "{limit}");
        let ask = counting(one(name, &limit, Spend(1)));
        let outcome = charge(&*store, &ask, after(10)).await;
        assert_eq!(outcome.decisions[0].fit, Fit::AfterMs(LIFE_MS - 5), "{limit}");
        assert_eq!(stands(&*store, name, &limit, LIFE_MS + 4).await, (0, 100), "{limit}");
        assert!(!passes(&*store, &ask, LIFE_MS + 4).await, "{limit}");
        assert!(passes(&*store, &ask, LIFE_MS + 5).await, "{limit}");
        assert_eq!(stands(&*store, name, &limit, LIFE_MS + 5).await, (99, 0), "{limit}");
    }
}

async fn what_was_used_is_spent_and_the_rest_is_free_again(store: Arc<impl Store>) {
    for limit in one_of_each(100) {
        let name = limit.tag();
        for (id, used, left) in [("a", 37, 63), ("b", 60, 3), ("c", 3, 0)] {
            let held = used.max(3);
            assert!(passes(&*store, &hold(one(name, &limit, Spend(held)), id), 0).await, "{limit}");
            let ask = settle(one(name, &limit, Spend(used)), id);
            let outcome = charge(&*store, &ask, after(0)).await;
            assert!(outcome.admitted, "{limit} {id}");
            assert_eq!((settled(&outcome), outcome.decisions[0].clipped), (used, 0), "{limit}");
            assert_eq!(outcome.decisions[0].standing.remaining, left, "{limit} {id}");
            assert_eq!(stands(&*store, name, &limit, 0).await, (left, 0), "{limit} {id}");
        }
    }
}

async fn more_than_was_held_counts_as_the_overdraft_says(store: Arc<impl Store>) {
    let wide = total(1_000);
    for (overdraft, spent, counted) in [
        (Overdraft::None, 150, 150),
        (Overdraft::None, 250, 200),
        (Overdraft::Clip, 250, 200),
        (Overdraft::Allow, 250, 250),
    ] {
        let name = format!("{overdraft:?} {spent}");
        let limit = overdrawn(&total(200), overdraft);
        assert!(passes(&*store, &hold(one(&name, &limit, Spend(100)), "a"), 0).await, "{name}");
        let ask = settle(one(&name, &limit, Spend(spent)), "a");
        let outcome = charge(&*store, &ask, after(0)).await;
        let decision = outcome.decisions[0];
        assert!(outcome.admitted, "{name}");
        assert_eq!((settled(&outcome), decision.clipped), (counted, spent - counted), "{name}");
        assert_eq!(stands(&*store, &name, &wide, 0).await, (1_000 - counted, 0), "{name}");
    }
}

async fn hits_that_come_back_settle_for_the_rest(store: Arc<impl Store>) {
    for limit in one_of_each(100) {
        let name = limit.tag();
        for (id, back, used) in [("a", 13, 17), ("b", 30, 0), ("c", 31, 0), ("d", 0, 30)] {
            let before = stands(&*store, name, &limit, 0).await.0;
            assert!(passes(&*store, &hold(one(name, &limit, Spend(30)), id), 0).await, "{limit}");
            let ask = settle(one(name, &limit, GiveBack(back)), id);
            for expected in [used, 0] {
                let outcome = charge(&*store, &ask, after(0)).await;
                assert!(outcome.admitted, "{limit} {id}");
                assert_eq!(settled(&outcome), expected, "{limit} {id}");
            }
            assert_eq!(stands(&*store, name, &limit, 0).await, (before - used, 0), "{limit} {id}");
        }
        // What is not held can't come back.
        let before = stands(&*store, name, &limit, 0).await;
        assert!(passes(&*store, &settle(one(name, &limit, GiveBack(5)), "no"), 0).await);
        assert_eq!(stands(&*store, name, &limit, 0).await, before, "{limit}");
    }
}

async fn a_reservation_is_made_once_by_its_id(store: Arc<impl Store>) {
    let limit = sliding(100, 60_000);
    let ask = |hits| hold(one("k", &limit, Spend(hits)), "a");
    assert!(passes(&*store, &ask(80), 0).await);
    let again = charge(&*store, &ask(80), after(7)).await;
    assert_eq!((again.admitted, again.decisions[0].retry), (true, Some(Retry::Free { age_ms: 7 })));
    let other = charge(&*store, &ask(10), after(7)).await;
    assert_eq!((other.admitted, other.decisions[0].retry), (false, Some(Retry::Conflict)));
    assert_eq!(stands(&*store, "k", &limit, 7).await, (20, 80));
    // A retry does not prolong it.
    assert_eq!(stands(&*store, "k", &limit, LIFE_MS).await, (100, 0));
}

async fn a_reservation_is_settled_once(store: Arc<impl Store>) {
    for limit in one_of_each(100) {
        let name = limit.tag();
        assert!(passes(&*store, &hold(one(name, &limit, Spend(80)), "a"), 0).await, "{limit}");
        for attempt in 0..4 {
            let ask = settle(one(name, &limit, Spend(30)), "a");
            let outcome = charge(&*store, &ask, after(0)).await;
            assert!(outcome.admitted, "{limit}");
            assert_eq!(settled(&outcome), if attempt == 0 { 30 } else { 0 }, "{limit}");
            let is_retry = outcome.decisions[0].retry.is_some_and(Retry::is_free);
            assert_eq!(is_retry, attempt != 0, "{limit}");
            assert_eq!(stands(&*store, name, &limit, 0).await, (70, 0), "{limit}");
        }
        for hits in [Spend(31), Spend(0), GiveBack(5)] {
            let other = charge(&*store, &settle(one(name, &limit, hits), "a"), after(0)).await;
            assert_eq!(other.decisions[0].retry, Some(Retry::Conflict), "{limit} {hits:?}");
            assert!(!other.admitted, "{limit} {hits:?}");
        }
        assert_eq!(stands(&*store, name, &limit, 0).await, (70, 0), "{limit}");
    }
}

async fn an_id_is_not_used_again_after_it_was_settled(store: Arc<impl Store>) {
    let limit = total(100);
    let ask = || hold(one("k", &limit, Spend(10)), "a");
    assert!(passes(&*store, &ask(), 0).await);
    assert!(passes(&*store, &settle(one("k", &limit, Spend(4)), "a"), 0).await);
    for ms in [0, LIFE_MS, u64::from(MARK_LIFE_MS) - 1] {
        let again = charge(&*store, &ask(), after(ms)).await;
        assert_eq!((again.admitted, again.decisions[0].retry), (false, Some(Retry::Conflict)));
    }
    assert_eq!(stands(&*store, "k", &limit, 0).await, (96, 0));
    assert!(passes(&*store, &ask(), MARK_LIFE_MS.into()).await);
}

async fn a_late_settlement_is_an_ordinary_charge(store: Arc<impl Store>) {
    for (overdraft, left, used, counted) in [
        (Overdraft::None, 50, 30, 30),
        (Overdraft::None, 20, 30, 0),
        (Overdraft::Clip, 20, 30, 20),
        (Overdraft::Allow, 20, 30, 30),
        (Overdraft::Allow, 0, 30, 0),
    ] {
        let name = format!("{overdraft:?} {left}");
        let limit = overdrawn(&total(100), overdraft);
        let ask = |hits| one(&name, &limit, Spend(hits));
        assert!(passes(&*store, &hold(ask(50), "a"), 0).await, "{name}");
        assert!(passes(&*store, &counting(ask(100 - left)), LIFE_MS).await, "{name}");
        let outcome = charge(&*store, &settle(ask(used), "a"), after(LIFE_MS)).await;
        assert_eq!(outcome.admitted, counted != 0, "{name}");
        assert_eq!(settled(&outcome), counted, "{name}");
        let wide = total(1_000);
        let stands = stands(&*store, &name, &wide, LIFE_MS).await;
        assert_eq!(stands, (900 + left - counted, 0), "{name}");
    }
}

async fn a_cancelled_reservation_is_neither_settled_nor_made_again(store: Arc<impl Store>) {
    let limit = sliding(100, 60_000);
    let ask = |hits| one("k", &limit, Spend(hits));
    assert!(passes(&*store, &hold(ask(80), "a"), 0).await);
    for _ in 0..3 {
        assert!(passes(&*store, &settle(ask(0), "a"), 0).await);
        assert_eq!(stands(&*store, "k", &limit, 0).await, (100, 0));
    }
    for again in [settle(ask(10), "a"), hold(ask(80), "a")] {
        let outcome = charge(&*store, &again, after(0)).await;
        assert_eq!((outcome.admitted, outcome.decisions[0].retry), (false, Some(Retry::Conflict)));
    }
    assert_eq!(stands(&*store, "k", &limit, 0).await, (100, 0));
}

async fn a_settlement_for_all_that_was_held_is_no_cancellation(store: Arc<impl Store>) {
    let limit = total(100);
    let ask = |hits| one("k", &limit, hits);
    for (name, first, other) in
        [("a", Spend(0), GiveBack(0)), ("b", GiveBack(0), Spend(0)), ("c", GiveBack(0), Spend(10))]
    {
        assert!(passes(&*store, &hold(ask(Spend(10)), name), 0).await);
        for _ in 0..2 {
            assert!(passes(&*store, &settle(ask(first), name), 0).await, "{name}");
        }
        let conflict = charge(&*store, &settle(ask(other), name), after(0)).await;
        assert_eq!(conflict.decisions[0].retry, Some(Retry::Conflict), "{name}");
    }
    assert_eq!(stands(&*store, "k", &limit, 0).await, (80, 0));
}

async fn an_extension_is_for_what_is_held_alone(store: Arc<impl Store>) {
    let limit = total(100);
    let ask = |hits| one("k", &limit, Spend(hits));
    assert!(passes(&*store, &hold(ask(80), "a"), 0).await);
    assert!(passes(&*store, &extend(ask(0), "a"), LIFE_MS - 1).await);
    assert_eq!(stands(&*store, "k", &limit, 2 * LIFE_MS - 2).await, (20, 80));
    // A shorter one than what is left changes nothing.
    let shorter = Reservation::Extend { id: id("a"), life_ms: 5 };
    assert!(passes(&*store, &reserving(ask(0), "a", shorter), LIFE_MS).await);
    let wait = charge(&*store, &counting(ask(21)), after(2 * LIFE_MS - 2)).await;
    assert_eq!(wait.decisions[0].fit, Fit::AfterMs(1));
    assert_eq!(stands(&*store, "k", &limit, 2 * LIFE_MS - 1).await, (100, 0));
    for name in ["a", "no"] {
        let late = charge(&*store, &extend(ask(0), name), after(2 * LIFE_MS - 1)).await;
        assert_eq!((late.admitted, late.decisions[0].retry), (false, Some(Retry::Conflict)));
    }
}

async fn there_are_so_many_reservations_of_a_counter_and_no_more(store: Arc<impl Store>) {
    let limit = total(10_000);
    let ask = |number: usize| hold(one("k", &limit, Spend(1)), &format!("{number}"));
    for number in 0..HELD_MAX {
        assert!(passes(&*store, &ask(number), number as u64).await, "{number}");
    }
    let full = charge(&*store, &ask(HELD_MAX), after(1_000)).await;
    assert_eq!((full.admitted, full.decisions[0].fit), (false, Fit::AfterMs(LIFE_MS - 1_000)));
    assert_eq!(full.decisions[0].standing.remaining, 10_000 - HELD_MAX as u64);
    assert!(!passes(&*store, &ask(HELD_MAX), LIFE_MS - 1).await);
    assert!(passes(&*store, &counting(one("k", &limit, Spend(1))), LIFE_MS - 1).await);
    assert!(passes(&*store, &ask(HELD_MAX), LIFE_MS).await);
    assert!(!passes(&*store, &ask(HELD_MAX + 1), LIFE_MS).await);
    assert!(passes(&*store, &settle(one("k", &limit, Spend(1)), "5"), LIFE_MS).await);
    assert!(passes(&*store, &ask(HELD_MAX + 1), LIFE_MS).await);
}

async fn what_is_held_takes_from_bonuses_what_the_limit_does_not_have(store: Arc<impl Store>) {
    let limit = fixed(10, 60_000);
    let bonuses = [("b", 5, 3_600_000)];
    let ask = |hits| with_bonuses(one("k", &limit, Spend(hits)), &bonuses);
    assert!(passes(&*store, &hold(ask(12), "a"), 0).await);
    assert!(!passes(&*store, &counting(ask(4)), 0).await);
    assert!(passes(&*store, &counting(ask(3)), 0).await);
    assert!(passes(&*store, &settle(ask(12), "a"), 0).await);
    let outcome = charge(&*store, &counting(ask(1)), after(0)).await;
    assert_eq!((outcome.admitted, outcome.decisions[0].standing.remaining), (false, 0));
}

async fn a_grace_holds_nothing_and_settles(store: Arc<impl Store>) {
    let limit = Arc::new(Limit::clone(&total(100)).with_grace(10, 60_000));
    let ask = |hits| one("k", &limit, Spend(hits));
    assert!(!passes(&*store, &hold(ask(101), "a"), 0).await);
    assert!(passes(&*store, &counting(ask(90)), 0).await);
    assert!(!passes(&*store, &hold(ask(11), "b"), 0).await);
    // A late settlement is a request like any other.
    let outcome = charge(&*store, &settle(ask(20), "c"), after(0)).await;
    assert_eq!((outcome.admitted, settled(&outcome)), (true, 20));
}

async fn a_gauge_sees_what_is_held(store: Arc<impl Store>) {
    let limit = total(100);
    let ask = |hits: Hits| counting(pressed(one("k", &limit, hits), &[(1, 50, 40)], &[70]));
    assert!(passes(&*store, &hold(one("k", &limit, Spend(60)), "a"), 0).await);
    let outcome = charge(&*store, &ask(Spend(20)), after(10)).await;
    assert_eq!((outcome.admitted, outcome.levels.as_slice()), (false, [1].as_slice()));
    assert_eq!(outcome.decisions[0].fit, Fit::AfterMs(LIFE_MS - 10));
    let outcome = charge(&*store, &ask(Spend(20)), after(LIFE_MS)).await;
    assert_eq!((outcome.admitted, outcome.levels.as_slice()), (true, [0].as_slice()));
}

async fn what_was_held_settles_although_the_amount_is_lower_and_another_limit_refuses(
    store: Arc<impl Store>,
) {
    let (limit, none) = (total(100), total(0));
    assert!(passes(&*store, &hold(one("k", &limit, Spend(80)), "a"), 0).await);
    let lower = total(10);
    let mut ask = settle(one("k", &lower, Spend(60)), "a");
    let key_index = ask.key_index(crate::support::batch::key("other"));
    let plain = tollgate::store::Charge::plain(key_index, none, Spend(1));
    ask.charges.push(tollgate::store::Charge { group: 1, ..plain });
    let outcome = charge(&*store, &ask, after(0)).await;
    assert_eq!((outcome.admitted, outcome.decisions[0].counted), (false, true), "{outcome:?}");
    assert_eq!(settled(&outcome), 60);
    assert_eq!(stands(&*store, "k", &limit, 0).await, (40, 0));
}

/// A cancellation, and settlements for all, or all but some, of what was held.
async fn whatever_was_used_is_settled_although_another_limit_refuses(store: Arc<impl Store>) {
    for (hits, used) in [(Spend(0), 0), (GiveBack(0), 5), (GiveBack(2), 3), (Spend(4), 4)] {
        for name in names() {
            let (id, limit) = (format!("{hits:?} {name}"), total(100));
            assert!(passes(&*store, &hold(one(&id, &limit, Spend(5)), "a"), 0).await);
            let mut ask = settle(one(&id, &limit, hits), "a");
            let key_index = ask.key_index(crate::support::batch::key("other"));
            let plain = tollgate::store::Charge::plain(key_index, total(0), Spend(1));
            ask.charges.push(tollgate::store::Charge { group: 1, ..plain });
            for attempt in 0..2 {
                let outcome = charge(&*store, &ask, after(1)).await;
                let decided = (outcome.admitted, outcome.decisions[0].counted);
                assert_eq!(decided, (false, attempt == 0), "{id}: {outcome:?}");
                assert_eq!(settled(&outcome), if attempt == 0 { used } else { 0 }, "{id}");
                assert_eq!(stands(&*store, &id, &limit, 2).await, (100 - used, 0), "{id}");
            }
            let again = settle(one(&id, &limit, hits), "a");
            let again = charge(&*store, &again, after(3)).await;
            assert!(again.admitted && again.decisions[0].retry.is_some(), "{id}: {again:?}");
        }
    }
}

/// Counters that are on several slots of a cluster.
fn names() -> Vec<String> {
    (0..8).map(|number| format!("slot {number}")).collect()
}

/// A request for hits of each of these counters, and of one more that may have fewer.
fn of_many(hits: u64, scarce: u64) -> Batch {
    let (wide, narrow) = (sliding(1_000, 60_000), total(scarce));
    let names = names();
    let wides = names.iter().enumerate();
    let mut charges: Vec<_> =
        wides.map(|(group, name)| (name.as_str(), group, Enforce, &wide, Spend(hits))).collect();
    charges.push(("scarce", 8, Enforce, &narrow, Spend(hits)));
    batch(&charges)
}

async fn stands_of_many(store: &impl Store, ms: u64) -> Vec<(u64, u64)> {
    let mut all = Vec::new();
    for name in names() {
        let (left, held) = stands(store, &name, &sliding(1_000, 60_000), ms).await;
        all.push((1_000 - left, held));
    }
    all
}

async fn all_limits_hold_or_none_on_many_slots(store: Arc<impl Store>) {
    assert!(!passes(&*store, &hold(of_many(5, 4), "a"), 0).await);
    assert_eq!(stands_of_many(&*store, 0).await, [(0, 0); 8]);
    assert!(passes(&*store, &hold(of_many(5, 9), "b"), 0).await);
    assert_eq!(stands_of_many(&*store, 0).await, [(5, 5); 8]);
    assert!(!passes(&*store, &hold(of_many(5, 9), "c"), 0).await);
    assert_eq!(stands_of_many(&*store, 0).await, [(5, 5); 8]);
    assert!(passes(&*store, &extend(of_many(0, 9), "b"), 10).await);
    assert_eq!(stands_of_many(&*store, LIFE_MS + 9).await, [(5, 5); 8]);
    for _ in 0..2 {
        assert!(passes(&*store, &settle(of_many(3, 9), "b"), 20).await);
        assert_eq!(stands_of_many(&*store, 20).await, [(3, 0); 8]);
    }
    assert!(passes(&*store, &hold(of_many(5, 9), "d"), 30).await);
    assert!(passes(&*store, &settle(of_many(0, 9), "d"), 30).await);
    assert_eq!(stands_of_many(&*store, 30).await, [(3, 0); 8]);
    // What comes back settles too, and the answer says what is held then.
    assert!(passes(&*store, &hold(of_many(5, 9), "e"), 40).await);
    let mut ask = of_many(0, 9);
    ask.charges.iter_mut().for_each(|charge| charge.hits = GiveBack(2));
    let outcome = charge(&*store, &settle(ask, "e"), after(40)).await;
    let told: Vec<(u64, u64)> =
        outcome.notices.iter().map(|notice| (notice.held, notice.settled)).collect();
    assert_eq!((outcome.admitted, told), (true, vec![(0, 3); 9]));
    assert_eq!(stands_of_many(&*store, 40).await, [(6, 0); 8]);
}

async fn many_attempts_at_once_hold_once<S: Store + 'static>(store: Arc<S>) {
    for (round, scarce) in [(0, 5), (1, 5), (2, 8)] {
        let name = format!("{round}");
        let passed = Arc::new(AtomicUsize::new(0));
        let mut tasks = JoinSet::new();
        for _ in 0..6 {
            let (store, passed, name) = (store.clone(), passed.clone(), name.clone());
            tasks.spawn(async move {
                let admitted = passes(&*store, &hold(of_many(4, scarce), &name), round).await;
                passed.fetch_add(usize::from(admitted), Ordering::Relaxed);
            });
        }
        tasks.join_all().await;
        // The second finds too little left of the scarce limit.
        let (passed, held) = (passed.load(Ordering::Relaxed), if round == 2 { 8 } else { 4 });
        assert_eq!(passed, if round == 1 { 0 } else { 6 }, "{round}");
        assert_eq!(stands_of_many(&*store, round).await, [(held, held); 8], "{round}");
    }
}

async fn many_reservations_at_once_never_exceed_the_limit<S: Store + 'static>(store: Arc<S>) {
    let limit = total(250);
    let spent = Arc::new(AtomicUsize::new(0));
    let mut tasks = JoinSet::new();
    for task in 0..8 {
        let (store, spent, limit) = (store.clone(), spent.clone(), limit.clone());
        tasks.spawn(async move {
            for number in 0..20_u64 {
                let name = format!("{task} {number}");
                if !passes(&*store, &hold(one("k", &limit, Spend(7)), &name), number).await {
                    continue;
                }
                let used = number % 8;
                let ask = settle(one("k", &limit, Spend(used)), &name);
                let outcome = charge(&*store, &ask, after(number)).await;
                assert!(outcome.admitted);
                spent.fetch_add(usize::try_from(settled(&outcome)).unwrap(), Ordering::Relaxed);
            }
        });
    }
    tasks.join_all().await;
    let spent = u64::try_from(spent.load(Ordering::Relaxed)).unwrap();
    assert_eq!(stands(&*store, "k", &limit, 20).await, (250 - spent, 0));
    assert!((150..=250).contains(&spent), "{spent}");
}
