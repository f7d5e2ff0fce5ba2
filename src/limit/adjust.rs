//! Limits that follow a signal: a number that is measured or reported, such as an error rate.
//!
//! What is kept is the scale as it was when its trend began, and when that was. The scale at any later time follows from
//! it: so all processes that know the same state take the same scale at the same time, and none has to be written down
//! while it moves. It never leaves its bounds.

use super::Scale;
use crate::clock::Timestamp;

/// How a limit follows a signal.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Adjustment {
    /// The limit is lowered while the signal is above this,
    pub above: f64,
    /// and raised while it is below this; in between it stays. At most `above`.
    pub below: f64,
    /// The least that is left of the limit; the most is all of it.
    pub least: Scale,
    /// How much it is lowered or raised at a time,
    pub step: Scale,
    /// and how often; not zero.
    pub every_ms: u64,
    /// How long a signal holds.
    pub stale_after_ms: u64,
    /// Where the scale goes, step by step, once the signal holds no longer; at least `least`.
    pub stale: Scale,
}

/// A number at a time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Signal {
    pub value: f64,
    pub at: Timestamp,
}

/// Where a scale goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trend {
    Lower,
    Hold,
    Raise,
}

/// What is known of a limit that follows a signal.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdjustmentState {
    /// The scale when the trend began.
    pub scale: Scale,
    pub since: Timestamp,
    pub trend: Trend,
    /// The last signal.
    pub signal: Signal,
}

/// The scale of a limit at a time, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Adjusted {
    pub scale: Scale,
    pub reason: AdjustReason,
}

/// Why a scale is as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdjustReason {
    /// There was no signal yet.
    NoSignal,
    /// The last signal is too old.
    Stale,
    /// The signal is above its bound.
    Above,
    /// The signal is between its bounds.
    Between,
    /// The signal is below its bound.
    Below,
}

impl AdjustReason {
    /// Its name, as `/policy` and the API have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::NoSignal => "no_signal",
            Self::Stale => "stale",
            Self::Above => "above",
            Self::Between => "between",
            Self::Below => "below",
        }
    }
}

impl Adjustment {
    /// The state after a signal. Without a state, the limit was whole.
    pub fn observe(&self, known: Option<&AdjustmentState>, signal: Signal) -> AdjustmentState {
        let trend = if self.above < signal.value {
            Trend::Lower
        } else if signal.value < self.below {
            Trend::Raise
        } else {
            Trend::Hold
        };
        match known {
            Some(known) if known.trend == trend && !self.is_stale(known, signal.at) => {
                AdjustmentState { signal, ..*known }
            }
            _ => {
                let scale = self.at(known, signal.at).scale;
                AdjustmentState { scale, since: signal.at, trend, signal }
            }
        }
    }

    /// The scale at a time.
    pub fn at(&self, known: Option<&AdjustmentState>, now: Timestamp) -> Adjusted {
        let Some(known) = known else {
            return Adjusted { scale: Scale::ALL, reason: AdjustReason::NoSignal };
        };
        let (target, reason) = match known.trend {
            Trend::Lower => (self.least, AdjustReason::Above),
            Trend::Hold => (known.scale, AdjustReason::Between),
            Trend::Raise => (Scale::ALL, AdjustReason::Below),
        };
        let ends = self.stale_from(known);
        let scale = self.moved(known.scale, target, (known.since, now.min(ends)));
        let (scale, reason) = match self.is_stale(known, now) {
            true => (self.moved(scale, self.stale, (ends, now)), AdjustReason::Stale),
            false => (scale, reason),
        };
        // The bounds may have been edited since.
        Adjusted { scale: scale.max(self.least).min(Scale::ALL), reason }
    }

    fn stale_from(&self, known: &AdjustmentState) -> Timestamp {
        Timestamp::from_ms(known.signal.at.as_ms().saturating_add(self.stale_after_ms))
    }

    fn is_stale(&self, known: &AdjustmentState, now: Timestamp) -> bool {
        self.stale_from(known) <= now
    }

