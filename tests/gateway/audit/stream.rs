//! The audit log in a Redis stream: one chain of all sidecars, on one server and on a cluster.

use std::fs;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{output, verify};
use crate::support::client::{Http, request};
use crate::support::cluster::Cluster;
use crate::support::eventually;
use crate::support::redis::Server;
use crate::support::store::Store;
use crate::support::tollgate::{Tollgate, command};

const POLICY: &str = "
domain: shop
caller: { key: user }
descriptors:
  - { key: user, limits: [{ name: daily, rate: 1/day, on_outage: local }] }
";

const FLAGS: [&str; 4] = ["--audit-log", "redis", "--audit-refusals", "1"];

/// The lines of the stream, in its order, on one of the servers.
async fn lines(servers: &[&Server]) -> Vec<String> {
    for server in servers {
        let mut command = redis::cmd("XRANGE");
        command.arg("tgw1{tgw1}-audit").arg("-").arg("+");
        let read: redis::RedisResult<Vec<(String, (String, String))>> =
            command.query(&mut server.raw().await);
        // Other nodes of a cluster answer that it has moved.
        if let Ok(entries) = read {
            return entries.into_iter().map(|(_, (_, line))| line).collect();
        }
    }
    Vec::new()
}

/// Verifies lines in the order of the stream.
fn verified(lines: &[String]) -> (Option<i32>, String) {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("stream.jsonl");
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    fs::write(&file, text).unwrap();
    verify(&[&file], &[])
}

/// Asks for so many hits of a caller.
async fn ask(tollgate: &Tollgate, caller: &str, times: usize) {
    let mut client = tollgate.client().await;
    for _ in 0..times {
        client.should_rate_limit(request("shop", &[&[("user", caller)]])).await.unwrap();
    }
}

async fn reset(tollgate: &Tollgate, caller: &str) -> u16 {
    let url = format!("http://{}/v1/callers/{caller}/quota/reset", tollgate.http_address);
    Http::new().post(&url, &[], "{}").await.status
}

async fn metric(tollgate: &Tollgate, name: &str) -> u64 {
    let url = format!("http://{}/metrics", tollgate.http_address);
    let text = String::from_utf8(Http::new().get(&url, &[]).await.body.to_vec()).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
    line.unwrap().parse().unwrap()
}

/// Two sidecars write at the same time, and one of them erases a caller.
async fn check(servers: &[&Server], flags: &[&str]) {
    let flags = [&FLAGS[..], flags].concat();
    let serve = || Tollgate::serve_with(POLICY, &Store::Embedded, &flags);
    let (one, other) = (serve().await, serve().await);
    tokio::join!(ask(&one, "alice", 40), ask(&other, "bob", 40));
    assert_eq!(tokio::join!(reset(&one, "cyd"), reset(&other, "dan")), (200, 200));
    // One hit of each passed, and each start has a line.
    let all = eventually("the lines", async || {
        Some(lines(servers).await).filter(|lines| lines.len() == 82)
    })
    .await;
    let (status, text) = verified(&all);
    assert!(status == Some(0) && text.starts_with("82 lines from 1 on are unchanged"), "{text}");
    let (status, text) = verified(&[&all[..20], &all[21..]].concat());
    assert!(status == Some(1), "{text}");

    let url = format!("http://{}", one.http_address);
    let erase = ["callers", "erase", "alice", "--output", "json"];
    let (status, report) = output(command().env("TOLLGATE_API_URL", url).args(erase));
    assert_eq!(status, Some(0), "{report}");
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["audit_lines"], json!(40), "39 refusals, and the line of the erasure");
    let all = lines(servers).await;
    assert!(all.iter().all(|line| !line.contains("alice")) && all.len() == 84);
    let (status, text) = verified(&all);
    assert!(status == Some(0) && text.contains("40 lines without a caller"), "{text}");
    // The oldest lines are removed first, as without an erasure.
    assert_eq!(tokio::join!(reset(&one, "eve"), reset(&other, "fay")), (200, 200));
    let all = lines(servers).await;
    for kept in [83, 60, 30, 4] {
        let (status, text) = verified(&all[all.len() - kept..]);
        assert!(status == Some(0) && text.contains("the end is 86:"), "{kept}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sidecars_share_a_chain_and_an_erased_caller_leaves_it_whole() {
    let Some(server) = Server::start(&[]) else { return };
    check(&[&server], &["--redis-url", &server.url(), "--store-deadline", "10s"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_stream_is_on_one_master_of_a_cluster() {
    let Some(cluster) = Cluster::start(3, false).await else { return };
    let flags = cluster.flags();
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let flags = [&flags[..], &["--store-deadline", "10s"]].concat();
    check(&cluster.nodes.iter().collect::<Vec<_>>(), &flags).await;
}

#[tokio::test]
async fn the_stream_keeps_so_many_lines() {
    let Some(server) = Server::start(&[]) else { return };
    let url = server.url();
    let flags = [&FLAGS[..], &["--redis-url", &url, "--audit-stream-length", "20"]].concat();
    let tollgate = Tollgate::serve_with(POLICY, &Store::Embedded, &flags).await;
    ask(&tollgate, "alice", 1_001).await;
    eventually("the lines", async || {
        (metric(&tollgate, "tollgate_audit_lines_total").await == 1_001).then_some(())
    })
    .await;
    let kept = lines(&[&server]).await;
    assert!((20..=140).contains(&kept.len()), "{}", kept.len());
    let (status, text) = verified(&kept);
    assert!(status == Some(0) && text.contains("the end is 1001:"), "{text}");
}

#[tokio::test]
async fn an_outage_delays_no_request_and_drops_are_counted() {
    let Some(mut server) = Server::start(&[]) else { return };
    let url = server.url();
    let flags = [&FLAGS[..], &["--redis-url", &url, "--store-deadline", "50ms"]].concat();
    let tollgate = Tollgate::serve_with(POLICY, &Store::Embedded, &flags).await;
    ask(&tollgate, "alice", 5).await;
    eventually("the lines", async || (lines(&[&server]).await.len() == 5).then_some(())).await;
    server.kill();
    ask(&tollgate, "alice", 20).await;
    eventually("the drops", async || {
        (0 < metric(&tollgate, "tollgate_audit_dropped_total").await).then_some(())
    })
    .await;
    assert_eq!(reset(&tollgate, "alice").await, 503);
    // The new server has nothing: the chain goes on with a gap.
    server.launch();
    eventually("a change", async || (reset(&tollgate, "alice").await == 200).then_some(())).await;
    let kept = lines(&[&server]).await;
    let (status, text) = verified(&kept);
    assert!(status == Some(0) && text.contains("lines from 6 on are unchanged"), "{text}");
}

#[tokio::test]
async fn a_stream_needs_a_redis() {
    let (status, text) = output(command().args(["serve", "--audit-log", "redis"]));
    assert!(status == Some(1) && text.contains("redis_url is not set"), "{text}");
}
