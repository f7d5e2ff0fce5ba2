//! Metrics of the certificates of the ports.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use super::Level;

/// The ports that may have one; a family can't list its series.
const PORTS: [&str; 2] = ["grpc", "http"];

/// Counters of the certificates of the ports. A port without TLS has none.
#[derive(Debug, Default)]
pub struct CertificateMetrics {
    expiry: Family<PortLabel, Level>,
    rejected: Family<PortLabel, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PortLabel {
    port: &'static str,
}

impl CertificateMetrics {
    /// Sets the expiry of a port's certificate, in seconds since the Unix epoch.
    pub fn in_force(&self, port: &'static str, at_s: u64) {
        self.expiry.get_or_create(&PortLabel { port }).set(at_s);
        // So that the series exists before the first rejection.
        self.rejected.get_or_create_owned(&PortLabel { port });
    }

    /// Counts new files of a port that are invalid, so that the old certificate stays in force.
    pub fn rejected(&self, port: &'static str) {
        self.rejected.get_or_create(&PortLabel { port }).inc();
    }

    /// The ports with a certificate of known expiry, in seconds since the Unix epoch.
    pub fn expiries(&self) -> impl Iterator<Item = (&'static str, u64)> {
        PORTS.into_iter().filter_map(|port| {
            let at_s = self.expiry.get(&PortLabel { port })?.get();
            (at_s != 0).then_some((port, at_s))
        })
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "certificate_expiry_timestamp_seconds",
            "Expiry of the certificate in use on a port; 0 if unknown",
            self.expiry.clone(),
        );
        registry.register(
            "certificate_rejections",
            "Failed certificate renewals; the previous certificate stays in use",
            self.rejected.clone(),
        );
    }
}
