//! Tests of limits that are shared by callers of several tiers: reserves, pressure, access, costs.

use std::time::Duration;

use super::Answer;
use crate::clock::Clock;
use crate::engine::testing::{Bench, descriptor};
use crate::engine::{Code, Descriptor, testing};
use crate::limit::Hits;

const POLICY: &str = "
domain: d
tiers: [free, premium, enterprise]
caller:
  key: user
  tier: { key: tier }
  priority: { key: priority, default: 1, add: { tier: { enterprise: 2 }, op: { book: 1 } }, under_pressure: -1 }
answer: { body: problem, metadata: always }
descriptors:
- key: user
  limits: [{ name: own, by_tier: { free: 10/minute, premium: 50/minute, enterprise: 100/minute } }]
- key: provider
  value: a
  limits: [100/minute]
  capacity:
    reserve: { enterprise: 20%, premium: 10% }
    pressure:
    - { above: 80%, scale: { premium: 0.5 } }
    - { above: 95%, only: { tier: [enterprise], priority: 4 } }
- key: provider
  value: b
  only: { tier: [premium, enterprise] }
  limits: [9/minute]
- key: provider
  value: c
  limits: [{ name: c, by_tier: { free: none, premium: 3/minute, enterprise: unlimited } }]";

fn bench() -> Bench {
    let bench = Bench::timed(Clock::manual(testing::START));
    bench.put_in_force(POLICY);
    bench
}

async fn spend(bench: &Bench, ask: &str, hits: u64) -> Answer {
    bench.ask(vec![Descriptor { hits: Hits::Spend(hits), ..descriptor(ask) }]).await
}

#[track_caller]
fn check(verdict: &Answer, code: Code, remaining: u32) {
    assert_eq!((verdict.code, verdict.statuses[0].remaining), (code, remaining), "{verdict:?}");
}

fn metadata_of<'v>(verdict: &'v Answer, what: &str) -> &'v serde_json::Value {
    &verdict.metadata.as_ref().unwrap()[what]
}

#[tokio::test]
async fn the_last_part_is_open_to_higher_tiers_only() {
    let bench = bench();
    check(&spend(&bench, "provider=a,tier=free", 70).await, Code::Ok, 0);
    let refused = spend(&bench, "provider=a,tier=free", 1).await;
    check(&refused, Code::OverLimit, 0);
    assert_eq!(metadata_of(&refused, "reason"), "reserved");
    check(&spend(&bench, "provider=a,tier=premium", 11).await, Code::OverLimit, 0);
    check(&spend(&bench, "provider=a,tier=premium", 10).await, Code::Ok, 0);
    check(&spend(&bench, "provider=a,tier=enterprise", 1).await, Code::Ok, 19);
}

#[tokio::test]
async fn pressure_scales_callers_down_and_ends_lower_than_it_began() {
    let bench = bench();
    let both = async |tier: &str| {
        let (user, provider) = (format!("user=u,tier={tier}"), format!("provider=a,tier={tier}"));
        bench.ask_for(&[&user, &provider]).await
    };
    check(&both("premium").await, Code::Ok, 49);
    check(&spend(&bench, "provider=a,tier=enterprise", 79).await, Code::Ok, 20);
    check(&spend(&bench, "provider=a,tier=enterprise", 1).await, Code::Ok, 19);
    // 81 of 100 are used. A premium caller may use half of its 50, and has spent one.
    let pressed = spend(&bench, "user=u,tier=premium", 1).await;
    check(&pressed, Code::Ok, 48);
    let pressed = both("enterprise").await;
    assert_eq!(metadata_of(&pressed, "pressure"), 1);
    bench.engine.read_pressure().await;
    assert_eq!(bench.engine.pressure()[0].level, 1);

    spend(&bench, "provider=a,tier=enterprise", 0).await;
    // Giving back 5 leaves 77, which is above 75, where the level ends.
    let back = Descriptor { hits: Hits::GiveBack(5), ..descriptor("provider=a,tier=enterprise") };
    bench.ask(vec![back.clone()]).await;
    bench.engine.read_pressure().await;
    assert_eq!(bench.engine.pressure()[0].level, 1);
    bench.ask(vec![back]).await;
    bench.engine.read_pressure().await;
    assert_eq!(bench.engine.pressure()[0].level, 0);
}

