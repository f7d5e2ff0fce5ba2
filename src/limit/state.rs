//! The state of a limit under one key, and the limit's functions on it.

use super::arithmetic::Arithmetic;
use super::bucket::Debt;
use super::sliding::Slots;
use super::total::Total;
use super::window::{Periods, WindowCount};
use super::{Algorithm, Fit, Hits, Limit, Refund, Standing};
use crate::clock::Timestamp;

/// The stored state of one limit under one key. A new one has spent nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// Nothing spent.
    #[default]
    Empty,
    /// The slots of a sliding window.
    Sliding(Slots),
    /// The count of the current window or period.
    Window(WindowCount),
    /// The debt of a bucket.
    Bucket(Debt),
    /// The count of a limit that never resets.
    Total(u64),
}

impl State {
    /// The initial state of `algorithm` at `now_ms`: nothing spent, but not [`State::Empty`].
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

/// Calls a function of a limit's algorithm with its type of state. The last value is the result if nothing is spent,
/// and for a state of another algorithm, which can't be under this limit's tag.
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
    /// Drops parts of `state` that no longer count at `now`. The other functions expect a settled state.
    pub fn settle(&self, state: &mut State, now: Timestamp) {
        compute!(self, &mut *state, |own, count| own.settle(count, now.as_ms()), ());
        self.drop_unspent(state);
    }

    /// Whether `hits` would pass on a settled state, if the whole capacity is open, and nothing else.
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

    /// The spent hits of a settled state; a bucket's debt is rounded up. After overdraft or a lowered amount they may
    /// exceed the capacity.
    pub fn used(&self, state: &State, now: Timestamp) -> u64 {
        compute!(self, state, |own, count| own.used(count, now.as_ms()), 0)
    }

    /// The time at which at most `used_max` hits of a settled state are in use if no more are spent, in milliseconds
    /// since the Unix epoch. None if time alone doesn't lead to that.
    pub fn falls_to_ms(&self, state: &State, used_max: u64, now: Timestamp) -> Option<u64> {
        let now_ms = now.as_ms();
        if self.used(state, now) <= used_max {
            return Some(now_ms);
        }
        compute!(self, state, |own, count| own.falls_to_ms(count, used_max, now_ms), None)
    }

    /// Spends `hits` on a settled state, or gives them back. The caller has checked [`Limit::fit`].
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

    /// The remaining hits of a settled state, and its reset.
    pub fn standing(&self, state: &State, now: Timestamp) -> Standing {
        let now_ms = now.as_ms();
        let whole_at_ms = match state {
            State::Empty => self.expiry_ms(&State::unspent(&self.algorithm, now_ms)),
            spent => self.expiry_ms(spent),
        };
        let reset_ms = whole_at_ms.map(|at_ms| at_ms.saturating_sub(now_ms));
        Standing { remaining: self.remaining(state, now), reset_ms }
    }

    /// The time at which a settled state becomes empty by itself, in milliseconds since the Unix epoch. None if it is
    /// empty, and for a total, which never does.
    pub fn expiry_ms(&self, state: &State) -> Option<u64> {
        compute!(self, state, |own, count| own.whole_at_ms(count), None)
    }

    /// The time until which `hits` that are spent at `at` count, at least in part; the latest time if time alone never
    /// brings them back.
    pub fn counts_until(&self, hits: u64, at: Timestamp) -> Timestamp {
        let mut state = State::unspent(&self.algorithm, at.as_ms());
        compute!(self, &mut state, |own, count| own.spend(count, hits, at.as_ms()), ());
        self.expiry_ms(&state).map_or(Timestamp::MAX, Timestamp::from_ms)
    }

    /// Gives hits back late on a settled state. In a sliding window they are removed from their slot or those before
    /// it, the youngest first.
    pub fn take_back(&self, state: &mut State, refund: Refund, now: Timestamp) {
        let now_ms = now.as_ms();
        compute!(self, &mut *state, |own, count| own.take_back(count, refund, now_ms), ());
        self.drop_unspent(state);
    }

    /// Maximum number of hits that pass now on a settled state.
    pub(super) fn remaining(&self, state: &State, now: Timestamp) -> u64 {
        self.capacity().saturating_sub(self.used(state, now))
    }

    /// Empties a state without spent hits, and a state of another algorithm.
    fn drop_unspent(&self, state: &mut State) {
        if compute!(self, &*state, |own, count| own.is_unspent(count), true) {
            *state = State::Empty;
        }
    }
}
