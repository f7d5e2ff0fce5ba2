//! Admission control: limits the number of requests that wait for the store, so that they are soon decided.
//!
//! Requests that have begun are served in order of arrival. For a late one nothing can be done any more: its time is
//! wasted. So while enough requests wait to keep the store busy, no more begin. They stay at the edge, which can start
//! the newest first and knows which clients have disconnected. Requests come in through an [`AdmissionGate`].

use std::collections::VecDeque;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicU8, AtomicUsize};
use std::sync::{Arc, Mutex};
use std::task::Waker;

use futures_util::task::AtomicWaker;

use crate::lock::lock;

/// Maximum number of requests that wait for the store: those of its two calls in flight, and as many for the calls
/// after them. With fewer, other requests would wait longer although the store keeps up. With more, a process without
/// enough CPU would read the store's answers too late.
const PERMITS_MAX: usize = 256;

/// It may begin as many requests as there are free permits.
const IDLE: u8 = 0;
/// It is in the queue.
const QUEUED: u8 = 1;
/// It was the first in the queue when a permit became free.
const WOKEN: u8 = 2;
/// It is closed.
const CLOSED: u8 = 3;

/// The requests that wait for the store.
#[derive(Debug, Default)]
pub struct AdmissionControl {
    permits: AtomicUsize,
    queue: Mutex<VecDeque<Arc<Waiter>>>,
    /// The number of gates in the queue.
    queued: AtomicUsize,
}

/// A request that waits for the store, until this is dropped.
#[derive(Debug)]
pub struct Permit<'a>(&'a AdmissionControl);

/// An origin of requests, such as a connection. Without a free permit, it waits in a queue.
#[derive(Debug)]
pub struct AdmissionGate {
    control: Arc<AdmissionControl>,
    waiter: Arc<Waiter>,
}

/// The waker of a gate.
#[derive(Debug, Default)]
struct Waiter {
    state: AtomicU8,
    waker: AtomicWaker,
}

impl AdmissionControl {
    /// Counts one more request that waits for the store.
    pub fn permit(&self) -> Permit<'_> {
        self.permits.fetch_add(1, SeqCst);
        Permit(self)
    }

    /// How many more may begin.
    fn free(&self) -> usize {
        PERMITS_MAX.saturating_sub(self.permits.load(SeqCst))
    }

    /// Wakes the first gate in the queue, if there is a free permit for it.
    fn wake_first(&self) {
        while self.queued.load(SeqCst) != 0 && self.free() != 0 {
            let mut queue = lock(&self.queue);
            let first = queue.pop_front();
            self.queued.store(queue.len(), SeqCst);
            drop(queue);
            // The waiter of a closed gate may still be in the queue.
            if let Some(waiter) = first.filter(|waiter| waiter.transition(QUEUED, WOKEN)) {
                waiter.waker.wake();
                return;
            }
        }
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.0.permits.fetch_sub(1, SeqCst);
        self.0.wake_first();
    }
}

impl Drop for AdmissionGate {
    fn drop(&mut self) {
        if self.waiter.state.swap(CLOSED, SeqCst) == WOKEN {
            self.control.wake_first();
        }
    }
}

impl Waiter {
    /// Changes the state from one of the first to the second; false if it was in none of them.
    fn transition(&self, from: u8, to: u8) -> bool {
        self.state.compare_exchange(from, to, SeqCst, SeqCst).is_ok()
    }
}

impl AdmissionGate {
    /// A gate to this control.
    pub fn new(control: Arc<AdmissionControl>) -> Self {
        Self { control, waiter: Arc::default() }
    }

    /// How many requests may begin now, at least one for a gate that was woken. If none, `waker` is woken when one may.
    pub fn free(&self, waker: &Waker) -> usize {
        let free = self.control.free();
        if free != 0 {
            return free;
        }
        self.waiter.waker.register(waker);
        match self.waiter.state.load(SeqCst) {
            IDLE => {
                self.waiter.state.store(QUEUED, SeqCst);
                let mut queue = lock(&self.control.queue);
                queue.push_back(self.waiter.clone());
                self.control.queued.store(queue.len(), SeqCst);
                drop(queue);
                // A permit that was returned before that has woken no gate.
                self.control.free()
            }
            QUEUED => 0,
            _ => 1,
        }
    }

    /// Ends the turn of a woken gate: all requests that could begin have begun. Remaining permits are for the next gate.
    pub fn finish_round(&self) {
        if self.waiter.transition(WOKEN, IDLE) {
            self.control.wake_first();
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
        gate: AdmissionGate,
        woken: Arc<Woken>,
    }

    impl Bench {
        fn at(control: &Arc<AdmissionControl>) -> Self {
            Self { gate: AdmissionGate::new(control.clone()), woken: Arc::default() }
        }

        fn free(&self) -> usize {
            self.gate.free(&Waker::from(self.woken.clone()))
        }

        fn woken(&self) -> usize {
            self.woken.0.load(SeqCst)
        }
    }

    fn full() -> (Arc<AdmissionControl>, [Bench; 3]) {
        let control = Arc::<AdmissionControl>::default();
        let benches = [(); 3].map(|()| Bench::at(&control));
        (control, benches)
    }

    #[test]
    fn a_gate_without_a_permit_is_let_in_when_there_is_one() {
        let (control, [first, second, _]) = full();
        assert_eq!(first.free(), PERMITS_MAX);
        let mut permits: Vec<_> = (0..=PERMITS_MAX).map(|_| control.permit()).collect();
        assert_eq!([first.free(), second.free(), first.free()], [0; 3]);
        permits.pop();
        assert_eq!([first.woken(), second.woken()], [0; 2], "there were too many");
        permits.pop();
        assert_eq!([first.woken(), second.woken()], [1, 0]);
        // Another request was faster, and this one does not wait again.
        permits.push(control.permit());
        assert_eq!([first.free(), second.free()], [1, 0]);
        permits.push(control.permit());
        first.gate.finish_round();
        assert_eq!([first.free(), second.woken()], [0; 2]);
        permits.clear();
        assert_eq!([first.woken(), second.woken()], [2, 1]);
    }

    #[test]
    fn permits_that_one_gate_does_not_need_are_for_the_next() {
        let (control, [first, second, third]) = full();
        let permits: Vec<_> = (0..PERMITS_MAX).map(|_| control.permit()).collect();
        let benches = [&first, &second, &third];
        assert!(benches.iter().all(|bench| bench.free() == 0));
        let mut permits = permits.into_iter();
        permits.next();
        assert_eq!(benches.map(Bench::woken), [1, 0, 0]);
        first.gate.finish_round();
        assert_eq!(benches.map(Bench::woken), [1, 1, 0]);
        second.gate.finish_round();
        assert_eq!(benches.map(Bench::woken), [1, 1, 1]);
        assert_eq!(control.queued.load(SeqCst), 0);
    }

    #[test]
    fn a_gate_that_is_gone_holds_up_no_other() {
        let (control, [first, second, third]) = full();
        let mut permits: Vec<_> = (0..PERMITS_MAX).map(|_| control.permit()).collect();
        assert_eq!([first.free(), second.free(), third.free()], [0; 3]);
        drop(second);
        permits.pop();
        assert_eq!([first.woken(), third.woken()], [1, 0]);
        drop(first);
        assert_eq!(third.woken(), 1);
    }
}
