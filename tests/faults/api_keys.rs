//! The end of an API key, while the Redis that knows it is replaced: on three sidecars, under load.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use axum::http::Request;
use bytes::Bytes;
use futures_util::future::join_all;
use http_body_util::Full;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::sentinel::Watched;
use crate::gateway::api_keys::checker::Checker;
use crate::gateway::api_keys::scene::{Keeper, POLICY};
use crate::support::client::Answer;
use crate::support::cluster::Cluster;
use crate::support::eventually;
use crate::support::store::Store;

/// The time after which a change must be in force everywhere.
const IN_FORCE: Duration = Duration::from_secs(1);

/// Three sidecars, each of which is asked without a pause for one API key.
struct Fleet {
    keepers: Vec<Keeper>,
    checkers: Vec<Checker>,
}

/// The statuses of the load of one API key, with the instants at which the requests began.
struct Load {
    stop: Arc<AtomicBool>,
    asking: Vec<JoinHandle<Vec<(Instant, i32)>>>,
}

impl Fleet {
    async fn start(flags: &[String]) -> Self {
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        let (mut keepers, mut checkers) = (Vec::new(), Vec::new());
        for _ in 0..3 {
            let keeper = Keeper::start(POLICY, &Store::Embedded, &flags).await;
            checkers.push(Checker::of(&keeper.tollgate, "192.0.2.1").await);
            keepers.push(keeper);
        }
        Self { keepers, checkers }
    }

    /// An API key that passes everywhere: its text and its id.
    async fn created(&self) -> (String, String) {
        let made = eventually("an API key is created", async || {
            let answer = self.keepers[0].call("POST", "", &json!({ "caller": "acme" })).await;
            (answer.status == 201).then(|| answer.json())
        })
        .await;
        let text = |name: &str| made[name].as_str().unwrap().to_owned();
        let key = text("api_key");
        self.all_are(&key, 200).await;
        (key, text("id"))
    }

    async fn all_are(&self, key: &str, expected: i32) {
        eventually(&format!("{expected} everywhere"), async || {
            let all = join_all(self.checkers.iter().map(|checker| checker.status(key))).await;
            all.iter().all(|status| *status == expected).then_some(())
        })
        .await;
    }

    /// Disables an API key, as often as needed until that is accepted.
    async fn revoked(&self, id: &str) -> Instant {
        eventually("the revocation is accepted", async || {
            let disabled = json!({ "disabled": true });
            let answer = self.keepers[1].call("PATCH", &format!("/{id}"), &disabled).await;
            assert!([200, 503].contains(&answer.status), "{}", answer.json());
            (answer.status == 200).then(Instant::now)
        })
        .await
    }

    fn load(&self, key: &str) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let asking = self.checkers.iter().map(|checker| {
            let (checker, key, stop) = (checker.clone(), key.to_owned(), stop.clone());
            tokio::spawn(async move {
                let mut answers = Vec::new();
                while !stop.load(Ordering::SeqCst) {
                    let begun = Instant::now();
                    answers.push((begun, checker.status(&key).await));
                }
                answers
            })
        });
        Load { asking: asking.collect(), stop }
    }
}

impl Load {
    /// Checks that none has passed a second after the revocation, and returns the number of those that got no answer of Redis.
    async fn end(self, revoked: Instant) -> usize {
        self.stop.store(true, Ordering::SeqCst);
        let mut unavailable = 0;
        for answers in join_all(self.asking).await {
            let answers = answers.unwrap();
            let passed = answers.iter().filter(|(_, status)| *status == 200);
            assert_ne!(passed.clone().count(), 0, "there was load");
            let late = passed.filter(|(begun, _)| revoked + IN_FORCE < *begun).count();
            assert_eq!(late, 0, "of {}", answers.len());
            unavailable += answers.iter().filter(|(_, status)| *status == 503).count();
        }
        unavailable
    }
}

