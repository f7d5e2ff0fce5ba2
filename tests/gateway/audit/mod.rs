//! The audit log: changes and refusals as a chain of lines, which `tollgate audit verify` verifies.

mod changes;
mod erasure;
mod explained;
mod files;
mod stream;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use envoy_types::pb::envoy::service::ratelimit::v3::RateLimitResponse;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::client::{Answer, Http, request};
use crate::support::eventually;
use crate::support::store::Store;
use crate::support::tollgate::{Tollgate, command};

const POLICY: &str = "
domain: shop
tiers: [free, paid]
caller: { key: user, tier: { key: tier } }
descriptors:
  - { key: user, limits: [{ name: daily, by_tier: { free: 3/day, paid: 100/day } }] }
";

/// A Tollgate with an audit log in a file.
struct Audited {
    tollgate: Tollgate,
    folder: TempDir,
}

impl Audited {
    async fn start(store: &Store, flags: &[&str]) -> Self {
        Self::serving(POLICY, store, flags).await
    }

    async fn serving(policy: &str, store: &Store, flags: &[&str]) -> Self {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("audit.jsonl");
        let flags = [&["--audit-log", path.to_str().unwrap()], flags].concat();
        Self { tollgate: Tollgate::serve_with(policy, store, &flags).await, folder }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("audit.jsonl")
    }

    /// The lines after that of the start.
    fn lines(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.file()).unwrap();
        let mut lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let first = lines.next().unwrap();
        assert_eq!((&first["what"], &first["who"]), (&json!("load policies"), &json!("files")));
        lines.collect()
    }

    /// Asks for a hit of a caller.
    async fn ask(&self, caller: &str) -> RateLimitResponse {
        let mut client = self.tollgate.client().await;
        client
            .should_rate_limit(request("shop", &[&[("user", caller)]]))
            .await
            .unwrap()
            .into_inner()
    }

    /// The lines, when there are so many.
    async fn lines_of(&self, count: usize) -> Vec<Value> {
        eventually("the lines", async || Some(self.lines()).filter(|lines| lines.len() == count))
            .await
    }

    async fn get(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        Http::new().get(&format!("http://{}{path}", self.tollgate.http_address), headers).await
    }

    /// The exit status and the output of a command that asks its API.
    fn command(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let url = format!("http://{}", self.tollgate.http_address);
        output(command().env("TOLLGATE_API_URL", url).args(arguments))
    }

    async fn post(&self, path: &str, body: &Value) -> u16 {
        let url = format!("http://{}/v1/callers/{path}", self.tollgate.http_address);
        Http::new().post(&url, &[], &body.to_string()).await.status
    }
}

/// The exit status and the output of `tollgate audit verify`.
fn verify(files: &[&Path], more: &[&str]) -> (Option<i32>, String) {
    output(command().args(["audit", "verify"]).args(files).args(more))
}

/// The exit status and the output of a command.
fn output(command: &mut Command) -> (Option<i32>, String) {
    let output = command.output().unwrap();
    let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    (output.status.code(), text)
}

#[tokio::test]
async fn a_changed_or_removed_line_shows() {
    let audited = Audited::start(&Store::Embedded, &[]).await;
    for (caller, hits) in [("alice", 1), ("alice", 2), ("carol", 3)] {
        let path = format!("{caller}/quota/consume");
        assert_eq!(audited.post(&path, &json!({ "hits": hits })).await, 200);
    }
    let reported: Vec<_> = audited.lines().iter().map(|line| line["hits"].clone()).collect();
    assert_eq!(reported, [1, 2, 3]);
    let file = audited.file();
    let (status, text) = verify(&[&file], &[]);
    assert!(status == Some(0) && text.starts_with("4 lines from 1 on are unchanged"), "{text}");
    let end = text.split(" is ").last().unwrap().trim().to_owned();
    let whole = fs::read_to_string(&file).unwrap();
    let check = |text: &str, more: &[&str], expected: i32, reported: &str| {
        fs::write(&file, text).unwrap();
        let (status, output) = verify(&[&file], more);
        assert_eq!(status, Some(expected), "{output}");
        assert!(output.contains(reported), "{output}");
    };
    let all: Vec<&str> = whole.split_inclusive('\n').collect();
    let [first, one, two, three] = all[..] else { panic!("{whole}") };
    let changed = "the line was changed";
    check(&whole.replace("\"hits\":2", "\"hits\":1"), &[], 1, &format!(":3: {changed}"));
    check(&whole.replace("\"alice\"", "\"bob\""), &[], 1, &format!(":2: {changed}"));
    check(&[first, one, three].concat(), &[], 1, ":3: the line was changed, or lines before it");
    check(&all[1..].concat(), &[], 1, ":1: the first line of the file is missing");
    check(&[first, one, three, two].concat(), &[], 1, &format!(":3: {changed}"));
    check(&[first, one, two, two].concat(), &[], 1, &format!(":4: {changed}"));
    check(&whole[..whole.len() - 9], &[], 1, ":4: the line is incomplete");
    check(&whole.replace("{\"seq\":3,", "{\"seq\":3,\"x\":1,"), &[], 1, &format!(":3: {changed}"));
    // The caller was removed in the way of an erasure, which no line records.
    let (head, rest) = two.split_once(",\"caller\":").unwrap();
    let stripped = format!("{head}{}", &rest[rest.find(",\"digest\":").unwrap()..]);
    let removed = ":3: its caller was removed, and no line records its erasure";
    check(&[first, one, &stripped, three].concat(), &[], 1, removed);
    check(&[first, one, two].concat(), &[], 0, "3 lines");
    check(&[first, one, two].concat(), &["--end", &end], 1, "no line 4 has the hash");
    check("", &[], 0, "there are no lines");
    check("", &["--end", &end], 1, "no line 4 has the hash");
    check(&whole, &["--end", &end], 0, "4 lines");
    // The chain goes on, also behind what is no line.
    assert_eq!(audited.post("alice/quota/reset", &json!({})).await, 200);
    assert_eq!(verify(&[&file], &["--end", &end]).0, Some(0));
    assert_eq!(audited.lines()[3]["what"], "reset quota");
    fs::write(&file, format!("{}garbage\n", fs::read_to_string(&file).unwrap())).unwrap();
    assert_eq!(audited.post("alice/quota/reset", &json!({})).await, 200);
    let (status, text) = verify(&[&file], &["--end", &end]);
    assert!(status == Some(1) && text.trim().ends_with(":6: the line has no hash"), "{text}");
    assert!(fs::read_to_string(&file).unwrap().lines().last().unwrap().starts_with("{\"seq\":6,"));
    let missing = audited.folder.path().join("missing");
    assert_eq!(verify(&[&missing], &[]).0, Some(1));
    assert_eq!(verify(&[&file], &["--end", "3:x"]).0, Some(2));
}

