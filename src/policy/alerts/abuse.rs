//! Checks rules about abuse.

use std::time::Duration;

use super::model::{AlertBounds, AlertSignal};
use crate::policy::schema::AlertRuleFile;
use crate::policy::yaml::Reader;

/// Different values of one subject that are counted, such as the callers from one address.
pub const DISTINCT_MAX: usize = 1_000;

/// The shortest and the longest `over` of `burst`.
pub const BURST_MIN: Duration = Duration::from_millis(10);
pub const BURST_MAX: Duration = Duration::from_secs(10);

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
}
