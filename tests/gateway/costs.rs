//! Prices in a policy, and the costs in `/v1/usage`, `/v1/top` and `/v1/report`.

use serde_json::{Value, json};

use crate::support::ask::{DomainClient, request};
use crate::support::client::{Answer, Http};
use crate::support::eventually;
use crate::support::store::Store;
use crate::support::tollgate::{Tollgate, command};
use crate::support::usage::requests;

const POLICY: &str = "
domain: gate
tiers: [free, paid]
caller: { key: user, tier: { key: tier } }
idempotency: { key: request_id }
choices: [{ key: provider, value: any, among: { near: { price: 2 }, far: { price: 1 } } }]
prices:
- { when: { provider: near, op: book }, price: 0.35 EUR }
- { when: { op: book, provider: far }, price: 0.250001 EUR }
- { when: { provider: near }, price: 0.02 EUR, per: 1000 }
descriptors:
- { key: user, limits: [{ name: daily, by_tier: { free: 2/day, paid: 100/day } }] }
- key: provider
  value: near
  descriptors: [{ key: op, value: book, limits: [{ name: seats, rate: 100000/day }] }]
- { key: provider, value: far, descriptors: [{ key: op, value: book, limits: [100000/day] }] }
";

async fn get(tollgate: &Tollgate, path: &str) -> Answer {
    Http::new().get(&format!("http://{}{path}", tollgate.http_address), &[]).await
}

/// The fields of each item: names, requests, money spent and given back.
async fn costs(tollgate: &Tollgate, path: &str, names: &[&str]) -> Vec<Value> {
    let page = get(tollgate, path).await.json();
    assert_eq!(page["currency"], "EUR", "{path}: {page}");
    let items = page["items"].as_array().unwrap().iter();
    let told = items.map(|item| {
        let cost = &item["cost"];
        let sums = [&item["requests"], &cost["spent_micros"], &cost["given_back_micros"]];
        names.iter().map(|name| &item[*name]).chain(sums).cloned().collect()
    });
    told.collect()
}

/// Two bookings of a free caller at a time that passes twice, and requests of a paid one.
async fn ask_all(tollgate: &Tollgate) {
    let mut ann = DomainClient::new(tollgate, "gate").await;
    for _ in 0..3 {
        ann.ask(&["user=ann", "provider=near,op=book"], 1).await;
    }
    let mut bob = DomainClient::new(tollgate, "gate").await;
    let chosen = ["user=bob", "tier=paid", "provider=any,op=book"];
    assert!(bob.ask(&chosen, 1).await.passed);
    // A part of a thousand hits counts in full, and 0 hits cost nothing.
    assert!(bob.ask(&["provider=near,op=talk", "tier=paid"], 1_001).await.passed);
    bob.try_ask(&["provider=near,op=talk"], 0).await.unwrap();
    // A retry costs nothing, and neither does a request without a price.
    for _ in 0..2 {
        bob.ask(&["user=bob", "tier=paid", "provider=near,op=book", "request_id=7"], 1).await;
    }
    bob.ask(&["user=bob", "tier=paid"], 1).await;
    // Hits that are given back give the price back.
    give_back(tollgate, "provider=near,op=book", 1).await;
    eventually("the requests in the usage", async || {
        (requests(tollgate).await == 10).then_some(())
    })
    .await;
}

async fn give_back(tollgate: &Tollgate, entries: &str, hits: u32) {
    let mut back = request("gate", &[entries], hits);
    back.descriptors[0].is_negative_hits = true;
    tollgate.client().await.should_rate_limit(back).await.unwrap();
}

