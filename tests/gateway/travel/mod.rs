//! `config/policies/travel.yaml`: callers of three tiers share three providers.
//!
//! Windows of a minute and longer are counted exactly. If windows of a second would make a test depend on the speed of
//! the machine, it uses the policy without them.

mod gateway;
pub mod token;

use std::fs;

use serde_json::json;

use crate::support::ask::DomainClient;
use crate::support::store::Store;
use crate::support::tollgate::Tollgate;

const FILE: &str = "config/policies/travel.yaml";

/// Searches and bookings a minute, and requests a day.
const TIERS: [(&str, [u32; 3]); 3] =
    [("free", [10, 2, 100]), ("premium", [50, 10, 1_000]), ("enterprise", [200, 50, 10_000])];

/// More than any limit has.
const TOO_MANY: u32 = 1_000_000;

fn policy() -> String {
    fs::read_to_string(FILE).unwrap()
}

/// The policy with one limit for searches at hotelbeds, of which a hundred a day pass.
fn hundred_a_day() -> String {
    let (policy, limits) = (policy(), "[10/second, 600/minute, 3600/hour, 86400/day]");
    assert!(policy.contains(limits));
    policy.replace(limits, "[{ name: hundred, rate: 100/day }]")
}

/// Runs `check` with the policy on every store.
async fn on_every_store(policy: &str, check: impl AsyncFn(&mut DomainClient)) {
    for store in Store::every() {
        let tollgate = Tollgate::serve(policy, &store).await;
        check(&mut DomainClient::new(&tollgate, "travel").await).await;
    }
}

#[tokio::test]
async fn each_tier_has_exactly_its_searches_and_bookings() {
    on_every_store(&policy(), async |client| {
        for (tier, [searches, bookings, _]) in TIERS {
            let path = |what| format!("user_id=one-of-{tier},request_type={what},tier={tier}");
            client.spend_exactly(&[&path("search")], searches).await;
            client.spend_exactly(&[&path("booking")], bookings).await;
        }
    })
    .await;
}

