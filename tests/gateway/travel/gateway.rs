//! The travel policy through a real Envoy, with the configurations of `deploy/envoy`: callers are identified by an API
//! key or a signed token, and their own headers have no effect.

use std::fs;
use std::process::Command;

use serde_json::{Value, json};

use crate::support::client::Answer;
use crate::support::gateway::Gateway;
use crate::support::store::Store;
use crate::support::tollgate::Tollgate;
use crate::support::{eventually, find_program};

use super::token::{Identity, Issuer, unsigned_token};
use super::{TIERS, policy};

/// Headers that a caller might forge.
const SPOOFED: [(&str, &str); 4] =
    [("x-user-id", "erik"), ("x-tier", "enterprise"), ("x-priority", "4"), ("X-Tier", "premium")];

/// The ports of Tollgate and of the identity provider in the files.
const TOLLGATE: u16 = 8081;
const IDENTITY: u16 = 8002;

/// A Tollgate behind an Envoy that identifies callers by API keys.
struct ByKey {
    _tollgate: Tollgate,
    gateway: Gateway,
}

impl ByKey {
    /// None if there is no Envoy here.
    async fn start(store: &Store) -> Option<Self> {
        let tollgate = Tollgate::serve(&policy(), store).await;
        let ports = [(TOLLGATE, tollgate.grpc_address)];
        let gateway = Gateway::deployed("travel.yaml", &ports).await?;
        Some(Self { _tollgate: tollgate, gateway })
    }

    async fn get(&self, user: &str, path: &str, spoofed: &[(&str, &str)]) -> Answer {
        let key = format!("example-key-of-{user}");
        let headers = [&[("x-api-key", key.as_str())], spoofed].concat();
        self.gateway.caller.get(path, &headers).await
    }
}

/// A Tollgate behind an Envoy that identifies callers by tokens.
struct ByToken {
    _tollgate: Tollgate,
    _identity: Identity,
    issuer: Issuer,
    gateway: Gateway,
}

impl ByToken {
    /// None if there is no Envoy here.
    async fn start(store: &Store) -> Option<Self> {
        let tollgate = Tollgate::serve(&policy(), store).await;
        let issuer = Issuer::new();
        let identity = Identity::start(&issuer).await;
        let ports = [(TOLLGATE, tollgate.grpc_address), (IDENTITY, identity.address)];
        let gateway = Gateway::deployed("travel-jwt.yaml", &ports).await?;
        Some(Self { _tollgate: tollgate, _identity: identity, issuer, gateway })
    }

    async fn get(&self, token: &str, path: &str, spoofed: &[(&str, &str)]) -> Answer {
        let bearer = format!("Bearer {token}");
        let headers = [&[("authorization", bearer.as_str())], spoofed].concat();
        self.gateway.caller.get(path, &headers).await
    }
}

/// The problem in the body of a refusal.
fn problem(answer: &Answer) -> Value {
    assert_eq!(answer.status, 429, "{answer:?}");
    assert_eq!(answer.header("content-type"), "application/problem+json");
    serde_json::from_slice(&answer.body).unwrap()
}

fn violates(answer: &Answer, limit: &str) -> bool {
    let violated = &problem(answer)["violated-policies"];
    violated.as_array().unwrap().iter().any(|name| name == limit)
}

/// The headers that reached the upstream.
fn reached(answer: &Answer) -> Value {
    assert_eq!(answer.status, 200, "{answer:?}");
    serde_json::from_slice(&answer.body).unwrap()
}

#[tokio::test]
async fn each_caller_has_exactly_the_searches_and_bookings_of_its_tier() {
    let Some(by_key) = ByKey::start(&Store::Embedded).await else { return };
    let users = ["frida", "petra", "erik"].into_iter().zip(TIERS);
    for (user, (tier, [searches, bookings, _])) in users {
        for (what, amount) in [("search", searches), ("booking", bookings)] {
            let mut passed = 0;
            // The second's capacity of one provider is less than the minute's amount of some callers, so
            // they ask each in turn, and again when it refuses.
            let mut providers = ["hotelbeds", "amadeus"].into_iter().cycle();
            eventually(&format!("the end of {user}'s {what} limit"), async || {
                let path = format!("/{}/{what}", providers.next().unwrap());
                let answer = by_key.get(user, &path, &[]).await;
                passed += u32::from(answer.status == 200);
                (answer.status != 200 && violates(&answer, what)).then_some(())
            })
            .await;
            assert_eq!(passed, amount, "{tier} {what}");
        }
    }
}

