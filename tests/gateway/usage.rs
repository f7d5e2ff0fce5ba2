//! `/v1/usage`, `/v1/denials` and `/v1/top` report requests that were sent over gRPC.

use serde_json::{Value, json};

use crate::support::ask::DomainClient;
use crate::support::client::{Answer, Http, request};
use crate::support::eventually;
use crate::support::store::Store;
use crate::support::tollgate::{Tollgate, api_token};
use crate::support::usage::requests;

const POLICY: &str = "
domain: shop
tiers: [free, paid]
caller: { key: user, tier: { key: tier } }
choices: [{ key: provider, value: any, among: { near: { price: 1 }, far: { price: 2 } } }]
descriptors:
  - { key: user, limits: [{ name: daily, by_tier: { free: 2/day, paid: 4/day } }] }
  - { key: provider, limits: [{ name: provider, rate: 100/day }] }
";

const PATHS: [&str; 4] = ["/v1/usage", "/v1/denials", "/v1/top", "/v1/costs"];

async fn get(tollgate: &Tollgate, path: &str, headers: &[(&str, &str)]) -> Answer {
    Http::new().get(&format!("http://{}{path}", tollgate.http_address), headers).await
}

async fn page(tollgate: &Tollgate, path: &str) -> Value {
    let answer = get(tollgate, path, &[]).await;
    assert_eq!(answer.status, 200, "{path}: {:?}", answer.body);
    answer.json()
}

/// The items of a page, with these fields each.
async fn items(tollgate: &Tollgate, path: &str, fields: &[&str]) -> Vec<Value> {
    let page = page(tollgate, path).await;
    let items = page["items"].as_array().unwrap().iter();
    items.map(|item| fields.iter().map(|field| item[*field].clone()).collect()).collect()
}

async fn ask(tollgate: &Tollgate, times: usize, descriptors: &[&[(&str, &str)]]) {
    let mut client = tollgate.client().await;
    for _ in 0..times {
        client.should_rate_limit(request("shop", descriptors)).await.unwrap();
    }
}

/// Waits until this many requests are counted, by day, since the hour may change meanwhile.
async fn counted(tollgate: &Tollgate, requests: u64) {
    eventually("the requests in the usage", async || {
        let path = "/v1/usage?granularity=day";
        let sums = items(tollgate, path, &["requests"]).await;
        let sum: u64 = sums.iter().map(|item| item[0].as_u64().unwrap()).sum();
        (sum == requests).then_some(())
    })
    .await;
}

#[tokio::test]
async fn refusals_are_summed_by_reason_and_unknown_names_are_problems() {
    let tollgate = Tollgate::serve_with(POLICY, &Store::Embedded, &["--usage=true"]).await;
    ask(&tollgate, 5, &[&[("user", "ann")]]).await;
    counted(&tollgate, 5).await;
    let path = "/v1/usage?granularity=day&group_by=reason";
    let fields = ["reason", "requests"];
    let expected = [json!([null, 2]), json!(["over_limit", 3])];
    assert_eq!(items(&tollgate, path, &fields).await, expected);
    let path = "/v1/usage?granularity=day&reason=over_limit&group_by=caller";
    assert_eq!(items(&tollgate, path, &["caller", "requests"]).await, [json!(["ann", 3])]);
    for (path, expected) in [
        ("/v1/usage?reason=bogus", 400),
        ("/v1/denials?reason=bogus", 400),
        ("/v1/denials?reason=disabled", 200),
        ("/v1/usage?tier=bogus", 400),
        ("/v1/usage?tier=paid", 200),
        ("/v1/report?at=1960-01-01T00:00:00Z", 400),
        ("/v1/report?at=0000-01-01T00:00:00Z", 400),
    ] {
        assert_eq!(get(&tollgate, path, &[]).await.status, expected, "{path}");
    }
    let far = get(&tollgate, "/v1/usage?to=9999-12-31T23:59:59Z", &[]).await;
    let detail = far.json()["detail"].as_str().unwrap().to_owned();
    assert!(far.status == 400 && detail.contains("before 9999-12-31"), "{detail}");
}

