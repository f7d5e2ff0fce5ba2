//! Answers questions about sums from the tables of their periods.

use std::collections::BTreeMap;
use std::sync::Arc;

use ::redis::Cmd;
use tokio::sync::Semaphore;

use super::hash_reader::HashReader;
use super::link::Link;
use super::sums_keys::{SHARD_CALLERS_MAX, SHARDS, SPILL_SHARDS, shard, spill, suffix};
use super::sums_link::SumsLink;
use crate::store::sums::{
    BytesRead, CallersAsked, SumsError, SumsPeriod, SumsQuestion, SumsReader, SumsTable,
};

/// Maximum number of questions about all callers at once. Each has a connection; more wait.
const READERS_MAX: usize = 2;

/// Answers questions.
#[derive(Debug)]
pub struct SumsAnswers {
    readers: Semaphore,
}

/// An answer while it is read.
struct Answer<'q, R> {
    link: &'q SumsLink,
    reader: R,
    bytes: BytesRead,
}

/// Servers with their periods.
type Servers = Vec<(Arc<Link>, Vec<SumsPeriod>)>;

/// Hashes on one server, with the tables that they are, or a part of.
#[derive(Default)]
struct Hashes {
    keys: Vec<String>,
    tables: Vec<(SumsPeriod, SumsTable)>,
}

impl SumsAnswers {
    /// No questions yet.
    pub fn new() -> Self {
        Self { readers: Semaphore::new(READERS_MAX) }
    }

    /// Gives a reader the answer to a question, and returns it.
    ///
    /// # Errors
    /// If Redis does not answer as expected, or the answer is too large.
    pub async fn read<R: SumsReader>(
        &self,
        link: &SumsLink,
        question: &SumsQuestion,
        reader: R,
    ) -> Result<R, SumsError> {
        let mut answer = Answer { link, reader, bytes: BytesRead::default() };
        let (names, periods) = (&question.names, &question.periods);
        for (_, fields) in answer.tables(names, SumsTable::Names).await? {
            for (name, meaning) in &fields {
                answer.bytes.count(name, meaning)?;
                answer.reader.name(name, meaning);
            }
        }
        match &question.callers {
            CallersAsked::Totals => answer.read_totals(periods).await?,
            CallersAsked::Named(callers) => match callers.as_slice() {
                [] => {}
                [caller] => answer.read_one(periods, caller).await?,
                callers => answer.read_named(periods, callers).await?,
            },
            CallersAsked::Each => {
                let _reading = self.readers.acquire().await;
                answer.read_callers(periods).await?;
            }
        }
        Ok(answer.reader)
    }
}

