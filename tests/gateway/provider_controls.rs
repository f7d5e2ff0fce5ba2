//! `/v1/providers/{name}/controls`: changes of providers for a while, on all sidecars.

use std::fs;

use hyper::{Method, Request};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::ask::DomainClient;
use crate::support::client::{Answer, Http};
use crate::support::eventually;
use crate::support::redis::Server;
use crate::support::store::Store;
use crate::support::tollgate::{Tollgate, api_token, command};

const POLICY: &str = "
domain: gate
defaults: { on_outage: allow }
tiers: [free, paid]
caller: { key: user, tier: { key: tier, default: free } }
choices: [{ key: provider, value: any, among: { near: {}, far: {} } }]
descriptors:
- { key: provider, value: near, limits: [{ name: near, rate: 1/second, wait: { up_to: 10s } }] }
- { key: provider, value: far, limits: [{ name: far, rate: 10/day }] }
";

fn url(tollgate: &Tollgate, path: &str) -> String {
    format!("http://{}/v1{path}", tollgate.http_address)
}

/// A time from now.
fn after(seconds: i64) -> String {
    (jiff::Timestamp::now() + jiff::SignedDuration::from_secs(seconds)).to_string()
}

async fn make(tollgate: &Tollgate, provider: &str, form: Value) -> Answer {
    let path = url(tollgate, &format!("/providers/{provider}/controls"));
    Http::new().post(&path, &[], &form.to_string()).await
}

async fn end(tollgate: &Tollgate, path: &str) -> u16 {
    let path = url(tollgate, path);
    let request = Request::builder().method(Method::DELETE).uri(path);
    Http::new().send(request.body(http_body_util::Full::default()).unwrap()).await.status
}

/// The ids of the changes that a sidecar knows.
async fn known(tollgate: &Tollgate) -> Vec<String> {
    let body = Http::new().get(&url(tollgate, "/provider-controls"), &[]).await.json();
    let items = body["items"].as_array().unwrap().iter();
    items.map(|item| item["id"].as_str().unwrap().to_owned()).collect()
}

async fn is_known(tollgate: &Tollgate, ids: &[&str]) {
    eventually("the changes", async || (known(tollgate).await == ids).then_some(())).await;
}

