//! Signals that other tests do not make fire: each fires and is told, on a running process, and resolves where that can be made.

use std::fs;

use envoy_types::pb::ratelimit::config::ratelimit::v3::RateLimitUnit;
use futures_util::future::join_all;
use serde_json::Value;
use tempfile::TempDir;

use super::{AlertFile, POLICY, ask, received};
use crate::support::ads::{Ads, domain, limit};
use crate::support::ask::DomainClient;
use crate::support::eventually;
use crate::support::receiver::Receiver;
use crate::support::redis::{Server, query};
use crate::support::store::Store;
use crate::support::tls::Authority;
use crate::support::tollgate::Tollgate;

/// A file with rules whose notifications the receiver gets.
fn file(receiver: &Receiver, rules: &str) -> AlertFile {
    AlertFile::new(&format!(
        "channels:\n  hook: {{ type: webhook, url: '{}', allow_private_addresses: true }}\nalerts:\n{rules}",
        receiver.url()
    ))
}

/// Waits until a rule has told this status, and returns what was told.
async fn told(receiver: &Receiver, rule: &str, status: &str) -> Value {
    eventually(&format!("{rule} is {status}"), async || {
        let mut all = receiver.received().into_iter().map(|one| one.json()["data"].clone());
        all.find(|data| data["rule"] == rule && data["status"] == status)
    })
    .await
}

#[tokio::test]
async fn the_capacity_of_a_provider() {
    let policy = "
domain: gate
tiers: [free, paid]
caller: { key: user, tier: { key: tier } }
descriptors:
- key: provider
  value: near
  limits: [{ name: search, rate: 20/day }]
  capacity: { reserve: { paid: 10% } }
";
    let receiver = Receiver::start(&[]).await;
    let file = file(
        &receiver,
        "  near: { when: capacity, above: 40%, provider: near }\n  far: { when: capacity, above: 1%, provider: far }",
    );
    for store in Store::every() {
        let flags = ["--alerts", file.path.to_str().unwrap()];
        let tollgate = Tollgate::serve_with(policy, &store, &flags).await;
        let mut client = DomainClient::new(&tollgate, "gate").await;
        client.ask(&["provider=near"], 9).await;
        let alert = told(&receiver, "near", "firing").await;
        assert_eq!(alert["title"], "45% of search of near is used");
        assert_eq!(
            (&alert["value"], &alert["labels"]["provider"]),
            (&"45%".into(), &"near".into())
        );
    }
}

#[tokio::test]
async fn the_expiry_of_a_certificate() {
    let receiver = Receiver::start(&[]).await;
    let file = file(
        &receiver,
        "  late: { when: certificate, below: 30d }\n  soon: { when: certificate, below: 10d }",
    );
    let (folder, authority) = (TempDir::new().unwrap(), Authority::new());
    authority.sign_for_days(20).write(folder.path());
    let [cert, key] =
        ["tls.crt", "tls.key"].map(|name| folder.path().join(name).display().to_string());
    let flags = [
        "--alerts",
        file.path.to_str().unwrap(),
        "--grpc-tls-cert-file",
        &cert,
        "--grpc-tls-key-file",
        &key,
    ];
    let _tollgate = Tollgate::serve_with(POLICY, &Store::Embedded, &flags).await;
    let alert = told(&receiver, "late", "firing").await;
    assert_eq!(alert["labels"]["port"], "grpc");
    let title = alert["title"].as_str().unwrap();
    assert!(title.starts_with("the certificate of the grpc port expires in "), "{title}");
    assert_eq!(receiver.received().len(), 1);
}

#[tokio::test]
async fn files_that_are_invalid() {
    let receiver = Receiver::start(&[]).await;
    let tollgate = file(&receiver, "  bad: { when: config_invalid }");
    let tollgate = tollgate.serve(&Store::Embedded).await;
    tollgate.edit("domain: [");
    let alert = told(&receiver, "bad", "firing").await;
    assert_eq!(alert["title"], "the files of policies are invalid");
    tollgate.edit(POLICY);
    told(&receiver, "bad", "resolved").await;
}

#[tokio::test]
async fn slow_decisions() {
    let Some(server) = Server::start(&[]) else { return };
    let receiver = Receiver::start(&[]).await;
    let file = file(&receiver, "  slow: { when: latency, above: 20ms, over: 5s }");
    let mut raw = server.raw().await;
    let store = Store::Redis(server);
    let tollgate = file.serve(&store).await;
    // A request that comes while Redis pauses has to wait.
    let alert = eventually("a slow request", async || {
        let _: String = query(&mut raw, "CLIENT PAUSE 200 ALL");
        ask(&tollgate, "ann", 1).await;
        let all = receiver.received();
        all.iter().map(|one| one.json()["data"].clone()).find(|data| data["rule"] == "slow")
    })
    .await;
    assert!(
        alert["title"].as_str().unwrap().starts_with("99 % of the decisions take up to "),
        "{alert}"
    );
    told(&receiver, "slow", "resolved").await;
}

#[tokio::test]
async fn requests_that_wait_and_how_long() {
    let policy = "
domain: gate
descriptors: [{ key: user, limits: [{ name: slow, rate: 1/second, wait: { up_to: 10s } }] }]
";
    let receiver = Receiver::start(&[]).await;
    let file = file(
        &receiver,
        "  long: { when: queue_delay, above: 500ms, over: 10s }\n  many: { when: queue, above: 1 }",
    );
    let flags = ["--alerts", file.path.to_str().unwrap()];
    let tollgate = Tollgate::serve_with(policy, &Store::Embedded, &flags).await;
    join_all((0..6).map(|_| ask(&tollgate, "ann", 1))).await;
    let many = told(&receiver, "many", "firing").await;
    assert!(many["title"].as_str().unwrap().ends_with(" requests wait for capacity"), "{many}");
    told(&receiver, "long", "firing").await;
    told(&receiver, "many", "resolved").await;
    told(&receiver, "long", "resolved").await;
}

#[tokio::test]
async fn an_xds_server_that_is_gone() {
    let mut ads = Ads::start().await;
    ads.send("1", &[domain("gate", vec![limit("user", "", 9, RateLimitUnit::Day)])]);
    let receiver = Receiver::start(&[]).await;
    let file = file(&receiver, "  xds: { when: xds_silent, above: 1s, severity: error }");
    let address = ads.address.to_string();
    let flags = ["--policy-source", "xds", "--xds-server", &address, "--xds-retry-max", "200ms"];
    let flags = [&flags[..], &["--xds-retry-min", "50ms", "--alerts", file.path.to_str().unwrap()]]
        .concat();
    let _tollgate = Tollgate::serve_with("ignored: true", &Store::Embedded, &flags).await;
    ads.accepted("1").await;
    assert_eq!(receiver.received().len(), 0);
    ads.kill();
    let alert = told(&receiver, "xds", "firing").await;
    let title = alert["title"].as_str().unwrap();
    assert!(title.starts_with("no connection to the xDS server for "), "{title}");
    assert_eq!(received(&receiver, 1).await.len(), 1);
    // Without an xDS server, the rule says nothing.
    let embedded = file.serve(&Store::Embedded).await;
    fs::write(
        &file.path,
        fs::read_to_string(&file.path).unwrap() + "\n  idle: { when: queue, below: 1 }",
    )
    .unwrap();
    told(&receiver, "idle", "firing").await;
    assert!(!embedded.output().contains("no connection to the xDS server for"));
}
