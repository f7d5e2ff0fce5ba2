//! API keys in each place of a request, written in ways that servers read differently.

use serde_json::{Value, json};

use super::scene::{Keeper, POLICY, filtering};
use super::{FORBIDDEN, INVALID, check_problem, get};
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

/// What Envoy is told is text. So the upstream gets the API key rather than other bytes than the client has sent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cookie_of_other_bytes_hides_no_api_key() {
    let keeper = Keeper::start(POLICY, &Store::Embedded, &[]).await;
    let (key, _) = keeper.create(&json!({ "caller": "acme", "tier": "premium" })).await;
    let raw = json!({ "encode_raw_headers": true });
    for (fields, is_raw) in [(json!({}), false), (raw, true)] {
        let gateway = filtering(&[&keeper.tollgate], &json!([]), &fields).await;
        let Some(gateway) = gateway else { return };
        let cookie = [&b"pref=\xff\xe9; api_key="[..], key.as_bytes(), b"; b=2"].concat();
        let told = gateway.caller.get_with_bytes("/x", "cookie", &cookie).await;
        let cookies = told.json()["cookie"].as_str().unwrap().to_owned();
        assert_eq!((told.status, &told.json()["x-caller"]), (200, &json!("acme")), "{cookies}");
        match is_raw {
            true => assert_eq!(cookies, cookie.escape_ascii().to_string()),
            false => assert_eq!(cookies, "pref=!!; b=2"),
        }
        // Text of any language passes as it is, without the API key.
        let cookie = format!("pref=ñ; api_key={key}; b=2");
        let told = gateway.caller.get_with_bytes("/x", "cookie", cookie.as_bytes()).await;
        assert_eq!((told.status, &told.json()["cookie"]), (200, &json!("pref=ñ; b=2")));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_escaped_api_key_in_the_query_is_the_same_one() {
    let keeper = Keeper::start(POLICY, &Store::Embedded, &[]).await;
    let Some(gateway) = keeper.gateway().await else { return };
    let (key, _) = keeper.create(&json!({ "caller": "acme", "tier": "premium" })).await;
    let escaped: String = key.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let answer = gateway.caller.get(&format!("/x?a=1&api%5Fkey={escaped}&b=%20"), &[]).await;
    assert_eq!((answer.status, answer.header("x-path")), (200, "/x?a=1&b=%20"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slash_at_the_end_of_the_path_leads_around_no_route() {
    for others in ["allow", "deny"] {
        let policy = POLICY.replace("other_routes: allow", &format!("other_routes: {others}"));
        let routes = "  routes:\n    - { path: /admin, tiers: [enterprise] }\n    - { path: '/files/', scopes: [hotels:read] }\n";
        let policy = policy.replace("  routes:\n", routes);
        let keeper = Keeper::start(&policy, &Store::Embedded, &[]).await;
        let Some(gateway) = keeper.gateway().await else { return };
        let (plain, _) = keeper.create(&json!({ "caller": "acme", "tier": "premium" })).await;
        let all = json!({ "caller": "acme", "tier": "enterprise", "scopes": ["hotels:read"] });
        let (all, _) = keeper.create(&all).await;
        for path in
            ["/admin", "/admin/", "/admin/?a=/b", "/files", "/files/", "/hotels", "/hotels/"]
        {
            check_problem(&get(&gateway.caller, path, &plain).await, 403, FORBIDDEN);
            assert_eq!(get(&gateway.caller, path, &all).await.status, 200, "{path}");
        }
        check_problem(&get(&gateway.caller, "/admin//", &all).await, 403, FORBIDDEN);
    }
}
