//! The resources for Istio and Envoy Gateway: all of their fields are valid, and their Envoy configuration limits as
//! intended. Neither Istio nor Envoy Gateway runs here.

use std::fs;

use serde_json::{Value, json};

use super::scene::{Parts, Scene, get};
use super::{PAGE, TITLES, blocks, scene, section, yaml};
use crate::support::fields::check_fields;
use crate::support::store::Store;

const ISTIO: &str = "deploy/istio/envoyfilter.yaml";
const ISTIO_SIDECAR: &str = "deploy/istio/sidecar.yaml";
const ENVOY_GATEWAY: &str = "deploy/envoy-gateway/patch.yaml";

/// The recipes for which Envoy Gateway needs no limit.
const WITHOUT_RULES: [&str; 1] = ["Health checks"];

fn documents(path: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(&fs::read_to_string(path).unwrap()).unwrap()
}

/// What an EnvoyFilter adds or merges.
fn patch(resource: &Value, applied: &str) -> Value {
    let patches = resource["spec"]["configPatches"].as_array().unwrap();
    let patch = patches.iter().find(|patch| patch["applyTo"] == applied).unwrap();
    patch["patch"]["value"].clone()
}

/// Runs a filter and a cluster with `config/policies/hotels.yaml`, and a route whose configuration is given.
async fn scene(filter: &Value, cluster: &Value, booking: &Value) -> Option<Scene> {
    let policy = fs::read_to_string("config/policies/hotels.yaml").unwrap();
    let mut filter = filter.clone();
    scene::be_patient(&mut filter);
    let mut route =
        json!({ "match": { "prefix": "/booking" }, "route": { "cluster": "upstream" } });
    for (name, value) in booking.as_object().into_iter().flatten() {
        route[name] = value.clone();
    }
    let routes = json!([route, scene::every_path()[0]]);
    let virtual_host = scene::virtual_host(&routes);
    let parts = Parts { filters: vec![filter], virtual_host, cluster: cluster.clone() };
    Scene::start(&policy, &Store::Embedded, parts).await
}

#[test]
fn the_rules_for_envoy_gateway_have_fields_that_there_are() {
    let page = fs::read_to_string(PAGE).unwrap();
    let frame = blocks(&page).into_iter().find(|block| block.contains("BackendTrafficPolicy"));
    let frame = yaml(&frame.unwrap());
    check_fields(&frame);
    for title in TITLES {
        let rules = blocks(&section(title)).into_iter().find(|block| block.starts_with("rules:"));
        assert_eq!(rules.is_none(), WITHOUT_RULES.contains(&title), "{title}");
        let Some(rules) = rules else { continue };
        let mut policy = frame.clone();
        policy["spec"]["rateLimit"]["global"]["rules"] = yaml(&rules)["rules"].clone();
        check_fields(&policy);
    }
}

#[tokio::test]
async fn istios_filter_and_route_limit_as_the_policy_says() {
    let documents = documents(ISTIO);
    documents.iter().for_each(check_fields);
    let (filter, cluster) = (patch(&documents[0], "HTTP_FILTER"), patch(&documents[0], "CLUSTER"));
    let booking = patch(&documents[1], "HTTP_ROUTE");
    let Some(scene) = scene(&filter, &cluster, &booking).await else { return };
    scene.check(&get("/booking", &[("x-user-id", "ann")], 10, 11)).await;
    let other = scene.send(&get("/", &[("x-user-id", "ann")], 1, 1)).await;
    assert_eq!((other.status, other.header("x-ratelimit-remaining")), (200, "989"));
}

#[tokio::test]
async fn the_filter_of_istios_sidecar_limits_as_the_policy_says() {
    let documents = documents(ISTIO_SIDECAR);
    documents.iter().for_each(check_fields);
    let (filter, cluster) = (patch(&documents[0], "HTTP_FILTER"), patch(&documents[0], "CLUSTER"));
    let endpoint = &cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"];
    let address = &endpoint["address"]["socket_address"];
    assert_eq!(*address, json!({ "address": "127.0.0.1", "port_value": 8081 }));
    let Some(scene) = scene(&filter, &cluster, &Value::Null).await else { return };
    let answer = scene.send(&get("/", &[("x-user-id", "ann")], 1, 1)).await;
    assert_eq!((answer.status, answer.header("x-ratelimit-remaining")), (200, "999"));
}

#[tokio::test]
async fn the_patch_of_envoy_gateway_limits_as_the_policy_says() {
    let documents = documents(ENVOY_GATEWAY);
    documents.iter().for_each(check_fields);
    let value =
        |index: usize| documents[0]["spec"]["jsonPatches"][index]["operation"]["value"].clone();
    let Some(scene) = scene(&value(0), &value(1), &Value::Null).await else { return };
    let answer = scene.send(&get("/", &[("x-user-id", "ann")], 1, 1)).await;
    assert_eq!((answer.status, answer.header("x-ratelimit-remaining")), (200, "999"));
}

#[test]
fn a_field_that_there_is_not_is_found() {
    let policy = json!({
        "apiVersion": "gateway.envoyproxy.io/v1alpha1",
        "kind": "BackendTrafficPolicy",
        "spec": { "rateLimit": { "global": { "rules": [{ "limit": { "request": 1 } }] } } },
    });
    let found = std::panic::catch_unwind(|| check_fields(&policy));
    assert!(found.is_err());
}
