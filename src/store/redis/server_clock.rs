//! The clock of a server, estimated from its replies, so that a call can carry a deadline by that clock.
//!
//! The server read its clock at some time during the call. So it is ahead of the monotonic time here by at most its
//! time minus the start of the call. This bound is kept, and lowered by shorter round trips. A deadline by it is late
//! by at most one round trip, and never early: a call that is executed in time is never refused.

use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, Ordering};

use tokio::time::Instant;

use crate::clock::{Now, Timestamp, monotonic_now};
use crate::lock::lock;

/// Microseconds of a millisecond.
const MS: i64 = 1_000;

/// The bound rises by this part of the elapsed time, because no two clocks run equally fast: twice the maximum
/// correction of NTP.
const DRIFT: i64 = 1_000;

/// The estimated clock of one server. It may be stepped at any time.
#[derive(Debug)]
pub struct ServerClock {
    started: Instant,
    /// None until the server has server_time its time.
    bound: Mutex<Option<Bound>>,
    /// How far it is ahead of the system's clock, at its last decision.
    ahead_of_system_ms: AtomicI64,
}

/// An upper bound of how far the server's clock is ahead of the monotonic time.
#[derive(Clone, Copy, Debug)]
struct Bound {
    ahead_us: i64,
    /// The time of the bound.
    at_us: i64,
}

impl Bound {
    fn ahead_us(self, at_us: i64) -> i64 {
        self.ahead_us + (at_us - self.at_us).max(0) / DRIFT
    }
}

/// The start and the end of a call.
#[derive(Clone, Copy, Debug)]
pub struct RoundTrip {
    pub sent: Instant,
    pub received: Instant,
}

impl ServerClock {
    /// An unknown clock.
    pub fn new() -> Self {
        let (started, ahead_of_system_ms) = (monotonic_now(), AtomicI64::new(0));
        Self { started, bound: Mutex::new(None), ahead_of_system_ms }
    }

    /// Resets the estimate: the address may belong to another server now.
    pub fn forget(&self) {
        *lock(&self.bound) = None;
    }

    /// Updates the estimate with a server_time time.
    pub fn learn(&self, server_time: Timestamp, trip: RoundTrip) {
        let (sent_us, received_us) = (self.us(trip.sent), self.us(trip.received));
        let server_us = us(server_time);
        let (least_us, most_us) = (server_us - received_us, server_us + MS - sent_us);
        let mut bound = lock(&self.bound);
        let known_us = bound.map(|bound| bound.ahead_us(received_us));
        // If the bound is too low, the clock was set forward since.
        let possible_us = known_us.filter(|known_us| least_us <= *known_us);
        let ahead_us = possible_us.map_or(most_us, |known_us| known_us.min(most_us));
        *bound = Some(Bound { ahead_us, at_us: received_us });
    }

    /// Updates the estimate with the time of a refusal for lateness, although the deadline has not passed: the old
    /// estimate was wrong.
    pub fn learn_anew(&self, server_time: Timestamp, trip: RoundTrip) {
        self.forget();
        self.learn(server_time, trip);
    }

    /// The server's time at an instant, or slightly less; None if it is unknown.
    pub fn at(&self, instant: Instant) -> Option<Timestamp> {
        let instant_us = self.us(instant);
        let ahead_us = (*lock(&self.bound))?.ahead_us(instant_us);
        let ms = (ahead_us + instant_us) / MS;
        Some(Timestamp::from_ms(u64::try_from(ms).unwrap_or(0)))
    }

    /// The estimated time of a request by the server's clock, for its calendar periods.
    pub fn estimate(&self, now: Now) -> Timestamp {
        match now {
            Now::Given(at) => at,
            Now::Local(at) => {
                let ahead_ms = self.ahead_of_system_ms.load(Ordering::Relaxed);
                Timestamp::from_ms(at.as_ms().saturating_add_signed(ahead_ms))
            }
        }
    }

