//! Clients that hold hits and settle them, and send each request again until it is answered, while Redis can't be reached, loses
//! answers or is killed: each reservation is held and settled once, and one that its client forgets lapses.

use std::time::Duration;

use futures_util::future::{join, join_all};
use tokio::time::sleep;

use super::retries::break_things;
use crate::support::ask::DomainClient;
use crate::support::eventually;
use crate::support::proxy::Proxy;
use crate::support::redis::Server;
use crate::support::store::Store;
use crate::support::tollgate::Tollgate;

const POLICY: &str = "
domain: d
descriptors:
- key: user
  reservation: { key: id, action: act, ttl: 10s }
  limits: [10000/total]";

/// Clients, and operations of each.
const CLIENTS: u32 = 4;
const OPERATIONS: u32 = 30;

/// What an operation holds.
const HELD: u32 = 9;

/// A pause between attempts. Real time: nothing tells how far the faults are, and the test holds however many attempts meet one.
const ATTEMPT_PAUSE: Duration = Duration::from_millis(10);

/// Sends a request until it is answered, to one sidecar after the other.
async fn send(sidecars: &mut [DomainClient; 2], ask: &str, hits: u32) {
    let mut attempt = 0;
    let answer = eventually("an answer", async || {
        attempt += 1;
        sleep(ATTEMPT_PAUSE).await;
        sidecars[attempt % 2].try_ask(&[ask], hits).await.ok()
    });
    assert!(answer.await.passed, "{ask} {hits}");
}

/// Makes operations one after the other; tells how many hits they have used.
async fn operate(mut sidecars: [DomainClient; 2], client: u32) -> u32 {
    let mut spent = 0;
    for number in 0..OPERATIONS {
        let of = |action: &str| format!("user=ann,id={client}-{number},act={action}");
        send(&mut sidecars, &of("reserve"), HELD).await;
        match number % (HELD + 1) {
            // The client has forgotten it.
            0 => {}
            used => {
                send(&mut sidecars, &of("settle"), used).await;
                spent += used;
            }
        }
    }
    spent
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_reservation_is_held_and_settled_once_and_a_forgotten_one_lapses() {
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
        clients.push(operate([one, other], client));
    }
    let (spent, ()) = join(join_all(clients), break_things(&mut server, &proxies)).await;
    let spent: u32 = spent.into_iter().sum();
    let mut client = DomainClient::new(&sidecars[0], "d").await;
    eventually("what was forgotten has lapsed", async || {
        let left = client.try_ask(&["user=ann"], 0).await.ok()?.remaining[0];
        assert!(left <= 10_000 - spent, "{left} are left of 10,000 less {spent}");
        (left == 10_000 - spent).then_some(())
    })
    .await;
}
