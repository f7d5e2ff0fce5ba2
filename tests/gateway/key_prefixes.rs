//! Fleets that share a Redis by different prefixes of its keys, and know nothing of each other.

use std::fs;

use axum::http::Request;
use bytes::Bytes;
use http_body_util::Full;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::ask::DomainClient;
use crate::support::client::Http;
use crate::support::cluster::Cluster;
use crate::support::eventually;
use crate::support::redis::{Server, query};
use crate::support::store::Store;
use crate::support::tollgate::Tollgate;
use crate::support::usage::counted;

const POLICY: &str = "
domain: d
tiers: [free, paid]
caller: { key: user, tier: { key: tier, default: free } }
idempotency: { key: retry }
defaults: { thresholds: [50%] }
api_keys: { from: [{ header: x-api-key }], headers: { caller: x-caller }, other_routes: allow }
descriptors:
  - { key: user, limits: [{ name: daily, rate: 3/day }] }
";

const ALERTS: &str = "
channels: { log: { type: log } }
alerts: { spent: { when: threshold, notify: [log] } }
";

/// A sidecar of a fleet that uses everything of Redis.
struct Fleet {
    tollgate: Tollgate,
    _folder: TempDir,
}

impl Fleet {
    async fn start(store: &Store, flags: &[&str]) -> Self {
        let folder = TempDir::new().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::write(&path, text).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let (pepper, alerts) = (write("pepper", &"p".repeat(32)), write("alerts.yaml", ALERTS));
        let own = ["--api-key-pepper-file", &pepper, "--alerts", &alerts];
        let own =
            [&own[..], &["--audit-log", "redis", "--audit-refusals=1", "--usage=true"]].concat();
        let own = [&own[..], flags].concat();
        let tollgate = Tollgate::serve_with(POLICY, store, &own).await;
        Self { tollgate, _folder: folder }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.tollgate.http_address)
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        let answer = Http::new().get(&self.url(path), &[]).await;
        (answer.status, answer.json())
    }

    async fn client(&self) -> DomainClient {
        DomainClient::new(&self.tollgate, "d").await
    }

    /// Uses every kind of key: callers, API keys, counters with marks, alerts, usage, the audit log.
    async fn use_all(&self) {
        let put = Http::new().put(&self.url("/v1/callers/ann"), r#"{"tier": "paid"}"#).await;
        assert!(put.status < 300, "{}", put.text());
        let form = json!({ "caller": "ann", "name": "key" }).to_string();
        let json = [("content-type", "application/json")];
        let made = Http::new().post(&self.url("/v1/api-keys"), &json, &form).await;
        assert_eq!(made.status, 201, "{}", made.text());
        let mut client = self.client().await;
        assert_eq!(client.ask(&["user=ann", "retry=1"], 2).await.remaining[0], 1);
        assert_eq!(client.ask(&["user=ann", "retry=1"], 2).await.remaining[0], 1, "a retry");
        assert!(!client.ask(&["user=ann"], 2).await.passed);
        counted(&self.tollgate, 3).await;
        eventually("an alert", async || {
            let (_, alerts) = self.get("/v1/alerts").await;
            alerts.to_string().contains("spent").then_some(())
        })
        .await;
    }
}

/// The keys in a server.
async fn keys(server: &Server) -> Vec<String> {
    query(&mut server.raw().await, "KEYS *")
}

#[tokio::test]
async fn fleets_with_different_prefixes_share_a_redis_and_nothing_in_it() {
    let Some(server) = Server::start(&[]) else { return };
    let store = Store::Redis(server);
    let Store::Redis(server) = &store else { unreachable!("it was made so") };
    let one = Fleet::start(&store, &["--redis-key-prefix=one:"]).await;
    one.use_all().await;
    let found = keys(server).await;
    assert!(5 < found.len() && found.iter().all(|key| key.starts_with("one:")), "{found:#?}");
    for kind in ["tg1|", "tg1i{one:tg1|", "tg1!", "tgc1", "tgu1", "tgn1", "tgw1"] {
        assert!(found.iter().any(|key| key.contains(kind)), "no {kind} in {found:#?}");
    }
    // Another fleet, and one without a prefix, begin at zero and do the same.
    let two = Fleet::start(&store, &["--redis-key-prefix=two:"]).await;
    let bare = Fleet::start(&store, &[]).await;
    for fleet in [&two, &bare] {
        assert_eq!(fleet.get("/v1/callers/ann").await.0, 404);
        assert_eq!(fleet.get("/v1/api-keys").await.1["items"], json!([]));
        fleet.use_all().await;
    }
    // What one erases and changes is there for the others.
    let delete = Request::delete(one.url("/v1/callers/ann"));
    let erased = Http::new().send(delete.body(Full::<Bytes>::default()).unwrap()).await;
    assert!(erased.status < 300, "{}", erased.text());
    assert_eq!(one.get("/v1/callers/ann").await.0, 404);
    for fleet in [&two, &bare] {
        assert_eq!(fleet.get("/v1/callers/ann").await.0, 200);
        assert_eq!(fleet.client().await.remaining(&["user=ann"]).await, [1]);
    }
    let metrics = Http::new().get(&two.url("/metrics"), &[]).await.text();
    assert!(metrics.contains("\ntollgate_sidecars 1\n"), "{metrics}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_prefix_moves_keys_of_a_cluster_to_other_slots_and_marks_with_them() {
    let Some(cluster) = Cluster::start(3, false).await else { return };
    let mut flags = cluster.flags();
    flags.extend(["--redis-key-prefix=stg/".to_owned(), "--store-deadline=10s".to_owned()]);
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let fleet = Fleet::start(&Store::Embedded, &flags).await;
    let mut client = fleet.client().await;
    for user in 0..20 {
        let (user, id) = (format!("user=u{user}"), format!("retry={user}"));
        let first = eventually("all masters are found", async || {
            client.try_ask(&[&user, &id], 1).await.ok()
        })
        .await;
        assert_eq!(first.remaining[0], 2, "{user}");
        assert_eq!(client.ask(&[&user, &id], 1).await.remaining[0], 2, "{user}: a retry");
    }
    for node in &cluster.nodes {
        let found = keys(node).await;
        assert!(!found.is_empty() && found.iter().all(|key| key.starts_with("stg/")), "{found:#?}");
    }
}
