//! The memory budget of requests that are not answered at once, over all connections.
//!
//! A request that arrives complete and is decided at once reserves nothing. A request that stays open reserves the memory that
//! it may need: for itself, its headers, and the announced length of its message. When the budget is exhausted, requests that
//! wait for their client are evicted first (incomplete message, or unread answer), then requests that wait for the server
//! (a queue of the policy, or their turn), and the new request itself last. The connection with the largest reservations
//! loses its oldest request (`eviction_order.rs`), and each connection may always hold a small share. So incomplete messages
//! of one client cost other clients nothing.
//!
//! hyper runs a request as a stream that does not know its reservation. So the reservation travels in task-local state.

use std::future::poll_fn;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use futures_util::FutureExt;
use futures_util::task::AtomicWaker;
use tonic::Status;

use super::eviction_order::{EvictionOrder, QueueEntry, WaitingOn};
use crate::lock::lock;
use crate::metrics::{Metrics, Shed};

/// Bytes for all requests: about 8,000 waiting requests of Envoy, or 250 of the largest.
const HELD_MAX: u64 = 64 * 1024 * 1024;

/// Evicted requests may release their memory late on a busy machine. Up to the first bound, new incomplete requests are
/// accepted. Above it, large ones are evicted at once; above the second bound, all are. So large requests can't keep
/// small ones out.
const HELD_BY_LARGE_MAX: u64 = HELD_MAX / 8 * 9;
const HELD_BY_ANY_MAX: u64 = HELD_MAX / 8 * 11;

/// Bytes that each connection may always reserve: late releases of other clients' evicted requests must not affect a
/// small client. With these shares, all connections together may reserve as much as [`HELD_MAX`] again.
const CONNECTION_SHARE: u64 = 64 * 1024;

/// A request that costs more bytes is large: ten times a usual request of Envoy.
const LARGE: u64 = 96 * 1024;

/// Bytes of a request without its message: the stream, its task and the buffer into which it is read.
const REQUEST_COST: u64 = 8 * 1024;

/// Bytes of a call without an end, such as a health watch or reflection: one stream window may be unread.
const ENDLESS_COST: u64 = 64 * 1024;

tokio::task_local! {
    static RESERVATION: Arc<Reservation>;
}

/// Bytes reserved by requests that are not answered at once. A clone shares the same budget.
#[derive(Clone, Debug)]
pub struct MemoryBudget {
    metrics: Arc<Metrics>,
    /// Bytes of evicted requests that have not been released yet.
    evicting: Arc<AtomicU64>,
    eviction_order: Arc<Mutex<EvictionOrder<Arc<Reservation>>>>,
    connections: Arc<AtomicU64>,
    /// The connection that this clone belongs to, and the bytes of its requests.
    connection: u64,
    held: Arc<AtomicU64>,
}

/// The reservation of one request. Only the task of its connection changes its phase; other tasks may only evict it.
#[derive(Debug)]
pub struct Reservation {
    budget: Arc<MemoryBudget>,
    cost: AtomicU64,
    phase: AtomicU8,
    is_taken: AtomicBool,
    /// Locked before the eviction order.
    waiter: Mutex<Waiter>,
    /// Wakes the stream when it is evicted.
    waker: AtomicWaker,
    /// Wakes a stream that was polled before it started.
    start: AtomicWaker,
}

/// The eviction state of a request that stays open.
#[derive(Debug, Default)]
struct Waiter {
    entry: Option<QueueEntry>,
    /// Bytes that it held when it was evicted.
    evicted: Option<u64>,
}

/// Not started.
const NEW: u8 = 0;
/// Its message is incomplete.
const RECEIVING: u8 = 1;
/// Its message is complete; the server decides.
const COMPLETE: u8 = 2;
/// The answer waits for the client.
const RESPONDING: u8 = 3;

