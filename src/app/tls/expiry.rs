//! Finds the time at which a certificate expires.
//!
//! rustls parses the expiry, but reports it only for a certificate that has expired. So this asks whether the
//! certificate is valid at the end of time. rustls checks the validity first; a test fails if that changes.

use std::time::Duration;

use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, Error, RootCertStore};

/// The expiry of a certificate, in seconds since the Unix epoch; None if rustls can't parse the certificate, and so
/// can't serve it.
pub fn expiry_s(der: &CertificateDer<'_>) -> Option<u64> {
    let certificate = ParsedCertificate::try_from(der).ok()?;
    let end = UnixTime::since_unix_epoch(Duration::MAX);
    let roots = RootCertStore::empty();
    match verify_server_cert_signed_by_trust_anchor(&certificate, &roots, &[], end, &[]) {
        Err(Error::InvalidCertificate(CertificateError::ExpiredContext { not_after, .. })) => {
            Some(not_after.as_secs())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    fn made(year: i32) -> CertificateDer<'static> {
        let mut params = CertificateParams::new(vec!["tollgate.test".to_owned()]).unwrap();
        params.not_after = date_time_ymd(year, 2, 28);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
    }

    #[test]
    fn the_end_of_a_certificate_is_read() {
        for (year, expected) in [(2_030, 1_898_467_200), (2_060, 2_845_152_000)] {
            assert_eq!(expiry_s(&made(year)), Some(expected), "{year}");
        }
    }

    #[test]
    fn what_is_cut_off_or_changed_has_no_end_and_does_no_harm() {
        let whole = made(2_030);
        for len in 0..whole.len() {
            assert_eq!(expiry_s(&CertificateDer::from(&whole[..len])), None, "{len}");
        }
        for index in 0..whole.len() {
            let mut changed = whole.to_vec();
            changed[index] ^= 0xff;
            let _ = expiry_s(&changed.into());
        }
    }
}
