//! Points in time, the pauses between retries, and the only place that reads the system's clock.
//!
//! Decisions take a [`Timestamp`]; only the engine has a [`Clock`]. Tests move a manual clock, so they need not sleep.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A point in time, in whole milliseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The latest instant for which the arithmetic of the store is exact: 2^52 ms, some 140,000 years.
    pub const MAX: Self = Self(1 << 52);

    /// The instant `ms` milliseconds after the Unix epoch, at most [`Timestamp::MAX`].
    pub const fn from_ms(ms: u64) -> Self {
        if ms > Self::MAX.0 { Self::MAX } else { Self(ms) }
    }

    /// Milliseconds since the Unix epoch.
    pub const fn as_ms(self) -> u64 {
        self.0
    }

    /// The instant `duration` earlier, at the earliest the Unix epoch.
    pub fn before(self, duration: Duration) -> Self {
        let ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Self(self.0.saturating_sub(ms))
    }

    /// This instant plus `duration`, rounded down to whole milliseconds.
    pub fn after(self, duration: Duration) -> Self {
        let ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Self::from_ms(self.0.saturating_add(ms))
    }

    /// The time since `earlier`; zero if `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ms", self.0)
    }
}

/// The time of a request, and whether a store with its own clock may use that one instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Now {
    /// The time of the process's clock; a shared store decides by its own clock.
    Local(Timestamp),
    /// This time, whatever any clock says.
    Given(Timestamp),
}

impl Now {
    /// The time by the clock of this process.
    pub fn timestamp(self) -> Timestamp {
        match self {
            Self::Local(at) | Self::Given(at) => at,
        }
    }
}

/// The source of time: the system's clock, or one that tests move.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    System,
    /// Moves only by hand.
    Manual(Arc<AtomicU64>),
    /// Has advanced from this time since that instant of the runtime.
    Runtime(Timestamp, tokio::time::Instant),
}

impl Clock {
    /// The system's clock.
    pub fn system() -> Self {
        Self(Source::System)
    }

    /// A clock that stays at `at` until [`Clock::advance`] moves it; its clones move with it.
    pub fn manual(at: Timestamp) -> Self {
        Self(Source::Manual(Arc::new(AtomicU64::new(at.as_ms()))))
    }

    /// A clock that starts at `at` and advances with the runtime's time, which tests can pause.
    pub fn runtime(at: Timestamp) -> Self {
        Self(Source::Runtime(at, monotonic_now()))
    }

    /// The current time.
    pub fn now(&self) -> Now {
        match &self.0 {
            Source::Manual(ms) => Now::Given(Timestamp::from_ms(ms.load(Ordering::SeqCst))),
            Source::Runtime(at, since) => Now::Given(at.after(monotonic_now() - *since)),
            Source::System => {
                // If the clock is set before 1970, the time is 1970: counters then don't expire, but nothing breaks.
                let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                Now::Local(Timestamp::default().after(since))
            }
        }
    }

    /// Moves a manual clock forward; has no effect on others.
    pub fn advance(&self, by: Duration) {
        if let Source::Manual(ms) = &self.0 {
            let by = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
            ms.fetch_add(by, Ordering::SeqCst);
        }
    }
}

/// A point in time for waits, by the runtime's clock, which tests can move.
pub fn monotonic_now() -> tokio::time::Instant {
    tokio::time::Instant::now()
}

/// Measures how long something takes, for metrics.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts a measurement.
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// The time since the start.
    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

/// The pauses between retries: each is twice as long as the one before, up to a maximum.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    first: Duration,
    max: Duration,
}

impl Backoff {
    /// Pauses from `first` to `max`.
    pub const fn new(first: Duration, max: Duration) -> Self {
        Self { first, max }
    }

    /// The pause after `doublings` pauses before it.
    pub fn pause(self, doublings: u32) -> Duration {
        self.first.saturating_mul(2_u32.saturating_pow(doublings)).min(self.max)
    }

    /// The same pause, reduced by a random part of up to half of it, so that processes that failed together do not
    /// retry together.
    pub fn jittered(self, doublings: u32) -> Duration {
        let pause = self.pause(doublings);
        // Each RandomState hashes differently, so this is random enough.
        let chance = RandomState::new().hash_one(doublings) % 1_000;
        pause - pause.mul_f64(f64::from(u32::try_from(chance).unwrap_or(0)) / 2_000.0)
    }
}

/// Permits an action at most once in an interval, such as a log line.
#[derive(Debug)]
pub struct Throttle {
    interval_ms: u64,
    since: Instant,
    /// The time from which the next action is permitted, in milliseconds.
    next_ms: AtomicU64,
    held_back: AtomicU64,
}

impl Throttle {
    /// The first action is permitted at once.
    pub fn new(interval: Duration) -> Self {
        let interval_ms = u64::try_from(interval.as_millis()).unwrap_or(u64::MAX);
        let (next_ms, held_back) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { interval_ms, since: Instant::now(), next_ms, held_back }
    }

    /// If an action is permitted now, the number of suppressed ones since the last permitted one.
    pub fn pass(&self) -> Option<u64> {
        self.pass_at(self.since.elapsed())
    }

    fn pass_at(&self, elapsed: Duration) -> Option<u64> {
        let now_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        let next_ms = self.next_ms.load(Ordering::Relaxed);
        let after_ms = now_ms.saturating_add(self.interval_ms);
        let relaxed = Ordering::Relaxed;
        // Of several concurrent actions one is permitted.
        let passes = next_ms <= now_ms
            && self.next_ms.compare_exchange(next_ms, after_ms, relaxed, relaxed).is_ok();
        if !passes {
            self.held_back.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        Some(self.held_back.swap(0, Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_their_bound() {
        let (first, max) = (Duration::from_millis(20), Duration::from_secs(1));
        let backoff = Backoff::new(first, max);
        for (doublings, expected) in
            [(0, first), (1, first * 2), (5, first * 32), (6, max), (32, max), (u32::MAX, max)]
        {
            assert_eq!(backoff.pause(doublings), expected, "{doublings}");
            let jittered = backoff.jittered(doublings);
            assert!(expected / 2 <= jittered && jittered <= expected, "{jittered:?}");
        }
    }

    #[test]
    fn a_throttle_lets_one_pass_in_each_interval() {
        let throttle = Throttle::new(Duration::from_secs(10));
        let check = |ms, expected| {
            assert_eq!(throttle.pass_at(Duration::from_millis(ms)), expected, "{ms}");
        };
        check(3, Some(0));
        check(4, None);
        check(10_002, None);
        check(10_003, Some(2));
        check(10_004, None);
        check(60_000, Some(1));
    }

    #[test]
    fn a_manual_clock_moves_only_by_hand() {
        let clock = Clock::manual(Timestamp::from_ms(5));
        let twin = clock.clone();
        clock.advance(Duration::from_millis(7));
        assert_eq!(twin.now(), Now::Given(Timestamp::from_ms(12)));
    }

    #[test]
    fn arithmetic_saturates_instead_of_wrapping() {
        let late = Timestamp::from_ms(u64::MAX);
        assert_eq!(late, Timestamp::MAX);
        assert_eq!(late.after(Duration::MAX), Timestamp::MAX);
        assert_eq!(Timestamp::from_ms(3).since(late), Duration::ZERO);
    }
}
