//! Erasures of callers, so that all sidecars forget them: a sorted set of hashes of their names, each with its time.

use std::time::Duration;

use ::redis::{Cmd, FromRedisValue, Value};

use super::route::Route;
use crate::clock::Timestamp;
use crate::store::StoreError;

/// The sorted set. It has the slot of the callers in a cluster.
const KEY: &str = "tgw1{tgc1}-erased";

/// How long an erasure is kept: a sidecar that was without Redis for longer may keep the caller in memory.
const LIFE: Duration = Duration::from_secs(2 * 24 * 3_600);

/// Maximum number of erasures that are read.
const READ_MAX: u32 = 10_000;

/// Erasures of callers.
#[derive(Debug)]
pub struct RedisErasures {
    route: Route,
    key: String,
}

impl RedisErasures {
    pub(super) fn new(route: Route) -> Self {
        Self { key: route.key(KEY), route }
    }

    /// Adds an erasure, by a hash of the caller's name.
    ///
    /// # Errors
    /// If Redis does not answer as expected.
    pub async fn add(&self, hash: &str, now: Timestamp) -> Result<(), StoreError> {
        let mut command = Cmd::new();
        command.arg("ZADD").arg(&self.key).arg(now.as_ms()).arg(hash);
        self.ask::<Value>(&command).await?;
        let life_ms = u64::try_from(LIFE.as_millis()).unwrap_or(u64::MAX);
        let mut command = Cmd::new();
        let oldest = now.as_ms().saturating_sub(life_ms);
        command.arg("ZREMRANGEBYSCORE").arg(&self.key).arg("-inf").arg(oldest);
        self.ask::<Value>(&command).await?;
        let mut command = Cmd::new();
        command.arg("PEXPIRE").arg(&self.key).arg(life_ms);
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
