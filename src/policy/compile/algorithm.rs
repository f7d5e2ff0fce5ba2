//! Chooses the algorithm of a limit.

use super::defaults::Defaults;
use super::draft::Draft;
use super::rate::Rate;
use crate::limit::{Algorithm, Bucket, Calendar, Fixed, Sliding};
use crate::policy::model::{AlgorithmKind, Window};
use crate::policy::yaml::Reader;

/// The algorithm of a limit with this rate; None, with a problem, if its algorithm does not support the rate.
pub fn algorithm(
    reader: &mut Reader<'_>,
    draft: &Draft,
    rate: Rate,
    defaults: &Defaults,
) -> Option<Algorithm> {
    let said = draft.file.map.algorithm.as_ref();
    let word = said.map(|said| said.value.into());
    let span = said.map_or(&draft.file.span, |said| &said.span).clone();
    let burst = draft.file.map.burst.as_ref();
    let calendar = |unit| Algorithm::Calendar(Calendar::new(unit, defaults.zone.clone()));
    let algorithm = match (rate.window, word.or(defaults.algorithm)) {
        (Window::Total, _) if word.is_some() => Err("a `total` has no `algorithm`".to_owned()),
        (Window::Total, _) => Ok(Algorithm::Total),
        (Window::Calendar(unit), Some(AlgorithmKind::Calendar) | None) => Ok(calendar(unit)),
        (Window::Calendar(unit), Some(_)) if word.is_none() => Ok(calendar(unit)),
        (Window::Calendar(unit), Some(_)) => {
            Err(format!("a {unit} has no fixed length; use a number of days or `calendar`"))
        }
        (Window::Length(_), Some(AlgorithmKind::Calendar)) => match rate.window.calendar_unit() {
            Some(unit) => Ok(calendar(unit)),
            None => Err("use `calendar` with a minute, hour, day, week, month or year".to_owned()),
        },
        (Window::Length(window_ms), Some(AlgorithmKind::Fixed)) => {
            Ok(Algorithm::Fixed(Fixed::new(window_ms)))
        }
        (Window::Length(window_ms), Some(AlgorithmKind::Bucket)) => {
            let burst = burst.map_or(rate.amount, |burst| burst.value);
            bucket(rate.amount, window_ms, burst)
        }
        (Window::Length(window_ms), Some(AlgorithmKind::Sliding) | None) => {
            Ok(Algorithm::Sliding(Sliding::new(window_ms, rate.amount)))
        }
    };
    if let (Some(burst), Ok(algorithm)) = (burst, &algorithm)
        && !matches!(algorithm, Algorithm::Bucket(_))
    {
        reader.error(burst.span.clone(), "`burst` requires `algorithm: token_bucket`");
    }
    algorithm.map_err(|message| reader.error(span, message)).ok()
}

/// A token bucket, or the reason that it is invalid.
fn bucket(amount: u64, window_ms: u64, burst: u64) -> Result<Algorithm, String> {
    match Bucket::new(amount, window_ms, burst) {
        Some(_) if burst == 0 && 0 < amount => Err("a burst of 0 admits nothing".to_owned()),
        Some(bucket) => Ok(Algorithm::Bucket(bucket)),
        None if amount == 0 => Err("a bucket of 0 never refills".to_owned()),
        None => Err("the burst times the window is too large to count exactly".to_owned()),
    }
}
