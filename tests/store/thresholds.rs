//! Thresholds of limits: each is reported once for each caller, limit and window, by one of all sidecars.

use std::sync::Arc;

use futures_util::future::join_all;
use tollgate::limit::Hits::{GiveBack, Spend};
use tollgate::limit::{Hits, Limit};
use tollgate::store::{Batch, Charge, Outcome, Store};

use crate::support::batch::{START_MS, after, bucket, fixed, key, one, sliding, total};
use crate::support::claims::{charge, of_every_store};

const MINUTE_MS: u64 = 60_000;
const DAY_MS: u64 = 86_400_000;

/// When the fixed window of the beginning ends.
const WINDOW_END_MS: u64 = MINUTE_MS - START_MS % MINUTE_MS;

of_every_store! {
    each_threshold_is_reported_once_in_a_window
    a_charge_that_jumps_over_several_reports_each
    a_refused_request_reports_nothing
    the_next_window_reports_again
    use_that_comes_back_arms_a_threshold_after_a_window
    a_higher_threshold_does_not_keep_a_lower_one_silent
    use_that_fell_and_rose_again_is_reported_after_a_window
    a_total_reports_again_after_a_day_if_hits_came_back
    each_caller_and_each_limit_has_its_own
    a_lowered_limit_is_reported_by_the_next_charge
    a_new_threshold_below_the_use_is_reported_by_the_next_charge
    of_many_requests_at_once_one_reports
}

fn with_thresholds(limit: &Arc<Limit>) -> Arc<Limit> {
    Arc::new(Limit::clone(limit).with_thresholds([80, 90, 95, 100].into()))
}

/// What an outcome reports of its charges, in percent.
fn reported(batch: &Batch, outcome: &Outcome) -> Vec<(usize, u16)> {
    let notices = outcome.notices.iter().flat_map(|notice| {
        let thresholds = batch.charges[notice.charge].limit.thresholds().unwrap();
        thresholds.crossed(notice.crossed).map(|percent| (notice.charge, percent))
    });
    notices.collect()
}

/// What a request of hits under a name reports so many milliseconds after the beginning.
async fn reports(
    store: &impl Store,
    name: &str,
    (limit, hits): (&Arc<Limit>, Hits),
    ms: u64,
) -> Vec<u16> {
    let batch = one(name, limit, hits);
    let outcome = charge(store, &batch, after(ms)).await;
    reported(&batch, &outcome).into_iter().map(|(_, percent)| percent).collect()
}

/// What requests report, each of hits and the milliseconds after the beginning.
async fn check(
    store: &impl Store,
    (name, limit): (&str, &Arc<Limit>),
    requests: &[(Hits, u64)],
    expected: &[&[u16]],
) {
    let mut all = Vec::new();
    for (hits, ms) in requests {
        all.push(reports(store, name, (limit, *hits), *ms).await);
    }
    assert_eq!(all, expected, "{limit} {requests:?}");
}

fn of_each_window() -> [Arc<Limit>; 4] {
    let limits =
        [sliding(100, MINUTE_MS), fixed(100, MINUTE_MS), bucket(100, MINUTE_MS, 100), total(100)];
    limits.each_ref().map(with_thresholds)
}

async fn each_threshold_is_reported_once_in_a_window(store: Arc<impl Store>) {
    for limit in of_each_window() {
        let requests = [79, 1, 9, 1, 5, 5].map(|hits| (Spend(hits), 0));
        let expected: [&[u16]; 6] = [&[], &[80], &[], &[90], &[95], &[100]];
        check(&*store, ("once", &limit), &requests, &expected).await;
        let again = [(GiveBack(60), 1), (Spend(60), 2)];
        check(&*store, ("once", &limit), &again, &[&[], &[]]).await;
    }
}

async fn a_charge_that_jumps_over_several_reports_each(store: Arc<impl Store>) {
    for limit in of_each_window() {
        let requests = [(Spend(96), 0), (Spend(4), 1)];
        check(&*store, ("jump", &limit), &requests, &[&[80, 90, 95], &[100]]).await;
    }
}

