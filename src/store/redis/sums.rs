//! Sums in Redis: `sums.lua` adds a batch in one step; questions read the tables of their periods.
//!
//! In a cluster all keys of a period have one slot, and the number of a batch is kept there too. So a batch whose answer
//! was lost is sent again and added once. Callers are spread over many small hashes, which Redis packs.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use ::redis::{Cmd, FromRedisValue, ParsingError, Script, Value};
use crc::{CRC_32_ISCSI, Crc};
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt, TryStreamExt, stream};
use tokio::time;

use super::fault;
use super::link::Link;
use super::route::Route;
use crate::store::StoreError;
use crate::store::sums::{
    ANSWER_BYTES_MAX, CallersAsked, CallersKept, SumsAdded, SumsAnswer, SumsBatch, SumsEntry,
    SumsError, SumsPeriod, SumsQuestion, SumsTable,
};

/// The prefix of all keys, with the version of their format.
const PREFIX: &str = "tgu1";

/// Timeout of a call; no request waits for it.
const PATIENCE: Duration = Duration::from_secs(2);

/// Number of hashes for the callers of a period, and maximum number of callers in each: together at least 10,240
/// callers before the first one is full. If only the busiest are kept, a full hash keeps this many.
const SHARDS: u32 = 64;
const SHARD_CALLERS_MAX: usize = 240;
const SHARD_CALLERS_KEPT: usize = 160;

/// Number of hashes for more callers, if all are kept: a million callers fill them up to the size that Redis packs.
const SPILL_SHARDS: u32 = 4_096;

/// Maximum number of commands of a question in flight.
const COMMANDS_MAX: usize = 64;

/// Number of hashes that are read before their bytes are counted.
const HASHES_MAX: usize = 1_024;

/// Random bytes in the name of a sidecar.
const NAME_LEN: usize = 8;

const CODE: &str = include_str!("sums.lua");

const CRC: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);

/// Sums in Redis.
#[derive(Debug)]
pub struct RedisSums {
    route: Route,
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
        Self { route, sidecar, script: Script::new(CODE) }
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

    /// Answers a question.
    ///
    /// # Errors
    /// If Redis does not answer as expected, or the answer is too large.
    pub async fn ask(&self, question: &SumsQuestion) -> Result<SumsAnswer, SumsError> {
        let mut bytes = 0;
        let names = self.read_all(&question.names, SumsTable::Names, &mut bytes).await?;
        let names = names.into_iter().flat_map(|(_, entries)| entries);
        let names = names.map(|entry| (entry.field, entry.sums)).collect();
        let periods = &question.periods;
        let periods = match &question.callers {
            CallersAsked::Totals => self.read_all(periods, SumsTable::Totals, &mut bytes).await?,
            CallersAsked::One(caller) => self.read_one(periods, caller).await?,
            CallersAsked::Each => self.read_callers(periods, &mut bytes).await?,
        };
        Ok(SumsAnswer { periods, names })
    }

    /// Removes a caller from periods, and returns the number of its sums there.
    ///
    /// # Errors
    /// If Redis does not answer as expected; some may be removed.
    pub async fn erase(&self, periods: &[SumsPeriod], caller: &str) -> Result<u64, StoreError> {
        let removed: Vec<(SumsPeriod, u64)> =
            self.read(self.fields("HDEL", periods, caller)).await?;
        Ok(removed.into_iter().map(|(_, removed)| removed).sum())
    }

    async fn call(&self, batch: &SumsBatch) -> Result<Value, StoreError> {
        let mut keys = Keys::default();
        let key = |suffix: &str| self.key(batch.period, suffix);
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
        let link = self.link(batch.period)?;
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
        let answer = match self.send(&link, &command("EVALSHA", self.script.get_hash())).await {
            Err(Refusal::UnknownCode) => self.send(&link, &command("EVAL", CODE)).await,
            answer => answer,
        };
        answer.map_err(Refusal::into_error)
    }

