//! Counters in a real Redis Cluster: on several slots, while slots move, and when a master is lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::task::JoinSet;
use tollgate::limit::Hits::{GiveBack, Spend};
use tollgate::limit::{Fit, Overdraft};
use tollgate::policy::Mode::Enforce;
use tollgate::policy::Refused;
use tollgate::store::{Pressed, Store};

use crate::support::ask::DomainClient;
use crate::support::batch::{
    after, batch, in_part, one, overdrawn, pressed, sliding, total, with_id,
};
use crate::support::claims::remaining;
use crate::support::cluster::{Cluster, Sidecar};
use crate::support::tollgate::Tollgate;
use crate::support::{eventually, store};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_on_several_slots_is_charged_whole_or_not_at_all() {
    let Some(cluster) = Cluster::start(3, false).await else { return };
    let store = Sidecar::open(&cluster).await;
    let (wide, narrow) = (sliding(1_000, 60_000), sliding(3, 60_000));
    let names: Vec<String> = (0..8).map(|name| format!("wide {name}")).collect();
    let wides = names.iter().enumerate();
    let mut charges: Vec<_> =
        wides.map(|(group, name)| (name.as_str(), group, Enforce, &wide, Spend(1))).collect();
    charges.push(("narrow", 8, Enforce, &narrow, Spend(1)));
    let ask = batch(&charges);
    for passes in [true, true, true, false, false, false] {
        assert_eq!(store.charge(&ask, after(0)).await.unwrap().admitted, passes);
    }
    for name in &names {
        assert_eq!(remaining(&*store, name, &wide, 1).await, 997, "{name}");
    }
}

/// Debits count on every slot; hits that any other limit refuses cost nothing on any.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn debits_on_several_slots_count_each_by_itself() {
    let Some(cluster) = Cluster::start(3, false).await else { return };
    let store = Sidecar::open(&cluster).await;
    let (wide, narrow, closed) = (sliding(1_000, 60_000), sliding(100, 60_000), total(0));
    let names: Vec<String> = (0..8).map(|name| format!("wide {name}")).collect();
    let wides = names.iter().enumerate();
    let mut charges: Vec<_> =
        wides.map(|(group, name)| (name.as_str(), group, Enforce, &wide, Spend(31))).collect();
    charges.push(("narrow", 8, Enforce, &narrow, Spend(31)));
    let mut debit = batch(&charges);
    debit.charges.iter_mut().for_each(|charge| charge.refused = Refused::Counted);
    for (number, passes) in [(1, true), (2, true), (3, true), (4, false), (5, false)] {
        let outcome = store.charge(&debit, after(0)).await.unwrap();
        assert_eq!(outcome.admitted, passes, "{number}");
        let counted = outcome.decisions.iter().filter(|decision| decision.counted).count();
        assert_eq!(counted, [0, 0, 0, 9, 8][number - 1], "{number}");
    }
    charges.push(("closed", 9, Enforce, &closed, Spend(1)));
    let mut refused = batch(&charges);
    refused.charges.iter_mut().take(9).for_each(|charge| charge.refused = Refused::Counted);
    assert!(!store.charge(&refused, after(0)).await.unwrap().is_charged());
    for name in &names {
        assert_eq!(remaining(&*store, name, &wide, 1).await, 1_000 - 5 * 31, "{name}");
    }
    // On a limit with an overdraft it counts regardless of the others.
    refused.charges[0].limit = overdrawn(&wide, Overdraft::Allow);
    refused.charges[0].refused = Refused::Booked;
    let outcome = store.charge(&refused, after(0)).await.unwrap();
    let reported: Vec<bool> = outcome.decisions.iter().map(|decision| decision.counted).collect();
    assert_eq!(reported, [vec![true], vec![false; 9]].concat());
    assert_eq!(outcome.decisions[0].standing.remaining, 1_000 - 6 * 31);
    assert_eq!(remaining(&*store, &names[0], &wide, 1).await, 1_000 - 6 * 31);
    for name in &names[1..] {
        assert_eq!(remaining(&*store, name, &wide, 1).await, 1_000 - 5 * 31, "{name}");
    }
    let wider = sliding(1_000, 60_000);
    assert_eq!(remaining(&*store, "narrow", &wider, 1).await, 1_000 - 4 * 31);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_speaks_tls_alone_is_used_and_its_slots_move() {
    let Some(cluster) = Cluster::start_with_tls(3).await else { return };
    let store = Sidecar::open(&cluster).await;
    let limit = sliding(5, 60_000);
    let names: Vec<String> = (0..6).map(|name| format!("name {name}")).collect();
    let charges = names.iter().enumerate();
    let charges: Vec<_> =
        charges.map(|(group, name)| (name.as_str(), group, Enforce, &limit, Spend(1))).collect();
    let ask = batch(&charges);
    assert!(store.charge(&ask, after(0)).await.unwrap().admitted);
    let slot = cluster.slot(&names[0]).await;
    let from = (0..3).find(|master| cluster.slots(*master).contains(&slot)).unwrap();
    cluster.move_slot(slot, (from, (from + 1) % 3), async || ()).await;
    assert!(store.charge(&ask, after(0)).await.unwrap().admitted);
    for name in &names {
        assert_eq!(remaining(&*store, name, &limit, 1).await, 3, "{name}");
    }
}

