//! Providers: their capacity, live.

use super::{POLICY, Site, check_look};
use crate::support::ask::DomainClient;
use crate::support::eventually;
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
