//! Which connection a listener closes when it has too many: the one that has waited for its client longest.
//!
//! A connection waits for its client to shake hands, to send a whole request, to read the answer, and to send the next
//! request. A client that only holds connections open keeps them waiting all the time. A connection whose request is being
//! answered is never closed.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};

use axum::body::{Bytes, HttpBody};
use hyper::body::{Frame, SizeHint};
use tokio::sync::Notify;

use crate::lock::lock;

/// The connections that wait for their clients, in the order in which they began to.
#[derive(Debug, Default)]
pub struct EvictionQueue {
    waiting: Mutex<Waiting>,
    /// There is one more.
    added: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    last_ticket: u64,
    evictions: BTreeMap<u64, Arc<Notify>>,
}

/// One connection of the queue's listener.
#[derive(Debug)]
pub struct Evictable {
    queue: Arc<EvictionQueue>,
    /// It is to be closed.
    eviction: Arc<Notify>,
    /// None: it doesn't wait for its client. Of the two locks this one comes first.
    ticket: Mutex<Option<u64>>,
}

/// The body of a request; once all of it has come, its connection no longer waits.
#[derive(Debug)]
pub struct TrackedBody<B> {
    body: B,
    connection: Arc<Evictable>,
}

impl EvictionQueue {
    /// A new connection, which waits for its client.
    pub fn connection(self: &Arc<Self>) -> Arc<Evictable> {
        let (queue, eviction) = (self.clone(), Arc::default());
        let connection = Arc::new(Evictable { queue, eviction, ticket: Mutex::default() });
        connection.wait_for_client();
        connection
    }

    /// Whether any connection waits, so that it could be evicted.
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
    /// From now on it waits for its client.
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

    /// From now on its client waits for us.
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

impl<B: HttpBody> TrackedBody<B> {
    /// The body of a request on that connection.
    pub fn new(body: B, connection: Arc<Evictable>) -> Self {
        if body.is_end_stream() {
            connection.stop_waiting();
        }
        Self { body, connection }
    }
}

impl<B: HttpBody<Data = Bytes> + Unpin> HttpBody for TrackedBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if frame.is_none() || self.body.is_end_stream() {
            self.connection.stop_waiting();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use axum::body::Body;
    use futures_util::FutureExt;
    use http_body_util::BodyExt;

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

    #[tokio::test]
    async fn a_connection_waits_until_the_whole_body_has_come() {
        let queue = Arc::<EvictionQueue>::default();
        let check = async |body: Body| {
            let connection = queue.connection();
            let is_empty = body.is_end_stream();
            let body = TrackedBody::new(body, connection.clone());
            assert_eq!(queue.has_waiting(), !is_empty);
            body.collect().await.unwrap();
            assert!(!queue.has_waiting());
        };
        check(Body::empty()).await;
        check(Body::from("whole")).await;
        let pieces = ["in ", "pieces"].map(Ok::<_, Infallible>);
        check(Body::from_stream(tokio_stream::iter(pieces))).await;
    }
}
