//! The files that make a port speak TLS.

use std::path::PathBuf;

use super::error::SettingsError;

/// What the files of a port are called, in the order of [`TlsFiles`]: certificate, key, authorities of clients.
pub type Names = [&'static str; 3];

/// Those of gRPC's port.
pub const GRPC: Names = ["grpc_tls_cert_file", "grpc_tls_key_file", "grpc_tls_client_ca_file"];

/// Those of HTTP's port.
pub const HTTP: Names = ["http_tls_cert_file", "http_tls_key_file", "http_tls_client_ca_file"];

/// The files of one port, all in PEM. Without a certificate it is plain.
#[derive(Clone, Debug, Default)]
pub struct TlsFiles {
    pub cert_file: Option<PathBuf>,
    pub key_file: Option<PathBuf>,
    /// None: whoever likes may connect.
    pub client_ca_file: Option<PathBuf>,
}

impl TlsFiles {
    /// What of them can't hold together.
    pub(super) fn contradictions(&self, names: Names) -> Vec<SettingsError> {
        let [cert, key, client_ca] = names;
        let has_cert = self.cert_file.is_some();
        let orphan = (self.client_ca_file.is_some() && !has_cert && self.key_file.is_none())
            .then_some(SettingsError::Needs { name: client_ca, other: cert });
        half((cert, has_cert), (key, self.key_file.is_some())).into_iter().chain(orphan).collect()
    }
}

/// What is wrong when of two files that need each other one alone is given.
pub(super) fn half(
    (cert, has_cert): (&'static str, bool),
    (key, has_key): (&'static str, bool),
) -> Option<SettingsError> {
    match (has_cert, has_key) {
        (true, false) => Some(SettingsError::Needs { name: cert, other: key }),
        (false, true) => Some(SettingsError::Needs { name: key, other: cert }),
        _ => None,
    }
}
