//! Writes the metrics of envoyproxy/ratelimit: what it counts itself, and what Tollgate counts anyway under other names.
//!
//! Its counters have no `_total` at the end, which OpenMetrics demands of counters. So here they are of unknown type,
//! which makes no difference to Prometheus.

use std::collections::BTreeMap;
use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeLabelSet, EncodeMetric, LabelSetEncoder,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;

use super::latency::Latency;
use super::reference::{ReferenceMetrics, StatCounts};
use super::stat_key::StatKey;

/// The only method.
const METHOD: [(&str, &str); 1] = [("grpc_method", "ShouldRateLimit")];

/// The counters, of which some have names of Tollgate too.
#[derive(Debug)]
pub struct ReferenceCollector {
    pub metrics: ReferenceMetrics,
    /// Decided requests.
    pub decided: Latency,
    /// Requests that can't be decided.
    pub invalid: Counter,
    /// Policies that were rejected.
    pub rejected: Counter,
}

/// Counts of the service, not of a rule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServiceCounts {
    /// Decided requests.
    pub requests: u64,
    /// Requests that failed because the store was unavailable.
    pub store_errors: u64,
    /// Requests that can't be decided.
    pub invalid: u64,
    /// Policies in force, one after another.
    pub loaded: u64,
    /// Policies that were rejected.
    pub rejected: u64,
}

impl ServiceCounts {
    /// The counts, each with its name in statsd.
    pub fn fields(&self) -> [(&'static str, u64); 5] {
        [
            ("ratelimit_server.ShouldRateLimit.total_requests", self.requests),
            ("ratelimit.service.call.should_rate_limit.redis_error", self.store_errors),
            ("ratelimit.service.call.should_rate_limit.service_error", self.invalid),
            ("ratelimit.service.config_load_success", self.loaded),
            ("ratelimit.service.config_load_error", self.rejected),
        ]
    }
}

/// The labels of the counters of a rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct RuleLabels(Vec<(&'static str, String)>);

impl RuleLabels {
    fn of(key: &StatKey) -> Self {
        let (domain, key1, key2) = key.labels();
        let labels = [("domain", Some(domain)), ("key1", key1), ("key2", key2)];
        let labels = labels.into_iter().filter_map(|(name, text)| Some((name, text?.to_owned())));
        Self(labels.collect())
    }
}

impl EncodeLabelSet for RuleLabels {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        self.0.encode(encoder)
    }
}

impl ReferenceCollector {
    fn rules(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let mut rules: BTreeMap<RuleLabels, StatCounts> = BTreeMap::new();
        for (key, counts) in self.metrics.totals() {
            *rules.entry(RuleLabels::of(&key)).or_default() += counts;
        }
        let names = StatCounts::default().fields().map(|(name, _)| name);
        for (index, field) in names.into_iter().enumerate() {
            if rules.is_empty() {
                break;
            }
            let name = format!("ratelimit_service_rate_limit_{field}");
            let help = format!("Hits of a rule as envoyproxy/ratelimit counts them: {field}");
            let mut metric = encoder.encode_descriptor(&name, &help, None, MetricType::Unknown)?;
            for (labels, counts) in &rules {
                metric.encode_family(labels)?.encode_gauge(&counts.fields()[index].1)?;
            }
        }
        Ok(())
    }

    /// The counts of the service.
    pub fn service_counts(&self) -> ServiceCounts {
        ServiceCounts {
            requests: self.decided.counts().sum(),
            store_errors: self.metrics.store_errors(),
            invalid: self.invalid.get(),
            loaded: self.metrics.policies_loaded(),
            rejected: self.rejected.get(),
        }
    }

    fn service(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let counts = self.service_counts();
        let name = "ratelimit_service_total_requests";
        let help = "Requests, as envoyproxy/ratelimit names them";
        let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Unknown)?;
        metric.encode_family(&METHOD)?.encode_gauge(&counts.requests)?;
        let name = "ratelimit_service_response_time_seconds";
        let help = "Time to decide a request, as envoyproxy/ratelimit names it";
        let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
        self.decided.encode(metric.encode_family(&METHOD)?)?;
        let name = "ratelimit_service_should_rate_limit_error";
        let help = "Requests that were answered with an error, as envoyproxy/ratelimit names them";
        let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Unknown)?;
        for (kind, value) in
            [("redis_error", counts.store_errors), ("service_error", counts.invalid)]
        {
            metric.encode_family(&[("err_type", kind)])?.encode_gauge(&value)?;
        }
        for (name, help, value) in [
            ("success", "Policies that came into force", counts.loaded),
            ("error", "Policies that were rejected", counts.rejected),
        ] {
            let (name, help) = (
                format!("ratelimit_service_config_load_{name}"),
                format!("{help}, as envoyproxy/ratelimit names them"),
            );
            let mut metric = encoder.encode_descriptor(&name, &help, None, MetricType::Unknown)?;
            metric.encode_gauge(&value)?;
        }
        Ok(())
    }
}

impl Collector for ReferenceCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        if !self.metrics.is_enabled() {
            return Ok(());
        }
        self.rules(&mut encoder)?;
        self.service(&mut encoder)
    }
}