#[tokio::test]
async fn a_change_on_one_sidecar_holds_on_all_until_it_ends() {
    let Some(mut server) = Server::start(&[]) else { return };
    let folder = TempDir::new().unwrap();
    let log = folder.path().join("audit");
    let redis = ["--redis-url", &server.url()];
    let audited = [&redis[..], &["--audit-log", log.to_str().unwrap()]].concat();
    let first = Tollgate::serve_with(POLICY, &Store::Embedded, &audited).await;
    let second = Tollgate::serve_with(POLICY, &Store::Embedded, &redis).await;
    let mut client = DomainClient::new(&second, "gate").await;

    let made = make(&first, "near", json!({ "action": "pause", "until": after(3_600) })).await;
    assert_eq!((made.status, &made.json()["id"]), (200, &json!("pause")), "{}", made.text());
    is_known(&second, &["pause"]).await;
    // Two in a second: while the queue is not paused, the later one waits and passes.
    eventually("a request that does not wait", async || {
        let reply = client.ask(&["provider=near"], 1).await;
        (!reply.passed).then_some(())
    })
    .await;
    let shown = Http::new().get(&url(&second, "/providers/near"), &[]).await.json();
    assert_eq!(shown["controls"][0]["by"], made.json()["by"]);
    assert_eq!(end(&second, "/providers/near/controls/pause").await, 204);
    assert_eq!(end(&second, "/providers/near/controls/pause").await, 404);
    is_known(&first, &[]).await;
    for _ in 0..3 {
        assert!(client.ask(&["provider=near"], 1).await.passed);
    }

    let cap = json!({ "action": "cap", "percent": 20, "until": after(3_600) });
    assert_eq!(make(&second, "far", cap).await.status, 200);
    is_known(&first, &["cap"]).await;
    let mut at_first = DomainClient::new(&first, "gate").await;
    for passed in [true, true, false] {
        assert_eq!(at_first.ask(&["provider=far"], 1).await.passed, passed);
    }
    let short = json!({ "action": "cap", "percent": 20, "until": after(2) });
    assert_eq!(make(&first, "far", short).await.status, 200);
    is_known(&first, &[]).await;
    is_known(&second, &[]).await;
    assert!(client.ask(&["provider=far"], 1).await.passed);

    // Without Redis, what was known goes on, and nothing is changed.
    let pause = json!({ "action": "pause", "until": after(3_600) });
    assert_eq!(make(&first, "near", pause.clone()).await.status, 200);
    is_known(&second, &["pause"]).await;
    server.kill();
    eventually("a refused change", async || {
        (make(&second, "far", pause.clone()).await.status == 503).then_some(())
    })
    .await;
    assert_eq!(known(&second).await, ["pause"]);
    let log = fs::read_to_string(log).unwrap();
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("control provider")).collect();
    assert_eq!(lines.len(), 3, "{log}");
    assert!(lines[0].contains(r#""provider":"near""#) && lines[0].contains(r#""action":"pause""#));
    assert!(lines[1].contains(r#""before":{"id":"cap""#), "{}", lines[1]);
}

#[tokio::test]
async fn a_change_survives_a_restart_with_a_data_directory() {
    let folder = TempDir::new().unwrap();
    let flags = ["--data-dir", folder.path().to_str().unwrap()];
    let mut tollgate = Tollgate::serve_with(POLICY, &Store::Embedded, &flags).await;
    let pause = json!({ "action": "pause", "until": after(3_600) });
    assert_eq!(make(&tollgate, "near", pause).await.status, 200);
    tollgate.terminate();
    tollgate.exit().await;
    let tollgate = Tollgate::serve_with(POLICY, &Store::Embedded, &flags).await;
    is_known(&tollgate, &["pause"]).await;
    assert_eq!(end(&tollgate, "/providers/near/controls/pause").await, 204);
}

#[tokio::test]
async fn a_change_is_checked_and_requires_the_role_operator() {
    let tollgate = Tollgate::serve(POLICY, &Store::Embedded).await;
    let until = after(60);
    for (status, provider, form) in [
        (404, "other", json!({ "action": "pause", "until": until })),
        (422, "near", json!({ "action": "pause", "until": after(-1) })),
        (422, "near", json!({ "action": "pause", "until": after(8 * 86_400) })),
        (422, "near", json!({ "action": "pause", "until": until, "percent": 5 })),
        (422, "near", json!({ "action": "cap", "until": until })),
        (422, "near", json!({ "action": "cap", "until": until, "percent": 5, "tier": "x" })),
        (422, "near", json!({ "action": "priority", "until": until, "priority": 9 })),
        (422, "near", json!({ "action": "priority", "until": until, "priority": 1, "entry": "x" })),
        (422, "near", json!({ "action": "pause", "until": until, "domain": "x" })),
    ] {
        let made = make(&tollgate, provider, form.clone()).await;
        assert_eq!(made.status, status, "{form} {}", made.text());
    }
    assert_eq!(known(&tollgate).await, [""; 0]);

    let ((viewer, viewer_line), (operator, operator_line)) =
        (api_token("v", "viewer"), api_token("o", "operator"));
    let lines = format!("{viewer_line},{operator_line}");
    let tollgate = Tollgate::serve_with(POLICY, &Store::Embedded, &["--api-tokens", &lines]).await;
    let path = url(&tollgate, "/providers/near/controls");
    let form = json!({ "action": "pause", "until": until }).to_string();
    for (token, status) in [("00", 401), (&viewer, 403), (&operator, 200)] {
        let bearer = format!("Bearer {token}");
        let made = Http::new().post(&path, &[("authorization", &bearer)], &form).await;
        assert_eq!(made.status, status);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_changes_providers() {
    let tollgate = Tollgate::serve(POLICY, &Store::Embedded).await;
    let until = after(3_600);
    let run = |arguments: &[&str]| {
        let url = format!("http://{}", tollgate.http_address);
        let arguments = ["providers"].iter().chain(arguments);
        let output = command().env("TOLLGATE_API_URL", url).args(arguments).output().unwrap();
        let texts = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
        (output.status.code().unwrap(), texts.concat())
    };
    let (code, text) = run(&["pause", "near", "--until", &until]);
    assert!(code == 0 && text.contains("near") && text.contains("pause"), "{code} {text}");
    let cap = ["cap", "far", "20", "--tier", "free", "--limit", "far", "--until", &until];
    assert_eq!(run(&cap).0, 0);
    let priority = ["priority", "far", "4", "--entry", "op=book", "--until", &until];
    assert_eq!(run(&priority).0, 0);
    let (code, text) = run(&["changes", "-o", "json"]);
    let changes: Value = serde_json::from_str(&text).unwrap();
    let items = changes["items"].as_array().unwrap();
    assert_eq!((code, items.len()), (0, 3));
    let capped = items.iter().find(|one| one["action"] == "cap").unwrap();
    assert_eq!([&capped["tier"], &capped["limit"]], ["free", "far"]);
    assert_eq!(run(&["resume", "near"]), (0, "the queue goes on\n".to_owned()));
    assert_eq!(run(&["end", "far", capped["id"].as_str().unwrap()]).0, 0);
    let (code, text) = run(&["end", "far", "cap"]);
    assert!(code == 1 && text.contains("no change `cap` that holds"), "{code} {text}");
    assert_eq!(known(&tollgate).await.len(), 1);
    let (code, text) = run(&["far"]);
    assert!(code == 0 && text.contains("far"), "{code} {text}");
    assert_eq!(run(&["cap", "far", "100", "--until", &until]).0, 2);
    assert_eq!(run(&["pause", "near"]).0, 2);
}
