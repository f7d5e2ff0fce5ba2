//! The policy of `config/policies/workspace.yaml`, on both stores: what a workspace may have of each kind of resource.

use std::fs;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::ask::DomainClient;
use crate::support::client::{Answer, Http};
use crate::support::eventually;
use crate::support::store::Store;
use crate::support::tollgate::Tollgate;

const POLICY: &str = "config/policies/workspace.yaml";

/// How many of each kind a workspace may have.
const KINDS: [(&str, u32); 8] = [
    ("users", 1_000),
    ("segments", 50),
    ("journeys", 20),
    ("broadcasts", 100),
    ("computed-properties", 100),
    ("audiences", 50),
    ("email-templates", 100),
    ("subscription-groups", 10),
];

/// Runs `check` with the policy on every store.
async fn on_every_store(check: impl AsyncFn(&Tollgate, &mut DomainClient)) {
    let policy = fs::read_to_string(POLICY).unwrap();
    for store in Store::every() {
        let tollgate = Tollgate::serve(&policy, &store).await;
        check(&tollgate, &mut DomainClient::new(&tollgate, "workspace").await).await;
    }
}

/// Sends an operation on the quota of a workspace.
async fn post(tollgate: &Tollgate, operation: &str, body: &Value) -> Answer {
    let address = tollgate.http_address;
    let url = format!("http://{address}/v1/callers/w/quota/{operation}");
    Http::new().post(&url, &[], &body.to_string()).await
}

async fn get(tollgate: &Tollgate, query: &str) -> Answer {
    let url = format!("http://{}/v1/callers/w/quota?{query}", tollgate.http_address);
    Http::new().get(&url, &[]).await
}

