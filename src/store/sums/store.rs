//! The store of sums: Redis, or a file of this process alone.

use super::file::FileSums;
use super::{SumsAdded, SumsBatch, SumsError, SumsPeriod, SumsQuestion, SumsReader};
use crate::clock::Timestamp;
use crate::store::StoreError;
use crate::store::redis::RedisSums;

/// The place of sums.
#[derive(Debug)]
pub enum SumsStore {
    Redis(RedisSums),
    File(FileSums),
}

impl SumsStore {
    /// Whether several processes add to the same sums.
    pub fn is_shared(&self) -> bool {
        matches!(self, Self::Redis(_))
    }

    /// Opens the file again if it is closed and the pause is over; Redis has its own task for that. It blocks on the
    /// disk.
    pub fn reopen(&self, now: Timestamp) {
        if let Self::File(file) = self {
            file.reopen(now);
        }
    }

    /// Makes the additions of a batch, unless they were made before.
    ///
    /// # Errors
    /// If the store did not answer in time or not as expected; they may have been made.
    pub async fn add(&self, batch: &SumsBatch) -> Result<SumsAdded, StoreError> {
        match self {
            Self::Redis(redis) => redis.add(batch).await,
            Self::File(file) => file.add(batch),
        }
    }

    /// Removes a caller from periods, and returns the number of its sums there. The totals stay.
    ///
    /// # Errors
    /// If the store does not answer; some may be removed.
    pub async fn erase(&self, periods: &[SumsPeriod], caller: &str) -> Result<u64, StoreError> {
        match self {
            Self::Redis(redis) => redis.erase(periods, caller).await,
            Self::File(file) => file.erase(periods, caller).await,
        }
    }

    /// Gives a reader the answer to a question, and returns it.
    ///
    /// # Errors
    /// If the store does not answer, or the answer is too large.
    pub async fn ask<R: SumsReader>(
        &self,
        question: &SumsQuestion,
        reader: R,
    ) -> Result<R, SumsError> {
        match self {
            Self::Redis(redis) => redis.ask(question, reader).await,
            Self::File(file) => file.ask(question, reader).await,
        }
    }
}
