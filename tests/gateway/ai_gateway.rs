//! Quotas of Envoy AI Gateway: its resources by xDS, and a real Envoy that asks before a request and debits the tokens when
//! the stream is done, as AI Gateway configures it.

use std::fs;

use envoy_types::pb::ratelimit::config::ratelimit::v3::{
    RateLimitConfig, RateLimitDescriptor, RateLimitUnit,
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::support::ads::{Ads, domain, limit, rule};
use crate::support::ask::DomainClient;
use crate::support::client::{Answer, Http};
use crate::support::eventually;
use crate::support::gateway::{Gateway, tcp};
use crate::support::store::Store;
use crate::support::tollgate::Tollgate;

const DOMAIN: &str = "ai-gateway-quota";
const NODE: &str = "envoy-ai-gateway-ratelimit";
const BACKEND: &str = "backend_name";
const MODEL: &str = "model_name_override";

/// A quota for a model at each backend.
fn quotas(backends: &[(&str, u32)]) -> RateLimitConfig {
    let of = |(backend, tokens): &(&str, u32)| {
        let quota = RateLimitDescriptor {
            quota_mode: true,
            ..limit(MODEL, "gpt", *tokens, RateLimitUnit::Day)
        };
        rule(BACKEND, backend, vec![quota])
    };
    domain(DOMAIN, backends.iter().map(of).collect())
}

async fn served(ads: &Ads, store: &Store, flags: &[&str]) -> Tollgate {
    let server = ads.address.to_string();
    let own = ["--policy-source", "xds", "--xds-server", &server, "--xds-node-id", NODE];
    let own = [&own[..], &["--start-without-policies"], flags].concat();
    Tollgate::serve_with("ignored: true", store, &own).await
}

/// Actions of Envoy that end a descriptor: of the one before the request, and of the debit.
struct Actions {
    ask: Vec<Value>,
    debit: Vec<Value>,
}

/// An Envoy whose filter asks for each backend before the request, and debits the used one afterwards.
async fn gateway(tollgates: &[&Tollgate], backends: &[&str]) -> Option<Gateway> {
    gateway_of(tollgates, backends, &[Actions { ask: Vec::new(), debit: Vec::new() }]).await
}

/// The same with a descriptor of each backend for each of these `rules`. Filters before it set the metadata that AI Gateway's
/// processor sets: of headers of the request, and of the answer.
async fn gateway_of(
    tollgates: &[&Tollgate],
    backends: &[&str],
    rules: &[Actions],
) -> Option<Gateway> {
    let generic = |key: &str, value: &str| json!({ "generic_key": { "descriptor_key": key, "descriptor_value": value } });
    let metadata = |key: &str, name: &str| {
        json!({ "metadata": { "descriptor_key": key, "source": "DYNAMIC", "metadata_key":
            { "key": "io.envoy.ai_gateway", "path": [{ "key": name }] } } })
    };
    let asks = backends.iter().flat_map(|backend| {
        let base = [generic(BACKEND, backend), generic(MODEL, "gpt")];
        rules.iter().map(move |rule| {
            let actions = [&base[..], &rule.ask].concat();
            json!({ "actions": actions })
        })
    });
    let base = [metadata(BACKEND, "ai_service_backend_name"), metadata(MODEL, MODEL)];
    let debits = rules.iter().map(|rule| {
        let actions = [&base[..], &rule.debit].concat();
        json!({
            "actions": actions,
            "hits_addend": { "format": "%DYNAMIC_METADATA(io.envoy.ai_gateway:quota_cost)%" },
            "apply_on_stream_done": true
        })
    });
    let limits: Value = asks.chain(debits).collect();
    let at = |name: &str| format!("type.googleapis.com/envoy.extensions.filters.http.{name}");
    let named = |header: &str, key: &str| {
        json!({ "header": header, "on_header_present":
            { "metadata_namespace": "io.envoy.ai_gateway", "key": key, "type": "STRING" } })
    };
    let request = json!({
        "name": "envoy.filters.http.header_to_metadata",
        "typed_config": {
            "@type": at("header_to_metadata.v3.Config"),
            "request_rules": [named("x-backend", "ai_service_backend_name"), named("x-model", MODEL)]
        }
    });
    let cost = json!({ "metadata_namespace": "io.envoy.ai_gateway", "key": "quota_cost", "type": "NUMBER" });
    let selectors = json!([{ "key": "usage" }, { "key": "total_tokens" }]);
    let response = json!({
        "name": "envoy.filters.http.json_to_metadata",
        "typed_config": {
            "@type": at("json_to_metadata.v3.JsonToMetadata"),
            "response_rules": { "rules": [{ "selectors": selectors, "on_present": cost }] }
        }
    });
    let config = include_str!("../support/gateway.yaml")
        .replace("domain: gate", &format!("domain: {DOMAIN}"));
    let place = "                  - name: envoy.filters.http.ratelimit\n";
    assert_eq!(config.matches(place).count(), 1);
    let indent = " ".repeat(18);
    let config =
        config.replace(place, &format!("{indent}- {request}\n{indent}- {response}\n{place}"));
    let sidecars: Vec<Value> = tollgates.iter().map(|one| tcp(one.grpc_address)).collect();
    Gateway::of(&config, &limits, &sidecars).await
}

/// Requests an answer of 31 tokens from a backend.
async fn ask(gateway: &Gateway, backend: &str) -> Answer {
    let headers = [("x-backend", backend), ("x-model", "gpt"), ("x-total-tokens", "31")];
    gateway.caller.get("/v1/chat/completions", &headers).await
}

/// Waits until the quota of a backend has so many tokens left.
async fn left(client: &mut DomainClient, backend: &str, left: u32) {
    let descriptor = format!("{BACKEND}={backend},{MODEL}=gpt");
    eventually(&format!("{left} tokens left"), async || {
        (client.remaining_unsettled(&[&*descriptor]).await == [left]).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_quota_is_asked_before_and_debited_when_the_stream_is_done() {
    for store in Store::every() {
        let ads = Ads::start().await;
        let tollgate = served(&ads, &store, &[]).await;
        ads.send("1", &[quotas(&[("default/openai", 100)])]);
        ads.accepted("1").await;
        assert_eq!(ads.requests()[0].node.as_ref().unwrap().id, NODE);
        let Some(gateway) = gateway(&[&tollgate], &["default/openai"]).await else { return };
        let mut client = DomainClient::new(&tollgate, DOMAIN).await;
        // Each request costs 1, and its 31 tokens afterwards.
        for rest in [68, 36, 4, 0] {
            assert_eq!(ask(&gateway, "default/openai").await.status, 200);
            left(&mut client, "default/openai", rest).await;
        }
        assert_eq!(ask(&gateway, "default/openai").await.status, 429);
        assert_eq!(gateway.upstream.served(), 4);
    }
}

#[tokio::test]
async fn a_request_passes_while_any_of_its_backends_has_quota() {
    let ads = Ads::start().await;
    let tollgate = served(&ads, &Store::Embedded, &[]).await;
    ads.send("1", &[quotas(&[("default/first", 30), ("default/second", 60)])]);
    ads.accepted("1").await;
    let backends = ["default/first", "default/second"];
    let Some(gateway) = gateway(&[&tollgate], &backends).await else { return };
    let mut client = DomainClient::new(&tollgate, DOMAIN).await;
    assert_eq!(ask(&gateway, "default/first").await.status, 200);
    left(&mut client, "default/first", 0).await;
    // The first is used up. The second had 1 of each request, too.
    for rest in [27, 0] {
        assert_eq!(ask(&gateway, "default/second").await.status, 200);
        left(&mut client, "default/second", rest).await;
    }
    assert_eq!(ask(&gateway, "default/second").await.status, 429);
}

/// config/ai-gateway.md says how far a quota may be exceeded.
#[tokio::test]
async fn requests_at_once_exceed_a_quota_by_their_answers() {
    for store in Store::every() {
        let ads = Ads::start().await;
        let tollgate = served(&ads, &store, &[]).await;
        ads.send("1", &[quotas(&[("default/openai", 100)])]);
        ads.accepted("1").await;
        let mut client = DomainClient::new(&tollgate, DOMAIN).await;
        let descriptor = format!("{BACKEND}=default/openai,{MODEL}=gpt");
        for _ in 0..10 {
            assert!(client.ask(&[&*descriptor], 1).await.passed);
        }
        // 41, 72, and 103 of 100; the other 217 tokens have been spent, and are not counted.
        for _ in 0..10 {
            client.debit(&[&*descriptor], 31).await;
        }
        let url = format!("http://{}/metrics", tollgate.http_address);
        let metrics = Http::new().get(&url, &[]).await.text();
        let refused =
            metrics.lines().find(|line| line.starts_with("tollgate_refused_debits_total{"));
        assert!(refused.is_some_and(|line| line.ends_with(" 7")), "{refused:?}");
        assert!(!client.ask(&[&*descriptor], 1).await.passed);
    }
}

/// How many of 20 requests at once reach the model, and how many tokens of the quota of 100 are left after their answers of 31.
async fn at_once(store: &Store, overlay: Option<&str>, sidecars: usize) -> Option<(usize, u32)> {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("quotas.yaml");
    fs::write(&file, overlay.unwrap_or("domain: other")).unwrap();
    let overlays = ["--policy-overlays", file.to_str().unwrap()];
    let mut tollgates = Vec::new();
    for _ in 0..sidecars {
        let ads = Ads::start().await;
        let tollgate = served(&ads, store, &overlays).await;
        ads.send("1", &[quotas(&[("default/openai", 100)])]);
        ads.accepted("1").await;
        tollgates.push((ads, tollgate));
    }
    let all: Vec<&Tollgate> = tollgates.iter().map(|(_, tollgate)| tollgate).collect();
    let gateway = gateway(&all, &["default/openai"]).await?;
    let mut tasks = JoinSet::new();
    for _ in 0..20 {
        let caller = gateway.caller.clone();
        tasks.spawn(async move {
            let of = [("x-backend", "default/openai"), ("x-model", "gpt")];
            let headers = [&of[..], &[("x-total-tokens", "31"), ("x-held", "1")]].concat();
            caller.get("/v1/chat/completions", &headers).await.status
        });
    }
    // The refused ones are answered. The others wait for the model, which nobody has paid for yet.
    let refused = if overlay.is_some() { 17 } else { 0 };
    for _ in 0..refused {
        assert_eq!(tasks.join_next().await.unwrap().unwrap(), 429);
    }
    eventually("the others wait", async || {
        (gateway.upstream.served() == 20 - refused).then_some(())
    })
    .await;
    gateway.upstream.release();
    let passed = tasks.join_all().await;
    assert!(passed.iter().all(|status| *status == 200), "{passed:?}");
    let mut client = DomainClient::new(all[0], DOMAIN).await;
    let rest = 100_u32.saturating_sub(32 * u32::try_from(passed.len()).unwrap());
    left(&mut client, "default/openai", rest).await;
    Some((passed.len(), rest))
}

/// The only YAML of config/ai-gateway.md with that text.
fn yaml_of_page(with: &str) -> String {
    let page = fs::read_to_string("config/ai-gateway.md").unwrap();
    let texts = page.split("```yaml\n").map(|part| part.split("```").next().unwrap());
    let mut texts = texts.filter(|text| text.contains(with));
    let text = texts.next().unwrap().to_owned();
    assert!(texts.next().is_none() && text.matches(with).count() == 1, "{with}");
    text
}

/// The overlay with an `estimate` in config/ai-gateway.md, for answers of that many tokens.
fn estimate_overlay(tokens: u64) -> String {
    let text = yaml_of_page("hits: 500, for: 5m");
    text.replace("hits: 500", &format!("hits: {tokens}"))
}

/// config/ai-gateway.md says how far a quota may be exceeded.
#[tokio::test]
async fn an_estimate_bounds_what_requests_at_once_can_spend() {
    let overlay = estimate_overlay(31);
    for store in Store::every() {
        let Some(without) = at_once(&store, None, 1).await else { return };
        assert_eq!(without, (20, 0), "620 tokens of 100");
    }
    for store in Store::every() {
        let sidecars = if matches!(store, Store::Embedded) { 1 } else { 2 };
        let with = at_once(&store, Some(&overlay), sidecars).await;
        assert_eq!(with, Some((3, 4)), "93 tokens of 100, whichever sidecar decided and debited");
    }
}

/// config/ai-gateway.md says what becomes of estimates at backends that were not used.
#[tokio::test]
async fn an_estimate_at_an_unused_backend_lapses() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("quotas.yaml");
    fs::write(&file, estimate_overlay(31).replace("for: 5m", "for: 6s")).unwrap();
    let ads = Ads::start().await;
    let overlays = ["--policy-overlays", file.to_str().unwrap()];
    let tollgate = served(&ads, &Store::Embedded, &overlays).await;
    ads.send("1", &[quotas(&[("default/first", 100), ("default/second", 100)])]);
    ads.accepted("1").await;
    let backends = ["default/first", "default/second"];
    let Some(gateway) = gateway(&[&tollgate], &backends).await else { return };
    let mut client = DomainClient::new(&tollgate, DOMAIN).await;
    assert_eq!(ask(&gateway, "default/first").await.status, 200);
    left(&mut client, "default/first", 68).await;
    // 1, and 31 for a while.
    left(&mut client, "default/second", 68).await;
    left(&mut client, "default/second", 99).await;
}

/// A quota of 150 tokens with the overlay of config/ai-gateway.md for tokens that requests state: 60 at most, 10 without. Keep
/// its sources while it serves.
async fn with_stated_estimates(store: &Store) -> (Tollgate, (Ads, TempDir)) {
    let overlay = yaml_of_page("max: 4000").replace("max: 4000", "max: 60");
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("quotas.yaml");
    fs::write(&file, overlay.replace("hits: 500", "hits: 10")).unwrap();
    let ads = Ads::start().await;
    let tollgate = served(&ads, store, &["--policy-overlays", file.to_str().unwrap()]).await;
    ads.send("1", &[quotas(&[("default/openai", 150)])]);
    ads.accepted("1").await;
    (tollgate, (ads, folder))
}

/// What requests state, and a debit of no tokens.
#[tokio::test]
async fn an_estimate_follows_what_a_request_states() {
    for store in Store::every() {
        let (tollgate, _sources) = with_stated_estimates(&store).await;
        let mut client = DomainClient::new(&tollgate, DOMAIN).await;
        let stating = |tokens: &str| match tokens {
            "" => format!("{BACKEND}=default/openai,{MODEL}=gpt"),
            _ => format!("{BACKEND}=default/openai,{MODEL}=gpt,max_tokens={tokens}"),
        };
        let mut rest = 150;
        for (tokens, held) in [("", 10), ("45", 45), ("1000000", 60)] {
            rest -= 1 + held;
            let reply = client.ask(&[&*stating(tokens)], 1).await;
            assert_eq!((reply.passed, reply.remaining), (true, vec![rest]), "{tokens}");
        }
        assert!(!client.ask(&[&*stating("1000000")], 1).await.passed);
        // In any order, and for none of the tokens.
        for (tokens, held, used) in [("1000000", 60, 31), ("", 10, 0), ("45", 45, 45)] {
            rest = rest + held - used;
            let reply = client.debit(&[&*stating(tokens)], used.into()).await;
            assert_eq!((reply.passed, reply.remaining), (true, vec![rest]), "{tokens}");
        }
        assert_eq!(rest, 150 - 3 - 31 - 45);
    }
}

/// The same through Envoy: an action in both calls sends what a header of the request states.
#[tokio::test]
async fn envoy_sends_what_a_request_states_and_the_debit_of_none() {
    for store in Store::every() {
        let (tollgate, _sources) = with_stated_estimates(&store).await;
        let of = json!({ "header_name": "x-max-tokens", "descriptor_key": "max_tokens", "skip_if_absent": true });
        let states = vec![json!({ "request_headers": of })];
        let actions = Actions { ask: states.clone(), debit: states };
        let Some(gateway) = gateway_of(&[&tollgate], &["default/openai"], &[actions]).await else {
            return;
        };
        let mut client = DomainClient::new(&tollgate, DOMAIN).await;
        let ask = |stated: &'static str, tokens: &'static str| {
            let caller = gateway.caller.clone();
            async move {
                let mut headers = vec![
                    ("x-backend", "default/openai"),
                    ("x-model", "gpt"),
                    ("x-held", "1"),
                    ("x-total-tokens", tokens),
                ];
                if !stated.is_empty() {
                    headers.push(("x-max-tokens", stated));
                }
                caller.get("/v1/chat/completions", &headers).await.status
            }
        };
        let mut tasks = JoinSet::new();
        let mut rest = 150;
        for (stated, held, tokens) in [("", 10, "31"), ("45", 45, "0"), ("1000000", 60, "45")] {
            tasks.spawn(ask(stated, tokens));
            rest -= 1 + held;
            left(&mut client, "default/openai", rest).await;
        }
        assert_eq!(ask("1000000", "31").await, 429);
        gateway.upstream.release();
        assert_eq!(tasks.join_all().await, [200; 3]);
        left(&mut client, "default/openai", 150 - 3 - 31 - 45).await;
    }
}

/// config/ai-gateway.md says which client selectors a debit reaches.
#[tokio::test]
async fn tokens_reach_the_rule_of_an_exact_header_and_no_value_of_a_distinct_one() {
    const TENANT: &str = "rule-0-x-tenant-match-0";
    const GOLD: &str = "rule-1-x-plan|gold-match-0";
    let ads = Ads::start().await;
    let tollgate = served(&ads, &Store::Embedded, &[]).await;
    // A distinct header has a key without a value.
    let quota = |value: &str, tokens| RateLimitDescriptor {
        quota_mode: true,
        ..limit(if value.is_empty() { TENANT } else { value }, value, tokens, RateLimitUnit::Day)
    };
    let model = rule(MODEL, "gpt", vec![quota("", 1_000), quota(GOLD, 40)]);
    ads.send("1", &[domain(DOMAIN, vec![rule(BACKEND, "default/openai", vec![model])])]);
    ads.accepted("1").await;
    let gold = json!({ "header_value_match": {
        "descriptor_key": GOLD, "descriptor_value": GOLD, "expect_match": true,
        "headers": [{ "name": "x-plan", "string_match": { "exact": "gold" } }]
    } });
    let tenant = json!({ "header_name": "x-tenant", "descriptor_key": TENANT });
    let generic = json!({ "descriptor_key": TENANT, "descriptor_value": TENANT });
    let rules = [
        Actions {
            ask: vec![json!({ "request_headers": tenant })],
            debit: vec![json!({ "generic_key": generic })],
        },
        Actions { ask: vec![gold.clone()], debit: vec![gold] },
    ];
    let Some(gateway) = gateway_of(&[&tollgate], &["default/openai"], &rules).await else { return };
    let ask = async |name: &str, value: &str| {
        let of = [("x-backend", "default/openai"), ("x-model", "gpt"), ("x-total-tokens", "31")];
        let headers = [&of[..], &[(name, value)]].concat();
        gateway.caller.get("/v1/chat/completions", &headers).await.status
    };
    let mut client = DomainClient::new(&tollgate, DOMAIN).await;
    let mut left = async |key: &str, value: &str, left: u32| {
        let descriptor = format!("{BACKEND}=default/openai,{MODEL}=gpt,{key}={value}");
        eventually(&format!("{left} tokens left"), async || {
            (client.remaining_unsettled(&[&*descriptor]).await == [left]).then_some(())
        })
        .await;
    };
    for rest in [8, 0] {
        assert_eq!(ask("x-plan", "gold").await, 200);
        left(GOLD, GOLD, rest).await;
    }
    // Answers of all requests, whatever their tenant is: also of the two of the plan.
    left(TENANT, TENANT, 1_000 - 2 * 31).await;
    assert_eq!(ask("x-tenant", "acme").await, 200);
    left(TENANT, TENANT, 1_000 - 3 * 31).await;
    left(TENANT, "acme", 999).await;
    assert_eq!(ask("x-plan", "gold").await, 429);
}

#[tokio::test]
async fn an_overlay_adds_a_budget_to_a_quota() {
    let text = yaml_of_page("5000000/month");
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("quotas.yaml");
    fs::write(&file, text.replace("5000000/month", "40/month")).unwrap();
    let ads = Ads::start().await;
    let overlays = ["--policy-overlays", file.to_str().unwrap()];
    let tollgate = served(&ads, &Store::Embedded, &overlays).await;
    ads.send("1", &[quotas(&[("default/openai", 1_000)])]);
    ads.accepted("1").await;
    let Some(gateway) = gateway(&[&tollgate], &["default/openai"]).await else { return };
    let mut client = DomainClient::new(&tollgate, DOMAIN).await;
    for rest in [8, 0] {
        assert_eq!(ask(&gateway, "default/openai").await.status, 200);
        left(&mut client, "default/openai", rest).await;
    }
    assert_eq!(ask(&gateway, "default/openai").await.status, 429);
}
