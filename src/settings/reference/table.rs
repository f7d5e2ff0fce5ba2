//! The environment variables of envoyproxy/ratelimit: the settings that each of them sets, or the reason that it has no
//! effect.

use std::fmt;

use crate::settings::setting::Setting;
use crate::settings::table::table;

const STATSD: &str = "with USE_STATSD or USE_DOG_STATSD";
const XDS_RETRY: &str = "pauses double, minus a random part of up to half";
const GROUPS: &str = "concurrent requests share a round trip automatically";
const PER_SECOND: &str = "all limits of a request are decided in one step, in REDIS_URL; for more capacity use REDIS_TYPE=CLUSTER";
const ONE_CONNECTION: &str = "all requests share one connection";
const STARTUP: &str = "Tollgate starts without Redis, and connects when it is available";
const MEMCACHE: &str = "counters are in Redis or in memory";

/// All variables of its settings.go as of f2fb157, in that order, with two that only its documentation has; one that only Envoy
/// Gateway sets; one of its library for statsd; and those of OpenTelemetry that its documentation names.
pub const TABLE_OF_REFERENCE: &[ReferenceVariable] = &[
    row("HOST", &["http_address"], ""),
    row("PORT", &["http_address"], ""),
    row("DEBUG_HOST", &[], "/metrics, /policy and the rest are on HOST and PORT"),
    row("DEBUG_PORT", &[], "/metrics, /policy and the rest are on HOST and PORT"),
    row("GRPC_UDS", &["grpc_unix_socket", "grpc_address"], "there is no TCP port then"),
    row("GRPC_HOST", &["grpc_address"], "without GRPC_UDS"),
    row("GRPC_PORT", &["grpc_address"], "without GRPC_UDS"),
    row(
        "GRPC_MAX_CONNECTION_AGE",
        &["grpc_connection_age_max"],
        "an hour at most; unlimited if absent",
    ),
    row(
        "GRPC_MAX_CONNECTION_AGE_GRACE",
        &[],
        "a connection is closed when its requests are answered",
    ),
    row(
        "GRPC_SERVER_USE_TLS",
        &["grpc_tls_cert_file"],
        "with GRPC_SERVER_TLS_CERT and GRPC_SERVER_TLS_KEY",
    ),
    row("GRPC_SERVER_TLS_CERT", &["grpc_tls_cert_file"], "with GRPC_SERVER_USE_TLS"),
    row("GRPC_SERVER_TLS_KEY", &["grpc_tls_key_file"], "with GRPC_SERVER_USE_TLS"),
    row(
        "GRPC_SERVER_TLS_CA_CERT",
        &[],
        "Envoy Gateway sets it, but envoyproxy/ratelimit does not read it; for client certificates use GRPC_CLIENT_TLS_CACERT",
    ),
    row(
        "GRPC_CLIENT_TLS_CACERT",
        &["grpc_tls_client_ca_file"],
        "with GRPC_SERVER_USE_TLS; clients then need a certificate",
    ),
    row("GRPC_CLIENT_TLS_SAN", &["grpc_tls_client_name"], "with GRPC_CLIENT_TLS_CACERT"),
    row("LOG_LEVEL", &["log_level"], ""),
    row("LOG_FORMAT", &["log_format"], ""),
    row("CONFIG_TYPE", &["policy_source"], "FILE or GRPC_XDS_SOTW"),
    row("FORCE_START_WITHOUT_INITIAL_CONFIG", &["start_without_policies"], ""),
    row("CONFIG_GRPC_XDS_NODE_ID", &["xds_node_id"], "with CONFIG_TYPE=GRPC_XDS_SOTW"),
    row("CONFIG_GRPC_XDS_NODE_METADATA", &["xds_node_metadata"], "with CONFIG_TYPE=GRPC_XDS_SOTW"),
    row("CONFIG_GRPC_XDS_SERVER_URL", &["xds_server"], "with CONFIG_TYPE=GRPC_XDS_SOTW"),
    row(
        "CONFIG_GRPC_XDS_SERVER_CONNECT_RETRY_INTERVAL",
        &[],
        "all pauses are between XDS_CLIENT_BACKOFF_INITIAL_INTERVAL and XDS_CLIENT_BACKOFF_MAX_INTERVAL",
    ),
    row(
        "CONFIG_GRPC_XDS_CLIENT_ADDITIONAL_HEADERS",
        &["xds_headers"],
        "with CONFIG_TYPE=GRPC_XDS_SOTW",
    ),
    row("CONFIG_GRPC_XDS_SERVER_USE_TLS", &["xds_tls"], "with CONFIG_TYPE=GRPC_XDS_SOTW"),
    row(
        "CONFIG_GRPC_XDS_CLIENT_TLS_CERT",
        &["xds_tls_cert_file"],
        "with CONFIG_GRPC_XDS_SERVER_USE_TLS",
    ),
    row(
        "CONFIG_GRPC_XDS_CLIENT_TLS_KEY",
        &["xds_tls_key_file"],
        "with CONFIG_GRPC_XDS_SERVER_USE_TLS",
    ),
    row(
        "CONFIG_GRPC_XDS_SERVER_TLS_CACERT",
        &["xds_tls_ca_file"],
        "with CONFIG_GRPC_XDS_SERVER_USE_TLS; without the public authorities",
    ),
    row(
        "CONFIG_GRPC_XDS_SERVER_TLS_SAN",
        &["xds_tls_server_name"],
        "with CONFIG_GRPC_XDS_SERVER_USE_TLS",
    ),
    row(
        "XDS_CLIENT_BACKOFF_INITIAL_INTERVAL",
        &["xds_retry_min"],
        "with CONFIG_TYPE=GRPC_XDS_SOTW",
    ),
    row("XDS_CLIENT_BACKOFF_MAX_INTERVAL", &["xds_retry_max"], "with CONFIG_TYPE=GRPC_XDS_SOTW"),
    row("XDS_CLIENT_BACKOFF_RANDOM_FACTOR", &[], XDS_RETRY),
    row("XDS_CLIENT_BACKOFF_JITTER", &[], XDS_RETRY),
    row(
        "XDS_CLIENT_MAX_MSG_SIZE_IN_BYTES",
        &["xds_message_size_max"],
        "with CONFIG_TYPE=GRPC_XDS_SOTW; 64 MiB at most",
    ),
    row("USE_DOG_STATSD", &["statsd_address", "statsd_dog"], "without DISABLE_STATS"),
    row(
        "USE_DOG_STATSD_MOGRIFIERS",
        &["statsd_rule_tags"],
        "with USE_DOG_STATSD: rules have the tags domain, key1 and key2; DOG_STATSD_MOGRIFIER_* are not read",
    ),
    row(
        "USE_STATSD",
        &["statsd_address"],
        "without DISABLE_STATS; if absent, true with STATSD_HOST and false without",
    ),
    row("STATSD_HOST", &["statsd_address"], STATSD),
    row("STATSD_PORT", &["statsd_address"], STATSD),
    row("STATSD_PROTOCOL", &["statsd_protocol"], "with USE_STATSD; tcp if absent"),
    row("EXTRA_TAGS", &["statsd_tags"], STATSD),
    row("STATS_FLUSH_INTERVAL", &["statsd_interval"], STATSD),
    row("DISABLE_STATS", &["statsd_address"], "nothing is sent by statsd then"),
    row(
        "USE_PROMETHEUS",
        &["metrics_address"],
        "/metrics is on PORT too; the metrics of envoyproxy/ratelimit are on, as reference_metrics sets",
    ),
    row("PROMETHEUS_PATH", &["metrics_path"], "with USE_PROMETHEUS"),
    row(
        "PROMETHEUS_MAPPER_YAML",
        &[],
        "metrics have the names of the default mapping, and those of Tollgate",
    ),
    row("PROMETHEUS_RESPONSE_TIME_AS_MILLISECONDS", &[], "times are in seconds"),
    row("PROMETHEUS_ADDR", &["metrics_address"], "with USE_PROMETHEUS; :PORT is 0.0.0.0:PORT"),
    row(
        "RUNTIME_ROOT",
        &["policies", "policies_all_names"],
        "with CONFIG_TYPE=FILE: files are in RUNTIME_ROOT/RUNTIME_SUBDIRECTORY/RUNTIME_APPDIRECTORY",
    ),
    row("RUNTIME_SUBDIRECTORY", &["policies"], "with CONFIG_TYPE=FILE, as RUNTIME_ROOT"),
    row(
        "RUNTIME_APPDIRECTORY",
        &["policies"],
        "with CONFIG_TYPE=FILE, as RUNTIME_ROOT; config if absent",
    ),
    row("RUNTIME_IGNOREDOTFILES", &[], "files that begin with a dot are always ignored"),
    row("RUNTIME_WATCH_ROOT", &[], "all changes are detected, symbolic links included"),
    row("EXPIRATION_JITTER_MAX_SECONDS", &[], "keys expire when their counts have left the window"),
    row("LOCAL_CACHE_SIZE_IN_BYTES", &[], "refusals are always cached in memory"),
    row("NEAR_LIMIT_RATIO", &["near_limit_ratio"], ""),
    row("CACHE_KEY_PREFIX", &["redis_key_prefix"], "with REDIS_URL"),
    row(
        "BACKEND_TYPE",
        &["redis_url"],
        "redis; memcache is refused: counters are in Redis or in memory",
    ),
    row("STOP_CACHE_KEY_INCREMENT_WHEN_OVERLIMIT", &[], "a refused request never costs anything"),
    row("LIMIT_RESPONSE_HEADERS_ENABLED", &["legacy_headers"], "for domains without `answer`"),
    row("LIMIT_LIMIT_HEADER", &["legacy_limit_header"], "with LIMIT_RESPONSE_HEADERS_ENABLED"),
    row(
        "LIMIT_REMAINING_HEADER",
        &["legacy_remaining_header"],
        "with LIMIT_RESPONSE_HEADERS_ENABLED",
    ),
    row("LIMIT_RESET_HEADER", &["legacy_reset_header"], "with LIMIT_RESPONSE_HEADERS_ENABLED"),
    row("RESPONSE_DYNAMIC_METADATA", &["metadata_always"], "for domains without `answer`"),
    row("HEALTHY_WITH_AT_LEAST_ONE_CONFIG_LOADED", &["ready_with_policies"], ""),
    row("REDIS_SOCKET_TYPE", &["redis_url"], "with REDIS_URL: tcp or unix"),
    row(
        "REDIS_TYPE",
        &["redis_sentinels", "redis_cluster_nodes"],
        "with REDIS_URL: SINGLE, SENTINEL or CLUSTER",
    ),
    row(
        "REDIS_URL",
        &["redis_url", "redis_sentinels", "redis_cluster_nodes"],
        "if absent, counters are in memory",
    ),
    row("REDIS_POOL_SIZE", &[], ONE_CONNECTION),
    row(
        "REDIS_AUTH",
        &["redis_password", "redis_username"],
        "with REDIS_URL: PASSWORD, or USER:PASSWORD",
    ),
    row("REDIS_TLS", &["redis_url"], "with REDIS_URL"),
    row("REDIS_TLS_CLIENT_CERT", &["redis_tls_cert_file"], "with REDIS_TLS"),
    row("REDIS_TLS_CLIENT_KEY", &["redis_tls_key_file"], "with REDIS_TLS"),
    row(
        "REDIS_TLS_CACERT",
        &["redis_tls_ca_file"],
        "with REDIS_TLS; without the public authorities",
    ),
    row(
        "REDIS_TLS_SKIP_HOSTNAME_VERIFICATION",
        &["redis_tls_any_name"],
        "with REDIS_TLS; requires REDIS_TLS_CACERT",
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
    row("REDIS_PERSECOND_POOL_ON_EMPTY_WAIT_DURATION", &[], PER_SECOND),
    row("REDIS_SENTINEL_AUTH", &["redis_sentinels"], "with REDIS_TYPE=SENTINEL"),
    row(
        "REDIS_HEALTH_CHECK_ACTIVE_CONNECTION",
        &[],
        "on_outage of the policy answers while Redis is unavailable",
    ),
    row(
        "REDIS_TIMEOUT",
        &["store_deadline"],
        "1s if absent, and at most three quarters of Envoy's timeout",
    ),
    row("REDIS_POOL_ON_EMPTY_BEHAVIOR", &[], ONE_CONNECTION),
    row("REDIS_POOL_ON_EMPTY_WAIT_DURATION", &[], ONE_CONNECTION),
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
    row("TRACING_ENABLED", &["otlp_endpoint"], "the endpoint is OTEL_EXPORTER_OTLP_ENDPOINT"),
    row("TRACING_EXPORTER_PROTOCOL", &["otlp_protocol"], "with TRACING_ENABLED; http if absent"),
    row("TRACING_SAMPLING_RATE", &["otlp_sample_ratio"], "with TRACING_ENABLED; 1 if absent"),
    row("TRACING_SERVICE_NAME", &["otlp_resource"], "with TRACING_ENABLED"),
    row("TRACING_SERVICE_NAMESPACE", &["otlp_resource"], "with TRACING_ENABLED"),
    row("TRACING_SERVICE_INSTANCE_ID", &["otlp_resource"], "with TRACING_ENABLED"),
    row(
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        &["otlp_endpoint"],
        "with TRACING_ENABLED, and for http with the path /v1/traces below it; without TLS only",
    ),
    row(
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
        &["otlp_endpoint"],
        "with TRACING_ENABLED, as it is; without TLS only",
    ),
];

/// A variable of envoyproxy/ratelimit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReferenceVariable {
    pub name: &'static str,
    /// The settings that it sets; empty if it has no effect.
    pub settings: &'static [&'static str],
    /// When and how it sets them, or the reason that it has no effect.
    pub advice: &'static str,
}

