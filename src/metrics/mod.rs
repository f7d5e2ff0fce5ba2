//! The metrics of Tollgate, under the names in `/metrics`.
//!
//! Code that counts keeps a handle: a lookup takes a lock, while counting is an atomic addition. Labels come from the
//! policy and from this program, never from a request, so the policy bounds the number of series. When a limit is
//! removed, its series are removed too.

mod adjustments;
mod alerts;
mod api_keys;
mod audit;
mod busiest;
mod callers;
mod certificates;
mod data_file;
mod debits;
mod invalid;
mod latency;
mod limits;
mod memory;
mod local_cache;
mod order;
mod process;
mod reference;
mod reference_collector;
mod reload;
mod requests;
mod shared;
mod retries;
mod sharing;
mod shed;
mod stat_key;
mod xds;

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use crate::version::COMMIT;

use crate::lock::lock;
use order::ordered;

use process::Process;
use reference_collector::ReferenceCollector;
use reload::ReloadLabel;

pub use adjustments::AdjustmentMetrics;
pub use alerts::AlertMetrics;
pub use api_keys::ApiKeyMetrics;
pub use audit::AuditMetrics;
pub use callers::CallerMetrics;
pub use certificates::CertificateMetrics;
pub use data_file::DataFileMetrics;
pub use debits::DebitMetrics;
pub use invalid::{Invalid, InvalidMetrics, Port};
pub use latency::{Latency, LatencyCounts};
pub use limits::{LimitMetrics, LimitsMetrics};
pub use local_cache::LocalCacheMetrics;
pub use memory::MemoryMetrics;
pub use prometheus_client::metrics::counter::Counter;
pub use prometheus_client::metrics::gauge::Gauge;
pub use reference::{ReferenceMetrics, ReferenceSeries, StatCounts};
pub use reference_collector::ServiceCounts;
pub use reload::Reload;
pub use requests::{Answers, DomainMetrics};
pub use retries::RetryMetrics;
pub use shared::SharedMetrics;
pub use sharing::SharingMetrics;
pub use shed::{Shed, ShedMetrics};
pub use stat_key::StatKey;
pub use xds::{XdsMetrics, XdsUpdate};

/// The media type of [`Metrics::encode`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// A gauge of something that is never negative.
type Level = Gauge<u64, AtomicU64>;

/// All metrics.
#[derive(Debug)]
pub struct Metrics {
    /// Time of the engine for a request, including the store.
    pub check_duration: Latency,
    /// Time of the store for a request.
    pub store_duration: Latency,
    /// 1 while the store answers, 0 while it is unavailable.
    pub store_up: Gauge,
    /// The embedded store.
    pub memory: MemoryMetrics,
    /// 1 while the policy files are invalid, so that an older policy is in force.
    pub policy_rejected: Gauge,
    /// Limits.
    pub limits: LimitsMetrics,
    /// Limits that callers share, and providers.
    pub sharing: SharingMetrics,
    /// Charges after the response.
    pub debits: DebitMetrics,
    pub retries: RetryMetrics,
    pub alerts: AlertMetrics,
    /// Limits that follow signals.
    pub adjustments: AdjustmentMetrics,
    /// The directory of callers.
    pub callers: CallerMetrics,
    pub api_keys: ApiKeyMetrics,
    /// The audit log.
    pub audit: AuditMetrics,
    /// Requests that are decided without a call to the store.
    pub local_cache: LocalCacheMetrics,
    /// A store that several sidecars share.
    pub shared: SharedMetrics,
    /// gRPC requests that are not answered at once, and load shedding.
    pub shed: ShedMetrics,
    /// Invalid requests.
    pub invalid: InvalidMetrics,
    /// The certificates of the ports.
    pub certificates: CertificateMetrics,
    /// Policies by xDS.
    pub xds: XdsMetrics,
    /// Rules under the names of envoyproxy/ratelimit.
    pub reference: ReferenceMetrics,
    /// Requests for unknown domains.
    pub unknown_domains: Counter,
    /// The file that stores usage, and the one that keeps counters.
    pub usage_file: DataFileMetrics,
    pub counter_file: DataFileMetrics,
    /// Records of decisions that the sink dropped.
    pub sink_dropped: Counter,
    requests: Family<RequestLabels, Counter>,
    store_errors: Family<KindLabel, Counter>,
    /// Their sum, since a family can't list its series.
    store_errors_sum: Counter,
    reloads: Family<ReloadLabel, Counter>,
    policy: Family<PolicyLabel, Gauge>,
    policy_loaded: Level,
    in_flight: Gauge,
    /// The label values of `requests`, which can't list them.
    domains: Mutex<BTreeSet<String>>,
    registry: Registry,
}

