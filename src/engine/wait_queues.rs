//! Holds requests until there is capacity, instead of refusing them.
//!
//! A request that is refused by a limit with a `wait` joins the queue of the counter with the longest wait, with
//! requests that may use the same part of the counter. Only the first of a queue asks the store, at the time that the
//! store gave; all others sleep until they are first. So the store is asked once for each request that passes and once
//! for each that must continue to wait, however many wait. A new request joins existing waiting ones and doesn't ask.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use foldhash::fast::RandomState;
use smallvec::SmallVec;
use tokio::select;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use crate::clock::monotonic_now;
use crate::limit::Limit;
use crate::lock::lock;
use crate::store::Charge;

use super::fair_queue::{FairQueue, Flow, Rank, Waiter, Waiting};

/// Maximum number of waiting requests in all queues: each occupies a stream of a connection and its message.
const WAITING_MAX: usize = 100_000;

/// The queues of requests that wait for capacity.
#[derive(Debug, Default)]
pub struct WaitQueues {
    /// By a hash of the counter and of the part that the requests may use; only queues with waiting requests. If two
    /// counters collide, they share a queue, which costs only time.
    queues: Mutex<Queues>,
    hasher: RandomState,
}

#[derive(Debug, Default)]
struct Queues {
    by_id: HashMap<u64, WaitQueue, RandomState>,
    /// The number of requests in all queues.
    waiting: usize,
}

/// The queue of requests that may use the same part of one counter.
#[derive(Debug)]
struct WaitQueue {
    waiters: FairQueue,
    /// A hash of the counter.
    counter: u64,
    /// When the first one asks the store.
    ask_at: Instant,
}

/// A request in a queue. It leaves the queue when this is dropped, also if it is cancelled.
#[derive(Debug)]
pub struct QueueEntry<'r> {
    queues: &'r WaitQueues,
    id: u64,
    rank: Rank,
    wake: Arc<Notify>,
    served: bool,
}

/// A queue, and its maximum length.
#[derive(Clone, Copy, Debug)]
pub struct QueueRef {
    pub id: u64,
    /// The counter, by [`WaitQueues::counter`].
    pub counter: u64,
    pub len_max: usize,
}

/// The next step of a waiting request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Ask the store.
    Ask,
    /// Stop waiting: the time is up, or the request was removed for another one; this was its position.
    Stop { position: usize },
}

impl WaitQueues {
    /// The queue of a charge: one for requests that may use the same part of a counter. A request that may use more of
    /// it, for example by a reserve, doesn't wait behind the others, and passes before them, because capacity for it is
    /// available first.
    pub fn id(&self, key: &str, charge: &Charge) -> u64 {
        let (limit, open) = (&charge.limit, &charge.open);
        let pressed: SmallVec<[&[u64]; 1]> =
            open.pressed.iter().map(|pressed| pressed.hits.as_slice()).collect();
        let (capacity, whole) = (limit.capacity(), limit.reference_capacity());
        self.hasher.hash_one((key, limit.tag(), capacity, open.hits.min(whole), pressed))
    }

    /// A number for the counter of a limit under a key: all its queues have it.
    pub fn counter(&self, key: &str, limit: &Limit) -> u64 {
        self.hasher.hash_one((key, limit.tag()))
    }

    /// The requests of each priority that wait for a counter. Looks at each of them.
    pub fn waiting(&self, counter: u64) -> Waiting {
        let (queues, now) = (lock(&self.queues), monotonic_now());
        let mut sums = Waiting::default();
        for queue in queues.by_id.values().filter(|queue| queue.counter == counter) {
            sums.iter_mut().zip(queue.waiters.waiting(now)).for_each(|(sum, more)| sum.add(more));
        }
        sums
    }

    /// A number for a caller's name.
    pub fn caller(&self, name: &str) -> u64 {
        self.hasher.hash_one(name)
    }

    /// The number of requests that wait there.
    pub fn len(&self, id: u64) -> usize {
        lock(&self.queues).by_id.get(&id).map_or(0, |queue| queue.waiters.len())
    }

