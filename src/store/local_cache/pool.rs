//! The leased hits of one limit under one key: how many are left, how long they may be spent, and how many to lease
//! next.
//!
//! Everything here is pure arithmetic on given times. The store counts leased hits in the slot after the one in which
//! it grants them (`Limit::charge_ahead`). They may be spent until the end of the slot in which they were granted,
//! measured from before the call: whenever the store decided during the call, its clock has not passed that end. So
//! each hit counts for at least the window's length after it was spent, with a slot to spare. Unspent hits then come
//! back.

use std::sync::Arc;

use smallvec::SmallVec;

use crate::clock::Timestamp;
use crate::limit::{Algorithm, Limit, Standing};
use crate::policy::LEASED_AMOUNT_MIN;
use crate::store::Decision;

use super::heat::HOT_REQUESTS;
use super::monotonic::MonotonicTime;

/// Maximum time to keep hits, in milliseconds.
pub const LEASE_MAX_MS: u64 = 1_000;

/// One sidecar holds at most this fraction of a limit's capacity, hits on their way back included.
pub const HELD_SHARE: u64 = LEASED_AMOUNT_MIN;

/// Minimum number of requests that a lease must be expected to serve.
const WORTH_REQUESTS: u64 = 4;

/// The interval in which requests are counted for the rate, in milliseconds.
const PACE_MS: u64 = 250;

/// Maximum number of slots with ended leases that were not given back yet.
pub const ENDED_MAX: usize = 8;

/// A pool without a request for this time is removed, in milliseconds.
const IDLE_MS: u64 = 2_000;

/// The leased hits of one limit under one key in this sidecar.
#[derive(Debug)]
pub struct Pool {
    pub limit: Arc<Limit>,
    lease: Option<Lease>,
    /// The rest of leases that have ended, by their slots.
    ended: SmallVec<[Leftover; 2]>,
    reported: Option<Reported>,
    pace: Pace,
}

/// Hits that may be spent.
#[derive(Clone, Copy, Debug)]
struct Lease {
    left: u64,
    /// They may be spent before this time.
    ends: MonotonicTime,
    until: Timestamp,
}

/// Hits that were not spent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leftover {
    pub hits: u64,
    /// The time at which the store drops them.
    pub until: Timestamp,
}

/// The last state in the store.
#[derive(Clone, Copy, Debug)]
struct Reported {
    standing: Standing,
    at: Timestamp,
    received: MonotonicTime,
}

/// The times at which the store was called and answered, by this process, and the time of its decision.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    pub sent: MonotonicTime,
    pub received: MonotonicTime,
    pub at: Timestamp,
    /// Milliseconds by which its clock may have been ahead of that.
    pub lead_ms: u64,
}

/// Hits that were spent without a call to the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spent {
    pub standing: Standing,
    /// The approximate time of the store.
    pub at: Timestamp,
    /// Identifies the lease: the time at which the store drops it.
    pub until: Timestamp,
}

impl Pool {
    /// The empty pool of a limit for which a hot key has requested this many `hits`.
    pub fn new(limit: Arc<Limit>, hits: u64, now: MonotonicTime) -> Self {
        let pace = Pace { since: now, hits: 0, last: HOT_REQUESTS.saturating_mul(hits) };
        Self { limit, lease: None, ended: SmallVec::new(), reported: None, pace }
    }

    /// Spends hits, if there are enough.
    pub fn spend(&mut self, hits: u64, now: MonotonicTime) -> Option<Spent> {
        let reported = self.reported?;
        let lease = self.lease.as_mut().filter(|lease| now < lease.ends && hits <= lease.left)?;
        lease.left -= hits;
        let until = lease.until;
        let elapsed_ms = now.ms_since(reported.received);
        let reset_ms =
            reported.standing.reset_ms.map(|reset_ms| reset_ms.saturating_sub(elapsed_ms));
        let remaining = reported.standing.remaining.saturating_add(lease.left);
        Some(Spent {
            standing: Standing { remaining, reset_ms },
            at: later(reported.at, elapsed_ms),
            until,
        })
    }

    /// Puts back hits that were spent of the lease with this `until`.
    pub fn unspend(&mut self, hits: u64, until: Timestamp) {
        match &mut self.lease {
            Some(lease) if lease.until == until => lease.left += hits,
            _ => self.leave(Leftover { hits, until }),
        }
    }

    /// Counts requested hits.
    pub fn touch(&mut self, hits: u64, now: MonotonicTime) {
        self.pace.touch(hits, now);
    }