/// Two sidecars send requests with one narrow and one wide limit, on slots of two masters, from many tasks at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_at_once_never_exceed_and_what_was_refused_comes_back() {
    let Some(cluster) = Cluster::start(3, false).await else { return };
    let (wide, narrow) = (total(1_000), total(37));
    let ask = Arc::new(batch(&[
        ("wide", 0, Enforce, &wide, Spend(1)),
        ("narrow", 1, Enforce, &narrow, Spend(1)),
    ]));
    let admitted = Arc::<AtomicUsize>::default();
    let mut tasks = JoinSet::new();
    let sidecars = [Sidecar::open(&cluster).await, Sidecar::open(&cluster).await];
    for store in &sidecars {
        for _ in 0..20 {
            let (store, ask, admitted) = (store.clone(), ask.clone(), admitted.clone());
            tasks.spawn(async move {
                for _ in 0..20 {
                    let outcome = store.charge(&ask, after(0)).await.unwrap();
                    admitted.fetch_add(usize::from(outcome.admitted), Ordering::Relaxed);
                }
            });
        }
    }
    tasks.join_all().await;
    let admitted = admitted.load(Ordering::Relaxed);
    assert!((1..=37).contains(&admitted), "{admitted}");
    for (name, limit) in [("wide", &wide), ("narrow", &narrow)] {
        eventually("what was refused is back", async || {
            sidecars[0].maintain(after(0)).await;
            sidecars[1].maintain(after(0)).await;
            let left = remaining(&*sidecars[0], name, limit, 0).await;
            (limit.amount() - left == u64::try_from(admitted).unwrap()).then_some(())
        })
        .await;
    }
}

