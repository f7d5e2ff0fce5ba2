//! What stored usage costs: memory with a million callers, the size of 90 days of 10,000 callers, and the time of queries over
//! them: `cargo bench --bench usage`.

// A benchmark's product is its output.
#![allow(clippy::print_stdout)]

#[path = "support/mod.rs"]
mod support;

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{env, fs, process};

use anyhow::{Context, Result, anyhow};
use tollgate::clock::{Clock, Timestamp};
use tollgate::engine::{Descriptor, Engine, HitsSource, Request, Sink};
use tollgate::limit::Hits;
use tollgate::metrics::DataFileMetrics;
use tollgate::store::redis::{Redis, RedisSettings};
use tollgate::store::{FileSums, Health, SumsStore};
use tollgate::usage::{
    Dimension, Granularity, Outbox, Rank, Retention, StoredGroups, UsageMemory, UsageQuery, View,
};

use support::{children, drive, engine, usage};

const POLICY: &str = "
domain: bench
tiers: [free, premium, enterprise]
caller: { key: user, tier: { key: tier } }
descriptors: [{ key: user, limits: [{ name: daily, rate: 1000/day }] }]
";

const TIERS: [&str; 3] = ["free", "premium", "enterprise"];
const RETENTION: Retention = Retention { minute_days: 2, hour_days: 90, day_days: 730 };

/// The first of January 2024.
const START: Timestamp = Timestamp::from_ms(1_704_067_200_000);
const DAY: Duration = Duration::from_secs(24 * 3_600);

const MANY_CALLERS: usize = 1_000_000;
const CALLERS: usize = 10_000;
const DAYS: usize = 90;

/// Few counters, so that the memory is that of usage.
const COUNTERS_MAX: usize = 10_000;

/// Requests between two batches, as of a busy second.
const SECOND: usize = 20_000;

/// A prime, which no number of callers is a multiple of.
const STEP: usize = 618_041;

/// Each query is asked so often; the median is shown.
const ROUNDS: usize = 7;

const FILE: &str = "usage.redb";

/// The argument of the process that measures memory, with what it counts.
const CHILD: &str = "--memory";

/// A process that counts usage and stores it.
struct Sidecar {
    engine: Engine,
    sink: Arc<Sink>,
    memory: UsageMemory,
    outbox: Outbox,
    sums: SumsStore,
    clock: Clock,
}

impl Sidecar {
    fn new(sums: SumsStore) -> Result<Self> {
        let clock = Clock::manual(START);
        let (engine, sink) = engine::recording(POLICY, &clock, COUNTERS_MAX)?;
        let outbox = Outbox::new(RETENTION, START);
        Ok(Self { engine, sink, memory: UsageMemory::new(START), outbox, sums, clock })
    }

    /// A request of each caller.
    async fn ask(&mut self, callers: usize) -> Result<()> {
        for count in 0..callers {
            // Each once, in an order in which names differ from their neighbours.
            ask(&self.engine, count * STEP % callers).await?;
            if count % 1_000 == 999 {
                self.collect();
            }
            if count % SECOND == SECOND - 1 {
                self.send().await?;
            }
        }
        self.collect();
        self.send().await
    }

    fn collect(&mut self) {
        let (memory, now) = (&self.memory, self.clock.now().timestamp());
        self.sink.drain(&mut Vec::new(), &mut |records| memory.add(records, now));
    }

    async fn send(&mut self) -> Result<()> {
        let now = self.clock.now().timestamp();
        self.outbox.add(self.memory.collect(now), now);
        while let Some(batch) = self.outbox.next(self.clock.now().timestamp()) {
            let added = self.sums.add(&batch).await?;
            self.outbox.confirm(added);
        }
        Ok(())
    }

    /// The median time of a query over all days, and the number of its groups.
    async fn time(&self, query: UsageQuery) -> Result<(Duration, usize)> {
        let query = Arc::new(query);
        let now = self.clock.now().timestamp();
        let mut times = Vec::new();
        let mut groups = 0;
        for _ in 0..ROUNDS {
            let start = Instant::now();
            let question = query.question(RETENTION, now);
            let answer = self.sums.ask(&question, StoredGroups::new(query.clone())).await;
            let answer = answer.map_err(|error| anyhow!("{error}"))?;
            groups = answer.page(query.stored_from(RETENTION, now)).groups.len();
            times.push(start.elapsed());
        }
        times.sort();
        Ok((times[ROUNDS / 2], groups))
    }
}

fn main() -> Result<()> {
    let mut arguments = env::args().skip_while(|argument| argument != CHILD).skip(1);
    if let Some(counts) = arguments.next() {
        let [resident, written, compacted] = drive::block_on(grown(counts == "usage"))?;
        println!("{resident} {written} {compacted}");
        return Ok(());
    }
    let [without, ..] = measured("nothing")?;
    let [with, written, compacted] = measured("usage")?;
    let mib = |bytes: u64| bytes as f64 / 1024.0 / 1024.0;
    println!("a million callers, a request each: resident memory without and with usage, MiB");
    println!("{:10.1} {:10.1} {:+10.1}", mib(without), mib(with), mib(with) - mib(without));
    let mb = |bytes: u64| bytes / 1_000_000;
    println!("their file: {} MB, {} MB after the next start", mb(written), mb(compacted));
    drive::block_on(in_file())?;
    drive::block_on(in_redis())
}

