//! How long answers took.

use std::time::Duration;

/// The latencies of a run, the shortest first.
#[derive(Clone, Debug, Default)]
pub struct Latencies(Vec<Duration>);

impl Latencies {
    /// Sorts what was measured.
    pub fn new(mut latencies: Vec<Duration>) -> Self {
        latencies.sort_unstable();
        Self(latencies)
    }

    /// All of them.
    pub fn into_inner(self) -> Vec<Duration> {
        self.0
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The share that took no longer; zero if there are none.
    pub fn share_within(&self, limit: Duration) -> f64 {
        let within = self.0.partition_point(|latency| *latency <= limit);
        within as f64 / self.0.len().max(1) as f64
    }

    /// What a share of the answers doesn't exceed, in microseconds; zero if there were none.
    pub fn quantile_us(&self, share: f64) -> f64 {
        let Some(last) = self.0.len().checked_sub(1) else { return 0.0 };
        // Both casts are of small positive numbers.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let index = (last as f64 * share).round() as usize;
        self.0[index].as_secs_f64() * 1e6
    }
}

/// The value in the middle; of an even count, the upper one. Zero if there is none.
pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}
