//! Hits of rules, counted as envoyproxy/ratelimit counts them, for dashboards and alerts that were made for it.
//!
//! Each rule has one set of counters; rules whose names are the same share it. A rule whose names contain values of
//! requests has one for each of the busiest values, and one for all others. Nothing is counted unless it is enabled.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::AddAssign;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use prometheus_client::metrics::counter::Counter;

use super::busiest::Busiest;
use super::stat_key::StatKey;
use crate::lock::lock;

/// Counters under the names of envoyproxy/ratelimit; clones share them.
#[derive(Clone, Debug, Default)]
pub struct ReferenceMetrics(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    /// The maximum number of values of one rule; not set unless enabled.
    values_max: OnceLock<usize>,
    /// By key, and whether it contains values. Locked at loads and scrapes.
    series: Mutex<BTreeMap<(StatKey, bool), Arc<ReferenceSeries>>>,
    store_errors: Counter,
    policies_loaded: Counter,
}

/// Hits by their result, as the reference counts them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StatCounts {
    /// All requested hits.
    pub total_hits: u64,
    /// Hits above the limit.
    pub over_limit: u64,
    /// Hits above the near limit ratio, up to the limit.
    pub near_limit: u64,
    /// Hits of requests that the limit admitted.
    pub within_limit: u64,
    /// Hits above limits in shadow mode.
    pub shadow_mode: u64,
}

/// The counters of a rule.
#[derive(Debug)]
pub enum ReferenceSeries {
    Fixed(FixedCounts),
    /// Its key contains values. Locked for one lookup and a few additions.
    ByValue(Mutex<ValueCounts>),
}

/// In the order of the fields of [`StatCounts`].
#[derive(Debug, Default)]
pub struct FixedCounts([AtomicU64; StatCounts::LEN]);

/// The counters of each of the busiest values, and of the others.
#[derive(Debug)]
pub struct ValueCounts {
    /// The key of a request, whose memory is used again.
    key: StatKey,
    busiest: Busiest<StatCounts>,
    others: StatCounts,
}

impl StatCounts {
    /// The number of its fields.
    pub const LEN: usize = 5;

    /// The fields, each with its name.
    pub fn fields(&self) -> [(&'static str, u64); Self::LEN] {
        [
            ("total_hits", self.total_hits),
            ("over_limit", self.over_limit),
            ("near_limit", self.near_limit),
            ("within_limit", self.within_limit),
            ("shadow_mode", self.shadow_mode),
        ]
    }

    fn of(
        [total_hits, over_limit, near_limit, within_limit, shadow_mode]: [u64; Self::LEN],
    ) -> Self {
        Self { total_hits, over_limit, near_limit, within_limit, shadow_mode }
    }
}

impl AddAssign for StatCounts {
    fn add_assign(&mut self, other: Self) {
        let sum = |one: u64, other: u64| one.wrapping_add(other);
        let (one, other) = (self.fields(), other.fields());
        *self = Self::of(std::array::from_fn(|index| sum(one[index].1, other[index].1)));
    }
}

impl ReferenceSeries {
    /// Adds hits. `of_request` completes the key of a request: the domain's, with a step for each entry.
    pub fn add(&self, counts: StatCounts, of_request: impl FnOnce(&mut StatKey)) {
        match self {
            Self::Fixed(FixedCounts(sums)) => {
                let added = counts.fields().into_iter().zip(sums);
                for ((_, hits), sum) in added.filter(|((_, hits), _)| *hits != 0) {
                    sum.fetch_add(hits, Ordering::Relaxed);
                }
            }
            Self::ByValue(values) => {
                let ValueCounts { key, busiest, others } = &mut *lock(values);
                of_request(key);
                *busiest.count(key.as_str()).unwrap_or(others) += counts;
            }
        }
    }
}

impl ReferenceMetrics {
    /// Counts from now on, for at most `values_max` values of a rule.
    pub fn enable(&self, values_max: usize) {
        // It is enabled once, at the start.
        self.0.values_max.set(values_max).ok();
    }

    /// Whether it counts.
    pub fn is_enabled(&self) -> bool {
        self.0.values_max.get().is_some()
    }

    /// The counters of a key; `by_value`: the key is that of all values that are not among the busiest.
    pub fn series(&self, key: StatKey, by_value: bool) -> Arc<ReferenceSeries> {
        let values_max = self.0.values_max.get().copied().unwrap_or_default();
        let new = || {
            Arc::new(match by_value {
                false => ReferenceSeries::Fixed(FixedCounts::default()),
                true => ReferenceSeries::ByValue(Mutex::new(ValueCounts {
                    key: StatKey::default(),
                    busiest: Busiest::new(values_max),
                    others: StatCounts::default(),
                })),
            })
        };
        lock(&self.0.series).entry((key, by_value)).or_insert_with(new).clone()
    }

    /// Removes keys that are not in `live`.
    pub fn retain(&self, live: &BTreeSet<(StatKey, bool)>) {
        lock(&self.0.series).retain(|key, _| live.contains(key));
    }

    /// Counts a request that failed because the store was unavailable.
    pub fn store_failed(&self) {
        self.0.store_errors.inc();
    }

    /// Counts policies that came into force, the first ones too.
    pub fn policy_loaded(&self) {
        self.0.policies_loaded.inc();
    }

    /// How often policies came into force.
    pub fn policies_loaded(&self) -> u64 {
        self.0.policies_loaded.get()
    }

    /// Requests that failed because the store was unavailable.
    pub fn store_errors(&self) -> u64 {
        self.0.store_errors.get()
    }

    /// The sums so far by key.
    pub fn totals(&self) -> BTreeMap<StatKey, StatCounts> {
        let mut totals: BTreeMap<StatKey, StatCounts> = BTreeMap::new();
        let mut add = |key: StatKey, counts| *totals.entry(key).or_default() += counts;
        for ((key, _), series) in &*lock(&self.0.series) {
            match &**series {
                ReferenceSeries::Fixed(FixedCounts(sums)) => {
                    let read = std::array::from_fn(|index| sums[index].load(Ordering::Relaxed));
                    add(key.clone(), StatCounts::of(read));
                }
                ReferenceSeries::ByValue(values) => {
                    let values = lock(values);
                    add(key.clone(), values.others);
                    for (key, counts) in values.busiest.iter() {
                        add(StatKey::parsed(key), *counts);
                    }
                }
            }
        }
        totals
    }
}
