//! `config/recipes.md`: each recipe works as described, through a real Envoy and on every store.

mod contour;
mod places;
mod resources;
mod scene;

use std::fs;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::store::Store;
use crate::support::{eventually, tollgate};
use scene::{Ask, Parts, Scene, get};

const PAGE: &str = "config/recipes.md";

/// The sections of the page with a policy. Each has a test here.
const TITLES: [&str; 10] = [
    "Per IP address",
    "Per API key",
    "Login",
    "LLM tokens",
    "Monthly plan",
    "Allow-list",
    "Health checks",
    "Several windows",
    "Per route",
    "gRPC methods",
];

/// The parts of a recipe.
#[derive(Default)]
struct Recipe {
    policy: String,
    filters: Vec<Value>,
    /// Null if the routes have them.
    rate_limits: Value,
    routes: Option<Value>,
}

impl Recipe {
    /// Reads a section of the page.
    fn read(title: &str) -> Self {
        let mut recipe = Self::default();
        for block in blocks(&section(title)) {
            if block.starts_with("domain:") {
                recipe.policy = block;
                continue;
            }
            match yaml(&block) {
                Value::Array(filters) => recipe.filters.extend(filters),
                Value::Object(mut fields) => {
                    if let Some(rate_limits) = fields.remove("rate_limits") {
                        recipe.rate_limits = rate_limits;
                    } else if let Some(routes) = fields.remove("routes") {
                        recipe.routes = Some(routes);
                    } else {
                        assert!(fields.contains_key("rules"), "{title}: {block}");
                    }
                }
                _ => panic!("{title}: {block}"),
            }
        }
        recipe
    }

    /// Starts it with an Envoy; None if there is none here.
    async fn start(mut self, store: &Store) -> Option<Scene> {
        let domain = self.policy.lines().next().unwrap().trim_start_matches("domain: ");
        self.filters.push(scene::rate_limit(domain, &self.rate_limits));
        let routes = self.routes.unwrap_or_else(scene::every_path);
        let virtual_host = scene::virtual_host(&routes);
        let parts = Parts { filters: self.filters, virtual_host, cluster: scene::cluster() };
        Scene::start(&self.policy, store, parts).await
    }
}

