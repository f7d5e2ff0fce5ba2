//! The true counts of a run for each counter, and their checks.

use std::sync::Arc;

use crate::limit::{Algorithm, Fit, Limit, Sliding};
use crate::policy::Key;
use crate::store::local_cache::pool::HELD_SHARE;
use crate::store::{Batch, Charge, Outcome};

pub const START_MS: u64 = 1_750_000_000_123;
pub const SIDECARS: u64 = 3;
pub const KEYS: [&str; 3] = ["a", "b", "c"];

/// The true counts of each counter, by the store's clock.
#[derive(Default)]
pub struct Truth {
    pub admitted: Vec<Event>,
    pub refused: Vec<Refused>,
    /// Hits that were given back to the store.
    pub returned: Vec<Event>,
    /// Hits that are being given back.
    pub returning: u64,
    pub leased: usize,
    pub held: usize,
}

/// Hits of a counter: key and tag.
#[derive(Clone, Debug)]
pub struct Event {
    counter: (Key, Arc<str>),
    at_ms: u64,
    hits: u64,
}

#[derive(Debug)]
pub struct Refused {
    event: Event,
    limit: Arc<Limit>,
    /// Hits that may also be counted.
    slack: u64,
}

impl Truth {
    /// Records a refusal; it need not include hits given back within the last `unseen_ms`.
    pub fn refuse(&mut self, batch: &Batch, outcome: &Outcome, unseen_ms: u64) {
        let at_ms = outcome.at.as_ms();
        for (charge, decision) in batch.charges.iter().zip(&outcome.decisions) {
            if decision.fit != Fit::Now {
                let event = event(batch, charge, (at_ms, charge.hits.amount()));
                let latest = self.returned.iter().rev();
                let unseen = latest
                    .take_while(|back| at_ms < back.at_ms + unseen_ms)
                    .filter(|back| back.counter == event.counter)
                    .map(|back| back.hits);
                let slack = self.returning + unseen.sum::<u64>();
                self.refused.push(Refused { event, limit: charge.limit.clone(), slack });
            }
        }
    }

    fn history(&self, key: &str, limit: &Limit) -> History {
        let events = self.admitted.iter();
        let same = events.filter(|event| {
            event.counter.1 == *limit.tag() && event.counter.0.as_str().ends_with(key)
        });
        let mut hits: Vec<(u64, u64)> = same.map(|event| (event.at_ms, event.hits)).collect();
        hits.sort_unstable();
        let sums = hits.iter().scan(0, |sum, (_, hits)| {
            *sum += hits;
            Some(*sum)
        });
        let sums = std::iter::once(0).chain(sums).collect();
        History { times: hits.into_iter().map(|(at_ms, _)| at_ms).collect(), sums }
    }

    /// Checks a run with this name, with the limits of each key.
    pub fn check(&self, limits: &[Vec<Arc<Limit>>], is_faulty: bool, name: &str) {
        for (key, limits) in KEYS.iter().zip(limits) {
            for limit in limits {
                let Algorithm::Sliding(sliding) = limit.algorithm() else { continue };
                let admitted = self.history(key, limit);
                admitted.check_never_over((limit, sliding), name);
                if !is_faulty {
                    let refused = self.refused.iter().filter(|refused| {
                        Arc::ptr_eq(&refused.limit, limit)
                            && refused.event.counter.0.as_str().ends_with(key)
                    });
                    refused.for_each(|refused| refused.check(&admitted, sliding, name));
                }
            }
        }
    }
}

/// The admitted hits of one counter, by time.
struct History {
    times: Vec<u64>,
    /// The sum of the first ones.
    sums: Vec<u64>,
}

impl History {
    /// Hits after one time and up to another.
    fn hits(&self, after_ms: u64, until_ms: u64) -> u64 {
        let sum = |end_ms| self.sums[self.times.partition_point(|at_ms| *at_ms <= end_ms)];
        sum(until_ms) - sum(after_ms)
    }

    fn check_never_over(&self, (limit, sliding): (&Limit, &Sliding), name: &str) {
        for at_ms in &self.times {
            let spent = self.hits(at_ms - sliding.window_ms(), *at_ms);
            let at_ms = at_ms - START_MS;
            assert!(spent <= limit.amount(), "{name}: {spent} of {limit} at {at_ms} ms");
        }
    }
}

impl Refused {
    fn check(&self, admitted: &History, sliding: &Sliding, name: &str) {
        let Self { event, limit, slack } = self;
        // The store counts slots that have not left the window, and leases one slot longer.
        let counted_ms = sliding.window_ms() + 2 * sliding.slot_ms();
        let spent = admitted.hits(event.at_ms - counted_ms, event.at_ms);
        let held_max = SIDECARS * (limit.amount() / HELD_SHARE);
        let accounted = spent + held_max + slack + event.hits;
        assert!(limit.amount() < accounted, "{name}: {event:?} of {limit}, {spent} spent, {slack}");
    }
}

/// The hits of a charge's counter at a time.
pub fn event(batch: &Batch, charge: &Charge, (at_ms, hits): (u64, u64)) -> Event {
    let counter = (batch.keys[charge.key_index].clone(), charge.limit.tag().clone());
    Event { counter, at_ms, hits }
}
