//! Requests of callers to a real Envoy that calls Tollgate.
//!
//! Exact counts use windows of a day, so that the speed of the machine has no effect. Envoy refuses requests without an
//! answer (`failure_mode_deny`), so that a lost call shows as a 500.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::support::client::Http;
use crate::support::gateway::{Counts, Gateway, pipe, tcp};
use crate::support::redis::Server;
use crate::support::store::Store;
use crate::support::tollgate::Tollgate;

/// Ten a day for each user, three of them searches; the answer has all details.
const POLICY: &str = "
domain: gate
answer:
  headers: [ratelimit, retry-after]
  body: problem
  request_headers: { x-checked-by: tollgate }
descriptors:
  - key: user
    limits: [{ name: daily, rate: 10/day }]
    descriptors:
      - key: operation
        value: search
        limits: [{ name: searches, rate: 3/day }]
";

/// More than any test here requests.
const GENEROUS: &str = "
domain: gate
descriptors: [{ key: user, limits: [1000000/day] }]
";

/// Nothing passes.
const CLOSED: &str = "
domain: gate
descriptors: [{ key: user, limits: [0/day] }]
";

/// One counter for all callers.
const HUNDRED: &str = "
domain: gate
descriptors: [{ key: user, limits: [100/day] }]
";

/// The same policies, except for `on_outage`.
const OUTAGE: &str = "
domain: gate
descriptors:
  - { key: user, value: optimist, limits: [{ rate: 5/day, on_outage: allow }] }
  - { key: user, value: pessimist, limits: [{ rate: 5/day, on_outage: deny }] }
  - { key: user, value: undecided, limits: [5/day] }
  - { key: user, value: watched, limits: [{ rate: 5/day, mode: shadow }] }
";

/// Number of edits; one of them must be live in time, because a busy machine may delay the others.
const EDITS: usize = 5;

#[tokio::test]
async fn exactly_the_limit_passes_over_tcp() {
    check_counts(|tollgate| tcp(tollgate.grpc_address)).await;
}

#[tokio::test]
async fn exactly_the_limit_passes_over_a_unix_socket() {
    check_counts(|tollgate| pipe(&tollgate.socket())).await;
}

async fn check_counts(address: fn(&Tollgate) -> Value) {
    for store in Store::every() {
        let tollgate = Tollgate::serve(POLICY, &store).await;
        let Some(gateway) = Gateway::start(&[address(&tollgate)]).await else {
            return;
        };
        assert_eq!(gateway.caller.crowd("alice", 25).await, Counts::new(10, 15));
        assert_eq!(gateway.caller.crowd("bob", 8).await, Counts::new(8, 0));
        assert_eq!(gateway.upstream.served(), 18);
    }
}

#[tokio::test]
async fn a_refusal_tells_the_caller_what_to_expect() {
    for store in Store::every() {
        let tollgate = Tollgate::serve(POLICY, &store).await;
        let Some(gateway) = Gateway::start(&[tcp(tollgate.grpc_address)]).await else {
            return;
        };
        let passed = gateway.caller.ask("alice", "").await;
        assert_eq!((passed.status, passed.header("x-ratelimit-remaining")), (200, "9"));
        assert_ne!(passed.header("ratelimit"), "", "{passed:?}");
        let reached: Value = serde_json::from_slice(&passed.body).unwrap();
        assert_eq!(reached["x-checked-by"], "tollgate");

        gateway.caller.crowd("alice", 9).await;
        let refused = gateway.caller.ask("alice", "").await;
        let header = |name| refused.header(name);
        assert_eq!((refused.status, header("x-envoy-ratelimited")), (429, "true"));
        assert_eq!(header("x-ratelimit-limit"), "10, 10;w=86400;name=\"daily\"");
        assert_eq!(header("x-ratelimit-remaining"), "0");
        for name in ["x-ratelimit-reset", "retry-after"] {
            let seconds: u64 = header(name).parse().unwrap();
            assert!((80_000..90_000).contains(&seconds), "{name}: {seconds}");
        }
        assert!(header("ratelimit-policy").contains("\"daily\""), "{refused:?}");
        assert_eq!(header("content-type"), "application/problem+json");
        let problem: Value = serde_json::from_slice(&refused.body).unwrap();
        assert_eq!(problem["status"], 429, "{problem}");
    }
}

