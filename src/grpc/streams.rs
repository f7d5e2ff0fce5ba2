//! The streams of one connection, answered in the connection's own task.
//!
//! hyper hands over a future for each stream, to be run as a task. Most answer at once, or together with
//! others that wait for the same round trip: as tasks they would be woken on any core, and there wait for the
//! connection's lock. So streams gather here while the connection reads what has come, those that can go on
//! do, and their answers leave in one write.

use std::collections::VecDeque;
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
use crate::engine::AdmissionControl;
use crate::engine::AdmissionGate;
use crate::metrics::Shed;

/// How many streams a connection begins with before others have their turn, if so many may begin at all.
///
/// So one that has a thousand costs those with few no more than some tenths of a millisecond, however many such ones
/// there are beside it. Most are those that came last, as their clients still wait; some those that came first, which
/// may be too late by now, but are to be told.
struct Turn {
    newest: usize,
    oldest: usize,
}

impl Default for Turn {
    fn default() -> Self {
        Self { newest: 32, oldest: 8 }
    }
}

/// Where hyper leaves the streams of a connection.
#[derive(Clone)]
pub struct Streams {
    begun: Arc<Mutex<Vec<Stream>>>,
    room: Arc<Room>,
    admission: Arc<AdmissionControl>,
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
    /// Those that wait for a turn, the first that came first.
    waiting: VecDeque<Stream>,
    open: FuturesUnordered<Stream>,
    gate: AdmissionGate,
}

impl Turn {
    /// Takes as much of each as there is room for.
    fn take(&mut self, room: usize) -> Self {
        let taken = Self { newest: self.newest.min(room), oldest: self.oldest.min(room) };
        self.newest -= taken.newest;
        self.oldest -= taken.oldest;
        taken
    }

    /// Puts back what is left of what was taken.
    fn put_back(&mut self, rest: &Self) {
        self.newest += rest.newest;
        self.oldest += rest.oldest;
    }
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
    pub fn new(room: &Room, admission: Arc<AdmissionControl>) -> Self {
        // Its own copy, so that cores don't count references in one place.
        Self { begun: Arc::default(), room: Arc::new(room.of_connection()), admission }
    }

    /// The connection that leaves its streams here, with them. What is open when it ends is dropped.
    pub fn of<C>(self, connection: C) -> Answering<C> {
        Answering {
            connection,
            gate: AdmissionGate::new(self.admission.clone()),
            streams: self,
            waiting: VecDeque::new(),
            open: FuturesUnordered::new(),
        }
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

    /// How many streams there is room for, if there are any; if there is none, the connection is woken when there is.
    fn room(&self, cx: &Context<'_>) -> usize {
        let is_idle = self.waiting.is_empty() && self.streams.lock().is_empty();
        if is_idle { 0 } else { self.gate.room(cx.waker()) }
    }

    /// Begins with as many streams as the turn has left, and with all that have to go. The others wait, and
    /// take room.
    fn begin(&mut self, turn: &mut Turn, cx: &mut Context<'_>) {
        let mut begun = mem::take(&mut *self.streams.lock());
        if turn.newest < begun.len() {
            // They have waited for us, and some may not be wanted any more.
            begun.retain_mut(|stream| !stream.is_taken_back(cx));
        }
        let newest = begun.split_off(begun.len().saturating_sub(turn.newest));
        turn.newest -= newest.len();
        self.open.extend(newest);
        for stream in begun {
            stream.place.stays(cx.waker());
            match stream.place.is_sent_away() {
                true => self.open.push(stream),
                false => self.waiting.push_back(stream),
            }
        }
        while 0 < turn.newest
            && let Some(newest) = self.waiting.pop_back()
        {
            turn.newest -= usize::from(self.begin_with(newest, cx));
        }
        let is_sent_away = |oldest: &Stream| oldest.place.is_sent_away();
        while (0 < turn.oldest || self.waiting.front().is_some_and(is_sent_away))
            && let Some(oldest) = self.waiting.pop_front()
        {
            let has_begun = self.begin_with(oldest, cx);
            turn.oldest = turn.oldest.saturating_sub(usize::from(has_begun));
        }
    }

    /// Begins with a stream that has waited, if it is still wanted.
    fn begin_with(&mut self, mut stream: Stream, cx: &mut Context<'_>) -> bool {
        let is_wanted = !stream.is_taken_back(cx);
        if is_wanted {
            self.open.push(stream);
        }
        is_wanted
    }
}

impl<C: Future + Unpin> Future for Answering<C> {
    type Output = C::Output;