async fn a_refused_request_reports_nothing(store: Arc<impl Store>) {
    for limit in of_each_window() {
        let requests = [(Spend(70), 0), (Spend(31), 0), (Spend(0), 0), (Spend(10), 0)];
        check(&*store, ("refused", &limit), &requests, &[&[], &[], &[], &[80]]).await;
        let mut batch = one("refused by another", &limit, Spend(85));
        let key_index = batch.key_index(key("refused by another"));
        let none = Arc::new(Limit::clone(&total(0)).marked("=none"));
        batch.charges.push(Charge { group: 1, ..Charge::plain(key_index, none, Spend(1)) });
        let outcome = charge(&*store, &batch, after(0)).await;
        assert!(!outcome.admitted && outcome.notices.is_empty(), "{outcome:?}");
        check(&*store, ("refused by another", &limit), &[(Spend(85), 0)], &[&[80]]).await;
    }
}

async fn the_next_window_reports_again(store: Arc<impl Store>) {
    let limit = with_thresholds(&fixed(100, MINUTE_MS));
    let requests = [(Spend(85), 0), (Spend(10), WINDOW_END_MS - 1), (Spend(91), WINDOW_END_MS)];
    check(&*store, ("next", &limit), &requests, &[&[80], &[90, 95], &[80, 90]]).await;
}

async fn use_that_comes_back_arms_a_threshold_after_a_window(store: Arc<impl Store>) {
    for limit in [sliding(100, MINUTE_MS), bucket(100, MINUTE_MS, 100)] {
        let limit = with_thresholds(&limit);
        // It goes up and down within a window: nothing is told twice.
        let down_and_up = [(Spend(85), 0), (GiveBack(80), 1), (Spend(80), 2), (GiveBack(85), 3)];
        check(&*store, ("again", &limit), &down_and_up, &[&[80], &[], &[], &[]]).await;
        let later =
            [(Spend(85), MINUTE_MS - 1), (GiveBack(85), MINUTE_MS - 1), (Spend(91), MINUTE_MS)];
        check(&*store, ("again", &limit), &later, &[&[], &[], &[80, 90]]).await;
    }
}

async fn a_higher_threshold_does_not_keep_a_lower_one_silent(store: Arc<impl Store>) {
    let limit = with_thresholds(&sliding(10, 2_000));
    let requests = [(Spend(8), 0), (Spend(1), 1_800), (Spend(7), 2_100), (Spend(1), 2_300)];
    check(&*store, ("higher", &limit), &requests, &[&[80], &[90], &[80], &[]]).await;
    check(&*store, ("higher", &limit), &[(Spend(1), 3_850)], &[&[90]]).await;
    let limit = with_thresholds(&total(100));
    let requests = [
        (Spend(80), 0),
        (Spend(10), DAY_MS - 1),
        (GiveBack(50), DAY_MS),
        (Spend(50), DAY_MS),
        (Spend(5), 2 * DAY_MS - 2),
        (GiveBack(20), 2 * DAY_MS - 1),
        (Spend(15), 2 * DAY_MS - 1),
    ];
    let expected: [&[u16]; 7] = [&[80], &[90], &[], &[80], &[95], &[], &[90]];
    check(&*store, ("higher of a total", &limit), &requests, &expected).await;
}

async fn use_that_fell_and_rose_again_is_reported_after_a_window(store: Arc<impl Store>) {
    let limit = with_thresholds(&sliding(10, 2_000));
    let requests = [
        (Spend(8), 0),
        (GiveBack(8), 1),
        (Spend(9), 2),
        (Spend(8), 2_050),
        (Spend(1), 2_051),
        (GiveBack(9), 3_250),
        (Spend(9), 3_251),
        (Spend(1), 4_250),
    ];
    let expected: [&[u16]; 8] = [&[80], &[], &[90], &[80], &[90], &[], &[], &[80, 90, 95, 100]];
    check(&*store, ("fell", &limit), &requests, &expected).await;
}

