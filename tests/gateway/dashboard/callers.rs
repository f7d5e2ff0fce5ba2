//! Callers: the list, one caller, and changes, which need a role and a confirmation.

use std::fs;

use serde_json::json;
use tempfile::TempDir;

use super::{POLICY, Site, check_look};
use crate::support::ask::DomainClient;
use crate::support::browser::Browser;
use crate::support::eventually;
use crate::support::redis::Server;
use crate::support::store::Store;

/// A name that is markup, and one that is no text.
const HOSTILE: [&str; 2] = ["<img src=x onerror=alert(1)>\"'&", "../..?x=1#y"];

#[tokio::test(flavor = "multi_thread")]
async fn callers_are_listed_by_use_and_a_hostile_name_is_text() {
    for store in Store::every() {
        let site = Site::start(POLICY, &store, &[]).await;
        let mut client = DomainClient::new(&site.tollgate, "gate").await;
        for (name, requests) in [("ann", 12), ("bob", 3), (HOSTILE[0], 9), (HOSTILE[1], 2)] {
            for _ in 0..requests {
                client.ask(&[&format!("user={name}")], 1).await;
            }
        }
        let Some(browser) = site.browser("viewer").await else { return };
        let near = "[...document.querySelectorAll('section[aria-labelledby=near-title] a')].map((a) => a.textContent)";
        eventually("the hostile name near a limit", async || {
            (browser.value(near).await == json!(["ann", HOSTILE[0]])).then_some(())
        })
        .await;
        browser.open(&site.url("/dashboard/callers")).await;
        let names = "[...document.querySelectorAll('#callers tbody tr')].map((row) => [...row.cells].slice(0, 4).map((cell) => cell.textContent))";
        let row =
            |name: &str, requests: &str, refused: &str| json!([name, "free", requests, refused]);
        eventually("the list", async || {
            browser.open(&site.url("/dashboard/callers")).await;
            let expected = [
                row("ann", "12", "2"),
                row(HOSTILE[0], "9", "0"),
                row("bob", "3", "0"),
                row(HOSTILE[1], "2", "0"),
            ];
            (browser.value(names).await == json!(expected)).then_some(())
        })
        .await;
        check_look(&browser).await;
        for name in HOSTILE {
            browser.open(&site.url("/dashboard/callers")).await;
            let name_of_link = json!(name);
            browser.value(&format!("[...document.querySelectorAll('#callers a')].find((a) => a.textContent === {name_of_link}).click()")).await;
            browser.shows("h1 .name", name).await;
            browser.shows("#limits", "daily").await;
        }
        browser.open(&site.url("/dashboard/callers?search=BO")).await;
        assert_eq!(browser.value(names).await, json!([row("bob", "3", "0")]));
        assert_eq!(browser.value("document.images.length").await, json!(0));
        assert_eq!(browser.errors().await, Vec::<String>::new());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_changes_a_caller_after_reading_the_effect() {
    let Some(server) = Server::start(&[]) else { return };
    let folder = TempDir::new().unwrap();
    let log = folder.path().join("audit.jsonl");
    let flags = ["--audit-log", log.to_str().unwrap()];
    let store = Store::Redis(server);
    let site = Site::start(POLICY, &store, &flags).await;
    let mut client = DomainClient::new(&site.tollgate, "gate").await;
    for _ in 0..9 {
        client.ask(&["user=ann"], 1).await;
    }
    let Some(browser) = site.browser("operator").await else { return };
    let page = site.url("/dashboard/caller?name=ann");
    browser.open(&page).await;
    browser.shows(".limit .used", "9 of 10").await;
    browser.shows(".limit .pill.warning", "90 %").await;
    browser.shows("#tiers", "100/day").await;
    check_look(&browser).await;

    // Only an administrator creates callers, as over the API.
    browser.choose("#form-tier select", "premium").await;
    browser.click("#form-tier button").await;
    browser.shows("#effect", "The tier changes from free to premium").await;
    browser.shows("#effect", "daily: 10/day becomes 100/day.").await;
    browser.click("#confirm").await;
    browser.shows("main", "unknown caller").await;
    // The browser tells the status.
    assert_eq!(browser.errors().await.len(), 1);
    assert!(!fs::read_to_string(&log).unwrap_or_default().contains("ann"));
    browser.open(&site.url("/dashboard")).await;
    browser.click(".account button").await;
    site.log_in(&browser, "admin").await;
    browser.open(&page).await;
    browser.choose("#form-tier select", "premium").await;
    browser.click("#form-tier button").await;
    assert_eq!(
        client.remaining(&["user=ann"]).await,
        [1],
        "nothing is changed before it is confirmed"
    );
    browser.click("#confirm").await;
    browser.shows(".note-box", "the tier was changed").await;
    browser.shows(".limit .used", "9 of 100").await;

    change_amounts(&browser).await;
    assert_eq!(client.remaining(&["user=ann"]).await, [50]);

    let lines = fs::read_to_string(&log).unwrap();
    for action in ["put", "patch quota", "give bonus", "take bonus", "reset quota"] {
        assert!(lines.contains(&format!("\"{action}\"")), "{action}: {lines}");
    }
    assert!(lines.contains("\"admin\""), "{lines}");
    assert_eq!(browser.errors().await, Vec::<String>::new());
}

/// Changes what the caller has, and gives back what it has used.
async fn change_amounts(browser: &Browser) {
    browser.enter("#override-amount", "50").await;
    browser.click("#form-override button").await;
    browser.shows("#effect", "daily has an amount of 50").await;
    browser.click("#confirm").await;
    browser.shows(".limit .used", "9 of 50").await;
    browser.enter("#bonus-amount", "7").await;
    browser.click("#form-bonus button").await;
    browser.shows("#effect", "7 more hits on daily").await;
    browser.click("#confirm").await;
    browser.shows(".limit .used", "9 of 57").await;
    browser.click("#form-remove-bonus button").await;
    browser.click("#confirm").await;
    browser.shows(".limit .used", "9 of 50").await;
    browser.click("#form-reset button").await;
    browser.shows("#effect", "daily: 9 used hits are given back").await;
    browser.click("#confirm").await;
    browser.shows(".limit .used", "0 of 50").await;
}