    /// A table of each period that has it.
    async fn read_all(
        &self,
        periods: &[SumsPeriod],
        table: SumsTable,
        bytes: &mut usize,
    ) -> Result<Vec<(SumsPeriod, Vec<SumsEntry>)>, SumsError> {
        let hashes = periods.iter().map(|period| (*period, self.key(*period, suffix(table))));
        let found = self.hashes(hashes, bytes).await?;
        let entries = |fields: Vec<(String, String)>| {
            fields.into_iter().map(|(field, sums)| SumsEntry { table, field, sums }).collect()
        };
        Ok(found.into_iter().map(|(period, fields)| (period, entries(fields))).collect())
    }

    async fn read_one(
        &self,
        periods: &[SumsPeriod],
        caller: &str,
    ) -> Result<Vec<(SumsPeriod, Vec<SumsEntry>)>, SumsError> {
        let found: Vec<(SumsPeriod, Option<String>)> =
            self.read(self.fields("HGET", periods, caller)).await?;
        let entry = |(period, sums): (SumsPeriod, Option<String>)| {
            let field = caller.to_owned();
            Some((period, vec![SumsEntry { table: SumsTable::Callers, field, sums: sums? }]))
        };
        Ok(found.into_iter().filter_map(entry).collect())
    }

    async fn read_callers(
        &self,
        periods: &[SumsPeriod],
        bytes: &mut usize,
    ) -> Result<Vec<(SumsPeriod, Vec<SumsEntry>)>, SumsError> {
        let mut all = self.read_all(periods, SumsTable::Nameless, bytes).await?;
        all.extend(self.read_all(periods, SumsTable::Others, bytes).await?);
        let of = |period: SumsPeriod, letter: char, shards: u32| {
            (0..shards).map(move |shard| (period, self.key(period, &format!("{letter}{shard}"))))
        };
        // Most periods of a long range are empty, and reading their shards would take long.
        let alive = self.read_alive(periods).await?;
        let mut spilled = Vec::new();
        let shards = alive.iter().flat_map(|period| of(*period, 'c', SHARDS));
        for (period, fields) in self.hashes(shards, bytes).await? {
            if SHARD_CALLERS_MAX <= fields.len() && !spilled.contains(&period) {
                spilled.push(period);
            }
            all.push((period, callers(fields)));
        }
        let shards = spilled.iter().flat_map(|period| of(*period, 'x', SPILL_SHARDS));
        let found = self.hashes(shards, bytes).await?;
        all.extend(found.into_iter().map(|(period, fields)| (period, callers(fields))));
        Ok(all)
    }

    /// The periods with a batch.
    async fn read_alive(&self, periods: &[SumsPeriod]) -> Result<Vec<SumsPeriod>, SumsError> {
        let command = |period: &SumsPeriod| {
            let mut command = Cmd::new();
            command.arg("HLEN").arg(self.key(*period, "b"));
            (*period, command)
        };
        let lens: Vec<(SumsPeriod, usize)> =
            self.read(periods.iter().map(command).collect()).await?;
        let alive = lens.into_iter().filter(|(_, len)| *len != 0);
        Ok(alive.map(|(period, _)| period).collect())
    }

    /// The fields of the hashes that are not empty.
    async fn hashes(
        &self,
        hashes: impl Iterator<Item = (SumsPeriod, String)>,
        bytes: &mut usize,
    ) -> Result<Vec<(SumsPeriod, Vec<(String, String)>)>, SumsError> {
        let command = |(period, key): (SumsPeriod, String)| {
            let mut command = Cmd::new();
            command.arg("HGETALL").arg(key);
            (period, command)
        };
        let commands: Vec<_> = hashes.map(command).collect();
        let mut found = Vec::new();
        for commands in commands.chunks(HASHES_MAX) {
            let hashes: Vec<(SumsPeriod, Vec<(String, String)>)> =
                self.read(commands.to_vec()).await?;
            for (period, fields) in hashes {
                let lens = fields.iter().map(|(field, sums)| field.len() + sums.len());
                *bytes += lens.sum::<usize>();
                if !fields.is_empty() {
                    found.push((period, fields));
                }
            }
            if ANSWER_BYTES_MAX < *bytes {
                return Err(SumsError::TooMany);
            }
        }
        Ok(found)
    }