#[tokio::test]
async fn usage_sums_to_what_was_asked_until_the_end() {
    for store in Store::every() {
        let mut tollgate = Tollgate::serve_with(POLICY, &store, &["--usage=true"]).await;
        ask(&tollgate, 5, &[&[("user", "ann")]]).await;
        let paid = [("user", "bob"), ("tier", "paid")];
        ask(&tollgate, 6, &[&paid[..1], &paid[1..], &[("provider", "any")]]).await;
        ask(&tollgate, 3, &[&[("other", "x")]]).await;
        counted(&tollgate, 14).await;

        let top = "/v1/top?granularity=day";
        let path = format!("{top}&of=callers&by=refused");
        let fields = ["domain", "caller", "requests", "allowed", "refused"];
        let expected = [json!(["shop", "ann", 5, 2, 3]), json!(["shop", "bob", 6, 4, 2])];
        assert_eq!(items(&tollgate, &path, &fields).await, expected);
        let path = format!("{top}&of=limits&by=hits");
        let fields = ["limit", "requests", "refused", "refused_elsewhere", "hits"];
        let hits = |spent: u64, refused: u64| json!({ "spent": spent, "refused": refused, "shadow_refused": 0, "given_back": 0 });
        let expected =
            [json!(["daily", 11, 5, 0, hits(6, 5)]), json!(["provider", 6, 0, 2, hits(4, 0)])];
        assert_eq!(items(&tollgate, &path, &fields).await, expected);
        let path = format!("{top}&of=providers");
        assert_eq!(items(&tollgate, &path, &["provider", "requests"]).await, [json!(["near", 6])]);

        let path = "/v1/denials?granularity=day";
        let fields = ["domain", "caller", "limit", "reason", "count"];
        let ann = json!(["shop", "ann", "daily", "over_limit", 3]);
        let bob = json!(["shop", "bob", "daily", "over_limit", 2]);
        assert_eq!(items(&tollgate, path, &fields).await, [ann.clone(), bob.clone()]);
        let first = page(&tollgate, &format!("{path}&page_size=1")).await;
        assert_eq!((&first["items"][0]["caller"], &first["next"]), (&json!("ann"), &json!(1)));
        let second = format!("{path}&page_size=1&after=1");
        assert_eq!(items(&tollgate, &second, &fields).await, [bob]);
        assert_eq!(page(&tollgate, &second).await["next"], Value::Null);

        let path = "/v1/usage?granularity=day&group_by=tier,code&tier=paid";
        let page = page(&tollgate, path).await;
        let (scope, end) = match store {
            Store::Embedded => ("sidecar", "usage was counted in memory"),
            Store::Redis(_) => ("fleet", "usage was counted and stored"),
        };
        assert_eq!((&page["scope"], &page["dropped"]), (&json!(scope), &json!(0)));
        for path in ["/v1/report?period=day", "/v1/costs"] {
            let answer = self::page(&tollgate, path).await;
            assert_eq!(answer["dropped"], 0, "{path}: {answer}");
        }
        assert!(page["since"].is_string() && page["from"].as_str() <= page["since"].as_str());
        let refused = page["items"].as_array().unwrap().iter();
        let refused: Vec<_> = refused.filter(|item| item["code"] == "over_limit").collect();
        assert_eq!(refused.len(), 1, "{page}");
        assert_eq!(refused[0]["refused_by"], json!({ "over_limit": 2 }));

        // Requests that are answered while the process drains still count.
        tollgate.terminate();
        ask(&tollgate, 2, &[&[("other", "x")]]).await;
        assert!(tollgate.exit().await.success());
        let output = tollgate.output();
        let line = output.lines().find(|line| line.contains(end)).unwrap();
        assert!(line.contains("requests=16"), "{line}");
    }
}

#[tokio::test]
async fn without_the_setting_usage_is_a_problem_that_names_it() {
    let tollgate = Tollgate::serve(POLICY, &Store::Embedded).await;
    for path in PATHS {
        let answer = get(&tollgate, path, &[]).await;
        assert_eq!(answer.status, 404, "{path}");
        assert_eq!(answer.header("content-type"), "application/problem+json");
        assert!(answer.json()["detail"].to_string().contains("its setting `usage` is false"));
    }
}

