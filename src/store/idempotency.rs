//! Idempotency tokens: a charge with a token is made once, however often it arrives.

use std::sync::atomic::{AtomicU64, Ordering};

/// Identifies a charge among those of one sidecar on one counter. The counter's record keeps the greatest number seen of each
/// sidecar for [`TOKEN_LIFE_MS`]; a charge with that number or a lower one was made before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdempotencyToken {
    /// The sidecar.
    pub by: u64,
    /// Greater than all earlier ones of the sidecar on this counter. Only one charge at a time is in flight there.
    pub number: u64,
}

/// How long a record keeps a token, in milliseconds: far longer than a charge is retried.
pub const TOKEN_LIFE_MS: u64 = 3_600_000;

/// Issues the tokens of one sidecar.
#[derive(Debug)]
pub struct TokenSource {
    by: u64,
    last: AtomicU64,
}

impl Default for TokenSource {
    /// A source with a random sidecar number.
    fn default() -> Self {
        let mut by = [0; 8];
        // Without randomness such sources share one number, and some of their charges are taken for duplicates.
        let _ = getrandom::fill(&mut by);
        Self { by: u64::from_le_bytes(by), last: AtomicU64::new(0) }
    }
}

impl TokenSource {
    /// The next token.
    pub fn next(&self) -> IdempotencyToken {
        IdempotencyToken { by: self.by, number: 1 + self.last.fetch_add(1, Ordering::Relaxed) }
    }
}
