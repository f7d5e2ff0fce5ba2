//! Files that add to policies by xDS: through a real Envoy, and while either side changes.

use std::fs;
use std::path::{Path, PathBuf};

use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_response::Code;
use envoy_types::pb::ratelimit::config::ratelimit::v3::{RateLimitConfig, RateLimitUnit};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::ads::{Ads, domain, limit, rule};
use crate::support::client::{Http, request};
use crate::support::eventually;
use crate::support::gateway::{Gateway, tcp};
use crate::support::store::Store;
use crate::support::tollgate::{Tollgate, command};

const LISTENER: &str = "default/eg/http";
/// Both key and value of its descriptor.
const ROUTE: &str = "httproute/default/shop/rule/0/match/0/shop_example_com";
const KEY: &str = "rule-0-match-0";

/// A route with a limit for each value of a header, as Envoy Gateway sends it.
fn sent(amount: u32) -> RateLimitConfig {
    let users = limit(KEY, "", amount, RateLimitUnit::Hour);
    domain(LISTENER, vec![rule(ROUTE, ROUTE, vec![users])])
}

/// An overlay with a limit of a day for free callers.
fn overlay(free: u32) -> String {
    include_str!("../../config/overlays/shop.yaml")
        .replace("free: 20/day", &format!("free: {free}/day"))
}

/// A folder with one overlay.
struct Overlays(TempDir);

impl Overlays {
    fn new(text: &str) -> Self {
        let overlays = Self(TempDir::new().unwrap());
        overlays.edit(text);
        overlays
    }

    fn file(&self) -> PathBuf {
        self.0.path().join("shop.yaml")
    }

    fn path(&self) -> &str {
        self.0.path().to_str().unwrap()
    }

    /// Replaces it, like an editor: by a rename.
    fn edit(&self, text: &str) {
        let draft = self.0.path().join("draft");
        fs::write(&draft, text).unwrap();
        fs::rename(draft, self.file()).unwrap();
    }
}

async fn served(ads: &Ads, overlays: &Overlays, flags: &[&str]) -> Tollgate {
    let server = ads.address.to_string();
    let own = ["--policy-source", "xds", "--xds-server", &server, "--xds-retry-min", "50ms"];
    let over = ["--xds-retry-max", "200ms", "--policy-overlays", overlays.path()];
    let own = [&own[..], &over, flags].concat();
    Tollgate::serve_with("ignored: true", &Store::Embedded, &own).await
}

async fn ask(tollgate: &Tollgate, user: &str) -> Code {
    let mut client = tollgate.client().await;
    let entries = [(ROUTE, ROUTE), (KEY, user)];
    let asked = client.should_rate_limit(request(LISTENER, &[&entries])).await;
    asked.map_or(Code::Unknown, |answer| answer.into_inner().overall_code())
}

async fn get(tollgate: &Tollgate, path: &str) -> String {
    Http::new().get(&format!("http://{}{path}", tollgate.http_address), &[]).await.text()
}

/// The overlay as `/policy` has it, once it is in this state.
async fn is_in_state(tollgate: &Tollgate, state: &str) -> Value {
    let found = eventually(&format!("the state {state}"), async || {
        let policy: Value = serde_json::from_str(&get(tollgate, "/policy").await).unwrap();
        let overlay = policy["overlays"][0].clone();
        (overlay["state"] == state).then_some(overlay)
    })
    .await;
    let metric = format!("tollgate_policy_overlays{{state=\"{state}\"}} 1");
    assert!(get(tollgate, "/metrics").await.contains(&metric), "no {metric}");
    found
}

#[tokio::test]
async fn an_overlay_adds_to_what_envoy_gateway_sent_and_edits_of_both_are_live() {
    let ads = Ads::start().await;
    ads.send("1", &[sent(4)]);
    let overlays = Overlays::new(&overlay(2));
    let tollgate = served(&ads, &overlays, &[]).await;
    ads.accepted("1").await;
    let route = json!({ "generic_key": { "descriptor_key": ROUTE, "descriptor_value": ROUTE } });
    let header = |name: &str, key: &str| {
        json!({ "request_headers":
            { "header_name": name, "descriptor_key": key, "skip_if_absent": true } })
    };
    let limits = json!([{ "actions": [route, header("x-user", KEY), header("x-tier", "tier")] }]);
    let config = include_str!("../support/gateway.yaml");
    let config = config.replace("domain: gate", &format!("domain: {LISTENER}"));
    let gateway = Gateway::of(&config, &limits, &[tcp(tollgate.grpc_address)]).await;
    let Some(gateway) = gateway else { return };
    let ask = async |user: &str| gateway.caller.get("/", &[("x-user", user)]).await;
    assert_eq!((ask("a").await.status, ask("a").await.status), (200, 200));
    let refused = ask("a").await;
    assert_eq!(refused.status, 429);
    let shown = refused.header("x-ratelimit-limit");
    assert!(shown.contains("2;w=86400;name=\"daily\""), "{shown}");
    // A paid caller has the 4 of the resource.
    let mut statuses = Vec::new();
    for _ in 0..5 {
        let headers = [("x-user", "b"), ("x-tier", "paid")];
        statuses.push(gateway.caller.get("/", &headers).await.status);
    }
    assert_eq!(statuses, [200, 200, 200, 200, 429]);
    // The counts are kept when the overlay is edited, when the resource is, and without the overlay.
    overlays.edit(&overlay(3));
    eventually("the edit", async || (ask("a").await.status == 200).then_some(())).await;
    assert_eq!(ask("a").await.status, 429);
    overlays.edit(&overlay(9));
    ads.send("2", &[sent(5)]);
    ads.accepted("2").await;
    eventually("both", async || get(&tollgate, "/policy").await.contains("9/day").then_some(()))
        .await;
    assert_eq!(
        (ask("a").await.status, ask("a").await.status, ask("a").await.status),
        (200, 200, 429)
    );
    fs::remove_file(overlays.file()).unwrap();
    eventually("no overlay", async || {
        (!get(&tollgate, "/policy").await.contains("daily")).then_some(())
    })
    .await;
    assert_eq!(ask("a").await.status, 429, "the 5 of the resource are spent");
}

