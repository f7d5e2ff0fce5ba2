//! Metrics of the directory of callers.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::reload::ReloadLabel;
use super::{Level, Reload};

/// Counters of the directory of callers.
#[derive(Debug, Default)]
pub struct CallerMetrics {
    /// Callers in memory: all callers in files, or the cached ones of Redis, unknown callers included.
    pub known: Level,
    /// Callers fetched from Redis.
    pub fetches: Counter,
    /// 1 while the subscription to changes in Redis is up, so that the cache is used.
    pub subscribed: Gauge,
    /// 1 while the files are invalid, so that older callers are in force.
    rejected: Gauge,
    reloads: Family<ReloadLabel, Counter>,
}

impl CallerMetrics {
    /// Sets the number of callers in force from files.
    pub fn loaded(&self, count: usize) {
        self.known.set(u64::try_from(count).unwrap_or(u64::MAX));
        self.rejected.set(0);
    }

    /// Counts a reload.
    pub fn reload(&self, result: Reload) {
        self.reloads.get_or_create(&ReloadLabel::from(result)).inc();
        if result == Reload::Error {
            self.rejected.set(1);
        }
    }

    /// Whether the last reload of the files failed.
    pub fn is_rejected(&self) -> bool {
        self.rejected.get() == 1
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        for result in [Reload::Ok, Reload::Error, Reload::Unchanged] {
            self.reloads.get_or_create_owned(&ReloadLabel::from(result));
        }
        registry.register("callers", "Callers cached in memory", self.known.clone());
        registry.register("caller_fetches", "Callers fetched from Redis", self.fetches.clone());
        registry.register(
            "callers_subscribed",
            "1 if the subscription to caller changes in Redis is up",
            self.subscribed.clone(),
        );
        registry.register(
            "callers_rejected",
            "1 if the last reload of caller files failed, so that older callers are in force",
            self.rejected.clone(),
        );
        registry.register("caller_reloads", "Reloads of the caller files", self.reloads.clone());
    }
}