    /// The answers of Redis to commands, each for a period.
    async fn read<T: FromRedisValue + Send>(
        &self,
        commands: Vec<(SumsPeriod, Cmd)>,
    ) -> Result<Vec<(SumsPeriod, T)>, StoreError> {
        let calls = commands.into_iter().map(|(period, command)| self.ask_one(period, command));
        let calls: Vec<_> = calls.collect();
        stream::iter(calls).buffered(COMMANDS_MAX).try_collect().await
    }

    fn ask_one<T: FromRedisValue + Send>(
        &self,
        period: SumsPeriod,
        command: Cmd,
    ) -> BoxFuture<'_, Result<(SumsPeriod, T), StoreError>> {
        let call = async move {
            let link = self.link(period)?;
            let answer = async { self.send(&link, &command).await.map_err(Refusal::into_error) };
            let answer = in_time(answer).await?;
            let garbled = |error: ParsingError| StoreError::Garbled { reason: error.to_string() };
            Ok((period, T::from_redis_value(answer).map_err(garbled)?))
        };
        call.boxed()
    }

    /// A command on a caller's field in each hash that may have it.
    fn fields(&self, name: &str, periods: &[SumsPeriod], caller: &str) -> Vec<(SumsPeriod, Cmd)> {
        let places = periods.iter().flat_map(|period| {
            [shard(caller), spill(caller)].map(|suffix| (*period, self.key(*period, &suffix)))
        });
        let command = |(period, key): (SumsPeriod, String)| {
            let mut command = Cmd::new();
            command.arg(name).arg(key).arg(caller);
            (period, command)
        };
        places.map(command).collect()
    }

    /// The key of a table. Its period is the hash tag.
    fn key(&self, period: SumsPeriod, suffix: &str) -> String {
        self.route.key(&format!("{PREFIX}{{{period}}}{suffix}"))
    }

    fn link(&self, period: SumsPeriod) -> Result<Arc<Link>, StoreError> {
        let link = self.route.link(self.route.slot(&self.key(period, "")));
        link.ok_or_else(|| StoreError::unexplored("the slot of usage"))
    }

    async fn send(&self, link: &Link, command: &Cmd) -> Result<Value, Refusal> {
        let answer = link.send(command).await.map_err(Refusal::Error)?;
        answer.extract_error().map_err(|error| {
            if fault::is_unknown_code(&error) {
                return Refusal::UnknownCode;
            }
            if fault::is_of_slot(&error) {
                link.doubt_nodes();
            }
            Refusal::Error(fault::refused(&error))
        })
    }
}

/// The reason that a command was not sent.
enum Refusal {
    UnknownCode,
    Error(StoreError),
}

impl Refusal {
    fn into_error(self) -> StoreError {
        match self {
            Self::UnknownCode => StoreError::Refused("it forgets the code at once".to_owned()),
            Self::Error(error) => error,
        }
    }
}

/// The suffix of the key of a table; keys of callers have a number after it.
fn suffix(table: SumsTable) -> &'static str {
    match table {
        SumsTable::Names => "s",
        SumsTable::Totals => "t",
        SumsTable::Nameless => "n",
        SumsTable::Others => "o",
        SumsTable::Callers => "c",
    }
}

fn shard(caller: &str) -> String {
    format!("c{}", CRC.checksum(caller.as_bytes()) % SHARDS)
}

fn spill(caller: &str) -> String {
    format!("x{}", CRC.checksum(caller.as_bytes()) / SHARDS % SPILL_SHARDS)
}

fn callers(fields: Vec<(String, String)>) -> Vec<SumsEntry> {
    let entry = |(field, sums)| SumsEntry { table: SumsTable::Callers, field, sums };
    fields.into_iter().map(entry).collect()
}

async fn in_time<T>(call: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    let late = |_| StoreError::Late { deadline: PATIENCE };
    time::timeout(PATIENCE, call).await.map_err(late).flatten()
}