/// What was not spent hides nothing of what others have spent.
#[tokio::test]
async fn only_hits_that_come_back_give_their_price_back() {
    const POLICY: &str = "
domain: gate
caller: { key: user }
prices:
- { when: { op: book }, price: 0.5 EUR }
- { when: { op: talk }, price: 1 EUR, per: 10 }
- { when: { op: free }, price: 0.1 EUR }
costs: { triple: [{ hits: 3, per: 1 }] }
descriptors:
- key: user
  descriptors:
  - { key: op, value: book, limits: [{ name: books, rate: 100/day }] }
  - key: op
    value: talk
    limits:
    - { name: talks, rate: 50/day, algorithm: token_bucket }
    - { name: costly, rate: 1000/day, cost: triple }
- { key: op, value: free, rate_limit: { unlimited: true } }
";
    for store in Store::every() {
        let tollgate = Tollgate::serve_with(POLICY, &store, &["--usage=true"]).await;
        let mut ann = DomainClient::new(&tollgate, "gate").await;
        assert!(ann.ask(&["user=ann,op=book"], 1).await.passed);
        assert!(ann.ask(&["user=ann,op=talk"], 25).await.passed);
        for _ in 0..4 {
            give_back(&tollgate, "user=bob,op=book", 7).await;
            give_back(&tollgate, "user=bob,op=talk", 20).await;
        }
        // Of 25 hits in three parts, 14 come back, and then the rest: two whole parts.
        give_back(&tollgate, "user=ann,op=talk", 14).await;
        give_back(&tollgate, "user=ann,op=talk", 14).await;
        // Without a limit nothing is known: it comes back as asked.
        give_back(&tollgate, "op=free", 1).await;
        eventually("the requests in the usage", async || {
            (requests(&tollgate).await == 13).then_some(())
        })
        .await;
        let usage = "/v1/usage?granularity=day";
        let kinds = costs(&tollgate, &format!("{usage}&group_by=provider"), &["provider"]).await;
        let expected = [
            json!(["book", 5, 500_000, 0]),
            json!(["free", 1, 0, 100_000]),
            json!(["talk", 7, 3_000_000, 2_000_000]),
        ];
        assert_eq!(kinds, expected);
        let page = get(&tollgate, &format!("{usage}&group_by=limit,caller")).await.json();
        let hits = |item: &Value| {
            let hits = &item["hits"];
            json!([item["limit"], item["caller"], hits["spent"], hits["given_back"]])
        };
        let sums: Vec<Value> = page["items"].as_array().unwrap().iter().map(hits).collect();
        let expected = [
            json!(["books", "ann", 1, 0]),
            json!(["books", "bob", 0, 0]),
            json!(["costly", "ann", 75, 75]),
            json!(["costly", "bob", 0, 0]),
            json!(["talks", "ann", 25, 25]),
            json!(["talks", "bob", 0, 0]),
        ];
        assert_eq!(sums, expected);
    }
}

