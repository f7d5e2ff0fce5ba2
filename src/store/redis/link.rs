//! The link to a server for requests: they join its queue, send commands, and learn whether it is available.
//!
//! Requests never connect. If an answer is missing they raise a doubt, and the task of `connection.rs` checks the
//! connection.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ::redis::{Cmd, Value};
use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::sync::Notify;
use tokio::time;

use super::connect::Connected;
use super::fault;
use super::group::{Asking, Queue};
use super::late::look_again;
use super::membership::Membership;
use super::reply::Reply;
use super::server_clock::ServerClock;
use super::settings::{RedisSettings, RedisSettingsError};
use crate::store::{Breaker, StoreError};

/// The shared state of the connection.
#[derive(Debug)]
pub struct Link {
    pub(super) settings: RedisSettings,
    pub(super) address: String,
    pub(super) connection: ArcSwapOption<Connected>,
    /// There is a connection again, or the breaker has opened.
    pub(super) changed: Notify,
    pub(super) breaker: Breaker,
    /// The last reason that the breaker opened.
    pub(super) reason: ArcSwap<String>,
    /// Requests that wait to be sent.
    pub(super) queue: Queue,
    pub(super) doubt: Notify,
    /// The sidecars that share the server.
    pub(super) membership: Membership,
    pub(super) connects: AtomicU64,
    pub(super) clock: ServerClock,
    /// Notified when the map of its cluster may be outdated; None for a single server.
    map_doubt: Option<Arc<Notify>>,
}

impl Link {
    /// A link without a connection.
    ///
    /// # Errors
    /// If the settings name no server.
    pub fn try_new(
        settings: &RedisSettings,
        map_doubt: Option<Arc<Notify>>,
    ) -> Result<Self, RedisSettingsError> {
        Ok(Self {
            settings: settings.clone(),
            address: settings.address()?,
            connection: ArcSwapOption::empty(),
            changed: Notify::new(),
            breaker: Breaker::default(),
            reason: ArcSwap::from_pointee("not connected yet".to_owned()),
            queue: Queue::default(),
            doubt: Notify::new(),
            membership: Membership::new(settings.key_prefix.clone()),
            connects: AtomicU64::new(0),
            clock: ServerClock::new(),
            map_doubt,
        })
    }

    /// The settings of the connection.
    pub fn settings(&self) -> &RedisSettings {
        &self.settings
    }

    /// Host and port, or the path of the socket.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The state of the server.
    pub fn breaker(&self) -> &Breaker {
        &self.breaker
    }

    /// The sidecars that share the server.
    pub fn membership(&self) -> &Membership {
        &self.membership
    }

    /// The number of reconnections.
    pub fn reconnects(&self) -> u64 {
        self.connects.load(Ordering::Relaxed).saturating_sub(1)
    }

    /// The estimated clock of the server.
    pub fn clock(&self) -> &ServerClock {
        &self.clock
    }

    /// Waits for a call until the request's deadline, and updates the state of the server.
    ///
    /// # Errors
    /// The error of the call; or the breaker is open, or the call is late.
    pub async fn in_time<T>(
        &self,
        left: Duration,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        if !self.breaker.is_healthy() {
            return Err(self.unavailable());
        }
        let mut call = pin!(call);
        let late = Err(StoreError::Late { deadline: self.settings.deadline });
        let answer = match time::timeout(left, &mut call).await {
            Ok(answer) => answer,
            Err(_) => look_again(call).await.unwrap_or(late),
        };
        match &answer {
            Ok(_) => self.breaker.answered(),
            Err(error) => {
                if self.breaker.failed(error) {
                    self.log_broken(&error.to_string());
                }
                self.doubt.notify_one();
            }
        }
        answer
    }

    /// Charges a request together with others.
    pub async fn charge(&self, asking: &Asking<'_>) -> Result<Reply, StoreError> {
        let answer = self.queue.join(asking)?;
        answer.await.unwrap_or_else(|_| Err(self.lost("the connection was lost".to_owned())))
    }

    /// Sends a command and returns the answer of the server, which may be an error.
    pub async fn send(&self, command: &Cmd) -> Result<Value, StoreError> {
        let Some(connected) = self.connected().await else {
            return Err(self.unavailable());
        };
        match connected.connection.clone().send_packed_command(command).await {
            Ok(value) => Ok(value),
            Err(error) if fault::is_of_key(&error) => {
                Err(StoreError::Foreign { reason: error.to_string() })
            }
            Err(error) if fault::is_answer(&error) => Err(fault::refused(&error)),
            Err(error) => Err(self.lost(error.to_string())),
        }
    }

    /// The connection, or the next one if the server has just closed it; None if the breaker is open.
    async fn connected(&self) -> Option<Arc<Connected>> {
        loop {
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            if !self.breaker.is_healthy() {
                return None;
            }
            match self.connection.load_full() {
                Some(connected) => return Some(connected),
                None => changed.await,
            }
        }
    }

    /// The requests that wait to be sent.
    pub fn queue(&self) -> &Queue {
        &self.queue
    }

    /// Requests an update of the cluster's map; false if there is no cluster.
    pub fn doubt_nodes(&self) -> bool {
        self.map_doubt.as_ref().inspect(|doubt| doubt.notify_one()).is_some()
    }

    /// The error of a call while the breaker is open.
    pub fn unavailable(&self) -> StoreError {
        let reason = String::clone(&self.reason.load());
        StoreError::Disconnected { address: self.address.clone(), reason }
    }

    /// The error of a call in flight when the connection was lost.
    pub fn lost(&self, reason: String) -> StoreError {
        StoreError::Lost { address: self.address.clone(), reason }
    }

    /// Opens the breaker, for a reason.
    pub fn open_breaker(&self, reason: &str) {
        let was_healthy = self.breaker.open();
        self.breaker.probe_failed();
        self.changed.notify_waiters();
        if was_healthy || **self.reason.load() != reason {
            self.log_broken(reason);
        }
    }

    /// Logs the reason that the server is unavailable; each reason once.
    fn log_broken(&self, reason: &str) {
        self.reason.store(Arc::new(reason.to_owned()));
        tracing::warn!(
            store.address = self.address,
            reason,
            "Redis unavailable; retrying in the background"
        );
        // Its slots may move soon.
        self.doubt_nodes();
    }

    /// Closes the breaker after a successful probe.
    pub fn recover(&self, news: &str) {
        if self.breaker.probe_succeeded() {
            tracing::info!(store.address = self.address, "{news}");
        }
    }
}
