//! Every role against every operation of the API: who may, and who may not.

use std::collections::BTreeMap;

use axum::http::Request;
use bytes::Bytes;
use http_body_util::Full;
use serde_json::Value;

use crate::support::client::{Http, request};
use crate::support::eventually;
use crate::support::store::Store;
use crate::support::tollgate::{Tollgate, api_token};

const POLICY: &str = "
domain: shop
caller: { key: user }
answer: { refusal_id: [header] }
reservation: { ttl: 10m }
choices: [{ key: provider, value: any, among: { near: {}, far: {} } }]
descriptors:
- { key: user, limits: [{ name: daily, rate: 1/day }] }
";

/// The roles, each with the permissions of those before.
const ROLES: [&str; 4] = ["self", "viewer", "operator", "admin"];

/// The least role of each operation. `self` may read what is its own, and nothing else.
const OPERATIONS: &[(&str, &str)] = &[
    ("GET /v1", "viewer"),
    ("GET /v1/openapi.json", "viewer"),
    ("GET /v1/callers", "viewer"),
    ("GET /v1/callers/{name}", "self"),
    ("PUT /v1/callers/{name}", "admin"),
    ("PATCH /v1/callers/{name}", "operator"),
    ("DELETE /v1/callers/{name}", "admin"),
    ("POST /v1/callers/{name}/bonuses", "operator"),
    ("DELETE /v1/callers/{name}/bonuses/{id}", "operator"),
    ("POST /v1/callers/{name}/gifts", "operator"),
    ("POST /v1/callers/{name}/link", "operator"),
    ("GET /v1/callers/{name}/gifts/{id}", "viewer"),
    ("GET /v1/callers/{name}/ledger", "self"),
    ("GET /v1/callers/{name}/quota", "self"),
    ("PATCH /v1/callers/{name}/quota", "operator"),
    ("PUT /v1/callers/{name}/quota", "operator"),
    ("DELETE /v1/callers/{name}/quota", "operator"),
    ("POST /v1/callers/{name}/quota/validate", "self"),
    ("POST /v1/callers/{name}/quota/consume", "operator"),
    ("POST /v1/callers/{name}/quota/release", "operator"),
    ("POST /v1/callers/{name}/quota/reset", "operator"),
    ("POST /v1/callers/{name}/quota/recalculate", "operator"),
    ("GET /v1/callers/{name}/reservations", "self"),
    ("POST /v1/callers/{name}/reservations", "operator"),
    ("GET /v1/callers/{name}/reservations/{id}", "self"),
    ("DELETE /v1/callers/{name}/reservations/{id}", "operator"),
    ("POST /v1/callers/{name}/reservations/{id}/extend", "operator"),
    ("POST /v1/callers/{name}/reservations/{id}/settle", "operator"),
    ("GET /v1/provider-controls", "viewer"),
    ("POST /v1/providers/{name}/controls", "operator"),
    ("DELETE /v1/providers/{name}/controls/{id}", "operator"),
    ("GET /v1/api-keys", "viewer"),
    ("POST /v1/api-keys", "admin"),
    ("GET /v1/api-keys/{id}", "viewer"),
    ("PATCH /v1/api-keys/{id}", "operator"),
    ("DELETE /v1/api-keys/{id}", "admin"),
    ("POST /v1/api-keys/{id}/rotate", "admin"),
    ("GET /v1/over", "viewer"),
    ("GET /v1/latencies", "viewer"),
    ("POST /v1/latencies", "operator"),
    ("GET /v1/providers", "viewer"),
    ("GET /v1/providers/{name}", "viewer"),
    ("GET /v1/signals", "viewer"),
    ("POST /v1/signals/{name}", "operator"),
    ("GET /v1/usage", "self"),
    ("GET /v1/denials", "self"),
    ("GET /v1/top", "viewer"),
    ("GET /v1/report", "self"),
    ("GET /v1/forecast", "self"),
    ("GET /v1/costs", "viewer"),
    ("GET /v1/why/{id}", "self"),
    ("GET /v1/alerts", "viewer"),
    ("POST /v1/alerts/{id}/acknowledge", "operator"),
    ("POST /v1/alerts/{id}/resolve", "operator"),
    ("GET /v1/alerts/silences", "viewer"),
    ("POST /v1/alerts/silences", "operator"),
    ("DELETE /v1/alerts/silences/{id}", "operator"),
    ("GET /v1/alerts/notifications", "viewer"),
    ("POST /v1/alerts/notifications/{id}/resend", "operator"),
    ("POST /v1/alerts/rules/{name}/test", "operator"),
    ("GET /v1/alerts/rules/{name}/firings", "viewer"),
    ("POST /v1/providers/{name}/counts", "operator"),
    ("GET /v1/risks", "viewer"),
    ("GET /v1/callers/{name}/risk", "viewer"),
    // The last: it erases the refusals.
    ("POST /v1/callers/{name}/erase", "admin"),
    ("POST /v1/erase", "admin"),
];

/// The caller with the name of the tokens, and another one.
const OWN: &str = "ann";
const OTHER: &str = "bob";

/// A Tollgate with a token of each role, and the id of a refusal of each caller.
struct Api {
    tollgate: Tollgate,
    tokens: Vec<String>,
    refusals: BTreeMap<&'static str, String>,
}

