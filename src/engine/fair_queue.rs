//! The order of requests that wait for one counter: highest priority first. Within a priority callers take turns, and
//! the requests of each caller are in order of arrival.
//!
//! Turns are rounds: a caller's first request joins the current round, and each further request joins the round after
//! the previous one. So a caller with a hundred requests in the queue delays the first request of another caller by one
//! request, not by a hundred.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::policy::{PRIORITY_MAX, PRIORITY_MIN};

/// A position in the order; the smallest is served first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank {
    priority: Reverse<u8>,
    round: u64,
    arrival: u64,
}

/// The flow of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// 1 to 4.
    pub priority: u8,
    /// A hash of the caller's name.
    pub caller: u64,
}

/// The requests that wait for one counter.
#[derive(Debug, Default)]
pub struct FairQueue {
    waiters: BTreeMap<Rank, Waiter>,
    /// The last round of each waiting caller, and the number of its requests.
    turns: HashMap<Flow, Turns>,
    /// The current round, by priority.
    served: HashMap<u8, u64>,
    arrivals: u64,
}

/// The waiting requests of each priority, from 1 on.
pub type Waiting = [WaitingPriority; PRIORITY_MAX as usize];

/// The waiting requests of a priority.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WaitingPriority {
    pub requests: usize,
    /// How long the one has waited that has waited longest.
    pub longest: Duration,
}

/// A request that waits.
#[derive(Debug)]
pub struct Waiter {
    pub flow: Flow,
    pub wake: Arc<Notify>,
    pub since: Instant,
}

#[derive(Debug, Default)]
struct Turns {
    last: u64,
    waiting: usize,
}

impl std::hash::Hash for Flow {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        state.write_u8(self.priority);
        state.write_u64(self.caller);
    }
}

impl FairQueue {
    /// Adds a request. A full queue of `len_max` removes its last request instead, unless that is the new one: then it
    /// can't wait.
    ///
    /// # Errors
    /// The position, from 1, that the request would have had.
    pub fn join(&mut self, waiter: Waiter, len_max: usize) -> Result<Rank, usize> {
        let flow = waiter.flow;
        let served = self.served.get(&flow.priority).copied().unwrap_or_default();
        let round = match self.turns.get(&flow) {
            Some(turns) => (turns.last + 1).max(served),
            None => served,
        };
        let rank = Rank { priority: Reverse(flow.priority), round, arrival: self.arrivals };
        if len_max <= self.waiters.len() {
            match self.waiters.last_key_value().map(|(last, _)| *last) {
                Some(last) if rank < last => self.give_up(last),
                _ => return Err(self.waiters.len() + 1),
            }
        }
        self.arrivals += 1;
        let turns = self.turns.entry(flow).or_default();
        turns.last = round;
        turns.waiting += 1;
        self.waiters.insert(rank, waiter);
        Ok(rank)
    }

    /// Removes a request; `served` if its turn came and it passed. The next request is woken.
    pub fn leave(&mut self, rank: Rank, served: bool) {
        if served {
            let Reverse(priority) = rank.priority;
            let round = self.served.entry(priority).or_default();
            *round = rank.round.max(*round);
        }
        self.remove(rank);
        self.wake_first();
    }

    /// The position of the request, from 1: the first is served next. None if it was removed for another one.
    pub fn position(&self, rank: Rank) -> Option<usize> {
        self.waiters.contains_key(&rank).then(|| self.waiters.range(..=rank).count())
    }

    /// The number of waiting requests.
    pub fn len(&self) -> usize {
        self.waiters.len()
    }

    /// The waiting requests of each priority. Looks at each of them.
    pub fn waiting(&self, now: Instant) -> Waiting {
        let mut waiting = Waiting::default();
        for waiter in self.waiters.values() {
            let place = usize::from(waiter.flow.priority.saturating_sub(PRIORITY_MIN));
            if let Some(sum) = waiting.get_mut(place) {
                let longest = now.saturating_duration_since(waiter.since);
                sum.add(WaitingPriority { requests: 1, longest });
            }
        }
        waiting
    }