/// Ends one API key right before its Redis is lost, and another one while it is replaced. A third one passes after that.
async fn check(fleet: &Fleet, lose: impl AsyncFnOnce()) {
    let ((before, before_id), (during, during_id)) = (fleet.created().await, fleet.created().await);
    let (kept, _) = fleet.created().await;
    let loads = [fleet.load(&before), fleet.load(&during)];
    fleet.all_are(&before, 200).await;
    let first = fleet.revoked(&before_id).await;
    lose().await;
    let second = fleet.revoked(&during_id).await;
    fleet.all_are(&kept, 200).await;
    for key in [&before, &during] {
        fleet.all_are(key, 401).await;
    }
    eventually("a second is over", async || (IN_FORCE < second.elapsed()).then_some(())).await;
    let [before, during] = loads;
    before.end(first).await;
    assert_ne!(during.end(second).await, 0, "the outage was noticed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_api_key_passes_nowhere_while_sentinel_replaces_the_master() {
    let Some(mut watched) = Watched::start().await else { return };
    let fleet = Fleet::start(&watched.flags()).await;
    check(&fleet, async || watched.master.kill()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_api_key_passes_nowhere_while_a_cluster_replaces_a_master() {
    let Some(mut cluster) = Cluster::start(3, true).await else { return };
    let mut flags = cluster.flags();
    flags.extend(["--store-deadline".to_owned(), "1s".to_owned()]);
    let fleet = Fleet::start(&flags).await;
    check(&fleet, async || cluster.kill_master_of("tgc1").await).await;
}

/// A master answers before its replicas have a change. If it is lost then, so is the change.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revocation_that_no_replica_has_is_not_accepted() {
    let Some(mut watched) = Watched::start().await else { return };
    let fleet = Fleet::start(&watched.flags()).await;
    let (key, id) = fleet.created().await;
    watched.master.replicated().await;
    watched.replica.signal("STOP");
    let disabled = json!({ "disabled": true });
    let answer = fleet.keepers[0].call("PATCH", &format!("/{id}"), &disabled).await;
    assert_eq!(answer.status, 503, "{}", answer.json());
    assert!(
        answer.json()["detail"].as_str().unwrap().contains("repeat the request"),
        "{}",
        answer.json()
    );
    fleet.all_are(&key, 401).await;
    // So it is gone, as was said, and holds when it is repeated.
    watched.master.kill();
    watched.replica.signal("CONT");
    fleet.revoked(&id).await;
    fleet.all_are(&key, 401).await;
    assert!(
        fleet.keepers[0].tollgate.output().contains("no replica of Redis has confirmed a change")
    );
}

/// Sends a request to the API.
async fn ask(keeper: &Keeper, (method, path, body): (&str, &str, &Value)) -> Answer {
    let url = format!("http://{}{path}", keeper.tollgate.http_address);
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let request = Request::builder().method(method).uri(url);
    keeper.http.send(request.body(Full::new(Bytes::from(body))).unwrap()).await
}

/// What ends access waits for a replica, and can be repeated as it is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_a_caller_or_of_an_api_key_that_no_replica_has_is_repeated() {
    let Some(watched) = Watched::start().await else { return };
    let fleet = Fleet::start(&watched.flags()).await;
    let (key, id) = fleet.created().await;
    let keeper = &fleet.keepers[0];
    for caller in ["acme", "bob"] {
        let put = eventually("a caller is created", async || {
            let answer = ask(keeper, ("PUT", &format!("/v1/callers/{caller}"), &json!({}))).await;
            (answer.status < 300).then_some(answer.status)
        });
        assert_eq!(put.await, 201);
    }
    watched.master.replicated().await;
    watched.replica.signal("STOP");
    let key_path = format!("/v1/api-keys/{id}");
    let disabled = json!({ "disabled": true });
    let ends = [
        ("DELETE", &*key_path, &Value::Null, 204),
        ("PATCH", "/v1/callers/acme", &disabled, 200),
        ("POST", "/v1/callers/bob/erase", &Value::Null, 200),
    ];
    for (method, path, body, _) in ends {
        for _ in 0..2 {
            let answer = ask(keeper, (method, path, body)).await;
            assert_eq!(answer.status, 503, "{method} {path}: {}", answer.json());
            let told = answer.json()["detail"].as_str().unwrap().to_owned();
            assert!(told.ends_with("a failover may undo it; repeat the request"), "{told}");
        }
    }
    // The API key is of no use already, but is not lost before it may be.
    fleet.all_are(&key, 401).await;
    assert_eq!(ask(keeper, ("GET", &key_path, &Value::Null)).await.json()["disabled"], true);
    // Other changes of callers do not wait.
    let other = ask(keeper, ("PATCH", "/v1/callers/acme", &json!({ "tier": "premium" }))).await;
    assert_eq!(other.status, 200, "{}", other.json());
    watched.replica.signal("CONT");
    for (method, path, body, status) in ends {
        eventually(&format!("{method} {path} is confirmed"), async || {
            let answer = ask(keeper, (method, path, body)).await;
            assert!([503, status].contains(&answer.status), "{path}: {}", answer.json());
            (answer.status == status).then_some(())
        })
        .await;
    }
    assert_eq!(ask(keeper, ("GET", &key_path, &Value::Null)).await.status, 404);
}
