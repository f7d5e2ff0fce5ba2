//! The settings of the ports.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::error::SettingsError;
use super::setting::{PATH, component};
use super::value::{self, optional};

component! {
    /// The ports and their certificates.
    pub struct ListeningSettings in "Listening";

    /// None: no TCP port.
    grpc_address: Option<SocketAddr> {
        name: "grpc_address",
        value: "ADDRESS",
        default: "127.0.0.1:8081",
        expected: "an IP address and a port, such as 127.0.0.1:8081 or [::]:8081, or off",
        help: "Address of gRPC. The default serves only this machine, 0.0.0.0:8081 or [::]:8081 all interfaces; \
               off listens only on the Unix socket",
        read: value::address_or_off,
    }

    grpc_unix_socket: Option<PathBuf> {
        name: "grpc_unix_socket",
        value: "PATH",
        default: "",
        expected: PATH,
        help: "Unix socket for gRPC, in addition to the address; created at start and removed at shutdown",
        read: optional(value::path),
    }

    /// None: no limit.
    grpc_connection_age_max: Option<Duration> {
        name: "grpc_connection_age_max",
        value: "DURATION",
        default: "off",
        expected: "a duration up to an hour, such as 30m, or off",
        help: "Maximum age of a gRPC connection, plus or minus a tenth; it is closed when its requests are answered. \
               With several Tollgates behind one address, clients then spread again",
        read: value::some_time_or_off,
    }

    grpc_tls_cert_file: Option<PathBuf> {
        name: "grpc_tls_cert_file",
        value: "PATH",
        default: "",
        expected: PATH,
        help: "Certificate of the gRPC port, in PEM, with intermediate certificates. \
               The port then accepts only TLS; the Unix socket never uses TLS",
        read: optional(value::path),
        needs: &["grpc_tls_key_file"],
    }

    grpc_tls_key_file: Option<PathBuf> {
        name: "grpc_tls_key_file",
        value: "PATH",
        default: "",
        expected: PATH,
        help: "Private key of that certificate, in PEM",
        read: optional(value::path),
        needs: &["grpc_tls_cert_file"],
    }

    grpc_tls_client_ca_file: Option<PathBuf> {
        name: "grpc_tls_client_ca_file",
        value: "PATH",
        default: "",
        expected: PATH,
        help: "Certificate authorities for clients, in PEM. The gRPC port then requires a client certificate from one of them",
        read: optional(value::path),
        needs: &["grpc_tls_cert_file"],
    }

    grpc_tls_client_name: Option<String> {
        name: "grpc_tls_client_name",
        value: "NAME",
        default: "",
        expected: "a DNS name or an IP address",
        help: "Name (subjectAltName) that the certificates of these clients must have; every name if absent",
        read: optional(value::text),
        needs: &["grpc_tls_client_ca_file"],
    }

    http_address: SocketAddr {
        name: "http_address",
        value: "ADDRESS",
        default: "127.0.0.1:8080",
        expected: "an IP address and a port, such as 127.0.0.1:8080 or [::]:8080",
        help: "Address of HTTP: /json, health, /metrics, /policy, /v1 and /dashboard. The default serves only this machine",
        read: value::address,
    }

    /// None: metrics are only on the HTTP port.
    metrics_address: Option<SocketAddr> {
        name: "metrics_address",
        value: "ADDRESS",
        default: "",
        expected: "an IP address and a port, such as 0.0.0.0:9090",
        help: "Another address for the metrics alone, without TLS",
        read: optional(value::address),
    }

    metrics_path: String {
        name: "metrics_path",
        value: "PATH",
        default: "/metrics",
        expected: "a path that begins with /",
        help: "Path of the metrics on metrics_address",
        read: |text| value::text(text).filter(|path| path.starts_with('/') && !path.contains(['{', '}'])),
    }

    http_tls_cert_file: Option<PathBuf> {
        name: "http_tls_cert_file",
        value: "PATH",
        default: "",
        expected: PATH,
        help: "Certificate of the HTTP port, in PEM, with intermediate certificates. \
               The port then accepts only HTTPS",
        read: optional(value::path),
        needs: &["http_tls_key_file"],
    }

    http_tls_key_file: Option<PathBuf> {
        name: "http_tls_key_file",
        value: "PATH",
        default: "",
        expected: PATH,
        help: "Private key of that certificate, in PEM",
        read: optional(value::path),
        needs: &["http_tls_cert_file"],
    }

    http_tls_client_ca_file: Option<PathBuf> {
        name: "http_tls_client_ca_file",
        value: "PATH",
        default: "",
        expected: PATH,
        help: "Certificate authorities for clients, in PEM. The HTTP port then requires a client certificate from one of them, \
               also for health and metrics",
        read: optional(value::path),
        needs: &["http_tls_cert_file"],
    }
}

/// The TLS files of one port, in PEM. Without a certificate the port is plain.
#[derive(Clone, Debug, Default)]
pub struct TlsFiles {
    pub cert_file: Option<PathBuf>,
    pub key_file: Option<PathBuf>,
    /// None: clients need no certificate.
    pub client_ca_file: Option<PathBuf>,
    /// None: certificates of clients may have any name.
    pub client_name: Option<String>,
}

impl ListeningSettings {
    /// The files of gRPC's port.
    pub fn grpc_tls(&self) -> TlsFiles {
        TlsFiles {
            cert_file: self.grpc_tls_cert_file.clone(),
            key_file: self.grpc_tls_key_file.clone(),
            client_ca_file: self.grpc_tls_client_ca_file.clone(),
            client_name: self.grpc_tls_client_name.clone(),
        }
    }

    /// The files of HTTP's port.
    pub fn http_tls(&self) -> TlsFiles {
        TlsFiles {
            cert_file: self.http_tls_cert_file.clone(),
            key_file: self.http_tls_key_file.clone(),
            client_ca_file: self.http_tls_client_ca_file.clone(),
            client_name: None,
        }
    }

    /// Contradictions if gRPC has no port.
    pub fn contradictions(&self) -> Vec<SettingsError> {
        let mut errors = Vec::new();
        if self.grpc_address.is_none() && self.grpc_unix_socket.is_none() {
            let (name, other) = ("grpc_address: off", "grpc_unix_socket");
            errors.push(SettingsError::Needs { name, other });
        }
        if self.grpc_address.is_none() && self.grpc_tls_cert_file.is_some() {
            let (name, other) = ("grpc_tls_cert_file", "grpc_address");
            errors.push(SettingsError::Needs { name, other });
        }
        errors
    }
}
