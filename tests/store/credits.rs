//! What every store promises of bonuses that recur, of how bonuses stand, and of hits that are taken from bonuses alone.

use std::sync::Arc;

use tollgate::clock::Timestamp;
use tollgate::limit::Hits::{GiveBack, Spend};
use tollgate::limit::{Bonus, CalendarUnit, Hits, Limit, Recurrence};
use tollgate::store::{Batch, BonusStand, Reservation, Store};

use crate::support::batch::{
    START_MS, after, bucket, fixed, on_schedule, one, sliding, total, with_bonuses, with_id,
};
use crate::support::claims::{charge, exact_wait, of_every_store, passes};

of_every_store! {
    a_bonus_that_recurs_comes_anew_and_carries_over_what_is_left
    without_a_rollover_nothing_is_carried_over
    what_was_carried_over_is_kept_while_nothing_is_spent
    a_bonus_that_recurs_ends_with_its_last_period
    bonuses_tell_how_they_stand
    the_wait_for_a_bonus_that_comes_anew_is_exact
    the_wait_sees_it_beyond_the_edges_of_a_schedule
    what_is_given_back_joins_the_present_period
    what_is_given_back_goes_where_it_was_taken_last
    what_is_spent_of_a_bonus_is_known_until_the_latest_end_it_had
    what_is_spent_of_a_bonus_that_recurs_is_known_when_it_is_edited
    a_bonus_that_begins_to_recur_begins_anew
    bonuses_alone_are_spent_once_by_id
    hits_of_one_bonus_alone_leave_what_is_held
    held_hits_are_not_given_in_a_race
    all_bonuses_together_are_spent_to_the_last_hit_and_not_beyond
}

const HOUR_MS: u64 = 3_600_000;

/// When the next hour of UTC begins, and the one after it.
const NEXT_MS: u64 = HOUR_MS - START_MS % HOUR_MS;
const LATER_MS: u64 = NEXT_MS + HOUR_MS;

/// Ten hits an hour, of which so many are carried over.
fn hourly(amount: u64, rollover_max: u64) -> Bonus {
    let from = Timestamp::from_ms(START_MS);
    let recurs = Recurrence::new(CalendarUnit::Hour, from, rollover_max);
    let bonus = Bonus::new("hourly", amount, Timestamp::MAX);
    Bonus { recurs: Some(Arc::new(recurs)), ..bonus }
}

fn with(batch: Batch, bonuses: &[Bonus]) -> Batch {
    let mut batch = batch;
    for charge in &mut batch.charges {
        charge.bonuses = bonuses.to_vec();
        charge.tells_bonuses = true;
    }
    batch
}

/// What remains after hits of a limit with these bonuses.
async fn left(
    store: &impl Store,
    (limit, bonuses): (&Arc<Limit>, &[Bonus]),
    hits: Hits,
    ms: u64,
) -> u64 {
    let ask = with(one(limit.tag(), limit, hits), bonuses);
    let outcome = charge(store, &ask, after(ms)).await;
    assert!(outcome.admitted, "{limit} {hits:?} after {ms} ms");
    outcome.decisions[0].standing.remaining
}

/// How bonuses stand.
async fn stands(store: &impl Store, on: (&Arc<Limit>, &[Bonus]), ms: u64) -> Vec<(u64, u64, u64)> {
    let ask = with(one(on.0.tag(), on.0, Spend(0)), on.1);
    let outcome = charge(store, &ask, after(ms)).await;
    let [notice] = outcome.notices.as_slice() else { panic!("{outcome:?}") };
    let reported = |stand: &BonusStand| (stand.carried, stand.spent, stand.expired);
    notice.bonuses.iter().map(reported).collect()
}

