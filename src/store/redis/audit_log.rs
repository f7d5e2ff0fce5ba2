//! The audit log as a stream of lines, which all sidecars add to one chain.
//!
//! Beside the stream there is the end of the chain. `audit.lua` adds lines only if the chain still ends where they
//! begin, so concurrent sidecars never write two lines with one number.

use ::redis::{Cmd, FromRedisValue};

use super::route::Route;
use crate::store::StoreError;

/// The stream, and the end of its chain: one slot of a cluster.
const STREAM: &str = "tgw1{tgw1}-audit";
const END: &str = "tgw1{tgw1}-end";

/// The field of an entry of the stream.
pub(super) const FIELD: &str = "line";

const APPEND: &str = include_str!("audit.lua");

/// The stream of the audit log.
#[derive(Debug)]
pub struct RedisAuditLog {
    route: Route,
    pub(super) stream: String,
    end: String,
    len_max: u64,
}

impl RedisAuditLog {
    pub(super) fn new(route: Route, len_max: u64) -> Self {
        let (stream, end) = (route.key(STREAM), route.key(END));
        Self { route, stream, end, len_max }
    }

    /// Adds lines that end with `end` if the chain ends with `expected`; an empty text is no end. Returns the end
    /// before. It was added if that is the expected one.
    ///
    /// # Errors
    /// If Redis does not answer as expected; they may have been added.
    pub async fn append(
        &self,
        expected: &str,
        end: &str,
        lines: &[String],
    ) -> Result<String, StoreError> {
        let mut command = Cmd::new();
        command.arg("EVAL").arg(APPEND).arg(2).arg(&self.stream).arg(&self.end);
        command.arg(expected).arg(end).arg(self.len_max).arg(lines);
        self.ask(&command).await
    }

    /// The newest lines, the newest first.
    ///
    /// # Errors
    /// If Redis does not answer as expected.
    pub async fn newest(&self, max: usize) -> Result<Vec<String>, StoreError> {
        let mut command = Cmd::new();
        command.arg("XREVRANGE").arg(&self.stream).arg("+").arg("-").arg("COUNT").arg(max);
        let entries: Vec<(String, Vec<String>)> = self.ask(&command).await?;
        let line =
            |fields: Vec<String>| fields.into_iter().skip_while(|field| *field != FIELD).nth(1);
        Ok(entries.into_iter().filter_map(|(_, fields)| line(fields)).collect())
    }

    /// The id of the newest entry.
    pub(super) async fn last_id(&self) -> Result<Option<String>, StoreError> {
        let mut command = Cmd::new();
        command.arg("XREVRANGE").arg(&self.stream).arg("+").arg("-").arg("COUNT").arg(1);
        let newest: Vec<(String, Vec<String>)> = self.ask(&command).await?;
        Ok(newest.into_iter().next().map(|(id, _)| id))
    }

    /// The name of a key in Redis.
    pub(super) fn key(&self, key: &str) -> String {
        self.route.key(key)
    }

    pub(super) async fn ask<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, StoreError> {
        self.route.ask((&self.stream, "the audit log"), command).await
    }
}