#[tokio::test]
async fn usage_requires_the_role_viewer() {
    let (token, line) = api_token("v", "viewer");
    let flags = ["--usage=true", "--api-tokens", &line];
    let tollgate = Tollgate::serve_with(POLICY, &Store::Embedded, &flags).await;
    let bearer = format!("Bearer {token}");
    for path in PATHS {
        assert_eq!(get(&tollgate, path, &[]).await.status, 401, "{path}");
        let unknown = get(&tollgate, path, &[("authorization", "Bearer 00")]).await;
        assert_eq!(unknown.status, 401, "{path}");
        let viewer = get(&tollgate, path, &[("authorization", &bearer)]).await;
        assert_eq!((viewer.status, &viewer.json()["items"]), (200, &json!([])), "{path}");
    }
}

#[tokio::test]
async fn an_invalid_query_is_a_problem() {
    let tollgate = Tollgate::serve_with(POLICY, &Store::Embedded, &["--usage=true"]).await;
    let check = async |path: &str, reported: &str| {
        let answer = get(&tollgate, path, &[]).await;
        let detail = answer.json()["detail"].to_string();
        assert!(answer.status == 400 && detail.contains(reported), "{path}: {detail}");
    };
    check("/v1/usage?group_by=limit,user", "unknown dimension `user`; use domain, limit, tier")
        .await;
    check("/v1/usage?granularity=week", "unknown variant `week`").await;
    check("/v1/usage?granularity=minute&group_by=caller", "minutes have no callers").await;
    check("/v1/usage?granularity=minute&caller=ann", "minutes have no callers").await;
    check("/v1/top?granularity=minute", "minutes have no callers").await;
    check("/v1/denials?granularity=minute", "unknown variant `minute`").await;
    check("/v1/usage?from=yesterday", "from: invalid time `yesterday`; use").await;
    let range = "from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z";
    check(&format!("/v1/usage?{range}"), "`to` must be later than `from`").await;
    check("/v1/denials?page_size=0", "from 1 to 1000").await;
    check("/v1/top?page_size=1001", "from 1 to 1000").await;
    check("/v1/top?by=hits", "select one with `limit`").await;
    check("/v1/top?of=tiers", "unknown variant `tiers`").await;
    check("/v1/usage?user=ann", "unknown field").await;
    let largest = format!("/v1/usage?after={}&page_size=1000", u64::MAX);
    assert_eq!(page(&tollgate, &largest).await["items"], json!([]));
}

/// Every hit that was asked of a limit is spent or refused by it, or only another limit had fewer.
#[tokio::test]
async fn hits_that_were_asked_and_not_granted_are_refused_ones() {
    const POLICY: &str = "
domain: parts
caller: { key: user }
prices: [{ when: { op: take }, price: 0.01 EUR, per: 1 }]
descriptors:
  - key: user
    descriptors:
    - key: op
      value: take
      limits:
      - { name: small, rate: 30/day, partial: true }
      - { name: wide, rate: 50/day, partial: true }
      - { name: huge, rate: 1000/day, partial: true }
";
    for store in Store::every() {
        let tollgate = Tollgate::serve_with(POLICY, &store, &["--usage=true"]).await;
        let mut client = DomainClient::new(&tollgate, "parts").await;
        assert!(client.ask(&["user=ann,op=take"], 100).await.passed);
        assert!(!client.ask(&["user=ann,op=take"], 7).await.passed);
        eventually("both requests in the usage", async || {
            (requests(&tollgate).await == 2).then_some(())
        })
        .await;
        let path = "/v1/usage?granularity=day&group_by=limit";
        let hits = items(&tollgate, path, &["limit", "hits"]).await;
        let sums = |limit: &str, spent: u64, refused: u64| {
            let hits =
                json!({ "spent": spent, "refused": refused, "shadow_refused": 0, "given_back": 0 });
            json!([limit, hits])
        };
        // Of the first hundred, one limit had 30 and one 50; the third had all, and the second request's too.
        assert_eq!(hits, [sums("huge", 30, 0), sums("small", 30, 77), sums("wide", 30, 50)]);
        let by_code = items(&tollgate, &format!("{path}&code=ok&limit=small"), &["hits"]).await;
        assert_eq!(by_code[0][0]["refused"], 70);
        let costs = items(&tollgate, "/v1/usage?granularity=day", &["cost"]).await;
        assert_eq!(costs[0][0]["spent_micros"], 300_000, "what was granted is paid");
    }
}
