//! API keys in each place of a request, written in ways that servers read differently.

use serde_json::{Value, json};

use super::scene::{Keeper, POLICY};
use super::{INVALID, check_problem};
use crate::support::store::Store;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_occurrence_of_an_api_key_is_removed_and_nothing_else() {
    let policy = POLICY.replace("api_keys:\n", "api_keys:\n  required: false\n");
    let keeper = Keeper::start(&policy, &Store::Embedded, &[]).await;
    let Some(gateway) = keeper.gateway().await else { return };
    let (key, _) = keeper.create(&json!({ "caller": "acme", "tier": "premium" })).await;
    let twice = format!("/x?a=1&api_key=&api_key={key}&b=%20");
    let escaped = format!("/x?%61pi_key={key}&a=1&b=%20");
    let cookie = format!("pref=a,b; c=d=e; api_key=; flag; api_key={key}");
    for (path, headers, expected) in [
        (&*twice, vec![], Value::Null),
        (&escaped, vec![], Value::Null),
        ("/x?a=1&b=%20", vec![("cookie", &*cookie)], json!("pref=a,b; c=d=e; flag")),
    ] {
        let answer = gateway.caller.get(path, &headers).await;
        let told = answer.json();
        assert_eq!((answer.status, &told["x-caller"]), (200, &json!("acme")), "{path}: {told}");
        assert_eq!((answer.header("x-path"), &told["cookie"]), ("/x?a=1&b=%20", &expected));
        assert!(!told.to_string().contains(&key), "{told}");
    }
    let (header, cookie) =
        (format!("Bearer abc,Bearer {key}"), format!("api_key=x; api_key={key}"));
    let query = format!("/x?api_key=x&api_key={key}");
    for (path, headers) in [
        (&*query, vec![]),
        ("/x", vec![("cookie", &*cookie)]),
        ("/x", vec![("authorization", &*header)]),
        ("/x", vec![("x-api-key", &*key), ("x-api-key", "x")]),
    ] {
        check_problem(&gateway.caller.get(path, &headers).await, 401, INVALID);
    }
    let told = gateway.caller.get("/x", &[("authorization", "Bearer abc")]).await.json();
    assert_eq!((&told["x-caller"], &told["authorization"]), (&Value::Null, &json!("Bearer abc")));
}
