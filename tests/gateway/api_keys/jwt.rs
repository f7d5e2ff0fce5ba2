//! API keys and JWTs side by side, and a caller that moves from one to the other.

use std::fs;

use serde_json::json;

use super::scene::Keeper;
use super::{INVALID, check_problem};
use crate::gateway::travel::token::{Identity, Issuer, unsigned_token};
use crate::support::gateway::Gateway;
use crate::support::store::Store;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_moves_from_a_jwt_to_an_api_key_and_keeps_its_count() {
    for store in Store::every() {
        let policy = fs::read_to_string("config/policies/api-keys.yaml").unwrap();
        let policy = policy.replace("api_keys:\n", "api_keys:\n  required: false\n");
        let keeper = Keeper::start(&policy, &store, &[]).await;
        let issuer = Issuer::new();
        let identity = Identity::start(&issuer).await;
        let ports = [(8081, keeper.tollgate.grpc_address), (8002, identity.address)];
        let Some(gateway) = Gateway::deployed("api-keys-jwt.yaml", &ports).await else { return };
        let claims = json!({ "aud": "shop", "sub": "acme", "tier": "free" });
        let jwt = format!("Bearer {}", issuer.token(&claims));
        let (key, id) =
            keeper.create(&json!({ "caller": "acme", "scopes": ["hotels:read"] })).await;
        let (jwt, key) = (("authorization", jwt.as_str()), ("x-api-key", key.as_str()));
        let spoofed = [("x-caller", "root"), ("x-tier", "enterprise")];
        let get = async |headers: &[(&str, &str)]| {
            let headers = [headers, &spoofed].concat();
            gateway.caller.get("/hotels/7", &headers).await
        };
        // Five requests a minute, by either.
        for header in [jwt, key, jwt, key] {
            let answer = get(&[header]).await;
            assert_eq!(answer.status, 200, "{}", answer.text());
            let told = answer.json();
            assert_eq!(told["x-caller"], "acme", "{told}");
            assert_eq!(told["x-tier"], "free", "{told}");
            assert_eq!(told["x-api-key"], json!(null), "{told}");
        }
        // With both, the API key counts.
        assert_eq!(get(&[jwt, key]).await.status, 200);
        for header in [jwt, key] {
            assert_eq!(get(&[header]).await.status, 429);
        }

        // Neither, or one that is wrong.
        let other = Issuer::new().token(&claims);
        let wrong = [
            issuer.token(&json!({ "aud": "travel", "sub": "acme" })),
            other,
            unsigned_token(&claims),
        ];
        for token in wrong {
            let bearer = format!("Bearer {token}");
            let status = get(&[("authorization", &bearer)]).await.status;
            // Envoy answers 403 to a token for somebody else.
            assert!([401, 403].contains(&status), "{status} {token}");
        }
        assert_eq!(get(&[]).await.status, 401);
        check_problem(&get(&[("x-api-key", "shop_x"), jwt]).await, 401, INVALID);

        // The API key ends, and the JWT is as good as before.
        keeper.call("DELETE", &format!("/{id}"), &serde_json::Value::Null).await;
        assert_eq!(get(&[key]).await.status, 401);
        let claims = json!({ "aud": "shop", "sub": "bob", "tier": "premium" });
        let bob = format!("Bearer {}", issuer.token(&claims));
        let told = get(&[("authorization", &bob)]).await;
        assert_eq!((told.status, &told.json()["x-tier"]), (200, &json!("premium")));
    }
}

/// `routes` are for API keys. For JWTs the filter `rbac` of the example says the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_jwt_may_do_is_decided_by_its_claims() {
    let policy = fs::read_to_string("config/policies/api-keys.yaml").unwrap();
    let policy = policy.replace("api_keys:\n", "api_keys:\n  required: false\n");
    let keeper = Keeper::start(&policy, &Store::Embedded, &[]).await;
    let issuer = Issuer::new();
    let identity = Identity::start(&issuer).await;
    let ports = [(8081, keeper.tollgate.grpc_address), (8002, identity.address)];
    let Some(gateway) = Gateway::deployed("api-keys-jwt.yaml", &ports).await else { return };
    let jwt = |tier: &str| {
        let claims = json!({ "aud": "shop", "sub": format!("user-{tier}"), "tier": tier });
        format!("Bearer {}", issuer.token(&claims))
    };
    let key = async |tier: &str| {
        let scopes = ["hotels:read", "hotels:book"];
        let caller = format!("program-{tier}");
        keeper.create(&json!({ "caller": caller, "tier": tier, "scopes": scopes })).await.0
    };
    for (tier, statuses) in [
        ("free", [200, 403, 403, 403, 403]),
        ("premium", [200, 200, 200, 403, 403]),
        ("premium-plus", [200, 403, 403, 403, 403]),
    ] {
        let bearer = jwt(tier);
        let mut credentials = vec![("authorization", bearer)];
        if tier != "premium-plus" {
            credentials.push(("x-api-key", key(tier).await));
        }
        for (name, value) in &credentials {
            let header = (*name, value.as_str());
            let spoofed = [header, ("x-caller", "root"), ("x-tier", "enterprise")];
            let paths = ["/hotels/7", "/bookings/7", "/amadeus/x", "/admin/x", "/other"];
            for (path, status) in paths.into_iter().zip(statuses) {
                let answer = gateway.caller.get(path, &spoofed).await;
                assert_eq!(answer.status, status, "{tier} {name} {path}: {}", answer.text());
            }
            let posted = gateway.caller.post("/hotels/7", &spoofed, "").await;
            assert_eq!(posted.status, 403, "{tier} {name}");
        }
    }
}