    /// Whether a request waits there.
    pub fn is_busy(&self, id: u64) -> bool {
        lock(&self.queues).by_id.contains_key(&id)
    }

    /// Time until the first one asks the store, as far as it is known.
    pub fn first_asks_in(&self, id: u64) -> Duration {
        let queues = lock(&self.queues);
        let ask_at = queues.by_id.get(&id).map(|queue| queue.ask_at);
        ask_at.map_or(Duration::ZERO, |at| at.saturating_duration_since(monotonic_now()))
    }

    /// Whether a request waits anywhere.
    #[cfg(test)]
    pub fn is_busy_anywhere(&self) -> bool {
        let queues = lock(&self.queues);
        0 < queues.waiting || !queues.by_id.is_empty()
    }

    /// Adds a request, which has waited `since` then, to a queue. The first asks the store after `wait`, or earlier if that
    /// is already planned.
    ///
    /// # Errors
    /// If the queue is full, the position that the request would have had.
    pub fn join(
        &self,
        to: QueueRef,
        (flow, since): (Flow, Instant),
        wait: Option<Duration>,
    ) -> Result<QueueEntry<'_>, usize> {
        let QueueRef { id, counter, len_max } = to;
        let wake = Arc::new(Notify::new());
        let waiter = Waiter { flow, wake: wake.clone(), since };
        let mut queues = lock(&self.queues);
        let ask_at = monotonic_now() + wait.unwrap_or_default();
        let free = WAITING_MAX.saturating_sub(queues.waiting);
        let queue = queues.by_id.entry(id).or_insert_with(|| WaitQueue {
            waiters: FairQueue::default(),
            counter,
            ask_at,
        });
        if wait.is_some() {
            queue.ask_at = ask_at;
        }
        let before = queue.waiters.len();
        let joined = queue.waiters.join(waiter, len_max.min(before + free));
        let after = queue.waiters.len();
        queues.waiting += after - before;
        if after == 0 {
            queues.by_id.remove(&id);
        }
        Ok(QueueEntry { queues: self, id, rank: joined?, wake, served: false })
    }
}

impl QueueEntry<'_> {
    /// Waits until the request has to ask the store, or stop at `deadline`.
    pub async fn turn(&self, deadline: Instant) -> Turn {
        loop {
            let ask_at = {
                let queues = lock(&self.queues.queues);
                let Some(queue) = queues.by_id.get(&self.id) else {
                    return Turn::Stop { position: 1 };
                };
                let Some(position) = queue.waiters.position(self.rank) else {
                    return Turn::Stop { position: queue.waiters.len() + 1 };
                };
                let now = monotonic_now();
                if deadline <= now {
                    return Turn::Stop { position };
                }
                if position == 1 && queue.ask_at <= now {
                    return Turn::Ask;
                }
                (position == 1).then_some(queue.ask_at)
            };
            let until = ask_at.map_or(deadline, |ask_at| ask_at.min(deadline));
            select! {
                () = self.wake.notified() => {}
                () = sleep_until(until) => {}
            }
        }
    }

    /// The store reported that the first would pass after this time.
    pub fn ask_after(&self, wait: Duration) {
        if let Some(queue) = lock(&self.queues.queues).by_id.get_mut(&self.id) {
            queue.ask_at = monotonic_now() + wait;
            queue.waiters.wake_first();
        }
    }

    /// The request passed: the next may ask at once.
    pub fn serve(mut self) {
        self.served = true;
    }
}

impl Drop for QueueEntry<'_> {
    fn drop(&mut self) {
        let mut queues = lock(&self.queues.queues);
        let Some(queue) = queues.by_id.get_mut(&self.id) else { return };
        if self.served {
            queue.ask_at = monotonic_now();
        }
        let before = queue.waiters.len();
        queue.waiters.leave(self.rank, self.served);
        let after = queue.waiters.len();
        queues.waiting -= before - after;
        if after == 0 {
            queues.by_id.remove(&self.id);
        }
    }
}
