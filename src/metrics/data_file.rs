//! Metrics of the files in `data_dir`.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Counters of one file in `data_dir`.
#[derive(Clone, Debug, Default)]
pub struct DataFileMetrics {
    /// 1 while it is unavailable.
    pub unavailable: Gauge,
    /// Damaged files that were renamed.
    pub damaged: Counter,
    /// Transactions that were written.
    pub writes: Counter,
}

impl DataFileMetrics {
    /// Registers them for the file with this content.
    pub(super) fn register(&self, registry: &mut Registry, content: &str) {
        registry.register(
            format!("{content}_file_unavailable"),
            format!("1 while the {content} file in data_dir can't be used"),
            self.unavailable.clone(),
        );
        registry.register(
            format!("{content}_files_damaged"),
            format!(
                "Damaged {content} files in data_dir that were renamed and replaced by a new one"
            ),
            self.damaged.clone(),
        );
        registry.register(
            format!("{content}_file_writes"),
            format!(
                "Transactions written to the {content} file in data_dir, at most one each second"
            ),
            self.writes.clone(),
        );
    }
}
