//! Redis stalls and continues: it does not charge requests that `on_outage` has answered meanwhile.

use std::time::Duration;

use futures_util::future::join_all;
use tonic::Code;

use super::local::wait_for;
use crate::support::ask::DomainClient;
use crate::support::client::Http;
use crate::support::cluster::Cluster;
use crate::support::eventually;
use crate::support::proxy::{Proxy, Way};
use crate::support::redis::{Server, query};
use crate::support::store::Store;
use crate::support::tollgate::Tollgate;

const POLICY: &str = "
domain: d
answer: { metadata: always }
descriptors:
- { key: deny, limits: [{ rate: 100/total, on_outage: deny }] }
- { key: error, limits: [{ rate: 100/total, on_outage: error }] }
- { key: allow, limits: [{ rate: 100/total, on_outage: allow }] }
- { key: local, limits: [{ rate: 100/total, on_outage: local }] }";

/// Number of concurrent requests while Redis stalls: more than fit into one call.
const REQUESTS: u32 = 12;

/// Hits that were spent before.
const SPENT: u32 = 10;

async fn serve(flags: &[&str]) -> Tollgate {
    let deadline = ["--store-deadline", "100ms"];
    Tollgate::serve_with(POLICY, &Store::Embedded, &[flags, &deadline].concat()).await
}

/// A second after their start, all calls are late, whatever the error of the estimated clock.
async fn wait_for_reconnect(tollgate: &Tollgate, times: usize) {
    let reported = || tollgate.output().matches("no answer").count();
    eventually("the connection is given up", async || (times <= reported()).then_some(())).await;
}

struct Scene {
    tollgate: Tollgate,
    clients: Vec<DomainClient>,
    stalls: usize,
}

impl Scene {
    async fn new(url: &str) -> Self {
        let tollgate = serve(&["--redis-url", url]).await;
        wait_for(&tollgate, "tollgate_store_up", |up| up == 1).await;
        let mut clients = Vec::new();
        for _ in 0..REQUESTS {
            clients.push(DomainClient::new(&tollgate, "d").await);
        }
        Self { tollgate, clients, stalls: 0 }
    }

    /// The remaining hits of a limit after requests during a stall of Redis.
    async fn left(
        &mut self,
        (descriptor, gives_back): (&str, bool),
        (stop, go_on): (impl Fn(), impl Fn()),
        answered: impl Fn(Result<bool, Code>) -> bool,
    ) -> u32 {
        let descriptors = [descriptor];
        assert!(self.clients[0].ask(&descriptors, SPENT).await.passed, "{descriptor}");
        stop();
        let ask = async |client: &mut DomainClient| match gives_back {
            true => Ok(client.give_back(&descriptors, 1).await.passed),
            false => {
                let reported = client.try_ask(&descriptors, 1).await;
                reported.map(|reported| reported.passed).map_err(|status| status.code())
            }
        };
        let reported = join_all(self.clients.iter_mut().map(ask)).await;
        assert!(reported.iter().all(|reported| answered(*reported)), "{descriptor}: {reported:?}");
        self.stalls += 1;
        wait_for_reconnect(&self.tollgate, self.stalls).await;
        go_on();
        wait_for(&self.tollgate, "tollgate_store_up", |up| up == 1).await;
        if descriptor.starts_with("local") {
            let is_paid = |paid| u64::from(REQUESTS) <= paid;
            wait_for(&self.tollgate, "tollgate_fallback_hits_paid_total", is_paid).await;
        }
        self.clients[0].remaining(&descriptors).await[0]
    }

