//! API keys through a real Envoy with ext_authz and the rate limit filter in one chain.

mod addresses;
mod asked;
mod charged;
pub mod checker;
mod commands;
mod damaged;
mod jwt;
mod known;
mod leaks;
mod limits;
mod made;
mod places;
mod protocols;
pub mod scene;
mod shared;
mod times;

use std::fs;

use serde_json::{Value, json};

use crate::support::client::Answer;
use crate::support::eventually;
use crate::support::gateway::{Caller, Gateway};
use crate::support::store::Store;
use scene::{Keeper, POLICY};

/// Gets a path of the gateway with an API key.
async fn get(caller: &Caller, path: &str, key: &str) -> Answer {
    caller.get(path, &[("x-api-key", key)]).await
}

/// Checks a problem document for the client.
fn check_problem(answer: &Answer, status: u16, detail: &str) {
    let body = answer.json();
    assert_eq!(answer.status, status, "{body}");
    assert_eq!(answer.header("content-type"), "application/problem+json");
    assert_eq!((&body["status"], &body["detail"]), (&json!(status), &json!(detail)));
}

const INVALID: &str = "a valid API key is required";
const FORBIDDEN: &str = "the API key does not permit this request";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_key_tells_the_upstream_and_the_limits_of_its_caller() {
    for store in Store::every() {
        let keeper = Keeper::start(POLICY, &store, &[]).await;
        let Some(gateway) = keeper.gateway().await else { return };
        let form = json!({ "caller": "acme", "scopes": ["hotels:read"], "tier": "premium" });
        let (key, id) = keeper.create(&form).await;
        let spoofed = [
            ("x-api-key", key.as_str()),
            ("x-caller", "root"),
            ("x-tier", "enterprise"),
            ("x-tier", "enterprise"),
            ("x-scopes", "admin"),
            ("x-key-id", "key_0"),
        ];
        let answer = gateway.caller.get("/hotels/7?a=b", &spoofed).await;
        assert_eq!(answer.status, 200, "{}", answer.json());
        let told = answer.json();
        let expected = [
            ("x-caller", json!("acme")),
            ("x-tier", json!("premium")),
            ("x-scopes", json!("hotels:read")),
            ("x-key-id", json!(id)),
            ("x-api-key", Value::Null),
        ];
        for (name, value) in expected {
            assert_eq!(told[name], value, "{name}: {told}");
        }
        assert_eq!(answer.header("x-ratelimit-limit").split(',').next(), Some("100"));
        assert_eq!(answer.header("x-path"), "/hotels/7?a=b");

        // Without scopes there is no header of them, not even the client's own.
        let (plain, _) = keeper.create(&json!({ "caller": "bob" })).await;
        let told = gateway.caller.get("/", &[("x-api-key", &plain), ("x-scopes", "admin")]).await;
        assert_eq!(told.json()["x-scopes"], Value::Null, "{}", told.json());
        assert_eq!(told.json()["x-tier"], "free");

        // The tier decides the limit: three requests an hour for bob, one of which was made.
        for status in [200, 200, 429] {
            assert_eq!(get(&gateway.caller, "/", &plain).await.status, status);
        }
        assert_eq!(get(&gateway.caller, "/", &key).await.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_example_of_the_page_works() {
    let policy = fs::read_to_string("config/policies/api-keys.yaml").unwrap();
    let keeper = Keeper::start(&policy, &Store::Embedded, &[]).await;
    let ports = [(8081, keeper.tollgate.grpc_address)];
    let Some(gateway) = Gateway::deployed("api-keys.yaml", &ports).await else { return };
    let form = json!({ "caller": "acme", "scopes": ["hotels:read"] });
    let (key, _) = keeper.create(&form).await;
    assert!(key.starts_with("shop_"), "{key}");
    check_problem(&get(&gateway.caller, "/hotels/7", "shop_x").await, 401, INVALID);
    check_problem(&get(&gateway.caller, "/bookings/7", &key).await, 403, FORBIDDEN);
    check_problem(&get(&gateway.caller, "/other", &key).await, 403, FORBIDDEN);
    for status in [200, 200, 200, 200, 200, 429] {
        assert_eq!(get(&gateway.caller, "/hotels/7", &key).await.status, status);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_key_is_found_in_each_place_and_leaves_none_of_them() {
    let keeper = Keeper::start(POLICY, &Store::Embedded, &[]).await;
    let Some(gateway) = keeper.gateway().await else { return };
    let (key, _) = keeper.create(&json!({ "caller": "acme", "tier": "premium" })).await;
    let (bearer, cookie) = (format!("bearer {key}"), format!("a=1; api_key={key}; b=2"));
    let query = format!("/x?a=1&api_key={key}&b=2");
    for (path, headers) in [
        ("/x?a=1&b=2", vec![("x-api-key", key.as_str())]),
        ("/x?a=1&b=2", vec![("authorization", &bearer)]),
        (&query, vec![]),
        ("/x?a=1&b=2", vec![("cookie", &cookie)]),
        (&query, vec![("cookie", &cookie), ("authorization", &bearer), ("x-api-key", &key)]),
    ] {
        let answer = gateway.caller.get(path, &headers).await;
        let told = answer.json();
        assert_eq!(answer.status, 200, "{told}");
        assert_eq!((&told["x-caller"], answer.header("x-path")), (&json!("acme"), "/x?a=1&b=2"));
        assert!(!told.to_string().contains(&key), "{told}");
        if headers.iter().any(|(name, _)| *name == "cookie") {
            assert_eq!(told["cookie"], "a=1; b=2");
        }
    }
    // Something else after the scheme is no API key, and stays.
    let both = [("x-api-key", key.as_str()), ("authorization", "Bearer eyJhbGciOi.x.y")];
    let told = gateway.caller.get("/", &both).await.json();
    assert_eq!(told["authorization"], "Bearer eyJhbGciOi.x.y");
    let alone = gateway.caller.get("/", &both[1..]).await;
    check_problem(&alone, 401, INVALID);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_key_that_is_not_valid_is_refused_and_nobody_learns_why() {
    for store in Store::every() {
        let keeper = Keeper::start(POLICY, &store, &[]).await;
        let Some(gateway) = keeper.gateway().await else { return };
        let caller = &gateway.caller;
        let form = json!({ "caller": "acme", "tier": "premium" });
        let with = |field: &str, value: Value| {
            let mut form = form.clone();
            form[field] = value;
            form
        };
        let missing = caller.get("/", &[]).await;
        check_problem(&missing, 401, INVALID);
        assert_eq!(missing.header("www-authenticate"), "Bearer");

        let (deleted, id) = keeper.create(&form).await;
        assert_eq!(get(caller, "/", &deleted).await.status, 200);
        assert_eq!(keeper.call("DELETE", &format!("/{id}"), &Value::Null).await.status, 204);
        let (disabled, id) = keeper.create(&form).await;
        assert_eq!(get(caller, "/", &disabled).await.status, 200);
        keeper.patch(&id, &json!({ "disabled": true })).await;
        let soon = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(4);
        let (expired, _) = keeper.create(&with("expires_at", soon.to_string().into())).await;
        eventually("it expires", async || {
            (get(caller, "/", &expired).await.status == 401).then_some(())
        })
        .await;
        let (elsewhere, _) = keeper.create(&with("addresses", json!(["192.0.2.0/24"]))).await;
        let (embedded, _) = keeper.create(&with("origins", json!(["https://a.example"]))).await;
        let mut mistyped = deleted.clone();
        mistyped.replace_range(10..11, if &mistyped[10..11] == "x" { "y" } else { "x" });
        for wrong in [&deleted, &disabled, &expired, &elsewhere, &embedded, &mistyped, "tg_", "x"] {
            for _ in 0..2 {
                let answer = get(caller, "/", wrong).await;
                check_problem(&answer, 401, INVALID);
                assert_eq!(answer.body, missing.body);
            }
        }
        keeper.patch(&id, &json!({ "disabled": null })).await;
        assert_eq!(get(caller, "/", &disabled).await.status, 200);
        let page = [("x-api-key", embedded.as_str()), ("origin", "https://a.example")];
        assert_eq!(caller.get("/", &page).await.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scopes_and_tiers_open_routes() {
    let keeper = Keeper::start(POLICY, &Store::Embedded, &[]).await;
    let Some(gateway) = keeper.gateway().await else { return };
    let reader = json!({ "caller": "reader", "scopes": ["hotels:read"] });
    let (reader, _) = keeper.create(&reader).await;
    let booker = ["hotels:read", "hotels:book"];
    let booker = json!({ "caller": "booker", "scopes": booker, "tier": "premium" });
    let (booker, booker_id) = keeper.create(&booker).await;
    let post = async |key: &str| gateway.caller.post("/hotels/7", &[("x-api-key", key)], "").await;
    assert_eq!(get(&gateway.caller, "/hotels/7", &reader).await.status, 200);
    check_problem(&post(&reader).await, 403, FORBIDDEN);
    assert_eq!(post(&booker).await.status, 200);
    check_problem(&get(&gateway.caller, "/amadeus/x", &reader).await, 403, FORBIDDEN);
    assert_eq!(get(&gateway.caller, "/amadeus/x", &booker).await.status, 200);
    // A path with dots could be another route for the upstream.
    check_problem(&get(&gateway.caller, "/x/%2e%2e/amadeus/x", &reader).await, 403, FORBIDDEN);
    keeper.patch(&booker_id, &json!({ "tier": "free" })).await;
    check_problem(&post(&booker).await, 403, FORBIDDEN);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotated_api_key_is_valid_for_its_overlap() {
    for store in Store::every() {
        let keeper = Keeper::start(POLICY, &store, &[]).await;
        let Some(gateway) = keeper.gateway().await else { return };
        let (first, id) = keeper.create(&json!({ "caller": "acme", "tier": "premium" })).await;
        let rotate = async |body: Value| {
            let answer = keeper.call("POST", &format!("/{id}/rotate"), &body).await;
            assert_eq!(answer.status, 200, "{}", answer.json());
            answer.json()["api_key"].as_str().unwrap().to_owned()
        };
        let check = async |expected: &[(&str, u16)]| {
            for (key, status) in expected {
                let answer = get(&gateway.caller, "/", key).await;
                assert_eq!(answer.status, *status, "{}", answer.json());
            }
        };
        check(&[(&first, 200)]).await;
        let second = rotate(json!({ "overlap_s": 3600 })).await;
        check(&[(&first, 200), (&second, 200)]).await;
        let third = rotate(json!({})).await;
        check(&[(&first, 401), (&second, 401), (&third, 200)]).await;
        let shown = keeper.call("GET", &format!("/{id}"), &Value::Null).await.json();
        assert_eq!(shown["secrets"].as_array().unwrap().len(), 1, "{shown}");
        assert!(third.starts_with(shown["secrets"][0]["hint"].as_str().unwrap()), "{shown}");
        let headers = gateway.caller.get("/", &[("x-api-key", &third)]).await.json();
        assert_eq!(headers["x-key-id"], json!(id));
    }
}
