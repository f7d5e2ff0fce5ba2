//! Makes the metrics, and their sender by statsd.

use std::sync::Arc;

use crate::metrics::Metrics;
use crate::observe::statsd::{Statsd, StatsdSettings};
use crate::settings::{Settings, StatsdProtocol};

/// The metrics. Those of envoyproxy/ratelimit are counted if they are exported or sent.
pub fn metrics(settings: &Settings) -> Arc<Metrics> {
    let metrics = Metrics::new();
    if settings.observing.reference_metrics || settings.statsd.address.is_some() {
        metrics.reference.enable(settings.observing.metric_values_max);
    }
    Arc::new(metrics)
}

/// The sender, if there is a receiver.
pub fn build(settings: &Settings, metrics: &Arc<Metrics>) -> Option<Statsd> {
    let own = &settings.statsd;
    let (host, port) = own.address.clone()?;
    let settings = StatsdSettings {
        host,
        port,
        over_tcp: own.protocol == StatsdProtocol::Tcp,
        interval: own.interval,
        tags: own.tags.clone(),
        dog: own.dog,
        rule_tags: own.rule_tags,
    };
    Some(Statsd::new(settings, metrics.clone()))
}
