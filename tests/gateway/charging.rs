//! Charges after the response: through a real Envoy, and as messages to Tollgate.

use std::fs;

use crate::support::ask::DomainClient;
use crate::support::client::Http;
use crate::support::eventually;
use crate::support::gateway::Gateway;
use crate::support::store::Store;
use crate::support::tollgate::Tollgate;

/// The policy of the documentation, with limits that a test can exhaust.
fn policy() -> String {
    let policy = fs::read_to_string("config/policies/llm.yaml").unwrap();
    assert_eq!(policy.matches("100000").count(), 2);
    policy.replace("100000", "100")
}

/// Requests `path` for an answer of 31 tokens, which the upstream reports if `header` asks for it. After each answer
/// waits until this much is left. Then the next request is refused.
async fn spends(path: &str, header: &str, key: &str, left: &[u32]) {
    for store in Store::every() {
        let tollgate = Tollgate::serve(&policy(), &store).await;
        let ports = [(8081, tollgate.grpc_address)];
        let Some(gateway) = Gateway::deployed("llm.yaml", &ports).await else { return };
        let mut client = DomainClient::new(&tollgate, "llm").await;
        let headers = [("x-user-id", "ann"), (header, "31")];
        for left in left {
            let answer = gateway.caller.get(path, &headers).await;
            assert_eq!(answer.status, 200, "{answer:?}");
            let descriptor = &[&*format!("{key}=ann")];
            eventually(&format!("{left} tokens left"), async || {
                (client.remaining(descriptor).await == [*left]).then_some(())
            })
            .await;
        }
        let refused = gateway.caller.get(path, &headers).await;
        assert_eq!((refused.status, refused.header("x-ratelimit-remaining")), (429, "0"));
        assert_ne!(refused.header("retry-after"), "", "{refused:?}");
        assert_eq!(gateway.upstream.served(), left.len());
        let other = [("x-user-id", "bob"), (header, "31")];
        assert_eq!(gateway.caller.get(path, &other).await.status, 200);
    }
}

/// As with envoyproxy/ratelimit: 31, 62, 93 and 124 of 100.
#[tokio::test]
async fn an_envoy_that_peeks_and_charges_what_the_body_says_is_refused_once_it_is_overdrawn() {
    spends("/v1/chat/completions", "x-total-tokens", "chat_user", &[69, 38, 7, 0]).await;
}

/// 32, 64, 96 and 128 of 100.
#[tokio::test]
async fn an_envoy_that_asks_for_one_and_charges_what_a_header_says_overdraws_but_once() {
    spends("/v1/embeddings", "x-tokens", "embeddings_user", &[68, 36, 4, 0]).await;
}

#[tokio::test]
async fn peeks_and_debits_pass_as_often_as_in_the_reference() {
    const POLICY: &str = "
domain: ref
descriptors:
  - { key: hundred, rate_limit: { unit: day, requests_per_unit: 100 } }
  - { key: three, rate_limit: { unit: day, requests_per_unit: 3 } }
  - { key: free, limits: [3/day] }";
    for store in Store::every() {
        let tollgate = Tollgate::serve(POLICY, &store).await;
        let mut client = DomainClient::new(&tollgate, "ref").await;
        for (descriptor, hits, passing) in
            [("hundred=a", 31, 4), ("three=a", 1, 4), ("free=a", 1, 12)]
        {
            let mut passed = 0;
            while passed < 12 && client.debit(&[descriptor], 0).await.passed {
                passed += 1;
                client.debit(&[descriptor], hits).await;
            }
            assert_eq!(passed, passing, "{descriptor}");
        }
        // Hits of the request cost nothing if they are refused.
        assert!(client.ask(&["hundred=b"], 80).await.passed);
        assert!(!client.ask(&["hundred=b"], 30).await.passed);
        assert!(client.ask(&["hundred=b"], 20).await.passed);
        assert!(client.debit(&["hundred=b"], 0).await.passed);
    }
}

