//! The policy `config/policies/season.yaml`, on both stores: the amounts of each plan by season, and at the changes.

use std::fs;
use std::time::Duration;

use tollgate::clock::{Clock, Timestamp};
use tollgate::engine::{Code, Request};

use crate::support::engine::{Bench, descriptor};
use crate::support::redis::Server;
use crate::support::tollgate::command;

const POLICY: &str = "config/policies/season.yaml";

/// A local time in Madrid.
fn at(text: &str) -> Timestamp {
    let shown: jiff::civil::DateTime = text.parse().unwrap();
    let at = shown.in_tz("Europe/Madrid").unwrap().timestamp();
    Timestamp::from_ms(at.as_millisecond().try_into().unwrap())
}

/// A bench on each store, with the policy in force.
async fn benches(clock: &Clock) -> (Vec<Bench>, Option<Server>) {
    let server = Server::start(&[]);
    let mut benches = vec![Bench::in_memory(clock)];
    if let Some(server) = &server {
        benches.push(Bench::on_redis(server, clock).await);
    }
    for bench in &benches {
        bench.put_in_force(&fs::read_to_string(POLICY).unwrap()).unwrap();
    }
    (benches, server)
}

/// The answer to a request for this many hits, the remaining hits of the hour and of the minute, and the wait.
async fn spend(bench: &Bench, caller: &str, hits: u64) -> (Code, [u64; 2], Option<Duration>) {
    let request = Request::try_new("season", vec![descriptor(caller, hits)]).unwrap();
    let snapshot = bench.engine.snapshot();
    let verdict = bench.engine.check(&snapshot, &request).await;
    let [hourly, minutely] = verdict.charges() else { panic!("{verdict:?}") };
    (verdict.code(), [hourly.remaining(), minutely.remaining()], verdict.wait())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_plan_has_its_amounts_in_each_season() {
    let cases = [
        // A Wednesday in March, a Wednesday in July, and Saturdays of both.
        ("2026-03-04T12:00", [[99, 9], [499, 24], [1_999, 99], [9_999, 499]]),
        ("2026-07-01T12:00", [[74, 6], [374, 17], [1_999, 99], [9_999, 499]]),
        ("2026-03-07T12:00", [[149, 14], [749, 36], [2_999, 149], [14_999, 749]]),
        ("2026-07-04T12:00", [[149, 14], [749, 36], [2_999, 149], [14_999, 749]]),
    ];
    for (time, left) in cases {
        let clock = Clock::manual(at(time));
        let (benches, _server) = benches(&clock).await;
        for bench in &benches {
            for (tier, left) in ["free", "basic", "premium", "enterprise"].iter().zip(left) {
                let caller = format!("user_id={tier},tier={tier}");
                let (code, remaining, _) = spend(bench, &caller, 1).await;
                assert_eq!((code, remaining), (Code::Ok, left), "{tier} at {time}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_spent_when_the_season_begins_stays_spent() {
    let clock = Clock::manual(at("2026-04-30T23:59:59.999"));
    let (benches, _server) = benches(&clock).await;
    for bench in &benches {
        assert_eq!(spend(bench, "user_id=ann", 7).await.1, [93, 3]);
    }
    clock.advance(Duration::from_millis(1));
    for bench in &benches {
        let (code, remaining, reset) = spend(bench, "user_id=ann", 1).await;
        assert_eq!((code, remaining), (Code::OverLimit, [68, 0]));
        assert_eq!(reset, Some(Duration::from_millis(59_999)), "the seven leave the minute then");
    }
}

/// What is answered to a request to the backend that all share.
async fn search(bench: &Bench, caller: &str, hits: u64) -> (Code, Option<Duration>) {
    let entries = format!("backend=search,{caller}");
    let request = Request::try_new("season", vec![descriptor(&entries, hits)]).unwrap();
    let snapshot = bench.engine.snapshot();
    let verdict = bench.engine.check(&snapshot, &request).await;
    (verdict.code(), verdict.wait())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_backend_is_relaxed_on_saturdays_and_then_urgent_goes_first() {
    // Of 1,200: free may use 720, premium 960; above 600, only requests of a high priority or of a paid plan.
    let clock = Clock::manual(at("2026-11-27T23:59:30"));
    let (benches, _server) = benches(&clock).await;
    for bench in &benches {
        let free = async |hits| search(bench, "tier=free", hits).await.0;
        assert_eq!(free(721).await, Code::OverLimit, "a part is reserved");
        assert_eq!(free(601).await, Code::Ok);
        let refused = search(bench, "tier=free", 1).await;
        let until_saturday = Some(Duration::from_secs(30));
        assert_eq!(refused, (Code::OverLimit, until_saturday));
        assert_eq!(search(bench, "tier=free,priority=4", 1).await.0, Code::Ok);
        assert_eq!(search(bench, "tier=premium", 358).await.0, Code::Ok);
        assert_eq!(search(bench, "tier=premium", 1).await.0, Code::OverLimit);
    }
    clock.advance(Duration::from_millis(29_999));
    for bench in &benches {
        assert_eq!(search(bench, "tier=free", 1).await.0, Code::OverLimit);
    }
    clock.advance(Duration::from_millis(1));
    for bench in &benches {
        // 960 are in use, and none is reserved.
        assert_eq!(search(bench, "tier=free", 121).await.0, Code::Ok);
        assert_eq!(search(bench, "tier=enterprise", 1).await.0, Code::OverLimit);
        assert_eq!(search(bench, "tier=free,priority=4", 119).await.0, Code::Ok);
        assert_eq!(search(bench, "tier=enterprise,priority=4", 1).await.0, Code::OverLimit);
    }
    // A day later the reserve is back, and the level of Saturday has ended.
    clock.advance(Duration::from_secs(86_400));
    for bench in &benches {
        assert_eq!(search(bench, "tier=free", 721).await.0, Code::OverLimit);
        assert_eq!(search(bench, "tier=free", 720).await.0, Code::Ok);
    }
}

#[test]
fn an_explanation_shows_what_is_open_on_a_schedule() {
    let explain = |arguments: &[&str]| {
        let mut explain = command();
        explain.args(["explain", POLICY, "season", "backend=search,tier=free"]);
        let output = explain.args(["--at", "2026-11-28T12:00"]).args(arguments).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let text = explain(&[]);
    let expected = "open_when  saturday, otherwise 720 of 1200 open, 1 level of pressure; \
                    720 of 1200 open, 1 level of pressure from 2026-11-29T00:00:00+01:00, in 12h";
    assert!(text.lines().any(|line| line.trim() == expected), "{text}");
    let report: serde_json::Value = serde_json::from_str(&explain(&["-o", "json"])).unwrap();
    assert_eq!(report["limits"][0]["open"], 1_200);
}

#[test]
fn an_explanation_shows_the_schedule_the_schedule_that_holds_and_the_next_edge() {
    let explain = |time: &str, arguments: &[&str]| {
        let mut explain = command();
        explain.args(["explain", POLICY, "season", "user_id=ann,tier=free", "--at", time]);
        let output = explain.args(arguments).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let text = explain("2026-07-03T12:00", &[]);
    let page = fs::read_to_string("config/schedules.md").unwrap();
    let line = page.lines().find(|line| line.starts_with("  schedule ")).unwrap();
    assert!(text.lines().any(|reported| reported.trim() == line.trim()), "{line}\n{text}");
    let json = explain("2026-01-07T12:00", &["-o", "json"]);
    let report: serde_json::Value = serde_json::from_str(&json).unwrap();
    let expected = serde_json::json!({
        "during": null,
        "otherwise": "100/hour",
        "next": {
            "at": "2026-01-10T00:00:00+01:00",
            "in_ms": 216_000_000,
            "during": "saturday",
            "rate": "150/hour",
        },
    });
    assert_eq!(report["limits"][0]["schedule"], expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_than_the_plan_has_waits_for_saturday() {
    let clock = Clock::manual(at("2026-07-03T23:59:30"));
    let (benches, _server) = benches(&clock).await;
    for bench in &benches {
        let (code, _, reset) = spend(bench, "user_id=ann", 15).await;
        assert_eq!((code, reset), (Code::OverLimit, Some(Duration::from_secs(30))));
    }
    clock.advance(Duration::from_millis(29_999));
    for bench in &benches {
        assert_eq!(spend(bench, "user_id=ann", 15).await.0, Code::OverLimit);
    }
    clock.advance(Duration::from_millis(1));
    for bench in &benches {
        assert_eq!(spend(bench, "user_id=ann", 15).await.0, Code::Ok);
    }
}
