//! The page of alerts, and the open ones on the overview.

use std::fs;

use serde_json::json;
use tempfile::TempDir;

use super::{POLICY, Site, check_look};
use crate::support::ask::DomainClient;
use crate::support::client::Http;
use crate::support::eventually;
use crate::support::store::Store;

const ALERTS: &str = "
channels: { log: { type: log } }
timezone: Asia/Tokyo
maintenance:
  always: { months: january-december, labels: { caller: nobody } }
  never: { dates: 2000-01-01..2000-01-02, alerts: [idle] }
alerts:
  quota: { when: threshold, percent: [80%], severity: error }
  idle: { when: queue, below: 1, summary: see the wiki }
  refusals: { when: refused, above: 50% }
";

#[tokio::test(flavor = "multi_thread")]
async fn alerts_are_shown_acknowledged_resolved_and_silenced() {
    for store in Store::every() {
        let folder = TempDir::new().unwrap();
        let file = folder.path().join("alerts.yaml");
        fs::write(&file, ALERTS).unwrap();
        let policy = format!("{POLICY}\ndefaults: {{ thresholds: true }}");
        let site = Site::start(&policy, &store, &["--alerts", file.to_str().unwrap()]).await;
        let Some(browser) = site.browser("operator").await else { return };
        browser.shows("#alerts", "1").await;
        let mut client = DomainClient::new(&site.tollgate, "gate").await;
        for _ in 0..8 {
            client.ask(&["user=ann"], 1).await;
        }
        // The overview follows without a reload.
        browser.shows("#alerts", "2").await;
        browser.open(&site.url("/dashboard/alerts")).await;
        browser.shows("#open tbody", "ann has used 80% of daily").await;
        check_look(&browser).await;
        browser.open(&site.url("/dashboard/alerts?severity=warning")).await;
        let rows = "[...document.querySelectorAll('#open tbody tr')].map((row) => row.cells[2].textContent)";
        assert_eq!(browser.value(rows).await, json!(["idle"]));
        browser.click("form[action='/dashboard/alerts/acknowledge'] button").await;
        browser.shows("[role=status]", "the alert is acknowledged").await;
        browser.shows("#open tbody", "acknowledged by operator").await;
        browser.open(&site.url("/dashboard/alerts?rule=idle")).await;
        browser.click("form[action='/dashboard/alerts/resolve'] button").await;
        browser.shows("[role=status]", "the alert is resolved").await;
        browser.shows("#closed tbody", "by operator").await;
        browser.enter("#silence-rule", "quota").await;
        let until = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(24);
        browser.enter("#silence-until", &until.to_string()).await;
        browser.click("#silence button").await;
        browser.shows("[role=status]", "the silence holds").await;
        browser.shows("#open tbody", "silenced").await;
        browser.shows("#silences tbody", "quota").await;
        browser.shows("#silences tbody", "active").await;
        let windows = "[...document.querySelectorAll('#maintenance tbody tr')].map((row) => row.cells[0].textContent + ' ' + row.cells[1].textContent)";
        assert_eq!(browser.value(windows).await, json!(["always active", "never not now"]));
        check_look(&browser).await;
        browser.click("#silences button").await;
        browser.shows("[role=status]", "the silence has ended").await;
        assert_eq!(browser.errors().await, Vec::<String>::new());
        let log = site.tollgate.output();
        for what in ["acknowledge alert", "resolve alert", "silence alerts", "end silence"] {
            assert!(log.contains(what), "{what}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn viewers_see_alerts_and_forms_from_elsewhere_are_refused() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("alerts.yaml");
    fs::write(&file, ALERTS).unwrap();
    let site = Site::start(POLICY, &Store::Embedded, &["--alerts", file.to_str().unwrap()]).await;
    let url = site.url("/dashboard/alerts/resolve");
    let answer = Http::new()
        .post(&url, &[("content-type", "application/x-www-form-urlencoded")], "id=a")
        .await;
    assert!([302, 303, 401, 403].contains(&answer.status), "{answer:?}");
    let Some(browser) = site.browser("viewer").await else { return };
    eventually("the alert", async || {
        browser.open(&site.url("/dashboard/alerts")).await;
        browser.text("#open tbody").await.contains("see the wiki").then_some(())
    })
    .await;
    assert_eq!(
        browser.value("document.querySelectorAll('main form[method=post]').length").await,
        json!(0)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_is_replayed_on_usage_by_viewers() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("alerts.yaml");
    fs::write(&file, ALERTS).unwrap();
    let flags = ["--alerts", file.to_str().unwrap()];
    let site = Site::start(POLICY, &Store::Embedded, &flags).await;
    let mut client = DomainClient::new(&site.tollgate, "gate").await;
    for _ in 0..40 {
        client.ask(&["user=ann"], 1).await;
    }
    let Some(browser) = site.browser("viewer").await else { return };
    eventually("the firing", async || {
        browser.open(&site.url("/dashboard/alerts?replay=refusals&days=2")).await;
        browser.text("#replay").await.contains("would have fired 1 time").then_some(())
    })
    .await;
    browser.shows("#firings tbody", "of the requests are refused").await;
    check_look(&browser).await;
    // By the form itself.
    browser.open(&site.url("/dashboard/alerts")).await;
    browser.enter("#replay-days", "3").await;
    browser.click("#replay button").await;
    browser.shows("#replay [role=status]", "usage does not").await;
    for (query, reason) in [
        ("replay=refusals&days=x", "`x` is no number of days"),
        ("replay=refusals&days=400", "from 1 to 90"),
        ("replay=none", "no rule has the name"),
        ("replay=%3Cscript%3E", "<script>"),
    ] {
        browser.open(&site.url(&format!("/dashboard/alerts?{query}"))).await;
        browser.shows("#replay [role=status]", reason).await;
    }
    assert_eq!(browser.errors().await, Vec::<String>::new());
}
