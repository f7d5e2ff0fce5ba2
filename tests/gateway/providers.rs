//! `/v1/providers` and `tollgate providers`: what is in use of the providers' capacity.

use serde_json::{Value, json};

use crate::support::ask::DomainClient;
use crate::support::client::{Answer, Http};
use crate::support::redis::Server;
use crate::support::store::Store;
use crate::support::tollgate::{Tollgate, api_token, command};

const POLICY: &str = "
domain: gate
tiers: [free, paid]
caller: { key: user, tier: { key: tier } }
schedules: { always: { dates: [2000-01-01..2099-12-31] } }
choices: [{ key: provider, value: any, among: { near: { latency: 80ms }, far: {} } }]
descriptors:
- { key: user, limits: [1000/day] }
- key: provider
  value: near
  descriptors:
  - key: op
    value: search
    limits: [{ name: search, rate: 50/day, when: [{ during: always, rate: 20/day }] }]
    capacity: { reserve: { paid: 10% }, pressure: [{ above: 40%, scale: { free: 0.8 } }] }
  - { key: op, value: book, limits: [{ name: book, rate: 8/day, adjust: { signal: errors, above: 5%, below: 2%, least: 0%, step: 50%, every: 1s } }] }
- { key: provider, value: far, limits: [{ name: far, rate: 4/hour, mode: warn }] }
";

async fn get(tollgate: &Tollgate, path: &str, headers: &[(&str, &str)]) -> Answer {
    Http::new().get(&format!("http://{}/v1/providers{path}", tollgate.http_address), headers).await
}

/// Status, level, and of each limit: name, capacity, used, remaining, percent.
fn reported(provider: &Value) -> Value {
    let limits = provider["limits"].as_array().unwrap().iter();
    let limits = limits.map(|limit| {
        let fields = ["limit", "capacity", "used", "remaining", "percent"];
        fields.iter().map(|field| limit[field].clone()).collect::<Value>()
    });
    json!([provider["status"], provider["level"], limits.collect::<Value>()])
}