#[tokio::test]
async fn refusals_are_lines_with_the_state_of_their_limits() {
    for store in Store::every() {
        let audited = Audited::start(&store, &["--audit-refusals", "0.5"]).await;
        for _ in 0..7 {
            audited.ask("alice").await;
        }
        assert_eq!(audited.post("alice/quota/reset", &json!({})).await, 200);
        // Three hits pass, and half of the four refusals are in the sample.
        let lines = audited.lines_of(3).await;
        let refused: Vec<_> = lines.iter().filter(|line| line["what"] == "refused").collect();
        assert_eq!(refused.len(), 2);
        for line in refused {
            let reported = ["domain", "caller", "tier", "reason"].map(|name| line[name].clone());
            assert_eq!(reported, ["shop", "alice", "free", "over_limit"]);
            let limit = &line["limits"][0];
            let reported = ["limit", "attempted", "used", "remaining", "quota", "reason"];
            let reported = reported.map(|name| limit[name].clone());
            assert_eq!(json!(reported), json!(["daily", 1, 3, 0, 3, "over_limit"]));
            assert_eq!(line["wait_ms"], limit["wait_ms"]);
        }
        assert_eq!(verify(&[&audited.file()], &[]).0, Some(0));
    }
}

#[tokio::test]
async fn without_the_setting_no_refusal_is_a_line() {
    let audited = Audited::start(&Store::Embedded, &[]).await;
    for _ in 0..5 {
        audited.ask("alice").await;
    }
    audited.post("alice/quota/reset", &json!({})).await;
    assert_eq!(audited.lines().len(), 1);
}

#[tokio::test]
async fn a_salt_keeps_names_out_of_the_log() {
    let folder = TempDir::new().unwrap();
    let salt = folder.path().join("salt");
    fs::write(&salt, "0123456789abcdef").unwrap();
    let flags = ["--audit-refusals", "1", "--audit-salt-file", salt.to_str().unwrap()];
    let audited = Audited::start(&Store::Embedded, &flags).await;
    for caller in ["alice", "alice", "bob"] {
        for _ in 0..4 {
            audited.ask(caller).await;
        }
    }
    let lines = audited.lines_of(6).await;
    let mut callers: Vec<_> = lines.iter().map(|line| line["caller"].as_str().unwrap()).collect();
    assert!(callers.iter().all(|caller| caller.starts_with('#') && caller.len() == 33));
    // Refusals that were answered by several threads come in any order: five of one caller, one of the other.
    callers.sort_unstable();
    let times = callers.chunk_by(|one, next| one == next).map(<[_]>::len);
    assert!([[1, 5], [5, 1]].iter().any(|of| times.clone().eq(of.iter().copied())), "{callers:?}");
    let text = fs::read_to_string(audited.file()).unwrap();
    assert!(!text.contains("alice") && !text.contains("bob"), "{text}");
}

#[tokio::test]
async fn the_standard_output_has_the_lines_and_nothing_else() {
    let flags = ["--audit-log", "stdout"];
    let tollgate = Tollgate::serve_with(POLICY, &Store::Embedded, &flags).await;
    let url = format!("http://{}/v1/callers/alice/quota/consume", tollgate.http_address);
    assert_eq!(Http::new().post(&url, &[], "{}").await.status, 200);
    let output = eventually("the lines", async || {
        Some(tollgate.stdout()).filter(|output| 2 <= output.lines().count())
    })
    .await;
    let lines: Vec<Value> =
        output.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    let sequence: Vec<u64> = lines.iter().map(|line| line["seq"].as_u64().unwrap()).collect();
    assert_eq!(sequence, (1..).take(lines.len()).collect::<Vec<u64>>());
    assert_eq!(lines[1]["caller"], "alice");
    assert!(tollgate.output().contains("HTTP  http://"), "the banner is on standard error");
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("audit.jsonl");
    fs::write(&file, output).unwrap();
    let verified = command().args(["audit", "verify"]).arg(&file).output().unwrap();
    assert!(verified.status.success(), "{verified:?}");
}
