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
    SumsTable, place,
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

/// Additions to one table, as the script reads them.
struct Group<'b> {
    what: &'static str,
    /// The positions of the table's key and of the second one's, from 1 as in Lua; 0: there is none.
    key: usize,
    second: usize,
    entries: &'b [SumsEntry],
}

/// The keys of a batch with its groups.
struct Plan<'b> {
    keys: Vec<String>,
    groups: Vec<Group<'b>>,
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

    /// The groups of a batch: additions to one table that follow each other.
    fn plan<'b>(&self, batch: &'b SumsBatch) -> Plan<'b> {
        let suffixes = |entry: &SumsEntry| match (entry.table, batch.callers) {
            (SumsTable::Callers, CallersKept::All) => {
                ("spill", shard(&entry.field), Some(spill(&entry.field)))
            }
            (SumsTable::Callers, CallersKept::Busiest) => {
                ("fold", shard(&entry.field), Some(suffix(SumsTable::Others).to_owned()))
            }
            (SumsTable::Names, _) => ("set", suffix(entry.table).to_owned(), None),
            _ => ("add", suffix(entry.table).to_owned(), None),
        };
        let together = |one: &SumsEntry, next: &SumsEntry| match (one.table, batch.callers) {
            (table, _) if table != next.table => false,
            (SumsTable::Callers, CallersKept::All) => place(&one.field) == place(&next.field),
            (SumsTable::Callers, CallersKept::Busiest) => shard(&one.field) == shard(&next.field),
            _ => true,
        };
        let mut keys = vec![self.link.key(batch.period, "b")];
        let mut positions = HashMap::new();
        let mut position = |suffix: String| {
            *positions.entry(suffix).or_insert_with_key(|suffix| {
                keys.push(self.link.key(batch.period, suffix));
                keys.len()
            })
        };
        let group = |entries: &'b [SumsEntry]| {
            let (what, first, second) = suffixes(entries.first()?);
            let (key, second) = (position(first), second.map_or(0, &mut position));
            Some(Group { what, key, second, entries })
        };
        let groups = batch.entries.chunk_by(together).filter_map(group).collect();
        Plan { keys, groups }
    }

    async fn call(&self, batch: &SumsBatch) -> Result<Value, StoreError> {
        let Plan { keys, groups } = self.plan(batch);
        let link = self.link.link(batch.period)?;
        let command = |call: &str, code: &str| {
            let mut command = Cmd::new();
            command.arg(call).arg(code).arg(keys.len()).arg(&keys);
            command.arg(&self.sidecar).arg(batch.number).arg(batch.life.as_millis().to_string());
            command.arg(SHARD_CALLERS_MAX).arg(SHARD_CALLERS_KEPT);
            for Group { what, key, second, entries } in &groups {
                command.arg(*what).arg(*key).arg(*second).arg(entries.len());
                for entry in *entries {
                    command.arg(&entry.field).arg(&entry.sums);
                }
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
