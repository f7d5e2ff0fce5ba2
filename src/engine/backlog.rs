//! Admission control: counts the requests that wait for the store, so that no more begin than it soon decides.
//!
//! Requests that have begun and wait are served in the order in which they came, and all that can be done about one that
//! comes too late is to have spent its time in vain. So while enough wait to keep the store busy, no more begin; they stay
//! where the last may go first, and where those are known that nobody wants any more. Who brings requests goes
//! through an [`Entrance`].

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicU8;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;
use std::task::Waker;

use futures_util::task::AtomicWaker;

use crate::lock::lock;

/// Requests that wait for the store: as many as its two calls take, and as many again for the calls after them. With
/// fewer, those that are left would wait for longer though the store keeps up; with more, a process that is short of CPU
/// would read what the store answers too late.
const ASKING_MAX: usize = 256;

/// It may begin as many as there is room for.
const FREE: u8 = 0;
/// It stands in the queue.
const QUEUES: u8 = 1;
/// It was the first of the queue when there was room.
const LET_IN: u8 = 2;
/// Nobody comes through it any more.
const GONE: u8 = 3;

/// The requests that wait for the store.
#[derive(Debug, Default)]
pub struct Backlog {
    asking: AtomicUsize,
    queue: Mutex<VecDeque<Arc<Spot>>>,
    /// How many there are in the queue.
    queued: AtomicUsize,
}

/// A request that waits, as long as this lives.
#[derive(Debug)]
pub struct Asking<'b>(&'b Backlog);

/// Where requests come in, such as a connection. Those who find no room stand in a queue.
#[derive(Debug)]
pub struct Entrance {
    backlog: Arc<Backlog>,
    spot: Arc<Spot>,
}

/// Where an entrance is woken.
#[derive(Debug, Default)]
struct Spot {
    state: AtomicU8,
    waker: AtomicWaker,
}

impl Backlog {
    /// One more waits.
    pub fn enter(&self) -> Asking<'_> {
        self.asking.fetch_add(1, SeqCst);
        Asking(self)
    }

    /// How many more may begin.
    fn room(&self) -> usize {
        ASKING_MAX.saturating_sub(self.asking.load(SeqCst))
    }

    /// Wakes the first of the queue, if there is room for it.
    fn let_in(&self) {
        while self.queued.load(SeqCst) != 0 && self.room() != 0 {
            let mut queue = lock(&self.queue);
            let first = queue.pop_front();
            self.queued.store(queue.len(), SeqCst);
            drop(queue);
            // An entrance that is gone has left its spot behind.
            if let Some(spot) = first.filter(|spot| spot.moves(QUEUES, LET_IN)) {
                spot.waker.wake();
                return;
            }
        }
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.0.asking.fetch_sub(1, SeqCst);
        self.0.let_in();
    }
}

impl Drop for Entrance {
    fn drop(&mut self) {
        if self.spot.state.swap(GONE, SeqCst) == LET_IN {
            self.backlog.let_in();
        }
    }
}

impl Spot {
    /// Moves on from one state to another; false if it was in none such.
    fn moves(&self, from: u8, to: u8) -> bool {
        self.state.compare_exchange(from, to, SeqCst, SeqCst).is_ok()
    }
}

impl Entrance {
    /// An entrance to that.
    pub fn new(backlog: Arc<Backlog>) -> Self {
        Self { backlog, spot: Arc::default() }
    }

    /// How many requests may begin now, at least one for who was woken. If there are none, `waker` is woken when there are.
    pub fn room(&self, waker: &Waker) -> usize {
        let room = self.backlog.room();
        if room != 0 {
            return room;
        }
        self.spot.waker.register(waker);
        match self.spot.state.load(SeqCst) {
            FREE => {
                self.spot.state.store(QUEUES, SeqCst);
                let mut queue = lock(&self.backlog.queue);
                queue.push_back(self.spot.clone());
                self.backlog.queued.store(queue.len(), SeqCst);
                drop(queue);
                // Who has left before that has woken nobody.
                self.backlog.room()
            }
            QUEUES => 0,
            _ => 1,
        }
    }

    /// Says that all that could begin has begun. If there is room left, it is for the next.
    pub fn pass_on(&self) {
        if self.spot.moves(LET_IN, FREE) {
            self.backlog.let_in();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::Wake;

    use super::*;

    /// How often it was woken.
    #[derive(Debug, Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, SeqCst);
        }
    }

    struct Bench {
        entrance: Entrance,
        woken: Arc<Woken>,
    }

    impl Bench {
        fn at(backlog: &Arc<Backlog>) -> Self {
            Self { entrance: Entrance::new(backlog.clone()), woken: Arc::default() }
        }

        fn room(&self) -> usize {
            self.entrance.room(&Waker::from(self.woken.clone()))
        }

        fn woken(&self) -> usize {
            self.woken.0.load(SeqCst)
        }
    }

    fn full() -> (Arc<Backlog>, [Bench; 3]) {
        let backlog = Arc::<Backlog>::default();
        let benches = [(); 3].map(|()| Bench::at(&backlog));
        (backlog, benches)
    }

    #[test]
    fn who_finds_no_room_is_let_in_when_there_is() {
        let (backlog, [first, second, _]) = full();
        assert_eq!(first.room(), ASKING_MAX);
        let mut asking: Vec<_> = (0..=ASKING_MAX).map(|_| backlog.enter()).collect();
        assert_eq!([first.room(), second.room(), first.room()], [0; 3]);
        asking.pop();
        assert_eq!([first.woken(), second.woken()], [0; 2], "there were too many");
        asking.pop();
        assert_eq!([first.woken(), second.woken()], [1, 0]);
        // Somebody else was faster, and it does not wait once more.
        asking.push(backlog.enter());
        assert_eq!([first.room(), second.room()], [1, 0]);
        asking.push(backlog.enter());
        first.entrance.pass_on();
        assert_eq!([first.room(), second.woken()], [0; 2]);
        asking.clear();
        assert_eq!([first.woken(), second.woken()], [2, 1]);
    }

    #[test]
    fn room_that_one_does_not_need_is_for_the_next() {
        let (backlog, [first, second, third]) = full();
        let asking: Vec<_> = (0..ASKING_MAX).map(|_| backlog.enter()).collect();
        let benches = [&first, &second, &third];
        assert!(benches.iter().all(|bench| bench.room() == 0));
        let mut asking = asking.into_iter();
        asking.next();
        assert_eq!(benches.map(Bench::woken), [1, 0, 0]);
        first.entrance.pass_on();
        assert_eq!(benches.map(Bench::woken), [1, 1, 0]);
        second.entrance.pass_on();
        assert_eq!(benches.map(Bench::woken), [1, 1, 1]);
        assert_eq!(backlog.queued.load(SeqCst), 0);
    }

    #[test]
    fn an_entrance_that_is_gone_holds_up_nobody() {
        let (backlog, [first, second, third]) = full();
        let mut asking: Vec<_> = (0..ASKING_MAX).map(|_| backlog.enter()).collect();
        assert_eq!([first.room(), second.room(), third.room()], [0; 3]);
        drop(second);
        asking.pop();
        assert_eq!([first.woken(), third.woken()], [1, 0]);
        drop(first);
        assert_eq!(third.woken(), 1);
    }
}
