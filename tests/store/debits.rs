//! The contract of every store for peeks, and for debits.

use std::sync::Arc;

use tollgate::limit::Hits::{GiveBack, Spend};
use tollgate::limit::{Fit, Limit, Overdraft};
use tollgate::policy::Mode::{Enforce, Quota, Shadow};
use tollgate::policy::Refused;
use tollgate::store::{Batch, Charge, Decision, Gauge, Mark, Pressed, Store};

use crate::support::batch::{
    after, batch, bucket, fixed, one, one_of_each, opened, overdrawn, sliding, total,
};
use crate::support::claims::{charge, exact_wait, of_every_store, passes, remaining};

of_every_store! {
    nothing_always_fits_whatever_is_owed
    a_debit_that_does_not_fit_counts_and_the_next_peek_is_refused
    a_full_limit_lets_peeks_pass_until_a_debit_overdraws_it
    hits_that_no_descriptor_names_cost_nothing_when_refused
    the_wait_is_exact_while_a_limit_is_overdrawn
    debits_count_each_by_itself
    what_another_limit_refuses_costs_no_debit
    a_debit_on_an_overdraft_limit_counts_whatever_other_limits_say
    a_debit_on_an_overdraft_limit_counts_no_further_than_that_allows
    a_shadow_counts_a_debit_as_it_would_enforced
    a_quota_that_is_over_counts_a_debit_too
    a_peek_looks_at_what_is_open_to_it
    the_wait_of_a_debit_sees_what_the_same_request_gives_back
    a_debit_is_refused_though_the_same_request_makes_room_for_the_next
    no_debit_overflows
}

/// The same batch with hits that descriptors set.
fn named(mut batch: Batch) -> Batch {
    batch.charges.iter_mut().for_each(|charge| charge.refused = Refused::Counted);
    batch
}

/// How much of a limit of 1,000,000 more than `limit` is in use: its counter is the same.
async fn used(store: &impl Store, name: &str, limit: &Limit, ms: u64) -> u64 {
    let wide = Arc::new(limit.with_amount(1_000_000));
    1_000_000 - remaining(store, name, &wide, ms).await
}

async fn nothing_always_fits_whatever_is_owed(store: Arc<impl Store>) {
    for plain in one_of_each(10) {
        let name = plain.tag();
        let owing = overdrawn(&plain, Overdraft::Owed);
        assert!(passes(&*store, &one(name, &owing, Spend(25)), 0).await, "{plain}");
        for overdraft in [Overdraft::None, Overdraft::Allow, Overdraft::Clip, Overdraft::Owed] {
            let limit = overdrawn(&plain, overdraft);
            for mode in [Enforce, Quota, Shadow] {
                for hits in [Spend(0), GiveBack(0)] {
                    let ask = batch(&[(name, 0, mode, &limit, hits)]);
                    let outcome = charge(&*store, &ask, after(1)).await;
                    let decision = outcome.decisions[0];
                    let reported = (outcome.admitted, decision.fit, decision.standing.remaining);
                    assert_eq!(
                        reported,
                        (true, Fit::Now, 0),
                        "{limit} {overdraft} {mode:?} {hits:?}"
                    );
                    assert!(passes(&*store, &opened(ask, 0), 1).await, "{limit}: none is open");
                }
            }
        }
    }
}