impl MemoryBudget {
    /// A budget without reservations.
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            metrics,
            evicting: Arc::default(),
            eviction_order: Arc::default(),
            connections: Arc::default(),
            connection: 0,
            held: Arc::default(),
        }
    }

    /// The same budget for the requests of a new connection.
    pub fn of_connection(&self) -> Self {
        let connection = 1 + self.connections.fetch_add(1, Relaxed);
        Self { connection, held: Arc::default(), ..self.clone() }
    }

    /// Its metrics.
    #[cfg(test)]
    pub fn metrics(&self) -> Arc<Metrics> {
        self.metrics.clone()
    }

    /// Counts a request that ends without a decision.
    pub fn shed(&self, waiting_on: Shed) {
        self.metrics.shed.shed(waiting_on);
    }

    /// Evicts requests until the budget holds the others; false if no request can be evicted.
    fn evict_until_free(&self) -> bool {
        let held = &self.metrics.shed.held;
        while HELD_MAX < held.get().saturating_sub(self.evicting.load(Relaxed)) {
            let first = lock(&self.eviction_order).pop();
            let Some((waiting_on, reservation)) = first else { return false };
            reservation.evict(match waiting_on {
                WaitingOn::Client => Shed::Slow,
                WaitingOn::Server => Shed::Crowded,
            });
        }
        true
    }
}

impl Reservation {
    /// The reservation of a new request.
    pub fn new(budget: Arc<MemoryBudget>) -> Arc<Self> {
        Arc::new(Self {
            budget,
            cost: AtomicU64::new(REQUEST_COST),
            phase: AtomicU8::new(NEW),
            is_taken: AtomicBool::new(false),
            waiter: Mutex::default(),
            waker: AtomicWaker::new(),
            start: AtomicWaker::new(),
        })
    }

    /// The reservation of the current stream.
    pub fn here() -> Arc<Self> {
        RESERVATION.with(Arc::clone)
    }

    /// Runs the stream of a request, which finds its reservation by [`Reservation::here`].
    pub fn around<F: Future>(self: Arc<Self>, stream: F) -> impl Future<Output = F::Output> {
        RESERVATION.scope(self, stream)
    }

    /// The budget that it belongs to.
    pub fn budget(&self) -> &MemoryBudget {
        &self.budget
    }

    /// Ready when the request has started.
    pub fn poll_started(&self, cx: &Context<'_>) -> Poll<()> {
        if self.is_new() {
            self.start.register(cx.waker());
        }
        // Checked again: it may have started before the waker was registered.
        if self.is_new() { Poll::Pending } else { Poll::Ready(()) }
    }

    fn is_new(&self) -> bool {
        self.phase.load(Relaxed) == NEW
    }

    /// Starts the request. Further calls change nothing.
    pub fn begin(&self) {
        if !self.is_new() {
            return;
        }
        self.phase.store(RECEIVING, Relaxed);
        self.start.wake();
        if self.is_taken.load(Relaxed) {
            // It no longer waits for its turn.
            self.dequeue(&mut lock(&self.waiter));
        }
    }

    /// Adds bytes to what the request costs.
    pub fn grow(self: &Arc<Self>, len: usize) {
        let len = u64::try_from(len).unwrap_or(u64::MAX);
        self.cost.fetch_add(len, Relaxed);
        if self.is_taken.load(Relaxed) {
            let waiter = lock(&self.waiter);
            if let Some(entry) = waiter.entry {
                lock(&self.budget.eviction_order).grow(entry, len);
            }
            drop(waiter);
            self.take(len);
        }
    }

    /// Marks a call that may stay open without an end.
    pub fn set_endless(&self) {
        self.cost.fetch_add(ENDLESS_COST, Relaxed);
    }

    /// The message has arrived completely.
    pub fn message_complete(&self) {
        self.phase.store(COMPLETE, Relaxed);
    }

    /// Whether the message has arrived completely, so that the request may have been decided.
    pub fn is_message_complete(&self) -> bool {
        self.phase.load(Relaxed) == COMPLETE
    }

    /// The answer is ready for the client.
    pub fn response_ready(&self) {
        self.phase.store(RESPONDING, Relaxed);
    }

