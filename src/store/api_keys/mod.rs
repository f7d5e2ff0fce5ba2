//! Where API keys are kept: in this process, with a file if there is a `data_dir`, or in Redis.

mod change;
mod file;

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::{Arc, Mutex};

use foldhash::fast::RandomState;

use crate::api_keys::{ApiKeyHash, ApiKeyRecord, Hashes, LastUse};
use crate::lock::lock;
use crate::store::StoreError;
use crate::store::redis::RedisApiKeys;

pub use change::{ApiKeyChange, ApiKeyPage, FoundApiKey};
pub use file::{ApiKeyFile, ApiKeyFileContent};

/// Maximum number of API keys in this process.
const EMBEDDED_MAX: usize = 100_000;

/// Where API keys are kept.
#[derive(Debug)]
pub enum ApiKeyStore {
    Embedded(EmbeddedApiKeys),
    Redis(RedisApiKeys),
}

/// API keys in this process.
#[derive(Debug, Default)]
pub struct EmbeddedApiKeys {
    keys: Mutex<Keys>,
    /// None: they end with the process.
    file: Option<ApiKeyFile>,
}

#[derive(Debug, Default)]
struct Keys {
    by_id: BTreeMap<Arc<str>, Arc<ApiKeyRecord>>,
    by_hash: HashMap<ApiKeyHash, Arc<ApiKeyRecord>, RandomState>,
    /// By id, of records alone.
    last_uses: HashMap<Arc<str>, LastUse, RandomState>,
    /// The revision of the last change.
    revision: u64,
}

/// The reason that API keys can't be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum ApiKeyError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("too many API keys; at most {EMBEDDED_MAX} are kept without Redis")]
    Full,
    #[error("the file of API keys can't be written: {0}")]
    File(String),
}

impl ApiKeyStore {
    /// The API key with one of these hashes, if that is known without a call: None if it has to be found.
    pub fn cached(&self, hashes: &Hashes) -> Option<Option<FoundApiKey>> {
        match self {
            Self::Embedded(keys) => Some(keys.find(hashes)),
            Self::Redis(keys) => keys.cached(hashes),
        }
    }

    /// The API key with one of these hashes, as it was last known.
    pub fn last_known(&self, hashes: &Hashes) -> Option<FoundApiKey> {
        match self {
            Self::Embedded(keys) => keys.find(hashes),
            Self::Redis(keys) => keys.last_known(hashes),
        }
    }

    /// The API key with one of these hashes.
    ///
    /// # Errors
    /// If Redis does not answer by the deadline.
    pub async fn find(&self, hashes: &Hashes) -> Result<Option<FoundApiKey>, StoreError> {
        match self {
            Self::Embedded(keys) => Ok(keys.find(hashes)),
            Self::Redis(keys) => keys.find(hashes).await,
        }
    }

    /// The record of an id.
    ///
    /// # Errors
    /// If Redis does not answer as expected.
    pub async fn read(&self, id: &str) -> Result<Option<Arc<ApiKeyRecord>>, ApiKeyError> {
        match self {
            Self::Embedded(keys) => Ok(lock(&keys.keys).by_id.get(id).cloned()),
            Self::Redis(keys) => Ok(keys.read(id).await?.map(Arc::new)),
        }
    }

    /// The next `limit` API keys after the id, of all callers or of one, ordered by id.
    ///
    /// # Errors
    /// If Redis does not answer as expected.
    pub async fn page(
        &self,
        caller: Option<&str>,
        (after, limit): (&str, usize),
    ) -> Result<ApiKeyPage, ApiKeyError> {
        match self {
            Self::Embedded(keys) => Ok(keys.page(caller, (after, limit))),
            Self::Redis(keys) => Ok(keys.page(caller, (after, limit)).await?),
        }
    }

    /// Makes a change and returns its revision. None if the record was changed since its writer has read it.
    ///
    /// # Errors
    /// If there are too many, or the store is unavailable; a late change may have been made.
    pub async fn write(&self, change: ApiKeyChange<'_>) -> Result<Option<u64>, ApiKeyError> {
        match self {
            Self::Embedded(keys) => keys.write(change),
            Self::Redis(keys) => Ok(keys.write(change).await?),
        }
    }

    /// Whether no failover can undo the changes that were made.
    pub async fn is_replicated(&self) -> bool {
        match self {
            Self::Embedded(_) => true,
            Self::Redis(keys) => keys.is_replicated().await,
        }
    }

