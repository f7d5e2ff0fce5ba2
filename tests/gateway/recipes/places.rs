//! The places of `rate_limits` in Envoy, and the requests that Envoy never limits, as described on the page of recipes.

use serde_json::{Value, json};

use super::scene::{Scene, get};
use super::{per_route, scene, scene_of};
use crate::support::eventually;

/// Ten in all, for all callers.
const TEN: &str = "domain: test\ndescriptors: [{ key: place, limits: [10/minute] }]";

/// The places of a list.
#[derive(Clone, Copy, Debug)]
enum Place {
    Filter,
    PerRoute,
    PerVirtualHost,
    Route,
    VirtualHost,
}

impl Place {
    const EVERY: [Self; 5] =
        [Self::Filter, Self::PerRoute, Self::PerVirtualHost, Self::Route, Self::VirtualHost];

    /// Starts an Envoy with the list in this place.
    async fn scene(self, rate_limits: &Value) -> Option<Scene> {
        let mut virtual_host = scene::virtual_host(&scene::every_path());
        let mut filter = Value::Null;
        match self {
            Self::Filter => filter = rate_limits.clone(),
            Self::PerRoute => {
                virtual_host["routes"][0]["typed_per_filter_config"] = per_route(rate_limits);
            }
            Self::PerVirtualHost => {
                virtual_host["typed_per_filter_config"] = per_route(rate_limits);
            }
            Self::Route => virtual_host["routes"][0]["route"]["rate_limits"] = rate_limits.clone(),
            Self::VirtualHost => virtual_host["rate_limits"] = rate_limits.clone(),
        }
        scene_of(TEN, &filter, virtual_host).await
    }

    /// How many of ten hits a request spends that should spend five.
    fn hits_of_five(self) -> usize {
        match self {
            Self::Filter | Self::PerRoute | Self::PerVirtualHost => 5,
            Self::Route | Self::VirtualHost => 1,
        }
    }
}

fn descriptor(more: &Value) -> Value {
    let mut descriptor = json!({ "actions": [{ "generic_key": { "descriptor_key": "place", "descriptor_value": "here" } }] });
    for (name, value) in more.as_object().unwrap() {
        descriptor[name] = value.clone();
    }
    json!([descriptor])
}

#[tokio::test]
async fn hits_addend_works_in_the_filter_and_its_typed_configuration_alone() {
    let list = descriptor(&json!({ "hits_addend": { "number": 5 } }));
    for place in Place::EVERY {
        let Some(scene) = place.scene(&list).await else { return };
        scene.check(&get("/", &[], 10 / place.hits_of_five(), 12)).await;
    }
}

/// In every place the descriptor is sent after the response, so all requests pass; but their cost differs.
#[tokio::test]
async fn after_the_response_hits_addend_works_in_the_same_places_alone() {
    let list = descriptor(&json!({ "hits_addend": { "number": 5 }, "apply_on_stream_done": true }));
    for place in Place::EVERY {
        let Some(scene) = place.scene(&list).await else { return };
        scene.check(&get("/", &[], 12, 12)).await;
        let decided = eventually("twelve charges", async || {
            let decided = scene.decided().await;
            (decided.values().sum::<usize>() == 12).then_some(decided)
        })
        .await;
        assert_eq!(decided["ok"], 10 / place.hits_of_five(), "{place:?} {decided:?}");
    }
}

/// The entry of each place names it, and a limit matches only that name.
#[tokio::test]
async fn the_first_place_that_has_a_list_is_the_one_that_counts() {
    let policy = "domain: test\ndescriptors:\n\
        - { key: route, limits: [1/minute] }\n- { key: host, limits: [2/minute] }\n\
        - { key: filter, limits: [3/minute] }\n- { key: typed, limits: [4/minute] }\n";
    let list = |key: &str| json!([{ "actions": [{ "generic_key": { "descriptor_key": key, "descriptor_value": "x" } }] }]);
    let route =
        |path: &str| json!({ "match": { "prefix": path }, "route": { "cluster": "upstream" } });
    let (mut own, mut both, mut typed) = (route("/own"), route("/both"), route("/typed"));
    own["route"]["rate_limits"] = list("route");
    both["route"]["rate_limits"] = list("route");
    both["route"]["include_vh_rate_limits"] = json!(true);
    typed["route"]["rate_limits"] = list("route");
    typed["typed_per_filter_config"] = per_route(&list("typed"));
    let mut host = scene::virtual_host(&json!([own, both, typed, route("/")]));
    host["rate_limits"] = list("host");

    let Some(scene) = scene_of(policy, &Value::Null, host.clone()).await else { return };
    scene.check(&get("/", &[], 1, 1)).await;
    scene.check(&get("/both", &[], 1, 2)).await;
    // The host's two are spent, and so is the route's own one.
    scene.check(&get("/", &[], 0, 1)).await;
    scene.check(&get("/own", &[], 0, 1)).await;
    scene.check(&get("/typed", &[], 4, 5)).await;

    let Some(scene) = scene_of(policy, &list("filter"), host).await else { return };
    scene.check(&get("/own", &[], 3, 4)).await;
    scene.check(&get("/", &[], 0, 1)).await;
    scene.check(&get("/typed", &[], 4, 5)).await;
}

#[tokio::test]
async fn answers_of_the_gateway_itself_are_never_limited() {
    let routes = json!([
        { "match": { "path": "/direct" }, "direct_response": { "status": 200 } },
        { "match": { "path": "/moved" }, "redirect": { "path_redirect": "/" } },
        { "match": { "path": "/served" }, "route": { "cluster": "upstream" } },
    ]);
    let nothing = TEN.replace("10/minute", "0/minute");
    let list = descriptor(&json!({}));
    let Some(scene) = scene_of(&nothing, &list, scene::virtual_host(&routes)).await else { return };
    for (path, status) in [("/direct", 200), ("/moved", 301), ("/unknown", 404), ("/served", 429)] {
        assert_eq!(scene.send(&get(path, &[], 0, 1)).await.status, status, "{path}");
    }
}

#[tokio::test]
async fn an_action_that_finds_nothing_drops_its_descriptor_or_its_entry() {
    let policy = "domain: test\ndescriptors:\n\
        - { key: user, limits: [1/minute], descriptors: [{ key: plan, limits: [2/minute] }] }\n";
    let list = |skip: bool| {
        json!([{ "actions": [
            { "request_headers": { "header_name": "x-user", "descriptor_key": "user" } },
            { "request_headers": { "header_name": "x-plan", "descriptor_key": "plan", "skip_if_absent": skip } },
        ] }])
    };
    for (skip, passed) in [(false, 12), (true, 1)] {
        let host = scene::virtual_host(&scene::every_path());
        let Some(scene) = scene_of(policy, &list(skip), host).await else { return };
        scene.check(&get("/", &[("x-user", "ann")], passed, 12)).await;
        scene.check(&get("/", &[("x-user", "ann"), ("x-plan", "a")], 2, 3)).await;
        scene.check(&get("/", &[], 12, 12)).await;
    }
}