    /// Reserves the request's memory because it stays open, and wakes its stream when it is evicted. True if it was evicted
    /// while its answer was unread, so that the stream can end.
    pub fn hold(self: &Arc<Self>, waker: &Waker) -> bool {
        self.waker.register(waker);
        let phase = self.phase.load(Relaxed);
        let waiting_on = match phase {
            NEW => Some(WaitingOn::Server),
            COMPLETE => None,
            _ => Some(WaitingOn::Client),
        };
        let mut waiter = lock(&self.waiter);
        if waiter.evicted.is_some() {
            return phase == RESPONDING;
        }
        match (waiter.entry.map(|entry| entry.waiting_on), waiting_on) {
            (Some(WaitingOn::Client), None) => self.dequeue(&mut waiter),
            (Some(WaitingOn::Server), Some(WaitingOn::Client)) => {
                self.dequeue(&mut waiter);
                self.enqueue(&mut waiter, WaitingOn::Client);
            }
            (None, Some(waiting_on)) => self.enqueue(&mut waiter, waiting_on),
            _ => {}
        }
        drop(waiter);
        if !self.is_taken.swap(true, Relaxed) {
            self.take(self.cost.load(Relaxed));
        }
        false
    }

    /// Marks a request that has waited for longer than any call to a store.
    pub fn mark_slow(self: &Arc<Self>) {
        let mut waiter = lock(&self.waiter);
        if waiter.entry.is_none() && waiter.evicted.is_none() {
            self.enqueue(&mut waiter, WaitingOn::Server);
        }
    }

    /// Whether it was evicted.
    pub fn is_evicted(&self) -> bool {
        // A request without a reservation is never evicted.
        self.is_taken.load(Relaxed) && lock(&self.waiter).evicted.is_some()
    }

    /// The output of a future; None if the request is evicted before. The stream is woken then.
    pub fn unless_evicted<T>(
        &self,
        mut future: impl Future<Output = T> + Unpin,
    ) -> impl Future<Output = Option<T>> + Unpin {
        poll_fn(move |cx| match self.is_evicted() {
            true => Poll::Ready(None),
            false => future.poll_unpin(cx).map(Some),
        })
    }

    /// Releases its memory.
    pub fn release(&self) {
        if !self.is_taken.swap(false, Relaxed) {
            return;
        }
        let mut waiter = lock(&self.waiter);
        self.dequeue(&mut waiter);
        let left = waiter.evicted.unwrap_or_default();
        let cost = self.cost.load(Relaxed);
        self.budget.held.fetch_sub(cost, Relaxed);
        self.budget.metrics.shed.held.dec_by(cost);
        self.budget.evicting.fetch_sub(left, Relaxed);
    }

    fn take(self: &Arc<Self>, len: u64) {
        let of_connection = len + self.budget.held.fetch_add(len, Relaxed);
        let before = self.budget.metrics.shed.held.inc_by(len);
        if before + len <= HELD_MAX {
            return;
        }
        let is_free = self.budget.evict_until_free();
        let cost = self.cost.load(Relaxed);
        let held_max = if LARGE < cost { HELD_BY_LARGE_MAX } else { HELD_BY_ANY_MAX };
        let phase = self.phase.load(Relaxed);
        let is_crowded = || held_max < self.budget.metrics.shed.held.get();
        if !is_free {
            self.evict(Shed::Crowded);
        } else if phase != COMPLETE && CONNECTION_SHARE < of_connection && is_crowded() {
            self.evict(if phase == NEW { Shed::Crowded } else { Shed::Slow });
        }
    }

    fn evict(&self, waiting_on: Shed) {
        let mut waiter = lock(&self.waiter);
        // It may have been released meanwhile.
        if !self.is_taken.load(Relaxed) || waiter.evicted.is_some() {
            return;
        }
        self.dequeue(&mut waiter);
        let held = self.cost.load(Relaxed);
        waiter.evicted = Some(held);
        self.budget.evicting.fetch_add(held, Relaxed);
        drop(waiter);
        self.budget.shed(waiting_on);
        self.waker.wake();
    }

