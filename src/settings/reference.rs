//! Environment variables of envoyproxy/ratelimit, and the settings to use instead.
//!
//! They are not read. For each one that is set, a warning is logged at the start, unless the setting is given.
//! Otherwise, for example, Tollgate would count in memory despite `REDIS_URL`, without a message.

use std::{env, fmt};

use super::setting::Setting;
use super::table::table;

const XDS: &str = "policies are read from files";
const METRICS: &str = "metrics are at /metrics on the port of http_address, for Prometheus";
const RUNTIME: &str = "set it to the directory of the YAML files";
const HEADERS: &str = "enable them in a policy, with `answer: {headers: [ratelimit-legacy]}`";
const GROUPS: &str = "concurrent requests share a round trip automatically";
const PER_SECOND: &str = "limits per second are in the same Redis as the others";
const STARTUP: &str = "Tollgate starts without Redis, and connects when it is available";
const MEMCACHE: &str = "counters are in Redis or in memory";
const SERVICE: &str = "the service name is always tollgate";

/// All variables of its settings.go as of f2fb157, in that order, and one that Envoy Gateway sets.
const TABLE_OF_REFERENCE: &[ReferenceVariable] = &[
    row("HOST", &["http_address"], ""),
    row("PORT", &["http_address"], ""),
    row("DEBUG_HOST", &["http_address"], "/metrics and /policy are served there"),
    row("DEBUG_PORT", &["http_address"], "/metrics and /policy are served there"),
    row("GRPC_UDS", &["grpc_unix_socket"], ""),
    row("GRPC_HOST", &["grpc_address"], ""),
    row("GRPC_PORT", &["grpc_address"], ""),
    row("GRPC_MAX_CONNECTION_AGE", &["grpc_connection_age_max"], ""),
    row(
        "GRPC_MAX_CONNECTION_AGE_GRACE",
        &[],
        "a connection is closed when its requests are answered",
    ),
    row("GRPC_SERVER_USE_TLS", &["grpc_tls_cert_file"], ""),
    row("GRPC_SERVER_TLS_CERT", &["grpc_tls_cert_file"], ""),
    row("GRPC_SERVER_TLS_KEY", &["grpc_tls_key_file"], ""),
    row("GRPC_SERVER_TLS_CA_CERT", &["grpc_tls_client_ca_file"], ""),
    row("GRPC_CLIENT_TLS_CACERT", &["grpc_tls_client_ca_file"], ""),
    row("GRPC_CLIENT_TLS_SAN", &[], "every certificate of grpc_tls_client_ca_file is accepted"),
    row("LOG_LEVEL", &["log_level"], ""),
    row("LOG_FORMAT", &["log_format"], ""),
    row("CONFIG_TYPE", &["policies"], "policies are read from files"),
    row(
        "FORCE_START_WITHOUT_INITIAL_CONFIG",
        &[],
        "Tollgate does not start without valid policies",
    ),
    row("CONFIG_GRPC_XDS_NODE_ID", &[], XDS),
    row("CONFIG_GRPC_XDS_NODE_METADATA", &[], XDS),
    row("CONFIG_GRPC_XDS_SERVER_URL", &[], XDS),
    row("CONFIG_GRPC_XDS_SERVER_CONNECT_RETRY_INTERVAL", &[], XDS),
    row("CONFIG_GRPC_XDS_CLIENT_ADDITIONAL_HEADERS", &[], XDS),
    row("CONFIG_GRPC_XDS_SERVER_USE_TLS", &[], XDS),
    row("CONFIG_GRPC_XDS_CLIENT_TLS_CERT", &[], XDS),
    row("CONFIG_GRPC_XDS_CLIENT_TLS_KEY", &[], XDS),
    row("CONFIG_GRPC_XDS_SERVER_TLS_CACERT", &[], XDS),
    row("CONFIG_GRPC_XDS_SERVER_TLS_SAN", &[], XDS),
    row("XDS_CLIENT_BACKOFF_INITIAL_INTERVAL", &[], XDS),
    row("XDS_CLIENT_BACKOFF_MAX_INTERVAL", &[], XDS),
    row("XDS_CLIENT_BACKOFF_RANDOM_FACTOR", &[], XDS),
    row("XDS_CLIENT_BACKOFF_JITTER", &[], XDS),
    row("XDS_CLIENT_MAX_MSG_SIZE_IN_BYTES", &[], XDS),
    row("USE_DOG_STATSD", &[], METRICS),
    row("USE_DOG_STATSD_MOGRIFIERS", &[], METRICS),
    row("USE_STATSD", &[], METRICS),
    row("STATSD_HOST", &[], METRICS),
    row("STATSD_PORT", &[], METRICS),
    row("EXTRA_TAGS", &[], METRICS),
    row("STATS_FLUSH_INTERVAL", &[], METRICS),
    row("DISABLE_STATS", &[], METRICS),
    row("USE_PROMETHEUS", &[], METRICS),
    row("PROMETHEUS_PATH", &[], METRICS),
    row("PROMETHEUS_MAPPER_YAML", &[], METRICS),
    row("PROMETHEUS_RESPONSE_TIME_AS_MILLISECONDS", &[], METRICS),
    row("PROMETHEUS_ADDR", &["http_address"], METRICS),
    row("RUNTIME_ROOT", &["policies"], RUNTIME),
    row("RUNTIME_SUBDIRECTORY", &["policies"], RUNTIME),
    row("RUNTIME_APPDIRECTORY", &["policies"], RUNTIME),
    row("RUNTIME_IGNOREDOTFILES", &[], "files that begin with a dot are always ignored"),
    row("RUNTIME_WATCH_ROOT", &[], "all changes are detected, symbolic links included"),
    row("EXPIRATION_JITTER_MAX_SECONDS", &[], "keys expire when their counts have left the window"),
    row("LOCAL_CACHE_SIZE_IN_BYTES", &[], "refusals are always cached in memory"),
    row("NEAR_LIMIT_RATIO", &["near_limit_ratio"], ""),
    row("CACHE_KEY_PREFIX", &["redis_database"], "keys begin with tg1 and tgc1"),
    row("BACKEND_TYPE", &["redis_url"], "counters are in Redis, or in memory without it"),
    row("STOP_CACHE_KEY_INCREMENT_WHEN_OVERLIMIT", &[], "a refused request never costs anything"),
    row("LIMIT_RESPONSE_HEADERS_ENABLED", &[], HEADERS),
    row("LIMIT_LIMIT_HEADER", &[], HEADERS),
    row("LIMIT_REMAINING_HEADER", &[], HEADERS),
    row("LIMIT_RESET_HEADER", &[], HEADERS),
    row(
        "RESPONSE_DYNAMIC_METADATA",
        &[],
        "enable it in a policy, with `answer: {metadata: always}`",
    ),
    row(
        "HEALTHY_WITH_AT_LEAST_ONE_CONFIG_LOADED",
        &[],
        "Tollgate is ready when policies are loaded",
    ),
    row("REDIS_SOCKET_TYPE", &["redis_url"], "the scheme of the URL is redis, rediss or unix"),
    row("REDIS_TYPE", &["redis_sentinels", "redis_cluster_nodes", "redis_url"], ""),
    row("REDIS_URL", &["redis_url"], "a URL such as redis://host:6379"),
    row("REDIS_POOL_SIZE", &[], "all requests share one connection"),
    row(
        "REDIS_AUTH",
        &["redis_password_file", "redis_password"],
        "for a user name, set redis_username too",
    ),
    row("REDIS_TLS", &["redis_url"], "use a URL with rediss://"),
    row("REDIS_TLS_CLIENT_CERT", &["redis_tls_cert_file"], ""),
    row("REDIS_TLS_CLIENT_KEY", &["redis_tls_key_file"], ""),
    row("REDIS_TLS_CACERT", &["redis_tls_ca_file"], ""),
    row(
        "REDIS_TLS_SKIP_HOSTNAME_VERIFICATION",
        &["redis_tls_server_name"],
        "set it to the name in the certificate",
    ),
    row("REDIS_PIPELINE_WINDOW", &[], GROUPS),
    row("REDIS_PIPELINE_LIMIT", &[], GROUPS),
    row("REDIS_CLUSTER_PIPELINE_PARALLELISM", &[], GROUPS),
    row("REDIS_PERSECOND", &[], PER_SECOND),
    row("REDIS_PERSECOND_SOCKET_TYPE", &[], PER_SECOND),
    row("REDIS_PERSECOND_TYPE", &[], PER_SECOND),
    row("REDIS_PERSECOND_URL", &[], PER_SECOND),
    row("REDIS_PERSECOND_POOL_SIZE", &[], PER_SECOND),
    row("REDIS_PERSECOND_AUTH", &[], PER_SECOND),
    row("REDIS_PERSECOND_TLS", &[], PER_SECOND),
    row("REDIS_PERSECOND_SENTINEL_AUTH", &[], PER_SECOND),
    row("REDIS_PERSECOND_PIPELINE_WINDOW", &[], PER_SECOND),
    row("REDIS_PERSECOND_PIPELINE_LIMIT", &[], PER_SECOND),
    row("REDIS_PERSECOND_CLUSTER_PIPELINE_PARALLELISM", &[], PER_SECOND),
    row("REDIS_PERSECOND_TIMEOUT", &[], PER_SECOND),
    row("REDIS_PERSECOND_POOL_ON_EMPTY_BEHAVIOR", &[], PER_SECOND),
    row("REDIS_SENTINEL_AUTH", &["redis_sentinels"], "each URL contains its password"),
    row(
        "REDIS_HEALTH_CHECK_ACTIVE_CONNECTION",
        &[],
        "on_outage of the policy answers while Redis is unavailable",
    ),
    row("REDIS_TIMEOUT", &["store_deadline"], ""),
    row("REDIS_POOL_ON_EMPTY_BEHAVIOR", &[], "all requests share one connection"),
    row("REDIS_STARTUP_INITIAL_INTERVAL", &[], STARTUP),
    row("REDIS_STARTUP_MAX_INTERVAL", &[], STARTUP),
    row("REDIS_STARTUP_MAX_ELAPSED_TIME", &[], STARTUP),
    row("MEMCACHE_HOST_PORT", &[], MEMCACHE),
    row("MEMCACHE_MAX_IDLE_CONNS", &[], MEMCACHE),
    row("MEMCACHE_SRV", &[], MEMCACHE),
    row("MEMCACHE_SRV_REFRESH", &[], MEMCACHE),
    row("MEMCACHE_TLS", &[], MEMCACHE),
    row("MEMCACHE_TLS_CLIENT_CERT", &[], MEMCACHE),
    row("MEMCACHE_TLS_CLIENT_KEY", &[], MEMCACHE),
    row("MEMCACHE_TLS_CACERT", &[], MEMCACHE),
    row("MEMCACHE_TLS_SKIP_HOSTNAME_VERIFICATION", &[], MEMCACHE),
    row("SHADOW_MODE", &["shadow_mode"], ""),
    row("QUOTA_MODE", &["quota_mode"], ""),
    row("MERGE_DOMAIN_CONFIG", &["merge_domains"], ""),
    row("TRACING_ENABLED", &["otlp_endpoint"], ""),
    row("TRACING_EXPORTER_PROTOCOL", &["otlp_endpoint"], "traces are sent by OTLP over gRPC"),
    row("TRACING_SAMPLING_RATE", &["otlp_sample_ratio"], ""),
    row("TRACING_SERVICE_NAME", &[], SERVICE),
    row("TRACING_SERVICE_NAMESPACE", &[], SERVICE),
    row("TRACING_SERVICE_INSTANCE_ID", &[], SERVICE),
];