/// Checks the requests of a recipe that pass, one kind after the other.
async fn check(title: &str, asks: &[Ask<'_>]) {
    for store in Store::every() {
        let Some(scene) = Recipe::read(title).start(&store).await else { return };
        for ask in asks {
            scene.check(ask).await;
        }
    }
}

/// The text of a section of the page.
fn section(title: &str) -> String {
    let page = fs::read_to_string(PAGE).unwrap();
    let (_, rest) = page.split_once(&format!("\n## {title}\n")).unwrap();
    rest.split("\n## ").next().unwrap().to_owned()
}

/// The fenced blocks in a text.
fn blocks(text: &str) -> Vec<String> {
    let fenced = text.split("```yaml\n").skip(1);
    fenced.map(|rest| rest.split("```").next().unwrap().to_owned()).collect()
}

fn yaml(text: &str) -> Value {
    serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

#[test]
fn every_recipe_has_a_policy_without_a_warning_and_a_test() {
    let folder = TempDir::new().unwrap();
    let page = fs::read_to_string(PAGE).unwrap();
    let titles: Vec<&str> = page.lines().filter_map(|line| line.strip_prefix("## ")).collect();
    assert_eq!(titles[1..], TITLES);
    for (index, title) in TITLES.iter().enumerate() {
        let policy = Recipe::read(title).policy;
        assert_ne!(policy, "", "{title}");
        fs::write(folder.path().join(format!("{index}.yaml")), policy).unwrap();
    }
    let mut check = tollgate::command();
    let output = check.args(["check", "--deny-warnings"]).arg(folder.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test]
async fn an_address_counts_by_itself_and_an_ipv6_prefix_as_one() {
    let asks = [
        get("/", &[("x-forwarded-for", "192.0.2.1")], 30, 31),
        get("/", &[("x-forwarded-for", "192.0.2.2")], 1, 1),
        get("/", &[("x-forwarded-for", "2001:db8:0:1::1")], 30, 30),
        get("/", &[("x-forwarded-for", "2001:db8:0:1::2")], 0, 1),
        get("/", &[("x-forwarded-for", "2001:db8:0:2::1")], 1, 1),
    ];
    check("Per IP address", &asks).await;
}

#[tokio::test]
async fn an_api_key_counts_by_itself_and_callers_without_one_by_address() {
    let asks = [
        get("/", &[("x-api-key", "a")], 20, 21),
        get("/", &[("x-api-key", "b")], 1, 1),
        get("/", &[], 5, 6),
        get("/", &[("x-forwarded-for", "192.0.2.1")], 1, 1),
        get("/", &[("x-api-key", "b")], 19, 20),
    ];
    check("Per API key", &asks).await;
}

#[tokio::test]
async fn a_login_counts_by_account_and_by_address() {
    const JSON: (&str, &str) = ("content-type", "application/json");
    const HERE: &[(&str, &str)] = &[JSON, ("x-forwarded-for", "192.0.2.1")];
    const THERE: &[(&str, &str)] = &[JSON, ("x-forwarded-for", "192.0.2.2")];
    let login = |headers, body, passed, sent| Ask {
        path: "/login",
        headers,
        body: Some(body),
        passed,
        sent,
    };
    let asks = [
        login(HERE, r#"{"username": "ann", "password": "a"}"#, 5, 6),
        login(THERE, r#"{"username": "ann", "password": "b"}"#, 0, 1),
        login(HERE, r#"{"username": "ben"}"#, 5, 5),
        login(HERE, r#"{"username": "cat"}"#, 5, 5),
        login(HERE, r#"{"username": "dan"}"#, 5, 5),
        // Twenty from here. The refused requests were not charged.
        login(HERE, r#"{"username": "eve"}"#, 0, 1),
        login(THERE, r#"{"username": "eve"}"#, 5, 6),
        // Without an account only the address counts, and other paths are free.
        login(THERE, "no JSON", 15, 16),
        get("/", HERE, 20, 20),
    ];
    check("Login", &asks).await;
}

#[tokio::test]
async fn tokens_are_charged_after_the_response() {
    for store in Store::every() {
        let Some(scene) = Recipe::read("LLM tokens").start(&store).await else { return };
        let ann = [("x-user-id", "ann"), ("x-use", "600")];
        let ask = get("/", &ann, 1, 1);
        scene.check(&ask).await;
        // The second response uses more than is left, counts in full, and exhausts the limit.
        eventually("the end of the tokens", async || {
            (scene.send(&ask).await.status == 429).then_some(())
        })
        .await;
        scene.check(&get("/", &[("x-user-id", "ben"), ("x-use", "1")], 20, 20)).await;
        scene.check(&get("/", &ann, 0, 1)).await;
    }
}

#[tokio::test]
async fn a_plan_has_an_amount_a_month_that_an_upgrade_raises() {
    let asks = [
        get("/", &[("x-user-id", "ann")], 10, 11),
        get("/", &[("x-user-id", "ann"), ("x-tier", "pro")], 10, 11),
        get("/", &[("x-user-id", "ben"), ("x-tier", "pro")], 20, 21),
        get("/", &[("x-user-id", "cat"), ("x-tier", "gold")], 10, 11),
    ];
    check("Monthly plan", &asks).await;
}

#[tokio::test]
async fn names_and_addresses_are_exempt_or_banned() {
    const INSIDE: (&str, &str) = ("x-forwarded-for", "10.1.2.3");
    let asks = [
        get("/", &[("x-user-id", "ann"), INSIDE], 5, 6),
        get("/", &[("x-user-id", "monitoring"), INSIDE], 40, 40),
        get("/", &[("x-user-id", "partner-a"), INSIDE], 15, 16),
        get("/", &[("x-user-id", "partner-b"), INSIDE], 1, 1),
        get("/", &[("x-user-id", "banned"), INSIDE], 0, 1),
        get("/", &[INSIDE], 40, 40),
        get("/", &[("x-forwarded-for", "192.0.2.1")], 25, 26),
        get("/", &[("x-user-id", "monitoring"), ("x-forwarded-for", "192.0.2.2")], 25, 26),
    ];
    check("Allow-list", &asks).await;
}

#[tokio::test]
async fn health_checks_are_never_limited() {
    let asks = [get("/healthz", &[], 20, 20), get("/", &[], 5, 6), get("/healthz", &[], 5, 5)];
    check("Health checks", &asks).await;
}

#[tokio::test]
async fn all_windows_hold_and_are_told() {
    for store in Store::every() {
        let Some(scene) = Recipe::read("Several windows").start(&store).await else { return };
        let ask = get("/", &[("x-user-id", "ann")], 10, 11);
        scene.check(&ask).await;
        let refused = scene.send(&ask).await;
        for (name, remaining) in [("burst", 0), ("hourly", 290), ("daily", 1_990)] {
            let reported = refused.header("ratelimit");
            assert!(reported.contains(&format!("\"{name}\";r={remaining}")), "{name}: {reported}");
            assert!(refused.header("ratelimit-policy").contains(name), "{refused:?}");
        }
    }
}

#[tokio::test]
async fn each_route_has_limits_of_its_own() {
    let asks = [
        get("/search", &[("x-user-id", "ann")], 10, 11),
        get("/search/deeper?page=2", &[("x-user-id", "ann")], 0, 1),
        get("/export", &[("x-user-id", "ann")], 2, 3),
        get("/searching", &[("x-user-id", "ann")], 20, 20),
        get("/search", &[("x-user-id", "ben")], 1, 1),
    ];
    check("Per route", &asks).await;
}

#[tokio::test]
async fn grpc_methods_count_by_themselves_and_refusals_say_so() {
    const HEADERS: &[(&str, &str)] = &[("x-user-id", "ann"), ("content-type", "application/grpc")];
    for store in Store::every() {
        let Some(scene) = Recipe::read("gRPC methods").start(&store).await else { return };
        let check = async |path: &str, passed: usize, sent: usize| {
            let ask = Ask { path, headers: HEADERS, body: Some(""), passed, sent };
            let mut statuses = Vec::new();
            for _ in 0..sent {
                let answer = scene.send(&ask).await;
                assert_eq!(answer.status, 200, "{answer:?}");
                statuses.push(answer.header("grpc-status").to_owned());
            }
            let (first, last) = statuses.split_at(passed);
            assert!(first.iter().all(String::is_empty), "{path}: {statuses:?}");
            assert!(last.iter().all(|status| status == "8"), "{path}: {statuses:?}");
        };
        check("/shop.v1.Orders/Create", 3, 4).await;
        check("/shop.v1.Orders/List", 10, 11).await;
        check("/shop.v1.Orders/Get", 1, 1).await;
        check("/shop.v1.Carts/Create", 20, 20).await;
    }
}

/// The policy, filter and routes of a test that is not of the page.
async fn scene_of(policy: &str, rate_limits: &Value, virtual_host: Value) -> Option<Scene> {
    let filters = vec![scene::rate_limit("test", rate_limits)];
    let parts = Parts { filters, virtual_host, cluster: scene::cluster() };
    Scene::start(policy, &Store::Embedded, parts).await
}

/// The typed configuration of a route.
fn per_route(rate_limits: &Value) -> Value {
    json!({ "envoy.filters.http.ratelimit": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.ratelimit.v3.RateLimitPerRoute",
        "rate_limits": rate_limits,
    } })
}