    /// Appends it to the eviction order.
    fn enqueue(self: &Arc<Self>, waiter: &mut Waiter, waiting_on: WaitingOn) {
        let asks = (self.cost.load(Relaxed), self.clone());
        let entry = lock(&self.budget.eviction_order).add(waiting_on, self.budget.connection, asks);
        waiter.entry = Some(entry);
    }

    fn dequeue(&self, waiter: &mut Waiter) {
        if let Some(entry) = waiter.entry.take() {
            lock(&self.budget.eviction_order).remove(entry);
        }
    }
}

/// The answer to an evicted request.
pub fn exhausted() -> Status {
    Status::resource_exhausted("the memory for open requests is exhausted; retry later")
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUARTER: usize = 16 * 1024 * 1024;

    fn budget() -> Arc<MemoryBudget> {
        Arc::new(MemoryBudget::new(Arc::new(Metrics::new())))
    }

    /// A request that stays open and holds a little more than a quarter of the budget.
    fn large(budget: &Arc<MemoryBudget>, set: impl Fn(&Arc<Reservation>)) -> Arc<Reservation> {
        let reservation = Reservation::new(budget.clone());
        reservation.begin();
        reservation.grow(QUARTER);
        set(&reservation);
        assert!(!reservation.hold(Waker::noop()));
        reservation
    }

    fn incomplete(_: &Arc<Reservation>) {}

    fn complete(reservation: &Arc<Reservation>) {
        reservation.message_complete();
    }

    #[track_caller]
    fn check(reservations: &[&Arc<Reservation>], expected: &[bool]) {
        let evicted: Vec<bool> =
            reservations.iter().map(|reservation| reservation.is_evicted()).collect();
        assert_eq!(evicted, expected);
    }

    #[test]
    fn the_oldest_request_that_waits_for_its_client_is_evicted_first() {
        let budget = budget();
        let first = large(&budget, complete);
        let second = large(&budget, incomplete);
        let third = large(&budget, |reservation| reservation.response_ready());
        let fourth = large(&budget, complete);
        let all = [&first, &second, &third, &fourth];
        check(&all, &[false, true, false, false]);
        assert!(!second.hold(Waker::noop()), "its client has not been told");
        second.release();
        let fifth = large(&budget, complete);
        check(&all, &[false, false, true, false]);
        assert!(third.hold(Waker::noop()), "its client reads no answer");
        third.release();
        let _more = large(&budget, complete);
        check(&[&first, &fourth, &fifth], &[false; 3]);
    }

    #[test]
    fn a_request_that_waits_for_the_server_is_evicted_if_none_waits_for_its_client() {
        let budget = budget();
        let reservations: Vec<_> = (0..3).map(|_| large(&budget, complete)).collect();
        reservations[1].mark_slow();
        reservations[2].mark_slow();
        let last = large(&budget, complete);
        check(
            &[&reservations[0], &reservations[1], &reservations[2], &last],
            &[false, true, false, false],
        );
    }

    #[test]
    fn a_request_that_waits_for_its_turn_is_evicted_after_those_that_wait_for_clients() {
        let budget = budget();
        let first = Reservation::new(budget.clone());
        first.grow(QUARTER);
        assert!(!first.hold(Waker::noop()));
        let owes = large(&budget, incomplete);
        let decided = large(&budget, complete);
        let _fourth = large(&budget, complete);
        check(&[&first, &owes, &decided], &[false, true, false]);
        owes.release();
        let _fifth = large(&budget, complete);
        check(&[&first, &decided], &[true, false]);
    }

    #[test]
    fn a_complete_request_is_not_evicted_although_it_waited_for_its_turn() {
        let budget = budget();
        let first = Reservation::new(budget.clone());
        first.grow(QUARTER);
        assert!(!first.hold(Waker::noop()));
        first.begin();
        first.message_complete();
        assert!(!first.hold(Waker::noop()));
        // As on each poll of its stream.
        first.begin();
        assert!(!first.hold(Waker::noop()));
        let owes = large(&budget, incomplete);
        let _third = large(&budget, complete);
        let _fourth = large(&budget, complete);
        check(&[&first, &owes], &[false, true]);
        owes.release();
        let last = large(&budget, complete);
        check(&[&first, &last], &[false, true]);
    }

    #[test]
    fn the_newest_request_is_evicted_if_no_other_can_be() {
        let budget = budget();
        let reservations: Vec<_> = (0..3).map(|_| large(&budget, complete)).collect();
        let last = large(&budget, complete);
        check(
            &[&reservations[0], &reservations[1], &reservations[2], &last],
            &[false, false, false, true],
        );
        last.release();
        check(&[&large(&budget, complete)], &[true]);
    }

    #[test]
    fn requests_that_are_evicted_but_not_released_hold_up_new_ones() {
        let budget = budget();
        let reservations: Vec<_> = (0..5).map(|_| large(&budget, incomplete)).collect();
        let all: Vec<&Arc<Reservation>> = reservations.iter().collect();
        check(&all, &[true, true, false, false, true]);
    }

    /// A request of usual size and incomplete message, on its own connection.
    fn small(budget: &MemoryBudget) -> Arc<Reservation> {
        let reservation = Reservation::new(Arc::new(budget.of_connection()));
        reservation.begin();
        assert!(!reservation.hold(Waker::noop()));
        reservation
    }

    #[test]
    fn a_small_request_stays_however_many_large_ones_come() {
        let budget = budget();
        let small = small(&budget);
        for _ in 0..100 {
            let other = Arc::new(budget.of_connection());
            let reservation = large(&other, incomplete);
            if reservation.is_evicted() {
                reservation.release();
            }
        }
        check(&[&small], &[false]);
        small.message_complete();
        assert!(!small.hold(Waker::noop()));
        check(&[&small], &[false]);
    }

    #[test]
    fn a_small_connection_has_its_share_while_others_are_released_late() {
        let budget = budget();
        let others: Vec<_> = (0..6)
            .map(|_| {
                let other = Reservation::new(Arc::new(budget.of_connection()));
                assert!(!other.hold(Waker::noop()));
                other.grow(QUARTER);
                other
            })
            .collect();
        assert!(HELD_BY_ANY_MAX < budget.metrics.shed.held.get());
        let little = small(&budget);
        check(&[&little], &[false]);
        // No more than its share.
        little.grow(usize::try_from(CONNECTION_SHARE).unwrap());
        check(&[&little], &[true]);
        drop(others);
    }

    #[test]
    fn large_requests_that_are_released_late_do_not_keep_small_ones_out() {
        let budget = budget();
        let _large: Vec<_> = (0..5).map(|_| large(&budget, incomplete)).collect();
        let small = Reservation::new(budget);
        small.begin();
        assert!(!small.hold(Waker::noop()));
        check(&[&small], &[false]);
    }

    #[test]
    fn a_released_request_leaves_nothing_behind() {
        let budget = budget();
        for set in [incomplete, complete] {
            let reservation = large(&budget, set);
            reservation.grow(7);
            reservation.mark_slow();
            reservation.release();
            reservation.release();
        }
        large(&budget, incomplete).release();
        let reservations: Vec<_> = (0..9).map(|_| large(&budget, incomplete)).collect();
        reservations.iter().for_each(|reservation| reservation.release());
        assert_eq!(budget.metrics.shed.held.get(), 0);
        assert_eq!(budget.evicting.load(Relaxed), 0);
        assert!(lock(&budget.eviction_order).is_empty());
        assert_eq!(budget.held.load(Relaxed), 0);
    }

    #[test]
    fn a_request_that_is_answered_at_once_reserves_nothing() {
        let budget = budget();
        let reservation = Reservation::new(budget.clone());
        reservation.grow(QUARTER);
        reservation.message_complete();
        reservation.release();
        assert_eq!(budget.metrics.shed.held.get(), 0);
    }
}
