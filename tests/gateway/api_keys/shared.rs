//! API keys on several sidecars, through outages and restarts.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::checker::Checker;
use super::scene::{Keeper, PEPPER, POLICY};
use crate::support::eventually;
use crate::support::redis::Server;
use crate::support::store::Store;
use crate::support::tollgate::Tollgate;

const ADDRESS: &str = "192.0.2.1";

/// The time after which a change must be in force everywhere.
const IN_FORCE: Duration = Duration::from_secs(1);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_api_key_passes_nowhere_after_a_second() {
    let Some(server) = Server::start(&[]) else { return };
    let store = Store::Redis(server);
    let mut keepers = Vec::new();
    let mut checkers = Vec::new();
    for _ in 0..3 {
        let keeper = Keeper::start(POLICY, &store, &[]).await;
        checkers.push(Checker::of(&keeper.tollgate, ADDRESS).await);
        keepers.push(keeper);
    }
    let revocations: [(&str, &str, Value); 3] = [
        ("PATCH", "", json!({ "disabled": true })),
        ("POST", "/rotate", json!({})),
        ("DELETE", "", Value::Null),
    ];
    for (method, operation, body) in revocations {
        let (key, id) = keepers[0].create(&json!({ "caller": "acme" })).await;
        let stop = Arc::new(AtomicBool::new(false));
        let load = checkers.iter().map(|checker| {
            let (checker, key, stop) = (checker.clone(), key.clone(), stop.clone());
            tokio::spawn(async move {
                let mut passed = Vec::new();
                while !stop.load(Ordering::SeqCst) {
                    let begun = Instant::now();
                    if checker.status(&key).await == 200 {
                        passed.push(begun);
                    }
                }
                passed
            })
        });
        let load: Vec<_> = load.collect();
        for checker in &checkers {
            assert_eq!(checker.status(&key).await, 200);
        }
        let answer = keepers[1].call(method, &format!("/{id}{operation}"), &body).await;
        assert!(answer.status < 300, "{method}: {}", answer.json());
        let revoked = Instant::now();
        eventually("the API key passes nowhere", async || {
            let all = join_all(checkers.iter().map(|checker| checker.status(&key))).await;
            let is_over = IN_FORCE < revoked.elapsed();
            (all.iter().all(|status| *status == 401) && is_over).then_some(())
        })
        .await;
        stop.store(true, Ordering::SeqCst);
        for passed in join_all(load).await {
            let passed = passed.unwrap();
            assert!(!passed.is_empty(), "there was load");
            let late = passed.iter().filter(|begun| revoked + IN_FORCE < **begun).count();
            assert_eq!(late, 0, "{method}{operation}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_is_answered_as_the_policy_says() {
    for (on_outage, status) in [("deny", 503), ("cached", 200)] {
        let Some(server) = Server::start(&[]) else { return };
        let store = Store::Redis(server);
        let policy = POLICY.replace("api_keys:", &format!("api_keys:\n  on_outage: {on_outage}"));
        let keeper = Keeper::start(&policy, &store, &["--store-deadline", "100ms"]).await;
        let checker = Checker::of(&keeper.tollgate, ADDRESS).await;
        let (used, _) = keeper.create(&json!({ "caller": "acme" })).await;
        let (unused, _) = keeper.create(&json!({ "caller": "acme" })).await;
        let (ended, id) = keeper.create(&json!({ "caller": "acme" })).await;
        for cached in [&used, &ended] {
            let passes = async || (checker.status(cached).await == 200).then_some(());
            eventually("it is cached", passes).await;
        }
        keeper.patch(&id, &json!({ "disabled": true })).await;
        let Store::Redis(mut server) = store else { unreachable!() };
        server.kill();
        eventually("the outage is noticed", async || {
            let all = (checker.status(&used).await, checker.status(&unused).await);
            (all == (status, 503)).then_some(())
        })
        .await;
        assert_eq!(checker.status(&used).await, status);
        // One that was disabled before does not come back.
        assert_eq!(checker.status(&ended).await, 503);
        let answer = keeper.call("POST", "", &json!({ "caller": "acme" })).await;
        assert_eq!(answer.status, 503);
        server.launch();
        // The new server has none of them.
        eventually("it is back", async || (checker.status(&used).await == 401).then_some(())).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unknown_api_keys_are_limited_by_address_and_known_ones_pass() {
    for store in Store::every() {
        let policy = POLICY.replace("1000/minute", "5/hour");
        let keeper = Keeper::start(&policy, &store, &[]).await;
        let checker = Checker::of(&keeper.tollgate, ADDRESS).await;
        let (used, _) = keeper.create(&json!({ "caller": "acme" })).await;
        let (deleted, id) = keeper.create(&json!({ "caller": "acme" })).await;
        keeper.call("DELETE", &format!("/{id}"), &Value::Null).await;
        eventually("it is cached", async || (checker.status(&used).await == 200).then_some(()))
            .await;
        for wrong in [&deleted, "tg_x", &deleted, "", &deleted] {
            let expected = 401;
            assert_eq!(checker.status(wrong).await, expected, "{wrong}");
        }
        for _ in 0..3 {
            checker.status("tg_x").await;
        }
        assert_eq!(checker.status(&deleted).await, 429);
        assert_eq!(checker.status("tg_x").await, 429);
        assert_eq!(checker.status(&used).await, 200);
        let other = Checker::of(&keeper.tollgate, "2001:db8::1").await;
        assert_eq!(other.status(&deleted).await, 401);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_sidecar_tells_the_last_use_of_an_api_key() {
    for store in Store::every() {
        let keeper = Keeper::start(POLICY, &store, &[]).await;
        let (key, id) = keeper.create(&json!({ "caller": "acme" })).await;
        let shown = async |keeper: &Keeper| {
            keeper.call("GET", &format!("/{id}"), &Value::Null).await.json()["last_used"].clone()
        };
        assert_eq!(shown(&keeper).await, Value::Null);
        for address in ["192.0.2.1", "2001:db8::7"] {
            let checker = Checker::of(&keeper.tollgate, address).await;
            assert_eq!(checker.status(&key).await, 200);
            assert_eq!(shown(&keeper).await["address"], address);
        }
        let listed = keeper.call("GET", "?caller=acme", &Value::Null).await.json();
        assert_eq!(listed["items"][0]["last_used"]["address"], "2001:db8::7", "{listed}");
        // A refused request is no use.
        let checker = Checker::of(&keeper.tollgate, ADDRESS).await;
        let disabled = json!({ "disabled": true });
        keeper.call("PATCH", &format!("/{id}"), &disabled).await;
        assert_eq!(checker.status(&key).await, 401);
        assert_eq!(shown(&keeper).await["address"], "2001:db8::7");
        if let Store::Redis(_) = &store {
            let other = Keeper::start(POLICY, &store, &[]).await;
            let seen = async || (shown(&other).await == shown(&keeper).await).then_some(());
            eventually("another sidecar tells the last use", seen).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_key_passes_at_its_times_alone() {
    for store in Store::every() {
        let keeper = Keeper::start(POLICY, &store, &[]).await;
        let checker = Checker::of(&keeper.tollgate, ADDRESS).await;
        let later = json!({ "timezone": "Asia/Tokyo", "dates": ["2099-01-01"] });
        let (key, id) = keeper.create(&json!({ "caller": "acme", "when": later })).await;
        assert_eq!(checker.status(&key).await, 401);
        let shown = keeper.call("GET", &format!("/{id}"), &Value::Null).await.json();
        assert_eq!(shown["when"], later);
        let all_days = json!({ "when": { "dates": null, "weekdays": ["monday-sunday"] } });
        let patched = keeper.call("PATCH", &format!("/{id}"), &all_days).await;
        assert_eq!(patched.status, 200, "{}", patched.json());
        assert_eq!(patched.json()["when"]["timezone"], "Asia/Tokyo");
        let passes = async || (checker.status(&key).await == 200).then_some(());
        eventually("the change is in force", passes).await;
        let wrong = json!({ "caller": "acme", "when": { "hours": ["9-18"] } });
        let refused = keeper.call("POST", "", &wrong).await;
        assert_eq!(refused.status, 422);
        let detail = refused.json()["detail"].as_str().unwrap().to_owned();
        assert!(detail.starts_with("when.hours.0: invalid hours `9-18`"), "{detail}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_peppers_nothing_of_it_exists() {
    let tollgate = Tollgate::serve(POLICY, &Store::Embedded).await;
    let checker = Checker::of(&tollgate, ADDRESS).await;
    let status = checker.check("tg_x", &[]).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unimplemented);
    let http = crate::support::client::Http::new();
    let url = format!("http://{}/v1/api-keys", tollgate.http_address);
    let answer = http.get(&url, &[]).await;
    assert_eq!(answer.status, 404);
    assert!(answer.json()["detail"].as_str().unwrap().contains("api_key_pepper_file"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn api_keys_outlive_a_restart_and_their_peppers_are_rotated() {
    let folder = TempDir::new().unwrap();
    let pepper = folder.path().join("peppers");
    let data = folder.path().join("data");
    let flags =
        ["--api-key-pepper-file", pepper.to_str().unwrap(), "--data-dir", data.to_str().unwrap()];
    let end = async |mut keeper: Keeper| {
        keeper.tollgate.terminate();
        assert!(keeper.tollgate.exit().await.success());
    };
    let serve = async || {
        let tollgate = Tollgate::serve_with(POLICY, &Store::Embedded, &flags).await;
        Keeper::of(tollgate)
    };
    fs::write(&pepper, PEPPER).unwrap();
    let keeper = serve().await;
    let (first, first_id) = keeper.create(&json!({ "caller": "acme" })).await;
    assert_eq!(Checker::of(&keeper.tollgate, ADDRESS).await.status(&first).await, 200);
    end(keeper).await;

    let new = "another pepper of the tests, which is used from now on";
    fs::write(&pepper, format!("{new}\n{PEPPER}\n")).unwrap();
    let keeper = serve().await;
    let shown = keeper.call("GET", &format!("/{first_id}"), &Value::Null).await.json();
    assert_eq!(shown["last_used"]["address"], ADDRESS, "{shown}");
    let checker = Checker::of(&keeper.tollgate, ADDRESS).await;
    let (second, _) = keeper.create(&json!({ "caller": "acme" })).await;
    assert_eq!((checker.status(&first).await, checker.status(&second).await), (200, 200));
    let shown = keeper.call("GET", &format!("/{first_id}"), &Value::Null).await.json();
    assert_eq!(shown["secrets"][0]["pepper"], "earlier", "{shown}");
    end(keeper).await;

    fs::write(&pepper, new).unwrap();
    let keeper = serve().await;
    let checker = Checker::of(&keeper.tollgate, ADDRESS).await;
    assert_eq!((checker.status(&first).await, checker.status(&second).await), (401, 200));
    let shown = keeper.call("GET", &format!("/{first_id}"), &Value::Null).await.json();
    assert_eq!(shown["secrets"][0]["pepper"], "unknown", "{shown}");
}