    /// How many hits to take ahead with a request for `hits`; None if a lease doesn't pay off.
    pub fn wants(&mut self, hits: u64, now: MonotonicTime) -> Option<u64> {
        self.end(now);
        let (reported, Algorithm::Sliding(sliding)) = (self.reported?, self.limit.algorithm())
        else {
            return None;
        };
        let at_ms = later(reported.at, now.ms_since(reported.received)).as_ms();
        let left_ms = (sliding.slot_last_ms(at_ms) - at_ms).min(LEASE_MAX_MS);
        let expected = self.pace.expected(left_ms, now);
        if expected < hits.saturating_mul(WORTH_REQUESTS) {
            return None;
        }
        let held_max = self.limit.capacity() / HELD_SHARE;
        let left = self.left(now);
        let ended: u64 = self.ended.iter().map(|ended| ended.hits).sum();
        let free = held_max.saturating_sub(left + ended);
        // If the rest lasts for a while, the lease is not filled up: each request for hits costs the store something.
        let lasts = hits.saturating_mul(WORTH_REQUESTS) <= left;
        let wanted = if lasts { 0 } else { expected.saturating_sub(left).min(free) };
        (hits <= left.saturating_add(wanted)).then_some(wanted)
    }

    /// Stores the answer of the store to a charge, and adds this sidecar's hits to the remaining hits.
    pub fn learn(&mut self, decision: &mut Decision, call: Call) {
        self.end(call.received);
        self.reported =
            Some(Reported { standing: decision.standing, at: call.at, received: call.received });
        if let (hits @ 1.., Algorithm::Sliding(sliding)) = (decision.ahead, self.limit.algorithm())
        {
            let at_ms = call.at.as_ms();
            let last_ms = sliding.slot_last_ms(at_ms);
            let lease = Lease {
                left: hits,
                ends: call.sent.after_ms((last_ms - at_ms).min(LEASE_MAX_MS)),
                until: Timestamp::from_ms(last_ms + sliding.slot_ms() + sliding.window_ms()),
            };
            if lease.ends <= call.received {
                self.leave(Leftover { hits, until: lease.until });
            } else {
                self.add(lease);
            }
        }
        let left = self.left(call.received);
        decision.standing.remaining = decision.standing.remaining.saturating_add(left);
    }

    /// Takes the hits of one slot to give back: the rest of ended leases, or with `all` of every lease.
    pub fn take(&mut self, all: bool, now: MonotonicTime) -> Option<Leftover> {
        self.end(now);
        if all && let Some(lease) = self.lease.take() {
            self.leave(Leftover { hits: lease.left, until: lease.until });
        }
        self.ended.pop()
    }

    /// Whether there was no request for long, and nothing is left.
    pub fn is_idle(&self, now: MonotonicTime) -> bool {
        let is_empty = self.lease.is_none() && self.ended.is_empty();
        is_empty && IDLE_MS <= now.ms_since(self.pace.since)
    }

    /// Hits that may be spent now.
    pub fn left(&self, now: MonotonicTime) -> u64 {
        self.lease.filter(|lease| now < lease.ends).map_or(0, |lease| lease.left)
    }

    /// Adds a lease. If there is one of the same slot, they are merged; both bounds of their end are valid.
    fn add(&mut self, new: Lease) {
        match &mut self.lease {
            Some(lease) if lease.until == new.until => {
                lease.left += new.left;
                lease.ends = lease.ends.max(new.ends);
            }
            _ => {
                if let Some(old) = self.lease.replace(new) {
                    self.leave(Leftover { hits: old.left, until: old.until });
                }
            }
        }
    }

    /// Ends the lease if its time is over.
    fn end(&mut self, now: MonotonicTime) {
        if let Some(lease) = self.lease.take_if(|lease| lease.ends <= now) {
            self.leave(Leftover { hits: lease.left, until: lease.until });
        }
    }

    /// Adds hits to give back.
    pub fn leave(&mut self, left: Leftover) {
        if left.hits == 0 {
            return;
        }
        if let Some(ended) = self.ended.iter_mut().find(|ended| ended.until == left.until) {
            ended.hits += left.hits;
        } else if self.ended.len() < ENDED_MAX {
            self.ended.push(left);
        } else {
            // If they come back out of an earlier slot, those of their own slot count longer, never shorter.
            let earliest = self.ended.iter_mut().min_by_key(|ended| ended.until);
            let earliest = earliest.expect("there are as many as there may be");
            earliest.hits += left.hits;
            earliest.until = earliest.until.min(left.until);
        }
    }
}

/// The rate of requested hits.
#[derive(Clone, Copy, Debug)]
struct Pace {
    /// The start of the current interval.
    since: MonotonicTime,
    hits: u64,
    /// The hits of the previous interval.
    last: u64,
}

impl Pace {
    fn touch(&mut self, hits: u64, now: MonotonicTime) {
        let elapsed_ms = now.ms_since(self.since);
        if PACE_MS <= elapsed_ms {
            self.last = if elapsed_ms < 2 * PACE_MS { self.hits } else { 0 };
            self.hits = 0;
            self.since = self.since.after_ms(elapsed_ms - elapsed_ms % PACE_MS);
        }
        self.hits = self.hits.saturating_add(hits);
    }

