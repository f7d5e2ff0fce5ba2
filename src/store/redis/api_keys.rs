//! API keys in Redis: found by the hashes of their texts, through a cache; written by `api_key.lua`.
//!
//! They are beside the callers, in the same slot of a cluster, so that one subscription hears of changes of both. Each record
//! is there under its id and under each of its hashes, so that a request needs one call to find it, and an unknown API key
//! takes as long as a known one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ::redis::Cmd;

use super::cache::{ChangeCache, ChangeListener, Mark};
use super::directory::{Names, in_time, read};
use super::fault;
use super::link::Link;
use super::replicas;
use super::route::Route;
use crate::api_keys::{ApiKeyHash, ApiKeyRecord, Hashes, LastUse, from_json, is_id, to_json};
use crate::store::{ApiKeyChange, ApiKeyPage, FoundApiKey, StoreError};

/// Sent as a whole each time: changes are rare.
const CHANGE: &str = include_str!("api_key.lua");

/// Sent as a whole each time: every few seconds.
const NOTE_USES: &str = include_str!("api_key_uses.lua");

/// API keys in one call of it.
const USES_AT_ONCE: usize = 500;

/// The beginning of messages about API keys. No caller's name begins like this.
const MESSAGE: &str = "\u{1}api-key:";

/// Maximum number of unknown API keys that are cached: apart from known ones, so that a flood of them displaces none.
const UNKNOWN_MAX: usize = 10_000;

/// API keys in Redis.
#[derive(Debug)]
pub struct RedisApiKeys {
    route: Route,
    names: Names,
    deadline: Duration,
    cache: Arc<ApiKeyCache>,
    /// A record that can't be read was logged.
    has_told: AtomicBool,
}

/// Cached API keys, and hashes that no API key has.
#[derive(Debug)]
struct ApiKeyCache {
    known: ChangeCache<ApiKeyHash, Arc<ApiKeyRecord>>,
    unknown: ChangeCache<ApiKeyHash, ()>,
}

impl ChangeListener for ApiKeyCache {
    fn trust(&self) {
        self.known.trust();
        self.unknown.trust();
    }

    fn distrust(&self) {
        self.known.distrust();
        self.unknown.distrust();
    }

    fn forget(&self) {
        self.known.forget();
        self.unknown.forget();
    }

    fn hear(&self, message: &str) {
        let hash = message.strip_prefix(MESSAGE).map(ApiKeyHash::parse);
        match hash {
            Some(Some(hash)) => self.changed(hash),
            // Of a later version, perhaps.
            Some(None) => self.forget(),
            None => {}
        }
    }
}

impl ApiKeyCache {
    fn changed(&self, hash: ApiKeyHash) {
        self.known.changed(&hash);
        self.unknown.changed(&hash);
    }
}

impl RedisApiKeys {
    pub(super) fn new(
        route: Route,
        names: Names,
        (deadline, cached_max): (Duration, usize),
    ) -> Self {
        let known = ChangeCache::new(cached_max);
        let unknown = ChangeCache::new(UNKNOWN_MAX);
        let cache = Arc::new(ApiKeyCache { known, unknown });
        Self { route, names, deadline, cache, has_told: AtomicBool::new(false) }
    }

    pub(super) fn listener(&self) -> Arc<dyn ChangeListener> {
        self.cache.clone()
    }

    /// The API key with one of these hashes, if it is certainly known whether there is one.
    pub fn cached(&self, hashes: &Hashes) -> Option<Option<FoundApiKey>> {
        let known = hashes.iter().find_map(|hash| Some((*hash, self.cache.known.get(hash)?)));
        if let Some((hash, record)) = known {
            return Some(Some(FoundApiKey { hash, record }));
        }
        let is_unknown = hashes.iter().all(|hash| self.cache.unknown.get(hash).is_some());
        is_unknown.then_some(None)
    }

    /// The API key with one of these hashes, as it was last known.
    pub fn last_known(&self, hashes: &Hashes) -> Option<FoundApiKey> {
        hashes.iter().find_map(|hash| {
            Some(FoundApiKey { hash: *hash, record: self.cache.known.last_known(hash)? })
        })
    }

