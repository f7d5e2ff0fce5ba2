//! Certificates, and clients that present and verify them.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::{fs, io};

use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::Endpoint;

use super::PATIENCE;
use super::client::Grpc;

/// The name on all certificates here.
pub const NAME: &str = "tollgate.internal";

/// An authority that signs certificates.
pub struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate with its key, both in PEM.
#[derive(Clone, Debug)]
pub struct Certificate {
    pub pem: String,
    pub key_pem: String,
}

/// A client that trusts an authority.
#[derive(Clone)]
pub struct Client(Arc<ClientConfig>);

impl Authority {
    /// A new one.
    pub fn new() -> Self {
        let mut authority = CertificateParams::new(Vec::new()).unwrap();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // Envoy treats a certificate as self-signed if its own name is its authority's.
        authority.distinguished_name.push(DnType::CommonName, "authority");
        let key = KeyPair::generate().unwrap();
        let pem = authority.self_signed(&key).unwrap().pem();
        Self { pem, issuer: Issuer::new(authority, key) }
    }

    /// Its own certificate.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// A new certificate of it for [`NAME`].
    pub fn sign(&self) -> Certificate {
        self.sign_for(NAME)
    }

    /// A new certificate of it for that name.
    pub fn sign_for(&self, name: &str) -> Certificate {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let pem = certificate.signed_by(&key, &self.issuer).unwrap().pem();
        Certificate { pem, key_pem: key.serialize_pem() }
    }

    /// A new certificate of it for [`NAME`], which expires in so many days.
    pub fn sign_for_days(&self, days: i64) -> Certificate {
        let key = KeyPair::generate().unwrap();
        let mut certificate = CertificateParams::new(vec![NAME.to_owned()]).unwrap();
        let end = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(24 * days);
        let end = end.to_zoned(jiff::tz::TimeZone::UTC).date();
        let (month, day) = (end.month().unsigned_abs(), end.day().unsigned_abs());
        certificate.not_after = date_time_ymd(end.year().into(), month, day);
        let pem = certificate.signed_by(&key, &self.issuer).unwrap().pem();
        Certificate { pem, key_pem: key.serialize_pem() }
    }

    /// A server with this certificate that demands certificates of this authority from its clients.
    pub fn server(&self, own: &Certificate) -> Arc<ServerConfig> {
        let provider = Arc::new(ring::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.pem.as_bytes()).unwrap()).unwrap();
        let clients =
            WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone()).build();
        let builder = ServerConfig::builder_with_provider(provider);
        let builder = builder.with_safe_default_protocol_versions().unwrap();
        let builder = builder.with_client_cert_verifier(clients.unwrap());
        let mut config = builder.with_single_cert(vec![own.der()], own.key()).unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        Arc::new(config)
    }

    /// A client that trusts it, and shows a certificate if it has one.
    pub fn client(&self, own: Option<&Certificate>) -> Client {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.pem.as_bytes()).unwrap()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder = builder.with_safe_default_protocol_versions().unwrap();
        let builder = builder.with_root_certificates(roots);
        let config = match own {
            Some(own) => builder.with_client_auth_cert(vec![own.der()], own.key()).unwrap(),
            None => builder.with_no_client_auth(),
        };
        Client(Arc::new(config))
    }
}

impl Certificate {
    /// A self-signed certificate for [`NAME`] that is marked as an authority, as made by `openssl req -x509`.
    pub fn self_signed() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![NAME.to_owned()]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Self { pem, key_pem: key.serialize_pem() }
    }

    /// Writes it into `folder`, with the file names of Kubernetes secrets.
    pub fn write(&self, folder: &Path) {
        fs::write(folder.join("tls.crt"), &self.pem).unwrap();
        fs::write(folder.join("tls.key"), &self.key_pem).unwrap();
    }

    /// Its bytes.
    pub fn der(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(self.pem.as_bytes()).unwrap()
    }

    fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::from_pem_slice(self.key_pem.as_bytes()).unwrap()
    }
}

impl Client {
    /// Connects, with a handshake for a protocol.
    pub async fn connect(
        &self,
        address: SocketAddr,
        protocol: &str,
    ) -> io::Result<TlsStream<TcpStream>> {
        let mut config = (*self.0).clone();
        config.alpn_protocols = vec![protocol.into()];
        let name = ServerName::try_from(NAME).unwrap();
        let stream = TcpStream::connect(address).await?;
        TlsConnector::from(Arc::new(config)).connect(name, stream).await
    }

    /// A client of the rate-limit service.
    pub async fn grpc(&self, address: SocketAddr) -> Result<Grpc, tonic::transport::Error> {
        let client = self.clone();
        let connector = tower::service_fn(move |_| {
            let client = client.clone();
            async move { client.connect(address, "h2").await.map(TokioIo::new) }
        });
        let endpoint = Endpoint::from_static("http://tollgate.internal").timeout(PATIENCE);
        endpoint.connect_with_connector(connector).await.map(Grpc::new)
    }

    /// Gets a path over HTTPS; returns the whole response, including the head.
    pub async fn get(&self, address: SocketAddr, path: &str) -> io::Result<String> {
        let mut stream = self.connect(address, "http/1.1").await?;
        let head = format!("GET {path} HTTP/1.1\r\nhost: {NAME}\r\nconnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer)
    }
}
