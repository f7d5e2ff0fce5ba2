//! Scopes and tiers that the policy knows, and others.

use serde_json::json;

use super::checker::Checker;
use super::scene::{Keeper, POLICY};
use crate::support::eventually;
use crate::support::store::Store;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_scope_or_tier_is_refused_with_the_known_ones() {
    let policy = POLICY.replace("other_routes: allow", "other_routes: allow\n  scopes: [reports]");
    let keeper = Keeper::start(&policy, &Store::Embedded, &[]).await;
    let both = json!({ "caller": "acme", "scopes": ["hotels:read", "reports"], "tier": "free" });
    let (_, id) = keeper.create(&both).await;
    for (change, detail) in [
        (
            json!({ "scopes": ["reports", "hotel:read"] }),
            "scopes.1: unknown scope `hotel:read`; did you mean `hotels:read`? \
             The policy has hotels:book, hotels:read, reports",
        ),
        (
            json!({ "tier": "gold" }),
            "tier: unknown tier `gold`; use one of free, premium, enterprise",
        ),
    ] {
        let mut form = change.clone();
        form["caller"] = "acme".into();
        for answer in [
            keeper.call("POST", "", &form).await,
            keeper.call("PATCH", &format!("/{id}"), &change).await,
        ] {
            let told = answer.json()["detail"].as_str().unwrap().to_owned();
            assert_eq!(answer.status, 422, "{told}");
            assert!(told.starts_with(detail), "{told}");
        }
    }
    // Without any scope in the policy, they are for upstreams.
    let keeper = Keeper::start("{domain: d, api_keys: {}}", &Store::Embedded, &[]).await;
    keeper.create(&json!({ "caller": "acme", "scopes": ["anything"] })).await;
}

/// An API key with a scope and a tier that the policy has lost can still be disabled.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_that_loses_a_scope_or_a_tier_keeps_nobody_from_disabling_an_api_key() {
    let keeper = Keeper::start(POLICY, &Store::Embedded, &[]).await;
    let form = json!({ "caller": "acme", "scopes": ["hotels:book"], "tier": "enterprise" });
    let (key, id) = keeper.create(&form).await;
    let checker = Checker::of(&keeper.tollgate, "192.0.2.1").await;
    assert_eq!(checker.status(&key).await, 200);
    let fewer = "{domain: gate, tiers: [free], api_keys: {scopes: [other]}}";
    keeper.tollgate.edit(fewer);
    eventually("the policy is in force", async || {
        let answer = keeper.call("POST", "", &form).await;
        (answer.status == 422).then_some(())
    })
    .await;
    keeper.patch(&id, &json!({ "disabled": true })).await;
    assert_eq!(checker.status(&key).await, 401);
}
