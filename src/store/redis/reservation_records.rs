//! Records of reservations in Redis: a hash for each caller, written by `reservations.lua`.

use ::redis::{Cmd, FromRedisValue, Value};

use super::route::Route;
use crate::clock::Timestamp;
use crate::store::StoreError;
use crate::store::reservation_record::{RECORDS_MAX, RecordKey, ReservationRecord, Written};

/// What all keys begin with, with the version of what is stored under them.
const PREFIX: &str = "tgr1";

/// Sent whole each time: records are written seldom.
const WRITE: &str = include_str!("reservations.lua");

/// Records of reservations in Redis.
#[derive(Debug)]
pub struct RedisReservations {
    route: Route,
}

impl RedisReservations {
    pub(super) fn new(route: Route) -> Self {
        Self { route }
    }

    /// Writes a record; one that must be new only if there is none.
    ///
    /// # Errors
    /// When Redis does not answer as it should.
    pub async fn write(
        &self,
        key: RecordKey<'_>,
        record: &ReservationRecord,
        (now, is_new): (Timestamp, bool),
    ) -> Result<Written, StoreError> {
        let name = self.name(key.caller);
        let mut command = Cmd::new();
        command.arg("EVAL").arg(WRITE).arg(1).arg(&name).arg(key.id).arg(&record.text);
        command.arg(now.as_ms()).arg(record.until.as_ms()).arg(RECORDS_MAX);
        command.arg(if is_new { "1" } else { "0" });
        let reply: Option<String> = self.ask(&name, &command).await?;
        Ok(match reply {
            None => Written::Done,
            Some(text) if text.is_empty() => Written::Full,
            Some(text) => parse(&text).map_or(Written::Full, Written::Known),
        })
    }

    /// Reads a record.
    ///
    /// # Errors
    /// When Redis does not answer as it should.
    pub async fn read(
        &self,
        key: RecordKey<'_>,
        now: Timestamp,
    ) -> Result<Option<ReservationRecord>, StoreError> {
        let name = self.name(key.caller);
        let mut command = Cmd::new();
        command.arg("HGET").arg(&name).arg(key.id);
        let text: Option<String> = self.ask(&name, &command).await?;
        Ok(text.and_then(|text| parse(&text)).filter(|record| now < record.until))
    }

    /// The records of a caller by id, in order.
    ///
    /// # Errors
    /// When Redis does not answer as it should.
    pub async fn list(
        &self,
        caller: &str,
        now: Timestamp,
    ) -> Result<Vec<(String, ReservationRecord)>, StoreError> {
        let name = self.name(caller);
        let mut command = Cmd::new();
        command.arg("HGETALL").arg(&name);
        let all: Vec<(String, String)> = self.ask(&name, &command).await?;
        let records = all.into_iter().filter_map(|(id, text)| Some((id, parse(&text)?)));
        let mut records: Vec<_> = records.filter(|(_, record)| now < record.until).collect();
        records.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        Ok(records)
    }

    /// Removes a record.
    ///
    /// # Errors
    /// When Redis does not answer as it should.
    pub async fn remove(&self, key: RecordKey<'_>) -> Result<(), StoreError> {
        let name = self.name(key.caller);
        let mut command = Cmd::new();
        command.arg("HDEL").arg(&name).arg(key.id);
        self.ask::<Value>(&name, &command).await.map(drop)
    }

    /// Removes the records of a caller, and returns their number.
    ///
    /// # Errors
    /// When Redis does not answer as it should.
    pub async fn erase(&self, caller: &str) -> Result<u64, StoreError> {
        let name = self.name(caller);
        let mut count = Cmd::new();
        count.arg("HLEN").arg(&name);
        let count = self.ask(&name, &count).await?;
        let mut remove = Cmd::new();
        remove.arg("DEL").arg(&name);
        self.ask::<Value>(&name, &remove).await?;
        Ok(count)
    }

    /// The key of a caller's records. A name is short, and the rest of the key is the same for all.
    fn name(&self, caller: &str) -> String {
        self.route.key(&format!("{PREFIX}|{caller}"))
    }

    async fn ask<T: FromRedisValue>(&self, key: &str, command: &Cmd) -> Result<T, StoreError> {
        self.route.ask((key, "reservations"), command).await
    }
}

/// Reads a record. One that makes no sense is none.
fn parse(text: &str) -> Option<ReservationRecord> {
    let (until_ms, text) = text.split_once(' ')?;
    let until = Timestamp::from_ms(until_ms.parse().ok()?);
    Some(ReservationRecord { text: text.to_owned(), until })
}