    /// The API key with one of these hashes.
    ///
    /// # Errors
    /// If Redis does not answer by the deadline.
    pub async fn find(&self, hashes: &Hashes) -> Result<Option<FoundApiKey>, StoreError> {
        let link = self.link()?;
        // One record that can't be read is no fault of the connection.
        link.in_time(self.deadline, self.fetch(&link, hashes)).await?
    }

    async fn fetch(
        &self,
        link: &Link,
        hashes: &Hashes,
    ) -> Result<Result<Option<FoundApiKey>, StoreError>, StoreError> {
        let mark = |hash: &ApiKeyHash| (self.cache.known.mark(hash), self.cache.unknown.mark(hash));
        let marks: Vec<(Mark, Mark)> = hashes.iter().map(mark).collect();
        let mut command = Cmd::new();
        command.arg("MGET");
        hashes.iter().for_each(|hash| {
            command.arg(self.names.api_key_hash(*hash));
        });
        let value = link.send(&command).await?;
        let value = value.extract_error().map_err(|error| fault::refused(&error))?;
        let records: Vec<Option<Vec<u8>>> = read(value)?;
        for ((hash, bytes), (known, _)) in hashes.iter().zip(&records).zip(&marks) {
            let Some(bytes) = bytes else { continue };
            return Ok(self.parse(bytes).map(|record| {
                let record = Arc::new(record);
                self.cache.known.keep(hash, record.clone(), *known);
                Some(FoundApiKey { hash: *hash, record })
            }));
        }
        for (hash, (_, unknown)) in hashes.iter().zip(&marks) {
            self.cache.unknown.keep(hash, (), *unknown);
        }
        Ok(Ok(None))
    }

    /// A record. One that can't be read may be of an API key that is fine, or that was ended: nobody knows.
    fn parse(&self, bytes: &[u8]) -> Result<ApiKeyRecord, StoreError> {
        from_json(bytes).ok_or_else(|| {
            // Once, since clients may send its API key again and again.
            if !self.has_told.swap(true, Ordering::Relaxed) {
                let id = id_in(bytes);
                tracing::error!(
                    api_key.id = id.as_deref().unwrap_or("unknown"),
                    "a record of an API key in Redis can't be read; it is refused as in an outage. Restore the keys of Redis \
                     that have it, or remove them"
                );
            }
            StoreError::Garbled { reason: "the record of an API key can't be read".to_owned() }
        })
    }

    /// The record of an id.
    ///
    /// # Errors
    /// If Redis does not answer as expected.
    pub async fn read(&self, id: &str) -> Result<Option<ApiKeyRecord>, StoreError> {
        let mut command = Cmd::new();
        command.arg("GET").arg(self.names.api_key(id));
        let bytes: Option<Vec<u8>> = self.ask(&command).await?;
        bytes.map(|bytes| self.parse(&bytes)).transpose()
    }

    /// The next `limit` API keys after the id, of all callers or of one, ordered by id.
    ///
    /// # Errors
    /// If Redis does not answer as expected.
    pub async fn page(
        &self,
        caller: Option<&str>,
        (after, limit): (&str, usize),
    ) -> Result<ApiKeyPage, StoreError> {
        let index = caller.map_or_else(|| self.names.api_keys(), |one| self.names.api_keys_of(one));
        let start = if after.is_empty() { "-".to_owned() } else { format!("({after}") };
        let mut command = Cmd::new();
        command.arg("ZRANGEBYLEX").arg(index).arg(start).arg("+").arg("LIMIT").arg(0).arg(limit);
        let ids: Vec<String> = self.ask(&command).await?;
        let Some(last) = ids.last() else { return Ok(ApiKeyPage::default()) };
        let next = (limit <= ids.len()).then(|| last.clone());
        let mut command = Cmd::new();
        command.arg("MGET");
        ids.iter().for_each(|id| {
            command.arg(self.names.api_key(id));
        });
        let records: Vec<Option<Vec<u8>>> = self.ask(&command).await?;
        // The others are listed all the same.
        let records = records.into_iter().filter_map(|bytes| self.parse(&bytes?).ok());
        Ok(ApiKeyPage { records: records.map(Arc::new).collect(), next })
    }

