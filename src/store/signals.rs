//! Signals, and what is known of the limits that follow them, as a store keeps them: texts by the name of a field.

use std::collections::BTreeMap;

use crate::clock::Timestamp;
use crate::limit::{AdjustmentState, Scale, Signal, Trend};

/// Texts by field. Fields are named by policies, so there are few.
pub type SignalFields = BTreeMap<String, String>;

/// The fields as the store had them last.
#[derive(Debug, Default)]
pub struct KnownSignals {
    pub fields: SignalFields,
    /// The number of changes that this process has made.
    pub changes: u64,
}

/// A change of fields.
#[derive(Clone, Debug, Default)]
pub struct SignalChange {
    pub set: Vec<(String, String)>,
    pub removed: Vec<String>,
}

impl SignalChange {
    /// Whether it changes nothing.
    pub fn is_empty(&self) -> bool {
        self.set.is_empty() && self.removed.is_empty()
    }

    /// Makes it.
    pub fn apply(&self, fields: &mut SignalFields) {
        fields.extend(self.set.iter().cloned());
        self.removed.iter().for_each(|field| {
            fields.remove(field);
        });
    }
}

/// A signal as a field has it: its value, and its time in milliseconds.
pub fn signal_text(signal: Signal) -> String {
    format!("{} {}", signal.value, signal.at.as_ms())
}

/// A signal from a field; None if it makes no sense.
pub fn parse_signal(text: &str) -> Option<Signal> {
    let (value, at_ms) = text.split_once(' ')?;
    let value = value.parse::<f64>().ok().filter(|value| value.is_finite())?;
    Some(Signal { value, at: Timestamp::from_ms(at_ms.parse().ok()?) })
}

/// A state as a field has it: its scale, since when its trend holds, the trend, and the signal.
pub fn state_text(state: &AdjustmentState) -> String {
    let trend = match state.trend {
        Trend::Lower => '-',
        Trend::Hold => '=',
        Trend::Raise => '+',
    };
    let (scale, since_ms) = (state.scale.hundredths(), state.since.as_ms());
    format!("{scale} {since_ms} {trend} {}", signal_text(state.signal))
}

/// A state from a field; None if it makes no sense.
pub fn parse_state(text: &str) -> Option<AdjustmentState> {
    let mut parts = text.splitn(4, ' ');
    let scale = Scale::of_hundredths(parts.next()?.parse().ok()?).min(Scale::ALL);
    let since = Timestamp::from_ms(parts.next()?.parse().ok()?);
    let trend = match parts.next()? {
        "-" => Trend::Lower,
        "=" => Trend::Hold,
        "+" => Trend::Raise,
        _ => return None,
    };
    Some(AdjustmentState { scale, since, trend, signal: parse_signal(parts.next()?)? })
}

/// When a field was last told of, if it makes any sense.
pub fn told_at(text: &str) -> Option<Timestamp> {
    let (_, at_ms) = text.rsplit_once(' ')?;
    Some(Timestamp::from_ms(at_ms.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back_and_nothing_else() {
        for value in [0.0, 0.1, 1.0 / 3.0, 1e15] {
            let signal = Signal { value, at: Timestamp::from_ms(1_700_000_000_000) };
            assert_eq!(parse_signal(&signal_text(signal)), Some(signal));
            assert_eq!(told_at(&signal_text(signal)), Some(signal.at));
            for trend in [Trend::Lower, Trend::Hold, Trend::Raise] {
                let scale = Scale::of_hundredths(4_250);
                let state = AdjustmentState { scale, since: Timestamp::from_ms(7), trend, signal };
                assert_eq!(parse_state(&state_text(&state)), Some(state));
                assert_eq!(told_at(&state_text(&state)), Some(signal.at));
            }
        }
        for text in ["", "1", "x 1", "NaN 1", "inf 1", "1 x", "1 -1"] {
            assert_eq!(parse_signal(text), None, "{text}");
        }
        for text in ["", "1 2 - ", "1 2 ? 0.5 3", "-1 2 - 0.5 3", "1 2 -"] {
            assert_eq!(parse_state(text), None, "{text}");
        }
    }
}
