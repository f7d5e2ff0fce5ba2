//! The masters of a Redis Cluster, and their slots.
//!
//! Each master has its own link, task, breaker and heartbeat: if one is unavailable, the others continue. `explorer.rs`
//! keeps the map up to date; until it does, requests follow redirections.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use tokio::sync::{Notify, watch};

use super::cluster_slots::Address;
use super::key_prefix::KeyPrefix;
use super::link::Link;
use super::map_change::NOWHERE;
use super::slot::SLOTS;
use crate::store::Health;

/// The masters of a cluster.
#[derive(Debug)]
pub struct Nodes {
    prefix: KeyPrefix,
    map: ArcSwap<Map>,
    /// Notified when the map may be outdated.
    doubt: Arc<Notify>,
    /// The counts of masters that have ended.
    gone: Counts,
}

#[derive(Debug, Default)]
struct Counts {
    breaks: AtomicU64,
    reconnects: AtomicU64,
}

/// The master of each slot.
#[derive(Clone, Debug)]
pub struct Map {
    pub masters: Vec<Master>,
    /// The index of the master for each slot; [`NOWHERE`] if it has none.
    pub slots: Vec<u16>,
}

/// A master, and the link to it.
#[derive(Clone, Debug)]
pub struct Master {
    pub address: Address,
    pub link: Arc<Link>,
    /// Ends its task when it is dropped.
    pub _life: Arc<watch::Sender<()>>,
}

impl Default for Map {
    fn default() -> Self {
        Self { masters: Vec::new(), slots: vec![NOWHERE; SLOTS.into()] }
    }
}

impl Nodes {
    /// No masters yet.
    pub fn new(prefix: KeyPrefix) -> Self {
        let (map, doubt, gone) = (ArcSwap::default(), Arc::default(), Counts::default());
        Self { prefix, map, doubt, gone }
    }

    /// The text before all keys.
    pub fn prefix(&self) -> &KeyPrefix {
        &self.prefix
    }

    /// The map in force.
    pub fn map(&self) -> Arc<Map> {
        self.map.load_full()
    }

    /// Puts another map in force.
    pub fn replace(&self, map: Map) {
        self.map.store(Arc::new(map));
    }

    /// Notified when the map may be outdated.
    pub fn doubt_signal(&self) -> Arc<Notify> {
        self.doubt.clone()
    }

    /// Waits until the map may be outdated.
    pub async fn doubted(&self) {
        self.doubt.notified().await;
    }

    /// The link to the master of a slot, if it is known.
    pub fn link(&self, slot: u16) -> Option<Arc<Link>> {
        let map = self.map.load();
        let index = usize::from(map.slots[usize::from(slot)]);
        map.masters.get(index).map(|master| master.link.clone())
    }

    /// The link to a master in a redirection, `host:port`; without a host it is the redirecting one.
    pub fn link_at(&self, named: &str, by: &Link) -> Option<Arc<Link>> {
        let (host, port) = named.rsplit_once(':')?;
        let port = port.parse().ok()?;
        let map = self.map.load();
        let by = map.masters.iter().find(|master| std::ptr::eq(&*master.link, by));
        let host = if host.is_empty() { &by?.address.0 } else { host };
        let is_it =
            |master: &&Master| (master.address.0.as_str(), master.address.1) == (host, port);
        map.masters.iter().find(is_it).map(|master| master.link.clone())
    }

    /// Requests an update of the map.
    pub fn doubt(&self) {
        self.doubt.notify_one();
    }

    /// The state of the worst master; broken if there is none.
    pub fn health(&self) -> Health {
        let map = self.map.load();
        let all = || map.masters.iter().map(|master| master.link.breaker().health());
        let worst =
            [Health::Broken, Health::Probing].into_iter().find(|bad| all().any(|one| one == *bad));
        match map.masters.is_empty() {
            true => Health::Broken,
            false => worst.unwrap_or(Health::Healthy),
        }
    }

    /// Whether any master is asked.
    pub fn is_any_healthy(&self) -> bool {
        self.map.load().masters.iter().any(|master| master.link.breaker().is_healthy())
    }

    /// The number of sidecars: the maximum over all masters.
    pub fn sidecars(&self) -> u32 {
        let map = self.map.load();
        map.masters.iter().map(|master| master.link.membership().sidecars()).max().unwrap_or(0)
    }

    /// How often breakers have opened since the start.
    pub fn breaks(&self) -> u64 {
        let map = self.map.load();
        let now: u64 = map.masters.iter().map(|master| master.link.breaker().breaks()).sum();
        now + self.gone.breaks.load(Ordering::Relaxed)
    }

    /// The number of reconnections since the start.
    pub fn reconnects(&self) -> u64 {
        let map = self.map.load();
        let now: u64 = map.masters.iter().map(|master| master.link.reconnects()).sum();
        now + self.gone.reconnects.load(Ordering::Relaxed)
    }

    /// Adds the counts of a master that has ended.
    pub fn bury(&self, link: &Link) {
        self.gone.breaks.fetch_add(link.breaker().breaks(), Ordering::Relaxed);
        self.gone.reconnects.fetch_add(link.reconnects(), Ordering::Relaxed);
    }
}
