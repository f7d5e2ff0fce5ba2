//! TLS on a port: the handshake of each connection, with the current certificate.

mod certificate;
mod client_name;
mod expiry;
mod renewal;

use std::io;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::metrics::Metrics;
use crate::settings::TlsFiles;

use certificate::Certificate;

pub use renewal::Renewal;

/// The protocols of the ports, by their ALPN names. A client that offers only other protocols is rejected. A client
/// without ALPN is accepted.
pub const HTTP_2: &[u8] = b"h2";
pub const HTTP_1: &[u8] = b"http/1.1";

/// The certificate in force on a port.
#[derive(Debug)]
pub struct Tls {
    config: ArcSwap<rustls::ServerConfig>,
}

impl Tls {
    /// TLS for `port`, `grpc` or `http`, with the task that renews its certificate; None without such settings.
    ///
    /// # Errors
    /// If the files are unreadable or invalid; the error names them and their settings.
    pub fn load(
        port: &'static str,
        files: &TlsFiles,
        protocol: &'static [u8],
        metrics: &Arc<Metrics>,
    ) -> anyhow::Result<Option<(Arc<Self>, Renewal)>> {
        let Some(certificate) = Certificate::of(port, files, protocol) else {
            return Ok(None);
        };
        let contents = certificate.read()?;
        let config = ArcSwap::from_pointee(certificate.config(&contents)?);
        let tls = Arc::new(Self { config });
        let renewal = Renewal::new(certificate, &contents, tls.clone(), metrics.clone());
        Ok(Some((tls, renewal)))
    }

    /// A connection after its handshake. If it fails, that is only logged.
    pub fn open(
        &self,
        tcp: TcpStream,
    ) -> impl Future<Output = io::Result<TlsStream<TcpStream>>> + Send + use<> {
        let accepting = TlsAcceptor::from(self.config.load_full()).accept(tcp);
        async move {
            let opened = accepting.await;
            opened.inspect_err(|error| tracing::debug!(%error, "a TLS handshake failed"))
        }
    }

    /// New connections use `config`.
    fn replace(&self, config: rustls::ServerConfig) {
        self.config.store(Arc::new(config));
    }
}
