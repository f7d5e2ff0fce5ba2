//! Limits of API keys of their own, charged by the check alone: Envoy asks nothing after ext_authz.

use std::sync::Arc;

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::checker::Checker;
use super::scene::{Keeper, POLICY, gateway, limiting};
use super::{INVALID, check_problem, get};
use crate::support::client::Answer;
use crate::support::cluster::Cluster;
use crate::support::eventually;
use crate::support::gateway::Caller;
use crate::support::redis::{Server, query};
use crate::support::store::Store;

/// Sends requests with an API key, one after the other.
async fn check(caller: &Caller, key: &str, statuses: &[u16]) {
    for (index, status) in statuses.iter().enumerate() {
        let answer = get(caller, "/", key).await;
        assert_eq!(answer.status, *status, "{index}: {}", String::from_utf8_lossy(&answer.body));
    }
}

/// What is used and what remains of each limit.
async fn quota(keeper: &Keeper, id: &str) -> Vec<(u64, u64)> {
    let shown = keeper.call("GET", &format!("/{id}"), &Value::Null).await.json();
    let items = shown["quota"].as_array().cloned().unwrap_or_default();
    let number = |item: &Value, name: &str| item[name].as_u64().unwrap();
    items.iter().map(|item| (number(item, "used"), number(item, "remaining"))).collect()
}

