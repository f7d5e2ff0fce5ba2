//! `PUT`, `PATCH` and `DELETE` of `/v1/callers/{name}/quota`, and `tollgate quota set`.

use axum::http::Request;
use serde_json::{Value, json};

use crate::support::ask::DomainClient;
use crate::support::client::Http;
use crate::support::eventually;
use crate::support::redis::Server;
use crate::support::store::Store;
use crate::support::tollgate::{Tollgate, api_token, command};

const POLICY: &str = "
domain: gate
tiers: [free, paid]
caller: { key: user }
descriptors:
- key: user
  cascade: true
  limits: [{ name: daily, by_tier: { free: 5/day, paid: 50/day } }]
  descriptors: [{ key: op, value: search, limits: [{ name: search, rate: 3/day }] }]
";

/// Sends a request about a caller, such as `PUT ann/quota`, and checks the status.
async fn send(tollgate: &Tollgate, line: &str, body: &Value, status: u16) -> Value {
    let (method, path) = line.split_once(' ').unwrap();
    let url = format!("http://{}/v1/callers/{path}", tollgate.http_address);
    let request = Request::builder().method(method).uri(url);
    let answer = Http::new().send(request.body(body.to_string().into()).unwrap()).await;
    assert_eq!(answer.status, status, "{method} {path}: {:?}", answer.body);
    if answer.body.is_empty() { Value::Null } else { answer.json() }
}

/// Limit, quota and override of each limit of ann.
async fn quota(tollgate: &Tollgate) -> Vec<Value> {
    let line = "GET ann/quota?entries=op=search";
    let body = send(tollgate, line, &Value::Null, 200).await;
    let items = body["items"].as_array().unwrap().iter();
    items.map(|item| json!([item["limit"], item["quota"], item["override"]])).collect()
}

