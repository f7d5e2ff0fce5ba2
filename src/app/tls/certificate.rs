//! Reads and checks the files of a port's certificate. Their contents appear in no message.

use std::fs::File;
use std::io;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, anyhow, bail};
use rustls::Error::InconsistentKeys;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{RootCertStore, ServerConfig};
use sha2::{Digest, Sha256};

use super::client_name::Named;
use super::expiry::expiry_s;
use crate::settings::TlsFiles;

/// Maximum size of a file: four times that of all well-known authorities.
const FILE_LEN_MAX: u64 = 1024 * 1024;

/// The paths of a port's certificate.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// The prefix of the names of its settings.
    port: &'static str,
    cert_file: PathBuf,
    key_file: PathBuf,
    client_ca_file: Option<PathBuf>,
    /// Name that certificates of clients must have.
    client_name: Option<String>,
    protocol: &'static [u8],
}

/// The contents of the files.
pub struct Contents {
    cert: Vec<u8>,
    key: Vec<u8>,
    client_ca: Option<Vec<u8>>,
}

impl Contents {
    /// The hash of the contents, to detect changes.
    pub fn fingerprint(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        for part in [Some(&self.cert), Some(&self.key), self.client_ca.as_ref()] {
            let part = part.map_or(&[] as &[u8], Vec::as_slice);
            // With lengths, so that no file can look like the end of another.
            hash.update(part.len().to_le_bytes());
            hash.update(part);
        }
        hash.finalize().into()
    }
}

impl Certificate {
    /// The certificate with these files; None if there are none.
    pub fn of(port: &'static str, files: &TlsFiles, protocol: &'static [u8]) -> Option<Self> {
        let (cert_file, key_file) = files.cert_file.clone().zip(files.key_file.clone())?;
        let (client_ca_file, client_name) =
            (files.client_ca_file.clone(), files.client_name.clone());
        Some(Self { port, cert_file, key_file, client_ca_file, client_name, protocol })
    }

    /// The port of the certificate.
    pub fn port(&self) -> &'static str {
        self.port
    }

    /// The current contents of the files. Symlinks are followed, also those of a Kubernetes mount that has been
    /// swapped.
    ///
    /// # Errors
    /// If a file is unreadable.
    pub fn read(&self) -> anyhow::Result<Contents> {
        let cert = read(&self.cert_file).with_context(|| self.cert())?;
        let key = read(&self.key_file).with_context(|| self.key())?;
        let client_ca = match &self.client_ca_file {
            Some(path) => Some(read(path).with_context(|| self.client_ca(path))?),
            None => None,
        };
        Ok(Contents { cert, key, client_ca })
    }

    /// The expiry of the certificate, in seconds since the Unix epoch; None if it is unknown.
    pub fn expiry_s(&self, contents: &Contents) -> Option<u64> {
        let first = CertificateDer::pem_slice_iter(&contents.cert).next()?.ok()?;
        expiry_s(&first)
    }

    /// The TLS configuration for new connections.
    ///
    /// # Errors
    /// If a file is invalid, or the key belongs to another certificate.
    pub fn config(&self, contents: &Contents) -> anyhow::Result<ServerConfig> {
        let certs = certificates(&contents.cert).with_context(|| self.cert())?;
        let provider = Arc::new(ring::default_provider());
        let key = key(&contents.key, &provider).with_context(|| self.key())?;
        let versions = ServerConfig::builder_with_provider(provider.clone());
        let versions = versions
            .with_safe_default_protocol_versions()
            .context("the ring provider knows TLS 1.2 and 1.3")?;
        let clients = match self.client_ca_file.as_ref().zip(contents.client_ca.as_ref()) {
            Some((path, authorities)) => versions.with_client_cert_verifier(
                self.verifier(authorities, provider).with_context(|| self.client_ca(path))?,
            ),
            None => versions.with_no_client_auth(),
        };
        let config = clients.with_single_cert(certs, key).map_err(|error| match error {
            InconsistentKeys(_) => {
                anyhow!("{} does not match the certificate {}", self.key(), self.cert())
            }
            other => anyhow!(other).context(self.cert()),
        });
        let mut config = config?;
        config.alpn_protocols = vec![self.protocol.to_vec()];
        Ok(config)
    }

    /// A verifier that accepts only client certificates of these authorities, and with the name if one is set.
    fn verifier(
        &self,
        authorities: &[u8],
        provider: Arc<CryptoProvider>,
    ) -> anyhow::Result<Arc<dyn ClientCertVerifier>> {
        let mut roots = RootCertStore::empty();
        for authority in certificates(authorities)? {
            roots.add(authority)?;
        }
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
        let verifier = verifier.build()?;
        let Some(name) = self.client_name.clone() else { return Ok(verifier) };
        let name =
            ServerName::try_from(name).with_context(|| format!("{}_tls_client_name", self.port))?;
        Ok(Arc::new(Named { verifier, name }))
    }

    fn cert(&self) -> String {
        format!("{} ({}_tls_cert_file)", self.cert_file.display(), self.port)
    }

    fn key(&self) -> String {
        format!("{} ({}_tls_key_file)", self.key_file.display(), self.port)
    }

    fn client_ca(&self, path: &Path) -> String {
        format!("{} ({}_tls_client_ca_file)", path.display(), self.port)
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let len = File::open(path)?.take(FILE_LEN_MAX + 1).read_to_end(&mut bytes)?;
    if u64::try_from(len).is_ok_and(|len| FILE_LEN_MAX < len) {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(bytes)
}

fn certificates(pem: &[u8]) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let certs = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>()?;
    if certs.is_empty() {
        bail!("no certificate found");
    }
    Ok(certs)
}