async fn a_debit_that_does_not_fit_counts_and_the_next_peek_is_refused(store: Arc<impl Store>) {
    for limit in one_of_each(100) {
        let name = limit.tag();
        let (peek, debit) =
            (named(one(name, &limit, Spend(0))), named(one(name, &limit, Spend(31))));
        for (fits, counted) in [(true, false), (true, false), (true, false), (false, true)] {
            assert!(passes(&*store, &peek, 0).await, "{limit}");
            let outcome = charge(&*store, &debit, after(0)).await;
            assert_eq!(
                (outcome.admitted, outcome.decisions[0].counted),
                (fits, counted),
                "{limit}"
            );
        }
        let refused = charge(&*store, &peek, after(0)).await;
        assert!(!refused.admitted && !refused.decisions[0].counted, "{limit}");
        assert_eq!(refused.decisions[0].standing.remaining, 0, "{limit}");
        // A limit that is already overdrawn counts no more.
        let again = charge(&*store, &debit, after(0)).await;
        assert!(!again.admitted && !again.decisions[0].counted, "{limit}");
        assert!(!passes(&*store, &one(name, &limit, Spend(1)), 0).await, "{limit}");
        // 124 were counted: 24 more than there are.
        assert!(passes(&*store, &one(name, &limit, GiveBack(23)), 0).await, "{limit}");
        assert!(!passes(&*store, &peek, 0).await, "{limit}");
        assert!(passes(&*store, &one(name, &limit, GiveBack(1)), 0).await, "{limit}");
        assert!(passes(&*store, &peek, 0).await, "{limit}");
        assert!(!passes(&*store, &one(name, &limit, Spend(1)), 0).await, "{limit}");
    }
}

/// As in the reference: three of an hour, a peek before and one hit after each request.
async fn a_full_limit_lets_peeks_pass_until_a_debit_overdraws_it(store: Arc<impl Store>) {
    for limit in one_of_each(3) {
        let (peek, debit) =
            (one(limit.tag(), &limit, Spend(0)), one(limit.tag(), &limit, Spend(1)));
        let (peek, debit) = (named(peek), named(debit));
        let mut passed = 0;
        while passed < 10 && passes(&*store, &peek, 0).await {
            passed += 1;
            charge(&*store, &debit, after(0)).await;
        }
        assert_eq!(passed, 4, "{limit}");
    }
}

async fn hits_that_no_descriptor_names_cost_nothing_when_refused(store: Arc<impl Store>) {
    for limit in one_of_each(10) {
        let ask = |hits| one(limit.tag(), &limit, Spend(hits));
        assert!(passes(&*store, &ask(8), 0).await, "{limit}");
        let refused = charge(&*store, &ask(5), after(0)).await;
        assert!(!refused.admitted && !refused.is_charged(), "{limit}");
        assert_eq!(remaining(&*store, limit.tag(), &limit, 0).await, 2, "{limit}");
    }
}

async fn the_wait_is_exact_while_a_limit_is_overdrawn(store: Arc<impl Store>) {
    let overdraw = async |name: &str, limit: &Arc<Limit>| {
        assert!(passes(&*store, &named(one(name, limit, Spend(6))), 0).await);
        let late = charge(&*store, &named(one(name, limit, Spend(7))), after(3_000)).await;
        assert!(late.decisions[0].counted, "{limit}");
    };
    let sliding = sliding(10, 10_000);
    overdraw("s", &sliding).await;
    // Thirteen are in use: six leave at ten seconds, the others at thirteen.
    assert_eq!(exact_wait(&*store, &named(one("s", &sliding, Spend(0))), 4_000).await, 6_000);
    assert_eq!(exact_wait(&*store, &one("s", &sliding, Spend(4)), 10_000).await, 3_000);
    let bucket = bucket(10, 10_000, 10);
    // One is paid back in a second.
    assert!(passes(&*store, &named(one("b", &bucket, Spend(6))), 0).await);
    let late = charge(&*store, &named(one("b", &bucket, Spend(9))), after(3_000)).await;
    assert!(late.decisions[0].counted);
    assert_eq!(exact_wait(&*store, &named(one("b", &bucket, Spend(0))), 3_500).await, 1_500);
    assert_eq!(exact_wait(&*store, &one("b", &bucket, Spend(1)), 5_000).await, 1_000);
    let window = fixed(10, 10_000_000);
    overdraw("f", &window).await;
    exact_wait(&*store, &named(one("f", &window, Spend(0))), 4_000).await;
    let ever = total(10);
    overdraw("t", &ever).await;
    let peek = charge(&*store, &named(one("t", &ever, Spend(0))), after(4_000)).await;
    assert_eq!((peek.admitted, peek.decisions[0].fit), (false, Fit::Never));
}

