//! Compiles the `wait` of a limit.

use std::time::Duration;

use super::rate::parse_length_ms;
use crate::policy::model::Wait;
use crate::policy::schema::WaitFile;
use crate::policy::yaml::Reader;

/// Maximum of `up_to`. The edges allow a request half as much again until its answer.
const UP_TO_MS_MAX: u64 = 10_000;

/// The default of `queue`.
const QUEUE_DEFAULT: u64 = 1_000;

impl Wait {
    /// The settings in the file.
    pub(super) fn compile(reader: &mut Reader<'_>, file: &WaitFile) -> Option<Self> {
        let up_to = file.up_to.as_ref()?;
        let ms = match parse_length_ms(&up_to.value) {
            Ok(ms) if ms <= UP_TO_MS_MAX => ms,
            Ok(_) => {
                let message = format!("wait `{}` exceeds the maximum of 10s", up_to.value);
                reader.error(up_to.span.clone(), message);
                return None;
            }
            Err(message) => {
                reader.error(up_to.span.clone(), message);
                return None;
            }
        };
        let queue = file.queue.as_ref().map_or(QUEUE_DEFAULT, |queue| queue.value);
        let queue = usize::try_from(queue).expect("the reader bounds it");
        Some(Self { up_to: Duration::from_millis(ms), queue })
    }
}
