//! Providers: their capacity, live.

use serde_json::json;
use tokio::task::JoinSet;

use super::{POLICY, Site, check_look};
use crate::support::ask::DomainClient;
use crate::support::eventually;
use crate::support::store::Store;

/// Two providers, one with a reserve, one whose requests wait.
const SHARED: &str = "
domain: gate
tiers: [free, premium]
caller: { key: user, tier: { key: tier, default: free }, priority: { key: priority } }
choices: [{ key: provider, value: any, among: { near: {}, far: {} } }]
descriptors:
- key: provider
  value: near
  limits: [{ name: near, rate: 20/hour }]
  capacity: { reserve: { premium: 40% } }
- { key: provider, value: far, limits: [{ name: far, rate: 1/10s, wait: { up_to: 10s } }] }
";

const PRICED: &str = "
domain: gate
choices: [{ key: provider, value: any, among: { near: {}, far: {} } }]
prices:
- { when: { provider: near }, price: 0.35 EUR }
- { when: { provider: far }, price: 0.0012 EUR }
- { when: { provider: unused }, price: 1 EUR }
descriptors:
- { key: provider, value: near, limits: [20/hour] }
- { key: provider, value: far, limits: [20/hour] }
";

#[tokio::test(flavor = "multi_thread")]
async fn the_use_of_providers_follows_requests_and_their_queues() {
    let site = Site::start(POLICY, &Store::Embedded, &[]).await;
    let mut client = DomainClient::new(&site.tollgate, "gate").await;
    let Some(browser) = site.browser("viewer").await else { return };
    browser.open(&site.url("/dashboard/providers")).await;
    browser.shows("#near", "0 of 20").await;
    browser.shows("#near h2", "80.0 ms, of the policy").await;
    client.ask(&["provider=near"], 12).await;
    browser.shows("#near", "12 of 20").await;
    browser.shows("#near h2", "pressure").await;
    browser.shows("#near h2", "level 1").await;
    client.ask(&["provider=far"], 5).await;
    browser.shows("#far h2", "exhausted").await;
    check_look(&browser).await;
}

