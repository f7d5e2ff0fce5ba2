//! Metrics of the file that stores usage.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Counters of the file in `data_dir`.
#[derive(Clone, Debug, Default)]
pub struct UsageFileMetrics {
    /// 1 while it is unavailable.
    pub unavailable: Gauge,
    /// Damaged files that were renamed.
    pub damaged: Counter,
}

impl UsageFileMetrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "usage_file_unavailable",
            "1 while the file in data_dir is unavailable, so that usage is only in memory",
            self.unavailable.clone(),
        );
        registry.register(
            "usage_files_damaged",
            "Damaged files in data_dir that were renamed and replaced by a new one",
            self.damaged.clone(),
        );
    }
}
