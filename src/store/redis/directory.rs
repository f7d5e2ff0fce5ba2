//! Callers in Redis: reads them through the cache, writes them by `change.lua`.
//!
//! Requests read within the store's deadline. If Redis does not answer, the last known record applies, even an old one:
//! it can't be changed meanwhile either.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ::redis::{Cmd, Value};
use tokio::time;

use super::cache::CallerCache;
use super::fault;
use super::link::Link;
use super::replicas;
use super::route::Route;
use super::slot::slot_of;
use crate::api_keys::ApiKeyHash;
use crate::policy::{Lineage, Member, NAME_LEN_MAX};
use crate::store::{Change, Page, Record, StoreError, StoreWait, caller_json, read_record};

/// The prefix of all keys of callers, with the version of their format.
const PREFIX: &str = "tgc1";

/// The channel with the names of changed callers.
const CHANNEL: &str = "tgc1-changes";

/// Timeout of reads and writes for which no request waits.
const PATIENCE: Duration = Duration::from_secs(2);

/// Sent as a whole each time: changes are rare.
const CHANGE: &str = include_str!("change.lua");

/// Callers in Redis.
#[derive(Debug)]
pub struct RedisDirectory {
    route: Route,
    pub(super) names: Names,
    deadline: Duration,
    cache: Arc<CallerCache>,
    fetches: AtomicU64,
}

/// The names of the keys. In a cluster all of them have one slot, because a change is one step.
#[derive(Clone, Debug)]
pub struct Names {
    prefix: String,
    channel: String,
    pub slot: u16,
}

impl Names {
    pub(super) fn new(route: &Route) -> Self {
        let channel = route.key(CHANNEL);
        match route {
            Route::One(_) => Self { prefix: route.key(PREFIX), channel, slot: 0 },
            Route::Cluster(_) => {
                Self { prefix: route.key("{tgc1}"), channel, slot: slot_of(PREFIX) }
            }
        }
    }

    /// The channel of changes.
    pub(super) fn channel(&self) -> &str {
        &self.channel
    }

    /// The key of a caller's record. A name is short, and the rest of the key is fixed, so nothing needs to be escaped.
    pub(super) fn caller(&self, name: &str) -> String {
        format!("{}|{name}", self.prefix)
    }

    /// The key of the index of all names.
    pub(super) fn index(&self) -> String {
        format!("{}-index", self.prefix)
    }

    /// The key of a gift.
    pub(super) fn gift(&self, id: &str) -> String {
        format!("{}-gift|{id}", self.prefix)
    }

    /// The key of the pending gifts.
    pub(super) fn pending(&self) -> String {
        format!("{}-gifts", self.prefix)
    }

    /// The key of the log of a caller's gifts.
    pub(super) fn gift_log(&self, name: &str) -> String {
        format!("{}-gifts|{name}", self.prefix)
    }

    /// The key of an API key's record.
    pub(super) fn api_key(&self, id: &str) -> String {
        format!("{}-apikey|{id}", self.prefix)
    }

    /// The key of an API key's record, by which requests find it.
    pub(super) fn api_key_hash(&self, hash: ApiKeyHash) -> String {
        format!("{}-apikey-hash|{hash}", self.prefix)
    }

    /// The key of the index of all API keys.
    pub(super) fn api_keys(&self) -> String {
        format!("{}-apikeys", self.prefix)
    }

    /// The key of the index of a caller's API keys.
    pub(super) fn api_keys_of(&self, caller: &str) -> String {
        format!("{}-apikeys|{caller}", self.prefix)
    }

    /// The key of the last uses of API keys.
    pub(super) fn api_key_uses(&self) -> String {
        format!("{}-apikey-uses", self.prefix)
    }

    /// The key of the number of changes.
    pub(super) fn revisions(&self) -> String {
        format!("{}-revisions", self.prefix)
    }
}