async fn a_bonus_that_recurs_comes_anew_and_carries_over_what_is_left(store: Arc<impl Store>) {
    for limit in [total(2), sliding(2, 600_000_000), bucket(2, 1_000_000_000, 2)] {
        let bonuses = [hourly(10, 4)];
        let on = (&limit, &bonuses[..]);
        assert_eq!(left(&*store, on, Spend(5), 0).await, 7, "{limit}");
        assert_eq!(left(&*store, on, Spend(0), NEXT_MS - 1).await, 7, "{limit}");
        assert_eq!(left(&*store, on, Spend(0), NEXT_MS).await, 14, "{limit}");
        assert_eq!(stands(&*store, on, NEXT_MS).await, [(4, 0, 3)], "{limit}");
        assert_eq!(left(&*store, on, Spend(12), NEXT_MS).await, 2, "{limit}");
        let ask = with(one(limit.tag(), &limit, Spend(3)), &bonuses);
        assert!(!passes(&*store, &ask, LATER_MS - 1).await, "{limit}");
        assert_eq!(left(&*store, on, Spend(0), LATER_MS).await, 12, "{limit}");
        assert_eq!(stands(&*store, on, LATER_MS).await, [(2, 0, 0)], "{limit}");
    }
}

async fn without_a_rollover_nothing_is_carried_over(store: Arc<impl Store>) {
    let (limit, bonuses) = (total(0), [hourly(10, 0)]);
    let on = (&limit, &bonuses[..]);
    assert_eq!(left(&*store, on, Spend(3), 0).await, 7);
    assert_eq!(left(&*store, on, Spend(0), NEXT_MS).await, 10);
    assert_eq!(left(&*store, on, Spend(10), NEXT_MS).await, 0);
    assert_eq!(left(&*store, on, Spend(0), LATER_MS).await, 10);
}

async fn what_was_carried_over_is_kept_while_nothing_is_spent(store: Arc<impl Store>) {
    let (limit, bonuses) = (total(0), [hourly(10, 25)]);
    let on = (&limit, &bonuses[..]);
    assert_eq!(left(&*store, on, Spend(10), 0).await, 0);
    let hours = |hours: u64| NEXT_MS + hours * HOUR_MS;
    for (ms, expected) in [(hours(0), 10), (hours(1), 20), (hours(2), 30), (hours(3), 35)] {
        assert_eq!(left(&*store, on, Spend(0), ms).await, expected);
    }
    assert_eq!(left(&*store, on, Spend(0), hours(2_000)).await, 35);
    // One of which nothing was spent has carried over since its beginning.
    let never = (&sliding(0, 60_000), &bonuses[..]);
    assert_eq!(left(&*store, never, Spend(0), hours(1)).await, 30);
}

async fn a_bonus_that_recurs_ends_with_its_last_period(store: Arc<impl Store>) {
    let limit = total(0);
    let until = Timestamp::from_ms(START_MS + NEXT_MS + 1_000);
    let bonuses = [Bonus { until, ..hourly(10, 4) }];
    let on = (&limit, &bonuses[..]);
    assert_eq!(left(&*store, on, Spend(9), 0).await, 1);
    assert_eq!(left(&*store, on, Spend(0), NEXT_MS + 999).await, 11);
    assert_eq!(left(&*store, on, Spend(0), NEXT_MS + 1_000).await, 0);
    assert_eq!(stands(&*store, on, NEXT_MS + 1_000).await, []);
}

async fn bonuses_tell_how_they_stand(store: Arc<impl Store>) {
    let limit = fixed(2, 600_000_000);
    let soon = Bonus::new("soon", 3, Timestamp::from_ms(START_MS + 10_000));
    let bonuses = [soon, hourly(10, 4)];
    let on = (&limit, &bonuses[..]);
    assert_eq!(stands(&*store, on, 0).await, [(0, 0, 0), (0, 0, 0)]);
    assert_eq!(left(&*store, on, Spend(4), 0).await, 11);
    assert_eq!(stands(&*store, on, 0).await, [(0, 2, 0), (0, 0, 0)]);
    assert_eq!(left(&*store, on, Spend(4), 0).await, 7);
    assert_eq!(stands(&*store, on, 0).await, [(0, 3, 0), (0, 3, 0)]);
    // A refusal tells it too, and nobody is told who did not ask.
    let mut ask = with(one(limit.tag(), &limit, Spend(8)), &bonuses);
    let refused = charge(&*store, &ask, after(0)).await;
    assert!(!refused.admitted);
    assert_eq!(refused.notices[0].bonuses.len(), 2);
    ask.charges[0].tells_bonuses = false;
    assert_eq!(charge(&*store, &ask, after(0)).await.notices, []);
    assert_eq!(stands(&*store, on, 10_000).await, [(0, 3, 0)]);
}

