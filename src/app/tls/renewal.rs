//! Replaces the certificate of a port when its files change.
//!
//! It compares the contents of the files every few seconds. That is fast enough, as a certificate is valid for days,
//! and no mount, symlink or clock can hide a change. The certificate and its key are two files, so a change is accepted
//! when two consecutive reads are equal. Invalid files are reported once and change nothing.

use std::mem;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::spawn_blocking;

use super::Tls;
use super::certificate::{Certificate, Contents};
use crate::app::ticks::Ticks;
use crate::metrics::Metrics;

/// Interval of the reads.
const INTERVAL: Duration = Duration::from_secs(2);

/// Renews the certificate of one port.
#[derive(Debug)]
pub struct Renewal {
    certificate: Certificate,
    tls: Arc<Tls>,
    metrics: Arc<Metrics>,
    /// The last contents that were read.
    found: Found,
    /// The last contents that were accepted or rejected.
    settled: Found,
}

/// The contents of the files, or the error of the read.
type Found = Result<[u8; 32], String>;

impl Renewal {
    /// Renews `certificate`; `contents` are those in force.
    pub fn new(
        certificate: Certificate,
        contents: &Contents,
        tls: Arc<Tls>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let found = Ok(contents.fingerprint());
        let renewal = Self { certificate, tls, metrics, settled: found.clone(), found };
        renewal.record_expiry(contents);
        renewal
    }

    /// Runs until `shutdown`.
    pub async fn run(mut self, shutdown: impl Future<Output = ()>) {
        let mut ticks = Ticks::new(INTERVAL, shutdown);
        while ticks.next().await {
            // Reading may block, and parsing keys takes CPU time.
            let checking = spawn_blocking(move || {
                self.check();
                self
            });
            self = checking.await.expect("reading and parsing don't panic, and nobody aborts them");
        }
    }

    /// Puts the contents in force if they are new and two consecutive reads are equal.
    fn check(&mut self) {
        let read = self.certificate.read();
        let found = match &read {
            Ok(contents) => Ok(contents.fingerprint()),
            Err(error) => Err(format!("{error:#}")),
        };
        let before = mem::replace(&mut self.found, found);
        if self.found != before || self.found == self.settled {
            return;
        }
        self.settled = before;
        let port = self.certificate.port();
        let config = read.and_then(|read| Ok((self.certificate.config(&read)?, read)));
        match config {
            Ok((config, contents)) => {
                self.tls.replace(config);
                self.record_expiry(&contents);
                tracing::info!(port, "certificate renewed");
            }
            Err(error) => {
                self.metrics.certificates.rejected(port);
                tracing::error!(
                    port,
                    "certificate renewal failed; keeping the previous certificate: {error:#}"
                );
            }
        }
    }

    /// Updates the metric with the expiry of the certificate in force.
    fn record_expiry(&self, contents: &Contents) {
        // A gauge of 0 means that the expiry is unknown, and triggers alerts.
        let until_s = self.certificate.expiry_s(contents).unwrap_or_default();
        self.metrics.certificates.in_force(self.certificate.port(), until_s);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rustls::ServerConfig;

    use super::super::HTTP_2;
    use super::super::certificate::testing;
    use super::*;

    #[test]
    fn what_two_looks_find_is_in_force_unless_it_is_bad() {
        let folder = tempfile::tempdir().unwrap();
        let files = testing::files(folder.path());
        let (tls, mut renewal) =
            Tls::load("grpc", &files, HTTP_2, &Arc::default()).unwrap().unwrap();
        let mut now: Arc<ServerConfig> = tls.config.load_full();
        // Reads `checks` times, then checks whether the certificate has changed.
        let mut check = |checks: u8, is_new: bool| {
            (0..checks).for_each(|_| renewal.check());
            let before = mem::replace(&mut now, tls.config.load_full());
            assert_eq!(!Arc::ptr_eq(&before, &now), is_new);
        };
        check(3, false);
        testing::files(folder.path());
        check(1, false);
        check(1, true);
        check(2, false);

        let key = folder.path().join("key.pem");
        let good = fs::read(&key).unwrap();
        fs::write(&key, "no key").unwrap();
        check(3, false);
        fs::remove_file(&key).unwrap();
        check(3, false);
        fs::write(&key, good).unwrap();
        check(2, true);
    }
}
