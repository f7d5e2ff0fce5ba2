//! The file of the audit log: rotation, restarts, and a destination that fails.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;
use tempfile::TempDir;

use super::{Audited, POLICY, verify};
use crate::support::client::{Http, request};
use crate::support::eventually;
use crate::support::store::Store;
use crate::support::tollgate::Tollgate;

impl Audited {
    /// The value of a metric without labels.
    async fn metric(&self, name: &str) -> u64 {
        let metrics = self.get("/metrics", &[]).await;
        let text = String::from_utf8(metrics.body.to_vec()).unwrap();
        let value = text.lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
        value.unwrap().parse().unwrap()
    }
}

#[tokio::test]
async fn a_log_that_can_not_be_written_costs_no_request_and_drops_are_counted() {
    let flags = ["--audit-log", "/dev/full", "--audit-refusals", "1"];
    let tollgate = Tollgate::serve_with(POLICY, &Store::Embedded, &flags).await;
    let mut client = tollgate.client().await;
    for _ in 0..8 {
        client.should_rate_limit(request("shop", &[&[("user", "alice")]])).await.unwrap();
    }
    eventually("the count", async || {
        let url = format!("http://{}/metrics", tollgate.http_address);
        let text = String::from_utf8(Http::new().get(&url, &[]).await.body.to_vec()).unwrap();
        text.contains("tollgate_audit_dropped_total 5\n").then_some(())
    })
    .await;
}

#[tokio::test]
async fn the_chain_goes_on_after_a_restart() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("audit.jsonl");
    for _ in 0..2 {
        let flags = ["--audit-log", path.to_str().unwrap()];
        let mut tollgate = Tollgate::serve_with(POLICY, &Store::Embedded, &flags).await;
        let url = format!("http://{}/v1/callers/alice/quota/consume", tollgate.http_address);
        assert_eq!(Http::new().post(&url, &[], "{}").await.status, 200);
        tollgate.terminate();
        tollgate.exit().await;
    }
    let (status, text) = verify(&[&path], &[]);
    assert!(status == Some(0) && text.starts_with("4 lines from 1 on"), "{text}");
}

/// Limits with long names make long lines.
fn long_policy() -> String {
    let limit = |number: usize| format!("{{ name: {}{number}, rate: 1/day }}", "long".repeat(20));
    let limits: Vec<String> = (0..8).map(limit).collect();
    format!(
        "domain: shop\ncaller: {{ key: user }}\ndescriptors:\n- {{ key: user, limits: [{}] }}\n",
        limits.join(", ")
    )
}

#[tokio::test]
async fn a_rotated_log_is_one_chain_and_a_line_that_is_gone_at_a_seam_shows() {
    let flags = ["--audit-refusals", "1", "--audit-log-size", "1", "--audit-log-files", "2"];
    let audited = Audited::serving(&long_policy(), &Store::Embedded, &flags).await;
    let mut client = audited.tollgate.client().await;
    let numbered = |number: usize| {
        let suffix = if number == 0 { String::new() } else { format!(".{number}") };
        PathBuf::from(format!("{}{suffix}", audited.file().display()))
    };
    let mut asked = 0_u64;
    while !numbered(2).exists() {
        for _ in 0..100 {
            client.should_rate_limit(request("shop", &[&[("user", "ann")]])).await.unwrap();
        }
        asked += 100;
        assert!(asked < 10_000, "the log is never rotated");
    }
    eventually("all lines", async || {
        let written = audited.metric("tollgate_audit_lines_total").await;
        let dropped = audited.metric("tollgate_audit_dropped_total").await;
        // The first request passes, and the start has a line.
        (written + dropped == asked).then_some(())
    })
    .await;
    let files = [0, 1, 2].map(numbered);
    let paths: Vec<&Path> = files.iter().map(PathBuf::as_path).collect();
    let (status, text) = verify(&paths, &[]);
    assert!(status == Some(0) && text.contains("lines from 1 on are unchanged"), "{text}");
    assert!(files.iter().all(|file| fs::metadata(file).unwrap().len() <= 1 << 20));
    let (status, text) = verify(&[paths[2], paths[0]], &[]);
    assert!(status == Some(1) && text.contains("lines between them are missing"), "{text}");

    let whole = fs::read_to_string(paths[1]).unwrap();
    let mut lines: Vec<&str> = whole.split_inclusive('\n').collect();
    lines.pop();
    fs::write(paths[1], lines.concat()).unwrap();
    let (status, text) = verify(&paths, &[]);
    assert!(status == Some(1) && text.contains("lines between them are missing"), "{text}");
}

#[tokio::test]
async fn a_folder_that_is_gone_costs_no_request_and_stops_changes_until_it_is_back() {
    for store in Store::every() {
        let folder = TempDir::new().unwrap();
        let below = folder.path().join("logs");
        fs::create_dir(&below).unwrap();
        let path = below.join("audit.jsonl");
        let flags = ["--audit-log", path.to_str().unwrap(), "--audit-refusals", "1"];
        let tollgate = Tollgate::serve_with(POLICY, &store, &flags).await;
        let audited = Audited { tollgate, folder };
        assert_eq!(audited.post("bob/quota/consume", &json!({})).await, 200);
        fs::remove_dir_all(&below).unwrap();
        let codes = [1, 1, 1, 2, 2, 2, 2, 2];
        for code in codes {
            assert_eq!(audited.ask("alice").await.overall_code, code);
        }
        eventually("the drops", async || {
            (audited.metric("tollgate_audit_dropped_total").await == 5).then_some(())
        })
        .await;
        assert_eq!(audited.post("bob/quota/consume", &json!({})).await, 503);
        assert_eq!(audited.ask("bob").await.overall_code, 1, "one hit of three was consumed");

        fs::create_dir(&below).unwrap();
        assert_eq!(audited.post("bob/quota/reset", &json!({})).await, 200);
        let (status, text) = verify(&[&path], &[]);
        assert!(status == Some(0) && text.starts_with("1 lines from 3 on"), "{text}");
    }
}