/// A variable of envoyproxy/ratelimit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReferenceVariable {
    pub name: &'static str,
    /// The settings that replace it; empty if there is none.
    settings: &'static [&'static str],
    /// More advice, or the reason that no setting replaces it.
    advice: &'static str,
}

const fn row(
    name: &'static str,
    settings: &'static [&'static str],
    advice: &'static str,
) -> ReferenceVariable {
    ReferenceVariable { name, settings, advice }
}

impl ReferenceVariable {
    /// The variables that are set in the environment and not empty.
    pub fn in_environment() -> Vec<Self> {
        let is_set =
            |variable: &&Self| env::var_os(variable.name).is_some_and(|text| !text.is_empty());
        TABLE_OF_REFERENCE.iter().filter(is_set).copied().collect()
    }

    /// Whether one of the settings that replace it is in `set_names`.
    pub fn is_covered(&self, set_names: &[&str]) -> bool {
        self.settings.iter().any(|setting| set_names.contains(setting))
    }

    /// The variables to use instead, the best one first.
    fn instead(&self) -> Vec<String> {
        let named = |name: &&&str| table().find(|setting| setting.name == **name);
        self.settings.iter().filter_map(|name| named(&name)).map(Setting::variable).collect()
    }
}

impl fmt::Display for ReferenceVariable {
    /// A warning with the settings to use instead.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, advice, .. } = self;
        write!(f, "{name} of envoyproxy/ratelimit is set but not read; ")?;
        match (self.settings.is_empty(), advice.is_empty()) {
            (true, _) => write!(f, "no setting replaces it: {advice}"),
            (false, true) => write!(f, "use {}", self.instead().join(" or ")),
            (false, false) => write!(f, "use {}: {advice}", self.instead().join(" or ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn variable(name: &str) -> ReferenceVariable {
        *TABLE_OF_REFERENCE.iter().find(|variable| variable.name == name).unwrap()
    }

    #[test]
    fn every_variable_is_there_once_and_leads_to_a_setting_or_says_why_not() {
        let names: BTreeSet<&str> =
            TABLE_OF_REFERENCE.iter().map(|variable| variable.name).collect();
        assert_eq!((names.len(), TABLE_OF_REFERENCE.len()), (115, 115));
        for variable in TABLE_OF_REFERENCE {
            assert_eq!(variable.instead().len(), variable.settings.len(), "{variable:?}");
            let message = variable.to_string();
            assert!(message.starts_with(&format!("{} of ", variable.name)), "{message}");
            assert!(!variable.settings.is_empty() || !variable.advice.is_empty(), "{variable:?}");
            assert!(
                message.contains("use TOLLGATE_") || message.contains("no setting replaces it"),
                "{message}"
            );
        }
    }

    #[test]
    fn a_warning_names_what_to_use() {
        let check = |name: &str, message: &str| {
            let all = variable(name).to_string();
            assert!(all.ends_with(&format!("is set but not read; {message}")), "{all}");
        };
        check("REDIS_URL", "use TOLLGATE_REDIS_URL: a URL such as redis://host:6379");
        check("RUNTIME_ROOT", "use TOLLGATE_POLICIES: set it to the directory of the YAML files");
        check("PORT", "use TOLLGATE_HTTP_ADDRESS");
        check(
            "USE_STATSD",
            "no setting replaces it: metrics are at /metrics on the port of http_address, for Prometheus",
        );
    }

    #[test]
    fn a_variable_is_covered_by_any_of_its_settings() {
        let auth = variable("REDIS_AUTH");
        assert!(auth.is_covered(&["redis_url", "redis_password"]));
        assert!(!auth.is_covered(&["redis_url"]) && !auth.is_covered(&[]));
        assert!(!variable("USE_STATSD").is_covered(&["http_address"]));
    }
}