const fn row(
    name: &'static str,
    settings: &'static [&'static str],
    advice: &'static str,
) -> ReferenceVariable {
    ReferenceVariable { name, settings, advice }
}

impl ReferenceVariable {
    /// The variable with this name.
    pub fn named(name: &str) -> Option<&'static Self> {
        TABLE_OF_REFERENCE.iter().find(|variable| variable.name == name)
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
    /// A warning with the settings to use instead, where the variable is not read.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, advice, .. } = self;
        write!(f, "{name} of envoyproxy/ratelimit is set but not read; ")?;
        match self.settings.is_empty() {
            true => write!(f, "no setting replaces it: {advice}"),
            false => write!(f, "use {}", self.instead().join(" or ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fmt::Write;
    use std::{env, fs};

    use super::*;

    const PAGE: &str = "config/migration.md";
    const GENERATED: &str =
        "<!-- Do not edit from here on: UPDATE_EXPECTED=1 cargo test --lib reference -->\n\n";

    /// The table of all variables, for the documentation.
    fn page() -> String {
        let mut page = "| variable | in Tollgate |\n|---|---|\n".to_owned();
        for ReferenceVariable { name, settings, advice } in TABLE_OF_REFERENCE {
            let settings: Vec<String> = settings.iter().map(|name| format!("`{name}`")).collect();
            let effect = match settings.as_slice() {
                [] => format!("no effect: {advice}"),
                _ if advice.is_empty() => settings.join(", "),
                _ => format!("{}: {advice}", settings.join(", ")),
            };
            // Writing to a String can't fail.
            writeln!(page, "| `{name}` | {effect} |").ok();
        }
        page
    }

    #[test]
    fn every_variable_is_there_once_and_leads_to_a_setting_or_says_why_not() {
        let names: BTreeSet<&str> =
            TABLE_OF_REFERENCE.iter().map(|variable| variable.name).collect();
        assert_eq!((names.len(), TABLE_OF_REFERENCE.len()), (120, 120));
        for variable in TABLE_OF_REFERENCE {
            assert_eq!(variable.instead().len(), variable.settings.len(), "{variable:?}");
            assert!(!variable.settings.is_empty() || !variable.advice.is_empty(), "{variable:?}");
        }
    }

    #[test]
    fn the_page_has_every_variable() {
        let text = fs::read_to_string(PAGE).unwrap();
        let (written, _) = text.split_once(GENERATED).unwrap();
        let expected = format!("{written}{GENERATED}{}", page());
        if env::var_os("UPDATE_EXPECTED").is_some() {
            fs::write(PAGE, &expected).unwrap();
        }
        assert_eq!(fs::read_to_string(PAGE).unwrap(), expected);
    }

    #[test]
    fn a_warning_names_what_to_use() {
        let check = |name: &str, message: &str| {
            let all = ReferenceVariable::named(name).unwrap().to_string();
            assert!(all.ends_with(&format!("is set but not read; {message}")), "{all}");
        };
        check("PORT", "use TOLLGATE_HTTP_ADDRESS");
        check("REDIS_AUTH", "use TOLLGATE_REDIS_PASSWORD or TOLLGATE_REDIS_USERNAME");
        check("USE_STATSD", "use TOLLGATE_STATSD_ADDRESS");
        check("REDIS_PERSECOND", &format!("no setting replaces it: {PER_SECOND}"));
    }

    #[test]
    fn a_variable_is_covered_by_any_of_its_settings() {
        let auth = ReferenceVariable::named("REDIS_AUTH").unwrap();
        assert!(auth.is_covered(&["redis_url", "redis_password"]));
        assert!(!auth.is_covered(&["redis_url"]) && !auth.is_covered(&[]));
    }
}