/// Requests take what is left of limits on slots of two masters, as many of each.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_at_once_get_as_many_of_each_limit_and_what_is_too_many_comes_back() {
    let Some(cluster) = Cluster::start(3, false).await else { return };
    let (users, seats) = (total(100_000), total(203));
    let ask = Arc::new(in_part(batch(&[
        ("wide", 0, Enforce, &users, Spend(7)),
        ("narrow", 1, Enforce, &seats, Spend(7)),
    ])));
    let got = Arc::<AtomicUsize>::default();
    let mut tasks = JoinSet::new();
    let sidecars = [Sidecar::open(&cluster).await, Sidecar::open(&cluster).await];
    for store in &sidecars {
        for _ in 0..20 {
            let (store, ask, got) = (store.clone(), ask.clone(), got.clone());
            tasks.spawn(async move {
                for _ in 0..5 {
                    let outcome = store.charge(&ask, after(0)).await.unwrap();
                    let clipped = outcome.decisions.iter().map(|decision| decision.clipped);
                    let clipped: Vec<u64> = clipped.collect();
                    assert_eq!(clipped[0], clipped[1], "{outcome:?}");
                    let granted = if outcome.admitted { 7 - clipped[0] } else { 0 };
                    got.fetch_add(usize::try_from(granted).unwrap(), Ordering::Relaxed);
                }
            });
        }
    }
    tasks.join_all().await;
    assert_eq!(got.load(Ordering::Relaxed), 203);
    for (name, limit) in [("wide", &users), ("narrow", &seats)] {
        eventually("what was too many is back", async || {
            sidecars[0].maintain(after(0)).await;
            sidecars[1].maintain(after(0)).await;
            let left = remaining(&*sidecars[0], name, limit, 0).await;
            (limit.amount() - left == 203).then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slots_move_under_load_and_no_request_notices() {
    let Some(cluster) = Cluster::start(3, false).await else { return };
    let store = Sidecar::open(&cluster).await;
    let limit = total(1_000_000);
    let names: Vec<String> = (0..6).map(|name| format!("name {name}")).collect();
    let stop = Arc::new(AtomicBool::new(false));
    let asked = Arc::<AtomicUsize>::default();
    let mut tasks = JoinSet::new();
    for name in names.clone() {
        let (store, limit, stop, asked) =
            (store.clone(), limit.clone(), stop.clone(), asked.clone());
        tasks.spawn(async move {
            let mut hits = 0;
            while !stop.load(Ordering::Relaxed) {
                let outcome = store.charge(&one(&name, &limit, Spend(1)), after(0)).await;
                assert!(outcome.expect("a moving slot is no outage").admitted);
                asked.fetch_add(1, Ordering::Relaxed);
                hits += 1;
            }
            (name, hits)
        });
    }
    let some_more = async || {
        let before = asked.load(Ordering::Relaxed);
        eventually("requests go on", async || {
            (before + 100 < asked.load(Ordering::Relaxed)).then_some(())
        })
        .await;
    };
    for name in &names {
        let slot = cluster.slot(name).await;
        let from = (0..3).find(|master| cluster.slots(*master).contains(&slot)).unwrap();
        cluster.move_slot(slot, (from, (from + 1) % 3), some_more).await;
        some_more().await;
    }
    stop.store(true, Ordering::Relaxed);
    for (name, hits) in tasks.join_all().await {
        let left = remaining(&*store, &name, &limit, 0).await;
        assert_eq!(1_000_000 - left, hits, "{name}");
    }
}

/// A provider's gauge restricts a caller's limit, and the two are on different slots.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gauge_presses_limits_of_other_slots() {
    let Some(cluster) = Cluster::start(3, false).await else { return };
    let store = Sidecar::open(&cluster).await;
    let (provider, caller) = (total(10), total(100));
    let ask = batch(&[
        ("provider", 0, Enforce, &provider, Spend(1)),
        ("caller", 1, Enforce, &caller, Spend(1)),
    ]);
    let mut ask = pressed(ask, &[(1, 4, 2)], &[10]);
    let press = Pressed { gauge: 0, hits: [5].into_iter().collect() };
    ask.charges[1].open.pressed.push(press);
    for _ in 0..5 {
        let outcome = store.charge(&ask, after(0)).await.unwrap();
        assert!(outcome.admitted);
    }
    for _ in 0..3 {
        let outcome = store.charge(&ask, after(0)).await.unwrap();
        assert!(!outcome.admitted, "five are in use, which is all that is open under pressure");
        assert_eq!(outcome.levels.as_slice(), [1]);
        assert_eq!(outcome.decisions[1].fit, Fit::Never);
    }
    assert_eq!(remaining(&*store, "provider", &provider, 0).await, 5);
}

/// Also for the first refused request, for which the other masters were charged before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_tells_nothing_as_spent_that_was_not() {
    let Some(cluster) = Cluster::start(3, false).await else { return };
    let store = Sidecar::open(&cluster).await;
    let (wide, closed) = (sliding(10, 60_000), total(0));
    for name in 0..6 {
        let name = format!("wide {name}");
        let ask = batch(&[
            (name.as_str(), 0, Enforce, &wide, Spend(1)),
            ("closed", 1, Enforce, &closed, Spend(1)),
        ]);
        for round in 0..2 {
            let standing = store.charge(&ask, after(0)).await.unwrap().decisions[0].standing;
            assert_eq!((standing.remaining, standing.reset_ms), (10, Some(0)), "{name} {round}");
        }
    }
}

/// Hits of a request are given back only if it passes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hits_come_back_with_a_request_that_passes_and_with_no_other() {
    let Some(cluster) = Cluster::start(3, false).await else { return };
    let store = Sidecar::open(&cluster).await;
    let (slots, narrow) = (total(10), total(1));
    assert!(store.charge(&one("slots", &slots, Spend(4)), after(0)).await.unwrap().admitted);
    let ask = batch(&[
        ("slots", 0, Enforce, &slots, GiveBack(1)),
        ("narrow", 1, Enforce, &narrow, Spend(1)),
    ]);
    for (passes, left) in [(true, 7), (false, 7)] {
        assert_eq!(store.charge(&ask, after(0)).await.unwrap().admitted, passes);
        assert_eq!(remaining(&*store, "slots", &slots, 0).await, left);
    }
    let all = batch(&[
        ("slots", 0, Enforce, &slots, GiveBack(1)),
        ("narrow", 1, Enforce, &narrow, GiveBack(1)),
    ]);
    for (all, left) in [(all.clone(), 8), (with_id(all.clone(), "id"), 9), (with_id(all, "id"), 9)]
    {
        assert!(store.charge(&all, after(0)).await.unwrap().admitted);
        assert_eq!(remaining(&*store, "slots", &slots, 0).await, left, "they come back once");
    }
}

