//! Counters in a Redis that several sidecars share.
//!
//! A request is one round trip, which it shares with others that come at the same time: code in the server reads the
//! records of the request's rules, decides by the server's clock and writes them, in one atomic step. The calendar is
//! the one thing that it can't know there; its periods come with the charge, worked out for what the server's
//! clock said last.
//!
//! Every call ends by the deadline. Late means unknown: the charge may have been made, and is not asked
//! for again, because the hits would then count twice.

mod cache;
mod connect;
mod connection;
mod directory;
mod group;
mod heart;
mod pack;
mod reply;
mod script;
mod settings;
mod subscription;

use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::Batch;
use super::Breaker;
use super::Outcome;
use super::Store;
use super::StoreError;
use super::near::SharedStore;
use crate::clock::Now;
use crate::clock::Timestamp;

use cache::CallerCache;
pub use connection::Connector;
use connection::Link;
pub use directory::RedisDirectory;
use group::Asking;
pub use reply::Asked;
pub use reply::Replies;
pub use reply::Reply;
pub use settings::CONNECT_TIMEOUT_DEFAULT;
pub use settings::DEADLINE_DEFAULT;
pub use settings::IdentityFiles;
pub use settings::Password;
pub use settings::RedisSettings;
pub use settings::RedisSettingsError;
pub use settings::TlsSettings;
pub use subscription::Subscriber;

/// Attempts at a batch with calendar periods: one by the clock as it was known, one by the clock as the
/// server then says it is.
const ATTEMPTS_MAX: usize = 2;

/// Keeps counters in Redis (6.0 or newer).
#[derive(Debug)]
pub struct Redis {
    link: Arc<Link>,
    deadline: Duration,
    /// How far the server's clock is ahead of this process's, as of its last answer.
    clock_ahead_ms: AtomicI64,
}

impl Redis {
    /// A store, and the task that connects it; the server need not be there.
    ///
    /// # Errors
    /// When the settings name no server, or files that can't be used.
    pub fn try_new(settings: &RedisSettings) -> Result<(Self, Connector), RedisSettingsError> {
        let (connector, link) = Connector::try_new(settings)?;
        let deadline = settings.deadline;
        Ok((Self { link, deadline, clock_ahead_ms: AtomicI64::new(0) }, connector))
    }

    /// The directory of callers in the same Redis, and the task that hears of changes; `cached_max` callers
    /// are kept in memory.
    pub fn directory(
        &self,
        settings: &RedisSettings,
        cached_max: usize,
    ) -> (RedisDirectory, Subscriber) {
        let cache = Arc::new(CallerCache::new(cached_max));
        let subscriber = Subscriber::new(settings.clone(), cache.clone());
        (RedisDirectory::new(self.link.clone(), self.deadline, cache), subscriber)
    }

    /// Host and port of the server, or the path of its socket.
    pub fn address(&self) -> &str {
        self.link.address()
    }

    /// How the server is, and how often it broke.
    pub fn breaker(&self) -> &Breaker {
        self.link.breaker()
    }

    /// How often the connection was made anew, since the start.
    pub fn reconnects(&self) -> u64 {
        self.link.connects().saturating_sub(1)
    }

    async fn decide(&self, batch: &Batch, now: Now) -> Result<Outcome, StoreError> {
        let given = match now {
            Now::Given(at) => Some(at),
            Now::Local(_) => None,
        };
        for _ in 0..ATTEMPTS_MAX {
            let estimate = self.server_time(now);
            match self.link.charge(&Asking { batch, given, estimate }).await? {
                Reply::Decided(outcome) => {
                    self.set_clock(now, outcome.at);
                    return Ok(outcome);
                }
                Reply::OtherTime(at) => self.set_clock(now, at),
            }
        }
        Err(StoreError::Garbled { reason: "its clock does not stand still".to_owned() })
    }

    /// The time by the server's clock, as far as it is known.
    fn server_time(&self, now: Now) -> Timestamp {
        match now {
            Now::Given(at) => at,
            Now::Local(at) => {
                let ahead_ms = self.clock_ahead_ms.load(Ordering::Relaxed);
                Timestamp::from_ms(at.as_ms().saturating_add_signed(ahead_ms))
            }
        }
    }

    fn set_clock(&self, now: Now, server: Timestamp) {
        if let Now::Local(at) = now {
            let ms = |at: Timestamp| i64::try_from(at.as_ms()).expect("at most Timestamp::MAX");
            self.clock_ahead_ms.store(ms(server) - ms(at), Ordering::Relaxed);
        }
    }
}

impl SharedStore for Redis {
    async fn charge_after(
        &self,
        batch: &Batch,
        now: Now,
        waited: Duration,
    ) -> Result<Outcome, StoreError> {
        let left = self.deadline.saturating_sub(waited);
        if left.is_zero() {
            return Err(StoreError::Late { deadline: self.deadline });
        }
        self.link.in_time(left, self.decide(batch, now)).await
    }

    fn is_healthy(&self) -> bool {
        self.link.breaker().is_healthy()
    }

    fn sidecars(&self) -> u32 {
        self.link.heart().sidecars()
    }
}

impl Store for Redis {
    async fn charge(&self, batch: &Batch, now: Now) -> Result<Outcome, StoreError> {
        self.charge_after(batch, now, Duration::ZERO).await
    }
}
