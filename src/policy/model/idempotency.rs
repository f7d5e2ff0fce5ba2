//! Idempotency: which requests are retries of earlier ones, and are charged once.

use std::time::Duration;

/// Which requests are retries of earlier ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Idempotency {
    /// The key of the entry that holds the idempotency key of a request.
    pub key: Option<Box<str>>,
    /// How long retries are free, from the first attempt that passed.
    pub life: Duration,
    /// The same for requests without that entry: those with the same descriptors and hits are retries. None: they are
    /// not.
    pub fingerprint: Option<Duration>,
    /// Maximum number of free retries; the next one is charged like a new request.
    pub retries_max: u16,
}