#[tokio::test]
async fn a_refusal_tells_a_caller_which_limit_and_how_long() {
    for store in Store::every() {
        let Some(by_key) = ByKey::start(&store).await else { return };
        for _ in 0..2 {
            let passed = by_key.get("frida", "/amadeus/booking", &[]).await;
            assert_eq!(passed.status, 200, "{passed:?}");
            assert_ne!(passed.header("ratelimit-policy"), "", "{passed:?}");
        }
        let refused = by_key.get("frida", "/amadeus/booking", &[]).await;
        let problem = problem(&refused);
        assert_eq!(problem["reason"], "over_limit", "{problem}");
        assert_eq!(problem["violated-policies"], json!(["booking"]), "{problem}");
        let header = |name| refused.header(name);
        assert_eq!(header("x-ratelimit-remaining"), "0");
        assert!(header("ratelimit-policy").contains("\"booking\";q=2;w=60"), "{refused:?}");
        let wait: u64 = header("retry-after").parse().unwrap();
        assert!((1..=62).contains(&wait), "{wait}");
        assert_eq!(by_key.gateway.upstream.served(), 2);
    }
}

#[tokio::test]
async fn without_a_known_key_nothing_passes() {
    let Some(by_key) = ByKey::start(&Store::Embedded).await else { return };
    let caller = &by_key.gateway.caller;
    let (path, known) = ("/hotelbeds/search", ("x-api-key", "example-key-of-erik"));
    for headers in [&[][..], &SPOOFED, &[("x-api-key", "")], &[("x-api-key", "invented")]] {
        assert_eq!(caller.get(path, headers).await.status, 401, "{headers:?}");
    }
    assert_eq!(caller.get(path, &[known, ("x-api-key", "invented")]).await.status, 401);
    assert_eq!(caller.get(path, &[known, ("x_tier", "premium")]).await.status, 400);
    assert_eq!(by_key.gateway.upstream.served(), 0);
}

#[tokio::test]
async fn a_caller_is_identified_by_its_key_whatever_its_headers() {
    let Some(by_key) = ByKey::start(&Store::Embedded).await else { return };
    let honest = reached(&by_key.get("frida", "/hotelbeds/booking", &[]).await);
    let spoofing = reached(&by_key.get("frida", "/hotelbeds/booking", &SPOOFED).await);
    for seen in [&honest, &spoofing] {
        assert_eq!(seen["x-user-id"], "frida", "{seen}");
        for name in ["x-tier", "x-priority", "x-api-key"] {
            assert_eq!(seen.get(name), None, "{seen}");
        }
    }
    let refused = by_key.get("frida", "/hotelbeds/booking", &SPOOFED).await;
    assert!(violates(&refused, "booking"), "{refused:?}");
    let expedia = by_key.get("frida", "/expedia/search", &SPOOFED).await;
    assert_eq!(problem(&expedia)["reason"], "no_access");
    assert_eq!(expedia.header("retry-after"), "");
    // The caller that she named was not charged.
    let premium = reached(&by_key.get("petra", "/expedia/search", &[]).await);
    assert_eq!((&premium["x-user-id"], &premium["x-tier"]), (&json!("petra"), &json!("premium")));
}

#[tokio::test]
async fn a_script_that_fails_lets_nothing_pass() {
    let tollgate = Tollgate::serve(&policy(), &Store::Embedded).await;
    let (config, line) = (fs::read_to_string("deploy/envoy/travel.yaml").unwrap(), "caller.user)");
    assert!(config.contains(line));
    let broken = config.replace(line, "caller.user .. nil)");
    let ports = [(TOLLGATE, tollgate.grpc_address)];
    let Some(gateway) = Gateway::configured(broken, &ports).await else { return };
    let headers = [&[("x-api-key", "example-key-of-erik")], &SPOOFED[..]].concat();
    let answer = gateway.caller.get("/hotelbeds/search", &headers).await;
    assert_eq!((answer.status, gateway.upstream.served()), (403, 0), "{answer:?}");
}

#[tokio::test]
async fn the_guides_command_is_told_that_there_is_no_access() {
    if find_program("curl", "CURL", None).is_none() {
        return;
    }
    let Some(by_key) = ByKey::start(&Store::Embedded).await else { return };
    let guide = fs::read_to_string("deploy/README.md").unwrap();
    let command = guide.lines().find(|line| line.starts_with("curl ")).unwrap();
    let address = by_key.gateway.caller.address().to_string();
    let command = command.replace("localhost:10000", &address);
    let output = Command::new("bash").args(["-c", &command]).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    for part in ["HTTP/1.1 429", "\"reason\":\"no_access\""] {
        assert!(said.contains(part), "{command}\n{said}");
    }
}

