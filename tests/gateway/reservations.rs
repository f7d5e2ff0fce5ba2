//! Reservations with `config/policies/generations.yaml`: over gRPC, over HTTP, through a real Envoy, and at two sidecars.

use std::fs;

use axum::http::Request;
use http_body_util::Full;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::support::ask::{DomainClient, Reply};
use crate::support::client::{Answer, Http};
use crate::support::eventually;
use crate::support::gateway::{Gateway, tcp};
use crate::support::redis::Server;
use crate::support::store::Store;
use crate::support::tollgate::Tollgate;

const GENERATE: &str = "workspace_id=w,action=generate";

fn policy() -> String {
    fs::read_to_string("config/policies/generations.yaml").unwrap()
}

/// Asks with a reservation.
async fn act(client: &mut DomainClient, id: &str, action: &str, hits: u32) -> Reply {
    let with_id = format!("{GENERATE},reservation_id={id},reservation_action={action}");
    match hits {
        0 => client.try_ask(&[&with_id], 0).await.unwrap(),
        hits => client.ask(&[&with_id], hits).await,
    }
}

struct Api<'t>(&'t Tollgate);

impl Api<'_> {
    fn url(&self, path: &str) -> String {
        format!("http://{}/v1/callers/{path}", self.0.http_address)
    }

    async fn get(&self, path: &str) -> Answer {
        Http::new().get(&self.url(path), &[]).await
    }

    async fn post(&self, path: &str, body: &Value) -> Answer {
        Http::new().post(&self.url(path), &[], &body.to_string()).await
    }

    async fn delete(&self, path: &str) -> Answer {
        let request = Request::delete(self.url(path)).body(Full::default()).unwrap();
        Http::new().send(request).await
    }

    /// Quota, used and held hits of the only limit of a workspace.
    async fn quota(&self) -> Value {
        let answer = self.get("w/quota?entries=action=generate").await.json();
        let item = &answer["items"][0];
        json!([item["quota"], item["used"], item["held"], item["remaining"]])
    }
}

#[tokio::test]
async fn hits_are_held_and_settled_over_grpc() {
    for store in Store::every() {
        let tollgate = Tollgate::serve(&policy(), &store).await;
        let mut client = DomainClient::new(&tollgate, "generations").await;
        for _ in 0..2 {
            let held = act(&mut client, "1", "reserve", 900).await;
            assert_eq!((held.passed, held.remaining), (true, vec![100]));
            assert_eq!(held.metadata["reservations"][0]["held"], 900.0, "{:?}", held.metadata);
        }
        let refused = client.ask(&[GENERATE], 101).await;
        assert_eq!((refused.passed, refused.reason()), (false, "over_limit"));
        assert!(refused.problem["retry_after_ms"].as_u64().unwrap() <= 600_000, "{refused:?}");
        assert!(act(&mut client, "1", "extend", 0).await.passed);
        for attempt in 0..2 {
            let settled = act(&mut client, "1", "settle", 40).await;
            assert_eq!((settled.passed, settled.remaining), (true, vec![960]));
            let reported = &settled.metadata["reservations"][0]["settled"];
            assert_eq!(*reported, if attempt == 0 { json!(40.0) } else { Value::Null });
        }
        for (action, hits) in [("settle", 41), ("reserve", 900), ("extend", 0), ("cancel", 0)] {
            let conflict = act(&mut client, "1", action, hits).await;
            let reported = (conflict.passed, conflict.reason());
            assert_eq!(reported, (false, "reservation_conflict"), "{action}");
        }
        // Another caller may use the same id, and so may this one another.
        assert!(act(&mut client, "2", "reserve", 960).await.passed);
        assert!(act(&mut client, "2", "cancel", 0).await.passed);
        assert_eq!(client.remaining(&[GENERATE]).await, [960]);
        assert!(act(&mut client, "3", "reserve", 100).await.passed);
        let back = format!("{GENERATE},reservation_id=3,reservation_action=settle");
        assert!(client.give_back(&[&back], 90).await.passed);
        assert_eq!(client.remaining(&[GENERATE]).await, [950]);
        // Without an action, a request is charged.
        assert!(client.ask(&[&format!("{GENERATE},reservation_id=4")], 50).await.passed);
        assert_eq!(client.remaining(&[GENERATE]).await, [900]);
    }
}

