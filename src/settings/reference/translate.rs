//! Translates the variables of envoyproxy/ratelimit to settings.

use std::collections::BTreeMap;

use super::translator::{Translation, Translator};
use super::{redis, values};

/// A host, port and path of the reference.
const HOST: &str = "0.0.0.0";
const HTTP_PORT: &str = "8080";
const GRPC_PORT: &str = "8081";
const METRICS_ADDRESS: &str = ":9090";
const STATSD_HOST: &str = "localhost";
const STATSD_PORT: &str = "8125";
const RUNTIME_ROOT: &str = "/srv/runtime_data/current";
const RUNTIME_APPDIRECTORY: &str = "config";
const XDS_SERVER: &str = "localhost:18000";
const OTLP_ENDPOINT: &str = "http://localhost:4317";

/// The same by HTTP.
const OTLP_HTTP_ENDPOINT: &str = "http://localhost:4318";
const SERVICE_NAME: &str = "RateLimit";

/// The largest message of xDS.
const XDS_MESSAGE_LEN_MAX: u64 = 67_108_864;
const XDS_MESSAGE_LEN_MIN: u64 = 1_024;

/// The settings of an environment: texts by variables, none of them empty.
pub fn translate(environment: &BTreeMap<String, String>) -> Translation {
    let mut translator = Translator::new(environment);
    translator.ports();
    translator.policies();
    translator.observing();
    translator.statsd();
    redis::translate(&mut translator);
    translator.finish()
}