const POLICY: &str = "
domain: d
answer: { metadata: always }
descriptors:
- { key: user, limits: [{ rate: 1000000/day, on_outage: deny }] }
- { key: provider, limits: [{ rate: 1000000/day, on_outage: allow }] }";

/// One limit of each request is decided by another master than the other, it may be.
const PAIRS: &str = "
domain: d
answer: { metadata: always }
caller: { key: account }
descriptors:
- { key: user, limits: [1000000/day] }
- { key: account, limits: [1000000/day] }";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_master_costs_its_own_slots_alone_and_its_replica_takes_over() {
    let Some(mut cluster) = Cluster::start(3, true).await else { return };
    let mut flags = cluster.flags();
    flags.extend(["--store-deadline".to_owned(), "1s".to_owned()]);
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let tollgate = Tollgate::serve_with(POLICY, &store::Store::Embedded, &flags).await;
    let mut client = DomainClient::new(&tollgate, "d").await;
    let users: Vec<String> = (0..30).map(|user| format!("user=u{user}")).collect();
    for user in &users {
        eventually("all masters are found", async || {
            client.ask(&[user], 1).await.metadata["fallback"].is_null().then_some(())
        })
        .await;
    }
    cluster.nodes[0].replicated().await;
    cluster.nodes[0].kill();
    let mut out = 0;
    for user in &users {
        out += usize::from(!client.ask(&[user], 1).await.passed);
    }
    assert!((1..users.len()).contains(&out), "{out}: those of one master");
    for user in &users {
        let left = eventually("a replica has taken over", async || {
            let reported = client.ask(&[user], 1).await;
            reported.metadata["fallback"].is_null().then(|| reported.remaining[0])
        })
        .await;
        assert!((999_990..=999_998).contains(&left), "{user}: {left}");
    }
}

/// If one master can't decide its part, the request fails, and the other masters get their hits back. The same if only
/// the lost master has the record of the caller.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_meets_a_lost_master_fails_and_costs_nothing_elsewhere() {
    let Some(mut cluster) = Cluster::start(3, false).await else { return };
    let mut flags = cluster.flags();
    flags.extend(["--store-deadline".to_owned(), "1s".to_owned()]);
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let tollgate = Tollgate::serve_with(PAIRS, &store::Store::Embedded, &flags).await;
    let mut client = DomainClient::new(&tollgate, "d").await;
    let users: Vec<String> = (0..20).map(|user| format!("user=u{user}")).collect();
    for user in &users {
        eventually("all masters are found", async || client.try_ask(&[user], 1).await.ok()).await;
    }
    cluster.kill_master_of("tgc1").await;
    let (mut lost, mut well) = (Vec::new(), Vec::new());
    for user in &users {
        match client.try_ask(&[user], 1).await {
            Ok(_) => well.push(user.as_str()),
            Err(_) => lost.push(user.as_str()),
        }
    }
    assert!(!lost.is_empty() && !well.is_empty(), "{lost:?} {well:?}");
    for user in well {
        let status = client.try_ask(&[lost[0], user], 1).await.unwrap_err();
        assert_eq!(status.code(), tonic::Code::Unavailable, "{status}");
        eventually("what the others have counted is back", async || {
            let left = client.try_ask(&[user], 0).await.ok()?.remaining[0];
            (left == 999_998).then_some(())
        })
        .await;
    }
    for account in 0..10 {
        let account = format!("account=a{account}");
        let status = client.try_ask(&[&account], 1).await.unwrap_err();
        assert_eq!(status.code(), tonic::Code::Unavailable, "{status}");
    }
}