impl<R: SumsReader> Answer<'_, R> {
    /// A command about a table of a period.
    fn command(&self, name: &str, period: SumsPeriod, suffix: &str) -> (SumsPeriod, Cmd) {
        let mut command = Cmd::new();
        command.arg(name).arg(self.link.key(period, suffix));
        (period, command)
    }

    /// A small table of each period.
    async fn tables(
        &self,
        periods: &[SumsPeriod],
        table: SumsTable,
    ) -> Result<Vec<(SumsPeriod, Vec<(String, String)>)>, SumsError> {
        let command = |period: &SumsPeriod| self.command("HGETALL", *period, suffix(table));
        Ok(self.link.read(periods.iter().map(command).collect()).await?)
    }

    async fn read_totals(&mut self, periods: &[SumsPeriod]) -> Result<(), SumsError> {
        for (period, fields) in self.tables(periods, SumsTable::Totals).await? {
            for (field, sums) in &fields {
                self.read((period, SumsTable::Totals), field, sums)?;
            }
        }
        Ok(())
    }

    async fn read_one(&mut self, periods: &[SumsPeriod], caller: &str) -> Result<(), SumsError> {
        let commands = self.link.fields("HGET", periods, caller);
        let found: Vec<(SumsPeriod, Option<String>)> = self.link.read(commands).await?;
        for (period, sums) in found {
            if let Some(sums) = sums {
                self.read((period, SumsTable::Callers), caller, &sums)?;
            }
        }
        Ok(())
    }

    /// Reads callers with a command for each hash that may have some of them.
    async fn read_named(
        &mut self,
        periods: &[SumsPeriod],
        callers: &[String],
    ) -> Result<(), SumsError> {
        let (first, more) = (by_hash(callers, shard), by_hash(callers, spill));
        let alive = self.alive(periods).await?;
        for period in &alive {
            self.read_fields(*period, &first).await?;
        }
        // Most periods have no more callers than the first hashes hold.
        let exist = |period: &SumsPeriod| {
            let mut command = Cmd::new();
            command.arg("EXISTS");
            for suffix in more.keys() {
                command.arg(self.link.key(*period, suffix));
            }
            (*period, command)
        };
        let found: Vec<(SumsPeriod, u64)> =
            self.link.read(alive.iter().map(exist).collect()).await?;
        for (period, _) in found.into_iter().filter(|(_, found)| *found != 0) {
            self.read_fields(period, &more).await?;
        }
        Ok(())
    }

    /// Reads callers of a period from their hashes, which are named by their suffixes.
    async fn read_fields(
        &mut self,
        period: SumsPeriod,
        hashes: &BTreeMap<String, Vec<&str>>,
    ) -> Result<(), SumsError> {
        let command = |(suffix, callers): (&String, &Vec<&str>)| {
            let (period, mut command) = self.command("HMGET", period, suffix);
            command.arg(callers);
            (period, command)
        };
        let found: Vec<(SumsPeriod, Vec<Option<String>>)> =
            self.link.read(hashes.iter().map(command).collect()).await?;
        for (callers, (_, found)) in hashes.values().zip(found) {
            for (caller, sums) in callers.iter().zip(found) {
                if let Some(sums) = sums {
                    self.read((period, SumsTable::Callers), caller, &sums)?;
                }
            }
        }
        Ok(())
    }

    /// The periods that have sums. Most of a long range may have none, and reading their hashes would take long.
    async fn alive(&self, periods: &[SumsPeriod]) -> Result<Vec<SumsPeriod>, SumsError> {
        let commands = periods.iter().map(|period| self.command("HLEN", *period, "b")).collect();
        let lens: Vec<(SumsPeriod, usize)> = self.link.read(commands).await?;
        Ok(lens.into_iter().filter(|(_, len)| *len != 0).map(|(period, _)| period).collect())
    }

    async fn read_callers(&mut self, periods: &[SumsPeriod]) -> Result<(), SumsError> {
        let alive = self.alive(periods).await?;
        for (link, periods) in self.by_server(alive.into_iter())? {
            let mut server = HashReader::connect(link).await?;
            let mut hashes = Hashes::default();
            for period in &periods {
                for table in [SumsTable::Nameless, SumsTable::Others] {
                    hashes.push((*period, table), self.link.key(*period, suffix(table)));
                }
                for shard in 0..SHARDS {
                    let key = self.link.key(*period, &format!("c{shard}"));
                    hashes.push((*period, SumsTable::Callers), key);
                }
            }
            let lens = self.read_hashes(&mut server, &hashes).await?;
            let is_spilled = |period: &SumsPeriod| {
                let mut lens = hashes.tables.iter().zip(&lens);
                lens.any(|(table, len)| {
                    *table == (*period, SumsTable::Callers) && SHARD_CALLERS_MAX <= *len
                })
            };
            let mut spilled = Hashes::default();
            for period in periods.iter().filter(|period| is_spilled(period)) {
                for shard in 0..SPILL_SHARDS {
                    let key = self.link.key(*period, &format!("x{shard}"));
                    spilled.push((*period, SumsTable::Callers), key);
                }
            }
            self.read_hashes(&mut server, &spilled).await?;
        }
        Ok(())
    }

    /// The periods of each server.
    fn by_server(&self, periods: impl Iterator<Item = SumsPeriod>) -> Result<Servers, SumsError> {
        let mut servers = Servers::new();
        for period in periods {
            let link = self.link.link(period)?;
            match servers.iter_mut().find(|(known, _)| Arc::ptr_eq(known, &link)) {
                Some((_, periods)) => periods.push(period),
                None => servers.push((link, vec![period])),
            }
        }
        Ok(servers)
    }

    /// Reads hashes, and returns their lengths.
    async fn read_hashes(
        &mut self,
        server: &mut HashReader,
        hashes: &Hashes,
    ) -> Result<Vec<usize>, SumsError> {
        let mut lens = vec![0; hashes.keys.len()];
        let read = server.visit(&hashes.keys, |index, field, sums| {
            lens[index] += 1;
            self.read(hashes.tables[index], field, sums)
        });
        read.await?;
        Ok(lens)
    }

    fn read(
        &mut self,
        of: (SumsPeriod, SumsTable),
        field: &str,
        sums: &str,
    ) -> Result<(), SumsError> {
        self.bytes.count(field, sums)?;
        self.reader.sums(of, field, sums)
    }
}

/// Callers by the suffix of the hash that they are in.
fn by_hash(callers: &[String], suffix: impl Fn(&str) -> String) -> BTreeMap<String, Vec<&str>> {
    let mut hashes: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for caller in callers {
        hashes.entry(suffix(caller)).or_default().push(caller);
    }
    hashes
}

impl Hashes {
    fn push(&mut self, of: (SumsPeriod, SumsTable), key: String) {
        self.keys.push(key);
        self.tables.push(of);
    }
}
