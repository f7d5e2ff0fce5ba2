//! Counters in a real Redis Cluster.

use std::sync::Arc;
use std::time::Duration;

use tollgate::clock::Now;
use tollgate::limit::Hits::Spend;
use tollgate::policy::Mode::Enforce;
use tollgate::store::Batch;
use tollgate::store::Fallback;
use tollgate::store::Outcome;
use tollgate::store::Store;
use tollgate::store::StoreError;
use tollgate::store::redis::Redis;
use tollgate::store::shared::Shared;

use crate::support::PATIENCE;
use crate::support::batch::after;
use crate::support::batch::batch;
use crate::support::batch::sliding;
use crate::support::claims::remaining;
use crate::support::cluster::Cluster;
use crate::support::redis::until;

/// What a sidecar has of a cluster, as a store that never fails.
pub struct OnCluster {
    shared: Shared<Redis>,
    task: tokio::task::JoinHandle<()>,
}

impl OnCluster {
    pub async fn open(cluster: &Cluster) -> Arc<Self> {
        let settings =
            tollgate::store::redis::RedisSettings { deadline: PATIENCE, ..cluster.settings() };
        let (redis, connector) = Redis::try_new(&settings).unwrap();
        let task = tokio::spawn(connector.run(std::future::pending()));
        let store = Self { shared: Shared::new(redis, Fallback::new(100, Some(1))), task };
        let healthy = || store.shared.near.store().health() == tollgate::store::Health::Healthy;
        until("all masters are connected", healthy).await;
        Arc::new(store)
    }
}

impl Drop for OnCluster {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Store for OnCluster {
    async fn charge(&self, batch: &Batch, now: Now) -> Result<Outcome, StoreError> {
        if let Some(known) = self.shared.answer(batch, now) {
            return Ok(known);
        }
        let asked = self.shared.ask(batch, now, Duration::ZERO).await;
        asked.error.map_or(Ok(asked.outcome), Err)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_on_several_slots_is_charged_whole_or_not_at_all() {
    let Some(cluster) = Cluster::start(3, false).await else { return };
    let store = OnCluster::open(&cluster).await;
    let (wide, narrow) = (sliding(1_000, 60_000), sliding(3, 60_000));
    let names: Vec<String> = (0..8).map(|name| format!("wide {name}")).collect();
    let mut charges: Vec<_> = names
        .iter()
        .enumerate()
        .map(|(group, name)| (name.as_str(), group, Enforce, &wide, Spend(1)))
        .collect();
    charges.push(("narrow", 8, Enforce, &narrow, Spend(1)));
    let ask = batch(&charges);
    for passes in [true, true, true, false, false, false] {
        assert_eq!(store.charge(&ask, after(0)).await.unwrap().admitted, passes);
    }
    for name in &names {
        assert_eq!(remaining(&*store, name, &wide, 1).await, 997, "{name}");
    }
}
