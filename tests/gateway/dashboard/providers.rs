//! Providers: their capacity, live.

use super::{POLICY, Site, check_look};
use crate::support::ask::DomainClient;
use crate::support::store::Store;

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
    browser.shows("#far .queue", "urgent 0, high 0, medium 0, low 0").await;
    check_look(&browser).await;
}
