//! Concurrent changes of callers by two sidecars on one Redis: a check still holds when its change is made.

use serde_json::{Value, json};

use super::Api;

/// Number of concurrent changes.
const ROUNDS: usize = 40;

/// Two sidecars on one directory.
struct Pair {
    apis: [Api; 2],
    _store: crate::support::store::Store,
}

impl Pair {
    async fn start() -> Option<Self> {
        let (one, store) = Api::on_redis(&[]).await?;
        let other = Api::start(&store, &[]).await;
        Some(Self { apis: [one, other], _store: store })
    }

    /// Sends all requests at once, alternating between the sidecars, and returns the statuses.
    async fn at_once(&self, requests: &[(&str, Value)]) -> Vec<u16> {
        let sent = requests.iter().enumerate().map(async |(index, (line, body))| {
            self.apis[index % 2].ask(line, &[], body).await.status
        });
        futures_util::future::join_all(sent).await
    }

    async fn put(&self, name: &str, caller: Value) {
        let line = format!("PUT /v1/callers/{name}");
        let answer = self.apis[0].ask(&line, &[], caller).await;
        assert!(answer.status < 300, "{line}: {}", answer.json());
    }

    /// The parents of a caller, nearest first, up to the maximum.
    async fn parents(&self, name: &str) -> Vec<String> {
        let mut parents: Vec<String> = Vec::new();
        while parents.len() < 8 {
            let last = parents.last().map_or(name, String::as_str);
            let Some(parent) =
                self.apis[0].caller(last).await["parent"].as_str().map(str::to_owned)
            else {
                break;
            };
            parents.push(parent);
        }
        parents
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parents_that_are_given_at_once_never_go_round_in_a_circle() {
    let Some(pair) = Pair::start().await else { return };
    let rings: [&[(&str, &str)]; 3] = [
        &[("PUT /v1/callers/a", "b"), ("PUT /v1/callers/b", "a")],
        &[("PATCH /v1/callers/a", "b"), ("PUT /v1/callers/b", "a")],
        &[("PUT /v1/callers/a", "b"), ("PUT /v1/callers/b", "c"), ("PATCH /v1/callers/c", "a")],
    ];
    for round in 0..ROUNDS {
        for name in ["a", "b", "c"] {
            pair.put(name, json!({})).await;
        }
        let ring = rings[round % rings.len()];
        let requests: Vec<_> =
            ring.iter().map(|(line, parent)| (*line, json!({ "parent": parent }))).collect();
        let mut statuses = pair.at_once(&requests).await;
        statuses.sort_unstable();
        let mut expected = vec![200; ring.len() - 1];
        expected.push(422);
        assert_eq!(statuses, expected, "round {round}: {ring:?}");
        for name in ["a", "b", "c"] {
            let parents = pair.parents(name).await;
            assert!(parents.len() < 3 && !parents.iter().any(|one| one == name), "{parents:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn patches_of_different_fields_at_once_are_all_kept() {
    let Some(pair) = Pair::start().await else { return };
    pair.put("acme", json!({})).await;
    for round in 0..ROUNDS {
        pair.put("a", json!({})).await;
        let line = "PATCH /v1/callers/a";
        let fields = [
            json!({ "notes": round.to_string() }),
            json!({ "roles": ["partner"] }),
            json!({ "parent": "acme" }),
            json!({ "disabled": true }),
        ];
        let requests: Vec<_> = fields.iter().map(|field| (line, field.clone())).collect();
        assert_eq!(pair.at_once(&requests).await, [200; 4]);
        let caller = pair.apis[1].caller("a").await;
        for field in &fields {
            let (name, value) = field.as_object().unwrap().iter().next().unwrap();
            assert_eq!(caller[name], *value, "round {round}: {caller}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bonuses_that_are_given_at_once_never_pass_their_bound() {
    let Some(pair) = Pair::start().await else { return };
    pair.put("a", json!({})).await;
    let line = "POST /v1/callers/a/bonuses";
    let bonus =
        |id: &str| json!({ "id": id, "limit": "daily", "amount": 1, "until": "2099-01-01" });
    for id in 0..31 {
        pair.apis[0].check(line, bonus(&id.to_string()), 201).await;
    }
    for round in 0..ROUNDS {
        // The same id twice, or one more than there may be.
        let (ids, refusal) = if round % 2 == 0 { (["x", "y"], 422) } else { (["x", "x"], 409) };
        let requests = ids.map(|id| (line, bonus(id)));
        let mut statuses = pair.at_once(&requests).await;
        statuses.sort_unstable();
        assert_eq!(statuses, [201, refusal], "round {round}");
        let caller = pair.apis[1].caller("a").await;
        let bonuses = caller["bonuses"].as_array().unwrap();
        assert_eq!(bonuses.len(), 32);
        let id = bonuses.last().unwrap()["id"].as_str().unwrap().to_owned();
        pair.apis[1].check(&format!("DELETE /v1/callers/a/bonuses/{id}"), "", 204).await;
    }
}
