//! A new master, and a new password, are used without a restart.

use std::fs;
use std::process::Command;

use tempfile::TempDir;

use crate::support::ask::DomainClient;
use crate::support::ports::free_port;
use crate::support::process::Process;
use crate::support::redis::{Server, query, until};
use crate::support::store::Store;
use crate::support::tollgate::Tollgate;
use crate::support::{eventually, find_program};

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
    // Sentinels name servers by their ports, so those have to be known before.
    let (first, second, third) = (free_port(), free_port(), free_port());
    let Some(mut master) = Server::start(&["--port", &first.to_string()]) else { return };
    let replica_of = format!("127.0.0.1 {first}");
    let replica = ["--port", &second.to_string(), "--replicaof", &replica_of];
    let Some(replica) = Server::start(&replica) else { return };
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("sentinel.conf");
    let lines = [
        format!("port {third}"),
        format!("dir {}", folder.path().display()),
        format!("sentinel monitor mymaster 127.0.0.1 {first} 1"),
        "sentinel down-after-milliseconds mymaster 300".to_owned(),
        "sentinel failover-timeout mymaster 3000".to_owned(),
    ];
    fs::write(&file, lines.join("\n")).unwrap();
    let mut behind = replica.raw().await;
    let linked = || query::<String>(&mut behind, "INFO replication").contains("link_status:up");
    until("the replica follows", linked).await;
    // It looks for replicas every ten seconds, and first at its start.
    let program = find_program("redis-server", "REDIS_SERVER", None).unwrap();
    let _sentinel = Process::start("sentinel", Command::new(program).arg(&file).arg("--sentinel"));
    let sentinel = format!("redis://127.0.0.1:{third}");
    let flags = [
        "--redis-url",
        "redis://mymaster",
        "--redis-sentinels",
        &sentinel,
        "--store-deadline",
        "1s",
    ];
    let tollgate = Tollgate::serve_with(POLICY, &Store::Embedded, &flags).await;
    let mut client = DomainClient::new(&tollgate, "d").await;
    assert_eq!(remaining_when_decided(&mut client).await, 99);
    assert!(client.ask(ALICE, 39).await.passed);
    master.replicated().await;

    master.kill();
    assert_eq!(remaining_when_decided(&mut client).await, 59);
    let role: String = query(&mut replica.raw().await, "INFO replication");
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
