//! Refusals explained by their id, over HTTP and on the command line.

use serde_json::{Value, json};

use super::{Audited, POLICY};
use crate::support::store::Store;
use crate::support::tollgate::api_token;

#[tokio::test]
async fn the_id_of_a_refusal_explains_it() {
    let policy =
        format!("{POLICY}\nanswer: {{ refusal_id: [header, metadata, body], body: problem }}");
    for store in Store::every() {
        let audited = Audited::serving(&policy, &store, &[]).await;
        for _ in 0..3 {
            let answer = audited.ask("alice").await;
            assert!(answer.response_headers_to_add.is_empty());
        }
        let answer = audited.ask("alice").await;
        let headers = &answer.response_headers_to_add;
        let id = &headers.iter().find(|header| header.key == "x-refusal-id").unwrap().value;
        let problem: Value = serde_json::from_slice(&answer.raw_body).unwrap();
        assert_eq!(problem["refusal_id"], **id);
        let why = audited.get(&format!("/v1/why/{id}"), &[]).await;
        assert_eq!(why.status, 200);
        let why = why.json();
        let refusal = &why["refusal"];
        assert_eq!(refusal["id"], **id);
        assert_eq!(
            (&refusal["caller"], &refusal["reason"]),
            (&json!("alice"), &json!("over_limit"))
        );
        let limit = &refusal["limits"][0];
        assert_eq!((&limit["used"], &limit["remaining"]), (&json!(3), &json!(0)));
        assert_eq!(why["would_have_passed"], json!({ "after_ms": limit["wait_ms"] }));
        let text = why["text"].as_str().unwrap();
        assert!(text.contains("`daily`: 3 of 3 hits were in use, 0 remained, 1 were"), "{text}");
        let (status, shown) = audited.command(&["why", id]);
        assert_eq!(status, Some(0), "{shown}");
        let rows: Vec<Vec<&str>> =
            shown.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(rows[1][..7], ["daily", "over_limit", "enforce", "1", "3", "3", "0"]);
        assert_eq!(shown.lines().last(), Some(text));
        let (_, json) = audited.command(&["why", id, "--output", "json"]);
        assert_eq!(serde_json::from_str::<Value>(&json).unwrap(), why);
        let (status, shown) = audited.command(&["why", "0000000000001"]);
        assert!(status == Some(1) && shown.contains("status 404"), "{shown}");
        if let Store::Redis(_) = &store {
            let other = Audited::serving(&policy, &store, &[]).await;
            assert_eq!(other.get(&format!("/v1/why/{id}"), &[]).await.json(), why);
        }
        assert_eq!(audited.get("/v1/why/0000000000001", &[]).await.status, 404);
        assert_eq!(audited.get("/v1/why/x", &[]).await.status, 400);
    }
}

#[tokio::test]
async fn the_role_self_may_read_its_own_refusals_alone() {
    let policy = format!("{POLICY}\nanswer: {{ refusal_id: [header] }}");
    let (own, viewer) = (api_token("alice", "self"), api_token("ops", "viewer"));
    let flags = ["--api-tokens", &format!("{},{}", own.1, viewer.1)];
    let audited = Audited::serving(&policy, &Store::Embedded, &flags).await;
    let mut ids = Vec::new();
    for caller in ["alice", "bob"] {
        for _ in 0..3 {
            audited.ask(caller).await;
        }
        ids.push(audited.ask(caller).await.response_headers_to_add[0].value.clone());
    }
    let status = async |id: &str, token: &str| {
        let authorization = format!("Bearer {token}");
        audited.get(&format!("/v1/why/{id}"), &[("authorization", &authorization)]).await.status
    };
    let [alice, bob] = &ids[..] else { unreachable!("two ids") };
    assert_eq!((status(alice, &own.0).await, status(bob, &own.0).await), (200, 403));
    assert_eq!((status(alice, &viewer.0).await, status(bob, &viewer.0).await), (200, 200));
    assert_eq!(status(alice, "none").await, 401);
}
