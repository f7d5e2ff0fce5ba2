//! Keeps the book of alerts: in memory, or in Redis for a fleet.
//!
//! A change is made on a copy, which replaces the book in Redis if nobody else has changed it meanwhile; else it is made
//! again. While Redis is unavailable, a book in memory takes its place, so that an outage of Redis itself is told, by each
//! sidecar. It is merged into the book in Redis afterwards, without being told again.

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
    /// The process ends, and what the book has is lost.
    is_ending: bool,
}

/// The book in Redis, and the copy of its last known version.
#[derive(Debug)]
struct SharedBook {
    store: Arc<RedisAlertBook>,
    known: Mutex<(u64, Book)>,
}

/// The book of an outage while it is merged. It goes back if that fails, or if it is cancelled, as when a client is gone.
#[derive(Debug)]
struct HandedOver<'k> {
    keeper: &'k Keeper,
    book: Book,
    is_merged: bool,
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
        self.begin_outage(&mut local);
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
            && let Ok(now) = self.refresh(shared).await
        {
            return (lock(&shared.known).1.clone(), now);
        }
        let mut local = lock(&self.local);
        self.begin_outage(&mut local);
        (local.book.clone(), self.clock.now().timestamp())
    }

    /// The open alerts, and those that were closed.
    pub async fn list(&self) -> AlertList {
        if let Some(shared) = &self.shared
            && let Ok(list) = self.list_shared(shared).await
        {
            return list;
        }
        let mut local = lock(&self.local);
        self.begin_outage(&mut local);
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

    /// Begins the book of an outage with what is known of the one in Redis, which is not told again.
    fn begin_outage(&self, local: &mut LocalBook) {
        if let Some(shared) = self.shared.as_ref().filter(|_| !local.book.is_of_outage()) {
            let (version, known) = &*lock(&shared.known);
            local.book = Book::of_outage(*version, known);
        }
    }

    fn hand_over(&self) -> HandedOver<'_> {
        HandedOver { keeper: self, book: lock(&self.local).hand_over(), is_merged: false }
    }

    /// Reads the book if it has changed, and returns the server's time.
    async fn refresh(&self, shared: &SharedBook) -> Result<Timestamp, StoreError> {
        let version = lock(&shared.known).0;
        let found = shared.store.exchange(version, None).await?;
        if let Some(text) = found.text {
            self.learn(shared, (version, found.version), &text);
        }
        Ok(found.now)
    }

    /// Takes the book that was found. If Redis has lost a later one, as after a restart without persistence, what is known of
    /// that is merged as after an outage.
    fn learn(&self, shared: &SharedBook, (version, found): (u64, u64), text: &str) {
        if found < version {
            self.begin_outage(&mut lock(&self.local));
        }
        *lock(&shared.known) = (found, decoded(text));
    }

    async fn list_shared(&self, shared: &SharedBook) -> Result<AlertList, StoreError> {
        let now = self.refresh(shared).await?;
        let closed = shared.store.closed(CLOSED_MAX).await?;
        let closed = closed.iter().filter_map(|text| ClosedAlert::decode(text)).collect();
        let book = lock(&shared.known).1.clone();
        Ok(AlertList { book, closed, now, of_fleet: true })
    }

    async fn change_shared<T>(
        &self,
        shared: &SharedBook,
        change: &impl Fn(&mut Book, Timestamp) -> T,
    ) -> Result<T, StoreError> {
        let mut now = self.refresh(shared).await?;
        for attempt in 0..ATTEMPTS_MAX {
            let (version, before) = lock(&shared.known).clone();
            let mut book = before.clone();
            let mut handed = self.hand_over();
            let forgotten = book.merge(handed.book.clone(), version, now);
            let result = change(&mut book, now);
            let closed = book.take_closed();
            if book == before && closed.is_empty() {
                handed.is_merged = true;
                return Ok(result);
            }
            let closed = closed.iter().map(ClosedAlert::encode).collect();
            let new = BookChange { text: book.encode(), closed, closed_max: CLOSED_MAX };
            let found = shared.store.exchange(version, Some(&new)).await;
            handed.is_merged = matches!(&found, Ok(found) if found.version == version);
            if handed.is_merged && forgotten != 0 {
                tracing::warn!(
                    forgotten,
                    "changes of alerts in an outage of Redis are lost: there were too many"
                );
            }
            drop(handed);
            let found = found?;
            now = found.now;
            match found.text {
                None => {
                    *lock(&shared.known) = (version + 1, book);
                    return Ok(result);
                }
                Some(text) => self.learn(shared, (version, found.version), &text),
            }
            // Another sidecar's change of the book won.
            sleep(PAUSE.jittered(attempt)).await;
        }
        Err(StoreError::Late { deadline: Duration::ZERO })
    }
}

impl Drop for HandedOver<'_> {
    fn drop(&mut self) {
        if !self.is_merged {
            let (book, now) = (std::mem::take(&mut self.book), self.keeper.clock.now().timestamp());
            lock(&self.keeper.local).take_back(book, now);
        }
    }
}

impl LocalBook {
    fn hand_over(&mut self) -> Book {
        std::mem::take(&mut self.book)
    }

    /// Takes back the book of an outage that was handed over. Another one may have been begun meanwhile.
    fn take_back(&mut self, book: Book, now: Timestamp) {
        if book.is_of_outage() {
            let later = std::mem::replace(&mut self.book, book);
            self.book.resume(later, now);
        }
    }

    fn keep_closed(&mut self) {
        for closed in self.book.take_closed() {
            self.closed.push_front(closed);
        }
        self.closed.truncate(CLOSED_MAX);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_book_of_an_outage_goes_back_if_its_merge_is_cancelled() {
        let keeper = Keeper::new(Clock::system(), None);
        lock(&keeper.local).book = Book::of_outage(7, &Book::default());
        let has_outage = || lock(&keeper.local).book.is_of_outage();
        let handed = keeper.hand_over();
        assert!(!has_outage() && handed.book.is_of_outage());
        drop(handed);
        assert!(has_outage());
        let mut handed = keeper.hand_over();
        handed.is_merged = true;
        drop(handed);
        assert!(!has_outage());
    }
}