    /// Wakes the first request, to check again whether its time has come.
    pub fn wake_first(&self) {
        if let Some((_, waiter)) = self.waiters.first_key_value() {
            waiter.wake.notify_one();
        }
    }

    fn give_up(&mut self, rank: Rank) {
        if let Some(waiter) = self.remove(rank) {
            waiter.wake.notify_one();
        }
    }

    fn remove(&mut self, rank: Rank) -> Option<Waiter> {
        let waiter = self.waiters.remove(&rank)?;
        if let Some(turns) = self.turns.get_mut(&waiter.flow) {
            turns.waiting -= 1;
            if turns.waiting == 0 {
                self.turns.remove(&waiter.flow);
            }
        }
        Some(waiter)
    }
}

impl WaitingPriority {
    /// Adds the requests of another queue.
    pub fn add(&mut self, other: Self) {
        self.requests += other.requests;
        self.longest = self.longest.max(other.longest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::monotonic_now;

    fn waiter(flow: Flow) -> Waiter {
        Waiter { flow, wake: Arc::default(), since: monotonic_now() }
    }

    /// Adds (priority, caller) in order, and returns the order in which they are served.
    fn check(joining: &[(u8, u64)], expected: &[usize]) {
        let mut queue = FairQueue::default();
        let mut ranks: Vec<Rank> = Vec::new();
        for (priority, caller) in joining {
            let flow = Flow { priority: *priority, caller: *caller };
            ranks.push(queue.join(waiter(flow), 100).unwrap());
        }
        let mut served = Vec::new();
        while let Some(first) = ranks.iter().position(|rank| queue.position(*rank) == Some(1)) {
            queue.leave(ranks[first], true);
            served.push(first);
        }
        assert_eq!(served, expected, "{joining:?}");
        assert!(queue.turns.is_empty(), "nobody is remembered who doesn't wait");
        assert_eq!(queue.waiting(monotonic_now()), Waiting::default());
    }

    #[test]
    fn the_highest_priority_is_served_first() {
        check(&[(2, 1), (4, 2), (1, 3), (4, 4)], &[1, 3, 0, 2]);
    }

    #[test]
    fn callers_take_turns_within_a_priority() {
        check(&[(2, 1), (2, 1), (2, 1), (2, 2), (2, 3), (2, 2)], &[0, 3, 4, 1, 5, 2]);
    }

    #[test]
    fn a_full_queue_gives_up_its_last_for_one_before_it() {
        let mut queue = FairQueue::default();
        let flooder = Flow { priority: 2, caller: 1 };
        let first = queue.join(waiter(flooder), 2).unwrap();
        let second = queue.join(waiter(flooder), 2).unwrap();
        assert_eq!(queue.join(waiter(flooder), 2), Err(3));
        let other = queue.join(waiter(Flow { caller: 2, ..flooder }), 2).unwrap();
        assert_eq!((queue.position(first), queue.position(other)), (Some(1), Some(2)));
        assert_eq!(queue.position(second), None);
        assert_eq!(queue.len(), 2);
        queue.leave(second, false);
        assert_eq!(queue.len(), 2, "who was given up leaves nothing behind");
    }

    #[test]
    fn a_late_caller_waits_for_the_current_round() {
        let mut queue = FairQueue::default();
        let one = Flow { priority: 2, caller: 1 };
        let first: Vec<Rank> = (0..3).map(|_| queue.join(waiter(one), 10).unwrap()).collect();
        queue.leave(first[0], true);
        queue.leave(first[1], true);
        let newcomer = queue.join(waiter(Flow { caller: 2, ..one }), 10).unwrap();
        assert_eq!(queue.position(newcomer), Some(1), "the round of the last one begins later");
    }
}