#[tokio::test]
async fn the_daily_limit_counts_whatever_is_asked_for() {
    on_every_store(&policy(), async |client| {
        for (tier, [searches, bookings, daily]) in TIERS {
            let of = |rest| format!("user_id=one-of-{tier}{rest},tier={tier}");
            let rest = daily - searches - bookings;
            assert!(client.ask(&[&of("")], rest).await.passed);
            client.spend_exactly(&[&of(",request_type=booking")], bookings).await;
            assert!(client.ask(&[&of(",request_type=search")], searches).await.passed);
            let other = client.ask(&[&of(",request_type=other")], 1).await;
            assert_eq!((other.passed, other.violated()), (false, vec!["daily"]), "{other:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_caller_without_a_known_tier_is_free() {
    on_every_store(&policy(), async |client| {
        client.spend_exactly(&["user_id=nobody,request_type=search"], 10).await;
        client.spend_exactly(&["user_id=inventive,request_type=search,tier=platinum"], 10).await;
    })
    .await;
}

#[tokio::test]
async fn a_change_of_tier_keeps_the_count() {
    on_every_store(&policy(), async |client| {
        let search = |tier| format!("user_id=climber,request_type=search,tier={tier}");
        client.spend_exactly(&[&search("free")], 10).await;
        client.spend_exactly(&[&search("premium")], 40).await;
        client.spend_exactly(&[&search("enterprise")], 150).await;
    })
    .await;
}

#[tokio::test]
async fn free_callers_have_no_access_to_expedia_and_are_told_so() {
    on_every_store(&policy(), async |client| {
        for endpoint in ["search", "booking"] {
            let expedia = format!("provider=expedia,endpoint={endpoint}");
            let search = |tier| format!("user_id=of-{tier},request_type=search,tier={tier}");
            let free = client.ask(&[&search("free"), &expedia], 1).await;
            assert_eq!((free.passed, free.reason()), (false, "no_access"), "{free:?}");
            assert_eq!(free.problem.get("retry_after_ms"), None, "{free:?}");
            assert!(client.ask(&[&search("premium"), &expedia], 1).await.passed);
            assert!(client.ask(&[&search("enterprise"), &expedia], 1).await.passed);
        }
        let search = "user_id=of-free,request_type=search";
        // Neither refusal has cost a search.
        client.spend_exactly(&[search], 10).await;
        let over = client.ask(&[search], 1).await;
        assert_eq!((over.reason(), over.violated()), ("over_limit", vec!["search"]), "{over:?}");
    })
    .await;
}

#[tokio::test]
async fn a_provider_that_refuses_costs_the_caller_nothing() {
    on_every_store(&policy(), async |client| {
        let booking = "user_id=big,request_type=booking,tier=enterprise";
        let refused = client.ask(&[booking, "provider=hotelbeds,endpoint=booking"], 6).await;
        assert!(!refused.passed, "{refused:?}");
        client.spend_exactly(&[booking], 50).await;
    })
    .await;
}

#[tokio::test]
async fn a_refusal_tells_the_tier_and_the_priority() {
    on_every_store(&policy(), async |client| {
        let mut check = async |descriptor: &str, tier: &str, priority: u32| {
            let reported = client.ask(&[descriptor], TOO_MANY).await;
            let caller = json!({ "tier": tier, "priority": f64::from(priority), "roles": [] });
            assert_eq!(reported.metadata["caller"], caller, "{descriptor}: {reported:?}");
        };
        check("user_id=a,request_type=search", "free", 1).await;
        check("user_id=a,request_type=booking", "free", 2).await;
        check("user_id=a,request_type=search,tier=premium", "premium", 2).await;
        check("user_id=a,request_type=booking,tier=premium", "premium", 3).await;
        check("user_id=a,request_type=search,tier=enterprise", "enterprise", 3).await;
        check("user_id=a,request_type=booking,tier=enterprise", "enterprise", 4).await;
        check("user_id=a,request_type=search,priority=4", "free", 4).await;
        check("user_id=a,request_type=booking,tier=enterprise,priority=1", "enterprise", 1).await;
        check("user_id=a,request_type=search,priority=5", "free", 1).await;
    })
    .await;
}

#[tokio::test]
async fn the_last_part_of_a_provider_is_kept_for_higher_tiers() {
    on_every_store(&hundred_a_day(), async |client| {
        let provider = "provider=hotelbeds,endpoint=search";
        let of = |tier| format!("{provider},tier={tier}");
        client.spend_exactly(&[&of("free")], 90).await;
        let free = client.ask(&[&of("free")], 1).await;
        assert_eq!((free.reason(), free.violated()), ("reserved", vec!["hundred"]), "{free:?}");
        // Urgent, because pressure would refuse other requests by now.
        let urgent = of("premium,priority=4");
        client.spend_exactly(&[&urgent], 8).await;
        assert_eq!(client.ask(&[&urgent], 1).await.reason(), "reserved");
        client.spend_exactly(&[&of("enterprise")], 2).await;
        assert_eq!(client.ask(&[&of("enterprise")], 1).await.reason(), "over_limit");
    })
    .await;
}

#[tokio::test]
async fn a_provider_under_pressure_takes_from_free_callers_first() {
    on_every_store(&hundred_a_day(), async |client| {
        let provider = "provider=hotelbeds,endpoint=search";
        let search = |tier| format!("user_id=of-{tier},request_type=search,tier={tier}");
        assert!(client.ask(&[&search("free"), provider], 8).await.passed);
        let enterprise = "user_id=big,request_type=search,tier=enterprise";
        assert!(client.ask(&[enterprise, provider], 73).await.passed);
        // More than 80 % is used: a free caller may use eight of its ten searches, and those are spent.
        let free = client.ask(&[&search("free"), provider], 1).await;
        assert_eq!(free.reason(), "pressure", "{free:?}");
        assert!(free.violated().contains(&"search"), "{free:?}");
        assert_eq!(free.metadata["pressure"], json!(1.0), "{free:?}");
        let other = "user_id=another,request_type=search,tier=free";
        client.spend_exactly(&[other, provider], 8).await;
        // Premium callers may use all, and other providers are not under pressure.
        assert!(client.ask(&[&search("premium"), provider], 6).await.passed);
        assert!(client.ask(&[&search("free"), "provider=amadeus,endpoint=search"], 2).await.passed);
        // More than 95 % is used, although premium callers may use more: enterprise and urgent requests pass.
        assert!(client.ask(&[enterprise, provider], 1).await.passed);
        let premium = client.ask(&[&search("premium"), provider], 1).await;
        assert_eq!(premium.reason(), "pressure", "{premium:?}");
        assert_eq!(premium.metadata["pressure"], json!(2.0), "{premium:?}");
        assert!(client.ask(&[&search("premium,priority=4"), provider], 1).await.passed);
        assert!(client.ask(&[enterprise, provider], 1).await.passed);
    })
    .await;
}

#[tokio::test]
async fn a_booking_at_amadeus_waits_for_its_turn_if_that_is_near() {
    let limits = ["5/second", "{ rate: 150/minute, wait: { up_to: 2s, queue: 1000 } }"];
    let start = limits.join("\n          - ");
    let policy = policy();
    assert!(policy.contains(&start));
    let near = "{ rate: 3/second, wait: { up_to: 2s } }";
    let far = "{ name: far, rate: 3/hour, wait: { up_to: 2s } }";
    for (limit, passed) in [(near, true), (far, false)] {
        on_every_store(&policy.replace(&start, limit), async |client| {
            let booking = "provider=amadeus,endpoint=booking,tier=enterprise";
            assert!(client.ask(&[booking], 3).await.passed);
            let next = client.ask(&[booking], 1).await;
            assert_eq!(next.passed, passed, "{limit}: {next:?}");
        })
        .await;
    }
}