    /// Updates the estimate with the time of a decision.
    pub fn compare(&self, now: Now, server_time: Timestamp) {
        if let Now::Local(at) = now {
            self.ahead_of_system_ms.store((us(server_time) - us(at)) / MS, Ordering::Relaxed);
        }
    }

    fn us(&self, instant: Instant) -> i64 {
        let since = instant.saturating_duration_since(self.started);
        i64::try_from(since.as_micros()).unwrap_or(i64::MAX / 4)
    }
}

/// In microseconds; even [`Timestamp::MAX`] fits.
fn us(at: Timestamp) -> i64 {
    i64::try_from(at.as_ms()).map_or(i64::MAX / 4, |ms| ms.saturating_mul(MS).min(i64::MAX / 4))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const START_MS: u64 = 1_750_000_000_000;

    /// A server whose clock is ahead of this one by this many milliseconds.
    struct Scene {
        clock: ServerClock,
        ahead_ms: u64,
    }

    impl Scene {
        fn new() -> Self {
            Self { clock: ServerClock::new(), ahead_ms: START_MS }
        }

        fn instant(&self, ms: u64) -> Instant {
            self.clock.started + Duration::from_millis(ms)
        }

        /// A call with these times of sending, execution and answer.
        fn call(&self, [sent, executed, received]: [u64; 3]) {
            let trip = RoundTrip { sent: self.instant(sent), received: self.instant(received) };
            self.clock.learn(Timestamp::from_ms(self.ahead_ms + executed), trip);
        }

        /// How far a deadline at that time is after it by the server's clock.
        fn error_ms(&self, ms: u64) -> i64 {
            let known = self.clock.at(self.instant(ms)).unwrap().as_ms();
            i64::try_from(known).unwrap() - i64::try_from(self.ahead_ms + ms).unwrap()
        }
    }

    #[test]
    fn a_deadline_is_never_early_and_late_by_a_round_trip_at_most() {
        let scene = Scene::new();
        assert_eq!(scene.clock.at(scene.instant(10)), None);
        scene.call([10, 18, 20]);
        assert_eq!(scene.error_ms(20), 9, "the way there, and what the server does not tell of");
        scene.call([20, 21, 30]);
        assert_eq!(scene.error_ms(30), 2);
        scene.call([30, 4_000, 4_001]);
        assert!((2..=6).contains(&scene.error_ms(4_001)), "a call that stalled tells nothing");
        scene.call([4_010, 4_010, 4_011]);
        assert_eq!(scene.error_ms(4_011), 1);
    }

    #[test]
    fn a_clock_that_was_set_is_known_by_the_next_answer() {
        let mut scene = Scene::new();
        scene.call([10, 11, 12]);
        for ahead_ms in [START_MS + 60_000, START_MS - 60_000] {
            scene.ahead_ms = ahead_ms;
            scene.call([20, 21, 22]);
            assert_eq!(scene.error_ms(22), 2);
        }
        // Below a round trip, the outward latency may explain it.
        scene.ahead_ms += 5;
        scene.call([30, 36, 40]);
        assert!(scene.error_ms(40) < 0);
        let trip = RoundTrip { sent: scene.instant(50), received: scene.instant(60) };
        scene.clock.learn_anew(Timestamp::from_ms(scene.ahead_ms + 51), trip);
        assert_eq!(scene.error_ms(60), 2);
    }

    #[test]
    fn no_time_that_a_server_tells_is_too_much() {
        let scene = Scene::new();
        let trip = RoundTrip { sent: scene.instant(0), received: scene.instant(5) };
        for server_time in [Timestamp::MAX, Timestamp::default()] {
            scene.clock.learn(server_time, trip);
            scene.clock.compare(Now::Local(Timestamp::MAX), server_time);
            assert!(scene.clock.at(scene.instant(10)).is_some());
        }
    }
}
