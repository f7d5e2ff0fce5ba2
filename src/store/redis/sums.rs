//! Sums in Redis: `sums.lua` adds a batch in one step; questions read the tables of their periods.
//!
//! The number of a batch is kept beside its period. So a batch whose answer was lost is sent again and added once.

use std::collections::HashMap;

use ::redis::{Cmd, FromRedisValue, Script, Value};

use super::route::Route;
use super::sums_answers::SumsAnswers;
use super::sums_keys::{SHARD_CALLERS_MAX, shard, spill, suffix};
use super::sums_link::{Refusal, SumsLink, in_time};
use crate::store::StoreError;
use crate::store::sums::{
    CallersKept, SumsAdded, SumsBatch, SumsEntry, SumsError, SumsPeriod, SumsQuestion, SumsReader,
    SumsTable,
};

/// If only the busiest callers are kept, a full hash keeps this many.
const SHARD_CALLERS_KEPT: usize = 160;

/// Random bytes in the name of a sidecar.
const NAME_LEN: usize = 8;

const CODE: &str = include_str!("sums.lua");

/// Sums in Redis.
#[derive(Debug)]
pub struct RedisSums {
    link: SumsLink,
    answers: SumsAnswers,
    sidecar: String,
    script: Script,
}

/// The operation for an addition, as the script names it.
struct Addition<'b> {
    what: &'static str,
    key: usize,
    second: usize,
    entry: &'b SumsEntry,
}

/// The keys of a batch, each once.
#[derive(Default)]
struct Keys {
    all: Vec<String>,
    places: HashMap<String, usize>,
}

impl Keys {
    /// The position of a key, from 1 as in Lua.
    fn place(&mut self, key: String) -> usize {
        let next = self.all.len() + 1;
        *self.places.entry(key).or_insert_with_key(|key| {
            self.all.push(key.clone());
            next
        })
    }
}

impl RedisSums {
    pub(super) fn new(route: Route) -> Self {
        let mut bytes = [0; NAME_LEN];
        // Without randomness all such sidecars have the same name, and lose batches of each other.
        let _ = getrandom::fill(&mut bytes);
        let sidecar = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let (link, answers) = (SumsLink::new(route), SumsAnswers::new());
        Self { link, answers, sidecar, script: Script::new(CODE) }
    }

    /// Adds a batch, unless it was added before.
    ///
    /// # Errors
    /// If Redis does not answer as expected; it may have been added.
    pub async fn add(&self, batch: &SumsBatch) -> Result<SumsAdded, StoreError> {
        let answer = in_time(self.call(batch)).await?;
        match u8::from_redis_value(answer) {
            Ok(0) => Ok(SumsAdded::Before),
            Ok(1) => Ok(SumsAdded::Later),
            Ok(2) => Ok(SumsAdded::First),
            Ok(other) => Err(StoreError::Garbled { reason: format!("the number {other}") }),
            Err(error) => Err(StoreError::Garbled { reason: error.to_string() }),
        }
    }

    /// Gives a reader the answer to a question, and returns it.
    ///
    /// # Errors
    /// If Redis does not answer as expected, or the answer is too large.
    pub async fn ask<R: SumsReader>(
        &self,
        question: &SumsQuestion,
        reader: R,
    ) -> Result<R, SumsError> {
        self.answers.read(&self.link, question, reader).await
    }

    /// Removes a caller from periods, and returns the number of its sums there.
    ///
    /// # Errors
    /// If Redis does not answer as expected; some may be removed.
    pub async fn erase(&self, periods: &[SumsPeriod], caller: &str) -> Result<u64, StoreError> {
        let removed: Vec<(SumsPeriod, u64)> =
            self.link.read(self.link.fields("HDEL", periods, caller)).await?;
        Ok(removed.into_iter().map(|(_, removed)| removed).sum())
    }

    async fn call(&self, batch: &SumsBatch) -> Result<Value, StoreError> {
        let mut keys = Keys::default();
        let key = |suffix: &str| self.link.key(batch.period, suffix);
        keys.place(key("b"));
        let mut additions = Vec::with_capacity(batch.entries.len());
        for entry in &batch.entries {
            let (what, first, second) = match (entry.table, batch.callers) {
                (SumsTable::Callers, CallersKept::All) => {
                    ("spill", shard(&entry.field), Some(spill(&entry.field)))
                }
                (SumsTable::Callers, CallersKept::Busiest) => {
                    ("fold", shard(&entry.field), Some(suffix(SumsTable::Others).to_owned()))
                }
                (SumsTable::Names, _) => ("set", suffix(entry.table).to_owned(), None),
                _ => ("add", suffix(entry.table).to_owned(), None),
            };
            let second = second.map_or(0, |suffix| keys.place(key(&suffix)));
            additions.push(Addition { what, key: keys.place(key(&first)), second, entry });
        }
        let link = self.link.link(batch.period)?;
        let command = |call: &str, code: &str| {
            let mut command = Cmd::new();
            command.arg(call).arg(code).arg(keys.all.len()).arg(&keys.all);
            command.arg(&self.sidecar).arg(batch.number).arg(batch.life.as_millis().to_string());
            command.arg(SHARD_CALLERS_MAX).arg(SHARD_CALLERS_KEPT);
            for Addition { what, key, second, entry } in &additions {
                command.arg(*what).arg(*key).arg(*second).arg(&entry.field).arg(&entry.sums);
            }
            command
        };
        let answer = match self.link.send(&link, &command("EVALSHA", self.script.get_hash())).await
        {
            Err(Refusal::UnknownCode) => self.link.send(&link, &command("EVAL", CODE)).await,
            answer => answer,
        };
        answer.map_err(Refusal::into_error)
    }
}