    /// The last use of each of these API keys, as it was noted; None: none was.
    ///
    /// # Errors
    /// If Redis does not answer as expected.
    pub async fn last_uses(&self, ids: &[&str]) -> Result<Vec<Option<LastUse>>, ApiKeyError> {
        match self {
            Self::Embedded(keys) => {
                let keys = lock(&keys.keys);
                Ok(ids.iter().map(|id| keys.last_uses.get(*id).copied()).collect())
            }
            Self::Redis(keys) => Ok(keys.last_uses(ids).await?),
        }
    }

    /// Notes the last uses of API keys by their ids, unless later ones are known.
    ///
    /// # Errors
    /// If the store is unavailable; some may have been noted.
    pub async fn note_uses(&self, uses: &[(Arc<str>, LastUse)]) -> Result<(), ApiKeyError> {
        match self {
            Self::Embedded(keys) => keys.note_uses(uses),
            Self::Redis(keys) => Ok(keys.note_uses(uses).await?),
        }
    }
}

impl EmbeddedApiKeys {
    /// API keys of a file.
    pub fn of(file: ApiKeyFile, content: ApiKeyFileContent) -> Self {
        let mut keys = Keys::default();
        for record in content.records {
            keys.revision = keys.revision.max(record.revision);
            keys.put(Arc::new(record));
        }
        keys.last_uses.extend(content.last_uses);
        Self { keys: Mutex::new(keys), file: Some(file) }
    }

    fn find(&self, hashes: &Hashes) -> Option<FoundApiKey> {
        let keys = lock(&self.keys);
        hashes.iter().find_map(|hash| {
            Some(FoundApiKey { hash: *hash, record: keys.by_hash.get(hash)?.clone() })
        })
    }

    fn page(&self, caller: Option<&str>, (after, limit): (&str, usize)) -> ApiKeyPage {
        let keys = lock(&self.keys);
        let rest = keys.by_id.range::<str, _>((Bound::Excluded(after), Bound::Unbounded));
        let is_of =
            |record: &&Arc<ApiKeyRecord>| caller.is_none_or(|caller| *record.key.caller == *caller);
        let records: Vec<_> =
            rest.map(|(_, record)| record).filter(is_of).take(limit).cloned().collect();
        let last = records.last().map(|record| record.id.to_string());
        let next = last.filter(|_| limit <= records.len());
        ApiKeyPage { records, next }
    }

    /// Makes a change. With a file it blocks on the disk for some milliseconds, which is rare.
    fn write(&self, change: ApiKeyChange<'_>) -> Result<Option<u64>, ApiKeyError> {
        let mut keys = lock(&self.keys);
        let known = keys.by_id.get(change.id());
        if known.map(|record| record.revision) != change.before.map(|record| record.revision) {
            return Ok(None);
        }
        if known.is_none() && change.after.is_some() && EMBEDDED_MAX <= keys.by_id.len() {
            return Err(ApiKeyError::Full);
        }
        let revision = keys.revision + 1;
        let after = change.after.map(|record| ApiKeyRecord { revision, ..record.clone() });
        if let Some(file) = &self.file {
            file.write(change.id(), after.as_ref()).map_err(ApiKeyError::File)?;
        }
        keys.revision = revision;
        keys.remove(change.id());
        match after {
            Some(record) => keys.put(Arc::new(record)),
            None => drop(keys.last_uses.remove(change.id())),
        }
        Ok(Some(revision))
    }

    /// Notes last uses. With a file it blocks on the disk for some milliseconds, while no request waits for it.
    fn note_uses(&self, uses: &[(Arc<str>, LastUse)]) -> Result<(), ApiKeyError> {
        let mut noted = Vec::new();
        {
            let mut keys = lock(&self.keys);
            for (id, last) in uses {
                if keys.by_id.contains_key(id) {
                    let last = last.later(keys.last_uses.get(id).copied());
                    keys.last_uses.insert(id.clone(), last);
                    noted.push((&**id, last));
                }
            }
        }
        match &self.file {
            Some(file) => file.write_last_uses(&noted).map_err(ApiKeyError::File),
            None => Ok(()),
        }
    }
}

impl Keys {
    fn put(&mut self, record: Arc<ApiKeyRecord>) {
        for secret in &record.secrets {
            self.by_hash.insert(secret.hash, record.clone());
        }
        self.by_id.insert(record.id.clone(), record);
    }

    fn remove(&mut self, id: &str) {
        let removed = self.by_id.remove(id);
        for secret in removed.iter().flat_map(|record| &record.secrets) {
            self.by_hash.remove(&secret.hash);
        }
    }
}
