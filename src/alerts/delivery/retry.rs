//! When a failed notification is tried again.

use std::time::Duration;

use crate::clock::{Backoff, Timestamp};

/// Attempts until a notification is dead: over about three quarters of an hour.
pub const ATTEMPTS_MAX: u32 = 14;

/// The longest pause, also if the receiver asks for more.
const PAUSE_MAX: Duration = Duration::from_secs(300);

const PAUSE: Backoff = Backoff::new(Duration::from_secs(1), PAUSE_MAX);

/// The time of the next attempt after so many failed ones; None after the last one.
pub fn next(failed: u32, asked: Option<Duration>, now: Timestamp) -> Option<Timestamp> {
    if ATTEMPTS_MAX <= failed {
        return None;
    }
    let pause = PAUSE.jittered(failed.saturating_sub(1));
    Some(now.after(pause.max(asked.unwrap_or_default()).min(PAUSE_MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_end() {
        let now = Timestamp::from_ms(1_000_000);
        let pause = |failed| next(failed, None, now).unwrap().since(now);
        assert!(pause(1) <= Duration::from_secs(1));
        let all: Duration = (1..ATTEMPTS_MAX).map(pause).sum();
        assert!(
            Duration::from_secs(10 * 60) < all && all < Duration::from_secs(45 * 60),
            "{all:?}"
        );
        assert_eq!(next(ATTEMPTS_MAX, None, now), None);
    }

    #[test]
    fn a_receiver_may_ask_for_a_longer_pause() {
        let now = Timestamp::from_ms(0);
        let asked = |seconds| next(1, Some(Duration::from_secs(seconds)), now).unwrap().as_ms();
        assert_eq!((asked(60), asked(86_400)), (60_000, 300_000));
    }
}
