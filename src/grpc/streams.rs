//! The streams of one connection, answered in the connection's own task.
//!
//! hyper hands over a future for each stream, to be run as a task. Most answer at once, or together with
//! others that wait for the same round trip: as tasks they would be woken on any core, and there wait for the
//! connection's lock. So streams gather here while the connection reads what has come, those that can go on
//! do, and their answers leave in one write.

use std::mem;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::task::Context;
use std::task::Poll;

use futures_util::FutureExt;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use hyper::rt::Executor;

use super::room::Place;
use super::room::Room;
use crate::metrics::Shed;

/// So many new streams at once show that the connection has been waiting for us, and some may have been taken back
/// meanwhile. Less are not worth the look.
const BACKLOG_MIN: usize = 8;

/// Where hyper leaves the streams of a connection.
#[derive(Clone)]
pub struct Streams {
    begun: Arc<Mutex<Vec<Stream>>>,
    room: Arc<Room>,
}

/// One of them.
struct Stream {
    answering: Pin<Box<dyn Future<Output = ()> + Send>>,
    place: Arc<Place>,
}

/// A connection with its streams.
pub struct Answering<C> {
    connection: C,
    streams: Streams,
    open: FuturesUnordered<Stream>,
}

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Streams {
    fn execute(&self, stream: F) {
        let place = Place::new(self.room.clone());
        let stream = place.clone().around(stream);
        // A panic ends this stream, as it would end a task, and not its connection.
        let answering = Box::pin(AssertUnwindSafe(stream).catch_unwind().map(drop));
        self.lock().push(Stream { answering, place });
    }
}

impl Streams {
    /// Streams of one connection, which stay in `room` while they are not answered.
    pub fn new(room: &Room) -> Self {
        // Its own copy, so that cores don't count references in one place.
        Self { begun: Arc::default(), room: Arc::new(room.clone()) }
    }

    /// The connection that leaves its streams here, with them. What is open when it ends is dropped.
    pub fn of<C>(self, connection: C) -> Answering<C> {
        Answering { connection, streams: self, open: FuturesUnordered::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Stream>> {
        // A list stays a list wherever a panic struck.
        self.begun.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Stream {
    /// Whether its client has taken it back before anybody has looked at it. hyper looks for that when a stream
    /// doesn't answer at once, which one that is new doesn't.
    fn is_taken_back(&mut self, cx: &mut Context<'_>) -> bool {
        let is_over = self.answering.as_mut().poll(cx).is_ready();
        if is_over {
            self.place.room().shed(Shed::TakenBack);
        }
        is_over
    }
}

impl Future for Stream {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.place.begins();
        loop {
            if self.answering.as_mut().poll(cx).is_ready() || self.place.stays(cx.waker()) {
                return Poll::Ready(());
            }
            // It gives back what it holds before others take more.
            if !self.place.is_sent_away() {
                return Poll::Pending;
            }
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.place.leave();
    }
}

impl<C> Answering<C> {
    /// The connection.
    pub fn connection(&mut self) -> &mut C {
        &mut self.connection
    }
}

impl<C: Future + Unpin> Future for Answering<C> {
    type Output = C::Output;

    /// Polls the connection and the streams that it has brought, until neither goes on.
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<C::Output> {
        loop {
            let polled = self.connection.poll_unpin(cx);
            if polled.is_ready() {
                return polled;
            }
            let mut begun = mem::take(&mut *self.streams.lock());
            if BACKLOG_MIN <= begun.len() {
                begun.retain_mut(|stream| !stream.is_taken_back(cx));
            }
            self.open.extend(begun);
            let mut has_answered = false;
            while let Poll::Ready(Some(())) = self.open.poll_next_unpin(cx) {
                has_answered = true;
            }
            if !has_answered {
                return polled;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::future::poll_fn;
    use std::task::Waker;

    use tokio::sync::oneshot;

    use super::*;

    fn poll<C: Future + Unpin>(answering: &mut Answering<C>) -> Poll<C::Output> {
        answering.poll_unpin(&mut Context::from_waker(Waker::noop()))
    }

    #[tokio::test]
    async fn a_stream_answers_when_it_can() {
        let streams = Streams::new(&Room::new(Arc::default()));
        let mut answering = streams.clone().of(pending::<()>());
        let (question, asked) = oneshot::channel::<u8>();
        let (answer, mut answered) = oneshot::channel();
        streams.execute(async { answer.send(asked.await.unwrap()).unwrap() });
        assert!(poll(&mut answering).is_pending() && answered.try_recv().is_err());
        question.send(2).unwrap();
        assert!(poll(&mut answering).is_pending());
        assert_eq!(answered.try_recv(), Ok(2));
    }

    #[tokio::test]
    async fn a_connection_is_polled_again_after_its_streams() {
        let streams = Streams::new(&Room::new(Arc::default()));
        let brings = streams.clone();
        let mut polls = 0;
        let connection = poll_fn(|_| {
            polls += 1;
            match polls {
                1 | 2 => brings.execute(async {}),
                _ => return Poll::Ready(polls),
            }
            Poll::Pending
        });
        assert_eq!(poll(&mut streams.of(connection)), Poll::Ready(3));
    }

    #[tokio::test]
    async fn a_panic_ends_no_more_than_its_stream() {
        let streams = Streams::new(&Room::new(Arc::default()));
        let mut answering = streams.clone().of(pending::<()>());
        let (answer, mut answered) = oneshot::channel();
        streams.execute(async { panic!("on purpose") });
        streams.execute(async { answer.send(1).unwrap() });
        assert!(poll(&mut answering).is_pending());
        assert_eq!(answered.try_recv(), Ok(1));
    }
}