#[tokio::test]
async fn the_use_of_each_provider_follows_requests_schedules_and_signals() {
    for store in Store::every() {
        let tollgate = Tollgate::serve(POLICY, &store).await;
        let mut client = DomainClient::new(&tollgate, "gate").await;
        let near = async || reported(&get(&tollgate, "/near", &[]).await.json());
        let book = json!(["book", 8, 0, 8, 0.0]);
        assert_eq!(near().await, json!(["available", 0, [["search", 20, 0, 20, 0.0], book]]));
        client.ask(&["provider=near,op=search"], 9).await;
        assert_eq!(near().await, json!(["pressure", 1, [["search", 20, 9, 11, 45.0], book]]));
        client.ask(&["provider=near,op=search", "tier=paid"], 11).await;
        assert_eq!(near().await, json!(["exhausted", 1, [["search", 20, 20, 0, 100.0], book]]));

        let signal = format!("http://{}/v1/signals/errors", tollgate.http_address);
        assert_eq!(Http::new().post(&signal, &[], r#"{"value": 0.5}"#).await.status, 204);
        crate::support::eventually("the lowered limit", async || {
            let body = get(&tollgate, "/near", &[]).await.json();
            let book = &body["limits"][1];
            (book["capacity"] == 4 && book["adjusted_percent"] == 50.0).then_some(())
        })
        .await;

        client.ask(&["provider=far"], 5).await;
        let all = get(&tollgate, "?domain=gate", &[]).await.json();
        assert_eq!((&all["fallback"], all["items"].as_array().unwrap().len()), (&json!(false), 2));
        assert_eq!(all["items"][0]["fullest"]["limit"], "search");
        assert_eq!(
            (&all["items"][0]["latency_ms"], &all["items"][0]["latency_from"]),
            (&json!(80.0), &json!("policy"))
        );
        let reserve = json!([
            { "tier": "free", "reserved": 0, "capacity": 18, "remaining": 0 },
            { "tier": "paid", "reserved": 2, "capacity": 20, "remaining": 0 },
        ]);
        assert_eq!(all["items"][0]["limits"][0]["reserve"], reserve);
        assert!(all["items"][0]["limits"][1]["reserve"].is_null(), "{all}");
        // A limit that only warns does not exhaust a provider.
        assert_eq!(all["items"][1]["status"], "available");
        assert_eq!(get(&tollgate, "?domain=other", &[]).await.status, 422);
        assert_eq!(get(&tollgate, "/other", &[]).await.status, 404);
        assert_eq!(get(&tollgate, "?provider=near", &[]).await.status, 400);
    }
}

#[tokio::test]
async fn without_redis_the_last_levels_are_told() {
    let Some(server) = Server::start(&[]) else { return };
    let flags = ["--redis-url", &server.url()];
    let policy = POLICY.replace("domain: gate", "domain: gate\ndefaults: { on_outage: allow }");
    let tollgate = Tollgate::serve_with(&policy, &Store::Embedded, &flags).await;
    let mut client = DomainClient::new(&tollgate, "gate").await;
    client.ask(&["provider=near,op=search"], 9).await;
    assert_eq!(get(&tollgate, "/near", &[]).await.json()["level"], 1);
    drop(server);
    crate::support::eventually("the outage", async || {
        let body = get(&tollgate, "/near", &[]).await.json();
        (body["fallback"] == true && body["status"] == "unknown" && body["level"] == 1)
            .then_some(())
    })
    .await;
}

#[tokio::test]
async fn several_domains_with_a_provider_need_the_domain() {
    let rule = "descriptors: [{ key: p, value: x, limits: [2/day], capacity: { pressure: [{ above: 50%, scale: { a: 0.5 } }] } }]";
    let policy = |domain: &str| format!("domain: {domain}\ntiers: [a, b]\n{rule}\n");
    let folder = tempfile::TempDir::new().unwrap();
    std::fs::write(folder.path().join("two.yaml"), policy("two")).unwrap();
    let flags = ["--policies", folder.path().to_str().unwrap()];
    let tollgate = Tollgate::serve_with(&policy("gate"), &Store::Embedded, &flags).await;
    let answer = get(&tollgate, "/x", &[]).await;
    assert_eq!(answer.status, 422);
    assert_eq!(answer.json()["detail"], "name the `domain`: one of gate, two");
    assert_eq!(get(&tollgate, "/x?domain=two", &[]).await.json()["domain"], "two");
}

#[tokio::test]
async fn providers_require_the_role_viewer() {
    let ((own, own_line), (viewer, viewer_line)) =
        (api_token("s", "self"), api_token("v", "viewer"));
    let lines = format!("{own_line},{viewer_line}");
    let tollgate = Tollgate::serve_with(POLICY, &Store::Embedded, &["--api-tokens", &lines]).await;
    for path in ["", "/near"] {
        let status = async |token: &str| {
            let bearer = format!("Bearer {token}");
            get(&tollgate, path, &[("authorization", &bearer)]).await.status
        };
        let statuses = [status("00").await, status(&own).await, status(&viewer).await];
        assert_eq!(statuses, [401, 403, 200], "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_shows_providers_in_each_format() {
    let tollgate = Tollgate::serve(POLICY, &Store::Embedded).await;
    DomainClient::new(&tollgate, "gate").await.ask(&["provider=near,op=search"], 9).await;
    let run = |arguments: &[&str]| {
        let url = format!("http://{}", tollgate.http_address);
        let output = command().env("TOLLGATE_API_URL", url).args(arguments).output().unwrap();
        let texts = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
        (output.status.code().unwrap(), texts.concat())
    };
    let words = |text: &str, line: usize| {
        let line = text.lines().nth(line).unwrap();
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let (code, table) = run(&["providers"]);
    assert_eq!(code, 0, "{table}");
    assert_eq!(words(&table, 1), "gate near pressure 1 search 20 9 11 45.0 % 0 80.0");
    let (_, table) = run(&["providers", "near"]);
    let row = words(&table, 1);
    assert!(row.starts_with("provider=near/op=search search 20 9 11 45.0 % 1 - 20"), "{table}");
    let (_, csv) = run(&["providers", "near", "--output", "csv"]);
    assert!(csv.starts_with("rule,limit,capacity,used,remaining,percent,level,waiting,reset_at\n"));
    assert!(csv.contains("provider=near/op=book,book,8,0,8,0.0,,,\n"), "{csv}");
    let (_, json) = run(&["providers", "--domain", "gate", "-o", "json"]);
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["items"][0]["provider"], "near");
    let (_, yaml) = run(&["providers", "near", "-o", "yaml"]);
    assert!(yaml.contains("status: pressure"), "{yaml}");
    let (code, text) = run(&["providers", "nobody"]);
    assert!(code == 1 && text.contains("no policy has the provider `nobody`"), "{code} {text}");
    assert_eq!(run(&["providers", "near", "far"]).0, 2);
}
