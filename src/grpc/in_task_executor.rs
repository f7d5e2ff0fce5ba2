//! Runs the streams of a connection in the connection's own task.
//!
//! hyper passes one future per stream, to be spawned as a task. Most streams answer at once, or together with others
//! that wait for the same round trip. As tasks they would be woken on any core, and wait there for the connection's
//! lock. So streams are collected here while the connection reads its socket, then polled, and their answers leave in
//! one write.

use std::collections::VecDeque;
use std::mem;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use hyper::rt::Executor;

use super::memory_budget::{MemoryBudget, Reservation};
use crate::engine::{AdmissionControl, AdmissionGate};
use crate::lock::lock;
use crate::metrics::Shed;

/// Maximum number of new streams that a connection starts in one turn, before other connections have theirs.
///
/// So a connection with a thousand streams delays others by only some tenths of a millisecond. Most of the turn goes to
/// the newest streams, whose clients still wait, and some of it to the oldest, which may be late but need an answer.
struct Turn {
    newest: usize,
    oldest: usize,
}

impl Default for Turn {
    fn default() -> Self {
        Self { newest: 32, oldest: 8 }
    }
}

/// Takes the streams of one connection from hyper.
#[derive(Clone)]
pub struct InTaskExecutor {
    new: Arc<Mutex<Vec<Stream>>>,
    budget: Arc<MemoryBudget>,
    admission: Arc<AdmissionControl>,
}

/// One stream.
struct Stream {
    future: Pin<Box<dyn Future<Output = ()> + Send>>,
    reservation: Arc<Reservation>,
}

/// A connection that runs its streams itself.
pub struct Connection<C> {
    connection: C,
    streams: InTaskExecutor,
    /// Streams that have not started, oldest first.
    waiting: VecDeque<Stream>,
    open: FuturesUnordered<Stream>,
    gate: AdmissionGate,
}

impl Turn {
    /// Takes at most `permits` of each.
    fn take(&mut self, permits: usize) -> Self {
        let taken = Self { newest: self.newest.min(permits), oldest: self.oldest.min(permits) };
        self.newest -= taken.newest;
        self.oldest -= taken.oldest;
        taken
    }

    /// Returns the unused rest.
    fn put_back(&mut self, rest: &Self) {
        self.newest += rest.newest;
        self.oldest += rest.oldest;
    }
}

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for InTaskExecutor {
    fn execute(&self, stream: F) {
        let reservation = Reservation::new(self.budget.clone());
        let stream = reservation.clone().around(stream);
        // A panic ends this stream, as it would end a task, and not its connection.
        let future = Box::pin(AssertUnwindSafe(stream).catch_unwind().map(drop));
        lock(&self.new).push(Stream { future, reservation });
    }
}

impl InTaskExecutor {
    /// The executor of one connection, whose open streams reserve memory of `budget`.
    pub fn new(budget: &MemoryBudget, admission: Arc<AdmissionControl>) -> Self {
        // Its own copy, so that cores don't count references in one place.
        Self { new: Arc::default(), budget: Arc::new(budget.of_connection()), admission }
    }

    /// Wraps the connection that uses this executor. Open streams are dropped when it ends.
    pub fn of<C>(self, connection: C) -> Connection<C> {
        Connection {
            connection,
            gate: AdmissionGate::new(self.admission.clone()),
            streams: self,
            waiting: VecDeque::new(),
            open: FuturesUnordered::new(),
        }
    }
}

impl Stream {
    /// Whether its client reset it before it started. hyper checks for a reset only when a polled stream is pending, so
    /// not before the stream starts.
    fn is_reset(&mut self, cx: &mut Context<'_>) -> bool {
        let is_over = self.future.as_mut().poll(cx).is_ready();
        if is_over {
            self.reservation.budget().shed(Shed::TakenBack);
        }
        is_over
    }
}

impl Future for Stream {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.reservation.begin();
        loop {
            if self.future.as_mut().poll(cx).is_ready() || self.reservation.hold(cx.waker()) {
                return Poll::Ready(());
            }
            // Releases its memory before others reserve more.
            if !self.reservation.is_evicted() {
                return Poll::Pending;
            }
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.reservation.release();
    }
}

impl<C> Connection<C> {
    /// The connection.
    pub fn connection(&mut self) -> &mut C {
        &mut self.connection
    }

    /// The number of streams that may start, if any wait. If none may, the connection is woken as soon as one may.
    fn permits(&self, cx: &Context<'_>) -> usize {
        let is_idle = self.waiting.is_empty() && lock(&self.streams.new).is_empty();
        if is_idle { 0 } else { self.gate.free(cx.waker()) }
    }

