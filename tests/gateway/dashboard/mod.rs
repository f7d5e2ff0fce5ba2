//! The dashboard in a real Chromium, with traffic through a real Envoy.

mod access;
mod alerts;
mod api_keys;
mod callers;
mod client;
mod overview;
mod own;
mod pages;
mod providers;

use crate::support::browser::Browser;
use crate::support::eventually;
use crate::support::store::Store;
use crate::support::tollgate::{Tollgate, api_token};

/// A policy with callers, tiers and providers.
const POLICY: &str = "
domain: gate
tiers: [free, premium]
caller: { key: user, tier: { key: tier, default: free } }
choices: [{ key: provider, value: any, among: { near: { latency: 80ms }, far: {} } }]
descriptors:
- { key: user, limits: [{ name: daily, by_tier: { free: 10/day, premium: 100/day } }] }
- key: user
  value: nobody
  limits: [1/day]
- key: provider
  value: near
  limits: [{ name: near, rate: 20/hour }]
  capacity: { pressure: [{ above: 50%, scale: { free: 0.5 } }] }
- { key: provider, value: far, limits: [{ name: far, rate: 5/hour, wait: { up_to: 5s } }] }
";

/// A Tollgate with usage and a token of each role, by role.
struct Site {
    tollgate: Tollgate,
    tokens: Vec<(&'static str, String)>,
}

impl Site {
    async fn start(policy: &str, store: &Store, flags: &[&str]) -> Self {
        let roles =
            [("viewer", "viewer"), ("operator", "operator"), ("admin", "admin"), ("ann", "self")];
        let made = roles.map(|(name, role)| (role, api_token(name, role)));
        let lines: Vec<String> = made.iter().map(|(_, (_, line))| line.clone()).collect();
        let lines = lines.join(",");
        let mut all = vec!["--usage=true", "--api-tokens", &lines];
        all.extend(flags);
        let tollgate = Tollgate::serve_with(policy, store, &all).await;
        Self { tollgate, tokens: made.map(|(role, (token, _))| (role, token)).into() }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.tollgate.http_address)
    }

    fn token(&self, role: &str) -> &str {
        &self.tokens.iter().find(|(own, _)| *own == role).unwrap().1
    }

    /// A browser with a session of that role, on the page that the login leads to.
    async fn browser(&self, role: &str) -> Option<Browser> {
        let browser = Browser::start().await?;
        browser.open(&self.url("/dashboard")).await;
        self.log_in(&browser, role).await;
        Some(browser)
    }

    async fn log_in(&self, browser: &Browser, role: &str) {
        browser.enter("#token", self.token(role)).await;
        browser.click("button").await;
        // A page that is opened before the answer is there would cancel the login.
        let is_out = "document.querySelector('#token') === null";
        eventually("the answer", async || (browser.value(is_out).await == true).then_some(()))
            .await;
    }
}

/// Checks that a page is accessible, and not wider than its window, in light and dark, on a desktop and a phone.
async fn check_look(browser: &Browser) {
    for size in [(1280, 900), (390, 844)] {
        for scheme in ["light", "dark"] {
            browser.look(size, scheme).await;
            let problems = browser.accessibility_problems().await.unwrap_or_default();
            assert_eq!(problems, Vec::<String>::new(), "{size:?} {scheme}");
            let width = browser.value("document.documentElement.scrollWidth").await;
            assert_eq!(width, size.0, "{scheme}");
        }
    }
    assert_eq!(browser.errors().await, Vec::<String>::new());
}
