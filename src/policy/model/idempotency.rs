//! Idempotency: which requests are retries of earlier ones, and so are charged once.

use std::time::Duration;

/// Which requests are retries of earlier ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Idempotency {
    /// The key of the entry that holds the idempotency key of a request.
    pub key: Option<Box<str>>,
    /// How long retries are free, from the first attempt that passed.
    pub life: Duration,
    /// The same for requests without that entry, which are retries of those that ask the same; None if they are none.
    pub fingerprint: Option<Duration>,
    /// How many retries are free; one more is charged like a new request.
    pub retries_max: u16,
}
