//! What the open pages are told of: one reading of the process for all of them, and only while there are some.

use std::sync::Arc;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};

/// Maximum number of open pages that are updated.
pub const STREAMS_MAX: usize = 64;

/// The parts of pages that change, as HTML.
#[derive(Clone, Debug, Default)]
pub struct Update {
    pub overview: Arc<str>,
    pub providers: Arc<str>,
}

/// The last update, and the pages that wait for the next.
#[derive(Debug)]
pub struct Live {
    latest: watch::Sender<Option<Update>>,
    places: Arc<Semaphore>,
    opened: Notify,
}

/// A page that is updated.
#[derive(Debug)]
pub struct Subscription {
    pub updates: watch::Receiver<Option<Update>>,
    _place: OwnedSemaphorePermit,
}

impl Default for Live {
    fn default() -> Self {
        Self {
            latest: watch::Sender::new(None),
            places: Arc::new(Semaphore::new(STREAMS_MAX)),
            opened: Notify::new(),
        }
    }
}

impl Live {
    /// Subscribes a page; None if there are too many.
    pub fn subscribe(&self) -> Option<Subscription> {
        let place = self.places.clone().try_acquire_owned().ok()?;
        let updates = self.latest.subscribe();
        self.opened.notify_one();
        Some(Subscription { updates, _place: place })
    }

    /// The last update, if pages are open.
    pub fn latest(&self) -> Option<Update> {
        self.latest.borrow().clone()
    }

    /// Returns when a page is open.
    pub async fn wanted(&self) {
        while self.latest.receiver_count() == 0 {
            self.opened.notified().await;
        }
    }

    /// Whether a page is open.
    pub fn is_wanted(&self) -> bool {
        0 < self.latest.receiver_count()
    }

    /// Sends an update to all pages.
    pub fn publish(&self, update: Option<Update>) {
        self.latest.send_replace(update);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_pages_is_bounded_and_a_closed_one_leaves_its_place() {
        let live = Live::default();
        let mut pages: Vec<_> = (0..STREAMS_MAX).map(|_| live.subscribe().unwrap()).collect();
        assert!(live.subscribe().is_none());
        pages.pop();
        assert!(live.subscribe().is_some());
        pages.clear();
        assert!(!live.is_wanted());
    }
}