#[tokio::test]
async fn a_debit_on_an_overdraft_limit_counts_whatever_the_others_say() {
    const POLICY: &str = "
domain: both
descriptors:
  - { key: tokens, limits: [{ rate: 100/day, overdraft: allow }] }
  - { key: bought, limits: [{ name: bought, rate: 100/total }, { name: daily, rate: 100/day, overdraft: allow }] }
  - { key: reference, rate_limit: { unit: day, requests_per_unit: 10 } }
  - { key: company, limits: [10/day] }";
    for store in Store::every() {
        let tollgate = Tollgate::serve(POLICY, &store).await;
        let mut client = DomainClient::new(&tollgate, "both").await;
        assert!(!client.debit(&["reference=full"], 31).await.passed);
        for other in ["reference=full", "company=a"] {
            let tokens = &*format!("tokens={}", other.replace("=", " "));
            for left in [69, 38, 7, 0] {
                assert!(!client.debit(&[tokens, other], 31).await.passed, "{other}");
                assert_eq!(client.remaining(&[tokens]).await, [left], "{other}");
            }
        }
        assert_eq!(client.remaining(&["company=a"]).await, [10]);
        // A limit with the request's own hits, or with a peek, is checked before anything was spent.
        for hits in [None, Some(0)] {
            let reported = client.mixed(("tokens=ann", 31), ("reference=full", hits)).await;
            assert!(!reported.passed, "{hits:?}");
        }
        assert_eq!(client.remaining(&["tokens=ann"]).await, [100]);
        // So is a rule: all of its limits must have the hits.
        assert!(!client.debit(&["bought=ann"], 101).await.passed);
        assert_eq!(client.remaining(&["bought=ann"]).await, [100]);
    }
}

#[tokio::test]
async fn what_costs_nothing_passes_whatever_is_owed() {
    const POLICY: &str = "
domain: free
qualifiers: [op]
costs: { calls: [{ when: { op: pay }, hits: 5, per: 1 }, { hits: 0 }] }
descriptors:
  - key: user
    limits: [{ rate: 10/day, cost: calls, overdraft: allow }]";
    for store in Store::every() {
        let tollgate = Tollgate::serve(POLICY, &store).await;
        let mut client = DomainClient::new(&tollgate, "free").await;
        assert!(client.ask(&["user=ann,op=pay"], 1).await.passed);
        assert!(client.ask(&["user=ann,op=pay"], 2).await.passed);
        assert!(!client.ask(&["user=ann,op=pay"], 1).await.passed);
        assert!(client.ask(&["user=ann,op=look"], 1).await.passed);
        assert!(client.debit(&["user=ann,op=pay"], 0).await.passed);
    }
}

#[tokio::test]
async fn charges_that_are_lost_are_counted_and_one_warning_says_what_to_do() {
    const POLICY: &str = "
domain: lost
descriptors:
  - { key: user, limits: [{ name: tokens, rate: 100/day }] }
  - { key: kept, rate_limit: { name: kept, unit: day, requests_per_unit: 100 } }
  - { key: asked, limits: [{ name: asked, rate: 100/day }] }
  - { key: plain, limits: [{ name: plain, rate: 100/day }] }
  - { key: over, limits: [{ name: over, rate: 100/day, overdraft: allow }] }
  - { key: first, limits: [{ name: first, rate: 100/day, overdraft: allow }] }
  - { key: none, limits: [{ name: none, rate: 0/day }] }";
    for store in Store::every() {
        let tollgate = Tollgate::serve(POLICY, &store).await;
        let mut client = DomainClient::new(&tollgate, "lost").await;
        for key in ["user", "kept", "over", "none"] {
            for _ in 0..6 {
                client.debit(&[&format!("{key}=ann")], 0).await;
                client.debit(&[&format!("{key}=ann")], 31).await;
            }
        }
        // Six requests are in flight, each of which has spent a hit.
        for hits in [1, 31] {
            for _ in 0..6 {
                client.debit(&["first=ann"], hits).await;
            }
        }
        // Such requests are refused before anything is spent, also where others peek.
        client.debit(&["plain=ann"], 0).await;
        for _ in 0..6 {
            client.ask(&["asked=ann"], 31).await;
            client.ask(&["plain=ann"], 31).await;
        }
        let url = format!("http://{}/metrics", tollgate.http_address);
        let metrics = Http::new().get(&url, &[]).await;
        let metrics = String::from_utf8_lossy(&metrics.body).into_owned();
        for (limit, count) in [
            ("tokens", 3),
            ("kept", 2),
            ("asked", 0),
            ("plain", 0),
            ("over", 2),
            ("first", 2),
            ("none", 6),
        ] {
            let name = "tollgate_refused_debits_total";
            let line = format!("{name}{{domain=\"lost\",limit=\"{limit}\"}} {count}\n");
            assert!(metrics.contains(&line), "{line}{metrics}");
        }
        let output = tollgate.output();
        let warnings: Vec<&str> = output
            .lines()
            .filter(|line| line.contains("a charge after a peek was refused"))
            .collect();
        assert_eq!(warnings.len(), 2, "{output}");
        for (limit, advises_overdraft) in [("tokens", true), ("none", false)] {
            let limit = format!("limit=\"{limit}\"");
            let warning = warnings.iter().find(|line| line.contains(&limit)).expect(&limit);
            assert_eq!(warning.contains("set `overdraft: allow`"), advises_overdraft, "{warning}");
            assert!(warning.contains("use 1 hit instead of 0"), "{warning}");
        }
    }
}
