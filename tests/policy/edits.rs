//! The effect of a policy edit on counts: a count is kept as long as its limit is the same, in every store.

use tollgate::clock::{Clock, Timestamp};
use tollgate::engine::{BroughtLimits, Code, Descriptor, Override, Request};
use tollgate::policy::Unit;

use crate::support::batch::START_MS;
use crate::support::engine::{Bench, ask, descriptor};
use crate::support::redis::Server;

/// A policy with these limits for each user, and a table of costs.
fn policy(limits: &str) -> String {
    format!(
        "domain: d\ncaller: {{key: user}}\ntiers: [free, paid]\n\
         costs: {{ tokens: [{{ hits: 7, per: 1 }}] }}\n\
         descriptors: [{{ key: user, limits: [{limits}] }}]"
    )
}

/// An engine on each store, and the Redis of one of them.
async fn benches() -> (Vec<Bench>, Option<Server>) {
    let clock = || Clock::manual(Timestamp::from_ms(START_MS));
    let mut benches = vec![Bench::in_memory(&clock())];
    let server = Server::start(&[]);
    if let Some(server) = &server {
        benches.push(Bench::on_redis(server, &clock()).await);
    }
    (benches, server)
}

/// Number of single hits of a user that pass before one is refused.
async fn passing(bench: &Bench) -> usize {
    for passed in 0..100 {
        let request = Request::try_new("d", vec![descriptor("user=alice", 1)]).unwrap();
        if ask(&bench.engine, &request).await.code == Code::OverLimit {
            return passed;
        }
    }
    panic!("nothing is refused");
}

/// Spends all hits under one policy and then the remaining hits under another; returns how many each admits.
async fn check(before: &str, after: &str, expected: (usize, usize)) {
    let (benches, _server) = benches().await;
    for bench in benches {
        bench.put_in_force(before).unwrap();
        let first = passing(&bench).await;
        bench.put_in_force(after).unwrap();
        assert_eq!((first, passing(&bench).await), expected, "{before}\n->\n{after}");
    }
}

async fn check_limits(before: &str, after: &str, expected: (usize, usize)) {
    check(&policy(before), &policy(after), expected).await;
}

#[tokio::test]
async fn a_limit_before_another_takes_nothing_of_its_count() {
    check_limits("10/minute", "{name: trial, rate: 5/minute, mode: shadow}, 10/minute", (10, 0))
        .await;
}

#[tokio::test]
async fn named_limits_that_change_places_keep_their_own_counts() {
    let reqs = "{name: reqs, rate: 10/day}";
    let tokens = "{name: tokens, rate: 700/day, cost: tokens}";
    let more = "{name: tokens, rate: 1000/day, cost: tokens}, {name: reqs, rate: 12/day}";
    check_limits(&format!("{reqs}, {tokens}"), &format!("{tokens}, {reqs}"), (10, 0)).await;
    check_limits(&format!("{reqs}, {tokens}"), more, (10, 2)).await;
}

#[tokio::test]
async fn edits_that_leave_a_limit_what_it_is_keep_its_count() {
    for after in [
        "{rate: 10/24h, overdraft: clip}",
        "{rate: 10/day, lease: auto}",
        "{by_tier: {free: 10/day, paid: 99/day}}",
        "{rate: 10/day, wait: {up_to: 1ms}}",
        "{name: other, rate: 99/day}, 10/day",
    ] {
        check_limits("10/day", after, (10, 0)).await;
        check_limits(after, "10/day", (10, 0)).await;
    }
}

#[tokio::test]
async fn a_rate_limit_keeps_its_count_when_it_is_named_or_becomes_a_list() {
    let rule = |rule: &str| format!("domain: d\ndescriptors: [{{ key: user, {rule} }}]");
    let plain = rule("rate_limit: {unit: day, requests_per_unit: 10}");
    let named = rule("rate_limit: {unit: day, requests_per_unit: 10, name: daily}");
    check(&plain, &named, (10, 0)).await;
    check(&named, &plain, (10, 0)).await;
    check(&plain, &rule("limits: [11/day]"), (10, 1)).await;
    check(&plain, &rule("cascade: true, limits: [10/day]"), (10, 0)).await;
}

#[tokio::test]
async fn another_time_zone_keeps_the_count_of_the_period() {
    let zoned = |zone: &str| {
        format!("domain: d\ntimezone: {zone}\ndescriptors: [{{ key: user, limits: [10/month] }}]")
    };
    check(&zoned("UTC"), &zoned("Asia/Tokyo"), (10, 0)).await;
    check(&zoned("Asia/Tokyo"), &zoned("America/New_York"), (10, 0)).await;
}

