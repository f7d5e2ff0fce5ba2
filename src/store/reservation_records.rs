//! Records of reservations that were made over HTTP, in this process or in Redis.

use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;

use super::StoreError;
use super::redis::RedisReservations;
use super::reservation_record::{RECORDS_MAX, RecordKey, ReservationRecord, Written};
use crate::clock::Timestamp;
use crate::lock::lock;

/// Callers with records in this process.
const CALLERS_MAX: usize = 10_000;

/// Where records of reservations are kept.
#[derive(Debug)]
pub enum ReservationRecords {
    Memory(MemoryRecords),
    Redis(RedisReservations),
}

/// Records in this process.
#[derive(Debug, Default)]
pub struct MemoryRecords {
    callers: Mutex<HashMap<String, BTreeMap<String, ReservationRecord>>>,
}

impl Default for ReservationRecords {
    fn default() -> Self {
        Self::Memory(MemoryRecords::default())
    }
}

impl ReservationRecords {
    /// Writes a record; one that must be new only if there is none.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn write(
        &self,
        key: RecordKey<'_>,
        record: &ReservationRecord,
        how: (Timestamp, bool),
    ) -> Result<Written, StoreError> {
        match self {
            Self::Memory(memory) => Ok(memory.write(key, record, how)),
            Self::Redis(redis) => redis.write(key, record, how).await,
        }
    }

    /// Reads a record.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn read(
        &self,
        key: RecordKey<'_>,
        now: Timestamp,
    ) -> Result<Option<ReservationRecord>, StoreError> {
        match self {
            Self::Memory(memory) => Ok(memory.read(key, now)),
            Self::Redis(redis) => redis.read(key, now).await,
        }
    }

    /// The records of a caller by id, in order.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn list(
        &self,
        caller: &str,
        now: Timestamp,
    ) -> Result<Vec<(String, ReservationRecord)>, StoreError> {
        match self {
            Self::Memory(memory) => Ok(memory.list(caller, now)),
            Self::Redis(redis) => redis.list(caller, now).await,
        }
    }

    /// Removes a record.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn remove(&self, key: RecordKey<'_>) -> Result<(), StoreError> {
        match self {
            Self::Memory(memory) => {
                memory.remove(key);
                Ok(())
            }
            Self::Redis(redis) => redis.remove(key).await,
        }
    }

    /// Removes the records of a caller, and returns their number.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn erase(&self, caller: &str) -> Result<u64, StoreError> {
        match self {
            Self::Memory(memory) => {
                let removed = lock(&memory.callers).remove(caller).unwrap_or_default();
                Ok(u64::try_from(removed.len()).unwrap_or(u64::MAX))
            }
            Self::Redis(redis) => redis.erase(caller).await,
        }
    }
}

impl MemoryRecords {
    fn write(
        &self,
        key: RecordKey<'_>,
        record: &ReservationRecord,
        (now, is_new): (Timestamp, bool),
    ) -> Written {
        let mut callers = lock(&self.callers);
        if !callers.contains_key(key.caller) && CALLERS_MAX <= callers.len() {
            callers.retain(|_, records| {
                records.retain(|_, record| now < record.until);
                !records.is_empty()
            });
            if CALLERS_MAX <= callers.len() {
                return Written::Full;
            }
        }
        let records = callers.entry(key.caller.to_owned()).or_default();
        match records.get(key.id).filter(|known| is_new && now < known.until) {
            Some(known) => return Written::Known(known.clone()),
            None if records.contains_key(key.id) || records.len() < RECORDS_MAX => {}
            None => records.retain(|_, record| now < record.until),
        }
        if !records.contains_key(key.id) && RECORDS_MAX <= records.len() {
            return Written::Full;
        }
        records.insert(key.id.to_owned(), record.clone());
        Written::Done
    }

    fn read(&self, key: RecordKey<'_>, now: Timestamp) -> Option<ReservationRecord> {
        let callers = lock(&self.callers);
        let record = callers.get(key.caller)?.get(key.id)?;
        (now < record.until).then(|| record.clone())
    }

    fn list(&self, caller: &str, now: Timestamp) -> Vec<(String, ReservationRecord)> {
        let callers = lock(&self.callers);
        let records = callers.get(caller).into_iter().flatten();
        let live = records.filter(|(_, record)| now < record.until);
        live.map(|(id, record)| (id.clone(), record.clone())).collect()
    }

    fn remove(&self, key: RecordKey<'_>) {
        let mut callers = lock(&self.callers);
        if let Some(records) = callers.get_mut(key.caller) {
            records.remove(key.id);
            if records.is_empty() {
                callers.remove(key.caller);
            }
        }
    }
}