impl RedisDirectory {
    pub(super) fn new(
        route: Route,
        names: Names,
        deadline: Duration,
        cache: Arc<CallerCache>,
    ) -> Self {
        Self { route, names, deadline, cache, fetches: AtomicU64::new(0) }
    }

    fn link(&self) -> Result<Arc<Link>, StoreError> {
        let link = self.route.link(self.names.slot);
        link.ok_or_else(|| StoreError::unexplored("the callers' slot"))
    }

    /// The lineage of a caller, if all of it is cached.
    pub fn cached(&self, caller: &str) -> Option<Lineage> {
        let mut lineage = Lineage::default();
        if NAME_LEN_MAX < caller.len() {
            // No record can have such a name.
            return Some(lineage);
        }
        let mut entry = self.cache.get(caller)?;
        while let Some(member) = entry {
            lineage.members.push(member);
            let Some(next) = lineage.next() else { return Some(lineage) };
            entry = self.cache.get(next)?;
        }
        Some(lineage)
    }

    /// The lineage of a caller; incomplete if it can't be read by the deadline.
    pub async fn lineage(&self, caller: &str, wait: StoreWait) -> Lineage {
        if let Some(lineage) = self.cached(caller) {
            return lineage;
        }
        let mut lineage = Lineage::default();
        let followed = match self.link() {
            Ok(link) => {
                let left = wait.deadline(self.deadline).saturating_sub(wait.waited);
                link.in_time(left, self.follow(caller, &mut lineage)).await
            }
            Err(error) => Err(error),
        };
        if followed.is_err() {
            // Redis is unavailable, or the deadline has passed; the last known records are used for the rest.
            let mut next = lineage.next_or(caller);
            while let Some(name) = next.take() {
                match self.cache.last_known(name.as_str()) {
                    Some(Some(member)) => {
                        lineage.members.push(member);
                        next = lineage.next().map(str::to_owned);
                    }
                    Some(None) => {}
                    None => lineage.is_incomplete = true,
                }
            }
        }
        lineage
    }

    async fn follow(&self, caller: &str, lineage: &mut Lineage) -> Result<(), StoreError> {
        while let Some(name) = lineage.next_or(caller) {
            let entry = match self.cache.get(name.as_str()) {
                Some(entry) => entry,
                None => self.fetch(&name).await?,
            };
            match entry {
                Some(member) => lineage.members.push(member),
                None => return Ok(()),
            }
        }
        Ok(())
    }

    async fn fetch(&self, name: &str) -> Result<Option<Member>, StoreError> {
        self.fetches.fetch_add(1, Ordering::Relaxed);
        let mark = self.cache.mark(name);
        let member = |record: Record| Member { name: name.into(), caller: record.caller };
        let entry = self.get(name).await?.map(member);
        self.cache.keep(&name.into(), entry.clone(), mark);
        Ok(entry)
    }

    /// The current record of a caller.
    ///
    /// # Errors
    /// If Redis does not answer as expected.
    pub async fn read(&self, name: &str) -> Result<Option<Record>, StoreError> {
        in_time(self.get(name)).await
    }

    /// The next `limit` callers after the name, ordered.
    ///
    /// # Errors
    /// If Redis does not answer as expected.
    pub async fn page(&self, after: &str, limit: usize) -> Result<Page, StoreError> {
        in_time(async {
            let start = if after.is_empty() { "-".to_owned() } else { format!("({after}") };
            let mut command = Cmd::new();
            command.arg("ZRANGEBYLEX").arg(self.names.index()).arg(start).arg("+");
            command.arg("LIMIT").arg(0).arg(limit);
            let names: Vec<String> = read(self.send(&command).await?)?;
            if names.is_empty() {
                return Ok(Page::default());
            }
            let last = names.last().cloned();
            let next = last.filter(|_| limit <= names.len());
            let mut command = Cmd::new();
            command.arg("MGET");
            names.iter().for_each(|name| {
                command.arg(self.names.caller(name));
            });
            let records: Vec<Option<Vec<u8>>> = read(self.send(&command).await?)?;
            let both = names.into_iter().zip(records);
            // A caller that was deleted meanwhile has no record.
            let found = both.filter_map(|(name, bytes)| Some((name, read_record(&bytes?)?)));
            Ok(Page { callers: found.collect(), next })
        })
        .await
    }

