//! Renders `api_keys` of a domain as JSON for `/policy`.

use serde_json::{Value, json};

use crate::policy::model::{
    ApiKeyHeaders, ApiKeyOutage, ApiKeyPlace, ApiKeyPolicy, ApiKeyRoute, Classes,
};

/// How a domain checks API keys.
pub fn describe_api_keys(classes: &Classes, policy: &ApiKeyPolicy) -> Value {
    let ApiKeyHeaders { caller, tier, scopes, key_id } = &policy.headers;
    let route = |route: &ApiKeyRoute| {
        let tiers = route.tiers.as_ref().map(|tiers| {
            tiers.iter().filter_map(|tier| classes.tiers.get(*tier)).collect::<Vec<_>>()
        });
        json!({
            "path": route.path, "methods": route.methods, "scopes": route.scopes, "tiers": tiers,
        })
    };
    json!({
        "prefix": policy.prefix,
        "from": policy.places.iter().map(describe_place).collect::<Value>(),
        "forward": policy.forwards,
        "required": policy.is_required,
        "headers": { "caller": caller, "tier": tier, "scopes": scopes, "key_id": key_id },
        "routes": policy.routes.routes().iter().map(route).collect::<Value>(),
        "scopes": policy.other_scopes,
        "other_routes": if policy.routes.allows_others() { "allow" } else { "deny" },
        "charge": policy.charges,
        "trusted_proxies": policy.trusted_proxies,
        "on_outage": match policy.on_outage {
            ApiKeyOutage::Deny => "deny",
            ApiKeyOutage::Cached => "cached",
        },
        "unknown_keys": { "amount": policy.unknown_max, "window_ms": policy.unknown_window_ms },
    })
}

fn describe_place(place: &ApiKeyPlace) -> Value {
    match place {
        ApiKeyPlace::Header(header) => json!({ "header": header.name, "scheme": header.scheme }),
        ApiKeyPlace::Query(name) => json!({ "query": name }),
        ApiKeyPlace::Cookie(name) => json!({ "cookie": name }),
    }
}
