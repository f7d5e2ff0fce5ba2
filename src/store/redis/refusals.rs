//! Recent refusals in Redis, so that any sidecar can explain them.
//!
//! There is a fixed number of places, each with a key of its own. A refusal takes the place that its id determines, from
//! an older refusal. So memory is bounded without a list of all refusals, and any node of a cluster has some places.

use std::time::Duration;

use ::redis::{Cmd, FromRedisValue, Value};
use futures_util::{FutureExt, StreamExt, TryStreamExt, stream};

use super::route::Route;
use crate::store::StoreError;

/// The prefix of all keys, with the version of their format.
const PREFIX: &str = "tgw1";

/// How long a refusal is kept, unless a newer one takes its place.
const LIFE: Duration = Duration::from_secs(24 * 3_600);

/// Maximum number of commands in flight.
const COMMANDS_MAX: usize = 64;

/// Recent refusals in Redis, as texts.
#[derive(Debug)]
pub struct RedisRefusals {
    route: Route,
    places: u64,
}

/// A refusal to keep: its id, and its text.
pub type KeptRefusal = (u64, String);

impl RedisRefusals {
    pub(super) fn new(route: Route, places: usize) -> Self {
        Self { route, places: u64::try_from(places).unwrap_or(u64::MAX) }
    }

    /// Keeps refusals.
    ///
    /// # Errors
    /// If Redis does not answer as expected; some may be kept.
    pub async fn put(&self, refusals: Vec<KeptRefusal>) -> Result<(), StoreError> {
        let calls: Vec<_> = refusals.into_iter().map(|refusal| self.set(refusal).boxed()).collect();
        stream::iter(calls).buffer_unordered(COMMANDS_MAX).try_collect().await
    }

    /// The text at the place of an id; it may be that of another refusal.
    ///
    /// # Errors
    /// If Redis does not answer as expected.
    pub async fn get(&self, id: u64) -> Result<Option<String>, StoreError> {
        match self.key(id) {
            Some(key) => self.read(&key).await,
            None => Ok(None),
        }
    }

    /// Removes the refusals with a text for which `is_erased` holds, and returns their number.
    ///
    /// # Errors
    /// If Redis does not answer as expected; some may be removed.
    pub async fn erase(&self, is_erased: impl Fn(&str) -> bool) -> Result<u64, StoreError> {
        let calls: Vec<_> = (0..self.places).map(|place| self.read_place(place).boxed()).collect();
        let mut texts = stream::iter(calls).buffer_unordered(COMMANDS_MAX);
        let mut erased = Vec::new();
        while let Some((text, key)) = texts.try_next().await? {
            if text.is_some_and(|text| is_erased(&text)) {
                erased.push(key);
            }
        }
        for key in &erased {
            let mut command = Cmd::new();
            command.arg("DEL").arg(key);
            self.ask::<Value>(key, &command).await?;
        }
        Ok(u64::try_from(erased.len()).unwrap_or(u64::MAX))
    }

    /// None if there are no places.
    fn key(&self, id: u64) -> Option<String> {
        id.checked_rem(self.places).map(|place| self.key_of(place))
    }

    fn key_of(&self, place: u64) -> String {
        self.route.key(&format!("{PREFIX}|{place}"))
    }

    async fn set(&self, (id, text): KeptRefusal) -> Result<(), StoreError> {
        let Some(key) = self.key(id) else { return Ok(()) };
        let mut command = Cmd::new();
        command.arg("SET").arg(&key).arg(text).arg("PX").arg(LIFE.as_millis().to_string());
        self.ask::<Value>(&key, &command).await.map(drop)
    }

    /// The text at a place, and its key.
    async fn read_place(&self, place: u64) -> Result<(Option<String>, String), StoreError> {
        let key = self.key_of(place);
        Ok((self.read(&key).await?, key))
    }

    async fn read(&self, key: &str) -> Result<Option<String>, StoreError> {
        let mut command = Cmd::new();
        command.arg("GET").arg(key);
        self.ask(key, &command).await
    }

    async fn ask<T: FromRedisValue>(&self, key: &str, command: &Cmd) -> Result<T, StoreError> {
        self.route.ask((key, "a refusal"), command).await
    }
}
