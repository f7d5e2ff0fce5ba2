//! The overview: its numbers are those of the traffic, and follow it.

use serde_json::json;

use super::{POLICY, Site, check_look};
use crate::support::ask::DomainClient;
use crate::support::gateway::{Gateway, tcp};
use crate::support::store::Store;

#[tokio::test(flavor = "multi_thread")]
async fn the_overview_follows_the_traffic_through_envoy() {
    for store in Store::every() {
        let site = Site::start(POLICY, &store, &[]).await;
        let sidecars = [tcp(site.tollgate.grpc_address)];
        let Some(gateway) = Gateway::start(&sidecars).await else { return };
        let Some(browser) = site.browser("viewer").await else { return };
        browser.shows("#live-state", "live").await;
        browser.shows("#decisions", "0").await;
        let mut refused = 0;
        for _ in 0..12 {
            let answer = gateway.caller.get("/", &[("x-user", "ann")]).await;
            refused += u64::from(answer.status == 429);
        }
        assert_eq!(refused, 2);
        // Without loading the page again.
        browser.shows("#decisions", "12").await;
        browser.shows("#tile-refused", "2 since the start").await;
        browser.shows("#refused", "16.7 %").await;
        browser.shows("#rate", ".").await;
        browser.shows("#p99", "s").await;
        browser.shows("#store", "available").await;
        browser.shows("#sidecars", "1").await;
        browser.shows("#denials tbody", "over_limit").await;
        browser.shows("#denials td.number", "2").await;
        browser.shows("section[aria-labelledby=near-title] tbody", "ann").await;
        browser.shows("section[aria-labelledby=near-title] td.number", "100 %").await;
        let near =
            browser.value("document.querySelector('.gauge [role=meter]').ariaValueNow").await;
        assert_eq!(near, json!("0.0"));
        // Every number leads to what it is made of.
        let links = browser.value("[...document.querySelectorAll('.tile, .gauge, td a')].every((a) => a.href.startsWith(location.origin))").await;
        assert_eq!(links, json!(true));
        assert_eq!(browser.errors().await, Vec::<String>::new());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_overview_is_accessible_in_any_light_and_width() {
    let site = Site::start(POLICY, &Store::Embedded, &[]).await;
    let mut client = DomainClient::new(&site.tollgate, "gate").await;
    for _ in 0..12 {
        client.ask(&["user=ann"], 1).await;
    }
    client.ask(&["provider=near"], 12).await;
    let Some(browser) = site.browser("viewer").await else { return };
    browser.shows("section[aria-labelledby=near-title] tbody", "ann").await;
    check_look(&browser).await;
}
