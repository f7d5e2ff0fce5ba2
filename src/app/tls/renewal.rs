//! Puts a certificate in force when its files change.
//!
//! It looks every few seconds and compares what the files hold: a certificate lives for days, so there is no haste, and
//! no mount, symlink or clock can hide a change. The certificate and its key are two files, so a change is taken when two
//! looks in a row find the same. What can't be used is told once and changes nothing.

use std::mem;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::{MissedTickBehavior, interval};
use tokio::{pin, select};

use super::Tls;
use super::certificate::{Certificate, Contents};
use crate::metrics::Metrics;

/// How often to look.
const INTERVAL: Duration = Duration::from_secs(2);

/// Renews the certificate of one port.
#[derive(Debug)]
pub struct Renewal {
    certificate: Certificate,
    tls: Arc<Tls>,
    metrics: Arc<Metrics>,
    /// What the last look found.
    found: Found,
    /// What was put in force or refused last.
    settled: Found,
}

/// What the files hold, or why they can't be read.
type Found = Result<[u8; 32], String>;

impl Renewal {
    /// Renews `certificate`, of which `contents` are in force.
    pub fn new(
        certificate: Certificate,
        contents: &Contents,
        tls: Arc<Tls>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let found = Ok(contents.fingerprint());
        let renewal = Self { certificate, tls, metrics, settled: found.clone(), found };
        renewal.tell(contents);
        renewal
    }

    /// Looks until `shutdown`.
    pub async fn run(mut self, shutdown: impl Future<Output = ()>) {
        let mut ticks = interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        pin!(shutdown);
        loop {
            select! {
                () = &mut shutdown => return,
                _ = ticks.tick() => {}
            }
            // Reading may block, and so does the arithmetic of keys.
            let looking = spawn_blocking(move || {
                self.look();
                self
            });
            self = looking.await.expect("reading and parsing don't panic, and nobody aborts them");
        }
    }

    /// Puts in force what the files hold, if it is new and no longer changing.
    fn look(&mut self) {
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
                self.tell(&contents);
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

    /// Takes down until when what is in force holds.
    fn tell(&self, contents: &Contents) {
        // A gauge of 0 shows that it can't be read, and raises an alarm.
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
        // Looks `looks` times, and then it is another certificate or not.
        let mut check = |looks: u8, is_new: bool| {
            (0..looks).for_each(|_| renewal.look());
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
