//! Callers in Redis: reads them through the cache, writes them by `change.lua`.
//!
//! Requests read within the store's deadline. While Redis does not answer, what was known last is taken,
//! however old: it can't be changed meanwhile either.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ::redis::{Cmd, Value};
use serde::Deserialize;
use tokio::time;

use super::cache::CallerCache;
use super::fault;
use super::link::Link;
use super::route::Route;
use super::slot::slot_of;
use crate::policy::{CallerForm, Lineage, Member, NAME_LEN_MAX};
use crate::store::{Change, Page, Record, StoreError};

/// What all keys of callers begin with, with the version of what is stored under them.
const PREFIX: &str = "tgc1";

/// Where the names of changed callers are told.
pub const CHANNEL: &str = "tgc1-changes";

/// How long reading and writing may take that no request waits for.
const PATIENCE: Duration = Duration::from_secs(2);

/// Sent whole each time: changes are rare.
const CHANGE: &str = include_str!("change.lua");

/// Callers in Redis.
#[derive(Debug)]
pub struct RedisDirectory {
    route: Route,
    names: Names,
    deadline: Duration,
    cache: Arc<CallerCache>,
    fetches: AtomicU64,
}

/// What the keys are called. In a cluster all of them have one slot, because a change is one step.
#[derive(Clone, Debug)]
pub struct Names {
    prefix: &'static str,
    pub slot: u16,
}

impl Names {
    pub(super) fn new(route: &Route) -> Self {
        match route {
            Route::One(_) => Self { prefix: PREFIX, slot: 0 },
            Route::Cluster(_) => Self { prefix: "{tgc1}", slot: slot_of(PREFIX) },
        }
    }

    /// The key of a caller's record. A name is short, and the rest of the key is the same for all: there is
    /// nothing to escape.
    fn caller(&self, name: &str) -> String {
        format!("{}|{name}", self.prefix)
    }

    /// That of the index of all names.
    fn index(&self) -> String {
        format!("{}-index", self.prefix)
    }

    /// That of the number of changes.
    pub(super) fn revisions(&self) -> String {
        format!("{}-revisions", self.prefix)
    }
}

/// A caller as Redis keeps it; `change.lua` writes the first two fields.
#[derive(Deserialize)]
struct Stored {
    #[serde(rename = "version")]
    _version: u32,
    revision: u64,
    caller: CallerForm,
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

    /// A caller and those it belongs to, if all of them are at hand.
    pub fn cached(&self, caller: &str) -> Option<Lineage> {
        let mut lineage = Lineage::default();
        if NAME_LEN_MAX < caller.len() {
            // No record has such a name.
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

    /// A caller and those it belongs to; incomplete if they can't be known by the deadline.
    pub async fn lineage(&self, caller: &str) -> Lineage {
        if let Some(lineage) = self.cached(caller) {
            return lineage;
        }
        let mut lineage = Lineage::default();
        let followed = match self.link() {
            Ok(link) => link.in_time(self.deadline, self.follow(caller, &mut lineage)).await,
            Err(error) => Err(error),
        };
        if followed.is_err() {
            // Redis is out, or time is up; the rest is what was known last.
            let mut next = lineage.next_or(caller);
            while let Some(name) = next.take() {
                match self.cache.last_known(&name) {
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
            let entry = match self.cache.get(&name) {
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
        self.cache.keep(name, entry.clone(), mark);
        Ok(entry)
    }

    /// The record of a caller, as it is now.
    ///
    /// # Errors
    /// When Redis does not answer as it should.
    pub async fn read(&self, name: &str) -> Result<Option<Record>, StoreError> {
        in_time(self.get(name)).await
    }

    /// The next `limit` callers after the name, in order.
    ///
    /// # Errors
    /// When Redis does not answer as it should.
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
            // One that was deleted meanwhile has no record.
            let found = both.filter_map(|(name, bytes)| Some((name, parse(&bytes?)?)));
            Ok(Page { callers: found.collect(), next })
        })
        .await
    }

    /// Makes a change, unless the record, or one that it depends on, is another one than its writer saw: then None.
    ///
    /// # Errors
    /// When Redis does not answer as it should; a late one may have been made.
    pub async fn write(&self, change: Change<'_>) -> Result<Option<u64>, StoreError> {
        let form = change.caller.map(CallerForm::from);
        let json = form.map(|form| serde_json::to_string(&form).expect("a form is JSON"));
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
            command.arg(change.name).arg(seen).arg(json.unwrap_or_default()).arg(CHANNEL);
            for (_, revision) in change.depends_on {
                command.arg(revision);
            }
            self.send(&command).await
        })
        .await;
        // Whoever asked for it sees it here at once, and so does everybody if it is not known to be made.
        self.cache.changed(change.name);
        let revision: u64 = read(written?)?;
        Ok(Some(revision).filter(|revision| *revision != 0))
    }

    /// How many callers are in memory, unknown ones included.
    pub fn cached_len(&self) -> usize {
        self.cache.len()
    }

    /// How often Redis was asked for a caller, since the start.
    pub fn fetches(&self) -> u64 {
        self.fetches.load(Ordering::Relaxed)
    }

    /// Whether changes are sure to be heard of.
    pub fn is_subscribed(&self) -> bool {
        self.cache.is_trusted()
    }

    async fn get(&self, name: &str) -> Result<Option<Record>, StoreError> {
        Ok(self.bytes(name).await?.as_deref().and_then(parse))
    }

    /// The revision of a record that is there but makes no sense, which its writer could not see; else 0.
    async fn unreadable(&self, name: &str) -> Result<u64, StoreError> {
        let bytes = self.bytes(name).await?.filter(|bytes| parse(bytes).is_none());
        Ok(bytes.as_deref().and_then(revision).unwrap_or(0))
    }

    async fn bytes(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let mut command = Cmd::new();
        command.arg("GET").arg(self.names.caller(name));
        read(self.send(&command).await?)
    }

    async fn send(&self, command: &Cmd) -> Result<Value, StoreError> {
        self.link()?.send(command).await?.extract_error().map_err(|error| fault::refused(&error))
    }
}

fn read<T: ::redis::FromRedisValue>(value: Value) -> Result<T, StoreError> {
    T::from_redis_value(value).map_err(|error| StoreError::Garbled { reason: error.to_string() })
}

/// Reads a record. One that makes no sense is none: a request must not fail of it, and whoever writes over
/// it repairs it.
fn parse(bytes: &[u8]) -> Option<Record> {
    let stored: Stored = serde_json::from_slice(bytes).ok()?;
    let caller = stored.caller.check().ok()?;
    Some(Record { caller: Arc::new(caller), revision: stored.revision })
}

/// The revision of a record as `change.lua` finds it, whatever else the record holds.
fn revision(bytes: &[u8]) -> Option<u64> {
    let rest = bytes.strip_prefix(br#"{"version":1,"revision":"#)?;
    let len = rest.iter().position(|byte| *byte == b',')?;
    str::from_utf8(&rest[..len]).ok()?.parse().ok()
}

async fn in_time<T>(call: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    let late = |_| StoreError::Late { deadline: PATIENCE };
    time::timeout(PATIENCE, call).await.map_err(late).flatten()
}
