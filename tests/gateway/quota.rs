//! `/v1/callers/{name}/quota`: reads, validates and changes the hits in use.

use axum::http::Request;
use serde_json::{Value, json};

use crate::support::ask::DomainClient;
use crate::support::client::{Answer, Http, request};
use crate::support::eventually;
use crate::support::redis::Server;
use crate::support::store::Store;
use crate::support::tollgate::{Tollgate, api_token};

const POLICY: &str = "
domain: shop
tiers: [free, paid]
caller: { key: user, tier: { key: tier } }
descriptors:
  - key: user
    cascade: true
    limits: [{ name: daily, by_tier: { free: 10/day, paid: 100/day } }]
    descriptors:
      - { key: kind, value: booking, limits: [{ name: booking, rate: 3/day }] }
      - { key: kind, value: search, limits: [{ name: search, rate: 5/day, shadow: true }] }
  - { key: all, limits: [1000/day] }
";

struct Client<'t> {
    tollgate: &'t Tollgate,
    headers: Vec<(&'static str, String)>,
}

impl Client<'_> {
    fn url(&self, path: &str) -> String {
        format!("http://{}/v1/callers/{path}", self.tollgate.http_address)
    }

    fn headers(&self) -> Vec<(&str, &str)> {
        self.headers.iter().map(|(name, value)| (*name, value.as_str())).collect()
    }

    async fn get(&self, path: &str) -> Answer {
        Http::new().get(&self.url(path), &self.headers()).await
    }

    async fn post(&self, path: &str, body: &Value) -> Answer {
        Http::new().post(&self.url(path), &self.headers(), &body.to_string()).await
    }

    /// Limits of a caller: name, quota, used, remaining.
    async fn quota(&self, path: &str) -> Vec<Value> {
        let answer = self.get(path).await;
        assert_eq!(answer.status, 200, "{:?}", answer.body);
        limits(&answer)
    }

    /// Checks the status of a problem, its code and its limit.
    async fn check_refused(&self, path: &str, body: &Value, expected: (u16, &str, Value)) -> Value {
        let answer = self.post(path, body).await;
        let problem = answer.json();
        let reported =
            (answer.status, problem["code"].as_str().unwrap_or(""), problem["limit"].clone());
        assert_eq!(reported, expected, "{path}: {problem}");
        problem
    }
}

fn unix_second() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
}

fn limits(answer: &Answer) -> Vec<Value> {
    let body = answer.json();
    let items = body["items"].as_array().unwrap().iter();
    items
        .map(|item| json!([item["limit"], item["quota"], item["used"], item["remaining"]]))
        .collect()
}

