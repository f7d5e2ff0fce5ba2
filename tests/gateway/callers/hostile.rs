//! `/v1` under hostile or careless requests, and while something is broken.

use std::time::Instant;

use serde_json::json;

use super::Api;
use crate::support::client::Http;
use crate::support::redis::Server;
use crate::support::store::Store;
use crate::support::tollgate::Tollgate;

#[tokio::test]
async fn a_body_that_is_no_object_changes_nothing() {
    for (api, _store) in Api::on_every().await {
        let acme = json!({ "tier": "premium" });
        api.check("PUT /v1/callers/acme", &acme, 201).await;
        for body in ["", "[]", r#"["free"]"#, "null", "5", " \n[]", "\"x\""] {
            for line in ["PUT /v1/callers/acme", "PATCH /v1/callers/acme"] {
                let answer = api.check(line, body, 400).await;
                let told = match body {
                    "" => "the body is empty; it must be a JSON object",
                    _ => "the body is not a JSON object",
                };
                assert_eq!(answer.json()["detail"], told, "{line} {body}");
            }
            api.check("POST /v1/callers/acme/bonuses", body, 400).await;
        }
        assert_eq!(api.caller("acme").await, acme);
    }
}

#[tokio::test]
async fn a_caller_whose_parent_was_deleted_can_be_changed() {
    for (api, _store) in Api::on_every().await {
        api.check("PUT /v1/callers/acme", "{}", 201).await;
        api.check("PUT /v1/callers/alice", json!({ "parent": "acme" }), 201).await;
        api.check("DELETE /v1/callers/acme", "", 204).await;
        api.check("PATCH /v1/callers/alice", json!({ "disabled": true }), 200).await;
        let bonus = json!({ "limit": "daily", "amount": 1, "until": "2099-01-01" });
        api.check("POST /v1/callers/alice/bonuses", bonus, 201).await;
        api.check("PATCH /v1/callers/alice", json!({ "parent": "nobody" }), 422).await;
    }
}

#[tokio::test]
async fn a_weak_tag_is_enough_for_reading_but_not_for_writing() {
    for (api, _store) in Api::on_every().await {
        let made = api.check("PUT /v1/callers/a", "{}", 201).await;
        let weak = format!("W/{}", made.header("etag"));
        let check = async |line: &str, name: &str, status: u16| {
            let answer = api.ask(line, &[(name, &weak)], "{}").await;
            assert_eq!(answer.status, status, "{line} {name}");
        };
        check("GET /v1/callers/a", "if-none-match", 304).await;
        check("PUT /v1/callers/a", "if-none-match", 412).await;
        check("PUT /v1/callers/a", "if-match", 412).await;
    }
}

#[tokio::test]
async fn many_writers_of_one_caller_all_have_their_turn() {
    for (api, _store) in Api::on_every().await {
        api.check("PUT /v1/callers/a", "{}", 201).await;
        let give = async |id: usize| {
            let bonus = json!({ "id": id.to_string(), "limit": "daily", "amount": 1, "until": "2099-01-01" });
            api.check("POST /v1/callers/a/bonuses", bonus, 201).await;
        };
        let half = async |first: usize| {
            tokio::join!(
                give(first),
                give(first + 1),
                give(first + 2),
                give(first + 3),
                give(first + 4)
            );
        };
        tokio::join!(half(0), half(5));
        assert_eq!(api.caller("a").await["bonuses"].as_array().unwrap().len(), 10);
    }
}

#[tokio::test]
async fn a_redis_that_refuses_to_write_is_told_with_its_reason() {
    let Some((api, store)) = Api::on_redis(&[]).await else { return };
    let Store::Redis(server) = &store else { unreachable!() };
    let mut raw = server.raw().await;
    redis::cmd("REPLICAOF").arg(&["127.0.0.1", "1"]).exec(&mut raw).unwrap();
    let answer = api.check("PUT /v1/callers/a", "{}", 503).await;
    let detail = answer.json()["detail"].to_string();
    assert!(
        detail.contains("the store refused the call: ") && detail.contains("replica"),
        "{detail}"
    );
}

#[tokio::test]
async fn a_request_of_an_unknown_caller_waits_one_deadline_and_not_two() {
    const POLICY: &str = "domain: d\ncaller: {key: user}\ndescriptors: [{key: user, limits: [{rate: 1/day, on_outage: allow}]}]\n";
    let Some(server) = Server::start(&[]) else { return };
    let store = Store::Redis(server);
    let tollgate = Tollgate::serve_with(POLICY, &store, &["--store-deadline", "400ms"]).await;
    let ask = async |user: &str| {
        let entry = json!({ "key": "user", "value": user });
        let body = json!({ "domain": "d", "descriptors": [{ "entries": [entry] }] });
        let url = format!("http://{}/json", tollgate.http_address);
        Http::new().post(&url, &[], &body.to_string()).await.status
    };
    assert_eq!(ask("alice").await, 200);
    let Store::Redis(server) = &store else { unreachable!() };
    server.signal("STOP");
    let started = Instant::now();
    assert_eq!(ask("bob").await, 200);
    let waited = started.elapsed();
    server.signal("CONT");
    assert!((400..750).contains(&waited.as_millis()), "{waited:?}");
}