/// The first key in a text, if it is valid.
fn key(pem: &[u8], provider: &CryptoProvider) -> anyhow::Result<PrivateKeyDer<'static>> {
    // Causes are omitted: they might quote the key.
    let unusable = "no usable private key found";
    let key = PrivateKeyDer::from_pem_slice(pem).map_err(|_| anyhow!(unusable))?;
    provider.key_provider.load_private_key(key.clone_key()).map_err(|_| anyhow!(unusable))?;
    Ok(key)
}

#[cfg(test)]
pub mod testing {
    use std::fs;

    use super::*;

    /// Writes a new certificate into a folder.
    pub fn files(folder: &Path) -> TlsFiles {
        let made = rcgen::generate_simple_self_signed(vec!["tollgate.test".to_owned()]).unwrap();
        let (cert, key) = (folder.join("cert.pem"), folder.join("key.pem"));
        fs::write(&cert, made.cert.pem()).unwrap();
        fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        let (client_ca_file, client_name) = (Some(cert.clone()), None);
        TlsFiles { client_ca_file, client_name, cert_file: Some(cert), key_file: Some(key) }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// The error after `break_them` has changed the files.
    fn check(break_them: impl Fn(&Path), expected: &str) {
        let folder = tempfile::tempdir().unwrap();
        let files = testing::files(folder.path());
        let certificate = Certificate::of("http", &files, b"h2").unwrap();
        let load = || certificate.config(&certificate.read()?).map(drop);
        load().unwrap();
        break_them(folder.path());
        let error = format!("{:#}", load().unwrap_err());
        let folder = folder.path().display().to_string();
        assert_eq!(error.replace(&format!("{folder}/"), ""), expected);
    }

    #[test]
    fn what_can_not_be_used_is_told_with_its_file_and_setting() {
        let remove =
            |name: &'static str| move |folder: &Path| fs::remove_file(folder.join(name)).unwrap();
        let write = |name: &'static str, text: &'static str| {
            move |folder: &Path| fs::write(folder.join(name), text).unwrap()
        };
        let absent = "No such file or directory (os error 2)";
        check(remove("cert.pem"), &format!("cert.pem (http_tls_cert_file): {absent}"));
        check(remove("key.pem"), &format!("key.pem (http_tls_key_file): {absent}"));
        let none = "cert.pem (http_tls_cert_file): no certificate found";
        check(write("cert.pem", "not a certificate"), none);
        let secret = "-----BEGIN PRIVATE KEY-----\nhunter2\n-----END PRIVATE KEY-----\n";
        let none = "key.pem (http_tls_key_file): no usable private key found";
        check(write("key.pem", secret), none);
        check(write("key.pem", ""), none);
        let large = |folder: &Path| {
            File::create(folder.join("key.pem")).unwrap().set_len(FILE_LEN_MAX + 1).unwrap();
        };
        check(large, "key.pem (http_tls_key_file): file too large");
    }

    #[test]
    fn the_key_of_another_certificate_is_told() {
        let other = |folder: &Path| {
            let cert = fs::read(folder.join("cert.pem")).unwrap();
            testing::files(folder);
            fs::write(folder.join("cert.pem"), cert).unwrap();
        };
        let expected = "key.pem (http_tls_key_file) does not match the certificate cert.pem (http_tls_cert_file)";
        check(other, expected);
    }
}