    /// The four values of `on_outage`, and the hits that they leave of a hundred.
    async fn check(&mut self, stop: impl Fn(), go_on: impl Fn()) {
        let calls = (&stop, &go_on);
        let left = self.left(("deny=a", false), calls, |reported| reported == Ok(false)).await;
        assert_eq!(left, 100 - SPENT, "deny");
        let left =
            self.left(("error=a", false), calls, |reported| reported == Err(Code::Unavailable));
        assert_eq!(left.await, 100 - SPENT, "error");
        let left = self.left(("allow=a", false), calls, |reported| reported == Ok(true)).await;
        assert_eq!(left, 100 - SPENT, "allow");
        let left = self.left(("deny=b", true), calls, |reported| reported == Ok(true)).await;
        assert_eq!(left, 100 - SPENT, "deny, given back");
        let left = self.left(("local=a", false), calls, |reported| reported == Ok(true)).await;
        assert_eq!(left, 100 - SPENT - REQUESTS, "local: once");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_on_outage_has_answered_is_not_charged_when_redis_goes_on() {
    let Some(server) = Server::start(&[]) else { return };
    let mut scene = Scene::new(&server.url()).await;
    scene.check(|| server.signal("STOP"), || server.signal("CONT")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_on_outage_has_answered_is_not_charged_when_the_network_goes_on() {
    let Some(server) = Server::start(&[]) else { return };
    let proxy = Proxy::start(&server.socket()).await;
    let mut scene = Scene::new(&proxy.url()).await;
    scene.check(|| proxy.set(Way::Nowhere), || proxy.set(Way::Through)).await;
}

/// Each request has counters on all masters, one of which stalls.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_on_outage_has_answered_is_not_charged_on_a_cluster() {
    let Some(cluster) = Cluster::start(3, false).await else { return };
    let flags = cluster.flags();
    let tollgate = serve(&flags.iter().map(String::as_str).collect::<Vec<_>>()).await;
    wait_for(&tollgate, "tollgate_store_up", |up| up == 1).await;
    let mut client = DomainClient::new(&tollgate, "d").await;
    let names: Vec<String> = (0..12).map(|number| format!("deny={number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    assert!(client.ask(&names, SPENT).await.passed);
    cluster.nodes[0].signal("STOP");
    for _ in 0..4 {
        assert!(!client.ask(&names, 1).await.passed);
    }
    wait_for_reconnect(&tollgate, 1).await;
    cluster.nodes[0].signal("CONT");
    let left = [100 - SPENT; 12];
    eventually("all is back", async || {
        let reported = client.try_ask(&names, 0).await.unwrap();
        let decided = reported.metadata["fallback"] != true && reported.passed;
        (decided && reported.remaining == left).then_some(())
    })
    .await;
}

/// If the clock of Redis was set, a request that it refuses as late is still decided.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_of_redis_clock_is_no_outage() {
    let Some(server) = Server::start(&[]) else { return };
    let proxy = Proxy::start(&server.socket()).await;
    proxy.set(Way::Behind);
    let flags = ["--redis-url", &proxy.url(), "--store-deadline", "10s"];
    let tollgate = Tollgate::serve_with(POLICY, &Store::Embedded, &flags).await;
    wait_for(&tollgate, "tollgate_store_up", |up| up == 1).await;
    let mut client = DomainClient::new(&tollgate, "d").await;
    assert!(client.ask(&["deny=a"], 1).await.passed, "as of the handshake it is late");
    for way in [Way::Through, Way::Behind, Way::Through] {
        proxy.set(way);
        for _ in 0..3 {
            let reported = client.ask(&["deny=a"], 1).await;
            assert!(reported.passed, "{way:?}: {reported:?}");
        }
    }
    assert_eq!(client.remaining(&["deny=a"]).await, [100 - 10]);
}

/// What a person asks waits longer for Redis than a request of Envoy.
#[tokio::test]
async fn the_api_answers_over_a_pause_of_redis_that_is_too_long_for_envoy() {
    let Some(server) = Server::start(&[]) else { return };
    let flags = ["--redis-url", &server.url()];
    let policy = "{ domain: d, caller: { key: user }, descriptors: [{ key: user, limits: [{ name: daily, rate: 9/day }] }] }";
    let tollgate = Tollgate::serve_with(policy, &Store::Embedded, &flags).await;
    wait_for(&tollgate, "tollgate_store_up", |up| up == 1).await;
    let mut raw = server.raw().await;
    let url = format!("http://{}/v1/callers/ann/quota", tollgate.http_address);
    let quota = eventually("the state of the limit, although Redis pauses", async || {
        query::<()>(&mut raw, "CLIENT PAUSE 200 ALL");
        let answer = Http::new().get(&url, &[]).await;
        (answer.status == 200).then(|| answer.json())
    })
    .await;
    assert_eq!(
        (&quota["fallback"], &quota["items"][0]["remaining"]),
        (&false.into(), &9.into()),
        "{quota}"
    );
}

/// However long the store may take, the answer of `on_outage` comes before Envoy gives up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_outage_answers_within_the_timeout_of_the_client() {
    let Some(server) = Server::start(&[]) else { return };
    let flags = ["--redis-url", &server.url(), "--store-deadline", "10m"];
    let tollgate = Tollgate::serve_with(POLICY, &Store::Embedded, &flags).await;
    wait_for(&tollgate, "tollgate_store_up", |up| up == 1).await;
    let mut client = DomainClient::new(&tollgate, "d").await;
    assert!(client.ask(&["allow=a"], 1).await.passed);
    server.signal("STOP");
    for (descriptor, expected) in [
        ("allow=a", Ok(true)),
        ("deny=a", Ok(false)),
        ("error=a", Err(Code::Unavailable)),
        ("local=a", Ok(true)),
    ] {
        let answer = client.ask_within(&[descriptor], 1, Duration::from_millis(1_500)).await;
        let answer = answer.map(|answer| answer.passed).map_err(|status| status.code());
        assert_eq!(answer, expected, "{descriptor}");
    }
    server.signal("CONT");
}