#[tokio::test]
async fn what_passes_costs_its_price_exactly() {
    for store in Store::every() {
        let tollgate = Tollgate::serve_with(POLICY, &store, &["--usage=true"]).await;
        ask_all(&tollgate).await;
        let usage = "/v1/usage?granularity=day";
        // Near: two bookings of ann, one of bob, 2,000 hits of talk; far: the one that was chosen.
        let near = 3 * 350_000 + 2 * 20_000;
        let path = format!("{usage}&group_by=provider");
        let by_provider = costs(&tollgate, &path, &["provider"]).await;
        let expected = [
            json!([null, 1, 0, 0]),
            json!(["far", 1, 250_001, 0]),
            json!(["near", 8, near, 350_000]),
        ];
        assert_eq!(by_provider, expected);
        let by_tier = costs(&tollgate, &format!("{usage}&group_by=tier"), &["tier"]).await;
        let paid = 350_000 + 250_001 + 2 * 20_000;
        assert_eq!(by_tier, [json!(["free", 5, 700_000, 350_000]), json!(["paid", 5, paid, 0])]);
        let of_kind = format!("{usage}&group_by=kind&provider=near");
        let kinds = costs(&tollgate, &of_kind, &["kind"]).await;
        let expected = [
            json!([null, 8, 0, 0]),
            json!(["", 0, 40_000, 0]),
            json!(["op=book", 0, 1_050_000, 350_000]),
        ];
        assert_eq!(kinds, expected);
        let top = costs(&tollgate, "/v1/top?granularity=day&by=cost", &["caller"]).await;
        assert_eq!(top, [json!(["ann", 3, 700_000, 0]), json!(["bob", 4, 600_001, 0])]);
        let ann = costs(&tollgate, &format!("{usage}&caller=ann"), &[]).await;
        assert_eq!(ann, [json!([3, 700_000, 0])]);

        // Limits have no costs, and neither has another currency.
        let limits = get(&tollgate, &format!("{usage}&group_by=limit")).await.json();
        assert_eq!(
            (&limits["currency"], &limits["items"][0]["cost"]),
            (&Value::Null, &Value::Null)
        );
        let dollars = get(&tollgate, &format!("{usage}&currency=USD")).await.json();
        assert_eq!(dollars["items"][0]["cost"]["spent_micros"], 0);
        for query in ["of=limits&by=cost", "by=cost&limit=daily"] {
            assert_eq!(get(&tollgate, &format!("/v1/top?{query}")).await.status, 400, "{query}");
        }
        let report = get(&tollgate, "/v1/report?format=csv&period=day&group_by=provider").await;
        let report = String::from_utf8(report.body.to_vec()).unwrap();
        assert!(
            report.lines().any(|line| line.ends_with(&format!(",{near},350000,EUR"))),
            "{report}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_show_costs_in_units_of_the_currency() {
    let tollgate = Tollgate::serve_with(POLICY, &Store::Embedded, &["--usage=true"]).await;
    ask_all(&tollgate).await;
    let run = |arguments: &[&str]| {
        let url = format!("http://{}", tollgate.http_address);
        let output = command().env("TOLLGATE_API_URL", url).args(arguments).output().unwrap();
        String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
    };
    let table = run(&["top", "callers", "--by", "cost", "-g", "day"]);
    assert!(table.contains("COST") && table.contains("0.600001"), "{table}");
    assert!(table.contains("costs are in EUR"), "{table}");
    let csv = run(&["usage", "-g", "day", "-b", "provider", "-o", "csv"]);
    assert!(csv.contains(",near,8,") && csv.contains(",1.09,"), "{csv}");
    let csv = run(&["usage", "-g", "day", "-b", "limit", "-o", "csv"]);
    assert!(!csv.contains("cost"), "{csv}");
}

#[tokio::test]
async fn without_prices_usage_has_no_costs() {
    let (policy, _) = POLICY.split_once("prices:").unwrap();
    let policy = format!("{policy}descriptors: [{{ key: user, limits: [5/day] }}]");
    let tollgate = Tollgate::serve_with(&policy, &Store::Embedded, &["--usage=true"]).await;
    DomainClient::new(&tollgate, "gate").await.ask(&["user=ann"], 1).await;
    eventually("the request in the usage", async || (requests(&tollgate).await == 1).then_some(()))
        .await;
    let page = get(&tollgate, "/v1/usage?granularity=day").await.json();
    assert_eq!((&page["currency"], &page["items"][0]["cost"]), (&Value::Null, &Value::Null));
    let report = get(&tollgate, "/v1/report?format=csv").await;
    assert!(String::from_utf8(report.body.to_vec()).unwrap().contains(",refused_by_disabled\r\n"));
}

/// The part of the requests that the limits of `near` and `far` let pass.
fn success(kind: &Value) -> [f64; 2] {
    [0, 1].map(|place: usize| kind["providers"][place]["success"].as_f64().unwrap())
}

#[tokio::test]
async fn budgets_are_projected_and_providers_compared() {
    for store in Store::every() {
        let policy = POLICY.replace("prices:", "budget: { day: 10 EUR, month: 1 EUR }\nprices:");
        let tollgate = Tollgate::serve_with(&policy, &store, &["--usage=true"]).await;
        ask_all(&tollgate).await;
        let answer = get(&tollgate, "/v1/costs?domain=gate").await;
        assert_eq!(answer.status, 200, "{:?}", answer.body);
        let costs = answer.json();
        assert_eq!(costs["currency"], "EUR");
        let gate = &costs["items"][0];
        // Two bookings of ann, one of which came back, and one of bob; the chosen one, and 2,000 hits.
        let spent = 3 * 350_000 - 350_000 + 250_001 + 40_000;
        assert_eq!((&gate["domain"], &gate["hour_micros"]), (&json!("gate"), &json!(spent)));
        assert_eq!(gate["projected_day_micros"], 24 * spent);
        assert!(gate["month_micros"].as_u64() <= gate["projected_month_micros"].as_u64(), "{gate}");
        // 0.99 EUR an hour is more than 10 EUR a day.
        assert_eq!(
            (&gate["day"], &gate["day_budget_micros"]),
            (&json!("projected_over"), &json!(10_000_000))
        );
        let [talk, book] = [&costs["kinds"][0], &costs["kinds"][1]];
        assert_eq!(
            (&talk["kind"], &talk["cheapest"], &talk["saving_micros"]),
            (&json!(""), &json!("near"), &json!(0))
        );
        assert_eq!((&book["kind"], &book["cheapest"]), (&json!("op=book"), &json!("far")));
        assert_eq!(book["providers"][0]["spent_micros"], 700_000);
        // Of 0.70 EUR at 0.35 EUR, 0.199998 EUR would be saved at 0.250001 EUR.
        assert_eq!(
            (&book["saving_micros"], &book["providers"][1]["saving_micros"]),
            (&json!(199_998), &json!(0))
        );
        assert_eq!((&book["best"], &book["best_by"][0]), (&json!("far"), &json!("price")));
        // The limit of ann refused her, not near.
        assert_eq!(success(book), [1.0, 1.0], "{book}");
        let mut any = DomainClient::new(&tollgate, "gate").await;
        assert!(!any.ask(&["provider=near,op=book"], 100_001).await.passed);
        eventually("the refusal of near", async || {
            let costs = get(&tollgate, "/v1/costs?domain=gate").await.json();
            let [near, far] = success(&costs["kinds"][1]);
            (near < 1.0 && far == 1.0).then_some(())
        })
        .await;
        assert_eq!(get(&tollgate, "/v1/costs?domain=other").await.status, 422);
        assert_eq!(get(&tollgate, "/v1/costs?limit=daily").await.status, 400);
    }
}
