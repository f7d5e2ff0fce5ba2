//! Answers of alerts: callers that are restricted for a time, on all sidecars, until a person ends it.

use std::fs;

use http_body_util::Full;
use serde_json::Value;

use super::AlertFile;
use crate::support::ask::DomainClient;
use crate::support::client::Http;
use crate::support::eventually;
use crate::support::store::Store;
use crate::support::tollgate::Tollgate;

const POLICY: &str = "
domain: gate
tiers: [restricted, free]
caller: { key: user, tier: { key: tier, default: free } }
descriptors:
  - { key: user, limits: [{ name: daily, by_tier: { restricted: 5/day, free: 1000/day } }] }
";

const RULES: &str = "
alerts:
  burst: { when: burst, above: 6, over: 10s, answer: { tier: restricted, for: 1h } }
";

async fn read(tollgate: &Tollgate, path: &str) -> Value {
    let url = format!("http://{}{path}", tollgate.http_address);
    serde_json::from_slice(&Http::new().get(&url, &[]).await.body).unwrap()
}

/// Asks for one hit of a user so many times, and returns whether the last one passed.
async fn ask(tollgate: &Tollgate, user: &str, times: u32) -> bool {
    let mut client = DomainClient::new(tollgate, "gate").await;
    let mut passed = false;
    for _ in 0..times {
        passed = client.ask(&[&format!("user={user}")], 1).await.passed;
    }
    passed
}

#[tokio::test]
async fn a_caller_is_restricted_on_all_sidecars_until_an_operator_ends_it() {
    for store in Store::every() {
        let file = AlertFile::new(RULES);
        let log = file.beside("audit.jsonl");
        let flags = ["--alerts", file.path.to_str().unwrap(), "--audit-log", log.to_str().unwrap()];
        let tollgate = Tollgate::serve_with(POLICY, &store, &flags).await;
        let other = match store {
            Store::Embedded => None,
            Store::Redis(_) => Some(Tollgate::serve_with(POLICY, &store, &flags[..2]).await),
        };
        let other = other.as_ref().unwrap_or(&tollgate);
        assert!(ask(&tollgate, "ann", 8).await);
        assert!(ask(&tollgate, "bob", 3).await);
        eventually("the restriction", async || (!ask(other, "ann", 1).await).then_some(())).await;
        assert!(ask(other, "bob", 1).await, "the other caller is not restricted");
        let caller = read(other, "/v1/callers/ann").await;
        assert_eq!(caller["overrides"]["daily"]["tier"], "restricted", "{caller}");
        assert!(caller["overrides"]["daily"]["until"].is_string(), "{caller}");
        let alerts = read(other, "/v1/alerts?caller=ann").await;
        assert_eq!(alerts["items"][0]["answer"]["tier"], "restricted", "{alerts}");
        let lines = fs::read_to_string(&log).unwrap();
        let line = lines.lines().find(|line| line.contains("\"restrict\"")).unwrap();
        assert!(line.contains("alert burst") && line.contains("restricted"), "{line}");
        // An operator ends it, and the open alert does not begin it again.
        let url = format!("http://{}/v1/callers/ann/quota", other.http_address);
        let request = http::Request::delete(&url).body(Full::default()).unwrap();
        assert_eq!(Http::new().send(request).await.status, 204);
        eventually("the end", async || ask(&tollgate, "ann", 1).await.then_some(())).await;
        assert_eq!(
            read(other, "/v1/alerts?caller=ann&state=open").await["items"][0]["rule"],
            "burst"
        );
        for _ in 0..3 {
            assert!(ask(&tollgate, "ann", 3).await, "it stays ended");
        }
    }
}

#[tokio::test]
async fn a_directory_that_cannot_be_written_is_told_and_the_alert_opens() {
    let file = AlertFile::new(RULES);
    let callers = file.beside("callers.yaml");
    fs::write(&callers, "callers: { bob: { tier: free } }").unwrap();
    let flags = ["--alerts", file.path.to_str().unwrap(), "--callers", callers.to_str().unwrap()];
    let tollgate = Tollgate::serve_with(POLICY, &Store::Embedded, &flags).await;
    assert!(ask(&tollgate, "ann", 8).await);
    eventually("the alert, and the line", async || {
        let open = read(&tollgate, "/v1/alerts?state=open").await;
        let is_told = tollgate.output().contains("the answer of an alert can't be given");
        (is_told && open["items"][0]["rule"] == "burst").then_some(())
    })
    .await;
    assert!(ask(&tollgate, "ann", 1).await);
}

#[tokio::test]
async fn an_answer_never_loosens() {
    let file = AlertFile::new(&RULES.replace("restricted", "free"));
    let tollgate =
        Tollgate::serve_with(POLICY, &Store::Embedded, &["--alerts", file.path.to_str().unwrap()])
            .await;
    assert!(ask(&tollgate, "ann", 8).await);
    eventually("the line", async || {
        tollgate.output().contains("has less of no limit").then_some(())
    })
    .await;
    assert_eq!(read(&tollgate, "/v1/callers/ann").await["status"], 404, "nothing was written");
}
