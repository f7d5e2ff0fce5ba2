//! A real Redis Cluster for a test.

use std::future::pending;
use std::ops::RangeInclusive;
use std::sync::Arc;

use redis::Connection;
use tokio::task::JoinHandle;
use tollgate::clock::Now;
use tollgate::store::redis::{Redis, RedisSettings};
use tollgate::store::shared::Shared;
use tollgate::store::{Batch, Fallback, Health, Outcome, Store, StoreError, StoreWait};

use super::PATIENCE;
use super::batch::key;
use super::ports::free_port;
use super::redis::{Server, Tls, query, until};

/// Slots of every cluster.
const SLOTS: u16 = 16_384;

/// Masters with the same number of slots, and replicas of them.
pub struct Cluster {
    pub nodes: Vec<Server>,
    ports: Vec<u16>,
    masters: usize,
    tls: Option<Tls>,
}

impl Cluster {
    /// A cluster of this many masters, with a replica for each if `replicated`. None without Redis.
    pub async fn start(masters: usize, replicated: bool) -> Option<Self> {
        let count = if replicated { 2 * masters } else { masters };
        Self::of_nodes(masters, count, None).await
    }

    /// A cluster of this many masters that accept only TLS. None without Redis.
    pub async fn start_with_tls(masters: usize) -> Option<Self> {
        Self::of_nodes(masters, masters, Some(Tls::new())).await
    }

    async fn of_nodes(masters: usize, count: usize, tls: Option<Tls>) -> Option<Self> {
        let ports: Vec<u16> = (0..count).map(|_| free_port()).collect();
        // A node without CPU for this time counts as failed, and refuses calls when it runs again.
        let node_timeout_ms = if masters < count { 1_000 } else { 15_000 };
        let node = |port: &u16| node(*port, node_timeout_ms, tls.as_ref());
        let nodes: Option<Vec<Server>> = ports.iter().map(node).collect();
        let cluster = Self { nodes: nodes?, ports, masters, tls };
        cluster.form().await;
        Some(cluster)
    }

    async fn form(&self) {
        let mut nodes = Vec::new();
        for node in &self.nodes {
            nodes.push(node.raw().await);
        }
        for (index, node) in nodes.iter_mut().enumerate() {
            query::<()>(node, &format!("CLUSTER SET-CONFIG-EPOCH {}", index + 1));
            if index < self.masters {
                let slots = self.slots(index);
                let slots = format!("{} {}", slots.start(), slots.end());
                query::<()>(node, &format!("CLUSTER ADDSLOTSRANGE {slots}"));
            }
        }
        for port in &self.ports[1..] {
            query::<()>(&mut nodes[0], &format!("CLUSTER MEET 127.0.0.1 {port}"));
        }
        let known = format!("cluster_known_nodes:{}\r", self.nodes.len());
        // A cluster that may be incomplete reports ok before its nodes know all slots.
        let whole = format!("cluster_slots_ok:{SLOTS}\r");
        until("the nodes know each other", || {
            nodes.iter_mut().all(|node| {
                let info: String = query(node, "CLUSTER INFO");
                ["cluster_state:ok", &known, &whole].iter().all(|line| info.contains(line))
            })
        })
        .await;
        for index in self.masters..self.nodes.len() {
            let id: String = query(&mut nodes[index - self.masters], "CLUSTER MYID");
            query::<()>(&mut nodes[index], &format!("CLUSTER REPLICATE {id}"));
        }
        for replica in &mut nodes[self.masters..] {
            let follows =
                || query::<String>(replica, "INFO replication").contains("link_status:up");
            until("a replica follows", follows).await;
        }
        let replicas = self.nodes.len() - self.masters;
        for node in &mut nodes {
            let mut reported = || query::<String>(node, "CLUSTER NODES").matches("slave").count();
            until("all know of the replicas", || reported() == replicas).await;
        }
    }

    /// The slots that a master has at the start.
    pub fn slots(&self, master: usize) -> RangeInclusive<u16> {
        let bound =
            |index: usize| u16::try_from(usize::from(SLOTS) * index / self.masters).unwrap();
        bound(master)..=bound(master + 1) - 1
    }

    /// The slot of a counter, by its key.
    pub async fn slot(&self, name: &str) -> u16 {
        let mut ask = redis::cmd("CLUSTER");
        ask.arg("KEYSLOT").arg(key(name).as_str()).query(&mut self.raw(0).await).unwrap()
    }

    /// Kills the master of a key's slot.
    pub async fn kill_master_of(&mut self, key: &str) {
        let mut ask = redis::cmd("CLUSTER");
        let slot: u16 = ask.arg("KEYSLOT").arg(key).query(&mut self.raw(0).await).unwrap();
        let master = (0..self.masters).find(|master| self.slots(*master).contains(&slot)).unwrap();
        self.nodes[master].kill();
    }

