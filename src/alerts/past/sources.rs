//! Reads usage: of all sidecars from the store, or of this one from its memory.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::{JoinError, spawn_blocking};
use tokio::time::timeout;

use crate::clock::Timestamp;
use crate::store::StoreError;
use crate::store::sums::{SumsError, SumsStore};
use crate::usage::{Page, Retention, StoredGroups, UsageMemory, UsageQuery};

/// How long the store may take to tell sums.
const STORE_TIMEOUT: Duration = Duration::from_secs(5);

/// The sources of usage.
#[derive(Clone, Debug)]
pub struct UsageSources {
    /// The sums of this process.
    pub memory: Arc<UsageMemory>,
    /// The store of sums that outlive the process. None: there is none.
    pub sums: Option<Arc<SumsStore>>,
    /// How long the store keeps them.
    pub retention: Retention,
}

impl UsageSources {
    /// Sums what a query asks for: what is stored, or what this process has counted if there is no store.
    ///
    /// # Errors
    /// If the store does not answer in time, or the answer is too large.
    pub async fn read(&self, query: &Arc<UsageQuery>, now: Timestamp) -> Result<Page, SumsError> {
        match self.stored(query, now).await? {
            Some(page) => Ok(page),
            None => Ok(self.counted(query, now).await?),
        }
    }

    /// What all sidecars have counted; None if nothing is stored.
    ///
    /// # Errors
    /// If the store does not answer in time, or the answer is too large.
    pub async fn stored(
        &self,
        query: &Arc<UsageQuery>,
        now: Timestamp,
    ) -> Result<Option<Page>, SumsError> {
        let Some(sums) = &self.sums else { return Ok(None) };
        let question = query.question(self.retention, now);
        let late = |_| StoreError::Late { deadline: STORE_TIMEOUT };
        let groups = StoredGroups::new(query.clone());
        let groups = timeout(STORE_TIMEOUT, sums.ask(&question, groups)).await.map_err(late)??;
        let from = query.stored_from(self.retention, now);
        let page = spawn_blocking(move || groups.page(from)).await;
        Ok(Some(page.map_err(|error| failed(&error))?))
    }

    /// What this sidecar has counted.
    ///
    /// # Errors
    /// If the threads that sum are gone.
    pub async fn counted(
        &self,
        query: &Arc<UsageQuery>,
        now: Timestamp,
    ) -> Result<Page, StoreError> {
        let (memory, query) = (self.memory.clone(), query.clone());
        // Off the threads that answer requests.
        let page = spawn_blocking(move || memory.sum(&query, now)).await;
        page.map_err(|error| failed(&error))
    }
}

fn failed(error: &JoinError) -> StoreError {
    StoreError::Garbled { reason: error.to_string() }
}
