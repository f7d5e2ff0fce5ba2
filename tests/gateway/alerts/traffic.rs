//! Rules about abuse on real traffic through Envoy, as the pages show it.

use serde_json::json;

use super::AlertFile;
use crate::support::browser::Browser;
use crate::support::client::Http;
use crate::support::clock::Clock;
use crate::support::eventually;
use crate::support::gateway::{Gateway, tcp};
use crate::support::store::Store;
use crate::support::tollgate::{Tollgate, command};

const POLICY: &str = "
domain: gate
caller: { key: user }
abuse: { address: remote_address, identifier: hotel_id }
descriptors:
  - { key: user, limits: [{ name: daily, rate: 60/day }] }
";

const RULES: &str = "
alerts:
  denied: { when: denials, above: 20, notify: [], risk: 40 }
  burst: { when: burst, above: 15, over: 10s, notify: [], risk: 20 }
  probing: { when: probing, above: 30, notify: [], risk: 50 }
  stuffing: { when: address_callers, above: 3, notify: [] }
  shared: { when: caller_addresses, above: 3, notify: [], risk: 30 }
  risky: { when: risk, above: 70, notify: [] }
";

/// The rows of the page of alerts: the rule, and what fires.
const ROWS: &str = "[...document.querySelectorAll('#open tbody tr')].map((row) => row.cells[2].textContent + ': ' + row.cells[1].textContent)";

/// The reasons of the risk of a caller, without numbers that depend on the time.
const REASONS: &str = "[...document.querySelectorAll('#risk li')].map((one) => one.textContent.replace(/, open since.*/, ''))";

#[tokio::test(flavor = "multi_thread")]
async fn abuse_through_envoy_is_found_and_the_page_of_its_caller_says_why() {
    for store in Store::every() {
        let file = AlertFile::new(RULES);
        let flags = ["--alerts", file.path.to_str().unwrap()];
        let tollgate = Tollgate::serve_with(POLICY, &store, &flags).await;
        let header = |name: &str, key: &str| json!({ "request_headers": { "header_name": name, "descriptor_key": key } });
        let (user, address) = (header("x-user", "user"), json!({ "remote_address": {} }));
        let hotel = header("x-hotel", "hotel_id");
        let rate_limits =
            json!([{ "actions": [user, address, hotel] }, { "actions": [user, address] }]);
        let sidecars = [tcp(tollgate.grpc_address)];
        let Some(gateway) = Gateway::limiting(&rate_limits, &sidecars).await else { return };
        let ask = async |user: &str, from: &str, hotel: &str| {
            let headers = [("x-user", user), ("x-forwarded-for", from), ("x-hotel", hotel)];
            let headers = if hotel.is_empty() { &headers[..2] } else { &headers[..] };
            gateway.caller.get("/", headers).await.status
        };
        let Some(browser) = Browser::start().await else { return };
        let page = |path: &str| format!("http://{}/dashboard{path}", tollgate.http_address);

        assert_eq!(ask("usual", "203.0.113.9", "H-4711").await, 200);
        // One caller tries one hotel after the other and goes on although it is refused, several come
        // from one address, and one from many. A rule is in force up to a second after the start, so they ask again.
        let wanted = [
            ("burst: ", " requests of walker arrived together"),
            ("denied: ", " requests of walker were refused"),
            ("probing: walker tries identifiers one after the other", ""),
            ("risky: the risk of walker is ", ""),
            ("shared: roamer came from ", " addresses"),
            ("stuffing: ", " callers came from 192.0.2.1"),
        ];
        eventually("all alerts", async || {
            for one in 0..100 {
                ask("walker", "203.0.113.7", &format!("H-{:04}", 995 + one)).await;
            }
            for one in 0..5 {
                ask(&format!("user-{one}"), "192.0.2.1", "").await;
                ask("roamer", &format!("198.51.100.{one}"), "").await;
            }
            browser.open(&page("/alerts")).await;
            let rows = browser.value(ROWS).await;
            let rows: Vec<&str> = rows.as_array()?.iter().filter_map(|row| row.as_str()).collect();
            let is_there = |(begin, end): &(&str, &str)| {
                rows.iter().any(|row| row.starts_with(begin) && row.ends_with(end))
            };
            wanted.iter().all(is_there).then_some(())
        })
        .await;
        assert_eq!(ask("walker", "203.0.113.7", "H-1").await, 429);
        assert_eq!(ask("usual", "203.0.113.9", "H-4711").await, 200);

        browser.open(&page("/caller?name=walker")).await;
        check_risk_of_walker(&browser).await;
        browser.open(&page("/caller?name=usual")).await;
        browser.shows("#risk", "No alert about abuse names this caller.").await;
        assert_eq!(browser.errors().await, Vec::<String>::new());
    }
}

