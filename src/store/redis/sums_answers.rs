//! Answers questions about sums from the tables of their periods.

use std::sync::Arc;

use ::redis::Cmd;
use tokio::sync::Semaphore;

use super::hash_reader::HashReader;
use super::link::Link;
use super::sums_keys::{SHARD_CALLERS_MAX, SHARDS, SPILL_SHARDS, suffix};
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
            CallersAsked::One(caller) => answer.read_one(periods, caller).await?,
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

    async fn read_callers(&mut self, periods: &[SumsPeriod]) -> Result<(), SumsError> {
        // Most periods of a long range may be empty, and reading their hashes would take long.
        let commands = periods.iter().map(|period| self.command("HLEN", *period, "b")).collect();
        let lens: Vec<(SumsPeriod, usize)> = self.link.read(commands).await?;
        let alive = lens.into_iter().filter(|(_, len)| *len != 0).map(|(period, _)| period);
        for (link, periods) in self.by_server(alive)? {
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

impl Hashes {
    fn push(&mut self, of: (SumsPeriod, SumsTable), key: String) {
        self.keys.push(key);
        self.tables.push(of);
    }
}
