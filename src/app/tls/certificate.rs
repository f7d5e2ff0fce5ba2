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
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{RootCertStore, ServerConfig};
use sha2::{Digest, Sha256};

use super::expiry::expiry_s;
use crate::settings::TlsFiles;

/// The largest file: all the well-known authorities take a quarter of it.
const FILE_LEN_MAX: u64 = 1024 * 1024;

/// Where a port's certificate is.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// How the names of its settings begin.
    port: &'static str,
    cert_file: PathBuf,
    key_file: PathBuf,
    client_ca_file: Option<PathBuf>,
    protocol: &'static [u8],
}

/// What the files hold.
pub struct Contents {
    cert: Vec<u8>,
    key: Vec<u8>,
    client_ca: Option<Vec<u8>>,
}

impl Contents {
    /// By which these are told from others.
    pub fn fingerprint(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        for part in [Some(&self.cert), Some(&self.key), self.client_ca.as_ref()] {
            let part = part.map_or(&[] as &[u8], Vec::as_slice);
            // With their lengths, so that no file can pass for the end of another.
            hash.update(part.len().to_le_bytes());
            hash.update(part);
        }
        hash.finalize().into()
    }
}

impl Certificate {
    /// The one that these files are for; None if there are none.
    pub fn of(port: &'static str, files: &TlsFiles, protocol: &'static [u8]) -> Option<Self> {
        let (cert_file, key_file) = files.cert_file.clone().zip(files.key_file.clone())?;
        let client_ca_file = files.client_ca_file.clone();
        Some(Self { port, cert_file, key_file, client_ca_file, protocol })
    }

    /// The port whose certificate it is.
    pub fn port(&self) -> &'static str {
        self.port
    }

    /// What the files hold now. Symlinks are followed, so it is what a swapped mount of Kubernetes holds now.
    ///
    /// # Errors
    /// When one can't be read.
    pub fn read(&self) -> anyhow::Result<Contents> {
        let cert = read(&self.cert_file).with_context(|| self.cert())?;
        let key = read(&self.key_file).with_context(|| self.key())?;
        let client_ca = match &self.client_ca_file {
            Some(path) => Some(read(path).with_context(|| self.client_ca(path))?),
            None => None,
        };
        Ok(Contents { cert, key, client_ca })
    }

    /// Until when it holds, in seconds since the Unix epoch; None if it doesn't say so in a way that we can read.
    pub fn expiry_s(&self, contents: &Contents) -> Option<u64> {
        let first = CertificateDer::pem_slice_iter(&contents.cert).next()?.ok()?;
        expiry_s(&first)
    }

    /// How connections are to shake hands by it.
    ///
    /// # Errors
    /// When the files don't hold what they should, or the key is another certificate's.
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
                verifier(authorities, provider).with_context(|| self.client_ca(path))?,
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

/// The first key of a text, if it is one that can be used.
fn key(pem: &[u8], provider: &CryptoProvider) -> anyhow::Result<PrivateKeyDer<'static>> {
    // The causes are left out: they might show what they stumbled over.
    let unusable = "no usable private key found";
    let key = PrivateKeyDer::from_pem_slice(pem).map_err(|_| anyhow!(unusable))?;
    provider.key_provider.load_private_key(key.clone_key()).map_err(|_| anyhow!(unusable))?;
    Ok(key)
}

/// A verifier that accepts only client certificates of these authorities.
fn verifier(
    authorities: &[u8],
    provider: Arc<CryptoProvider>,
) -> anyhow::Result<Arc<dyn ClientCertVerifier>> {
    let mut roots = RootCertStore::empty();
    for authority in certificates(authorities)? {
        roots.add(authority)?;
    }
    Ok(WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build()?)
}

#[cfg(test)]
pub mod testing {
    use std::fs;

    use super::*;

    /// Puts a new certificate into a folder.
    pub fn files(folder: &Path) -> TlsFiles {
        let made = rcgen::generate_simple_self_signed(vec!["tollgate.test".to_owned()]).unwrap();
        let (cert, key) = (folder.join("cert.pem"), folder.join("key.pem"));
        fs::write(&cert, made.cert.pem()).unwrap();
        fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        TlsFiles { client_ca_file: Some(cert.clone()), cert_file: Some(cert), key_file: Some(key) }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// What is said of the files once `break_them` was at them.
    fn check(break_them: impl Fn(&Path), expected: &str) {
        let folder = tempfile::tempdir().unwrap();
        let files = testing::files(folder.path());
        let certificate = Certificate::of("http", &files, b"h2").unwrap();
        let told = || certificate.config(&certificate.read()?).map(drop);
        told().unwrap();
        break_them(folder.path());
        let told = format!("{:#}", told().unwrap_err());
        let folder = folder.path().display().to_string();
        assert_eq!(told.replace(&format!("{folder}/"), ""), expected);
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