#[tokio::test]
async fn an_extension_leaves_its_idempotency_key_to_others() {
    let policy = policy().replacen(
        "reservation:",
        "idempotency: { key: request_id }\n        reservation:",
        1,
    );
    for store in Store::every() {
        let tollgate = Tollgate::serve(&policy, &store).await;
        let mut client = DomainClient::new(&tollgate, "generations").await;
        for action in ["reserve", "extend", "extend"] {
            let acted = act(&mut client, "1,request_id=r", action, 100).await;
            assert!(acted.passed, "{action}: {acted:?}");
        }
        let asked = client.ask(&[&format!("{GENERATE},request_id=r")], 50).await;
        assert_eq!((asked.passed, asked.remaining), (true, vec![850]));
    }
}

#[tokio::test]
async fn a_reservation_over_http_is_shown_extended_and_settled_by_its_id() {
    for store in Store::every() {
        let tollgate = Tollgate::serve(&policy(), &store).await;
        let api = Api(&tollgate);
        let ask = |id: &str, hits: u64| json!({ "id": id, "hits": hits, "entries": [{ "action": "generate" }] });
        let (path, of) = ("w/reservations", |id: &str| format!("w/reservations/{id}"));
        for _ in 0..2 {
            let held = api.post(path, &ask("a", 700)).await;
            assert_eq!(held.status, 201, "{:?}", held.body);
            let body = held.json();
            assert_eq!((&body["id"], &body["state"]), (&json!("a"), &json!("held")), "{body}");
            assert_eq!((&body["domain"], &body["hits"]), (&json!("generations"), &json!(700)));
            assert!(body["expires_at"].is_string() && body["used"].is_null(), "{body}");
        }
        assert_eq!(api.quota().await, json!([1_000, 700, 700, 300]));
        let problem = async |answer: Answer| (answer.status, answer.json()["code"].clone());
        let refused = problem(api.post(path, &ask("b", 301)).await).await;
        assert_eq!(refused, (429, json!("QUOTA_EXCEEDED")));
        let conflict = (409, json!("RESERVATION_CONFLICT"));
        assert_eq!(problem(api.post(path, &ask("a", 100)).await).await, conflict);
        let missing = (404, json!("RESERVATION_NOT_FOUND"));
        assert_eq!(problem(api.get(&of("b")).await).await, missing);
        let used = |hits: u64| json!({ "hits": hits });
        assert_eq!(problem(api.post(&of("b/settle"), &used(1)).await).await, missing);

        let before = api.get(&of("a")).await.json();
        let extended = api.post(&of("a/extend"), &json!({ "ttl_ms": 3_600_000 })).await;
        assert_eq!(extended.status, 200, "{:?}", extended.body);
        assert!(before["expires_at"].as_str() < extended.json()["expires_at"].as_str());
        let long = api.post(&of("a/extend"), &json!({ "ttl_ms": 90_000_000 })).await;
        assert_eq!(long.status, 400, "{:?}", long.body);

        for _ in 0..2 {
            let settled = api.post(&of("a/settle"), &used(250)).await;
            assert_eq!(settled.status, 200, "{:?}", settled.body);
            let body = settled.json();
            assert_eq!((&body["state"], &body["used"]), (&json!("settled"), &json!(250)), "{body}");
            assert_eq!(api.quota().await, json!([1_000, 250, 0, 750]));
        }
        assert_eq!(problem(api.post(&of("a/settle"), &used(251)).await).await, conflict);
        assert_eq!(problem(api.delete(&of("a")).await).await, conflict);
        assert_eq!(problem(api.post(path, &ask("a", 700)).await).await, conflict);

        assert_eq!(api.post(path, &ask("c", 750)).await.status, 201);
        for _ in 0..2 {
            assert_eq!(api.delete(&of("c")).await.status, 204);
            assert_eq!(api.quota().await, json!([1_000, 250, 0, 750]));
        }
        assert_eq!(problem(api.post(&of("c/settle"), &used(1)).await).await, conflict);
        let generated = api.post(path, &json!({ "entries": [{ "action": "generate" }] })).await;
        assert_eq!((generated.status, &generated.json()["hits"]), (201, &json!(1)));
        let listed = api.get(path).await.json();
        let items = listed["items"].as_array().unwrap().iter();
        let mut states: Vec<&str> = items.map(|item| item["state"].as_str().unwrap()).collect();
        states.sort_unstable();
        assert_eq!(states, ["cancelled", "held", "settled"], "{listed}");
        // A rule without reservations has none.
        let none = problem(api.post(path, &json!({ "hits": 1 })).await).await;
        assert_eq!(none, (404, json!("QUOTA_NOT_FOUND")));
    }
}

