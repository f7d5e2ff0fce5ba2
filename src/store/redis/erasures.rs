//! Erasures of callers, so that all sidecars forget them: a sorted set of hashes of their names, each with its time; and the
//! salts of the sidecars' audit logs, so that an erasure has the hashes that each of them shows.

use std::time::Duration;

use ::redis::{Cmd, FromRedisValue, Value};

use super::route::Route;
use crate::clock::Timestamp;
use crate::store::StoreError;

/// The sorted set. It has the slot of the callers in a cluster.
const KEY: &str = "tgw1{tgc1}-erased";

/// The sorted set of salts of audit logs.
const SALTS_KEY: &str = "tgw1{tgc1}-salts";

/// How long a salt is kept that no sidecar uses any more, and how many salts.
const SALT_LIFE: Duration = Duration::from_secs(90 * 24 * 3_600);
const SALTS_MAX: i64 = 100;

/// How long an erasure is kept: a sidecar that was without Redis for longer may keep the caller in memory.
const LIFE: Duration = Duration::from_secs(2 * 24 * 3_600);

/// Maximum number of erasures that are read.
const READ_MAX: u32 = 10_000;

/// Erasures of callers.
#[derive(Debug)]
pub struct RedisErasures {
    route: Route,
    key: String,
    salts_key: String,
}

impl RedisErasures {
    pub(super) fn new(route: Route) -> Self {
        Self { key: route.key(KEY), salts_key: route.key(SALTS_KEY), route }
    }

    /// Adds an erasure, by a hash of the caller's name.
    ///
    /// # Errors
    /// If Redis does not answer as expected.
    pub async fn add(&self, hash: &str, now: Timestamp) -> Result<(), StoreError> {
        let mut command = Cmd::new();
        command.arg("ZADD").arg(&self.key).arg(now.as_ms()).arg(hash);
        self.ask::<Value>(&command).await?;
        self.expire(&self.key, LIFE, now).await
    }

    /// Adds the salt of a sidecar's audit log, or keeps it longer.
    ///
    /// # Errors
    /// If Redis does not answer as expected.
    pub async fn add_salt(&self, salt: &str, now: Timestamp) -> Result<(), StoreError> {
        let mut command = Cmd::new();
        command.arg("ZADD").arg(&self.salts_key).arg(now.as_ms()).arg(salt);
        self.ask::<Value>(&command).await?;
        let mut command = Cmd::new();
        command.arg("ZREMRANGEBYRANK").arg(&self.salts_key).arg(0).arg(-SALTS_MAX - 1);
        self.ask::<Value>(&command).await?;
        self.expire(&self.salts_key, SALT_LIFE, now).await
    }

    /// The salts of all sidecars.
    ///
    /// # Errors
    /// If Redis does not answer as expected.
    pub async fn salts(&self) -> Result<Vec<String>, StoreError> {
        let mut command = Cmd::new();
        command.arg("ZRANGE").arg(&self.salts_key).arg(0).arg(-1);
        self.ask(&command).await
    }

    /// Removes what is older than that.
    async fn expire(&self, key: &str, life: Duration, now: Timestamp) -> Result<(), StoreError> {
        let life_ms = u64::try_from(life.as_millis()).unwrap_or(u64::MAX);
        let mut command = Cmd::new();
        let oldest = now.as_ms().saturating_sub(life_ms);
        command.arg("ZREMRANGEBYSCORE").arg(key).arg("-inf").arg(oldest);
        self.ask::<Value>(&command).await?;
        let mut command = Cmd::new();
        command.arg("PEXPIRE").arg(key).arg(life_ms);
        self.ask::<Value>(&command).await.map(drop)
    }

    /// The hashes of all erasures that are kept, with their times.
    ///
    /// # Errors
    /// If Redis does not answer as expected.
    pub async fn read(&self) -> Result<Vec<(String, u64)>, StoreError> {
        let mut command = Cmd::new();
        command.arg("ZREVRANGEBYSCORE").arg(&self.key).arg("+inf").arg("-inf").arg("WITHSCORES");
        command.arg("LIMIT").arg(0).arg(READ_MAX);
        self.ask(&command).await
    }

    async fn ask<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, StoreError> {
        self.route.ask((&self.key, "erasures"), command).await
    }
}
