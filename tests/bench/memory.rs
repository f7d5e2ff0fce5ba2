//! Memory of a key, in the process and in Redis: `cargo bench --bench memory`.
//!
//! The figures of the embedded store are the growth of the resident memory of a fresh process; those of Redis are the
//! growth of `used_memory`. Time is moved by hand, so that a window is filled at once.

// A benchmark's product is its output.
#![allow(clippy::print_stdout)]

#[path = "support/mod.rs"]
mod support;

use std::process::Command;
use std::time::{Duration, Instant};
use std::{env, process};

use anyhow::{Context, Result, ensure};
use tollgate::clock::{Clock, Timestamp};
use tollgate::engine::{AnyStore, Code, Descriptor, Engine, HitsSource, Request};
use tollgate::limit::Hits;

use support::{children, drive, engine, usage};

/// Number of keys for each embedded figure, and for each figure of Redis.
const EMBEDDED_KEYS: usize = 200_000;
const REDIS_KEYS: usize = 20_000;

/// The first of a month, so that no calendar period ends while time is moved.
const START: Timestamp = Timestamp::from_ms(1_704_067_200_000);

/// The argument of the process that measures one figure of the embedded store.
const CHILD: &str = "--embedded";

/// The counter of one key.
struct Case {
    name: &'static str,
    limit: &'static str,
    /// Number of requests for each key, and the time between two rounds.
    hits: usize,
    step: Duration,
}

/// A minute's window has sixty slots of a second.
const CASES: [Case; 7] = [
    Case { name: "sliding, one hit", limit: "1000/minute", hits: 1, step: Duration::ZERO },
    Case {
        name: "sliding, ten slots",
        limit: "1000/minute",
        hits: 10,
        step: Duration::from_secs(1),
    },
    Case {
        name: "sliding, every slot",
        limit: "1000/minute",
        hits: 60,
        step: Duration::from_secs(1),
    },
    Case {
        name: "fixed window",
        limit: "{ rate: 1000/day, algorithm: fixed_window }",
        hits: 1,
        step: Duration::ZERO,
    },
    Case {
        name: "token bucket",
        limit: "{ rate: 1000/day, algorithm: token_bucket }",
        hits: 1,
        step: Duration::ZERO,
    },
    Case { name: "calendar", limit: "1000/month", hits: 1, step: Duration::ZERO },
    Case { name: "total", limit: "1000/total", hits: 1, step: Duration::ZERO },
];

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().collect();
    if let Some(at) = arguments.iter().position(|argument| argument == CHILD) {
        let name = arguments.get(at + 1).context("which case?")?;
        let case = CASES.iter().find(|case| case.name == name).context("no such case")?;
        println!("{}", embedded_key_bytes(case)?);
        return Ok(());
    }
    println!("{:24} {:>14} {:>14}", "bytes a key", "embedded", "Redis");
    for case in &CASES {
        let output = Command::new(env::current_exe()?).args([CHILD, case.name]).output()?;
        let embedded = String::from_utf8(output.stdout)?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let redis = drive::block_on(redis_key_bytes(case))?;
        println!("{:24} {:>14} {redis:>14}", case.name, embedded.trim());
    }
    println!();
    drive::block_on(million_keys())
}

impl Case {
    fn policy(&self) -> String {
        format!("{{domain: bench, descriptors: [{{key: user, limits: [{}]}}]}}", self.limit)
    }

    /// Sends the requests for each key.
    async fn ask(&self, engine: &Engine, clock: &Clock, keys: usize) -> Result<()> {
        for _ in 0..self.hits {
            for key in 0..keys {
                ask(engine, &name(key)).await?;
            }
            clock.advance(self.step);
        }
        Ok(())
    }
}

/// A key of twelve characters, a usual length of callers' names.
fn name(key: usize) -> String {
    format!("user-{key:07}")
}

async fn ask(engine: &Engine, user: &str) -> Result<()> {
    let entries = vec![("user", user)];
    let descriptor =
        Descriptor { entries, hits: Hits::Spend(1), hits_source: HitsSource::Request, limit: None };
    let request = Request::try_new("bench", vec![descriptor])?;
    let snapshot = engine.snapshot();
    let verdict = engine.check(&snapshot, &request).await;
    ensure!(verdict.code() == Code::Ok, "{user} should pass: {verdict:?}");
    Ok(())
}

fn embedded_key_bytes(case: &Case) -> Result<u64> {
    let clock = Clock::manual(START);
    let engine = engine::in_memory(&case.policy(), &clock, EMBEDDED_KEYS * 2)?;
    drive::block_on(ask(&engine, "first"))?;
    let before = usage::resident_kib(process::id())?;
    drive::block_on(case.ask(&engine, &clock, EMBEDDED_KEYS))?;
    let grown = usage::resident_kib(process::id())? - before;
    Ok(grown * 1024 / EMBEDDED_KEYS as u64)
}

async fn redis_key_bytes(case: &Case) -> Result<u64> {
    let folder = tempfile::tempdir()?;
    let socket = folder.path().join("redis.sock");
    let (_running, mut redis) = children::redis(&socket)?;
    let clock = Clock::manual(START);
    let engine = engine::on_redis(&case.policy(), &clock, &socket).await?;
    ask(&engine, "first").await?;
    let before = redis.state()?;
    case.ask(&engine, &clock, REDIS_KEYS).await?;
    let after = redis.state()?;
    let keys = after.keys - before.keys;
    ensure!(keys == REDIS_KEYS as u64, "{keys} keys came");
    Ok((after.memory_bytes - before.memory_bytes) / keys)
}

/// A million keys in an embedded store: the slowest decision while they arrive, while they expire, and in a store with
/// capacity for a tenth of them.
async fn million_keys() -> Result<()> {
    const KEYS: usize = 1_000_000;
    let policy = "{domain: bench, descriptors: [{key: user, limits: [1000/minute]}]}";
    println!(
        "{:44} {:>10} {:>10} {:>10} {:>9}",
        "a million keys", "mean µs", "max µs", "keys", "RSS MiB"
    );
    for (name, keys_max) in [("place for all", KEYS * 2), ("place for a tenth", KEYS / 10)] {
        let clock = Clock::manual(START);
        let engine = engine::in_memory(policy, &clock, keys_max)?;
        for (round, what) in ["they come", "they come again", "all have expired"].iter().enumerate()
        {
            if round == 2 {
                clock.advance(Duration::from_secs(300));
            }
            let (mut total, mut max) = (Duration::ZERO, Duration::ZERO);
            for key in 0..KEYS {
                let key = name_of_round(round, key);
                let start = Instant::now();
                ask(&engine, &key).await?;
                let elapsed = start.elapsed();
                total += elapsed;
                max = max.max(elapsed);
            }
            let AnyStore::Memory(memory) = engine.store() else { continue };
            println!(
                "{:44} {:>10.2} {:>10.0} {:>10} {:>9.1}",
                format!("{name}: {what}"),
                total.as_secs_f64() * 1e6 / KEYS as f64,
                max.as_secs_f64() * 1e6,
                memory.keys(),
                usage::resident_kib(process::id())? as f64 / 1024.0,
            );
        }
    }
    Ok(())
}

/// The same keys in the first two rounds; then others, so that the first are removed only when they expire.
fn name_of_round(round: usize, key: usize) -> String {
    if round < 2 { name(key) } else { format!("other-{key:07}") }
}
