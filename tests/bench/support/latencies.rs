//! Latencies of answers.

use std::time::Duration;

/// The latencies of a run, ascending.
#[derive(Clone, Debug, Default)]
pub struct Latencies(Vec<Duration>);

impl Latencies {
    /// Sorts measured latencies.
    pub fn new(mut latencies: Vec<Duration>) -> Self {
        latencies.sort_unstable();
        Self(latencies)
    }

    /// All latencies.
    pub fn into_inner(self) -> Vec<Duration> {
        self.0
    }

    /// The number of latencies.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The share of latencies up to this one; zero if there are none.
    pub fn share_within(&self, limit: Duration) -> f64 {
        let within = self.0.partition_point(|latency| *latency <= limit);
        within as f64 / self.0.len().max(1) as f64
    }

    /// A percentile in microseconds; zero if there are none.
    pub fn quantile_us(&self, share: f64) -> f64 {
        let Some(last) = self.0.len().checked_sub(1) else { return 0.0 };
        // Both casts are of small positive numbers.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let index = (last as f64 * share).round() as usize;
        self.0[index].as_secs_f64() * 1e6
    }
}

/// The median; of an even count, the upper one. Zero if there are none.
pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}
