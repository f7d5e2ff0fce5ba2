//! Compiles the `wait` of a limit.

use std::time::Duration;

use super::rate::parse_length_ms;
use crate::policy::model::Wait;
use crate::policy::schema::WaitFile;
use crate::policy::yaml::Reader;

/// The longest wait that a policy may ask for. The edges give a request half as much again to be answered.
const UP_TO_MS_MAX: u64 = 10_000;

/// Requests that may wait for one counter if nothing says it.
const QUEUE_DEFAULT: u64 = 1_000;

impl Wait {
    /// What the file says.
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
