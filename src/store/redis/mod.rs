//! Counters in a Redis that several sidecars share.
//!
//! A request is one round trip, which it shares with concurrent ones: code in the server reads the records of the
//! request's rules, decides by the server's clock and writes them, in one atomic step. Calendars are not available
//! there, so the charge brings its calendar periods, for the last known time of the server.
//!
//! Every call ends by the deadline. The result of a late call is unknown: the charge may have been made, and is not
//! repeated, because the hits would then count twice. But the call carries its deadline (`server_clock.rs`), so a
//! stalled server charges nothing after it.

mod alert_book;
mod api_keys;
mod audit_log;
mod audit_rewrite;
mod cache;
mod connect;
mod cluster_slots;
mod connection;
mod directory;
mod erase;
mod erasures;
mod explorer;
mod fault;
mod gift_erasure;
mod gifts;
mod group;
mod hash_reader;
mod key_prefix;
mod membership;
mod late;
mod link;
mod map_change;
mod nodes;
mod pack;
mod refusals;
mod replicas;
mod reply;
mod reservation_records;
mod resp;
mod route;
mod script;
mod sender;
mod server_clock;
mod settings;
mod signals;
mod slot;
mod socket;
mod subscription;
mod sums;
mod sums_answers;
mod sums_keys;
mod sums_link;

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::Instant;

use super::{Batch, Health, Outcome, Store, StoreError, StoreWait};
use crate::clock::{Now, monotonic_now};
use crate::policy::{Key, KeyEntry};

pub use alert_book::{BookChange, BookFound, RedisAlertBook};
pub use api_keys::RedisApiKeys;
pub use audit_log::RedisAuditLog;
use cache::CallerCache;
use directory::Names;
pub use directory::RedisDirectory;
pub use erasures::RedisErasures;
use explorer::Explorer;
use group::Asking;
pub use key_prefix::KeyPrefix;
use link::Link;
pub use refusals::{KeptRefusal, RedisRefusals};
pub use reply::{BatchSize, Replies, Reply};
pub use reservation_records::RedisReservations;
use route::Route;
pub use settings::{
    CONNECT_TIMEOUT_DEFAULT, DEADLINE_DEFAULT, Password, RedisSettings, RedisSettingsError,
};
pub use subscription::Subscriber;
pub use sums::RedisSums;

/// Number of attempts at a batch: one by the estimated clock, one by the time that the server then reports.
const ATTEMPTS_MAX: usize = 2;

/// Counters in Redis (6.0 or newer): a single server, or a cluster.
#[derive(Debug)]
pub struct Redis {
    route: Route,
    address: String,
    deadline: Duration,
}

/// Keeps the connections: the task of a [`Redis`].
#[derive(Debug)]
pub struct Connector(Task);

#[derive(Debug)]
enum Task {
    One(connection::Connector),
    Cluster(Box<Explorer>),
}

impl Connector {
    /// Connects and reconnects until `shutdown`.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        match self.0 {
            Task::One(connector) => connector.run(shutdown).await,
            Task::Cluster(explorer) => explorer.run(shutdown).await,
        }
    }
}

impl Redis {
    /// A store, and the task that connects it; the server may be unavailable.
    ///
    /// # Errors
    /// If the settings name no server, or invalid files.
    pub fn try_new(settings: &RedisSettings) -> Result<(Self, Connector), RedisSettingsError> {
        let (route, task) = if settings.cluster_nodes.is_empty() {
            let (connector, link) = connection::Connector::try_new(settings, Weak::new())?;
            (Route::One(link), Task::One(connector))
        } else {
            let (explorer, nodes) = Explorer::try_new(settings)?;
            (Route::Cluster(nodes), Task::Cluster(Box::new(explorer)))
        };
        let (address, deadline) = (settings.address()?, settings.deadline);
        Ok((Self { route, address, deadline }, Connector(task)))
    }

    /// The directory of callers in the same Redis, and the task that receives its changes; at most `cached_max` callers
    /// are cached.
    pub fn directory(&self, cached_max: usize) -> (RedisDirectory, Subscriber) {
        let cache = Arc::new(CallerCache::new(cached_max));
        let (route, names) = (self.route.clone(), Names::new(&self.route));
        let subscriber = Subscriber::new(route, names.clone()).telling(cache.clone());
        (RedisDirectory::new(self.route.clone(), names, self.deadline, cache), subscriber)
    }

    /// API keys in the same Redis, of which at most `cached_max` are cached, and the task that receives their changes: the one
    /// of the directory, if there is one.
    pub fn api_keys(
        &self,
        cached_max: usize,
        subscriber: Option<Subscriber>,
    ) -> (RedisApiKeys, Subscriber) {
        let (route, names) = (self.route.clone(), Names::new(&self.route));
        let new = || Subscriber::new(self.route.clone(), names.clone());
        let subscriber = subscriber.unwrap_or_else(new);
        let keys = RedisApiKeys::new(route, names, (self.deadline, cached_max));
        let subscriber = subscriber.telling(keys.listener());
        (keys, subscriber)
    }