    /// Starts as many streams as the turn allows, and all evicted ones. The others wait, and reserve memory.
    fn begin(&mut self, turn: &mut Turn, cx: &mut Context<'_>) {
        let mut begun = mem::take(&mut *lock(&self.streams.new));
        if turn.newest < begun.len() {
            // They have waited, and some may have been reset.
            begun.retain_mut(|stream| !stream.is_reset(cx));
        }
        let newest = begun.split_off(begun.len().saturating_sub(turn.newest));
        turn.newest -= newest.len();
        self.open.extend(newest);
        for stream in begun {
            stream.reservation.hold(cx.waker());
            match stream.reservation.is_evicted() {
                true => self.open.push(stream),
                false => self.waiting.push_back(stream),
            }
        }
        while 0 < turn.newest
            && let Some(newest) = self.waiting.pop_back()
        {
            turn.newest -= usize::from(self.begin_with(newest, cx));
        }
        let is_evicted = |oldest: &Stream| oldest.reservation.is_evicted();
        while (0 < turn.oldest || self.waiting.front().is_some_and(is_evicted))
            && let Some(oldest) = self.waiting.pop_front()
        {
            let has_begun = self.begin_with(oldest, cx);
            turn.oldest = turn.oldest.saturating_sub(usize::from(has_begun));
        }
    }

    /// Starts a stream that has waited, unless it was reset.
    fn begin_with(&mut self, mut stream: Stream, cx: &mut Context<'_>) -> bool {
        let is_wanted = !stream.is_reset(cx);
        if is_wanted {
            self.open.push(stream);
        }
        is_wanted
    }
}

impl<C: Future + Unpin> Future for Connection<C> {
    type Output = C::Output;

