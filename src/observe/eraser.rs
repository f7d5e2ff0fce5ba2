//! Erases what is kept of a caller besides its record and its counters: usage, refusals, and lines of the audit log.
//!
//! With Redis, other sidecars learn of the erasure by hashes of the caller's name, and erase what they keep in memory
//! and in their audit logs.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio::{pin, select};

use super::audit::{Audit, Redaction};
use super::recent_refusals::RecentRefusals;
use super::refusal::RefusalForm;
use crate::alerts::Alerts;
use crate::clock::{Clock, Timestamp};
use crate::engine::stored_name;
use crate::lock::lock;
use crate::store::redis::{RedisErasures, RedisRefusals};
use crate::store::{ReservationRecords, StoreError, SumsStore};
use crate::usage::{Outbox, Retention, UsageMemory, periods_with_callers};

/// How often the sums of a caller are erased again, and the maximum number of such callers.
const AGAIN: u8 = 3;
const AGAIN_MAX: usize = 1_000;

/// Time until records of earlier decisions are surely taken from the sink, which is drained more often.
const DRAINED: Duration = Duration::from_millis(150);

/// How often to ask for erasures of other sidecars.
const INTERVAL: Duration = Duration::from_secs(5);

/// Where data of callers is kept.
#[derive(Clone, Debug, Default)]
pub struct CallerData {
    pub audit: Audit,
    pub recent: Arc<RecentRefusals>,
    /// None: there is no Redis, also for `erasures`.
    pub stored: Option<Arc<RedisRefusals>>,
    pub erasures: Option<Arc<RedisErasures>>,
    pub reservations: Arc<ReservationRecords>,
    /// None: usage is not counted.
    pub usage: Option<ErasableUsage>,
    /// None: there are none.
    pub alerts: Option<Alerts>,
}

/// Erases data of callers.
#[derive(Clone, Debug, Default)]
pub struct Eraser {
    data: CallerData,
    /// Callers that this process has erased, and how often to erase their sums again: other sidecars may have stored
    /// some before they learned of it.
    again: Arc<Mutex<Vec<(String, u8)>>>,
}

/// The places of usage.
#[derive(Clone, Debug)]
pub struct ErasableUsage {
    pub memory: Arc<UsageMemory>,
    /// Sums that are not stored yet, and their store. None: usage ends with the process.
    pub stored: Option<(Arc<Mutex<Outbox>>, Arc<SumsStore>)>,
    pub retention: Retention,
}

/// What was erased.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Erased {
    /// Records of reservations.
    pub reservations: u64,
    /// Sums of hours and days.
    pub sums: u64,
    /// Refusals in Redis.
    pub refusals: u64,
    /// Open and closed alerts, and notifications.
    pub alerts: u64,
    /// Lines of this process's audit log.
    pub audit_lines: u64,
}

/// The reason that not all was erased.
#[derive(Debug, thiserror::Error)]
pub enum EraseError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the audit log can't be rewritten: {0}")]
    Audit(#[from] io::Error),
}

/// The names that are erased, by hashes or as texts of the log.
type Names = Arc<dyn Fn(&str) -> bool + Send + Sync>;

impl Eraser {
    /// Erases from there.
    pub fn new(data: CallerData) -> Self {
        Self { data, again: Arc::default() }
    }

    /// Whether other sidecars may erase callers too, so that it has to run.
    pub fn is_shared(&self) -> bool {
        self.data.erasures.is_some()
    }

    /// Erases a caller's data. It may be repeated after an error.
    ///
    /// # Errors
    /// If a store or a file does not answer; some may be erased.
    pub async fn erase(&self, caller: &str, now: Timestamp) -> Result<Erased, EraseError> {
        // Requests that were decided before are then where they are looked for.
        sleep(DRAINED).await;
        let caller = stored_name(caller);
        let mut in_log: BTreeSet<String> = self
            .data
            .audit
            .redaction()
            .map(|redaction| redaction.name(caller))
            .into_iter()
            .collect();
        if let Some(erasures) = &self.data.erasures {
            let salts = erasures.salts().await?;
            let redactions = salts.iter().filter_map(|salt| Redaction::of_shared(salt));
            in_log.extend(redactions.map(|redaction| redaction.name(caller)));
            let reported: Vec<String> = [hash(caller)].into_iter().chain(in_log.clone()).collect();
            erasures.add(&reported.join(" "), now).await?;
        }
        let refusals = self.data.recent.erase(&|name| name == caller);
        self.forget(&|name| name == caller);
        if self.is_shared() {
            self.repeat_later(caller);
        }
        let reservations = self.data.reservations.erase(caller).await?;
        let refusals = u64::try_from(refusals).unwrap_or(u64::MAX);
        let mut erased = Erased { reservations, refusals, ..Erased::default() };
        if let Some(ErasableUsage { stored: Some((_, sums)), retention, .. }) = &self.data.usage {
            let periods = periods_with_callers(*retention, now);
            erased.sums = sums.erase(&periods, caller).await?;
        }
        if let Some(stored) = &self.data.stored {
            let is_of = |text: &str| {
                RefusalForm::from_json(text).and_then(|one| one.caller).as_deref() == Some(caller)
            };
            // Those of this process are there too.
            erased.refusals = stored.erase(is_of).await?.max(erased.refusals);
        }
        if let Some(alerts) = &self.data.alerts {
            erased.alerts = alerts.keeper.erase(caller).await?;
        }
        let name = caller.to_owned();
        let names: Names = Arc::new(move |text| text == name || in_log.contains(text));
        erased.audit_lines = self.data.audit.erase(names, now).await?;
        Ok(erased)
    }

