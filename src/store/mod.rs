//! Where counters live: in this process, or in a Redis that several sidecars share.
//!
//! A store charges all the limits of a request in one atomic step: either every rule that must agree
//! agrees, or nothing is spent. Every store passes the same contract suite.

mod amends;
mod api_keys;
mod arrival;
mod batch;
mod breaker;
mod database_file;
mod directory;
pub mod embedded;
mod fallback;
mod idempotency;
pub mod local_cache;
mod notice;
pub mod provider_controls;
pub mod redis;
mod reservation;
mod reservation_record;
mod reservation_records;
pub mod shared;
mod sidecars;
pub mod signals;
pub mod sums;
mod tally;

use std::time::Duration;

use crate::clock::Now;
use crate::policy::Key;

pub use amends::Amends;
pub use api_keys::{
    ApiKeyChange, ApiKeyError, ApiKeyFile, ApiKeyFileContent, ApiKeyPage, ApiKeyStore,
    EmbeddedApiKeys, FoundApiKey,
};
pub use arrival::{Arrival, StoreWait};
pub use batch::{
    BONUS_ID_LEN_MAX, Batch, Charge, Decision, Gauge, INLINE_CAP, LEVELS_MAX, Mark, Open, Outcome,
    Pressed,
};
pub use breaker::{Breaker, Health};
pub use directory::{
    Change, Directory, DirectoryError, DirectoryFile, EmbeddedDirectory, EmbeddedError,
    ErasedGifts, GIFT_KEPT, GIFT_LOG_LEN_MAX, GIFT_LOG_LIFE, GIFT_MARK_MS, Gift, GiftChange,
    GiftEvent, GiftEventKind, GiftState, Page, Record, caller_json, event_json, gift_json,
    read_event, read_gift, read_record,
};
pub use embedded::{CounterFile, PARTS_MAX};
pub use fallback::{Debt, Fallback};
pub use idempotency::{
    CORRECTION_LIFE_MS, FINAL, IdempotencyMark, IdempotencyToken, Once, Retry, TOKEN_LIFE_MS,
    TokenSource,
};
pub use notice::{BonusStand, Notice};
pub use reservation::{HELD_MAX, Reservation};
pub use reservation_record::{RecordKey, ReservationRecord, Written};
pub use reservation_records::ReservationRecords;
pub use sums::{FileSums, SumsStore};
pub use tally::{GroupFit, Tally};

/// Keeps counters.
pub trait Store: Send + Sync {
    /// Charges a request in one atomic step, or charges nothing.
    ///
    /// # Errors
    /// When the store did not answer in time, or not as it should. What was spent is then unknown.
    fn charge(
        &self,
        batch: &Batch,
        now: Now,
    ) -> impl Future<Output = Result<Outcome, StoreError>> + Send {
        self.charge_after(batch, now, StoreWait::default())
    }

    /// Charges a request that has waited for the store before: it waits for the rest of its deadline. If nothing is left of
    /// it, nothing is sent.
    ///
    /// # Errors
    /// As those of [`Store::charge`].
    fn charge_after(
        &self,
        batch: &Batch,
        now: Now,
        wait: StoreWait,
    ) -> impl Future<Output = Result<Outcome, StoreError>> + Send;

    /// The shard of a key: keys of one shard are charged in one step, keys of several are not.
    fn shard_of(&self, _key: &Key) -> u32 {
        0
    }

    /// Whether it is asked now.
    fn is_healthy(&self) -> bool {
        true
    }

    /// How many sidecars share it, this one included, as far as was last known; 0 if it never was.
    fn sidecars(&self) -> u32 {
        1
    }
}

/// Why a store did not decide.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no connection; Tollgate is reconnecting.
    #[error("the store at {address} is not connected: {reason}")]
    Disconnected { address: String, reason: String },
    /// The connection was lost during the call. The charge may have been made or not.
    #[error("the connection to the store at {address} was lost: {reason}")]
    Lost { address: String, reason: String },
    /// The deadline passed. The charge may have been made or not.
    #[error("the store did not answer within {} ms", deadline.as_millis())]
    Late { deadline: Duration },
    /// Too many requests wait for the store; this one would miss its deadline.
    #[error("too many requests are waiting for the store")]
    Crowded,
    /// The store answered with an error that concerns all charges, such as a full memory.
    #[error("the store refused the call: {0}")]
    Refused(String),
    /// A key of the request holds another type of value.
    #[error("a key of the request holds no valid counter: {reason}")]
    Foreign { reason: String },
    /// The answer of the store is invalid.
    #[error("invalid answer of the store: {reason}")]
    Garbled { reason: String },
}

impl StoreError {
    /// The node of a slot is unknown, in the cluster at this address.
    pub(crate) fn unexplored(address: &str) -> Self {
        let reason = "the node of the slot is unknown".to_owned();
        Self::Disconnected { address: address.to_owned(), reason }
    }

    /// Whether certainly nothing was charged.
    pub fn is_unmade(&self) -> bool {
        match self {
            Self::Disconnected { .. } | Self::Crowded | Self::Refused(_) | Self::Foreign { .. } => {
                true
            }
            Self::Lost { .. } | Self::Late { .. } | Self::Garbled { .. } => false,
        }
    }

    /// A word for each variant, for metrics.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Disconnected { .. } => "disconnected",
            Self::Lost { .. } => "lost",
            Self::Late { .. } => "late",
            Self::Crowded => "crowded",
            Self::Refused(_) => "refused",
            Self::Foreign { .. } => "foreign",
            Self::Garbled { .. } => "garbled",
        }
    }
}
