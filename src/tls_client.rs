//! TLS to a server: verification of its certificate, and the client certificate.
//!
//! A CA file may contain the server's own certificate, as made by `openssl req -x509`: it is self-signed, and marked as
//! an authority. webpki accepts no such certificate for a server. But exactly these bytes in the file identify the
//! server's certificate, so it is accepted. Its validity and the signature of the handshake are checked as usual, and
//! its name if it has a subjectAltName. Without one (`-subj /CN=...` alone) no name can match, and the bytes identify
//! the server.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fs, io};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{
    WebPkiServerVerifier, verify_server_cert_signed_by_trust_anchor, verify_server_name,
};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// The TLS files of a server, as seen by its client.
#[derive(Clone, Debug, Default)]
pub struct TlsSettings {
    /// Certificates (PEM) to trust instead of the public authorities: of authorities, or of the server itself.
    pub ca_file: Option<PathBuf>,
    /// The client certificate and key (PEM), for servers that require one.
    pub identity: Option<IdentityFiles>,
    /// Name on the server's certificate, if it differs from the host.
    pub server_name: Option<String>,
    /// Whether every name is accepted. The CA file must then name an authority of these servers alone.
    pub any_name: bool,
}

/// The files of a client certificate.
#[derive(Clone, Debug)]
pub struct IdentityFiles {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// A problem of the files.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file is unreadable.
    #[error("can't read {}: {source}", path.display())]
    File { path: PathBuf, source: io::Error },
    /// A file is not PEM.
    #[error("can't use {}: {source}", path.display())]
    Pem { path: PathBuf, source: pem::Error },
    /// The contents of the files are invalid.
    #[error("invalid certificates for TLS to a server: {0}")]
    Unusable(#[source] Error),
}

/// TLS handshakes with servers, and the certificates to trust.
#[derive(Clone, Debug)]
pub struct TlsClient {
    config: Arc<ClientConfig>,
    /// The name on the server's certificate, if it differs from the host.
    name: Option<String>,
}

impl TlsClient {
    /// Performs a TLS handshake with the server `host`.
    ///
    /// # Errors
    /// If it is another server, or does not support TLS.
    pub async fn shake_hands(
        &self,
        host: &str,
        stream: TcpStream,
    ) -> io::Result<TlsStream<TcpStream>> {
        let name = self.name.as_deref().unwrap_or(host).to_owned();
        let name = ServerName::try_from(name).map_err(io::Error::other)?;
        TlsConnector::from(self.config.clone()).connect(name, stream).await
    }

    /// The same client for servers whose certificates have the names of their hosts.
    pub fn by_host(self) -> Self {
        Self { name: None, ..self }
    }
}

/// Verifies certificates like webpki, and also accepts those in the CA file themselves.
#[derive(Debug)]
struct Pinning {
    webpki: Arc<WebPkiServerVerifier>,
    pinned: Vec<CertificateDer<'static>>,
    /// The authorities whose certificates are accepted with every name.
    any_name: Option<Arc<RootCertStore>>,
}

impl TlsSettings {
    /// Whether no file is set.
    pub fn is_default(&self) -> bool {
        self.ca_file.is_none()
            && self.identity.is_none()
            && self.server_name.is_none()
            && !self.any_name
    }

    /// A client with the current contents of the files, for a protocol by its ALPN name, or for any.
    ///
    /// # Errors
    /// If a file is unreadable or invalid.
    pub fn client(&self, protocol: Option<&[u8]>) -> Result<TlsClient, TlsError> {
        let pinned = self.ca_file.as_deref().map(certificates).transpose()?.unwrap_or_default();
        let identity = self.identity.as_ref().map(IdentityFiles::read).transpose()?;
        let provider = Arc::new(ring::default_provider());
        let client = || {
            let mut roots = RootCertStore::empty();
            if self.ca_file.is_none() {
                roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
            }
            pinned.iter().try_for_each(|certificate| roots.add(certificate.clone()))?;
            let roots = Arc::new(roots);
            let any_name = self.any_name.then(|| roots.clone());
            let webpki = WebPkiServerVerifier::builder_with_provider(roots, provider.clone());
            let webpki = webpki.build().map_err(|error| Error::General(error.to_string()))?;
            let client = ClientConfig::builder_with_provider(provider.clone())
                .with_safe_default_protocol_versions()?
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(Pinning { webpki, pinned, any_name }));
            match identity {
                Some((certificates, key)) => client.with_client_auth_cert(certificates, key),
                None => Ok(client.with_no_client_auth()),
            }
        };
        let mut config = client().map_err(TlsError::Unusable)?;
        config.alpn_protocols = protocol.into_iter().map(<[u8]>::to_vec).collect();
        let config = Arc::new(config);
        Ok(TlsClient { config, name: self.server_name.clone() })
    }
}

impl IdentityFiles {
    fn read(&self) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), TlsError> {
        let key = PrivateKeyDer::from_pem_slice(&read(&self.key)?);
        let key = key.map_err(|source| TlsError::Pem { path: self.key.clone(), source })?;
        Ok((certificates(&self.certificate)?, key))
    }
}

