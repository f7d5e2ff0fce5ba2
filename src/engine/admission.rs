//! Admission control: counts the requests that wait for the store, so that no more begin than it soon decides.
//!
//! Requests that have begun and wait are served in the order in which they came, and all that can be done about one that
//! comes too late is to have spent its time in vain. So while enough wait to keep the store busy, no more begin; they stay
//! where the last may go first, and where those are known whose clients have gone. Requests come in through an
//! [`AdmissionGate`].

use std::collections::VecDeque;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicU8, AtomicUsize};
use std::sync::{Arc, Mutex};
use std::task::Waker;

use futures_util::task::AtomicWaker;

use crate::lock::lock;

/// Requests that wait for the store: as many as its two calls take, and as many again for the calls after them. With
/// fewer, those that are left would wait for longer though the store keeps up; with more, a process that is short of CPU
/// would read what the store answers too late.
const PERMITS_MAX: usize = 256;

/// It may begin as many requests as there are free permits.
const FREE: u8 = 0;
/// It stands in the queue.
const QUEUES: u8 = 1;
/// It was the first of the queue when there was a free permit.
const LET_IN: u8 = 2;
/// No request comes through it any more.
const GONE: u8 = 3;

/// The requests that wait for the store.
#[derive(Debug, Default)]
pub struct AdmissionControl {
    permits: AtomicUsize,
    queue: Mutex<VecDeque<Arc<Waiter>>>,
    /// How many there are in the queue.
    queued: AtomicUsize,
}

/// A request that waits, as long as this lives.
#[derive(Debug)]
pub struct Permit<'a>(&'a AdmissionControl);

/// Where requests come in, such as a connection. Where there is no free permit, it stands in a queue.
#[derive(Debug)]
pub struct AdmissionGate {
    control: Arc<AdmissionControl>,
    waiter: Arc<Waiter>,
}

/// Where a gate is woken.
#[derive(Debug, Default)]
struct Waiter {
    state: AtomicU8,
    waker: AtomicWaker,
}

impl AdmissionControl {
    /// Has one more request wait for the store.
    pub fn permit(&self) -> Permit<'_> {
        self.permits.fetch_add(1, SeqCst);
        Permit(self)
    }

    /// How many more may begin.
    fn free(&self) -> usize {
        PERMITS_MAX.saturating_sub(self.permits.load(SeqCst))
    }

    /// Wakes the first of the queue, if there is a free permit for it.
    fn let_in(&self) {
        while self.queued.load(SeqCst) != 0 && self.free() != 0 {
            let mut queue = lock(&self.queue);
            let first = queue.pop_front();
            self.queued.store(queue.len(), SeqCst);
            drop(queue);
            // A gate that is gone has left its waiter behind.
            if let Some(waiter) = first.filter(|waiter| waiter.moves(QUEUES, LET_IN)) {
                waiter.waker.wake();
                return;
            }
        }
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.0.permits.fetch_sub(1, SeqCst);
        self.0.let_in();
    }
}

impl Drop for AdmissionGate {
    fn drop(&mut self) {
        if self.waiter.state.swap(GONE, SeqCst) == LET_IN {
            self.control.let_in();
        }
    }
}

impl Waiter {
    /// Moves on from one state to another; false if it was in none such.
    fn moves(&self, from: u8, to: u8) -> bool {
        self.state.compare_exchange(from, to, SeqCst, SeqCst).is_ok()
    }
}

impl AdmissionGate {
    /// A gate to that.
    pub fn new(control: Arc<AdmissionControl>) -> Self {
        Self { control, waiter: Arc::default() }
    }

    /// How many requests may begin now, at least one for a gate that was woken. If there are none, `waker` is woken when there are.
    pub fn free(&self, waker: &Waker) -> usize {
        let free = self.control.free();
        if free != 0 {
            return free;
        }
        self.waiter.waker.register(waker);
        match self.waiter.state.load(SeqCst) {
            FREE => {
                self.waiter.state.store(QUEUES, SeqCst);
                let mut queue = lock(&self.control.queue);
                queue.push_back(self.waiter.clone());
                self.control.queued.store(queue.len(), SeqCst);
                drop(queue);
                // A permit that came back before that has woken no gate.
                self.control.free()
            }
            QUEUES => 0,
            _ => 1,
        }
    }

    /// Says that all that could begin has begun. Permits that are left are for the next gate.
    pub fn pass_on(&self) {
        if self.waiter.moves(LET_IN, FREE) {
            self.control.let_in();
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
        // Another request was faster, and it does not wait once more.
        permits.push(control.permit());
        assert_eq!([first.free(), second.free()], [1, 0]);
        permits.push(control.permit());
        first.gate.pass_on();
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
        first.gate.pass_on();
        assert_eq!(benches.map(Bench::woken), [1, 1, 0]);
        second.gate.pass_on();
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
