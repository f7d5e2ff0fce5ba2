//! The resources for Contour: all of their fields are valid, and the Envoy configuration that Contour makes of them limits as
//! intended. Contour itself does not run here.

use std::fs;

use serde_json::{Value, json};

use super::scene::{self, Parts, Scene, get};
use super::yaml;
use crate::support::fields::check_fields;
use crate::support::store::Store;

const CONTOUR: &str = "deploy/contour/contour.yaml";

/// The `rate_limits` of a global policy, as `GlobalRateLimits` of Contour's `internal/envoy/v3/ratelimit.go` makes them.
fn rate_limits(policy: &Value) -> Value {
    let action = |entry: &Value| match entry.as_object().unwrap().iter().next().unwrap() {
        (kind, entry) if kind == "requestHeader" => json!({ "request_headers": {
            "header_name": entry["headerName"], "descriptor_key": entry["descriptorKey"] } }),
        (kind, entry) if kind == "genericKey" => json!({ "generic_key": {
            "descriptor_key": entry["key"], "descriptor_value": entry["value"] } }),
        (kind, _) => panic!("{kind}"),
    };
    let rate_limit = |descriptor: &Value| {
        let entries = descriptor["entries"].as_array().unwrap();
        json!({ "actions": entries.iter().map(action).collect::<Vec<_>>() })
    };
    policy["descriptors"].as_array().unwrap().iter().map(rate_limit).collect()
}

/// The filter, as `GlobalRateLimitFilter` there makes it, with more time on a busy machine.
fn filter(service: &Value) -> Value {
    let mut filter = json!({ "name": "envoy.filters.http.ratelimit", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.ratelimit.v3.RateLimit",
        "domain": service["domain"],
        "rate_limit_service": {
            "transport_api_version": "V3",
            "grpc_service": { "envoy_grpc": { "cluster_name": "tollgate" } },
        },
        "rate_limited_as_resource_exhausted": service["enableResourceExhaustedCode"],
    } });
    if service["enableXRateLimitHeaders"] == true {
        filter["typed_config"]["enable_x_ratelimit_headers"] = json!("DRAFT_VERSION_03");
    }
    scene::be_patient(&mut filter);
    filter
}

#[tokio::test]
async fn contours_filter_and_routes_limit_as_the_policy_says() {
    let text = fs::read_to_string(CONTOUR).unwrap();
    let documents: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap();
    let [extension, config, proxy] = &documents[..] else { panic!("{documents:?}") };
    [extension, proxy].into_iter().for_each(check_fields);
    let names = ["namespace", "name"].map(|key| extension["metadata"][key].as_str().unwrap());
    let service = &yaml(config["data"]["contour.yaml"].as_str().unwrap())["rateLimitService"];
    assert_eq!(service["extensionService"], names.join("/"));
    assert_eq!(extension["spec"]["services"][0], json!({ "name": "tollgate", "port": 8081 }));

    let mut virtual_host = json!({ "name": "all", "domains": ["*"] });
    let default = rate_limits(&service["defaultGlobalRateLimitPolicy"]);
    virtual_host["rate_limits"] = default;
    let routes = proxy["spec"]["routes"].as_array().unwrap().iter().map(|route| {
        let mut action = json!({ "cluster": "upstream" });
        let global = &route["rateLimitPolicy"]["global"];
        if global.is_object() {
            action["rate_limits"] = rate_limits(global);
        }
        json!({ "match": { "prefix": route["conditions"][0]["prefix"] }, "route": action })
    });
    virtual_host["routes"] = routes.collect();

    let parts = Parts { filters: vec![filter(service)], virtual_host, cluster: scene::cluster() };
    let policy = fs::read_to_string("config/policies/hotels.yaml").unwrap();
    let Some(scene) = Scene::start(&policy, &Store::Embedded, parts).await else { return };
    scene.check(&get("/booking", &[("x-user-id", "ann")], 10, 11)).await;
    let other = scene.send(&get("/", &[("x-user-id", "ann")], 1, 1)).await;
    assert_eq!((other.status, other.header("x-ratelimit-remaining")), (200, "989"));
}
