//! The settings of policies by xDS.

use std::path::PathBuf;
use std::time::Duration;

use super::error::SettingsError;
use super::setting::{BOOLEAN, DURATION, PATH, TEXT, component};
use super::value::{self, PolicySourceName, Secret, optional, or_default};

component! {
    /// The source of policies, and the xDS server if that is one.
    pub struct XdsSettings in "Policies by xDS";

    source: PolicySourceName {
        name: "policy_source",
        value: "SOURCE",
        default: "files",
        expected: "one of files and xds",
        help: "Source of the policies: the files of `policies`, or the xDS server of xds_server",
        read: value::policy_source,
        words: &["files", "xds"],
    }

    /// Whether requests are answered with an error until there are policies, instead of not being accepted.
    start_without_policies: bool {
        name: "start_without_policies",
        value: "BOOL",
        default: "false",
        expected: BOOLEAN,
        help: "Start before the xDS server has sent valid policies. Requests until then get an error, so Envoy's \
               failure_mode_deny decides. By default Tollgate opens its ports when it has policies",
        read: value::boolean,
    }

    /// Host and port.
    server: Option<(String, u16)> {
        name: "xds_server",
        value: "HOST:PORT",
        default: "",
        expected: "a host and a port, such as envoy-gateway:18001",
        help: "The xDS server (ADS, state of the world), such as Envoy Gateway",
        read: optional(value::node),
    }

    node_id: String {
        name: "xds_node_id",
        value: "TEXT",
        default: "default",
        expected: TEXT,
        help: "Node id for the xDS server, which selects the policies by it",
        read: value::text,
    }

    node_metadata: Vec<(String, String)> {
        name: "xds_node_metadata",
        value: "KEY=VALUE,...",
        default: "",
        expected: "a list of KEY=VALUE",
        help: "Metadata of the node for the xDS server",
        read: or_default(|text| value::pairs(text, '=')),
    }

    /// Names and values.
    headers: Vec<(String, Secret)> {
        name: "xds_headers",
        value: "NAME:VALUE,...",
        default: "",
        expected: "a list of NAME:VALUE with valid names and values of HTTP headers",
        help: "Headers of the stream to the xDS server, such as for authorization",
        read: or_default(value::headers),
        secret: true,
    }

    message_len_max: usize {
        name: "xds_message_size_max",
        value: "BYTES",
        default: "16777216",
        expected: "a number of bytes from 1024 to 67108864",
        help: "Maximum size of a message of the xDS server; a larger one is rejected",
        read: |text| value::number(text, 1_024..=67_108_864),
    }

    tls: bool {
        name: "xds_tls",
        value: "BOOL",
        default: "false",
        expected: BOOLEAN,
        help: "Connect to the xDS server with TLS. Its files are read again for each connection",
        read: value::boolean,
    }

    tls_ca_file: Option<PathBuf> {
        name: "xds_tls_ca_file",
        value: "PATH",
        default: "",
        expected: PATH,
        help: "Trusted certificates of the xDS server, in PEM, instead of the public authorities",
        read: optional(value::path),
        needs: &["xds_tls"],
    }

    tls_server_name: Option<String> {
        name: "xds_tls_server_name",
        value: "NAME",
        default: "",
        expected: TEXT,
        help: "Name (subjectAltName) that the certificate of the xDS server must have, if it is not the host of xds_server",
        read: optional(value::text),
        needs: &["xds_tls"],
    }

    tls_cert_file: Option<PathBuf> {
        name: "xds_tls_cert_file",
        value: "PATH",
        default: "",
        expected: PATH,
        help: "Client certificate for the xDS server, in PEM (mutual TLS)",
        read: optional(value::path),
        needs: &["xds_tls", "xds_tls_key_file"],
    }

    tls_key_file: Option<PathBuf> {
        name: "xds_tls_key_file",
        value: "PATH",
        default: "",
        expected: PATH,
        help: "Private key of that certificate, in PEM",
        read: optional(value::path),
        needs: &["xds_tls_cert_file"],
    }

    response_timeout: Duration {
        name: "xds_response_timeout",
        value: "DURATION",
        default: "15s",
        expected: DURATION,
        help: "Maximum time until the first response on a connection to the xDS server. After that the log has a warning; \
               Tollgate connects again only if the server has sent nothing at all, not even the beginning of HTTP/2",
        read: value::some_time,
    }

    retry_min: Duration {
        name: "xds_retry_min",
        value: "DURATION",
        default: "1s",
        expected: DURATION,
        help: "Pause after the first failed connection to the xDS server; each further pause is twice as long, minus a random \
               part of up to half",
        read: value::some_time,
    }

    retry_max: Duration {
        name: "xds_retry_max",
        value: "DURATION",
        default: "30s",
        expected: DURATION,
        help: "Maximum pause between connections to the xDS server",
        read: value::some_time,
    }

    /// None: no copy.
    cache_file: Option<PathBuf> {
        name: "xds_cache_file",
        value: "PATH",
        default: "",
        expected: PATH,
        help: "File for a copy of the last accepted policies. A start uses it until the xDS server answers",
        read: optional(value::path),
    }
}

impl XdsSettings {
    /// Contradictions of the source of policies.
    pub fn contradictions(&self) -> Vec<SettingsError> {
        let needs = |name, other| SettingsError::Needs { name, other };
        match (self.source, &self.server) {
            (PolicySourceName::Xds, None) => vec![needs("policy_source: xds", "xds_server")],
            (PolicySourceName::Files, Some(_)) => vec![needs("xds_server", "policy_source: xds")],
            _ => Vec::new(),
        }
    }
}