impl Api {
    async fn start(store: &Store) -> Self {
        // The name matters for `self` alone.
        let tokens = ROLES.map(|role| api_token(if role == "self" { OWN } else { role }, role));
        let lines: Vec<&str> = tokens.iter().map(|(_, line)| line.as_str()).collect();
        let flags = ["--usage=true", "--api-tokens", &lines.join(",")];
        let tollgate = Tollgate::serve_with(POLICY, store, &flags).await;
        let mut refusals = BTreeMap::new();
        for caller in [OWN, OTHER] {
            refusals.insert(caller, refused(&tollgate, caller).await);
        }
        Self { tollgate, tokens: tokens.map(|(token, _)| token).into(), refusals }
    }

    /// The status and the code of the answer to an operation on what is of a caller.
    async fn ask(&self, operation: &str, caller: &str, token: Option<&str>) -> (u16, Value) {
        let (method, path) = operation.split_once(' ').unwrap();
        let id = if path.contains("/why/") { &*self.refusals[caller] } else { "none" };
        let mut path = path.replace("{name}", caller).replace("{id}", id);
        if ["/v1/usage", "/v1/forecast", "/v1/denials", "/v1/report"].contains(&&*path) {
            path = format!("{path}?caller={caller}");
        }
        let url = format!("http://{}{path}", self.tollgate.http_address);
        let mut request = Request::builder().method(method).uri(url);
        request = request.header("content-type", "application/json");
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let body = if method == "GET" { "" } else { "{}" };
        let answer = Http::new().send(request.body(Full::new(Bytes::from(body))).unwrap()).await;
        let code = match answer.body.is_empty() {
            true => Value::Null,
            false => answer.json()["code"].clone(),
        };
        (answer.status, code)
    }
}

/// The id of a refusal of a caller.
async fn refused(tollgate: &Tollgate, caller: &str) -> String {
    let mut client = tollgate.client().await;
    eventually("a refusal", async || {
        let answer = client.should_rate_limit(request("shop", &[&[("user", caller)]])).await;
        let headers = answer.unwrap().into_inner().response_headers_to_add;
        headers.first().map(|header| header.value.clone())
    })
    .await
}

/// The operations of a document, with their least roles.
fn operations(document: &Value) -> BTreeMap<String, String> {
    let mut operations = BTreeMap::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, one) in methods.as_object().unwrap() {
            let role = one["security"][0]["token"][0].as_str().unwrap();
            operations.insert(format!("{} {path}", method.to_uppercase()), role.to_owned());
        }
    }
    operations
}

#[tokio::test]
async fn each_operation_answers_those_who_may_and_refuses_all_others() {
    for store in Store::every() {
        let api = Api::start(&store).await;
        let url = format!("http://{}/v1/openapi.json", api.tollgate.http_address);
        let bearer = format!("Bearer {}", api.tokens[1]);
        let document = Http::new().get(&url, &[("authorization", &bearer)]).await.json();
        let decided: BTreeMap<String, String> = OPERATIONS
            .iter()
            .map(|(name, role)| ((*name).to_owned(), (*role).to_owned()))
            .collect();
        // A new operation needs a line above.
        assert_eq!(operations(&document), decided);

        let forbidden = (403, Value::from("INSUFFICIENT_PERMISSIONS"));
        for (operation, least) in OPERATIONS {
            for token in [None, Some("00"), Some("")] {
                let (status, _) = api.ask(operation, OWN, token).await;
                assert_eq!(status, 401, "{operation} with the token {token:?}");
            }
            let least = ROLES.iter().position(|role| role == least).unwrap();
            for (role, token) in api.tokens.iter().enumerate() {
                for caller in [OWN, OTHER] {
                    let answer = api.ask(operation, caller, Some(token)).await;
                    let at = format!("{operation} of {caller} by {}: {answer:?}", ROLES[role]);
                    if role < least || (role == 0 && caller == OTHER) {
                        assert_eq!(answer, forbidden, "{at}");
                    } else {
                        assert!(![401, 403, 405].contains(&answer.0) && answer.0 < 500, "{at}");
                    }
                }
            }
        }
    }
}

#[tokio::test]
async fn a_caller_sees_no_usage_but_its_own() {
    let api = Api::start(&Store::Embedded).await;
    let status = async |path: &str| {
        let url = format!("http://{}/v1/{path}", api.tollgate.http_address);
        let bearer = format!("Bearer {}", api.tokens[0]);
        Http::new().get(&url, &[("authorization", &bearer)]).await.status
    };
    for (path, expected) in [
        ("usage", 403),
        ("usage?group_by=caller", 403),
        ("usage?caller=", 403),
        ("usage?caller=ANN", 403),
        ("usage?caller=ann&group_by=limit&granularity=day", 200),
        ("usage?caller=ann&caller=bob", 400),
        ("forecast", 400),
        ("denials", 403),
        ("denials?caller=bob", 403),
        ("denials?caller=ann", 200),
        ("report", 403),
        ("report?caller=bob", 403),
        ("report?caller=ann&format=csv", 200),
        ("callers", 403),
        ("callers/bob", 403),
        ("callers/ann", 404),
        ("callers/bob/../ann/quota", 404),
        ("callers/%61nn/quota", 200),
    ] {
        assert_eq!(status(path).await, expected, "{path}");
    }
}
