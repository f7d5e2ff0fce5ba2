//! Plans with bonuses, retries and reservations, with `config/policies/ai.yaml`: to the hit, on every store, and through a real
//! Envoy. `retries.rs` has more about retries with this policy.

use std::fs;

use axum::http::Request;
use http_body_util::Full;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::ask::DomainClient;
use crate::support::client::{Answer, Http};
use crate::support::gateway::{Gateway, tcp};
use crate::support::store::Store;
use crate::support::tollgate::Tollgate;

/// A Tollgate with the policy, and a workspace `w` of the plan `free` that may have a bonus of 5 generations.
struct Product {
    tollgate: Tollgate,
    /// The directory, where it is not in Redis.
    callers: Option<TempDir>,
}

impl Product {
    async fn serve(domain: &str, store: &Store) -> Self {
        let policy = fs::read_to_string("config/policies/ai.yaml").unwrap();
        let policy = policy.replace("domain: ai", &format!("domain: {domain}"));
        match store {
            Store::Redis(_) => {
                Self { tollgate: Tollgate::serve(&policy, store).await, callers: None }
            }
            Store::Embedded => {
                let folder = TempDir::new().unwrap();
                let path = folder.path().join("callers.yaml");
                fs::write(&path, "callers: { w: {} }").unwrap();
                let flags = ["--callers", path.to_str().unwrap()];
                let tollgate = Tollgate::serve_with(&policy, store, &flags).await;
                Self { tollgate, callers: Some(folder) }
            }
        }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}/v1/callers/{path}", self.tollgate.http_address)
    }

    async fn post(&self, path: &str, body: &Value) -> Answer {
        Http::new().post(&self.url(path), &[], &body.to_string()).await
    }

    /// Grants the bonus: over HTTP if the directory is in Redis, else in its file.
    async fn grant(&self) {
        let bonus =
            json!({ "id": "launch", "limit": "generations", "amount": 5, "until": "2099-12-31" });
        match &self.callers {
            None => {
                let request = Request::put(self.url("w")).body(Full::from("{}")).unwrap();
                assert_eq!(Http::new().send(request).await.status, 201);
                assert_eq!(self.post("w/bonuses", &bonus).await.status, 201);
            }
            Some(folder) => {
                let callers = json!({ "callers": { "w": { "bonuses": [bonus] } } });
                fs::write(folder.path().join("callers.yaml"), callers.to_string()).unwrap();
                crate::support::eventually("the bonus", async || {
                    (self.quota().await[0] == 15).then_some(())
                })
                .await;
            }
        }
    }

    /// All, used, held and remaining generations of the workspace.
    async fn quota(&self) -> Value {
        let url = self.url("w/quota?entries=action=generate");
        let item = Http::new().get(&url, &[]).await.json()["items"][0].clone();
        json!([item["quota"], item["used"], item["held"], item["remaining"]])
    }

    async fn reserve(&self, id: &str, hits: u64) -> u16 {
        let body = json!({ "id": id, "hits": hits, "entries": [{ "action": "generate" }] });
        self.post("w/reservations", &body).await.status
    }

    async fn settle(&self, id: &str, hits: u64) -> u16 {
        self.post(&format!("w/reservations/{id}/settle"), &json!({ "hits": hits })).await.status
    }
}

#[tokio::test]
async fn a_bonus_is_spent_after_the_plan_and_to_the_last_hit() {
    for store in Store::every() {
        let product = Product::serve("ai", &store).await;
        let mut client = DomainClient::new(&product.tollgate, "ai").await;
        let generate = &["workspace_id=w,action=generate"];
        client.spend_exactly(generate, 10).await;
        product.grant().await;
        assert_eq!(product.quota().await, json!([15, 10, 0, 5]));
        // Other plans and workspaces have no more than before.
        client.spend_exactly(&["workspace_id=v,action=generate"], 10).await;
        client.spend_exactly(&["workspace_id=u,plan=starter,action=generate"], 100).await;
        let once = &["workspace_id=w,action=generate,idempotency_key=1"];
        for _ in 0..3 {
            let answer = client.ask(once, 2).await;
            assert_eq!((answer.passed, answer.remaining), (true, vec![3]));
        }
        client.spend_exactly(generate, 3).await;
        assert_eq!(product.quota().await, json!([15, 15, 0, 0]));
    }
}

#[tokio::test]
async fn a_batch_is_held_from_plan_and_bonus_and_settled_for_what_it_made() {
    for store in Store::every() {
        let product = Product::serve("ai", &store).await;
        let mut client = DomainClient::new(&product.tollgate, "ai").await;
        let generate = &["workspace_id=w,action=generate"];
        product.grant().await;
        assert_eq!(product.reserve("batch", 12).await, 201);
        assert_eq!(product.quota().await, json!([15, 12, 12, 3]));
        assert_eq!(product.reserve("more", 4).await, 429);
        client.spend_exactly(generate, 3).await;
        // Sent again, it is settled once.
        for _ in 0..3 {
            assert_eq!(product.settle("batch", 7).await, 200);
            assert_eq!(product.quota().await, json!([15, 10, 0, 5]));
        }
        assert_eq!(product.settle("batch", 8).await, 409);
        client.spend_exactly(generate, 5).await;
        // Projects and exports can't be reserved.
        let body = json!({ "hits": 1, "entries": [{ "action": "export" }] });
        assert_eq!(product.post("w/reservations", &body).await.status, 422);
    }
}

/// What callers of Envoy generate, what is reserved over HTTP, and what is retried comes to exactly the plan and the bonus.
#[tokio::test]
async fn a_gateway_passes_exactly_the_plan_and_the_bonus() {
    for store in Store::every() {
        let product = Product::serve("gate", &store).await;
        let header = |name: &str, key: &str, skip: bool| {
            json!({ "request_headers":
                { "header_name": name, "descriptor_key": key, "skip_if_absent": skip } })
        };
        let rate_limits = json!([{ "actions": [
            header("x-workspace", "workspace_id", false),
            header("x-plan", "plan", true),
            header("x-action", "action", false),
            header("idempotency-key", "idempotency_key", true),
        ] }]);
        let address = tcp(product.tollgate.grpc_address);
        let Some(gateway) = Gateway::limiting(&rate_limits, &[address]).await else { return };
        let generate = async |more: &[(&str, &str)]| {
            let headers = [&[("x-workspace", "w"), ("x-action", "generate")], more].concat();
            gateway.caller.get("/", &headers).await.status
        };
        product.grant().await;
        assert_eq!(product.reserve("batch", 9).await, 201);
        for _ in 0..6 {
            assert_eq!(generate(&[]).await, 200);
        }
        assert_eq!(generate(&[]).await, 429);
        assert_eq!(product.settle("batch", 4).await, 200);
        for key in ["1", "2", "3"] {
            for _ in 0..2 {
                assert_eq!(generate(&[("idempotency-key", key)]).await, 200);
            }
        }
        assert_eq!(product.quota().await, json!([15, 13, 0, 2]));
        assert_eq!([generate(&[]).await, generate(&[]).await], [200, 200]);
        assert_eq!(generate(&[]).await, 429);
        // A retry of what passed passes, and a larger plan has more at once.
        assert_eq!(generate(&[("idempotency-key", "2")]).await, 200);
        assert_eq!(generate(&[("x-plan", "starter")]).await, 200);
        assert_eq!(product.quota().await, json!([15, 16, 0, 0]));
    }
}
