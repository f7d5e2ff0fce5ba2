//! API keys that would never work, or do more than was meant, are not made.

use serde_json::{Value, json};

use super::checker::Checker;
use super::scene::{Keeper, POLICY};
use crate::support::store::Store;
use crate::support::tollgate::command;

async fn count(keeper: &Keeper) -> usize {
    keeper.call("GET", "", &Value::Null).await.json()["items"].as_array().unwrap().len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_or_dates_in_the_past_are_refused_with_their_value() {
    for store in Store::every() {
        let keeper = Keeper::start(POLICY, &store, &[]).await;
        for (field, value, detail) in [
            (
                "expires_at",
                json!("2020-01-01"),
                "expires_at: `2020-01-01` is in the past: it is 20",
            ),
            (
                "expires_at",
                json!("2020-01-01T12:00:00+02:00"),
                "expires_at: `2020-01-01T12:00:00+02:00`",
            ),
            ("expires_at", json!(""), "expires_at: invalid date ``"),
            (
                "expires_at",
                json!("9999-12-31"),
                "expires_at: invalid date `9999-12-31`; use one from",
            ),
            (
                "when",
                json!({ "dates": ["2001-01-01", "2001-12-24..2002-01-06"] }),
                "when.dates: `2001-01-01, 2001-12-24..2002-01-06` is in the past",
            ),
            ("when", json!({ "weekdays": [] }), "when: it has no condition"),
            ("when", json!({ "weekdays": [""] }), "when.weekdays.0: unknown weekday ``"),
            ("when", json!({ "hours": [""] }), "when.hours.0: invalid hours ``"),
            ("when", json!({}), "when: it has no condition"),
            ("scopes", json!([""]), "scopes.0: a scope is empty"),
        ] {
            let mut form = json!({ "caller": "acme" });
            form[field] = value.clone();
            let answer = keeper.call("POST", "", &form).await;
            let told = answer.json()["detail"].as_str().unwrap().to_owned();
            assert!(answer.status == 422 && told.starts_with(detail), "{form}: {told}");
        }
        assert_eq!(count(&keeper).await, 0);

        let (key, id) =
            keeper.create(&json!({ "caller": "acme", "expires_at": "2099-12-31" })).await;
        let past = json!({ "expires_at": "2020-01-01" });
        let answer = keeper.call("PATCH", &format!("/{id}"), &past).await;
        let told = answer.json()["detail"].as_str().unwrap().to_owned();
        assert_eq!(answer.status, 422, "{told}");
        assert!(told.ends_with("; to end the API key now, disable or delete it"), "{told}");
        let checker = Checker::of(&keeper.tollgate, "192.0.2.1").await;
        assert_eq!(checker.status(&key).await, 200);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_key_that_could_make_no_request_is_refused() {
    let policy = POLICY.replace("other_routes: allow", "other_routes: deny");
    let policy =
        policy.replace("    - { path: '/amadeus/{*rest}', tiers: [premium, enterprise] }\n", "");
    let keeper = Keeper::start(&policy, &Store::Embedded, &[]).await;
    let (_, id) = keeper.create(&json!({ "caller": "acme", "scopes": ["hotels:read"] })).await;
    let none = json!({ "scopes": [] });
    for answer in [
        keeper.call("POST", "", &json!({ "caller": "acme" })).await,
        keeper.call("POST", "", &json!({ "caller": "acme", "scopes": ["hotels:book"] })).await,
        keeper.call("PATCH", &format!("/{id}"), &none).await,
    ] {
        let told = answer.json()["detail"].as_str().unwrap().to_owned();
        let expected = "scopes: the API key could make no request, since each route needs other scopes; \
                        the policy has hotels:book, hotels:read";
        assert_eq!((answer.status, &*told), (422, expected));
    }
}

/// A variable of a shell that is not set must not make an API key without a restriction.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_flag_makes_no_api_key() {
    let keeper = Keeper::start(POLICY, &Store::Embedded, &[]).await;
    let url = format!("http://{}", keeper.tollgate.http_address);
    let run = |arguments: &[&str]| {
        command().arg("keys").args(arguments).args(["--api-url", &url]).output().unwrap()
    };
    for flag in
        ["weekdays", "hours", "timezone", "scope", "address", "origin", "tier", "expires", "name"]
    {
        for empty in ["", " "] {
            let output = run(&["create", "acme", &format!("--{flag}"), empty]);
            let told = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(2), "--{flag}: {told}");
            assert!(told.contains(&format!("--{flag}")) && told.contains("leave it out"), "{told}");
        }
    }
    assert_eq!(run(&["create", ""]).status.code(), Some(2));
    assert_eq!(count(&keeper).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotation_needs_no_body() {
    let keeper = Keeper::start(POLICY, &Store::Embedded, &[]).await;
    let (first, id) = keeper.create(&json!({ "caller": "acme" })).await;
    let answer = keeper.call("POST", &format!("/{id}/rotate"), &Value::Null).await;
    assert_eq!(answer.status, 200, "{}", answer.json());
    let checker = Checker::of(&keeper.tollgate, "192.0.2.1").await;
    let second = answer.json()["api_key"].as_str().unwrap().to_owned();
    assert_eq!((checker.status(&first).await, checker.status(&second).await), (401, 200));
    // What has required fields tells that the body is missing.
    let answer = keeper.call("POST", "", &Value::Null).await;
    let told = answer.json()["detail"].as_str().unwrap().to_owned();
    assert_eq!((answer.status, &*told), (400, "the body is empty; it must be a JSON object"));
    // The operations on quotas have defaults for all of their fields, too.
    let described = keeper
        .http
        .get(&format!("http://{}/v1/openapi.json", keeper.tollgate.http_address), &[])
        .await;
    let paths = described.json()["paths"].as_object().unwrap().clone();
    let optional =
        paths.iter().filter(|(_, path)| path["post"]["requestBody"]["required"] == false);
    let optional: Vec<&str> = optional.map(|(path, _)| path.as_str()).collect();
    let mut expected = [
        "/v1/api-keys/{id}/rotate",
        "/v1/callers/{name}/quota/consume",
        "/v1/callers/{name}/quota/release",
        "/v1/callers/{name}/quota/reset",
        "/v1/callers/{name}/quota/validate",
        "/v1/callers/{name}/reservations",
        "/v1/callers/{name}/reservations/{id}/extend",
    ];
    expected.sort_unstable();
    assert_eq!(optional, expected);
    for operation in ["consume", "release", "reset", "validate"] {
        let url =
            format!("http://{}/v1/callers/acme/quota/{operation}", keeper.tollgate.http_address);
        assert_eq!(keeper.http.post(&url, &[], "").await.status, 200, "{operation}");
    }
}
