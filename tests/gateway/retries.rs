//! Retries of requests, with `config/policies/ai.yaml`: through a real Envoy, at two sidecars, and when an answer is lost.

use std::fs;

use serde_json::json;
use tokio::task::JoinSet;

use crate::support::ask::DomainClient;
use crate::support::client::Http;
use crate::support::eventually;
use crate::support::gateway::{Gateway, tcp};
use crate::support::proxy::{Proxy, Way};
use crate::support::redis::Server;
use crate::support::store::Store;
use crate::support::tollgate::Tollgate;

fn policy() -> String {
    let policy = fs::read_to_string("config/policies/ai.yaml").unwrap();
    assert_eq!(policy.matches("  body: problem").count(), 1);
    policy.replace("  body: problem", "  body: problem\n  metadata: always")
}

/// Runs `check` with the policy on every store.
async fn on_every_store(check: impl AsyncFn(&mut DomainClient)) {
    for store in Store::every() {
        let tollgate = Tollgate::serve(&policy(), &store).await;
        check(&mut DomainClient::new(&tollgate, "ai").await).await;
    }
}

#[tokio::test]
async fn each_plan_has_its_generations_projects_and_exports() {
    on_every_store(async |client| {
        for (plan, amounts) in
            [("free", [10, 3, 1]), ("starter", [100, 10, 10]), ("growth", [500, 50, 50])]
        {
            for (action, amount) in ["generate", "create-project", "export"].iter().zip(amounts) {
                let ask = format!("workspace_id={plan},plan={plan},action={action}");
                client.spend_exactly(&[&ask], amount).await;
            }
        }
        let project = &["workspace_id=free,action=create-project"];
        assert!(client.give_back(project, 1).await.passed);
        client.spend_exactly(project, 1).await;
    })
    .await;
}

#[tokio::test]
async fn a_retry_passes_again_and_spends_nothing() {
    on_every_store(async |client| {
        let once = &["workspace_id=w,action=export,idempotency_key=1"];
        let first = client.ask(once, 1).await;
        assert!(first.passed && first.metadata["retry"].is_null(), "{first:?}");
        for _ in 0..5 {
            let again = client.ask(once, 1).await;
            assert_eq!((again.passed, again.remaining), (true, vec![0]));
            assert_eq!(again.metadata["retry"], true, "{:?}", again.metadata);
            assert_eq!(again.metadata["limits"][0]["retry"], true, "{:?}", again.metadata);
        }
        let other = client.ask(&["workspace_id=w,action=export,idempotency_key=2"], 1).await;
        assert_eq!((other.passed, other.reason()), (false, "over_limit"));
        // Beyond the free retries, requests are charged as new ones.
        assert!(!client.ask(once, 1).await.passed);
    })
    .await;
}

#[tokio::test]
async fn a_key_with_other_hits_is_refused_and_told() {
    on_every_store(async |client| {
        let ask = &["workspace_id=w,action=generate", "idempotency_key=1"];
        assert_eq!(client.ask(ask, 2).await.remaining[0], 8);
        let conflict = client.ask(ask, 3).await;
        assert_eq!((conflict.passed, conflict.reason()), (false, "idempotency_conflict"));
        assert_eq!(conflict.violated(), ["generations"]);
        assert_eq!(conflict.problem.get("retry_after_ms"), None);
        // The key is the caller's own, and the action's.
        for other in ["workspace_id=v,action=generate", "workspace_id=w,action=create-project"] {
            assert!(client.ask(&[other, "idempotency_key=1"], 3).await.passed, "{other}");
        }
        assert_eq!(client.remaining(&[ask[0]]).await, [8]);
    })
    .await;
}

#[tokio::test]
async fn what_asks_the_same_within_seconds_is_a_retry_where_the_policy_says_so() {
    let policy = policy().replace("for: 1d }", "for: 1d, fingerprint: 10m }");
    for store in Store::every() {
        let tollgate = Tollgate::serve(&policy, &store).await;
        let mut client = DomainClient::new(&tollgate, "ai").await;
        let generate = "workspace_id=w,action=generate";
        for (asked, hits, left) in [
            (generate, 1, 9),
            (generate, 1, 9),
            (generate, 2, 7),
            ("workspace_id=w,action=generate,plan=free", 1, 6),
            (&format!("{generate},idempotency_key=1"), 1, 5),
            (generate, 2, 5),
        ] {
            assert_eq!(client.ask(&[asked], hits).await.remaining, [left], "{asked} {hits}");
        }
    }
}

#[tokio::test]
async fn a_retry_goes_to_the_provider_of_its_first_attempt() {
    const POLICY: &str = "
domain: ai
answer: { metadata: always }
idempotency: { key: id }
choices: [{ key: provider, value: any, among: { a: {}, b: {} } }]
descriptors:
  - { key: provider, value: a, limits: [2/day] }
  - { key: provider, value: b, limits: [2/day] }";
    for store in Store::every() {
        let tollgate = Tollgate::serve(POLICY, &store).await;
        let mut client = DomainClient::new(&tollgate, "ai").await;
        let once = &["provider=any,id=1"];
        for attempt in 0..5 {
            let answer = client.ask(once, 1).await;
            assert_eq!((answer.passed, &answer.metadata["provider"]), (true, &json!("a")));
            assert_eq!(answer.metadata["retry"] == true, attempt != 0, "{:?}", answer.metadata);
            if attempt == 2 {
                // Nothing is left there.
                client.spend_exactly(&["provider=a"], 1).await;
            }
        }
        assert_eq!(client.remaining(&["provider=b"]).await, [2]);
        let other = client.ask(&["provider=any,id=2"], 1).await;
        assert_eq!((other.passed, &other.metadata["provider"]), (true, &json!("b")));
    }
}