#[tokio::test]
async fn a_request_refused_for_one_descriptor_costs_the_others_nothing() {
    for store in Store::every() {
        let tollgate = Tollgate::serve(POLICY, &store).await;
        let Some(gateway) = Gateway::start(&[tcp(tollgate.grpc_address)]).await else {
            return;
        };
        let mut searches = Counts::default();
        for _ in 0..5 {
            searches.add(gateway.caller.ask("alice", "search").await.status);
        }
        assert_eq!(searches, Counts::new(3, 2));
        assert_eq!(gateway.caller.crowd("alice", 12).await, Counts::new(7, 5));
        assert_eq!(gateway.caller.ask("bob", "book").await.status, 200);
    }
}

/// Envoy sends the bytes that callers put into paths and headers as they are.
#[tokio::test]
async fn a_caller_is_limited_whatever_bytes_it_sends() {
    const POLICY: &str =
        "{domain: gate, descriptors: [{key: q, limits: [2/day]}, {key: h, limits: [2/day]}]}";
    let query = json!({ "query_parameter_name": "api_key", "descriptor_key": "q" });
    let header = json!({ "header_name": "x-key", "descriptor_key": "h" });
    let rate_limits = json!([
        { "actions": [{ "query_parameters": query }] },
        { "actions": [{ "request_headers": header }] },
    ]);
    for store in Store::every() {
        let tollgate = Tollgate::serve(POLICY, &store).await;
        let sidecars = [tcp(tollgate.grpc_address)];
        let Some(gateway) = Gateway::limiting(&rate_limits, &sidecars).await else {
            return;
        };
        for key in ["k%ff", "k%fe", "k", "k%f4%8f%bf%bfff", "%80%80", "k%c3"] {
            let path = format!("/?api_key={key}");
            for status in [200, 200, 429, 429] {
                assert_eq!(gateway.caller.get(&path, &[]).await.status, status, "{key}");
            }
        }
        for key in [b"k\xff".as_slice(), b"k\xfe", b"\xe2\x82", "caf\u{e9}".as_bytes()] {
            for status in [200, 200, 429, 429] {
                let answer = gateway.caller.get_with_bytes("/", "x-key", key).await;
                assert_eq!(answer.status, status, "{key:?}");
            }
        }
    }
}

/// Envoy shows the status with the least remaining, and that has to be the one that refuses.
#[tokio::test]
async fn the_headers_of_a_refusal_tell_of_the_limit_that_refuses() {
    const POLICY: &str = "
domain: gate
answer: { headers: [ratelimit-legacy, retry-after] }
descriptors:
  - { key: u, limits: [60/day] }
  - { key: spend, limits: [{ name: spend, rate: 1000/week }] }
  - { key: quiet, limits: [{ rate: 0/day, mode: shadow }] }
";
    let user = json!({ "request_headers": { "header_name": "x-user", "descriptor_key": "u" } });
    let quiet = json!({ "generic_key": { "descriptor_key": "quiet", "descriptor_value": "x" } });
    let spend =
        json!({ "request_headers": { "header_name": "x-user", "descriptor_key": "spend" } });
    let hits = json!({ "format": "%REQ(x-hits)%" });
    let rate_limits = json!([
        { "actions": [user] },
        { "actions": [quiet] },
        { "actions": [spend], "hits_addend": hits },
    ]);
    for store in Store::every() {
        let tollgate = Tollgate::serve(POLICY, &store).await;
        let sidecars = [tcp(tollgate.grpc_address)];
        let Some(gateway) = Gateway::limiting(&rate_limits, &sidecars).await else {
            return;
        };
        let ask =
            async |hits| gateway.caller.get("/", &[("x-user", "alice"), ("x-hits", hits)]).await;
        assert_eq!(ask("900").await.status, 200);
        let refused = ask("500").await;
        let header = |name| refused.header(name);
        assert_eq!(refused.status, 429);
        assert!(header("x-ratelimit-limit").starts_with("1000, "), "{refused:?}");
        assert_eq!(header("x-ratelimit-remaining"), "0");
        // Tollgate's own headers may report the hits for a smaller request.
        assert_eq!((header("ratelimit-limit"), header("ratelimit-remaining")), ("1000", "100"));
        for name in ["x-ratelimit-reset", "ratelimit-reset", "retry-after"] {
            let seconds: u64 = header(name).parse().unwrap();
            assert!((500_000..=620_000).contains(&seconds), "{name}: {seconds}");
        }
    }
}

