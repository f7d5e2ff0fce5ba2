//! Checks rules about abuse.

use std::time::Duration;

use super::duration::duration;
use super::model::{AlertBounds, AlertRestriction, AlertSignal};
use crate::policy::schema::{AlertAnswerFile, AlertRuleFile};
use crate::policy::yaml::Reader;
use crate::printable::is_blank;

/// Different values of one subject that are counted, such as the callers from one address.
pub const DISTINCT_MAX: usize = 1_000;

/// The shortest and the longest `over` of `burst`.
pub const BURST_MIN: Duration = Duration::from_millis(10);
pub const BURST_MAX: Duration = Duration::from_secs(10);

/// The shortest and the longest time of an answer.
const ANSWER_MIN: Duration = Duration::from_secs(60);
const ANSWER_MAX: Duration = Duration::from_secs(7 * 24 * 3_600);

/// The answer of a rule; None if it has a problem.
pub fn answer(
    reader: &mut Reader<'_>,
    file: &AlertAnswerFile,
    signal: AlertSignal,
) -> Option<AlertRestriction> {
    if signal.risk().is_none() && signal != AlertSignal::Risk {
        let message = format!(
            "`answer` has no effect with `when: {}`, whose alerts are not about abuse by a caller",
            signal.as_str()
        );
        reader.error(file.span.clone(), message);
    }
    let tier = file.tier.as_ref()?;
    if is_blank(&tier.value) {
        reader.error(tier.span.clone(), "`tier` is blank; name the tier");
    }
    let text = file.r#for.as_ref()?;
    let length = duration(reader, text, ANSWER_MAX)?;
    if length < ANSWER_MIN {
        let message = format!("`{}` is shorter than {}s", text.value, ANSWER_MIN.as_secs());
        reader.error(text.span.clone(), message);
    }
    Some(AlertRestriction { tier: tier.value.as_str().into(), length })
}

/// Reports a value that is never reached.
pub fn check_abuse(
    reader: &mut Reader<'_>,
    file: &AlertRuleFile,
    signal: AlertSignal,
    bounds: AlertBounds,
) {
    let counts_different = matches!(
        signal,
        AlertSignal::AddressCallers
            | AlertSignal::AddressApiKeys
            | AlertSignal::CallerAddresses
            | AlertSignal::ApiKeyAddresses
    );
    if let Some(above) = &file.above
        && counts_different
        && bounds.is_above
        && DISTINCT_MAX as f64 <= bounds.fires
    {
        let message = format!(
            "it never fires: up to {DISTINCT_MAX} are counted; use a value below `{DISTINCT_MAX}`"
        );
        reader.error(above.span.clone(), message);
    }
    if let Some(above) = &file.above
        && signal == AlertSignal::Risk
        && 100.0 <= bounds.fires
    {
        reader.error(above.span.clone(), "it never fires: a risk is at most 100");
    }
}
