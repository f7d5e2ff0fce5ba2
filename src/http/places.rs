//! The places of a listener's connections, and whose is taken when there is none left.
//!
//! A connection owes while something is up to its client: to shake hands, to send a request whole, to read the answer, to
//! ask again. Who wants nothing but to hold places owes all the time. So when all are taken, the one goes that has owed
//! for longest, and never one whose request is being answered.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::task::Context;
use std::task::Poll;
use std::task::ready;

use axum::body::Bytes;
use axum::body::HttpBody;
use hyper::body::Frame;
use hyper::body::SizeHint;
use tokio::sync::Notify;

/// Whose connections owe, from the one that has for longest.
#[derive(Debug, Default)]
pub struct Places {
    owing: Mutex<Owing>,
    /// That there is one more.
    came: Notify,
}

#[derive(Debug, Default)]
struct Owing {
    last_ticket: u64,
    ends: BTreeMap<u64, Arc<Notify>>,
}

/// The place of one connection.
#[derive(Debug)]
pub struct Place {
    places: Arc<Places>,
    /// Says that it is taken.
    end: Arc<Notify>,
    /// None: it doesn't owe. Of the two locks this one comes first.
    ticket: Mutex<Option<u64>>,
}

/// The body of a request, which tells when all of it has come.
#[derive(Debug)]
pub struct Arriving<B> {
    body: B,
    place: Arc<Place>,
}

impl Places {
    /// A place for a new connection, which owes.
    pub fn place(self: &Arc<Self>) -> Arc<Place> {
        let (places, end) = (self.clone(), Arc::default());
        let place = Arc::new(Place { places, end, ticket: Mutex::default() });
        place.owes();
        place
    }

    /// Whether one could be taken.
    pub fn has_owing(&self) -> bool {
        !lock(&self.owing).ends.is_empty()
    }

    /// Waits until it is worth the while to ask that again.
    pub async fn owing_came(&self) {
        self.came.notified().await;
    }

    /// Takes the place that has owed for longest; false if none owes.
    pub fn take(&self) -> bool {
        let longest = lock(&self.owing).ends.pop_first();
        longest.is_some_and(|(_, end)| {
            end.notify_one();
            true
        })
    }
}

impl Place {
    /// From now on something is up to the client.
    pub fn owes(&self) {
        let mut ticket = lock(&self.ticket);
        let mut owing = lock(&self.places.owing);
        owing.last_ticket += 1;
        let new = owing.last_ticket;
        owing.ends.insert(new, self.end.clone());
        if let Some(old) = ticket.replace(new) {
            owing.ends.remove(&old);
        }
        self.places.came.notify_one();
    }

    /// From now on something is up to us.
    pub fn has_paid(&self) {
        if let Some(old) = lock(&self.ticket).take() {
            lock(&self.places.owing).ends.remove(&old);
        }
    }

    /// Waits until the place is taken.
    pub async fn taken(&self) {
        self.end.notified().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.has_paid();
    }
}

impl<B: HttpBody> Arriving<B> {
    /// The body of a request on the connection of that place.
    pub fn new(body: B, place: Arc<Place>) -> Self {
        if body.is_end_stream() {
            place.has_paid();
        }
        Self { body, place }
    }
}

impl<B: HttpBody<Data = Bytes> + Unpin> HttpBody for Arriving<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if frame.is_none() || self.body.is_end_stream() {
            self.place.has_paid();
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

/// Locks what is whole wherever a panic struck: nothing here panics between two steps.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use futures_util::FutureExt;
    use http_body_util::BodyExt;

    use super::*;

    /// Takes a place, and checks that it is that of `expected`.
    #[track_caller]
    fn check(places: &Places, expected: Option<&Place>) {
        assert_eq!(places.take(), expected.is_some());
        if let Some(expected) = expected {
            assert!(expected.taken().now_or_never().is_some());
        }
    }

    #[test]
    fn the_place_that_has_owed_for_longest_is_taken() {
        let places = Arc::<Places>::default();
        let [first, second, third, fourth] = [(); 4].map(|()| places.place());
        first.owes();
        second.has_paid();
        drop(third);
        check(&places, Some(&fourth));
        check(&places, Some(&first));
        check(&places, None);
        assert!(second.taken().now_or_never().is_none() && !places.has_owing());
        second.owes();
        check(&places, Some(&second));
    }

    #[tokio::test]
    async fn a_request_is_owed_until_its_body_has_come() {
        let places = Arc::<Places>::default();
        let check = async |body: Body| {
            let place = places.place();
            let is_empty = body.is_end_stream();
            let body = Arriving::new(body, place.clone());
            assert_eq!(places.has_owing(), !is_empty);
            body.collect().await.unwrap();
            assert!(!places.has_owing());
        };
        check(Body::empty()).await;
        check(Body::from("whole")).await;
        let pieces = ["in ", "pieces"].map(Ok::<_, std::convert::Infallible>);
        check(Body::from_stream(tokio_stream::iter(pieces))).await;
    }
}