    /// Records of reservations in the same Redis.
    pub fn reservations(&self) -> RedisReservations {
        RedisReservations::new(self.route.clone())
    }

    /// Sums of usage in the same Redis.
    pub fn sums(&self) -> RedisSums {
        RedisSums::new(self.route.clone())
    }

    /// The book of alerts in the same Redis.
    pub fn alert_book(&self) -> RedisAlertBook {
        RedisAlertBook::new(self.route.clone())
    }

    /// Erasures of callers in the same Redis.
    pub fn erasures(&self) -> RedisErasures {
        RedisErasures::new(self.route.clone())
    }

    /// Removes the counters with one of these entries in their key, and returns their number.
    ///
    /// # Errors
    /// If Redis does not answer as expected; some may be removed.
    pub async fn erase(&self, entries: &[KeyEntry]) -> Result<u64, StoreError> {
        erase::erase(&self.route, entries).await
    }

    /// Removes the counters under a key.
    ///
    /// # Errors
    /// If Redis does not answer as expected.
    pub async fn remove(&self, key: &Key) -> Result<(), StoreError> {
        erase::remove(&self.route, &self.route.prefix().on(key.as_str())).await
    }

    /// The stream of the audit log in the same Redis, of at most about so many lines.
    pub fn audit_log(&self, len_max: u64) -> RedisAuditLog {
        RedisAuditLog::new(self.route.clone(), len_max)
    }

    /// Recent refusals in the same Redis, at most so many.
    pub fn refusals(&self, kept_max: usize) -> RedisRefusals {
        RedisRefusals::new(self.route.clone(), kept_max)
    }

    fn slot_of(&self, key: &Key) -> u16 {
        self.route.slot(&self.route.prefix().on(key.as_str()))
    }

    /// Host and port of the server, or the path of its socket; of a cluster, of one of its nodes.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The state of the server; of a cluster, the worst one.
    pub fn health(&self) -> Health {
        match &self.route {
            Route::One(link) => link.breaker().health(),
            Route::Cluster(nodes) => nodes.health(),
        }
    }

    /// How often a breaker has opened since the start.
    pub fn breaks(&self) -> u64 {
        match &self.route {
            Route::One(link) => link.breaker().breaks(),
            Route::Cluster(nodes) => nodes.breaks(),
        }
    }

    /// The number of reconnections since the start.
    pub fn reconnects(&self) -> u64 {
        match &self.route {
            Route::One(link) => link.reconnects(),
            Route::Cluster(nodes) => nodes.reconnects(),
        }
    }

    async fn decide(
        &self,
        (link, slot): (&Link, u16),
        batch: &Batch,
        (now, deadline): (Now, Instant),
    ) -> Result<Outcome, StoreError> {
        let clock = link.clock();
        let fixed_time = match now {
            Now::Given(at) => Some(at),
            Now::Local(_) => None,
        };
        let expires = (fixed_time.is_none() && batch.expires()).then_some(deadline);
        for _ in 0..ATTEMPTS_MAX {
            let estimate = clock.estimate(now);
            match link.charge(&Asking { batch, slot, fixed_time, estimate, expires }).await? {
                Reply::Decided(outcome) => {
                    clock.compare(now, outcome.at);
                    return Ok(outcome);
                }
                Reply::Late(_) if deadline <= monotonic_now() => {
                    return Err(StoreError::Late { deadline: self.deadline });
                }
                Reply::OtherTime(at) | Reply::Late(at) => clock.compare(now, at),
            }
        }
        Err(StoreError::Garbled { reason: "its clock does not stand still".to_owned() })
    }
}

impl Store for Redis {
    /// Charges a batch; in a cluster, its keys must have one slot.
    async fn charge_after(
        &self,
        batch: &Batch,
        now: Now,
        wait: StoreWait,
    ) -> Result<Outcome, StoreError> {
        let allowed = wait.deadline(self.deadline);
        let left = allowed.saturating_sub(wait.waited);
        if left.is_zero() {
            return Err(StoreError::Late { deadline: allowed });
        }
        let slot = batch.keys.first().map_or(0, |key| self.slot_of(key));
        let Some(link) = self.route.link(slot) else {
            return Err(StoreError::unexplored(&self.address));
        };
        let deadline = monotonic_now() + left;
        link.in_time(left, self.decide((&link, slot), batch, (now, deadline))).await
    }

    fn shard_of(&self, key: &Key) -> u32 {
        self.slot_of(key).into()
    }

    fn is_healthy(&self) -> bool {
        match &self.route {
            Route::One(link) => link.breaker().is_healthy(),
            Route::Cluster(nodes) => nodes.is_any_healthy(),
        }
    }

    fn sidecars(&self) -> u32 {
        match &self.route {
            Route::One(link) => link.membership().sidecars(),
            Route::Cluster(nodes) => nodes.sidecars(),
        }
    }
}
