//! TLS to receivers.

use std::sync::{Arc, LazyLock};

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::send_error::SendError;

/// Trusts the well-known authorities.
static WELL_KNOWN: LazyLock<Arc<ClientConfig>> = LazyLock::new(|| {
    let roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    Arc::new(config(roots))
});

/// Opens TLS to the host. `ca` has the authorities in PEM; None: the well-known ones.
///
/// # Errors
/// If the authorities are invalid, or the handshake fails.
pub async fn open(
    stream: TcpStream,
    host: &str,
    ca: Option<&[u8]>,
) -> Result<TlsStream<TcpStream>, SendError> {
    let config = match ca {
        Some(pem) => Arc::new(config(authorities(pem)?)),
        None => WELL_KNOWN.clone(),
    };
    let name = ServerName::try_from(host.to_owned()).map_err(|_| SendError::Address)?;
    let opened = TlsConnector::from(config).connect(name, stream).await;
    opened.map_err(|error| SendError::Connect { reason: error.to_string() })
}

fn config(roots: RootCertStore) -> ClientConfig {
    let provider = Arc::new(ring::default_provider());
    let versions =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = versions.expect("the provider has the default versions");
    config.with_root_certificates(roots).with_no_client_auth()
}

/// The authorities of a text in PEM.
///
/// # Errors
/// If there are none, or one is invalid.
pub fn authorities(pem: &[u8]) -> Result<RootCertStore, SendError> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|_| SendError::Authorities)?;
        roots.add(certificate).map_err(|_| SendError::Authorities)?;
    }
    match roots.is_empty() {
        true => Err(SendError::Authorities),
        false => Ok(roots),
    }
}