#[tokio::test]
async fn an_overlay_waits_for_its_resource_and_outlives_it() {
    let ads = Ads::start().await;
    let overlays = Overlays::new(&overlay(1));
    let tollgate = served(&ads, &overlays, &["--start-without-policies"]).await;
    assert_eq!(ask(&tollgate, "a").await, Code::Unknown);
    ads.send("1", &[domain("other", Vec::new())]);
    ads.accepted("1").await;
    let waiting = is_in_state(&tollgate, "waiting").await;
    let message = waiting["problems"][0]["message"].as_str().unwrap();
    assert!(message.contains("no resource of the domain `default/eg/http`"), "{waiting}");
    assert_eq!(ask(&tollgate, "a").await, Code::Ok, "an unknown domain has no limits");
    ads.send("2", &[sent(9)]);
    ads.accepted("2").await;
    let in_force = is_in_state(&tollgate, "in_force").await;
    assert_eq!((&in_force["rules"], &in_force["domain"]), (&json!(2), &json!(LISTENER)));
    assert_eq!(ask(&tollgate, "a").await, Code::Ok);
    assert_eq!(ask(&tollgate, "a").await, Code::OverLimit);
    ads.send("3", &[]);
    ads.accepted("3").await;
    is_in_state(&tollgate, "waiting").await;
    ads.send("4", &[sent(9)]);
    ads.accepted("4").await;
    is_in_state(&tollgate, "in_force").await;
    assert_eq!(ask(&tollgate, "a").await, Code::OverLimit, "the count is kept");
}

#[tokio::test]
async fn a_broken_overlay_blocks_nothing_and_is_told() {
    let ads = Ads::start().await;
    ads.send("1", &[sent(1)]);
    let overlays = Overlays::new("domain: default/eg/http\nlimit: 1\n");
    let tollgate = served(&ads, &overlays, &[]).await;
    ads.accepted("1").await;
    let rejected = is_in_state(&tollgate, "rejected").await;
    assert_eq!(rejected["problems"][0]["line"], 2, "{rejected}");
    assert_eq!(ask(&tollgate, "a").await, Code::Ok);
    assert_eq!(ask(&tollgate, "a").await, Code::OverLimit);
    overlays.edit(&overlay(0));
    is_in_state(&tollgate, "in_force").await;
    assert_eq!(ask(&tollgate, "b").await, Code::OverLimit);
    // A broken edit leaves what was in force, also if the resource changes.
    let conflict = overlay(0).replace("rate: sent,", "rate: sent, name: x,");
    overlays.edit(&conflict);
    let kept = is_in_state(&tollgate, "kept").await;
    assert_eq!(kept["problems"][0]["line"], 10, "{kept}");
    ads.send("2", &[sent(5)]);
    ads.accepted("2").await;
    is_in_state(&tollgate, "kept").await;
    assert_eq!(ask(&tollgate, "b").await, Code::OverLimit);
    let output = tollgate.output();
    assert!(output.contains("`name` can't change a limit of the resource"), "{output}");
    assert!(output.contains("^^^"), "an excerpt\n{output}");
    assert!(ads.requests().iter().all(|request| request.error_detail.is_none()));
}

