//! Clients send each request with an idempotency key until it is answered, while Redis is unreachable, loses answers or
//! is killed. Each request is charged once.

use std::time::Duration;

use futures_util::future::{join, join_all};
use tokio::time::sleep;

use crate::support::ask::DomainClient;
use crate::support::eventually;
use crate::support::proxy::{Proxy, Way};
use crate::support::redis::Server;
use crate::support::store::Store;
use crate::support::tollgate::Tollgate;

const POLICY: &str = "
domain: d
idempotency: { key: request_id, for: 1h, retries: 100 }
descriptors:
- { key: user, limits: [1000/total] }";

/// Number of clients, and of requests of each.
const CLIENTS: usize = 4;
const REQUESTS: usize = 40;

/// The pause between attempts, and the duration of a fault. Real time: the progress of clients is unknown, and the test
/// is valid however many attempts are affected by a fault.
const ATTEMPT_PAUSE: Duration = Duration::from_millis(10);
const FAULT_PAUSE: Duration = Duration::from_millis(150);

/// How often each fault occurs.
const ROUNDS: usize = 5;

/// Sends each request until it is answered, alternating between the sidecars.
async fn send_all(mut sidecars: [DomainClient; 2], client: usize) {
    for number in 0..REQUESTS {
        let ask = format!("user=ann,request_id={client}-{number}");
        let mut attempt = 0;
        let answer = eventually("an answer", async || {
            attempt += 1;
            sleep(ATTEMPT_PAUSE).await;
            sidecars[attempt % 2].try_ask(&[&ask], 1).await.ok()
        });
        assert!(answer.await.passed, "{ask}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_is_sent_until_it_is_answered_is_charged_once() {
    // Every charge is on the disk before it is answered.
    let Some(mut server) = Server::start(&["--appendonly", "yes", "--appendfsync", "always"])
    else {
        return;
    };
    let proxies = [Proxy::start(&server.socket()).await, Proxy::start(&server.socket()).await];
    let mut sidecars = Vec::new();
    for proxy in &proxies {
        let flags = ["--redis-url", &proxy.url(), "--store-deadline", "100ms"];
        sidecars.push(Tollgate::serve_with(POLICY, &Store::Embedded, &flags).await);
    }
    let mut clients = Vec::new();
    for client in 0..CLIENTS {
        let one = DomainClient::new(&sidecars[0], "d").await;
        let other = DomainClient::new(&sidecars[1], "d").await;
        clients.push(send_all([one, other], client));
    }
    join(join_all(clients), break_things(&mut server, &proxies)).await;
    let mut client = DomainClient::new(&sidecars[0], "d").await;
    let left = eventually("Redis is used", async || client.try_ask(&["user=ann"], 0).await.ok());
    let charged = u32::try_from(CLIENTS * REQUESTS).unwrap();
    assert_eq!(left.await.remaining, [1_000 - charged]);
}

/// Loses answers, cuts connections and kills the server.
pub async fn break_things(server: &mut Server, proxies: &[Proxy; 2]) {
    for round in 0..ROUNDS {
        for (proxy, way) in [(0, Way::Unanswered), (1, Way::Unanswered), (0, Way::Nowhere)] {
            proxies[proxy].set(way);
            sleep(FAULT_PAUSE).await;
            proxies[proxy].set(Way::Cut);
            sleep(ATTEMPT_PAUSE).await;
            proxies[proxy].set(Way::Through);
            sleep(FAULT_PAUSE).await;
        }
        if round % 2 == 1 {
            server.kill();
            server.launch();
        }
    }
}
