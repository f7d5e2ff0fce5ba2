//! Faults of Envoy, of Redis and of configurations, as seen by callers of a real Envoy.

use std::fs;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::ask::DomainClient;
use crate::support::cluster::Cluster;
use crate::support::eventually;
use crate::support::gateway::{Gateway, tcp};
use crate::support::ports::free_port;
use crate::support::redis::{Server, Tls, query};
use crate::support::store::Store;
use crate::support::tls::NAME;
use crate::support::tollgate::Tollgate;

const HOUR_S: u64 = 3_600;

/// How often a connection to Redis is closed, and after which time: a connection that is closed within a tenth of a
/// second counts as one of a server that closes all.
const CLOSED: u32 = 5;
const QUIET: Duration = Duration::from_millis(200);

const POLICY: &str = "
domain: gate
defaults: { algorithm: fixed_window }
answer: { headers: [ratelimit, ratelimit-legacy] }
descriptors:
  - { key: brought, limits: [{ name: hourly, rate: 5/hour }] }
  - { key: bucket, limits: [{ name: steady, rate: 100/day, algorithm: token_bucket, burst: 200 }] }
  - { key: idle, limits: [{ name: idle, rate: 10/day, on_outage: deny }] }
  - { key: tokens, limits: [{ rate: 100/day, overdraft: allow }] }
  - { key: spent, rate_limit: { unit: day, requests_per_unit: 10 } }
";

/// The descriptor `key=value` of requests whose header of that name is `value`.
fn by_header(key: &str) -> Value {
    json!({ "actions": [{ "request_headers": { "header_name": key, "descriptor_key": key } }] })
}

/// The same with more fields.
fn by_header_with(key: &str, more: &Value) -> Value {
    let mut descriptor = by_header(key);
    for (name, value) in more.as_object().unwrap() {
        descriptor[name] = value.clone();
    }
    descriptor
}

/// One Envoy for all tests of a store, because its start takes long.
#[tokio::test]
async fn what_envoy_asks_and_redis_does_is_answered_right() {
    // Envoy's own limit: two an hour, which an earlier filter sets in the metadata.
    let limit = json!({ "limit": { "requests_per_unit": 2, "unit": "HOUR" } });
    let metadata = json!({ "name": "envoy.filters.http.set_metadata", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.set_metadata.v3.Config",
        "metadata": [{ "metadata_namespace": "plans", "value": limit }],
    } });
    let brings = json!({ "limit": { "dynamic_metadata": {
        "metadata_key": { "key": "plans", "path": [{ "key": "limit" }] },
    } } });
    let debit =
        json!({ "hits_addend": { "format": "%REQ(x-spent)%" }, "apply_on_stream_done": true });
    let rate_limits = json!([
        by_header_with("brought", &brings),
        by_header("bucket"),
        by_header("idle"),
        by_header_with("tokens", &debit),
        by_header_with("spent", &debit),
    ]);
    for store in Store::every() {
        let tollgate = Tollgate::serve(POLICY, &store).await;
        let sidecars = [tcp(tollgate.grpc_address)];
        let Some(gateway) = Gateway::filtering(&metadata, &rate_limits, &sidecars).await else {
            return;
        };
        a_limit_that_envoy_brings_follows_the_policy(&gateway).await;
        a_buckets_headers_tell_its_burst(&gateway).await;
        a_debit_counts_although_another_is_refused(&gateway, &tollgate).await;
        if let Store::Redis(server) = &store {
            requests_after_a_closed_connection_are_decided_by_redis(&gateway, server).await;
        }
    }
}

/// Two pass in each hour, however many start meanwhile.
async fn a_limit_that_envoy_brings_follows_the_policy(gateway: &Gateway) {
    let mut passed = 0;
    eventually("a refusal", async || {
        let before = now_s();
        let answer = gateway.caller.get("/", &[("brought", "ann")]).await;
        let after = now_s();
        passed += u32::from(answer.status == 200);
        let limit = answer.header("x-ratelimit-limit");
        assert_eq!(limit, "2, 2;w=3600;name=\"hourly\"", "{answer:?}");
        if before / HOUR_S == after / HOUR_S {
            let ends = HOUR_S - after % HOUR_S..=HOUR_S - before % HOUR_S;
            let reported: u64 = answer.header("x-ratelimit-reset").parse().unwrap();
            assert!(ends.contains(&reported), "{reported} s to the end of the hour, not {ends:?}");
        }
        (answer.status == 429).then_some(())
    })
    .await;
    assert!(2 <= passed, "{passed}");
}

/// The remaining hits count against all that can be spent at once.
async fn a_buckets_headers_tell_its_burst(gateway: &Gateway) {
    let answer = gateway.caller.get("/", &[("bucket", "ann")]).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("ratelimit-policy"), "\"steady\";q=200;w=86400");
    assert!(answer.header("ratelimit").starts_with("\"steady\";r=199;"), "{answer:?}");
    assert_eq!(answer.header("ratelimit-limit"), "200");
    assert_eq!(answer.header("ratelimit-remaining"), "199");
}