    /// Erases what other sidecars have erased, until `shutdown`.
    pub async fn run(self, clock: Clock, shutdown: impl Future<Output = ()>) {
        let mut ticks = interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut known = BTreeMap::new();
        pin!(shutdown);
        loop {
            select! {
                () = &mut shutdown => return,
                _ = ticks.tick() => {
                    let now = clock.now().timestamp();
                    self.share_salt(now).await;
                    self.hear(&mut known, now).await;
                    self.repeat(now).await;
                }
            }
        }
    }

    /// What may be left of a caller that was erased.
    pub fn left(&self, caller: &str) -> Vec<&'static str> {
        let is_redacted = self.data.audit.redaction().is_some();
        let places = [
            (
                self.is_shared(),
                "other sidecars erase their memory and audit logs within some 5 seconds; one that is stopped or without Redis, once it is back within 2 days",
            ),
            (
                is_redacted && self.is_shared(),
                "lines of audit logs stay if no sidecar has used their salt for 90 days",
            ),
            (is_redacted && !self.is_shared(), "lines of the audit log with an earlier salt stay"),
            (
                !self.data.audit.is_erasable(),
                "lines of the audit log in the process log or on the standard output stay",
            ),
            (
                stored_name(caller) != caller,
                "usage and logs keep the first 256 bytes of a name: what other callers with the same had there is erased too",
            ),
            (
                true,
                "lines in the process log, files that were moved elsewhere, snapshots of Redis and backups are not erased",
            ),
        ];
        places.into_iter().filter(|(is_so, _)| *is_so).map(|(_, text)| text).collect()
    }

    /// Tells the other sidecars the salt of this audit log, each time anew: Redis may have lost it.
    async fn share_salt(&self, now: Timestamp) {
        let (Some(erasures), Some(redaction)) = (&self.data.erasures, self.data.audit.redaction())
        else {
            return;
        };
        // If Redis is unavailable, it is tried again.
        erasures.add_salt(&redaction.shared(), now).await.ok();
    }

    fn repeat_later(&self, caller: &str) {
        let mut again = lock(&self.again);
        if again.len() < AGAIN_MAX {
            again.push((caller.to_owned(), AGAIN));
        }
    }

    /// Erases the sums of callers again that this process has erased.
    async fn repeat(&self, now: Timestamp) {
        let mut again = std::mem::take(&mut *lock(&self.again));
        let names: BTreeSet<String> = again.iter().map(|(name, _)| name.clone()).collect();
        if self.erase_recent(&names, now).await.is_ok() {
            again.iter_mut().for_each(|(_, times)| *times -= 1);
            again.retain(|(_, times)| *times != 0);
        }
        lock(&self.again).extend(again);
    }

    async fn hear(&self, known: &mut BTreeMap<String, u64>, now: Timestamp) {
        let Some(erasures) = &self.data.erasures else { return };
        // Redis may be unavailable: the next time it tells the same.
        let Ok(read) = erasures.read().await else { return };
        let read: BTreeMap<String, u64> = read.into_iter().collect();
        let is_new = |(text, at): &(&String, &u64)| known.get(*text) != Some(*at);
        let new: Vec<&String> = read.iter().filter(is_new).map(|(text, _)| text).collect();
        if new.is_empty() {
            return;
        }
        let texts: BTreeSet<String> =
            new.iter().flat_map(|text| text.split(' ')).map(str::to_owned).collect();
        let names: Names =
            Arc::new(move |name| texts.contains(name) || texts.contains(&hash(name)));
        let unsent = self.forget(&*names);
        let is_done = self.erase_recent(&unsent, now).await.is_ok();
        match self.data.audit.erase(names, now).await {
            Ok(_) if is_done => *known = read,
            Ok(_) => {}
            Err(error) => {
                tracing::error!(%error, "erasing a caller from the audit log failed; it is retried");
            }
        }
    }

    /// Erases callers from memory. Returns their names: this process may have stored sums of them just now.
    fn forget(&self, is_erased: &dyn Fn(&str) -> bool) -> BTreeSet<String> {
        self.data.recent.erase(is_erased);
        if let Some(alerts) = &self.data.alerts {
            alerts.erase(is_erased);
        }
        let Some(ErasableUsage { memory, stored, .. }) = &self.data.usage else {
            return BTreeSet::new();
        };
        let mut names = memory.erase(is_erased);
        if let Some((outbox, _)) = stored {
            names.extend(lock(outbox).erase(is_erased));
        }
        names
    }

    /// Erases callers whose sums this process may have stored after another one has erased them.
    async fn erase_recent(
        &self,
        names: &BTreeSet<String>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let Some(ErasableUsage { stored: Some((_, sums)), .. }) = &self.data.usage else {
            return Ok(());
        };
        let days = Retention { minute_days: 1, hour_days: 1, day_days: 2 };
        for name in names {
            sums.erase(&periods_with_callers(days, now), name).await?;
        }
        Ok(())
    }
}

fn hash(name: &str) -> String {
    Sha256::digest(name.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}