async fn the_wait_for_a_bonus_that_comes_anew_is_exact(store: Arc<impl Store>) {
    for (name, rollover_max, hits, expected) in [
        ("none", 0, 4, NEXT_MS),
        ("all", 0, 10, NEXT_MS),
        ("carried", 4, 12, NEXT_MS),
        ("carried twice", 30, 22, LATER_MS),
        ("carried thrice", 30, 32, LATER_MS + HOUR_MS),
    ] {
        let limit = total(0);
        let bonuses = [hourly(10, rollover_max)];
        assert!(passes(&*store, &with(one(name, &limit, Spend(8)), &bonuses), 0).await);
        let ask = with(one(name, &limit, Spend(hits)), &bonuses);
        assert_eq!(exact_wait(&*store, &ask, 0).await, expected, "{name}");
    }
    // What the base lacks then comes later.
    let limit = sliding(5, 2 * HOUR_MS);
    let bonuses = [hourly(3, 0)];
    assert!(passes(&*store, &with(one("base", &limit, Spend(8)), &bonuses), 0).await);
    let ask = with(one("base", &limit, Spend(6)), &bonuses);
    assert_eq!(exact_wait(&*store, &ask, 0).await, 2 * HOUR_MS);
}

async fn the_wait_sees_it_beyond_the_edges_of_a_schedule(store: Arc<impl Store>) {
    // Twice the amount from 15:07 to 15:08, of a limit that is used up, or has none.
    for (amount, hits, expected) in [(0, 4, NEXT_MS), (2, 12, NEXT_MS), (2, 15, LATER_MS)] {
        let limit = on_schedule(&total(amount), &[((907, 908), 200)]);
        let name = format!("{amount} {hits}");
        let bonuses = [hourly(10, 8)];
        let ask = |hits| with(one(&name, &limit, Spend(hits)), &bonuses);
        assert!(passes(&*store, &ask(8 + amount), 0).await, "{name}");
        assert_eq!(exact_wait(&*store, &ask(hits), 0).await, expected, "{name}");
    }
}

async fn what_is_given_back_joins_the_present_period(store: Arc<impl Store>) {
    let (limit, bonuses) = (total(0), [hourly(10, 4)]);
    let on = (&limit, &bonuses[..]);
    assert_eq!(left(&*store, on, Spend(6), 0).await, 4);
    assert_eq!(left(&*store, on, GiveBack(2), 0).await, 6);
    assert_eq!(left(&*store, on, Spend(3), NEXT_MS).await, 11);
    assert_eq!(left(&*store, on, GiveBack(u64::MAX), NEXT_MS).await, 14);
    assert_eq!(left(&*store, on, Spend(0), LATER_MS).await, 14);
}

async fn what_is_given_back_goes_where_it_was_taken_last(store: Arc<impl Store>) {
    let limit = total(2);
    let ends = |id: &str, ms| Bonus::new(id, 5, Timestamp::from_ms(START_MS + ms));
    let bonuses = [ends("soon", 10_000), ends("late", 20_000)];
    let on = (&limit, &bonuses[..]);
    assert_eq!(left(&*store, on, Spend(9), 0).await, 3);
    assert_eq!(stands(&*store, on, 0).await, [(0, 5, 0), (0, 2, 0)]);
    assert_eq!(left(&*store, on, GiveBack(1), 0).await, 4);
    assert_eq!(stands(&*store, on, 0).await, [(0, 5, 0), (0, 1, 0)]);
    assert_eq!(left(&*store, on, GiveBack(3), 0).await, 7);
    assert_eq!(stands(&*store, on, 0).await, [(0, 3, 0), (0, 0, 0)]);
}

