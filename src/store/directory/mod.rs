//! The directory of callers: files, this process, Redis, or none.
//!
//! The engine asks for lineages. Those in memory are returned at once, as shared pointers. Others are fetched within
//! the store's deadline. If the directory does not answer, its last known record applies. If there is none, `on_outage`
//! decides.

mod caller_record;
mod edit;
mod embedded;
mod file;
mod gift;
mod owned;
mod stored;

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::task::spawn_blocking;

use owned::{OwnedChange, OwnedGiftChange};

use crate::clock::Timestamp;
use crate::policy::{Callers, Lineage, Member};
use crate::store::redis::RedisDirectory;
use crate::store::{StoreError, StoreWait};

pub use caller_record::{Change, Page, Record};
pub use embedded::{EmbeddedDirectory, EmbeddedError};
pub use file::DirectoryFile;
pub use gift::{
    ErasedGifts, GIFT_KEPT, GIFT_LOG_LEN_MAX, GIFT_LOG_LIFE, GIFT_MARK_MS, Gift, GiftChange,
    GiftEvent, GiftEventKind, GiftState,
};
pub use stored::{caller_json, event_json, gift_json, read_event, read_gift, read_record};

/// The directory of callers.
#[derive(Debug, Default)]
pub enum Directory {
    /// No directory: all callers are unknown.
    #[default]
    None,
    /// The files, as last read.
    Files(ArcSwap<Callers>),
    /// This process, with a file if there is a `data_dir`.
    Embedded(Arc<EmbeddedDirectory>),
    /// Redis, through a cache.
    Redis(RedisDirectory),
}

/// The reason that a directory failed.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// There is no directory.
    #[error("no directory of callers")]
    None,
    /// It can't be changed here.
    #[error("the directory is in files; edit the files instead")]
    Files,
    /// The store is unavailable, or late; a late change may have been made.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The directory of this process has no place, or can't be written.
    #[error(transparent)]
    Embedded(#[from] EmbeddedError),
}

impl Directory {
    /// A directory of files that have not been read.
    pub fn files() -> Self {
        Self::Files(ArcSwap::default())
    }

    /// Replaces the callers, if the directory is in files.
    pub fn replace(&self, callers: Callers) {
        if let Self::Files(files) = self {
            files.store(Arc::new(callers));
        }
    }

    /// The lineage of a caller, if it is in memory; then it is complete.
    pub fn cached(&self, caller: &str) -> Option<Lineage> {
        match self {
            Self::None => Some(Lineage::default()),
            Self::Files(files) => Some(files.load().lineage(caller)),
            Self::Embedded(callers) => Some(callers.lineage(caller)),
            Self::Redis(redis) => redis.cached(caller),
        }
    }

    /// The lineage of a caller, nearest first; empty for an unknown caller; incomplete if the directory doesn't answer
    /// in time.
    pub async fn lineage(&self, caller: &str, wait: StoreWait) -> Lineage {
        match self {
            Self::None => Lineage::default(),
            Self::Files(files) => files.load().lineage(caller),
            Self::Embedded(callers) => callers.lineage(caller),
            // Boxed, because it is rarely needed, and would make every request larger.
            Self::Redis(redis) => Box::pin(redis.lineage(caller, wait)).await,
        }
    }

    /// Checks that the directory can be changed here.
    ///
    /// # Errors
    /// If there is none, or it is in files.
    pub fn writable(&self) -> Result<(), DirectoryError> {
        match self {
            Self::None => Err(DirectoryError::None),
            Self::Files(_) => Err(DirectoryError::Files),
            Self::Embedded(_) | Self::Redis(_) => Ok(()),
        }
    }

    /// The current record of a caller, without the cache.
    ///
    /// # Errors
    /// If there is no directory, or it does not answer.
    pub async fn read(&self, name: &str) -> Result<Option<Record>, DirectoryError> {
        match self {
            Self::None => Err(DirectoryError::None),
            Self::Files(files) => Ok(files.load().get(name).cloned().map(Record::of_file)),
            Self::Embedded(callers) => Ok(callers.read(name)),
            Self::Redis(redis) => Ok(redis.read(name).await?),
        }
    }

