//! The page of a caller for itself.

use serde_json::json;

use super::{POLICY, Site, check_look};
use crate::support::ask::DomainClient;
use crate::support::browser::Browser;
use crate::support::client::Http;
use crate::support::store::Store;

const UPGRADE: &str = "https://portal.example.com/upgrade";

fn policy() -> String {
    format!("{POLICY}answer: {{ body: problem, upgrade_url: \"{UPGRADE}\" }}\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_sees_its_limits_and_what_more_would_be() {
    for store in Store::every() {
        let site = Site::start(&policy(), &store, &[]).await;
        let mut client = DomainClient::new(&site.tollgate, "gate").await;
        for _ in 0..7 {
            client.ask(&["user=ann"], 1).await;
        }
        let Some(browser) = site.browser("self").await else { return };
        browser.shows("h1", "Your limits").await;
        browser.shows(".limit .used", "7 of 10").await;
        browser.shows("#recommendation", "Your tier fits what you use").await;
        assert_eq!(browser.text(".note-box").await, "");
        client.ask(&["user=ann"], 1).await;
        browser.open(&site.url("/me")).await;
        browser.shows(".note-box.warning", "You have used much of daily: 8 of 10").await;
        for _ in 0..3 {
            client.ask(&["user=ann"], 1).await;
        }
        browser.open(&site.url("/me")).await;
        browser.shows(".note-box.critical", "nearly all of daily: 10 of 10").await;
        browser.shows("#recommendation", "The tier premium has 100/day").await;
        browser.shows("#tiers thead", "free now").await;
        let links =
            browser.value("[...document.querySelectorAll('main a')].map((a) => a.href)").await;
        assert_eq!(links, json!([UPGRADE, UPGRADE]));
        check_look(&browser).await;
        let refused = client.ask(&["user=ann"], 1).await;
        assert_eq!(refused.problem["upgrade_url"], UPGRADE);
        // It has no page of another caller.
        browser.open(&site.url("/me?caller=bob")).await;
        browser.shows("main", "ann").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signed_link_shows_one_caller_without_a_session_and_in_a_frame_of_the_portal() {
    let portal = ["--dashboard-frame-ancestors", "https://portal.example.com"];
    let site = Site::start(&policy(), &Store::Embedded, &portal).await;
    let mut client = DomainClient::new(&site.tollgate, "gate").await;
    client.ask(&["user=bob"], 3).await;
    let http = Http::new();
    let url = site.url("/v1/callers/bob/link");
    let bearer = |role: &str| format!("Bearer {}", site.token(role));
    for role in ["self", "viewer"] {
        assert_eq!(http.post(&url, &[("authorization", &bearer(role))], "").await.status, 403);
    }
    let made = http.post(&url, &[("authorization", &bearer("operator"))], "").await;
    assert_eq!(made.status, 200);
    let path = made.json()["path"].as_str().unwrap().to_owned();
    let answer = http.get(&site.url(&path), &[]).await;
    assert_eq!(answer.status, 200);
    assert!(answer.text().contains("3 of 10"), "{}", answer.text());
    let policy = answer.headers["content-security-policy"].to_str().unwrap();
    assert!(policy.ends_with("frame-ancestors https://portal.example.com"), "{policy}");
    assert!(!answer.headers.contains_key("x-frame-options"));
    let other = path.replace("caller=bob", "caller=ann");
    assert_eq!(http.get(&site.url(&other), &[]).await.status, 403);
    assert_eq!(http.get(&site.url("/me?caller=bob"), &[]).await.status, 303);

    let Some(browser) = site.browser("operator").await else { return };
    browser.open(&site.url("/dashboard/caller?name=bob")).await;
    browser.click("#form-link button").await;
    browser.shows("#own-link", "/me?caller=bob&expires=").await;
    let link = browser.text("#own-link").await;
    let Some(guest) = Browser::start().await else { return };
    guest.open(&site.url(&link)).await;
    guest.shows(".limit .used", "3 of 10").await;
}