#[tokio::test]
async fn a_tier_that_only_requests_say_is_that_of_the_last_request() {
    for store in Store::every() {
        let tollgate = Tollgate::serve_with(POLICY, &store, &["--usage=true"]).await;
        let client = Client { tollgate: &tollgate, headers: Vec::new() };
        let mut asker = DomainClient::new(&tollgate, "shop").await;
        let standing = async |path: &str| {
            let item = client.get(path).await.json()["items"][0].clone();
            json!([item["tier"], item["tier_source"], item["quota"], item["used"]])
        };
        assert_eq!(standing("pia/quota").await, json!(["free", "default", 10, 0]));
        // The second one is refused.
        for (tier, hits, quota, used) in
            [("paid", 30, 100, 30), ("free", 1, 10, 30), ("paid", 2, 100, 32)]
        {
            // The time of a request in usage is known to a second.
            let second = unix_second();
            eventually("another second", async || (second < unix_second()).then_some(())).await;
            asker.ask(&["user=pia", &format!("tier={tier}")], hits).await;
            let expected = json!([tier, "usage", quota, used]);
            eventually("the tier in usage", async || {
                (standing("pia/quota").await == expected).then_some(())
            })
            .await;
        }
        // What the caller says, and what the directory says, come first.
        assert_eq!(standing("pia/quota?entries=tier=free").await, json!(["free", "entry", 10, 32]));
        let validated = client.post("pia/quota/validate", &json!({ "hits": 60 })).await;
        assert_eq!(validated.status, 200, "{:?}", validated.body);
        let forecast = format!("http://{}/v1/forecast?caller=pia", tollgate.http_address);
        let forecast = Http::new().get(&forecast, &[]).await.json()["items"][0].clone();
        let told = json!([forecast["tier"], forecast["tier_source"], forecast["quota"]]);
        assert_eq!(told, json!(["paid", "usage", 100]));
        // A charge over the API is one of that tier too, and does not change it.
        let consumed = client.post("pia/quota/consume", &json!({ "hits": 40 })).await;
        assert_eq!(consumed.status, 200, "{:?}", consumed.body);
        assert_eq!(standing("pia/quota").await, json!(["paid", "usage", 100, 72]));
        if let Store::Redis(_) = store {
            let put = Http::new().put(&client.url("pia"), r#"{"tier": "free"}"#).await;
            assert_eq!(put.status, 201, "{:?}", put.body);
            assert_eq!(standing("pia/quota").await, json!(["free", "directory", 10, 72]));
        }
    }
}

#[tokio::test]
async fn without_usage_the_tier_is_the_default() {
    let tollgate = Tollgate::serve_with(POLICY, &Store::Embedded, &["--usage=false"]).await;
    let client = Client { tollgate: &tollgate, headers: Vec::new() };
    let mut asker = DomainClient::new(&tollgate, "shop").await;
    assert!(asker.ask(&["user=pia", "tier=paid"], 3).await.passed);
    let item = client.get("pia/quota").await.json()["items"][0].clone();
    let told = json!([item["tier"], item["tier_source"], item["quota"], item["used"]]);
    assert_eq!(told, json!(["free", "default", 10, 3]));
}

#[tokio::test]
async fn a_quota_tells_what_requests_leave_and_a_look_costs_nothing() {
    for store in Store::every() {
        let tollgate = Tollgate::serve(POLICY, &store).await;
        let client = Client { tollgate: &tollgate, headers: Vec::new() };
        assert_eq!(client.quota("ann/quota").await, [json!(["daily", 10, 0, 10])]);
        let mut asker = DomainClient::new(&tollgate, "shop").await;
        assert!(asker.ask(&["user=ann,kind=booking"], 2).await.passed);
        let with_path = "ann/quota?domain=shop&entries=kind=booking";
        let spent = [json!(["daily", 10, 2, 8]), json!(["booking", 3, 2, 1])];
        for _ in 0..3 {
            assert_eq!(client.quota(with_path).await, spent);
        }
        let item = client.get("ann/quota").await.json()["items"][0].clone();
        assert_eq!((&item["percent"], &item["tier"]), (&json!(20.0), &json!("free")));
        assert_eq!((&item["mode"], &item["bonuses"]), (&json!("enforce"), &json!(0)));
        assert!(item["reset_at"].is_string(), "{item}");
        assert_eq!(client.quota("bob/quota").await, [json!(["daily", 10, 0, 10])]);

        // Would more pass?
        let booking = |hits: u64| json!({ "hits": hits, "entries": [{ "kind": "booking" }] });
        let answer = client.post("ann/quota/validate", &booking(1)).await;
        assert_eq!((answer.status, limits(&answer)), (200, spent.to_vec()));
        let over = (429, "QUOTA_EXCEEDED", json!("booking"));
        let problem = client.check_refused("ann/quota/validate", &booking(2), over).await;
        assert_eq!(problem["detail"], "`booking` has 1 of the 2 hits");
        assert!(problem["retry_after_ms"].as_u64().unwrap() > 80_000_000, "{problem}");
        let over = (429, "QUOTA_EXCEEDED", json!("daily"));
        client.check_refused("ann/quota/validate", &json!({ "hits": 9 }), over).await;
        let never = json!({ "hits": 11 });
        let over = (429, "QUOTA_EXCEEDED", json!("daily"));
        let problem = client.check_refused("bob/quota/validate", &never, over).await;
        assert_eq!(problem["retry_after_ms"], Value::Null);
        let shadow = json!({ "hits": 7, "entries": [{ "kind": "search" }] });
        assert_eq!(client.post("ann/quota/validate", &shadow).await.status, 200);
        assert_eq!(client.quota(with_path).await, spent);
    }
}

#[tokio::test]
async fn hits_are_consumed_released_and_reset() {
    for store in Store::every() {
        let tollgate = Tollgate::serve(POLICY, &store).await;
        let client = Client { tollgate: &tollgate, headers: Vec::new() };
        let path = |operation: &str| format!("ann/quota/{operation}");
        let answer = client.post(&path("consume"), &json!({ "hits": 7 })).await;
        assert_eq!((answer.status, limits(&answer)), (200, vec![json!(["daily", 10, 7, 3])]));
        let over = (429, "QUOTA_EXCEEDED", json!("daily"));
        client.check_refused(&path("consume"), &json!({ "hits": 4 }), over).await;
        let answer = client.post(&path("consume"), &json!({})).await;
        assert_eq!(limits(&answer), [json!(["daily", 10, 8, 2])]);
        let answer = client.post(&path("release"), &json!({ "hits": 3 })).await;
        assert_eq!(limits(&answer), [json!(["daily", 10, 5, 5])]);
        let mut asker = DomainClient::new(&tollgate, "shop").await;
        assert_eq!(asker.remaining(&["user=ann"]).await, [5]);

        let booked = json!({ "entries": [{ "kind": "booking" }], "hits": 3 });
        let answer = client.post(&path("consume"), &booked).await;
        assert_eq!(limits(&answer), [json!(["daily", 10, 8, 2]), json!(["booking", 3, 3, 0])]);
        let booking = json!({ "entries": [{ "kind": "booking" }] });
        let answer = client.post(&path("reset"), &booking).await;
        assert_eq!(limits(&answer), [json!(["daily", 10, 0, 10]), json!(["booking", 3, 0, 3])]);
        assert_eq!(client.post(&path("reset"), &json!({})).await.status, 200);
        assert!(asker.ask(&["user=ann,kind=booking"], 3).await.passed);
        let output = tollgate.output();
        for what in ["consume quota", "release quota", "reset quota"] {
            assert!(output.contains(&format!(r#""what":"{what}","caller":"ann""#)), "{output}");
        }
    }
}

/// Limits whose costs and amounts depend on entries: by cascade, tier, cost and idempotency key.
const ENTRIES_POLICY: &str = "
domain: shop
tiers: [free, paid]
caller: { key: user, tier: { key: tier } }
qualifiers: [operation]
costs:
  tokens:
    - { when: { operation: bulk }, hits: 5, per: 1000 }
idempotency: { key: request_id, for: 1h }
descriptors:
  - key: user
    limits:
      - { name: daily, by_tier: { free: 100/day, paid: 1000/day } }
      - { name: tokens, rate: 500/day, cost: tokens }
    descriptors:
      - { key: kind, value: booking, limits: [{ name: booking, rate: 50/day }] }
      - key: cascading
        cascade: true
        limits: [{ name: cascading, rate: 60/day }]
        descriptors:
          - { key: kind, limits: [{ name: below, rate: 70/day }] }
";

#[tokio::test]
async fn entries_are_charged_as_those_of_a_request_are() {
    let sets = [
        "",
        "tier=paid",
        "operation=bulk",
        "request_id=1",
        "tier=paid,operation=bulk",
        "kind=booking",
        "kind=booking,tier=paid",
        "tier=paid,kind=booking",
        "kind=other",
        "cascading=1",
        "cascading=1,kind=x",
        "cascading=1,tier=free,kind=x",
        "unknown=1",
    ];
    let paths = ["", "kind=booking", "cascading=1", "cascading=1,kind=x"];
    for store in Store::every() {
        let tollgate = Tollgate::serve(ENTRIES_POLICY, &store).await;
        let client = Client { tollgate: &tollgate, headers: Vec::new() };
        let mut asker = DomainClient::new(&tollgate, "shop").await;
        for (index, set) in sets.iter().enumerate() {
            let pairs = || set.split(',').filter_map(|pair| pair.split_once('='));
            let (by_quota, by_json, by_grpc) =
                (format!("q{index}"), format!("j{index}"), format!("g{index}"));
            for hits in [1_u32, 2, 7] {
                let hits = if set.contains("request_id") { 2 } else { hits };
                let entries: Vec<Value> =
                    pairs().map(|(key, value)| json!({ key: value })).collect();
                let body = json!({ "hits": hits, "entries": entries });
                client.post(&format!("{by_quota}/quota/consume"), &body).await;

                let mut entries = vec![json!({ "key": "user", "value": by_json })];
                entries.extend(pairs().map(|(key, value)| json!({ "key": key, "value": value })));
                let body = json!({ "domain": "shop", "descriptors": [{ "entries": entries }],
                    "hitsAddend": hits });
                let url = format!("http://{}/json", tollgate.http_address);
                let answer = Http::new().post(&url, &[], &body.to_string()).await;
                assert_eq!(answer.status, 200, "{set}");
                let user = format!("user={by_grpc}");
                let descriptor = if set.is_empty() { user } else { format!("{user},{set}") };
                assert!(asker.ask(&[&descriptor], hits).await.passed, "{set}");
            }
            for path in paths {
                let counts = async |caller: &str| {
                    client.quota(&format!("{caller}/quota?entries={path}")).await
                };
                let expected = counts(&by_json).await;
                assert_eq!(counts(&by_quota).await, expected, "{set} at {path}");
                assert_eq!(counts(&by_grpc).await, expected, "{set} at {path}");
            }
        }
        // A peek has the same hits as the request.
        let tier = json!({ "hits": 11, "entries": [{ "tier": "paid" }] });
        assert_eq!(client.post("new/quota/validate", &tier).await.status, 200);
        let booking = client.quota("new/quota?entries=kind=booking").await;
        assert_eq!(booking, [json!(["booking", 50, 0, 50])]);
    }
}

/// Limits that may be overdrawn, and limits with costs.
const DEBT_POLICY: &str = "
domain: shop
caller: { key: user }
qualifiers: [operation]
costs:
  tokens:
    - { when: { operation: bulk }, hits: 5, per: 1000 }
  money:
    - { when: { operation: book }, hits: 0.35 EUR }
    - { hits: 0 }
descriptors:
  - key: user
    limits:
      - { name: window, rate: 10/day, overdraft: allow }
      - { name: bucket, rate: 20/day, algorithm: token_bucket, overdraft: allow }
      - { name: month, rate: 30/month, overdraft: allow }
    descriptors:
      - key: kind
        value: costly
        limits:
          - { name: tokens, rate: 20/day, cost: tokens }
          - { name: money, rate: 500 EUR/month, cost: money }
";

#[tokio::test]
async fn a_debt_is_told_and_a_reset_leaves_nothing_in_use() {
    for store in Store::every() {
        let tollgate = Tollgate::serve(DEBT_POLICY, &store).await;
        let client = Client { tollgate: &tollgate, headers: Vec::new() };
        let month = client.get("new/quota").await.json()["items"][2].clone();
        assert_eq!((&month["limit"], &month["reset_at"]), (&json!("month"), &Value::Null));
        client.post("ann/quota/consume", &json!({ "hits": 9 })).await;
        let answer = client.post("ann/quota/consume", &json!({ "hits": 1000 })).await;
        let owed = [
            json!(["window", 10, 1009, 0]),
            json!(["bucket", 20, 1009, 0]),
            json!(["month", 30, 1009, 0]),
        ];
        assert_eq!((answer.status, limits(&answer)), (200, owed.to_vec()));
        assert_eq!(client.quota("ann/quota").await, owed);
        let window = client.get("ann/quota").await.json()["items"][0].clone();
        assert_eq!(window["percent"], 10_090.0);
        let over = (429, "QUOTA_EXCEEDED", json!("window"));
        client.check_refused("ann/quota/validate", &json!({}), over).await;
        let answer = client.post("ann/quota/release", &json!({ "hits": 1000 })).await;
        assert_eq!(limits(&answer)[0], json!(["window", 10, 9, 1]));
        client.post("ann/quota/consume", &json!({ "hits": 1000 })).await;
        let reset = client.post("ann/quota/reset", &json!({})).await;
        let unused = [
            json!(["window", 10, 0, 10]),
            json!(["bucket", 20, 0, 20]),
            json!(["month", 30, 0, 30]),
        ];
        assert_eq!((reset.status, limits(&reset)), (200, unused.to_vec()));
        assert_eq!(client.post("ann/quota/validate", &json!({})).await.status, 200);

        // Whatever the hits of the reset would cost.
        let entries = |operation: &str| json!([{ "kind": "costly" }, { "operation": operation }]);
        for operation in ["bulk", "book"] {
            let body = json!({ "hits": 8, "entries": entries(operation) });
            assert_eq!(client.post("ann/quota/consume", &body).await.status, 200);
        }
        let look = "ann/quota?entries=kind=costly";
        let used = [json!(["tokens", 20, 9, 11]), json!(["money", 50_000, 35, 49_965])];
        assert_eq!(client.quota(look).await, used);
        let body = json!({ "entries": entries("bulk") });
        assert_eq!(client.post("ann/quota/reset", &body).await.status, 200);
        let unused = [json!(["tokens", 20, 0, 20]), json!(["money", 50_000, 0, 50_000])];
        assert_eq!(client.quota(look).await, unused);
    }
}

#[tokio::test]
async fn an_idempotency_key_of_other_hits_is_named_and_does_not_keep_hits_from_coming_back() {
    for store in Store::every() {
        let tollgate = Tollgate::serve(ENTRIES_POLICY, &store).await;
        let client = Client { tollgate: &tollgate, headers: Vec::new() };
        let body = |hits: u64| json!({ "hits": hits, "entries": [{ "request_id": "1" }] });
        for _ in 0..2 {
            assert_eq!(client.post("ann/quota/consume", &body(4)).await.status, 200);
        }
        let conflict = (409, "IDEMPOTENCY_CONFLICT", Value::Null);
        client.check_refused("ann/quota/consume", &body(6), conflict).await;
        assert_eq!(client.quota("ann/quota").await[0], json!(["daily", 100, 4, 96]));
        let answer = client.post("ann/quota/release", &body(3)).await;
        assert_eq!((answer.status, &limits(&answer)[0]), (200, &json!(["daily", 100, 1, 99])));
        let body = json!({ "entries": [{ "request_id": "1" }] });
        let answer = client.post("ann/quota/reset", &body).await;
        assert_eq!(limits(&answer)[0], json!(["daily", 100, 0, 100]));
    }
}

#[tokio::test]
async fn the_limits_of_a_disabled_caller_are_shown() {
    for store in Store::every() {
        let tollgate = Tollgate::serve(POLICY, &store).await;
        let client = Client { tollgate: &tollgate, headers: Vec::new() };
        let body = r#"{"disabled":true}"#;
        let request = Request::put(client.url("ann")).body(body.into()).unwrap();
        // Without Redis the directory is a file.
        if Http::new().send(request).await.status != 201 {
            continue;
        }
        eventually("the refusal of a disabled caller", async || {
            (client.post("ann/quota/validate", &json!({})).await.status == 429).then_some(())
        })
        .await;
        assert_eq!(client.quota("ann/quota").await, [json!(["daily", 10, 0, 10])]);
    }
}

#[tokio::test]
async fn only_what_is_charged_as_a_request_counts_in_usage() {
    for store in Store::every() {
        let tollgate = Tollgate::serve_with(POLICY, &store, &["--usage=true"]).await;
        let client = Client { tollgate: &tollgate, headers: Vec::new() };
        let body = json!({ "domain": "shop" });
        for operation in ["release", "reset", "consume", "release", "reset", "consume"] {
            let answer = client.post(&format!("ann/quota/{operation}"), &body).await;
            assert_eq!(answer.status, 200, "{operation}");
        }
        let url = format!("http://{}/v1/usage?granularity=day", tollgate.http_address);
        let fields = async || {
            let items = Http::new().get(&url, &[]).await.json()["items"].clone();
            let fields = ["requests", "allowed"].map(|name| items[0][name].clone());
            json!(fields)
        };
        eventually("two requests", async || (fields().await == json!([2, 2])).then_some(())).await;
        let mut asker = DomainClient::new(&tollgate, "shop").await;
        assert!(asker.ask(&["user=ann"], 1).await.passed);
        eventually("a third one", async || (fields().await == json!([3, 3])).then_some(())).await;
    }
}

#[tokio::test]
async fn what_is_no_quota_is_a_problem_with_a_code() {
    let none = Value::Null;
    let tollgate = Tollgate::serve(POLICY, &Store::Embedded).await;
    let client = Client { tollgate: &tollgate, headers: Vec::new() };
    let wrong = (422, "INVALID_RESOURCE_TYPE", none.clone());
    client.check_refused("ann/quota/validate", &json!({ "domain": "x" }), wrong).await;
    for body in [
        json!({ "hits": 0 }),
        json!({ "hits": -1 }),
        json!({ "hits": u64::MAX }),
        json!({ "hit": 1 }),
        json!([]),
        json!({ "entries": [{ "kind": "booking", "tier": "paid" }] }),
        json!({ "entries": [{}] }),
    ] {
        client.check_refused("ann/quota/consume", &body, (400, "", none.clone())).await;
    }
    assert_eq!(client.get("ann/quota?entries=kind").await.status, 400);
    assert_eq!(client.get("ann/quota?entries=[1]").await.status, 400);
    let list = "ann/quota?entries=%5B%7B%22kind%22:%22booking%22%7D,%7B%22tier%22:%22paid%22%7D%5D";
    let paid = [json!(["daily", 100, 0, 100]), json!(["booking", 3, 0, 3])];
    assert_eq!(client.quota(list).await, paid);
    client.post("ann/quota/consume", &json!({ "hits": 10 })).await;
    let answer = client.post("ann/quota/consume", &json!({})).await;
    let seconds = answer.headers["retry-after"].to_str().unwrap().parse::<u64>().unwrap();
    assert!((80_000..=86_401).contains(&seconds), "{seconds}");
    assert_eq!(client.get("ann/quota?domain=x").await.json()["code"], "INVALID_RESOURCE_TYPE");

    let without = "{domain: d, descriptors: [{key: user, limits: [1/day]}]}";
    let tollgate = Tollgate::serve(without, &Store::Embedded).await;
    let client = Client { tollgate: &tollgate, headers: Vec::new() };
    let answer = client.get("ann/quota").await;
    assert_eq!((answer.status, &answer.json()["code"]), (404, &json!("QUOTA_NOT_FOUND")));
    let answer = client.get("ann/quota?domain=d").await;
    assert_eq!((answer.status, &answer.json()["code"]), (422, &json!("INVALID_RESOURCE_TYPE")));
}

#[tokio::test]
async fn viewers_may_look_and_operators_change() {
    let (viewer, operator) = (api_token("viewer", "viewer"), api_token("operator", "operator"));
    let own = api_token("self", "self");
    let flags = ["--usage=true", "--api-tokens", &[&*viewer.1, &*operator.1, &*own.1].join(",")];
    let tollgate = Tollgate::serve_with(POLICY, &Store::Embedded, &flags).await;
    let by = |token: &str| {
        let headers = vec![("authorization", format!("Bearer {token}"))];
        Client { tollgate: &tollgate, headers }
    };
    let (viewer, operator) = (by(&viewer.0), by(&operator.0));
    let own = by(&own.0);
    assert_eq!(own.get("self/quota").await.status, 200);
    assert_eq!(own.post("self/quota/validate", &json!({})).await.status, 200);
    let refused = || (403, "INSUFFICIENT_PERMISSIONS", Value::Null);
    own.check_refused("ann/quota/validate", &json!({}), refused()).await;
    own.check_refused("self/quota/consume", &json!({}), refused()).await;
    let usage = |query: &str| format!("../usage?{query}");
    for (path, status) in [
        ("ann/quota", 403),
        // There is no such record, nor a directory.
        ("self", 404),
        ("", 403),
        (&usage("caller=self"), 200),
        (&usage("caller=ann"), 403),
        (&usage("group_by=caller"), 403),
        ("../denials", 403),
        ("../top", 403),
        ("../denials?caller=self", 200),
        ("../report?caller=self", 200),
        ("../report?caller=ann", 403),
        ("../openapi.json", 403),
    ] {
        let url = own.url(path).replace("callers/../", "");
        let url = url.strip_suffix('/').unwrap_or(&url);
        let answer = Http::new().get(url, &own.headers()).await;
        assert_eq!(answer.status, status, "{path}");
    }
    assert_eq!(viewer.get("ann/quota").await.status, 200);
    assert_eq!(viewer.post("ann/quota/validate", &json!({})).await.status, 200);
    for operation in ["consume", "release", "reset"] {
        let path = format!("ann/quota/{operation}");
        let refused = (403, "INSUFFICIENT_PERMISSIONS", Value::Null);
        viewer.check_refused(&path, &json!({}), refused).await;
        assert_eq!(operator.post(&path, &json!({})).await.status, 200, "{operation}");
        assert_eq!(by("00").post(&path, &json!({})).await.status, 401);
    }
}

#[tokio::test]
async fn a_quota_sees_the_grace_of_its_limit() {
    const POLICY: &str = "
domain: soft
caller: { key: user }
descriptors:
  - { key: user, limits: [{ name: soft, rate: 10/day, grace: { over: 20%, for: 1h } }] }";
    for store in Store::every() {
        let tollgate = Tollgate::serve(POLICY, &store).await;
        let client = Client { tollgate: &tollgate, headers: Vec::new() };
        let soft = async || client.get("ann/quota").await.json()["items"][0].clone();
        let over = || (429, "QUOTA_EXCEEDED", json!("soft"));
        assert_eq!(soft().await["grace"], json!({ "left": 2 }));
        let validate = "ann/quota/validate";
        assert_eq!(client.post(validate, &json!({ "hits": 12 })).await.status, 200);
        let never = client.check_refused(validate, &json!({ "hits": 13 }), over()).await;
        assert_eq!(never.get("retry_after_ms"), None, "{never}");
        assert_eq!(client.post("ann/quota/consume", &json!({ "hits": 11 })).await.status, 200);
        let item = soft().await;
        let reported =
            json!([item["used"], item["remaining"], item["percent"], item["grace"]["left"]]);
        assert_eq!(reported, json!([11, 0, 110.0, 1]));
        assert!(item["grace"]["until"].is_string(), "{item}");
        assert_eq!(client.post(validate, &json!({})).await.status, 200);
        client.check_refused(validate, &json!({ "hits": 2 }), over()).await;
        // Nothing is left but another grace, after this one and a day.
        let later = client.check_refused(validate, &json!({ "hits": 12 }), over()).await;
        assert_eq!(later["retry_after_ms"], 25 * 3_600_000, "{later}");
        let answer = client.post("ann/quota/release", &json!({ "hits": 3 })).await;
        assert_eq!(answer.json()["items"][0]["grace"], json!({ "left": 2 }));
    }
}

#[tokio::test]
async fn hits_that_can_not_be_taken_are_not_answered_as_taken() {
    let Some(server) = Server::start(&[]) else { return };
    let flags = ["--redis-url", &server.url()];
    let policy = POLICY.replace("domain: shop", "domain: shop\nmode: strict");
    let tollgate = Tollgate::serve_with(&policy, &Store::Embedded, &flags).await;
    let client = Client { tollgate: &tollgate, headers: Vec::new() };
    let adjust = json!({ "hits": 1, "mode": "adjust_only" });
    eventually("an answer of the store", async || {
        (client.post("ann/quota/consume", &adjust).await.status == 200).then_some(())
    })
    .await;
    drop(server);
    let answer = client.post("ann/quota/consume", &adjust).await;
    assert_eq!(answer.status, 503, "{:?}", answer.body);
}

/// A list of nobody would say that all is well.
#[tokio::test]
async fn an_unknown_entry_is_the_same_problem_everywhere() {
    const RESOURCES: &str = "
domain: shop
caller: { key: user }
descriptors:
  - key: user
    descriptors: [{ key: kind, value: booking, limits: [{ name: booking, rate: 3/day }] }]
";
    let folder = tempfile::tempdir().unwrap();
    let callers = folder.path().join("callers.yaml");
    std::fs::write(&callers, "callers: { ann: {} }").unwrap();
    let flags = ["--usage=true", "--callers", callers.to_str().unwrap()];
    let tollgate = Tollgate::serve_with(RESOURCES, &Store::Embedded, &flags).await;
    let get = async |path: &str| {
        let url = format!("http://{}/v1/{path}", tollgate.http_address);
        let answer = Http::new().get(&url, &[]).await;
        (answer.status, answer.json()["code"].clone())
    };
    for (path, sign) in [("callers/ann/quota", '?'), ("forecast?caller=ann", '&'), ("over", '?')] {
        let (status, code) = get(&format!("{path}{sign}entries=kind=seats")).await;
        assert_eq!((status, code), (422, json!("INVALID_RESOURCE_TYPE")), "{path}");
        let (status, _) = get(&format!("{path}{sign}entries=kind=booking")).await;
        assert_eq!(status, 200, "{path}");
    }
}

/// Nor would one of no domain.
#[tokio::test]
async fn an_unknown_domain_is_the_same_problem_everywhere() {
    // Without a caller in the directory, and without usage.
    for store in Store::every() {
        let tollgate = Tollgate::serve_with(POLICY, &store, &["--usage=true"]).await;
        let get = async |path: &str| {
            let url = format!("http://{}/v1/{path}", tollgate.http_address);
            let answer = Http::new().get(&url, &[]).await;
            (answer.status, answer.json()["code"].clone())
        };
        for path in [
            "callers/ann/quota?",
            "callers/ann/ledger?",
            "forecast?caller=ann&",
            "over?",
            "providers?",
            "providers/near?",
            "usage?",
            "usage?granularity=day&group_by=tier&",
            "denials?",
            "top?",
            "report?",
            "costs?",
        ] {
            let unknown = get(&format!("{path}domain=nope")).await;
            assert_eq!(unknown, (422, json!("INVALID_RESOURCE_TYPE")), "{path}");
            // No policy has the provider.
            let expected = if path.starts_with("providers/") { 404 } else { 200 };
            assert_eq!(get(&format!("{path}domain=shop")).await.0, expected, "{path}");
        }
        let unknown = get("over?entries=kind=nope").await;
        assert_eq!(unknown, (422, json!("INVALID_RESOURCE_TYPE")));
        assert_eq!(get("over?entries=kind=booking").await.0, 200);
    }
}

/// The sums of a domain outlive its policy.
#[tokio::test]
async fn the_usage_of_a_domain_without_a_policy_is_still_shown() {
    let tollgate = Tollgate::serve_with(POLICY, &Store::Embedded, &["--usage=true"]).await;
    let mut client = tollgate.client().await;
    client.should_rate_limit(request("shop", &[&[("user", "ann")]])).await.unwrap();
    let usage = async |domain: &str| {
        let path = format!("/v1/usage?granularity=day&domain={domain}");
        Http::new().get(&format!("http://{}{path}", tollgate.http_address), &[]).await
    };
    let counted = async || {
        let answer = usage("shop").await;
        (answer.json()["items"][0]["requests"] == 1).then_some(())
    };
    eventually("the request", counted).await;
    tollgate.edit(&POLICY.replace("domain: shop", "domain: other"));
    eventually("the new policy", async || (usage("other").await.status == 200).then_some(())).await;
    eventually("the old sums", counted).await;
    assert_eq!(usage("nope").await.status, 422);
}
