//! Clients send each request with an idempotency key until it is answered, while Redis is unreachable, loses answers or
//! is killed. Each request is charged once.

use super::persistent::{Aftermath, CLIENTS, Sidecars};

const POLICY: &str = "
domain: d
idempotency: { key: request_id, for: 1h, retries: 100 }
descriptors:
- { key: user, limits: [1000/total] }";

/// Requests of each client.
const REQUESTS: usize = 40;

async fn send_all(mut sidecars: Sidecars, client: usize) {
    for number in 0..REQUESTS {
        sidecars.send(&format!("user=ann,request_id={client}-{number}"), 1).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_is_sent_until_it_is_answered_is_charged_once() {
    let Some(mut aftermath) = Aftermath::of(POLICY, send_all).await else { return };
    let charged = u32::try_from(CLIENTS * REQUESTS).unwrap();
    assert_eq!(aftermath.state().await.remaining, [1_000 - charged]);
}