async fn what_is_spent_of_a_bonus_is_known_until_the_latest_end_it_had(store: Arc<impl Store>) {
    let limit = total(0);
    let ends = |ms| [Bonus::new("b", 5, Timestamp::from_ms(START_MS + ms))];
    let (soon, late) = (ends(1_000), ends(60_000));
    assert_eq!(left(&*store, (&limit, &late), Spend(2), 0).await, 3);
    assert_eq!(left(&*store, (&limit, &soon), Spend(1), 0).await, 2);
    assert_eq!(left(&*store, (&limit, &late), Spend(0), 30_000).await, 2);
}

async fn what_is_spent_of_a_bonus_that_recurs_is_known_when_it_is_edited(store: Arc<impl Store>) {
    let (limit, other) = (total(0), sliding(0, 60_000));
    let until = Timestamp::from_ms(START_MS + 1_000);
    let (short, long) = ([Bonus { until, ..hourly(10, 0) }], [hourly(10, 0)]);
    assert_eq!(left(&*store, (&limit, &short), Spend(7), 0).await, 3);
    // The edit is known by the first request after it, also if that is refused.
    let refused = with(one(limit.tag(), &limit, Spend(4)), &long);
    assert!(!passes(&*store, &refused, 500).await);
    assert_eq!(left(&*store, (&limit, &long), Spend(0), 2_000).await, 3);
    assert_eq!(left(&*store, (&limit, &long), Spend(0), NEXT_MS).await, 10);
    let rolls_over = [hourly(10, 5)];
    assert_eq!(left(&*store, (&other, &long), Spend(10), 0).await, 0);
    assert_eq!(left(&*store, (&other, &rolls_over), Spend(0), 500).await, 0);
    assert_eq!(left(&*store, (&other, &rolls_over), Spend(0), NEXT_MS).await, 10);
    assert_eq!(left(&*store, (&other, &rolls_over), Spend(0), LATER_MS).await, 15);
}

async fn a_bonus_that_begins_to_recur_begins_anew(store: Arc<impl Store>) {
    let limit = total(0);
    let once = [Bonus::new("hourly", 10, Timestamp::MAX)];
    let recurring = [hourly(10, 4)];
    assert_eq!(left(&*store, (&limit, &once), Spend(7), 0).await, 3);
    assert_eq!(left(&*store, (&limit, &recurring), Spend(0), 0).await, 10);
    assert_eq!(left(&*store, (&limit, &recurring), Spend(1), 0).await, 9);
    assert_eq!(left(&*store, (&limit, &once), Spend(0), 0).await, 10);
}

async fn bonuses_alone_are_spent_once_by_id(store: Arc<impl Store>) {
    let limit = total(100);
    let bonuses = [("a", 10, 60_000)];
    let ask = |hits| alone(with_bonuses(one("k", &limit, Spend(hits)), &bonuses), 0);
    assert!(!passes(&*store, &with_id(ask(11), "gift"), 0).await);
    assert!(!passes(&*store, &alone(ask(1), 1), 0).await, "there is no other bonus");
    for _ in 0..3 {
        assert!(passes(&*store, &with_id(ask(6), "gift"), 0).await);
    }
    assert!(!passes(&*store, &with_id(ask(6), "other"), 0).await);
    assert!(passes(&*store, &with_id(ask(4), "other"), 0).await);
    let outcome =
        charge(&*store, &with_bonuses(one("k", &limit, Spend(0)), &bonuses), after(0)).await;
    assert_eq!(outcome.decisions[0].standing.remaining, 100, "the limit itself is whole");
}

