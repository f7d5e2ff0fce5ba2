//! Policies, usage and the audit log.

use std::fs;

use serde_json::json;
use tempfile::TempDir;

use super::{POLICY, Site, check_look};
use crate::support::ask::DomainClient;
use crate::support::client::Http;
use crate::support::eventually;
use crate::support::redis::Server;
use crate::support::store::Store;

#[tokio::test(flavor = "multi_thread")]
async fn policies_are_shown_checked_and_explained() {
    let site = Site::start(POLICY, &Store::Embedded, &[]).await;
    let Some(browser) = site.browser("viewer").await else { return };
    browser.open(&site.url("/dashboard/policies")).await;
    let hash = Http::new().get(&site.url("/policy"), &[]).await;
    let hash = hash.headers["etag"].to_str().unwrap().trim_matches('"').to_owned();
    assert!(hash.starts_with(&browser.text("#hash").await), "{hash}");
    browser.shows(".rules tbody", "daily: free 10/day, premium 100/day").await;
    browser.shows(".rules tbody", "policy.yaml:7").await;
    check_look(&browser).await;

    browser.enter("#domain", "gate").await;
    browser.enter("#descriptors", "user=ann,<b>=1\nuser=nobody").await;
    browser.click("#explain button").await;
    browser.shows("#explanation .walk", "user=ann matches user").await;
    browser.shows("#explanation .walk", "<b>=1 matches no rule").await;
    browser.enter("#descriptors", "user=nobody").await;
    browser.click("#explain button").await;
    browser.shows("#explanation .walk", "user=nobody matches user=nobody").await;
    browser.shows("#explanation tbody", "1/day").await;
    browser.shows("#explanation", "It passes if nothing has been spent").await;
    browser.enter("#domain", "other").await;
    browser.click("#explain button").await;
    browser.shows("#explain [role=alert]", "no policy has the domain `other`").await;

    browser.enter("#text", "domain: d\ndescriptors: [{ key: </textarea>, limits: [1/dya] }]").await;
    browser.click("#check button").await;
    browser.shows("#problems", "policy.yaml:2:").await;
    browser.shows("#problems", "^^^").await;
    browser.enter("#text", "domain: d\ndescriptors: [{ key: a, limits: [1/day] }]").await;
    browser.click("#check button").await;
    browser.shows("#problems", "It is valid.").await;

    browser.open(&site.url("/dashboard/policies")).await;
    browser.shows("#reloads", "No reload").await;
    site.tollgate.edit(&POLICY.replace("free: 10/day", "free: 12/day"));
    eventually("the reload", async || {
        browser.open(&site.url("/dashboard/policies")).await;
        browser.text("#reloads").await.contains("10/day becomes 12/day").then_some(())
    })
    .await;
    browser.shows("#reloads summary", "from files").await;
    browser.shows("#reloads li", "gate user").await;
    check_look(&browser).await;
    site.tollgate.edit("domain: gate\nlimits: []");
    eventually("the failure", async || {
        browser.open(&site.url("/dashboard/policies")).await;
        browser.text("main").await.contains("The last reload failed").then_some(())
    })
    .await;
    assert_eq!(browser.errors().await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn usage_is_that_of_the_traffic_by_any_dimension() {
    for store in Store::every() {
        let site = Site::start(POLICY, &store, &[]).await;
        let mut client = DomainClient::new(&site.tollgate, "gate").await;
        for _ in 0..12 {
            client.ask(&["user=ann"], 1).await;
        }
        client.ask(&["user=bob"], 3).await;
        let Some(browser) = site.browser("viewer").await else { return };
        for period in ["day", "month", "year"] {
            eventually("the usage", async || {
                browser.open(&site.url(&format!("/dashboard/usage?period={period}"))).await;
                let sums = (browser.text("#passed").await, browser.text("#refused").await);
                (sums == ("11".to_owned(), "2".to_owned())).then_some(())
            })
            .await;
            let drawn = browser.value("[...document.querySelectorAll('.chart rect[fill=\"#000003\"], .chart rect[fill=\"#000004\"]')].length").await;
            assert_eq!(drawn, json!(2), "{period}");
        }
        check_look(&browser).await;
        let rows = "[...document.querySelectorAll('#rows tbody tr')].map((row) => [...row.cells].slice(0, 4).map((cell) => cell.textContent))";
        assert_eq!(
            browser.value(rows).await,
            json!([["ann", "12", "10", "2"], ["bob", "1", "1", "0"]])
        );
        browser.open(&site.url("/dashboard/usage?by=limit")).await;
        browser.shows("#rows tbody", "daily").await;
        browser.open(&site.url("/dashboard/usage?by=caller&value=bob")).await;
        browser.shows("#passed", "1").await;
        browser.shows("#refused", "0").await;
        browser.shows("#forecast", "dailyunknown: ").await;
        browser.open(&site.url("/dashboard/usage?by=reason&reason=over_limit")).await;
        browser.shows("#denials tbody", "ann").await;
        let csv = browser.value("(() => { const get = new XMLHttpRequest(); get.open('GET', '/dashboard/usage.csv?by=caller', false); get.send(); return get.getResponseHeader('content-type') + get.responseText; })()").await;
        let csv = csv.as_str().unwrap();
        assert!(csv.starts_with("text/csv") && csv.contains("\r\nann,12,10,2,"), "{csv}");
        assert_eq!(browser.errors().await, Vec::<String>::new());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_lines_of_the_audit_log_are_shown_to_operators() {
    let Some(server) = Server::start(&[]) else { return };
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("audit.jsonl");
    let store = Store::Redis(server);
    for destination in [file.to_str().unwrap(), "redis"] {
        let site = Site::start(POLICY, &store, &["--audit-log", destination]).await;
        let http = Http::new();
        let authorization = format!("Bearer {}", site.token("admin"));
        let headers = [("authorization", authorization.as_str())];
        for name in ["ann", "%3Ci%3E"] {
            let url = site.url(&format!("/v1/callers/{name}/quota/reset"));
            assert_eq!(http.post(&url, &headers, "{}").await.status, 200);
        }
        let Some(browser) = site.browser("operator").await else { return };
        browser.open(&site.url("/dashboard/audit")).await;
        let rows = "[...document.querySelectorAll('#lines tbody tr')].slice(0, 2).map((row) => [...row.cells].slice(2, 5).map((cell) => cell.textContent.trim()))";
        let (ann, other) =
            (json!(["admin", "reset quota", "ann"]), json!(["admin", "reset quota", "<i>"]));
        assert_eq!(browser.value(rows).await, json!([other, ann]), "{destination}");
        check_look(&browser).await;
        browser.enter("#caller", "AN").await;
        browser.click("form[role=search] button").await;
        browser.shows("#lines tbody", "ann").await;
        assert_eq!(browser.value(rows).await, json!([ann]));
        let Some(viewer) = site.browser("viewer").await else { return };
        viewer.open(&site.url("/dashboard/audit")).await;
        viewer.shows("main", "the role operator is required").await;
    }
    assert!(fs::metadata(&file).unwrap().len() != 0);
}
