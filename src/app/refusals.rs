//! Keeps refusals with an id, in memory and in Redis, so that they can be explained.

use std::future::pending;
use std::mem;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::timeout;

use crate::engine::DecisionRecord;
use crate::lock::lock;
use crate::metrics::Counter;
use crate::observe::recent_refusals::RecentRefusals;
use crate::observe::refusal::{LimitsShown, RefusalForm};
use crate::store::redis::{KeptRefusal, RedisRefusals};

/// Maximum number of refusals on their way to Redis.
const PENDING_MAX: usize = 2_000;

/// Maximum time to send the last ones.
const LAST_SEND_TIMEOUT: Duration = Duration::from_millis(500);

/// Keeps refusals.
#[derive(Debug)]
pub struct RefusalKeeper {
    recent: Arc<RecentRefusals>,
    sender: Option<Sender>,
}

/// Sends refusals to Redis.
#[derive(Debug)]
struct Sender {
    store: Arc<RedisRefusals>,
    pending: Mutex<Vec<KeptRefusal>>,
    has_pending: Notify,
    /// Refusals that are not in Redis.
    unstored: Counter,
}

impl RefusalKeeper {
    /// Keeps refusals in memory, and in the store if there is one.
    pub fn new(
        recent: Arc<RecentRefusals>,
        store: Option<Arc<RedisRefusals>>,
        unstored: Counter,
    ) -> Self {
        let sender = |store| Sender {
            store,
            pending: Mutex::default(),
            has_pending: Notify::new(),
            unstored,
        };
        Self { recent, sender: store.map(sender) }
    }

    /// Keeps the refusals with an id.
    pub fn add(&self, records: &[DecisionRecord]) {
        for record in records {
            let id = record.refusal().and_then(|refusal| refusal.id);
            let (Some(id), Some(form)) = (id, RefusalForm::new(record, LimitsShown::All)) else {
                continue;
            };
            if let Some(sender) = &self.sender {
                sender.add((id.number(), form.to_json()));
            }
            self.recent.put(id, Arc::new(form));
        }
    }

    /// Sends refusals to Redis until it is dropped.
    pub async fn send(&self) {
        let Some(sender) = &self.sender else { return pending().await };
        loop {
            sender.has_pending.notified().await;
            sender.send().await;
        }
    }

    /// Sends the last refusals.
    pub async fn finish(&self) {
        if let Some(sender) = &self.sender {
            timeout(LAST_SEND_TIMEOUT, sender.send()).await.ok();
        }
    }
}

impl Sender {
    fn add(&self, refusal: KeptRefusal) {
        let mut pending = lock(&self.pending);
        if PENDING_MAX <= pending.len() {
            drop(pending);
            self.unstored.inc();
            return;
        }
        pending.push(refusal);
        drop(pending);
        self.has_pending.notify_one();
    }

    async fn send(&self) {
        let refusals = mem::take(&mut *lock(&self.pending));
        let len = u64::try_from(refusals.len()).unwrap_or(u64::MAX);
        if len != 0 && self.store.put(refusals).await.is_err() {
            // Why Redis is unavailable is logged where it is found.
            self.unstored.inc_by(len);
        }
    }
}