#[tokio::test]
async fn what_counts_something_else_starts_a_new_count() {
    check_limits("10/day", "{rate: 10/day, cost: tokens}", (10, 1)).await;
    check_limits("{name: a, rate: 10/day}", "{name: b, rate: 10/day}", (10, 10)).await;
    check_limits("10/day", "10/hour", (10, 10)).await;
}

#[tokio::test]
async fn hits_and_money_and_each_currency_are_counts_of_their_own() {
    let named = |rate: &str| format!("{{name: spend, rate: {rate}/day}}");
    check_limits(&named("10"), &named("0.10 EUR"), (10, 10)).await;
    check_limits(&named("0.10 EUR"), &named("10"), (10, 10)).await;
    check_limits(&named("0.10 EUR"), &named("0.12 USD"), (10, 12)).await;
    check_limits(&named("0.10 EUR"), &named("0.12 EUR"), (10, 2)).await;
    check_limits("0.10 EUR/day", "0.10 USD/day", (10, 10)).await;
    check_limits("0.10 EUR/day, 4 USD/day", "1 USD/day, 0.11 EUR/day", (10, 1)).await;
}

#[tokio::test]
async fn a_wildcard_in_a_key_has_a_counter_for_each_value_or_one_for_each_key() {
    let rule =
        |more: &str| format!("domain: d\ndescriptors: [{{ key: 'user*', {more}limits: [3/day] }}]");
    let (benches, _server) = benches().await;
    for bench in benches {
        let pass = async |entry: &str| {
            let request = Request::try_new("d", vec![descriptor(entry, 1)]).unwrap();
            ask(&bench.engine, &request).await.code == Code::Ok
        };
        bench.put_in_force(&rule("")).unwrap();
        assert_eq!(passing(&bench).await, 3);
        assert!(pass("user=bob").await && pass("user_id=alice").await);
        bench.put_in_force(&rule("share_threshold: true, ")).unwrap();
        assert_eq!(passing(&bench).await, 3);
        assert!(!pass("user=bob").await && pass("user_id=alice").await);
    }
}

#[tokio::test]
async fn a_limit_that_a_request_brings_follows_the_defaults_of_the_file() {
    let policy = "domain: d\ndefaults: { algorithm: fixed_window }\n\
                  descriptors: [{ key: user, limits: [{ name: daily, rate: 9/hour, shadow: true }] }]";
    let (benches, _server) = benches().await;
    for bench in benches {
        bench.put_in_force(policy).unwrap();
        let ask = async || {
            let limit = Override { amount: 2, unit: Unit::Hour };
            let limit = Some(BroughtLimits::Override(limit));
            let brought = Descriptor { limit, ..descriptor("user=alice", 1) };
            let request = Request::try_new("d", vec![brought]).unwrap();
            ask(&bench.engine, &request).await
        };
        assert_eq!(ask().await.code, Code::Ok);
        assert_eq!(ask().await.code, Code::Ok);
        let verdict = ask().await;
        assert_eq!(verdict.code, Code::OverLimit, "the rule's shadow is not the request's");
        let reported = verdict.statuses[0].limit.as_ref().unwrap();
        assert_eq!(&*reported.name, "daily");
        let left_ms = 3_600_000 - START_MS % 3_600_000;
        let reset = verdict.statuses[0].reset.unwrap().as_millis();
        assert_eq!(reset, u128::from(left_ms), "the hour's end");
    }
}

#[tokio::test]
async fn a_bonus_follows_the_name_of_its_limit() {
    let limits = ["{name: a, rate: 1/day}", "{name: b, rate: 50/day, cost: tokens}"];
    let callers =
        "callers: { alice: { bonuses: [{ id: x, limit: a, amount: 4, until: 2099-01-01 }] } }";
    let (benches, _server) = benches().await;
    for bench in benches {
        bench.know(callers).unwrap();
        bench.put_in_force(&policy(&limits.join(", "))).unwrap();
        assert_eq!(passing(&bench).await, 5);
        let turned = format!("{}, 99/day, {}", limits[1], limits[0]);
        bench.put_in_force(&policy(&turned)).unwrap();
        assert_eq!(passing(&bench).await, 0, "the bonus is spent");
    }
}