/// Checks the risk and its reasons: 100 x (1 - 0.6 x 0.8 x 0.5).
async fn check_risk_of_walker(browser: &Browser) {
    browser.shows("#risk h2", "76.0 of 100").await;
    let reasons = browser.value(REASONS).await;
    let mut reasons: Vec<&str> =
        reasons.as_array().unwrap().iter().filter_map(|one| one.as_str()).collect();
    reasons.sort_by_key(|reason| reason.rsplit_once(": ").map(|(_, share)| share));
    assert_eq!(reasons.len(), 3, "{reasons:?}");
    let expected = [
        (" requests of walker arrived together: 20.0", 15),
        (" requests of walker were refused: 40.0", 20),
    ];
    for (reason, (title, above)) in reasons.iter().zip(expected) {
        let count: u64 = reason.strip_suffix(title).and_then(|count| count.parse().ok()).unwrap();
        assert!(above < count, "{reason}");
    }
    let probing = "walker tries identifiers one after the other: ";
    assert!(reasons[2].starts_with(probing) && reasons[2].ends_with(": 50.0"), "{reasons:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn hits_around_envoy_are_told_from_what_the_provider_counts() {
    let Some(clock) = Clock::new() else { return };
    // All traffic is in one hour.
    clock.step_to(
        30 - i64::from(jiff::Timestamp::now().strftime("%M").to_string().parse::<i8>().unwrap()),
    );
    let file = AlertFile::new("alerts: {}");
    let flags = ["--usage", "--alerts", file.path.to_str().unwrap()];
    let policy = "
domain: gate
choices: [{ key: provider, value: any, among: { near: {}, far: {} } }]
prices: [{ when: { provider: near }, price: 1 EUR }]
descriptors: [{ key: provider, value: near, limits: [20/hour] }]";
    let mut process = command();
    process.envs(clock.environment());
    let tollgate = Tollgate::serve_by(process, policy, &Store::Embedded, &flags).await;
    let provider =
        json!({ "request_headers": { "header_name": "x-provider", "descriptor_key": "provider" } });
    let sidecars = [tcp(tollgate.grpc_address)];
    let Some(gateway) = Gateway::limiting(&json!([{ "actions": [provider] }]), &sidecars).await
    else {
        return;
    };
    let http = Http::new();
    for _ in 0..30 {
        gateway.caller.get("/", &[("x-provider", "near")]).await;
    }
    for _ in 0..60 {
        http.get(&format!("http://{}/", gateway.upstream.address), &[]).await;
    }
    assert_eq!(gateway.upstream.served(), 80, "10 of 30 were refused, 60 came around Envoy");
    let usage = format!("http://{}/v1/usage?group_by=provider", tollgate.http_address);
    let item = eventually("the usage", async || {
        let item = http.get(&usage, &[]).await.json()["items"][0].clone();
        (item["requests"] == 30).then_some(item)
    })
    .await;
    assert_eq!((&item["provider"], &item["allowed"]), (&json!("near"), &json!(20)));

    clock.step_to(30 + 180);
    let at: jiff::Timestamp = item["last_at"].as_str().unwrap().parse().unwrap();
    let start = jiff::Timestamp::from_second(at.as_second() / 3_600 * 3_600).unwrap();
    let body =
        json!({ "domain": "gate", "start": start.to_string(), "hits": gateway.upstream.served() });
    let url = format!("http://{}/v1/providers/near/counts", tollgate.http_address);
    assert_eq!(http.post(&url, &[], &body.to_string()).await.status, 204);
    file.edit("alerts: { around: { when: bypass, above: 5%, least: 50 } }");
    let Some(browser) = Browser::start().await else { return };
    eventually("the alert", async || {
        browser.open(&format!("http://{}/dashboard/alerts", tollgate.http_address)).await;
        let rows = browser.value(ROWS).await;
        (rows == json!(["around: no decision explains 75% of the hits of near"])).then_some(())
    })
    .await;
}