    /// A scale that has moved for some time towards another one.
    fn moved(&self, from: Scale, to: Scale, (since, now): (Timestamp, Timestamp)) -> Scale {
        let steps = now.as_ms().saturating_sub(since.as_ms()) / self.every_ms.max(1);
        let way = u64::from(self.step.hundredths()).saturating_mul(steps);
        let way = u32::try_from(way).unwrap_or(u32::MAX);
        let (from, to) = (from.hundredths(), to.hundredths());
        Scale::of_hundredths(match from < to {
            true => from.saturating_add(way).min(to),
            false => from.saturating_sub(way).max(to),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ADJUSTMENT: Adjustment = Adjustment {
        above: 0.05,
        below: 0.02,
        least: Scale::of_hundredths(2_000),
        step: Scale::of_hundredths(1_000),
        every_ms: 10_000,
        stale_after_ms: 60_000,
        stale: Scale::ALL,
    };

    fn signal(value: f64, at_s: u64) -> Signal {
        Signal { value, at: Timestamp::from_ms(at_s * 1_000) }
    }

    /// The percentage at a time after some signals.
    fn percent(signals: &[(f64, u64)], at_s: u64) -> (u32, &'static str) {
        let state = signals.iter().fold(None, |state: Option<AdjustmentState>, (value, at_s)| {
            Some(ADJUSTMENT.observe(state.as_ref(), signal(*value, *at_s)))
        });
        let adjusted = ADJUSTMENT.at(state.as_ref(), Timestamp::from_ms(at_s * 1_000));
        (adjusted.scale.hundredths() / 100, adjusted.reason.name())
    }

    #[test]
    fn a_limit_is_lowered_and_raised_step_by_step_and_stays_in_between() {
        assert_eq!(percent(&[], 5), (100, "no_signal"));
        let high: &[(f64, u64)] = &[(0.2, 0)];
        for (at_s, expected) in [(0, 100), (9, 100), (10, 90), (25, 80), (59, 50)] {
            assert_eq!(percent(high, at_s), (expected, "above"), "{at_s}");
        }
        let held: &[(f64, u64)] = &[(0.2, 0), (0.03, 25)];
        assert_eq!(percent(held, 84), (80, "between"));
        // A signal of the same trend changes nothing but its age.
        assert_eq!(percent(&[(0.2, 0), (0.1, 15), (0.3, 55)], 114), (20, "above"));
        let raised: &[(f64, u64)] = &[(0.2, 0), (0.03, 25), (0.01, 40)];
        for (at_s, expected) in [(40, 80), (49, 80), (50, 90), (60, 100), (99, 100)] {
            assert_eq!(percent(raised, at_s), (expected, "below"), "{at_s}");
        }
    }

    #[test]
    fn a_stale_signal_lets_the_limit_return_as_the_policy_says() {
        let high: &[(f64, u64)] = &[(0.2, 0)];
        for (at_s, expected) in [(60, 40), (69, 40), (70, 50), (120, 100), (1_000, 100)] {
            assert_eq!(percent(high, at_s), (expected, "stale"), "{at_s}");
        }
        // A new signal begins from where the limit has come.
        assert_eq!(percent(&[(0.2, 0), (0.2, 90)], 99), (70, "above"));
        assert_eq!(percent(&[(0.2, 0), (0.2, 90)], 100), (60, "above"));
    }

    proptest! {
        #[test]
        fn it_never_leaves_its_bounds_nor_moves_faster_than_it_may(
            signals in prop::collection::vec((0.0..0.1_f64, 0_u64..100_000), 1..40),
            later_ms in 0_u64..200_000,
        ) {
            let (mut at_ms, mut state) = (0, None);
            let mut last = (0, Scale::ALL.hundredths());
            for (value, wait_ms) in signals {
                at_ms += wait_ms;
                let signal = Signal { value, at: Timestamp::from_ms(at_ms) };
                let before = ADJUSTMENT.at(state.as_ref(), signal.at).scale;
                state = Some(ADJUSTMENT.observe(state.as_ref(), signal));
                let after = ADJUSTMENT.at(state.as_ref(), signal.at).scale;
                prop_assert_eq!(before, after, "a signal alone moves nothing");
                prop_assert!((2_000..=10_000).contains(&after.hundredths()));
                let steps = (at_ms - last.0) / ADJUSTMENT.every_ms + 1;
                let moved = u64::from(after.hundredths().abs_diff(last.1));
                prop_assert!(moved <= steps * 1_000, "{moved} in {steps} steps");
                last = (at_ms, after.hundredths());
            }
            let now = Timestamp::from_ms(at_ms + later_ms);
            prop_assert!((2_000..=10_000).contains(&ADJUSTMENT.at(state.as_ref(), now).scale.hundredths()));
        }
    }
}
