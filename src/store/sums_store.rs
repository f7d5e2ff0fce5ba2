//! The store of sums: Redis.

use super::StoreError;
use super::redis::RedisSums;
use super::sums::{SumsAdded, SumsAnswer, SumsBatch, SumsError, SumsQuestion};

/// Where sums are kept.
#[derive(Debug)]
pub enum SumsStore {
    Redis(RedisSums),
}

impl SumsStore {
    /// Makes the additions of a batch, unless they were made before.
    ///
    /// # Errors
    /// When the store did not answer in time or not as it should; they may have been made or not.
    pub async fn add(&self, batch: &SumsBatch) -> Result<SumsAdded, StoreError> {
        match self {
            Self::Redis(redis) => redis.add(batch).await,
        }
    }

    /// Tells sums.
    ///
    /// # Errors
    /// When the store does not answer, or the answer is too large.
    pub async fn ask(&self, question: &SumsQuestion) -> Result<SumsAnswer, SumsError> {
        match self {
            Self::Redis(redis) => redis.ask(question).await,
        }
    }
}