    /// Makes a change, unless the record, or one on which it depends, was changed since its writer has read it: then
    /// None.
    ///
    /// # Errors
    /// If Redis does not answer as expected; a late change may have been made.
    pub async fn write(&self, change: Change<'_>) -> Result<Option<u64>, StoreError> {
        let json = change.caller.map(caller_json);
        let written = in_time(async {
            let seen = match change.seen {
                0 => self.unreadable(change.name).await?,
                seen => seen,
            };
            let mut command = Cmd::new();
            command.arg("EVAL").arg(CHANGE).arg(3 + change.depends_on.len());
            let names = &self.names;
            command.arg(names.caller(change.name)).arg(names.index()).arg(names.revisions());
            for (other, _) in change.depends_on {
                command.arg(names.caller(other));
            }
            command.arg(change.name).arg(seen).arg(json.unwrap_or_default()).arg(names.channel());
            for (_, revision) in change.depends_on {
                command.arg(revision);
            }
            self.send(&command).await
        })
        .await;
        // The writer sees the change here at once; if it may not have been made, the record is read again.
        self.cache.changed(change.name);
        let revision: u64 = read(written?)?;
        Ok(Some(revision).filter(|revision| *revision != 0))
    }

    /// Whether no failover can undo the changes that were made.
    pub async fn is_replicated(&self) -> bool {
        match self.link() {
            Ok(link) => replicas::have_all(&link, &self.names.revisions()).await,
            Err(_) => false,
        }
    }

    /// The number of cached callers, unknown ones included.
    pub fn cached_len(&self) -> usize {
        self.cache.len()
    }

    /// The number of fetches since the start.
    pub fn fetches(&self) -> u64 {
        self.fetches.load(Ordering::Relaxed)
    }

    /// Whether changes are certainly received.
    pub fn is_subscribed(&self) -> bool {
        self.cache.is_trusted()
    }

    /// An invalid record counts as none: a request must not fail because of it, and the next write repairs it.
    async fn get(&self, name: &str) -> Result<Option<Record>, StoreError> {
        Ok(self.bytes(name).await?.as_deref().and_then(read_record))
    }

    /// The revision of an invalid record, which its writer could not read; else 0.
    async fn unreadable(&self, name: &str) -> Result<u64, StoreError> {
        let bytes = self.bytes(name).await?.filter(|bytes| read_record(bytes).is_none());
        Ok(bytes.as_deref().and_then(revision).unwrap_or(0))
    }

    async fn bytes(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let mut command = Cmd::new();
        command.arg("GET").arg(self.names.caller(name));
        read(self.send(&command).await?)
    }

    /// Has a caller be read anew.
    pub(super) fn forget(&self, name: &str) {
        self.cache.changed(name);
    }

    pub(super) async fn send(&self, command: &Cmd) -> Result<Value, StoreError> {
        self.link()?.send(command).await?.extract_error().map_err(|error| fault::refused(&error))
    }
}

pub(super) fn read<T: ::redis::FromRedisValue>(value: Value) -> Result<T, StoreError> {
    T::from_redis_value(value).map_err(|error| StoreError::Garbled { reason: error.to_string() })
}

/// The revision of a record as `change.lua` reads it, whatever the rest contains.
fn revision(bytes: &[u8]) -> Option<u64> {
    let rest = bytes.strip_prefix(br#"{"version":1,"revision":"#)?;
    let len = rest.iter().position(|byte| *byte == b',')?;
    str::from_utf8(&rest[..len]).ok()?.parse().ok()
}

pub(super) async fn in_time<T>(
    call: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    let late = |_| StoreError::Late { deadline: PATIENCE };
    time::timeout(PATIENCE, call).await.map_err(late).flatten()
}