    /// Makes a change, unless the record was changed since its writer has read it: then None.
    ///
    /// # Errors
    /// If Redis does not answer as expected; a late change may have been made.
    pub async fn write(&self, change: ApiKeyChange<'_>) -> Result<Option<u64>, StoreError> {
        let (before, after) = (hashes(change.before), hashes(change.after));
        let names = &self.names;
        let mut command = Cmd::new();
        command.arg("EVAL").arg(CHANGE).arg(5 + before.len() + after.len());
        command.arg(names.api_key(change.id())).arg(names.api_keys());
        command.arg(names.api_keys_of(change.caller())).arg(names.revisions());
        command.arg(names.api_key_uses());
        for hash in before.iter().chain(&after) {
            command.arg(names.api_key_hash(*hash));
        }
        command.arg(change.id()).arg(change.before.map_or(0, |record| record.revision));
        command
            .arg(change.after.map(to_json).unwrap_or_default())
            .arg(names.channel())
            .arg(before.len());
        for hash in before.iter().chain(&after) {
            command.arg(format!("{MESSAGE}{hash}"));
        }
        let written = self.ask(&command).await;
        // The writer sees the change here at once; if it may not have been made, the record is read again.
        before.iter().chain(&after).for_each(|hash| self.cache.changed(*hash));
        let revision: u64 = written?;
        Ok(Some(revision).filter(|revision| *revision != 0))
    }

    /// Whether no failover can undo the changes that were made.
    pub async fn is_replicated(&self) -> bool {
        match self.link() {
            Ok(link) => replicas::have_all(&link, &self.names.revisions()).await,
            Err(_) => false,
        }
    }

    /// The last use of each of these API keys, as it was noted.
    ///
    /// # Errors
    /// If Redis does not answer as expected.
    pub async fn last_uses(&self, ids: &[&str]) -> Result<Vec<Option<LastUse>>, StoreError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let mut command = Cmd::new();
        command.arg("HMGET").arg(self.names.api_key_uses()).arg(ids);
        let texts: Vec<Option<String>> = self.ask(&command).await?;
        Ok(texts.into_iter().map(|text| LastUse::parse(&text?)).collect())
    }

    /// Notes last uses by id, unless later ones are known.
    ///
    /// # Errors
    /// If Redis does not answer as expected; some may have been noted.
    pub async fn note_uses(&self, uses: &[(Arc<str>, LastUse)]) -> Result<(), StoreError> {
        for uses in uses.chunks(USES_AT_ONCE) {
            let mut command = Cmd::new();
            command.arg("EVAL").arg(NOTE_USES).arg(1 + uses.len()).arg(self.names.api_key_uses());
            for (id, _) in uses {
                command.arg(self.names.api_key(id));
            }
            for (id, last) in uses {
                command.arg(&**id).arg(last.at.as_ms()).arg(last.address_text());
            }
            self.ask::<u64>(&command).await?;
        }
        Ok(())
    }

    /// The number of cached API keys.
    pub fn cached_len(&self) -> usize {
        self.cache.known.len()
    }

    fn link(&self) -> Result<Arc<Link>, StoreError> {
        let link = self.route.link(self.names.slot);
        link.ok_or_else(|| StoreError::unexplored("the slot of API keys"))
    }

    async fn ask<T: ::redis::FromRedisValue>(&self, command: &Cmd) -> Result<T, StoreError> {
        in_time(async {
            let value = self.link()?.send(command).await?;
            read(value.extract_error().map_err(|error| fault::refused(&error))?)
        })
        .await
    }
}

/// The id in a record of which not all can be read.
fn id_in(bytes: &[u8]) -> Option<String> {
    let value: serde_json::Value = serde_json::from_slice(bytes).ok()?;
    value["api_key"]["id"].as_str().filter(|id| is_id(id)).map(str::to_owned)
}

fn hashes(record: Option<&ApiKeyRecord>) -> Vec<ApiKeyHash> {
    record.iter().flat_map(|record| &record.secrets).map(|secret| secret.hash).collect()
}