/// The memory that a fresh process has at its end, and the size of its file then and after the next start, in bytes.
fn measured(counts: &str) -> Result<[u64; 3]> {
    let output = Command::new(env::current_exe()?).args([CHILD, counts]).output()?;
    let text = String::from_utf8(output.stdout)?;
    let numbers: Result<Vec<u64>, _> = text.split_whitespace().map(str::parse).collect();
    let numbers = numbers.ok().and_then(|numbers| numbers.try_into().ok());
    numbers.with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())
}

async fn grown(has_usage: bool) -> Result<[u64; 3]> {
    let folder = tempfile::tempdir()?;
    if !has_usage {
        let clock = Clock::manual(START);
        let engine = engine::in_memory(POLICY, &clock, COUNTERS_MAX)?;
        for caller in 0..MANY_CALLERS {
            ask(&engine, caller).await?;
        }
        return Ok([usage::resident_kib(process::id())? * 1024, 0, 0]);
    }
    let mut sidecar = Sidecar::new(file(folder.path()))?;
    sidecar.ask(MANY_CALLERS).await?;
    let resident = usage::resident_kib(process::id())? * 1024;
    drop(sidecar);
    let written = file_len(folder.path())?;
    drop(file(folder.path()));
    Ok([resident, written, file_len(folder.path())?])
}

fn file_len(folder: &Path) -> Result<u64> {
    Ok(fs::metadata(folder.join(FILE))?.len())
}

fn file(folder: &Path) -> SumsStore {
    let path = folder.join(FILE);
    SumsStore::File(FileSums::open(path, DataFileMetrics::default(), START))
}

async fn in_file() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let sidecar = filled(file(folder.path())).await?;
    println!("in a file: {} MB", file_len(folder.path())? / 1_000_000);
    queries(&sidecar).await
}

async fn in_redis() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let socket = folder.path().join("redis.sock");
    let (_running, mut state) = children::redis(&socket)?;
    let url = format!("unix://{}", socket.display());
    let settings = RedisSettings { deadline: DAY, ..RedisSettings::new(&url) };
    let (redis, connector) = Redis::try_new(&settings)?;
    tokio::task::spawn(connector.run(std::future::pending()));
    while redis.health() != Health::Healthy {
        // There is no notification; the connection is up within milliseconds.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let sidecar = filled(SumsStore::Redis(redis.sums())).await?;
    println!("in Redis: {} MB", state.state()?.memory_bytes / 1_000_000);
    queries(&sidecar).await
}

/// Ninety days of ten thousand callers.
async fn filled(sums: SumsStore) -> Result<Sidecar> {
    let mut sidecar = Sidecar::new(sums)?;
    let start = Instant::now();
    for _ in 0..DAYS {
        sidecar.ask(CALLERS).await?;
        sidecar.clock.advance(DAY);
    }
    println!("{CALLERS} callers, {DAYS} days: stored in {:.1} s", start.elapsed().as_secs_f64());
    Ok(sidecar)
}

async fn queries(sidecar: &Sidecar) -> Result<()> {
    let by = |group_by: &[Dimension], by_time: bool| UsageQuery {
        by_time,
        group_by: group_by.to_vec(),
        ..UsageQuery::since(View::Requests, Granularity::Day, START)
    };
    let one = UsageQuery {
        view: View::Limits,
        filters: vec![(Dimension::Caller, "customer-4711".to_owned())],
        ..by(&[Dimension::Limit], true)
    };
    let top = UsageQuery {
        rank: Rank::Requests,
        named_only: true,
        range: 0..100,
        ..by(&[Dimension::Domain, Dimension::Caller], false)
    };
    let report = by(&[Dimension::Tier, Dimension::Caller], false);
    for (name, query) in [
        ("each day by tier", by(&[Dimension::Tier], true)),
        ("each day of one caller by limit", one),
        ("the 100 callers with the most requests", top),
        ("all callers by tier", report),
    ] {
        let (time, groups) = sidecar.time(query).await?;
        println!("{name:44} {groups:>7} groups {:>8.1} ms", time.as_secs_f64() * 1e3);
    }
    Ok(())
}

async fn ask(engine: &Engine, caller: usize) -> Result<()> {
    let (name, tier) = (format!("customer-{caller}"), TIERS[caller % TIERS.len()]);
    let entries = vec![("user", name.as_str()), ("tier", tier)];
    let hits = Hits::Spend(1);
    let descriptor = Descriptor { entries, hits, hits_source: HitsSource::Request, limit: None };
    let request = Request::try_new("bench", vec![descriptor])?;
    let snapshot = engine.snapshot();
    engine.check(&snapshot, &request).await;
    Ok(())
}
