//! Compiles the `thresholds` of a limit.

use std::ops::Range;
use std::sync::Arc;

use crate::limit::{Overdraft, THRESHOLDS_MAX};
use crate::policy::schema::ThresholdsFile;
use crate::policy::yaml::{Reader, Spanned};

/// In percent, where the file says `true`.
const USUAL: [u16; 4] = [80, 90, 95, 100];

/// The highest threshold, in percent.
const PERCENT_MAX: u16 = 1_000;

/// All of a limit, in percent.
const WHOLE: u16 = 100;

/// The thresholds that the file says, in percent, the lowest first; None for none. Those above the whole limit need an overdraft.
pub fn thresholds(
    reader: &mut Reader<'_>,
    file: &ThresholdsFile,
    overdraft: Overdraft,
) -> Option<Arc<[u16]>> {
    match file {
        ThresholdsFile::None => None,
        ThresholdsFile::Usual => Some(USUAL.into()),
        ThresholdsFile::List(texts, span) => listed(reader, (texts, span), overdraft),
    }
}

fn listed(
    reader: &mut Reader<'_>,
    (texts, span): (&[Spanned<String>], &Range<usize>),
    overdraft: Overdraft,
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
        match percent(&text.value) {
            Err(message) => reader.error(text.span.clone(), message),
            Ok(percent) if WHOLE < percent && overdraft == Overdraft::None => {
                let message = format!(
                    "`{}` is never reached: more than 100% can be used only with an `overdraft`",
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

/// Reads `80%`.
fn percent(text: &str) -> Result<u16, String> {
    let number = text.trim().strip_suffix('%').map(str::trim_end);
    let digits = number.filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
    let percent = digits.and_then(|digits| digits.parse::<u16>().ok());
    let valid = percent.filter(|percent| (1..=PERCENT_MAX).contains(percent));
    valid.ok_or_else(|| {
        format!("invalid threshold `{text}`; use a whole percentage from 1% to {PERCENT_MAX}%, such as 80%")
    })
}
