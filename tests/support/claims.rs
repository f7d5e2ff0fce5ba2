//! Helpers for claims about every store.

use std::sync::Arc;

use tollgate::clock::Now;
use tollgate::limit::Hits::Spend;
use tollgate::limit::{Fit, Limit};
use tollgate::store::{Batch, Outcome, Store};

use super::batch::{after, one};

/// Makes each claim a test of each store.
macro_rules! of_every_store {
    ($($claim:ident)*) => {
        mod memory {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $claim() {
                    super::$claim(std::sync::Arc::new(tollgate::store::embedded::Memory::new(2_000))).await;
                }
            )*
        }

        mod redis {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $claim() {
                    let Some(server) = crate::support::redis::Server::start(&[]) else {
                        return;
                    };
                    let connected = crate::support::redis::Connected::open(&server.url()).await;
                    super::$claim(connected.store.clone()).await;
                }
            )*
        }

        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn all_of_it_holds_on_a_cluster() {
            let Some(cluster) = crate::support::cluster::Cluster::start(3, false).await else {
                return;
            };
            $(
                // It has not received the counts that were made for the claim before.
                $claim(crate::support::cluster::Sidecar::open(&cluster).await).await;
                cluster.clear().await;
            )*
        }
    };
}
pub(crate) use of_every_store;

pub async fn charge(store: &impl Store, batch: &Batch, now: Now) -> Outcome {
    store.charge(batch, now).await.unwrap()
}

/// Whether a batch is admitted this many milliseconds after the start.
pub async fn passes(store: &impl Store, batch: &Batch, ms: u64) -> bool {
    charge(store, batch, after(ms)).await.admitted
}

/// The remaining hits of a limit under a key.
pub async fn remaining(store: &impl Store, name: &str, limit: &Arc<Limit>, ms: u64) -> u64 {
    let outcome = charge(store, &one(name, limit, Spend(0)), after(ms)).await;
    outcome.decisions[0].standing.remaining
}

/// Sends a batch, expects a refusal with a wait, checks that the wait is exact, and returns it.
pub async fn exact_wait(store: &impl Store, ask: &Batch, ms: u64) -> u64 {
    let outcome = charge(store, ask, after(ms)).await;
    let Fit::AfterMs(wait_ms) = outcome.decisions[0].fit else {
        panic!("{outcome:?}");
    };
    assert!(!outcome.admitted);
    assert!(!passes(store, ask, ms + wait_ms - 1).await, "after {wait_ms} ms");
    assert!(passes(store, ask, ms + wait_ms).await, "after {wait_ms} ms");
    wait_ms
}
