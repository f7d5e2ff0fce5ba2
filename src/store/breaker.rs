//! The circuit breaker of a shared store: after failures in a row it is not asked any more, only probed now
//! and then until it is healthy.
//!
//! A stalled store costs each request its deadline. So after a few failures in a row it is no longer asked, and a
//! request is answered at once by what its policy says of outages. Who keeps the connection up looks at the store:
//! soon at first, then less and less often.

use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use super::StoreError;
use crate::clock::Backoff;

/// Failures in a row after which the store is left alone: more than a moment's bad luck, and so few that a stalled
/// store is known as one within a deadline or two.
const FAILURES_MAX: u32 = 5;

/// The pause before a look at a broken store.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(1);
const LOOK: Backoff = Backoff::new(PAUSE_MIN, PAUSE_MAX);

/// How a store is, as far as is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// It is asked.
    Healthy,
    /// It is left alone.
    Broken,
    /// It is left alone, and being looked at.
    Probing,
}

impl Health {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 3] = [Self::Healthy, Self::Broken, Self::Probing];

    /// The word for metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Broken => "broken",
            Self::Probing => "probing",
        }
    }
}

/// Decides whether a store is asked. It is broken until it was found well for the first time.
#[derive(Debug)]
pub struct Breaker {
    health: AtomicU8,
    /// Failures of requests in a row.
    failures: AtomicU32,
    /// Looks since it was last well for more than a moment.
    looks: AtomicU32,
    breaks: AtomicU64,
}

impl Default for Breaker {
    fn default() -> Self {
        Self {
            health: AtomicU8::new(Health::Broken as u8),
            failures: AtomicU32::new(0),
            looks: AtomicU32::new(0),
            breaks: AtomicU64::new(0),
        }
    }
}

impl Breaker {
    /// How the store is.
    pub fn health(&self) -> Health {
        Health::ALL[usize::from(self.health.load(Ordering::Acquire)) % Health::ALL.len()]
    }

    /// Whether the store is to be asked.
    pub fn is_healthy(&self) -> bool {
        self.health() == Health::Healthy
    }

    /// How often a healthy store broke, since the start.
    pub fn breaks(&self) -> u64 {
        self.breaks.load(Ordering::Relaxed)
    }

    /// Notes that the store answered a request.
    pub fn answered(&self) {
        if self.failures.load(Ordering::Relaxed) != 0 {
            self.failures.store(0, Ordering::Relaxed);
        }
    }

    /// Notes that the store failed a request, and says whether that broke it.
    pub fn failed(&self, error: &StoreError) -> bool {
        let failures = match error {
            // It answered, and the request is at fault; or it was not asked.
            StoreError::Foreign { .. } | StoreError::Garbled { .. } | StoreError::Crowded => {
                return false;
            }
            _ => self.failures.fetch_add(1, Ordering::Relaxed) + 1,
        };
        FAILURES_MAX <= failures && self.break_down()
    }

    /// Leaves the store alone from now on, and says whether it was healthy.
    pub fn break_down(&self) -> bool {
        let was = self.health.swap(Health::Broken as u8, Ordering::AcqRel);
        let broke = was == Health::Healthy as u8;
        self.breaks.fetch_add(u64::from(broke), Ordering::Relaxed);
        broke
    }

    /// Notes that a broken store is being looked at.
    pub fn probe(&self) {
        let (broken, probing) = (Health::Broken as u8, Health::Probing as u8);
        // A healthy one stays so during a probe.
        let _ = self.health.compare_exchange(broken, probing, Ordering::AcqRel, Ordering::Relaxed);
    }

    /// Notes that a look found the store broken, or that it is.
    pub fn found_broken(&self) {
        self.looks.fetch_add(1, Ordering::Relaxed);
        let (probing, broken) = (Health::Probing as u8, Health::Broken as u8);
        let _ = self.health.compare_exchange(probing, broken, Ordering::AcqRel, Ordering::Relaxed);
    }

    /// Notes that a look found the store well, and says whether it was broken before.
    pub fn found_well(&self) -> bool {
        let was = self.health.swap(Health::Healthy as u8, Ordering::AcqRel);
        let recovered = was != Health::Healthy as u8;
        if recovered {
            self.failures.store(0, Ordering::Relaxed);
            self.looks.fetch_add(1, Ordering::Relaxed);
        } else {
            // It has been well since the last look: the next break is a new one.
            self.looks.store(0, Ordering::Relaxed);
        }
        recovered
    }

    /// How long to wait before the next look at a broken store. One that breaks again right after it was found well
    /// is looked at less and less often too.
    pub fn pause(&self) -> Duration {
        LOOK.pause(self.looks.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn late() -> StoreError {
        StoreError::Late { deadline: Duration::from_millis(10) }
    }

    fn healthy() -> Breaker {
        let breaker = Breaker::default();
        assert!(breaker.found_well());
        breaker
    }

    #[test]
    fn it_breaks_after_failures_in_a_row() {
        let breaker = healthy();
        for _ in 0..3 {
            for _ in 1..FAILURES_MAX {
                assert!(!breaker.failed(&late()));
            }
            breaker.answered();
        }
        assert!(breaker.is_healthy());
        let broke: Vec<bool> = (0..=FAILURES_MAX).map(|_| breaker.failed(&late())).collect();
        assert_eq!(broke, [false, false, false, false, true, false], "one of them is told");
        assert_eq!((breaker.health(), breaker.breaks()), (Health::Broken, 1));
    }

    #[test]
    fn what_is_wrong_with_one_request_breaks_nothing() {
        let breaker = healthy();
        let foreign = StoreError::Foreign { reason: "WRONGTYPE".to_owned() };
        assert!((0..100).all(|_| !breaker.failed(&foreign)));
        assert!(breaker.is_healthy());
    }

    #[test]
    fn it_is_asked_again_once_it_was_found_well() {
        let breaker = Breaker::default();
        assert_eq!(breaker.health(), Health::Broken);
        breaker.probe();
        assert_eq!(breaker.health(), Health::Probing);
        breaker.found_broken();
        assert_eq!(breaker.health(), Health::Broken);
        breaker.probe();
        assert!(breaker.found_well());
        breaker.probe();
        assert_eq!(breaker.health(), Health::Healthy, "a look at a healthy store changes nothing");
        assert!(!breaker.found_well());
    }

    #[test]
    fn it_is_looked_at_less_and_less_often() {
        let breaker = Breaker::default();
        assert_eq!(breaker.pause(), PAUSE_MIN);
        (0..3).for_each(|_| breaker.found_broken());
        assert_eq!(breaker.pause(), PAUSE_MIN * 8);
        (0..40).for_each(|_| breaker.found_broken());
        assert_eq!(breaker.pause(), PAUSE_MAX);
        assert!(breaker.found_well());
        assert_eq!(breaker.pause(), PAUSE_MAX, "until it has been well for a while");
        breaker.found_well();
        assert_eq!(breaker.pause(), PAUSE_MIN);
    }
}