impl Translator<'_> {
    /// An address of a host and a port, each with its variable and default.
    fn address(
        &mut self,
        setting: &'static str,
        (host_name, host_default): (&'static str, &str),
        (port_name, port_default): (&'static str, &str),
    ) {
        let (host, port) = (self.get(host_name), self.get(port_name));
        let variable = if host.is_some() { host_name } else { port_name };
        let is_set = host.is_some() || port.is_some();
        match values::address(host.unwrap_or(host_default), port.unwrap_or(port_default)) {
            Some(text) if is_set => self.set(setting, text, variable),
            Some(text) => self.default(setting, &text),
            None => self.wrong(variable, "an IP address, and a port from 0 to 65535"),
        }
    }

    fn ports(&mut self) {
        self.address("http_address", ("HOST", HOST), ("PORT", HTTP_PORT));
        match self.get("GRPC_UDS") {
            Some(path) => {
                self.set("grpc_unix_socket", path, "GRPC_UDS");
                self.set("grpc_address", "off", "GRPC_UDS");
            }
            None => self.address("grpc_address", ("GRPC_HOST", HOST), ("GRPC_PORT", GRPC_PORT)),
        }
        self.copy_duration("GRPC_MAX_CONNECTION_AGE", "grpc_connection_age_max");
        if self.is_on("GRPC_SERVER_USE_TLS") {
            let files = ["GRPC_SERVER_TLS_CERT", "GRPC_SERVER_TLS_KEY"];
            if !files.iter().all(|name| self.is_set(name)) {
                let expected = "it with GRPC_SERVER_TLS_CERT and GRPC_SERVER_TLS_KEY";
                self.wrong("GRPC_SERVER_USE_TLS", expected);
            }
            self.copy("GRPC_SERVER_TLS_CERT", "grpc_tls_cert_file");
            self.copy("GRPC_SERVER_TLS_KEY", "grpc_tls_key_file");
            self.copy("GRPC_CLIENT_TLS_CACERT", "grpc_tls_client_ca_file");
            if self.is_set("GRPC_CLIENT_TLS_CACERT") {
                self.copy("GRPC_CLIENT_TLS_SAN", "grpc_tls_client_name");
            }
        }
    }

    fn policies(&mut self) {
        match self.get("CONFIG_TYPE").unwrap_or("FILE") {
            "FILE" => self.files(),
            "GRPC_XDS_SOTW" => self.xds(),
            _ => self.wrong("CONFIG_TYPE", "FILE or GRPC_XDS_SOTW"),
        }
        self.copy_flag("FORCE_START_WITHOUT_INITIAL_CONFIG", "start_without_policies");
        self.copy_flag("HEALTHY_WITH_AT_LEAST_ONE_CONFIG_LOADED", "ready_with_policies");
        self.copy_flag("MERGE_DOMAIN_CONFIG", "merge_domains");
        self.copy_flag("SHADOW_MODE", "shadow_mode");
        self.copy_flag("QUOTA_MODE", "quota_mode");
        self.copy_flag("LIMIT_RESPONSE_HEADERS_ENABLED", "legacy_headers");
        self.copy("LIMIT_LIMIT_HEADER", "legacy_limit_header");
        self.copy("LIMIT_REMAINING_HEADER", "legacy_remaining_header");
        self.copy("LIMIT_RESET_HEADER", "legacy_reset_header");
        self.copy_flag("RESPONSE_DYNAMIC_METADATA", "metadata_always");
    }

    fn files(&mut self) {
        let names = ["RUNTIME_ROOT", "RUNTIME_SUBDIRECTORY", "RUNTIME_APPDIRECTORY"];
        let texts = names.map(|name| self.get(name));
        let defaults = [RUNTIME_ROOT, "", RUNTIME_APPDIRECTORY];
        let parts = texts.iter().zip(defaults).map(|(text, default)| text.unwrap_or(default));
        let parts: Vec<&str> =
            parts.map(|part| part.trim_end_matches('/')).filter(|part| !part.is_empty()).collect();
        let path = parts.join("/");
        let set = names.into_iter().zip(texts).find(|(_, text)| text.is_some());
        match set {
            Some((name, _)) => self.set("policies", path, name),
            None => self.default("policies", &path),
        }
        self.default("policies_all_names", "true");
    }

    fn xds(&mut self) {
        self.set("policy_source", "xds", "CONFIG_TYPE");
        let url = self.get("CONFIG_GRPC_XDS_SERVER_URL").unwrap_or(XDS_SERVER);
        // Names of gRPC's resolvers may stand before the host.
        let server = url.rsplit_once('/').map_or(url, |(_, server)| server);
        self.set("xds_server", server, "CONFIG_GRPC_XDS_SERVER_URL");
        self.copy("CONFIG_GRPC_XDS_NODE_ID", "xds_node_id");
        if let Some(text) = self.get("CONFIG_GRPC_XDS_NODE_METADATA") {
            // As in the reference, what is no pair is ignored.
            let pairs: Vec<&str> = text.split(',').filter(|pair| pair.contains('=')).collect();
            self.set("xds_node_metadata", pairs.join(","), "CONFIG_GRPC_XDS_NODE_METADATA");
        }
        self.copy("CONFIG_GRPC_XDS_CLIENT_ADDITIONAL_HEADERS", "xds_headers");
        self.copy_duration("XDS_CLIENT_BACKOFF_INITIAL_INTERVAL", "xds_retry_min");
        self.copy_duration("XDS_CLIENT_BACKOFF_MAX_INTERVAL", "xds_retry_max");
        if let Some(text) = self.get("XDS_CLIENT_MAX_MSG_SIZE_IN_BYTES") {
            let name = "XDS_CLIENT_MAX_MSG_SIZE_IN_BYTES";
            match text.parse::<u64>() {
                Ok(0) => {}
                Ok(len) => {
                    let len = len.clamp(XDS_MESSAGE_LEN_MIN, XDS_MESSAGE_LEN_MAX);
                    self.set("xds_message_size_max", len.to_string(), name);
                }
                Err(_) => self.wrong(name, "a number of bytes"),
            }
        }
        if self.is_on("CONFIG_GRPC_XDS_SERVER_USE_TLS") {
            self.set("xds_tls", "true", "CONFIG_GRPC_XDS_SERVER_USE_TLS");
            self.copy("CONFIG_GRPC_XDS_CLIENT_TLS_CERT", "xds_tls_cert_file");
            self.copy("CONFIG_GRPC_XDS_CLIENT_TLS_KEY", "xds_tls_key_file");
            self.copy("CONFIG_GRPC_XDS_SERVER_TLS_CACERT", "xds_tls_ca_file");
            self.copy("CONFIG_GRPC_XDS_SERVER_TLS_SAN", "xds_tls_server_name");
        }
    }

    fn observing(&mut self) {
        if let Some(text) = self.get("LOG_LEVEL") {
            match values::level(text) {
                Some(level) => self.set("log_level", level, "LOG_LEVEL"),
                None => self.wrong("LOG_LEVEL", "a level such as INFO"),
            }
        }
        if let Some(text) = self.get("LOG_FORMAT") {
            let format = if text.eq_ignore_ascii_case("json") { "json" } else { "text" };
            self.set("log_format", format, "LOG_FORMAT");
        }
        self.copy("NEAR_LIMIT_RATIO", "near_limit_ratio");
        self.default("reference_metrics", "true");
        if self.is_on("USE_PROMETHEUS") {
            let text = self.get("PROMETHEUS_ADDR").unwrap_or(METRICS_ADDRESS);
            let parts = text.rsplit_once(':');
            match parts.and_then(|(host, port)| values::address(host, port)) {
                Some(address) => self.set("metrics_address", address, "PROMETHEUS_ADDR"),
                None => self.wrong("PROMETHEUS_ADDR", "an address such as :9090"),
            }
            self.copy("PROMETHEUS_PATH", "metrics_path");
        }
        if self.is_on("TRACING_ENABLED") {
            self.collector();
            let ratio = self.get("TRACING_SAMPLING_RATE").unwrap_or("1");
            self.set("otlp_sample_ratio", ratio, "TRACING_SAMPLING_RATE");
            let name = self.get("TRACING_SERVICE_NAME").unwrap_or(SERVICE_NAME);
            let mut resource = vec![format!("service.name={name}")];
            for (name, key) in [
                ("TRACING_SERVICE_NAMESPACE", "service.namespace"),
                ("TRACING_SERVICE_INSTANCE_ID", "service.instance.id"),
            ] {
                resource.extend(self.get(name).map(|text| format!("{key}={text}")));
            }
            self.set("otlp_resource", resource.join(","), "TRACING_SERVICE_NAME");
        }
    }

    /// The collector of traces, and how it is called: by HTTP unless told otherwise, and then at the path of traces below the
    /// endpoint of all signals.
    fn collector(&mut self) {
        let protocol = match self.get("TRACING_EXPORTER_PROTOCOL").unwrap_or("http") {
            "" | "http" => "http/protobuf",
            "grpc" => "grpc",
            _ => return self.wrong("TRACING_EXPORTER_PROTOCOL", "one of http and grpc"),
        };
        self.set("otlp_protocol", protocol, "TRACING_EXPORTER_PROTOCOL");
        let (own, all) = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT");
        let is_http = protocol != "grpc";
        let of_all = self.get(all);
        if let Some(endpoint) = self.get(own) {
            // As it is: the path of one without is the root.
            let has_path = endpoint.split_once("://").is_none_or(|(_, rest)| rest.contains('/'));
            let end = if is_http && !has_path { "/" } else { "" };
            return self.set("otlp_endpoint", format!("{endpoint}{end}"), own);
        }
        let endpoint = match of_all {
            None if is_http => OTLP_HTTP_ENDPOINT,
            None => OTLP_ENDPOINT,
            Some(endpoint) => endpoint,
        };
        let endpoint = match is_http {
            true => format!("{}/v1/traces", endpoint.trim_end_matches('/')),
            false => endpoint.to_owned(),
        };
        self.set("otlp_endpoint", endpoint, all);
    }

    /// There, statsd is on unless told otherwise. Here it is on if something is said of it.
    fn statsd(&mut self) {
        if self.is_on("DISABLE_STATS") {
            return;
        }
        let is_dog = self.is_on("USE_DOG_STATSD");
        let is_plain = match self.is_set("USE_STATSD") {
            true => self.is_on("USE_STATSD"),
            false => self.is_set("STATSD_HOST"),
        };
        if !is_dog && !is_plain {
            return;
        }
        let (host, port) = (self.get("STATSD_HOST"), self.get("STATSD_PORT"));
        let variable = match (host, port) {
            (Some(_), _) => "STATSD_HOST",
            (None, Some(_)) => "STATSD_PORT",
            (None, None) if is_dog => "USE_DOG_STATSD",
            (None, None) => "USE_STATSD",
        };
        let (host, port) = (host.unwrap_or(STATSD_HOST), port.unwrap_or(STATSD_PORT));
        let is_ipv6 = host.contains(':') && !host.starts_with('[');
        let host = if is_ipv6 { format!("[{host}]") } else { host.to_owned() };
        self.set("statsd_address", format!("{host}:{port}"), variable);
        if is_dog {
            self.set("statsd_dog", "true", "USE_DOG_STATSD");
            if self.get("USE_DOG_STATSD_MOGRIFIERS").is_some() {
                self.set("statsd_rule_tags", "true", "USE_DOG_STATSD_MOGRIFIERS");
            }
        } else {
            let protocol = self.get("STATSD_PROTOCOL").unwrap_or("tcp");
            self.set("statsd_protocol", protocol, "STATSD_PROTOCOL");
        }
        if let Some(text) = self.get("EXTRA_TAGS") {
            match values::tags(text) {
                Some(tags) => self.set("statsd_tags", tags, "EXTRA_TAGS"),
                None => self.wrong("EXTRA_TAGS", "a list of NAME:VALUE"),
            }
        }
        self.copy_duration("STATS_FLUSH_INTERVAL", "statsd_interval");
    }
}
