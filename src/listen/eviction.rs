//! Selects the connection that a listener closes when it has too many: the one that has waited for its client longest.
//!
//! A connection waits for its client during the handshake, while the request is incomplete, while the answer is unread,
//! and until the next request. An idle client therefore makes its connection wait all the time. A connection whose
//! request is being answered is never closed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use tokio::sync::Notify;

use crate::lock::lock;

/// The connections that wait for their clients, oldest wait first.
#[derive(Debug, Default)]
pub struct EvictionQueue {
    waiting: Mutex<Waiting>,
    /// Notified when a connection begins to wait.
    added: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    last_ticket: u64,
    evictions: BTreeMap<u64, Arc<Notify>>,
}

/// One connection of a listener.
#[derive(Debug)]
pub struct Evictable {
    queue: Arc<EvictionQueue>,
    /// Notified when it must close.
    eviction: Arc<Notify>,
    /// None: it doesn't wait for its client. Lock order: this lock before that of the queue.
    ticket: Mutex<Option<u64>>,
}

impl EvictionQueue {
    /// A new connection, which doesn't wait yet.
    pub fn connection(self: &Arc<Self>) -> Arc<Evictable> {
        let (queue, eviction) = (self.clone(), Arc::default());
        Arc::new(Evictable { queue, eviction, ticket: Mutex::default() })
    }

    /// Whether a connection waits, so that it can be evicted.
    pub fn has_waiting(&self) -> bool {
        !lock(&self.waiting).evictions.is_empty()
    }

    /// Waits until [`Self::has_waiting`] may have changed.
    pub async fn waiting_added(&self) {
        self.added.notified().await;
    }

    /// Evicts the connection that has waited longest; false if none waits.
    pub fn evict(&self) -> bool {
        let longest = lock(&self.waiting).evictions.pop_first();
        longest.is_some_and(|(_, eviction)| {
            eviction.notify_one();
            true
        })
    }
}

impl Evictable {
    /// It waits for its client from now on.
    pub fn wait_for_client(&self) {
        let mut ticket = lock(&self.ticket);
        let mut waiting = lock(&self.queue.waiting);
        waiting.last_ticket += 1;
        let new = waiting.last_ticket;
        waiting.evictions.insert(new, self.eviction.clone());
        if let Some(old) = ticket.replace(new) {
            waiting.evictions.remove(&old);
        }
        self.queue.added.notify_one();
    }

    /// It no longer waits for its client.
    pub fn stop_waiting(&self) {
        if let Some(old) = lock(&self.ticket).take() {
            lock(&self.queue.waiting).evictions.remove(&old);
        }
    }

    /// Waits until the connection is evicted.
    pub async fn evicted(&self) {
        self.eviction.notified().await;
    }
}

impl Drop for Evictable {
    fn drop(&mut self) {
        self.stop_waiting();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    /// Evicts a connection, and checks that it is `expected`.
    #[track_caller]
    fn check(queue: &EvictionQueue, expected: Option<&Evictable>) {
        assert_eq!(queue.evict(), expected.is_some());
        if let Some(expected) = expected {
            assert!(expected.evicted().now_or_never().is_some());
        }
    }

    #[test]
    fn the_connection_that_has_waited_longest_is_evicted() {
        let queue = Arc::<EvictionQueue>::default();
        let [first, second, third, fourth] = [(); 4].map(|()| queue.connection());
        for connection in [&first, &second, &third, &fourth] {
            connection.wait_for_client();
        }
        first.wait_for_client();
        second.stop_waiting();
        drop(third);
        check(&queue, Some(&fourth));
        check(&queue, Some(&first));
        check(&queue, None);
        assert!(second.evicted().now_or_never().is_none() && !queue.has_waiting());
        second.wait_for_client();
        check(&queue, Some(&second));
    }
}
