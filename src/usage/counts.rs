//! Counts of requests and hits, and their sum over several outcomes.

use crate::clock::Timestamp;
use crate::engine::Reason;

use super::series::Outcome;

/// Counts of requests with the same series and caller.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub requests: u64,
    /// Requests that passed although a shadow limit was exceeded.
    pub shadow_refused: u64,
    /// Requests that `on_outage` decided.
    pub fallback: u64,
    /// Requests that were held for capacity.
    pub waited: u64,
    /// Hits that count against the limit. All hits are counted of limits only; of spend they are micro-units of money.
    pub hits_spent: u64,
    /// Hits that the limit refused: of refused requests, of those that passed with fewer hits than they asked for, and of
    /// settlements that used more.
    pub hits_refused: u64,
    /// Hits that a shadow limit would have refused.
    pub hits_shadow_refused: u64,
    pub hits_given_back: u64,
    /// The time of the last request.
    pub last_at: Timestamp,
}

/// The sum of counts over several outcomes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Total {
    pub counts: Counts,
    pub allowed: u64,
    /// Refused requests; in sums of a limit, those that this limit refused.
    pub refused: u64,
    /// Refused requests by [`Reason`], in the order of [`Reason::ALL`].
    pub refused_by: [u64; Reason::ALL.len()],
    /// In sums of a limit: requests that only other limits refused.
    pub refused_elsewhere: u64,
    /// Requests without a decision, because the store was unavailable.
    pub errors: u64,
    pub spend: SpendTotal,
}

/// Money in micro-units.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpendTotal {
    /// Requests with a price that passed.
    pub requests: u64,
    pub spent: u64,
    pub given_back: u64,
}

impl SpendTotal {
    /// What was spent and not given back.
    pub fn net(&self) -> u64 {
        self.spent.saturating_sub(self.given_back)
    }
}

impl Counts {
    /// Adds other counts.
    pub fn add(&mut self, other: &Self) {
        let sums = [
            (&mut self.requests, other.requests),
            (&mut self.shadow_refused, other.shadow_refused),
            (&mut self.fallback, other.fallback),
            (&mut self.waited, other.waited),
            (&mut self.hits_spent, other.hits_spent),
            (&mut self.hits_refused, other.hits_refused),
            (&mut self.hits_shadow_refused, other.hits_shadow_refused),
            (&mut self.hits_given_back, other.hits_given_back),
        ];
        sums.into_iter().for_each(|(sum, more)| *sum = sum.saturating_add(more));
        self.last_at = self.last_at.max(other.last_at);
    }
}

impl Total {
    /// Adds counts of money.
    pub fn add_spend(&mut self, counts: &Counts) {
        let sums = [
            (&mut self.spend.requests, counts.requests),
            (&mut self.spend.spent, counts.hits_spent),
            (&mut self.spend.given_back, counts.hits_given_back),
        ];
        sums.into_iter().for_each(|(sum, more)| *sum = sum.saturating_add(more));
        self.counts.last_at = self.counts.last_at.max(counts.last_at);
    }

    /// Adds counts of requests with that outcome.
    pub fn add(&mut self, outcome: Outcome, counts: &Counts) {
        self.counts.add(counts);
        let sum = match outcome {
            Outcome::Allowed => &mut self.allowed,
            Outcome::Refused(reason) => {
                let by = Reason::ALL.iter().zip(&mut self.refused_by);
                by.filter(|(one, _)| **one == reason).for_each(|(_, sum)| *sum += counts.requests);
                &mut self.refused
            }
            Outcome::RefusedElsewhere => &mut self.refused_elsewhere,
            Outcome::Error => &mut self.errors,
        };
        *sum = sum.saturating_add(counts.requests);
    }
}
