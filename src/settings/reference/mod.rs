//! The environment of envoyproxy/ratelimit, which Tollgate takes in its place.
//!
//! It is read if the program is started as `ratelimit`, or if it is set and nothing of Tollgate's own is. Else each of
//! its variables that is set is reported, with the setting to use: otherwise, for example, Tollgate would count in
//! memory despite `REDIS_URL`, without a message.

mod redis;
mod table;
mod translate;
mod translator;
mod values;

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsStr;
use std::path::Path;

use table::TABLE_OF_REFERENCE;

pub use table::ReferenceVariable;
pub use translate::translate;
pub use translator::{Translated, Translation};

/// The name of the program of the reference.
const PROGRAM: &str = "ratelimit";

/// Variables that programs of all kinds have. They alone don't mean that reference.
const COMMON: &[&str] = &[
    "HOST",
    "PORT",
    "DEBUG_HOST",
    "DEBUG_PORT",
    "GRPC_HOST",
    "GRPC_PORT",
    "LOG_LEVEL",
    "LOG_FORMAT",
    "EXTRA_TAGS",
    "STATSD_HOST",
    "STATSD_PORT",
    "REDIS_URL",
    "REDIS_TYPE",
    "REDIS_AUTH",
    "REDIS_TLS",
    "REDIS_TIMEOUT",
    "REDIS_POOL_SIZE",
    "TRACING_ENABLED",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
];

/// Its variables that are set and not empty.
pub fn environment() -> BTreeMap<String, String> {
    let text = |name: &str| env::var(name).ok().filter(|text| !text.is_empty());
    let names = TABLE_OF_REFERENCE.iter().map(|variable| variable.name);
    names.filter_map(|name| Some((name.to_owned(), text(name)?))).collect()
}

/// Whether the environment is meant for Tollgate. `has_own`: there are settings of Tollgate's own.
pub fn is_meant(
    program: Option<&OsStr>,
    environment: &BTreeMap<String, String>,
    has_own: bool,
) -> bool {
    let is_named = program.and_then(|path| Path::new(path).file_name()) == Some(PROGRAM.as_ref());
    let is_special = |name: &String| !COMMON.contains(&name.as_str());
    is_named || (!has_own && environment.keys().any(is_special))
}