const OK: &str = "ok";
const OVER_LIMIT: &str = "over_limit";
const ERROR: &str = "error";
const CODES: [&str; 3] = [OK, OVER_LIMIT, ERROR];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    domain: String,
    code: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabel {
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PolicyLabel {
    hash: String,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// All metrics at zero.
    pub fn new() -> Self {
        let mut metrics = Self {
            check_duration: Latency::default(),
            store_duration: Latency::default(),
            store_up: Gauge::default(),
            memory: MemoryMetrics::default(),
            policy_rejected: Gauge::default(),
            limits: LimitsMetrics::default(),
            sharing: SharingMetrics::default(),
            debits: DebitMetrics::default(),
            retries: RetryMetrics::default(),
            adjustments: AdjustmentMetrics::default(),
            alerts: AlertMetrics::default(),
            callers: CallerMetrics::default(),
            api_keys: ApiKeyMetrics::default(),
            audit: AuditMetrics::default(),
            local_cache: LocalCacheMetrics::default(),
            shared: SharedMetrics::default(),
            shed: ShedMetrics::default(),
            invalid: InvalidMetrics::default(),
            certificates: CertificateMetrics::default(),
            xds: XdsMetrics::default(),
            reference: ReferenceMetrics::default(),
            usage_file: DataFileMetrics::default(),
            counter_file: DataFileMetrics::default(),
            unknown_domains: Counter::default(),
            sink_dropped: Counter::default(),
            requests: Family::default(),
            store_errors: Family::default(),
            store_errors_sum: Counter::default(),
            reloads: Family::default(),
            policy: Family::default(),
            policy_loaded: Gauge::default(),
            in_flight: Gauge::default(),
            domains: Mutex::default(),
            registry: Registry::default(),
        };
        for result in [Reload::Ok, Reload::Error, Reload::Unchanged] {
            metrics.reloads.get_or_create_owned(&ReloadLabel::from(result));
        }
        metrics.registry = metrics.registry();
        metrics
    }

    /// The counters of a domain. The empty name is for all unknown domains.
    pub fn domain(&self, domain: &str) -> DomainMetrics {
        lock(&self.domains).insert(domain.to_owned());
        let request = |code| self.requests.get_or_create_owned(&request_labels(domain, code));
        DomainMetrics { ok: request(OK), over_limit: request(OVER_LIMIT), error: request(ERROR) }
    }

    /// Removes domains that are not in `live`, except the empty one.
    pub fn retain_domains(&self, live: &BTreeSet<String>) {
        lock(&self.domains).retain(|domain| {
            let keep = domain.is_empty() || live.contains(domain);
            if !keep {
                for code in CODES {
                    self.requests.remove(&request_labels(domain, code));
                }
            }
            keep
        });
    }

    /// Requests so far by answer, of all domains.
    pub fn answers(&self) -> Answers {
        let mut sums = Answers::default();
        for domain in &*lock(&self.domains) {
            let count = |code| self.requests.get_or_create(&request_labels(domain, code)).get();
            sums.ok += count(OK);
            sums.over_limit += count(OVER_LIMIT);
            sums.error += count(ERROR);
        }
        sums
    }

    /// Counts a request as in flight until the guard is dropped, also if it is cancelled.
    pub fn enter(&self) -> InFlight<'_> {
        self.in_flight.inc();
        InFlight(&self.in_flight)
    }

    /// Counts a failure of the store; `kind` is one of a few fixed words.
    pub fn store_error(&self, kind: &'static str) {
        self.store_errors.get_or_create(&KindLabel { kind }).inc();
        self.store_errors_sum.inc();
    }

    /// Failures of the store so far.
    pub fn store_errors(&self) -> u64 {
        self.store_errors_sum.get()
    }

    /// Counts a reload.
    pub fn reload(&self, result: Reload) {
        self.reloads.get_or_create(&ReloadLabel::from(result)).inc();
    }

    /// Records the hash and the load time of the policy in force, in seconds since the Unix epoch.
    pub fn policy_loaded(&self, hash: &str, at_s: u64) {
        self.reference.policy_loaded();
        self.policy.clear();
        self.policy.get_or_create(&PolicyLabel { hash: hash.to_owned() }).set(1);
        self.policy_loaded.set(at_s);
        self.policy_rejected.set(0);
    }

    /// All metrics in the OpenMetrics text format.
    pub fn encode(&self) -> String {
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("writing to a String can't fail");
        ordered(&text)
    }

    /// A registry of these metrics, by their public names.
    fn registry(&self) -> Registry {
        let mut root = Registry::default();
        root.register_collector(Box::new(Process));
        let registry = root.sub_registry_with_prefix("tollgate");
        let version = vec![("version", env!("CARGO_PKG_VERSION")), ("commit", COMMIT)];
        registry.register("build", "Version and commit of the program", Info::new(version));
        self.register_decisions(registry);
        self.register_store(registry);
        self.register_policy(registry);
        self.sharing.register(registry);
        self.memory.register(registry);
        self.debits.register(registry);
        self.retries.register(registry);
        self.adjustments.register(registry);
        self.alerts.register(registry);
        self.callers.register(registry);
        self.api_keys.register(registry);
        self.audit.register(registry);
        self.local_cache.register(registry);
        self.shared.register(registry);
        self.shed.register(registry);
        self.invalid.register(registry);
        self.certificates.register(registry);
        self.xds.register(registry);
        self.usage_file.register(registry, "usage");
        self.counter_file.register(registry, "counter");
        root.register_collector(Box::new(self.reference_collector()));
        root
    }

    /// What envoyproxy/ratelimit counts beside its rules.
    pub fn service_counts(&self) -> ServiceCounts {
        self.reference_collector().service_counts()
    }

    fn reference_collector(&self) -> ReferenceCollector {
        ReferenceCollector {
            metrics: self.reference.clone(),
            decided: self.check_duration.clone(),
            invalid: self.invalid.undecidable(),
            rejected: self.reloads.get_or_create_owned(&ReloadLabel::from(Reload::Error)),
        }
    }

    fn register_decisions(&self, registry: &mut Registry) {
        self.limits.register(registry);
        registry.register(
            "sink_dropped",
            "Records of decisions that were dropped because their consumers were too slow",
            self.sink_dropped.clone(),
        );
        registry.register(
            "unknown_domains",
            "Requests that passed because no policy has their domain",
            self.unknown_domains.clone(),
        );
        registry.register(
            "requests",
            "Requests by answer; the domain is empty if no policy has it",
            self.requests.clone(),
        );
        registry.register("in_flight_requests", "Requests in flight", self.in_flight.clone());
        registry.register(
            "check_duration_seconds",
            "Time to decide a request, including the store",
            self.check_duration.clone(),
        );
    }

    fn register_store(&self, registry: &mut Registry) {
        registry.register(
            "store_duration_seconds",
            "Time of the store for a request",
            self.store_duration.clone(),
        );
        registry.register("store_errors", "Errors of the store by kind", self.store_errors.clone());
        registry.register("store_up", "1 if the store is available", self.store_up.clone());
    }

    fn register_policy(&self, registry: &mut Registry) {
        registry.register("reloads", "Reloads of the policy files", self.reloads.clone());
        registry.register("policy_info", "The policy in force", self.policy.clone());
        registry.register(
            "policy_loaded_timestamp_seconds",
            "Time at which the policy in force was loaded",
            self.policy_loaded.clone(),
        );
        registry.register(
            "policy_rejected",
            "1 if the last reload of policy files failed, so that an older policy is in force",
            self.policy_rejected.clone(),
        );
    }
}