/// Both are debits of one response: the hits of the second were spent, whatever the first has left.
async fn debits_count_each_by_itself(store: Arc<impl Store>) {
    for limit in one_of_each(100) {
        let (user, company) = (format!("user {}", limit.tag()), format!("all {}", limit.tag()));
        let wide = Arc::new(limit.with_amount(200));
        let debit = named(batch(&[
            (&user, 0, Enforce, &limit, Spend(31)),
            (&company, 1, Enforce, &wide, Spend(31)),
        ]));
        for (admitted, counted) in [
            (true, [false, false]),
            (true, [false, false]),
            (true, [false, false]),
            (false, [true, true]),
            (false, [false, true]),
            (false, [false, true]),
            (false, [false, true]),
            (false, [false, false]),
        ] {
            let outcome = charge(&*store, &debit, after(0)).await;
            let reported: Vec<bool> = outcome.decisions.iter().map(|one| one.counted).collect();
            assert_eq!(
                (outcome.admitted, reported.as_slice()),
                (admitted, &counted[..]),
                "{limit}"
            );
        }
        assert_eq!(used(&*store, &user, &limit, 0).await, 4 * 31, "{limit}");
        assert_eq!(used(&*store, &company, &limit, 0).await, 7 * 31, "{limit}");
    }
}

async fn what_another_limit_refuses_costs_no_debit(store: Arc<impl Store>) {
    for limit in one_of_each(10) {
        let closed = total(0);
        let (late, fits) = (format!("late {}", limit.tag()), format!("fits {}", limit.tag()));
        let mut ask = named(batch(&[
            (&late, 0, Enforce, &limit, Spend(31)),
            (&fits, 1, Enforce, &limit, Spend(3)),
            ("closed", 2, Enforce, &closed, Spend(1)),
        ]));
        ask.charges[2].refused = Refused::Free;
        for _ in 0..2 {
            let outcome = charge(&*store, &ask, after(0)).await;
            assert!(!outcome.admitted && !outcome.is_charged(), "{limit}");
        }
        // A refused peek is not a debit either.
        ask.charges[2].limit = overdrawn(&closed, Overdraft::None);
        let owing = overdrawn(&closed, Overdraft::Owed);
        assert!(passes(&*store, &one("closed", &owing, Spend(1)), 0).await);
        ask.charges[2].hits = Spend(0);
        ask.charges[2].refused = Refused::Counted;
        let outcome = charge(&*store, &ask, after(0)).await;
        assert!(!outcome.admitted && !outcome.is_charged(), "{limit}");
        assert!(passes(&*store, &one("closed", &closed, GiveBack(1)), 0).await);
        for name in [&late, &fits] {
            assert_eq!(used(&*store, name, &limit, 0).await, 0, "{limit}");
        }
    }
}

/// A debit of 4 on `limit`, with an overdraft, beside `others` that refuse or admit.
fn booked(name: &str, limit: &Arc<Limit>, others: &[Batch]) -> Batch {
    let mut ask = one(name, limit, Spend(4));
    ask.charges[0].refused = Refused::Booked;
    for (group, other) in others.iter().enumerate() {
        let key_index = ask.key_index(other.keys[0].clone());
        let charge = other.charges[0].clone();
        ask.charges.push(Charge { key_index, group: group + 1, ..charge });
    }
    ask
}

