//! Leases between real sidecars: leased hits never exceed the limit, hardly any of it is unused, and all unspent hits
//! come back when the sidecars end.

use envoy_types::pb::google::protobuf::UInt64Value;
use tokio::task::JoinSet;

use crate::support::client::{Grpc, request};
use crate::support::redis::{Server, calls};
use crate::support::store::Store;
use crate::support::tollgate::Tollgate;

const SIDECARS: u32 = 3;

/// Number of clients of each sidecar, with one request after the other.
const CLIENTS: usize = 8;

const LIMIT: u32 = 9_600;

/// A sidecar holds at most this fraction of the limit.
const HELD_SHARE: u32 = 64;

const OK: i32 = 1;

fn policy() -> String {
    format!(
        "{{domain: d, defaults: {{lease: auto}}, descriptors: [{{key: user, limits: [{LIMIT}/hour]}}]}}"
    )
}

/// Sends requests until one is refused, and returns the number that passed.
async fn drain(mut client: Grpc) -> u32 {
    let mut passed = 0;
    loop {
        let answer = client.should_rate_limit(request("d", &[&[("user", "alice")]])).await;
        if answer.unwrap().into_inner().overall_code != OK {
            return passed;
        }
        passed += 1;
    }
}

async fn remaining(tollgate: &Tollgate) -> u32 {
    let mut peek = request("d", &[&[("user", "alice")]]);
    peek.descriptors[0].hits_addend = Some(UInt64Value { value: 0 });
    let answer = tollgate.client().await.should_rate_limit(peek).await.unwrap().into_inner();
    answer.statuses[0].limit_remaining
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sidecars_with_leases_admit_the_limit_and_nothing_more() {
    let Some(server) = Server::start(&[]) else { return };
    let mut raw = server.raw().await;
    let store = Store::Redis(server);
    let mut sidecars = Vec::new();
    for _ in 0..SIDECARS {
        // On a busy machine, the usual deadline would turn some decisions into outages.
        sidecars.push(Tollgate::serve_with(&policy(), &store, &["--store-deadline", "5s"]).await);
    }
    let mut clients = JoinSet::new();
    for sidecar in &sidecars {
        for _ in 0..CLIENTS {
            clients.spawn(drain(sidecar.client().await));
        }
    }
    let passed: u32 = clients.join_all().await.into_iter().sum();
    assert!(passed <= LIMIT, "{passed} passed");
    assert!(LIMIT - SIDECARS * LIMIT / HELD_SHARE <= passed, "only {passed} passed");
    let calls = calls(&mut raw, "fcall");
    assert!(calls < u64::from(passed) / 4, "{calls} calls for {passed} decisions");

    for sidecar in &mut sidecars {
        sidecar.terminate();
        assert!(sidecar.exit().await.success());
    }
    let fresh = Tollgate::serve(&policy(), &store).await;
    assert_eq!(passed + remaining(&fresh).await, LIMIT, "leases come back");
}