    /// Polls the connection and its streams until neither makes progress or the turn is over.
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<C::Output> {
        let mut turn = Turn::default();
        loop {
            let polled = self.connection.poll_unpin(cx);
            if polled.is_ready() {
                return polled;
            }
            let permits = self.permits(cx);
            let mut part = turn.take(permits);
            self.begin(&mut part, cx);
            turn.put_back(&part);
            let mut has_answered = false;
            while let Poll::Ready(Some(())) = self.open.poll_next_unpin(cx) {
                has_answered = true;
            }
            if !has_answered {
                if !self.waiting.is_empty() && permits != 0 {
                    // The next turn, after those of other connections.
                    cx.waker().wake_by_ref();
                }
                self.gate.finish_round();
                return polled;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, poll_fn};
    use std::sync::atomic::Ordering::Relaxed;
    use std::sync::atomic::{AtomicBool, AtomicUsize};
    use std::task::{Wake, Waker};

    use tokio::sync::oneshot;

    use super::*;

    fn poll<C: Future + Unpin>(connection: &mut Connection<C>) -> Poll<C::Output> {
        connection.poll_unpin(&mut Context::from_waker(Waker::noop()))
    }

    #[tokio::test]
    async fn a_stream_answers_when_it_can() {
        let streams = InTaskExecutor::new(&MemoryBudget::new(Arc::default()), Arc::default());
        let mut connection = streams.clone().of(pending::<()>());
        let (question, asked) = oneshot::channel::<u8>();
        let (answer, mut answered) = oneshot::channel();
        streams.execute(async { answer.send(asked.await.unwrap()).unwrap() });
        assert!(poll(&mut connection).is_pending() && answered.try_recv().is_err());
        question.send(2).unwrap();
        assert!(poll(&mut connection).is_pending());
        assert_eq!(answered.try_recv(), Ok(2));
    }

    #[tokio::test]
    async fn a_connection_is_polled_again_after_its_streams() {
        let streams = InTaskExecutor::new(&MemoryBudget::new(Arc::default()), Arc::default());
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

    /// Streams that record their numbers when they start. Those in `reset` end before.
    fn begin_many(
        streams: &InTaskExecutor,
        count: usize,
    ) -> (Arc<Mutex<Vec<usize>>>, Arc<AtomicUsize>) {
        let noted = Arc::<Mutex<Vec<usize>>>::default();
        let reset = Arc::<AtomicUsize>::default();
        for number in 0..count {
            let (noted, reset) = (noted.clone(), reset.clone());
            streams.execute(async move {
                let reservation = Reservation::here();
                let is_kept = || reset.load(Relaxed) <= number;
                poll_fn(|cx| match is_kept() {
                    true => reservation.poll_started(cx),
                    false => Poll::Ready(()),
                })
                .await;
                if is_kept() {
                    noted.lock().unwrap().push(number);
                }
            });
        }
        (noted, reset)
    }

    #[tokio::test]
    async fn the_newest_streams_start_first_and_waiting_ones_reserve_memory() {
        const COUNT: usize = 100;
        let budget = MemoryBudget::new(Arc::default());
        let streams = InTaskExecutor::new(&budget, Arc::default());
        let mut connection = streams.clone().of(pending::<()>());
        let (noted, _) = begin_many(&streams, COUNT);
        let Turn { newest, oldest } = Turn::default();
        let last = COUNT - newest;
        let mut check = |expected: &mut dyn Iterator<Item = usize>, is_held| {
            noted.lock().unwrap().clear();
            assert!(poll(&mut connection).is_pending());
            assert_eq!(*noted.lock().unwrap(), expected.collect::<Vec<_>>());
            assert_eq!(0 < budget.metrics().shed.held.get(), is_held);
        };
        check(&mut (last..COUNT).chain(0..oldest), true);
        check(&mut (last - newest..last).rev().chain(oldest..2 * oldest), true);
        check(&mut (2 * oldest..last - newest).rev(), false);
        check(&mut (0..0), false);
    }

    #[tokio::test]
    async fn a_stream_that_is_reset_while_it_waits_costs_no_turn() {
        const COUNT: usize = 400;
        let budget = MemoryBudget::new(Arc::default());
        let streams = InTaskExecutor::new(&budget, Arc::default());
        let mut connection = streams.clone().of(pending::<()>());
        let (noted, reset) = begin_many(&streams, COUNT);
        let Turn { newest, oldest } = Turn::default();
        assert!(poll(&mut connection).is_pending());
        assert_eq!(noted.lock().unwrap().len(), newest + oldest);
        reset.store(COUNT - newest - 1, Relaxed);
        assert!(poll(&mut connection).is_pending());
        assert_eq!(noted.lock().unwrap().last(), Some(&(COUNT - newest - 1)));
        assert_eq!(noted.lock().unwrap().len(), newest + oldest + 1);
        assert_eq!(budget.metrics().shed.held.get(), 0);
    }

    #[tokio::test]
    async fn an_evicted_stream_is_answered_before_its_turn() {
        const COUNT: usize = 1_000;
        let budget = MemoryBudget::new(Arc::default());
        let streams = InTaskExecutor::new(&budget, Arc::default());
        let mut connection = streams.clone().of(pending::<()>());
        let (noted, _) = begin_many(&streams, COUNT);
        let Turn { newest, oldest } = Turn::default();
        assert!(poll(&mut connection).is_pending());
        assert_eq!(noted.lock().unwrap().len(), newest + oldest);
        // Another request takes the whole budget.
        let other = Reservation::new(Arc::new(budget));
        other.begin();
        other.message_complete();
        other.grow(64 * 1024 * 1024);
        assert!(!other.hold(Waker::noop()));
        assert!(poll(&mut connection).is_pending());
        assert_eq!(noted.lock().unwrap().len(), COUNT);
    }

    #[tokio::test]
    async fn streams_wait_while_enough_wait_for_the_store() {
        let admission = Arc::<AdmissionControl>::default();
        let streams = InTaskExecutor::new(&MemoryBudget::new(Arc::default()), admission.clone());
        let mut connection = streams.clone().of(pending::<()>());
        let (noted, _) = begin_many(&streams, 3);
        let mut asking = Vec::new();
        let others = AdmissionGate::new(admission.clone());
        while others.free(Waker::noop()) != 0 {
            asking.push(admission.permit());
        }
        drop(others);
        let woken = Arc::<Woken>::default();
        let waker = Waker::from(woken.clone());
        let mut poll = || connection.poll_unpin(&mut Context::from_waker(&waker));
        assert!(poll().is_pending());
        assert_eq!((noted.lock().unwrap().len(), woken.0.load(Relaxed)), (0, false));
        asking.pop();
        assert!(woken.0.load(Relaxed) && poll().is_pending());
        assert_eq!(*noted.lock().unwrap(), [2, 0, 1]);
    }

    /// Whether it was woken.
    #[derive(Default)]
    struct Woken(AtomicBool);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Relaxed);
        }
    }

    #[tokio::test]
    async fn a_panic_ends_no_more_than_its_stream() {
        let streams = InTaskExecutor::new(&MemoryBudget::new(Arc::default()), Arc::default());
        let mut connection = streams.clone().of(pending::<()>());
        let (answer, mut answered) = oneshot::channel();
        streams.execute(async { panic!("on purpose") });
        streams.execute(async { answer.send(1).unwrap() });
        assert!(poll(&mut connection).is_pending());
        assert_eq!(answered.try_recv(), Ok(1));
    }
}
