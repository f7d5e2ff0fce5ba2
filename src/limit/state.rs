//! The state of a limit under one key, and what the limit says of it.

use super::arithmetic::Arithmetic;
use super::bucket::Debt;
use super::sliding::Slots;
use super::total::Total;
use super::window::{Periods, WindowCount};
use super::{Algorithm, Fit, Hits, Limit, Refund, Standing};
use crate::clock::Timestamp;

/// What a store keeps of one limit under one key. A new one has spent nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// Nothing spent.
    #[default]
    Empty,
    /// The slots of a sliding window.
    Sliding(Slots),
    /// The count of the present window or period.
    Window(WindowCount),
    /// What a bucket has to refill.
    Bucket(Debt),
    /// The count of a limit that never resets.
    Total(u64),
}

impl State {
    /// The state that `algorithm` begins with at `now_ms`: nothing spent, and not yet [`State::Empty`].
    fn unspent(algorithm: &Algorithm, now_ms: u64) -> Self {
        match algorithm {
            Algorithm::Sliding(_) => Self::Sliding(Slots::default()),
            Algorithm::Fixed(fixed) => Self::Window(fixed.unspent(now_ms)),
            Algorithm::Calendar(calendar) => Self::Window(calendar.unspent(now_ms)),
            Algorithm::Bucket(bucket) => Self::Bucket(bucket.unspent(now_ms)),
            Algorithm::Total => Self::Total(0),
        }
    }
}

/// Computes with a limit's algorithm and the state that this algorithm keeps, here alone. The last value is the result if
/// nothing is spent; so is a state of another algorithm read, which can't stand under this limit's tag.
macro_rules! compute {
    ($limit:ident, $state:expr, |$algorithm:ident, $own:ident| $result:expr, $unspent:expr) => {
        match (&$limit.algorithm, $state) {
            (Algorithm::Sliding($algorithm), State::Sliding($own)) => $result,
            (Algorithm::Fixed($algorithm), State::Window($own)) => $result,
            (Algorithm::Calendar($algorithm), State::Window($own)) => $result,
            (Algorithm::Bucket($algorithm), State::Bucket($own)) => $result,
            (Algorithm::Total, State::Total($own)) => {
                let $algorithm = &Total;
                $result
            }
            _ => $unspent,
        }
    };
}

impl Limit {
    /// Drops from `state` what no longer counts at `now`. The other functions expect it done.
    pub fn settle(&self, state: &mut State, now: Timestamp) {
        compute!(self, &mut *state, |own, count| own.settle(count, now.as_ms()), ());
        self.drop_unspent(state);
    }

    /// Whether `hits` would pass on a settled state, if all of the capacity is open and nothing else.
    pub fn fit(&self, state: &State, hits: Hits, now: Timestamp) -> Fit {
        let Hits::Spend(_) = hits else {
            return Fit::Now;
        };
        let hits = hits.amount();
        if hits <= self.remaining(state, now) {
            return Fit::Now;
        }
        let used_max = self.capacity().checked_sub(hits);
        match used_max.and_then(|used_max| self.falls_to_ms(state, used_max, now)) {
            Some(at_ms) => Fit::AfterMs(at_ms.saturating_sub(now.as_ms())),
            None => Fit::Never,
        }
    }

    /// The hits that a settled state has spent, a bucket's debt rounded up. Overdraft and a lowered amount
    /// let them exceed the capacity.
    pub fn used(&self, state: &State, now: Timestamp) -> u64 {
        compute!(self, state, |own, count| own.used(count, now.as_ms()), 0)
    }

    /// When at most `used_max` of a settled state will be in use if nobody spends, in milliseconds since
    /// the Unix epoch. None if time alone doesn't bring it there.
    pub fn falls_to_ms(&self, state: &State, used_max: u64, now: Timestamp) -> Option<u64> {
        let now_ms = now.as_ms();
        if self.used(state, now) <= used_max {
            return Some(now_ms);
        }
        compute!(self, state, |own, count| own.falls_to_ms(count, used_max, now_ms), None)
    }

    /// Spends `hits` on a settled state, or gives them back. The caller has asked [`Limit::fit`].
    pub fn charge(&self, state: &mut State, hits: Hits, now: Timestamp) {
        let (now_ms, amount) = (now.as_ms(), hits.amount());
        if amount == 0 {
            return;
        }
        match hits {
            Hits::Spend(_) => {
                if let State::Empty = state {
                    *state = State::unspent(&self.algorithm, now_ms);
                }
                compute!(self, state, |own, count| own.spend(count, amount, now_ms), ());
            }
            Hits::GiveBack(_) => {
                compute!(self, &mut *state, |own, count| own.give_back(count, amount, now_ms), ());
                self.drop_unspent(state);
            }
        }
    }

    /// What remains on a settled state, and when it resets.
    pub fn standing(&self, state: &State, now: Timestamp) -> Standing {
        let now_ms = now.as_ms();
        let whole_at_ms = match state {
            State::Empty => self.expiry_ms(&State::unspent(&self.algorithm, now_ms)),
            spent => self.expiry_ms(spent),
        };
        let reset_ms = whole_at_ms.map(|at_ms| at_ms.saturating_sub(now_ms));
        Standing { remaining: self.remaining(state, now), reset_ms }
    }

    /// When a settled state will have become empty by itself, in milliseconds since the Unix epoch.
    /// None if it is empty now, and for a total, which never does.
    pub fn expiry_ms(&self, state: &State) -> Option<u64> {
        compute!(self, state, |own, count| own.whole_at_ms(count), None)
    }

    /// Until when `hits` that are spent at `at` count, at least in part; the latest time there is for those that
    /// time alone doesn't bring back.
    pub fn counts_until(&self, hits: u64, at: Timestamp) -> Timestamp {
        let mut state = State::unspent(&self.algorithm, at.as_ms());
        compute!(self, &mut state, |own, count| own.spend(count, hits, at.as_ms()), ());
        self.expiry_ms(&state).map_or(Timestamp::MAX, Timestamp::from_ms)
    }

    /// Takes back hits on a settled state. Of a sliding window they come out of the slot in which they count or those
    /// before it, the youngest first.
    pub fn take_back(&self, state: &mut State, refund: Refund, now: Timestamp) {
        let now_ms = now.as_ms();
        compute!(self, &mut *state, |own, count| own.take_back(count, refund, now_ms), ());
        self.drop_unspent(state);
    }

    /// The most hits that would pass now on a settled state.
    pub(super) fn remaining(&self, state: &State, now: Timestamp) -> u64 {
        self.capacity().saturating_sub(self.used(state, now))
    }

    /// Empties a state in which nothing is spent, and one of another algorithm.
    fn drop_unspent(&self, state: &mut State) {
        if compute!(self, &*state, |own, count| own.is_unspent(count), true) {
            *state = State::Empty;
        }
    }
}
