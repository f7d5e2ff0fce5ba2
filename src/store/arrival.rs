//! The time at which a request arrived, and how long it has waited for the store and may wait.

use std::time::Duration;

use crate::clock::{Now, Stopwatch};

/// How long a request has waited for the store, and may wait.
#[derive(Clone, Copy, Debug, Default)]
pub struct StoreWait {
    pub waited: Duration,
    /// The limit of all its waits; None: the store's deadline.
    pub deadline: Option<Duration>,
    /// The most that all its waits may take, whatever the deadline is; None: the deadline alone.
    pub most: Option<Duration>,
}

impl StoreWait {
    /// The deadline of what people ask: a pause of the store that is too long for a request of Envoy is short for them.
    const PATIENT: Duration = Duration::from_secs(1);

    /// The first wait of what a person asks.
    pub const fn patient() -> Self {
        Self { waited: Duration::ZERO, deadline: Some(Self::PATIENT), most: None }
    }

    /// The limit of all waits, at a store with this deadline.
    pub fn deadline(self, of_store: Duration) -> Duration {
        self.deadline.unwrap_or(of_store).min(self.most.unwrap_or(Duration::MAX))
    }
}

/// The arrival of a request, with its wait for the store before and since.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    pub now: Now,
    before: StoreWait,
    stopwatch: Stopwatch,
}

impl Arrival {
    /// The arrival of a request that has not waited yet.
    pub fn whole(now: Now) -> Self {
        Self::after(now, StoreWait::default())
    }

    /// The arrival of a request that has already waited.
    pub fn after(now: Now, before: StoreWait) -> Self {
        Self { now, before, stopwatch: Stopwatch::start() }
    }

    /// Its total wait.
    pub fn wait(&self) -> StoreWait {
        StoreWait { waited: self.before.waited + self.stopwatch.elapsed(), ..self.before }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_wait_is_longer_than_the_client_waits() {
        let most = |ms| Some(Duration::from_millis(ms));
        let of_store = Duration::from_millis(10);
        let check = |most, deadline, expected_ms| {
            let wait = StoreWait { most, deadline, ..StoreWait::default() };
            assert_eq!(wait.deadline(of_store), Duration::from_millis(expected_ms));
        };
        check(None, None, 10);
        check(most(15), None, 10);
        check(most(7), None, 7);
        check(most(7), Some(StoreWait::PATIENT), 7);
    }
}
