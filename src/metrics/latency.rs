//! A histogram of durations without a lock.
//!
//! The library's histogram locks a mutex for each observation. Every request makes one, on every core, so here each
//! bucket is an atomic number. A concurrent scrape may miss the latest observations.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use std::{array, fmt};

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

/// Upper bounds of the buckets, in nanoseconds: three a decade from a microsecond to a second.
const BOUNDS_NS: [u64; 19] = [
    1_000,
    2_000,
    5_000,
    10_000,
    20_000,
    50_000,
    100_000,
    200_000,
    500_000,
    1_000_000,
    2_000_000,
    5_000_000,
    10_000_000,
    20_000_000,
    50_000_000,
    100_000_000,
    200_000_000,
    500_000_000,
    1_000_000_000,
];

/// Counts durations in buckets; clones share the buckets.
#[derive(Clone, Debug)]
pub struct Latency(Arc<Counts>);

#[derive(Debug)]
struct Counts {
    /// The last one counts durations above all bounds.
    buckets: [AtomicU64; BOUNDS_NS.len() + 1],
    sum_ns: AtomicU64,
}

impl Default for Latency {
    fn default() -> Self {
        let buckets = array::from_fn(|_| AtomicU64::new(0));
        Self(Arc::new(Counts { buckets, sum_ns: AtomicU64::new(0) }))
    }
}

impl Latency {
    /// Counts a duration.
    pub fn observe(&self, duration: Duration) {
        let ns = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let bucket = BOUNDS_NS.partition_point(|bound| *bound < ns);
        self.0.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.0.sum_ns.fetch_add(ns, Ordering::Relaxed);
    }

    /// What was counted so far.
    pub fn counts(&self) -> LatencyCounts {
        LatencyCounts(array::from_fn(|index| self.0.buckets[index].load(Ordering::Relaxed)))
    }
}

/// How many durations were counted in each bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LatencyCounts([u64; BOUNDS_NS.len() + 1]);

impl LatencyCounts {
    /// How many durations were counted.
    pub fn sum(&self) -> u64 {
        self.0.iter().sum()
    }

    /// The upper bound of each bucket, with its count. The last one also has what is above it.
    pub fn buckets(&self) -> impl Iterator<Item = (Duration, u64)> {
        let last = BOUNDS_NS.last().copied();
        let bounds = BOUNDS_NS.into_iter().chain(last).map(Duration::from_nanos);
        bounds.zip(self.0.iter().copied())
    }

    /// What was counted since `earlier`.
    pub fn since(&self, earlier: &Self) -> Self {
        Self(array::from_fn(|index| self.0[index].saturating_sub(earlier.0[index])))
    }

    /// The duration that a part of the durations don't exceed, such as 0.99, interpolated within its bucket; None without
    /// durations. Above all buckets, the bound of the last one.
    pub fn quantile(&self, part: f64) -> Option<Duration> {
        let count = self.sum();
        if count == 0 {
            return None;
        }
        let wanted = count as f64 * part;
        let (mut below, mut lower_ns) = (0.0, 0.0);
        for (bound_ns, in_bucket) in BOUNDS_NS.iter().zip(&self.0) {
            let (bound_ns, in_bucket) = (*bound_ns as f64, *in_bucket as f64);
            if 0.0 < in_bucket && wanted <= below + in_bucket {
                let ns = lower_ns + (bound_ns - lower_ns) * (wanted - below) / in_bucket;
                return Some(Duration::from_secs_f64(ns / 1e9));
            }
            (below, lower_ns) = (below + in_bucket, bound_ns);
        }
        Some(Duration::from_secs_f64(lower_ns / 1e9))
    }
}

impl EncodeMetric for Latency {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        let bounds_s = BOUNDS_NS.iter().map(|ns| Duration::from_nanos(*ns).as_secs_f64());
        let counts = self.0.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed));
        let buckets: Vec<(f64, u64)> = bounds_s.chain([f64::MAX]).zip(counts).collect();
        let count = buckets.iter().map(|(_, count)| count).sum();
        let sum_s = Duration::from_nanos(self.0.sum_ns.load(Ordering::Relaxed)).as_secs_f64();
        encoder.encode_histogram::<NoLabelSet>(sum_s, count, &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}
