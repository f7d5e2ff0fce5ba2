//! Keeps the book of alerts: in memory, or in Redis for a fleet.
//!
//! A change is made on a copy, which replaces the book in Redis if nobody else has changed it meanwhile; else it is made
//! again. While Redis is unavailable, a book in memory takes its place, so that an outage of Redis itself is told, by each
//! sidecar. What is open in it then goes to Redis without being told again.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::sleep;

use super::book::{Book, ClosedAlert};
use crate::clock::{Backoff, Clock, Timestamp};
use crate::lock::lock;
use crate::store::StoreError;
use crate::store::redis::{BookChange, RedisAlertBook};

/// Closed alerts that are kept.
const CLOSED_MAX: usize = 500;

/// Maximum number of attempts at a change, while other sidecars change the book too.
const ATTEMPTS_MAX: u32 = 20;

/// The pause before the next attempt.
const PAUSE: Backoff = Backoff::new(Duration::from_millis(2), Duration::from_millis(100));

/// Keeps the book.
#[derive(Debug)]
pub struct Keeper {
    clock: Clock,
    /// The book without Redis, and while it is unavailable.
    local: Mutex<LocalBook>,
    shared: Option<SharedBook>,
}

#[derive(Debug, Default)]
struct LocalBook {
    book: Book,
    /// Newest first.
    closed: VecDeque<ClosedAlert>,
    /// It has what was open in Redis before the outage.
    is_seeded: bool,
    /// The process ends, and what the book has is lost.
    is_ending: bool,
}

/// The book in Redis, and the copy of its last known version.
#[derive(Debug)]
struct SharedBook {
    store: Arc<RedisAlertBook>,
    known: Mutex<(u64, Book)>,
}

/// The open alerts, and those that were closed.
#[derive(Debug)]
pub struct AlertList {
    pub book: Book,
    /// Newest first.
    pub closed: Vec<ClosedAlert>,
    /// The time of the book.
    pub now: Timestamp,
    /// The book of the fleet, and not of this sidecar alone.
    pub of_fleet: bool,
}

impl Keeper {
    /// An empty book; with Redis, the one there.
    pub fn new(clock: Clock, shared: Option<Arc<RedisAlertBook>>) -> Self {
        let shared = shared.map(|store| SharedBook { store, known: Mutex::default() });
        Self { clock, local: Mutex::default(), shared }
    }

    /// Changes the book, and returns the result of the change. It is made again if another sidecar was faster.
    pub async fn change<T>(&self, change: impl Fn(&mut Book, Timestamp) -> T) -> T {
        if let Some(shared) = &self.shared {
            match self.change_shared(shared, &change).await {
                Ok(result) => return result,
                Err(error) => tracing::debug!(%error, "the book of alerts in Redis is unavailable"),
            }
        }
        let now = self.clock.now().timestamp();
        let mut local = lock(&self.local);
        if let Some(shared) = self.shared.as_ref().filter(|_| !local.is_seeded) {
            local.is_seeded = true;
            // What was told before the outage is not told again.
            let known = lock(&shared.known).1.without_notifications();
            local.book.adopt(known);
        }
        if local.is_ending {
            local.book.end_waits();
        }
        let result = change(&mut local.book, now);
        local.keep_closed();
        result
    }

    /// Notes that the process ends: groups of a book in memory wait for nothing more. In Redis they stay in the book.
    pub fn end(&self) {
        lock(&self.local).is_ending = true;
    }

    /// The book alone.
    pub async fn book(&self) -> Book {
        self.book_now().await.0
    }

    /// The book alone, and its time.
    pub async fn book_now(&self) -> (Book, Timestamp) {
        if let Some(shared) = &self.shared
            && let Ok(now) = shared.refresh().await
        {
            return (lock(&shared.known).1.clone(), now);
        }
        (lock(&self.local).book.clone(), self.clock.now().timestamp())
    }