    /// The expected hits within `ms`, plus a quarter: too many are given back, too few need another call.
    fn expected(&self, ms: u64, now: MonotonicTime) -> u64 {
        let elapsed_ms = now.ms_since(self.since).min(PACE_MS);
        let of_last =
            u128::from(self.last) * u128::from(PACE_MS - elapsed_ms) / u128::from(PACE_MS);
        let slid = of_last + u128::from(self.hits);
        // A rise is seen before the interval ends, but not in its first moments.
        let new =
            u128::from(self.hits) * u128::from(PACE_MS) / u128::from(elapsed_ms.max(PACE_MS / 4));
        let expected = slid.max(new) * u128::from(ms) * 5 / (u128::from(PACE_MS) * 4);
        u64::try_from(expected).unwrap_or(u64::MAX)
    }
}

fn later(at: Timestamp, ms: u64) -> Timestamp {
    Timestamp::from_ms(at.as_ms().saturating_add(ms))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limit::{Fit, Sliding};

    /// A limit with slots of a second.
    fn pool() -> Pool {
        let limit = Limit::new(6_400, Algorithm::Sliding(Sliding::new(60_000, 6_400)));
        Pool::new(Arc::new(limit), 1, time(0))
    }

    fn time(ms: u64) -> MonotonicTime {
        MonotonicTime::default().after_ms(ms)
    }

    /// The store lends hits at its time `at_ms`, during a call.
    fn lend(pool: &mut Pool, hits: u64, (sent, at_ms, received): (u64, u64, u64)) {
        let standing = Standing { remaining: 1_000, reset_ms: Some(60_000) };
        let mut decision = Decision { ahead: hits, ..Decision::new(Fit::Now, standing) };
        let at = Timestamp::from_ms(at_ms);
        pool.learn(
            &mut decision,
            Call { sent: time(sent), received: time(received), at, lead_ms: 1 },
        );
    }

    #[test]
    fn hits_are_spent_until_the_stores_slot_ends_at_the_latest() {
        let mut pool = pool();
        // By the store's clock the call was made between 5,300 and 5,300 + 20 ms.
        lend(&mut pool, 10, (100, 5_300, 120));
        assert_eq!(pool.spend(1, time(200)).unwrap().at.as_ms(), 5_380);
        assert!(pool.spend(1, time(100 + 698)).is_some());
        assert!(pool.spend(1, time(100 + 699)).is_none());
        let left = pool.take(false, time(100 + 699)).unwrap();
        assert_eq!((left.hits, left.until.as_ms()), (8, 6_999 + 60_000));
        assert_eq!(pool.take(true, time(100 + 699)), None, "they go back once");
    }

    #[test]
    fn an_answer_that_comes_too_late_lends_nothing() {
        let mut pool = pool();
        lend(&mut pool, 10, (100, 5_990, 110));
        assert_eq!(pool.left(time(110)), 0);
        assert_eq!(pool.take(false, time(110)).unwrap().hits, 10);
    }

    #[test]
    fn leases_of_one_slot_join_and_those_of_others_follow() {
        let mut pool = pool();
        lend(&mut pool, 10, (100, 5_300, 101));
        lend(&mut pool, 5, (200, 5_400, 201));
        assert_eq!(pool.left(time(300)), 15);
        let spent = pool.spend(2, time(300)).unwrap();
        lend(&mut pool, 7, (700, 6_000, 701));
        assert_eq!(pool.left(time(701)), 7);
        pool.unspend(2, spent.until);
        assert_eq!(pool.left(time(701)), 7, "it was of the lease before");
        let left = pool.take(false, time(701)).unwrap();
        assert_eq!((left.hits, left.until.as_ms()), (15, 6_999 + 60_000));
    }

    #[test]
    fn so_much_is_taken_as_will_be_spent_and_never_much_of_a_limit() {
        let mut pool = pool();
        lend(&mut pool, 0, (0, 5_000, 0));
        // One hit in two milliseconds, over a stretch and a half.
        for ms in (0..375).step_by(2) {
            pool.touch(1, time(ms));
        }
        // The slot ends after 624 ms more, but that is longer than the maximum.
        assert_eq!(pool.wants(1, time(375)), Some(100));
        lend(&mut pool, 0, (375, 5_975, 375));
        assert_eq!(pool.wants(1, time(375)), Some(15), "24 ms, and a quarter");
        lend(&mut pool, 3, (375, 5_975, 375));
        assert_eq!(pool.wants(1, time(375)), Some(12));
        lend(&mut pool, 1, (375, 5_975, 375));
        assert_eq!(pool.wants(1, time(375)), Some(0), "it lasts for a while");
        lend(&mut pool, 0, (375, 5_998, 375));
        assert_eq!(pool.wants(20, time(375)), None, "it would serve nobody");
        // For more than half a second there are no requests.
        pool.touch(1, time(1_000));
        lend(&mut pool, 0, (1_000, 7_000, 1_000));
        assert_eq!(pool.wants(1, time(1_250)), None);
    }
}