async fn a_total_reports_again_after_a_day_if_hits_came_back(store: Arc<impl Store>) {
    let limit = with_thresholds(&total(100));
    let stays = [(Spend(85), 0), (Spend(1), DAY_MS), (Spend(4), 3 * DAY_MS)];
    check(&*store, ("stays", &limit), &stays, &[&[80], &[], &[90]]).await;
    let back = [
        (Spend(85), 0),
        (GiveBack(85), 1),
        (Spend(85), DAY_MS - 1),
        (GiveBack(50), DAY_MS),
        (Spend(50), DAY_MS),
    ];
    check(&*store, ("back", &limit), &back, &[&[80], &[], &[], &[], &[80]]).await;
}

async fn each_caller_and_each_limit_has_its_own(store: Arc<impl Store>) {
    let (minute, ever) = (with_thresholds(&fixed(100, MINUTE_MS)), with_thresholds(&total(200)));
    let mut batch = one("own", &minute, Spend(90));
    batch.charges.push(Charge::plain(0, ever, Spend(190)));
    let outcome = charge(&*store, &batch, after(0)).await;
    let expected = [(0, 80), (0, 90), (1, 80), (1, 90), (1, 95)];
    assert_eq!(reported(&batch, &outcome), expected);
    check(&*store, ("other", &minute), &[(Spend(80), 0)], &[&[80]]).await;
    // On a cluster they lie on several shards.
    let mut batch = one("third", &minute, Spend(1));
    for name in ["fourth", "fifth", "sixth"] {
        let key_index = batch.key_index(key(name));
        batch.charges.push(Charge::plain(key_index, minute.clone(), Spend(85)));
    }
    let outcome = charge(&*store, &batch, after(0)).await;
    let mut all = reported(&batch, &outcome);
    all.sort_unstable();
    assert_eq!(all, [(1, 80), (2, 80), (3, 80)]);
}

async fn a_lowered_limit_is_reported_by_the_next_charge(store: Arc<impl Store>) {
    let limit = with_thresholds(&fixed(100, MINUTE_MS));
    check(&*store, ("lowered", &limit), &[(Spend(50), 0)], &[&[]]).await;
    let lowered = with_thresholds(&fixed(54, MINUTE_MS));
    check(&*store, ("lowered", &lowered), &[(Spend(1), 1), (Spend(1), 2)], &[&[80, 90], &[95]])
        .await;
    // In this window 95 % have been told.
    check(&*store, ("lowered", &limit), &[(Spend(48), 3)], &[&[100]]).await;
}

async fn a_new_threshold_below_the_use_is_reported_by_the_next_charge(store: Arc<impl Store>) {
    let listed = |percents: &[u16]| {
        Arc::new(Limit::clone(&fixed(100, MINUTE_MS)).with_thresholds(percents.into()))
    };
    let (few, more) = (listed(&[80]), listed(&[50, 80, 84, 90]));
    check(&*store, ("new", &few), &[(Spend(85), 0)], &[&[80]]).await;
    check(&*store, ("new", &more), &[(Spend(1), 1)], &[&[50, 84]]).await;
    // While both policies are in force, neither tells anew what the other one told.
    check(&*store, ("new", &few), &[(Spend(1), 2)], &[&[]]).await;
    check(&*store, ("new", &more), &[(Spend(1), 3)], &[&[]]).await;
    // A limit of nothing has no thresholds, and forgets none.
    let nothing = Arc::new(Limit::clone(&few).with_amount(0));
    check(&*store, ("new", &nothing), &[(GiveBack(8), 4)], &[&[]]).await;
    check(&*store, ("new", &few), &[(Spend(3), 5)], &[&[]]).await;
}

async fn of_many_requests_at_once_one_reports(store: Arc<impl Store + 'static>) {
    let limit = with_thresholds(&sliding(1_000, MINUTE_MS));
    let tasks = (0..50).map(|task| {
        let (store, limit) = (store.clone(), limit.clone());
        tokio::spawn(async move {
            let mut all = Vec::new();
            for step in 0..30 {
                all.extend(reports(&*store, "many", (&limit, Spend(1)), (task + step) % 3).await);
            }
            all
        })
    });
    let mut all: Vec<u16> = join_all(tasks).await.into_iter().flat_map(Result::unwrap).collect();
    all.sort_unstable();
    assert_eq!(all, [80, 90, 95, 100]);
}