/// What is used of one kind, and its mark.
async fn used(tollgate: &Tollgate, kind: &str) -> (u64, String) {
    let answer = get(tollgate, &format!("entries=resource={kind}")).await.json();
    let item = &answer["items"][0];
    (item["used"].as_u64().unwrap(), item["mark"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn each_kind_has_its_amount_and_a_grace() {
    on_every_store(async |_, client| {
        for (kind, amount) in KINDS {
            let resource = &[&*format!("workspace_id=w,resource={kind}")];
            assert!(client.ask(resource, amount).await.passed, "{kind}");
            let reported = client.ask(resource, amount / 10).await;
            assert!(reported.passed, "{kind}: a tenth more passes for a day");
            assert_eq!(reported.metadata["grace"][0]["name"], kind, "{:?}", reported.metadata);
            let refused = client.ask(resource, 1).await;
            assert_eq!((refused.passed, refused.violated()), (false, vec![kind]), "{kind}");
            assert_eq!(refused.problem["retry_after_ms"], Value::Null, "time brings nothing back");
            assert!(client.ask(&[&format!("workspace_id=v,resource={kind}")], 1).await.passed);
        }
    })
    .await;
}

#[tokio::test]
async fn what_is_deleted_may_be_created_again_and_a_count_is_never_below_zero() {
    on_every_store(async |_, client| {
        let journeys = &["workspace_id=w,resource=journeys"];
        assert!(client.ask(journeys, 20).await.passed);
        assert!(client.give_back(journeys, 5).await.passed);
        assert_eq!(client.remaining(journeys).await, [5]);
        for _ in 0..3 {
            assert!(client.give_back(journeys, 18).await.passed);
        }
        assert_eq!(client.remaining(journeys).await, [20]);
        assert!(client.ask(journeys, 20).await.passed);
        assert_eq!(client.remaining(journeys).await, [0]);
    })
    .await;
}

#[tokio::test]
async fn one_question_shows_all_kinds_and_an_unknown_kind_is_named() {
    on_every_store(async |tollgate, client| {
        assert!(client.ask(&["workspace_id=w,resource=segments"], 7).await.passed);
        let answer = get(tollgate, "below=true").await.json();
        let items = answer["items"].as_array().unwrap();
        let shown: Vec<Value> =
            items.iter().map(|item| json!([item["limit"], item["quota"], item["used"]])).collect();
        let expected = KINDS
            .map(|(kind, amount)| json!([kind, amount, if kind == "segments" { 7 } else { 0 }]));
        assert_eq!(shown, expected);
        let answer = get(tollgate, "").await;
        assert_eq!((answer.status, &answer.json()["code"]), (404, &json!("QUOTA_NOT_FOUND")));
        let unknown = get(tollgate, "entries=resource=widgets").await;
        let problem = unknown.json();
        assert_eq!((unknown.status, &problem["code"]), (422, &json!("INVALID_RESOURCE_TYPE")));
        let detail = problem["detail"].as_str().unwrap();
        assert!(
            detail.starts_with("no rule has the resource `widgets`; there are users,"),
            "{detail}"
        );
        for operation in ["validate", "consume", "release", "reset"] {
            let body = json!({ "entries": [{ "resource": "widgets" }] });
            let problem = post(tollgate, operation, &body).await.json();
            assert_eq!(problem["code"], "INVALID_RESOURCE_TYPE", "{operation}: {problem}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_count_is_set_to_what_was_counted_and_loses_no_change_meanwhile() {
    on_every_store(async |tollgate, client| {
        let segments = &["workspace_id=w,resource=segments"];
        let count = |counted: u64, mark: &str| {
            json!({ "entries": [{ "resource": "segments" }], "counted": counted, "mark": mark })
        };
        assert!(client.ask(segments, 40).await.passed);
        let (before, mark) = used(tollgate, "segments").await;
        assert_eq!(before, 40);
        // While somebody counts 33, three more are created and one is deleted.
        assert!(client.ask(segments, 3).await.passed);
        assert!(client.give_back(segments, 1).await.passed);
        let answer = post(tollgate, "recalculate", &count(33, &mark)).await;
        assert_eq!((answer.status, &answer.json()["items"][0]["used"]), (200, &json!(35)));
        // An answer that was lost is asked for again.
        let again = post(tollgate, "recalculate", &count(33, &mark)).await;
        assert_eq!((again.status, &again.json()["items"][0]["used"]), (200, &json!(35)));
        // Somebody who counted something else at the same time has to count again.
        let other = post(tollgate, "recalculate", &count(30, &mark)).await;
        assert_eq!((other.status, &other.json()["code"]), (409, &json!("QUOTA_CHANGED")));
        let (now, mark) = used(tollgate, "segments").await;
        assert_eq!(now, 35);
        // More than the limit has counts too, and nothing is below zero.
        let answer = post(tollgate, "recalculate", &count(60, &mark)).await;
        assert_eq!(answer.json()["items"][0]["used"], 60);
        assert!(!client.ask(segments, 1).await.passed);
        let (_, mark) = used(tollgate, "segments").await;
        assert!(client.give_back(segments, 58).await.passed);
        let answer = post(tollgate, "recalculate", &count(0, &mark)).await;
        assert_eq!((answer.status, &answer.json()["items"][0]["used"]), (200, &json!(0)));
        // Without a mark, the number is that of now.
        let now = json!({ "entries": [{ "resource": "segments" }], "counted": 12 });
        for _ in 0..2 {
            let answer = post(tollgate, "recalculate", &now).await;
            assert_eq!((answer.status, &answer.json()["items"][0]["used"]), (200, &json!(12)));
        }
    })
    .await;
}

#[tokio::test]
async fn an_import_takes_what_is_left_and_tells_how_many() {
    on_every_store(async |_, client| {
        let users = &["workspace_id=w,resource=users"];
        assert!(client.ask(users, 1_050).await.passed);
        let reported = client.ask(users, 70).await;
        let expected = json!([{ "name": "users", "asked": 70.0, "granted": 50.0 }]);
        assert_eq!((reported.passed, &reported.metadata["granted"]), (true, &expected));
        assert!(!client.ask(users, 70).await.passed);
        // Of other kinds a request takes all or none.
        let segments = &["workspace_id=w,resource=segments"];
        assert!(!client.ask(segments, 56).await.passed);
        assert!(client.ask(segments, 55).await.passed);
    })
    .await;
}

#[tokio::test]
async fn a_charge_says_what_to_do_with_what_is_missing() {
    on_every_store(async |tollgate, _| {
        let take = async |kind: &str, hits: u64, mode: Option<&str>| {
            let entries = json!([{ "resource": kind }]);
            let body = match mode {
                Some(mode) => json!({ "entries": entries, "hits": hits, "mode": mode }),
                None => json!({ "entries": entries, "hits": hits }),
            };
            let answer = post(tollgate, "consume", &body).await;
            let body = answer.json();
            (answer.status, body["granted"].as_u64(), body["items"][0]["used"].as_u64())
        };
        assert_eq!(take("journeys", 19, Some("all_or_none")).await, (200, None, Some(19)));
        assert_eq!(take("journeys", 5, Some("all_or_none")).await, (429, None, None));
        assert_eq!(take("journeys", 1, Some("check_only")).await, (200, None, Some(19)));
        assert_eq!(take("journeys", 99, Some("check_only")).await, (429, None, None));
        // One is left, and a grace of two.
        assert_eq!(take("journeys", 5, Some("best_effort")).await, (200, Some(3), Some(22)));
        assert_eq!(take("journeys", 5, Some("best_effort")).await, (429, None, None));
        assert_eq!(take("journeys", 5, Some("adjust_only")).await, (200, None, Some(27)));
        assert_eq!(take("journeys", 1, None).await, (429, None, None));
        assert_eq!(take("users", 1_200, Some("all_or_none")).await, (429, None, None));
        assert_eq!(take("users", 1_200, None).await, (200, Some(1_100), Some(1_100)));
        assert_eq!(take("journeys", 1, Some("some")).await, (400, None, None));
    })
    .await;
}

const CALLERS: &str = "
callers:
  acme: { overrides: { segments: 80 } }
  acme-eu: { parent: acme, share: 25% }
  acme-lab: { parent: acme-eu, share: 50%, overrides: { journeys: 3 } }
  acme-test: { parent: acme, pool: true, share: 10% }
  acme-shop: { parent: acme, pool: true }
";

#[tokio::test]
async fn a_child_has_a_part_of_its_parents_amounts() {
    let policy = fs::read_to_string(POLICY).unwrap();
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("callers.yaml");
    fs::write(&file, CALLERS).unwrap();
    for store in Store::every() {
        let flags = ["--callers", file.to_str().unwrap()];
        let tollgate = Tollgate::serve_with(&policy, &store, &flags).await;
        let mut client = DomainClient::new(&tollgate, "workspace").await;
        // With its grace, in which whole hits pass.
        for (workspace, kind, amount) in [
            ("acme-eu", "segments", 20 + 2),
            ("acme-eu", "journeys", 5),
            ("acme-lab", "segments", 10 + 1),
            ("acme-lab", "journeys", 3),
            ("acme-lab", "audiences", 6),
        ] {
            let resource = format!("workspace_id={workspace},resource={kind}");
            client.spend_exactly(&[&resource], amount).await;
        }
        // A pool is spent together: at most a tenth by one of them, and all of it by the others.
        let segments = |workspace: &str| format!("workspace_id={workspace},resource=segments");
        assert!(!client.ask(&[&segments("acme-test")], 9).await.passed);
        assert!(client.ask(&[&segments("acme-test")], 8).await.passed);
        assert!(client.ask(&[&segments("acme-shop")], 70).await.passed);
        assert_eq!(client.remaining(&[&segments("acme")]).await, [2]);
        let url = |workspace: &str, operation: &str| {
            let address = tollgate.http_address;
            format!("http://{address}/v1/callers/{workspace}/quota{operation}")
        };
        let http = Http::new();
        let shown = http.get(&url("acme-eu", "?entries=resource=segments"), &[]).await.json();
        assert_eq!(
            (&shown["items"][0]["quota"], &shown["items"][0]["used"]),
            (&json!(20), &json!(22))
        );
        // What is counted with the parent is set right there.
        let count = json!({ "entries": [{ "resource": "segments" }], "counted": 50 }).to_string();
        let refused = http.post(&url("acme-shop", "/recalculate"), &[], &count).await;
        assert_eq!(
            (refused.status, refused.json()["code"].as_str()),
            (422, Some("INVALID_RESOURCE_TYPE"))
        );
        assert!(refused.json()["detail"].as_str().unwrap().contains("counted with `acme`"));
        assert_eq!(http.post(&url("acme", "/recalculate"), &[], &count).await.status, 200);
        assert_eq!(client.remaining(&[&segments("acme")]).await, [30]);
        // One with a counter of its own has that set right, and the pool is as it was.
        let own = json!({ "entries": [{ "resource": "segments" }], "counted": 5 }).to_string();
        assert_eq!(http.post(&url("acme-test", "/recalculate"), &[], &own).await.status, 200);
        assert_eq!(client.remaining(&[&segments("acme")]).await, [30]);
        assert!(client.ask(&[&segments("acme-test")], 3).await.passed);
        assert!(!client.ask(&[&segments("acme-test")], 1).await.passed);
    }
}

/// Puts another mode in force for all limits.
async fn switch(tollgate: &Tollgate, mode: &str) {
    let policy = fs::read_to_string(POLICY).unwrap();
    assert_eq!(policy.matches("\nmode: enforce").count(), 1);
    tollgate.edit(&policy.replace("\nmode: enforce", &format!("\nmode: {mode}")));
    let url = format!("http://{}/policy", tollgate.http_address);
    eventually(mode, async || {
        let shown = String::from_utf8(Http::new().get(&url, &[]).await.body.to_vec()).unwrap();
        shown.contains(&format!("\"{mode}\"")).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_policy_goes_from_warnings_over_a_grace_to_strict_limits() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("callers.yaml");
    fs::write(&file, "callers: { v: {}, w: {} }").unwrap();
    let policy = fs::read_to_string(POLICY).unwrap();
    for store in Store::every() {
        let flags = ["--callers", file.to_str().unwrap()];
        let tollgate = Tollgate::serve_with(&policy, &store, &flags).await;
        switch(&tollgate, "warn").await;
        let mut client = DomainClient::new(&tollgate, "workspace").await;
        let segments = &["workspace_id=w,resource=segments"];
        assert!(client.ask(segments, 50).await.passed);
        let warned = client.ask(segments, 3).await;
        let reported = &warned.metadata["limits"][0];
        assert_eq!(
            (warned.passed, &reported["over"], &reported["mode"]),
            (true, &json!(true), &json!("warn"))
        );

        switch(&tollgate, "enforce").await;
        assert!(client.ask(segments, 3).await.passed, "by its grace");
        assert!(!client.ask(segments, 3).await.passed);

        switch(&tollgate, "strict").await;
        assert!(!client.ask(segments, 1).await.passed, "a strict limit has no grace");
        let users = &["workspace_id=v,resource=users"];
        assert!(!client.ask(users, 1_200).await.passed, "and no request gets a part");
        assert!(client.ask(users, 1_000).await.passed);
        let url = format!("http://{}/v1/over?below=true&mode=strict", tollgate.http_address);
        let over = Http::new().get(&url, &[]).await.json();
        let items = over["items"].as_array().unwrap().iter();
        let listed: Vec<Value> =
            items.map(|item| json!([item["caller"], item["limit"], item["over"]])).collect();
        assert_eq!(listed, [json!(["w", "segments", 3])], "who has to delete some");
        assert!(client.give_back(segments, 4).await.passed);
        assert!(client.ask(segments, 1).await.passed);
        assert!(!client.ask(segments, 1).await.passed);
    }
}

#[tokio::test]
async fn a_recalculation_of_nothing_is_a_problem() {
    on_every_store(async |tollgate, _| {
        let check = async |body: Value, status: u16, code: &str| {
            let answer = post(tollgate, "recalculate", &body).await;
            let problem = answer.json();
            let reported = problem["code"].as_str().unwrap_or("");
            assert_eq!((answer.status, reported), (status, code), "{body}: {problem}");
        };
        let of = |kind: &str| json!([{ "resource": kind }]);
        check(json!({ "entries": of("users") }), 400, "").await;
        check(json!({ "entries": of("users"), "counted": -1 }), 400, "").await;
        check(json!({ "entries": of("users"), "counted": 1, "mark": "x" }), 400, "").await;
        check(json!({ "entries": of("users"), "counted": 1, "mark": "1.1" }), 409, "QUOTA_CHANGED")
            .await;
        check(json!({ "entries": of("widgets"), "counted": 1 }), 422, "INVALID_RESOURCE_TYPE")
            .await;
        let other = json!({ "entries": of("users"), "counted": 1, "limit": "segments" });
        check(other, 404, "QUOTA_NOT_FOUND").await;
    })
    .await;
}
