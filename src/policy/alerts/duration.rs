//! Durations in files of alerts.

use std::time::Duration;

use crate::policy::compile::parse_length_ms;
use crate::policy::yaml::{Reader, Spanned};

/// A duration of a file; None if it is invalid or too long.
pub fn duration(
    reader: &mut Reader<'_>,
    text: &Spanned<String>,
    max: Duration,
) -> Option<Duration> {
    match parse_length_ms(&text.value).map(Duration::from_millis) {
        Ok(length) if length <= max => Some(length),
        Ok(_) => {
            let message = format!("`{}` exceeds the maximum of {}s", text.value, max.as_secs());
            reader.error(text.span.clone(), message);
            None
        }
        Err(message) => {
            reader.error(text.span.clone(), message);
            None
        }
    }
}
