//! A new master, and a new password, are used without a restart.

use std::fs;

use tempfile::TempDir;

use super::sentinel::Watched;
use crate::support::ask::DomainClient;
use crate::support::eventually;
use crate::support::redis::{Server, query};
use crate::support::store::Store;
use crate::support::tollgate::Tollgate;

const POLICY: &str = "
domain: d
answer: { metadata: always }
descriptors:
- { key: user, limits: [{ rate: 100/hour, on_outage: deny }] }";

const ALICE: &[&str] = &["user=alice"];

/// Sends requests until Redis decides, and returns the remaining hits.
async fn remaining_when_decided(client: &mut DomainClient) -> u32 {
    eventually("a decision of Redis", async || {
        let reported = client.ask(ALICE, 1).await;
        reported.metadata["fallback"].is_null().then(|| reported.remaining[0])
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failover_by_sentinel_is_followed() {
    let Some(mut watched) = Watched::start().await else { return };
    let flags = watched.flags();
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let tollgate = Tollgate::serve_with(POLICY, &Store::Embedded, &flags).await;
    let mut client = DomainClient::new(&tollgate, "d").await;
    assert_eq!(remaining_when_decided(&mut client).await, 99);
    assert!(client.ask(ALICE, 39).await.passed);
    watched.master.replicated().await;

    watched.master.kill();
    assert_eq!(remaining_when_decided(&mut client).await, 59);
    let role: String = query(&mut watched.replica.raw().await, "INFO replication");
    assert!(role.contains("role:master"), "{role}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_password_is_read_from_its_file() {
    let Some(server) = Server::start(&[]) else { return };
    let mut raw = server.raw().await;
    query::<()>(&mut raw, "CONFIG SET requirepass first");
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("password");
    fs::write(&file, "first\n").unwrap();
    let (url, path) = (server.url(), file.display().to_string());
    let flags = ["--redis-url", &url, "--redis-password-file", &path, "--store-deadline", "1s"];
    let tollgate = Tollgate::serve_with(POLICY, &Store::Embedded, &flags).await;
    let mut client = DomainClient::new(&tollgate, "d").await;
    assert_eq!(remaining_when_decided(&mut client).await, 99);

    query::<()>(&mut raw, "CONFIG SET requirepass second");
    query::<()>(&mut raw, "CLIENT KILL TYPE normal");
    let wrong = "Password authentication failed";
    eventually(wrong, async || tollgate.output().contains(wrong).then_some(())).await;
    assert_eq!(client.ask(ALICE, 1).await.metadata["fallback"], true);
    fs::write(&file, "second\n").unwrap();
    assert_eq!(remaining_when_decided(&mut client).await, 98);
    let output = tollgate.output();
    assert!(!output.contains("second") && !output.contains("first"), "{output}");
}