    /// Polls the connection and the streams that it has brought, until neither goes on or the turn is over.
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<C::Output> {
        let mut turn = Turn::default();
        loop {
            let polled = self.connection.poll_unpin(cx);
            if polled.is_ready() {
                return polled;
            }
            let room = self.room(cx);
            let mut part = turn.take(room);
            self.begin(&mut part, cx);
            turn.put_back(&part);
            let mut has_answered = false;
            while let Poll::Ready(Some(())) = self.open.poll_next_unpin(cx) {
                has_answered = true;
            }
            if !has_answered {
                if !self.waiting.is_empty() && room != 0 {
                    // The next turn, after those of others.
                    cx.waker().wake_by_ref();
                }
                self.gate.pass_on();
                return polled;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::future::poll_fn;
    use std::sync::atomic::AtomicBool;
    use std::sync::atomic::AtomicUsize;
    use std::sync::atomic::Ordering::Relaxed;
    use std::task::Wake;
    use std::task::Waker;

    use tokio::sync::oneshot;

    use super::*;

    fn poll<C: Future + Unpin>(answering: &mut Answering<C>) -> Poll<C::Output> {
        answering.poll_unpin(&mut Context::from_waker(Waker::noop()))
    }

    #[tokio::test]
    async fn a_stream_answers_when_it_can() {
        let streams = Streams::new(&Room::new(Arc::default()), Arc::default());
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
        let streams = Streams::new(&Room::new(Arc::default()), Arc::default());
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

    /// Streams that note their numbers in their turn. They don't wait for it if they are `taken_back`.
    fn begin_many(streams: &Streams, count: usize) -> (Arc<Mutex<Vec<usize>>>, Arc<AtomicUsize>) {
        let noted = Arc::<Mutex<Vec<usize>>>::default();
        let taken_back = Arc::<AtomicUsize>::default();
        for number in 0..count {
            let (noted, taken_back) = (noted.clone(), taken_back.clone());
            streams.execute(async move {
                let place = Place::here();
                let is_kept = || taken_back.load(Relaxed) <= number;
                poll_fn(|_| match place.is_new() && is_kept() {
                    true => Poll::Pending,
                    false => Poll::Ready(()),
                })
                .await;
                if is_kept() {
                    noted.lock().unwrap().push(number);
                }
            });
        }
        (noted, taken_back)
    }

    #[tokio::test]
    async fn who_came_last_has_the_first_turn_and_who_waits_takes_room() {
        const COUNT: usize = 100;
        let room = Room::new(Arc::default());
        let streams = Streams::new(&room, Arc::default());
        let mut answering = streams.clone().of(pending::<()>());
        let (noted, _) = begin_many(&streams, COUNT);
        let Turn { newest, oldest } = Turn::default();
        let last = COUNT - newest;
        let mut check = |expected: &mut dyn Iterator<Item = usize>, is_held| {
            noted.lock().unwrap().clear();
            assert!(poll(&mut answering).is_pending());
            assert_eq!(*noted.lock().unwrap(), expected.collect::<Vec<_>>());
            assert_eq!(0 < room.metrics().shed.held.get(), is_held);
        };
        check(&mut (last..COUNT).chain(0..oldest), true);
        check(&mut (last - newest..last).rev().chain(oldest..2 * oldest), true);
        check(&mut (2 * oldest..last - newest).rev(), false);
        check(&mut (0..0), false);
    }

    #[tokio::test]
    async fn what_is_taken_back_while_it_waits_costs_no_turn() {
        const COUNT: usize = 400;
        let room = Room::new(Arc::default());
        let streams = Streams::new(&room, Arc::default());
        let mut answering = streams.clone().of(pending::<()>());
        let (noted, taken_back) = begin_many(&streams, COUNT);
        let Turn { newest, oldest } = Turn::default();
        assert!(poll(&mut answering).is_pending());
        assert_eq!(noted.lock().unwrap().len(), newest + oldest);
        taken_back.store(COUNT - newest - 1, Relaxed);
        assert!(poll(&mut answering).is_pending());
        assert_eq!(noted.lock().unwrap().last(), Some(&(COUNT - newest - 1)));
        assert_eq!(noted.lock().unwrap().len(), newest + oldest + 1);
        assert_eq!(room.metrics().shed.held.get(), 0);
    }

    #[tokio::test]
    async fn who_is_sent_away_is_told_before_its_turn() {
        const COUNT: usize = 1_000;
        let room = Room::new(Arc::default());
        let streams = Streams::new(&room, Arc::default());
        let mut answering = streams.clone().of(pending::<()>());
        let (noted, _) = begin_many(&streams, COUNT);
        let Turn { newest, oldest } = Turn::default();
        assert!(poll(&mut answering).is_pending());
        assert_eq!(noted.lock().unwrap().len(), newest + oldest);
        // All of the room goes to somebody else, who owes nothing.
        let other = Place::new(Arc::new(room));
        other.begins();
        other.is_whole();
        other.grow(64 * 1024 * 1024);
        assert!(!other.stays(Waker::noop()));
        assert!(poll(&mut answering).is_pending());
        assert_eq!(noted.lock().unwrap().len(), COUNT);
    }

    #[tokio::test]
    async fn streams_wait_while_enough_wait_for_the_store() {
        let admission = Arc::<AdmissionControl>::default();
        let streams = Streams::new(&Room::new(Arc::default()), admission.clone());
        let mut answering = streams.clone().of(pending::<()>());
        let (noted, _) = begin_many(&streams, 3);
        let mut asking = Vec::new();
        let others = AdmissionGate::new(admission.clone());
        while others.room(Waker::noop()) != 0 {
            asking.push(admission.permit());
        }
        drop(others);
        let woken = Arc::<Woken>::default();
        let waker = Waker::from(woken.clone());
        let mut poll = || answering.poll_unpin(&mut Context::from_waker(&waker));
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
        let streams = Streams::new(&Room::new(Arc::default()), Arc::default());
        let mut answering = streams.clone().of(pending::<()>());
        let (answer, mut answered) = oneshot::channel();
        streams.execute(async { panic!("on purpose") });
        streams.execute(async { answer.send(1).unwrap() });
        assert!(poll(&mut answering).is_pending());
        assert_eq!(answered.try_recv(), Ok(1));
    }
}
