//! `on_outage: local` between real sidecars: the shares add up to no more than the limit, and debts are paid.

use crate::support::ask::DomainClient;
use crate::support::client::Http;
use crate::support::eventually;
use crate::support::proxy::{Proxy, Way};
use crate::support::redis::Server;
use crate::support::store::Store;
use crate::support::tollgate::Tollgate;

const POLICY: &str = "
domain: d
answer: { metadata: always }
defaults: { on_outage: local }
descriptors:
- { key: user, limits: [100/hour] }
- { key: slot, limits: [4/total] }";

const HOUR_MS: f64 = 3_600_000.0;
const SLOT_MS: f64 = 60_000.0;

const ALICE: &[&str] = &["user=alice"];
const SLOT: &[&str] = &["slot=x"];

/// The value of a metric.
async fn metric(tollgate: &Tollgate, name: &str) -> Option<u64> {
    let url = format!("http://{}/metrics", tollgate.http_address);
    let text = String::from_utf8(Http::new().get(&url, &[]).await.body.to_vec()).unwrap();
    let mut lines = text.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    lines.next()?.parse().ok()
}

pub async fn wait_for(tollgate: &Tollgate, name: &str, is_there: impl Fn(u64) -> bool) {
    eventually(name, async || metric(tollgate, name).await.filter(|value| is_there(*value))).await;
}

/// Number of single hits that pass before one is refused.
async fn drain(client: &mut DomainClient, descriptors: &[&str]) -> u32 {
    let mut passed = 0;
    while client.ask(descriptors, 1).await.passed {
        passed += 1;
    }
    passed
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sidecars_share_a_limit_while_redis_is_out_and_pay_when_it_is_back() {
    let Some(server) = Server::start(&[]) else { return };
    let proxy = Proxy::start(&server.socket()).await;
    let url = proxy.url();
    let flags = ["--redis-url", &url, "--store-deadline", "200ms"];
    let sidecars = [
        Tollgate::serve_with(POLICY, &Store::Embedded, &flags).await,
        Tollgate::serve_with(POLICY, &Store::Embedded, &flags).await,
    ];
    let mut clients = Vec::new();
    for sidecar in &sidecars {
        wait_for(sidecar, "tollgate_sidecars", |count| count == 2).await;
        clients.push(DomainClient::new(sidecar, "d").await);
    }
    for client in &mut clients {
        assert!(client.ask(ALICE, 10).await.passed);
        assert!(client.ask(SLOT, 1).await.passed);
    }
    for client in &mut clients {
        // Now both know the state of the limits.
        assert_eq!(client.remaining(ALICE).await, [80]);
        assert_eq!(client.remaining(SLOT).await, [2]);
    }

    proxy.set(Way::Nowhere);
    for sidecar in &sidecars {
        wait_for(sidecar, "tollgate_store_up", |up| up == 0).await;
    }
    let first = clients[0].ask(ALICE, 1).await;
    assert!(first.passed && first.metadata["fallback"] == true, "{first:?}");
    assert_eq!(drain(&mut clients[0], ALICE).await, 39);
    assert!(clients[1].ask(ALICE, 15).await.passed);
    assert_eq!(drain(&mut clients[0], SLOT).await, 1);
    // One of the sidecars spent it in Redis; so one more is free there, and none here.
    clients[1].give_back(SLOT, 1).await;

    proxy.set(Way::Through);
    for sidecar in &sidecars {
        wait_for(sidecar, "tollgate_fallback_hits_paid_total", |paid| 15 <= paid).await;
    }
    assert_eq!(clients[1].remaining(ALICE).await, [100 - 20 - 40 - 15]);
    assert_eq!(clients[0].remaining(SLOT).await, [4 - 2 - 1 + 1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_debt_is_paid_though_the_limit_is_full() {
    let Some(server) = Server::start(&[]) else { return };
    let proxy = Proxy::start(&server.socket()).await;
    let behind = ["--redis-url", &proxy.url(), "--store-deadline", "200ms"];
    let cut_off = Tollgate::serve_with(POLICY, &Store::Embedded, &behind).await;
    wait_for(&cut_off, "tollgate_sidecars", |count| count == 1).await;
    let mut cut_off_client = DomainClient::new(&cut_off, "d").await;
    proxy.set(Way::Cut);
    wait_for(&cut_off, "tollgate_store_up", |up| up == 0).await;
    assert!(cut_off_client.ask(ALICE, 60).await.passed);

    let store = Store::Redis(server);
    let other = Tollgate::serve(POLICY, &store).await;
    let mut other_client = DomainClient::new(&other, "d").await;
    let reported = other_client.ask(ALICE, 70).await;
    assert!(reported.passed, "nobody knows of the sixty yet: {reported:?}");
    proxy.set(Way::Through);
    wait_for(&cut_off, "tollgate_fallback_hits_paid_total", |paid| paid == 60).await;
    let refused = other_client.ask(ALICE, 1).await;
    assert!(!refused.passed);
    let wait_ms = refused.metadata["limits"][0]["wait_ms"].as_f64().unwrap();
    // A slot may have ended meanwhile.
    assert!(HOUR_MS - SLOT_MS <= wait_ms, "{refused:?}");
}

const TOKENS: &[&str] = &["model=large"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_share_of_a_sidecar_holds_and_settles_estimates() {
    const ESTIMATES: &str = "
domain: d
answer: { metadata: always }
defaults: { on_outage: local }
descriptors: [{ key: model, limits: [{ name: tokens, rate: 100/total, estimate: 20 }] }]";
    let Some(server) = Server::start(&[]) else { return };
    let proxy = Proxy::start(&server.socket()).await;
    let url = proxy.url();
    let flags = ["--redis-url", &url, "--store-deadline", "200ms"];
    let tollgate = Tollgate::serve_with(ESTIMATES, &Store::Embedded, &flags).await;
    wait_for(&tollgate, "tollgate_sidecars", |count| count == 1).await;
    let mut client = DomainClient::new(&tollgate, "d").await;
    // Its answer is under way when Redis is lost.
    let before = client.ask(TOKENS, 1).await;
    assert_eq!((before.passed, before.remaining), (true, vec![79]));

    proxy.set(Way::Cut);
    wait_for(&tollgate, "tollgate_store_up", |up| up == 0).await;
    assert_eq!(drain(&mut client, TOKENS).await, 3, "63 of 79, and the next would need 21");
    let debit = client.debit(TOKENS, 15).await;
    assert!(debit.passed && debit.metadata["fallback"] == true, "{debit:?}");
    assert_eq!(drain(&mut client, TOKENS).await, 1, "3 and 15 are spent, 40 held");
    // A debit of none settles, too, and one of more than is left counts in full.
    assert!(client.debit(TOKENS, 0).await.passed);
    assert!(client.debit(TOKENS, 30).await.passed);
    assert!(!client.ask(TOKENS, 1).await.passed, "4, 45 are spent and 20 are held of 79");

    proxy.set(Way::Through);
    wait_for(&tollgate, "tollgate_fallback_hits_paid_total", |paid| paid == 49).await;
    wait_for(&tollgate, "tollgate_store_up", |up| up == 1).await;
    // What was held here is not held there; what was held there before, still is.
    assert_eq!(client.remaining_unsettled(TOKENS).await, [100 - 1 - 49 - 20]);
    assert!(client.debit(TOKENS, 10).await.passed);
    assert_eq!(client.remaining_unsettled(TOKENS).await, [100 - 1 - 49 - 10]);
}