async fn a_debit_on_an_overdraft_limit_counts_whatever_other_limits_say(store: Arc<impl Store>) {
    let closed = total(0);
    let owing = overdrawn(&closed, Overdraft::Owed);
    assert!(passes(&*store, &one("closed", &owing, Spend(1)), 0).await);
    let refusing = [
        named(one("closed", &closed, Spend(31))),
        one("closed", &closed, Spend(1)),
        named(one("closed", &closed, Spend(0))),
    ];
    for plain in one_of_each(10) {
        for (overdraft, used_then) in
            [(Overdraft::Allow, [4, 8, 12]), (Overdraft::Clip, [4, 8, 10])]
        {
            let limit = overdrawn(&plain, overdraft);
            let name = format!("{overdraft} {}", limit.tag());
            for (other, used_then) in refusing.iter().zip(used_then) {
                let outcome =
                    charge(&*store, &booked(&name, &limit, std::slice::from_ref(other)), after(0))
                        .await;
                let reported: Vec<bool> = outcome.decisions.iter().map(|one| one.counted).collect();
                assert_eq!(
                    (outcome.admitted, &reported[..]),
                    (false, &[true, false][..]),
                    "{name}"
                );
                assert_eq!(outcome.decisions[0].fit, Fit::Now, "{name}");
                assert_eq!(
                    outcome.decisions[0].standing.remaining,
                    10 - used_then.min(10),
                    "{name}"
                );
                assert_eq!(used(&*store, &name, &limit, 0).await, used_then, "{name}");
            }
            let reported = charge(&*store, &booked(&name, &limit, &refusing[..1]), after(0)).await;
            assert!(!reported.is_charged(), "{name}: none is left");
            assert_eq!(used(&*store, &name, &limit, 0).await, used_then[2], "{name}");
        }
    }
}

/// Limits of one rule are charged together, and hits that an overdraft does not admit are not debits of the others
/// either.
async fn a_debit_on_an_overdraft_limit_counts_no_further_than_that_allows(store: Arc<impl Store>) {
    for plain in one_of_each(10) {
        let limit = overdrawn(&plain, Overdraft::Allow);
        let (name, narrow) = (format!("allow {}", limit.tag()), total(3));
        let mut rule = booked(&name, &limit, &[one("narrow", &narrow, Spend(4))]);
        rule.charges[1].group = 0;
        assert!(!charge(&*store, &rule, after(0)).await.is_charged(), "{limit}");
        let reserved = opened(booked(&name, &limit, &[]), 0);
        assert!(!charge(&*store, &reserved, after(0)).await.is_charged(), "{limit}");
        // Its own refusal has no effect on the debits of others.
        let late = format!("late {}", limit.tag());
        let other = named(one(&late, &plain, Spend(31)));
        let mut both = booked(&name, &limit, &[other]);
        both.charges[0].open.hits = 0;
        let outcome = charge(&*store, &both, after(0)).await;
        let reported: Vec<bool> = outcome.decisions.iter().map(|one| one.counted).collect();
        assert_eq!((outcome.admitted, &reported[..]), (false, &[false, true][..]), "{limit}");
        assert_eq!(used(&*store, &name, &limit, 0).await, 0, "{limit}");
        assert_eq!(used(&*store, &late, &plain, 0).await, 31, "{limit}");
    }
}

async fn a_shadow_counts_a_debit_as_it_would_enforced(store: Arc<impl Store>) {
    for limit in one_of_each(10) {
        let name = limit.tag();
        let ask = |hits| named(batch(&[(name, 0, Shadow, &limit, Spend(hits))]));
        for (hits, fits, counted) in [(9, true, false), (9, false, true), (9, false, false)] {
            let outcome = charge(&*store, &ask(hits), after(0)).await;
            let decision = outcome.decisions[0];
            let reported = (outcome.admitted, decision.fit == Fit::Now, decision.counted);
            assert_eq!(reported, (true, fits, counted), "{limit}");
        }
        assert_eq!(used(&*store, name, &limit, 0).await, 18, "{limit}");
    }
}

async fn a_quota_that_is_over_counts_a_debit_too(store: Arc<impl Store>) {
    for limit in one_of_each(10) {
        let (first, second) = (format!("first {}", limit.tag()), format!("second {}", limit.tag()));
        let wide = Arc::new(limit.with_amount(20));
        let debit = named(batch(&[
            (&first, 0, Quota, &limit, Spend(9)),
            (&second, 1, Quota, &wide, Spend(9)),
        ]));
        for (admitted, counted) in [
            (true, [false, false]),
            (true, [true, false]),
            (false, [false, true]),
            (false, [false, false]),
        ] {
            let outcome = charge(&*store, &debit, after(0)).await;
            let reported: Vec<bool> = outcome.decisions.iter().map(|one| one.counted).collect();
            assert_eq!(
                (outcome.admitted, reported.as_slice()),
                (admitted, &counted[..]),
                "{limit}"
            );
        }
        assert_eq!(used(&*store, &first, &limit, 0).await, 18, "{limit}");
        assert_eq!(used(&*store, &second, &limit, 0).await, 27, "{limit}");
    }
}