/// The variables of an environment.
pub fn variables(environment: &BTreeMap<String, String>) -> Vec<ReferenceVariable> {
    let found = environment.keys().filter_map(|name| ReferenceVariable::named(name));
    found.copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(variables: &[(&str, &str)]) -> BTreeMap<String, String> {
        variables.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
    }

    /// The settings of an environment, without defaults, as `name=text`.
    #[track_caller]
    fn check(variables: &[(&str, &str)], expected: &[&str]) {
        let translation = translate(&environment(variables));
        assert!(translation.errors.is_empty(), "{:?}", translation.errors);
        let settings = translation.settings.iter().filter(|one| one.variable.is_some());
        let found: Vec<String> =
            settings.map(|one| format!("{}={}", one.setting, one.text)).collect();
        assert_eq!(found, expected);
    }

    fn errors(variables: &[(&str, &str)]) -> String {
        let translation = translate(&environment(variables));
        translation.errors.iter().map(|error| format!("{error}\n")).collect()
    }

    /// As Envoy Gateway 1.9 sets it.
    #[test]
    fn the_environment_of_envoy_gateway_demands_no_certificates_of_clients() {
        check(
            &[
                ("RUNTIME_ROOT", "/data"),
                ("CONFIG_TYPE", "GRPC_XDS_SOTW"),
                ("CONFIG_GRPC_XDS_SERVER_URL", "envoy-gateway:18001"),
                ("CONFIG_GRPC_XDS_NODE_ID", "envoy-ratelimit"),
                ("GRPC_SERVER_USE_TLS", "true"),
                ("GRPC_SERVER_TLS_CERT", "/certs/tls.crt"),
                ("GRPC_SERVER_TLS_KEY", "/certs/tls.key"),
                ("GRPC_SERVER_TLS_CA_CERT", "/certs/ca.crt"),
                ("CONFIG_GRPC_XDS_SERVER_USE_TLS", "true"),
                ("CONFIG_GRPC_XDS_CLIENT_TLS_CERT", "/certs/tls.crt"),
                ("CONFIG_GRPC_XDS_CLIENT_TLS_KEY", "/certs/tls.key"),
                ("CONFIG_GRPC_XDS_SERVER_TLS_CACERT", "/certs/ca.crt"),
                ("FORCE_START_WITHOUT_INITIAL_CONFIG", "true"),
                ("USE_PROMETHEUS", "true"),
                ("PROMETHEUS_ADDR", ":19001"),
            ],
            &[
                "grpc_tls_cert_file=/certs/tls.crt",
                "grpc_tls_key_file=/certs/tls.key",
                "policy_source=xds",
                "xds_server=envoy-gateway:18001",
                "xds_node_id=envoy-ratelimit",
                "xds_tls=true",
                "xds_tls_cert_file=/certs/tls.crt",
                "xds_tls_key_file=/certs/tls.key",
                "xds_tls_ca_file=/certs/ca.crt",
                "start_without_policies=true",
                "metrics_address=0.0.0.0:19001",
            ],
        );
    }

    #[test]
    fn every_other_variable_with_an_effect_sets_its_settings() {
        check(
            &[
                ("HOST", "::"),
                ("GRPC_HOST", "::"),
                ("GRPC_PORT", "9"),
                ("GRPC_MAX_CONNECTION_AGE", "24h"),
            ],
            &["http_address=[::]:8080", "grpc_address=[::]:9", "grpc_connection_age_max=3600000ms"],
        );
        check(
            &[("PORT", "1"), ("GRPC_UDS", "/run/s")],
            &["http_address=0.0.0.0:1", "grpc_unix_socket=/run/s", "grpc_address=off"],
        );
        check(
            &[
                ("GRPC_SERVER_USE_TLS", "1"),
                ("GRPC_SERVER_TLS_CERT", "c"),
                ("GRPC_SERVER_TLS_KEY", "k"),
                ("GRPC_CLIENT_TLS_CACERT", "a"),
                ("GRPC_CLIENT_TLS_SAN", "envoy"),
            ],
            &[
                "grpc_tls_cert_file=c",
                "grpc_tls_key_file=k",
                "grpc_tls_client_ca_file=a",
                "grpc_tls_client_name=envoy",
            ],
        );
        check(
            &[("LOG_LEVEL", "WARN"), ("LOG_FORMAT", "JSON")],
            &["log_level=warn", "log_format=json"],
        );
        let folders = [("RUNTIME_ROOT", "/data/"), ("RUNTIME_SUBDIRECTORY", "ratelimit")];
        check(&folders, &["policies=/data/ratelimit/config"]);
        let other = [&folders[..], &[("RUNTIME_APPDIRECTORY", "limits")]].concat();
        check(&other, &["policies=/data/ratelimit/limits"]);
    }

    #[test]
    fn every_variable_of_xds_sets_its_settings() {
        let xds = ("CONFIG_TYPE", "GRPC_XDS_SOTW");
        check(
            &[
                xds,
                ("CONFIG_GRPC_XDS_SERVER_URL", "dns:///x:1"),
                ("CONFIG_GRPC_XDS_NODE_METADATA", "a=b,c"),
                ("CONFIG_GRPC_XDS_CLIENT_ADDITIONAL_HEADERS", "k:v"),
                ("CONFIG_GRPC_XDS_SERVER_USE_TLS", "true"),
                ("CONFIG_GRPC_XDS_SERVER_TLS_SAN", "name"),
                ("XDS_CLIENT_BACKOFF_INITIAL_INTERVAL", "10s"),
                ("XDS_CLIENT_BACKOFF_MAX_INTERVAL", "60s"),
                ("XDS_CLIENT_MAX_MSG_SIZE_IN_BYTES", "99999999999"),
            ],
            &[
                "policy_source=xds",
                "xds_server=x:1",
                "xds_node_metadata=a=b",
                "xds_headers=k:v",
                "xds_retry_min=10000ms",
                "xds_retry_max=60000ms",
                "xds_message_size_max=67108864",
                "xds_tls=true",
                "xds_tls_server_name=name",
            ],
        );
    }

    #[test]
    fn every_switch_and_every_observer_is_set() {
        check(
            &[
                ("HEALTHY_WITH_AT_LEAST_ONE_CONFIG_LOADED", "true"),
                ("MERGE_DOMAIN_CONFIG", "true"),
                ("SHADOW_MODE", "true"),
                ("QUOTA_MODE", "true"),
                ("LIMIT_RESPONSE_HEADERS_ENABLED", "true"),
                ("LIMIT_LIMIT_HEADER", "X-L"),
                ("LIMIT_REMAINING_HEADER", "X-M"),
                ("LIMIT_RESET_HEADER", "X-R"),
                ("RESPONSE_DYNAMIC_METADATA", "true"),
                ("NEAR_LIMIT_RATIO", "0.7"),
            ],
            &[
                "ready_with_policies=true",
                "merge_domains=true",
                "shadow_mode=true",
                "quota_mode=true",
                "legacy_headers=true",
                "legacy_limit_header=X-L",
                "legacy_remaining_header=X-M",
                "legacy_reset_header=X-R",
                "metadata_always=true",
                "near_limit_ratio=0.7",
            ],
        );
        check(
            &[("USE_PROMETHEUS", "true"), ("PROMETHEUS_PATH", "/m")],
            &["metrics_address=0.0.0.0:9090", "metrics_path=/m"],
        );
        check(
            &[
                ("TRACING_ENABLED", "true"),
                ("TRACING_EXPORTER_PROTOCOL", "grpc"),
                ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4317"),
                ("TRACING_SERVICE_NAME", "n"),
                ("TRACING_SERVICE_NAMESPACE", "ns"),
                ("TRACING_SERVICE_INSTANCE_ID", "pod"),
            ],
            &[
                "otlp_protocol=grpc",
                "otlp_endpoint=http://c:4317",
                "otlp_sample_ratio=1",
                "otlp_resource=service.name=n,service.namespace=ns,service.instance.id=pod",
            ],
        );
    }

    #[test]
    fn traces_are_sent_by_http_to_the_path_of_traces() {
        let (all, own) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT");
        let cases: [(&[(&str, &str)], &str); 5] = [
            (&[], "http://localhost:4318/v1/traces"),
            (&[(all, "http://c:4318")], "http://c:4318/v1/traces"),
            (&[(all, "http://c:4318/otlp/")], "http://c:4318/otlp/v1/traces"),
            (&[(all, "http://c:4318"), (own, "http://t:1/x")], "http://t:1/x"),
            (&[(own, "http://t:1")], "http://t:1/"),
        ];
        for (said, url) in cases {
            let said = [&[("TRACING_ENABLED", "true")], said].concat();
            let endpoint = format!("otlp_endpoint={url}");
            let rest = ["otlp_sample_ratio=1", "otlp_resource=service.name=RateLimit"];
            check(&said, &[&["otlp_protocol=http/protobuf", &*endpoint][..], &rest].concat());
        }
    }

    #[test]
    fn statsd_is_sent_where_something_is_said_of_it() {
        check(&[("USE_STATSD", "false"), ("STATSD_HOST", "s")], &[]);
        check(&[("USE_STATSD", "true")], &["statsd_address=localhost:8125", "statsd_protocol=tcp"]);
        check(
            &[
                ("STATSD_HOST", "::1"),
                ("STATSD_PORT", "9"),
                ("STATSD_PROTOCOL", "udp"),
                ("EXTRA_TAGS", "a:b,c:d:e"),
                ("STATS_FLUSH_INTERVAL", "5s"),
            ],
            &[
                "statsd_address=[::1]:9",
                "statsd_protocol=udp",
                "statsd_tags=a=b,c=d:e",
                "statsd_interval=5000ms",
            ],
        );
        check(
            &[("USE_DOG_STATSD", "true"), ("USE_DOG_STATSD_MOGRIFIERS", "A")],
            &["statsd_address=localhost:8125", "statsd_dog=true", "statsd_rule_tags=true"],
        );
        check(&[("USE_DOG_STATSD", "true"), ("DISABLE_STATS", "true")], &[]);
    }

    /// The client's timeout says what is too long, as in the reference.
    #[test]
    fn a_busy_redis_is_not_an_outage() {
        let deadline = |variables: &[(&str, &str)]| {
            let variables = [&[("REDIS_URL", "/run/r.sock")], variables].concat();
            let translation = translate(&environment(&variables));
            let settings = translation.settings.into_iter().rev();
            let mut said = settings.filter(|one| one.setting == "store_deadline");
            said.next().map(|one| one.text)
        };
        assert_eq!(deadline(&[]).as_deref(), Some("1s"));
        assert_eq!(deadline(&[("REDIS_TIMEOUT", "20ms")]).as_deref(), Some("20ms"));
    }

    #[test]
    fn every_kind_of_redis_is_reached() {
        let tcp = ("REDIS_SOCKET_TYPE", "tcp");
        check(&[tcp, ("REDIS_URL", "r:6379")], &["redis_url=redis://r:6379"]);
        check(&[("REDIS_URL", "/run/r.sock")], &["redis_url=unix:///run/r.sock"]);
        check(
            &[
                tcp,
                ("REDIS_URL", "r:1"),
                ("REDIS_AUTH", "u:p:q"),
                ("REDIS_TIMEOUT", "20ms"),
                ("CACHE_KEY_PREFIX", "a_"),
            ],
            &[
                "store_deadline=20ms",
                "redis_url=redis://r:1",
                "redis_key_prefix=a_",
                "redis_password=p:q",
                "redis_username=u",
            ],
        );
        check(
            &[
                tcp,
                ("REDIS_URL", "r:1"),
                ("REDIS_TLS", "true"),
                ("REDIS_TLS_CLIENT_CERT", "c"),
                ("REDIS_TLS_CLIENT_KEY", "k"),
                ("REDIS_TLS_CACERT", "a"),
                ("REDIS_TLS_SKIP_HOSTNAME_VERIFICATION", "true"),
            ],
            &[
                "redis_url=rediss://r:1",
                "redis_tls_cert_file=c",
                "redis_tls_key_file=k",
                "redis_tls_ca_file=a",
                "redis_tls_any_name=true",
            ],
        );
        check(
            &[
                tcp,
                ("REDIS_URL", "main,a:1,b:2"),
                ("REDIS_TYPE", "SENTINEL"),
                ("REDIS_SENTINEL_AUTH", "p@x"),
            ],
            &["redis_url=redis://main", "redis_sentinels=redis://:p%40x@a:1,redis://:p%40x@b:2"],
        );
        check(
            &[tcp, ("REDIS_URL", "a:1,b:2"), ("REDIS_TYPE", "cluster")],
            &["redis_url=redis://a:1", "redis_cluster_nodes=b:2"],
        );
    }

    #[test]
    fn what_has_no_effect_is_told_and_what_is_wrong_is_refused() {
        let unused = |variables: &[(&str, &str)]| {
            let unused = translate(&environment(variables)).unused.into_iter();
            unused.map(|(name, _)| name).collect::<Vec<_>>()
        };
        for variable in TABLE_OF_REFERENCE.iter().filter(|one| one.settings.is_empty()) {
            assert_eq!(unused(&[(variable.name, "x")]), [variable.name]);
        }
        for variable in TABLE_OF_REFERENCE.iter().filter(|one| !one.settings.is_empty()) {
            let translation = translate(&environment(&[(variable.name, "x")]));
            for (name, reason) in translation.unused {
                assert!(reason.contains("with"), "{name} has no effect: {reason}");
            }
        }
        assert_eq!(unused(&[("CONFIG_GRPC_XDS_NODE_ID", "x")]), ["CONFIG_GRPC_XDS_NODE_ID"]);
        assert_eq!(unused(&[("REDIS_TLS_CACERT", "x")]), ["REDIS_TLS_CACERT"]);
        let tls = ["USE_TLS", "TLS_CERT", "TLS_KEY"].map(|name| format!("GRPC_SERVER_{name}"));
        let san = [(&*tls[0], "1"), (&tls[1], "c"), (&tls[2], "k"), ("GRPC_CLIENT_TLS_SAN", "x")];
        assert_eq!(unused(&san), ["GRPC_CLIENT_TLS_SAN"]);
        for (variable, value, expected) in [
            ("BACKEND_TYPE", "memcache", "memcache is not supported; use redis"),
            ("CONFIG_TYPE", "GRPC_XDS_DELTA", "use FILE or GRPC_XDS_SOTW"),
            ("HOST", "example.com", "an IP address"),
            ("SHADOW_MODE", "yes", "true or false"),
            ("GRPC_SERVER_USE_TLS", "true", "GRPC_SERVER_TLS_CERT"),
            (
                "REDIS_URL",
                "x:hunter2@h:6379",
                "the given value is invalid; use a path, or REDIS_SOCKET_TYPE=tcp",
            ),
            ("REDIS_URL", "h:6379", "`h:6379` is invalid; use a path"),
            ("PORT", "http", "PORT of envoyproxy/ratelimit: `http` is invalid; use an IP address"),
        ] {
            let errors = errors(&[(variable, value)]);
            assert!(errors.contains(expected) && errors.contains(variable), "{errors}");
            assert!(!errors.contains("hunter2"), "{errors}");
        }
    }

    #[test]
    fn common_variables_alone_do_not_mean_the_reference() {
        let check = |program: &str, variables: &[(&str, &str)], has_own, expected| {
            let meant = is_meant(Some(program.as_ref()), &environment(variables), has_own);
            assert_eq!(meant, expected, "{program} {variables:?} {has_own}");
        };
        let common = [("PORT", "8080"), ("REDIS_URL", "x")];
        check("/bin/ratelimit", &[], true, true);
        check("/usr/bin/tollgate", &common, false, false);
        check("/usr/bin/tollgate", &[("RUNTIME_ROOT", "/data")], false, true);
        check("/usr/bin/tollgate", &[("RUNTIME_ROOT", "/data")], true, false);
    }
}