impl ServerCertVerifier for Pinning {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let webpki = &self.webpki;
        if let Some(roots) = &self.any_name {
            let parsed = ParsedCertificate::try_from(end_entity)?;
            let algorithms = ring::default_provider().signature_verification_algorithms.all;
            let verified = verify_server_cert_signed_by_trust_anchor(
                &parsed,
                roots,
                intermediates,
                now,
                algorithms,
            );
            return match verified {
                Err(error) if is_of_authority(&error) && self.pinned.contains(end_entity) => {
                    Ok(ServerCertVerified::assertion())
                }
                verified => verified.map(|()| ServerCertVerified::assertion()),
            };
        }
        let verified =
            webpki.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        match verified {
            // webpki reports this after it has found the certificate valid at this time; a test fails if that changes.
            Err(error) if self.pinned.contains(end_entity) => {
                let named = match is_of_authority(&error) {
                    true => {
                        verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)
                    }
                    false => Err(error),
                };
                match named {
                    Err(error) if !has_no_name(&error) => Err(error),
                    _ => Ok(ServerCertVerified::assertion()),
                }
            }
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.webpki.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.webpki.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.webpki.supported_verify_schemes()
    }
}

/// Whether a certificate is rejected only because it is an authority's.
fn is_of_authority(error: &Error) -> bool {
    let Error::InvalidCertificate(CertificateError::Other(other)) = error else { return false };
    matches!(other.0.downcast_ref(), Some(webpki::Error::CaUsedAsEndEntity))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates = CertificateDer::pem_slice_iter(&read(path)?).collect::<Result<_, _>>();
    certificates.map_err(|source| TlsError::Pem { path: path.to_owned(), source })
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|source| TlsError::File { path: path.to_owned(), source })
}

/// Whether a certificate is rejected only because it has no subjectAltName.
fn has_no_name(error: &Error) -> bool {
    let Error::InvalidCertificate(error) = error else { return false };
    matches!(error, CertificateError::NotValidForNameContext { presented, .. } if presented.is_empty())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair, date_time_ymd};

    use super::*;

    const NAME: &str = "redis.test";

    /// What `openssl req -x509 -addext subjectAltName=DNS:redis.test` makes, valid until the end of a year.
    fn self_signed(year: i32) -> CertificateDer<'static> {
        certificate(vec![NAME.to_owned()], IsCa::Ca(BasicConstraints::Unconstrained), year)
    }

    fn certificate(names: Vec<String>, is_ca: IsCa, year: i32) -> CertificateDer<'static> {
        let mut params = CertificateParams::new(names).unwrap();
        params.is_ca = is_ca;
        params.not_after = date_time_ymd(year, 12, 31);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
    }

    fn pinning(pinned: &[&CertificateDer<'static>]) -> Pinning {
        let mut roots = RootCertStore::empty();
        pinned.iter().for_each(|certificate| roots.add((*certificate).clone()).unwrap());
        let provider = Arc::new(ring::default_provider());
        let webpki = WebPkiServerVerifier::builder_with_provider(roots.into(), provider);
        Pinning {
            webpki: webpki.build().unwrap(),
            pinned: pinned.iter().copied().cloned().collect(),
            any_name: None,
        }
    }

    #[test]
    fn exactly_the_certificate_in_the_file_is_taken_while_it_is_valid_and_by_its_name() {
        let (own, other, expired) = (self_signed(2_090), self_signed(2_090), self_signed(2_001));
        let now = UnixTime::since_unix_epoch(Duration::from_secs(1_780_000_000));
        let check = |pinned: &[&CertificateDer<'static>],
                     shown,
                     name: &'static str,
                     refused: &str| {
            let name = ServerName::try_from(name).unwrap();
            let verified = pinning(pinned).verify_server_cert(shown, &[], &name, &[], now);
            let reported = verified.err().map(|error| error.to_string()).unwrap_or_default();
            assert_eq!(reported.is_empty(), refused.is_empty(), "{reported}, expected {refused}");
            assert!(reported.contains(refused), "{reported}");
        };
        check(&[&own], &own, NAME, "");
        check(&[&other, &own], &own, NAME, "");
        check(&[&other], &own, NAME, "CaUsedAsEndEntity");
        check(&[&own], &own, "elsewhere.test", "not valid for name");
        check(&[&expired], &expired, NAME, "expired");
    }

    #[test]
    fn every_name_is_accepted_on_request_but_not_every_authority() {
        let (own, other) = (self_signed(2_090), self_signed(2_090));
        let name = ServerName::try_from("elsewhere.test").unwrap();
        let now = UnixTime::since_unix_epoch(Duration::from_secs(1_780_000_000));
        let mut roots = RootCertStore::empty();
        roots.add(own.clone()).unwrap();
        let verifier = Pinning { any_name: Some(Arc::new(roots)), ..pinning(&[&own]) };
        assert!(verifier.verify_server_cert(&own, &[], &name, &[], now).is_ok());
        assert!(verifier.verify_server_cert(&other, &[], &name, &[], now).is_err());
        assert!(pinning(&[&own]).verify_server_cert(&own, &[], &name, &[], now).is_err());
    }

    /// As `openssl req -x509 -subj /CN=redis.test` makes it, with and without `basicConstraints=CA:FALSE`.
    #[test]
    fn a_certificate_without_a_subject_alternative_name_is_taken_if_it_is_in_the_file() {
        let name = ServerName::try_from(NAME).unwrap();
        let now = UnixTime::since_unix_epoch(Duration::from_secs(1_780_000_000));
        for is_ca in [IsCa::Ca(BasicConstraints::Unconstrained), IsCa::ExplicitNoCa] {
            let make = |year| certificate(Vec::new(), is_ca, year);
            let (own, other, expired) = (make(2_090), make(2_090), make(2_001));
            let verify = |pinned: &[&CertificateDer<'static>], shown| {
                pinning(pinned).verify_server_cert(shown, &[], &name, &[], now)
            };
            assert!(verify(&[&other, &own], &own).is_ok(), "{is_ca:?}");
            assert!(verify(&[&other], &own).is_err(), "{is_ca:?}");
            assert!(verify(&[&expired], &expired).is_err(), "{is_ca:?}");
        }
    }
}