async fn hits_of_one_bonus_alone_leave_what_is_held(store: Arc<impl Store>) {
    let limit = total(4);
    let bonuses = [("ended", 9, 0), ("a", 10, 60_000), ("b", 6, 90_000)];
    let ask = |hits| with_bonuses(one("k", &limit, Spend(hits)), &bonuses);
    assert!(passes(&*store, &hold(ask(7), 1), 0).await);
    let of = |bonus, hits| alone(counting(ask(hits)), bonus);
    assert!(!passes(&*store, &of(2, 7), 0).await, "it has fewer");
    assert!(!passes(&*store, &of(0, 1), 0).await, "it has ended");
    assert!(passes(&*store, &of(1, 9), 0).await);
    assert!(!passes(&*store, &of(2, 5), 0).await, "seven of eleven are held");
    assert!(passes(&*store, &of(2, 4), 0).await);
    assert!(!passes(&*store, &of(1, 1), 0).await);
    let outcome = charge(&*store, &counting(ask(0)), after(0)).await;
    assert_eq!((outcome.decisions[0].standing.remaining, outcome.notices[0].held), (0, 7));
}

async fn held_hits_are_not_given_in_a_race(store: Arc<impl Store + 'static>) {
    let limit = total(4);
    let bonuses = [("a", 10, 60_000), ("b", 6, 90_000)];
    let ask = |hits| with_bonuses(one("k", &limit, Spend(hits)), &bonuses);
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..40 {
        let store = store.clone();
        let (hits, ask) = match number % 2 {
            0 => (3, hold(ask(3), number)),
            _ => (2, alone(counting(ask(2)), 0)),
        };
        tasks.spawn(async move { (hits, passes(&*store, &ask, 0).await) });
    }
    let (mut held, mut given) = (0, 0);
    while let Some(done) = tasks.join_next().await {
        match done.unwrap() {
            (3, true) => held += 3,
            (2, true) => given += 2,
            _ => {}
        }
    }
    assert!(held + given <= 20 && given <= 10, "{held} are held and {given} given");
    let outcome = charge(&*store, &counting(ask(0)), after(0)).await;
    let left = outcome.decisions[0].standing.remaining;
    assert_eq!((left, outcome.notices[0].held), (20 - held - given, held));
    assert!(left < 3, "all that asked for were refused some");
}

/// The same batch, whose hits one of the bonuses alone has.
fn alone(mut batch: Batch, bonus: usize) -> Batch {
    batch.charges.iter_mut().for_each(|charge| charge.bonus_alone = Some(bonus));
    batch
}

/// The same batch, which counts what reservations hold.
fn counting(batch: Batch) -> Batch {
    reserving(batch, Reservation::Count)
}

/// The same batch, which holds its hits.
fn hold(batch: Batch, id: u64) -> Batch {
    reserving(batch, Reservation::Hold { id, life_ms: 30_000 })
}

fn reserving(mut batch: Batch, step: Reservation) -> Batch {
    for charge in &mut batch.charges {
        charge.reservation = Some(Box::new(step));
    }
    batch
}

async fn all_bonuses_together_are_spent_to_the_last_hit_and_not_beyond(
    store: Arc<impl Store + 'static>,
) {
    let limit = total(5);
    let ends = |id: &str, amount, ms| Bonus::new(id, amount, Timestamp::from_ms(START_MS + ms));
    let bonuses = [hourly(10, 4), ends("soon", 7, 2 * HOUR_MS), ends("late", 20, 3 * HOUR_MS)];
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..100_u64 {
        let (store, ask) = (store.clone(), with(one("k", &limit, Spend(1)), &bonuses));
        // In both hours.
        let ms = if number < 30 { 0 } else { NEXT_MS };
        if number == 30 {
            while tasks.join_next().await.is_some_and(|passed| passed.unwrap()) {}
        }
        tasks.spawn(async move { passes(&*store, &ask, ms).await });
    }
    let mut passed = 30;
    while let Some(one) = tasks.join_next().await {
        passed += u64::from(one.unwrap());
    }
    // Of the first hour all 30: 5 of the limit, 10 of the hour, 7, and 8 of the last. Then 10 anew, and 12.
    assert_eq!(passed, 30 + 10 + 12);
}