#[tokio::test]
async fn two_sidecars_on_one_redis_never_pass_more_than_one() {
    let Some(server) = Server::start(&[]) else {
        return;
    };
    let store = Store::Redis(server);
    let one = Tollgate::serve(HUNDRED, &store).await;
    let other = Tollgate::serve(HUNDRED, &store).await;
    let sidecars = [tcp(one.grpc_address), tcp(other.grpc_address)];
    let Some(gateway) = Gateway::start(&sidecars).await else {
        return;
    };
    assert_eq!(gateway.caller.crowd("alice", 150).await, Counts::new(100, 50));
}

#[tokio::test]
async fn an_outage_is_answered_as_the_policy_says_and_ends_by_itself() {
    let Some(server) = Server::start(&[]) else {
        return;
    };
    let mut store = Store::Redis(server);
    let tollgate = Tollgate::serve(OUTAGE, &store).await;
    let Some(gateway) = Gateway::start(&[tcp(tollgate.grpc_address)]).await else {
        return;
    };
    assert_eq!(gateway.caller.crowd("pessimist", 2).await, Counts::new(2, 0));
    let Store::Redis(server) = &mut store else {
        unreachable!("it was put there");
    };
    server.kill();
    assert_eq!(gateway.caller.crowd("optimist", 20).await, Counts::new(20, 0));
    assert_eq!(gateway.caller.crowd("pessimist", 20).await, Counts::new(0, 20));
    // A refusal is no error over HTTP either.
    let url = format!("http://{}/json", tollgate.http_address);
    for (user, status, code) in [("optimist", 200, "OK"), ("pessimist", 429, "OVER_LIMIT")] {
        let asked = json!({
            "domain": "gate", "descriptors": [{ "entries": [{ "key": "user", "value": user }] }]
        });
        let reported = Http::new().post(&url, &[], &asked.to_string()).await;
        assert_eq!(
            (reported.status, &reported.json()["overallCode"]),
            (status, &json!(code)),
            "{reported:?}"
        );
    }
    server.launch();
    gateway.caller.gets("pessimist", 200).await;
    // Redis was restarted empty, and one of five is spent.
    assert_eq!(gateway.caller.crowd("pessimist", 20).await, Counts::new(4, 16));
}

/// A limit without `on_outage` leaves outages to Envoy.
#[tokio::test]
async fn while_the_store_is_out_envoys_failure_mode_decides() {
    let Some(server) = Server::start(&[]) else {
        return;
    };
    let mut store = Store::Redis(server);
    let tollgate = Tollgate::serve(OUTAGE, &store).await;
    let sidecar = [tcp(tollgate.grpc_address)];
    let Some(closed) = Gateway::start(&sidecar).await else {
        return;
    };
    let open = Gateway::failing_open(&sidecar).await.expect("there is an Envoy");
    assert_eq!(open.caller.crowd("undecided", 2).await, Counts::new(2, 0));
    let Store::Redis(server) = &mut store else {
        unreachable!("it was put there");
    };
    server.kill();
    assert_eq!(open.caller.crowd("undecided", 20).await, Counts::new(20, 0));
    let failed = closed.caller.crowd("undecided", 20).await;
    assert_eq!((failed.passed, failed.refused, failed.other), (0, 0, vec![500; 20]));
    assert_eq!(closed.caller.crowd("watched", 20).await, Counts::new(20, 0));
    assert_eq!(closed.caller.crowd("nobody", 20).await, Counts::new(20, 0));
    assert_eq!(open.caller.crowd("pessimist", 20).await, Counts::new(0, 20));

    let http = Http::new();
    let url = format!("http://{}/json", tollgate.http_address);
    let asked = r#"{"domain": "gate", "descriptors": [{"entries": [{"key": "user", "value": "undecided"}]}]}"#;
    let reported = http.post(&url, &[], asked).await;
    assert_eq!(
        (reported.status, reported.header("content-type")),
        (503, "application/problem+json")
    );
    let problem: Value = serde_json::from_slice(&reported.body).unwrap();
    assert!(problem["detail"].as_str().unwrap().contains("on_outage: error"), "{problem}");
    let metrics = http.get(&format!("http://{}/metrics", tollgate.http_address), &[]).await;
    let metrics = String::from_utf8(metrics.body.to_vec()).unwrap();
    let count = "tollgate_requests_total{domain=\"gate\",code=\"error\"} 41";
    assert!(metrics.contains(count), "{metrics}");

    server.launch();
    closed.caller.gets("undecided", 200).await;
    // Redis was restarted empty, and one of five is spent: failed requests cost nothing.
    assert_eq!(closed.caller.crowd("undecided", 20).await, Counts::new(4, 16));
}