async fn a_peek_looks_at_what_is_open_to_it(store: Arc<impl Store>) {
    for limit in one_of_each(10) {
        let name = limit.tag();
        let peek = named(one(name, &limit, Spend(0)));
        assert!(passes(&*store, &one(name, &limit, Spend(7)), 0).await, "{limit}");
        assert!(!passes(&*store, &opened(peek.clone(), 6), 0).await, "{limit}");
        assert!(passes(&*store, &opened(peek.clone(), 7), 0).await, "{limit}");
        assert!(passes(&*store, &peek, 0).await, "{limit}");
        // The whole limit is not overdrawn: what was spent counts.
        let debit = opened(named(one(name, &limit, Spend(2))), 6);
        assert!(charge(&*store, &debit, after(0)).await.decisions[0].counted, "{limit}");
        assert_eq!(used(&*store, name, &limit, 0).await, 9, "{limit}");
    }
}

/// The refund lowers the gauge at once, so the debit fits when its window ends.
/// A debit of two hits that a gauge closes `limit` to, in a request that gives back what has filled the gauge.
async fn debit_beside_a_give_back(store: &impl Store, limit: &Arc<Limit>) -> Decision {
    let gauge = total(10);
    assert!(passes(store, &one("gauge", &gauge, Spend(5)), 0).await);
    let mut ask =
        batch(&[("gauge", 0, Enforce, &gauge, GiveBack(5)), ("gauge", 1, Shadow, limit, Spend(2))]);
    ask.charges[1].refused = Refused::Counted;
    let mark = Mark { charge: 0, level: 1, rise: 3, fall: 3 };
    ask.gauges.push(Gauge { key_index: 0, marks: std::iter::once(mark).collect() });
    ask.charges[1].open.pressed = vec![Pressed { gauge: 0, hits: std::iter::once(0).collect() }];
    let outcome = charge(store, &ask, after(0)).await;
    assert_eq!((outcome.admitted, outcome.levels.as_slice()), (true, &[1][..]));
    assert!(outcome.decisions[1].counted);
    outcome.decisions[1]
}

async fn the_wait_of_a_debit_sees_what_the_same_request_gives_back(store: Arc<impl Store>) {
    let Decision { fit, standing, .. } = debit_beside_a_give_back(&*store, &fixed(2, 60_000)).await;
    let Fit::AfterMs(wait) = fit else { panic!("{fit:?}") };
    assert_eq!(standing.reset_ms, Some(wait));
}

async fn a_debit_is_refused_though_the_same_request_makes_room_for_the_next(
    store: Arc<impl Store>,
) {
    let decision = debit_beside_a_give_back(&*store, &fixed(9, 60_000)).await;
    assert_eq!(decision.fit, Fit::AfterMs(1));
}

async fn no_debit_overflows(store: Arc<impl Store>) {
    let most = tollgate::limit::AMOUNT_MAX;
    for limit in [sliding(most, 600_000), total(most), bucket(1_000_000, 600_000, 1_000_000)] {
        let name = limit.tag();
        let debit = named(one(name, &limit, Spend(u64::MAX)));
        assert!(charge(&*store, &debit, after(0)).await.decisions[0].counted, "{limit}");
        assert!(!charge(&*store, &debit, after(0)).await.is_charged(), "{limit}");
        for _ in 0..3 {
            assert!(passes(&*store, &one(name, &limit, GiveBack(u64::MAX)), 0).await, "{limit}");
        }
        assert_eq!(remaining(&*store, name, &limit, 0).await, limit.capacity(), "{limit}");
    }
}