#[tokio::test]
async fn a_path_has_one_spelling() {
    let Some(by_key) = ByKey::start(&Store::Embedded).await else { return };
    for path in ["/hotelbeds//booking", "/x/../hotelbeds/booking/7?a=b"] {
        assert_eq!(by_key.get("frida", path, &[]).await.status, 200, "{path}");
    }
    let refused = by_key.get("frida", "/hotelbeds/booking", &[]).await;
    assert!(violates(&refused, "booking"), "{refused:?}");
    for path in ["/", "/hotelbeds", "/Hotelbeds/booking", "/hotelbeds/bookings", "/other/search"] {
        assert_eq!(by_key.get("frida", path, &[]).await.status, 404, "{path}");
    }
}

#[tokio::test]
async fn a_key_may_make_everything_urgent() {
    let Some(by_key) = ByKey::start(&Store::Embedded).await else { return };
    eventually("the end of ursula's bookings", async || {
        let answer = by_key.get("ursula", "/hotelbeds/booking", &[]).await;
        (answer.status != 200 && violates(&answer, "booking")).then_some(())
    })
    .await;
    let caller = json!({ "tier": "premium", "priority": 4, "roles": [] });
    by_key.gateway.logs(&caller).await;
}

#[tokio::test]
async fn without_a_valid_token_nothing_passes() {
    let Some(by_token) = ByToken::start(&Store::Embedded).await else { return };
    let (issuer, erik) = (&by_token.issuer, json!({ "sub": "erik", "tier": "enterprise" }));
    let with = |name: &str, value: Value| {
        let mut claims = erik.clone();
        claims[name] = value;
        issuer.token(&claims)
    };
    let path = "/hotelbeds/search";
    assert_eq!(by_token.gateway.caller.get(path, &SPOOFED).await.status, 401);
    let altered = issuer.token(&json!({ "sub": "frida" }));
    let (_, signature) = altered.rsplit_once('.').unwrap();
    let token = issuer.token(&erik);
    let (signed, _) = token.rsplit_once('.').unwrap();
    for (what, token) in [
        ("no token", String::new()),
        ("nonsense", "nonsense".to_owned()),
        ("another issuer's key", Issuer::new().token(&erik)),
        ("nobody's signature", unsigned_token(&erik)),
        ("the signature of other claims", format!("{signed}.{signature}")),
        ("an old one", with("exp", json!(1_700_000_000))),
        ("one that never ends", with("exp", Value::Null)),
        ("another issuer's name", with("iss", json!("https://elsewhere.example.com"))),
        ("one for another service", with("aud", json!("hotels"))),
        ("one of nobody", with("sub", Value::Null)),
        ("one of somebody without a name", with("sub", json!(""))),
    ] {
        let answer = by_token.get(&token, path, &[]).await;
        assert!([401, 403].contains(&answer.status), "{what}: {answer:?}");
    }
    assert_eq!(by_token.gateway.upstream.served(), 0);
    assert_eq!(by_token.get(&token, path, &[]).await.status, 200);
}

#[tokio::test]
async fn a_caller_is_identified_by_its_token_whatever_its_headers() {
    for store in Store::every() {
        let Some(by_token) = ByToken::start(&store).await else { return };
        let frida = by_token.issuer.token(&json!({ "sub": "frida" }));
        for headers in [&[][..], &SPOOFED] {
            let seen = reached(&by_token.get(&frida, "/hotelbeds/booking", headers).await);
            for name in ["x-user-id", "x-tier", "x-priority", "authorization"] {
                assert_eq!(seen.get(name), None, "{seen}");
            }
        }
        // A new token is the same caller.
        let other = by_token.issuer.token(&json!({ "sub": "frida", "tier": "platinum", "n": 1 }));
        for token in [&frida, &other] {
            let refused = by_token.get(token, "/hotelbeds/booking", &SPOOFED).await;
            assert!(violates(&refused, "booking"), "{refused:?}");
        }
        let expedia = by_token.get(&frida, "/expedia/search", &SPOOFED).await;
        assert_eq!(problem(&expedia)["reason"], "no_access");
    }
}

#[tokio::test]
async fn a_tokens_tier_and_priority_count() {
    let Some(by_token) = ByToken::start(&Store::Embedded).await else { return };
    let claims = json!({ "sub": "petra", "tier": "premium", "priority": "4" });
    let petra = by_token.issuer.token(&claims);
    reached(&by_token.get(&petra, "/expedia/search", &[]).await);
    let mut passed = 0;
    eventually("the end of petra's bookings", async || {
        let answer = by_token.get(&petra, "/amadeus/booking", &[]).await;
        passed += u32::from(answer.status == 200);
        (answer.status != 200 && violates(&answer, "booking")).then_some(())
    })
    .await;
    assert_eq!(passed, 10);
    let caller = json!({ "tier": "premium", "priority": 4, "roles": [] });
    by_token.gateway.logs(&caller).await;
}