async fn metric(keeper: &Keeper, line: &str) -> bool {
    let url = format!("http://{}/metrics", keeper.tollgate.http_address);
    let text = String::from_utf8(keeper.http.get(&url, &[]).await.body.to_vec()).unwrap();
    text.lines().any(|known| known == line)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_key_spends_its_own_limits_and_keeps_what_it_has_spent() {
    for store in Store::every() {
        let policy = POLICY
            .replace("domain: gate", "domain: gate\nanswer: { headers: [ratelimit, retry-after] }");
        let keeper = Keeper::start(&policy, &store, &[]).await;
        let Some(gateway) = limiting(&[&keeper.tollgate], &json!([])).await else { return };
        let caller = &gateway.caller;
        let form = json!({ "caller": "acme", "limits": ["3/hour", "6/total"] });
        let (key, id) = keeper.create(&form).await;
        let (other, _) = keeper.create(&json!({ "caller": "acme" })).await;
        let first = get(caller, "/", &key).await;
        assert_eq!((first.status, &first.json()["x-key-id"]), (200, &json!(id)));
        assert!(first.header("ratelimit").contains("api_key 3/hour"), "{:?}", first.headers);
        check(caller, &key, &[200, 200, 429]).await;
        // A refusal spends nothing, and is no use of it.
        let used = keeper.call("GET", &format!("/{id}"), &Value::Null).await.json();
        let refused = get(caller, "/", &key).await;
        let wait: u64 = refused.header("retry-after").parse().unwrap();
        assert!((1..=3_600).contains(&wait), "{wait}");
        assert_eq!(quota(&keeper, &id).await, [(3, 0), (3, 3)]);
        let after = keeper.call("GET", &format!("/{id}"), &Value::Null).await.json();
        assert_eq!(after["last_used"], used["last_used"]);
        check(caller, &other, &[200; 5]).await;
        let line = r#"tollgate_api_key_checks_total{result="over_limit"} 2"#;
        assert!(metric(&keeper, line).await);
        let line = r#"tollgate_decisions_total{domain="gate",limit="api_key",outcome="refused"} 2"#;
        assert!(metric(&keeper, line).await);

        // Its counters are those of its id, not of its text.
        let rotated = keeper.call("POST", &format!("/{id}/rotate"), &json!({})).await.json();
        check_problem(&get(caller, "/", &key).await, 401, INVALID);
        let key = rotated["api_key"].as_str().unwrap().to_owned();
        check(caller, &key, &[429]).await;
        // Another amount goes on with what is used; another window begins.
        keeper.patch(&id, &json!({ "limits": ["4/hour", "6/total"] })).await;
        check(caller, &key, &[200, 429]).await;
        keeper.patch(&id, &json!({ "limits": ["9/day", "6/total"] })).await;
        check(caller, &key, &[200, 200, 429]).await;
        assert_eq!(quota(&keeper, &id).await, [(2, 7), (6, 0)]);
        // What never comes back has no time for it.
        let refused = get(caller, "/", &key).await;
        assert!(refused.headers.get("retry-after").is_none(), "{:?}", refused.headers);
        keeper.patch(&id, &json!({ "limits": ["7/total"] })).await;
        check(caller, &key, &[200, 429]).await;
        keeper.patch(&id, &json!({ "limits": null })).await;
        check(caller, &key, &[200; 3]).await;
        assert_eq!(quota(&keeper, &id).await, []);

        keeper.patch(&id, &json!({ "limits": ["7/total"] })).await;
        check(caller, &key, &[429]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_counters_of_an_api_key_end_with_it_or_with_its_caller() {
    let Some(server) = Server::start(&[]) else { return };
    let mut raw = server.raw().await;
    let store = Store::Redis(server);
    let keeper = Keeper::start(POLICY, &store, &[]).await;
    let checker = Checker::of(&keeper.tollgate, "192.0.2.1").await;
    let mut has_counters =
        |id: &str| query::<u64>(&mut raw, &format!("EXISTS tg1||key_id={id}")) == 1;
    let form = json!({ "caller": "acme", "limits": ["5/total"] });
    let ((one, one_id), (other, other_id)) =
        (keeper.create(&form).await, keeper.create(&form).await);
    let (former, former_id) = keeper.create(&form).await;
    for key in [&one, &other, &former] {
        assert_eq!(checker.status(key).await, 200);
    }
    let none = json!({ "limits": [] });
    assert_eq!(keeper.call("PATCH", &format!("/{former_id}"), &none).await.status, 200);
    assert_eq!(keeper.call("DELETE", &format!("/{former_id}"), &Value::Null).await.status, 204);
    assert!(!has_counters(&former_id));
    assert!(has_counters(&one_id) && has_counters(&other_id));
    assert_eq!(keeper.call("DELETE", &format!("/{one_id}"), &Value::Null).await.status, 204);
    assert!(!has_counters(&one_id) && has_counters(&other_id));
    let url = format!("http://{}/v1/callers/acme/erase", keeper.tollgate.http_address);
    assert_eq!(keeper.http.post(&url, &[], "").await.status, 200);
    assert!(!has_counters(&other_id));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_key_of_two_sidecars_passes_exactly_as_often_as_it_may() {
    for store in Store::every() {
        let sidecars = if let Store::Redis(_) = store { 2 } else { 1 };
        let mut keepers = Vec::new();
        for _ in 0..sidecars {
            keepers.push(Keeper::start(POLICY, &store, &[]).await);
        }
        let tollgates: Vec<_> = keepers.iter().map(|keeper| &keeper.tollgate).collect();
        let Some(gateway) = limiting(&tollgates, &json!([])).await else { return };
        let form = json!({ "caller": "acme", "limits": ["100/hour", "70/day", "80/total"] });
        let (key, id) = keepers[0].create(&form).await;
        let key = Arc::new(key);
        let asking = (0..8).map(|_| {
            let (caller, key) = (gateway.caller.clone(), key.clone());
            tokio::spawn(async move {
                let mut statuses = Vec::new();
                for _ in 0..25 {
                    statuses.push(get(&caller, "/", &key).await.status);
                }
                statuses
            })
        });
        let statuses: Vec<Vec<u16>> =
            join_all(asking.collect::<Vec<_>>()).await.into_iter().map(Result::unwrap).collect();
        let count = |status| statuses.iter().flatten().filter(|one| **one == status).count();
        assert_eq!((count(200), count(429)), (70, 130), "{statuses:?}");
        for keeper in &keepers {
            assert_eq!(quota(keeper, &id).await, [(70, 30), (70, 0), (70, 10)]);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn own_limits_and_those_of_the_policy_are_charged_all_or_none() {
    let policy = POLICY.replace("api_keys:", "api_keys:\n  charge: true");
    let cluster = Cluster::start(3, false).await;
    let flags = cluster.as_ref().map(Cluster::flags);
    let stores = Store::every().into_iter().map(|store| (store, Vec::new()));
    for (store, flags) in stores.chain(flags.map(|flags| (Store::Embedded, flags))) {
        let patient = if flags.is_empty() { &[][..] } else { &["--store-deadline", "10s"] };
        let flags: Vec<&str> =
            flags.iter().map(String::as_str).chain(patient.iter().copied()).collect();
        let keeper = Keeper::start(&policy, &store, &flags).await;
        let checker = Checker::of(&keeper.tollgate, "192.0.2.1").await;
        let made = eventually("an API key is created", async || {
            let form = json!({ "caller": "acme", "limits": ["2/hour"] });
            let answer = keeper.call("POST", "", &form).await;
            (answer.status == 201).then(|| answer.json())
        });
        let made = made.await;
        let (key, id) = (made["api_key"].as_str().unwrap(), made["id"].as_str().unwrap());
        for number in 0..20 {
            // All masters of the cluster are connected, if callers and API keys of all slots pass.
            let form = json!({ "caller": format!("other-{number}"), "limits": ["99/hour"] });
            let (other, _) = keeper.create(&form).await;
            let passes = async || (checker.status(&other).await == 200).then_some(());
            eventually("the masters are connected", passes).await;
        }
        let (other, other_id) =
            keeper.create(&json!({ "caller": "acme", "limits": ["9/hour"] })).await;
        for (key, status) in [(key, 200), (key, 200), (key, 429), (key, 429)] {
            assert_eq!(checker.status(key).await, status);
        }
        // The caller has 3 an hour: refusals of its API key took none of them.
        for (key, status) in [(&*other, 200), (&other, 429), (key, 429)] {
            assert_eq!(checker.status(key).await, status);
        }
        assert_eq!(quota(&keeper, id).await, [(2, 0)]);
        assert_eq!(quota(&keeper, &other_id).await, [(1, 8)]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_two_filters_ask_for_is_counted_once_in_usage() {
    for store in Store::every() {
        let keeper = Keeper::start(POLICY, &store, &["--usage", "true"]).await;
        let Some(gateway) = gateway(&[&keeper.tollgate]).await else { return };
        let form = json!({ "caller": "acme", "tier": "premium", "limits": ["3/hour"] });
        let (key, _) = keeper.create(&form).await;
        check(&gateway.caller, &key, &[200, 200, 200, 429, 429]).await;
        let url = format!("http://{}/v1/usage?granularity=day", keeper.tollgate.http_address);
        let page = async |query: &str| {
            let items =
                keeper.http.get(&format!("{url}{query}"), &[]).await.json()["items"].clone();
            items.as_array().cloned().unwrap_or_default()
        };
        let counts = |item: &Value| {
            ["requests", "allowed", "refused"].map(|name| item[name].as_u64().unwrap_or_default())
        };
        eventually("usage of all requests", async || {
            let all = page("").await;
            (all.iter().map(counts).collect::<Vec<_>>() == [[5, 3, 2]]).then_some(())
        })
        .await;
        let by_limit = page("&group_by=limit").await;
        let own = by_limit.iter().find(|item| item["limit"] == "api_key").unwrap();
        assert_eq!((&own["refused"], &own["hits"]["spent"]), (&json!(2), &json!(3)), "{own}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_an_outage_own_limits_are_answered_as_the_defaults_of_the_policy_say() {
    for (on_outage, status) in [("error", 503), ("local", 200), ("deny", 429)] {
        let Some(server) = Server::start(&[]) else { return };
        let store = Store::Redis(server);
        let policy = POLICY.replace("api_keys:", "api_keys:\n  on_outage: cached");
        let defaults = format!("defaults: {{ on_outage: {on_outage} }}\ndomain: gate");
        let policy = policy.replace("domain: gate", &defaults);
        let keeper = Keeper::start(&policy, &store, &["--store-deadline", "100ms"]).await;
        let checker = Checker::of(&keeper.tollgate, "192.0.2.1").await;
        let (limited, _) = keeper.create(&json!({ "caller": "a", "limits": ["1000/hour"] })).await;
        let (free, _) = keeper.create(&json!({ "caller": "a" })).await;
        for key in [&limited, &free] {
            let passes = async || (checker.status(key).await == 200).then_some(());
            eventually("it is cached", passes).await;
        }
        let Store::Redis(mut server) = store else { unreachable!() };
        server.kill();
        eventually("the outage is noticed", async || {
            let both = (checker.status(&limited).await, checker.status(&free).await);
            (both == (status, 200)).then_some(())
        })
        .await;
    }
}

/// What the API says against a form.
fn detail(answer: &Answer) -> String {
    assert_eq!(answer.status, 422, "{}", answer.json());
    answer.json()["detail"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_limits_are_refused_with_their_place() {
    let keeper = Keeper::start(POLICY, &Store::Embedded, &[]).await;
    let (_, id) = keeper.create(&json!({ "caller": "acme", "limits": ["5/total"] })).await;
    let nine: Vec<String> = (1..=9).map(|hours| format!("1/{hours}h")).collect();
    for (limits, expected) in [
        (json!(["1/day", "5"]), "limits.1: invalid rate `5`; use AMOUNT/WINDOW, such as 10/second"),
        (json!(["5/fortnight"]), "limits.0: unknown window `fortnight`"),
        (json!(["5 EUR/day"]), "limits.0: invalid limit `5 EUR/day`"),
        (json!(["5/total", "6/total"]), "limits: `5/total` and `6/total` have the same window"),
        (json!(nine), "limits: too many limits: 9; at most 8 are allowed"),
    ] {
        let created = keeper.call("POST", "", &json!({ "caller": "acme", "limits": limits })).await;
        assert!(detail(&created).starts_with(expected), "{}", detail(&created));
        let patch = json!({ "limits": limits });
        let changed = keeper.call("PATCH", &format!("/{id}"), &patch).await;
        assert!(detail(&changed).starts_with(expected), "{}", detail(&changed));
    }
    let shown = keeper.call("GET", &format!("/{id}"), &Value::Null).await.json();
    assert_eq!(shown["limits"], json!(["5/total"]));
}
