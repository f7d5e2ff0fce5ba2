//! Quotas of resources through a real Envoy, with `config/policies/workspace.yaml`: what is created takes hits, and what is deleted
//! gives them back.

use std::fs;

use axum::http::{Method, Request};

use crate::support::ask::DomainClient;
use crate::support::client::{Answer, Http};
use crate::support::eventually;
use crate::support::gateway::Gateway;
use crate::support::store::Store;
use crate::support::tollgate::Tollgate;

/// A workspace before Envoy.
struct Workspace {
    gateway: Gateway,
    client: DomainClient,
    _tollgate: Tollgate,
}

impl Workspace {
    /// None if there is no Envoy here.
    async fn start(store: &Store) -> Option<Self> {
        let policy = fs::read_to_string("config/policies/workspace.yaml").unwrap();
        let tollgate = Tollgate::serve(&policy, store).await;
        let ports = [(8081, tollgate.grpc_address)];
        let gateway = Gateway::deployed("workspace.yaml", &ports).await?;
        let client = DomainClient::new(&tollgate, "workspace").await;
        Some(Self { gateway, client, _tollgate: tollgate })
    }

    async fn send(&self, method: Method, path: &str, headers: &[(&str, &str)]) -> Answer {
        let url = format!("http://{}{path}", self.gateway.caller.address());
        let request = Request::builder().method(method).uri(url).header("x-workspace-id", "w");
        let request =
            headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        Http::new().send(request.body(Default::default()).unwrap()).await
    }

    async fn create(&self, path: &str, count: &str) -> u16 {
        self.send(Method::POST, path, &[("x-count", count)]).await.status
    }

    async fn delete(&self, path: &str, removed: &str) {
        let answer = self.send(Method::DELETE, path, &[("x-removed", removed)]).await;
        assert_eq!((answer.status, answer.header("x-removed")), (200, removed));
    }

    /// Waits until so many of a kind are left: Envoy does not wait for the answer when it gives hits back.
    async fn left(&mut self, kind: &str, count: u32) {
        let resource = format!("workspace_id=w,resource={kind}");
        eventually(&format!("{count} {kind} left"), async || {
            (self.client.remaining(&[&resource]).await == [count]).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn what_is_created_is_counted_and_what_is_deleted_comes_back() {
    for store in Store::every() {
        let Some(mut workspace) = Workspace::start(&store).await else { return };
        assert_eq!(workspace.create("/segments", "30").await, 200);
        assert_eq!(workspace.send(Method::POST, "/segments/import", &[]).await.status, 200);
        workspace.left("segments", 19).await;
        // Five more than the limit pass for a day.
        assert_eq!(workspace.create("/segments", "25").await, 429);
        assert_eq!(workspace.create("/segments", "24").await, 200);
        assert_eq!(workspace.create("/segments", "1").await, 429);
        workspace.delete("/segments/7", "6").await;
        workspace.left("segments", 1).await;
        assert_eq!(workspace.create("/segments", "7").await, 429);
        // What the service says that it did not create comes back.
        let headers = [("x-count", "5"), ("x-removed", "4")];
        assert_eq!(workspace.send(Method::POST, "/segments", &headers).await.status, 200);
        workspace.delete("/segments?older=1y", "31").await;
        workspace.left("segments", 31).await;
        // Never more than there is.
        workspace.delete("/segments", "1000").await;
        workspace.left("segments", 50).await;
        workspace.left("users", 1_000).await;
        for wrong in ["0", "-1", "x", "1.5", ""] {
            assert_eq!(workspace.create("/users", wrong).await, 400, "{wrong}");
        }
    }
}

#[tokio::test]
async fn an_import_gets_as_many_users_as_there_are_left_and_the_service_is_told() {
    for store in Store::every() {
        let Some(workspace) = Workspace::start(&store).await else { return };
        // The limit has a thousand, and its grace a hundred more.
        for (count, granted) in [("963", 963), ("50", 50), ("500", 87)] {
            // Whatever the caller makes up.
            let headers = [("x-count", count), ("x-quota-granted", "users; granted=500")];
            let answer = workspace.send(Method::POST, "/users", &headers).await;
            let reported = format!("users; granted={granted}; asked={count}");
            assert_eq!((answer.status, answer.header("x-quota-granted")), (200, &*reported));
            assert_eq!(answer.json()["x-quota-granted"], *reported, "what the service got");
        }
        assert_eq!(workspace.create("/users", "500").await, 429);
        assert_eq!(workspace.gateway.upstream.served(), 3);
    }
}