    /// The next `limit` callers after the name, ordered.
    ///
    /// # Errors
    /// If there is no directory, or it does not answer.
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
            Self::Embedded(callers) => Ok(callers.page(after, limit)),
            Self::Redis(redis) => Ok(redis.page(after, limit).await?),
        }
    }

    /// Makes a change and returns its revision. None if the record, or one on which it depends, was changed since its
    /// writer has read it.
    ///
    /// # Errors
    /// If the directory can't be changed here, or does not answer.
    pub async fn write(&self, change: Change<'_>) -> Result<Option<u64>, DirectoryError> {
        match self {
            Self::None => Err(DirectoryError::None),
            Self::Files(_) => Err(DirectoryError::Files),
            Self::Embedded(callers) => {
                let change = OwnedChange::from(change);
                Ok(on_disk(callers, move |callers| callers.write(change.borrowed())).await?)
            }
            Self::Redis(redis) => Ok(redis.write(change).await?),
        }
    }

    /// Whether no failover can undo the changes that were made.
    pub async fn is_replicated(&self) -> bool {
        match self {
            Self::None | Self::Files(_) | Self::Embedded(_) => true,
            Self::Redis(redis) => redis.is_replicated().await,
        }
    }

    /// The gift of an id.
    ///
    /// # Errors
    /// When the directory is not changed from here, or does not answer.
    pub async fn gift(&self, id: &str) -> Result<Option<Gift>, DirectoryError> {
        self.writable()?;
        match self {
            Self::None | Self::Files(_) => Ok(None),
            Self::Embedded(callers) => Ok(callers.gift(id)),
            Self::Redis(redis) => Ok(redis.gift(id).await?),
        }
    }

    /// Changes a gift, unless it or the caller that gets its hits is another one than its writer saw: then false. If it is
    /// pending, it is due from that time on.
    ///
    /// # Errors
    /// When the directory is not changed from here, or does not answer; then it may have been changed.
    pub async fn write_gift(
        &self,
        change: GiftChange<'_>,
        due: Timestamp,
    ) -> Result<bool, DirectoryError> {
        self.writable()?;
        match self {
            Self::None | Self::Files(_) => Ok(false),
            Self::Embedded(callers) => {
                let change = OwnedGiftChange::from(change);
                let write = move |callers: &EmbeddedDirectory| change.write(callers, due);
                Ok(on_disk(callers, write).await?)
            }
            Self::Redis(redis) => Ok(redis.write_gift(change, due).await?),
        }
    }

    /// Some ids of pending gifts that are due, the longest due first; none of a directory that is not changed from here.
    ///
    /// # Errors
    /// When the directory does not answer.
    pub async fn due_gifts(
        &self,
        now: Timestamp,
        max: usize,
    ) -> Result<Vec<String>, DirectoryError> {
        match self {
            Self::None | Self::Files(_) => Ok(Vec::new()),
            Self::Embedded(callers) => Ok(callers.due_gifts(now, max)),
            Self::Redis(redis) => Ok(redis.due_gifts(now, max).await?),
        }
    }

    /// What a caller is told of gifts, the youngest first; nothing by a directory that is not changed from here.
    ///
    /// # Errors
    /// When the directory does not answer.
    pub async fn gift_log(&self, caller: &str) -> Result<Vec<GiftEvent>, DirectoryError> {
        match self {
            Self::None | Self::Files(_) => Ok(Vec::new()),
            Self::Embedded(callers) => Ok(callers.gift_log(caller)),
            Self::Redis(redis) => Ok(redis.gift_log(caller).await?),
        }
    }

    /// Erases the name of a caller from gifts; nothing in a directory that is not changed from here.
    ///
    /// # Errors
    /// When the directory does not answer; some may be erased.
    pub async fn erase_gifts(&self, caller: &str) -> Result<ErasedGifts, DirectoryError> {
        match self {
            Self::None | Self::Files(_) => Ok(ErasedGifts::default()),
            Self::Embedded(callers) => {
                let caller = caller.to_owned();
                Ok(on_disk(callers, move |callers| callers.erase_gifts(&caller)).await?)
            }
            Self::Redis(redis) => Ok(redis.erase_gifts(caller).await?),
        }
    }
}

/// Makes a change on a thread where no request waits for the disk.
async fn on_disk<T: Send + 'static>(
    callers: &Arc<EmbeddedDirectory>,
    change: impl FnOnce(&EmbeddedDirectory) -> Result<T, EmbeddedError> + Send + 'static,
) -> Result<T, EmbeddedError> {
    let callers = callers.clone();
    let changed = spawn_blocking(move || change(&callers)).await;
    changed.unwrap_or_else(|error| Err(EmbeddedError::File(error.to_string())))
}