#[tokio::test]
async fn a_rule_or_a_limit_may_charge_each_attempt() {
    const POLICY: &str = "
domain: ai
idempotency: { key: id }
descriptors:
  - { key: once, limits: [5/day] }
  - { key: each, idempotency: false, limits: [5/day] }
  - { key: both, limits: [{ rate: 5/day, name: once }, { rate: 5/day, name: each, idempotency: false }] }";
    for store in Store::every() {
        let tollgate = Tollgate::serve(POLICY, &store).await;
        let mut client = DomainClient::new(&tollgate, "ai").await;
        for (once, each) in [(4, 4), (4, 3), (4, 2)] {
            let answer = client.ask(&["once=a,id=1", "each=a", "both=a"], 1).await;
            assert_eq!(answer.remaining, [once, each, each]);
        }
    }
}

/// A client that sends its request again does so through Envoy, which takes the key from a header.
#[tokio::test]
async fn a_client_that_tries_again_through_envoy_spends_once() {
    for store in Store::every() {
        let policy = policy().replace("domain: ai", "domain: gate");
        let tollgate = Tollgate::serve(&policy, &store).await;
        let header = |name: &str, key: &str, skip: bool| {
            json!({ "request_headers":
                { "header_name": name, "descriptor_key": key, "skip_if_absent": skip } })
        };
        let rate_limits = json!([{ "actions": [
            header("x-workspace", "workspace_id", false),
            header("x-action", "action", false),
            header("idempotency-key", "idempotency_key", true),
        ] }]);
        let address = tcp(tollgate.grpc_address);
        let Some(gateway) = Gateway::limiting(&rate_limits, &[address]).await else { return };
        let ask = async |key: &str| {
            let headers = [("x-workspace", "w"), ("x-action", "export"), ("idempotency-key", key)];
            gateway.caller.get("/", &headers).await.status
        };
        assert_eq!(ask("one").await, 200);
        assert_eq!(ask("one").await, 200);
        assert_eq!(ask("two").await, 429);
        assert_eq!(ask("one").await, 200);
        let url = format!("http://{}/metrics", tollgate.http_address);
        let text = String::from_utf8(Http::new().get(&url, &[]).await.body.to_vec()).unwrap();
        let spent = r#"tollgate_hits_total{domain="gate",limit="exports",outcome="admitted"} 1"#;
        for line in [r#"tollgate_retries_total{domain="gate"} 2"#, spent] {
            assert!(text.lines().any(|known| known == line), "{line}\n{text}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attempts_at_two_sidecars_at_once_spend_once() {
    let Some(server) = Server::start(&[]) else { return };
    let store = Store::Redis(server);
    let sidecars =
        [Tollgate::serve(&policy(), &store).await, Tollgate::serve(&policy(), &store).await];
    let mut tasks = JoinSet::new();
    for sidecar in &sidecars {
        for _ in 0..2 {
            let mut client = DomainClient::new(sidecar, "ai").await;
            tasks.spawn(async move {
                for key in 0..200 {
                    let ask =
                        format!("workspace_id=w,plan=growth,action=generate,idempotency_key={key}");
                    assert!(client.ask(&[&ask], 1).await.passed, "{key}");
                }
            });
        }
    }
    tasks.join_all().await;
    let mut client = DomainClient::new(&sidecars[0], "ai").await;
    assert_eq!(client.remaining(&["workspace_id=w,plan=growth,action=generate"]).await, [300]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_attempt_whose_answer_was_lost_is_found_by_its_retry() {
    let Some(server) = Server::start(&[]) else { return };
    let proxy = Proxy::start(&server.socket()).await;
    let flags = ["--redis-url", &proxy.url(), "--store-deadline", "300ms"];
    let sidecar = Tollgate::serve_with(&policy(), &Store::Embedded, &flags).await;
    let mut client = DomainClient::new(&sidecar, "ai").await;
    let generate = "workspace_id=w,action=generate";
    let first =
        eventually("Redis is used", async || client.try_ask(&[generate], 1).await.ok()).await;
    assert_eq!(first.remaining, [9]);
    proxy.set(Way::Unanswered);
    let lost = client.try_ask(&[&format!("{generate},idempotency_key=1")], 4).await;
    assert_eq!(lost.unwrap_err().code(), tonic::Code::Unavailable);
    proxy.set(Way::Cut);

    // The client asks another sidecar.
    let store = Store::Redis(server);
    let other = Tollgate::serve(&policy(), &store).await;
    let mut other = DomainClient::new(&other, "ai").await;
    let again = other.ask(&[&format!("{generate},idempotency_key=1")], 4).await;
    assert_eq!((again.passed, again.remaining), (true, vec![5]));
    assert_eq!(again.metadata["retry"], true, "{:?}", again.metadata);
}

/// With a log that is written before each answer, a Redis that is killed forgets neither the charge nor its key.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_attempt_before_redis_was_killed_is_found_by_its_retry() {
    let log = ["--appendonly", "yes", "--appendfsync", "always"];
    let Some(mut server) = Server::start(&log) else { return };
    let flags = ["--redis-url", &server.url(), "--store-deadline", "10s"];
    let sidecar = Tollgate::serve_with(&policy(), &Store::Embedded, &flags).await;
    let mut client = DomainClient::new(&sidecar, "ai").await;
    let once = &["workspace_id=w,action=generate,idempotency_key=1"];
    assert_eq!(client.ask(once, 4).await.remaining, [6]);
    server.kill();
    server.launch();
    let again = eventually("Redis is back", async || client.try_ask(once, 4).await.ok()).await;
    assert_eq!((again.passed, again.remaining), (true, vec![6]));
    assert_eq!(again.metadata["retry"], true, "{:?}", again.metadata);
}