    /// A connection to a node, independent of the store.
    pub async fn raw(&self, node: usize) -> Connection {
        self.nodes[node].raw().await
    }

    /// The address of a node.
    pub fn address(&self, node: usize) -> String {
        format!("127.0.0.1:{}", self.ports[node])
    }

    /// The flags of `tollgate serve` for this cluster.
    pub fn flags(&self) -> Vec<String> {
        let url = format!("redis://{}", self.address(0));
        let nodes = [self.address(1), self.address(2)].join(",");
        ["--redis-url", &url, "--redis-cluster-nodes", &nodes].map(str::to_owned).into()
    }

    pub fn settings(&self) -> RedisSettings {
        let cluster_nodes = vec![("127.0.0.1".to_owned(), self.ports[1])];
        let scheme = if self.tls.is_some() { "rediss" } else { "redis" };
        let tls = self.tls.as_ref().map(Tls::settings).unwrap_or_default();
        let url = format!("{scheme}://{}", self.address(0));
        RedisSettings { cluster_nodes, tls, ..RedisSettings::new(&url) }
    }

    /// Deletes all counters.
    pub async fn clear(&self) {
        for node in 0..self.masters {
            query::<()>(&mut self.raw(node).await, "FLUSHALL");
        }
    }

    /// Moves a slot with all its keys from one master to another, like `redis-cli --cluster reshard`; `between` runs
    /// while the slot is moving, before its keys are moved.
    pub async fn move_slot(
        &self,
        slot: u16,
        (from, to): (usize, usize),
        between: impl AsyncFnOnce(),
    ) {
        let (mut source, mut target) = (self.raw(from).await, self.raw(to).await);
        let from_id: String = query(&mut source, "CLUSTER MYID");
        let to_id: String = query(&mut target, "CLUSTER MYID");
        query::<()>(&mut target, &format!("CLUSTER SETSLOT {slot} IMPORTING {from_id}"));
        query::<()>(&mut source, &format!("CLUSTER SETSLOT {slot} MIGRATING {to_id}"));
        between().await;
        loop {
            let keys: Vec<String> = query(&mut source, &format!("CLUSTER GETKEYSINSLOT {slot} 10"));
            if keys.is_empty() {
                break;
            }
            for key in keys {
                let mut migrate = redis::cmd("MIGRATE");
                migrate.arg("127.0.0.1").arg(self.ports[to]).arg(key).arg(0).arg(5_000);
                migrate.exec(&mut source).unwrap();
            }
        }
        query::<()>(&mut target, &format!("CLUSTER SETSLOT {slot} NODE {to_id}"));
        query::<()>(&mut source, &format!("CLUSTER SETSLOT {slot} NODE {to_id}"));
    }
}

/// A cluster as a sidecar uses it, as a store that never fails.
pub struct Sidecar {
    shared: Shared<Redis>,
    task: JoinHandle<()>,
}

impl Sidecar {
    pub async fn open(cluster: &Cluster) -> Arc<Self> {
        let settings = RedisSettings { deadline: PATIENCE, ..cluster.settings() };
        let (redis, connector) = Redis::try_new(&settings).unwrap();
        let task = tokio::spawn(connector.run(pending()));
        let store = Self { shared: Shared::new(redis, Fallback::new(100, Some(1))), task };
        let healthy = || store.shared.store().health() == Health::Healthy;
        until("all masters are connected", healthy).await;
        Arc::new(store)
    }
}

impl Sidecar {
    /// The maintenance that a process does a few times a second.
    pub async fn maintain(&self, now: Now) {
        self.shared.maintain(now).await;
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Store for Sidecar {
    async fn charge_after(
        &self,
        batch: &Batch,
        now: Now,
        wait: StoreWait,
    ) -> Result<Outcome, StoreError> {
        if let Some(known) = self.shared.answer(batch, now) {
            return Ok(known);
        }
        let asked = self.shared.ask(batch, now, wait).await;
        asked.error.map_or(Ok(asked.outcome), Err)
    }
}

fn node(port: u16, timeout_ms: u64, tls: Option<&Tls>) -> Option<Server> {
    let listening = match tls {
        Some(tls) => [tls.flags(port).to_vec(), strings(["--tls-cluster", "yes"])].concat(),
        None => strings(["--port", &port.to_string()]),
    };
    let clustered = strings([
        "--cluster-enabled",
        "yes",
        "--cluster-node-timeout",
        &timeout_ms.to_string(),
        "--cluster-require-full-coverage",
        "no",
        "--repl-diskless-sync-delay",
        "0",
    ]);
    let arguments = [listening, clustered].concat();
    Server::start(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
}

fn strings<const N: usize>(texts: [&str; N]) -> Vec<String> {
    texts.map(str::to_owned).into()
}