#[tokio::test]
async fn overrides_hold_on_every_sidecar_and_end() {
    let Some(server) = Server::start(&[]) else { return };
    let store = Store::Redis(server);
    let (one, other) =
        (Tollgate::serve(POLICY, &store).await, Tollgate::serve(POLICY, &store).await);
    let mut asker = DomainClient::new(&other, "gate").await;
    for _ in 0..5 {
        assert!(asker.ask(&["user=ann"], 1).await.passed);
    }
    assert!(!asker.ask(&["user=ann"], 1).await.passed);

    let until = "2099-01-01T00:00:00Z";
    let all = json!({ "overrides": { "daily": { "tier": "paid", "until": until }, "search": 9 } });
    assert_eq!(send(&one, "PUT ann/quota", &all, 201).await, all);
    let expected = [json!(["daily", 50, { "until": until }]), json!(["search", 9, {}])];
    assert_eq!(quota(&one).await, expected);
    eventually("the override at the other sidecar", async || {
        (quota(&other).await == expected).then_some(())
    })
    .await;
    // The count is kept, and so is the tier.
    assert_eq!(asker.ask(&["user=ann"], 1).await.remaining, [44]);
    let body = send(&other, "GET ann/quota", &Value::Null, 200).await;
    assert_eq!((&body["items"][0]["tier"], &body["items"][0]["used"]), (&json!("free"), &json!(6)));

    // One that has ended would change nothing.
    let ended = json!({ "overrides": { "daily": { "amount": 70, "until": "2020-01-01" } } });
    let problem = send(&one, "PATCH ann/quota", &ended, 422).await;
    let told = "overrides.daily.until: 2020-01-01 is in the past";
    assert_eq!(problem["detail"], told);
    let soon = jiff::Timestamp::from_second(jiff::Timestamp::now().as_second() + 2).unwrap();
    let ends = json!({ "amount": 70, "until": soon.to_string() });
    let change = json!({ "overrides": { "daily": ends, "search": null } });
    let answer = send(&one, "PATCH ann/quota", &change, 200).await;
    assert_eq!(answer, json!({ "overrides": { "daily": ends } }));
    eventually("the end of the override", async || {
        let left = [json!(["daily", 5, null]), json!(["search", 3, null])];
        (quota(&one).await == left).then_some(())
    })
    .await;

    send(&one, "DELETE ann/quota?limit=search", &Value::Null, 404).await;
    send(&one, "DELETE ann/quota?limit=daily", &Value::Null, 204).await;
    send(&one, "DELETE ann/quota", &Value::Null, 204).await;
    send(&one, "DELETE bob/quota", &Value::Null, 404).await;
    let output = one.output();
    for what in ["put quota", "patch quota", "delete quota"] {
        assert!(output.contains(&format!(r#""what":"{what}""#)), "{output}");
    }
}

#[tokio::test]
async fn an_invalid_override_changes_nothing() {
    for store in Store::every() {
        let tollgate = Tollgate::serve(POLICY, &store).await;
        let check = async |overrides: Value, status: u16, told: &str| {
            let body = json!({ "overrides": overrides });
            let problem = send(&tollgate, "PUT ann/quota", &body, status).await;
            assert!(problem["detail"].to_string().contains(told), "{problem}");
        };
        check(json!({ "dayly": 5 }), 422, "did you mean `daily`?").await;
        check(json!({ "daily": { "tier": "gold" } }), 422, "unknown tier `gold`").await;
        check(json!({ "daily": {} }), 422, "overrides.daily: an override has either").await;
        check(json!({ "daily": { "amount": 5, "until": "soon" } }), 422, "overrides.daily.until")
            .await;
        check(json!({ "daily": "many" }), 400, "an override must be an amount").await;
        let many: Value = (0..33).map(|number| (format!("l{number}"), json!(1))).collect();
        let body = json!({ "overrides": many });
        send(&tollgate, "PUT ann/quota?force=true", &body, 422).await;
        send(&tollgate, "GET ann", &Value::Null, 404).await;
        let forced = json!({ "overrides": { "later": { "tier": "gold" } } });
        assert_eq!(send(&tollgate, "PUT ann/quota?force=true", &forced, 201).await, forced);
    }
}

#[tokio::test]
async fn overrides_require_the_role_operator_and_a_writable_directory() {
    let Some(server) = Server::start(&[]) else { return };
    let (viewer, line) = api_token("v", "viewer");
    let flags = ["--api-tokens", &line];
    let store = Store::Redis(server);
    let tollgate = Tollgate::serve_with(POLICY, &store, &flags).await;
    for method in ["PUT", "PATCH", "DELETE"] {
        let url = format!("http://{}/v1/callers/ann/quota", tollgate.http_address);
        let request = Request::builder().method(method).uri(url);
        let request = request.header("authorization", format!("Bearer {viewer}"));
        let answer = Http::new().send(request.body("{}".to_owned().into()).unwrap()).await;
        assert_eq!(answer.status, 403, "{method}");
    }
    let files = ["--callers", "config/callers.yaml"];
    let tollgate = Tollgate::serve_with(POLICY, &Store::Embedded, &files).await;
    send(&tollgate, "PUT ann/quota", &json!({ "overrides": {} }), 409).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_sets_amounts_tiers_and_ends() {
    for store in Store::every() {
        let tollgate = Tollgate::serve(POLICY, &store).await;
        let run = |arguments: &[&str]| {
            let url = format!("http://{}", tollgate.http_address);
            let output = command().env("TOLLGATE_API_URL", url).args(arguments).output().unwrap();
            let texts = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
            (output.status.code().unwrap(), texts.concat())
        };
        let set = |rest: &[&str]| run(&[&["quota", "set", "ann", "daily"][..], rest].concat());
        let (code, text) = set(&["2000"]);
        assert!(code == 0 && text.contains("daily: 2000"), "{text}");
        let (code, text) = set(&["--tier", "paid", "--until", "2099-01-01"]);
        assert!(code == 0 && text.contains("tier: paid"), "{text}");
        assert_eq!(
            quota(&tollgate).await[0],
            json!(["daily", 50, { "until": "2099-01-02T00:00:00Z" }])
        );
        assert_eq!(set(&["default"]).0, 0);
        assert_eq!(quota(&tollgate).await[0], json!(["daily", 5, null]));
        assert_eq!((set(&[]).0, set(&["5", "--tier", "paid"]).0), (2, 2));
        let (code, text) = set(&["many"]);
        assert!(code == 1 && text.contains("an override must be an amount"), "{code} {text}");
    }
}
