//! The streams of one connection, begun together in the connection's own task.
//!
//! hyper hands over a future for each stream, to be run as a task. Most answer at once: for them a task is
//! only a detour over the scheduler, often to another core, which then waits for the connection's lock. So
//! streams gather here while the connection reads what has come, are polled once, and their answers leave
//! in one write. What does not answer at once becomes a task.

use std::mem;
use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::task::Context;
use std::task::Poll;
use std::task::Waker;

use hyper::rt::Executor;
use hyper_util::rt::TokioExecutor;

type Stream = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Where the streams of a connection gather.
#[derive(Clone, Default)]
pub struct Streams(Arc<Mutex<Vec<Stream>>>);

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Streams {
    fn execute(&self, stream: F) {
        self.lock().push(Box::pin(stream));
    }
}

impl Streams {
    /// Polls a connection, and begins the streams that it has brought, until nothing more has come.
    pub fn poll<C: Future>(
        &self,
        mut connection: Pin<&mut C>,
        cx: &mut Context<'_>,
    ) -> Poll<C::Output> {
        let mut begun = Vec::new();
        loop {
            let polled = connection.as_mut().poll(cx);
            mem::swap(&mut *self.lock(), &mut begun);
            if polled.is_ready() || begun.is_empty() {
                return polled;
            }
            begun.drain(..).for_each(begin);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Stream>> {
        // A list stays a list wherever a panic struck.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Polls a stream once, and makes it a task if that is not all.
fn begin(mut stream: Stream) {
    let mut idle = Context::from_waker(Waker::noop());
    // A panic ends this stream, as it would end a task, and not its connection.
    let polled = catch_unwind(AssertUnwindSafe(|| stream.as_mut().poll(&mut idle)));
    if polled.is_ok_and(|polled| polled.is_pending()) {
        TokioExecutor::new().execute(stream);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::future::pending;
    use std::future::poll_fn;
    use std::pin::pin;

    use tokio::sync::oneshot;

    use super::*;

    fn poll<C: Future>(streams: &Streams, connection: Pin<&mut C>) -> Poll<C::Output> {
        streams.poll(connection, &mut Context::from_waker(Waker::noop()))
    }

    #[tokio::test]
    async fn a_stream_that_answers_at_once_is_no_task() {
        let streams = Streams::default();
        let (answer, mut answered) = oneshot::channel();
        streams.execute(async { answer.send(1).unwrap() });
        assert!(poll(&streams, pin!(pending::<()>())).is_pending());
        assert_eq!(answered.try_recv(), Ok(1));
    }

    #[tokio::test]
    async fn a_stream_that_waits_goes_on_as_a_task() {
        let streams = Streams::default();
        let (question, asked) = oneshot::channel::<u8>();
        let (answer, answered) = oneshot::channel();
        streams.execute(async { answer.send(asked.await.unwrap()).unwrap() });
        assert!(poll(&streams, pin!(pending::<()>())).is_pending());
        question.send(2).unwrap();
        assert_eq!(answered.await, Ok(2));
    }

    #[tokio::test]
    async fn a_connection_is_polled_again_after_its_streams() {
        let streams = Streams::default();
        let polls = Cell::new(0);
        let connection = pin!(poll_fn(|_| {
            polls.set(polls.get() + 1);
            if polls.get() < 3 {
                streams.execute(async {});
            }
            Poll::<()>::Pending
        }));
        assert!(poll(&streams, connection).is_pending());
        assert_eq!(polls.get(), 3);
    }

    #[tokio::test]
    async fn a_panic_ends_no_more_than_its_stream() {
        let streams = Streams::default();
        let (answer, mut answered) = oneshot::channel();
        streams.execute(async { panic!("on purpose") });
        streams.execute(async { answer.send(1).unwrap() });
        assert!(poll(&streams, pin!(pending::<()>())).is_pending());
        assert_eq!(answered.try_recv(), Ok(1));
    }
}