#[tokio::test]
async fn an_edit_of_the_overlay_is_live_while_the_server_sends_nonsense() {
    let ads = Ads::start().await;
    ads.send("1", &[sent(9)]);
    let overlays = Overlays::new(&overlay(0));
    let tollgate = served(&ads, &overlays, &[]).await;
    ads.accepted("1").await;
    assert_eq!(ask(&tollgate, "a").await, Code::OverLimit);
    ads.send("2", &[domain(LISTENER, vec![rule("", "x", Vec::new())])]);
    ads.rejected(0).await;
    let answers = ads.requests().len();
    overlays.edit(&overlay(1));
    eventually("the edit", async || {
        get(&tollgate, "/policy").await.contains("\"1/day\"").then_some(())
    })
    .await;
    let policy: Value = serde_json::from_str(&get(&tollgate, "/policy").await).unwrap();
    assert_eq!(policy["version"], "1", "the last good set");
    assert_eq!(ask(&tollgate, "a").await, Code::Ok);
    assert_eq!(ask(&tollgate, "a").await, Code::OverLimit);
    let metrics = get(&tollgate, "/metrics").await;
    assert!(metrics.contains("tollgate_policy_rejected 1"), "the set is still rejected");
    assert_eq!(ads.requests().len(), answers, "the server is answered once");
    ads.send("3", &[sent(0)]);
    ads.accepted("3").await;
    assert!(get(&tollgate, "/metrics").await.contains("tollgate_policy_rejected 0"));
}

#[tokio::test]
async fn files_that_can_not_be_read_leave_the_overlay() {
    let ads = Ads::start().await;
    ads.send("1", &[sent(9)]);
    let overlays = Overlays::new(&overlay(0));
    let tollgate = served(&ads, &overlays, &[]).await;
    ads.accepted("1").await;
    assert_eq!(ask(&tollgate, "a").await, Code::OverLimit);
    fs::write(overlays.0.path().join("bytes"), [0xff, 0xfe]).unwrap();
    fs::rename(overlays.0.path().join("bytes"), overlays.0.path().join("b.yaml")).unwrap();
    eventually("an error", async || {
        tollgate.output().contains("the overlays stay as they were: ").then_some(())
    })
    .await;
    let unreadable = "tollgate_policy_overlays{state=\"unreadable\"} 1";
    assert!(get(&tollgate, "/metrics").await.contains(unreadable));
    ads.send("2", &[sent(8)]);
    ads.accepted("2").await;
    assert_eq!(ask(&tollgate, "a").await, Code::OverLimit);
}

/// Runs a command on the example of the documentation. Its code and output.
fn run(arguments: &[&str]) -> (i32, String) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let output = command().args(arguments).current_dir(root).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8(text).unwrap())
}

#[test]
fn check_and_explain_say_which_part_came_from_where() {
    let files = ["config/overlays/sent", "--overlay", "config/overlays/shop.yaml"];
    let (code, text) = run(&[&["check"], &files[..]].concat());
    assert_eq!((code, text.trim()), (0, "2 files, 1 domain: no errors, no warnings"));
    let entries = format!("{ROUTE}={ROUTE},{KEY}=alice");
    let explain = ["explain", files[0], LISTENER, files[1], files[2], &entries];
    let (code, text) = run(&explain);
    assert_eq!(code, 0, "{text}");
    for place in [
        "config/overlays/sent/shop.yaml:8, with the overlay in config/overlays/shop.yaml:10",
        "config/overlays/shop.yaml:11, with the overlay in config/overlays/shop.yaml:7",
    ] {
        assert!(text.contains(place), "no {place} in\n{text}");
    }
    let (_, json) = run(&[&explain[..], &["-o", "json"]].concat());
    let report: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(report["limits"][1]["said"]["rate"], "config/overlays/shop.yaml:11", "{json}");
    // What waits is a warning, and what is wrong an error.
    let folder = Overlays::new("domain: elsewhere\n");
    let (code, text) = run(&["check", files[0], "--overlay", folder.path()]);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("this waits: there is no resource of the domain `elsewhere`"), "{text}");
    folder.edit("domain: default/eg/http\nmode: shadow\n");
    for command in [&["check", files[0]][..], &["explain", files[0], LISTENER, "a=b"]] {
        let (code, text) = run(&[command, &["--overlay", folder.path()]].concat());
        assert_eq!(code, 1, "{text}");
        assert!(text.contains("`mode` would change the limits of the resource"), "{text}");
    }
}

/// What an overlay and a resource say together can be wrong at a place of the resource.
#[tokio::test]
async fn a_mistake_of_an_overlay_at_a_place_of_the_resource_leaves_its_text_before_in_force() {
    let ads = Ads::start().await;
    ads.send("1", &[sent(9)]);
    let overlays = Overlays::new(&overlay(0));
    let tollgate = served(&ads, &overlays, &[]).await;
    ads.accepted("1").await;
    overlays.edit(&format!("{}qualifiers: [{ROUTE}]\n", overlay(0)));
    is_in_state(&tollgate, "kept").await;
    assert_eq!(ask(&tollgate, "a").await, Code::OverLimit);
    let output = tollgate.output();
    let line = output.lines().find(|line| line.contains("file=\"xds:")).unwrap();
    assert!(line.contains("ERROR"), "{output}");
    assert!(output.contains("^^^"), "an excerpt\n{output}");
}