#[tokio::test]
async fn a_reservation_tells_what_was_charged_of_a_clipped_limit() {
    let policy = policy().replacen("name: tokens,", "name: tokens, overdraft: clip,", 1);
    for store in Store::every() {
        let tollgate = Tollgate::serve_with(&policy, &store, &["--usage=true"]).await;
        let api = Api(&tollgate);
        let ask = json!({ "id": "a", "hits": 700, "entries": [{ "action": "generate" }] });
        assert_eq!(api.post("w/reservations", &ask).await.status, 201);
        for _ in 0..2 {
            let settled = api.post("w/reservations/a/settle", &json!({ "hits": 1_200 })).await;
            assert_eq!((settled.status, &settled.json()["used"]), (200, &json!(1_000)));
            assert_eq!(api.quota().await, json!([1_000, 1_000, 0, 0]));
        }
        assert_eq!(api.get("w/reservations/a").await.json()["used"], 1_000);
        let other = api.post("w/reservations/a/settle", &json!({ "hits": 1_000 })).await;
        assert_eq!(other.status, 409, "{:?}", other.body);
        let url =
            format!("http://{}/v1/usage?granularity=day&group_by=limit", tollgate.http_address);
        eventually("what was used beyond the limit", async || {
            let page = Http::new().get(&url, &[]).await.json();
            let hits = ["spent", "refused"].map(|name| page["items"][0]["hits"][name].as_u64());
            (hits == [Some(1_000), Some(200)]).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn one_reservation_too_many_is_told_as_such() {
    for store in Store::every() {
        let tollgate = Tollgate::serve(&policy(), &store).await;
        let api = Api(&tollgate);
        let ask = json!({ "hits": 1, "entries": [{ "action": "generate" }] });
        for _ in 0..100 {
            assert_eq!(api.post("w/reservations", &ask).await.status, 201);
        }
        let refused = api.post("w/reservations", &ask).await;
        let detail = "`tokens` has 100 reservations, the most at a time";
        assert_eq!((refused.status, &refused.json()["detail"]), (429, &json!(detail)));
        assert_eq!(api.quota().await, json!([1_000, 100, 100, 900]));
    }
}

#[tokio::test]
async fn usage_and_metrics_count_what_was_settled_once() {
    for store in Store::every() {
        let tollgate = Tollgate::serve_with(&policy(), &store, &["--usage=true"]).await;
        let mut client = DomainClient::new(&tollgate, "generations").await;
        assert!(act(&mut client, "1", "reserve", 900).await.passed);
        assert!(!act(&mut client, "2", "reserve", 101).await.passed);
        for _ in 0..3 {
            assert!(act(&mut client, "1", "settle", 40).await.passed);
        }
        assert!(act(&mut client, "3", "reserve", 100).await.passed);
        let back = format!("{GENERATE},reservation_id=3,reservation_action=settle");
        assert!(client.give_back(&[&back], 90).await.passed);
        assert!(act(&mut client, "4", "reserve", 100).await.passed);
        for (action, passes) in [("extend", true), ("cancel", true), ("extend", false)] {
            assert_eq!(act(&mut client, "4", action, 0).await.passed, passes);
        }
        let url = format!("http://{}/metrics", tollgate.http_address);
        let text = String::from_utf8(Http::new().get(&url, &[]).await.body.to_vec()).unwrap();
        let line =
            r#"tollgate_hits_total{domain="generations",limit="tokens",outcome="admitted"} 50"#;
        assert!(text.lines().any(|known| known == line), "{text}");
        let url =
            format!("http://{}/v1/usage?granularity=day&group_by=limit", tollgate.http_address);
        eventually("the settled hits in the usage", async || {
            let page = Http::new().get(&url, &[]).await.json();
            let items = page["items"].as_array().unwrap().iter();
            let spent: u64 = items.clone().filter_map(|item| item["hits"]["spent"].as_u64()).sum();
            let refused: u64 = items.filter_map(|item| item["hits"]["refused"].as_u64()).sum();
            (spent == 50 && refused == 101).then_some(())
        })
        .await;
        // Four reservations, one of which was refused.
        let url = format!("http://{}/v1/usage?granularity=day", tollgate.http_address);
        for url in [format!("{url}&group_by=limit"), url] {
            let page = Http::new().get(&url, &[]).await.json();
            let counts = ["requests", "allowed", "refused"].map(|name| &page["items"][0][name]);
            assert_eq!(counts, [4, 3, 1], "{page}");
        }
    }
}

/// Envoy reserves when a request arrives, and settles what the response says when it is done.
#[tokio::test]
async fn envoy_reserves_before_the_request_and_settles_after_the_response() {
    for store in Store::every() {
        let policy = policy().replace("domain: generations", "domain: gate");
        let tollgate = Tollgate::serve(&policy, &store).await;
        let descriptor = |action: &str, hits: Value, is_after: bool| {
            let header = |name: &str, key: &str| json!({ "request_headers": { "header_name": name, "descriptor_key": key } });
            let fixed = |key: &str, value: &str| json!({ "generic_key": { "descriptor_key": key, "descriptor_value": value } });
            json!({
                "actions": [
                    header("x-workspace", "workspace_id"),
                    fixed("action", "generate"),
                    header("x-operation", "reservation_id"),
                    fixed("reservation_action", action),
                ],
                "hits_addend": hits,
                "apply_on_stream_done": is_after,
            })
        };
        let rate_limits = json!([
            descriptor("reserve", json!({ "number": 400 }), false),
            descriptor("settle", json!({ "format": "%REQ(x-tokens)%" }), true),
        ]);
        let address = tcp(tollgate.grpc_address);
        let Some(gateway) = Gateway::limiting(&rate_limits, &[address]).await else { return };
        let api = Api(&tollgate);
        let mut used = 0;
        // What Envoy sends after a refusal is charged too: nothing is held for it.
        for (operation, tokens, status) in
            [(1, 150, 200), (2, 350, 200), (3, 200, 200), (4, 1, 429), (5, 2, 429)]
        {
            let (operation, hits) = (operation.to_string(), tokens.to_string());
            let headers =
                [("x-workspace", "w"), ("x-operation", operation.as_str()), ("x-tokens", &hits)];
            assert_eq!(gateway.caller.get("/", &headers).await.status, status, "{operation}");
            used += tokens;
            eventually("the response to be settled", async || {
                let expected = json!([1_000, used, 0, 1_000 - used]);
                (api.quota().await == expected).then_some(())
            })
            .await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_sidecars_never_hold_or_spend_more_than_there_is() {
    let Some(server) = Server::start(&[]) else { return };
    let store = Store::Redis(server);
    let sidecars =
        [Tollgate::serve(&policy(), &store).await, Tollgate::serve(&policy(), &store).await];
    let mut tasks = JoinSet::new();
    for worker in 0..8 {
        let mut one = DomainClient::new(&sidecars[worker % 2], "generations").await;
        let mut other = DomainClient::new(&sidecars[(worker + 1) % 2], "generations").await;
        tasks.spawn(async move {
            let mut spent = 0;
            for number in 0..40_u32 {
                let id = format!("{worker}-{number}");
                if !act(&mut one, &id, "reserve", 13).await.passed {
                    continue;
                }
                let used = number % 14;
                let action = if used == 0 { "cancel" } else { "settle" };
                // The other sidecar settles, and is asked twice.
                for _ in 0..2 {
                    assert!(act(&mut other, &id, action, used).await.passed, "{id}");
                }
                spent += used;
            }
            spent
        });
    }
    let spent: u32 = tasks.join_all().await.into_iter().sum();
    let mut client = DomainClient::new(&sidecars[0], "generations").await;
    assert_eq!(client.remaining(&[GENERATE]).await, [1_000 - spent]);
}

/// With a log that is written before each answer, a Redis that is killed forgets neither what is held nor the id.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_held_before_redis_was_killed_is_settled_after() {
    let log = ["--appendonly", "yes", "--appendfsync", "always"];
    let Some(mut server) = Server::start(&log) else { return };
    let flags = ["--redis-url", &server.url(), "--store-deadline", "10s"];
    let sidecar = Tollgate::serve_with(&policy(), &Store::Embedded, &flags).await;
    let mut client = DomainClient::new(&sidecar, "generations").await;
    assert!(act(&mut client, "1", "reserve", 900).await.passed);
    server.kill();
    server.launch();
    let settle = format!("{GENERATE},reservation_id=1,reservation_action=settle");
    let settled = eventually("Redis is back", async || client.try_ask(&[&settle], 40).await.ok());
    let settled = settled.await;
    assert_eq!((settled.passed, settled.remaining), (true, vec![960]));
    server.kill();
    server.launch();
    let again = eventually("Redis is back", async || client.try_ask(&[&settle], 40).await.ok());
    let again = again.await;
    assert_eq!((again.passed, again.remaining), (true, vec![960]));
}

/// An operation that a store did not answer says when to send it again; then it is made once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancellation_during_an_outage_is_sent_again() {
    let Some(mut server) = Server::start(&["--appendonly", "yes", "--appendfsync", "always"])
    else {
        return;
    };
    let flags = ["--redis-url", &server.url()];
    let sidecar = Tollgate::serve_with(&policy(), &Store::Embedded, &flags).await;
    let api = Api(&sidecar);
    let ask = json!({ "id": "a", "hits": 700, "entries": [{ "action": "generate" }] });
    let reserved = eventually("Redis answers in time", async || {
        Some(api.post("w/reservations", &ask).await).filter(|answer| answer.status == 201)
    });
    reserved.await;
    server.kill();
    let unanswered = api.delete("w/reservations/a").await;
    let retry_after = unanswered.headers.get("retry-after").map(|value| value.to_str().unwrap());
    assert_eq!((unanswered.status, retry_after), (503, Some("1")), "{:?}", unanswered.body);
    server.launch();
    let cancelled = eventually("Redis is back", async || {
        Some(api.delete("w/reservations/a").await).filter(|answer| answer.status != 503)
    });
    assert_eq!(cancelled.await.status, 204);
    assert_eq!(api.get("w/reservations/a").await.json()["state"], "cancelled");
    assert_eq!(api.quota().await, json!([1_000, 0, 0, 1_000]));
}

#[tokio::test]
async fn a_reservation_of_a_domain_that_is_gone_says_so_and_can_be_cancelled() {
    for store in Store::every() {
        let tollgate = Tollgate::serve(&policy(), &store).await;
        let api = Api(&tollgate);
        let ask = json!({ "id": "a", "hits": 700, "entries": [{ "action": "generate" }] });
        assert_eq!(api.post("w/reservations", &ask).await.status, 201);
        tollgate.edit(&policy().replacen("domain: generations", "domain: texts", 1));
        eventually("the policy is in force", async || {
            let limits = api.get("w/quota?domain=texts&entries=action=generate").await;
            Some(()).filter(|()| limits.status == 200)
        })
        .await;
        let settled = api.post("w/reservations/a/settle", &json!({ "hits": 40 })).await;
        let body = settled.json();
        assert_eq!((settled.status, &body["code"]), (422, &json!("INVALID_RESOURCE_TYPE")));
        let detail = body["detail"].as_str().unwrap();
        assert!(
            detail.contains("domain `generations`") && detail.contains("lapses at 20"),
            "{detail}"
        );
        assert_eq!(api.post("w/reservations/a/extend", &json!({})).await.status, 422);
        assert_eq!(api.get("w/reservations/a").await.json()["state"], "held");
        for _ in 0..2 {
            assert_eq!(api.delete("w/reservations/a").await.status, 204);
        }
        assert_eq!(api.get("w/reservations/a").await.json()["state"], "cancelled");
        let again = api.post("w/reservations/a/settle", &json!({ "hits": 1 })).await;
        assert_eq!(again.status, 409);
    }
}