/// The cells of a table.
fn cells(table: &str) -> String {
    format!(
        "[...document.querySelectorAll('{table} tbody tr')].map((row) => [...row.cells].map((cell) => cell.textContent))"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_has_positions_and_waits_and_a_reserve_what_it_leaves() {
    let site = Site::start(SHARED, &Store::Embedded, &[]).await;
    let mut client = DomainClient::new(&site.tollgate, "gate").await;
    let Some(browser) = site.browser("viewer").await else { return };
    browser.open(&site.url("/dashboard/providers")).await;
    browser.shows("#near .reserve", "premium 8").await;
    let reserve =
        "[...document.querySelectorAll('#near .reserve dd')].map((one) => one.textContent)";
    assert_eq!(browser.value(reserve).await, json!(["premium 8", "free 12, premium 20"]));
    client.ask(&["provider=near"], 12).await;
    browser.shows("#near .reserve", "free 0, premium 8").await;
    assert!(!client.ask(&["provider=near"], 1).await.passed);
    assert!(client.ask(&["provider=near", "tier=premium"], 1).await.passed);
    browser.shows("#near .reserve", "free 0, premium 7").await;

    client.ask(&["provider=far"], 1).await;
    let mut asking = JoinSet::new();
    for priority in [1, 1, 2, 4, 4] {
        let mut client = DomainClient::new(&site.tollgate, "gate").await;
        asking.spawn(async move {
            // One that passes, or has waited for long enough, waits again.
            loop {
                client.ask(&[&format!("provider=far,priority={priority}")], 1).await;
            }
        });
    }
    let waits = eventually("the queue", async || {
        let mut rows = browser.value(&cells("#far .queue")).await;
        let rows = rows.as_array_mut()?;
        let mut waits = Vec::new();
        for row in rows.iter_mut() {
            waits.push(row.as_array_mut()?.pop()?);
        }
        let expected = json!([
            ["urgent", "2", "1–2"],
            ["high", "0", ""],
            ["medium", "1", "3"],
            ["low", "2", "4–5"],
        ]);
        (json!(rows) == expected).then_some(waits)
    })
    .await;
    for (wait, is_waiting) in waits.iter().zip([true, false, true, true]) {
        let wait = wait.as_str().unwrap();
        assert_eq!(wait.ends_with('s'), is_waiting, "{waits:?}");
    }
    asking.shutdown().await;
    check_look(&browser).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cost_of_each_provider_is_that_of_the_traffic_or_unknown() {
    for store in Store::every() {
        let site = Site::start(PRICED, &store, &[]).await;
        let mut client = DomainClient::new(&site.tollgate, "gate").await;
        for provider in ["near", "near", "far"] {
            client.ask(&[&format!("provider={provider}")], 1).await;
        }
        let Some(browser) = site.browser("viewer").await else { return };
        let expected = json!([
            ["far", "gate", "0.0012 EUR", "0.0012 EUR"],
            ["near", "gate", "0.70 EUR", "0.70 EUR"],
            ["unused", "gate", "0.00 EUR", "0.00 EUR"],
        ]);
        eventually("the costs", async || {
            browser.open(&site.url("/dashboard/providers")).await;
            (browser.value(&cells("#spend")).await == expected).then_some(())
        })
        .await;
        check_look(&browser).await;
    }
    // What is not kept is not 0.
    let off = Site::start(PRICED, &Store::Embedded, &["--usage=false"]).await;
    let Some(browser) = off.browser("viewer").await else { return };
    browser.open(&off.url("/dashboard/providers")).await;
    browser.shows("#spend-unknown", "Unknown: this sidecar does not count usage").await;
    assert_eq!(browser.value("document.querySelectorAll('#spend').length").await, json!(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_pauses_and_resumes_a_queue_and_caps_a_limit() {
    for store in Store::every() {
        let site = Site::start(POLICY, &store, &[]).await;
        let Some(browser) = site.browser("operator").await else { return };
        browser.open(&site.url("/dashboard/providers")).await;
        browser.click("[data-provider=far] summary").await;
        browser.click("[data-provider=far] form[action$=pause] button").await;
        browser.shows("#effect", "No request for far begins to wait").await;
        browser.shows("#effect", "on all sidecars").await;
        assert!(site.tollgate.output().matches("control provider").count() == 0);
        browser.click("#confirm").await;
        browser.shows("#done", "the queue is paused").await;
        browser.shows("#far h2", "queue paused").await;
        check_look(&browser).await;
        browser.click("[data-provider=near] summary").await;
        browser.enter("[data-provider=near] [name=percent]", "20").await;
        browser.click("[data-provider=near] form[action$=cap] button").await;
        browser.shows("#effect", "less than 20% of each of its limits").await;
        browser.click("#confirm").await;
        browser.shows("#near", "0 of 4").await;
        browser.shows("#controls tbody", "operator").await;
        let pills = "document.querySelectorAll('#far h2 .warning').length";
        assert_eq!(browser.value(pills).await, 1);
        assert_eq!(browser.errors().await, Vec::<String>::new());
        // The change is refused with a reason where it makes no sense.
        browser.click("[data-provider=near] summary").await;
        browser.enter("[data-provider=near] [name=percent]", "100").await;
        browser.click("[data-provider=near] form[action$=cap] button").await;
        browser.shows("main", "percent: use 0 to 99").await;
        browser.open(&site.url("/dashboard/providers")).await;
        browser.click("button[aria-label='End pause of far']").await;
        browser.shows("#effect", "Ends now, on all sidecars").await;
        browser.click("#confirm").await;
        browser.shows("#done", "the change has ended").await;
        let is_gone = async || (browser.value(pills).await == 0).then_some(());
        eventually("the pill is gone", is_gone).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_viewer_has_no_forms() {
    let site = Site::start(POLICY, &Store::Embedded, &[]).await;
    let Some(browser) = site.browser("viewer").await else { return };
    browser.open(&site.url("/dashboard/providers")).await;
    browser.shows("#near", "0 of 20").await;
    let forms = "document.querySelectorAll('form[action^=\"/dashboard/providers\"]').length";
    assert_eq!(browser.value(forms).await, 0);
}
