//! Holds requests until there is capacity, instead of refusing them.
//!
//! A request that a waitable limit refuses joins the queue of the counter that makes it wait longest, beside
//! those to whom as much of the counter is open. Only the first of a queue asks the store, when the store has
//! said that it would fit; all others sleep until they come first. So the store is asked once for each that passes and once for each that must go on
//! waiting, however many wait. Whoever comes while others wait joins them and doesn't ask.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use foldhash::fast::RandomState;
use smallvec::SmallVec;
use tokio::select;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio::time::sleep_until;

use crate::clock::monotonic_now;
use crate::lock::lock;
use crate::store::Charge;

use super::queue::Queue;
use super::queue::Rank;
use super::queue::Who;

/// Requests that may wait in all queues together: each holds a connection's stream and its message.
const WAITING_MAX: usize = 100_000;

/// Where requests wait.
#[derive(Debug, Default)]
pub struct WaitingRoom {
    /// By a hash of the counter and of what is open of it; only those where somebody waits. A collision
    /// would let two counters share a queue, which costs time and nothing else.
    queues: Mutex<Queues>,
    hasher: RandomState,
}

#[derive(Debug, Default)]
struct Queues {
    spots: HashMap<u64, Spot, RandomState>,
    /// Requests in all of them.
    waiting: usize,
}

/// The queue of those who use one counter alike.
#[derive(Debug)]
struct Spot {
    queue: Queue,
    /// When the first is to ask the store.
    ask_at: Instant,
}

/// A request's place in a queue. It is left when the ticket goes, also if nobody waits for the answer any
/// more.
#[derive(Debug)]
pub struct Ticket<'r> {
    room: &'r WaitingRoom,
    spot: u64,
    rank: Rank,
    wake: Arc<Notify>,
    served: bool,
}

/// A queue, and how many it holds.
#[derive(Clone, Copy, Debug)]
pub struct Line {
    pub spot: u64,
    pub len_max: usize,
}

/// What a request that waits has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Ask the store.
    Ask,
    /// Stop waiting: its time is up, or it was given up for another; this was its place.
    Stop { place: usize },
}

impl WaitingRoom {
    /// Names the queue in which a charge waits: one for those who use a counter alike. To whom more of it
    /// is open, as by a reserve, doesn't wait behind those to whom less is, and is let in before them,
    /// because the use falls to its opening first.
    pub fn spot(&self, key: &str, charge: &Charge) -> u64 {
        let (limit, open) = (&charge.limit, &charge.open);
        let pressed: SmallVec<[&[u64]; 1]> =
            open.pressed.iter().map(|pressed| pressed.hits.as_slice()).collect();
        let capacity = limit.capacity();
        self.hasher.hash_one((key, limit.tag(), capacity, open.hits.min(capacity), pressed))
    }

    /// A number for a caller's name.
    pub fn caller(&self, name: &str) -> u64 {
        self.hasher.hash_one(name)
    }

    /// Whether anybody waits there.
    pub fn is_busy(&self, spot: u64) -> bool {
        lock(&self.queues).spots.contains_key(&spot)
    }

    /// How long until the first there asks the store, as far as it has said.
    pub fn first_asks_in(&self, spot: u64) -> Duration {
        let queues = lock(&self.queues);
        let ask_at = queues.spots.get(&spot).map(|spot| spot.ask_at);
        ask_at.map_or(Duration::ZERO, |at| at.saturating_duration_since(monotonic_now()))
    }

    /// Whether anybody waits anywhere.
    #[cfg(test)]
    pub fn is_busy_anywhere(&self) -> bool {
        let queues = lock(&self.queues);
        0 < queues.waiting || !queues.spots.is_empty()
    }

    /// Lets a request wait in a line; the first asks the store after `wait`, or when it was to ask anyway.
    ///
    /// # Errors
    /// The place that the request would have had, if there is none for it.
    pub fn join(&self, line: Line, who: Who, wait: Option<Duration>) -> Result<Ticket<'_>, usize> {
        let Line { spot, len_max } = line;
        let wake = Arc::new(Notify::new());
        let mut queues = lock(&self.queues);
        let ask_at = monotonic_now() + wait.unwrap_or_default();
        let free = WAITING_MAX.saturating_sub(queues.waiting);
        let place =
            queues.spots.entry(spot).or_insert_with(|| Spot { queue: Queue::default(), ask_at });
        if wait.is_some() {
            place.ask_at = ask_at;
        }
        let before = place.queue.len();
        let joined = place.queue.join(who, wake.clone(), len_max.min(before + free));
        let after = place.queue.len();
        queues.waiting += after - before;
        if after == 0 {
            queues.spots.remove(&spot);
        }
        Ok(Ticket { room: self, spot, rank: joined?, wake, served: false })
    }
}

impl Ticket<'_> {
    /// Waits until the request has to ask, or to stop at `deadline`.
    pub async fn turn(&self, deadline: Instant) -> Turn {
        loop {
            let ask_at = {
                let queues = lock(&self.room.queues);
                let Some(spot) = queues.spots.get(&self.spot) else {
                    return Turn::Stop { place: 1 };
                };
                let Some(place) = spot.queue.place(self.rank) else {
                    return Turn::Stop { place: spot.queue.len() + 1 };
                };
                let now = monotonic_now();
                if deadline <= now {
                    return Turn::Stop { place };
                }
                if place == 1 && spot.ask_at <= now {
                    return Turn::Ask;
                }
                (place == 1).then_some(spot.ask_at)
            };
            let until = ask_at.map_or(deadline, |ask_at| ask_at.min(deadline));
            select! {
                () = self.wake.notified() => {}
                () = sleep_until(until) => {}
            }
        }
    }

    /// The store said that the first would pass after so long.
    pub fn ask_after(&self, wait: Duration) {
        if let Some(spot) = lock(&self.room.queues).spots.get_mut(&self.spot) {
            spot.ask_at = monotonic_now() + wait;
            spot.queue.wake_first();
        }
    }

    /// The request passed: the next may ask at once.
    pub fn serve(mut self) {
        self.served = true;
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        let mut queues = lock(&self.room.queues);
        let Some(spot) = queues.spots.get_mut(&self.spot) else { return };
        if self.served {
            spot.ask_at = monotonic_now();
        }
        let before = spot.queue.len();
        spot.queue.leave(self.rank, self.served);
        let after = spot.queue.len();
        queues.waiting -= before - after;
        if after == 0 {
            queues.spots.remove(&self.spot);
        }
    }
}
