//! Rate-limit servers under load, side by side: `cargo bench --bench load`.
//!
//! The machine may be busy, so the servers take turns, round by round, and the result is CPU time by the operating
//! system's accounting, as a ratio to the floor's in the same round.

// A benchmark's product is its output.
#![allow(clippy::print_stdout)]

mod flood;
mod floor;
mod gateway;
mod options;
mod servers;
#[path = "../support/mod.rs"]
mod support;
mod table;
mod workload;

use anyhow::{Context, Result, ensure};

use options::Options;
use servers::{Kind, Server};
use support::drive::Client;
use support::redis::State;
use support::usage::CpuTimes;
use support::{drive, usage};
use table::{RedisSample, Row, Sample};
use workload::Workload;

fn main() -> Result<()> {
    let options = Options::read();
    if options.serves_floor {
        return floor::serve();
    }
    drive::block_on(measure(&options))
}

async fn measure(options: &Options) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut servers = Server::start(folder.path(), options)?;
    let Options { requests, rounds, shape, .. } = options;
    println!(
        "{rounds} rounds of {requests} decisions, {} connections with {} in flight",
        shape.connections, shape.streams
    );
    if let Some(timeout) = options.flood {
        return flood::measure(&servers, timeout, options).await;
    }
    if let Some(envoy) = &options.envoy {
        for server in servers.iter().filter(|server| server.kind == Kind::Exact) {
            gateway::measure(envoy, server, options).await?;
        }
        return Ok(());
    }
    for workload in &options.workloads {
        let mut servers: Vec<&mut Server> =
            servers.iter_mut().filter(|server| server.knows(*workload)).collect();
        let rows = rows(*workload, &mut servers, options).await?;
        table::print(workload.name(), &rows, options.markdown);
    }
    Ok(())
}

/// The results of a workload's rounds. If the workload has a base, each run follows one of the base.
async fn rows(asked: Workload, servers: &mut [&mut Server], options: &Options) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    let mut states = Vec::new();
    for server in &mut *servers {
        prepare(asked, server).await.with_context(|| server.name.clone())?;
        states.push(server.redis_state()?);
        rows.push(Row { name: server.name.clone(), ..Row::default() });
    }
    // The first run of each server is a warm-up.
    for round in 0..=options.rounds {
        for (server, row) in servers.iter_mut().zip(&mut rows) {
            for workload in asked.base().into_iter().chain([asked]) {
                let sample = sample(workload, server, options, round).await;
                let sample = sample.with_context(|| format!("{}, {workload:?}", server.name))?;
                let samples = if workload == asked { &mut row.samples } else { &mut row.base };
                if 0 < round {
                    samples.push(sample);
                }
            }
        }
    }
    if asked == Workload::Zipf {
        for ((server, row), before) in servers.iter_mut().zip(&mut rows).zip(states) {
            row.redis_key_bytes = before.zip(server.redis_state()?).map(key_bytes);
        }
    }
    Ok(rows)
}

/// The growth of a Redis, for each new key.
fn key_bytes((before, after): (State, State)) -> f64 {
    let bytes = after.memory_bytes.saturating_sub(before.memory_bytes);
    bytes as f64 / after.keys.saturating_sub(before.keys) as f64
}

async fn prepare(workload: Workload, server: &Server) -> Result<()> {
    let mut client = Client::connect(&server.address).await?;
    for frame in workload.preparation() {
        client.ask(frame).await?;
    }
    Ok(())
}

/// One run of one server.
async fn sample(
    workload: Workload,
    server: &mut Server,
    options: &Options,
    round: usize,
) -> Result<Sample> {
    let of_server = (server.refusal(), server.api_key.as_str());
    let questions = workload.questions(options.requests, round, of_server);
    let remaining = remaining(server).await?;
    let before = Counts::of(server)?;
    let run = drive::run(&server.address, options.shape, options.requests, questions).await?;
    let after = Counts::of(server)?;
    if server.kind == Kind::Exact && workload == Workload::OneKey {
        // The second request for the remaining hits spends one too.
        let remaining_after = self::remaining(server).await?;
        let spent = remaining.zip(remaining_after).map(|(before, after)| before - after);
        let expected = u32::try_from(options.requests + 1)?;
        ensure!(spent == Some(expected), "{spent:?} hits were spent, not {expected}");
    }
    let requests = options.requests as f64;
    Ok(Sample {
        decisions_per_second: requests / run.duration.as_secs_f64(),
        latencies: run.latencies,
        cpu_us: after.cpu.since(&before.cpu).as_secs_f64() * 1e6 / requests,
        redis: before.redis.zip(after.redis).map(|(before, after)| RedisSample {
            cpu_us: after.0.since(&before.0).as_secs_f64() * 1e6 / requests,
            calls: (after.1.calls - before.1.calls) as f64 / requests,
        }),
        resident_kib: usage::resident_kib(server.process)?,
    })
}

/// The usage of a server and its Redis so far.
struct Counts {
    cpu: CpuTimes,
    redis: Option<(CpuTimes, State)>,
}

impl Counts {
    fn of(server: &mut Server) -> Result<Self> {
        let redis = match (server.redis_state()?, &server.redis) {
            (Some(state), Some(redis)) => Some((CpuTimes::of(redis.process)?, state)),
            _ => None,
        };
        Ok(Self { cpu: CpuTimes::of(server.process)?, redis })
    }
}

impl Server {
    fn redis_state(&mut self) -> Result<Option<State>> {
        self.redis.as_mut().map(|redis| redis.state()).transpose()
    }
}

/// The remaining hits of the hot key's limit after one more request, if the server reports them.
async fn remaining(server: &Server) -> Result<Option<u32>> {
    let answer = Client::connect(&server.address).await?.ask(workload::hot()).await?;
    Ok(answer.statuses.first().map(|status| status.limit_remaining))
}
