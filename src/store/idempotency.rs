//! What makes a charge count once, however often it arrives: a token of a sidecar, or the idempotency key of a request.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::clock::Timestamp;

/// What tells whether a charge was made before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Once {
    /// A number of the sidecar, for charges that it sends again by itself.
    Token(IdempotencyToken),
    /// A mark under the idempotency key of the request.
    Mark(IdempotencyMark),
    /// Takes this attempt at the request out of the mark, because it was refused elsewhere. When no other attempt has met the
    /// mark, the hits come back, and the mark goes.
    Undo(IdempotencyMark),
    /// Corrects the count by a difference to what was in use at this time. It is not made if another one was made since.
    Correction { read_at: Timestamp },
    /// Only finds the mark, whatever its hits. The charge itself has none.
    Look(IdempotencyMark),
}

/// Identifies a charge among those of one sidecar on one counter. The counter's record keeps the greatest number seen of each
/// sidecar for [`TOKEN_LIFE_MS`]; a charge with that number or a lower one was made before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdempotencyToken {
    /// The sidecar.
    pub by: u64,
    /// Greater than all earlier ones of the sidecar on this counter. Only one charge at a time is in flight there.
    pub number: u64,
}

/// The mark that a charge leaves under the idempotency key of its request: what was charged, by which attempts, how often it
/// was retried. While it lives, the same charge is free, and one of other hits is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdempotencyMark {
    /// Which of the batch's keys has the mark; on the shard of the charge's own key.
    pub key_index: u16,
    /// Retries that are free. One more is charged like a new request.
    pub retries_max: u16,
    /// How long the mark lives, in milliseconds.
    pub life_ms: u32,
    /// Tells this attempt at the request from all others; [`FINAL`] for one that is not refused elsewhere.
    pub attempt: u64,
}

/// The attempt at a request that one shard decides alone.
pub const FINAL: u64 = 0;

/// What a store found under the idempotency key of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// The same charge, made so many milliseconds ago. It is not made again.
    Free { age_ms: u32 },
    /// A charge of other hits.
    Conflict,
}

/// How long a record keeps a token, in milliseconds: far longer than a charge is retried.
pub const TOKEN_LIFE_MS: u64 = 3_600_000;

/// How long a record keeps that it was corrected, in milliseconds.
pub const CORRECTION_LIFE_MS: u64 = 24 * 3_600_000;

/// Issues the tokens of one sidecar.
#[derive(Debug)]
pub struct TokenSource {
    by: u64,
    last: AtomicU64,
}

impl Retry {
    /// How long ago the charge was made; zero if another one was.
    pub fn age(self) -> Duration {
        match self {
            Self::Free { age_ms } => Duration::from_millis(age_ms.into()),
            Self::Conflict => Duration::ZERO,
        }
    }

    /// Whether the charge was made before.
    pub fn is_free(self) -> bool {
        matches!(self, Self::Free { .. })
    }
}

impl Once {
    /// The mark that it leaves, looks for or removes.
    pub fn mark(&self) -> Option<&IdempotencyMark> {
        match self {
            Self::Token(_) | Self::Correction { .. } => None,
            Self::Mark(mark) | Self::Undo(mark) | Self::Look(mark) => Some(mark),
        }
    }

    /// The same, whose mark is under another of the batch's keys.
    pub fn under(self, key_index: usize) -> Self {
        let key_index =
            u16::try_from(key_index).expect("the descriptors of a request bound its keys");
        match self {
            Self::Token(_) | Self::Correction { .. } => self,
            Self::Mark(mark) => Self::Mark(IdempotencyMark { key_index, ..mark }),
            Self::Undo(mark) => Self::Undo(IdempotencyMark { key_index, ..mark }),
            Self::Look(mark) => Self::Look(IdempotencyMark { key_index, ..mark }),
        }
    }
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

    /// A number for an attempt at a request, which no other attempt has in any sidecar, as far as chance allows.
    pub fn attempt(&self) -> u64 {
        let attempt = self.by.wrapping_add(self.next().number);
        if attempt == FINAL { self.by } else { attempt }
    }
}
