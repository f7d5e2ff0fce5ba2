//! Limits that the check of an API key charges, without a rate limit filter; and API keys of an erased caller.

use axum::http::Request;
use bytes::Bytes;
use http_body_util::Full;
use serde_json::json;

use super::checker::Checker;
use super::scene::{Keeper, POLICY, limiting};
use crate::support::store::Store;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_check_charges_the_limits_of_the_caller_and_of_the_api_key() {
    for store in Store::every() {
        let policy = POLICY.replace("api_keys:", "api_keys:\n  charge: true");
        let policy =
            policy.replace("domain: gate", "domain: gate\nanswer: { headers: [ratelimit] }");
        let keeper = Keeper::start(&policy, &store, &[]).await;
        let Some(gateway) = limiting(&[&keeper.tollgate], &json!([])).await else { return };
        let (key, _) = keeper.create(&json!({ "caller": "acme" })).await;
        let (other, _) = keeper.create(&json!({ "caller": "acme" })).await;
        let get = async |key: &str| gateway.caller.get("/", &[("x-api-key", key)]).await;
        let first = get(&key).await;
        assert_eq!((first.status, &first.json()["x-caller"]), (200, &json!("acme")));
        assert!(first.header("ratelimit").contains("r=2"), "{:?}", first.headers);
        // Its own limit never has a hit, whatever the caller's has in use.
        let (never, _) = keeper.create(&json!({ "caller": "acme", "limits": ["0/total"] })).await;
        let refused = get(&never).await;
        assert_eq!((refused.status, refused.headers.get("retry-after")), (429, None));
        for (key, status) in [(&other, 200), (&key, 200), (&key, 429), (&other, 429)] {
            assert_eq!(get(key).await.status, status);
        }
        let refused = get(&key).await;
        assert!(refused.header("retry-after").parse::<u64>().unwrap() > 0);
        assert_eq!(get("tg_x").await.status, 401);
        let url = format!("http://{}/v1/callers/acme/quota", keeper.tollgate.http_address);
        let quota = keeper.http.get(&url, &[]).await.json();
        assert_eq!(quota["items"][0]["used"], 3, "{quota}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_erased_caller_has_no_api_keys() {
    for store in Store::every() {
        let keeper = Keeper::start(POLICY, &store, &[]).await;
        let checker = Checker::of(&keeper.tollgate, "192.0.2.1").await;
        let (key, _) = keeper.create(&json!({ "caller": "acme" })).await;
        keeper.create(&json!({ "caller": "acme" })).await;
        let (other, _) = keeper.create(&json!({ "caller": "bob" })).await;
        assert_eq!(checker.status(&key).await, 200);
        let url = format!("http://{}/v1/callers/acme/erase", keeper.tollgate.http_address);
        let request = Request::post(url).body(Full::new(Bytes::new())).unwrap();
        let answer = keeper.http.send(request).await;
        assert_eq!((answer.status, &answer.json()["api_keys"]), (200, &json!(2)));
        assert_eq!((checker.status(&key).await, checker.status(&other).await), (401, 200));
    }
}