/// Envoy sends both when the response is done. The first request overdraws `spent`, which refuses from then on.
async fn a_debit_counts_although_another_is_refused(gateway: &Gateway, tollgate: &Tollgate) {
    let mut client = DomainClient::new(tollgate, "gate").await;
    for left in [69, 38, 7, 0] {
        let headers = [("tokens", "ann"), ("spent", "ann"), ("x-spent", "31")];
        assert_eq!(gateway.caller.get("/", &headers).await.status, 200);
        eventually(&format!("{left} tokens left"), async || {
            (client.remaining(&["tokens=ann"]).await == [left]).then_some(())
        })
        .await;
    }
}

/// As servers do by their `timeout`, and operators by hand. On a busy machine a request may arrive before the close.
/// news.
async fn requests_after_a_closed_connection_are_decided_by_redis(
    gateway: &Gateway,
    server: &Server,
) {
    let mut raw = server.raw().await;
    let mut quiet = tokio::time::interval(QUIET);
    quiet.tick().await;
    let mut decided = 0;
    for _ in 0..CLOSED {
        quiet.tick().await;
        query::<u64>(&mut raw, "CLIENT KILL TYPE normal");
        let answer = gateway.caller.get("/", &[("idle", "ann")]).await;
        if answer.status == 200 {
            decided += 1;
            let left = (10 - decided).to_string();
            assert_eq!(answer.header("ratelimit-remaining"), left);
        }
    }
    assert!(CLOSED / 2 < decided, "{decided} of {CLOSED}");
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// Each user has two limits on two slots, and one of them refuses.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_over_two_slots_tells_what_remains_as_if_nothing_had_been_spent() {
    const POLICY: &str = "
domain: gate
answer: { headers: [ratelimit], limits: all }
descriptors:
  - { key: wide, limits: [{ name: wide, rate: 10/day }] }
  - { key: narrow, limits: [{ name: narrow, rate: 0/day }] }
";
    let Some(cluster) = Cluster::start(3, false).await else { return };
    let flags = [cluster.flags(), ["--store-deadline", "10s"].map(str::to_owned).to_vec()].concat();
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let tollgate = Tollgate::serve_with(POLICY, &Store::Embedded, &flags).await;
    let rate_limits = json!([by_header("wide"), by_header("narrow")]);
    let sidecars = [tcp(tollgate.grpc_address)];
    let Some(gateway) = Gateway::limiting(&rate_limits, &sidecars).await else { return };
    for user in ["ann", "bob", "cyd", "dan", "eve"] {
        let headers = [("wide", user), ("narrow", user)];
        let refused = gateway.caller.get("/", &headers).await;
        assert_eq!((refused.status, refused.header("x-ratelimit-remaining")), (429, "0"));
        assert!(refused.header("ratelimit").contains("\"wide\";r=10"), "{user}: {refused:?}");
        let passed = gateway.caller.get("/", &headers[..1]).await;
        assert_eq!((passed.status, passed.header("x-ratelimit-remaining")), (200, "9"), "{user}");
    }
}

/// A policy with a hundred uses of an alias, beside a file without an ending, on a Redis whose certificate signs itself.
#[tokio::test]
async fn an_odd_configuration_serves_and_a_broken_one_reaches_no_header() {
    let users = |name: &str| {
        let aliases: String = (0..100)
            .map(|user| format!("  - {{ key: user, value: u{user}, limits: *daily }}\n"))
            .collect();
        format!(
            "domain: gate\ndescriptors:\n  - {{ key: user, limits: &daily [{{ name: {name}, rate: 2/day }}] }}\n{aliases}"
        )
    };
    let (tls, port) = (Tls::self_signed(), free_port());
    let flags = tls.flags(port);
    let Some(_server) = Server::start(&flags.each_ref().map(String::as_str)) else { return };
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("limits"), "domain: other\n").unwrap();
    let (policies, url) =
        (folder.path().display().to_string(), format!("rediss://127.0.0.1:{port}"));
    let authority = tls.authority().display().to_string();
    let flags = [
        ["--policies", &policies],
        ["--redis-url", &url],
        ["--redis-tls-ca-file", &authority],
        ["--redis-tls-server-name", NAME],
        ["--store-deadline", "10s"],
    ];
    let tollgate = Tollgate::serve_with(&users("daily"), &Store::Embedded, &flags.concat()).await;
    let prints = async |text: &str| {
        eventually(text, async || tollgate.output().contains(text).then_some(())).await;
    };
    prints("connected to Redis").await;
    prints("its name ends in neither .yaml nor .yml").await;
    let rate_limits = json!([by_header("user")]);
    let Some(gateway) = Gateway::limiting(&rate_limits, &[tcp(tollgate.grpc_address)]).await else {
        return;
    };
    let check = async |status: u16, remaining: &str| {
        let answer = gateway.caller.get("/", &[("user", "u99")]).await;
        assert_eq!((answer.status, answer.header("x-ratelimit-remaining")), (status, remaining));
        assert_eq!(answer.header("x-ratelimit-limit"), "2, 2;w=86400;name=\"daily\"");
    };
    check(200, "1").await;
    tollgate.edit(&users("\"a\\nb\""));
    prints("contains a control character (U+000A)").await;
    check(200, "0").await;
    check(429, "0").await;
}