#[tokio::test]
async fn an_edit_is_live_within_a_second_and_loses_no_request() {
    for store in Store::every() {
        let tollgate = Tollgate::serve(GENEROUS, &store).await;
        let Some(gateway) = Gateway::start(&[tcp(tollgate.grpc_address)]).await else {
            return;
        };
        let load = gateway.caller.load("alice");
        let mut fastest = Duration::MAX;
        for _ in 0..EDITS {
            for (policy, status) in [(CLOSED, 429), (GENEROUS, 200)] {
                let edited = Instant::now();
                tollgate.edit(policy);
                gateway.caller.gets("carol", status).await;
                fastest = fastest.min(edited.elapsed());
            }
        }
        let counts = load.stop().await;
        assert!(counts.other.is_empty(), "{counts:?}");
        assert!(fastest < Duration::from_secs(1), "{fastest:?}");
    }
}

/// As in a rolling update of several Tollgates behind one address: the one that is shutting down first fails its health
/// checks, answers until Envoy has noticed, and then ends.
#[tokio::test]
async fn one_of_two_ends_under_load_without_a_failed_request() {
    for store in Store::every() {
        let mut ending = Tollgate::serve(GENEROUS, &store).await;
        let staying = Tollgate::serve(GENEROUS, &store).await;
        let sidecars = [tcp(ending.grpc_address), tcp(staying.grpc_address)];
        let Some(gateway) = Gateway::start(&sidecars).await else {
            return;
        };
        let load = gateway.caller.load("alice");
        assert_eq!(gateway.caller.crowd("bob", 50).await, Counts::new(50, 0));
        ending.terminate();
        let status = ending.exit().await;
        assert_eq!(status.code(), Some(0));
        assert_eq!(gateway.caller.crowd("bob", 50).await, Counts::new(50, 0));
        let counts = load.stop().await;
        assert_eq!((counts.refused, counts.other), (0, Vec::new()));
    }
}

/// After a kill, Envoy refuses the requests that were in flight to that sidecar (`failure_mode_deny`), and sends others
/// to the second one. No limit is exceeded: the charges of the killed sidecar are kept.
#[tokio::test]
async fn one_of_two_is_killed_under_load() {
    let Some(server) = Server::start(&[]) else {
        return;
    };
    let store = Store::Redis(server);
    let killed = Tollgate::serve(HUNDRED, &store).await;
    let staying = Tollgate::serve(HUNDRED, &store).await;
    let sidecars = [tcp(killed.grpc_address), tcp(staying.grpc_address)];
    let Some(gateway) = Gateway::start(&sidecars).await else {
        return;
    };
    let load = gateway.caller.load("alice");
    assert_eq!(gateway.caller.crowd("bob", 50).await, Counts::new(50, 0));
    drop(killed);
    // Envoy may still send some of these to the killed sidecar.
    let after = gateway.caller.crowd("bob", 100).await;
    gateway.caller.gets("alice", 429).await;
    let counts = load.stop().await;
    assert!(after.passed <= 50, "{after:?}");
    assert!(counts.passed <= 100, "{counts:?}");
    println!(
        "| a sidecar is killed under load | {} failed |",
        counts.other.len() + after.other.len()
    );
}