#[tokio::test]
async fn under_high_pressure_only_some_pass() {
    let bench = bench();
    check(&spend(&bench, "provider=a,tier=enterprise", 96).await, Code::Ok, 4);
    let refused = spend(&bench, "provider=a,tier=premium", 1).await;
    assert_eq!(
        (refused.code, metadata_of(&refused, "reason")),
        (Code::OverLimit, &"pressure".into())
    );
    check(&spend(&bench, "provider=a,tier=premium,priority=4", 1).await, Code::OverLimit, 0);
    check(&spend(&bench, "provider=a,tier=enterprise", 1).await, Code::Ok, 3);
    let refused = spend(&bench, "provider=a,tier=premium", 1).await;
    let wait = refused.statuses[0].reset.unwrap();
    bench.clock.advance(wait - Duration::from_millis(1));
    assert_eq!(spend(&bench, "provider=a,tier=premium", 1).await.code, Code::OverLimit);
    bench.clock.advance(Duration::from_millis(1));
    assert_eq!(spend(&bench, "provider=a,tier=premium", 1).await.code, Code::Ok);
}

#[tokio::test]
async fn no_access_is_told_apart_from_over_limit_and_costs_nothing() {
    let bench = bench();
    for provider in ["provider=b", "provider=c"] {
        let refused = bench.ask_for(&["user=u", provider]).await;
        assert_eq!(refused.code, Code::OverLimit);
        assert_eq!(metadata_of(&refused, "reason"), "no_access");
        let codes: Vec<Code> = refused.statuses.iter().map(|status| status.code).collect();
        assert_eq!(codes, [Code::Ok, Code::OverLimit], "{provider}");
        let body: serde_json::Value = serde_json::from_slice(&refused.body).unwrap();
        assert_eq!(body["reason"], "no_access");
        assert_eq!(body["title"], "The caller has no access");
    }
    check(&bench.ask_for(&["user=u"]).await, Code::Ok, 9);
    check(&bench.ask_for(&["provider=b,tier=premium"]).await, Code::Ok, 8);
    check(&bench.ask_for(&["provider=c,tier=premium"]).await, Code::Ok, 2);
    check(&bench.ask_for(&["provider=c,tier=enterprise"]).await, Code::Ok, u32::MAX);
}

#[tokio::test]
async fn access_rules_can_be_tried_in_shadow_mode() {
    let bench = Bench::timed(Clock::manual(testing::START));
    bench.put_in_force(&POLICY.replace("value: b\n", "value: b\n  shadow_mode: true\n"));
    check(&bench.ask_for(&["provider=b"]).await, Code::Ok, 8);
}

#[tokio::test]
async fn the_priority_is_said_or_summed_up() {
    let bench = bench();
    for (ask, priority) in [
        ("user=u", 1),
        ("user=u,op=book", 2),
        ("user=u,tier=enterprise", 3),
        ("user=u,tier=enterprise,op=book", 4),
        ("user=u,priority=3", 3),
        ("user=u,priority=9", 1),
    ] {
        let verdict = bench.ask_for(&[ask]).await;
        assert_eq!(metadata_of(&verdict, "caller")["priority"], priority, "{ask}");
    }
}

#[tokio::test]
async fn a_request_costs_what_the_table_says() {
    let bench = Bench::timed(Clock::manual(testing::START));
    bench.put_in_force(
        "
domain: d
qualifiers: [op]
costs:
  tokens:
  - { when: { op: translate }, hits: 5, per: 1000 }
  money:
  - { when: { op: book }, hits: 0.35 EUR }
descriptors:
- key: user
  limits:
  - { name: balance, rate: 20/total, cost: tokens, overdraft: allow }
  - { name: budget, rate: 1 EUR/day, cost: money }",
    );
    check(&spend(&bench, "user=u,op=translate", 10).await, Code::Ok, 19);
    // Money: two bookings fit into one euro, a third does not.
    check(&spend(&bench, "user=v,op=book", 1).await, Code::Ok, 19);
    check(&spend(&bench, "user=v,op=book", 1).await, Code::Ok, 18);
    check(&spend(&bench, "user=v,op=book", 1).await, Code::OverLimit, 0);
}