    /// The open alerts, and those that were closed.
    pub async fn list(&self) -> AlertList {
        if let Some(shared) = &self.shared
            && let Ok(list) = shared.list().await
        {
            return list;
        }
        let local = lock(&self.local);
        let closed = local.closed.iter().cloned().collect();
        let now = self.clock.now().timestamp();
        AlertList { book: local.book.clone(), closed, now, of_fleet: false }
    }

    /// Removes what is kept about a caller, and returns the number of alerts and notifications.
    ///
    /// # Errors
    /// If Redis does not answer as expected; some may be removed.
    pub async fn erase(&self, caller: &str) -> Result<u64, StoreError> {
        let mut removed = self.change(|book, _| book.erase(caller)).await;
        let is_about = |closed: &ClosedAlert| closed.alert.labels.get("caller") == Some(caller);
        lock(&self.local).closed.retain(|closed| !is_about(closed));
        if let Some(shared) = &self.shared {
            for text in shared.store.closed(CLOSED_MAX).await? {
                if ClosedAlert::decode(&text).is_some_and(|closed| is_about(&closed)) {
                    shared.store.remove_closed(&text).await?;
                    removed += 1;
                }
            }
        }
        Ok(removed)
    }

    async fn change_shared<T>(
        &self,
        shared: &SharedBook,
        change: &impl Fn(&mut Book, Timestamp) -> T,
    ) -> Result<T, StoreError> {
        let mut now = shared.refresh().await?;
        for attempt in 0..ATTEMPTS_MAX {
            let (version, before) = lock(&shared.known).clone();
            let mut book = before.clone();
            // What was opened meanwhile without Redis, and what is still to be sent of it.
            let local = lock(&self.local).hand_over();
            book.adopt(local.clone());
            let result = change(&mut book, now);
            let closed = book.take_closed();
            if book == before {
                return Ok(result);
            }
            let closed = closed.iter().map(ClosedAlert::encode).collect();
            let new = BookChange { text: book.encode(), closed, closed_max: CLOSED_MAX };
            let found = shared.store.exchange(version, Some(&new)).await;
            if !matches!(&found, Ok(found) if found.version == version) {
                lock(&self.local).book.adopt(local);
            }
            let found = found?;
            now = found.now;
            match found.text {
                None => {
                    *lock(&shared.known) = (version + 1, book);
                    return Ok(result);
                }
                Some(text) => *lock(&shared.known) = (found.version, decoded(&text)),
            }
            // Another sidecar's change of the book won.
            sleep(PAUSE.jittered(attempt)).await;
        }
        Err(StoreError::Late { deadline: Duration::ZERO })
    }
}

impl LocalBook {
    fn hand_over(&mut self) -> Book {
        self.is_seeded = false;
        std::mem::take(&mut self.book)
    }

    fn keep_closed(&mut self) {
        for closed in self.book.take_closed() {
            self.closed.push_front(closed);
        }
        self.closed.truncate(CLOSED_MAX);
    }
}

impl SharedBook {
    /// Reads the book if it has changed, and returns the server's time.
    async fn refresh(&self) -> Result<Timestamp, StoreError> {
        let version = lock(&self.known).0;
        let found = self.store.exchange(version, None).await?;
        if let Some(text) = found.text {
            *lock(&self.known) = (found.version, decoded(&text));
        }
        Ok(found.now)
    }

    async fn list(&self) -> Result<AlertList, StoreError> {
        let now = self.refresh().await?;
        let closed = self.store.closed(CLOSED_MAX).await?;
        let closed = closed.iter().filter_map(|text| ClosedAlert::decode(text)).collect();
        let book = lock(&self.known).1.clone();
        Ok(AlertList { book, closed, now, of_fleet: true })
    }
}

/// The book of a text: an empty one if there is none, or if it is damaged or of another version of Tollgate.
fn decoded(text: &str) -> Book {
    Book::decode(text).unwrap_or_else(|| {
        if !text.is_empty() {
            let bytes = text.len();
            tracing::error!(bytes, "the book of alerts in Redis can't be read; a new one begins");
        }
        Book::default()
    })
}
