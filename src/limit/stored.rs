//! States as numbers, for a file that outlives the process.

use super::bucket::Debt;
use super::sliding::Slots;
use super::window::WindowCount;
use super::{Algorithm, FAR_MS, State};

impl State {
    /// Its numbers, of which [`State::of_numbers`] makes it again: of a sliding window the last millisecond and the count of
    /// each slot, of a window its end and its count, of a bucket its time and its debt, of a total its count.
    pub fn numbers(&self) -> Vec<u64> {
        match self {
            Self::Empty => Vec::new(),
            Self::Sliding(slots) => {
                slots.log.iter().flat_map(|&(last_ms, count)| [last_ms, count]).collect()
            }
            Self::Window(window) => vec![window.end_ms, window.count],
            Self::Bucket(debt) => vec![debt.at_ms, debt.units],
            Self::Total(count) => vec![*count],
        }
    }

    /// The state of a limit of that algorithm with these numbers. None if they are no such state, or not exact.
    pub fn of_numbers(algorithm: &Algorithm, numbers: &[u64]) -> Option<Self> {
        if numbers.iter().any(|number| FAR_MS + 1 < *number) {
            return None;
        }
        match (algorithm, numbers) {
            (_, []) => Some(Self::Empty),
            (Algorithm::Sliding(_), slots) => {
                let (slots, []) = slots.as_chunks::<2>() else { return None };
                let is_ascending = slots.is_sorted_by(|[one, _], [next, _]| one < next);
                let total = slots.iter().map(|[_, count]| u128::from(*count)).sum::<u128>();
                let total = u64::try_from(total).ok().filter(|total| *total <= FAR_MS)?;
                let log = slots.iter().map(|[last_ms, count]| (*last_ms, *count)).collect();
                is_ascending.then_some(Self::Sliding(Slots { total, log }))
            }
            (Algorithm::Fixed(_) | Algorithm::Calendar(_), &[end_ms, count]) => {
                Some(Self::Window(WindowCount { end_ms, count }))
            }
            (Algorithm::Bucket(_), &[at_ms, units]) => Some(Self::Bucket(Debt { at_ms, units })),
            (Algorithm::Total, &[count]) => Some(Self::Total(count)),
            _ => None,
        }
    }
}