/// A request in flight.
#[derive(Debug)]
pub struct InFlight<'m>(&'m Gauge);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}

fn request_labels(domain: &str, code: &'static str) -> RequestLabels {
    RequestLabels { domain: domain.to_owned(), code }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn line(metrics: &Metrics, start: &str) -> Option<String> {
        let text = metrics.encode();
        text.lines().find(|line| line.starts_with(start)).map(str::to_owned)
    }

    #[track_caller]
    fn check(metrics: &Metrics, expected: &str) {
        let (start, _) = expected.rsplit_once(' ').unwrap();
        assert_eq!(line(metrics, start).as_deref(), Some(expected), "{}", metrics.encode());
    }

    #[test]
    fn every_metric_goes_by_its_documented_name() {
        let metrics = Metrics::new();
        let limit = metrics.limits.limit("shop", "daily");
        limit.admitted.charges.inc();
        limit.admitted.hits.inc_by(7);
        limit.near_limit.inc();
        metrics.domain("").over_limit.inc();
        metrics.check_duration.observe(Duration::from_micros(3));
        metrics.store_error("late");
        metrics.reload(Reload::Unchanged);
        metrics.policy_loaded("abc", 1_700_000_000);
        metrics.certificates.in_force("grpc", 1_800_000_000);
        let version = env!("CARGO_PKG_VERSION");

        check(
            &metrics,
            r#"tollgate_decisions_total{domain="shop",limit="daily",outcome="admitted"} 1"#,
        );
        check(&metrics, r#"tollgate_hits_total{domain="shop",limit="daily",outcome="admitted"} 7"#);
        check(&metrics, r#"tollgate_hits_total{domain="shop",limit="daily",outcome="refused"} 0"#);
        check(&metrics, "tollgate_unknown_domains_total 0");
        check(&metrics, r#"tollgate_near_limit_total{domain="shop",limit="daily"} 1"#);
        check(&metrics, r#"tollgate_requests_total{domain="",code="over_limit"} 1"#);
        check(&metrics, r#"tollgate_check_duration_seconds_bucket{le="0.000002"} 0"#);
        check(&metrics, r#"tollgate_check_duration_seconds_bucket{le="0.000005"} 1"#);
        check(&metrics, "tollgate_store_duration_seconds_count 0");
        check(&metrics, r#"tollgate_store_errors_total{kind="late"} 1"#);
        check(&metrics, "tollgate_store_up 0");
        check(&metrics, "tollgate_memory_keys 0");
        check(&metrics, "tollgate_memory_evictions_total 0");
        check(&metrics, "tollgate_near_refused_total 0");
        check(&metrics, "tollgate_near_leased_total 0");
        check(&metrics, "tollgate_lease_hits_returned_total 0");
        check(&metrics, "tollgate_leases 0");
        check(&metrics, r#"tollgate_certificate_expiry_timestamp_seconds{port="grpc"} 1800000000"#);
        check(&metrics, r#"tollgate_certificate_rejections_total{port="grpc"} 0"#);
        check(&metrics, r#"tollgate_shed_requests_total{reason="slow"} 0"#);
        check(&metrics, "tollgate_held_requests_bytes 0");
        let invalid = r#"tollgate_invalid_requests_total{port="http",reason="malformed"} 0"#;
        check(&metrics, invalid);
        check(&metrics, r#"tollgate_reloads_total{result="unchanged"} 1"#);
        check(&metrics, r#"tollgate_policy_info{hash="abc"} 1"#);
        check(&metrics, "tollgate_policy_loaded_timestamp_seconds 1700000000");
        check(&metrics, "tollgate_policy_rejected 0");
        let build = format!(r#"tollgate_build_info{{version="{version}",commit="{COMMIT}"}} 1"#);
        check(&metrics, &build);
        for name in ["cpu_seconds_total", "resident_memory_bytes", "open_fds", "start_time_seconds"]
        {
            assert!(line(&metrics, &format!("process_{name} ")).is_some(), "{name}");
        }
    }

    #[test]
    fn the_order_is_the_same_whatever_the_order_of_counting() {
        let names: Vec<String> = (0..40).map(|index| format!("limit {index}")).collect();
        let text = |names: &mut dyn Iterator<Item = &String>| {
            let metrics = Metrics::new();
            for name in names {
                metrics.limits.limit("shop", name).admitted.charges.inc();
            }
            let all = metrics.encode();
            let ours = all.lines().filter(|line| line.contains("tollgate_"));
            ours.map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(text(&mut names.iter()), text(&mut names.iter().rev()));
    }

    #[test]
    fn a_limit_that_is_gone_leaves_no_series() {
        let metrics = Metrics::new();
        metrics.limits.limit("shop", "stale").refused.charges.inc();
        metrics.limits.limit("shop", "new").refused.charges.inc();
        metrics.domain("shop");
        metrics.domain("gone");
        metrics.limits.retain(&BTreeSet::from([("shop".to_owned(), "new".to_owned())]));
        metrics.retain_domains(&BTreeSet::from(["shop".to_owned()]));

        let text = metrics.encode();
        assert!(!text.contains("stale") && !text.contains("gone"), "{text}");
        check(
            &metrics,
            r#"tollgate_decisions_total{domain="shop",limit="new",outcome="refused"} 1"#,
        );
    }

    #[test]
    fn only_the_policy_in_force_is_shown() {
        let metrics = Metrics::new();
        metrics.policy_loaded("one", 1);
        metrics.policy_rejected.set(1);
        metrics.policy_loaded("two", 2);
        assert!(line(&metrics, r#"tollgate_policy_info{hash="one""#).is_none());
        check(&metrics, r#"tollgate_policy_info{hash="two"} 1"#);
        check(&metrics, "tollgate_policy_rejected 0");
    }

    #[test]
    fn a_request_that_is_dropped_is_no_longer_in_flight() {
        let metrics = Metrics::new();
        let request = metrics.enter();
        check(&metrics, "tollgate_in_flight_requests 1");
        drop(request);
        check(&metrics, "tollgate_in_flight_requests 0");
    }
}
