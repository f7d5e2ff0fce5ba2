//! Compiles the `thresholds` of a limit.

use std::ops::Range;
use std::sync::Arc;

use super::percent::percent;
use crate::limit::{Limit, Overdraft, THRESHOLDS_MAX};
use crate::policy::schema::ThresholdsFile;
use crate::policy::yaml::{Reader, Spanned};

/// The percentages for `true`.
const USUAL: [u16; 4] = [80, 90, 95, 100];

/// Maximum threshold, in percent.
pub const PERCENT_MAX: u16 = 1_000;

/// The whole limit, in percent.
const WHOLE: u16 = 100;

/// Maximum use of a limit, in percent.
pub fn used_max(limit: &Limit) -> u16 {
    match (limit.overdraft(), limit.grace_percent()) {
        (Overdraft::None, None) | (Overdraft::Clip, _) => WHOLE,
        // A tier or a caller with a larger amount may have a grace where this one has less than a hit.
        (Overdraft::None, Some(percent)) => WHOLE + percent,
        _ => PERCENT_MAX,
    }
}

/// The thresholds in a file, in percent, the lowest first; None if there are none. At most this percentage of the limit
/// can be used.
pub fn thresholds(
    reader: &mut Reader<'_>,
    file: &ThresholdsFile,
    used_max: u16,
) -> Option<Arc<[u16]>> {
    match file {
        ThresholdsFile::None => None,
        ThresholdsFile::Usual => Some(USUAL.into()),
        ThresholdsFile::List(texts, span) => listed(reader, (texts, span), used_max),
    }
}

fn listed(
    reader: &mut Reader<'_>,
    (texts, span): (&[Spanned<String>], &Range<usize>),
    used_max: u16,
) -> Option<Arc<[u16]>> {
    if texts.is_empty() {
        reader.error(span.clone(), "`thresholds` is empty; write `false` for none");
        return None;
    }
    if THRESHOLDS_MAX < texts.len() {
        let message = format!("too many thresholds; a limit may have at most {THRESHOLDS_MAX}");
        reader.error(span.clone(), message);
        return None;
    }
    let mut percents: Vec<u16> = Vec::new();
    for text in texts {
        match percent(&text.value, "threshold", PERCENT_MAX) {
            Err(message) => reader.error(text.span.clone(), message),
            Ok(percent) if used_max < percent => {
                let message = format!(
                    "`{}` is never reached: more than 100% can be used only with `overdraft: allow` or a `grace`",
                    text.value
                );
                reader.error(text.span.clone(), message);
            }
            Ok(percent) if percents.contains(&percent) => {
                reader.error(text.span.clone(), format!("duplicate threshold `{}`", text.value));
            }
            Ok(percent) => percents.push(percent),
        }
    }
    percents.sort_unstable();
    (!percents.is_empty()).then(|| percents.into())
}
