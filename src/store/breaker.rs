//! The circuit breaker of a shared store: after consecutive failures the store receives no requests, only probes, until
//! it is healthy.
//!
//! A stalled store costs each request its deadline. So after a few consecutive failures it receives no requests, and
//! `on_outage` of the policy answers at once. The connection's task probes the store: soon at first, then less often.

use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use super::StoreError;
use crate::clock::Backoff;

/// Number of consecutive failures that open the breaker: more than a short disturbance causes, and so few that a
/// stalled store is detected within a deadline or two.
const FAILURES_MAX: u32 = 5;

/// The pause before a probe of a broken store.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(1);
const LOOK: Backoff = Backoff::new(PAUSE_MIN, PAUSE_MAX);

/// The state of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// It receives requests.
    Healthy,
    /// It receives no requests.
    Broken,
    /// It receives no requests, and a probe is in flight.
    Probing,
}

impl Health {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 3] = [Self::Healthy, Self::Broken, Self::Probing];

    /// The name in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Broken => "broken",
            Self::Probing => "probing",
        }
    }
}

/// Decides whether a store receives requests. It starts open, and closes with the first successful probe.
#[derive(Debug)]
pub struct Breaker {
    health: AtomicU8,
    /// Consecutive failures of requests.
    failures: AtomicU32,
    /// Probes since the store was last healthy for longer than a short time.
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
    /// The state of the store.
    pub fn health(&self) -> Health {
        Health::ALL[usize::from(self.health.load(Ordering::Acquire)) % Health::ALL.len()]
    }

    /// Whether the store receives requests.
    pub fn is_healthy(&self) -> bool {
        self.health() == Health::Healthy
    }

    /// How often the breaker has opened since the start.
    pub fn breaks(&self) -> u64 {
        self.breaks.load(Ordering::Relaxed)
    }

    /// Records that the store answered a request.
    pub fn answered(&self) {
        if self.failures.load(Ordering::Relaxed) != 0 {
            self.failures.store(0, Ordering::Relaxed);
        }
    }

    /// Records that the store failed a request. Returns whether that opened the breaker.
    pub fn failed(&self, error: &StoreError) -> bool {
        let failures = match error {
            // The store answered, and the request is at fault; or the store was not asked.
            StoreError::Foreign { .. } | StoreError::Garbled { .. } | StoreError::Crowded => {
                return false;
            }
            _ => self.failures.fetch_add(1, Ordering::Relaxed) + 1,
        };
        FAILURES_MAX <= failures && self.open()
    }

    /// Opens the breaker. Returns whether it was closed.
    pub fn open(&self) -> bool {
        let was = self.health.swap(Health::Broken as u8, Ordering::AcqRel);
        let broke = was == Health::Healthy as u8;
        self.breaks.fetch_add(u64::from(broke), Ordering::Relaxed);
        broke
    }

    /// Records that a probe of a broken store is in flight.
    pub fn probe(&self) {
        let (broken, probing) = (Health::Broken as u8, Health::Probing as u8);
        // A healthy one stays healthy during a probe.
        let _ = self.health.compare_exchange(broken, probing, Ordering::AcqRel, Ordering::Relaxed);
    }

    /// Records a failed probe, or another sign that the store is broken.
    pub fn probe_failed(&self) {
        self.looks.fetch_add(1, Ordering::Relaxed);
        let (probing, broken) = (Health::Probing as u8, Health::Broken as u8);
        let _ = self.health.compare_exchange(probing, broken, Ordering::AcqRel, Ordering::Relaxed);
    }

    /// Records a successful probe. Returns whether the store was broken before.
    pub fn probe_succeeded(&self) -> bool {
        let was = self.health.swap(Health::Healthy as u8, Ordering::AcqRel);
        let recovered = was != Health::Healthy as u8;
        if recovered {
            self.failures.store(0, Ordering::Relaxed);
            self.looks.fetch_add(1, Ordering::Relaxed);
        } else {
            // It has been healthy since the last probe, so the next failure is a new one.
            self.looks.store(0, Ordering::Relaxed);
        }
        recovered
    }

    /// The pause before the next probe of a broken store. Pauses also grow if the store breaks again right after a
    /// successful probe.
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
        assert!(breaker.probe_succeeded());
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
        breaker.probe_failed();
        assert_eq!(breaker.health(), Health::Broken);
        breaker.probe();
        assert!(breaker.probe_succeeded());
        breaker.probe();
        assert_eq!(breaker.health(), Health::Healthy, "a look at a healthy store changes nothing");
        assert!(!breaker.probe_succeeded());
    }

    #[test]
    fn it_is_looked_at_less_and_less_often() {
        let breaker = Breaker::default();
        assert_eq!(breaker.pause(), PAUSE_MIN);
        (0..3).for_each(|_| breaker.probe_failed());
        assert_eq!(breaker.pause(), PAUSE_MIN * 8);
        (0..40).for_each(|_| breaker.probe_failed());
        assert_eq!(breaker.pause(), PAUSE_MAX);
        assert!(breaker.probe_succeeded());
        assert_eq!(breaker.pause(), PAUSE_MAX, "until it has been well for a while");
        breaker.probe_succeeded();
        assert_eq!(breaker.pause(), PAUSE_MIN);
    }
}
