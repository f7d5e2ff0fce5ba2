//! The directory of callers: files, Redis, or none.
//!
//! The engine asks for lineages. What is at hand is answered at once, without waiting and by shared
//! pointers; what isn't, is fetched within the store's deadline. What a directory that does not answer was last known
//! to hold is taken; a caller of whom nothing is known is one whom the store can't decide about.

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::redis::RedisDirectory;
use super::{Change, Page, Record, StoreError};
use crate::policy::{Callers, Lineage, Member};

/// What knows callers.
#[derive(Debug, Default)]
pub enum Directory {
    /// Nobody is known.
    #[default]
    None,
    /// Files, as they were last read.
    Files(ArcSwap<Callers>),
    /// Redis, through a cache.
    Redis(RedisDirectory),
}

/// Why a directory did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// There is none.
    #[error("no directory of callers: set `callers` or `redis_url`")]
    None,
    /// It is not changed from here.
    #[error("the directory is in files; edit the files instead")]
    Files,
    /// The store is out, or late; a late change may have been made.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Directory {
    /// A directory of files that have not been read.
    pub fn files() -> Self {
        Self::Files(ArcSwap::default())
    }

    /// Puts other callers in force where files are the directory.
    pub fn replace(&self, callers: Callers) {
        if let Self::Files(files) = self {
            files.store(Arc::new(callers));
        }
    }

    /// A caller and those it belongs to, if that is at hand: then it is the whole answer.
    pub fn cached(&self, caller: &str) -> Option<Lineage> {
        match self {
            Self::None => Some(Lineage::default()),
            Self::Files(files) => Some(files.load().lineage(caller)),
            Self::Redis(redis) => redis.cached(caller),
        }
    }

    /// A caller and those it belongs to, the nearest first; nobody if the directory doesn't know the caller;
    /// incomplete if it doesn't answer in time.
    pub async fn lineage(&self, caller: &str) -> Lineage {
        match self {
            Self::None => Lineage::default(),
            Self::Files(files) => files.load().lineage(caller),
            // Boxed, because it is rarely waited for, and would make every request larger.
            Self::Redis(redis) => Box::pin(redis.lineage(caller)).await,
        }
    }

    /// Says that the directory is not changed from here, if so.
    ///
    /// # Errors
    /// When there is none, or it lives in files.
    pub fn writable(&self) -> Result<(), DirectoryError> {
        match self {
            Self::None => Err(DirectoryError::None),
            Self::Files(_) => Err(DirectoryError::Files),
            Self::Redis(_) => Ok(()),
        }
    }

    /// The record of a caller as it is now, past any cache.
    ///
    /// # Errors
    /// When there is no directory, or it does not answer.
    pub async fn read(&self, name: &str) -> Result<Option<Record>, DirectoryError> {
        match self {
            Self::None => Err(DirectoryError::None),
            Self::Files(files) => Ok(files.load().get(name).cloned().map(Record::of_file)),
            Self::Redis(redis) => Ok(redis.read(name).await?),
        }
    }

    /// The next `limit` callers after the name, in order.
    ///
    /// # Errors
    /// When there is no directory, or it does not answer.
    pub async fn page(&self, after: &str, limit: usize) -> Result<Page, DirectoryError> {
        match self {
            Self::None => Err(DirectoryError::None),
            Self::Files(files) => {
                let named =
                    |member: Member| (member.name.to_string(), Record::of_file(member.caller));
                let callers: Vec<_> =
                    files.load().page(after, limit).into_iter().map(named).collect();
                let last = callers.last().map(|(name, _)| name.clone());
                let next = last.filter(|_| limit <= callers.len());
                Ok(Page { callers, next })
            }
            Self::Redis(redis) => Ok(redis.page(after, limit).await?),
        }
    }

    /// Makes a change and tells its revision, or nothing if the record, or one that it depends on, is another one
    /// than its writer saw.
    ///
    /// # Errors
    /// When the directory is not changed from here, or does not answer.
    pub async fn write(&self, change: Change<'_>) -> Result<Option<u64>, DirectoryError> {
        match self {
            Self::None => Err(DirectoryError::None),
            Self::Files(_) => Err(DirectoryError::Files),
            Self::Redis(redis) => Ok(redis.write(change).await?),
        }
    }
}
