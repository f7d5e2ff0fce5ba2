//! Alerts: thresholds and other rules, and their notifications at real receivers.

mod abuse;
mod answers;
mod bypass;
mod channels;
mod check;
mod delivery;
mod groups;
mod money;
mod outage;
mod people;
mod requests;
mod risk;
mod signals;
mod thresholds;
mod traffic;

use std::fs;
use std::path::PathBuf;

use tempfile::TempDir;

use crate::support::ask::request;
use crate::support::eventually;
use crate::support::receiver::{Received, Receiver};
use crate::support::store::Store;
use crate::support::tollgate::Tollgate;

const POLICY: &str = "
domain: gate
caller: { key: user }
defaults: { thresholds: true }
descriptors:
  - { key: user, limits: [{ name: daily, rate: 10/day }] }
";

/// A file of alerts.
struct AlertFile {
    folder: TempDir,
    pub path: PathBuf,
}

impl AlertFile {
    fn new(text: &str) -> Self {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("alerts.yaml");
        fs::write(&path, text).unwrap();
        Self { folder, path }
    }

    /// Another file beside it.
    fn beside(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Replaces the file, like an editor: by a rename.
    fn edit(&self, text: &str) {
        let draft = self.beside("draft");
        fs::write(&draft, text).unwrap();
        fs::rename(draft, &self.path).unwrap();
    }

    async fn serve(&self, store: &Store) -> Tollgate {
        Tollgate::serve_with(POLICY, store, &["--alerts", self.path.to_str().unwrap()]).await
    }
}

/// Asks for one hit of a user so many times.
async fn ask(tollgate: &Tollgate, user: &str, times: u32) {
    let mut client = tollgate.client().await;
    for _ in 0..times {
        let user = format!("user={user}");
        client.should_rate_limit(request("gate", &[&user], 1)).await.unwrap();
    }
}

/// Waits until a receiver has so many requests.
async fn received(receiver: &Receiver, count: usize) -> Vec<Received> {
    eventually(&format!("{count} notifications"), async || {
        let received = receiver.received();
        (count <= received.len()).then_some(received)
    })
    .await
}
