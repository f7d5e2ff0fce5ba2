//! The book of alerts of a fleet: a text with a version, which `alert_book.lua` replaces if nobody else has, and the list
//! of closed alerts.

use std::time::Duration;

use ::redis::{Cmd, FromRedisValue, Value};

use super::route::Route;
use crate::clock::Timestamp;
use crate::store::StoreError;

/// The book, and the list of closed alerts: one slot of a cluster.
const BOOK: &str = "tgn1{tgn1}-book";
const CLOSED: &str = "tgn1{tgn1}-closed";

/// How long both are kept after the last change.
const LIFE: Duration = Duration::from_secs(30 * 24 * 3_600);

const EXCHANGE: &str = include_str!("alert_book.lua");

/// The book of alerts in Redis.
#[derive(Debug)]
pub struct RedisAlertBook {
    route: Route,
    book: String,
    closed: String,
}

/// The book before an exchange.
#[derive(Debug)]
pub struct BookFound {
    /// It was replaced if this is the version that was read.
    pub version: u64,
    /// The server's time.
    pub now: Timestamp,
    /// The text, if the version is another one; empty if there is none.
    pub text: Option<String>,
}

/// A new text of the book.
#[derive(Debug)]
pub struct BookChange {
    pub text: String,
    /// Alerts that the change has closed, oldest first.
    pub closed: Vec<String>,
    /// Maximum number of closed alerts that are kept.
    pub closed_max: usize,
}

impl RedisAlertBook {
    pub(super) fn new(route: Route) -> Self {
        let (book, closed) = (route.key(BOOK), route.key(CLOSED));
        Self { route, book, closed }
    }

    /// Replaces the book if `version` is its version; without a change, reads it if it is not.
    ///
    /// # Errors
    /// If Redis does not answer as expected; it may have been replaced.
    pub async fn exchange(
        &self,
        version: u64,
        change: Option<&BookChange>,
    ) -> Result<BookFound, StoreError> {
        let mut command = Cmd::new();
        command.arg("EVAL").arg(EXCHANGE).arg(2).arg(&self.book).arg(&self.closed).arg(version);
        command.arg(change.map_or("", |change| &change.text)).arg(LIFE.as_millis().to_string());
        command.arg(change.map_or(0, |change| change.closed_max));
        change.iter().flat_map(|change| &change.closed).for_each(|closed| {
            command.arg(closed);
        });
        let (version, now_ms, text) = match self.ask(&command).await? {
            Value::Array(parts) if parts.len() == 2 => {
                let (version, now_ms): (u64, u64) = parse(Value::Array(parts))?;
                (version, now_ms, None)
            }
            parts => {
                let (version, now_ms, text): (u64, u64, String) = parse(parts)?;
                (version, now_ms, Some(text))
            }
        };
        Ok(BookFound { version, now: Timestamp::from_ms(now_ms), text })
    }

    /// The closed alerts, newest first.
    ///
    /// # Errors
    /// If Redis does not answer as expected.
    pub async fn closed(&self, max: usize) -> Result<Vec<String>, StoreError> {
        let mut command = Cmd::new();
        command.arg("LRANGE").arg(&self.closed).arg(0).arg(max.saturating_sub(1));
        self.ask(&command).await
    }

    /// Removes a closed alert by its text.
    ///
    /// # Errors
    /// If Redis does not answer as expected; it may have been removed.
    pub async fn remove_closed(&self, text: &str) -> Result<(), StoreError> {
        let mut command = Cmd::new();
        command.arg("LREM").arg(&self.closed).arg(0).arg(text);
        self.ask::<Value>(&command).await.map(drop)
    }

    async fn ask<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, StoreError> {
        self.route.ask((&self.book, "alerts"), command).await
    }
}

fn parse<T: FromRedisValue>(value: Value) -> Result<T, StoreError> {
    T::from_redis_value(value).map_err(|error| StoreError::Garbled { reason: error.to_string() })
}
