//! Changes in a directory apply to requests at every sidecar, at once.

use axum::http::Request;
use bytes::Bytes;
use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_response::Code;
use http_body_util::Full;
use tempfile::TempDir;

use crate::support::client::{Grpc, Http, request};
use crate::support::eventually;
use crate::support::redis::Server;
use crate::support::store::Store;
use crate::support::tollgate::Tollgate;

const POLICY: &str = "
domain: d
caller: { key: user, tier: { default: free } }
tiers: [free, premium]
descriptors:
- key: user
  limits: [{ name: daily, by_tier: { free: 2/day, premium: 5/day } }]
";

/// A Tollgate and a client of it.
struct Sidecar {
    tollgate: Tollgate,
    grpc: Grpc,
}

impl Sidecar {
    async fn start(store: &Store, flags: &[&str]) -> Self {
        let tollgate = Tollgate::serve_with(POLICY, store, flags).await;
        let grpc = tollgate.client().await;
        Self { tollgate, grpc }
    }

    /// Whether a request of the user passes, and how many more would.
    async fn ask(&mut self, user: &str) -> (Code, u32) {
        let asked = self.grpc.should_rate_limit(request("d", &[&[("user", user)]])).await;
        let answer = asked.unwrap().into_inner();
        (answer.overall_code(), answer.statuses[0].limit_remaining)
    }

    async fn wait_for(&mut self, user: &str, expected: (Code, u32)) {
        eventually(&format!("{user}: {expected:?}"), async || {
            (self.ask(user).await == expected).then_some(())
        })
        .await;
    }

    async fn put(&self, user: &str, caller: &'static str) {
        let uri = format!("http://{}/v1/callers/{user}", self.tollgate.http_address);
        let request = Request::put(uri).body(Full::new(Bytes::from(caller))).unwrap();
        let status = Http::new().send(request).await.status;
        assert!(status == 200 || status == 201, "{status}");
    }

    async fn metric(&self, name: &str) -> usize {
        let url = format!("http://{}/metrics", self.tollgate.http_address);
        let body = Http::new().get(&url, &[]).await.body;
        let text = str::from_utf8(&body).unwrap();
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("no {name} in\n{text}")).parse().unwrap()
    }
}

#[tokio::test]
async fn an_upgrade_holds_at_once_in_every_sidecar_and_keeps_the_counts() {
    let Some(server) = Server::start(&[]) else { return };
    let store = Store::Redis(server);
    let (mut one, mut other) =
        (Sidecar::start(&store, &[]).await, Sidecar::start(&store, &[]).await);
    one.put("alice", r#"{"tier":"free"}"#).await;
    assert_eq!(one.ask("alice").await, (Code::Ok, 1));
    assert_eq!(other.ask("alice").await, (Code::Ok, 0));
    assert_eq!(other.ask("alice").await, (Code::OverLimit, 0));
    one.put("alice", r#"{"tier":"premium"}"#).await;
    assert_eq!(one.ask("alice").await, (Code::Ok, 2), "five, of which three are spent");
    // A refusal costs nothing, so repeating the request until it passes spends one.
    other.wait_for("alice", (Code::Ok, 1)).await;
    one.put("alice", r#"{"disabled":true}"#).await;
    assert_eq!(one.ask("alice").await.0, Code::OverLimit);
}

#[tokio::test]
async fn a_flood_of_callers_stays_within_the_cache() {
    let Some(server) = Server::start(&[]) else { return };
    let store = Store::Redis(server);
    let mut sidecar = Sidecar::start(&store, &["--callers-cache", "20"]).await;
    for index in 0..100 {
        let asked = sidecar.ask(&format!("user {index}")).await;
        assert_eq!(asked, (Code::Ok, 1), "{index}");
    }
    eventually("the metrics", async || {
        let is_reported = sidecar.metric("tollgate_caller_fetches_total").await == 100;
        (is_reported && sidecar.metric("tollgate_callers").await <= 20).then_some(())
    })
    .await;
}

#[tokio::test]
async fn callers_of_files_hold_from_the_next_request_on() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("callers.yaml");
    let write = |text: &str| {
        let draft = folder.path().join("draft");
        std::fs::write(&draft, text).unwrap();
        std::fs::rename(draft, &file).unwrap();
    };
    write("callers: { acme: { tier: premium }, alice: { parent: acme } }");
    let flags = ["--callers", file.to_str().unwrap()];
    let mut sidecar = Sidecar::start(&Store::Embedded, &flags).await;
    assert_eq!(sidecar.ask("alice").await, (Code::Ok, 4), "the parent's tier");
    assert_eq!(sidecar.ask("bob").await, (Code::Ok, 1));
    assert_eq!(sidecar.ask("bob").await, (Code::Ok, 0));
    write("callers: { bob: { tier: premium } }");
    sidecar.wait_for("bob", (Code::Ok, 2)).await;
}
